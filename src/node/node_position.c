/* node_position.c - members that come back with less than they had promised.
 *
 * A disk restored from an old copy has forgotten votes and acknowledgements that others count on.
 * Its store id is the same, unlike a wiped disk's: nothing else tells it from the store it was. A
 * process says once to each peer what it found on its disk. Whoever had more promised by an earlier
 * process of that store knows better, and refuses it.
 *
 * What was promised is taken down from the messages themselves, each of which names the process
 * that sent it. So what a process acknowledges itself is never held against what it began with, in
 * whatever order its words arrive and over whichever connections. A disk of a later term than the
 * promise is not judged: a leader since may have truncated what an older one was told.
 *
 * What it found is the first frame on each raft connection, and until it is judged no message of
 * that process counts, nor after it is refused: two voters of three may need its vote, which would
 * elect one that lacks what it had acknowledged. A peer of an older version says it on its forward
 * connection, while its votes arrive over another one; of those all counts until it is refused.
 */

#include "node_internal.h"

static enum peer_class class_of(const struct node *node)
{
    bool is_late = node->options.mutation == NODE_MUTATION_LATE_POSITION;
    return is_late ? PEER_CLASS_FORWARD : PEER_CLASS_RAFT;
}

static void send(struct node *node, raft_id peer, const struct position *position)
{
    node->metrics.frames_sent_count++;
    struct buf *frame = position_encode(position);
    /* A position that is lost with its connection is sent again on the next. Votes must not
     * overtake it, so it takes the same lane. */
    if (class_of(node) == PEER_CLASS_RAFT) {
        (void)node->io.send_urgent(node->io.context, peer, frame);
    } else {
        (void)node->io.send(node->io.context, peer, PEER_CLASS_FORWARD, frame);
    }
}

void node_position_peer_up(struct node *node, struct node_peer *peer, enum peer_class class)
{
    if (node->groups_count == 0 || class != class_of(node)) return;
    struct position position = {.life = node->life, .groups_count = node->groups_count};
    bool knows_records = (peer->features[PEER_CLASS_RAFT] & HELLO_FEATURE_POSITION) != 0;
    if (knows_records) position.records_max = node->options.idempotency_records;
    for (raft_group id = 0; id < node->groups_count; id++) {
        position.last[id] = node->groups[id]->start_last;
        position.term[id] = node->groups[id]->start_term;
    }
    send(node, peer->id, &position);
}

/* Those of this process, from now on the newest. Of too many the oldest are forgotten: taken
 * together with others they could not be told from what a process has promised itself. */
static struct node_promises *promises_of(struct node_peer *peer, uint64_t life)
{
    struct node_promises *all = peer->promises;
    uint32_t at = peer->promises_count;
    while (at > 0 && all[at - 1].life != life) at--;
    if (at > 0 && at == peer->promises_count) return &all[at - 1];
    struct node_promises found = {.life = life};
    if (at > 0) {
        found = all[at - 1];
    } else if (peer->promises_count < NODE_LIVES_MAX) {
        at = ++peer->promises_count;
    } else {
        at = 1;
    }
    memmove(&all[at - 1], &all[at], (peer->promises_count - at) * sizeof all[0]);
    all[peer->promises_count - 1] = found;
    return &all[peer->promises_count - 1];
}

/* Those that leave only when the term, and what they acknowledge in it, is durable. */
void node_position_heed(struct node_peer *peer, uint64_t life, const struct raft_message *message)
{
    bool is_ack = message->type == RAFT_APPEND_REPLY && message->reject == RAFT_REJECT_NONE;
    bool is_vote = message->type == RAFT_VOTE_REPLY && message->granted;
    bool is_own_term = message->type == RAFT_VOTE || message->type == RAFT_APPEND;
    if (!is_ack && !is_vote && !is_own_term) return;
    if (TL_MAX(message->term, message->index) > RAFT_NUMBER_MAX) return; /* as the core judges */
    struct node_promises *promises = promises_of(peer, life);
    raft_term *term = &promises->term[message->group];
    raft_index *index = &promises->index[message->group];
    if (message->term > *term) *index = 0;
    if (message->term >= *term && is_ack) *index = TL_MAX(*index, message->index);
    *term = TL_MAX(*term, message->term);
}

static bool breaks(const struct node_promises *promises, const struct position *position)
{
    uint32_t groups_count = TL_MIN(position->groups_count, NODE_GROUPS_MAX);
    for (raft_group id = 0; id < groups_count; id++) {
        bool has_less =
            position->term[id] == promises->term[id] && position->last[id] < promises->index[id];
        if (position->term[id] < promises->term[id] || has_less) return true;
    }
    return false;
}

/* Never to be started again: the next process would begin with what this one has learnt, a term
 * perhaps that hides what it lacks. */
static void be_refused(struct node *node)
{
    struct tl_fault fault;
    if (node->is_failed) return;
    if (data_dir_mark_refused(node->data_dir, &fault) != TL_OK) {
        node_log(node, LOG_LEVEL_ERROR, "mark_failed", "reason=\"%s\"", fault.reason);
    }
    node_member_expelled(node, NODE_OLD_COPY_TEXT);
}

bool node_position_admits(const struct node *node, const struct node_peer *peer, uint64_t life)
{
    if (node->options.mutation == NODE_MUTATION_LATE_POSITION) return true;
    if (life == peer->refused_life) return false;
    bool is_said_first = (peer->features[PEER_CLASS_RAFT] & HELLO_FEATURE_POSITION) != 0;
    return !is_said_first || life == peer->judged_life;
}

/* All replicas evict by the number in the entry. If it were that of the node that was asked, one
 * that keeps fewer would refuse its clients what the others accept, and make the others forget. */
void node_stamp_records(const struct node *node, struct buf *entry, const struct command *command)
{
    if (!command->has_idempotency_key || node->options.idempotency_records == 0) return;
    uint32_t said = command->records_max == 0 ? RECORDS_MAX_DEFAULT : command->records_max;
    uint32_t records_max = TL_MAX(said, node->options.idempotency_records);
    for (uint32_t i = 0; i < node->peers_count; i++) {
        records_max = TL_MAX(records_max, node->peers[i].records_max);
    }
    if (records_max != said) command_set_records_max(entry, records_max);
}

enum tl_err node_on_position(struct node *node, struct node_peer *peer, struct bytes payload)
{
    struct position position;
    enum tl_err err = position_decode(payload, &position);
    if (err != TL_OK) return err;
    if (position.is_refused) {
        if (position.life == node->life) be_refused(node); /* else meant for an earlier process */
        return TL_OK;
    }
    bool is_old_copy = false;
    for (uint32_t i = 0; i < peer->promises_count; i++) {
        const struct node_promises *promises = &peer->promises[i];
        is_old_copy =
            is_old_copy ||
            ((promises->life != position.life ||
              node->options.mutation == NODE_MUTATION_OWN_PROMISES) &&
             breaks(promises, &position));
    }
    if (!is_old_copy || node->options.mutation == NODE_MUTATION_TAKE_OLD_COPY) {
        peer->judged_life = position.life;
        peer->records_max = position.records_max;
        return TL_OK;
    }
    peer->refused_life = position.life;
    node_log(node, LOG_LEVEL_ERROR, "old_copy_refused", "address=%s", peer->member.address);
    position.is_refused = true;
    send(node, peer->id, &position);
    return TL_OK;
}
