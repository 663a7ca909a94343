/* worker.c - a thread, its queue, and the way of results back to the loop.
 *
 * A job is owned by exactly one side at a time: the loop makes it, the queue hands it to the
 * thread, the completions hand it back. Only list heads are ever touched by both, under a lock that
 * is held for a few instructions and never across I/O.
 */

#include "net_internal.h"

#include <sys/resource.h>

#include "trilith/error.h"

void job_list_push(struct job_list *list, struct job *job)
{
    job->next = NULL;
    if (list->last == NULL) {
        list->first = job;
    } else {
        list->last->next = job;
    }
    list->last = job;
}

struct job *job_list_pop(struct job_list *list)
{
    struct job *job = list->first;
    if (job != NULL) {
        list->first = job->next;
        list->last = list->first == NULL ? NULL : list->last;
        job->next = NULL;
    }
    return job;
}

void job_list_append(struct job_list *list, struct job_list *tail)
{
    if (tail->first == NULL) {
        return;
    }
    if (list->last == NULL) {
        list->first = tail->first;
    } else {
        list->last->next = tail->first;
    }
    list->last = tail->last;
    *tail = (struct job_list){NULL, NULL};
}

/* Locks of ours fail only when they are misused. */
static void lock_acquire(pthread_mutex_t *lock)
{
    int rc = pthread_mutex_lock(lock);
    TL_ASSERT(rc == 0);
}

static void lock_release(pthread_mutex_t *lock)
{
    int rc = pthread_mutex_unlock(lock);
    TL_ASSERT(rc == 0);
}

void completions_post(struct completions *completions, struct job_list *jobs)
{
    lock_acquire(&completions->lock);
    job_list_append(&completions->done, jobs);
    lock_release(&completions->lock);
    int rc = uv_async_send(&completions->async);
    TL_ASSERT(rc == 0);
}

void completions_post_one(struct completions *completions, struct job *job)
{
    struct job_list one = {NULL, NULL};
    job_list_push(&one, job);
    completions_post(completions, &one);
}

struct job_list completions_take(struct completions *completions)
{
    lock_acquire(&completions->lock);
    struct job_list done = completions->done;
    completions->done = (struct job_list){NULL, NULL};
    lock_release(&completions->lock);
    return done;
}

void worker_init(struct worker *worker, const char *name, struct completions *completions,
                 void (*carry_out)(struct worker *worker, struct job_list *jobs))
{
    *worker = (struct worker){.magic = WORKER_MAGIC,
                              .name = name,
                              .completions = completions,
                              .carry_out = carry_out,
                              .ended = {.kind = JOB_WORKER_ENDED}};
    int rc = pthread_mutex_init(&worker->lock, NULL);
    TL_ASSERT(rc == 0);
    rc = pthread_cond_init(&worker->has_work, NULL);
    TL_ASSERT(rc == 0);
}

void worker_deinit(struct worker *worker)
{
    TL_ASSERT(!worker->is_started);
    int rc = pthread_cond_destroy(&worker->has_work);
    TL_ASSERT(rc == 0);
    rc = pthread_mutex_destroy(&worker->lock);
    TL_ASSERT(rc == 0);
    worker->magic = 0;
}

/* Waits for jobs and takes all there are; false: stopped and nothing left. */
static bool worker_take(struct worker *worker, struct job_list *out_jobs)
{
    lock_acquire(&worker->lock);
    while (worker->queue.first == NULL && !worker->is_stopping) {
        int rc = pthread_cond_wait(&worker->has_work, &worker->lock);
        TL_ASSERT(rc == 0);
    }
    *out_jobs = worker->queue;
    worker->queue = (struct job_list){NULL, NULL};
    lock_release(&worker->lock);
    return out_jobs->first != NULL;
}

static void *worker_main(void *context)
{
    struct worker *worker = TL_CAST(worker, context, WORKER_MAGIC);
    if (worker->niceness > 0) {
        /* Of the calling thread only, on Linux. Refused: it runs like the others. */
        (void)setpriority(PRIO_PROCESS, 0, worker->niceness);
    }
    struct job_list jobs;
    while (worker_take(worker, &jobs)) {
        worker->carry_out(worker, &jobs);
        TL_ASSERT(jobs.first == NULL);
    }
    completions_post_one(worker->completions, &worker->ended);
    return NULL;
}

enum tl_err worker_start(struct worker *worker)
{
    TL_ASSERT(!worker->is_started);
    if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
        return TL_ERR_FULL;
    }
    worker->is_started = true;
    (void)pthread_setname_np(worker->thread, worker->name); /* only shown in tools */
    return TL_OK;
}

void worker_submit(struct worker *worker, struct job *job)
{
    lock_acquire(&worker->lock);
    bool was_empty = worker->queue.first == NULL;
    job_list_push(&worker->queue, job);
    lock_release(&worker->lock);
    if (was_empty) {
        int rc = pthread_cond_signal(&worker->has_work);
        TL_ASSERT(rc == 0);
    }
}

void worker_stop(struct worker *worker)
{
    lock_acquire(&worker->lock);
    worker->is_stopping = true;
    lock_release(&worker->lock);
    int rc = pthread_cond_signal(&worker->has_work);
    TL_ASSERT(rc == 0);
}

void worker_join(struct worker *worker)
{
    if (worker->is_started) {
        int rc = pthread_join(worker->thread, NULL);
        TL_ASSERT(rc == 0);
        worker->is_started = false;
    }
}
