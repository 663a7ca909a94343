/* node_cluster.h - up to five nodes over real stores, in one thread and in virtual time.
 *
 * Role:       Carries out node_io with queues that a test can hold back, fail, cut and look into.
 *             Everything is in order and deterministic but for the store ids.
 * Thread:     the test's.
 *
 * Time stands still while there is something to do and jumps to the next deadline when there is
 * nothing, so that a test of a 5 s timeout takes as long as its disk writes.
 */

#ifndef TL_TESTS_NODE_CLUSTER_H
#define TL_TESTS_NODE_CLUSTER_H

#include "tmpdir.h"
#include "trilith/node.h"

#define CLUSTER_NODES 3u /* the usual size of a view */
#define CLUSTER_SITES 5u
#define CLUSTER_NONE UINT32_MAX
#define CLUSTER_QUEUE_MAX 32768u
#define CLUSTER_MS 1000000ull
#define CLUSTER_S 1000000000ull

struct cluster;

/* One node of the test and the world around it. Its data outlive stop and start. */
struct site {
    struct cluster *cluster;
    uint32_t place;
    char address[64];
    char peer_address[64];
    char dir[128];
    struct node_options options; /* a test changes them before site_start() */
    int64_t clock_offset_us;
    uint64_t random;
    uint32_t features;   /* that it announces (enum hello_feature); set before site_start() */
    uint64_t free_bytes; /* of its file system; 0: what it really has */

    struct node *node; /* NULL: stopped */
    struct log_reader *reader;
    raft_id id;
    uint32_t peers_count; /* as last set */
    raft_id peers[RAFT_MEMBERS_MAX];
    uint64_t timer_ns;

    struct node_log_batch *batches[256];
    uint32_t batches_count;
    struct node_flush_job *flush;
    struct node_log_read *reads[256];
    uint32_t reads_count;
    struct node_snapshot_job *snapshots[8];
    uint32_t snapshots_count;

    /* What a test may set. */
    bool holds_log;
    bool holds_flush;
    bool holds_reads;
    bool holds_snapshots;
    bool holds_finish;     /* ... only those that finish a table */
    uint64_t cut_chunk_ns; /* so long a cut's chunk takes on its clock */
    bool reads_at_switch;  /* reads run between the commit of an install and its completion */
    bool is_mute;          /* its frames are dropped without its knowing */
    bool is_raft_mute;     /* ... those of the raft class */
    size_t backlog;        /* what it is told of each peer */
    enum tl_err log_err;   /* the next commit ends with it, unwritten */
    enum tl_err flush_err;
    enum tl_err read_err;
    enum tl_err snapshot_err; /* the next job ends with it, not carried out */

    /* What a test may look at. */
    uint32_t frames_count;  /* handed to send */
    uint32_t urgent_count;  /* of them, as urgent */
    uint32_t appends_count; /* frames of appends */
    uint32_t asks_count;
    uint32_t failures_count;
    int exit_code;
    struct tl_fault fault;
    uint32_t commits_count;
    uint32_t log_reads_count; /* of purpose NODE_LOG_READ_APPLY */
    char warning[512];        /* the last one */
    uint32_t cuts_count;
    bool is_cutting;
    uint64_t cut_ns;           /* that the cut under way has taken */
    uint32_t reads_gone_count; /* ended with TL_ERR_COMPACTED */
};

struct parcel {
    uint32_t from;
    uint32_t to;
    enum peer_class class;
    struct buf *frame;
    bool is_ask;
};

struct cluster {
    uint64_t now_ns;
    char dir[TMPDIR_PATH_BYTES_MAX];
    struct site sites[CLUSTER_SITES];
    bool is_cut[CLUSTER_SITES][CLUSTER_SITES];
    bool is_connected[CLUSTER_SITES][CLUSTER_SITES];
    struct parcel parcels[CLUSTER_QUEUE_MAX];
    uint32_t parcels_first;
    uint32_t parcels_count;
};

/* Sites with a view of `view_count` addresses; none is started. */
struct cluster *cluster_create(uint32_t view_count);
void cluster_destroy(struct cluster *cluster);

void site_start(struct site *site); /* asserts that it opens */
TL_MUST_CHECK enum tl_err site_try_start(struct site *site);
void site_kill(struct site *site); /* what is queued is lost */
void site_empty_disk(struct site *site);
void site_start_all(struct cluster *cluster);

void cluster_cut(struct cluster *cluster, uint32_t a, uint32_t b);
void cluster_isolate(struct cluster *cluster, uint32_t a);
void cluster_heal(struct cluster *cluster);
/* The connection of one class is lost, and is there again at once. */
void cluster_flap(struct cluster *cluster, uint32_t a, uint32_t b, enum peer_class class);

/* Does all there is to do at this instant once; false: there was nothing. */
bool cluster_step(struct cluster *cluster);
/* Runs for this long, or until is_done(context) holds (NULL: never); says whether it held. */
bool cluster_run(struct cluster *cluster, uint64_t span_ns, bool (*is_done)(void *context),
                 void *context);
void cluster_pass(struct cluster *cluster, uint64_t span_ns);

/* Starts all and runs until one leads and all are ready. Returns the leader of the data group. */
uint32_t cluster_form(struct cluster *cluster);
/* The leader of the data group among the running; CLUSTER_NONE: none or several. */
uint32_t cluster_leader(const struct cluster *cluster);
bool cluster_is_ready(void *cluster);
uint32_t cluster_await_leader(struct cluster *cluster); /* asserts that there is one in 10 s */

/* A write and what became of it. */
struct effort {
    struct node_write write;
    uint32_t calls_count;
    enum tl_err err;
    struct kv_result result;
};
/* A put of key = value, or an append when is_append, keyed when idempotency_key is not 0. */
struct buf *effort_entry(const char *key, const char *value, bool is_append,
                         uint64_t idempotency_key, uint64_t token_us);
TL_MUST_CHECK enum tl_err effort_start(struct effort *effort, struct site *site, struct buf *entry,
                                       uint64_t timeout_ns);
bool effort_is_over(void *effort);
/* Puts and runs until it is over. */
enum tl_err site_put(struct site *site, const char *key, const char *value,
                     struct kv_result *out_result);

/* A read and what became of it. */
struct glance {
    struct node_read read;
    uint32_t calls_count;
    enum tl_err err;
    bool is_ready_at_once;
};
TL_MUST_CHECK enum tl_err glance_start(struct glance *glance, struct site *site,
                                       enum node_consistency consistency, uint64_t token_us,
                                       uint64_t timeout_ns);
bool glance_is_over(void *glance);

/* The value of a key as the site's views show it now, or NULL; in a static buffer. */
const char *site_get(struct site *site, const char *key);
raft_index site_applied(struct site *site);
void site_status(struct site *site, struct node_group_status *out_status);

#endif
