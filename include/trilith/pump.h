/* pump.h - the production pump: threads, queues, the uv loop and peer connections around a node.
 *
 * Role:       Carries out node_io: a log writer thread, a flusher thread, a background thread, a
 *             peer transport with three connections per pair of nodes, one timer. Runs node_turn()
 *             once a loop turn. The only place with threads and locks (h2o-only loops apart).
 * Thread:     the loop thread (the one that calls pump_run).
 * Errors:     pump_open(): message in *out_fault; the exit code to end with is the caller's to
 *             derive (TL_ERR_IN_USE, FOREIGN, NEWER_FORMAT: 3 · IO, CORRUPT: 4 · others: 1).
 */

#ifndef TL_PUMP_H
#define TL_PUMP_H

#include "trilith/node.h"

struct pump;
struct uv_loop_s;

struct pump_options {
    struct node_options node;
    const char *peer_listen_host; /* where to bind; NULL: host of the peer address */
    uint16_t peer_listen_port;
};

/* Counters of the transport, for /metrics. */
struct pump_metrics {
    uint64_t connections_accepted_count;
    uint64_t
        connections_refused_count;  /* garbage, wrong cluster, unknown store id, wrong version */
    uint64_t garbage_count;         /* of those: bytes that were no frame */
    uint64_t foreign_cluster_count; /* of those: a peer of another cluster */
    uint64_t connects_count;
    uint64_t connect_failures_count;
    uint64_t frames_dropped_count; /* a peer's queue was full or it was not connected */
    uint64_t bytes_sent_count;
    uint64_t bytes_received_count;
    struct histogram loop_lag_us; /* length of loop turns, poll excluded */
    uint64_t log_queue_depth;     /* batches waiting for the writer */
};

/* Opens the node, binds the peer port, starts the threads. The loop is borrowed. */
TL_MUST_CHECK enum tl_err pump_open(const struct pump_options *options, struct uv_loop_s *loop,
                                    struct pump **out_pump, struct tl_fault *out_fault);
struct node *pump_node(struct pump *pump);
const struct pump_metrics *pump_get_metrics(const struct pump *pump);

/* Called by a role on the loop (http) after it gave the node something: a turn follows before the
 * loop sleeps. Cheap, idempotent. */
void pump_wake(struct pump *pump);

/* Drains the node (bounded by timeout_ns), then calls on_stopped on the loop: all threads have
 * ended and all handles are closed. Called once. */
void pump_stop(struct pump *pump, uint64_t timeout_ns, void (*on_stopped)(void *context),
               void *context);
/* After on_stopped. Closes the node and frees. Accepts NULL. */
void pump_destroy(struct pump *pump);

#endif
