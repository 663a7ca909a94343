/* data_dir.h - the data directory of a node: lock, format mark, identity.
 *
 * Role:       DIR/lock (flock), DIR/identity (format, store id, address, checksum), DIR/log (log
 *             env), DIR/kv.<group>.<n> (tables), DIR/diverged (a mark). src/store/FORMAT.md 1.
 * Thread:     the owner, before anything else runs.
 * Blocking:   creation waits for fsync of file and directory: an identity is durable before it is
 *             told.
 */

#ifndef TL_DATA_DIR_H
#define TL_DATA_DIR_H

#include "trilith/genesis.h"

#define DATA_DIR_FORMAT 1u

struct data_dir;

/* Creates (with parents) or opens, locks, and reads or makes the identity.
 *
 * address    of this node; a directory made under another address is refused.
 *
 * TL_ERR_IN_USE        another process holds the lock.
 * TL_ERR_FOREIGN       not empty and without our identity file, or of another address.
 * TL_ERR_NEWER_FORMAT  written by a newer version.
 * TL_ERR_CORRUPT       the identity fails its checksum.
 * TL_ERR_IO            the directory cannot be made, read or flushed; also on file systems where a
 *                      flush means nothing (tmpfs, NFS, overlay), unless `allow_any_fs`.
 * *out_fault carries the sentence for the user.
 */
TL_MUST_CHECK enum tl_err data_dir_open(const char *path, const char *address, bool allow_any_fs,
                                        struct data_dir **out_dir, struct tl_fault *out_fault);
void data_dir_close(struct data_dir *dir); /* releases the lock; accepts NULL */

const struct store_id *data_dir_store_id(const struct data_dir *dir);
bool data_dir_is_new(const struct data_dir *dir); /* the identity was made by this open */
const char *data_dir_path(const struct data_dir *dir);

/* Makes (when absent, durably) the sub-directory and writes its path to out_path.
 * name: "log", "kv.<group>.<n>". */
TL_MUST_CHECK enum tl_err data_dir_sub(const struct data_dir *dir, const char *name, char *out_path,
                                       size_t path_bytes, struct tl_fault *out_fault);

/* A mark that stays: what this directory holds of a group was found to differ from what most other
 * replicas hold, so no node serves clients from it any more. Durable on return. */
TL_MUST_CHECK enum tl_err data_dir_mark_diverged(const struct data_dir *dir, raft_group group,
                                                 raft_index index, struct tl_fault *out_fault);
/* TL_ERR_NOT_FOUND: it is not marked. A mark that cannot be read is one: *out_index is 0 then. */
TL_MUST_CHECK enum tl_err data_dir_diverged(const struct data_dir *dir, raft_group *out_group,
                                            raft_index *out_index);

/* Free bytes of the file system. */
uint64_t data_dir_free_bytes(const struct data_dir *dir);

#endif
