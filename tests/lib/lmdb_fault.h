/* lmdb_fault.h - makes the n-th call of the code under test into LMDB fail.
 *
 * The production objects are linked unchanged; LMDB_FAULT_WRAPS (tests/lib/local.mk) routes their
 * calls of the listed mdb_* functions here. One thread.
 */

#ifndef TL_TESTS_LMDB_FAULT_H
#define TL_TESTS_LMDB_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum lmdb_fault_when {
    LMDB_FAULT_WITHOUT_EFFECT,
    /* A failing mdb_txn_commit() has reached the disk all the same. */
    LMDB_FAULT_COMMIT_TAKES_EFFECT,
};

/* The n-th call from now on (1: the next) returns `rc`; the others go through. */
void lmdb_fault_arm(uint32_t n, int rc, enum lmdb_fault_when when);

/* Calls go through again. Returns whether the fault has fired. */
bool lmdb_fault_disarm(void);

/* From now on every file system has no free block, as far as statvfs() says; or what it really has
 * again. */
void lmdb_fault_fill_file_systems(bool are_full);

/* The function that was made to fail by the last fault; "" for none. */
const char *lmdb_fault_call(void);

#endif
