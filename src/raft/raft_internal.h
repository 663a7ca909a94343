/* raft_internal.h - the state of a core, shared by the files of src/raft.
 *
 * raft.c              life cycle, dispatch, output, invariants
 * raft_conf.c         quorums
 * raft_log.c          entries in memory
 * raft_op.c           what is being written, and what waits for it
 * raft_election.c     roles, votes, timers
 * raft_append.c       the follower's side of replication
 * raft_replication.c  the leader's side, commitment, heartbeats
 * raft_read.c         read rounds
 * raft_snapshot.c     peers that need one, and installing one
 * raft_transfer.c     leadership handed over, for the disk's sake as well
 * raft_membership.c   the configuration at each position of the log, changes of it
 * Thread: pure.
 */

#ifndef TL_RAFT_INTERNAL_H
#define TL_RAFT_INTERNAL_H

#include "trilith/raft.h"

/* Room in the ring that only no-ops and a recovered tail may use: the commit hint on disk lags by
 * up to RAFT_COMMIT_HINT_LAG entries, and what lies behind it must fit after a restart. */
#define RAFT_LOG_RESERVE_ENTRIES 8192u
#define RAFT_COMMIT_HINT_LAG 4096u

#define RAFT_AFTER_MESSAGES_MAX 512u /* messages that wait for ops */
#define RAFT_OP_POINTERS_MAX 32768u  /* entries of all ops in flight */

/* Messages that one step can add at most beside those an op releases. */
#define RAFT_STEP_MESSAGES_MAX (2u * RAFT_PEERS_MAX)

#define RAFT_COMMIT_NOTIFY_NS 2000000ull  /* a lone commit is told this long after it happened */
#define RAFT_READ_WIDEN_NS 5000000ull     /* a round that is not confirmed by then asks everyone */
#define RAFT_READ_RETRY_NS 100000000ull   /* a follower asks its leader again */
#define RAFT_READ_TRIES_MAX 16u           /* answers may take this many tries' time */
#define RAFT_DISK_STALLED_NS 500000000ull /* an own commit that old: hand over, do not campaign */
#define RAFT_DISK_SILENT_NS 1000000000ull /* that old, and it did not work: fall silent */
#define RAFT_DISK_HEALTHY_NS 100000000ull /* a peer's commit, younger than that */
#define RAFT_DISK_REPORT_NS 200000000ull  /* and told no longer ago */
#define RAFT_DISK_ACT_NS 10000000000ull   /* once in */
#define RAFT_LOST_JITTER_MIN_NS 5000000ull
#define RAFT_LOST_JITTER_MAX_NS 50000000ull

/* ---- the log in memory (raft_log.c) ---- */

struct raft_log {
    struct raft_base base; /* newest entry deleted from disk */
    struct buf **ring;     /* RAFT_LOG_RING_ENTRIES slots, entry i in slot i modulo that; owned */
    raft_index first;      /* oldest in memory; last + 1: none is */
    raft_index last;
    raft_index evictable; /* entries first ... evictable are not needed here any more */
    uint64_t evictable_bytes;
    uint64_t bytes;           /* of all entries in memory */
    uint64_t cache_bytes_max; /* constant */
};

void raft_log_init(struct raft_log *log, const struct raft_base *base, struct buf *const *entries,
                   uint32_t entries_count, raft_index last, uint64_t cache_bytes_max);
void raft_log_deinit(struct raft_log *log);

/* NULL when it is not in memory. */
struct buf *raft_log_entry(const struct raft_log *log, raft_index index);

/* Whether term and hash of `index` are known: it is in memory or the base. */
bool raft_log_has(const struct raft_log *log, raft_index index);
raft_term raft_log_term(const struct raft_log *log, raft_index index);      /* has(index) */
struct hash128 raft_log_hash(const struct raft_log *log, raft_index index); /* has(index) */
uint64_t raft_log_last_time_us(const struct raft_log *log);

/* Entries that may be appended beside the reserve; evictable ones make room. */
raft_index raft_log_room(const struct raft_log *log);

/* `entry` is taken; its index is last + 1. */
void raft_log_append(struct raft_log *log, struct buf *entry);

/* Drops entries >= from. */
void raft_log_truncate(struct raft_log *log, raft_index from);

/* The log begins behind `base`, which is above everything that was evictable: entries above it are
 * kept or all dropped. */
void raft_log_install(struct raft_log *log, const struct raft_base *base, bool keeps_suffix);

/* Entries <= index may go from now on; does not fall. Keeps the newest cache_bytes_max. */
void raft_log_set_evictable(struct raft_log *log, raft_index index);

/* ---- what is being written (raft_op.c) ---- */

struct raft_op {
    struct raft_append_op op;
    uint32_t pointers_count; /* taken from the pointer ring, skipped ones included */
    uint32_t after_count;    /* messages of raft->after that wait for this op */
    raft_index last;         /* of the log as issued */
    raft_index valid_last; /* up to here the op and its predecessors wrote what is in memory now */
};

struct raft_ops {
    struct raft_op in_flight[RAFT_OPS_IN_FLIGHT_MAX]; /* FIFO ring */
    uint32_t first;
    uint32_t count;
    uint64_t sequence; /* of the newest op */

    struct buf **pointers; /* FIFO ring of entry references, contiguous per op; owned */
    uint32_t pointers_begin;
    uint32_t pointers_used;

    struct raft_message *after; /* FIFO ring: of the ops in flight in order, then of the next op */
    uint32_t after_first;
    uint32_t after_count;
    uint32_t after_next_count; /* of these, waiting for the op that is not issued yet */

    raft_index issued_last;             /* last index that an op holds or the disk has */
    raft_index truncate_from;           /* of the next op; 0: none */
    struct raft_hard_state hard_issued; /* as in the newest op that has one */
    raft_term durable_term;             /* as in the newest op that is done */
    raft_id durable_vote;
    raft_index durable;        /* entries <= this are on disk as they are in memory */
    raft_index durable_scalar; /* RAFT_MUTATION_ACK_FROM_SCALAR: ignores truncations */
};

/* ---- snapshots (raft_snapshot.c) ---- */

enum raft_install_state {
    RAFT_INSTALL_NONE = 0,
    RAFT_INSTALL_WANTED, /* waits until everything decided before is issued */
    RAFT_INSTALL_ISSUED,
};

/* ---- peers ---- */

enum raft_tally { RAFT_TALLY_NONE = 0, RAFT_TALLY_GRANTED, RAFT_TALLY_REFUSED };

struct raft_inflight {
    raft_index last;
    uint64_t bytes;
};

/* Another member. All but `id` and `tally` is the leader's; reset when it is elected. */
struct raft_peer {
    raft_id id;
    enum raft_tally tally; /* in the present (pre-)vote */

    enum raft_progress_state state;
    raft_index match;
    raft_index next;
    bool is_paused;         /* PROBE: the probe is on its way */
    uint64_t probe_ns;      /* PROBE: when it was sent */
    raft_index probe_last;  /* PROBE: its last entry */
    uint64_t probe_bytes;   /* PROBE: of its entries */
    bool is_snapshot_due;   /* NEEDS_SNAPSHOT: it has said that it lacks the base */
    bool is_snapshot_asked; /* NEEDS_SNAPSHOT: the host has been asked */
    bool is_append_due;     /* an append goes out even if it is empty */
    bool is_chain_broken;   /* it answered CHAIN_MISMATCH */
    raft_index match_at_heartbeat;
    uint64_t heard_ns;      /* or when this leader began to listen */
    bool has_spoken;        /* to this leader */
    raft_index round_index; /* this round of catching up ends when this is matched */
    uint64_t round_ns;      /* when it began */
    uint64_t round_took_ns; /* how long the last one took */
    raft_index commit_sent; /* highest commit it can have taken from us */
    raft_term told_term;    /* in which it was last sent a TIMEOUT_NOW */

    uint64_t sequence_sent;
    uint64_t sequence_acked;
    uint64_t read_gathering; /* context of its read that waits for the next round; 0: none */
    uint64_t read_asking;    /* of the one in the round in flight */

    uint64_t disk_age_ns;   /* of its oldest unfinished log commit, as told at disk_heard_ns */
    uint64_t disk_heard_ns; /* 0: never */
    uint64_t disk_sick_ns;  /* when it was not healthy last; 0: never */
    bool is_unfit;          /* to lead, says the host. These four survive a change of role */

    uint64_t backlog_bytes; /* of what was sent to it, waits at the host */
    uint64_t backlog_ns;    /* when there was a backlog last; 0: never */
    uint64_t output_bytes;  /* of entries sent to it in this output */

    raft_index log_read_first; /* a raft_log_read is out; 0: none. Survives a change of role */

    struct raft_inflight inflight[RAFT_INFLIGHT_MESSAGES_MAX]; /* FIFO ring */
    uint32_t inflight_first;
    uint32_t inflight_count;
    uint64_t inflight_bytes;
};

/* ---- reads (raft_read.c) ---- */

struct raft_reads {
    uint64_t wanted; /* newest round somebody waits for */
    uint64_t asked;  /* newest round that the one in flight answers; valid if is_asking */
    uint64_t done;   /* newest round that is ready */
    raft_index index;
    bool is_asking;

    /* Follower. */
    uint64_t asked_ns;
    bool is_retry_due;
    uint64_t context;                    /* token of the last try. Never used twice (etcd #20418) */
    uint64_t context_first;              /* answers to older tries do not count any more */
    uint64_t tries[RAFT_READ_TRIES_MAX]; /* `asked` of the try with token i modulo that */

    /* Leader. */
    bool is_round; /* a quorum round is in flight, for own or peers' reads */
    bool is_widened;
    uint64_t round_sequence; /* echoes >= this confirm it */
    uint64_t round_ns;
    raft_index round_index;
    uint64_t sequence; /* sent with every append and heartbeat */
};

struct raft {
    /* Constant. */
    raft_id self;
    raft_group group;
    uint64_t election_timeout_ns;
    uint64_t heartbeat_interval_ns;
    uint32_t append_entries_max;
    uint32_t inflight_messages_max;
    uint64_t message_bytes_max;
    uint64_t inflight_bytes_max;
    uint64_t uncommitted_bytes_max;
    uint32_t mutation;

    struct raft_conf conf;           /* the newest in the log: in force since it was appended */
    raft_index conf_index;           /* where it stands; 0: where the log began */
    struct raft_conf conf_committed; /* the newest at or below the commit index */
    raft_index conf_committed_index;
    uint64_t conf_committed_ns;        /* when the active one was committed */
    raft_index conf_handed_over_index; /* joint one in which this leader has tried to hand over */
    struct prng prng;
    uint64_t now_ns;
    bool is_started; /* advanced at least once */

    /* Decided in memory; what is durable of it is known to `ops`. */
    raft_term term;
    raft_id vote;
    raft_index commit;
    raft_index applied;
    struct raft_log log;
    uint64_t uncommitted_bytes; /* of entries in (commit, last] */
    struct raft_ops ops;

    enum raft_role role;
    raft_id leader;
    raft_id leader_last;      /* the last one known, for counting changes */
    uint64_t leader_heard_ns; /* valid while `leader` is another node */
    raft_index leader_commit;
    raft_index verified; /* appends of this term have shown the log to be the leader's up to here */
    uint64_t election_deadline_ns;
    bool is_leader_lost; /* the deadline is that of raft_peer_lost(): own writes do not move it */
    bool has_own_vote;   /* the (pre-)vote for itself counts */
    bool is_chain_broken;
    raft_index differs_index;  /* a leader has committed other bytes behind it */
    uint64_t differs_since_ns; /* 0: none has */

    /* Members of both configurations but this node: who is being removed hears of it. */
    uint32_t peers_count;
    struct raft_peer peers[RAFT_PEERS_MAX];
    bool has_departing;        /* one of them is not in `conf` */
    uint64_t heartbeat_ns;     /* leader: next one */
    uint64_t commit_notify_ns; /* leader: 0 none */

    /* Leader. */
    uint64_t leading_began_ns;
    uint64_t leading_last_time_us; /* of the log's last entry then */
    struct {
        raft_id target; /* RAFT_ID_NONE: none is under way */
        uint64_t deadline_ns;
        uint64_t next_ns; /* TIMEOUT_NOW is not sent before */
    } transfer;
    uint64_t disk_began_ns; /* own oldest unfinished log commit; 0: none */
    uint64_t disk_acted_ns; /* when leadership was last handed over because of it; 0: never */

    struct {
        enum raft_install_state state;
        struct raft_install install;
    } install;

    struct raft_reads reads;

    /* A check of an own record that was asked for; index 0: none. */
    struct {
        raft_index index;
        bool is_given_out;
        raft_term term;
        struct raft_message reply; /* to: RAFT_ID_NONE when nobody waits for it */
    } verify;

    uint32_t messages_count;
    struct raft_message *messages; /* RAFT_OUTPUT_MESSAGES_MAX */
    bool is_output_short;          /* the last output had no room for all appends */
    struct raft_output output;

    uint64_t elections_started_count;
    uint64_t elections_won_count;
    uint64_t leader_changes_count;
    uint64_t messages_dropped_count;
    uint64_t read_rounds_count;
    uint64_t chain_mismatches_count;
    uint64_t transfers_count;
    uint64_t disk_stalls_count;
    uint64_t installs_count;

    /* As of the last raft_check(): what must not go back. */
    struct {
        raft_term term;
        raft_id vote;
        raft_index commit;
        raft_index applied;
        raft_index last;
        enum raft_role role;
    } checked;
};

/* raft.c */
struct raft_peer *raft_peer_find(struct raft *raft, raft_id id); /* NULL: no other member */
const struct raft_peer *raft_peer_look(const struct raft *raft, raft_id id); /* likewise */
struct raft_message raft_message_make(const struct raft *raft, enum raft_message_type type,
                                      raft_id to);
void raft_send(struct raft *raft, const struct raft_message *message);
void raft_commit_to(struct raft *raft, raft_index index);
/* Whether an own entry of so many bytes may be appended now. */
enum tl_err raft_may_propose(const struct raft *raft, uint32_t bytes);
void raft_update_evictable(struct raft *raft);
void raft_truncate(struct raft *raft, raft_index from);

/* raft_conf.c */
bool raft_conf_is_incoming(const struct raft_conf *conf, raft_id id); /* voter, not only outgoing */

/* raft_membership.c */
void raft_membership_init(struct raft *raft, const struct raft_conf *conf);
/* Whether the active configuration's quorum (both halves') holds. */
bool raft_has_quorum(const struct raft *raft, bool (*holds)(const void *, raft_id));
raft_index raft_quorum_index(const struct raft *raft, raft_index (*match)(const void *, raft_id));
/* Appends to the log; a configuration is in force from here on. `entry` is taken. */
void raft_append_entry(struct raft *raft, struct buf *entry);
/* As the leader: seals and appends. */
raft_index raft_append_own(struct raft *raft, struct buf *entry, uint64_t time_us);
/* The log begins behind a snapshot with this configuration. */
void raft_membership_on_install(struct raft *raft, const struct raft_conf *conf);
void raft_membership_on_truncate(struct raft *raft, raft_index from);
void raft_membership_on_commit(struct raft *raft, raft_index commit_before);
/* End of a turn: leaves a joint configuration, forgets who has left, steps down when removed. */
void raft_membership_step(struct raft *raft);
/* Whether the entry may stand in a log: a configuration must decode. */
bool raft_is_entry_right(const struct buf *entry);
void raft_check_membership(const struct raft *raft);

/* raft_snapshot.c */
void raft_install_done(struct raft *raft);  /* its op is durable */
void raft_ask_snapshots(struct raft *raft); /* of this turn, into the output */

/* raft_transfer.c */
bool raft_is_disk_stalled(const struct raft *raft);
void raft_transfer_advance(struct raft *raft);
void raft_transfer_step(struct raft *raft); /* end of a turn */
uint64_t raft_transfer_deadline_ns(const struct raft *raft);

/* raft_op.c */
void raft_ops_init(struct raft *raft, const struct raft_options *options);
void raft_ops_deinit(struct raft *raft);
bool raft_ops_is_dirty(const struct raft *raft);
void raft_ops_on_truncate(struct raft *raft, raft_index from);
/* The disk is as the log in memory. */
void raft_ops_on_install(struct raft *raft);
/* Sends `message` once everything decided so far is durable. */
void raft_send_after(struct raft *raft, const struct raft_message *message);
/* The next op, or NULL: nothing to write, or too much in flight. */
const struct raft_append_op *raft_ops_issue(struct raft *raft);
bool raft_ops_can_issue(const struct raft *raft);
void raft_ops_done(struct raft *raft, uint64_t sequence);

/* raft_election.c */
bool raft_has_live_leader(const struct raft *raft);
/* `context` is a struct raft *: whether the member was heard within an election timeout. */
bool raft_is_active(const void *context, raft_id id);
/* As that, and certainly: what was not heard yet counts as active for an election timeout, which
 * CheckQuorum has to allow, and as gone here. */
bool raft_is_heard(const void *context, raft_id id);
bool raft_has_active_quorum(const struct raft *raft);
void raft_reset_election_timer(struct raft *raft);
void raft_become_follower(struct raft *raft, raft_term term, raft_id leader);
/* A message of this term's leader arrived; false: it cannot be one. */
bool raft_hear_leader(struct raft *raft, raft_id leader);
bool raft_can_campaign(const struct raft *raft);
void raft_campaign(struct raft *raft);
void raft_count_votes(struct raft *raft);
void raft_step_vote_request(struct raft *raft, const struct raft_message *message);
void raft_step_vote_reply(struct raft *raft, const struct raft_message *message);
void raft_step_timeout_now(struct raft *raft, const struct raft_message *message);

/* raft_append.c */
void raft_step_append(struct raft *raft, const struct raft_message *message);
/* Of a term that is over. */
void raft_keep_older_append(struct raft *raft, const struct raft_message *append);
/* Up to where this log is the leader's. An entry of its own term is the leader's, and so is all
 * before it (thesis 3.5); behind that it is what the leader's appends have shown to this
 * process. The leader's word alone is not enough: it speaks of what an earlier process on this
 * disk had, and the disk may be an old copy of itself. Of a log that a snapshot is about to replace
 * as a whole no more than what is committed. */
raft_index raft_common_index(const struct raft *raft);
void raft_step_heartbeat(struct raft *raft, const struct raft_message *message);

/* raft_replication.c */
void raft_start_leading(struct raft *raft);
void raft_peer_begin(const struct raft *raft, struct raft_peer *peer); /* as a leader's */
void raft_step_append_reply(struct raft *raft, const struct raft_message *message);
void raft_step_heartbeat_reply(struct raft *raft, const struct raft_message *message);
bool raft_peer_is_caught_up(const struct raft *raft, const struct raft_peer *peer);
void raft_peer_to_probe(struct raft_peer *peer, raft_index next);
void raft_maybe_commit(struct raft *raft);
void raft_send_heartbeat(struct raft *raft, struct raft_peer *peer);
void raft_advance_leader(struct raft *raft);
/* Appends and log reads of this turn, into messages and output. */
void raft_replicate(struct raft *raft);
uint64_t raft_quorum_deadline_ns(const struct raft *raft);

/* raft_read.c */
void raft_reads_init(struct raft *raft, uint64_t seed);
void raft_reads_drop(struct raft *raft); /* term, role or leader changed: ask again */
void raft_reads_advance(struct raft *raft);
void raft_reads_begin(struct raft *raft);
void raft_reads_ask(struct raft *raft);
void raft_reads_confirm(struct raft *raft);
void raft_step_read(struct raft *raft, const struct raft_message *message);
void raft_step_read_reply(struct raft *raft, const struct raft_message *message);
uint64_t raft_reads_deadline_ns(const struct raft *raft);

#endif
