/* snapshot_cut.c - from a table's transaction to a spool of chunks.
 *
 * Chunks stand in the spool as they are sent, chunk 1 first; chunk 0 is made when it is asked for.
 * The id can be written into every chunk as it goes by, because it follows from the state row.
 */

#include "trilith/snapshot.h"

#include <stdlib.h>

#include "spool.h"
#include "table_internal.h"
#include "table_sums.h"

struct snapshot {
    struct snapshot_info info;
    struct spool *spool;
    uint64_t *ends; /* ends[i]: where chunk i + 1 ends in the spool; chunks_count - 1 of them */
    uint32_t ends_capacity;
};

/* One cut at work. */
struct cut {
    const struct snapshot_cut_options *options;
    struct table_reader *reader;
    struct snapshot *snapshot;
    struct table_sums sums;
    struct buf *chunk; /* being filled, behind room for its header */
    uint32_t chunk_items_count;
    struct tl_fault *fault;
};

static void chunk_clear(struct cut *cut)
{
    cut->chunk->count = SNAPSHOT_CHUNK_HEADER_BYTES;
    cut->chunk_items_count = 0;
}

static void add_end(struct snapshot *snapshot, uint64_t end)
{
    uint32_t count = snapshot->info.chunks_count - 1;
    if (count == snapshot->ends_capacity) {
        snapshot->ends_capacity = count == 0 ? 256 : 2 * count;
        snapshot->ends =
            realloc(snapshot->ends, snapshot->ends_capacity * sizeof snapshot->ends[0]);
        TL_ASSERT(snapshot->ends != NULL);
    }
    snapshot->ends[count] = end;
    snapshot->info.chunks_count++;
}

/* Seals the chunk that was filled and appends it to the spool. */
static enum tl_err write_chunk(struct cut *cut)
{
    if (cut->chunk_items_count == 0) {
        return TL_OK;
    }
    if (cut->options->is_stopped != NULL && cut->options->is_stopped(cut->options->context)) {
        return TL_ERR_CANCELED;
    }
    struct snapshot_info *info = &cut->snapshot->info;
    struct bytes bytes = buf_bytes(cut->chunk);
    const struct snapshot_chunk chunk = {
        .id = info->id,
        .group = info->group,
        .number = info->chunks_count,
        .items_count = cut->chunk_items_count,
        .offset = info->bytes,
        .payload = bytes_make(bytes.data + SNAPSHOT_CHUNK_HEADER_BYTES,
                              bytes.count - SNAPSHOT_CHUNK_HEADER_BYTES),
    };
    snapshot_chunk_seal(&chunk, cut->chunk->data);
    enum tl_err err = spool_append(cut->snapshot->spool, bytes, cut->fault);
    if (err != TL_OK) {
        return err;
    }
    info->bytes += bytes.count;
    add_end(cut->snapshot, info->bytes);
    chunk_clear(cut);
    return TL_OK;
}

static enum tl_err fail(const struct cut *cut, enum tl_err err, const char *reason)
{
    const struct snapshot_info *info = &cut->snapshot->info;
    tl_fault_set(cut->fault, table_dir(table_reader_table(cut->reader)), info->group,
                 info->state.index, "%s", reason);
    return err;
}

static enum tl_err add_item(struct cut *cut, struct bytes env_key, struct bytes value)
{
    const char *reason = NULL;
    enum tl_err err = table_sums_add(&cut->sums, env_key, value, &reason);
    if (err != TL_OK) {
        return fail(cut, err, reason);
    }
    struct snapshot_info *info = &cut->snapshot->info;
    size_t item_bytes = snapshot_item_bytes(env_key, value);
    size_t payload_bytes = cut->chunk->count - SNAPSHOT_CHUNK_HEADER_BYTES;
    if (payload_bytes + item_bytes > info->chunk_limit) {
        err = write_chunk(cut);
        if (err != TL_OK) {
            return err;
        }
    }
    snapshot_item_write(cut->chunk->data + cut->chunk->count, env_key, value);
    cut->chunk->count += (uint32_t)item_bytes;
    cut->chunk_items_count++;
    info->items_count++;
    return TL_OK;
}

static enum tl_err cut_items(struct cut *cut)
{
    struct table_cursor cursor;
    enum tl_err err = table_cursor_open(&cursor, cut->reader, bytes_make(NULL, 0), cut->fault);
    if (err != TL_OK) {
        return err;
    }
    while (err == TL_OK && cursor.is_there) {
        if (cursor.env_key.data[0] != ENV_KEY_META) {
            err = add_item(cut, cursor.env_key, cursor.value);
        }
        if (err == TL_OK) err = table_cursor_next(&cursor, cut->fault);
    }
    table_cursor_close(&cursor);
    if (err == TL_OK) err = write_chunk(cut);
    if (err != TL_OK) {
        return err;
    }
    const char *reason = table_sums_reason(&cut->sums, &cut->snapshot->info.state);
    return reason == NULL ? TL_OK : fail(cut, TL_ERR_CORRUPT, reason);
}

static enum tl_err cut_steps(struct cut *cut)
{
    struct snapshot_info *info = &cut->snapshot->info;
    raft_index index;
    enum tl_err err = table_reader_begin(cut->reader, &index, cut->fault);
    if (err == TL_OK) {
        err = table_reader_state(cut->reader, &info->state, info->conf, &info->conf_bytes,
                                 cut->fault);
    }
    if (err == TL_OK) err = spool_create(cut->options->dir, &cut->snapshot->spool, cut->fault);
    if (err != TL_OK) {
        return err;
    }
    info->id = snapshot_id(info->group, info->chunk_limit, &info->state,
                           bytes_make(info->conf, info->conf_bytes));
    return cut_items(cut);
}

enum tl_err snapshot_cut(const struct snapshot_cut_options *options, struct table_reader *reader,
                         struct snapshot **out_snapshot, struct tl_fault *out_fault)
{
    TL_ASSERT(options->dir != NULL);
    TL_ASSERT(reader != NULL);
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);
    TL_ASSERT(snapshot != NULL);
    snapshot->info.group = options->group;
    snapshot->info.chunk_limit =
        options->chunk_limit == 0 ? SNAPSHOT_CHUNK_LIMIT_DEFAULT : options->chunk_limit;
    TL_ASSERT(snapshot->info.chunk_limit >= SNAPSHOT_CHUNK_LIMIT_MIN);
    TL_ASSERT(snapshot->info.chunk_limit <= SNAPSHOT_CHUNK_LIMIT_MAX);
    snapshot->info.chunks_count = 1;

    struct cut cut = {
        .options = options,
        .reader = reader,
        .snapshot = snapshot,
        .chunk = buf_create(SNAPSHOT_CHUNK_BYTES_MAX),
        .fault = out_fault,
    };
    chunk_clear(&cut);
    enum tl_err err = cut_steps(&cut);
    table_reader_destroy(reader);
    buf_release(cut.chunk);
    if (err != TL_OK) {
        snapshot_destroy(snapshot);
        return err;
    }
    *out_snapshot = snapshot;
    return TL_OK;
}

void snapshot_destroy(struct snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    spool_destroy(snapshot->spool);
    free(snapshot->ends);
    free(snapshot);
}

const struct snapshot_info *snapshot_get_info(const struct snapshot *snapshot)
{
    return &snapshot->info;
}

enum tl_err snapshot_read(struct snapshot *snapshot, uint32_t number, size_t head_bytes,
                          struct buf **out_chunk, struct tl_fault *out_fault)
{
    TL_ASSERT(number < snapshot->info.chunks_count);
    if (number == 0) {
        *out_chunk = snapshot_info_encode(&snapshot->info, head_bytes);
        return TL_OK;
    }
    uint64_t offset = number == 1 ? 0 : snapshot->ends[number - 2];
    size_t count = snapshot->ends[number - 1] - offset;
    struct buf *buf = buf_create(head_bytes + count);
    buf->count = (uint32_t)(head_bytes + count);
    enum tl_err err = spool_read(snapshot->spool, offset, buf->data + head_bytes, count, out_fault);
    struct snapshot_chunk chunk;
    if (err == TL_OK &&
        snapshot_chunk_decode(bytes_make(buf->data + head_bytes, count), &chunk) != TL_OK) {
        tl_fault_set(out_fault, "spool", snapshot->info.group, snapshot->info.state.index,
                     "chunk %u of a spooled snapshot fails its checksum", number);
        err = TL_ERR_IO;
    }
    if (err != TL_OK) {
        buf_release(buf);
        return err;
    }
    TL_ASSERT(chunk.number == number);
    *out_chunk = buf;
    return TL_OK;
}
