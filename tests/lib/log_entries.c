/* log_entries.c - chains of entries. */

#include "log_entries.h"

struct log_chain log_chain_make(raft_group group, raft_term term)
{
    return (struct log_chain){.group = group, .term = term, .time_us = 1000000};
}

struct buf *log_chain_next(struct log_chain *chain, enum entry_type type, size_t payload_bytes)
{
    struct buf *entry = entry_create(type, payload_bytes);
    uint64_t word = (chain->last_index + 1) * 0x9e3779b97f4a7c15u + chain->group + chain->term;
    for (size_t i = 0; i < payload_bytes; i++) {
        entry->data[ENTRY_HEADER_BYTES + i] = (uint8_t)(word >> (8 * (i % 8)));
    }
    struct entry_header header = {
        .group = chain->group,
        .index = chain->last_index + 1,
        .term = chain->term,
        .time_us = chain->time_us + 1,
    };
    entry_seal(entry, chain->hash, &header);
    chain->last_index++;
    chain->time_us++;
    chain->hash = header.hash;
    return entry;
}
