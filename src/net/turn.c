/* turn.c - when the node gets its turns.
 *
 *   timers   idle   prepare: turn if due, send, arm the timer   POLL   check: turn if due, send
 *                                                                ^ frames, requests, completions
 *
 * Whatever happens only marks a turn as due; the turn itself runs once after the poll on all that
 * the poll brought, so that one append op and a frame or two per peer carry it. Nothing polls: a
 * loop without events stays in the kernel until the node's deadline.
 *
 * The deadline is a timerfd and not a uv_timer. A uv_timer counts whole milliseconds of a clock
 * that stops while the machine sleeps, so a 2 ms deadline would be up to 1 ms late or, rounded the
 * other way, spin through the last one. A timerfd takes the absolute nanosecond of the very clock
 * node_io.now_ns reads. Setting it is a system call, so it is only ever moved forward: when it
 * fires before a deadline that has since been postponed, it is armed again and no turn is run.
 */

#include "net_internal.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void note_work(struct pump *pump)
{
    if (pump->work_since_ns == 0) {
        pump->work_since_ns = clock_boottime_ns();
    }
}

void pump_wake(struct pump *pump)
{
    note_work(pump);
    pump->is_turn_due = true;
}

void turns_set_timer(struct pump *pump, uint64_t deadline_ns)
{
    pump->deadline_ns = deadline_ns;
}

/* A deadline that has passed is consumed by the turn it makes due. */
static void notice_deadline(struct pump *pump)
{
    if (pump->deadline_ns != UINT64_MAX && pump->deadline_ns <= clock_boottime_ns()) {
        pump->deadline_ns = UINT64_MAX;
        pump->is_turn_due = true;
    }
}

static void turn(struct pump *pump)
{
    if (pump->stage >= PUMP_ENDING_WORKERS) {
        return;
    }
    notice_deadline(pump);
    if (pump->is_turn_due) {
        note_work(pump);
        pump->is_turn_due = false;
        node_turn(pump->node);
    }
    transport_work(&pump->transport);
    if (pump->on_handed_over != NULL && node_is_handed_over(pump->node)) {
        TL_TAKE (&pump->on_handed_over)(pump->on_handed_over_context);
    }
    if (pump->stage == PUMP_DRAINING && node_is_drained(pump->node)) {
        pump_on_drained(pump);
    }
}

static void on_check(uv_check_t *handle)
{
    struct pump *pump = TL_CAST(pump, handle->data, PUMP_MAGIC);
    turn(pump);
}

/* timer_fd fires at the deadline, or before it when the deadline was postponed meanwhile. */
static void arm_timer(struct pump *pump)
{
    if (pump->deadline_ns >= pump->armed_ns) {
        return;
    }
    uint64_t at_ns = TL_MAX(pump->deadline_ns, 1u); /* 0 would disarm */
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(at_ns / 1000000000u),
                                           .tv_nsec = (long)(at_ns % 1000000000u)}};
    int rc = timerfd_settime(pump->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    TL_ASSERT(rc == 0);
    pump->armed_ns = at_ns;
}

/* A turn is what the loop's thread does from one poll to the next, with the poll's callbacks. */
static void note_cpu(struct pump *pump)
{
    uint64_t cpu_ns = clock_thread_cpu_ns();
    if (pump->cpu_ns > 0) {
        histogram_add(&pump->metrics.loop_cpu_us, (cpu_ns - pump->cpu_ns) / 1000u);
    }
    pump->cpu_ns = cpu_ns;
}

static void on_idle(uv_idle_t *handle)
{
    (void)handle; /* being active is all it is for */
}

static void on_prepare(uv_prepare_t *handle)
{
    struct pump *pump = TL_CAST(pump, handle->data, PUMP_MAGIC);
    turn(pump);
    notice_deadline(pump);
    int rc = 0;
    if (pump->is_turn_due && pump->stage < PUMP_ENDING_WORKERS) {
        rc = uv_idle_start(&pump->idle, on_idle);
    } else {
        rc = uv_idle_stop(&pump->idle);
        arm_timer(pump);
    }
    TL_ASSERT(rc == 0);
    if (pump->work_since_ns != 0) {
        uint64_t length_ns = clock_boottime_ns() - pump->work_since_ns;
        histogram_add(&pump->metrics.loop_lag_us, length_ns / 1000u);
        pump->work_since_ns = 0;
    }
    note_cpu(pump);
}

static void on_timer(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    struct pump *pump = TL_CAST(pump, handle->data, PUMP_MAGIC);
    uint64_t expirations_count;
    ssize_t got = read(pump->timer_fd, &expirations_count, sizeof expirations_count);
    TL_ASSERT(got == (ssize_t)sizeof expirations_count || errno == EAGAIN || errno == EINTR);
    /* The deadline itself is looked at by the turn after the poll. */
    pump->armed_ns = UINT64_MAX;
}

static void complete(struct pump *pump, struct job *job)
{
    switch (job->kind) {
    case JOB_LOG_COMMIT:
        TL_ASSERT(pump->metrics.log_queue_depth > 0);
        pump->metrics.log_queue_depth--;
        histogram_add(&pump->metrics.log_commit_us, job->duration_ns / 1000u);
        node_on_log_done(pump->node, job->batch, job->err, &job->fault);
        break;
    case JOB_FLUSH:
        node_on_flush_done(pump->node, job->flush, job->err, &job->fault);
        break;
    case JOB_LOG_READ:
        node_on_log_read_done(pump->node, job->read, job->err, &job->fault);
        break;
    case JOB_SNAPSHOT:
        node_on_snapshot_done(pump->node, job->snapshot, job->err, &job->fault);
        break;
    case JOB_WORKER_ENDED: /* part of its worker */
        pump_on_worker_ended(pump);
        return;
    }
    pump_job_release(pump, job);
    pump_wake(pump);
}

static void on_completions(uv_async_t *handle)
{
    struct pump *pump = TL_CAST(pump, handle->data, PUMP_MAGIC);
    note_work(pump);
    struct job_list done = completions_take(&pump->completions);
    for (struct job *job; (job = job_list_pop(&done)) != NULL;) {
        complete(pump, job);
    }
}

enum tl_err turns_open(struct pump *pump)
{
    pump->armed_ns = UINT64_MAX;
    pump->is_turn_due = true; /* the first turn: node_open() sends nothing */
    pump->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (pump->timer_fd < 0) {
        return TL_ERR_IO;
    }
    if (uv_poll_init(pump->loop, &pump->timer, pump->timer_fd) != 0) {
        return TL_ERR_IO;
    }
    pump_hold_handle(pump, (uv_handle_t *)&pump->timer);
    if (uv_async_init(pump->loop, &pump->completions.async, on_completions) != 0) {
        return TL_ERR_IO;
    }
    pump_hold_handle(pump, (uv_handle_t *)&pump->completions.async);
    int rc = uv_poll_start(&pump->timer, UV_READABLE, on_timer);
    if (rc != 0) {
        return TL_ERR_IO;
    }
    /* These cannot fail: they only join lists of the loop. */
    rc = uv_prepare_init(pump->loop, &pump->prepare);
    TL_ASSERT(rc == 0);
    pump_hold_handle(pump, (uv_handle_t *)&pump->prepare);
    rc = uv_check_init(pump->loop, &pump->check);
    TL_ASSERT(rc == 0);
    pump_hold_handle(pump, (uv_handle_t *)&pump->check);
    rc = uv_idle_init(pump->loop, &pump->idle);
    TL_ASSERT(rc == 0);
    pump_hold_handle(pump, (uv_handle_t *)&pump->idle);
    rc = uv_prepare_start(&pump->prepare, on_prepare);
    TL_ASSERT(rc == 0);
    rc = uv_check_start(&pump->check, on_check);
    TL_ASSERT(rc == 0);
    return TL_OK;
}

void turns_close(struct pump *pump)
{
    pump_close_handle(pump, (uv_handle_t *)&pump->prepare);
    pump_close_handle(pump, (uv_handle_t *)&pump->check);
    pump_close_handle(pump, (uv_handle_t *)&pump->idle);
    pump_close_handle(pump, (uv_handle_t *)&pump->completions.async);
    pump_close_handle(pump, (uv_handle_t *)&pump->timer);
    if (pump->timer_fd >= 0) {
        (void)close(pump->timer_fd); /* nothing was written to it; uv_close() has left epoll */
        pump->timer_fd = -1;
    }
}
