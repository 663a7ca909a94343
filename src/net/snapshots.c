/* snapshots.c - the thread that cuts and stages snapshots. Not the background thread: a cut takes
 * as long as it takes to read a table, and a lagging peer waits for the background thread's reads.
 *
 * It is given less of the processor than the others when there is not enough for all: a snapshot
 * that comes later costs nobody an answer. */

#include "net_internal.h"

void snapshots_carry_out(struct worker *worker, struct job_list *jobs)
{
    for (struct job *job; (job = job_list_pop(jobs)) != NULL;) {
        TL_ASSERT(job->kind == JOB_SNAPSHOT);
        job->err = node_snapshot_job_run(job->snapshot, &job->fault);
        completions_post_one(worker->completions, job);
    }
}
