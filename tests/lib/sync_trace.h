/* sync_trace.h - what a power cut would leave: a model of page cache and directories.
 *
 * Role:       The program that is linked with it defines the writing and flushing calls itself, so
 *             those of liblmdb come by here too. A page that is written is dirty until its file is
 *             flushed or the write came through a descriptor with O_DSYNC; a name that is made is
 *             not there after a power cut until its directory is flushed. Writes through a mapping
 *             are not seen: LMDB has them in its lock file only, which nothing depends on.
 * Thread:     one.
 */

#ifndef TL_TESTS_SYNC_TRACE_H
#define TL_TESTS_SYNC_TRACE_H

#include <stdint.h>

/* What is not on the disk of the files and names seen until now, lock files apart: "page N of PATH"
 * or "the name PATH". NULL: all is. */
const char *sync_trace_unsynced(void);

/* The first order that is wrong in itself: a meta page of a data.mdb written before other pages of
 * it were flushed, a file renamed before it was. NULL: none. */
const char *sync_trace_violation(void);

/* Calls on data.mdb files since the last clear, equal ones in a row as one: w pages written, f
 * flushed, m a meta page written, M the same through O_DSYNC. */
const char *sync_trace_calls(void);
void sync_trace_clear(void);

/* As a process leaves it whose flush of this page has failed: in the cache it is new and clean, on
 * the disk it is old. A flush does nothing about it. */
void sync_trace_lose_page(const char *path, uint32_t page);

/* As a process leaves it that was killed before it had flushed the directory. */
void sync_trace_lose_name(const char *path);

/* The next sync_file_range() says EIO: write-back of a page of the file has failed before, and no
 * later flush through this descriptor says so. */
void sync_trace_fail_writeout(void);

/* From now on LMDB environments are opened with these flags too: a planted bug. */
void sync_trace_plant(unsigned env_flags);

#endif
