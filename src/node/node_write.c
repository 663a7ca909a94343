/* node_write.c - a write from its arrival to its one outcome.
 *
 *              node_write, a peer's forward
 *                        v
 *        +----------> QUEUED ----no leader in time, full, deadline----> not executed
 *        |  propose_one |  | forward_one
 *        |              |  +-------> FORWARDED --reply--> result, or the leader's error
 *        |              v                |  |  |
 *        |          PROPOSED             |  |  +--deadline, link lost and not keyed--> unknown
 *        |           |  |  |             |  |
 *        |           |  |  +-- applied: same term -> result, other term -> replaced (not executed)
 *        |           |  +----- deadline -> unknown
 *        |           (losing leadership answers nothing)
 *        +---- the leader refused, nothing was sent, or keyed and the link was lost ----+
 *
 * "Not executed" is said only while no copy of the write can be in a log that may still commit. A
 * keyed write that was sent again may have been executed by its first copy (may_be_executed): from
 * then on every end but the result is unknown. Results are told once because apply recognises the
 * Idempotency-Key, not because it was sent once.
 */

#include "node_internal.h"

#include <stdlib.h>

_Static_assert(NODE_SLOTS_MAX <= UINT16_MAX + 1u, "slots are numbered in 16 bits");

/* ---- lists ---- */

static void list_push(struct write_list *list, struct node_write *write)
{
    write->next = NULL;
    write->previous = list->last;
    if (list->last != NULL) {
        list->last->next = write;
    } else {
        list->first = write;
    }
    list->last = write;
}

static void list_remove(struct write_list *list, struct node_write *write)
{
    if (write->previous != NULL) {
        write->previous->next = write->next;
    } else {
        TL_ASSERT(list->first == write);
        list->first = write->next;
    }
    if (write->next != NULL) {
        write->next->previous = write->previous;
    } else {
        TL_ASSERT(list->last == write);
        list->last = write->previous;
    }
    write->next = NULL;
    write->previous = NULL;
}

static struct write_list *list_of(struct node *node, const struct node_write *write)
{
    struct node_group *group = node->groups[write->group];
    TL_ASSERT(write->state != WRITE_IDLE);
    switch ((enum write_state)write->state) {
    case WRITE_QUEUED:
        return &group->queued;
    case WRITE_PROPOSED:
        return &group->proposed;
    case WRITE_FORWARDED:
        return &group->forwarded;
    case WRITE_ENDING:
    case WRITE_IDLE:
        break;
    }
    TL_ASSERT(write->state == WRITE_ENDING);
    return &node->writes_ending;
}

/* ---- slots: which forwarded write a reply is for ---- */

static void take_slot(struct node *node, struct node_write *write)
{
    TL_ASSERT(node->slots_free_count > 0); /* as many as there may be requests */
    uint32_t slot = node->slots_free[--node->slots_free_count];
    TL_ASSERT(node->slots[slot] == NULL);
    node->slots[slot] = write;
    write->request_id = ++node->forward_sequence * NODE_SLOTS_MAX + slot;
}

static void free_slot(struct node *node, struct node_write *write)
{
    uint32_t slot = (uint32_t)(write->request_id % NODE_SLOTS_MAX);
    TL_ASSERT(node->slots[slot] == write);
    node->slots[slot] = NULL;
    node->slots_free[node->slots_free_count++] = (uint16_t)slot;
    write->request_id = 0;
}

/* ---- moves between the states ---- */

static void leave_state(struct node *node, struct node_write *write)
{
    list_remove(list_of(node, write), write);
    if (write->state == WRITE_FORWARDED) free_slot(node, write);
    write->state = WRITE_IDLE;
}

static void enter_state(struct node *node, struct node_write *write, enum write_state state)
{
    TL_ASSERT(write->state == WRITE_IDLE);
    write->state = state;
    list_push(list_of(node, write), write);
}

/* The node knows nothing of the write any more. */
static void forget(struct node *node, struct node_write *write)
{
    leave_state(node, write);
    buf_release(TL_TAKE(&write->entry));
    node_end_request(node, write->group, write->entry_bytes);
}

static void count_outcome(struct node *node, const struct node_write *write, enum tl_err err,
                          const struct kv_result *result)
{
    struct node_metrics *metrics = &node->metrics;
    if (write->is_inbound) return; /* counted by the node that asked */
    if (err == TL_OK) {
        metrics->writes_ok_count++;
        if ((result->flags & KV_RESULT_REPLAYED) != 0) metrics->replays_count++;
        histogram_add(&metrics->write_us, (node->now_ns - write->submitted_ns) / 1000);
    } else if (err == TL_ERR_UNKNOWN) {
        metrics->writes_unknown_count++;
    } else {
        metrics->writes_failed_count++;
    }
}

/* Tells the outcome. The caller's memory may be gone afterwards. */
static void finish(struct node *node, struct node_write *write, enum tl_err err,
                   const struct kv_result *result)
{
    TL_ASSERT((err == TL_OK) == (result != NULL));
    if (err != TL_OK && write->may_be_executed) err = TL_ERR_UNKNOWN;
    forget(node, write);
    count_outcome(node, write, err, result);
    write->on_done(write, err, result);
}

/* As finish(), but from within a walk over a list: told by node_deliver_writes(). */
static void finish_later(struct node *node, struct node_write *write, enum tl_err err)
{
    TL_ASSERT(err != TL_OK);
    leave_state(node, write);
    write->outcome = err;
    enter_state(node, write, WRITE_ENDING);
}

void node_deliver_writes(struct node *node)
{
    while (node->writes_ending.first != NULL && !node->is_failed) {
        struct node_write *write = node->writes_ending.first;
        finish(node, write, (enum tl_err)write->outcome, NULL);
    }
}

/* Back to the queue: it is in no log, or may be sent again. */
static void requeue(struct node *node, struct node_write *write)
{
    leave_state(node, write);
    write->retry_ns = node->now_ns + NODE_FORWARD_RETRY_NS;
    enter_state(node, write, WRITE_QUEUED);
    node->requests_check_ns = TL_MIN(node->requests_check_ns, write->retry_ns);
}

/* ---- arrival ---- */

static enum tl_err submit(struct node *node, struct node_write *write)
{
    if (node->is_failed || node->is_draining) return TL_ERR_STOPPING;
    if (node->groups_count == 0) return TL_ERR_STARTING;
    if (node->is_diverged) return TL_ERR_DIVERGED;
    TL_ASSERT(write->group < node->groups_count);
    TL_ASSERT(write->entry != NULL);
    TL_ASSERT(write->on_done != NULL);
    if (!node_begin_request(node, write->group, write->entry->count)) {
        node->metrics.writes_refused_count++;
        return TL_ERR_FULL;
    }
    write->state = WRITE_IDLE;
    write->submitted_ns = node->now_ns;
    write->proposed_ns = 0;
    write->committed_ns = 0;
    write->may_be_executed = false;
    write->retry_ns = 0;
    write->request_id = 0;
    write->forwarded_to = RAFT_ID_NONE;
    write->waits_for_time = false;
    write->token_round = 0;
    write->entry_bytes = write->entry->count;
    node->has_new_requests = true;
    uint64_t check_ns = TL_MIN(write->deadline_ns, node->now_ns + NODE_LEADER_WAIT_NS);
    node->requests_check_ns = TL_MIN(node->requests_check_ns, check_ns);
    enter_state(node, write, WRITE_QUEUED);
    return TL_OK;
}

enum tl_err node_write(struct node *node, struct node_write *write)
{
    node_enter(node);
    write->is_inbound = false;
    return submit(node, write);
}

void node_write_cancel(struct node *node, struct node_write *write)
{
    node_enter(node);
    if (write->state != WRITE_IDLE) forget(node, write);
}

/* ---- proposing ---- */

/* An entry's time is not below its client's token, which orders writes of several groups. A token
 * moves log time no faster than anything else does, and one of no entry at all does not move it. */
static bool take_time(struct node_group *group, struct node_write *write, uint64_t token_us,
                      uint64_t *time_us)
{
    struct node *node = group->node;
    if (node->options.mutation == NODE_MUTATION_TIME_TOKEN) {
        *time_us = TL_MAX(node_group_time_us(group, *time_us), token_us);
        return true;
    }
    if (node_group_token_is_ahead(group, token_us)) {
        finish_later(node, write, TL_ERR_AHEAD);
        return false;
    }
    *time_us = node_group_time_us(group, TL_MAX(*time_us, token_us));
    if (token_us <= TL_MAX(*time_us, raft_last_time_us(group->raft) + 1)) return true;
    write->waits_for_time = true;
    write->retry_ns = node_group_time_wait_ns(group, token_us);
    node->requests_check_ns = TL_MIN(node->requests_check_ns, write->retry_ns);
    return false;
}

/* Whether log time is known not to have reached the write's token yet: before, its command need not
 * be decoded. A new leadership counts anew. */
static bool is_waiting_for_time(const struct node_group *group, const struct node_write *write)
{
    return write->waits_for_time && group->node->now_ns < write->retry_ns &&
           group->log_time.term == raft_leadership_of(group->raft).term;
}

/* The same for all writes of a pass. */
struct proposing {
    uint64_t time_us;
    enum tl_err space[2]; /* of node_group_space(): for what cannot grow, and for what may */
};

static bool is_half_full(const struct node_group *group)
{
    struct raft_status status;
    raft_get_status(group->raft, &status);
    return 2 * status.uncommitted_bytes > node_limit(group->node, RAFT_UNCOMMITTED_BYTES_MAX);
}

static void propose_one(struct node_group *group, struct node_write *write,
                        const struct proposing *proposing)
{
    struct node *node = group->node;
    if (group->is_apply_stalled) {
        finish_later(node, write, TL_ERR_STALLED);
        return;
    }
    struct command command;
    enum tl_err err = command_decode(entry_payload(write->entry), &command);
    TL_ASSERT(err == TL_OK); /* made by command_encode() or checked by forward_decode() */
    if (proposing->space[1] != TL_OK) {
        err = proposing->space[node_command_may_grow(group->id, &command) ? 1 : 0];
    }
    if (err != TL_OK) {
        node->metrics.writes_without_space_count++;
        finish_later(node, write, err);
        return;
    }
    uint64_t time_us = proposing->time_us;
    if (!take_time(group, write, command.token_us, &time_us)) return;
    node_stamp_records(node, write->entry, &command);
    raft_index index = 0;
    raft_term term = 0;
    err = raft_propose(group->raft, write->entry, time_us, &index, &term);
    if (err == TL_ERR_NOT_LEADER) return; /* as a follower's: the next pass forwards it */
    if (err != TL_OK) {
        finish_later(node, write, err);
        return;
    }
    write->entry = NULL; /* the core's now */
    group->pushed_bytes += write->entry_bytes;
    if (node->options.mutation == NODE_MUTATION_FULL_THOUGH_TAKEN && is_half_full(group)) {
        finish_later(node, write, TL_ERR_FULL);
        return;
    }
    write->index = index;
    write->term = term;
    write->proposed_ns = node->now_ns;
    leave_state(node, write);
    enter_state(node, write, WRITE_PROPOSED);
}

/* Whether the write's token is of an entry there may be. Where this node's own knowledge does not
 * say so, a round of reads does: what was committed when it began is applied here then. */
static bool is_token_known(struct node_group *group, struct node_write *write)
{
    if (!node_group_token_is_ahead(group, write->token_us)) return true;
    if (write->token_round == 0) write->token_round = raft_read(group->raft);
    bool is_over = group->reads_ready_round >= write->token_round &&
                   group->state.group.index >= group->read_index;
    if (is_over) finish_later(group->node, write, TL_ERR_AHEAD);
    return false;
}

static void forward_one(struct node_group *group, struct node_write *write)
{
    struct node *node = group->node;
    raft_id leader = group->leader;
    if (!is_token_known(group, write)) return;
    if (write->forwarded_to == leader && node->now_ns < write->retry_ns) return;
    if (write->deadline_ns <= node->now_ns) return; /* expires in this turn */
    leave_state(node, write);
    take_slot(node, write);
    uint64_t left_ms = (write->deadline_ns - node->now_ns) / 1000000;
    const struct forward forward = {
        .request_id = write->request_id,
        .group = group->id,
        .timeout_ms = (uint32_t)TL_MIN(left_ms, UINT32_MAX),
        .command = entry_payload(write->entry),
    };
    write->forwarded_to = leader;
    enter_state(node, write, WRITE_FORWARDED);
    struct buf *frame = forward_encode(&forward);
    group->pushed_bytes += write->entry_bytes;
    if (!node->io.send(node->io.context, leader, PEER_CLASS_FORWARD, frame)) {
        requeue(node, write); /* never left this node */
        return;
    }
    write->proposed_ns = node->now_ns;
    node->metrics.frames_sent_count++;
    node->metrics.writes_forwarded_count++;
}

void node_group_push_writes(struct node_group *group)
{
    group->has_more_to_push = false;
    if (group->queued.first == NULL) return;
    struct node *node = group->node;
    if (node->is_diverged) {
        node_group_refuse_writes(group); /* a leader sent it back */
        return;
    }
    bool is_leader = raft_role_of(group->raft) == RAFT_LEADER;
    /* Handing over: the next leader takes them. */
    if (is_leader && raft_transfer_target(group->raft) != RAFT_ID_NONE) return;
    struct proposing proposing = {.time_us = 0};
    if (is_leader) {
        proposing.time_us = node_clock_us(node);
        proposing.space[0] = node_group_space(group, false);
        proposing.space[1] = node_group_space(group, true);
    }
    struct node_write *next = NULL;
    for (struct node_write *write = group->queued.first; write != NULL; write = next) {
        next = write->next;
        if (is_leader && is_waiting_for_time(group, write)) continue;
        if (group->pushed_bytes >= node_limit(node, NODE_PUSH_TURN_BYTES)) {
            group->has_more_to_push = true; /* so that heartbeats come between large ones */
            return;
        }
        write->waits_for_time = false;
        if (is_leader) {
            propose_one(group, write, &proposing);
        } else if (write->is_inbound) {
            finish_later(node, write, TL_ERR_NOT_LEADER);
        } else if (group->leader != RAFT_ID_NONE && group->leader != node->self) {
            forward_one(group, write);
        }
    }
}

/* ---- outcomes ---- */

void node_group_writes_committed(struct node_group *group)
{
    for (struct node_write *write = group->proposed.first; write != NULL; write = write->next) {
        if (write->index > group->commit) break;
        if (write->committed_ns == 0) write->committed_ns = group->node->now_ns;
    }
}

bool node_group_awaits(const struct node_group *group, raft_index index)
{
    return group->proposed.first != NULL && group->proposed.first->index <= index;
}

void node_group_writes_applied(struct node_group *group, raft_index index, raft_term term,
                               const struct kv_result *result)
{
    struct node *node = group->node;
    /* This log is the committed one. Terms do not fall along it, so what was proposed in an older
     * term from here on is not in it; and this index holds what its own term says, which may be
     * older than the proposal's: a leader that reached nobody is followed by one before it. */
    struct node_write *next = NULL;
    bool is_by_index = node->options.mutation == NODE_MUTATION_ANSWER_BY_INDEX;
    for (struct node_write *write = group->proposed.first; write != NULL; write = next) {
        next = write->next;
        if (is_by_index || (write->index > index && write->term >= term)) break;
        bool is_other = write->index <= index && write->term != term &&
                        node->options.mutation != NODE_MUTATION_OLDER_TERM;
        if (write->term < term || is_other) finish_later(node, write, TL_ERR_REPLACED);
    }
    struct node_write *write = group->proposed.first;
    if (write == NULL || write->index > index) return;
    TL_ASSERT(write->index == index);
    TL_ASSERT(result != NULL);
    finish(node, write, TL_OK, result);
}

/* Of what a snapshot covers only the state is known, not which entries made it. */
void node_group_writes_installed(struct node_group *group)
{
    raft_index applied = group->state.group.index;
    bool is_mutated = group->node->options.mutation == NODE_MUTATION_INSTALL_REPLACED;
    struct node_write *next = NULL;
    for (struct node_write *write = group->proposed.first; write != NULL; write = next) {
        next = write->next;
        if (write->index > applied) continue; /* an earlier leadership's, perhaps */
        finish_later(group->node, write, is_mutated ? TL_ERR_REPLACED : TL_ERR_UNKNOWN);
    }
}

void node_group_writes_leader_changed(struct node_group *group)
{
    struct node *node = group->node;
    if (group->leader == RAFT_ID_NONE) return;
    struct node_write *next = NULL;
    for (struct node_write *write = group->forwarded.first; write != NULL; write = next) {
        next = write->next;
        if (!write->is_keyed || write->forwarded_to == group->leader) continue;
        /* The old leader may hang for as long as it likes (cockroachdb#80713). */
        write->may_be_executed = true;
        requeue(node, write);
        node->has_new_requests = true;
    }
}

void node_writes_link_lost(struct node *node, raft_id peer)
{
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct node_write *next = NULL;
        for (struct node_write *write = node->groups[i]->forwarded.first; write != NULL;
             write = next) {
            next = write->next;
            if (write->forwarded_to != peer) continue;
            if (write->is_keyed) {
                write->may_be_executed = true;
                requeue(node, write);
            } else {
                finish_later(node, write, TL_ERR_UNKNOWN);
            }
        }
    }
}

static enum tl_err no_leader(const struct node *node)
{
    return node_reaches_quorum(node) ? TL_ERR_NO_LEADER : TL_ERR_NO_QUORUM;
}

static void expire_queued(struct node_group *group, uint64_t *check_ns)
{
    struct node *node = group->node;
    struct node_write *next = NULL;
    for (struct node_write *write = group->queued.first; write != NULL; write = next) {
        next = write->next;
        uint64_t give_up_ns = write->submitted_ns + NODE_LEADER_WAIT_NS;
        if (write->may_be_executed) give_up_ns = NODE_NEVER; /* nothing definite left to say */
        if (write->waits_for_time) give_up_ns = NODE_NEVER;
        if (group->has_more_to_push) give_up_ns = NODE_NEVER; /* waits for its turn, not a leader */
        if (node->now_ns >= write->deadline_ns) {
            finish_later(node, write, TL_ERR_TIMEOUT);
        } else if (node->now_ns >= give_up_ns) {
            finish_later(node, write, no_leader(node));
        } else {
            *check_ns = TL_MIN(*check_ns, TL_MIN(write->deadline_ns, give_up_ns));
            if (write->retry_ns > node->now_ns) *check_ns = TL_MIN(*check_ns, write->retry_ns);
        }
    }
}

static void expire_sent(struct node *node, struct write_list *list, uint64_t *check_ns)
{
    bool is_mutated = node->options.mutation == NODE_MUTATION_TIMEOUT_DEFINITE;
    struct node_write *next = NULL;
    for (struct node_write *write = list->first; write != NULL; write = next) {
        next = write->next;
        if (node->now_ns >= write->deadline_ns) {
            finish_later(node, write, is_mutated ? TL_ERR_TIMEOUT : TL_ERR_UNKNOWN);
        } else {
            *check_ns = TL_MIN(*check_ns, write->deadline_ns);
        }
    }
}

void node_group_expire_writes(struct node_group *group, uint64_t *check_ns)
{
    expire_queued(group, check_ns);
    expire_sent(group->node, &group->proposed, check_ns);
    expire_sent(group->node, &group->forwarded, check_ns);
}

static void refuse_list(struct node *node, struct write_list *list, enum tl_err err)
{
    while (list->first != NULL) finish_later(node, list->first, err);
}

/* A forwarded write is answered from the leader's state. */
void node_group_refuse_writes(struct node_group *group)
{
    refuse_list(group->node, &group->queued, TL_ERR_DIVERGED);
    refuse_list(group->node, &group->proposed, TL_ERR_UNKNOWN);
}

static void close_list(struct node *node, struct write_list *list, enum tl_err err)
{
    while (list->first != NULL) finish(node, list->first, err, NULL);
}

void node_writes_close(struct node *node)
{
    while (node->writes_ending.first != NULL) {
        struct node_write *write = node->writes_ending.first;
        finish(node, write, (enum tl_err)write->outcome, NULL);
    }
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct node_group *group = node->groups[i];
        close_list(node, &group->queued, TL_ERR_STOPPING);
        close_list(node, &group->proposed, TL_ERR_UNKNOWN);
        close_list(node, &group->forwarded, TL_ERR_UNKNOWN);
    }
    while (node->inbounds != NULL) {
        struct node_inbound *inbound = node->inbounds;
        node->inbounds = inbound->next_all;
        free(inbound);
    }
}

/* ---- the leader's side of a forward ---- */

static void reply(struct node *node, raft_id peer, uint64_t request_id, enum tl_err err,
                  const struct kv_result *result)
{
    if (node->is_failed) return;
    const struct node_peer *asker = node_find_peer(node, peer);
    bool is_old = asker == NULL || (asker->features[PEER_CLASS_FORWARD] & HELLO_FEATURE_SPACE) == 0;
    if (err == TL_ERR_MAP_FULL && is_old) err = TL_ERR_NO_SPACE; /* the one it knows */
    struct forward_reply forward_reply = {.request_id = request_id, .err = err};
    if (result != NULL) forward_reply.result = *result;
    node->metrics.frames_sent_count++;
    /* Lost with its link: the asker hears of that, or meets its deadline. */
    (void)node->io.send(node->io.context, peer, PEER_CLASS_FORWARD,
                        forward_reply_encode(&forward_reply));
}

static void on_inbound_done(struct node_write *write, enum tl_err err,
                            const struct kv_result *result)
{
    struct node_inbound *inbound = TL_CONTAINER_OF(write, struct node_inbound, write);
    struct node *node = inbound->node;
    reply(node, inbound->peer, inbound->peer_request_id, err, result);
    inbound->next_free = node->inbounds_free;
    node->inbounds_free = inbound;
}

static struct node_inbound *take_inbound(struct node *node)
{
    struct node_inbound *inbound = node->inbounds_free;
    if (inbound != NULL) {
        node->inbounds_free = inbound->next_free;
        return inbound;
    }
    inbound = calloc(1, sizeof *inbound);
    TL_ASSERT(inbound != NULL);
    inbound->node = node;
    inbound->next_all = node->inbounds;
    node->inbounds = inbound;
    return inbound;
}

enum tl_err node_on_forward(struct node *node, raft_id peer, struct bytes payload)
{
    struct forward forward;
    enum tl_err err = forward_decode(payload, &forward);
    if (err != TL_OK) return err;
    struct node_group *group = node_find_group(node, forward.group);
    if (group == NULL || raft_role_of(group->raft) != RAFT_LEADER) {
        reply(node, peer, forward.request_id, TL_ERR_NOT_LEADER, NULL);
        return TL_OK;
    }
    struct buf *entry = entry_create(ENTRY_COMMAND, forward.command.count);
    memcpy(entry->data + ENTRY_HEADER_BYTES, forward.command.data, forward.command.count);
    struct node_inbound *inbound = take_inbound(node);
    inbound->peer = peer;
    inbound->peer_request_id = forward.request_id;
    inbound->write = (struct node_write){
        .group = forward.group,
        .entry = entry,
        .deadline_ns = node->now_ns + (uint64_t)forward.timeout_ms * 1000000,
        .on_done = on_inbound_done,
        .is_inbound = true,
    };
    err = submit(node, &inbound->write);
    if (err != TL_OK) {
        buf_release(TL_TAKE(&inbound->write.entry));
        on_inbound_done(&inbound->write, err, NULL);
    }
    return TL_OK;
}

/* ---- the asker's side ---- */

enum reply_meaning { REPLY_RESULT, REPLY_TRY_AGAIN, REPLY_DEFINITE, REPLY_UNKNOWN };

static enum reply_meaning judge_reply(enum tl_err err)
{
    switch (err) {
    case TL_OK:
        return REPLY_RESULT;
    case TL_ERR_NOT_LEADER:
    case TL_ERR_NO_LEADER:
    case TL_ERR_NO_QUORUM:
    case TL_ERR_STARTING:
    case TL_ERR_STOPPING:
    case TL_ERR_DIVERGED:
        return REPLY_TRY_AGAIN;
    case TL_ERR_FULL:
    case TL_ERR_INVALID:
    case TL_ERR_NO_SPACE:
    case TL_ERR_MAP_FULL:
    case TL_ERR_STALLED:
    case TL_ERR_REPLACED:
    case TL_ERR_TIMEOUT:
    case TL_ERR_AHEAD:
        return REPLY_DEFINITE;
    default:
        return REPLY_UNKNOWN; /* also what a newer version may say */
    }
}

enum tl_err node_on_forward_reply(struct node *node, raft_id peer, struct bytes payload)
{
    struct forward_reply forward_reply;
    enum tl_err err = forward_reply_decode(payload, &forward_reply);
    if (err != TL_OK) return err;
    struct node_write *write = node->slots[forward_reply.request_id % NODE_SLOTS_MAX];
    if (write == NULL || write->request_id != forward_reply.request_id) return TL_OK; /* late */
    if (write->forwarded_to != peer) return TL_ERR_INVALID;
    switch (judge_reply(forward_reply.err)) {
    case REPLY_RESULT:
        finish(node, write, TL_OK, &forward_reply.result);
        break;
    case REPLY_TRY_AGAIN:
        requeue(node, write);
        break;
    case REPLY_DEFINITE:
        finish_later(node, write, forward_reply.err);
        break;
    case REPLY_UNKNOWN:
        finish_later(node, write, TL_ERR_UNKNOWN);
        break;
    }
    return TL_OK;
}
