/* deposal.c - leaders that are cut off when it hurts most: in the turn in which they are elected,
 * with what they have just proposed on its way; and while they hand over, so that they do not hear
 * of the one who has taken over. Each time what was cut before is healed: so one leader follows the
 * other, and each may bring through, or replace, what the ones before it have left behind.
 */

#include "sim_internal.h"

#define DEPOSAL_DELAY_NS (30 * SIM_MS)

static void push_deposal(struct sim *sim, const struct sim_node *node, bool is_deaf_only)
{
    if (sim->is_calm || sim->swarm.depose_ppm == 0) return;
    if (!prng_chance(&sim->fault_random, sim->swarm.depose_ppm)) return;
    bool is_now = prng_chance(&sim->fault_random, 500000);
    uint64_t delay_ns = is_now ? 0 : prng_below(&sim->fault_random, DEPOSAL_DELAY_NS);
    struct event event = {.kind = EVENT_DEPOSAL, .node = SIM_WORLD, .peer = node->number,
                          .a = is_deaf_only};
    sim_push(sim, sim->now_ns + delay_ns, &event);
}

void deposal_on_leader(struct sim *sim, const struct sim_node *node)
{
    push_deposal(sim, node, false);
}

void deposal_on_sent(struct sim *sim, const struct sim_node *from,
                     const struct raft_message *message)
{
    if (message->type == RAFT_TIMEOUT_NOW) push_deposal(sim, from, true);
}

void deposal_on_event(struct sim *sim, const struct event *event)
{
    if (sim_is_quiet(sim)) return;
    sim->result->counters.deposals++;
    sim_trace(sim, "n%u is cut off", event->peer);
    nemesis_cut_off(sim, event->peer, event->a == 1,
                    sim_exponential(&sim->fault_random, sim->swarm.partition_mean_ns));
}
