/* moments.c - faults at the n-th time that something happens: crashes that time alone finds late,
 * as what they have to meet is short. One moment is waited for at a time; another one is drawn a
 * while after its fault.
 */

#include "sim_internal.h"

#define WAIT_NS (2 * SIM_S) /* for a moment; then another one is drawn */

enum fault { FAULT_CRASH, FAULT_ISOLATE, FAULT_PAUSE, FAULT_HANG };

static void push_next(struct sim *sim, uint64_t delay_ns)
{
    struct event event = {
        .kind = EVENT_MOMENT_NEXT, .node = SIM_WORLD, .a = ++sim->trigger.number};
    sim_push(sim, sim->now_ns + delay_ns, &event);
}

static void push_next_soon(struct sim *sim)
{
    push_next(sim, sim_exponential(&sim->more_random, sim->swarm.moment_mean_ns));
}

void moments_init(struct sim *sim)
{
    if (sim->swarm.moment_mean_ns > 0) push_next_soon(sim);
}

static void draw(struct sim *sim)
{
    static const uint32_t steps[] = {1, 1, 2, 3, 5, 12};
    struct sim_trigger *trigger = &sim->trigger;
    trigger->moment = (enum sim_moment)prng_between(&sim->more_random, 1, MOMENTS_COUNT - 1);
    trigger->step = steps[prng_below(&sim->more_random, TL_COUNT_OF(steps))];
    trigger->left = trigger->step;
    sim_trace(sim, "moment %d is waited for, %u times", (int)trigger->moment, trigger->step);
    push_next(sim, WAIT_NS);
}

/* Mostly the node that it happens in is concerned. */
static uint32_t draw_victim(struct sim *sim, const struct sim_node *node)
{
    if (prng_chance(&sim->more_random, 800000)) return node->number;
    return (uint32_t)prng_below(&sim->more_random, sim->swarm.nodes_count);
}

static enum fault draw_fault(struct sim *sim)
{
    static const enum fault faults[] = {FAULT_CRASH,   FAULT_CRASH, FAULT_CRASH, FAULT_CRASH,
                                        FAULT_ISOLATE, FAULT_ISOLATE, FAULT_PAUSE, FAULT_HANG};
    return faults[prng_below(&sim->more_random, TL_COUNT_OF(faults))];
}

static void count(struct sim *sim, enum sim_moment moment)
{
    struct sim_counters *counters = &sim->result->counters;
    uint64_t *counts[MOMENTS_COUNT] = {
        [MOMENT_LOG_COMMIT] = &counters->at_log_commit,
        [MOMENT_CONF] = &counters->at_conf,
        [MOMENT_TRUNCATION] = &counters->at_truncation,
        [MOMENT_CHUNK] = &counters->at_chunk,
        [MOMENT_INSTALL] = &counters->at_install,
        [MOMENT_ELECTION] = &counters->at_election,
        [MOMENT_TRANSFER] = &counters->at_transfer,
        [MOMENT_VOTE] = &counters->at_vote,
        [MOMENT_FREEZE] = &counters->at_freeze,
        [MOMENT_FLUSH_BEGIN] = &counters->at_flush_begin,
        [MOMENT_FLUSH_DONE] = &counters->at_flush_done,
        [MOMENT_FORWARD] = &counters->at_forward,
    };
    (*counts[moment])++;
}

void moments_note(struct sim *sim, const struct sim_node *node, enum sim_moment moment)
{
    struct sim_trigger *trigger = &sim->trigger;
    bool is_counted_from_election =
        trigger->moment == MOMENT_LOG_COMMIT && moment == MOMENT_ELECTION;
    if (is_counted_from_election) trigger->left = trigger->step;
    if (moment != trigger->moment || sim_is_quiet(sim)) return;
    if (moment == MOMENT_LOG_COMMIT && !host_leads(sim, node, NODE_DATA_GROUP)) return;
    if (--trigger->left > 0) return;
    trigger->moment = MOMENT_NONE;
    struct event event = {.kind = EVENT_MOMENT, .node = SIM_WORLD, .a = draw_fault(sim)};
    event.peer = draw_victim(sim, node);
    event.b = sim->nodes[event.peer].incarnation;
    bool is_at_once = prng_chance(&sim->more_random, 500000);
    uint64_t delay = is_at_once ? 0 : prng_below(&sim->more_random, 2 * SIM_MS);
    sim_push(sim, sim->now_ns + delay, &event);
    count(sim, moment);
    push_next_soon(sim);
}

void moments_note_ops(struct sim *sim, const struct sim_node *node, const struct log_op *ops,
                      uint32_t ops_count)
{
    for (uint32_t i = 0; i < ops_count; i++) {
        if (ops[i].truncate_from != 0) moments_note(sim, node, MOMENT_TRUNCATION);
        if (ops[i].install != NULL) moments_note(sim, node, MOMENT_INSTALL);
        for (uint32_t k = 0; k < ops[i].entries_count; k++) {
            if (entry_type_of(ops[i].entries[k]) != ENTRY_CONF) continue;
            moments_note(sim, node, MOMENT_CONF);
        }
    }
}

static void inject(struct sim *sim, struct sim_node *node, enum fault fault)
{
    sim_trace(sim, "the moment has come at n%u: fault %d", node->number, (int)fault);
    switch (fault) {
    case FAULT_CRASH:
        host_crash(sim, node);
        break;
    case FAULT_ISOLATE:
        nemesis_isolate(sim, node);
        break;
    case FAULT_PAUSE:
        nemesis_pause(sim, node);
        break;
    case FAULT_HANG:
        nemesis_hang(sim, node);
        break;
    }
}

void moments_on_event(struct sim *sim, const struct event *event)
{
    if (sim_is_quiet(sim)) {
        if (!sim->is_calm && event->kind == EVENT_MOMENT_NEXT) push_next_soon(sim);
        return;
    }
    if (event->kind == EVENT_MOMENT_NEXT) {
        if (event->a == sim->trigger.number) draw(sim);
        return;
    }
    struct sim_node *node = &sim->nodes[event->peer];
    if (node->incarnation == event->b) inject(sim, node, (enum fault)event->a);
}
