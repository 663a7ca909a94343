/* node_position.c - members that come back with less than they had acknowledged.
 *
 * A disk restored from an old copy has forgotten votes and acknowledgements that others count on.
 * Its store id is the same, unlike a wiped disk's: nothing else tells it from the store it was. A
 * process says to each peer what it found on its disk, on every new connection: of the raft class,
 * whose acknowledgements are its own from then on, and of the forward class, which loses nothing.
 * The leader that an earlier process of that store acknowledged to knows better, and refuses it.
 *
 * What was acknowledged is taken down when the connection to a process is lost, and belongs to that
 * process only if it has said who it is over this connection. So what a process acknowledges itself
 * is never held against what it began with, in whatever order its words arrive. Only this leader's
 * own term counts: a newer leader may have truncated what an older one was told.
 */

#include "node_internal.h"

static void send(struct node *node, raft_id peer, enum peer_class class, bool is_refused)
{
    struct position position = {
        .is_refused = is_refused, .life = node->life, .groups_count = node->groups_count};
    for (raft_group id = 0; id < node->groups_count; id++) {
        position.last[id] = node->groups[id]->start_last;
        position.term[id] = node->groups[id]->start_term;
    }
    node->metrics.frames_sent_count++;
    /* Lost with its connection: said again on the next. */
    (void)node->io.send(node->io.context, peer, class, position_encode(&position));
}

void node_position_peer_up(struct node *node, struct node_peer *peer, enum peer_class class)
{
    if (class == PEER_CLASS_RAFT) peer->has_said_life = false;
    if (class != PEER_CLASS_BULK && node->groups_count > 0) send(node, peer->id, class, false);
}

static void take_down(struct node_group *group, struct node_peer *peer)
{
    struct raft_status status;
    raft_get_status(group->raft, &status);
    for (uint32_t i = 0; i < status.peers_count; i++) {
        if (status.peers[i].id != peer->id) continue;
        peer->acked_index[group->id] = status.peers[i].match;
        peer->acked_term[group->id] = status.term;
    }
}

void node_position_peer_down(struct node *node, struct node_peer *peer)
{
    for (raft_group id = 0; id < node->groups_count && peer->has_said_life; id++) {
        if (raft_role_of(node->groups[id]->raft) == RAFT_LEADER) take_down(node->groups[id], peer);
    }
    peer->has_said_life = false;
}

static bool has_less(const struct node_group *group, const struct node_peer *peer,
                     const struct position *position)
{
    raft_term term = raft_current_term(group->raft);
    return raft_role_of(group->raft) == RAFT_LEADER && peer->acked_term[group->id] == term &&
           position->term[group->id] <= term &&
           position->last[group->id] < peer->acked_index[group->id];
}

enum tl_err node_on_position(struct node *node, struct node_peer *peer, struct bytes payload)
{
    struct position position;
    enum tl_err err = position_decode(payload, &position);
    if (err != TL_OK) return err;
    if (position.is_refused) {
        node_member_expelled(node, "the cluster has acknowledgements of this store that its disk "
                                   "does not have: an old copy; empty the directory to join again");
        return TL_OK;
    }
    bool is_new = position.life != peer->life;
    peer->life = position.life;
    peer->has_said_life = peer->is_up[PEER_CLASS_RAFT];
    bool is_old_copy = false;
    uint32_t groups_count = TL_MIN(node->groups_count, position.groups_count);
    for (raft_group id = 0; id < groups_count && is_new; id++) {
        is_old_copy = is_old_copy || has_less(node->groups[id], peer, &position);
    }
    if (is_old_copy) {
        bool has_forward = peer->is_up[PEER_CLASS_FORWARD];
        enum peer_class class = has_forward ? PEER_CLASS_FORWARD : PEER_CLASS_RAFT;
        node_log(node, LOG_LEVEL_ERROR, "old_copy_refused", "address=%s", peer->member.address);
        peer->life = 0; /* judged again when it says the same again */
        send(node, peer->id, class, true);
    }
    return TL_OK;
}
