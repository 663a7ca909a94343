/* node: digests of the states, and what a replica does whose state is not that of the others. The
 * difference is planted: one node applies entries with another time (KV_MUTATION_OWN_TIME). */

#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "node_cluster.h"

TestSuite(node_digest, .timeout = 60);

#define INTERVAL 16u

static struct cluster *make_cluster(uint32_t view_count)
{
    struct cluster *cluster = cluster_create(view_count);
    for (uint32_t i = 0; i < view_count; i++) {
        cluster->sites[i].options.digest_interval = INTERVAL;
    }
    return cluster;
}

static void put_many(struct cluster *cluster, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct site *site = &cluster->sites[cluster_await_leader(cluster)];
        char key[16];
        snprintf(key, sizeof key, "k%u", i);
        struct effort effort;
        struct buf *entry = effort_entry(key, "v", false, 0, 0);
        enum tl_err err = effort_start(&effort, site, entry, 10 * CLUSTER_S);
        if (err != TL_OK) {
            cr_assert_eq(err, TL_ERR_DIVERGED);
            buf_release(entry);
            cluster_pass(cluster, CLUSTER_S); /* it stops leading */
            continue;
        }
        cr_assert(cluster_run(cluster, 20 * CLUSTER_S, effort_is_over, &effort));
        cr_assert(effort.err == TL_OK || effort.err == TL_ERR_UNKNOWN, "%s",
                  tl_err_name(effort.err));
    }
    cluster_pass(cluster, 300 * CLUSTER_MS);
}

static struct node_group_status status_of(struct site *site)
{
    struct node_group_status status;
    site_status(site, &status);
    return status;
}

/* Three nodes of which `wrong` applies otherwise; enough is written to show it. */
static struct cluster *diverged_cluster(uint32_t wrong)
{
    struct cluster *cluster = make_cluster(CLUSTER_NODES);
    cluster->sites[wrong].options.mutation = KV_MUTATION_OWN_TIME;
    cluster_form(cluster);
    put_many(cluster, 2 * INTERVAL);
    return cluster;
}

static bool is_diverged(struct site *site)
{
    struct node_status status;
    node_get_status(site->node, &status);
    return status.is_diverged;
}

Test(node_digest, equal_replicas_agree)
{
    struct cluster *cluster = make_cluster(CLUSTER_NODES);
    cluster_form(cluster);
    put_many(cluster, 5 * INTERVAL);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct node_group_status status = status_of(&cluster->sites[i]);
        cr_assert_eq(status.digests, NODE_DIGESTS_AGREE);
        cr_assert_eq(status.differing_count, 0);
        cr_assert(node_is_ready(cluster->sites[i].node));
    }
    cluster_destroy(cluster);
}

Test(node_digest, an_idle_cluster_sends_no_digests)
{
    struct cluster *cluster = make_cluster(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    put_many(cluster, 3 * INTERVAL);
    uint32_t follower = (leader + 1) % CLUSTER_NODES;
    uint32_t other = (leader + 2) % CLUSTER_NODES;
    cluster_pass(cluster, CLUSTER_S);
    uint32_t frames_count = cluster->sites[follower].frames_count;
    cluster_cut(cluster, follower, other);
    cluster_pass(cluster, CLUSTER_S);
    uint32_t with_leader_only = cluster->sites[follower].frames_count - frames_count;
    cluster_heal(cluster);
    cluster_pass(cluster, CLUSTER_S);
    frames_count = cluster->sites[follower].frames_count;
    cluster_pass(cluster, CLUSTER_S);
    uint32_t with_both = cluster->sites[follower].frames_count - frames_count;
    cr_assert_leq(with_both, with_leader_only + 2, "answers to heartbeats and nothing else");
    cluster_destroy(cluster);
}

Test(node_digest, a_minority_that_differs_stops_serving_and_says_so)
{
    for (uint32_t wrong = 0; wrong < CLUSTER_NODES; wrong++) { /* the leader is among them */
        struct cluster *cluster = diverged_cluster(wrong);
        struct site *site = &cluster->sites[wrong];
        struct node_group_status status = status_of(site);
        cr_assert_eq(status.digests, NODE_DIGESTS_DIVERGED);
        cr_assert_eq(status.differs_at, INTERVAL);
        cr_assert_eq(status.differing_count, CLUSTER_NODES - 1);
        cr_assert(is_diverged(site));
        cr_assert_not(node_is_ready(site->node));
        struct effort effort;
        struct buf *entry = effort_entry("k", "v", false, 0, 0);
        cr_assert_eq(effort_start(&effort, site, entry, CLUSTER_S), TL_ERR_DIVERGED);
        buf_release(entry);
        struct glance glance;
        cr_assert_eq(glance_start(&glance, site, NODE_LOCAL, 0, CLUSTER_S), TL_ERR_DIVERGED);
        struct node_leader_transfer transfer = {.group = NODE_DATA_GROUP};
        cr_assert_eq(node_leader_transfer(site->node, &transfer), TL_ERR_DIVERGED);
        cluster_destroy(cluster);
    }
}

Test(node_digest, the_others_name_it_and_go_on)
{
    for (uint32_t wrong = 0; wrong < CLUSTER_NODES; wrong++) {
        struct cluster *cluster = diverged_cluster(wrong);
        uint32_t leader = cluster_await_leader(cluster);
        cr_assert_neq(leader, wrong, "it does not lead any more");
        cr_assert_eq(site_put(&cluster->sites[leader], "after", "1", NULL), TL_OK);
        for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
            if (i == wrong) continue;
            struct node_group_status status = status_of(&cluster->sites[i]);
            cr_assert_eq(status.digests, NODE_DIGESTS_DIFFER);
            cr_assert_eq(status.differing_count, 1);
            cr_assert_eq(status.differing[0], cluster->sites[wrong].id);
            cr_assert_not(is_diverged(&cluster->sites[i]));
            cr_assert(node_is_ready(cluster->sites[i].node));
        }
        cluster_destroy(cluster);
    }
}

static bool leads(struct site *site, raft_group group)
{
    struct node_group_status status;
    node_get_group_status(site->node, group, &status);
    return status.raft.role == RAFT_LEADER;
}

static void on_transfer_done(struct node_leader_transfer *transfer, enum tl_err err)
{
    *(bool *)transfer->context = true;
    cr_assert_eq(err, TL_OK);
}

static bool holds(void *context)
{
    return *(bool *)context;
}

static void make_leader(struct site *site, raft_group group)
{
    bool is_over = false;
    struct node_leader_transfer transfer = {
        .group = group,
        .deadline_ns = site->cluster->now_ns + 5 * CLUSTER_S,
        .on_done = on_transfer_done,
        .context = &is_over,
    };
    snprintf(transfer.address, sizeof transfer.address, "%s", site->address);
    cr_assert_eq(node_leader_transfer(site->node, &transfer), TL_OK);
    cr_assert(cluster_run(site->cluster, 10 * CLUSTER_S, holds, &is_over));
    cr_assert(leads(site, group));
}

/* It would refuse what is asked of the others. */
Test(node_digest, it_hands_over_the_groups_whose_state_is_right)
{
    struct cluster *cluster = make_cluster(CLUSTER_NODES);
    struct site *site = &cluster->sites[1];
    site->options.mutation = KV_MUTATION_OWN_TIME;
    cluster_form(cluster);
    make_leader(site, 0);
    make_leader(&cluster->sites[0], NODE_DATA_GROUP);
    for (uint32_t i = 0; i < 2 * INTERVAL && !is_diverged(site); i++) put_many(cluster, 1);
    cr_assert(is_diverged(site));
    struct node_group_status status;
    node_get_group_status(site->node, 0, &status);
    cr_assert_eq(status.digests, NODE_DIGESTS_AGREE);
    cr_assert_not(leads(site, 0));
    cr_assert(leads(&cluster->sites[0], 0) || leads(&cluster->sites[2], 0), "at once");
    cluster_pass(cluster, 20 * CLUSTER_S);
    cr_assert_not(leads(site, 0) || leads(site, NODE_DATA_GROUP));
    cluster_destroy(cluster);
}

Test(node_digest, it_is_handed_nothing)
{
    struct cluster *cluster = diverged_cluster(1);
    for (uint32_t i = 0; i < 6; i++) {
        struct site *leader = &cluster->sites[leads(&cluster->sites[0], 0) ? 0 : 2];
        cr_assert(leads(leader, 0));
        bool is_over = false;
        struct node_leader_transfer transfer = {
            .deadline_ns = cluster->now_ns + 5 * CLUSTER_S,
            .on_done = on_transfer_done,
            .context = &is_over,
        };
        cr_assert_eq(node_leader_transfer(leader->node, &transfer), TL_OK);
        cr_assert(cluster_run(cluster, 10 * CLUSTER_S, holds, &is_over));
        cr_assert(leads(&cluster->sites[2 - leader->place], 0));
    }
    cluster_destroy(cluster);
}

Test(node_digest, it_keeps_the_log_and_counts_for_the_quorum)
{
    struct cluster *cluster = diverged_cluster(1);
    uint32_t leader = cluster_await_leader(cluster);
    uint32_t third = CLUSTER_NODES - 1 - leader;
    site_kill(&cluster->sites[third]);
    cr_assert_eq(site_put(&cluster->sites[leader], "after", "1", NULL), TL_OK);
    cluster_pass(cluster, 3 * CLUSTER_S);
    cr_assert_eq(cluster_leader(cluster), leader);
    site_start(&cluster->sites[third]);
    cluster_pass(cluster, CLUSTER_S);
    site_kill(&cluster->sites[leader]);
    cluster_pass(cluster, 3 * CLUSTER_S);
    cr_assert_eq(cluster_await_leader(cluster), third, "by its vote");
    cluster_destroy(cluster);
}

Test(node_digest, a_restart_does_not_make_it_serve_again)
{
    struct cluster *cluster = diverged_cluster(1);
    struct site *site = &cluster->sites[1];
    site_kill(site);
    site->options.mutation = 0;
    site_start(site);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert(is_diverged(site));
    cr_assert_not(node_is_ready(site->node));
    cr_assert_eq(status_of(site).digests, NODE_DIGESTS_DIVERGED);
    cr_assert_eq(status_of(site).differs_at, INTERVAL);
    cluster_destroy(cluster);
}

/* The crash leaves a mark that does not say of which group: none of them may be led. */
Test(node_digest, a_mark_that_was_cut_short_keeps_it_from_leading)
{
    struct cluster *cluster = diverged_cluster(1);
    struct site *site = &cluster->sites[1];
    site_kill(site);
    site->options.mutation = 0;
    char path[160];
    snprintf(path, sizeof path, "%s/diverged", site->dir);
    FILE *mark = fopen(path, "w");
    cr_assert_not_null(mark);
    cr_assert_eq(fclose(mark), 0);
    site_start(site);
    uint32_t leader = cluster_await_leader(cluster);
    uint32_t third = CLUSTER_NODES - 1 - leader;
    cluster_pass(cluster, CLUSTER_S);
    cr_assert(is_diverged(site));
    site_kill(&cluster->sites[third]);
    cr_assert_eq(site_put(&cluster->sites[leader], "after", "1", NULL), TL_OK);
    site_kill(&cluster->sites[leader]);
    site_start(&cluster->sites[third]);
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert_eq(cluster_leader(cluster), CLUSTER_NONE, "the other one's log is too short");
    site_start(&cluster->sites[leader]);
    cr_assert_eq(cluster_await_leader(cluster), leader);
    cluster_destroy(cluster);
}

Test(node_digest, a_node_that_cannot_look_for_its_mark_does_not_start)
{
    struct cluster *cluster = make_cluster(CLUSTER_NODES);
    cluster_form(cluster);
    struct site *site = &cluster->sites[1];
    site_kill(site);
    char path[160];
    snprintf(path, sizeof path, "%s/diverged", site->dir);
    cr_assert_eq(symlink("diverged", path), 0); /* leads to itself */
    cr_assert_eq(site_try_start(site), TL_ERR_IO);
    cluster_destroy(cluster);
}

Test(node_digest, one_that_was_away_is_compared_when_it_is_back)
{
    struct cluster *cluster = make_cluster(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    uint32_t wrong = (leader + 1) % CLUSTER_NODES;
    site_kill(&cluster->sites[wrong]);
    put_many(cluster, 5 * INTERVAL);
    cluster->sites[wrong].options.mutation = KV_MUTATION_OWN_TIME;
    site_start(&cluster->sites[wrong]);
    cluster_pass(cluster, 2 * CLUSTER_S);
    cr_assert(is_diverged(&cluster->sites[wrong]));
    cluster_destroy(cluster);
}

/* Nobody knows who is right: all say so, and nobody stops. */
Test(node_digest, without_a_majority_of_one_state_nothing_stops)
{
    struct cluster *cluster = make_cluster(2);
    cluster->sites[0].options.mutation = KV_MUTATION_OWN_TIME;
    cluster_form(cluster);
    put_many(cluster, 2 * INTERVAL);
    for (uint32_t i = 0; i < 2; i++) {
        struct node_group_status status = status_of(&cluster->sites[i]);
        cr_assert_eq(status.digests, NODE_DIGESTS_DIFFER);
        cr_assert_eq(status.differs_at, INTERVAL);
        cr_assert_eq(status.differing_count, 1);
        cr_assert_eq(status.differing[0], cluster->sites[1 - i].id);
        cr_assert(node_is_ready(cluster->sites[i].node));
    }
    cr_assert_eq(site_put(&cluster->sites[0], "k", "v", NULL), TL_OK);
    cluster_destroy(cluster);
}

/* The third decides. */
Test(node_digest, a_majority_that_comes_later_decides)
{
    struct cluster *cluster = make_cluster(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    uint32_t wrong = leader;
    uint32_t third = (leader + 1) % CLUSTER_NODES;
    uint32_t other = (leader + 2) % CLUSTER_NODES;
    /* The mutation takes effect at the start. */
    site_kill(&cluster->sites[wrong]);
    cluster->sites[wrong].options.mutation = KV_MUTATION_OWN_TIME;
    site_start(&cluster->sites[wrong]);
    (void)cluster_await_leader(cluster);
    cluster_pass(cluster, CLUSTER_S);
    site_kill(&cluster->sites[third]);
    put_many(cluster, 2 * INTERVAL);
    cr_assert_eq(status_of(&cluster->sites[wrong]).digests, NODE_DIGESTS_DIFFER);
    cr_assert_eq(status_of(&cluster->sites[other]).digests, NODE_DIGESTS_DIFFER);
    cr_assert_not(is_diverged(&cluster->sites[wrong]));
    site_start(&cluster->sites[third]);
    cluster_pass(cluster, 3 * CLUSTER_S);
    cr_assert(is_diverged(&cluster->sites[wrong]));
    cr_assert_not(is_diverged(&cluster->sites[other]));
    cr_assert_not(is_diverged(&cluster->sites[third]));
    cluster_destroy(cluster);
}

Test(node_digest, garbage_is_refused_and_strangers_groups_are_ignored)
{
    struct cluster *cluster = make_cluster(CLUSTER_NODES);
    cluster_form(cluster);
    raft_id peer = cluster->sites[1].id;
    struct node *node = cluster->sites[0].node;
    cr_assert_eq(node_on_frame(node, peer, FRAME_DIGESTS, bytes_of("x")), TL_ERR_INVALID);
    struct digest_report report = {.group = 77, .points_count = 2};
    report.points[0].index = INTERVAL;
    report.points[1].index = INTERVAL + 1; /* no place for this one */
    struct buf *buf = buf_create(1024);
    digest_report_encode(&report, buf);
    report.group = NODE_DATA_GROUP;
    digest_report_encode(&report, buf);
    cr_assert_eq(node_on_frame(node, peer, FRAME_DIGESTS, buf_bytes(buf)), TL_OK);
    buf_release(buf);
    cr_assert_eq(status_of(&cluster->sites[0]).digests, NODE_DIGESTS_AGREE);
    cluster_destroy(cluster);
}

static bool has_fit_leader(void *context)
{
    struct cluster *cluster = context;
    uint32_t leader = cluster_leader(cluster);
    return leader != CLUSTER_NONE && !is_diverged(&cluster->sites[leader]);
}

/* The best successor may be another one that may not lead, every time. */
Test(node_digest, two_of_five_that_have_diverged_leave_it_to_a_third)
{
    struct cluster *cluster = make_cluster(CLUSTER_SITES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    /* The one that it prefers of those with the same log. */
    raft_id preferred = status_of(site).raft.peers[0].id;
    uint32_t second = 0;
    while (cluster->sites[second].id != preferred) second++;
    const uint32_t wrong[] = {leader, second};
    for (uint32_t i = 0; i < 2; i++) {
        site_kill(&cluster->sites[wrong[i]]);
        cluster->sites[wrong[i]].options.mutation = KV_MUTATION_OWN_TIME;
        site_start(&cluster->sites[wrong[i]]);
        (void)cluster_await_leader(cluster);
    }
    cluster_pass(cluster, CLUSTER_S);
    make_leader(site, NODE_DATA_GROUP);
    put_many(cluster, INTERVAL);
    cr_assert(is_diverged(site));
    cr_assert(is_diverged(&cluster->sites[second]));
    cr_assert(cluster_run(cluster, 3 * CLUSTER_S, has_fit_leader, cluster));
    uint32_t fit = cluster_leader(cluster);
    cr_assert_eq(site_put(&cluster->sites[fit], "after", "1", NULL), TL_OK);
    cluster_destroy(cluster);
}

/* ---- snapshots ---- */

static bool has_installed(void *context)
{
    return node_get_metrics(((struct site *)context)->node)->snapshots_installed_count > 0;
}

/* Applied otherwise, before a snapshot replaced it, and judged by a majority only afterwards. */
Test(node_digest, what_a_snapshot_has_replaced_is_not_judged_any_more)
{
    struct cluster *cluster = make_cluster(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct node_options *options = &cluster->sites[i].options;
        options->log_retain_bytes = 0;
        options->log_cache_bytes = 1;
        options->generation_age_ns = 20 * CLUSTER_MS;
    }
    uint32_t leader = cluster_form(cluster);
    uint32_t wrong = (leader + 1) % CLUSTER_NODES;
    uint32_t other = (leader + 2) % CLUSTER_NODES;
    struct site *site = &cluster->sites[wrong];
    site_kill(site);
    site->options.mutation = KV_MUTATION_OWN_TIME;
    site_start(site);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_eq(cluster_await_leader(cluster), leader);
    cluster_cut(cluster, wrong, other);
    put_many(cluster, INTERVAL);
    cr_assert_eq(status_of(site).digests, NODE_DIGESTS_DIFFER, "from the leader's, so far");
    cluster_isolate(cluster, wrong);
    struct node_group_status status = status_of(site);
    raft_index applied = status.state.index;
    for (uint32_t i = 0; i == 0 || status.raft.first <= applied + 1; i++) {
        cr_assert_lt(i, 20, "the log is not deleted");
        put_many(cluster, INTERVAL);
        status = status_of(&cluster->sites[leader]);
    }
    cluster_pass(cluster, 200 * CLUSTER_MS);
    status = status_of(&cluster->sites[leader]);
    cr_assert_eq(status.flushed, status.state.index, "so the snapshot is all that it will apply");
    cr_assert_lt(status.state.index, (DIGEST_POINTS_MAX - 1) * INTERVAL, "the digests are kept");
    cluster_heal(cluster);
    cluster_cut(cluster, wrong, other);
    cr_assert(cluster_run(cluster, 20 * CLUSTER_S, has_installed, site));
    cr_assert_not(is_diverged(site));
    cluster_heal(cluster);
    cluster_pass(cluster, 2 * CLUSTER_S);
    cr_assert_not(is_diverged(site));
    cluster_destroy(cluster);
}
