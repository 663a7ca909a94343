/* node_status.c - what the node says about itself, and draining. */

#include "node_internal.h"

raft_id node_self(const struct node *node)
{
    return node->self;
}

const char *node_peer_address(const struct node *node)
{
    return node->options.peer_address;
}

const struct member *node_member(const struct node *node, raft_id id)
{
    const struct node_peer *peer = node_find_peer((struct node *)node, id);
    return peer != NULL ? &peer->member : NULL;
}

struct views *node_views(struct node *node, raft_group group)
{
    struct node_group *found = node_find_group(node, group);
    return found != NULL ? found->views : NULL;
}

uint64_t node_applied_time_us(const struct node *node, raft_group group)
{
    const struct node_group *found = node_find_group(node, group);
    return found != NULL ? found->state.group.time_us : 0;
}

uint64_t node_applied_revision(const struct node *node, raft_group group)
{
    const struct node_group *found = node_find_group(node, group);
    return found != NULL ? found->state.group.revision : 0;
}

static uint64_t monotonic_ns(const struct node *node)
{
    return TL_MAX(node->io.now_ns(node->io.context), node->now_ns);
}

/* A leader begins its term with an entry: until that is applied here, what its predecessors
 * committed may not all be known to be (thesis 6.4). */
bool node_group_is_caught_up(const struct node_group *group, const struct raft_status *status)
{
    return group->state.group.term == status->term &&
           group->state.group.index >= status->leader_commit;
}

uint64_t node_age_ms(const struct node *node, raft_group group)
{
    const struct node_group *found = node_find_group(node, group);
    if (found == NULL) return UINT64_MAX;
    if (raft_role_of(found->raft) == RAFT_LEADER) {
        struct raft_status status;
        raft_get_status(found->raft, &status);
        if (status.has_quorum && node_group_is_caught_up(found, &status)) return 0;
    }
    if (found->caught_up_ns == 0) return UINT64_MAX;
    return (monotonic_ns(node) - found->caught_up_ns) / 1000000;
}

bool node_is_replaying(const struct node *node)
{
    for (uint32_t i = 0; i < node->groups_count; i++) {
        const struct node_group *group = node->groups[i];
        if (group->state.group.index < group->replay_target) return true;
    }
    return false;
}

static enum node_stage stage_of(const struct node *node)
{
    if (node->is_draining) return NODE_STAGE_DRAINING;
    if (node->groups_count == 0) return NODE_STAGE_BIRTH;
    return node_is_replaying(node) ? NODE_STAGE_REPLAY : NODE_STAGE_RUNNING;
}

static bool is_group_ready(const struct node *node, raft_group group)
{
    return raft_leader(node->groups[group]->raft) != RAFT_ID_NONE &&
           node_age_ms(node, group) <= NODE_READY_AGE_MS;
}

bool node_is_ready(const struct node *node)
{
    if (node->is_failed || stage_of(node) != NODE_STAGE_RUNNING) return false;
    if (node->is_diverged) return false;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        if (!is_group_ready(node, i)) return false;
    }
    return true;
}

void node_get_status(const struct node *node, struct node_status *out_status)
{
    *out_status = (struct node_status){
        .stage = stage_of(node),
        .store_id = node->store_id,
        .groups_count = node->groups_count,
        .is_diverged = node->is_diverged,
        .requests_waiting_count = node->clients.count,
        .request_bytes_waiting = node->clients.bytes,
        .log_used_bytes = log_store_used_bytes(node->log_store),
        .map_limit_bytes = node->options.table_map_bytes,
        .log_limit_bytes = node->options.log_map_bytes,
        .replayed_count = node->replayed_count,
    };
    struct node_space space;
    node_space_look(node, &space);
    out_status->free_bytes = space.free_bytes;
    out_status->space_lack = node_space_judge(node, &space);
    if (node->batches_oldest != NULL) {
        uint64_t age_ns = monotonic_ns(node) - node->batches_oldest->log.issued_ns;
        out_status->log_commit_age_ms = (uint32_t)(age_ns / 1000000);
        out_status->is_log_commit_slow = age_ns > NODE_LOG_COMMIT_SLOW_NS;
    }
    node_birth_waits_for(node, out_status->waits_for, sizeof out_status->waits_for);
    if (node->placement == NULL) return;
    out_status->cluster_id = node->placement->genesis.cluster_id;
    out_status->placement_epoch = node_member_newest(node)->epoch;
    out_status->removed_count = node_member_newest(node)->removed_count;
    out_status->members_count = node->peers_count;
    for (uint32_t i = 0; i < node->peers_count; i++) {
        const struct node_peer *peer = &node->peers[i];
        const struct node_space *left = peer->id == node->self ? &space : &peer->space;
        out_status->member_free_bytes[i] = left->free_bytes;
        out_status->member_map_free_bytes[i] = left->map_free_bytes;
        out_status->member_space_lack[i] = node_space_judge(node, left);
        out_status->members[i] = peer->member;
        out_status->member_roles[i] = peer->role;
        out_status->member_is_connected[i] = peer->id == node->self || peer->is_up[PEER_CLASS_RAFT];
        out_status->member_log_commit_age_ms[i] =
            peer->id == node->self ? out_status->log_commit_age_ms : peer->log_commit_age_ms;
    }
}

void node_get_group_status(const struct node *node, raft_group group,
                           struct node_group_status *out_status)
{
    const struct node_group *found = node_find_group(node, group);
    TL_ASSERT(found != NULL);
    *out_status = (struct node_group_status){
        .group = group,
        .state = found->state.group,
        .flushed = found->flushed,
        .map_used_bytes = table_data_bytes(found->table),
        .frozen_count = views_frozen_count(found->views),
    };
    const struct generation *active = views_active(found->views);
    out_status->generation_bytes = generation_bytes(active);
    out_status->generation_keys_count = generation_keys_count(active);
    if (found->state.group.index < found->replay_target) {
        out_status->replay_left = found->replay_target - found->state.group.index;
    }
    out_status->is_ready = is_group_ready(node, group);
    raft_get_status(found->raft, &out_status->raft);
    node_group_describe_digests(found, out_status);
}

static void describe_sending(const struct node *node, struct node_transfer_status *out_transfer)
{
    static const char *const stages[] = {
        [SENDING_CUTTING] = "cut", [SENDING_OFFERING] = "offer", [SENDING_CHUNKS] = "send"};
    const struct node_sending *sending = &node->sending;
    const struct snapshot_info *info = &sending->info;
    *out_transfer = (struct node_transfer_status){
        .is_outgoing = true,
        .group = sending->group,
        .peer = sending->peer,
        .stage = stages[sending->state],
        .index = info->state.index,
        .rows = info->state.rows_count,
        .bytes = info->bytes,
        .bytes_per_s = sending->rate.bytes_per_s,
        .age_ms = (monotonic_ns(node) - sending->began_ns) / 1000000,
    };
    if (info->chunks_count > 0) {
        out_transfer->bytes_done = info->bytes * sending->acked / info->chunks_count;
    }
}

static void describe_receiving(const struct node *node, const struct node_receiving *receiving,
                               struct node_transfer_status *out_transfer)
{
    static const char *const stages[] = {[RECEIVING_STAGING] = "receive",
                                         [RECEIVING_FINISHING] = "finish",
                                         [RECEIVING_READY] = "install",
                                         [RECEIVING_INSTALLING] = "install"};
    const struct snapshot_info *info = &receiving->info;
    *out_transfer = (struct node_transfer_status){
        .group = receiving->group,
        .peer = receiving->peer,
        .stage = stages[receiving->state],
        .index = info->state.index,
        .rows = info->state.rows_count,
        .bytes_done = info->bytes * receiving->stored / info->chunks_count,
        .bytes = info->bytes,
        .age_ms = (monotonic_ns(node) - receiving->began_ns) / 1000000,
    };
}

uint32_t node_get_transfers(const struct node *node,
                            struct node_transfer_status out_transfers[NODE_TRANSFERS_MAX])
{
    uint32_t count = 0;
    enum sending_state state = node->sending.state;
    if (state != SENDING_IDLE && state != SENDING_RELEASING) {
        describe_sending(node, &out_transfers[count++]);
    }
    for (uint32_t i = 0; i < SNAPSHOT_RECEIVING_MAX; i++) {
        const struct node_receiving *receiving = &node->receivings[i];
        if (receiving->state == RECEIVING_FREE || receiving->state == RECEIVING_DROPPING) continue;
        describe_receiving(node, receiving, &out_transfers[count++]);
    }
    _Static_assert(NODE_TRANSFERS_MAX == 1 + SNAPSHOT_RECEIVING_MAX, "room for all");
    return count;
}

const struct node_metrics *node_get_metrics(const struct node *node)
{
    return &node->metrics;
}

/* ---- draining ---- */

void node_drain(struct node *node)
{
    node_enter(node);
    if (!node->is_draining) node_log(node, LOG_LEVEL_INFO, "draining", NULL);
    node->is_draining = true;
}

/* What is applied when the last request is answered is flushed; what others write meanwhile is
 * not waited for. */
void node_drain_step(struct node *node)
{
    if (!node->is_draining || node->has_drain_index) return;
    if (node->clients.count + node->admin.count > 0) return;
    node->has_drain_index = true;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        node->groups[i]->drain_index = node->groups[i]->state.group.index;
    }
}

bool node_is_drained(const struct node *node)
{
    if (node->is_failed) return true;
    if (!node->is_draining || node->is_birth_writing) return false;
    if (node->groups_count == 0) return true;
    if (!node->has_drain_index || node->flush_group != NULL) return false;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        const struct node_group *group = node->groups[i];
        if (group->flushed < group->drain_index) return false;
    }
    return true;
}
