/* pump_io.c - the node's I/O table. Every function only queues: none calls back into the node. */

#include "net_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

uint64_t clock_boottime_ns(void)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_BOOTTIME, &now);
    TL_ASSERT(rc == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_thread_cpu_ns(void)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    TL_ASSERT(rc == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct job *pump_job_acquire(struct pump *pump, enum job_kind kind)
{
    struct job *job = pump->jobs_free;
    if (job == NULL) {
        job = malloc(sizeof *job);
        TL_ASSERT(job != NULL);
    } else {
        pump->jobs_free = job->next;
    }
    job->next = NULL;
    job->kind = kind;
    job->batch = NULL;
    job->err = TL_OK;
    job->duration_ns = 0;
    job->fault = (struct tl_fault){.group = UINT32_MAX};
    return job;
}

void pump_job_release(struct pump *pump, struct job *job)
{
    job->next = pump->jobs_free;
    pump->jobs_free = job;
}

static uint64_t io_now_ns(void *context)
{
    (void)context;
    return clock_boottime_ns();
}

static uint64_t io_clock_us(void *context)
{
    (void)context;
    struct timespec now;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    TL_ASSERT(rc == 0);
    if (now.tv_sec < 0) return 0; /* a clock before 1970 must not look like one far ahead */
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void io_random(void *context, void *out_bytes, size_t count)
{
    (void)context;
    uint8_t *at = out_bytes;
    while (count > 0) {
        ssize_t got = getrandom(at, count, 0);
        TL_ASSERT(got > 0 || errno == EINTR); /* no other failure for a valid range */
        if (got > 0) {
            at += got;
            count -= (size_t)got;
        }
    }
}

static void io_log_commit(void *context, struct node_log_batch *batch)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    struct job *job = pump_job_acquire(pump, JOB_LOG_COMMIT);
    job->batch = batch;
    pump->metrics.log_queue_depth++;
    worker_submit(&pump->log_writer.worker, job);
}

static void io_flush(void *context, struct node_flush_job *flush)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    struct job *job = pump_job_acquire(pump, JOB_FLUSH);
    job->flush = flush;
    worker_submit(&pump->flusher, job);
}

static void io_log_read(void *context, struct node_log_read *read)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    struct job *job = pump_job_acquire(pump, JOB_LOG_READ);
    job->read = read;
    worker_submit(&pump->background.worker, job);
}

static void io_snapshot(void *context, struct node_snapshot_job *snapshot)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    struct job *job = pump_job_acquire(pump, JOB_SNAPSHOT);
    job->snapshot = snapshot;
    worker_submit(&pump->snapshots, job);
}

static bool io_send(void *context, raft_id peer, enum peer_class class, struct buf *frame)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    return transport_send(&pump->transport, peer, class, LANE_IN_ORDER, frame);
}

static bool io_send_urgent(void *context, raft_id peer, struct buf *frame)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    return transport_send(&pump->transport, peer, PEER_CLASS_RAFT, LANE_URGENT, frame);
}

static size_t io_backlog(void *context, raft_id peer)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    return transport_backlog(&pump->transport, peer);
}

static void io_set_peers(void *context, const struct store_id *cluster_id,
                         const struct member *members, uint32_t members_count)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    transport_set_peers(&pump->transport, cluster_id, members, members_count);
}

static void io_ask(void *context, const char *peer_address, struct buf *frame)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    transport_ask(&pump->transport, peer_address, frame);
}

static void io_set_timer(void *context, uint64_t deadline_ns)
{
    struct pump *pump = TL_CAST(pump, context, PUMP_MAGIC);
    turns_set_timer(pump, deadline_ns);
}

/* Ends the process without running anything else: an exit handler or another loop turn could let an
 * acknowledgement out that the broken storage does not back. */
static void io_fail(void *context, int exit_code, const struct tl_fault *fault)
{
    (void)context;
    log_fault(exit_code == 4 ? "storage_failed" : "refused", fault);
    _exit(exit_code);
}

static void io_log(void *context, enum log_level level, const char *event, const char *format,
                   va_list args)
{
    (void)context;
    log_event_v(level, event, format, args);
}

struct node_io pump_io(struct pump *pump)
{
    return (struct node_io){.context = pump,
                            .now_ns = io_now_ns,
                            .clock_us = io_clock_us,
                            .random = io_random,
                            .log_commit = io_log_commit,
                            .flush = io_flush,
                            .log_read = io_log_read,
                            .snapshot = io_snapshot,
                            .send = io_send,
                            .send_urgent = io_send_urgent,
                            .backlog = io_backlog,
                            .set_peers = io_set_peers,
                            .ask = io_ask,
                            .set_timer = io_set_timer,
                            .fail = io_fail,
                            .log = io_log};
}
