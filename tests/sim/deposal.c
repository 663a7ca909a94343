/* deposal.c - nodes that are cut off when it hurts most.
 *
 *   - a leader in the turn in which it is elected, with what it has just proposed on its way;
 *   - a leader that hands over, so that it does not hear of the one that has taken over. In both
 *     cases what was cut before is healed: one leader follows the other, and each may bring
 *     through, or replace, what the ones before it have left behind;
 *   - a node that is sent a snapshot, for longer than its answer is waited for.
 */

#include "sim_internal.h"

#define DELAY_NS (30 * SIM_MS)
#define ABSENT_MIN_NS (12 * SIM_S)
#define ABSENT_MAX_NS (20 * SIM_S)

enum deposal { DEPOSAL_CUT_OFF, DEPOSAL_DEAFEN, DEPOSAL_ABSENT };

static void push(struct sim *sim, const struct sim_node *node, enum deposal deposal, uint32_t ppm)
{
    if (ppm == 0 || sim_is_quiet(sim) || !prng_chance(&sim->more_random, ppm)) return;
    bool is_now = prng_chance(&sim->more_random, 500000);
    uint64_t delay_ns = is_now ? 0 : prng_below(&sim->more_random, DELAY_NS);
    struct event event = {
        .kind = EVENT_DEPOSAL, .node = SIM_WORLD, .peer = node->number, .a = deposal};
    sim_push(sim, sim->now_ns + delay_ns, &event);
}

void deposal_on_leader(struct sim *sim, const struct sim_node *node)
{
    push(sim, node, DEPOSAL_CUT_OFF, sim->swarm.depose_ppm);
}

void deposal_on_sent(struct sim *sim, const struct sim_node *from,
                     const struct raft_message *message)
{
    if (message->type != RAFT_TIMEOUT_NOW) return;
    push(sim, from, DEPOSAL_DEAFEN, sim->swarm.depose_ppm);
}

void deposal_on_bulk(struct sim *sim, const struct sim_node *from, raft_id to)
{
    const struct sim_node *receiver = host_find(sim, to);
    if (receiver == NULL || !host_leads(sim, from, NODE_DATA_GROUP)) return;
    push(sim, receiver, DEPOSAL_ABSENT, sim->swarm.absent_ppm);
}

void deposal_on_event(struct sim *sim, const struct event *event)
{
    if (sim_is_quiet(sim)) return;
    uint64_t length_ns = sim_exponential(&sim->more_random, sim->swarm.partition_mean_ns);
    if (event->a == DEPOSAL_ABSENT) {
        length_ns = prng_between(&sim->more_random, ABSENT_MIN_NS, ABSENT_MAX_NS);
        sim->result->counters.absences++;
    } else {
        sim->result->counters.deposals++;
    }
    sim_trace(sim, "n%u is cut off", event->peer);
    nemesis_cut_off(sim, event->peer, event->a == DEPOSAL_DEAFEN, length_ns);
}
