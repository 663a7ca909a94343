/* node_digest.c - digests of the states, told to the peers and compared with theirs.
 *
 * Equal logs give equal states, unless memory, a compiler or this program is wrong on one of the
 * nodes. The chain of hashes cannot see that: it covers what was agreed on, not what was made of
 * it. So each replica takes a digest of a group's state at every 256th applied index and tells it
 * to all others, at the pace of heartbeats and only when there is a new one.
 *
 *   apply -> own point -> compare with theirs -----+
 *   FRAME_DIGESTS -> a peer's point -> compare ----+--> all equal: nothing
 *                                                  +--> a quorum has ours, somebody not: reported
 *                                                  +--> a quorum has another one: we have diverged
 *                                                  +--> no quorum of anything: reported
 *
 * A node of which a replica has diverged serves nobody and hands over all groups that it leads, but
 * it keeps the logs, acknowledges and votes: its logs are checked by their hashes, and the others
 * may need it for their quorum. A mark in the data directory keeps it from serving after a restart.
 * What it has flushed is left as it is, for whoever looks for the reason. With two voters, or when
 * three differ, nobody can say who is right: all say that they differ, and serve on.
 */

#include "node_internal.h"

/* What others have told stays: of their states nothing is new. */
void node_group_reset_digests(struct node_group *group)
{
    group->digests[0] = (struct node_digest_ring){.id = group->node->self};
    group->digest_index = 0;
}

/* ---- rings ---- */

static struct digest_point *slot_of(struct node_digest_ring *ring, const struct node_group *group,
                                    raft_index index)
{
    return &ring->points[index / group->node->options.digest_interval % DIGEST_POINTS_MAX];
}

static const struct digest_point *find_point(const struct node_digest_ring *ring,
                                             const struct node_group *group, raft_index index)
{
    const struct digest_point *point =
        &ring->points[index / group->node->options.digest_interval % DIGEST_POINTS_MAX];
    return point->index == index ? point : NULL;
}

/* The member's ring; one whose member has left is taken over. */
static struct node_digest_ring *ring_of(struct node_group *group, raft_id id)
{
    struct node_digest_ring *room = NULL;
    for (uint32_t i = 0; i < NODE_DIGEST_RINGS; i++) {
        struct node_digest_ring *ring = &group->digests[i];
        if (ring->id == id) return ring;
        bool is_free = ring->id == RAFT_ID_NONE || node_find_peer(group->node, ring->id) == NULL;
        if (room == NULL && is_free && i > 0) room = ring;
    }
    TL_ASSERT(room != NULL); /* there are as many rings as members, and `id` is one */
    *room = (struct node_digest_ring){.id = id};
    return room;
}

/* ---- judging ---- */

struct same_digest {
    const struct node_group *group;
    const struct digest_point *point;
};

static bool has_same_digest(const void *context, raft_id id)
{
    const struct same_digest *same = context;
    for (uint32_t i = 0; i < NODE_DIGEST_RINGS; i++) {
        const struct node_digest_ring *ring = &same->group->digests[i];
        if (ring->id != id) continue;
        const struct digest_point *point = find_point(ring, same->group, same->point->index);
        return point != NULL && hash_equal(point->digest, same->point->digest);
    }
    return false;
}

static bool quorum_has(const struct node_group *group, const struct digest_point *point)
{
    struct raft_status status;
    raft_get_status(group->raft, &status);
    const struct same_digest same = {.group = group, .point = point};
    return raft_conf_has_quorum(&status.conf, has_same_digest, &same);
}

static void diverge(struct node_group *group, raft_index index)
{
    struct node *node = group->node;
    if (group->diverged_at != 0) return;
    group->diverged_at = index;
    node->is_diverged = true;
    node_log(node, LOG_LEVEL_ERROR, "diverged",
             "group=%u index=%llu reason=\"the state is not that of most replicas; this node does "
             "not serve any more\"",
             group->id, (unsigned long long)index);
    for (uint32_t i = 0; i < node->groups_count; i++) {
        node_group_refuse_writes(node->groups[i]);
        node_group_refuse_reads(node->groups[i]);
    }
    node->has_new_requests = true; /* what it leads is handed over */
}

/* The one file that the loop's thread writes: it has nobody left to keep waiting. */
static void mark_directory(struct node *node)
{
    node->is_marked_diverged = true;
    const struct node_group *group = node->groups[0];
    for (uint32_t i = 0; i < node->groups_count; i++) {
        if (node->groups[i]->diverged_at != 0) group = node->groups[i];
    }
    struct tl_fault fault;
    if (data_dir_mark_diverged(node->data_dir, group->id, group->diverged_at, &fault) != TL_OK) {
        node_fail(node, &fault);
    }
}

enum tl_err node_recover_diverged(struct node *node, struct tl_fault *out_fault)
{
    raft_group id = 0;
    raft_index index = 0;
    enum tl_err err = data_dir_diverged(node->data_dir, &id, &index, out_fault);
    if (err != TL_OK) return err == TL_ERR_NOT_FOUND ? TL_OK : err;
    node->is_marked_diverged = true;
    node->is_diverged = true;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        if (node->groups[i]->id == id) node->groups[i]->diverged_at = TL_MAX(index, 1u);
    }
    node_log(node, LOG_LEVEL_ERROR, "diverged",
             "group=%u index=%llu reason=\"found before the last stop; this node does not serve; "
             "empty its data directory and start it\"",
             id, (unsigned long long)index);
    return TL_OK;
}

static void note_difference(struct node_group *group, struct node_digest_ring *ring,
                            const struct digest_point *own, const struct digest_point *theirs)
{
    struct node *node = group->node;
    if (ring->differs_at == 0) {
        const struct member *member = node_member(node, ring->id);
        char texts[2][HASH_TEXT_BYTES];
        hash_format(own->digest, texts[0]);
        hash_format(theirs->digest, texts[1]);
        ring->differs_at = own->index;
        node_log(node, LOG_LEVEL_ERROR, "digests_differ",
                 "group=%u index=%llu member=%s own=%s other=%s", group->id,
                 (unsigned long long)own->index, member != NULL ? member->address : "none",
                 texts[0], texts[1]);
    }
    if (!quorum_has(group, own) && quorum_has(group, theirs)) diverge(group, own->index);
}

/* Compares what this replica and another have at an index, when both have something. */
static void compare(struct node_group *group, struct node_digest_ring *ring, raft_index index)
{
    const struct digest_point *own = find_point(&group->digests[0], group, index);
    const struct digest_point *theirs = find_point(ring, group, index);
    if (own == NULL || theirs == NULL || group->node->is_failed) return;
    if (!hash_equal(own->digest, theirs->digest)) {
        note_difference(group, ring, own, theirs);
    } else if (index > ring->differs_at) {
        ring->differs_at = 0; /* sums of hashes do not meet by chance: it has got a new state */
    }
}

/* ---- points ---- */

void node_group_note_digest(struct node_group *group)
{
    const struct group_state *state = &group->state.group;
    *slot_of(&group->digests[0], group, state->index) =
        (struct digest_point){.index = state->index, .digest = group_state_digest(state)};
    group->digest_index = state->index;
    group->node->has_new_digests = true;
    for (uint32_t i = 1; i < NODE_DIGEST_RINGS; i++) {
        if (group->digests[i].id != RAFT_ID_NONE) compare(group, &group->digests[i], state->index);
    }
}

static void take_report(struct node_group *group, raft_id peer, const struct digest_report *report)
{
    struct node_digest_ring *ring = ring_of(group, peer);
    for (uint32_t i = 0; i < report->points_count; i++) {
        const struct digest_point *point = &report->points[i];
        if (point->index % group->node->options.digest_interval != 0) continue;
        struct digest_point *slot = slot_of(ring, group, point->index);
        if (slot->index > point->index) continue; /* told again after a new connection */
        *slot = *point;
        compare(group, ring, point->index);
    }
}

enum tl_err node_on_digests(struct node *node, raft_id peer, struct bytes payload)
{
    struct reader reader = reader_make(payload);
    while (!reader_is_done(&reader)) {
        struct digest_report report;
        enum tl_err err = digest_report_decode(&reader, &report);
        if (err != TL_OK) return err;
        struct node_group *group = node_find_group(node, report.group);
        if (group != NULL && !node->is_failed) take_report(group, peer, &report);
    }
    return TL_OK;
}

/* ---- telling ---- */

void node_digests_peer_up(struct node *node, raft_id peer)
{
    if (peer == node->self) return;
    for (uint32_t i = 0; i < node->groups_count; i++) ring_of(node->groups[i], peer)->told = 0;
    node->has_new_digests = true;
}

/* What the peer has not been told of a group. */
static void make_report(struct node_group *group, raft_id peer, struct digest_report *report)
{
    report->group = group->id;
    report->points_count = 0;
    raft_index interval = group->node->options.digest_interval;
    raft_index kept = interval * DIGEST_POINTS_MAX;
    raft_index told = ring_of(group, peer)->told;
    raft_index index = group->digest_index > kept ? group->digest_index - kept : 0;
    for (index = TL_MAX(index, told) + interval; index <= group->digest_index; index += interval) {
        const struct digest_point *point = find_point(&group->digests[0], group, index);
        if (point != NULL) report->points[report->points_count++] = *point;
    }
}

static bool has_news(struct node *node, raft_id peer)
{
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct node_group *group = node->groups[i];
        if (ring_of(group, peer)->told < group->digest_index) return true;
    }
    return false;
}

static void tell(struct node *node, struct node_peer *peer)
{
    struct buf *frame = buf_create(FRAME_HEADER_BYTES +
                                   node->groups_count * digest_report_bytes(DIGEST_POINTS_MAX));
    frame->count = FRAME_HEADER_BYTES;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct digest_report report;
        make_report(node->groups[i], peer->id, &report);
        if (report.points_count > 0) digest_report_encode(&report, frame);
    }
    frame_seal(frame, FRAME_DIGESTS);
    peer->digests_ns = node->now_ns;
    node->metrics.frames_sent_count++;
    if (!node->io.send(node->io.context, peer->id, PEER_CLASS_RAFT, frame)) return;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct node_group *group = node->groups[i];
        ring_of(group, peer->id)->told = group->digest_index;
    }
}

void node_digests_step(struct node *node)
{
    if (node->is_diverged && !node->is_marked_diverged) mark_directory(node);
    if (node->is_failed) return;
    bool is_due = node->now_ns >= node->digest_deadline_ns;
    if (!node->has_new_digests && !is_due) return;
    node->has_new_digests = false;
    node->digest_deadline_ns = NODE_NEVER;
    for (uint32_t i = 0; i < node->peers_count; i++) {
        struct node_peer *peer = &node->peers[i];
        if (peer->id == node->self || !peer->is_up[PEER_CLASS_RAFT]) continue;
        if (!has_news(node, peer->id)) continue;
        uint64_t due_ns = peer->digests_ns + node->options.heartbeat_interval_ns;
        if (peer->digests_ns == 0 || node->now_ns >= due_ns) {
            tell(node, peer);
        } else {
            node->digest_deadline_ns = TL_MIN(node->digest_deadline_ns, due_ns);
        }
    }
}

/* ---- what follows ---- */

static bool differs(const struct node_group *group, raft_id id)
{
    for (uint32_t i = 1; i < NODE_DIGEST_RINGS; i++) {
        const struct node_digest_ring *ring = &group->digests[i];
        if (ring->id == id) return ring->differs_at != 0;
    }
    return false;
}

bool node_differs(const struct node *node, raft_id id)
{
    for (uint32_t i = 0; i < node->groups_count && !node->is_diverged; i++) {
        if (differs(node->groups[i], id)) return true;
    }
    return false;
}

void node_group_mute(struct node_group *group)
{
    struct raft_status status;
    raft_get_status(group->raft, &status);
    bool is_alone = status.conf.voters_count == 1 && status.conf.outgoing_count == 0;
    if (is_alone || status.transfer_target != RAFT_ID_NONE) return;
    for (uint32_t i = 0; i < group->output->messages_count; i++) {
        struct raft_message *message = &group->output->messages[i];
        switch (message->type) {
        case RAFT_PREVOTE:
        case RAFT_VOTE:
        case RAFT_APPEND:
        case RAFT_HEARTBEAT:
        case RAFT_READ_REPLY:
        case RAFT_TIMEOUT_NOW:
            raft_message_clear(message); /* to nobody, then */
            break;
        default:
            break;
        }
    }
}

void node_group_describe_digests(const struct node_group *group,
                                 struct node_group_status *out_status)
{
    out_status->differs_at = group->diverged_at;
    for (uint32_t i = 1; i < NODE_DIGEST_RINGS; i++) {
        const struct node_digest_ring *ring = &group->digests[i];
        if (ring->id == RAFT_ID_NONE || ring->differs_at == 0) continue;
        if (node_find_peer(group->node, ring->id) == NULL) continue;
        out_status->differing[out_status->differing_count++] = ring->id;
        if (out_status->differs_at == 0 || ring->differs_at < out_status->differs_at) {
            out_status->differs_at = ring->differs_at;
        }
    }
    if (out_status->differing_count > 0) out_status->digests = NODE_DIGESTS_DIFFER;
    if (group->diverged_at != 0) out_status->digests = NODE_DIGESTS_DIVERGED;
}
