/* node_snapshot_job.c - what the snapshot thread does. It sees a job and nothing else of the node.
 */

#include "node_internal.h"

#include <stdatomic.h>

void node_snapshot_give(struct node *node, struct node_snapshot_job *job,
                        enum snapshot_job_kind kind)
{
    TL_ASSERT(!job->is_out);
    job->kind = kind;
    job->is_out = true;
    job->io = &node->io;
    job->began_ns = node->now_ns;
    atomic_store(&job->is_canceled, false);
    node->io.snapshot(node->io.context, job);
}

void node_snapshot_job_clear(struct node_snapshot_job *job)
{
    table_reader_destroy(TL_TAKE(&job->reader));
    snapshot_destroy(TL_TAKE(&job->snapshot));
    snapshot_stage_abort(TL_TAKE(&job->stage));
    table_close(TL_TAKE(&job->table));
    buf_release(TL_TAKE(&job->chunk));
}

const char *node_snapshot_reason(enum tl_err err, const struct tl_fault *fault)
{
    bool has_reason = fault != NULL && fault->reason[0] != '\0';
    return has_reason ? fault->reason : tl_err_text(err);
}

uint64_t node_snapshot_cut_ns_max(uint64_t table_bytes)
{
    return SNAPSHOT_CUT_NS + table_bytes / SEND_RATE_MIN * 1000000000;
}

static bool cut_is_stopped(void *context)
{
    struct node_snapshot_job *job = context;
    uint64_t now_ns = job->io->now_ns(job->io->context);
    if (atomic_load(&job->is_canceled)) {
        job->stop_reason = "not wanted any more";
    } else if (data_dir_free_bytes(job->data_dir) < job->free_bytes_min) {
        job->stop_reason = "too little space is left";
    } else if (now_ns > job->began_ns + job->cut_ns_max) {
        job->stop_reason = "the cut took too long";
    }
    return job->stop_reason != NULL;
}

static enum tl_err cut(struct node_snapshot_job *job, struct tl_fault *out_fault)
{
    job->began_ns = job->io->now_ns(job->io->context); /* without the wait for the thread */
    job->stop_reason = NULL;
    const struct snapshot_cut_options options = {
        .dir = job->dir,
        .group = job->group,
        .chunk_limit = job->chunk_limit,
        .is_stopped = cut_is_stopped,
        .context = job,
    };
    enum tl_err err = snapshot_cut(&options, TL_TAKE(&job->reader), &job->snapshot, out_fault);
    if (job->stop_reason != NULL) {
        tl_fault_set(out_fault, job->dir, job->group, 0, "%s", job->stop_reason);
    }
    return err;
}

/* Sealed here: hashing a chunk takes as long as a short turn of the loop. */
static enum tl_err read_chunk(struct node_snapshot_job *job, struct tl_fault *out_fault)
{
    enum tl_err err =
        snapshot_read(job->snapshot, job->number, FRAME_HEADER_BYTES, &job->chunk, out_fault);
    if (err == TL_OK) frame_seal(job->chunk, FRAME_SNAPSHOT_CHUNK);
    return err;
}

static enum tl_err stage(struct node_snapshot_job *job, struct tl_fault *out_fault)
{
    enum tl_err err =
        data_dir_table_make(job->data_dir, job->table_name, job->dir, sizeof job->dir, out_fault);
    if (err != TL_OK) return err;
    const struct snapshot_stage_options options = {
        .dir = job->dir,
        .group = job->group,
        .map_bytes = job->map_bytes + job->map_headroom_bytes,
    };
    return snapshot_stage_create(&options, buf_bytes(job->chunk), &job->stage, out_fault);
}

static enum tl_err finish(struct node_snapshot_job *job, struct tl_fault *out_fault)
{
    enum tl_err err = snapshot_stage_finish(TL_TAKE(&job->stage), out_fault);
    if (err != TL_OK) return err;
    const struct table_options options = {
        .dir = job->dir,
        .group = job->group,
        .map_bytes = job->map_bytes,
        .map_headroom_bytes = job->map_headroom_bytes,
        .readers_max = NODE_TABLE_READERS_MAX,
    };
    err = table_open(&options, &job->table, out_fault);
    if (err != TL_OK) {
        /* A whole copy of the table would be in the way of the next one. */
        enum tl_err delete_err = table_delete(job->dir, NULL);
        (void)delete_err; /* what is left, the next start deletes */
    }
    return err;
}

static enum tl_err abandon(struct node_snapshot_job *job, struct tl_fault *out_fault)
{
    snapshot_stage_abort(TL_TAKE(&job->stage));
    if (job->table == NULL) return TL_OK;
    table_close(TL_TAKE(&job->table));
    return table_delete(job->dir, out_fault);
}

enum tl_err node_snapshot_job_run(struct node_snapshot_job *job, struct tl_fault *out_fault)
{
    switch (job->kind) {
    case SNAPSHOT_JOB_CUT:
        return cut(job, out_fault);
    case SNAPSHOT_JOB_READ:
        return read_chunk(job, out_fault);
    case SNAPSHOT_JOB_RELEASE:
        snapshot_destroy(TL_TAKE(&job->snapshot));
        return TL_OK;
    case SNAPSHOT_JOB_STAGE:
        return stage(job, out_fault);
    case SNAPSHOT_JOB_WRITE:
        return snapshot_stage_write(job->stage, buf_bytes(job->chunk), out_fault);
    case SNAPSHOT_JOB_FINISH:
        return finish(job, out_fault);
    case SNAPSHOT_JOB_ABORT:
        return abandon(job, out_fault);
    }
    TL_ASSERT(false);
    return TL_ERR_INVALID;
}

/* ---- back on the loop ---- */

void node_on_snapshot_done(struct node *node, struct node_snapshot_job *job, enum tl_err err,
                           const struct tl_fault *fault)
{
    node_enter(node);
    TL_ASSERT(job->is_out);
    job->is_out = false;
    if (node->is_failed) return; /* node_close() gives back what is in it */
    if (job == &node->sending.job) {
        node_send_done(node, err, fault);
    } else if (job == &node->retiring) {
        node_install_retired(node, err, fault);
    } else {
        node_receive_done(node, TL_CONTAINER_OF(job, struct node_receiving, job), err, fault);
    }
}
