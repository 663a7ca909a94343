/* raft_read.c - linearizable read indexes by quorum rounds (thesis 6.4), batched.
 *
 * raft_read() joins the round that is gathering; at most one more is in flight. The rounds of a
 * node are numbered 1, 2, ...; `done` <= `asked` <= `wanted`.
 *
 *     leader    round begun: read index := commit (after an own-term commit), sequence + 1
 *               confirmed:   a quorum has echoed a sequence >= the round's, in this term
 *     follower  asks its leader with a fresh token; its read joins the leader's gathering round
 *
 * The echo answers a message sent after every read of the round had arrived, so at some moment in
 * between this node was the leader of the newest term: nothing newer than its commit index could
 * have been acknowledged before. No clock is in the argument. A token is never used for two tries:
 * a late answer to the first would vouch for reads that came after it (etcd #20418). That holds
 * across restarts, too, so tokens count up from a random number.
 */

#include "raft_internal.h"

static void raft_reads_check(const struct raft *raft)
{
    const struct raft_reads *reads = &raft->reads;
    TL_ASSERT(reads->done <= reads->wanted);
    if (reads->is_asking) TL_ASSERT(reads->asked > reads->done);
    if (reads->is_asking) TL_ASSERT(reads->asked <= reads->wanted);
    if (reads->is_round) TL_ASSERT(raft->role == RAFT_LEADER);
    if (reads->is_round) TL_ASSERT(reads->round_sequence <= reads->sequence);
}

/* Contexts of one life of the process are not those of another: a leader may still answer what this
 * node asked before it was restarted, and that read index is older than the reads of now. Drawn
 * beside the jitter's source, which scenarios replay. */
void raft_reads_init(struct raft *raft, uint64_t seed)
{
    struct prng prng;
    prng_init(&prng, ~seed);
    raft->reads.context = prng_next(&prng) >> 1;
    raft->reads.context_first = raft->reads.context + 1;
}

uint64_t raft_read(struct raft *raft)
{
    struct raft_reads *reads = &raft->reads;
    raft_reads_check(raft);
    uint64_t covered = reads->is_asking ? reads->asked : reads->done;
    if (reads->wanted == covered) {
        reads->wanted++;
    }
    return reads->wanted;
}

/* What was asked is asked again, together with reads that join the same round from now on; answers
 * to the old tries would come too early for those. */
void raft_reads_drop(struct raft *raft)
{
    raft->reads.is_asking = false;
    raft->reads.is_round = false;
    raft->reads.is_retry_due = false;
    raft->reads.context_first = raft->reads.context + 1;
}

/* ---- leader ---- */

/* Rounds <= `round` may be served at `index`. */
static void finish_own(struct raft *raft, uint64_t round, raft_index index)
{
    struct raft_reads *reads = &raft->reads;
    TL_ASSERT(round <= reads->wanted);
    if (round <= reads->done) {
        return;
    }
    reads->done = round;
    reads->index = TL_MAX(reads->index, index);
    if (reads->is_asking && reads->asked <= round) {
        reads->is_asking = false;
    }
}

static void finish_round(struct raft *raft)
{
    struct raft_reads *reads = &raft->reads;
    reads->is_round = false;
    if (reads->is_asking) {
        finish_own(raft, reads->asked, reads->round_index);
    }
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        struct raft_peer *peer = &raft->peers[i];
        if (peer->read_asking == 0) {
            continue;
        }
        struct raft_message reply = raft_message_make(raft, RAFT_READ_REPLY, peer->id);
        reply.index = reads->round_index;
        reply.context = peer->read_asking;
        reply.commit = TL_MIN(raft->commit, peer->match);
        peer->commit_sent = TL_MAX(peer->commit_sent, reply.commit);
        peer->read_asking = 0;
        raft_send(raft, &reply);
    }
}

static bool has_echoed(const void *context, raft_id id)
{
    const struct raft *raft = context;
    const struct raft_peer *peer = raft_peer_look(raft, id);
    if (peer != NULL) return peer->sequence_acked >= raft->reads.round_sequence;
    return id == raft->self;
}

static bool was_asked(const void *context, raft_id id)
{
    const struct raft *raft = context;
    const struct raft_peer *peer = raft_peer_look(raft, id);
    if (peer != NULL) return peer->sequence_sent >= raft->reads.round_sequence;
    return id == raft->self;
}

void raft_reads_confirm(struct raft *raft)
{
    if (!raft->reads.is_round) {
        return;
    }
    bool is_confirmed = raft_has_quorum(raft, has_echoed);
    if (raft->mutation == RAFT_MUTATION_READ_UNCONFIRMED ||
        (raft->mutation == RAFT_MUTATION_LEASE_READS && raft_has_active_quorum(raft))) {
        is_confirmed = true;
    }
    if (is_confirmed) {
        finish_round(raft);
    }
}

static void begin_round(struct raft *raft)
{
    struct raft_reads *reads = &raft->reads;
    bool is_wanted = reads->wanted > reads->done;
    bool is_any = is_wanted;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        is_any = is_any || raft->peers[i].read_gathering != 0;
    }
    /* Before its own-term commit a leader may not know the newest commit index (etcd #7331). */
    if (!is_any || reads->is_round || raft_log_term(&raft->log, raft->commit) != raft->term) {
        return;
    }
    reads->is_asking = is_wanted;
    reads->asked = reads->wanted;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        raft->peers[i].read_asking = raft->peers[i].read_gathering;
        raft->peers[i].read_gathering = 0;
    }
    reads->is_round = true;
    reads->is_widened = false;
    reads->round_sequence = ++reads->sequence;
    reads->round_ns = raft->now_ns;
    reads->round_index = raft->commit;
    raft->read_rounds_count++;
    raft_reads_confirm(raft); /* a single voter is its own quorum */
}

/* ---- follower ---- */

static void ask_leader(struct raft *raft)
{
    struct raft_reads *reads = &raft->reads;
    bool is_waiting = reads->is_asking && !reads->is_retry_due;
    if (raft->leader == RAFT_ID_NONE || is_waiting || reads->wanted == reads->done) {
        return;
    }
    reads->is_asking = true;
    reads->is_retry_due = false;
    reads->asked = reads->wanted;
    reads->asked_ns = raft->now_ns;
    struct raft_message message = raft_message_make(raft, RAFT_READ, raft->leader);
    message.context = ++reads->context;
    reads->tries[message.context % RAFT_READ_TRIES_MAX] = reads->asked;
    raft_send(raft, &message);
}

void raft_step_read(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = raft_peer_find(raft, message->from);
    TL_ASSERT(peer != NULL);
    if (raft->role != RAFT_LEADER) {
        raft->messages_dropped_count++; /* it asks again, and somebody else */
        return;
    }
    peer->heard_ns = raft->now_ns;
    peer->has_spoken = true;
    peer->read_gathering = message->context; /* the newest try: it forgot the ones before */
}

void raft_step_read_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_reads *reads = &raft->reads;
    raft_reads_check(raft);
    if (!raft_hear_leader(raft, message->from)) {
        raft->messages_dropped_count++;
        return;
    }
    raft_index commit = TL_MIN(message->commit, raft_common_index(raft));
    if (commit > raft->commit) {
        raft_commit_to(raft, commit);
    }
    /* Any try that is remembered counts, for the rounds it was made for: were it the last one
     * alone, a quorum slower than the retry would never answer. */
    bool is_remembered = message->context >= reads->context_first &&
                         message->context <= reads->context &&
                         reads->context - message->context < RAFT_READ_TRIES_MAX;
    if (is_remembered) {
        finish_own(raft, reads->tries[message->context % RAFT_READ_TRIES_MAX], message->index);
    }
    raft_reads_check(raft);
}

/* ---- both ---- */

void raft_reads_begin(struct raft *raft)
{
    raft_reads_check(raft);
    if (raft->role == RAFT_LEADER) {
        begin_round(raft);
    } else {
        ask_leader(raft);
    }
    raft_reads_check(raft);
}

/* The peer to ask next: the one heard last, of those not asked. */
static struct raft_peer *next_to_ask(struct raft *raft)
{
    struct raft_peer *best = NULL;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        struct raft_peer *peer = &raft->peers[i];
        if (was_asked(raft, peer->id) || !raft_conf_is_voter(&raft->conf, peer->id)) {
            continue;
        }
        if (best == NULL || peer->heard_ns > best->heard_ns) {
            best = peer;
        }
    }
    return best;
}

/* As many peers as make a quorum; the appends of this turn have asked already. */
void raft_reads_ask(struct raft *raft)
{
    if (!raft->reads.is_round) {
        return;
    }
    while (!raft_has_quorum(raft, was_asked)) {
        struct raft_peer *peer = next_to_ask(raft);
        if (peer == NULL) {
            return;
        }
        raft_send_heartbeat(raft, peer);
    }
}

void raft_reads_advance(struct raft *raft)
{
    struct raft_reads *reads = &raft->reads;
    raft_reads_check(raft);
    if (raft->role != RAFT_LEADER) {
        if (reads->is_asking && raft->now_ns - reads->asked_ns >= RAFT_READ_RETRY_NS) {
            reads->is_retry_due = true; /* at the end of the turn */
        }
        return;
    }
    /* A configuration that came into force may have its quorum in those that have echoed already: a
     * leader that is alone in it has no peer to hear. */
    if (raft->mutation != RAFT_MUTATION_ROUND_BY_ECHO) raft_reads_confirm(raft);
    if (!reads->is_round || reads->is_widened ||
        raft->now_ns - reads->round_ns < RAFT_READ_WIDEN_NS) {
        return;
    }
    reads->is_widened = true; /* later, the heartbeats ask again */
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        struct raft_peer *peer = &raft->peers[i];
        if (peer->sequence_acked < reads->round_sequence) {
            raft_send_heartbeat(raft, peer);
        }
    }
}

uint64_t raft_reads_deadline_ns(const struct raft *raft)
{
    const struct raft_reads *reads = &raft->reads;
    if (raft->role == RAFT_LEADER) {
        return reads->is_round && !reads->is_widened ? reads->round_ns + RAFT_READ_WIDEN_NS
                                                     : UINT64_MAX;
    }
    return reads->is_asking ? reads->asked_ns + RAFT_READ_RETRY_NS : UINT64_MAX;
}
