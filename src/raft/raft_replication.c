/* raft_replication.c - the leader's side: appends, acknowledgements, commitment, heartbeats.
 *
 *     PROBE           one append at a time, until all of one was acknowledged
 *     REPLICATE       a window of appends; back to PROBE by a reject or a lost connection
 *     NEEDS_SNAPSHOT  what it needs is deleted; back to PROBE by an ack at or above the base
 *
 * A peer in NEEDS_SNAPSHOT is asked, at every heartbeat, whether it has the base: a crash may have
 * taken the acks of what is on its disk. Only when it says that it has not, a snapshot is sent.
 *
 * Appends leave in the turn in which their entries are decided, in parallel with the leader's own
 * write (thesis 10.2.1): raft_replicate() sends each peer all it may have, once per output.
 */

#include "raft_internal.h"

#include <stdlib.h>

/* A probe of no more is sent again without much ado. */
#define PROBE_SMALL_BYTES (64u * 1024u)

/* ---- the window ---- */

static void inflight_clear(struct raft_peer *peer)
{
    peer->inflight_first = 0;
    peer->inflight_count = 0;
    peer->inflight_bytes = 0;
}

static bool inflight_is_full(const struct raft *raft, const struct raft_peer *peer)
{
    return peer->inflight_count >= raft->inflight_messages_max ||
           peer->inflight_bytes >= raft->inflight_bytes_max;
}

static void inflight_add(const struct raft *raft, struct raft_peer *peer, raft_index last,
                         uint64_t bytes)
{
    TL_ASSERT(!inflight_is_full(raft, peer));
    uint32_t at = (peer->inflight_first + peer->inflight_count) % RAFT_INFLIGHT_MESSAGES_MAX;
    peer->inflight[at] = (struct raft_inflight){.last = last, .bytes = bytes};
    peer->inflight_count++;
    peer->inflight_bytes += bytes;
}

static void inflight_remove_first(struct raft_peer *peer)
{
    TL_ASSERT(peer->inflight_count > 0);
    TL_ASSERT(peer->inflight_bytes >= peer->inflight[peer->inflight_first].bytes);
    peer->inflight_bytes -= peer->inflight[peer->inflight_first].bytes;
    peer->inflight_first = (peer->inflight_first + 1) % RAFT_INFLIGHT_MESSAGES_MAX;
    peer->inflight_count--;
}

static void inflight_free_to(struct raft_peer *peer, raft_index index)
{
    while (peer->inflight_count > 0 && peer->inflight[peer->inflight_first].last <= index) {
        inflight_remove_first(peer);
    }
}

/* ---- progress ---- */

void raft_peer_to_probe(struct raft_peer *peer, raft_index next)
{
    TL_ASSERT(next > peer->match);
    peer->state = RAFT_PROBE;
    peer->next = next;
    peer->is_paused = false;
    peer->probe_ns = 0;
    peer->is_append_due = false;
    inflight_clear(peer);
}

/* Until `last` is acknowledged, or a heartbeat's reply says that it may be lost. */
static void pause_probe(const struct raft *raft, struct raft_peer *peer, raft_index last,
                        uint64_t bytes)
{
    TL_ASSERT(peer->state == RAFT_PROBE);
    peer->is_paused = true;
    peer->probe_ns = raft->now_ns;
    peer->probe_last = last;
    peer->probe_bytes = bytes;
}

/* Whether a probe that is not acknowledged may be lost, now that the peer has answered a heartbeat.
 * Not one that has just left; and heartbeats overtake what waits for a slow link, so a large one is
 * waited for until long after its last byte has left. Sent again, it would take the link's time
 * from what comes after it. */
static bool may_probe_be_lost(const struct raft *raft, const struct raft_peer *peer)
{
    if (peer->backlog_bytes > 0) return false;
    uint64_t left_ns = TL_MAX(peer->probe_ns, peer->backlog_ns);
    uint64_t wait_ns = peer->probe_bytes > PROBE_SMALL_BYTES ? raft->election_timeout_ns
                                                             : raft->heartbeat_interval_ns / 2;
    return raft->now_ns - left_ns >= wait_ns;
}

void raft_set_peer_backlog(struct raft *raft, raft_id peer_id, uint64_t bytes)
{
    struct raft_peer *peer = raft_peer_find(raft, peer_id);
    if (peer == NULL) return;
    if (bytes > 0 || peer->backlog_bytes > 0) peer->backlog_ns = raft->now_ns;
    peer->backlog_bytes = bytes;
}

static bool has_backlog(const struct raft_peer *peer)
{
    return peer->backlog_bytes + peer->output_bytes >= RAFT_BACKLOG_BYTES_MAX;
}

static void peer_to_replicate(struct raft_peer *peer)
{
    peer->state = RAFT_REPLICATE;
    peer->next = peer->match + 1;
    peer->is_paused = false;
    peer->is_append_due = false;
    inflight_clear(peer);
}

void raft_peer_begin(const struct raft *raft, struct raft_peer *peer)
{
    peer->match = 0;
    peer->match_at_heartbeat = 0;
    peer->is_chain_broken = false;
    peer->heard_ns = raft->now_ns; /* a new leader has an election timeout to hear a quorum */
    peer->has_spoken = false;
    peer->round_index = raft->log.last;
    peer->round_ns = raft->now_ns;
    peer->round_took_ns = UINT64_MAX;
    peer->commit_sent = 0;
    peer->sequence_sent = 0;
    peer->sequence_acked = 0;
    peer->read_gathering = 0;
    peer->read_asking = 0;
    raft_peer_to_probe(peer, raft->log.last + 1);
}

/* A learner that needs an election timeout for what was appended while it caught up the last time
 * would, as a voter, hold up commitment for so long (thesis 4.2.1). */
bool raft_peer_is_caught_up(const struct raft *raft, const struct raft_peer *peer)
{
    uint64_t timeout_ns = raft->election_timeout_ns;
    bool is_round_short =
        peer->round_took_ns < timeout_ns && raft->now_ns - peer->round_ns < timeout_ns;
    return raft->role == RAFT_LEADER && peer->state == RAFT_REPLICATE &&
           raft->now_ns - peer->heard_ns < timeout_ns &&
           (peer->match >= raft->commit || is_round_short);
}

void raft_start_leading(struct raft *raft)
{
    raft->leader_commit = raft->commit;
    for (uint32_t i = 0; i < raft->peers_count; i++) raft_peer_begin(raft, &raft->peers[i]);
    raft->heartbeat_ns = raft->now_ns + raft->heartbeat_interval_ns;
    raft->commit_notify_ns = 0;

    /* Nothing of an older term commits by counting, and no read can be answered, before an entry of
     * this term has committed (thesis 3.6.2, 6.4). */
    (void)raft_append_own(raft, entry_create(ENTRY_NOOP, 0), 0);
}

static raft_index match_of(const void *context, raft_id id)
{
    const struct raft *raft = context;
    const struct raft_peer *peer = raft_peer_look(raft, id);
    if (peer != NULL) return peer->match;
    TL_ASSERT(id == raft->self);
    if (raft->mutation == RAFT_MUTATION_COUNT_MEMORY) {
        return raft->log.last;
    }
    return raft->ops.durable;
}

/* A commit index that a peer may not have heard of is told alone, but only if no append takes it
 * along within the next moments. */
static void schedule_commit_notify(struct raft *raft)
{
    if (raft->commit_notify_ns == 0) {
        raft->commit_notify_ns = raft->now_ns + RAFT_COMMIT_NOTIFY_NS;
    }
}

void raft_maybe_commit(struct raft *raft)
{
    TL_ASSERT(raft->role == RAFT_LEADER);
    raft_index index = raft_quorum_index(raft, match_of);
    TL_ASSERT(index <= raft->log.last);
    if (index <= raft->commit) {
        return;
    }
    /* Figure 3.7: an entry of an older term may be on a majority and still be replaced. */
    bool is_own_term = raft_log_term(&raft->log, index) == raft->term;
    if (raft->mutation == RAFT_MUTATION_COMMIT_OLD_TERM) {
        is_own_term = true;
    }
    if (is_own_term) {
        raft_commit_to(raft, index);
        raft->leader_commit = raft->commit;
        schedule_commit_notify(raft);
    }
}

/* ---- replies ---- */

static void hear_peer(struct raft *raft, struct raft_peer *peer, uint64_t sequence)
{
    peer->heard_ns = raft->now_ns;
    peer->has_spoken = true;
    if (sequence > peer->sequence_acked && sequence <= raft->reads.sequence) {
        peer->sequence_acked = sequence;
        raft_reads_confirm(raft);
    }
}

/* The largest own index that can match the follower's hint. */
static raft_index next_by_hint(const struct raft *raft, const struct raft_message *reply)
{
    raft_index index = TL_MIN(reply->hint_index, raft->log.last);
    if (reply->hint_term != 0) {
        while (index > 0 && raft_log_has(&raft->log, index) &&
               raft_log_term(&raft->log, index) > reply->hint_term) {
            index--;
        }
    }
    return index + 1;
}

static void step_mismatch(struct raft *raft, struct raft_peer *peer,
                          const struct raft_message *reply)
{
    /* Late: it answers an append that was overtaken by what has been acknowledged since. */
    if (peer->state == RAFT_NEEDS_SNAPSHOT) {
        /* The base may have moved on since it was asked for. */
        raft_index next = TL_MIN(next_by_hint(raft, reply), reply->index);
        peer->is_snapshot_due = next <= raft->log.base.index;
        return;
    }
    bool is_late = peer->state == RAFT_REPLICATE ? reply->index <= peer->match
                                                 : reply->index + 1 != peer->next;
    if (is_late) {
        return;
    }
    raft_index next = TL_MIN(next_by_hint(raft, reply), reply->index);
    raft_peer_to_probe(peer, TL_MAX(next, peer->match + 1));
}

static bool is_chain_broken_at(const void *context, raft_id id)
{
    const struct raft *raft = context;
    const struct raft_peer *peer = raft_peer_look(raft, id);
    if (peer != NULL) return peer->is_chain_broken;
    return false;
}

/* The peer has looked at its own record and found it good. One such peer may be wrong all the same;
 * when a quorum says so it is this leader's log that differs. */
static void step_chain_mismatch(struct raft *raft, struct raft_peer *peer,
                                const struct raft_message *reply)
{
    raft->chain_mismatches_count++;
    peer->is_chain_broken = true;
    raft_peer_to_probe(peer, TL_MAX(peer->match + 1, TL_MIN(reply->index + 1, raft->log.last + 1)));
    pause_probe(raft, peer, RAFT_NUMBER_MAX, 0); /* until the next heartbeat */
    bool is_ignored = raft->mutation == RAFT_MUTATION_IGNORE_MAJORITY;
    if (!is_ignored && raft_has_quorum(raft, is_chain_broken_at)) {
        raft->is_chain_broken = true;
        raft_become_follower(raft, raft->term, RAFT_ID_NONE);
        return;
    }
    raft_index index = reply->hint_index + 1; /* checked together with the record before it */
    if (raft->verify.index == 0 && index > raft->log.base.index && index <= raft->ops.durable) {
        raft->verify.index = index;
        raft->verify.is_given_out = false;
        raft->verify.term = raft->term;
        raft->verify.reply = (struct raft_message){.to = RAFT_ID_NONE};
    }
}

static void step_ack(struct raft *raft, struct raft_peer *peer, raft_index match)
{
    inflight_free_to(peer, match);
    if (match > peer->match) {
        peer->match = match;
        peer->next = TL_MAX(peer->next, match + 1);
        peer->is_chain_broken = false;
        if (match >= peer->round_index) {
            peer->round_took_ns = raft->now_ns - peer->round_ns;
            peer->round_index = raft->log.last;
            peer->round_ns = raft->now_ns;
        }
        raft_maybe_commit(raft);
    }
    if (peer->state == RAFT_PROBE && peer->is_paused && match >= peer->probe_last) {
        /* All of the probe was taken: not only does it match, there is room as well. */
        peer_to_replicate(peer);
    } else if (peer->state == RAFT_NEEDS_SNAPSHOT && match >= raft->log.base.index) {
        raft_peer_to_probe(peer, peer->match + 1);
    }
    if (peer->commit_sent < TL_MIN(raft->commit, peer->match)) {
        schedule_commit_notify(raft);
    }
}

void raft_step_append_reply(struct raft *raft, const struct raft_message *reply)
{
    struct raft_peer *peer = raft_peer_find(raft, reply->from);
    TL_ASSERT(peer != NULL);
    bool is_possible = reply->index <= raft->log.last && reply->hint_index <= RAFT_NUMBER_MAX;
    if (raft->role != RAFT_LEADER || !is_possible) {
        raft->messages_dropped_count++;
        return;
    }
    hear_peer(raft, peer, reply->sequence);
    switch (reply->reject) {
    case RAFT_REJECT_NONE:
        step_ack(raft, peer, reply->index);
        break;
    case RAFT_REJECT_MISMATCH:
        step_mismatch(raft, peer, reply);
        break;
    case RAFT_REJECT_CHAIN_MISMATCH:
        step_chain_mismatch(raft, peer, reply);
        break;
    }
}

/* The peer is there, so what it has not acknowledged may be lost: a probe or a full window would
 * wait for ever (etcd #14633), and appends that were all sent would not be sent again. */
void raft_step_heartbeat_reply(struct raft *raft, const struct raft_message *reply)
{
    struct raft_peer *peer = raft_peer_find(raft, reply->from);
    TL_ASSERT(peer != NULL);
    if (raft->role != RAFT_LEADER) {
        raft->messages_dropped_count++;
        return;
    }
    hear_peer(raft, peer, reply->sequence);
    if (may_probe_be_lost(raft, peer)) peer->is_paused = false;
    if (peer->state == RAFT_REPLICATE && peer->match < raft->log.last) {
        bool stays_full = raft->mutation == RAFT_MUTATION_WINDOW_STAYS_FULL;
        while (inflight_is_full(raft, peer) && !stays_full) inflight_remove_first(peer);
        if (peer->match == peer->match_at_heartbeat) {
            peer->is_append_due = true;
        }
    } else if (peer->state == RAFT_NEEDS_SNAPSHOT) {
        peer->is_append_due = true;
    }
    peer->match_at_heartbeat = peer->match;
}

/* ---- sending ---- */

void raft_send_heartbeat(struct raft *raft, struct raft_peer *peer)
{
    struct raft_message message = raft_message_make(raft, RAFT_HEARTBEAT, peer->id);
    message.commit = TL_MIN(raft->commit, peer->match);
    if (raft->mutation == RAFT_MUTATION_COMMIT_UNCAPPED) {
        message.commit = raft->commit;
    }
    message.sequence = raft->reads.sequence;
    peer->sequence_sent = raft->reads.sequence;
    peer->commit_sent = TL_MAX(peer->commit_sent, message.commit);
    raft_send(raft, &message);
}

/* An append of `entries_count` entries behind `previous`, references taken. */
static void send_append(struct raft *raft, struct raft_peer *peer, raft_index previous,
                        raft_term previous_term, struct buf *const *entries, uint32_t entries_count)
{
    struct raft_message message = raft_message_make(raft, RAFT_APPEND, peer->id);
    message.index = previous;
    message.log_term = previous_term;
    message.commit = raft->commit;
    message.sequence = raft->reads.sequence;
    message.entries_count = entries_count;
    uint64_t bytes = 0;
    if (entries_count > 0) {
        message.entries = malloc(entries_count * sizeof(struct buf *));
        TL_ASSERT(message.entries != NULL);
        for (uint32_t i = 0; i < entries_count; i++) {
            message.entries[i] = buf_acquire(entries[i]);
            bytes += entries[i]->count;
        }
    }
    raft_index last = previous + entries_count;
    peer->sequence_sent = raft->reads.sequence;
    peer->commit_sent = TL_MAX(peer->commit_sent, TL_MIN(raft->commit, last));
    peer->is_append_due = false;
    peer->output_bytes += bytes;
    if (peer->state == RAFT_PROBE) {
        pause_probe(raft, peer, last, bytes);
    } else if (entries_count > 0) {
        inflight_add(raft, peer, last, bytes);
        peer->next = last + 1;
    }
    raft_send(raft, &message);
}

/* How many of `entries` go into one message. */
static uint32_t fitting_count(const struct raft *raft, struct buf *const *entries,
                              uint32_t entries_count)
{
    uint64_t bytes = 0;
    uint32_t count = 0;
    while (count < TL_MIN(entries_count, raft->append_entries_max)) {
        bytes += entries[count]->count;
        if (count > 0 && bytes > raft->message_bytes_max) {
            break;
        }
        count++;
    }
    return count;
}

static void send_from_memory(struct raft *raft, struct raft_peer *peer)
{
    struct buf *entries[RAFT_MESSAGE_ENTRIES_MAX];
    uint32_t count = 0;
    for (raft_index i = peer->next; i <= raft->log.last && count < TL_COUNT_OF(entries); i++) {
        entries[count++] = raft_log_entry(&raft->log, i);
    }
    raft_index previous = peer->next - 1;
    send_append(raft, peer, previous, raft_log_term(&raft->log, previous), entries,
                fitting_count(raft, entries, count));
}

/* What the peer needs next is not in memory: from the log, one read at a time. */
static void read_or_give_up(struct raft *raft, struct raft_peer *peer)
{
    if (peer->next <= raft->log.base.index) {
        peer->state = RAFT_NEEDS_SNAPSHOT;
        peer->is_snapshot_due = false;
        peer->is_snapshot_asked = false;
        peer->is_append_due = true; /* it is asked whether it has the base */
        inflight_clear(peer);
        return;
    }
    if (peer->log_read_first != 0) {
        return;
    }
    raft_index in_memory = raft->log.first;
    TL_ASSERT(peer->next <= in_memory);
    peer->log_read_first = peer->next;
    struct raft_output *output = &raft->output;
    output->log_reads[output->log_reads_count++] = (struct raft_log_read){
        .peer = peer->id,
        .first = peer->next,
        .last_max = TL_MAX(peer->next, in_memory - 1),
        .bytes_max = raft->message_bytes_max,
    };
}

static bool may_send(const struct raft *raft, const struct raft_peer *peer)
{
    switch (peer->state) {
    case RAFT_PROBE:
        return !peer->is_paused;
    case RAFT_REPLICATE:
        return !inflight_is_full(raft, peer) &&
               (peer->is_append_due || peer->next <= raft->log.last);
    case RAFT_NEEDS_SNAPSHOT:
        break;
    }
    return peer->is_append_due;
}

static bool has_message_room(const struct raft *raft)
{
    return raft->messages_count + RAFT_STEP_MESSAGES_MAX < RAFT_OUTPUT_MESSAGES_MAX;
}

void raft_replicate(struct raft *raft)
{
    raft->is_output_short = false;
    if (raft->role != RAFT_LEADER) {
        return;
    }
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        struct raft_peer *peer = &raft->peers[i];
        peer->output_bytes = 0;
        while (may_send(raft, peer)) {
            if (has_backlog(peer)) {
                /* What this output adds may leave at once: the host is to tell in the next turn. */
                bool is_told = peer->backlog_bytes >= RAFT_BACKLOG_BYTES_MAX;
                raft->is_output_short = raft->is_output_short || !is_told;
                break;
            }
            if (!has_message_room(raft)) {
                raft->is_output_short = true;
                return;
            }
            if (peer->state == RAFT_NEEDS_SNAPSHOT) {
                const struct raft_base *base = &raft->log.base;
                send_append(raft, peer, base->index, base->term, NULL, 0);
                break;
            }
            bool is_in_memory =
                raft_log_has(&raft->log, peer->next - 1) &&
                (peer->next > raft->log.last || raft_log_entry(&raft->log, peer->next) != NULL);
            if (!is_in_memory) {
                read_or_give_up(raft, peer);
                if (peer->state == RAFT_NEEDS_SNAPSHOT) {
                    continue;
                }
                break;
            }
            send_from_memory(raft, peer);
        }
    }
}

void raft_log_read_done(struct raft *raft, raft_id peer_id, struct buf *const *entries,
                        uint32_t entries_count)
{
    struct raft_peer *peer = raft_peer_find(raft, peer_id);
    if (peer == NULL || peer->log_read_first == 0) {
        return; /* removed meanwhile, and perhaps added again */
    }
    raft_index first = peer->log_read_first;
    peer->log_read_first = 0;
    bool is_wanted = raft->role == RAFT_LEADER && peer->state != RAFT_NEEDS_SNAPSHOT &&
                     peer->next == first && may_send(raft, peer);
    if (!is_wanted || !has_message_room(raft)) {
        return;
    }
    if (entries_count == 0) {
        raft_peer_to_probe(peer, first);
        /* The base will have moved by the next heartbeat. */
        pause_probe(raft, peer, RAFT_NUMBER_MAX, 0);
        return;
    }
    bool has_previous = entry_index(entries[0]) == first - 1;
    TL_ASSERT(entries_count > has_previous);
    if (!has_previous && entry_index(entries[0]) != first) {
        return; /* asked for before the peer was removed and added again */
    }
    if (!has_previous && !raft_log_has(&raft->log, first - 1)) {
        return; /* the base it stood on has gone meanwhile */
    }
    raft_term previous_term =
        has_previous ? entry_term(entries[0]) : raft_log_term(&raft->log, first - 1);
    entries += has_previous;
    entries_count -= has_previous;
    send_append(raft, peer, first - 1, previous_term, entries,
                fitting_count(raft, entries, entries_count));
}

/* ---- time ---- */

/* When a quorum will have been silent for an election timeout if nobody speaks until then. */
uint64_t raft_quorum_deadline_ns(const struct raft *raft)
{
    uint64_t deadline_ns = UINT64_MAX;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        uint64_t silent_ns = raft->peers[i].heard_ns + raft->election_timeout_ns;
        if (silent_ns > raft->now_ns) {
            deadline_ns = TL_MIN(deadline_ns, silent_ns);
        }
    }
    return deadline_ns;
}

static void notify_commit(struct raft *raft)
{
    raft->commit_notify_ns = 0;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        struct raft_peer *peer = &raft->peers[i];
        if (peer->commit_sent < TL_MIN(raft->commit, peer->match)) {
            raft_send_heartbeat(raft, peer);
        }
    }
}

void raft_advance_leader(struct raft *raft)
{
    TL_ASSERT(raft->role == RAFT_LEADER);
    if (!raft_has_active_quorum(raft) && raft->mutation != RAFT_MUTATION_NO_CHECK_QUORUM) {
        /* And no heartbeat more: they would keep those who hear them from electing another leader
         * (openraft #2080). */
        raft_become_follower(raft, raft->term, RAFT_ID_NONE);
        return;
    }
    if (raft->now_ns >= raft->heartbeat_ns) {
        raft->heartbeat_ns = raft->now_ns + raft->heartbeat_interval_ns;
        raft->commit_notify_ns = 0; /* heartbeats tell it, too */
        for (uint32_t i = 0; i < raft->peers_count; i++) {
            raft_send_heartbeat(raft, &raft->peers[i]);
        }
    } else if (raft->commit_notify_ns != 0 && raft->now_ns >= raft->commit_notify_ns) {
        notify_commit(raft);
    }
}
