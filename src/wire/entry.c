/* entry.c - log entries: the header's layout is src/wire/FORMAT.md 1. */

#include "trilith/entry.h"

#include "trilith/codec.h"

#define AT_FORMAT 0u
#define AT_TYPE 1u
#define AT_ZERO_2 2u
#define AT_PAYLOAD_BYTES 4u
#define AT_GROUP 8u
#define AT_ZERO_12 12u
#define AT_INDEX 16u
#define AT_TERM 24u
#define AT_TIME 32u
#define AT_HASH 40u /* the chain hash covers the header up to here */
#define AT_ZERO_56 56u

_Static_assert(AT_ZERO_56 + 8 == ENTRY_HEADER_BYTES, "the layout fills the header");
_Static_assert(ENTRY_HEADER_BYTES + ENTRY_PAYLOAD_BYTES_MAX <= BUF_BYTES_MAX, "fits a buf");

static bool is_entry_type(uint8_t type)
{
    return type >= ENTRY_GENESIS && type <= ENTRY_CONF;
}

/* The chain hash of `entry` behind `previous_hash`. */
static struct hash128 chain_hash(struct bytes entry, struct hash128 previous_hash)
{
    uint8_t previous[HASH_BYTES];
    hash_put(previous, previous_hash);
    const struct bytes parts[] = {
        bytes_make(previous, sizeof previous),
        bytes_make(entry.data, AT_HASH),
        bytes_make(entry.data + ENTRY_HEADER_BYTES, entry.count - ENTRY_HEADER_BYTES),
    };
    return hash_parts(parts, TL_COUNT_OF(parts));
}

struct buf *entry_create(enum entry_type type, size_t payload_bytes)
{
    TL_ASSERT(is_entry_type((uint8_t)type));
    TL_ASSERT(payload_bytes <= ENTRY_PAYLOAD_BYTES_MAX);

    struct buf *entry = buf_create(ENTRY_HEADER_BYTES + payload_bytes);
    memset(entry->data, 0, ENTRY_HEADER_BYTES);
    entry->data[AT_FORMAT] = ENTRY_FORMAT;
    entry->data[AT_TYPE] = (uint8_t)type;
    entry->count = (uint32_t)(ENTRY_HEADER_BYTES + payload_bytes);
    return entry;
}

void entry_seal(struct buf *entry, struct hash128 previous_hash, struct entry_header *header)
{
    TL_ASSERT(entry->count >= ENTRY_HEADER_BYTES);
    TL_ASSERT(entry->count - ENTRY_HEADER_BYTES <= ENTRY_PAYLOAD_BYTES_MAX);
    TL_ASSERT(entry->data[AT_FORMAT] == ENTRY_FORMAT);
    TL_ASSERT(is_entry_type(entry->data[AT_TYPE]));
    TL_ASSERT(header->index > 0);
    TL_ASSERT(header->term > 0);

    header->type = entry_type_of(entry);
    header->payload_bytes = entry->count - ENTRY_HEADER_BYTES;
    put_u32(entry->data + AT_PAYLOAD_BYTES, header->payload_bytes);
    put_u32(entry->data + AT_GROUP, header->group);
    put_u64(entry->data + AT_INDEX, header->index);
    put_u64(entry->data + AT_TERM, header->term);
    put_u64(entry->data + AT_TIME, header->time_us);
    header->hash = chain_hash(buf_bytes(entry), previous_hash);
    hash_put(entry->data + AT_HASH, header->hash);
}

enum tl_err entry_decode(struct bytes source, struct entry_header *out_header)
{
    if (source.count < ENTRY_HEADER_BYTES) {
        return TL_ERR_CORRUPT;
    }
    const uint8_t *at = source.data;
    if (at[AT_FORMAT] != ENTRY_FORMAT || !is_entry_type(at[AT_TYPE])) {
        return TL_ERR_CORRUPT;
    }
    if (get_u16(at + AT_ZERO_2) != 0 || get_u32(at + AT_ZERO_12) != 0 ||
        get_u64(at + AT_ZERO_56) != 0) {
        return TL_ERR_CORRUPT;
    }
    struct entry_header header = {
        .type = (enum entry_type)at[AT_TYPE],
        .group = get_u32(at + AT_GROUP),
        .index = get_u64(at + AT_INDEX),
        .term = get_u64(at + AT_TERM),
        .time_us = get_u64(at + AT_TIME),
        .hash = hash_get(at + AT_HASH),
        .payload_bytes = get_u32(at + AT_PAYLOAD_BYTES),
    };
    if (header.payload_bytes > ENTRY_PAYLOAD_BYTES_MAX ||
        header.payload_bytes != source.count - ENTRY_HEADER_BYTES) {
        return TL_ERR_CORRUPT;
    }
    if (header.index == 0 || header.term == 0 || header.time_us > ENTRY_TIME_MAX_US) {
        return TL_ERR_CORRUPT;
    }
    *out_header = header;
    return TL_OK;
}

uint32_t entry_claimed_payload_bytes(const uint8_t header[ENTRY_HEADER_BYTES])
{
    return get_u32(header + AT_PAYLOAD_BYTES);
}

bool entry_hash_is_right(struct bytes source, struct hash128 previous_hash)
{
    TL_ASSERT(source.count >= ENTRY_HEADER_BYTES);
    return hash_equal(chain_hash(source, previous_hash), hash_get(source.data + AT_HASH));
}

enum entry_type entry_type_of(const struct buf *entry)
{
    return (enum entry_type)entry->data[AT_TYPE];
}

raft_index entry_index(const struct buf *entry)
{
    return get_u64(entry->data + AT_INDEX);
}

raft_term entry_term(const struct buf *entry)
{
    return get_u64(entry->data + AT_TERM);
}

uint64_t entry_time_us(const struct buf *entry)
{
    return get_u64(entry->data + AT_TIME);
}

struct hash128 entry_hash(const struct buf *entry)
{
    return hash_get(entry->data + AT_HASH);
}

struct bytes entry_payload(const struct buf *entry)
{
    TL_ASSERT(entry->count >= ENTRY_HEADER_BYTES);
    return bytes_make(entry->data + ENTRY_HEADER_BYTES, entry->count - ENTRY_HEADER_BYTES);
}
