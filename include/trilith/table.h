/* table.h - the key/value table of one group replica: one LMDB environment.
 *
 * Role:       Holds what flushed generations hold, at exactly one index. Written only by whole
 *             generations (table_flush), read through pooled transactions. src/store/FORMAT.md 3.
 * Thread:     open, close: the owner. table_flush(): one thread, the flusher. Readers: any thread,
 *             one at a time per reader.
 * Blocking:   table_flush() waits for its fsync; reads may fault pages in.
 * Ownership:  values point into the map and are borrowed inside begin/end.
 * Errors:     TL_ERR_IO, TL_ERR_FULL, TL_ERR_NO_SPACE, TL_ERR_CORRUPT of a flush latch the table:
 *             the process must end. TL_ERR_CORRUPT of a read: the process must end too; nothing
 *             wrong is given out.
 */

#ifndef TL_TABLE_H
#define TL_TABLE_H

#include "trilith/generation.h"
#include "trilith/row.h"

struct table;
struct table_reader;

struct table_options {
    const char *dir; /* existing directory; copied */
    raft_group group;
    size_t map_bytes; /* the most it is to hold: who writes judges it; 1 TiB by default */
    /* The map is larger by this, also above a data file that is longer already: for what was
     * accepted before the limit was seen to be reached, and for the pages that a flush replaces,
     * one of deletions too. It costs address space only. */
    size_t map_headroom_bytes;
    uint32_t readers_max;
    /* For looking at a table: it is not created, not written, and has no lock file. Only while the
     * data directory's lock is held; table_flush() is not called. */
    bool is_read_only;
};

/* Opens or creates the table. A new one has a group_state of all zeros; its file appears whole, by
 * a rename. Whether a table may be new, or too old, is for the caller to say: by the log's base.
 *
 * TL_ERR_IO, TL_ERR_NO_SPACE, TL_ERR_CORRUPT, TL_ERR_NEWER_FORMAT: *out_fault says what.
 * TL_ERR_NOT_FOUND: is_read_only, and there is no table.
 */
TL_MUST_CHECK enum tl_err table_open(const struct table_options *options, struct table **out_table,
                                     struct tl_fault *out_fault);
void table_close(struct table *table); /* accepts NULL; readers are destroyed before */

const char *table_dir(const struct table *table); /* any thread */

/* Deletes the directory of a table, with what is in it. It is open nowhere. A crash in the middle
 * leaves a part, which the same call takes away. One that is not there is no error. */
TL_MUST_CHECK enum tl_err table_delete(const char *dir, struct tl_fault *out_fault);

/* The state the table was found or last flushed at. Owner's thread, no flush running. */
const struct group_state *table_state(const struct table *table);

/* Bytes of the pages that hold rows, as of the last flush: about what a copy takes. Any thread. */
uint64_t table_data_bytes(const struct table *table);

/* Writes a frozen generation and its final state in one synced transaction, in key order.
 * generation->first == the table's index. TL_OK: durable. Otherwise the outcome is unknown;
 * TL_ERR_IO also when the data file was deleted meanwhile. */
TL_MUST_CHECK enum tl_err table_flush(struct table *table, const struct generation *generation,
                                      struct tl_fault *out_fault);

TL_MUST_CHECK enum tl_err table_reader_create(struct table *table,
                                              struct table_reader **out_reader);
void table_reader_destroy(struct table_reader *reader); /* accepts NULL */

/* Takes a snapshot of the table and says its index. Ended by table_reader_end(); beginning again
 * without an end renews. Short: at most one loop turn. */
TL_MUST_CHECK enum tl_err table_reader_begin(struct table_reader *reader, raft_index *out_index,
                                             struct tl_fault *out_fault);
void table_reader_end(struct table_reader *reader);

/* Looks up an env key (kind byte and all) inside begin/end. *out_value points into the map and is
 * borrowed until table_reader_end(). A row's header is checked (TL_ERR_CORRUPT); records and queue
 * items are checked by whoever decodes them. TL_ERR_NOT_FOUND when absent. */
TL_MUST_CHECK enum tl_err table_get(struct table_reader *reader, struct bytes env_key,
                                    struct bytes *out_value, struct tl_fault *out_fault);

/* Walks env keys in order from `start` (inclusive) and calls on_item until it returns false or the
 * end. Inside begin/end. Headers of rows are checked. For recovery checks, digests and tests; what
 * readers may see is walked by view_walk(). */
TL_MUST_CHECK enum tl_err table_walk(struct table_reader *reader, struct bytes start,
                                     bool (*on_item)(void *context, struct bytes env_key,
                                                     struct bytes value),
                                     void *context, struct tl_fault *out_fault);

/* What table_verify() has found. */
struct table_totals {
    uint64_t rows_count;
    uint64_t records_count;
    uint64_t queue_items_count;
    uint64_t bytes; /* of keys and values */
};

/* Checks every row whole, every record and queue item, that records and queue belong together, and
 * that counts and digests are those of the state row. Inside begin/end. on_progress (NULL allowed)
 * is told how many items of how many were looked at, about every TABLE_VERIFY_STEP items and at the
 * end, and says whether to go on.
 *
 * TL_ERR_CORRUPT, TL_ERR_NEWER_FORMAT: *out_fault says what. TL_ERR_CANCELED: on_progress said no.
 */
#define TABLE_VERIFY_STEP 4096u
TL_MUST_CHECK enum tl_err table_verify(struct table_reader *reader,
                                       bool (*on_progress)(void *context, uint64_t items_done,
                                                           uint64_t items_count),
                                       void *context, struct table_totals *out_totals,
                                       struct tl_fault *out_fault);

#endif
