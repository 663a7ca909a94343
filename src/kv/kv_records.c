/* kv_records.c - idempotency records: what a repeated request is answered with.
 *
 * A record stands under ENV_KEY_RECORD and its key hash; its place in the order of eviction under
 * ENV_KEY_QUEUE and its sequence. The queue has no holes: sequences records_first ...
 * records_next - 1, one record each, so their count needs no counter. Ages are differences of entry
 * times: a clock would evict different records on different replicas.
 */

#include "kv_internal.h"

#define RECORD_KEY_BYTES (1u + HASH_BYTES)
#define QUEUE_KEY_BYTES (1u + 8u)

static struct bytes record_key(struct hash128 key, uint8_t out_room[RECORD_KEY_BYTES])
{
    out_room[0] = ENV_KEY_RECORD;
    hash_put(out_room + 1, key);
    return bytes_make(out_room, RECORD_KEY_BYTES);
}

static struct bytes queue_key(uint64_t sequence, uint8_t out_room[QUEUE_KEY_BYTES])
{
    out_room[0] = ENV_KEY_QUEUE;
    put_u64_be(out_room + 1, sequence);
    return bytes_make(out_room, QUEUE_KEY_BYTES);
}

enum tl_err kv_records_find(struct kv_apply *apply, struct hash128 key, bool *out_is_found,
                            struct record *out_record)
{
    uint8_t room[RECORD_KEY_BYTES];
    struct bytes source;
    enum tl_err err = kv_table_get(apply->table, record_key(key, room), &source);
    if (err == TL_ERR_NOT_FOUND) {
        *out_is_found = false;
        return TL_OK;
    }
    if (err != TL_OK) {
        return err;
    }
    err = record_decode(source, out_record);
    if (err == TL_ERR_CORRUPT) {
        return kv_apply_corrupt(apply, "an idempotency record failed its check");
    }
    if (err == TL_OK && !kv_status_is_recorded((enum kv_status)out_record->status)) {
        return TL_ERR_NEWER_FORMAT; /* under a right checksum */
    }
    *out_is_found = err == TL_OK;
    return err;
}

/* A record's place in the queue; the oldest has sequence records_first. */
static enum tl_err queue_at(struct kv_apply *apply, uint64_t sequence, struct queue_item *out_item)
{
    uint8_t room[QUEUE_KEY_BYTES];
    struct bytes source;
    enum tl_err err = kv_table_get(apply->table, queue_key(sequence, room), &source);
    if (err == TL_ERR_NOT_FOUND) {
        return kv_apply_corrupt(apply, "the queue of idempotency records has a hole");
    }
    if (err != TL_OK) {
        return err;
    }
    if (queue_item_decode(source, out_item) != TL_OK) {
        return kv_apply_corrupt(apply, "the queue of idempotency records failed its check");
    }
    return TL_OK;
}

static enum tl_err evict_front(struct kv_apply *apply, const struct queue_item *item)
{
    uint8_t record_room[RECORD_KEY_BYTES];
    struct bytes env_key = record_key(item->key, record_room);
    struct bytes source;
    enum tl_err err = kv_table_get(apply->table, env_key, &source);
    if (err == TL_ERR_NOT_FOUND) {
        return kv_apply_corrupt(apply, "an idempotency record is missing");
    }
    if (err != TL_OK) {
        return err;
    }
    struct record record;
    err = record_decode(source, &record);
    if (err == TL_ERR_NEWER_FORMAT) {
        return err;
    }
    if (err != TL_OK || record.sequence != apply->group.records_first) {
        return kv_apply_corrupt(apply, "an idempotency record failed its check");
    }

    digest_remove(&apply->group.records_digest, record_element(env_key, source));
    kv_table_delete(apply->table, apply->index, env_key);
    uint8_t queue_room[QUEUE_KEY_BYTES];
    kv_table_delete(apply->table, apply->index, queue_key(apply->group.records_first, queue_room));
    apply->group.records_first++;
    return TL_OK;
}

/* Whether the oldest record may go, given how many there are. */
static bool may_evict(const struct kv_apply *apply, const struct queue_item *oldest,
                      uint64_t records_max)
{
    uint64_t age_us = apply->time_us > oldest->time_us ? apply->time_us - oldest->time_us : 0;
    uint64_t count = apply->group.records_next - apply->group.records_first;
    return age_us > RECORD_KEEP_US || (count >= records_max && age_us > RECORD_KEEP_MIN_US);
}

static uint64_t count_max_of(uint32_t records_max)
{
    return records_max == 0 ? RECORDS_MAX_DEFAULT : records_max;
}

enum tl_err kv_records_make_room(struct kv_apply *apply, uint32_t records_max, bool *out_has_room)
{
    struct group_state *group = &apply->group;
    uint64_t count_max = count_max_of(records_max);
    for (uint32_t i = 0; i < RECORD_EVICT_MAX && group->records_first < group->records_next; i++) {
        struct queue_item oldest;
        enum tl_err err = queue_at(apply, group->records_first, &oldest);
        if (err != TL_OK) {
            return err;
        }
        if (!may_evict(apply, &oldest, count_max)) {
            break;
        }
        err = evict_front(apply, &oldest);
        if (err != TL_OK) {
            return err;
        }
    }
    *out_has_room = group->records_next - group->records_first < count_max;
    return TL_OK;
}

enum tl_err kv_records_wait(struct kv_apply *apply, uint32_t records_max, uint64_t *out_wait_us)
{
    uint64_t count_max = count_max_of(records_max);
    TL_ASSERT(apply->group.records_next - apply->group.records_first >= count_max);
    struct queue_item last;
    enum tl_err err = queue_at(apply, apply->group.records_next - count_max, &last);
    if (err != TL_OK) {
        return err;
    }
    uint64_t age_us = apply->time_us > last.time_us ? apply->time_us - last.time_us : 0;
    *out_wait_us = age_us > RECORD_KEEP_MIN_US ? 0 : RECORD_KEEP_MIN_US + 1 - age_us;
    return TL_OK;
}

void kv_records_add(struct kv_apply *apply, const struct command *command,
                    const struct kv_result *result)
{
    TL_ASSERT(kv_status_is_recorded(result->status));
    struct group_state *group = &apply->group;
    struct record record = {
        .fingerprint = command->fingerprint,
        .sequence = group->records_next,
        .time_us = apply->time_us,
        .status = (uint8_t)result->status,
        .result_flags = result->flags,
        .revision = result->revision,
        .version = result->version,
        .number = result->number,
    };
    /* Records live for minutes and are many: what is large is told once only. */
    if (result->results.count <= RECORD_RESULTS_BYTES_MAX) record.results = result->results;
    uint8_t record_room[RECORD_KEY_BYTES];
    struct bytes env_key = record_key(command->idempotency_key, record_room);
    uint8_t *at = kv_table_put(apply->table, apply->index, env_key, record_bytes(&record), 0);
    record_encode(&record, at);
    digest_add(&group->records_digest,
               record_element(env_key, bytes_make(at, record_bytes(&record))));

    const struct queue_item item = {.key = command->idempotency_key, .time_us = apply->time_us};
    uint8_t queue_room[QUEUE_KEY_BYTES];
    at = kv_table_put(apply->table, apply->index, queue_key(group->records_next, queue_room),
                      QUEUE_ITEM_BYTES, 0);
    queue_item_encode(&item, at);
    group->records_next++;
}
