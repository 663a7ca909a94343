/* data_dir.h - the data directory of a node: lock, format mark, identity.
 *
 * Role:       DIR/lock (flock), DIR/identity (format, store id, address, checksum), DIR/log (log
 *             env), DIR/kv.<group>.<n> (tables), DIR/diverged and DIR/refused (marks).
 *             src/store/FORMAT.md 1.
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
 *                      flush means nothing (in memory, of other machines, overlay, FUSE), unless
 *                      `allow_any_fs`.
 * *out_fault carries the sentence for the user.
 */
TL_MUST_CHECK enum tl_err data_dir_open(const char *path, const char *address, bool allow_any_fs,
                                        struct data_dir **out_dir, struct tl_fault *out_fault);
/* Whether data_dir_open() would find an identity, or cannot be foretold to make one. */
bool data_dir_is_made(const char *path);
void data_dir_close(struct data_dir *dir); /* releases the lock; accepts NULL */

/* Opens an existing directory of any address to look at it: takes the lock, reads the identity,
 * writes nothing but its process id into the lock file.
 *
 * TL_ERR_NOT_FOUND     no such directory.
 * TL_ERR_FOREIGN       no directory, or one without an identity file: not ours, or never used.
 * TL_ERR_IN_USE, TL_ERR_NEWER_FORMAT, TL_ERR_CORRUPT, TL_ERR_IO  as data_dir_open().
 */
TL_MUST_CHECK enum tl_err data_dir_open_to_inspect(const char *path, struct data_dir **out_dir,
                                                   struct tl_fault *out_fault);

const struct store_id *data_dir_store_id(const struct data_dir *dir);
bool data_dir_is_new(const struct data_dir *dir); /* the identity was made by this open */
/* The number (statfs(2), f_type) of a file system of which it is not known whether a flush makes
 * data durable; 0: it is known, or it was not asked for (`allow_any_fs`). */
uint32_t data_dir_unknown_fs(const struct data_dir *dir);
const char *data_dir_path(const struct data_dir *dir);
const char *data_dir_address(const struct data_dir *dir);

/* Makes (when absent, durably) the sub-directory and writes its path to out_path.
 * name: "log", "kv.<group>.<n>". */
TL_MUST_CHECK enum tl_err data_dir_sub(const struct data_dir *dir, const char *name, char *out_path,
                                       size_t path_bytes, struct tl_fault *out_fault);

/* A mark that stays with the identity: what this directory holds of a group was found to differ
 * from what most other replicas hold, so no node serves clients from it any more. Durable on
 * return. */
TL_MUST_CHECK enum tl_err data_dir_mark_diverged(const struct data_dir *dir, raft_group group,
                                                 raft_index index, struct tl_fault *out_fault);
/* TL_ERR_NOT_FOUND: it is not marked. A mark that cannot be read is one: *out_index is 0 then.
 * TL_ERR_IO: nobody can say. */
TL_MUST_CHECK enum tl_err data_dir_diverged(const struct data_dir *dir, raft_group *out_group,
                                            raft_index *out_index, struct tl_fault *out_fault);

/* Another mark that stays with the identity: the cluster has refused this store, for the disk is an
 * old copy of itself. Durable on return. */
TL_MUST_CHECK enum tl_err data_dir_mark_refused(const struct data_dir *dir,
                                                struct tl_fault *out_fault);
/* TL_ERR_NOT_FOUND: it is not marked. TL_ERR_IO: nobody can say. */
TL_MUST_CHECK enum tl_err data_dir_refused(const struct data_dir *dir, struct tl_fault *out_fault);

/* A table's directory, kv.<group>.<number>. Which number is in use the log says
 * (log_group_info.table_number). */
struct data_dir_table {
    raft_group group;
    uint64_t number;
};

/* Writes its path to out_path. Makes nothing. */
TL_MUST_CHECK enum tl_err data_dir_table_path(const struct data_dir *dir,
                                              struct data_dir_table table, char *out_path,
                                              size_t path_bytes, struct tl_fault *out_fault);

/* data_dir_sub() of it. */
TL_MUST_CHECK enum tl_err data_dir_table_make(const struct data_dir *dir,
                                              struct data_dir_table table, char *out_path,
                                              size_t path_bytes, struct tl_fault *out_fault);

/* The tables whose directories are there, in no order: at most tables_max of them in out_tables,
 * and how many there are in *out_count. */
TL_MUST_CHECK enum tl_err data_dir_tables(const struct data_dir *dir,
                                          struct data_dir_table *out_tables, uint32_t tables_max,
                                          uint32_t *out_count, struct tl_fault *out_fault);

/* Deletes every table's directory but those of `tables`: what a crash left of an installed or a
 * replaced one. At start, before a table is opened. */
TL_MUST_CHECK enum tl_err data_dir_keep_tables(const struct data_dir *dir,
                                               const struct data_dir_table *tables,
                                               uint32_t tables_count, uint32_t *out_deleted_count,
                                               struct tl_fault *out_fault);

/* Free bytes of the file system, also when the directory was deleted. */
uint64_t data_dir_free_bytes(const struct data_dir *dir);

#endif
