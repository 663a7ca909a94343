/* log_store_internal.h - what the files of the log store share.
 *
 * log_store.c open, checks at open, recover · log_store_file.c birth of the data file ·
 * log_store_record.c the small records · log_store_commit.c · log_store_install.c ·
 * log_store_read.c · log_store_verify.c
 *
 * Invariants, for every group:
 *   I1  the log holds exactly the indexes base.index + 1 ... last_index;
 *   I2  hard_state.commit <= last_index and hard_state.term >= last_term;
 *   I3  conf_index <= last_index; confs_count is 0 exactly if conf_index is;
 *   I4  the pages of all groups add up to pages_count;
 *   I5  `durable` changes only after a commit has returned success.
 */

#ifndef TL_STORE_LOG_STORE_INTERNAL_H
#define TL_STORE_LOG_STORE_INTERNAL_H

#include <limits.h>
#include <lmdb.h>
#include <stdatomic.h>

#include "trilith/log_store.h"

#define LOG_STORE_FORMAT 1u
#define LOG_STORE_NAME_HARD_STATE "hard_state"
#define LOG_STORE_NAME_BASE "base"
#define LOG_STORE_NAME_CONF "conf"
#define LOG_STORE_NAME_ACTIVE "active"
#define LOG_STORE_NAME_FORMAT "format"
#define LOG_STORE_NAME_LOG_PREFIX "log."
#define LOG_STORE_DBS_MAX (4u + LOG_STORE_GROUPS_MAX)
#define LOG_STORE_READERS_MAX 64u
#define LOG_STORE_ENV_FLAGS ((unsigned)MDB_NOTLS)
#define LOG_STORE_FILE_MODE 0600

/* A group as of the end of a transaction. */
struct log_state {
    struct raft_hard_state hard_state;
    struct raft_base base;
    raft_index last_index;
    raft_term last_term;
    struct hash128 last_hash;
    raft_index conf_index; /* newest record of `conf`; 0: none */
    uint32_t confs_count;
    uint64_t pages_count;  /* of its log database */
    uint64_t table_number; /* in `active`; 0: none */
};

struct log_group {
    /* Constant once the group is published by groups_count. */
    raft_group group;
    MDB_dbi dbi;
    /* Owned by the log writer thread. */
    struct log_state durable;
    struct log_state pending; /* inside log_store_commit() */
};

struct log_store {
    /* Constant after open. */
    MDB_env *env;
    MDB_dbi dbi_hard_state;
    MDB_dbi dbi_base;
    MDB_dbi dbi_conf;
    uint32_t page_bytes;
    uint64_t retain_bytes;
    uint64_t file_bytes_at_open;
    bool is_read_only;
    char path[PATH_MAX]; /* of the data file */

    /* Owned by the log writer thread. */
    enum tl_err latched;
    struct tl_fault latched_fault;
    uint64_t pages_count;          /* of all groups, pending ones inside a commit */
    uint32_t pending_groups_count; /* groups_count and those born in the running commit */
    bool has_active;               /* the database `active` exists: with the first install */
    MDB_dbi dbi_active;
    struct log_group groups[LOG_STORE_GROUPS_MAX];

    /* Shared. Written by the log writer thread. */
    _Atomic uint32_t groups_count; /* released after the slot it publishes is filled */
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t file_bytes;
};

/* ---- log_store.c ---- */

void log_store_check(const struct log_store *store);

/* NULL: the group was never written. Any thread. */
struct log_group *log_store_find(struct log_store *store, raft_group group);

/* Sets *fault and returns TL_ERR_CORRUPT. */
enum tl_err log_store_corrupt(const struct log_store *store, raft_group group, raft_index index,
                              const char *reason, struct tl_fault *fault);

/* Translates a failed call. MDB_NOTFOUND means here that something that must be there is not. */
enum tl_err log_store_fail(const struct log_store *store, int rc, const char *call,
                           raft_group group, raft_index index, struct tl_fault *fault);

/* Tells other threads the sizes. */
enum tl_err log_store_publish(struct log_store *store, struct tl_fault *fault);

/* ---- log_store_file.c ---- */

/* Makes a complete, flushed data file appear at data_path, in options->dir. */
TL_MUST_CHECK enum tl_err log_store_file_create(const struct log_store_options *options,
                                                const char *data_path, struct tl_fault *fault);

/* "dir/name" into out_path; TL_ERR_IO when it is too long. */
TL_MUST_CHECK enum tl_err log_store_file_path(const char *dir, const char *name,
                                              char out_path[PATH_MAX], struct tl_fault *fault);

/* An env with our limits, opened on `path`. */
TL_MUST_CHECK int log_store_env_open(const char *path, unsigned flags, size_t map_bytes,
                                     MDB_env **out_env);

/* ---- log_store_record.c: layouts of src/store/FORMAT.md 2 ---- */

#define LOG_FORMAT_MARK_BYTES 16u
#define LOG_HARD_STATE_BYTES 32u
#define LOG_BASE_BYTES 48u
#define LOG_ACTIVE_BYTES 16u
#define LOG_CONF_KEY_BYTES 12u
#define LOG_CONF_HEADER_BYTES 8u

void log_format_mark_encode(uint8_t out_bytes[LOG_FORMAT_MARK_BYTES]);
TL_MUST_CHECK enum tl_err log_format_mark_decode(struct bytes source);

void log_hard_state_encode(raft_group group, const struct raft_hard_state *hard_state,
                           uint8_t out_bytes[LOG_HARD_STATE_BYTES]);
TL_MUST_CHECK enum tl_err log_hard_state_decode(raft_group group, struct bytes source,
                                                struct raft_hard_state *out_hard_state);

void log_base_encode(raft_group group, const struct raft_base *base,
                     uint8_t out_bytes[LOG_BASE_BYTES]);
TL_MUST_CHECK enum tl_err log_base_decode(raft_group group, struct bytes source,
                                          struct raft_base *out_base);

void log_active_encode(raft_group group, uint64_t table_number,
                       uint8_t out_bytes[LOG_ACTIVE_BYTES]);
TL_MUST_CHECK enum tl_err log_active_decode(raft_group group, struct bytes source,
                                            uint64_t *out_table_number);

void log_conf_key_encode(raft_group group, raft_index index, uint8_t out_key[LOG_CONF_KEY_BYTES]);
/* false: not a key of that form. */
bool log_conf_key_decode(struct bytes key, raft_group *out_group, raft_index *out_index);
uint64_t log_conf_checksum(const uint8_t key[LOG_CONF_KEY_BYTES], struct bytes payload);
/* *out_payload borrows from value. */
TL_MUST_CHECK enum tl_err log_conf_decode(struct bytes key, struct bytes value,
                                          struct bytes *out_payload);

static inline struct bytes log_val_bytes(const MDB_val *value)
{
    return bytes_make(value->mv_data, value->mv_size);
}

/* The index in a key of a log database; false: the key is no index. */
bool log_key_index(const MDB_val *key, raft_index *out_index);

/* Positions on the newest configuration of a group at or below `index` (UINT64_MAX: on the newest).
 * MDB_NOTFOUND: there is none. */
TL_MUST_CHECK int log_conf_seek(MDB_cursor *cursor, raft_group group, raft_index index,
                                MDB_val *out_key, MDB_val *out_value);

/* Whether a record from disk is the entry (group, index). */
TL_MUST_CHECK enum tl_err log_entry_check(const struct log_store *store, raft_group group,
                                          raft_index index, struct bytes record,
                                          struct entry_header *out_header, struct tl_fault *fault);

/* log_entry_check(), and the chain hash is right behind previous_hash. */
TL_MUST_CHECK enum tl_err log_entry_check_chain(const struct log_store *store, raft_group group,
                                                raft_index index, struct bytes record,
                                                struct hash128 previous_hash,
                                                struct entry_header *out_header,
                                                struct tl_fault *fault);

/* Finds and checks (without its chain hash) a record that must be there. *out_record borrows from
 * the transaction. */
TL_MUST_CHECK enum tl_err log_entry_get(const struct log_store *store, MDB_txn *txn,
                                        const struct log_group *group, raft_index index,
                                        struct bytes *out_record, struct entry_header *out_header,
                                        struct tl_fault *fault);

/* The chain hash before entry `index`: of the base or of the record before. */
TL_MUST_CHECK enum tl_err log_entry_previous_hash(const struct log_store *store, MDB_txn *txn,
                                                  const struct log_group *group,
                                                  const struct raft_base *base, raft_index index,
                                                  struct hash128 *out_hash, struct tl_fault *fault);

/* ---- log_store_commit.c: parts that an install is made of ---- */

struct log_commit {
    struct log_store *store;
    MDB_txn *txn;
    struct log_group *group; /* of the op at hand */
    MDB_cursor *cursor;      /* on its log database */
    struct tl_fault *fault;
};

enum tl_err log_commit_fail(const struct log_commit *commit, int rc, const char *call,
                            raft_index index);
enum tl_err log_commit_corrupt(const struct log_commit *commit, raft_index index,
                               const char *reason);
TL_MUST_CHECK enum tl_err log_commit_put_hard_state(const struct log_commit *commit,
                                                    const struct raft_hard_state *hard_state);
TL_MUST_CHECK enum tl_err log_commit_put_base(const struct log_commit *commit,
                                              const struct raft_base *base);
TL_MUST_CHECK enum tl_err log_commit_put_conf(const struct log_commit *commit, raft_index index,
                                              struct bytes payload);
/* Deletes all configurations of the group. */
TL_MUST_CHECK enum tl_err log_commit_clear_confs(const struct log_commit *commit);
/* The cursor is open. */
TL_MUST_CHECK enum tl_err log_commit_append(const struct log_commit *commit,
                                            const struct buf *entry);
TL_MUST_CHECK enum tl_err log_commit_count_pages(const struct log_commit *commit);

/* ---- log_store_verify.c ---- */

/* log_reader_verify() inside a transaction that sees this base. */
TL_MUST_CHECK enum tl_err log_verify_run(const struct log_store *store, MDB_txn *txn,
                                         const struct log_group *group,
                                         const struct raft_base *base,
                                         bool (*on_progress)(void *context, raft_index index,
                                                             raft_index last),
                                         void *context, struct tl_fault *fault);

/* ---- log_store_install.c ---- */

/* The op's install, in the commit's transaction. */
TL_MUST_CHECK enum tl_err log_commit_install(struct log_commit *commit, struct log_op *op);

#endif
