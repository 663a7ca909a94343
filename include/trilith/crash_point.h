/* crash_point.h - named places at which tests stop the process.
 *
 * Role:       CRASH_POINT(name) stands between two durable steps. Tests kill the process there, or
 *             cut a simulated disk off, and look at what the next start makes of it.
 *             docs/correctness.md lists the names. Compiled into every build, because what is
 *             tested should be what runs: one branch on a pointer, in paths that wait for a disk.
 * Thread:     any; the hook is set before threads start.
 */

#ifndef TL_CRASH_POINT_H
#define TL_CRASH_POINT_H

#include <stddef.h>

#include "trilith/assert.h"

/* NULL in production. Called with the name; it may not return. */
extern void (*crash_point_hook)(const char *name);

#define CRASH_POINT(name)                                                          \
    do {                                                                           \
        if (__builtin_expect(crash_point_hook != NULL, 0)) crash_point_hook(name); \
    } while (0)

#define CRASH_POINT_NAME_BYTES_MAX 64u

/* From now on SIGKILL ends the process when the point in `text` is reached: "name", or "name:n" for
 * the n-th time (from 1). trilithd --enable-verify calls it with the variable TL_CRASH_POINT.
 * false: not of that form. */
TL_MUST_CHECK _Bool crash_point_arm(const char *text);

#endif
