/* lmdb_fault.h - makes the n-th call that the code under test makes to LMDB or to the disk fail.
 *
 * Role:       The linker routes the calls here (-Wl,--wrap, see LMDB_FAULT_WRAPS in
 *             tests/lib/local.mk); the code under test is linked unchanged. LMDB's own system calls
 *             are not reached: it is a shared library.
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

/* The n-th wrapped call from now on (1: the next) returns rc; a system call fails with it as errno.
 * n = 0: none fails. Starts a new trace. */
void lmdb_fault_arm(uint32_t n, int rc, enum lmdb_fault_when when);

/* Ends it; whether the call came. */
bool lmdb_fault_disarm(void);

/* The name of the call that failed last; "" for none. */
const char *lmdb_fault_call(void);

/* The writing system calls (pwrite, fsync, rename, unlink, mkdir) since the last arm, each followed
 * by a space. */
const char *lmdb_fault_trace(void);

/* The next pwrite() writes only half of what it is given. */
void lmdb_fault_short_write(void);

/* getrandom() gives zeros `count` times, then the kernel's bytes. */
void lmdb_fault_random_zeros(uint32_t count);

#endif
