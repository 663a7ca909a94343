/* node_turn.c - what leaves the node: outputs of the cores, log batches, frames, the timer.
 *
 *   requests, messages, completions          in memory, any number of calls
 *            |  node_turn
 *            v
 *   advance -> begin reads, push writes -> node_carry_out -> apply -> ready reads -> flush
 *                                            |      |
 *                                            |      a frame per peer, all groups' messages; appends
 *                                            |      in one of their own, which others may overtake
 *                                            one log batch, all groups' ops
 *
 * The batch is handed over before the frames are encoded: the disk works while they are, and a
 * leader's entries may travel before they are durable here (thesis 10.2.1). What may not is not in
 * the output yet.
 */

#include "node_internal.h"

#include <stdlib.h>

/* ---- batches ---- */

struct node_batch *node_take_batch(struct node *node)
{
    struct node_batch *batch = node->batches_free;
    if (batch != NULL) {
        node->batches_free = batch->next;
    } else {
        /* Bounded by the cores: RAFT_OPS_IN_FLIGHT_MAX ops a group, one op of a group a batch. */
        batch = malloc(sizeof *batch);
        TL_ASSERT(batch != NULL);
    }
    batch->log.ops_count = 0;
    batch->log.next = NULL;
    batch->is_genesis = false;
    batch->entries_count = 0;
    batch->next = NULL;
    return batch;
}

void node_issue_batch(struct node *node, struct node_batch *batch)
{
    TL_ASSERT(!node->is_failed);
    TL_ASSERT(batch->log.ops_count > 0);
    batch->log.issued_ns = node->now_ns;
    batch->log.sequence = ++node->batch_sequence;
    if (node->batches_newest != NULL) {
        node->batches_newest->next = batch;
    } else {
        node->batches_oldest = batch;
    }
    node->batches_newest = batch;
    node->io.log_commit(node->io.context, &batch->log);
}

void node_group_advance(struct node_group *group)
{
    const struct node *node = group->node;
    const struct node_batch *oldest = node->batches_oldest;
    raft_set_disk_began(group->raft, oldest != NULL ? TL_MAX(oldest->log.issued_ns, 1u) : 0);
    raft_advance(group->raft, node->now_ns);
}

uint32_t node_log_commit_age_ms(const struct node *node)
{
    if (node->batches_oldest == NULL) return 0;
    uint64_t age_ms = (node->now_ns - node->batches_oldest->log.issued_ns) / 1000000;
    return (uint32_t)TL_MIN(age_ms, UINT32_MAX);
}

static raft_index deletable(const struct node_group *group)
{
    if (group->node->options.mutation == NODE_MUTATION_DELETE_APPLIED) {
        return group->state.group.index;
    }
    return group->flushed;
}

static void add_op(struct node_group *group, struct node_batch *batch)
{
    const struct raft_append_op *op = group->output->op;
    struct node_metrics *metrics = &group->node->metrics;
    uint32_t i = batch->log.ops_count++;
    TL_ASSERT(i < NODE_GROUPS_MAX);
    batch->log.ops[i] = (struct log_op){
        .group = group->id,
        .truncate_from = op->truncate_from,
        .entries = op->entries,
        .entries_count = op->entries_count,
        .hard_state = op->has_hard_state ? &op->hard_state : NULL,
    };
    if (op->install != NULL) {
        node_install_fill_op(group, op->install, &batch->log.ops[i]);
    } else {
        batch->log.ops[i].deletable = deletable(group);
        batch->log.ops[i].keep_from = node_send_keep_from(group);
    }
    batch->sequences[i] = op->sequence;
    batch->entries_count += op->entries_count;
    metrics->entries_appended_count += op->entries_count;
    for (uint32_t k = 0; k < op->entries_count; k++) {
        metrics->bytes_appended_count += op->entries[k]->count;
    }
}

/* ---- one core's output ---- */

static void give_log_read(struct node_group *group, struct node_job *job)
{
    job->is_out = true;
    group->node->io.log_read(group->node->io.context, &job->read);
}

static void read_for_peer(struct node_group *group, const struct raft_log_read *wanted)
{
    struct node_job *job = node_take_job(group->node);
    /* The core checks the chain from the entry before; the store knows that of the base. */
    raft_index first = wanted->first - 1 > group->base_index ? wanted->first - 1 : wanted->first;
    job->read.group = group->id;
    job->read.first = first;
    job->read.last = wanted->last_max;
    /* So that the entry before never uses up what `first` itself needs. */
    job->read.bytes_max = wanted->bytes_max + ENTRY_HEADER_BYTES + ENTRY_PAYLOAD_BYTES_MAX;
    job->read.purpose = NODE_LOG_READ_PEER;
    job->read.peer = wanted->peer;
    give_log_read(group, job);
}

static void verify_record(struct node_group *group, raft_index index)
{
    if (group->is_verifying) return;
    group->is_verifying = true;
    struct node_job *job = node_take_job(group->node);
    job->read.group = group->id;
    job->read.first = index;
    job->read.last = index;
    job->read.bytes_max = 1;
    job->read.purpose = NODE_LOG_READ_VERIFY;
    job->read.peer = RAFT_ID_NONE;
    give_log_read(group, job);
}

static void note_leader(struct node_group *group)
{
    raft_id leader = raft_leader(group->raft);
    if (leader == group->leader) return;
    struct node *node = group->node;
    group->leader = leader;
    group->leader_since_ns = node->now_ns;
    const struct member *member = node_member(node, leader);
    node_log(node, LOG_LEVEL_INFO, "leader", "group=%u leader=%s term=%llu", group->id,
             member != NULL ? member->address : "none",
             (unsigned long long)raft_current_term(group->raft));
    node_member_wake(node);
    if (group->id == 0) node_member_leader_changed(node);
    node_group_writes_leader_changed(group);
    /* Who waited for this leader is looked at in another pass. */
    if (group->queued.first != NULL || node->leader_transfers != NULL)
        node->has_new_requests = true;
    /* Reads that have waited long enough for a leader are told now. */
    if (leader == RAFT_ID_NONE)
        node->requests_check_ns = TL_MIN(node->requests_check_ns, node->now_ns);
}

static void tell_backlogs(struct node_group *group)
{
    const struct node *node = group->node;
    for (uint32_t i = 0; i < node->peers_count; i++) {
        raft_id id = node->peers[i].id;
        if (id == node->self) continue;
        raft_set_peer_backlog(group->raft, id, node->io.backlog(node->io.context, id));
    }
}

static void take_output(struct node_group *group, struct node_batch **batch)
{
    struct node *node = group->node;
    TL_ASSERT(group->output == NULL);
    if (raft_role_of(group->raft) == RAFT_LEADER) tell_backlogs(group);
    const struct raft_output *output = raft_output(group->raft);
    group->output = output;
    TL_ASSERT(output->applicable >= group->applicable);
    TL_ASSERT(output->commit >= group->commit);
    group->applicable = output->applicable;
    group->commit = output->commit;
    group->reads_ready_round = output->reads_ready_round;
    group->read_index = output->read_index;
    group->deadline_ns = output->deadline_ns;
    if (output->op != NULL) {
        if (*batch == NULL) *batch = node_take_batch(node);
        add_op(group, *batch);
    }
    for (uint32_t i = 0; i < output->log_reads_count; i++) {
        read_for_peer(group, &output->log_reads[i]);
    }
    if (output->snapshots_count > 0) node_send_want(group);
    if (output->verify_index > 0) verify_record(group, output->verify_index);
    if (output->is_chain_broken) {
        struct tl_fault fault;
        tl_fault_set(&fault, data_dir_path(node->data_dir), group->id, group->commit,
                     "a majority of the replicas has other bytes in its log");
        node_fail(node, &fault);
    }
    if (node->is_diverged) node_group_mute(group);
    note_leader(group);
    node_group_writes_committed(group);
}

/* ---- frames ---- */

struct message_cursor {
    uint32_t group;
    uint32_t message;
    bool is_urgent; /* of which kind it looks for messages */
};

/* Whether it may overtake others on a slow link. An append may not: one that arrives before its
 * predecessor is refused, and all is sent again. */
static bool is_urgent(const struct raft_message *message)
{
    return message->type != RAFT_APPEND;
}

/* Moves onto the next message for `to`; NULL: there is none. */
static const struct raft_message *cursor_seek(const struct node *node,
                                              struct message_cursor *cursor, raft_id to)
{
    for (; cursor->group < node->groups_count; cursor->group++, cursor->message = 0) {
        const struct raft_output *output = node->groups[cursor->group]->output;
        for (; cursor->message < output->messages_count; cursor->message++) {
            const struct raft_message *message = &output->messages[cursor->message];
            if (message->to == to && is_urgent(message) == cursor->is_urgent) return message;
        }
    }
    return NULL;
}

/* Sends one frame of the messages from *cursor on, as many as fit, and moves the cursor. */
static void send_frame(struct node *node, raft_id to, struct message_cursor *cursor)
{
    struct message_cursor ahead = *cursor;
    const struct node_peer *peer = node_find_peer(node, to);
    bool has_space = peer != NULL && (peer->features[PEER_CLASS_RAFT] & HELLO_FEATURE_SPACE) != 0;
    const size_t head_bytes = RAFT_BATCH_HEAD_BYTES + (has_space ? RAFT_BATCH_SPACE_BYTES : 0u);
    size_t bytes = head_bytes;
    uint32_t count = 0;
    const struct raft_message *message = NULL;
    while ((message = cursor_seek(node, &ahead, to)) != NULL) {
        size_t message_bytes = raft_message_bytes(message);
        if (count > 0 && bytes + message_bytes > FRAME_PAYLOAD_BYTES_MAX / 2) break;
        bytes += message_bytes;
        count++;
        ahead.message++;
    }
    TL_ASSERT(bytes <= FRAME_PAYLOAD_BYTES_MAX);
    const struct raft_batch_head head = {
        .clock_us = node->io.clock_us(node->io.context),
        .life = node->life,
        .log_commit_age_ms = node_log_commit_age_ms(node),
        .messages_count = count,
        .has_space = has_space,
        .free_bytes = node_space_now(node)->free_bytes,
        .map_free_bytes = node_space_now(node)->map_free_bytes,
    };
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + bytes);
    raft_batch_head_encode(&head, frame->data + FRAME_HEADER_BYTES);
    frame->count = FRAME_HEADER_BYTES + (uint32_t)head_bytes;
    for (uint32_t i = 0; i < count; i++) {
        raft_message_encode(cursor_seek(node, cursor, to), frame);
        cursor->message++;
    }
    TL_ASSERT(frame->count == FRAME_HEADER_BYTES + bytes);
    frame_seal(frame, FRAME_RAFT);
    node->metrics.frames_sent_count++;
    /* Not given to a connection is as good as lost on the way: the core sends again. */
    if (cursor->is_urgent) {
        (void)node->io.send_urgent(node->io.context, to, frame);
    } else {
        (void)node->io.send(node->io.context, to, PEER_CLASS_RAFT, frame);
    }
}

static void send_messages(struct node *node)
{
    for (uint32_t i = 0; i < node->peers_count && !node->is_failed; i++) {
        raft_id to = node->peers[i].id;
        if (to == node->self) continue;
        struct message_cursor urgent = {.is_urgent = true};
        while (cursor_seek(node, &urgent, to) != NULL) send_frame(node, to, &urgent);
        struct message_cursor appends = {.is_urgent = false};
        while (cursor_seek(node, &appends, to) != NULL) send_frame(node, to, &appends);
    }
    for (uint32_t i = 0; i < node->groups_count; i++) {
        const struct raft_output *output = TL_TAKE(&node->groups[i]->output);
        if (output == NULL) continue; /* failed before its turn came */
        for (uint32_t k = 0; k < output->messages_count; k++) {
            raft_message_clear(&output->messages[k]);
        }
    }
}

void node_carry_out(struct node *node)
{
    TL_ASSERT(!node->is_failed);
    struct node_batch *batch = NULL;
    for (uint32_t i = 0; i < node->groups_count && !node->is_failed; i++) {
        take_output(node->groups[i], &batch);
    }
    if (batch != NULL && !node->is_failed) {
        node_issue_batch(node, batch);
    } else if (batch != NULL) {
        batch->next = node->batches_free;
        node->batches_free = batch;
    }
    send_messages(node);
}

void node_group_make_room(struct node_group *group)
{
    if (!group->node->is_failed && raft_must_output(group->raft)) node_carry_out(group->node);
}

/* ---- the turn ---- */

static void check_log_commit(struct node *node)
{
    if (node->batches_oldest == NULL) return;
    const struct node_log_batch *oldest = &node->batches_oldest->log;
    uint64_t age_ns = node->now_ns - oldest->issued_ns;
    if (age_ns > NODE_LOG_COMMIT_SLOW_NS && oldest->sequence > node->slow_sequence) {
        node->slow_sequence = oldest->sequence;
        node->metrics.log_commits_slow_count++;
        node_log(node, LOG_LEVEL_WARN, "disk_slow", "log_commit_age_ms=%llu",
                 (unsigned long long)(age_ns / 1000000));
    }
    if (age_ns < NODE_LOG_COMMIT_MAX_NS) return;
    /* The process itself may have been stopped for as long: what its disk has done meanwhile is
     * told only after this turn. So it is after a stop within the grace. */
    bool was_stopped = node->now_ns - node->overdue_look_ns > 2 * NODE_LOG_COMMIT_LOOK_NS &&
                       node->options.mutation != NODE_MUTATION_ONE_GRACE;
    if (oldest->sequence > node->overdue_sequence || was_stopped) {
        node->overdue_sequence = oldest->sequence;
        node->overdue_ns = node->now_ns;
    }
    node->overdue_look_ns = node->now_ns;
    if (node->now_ns < node->overdue_ns + NODE_LOG_COMMIT_GRACE_NS &&
        node->options.mutation != NODE_MUTATION_NO_GRACE) {
        return;
    }
    struct tl_fault fault;
    tl_fault_set(&fault, data_dir_path(node->data_dir), UINT32_MAX, 0,
                 "a log commit has not ended for %llu s",
                 (unsigned long long)(age_ns / 1000000000));
    node_fail(node, &fault);
}

static uint64_t log_commit_deadline(const struct node *node)
{
    if (node->batches_oldest == NULL) return UINT64_MAX;
    const struct node_log_batch *oldest = &node->batches_oldest->log;
    if (oldest->sequence <= node->overdue_sequence) {
        uint64_t end_ns = node->overdue_ns + NODE_LOG_COMMIT_GRACE_NS;
        return TL_MIN(end_ns, node->overdue_look_ns + NODE_LOG_COMMIT_LOOK_NS);
    }
    bool is_reported = oldest->sequence <= node->slow_sequence;
    return oldest->issued_ns + (is_reported ? NODE_LOG_COMMIT_MAX_NS : NODE_LOG_COMMIT_SLOW_NS + 1);
}

/* How far this replica was behind when it last heard from its leader. */
static void note_caught_up(struct node_group *group)
{
    if (!group->has_heard_leader) return;
    group->has_heard_leader = false;
    struct raft_status status;
    raft_get_status(group->raft, &status);
    if (status.leader == RAFT_ID_NONE) return;
    if (node_group_is_caught_up(group, &status)) group->caught_up_ns = group->node->now_ns;
}

static void run_pass(struct node *node)
{
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct node_group *group = node->groups[i];
        node_group_advance(group);
        node_group_begin_reads(group);
        node_group_yield(group);
        node_group_push_writes(group);
    }
    node_leader_transfers_step(node);
    node_carry_out(node);
    for (uint32_t i = 0; i < node->groups_count && !node->is_failed; i++) {
        node_group_apply(node->groups[i]);
    }
    if (node->is_failed) return;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        note_caught_up(node->groups[i]);
        node_group_ready_reads(node->groups[i]);
    }
    node_deliver_writes(node);
    node_deliver_reads(node);
}

static void expire_requests(struct node *node)
{
    if (node->now_ns < node->requests_check_ns) return;
    uint64_t check_ns = NODE_NEVER;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        node_group_expire_writes(node->groups[i], &check_ns);
        node_group_expire_reads(node->groups[i], &check_ns);
    }
    node->requests_check_ns = check_ns;
    node_deliver_writes(node);
    node_deliver_reads(node);
}

static uint64_t next_deadline(const struct node *node)
{
    uint64_t deadline_ns = node->requests_check_ns;
    if (node->groups_count == 0) {
        deadline_ns = node_birth_deadline(node);
    } else {
        deadline_ns = TL_MIN(deadline_ns, node_member_deadline(node));
        deadline_ns = TL_MIN(deadline_ns, node_leader_transfers_deadline(node));
        deadline_ns = TL_MIN(deadline_ns, node_log_queries_deadline(node));
    }
    deadline_ns = TL_MIN(deadline_ns, log_commit_deadline(node));
    deadline_ns = TL_MIN(deadline_ns, node->digest_deadline_ns);
    if (node->damage_ns != 0) deadline_ns = TL_MIN(deadline_ns, node->damage_ns);
    for (uint32_t i = 0; i < node->groups_count; i++) {
        const struct node_group *group = node->groups[i];
        deadline_ns = TL_MIN(deadline_ns, group->deadline_ns);
        deadline_ns = TL_MIN(deadline_ns, node_group_freeze_deadline(group));
        if (group->has_more_to_apply || group->has_more_to_push) deadline_ns = node->now_ns;
    }
    deadline_ns = TL_MIN(deadline_ns, node_send_deadline(node));
    deadline_ns = TL_MIN(deadline_ns, node_receive_deadline(node));
    if (node->has_new_requests) deadline_ns = node->now_ns;
    return deadline_ns;
}

static void turn_groups(struct node *node)
{
    uint32_t passes_count = 0;
    node_send_step(node);
    node_receive_step(node);
    if (node->is_failed) return;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        node->groups[i]->applied_bytes = 0;
        node->groups[i]->pushed_bytes = 0;
    }
    do {
        node->has_new_requests = false;
        run_pass(node);
        passes_count++;
    } while (!node->is_failed && node->has_new_requests && passes_count < NODE_TURN_PASSES_MAX);
    if (node->is_failed) return;
    expire_requests(node);
    node_drain_step(node);
    for (uint32_t i = 0; i < node->groups_count; i++) {
        node_group_maybe_freeze(node->groups[i]);
        views_collect(node->groups[i]->views);
    }
    node_install_retire(node);
    node_maybe_flush(node);
    node_log_queries_step(node);
    node_digests_step(node);
}

static void set_peers(struct node *node)
{
    struct member members[RAFT_MEMBERS_MAX];
    for (uint32_t i = 0; i < node->peers_count; i++) members[i] = node->peers[i].member;
    node->has_new_peers = false;
    node->io.set_peers(node->io.context, &node->placement->genesis.cluster_id, members,
                       node->peers_count);
}

void node_turn(struct node *node)
{
    node_enter(node);
    if (node->is_failed) return;
    uint64_t began_ns = node->now_ns; /* which requests made by answers move on */
    node_check(node);
    check_log_commit(node);
    node_check_damage(node);
    if (node->is_failed) return;
    if (node->groups_count == 0) node_birth_step(node);
    if (node->groups_count > 0) {
        node_member_step(node);
        if (node->has_new_peers && !node->is_failed) set_peers(node);
        if (!node->is_failed) turn_groups(node);
    }
    if (node->is_failed) return;
    node_check(node);
    node->io.set_timer(node->io.context, next_deadline(node));
    node_enter(node);
    histogram_add(&node->metrics.turn_us, (node->now_ns - began_ns) / 1000);
}
