/* raft.c - one core: life cycle, dispatch of inputs, output, invariants.
 *
 * Invariants, asserted in every build; the asserts name them:
 *
 *   T1  the term does not fall; within a term the vote is given once and not taken back
 *   T2  a leader or candidate has voted for itself in its term
 *   T3  nobody else leads in a term this node leads (two leaders: raft_hear_leader)
 *   C1  the commit index does not fall, and is <= the last index
 *   C2  applied <= min(commit, durable), and does not fall: what was served cannot be lost here
 *   L1  a leader appends only: its last index does not fall while it leads a term
 *   L2  nothing at or below the commit index is truncated
 *   L3  the entry at min(commit, durable) and everything above it are in memory (or it is the base)
 *   M1  the active configuration is the newest in the log; the committed one is the newest at or
 *       below the commit index (raft_check_membership)
 *   M2  a leader appends a configuration only when the one before is committed, and an entry of its
 *       own term; every member of the active configuration is a peer
 *   P1  match < next, match <= last, and match does not fall within a term
 *   D1  what the disk will hold after the ops in flight is a prefix of the log, or is being
 *       truncated to one (raft_ops_check)
 *   D2  the hard state in the newest op is never ahead of the core (raft_ops_check)
 *
 * A message is stepped in three stages: is it for this core at all; what does its term say; then by
 * type. All that is sent because of entries is sent at the end of the turn (raft_output).
 */

#include "raft_internal.h"

#include <stdlib.h>

static void check_monotone(struct raft *raft)
{
    TL_ASSERT(raft->term >= raft->checked.term);
    if (raft->term == raft->checked.term) {
        if (raft->checked.vote != RAFT_ID_NONE) TL_ASSERT(raft->vote == raft->checked.vote);
        if (raft->role == RAFT_LEADER && raft->checked.role == RAFT_LEADER) {
            TL_ASSERT(raft->log.last >= raft->checked.last);
        }
    }
    TL_ASSERT(raft->commit >= raft->checked.commit);
    TL_ASSERT(raft->applied >= raft->checked.applied);
    raft->checked.term = raft->term;
    raft->checked.vote = raft->vote;
    raft->checked.commit = raft->commit;
    raft->checked.applied = raft->applied;
    raft->checked.last = raft->log.last;
    raft->checked.role = raft->role;
}

/* Everything that must hold between two inputs, whatever happened before. */
static void raft_check(struct raft *raft)
{
    check_monotone(raft); /* T1, C1, C2, L1 */
    if (raft->role == RAFT_LEADER) TL_ASSERT(raft->leader == raft->self);
    if (raft->role == RAFT_LEADER) TL_ASSERT(raft->vote == raft->self);    /* T2 */
    if (raft->role == RAFT_CANDIDATE) TL_ASSERT(raft->vote == raft->self); /* T2 */
    if (raft->role != RAFT_LEADER) TL_ASSERT(raft->leader != raft->self);
    TL_ASSERT(raft->commit <= raft->log.last);                                    /* C1 */
    TL_ASSERT(raft->applied <= TL_MIN(raft->commit, raft->ops.durable));          /* C2 */
    TL_ASSERT(raft_log_has(&raft->log, TL_MIN(raft->commit, raft->ops.durable))); /* L3 */
    TL_ASSERT(raft->log.base.index <= raft->applied);
    if (raft->commit == raft->log.last) TL_ASSERT(raft->uncommitted_bytes == 0);
    raft_check_membership(raft);
    if (raft->role != RAFT_LEADER) {
        return;
    }
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        TL_ASSERT(raft->peers[i].match < raft->peers[i].next); /* P1 */
        TL_ASSERT(raft->peers[i].match <= raft->log.last);     /* P1 */
        TL_ASSERT(raft->peers[i].next <= raft->log.last + 1);
    }
}

/* ---- life cycle ---- */

static uint64_t or_default(uint64_t value, uint64_t value_default)
{
    TL_ASSERT(value <= value_default);
    return value != 0 ? value : value_default;
}

static void create_check_options(const struct raft_options *options)
{
    TL_ASSERT(options->self != RAFT_ID_NONE);
    TL_ASSERT(options->election_timeout_ns > 0);
    TL_ASSERT(options->heartbeat_interval_ns > 0);
    TL_ASSERT(options->heartbeat_interval_ns < options->election_timeout_ns);
    TL_ASSERT(options->base.index <= options->applied);
    TL_ASSERT(options->applied <= options->last_index);
    TL_ASSERT(options->hard_state.commit <= options->last_index);
}

struct raft *raft_create(const struct raft_options *options)
{
    create_check_options(options);
    struct raft *raft = calloc(1, sizeof *raft);
    TL_ASSERT(raft != NULL);
    raft->self = options->self;
    raft->group = options->group;
    raft->election_timeout_ns = options->election_timeout_ns;
    raft->heartbeat_interval_ns = options->heartbeat_interval_ns;
    raft->append_entries_max =
        (uint32_t)or_default(options->append_entries_max, RAFT_MESSAGE_ENTRIES_MAX);
    raft->inflight_messages_max =
        (uint32_t)or_default(options->inflight_messages_max, RAFT_INFLIGHT_MESSAGES_MAX);
    raft->message_bytes_max = or_default(options->message_bytes_max, RAFT_MESSAGE_BYTES_MAX);
    raft->inflight_bytes_max = or_default(options->inflight_bytes_max, RAFT_INFLIGHT_BYTES_MAX);
    raft->uncommitted_bytes_max =
        or_default(options->uncommitted_bytes_max, RAFT_UNCOMMITTED_BYTES_MAX);
    raft->mutation = options->mutation;
    prng_init(&raft->prng, options->seed);
    raft_reads_init(raft, options->seed);
    raft->term = options->hard_state.term;
    raft->vote = options->hard_state.vote;
    raft->commit = TL_MAX(options->hard_state.commit, options->applied);
    raft->applied = options->applied;
    raft->leader_commit = raft->commit;
    raft_log_init(&raft->log, &options->base, options->entries, options->entries_count,
                  options->last_index, or_default(options->cache_bytes_max, RAFT_CACHE_BYTES_MAX));
    TL_ASSERT(raft_log_term(&raft->log, raft->log.last) <= raft->term);
    for (raft_index i = raft->commit + 1; i <= raft->log.last; i++) {
        raft->uncommitted_bytes += raft_log_entry(&raft->log, i)->count;
    }
    raft_ops_init(raft, options);
    raft_membership_init(raft, &options->conf);
    raft->messages = calloc(RAFT_OUTPUT_MESSAGES_MAX, sizeof *raft->messages);
    TL_ASSERT(raft->messages != NULL);
    raft_update_evictable(raft);
    raft_check(raft);
    return raft;
}

void raft_destroy(struct raft *raft)
{
    if (raft == NULL) {
        return;
    }
    for (uint32_t i = 0; i < raft->messages_count; i++) raft_message_clear(&raft->messages[i]);
    free(raft->messages);
    raft_ops_deinit(raft);
    raft_log_deinit(&raft->log);
    free(raft);
}

/* ---- helpers of all files ---- */

/* raft->peers_count when it is no other member. */
static uint32_t peer_place(const struct raft *raft, raft_id id)
{
    uint32_t i = 0;
    while (i < raft->peers_count && raft->peers[i].id != id) i++;
    return i;
}

struct raft_peer *raft_peer_find(struct raft *raft, raft_id id)
{
    uint32_t i = peer_place(raft, id);
    return i < raft->peers_count ? &raft->peers[i] : NULL;
}

const struct raft_peer *raft_peer_look(const struct raft *raft, raft_id id)
{
    uint32_t i = peer_place(raft, id);
    return i < raft->peers_count ? &raft->peers[i] : NULL;
}

struct raft_message raft_message_make(const struct raft *raft, enum raft_message_type type,
                                      raft_id to)
{
    return (struct raft_message){
        .type = type, .group = raft->group, .from = raft->self, .to = to, .term = raft->term};
}

/* Takes the entries. A host that does not heed raft_must_output() loses messages, as a network
 * does. */
void raft_send(struct raft *raft, const struct raft_message *message)
{
    TL_ASSERT(message->to != raft->self);
    struct raft_message taken = *message;
    if (raft->messages_count == RAFT_OUTPUT_MESSAGES_MAX) {
        raft->messages_dropped_count++;
        raft_message_clear(&taken);
        return;
    }
    raft->messages[raft->messages_count++] = taken;
}

/* Entries that are committed and durable may go, applied or not: a host whose table is slow reads
 * them from its log. The newest one stays, for the entry that follows it is checked against its
 * hash. */
void raft_update_evictable(struct raft *raft)
{
    raft_index stable = TL_MIN(raft->commit, raft->ops.durable);
    raft_index limit = stable == 0 ? 0 : stable - 1;
    if (raft->mutation == RAFT_MUTATION_KEEP_UNAPPLIED) {
        limit = TL_MIN(limit, raft->applied);
    }
    if (limit > raft->log.evictable) {
        raft_log_set_evictable(&raft->log, limit);
    }
}

void raft_commit_to(struct raft *raft, raft_index index)
{
    TL_ASSERT(index > raft->commit);
    TL_ASSERT(index <= raft->log.last); /* C1 */
    for (raft_index i = raft->commit + 1; i <= index; i++) {
        uint32_t bytes = raft_log_entry(&raft->log, i)->count;
        TL_ASSERT(raft->uncommitted_bytes >= bytes);
        raft->uncommitted_bytes -= bytes;
    }
    raft_index commit_before = raft->commit;
    raft->commit = index;
    raft_membership_on_commit(raft, commit_before);
    raft_update_evictable(raft);
}

void raft_truncate(struct raft *raft, raft_index from)
{
    TL_ASSERT(raft->role != RAFT_LEADER); /* L1 */
    TL_ASSERT(from > raft->commit);       /* L2 */
    for (raft_index i = from; i <= raft->log.last; i++) {
        raft->uncommitted_bytes -= raft_log_entry(&raft->log, i)->count;
    }
    raft_ops_on_truncate(raft, from);
    raft_log_truncate(&raft->log, from);
    raft_membership_on_truncate(raft, from);
}

/* ---- inputs ---- */

void raft_advance(struct raft *raft, uint64_t now_ns)
{
    raft_check(raft);
    raft->now_ns = TL_MAX(raft->now_ns, now_ns);
    if (!raft->is_started) {
        raft->is_started = true;
        raft_reset_election_timer(raft);
    }
    if (raft->role == RAFT_LEADER) {
        raft_transfer_advance(raft);
    }
    if (raft->role == RAFT_LEADER) {
        raft_advance_leader(raft);
    } else if (raft->now_ns >= raft->election_deadline_ns && raft->ops.count == 0 &&
               raft_can_campaign(raft)) {
        /* Not while an own write is out: a node with a slow disk has no business leading, and
         * its silence is not the leader's (LogCabin #200). */
        raft_campaign(raft);
    }
    raft_reads_advance(raft);
    raft_check(raft);
}

static bool is_vote_request(enum raft_message_type type)
{
    return type == RAFT_PREVOTE || type == RAFT_VOTE;
}

static bool is_of_leader(enum raft_message_type type)
{
    return type == RAFT_APPEND || type == RAFT_HEARTBEAT || type == RAFT_READ_REPLY ||
           type == RAFT_TIMEOUT_NOW;
}

static bool is_for_us(struct raft *raft, const struct raft_message *message)
{
    bool is_member = raft_peer_find(raft, message->from) != NULL;
    bool is_sane = message->term <= RAFT_NUMBER_MAX && message->index <= RAFT_NUMBER_MAX &&
                   message->commit <= RAFT_NUMBER_MAX;
    return message->group == raft->group && message->to == raft->self &&
           message->from != raft->self && message->from != RAFT_ID_NONE && is_sane &&
           (is_member || is_vote_request(message->type) || is_of_leader(message->type));
}

/* Of an older term. The sender is told ours where that helps it: a leader steps down, a node that
 * campaigned while nobody listened is freed, an asker catches up. */
static void step_older_term(struct raft *raft, const struct raft_message *message)
{
    struct raft_message reply = raft_message_make(raft, RAFT_HEARTBEAT_REPLY, message->from);
    switch (message->type) {
    case RAFT_PREVOTE:
        reply.type = RAFT_PREVOTE_REPLY;
        raft_send(raft, &reply);
        break;
    case RAFT_VOTE:
        reply.type = RAFT_VOTE_REPLY;
        raft_send_after(raft, &reply);
        break;
    case RAFT_APPEND:
        raft_keep_older_append(raft, message);
        raft_send(raft, &reply);
        break;
    case RAFT_HEARTBEAT:
        raft_send(raft, &reply);
        break;
    default:
        raft->messages_dropped_count++;
    }
}

static void step_newer_term(struct raft *raft, const struct raft_message *message)
{
    bool is_promise_only = message->type == RAFT_PREVOTE || message->type == RAFT_VOTE ||
                           (message->type == RAFT_PREVOTE_REPLY && message->granted);
    if (!is_promise_only) { /* votes: step_vote() looks at more than the term */
        raft_become_follower(raft, message->term, RAFT_ID_NONE);
    }
}

static void step_by_type(struct raft *raft, struct raft_message *message)
{
    switch (message->type) {
    case RAFT_PREVOTE:
    case RAFT_VOTE:
        raft_step_vote_request(raft, message);
        break;
    case RAFT_PREVOTE_REPLY:
    case RAFT_VOTE_REPLY:
        raft_step_vote_reply(raft, message);
        break;
    case RAFT_APPEND:
        raft_step_append(raft, message);
        break;
    case RAFT_APPEND_REPLY:
        raft_step_append_reply(raft, message);
        break;
    case RAFT_HEARTBEAT:
        raft_step_heartbeat(raft, message);
        break;
    case RAFT_HEARTBEAT_REPLY:
        raft_step_heartbeat_reply(raft, message);
        break;
    case RAFT_READ:
        raft_step_read(raft, message);
        break;
    case RAFT_READ_REPLY:
        raft_step_read_reply(raft, message);
        break;
    case RAFT_TIMEOUT_NOW:
        raft_step_timeout_now(raft, message);
        break;
    default:
        raft->messages_dropped_count++;
    }
}

void raft_message(struct raft *raft, struct raft_message *message)
{
    raft_check(raft);
    if (!is_for_us(raft, message)) {
        raft->messages_dropped_count++;
    } else if (message->term < raft->term) {
        step_older_term(raft, message);
    } else {
        if (message->term > raft->term) {
            step_newer_term(raft, message);
        }
        step_by_type(raft, message);
    }
    raft_message_clear(message);
    raft_check(raft);
}

enum tl_err raft_may_propose(const struct raft *raft, uint32_t bytes)
{
    if (raft->role != RAFT_LEADER || raft->transfer.target != RAFT_ID_NONE) {
        return TL_ERR_NOT_LEADER;
    }
    bool is_full = raft->log.last - raft->commit >= RAFT_UNCOMMITTED_ENTRIES_MAX ||
                   raft->uncommitted_bytes + bytes > raft->uncommitted_bytes_max ||
                   raft_log_room(&raft->log) == 0;
    return is_full ? TL_ERR_FULL : TL_OK;
}

enum tl_err raft_propose(struct raft *raft, struct buf *entry, uint64_t time_us,
                         raft_index *out_index, raft_term *out_term)
{
    raft_check(raft);
    TL_ASSERT(entry_type_of(entry) != ENTRY_GENESIS);
    TL_ASSERT(entry_type_of(entry) != ENTRY_CONF); /* raft_propose_conf() */
    enum tl_err err = raft_may_propose(raft, entry->count);
    if (err != TL_OK) {
        return err;
    }
    *out_index = raft_append_own(raft, entry, time_us);
    if (raft->mutation == RAFT_MUTATION_COUNT_MEMORY) {
        raft_maybe_commit(raft);
    }
    *out_term = raft->term;
    raft_check(raft);
    return TL_OK;
}

void raft_append_done(struct raft *raft, uint64_t sequence)
{
    raft_check(raft);
    raft_ops_done(raft, sequence);
    raft_update_evictable(raft);
    bool has_voted_durably =
        raft->ops.durable_term == raft->term && raft->ops.durable_vote == raft->self;
    if (raft->role == RAFT_CANDIDATE && has_voted_durably && !raft->has_own_vote) {
        raft->has_own_vote = true;
        raft_count_votes(raft);
    }
    if (raft->role == RAFT_LEADER) {
        raft_maybe_commit(raft);
    } else if (!raft->is_leader_lost) {
        raft_reset_election_timer(raft); /* messages waited while the disk did (LogCabin #200) */
    }
    raft_check(raft);
}

void raft_applied(struct raft *raft, raft_index index)
{
    raft_check(raft);
    TL_ASSERT(index >= raft->applied);
    TL_ASSERT(index <= TL_MIN(raft->commit, raft->ops.durable)); /* C2 */
    raft->applied = index;
    raft_update_evictable(raft);
    raft_check(raft);
}

void raft_compacted(struct raft *raft, const struct raft_base *base)
{
    raft_check(raft);
    TL_ASSERT(base->index >= raft->log.base.index);
    TL_ASSERT(base->index <= raft->applied);
    raft->log.base = *base;
    raft_check(raft);
}

void raft_verified(struct raft *raft)
{
    raft_check(raft);
    TL_ASSERT(raft->verify.index != 0);
    if (raft->verify.reply.to != RAFT_ID_NONE && raft->verify.term == raft->term) {
        raft_send(raft, &raft->verify.reply);
    }
    raft->verify.index = 0;
    raft_check(raft);
}

void raft_peer_lost(struct raft *raft, raft_id peer_id)
{
    raft_check(raft);
    struct raft_peer *peer = raft_peer_find(raft, peer_id);
    if (raft->role == RAFT_LEADER && peer != NULL && peer->state == RAFT_REPLICATE) {
        raft_peer_to_probe(peer, peer->match + 1); /* what was in flight is lost */
    }
    if (raft->role == RAFT_FOLLOWER && raft->leader == peer_id && peer_id != RAFT_ID_NONE) {
        /* Jitter here, too: all followers hear of it at once (cockroach #128642). */
        raft_become_follower(raft, raft->term, RAFT_ID_NONE);
        raft->is_leader_lost = true;
        raft->election_deadline_ns =
            raft->now_ns +
            prng_between(&raft->prng, RAFT_LOST_JITTER_MIN_NS, RAFT_LOST_JITTER_MAX_NS);
    }
    raft_check(raft);
}

/* ---- output ---- */

static uint64_t deadline_of(const struct raft *raft)
{
    if (raft->is_output_short || raft_ops_can_issue(raft)) {
        return raft->now_ns;
    }
    uint64_t deadline_ns = raft_reads_deadline_ns(raft);
    if (raft->role == RAFT_LEADER) {
        deadline_ns = TL_MIN(deadline_ns, raft->heartbeat_ns);
        deadline_ns = TL_MIN(deadline_ns, raft_quorum_deadline_ns(raft));
        deadline_ns = TL_MIN(deadline_ns, raft_transfer_deadline_ns(raft));
        if (raft->commit_notify_ns != 0) {
            deadline_ns = TL_MIN(deadline_ns, raft->commit_notify_ns);
        }
    } else if (raft->ops.count == 0 && raft_can_campaign(raft)) {
        deadline_ns = TL_MIN(deadline_ns, raft->election_deadline_ns);
    }
    return deadline_ns;
}

const struct raft_output *raft_output(struct raft *raft)
{
    raft_check(raft);
    struct raft_output *output = &raft->output;
    output->log_reads_count = 0;
    output->snapshots_count = 0;
    raft_membership_step(raft);
    raft_reads_begin(raft);
    raft_replicate(raft);
    raft_ask_snapshots(raft);
    raft_transfer_step(raft);
    raft_reads_ask(raft);
    output->op = raft_ops_issue(raft);

    output->messages = raft->messages;
    output->messages_count = raft->messages_count;
    raft->messages_count = 0; /* the host clears them */
    output->commit = raft->commit;
    output->applicable = TL_MIN(raft->commit, raft->ops.durable);
    output->reads_ready_round = raft->reads.done;
    output->read_index = raft->reads.index;
    output->verify_index = raft->verify.is_given_out ? 0 : raft->verify.index;
    raft->verify.is_given_out = true;
    output->is_chain_broken = raft->is_chain_broken;
    output->deadline_ns = raft->is_started ? deadline_of(raft) : raft->now_ns;
    raft_check(raft);
    return output;
}

bool raft_must_output(const struct raft *raft)
{
    return raft->messages_count + RAFT_AFTER_MESSAGES_MAX + RAFT_STEP_MESSAGES_MAX >
           RAFT_OUTPUT_MESSAGES_MAX;
}

/* ---- queries ---- */

struct buf *raft_entry(const struct raft *raft, raft_index index)
{
    return raft_log_entry(&raft->log, index);
}

static void status_peers(const struct raft *raft, struct raft_status *out_status)
{
    out_status->peers_count = raft->peers_count;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        out_status->peers[i] = (struct raft_peer_status){
            .id = peer->id,
            .match = peer->match,
            .next = peer->next,
            .state = peer->state,
            .is_recently_active = raft_is_heard(raft, peer->id),
            .is_caught_up = raft_peer_is_caught_up(raft, peer),
            .is_told_to_lead = peer->told_term == raft->term,
        };
    }
}

void raft_get_status(const struct raft *raft, struct raft_status *out_status)
{
    *out_status = (struct raft_status){
        .role = raft->role,
        .term = raft->term,
        .vote = raft->vote,
        .leader = raft->leader,
        .has_quorum =
            raft->role == RAFT_LEADER ? raft_has_active_quorum(raft) : raft_has_live_leader(raft),
        .first = raft->log.base.index + 1,
        .last = raft->log.last,
        .durable = raft->ops.durable,
        .commit = raft->commit,
        .applied = raft->applied,
        .leader_commit = raft->leader_commit,
        .last_time_us = raft_log_last_time_us(&raft->log),
        .uncommitted_bytes = raft->uncommitted_bytes,
        .memory_bytes = raft->log.bytes,
        .conf = raft->conf,
        .conf_index = raft->conf_index,
        .is_conf_committed = raft->conf_index <= raft->commit,
        .is_installing = raft->install.state != RAFT_INSTALL_NONE,
        .transfer_target = raft->transfer.target,
        .elections_started_count = raft->elections_started_count,
        .elections_won_count = raft->elections_won_count,
        .leader_changes_count = raft->leader_changes_count,
        .messages_dropped_count = raft->messages_dropped_count,
        .read_rounds_count = raft->read_rounds_count,
        .chain_mismatches_count = raft->chain_mismatches_count,
        .transfers_count = raft->transfers_count,
        .disk_stalls_count = raft->disk_stalls_count,
        .installs_count = raft->installs_count,
    };
    if (raft->role == RAFT_LEADER) {
        status_peers(raft, out_status);
    }
}

const struct raft_conf *raft_newest_conf(const struct raft *raft)
{
    return &raft->conf;
}

raft_id raft_transfer_target(const struct raft *raft)
{
    return raft->transfer.target;
}

enum raft_role raft_role_of(const struct raft *raft)
{
    return raft->role;
}

raft_id raft_leader(const struct raft *raft)
{
    return raft->leader;
}

raft_term raft_current_term(const struct raft *raft)
{
    return raft->term;
}

uint64_t raft_last_time_us(const struct raft *raft)
{
    return raft_log_last_time_us(&raft->log);
}

struct raft_leadership raft_leadership_of(const struct raft *raft)
{
    TL_ASSERT(raft->role == RAFT_LEADER);
    return (struct raft_leadership){.term = raft->term,
                                    .began_ns = raft->leading_began_ns,
                                    .last_time_us = raft->leading_last_time_us};
}
