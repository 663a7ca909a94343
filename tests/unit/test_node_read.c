/* node: when a read may be served. */

#include <criterion/criterion.h>
#include <signal.h>

#include "node_cluster.h"

TestSuite(node_read, .timeout = 60);

static void expect_ready(struct cluster *cluster, struct glance *glance, enum tl_err err)
{
    cr_assert(cluster_run(cluster, 20 * CLUSTER_S, glance_is_over, glance), "it hangs");
    cr_assert_eq(glance->err, err, "got %s", tl_err_name(glance->err));
    cr_assert_leq(glance->calls_count, 1);
}

Test(node_read, linearizable_one_sees_what_was_acknowledged_before_it_on_every_node)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        char value[2] = {(char)('0' + i), '\0'};
        cr_assert_eq(site_put(&cluster->sites[leader], "a", value, NULL), TL_OK);
        struct glance glance;
        cr_assert_eq(glance_start(&glance, &cluster->sites[i], NODE_LINEARIZABLE, 0, CLUSTER_S),
                     TL_OK);
        cr_assert(!glance.is_ready_at_once);
        expect_ready(cluster, &glance, TL_OK);
        cr_assert_str_eq(site_get(&cluster->sites[i], "a"), value);
    }
    cluster_destroy(cluster);
}

Test(node_read, follower_that_has_not_applied_yet_waits)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *follower = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    follower->holds_log = true; /* durable nowhere here: nothing may be applied */
    cr_assert_eq(site_put(&cluster->sites[leader], "a", "1", NULL), TL_OK);
    struct glance glance;
    cr_assert_eq(glance_start(&glance, follower, NODE_LINEARIZABLE, 0, 5 * CLUSTER_S), TL_OK);
    cluster_pass(cluster, 300 * CLUSTER_MS);
    cr_assert_eq(glance.calls_count, 0);
    cr_assert_null(site_get(follower, "a"));
    follower->holds_log = false;
    expect_ready(cluster, &glance, TL_OK);
    cr_assert_str_eq(site_get(follower, "a"), "1");
    cluster_destroy(cluster);
}

Test(node_read, reads_of_a_turn_share_one_round)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    cluster_pass(cluster, CLUSTER_S);
    struct node_group_status before;
    site_status(&cluster->sites[leader], &before);
    static struct glance glances[100];
    for (uint32_t i = 0; i < TL_COUNT_OF(glances); i++) {
        cr_assert_eq(
            glance_start(&glances[i], &cluster->sites[leader], NODE_LINEARIZABLE, 0, CLUSTER_S),
            TL_OK);
    }
    for (uint32_t i = 0; i < TL_COUNT_OF(glances); i++) expect_ready(cluster, &glances[i], TL_OK);
    struct node_group_status after;
    site_status(&cluster->sites[leader], &after);
    cr_assert_eq(after.raft.read_rounds_count, before.raft.read_rounds_count + 1);
    cr_assert_eq(node_get_metrics(cluster->sites[leader].node)->reads_linearizable_count, 100);
    cluster_destroy(cluster);
}

Test(node_read, old_leader_that_is_cut_off_serves_none)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct glance before;
    cr_assert_eq(glance_start(&before, &cluster->sites[leader], NODE_LINEARIZABLE, 0, CLUSTER_S),
                 TL_OK);
    expect_ready(cluster, &before, TL_OK);
    cluster_isolate(cluster, leader);
    struct glance glance;
    cr_assert_eq(
        glance_start(&glance, &cluster->sites[leader], NODE_LINEARIZABLE, 0, 5 * CLUSTER_S), TL_OK);
    uint64_t began_ns = cluster->now_ns;
    expect_ready(cluster, &glance, TL_ERR_NO_QUORUM);
    cr_assert_leq(cluster->now_ns - began_ns, NODE_LEADER_WAIT_NS + 400 * CLUSTER_MS);
    cluster_destroy(cluster);
}

Test(node_read, deadline_says_timeout)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    cluster_isolate(cluster, leader);
    struct glance glance;
    cr_assert_eq(
        glance_start(&glance, &cluster->sites[leader], NODE_LINEARIZABLE, 0, 50 * CLUSTER_MS),
        TL_OK);
    expect_ready(cluster, &glance, TL_ERR_TIMEOUT);
    const struct node_metrics *metrics = node_get_metrics(cluster->sites[leader].node);
    cr_assert_eq(metrics->reads_failed_count, 1);
    cr_assert_eq(metrics->reads_linearizable_count, 0, "it was not served");
    cluster_heal(cluster);
    cluster_await_leader(cluster);
    cr_assert_eq(
        glance_start(&glance, &cluster->sites[leader], NODE_LINEARIZABLE, 0, 5 * CLUSTER_S), TL_OK);
    expect_ready(cluster, &glance, TL_OK);
    cr_assert_eq(metrics->reads_failed_count, 1);
    cr_assert_eq(metrics->reads_linearizable_count, 1);
    cluster_destroy(cluster);
}

Test(node_read, survives_a_change_of_leader)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    site_kill(&cluster->sites[leader]);
    struct glance glance;
    struct site *site = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    cr_assert_eq(glance_start(&glance, site, NODE_LINEARIZABLE, 0, 5 * CLUSTER_S), TL_OK);
    expect_ready(cluster, &glance, TL_OK);
    cluster_destroy(cluster);
}

Test(node_read, local_one_is_ready_at_once_even_alone)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    cr_assert_eq(site_put(&cluster->sites[0], "a", "1", NULL), TL_OK);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_lt(node_age_ms(cluster->sites[2].node, NODE_DATA_GROUP), 500);
    cluster_isolate(cluster, 2);
    cluster_pass(cluster, 3 * CLUSTER_S);
    struct glance glance;
    cr_assert_eq(glance_start(&glance, &cluster->sites[2], NODE_LOCAL, 0, CLUSTER_S), TL_OK);
    cr_assert(glance.is_ready_at_once);
    cr_assert_str_eq(site_get(&cluster->sites[2], "a"), "1");
    cr_assert_geq(node_age_ms(cluster->sites[2].node, NODE_DATA_GROUP), 2500, "and says its age");
    cr_assert(!node_is_ready(cluster->sites[2].node));
    cluster_destroy(cluster);
}

Test(node_read, causal_one_is_ready_at_once_when_its_token_is_covered)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    struct kv_result result;
    cr_assert_eq(site_put(&cluster->sites[0], "a", "1", &result), TL_OK);
    cluster_pass(cluster, CLUSTER_S);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct glance glance;
        cr_assert_eq(
            glance_start(&glance, &cluster->sites[i], NODE_CAUSAL, result.time_us, CLUSTER_S),
            TL_OK);
        cr_assert(glance.is_ready_at_once);
        cr_assert_geq(node_applied_time_us(cluster->sites[i].node, NODE_DATA_GROUP),
                      result.time_us);
    }
    cluster_destroy(cluster);
}

Test(node_read, causal_one_waits_for_its_token)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *follower = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    follower->holds_log = true;
    struct kv_result result;
    cr_assert_eq(site_put(&cluster->sites[leader], "a", "1", &result), TL_OK);
    struct glance glance;
    cr_assert_eq(glance_start(&glance, follower, NODE_CAUSAL, result.time_us, 5 * CLUSTER_S),
                 TL_OK);
    cr_assert(!glance.is_ready_at_once);
    cluster_pass(cluster, 200 * CLUSTER_MS);
    cr_assert_eq(glance.calls_count, 0);
    follower->holds_log = false;
    expect_ready(cluster, &glance, TL_OK);
    cr_assert_str_eq(site_get(follower, "a"), "1");
    cluster_destroy(cluster);
}

/* A token that no entry will reach soon (another group's time): one round begun after it came shows
 * that this replica has all there was. */
Test(node_read, causal_one_beyond_the_log_is_ready_after_one_round)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct site *site = &cluster->sites[i];
        uint64_t token_us = node_applied_time_us(site->node, NODE_DATA_GROUP) + 8000000;
        struct glance glance;
        cr_assert_eq(glance_start(&glance, site, NODE_CAUSAL, token_us, CLUSTER_S), TL_OK);
        cr_assert(!glance.is_ready_at_once);
        expect_ready(cluster, &glance, TL_OK);
    }
    cluster_destroy(cluster);
}

Test(node_read, can_be_canceled_at_any_time)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    for (uint32_t steps = 0; steps < 8; steps++) {
        for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
            struct glance glances[3];
            uint64_t token_us =
                node_applied_time_us(cluster->sites[i].node, NODE_DATA_GROUP) + 8000000;
            for (uint32_t k = 0; k < 3; k++) {
                enum node_consistency consistency = k == 1 ? NODE_CAUSAL : NODE_LINEARIZABLE;
                cr_assert_eq(
                    glance_start(&glances[k], &cluster->sites[i], consistency, token_us, CLUSTER_S),
                    TL_OK);
            }
            for (uint32_t k = 0; k < steps; k++) cluster_step(cluster);
            bool is_over[2] = {glances[0].calls_count > 0, glances[1].calls_count > 0};
            node_read_cancel(cluster->sites[i].node, &glances[0].read);
            node_read_cancel(cluster->sites[i].node, &glances[1].read);
            expect_ready(cluster, &glances[2], TL_OK);
            cr_assert_eq(glances[0].calls_count, is_over[0]);
            cr_assert_eq(glances[1].calls_count, is_over[1]);
        }
    }
    struct node_status status;
    node_get_status(cluster->sites[0].node, &status);
    cr_assert_eq(status.requests_waiting_count, 0);
    cluster_destroy(cluster);
}
