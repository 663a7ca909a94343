/* lmdb_fault.h - makes the n-th call that the code under test makes to LMDB or to the disk fail.
 *
 * Role:       The linker routes the calls here (-Wl,--wrap, see LMDB_FAULT_WRAPS in
 *             src/store/memtable.mk); the code under test is linked unchanged.
 * Thread:     one.
 */

#ifndef TL_TESTS_LMDB_FAULT_H
#define TL_TESTS_LMDB_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum lmdb_fault_when {
    LMDB_FAULT_WITHOUT_EFFECT,      /* the call is not made */
    LMDB_FAULT_COMMIT_TAKES_EFFECT, /* the same, but a commit is made and then reported as failed */
};

/* The n-th wrapped call from now on (1: the next) returns rc. */
void lmdb_fault_arm(uint32_t n, int rc, enum lmdb_fault_when when);

/* Ends it; whether the call came. */
bool lmdb_fault_disarm(void);

#endif
