/* mem_table.c - table.h (and what src/store asks of it beyond) over the simulated disks: a table
 * is an array of rows in key order, every flush makes a new one, and a reader keeps the one it
 * began with, as an LMDB transaction does. */

#include <stdlib.h>

#include "mem_disk.h"
#include "src/store/table_internal.h"
#include "trilith/crash_point.h"

#define MUTATION_INDEX_APART 10u /* the applied index in another transaction than its data */
#define MUTATION_LIVE_STATE 25u  /* the live state flushed in place of the frozen one */

bool mem_table_stops_half_way;

struct table {
    struct mem_disk *disk;
    struct mem_table *durable;
    raft_group group;
    struct group_state state;
    uint32_t readers_count;
};

struct table_reader {
    struct table *table;
    struct mem_table_version *version; /* NULL: not begun */
};

void mem_table_version_release(struct mem_table_version *version)
{
    if (version == NULL) return;
    TL_ASSERT(version->refs_count > 0);
    if (--version->refs_count > 0) return;
    for (size_t i = 0; i < version->items_count; i++) {
        buf_release(version->items[i].key);
        buf_release(version->items[i].value);
    }
    free(version->items);
    free(version);
}

static struct mem_table_version *version_acquire(struct mem_table_version *version)
{
    version->refs_count++;
    return version;
}

static struct bytes meta_key(void)
{
    static const uint8_t key = ENV_KEY_META;
    return bytes_make(&key, 1);
}

/* First item whose key is >= key. */
static size_t version_search(const struct mem_table_version *version, struct bytes key)
{
    size_t low = 0;
    size_t high = version->items_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bytes_compare(buf_bytes(version->items[middle].key), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const struct mem_table_item *version_item(const struct mem_table_version *version,
                                                 struct bytes key)
{
    size_t at = version_search(version, key);
    if (at == version->items_count) return NULL;
    if (!bytes_equal(buf_bytes(version->items[at].key), key)) return NULL;
    return &version->items[at];
}

static const struct buf *version_find(const struct mem_table_version *version, struct bytes key)
{
    const struct mem_table_item *item = version_item(version, key);
    return item == NULL ? NULL : item->value;
}

enum tl_err table_open(const struct table_options *options, struct table **out_table,
                       struct tl_fault *out_fault)
{
    struct table *table = calloc(1, sizeof *table);
    TL_ASSERT(table != NULL);
    table->disk = mem_disk_at(options->dir);
    table->durable = mem_disk_table(table->disk, options->dir);
    table->group = options->group;
    if (table->durable->current == NULL) {
        table->durable->current = calloc(1, sizeof *table->durable->current);
        TL_ASSERT(table->durable->current != NULL);
        table->durable->current->refs_count = 1;
    }
    const struct buf *meta = version_find(table->durable->current, meta_key());
    if (meta != NULL) {
        struct bytes conf;
        enum tl_err err = group_state_decode(buf_bytes(meta), &table->state, &conf);
        if (err != TL_OK) {
            err = mem_disk_damaged(table->disk, table->group, 0, "no state row", out_fault);
            free(table);
            return err;
        }
        TL_ASSERT(table->state.index == table->durable->current->index);
    }
    if (mem_disk_hooks.on_table_open != NULL) {
        mem_disk_hooks.on_table_open(mem_disk_hooks.context, table->disk, table->group,
                                     table->durable->current);
    }
    *out_table = table;
    return TL_OK;
}

void table_close(struct table *table)
{
    if (table == NULL) return;
    TL_ASSERT(table->readers_count == 0);
    free(table);
}

raft_group table_group(const struct table *table)
{
    return table->group;
}

const char *table_dir(const struct table *table)
{
    return table->durable->path;
}

enum tl_err table_delete(const char *dir, struct tl_fault *out_fault)
{
    struct mem_disk *disk = mem_disk_at(dir);
    CRASH_POINT("delete-before");
    enum tl_err err = mem_disk_may_write(disk, out_fault);
    struct mem_table *durable = mem_disk_find_table(disk, dir);
    if (err != TL_OK || durable == NULL) return err;
    mem_table_version_release(TL_TAKE(&durable->current));
    CRASH_POINT("delete-half");
    err = mem_disk_may_write(disk, out_fault);
    if (err == TL_OK) durable->path[0] = '\0';
    return err;
}

const struct group_state *table_state(const struct table *table)
{
    return &table->state;
}

uint64_t table_data_bytes(const struct table *table)
{
    uint64_t bytes = table->disk->table_map_bytes;
    const struct mem_table_version *version = table->durable->current;
    for (size_t i = 0; i < version->items_count; i++) {
        bytes += version->items[i].key->count + version->items[i].value->count;
    }
    return bytes;
}

/* The new version while it is being merged from the old one and the generation, both in order. */
struct merge {
    const struct mem_table_version *old;
    struct mem_table_version *new;
    size_t old_at;
    size_t capacity;
};

static struct mem_table_item *merge_push(struct merge *merge, struct buf *key, struct buf *value)
{
    if (merge->new->items_count == merge->capacity) {
        merge->capacity = merge->capacity == 0 ? 64 : 2 * merge->capacity;
        merge->new->items = realloc(merge->new->items, merge->capacity * sizeof *merge->new->items);
        TL_ASSERT(merge->new->items != NULL);
    }
    struct mem_table_item *item = &merge->new->items[merge->new->items_count++];
    *item = (struct mem_table_item){.key = key, .value = value};
    return item;
}

static void merge_keep(struct merge *merge)
{
    const struct mem_table_item *item = &merge->old->items[merge->old_at++];
    bool is_damaged = item->is_damaged;
    merge_push(merge, buf_acquire(item->key), buf_acquire(item->value))->is_damaged = is_damaged;
}

/* Takes over the old items before `key` and skips the one it replaces. */
static void merge_up_to(struct merge *merge, struct bytes key)
{
    while (merge->old_at < merge->old->items_count) {
        struct bytes old_key = buf_bytes(merge->old->items[merge->old_at].key);
        int order = bytes_compare(old_key, key);
        if (order > 0) break;
        if (order == 0) {
            merge->old_at++;
            break;
        }
        merge_keep(merge);
    }
}

static bool merge_item(void *context, struct bytes env_key,
                       const struct generation_version *version)
{
    struct merge *merge = context;
    merge_up_to(merge, env_key);
    if (version->value.data != NULL) {
        merge_push(merge, buf_copy(env_key), buf_copy(version->value));
    }
    return true;
}

static struct merge merge_begin(const struct mem_table_version *old)
{
    struct merge merge = {.old = old, .new = calloc(1, sizeof *merge.new)};
    TL_ASSERT(merge.new != NULL);
    merge.new->refs_count = 1;
    merge.new->index = old->index;
    return merge;
}

static void merge_commit(struct merge *merge, struct mem_table *durable)
{
    while (merge->old_at < merge->old->items_count) merge_keep(merge);
    mem_table_version_release(durable->current);
    durable->current = merge->new;
}

/* One transaction: the rows of the generation and, unless NULL, the state. The meta key 'm' sorts
 * before all keys a generation holds. */
static void commit(struct mem_table *durable, const struct generation *generation,
                   const struct group_state *state, struct bytes conf)
{
    struct merge merge = merge_begin(durable->current);
    if (state != NULL) {
        uint8_t meta[GROUP_STATE_BYTES_MAX];
        size_t count = group_state_encode(state, conf, meta);
        merge_up_to(&merge, meta_key());
        merge_push(&merge, buf_copy(meta_key()), buf_copy(bytes_make(meta, count)));
        merge.new->index = state->index;
    }
    if (generation != NULL) {
        raft_index at = generation_final(generation)->index;
        generation_walk(generation, bytes_make(NULL, 0), at, merge_item, &merge);
    }
    merge_commit(&merge, durable);
}

enum tl_err table_flush(struct table *table, const struct generation *generation,
                        struct tl_fault *out_fault)
{
    TL_ASSERT(generation_is_frozen(generation));
    TL_ASSERT(generation_first(generation) == table->state.index);
    enum tl_err err = mem_disk_may_write(table->disk, out_fault);
    if (err != TL_OK) return err;
    struct group_state final = *generation_final(generation);
    struct bytes conf = generation_conf(generation);
    struct group_state live;
    if (mem_disk_hooks.mutation == MUTATION_LIVE_STATE &&
        mem_disk_hooks.live_state(mem_disk_hooks.context, table->disk, table->group, &live)) {
        live.index = final.index;
        live.term = final.term;
        live.time_us = final.time_us;
        live.chain_hash = final.chain_hash;
        final = live;
    }
    if (mem_disk_hooks.mutation == MUTATION_INDEX_APART) {
        commit(table->durable, generation, NULL, conf);
        if (mem_table_stops_half_way) {
            tl_fault_set(out_fault, table->durable->path, table->group, 0, "crash");
            return TL_ERR_IO;
        }
        commit(table->durable, NULL, &final, conf);
    } else {
        commit(table->durable, generation, &final, conf);
    }
    table->state = final;
    table->disk->flushes_count++;
    return TL_OK;
}

enum tl_err table_reader_create(struct table *table, struct table_reader **out_reader)
{
    struct table_reader *reader = calloc(1, sizeof *reader);
    TL_ASSERT(reader != NULL);
    reader->table = table;
    table->readers_count++;
    *out_reader = reader;
    return TL_OK;
}

void table_reader_destroy(struct table_reader *reader)
{
    if (reader == NULL) return;
    table_reader_end(reader);
    reader->table->readers_count--;
    free(reader);
}

static enum tl_err damaged(const struct table *table, const char *reason,
                           struct tl_fault *out_fault)
{
    return mem_disk_damaged(table->disk, table->group, 0, reason, out_fault);
}

/* Rows only: the others are for those to check who decode them. */
static enum tl_err check_item(const struct table *table, const struct mem_table_item *item,
                              bool is_whole, struct tl_fault *out_fault)
{
    if (!item->is_damaged) return TL_OK;
    table->disk->is_damage_given = true;
    if (item->key->data[0] != ENV_KEY_ROW) return TL_OK;
    struct row_header header;
    struct bytes row = buf_bytes(item->value);
    enum tl_err err = row_decode(row, true, &header);
    if (err == TL_OK && is_whole && !row_value_is_right(row, &header)) err = TL_ERR_CORRUPT;
    if (err != TL_OK) (void)damaged(table, "a row fails its check", out_fault);
    return err;
}

enum tl_err table_reader_begin(struct table_reader *reader, raft_index *out_index,
                               struct tl_fault *out_fault)
{
    table_reader_end(reader);
    struct table *table = reader->table;
    const struct mem_table_item *meta = version_item(table->durable->current, meta_key());
    if (meta != NULL && meta->is_damaged) return damaged(table, "no state row", out_fault);
    reader->version = version_acquire(table->durable->current);
    *out_index = table->durable->current->index;
    return TL_OK;
}

void table_reader_end(struct table_reader *reader)
{
    mem_table_version_release(TL_TAKE(&reader->version));
}

static enum tl_err get(struct table_reader *reader, struct bytes env_key, bool is_whole,
                       struct bytes *out_value, struct tl_fault *out_fault)
{
    TL_ASSERT(reader->version != NULL);
    const struct mem_table_item *item = version_item(reader->version, env_key);
    if (item == NULL) return TL_ERR_NOT_FOUND;
    enum tl_err err = check_item(reader->table, item, is_whole, out_fault);
    if (err == TL_OK) *out_value = buf_bytes(item->value);
    return err;
}

enum tl_err table_get(struct table_reader *reader, struct bytes env_key, struct bytes *out_value,
                      struct tl_fault *out_fault)
{
    return get(reader, env_key, false, out_value, out_fault);
}

enum tl_err table_walk(struct table_reader *reader, struct bytes start,
                       bool (*on_item)(void *context, struct bytes env_key, struct bytes value),
                       void *context, struct tl_fault *out_fault)
{
    TL_ASSERT(reader->version != NULL);
    const struct mem_table_version *version = reader->version;
    for (size_t i = version_search(version, start); i < version->items_count; i++) {
        enum tl_err err = check_item(reader->table, &version->items[i], false, out_fault);
        if (err != TL_OK) return err;
        if (!on_item(context, buf_bytes(version->items[i].key),
                     buf_bytes(version->items[i].value))) {
            break;
        }
    }
    return TL_OK;
}

/* ---- table_internal.h ---- */

struct table *table_reader_table(const struct table_reader *reader)
{
    return reader->table;
}

uint32_t table_readers_count(const struct table *table)
{
    return table->readers_count;
}

enum tl_err table_items_count(struct table_reader *reader, uint64_t *out_count,
                              struct tl_fault *out_fault)
{
    (void)out_fault;
    const struct mem_table_version *version = reader->version;
    *out_count = version->items_count - (version_find(version, meta_key()) == NULL ? 0 : 1);
    return TL_OK;
}

enum tl_err table_reader_state(struct table_reader *reader, struct group_state *out_state,
                               uint8_t *out_conf, uint32_t *out_conf_bytes,
                               struct tl_fault *out_fault)
{
    const struct buf *meta = version_find(reader->version, meta_key());
    struct bytes conf = bytes_make(NULL, 0);
    *out_state = (struct group_state){.index = 0};
    enum tl_err err = meta == NULL ? TL_OK : group_state_decode(buf_bytes(meta), out_state, &conf);
    if (err != TL_OK) return damaged(reader->table, "no state row", out_fault);
    if (conf.count > 0) memcpy(out_conf, conf.data, conf.count);
    *out_conf_bytes = (uint32_t)conf.count;
    return TL_OK;
}

uint64_t table_leaf_pages(const struct table *table)
{
    return table->durable->current->items_count / 16 + 1;
}

enum tl_err table_corrupt(const struct table *table, raft_index index, const char *reason,
                          struct tl_fault *fault)
{
    tl_fault_set(fault, table->durable->path, table->group, index, "%s", reason);
    return TL_ERR_CORRUPT;
}

enum tl_err table_get_whole(struct table_reader *reader, struct bytes env_key,
                            struct bytes *out_value, struct tl_fault *out_fault)
{
    return get(reader, env_key, true, out_value, out_fault);
}

static enum tl_err cursor_set(struct table_cursor *cursor, size_t at, struct tl_fault *out_fault)
{
    const struct mem_table_version *version = cursor->reader->version;
    cursor->is_there = at < version->items_count;
    if (!cursor->is_there) return TL_OK;
    cursor->env_key = buf_bytes(version->items[at].key);
    cursor->value = buf_bytes(version->items[at].value);
    return check_item(cursor->reader->table, &version->items[at], false, out_fault);
}

enum tl_err table_cursor_open(struct table_cursor *cursor, struct table_reader *reader,
                              struct bytes start, bool is_reverse, struct tl_fault *out_fault)
{
    TL_ASSERT(reader->version != NULL);
    *cursor = (struct table_cursor){.reader = reader, .is_reverse = is_reverse};
    /* Before the first item: SIZE_MAX, where nothing is either. */
    size_t at = version_search(reader->version, start) - (is_reverse ? 1 : 0);
    return cursor_set(cursor, at, out_fault);
}

enum tl_err table_cursor_next(struct table_cursor *cursor, struct tl_fault *out_fault)
{
    TL_ASSERT(cursor->is_there);
    size_t at = version_search(cursor->reader->version, cursor->env_key);
    return cursor_set(cursor, cursor->is_reverse ? at - 1 : at + 1, out_fault);
}

void table_cursor_close(struct table_cursor *cursor)
{
    cursor->reader = NULL;
}
