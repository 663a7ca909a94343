/* log_writer.c - the thread that owns the log env's write transaction.
 *
 * Group commit: while one transaction is being flushed the next batches queue up; the writer then
 * takes all of them into one. It never waits for more to come: on an idle system that would only
 * add latency, and on a busy one the flush itself is the wait.
 */

#include "net_internal.h"

#include "trilith/log_store.h"

/* Moves batches from `jobs` to `part` until the next would not fit; returns their ops. One batch is
 * used in place, several are put side by side. */
static struct log_op *gather(struct log_writer *writer, struct job_list *jobs,
                             struct job_list *part, uint32_t *out_ops_count)
{
    uint32_t count = 0;
    while (jobs->first != NULL) {
        const struct node_log_batch *batch = jobs->first->batch;
        TL_ASSERT(batch->ops_count > 0);
        TL_ASSERT(batch->ops_count <= NODE_GROUPS_MAX);
        if (count + batch->ops_count > LOG_WRITER_OPS_MAX) {
            break;
        }
        memcpy(writer->ops + count, batch->ops, batch->ops_count * sizeof batch->ops[0]);
        count += batch->ops_count;
        job_list_push(part, job_list_pop(jobs));
    }
    *out_ops_count = count;
    return part->first == part->last ? part->first->batch->ops : writer->ops;
}

/* What the commit said about each op goes back to the batch the op came from. */
static void scatter(const struct log_writer *writer, const struct job_list *part)
{
    const struct log_op *from = writer->ops;
    for (struct job *job = part->first; job != NULL; job = job->next) {
        struct node_log_batch *batch = job->batch;
        for (uint32_t i = 0; i < batch->ops_count; i++, from++) {
            batch->ops[i].out_has_base = from->out_has_base;
            batch->ops[i].out_base = from->out_base;
        }
    }
}

void log_writer_carry_out(struct worker *worker, struct job_list *jobs)
{
    struct log_writer *writer = TL_CONTAINER_OF(worker, struct log_writer, worker);
    while (jobs->first != NULL) {
        struct job_list part = {NULL, NULL};
        uint32_t ops_count;
        struct log_op *ops = gather(writer, jobs, &part, &ops_count);
        struct tl_fault fault = {.index = 0};
        uint64_t began_ns = clock_boottime_ns();
        enum tl_err err = log_store_commit(writer->store, ops, ops_count, &fault);
        uint64_t duration_ns = clock_boottime_ns() - began_ns;
        if (ops == writer->ops) {
            scatter(writer, &part);
        }
        for (struct job *job = part.first; job != NULL; job = job->next) {
            job->err = err;
            job->duration_ns = duration_ns;
            if (err != TL_OK) {
                job->fault = fault;
            }
        }
        /* After an error the store is latched, so what is left fails the same way; the node ends
         * the process at the first one it is told of. */
        completions_post(worker->completions, &part);
    }
}
