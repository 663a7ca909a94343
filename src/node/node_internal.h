/* node_internal.h - what the files of the node share.
 *
 *   node.c         options, open, close, faults, completions and frames coming in
 *   node_group.c   one group's stores and core: recovery, creation, relations between log and table
 *   node_turn.c    the turn: outputs of the cores, log batches, frames going out, the timer
 *   node_birth.c   from an empty data directory to a member
 *   node_member.c  who the members are, and configurations that follow the placement
 *   node_change.c  changes of the placement that an operator asks for
 *   node_position.c  members that come back with less than they had promised
 *   node_apply.c   applying, replay from the log, freezing, flushing
 *   node_write.c   writes: queueing, proposing, forwarding, outcomes
 *   node_read.c    reads: rounds, causal waits
 *   node_time.c    entry times, and tokens that are judged by them
 *   node_log.c     looks at the log: entries for clients, checks of the chain
 *   node_digest.c  digests of the states, told to the peers and compared with theirs
 *   node_space.c   room for new data, here and at the other voters
 *   node_status.c  status, readiness, metrics, draining
 *   node_snapshot.h  snapshots: five files of their own
 *
 * Thread:     the loop thread.
 *
 * Invariants, checked by node_check():
 *   1. the counts of clients and admin cover every write and read in a list of this node, and no
 *      others.
 *   2. per group: base <= flushed <= applied <= applicable (flushed and applied from birth on).
 *   3. a node that has failed sends nothing, hands out no job and answers no request before close.
 */

#ifndef TL_NODE_INTERNAL_H
#define TL_NODE_INTERNAL_H

#include "log_time.h"
#include "node_snapshot.h"
#include "trilith/node.h"

#include "trilith/prng.h"

#define NODE_DIGEST_RINGS (RAFT_MEMBERS_MAX + 1u) /* one's own, and of every other */
#define NODE_FORWARD_RETRY_NS 20000000ull         /* after a definite refusal by the leader asked */
#define NODE_LOG_COMMIT_MAX_NS 20000000000ull
#define NODE_LOG_COMMIT_GRACE_NS 1000000000ull /* from when it was first seen to be over it */
#define NODE_LOG_COMMIT_LOOK_NS 250000000ull   /* meanwhile it is looked at as often */
#define NODE_LOG_COMMIT_HEALTHY_MS 100u
#define NODE_CLOCK_APART_US 1000000ull /* the leader's clock may be so far from the median */
#define NODE_READY_AGE_MS 1000u
#define NODE_SPACE_AGE_NS 1000000000ull /* much less than the reserve is written in it */
#define NODE_TURN_PASSES_MAX 4u
#define NODE_REPLAY_READ_BYTES (4u * 1024u * 1024u)
#define NODE_TABLE_READERS_MAX 64u
#define NODE_NEVER UINT64_MAX
#define NODE_OLD_COPY_TEXT                                                                    \
    "the cluster has promises of this store that its disk does not have: an old copy; empty " \
    "the directory to join again"
#define NODE_LIVES_MAX 4u /* processes of a peer whose promises are told apart */
/* A slice of a check: some milliseconds on a cold page cache, far below the 50 ms that a read
 * transaction of the log may be open. */
#define NODE_VERIFY_SLICE_ENTRIES 2048u
#define NODE_VERIFY_SLICE_BYTES (2u * 1024u * 1024u)

enum write_state {
    WRITE_IDLE = 0,
    WRITE_QUEUED = 1,    /* in no log: waits for a leader, or for its turn */
    WRITE_PROPOSED = 2,  /* stands in this leader's log at (index, term) */
    WRITE_FORWARDED = 3, /* sent to forwarded_to under request_id */
    WRITE_ENDING = 4,    /* outcome is known and delivered at the end of the pass */
};

enum read_state {
    READ_IDLE = 0,
    READ_GATHERING = 1, /* the next pass begins its round */
    READ_ASKED = 2,     /* waits for its round */
    READ_CONFIRMED = 3, /* waits for applied >= read_index */
    READ_ENDING = 4,
};

enum log_query_state {
    LOG_QUERY_IDLE = 0,
    LOG_QUERY_QUEUED = 1,
    LOG_QUERY_READING = 2, /* its read is under way */
    LOG_QUERY_COME = 3,    /* its read has come: looked at in the next turn */
};

#define NODE_SLOTS_MAX (NODE_REQUESTS_MAX + NODE_ADMIN_REQUESTS_MAX)

/* Requests that wait. */
struct node_load {
    uint32_t count;
    size_t bytes; /* of writes' entries */
};

struct write_list {
    struct node_write *first;
    struct node_write *last;
};

struct read_list {
    struct node_read *first;
    struct node_read *last;
};

/* A batch in the writer's hands, and what to tell the cores when it is durable. */
struct node_batch {
    struct node_log_batch log;           /* what the writer sees */
    uint64_t sequences[NODE_GROUPS_MAX]; /* of the cores' ops, in the order of log.ops */
    bool is_genesis;
    uint32_t entries_count;
    struct node_batch *next; /* towards newer ones in flight, or in the free list */
};

/* A log read; every one ever made stays in node.jobs until close. */
struct node_job {
    struct node_log_read read; /* what the carrier sees */
    bool is_out;               /* given to the carrier */
    bool is_free;
    bool is_stale; /* an installed snapshot has overtaken it */
    struct node_job *next_all;
    struct node_job *next_free;
};

/* A forwarded write at the leader. */
struct node_inbound {
    struct node_write write;
    struct node *node; /* its owner */
    raft_id peer;
    uint64_t peer_request_id;
    struct node_inbound *next_all;
    struct node_inbound *next_free;
};

/* What one process of a peer has promised to this one: for each group the highest term, and in it
 * the last entry that it acknowledged. */
struct node_promises {
    uint64_t life; /* of that process */
    raft_term term[NODE_GROUPS_MAX];
    raft_index index[NODE_GROUPS_MAX];
};

/* What is left; UINT64_MAX: not known. */
struct node_space {
    uint64_t free_bytes;     /* of the data directory's file system */
    uint64_t map_free_bytes; /* until a table or the log has reached its limit */
};

/* A member, self included. */
struct node_peer {
    struct member member;
    raft_id id;
    enum member_role role;
    bool is_up[PEER_CLASSES_COUNT];
    uint32_t features[PEER_CLASSES_COUNT]; /* enum hello_feature; 0 while it is down */
    bool has_clock;
    uint64_t clock_us;          /* its wall clock, as told */
    uint64_t clock_read_ns;     /* our monotonic time when it was told */
    uint32_t log_commit_age_ms; /* of its oldest unfinished log commit, as last told */
    struct node_space space;    /* as last told; not of self */
    uint64_t heard_ns;          /* when its last frame came; since it is a member if none has */
    uint64_t digests_ns;        /* when it was last told digests */
    struct snapshot_attempts snapshots[NODE_GROUPS_MAX];
    struct node_promises promises[NODE_LIVES_MAX]; /* of its processes, the newest last */
    uint32_t promises_count;
    uint32_t records_max;  /* its --idempotency-records; 0: not said */
    uint64_t judged_life;  /* the process whose disk was found to keep its promises; 0: none */
    uint64_t refused_life; /* the process whose disk is an old copy; 0: none */
};

/* Digests of one member's state: its own place for each of the last DIGEST_POINTS_MAX indexes. */
struct node_digest_ring {
    raft_id id; /* RAFT_ID_NONE: free */
    struct digest_point points[DIGEST_POINTS_MAX];
    raft_index told;       /* of a peer: up to here it was told ours */
    raft_index differs_at; /* of a peer: the first index at which it was seen to differ; 0: none */
};

struct node_group {
    struct node *node; /* owner */
    raft_group id;
    char table_dir[512];
    uint64_t table_number; /* of kv.<group>.<number> */
    struct raft *raft;
    struct table *table;
    struct views *views;
    struct kv_table *kv;
    struct kv_state state; /* state.group.index is the applied index */
    struct buf *conf;      /* payload of the configuration in force there; NULL before entry 1 */

    /* As the core last said. */
    const struct raft_output *output; /* while an output is carried out, else NULL */
    raft_index commit;
    raft_index applicable;
    uint64_t reads_ready_round;
    raft_index read_index;
    uint64_t deadline_ns;
    raft_id leader;
    uint64_t leader_since_ns;
    bool has_heard_leader; /* since the last turn */
    uint64_t caught_up_ns; /* when applied last covered what the leader called committed; 0 never */

    /* The log. */
    raft_index base_index;
    raft_index start_last; /* as found at start */
    raft_term start_term;
    raft_index flushed; /* durable in the table */
    bool is_verifying;

    uint64_t applied_bytes; /* what was applied in this turn has cost so much (kv_state.h) */
    uint64_t pushed_bytes; /* of writes proposed or sent to the leader in this turn */
    bool has_more_to_push; /* the turn's share is used up, more is queued */
    uint64_t handover_ns; /* a leader that is to lead no more does not try before */
    struct log_time log_time; /* of the entries proposed here */
    uint64_t yield_ns;    /* nor does one without room */

    /* Applying. */
    raft_index replay_target;               /* commit index known at start */
    struct node_job *replay;                /* entries read from the log, being applied */
    struct node_job *replay_ahead;          /* the read behind them, under way or come */
    struct node_log_query start_check;      /* of the whole log, once after the replay */
    uint32_t generation_permille;           /* share of the limits this generation may reach */
    uint64_t generation_began_ns;           /* when its first entry was applied; 0: it has none */
    bool is_apply_stalled;                  /* no room for another frozen generation */
    bool has_more_to_apply;                 /* the turn's share is used up, more is there */
    uint64_t frozen_order[VIEW_FROZEN_MAX]; /* oldest first; what is flushed next is the smallest */
    raft_index drain_index;

    /* Snapshots. */
    struct node_receiving *installing; /* not NULL: nothing is applied, frozen or flushed */
    bool has_snapshot_want;            /* of some peer, when this node leads */
    uint64_t snapshot_look_ns;         /* not before */

    /* Digests. */
    struct node_digest_ring digests[NODE_DIGEST_RINGS]; /* own ones at 0 */
    raft_index digest_index;                            /* of the newest own one */
    raft_index diverged_at; /* this replica is not like most others; 0: it is */

    struct write_list queued;
    struct write_list proposed; /* as proposed: by term, then index */
    struct write_list forwarded;
    struct read_list linearizable; /* by round */
    struct read_list causal;
};

/* What an address of the view last said. */
enum birth_answer {
    BIRTH_SILENT = 0,
    BIRTH_NO_CLUSTER = 1, /* and has the same view */
    BIRTH_OTHER_VIEW = 2,
    BIRTH_OTHER_ADDRESS = 3, /* calls itself something else */
    BIRTH_NOT_LISTED = 4,    /* has a cluster this store is no member of */
    BIRTH_BAD_GENESIS = 5,   /* offers one that names this store by another address */
    BIRTH_TOLD = 6,          /* a member of a cluster: its word says what is the matter */
    BIRTH_FOUND = 7,         /* has a cluster, which has not been asked to take this store in */
};

struct birth_address {
    struct member member;
    enum birth_answer answer;
    enum birth_word word; /* BIRTH_TOLD */
    bool is_self;
    bool is_asked; /* the answer is outstanding */
    bool is_probe; /* ... to a question that asks for nothing but whose cluster it is of */
    bool has_answered;
    struct store_id cluster_id; /* as it last said; zero: none */
};

struct node {
    /* Constant after open. */
    struct node_io io;
    struct node_options options; /* strings are the node's copies */
    struct data_dir *data_dir;
    struct log_store *log_store;
    struct store_id store_id;
    raft_id self;
    struct hash128 view_hash;
    /* The view, and behind it the node to join through when there is one. */
    uint32_t view_count;
    struct birth_address view[RAFT_MEMBERS_MAX + 1];
    struct prng prng;
    uint64_t life; /* of this process: random, not 0 */

    uint64_t now_ns; /* read once per call from outside */
    bool is_failed;
    bool is_draining;
    bool has_drain_index;
    bool is_joining; /* options named a node to join through: forms no cluster */

    /* Membership. */
    struct placement *placement; /* as applied, or of the genesis; NULL: no cluster */
    uint64_t placement_revision; /* of its row in group 0; 0: there is none */
    struct placement *hint;      /* a newer one that a member told, not yet applied; else NULL */
    uint32_t peers_count;
    struct node_peer peers[RAFT_MEMBERS_MAX]; /* of the newer of the two; self included */
    bool has_new_peers;                       /* io.set_peers() is due */
    uint64_t member_check_ns;                 /* nothing has to be looked at before */
    uint64_t ask_members_ns;                  /* when others are asked, or told, again */
    uint64_t lost_since_ns;                   /* group 0 has no leader here since; 0: it has */
    uint64_t leads_since_ns;                  /* group 0, if it does */
    bool is_placement_writing;
    struct node_write placement_write; /* of a change that this node makes by itself */
    struct node_change *changes;       /* asked for, oldest first */

    /* Leadership. */
    struct node_leader_transfer *leader_transfers; /* asked for */
    uint32_t leader_transfers_count;
    uint64_t leader_transfers_ended_count;
    uint64_t leader_transfer_sequence; /* request ids for the leader */
    bool is_leaving;                   /* hands over what it leads */
    uint64_t leaving_until_ns;

    /* Birth. */
    uint64_t birth_ask_ns; /* when to ask again */
    uint64_t birth_wait_ns; /* until then every address is waited for before a cluster is joined */
    bool is_birth_writing; /* a genesis is on its way to the log */
    struct genesis birth_genesis;
    char birth_reported[1024];
    struct buf *birth_entries[NODE_GROUPS_MAX]; /* being written; NULL otherwise */

    uint32_t groups_count; /* 0 until this node is a member */
    struct node_group *groups[NODE_GROUPS_MAX];
    uint64_t replayed_count;

    struct node_batch *batches_oldest; /* in flight */
    struct node_batch *batches_newest;
    struct node_batch *batches_free;
    uint64_t slow_sequence;    /* of the newest batch that was reported as slow */
    uint64_t overdue_sequence; /* of the newest batch that was seen to take too long */
    uint64_t overdue_ns;       /* and when, or when this process last went on after a stop */
    uint64_t overdue_look_ns;  /* when it was last looked at */
    uint64_t batch_sequence;

    struct node_job *jobs;
    struct node_job *jobs_free;

    /* Looks at the log. */
    struct node_log_query *log_queries; /* first in, first served; the one being read too */
    uint32_t log_queries_count;         /* of clients */
    bool is_log_query_reading;          /* a read is under way, perhaps of a cancelled query */
    uint64_t damage_ns;                 /* damage was found: the node ends then; 0: none */
    struct tl_fault damage;

    struct node_flush_job flush_job;
    struct node_group *flush_group; /* NULL: no flush is running */
    raft_index flush_index;
    uint64_t flush_began_ns;
    uint64_t freezes_count;

    struct node_sending sending;
    struct node_receiving receivings[SNAPSHOT_RECEIVING_MAX];
    struct node_snapshot_job retiring; /* of a replaced table */

    bool is_diverged;            /* a group is: no client is served any more */
    bool is_marked_diverged;     /* so is the data directory */
    bool has_new_digests;        /* somebody may have to be told */
    uint64_t digest_deadline_ns; /* when to tell digests that were too early to tell */

    /* Requests. */
    struct node_load clients;
    struct node_load admin; /* of group 0: clients leave no operator without a slot */
    uint64_t requests_check_ns; /* nothing has to be looked at before */
    struct node_space space;    /* of this node, at most NODE_SPACE_AGE_NS old when it is used */
    uint64_t space_read_ns;     /* 0: not yet */
    uint64_t snapshot_refused_ns; /* not before it is logged again that one has no room */
    bool has_new_requests;        /* since the pass began */
    struct write_list writes_ending;
    struct read_list reads_ending;
    struct node_write *slots[NODE_SLOTS_MAX]; /* forwarded writes by request_id */
    uint16_t slots_free[NODE_SLOTS_MAX];
    uint32_t slots_free_count;
    uint64_t forward_sequence;
    struct node_inbound *inbounds;
    struct node_inbound *inbounds_free;

    struct node_metrics metrics;
};

/* A limit in bytes, as small as the options make it. */
static inline uint64_t node_limit(const struct node *node, uint64_t bytes)
{
    return bytes / TL_MAX(node->options.limits_divisor, 1u);
}

/* ---- node.c ---- */
void node_check(const struct node *node);
/* Reads the clock for this call from outside. */
void node_enter(struct node *node);
/* Storage cannot be trusted any more: says so once, then the node is mute. */
void node_fail(struct node *node, const struct tl_fault *fault);
__attribute__((format(printf, 4, 5))) void node_log(struct node *node, enum log_level level,
                                                    const char *event, const char *format, ...);
struct node_group *node_find_group(const struct node *node, raft_group group);
struct node_peer *node_find_peer(struct node *node, raft_id id);
/* A majority of the voters is connected, self included. */
bool node_reaches_quorum(const struct node *node);
/* Counts a request of a group in, with the bytes of its entry; false: there is no room for it. */
bool node_begin_request(struct node *node, raft_group group, size_t bytes);
void node_end_request(struct node *node, raft_group group, size_t bytes);
struct node_job *node_take_job(struct node *node);
void node_free_job(struct node *node, struct node_job *job);

/* ---- node_group.c ---- */
/* Opens table, views and core of a group whose log holds what `info` says. Reads the log. */
TL_MUST_CHECK enum tl_err node_group_open(struct node *node, raft_group id,
                                          const struct log_group_info *info,
                                          struct node_group **out_group,
                                          struct tl_fault *out_fault);
void node_group_close(struct node_group *group); /* accepts NULL */
/* Reads one entry from the log, the caller's. At start only: it blocks. */
TL_MUST_CHECK enum tl_err node_group_read_entry(struct node *node, raft_group group,
                                                raft_index index, struct buf **out_entry,
                                                struct tl_fault *out_fault);

/* ---- node_turn.c ---- */
/* Takes and carries out the output of every core: one batch, a frame or two per peer. */
void node_carry_out(struct node *node);
/* Before an input to the core: makes sure that its message buffer has room. */
void node_group_make_room(struct node_group *group);
/* Tells the core the time, and since when this node's disk is at work. */
void node_group_advance(struct node_group *group);
struct node_batch *node_take_batch(struct node *node);
void node_issue_batch(struct node *node, struct node_batch *batch);
uint32_t node_log_commit_age_ms(const struct node *node);

/* ---- node_birth.c ---- */
/* refusal  what is wrong already with the options it is to be born with; NULL: nothing. */
TL_MUST_CHECK enum tl_err node_birth_init(struct node *node, const char *refusal,
                                          struct tl_fault *out_fault);
void node_birth_step(struct node *node);
void node_birth_written(struct node *node);
/* What this node says of itself; `asker` is who asks. */
struct buf *node_birth_make_note(const struct node *node, enum birth_word word, bool has_placement);
const char *node_birth_word_text(enum birth_word word);
void node_birth_waits_for(const struct node *node, char *out_text, size_t text_bytes);
uint64_t node_birth_deadline(const struct node *node);

/* ---- node_member.c ---- */
/* Takes over what a cluster is: at birth, and at recovery before its row is read. */
void node_member_begin(struct node *node, const struct genesis *genesis);
/* Reads the placement's row of group 0, inside kv_table_begin/end. TL_ERR_NOT_FOUND: there is none
 * yet. Other errors as kv_table_get(); *out_fault says what. */
TL_MUST_CHECK enum tl_err node_member_load(struct node_group *group, struct tl_fault *out_fault);
/* A placement that somebody told. true: it is newer than what was known. */
bool node_member_hear(struct node *node, struct bytes encoded);
/* The newest placement known. There is a cluster. */
const struct placement *node_member_newest(const struct node *node);
/* Something has changed that steps may follow from. */
void node_member_wake(struct node *node);
/* Of group 0. */
void node_member_leader_changed(struct node *node);
void node_member_step(struct node *node);
uint64_t node_member_deadline(const struct node *node);
/* Writes `placement` over the one that is applied. on_done hears KV_CONDITION_FAILED when it is not
 * that one any more. Errors as node_write(). */
TL_MUST_CHECK enum tl_err node_member_write(struct node *node, struct node_write *write,
                                            const struct placement *placement);
/* Adds a store that asked for it, if it goes: the word to tell it. */
enum birth_word node_member_admit(struct node *node, const struct member *member);
/* This store is no part of the cluster any more: says why and ends the process. */
void node_member_expelled(struct node *node, const char *reason);

/* ---- node_position.c ---- */
/* Its connection of this class. */
void node_position_peer_up(struct node *node, struct node_peer *peer, enum peer_class class);
/* Whether what this process of the peer says over the raft connection counts. */
bool node_position_admits(const struct node *node, const struct node_peer *peer, uint64_t life);
/* Takes down what a message of the process `life` of this peer promises. */
void node_position_heed(struct node_peer *peer, uint64_t life, const struct raft_message *message);
/* Puts the largest number of idempotency records that a member keeps into a keyed command. */
void node_stamp_records(const struct node *node, struct buf *entry, const struct command *command);
TL_MUST_CHECK enum tl_err node_on_position(struct node *node, struct node_peer *peer,
                                           struct bytes payload);

/* ---- node_change.c ---- */
/* note NULL: no answer, or none that decodes. */
void node_change_on_birth_reply(struct node *node, const char *peer_address,
                                const struct birth_note *note);
void node_changes_close(struct node *node);

/* ---- node_leader_transfer.c ---- */
/* The voter to hand over to: one that stays, is heard and has most of the log. RAFT_ID_NONE: none
 * could take over soon. */
raft_id node_group_successor(struct node_group *group, const struct raft_status *status);
void node_leader_transfers_step(struct node *node);
uint64_t node_leader_transfers_deadline(const struct node *node);
TL_MUST_CHECK enum tl_err node_on_leader_transfer(struct node *node, raft_id peer,
                                                  struct bytes payload);
TL_MUST_CHECK enum tl_err node_on_leader_transfer_reply(struct node *node, raft_id peer,
                                                        struct bytes payload);
void node_leader_transfers_close(struct node *node);

/* ---- node_apply.c ---- */
void node_group_apply(struct node_group *group);
void node_group_maybe_freeze(struct node_group *group);
void node_maybe_flush(struct node *node);
bool node_group_has_generation(const struct node_group *group); /* entries not yet frozen */
uint64_t node_group_freeze_deadline(const struct node_group *group);
void node_group_replay_come(struct node_group *group, struct node_job *job);

/* ---- node_write.c ---- */
void node_group_push_writes(struct node_group *group);
/* Entry (index, term) is applied; result is NULL unless it is a command. */
void node_group_writes_applied(struct node_group *group, raft_index index, raft_term term,
                               const struct kv_result *result);
/* Whether a write may wait for what the entry at `index` brings. */
bool node_group_awaits(const struct node_group *group, raft_index index);
void node_group_writes_committed(struct node_group *group);
/* A snapshot has taken the place of the entries up to the applied index. */
void node_group_writes_installed(struct node_group *group);
/* Another leader than before is known, or none. */
void node_group_writes_leader_changed(struct node_group *group);
void node_writes_link_lost(struct node *node, raft_id peer);
void node_group_expire_writes(struct node_group *group, uint64_t *check_ns);
void node_deliver_writes(struct node *node);
void node_writes_close(struct node *node);
/* This replica has diverged: nothing that waits for its state is answered from it. */
void node_group_refuse_writes(struct node_group *group);
TL_MUST_CHECK enum tl_err node_on_forward(struct node *node, raft_id peer, struct bytes payload);
TL_MUST_CHECK enum tl_err node_on_forward_reply(struct node *node, raft_id peer,
                                                struct bytes payload);

/* ---- node_time.c ---- */
/* The wall clock that log time follows: this node's, if it is near the voters' median. */
uint64_t node_clock_us(const struct node *node);
/* As the leader: the time of an entry that is proposed now, within the bounds of log_time.h. */
uint64_t node_group_time_us(struct node_group *group, uint64_t wish_us);
/* When that may be `time_us`. */
uint64_t node_group_time_wait_ns(const struct node_group *group, uint64_t time_us);
/* Whether the token is more than NODE_TOKEN_AHEAD_US above all that this node knows of the time:
 * the voters' median clock, what it has applied, and the newest entry that a leader has sent it.
 * Such a token may yet be of an entry that has not arrived here. */
bool node_group_token_is_ahead(const struct node_group *group, uint64_t token_us);

/* ---- node_read.c ---- */
void node_group_begin_reads(struct node_group *group);
void node_group_ready_reads(struct node_group *group);
void node_group_expire_reads(struct node_group *group, uint64_t *check_ns);
void node_deliver_reads(struct node *node);
void node_reads_close(struct node *node);
void node_group_refuse_reads(struct node_group *group);

/* ---- node_space.c ---- */
void node_space_look(const struct node *node, struct node_space *out_space);
const struct node_space *node_space_now(struct node *node); /* borrowed */
/* Generations are to be small, so that the pages which their flushes replace are few. */
bool node_is_low_on_space(struct node *node);
/* Why a node that has this left takes no new data as a leader; TL_OK: it has room. */
enum tl_err node_space_judge(const struct node *node, const struct node_space *space);
/* The same of a member; TL_OK also when it is not known. */
enum tl_err node_space_lack(struct node *node, raft_id id);
/* Why the leader takes no write: TL_ERR_NO_SPACE, TL_ERR_MAP_FULL; TL_OK: it does. */
enum tl_err node_group_space(const struct node_group *group, bool may_grow);
bool node_command_may_grow(raft_group group, const struct command *command);
/* A leader without room hands over, if that helps. */
void node_group_yield(struct node_group *group);

/* ---- node_log.c ---- */
/* Starts the check of a recovered group's log. */
void node_group_check_log(struct node_group *group);
void node_log_queries_step(struct node *node);
uint64_t node_log_queries_deadline(const struct node *node);
void node_log_query_come(struct node *node, struct node_job *job, enum tl_err err,
                         const struct tl_fault *fault);
/* Ends the queries: with TL_ERR_STOPPING. */
void node_log_queries_close(struct node *node);
/* Ends the node when the time for telling clients of damage is over. */
void node_check_damage(struct node *node);

/* ---- node_digest.c ---- */
/* At open, and when a snapshot has taken the place of the state that the kept ones are of. */
void node_group_reset_digests(struct node_group *group);
/* At start: whether this data directory may be served from. */
TL_MUST_CHECK enum tl_err node_recover_diverged(struct node *node, struct tl_fault *out_fault);
/* Entry state.group.index has been applied. */
void node_group_note_digest(struct node_group *group);
TL_MUST_CHECK enum tl_err node_on_digests(struct node *node, raft_id peer, struct bytes payload);
/* The peer's connection is new: what it was told before may have been lost. */
void node_digests_peer_up(struct node *node, raft_id peer);
void node_digests_step(struct node *node);
/* The member's state of some group, as far as it has told, is not what this node has; false when it
 * is this node that is wrong. Such a member serves none of its groups and is to lead none. */
bool node_differs(const struct node *node, raft_id id);
/* A diverged node keeps its logs and votes, but does not lead, for it would refuse what leaders are
 * asked for: takes what leaders and candidates say out of the output. Not while leadership is being
 * handed over, and not where nobody else votes, who could lead instead. */
void node_group_mute(struct node_group *group);
void node_group_describe_digests(const struct node_group *group,
                                 struct node_group_status *out_status);

/* ---- node_status.c ---- */
bool node_is_replaying(const struct node *node);
bool node_group_is_caught_up(const struct node_group *group, const struct raft_status *status);
void node_drain_step(struct node *node);

#endif
