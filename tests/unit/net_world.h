/* net_world.h - a scripted node, log store and table around the real pump.
 *
 * Several pumps run on one loop. The node here does what a test tells it and counts what it is
 * told; the stores take as long as a test wants and fail when it says so. Everything else is real:
 * threads, sockets, timers. */

#ifndef TL_TEST_NET_WORLD_H
#define TL_TEST_NET_WORLD_H

#include <uv.h>

#include "trilith/pump.h"

#define WORLD_EVENTS_MAX 256u

struct node {
    struct node_io io;
    struct store_id store_id;
    char peer_address[32];
    /* Set by the test. */
    void (*on_turn)(struct node *node); /* NULL: nothing */
    bool is_drain_slow;                 /* drained only when the test says so */
    bool speaks_first; /* sends an urgent frame as soon as a raft connection is up */
    enum tl_err frame_answer;
    /* Counted. */
    uint32_t turns_count;
    uint64_t turn_ns; /* when the last one was */
    bool is_handing_over;
    bool is_handed_over; /* set by the test */
    bool is_draining;
    bool is_drained;
    bool is_inside; /* a call of the node's is under way: no other may come */
    uint32_t up_counts[PEER_CLASSES_COUNT];
    uint32_t features[PEER_CLASSES_COUNT];    /* as told with the last of them */
    uint32_t down_counts[PEER_CLASSES_COUNT]; /* is_refused false */
    uint32_t refused_counts[PEER_CLASSES_COUNT];
    uint32_t frames_count;
    uint64_t frame_sizes[WORLD_EVENTS_MAX]; /* of the payloads of the first ones, in order */
    uint64_t frames_bytes;
    uint64_t frames_hash; /* of payloads, in order */
    raft_id frame_from;
    raft_id partial_from;
    uint32_t partials_count;
    uint32_t births_count;
    uint32_t birth_replies_count;
    uint32_t birth_refusals_count;
    char birth_reply[64];
    /* Answers to jobs, in order. */
    uint32_t logs_done_count;
    struct node_log_batch *logs_done[WORLD_EVENTS_MAX];
    enum tl_err log_errs[WORLD_EVENTS_MAX];
    uint32_t flushes_done_count;
    enum tl_err flush_err;
    uint32_t reads_done_count;
    uint32_t snapshots_done_count;
    enum tl_err read_err;
    enum tl_err snapshot_err;
    char fault_reason[160];
};

/* The real one is the node's own; this one counts how often it was carried out. */
struct node_snapshot_job {
    uint32_t runs_count;
};

/* The stores of all nodes; guarded by a lock inside. */
void world_stores_hold(void);    /* the next commit, flush or read waits ... */
void world_stores_release(void); /* ... until this */
void world_stores_fail(enum tl_err err, const char *reason); /* from now on */
uint32_t world_commits_count(void);
void world_wait_commits(uint32_t count); /* begun; without running the loop */
uint32_t world_commit_ops(uint32_t i);   /* ops of commit i */

extern uv_loop_t world_loop;
void world_init(void);
void world_fini(void); /* every pump was closed; no handle is left */

uint16_t world_free_port(void);
/* Two different ids, a < b. */
struct store_id world_id(uint8_t number);

/* Opens a pump whose node has id world_id(number). Port 0: a free one; returns it. */
struct pump *world_open(uint8_t number, uint16_t *port);
/* The same, listening at another host than 127.0.0.1. */
struct pump *world_open_at(uint8_t number, const char *listen_host, uint16_t *port);
/* With a planted bug. */
struct pump *world_open_mutant(uint8_t number, uint16_t *port, uint32_t mutation);
/* Stops, waits, destroys. */
void world_close(struct pump *pump);
/* Tells the pumps of each other's peers: members (number, port). */
void world_set_peers(struct pump *pump, uint8_t cluster, const uint8_t *numbers,
                     const uint16_t *ports, uint32_t count);

/* Runs the loop until the condition holds; false: it did not within timeout_ms. Nothing but the end
 * of that time wakes the loop, so that what the pump forgets to wake for shows. */
bool world_run(bool (*is_done)(void *context), void *context, uint32_t timeout_ms);
void world_run_for(uint32_t ms);

/* A sealed frame of FRAME_RAFT with a pseudo-random payload. */
struct buf *world_frame(size_t payload_bytes, uint64_t seed);

/* A listening socket that is no pump's; accept() does not wait. */
int world_listen(uint16_t *out_port);
/* A plain blocking socket to a port of this machine, as a stranger has it. */
int world_connect(uint16_t port);
/* With a receive buffer of its own; 0: the kernel's default. */
int world_connect_with(uint16_t port, int receive_bytes);
void world_write(int fd, struct bytes bytes);

#endif
