/* snapshot_chunk.c - chunks of a snapshot: src/wire/FORMAT.md 10. */

#include "trilith/snapshot_chunk.h"

#include "trilith/frame.h"

#define AT_FORMAT 0u
#define AT_ZERO_1 1u
#define AT_GROUP 4u
#define AT_ID 8u
#define AT_NUMBER 24u
#define AT_ITEMS_COUNT 28u
#define AT_OFFSET 32u
#define AT_PAYLOAD_BYTES 40u
#define AT_ZERO_44 44u
#define AT_CHECKSUM 48u
_Static_assert(AT_CHECKSUM + HASH_BYTES == SNAPSHOT_CHUNK_HEADER_BYTES,
               "the layout fills the header");
_Static_assert(SNAPSHOT_CHUNK_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX, "a frame holds any chunk");

#define INFO_AT_ITEMS_COUNT 0u
#define INFO_AT_BYTES 8u
#define INFO_AT_CHUNKS_COUNT 16u
#define INFO_AT_CHUNK_LIMIT 20u
#define INFO_AT_STATE 24u

static struct hash128 id_of(raft_group group, uint32_t chunk_limit, struct bytes state)
{
    uint8_t head[8];
    put_u32(head, group);
    put_u32(head + 4, chunk_limit);
    const struct bytes parts[] = {bytes_make(head, sizeof head), state};
    return hash_parts(parts, TL_COUNT_OF(parts));
}

struct hash128 snapshot_id(raft_group group, uint32_t chunk_limit, const struct group_state *state,
                           struct bytes conf)
{
    uint8_t bytes[GROUP_STATE_BYTES_MAX];
    size_t count = group_state_encode(state, conf, bytes);
    return id_of(group, chunk_limit, bytes_make(bytes, count));
}

/* The checksum covers the header before it and the payload. */
static struct hash128 checksum_of(const uint8_t *header, struct bytes payload)
{
    const struct bytes parts[] = {bytes_make(header, AT_CHECKSUM), payload};
    return hash_parts(parts, TL_COUNT_OF(parts));
}

void snapshot_chunk_seal(const struct snapshot_chunk *chunk,
                         uint8_t at[SNAPSHOT_CHUNK_HEADER_BYTES])
{
    TL_ASSERT(chunk->payload.count <= SNAPSHOT_CHUNK_BYTES_MAX - SNAPSHOT_CHUNK_HEADER_BYTES);
    memset(at, 0, SNAPSHOT_CHUNK_HEADER_BYTES);
    at[AT_FORMAT] = SNAPSHOT_CHUNK_FORMAT;
    put_u32(at + AT_GROUP, chunk->group);
    hash_put(at + AT_ID, chunk->id);
    put_u32(at + AT_NUMBER, chunk->number);
    put_u32(at + AT_ITEMS_COUNT, chunk->items_count);
    put_u64(at + AT_OFFSET, chunk->offset);
    put_u32(at + AT_PAYLOAD_BYTES, (uint32_t)chunk->payload.count);
    hash_put(at + AT_CHECKSUM, checksum_of(at, chunk->payload));
}

enum tl_err snapshot_chunk_decode(struct bytes source, struct snapshot_chunk *out_chunk)
{
    if (source.count < SNAPSHOT_CHUNK_HEADER_BYTES || source.count > SNAPSHOT_CHUNK_BYTES_MAX) {
        return TL_ERR_INVALID;
    }
    const uint8_t *at = source.data;
    if (at[AT_FORMAT] != SNAPSHOT_CHUNK_FORMAT) {
        return at[AT_FORMAT] == 0 ? TL_ERR_INVALID : TL_ERR_NEWER_FORMAT;
    }
    struct bytes payload =
        bytes_make(at + SNAPSHOT_CHUNK_HEADER_BYTES, source.count - SNAPSHOT_CHUNK_HEADER_BYTES);
    if (get_u32(at + AT_PAYLOAD_BYTES) != payload.count || get_u32(at + AT_ZERO_44) != 0 ||
        at[AT_ZERO_1] != 0 || get_u16(at + AT_ZERO_1 + 1) != 0 ||
        !hash_equal(hash_get(at + AT_CHECKSUM), checksum_of(at, payload))) {
        return TL_ERR_INVALID;
    }
    *out_chunk = (struct snapshot_chunk){
        .id = hash_get(at + AT_ID),
        .group = get_u32(at + AT_GROUP),
        .number = get_u32(at + AT_NUMBER),
        .items_count = get_u32(at + AT_ITEMS_COUNT),
        .offset = get_u64(at + AT_OFFSET),
        .payload = payload,
    };
    return TL_OK;
}

struct buf *snapshot_info_encode(const struct snapshot_info *info, size_t head_bytes)
{
    struct buf *buf = buf_create(head_bytes + SNAPSHOT_CHUNK_HEADER_BYTES + INFO_AT_STATE +
                                 GROUP_STATE_BYTES_MAX);
    uint8_t *header = buf->data + head_bytes;
    uint8_t *payload = header + SNAPSHOT_CHUNK_HEADER_BYTES;
    put_u64(payload + INFO_AT_ITEMS_COUNT, info->items_count);
    put_u64(payload + INFO_AT_BYTES, info->bytes);
    put_u32(payload + INFO_AT_CHUNKS_COUNT, info->chunks_count);
    put_u32(payload + INFO_AT_CHUNK_LIMIT, info->chunk_limit);
    size_t state_bytes = group_state_encode(&info->state, bytes_make(info->conf, info->conf_bytes),
                                            payload + INFO_AT_STATE);
    const struct snapshot_chunk chunk = {
        .id = info->id,
        .group = info->group,
        .payload = bytes_make(payload, INFO_AT_STATE + state_bytes),
    };
    snapshot_chunk_seal(&chunk, header);
    buf->count = (uint32_t)(head_bytes + SNAPSHOT_CHUNK_HEADER_BYTES + INFO_AT_STATE + state_bytes);
    return buf;
}

/* Numbers that no cut makes. Each chunk but the last is full; the smallest item has a head, a kind
 * and nothing else. */
static bool is_plausible(const struct snapshot_info *info)
{
    uint64_t data_chunks = (uint64_t)info->chunks_count - 1;
    return info->chunks_count > 0 && info->chunk_limit >= SNAPSHOT_CHUNK_LIMIT_MIN &&
           info->chunk_limit <= SNAPSHOT_CHUNK_LIMIT_MAX && info->items_count >= data_chunks &&
           (data_chunks > 0 || info->items_count == 0) &&
           info->bytes >= data_chunks * SNAPSHOT_CHUNK_HEADER_BYTES &&
           info->bytes / SNAPSHOT_CHUNK_BYTES_MAX <= data_chunks && info->state.index > 0 &&
           info->state.index <= RAFT_NUMBER_MAX && info->state.term <= RAFT_NUMBER_MAX;
}

enum tl_err snapshot_info_decode(struct bytes source, struct snapshot_info *out_info)
{
    struct snapshot_chunk chunk;
    enum tl_err err = snapshot_chunk_decode(source, &chunk);
    if (err != TL_OK) {
        return err;
    }
    if (chunk.number != 0 || chunk.items_count != 0 || chunk.offset != 0 ||
        chunk.payload.count < INFO_AT_STATE) {
        return TL_ERR_INVALID;
    }
    const uint8_t *at = chunk.payload.data;
    struct bytes state = bytes_make(at + INFO_AT_STATE, chunk.payload.count - INFO_AT_STATE);
    struct snapshot_info info = {
        .id = chunk.id,
        .group = chunk.group,
        .chunk_limit = get_u32(at + INFO_AT_CHUNK_LIMIT),
        .chunks_count = get_u32(at + INFO_AT_CHUNKS_COUNT),
        .items_count = get_u64(at + INFO_AT_ITEMS_COUNT),
        .bytes = get_u64(at + INFO_AT_BYTES),
    };
    struct bytes conf;
    err = group_state_decode(state, &info.state, &conf);
    if (err != TL_OK) {
        return err == TL_ERR_NEWER_FORMAT ? err : TL_ERR_INVALID;
    }
    if (!is_plausible(&info) || !hash_equal(info.id, id_of(info.group, info.chunk_limit, state))) {
        return TL_ERR_INVALID;
    }
    info.conf_bytes = (uint32_t)conf.count;
    if (conf.count > 0) memcpy(info.conf, conf.data, conf.count);
    *out_info = info;
    return TL_OK;
}

void snapshot_item_write(uint8_t *at, struct bytes env_key, struct bytes value)
{
    TL_ASSERT(env_key.count > 0);
    TL_ASSERT(env_key.count <= ENV_KEY_BYTES_MAX);
    TL_ASSERT(snapshot_item_bytes(env_key, value) <= SNAPSHOT_ITEM_BYTES_MAX);
    put_u16(at, (uint16_t)env_key.count);
    put_u32(at + 2, (uint32_t)value.count);
    memcpy(at + SNAPSHOT_ITEM_HEAD_BYTES, env_key.data, env_key.count);
    if (value.count > 0) {
        memcpy(at + SNAPSHOT_ITEM_HEAD_BYTES + env_key.count, value.data, value.count);
    }
}

bool snapshot_item_read(struct reader *reader, struct bytes *out_env_key, struct bytes *out_value)
{
    uint16_t key_bytes = read_u16(reader);
    uint32_t value_bytes = read_u32(reader);
    if (key_bytes == 0 || key_bytes > ENV_KEY_BYTES_MAX) {
        reader->failed = true;
    }
    *out_env_key = read_bytes(reader, key_bytes);
    *out_value = read_bytes(reader, value_bytes);
    return !reader->failed;
}
