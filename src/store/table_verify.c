/* table_verify.c - a whole table looked at, item by item. */

#include "table_internal.h"
#include "table_sums.h"

struct verify {
    struct table_sums sums;
    uint64_t items_done;
    uint64_t items_count;
    bool (*on_progress)(void *context, uint64_t items_done, uint64_t items_count);
    void *context;
};

static bool goes_on(const struct verify *verify)
{
    bool is_step =
        verify->items_done % TABLE_VERIFY_STEP == 0 || verify->items_done == verify->items_count;
    return !is_step || verify->on_progress == NULL ||
           verify->on_progress(verify->context, verify->items_done, verify->items_count);
}

/* Which key: by its checksum, because keys are users' and faults go to logs. */
static enum tl_err fail_item(const struct table_reader *reader, enum tl_err err,
                             struct bytes env_key, raft_index index, const char *reason,
                             struct tl_fault *out_fault)
{
    const struct table *table = table_reader_table(reader);
    tl_fault_set(out_fault, table_dir(table), table_group(table), index,
                 "%s: key of kind '%c', %zu bytes, checksum %016llx", reason, env_key.data[0],
                 env_key.count - 1, (unsigned long long)hash_checksum(env_key));
    return err;
}

static enum tl_err verify_items(struct verify *verify, struct table_reader *reader,
                                raft_index index, struct tl_fault *out_fault)
{
    struct table_cursor cursor;
    enum tl_err err = table_cursor_open(&cursor, reader, bytes_make(NULL, 0), out_fault);
    if (err != TL_OK) {
        return err;
    }
    while (err == TL_OK && cursor.is_there) {
        if (cursor.env_key.data[0] != ENV_KEY_META) {
            const char *reason = NULL;
            err = table_sums_add(&verify->sums, cursor.env_key, cursor.value, &reason);
            if (err != TL_OK) {
                err = fail_item(reader, err, cursor.env_key, index, reason, out_fault);
                break;
            }
            verify->items_done++;
            if (!goes_on(verify)) {
                err = TL_ERR_CANCELED;
                break;
            }
        }
        err = table_cursor_next(&cursor, out_fault);
    }
    table_cursor_close(&cursor);
    return err;
}

enum tl_err table_verify(struct table_reader *reader,
                         bool (*on_progress)(void *context, uint64_t items_done,
                                             uint64_t items_count),
                         void *context, struct table_totals *out_totals, struct tl_fault *out_fault)
{
    struct verify verify = {.on_progress = on_progress, .context = context};
    struct group_state state;
    uint8_t conf[GROUP_STATE_CONF_BYTES_MAX];
    uint32_t conf_bytes;
    enum tl_err err = table_reader_state(reader, &state, conf, &conf_bytes, out_fault);
    if (err == TL_OK) err = table_items_count(reader, &verify.items_count, out_fault);
    if (err == TL_OK) err = verify_items(&verify, reader, state.index, out_fault);
    if (err != TL_OK) {
        return err;
    }
    const char *reason = table_sums_reason(&verify.sums, &state);
    if (reason != NULL) {
        return table_corrupt(table_reader_table(reader), state.index, reason, out_fault);
    }
    *out_totals = (struct table_totals){
        .rows_count = verify.sums.rows_count,
        .records_count = verify.sums.records_count,
        .queue_items_count = verify.sums.queue_items_count,
        .bytes = verify.sums.bytes,
    };
    return TL_OK;
}
