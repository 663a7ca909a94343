/* log_store.h - the durable Raft log of all groups of a node: one LMDB environment.
 *
 * Role:       Stores entries, hard state and base per group; gives them back unchanged after any
 *             crash. Knows nothing of voting or commit rules. Layout: src/store/FORMAT.md 2.
 * Thread:     open, recover, close: the owner, before and after the others run. log_store_commit():
 *             one thread, the log writer. Readers: any thread, one at a time per reader.
 * Blocking:   log_store_commit() waits for the flush. Reads may fault pages in.
 * Ownership:  the caller owns what it passes in; entries read are new bufs, the caller's.
 * Errors:     after TL_ERR_IO, TL_ERR_CORRUPT or TL_ERR_FULL from log_store_commit() the store is
 *             latched: the outcome of that commit is unknown until the next open, every later
 *             commit returns the same error, and the process must end (exit 4). Never a retry:
 *             after a failed fsync the kernel may call dirty pages clean (fsyncgate; ATC'20).
 *             Nothing is ever truncated or repaired because a check failed.
 * Limits:     LOG_STORE_GROUPS_MAX.
 */

#ifndef TL_LOG_STORE_H
#define TL_LOG_STORE_H

#include "trilith/raft.h"

#define LOG_STORE_GROUPS_MAX 64u

struct log_store;
struct log_reader;

struct log_store_options {
    const char *dir;       /* an existing directory of its own; copied */
    size_t map_bytes;      /* the most it is to hold: who appends judges it; 64 GiB by default */
    /* The map is larger by this, so that what is accepted at that limit can still be written; also
     * above a data file that is longer already. */
    size_t map_headroom_bytes;
    size_t prefill_bytes;  /* a new data file is filled to this size: overwriting flushes faster */
    uint64_t retain_bytes; /* keep at least this much of the log per node (--log-retain) */
    /* For looking at a log: it is not created, not written, and has no lock file. Only while the
     * data directory's lock is held; log_store_commit() is not called. */
    bool is_read_only;
};

/* The switch to an installed snapshot: what the log goes on behind, and the table that is there. */
struct log_install {
    struct raft_base
        base; /* above the group's base and its stored commit index, which becomes it */
    /* The log has the entry (base.index, base.term): what is behind it stays. Otherwise the log is
     * emptied, also when there are entries above base.index (thesis 5.1, hashicorp/raft#697). */
    bool keeps_suffix;
    uint64_t table_number; /* from now on the group's table is kv.<group>.<table_number> */
    struct bytes conf;     /* payload of the configuration in force at the base; borrowed */
};

/* One group's part of a commit. */
struct log_op {
    raft_group group;
    raft_index truncate_from; /* delete entries >= this; 0: none */
    struct buf *const *entries;
    uint32_t entries_count;
    const struct raft_hard_state *hard_state; /* NULL: unchanged */
    /* Entries <= this are covered by a durable table flush and may be deleted when over the
     * retention: as many as were appended, and LOG_DELETE_EXTRA more. 0: none. */
    raft_index deletable;
    /* Entries >= this are needed by a running transfer of a snapshot and stay although they are
     * deletable, until LOG_RETAIN_TRANSFER_FACTOR times the retention is in use: then the transfer
     * is in vain, which is better than a full disk. 0: none. */
    raft_index keep_from;
    /* NULL, or the op consists of this and maybe a hard state. */
    const struct log_install *install;
    /* Out: set when the commit deleted entries, or installed. */
    bool out_has_base;
    struct raft_base out_base;
};

#define LOG_DELETE_EXTRA 64u
#define LOG_RETAIN_TRANSFER_FACTOR 4u

/* What is stored for a group, checked. */
struct log_group_info {
    bool exists;
    struct raft_hard_state hard_state;
    struct raft_base base;
    raft_index last_index; /* base.index when no entry is stored */
    struct buf *conf; /* payload of the newest ENTRY_GENESIS or ENTRY_CONF at or below last_index;
                       * NULL when there is none. The caller releases it. */
    raft_index conf_index; /* of its entry, or the base it was installed with; 0: none */
    uint64_t table_number; /* the table is kv.<group>.<table_number>; 0 until an install */
};

/* Opens or creates the store. Checks both meta pages' plausibility through LMDB, the format mark,
 * and that every group's log is contiguous at both ends.
 *
 * TL_ERR_IO, TL_ERR_CORRUPT, TL_ERR_NEWER_FORMAT: *out_fault says what (NULL allowed).
 * TL_ERR_NOT_FOUND: is_read_only, and there is no log.
 */
TL_MUST_CHECK enum tl_err log_store_open(const struct log_store_options *options,
                                         struct log_store **out_store, struct tl_fault *out_fault);
void log_store_close(struct log_store *store); /* accepts NULL; readers are destroyed before */

/* The groups that were ever written, in no order; returns how many. Owner's thread. */
uint32_t log_store_groups(const struct log_store *store,
                          raft_group out_groups[LOG_STORE_GROUPS_MAX]);

/* Fills *out_info for a group; `exists` is false for one never written. */
TL_MUST_CHECK enum tl_err log_store_recover(struct log_store *store, raft_group group,
                                            struct log_group_info *out_info,
                                            struct tl_fault *out_fault);

/* Applies all ops, in the order given (a group may have several), as one transaction and returns
 * once it is flushed. All or nothing. The first op of a group creates it. An op whose entries do
 * not continue the group's log (after its truncation), or that truncates at or below base, is
 * asserted. After an install the group's log, base, configuration and table number are the new ones
 * or the old ones as a whole, whenever the process dies.
 *
 * TL_ERR_IO (also when the data file was deleted meanwhile: nothing in it would outlive the
 * process), TL_ERR_FULL (the map), TL_ERR_NO_SPACE, TL_ERR_CORRUPT: latched, outcome unknown.
 */
TL_MUST_CHECK enum tl_err log_store_commit(struct log_store *store, struct log_op *ops,
                                           uint32_t ops_count, struct tl_fault *out_fault);

/* Bytes of the pages that hold entries, all groups, as of the last commit. Any thread. */
uint64_t log_store_used_bytes(const struct log_store *store);

/* The same of one group; 0 for one never written. Owner's thread, no commit running. */
uint64_t log_store_group_bytes(struct log_store *store, raft_group group);

/* Size of the data file. Never shrinks. Any thread. */
uint64_t log_store_file_bytes(const struct log_store *store);

/* A reader: a pooled read transaction. Any thread may create one. */
TL_MUST_CHECK enum tl_err log_reader_create(struct log_store *store,
                                            struct log_reader **out_reader);
void log_reader_destroy(struct log_reader *reader); /* accepts NULL */

/* Reads entries first, first + 1, ... <= last as of now, at most `entries_max` and about
 * `bytes_max` bytes but at least one, into out_entries. Every record is decoded and its chain hash
 * checked against its predecessor, which is read too (or is the base). The transaction is over on
 * return.
 *
 * out_count          0 when `first` is above the last stored entry.
 * TL_ERR_COMPACTED   `first` is at or below the base.
 * TL_ERR_CORRUPT     a record fails its check: *out_fault names file, group, index; nothing is
 * given out, also not the entries before it.
 */
TL_MUST_CHECK enum tl_err log_reader_read(struct log_reader *reader, raft_group group,
                                          raft_index first, raft_index last, uint32_t entries_max,
                                          size_t bytes_max, struct buf **out_entries,
                                          uint32_t *out_count, struct tl_fault *out_fault);

/* The chain hash in front of the first entry that the last successful read gave out (out_count >
 * 0): of the entry before it, or of the base. As checked by that read, in its transaction. */
struct hash128 log_reader_previous_hash(const struct log_reader *reader);

/* Checks a group's whole log as of now, from the base to the end: indexes without a gap, every
 * record and its chain hash, terms and times that do not fall. on_progress (NULL allowed) is told
 * the index reached about every LOG_VERIFY_STEP entries and at the end, and says whether to go on.
 * One transaction: not beside a running log writer, whose freed pages it would pin.
 *
 * TL_ERR_CORRUPT   *out_fault names file, group and index of the first wrong one.
 * TL_ERR_CANCELED  on_progress said no.
 */
#define LOG_VERIFY_STEP 4096u
TL_MUST_CHECK enum tl_err log_reader_verify(struct log_reader *reader, raft_group group,
                                            bool (*on_progress)(void *context, raft_index index,
                                                                raft_index last),
                                            void *context, struct tl_fault *out_fault);

#endif
