/* flusher.c - the thread that owns the tables' write transactions. It is given frozen generations
 * and sees nothing else of the node. */

#include "net_internal.h"

#include "trilith/table.h"

void flusher_carry_out(struct worker *worker, struct job_list *jobs)
{
    for (struct job *job; (job = job_list_pop(jobs)) != NULL;) {
        TL_ASSERT(job->kind == JOB_FLUSH);
        job->err = table_flush(job->flush->table, job->flush->generation, &job->fault);
        completions_post_one(worker->completions, job);
    }
}
