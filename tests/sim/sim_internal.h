/* sim_internal.h - the parts of the simulator and what they share.
 *
 * Role:       sim.c runs the clock and the phases; host.c owns the nodes and their disks; network.c
 *             the connections, bandwidth.c what they take; nemesis.c the faults; moments.c those at
 *             the n-th time that something happens; members.c who is to be a member, and disks that
 *             are emptied; rollback.c disks that go back to older copies; rot.c disks that give
 *             back other bytes; full.c disks without room; workload.c the clients; oracle.c the
 *             judges, oracle_conf.c those of configurations; clocks.c wrong clocks and the judges
 *             of log time; swarm.c draws a seed's options; liveness.c judges the end.
 * Thread:     one.
 */

#ifndef TL_SIM_INTERNAL_H
#define TL_SIM_INTERNAL_H

#include "event_heap.h"
#include "mem_disk.h"
#include "model.h"
#include "sim.h"
#include "trilith/node.h"
#include "trilith/prng.h"

#define SIM_NODES_MAX 6u
#define SIM_STORES_MAX 48u /* disks with an identity of their own, in one run */
#define SIM_CLIENTS_MAX 8u
#define SIM_KEYS_MAX 8u
#define SIM_GROUPS_COUNT 2u
#define SIM_READ_KEYS_MAX 3u
#define SIM_SNAPSHOT_JOBS_MAX 4u /* one per transfer, and a table that is deleted */
#define SIM_PAST_MAX 16u         /* keyed requests of a client that it may repeat late */
#define SIM_WORLD UINT32_MAX     /* node of an event that concerns none */

#define SIM_MAP_BYTES (1u << 30)
#define SIM_MAP_HEADROOM_BYTES (1u << 20)
/* Until a node hears what its disk has done. Pauses are longer. */
#define SIM_TELL_DELAY_NS (100 * SIM_US)
#define SIM_NEVER UINT64_MAX
#define SIM_VALUE_BYTES_MAX 4096u
#define SIM_US 1000ull
#define SIM_MS 1000000ull
#define SIM_S 1000000000ull

enum event_kind {
    EVENT_START, /* node; a: 1 even if it is off */
    EVENT_TURN,
    EVENT_TIMER,      /* a: token */
    EVENT_LOG_COMMIT, /* the writer's commit is durable */
    EVENT_LOG_DONE,   /* data: the batch; a: the error it has failed with, as below */
    EVENT_FLUSH_COMMIT,
    EVENT_FLUSH_DONE, /* a: the error it has failed with, as a positive number; 0: none */
    EVENT_LOG_READ,
    EVENT_SNAPSHOT, /* the job at the head of the queue is carried out */
    EVENT_SNAPSHOT_DONE,
    EVENT_FRAME, /* data: buf; a: connection generation; b: class */
    EVENT_BIRTH_ASK,
    EVENT_BIRTH_REPLY,
    EVENT_DRAIN_CHECK,
    EVENT_CRASH,
    EVENT_CONNECT,   /* a, b: the pair */
    EVENT_LINK_DOWN, /* peer; a: generation; b: class */
    EVENT_REFUSED,   /* peer; b: class */
    EVENT_REQUEST,   /* data: struct request */
    EVENT_READ_NOW,  /* data: struct request */
    EVENT_REPLY,     /* data: struct reply */
    EVENT_CLIENT_NEXT,
    EVENT_CLIENT_REPEAT,  /* a: attempt */
    EVENT_CLIENT_GIVE_UP, /* a: attempt */
    EVENT_FAULT,
    EVENT_HEAL, /* a: partition number */
    EVENT_OPERATOR,
    EVENT_ROLLBACK, /* a: its number */
    EVENT_HUNG,     /* node: whose log commits hang */
    EVENT_DEPOSAL,  /* peer: the node that is cut off; a: enum deposal */
    EVENT_MOMENT,   /* peer: the node in which it has come; a: the fault; b: its incarnation */
    EVENT_MOMENT_NEXT,
    EVENT_ROOM, /* a: number of the time that file systems are full */
    EVENT_PAUSE, /* peer: the node, which has just gone on */
    EVENT_ROT, /* peer: the node that has found damage; a: its incarnation */
    EVENT_STORM_END,
    EVENT_LIVENESS_CHECK,
};

/* What a seed draws. Times in ns unless named otherwise. */
struct swarm {
    uint32_t nodes_count;    /* machines */
    uint32_t founders_count; /* of these, in the view */
    uint32_t clients_count;
    uint32_t keys_count;
    uint64_t storm_ns;
    uint64_t birth_spread_ns;
    /* node options */
    uint64_t election_timeout_ns; /* six heartbeats */
    uint32_t generation_rows_max;
    uint64_t generation_age_ns;
    uint64_t log_retain_bytes;
    uint64_t log_cache_bytes;
    uint32_t snapshot_chunk_bytes;
    bool has_snapshots; /* the log is deleted, whoever still needs it */
    /* network */
    bool is_datagram; /* raft frames are lost, doubled and reordered one by one */
    uint64_t delay_min_ns;
    uint64_t delay_mean_ns;
    uint32_t loss_ppm;
    uint32_t duplicate_ppm;
    uint64_t duplicate_delay_ns;
    uint32_t reset_ppm; /* connections reset per frame */
    /* disk */
    uint64_t commit_min_ns;
    uint64_t commit_mean_ns;
    uint64_t flush_mean_ns;
    uint64_t log_read_mean_ns;
    uint64_t snapshot_mean_ns; /* per job */
    uint32_t stall_ppm;
    uint64_t stall_mean_ns;
    /* turns: how long inputs gather */
    uint64_t turn_delay_ns;
    int32_t clock_ppm_max;
    /* faults: mean time between them, and the weight of each kind; 0: not in this seed */
    uint64_t fault_mean_ns;
    uint32_t crash_weight;
    uint32_t crash_all_weight;
    uint32_t stop_weight;
    uint32_t partition_weight;
    uint32_t pause_weight;
    uint32_t clock_weight;
    uint32_t reset_weight;
    uint32_t hang_weight;      /* log commits of one, some or all nodes stand still */
    uint32_t transfer_weight;  /* leadership is asked to move */
    uint32_t wipe_weight;      /* a node's disk is emptied */
    uint32_t rollback_weight;  /* a disk goes back to an older copy of itself */
    uint64_t operator_mean_ns; /* between changes of the membership; 0: none */
    uint64_t hang_mean_ns;
    uint32_t class_cut_ppm;  /* partitions that cut some classes of connections only */
    uint64_t moment_mean_ns; /* between faults at a moment; 0: none */
    uint32_t full_weight;    /* file systems run full */
    uint64_t free_bytes_min; /* the nodes' reserve */
    uint32_t rot_weight;     /* what is on a disk is damaged */
    uint64_t bytes_per_s[PEER_CLASSES_COUNT]; /* of each direction of a link; 0: no limit */
    uint64_t queue_bytes_max;                 /* that wait for it */
    uint32_t limits_divisor;                  /* of the nodes' limits in bytes */
    uint32_t padding_max;                     /* of values */
    uint32_t alter_ppm;  /* per end of a process: the last entry was written wrongly */
    bool hangs_all;      /* all nodes at once, or none */
    bool hangs_leader;   /* the leader's alone: it has to go */
    uint32_t depose_ppm; /* per new leader, and per transfer: it is cut off */
    uint32_t absent_ppm; /* per frame of a snapshot: the receiver is cut off for long */
    uint64_t pause_max_ns;
    uint32_t pause_again_ppm; /* per pause: another one as soon as it is over */
    bool isolates;   /* cuts off one that leads nothing: no leader has to go */
    bool wipes_most; /* at the end all but one are emptied: they have to wait for ever */
    uint32_t commit_error_ppm;
    uint32_t crash_in_commit_ppm; /* per commit */
    uint32_t crash_in_flush_ppm;
    uint32_t crash_at_point_ppm; /* per CRASH_POINT */
    uint64_t down_mean_ns;
    uint64_t partition_mean_ns;
    uint64_t pause_mean_ns;
    /* workload */
    uint64_t think_mean_ns;
    uint32_t keyed_ppm;
    uint32_t read_ppm;
    uint64_t request_timeout_ns;
    uint32_t records_max;
    uint32_t future_token_ppm; /* writes whose token moves the log's time ahead by a minute */
    uint32_t late_repeat_ppm;  /* writes that are an earlier keyed request once more */
    bool has_wild_clocks;      /* all of them, from the beginning, by hours or days */
    bool reads_are_inline;     /* in the callback, or on a thread of their own a little later */
};

struct request;
struct reply;

/* What a store has acknowledged in its newest term, and a snapshot it has switched to since a
 * leader's append was last delivered to it. */
struct sim_ack {
    raft_term term;
    raft_index index;
    bool is_unasked;
    struct raft_base install;
};

/* A disk with an identity: of a machine now, or of one whose disk was emptied. */
struct sim_store {
    raft_id id;
    uint32_t node;
    struct mem_disk *disk;
    struct sim_ack acks[SIM_GROUPS_COUNT];
};

/* Log time as a leader gave it last (clocks.c). */
struct clock_lead {
    raft_term term;
    uint64_t time_us;
    uint64_t real_ns; /* when it was seen first */
};

struct sim_node_group {
    raft_index commit; /* highest seen since this start */
    raft_index applied;
    raft_index verified; /* its disk equals the ghost log up to here */
    raft_term term;
    uint32_t frozen_count;
    /* As leader: since when, with this term and configuration. */
    raft_term led_term;
    raft_index led_conf;
    uint64_t led_since_ns;
    struct clock_lead lead;
};

/* What a store has promised to a process, from what was delivered: its highest term, and the last
 * entry that it acknowledged in that. */
struct sim_promise {
    raft_id id;
    raft_term term[SIM_GROUPS_COUNT];
    raft_index index[SIM_GROUPS_COUNT];
};

struct sim_node {
    uint32_t number;
    char address[32];
    char peer_address[32];
    char data_dir[32];
    struct mem_disk *disk;
    struct mem_disk *copy; /* an older state of some disk it has had, or NULL */
    raft_id id;            /* 0 until its disk has an identity */
    uint32_t incarnation;
    struct prng random;
    int32_t clock_ppm;
    int64_t clock_offset_us;
    uint64_t clock_stopped_us; /* its wall clock stands still there; 0: it goes */
    uint64_t paused_until_ns;
    bool is_crashing; /* its node is being destroyed: callbacks tell nobody */
    bool is_draining;
    bool is_wanted;       /* it is to be a member in the end */
    bool is_founder;      /* started with the view, not through a member */
    bool is_off;          /* not to be started: its store was removed, or it waits for its part */
    bool has_failed;      /* its process has said that it must end */
    bool has_met_damage;  /* a read has: its process ends now */
    raft_term wrong_term; /* that it leads with a log that is not the others' */
    uint64_t wrong_since_ns;
    uint32_t stores_count;             /* disks it has had */
    uint64_t hangs_until_ns;           /* its log commits */
    uint32_t store;                    /* the newest of them, in sim.stores */
    uint64_t heard_ns[SIM_STORES_MAX]; /* frames for consensus */

    /* All below: of this incarnation. */
    struct node *node; /* NULL: down */
    uint64_t timer_token;
    uint32_t timers_past; /* set one after the other for a time that has passed */
    bool has_turn_coming;
    struct node_log_batch *queue; /* given to the writer, not yet taken */
    struct node_log_batch *taken; /* in the commit under way */
    uint64_t taken_ns;            /* when that began */
    struct node_log_batch *done;  /* durable, not yet told */
    struct node_flush_job *flush;
    bool flush_is_durable;
    bool flush_is_of_storm; /* its latency was drawn in the storm */
    struct node_snapshot_job *snapshots[SIM_SNAPSHOT_JOBS_MAX]; /* a queue, the first at work */
    uint32_t snapshots_count;
    enum tl_err snapshot_err;
    struct tl_fault snapshot_fault;
    raft_id knows[RAFT_MEMBERS_MAX]; /* members it was told to connect to */
    uint32_t knows_count;
    struct view_reader *reader;
    struct sim_node_group groups[SIM_GROUPS_COUNT];
    uint64_t replayed_count;
    struct sim_promise promises[SIM_NODES_MAX]; /* by the machine they come from */
};

/* Connection of one class of a pair; sides: 0 the lower number, 1 the higher. */
struct sim_link {
    uint64_t generation;
    bool is_up[2];
    bool is_broken;                 /* nothing gets through any more; the sides are yet to notice */
    uint64_t last_arrival_ns[2][2]; /* by side; of urgent frames, which overtake others, apart */
    uint64_t free_ns[2];            /* when all that waits has left */
    raft_id ids[2];                 /* whom it connects */
};

enum attempt_state { ATTEMPT_OPEN, ATTEMPT_OK, ATTEMPT_DEFINITE, ATTEMPT_UNKNOWN };

/* One request to one node. Its number is the `origin` of its command. */
struct attempt {
    uint32_t op;
    enum attempt_state state;
    bool is_keyed;
    uint64_t begun_ns;
    raft_index first_index; /* where it stands in the committed log; 0: nowhere yet */
};

/* What a scan asks for; keys by their numbers. */
struct sim_scan {
    bool is_scan;
    bool is_reverse;
    bool has_start;
    bool has_end;
    uint8_t start;
    uint8_t end;
    uint8_t rows_max; /* 1 to SIM_KEYS_MAX */
};

struct client {
    uint32_t number;
    bool is_busy;
    bool is_waiting;         /* between two attempts */
    uint64_t attempt;        /* the one it waits for */
    uint32_t attempts_count; /* of this operation */
    struct command command;  /* its key and value stand below */
    uint8_t key[16];
    uint8_t value[SIM_VALUE_BYTES_MAX + 48];
    bool is_read;
    enum node_consistency consistency;
    uint32_t read_keys_count;
    uint8_t read_keys[SIM_READ_KEYS_MAX];
    struct sim_scan scan;
    struct buf *txn;  /* what the command's value points to; NULL: it is none */
    raft_index floor; /* a linearizable answer is at or above this */
    uint64_t token_us;
    uint64_t ops_count;
    uint64_t ops_answered_count;
};

/* What an entry of the committed log is. */
struct ghost_entry {
    raft_term term;
    raft_term committed_term; /* in which somebody first said so */
    struct hash128 hash;
    uint64_t time_us;
    bool has_state; /* the first replica that stopped here said: */
    struct hash128 rows_digest;
    struct hash128 records_digest;
};

/* A committed configuration. */
struct ghost_conf {
    raft_index index;
    struct raft_conf conf;
};

struct ghost_log {
    struct ghost_entry *entries; /* entries[i] is entry i + 1 */
    size_t count;
    size_t capacity;
    raft_id *leaders; /* per term */
    size_t leaders_count;
    raft_term leader_term_max;
    uint64_t leader_since_ns; /* when its leader was seen first */
    raft_term kept_term;      /* of a leader that has no reason to go; 0: nothing is sure */
    struct ghost_conf *confs;
    size_t confs_count;
};

/* Whoever changes the membership: one change at a time. */
struct sim_operator {
    bool is_busy;
    uint32_t node; /* that is asked */
    uint32_t target;
    struct node_change change;
    bool is_transferring;
    struct node_leader_transfer transfer;
};

/* When a fault may be due: the n-th time that this happens. */
enum sim_moment {
    MOMENT_NONE,
    MOMENT_LOG_COMMIT, /* of one that leads, counted from when it began to */
    MOMENT_CONF,       /* a configuration is about to be durable */
    MOMENT_TRUNCATION, /* a truncation is */
    MOMENT_CHUNK,      /* a part of a snapshot is sent */
    MOMENT_INSTALL,    /* the switch to a snapshot is about to be durable */
    MOMENT_ELECTION,   /* one leads a new term */
    MOMENT_TRANSFER,   /* a leader tells another to take over */
    MOMENT_VOTE,       /* a vote leaves */
    MOMENT_FREEZE,
    MOMENT_FLUSH_BEGIN,
    MOMENT_FLUSH_DONE,
    MOMENT_FORWARD, /* a write leaves for the leader */
    MOMENTS_COUNT,
};

/* The moment that is waited for. */
struct sim_trigger {
    enum sim_moment moment; /* MOMENT_NONE: none is */
    uint32_t left;          /* times */
    uint32_t step;
    uint64_t number; /* of the moments waited for so far */
};

/* A disk that goes back to an older copy. Until it is refused nothing else happens. */
struct sim_rollback {
    struct sim_node *node; /* NULL: none */
    uint64_t number;
    bool is_done; /* the copy is in the machine */
    uint64_t life; /* of the process that has it; 0: it has said nothing yet */
    bool knows_better[SIM_NODES_MAX];
};

/* File systems that are full. */
struct sim_full {
    bool is_active;
    bool is_near;      /* all have something left */
    bool is_of_maps;   /* LMDB maps are full, and not file systems */
    uint64_t number;   /* of such times so far */
    uint64_t since_ns; /* 0: not all are */
    uint64_t ended_ns; /* when there was room again */
    bool is_leader_tested;
    struct sim_node *leader; /* the one that was filled at rest */
};

/* An answer to be judged once the ghost log has caught up with whoever gave it. */
struct judgement {
    bool is_read;
    uint64_t attempt;
    struct kv_result result;
    /* reads */
    raft_index applied;
    raft_index floor;
    uint64_t token_us;
    enum node_consistency consistency;
    uint32_t keys_count;
    uint8_t keys[SIM_KEYS_MAX];
    struct row_header headers[SIM_KEYS_MAX];
    struct buf *values[SIM_KEYS_MAX]; /* NULL: absent */
    /* scans: keys are those that were seen, in this order */
    struct sim_scan scan;
    bool is_last_page;
    bool is_of_altered; /* given by one that cannot know better */
    /* transactions: a copy of what result has */
    struct buf *results;
};

/* ---- clocks.c ---- */

struct clock_item {
    bool is_used;
    struct hash128 key;
    uint64_t real_ns;
    uint64_t number;
};

struct clock_map {
    struct clock_item *items; /* open addressing */
    size_t capacity;          /* a power of two, or 0 */
    size_t count;
};

/* How far log time may have come along the committed log. */
struct clock_chain {
    uint64_t limit_us;
    uint64_t real_ns; /* 0: nothing is committed */
};

struct sim_past {
    struct buf *entry; /* NULL: none; owned */
    uint8_t key;
};

struct sim_clocks {
    struct prng random;
    int64_t jump_max_us;
    uint64_t slept_ns; /* of all machines: their monotonic clocks have counted it */
    uint64_t slept_last_ns;
    struct clock_map made;    /* by entry: when it was seen first */
    struct clock_map effects; /* by Idempotency-Key: when it took effect last, and as which */
    uint64_t effects_count;
    struct clock_chain chains[SIM_GROUPS_COUNT];
    struct sim_past past[SIM_CLIENTS_MAX][SIM_PAST_MAX];
    uint32_t past_count[SIM_CLIENTS_MAX];
    struct buf *repeated[SIM_CLIENTS_MAX]; /* what its command borrows from, or NULL; owned */
};

struct sim {
    struct sim_options options;
    struct sim_result *result;
    struct swarm swarm;
    struct event_heap heap;
    uint64_t now_ns;
    bool is_over;
    bool is_calm; /* the storm is over */
    struct prng net_random;
    struct prng disk_random;
    struct prng fault_random;
    struct prng work_random;
    struct prng more_random; /* of what came later: the seeds of what was there stay as they were */

    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_node *at_disk; /* who may die at a crash point now; NULL: nobody */
    struct sim_store stores[SIM_STORES_MAX];
    uint32_t stores_count;
    struct sim_operator operator;
    struct sim_clocks clocks;
    struct sim_rollback rollback;
    uint64_t isolated_until_ns; /* of the node that was cut off last */
    uint64_t hung_ns;           /* when the leader's log commits hung last; 0: never */
    struct sim_link links[SIM_NODES_MAX][SIM_NODES_MAX][PEER_CLASSES_COUNT]; /* [low][high] */
    /* Partitions that cut from -> to. */
    uint32_t blocked[SIM_NODES_MAX][SIM_NODES_MAX][PEER_CLASSES_COUNT];
    uint8_t cuts[64][SIM_NODES_MAX][SIM_NODES_MAX]; /* per partition number: the classes, as bits */
    uint32_t partitions_count;
    struct sim_trigger trigger;
    struct sim_full full;
    struct node_log_query log_check;
    bool is_log_checked; /* log_check is under way */

    struct client clients[SIM_CLIENTS_MAX];
    struct attempt *attempts; /* attempts[i] has number i + 1 */
    size_t attempts_count;
    size_t attempts_capacity;
    struct request *requests;             /* at nodes, and not yet answered */
    uint64_t last_revision[SIM_KEYS_MAX]; /* of acknowledged writes: for conditions */
    bool takes_no_more;                   /* clients start nothing new */
    raft_index acked_index;               /* highest index any client has had an answer from */

    struct ghost_log ghosts[SIM_GROUPS_COUNT];
    struct placement *placement; /* as committed; NULL: as genesis says */
    struct model model;
    struct judgement *judgements;
    size_t judgements_count;
    size_t judgements_capacity;
    struct store_id cluster_id; /* zero: none yet */

    uint32_t liveness_stage; /* liveness.c */
    uint64_t liveness_stage_ns;
    raft_term settled_term[SIM_GROUPS_COUNT];
    uint32_t probes_count;
    bool has_probed;
    uint64_t probes_answered_count; /* client 0's answers before the probe under way */
};

/* ---- sim.c ---- */
void sim_push(struct sim *sim, uint64_t time_ns, const struct event *event);
__attribute__((format(printf, 2, 3))) void sim_fail(struct sim *sim, const char *format, ...);
__attribute__((format(printf, 2, 3))) void sim_trace(struct sim *sim, const char *format, ...);
/* Exponential with this mean, capped at ten times of it. */
uint64_t sim_exponential(struct prng *prng, uint64_t mean_ns);

/* ---- swarm.c ---- */
void swarm_draw(struct swarm *swarm, uint64_t seed, const char *profile);

/* ---- host.c ---- */
void host_init(struct sim *sim);
void host_deinit(struct sim *sim);
void host_start(struct sim *sim, struct sim_node *node);
void host_crash(struct sim *sim, struct sim_node *node);
void host_stop(struct sim *sim, struct sim_node *node); /* drains, then ends */
/* To be called after anything was done to its node: a turn will follow. */
void host_wake(struct sim *sim, struct sim_node *node);
void host_on_event(struct sim *sim, struct sim_node *node, const struct event *event);
/* What the flusher's thread may do while a reader is on its way. */
void host_run_flush_now(struct sim *sim, struct sim_node *node, bool also_tell);
/* The machine that has this store; NULL: it never existed, or is no more. */
struct sim_node *host_find(struct sim *sim, raft_id id);
/* Puts an empty disk into a machine that is down. */
void host_empty_disk(struct sim *sim, struct sim_node *node);
/* Puts the copy of its disk into a machine that is down. */
void host_put_back(struct sim *sim, struct sim_node *node);
uint64_t host_node_time(const struct sim_node *node, uint64_t world_ns);
uint64_t host_clock_us(const struct sim_node *node); /* its wall clock now */
bool host_is_born(const struct sim_node *node);
/* Whether it leads the group in the newest term there is. */
bool host_leads(const struct sim *sim, const struct sim_node *node, raft_group group);

/* ---- network.c ---- */
void network_init(struct sim *sim);
bool network_send(struct sim *sim, struct sim_node *from, raft_id to, enum peer_class class,
                  bool is_urgent, struct buf *frame);
size_t network_backlog(struct sim *sim, struct sim_node *from, raft_id to);
void network_ask(struct sim *sim, struct sim_node *from, const char *peer_address,
                 struct buf *frame);
bool network_is_whole(const struct sim *sim); /* all links between members are up */
/* Closes what the node has to machines it does not know any more. */
void network_on_peers(struct sim *sim, struct sim_node *node);
void network_on_crash(struct sim *sim, struct sim_node *node);
void network_reset_link(struct sim *sim, uint32_t a, uint32_t b, enum peer_class class);
void network_on_event(struct sim *sim, const struct event *event);

/* ---- bandwidth.c ---- */
/* When a frame's last byte has left, behind what waits already; SIM_NEVER: it is not taken. */
uint64_t bandwidth_leave(struct sim *sim, uint64_t *free_ns, enum peer_class class, bool is_urgent,
                         size_t bytes);
/* Bytes of a direction that have not left by now. */
uint64_t bandwidth_waiting(const struct sim *sim, uint64_t free_ns, enum peer_class class);

/* ---- nemesis.c ---- */
void nemesis_init(struct sim *sim);
void nemesis_on_event(struct sim *sim, const struct event *event);
void nemesis_calm(struct sim *sim);                          /* heals everything */
void nemesis_on_end(struct sim *sim, struct sim_node *node); /* a process ended: start it again */
void nemesis_maybe_crash_in(struct sim *sim, struct sim_node *node, uint32_t ppm,
                            uint64_t latency_ns);

/* Heals what is cut and cuts the victim off, or only what comes to it. */
void nemesis_cut_off(struct sim *sim, uint32_t victim, bool is_deaf_only, uint64_t length_ns);

/* ---- deposal.c ---- */
void deposal_on_leader(struct sim *sim, const struct sim_node *node); /* first seen in its term */
void deposal_on_sent(struct sim *sim, const struct sim_node *from,
                     const struct raft_message *message);
/* A frame that takes its time is sent: of a snapshot, or the answer to one. */
void deposal_on_bulk(struct sim *sim, const struct sim_node *from, raft_id to);
void deposal_on_event(struct sim *sim, const struct event *event);
/* Cuts the node off, for as long as partitions last. */
void nemesis_isolate(struct sim *sim, const struct sim_node *node);
void nemesis_pause(struct sim *sim, struct sim_node *node);
void nemesis_hang(struct sim *sim, struct sim_node *node); /* its log commits */

/* ---- moments.c ---- */
void moments_init(struct sim *sim);
/* It happens, in this node: a fault may follow at once, or in the moment after. */
void moments_note(struct sim *sim, const struct sim_node *node, enum sim_moment moment);
void moments_note_ops(struct sim *sim, const struct sim_node *node, const struct log_op *ops,
                      uint32_t ops_count);
void moments_on_event(struct sim *sim, const struct event *event);

/* ---- full.c ---- */
void full_inject(struct sim *sim, struct sim_node *node);
void full_on_event(struct sim *sim, const struct event *event);
void full_calm(struct sim *sim);
/* Not TL_OK: disk or map has no room for it, and the process has to end. */
enum tl_err full_stops_log(struct sim *sim, struct sim_node *node,
                           const struct node_log_batch *batch);
enum tl_err full_stops_flush(struct sim *sim, struct sim_node *node);
void full_on_stopped(struct sim *sim, struct sim_node *node);
struct sim_node *full_fill_leader(struct sim *sim);
bool full_is_over(const struct sim *sim);
/* A write that may grow was executed. */
void full_judge_write(struct sim *sim, const struct attempt *attempt);

/* ---- rot.c ---- */
void rot_inject(struct sim *sim, struct sim_node *node); /* if it can be borne */
/* The process has ended: what it wrote last may not be what it was to write. */
void rot_alter(struct sim *sim, struct sim_node *node);
void rot_on_found(struct sim *sim, struct sim_node *node);
void rot_on_read_failed(struct sim *sim, struct sim_node *node); /* of a client */
void rot_on_ended(struct sim *sim, struct sim_node *node);       /* the process, because of it */
void rot_on_event(struct sim *sim, const struct event *event);
/* Of a node whose last entry was written wrongly. */
void rot_observe(struct sim *sim, struct sim_node *node, raft_group group,
                 const struct raft_status *status);
void rot_check_sent(struct sim *sim, const struct sim_node *from,
                    const struct raft_message *message);
/* Whether the process may end for its disk's sake. */
bool rot_explains(const struct sim_node *node);
void rot_calm(struct sim *sim);
/* What is still wrong with its disk; NULL: nothing. */
const char *rot_find_left(struct sim *sim, struct sim_node *node);

/* ---- workload.c ---- */
void workload_init(struct sim *sim);
void workload_on_event(struct sim *sim, const struct event *event);
void workload_drop_event(const struct event *event); /* frees its data */
bool workload_is_idle(const struct sim *sim);
void workload_deinit(struct sim *sim);
size_t workload_key(uint32_t number, uint8_t out_key[16]);
/* Sends one write (or linearizable read) of client 0 to this node; the workload is idle. */
void workload_probe(struct sim *sim, uint32_t node, bool is_read);

/* ---- oracle.c ---- */
void oracle_init(struct sim *sim);
void oracle_deinit(struct sim *sim);
void oracle_on_start(struct sim *sim, struct sim_node *node);
void oracle_observe(struct sim *sim, struct sim_node *node);
void oracle_observe_message(struct sim *sim, struct sim_node *from, struct bytes frame);
/* `judgement` is taken. */
void oracle_judge(struct sim *sim, const struct judgement *judgement);
void oracle_on_attempt_done(struct sim *sim, uint64_t attempt, enum attempt_state state);

/* ---- clocks.c ---- */
void clocks_init(struct sim *sim);
void clocks_deinit(struct sim *sim);
uint64_t clocks_real_ns(const struct sim *sim); /* virtual time, and what was slept */
void clocks_jump(struct sim *sim, struct sim_node *node);
void clocks_sleep(struct sim *sim);
/* A write that is drawn gets a token from the future, or meets sleeping machines. */
void clocks_disturb(struct sim *sim, struct command *command);
/* The client's operation is over. */
void clocks_note_past(struct sim *sim, const struct client *client);
/* Whether the client's next write is an earlier one of its own; then it is drawn. */
bool clocks_draw_repeat(struct sim *sim, struct client *client);
void clocks_on_made(struct sim *sim, const struct buf *entry); /* or seen for the first time */
/* In order, when the model has taken it. */
void clocks_on_committed(struct sim *sim, raft_group group, const struct buf *entry);
void clocks_observe(struct sim *sim, struct sim_node *node, raft_group group,
                    const struct raft_status *status);

/* ---- oracle_ack.c ---- */
/* Before a switch to a snapshot becomes durable. */
void ack_on_install(struct sim *sim, uint32_t node, const struct mem_log *log,
                    const struct log_op *op);
void ack_on_sent(struct sim *sim, const struct sim_node *from, const struct raft_message *message);
/* Before a frame of consensus is given to the node. */
void ack_on_frame(struct sim *sim, const struct sim_node *to, struct bytes payload);

/* ---- oracle_conf.c ---- */
/* Whether a quorum of the configuration, counted here and not by the core, holds. */
bool conf_holds(const struct raft_conf *conf, bool (*holds)(void *context, raft_id id),
                void *context);
/* The committed configuration in force at `index`; NULL: none yet. */
const struct raft_conf *conf_at(const struct sim *sim, raft_group group, raft_index index);
void conf_on_committed(struct sim *sim, raft_group group, const struct buf *entry);
/* Before an op with configurations becomes durable. */
void conf_on_log_op(struct sim *sim, uint32_t node, const struct mem_log *log,
                    const struct log_op *op);
void conf_observe(struct sim *sim, const struct sim_node *node, const struct raft_status *status,
                  raft_group group);
/* The node has had its turn: what the time asks of it is done. */
void conf_on_turn(struct sim *sim, struct sim_node *node);

/* ---- members.c ---- */
void members_init(struct sim *sim);
void members_deinit(struct sim *sim);
void members_on_event(struct sim *sim, const struct event *event);
void members_on_committed(struct sim *sim, const struct buf *entry); /* of group 0 */
void members_wipe(struct sim *sim, struct sim_node *node);           /* if it can be borne */
/* Whether the others have all that is promised when this one's disk is lost. */
bool members_can_lose(struct sim *sim, const struct sim_node *node);
/* Its store is no more: it is to take its seat again. The machine is down. */
void members_empty_disk(struct sim *sim, struct sim_node *node);
/* All but one that has the cluster; false: there is none. */
bool members_wipe_most(struct sim *sim);
/* Asks `node` to see to it that `target` leads one of the groups. */
void members_transfer(struct sim *sim, struct sim_node *node, const struct sim_node *target);
/* The process of `node` says that its store is no member any more. */
void members_on_expelled(struct sim *sim, struct sim_node *node);
bool members_has_removed(const struct sim *sim, raft_id id);
/* What is missing of the membership that is wanted; NULL: nothing. */
const char *members_find_unsettled(struct sim *sim, raft_group group, uint32_t *out_node);

/* ---- rollback.c ---- */
/* Copies the node's disk, or begins to put it back to its copy, if that can be borne. */
void rollback_inject(struct sim *sim, struct sim_node *node);
void rollback_on_event(struct sim *sim, const struct event *event);
void rollback_on_frame(struct sim *sim, struct sim_node *to, const struct sim_node *from,
                       struct bytes payload); /* a frame of consensus that is delivered */
/* Whether the node has an old copy, and so has to be refused. */
bool rollback_explains(const struct sim *sim, const struct sim_node *node);
void rollback_on_refused(struct sim *sim, struct sim_node *node); /* its process has ended */
void rollback_on_sent(struct sim *sim, const struct buf *frame); /* by the one it is about */
/* A frame of consensus was given to a node, which ignored so many of its messages. */
void rollback_on_taken(struct sim *sim, const struct sim_node *by, struct bytes payload,
                       uint64_t ignored_count);
bool sim_is_quiet(const struct sim *sim);                         /* no fault is injected */

/* ---- reading.c ---- */
/* Reads the keys of a judgement through the node's own reader; false: it has no view. */
bool reading_read(struct sim *sim, struct sim_node *node, struct judgement *judgement);

/* ---- liveness.c ---- */
void liveness_begin(struct sim *sim);
void liveness_check(struct sim *sim);

#endif
