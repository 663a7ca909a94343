/* node_time.c - what this node takes for the time: of an entry that it proposes, and when it judges
 * a causal token. One node's clock alone decides neither.
 */

#include "node_internal.h"

/* The clocks of the voters and this node's own, in order; returns their number. Its own counts even
 * when it is no member any more, and leads until that is committed. */
static uint32_t sorted_clocks(const struct node *node, uint64_t own_us,
                              uint64_t out_clocks[RAFT_MEMBERS_MAX + 1])
{
    uint32_t count = 1;
    out_clocks[0] = own_us;
    for (uint32_t i = 0; i < node->peers_count; i++) {
        const struct node_peer *peer = &node->peers[i];
        if (peer->id == node->self || peer->role != MEMBER_VOTER || !peer->has_clock) continue;
        uint64_t clock_us = peer->clock_us + (node->now_ns - peer->clock_read_ns) / 1000;
        uint32_t at = count++;
        for (; at > 0 && out_clocks[at - 1] > clock_us; at--) out_clocks[at] = out_clocks[at - 1];
        out_clocks[at] = clock_us;
    }
    return count;
}

static uint64_t own_clock_us(const struct node *node)
{
    return node->io.clock_us(node->io.context);
}

uint64_t node_clock_us(const struct node *node)
{
    uint64_t own_us = own_clock_us(node);
    uint64_t clocks[RAFT_MEMBERS_MAX + 1];
    uint32_t count = sorted_clocks(node, own_us, clocks);
    uint64_t median_us = clocks[(count - 1) / 2];
    uint64_t highest_us = median_us + NODE_CLOCK_APART_US;
    if (node->options.mutation == NODE_MUTATION_TIME_FROM_ABOVE) return TL_MIN(own_us, highest_us);
    uint64_t lowest_us = median_us - TL_MIN(median_us, NODE_CLOCK_APART_US);
    return TL_MIN(TL_MAX(own_us, lowest_us), highest_us);
}

uint64_t node_group_time_us(struct node_group *group, uint64_t wish_us)
{
    const struct node *node = group->node;
    struct raft_leadership leadership = raft_leadership_of(group->raft);
    struct log_time *time = &group->log_time;
    if (time->term != leadership.term) {
        log_time_begin(time, leadership.term, leadership.began_ns, leadership.last_time_us);
    }
    if (node->options.mutation == NODE_MUTATION_TIME_FROM_ABOVE) return wish_us;
    uint64_t time_us = log_time_advance(time, node->now_ns, wish_us);
    if (node->options.mutation == NODE_MUTATION_TIME_ALLOWANCE) {
        time_us = time->time_us = TL_MIN(TL_MAX(time_us, wish_us), time_us + 1000000);
    }
    return time_us;
}

uint64_t node_group_time_wait_ns(const struct node_group *group, uint64_t time_us)
{
    return group->log_time.at_ns + log_time_wait_ns(&group->log_time, time_us);
}

/* Of two clocks the larger: a token that is let through does no harm, one that is refused may. */
bool node_group_token_is_ahead(const struct node_group *group, uint64_t token_us)
{
    const struct node *node = group->node;
    uint64_t known_us = TL_MAX(group->state.group.time_us, raft_last_time_us(group->raft));
    if (token_us <= known_us) return false;
    uint64_t clocks[RAFT_MEMBERS_MAX + 1];
    uint32_t count = sorted_clocks(node, own_clock_us(node), clocks);
    known_us = TL_MAX(known_us, clocks[count / 2]);
    return token_us - TL_MIN(token_us, known_us) > NODE_TOKEN_AHEAD_US;
}

uint64_t node_log_time_seconds(uint64_t span_us)
{
    return log_time_seconds_until(span_us);
}
