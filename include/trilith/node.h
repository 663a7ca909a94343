/* node.h - the host of a node's Raft groups: everything between the edges (HTTP, sockets, threads,
 * disks) and the cores, as one event-driven object over an I/O table.
 *
 * Role:       Birth and restart, turns of the cores, applying, freezing and flushing, forwarding,
 *             outcomes, reads, status. Holds no thread, lock, socket or clock: production (src/net)
 *             and the simulator drive the same code.
 * Thread:     the loop thread; node_io functions are called on it and never call back into the node
 *             before they return.
 * Ownership:  per call and field.
 * Errors:     a storage error ends the process through io.fail (exit 4); nothing is acknowledged
 *             after it.
 * Limits:     NODE_REQUESTS_MAX, NODE_REQUEST_BYTES_MAX; beyond them TL_ERR_FULL at once.
 *
 * A turn: any number of node_on_* and client calls, then node_turn() once, which steps each group
 * once, hands over at most one log batch, sends each peer a frame of appends and one of all other
 * messages, and applies what may be applied.
 */

#ifndef TL_NODE_H
#define TL_NODE_H

#include "trilith/data_dir.h"
#include "trilith/digest_report.h"
#include "trilith/frame.h"
#include "trilith/histogram.h"
#include "trilith/kv_state.h"
#include "trilith/log.h"
#include "trilith/log_store.h"
#include "trilith/placement_change.h"

#define NODE_REQUESTS_MAX 4096u
#define NODE_REQUEST_BYTES_MAX (32u * 1024u * 1024u)
/* Beside those of clients: requests for group 0, which are changes of the membership. */
#define NODE_ADMIN_REQUESTS_MAX 64u
#define NODE_ADMIN_REQUEST_BYTES_MAX (4u * 1024u * 1024u)
#define NODE_GROUPS_MAX LOG_STORE_GROUPS_MAX
#define NODE_DATA_GROUP 1u       /* the group all keys belong to while there is one shard */
#define NODE_APPLY_TURN_MAX 512u /* entries applied in one turn */
#define NODE_APPLY_TURN_BYTES (512u * 1024u) /* and their cost (kv_state.h), but for the last's */
/* Of the writes that one turn proposes or forwards: none is begun when so much has gone. */
#define NODE_PUSH_TURN_BYTES (512u * 1024u)
#define NODE_LEADER_WAIT_NS 1000000000ull /* a request waits this long for a leader, then 503 */
#define NODE_TOKEN_AHEAD_US 10000000ull   /* a causal token further ahead is refused */
#define NODE_BIRTH_ASK_INTERVAL_NS 100000000ull
#define NODE_LEADER_TRANSFERS_MAX 64u
#define NODE_HAND_OVER_MAX_NS 1000000000ull  /* a node that stops waits so long for a successor */
#define NODE_LOG_COMMIT_SLOW_NS 500000000ull /* a log commit that old is reported */

/* While so much waits to be sent to a peer it is given no more entries: what has not been handed to
 * a connection can still be decided otherwise, and costs no memory. */
#define NODE_BACKLOG_BYTES_MAX RAFT_BACKLOG_BYTES_MAX

struct node;

/* All ops of one turn. Owned by the node, borrowed by the log writer until node_on_log_done(). */
struct node_log_batch {
    uint32_t ops_count;
    struct log_op ops[NODE_GROUPS_MAX];
    uint64_t issued_ns;
    uint64_t sequence;
    struct node_log_batch *next; /* for the writer's queue */
};

/* A flush: table_flush(table, generation). Owned by the node until node_on_flush_done(). */
struct node_flush_job {
    raft_group group;
    struct table *table;
    const struct generation *generation;
    uint32_t mutation; /* options.mutation: NODE_MUTATION_SPLIT_FLUSH is the carrier's to plant */
};

/* A read of log entries, for a lagging peer, a replay, the check of one record, or a query. */
#define NODE_LOG_READ_ENTRIES_MAX 4096u
struct node_log_read {
    raft_group group;
    raft_index first;
    raft_index last;
    size_t bytes_max;
    enum {
        NODE_LOG_READ_PEER,
        NODE_LOG_READ_APPLY,
        NODE_LOG_READ_VERIFY,
        NODE_LOG_READ_QUERY
    } purpose;
    raft_id peer;
    bool keeps_last_only; /* read and checked to the end, but only the last entry is given out */
    /* Filled by node_log_read_carry_out(); the node releases the entries. */
    struct buf *entries[NODE_LOG_READ_ENTRIES_MAX];
    uint32_t entries_count;
    struct hash128 previous_hash; /* in front of the first entry read, when there is one */
    struct node_log_read *next;
};
/* What carrying it out is: for the threads that do. Errors as log_reader_read(). */
TL_MUST_CHECK enum tl_err node_log_read_carry_out(struct node_log_read *read,
                                                  struct log_reader *reader,
                                                  struct tl_fault *out_fault);

/* A step of a snapshot's way: cutting, reading, staging, opening or deleting a table. */
struct node_snapshot_job;

/* What the node asks of the world. Every job given out is answered exactly once, later. */
struct node_io {
    void *context;
    uint64_t (*now_ns)(void *context);   /* monotonic, suspend included */
    uint64_t (*clock_us)(void *context); /* wall clock; never used for safety */
    void (*random)(void *context, void *out_bytes, size_t count);
    /* log_store_commit() of the batches' ops, in order, several batches in one commit if they are
     * there; then node_on_log_done() for each, in order. */
    void (*log_commit)(void *context, struct node_log_batch *batch);
    void (*flush)(void *context, struct node_flush_job *job);
    void (*log_read)(void *context, struct node_log_read *job);
    /* node_snapshot_job_run(), in the order given, then node_on_snapshot_done(). One at a time,
     * on a thread that nothing else waits for: a cut takes as long as it takes to read the
     * table. */
    void (*snapshot)(void *context, struct node_snapshot_job *job);
    /* The frame (sealed) is taken; dropped silently when the connection is not up. false: it was
     * not given to a connection, so it was certainly not received. */
    bool (*send)(void *context, raft_id peer, enum peer_class class, struct buf *frame);
    /* The same for a small frame of the raft class that may overtake those given to send(). */
    bool (*send_urgent)(void *context, raft_id peer, struct buf *frame);
    /* Bytes given to send() for the raft class of the peer that still wait to leave. A turn follows
     * when they have become less than NODE_BACKLOG_BYTES_MAX again. */
    size_t (*backlog)(void *context, raft_id peer);
    /* Connect to these members from now on and to no others (self is left out). Borrowed. */
    void (*set_peers)(void *context, const struct store_id *cluster_id,
                      const struct member *members, uint32_t members_count);
    /* Asks peer_address: sends a FRAME_BIRTH (sealed, taken); node_on_birth_reply() with the
     * payload, or with NULL when refused, closed, not answered within a second, or not looked up
     * within 30. An address asked anew while it is being looked up is asked, and answers, once. */
    void (*ask)(void *context, const char *peer_address, struct buf *frame);
    /* Call node_turn() at this monotonic time at the latest; replaces the time set before. */
    void (*set_timer)(void *context, uint64_t deadline_ns);
    /* The process must end with this exit code after printing the fault: 4, storage cannot be
     * trusted; 3, this store is no member any more. May return. */
    void (*fail)(void *context, int exit_code, const struct tl_fault *fault);
    void (*log)(void *context, enum log_level level, const char *event, const char *format,
                va_list args);
};

/* Planted bugs of the test suite (docs/correctness.md numbers them) that sit in the host; all other
 * numbers go to the core, the state machine or the carrier of jobs. */
enum node_mutation {
    NODE_MUTATION_NONE = 0,
    /* The flush's carrier commits rows and group state in two transactions; not the node's own. */
    NODE_MUTATION_SPLIT_FLUSH = 10,
    NODE_MUTATION_DELETE_APPLIED = 14,    /* log deleted up to the applied index, not the flushed */
    NODE_MUTATION_IGNORE_LOG_ERROR = 16,  /* a failed log commit counts as done */
    NODE_MUTATION_TIMEOUT_DEFINITE = 17,  /* a proposed write's deadline says TL_ERR_TIMEOUT */
    NODE_MUTATION_LIVE_COUNTERS = 25,     /* a flush writes live counters, not the frozen ones */
    NODE_MUTATION_FULL_THOUGH_TAKEN = 75, /* TL_ERR_FULL is said of what is in the log */
    NODE_MUTATION_TAKE_OLD_COPY = 28,     /* a disk that is an old copy of itself is not refused */
    NODE_MUTATION_TIME_FROM_ABOVE = 31,   /* log time follows a clock, bounded from above only */
    NODE_MUTATION_TIME_ALLOWANCE = 32,    /* each entry may be a second further than the bound */
    NODE_MUTATION_TIME_TOKEN = 33,        /* a client's token moves log time without a bound */
    NODE_MUTATION_LEAD_WITHOUT_SPACE = 80, /* a leader without room keeps leading */
    NODE_MUTATION_DISK_SPACE_ONLY = 81,   /* a full map is no reason to refuse a write */
    NODE_MUTATION_OLDER_TERM = 44,     /* an older term's entry answers the write at its index */
    NODE_MUTATION_OFFER_DEADLINE = 47, /* a deadline that has passed is set while an offer waits */
    NODE_MUTATION_OWN_PROMISES = 49,   /* a process' own promises are held against its beginning */
    NODE_MUTATION_NO_GRACE = 53,      /* a paused process judges its log commit before it hears */
    NODE_MUTATION_ONE_GRACE = 60,     /* ... if it is stopped a second time */
    NODE_MUTATION_ANSWER_BY_INDEX = 56, /* a write is answered by whatever is at its index */
    NODE_MUTATION_INSTALL_REPLACED = 58, /* a snapshot's writes are answered `replaced` */
    /* A process says on its forward connection what it found on its disk, and what it says over the
     * raft connection counts before. */
    NODE_MUTATION_LATE_POSITION = 85,
};

struct node_options {
    const char *address;       /* "host:port"; copied, as all strings */
    const char *peer_address;  /* what peers reach: "host:port"; a member knows its own */
    const struct member *view; /* initial members in order, self included; store ids zero */
    uint32_t view_count;       /* >= 1 */
    const struct member *join; /* a member of a running cluster to join through; NULL: none */
    const char *birth_refusal; /* what is wrong with these two, for a node to be born; NULL: nothing
                                  is known */
    const char *data_dir;
    bool allow_any_fs;
    uint32_t data_groups_count;     /* 1 */
    uint64_t log_retain_bytes;      /* 128 MiB */
    uint64_t log_prefill_bytes;     /* 128 MiB */
    size_t log_map_bytes;           /* the most the log is to hold: 64 GiB */
    size_t table_map_bytes;         /* the most a table is to hold, --map-size: 1 TiB */
    size_t map_headroom_bytes;      /* of each map, above that: 64 GiB */
    uint64_t election_timeout_ns;   /* 300 ms */
    uint64_t heartbeat_interval_ns; /* 50 ms */
    uint64_t generation_age_ns;     /* freeze this long after the first entry: 5 s */
    uint32_t digest_interval;       /* entries between two digests: 256; less in the simulator */
    uint32_t generation_rows_max;   /* 0: GENERATION_ROWS_MAX; smaller in the simulator */
    uint64_t log_cache_bytes;       /* 0: RAFT_CACHE_BYTES_MAX; smaller in the simulator */
    uint32_t limits_divisor;        /* of all limits in bytes; 0, 1: none; more in the simulator */
    uint32_t snapshot_chunk_bytes;  /* 0: SNAPSHOT_CHUNK_LIMIT_DEFAULT; smaller in the simulator */
    uint32_t idempotency_records;   /* --idempotency-records; 0: as each command says */
    /* A leader takes writes that may grow while it and a quorum have this much, others down to a
     * quarter of it: 128 MiB. */
    uint64_t free_bytes_min;
    uint32_t mutation;              /* planted bug of the test suite, 0 in production */
};

/* Zeros, and the defaults named beside the fields. */
void node_options_init(struct node_options *options);

/* Opens the data directory, recovers all stores and groups, reports how many entries remain to be
 * replayed (event=recovered). Nothing is sent before the first node_turn().
 * Errors as data_dir_open(), log_store_open(), table_open(); and
 *   TL_ERR_INVALID  it is to be born, and birth_refusal, or the view does not hold `address`, holds
 *                   one twice, or is too long.
 *   TL_ERR_FOREIGN  this store was removed from its cluster.
 *   TL_ERR_CORRUPT  log and table contradict each other.
 * io and options are copied, strings too. Every option is in range (node_options_init). */
TL_MUST_CHECK enum tl_err node_open(const struct node_options *options, const struct node_io *io,
                                    struct node **out_node, struct tl_fault *out_fault);
/* All jobs must have been answered (or the threads that hold them have ended). Requests still
 * waiting are answered with TL_ERR_STOPPING or TL_ERR_UNKNOWN. Accepts NULL. */
void node_close(struct node *node);

void node_turn(struct node *node);

/* The store whose commits and reads node_io asks for: for whoever carries them out. Lives until
 * node_close(). */
struct log_store *node_log_store(struct node *node);

/* ---- events ---- */
void node_on_log_done(struct node *node, struct node_log_batch *batch, enum tl_err err,
                      const struct tl_fault *fault);
void node_on_flush_done(struct node *node, struct node_flush_job *job, enum tl_err err,
                        const struct tl_fault *fault);
void node_on_log_read_done(struct node *node, struct node_log_read *job, enum tl_err err,
                           const struct tl_fault *fault);
void node_on_snapshot_done(struct node *node, struct node_snapshot_job *job, enum tl_err err,
                           const struct tl_fault *fault);
/* What a job asks for. On any one thread; touches the job and no other part of the node. */
TL_MUST_CHECK enum tl_err node_snapshot_job_run(struct node_snapshot_job *job,
                                                struct tl_fault *out_fault);
/* A frame's payload from a connection whose hello named `peer`. Borrowed. TL_ERR_INVALID: close the
 * connection and count it. */
TL_MUST_CHECK enum tl_err node_on_frame(struct node *node, raft_id peer, enum frame_type type,
                                        struct bytes payload);
/* Bytes of a frame that is not yet whole arrive from `peer`, on its raft connection. */
void node_on_partial_frame(struct node *node, raft_id peer);
/* Connections of a class to a peer came up or went down. `features`: those that both sides have
 * announced (enum hello_feature), in force until the connection goes down. `is_refused`: a new
 * attempt was refused (the process is gone), not merely lost. A loss is told at once with false; a
 * refusal, when it is found, by a second call for the same class with true. */
void node_on_peer_up(struct node *node, raft_id peer, enum peer_class class, uint32_t features);
void node_on_peer_down(struct node *node, raft_id peer, enum peer_class class, bool is_refused);
/* A stranger's FRAME_BIRTH: returns the sealed answer, or NULL for garbage. */
struct buf *node_on_birth(struct node *node, struct bytes payload);
void node_on_birth_reply(struct node *node, const char *peer_address, const struct bytes *payload);

/* ---- clients ---- */

/* A write on its way. Lives in the caller's memory until on_done or node_write_cancel(). */
struct node_write {
    /* Set by the caller. */
    raft_group group;
    struct buf *entry;    /* from command_encode(); taken by node_write() when it returns TL_OK */
    uint64_t deadline_ns; /* of the request (--request-timeout) */
    uint64_t token_us;    /* the command's */
    bool is_keyed;        /* has an Idempotency-Key: may be sent again after a lost link */
    void (*on_done)(struct node_write *write, enum tl_err err, const struct kv_result *result);
    void *context;
    /* Set by the node: monotonic times for Server-Timing; 0 where it did not get that far. */
    uint64_t submitted_ns;
    uint64_t proposed_ns; /* handed to the core, or sent to the leader */
    uint64_t committed_ns;
    /* The node's own. */
    uint32_t state;
    bool is_inbound;      /* came from a peer: its one hop is done */
    bool may_be_executed; /* a copy was sent to a leader and the link was lost */
    int32_t outcome;      /* enum tl_err, in the last state */
    uint64_t retry_ns;    /* not sent to forwarded_to again before this time */
    uint64_t request_id;
    raft_index index;
    raft_term term;
    raft_id forwarded_to;
    bool waits_for_time;  /* at the leader: log time has not reached its token */
    uint64_t token_round; /* of reads, which shows whether there is such an entry; 0: not asked */
    size_t entry_bytes;
    struct node_write *next;
    struct node_write *previous;
};

/* Starts a write. TL_OK: on_done is called exactly once, later, with
 *   TL_OK           the result
 *   TL_ERR_UNKNOWN  it may have been executed, or still be
 *   TL_ERR_NO_LEADER, TL_ERR_NO_QUORUM, TL_ERR_STARTING, TL_ERR_STOPPING, TL_ERR_FULL,
 *   TL_ERR_REPLACED, TL_ERR_TIMEOUT, TL_ERR_INVALID (the leader refuses the command),
 *   TL_ERR_AHEAD (its token is of no entry),
 *   TL_ERR_NO_SPACE (of the leader: it, or too many voters, are below free_bytes_min),
 *   TL_ERR_MAP_FULL (likewise, by table_map_bytes or log_map_bytes), TL_ERR_STALLED (of the leader:
 *   no more can be frozen before a flush ends), TL_ERR_DIVERGED (this replica's state is
 *   not that of the others)
 *                   certainly not executed
 * TL_ERR_FULL, TL_ERR_STARTING, TL_ERR_STOPPING, TL_ERR_DIVERGED returned: on_done is never called;
 * entry stays the caller's. on_done may start and cancel requests. */
TL_MUST_CHECK enum tl_err node_write(struct node *node, struct node_write *write);
/* The client has gone: on_done is not called any more. The write itself may still happen. */
void node_write_cancel(struct node *node, struct node_write *write);

enum node_consistency { NODE_LINEARIZABLE = 0, NODE_CAUSAL = 1, NODE_LOCAL = 2 };

/* A read on its way: on_ready with TL_OK says that views_applied() is now good enough; the caller
 * then reads through its own view_reader in the same turn. Same life and cancel rules as
 * node_write. */
struct node_read {
    raft_group group;
    enum node_consistency consistency;
    uint64_t token_us; /* 0: none; causal reads wait for it */
    uint64_t deadline_ns;
    void (*on_ready)(struct node_read *read, enum tl_err err);
    void *context;
    /* The node's own. */
    uint64_t submitted_ns;
    uint32_t state;
    int32_t outcome; /* enum tl_err, in the last state */
    uint64_t round;
    raft_index read_index;
    struct node_read *next;
    struct node_read *previous;
};
/* on_ready errors: as of node_write, but for TL_ERR_UNKNOWN and TL_ERR_REPLACED. TL_ERR_AHEAD: a
 * round after the request came has shown that the token is of no entry there is. Local reads and
 * causal ones already covered return *out_is_ready true and on_ready is not called. Returned
 * errors as node_write(). */
TL_MUST_CHECK enum tl_err node_read(struct node *node, struct node_read *read, bool *out_is_ready);
void node_read_cancel(struct node *node, struct node_read *read);

/* ---- the membership ---- */

enum node_change_kind { NODE_CHANGE_ADD = 1, NODE_CHANGE_REMOVE = 2 };

/* What a change comes to, or would. */
struct node_change_report {
    bool is_changed; /* false: refused, or it is so already */
    uint64_t epoch;  /* of the placement with it */
    /* How many more voters may fail, of those that answer now. Negative: so many are missing. */
    int32_t can_lose_before;
    int32_t can_lose_after;
    uint64_t bytes_to_move;   /* about, to the newcomer */
    const char *refusal_code; /* static; NULL: not refused */
    const char *refusal;      /* a sentence */
};

/* A change of the placement on its way. Same life and cancel rules as node_write. */
struct node_change {
    /* Set by the caller. */
    enum node_change_kind kind;
    char address[ADDRESS_BYTES_MAX];
    char peer_address[ADDRESS_BYTES_MAX]; /* of a node to add, which is asked for its store id */
    bool is_dry_run;
    uint64_t deadline_ns;
    void (*on_done)(struct node_change *change, enum tl_err err);
    void *context;
    /* Valid in on_done with TL_OK. */
    struct node_change_report report;
    /* The node's own. */
    struct node *node;
    uint32_t state;
    raft_id newcomer_id;
    struct node_read read;
    struct node_write write;
    struct node_change *next;
};

/* Starts a change. TL_OK: on_done is called exactly once, later: with TL_OK, when the placement is
 * changed (the groups follow it by themselves), or is so already, or the change is refused, or was
 * only asked about; with an error as of node_read() or node_write(). Returned errors likewise. */
TL_MUST_CHECK enum tl_err node_change(struct node *node, struct node_change *change);
void node_change_cancel(struct node *node, struct node_change *change);

/* ---- leadership ---- */

struct node_leader_transfer_report {
    bool is_changed;          /* leadership has moved; of a dry run: it would be tried */
    raft_id from;             /* who led; RAFT_ID_NONE: not known */
    raft_id to;               /* who leads now, or would */
    const char *refusal_code; /* static; NULL: not refused */
    const char *refusal;      /* a sentence */
};

/* A transfer of a group's leadership on its way. Same life and cancel rules as node_write. */
struct node_leader_transfer {
    /* Set by the caller. */
    raft_group group;
    char address[ADDRESS_BYTES_MAX]; /* of the voter that is to lead; "": the best there is */
    bool is_dry_run;
    uint64_t deadline_ns;
    void (*on_done)(struct node_leader_transfer *transfer, enum tl_err err);
    void *context;
    /* Valid in on_done with TL_OK. */
    struct node_leader_transfer_report report;
    /* The node's own. */
    struct node *node;
    uint32_t state;
    bool is_inbound;  /* came from a peer: its one hop is done */
    bool is_stranger; /* no member has the address */
    raft_id target;
    raft_id asked;
    uint64_t request_id;
    uint64_t begun_ns;
    uint64_t retry_ns; /* nobody is asked before */
    struct node_leader_transfer *next;
};

/* Starts a transfer, whoever leads. TL_OK: on_done is called exactly once, later, with
 *   TL_OK           leadership has moved, or stands there already, or the transfer is refused, or
 *                   was only asked about
 *   TL_ERR_TIMEOUT  the target did not catch up within an election timeout: it was not even told
 *   TL_ERR_BUSY     leadership is moving to another voter
 *   TL_ERR_NO_LEADER, TL_ERR_NO_QUORUM, TL_ERR_STOPPING, TL_ERR_FULL
 *                   nothing was tried
 *   TL_ERR_UNKNOWN  the leader that was asked has not answered, or the target was told to take over
 *                   and has not yet
 * Returned: TL_ERR_STARTING, TL_ERR_STOPPING, TL_ERR_DIVERGED, TL_ERR_FULL, TL_ERR_NOT_FOUND (no
 * such group). */
TL_MUST_CHECK enum tl_err node_leader_transfer(struct node *node,
                                               struct node_leader_transfer *transfer);
void node_leader_transfer_cancel(struct node *node, struct node_leader_transfer *transfer);

/* NULL before the group exists here (birth). */
struct views *node_views(struct node *node, raft_group group);
uint64_t node_applied_time_us(const struct node *node, raft_group group); /* causal token of now */
/* In how many whole seconds at the latest log time has risen by `span_us`, while there is a leader:
 * for Retry-After. At least 1. */
uint64_t node_log_time_seconds(uint64_t span_us);
uint64_t node_applied_revision(const struct node *node, raft_group group);
/* How old a local read may be: since this node last knew to be caught up with a leader; ms. */
uint64_t node_age_ms(const struct node *node, raft_group group);
raft_id node_self(const struct node *node);
/* "host:port" that its peers reach: the placement's, or before it lists this store the option's. */
const char *node_peer_address(const struct node *node);

/* ---- the log, for those who look at it ---- */

#define NODE_LOG_QUERIES_MAX 16u
#define NODE_LOG_QUERY_ENTRIES_MAX 1000u
#define NODE_LOG_QUERY_BYTES_MAX (4u * 1024u * 1024u)

enum node_log_query_kind { NODE_LOG_ENTRIES = 0, NODE_LOG_VERIFY = 1 };

/* A look at a group's durable log: some entries, or a check of the whole chain. What is in memory
 * is given out from there; the rest is read on the background thread, one slice at a time for all
 * queries of the node, so that neither peers that lag nor the log's commits wait for a long check.
 * Same life and cancel rules as node_write. */
struct node_log_query {
    /* Set by the caller. */
    raft_group group;
    enum node_log_query_kind kind;
    raft_index from; /* ENTRIES: the first wanted; 0: the newest ones */
    uint32_t limit;  /* ENTRIES: 1 ... NODE_LOG_QUERY_ENTRIES_MAX */
    /* ENTRIES: for all of it; VERIFY: for each slice, as long as a log is long. */
    uint64_t timeout_ns;
    void (*on_done)(struct node_log_query *query, enum tl_err err);
    void *context;
    /* Set by the node, valid in on_done. */
    raft_index first;  /* kept and durable here: first ... last; none when last < first */
    raft_index last;   /* VERIFY: first ... last are those that were checked */
    raft_index commit; /* what is above it may still be replaced */
    /* ENTRIES: borrowed until on_done returns. */
    struct buf *const *entries;
    uint32_t entries_count;
    struct hash128 previous_hash; /* in front of entries[0] */
    struct hash128 last_hash;     /* VERIFY: of entry `last` */
    struct tl_fault fault;        /* TL_ERR_CORRUPT: where, and why */
    /* The node's own. */
    uint32_t state;
    uint64_t deadline_ns;
    raft_index next_index; /* VERIFY: the next slice begins here; 0: not begun */
    int32_t outcome;       /* enum tl_err of the read that has come */
    struct node_log_read *read;
    struct node_log_query *next;
};

/* Starts a query. TL_OK: on_done is called exactly once, later, with
 *   TL_OK             entries, or a chain without a break
 *   TL_ERR_COMPACTED  ENTRIES: `from` is below `first`
 *   TL_ERR_CORRUPT    a record failed its check; `fault` names it. The node has reported it and
 *                     ends (exit 4) NODE_DAMAGE_GRACE_NS later: time to tell the client
 *   TL_ERR_TIMEOUT, TL_ERR_STOPPING
 * Returned: TL_ERR_NOT_FOUND (no such group), TL_ERR_STARTING (also while the log is replayed: its
 * reads go first), TL_ERR_STOPPING, TL_ERR_FULL; on_done is then never called. */
TL_MUST_CHECK enum tl_err node_log_query(struct node *node, struct node_log_query *query);
void node_log_query_cancel(struct node *node, struct node_log_query *query);
#define NODE_DAMAGE_GRACE_NS 1000000000ull

/* ---- stopping ---- */
/* Hands over every group this node leads, from now on whenever it leads one. Requests are served as
 * before. node_is_handed_over() when it leads none, nobody could take over, or
 * NODE_HAND_OVER_MAX_NS have passed. */
void node_hand_over(struct node *node);
bool node_is_handed_over(const struct node *node);
/* No new requests (TL_ERR_STOPPING); freezes and flushes what is applied. node_is_drained() when
 * nothing is waiting and all is flushed. */
void node_drain(struct node *node);
bool node_is_drained(const struct node *node);

/* ---- status ---- */
enum node_stage {
    NODE_STAGE_BIRTH = 0,
    NODE_STAGE_REPLAY = 1,
    NODE_STAGE_RUNNING = 2,
    NODE_STAGE_DRAINING = 3
};

/* What the exchange of digests has shown (docs/operations.md). */
enum node_digests {
    NODE_DIGESTS_AGREE = 0,
    NODE_DIGESTS_DIFFER =
        1, /* some members have another state; this one is not known to be wrong */
    NODE_DIGESTS_DIVERGED = 2, /* most are equal and this one is not: it does not serve any more */
};

struct node_group_status {
    raft_group group;
    enum node_digests digests;
    raft_index differs_at;    /* the first index at which a difference was seen; 0: none */
    uint32_t differing_count; /* members whose state is not this replica's */
    raft_id differing[RAFT_MEMBERS_MAX];
    struct raft_status raft;
    struct group_state state; /* as applied; digests included */
    raft_index flushed;
    uint64_t map_used_bytes; /* of the table, as of its last flush */
    uint32_t frozen_count;
    uint64_t generation_bytes;
    uint32_t generation_keys_count;
    uint64_t replay_left; /* entries below the commit index known at start not yet applied */
    bool is_ready;        /* it has a leader and has caught up with it */
};

struct node_status {
    enum node_stage stage;
    struct store_id store_id;
    struct store_id cluster_id;
    uint32_t members_count;
    struct member members[RAFT_MEMBERS_MAX];
    enum member_role member_roles[RAFT_MEMBERS_MAX];
    bool member_is_connected[RAFT_MEMBERS_MAX]; /* raft class; self: true */
    /* How old its oldest unfinished log commit was when it was last heard; self: is now. */
    uint32_t member_log_commit_age_ms[RAFT_MEMBERS_MAX];
    /* As last told; UINT64_MAX: not known. A member with a lack is no leader for new data, and does
     * not count for a quorum that can store it. */
    uint64_t member_free_bytes[RAFT_MEMBERS_MAX];
    uint64_t member_map_free_bytes[RAFT_MEMBERS_MAX];
    enum tl_err member_space_lack[RAFT_MEMBERS_MAX]; /* TL_OK: it has room, as far as is known */
    uint64_t placement_epoch;
    uint32_t removed_count; /* removed stores that are remembered */
    uint32_t groups_count;
    bool is_diverged; /* of some group: no client is served (node_group_status.digests) */
    uint64_t requests_waiting_count;
    uint64_t request_bytes_waiting;
    uint64_t log_used_bytes;
    uint64_t free_bytes;
    uint64_t map_limit_bytes; /* of each table: --map-size */
    uint64_t log_limit_bytes;
    enum tl_err space_lack;  /* why this node takes no new data as a leader; TL_OK: it has room */
    uint64_t replayed_count; /* entries replayed at the last start */
    uint32_t log_commit_age_ms;
    bool is_log_commit_slow; /* older than NODE_LOG_COMMIT_SLOW_NS */
    char waits_for[1024];    /* birth: whom or what it waits for, a sentence; else "" */
};
void node_get_status(const struct node *node, struct node_status *out_status);
void node_get_group_status(const struct node *node, raft_group group,
                           struct node_group_status *out_status);

/* A snapshot on its way from or to this node. */
#define NODE_TRANSFERS_MAX 3u
struct node_transfer_status {
    bool is_outgoing;
    raft_group group;
    raft_id peer;
    const char *stage; /* a word: "cut", "offer", "send", "receive", "finish", "install" */
    raft_index index;  /* 0: not known yet */
    uint64_t rows;
    uint64_t bytes_done; /* sent and stored by the other side, or stored here */
    uint64_t bytes;
    uint64_t bytes_per_s; /* outgoing: what the sender allows itself */
    uint64_t age_ms;
};
/* Returns how many there are. */
uint32_t node_get_transfers(const struct node *node,
                            struct node_transfer_status out_transfers[NODE_TRANSFERS_MAX]);
/* Whether it serves, and every group is ready (readyz). */
bool node_is_ready(const struct node *node);
const struct member *node_member(const struct node *node, raft_id id); /* NULL: none */

/* Counters since start; read by /metrics. */
struct node_metrics {
    struct histogram log_commit_idle_us;  /* while no flush runs */
    struct histogram log_commit_flush_us; /* while one runs */
    struct histogram log_batch_entries;   /* values are counts */
    struct histogram flush_us;
    struct histogram write_us; /* node_write to on_done, TL_OK only */
    struct histogram read_us;  /* node_read to on_ready, TL_OK only */
    struct histogram turn_us;  /* length of node_turn: loop lag */
    uint64_t writes_ok_count;
    uint64_t writes_refused_count; /* TL_ERR_FULL at once */
    uint64_t writes_failed_count;  /* certainly not executed */
    uint64_t writes_unknown_count;
    uint64_t writes_forwarded_count;
    uint64_t reads_linearizable_count; /* TL_OK only; those that failed: reads_failed_count */
    uint64_t reads_causal_count;
    uint64_t reads_local_count;
    uint64_t reads_failed_count;
    uint64_t entries_applied_count;
    uint64_t entries_appended_count;
    uint64_t bytes_appended_count;
    uint64_t flushes_count;
    uint64_t frames_sent_count;
    uint64_t frames_received_count;
    uint64_t frames_invalid_count;
    uint64_t messages_ignored_count; /* of a process that is refused, or not judged yet */
    uint64_t snapshots_sent_count;      /* and installed */
    uint64_t snapshots_installed_count; /* here */
    uint64_t snapshots_failed_count;    /* given up, at either end */
    uint64_t snapshot_resumes_count;
    uint64_t snapshot_bytes_sent_count;
    uint64_t snapshot_bytes_received_count;
    uint64_t replays_count; /* idempotent repeats answered from the record */
    uint64_t confs_proposed_count;
    uint64_t log_queries_count;
    uint64_t log_entries_verified_count; /* by queries and at start */
    uint64_t log_commits_slow_count; /* took longer than NODE_LOG_COMMIT_SLOW_NS, or are at it */
    uint64_t writes_without_space_count; /* refused by this leader for want of space or map */
};
const struct node_metrics *node_get_metrics(const struct node *node);

#endif
