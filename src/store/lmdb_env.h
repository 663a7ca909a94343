/* lmdb_env.h - what the log env and the kv env share: checks before opening, and errors.
 *
 * Role:       LMDB 0.9 trusts its data file: meta pages have no checksum, and a file that lost its
 *             tail kills the process with SIGBUS at the first read there. So the file is looked at
 *             before LMDB maps it. Also
 *             the one translation of MDB_* codes.
 * Thread:     any; the file checks only while the env is not open in this process: closing any
 *             descriptor of the lock file would drop LMDB's locks.
 */

#ifndef TL_STORE_LMDB_ENV_H
#define TL_STORE_LMDB_ENV_H

#include <lmdb.h>

#include "trilith/buf.h"
#include "trilith/error.h"

/* What a failed LMDB call means. rc != MDB_SUCCESS. */
enum tl_err lmdb_env_error(int rc);

/* lmdb_env_error(), and *fault says which call failed on which directory or file; NULL allowed.
 * LMDB reports a short write, which is how most file systems say that they are full, as EIO: that
 * is TL_ERR_NO_SPACE when the file system has no free block. */
enum tl_err lmdb_env_fail(int rc, const char *call, const char *path, uint32_t group,
                          struct tl_fault *fault);

/* The map for an env that is to hold `map_bytes`: there is `headroom_bytes` above that, and above
 * the end of a data file that is longer already. */
size_t lmdb_env_map_bytes(const char *dir, size_t map_bytes, size_t headroom_bytes);

/* Looks at the meta pages of dir/data.mdb: magic, version, page size, key order, transaction ids
 * next to each other, roots inside the allocated pages and inside the file.
 *
 * out_exists  false: there is no file. An empty one is damage: LMDB would begin anew in it, but our
 *             files appear by a rename when they are complete.
 *
 * TL_ERR_CORRUPT, TL_ERR_NEWER_FORMAT, TL_ERR_IO with *out_fault.
 */
TL_MUST_CHECK enum tl_err lmdb_env_check_file(const char *dir, uint32_t group, bool *out_exists,
                                              struct tl_fault *out_fault);

/* Called before LMDB opens a file that lmdb_env_check_file() has found and that will be written to:
 * on return what can be read in it is on the disk, under its name. A process before this one may
 * have left it in the page cache alone: killed before a flush had returned, or ended because it had
 * failed. Nothing may be said or decided by that before this has succeeded. */
TL_MUST_CHECK enum tl_err lmdb_env_settle(const char *dir, uint32_t group,
                                          struct tl_fault *out_fault);

/* Called after opening, in a transaction: pages behind the end of the file must be on the free
 * list. (A commit does not write pages that it allocated and dropped again, so a sound file may be
 * a few pages short of its last page number; but a page in use may not be missing.) */
TL_MUST_CHECK enum tl_err lmdb_env_check_tail(MDB_txn *txn, const char *dir, uint32_t group,
                                              struct tl_fault *out_fault);

/* Called after a commit: the data file must still have a name. LMDB goes on in a file that was
 * deleted and reports success, but what is in it ends with the process. TL_ERR_IO when it was. */
TL_MUST_CHECK enum tl_err lmdb_env_check_named(MDB_env *env, const char *path, uint32_t group,
                                               struct tl_fault *out_fault);

/* Keeps a file that grows quickly from piling up dirty pages: every WRITEOUT_BYTES the kernel is
 * told to begin writing, and waited for with the portion before. No promise of durability; but an
 * error that it reports is not reported again by a later flush through the same descriptor (Linux,
 * file_fdatawait_range() advances the descriptor's place in the file's errors), so a file that
 * will be flushed is lost with it. 0 or an errno. */
#define WRITEOUT_BYTES (8u * 1024u * 1024u)
struct writeout {
    uint64_t bytes; /* since the last step */
};
TL_MUST_CHECK int writeout_step(struct writeout *writeout, int fd, uint64_t bytes);

/* Makes names created in `dir` durable. */
TL_MUST_CHECK enum tl_err lmdb_env_sync_dir(const char *dir, uint32_t group,
                                            struct tl_fault *out_fault);

#endif
