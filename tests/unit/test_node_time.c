/* node: entry times under clocks that are wrong, and tokens judged by them. */

#include <criterion/criterion.h>

#include "node_cluster.h"

#define HOUR_US (3600ll * 1000000)
#define DAY_US (24 * HOUR_US)
#define S_US 1000000ull

TestSuite(node_time, .timeout = 60);

static uint64_t put_time(struct site *site)
{
    struct kv_result result;
    cr_assert_eq(site_put(site, "a", "1", &result), TL_OK);
    return result.time_us;
}

static void set_clocks(struct cluster *cluster, int64_t offset_us)
{
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) cluster->sites[i].clock_offset_us = offset_us;
}

/* Log time goes on between the lower and the upper rate, for some seconds. */
static void expect_steady(struct cluster *cluster)
{
    struct site *leader = &cluster->sites[cluster_await_leader(cluster)];
    uint64_t before_us = put_time(leader);
    uint64_t began_ns = cluster->now_ns;
    for (uint32_t i = 0; i < 20; i++) {
        cluster_pass(cluster, 200 * CLUSTER_MS);
        uint64_t risen_us = put_time(leader) - before_us;
        uint64_t real_us = (cluster->now_ns - began_ns) / 1000;
        cr_assert_leq(risen_us, 2 * real_us);
        cr_assert_geq(risen_us + S_US / 4, real_us * 3 / 4, "%llu of %llu us",
                      (unsigned long long)risen_us, (unsigned long long)real_us);
    }
}

/* One clock an hour behind, of the leader: log time does not stand still, and does not jump when
 * another node leads. */
Test(node_time, a_leader_that_is_slow_neither_stops_log_time_nor_makes_it_jump)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    cluster->sites[leader].clock_offset_us = -HOUR_US;
    cluster_pass(cluster, CLUSTER_S);
    expect_steady(cluster);
    uint64_t before_us = put_time(&cluster->sites[leader]);
    site_kill(&cluster->sites[leader]);
    uint32_t successor = cluster_await_leader(cluster);
    cr_assert_lt(put_time(&cluster->sites[successor]), before_us + 10 * S_US);
    expect_steady(cluster);
    cluster_destroy(cluster);
}

/* A slow follower's clock is the median of two while the third node is down. */
Test(node_time, a_slow_median_and_then_a_right_one_do_not_make_log_time_jump)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    uint32_t slow = (leader + 1) % CLUSTER_NODES;
    uint32_t third = (leader + 2) % CLUSTER_NODES;
    cluster->sites[slow].clock_offset_us = -HOUR_US;
    site_kill(&cluster->sites[third]);
    cluster_pass(cluster, CLUSTER_S);
    expect_steady(cluster);
    cluster->sites[slow].clock_offset_us = 0;
    site_start(&cluster->sites[third]);
    cluster_pass(cluster, CLUSTER_S);
    expect_steady(cluster);
    cluster_destroy(cluster);
}

Test(node_time, clocks_that_were_ahead_and_are_set_right_do_not_stop_log_time)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    set_clocks(cluster, 8 * HOUR_US);
    cluster_form(cluster);
    expect_steady(cluster);
    set_clocks(cluster, 0);
    expect_steady(cluster);
    cluster_destroy(cluster);
}

Test(node_time, clocks_that_are_set_forward_by_a_day_and_back_do_not_move_log_time)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    for (uint32_t i = 0; i < 4; i++) {
        set_clocks(cluster, i % 2 == 0 ? DAY_US : -DAY_US);
        expect_steady(cluster);
    }
    cluster_destroy(cluster);
}

/* The genesis' time is the clock of the node that formed the cluster. */
Test(node_time, a_cluster_whose_first_node_was_a_day_ahead_goes_on_from_there)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    set_clocks(cluster, DAY_US);
    cluster_form(cluster);
    set_clocks(cluster, 0);
    expect_steady(cluster);
    cluster_destroy(cluster);
}

Test(node_time, a_restart_after_hours_of_downtime_catches_up_steadily)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    expect_steady(cluster);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) site_kill(&cluster->sites[i]);
    set_clocks(cluster, 5 * HOUR_US);
    site_start_all(cluster);
    cluster_await_leader(cluster);
    expect_steady(cluster);
    cluster_destroy(cluster);
}

static enum tl_err put_with_token(struct cluster *cluster, struct site *site, uint64_t token_us,
                                  uint64_t timeout_ns, struct kv_result *out_result)
{
    struct effort effort;
    struct buf *entry = effort_entry("b", "1", false, 0, token_us);
    cr_assert_eq(effort_start(&effort, site, entry, timeout_ns), TL_OK);
    cr_assert(cluster_run(cluster, 30 * CLUSTER_S, effort_is_over, &effort), "it hangs");
    *out_result = effort.result;
    return effort.err;
}

static enum tl_err read_with_token(struct cluster *cluster, struct site *site, uint64_t token_us,
                                   enum node_consistency consistency)
{
    struct glance glance;
    cr_assert_eq(glance_start(&glance, site, consistency, token_us, 5 * CLUSTER_S), TL_OK);
    cr_assert(cluster_run(cluster, 30 * CLUSTER_S, glance_is_over, &glance), "it hangs");
    return glance.err;
}

/* An entry's time covers its client's token, and what that takes of log time is no jump. */
Test(node_time, a_write_waits_until_log_time_has_reached_its_token)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct site *site = &cluster->sites[(leader + i) % CLUSTER_NODES];
        uint64_t before_us = put_time(site);
        uint64_t began_ns = cluster->now_ns;
        struct kv_result result;
        cr_assert_eq(put_with_token(cluster, site, before_us + 7 * S_US, 5 * CLUSTER_S, &result),
                     TL_OK);
        cr_assert_geq(result.time_us, before_us + 7 * S_US);
        uint64_t waited_us = (cluster->now_ns - began_ns) / 1000;
        cr_assert_leq(result.time_us - before_us, 2 * waited_us + S_US / 10);
        cluster_pass(cluster, 10 * CLUSTER_S); /* the clocks catch up */
    }
    cluster_destroy(cluster);
}

Test(node_time, a_write_whose_token_is_not_reached_in_time_is_not_executed)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    struct site *leader = &cluster->sites[cluster_form(cluster)];
    struct kv_result result;
    uint64_t token_us = put_time(leader) + 9 * S_US;
    cr_assert_eq(put_with_token(cluster, leader, token_us, 2 * CLUSTER_S, &result), TL_ERR_TIMEOUT);
    cr_assert_null(site_get(leader, "b"));
    cluster_destroy(cluster);
}

/* Tokens that are no entry's are refused on every node, and do not move log time. */
Test(node_time, tokens_far_ahead_are_refused_and_leave_log_time_alone)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct site *site = &cluster->sites[i];
        static const uint64_t ahead_us[] = {15 * S_US, DAY_US, UINT64_MAX / 2};
        for (size_t k = 0; k < TL_COUNT_OF(ahead_us); k++) {
            uint64_t token_us = put_time(site) + ahead_us[k];
            struct kv_result result;
            cr_assert_eq(put_with_token(cluster, site, token_us, 5 * CLUSTER_S, &result),
                         TL_ERR_AHEAD);
            cr_assert_eq(read_with_token(cluster, site, token_us, NODE_CAUSAL), TL_ERR_AHEAD);
            cr_assert_eq(read_with_token(cluster, site, token_us, NODE_LINEARIZABLE), TL_ERR_AHEAD);
            cr_assert_eq(read_with_token(cluster, site, token_us, NODE_LOCAL), TL_OK);
        }
    }
    expect_steady(cluster);
    cluster_destroy(cluster);
}

/* A token of an entry is taken by every node, whatever its clock says and however old its data. */
Test(node_time, tokens_of_the_clusters_own_making_are_never_refused)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    set_clocks(cluster, DAY_US);
    uint32_t leader = cluster_form(cluster);
    struct site *follower = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    set_clocks(cluster, 0); /* a day behind all tokens */
    site_kill(follower);
    for (uint32_t i = 0; i < 20; i++) {
        (void)put_time(&cluster->sites[leader]);
        cluster_pass(cluster, CLUSTER_S);
    }
    site_start(follower);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, cluster_is_ready, cluster));
    follower->holds_log = true; /* nothing new is applied there meanwhile */
    uint64_t token_us = 0;
    for (uint32_t i = 0; i < 20; i++) {
        token_us = put_time(&cluster->sites[leader]);
        cluster_pass(cluster, CLUSTER_S);
    }
    follower->holds_log = false;
    cr_assert_eq(read_with_token(cluster, follower, token_us, NODE_CAUSAL), TL_OK);
    struct kv_result result;
    cr_assert_eq(put_with_token(cluster, follower, token_us, 5 * CLUSTER_S, &result), TL_OK);
    cr_assert_gt(result.time_us, token_us);
    cluster_destroy(cluster);
}

/* A node without a leader cannot know: it does not refuse, it has no answer. */
Test(node_time, a_node_that_is_cut_off_does_not_call_a_token_wrong)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *follower = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        if (&cluster->sites[i] != follower) site_kill(&cluster->sites[i]);
    }
    cluster_pass(cluster, 2 * CLUSTER_S);
    uint64_t token_us = node_applied_time_us(follower->node, NODE_DATA_GROUP) + DAY_US;
    enum tl_err err = read_with_token(cluster, follower, token_us, NODE_CAUSAL);
    cr_assert(err == TL_ERR_NO_QUORUM || err == TL_ERR_NO_LEADER, "got %s", tl_err_name(err));
    struct kv_result result;
    err = put_with_token(cluster, follower, token_us, 5 * CLUSTER_S, &result);
    cr_assert(err == TL_ERR_NO_QUORUM || err == TL_ERR_NO_LEADER, "got %s", tl_err_name(err));
    cluster_destroy(cluster);
}
