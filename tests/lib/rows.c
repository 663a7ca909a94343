/* rows.c - encoded through row.h, as apply does it. */

#include "rows.h"

void rows_fill(uint8_t *room, raft_index index, struct bytes value)
{
    struct row_header header = {
        .time_us = index,
        .create_revision = index,
        .revision = index,
        .version = 1,
        .value_bytes = (uint32_t)value.count,
        .value_checksum = hash_checksum(value),
    };
    row_encode_head(&header, bytes_make(NULL, 0), room);
    if (value.count > 0) {
        memcpy(room + ROW_HEADER_BYTES, value.data, value.count);
    }
}

size_t rows_bytes(struct bytes value)
{
    return ROW_HEADER_BYTES + value.count;
}

void rows_put(struct generation *generation, raft_index index, const char *env_key,
              struct bytes value)
{
    uint8_t *room =
        generation_put(generation, index, bytes_of(env_key), rows_bytes(value), 0, false);
    rows_fill(room, index, value);
}

struct bytes rows_value(struct bytes row)
{
    struct row_header header;
    enum tl_err err = row_decode(row, true, &header);
    TL_ASSERT(err == TL_OK);
    TL_ASSERT(row_value_is_right(row, &header));
    return row_value(row, &header);
}

struct group_state rows_final(raft_index index)
{
    return (struct group_state){
        .index = index,
        .term = 1,
        .time_us = 1000 + index,
        .chain_hash = {.low = index, .high = ~index},
        .revision = index + 1,
    };
}
