/* snapshot_stage.c - from chunks to a table that is complete and durable beside the one in use.
 *
 * A chunk is looked at as a whole before anything of it is written, so that one that is refused has
 * changed nothing. What is written is one batch: resuming is asking for `next` again.
 */

#include "trilith/snapshot.h"

#include <stdlib.h>

#include "table_builder.h"
#include "table_sums.h"
#include "trilith/crash_point.h"

struct snapshot_stage {
    struct snapshot_info info;
    struct table_builder *builder;
    struct table_sums sums;
    uint32_t next;        /* number of the chunk wanted */
    uint64_t bytes;       /* of the chunks taken */
    uint64_t items_count; /* taken */
    bool is_broken;
    char *dir;
};

static void stage_check(const struct snapshot_stage *stage)
{
    TL_ASSERT(stage->next >= 1);
    TL_ASSERT(stage->next <= stage->info.chunks_count);
    TL_ASSERT(stage->items_count <= stage->info.items_count);
    TL_ASSERT(stage->bytes <= stage->info.bytes);
    TL_ASSERT(stage->items_count ==
              stage->sums.rows_count + stage->sums.records_count + stage->sums.queue_items_count);
}

static enum tl_err refuse(const struct snapshot_stage *stage, enum tl_err err, const char *reason,
                          struct tl_fault *fault)
{
    tl_fault_set(fault, stage->dir, stage->info.group, stage->info.state.index, "%s", reason);
    return err;
}

static void stage_free(struct snapshot_stage *stage)
{
    table_builder_destroy(stage->builder);
    free(stage->dir);
    free(stage);
}

enum tl_err snapshot_stage_create(const struct snapshot_stage_options *options, struct bytes chunk,
                                  struct snapshot_stage **out_stage, struct tl_fault *out_fault)
{
    TL_ASSERT(options->dir != NULL);
    struct snapshot_stage *stage = calloc(1, sizeof *stage);
    TL_ASSERT(stage != NULL);
    stage->next = 1;
    stage->dir = strdup(options->dir);
    TL_ASSERT(stage->dir != NULL);
    enum tl_err err = snapshot_info_decode(chunk, &stage->info);
    if (err != TL_OK) {
        (void)refuse(stage, err, "this does not begin a snapshot", out_fault);
    } else if (stage->info.group != options->group) {
        err = refuse(stage, TL_ERR_FOREIGN, "a snapshot of another group", out_fault);
    } else {
        err = table_builder_create(options->dir, options->group, options->map_bytes,
                                   &stage->builder, out_fault);
    }
    if (err != TL_OK) {
        stage_free(stage);
        return err;
    }
    stage_check(stage);
    *out_stage = stage;
    CRASH_POINT("stage-begun");
    return TL_OK;
}

uint32_t snapshot_stage_next(const struct snapshot_stage *stage)
{
    return stage->next;
}

/* Whether this is the chunk that is wanted. */
static enum tl_err check_chunk(const struct snapshot_stage *stage,
                               const struct snapshot_chunk *chunk, struct tl_fault *fault)
{
    const struct snapshot_info *info = &stage->info;
    if (chunk->group != info->group || !hash_equal(chunk->id, info->id)) {
        return refuse(stage, TL_ERR_FOREIGN, "a chunk of another snapshot", fault);
    }
    if (chunk->number != stage->next || stage->next == info->chunks_count) {
        return refuse(stage, TL_ERR_OUT_OF_ORDER, "not the chunk that is wanted", fault);
    }
    uint64_t chunk_bytes = SNAPSHOT_CHUNK_HEADER_BYTES + chunk->payload.count;
    if (chunk->offset != stage->bytes || chunk->items_count == 0 ||
        chunk_bytes > info->bytes - stage->bytes ||
        chunk->items_count > info->items_count - stage->items_count) {
        return refuse(stage, TL_ERR_INVALID, "a chunk is not where chunk 0 says", fault);
    }
    return TL_OK;
}

/* Adds the chunk's items to *sums. */
static enum tl_err check_items(const struct snapshot_stage *stage,
                               const struct snapshot_chunk *chunk, struct table_sums *sums,
                               struct tl_fault *fault)
{
    struct reader reader = reader_make(chunk->payload);
    for (uint32_t i = 0; i < chunk->items_count; i++) {
        struct bytes env_key;
        struct bytes value;
        if (!snapshot_item_read(&reader, &env_key, &value)) {
            return refuse(stage, TL_ERR_INVALID, "a chunk's items are cut short", fault);
        }
        const char *reason = NULL;
        enum tl_err err = table_sums_add(sums, env_key, value, &reason);
        if (err != TL_OK) {
            err = err == TL_ERR_NEWER_FORMAT ? err : TL_ERR_INVALID;
            return refuse(stage, err, reason, fault);
        }
    }
    if (!reader_is_done(&reader)) {
        return refuse(stage, TL_ERR_INVALID, "a chunk has more items than it says", fault);
    }
    return TL_OK;
}

static enum tl_err put_items(struct snapshot_stage *stage, const struct snapshot_chunk *chunk,
                             struct tl_fault *fault)
{
    enum tl_err err = table_builder_begin(stage->builder, fault);
    struct reader reader = reader_make(chunk->payload);
    for (uint32_t i = 0; i < chunk->items_count && err == TL_OK; i++) {
        struct bytes env_key;
        struct bytes value;
        bool is_item = snapshot_item_read(&reader, &env_key, &value);
        TL_ASSERT(is_item); /* check_items() has read it */
        err = table_builder_put(stage->builder, env_key, value, fault);
    }
    return err == TL_OK ? table_builder_commit(stage->builder, fault) : err;
}

enum tl_err snapshot_stage_write(struct snapshot_stage *stage, struct bytes chunk,
                                 struct tl_fault *out_fault)
{
    TL_ASSERT(!stage->is_broken);
    stage_check(stage);
    struct snapshot_chunk decoded;
    enum tl_err err = snapshot_chunk_decode(chunk, &decoded);
    if (err != TL_OK) {
        return refuse(stage, err, "a chunk fails its checksum", out_fault);
    }
    struct table_sums sums = stage->sums;
    err = check_chunk(stage, &decoded, out_fault);
    if (err == TL_OK) err = check_items(stage, &decoded, &sums, out_fault);
    if (err != TL_OK) {
        return err;
    }
    err = put_items(stage, &decoded, out_fault);
    if (err != TL_OK) {
        stage->is_broken = true;
        return err;
    }
    stage->sums = sums;
    stage->next++;
    stage->bytes += chunk.count;
    stage->items_count += decoded.items_count;
    stage_check(stage);
    CRASH_POINT("stage-chunk");
    return TL_OK;
}

/* All that chunk 0 has promised. */
static enum tl_err check_whole(const struct snapshot_stage *stage, struct tl_fault *fault)
{
    const struct snapshot_info *info = &stage->info;
    if (stage->next != info->chunks_count) {
        return refuse(stage, TL_ERR_OUT_OF_ORDER, "chunks are missing", fault);
    }
    if (stage->bytes != info->bytes || stage->items_count != info->items_count) {
        return refuse(stage, TL_ERR_INVALID, "the chunks are less than chunk 0 says", fault);
    }
    const char *reason = table_sums_reason(&stage->sums, &info->state);
    return reason == NULL ? TL_OK : refuse(stage, TL_ERR_INVALID, reason, fault);
}

enum tl_err snapshot_stage_finish(struct snapshot_stage *stage, struct tl_fault *out_fault)
{
    TL_ASSERT(!stage->is_broken);
    stage_check(stage);
    enum tl_err err = check_whole(stage, out_fault);
    if (err == TL_OK) {
        CRASH_POINT("stage-before-sync");
        err = table_builder_finish(stage->builder, &stage->info.state,
                                   bytes_make(stage->info.conf, stage->info.conf_bytes), out_fault);
    }
    if (err != TL_OK) {
        snapshot_stage_abort(stage);
        return err;
    }
    stage_free(stage);
    CRASH_POINT("stage-done");
    return TL_OK;
}

void snapshot_stage_abort(struct snapshot_stage *stage)
{
    if (stage == NULL) {
        return;
    }
    table_builder_destroy(TL_TAKE(&stage->builder));
    enum tl_err err = table_delete(stage->dir, NULL);
    (void)err; /* what is left, the next start deletes */
    stage_free(stage);
}
