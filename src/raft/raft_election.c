/* raft_election.c - roles, terms, votes and their timers (thesis 3.4, 4.2.3, 9.6).
 *
 *               raft_campaign()          quorum of pre-votes        quorum of votes
 *     FOLLOWER ---------------> PRECANDIDATE -----------> CANDIDATE ---------------> LEADER
 *        ^  timeout, leader lost   |  timeout: again         |  timeout: back to        |
 *        |                         |                         |  PRECANDIDATE            |
 *        +-------------------------+-------------------------+--------------------------+
 *          higher term; leader of this term; refused by a quorum; no quorum heard (leader)
 *
 * The leader's TIMEOUT_NOW makes a follower a candidate at once.
 *
 * A pre-vote changes nothing at either side but the asker's role. CheckQuorum and pre-votes belong
 * together: with only one of them a partly cut network can keep a cluster without a leader
 * (Cloudflare, 2020-11-02).
 */

#include "raft_internal.h"

/* ---- who is there ---- */

bool raft_is_active(const void *context, raft_id id)
{
    const struct raft *raft = context;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        if (peer->id == id) {
            return raft->now_ns - peer->heard_ns < raft->election_timeout_ns;
        }
    }
    return id == raft->self;
}

bool raft_is_heard(const void *context, raft_id id)
{
    const struct raft *raft = context;
    const struct raft_peer *peer = raft_peer_look(raft, id);
    if (peer != NULL) return peer->has_spoken && raft_is_active(raft, id);
    return id == raft->self;
}

bool raft_has_active_quorum(const struct raft *raft)
{
    TL_ASSERT(raft->role == RAFT_LEADER);
    return raft_has_quorum(raft, raft_is_active);
}

bool raft_has_live_leader(const struct raft *raft)
{
    if (raft->role == RAFT_LEADER) {
        return true; /* CheckQuorum: else it would have stepped down */
    }
    return raft->leader != RAFT_ID_NONE &&
           raft->now_ns - raft->leader_heard_ns < raft->election_timeout_ns;
}

void raft_reset_election_timer(struct raft *raft)
{
    raft->is_leader_lost = false;
    raft->election_deadline_ns = raft->now_ns + raft->election_timeout_ns +
                                 prng_below(&raft->prng, raft->election_timeout_ns);
}

static void set_leader(struct raft *raft, raft_id leader)
{
    if (raft->leader == leader) {
        return;
    }
    raft->leader = leader;
    raft_reads_drop(raft);
    if (leader != RAFT_ID_NONE && leader != raft->leader_last) {
        raft->leader_last = leader;
        raft->leader_changes_count++;
    }
}

/* A term is adopted with no vote in it; within a term a vote is never taken back, also not when
 * stepping down (CCF #8094: a same-term step-down that cleared it voted twice). */
static void set_term(struct raft *raft, raft_term term)
{
    TL_ASSERT(term >= raft->term);
    if (term > raft->term) {
        raft->term = term;
        raft->vote = RAFT_ID_NONE;
        raft->verified = 0;
        raft_reads_drop(raft);
    }
}

void raft_become_follower(struct raft *raft, raft_term term, raft_id leader)
{
    TL_ASSERT(leader != raft->self);
    set_term(raft, term);
    if (raft->role != RAFT_FOLLOWER) {
        raft->role = RAFT_FOLLOWER;
        raft->transfer.target = RAFT_ID_NONE;
        raft_reads_drop(raft);
        raft_reset_election_timer(raft);
    }
    set_leader(raft, leader);
}

bool raft_hear_leader(struct raft *raft, raft_id leader)
{
    bool is_second =
        raft->role == RAFT_LEADER || (raft->leader != RAFT_ID_NONE && raft->leader != leader);
    /* Two leaders in one term: election safety is broken, going on would only spread it. With a
     * planted bug it is the simulator's turn to find out. */
    if (raft->mutation == RAFT_MUTATION_NONE) TL_ASSERT(!is_second);
    if (is_second) {
        return false;
    }
    raft_become_follower(raft, raft->term, leader);
    raft->leader_heard_ns = raft->now_ns;
    raft_reset_election_timer(raft);
    return true;
}

void raft_hear_partial(struct raft *raft, raft_id peer, uint64_t now_ns)
{
    raft->now_ns = TL_MAX(raft->now_ns, now_ns);
    if (raft->role == RAFT_FOLLOWER && raft->leader == peer && peer != RAFT_ID_NONE) {
        raft->leader_heard_ns = raft->now_ns;
        raft_reset_election_timer(raft);
    }
}

/* ---- campaigning ---- */

/* A voter; also one that the newest configuration has removed, as long as that is not committed:
 * it may be the only one that has the entry, and then nobody else can be elected (thesis 4.2.2,
 * figure 4.6). Its own vote does not count then. */
static bool is_electable(const struct raft *raft)
{
    return raft_conf_is_voter(&raft->conf, raft->self) ||
           (raft->conf_index > raft->commit &&
            raft_conf_is_voter(&raft->conf_committed, raft->self));
}

bool raft_can_campaign(const struct raft *raft)
{
    /* A leader needs a slot for its no-op. */
    return raft->role != RAFT_LEADER && !raft->is_chain_broken && !raft_is_disk_stalled(raft) &&
           raft->install.state == RAFT_INSTALL_NONE && is_electable(raft) &&
           raft->log.last - raft->log.evictable + 1 < RAFT_LOG_RING_ENTRIES;
}

static bool has_granted(const void *context, raft_id id)
{
    const struct raft *raft = context;
    const struct raft_peer *peer = raft_peer_look(raft, id);
    if (peer != NULL) return peer->tally == RAFT_TALLY_GRANTED;
    return id == raft->self && raft->has_own_vote;
}

static bool can_still_grant(const void *context, raft_id id)
{
    const struct raft *raft = context;
    const struct raft_peer *peer = raft_peer_look(raft, id);
    if (peer != NULL) return peer->tally != RAFT_TALLY_REFUSED;
    return id == raft->self;
}

static void start_tally(struct raft *raft, enum raft_role role)
{
    raft->role = role;
    raft->has_own_vote = false;
    for (uint32_t i = 0; i < raft->peers_count; i++) raft->peers[i].tally = RAFT_TALLY_NONE;
    set_leader(raft, RAFT_ID_NONE);
    raft_reset_election_timer(raft);
}

static struct raft_message vote_request(const struct raft *raft, enum raft_message_type type,
                                        raft_id to, raft_term term)
{
    struct raft_message message = raft_message_make(raft, type, to);
    message.term = term;
    message.index = raft->log.last;
    message.log_term = raft_log_term(&raft->log, raft->log.last);
    return message;
}

static void become_candidate(struct raft *raft, bool is_forced)
{
    TL_ASSERT(raft->role != RAFT_LEADER);
    set_term(raft, raft->term + 1);
    raft->vote = raft->self;
    raft->elections_started_count++;
    start_tally(raft, RAFT_CANDIDATE);
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        raft_id to = raft->peers[i].id;
        if (raft_conf_is_voter(&raft->conf, to)) {
            struct raft_message message = vote_request(raft, RAFT_VOTE, to, raft->term);
            message.is_forced = is_forced;
            raft_send_after(raft, &message);
        }
    }
    if (raft->mutation == RAFT_MUTATION_VOTE_BEFORE_DURABLE) {
        raft->has_own_vote = true;
        raft_count_votes(raft);
    }
}

static void become_leader(struct raft *raft)
{
    TL_ASSERT(raft->role == RAFT_CANDIDATE);
    raft->role = RAFT_LEADER;
    raft->conf_handed_over_index = 0;
    raft->elections_won_count++;
    raft->leading_began_ns = raft->now_ns;
    raft->leading_last_time_us = raft_log_last_time_us(&raft->log);
    set_leader(raft, raft->self);
    raft_start_leading(raft);
}

void raft_count_votes(struct raft *raft)
{
    TL_ASSERT(raft->role == RAFT_PRECANDIDATE || raft->role == RAFT_CANDIDATE);
    if (raft_has_quorum(raft, has_granted)) {
        if (raft->role == RAFT_PRECANDIDATE) {
            become_candidate(raft, false);
        } else {
            become_leader(raft);
        }
    } else if (!raft_has_quorum(raft, can_still_grant)) {
        raft_become_follower(raft, raft->term, RAFT_ID_NONE);
    }
}

void raft_campaign(struct raft *raft)
{
    TL_ASSERT(raft_can_campaign(raft));
    if (raft->mutation == RAFT_MUTATION_NO_PREVOTE) {
        become_candidate(raft, false);
        return;
    }
    start_tally(raft, RAFT_PRECANDIDATE);
    raft->has_own_vote = true; /* promises nothing: no need to be durable */
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        raft_id to = raft->peers[i].id;
        if (raft_conf_is_voter(&raft->conf, to)) {
            struct raft_message message = vote_request(raft, RAFT_PREVOTE, to, raft->term + 1);
            raft_send(raft, &message);
        }
    }
    raft_count_votes(raft);
}

/* The leader wants this node to lead: there is nobody whom a pre-vote would have to protect. */
void raft_step_timeout_now(struct raft *raft, const struct raft_message *message)
{
    bool is_obeyed = raft->role == RAFT_FOLLOWER && raft->leader == message->from &&
                     raft->log.last >= message->index && raft_can_campaign(raft);
    if (is_obeyed) {
        become_candidate(raft, true);
    } else {
        raft->messages_dropped_count++;
    }
}

/* ---- voting ---- */

static bool is_up_to_date(const struct raft *raft, const struct raft_message *request)
{
    raft_term last_term = raft_log_term(&raft->log, raft->log.last);
    return request->log_term > last_term ||
           (request->log_term == last_term && request->index >= raft->log.last);
}

static void step_prevote(struct raft *raft, const struct raft_message *request)
{
    struct raft_message reply = raft_message_make(raft, RAFT_PREVOTE_REPLY, request->from);
    /* A lower term than ours: the answer carries ours, which the asker adopts. Without it a node
     * that missed an election could never win one (canonical/raft #279). */
    reply.granted =
        request->term > raft->term && !raft_has_live_leader(raft) && is_up_to_date(raft, request);
    if (reply.granted) {
        reply.term = request->term;
    }
    raft_send(raft, &reply);
}

/* Votes are given by whoever is asked: a learner may be a voter of a configuration that it has not
 * seen yet, and would be missing in its quorum (etcd #10998). */
static void step_vote(struct raft *raft, const struct raft_message *request)
{
    if (request->term > raft->term) {
        if (raft_has_live_leader(raft) && !request->is_forced) {
            return; /* thesis 4.2.3: removed or cut off nodes do not disrupt */
        }
        raft_become_follower(raft, request->term, RAFT_ID_NONE);
    }
    struct raft_message reply = raft_message_make(raft, RAFT_VOTE_REPLY, request->from);
    bool is_free = raft->vote == RAFT_ID_NONE && raft->leader == RAFT_ID_NONE;
    if (request->term == raft->term && (is_free || raft->vote == request->from) &&
        is_up_to_date(raft, request)) {
        TL_ASSERT(raft->role != RAFT_LEADER);
        raft->vote = request->from;
        reply.granted = true;
        raft_reset_election_timer(raft);
    }
    raft_send_after(raft, &reply);
}

void raft_step_vote_request(struct raft *raft, const struct raft_message *message)
{
    if (message->type == RAFT_PREVOTE) {
        step_prevote(raft, message);
    } else {
        step_vote(raft, message);
    }
}

/* Whether the reply answers the campaign that is on: its type and its term. Late replies of the
 * pre-vote must not count in the election it led to (canonical/raft #386: two leaders). */
static bool answers_campaign(const struct raft *raft, const struct raft_message *reply)
{
    if (raft->role == RAFT_PRECANDIDATE) {
        return reply->type == RAFT_PREVOTE_REPLY &&
               reply->term == raft->term + (reply->granted ? 1 : 0);
    }
    if (raft->role == RAFT_CANDIDATE) {
        bool is_vote = reply->type == RAFT_VOTE_REPLY;
        if (raft->mutation == RAFT_MUTATION_PREVOTE_AS_VOTE) {
            is_vote = true;
        }
        return is_vote && reply->term == raft->term;
    }
    return false;
}

void raft_step_vote_reply(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = raft_peer_find(raft, message->from);
    TL_ASSERT(peer != NULL);
    if (!answers_campaign(raft, message) || peer->tally != RAFT_TALLY_NONE) {
        return; /* the first answer of a peer stands */
    }
    peer->tally = message->granted ? RAFT_TALLY_GRANTED : RAFT_TALLY_REFUSED;
    raft_count_votes(raft);
}
