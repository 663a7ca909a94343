/* row.c - rows, idempotency records, group state: src/wire/FORMAT.md 4 and 5.
 *
 * All of them are stored, so all carry a checksum. It is checked before anything else but the
 * format and the lengths it needs; a reserved field that is not 0 under a right checksum was
 * written by a newer version and is no damage.
 */

#include "trilith/row.h"

#define ROW_AT_FORMAT 0u
#define ROW_AT_FLAGS 1u
#define ROW_AT_CONTENT_TYPE_BYTES 2u
#define ROW_AT_VALUE_BYTES 4u
#define ROW_AT_TIME 8u
#define ROW_AT_ORIGIN 16u
#define ROW_AT_CREATE_REVISION 24u
#define ROW_AT_REVISION 32u
#define ROW_AT_VERSION 40u
#define ROW_AT_LEASE 48u
#define ROW_AT_VALUE_CHECKSUM 56u
#define ROW_AT_ZERO 64u
#define ROW_AT_CHECKSUM 88u
_Static_assert(ROW_AT_CHECKSUM + 8 == ROW_HEADER_BYTES, "the layout fills the header");

#define RECORD_AT_FORMAT 0u
#define RECORD_AT_STATUS 1u
#define RECORD_AT_RESULT_FLAGS 2u
#define RECORD_AT_ZERO_3 3u
#define RECORD_AT_FINGERPRINT 8u
#define RECORD_AT_SEQUENCE 24u
#define RECORD_AT_TIME 32u
#define RECORD_AT_REVISION 40u
#define RECORD_AT_VERSION 48u
#define RECORD_AT_NUMBER 56u
#define RECORD_AT_RESULTS_BYTES 64u
#define RECORD_AT_ZERO_68 68u
#define RECORD_AT_CHECKSUM 88u
_Static_assert(RECORD_AT_CHECKSUM + 8 == RECORD_BYTES, "the layout fills the record");

#define QUEUE_AT_KEY 0u
#define QUEUE_AT_TIME 16u
#define QUEUE_AT_CHECKSUM 24u
_Static_assert(QUEUE_AT_CHECKSUM + 8 == QUEUE_ITEM_BYTES, "the layout fills the item");

#define STATE_AT_FORMAT 0u
#define STATE_AT_ZERO_1 1u
#define STATE_AT_CONF_BYTES 4u
#define STATE_AT_INDEX 8u
#define STATE_AT_TERM 16u
#define STATE_AT_TIME 24u
#define STATE_AT_CHAIN_HASH 32u
#define STATE_AT_REVISION 48u
#define STATE_AT_ROWS_COUNT 56u
#define STATE_AT_ROWS_DIGEST 64u
#define STATE_AT_RECORDS_DIGEST 80u
#define STATE_AT_RECORDS_FIRST 96u
#define STATE_AT_RECORDS_NEXT 104u
#define STATE_AT_ZERO_112 112u
#define STATE_AT_CHECKSUM 120u
#define STATE_AT_CONF 128u
_Static_assert(STATE_AT_CONF + GROUP_STATE_CONF_BYTES_MAX <= GROUP_STATE_BYTES_MAX,
               "state and configuration fit");

static bool is_zero(const uint8_t *at, size_t count)
{
    uint8_t any = 0;
    for (size_t i = 0; i < count; i++) any |= at[i];
    return any == 0;
}

/* The checksum of two ranges as one. */
static uint64_t checksum_of(struct bytes first, struct bytes second)
{
    const struct bytes parts[] = {first, second};
    return hash_parts(parts, TL_COUNT_OF(parts)).low;
}

static enum tl_err format_check(uint8_t format, uint8_t newest)
{
    if (format == 0) {
        return TL_ERR_CORRUPT;
    }
    return format <= newest ? TL_OK : TL_ERR_NEWER_FORMAT;
}

struct bytes env_key_make(enum env_key_kind kind, struct bytes rest,
                          uint8_t out_room[ENV_KEY_BYTES_MAX])
{
    TL_ASSERT(rest.count <= ENV_KEY_BYTES_MAX - 1);
    out_room[0] = (uint8_t)kind;
    if (rest.count > 0) {
        memcpy(out_room + 1, rest.data, rest.count);
    }
    return bytes_make(out_room, 1 + rest.count);
}

void row_encode_head(struct row_header *header, struct bytes content_type, uint8_t *at)
{
    TL_ASSERT(content_type.count == header->content_type_bytes);
    TL_ASSERT(header->content_type_bytes <= CONTENT_TYPE_BYTES_MAX);
    TL_ASSERT(header->value_bytes <= VALUE_BYTES_MAX);
    TL_ASSERT(header->flags == 0);

    memset(at, 0, ROW_HEADER_BYTES);
    at[ROW_AT_FORMAT] = ROW_FORMAT;
    at[ROW_AT_FLAGS] = header->flags;
    put_u16(at + ROW_AT_CONTENT_TYPE_BYTES, header->content_type_bytes);
    put_u32(at + ROW_AT_VALUE_BYTES, header->value_bytes);
    put_u64(at + ROW_AT_TIME, header->time_us);
    put_u64(at + ROW_AT_ORIGIN, header->origin);
    put_u64(at + ROW_AT_CREATE_REVISION, header->create_revision);
    put_u64(at + ROW_AT_REVISION, header->revision);
    put_u64(at + ROW_AT_VERSION, header->version);
    put_u64(at + ROW_AT_LEASE, header->lease);
    put_u64(at + ROW_AT_VALUE_CHECKSUM, header->value_checksum);
    header->header_checksum = checksum_of(bytes_make(at, ROW_AT_CHECKSUM), content_type);
    put_u64(at + ROW_AT_CHECKSUM, header->header_checksum);
    if (content_type.count > 0) {
        memcpy(at + ROW_HEADER_BYTES, content_type.data, content_type.count);
    }
}

enum tl_err row_decode(struct bytes row, bool is_whole, struct row_header *out_header)
{
    if (row.count < ROW_HEADER_BYTES) {
        return TL_ERR_CORRUPT;
    }
    const uint8_t *at = row.data;
    enum tl_err err = format_check(at[ROW_AT_FORMAT], ROW_FORMAT);
    if (err != TL_OK) {
        return err;
    }
    struct row_header header = {
        .flags = at[ROW_AT_FLAGS],
        .time_us = get_u64(at + ROW_AT_TIME),
        .origin = get_u64(at + ROW_AT_ORIGIN),
        .create_revision = get_u64(at + ROW_AT_CREATE_REVISION),
        .revision = get_u64(at + ROW_AT_REVISION),
        .version = get_u64(at + ROW_AT_VERSION),
        .lease = get_u64(at + ROW_AT_LEASE),
        .value_bytes = get_u32(at + ROW_AT_VALUE_BYTES),
        .content_type_bytes = get_u16(at + ROW_AT_CONTENT_TYPE_BYTES),
        .value_checksum = get_u64(at + ROW_AT_VALUE_CHECKSUM),
        .header_checksum = get_u64(at + ROW_AT_CHECKSUM),
    };
    if (header.content_type_bytes > CONTENT_TYPE_BYTES_MAX ||
        header.value_bytes > VALUE_BYTES_MAX ||
        row.count < ROW_HEADER_BYTES + header.content_type_bytes ||
        (is_whole && row.count != row_bytes(&header))) {
        return TL_ERR_CORRUPT;
    }
    if (header.header_checksum !=
        checksum_of(bytes_make(at, ROW_AT_CHECKSUM), row_content_type(row, &header))) {
        return TL_ERR_CORRUPT;
    }
    if (header.flags != 0 || !is_zero(at + ROW_AT_ZERO, ROW_AT_CHECKSUM - ROW_AT_ZERO)) {
        return TL_ERR_NEWER_FORMAT;
    }
    *out_header = header;
    return TL_OK;
}

struct bytes row_content_type(struct bytes row, const struct row_header *header)
{
    TL_ASSERT(row.count >= ROW_HEADER_BYTES + header->content_type_bytes);
    return bytes_make(row.data + ROW_HEADER_BYTES, header->content_type_bytes);
}

struct bytes row_value(struct bytes row, const struct row_header *header)
{
    TL_ASSERT(row.count == row_bytes(header));
    return bytes_make(row.data + ROW_HEADER_BYTES + header->content_type_bytes,
                      header->value_bytes);
}

bool row_value_is_right(struct bytes row, const struct row_header *header)
{
    return hash_checksum(row_value(row, header)) == header->value_checksum;
}

struct hash128 row_element(struct bytes key, struct bytes row)
{
    TL_ASSERT(row.count >= ROW_HEADER_BYTES);
    const struct bytes parts[] = {key, bytes_make(row.data, ROW_HEADER_BYTES)};
    return hash_parts(parts, TL_COUNT_OF(parts));
}

struct hash128 record_element(struct bytes env_key, struct bytes record)
{
    const struct bytes parts[] = {env_key, record};
    return hash_parts(parts, TL_COUNT_OF(parts));
}

void record_encode(const struct record *record, uint8_t *out_bytes)
{
    TL_ASSERT(record->results.count <= RECORD_RESULTS_BYTES_MAX);
    memset(out_bytes, 0, RECORD_BYTES);
    out_bytes[RECORD_AT_FORMAT] = RECORD_FORMAT;
    out_bytes[RECORD_AT_STATUS] = record->status;
    out_bytes[RECORD_AT_RESULT_FLAGS] = record->result_flags;
    hash_put(out_bytes + RECORD_AT_FINGERPRINT, record->fingerprint);
    put_u64(out_bytes + RECORD_AT_SEQUENCE, record->sequence);
    put_u64(out_bytes + RECORD_AT_TIME, record->time_us);
    put_u64(out_bytes + RECORD_AT_REVISION, record->revision);
    put_u64(out_bytes + RECORD_AT_VERSION, record->version);
    put_u64(out_bytes + RECORD_AT_NUMBER, (uint64_t)record->number);
    put_u32(out_bytes + RECORD_AT_RESULTS_BYTES, (uint32_t)record->results.count);
    put_u64(out_bytes + RECORD_AT_CHECKSUM,
            checksum_of(bytes_make(out_bytes, RECORD_AT_CHECKSUM), record->results));
    if (record->results.count > 0) {
        memcpy(out_bytes + RECORD_BYTES, record->results.data, record->results.count);
    }
}

enum tl_err record_decode(struct bytes source, struct record *out_record)
{
    if (source.count < RECORD_BYTES || source.count > RECORD_BYTES + RECORD_RESULTS_BYTES_MAX) {
        return TL_ERR_CORRUPT;
    }
    const uint8_t *at = source.data;
    enum tl_err err = format_check(at[RECORD_AT_FORMAT], RECORD_FORMAT);
    if (err != TL_OK) {
        return err;
    }
    struct bytes results = bytes_make(at + RECORD_BYTES, source.count - RECORD_BYTES);
    if (get_u32(at + RECORD_AT_RESULTS_BYTES) != results.count ||
        get_u64(at + RECORD_AT_CHECKSUM) !=
            checksum_of(bytes_make(at, RECORD_AT_CHECKSUM), results)) {
        return TL_ERR_CORRUPT;
    }
    if (!is_zero(at + RECORD_AT_ZERO_3, RECORD_AT_FINGERPRINT - RECORD_AT_ZERO_3) ||
        !is_zero(at + RECORD_AT_ZERO_68, RECORD_AT_CHECKSUM - RECORD_AT_ZERO_68)) {
        return TL_ERR_NEWER_FORMAT;
    }
    *out_record = (struct record){
        .fingerprint = hash_get(at + RECORD_AT_FINGERPRINT),
        .sequence = get_u64(at + RECORD_AT_SEQUENCE),
        .time_us = get_u64(at + RECORD_AT_TIME),
        .status = at[RECORD_AT_STATUS],
        .result_flags = at[RECORD_AT_RESULT_FLAGS],
        .revision = get_u64(at + RECORD_AT_REVISION),
        .version = get_u64(at + RECORD_AT_VERSION),
        .number = (int64_t)get_u64(at + RECORD_AT_NUMBER),
        .results = results,
    };
    return TL_OK;
}

void queue_item_encode(const struct queue_item *item, uint8_t out_bytes[QUEUE_ITEM_BYTES])
{
    hash_put(out_bytes + QUEUE_AT_KEY, item->key);
    put_u64(out_bytes + QUEUE_AT_TIME, item->time_us);
    put_u64(out_bytes + QUEUE_AT_CHECKSUM, hash_checksum(bytes_make(out_bytes, QUEUE_AT_CHECKSUM)));
}

enum tl_err queue_item_decode(struct bytes source, struct queue_item *out_item)
{
    if (source.count != QUEUE_ITEM_BYTES) {
        return TL_ERR_CORRUPT;
    }
    const uint8_t *at = source.data;
    if (get_u64(at + QUEUE_AT_CHECKSUM) != hash_checksum(bytes_make(at, QUEUE_AT_CHECKSUM))) {
        return TL_ERR_CORRUPT;
    }
    *out_item = (struct queue_item){
        .key = hash_get(at + QUEUE_AT_KEY),
        .time_us = get_u64(at + QUEUE_AT_TIME),
    };
    return TL_OK;
}

size_t group_state_encode(const struct group_state *state, struct bytes conf,
                          uint8_t out_bytes[GROUP_STATE_BYTES_MAX])
{
    TL_ASSERT(conf.count <= GROUP_STATE_CONF_BYTES_MAX);
    TL_ASSERT(state->records_first <= state->records_next);

    memset(out_bytes, 0, STATE_AT_CONF);
    out_bytes[STATE_AT_FORMAT] = GROUP_STATE_FORMAT;
    put_u32(out_bytes + STATE_AT_CONF_BYTES, (uint32_t)conf.count);
    put_u64(out_bytes + STATE_AT_INDEX, state->index);
    put_u64(out_bytes + STATE_AT_TERM, state->term);
    put_u64(out_bytes + STATE_AT_TIME, state->time_us);
    hash_put(out_bytes + STATE_AT_CHAIN_HASH, state->chain_hash);
    put_u64(out_bytes + STATE_AT_REVISION, state->revision);
    put_u64(out_bytes + STATE_AT_ROWS_COUNT, state->rows_count);
    hash_put(out_bytes + STATE_AT_ROWS_DIGEST, state->rows_digest);
    hash_put(out_bytes + STATE_AT_RECORDS_DIGEST, state->records_digest);
    put_u64(out_bytes + STATE_AT_RECORDS_FIRST, state->records_first);
    put_u64(out_bytes + STATE_AT_RECORDS_NEXT, state->records_next);
    if (conf.count > 0) {
        memcpy(out_bytes + STATE_AT_CONF, conf.data, conf.count);
    }
    put_u64(out_bytes + STATE_AT_CHECKSUM,
            checksum_of(bytes_make(out_bytes, STATE_AT_CHECKSUM), conf));
    return STATE_AT_CONF + conf.count;
}

enum tl_err group_state_decode(struct bytes source, struct group_state *out_state,
                               struct bytes *out_conf)
{
    if (source.count < STATE_AT_CONF) {
        return TL_ERR_CORRUPT;
    }
    const uint8_t *at = source.data;
    enum tl_err err = format_check(at[STATE_AT_FORMAT], GROUP_STATE_FORMAT);
    if (err != TL_OK) {
        return err;
    }
    struct bytes conf = bytes_make(at + STATE_AT_CONF, source.count - STATE_AT_CONF);
    if (conf.count > GROUP_STATE_CONF_BYTES_MAX ||
        conf.count != get_u32(at + STATE_AT_CONF_BYTES) ||
        get_u64(at + STATE_AT_CHECKSUM) != checksum_of(bytes_make(at, STATE_AT_CHECKSUM), conf)) {
        return TL_ERR_CORRUPT;
    }
    if (!is_zero(at + STATE_AT_ZERO_1, STATE_AT_CONF_BYTES - STATE_AT_ZERO_1) ||
        !is_zero(at + STATE_AT_ZERO_112, STATE_AT_CHECKSUM - STATE_AT_ZERO_112)) {
        return TL_ERR_NEWER_FORMAT;
    }
    struct group_state state = {
        .index = get_u64(at + STATE_AT_INDEX),
        .term = get_u64(at + STATE_AT_TERM),
        .time_us = get_u64(at + STATE_AT_TIME),
        .chain_hash = hash_get(at + STATE_AT_CHAIN_HASH),
        .revision = get_u64(at + STATE_AT_REVISION),
        .rows_count = get_u64(at + STATE_AT_ROWS_COUNT),
        .rows_digest = hash_get(at + STATE_AT_ROWS_DIGEST),
        .records_digest = hash_get(at + STATE_AT_RECORDS_DIGEST),
        .records_first = get_u64(at + STATE_AT_RECORDS_FIRST),
        .records_next = get_u64(at + STATE_AT_RECORDS_NEXT),
    };
    if (state.records_first > state.records_next) {
        return TL_ERR_CORRUPT;
    }
    *out_state = state;
    *out_conf = conf;
    return TL_OK;
}

struct hash128 group_state_digest(const struct group_state *state)
{
    uint8_t encoded[GROUP_STATE_BYTES_MAX];
    size_t count = group_state_encode(state, bytes_make(NULL, 0), encoded);
    return hash_bytes(bytes_make(encoded, count));
}
