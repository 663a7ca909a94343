/* full_table.c - rows "r<number>", records, and their queue. */

#include "full_table.h"

#include <inttypes.h>
#include <stdio.h>

#define ROWS_PER_GENERATION 50000u
#define RECORDS_FIRST 7u

static void put(struct generation *generation, raft_index index, struct bytes env_key,
                struct bytes value)
{
    memcpy(generation_put(generation, index, env_key, value.count, 0, false), value.data,
           value.count);
}

static void put_row(struct generation *generation, const struct full_table *content,
                    struct group_state *state, uint32_t number)
{
    static uint8_t value_bytes[1 << 20];
    size_t count = number % 100 == 0 ? 10 * content->value_bytes : content->value_bytes;
    uint64_t word = (number + 1) * 0x9e3779b97f4a7c15u + content->salt;
    for (size_t i = 0; i < count; i++) value_bytes[i] = (uint8_t)(word >> (8 * (i % 8)));
    struct bytes value = bytes_make(value_bytes, count);
    struct row_header header = {
        .time_us = number,
        .create_revision = number + 2,
        .revision = number + 2,
        .version = 1,
        .value_bytes = (uint32_t)count,
        .value_checksum = hash_checksum(value),
    };
    char key[32];
    (void)snprintf(key, sizeof key, "rkey-%08" PRIu32, number);
    uint8_t *row =
        generation_put(generation, state->index, bytes_of(key), row_bytes(&header), 0, false);
    row_encode_head(&header, bytes_make(NULL, 0), row);
    if (count > 0) memcpy(row + ROW_HEADER_BYTES, value.data, count);
    state->rows_count++;
    digest_add(&state->rows_digest,
               row_element(bytes_of(key + 1), bytes_make(row, row_bytes(&header))));
}

static void put_record(struct generation *generation, struct group_state *state)
{
    uint64_t sequence = state->records_next++;
    uint8_t key[1 + HASH_BYTES] = {ENV_KEY_RECORD};
    struct hash128 hash = hash_bytes(bytes_make(&sequence, sizeof sequence));
    hash_put(key + 1, hash);
    const struct record record = {
        .sequence = sequence, .time_us = 1000 + sequence, .status = 1, .revision = sequence};
    uint8_t bytes[RECORD_BYTES];
    record_encode(&record, bytes);
    put(generation, state->index, bytes_make(key, sizeof key), bytes_make(bytes, sizeof bytes));
    const struct bytes parts[] = {bytes_make(key, sizeof key), bytes_make(bytes, sizeof bytes)};
    digest_add(&state->records_digest, hash_parts(parts, TL_COUNT_OF(parts)));

    uint8_t queue_key[9] = {ENV_KEY_QUEUE};
    put_u64_be(queue_key + 1, sequence);
    const struct queue_item item = {.key = hash, .time_us = record.time_us};
    uint8_t queue_bytes[QUEUE_ITEM_BYTES];
    queue_item_encode(&item, queue_bytes);
    put(generation, state->index, bytes_make(queue_key, sizeof queue_key),
        bytes_make(queue_bytes, sizeof queue_bytes));
}

static void flush(struct table *table, struct generation *generation,
                  const struct group_state *state)
{
    struct tl_fault fault = {.index = 0};
    generation_publish(generation, state->index);
    generation_freeze(generation, state, bytes_of(FULL_TABLE_CONF));
    enum tl_err err = table_flush(table, generation, &fault);
    if (err != TL_OK) (void)fprintf(stderr, "%s\n", fault.reason);
    TL_ASSERT(err == TL_OK);
    generation_destroy(generation);
}

static void fill(struct table *table, const struct full_table *content)
{
    struct group_state state = {.term = 4,
                                .time_us = 99,
                                .chain_hash = {content->index, content->salt},
                                .revision = content->rows_count + 2,
                                .records_first = RECORDS_FIRST,
                                .records_next = RECORDS_FIRST};
    uint32_t number = 0;
    uint32_t generations_count = content->rows_count / ROWS_PER_GENERATION + 1;
    TL_ASSERT(content->index >= generations_count);
    for (uint32_t g = 1; g <= generations_count; g++) {
        struct generation *generation = generation_create(state.index);
        state.index = g < generations_count ? g : content->index;
        for (uint32_t i = 0; i < ROWS_PER_GENERATION && number < content->rows_count; i++) {
            put_row(generation, content, &state, number++);
        }
        if (g == generations_count) {
            for (uint32_t i = 0; i < content->records_count; i++) put_record(generation, &state);
        }
        flush(table, generation, &state);
    }
}

struct table *full_table_open(const char *dir, const struct full_table *content)
{
    const struct table_options options = {
        .dir = dir,
        .group = FULL_TABLE_GROUP,
        .map_bytes = 2ull << 30,
        .readers_max = 40,
    };
    struct table *table = NULL;
    struct tl_fault fault;
    enum tl_err err = table_open(&options, &table, &fault);
    TL_ASSERT(err == TL_OK);
    if (table_state(table)->index == 0) fill(table, content);
    return table;
}
