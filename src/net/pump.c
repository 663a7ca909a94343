/* pump.c - opening, stopping and closing.
 *
 *   RUNNING --pump_stop--> DRAINING --drained or timeout--> ENDING_WORKERS --all ended--> CLOSING
 *                                                             --all handles closed--> CLOSED
 *
 * pump_hand_over() comes before and changes nothing here: the node serves until pump_stop().
 *
 * A node never loses a job: threads finish what they were given before they end, and what they
 * finished is told to the node before its handles close.
 */

#include "net_internal.h"

#include <stdlib.h>
#include <string.h>

void pump_check(const struct pump *pump)
{
    TL_ASSERT(pump->magic == PUMP_MAGIC);
    TL_ASSERT(pump->loop != NULL);
    TL_ASSERT(pump->stage <= PUMP_CLOSED);
    TL_ASSERT(pump->armed_ns > 0);
    TL_ASSERT((pump->on_stopped != NULL) == (pump->stage != PUMP_RUNNING));
    if (pump->stage == PUMP_CLOSED) {
        TL_ASSERT(pump->holds_count == 0);
        TL_ASSERT(!pump->log_writer.worker.is_started);
        TL_ASSERT(!pump->flusher.is_started);
        TL_ASSERT(!pump->background.worker.is_started);
        TL_ASSERT(!pump->snapshots.is_started);
    }
}

void pump_hold(struct pump *pump)
{
    TL_ASSERT(pump->stage <= PUMP_CLOSING);
    pump->holds_count++;
}

void pump_let_go(struct pump *pump)
{
    TL_ASSERT(pump->holds_count > 0);
    pump->holds_count--;
    if (pump->holds_count == 0 && pump->stage == PUMP_CLOSING) {
        pump->stage = PUMP_CLOSED;
        pump_check(pump);
        pump->on_stopped(pump->on_stopped_context);
    }
}

void pump_hold_handle(struct pump *pump, uv_handle_t *handle)
{
    handle->data = pump;
    pump_hold(pump);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct pump *pump = TL_CAST(pump, handle->data, PUMP_MAGIC);
    handle->data = NULL;
    pump_let_go(pump);
}

void pump_close_handle(struct pump *pump, uv_handle_t *handle)
{
    TL_ASSERT(handle->data == NULL || handle->data == pump);
    if (handle->data != NULL && !uv_is_closing(handle)) {
        uv_close(handle, on_handle_closed);
    }
}

static struct pump *pump_create(struct uv_loop_s *loop)
{
    struct pump *pump = calloc(1, sizeof *pump); /* zeroed: a handle without data is not open */
    TL_ASSERT(pump != NULL);
    pump->magic = PUMP_MAGIC;
    pump->loop = loop;
    pump->timer_fd = -1;
    pump->deadline_ns = UINT64_MAX;
    pump->armed_ns = UINT64_MAX;
    int rc = pthread_mutex_init(&pump->completions.lock, NULL);
    TL_ASSERT(rc == 0);
    worker_init(&pump->log_writer.worker, "log writer", &pump->completions, log_writer_carry_out);
    worker_init(&pump->flusher, "flusher", &pump->completions, flusher_carry_out);
    worker_init(&pump->background.worker, "background", &pump->completions, background_carry_out);
    worker_init(&pump->snapshots, "snapshots", &pump->completions, snapshots_carry_out);
    pump->snapshots.niceness = SNAPSHOTS_NICENESS;
    pump->transport.magic = TRANSPORT_MAGIC;
    pump->transport.pump = pump;
    pump->transport.loop = loop;
    return pump;
}

/* The threads last: nothing after them can fail. */
static enum tl_err start(struct pump *pump, struct listen_sockets *sockets,
                         struct tl_fault *out_fault)
{
    enum tl_err err = turns_open(pump);
    if (err != TL_OK) {
        tl_fault_set(out_fault, "", UINT32_MAX, 0, "the event loop takes no more handles");
        return err;
    }
    int rc = uv_timer_init(pump->loop, &pump->stop_timer);
    TL_ASSERT(rc == 0);
    pump_hold_handle(pump, (uv_handle_t *)&pump->stop_timer);
    err = transport_start(&pump->transport, sockets);
    if (err != TL_OK) {
        tl_fault_set(out_fault, "", UINT32_MAX, 0, "cannot listen for peers");
        return err;
    }
    err = log_reader_create(node_log_store(pump->node), &pump->background.reader);
    if (err != TL_OK) {
        tl_fault_set(out_fault, "", UINT32_MAX, 0, "no reader of the log left");
        return err;
    }
    pump->log_writer.store = node_log_store(pump->node);
    err = worker_start(&pump->log_writer.worker);
    if (err == TL_OK) {
        err = worker_start(&pump->flusher);
    }
    if (err == TL_OK) {
        err = worker_start(&pump->background.worker);
    }
    if (err == TL_OK) {
        err = worker_start(&pump->snapshots);
    }
    if (err != TL_OK) {
        tl_fault_set(out_fault, "", UINT32_MAX, 0, "cannot start a thread");
    }
    return err;
}

static void workers_stop(struct pump *pump)
{
    worker_stop(&pump->log_writer.worker);
    worker_stop(&pump->flusher);
    worker_stop(&pump->background.worker);
    worker_stop(&pump->snapshots);
}

static void workers_join(struct pump *pump)
{
    worker_join(&pump->log_writer.worker);
    worker_join(&pump->flusher);
    worker_join(&pump->background.worker);
    worker_join(&pump->snapshots);
}

static void handles_close(struct pump *pump)
{
    pump->stage = PUMP_CLOSING;
    pump_hold(pump); /* CLOSED comes later than this call, also when nothing is open */
    transport_close(&pump->transport);
    turns_close(pump);
    pump_close_handle(pump, (uv_handle_t *)&pump->stop_timer);
    pump_let_go(pump);
}

static void ignore_stopped(void *context)
{
    (void)context;
}

/* Undoes a start that failed half-way. Handles close in the loop, so it is run until they have;
 * without waiting, because the caller's own handles may never become idle. */
static void abandon(struct pump *pump)
{
    workers_stop(pump);
    workers_join(pump);
    pump->on_stopped = ignore_stopped;
    handles_close(pump);
    while (pump->stage != PUMP_CLOSED) {
        (void)uv_run(pump->loop, UV_RUN_NOWAIT); /* whether handles are left is not asked here */
    }
    pump_destroy(pump);
}

static enum tl_err bind_peers(const struct pump_options *options, const char *peer_address,
                              struct listen_sockets *out_sockets, struct tl_fault *out_fault)
{
    struct address own;
    if (address_parse(bytes_of(peer_address), &own) != TL_OK) {
        tl_fault_set(out_fault, peer_address, UINT32_MAX, 0, "not a HOST:PORT");
        return TL_ERR_NOT_FOUND;
    }
    const char *host = options->peer_listen_host != NULL ? options->peer_listen_host : own.host;
    uint16_t port = options->peer_listen_port != 0 ? options->peer_listen_port : own.port;
    enum tl_err err = listen_sockets_open(host, port, out_sockets, out_fault);
    return err == TL_OK ? TL_OK : TL_ERR_NOT_FOUND;
}

enum tl_err pump_open(const struct pump_options *options, struct uv_loop_s *loop,
                      struct pump **out_pump, struct tl_fault *out_fault)
{
    struct pump *pump = pump_create(loop);
    pump->mutation = options->node.mutation;
    struct node_io io = pump_io(pump);
    /* The directory before the port: of two processes started on one node, the second is told what
     * is really in its way. */
    enum tl_err err = node_open(&options->node, &io, &pump->node, out_fault);
    if (err != TL_OK) {
        pump_destroy(pump);
        return err;
    }
    pump->transport.node = pump->node;
    struct listen_sockets sockets = {.count = 0};
    err = bind_peers(options, node_peer_address(pump->node), &sockets, out_fault);
    if (err == TL_OK) {
        err = start(pump, &sockets, out_fault);
    }
    if (err != TL_OK) {
        listen_sockets_close(&sockets);
        abandon(pump);
        return err;
    }
    pump_check(pump);
    *out_pump = pump;
    return TL_OK;
}

struct node *pump_node(struct pump *pump)
{
    return pump->node;
}

const struct pump_metrics *pump_get_metrics(const struct pump *pump)
{
    return &pump->metrics;
}

void pump_on_drained(struct pump *pump)
{
    pump_check(pump);
    TL_ASSERT(pump->stage == PUMP_DRAINING);
    pump->stage = PUMP_ENDING_WORKERS;
    int rc = uv_timer_stop(&pump->stop_timer);
    TL_ASSERT(rc == 0);
    rc = uv_idle_stop(&pump->idle);
    TL_ASSERT(rc == 0);
    workers_stop(pump);
    pump_check(pump);
}

static void on_stop_timeout(uv_timer_t *timer)
{
    struct pump *pump = TL_CAST(pump, timer->data, PUMP_MAGIC);
    if (pump->stage == PUMP_DRAINING) {
        log_event(LOG_LEVEL_WARN, "drain_timeout", NULL);
        pump_on_drained(pump);
    }
}

void pump_on_worker_ended(struct pump *pump)
{
    TL_ASSERT(pump->stage == PUMP_ENDING_WORKERS);
    pump->workers_ended_count++;
    if (pump->workers_ended_count == PUMP_WORKERS_COUNT) {
        workers_join(pump);
        handles_close(pump);
    }
}

void pump_hand_over(struct pump *pump, void (*on_handed_over)(void *context), void *context)
{
    pump_check(pump);
    TL_ASSERT(pump->stage == PUMP_RUNNING);
    TL_ASSERT(pump->on_handed_over == NULL);
    pump->on_handed_over = on_handed_over;
    pump->on_handed_over_context = context;
    node_hand_over(pump->node);
    pump_wake(pump);
}

void pump_stop(struct pump *pump, uint64_t timeout_ns, void (*on_stopped)(void *context),
               void *context)
{
    pump_check(pump);
    TL_ASSERT(pump->stage == PUMP_RUNNING);
    TL_ASSERT(on_stopped != NULL);
    pump->on_stopped = on_stopped;
    pump->on_stopped_context = context;
    pump->stage = PUMP_DRAINING;
    uv_update_time(pump->loop);
    int rc = uv_timer_start(&pump->stop_timer, on_stop_timeout, timeout_ns / 1000000u, 0);
    TL_ASSERT(rc == 0);
    node_drain(pump->node);
    pump_wake(pump);
    pump_check(pump);
}

/* Jobs the node gave out after the threads had been told to end: nobody carries them out. */
static void jobs_discard(struct job_list *list)
{
    for (struct job *job; (job = job_list_pop(list)) != NULL;) {
        if (job->kind != JOB_WORKER_ENDED) { /* part of its worker */
            free(job);
        }
    }
}

void pump_destroy(struct pump *pump)
{
    if (pump == NULL) {
        return;
    }
    TL_ASSERT(pump->magic == PUMP_MAGIC);
    TL_ASSERT(pump->holds_count == 0);
    log_reader_destroy(TL_TAKE(&pump->background.reader));
    node_close(TL_TAKE(&pump->node));
    jobs_discard(&pump->log_writer.worker.queue);
    jobs_discard(&pump->flusher.queue);
    jobs_discard(&pump->background.worker.queue);
    jobs_discard(&pump->snapshots.queue);
    jobs_discard(&pump->completions.done);
    worker_deinit(&pump->log_writer.worker);
    worker_deinit(&pump->flusher);
    worker_deinit(&pump->background.worker);
    worker_deinit(&pump->snapshots);
    for (struct job *job; (job = pump->jobs_free) != NULL;) {
        pump->jobs_free = job->next;
        free(job);
    }
    int rc = pthread_mutex_destroy(&pump->completions.lock);
    TL_ASSERT(rc == 0);
    pump->magic = 0;
    free(pump);
}
