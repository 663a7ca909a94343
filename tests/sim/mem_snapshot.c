/* mem_snapshot.c - what snapshots stand on (spool.h, table_builder.h) over the simulated disks: cut
 * and stage themselves are the server's own. */

#include <stdlib.h>

#include "mem_disk.h"
#include "src/store/spool.h"
#include "src/store/table_builder.h"
#include "trilith/crash_point.h"

struct spool {
    struct mem_disk *disk;
    uint8_t *data;
    size_t count;
    size_t capacity;
};

enum tl_err spool_create(const char *dir, struct spool **out_spool, struct tl_fault *out_fault)
{
    struct mem_disk *disk = mem_disk_at(dir);
    enum tl_err err = mem_disk_may_write(disk, out_fault);
    if (err != TL_OK) return err;
    struct spool *spool = calloc(1, sizeof *spool);
    TL_ASSERT(spool != NULL);
    spool->disk = disk;
    *out_spool = spool;
    return TL_OK;
}

void spool_destroy(struct spool *spool)
{
    if (spool == NULL) return;
    free(spool->data);
    free(spool);
}

enum tl_err spool_append(struct spool *spool, struct bytes source, struct tl_fault *out_fault)
{
    enum tl_err err = mem_disk_may_write(spool->disk, out_fault);
    if (err != TL_OK) return err;
    if (spool->count + source.count > spool->capacity) {
        spool->capacity = 2 * (spool->count + source.count);
        spool->data = realloc(spool->data, spool->capacity);
        TL_ASSERT(spool->data != NULL);
    }
    memcpy(spool->data + spool->count, source.data, source.count);
    spool->count += source.count;
    return TL_OK;
}

enum tl_err spool_read(struct spool *spool, uint64_t offset, uint8_t *out_bytes, size_t count,
                       struct tl_fault *out_fault)
{
    (void)out_fault;
    TL_ASSERT(offset + count <= spool->count);
    memcpy(out_bytes, spool->data + offset, count);
    return TL_OK;
}

/* The table is in memory until it is finished: a crash before leaves an empty directory. */
struct table_builder {
    struct mem_disk *disk;
    struct mem_table *durable;
    struct mem_table_version *version;
    size_t capacity;
    uint64_t bytes;
    bool is_begun;
};

enum tl_err table_builder_create(const char *dir, raft_group group, size_t map_bytes,
                                 struct table_builder **out_builder, struct tl_fault *out_fault)
{
    (void)group;
    (void)map_bytes;
    struct mem_disk *disk = mem_disk_at(dir);
    enum tl_err err = mem_disk_may_write(disk, out_fault);
    if (err != TL_OK) return err;
    struct table_builder *builder = calloc(1, sizeof *builder);
    TL_ASSERT(builder != NULL);
    builder->disk = disk;
    builder->durable = mem_disk_table(disk, dir);
    mem_table_version_release(TL_TAKE(&builder->durable->current));
    builder->version = calloc(1, sizeof *builder->version);
    TL_ASSERT(builder->version != NULL);
    builder->version->refs_count = 1;
    *out_builder = builder;
    return TL_OK;
}

void table_builder_destroy(struct table_builder *builder)
{
    if (builder == NULL) return;
    mem_table_version_release(builder->version);
    free(builder);
}

enum tl_err table_builder_begin(struct table_builder *builder, struct tl_fault *out_fault)
{
    TL_ASSERT(!builder->is_begun);
    builder->is_begun = true;
    return mem_disk_may_write(builder->disk, out_fault);
}

static void reserve_item(struct table_builder *builder)
{
    struct mem_table_version *version = builder->version;
    if (version->items_count < builder->capacity) return;
    builder->capacity = builder->capacity == 0 ? 64 : 2 * builder->capacity;
    version->items = realloc(version->items, builder->capacity * sizeof *version->items);
    TL_ASSERT(version->items != NULL);
}

enum tl_err table_builder_put(struct table_builder *builder, struct bytes env_key,
                              struct bytes value, struct tl_fault *out_fault)
{
    TL_ASSERT(builder->is_begun);
    builder->bytes += env_key.count + value.count;
    if (!mem_disk_takes(builder->disk, builder->bytes)) {
        tl_fault_set(out_fault, builder->durable->path, UINT32_MAX, 0, "no space left");
        return TL_ERR_NO_SPACE;
    }
    bool is_record = env_key.data[0] == ENV_KEY_RECORD;
    if (is_record && mem_disk_hooks.mutation == MEM_MUTATION_NO_RECORDS) return TL_OK;
    struct mem_table_version *version = builder->version;
    reserve_item(builder);
    if (version->items_count > 0) {
        const struct buf *last = version->items[version->items_count - 1].key;
        TL_ASSERT(bytes_compare(buf_bytes(last), env_key) < 0);
    }
    version->items[version->items_count++] =
        (struct mem_table_item){.key = buf_copy(env_key), .value = buf_copy(value)};
    return TL_OK;
}

enum tl_err table_builder_commit(struct table_builder *builder, struct tl_fault *out_fault)
{
    TL_ASSERT(builder->is_begun);
    builder->is_begun = false;
    return mem_disk_may_write(builder->disk, out_fault);
}

/* The state row sorts before all others. */
static void insert_state(struct table_builder *builder, const struct group_state *state,
                         struct bytes conf)
{
    uint8_t meta[GROUP_STATE_BYTES_MAX];
    uint8_t kind = ENV_KEY_META;
    size_t count = group_state_encode(state, conf, meta);
    struct mem_table_version *version = builder->version;
    reserve_item(builder);
    if (version->items_count > 0) {
        memmove(version->items + 1, version->items, version->items_count * sizeof *version->items);
    }
    version->items[0] = (struct mem_table_item){.key = buf_copy(bytes_make(&kind, 1)),
                                                .value = buf_copy(bytes_make(meta, count))};
    version->items_count++;
    version->index = state->index;
}

enum tl_err table_builder_finish(struct table_builder *builder, const struct group_state *state,
                                 struct bytes conf, struct tl_fault *out_fault)
{
    insert_state(builder, state, conf);
    CRASH_POINT("stage-before-rename");
    enum tl_err err = mem_disk_may_write(builder->disk, out_fault);
    if (err != TL_OK) return err;
    builder->durable->current = TL_TAKE(&builder->version);
    CRASH_POINT("stage-before-dir-sync");
    return mem_disk_may_write(builder->disk, out_fault);
}
