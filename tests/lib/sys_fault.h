/* sys_fault.h - makes the n-th system call of the code under test fail, and records their order.
 *
 * As lmdb_fault.h, for the calls in SYS_FAULT_WRAPS (tests/lib/local.mk). LMDB's own calls are not
 * reached: it is a shared library. One thread.
 */

#ifndef TL_TESTS_SYS_FAULT_H
#define TL_TESTS_SYS_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* The n-th call from now on (1: the next) fails with `error`, without effect. Starts a new trace.
 * n = 0: none fails. */
void sys_fault_arm(uint32_t n, int error);

/* From now on the first pwrite() writes only half of what it is given. Starts a new trace. */
void sys_fault_arm_short_write(void);

/* From now on getrandom() gives zeros `count` times, then the kernel's bytes. */
void sys_fault_random_zeros(uint32_t count);

/* From now on statfs() says that every file system is of this type (f_type); 0: of its own. */
void sys_fault_statfs_type(uint32_t type);

/* Calls go through again. Returns whether the fault has fired. */
bool sys_fault_disarm(void);

/* The function that was made to fail by the last fault; "" for none. */
const char *sys_fault_call(void);

/* The writing calls (pwrite, fsync, rename, mkdir, unlink) since the last arm, each followed by a
 * space. */
const char *sys_fault_trace(void);

#endif
