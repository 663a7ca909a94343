/* background.c - the thread that reads old log entries: for peers that lag, for the replay after a
 * start, for clients, and to check them. Its read transaction is over after each job
 * (log_reader_read), so a slow peer never pins the log env's pages. */

#include "net_internal.h"

#include "trilith/log_store.h"

void background_carry_out(struct worker *worker, struct job_list *jobs)
{
    struct background *background = TL_CONTAINER_OF(worker, struct background, worker);
    for (struct job *job; (job = job_list_pop(jobs)) != NULL;) {
        TL_ASSERT(job->kind == JOB_LOG_READ);
        job->err = node_log_read_carry_out(job->read, background->reader, &job->fault);
        completions_post_one(worker->completions, job);
    }
}
