/* members.c - who is to be a member: an operator that adds and removes machines, disks that are
 * emptied, and whether the cluster ends up as it was asked to.
 *
 * A machine is wanted from when it is told to join until the committed placement has no seat for
 * its address any more. What a change came to is read from the placement, as its answer may be
 * lost.
 */

#include "sim_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define CHANGE_TIMEOUT_NS (3 * SIM_S)
#define VOTERS_MIN_TO_WIPE 3u /* two voters cannot replace one of them */

static void push_operator(struct sim *sim)
{
    if (sim->swarm.operator_mean_ns == 0) return;
    struct event event = {.kind = EVENT_OPERATOR, .node = SIM_WORLD};
    uint64_t delay = sim_exponential(&sim->fault_random, sim->swarm.operator_mean_ns);
    sim_push(sim, sim->now_ns + delay, &event);
}

void members_init(struct sim *sim)
{
    push_operator(sim);
}

void members_deinit(struct sim *sim)
{
    free(TL_TAKE(&sim->placement));
}

/* ---- the committed placement ---- */

static bool has_seat(const struct sim *sim, const struct sim_node *node)
{
    if (sim->placement == NULL) return node->number < sim->swarm.founders_count;
    for (uint32_t i = 0; i < sim->placement->members_count; i++) {
        const struct placement_member *member = &sim->placement->members[i];
        if (member->role == MEMBER_LEAVING) continue;
        if (strcmp(member->member.address, node->address) == 0) return true;
    }
    return false;
}

static uint32_t count_seats(const struct sim *sim)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) count += has_seat(sim, &sim->nodes[i]);
    return count;
}

bool members_has_removed(const struct sim *sim, raft_id id)
{
    if (sim->placement == NULL) return false;
    if (placement_has_removed(sim->placement, id)) return true;
    const struct placement_member *member = placement_find(sim->placement, id);
    return member != NULL && member->role == MEMBER_LEAVING;
}

static void want(struct sim *sim, struct sim_node *node)
{
    bool is_stopped = !node->is_wanted && node->node == NULL;
    node->is_wanted = true;
    if (!is_stopped || members_has_removed(sim, node->id)) return;
    node->is_off = false; /* it was told to stop, too late */
    struct event event = {.kind = EVENT_START, .node = node->number};
    sim_push(sim, sim->now_ns, &event);
}

/* A member has to run until its process ends by itself: the others may need it to let it go. One
 * that is none yet is stopped: it would ask, and be let in again. */
static void release(struct sim *sim, struct sim_node *node)
{
    node->is_wanted = false;
    if (placement_find(sim->placement, node->id) != NULL) return;
    node->is_off = true;
    if (node->node == NULL) return;
    struct event event = {
        .kind = EVENT_CRASH, .node = node->number, .incarnation = node->incarnation};
    sim_push(sim, sim->now_ns, &event);
}

void members_on_committed(struct sim *sim, const struct buf *entry)
{
    struct command command;
    if (entry_type_of(entry) != ENTRY_COMMAND) return;
    enum tl_err err = command_decode(entry_payload(entry), &command);
    TL_ASSERT(err == TL_OK);
    struct placement *placement = malloc(sizeof *placement);
    TL_ASSERT(placement != NULL);
    err = placement_decode(command.value, placement);
    TL_ASSERT(err == TL_OK);
    /* One that came too late for its condition has the epoch of the one that was written first. */
    if (placement->epoch != (sim->placement == NULL ? 0 : sim->placement->epoch) + 1) {
        free(placement);
        return;
    }
    bool had_seat[SIM_NODES_MAX];
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        had_seat[i] = has_seat(sim, &sim->nodes[i]);
    }
    free(sim->placement);
    sim->placement = placement;
    sim->result->counters.placements++;
    sim_trace(sim, "placement %" PRIu64 ": %u members, %u removed", placement->epoch,
              placement->members_count, placement->removed_count);
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (has_seat(sim, node)) {
            want(sim, node);
        } else if (had_seat[i]) {
            release(sim, node);
        }
    }
}

static bool has_fellow_founder(const struct sim *sim, const struct sim_node *node)
{
    for (uint32_t i = 0; i < sim->swarm.founders_count; i++) {
        const struct sim_node *other = &sim->nodes[i];
        if (other != node && other->is_wanted && other->disk->logs[0].exists) return true;
    }
    return false;
}

/* Those that were to join through one that has gone are told another, and so are those whose view
 * is of machines that have all gone. */
static void restart_joiners(struct sim *sim, const struct sim_node *gone)
{
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node == gone || node->node == NULL || host_is_born(node)) continue;
        if (node->is_founder && (sim->ghosts[0].count == 0 || has_fellow_founder(sim, node))) {
            continue;
        }
        node->is_founder = false;
        struct event event = {.kind = EVENT_CRASH, .node = i, .incarnation = node->incarnation};
        sim_push(sim, sim->now_ns, &event);
    }
}

void members_on_expelled(struct sim *sim, struct sim_node *node)
{
    if (rollback_explains(sim, node)) return;
    sim->result->counters.expulsions++;
    node->is_off = true;
    restart_joiners(sim, node);
    if (members_has_removed(sim, node->id)) return;
    sim_fail(sim, "[32] node %u says that it was removed, which it was not", node->number);
}

/* ---- emptied disks ---- */

/* Stores of which nothing is left, and one that is about to follow. */
struct losses {
    struct sim *sim;
    raft_id next;
};

/* A voter that was told that it leaves before it had anything has ended, and will not come
 * again. */
static bool is_lost(const struct losses *losses, raft_id id)
{
    const struct sim_node *node = host_find(losses->sim, id);
    if (id == losses->next || node == NULL || node->is_off) return true;
    return losses->sim->swarm.rot_weight > 0 && mem_disk_has_damage(node->disk);
}

static bool half_bears(const struct losses *losses, const raft_id *ids, uint32_t count)
{
    uint32_t lost = 0;
    for (uint32_t i = 0; i < count; i++) lost += is_lost(losses, ids[i]);
    return count == 0 || 2 * lost < count;
}

/* Learners that are lost count as voters too: they may become that before the leader notices. */
static bool conf_bears(const struct losses *losses, const struct raft_conf *conf)
{
    raft_id later[RAFT_MEMBERS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < conf->voters_count; i++) later[count++] = conf->voters[i];
    for (uint32_t i = 0; i < conf->learners_count; i++) {
        if (is_lost(losses, conf->learners[i])) later[count++] = conf->learners[i];
    }
    return half_bears(losses, later, count) &&
           half_bears(losses, conf->voters, conf->voters_count) &&
           half_bears(losses, conf->outgoing, conf->outgoing_count);
}

/* Whether every configuration that may be in force has a majority besides. */
static bool group_bears(struct sim *sim, raft_group group, const struct losses *losses)
{
    const struct ghost_log *ghost = &sim->ghosts[group];
    const struct raft_conf *conf = conf_at(sim, group, ghost->count);
    if (ghost->count < 2 || conf == NULL || !conf_bears(losses, conf)) return false;
    for (uint32_t n = 0; n < sim->swarm.nodes_count; n++) {
        const struct mem_log *log = &sim->nodes[n].disk->logs[group];
        for (raft_index i = ghost->count + 1; i <= log->last; i++) {
            const struct buf *entry = mem_log_entry(log, i);
            struct raft_conf next;
            if (entry == NULL || entry_type_of(entry) != ENTRY_CONF) continue;
            enum tl_err err = conf_payload_decode(entry_payload(entry), &next);
            TL_ASSERT(err == TL_OK);
            if (!conf_bears(losses, &next)) return false;
        }
    }
    return true;
}

/* A founder may start with its view again as long as some other founder has the cluster. */
static void choose_start(struct sim *sim, struct sim_node *node)
{
    node->is_founder = node->number < sim->swarm.founders_count && has_fellow_founder(sim, node) &&
                       prng_chance(&sim->fault_random, 500000);
}

bool members_can_lose(struct sim *sim, const struct sim_node *node)
{
    const struct losses losses = {.sim = sim, .next = node->id};
    bool can_lose = node->is_wanted && has_seat(sim, node) &&
                    !sim->operator.is_busy && count_seats(sim) >= VOTERS_MIN_TO_WIPE &&
                    node->disk->logs[0].exists &&
                    sim->stores_count + 2 * SIM_NODES_MAX < SIM_STORES_MAX;
    for (raft_group g = 0; g < SIM_GROUPS_COUNT && can_lose; g++) {
        can_lose = group_bears(sim, g, &losses);
    }
    return can_lose;
}

void members_empty_disk(struct sim *sim, struct sim_node *node)
{
    host_empty_disk(sim, node);
    choose_start(sim, node);
    sim_trace(sim, "n%u is to start with %s", node->number, node->is_founder ? "its view" : "join");
}

void members_wipe(struct sim *sim, struct sim_node *node)
{
    if (!members_can_lose(sim, node)) return;
    bool is_down = node->node == NULL;
    host_crash(sim, node);
    members_empty_disk(sim, node);
    sim->result->counters.wipes_while_down += is_down;
}

bool members_wipe_most(struct sim *sim)
{
    uint32_t kept = SIM_NODES_MAX;
    uint64_t count = 0;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        if (!sim->nodes[i].disk->logs[0].exists) continue;
        if (prng_below(&sim->fault_random, ++count) == 0) kept = i;
    }
    if (kept == SIM_NODES_MAX) return false;
    sim->result->counters.wipes_of_most++;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->is_wanted = node->is_off = i == kept;
        host_crash(sim, node);
        if (i != kept) host_empty_disk(sim, node);
    }
    sim_trace(sim, "only n%u is left", kept);
    return true;
}

/* ---- the operator ---- */

static void on_changed(struct node_change *change, enum tl_err err)
{
    struct sim *sim = change->context;
    sim->operator.is_busy = false;
    const char *refusal = change->report.refusal_code;
    sim->result->counters.changes_refused += err == TL_OK && refusal != NULL;
    sim_trace(sim, "the change of n%u ends: %s %s", sim->operator.target, tl_err_name(err),
              err == TL_OK && refusal != NULL ? refusal : "");
}

static void ask_for(struct sim *sim, enum node_change_kind kind, const struct sim_node *target)
{
    uint32_t number = (uint32_t)prng_below(&sim->fault_random, sim->swarm.nodes_count);
    struct sim_node *node = &sim->nodes[number];
    if (node->node == NULL || node == target || !host_is_born(node)) return;
    struct sim_operator *asked = &sim->operator;
    asked->change = (struct node_change){
        .kind = kind,
        .is_dry_run = prng_chance(&sim->fault_random, 100000),
        .deadline_ns = host_node_time(node, sim->now_ns) + CHANGE_TIMEOUT_NS,
        .on_done = on_changed,
        .context = sim,
    };
    memcpy(asked->change.address, target->address, sizeof target->address);
    memcpy(asked->change.peer_address, target->peer_address, sizeof target->peer_address);
    asked->node = number;
    asked->target = target->number;
    asked->is_busy = true;
    sim_trace(sim, "n%u is asked to %s n%u", number, kind == NODE_CHANGE_ADD ? "add" : "remove",
              target->number);
    if (node_change(node->node, &asked->change) != TL_OK) asked->is_busy = false;
    host_wake(sim, node);
}

static void on_transferred(struct node_leader_transfer *transfer, enum tl_err err)
{
    struct sim *sim = transfer->context;
    sim->operator.is_transferring = false;
    const struct node_leader_transfer_report *report = &transfer->report;
    sim->result->counters.transfers_done += err == TL_OK && report->is_changed;
    sim_trace(sim, "the transfer of g%" PRIu32 " ends: %s %s", transfer->group, tl_err_name(err),
              err == TL_OK && report->refusal_code != NULL ? report->refusal_code : "");
}

void members_transfer(struct sim *sim, struct sim_node *node, const struct sim_node *target)
{
    struct sim_operator *asked = &sim->operator;
    if (asked->is_transferring || !host_is_born(node)) return;
    asked->transfer = (struct node_leader_transfer){
        .group = (raft_group)prng_below(&sim->fault_random, SIM_GROUPS_COUNT),
        .deadline_ns = host_node_time(node, sim->now_ns) + CHANGE_TIMEOUT_NS,
        .on_done = on_transferred,
        .context = sim,
    };
    bool is_any = prng_chance(&sim->fault_random, 300000);
    if (!is_any) memcpy(asked->transfer.address, target->address, sizeof target->address);
    asked->is_transferring = true;
    sim->result->counters.transfers_asked++;
    sim_trace(sim, "n%u is asked to move g%" PRIu32 " to n%u", node->number, asked->transfer.group,
              is_any ? SIM_NODES_MAX : target->number);
    if (node_leader_transfer(node->node, &asked->transfer) != TL_OK) {
        asked->is_transferring = false;
    }
    host_wake(sim, node);
}

/* An idle machine gets an empty disk and is told to join; sometimes it is announced as well. */
static void add(struct sim *sim, struct sim_node *node)
{
    if (node->is_wanted) {
        if (!has_seat(sim, node)) ask_for(sim, NODE_CHANGE_ADD, node);
        return;
    }
    if (node->node != NULL || sim->stores_count == SIM_STORES_MAX) return;
    if (sim->ghosts[0].count == 0) return; /* nobody there to join */
    /* The others may still need what is on its disk until it has left. */
    if (sim->placement != NULL && placement_find(sim->placement, node->id) != NULL) return;
    if (node->disk->has_identity) host_empty_disk(sim, node);
    node->is_wanted = true;
    node->is_founder = false;
    node->is_off = false;
    sim_trace(sim, "n%u is to join", node->number);
    struct event event = {.kind = EVENT_START, .node = node->number};
    sim_push(sim, sim->now_ns, &event);
}

static void remove_seat(struct sim *sim, const struct sim_node *node)
{
    /* Those that are to replace a wiped one need a quorum of the others. */
    uint32_t seats_min = sim->swarm.wipe_weight > 0 ? VOTERS_MIN_TO_WIPE + 1 : 2;
    if (!has_seat(sim, node) || count_seats(sim) < seats_min) return;
    ask_for(sim, NODE_CHANGE_REMOVE, node);
}

void members_on_event(struct sim *sim, const struct event *event)
{
    TL_ASSERT(event->kind == EVENT_OPERATOR);
    if (sim->is_calm) return;
    push_operator(sim);
    struct sim_node *node = &sim->nodes[prng_below(&sim->fault_random, sim->swarm.nodes_count)];
    if (sim->operator.is_busy) return;
    if (has_seat(sim, node)) {
        remove_seat(sim, node);
    } else {
        add(sim, node);
    }
}

/* ---- the end ---- */

static bool is_voter(const struct raft_conf *conf, raft_id id)
{
    for (uint32_t i = 0; i < conf->voters_count; i++) {
        if (conf->voters[i] == id) return true;
    }
    return false;
}

/* Whether it has the address of a member that could tell it that it was removed. */
static bool can_be_told(const struct sim *sim, const struct sim_node *node)
{
    for (uint32_t k = 0; k < node->knows_count; k++) {
        for (uint32_t i = 0; i < sim->stores_count; i++) {
            uint32_t number = sim->stores[i].node;
            if (sim->stores[i].id != node->knows[k] || number == node->number) continue;
            if (sim->nodes[number].is_wanted) return true;
        }
    }
    return false;
}

const char *members_find_unsettled(struct sim *sim, raft_group group, uint32_t *out_node)
{
    const struct raft_conf *conf = conf_at(sim, group, sim->ghosts[group].count);
    uint32_t wanted_count = 0;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        const struct sim_node *node = &sim->nodes[i];
        *out_node = i;
        wanted_count += node->is_wanted;
        /* One that was never a member waits, and says why; one that died before it had more than
         * the first entry, with members that are gone, can hear of nothing. */
        if (!node->is_wanted && host_is_born(node) && can_be_told(sim, node)) {
            return "was removed and still runs";
        }
        if (!node->is_wanted) continue;
        if (!has_seat(sim, node)) return "has no seat";
        if (conf == NULL || !is_voter(conf, node->id)) return "is no voter";
    }
    if (conf->outgoing_count > 0) return "and others have a joint configuration";
    if (conf->learners_count > 0) return "and others have learners";
    if (conf->voters_count != wanted_count) return "and others have too many voters";
    if (sim->placement == NULL) return NULL;
    for (uint32_t i = 0; i < sim->placement->members_count; i++) {
        if (sim->placement->members[i].role == MEMBER_VOTER) continue;
        return "and others have a placement that is not reached";
    }
    return NULL;
}
