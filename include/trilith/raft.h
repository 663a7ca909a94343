/* raft.h - the consensus core of one group: a pure function of its inputs.
 *
 * Role:       Elections, replication, commitment and read indexes by Raft (Ongaro's thesis) with
 *             PreVote and CheckQuorum. Knows no disk, network, clock or thread: the host feeds it
 *             inputs, then takes one output per turn and carries it out. Same inputs, same outputs.
 * Thread:     pure; the loop thread in production.
 * Ownership:  per call. Entry bufs and messages move into the core where a parameter says `taken`.
 * Errors:     raft_message() is total: no bytes that decode can stop the core, except where a
 *             safety property is already broken (two leaders of one term), which is asserted.
 * Limits:     the RAFT_*_MAX below. No allocation after raft_create() but for message entry arrays.
 *
 * One turn of the host:
 *     raft_set_disk_began() when it has changed; raft_advance(now); any of the other inputs
 *     (messages, proposals, reads, changes, transfers, snapshots, completions), in any number and
 *     order;
 *     then raft_output() once, and everything in it is carried out.
 *
 * The contract of the output, which is where such systems break:
 *   - `messages` may be sent at once. What depends on durability (vote requests and replies, append
 *     acks, own votes, the leader's own match) is not among them: it comes out of a later output,
 *     after raft_append_done() of the op it depends on.
 *   - `op` is written by the host as one atomic, flushed transaction; ops of a group complete in
 *     the order they were issued. A failed op has no completion: the process ends.
 *   - entries are applied only up to `applicable` (committed and durable here), and not while an op
 *     with `install` is carried out.
 */

#ifndef TL_RAFT_H
#define TL_RAFT_H

#include "trilith/conf_entry.h"
#include "trilith/prng.h"
#include "trilith/raft_message.h"

#define RAFT_LOG_RING_ENTRIES 65536u /* entries held in memory, a power of two */
#define RAFT_UNCOMMITTED_BYTES_MAX (32u * 1024u * 1024u)
#define RAFT_UNCOMMITTED_ENTRIES_MAX 32768u
/* Of entries in memory that are committed and durable, applied or not. */
#define RAFT_CACHE_BYTES_MAX (16u * 1024u * 1024u)
#define RAFT_OPS_IN_FLIGHT_MAX 64u
#define RAFT_OP_ENTRIES_MAX 4096u
#define RAFT_INFLIGHT_BYTES_MAX (8u * 1024u * 1024u) /* appends unacknowledged by one peer */
#define RAFT_INFLIGHT_MESSAGES_MAX 256u
/* While so much that was sent to a peer waits at the host, it is sent no more entries. */
#define RAFT_BACKLOG_BYTES_MAX (256u * 1024u)
#define RAFT_PEERS_MAX (2u * RAFT_MEMBERS_MAX) /* members of a configuration and of the last one */

/* Bugs that the test suite plants and must find; 0 in production (docs/correctness.md). */
enum raft_mutation {
    RAFT_MUTATION_NONE = 0,
    RAFT_MUTATION_VOTE_BEFORE_DURABLE = 1, /* vote replies and own vote before their op is done */
    RAFT_MUTATION_COMMIT_OLD_TERM = 3,     /* entries of older terms are committed by counting */
    RAFT_MUTATION_COUNT_MEMORY = 4,     /* the leader counts itself at its in-memory last index */
    RAFT_MUTATION_JOINT_ONE_HALF = 5,   /* a majority of the new voters is a joint quorum */
    RAFT_MUTATION_COMMIT_UNCAPPED = 8,  /* follower commit beyond what is verified */
    RAFT_MUTATION_READ_UNCONFIRMED = 9, /* a read round is ready without a quorum's echo */
    RAFT_MUTATION_PREVOTE_AS_VOTE = 12, /* a pre-vote's reply counts in the election */
    RAFT_MUTATION_KEEP_CONFLICTING_SUFFIX = 13, /* of the log, behind an installed snapshot */
    RAFT_MUTATION_CONF_NOT_ROLLED_BACK = 15,    /* a truncated configuration stays in force */
    RAFT_MUTATION_NO_CHECK_QUORUM = 21,         /* a leader leads on without a quorum */
    RAFT_MUTATION_ACK_FROM_SCALAR = 22,     /* append acks say what is durable when they leave */
    RAFT_MUTATION_IGNORE_DISK = 29,         /* a leader whose disk hangs leads on */
    RAFT_MUTATION_NO_PREVOTE = 30,          /* a follower that hears nobody campaigns at once */
    RAFT_MUTATION_ACK_OLDER_APPEND = 35,    /* kept entries of an older term are acknowledged */
    RAFT_MUTATION_IGNORE_MAJORITY = 72,     /* a leader whose chain is not theirs leads on */
    RAFT_MUTATION_IGNORE_LEADER_CHAIN = 73, /* a log that is not the leader's is kept */
    RAFT_MUTATION_WINDOW_STAYS_FULL = 74,   /* whatever heartbeats say */
    RAFT_MUTATION_CONF_WITHOUT_COMMIT = 45,  /* a configuration's op leaves the commit index out */
    RAFT_MUTATION_DISK_JUST_WELL = 48,       /* a disk is healthy as soon as it says so */
    RAFT_MUTATION_INSTALL_ACKED_UNASKED = 54, /* an install is acked to a leader of any term */
    RAFT_MUTATION_OLDER_EPOCH = 57,          /* a configuration of an older epoch is proposed */
    RAFT_MUTATION_ROUND_BY_ECHO = 96,  /* a read round ends by echoes alone, not by a change */
    RAFT_MUTATION_KEEP_UNAPPLIED = 95, /* entries stay in memory until they are applied */
    RAFT_MUTATION_LEASE_READS = 59, /* a leader that heard a quorum lately confirms reads alone */
};

enum raft_role {
    RAFT_FOLLOWER = 0,
    RAFT_PRECANDIDATE = 1,
    RAFT_CANDIDATE = 2,
    RAFT_LEADER = 3,
};

/* Of struct raft_conf (conf_entry.h). */
bool raft_conf_is_voter(const struct raft_conf *conf, raft_id id);  /* in either half */
bool raft_conf_is_member(const struct raft_conf *conf, raft_id id); /* voter or learner */

/* Whether the members for which holds(context, id) is true are a quorum (of both halves). */
bool raft_conf_has_quorum(const struct raft_conf *conf, bool (*holds)(const void *, raft_id),
                          const void *context);

/* The largest index that a quorum has reached, `match(context, id)` being each voter's. */
raft_index raft_conf_quorum_index(const struct raft_conf *conf,
                                  raft_index (*match)(const void *, raft_id), const void *context);

/* What survives a crash beside the entries. Written in the same transaction as they are. */
struct raft_hard_state {
    raft_term term;
    raft_id vote;      /* whom this node voted for in `term`, or RAFT_ID_NONE */
    raft_index commit; /* a lower bound of the commit index, <= the durable last index */
};

/* The entry before the first kept one; {0, 0, zero hash, 0} for a whole log. */
struct raft_base {
    raft_index index;
    raft_term term;
    struct hash128 hash;
    uint64_t time_us;
};

struct raft_options {
    raft_id self;
    raft_group group;
    /* Of the timeout jitter and of the first read token. Another one at every start: a token must
     * not be used again by a later life of this node, to which late answers may still come. */
    uint64_t seed;
    uint64_t election_timeout_ns;   /* T: timeouts are uniform in [T, 2T); default 300 ms */
    uint64_t heartbeat_interval_ns; /* default 50 ms */
    /* The newest configuration at or below max(hard_state.commit, applied); those above are read
     * from `entries`. All 0 when there is none: a node that waits to be added. */
    struct raft_conf conf;

    struct raft_hard_state hard_state; /* as recovered */
    struct raft_base base;             /* as recovered */
    raft_index applied;                /* of the table; base.index <= applied <= last_index */
    raft_index last_index;
    /* Entries (max(hard_state.commit, applied) - 1, last_index], or (base.index, ...] where that is
     * less: borrowed during create. entries[0] may be at or below commit; the core needs the hash
     * of the entry before each one it may still replace. */
    struct buf *const *entries;
    uint32_t entries_count;

    /* 0: the constants above. Smaller ones let a simulator reach in a short log what takes a long
     * one otherwise: messages that carry a part, closed windows, reads of what left memory. */
    uint32_t append_entries_max;    /* RAFT_MESSAGE_ENTRIES_MAX */
    uint32_t inflight_messages_max; /* RAFT_INFLIGHT_MESSAGES_MAX */
    uint64_t message_bytes_max;     /* RAFT_MESSAGE_BYTES_MAX */
    uint64_t inflight_bytes_max;    /* RAFT_INFLIGHT_BYTES_MAX */
    uint64_t uncommitted_bytes_max; /* RAFT_UNCOMMITTED_BYTES_MAX */
    uint64_t cache_bytes_max;       /* RAFT_CACHE_BYTES_MAX */

    uint32_t mutation; /* enum raft_mutation */
};

/* The switch to a snapshot (raft_snapshot_install()): an op with no entries, no truncation and no
 * hard state, behind which nothing of the group is issued until it is done. From taking it until
 * raft_append_done() the host does not call raft_applied() for the group. It stops apply and flush,
 * discards what is not flushed, and in one transaction of the log env names the new table, writes
 * base and configuration, and keeps the log's entries above the base or empties it. */
struct raft_install {
    struct raft_base base;
    struct raft_conf conf; /* in force at base.index */
    bool keeps_suffix;     /* the log has the entry (base.index, base.term): those above it stay */
};

/* One atomic write to the log. Owned by the core until raft_append_done(sequence). */
struct raft_append_op {
    uint64_t sequence;        /* rises by one */
    raft_index truncate_from; /* delete entries >= this first; 0: none */
    uint32_t entries_count;   /* may be 0 */
    struct buf **entries;     /* sealed, contiguous */
    bool has_hard_state;
    struct raft_hard_state hard_state;  /* valid if has_hard_state */
    const struct raft_install *install; /* not NULL: this op is the switch to a snapshot */
};

/* Entries a lagging peer needs that are no longer in memory. The host reads the entries
 * [first - 1, last_max] from the log and answers with raft_log_read_done(); one at a time per peer.
 */
struct raft_log_read {
    raft_id peer;
    raft_index first;
    raft_index last_max; /* inclusive */
    size_t bytes_max;    /* at least entry `first` is read even if larger */
};

/* A peer that needs what is deleted here: a snapshot at or above `index`. Given out once, and
 * not again until the host has said what came of it: raft_snapshot_sent() or
 * raft_snapshot_failed(). Until it is installed there the host keeps the log from the snapshot
 * on, and gives up when the peer's state is no longer RAFT_NEEDS_SNAPSHOT. */
struct raft_snapshot_wanted {
    raft_id peer;
    raft_index index;
};

#define RAFT_OUTPUT_MESSAGES_MAX 1024u

/* What the host has to do. Overwritten by the next raft_output(). */
struct raft_output {
    uint32_t messages_count;
    struct raft_message *messages; /* the host clears each one after encoding it */

    const struct raft_append_op *op; /* NULL: nothing to write */

    uint32_t log_reads_count;
    struct raft_log_read log_reads[RAFT_PEERS_MAX];

    uint32_t snapshots_count;
    struct raft_snapshot_wanted snapshots[RAFT_PEERS_MAX];

    raft_index commit;
    raft_index applicable; /* min(commit, last durable index): apply up to here */

    /* Read rounds <= reads_ready_round may be served once applied >= read_index. Both only rise. */
    uint64_t reads_ready_round;
    raft_index read_index;

    /* Not 0: a peer's bytes and ours differ around this index. The host checks the stored record
     * verify_index on disk: bad, the process ends (exit 4); good, raft_verified(). Given out once
     * per check, one check at a time. */
    raft_index verify_index;
    /* This log is not the others': a majority says so to this leader, which has stepped down, or a
     * leader has committed for an election timeout what does not go on from what is here. The
     * process must end. */
    bool is_chain_broken;

    uint64_t deadline_ns; /* call raft_advance() at this time at the latest; UINT64_MAX: never */
};

struct raft;

/* Creates a follower from what was recovered. Never fails on memory (process policy); asserts the
 * relations between the options that recovery has checked. Not yet advanced: time is 0. */
struct raft *raft_create(const struct raft_options *options);
void raft_destroy(struct raft *raft); /* accepts NULL */

/* Sets the time (monotonic, ns; a smaller one than before is ignored) and fires what is due. */
void raft_advance(struct raft *raft, uint64_t now_ns);

/* Steps one message of a peer. `message` is taken: cleared on return. Messages of another group or
 * to another id are dropped and counted, and so are those of an id that is no member: vote requests
 * excepted (thesis 4.2.3), and what a leader sends (4.2.2: a lagging node does not yet know the
 * configuration that its leader is a member of). */
void raft_message(struct raft *raft, struct raft_message *message);

/* Seals `entry` (made by entry_create) as the next of this leader's log.
 *
 * time_us     wish for the entry's time; it becomes max(wish, last entry's time + 1). The caller
 *             bounds how fast it rises (src/node/log_time.h).
 * out_index   where it stands if it commits, out_term with which term.
 *
 * TL_OK takes `entry`; on an error it stays the caller's.
 * TL_ERR_NOT_LEADER  nothing was proposed: this node does not lead, or is handing over.
 * TL_ERR_FULL        the uncommitted tail is at its limit; nothing was proposed.
 */
TL_MUST_CHECK enum tl_err raft_propose(struct raft *raft, struct buf *entry, uint64_t time_us,
                                       raft_index *out_index, raft_term *out_term);

/* Asks for the voters, learners and epoch of `target`, whose outgoing half is empty. When voters
 * change they do so by a joint configuration (thesis 4.3), which this or any later leader leaves by
 * itself; otherwise by one entry. A configuration is in force as soon as it is appended, and no
 * longer when it is truncated. What is wanted after any outcome is derived again by the caller,
 * from status.conf.
 *
 * out_index, out_term   of the first entry.
 *
 * TL_ERR_NOT_LEADER  as in raft_propose().
 * TL_ERR_BUSY        the active configuration is joint or not committed, or nothing of this term
 *                    is: try again (Ongaro, raft-dev 2015-07-10: without an own-term commit two
 *                    leaders can each change voters, and their quorums do not meet).
 * TL_ERR_STALE       the epoch is older than the active configuration's.
 * TL_ERR_INVALID     not right, joint, the same as now, together with the present one more than
 *                    RAFT_MEMBERS_MAX members, or a new voter that is no learner now.
 * TL_ERR_NO_QUORUM   a majority of the voters asked for is not heard from, or a new one has not
 *                    caught up: try again.
 * TL_ERR_FULL        as in raft_propose(). */
TL_MUST_CHECK enum tl_err raft_propose_conf(struct raft *raft, const struct raft_conf *target,
                                            uint64_t time_us, raft_index *out_index,
                                            raft_term *out_term);

/* Hands leadership over to `target`, or with RAFT_ID_NONE to the best voter there is. Until that is
 * done or an election timeout has passed (status.transfer_target), proposals are refused; reads go
 * on. Another target replaces the one under way; the same one changes nothing.
 *
 * TL_ERR_NOT_LEADER  this node does not lead.
 * TL_ERR_INVALID     this node itself, no member, a learner, or a voter that is being removed.
 * TL_ERR_NO_QUORUM   no target was named, and no voter is heard from. */
TL_MUST_CHECK enum tl_err raft_transfer(struct raft *raft, raft_id target);

/* When the oldest log commit of this node that has not ended began, by the clock of raft_advance();
 * 0: none is under way. Told when it changes, before raft_advance(). A node whose commit is older
 * than 500 ms does not campaign; a leader hands over, and steps down when that has not worked after
 * a second, if an up-to-date voter has told a healthy disk: not more than once in ten seconds. */
void raft_set_disk_began(struct raft *raft, uint64_t began_ns);

/* What a frame of the peer says: the age of its oldest log commit that has not ended; 0: none. */
void raft_set_peer_disk_age(struct raft *raft, raft_id peer, uint64_t age_ns);

/* The host knows of a reason why the peer may not lead: no transfer goes to it but one that names
 * it. Told again and again, like the age of its disk: a peer that is new here has no reason. */
void raft_set_peer_unfit(struct raft *raft, raft_id peer, bool is_unfit);

/* So many bytes of what was sent to the peer have not left the host. Told before raft_output(); a
 * peer that the host says nothing of has no backlog. The host calls raft_output() again when a
 * backlog of RAFT_BACKLOG_BYTES_MAX or more has become less. */
void raft_set_peer_backlog(struct raft *raft, raft_id peer, uint64_t bytes);

/* A message of the peer is arriving. When the peer is this follower's leader, that counts as having
 * heard it; else nothing happens. Fires no timer, unlike raft_advance(). */
void raft_hear_partial(struct raft *raft, raft_id peer, uint64_t now_ns);

/* Asks for a linearizable read index (thesis 6.4) and returns the round it belongs to: wait for
 * output.reads_ready_round >= it. Works on every role; rounds survive changes of leader (they are
 * asked again with a new token) and have no deadline of their own: that is the host's. */
uint64_t raft_read(struct raft *raft);

/* The op with this sequence, the oldest in flight, is durable. */
void raft_append_done(struct raft *raft, uint64_t sequence);

/* Answers a raft_log_read. entries[0] is entry first - 1 unless that is the base. References are
 * taken (the array is not). entries_count 0: compacted meanwhile. The peer may be a member no more.
 */
void raft_log_read_done(struct raft *raft, raft_id peer, struct buf *const *entries,
                        uint32_t entries_count);

/* Entries up to `index` are applied; lets the core evict. index <= output.applicable. */
void raft_applied(struct raft *raft, raft_index index);

/* The log store has deleted entries: `base` is the newest deleted one, below `applied`. */
void raft_compacted(struct raft *raft, const struct raft_base *base);

/* A snapshot at `index` is installed at the peer: appends go on behind it, or if the log has been
 * deleted further meanwhile, another one is asked for. Mostly the peer's own acknowledgement has
 * said so before. Ignored when the peer does not need one any more, is gone, or this node does not
 * lead. */
void raft_snapshot_sent(struct raft *raft, raft_id peer, raft_index index);

/* The snapshot did not get there: asked for again. Ignored as above. */
void raft_snapshot_failed(struct raft *raft, raft_id peer);

/* Whether a snapshot at `index` would be installed now: asked before its transfer is accepted. */
bool raft_snapshot_is_wanted(const struct raft *raft, raft_index index);

/* Installs a snapshot that is complete and durable beside the table in use: an op with `install`
 * comes out of this or a later raft_output(), behind the ops in flight. Until that op is done this
 * node does not campaign and takes no entries; from then on its applied index is base->index.
 *
 * TL_OK             the op will come.
 * TL_ERR_STALE      at or below the commit index, or this node leads: the snapshot is of no use.
 * TL_ERR_BUSY       one is being installed.
 * TL_ERR_NO_LEADER  the log would become shorter, and `sender` is not known here to lead: to be
 *                   tried again when something has been heard.
 * TL_ERR_CORRUPT    the log has other bytes at the same index and term: somebody's are damaged. */
TL_MUST_CHECK enum tl_err raft_snapshot_install(struct raft *raft, raft_id sender,
                                                const struct raft_base *base,
                                                const struct raft_conf *conf);

/* The record asked for by output.verify_index is good on disk. */
void raft_verified(struct raft *raft);

/* A hint that the peer's process is gone (connection reset and reconnect refused): if it is the
 * leader, it is forgotten and a pre-vote follows after 5-50 ms. Legal because there are no leases.
 */
void raft_peer_lost(struct raft *raft, raft_id peer);

/* The output of this turn. Valid until the next call of any function but the queries below. */
const struct raft_output *raft_output(struct raft *raft);

/* Whether the message buffer could overflow in a further step: call raft_output() first. */
bool raft_must_output(const struct raft *raft);

/* ---- queries: change nothing ---- */

/* The entry, borrowed until the next call; NULL when it is not in memory (read it from the log). */
struct buf *raft_entry(const struct raft *raft, raft_index index);

enum raft_progress_state {
    RAFT_PROBE = 0,
    RAFT_REPLICATE = 1,
    RAFT_NEEDS_SNAPSHOT = 2, /* what it needs is compacted */
};

struct raft_peer_status {
    raft_id id;
    raft_index match;
    raft_index next;
    enum raft_progress_state state;
    bool is_recently_active; /* heard from within an election timeout */
    bool is_caught_up;       /* and no more than an election timeout behind: may become a voter */
    bool is_told_to_lead;    /* sent a TIMEOUT_NOW in this term: it may still be obeyed */
};

struct raft_status {
    enum raft_role role;
    raft_term term;
    raft_id vote;
    raft_id leader; /* RAFT_ID_NONE: none known */
    /* Heard from a leader within an election timeout; as leader: from a quorum. */
    bool has_quorum;
    raft_index first; /* base.index + 1 */
    raft_index last;
    raft_index durable; /* last index whose op is done */
    raft_index commit;
    raft_index applied;
    raft_index leader_commit; /* as last told by the leader; own commit as leader */
    uint64_t last_time_us;    /* of the last entry */
    uint64_t uncommitted_bytes;
    uint64_t memory_bytes; /* of entries in memory */
    struct raft_conf conf; /* the newest in the log */
    raft_index conf_index; /* of its entry; 0: older than what the core was given */
    bool is_conf_committed;
    bool is_installing;      /* a snapshot */
    raft_id transfer_target; /* leader: RAFT_ID_NONE when none is under way */
    uint32_t peers_count;    /* leader only, else 0 */
    struct raft_peer_status peers[RAFT_PEERS_MAX];
    /* Since create. */
    uint64_t elections_started_count;
    uint64_t elections_won_count;
    uint64_t leader_changes_count; /* times a leader other than the last one became known */
    uint64_t messages_dropped_count;
    uint64_t read_rounds_count; /* of this leader: quorum rounds begun */
    uint64_t chain_mismatches_count;
    uint64_t transfers_count;   /* begun, whoever asked for them */
    uint64_t disk_stalls_count; /* of these, because the disk hung */
    uint64_t installs_count;
};

void raft_get_status(const struct raft *raft, struct raft_status *out_status);
/* Borrowed until the next call. */
const struct raft_conf *raft_newest_conf(const struct raft *raft);
raft_id raft_transfer_target(const struct raft *raft); /* RAFT_ID_NONE: none is under way */

/* Cheap parts of it. */
enum raft_role raft_role_of(const struct raft *raft);
raft_id raft_leader(const struct raft *raft);
raft_term raft_current_term(const struct raft *raft);
uint64_t raft_last_time_us(const struct raft *raft); /* of the last entry */

/* As the leader: the term, when it began to lead, and the time of the last entry then. */
struct raft_leadership {
    raft_term term;
    uint64_t began_ns; /* by the clock of raft_advance(); after that entry was made */
    uint64_t last_time_us;
};
struct raft_leadership raft_leadership_of(const struct raft *raft);

#endif
