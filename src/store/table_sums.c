/* table_sums.c - sums over a table's items. */

#include "table_sums.h"

#define RECORD_KEY_BYTES (1u + HASH_BYTES)
#define QUEUE_KEY_BYTES (1u + 8u)

/* What a queue item and its record both say. */
static struct hash128 pair_element(struct hash128 key, uint64_t sequence, uint64_t time_us)
{
    uint8_t bytes[HASH_BYTES + 16];
    hash_put(bytes, key);
    put_u64(bytes + HASH_BYTES, sequence);
    put_u64(bytes + HASH_BYTES + 8, time_us);
    return hash_bytes(bytes_make(bytes, sizeof bytes));
}

static enum tl_err fail(enum tl_err err, const char *reason, const char **out_reason)
{
    *out_reason = reason;
    return err;
}

static enum tl_err add_row(struct table_sums *sums, struct bytes env_key, struct bytes value,
                           const char **out_reason)
{
    struct row_header header;
    enum tl_err err = row_decode(value, true, &header);
    if (err != TL_OK) {
        return fail(err, "a row's header fails its check", out_reason);
    }
    if (env_key.count < 2) {
        return fail(TL_ERR_CORRUPT, "a row has no key", out_reason);
    }
    if (!row_value_is_right(value, &header)) {
        return fail(TL_ERR_CORRUPT, "a row's value fails its checksum", out_reason);
    }
    sums->rows_count++;
    digest_add(&sums->rows_digest,
               row_element(bytes_make(env_key.data + 1, env_key.count - 1), value));
    return TL_OK;
}

static enum tl_err add_record(struct table_sums *sums, struct bytes env_key, struct bytes value,
                              const char **out_reason)
{
    struct record record;
    enum tl_err err = record_decode(value, &record);
    if (err != TL_OK || env_key.count != RECORD_KEY_BYTES) {
        return fail(err != TL_OK ? err : TL_ERR_CORRUPT, "a record fails its check", out_reason);
    }
    sums->records_count++;
    const struct bytes parts[] = {env_key, value};
    digest_add(&sums->records_digest, hash_parts(parts, TL_COUNT_OF(parts)));
    digest_remove(&sums->pairs_digest,
                  pair_element(hash_get(env_key.data + 1), record.sequence, record.time_us));
    return TL_OK;
}

static enum tl_err add_queue_item(struct table_sums *sums, struct bytes env_key, struct bytes value,
                                  const char **out_reason)
{
    struct queue_item item;
    if (env_key.count != QUEUE_KEY_BYTES || queue_item_decode(value, &item) != TL_OK) {
        return fail(TL_ERR_CORRUPT, "an item of the records' queue fails its check", out_reason);
    }
    uint64_t sequence = get_u64_be(env_key.data + 1);
    if (sums->queue_items_count == 0) sums->queue_first = sequence;
    if (sequence != sums->queue_first + sums->queue_items_count) {
        return fail(TL_ERR_CORRUPT, "the records' queue has a hole", out_reason);
    }
    sums->queue_items_count++;
    digest_add(&sums->pairs_digest, pair_element(item.key, sequence, item.time_us));
    return TL_OK;
}

enum tl_err table_sums_add(struct table_sums *sums, struct bytes env_key, struct bytes value,
                           const char **out_reason)
{
    if (env_key.count == 0 || env_key.count > ENV_KEY_BYTES_MAX ||
        bytes_compare(bytes_make(sums->key, sums->key_bytes), env_key) >= 0) {
        return fail(TL_ERR_CORRUPT, "keys are not in order", out_reason);
    }
    enum tl_err err;
    switch (env_key.data[0]) {
    case ENV_KEY_ROW:
        err = add_row(sums, env_key, value, out_reason);
        break;
    case ENV_KEY_RECORD:
        err = add_record(sums, env_key, value, out_reason);
        break;
    case ENV_KEY_QUEUE:
        err = add_queue_item(sums, env_key, value, out_reason);
        break;
    default:
        err = fail(TL_ERR_CORRUPT, "a key is of no known kind", out_reason);
        break;
    }
    if (err == TL_OK) {
        sums->bytes += env_key.count + value.count;
        memcpy(sums->key, env_key.data, env_key.count);
        sums->key_bytes = (uint32_t)env_key.count;
    }
    return err;
}

const char *table_sums_reason(const struct table_sums *sums, const struct group_state *state)
{
    uint64_t records_count = state->records_next - state->records_first;
    if (sums->rows_count != state->rows_count) return "the number of rows is not the state's";
    if (!hash_equal(sums->rows_digest, state->rows_digest)) return "the digest of the rows differs";
    if (sums->records_count != records_count) return "the number of records is not the state's";
    if (!hash_equal(sums->records_digest, state->records_digest)) {
        return "the digest of the records differs";
    }
    if (sums->queue_items_count != records_count ||
        (records_count > 0 && sums->queue_first != state->records_first)) {
        return "the records' queue is not the state's";
    }
    if (!hash_equal(sums->pairs_digest, (struct hash128){0, 0})) {
        return "the records and their queue do not belong together";
    }
    return NULL;
}
