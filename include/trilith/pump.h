/* pump.h - the production pump: threads, queues, the uv loop and peer connections around a node.
 *
 * Role:       Carries out node_io: a log writer thread, a flusher thread, a background thread, one
 *             for snapshots, a peer transport with three connections per pair of nodes, one timer.
 *             Runs node_turn() once a loop turn. The only place with threads and locks (h2o-only
 *             loops apart).
 * Thread:     the loop thread (the one that runs the uv loop).
 * Errors:     pump_open(): message in *out_fault; the exit code to end with is the caller's to
 *             derive (TL_ERR_INVALID: 2 · IN_USE, FOREIGN, NEWER_FORMAT: 3 · IO, CORRUPT, NO_SPACE:
 *             4 · others: 1). TL_ERR_NOT_FOUND: the peer address cannot be resolved or bound. Later
 *             storage errors end the process with exit code 4 (node_io.fail).
 * Limits:     the constants below.
 */

#ifndef TL_PUMP_H
#define TL_PUMP_H

#include "trilith/node.h"

struct pump;
struct uv_loop_s;

/* A peer that cannot be reached is found again this soon: long waits stretch an outage
 * (etcd-io/etcd#14653: a partition of 12-20 s left no leader for 26 s). */
#define PUMP_CONNECT_TIMEOUT_MS 200u /* at each address of a peer's name */
/* Longer than a resolver takes that asks its second name server after five seconds, the default of
 * resolv.conf(5), for each name of the search list. */
#define PUMP_LOOKUP_TIMEOUT_MS 30000u
#define PUMP_BACKOFF_MIN_MS 20u
#define PUMP_BACKOFF_MAX_MS 250u
#define PUMP_USER_TIMEOUT_MS 2000u /* sent bytes not acknowledged by the other kernel */
#define PUMP_HELLO_TIMEOUT_MS 1000u
#define PUMP_ASK_TIMEOUT_MS 1000u /* from when it is connected on */
/* What waits to be sent on one connection. */
#define PUMP_QUEUE_BYTES_MAX (32u * 1024u * 1024u)
#define PUMP_QUEUE_FRAMES_MAX 4096u
/* Accepted connections that have not said hello yet; more are closed at once. */
#define PUMP_STRANGERS_MAX 128u

/* Planted bugs of the test suite that sit in the transport (docs/correctness.md). */
enum pump_mutation {
    PUMP_MUTATION_NO_OVERTAKING = 34, /* urgent frames wait for all that was queued before */
};

struct pump_options {
    struct node_options node;
    const char *peer_listen_host; /* where to bind; NULL: host of the peer address */
    uint16_t peer_listen_port;    /* 0: port of the peer address */
};

/* Counters of the transport, for /metrics. */
struct pump_metrics {
    uint64_t connections_accepted_count;
    /* Closed for what they said: garbage, wrong cluster, unknown store id, wrong version, nothing
     * within PUMP_HELLO_TIMEOUT_MS. */
    uint64_t connections_refused_count;
    uint64_t garbage_count;         /* of those: bytes that were no frame */
    uint64_t foreign_cluster_count; /* of those: a peer of another cluster */
    uint64_t connects_count;
    uint64_t connect_failures_count;
    uint64_t frames_dropped_count; /* a peer's queue was full or it was not connected */
    uint64_t bytes_sent_count;
    uint64_t bytes_received_count;
    struct histogram loop_lag_us;   /* length of loop turns, poll excluded */
    struct histogram loop_cpu_us;   /* thread CPU time of loop turns, poll included */
    struct histogram log_commit_us; /* log_store_commit() alone, without waiting for the writer */
    uint64_t log_queue_depth;       /* batches handed over and not committed yet */
};

/* Opens the node, binds the peer port, starts the threads. The loop is borrowed; turns happen while
 * the caller runs it. */
TL_MUST_CHECK enum tl_err pump_open(const struct pump_options *options, struct uv_loop_s *loop,
                                    struct pump **out_pump, struct tl_fault *out_fault);
struct node *pump_node(struct pump *pump);
const struct pump_metrics *pump_get_metrics(const struct pump *pump);

/* Called by a role on the loop (http) after it gave the node something: a turn follows before the
 * loop sleeps. Cheap, idempotent. */
void pump_wake(struct pump *pump);

/* Hands over what the node leads (node_hand_over()), then calls on_handed_over on the loop; within
 * NODE_HAND_OVER_MAX_NS. Called once, before pump_stop(). */
void pump_hand_over(struct pump *pump, void (*on_handed_over)(void *context), void *context);
/* Drains the node (bounded by timeout_ns), then calls on_stopped on the loop: all threads have
 * ended and all handles are closed. Called once. */
void pump_stop(struct pump *pump, uint64_t timeout_ns, void (*on_stopped)(void *context),
               void *context);
/* After on_stopped. Closes the node and frees. Accepts NULL. */
void pump_destroy(struct pump *pump);

#endif
