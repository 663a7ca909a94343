/* nemesis.c - the faults: crashes, stops, partitions, pauses, clock jumps, resets. Crashes are
 * aimed: a write under way draws its own, ten times as often as time alone does. */

#include "sim_internal.h"

#define PAUSE_AFTER_STORM_NS (3 * SIM_S) /* so far may one reach beyond it */
#define PAUSE_AGAIN_NS (150 * SIM_US)      /* so soon after it went on */
#define PAUSE_AGAIN_MEAN_NS (3 * SIM_S)
#define ISOLATED_APART_NS (2 * SIM_S)
#define HUNG_NS (5 * SIM_S) /* the log commits of a leader */
#define HUNG_APART_NS (16 * SIM_S)
#define HUNG_LOOK_NS (50 * SIM_MS)
#define HUNG_MAX_NS (2 * SIM_S) /* it has gone after that */

enum fault_kind {
    FAULT_CRASH,
    FAULT_CRASH_ALL,
    FAULT_STOP,
    FAULT_PARTITION,
    FAULT_PAUSE,
    FAULT_CLOCK,
    FAULT_RESET,
    FAULT_HANG,
    FAULT_WIPE,
    FAULT_TRANSFER,
    FAULT_ROLLBACK,
    FAULT_ROT,
    FAULT_FULL,
    FAULTS_COUNT,
};

static void push_fault(struct sim *sim)
{
    struct event event = {.kind = EVENT_FAULT, .node = SIM_WORLD};
    sim_push(sim, sim->now_ns + sim_exponential(&sim->fault_random, sim->swarm.fault_mean_ns),
             &event);
}

void nemesis_init(struct sim *sim)
{
    push_fault(sim);
    struct event end = {.kind = EVENT_STORM_END, .node = SIM_WORLD};
    sim_push(sim, sim->swarm.storm_ns, &end);
}

void nemesis_on_end(struct sim *sim, struct sim_node *node)
{
    if (rollback_explains(sim, node)) {
        rollback_on_refused(sim, node);
        return;
    }
    if ((node->has_failed || node->has_met_damage) && !node->is_off && rot_explains(node)) {
        rot_on_ended(sim, node);
        return;
    }
    uint64_t down = sim_exponential(&sim->fault_random, sim->swarm.down_mean_ns);
    struct event event = {.kind = EVENT_START, .node = node->number};
    if (node->is_off) {
        /* Somebody starts it once more, to no avail. */
        bool is_tried = members_has_removed(sim, node->id) && !sim->is_calm;
        if (!is_tried || prng_chance(&sim->fault_random, 700000)) return;
        event.a = 1;
    }
    sim_push(sim, sim->now_ns + SIM_MS + (sim->is_calm ? 0 : down), &event);
}

void nemesis_maybe_crash_in(struct sim *sim, struct sim_node *node, uint32_t ppm,
                            uint64_t latency_ns)
{
    if (sim_is_quiet(sim) || !prng_chance(&sim->fault_random, ppm)) return;
    struct event event = {
        .kind = EVENT_CRASH, .node = node->number, .incarnation = node->incarnation};
    uint64_t time_ns = sim->now_ns + prng_below(&sim->fault_random, latency_ns + 200 * SIM_US);
    sim_push(sim, TL_MIN(time_ns, sim->swarm.storm_ns), &event); /* a flush may take long */
}

/* ---- leadership ---- */

static bool leads_any(const struct sim *sim, const struct sim_node *node)
{
    return host_leads(sim, node, 0) || host_leads(sim, node, NODE_DATA_GROUP);
}

/* From here on leadership has to stay where it is, if it has been there for a while. */
static bool keep_leaders(struct sim *sim)
{
    for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) {
        const struct ghost_log *ghost = &sim->ghosts[g];
        bool is_led = ghost->leader_term_max > 0 && sim->now_ns - ghost->leader_since_ns > SIM_S;
        if (!is_led) return false; /* it may be about to change already */
    }
    for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) {
        sim->ghosts[g].kept_term = sim->ghosts[g].leader_term_max;
    }
    return true;
}

/* ---- partitions ---- */

#define ALL_CLASSES ((1u << PEER_CLASSES_COUNT) - 1)

static void cut(struct sim *sim, uint32_t number, uint32_t from, uint32_t to, uint8_t classes)
{
    if (from == to || sim->cuts[number][from][to] != 0) return;
    sim->cuts[number][from][to] = classes;
    for (uint32_t c = 0; c < PEER_CLASSES_COUNT; c++) {
        sim->blocked[from][to][c] += classes >> c & 1;
    }
}

static void heal(struct sim *sim, uint32_t number)
{
    for (uint32_t from = 0; from < SIM_NODES_MAX; from++) {
        for (uint32_t to = 0; to < SIM_NODES_MAX; to++) {
            uint8_t classes = sim->cuts[number][from][to];
            sim->cuts[number][from][to] = 0;
            for (uint32_t c = 0; c < PEER_CLASSES_COUNT; c++) {
                sim->blocked[from][to][c] -= classes >> c & 1;
            }
        }
    }
}

enum cut_shape { CUT_HALVES, CUT_ISOLATE, CUT_BRIDGE, CUT_ONE_WAY_IN, CUT_ONE_WAY_OUT, CUT_LINK };

/* Whom the shape singles out: half of the time whoever leads the data group. */
static uint32_t choose_victim(struct sim *sim)
{
    uint32_t count = sim->swarm.nodes_count;
    uint32_t victim = (uint32_t)prng_below(&sim->fault_random, count);
    if (prng_chance(&sim->fault_random, 500000)) return victim;
    for (uint32_t i = 0; i < count; i++) {
        struct node_group_status status;
        if (!host_is_born(&sim->nodes[i])) continue;
        node_get_group_status(sim->nodes[i].node, NODE_DATA_GROUP, &status);
        if (status.raft.role == RAFT_LEADER) victim = i;
    }
    return victim;
}

/* Whether the shape cuts what goes from `from` to `to`. */
static bool is_in_shape(enum cut_shape shape, uint32_t victim, uint64_t side, uint32_t from,
                        uint32_t to)
{
    bool from_side = (side >> from & 1) != 0;
    bool to_side = (side >> to & 1) != 0;
    switch (shape) {
    case CUT_HALVES:
        return from_side != to_side;
    case CUT_ISOLATE:
        return from == victim || to == victim;
    case CUT_BRIDGE: /* both halves reach the victim, and not each other */
        return from_side != to_side && from != victim && to != victim;
    case CUT_ONE_WAY_IN:
        return to == victim;
    case CUT_ONE_WAY_OUT:
        return from == victim;
    case CUT_LINK:
        break;
    }
    return (from == victim && to == (victim + 1) % SIM_NODES_MAX) ||
           (to == victim && from == (victim + 1) % SIM_NODES_MAX);
}

/* One at a time, that leads nothing. */
static bool may_isolate(struct sim *sim, const struct sim_node *victim)
{
    bool is_over = sim->now_ns >= sim->isolated_until_ns + ISOLATED_APART_NS;
    return is_over && !leads_any(sim, victim) && keep_leaders(sim);
}

/* A cable that is pulled cuts them all; a rule of a firewall, or a connection that hangs, one. */
static uint8_t draw_classes(struct sim *sim)
{
    if (!prng_chance(&sim->more_random, sim->swarm.class_cut_ppm)) return ALL_CLASSES;
    sim->result->counters.partitions_of_classes++;
    return (uint8_t)prng_between(&sim->more_random, 1, ALL_CLASSES - 1);
}

static void cut_shape(struct sim *sim, enum cut_shape shape, uint32_t victim, uint64_t side,
                      uint64_t length_ns)
{
    uint32_t number = sim->partitions_count % TL_COUNT_OF(sim->cuts);
    heal(sim, number);
    sim->partitions_count++;
    uint8_t classes = draw_classes(sim);
    sim_trace(sim, "partition %u shape %d around n%u classes %u", number, (int)shape, victim,
              classes);
    for (uint32_t a = 0; a < sim->swarm.nodes_count; a++) {
        for (uint32_t b = 0; b < sim->swarm.nodes_count; b++) {
            if (is_in_shape(shape, victim, side, a, b)) cut(sim, number, a, b, classes);
        }
    }
    struct event event = {.kind = EVENT_HEAL, .node = SIM_WORLD, .a = number};
    sim_push(sim, sim->now_ns + length_ns, &event);
}

void nemesis_isolate(struct sim *sim, const struct sim_node *node)
{
    uint64_t length = sim_exponential(&sim->more_random, sim->swarm.partition_mean_ns);
    cut_shape(sim, CUT_ISOLATE, node->number, 0, length);
}

static void partition(struct sim *sim)
{
    sim->result->counters.partitions++;
    uint32_t victim = choose_victim(sim);
    enum cut_shape shape = (enum cut_shape)prng_below(&sim->fault_random, CUT_LINK + 1);
    uint64_t side = prng_next(&sim->fault_random);
    uint64_t length = sim_exponential(&sim->fault_random, sim->swarm.partition_mean_ns);
    if (sim->swarm.isolates) {
        if (!may_isolate(sim, &sim->nodes[victim])) return;
        sim->isolated_until_ns = sim->now_ns + length;
        sim->result->counters.isolations++;
        shape = CUT_ISOLATE;
    }
    cut_shape(sim, shape, victim, side, length);
}

void nemesis_cut_off(struct sim *sim, uint32_t victim, bool is_deaf_only, uint64_t length_ns)
{
    for (uint32_t i = 0; i < TL_COUNT_OF(sim->cuts); i++) heal(sim, i);
    uint32_t number = sim->partitions_count++ % TL_COUNT_OF(sim->cuts);
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        cut(sim, number, i, victim, ALL_CLASSES);
        if (!is_deaf_only) cut(sim, number, victim, i, ALL_CLASSES);
    }
    struct event event = {.kind = EVENT_HEAL, .node = SIM_WORLD, .a = number};
    sim_push(sim, sim->now_ns + length_ns, &event);
}

/* ---- the others ---- */

static void crash_all(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) host_crash(sim, &sim->nodes[i]);
}

static void pause_node(struct sim *sim, struct sim_node *node, uint64_t length)
{
    if (node->node == NULL) return;
    sim->result->counters.pauses++;
    length = TL_MIN(length + SIM_MS, sim->swarm.pause_max_ns);
    length = TL_MIN(length, sim->swarm.storm_ns + PAUSE_AFTER_STORM_NS - sim->now_ns);
    node->paused_until_ns = TL_MAX(node->paused_until_ns, sim->now_ns + length);
    sim_trace(sim, "n%u pauses %.3f ms", node->number, (double)length / (double)SIM_MS);
    if (!prng_chance(&sim->more_random, sim->swarm.pause_again_ppm)) return;
    /* Before it may have heard what its disk has done meanwhile. */
    struct event event = {.kind = EVENT_PAUSE, .node = SIM_WORLD, .peer = node->number};
    uint64_t range_ns = sim->swarm.turn_delay_ns + PAUSE_AGAIN_NS;
    sim_push(sim, node->paused_until_ns + prng_below(&sim->more_random, range_ns), &event);
}

static void pause_again(struct sim *sim, struct sim_node *node)
{
    if (node->node == NULL) return;
    sim->result->counters.pauses_again++;
    pause_node(sim, node, sim_exponential(&sim->more_random, PAUSE_AGAIN_MEAN_NS));
}

static void hang(struct sim *sim, struct sim_node *node, uint64_t length_ns)
{
    if (node->node == NULL) return;
    sim->result->counters.hangs++;
    node->hangs_until_ns = TL_MAX(node->hangs_until_ns, sim->now_ns + length_ns);
    sim_trace(sim, "the log commits of n%u hang %.3f ms", node->number,
              (double)length_ns / (double)SIM_MS);
}

void nemesis_pause(struct sim *sim, struct sim_node *node)
{
    pause_node(sim, node, sim_exponential(&sim->more_random, sim->swarm.pause_mean_ns));
}

void nemesis_hang(struct sim *sim, struct sim_node *node)
{
    hang(sim, node, sim_exponential(&sim->more_random, sim->swarm.hang_mean_ns));
}

/* A disk that has nothing to write looks as if it were well, and then nothing is sure. */
static bool hang_all_alike(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        if (sim->nodes[i].taken == NULL) return false;
    }
    return keep_leaders(sim);
}

/* The log commits of one that leads: it acts on that once in ten seconds. */
static void hang_leader(struct sim *sim, struct sim_node *victim)
{
    bool is_again = sim->hung_ns != 0 && sim->now_ns - sim->hung_ns < HUNG_APART_NS;
    if (is_again || !leads_any(sim, victim) || !keep_leaders(sim)) return;
    for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) sim->ghosts[g].kept_term = 0;
    sim->hung_ns = sim->now_ns;
    sim->result->counters.hangs_of_leaders++;
    hang(sim, victim, HUNG_NS);
    struct event event = {.kind = EVENT_HUNG, .node = victim->number};
    sim_push(sim, sim->now_ns + HUNG_LOOK_NS, &event);
}

/* Somebody else leads two seconds after a commit has begun to hang: what it leads on nobody could
 * hear the outcome of. */
static void judge_hung(struct sim *sim, const struct event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    if (node->hangs_until_ns <= sim->now_ns || sim->is_calm) return;
    sim_push(sim, sim->now_ns + HUNG_LOOK_NS, event);
    if (node->taken == NULL || sim->now_ns - node->taken_ns < HUNG_MAX_NS) return;
    if (!leads_any(sim, node)) return;
    sim_fail(sim, "[40] node %u leads on, although its log commits have hung for %.0f ms",
             node->number, (double)(sim->now_ns - node->taken_ns) / (double)SIM_MS);
}

/* The log commits of one node, of some or of all stand still: one cause, one length. */
static void hang_disks(struct sim *sim, struct sim_node *victim)
{
    if (sim->swarm.hangs_leader) {
        hang_leader(sim, victim);
        return;
    }
    uint64_t length = sim_exponential(&sim->fault_random, sim->swarm.hang_mean_ns);
    uint64_t count = prng_between(&sim->fault_random, 1, sim->swarm.nodes_count);
    if (sim->swarm.hangs_all) {
        if (!hang_all_alike(sim)) return;
        count = sim->swarm.nodes_count;
        sim->result->counters.stalls_judged++;
    }
    sim->result->counters.hangs_of_all += count == sim->swarm.nodes_count;
    for (uint32_t i = 0; i < count; i++) {
        hang(sim, &sim->nodes[(victim->number + i) % sim->swarm.nodes_count], length);
    }
}

static enum fault_kind draw_kind(struct sim *sim)
{
    const struct swarm *swarm = &sim->swarm;
    const uint32_t weights[FAULTS_COUNT] = {
        swarm->crash_weight,     swarm->crash_all_weight, swarm->stop_weight,
        swarm->partition_weight, swarm->pause_weight,     swarm->clock_weight,
        swarm->reset_weight,     swarm->hang_weight,      swarm->wipe_weight,
        swarm->transfer_weight,  swarm->rollback_weight,  swarm->rot_weight,
        swarm->full_weight};
    uint32_t sum = 0;
    for (size_t i = 0; i < FAULTS_COUNT; i++) sum += weights[i];
    if (sum == 0) return FAULT_RESET;
    uint32_t at = (uint32_t)prng_below(&sim->fault_random, sum);
    uint32_t kind = 0;
    while (at >= weights[kind]) at -= weights[kind++];
    return (enum fault_kind)kind;
}

static void inject(struct sim *sim)
{
    enum fault_kind kind = draw_kind(sim);
    struct sim_node *node = &sim->nodes[choose_victim(sim)];
    uint32_t peer = (uint32_t)prng_below(&sim->fault_random, sim->swarm.nodes_count);
    switch (kind) {
    case FAULT_CRASH:
        host_crash(sim, node);
        break;
    case FAULT_CRASH_ALL:
        crash_all(sim);
        break;
    case FAULT_STOP:
        host_stop(sim, node);
        break;
    case FAULT_PARTITION:
        partition(sim);
        break;
    case FAULT_PAUSE:
        if (node->node == NULL) break;
        pause_node(sim, node, sim_exponential(&sim->fault_random, sim->swarm.pause_mean_ns));
        break;
    case FAULT_CLOCK:
        clocks_jump(sim, node);
        if (sim->swarm.has_wild_clocks) clocks_sleep(sim);
        break;
    case FAULT_HANG:
        hang_disks(sim, node);
        break;
    case FAULT_TRANSFER:
        members_transfer(sim, node, &sim->nodes[peer]);
        break;
    case FAULT_ROLLBACK:
        rollback_inject(sim, node);
        break;
    case FAULT_FULL:
        full_inject(sim, node);
        break;
    case FAULT_ROT:
        rot_inject(sim, node);
        break;
    case FAULT_WIPE:
        members_wipe(sim, node);
        break;
    case FAULT_RESET:
    case FAULTS_COUNT:
        if (peer == node->number) break;
        network_reset_link(sim, node->number, peer,
                           (enum peer_class)prng_below(&sim->fault_random, PEER_CLASSES_COUNT));
        break;
    }
}

void nemesis_calm(struct sim *sim)
{
    for (uint32_t i = 0; i < TL_COUNT_OF(sim->cuts); i++) heal(sim, i);
    /* What all had alike ends at one before the other. */
    for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) sim->ghosts[g].kept_term = 0;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->hangs_until_ns = 0;
        /* Whom it was to join through may be no member any more. */
        if (node->is_wanted && !node->is_founder && !host_is_born(node)) host_crash(sim, node);
        struct event event = {.kind = EVENT_START, .node = i};
        sim_push(sim, sim->now_ns + SIM_MS, &event);
    }
    full_calm(sim);
    rot_calm(sim);
}

void nemesis_on_event(struct sim *sim, const struct event *event)
{
    if (event->kind == EVENT_HEAL) {
        heal(sim, (uint32_t)event->a);
        return;
    }
    if (event->kind == EVENT_HUNG) {
        judge_hung(sim, event);
        return;
    }
    if (event->kind == EVENT_PAUSE) {
        if (!sim_is_quiet(sim)) pause_again(sim, &sim->nodes[event->peer]);
        return;
    }
    if (event->kind == EVENT_ROOM) {
        full_on_event(sim, event);
        return;
    }
    if (event->kind == EVENT_ROT) {
        rot_on_event(sim, event);
        return;
    }
    if (event->kind == EVENT_MOMENT || event->kind == EVENT_MOMENT_NEXT) {
        moments_on_event(sim, event);
        return;
    }
    TL_ASSERT(event->kind == EVENT_FAULT);
    if (sim->is_calm) return;
    if (!sim_is_quiet(sim)) inject(sim);
    push_fault(sim);
}
