/* node: what goes over slow links, and what is heard over them. */

#include <criterion/criterion.h>

#include "node_cluster.h"

TestSuite(node_links, .timeout = 60);

static uint32_t next_to(uint32_t leader)
{
    return (leader + 1) % CLUSTER_NODES;
}

/* node_cluster.c looks into all frames of the raft class: of a write, two heartbeats and a read. */
Test(node_links, appends_and_other_messages_go_in_frames_of_their_own)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    uint32_t urgent_before = site->urgent_count;
    uint32_t in_order_before = site->appends_count;
    struct glance glance;
    cr_assert_eq(glance_start(&glance, site, NODE_LINEARIZABLE, 0, CLUSTER_S), TL_OK);
    cr_assert_eq(site_put(site, "a", "1", NULL), TL_OK);
    cluster_pass(cluster, 100 * CLUSTER_MS);
    cr_assert_gt(site->urgent_count, urgent_before);
    cr_assert_gt(site->appends_count, in_order_before);
    cluster_destroy(cluster);
}

/* A write is held back while what waits to leave is at its limit, and heartbeats are not: nobody is
 * elected meanwhile. */
Test(node_links, entries_wait_for_a_backlog_to_leave)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    cluster_pass(cluster, CLUSTER_S);
    struct node_group_status before;
    site_status(site, &before);
    site->backlog = NODE_BACKLOG_BYTES_MAX;
    uint32_t appends_before = site->appends_count;
    struct effort effort;
    struct buf *entry = effort_entry("a", "1", false, 0, 0);
    cr_assert_eq(effort_start(&effort, site, entry, 10 * CLUSTER_S), TL_OK);
    cluster_pass(cluster, 3 * CLUSTER_S);
    cr_assert_eq(effort.calls_count, 0);
    cr_assert_eq(site->appends_count, appends_before);
    site->backlog = 0;
    node_turn(site->node); /* which the host promises */
    cr_assert(cluster_run(cluster, CLUSTER_S, effort_is_over, &effort));
    cr_assert_eq(effort.err, TL_OK);
    struct node_group_status after;
    site_status(site, &after);
    cr_assert_eq(after.raft.term, before.raft.term);
    cluster_destroy(cluster);
}

/* The leader says nothing, but a frame of it is arriving. */
static void pass_with_partials(struct cluster *cluster, struct site *site, raft_id from)
{
    for (uint32_t i = 0; i < 50; i++) {
        node_on_partial_frame(site->node, from);
        cluster_pass(cluster, 100 * CLUSTER_MS);
    }
}

Test(node_links, frame_that_is_arriving_from_the_leader_is_a_sign_of_it)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *follower = &cluster->sites[next_to(leader)];
    cluster_isolate(cluster, follower->place);
    pass_with_partials(cluster, follower, cluster->sites[leader].id);
    struct node_group_status status;
    site_status(follower, &status);
    cr_assert_eq(status.raft.role, RAFT_FOLLOWER);
    cr_assert_eq(status.raft.leader, cluster->sites[leader].id);
    cluster_pass(cluster, CLUSTER_S);
    site_status(follower, &status);
    cr_assert_eq(status.raft.leader, RAFT_ID_NONE, "and no longer than it arrives");
    cluster_destroy(cluster);
}

Test(node_links, frame_that_is_arriving_from_another_node_is_none)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *follower = &cluster->sites[next_to(leader)];
    const struct site *other = &cluster->sites[next_to(follower->place)];
    cluster_isolate(cluster, follower->place);
    pass_with_partials(cluster, follower, other->id);
    node_on_partial_frame(follower->node, 12345); /* no member */
    struct node_group_status status;
    site_status(follower, &status);
    cr_assert_neq(status.raft.leader, cluster->sites[leader].id);
    cluster_destroy(cluster);
}

Test(node_links, frame_that_is_arriving_before_birth_means_nothing)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    site_start(&cluster->sites[0]);
    node_on_partial_frame(cluster->sites[0].node, 12345);
    cluster_pass(cluster, CLUSTER_S);
    cluster_destroy(cluster);
}
