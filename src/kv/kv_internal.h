/* kv_internal.h - what the files of the state machine share.
 *
 * Role:       One entry being applied; rows (kv_row.c); transactions (kv_txn.c); idempotency
 * records
 *             (kv_records.c); what values become (kv_value.c).
 * Thread:     as kv_state.h.
 */

#ifndef TL_KV_INTERNAL_H
#define TL_KV_INTERNAL_H

#include "trilith/kv_state.h"

/* One entry on its way into the state. `group` becomes the state's when all has succeeded. */
struct kv_apply {
    struct kv_table *table;
    struct group_state group;
    raft_index index;
    uint64_t time_us;
    uint64_t revision;        /* of everything this entry changes */
    struct buf **results;     /* the state's, for those of a transaction */
    bool needs_results;       /* a request waits for them, or a record is to hold them */
    uint64_t cost_bytes;      /* so far */
    const char *fault_reason; /* set with TL_ERR_CORRUPT; static */
};

/* Notes why, and returns TL_ERR_CORRUPT. */
enum tl_err kv_apply_corrupt(struct kv_apply *apply, const char *reason);

/* ---- kv_records.c ---- */

/* The record under `key`, if there is one. */
TL_MUST_CHECK enum tl_err kv_records_find(struct kv_apply *apply, struct hash128 key,
                                          bool *out_is_found, struct record *out_record);

/* Evicts what may go, at most RECORD_EVICT_MAX, and says whether one more record fits. */
TL_MUST_CHECK enum tl_err kv_records_make_room(struct kv_apply *apply, uint32_t records_max,
                                               bool *out_has_room);
/* How far log time has to rise until enough records of a full table may go for another one. */
TL_MUST_CHECK enum tl_err kv_records_wait(struct kv_apply *apply, uint32_t records_max,
                                          uint64_t *out_wait_us);

/* Adds the outcome of a request; there is no record under its key. */
void kv_records_add(struct kv_apply *apply, const struct command *command,
                    const struct kv_result *result);

/* ---- kv_value.c: pure ---- */

#define KV_VALUE_PARTS_MAX 4u
#define KV_INTEGER_TEXT_BYTES_MAX 20u /* "-9223372036854775808" */

/* A value that is to be written: parts that will stand one behind the other. Parts borrow from the
 * command and the old row, or point to number_text: do not copy the struct. */
struct kv_value {
    struct bytes content_type;
    struct bytes parts[KV_VALUE_PARTS_MAX];
    uint32_t parts_count;
    char number_text[KV_INTEGER_TEXT_BYTES_MAX];
    int64_t number; /* for struct kv_result */
};

size_t kv_value_bytes(const struct kv_value *value);

/* The value that is there now; content_type and value are not set for a put. Borrowed. */
struct kv_present {
    bool is_there;
    struct bytes content_type;
    struct bytes value;
};

/* What the command makes of the present value: KV_CREATED or KV_REPLACED and *out_value, or the
 * reason why it does not go. */
enum kv_status kv_value_put(const struct command *command, const struct kv_present *present,
                            struct kv_value *out_value);
enum kv_status kv_value_append(const struct command *command, const struct kv_present *present,
                               struct kv_value *out_value);
enum kv_status kv_value_list_append(const struct command *command, const struct kv_present *present,
                                    struct kv_value *out_value);
enum kv_status kv_value_increment(const struct command *command, const struct kv_present *present,
                                  struct kv_value *out_value);

/* ---- kv_row.c ---- */

/* A key's row as it is before the request. */
struct kv_row {
    bool is_there;
    struct bytes row; /* whole; borrowed until kv_table_end() */
    struct row_header header;
};
TL_MUST_CHECK enum tl_err kv_row_read(struct kv_apply *apply, struct bytes key,
                                      struct kv_row *out_old);

/* The value of a row that is there, checked. */
TL_MUST_CHECK enum tl_err kv_row_value(struct kv_apply *apply, const struct kv_row *row,
                                       struct bytes *out_value);

/* What the command, which is no delete, makes of the row: KV_CREATED, KV_REPLACED and *out_value,
 * or why it does not go. */
TL_MUST_CHECK enum tl_err kv_row_new_value(struct kv_apply *apply, const struct command *command,
                                           const struct kv_row *old, struct kv_value *out_value,
                                           enum kv_status *out_status);

/* Writes the new row over `old` and moves revision, count and digest. Sets revision, version and
 * number of *result. */
void kv_row_write(struct kv_apply *apply, const struct command *command, const struct kv_row *old,
                  const struct kv_value *value, struct kv_result *result);

/* Deletes the row, if it is there; sets status too. */
TL_MUST_CHECK enum tl_err kv_row_delete(struct kv_apply *apply, const struct command *command,
                                        const struct kv_row *old, struct kv_result *result);

/* ---- kv_txn.c ---- */

/* Carries a COMMAND_TXN out as a whole, or not at all. */
TL_MUST_CHECK enum tl_err kv_txn_do(struct kv_apply *apply, const struct command *command,
                                    struct kv_result *result);

#endif
