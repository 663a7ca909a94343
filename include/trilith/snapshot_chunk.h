/* snapshot_chunk.h - the parts in which a group's table travels: src/wire/FORMAT.md 10.
 *
 * Role:       Chunk 0 says what the snapshot is of; the others carry the items of the table in key
 *             order. Every chunk is checked alone and names the snapshot it belongs to.
 * Thread:     pure.
 */

#ifndef TL_SNAPSHOT_CHUNK_H
#define TL_SNAPSHOT_CHUNK_H

#include "trilith/row.h"

#define SNAPSHOT_CHUNK_FORMAT 1u
#define SNAPSHOT_CHUNK_HEADER_BYTES 64u
#define SNAPSHOT_ITEM_HEAD_BYTES 6u
#define SNAPSHOT_ITEM_BYTES_MAX                                                                 \
    (SNAPSHOT_ITEM_HEAD_BYTES + ENV_KEY_BYTES_MAX + ROW_HEADER_BYTES + CONTENT_TYPE_BYTES_MAX + \
     VALUE_BYTES_MAX)
/* A chunk is closed before it exceeds its limit, but holds at least one item. */
#define SNAPSHOT_CHUNK_LIMIT_MIN 1024u
#define SNAPSHOT_CHUNK_LIMIT_MAX (2u * 1024u * 1024u)
#define SNAPSHOT_CHUNK_BYTES_MAX \
    (SNAPSHOT_CHUNK_HEADER_BYTES + TL_MAX(SNAPSHOT_CHUNK_LIMIT_MAX, SNAPSHOT_ITEM_BYTES_MAX))

/* What chunk 0 says. */
struct snapshot_info {
    /* Of the group, the state and chunk_limit: equal ids are equal bytes in equal chunks, whoever
     * has cut them. */
    struct hash128 id;
    raft_group group;
    uint32_t chunk_limit;     /* bytes of payload at which a chunk was closed */
    uint32_t chunks_count;    /* chunk 0 included */
    uint64_t items_count;     /* rows, records and queue items */
    uint64_t bytes;           /* of all chunks behind chunk 0 */
    struct group_state state; /* the table's */
    uint32_t conf_bytes;
    uint8_t conf[GROUP_STATE_CONF_BYTES_MAX]; /* the configuration that belongs to the state */
};

struct hash128 snapshot_id(raft_group group, uint32_t chunk_limit, const struct group_state *state,
                           struct bytes conf);

/* Chunk 0, a new buf behind head_bytes free ones. */
struct buf *snapshot_info_encode(const struct snapshot_info *info, size_t head_bytes);

/* Chunk 0 as it came: TL_ERR_INVALID for anything else, TL_ERR_NEWER_FORMAT. */
TL_MUST_CHECK enum tl_err snapshot_info_decode(struct bytes chunk, struct snapshot_info *out_info);

struct snapshot_chunk {
    struct hash128 id;
    raft_group group;
    uint32_t number;
    uint32_t items_count;
    uint64_t offset; /* bytes of all chunks between chunk 0 and this one */
    struct bytes payload;
};

/* Fills the header at `at`, in front of a chunk's payload of chunk->payload.count bytes. */
void snapshot_chunk_seal(const struct snapshot_chunk *chunk,
                         uint8_t at[SNAPSHOT_CHUNK_HEADER_BYTES]);

/* Checks a whole chunk. TL_ERR_INVALID: malformed, or other bytes than were sealed;
 * TL_ERR_NEWER_FORMAT. The payload is borrowed from `source`. */
TL_MUST_CHECK enum tl_err snapshot_chunk_decode(struct bytes source,
                                                struct snapshot_chunk *out_chunk);

static inline size_t snapshot_item_bytes(struct bytes env_key, struct bytes value)
{
    return SNAPSHOT_ITEM_HEAD_BYTES + env_key.count + value.count;
}

/* Writes an item at `at`, snapshot_item_bytes(). */
void snapshot_item_write(uint8_t *at, struct bytes env_key, struct bytes value);

/* Reads the next item of a payload; false: it is cut short or has an impossible length. */
bool snapshot_item_read(struct reader *reader, struct bytes *out_env_key, struct bytes *out_value);

#endif
