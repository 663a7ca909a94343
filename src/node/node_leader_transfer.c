/* node_leader_transfer.c - leadership that moves because somebody wants it to.
 *
 *   SEEKING   no leader is known here, or the one that was asked does not lead
 *     |  \
 *     |   ASKED   another node leads and has been asked: its reply ends this, or who leads next
 *     v
 *   MOVING    this node led and its core is at it: over when another leads, or when the core has
 *             given up and proposes again. Then nothing has happened, unless the target was told
 *             to campaign: it may do so whenever it hears that.
 *
 * One target at a time: the core would drop the first for the second, which may have been told.
 * What could not work is refused before the core is asked: while it tries, nothing is proposed.
 *
 * A node that stops, or that has diverged, hands over what it leads: again and again, with a pause
 * behind each attempt. One that stops waits for that no longer than NODE_HAND_OVER_MAX_NS; one that
 * has diverged is mute in the pauses, so that the others elect somebody if the attempt has failed.
 * Writes that wait here go to the next leader by the usual way (node_write.c).
 */

#include "node_internal.h"

#include <stdlib.h>

enum wish_state {
    WISH_SEEKING = 0,
    WISH_ASKED = 1,
    WISH_MOVING = 2,
};

/* A transfer that a peer asked for. */
struct inbound_transfer {
    struct node_leader_transfer transfer;
    raft_id peer;
    uint64_t peer_request_id;
};

static void forget(struct node *node, struct node_leader_transfer *transfer)
{
    struct node_leader_transfer **at = &node->leader_transfers;
    while (*at != transfer) {
        TL_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = transfer->next;
    transfer->next = NULL;
    TL_ASSERT(node->leader_transfers_count > 0);
    node->leader_transfers_count--;
}

static void finish(struct node_leader_transfer *transfer, enum tl_err err)
{
    struct node *node = transfer->node;
    forget(node, transfer);
    node->leader_transfers_ended_count++;
    transfer->on_done(transfer, err);
}

/* ---- verdicts ---- */

static const struct {
    const char *code; /* NULL: no refusal */
    const char *reason;
} refusals[TRANSFER_VERDICTS_COUNT] = {
    [TRANSFER_NOT_VOTER] = {"not_a_voter", "the node does not vote, or is being removed"},
    [TRANSFER_SILENT] = {"not_heard", "the leader does not hear from the node"},
    [TRANSFER_BEHIND] = {"not_caught_up", "the node lacks too much of the log"},
    [TRANSFER_NOBODY] = {"no_successor", "no other voter could take over"},
    [TRANSFER_OTHER] = {"other_elected", "another node was elected meanwhile"},
    [TRANSFER_NO_SPACE] = {"no_space", "the node has no room for new data: its file system is "
                                       "nearly full, or its --map-size is reached"},
};

static enum transfer_verdict verdict_of(const struct node_leader_transfer_report *report)
{
    if (report->is_changed) return TRANSFER_DONE;
    for (uint32_t i = 0; i < TRANSFER_VERDICTS_COUNT; i++) {
        bool is_it = report->refusal_code != NULL && report->refusal_code == refusals[i].code;
        if (is_it) return (enum transfer_verdict)i;
    }
    return TRANSFER_SAME;
}

static void finish_with(struct node_leader_transfer *transfer, enum transfer_verdict verdict,
                        raft_id to)
{
    struct node_leader_transfer_report *report = &transfer->report;
    report->is_changed = verdict == TRANSFER_DONE;
    report->to = to;
    report->refusal_code = refusals[verdict].code;
    report->refusal = refusals[verdict].reason;
    finish(transfer, TL_OK);
}

static bool is_incoming(const struct raft_conf *conf, raft_id id)
{
    for (uint32_t i = 0; i < conf->voters_count; i++) {
        if (conf->voters[i] == id) return true;
    }
    return false;
}

static enum transfer_verdict judge(const struct raft_status *status, raft_id target)
{
    if (!is_incoming(&status->conf, target)) return TRANSFER_NOT_VOTER;
    for (uint32_t i = 0; i < status->peers_count; i++) {
        const struct raft_peer_status *peer = &status->peers[i];
        if (peer->id != target) continue;
        if (!peer->is_recently_active) return TRANSFER_SILENT;
        return peer->is_caught_up ? TRANSFER_DONE : TRANSFER_BEHIND;
    }
    return TRANSFER_SILENT;
}

static bool has_healthy_disk(struct node *node, raft_id id)
{
    const struct node_peer *peer = node_find_peer(node, id);
    return peer != NULL && peer->log_commit_age_ms < NODE_LOG_COMMIT_HEALTHY_MS;
}

static bool is_better(struct node *node, const struct raft_peer_status *peer,
                      const struct raft_peer_status *best)
{
    bool is_healthy = has_healthy_disk(node, peer->id);
    if (is_healthy != has_healthy_disk(node, best->id)) return is_healthy;
    bool has_room = node_space_lack(node, peer->id) == TL_OK;
    if (has_room != (node_space_lack(node, best->id) == TL_OK)) return has_room;
    return peer->match > best->match;
}

raft_id node_group_successor(struct node_group *group, const struct raft_status *status)
{
    struct node *node = group->node;
    const struct raft_peer_status *best = NULL;
    for (uint32_t i = 0; i < status->peers_count; i++) {
        const struct raft_peer_status *peer = &status->peers[i];
        const struct placement_member *member = placement_find(node->placement, peer->id);
        bool stays = member != NULL && member->role == MEMBER_VOTER && peer->id != node->self;
        if (!stays || node_differs(node, peer->id)) continue; /* it may not lead */
        if (judge(status, peer->id) != TRANSFER_DONE) continue;
        if (best == NULL || is_better(node, peer, best)) best = peer;
    }
    return best != NULL ? best->id : RAFT_ID_NONE;
}

/* ---- the steps ---- */

/* A leader that has just been elected has heard nobody yet. */
static bool may_pass(const struct node_leader_transfer *transfer, enum transfer_verdict verdict)
{
    const struct node *node = transfer->node;
    bool is_passing =
        verdict == TRANSFER_SILENT || verdict == TRANSFER_BEHIND || verdict == TRANSFER_NOBODY;
    return is_passing && node->now_ns - transfer->begun_ns < node->options.election_timeout_ns;
}

/* This node leads. */
static void begin_moving(struct node_group *group, struct node_leader_transfer *transfer)
{
    struct node *node = group->node;
    struct raft_status status;
    raft_get_status(group->raft, &status);
    transfer->report.from = node->self;
    if (transfer->target == node->self) {
        finish_with(transfer, TRANSFER_SAME, node->self);
        return;
    }
    raft_id target = transfer->target;
    raft_id under_way = status.transfer_target;
    if (target == RAFT_ID_NONE) target = under_way;
    if (under_way != RAFT_ID_NONE && under_way != target) {
        finish(transfer, TL_ERR_BUSY);
        return;
    }
    if (target == RAFT_ID_NONE) target = node_group_successor(group, &status);
    enum transfer_verdict verdict = TRANSFER_NOBODY;
    if (target != RAFT_ID_NONE) verdict = judge(&status, target);
    if (verdict == TRANSFER_DONE && node_space_lack(node, target) != TL_OK) {
        verdict = TRANSFER_NO_SPACE;
    }
    if (may_pass(transfer, verdict)) return;
    if (verdict == TRANSFER_DONE && !transfer->is_dry_run) {
        node_log(node, LOG_LEVEL_INFO, "transfer", "group=%u to=%s", group->id,
                 node_member(node, target) != NULL ? node_member(node, target)->address : "-");
        enum tl_err err = raft_transfer(group->raft, target);
        TL_ASSERT(err == TL_OK); /* it leads, and the target is a voter that stays */
        transfer->target = target;
        transfer->state = WISH_MOVING;
    } else {
        finish_with(transfer, verdict, verdict == TRANSFER_DONE ? target : node->self);
    }
}

static void ask_leader(struct node_group *group, struct node_leader_transfer *transfer)
{
    struct node *node = group->node;
    if (node->now_ns < transfer->retry_ns) return;
    uint64_t left_ms = (transfer->deadline_ns - node->now_ns) / 1000000;
    const struct leader_transfer wish = {
        .request_id = ++node->leader_transfer_sequence,
        .group = group->id,
        .timeout_ms = (uint32_t)TL_MIN(left_ms, UINT32_MAX),
        .target = transfer->target,
        .is_dry_run = transfer->is_dry_run,
    };
    if (!node->io.send(node->io.context, group->leader, PEER_CLASS_FORWARD,
                       leader_transfer_encode(&wish))) {
        transfer->retry_ns = node->now_ns + NODE_FORWARD_RETRY_NS; /* never left this node */
        return;
    }
    node->metrics.frames_sent_count++;
    transfer->request_id = wish.request_id;
    transfer->asked = group->leader;
    transfer->report.from = group->leader;
    transfer->state = WISH_ASKED;
}

static void seek(struct node_group *group, struct node_leader_transfer *transfer)
{
    struct node *node = group->node;
    if (node->is_draining) {
        finish(transfer, TL_ERR_STOPPING);
    } else if (transfer->is_stranger) {
        finish_with(transfer, TRANSFER_NOT_VOTER, group->leader);
    } else if (raft_role_of(group->raft) == RAFT_LEADER) {
        begin_moving(group, transfer);
    } else if (transfer->is_inbound) {
        finish(transfer, TL_ERR_NOT_LEADER);
    } else if (group->leader == RAFT_ID_NONE || group->leader == node->self) {
        if (node->now_ns - transfer->begun_ns < NODE_LEADER_WAIT_NS) return;
        finish(transfer, node_reaches_quorum(node) ? TL_ERR_NO_LEADER : TL_ERR_NO_QUORUM);
    } else if (group->leader == transfer->target) {
        transfer->report.from = group->leader;
        finish_with(transfer, TRANSFER_SAME, group->leader);
    } else {
        ask_leader(group, transfer);
    }
}

/* The reply may be lost with its link, but not who leads. */
static void watch_asked(struct node_group *group, struct node_leader_transfer *transfer)
{
    if (transfer->is_dry_run || group->leader == RAFT_ID_NONE) return;
    bool is_over = group->leader != transfer->asked &&
                   (transfer->target == RAFT_ID_NONE || transfer->target == group->leader);
    if (is_over) finish_with(transfer, TRANSFER_DONE, group->leader);
}

static bool is_told(const struct raft_status *status, raft_id target)
{
    for (uint32_t i = 0; i < status->peers_count; i++) {
        if (status->peers[i].id == target) return status->peers[i].is_told_to_lead;
    }
    return true; /* no member any more: nobody remembers */
}

static void watch_moving(struct node_group *group, struct node_leader_transfer *transfer)
{
    if (raft_role_of(group->raft) == RAFT_LEADER) {
        struct raft_status status;
        raft_get_status(group->raft, &status);
        if (status.transfer_target == transfer->target) return;
        finish(transfer, is_told(&status, transfer->target) ? TL_ERR_UNKNOWN : TL_ERR_TIMEOUT);
        return;
    }
    raft_id leader = group->leader;
    if (leader == RAFT_ID_NONE || leader == group->node->self) return;
    bool is_right = leader == transfer->target;
    finish_with(transfer, is_right ? TRANSFER_DONE : TRANSFER_OTHER, leader);
}

static void step(struct node_leader_transfer *transfer)
{
    struct node *node = transfer->node;
    struct node_group *group = node->groups[transfer->group];
    if (node->now_ns >= transfer->deadline_ns) {
        bool was_tried = transfer->state != WISH_SEEKING && !transfer->is_dry_run;
        finish(transfer, was_tried ? TL_ERR_UNKNOWN : TL_ERR_TIMEOUT);
        return;
    }
    switch ((enum wish_state)transfer->state) {
    case WISH_SEEKING:
        seek(group, transfer);
        break;
    case WISH_ASKED:
        watch_asked(group, transfer);
        break;
    case WISH_MOVING:
        watch_moving(group, transfer);
        break;
    }
}

/* ---- a node that stops ---- */

/* true: another voter is there, so that waiting has a point. */
static bool has_other_voter(const struct node *node, const struct raft_status *status)
{
    for (uint32_t i = 0; i < status->peers_count; i++) {
        const struct raft_peer_status *peer = &status->peers[i];
        bool may_lead = peer->id != node->self && is_incoming(&status->conf, peer->id);
        if (may_lead && peer->is_recently_active) return true;
    }
    return false;
}

/* From one attempt, which lasts an election timeout, to the next. Not all the time: while the core
 * tries, nothing is proposed, and of nodes that stop together none shall be busy with handing over
 * alone. A node that has diverged cannot tell who else has: its successor may be one that may not
 * lead either, the same every time. So it is silent (node_group_mute()) for longer than the two
 * election timeouts that a follower waits at most. */
static uint64_t handover_interval_ns(const struct node *node)
{
    uint64_t timeouts_count = node->is_diverged ? 4 : 1;
    return timeouts_count * node->options.election_timeout_ns + node->options.heartbeat_interval_ns;
}

static void hand_over(struct node_group *group)
{
    struct node *node = group->node;
    if (raft_role_of(group->raft) != RAFT_LEADER || node->now_ns < group->handover_ns) return;
    struct raft_status status;
    raft_get_status(group->raft, &status);
    if (status.transfer_target != RAFT_ID_NONE) return;
    raft_id successor = node_group_successor(group, &status);
    if (successor == RAFT_ID_NONE) return;
    group->handover_ns = node->now_ns + handover_interval_ns(node);
    enum tl_err err = raft_transfer(group->raft, successor);
    TL_ASSERT(err == TL_OK); /* it leads, and the successor is a voter that stays */
    const struct member *member = node_member(node, successor);
    node_log(node, LOG_LEVEL_INFO, "hand_over", "group=%u to=%s", group->id,
             member != NULL ? member->address : "-");
}

void node_hand_over(struct node *node)
{
    node_enter(node);
    if (node->is_leaving) return;
    node->is_leaving = true;
    node->leaving_until_ns = node->now_ns + NODE_HAND_OVER_MAX_NS;
    for (uint32_t i = 0; i < node->groups_count; i++) node->groups[i]->handover_ns = 0;
}

bool node_is_handed_over(const struct node *node)
{
    if (node->is_failed) return true;
    if (!node->is_leaving) return false;
    if (node->now_ns >= node->leaving_until_ns) return true;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        const struct node_group *group = node->groups[i];
        if (raft_role_of(group->raft) != RAFT_LEADER) continue;
        struct raft_status status;
        raft_get_status(group->raft, &status);
        if (has_other_voter(node, &status)) return false;
    }
    return true;
}

/* ---- of the node ---- */

/* on_done may start and cancel others, so after every end the walk begins anew. true: one ended. */
static bool step_one(struct node *node)
{
    for (struct node_leader_transfer *transfer = node->leader_transfers; transfer != NULL;
         transfer = transfer->next) {
        uint64_t ended_count = node->leader_transfers_ended_count;
        step(transfer);
        if (node->leader_transfers_ended_count != ended_count) return true;
    }
    return false;
}

void node_leader_transfers_step(struct node *node)
{
    if (node->is_leaving || node->is_diverged) {
        for (uint32_t i = 0; i < node->groups_count; i++) hand_over(node->groups[i]);
    }
    while (node->leader_transfers != NULL && step_one(node)) {
    }
}

uint64_t node_leader_transfers_deadline(const struct node *node)
{
    uint64_t deadline_ns = NODE_NEVER;
    if (node->is_leaving && node->now_ns < node->leaving_until_ns) {
        /* Also tried again as soon as somebody has caught up. */
        deadline_ns =
            TL_MIN(node->now_ns + node->options.heartbeat_interval_ns, node->leaving_until_ns);
    }
    for (const struct node_leader_transfer *transfer = node->leader_transfers; transfer != NULL;
         transfer = transfer->next) {
        deadline_ns = TL_MIN(deadline_ns, transfer->deadline_ns);
        if (transfer->state != WISH_SEEKING) continue;
        const uint64_t waits_ns[] = {transfer->retry_ns, transfer->begun_ns + NODE_LEADER_WAIT_NS,
                                     transfer->begun_ns + node->options.election_timeout_ns};
        for (uint32_t i = 0; i < TL_COUNT_OF(waits_ns); i++) {
            if (waits_ns[i] > node->now_ns) deadline_ns = TL_MIN(deadline_ns, waits_ns[i]);
        }
    }
    return TL_MAX(deadline_ns, node->now_ns);
}

static void start(struct node *node, struct node_leader_transfer *transfer)
{
    TL_ASSERT(node->leader_transfers_count < NODE_LEADER_TRANSFERS_MAX);
    transfer->node = node;
    transfer->state = WISH_SEEKING;
    transfer->asked = RAFT_ID_NONE;
    transfer->request_id = 0;
    transfer->begun_ns = node->now_ns;
    transfer->retry_ns = 0;
    transfer->report = (struct node_leader_transfer_report){.is_changed = false};
    transfer->next = node->leader_transfers;
    node->leader_transfers = transfer;
    node->leader_transfers_count++;
    node->has_new_requests = true;
}

/* Of the members at the address the one that votes: a store that is taking over its seat has the
 * same. */
static void find_target(struct node *node, struct node_leader_transfer *transfer)
{
    transfer->target = RAFT_ID_NONE;
    transfer->is_stranger = false;
    if (transfer->address[0] == '\0') return;
    const struct node_peer *found = NULL;
    for (uint32_t i = 0; i < node->peers_count; i++) {
        const struct node_peer *peer = &node->peers[i];
        if (strcmp(peer->member.address, transfer->address) != 0) continue;
        if (found == NULL || peer->role == MEMBER_VOTER) found = peer;
    }
    transfer->is_stranger = found == NULL;
    if (found != NULL) transfer->target = found->id;
}

enum tl_err node_leader_transfer(struct node *node, struct node_leader_transfer *transfer)
{
    node_enter(node);
    if (node->is_failed || node->is_draining) return TL_ERR_STOPPING;
    if (node->groups_count == 0) return TL_ERR_STARTING;
    if (node->is_diverged) return TL_ERR_DIVERGED;
    if (transfer->group >= node->groups_count) return TL_ERR_NOT_FOUND;
    if (node->leader_transfers_count == NODE_LEADER_TRANSFERS_MAX) return TL_ERR_FULL;
    TL_ASSERT(transfer->on_done != NULL);
    transfer->is_inbound = false;
    find_target(node, transfer);
    start(node, transfer);
    return TL_OK;
}

void node_leader_transfer_cancel(struct node *node, struct node_leader_transfer *transfer)
{
    node_enter(node);
    forget(node, transfer);
}

void node_leader_transfers_close(struct node *node)
{
    while (node->leader_transfers != NULL) {
        bool was_tried = node->leader_transfers->state != WISH_SEEKING;
        finish(node->leader_transfers, was_tried ? TL_ERR_UNKNOWN : TL_ERR_STOPPING);
    }
}

/* ---- the leader's side of a wish that came from a peer ---- */

static void reply(struct node *node, raft_id peer, const struct leader_transfer_reply *answer)
{
    if (node->is_failed) return;
    node->metrics.frames_sent_count++;
    /* Lost with its link: the asker sees who leads, or meets its deadline. */
    (void)node->io.send(node->io.context, peer, PEER_CLASS_FORWARD,
                        leader_transfer_reply_encode(answer));
}

static void on_inbound_done(struct node_leader_transfer *transfer, enum tl_err err)
{
    struct inbound_transfer *inbound = TL_CONTAINER_OF(transfer, struct inbound_transfer, transfer);
    struct leader_transfer_reply answer = {
        .request_id = inbound->peer_request_id,
        .err = err,
        .verdict = err == TL_OK ? verdict_of(&transfer->report) : TRANSFER_NONE,
        .leader = transfer->report.to,
    };
    const struct node_peer *asker = node_find_peer(transfer->node, inbound->peer);
    bool is_old = asker == NULL || (asker->features[PEER_CLASS_FORWARD] & HELLO_FEATURE_SPACE) == 0;
    if (answer.verdict == TRANSFER_NO_SPACE && is_old) answer.verdict = TRANSFER_NOBODY;
    reply(transfer->node, inbound->peer, &answer);
    free(inbound);
}

enum tl_err node_on_leader_transfer(struct node *node, raft_id peer, struct bytes payload)
{
    struct leader_transfer wish;
    enum tl_err err = leader_transfer_decode(payload, &wish);
    if (err != TL_OK) return err;
    struct leader_transfer_reply refusal = {.request_id = wish.request_id};
    if (node_find_group(node, wish.group) == NULL) refusal.err = TL_ERR_NOT_LEADER;
    if (node->is_draining) refusal.err = TL_ERR_STOPPING;
    if (node->leader_transfers_count == NODE_LEADER_TRANSFERS_MAX) refusal.err = TL_ERR_FULL;
    if (refusal.err != TL_OK) {
        reply(node, peer, &refusal);
        return TL_OK;
    }
    struct inbound_transfer *inbound = calloc(1, sizeof *inbound);
    TL_ASSERT(inbound != NULL);
    inbound->peer = peer;
    inbound->peer_request_id = wish.request_id;
    inbound->transfer = (struct node_leader_transfer){
        .group = wish.group,
        .is_dry_run = wish.is_dry_run,
        .deadline_ns = node->now_ns + (uint64_t)wish.timeout_ms * 1000000,
        .on_done = on_inbound_done,
        .is_inbound = true,
        .target = wish.target,
    };
    start(node, &inbound->transfer);
    return TL_OK;
}

/* ---- the asker's side ---- */

static void take_reply(struct node_leader_transfer *transfer,
                       const struct leader_transfer_reply *answer)
{
    struct node *node = transfer->node;
    switch (answer->err) {
    case TL_OK:
        finish_with(transfer, answer->verdict, answer->leader);
        break;
    case TL_ERR_NOT_LEADER:
    case TL_ERR_STOPPING: /* it hands over: another one will lead */
        transfer->state = WISH_SEEKING;
        transfer->retry_ns = node->now_ns + NODE_FORWARD_RETRY_NS;
        break;
    case TL_ERR_TIMEOUT:
    case TL_ERR_BUSY:
    case TL_ERR_FULL:
        finish(transfer, answer->err);
        break;
    default:
        finish(transfer, TL_ERR_UNKNOWN);
        break;
    }
}

enum tl_err node_on_leader_transfer_reply(struct node *node, raft_id peer, struct bytes payload)
{
    struct leader_transfer_reply answer;
    enum tl_err err = leader_transfer_reply_decode(payload, &answer);
    if (err != TL_OK) return err;
    for (struct node_leader_transfer *transfer = node->leader_transfers; transfer != NULL;
         transfer = transfer->next) {
        bool is_it = transfer->state == WISH_ASKED && transfer->request_id == answer.request_id;
        if (!is_it) continue;
        if (transfer->asked != peer) return TL_ERR_INVALID;
        take_reply(transfer, &answer);
        return TL_OK;
    }
    return TL_OK; /* late */
}
