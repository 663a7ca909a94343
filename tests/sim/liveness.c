/* liveness.c - after the storm: everything is healed, and the cluster has to recover.
 *
 *   SETTLE   a second more of load, then clients start nothing new.
 *   RECOVER  within RECOVER_NS: every client answered, one leader per group that all know, all
 *            replicas at the end of the log with equal states (the judges of safety compare them).
 *   YIELD    where disks run full: the leader has no room, and hands over within YIELD_NS; it has
 *            room again, and all recover once more.
 *   PROBE    one write and one read through every node: each succeeds at once.
 *   REST     for REST_NS no election, no change of leader (TigerBeetle's liveness mode; Raft thesis
 *            3.4: a leader that reaches its followers stays).
 */

#include "sim_internal.h"

#include <inttypes.h>

#define SETTLE_NS SIM_S
#define RECOVER_NS (20 * SIM_S)
#define RECOVER_MEMBERS_NS (60 * SIM_S) /* a lost store's seat is kept for ten seconds */
#define MOST_ALONE_NS (12 * SIM_S)      /* all but one are emptied, and that one is down */
#define MOST_NS (30 * SIM_S)
#define REST_NS (3 * SIM_S)
#define YIELD_NS (4 * SIM_S) /* it looks once a second, and pauses for three between attempts */
#define CHECK_NS (20 * SIM_MS)

enum stage { STAGE_SETTLE, STAGE_RECOVER, STAGE_YIELD, STAGE_PROBE, STAGE_REST, STAGE_MOST };

static void push_check(struct sim *sim)
{
    struct event event = {.kind = EVENT_LIVENESS_CHECK, .node = SIM_WORLD};
    sim_push(sim, sim->now_ns + CHECK_NS, &event);
}

static void enter(struct sim *sim, enum stage stage)
{
    sim->liveness_stage = stage;
    sim->liveness_stage_ns = sim->now_ns;
    sim_trace(sim, "liveness stage %d", (int)stage);
}

void liveness_begin(struct sim *sim)
{
    struct swarm *swarm = &sim->swarm;
    sim->is_calm = true;
    swarm->delay_min_ns = 100 * SIM_US;
    swarm->delay_mean_ns = 200 * SIM_US;
    swarm->loss_ppm = swarm->duplicate_ppm = swarm->reset_ppm = 0;
    swarm->commit_min_ns = 100 * SIM_US;
    swarm->commit_mean_ns = 200 * SIM_US;
    swarm->flush_mean_ns = 2 * SIM_MS;
    swarm->log_read_mean_ns = 200 * SIM_US;
    swarm->snapshot_mean_ns = SIM_MS;
    swarm->crash_at_point_ppm = 0;
    swarm->request_timeout_ns = 2 * SIM_S;
    memset(swarm->bytes_per_s, 0, sizeof swarm->bytes_per_s);
    nemesis_calm(sim);
    bool is_most = swarm->wipes_most && members_wipe_most(sim);
    enter(sim, is_most ? STAGE_MOST : STAGE_SETTLE);
    push_check(sim);
}

/* NULL: the group has settled; else what is missing, of which node. */
static const char *find_unsettled(struct sim *sim, raft_group group, uint32_t *out_node)
{
    raft_id leader = RAFT_ID_NONE;
    const char *missing = members_find_unsettled(sim, group, out_node);
    if (missing != NULL) return missing;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        *out_node = i;
        if (!node->is_wanted) continue;
        const char *damage = rot_find_left(sim, node);
        if (damage != NULL) return damage;
        if (node->node == NULL) return "is down";
        if (node->is_draining) return "is stopping";
        if (node->paused_until_ns > sim->now_ns) return "is paused";
        if (!host_is_born(node)) return "is not born";
        if (node->flush != NULL && node->flush_is_of_storm) return "has a flush that hangs";
        struct node_group_status status;
        node_get_group_status(node->node, group, &status);
        if (status.raft.leader == RAFT_ID_NONE) return "knows no leader";
        if (leader == RAFT_ID_NONE) leader = status.raft.leader;
        if (leader != status.raft.leader) return "knows another leader";
        if (status.raft.last != sim->ghosts[group].count) return "has a log of another length";
        if (status.raft.applied != status.raft.last) return "has not applied all";
        sim->settled_term[group] = status.raft.term;
    }
    return NULL;
}

static void check_recover(struct sim *sim)
{
    uint32_t node = 0;
    raft_group group = 0;
    const char *missing = workload_is_idle(sim) ? NULL : "has clients that wait";
    if (!network_is_whole(sim)) missing = "is not connected";
    if (sim->operator.is_transferring) missing = "is asked to hand over";
    if (!full_is_over(sim)) missing = "may not have seen yet that there is room again";
    for (; group < SIM_GROUPS_COUNT && missing == NULL; group++) {
        missing = find_unsettled(sim, group, &node);
    }
    if (missing == NULL) {
        struct sim_full *full = &sim->full;
        if (sim->swarm.full_weight > 0 && !full->is_leader_tested) {
            full->is_leader_tested = true;
            full->leader = full_fill_leader(sim);
        }
        enter(sim, full->leader != NULL ? STAGE_YIELD : STAGE_PROBE);
        return;
    }
    const struct swarm *swarm = &sim->swarm;
    bool has_changes = swarm->operator_mean_ns > 0 || swarm->wipe_weight > 0 ||
                       swarm->rot_weight > 0;
    uint64_t recover_ns = has_changes ? RECOVER_MEMBERS_NS : RECOVER_NS;
    if (sim->now_ns - sim->liveness_stage_ns > recover_ns) {
        sim_fail(sim, "[28] %.0f s after all was healed, node %u %s (group %" PRIu32 ")",
                 (double)recover_ns / (double)SIM_S, node, missing, group - 1);
    }
}

static void check_yield(struct sim *sim)
{
    struct sim_node *node = sim->full.leader;
    struct node_group_status status;
    node_get_group_status(node->node, NODE_DATA_GROUP, &status);
    if (status.raft.role != RAFT_LEADER) {
        sim->full.leader = NULL;
        full_calm(sim);
        enter(sim, STAGE_RECOVER);
    } else if (sim->now_ns - sim->liveness_stage_ns > YIELD_NS) {
        sim_fail(sim, "[55] node %u leads on without room for what is written", node->number);
    }
}

/* One probe at a time; their number is kept in probes_count: even a write, odd a read. */
static void check_probe(struct sim *sim)
{
    if (!workload_is_idle(sim)) return;
    while (sim->probes_count < 2 * sim->swarm.nodes_count &&
           !sim->nodes[sim->probes_count / 2].is_wanted) {
        sim->probes_count += 2;
    }
    struct client *client = &sim->clients[0];
    if (sim->has_probed && client->ops_answered_count == sim->probes_answered_count) {
        sim_fail(sim, "[29] the probe before %u fails in a healthy cluster", sim->probes_count);
        return;
    }
    if (sim->probes_count == 2 * sim->swarm.nodes_count) {
        enter(sim, STAGE_REST);
        return;
    }
    sim->probes_answered_count = client->ops_answered_count;
    workload_probe(sim, sim->probes_count / 2, sim->probes_count % 2 == 1);
    sim->probes_count++;
    sim->has_probed = true;
}

/* Whoever is left alone with the data has no quorum, and the others must not form a cluster of
 * their own, whether it answers them or not. */
static void check_most(struct sim *sim)
{
    uint64_t since_ns = sim->now_ns - sim->liveness_stage_ns;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (!node->is_wanted && host_is_born(node)) {
            sim_fail(sim, "[33] node %u, whose disk was emptied, is a member of what is no quorum",
                     i);
        }
        if (!node->is_wanted) continue;
        if (node->is_off && since_ns > MOST_ALONE_NS) {
            node->is_off = false;
            host_start(sim, node);
        }
        for (raft_group g = 0; g < SIM_GROUPS_COUNT && since_ns > MOST_NS; g++) {
            struct node_group_status status;
            if (!node->disk->logs[g].exists) continue;
            node_get_group_status(node->node, g, &status);
            if (status.raft.role != RAFT_LEADER && status.raft.last == node->disk->logs[g].last) {
                continue;
            }
            sim_fail(sim, "[33] node %u leads alone, or has lost something", i);
        }
    }
    if (since_ns > MOST_NS) sim->is_over = true;
}

static void check_rest(struct sim *sim)
{
    for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) {
        raft_term term = sim->settled_term[g];
        uint32_t node = 0;
        const char *missing = find_unsettled(sim, g, &node);
        if (missing != NULL && sim->now_ns - sim->liveness_stage_ns > REST_NS) {
            sim_fail(sim, "[29] at rest, node %u %s (group %" PRIu32 ")", node, missing, g);
        }
        if (sim->settled_term[g] != term) {
            sim_fail(sim,
                     "[30] group %" PRIu32 " goes from term %" PRIu64 " to %" PRIu64
                     " in a healthy cluster",
                     g, term, sim->settled_term[g]);
        }
    }
    if (sim->now_ns - sim->liveness_stage_ns > REST_NS) sim->is_over = true;
}

void liveness_check(struct sim *sim)
{
    switch ((enum stage)sim->liveness_stage) {
    case STAGE_SETTLE:
        if (sim->now_ns - sim->liveness_stage_ns < SETTLE_NS) break;
        sim->takes_no_more = true;
        enter(sim, STAGE_RECOVER);
        break;
    case STAGE_RECOVER:
        check_recover(sim);
        break;
    case STAGE_YIELD:
        check_yield(sim);
        break;
    case STAGE_PROBE:
        check_probe(sim);
        break;
    case STAGE_REST:
        check_rest(sim);
        break;
    case STAGE_MOST:
        check_most(sim);
        break;
    }
    push_check(sim);
}
