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
 */

#include "node_internal.h"

static void send(struct node *node, raft_id peer, const struct position *position)
{
    node->metrics.frames_sent_count++;
    /* Lost with its connection: said again on the next. */
    (void)node->io.send(node->io.context, peer, PEER_CLASS_FORWARD, position_encode(position));
}

void node_position_peer_up(struct node *node, struct node_peer *peer)
{
    if (node->groups_count == 0) return;
    struct position position = {.life = node->life, .groups_count = node->groups_count};
    for (raft_group id = 0; id < node->groups_count; id++) {
        position.last[id] = node->groups[id]->start_last;
        position.term[id] = node->groups[id]->start_term;
    }
    send(node, peer->id, &position);
}

static void promise(struct node_promises *promises, raft_group group, raft_term term,
                    raft_index index)
{
    if (term < promises->term[group]) return;
    bool is_later = term > promises->term[group];
    promises->index[group] = is_later ? index : TL_MAX(promises->index[group], index);
    promises->term[group] = term;
}

/* Those of this process, from now on the newest. Of too many the oldest two become one. */
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
        for (raft_group id = 0; id < NODE_GROUPS_MAX; id++) {
            promise(&all[1], id, all[0].term[id], all[0].index[id]);
        }
        all[1].life = 0;
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
    promise(promises_of(peer, life), message->group, message->term, is_ack ? message->index : 0);
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

enum tl_err node_on_position(struct node *node, struct node_peer *peer, struct bytes payload)
{
    struct position position;
    enum tl_err err = position_decode(payload, &position);
    if (err != TL_OK) return err;
    if (position.is_refused) {
        if (position.life != node->life) return TL_OK; /* meant for an earlier process */
        node_member_expelled(node, "the cluster has promises of this store that its disk does not "
                                   "have: an old copy; empty the directory to join again");
        return TL_OK;
    }
    for (uint32_t i = 0; i < peer->promises_count && position.life != peer->life; i++) {
        const struct node_promises *promises = &peer->promises[i];
        if (promises->life != position.life && breaks(promises, &position)) {
            peer->is_old_copy = true; /* and stays one, whatever terms it learns of */
        }
    }
    peer->life = position.life;
    if (!peer->is_old_copy || node->options.mutation == NODE_MUTATION_TAKE_OLD_COPY) return TL_OK;
    node_log(node, LOG_LEVEL_ERROR, "old_copy_refused", "address=%s", peer->member.address);
    position.is_refused = true;
    send(node, peer->id, &position);
    return TL_OK;
}
