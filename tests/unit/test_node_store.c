/* node: what restarts, full generations and failing disks do. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>

#include "node_cluster.h"

TestSuite(node_store, .timeout = 60);

static void put_many(struct site *site, uint32_t first, uint32_t count)
{
    static struct effort efforts[1024];
    cr_assert_leq(count, TL_COUNT_OF(efforts));
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%05u", first + i);
        struct buf *entry = effort_entry(key, key, false, 0, 0);
        cr_assert_eq(effort_start(&efforts[i], site, entry, 30 * CLUSTER_S), TL_OK);
    }
    for (uint32_t i = 0; i < count; i++) {
        cr_assert(cluster_run(site->cluster, 30 * CLUSTER_S, effort_is_over, &efforts[i]));
        cr_assert_eq(efforts[i].err, TL_OK, "%s", tl_err_name(efforts[i].err));
    }
}

static void expect_many(struct site *site, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%05u", i);
        const char *value = site_get(site, key);
        cr_assert_not_null(value, "%s is gone", key);
        cr_assert_str_eq(value, key);
    }
}

static uint64_t replayed_count(struct site *site)
{
    struct node_status status;
    node_get_status(site->node, &status);
    return status.replayed_count;
}

static raft_index flushed(struct site *site)
{
    struct node_group_status status;
    site_status(site, &status);
    return status.flushed;
}

Test(node_store, restart_replays_only_what_was_not_flushed)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 0, 300);
    cluster_pass(cluster, 6 * CLUSTER_S); /* the generation's age */
    cr_assert_eq(flushed(site), site_applied(site));
    put_many(site, 300, 10);
    cr_assert_eq(flushed(site) + 10, site_applied(site));
    struct node_group_status before;
    site_status(site, &before);
    site_kill(site);
    site_start(site);
    cr_assert_geq(replayed_count(site), 10);
    cr_assert_leq(replayed_count(site), 14, "noops of both groups besides");
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, cluster_is_ready, cluster));
    struct node_group_status after;
    site_status(site, &after);
    cr_assert_eq(after.state.revision, before.state.revision);
    cr_assert_eq(after.state.rows_count, before.state.rows_count);
    cr_assert(hash_equal(after.state.rows_digest, before.state.rows_digest));
    expect_many(site, 310);
    cluster_destroy(cluster);
}

/* More than the core keeps at a restart: the log is read, a part at a time. */
Test(node_store, replay_reads_the_log_when_entries_are_not_in_memory)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    site->options.generation_age_ns = 3600 * CLUSTER_S;
    cluster_form(cluster);
    for (uint32_t i = 0; i < 10; i++) put_many(site, i * 1000, 1000);
    cr_assert_eq(flushed(site), 0);
    site_kill(site);
    site_start(site);
    cr_assert_geq(replayed_count(site), 10000);
    struct node_status status;
    node_get_status(site->node, &status);
    cr_assert_eq(status.stage, NODE_STAGE_REPLAY);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, cluster_is_ready, cluster));
    cr_assert_geq(site->log_reads_count, 2);
    expect_many(site, 10000);
    cluster_destroy(cluster);
}

Test(node_store, drained_node_replays_nothing)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 0, 50);
    node_drain(site->node);
    struct effort effort;
    struct buf *entry = effort_entry("late", "1", false, 0, 0);
    cr_assert_eq(effort_start(&effort, site, entry, CLUSTER_S), TL_ERR_STOPPING);
    buf_release(entry);
    cr_assert(!node_is_drained(site->node));
    cluster_pass(cluster, 50 * CLUSTER_MS);
    cr_assert(node_is_drained(site->node));
    site_kill(site);
    site_start(site);
    cr_assert_eq(replayed_count(site), 0);
    cluster_destroy(cluster);
}

Test(node_store, drain_ends_while_others_go_on_writing)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *follower = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    struct effort waiting;
    struct buf *entry = effort_entry("mine", "1", false, 0, 0);
    cr_assert_eq(effort_start(&waiting, follower, entry, 5 * CLUSTER_S), TL_OK);
    node_drain(follower->node);
    for (uint32_t i = 0; i < 20; i++) {
        put_many(&cluster->sites[leader], i, 1);
        cluster_step(cluster);
    }
    cr_assert_eq(waiting.err, TL_OK, "what was there before is answered");
    cr_assert_eq(waiting.calls_count, 1);
    cr_assert(node_is_drained(follower->node));
    cluster_destroy(cluster);
}

Test(node_store, full_generations_are_flushed_and_restart_finds_all)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        cluster->sites[i].options.generation_rows_max = 100;
    }
    uint32_t leader = cluster_form(cluster);
    put_many(&cluster->sites[leader], 0, 1000);
    cluster_pass(cluster, 500 * CLUSTER_MS);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct site *site = &cluster->sites[i];
        cr_assert_geq(node_get_metrics(site->node)->flushes_count, 9);
        expect_many(site, 1000);
        site_kill(site);
    }
    site_start_all(cluster);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        cr_assert_lt(replayed_count(&cluster->sites[i]), 250);
    }
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, cluster_is_ready, cluster));
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) expect_many(&cluster->sites[i], 1000);
    cluster_destroy(cluster);
}

Test(node_store, leader_refuses_when_no_more_can_be_frozen)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        cluster->sites[i].options.generation_rows_max = 50;
    }
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    site->holds_flush = true;
    static struct effort efforts[400];
    for (uint32_t i = 0; i < TL_COUNT_OF(efforts); i++) {
        char key[16];
        snprintf(key, sizeof key, "k%05u", i);
        struct buf *entry = effort_entry(key, key, false, 0, 0);
        cr_assert_eq(effort_start(&efforts[i], site, entry, 60 * CLUSTER_S), TL_OK);
    }
    cluster_pass(cluster, 500 * CLUSTER_MS);
    struct node_group_status status;
    site_status(site, &status);
    cr_assert_eq(status.frozen_count, VIEW_FROZEN_MAX);
    cr_assert_lt(status.state.index, status.raft.commit, "apply waits, the log does not");
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) { /* at every node: it is the leader's */
        struct effort refused;
        struct buf *entry = effort_entry("refused", "1", false, 0, 0);
        cr_assert_eq(effort_start(&refused, &cluster->sites[i], entry, 5 * CLUSTER_S), TL_OK);
        cr_assert(cluster_run(cluster, CLUSTER_S, effort_is_over, &refused));
        cr_assert_eq(refused.err, TL_ERR_STALLED, "%s", tl_err_name(refused.err));
    }
    site->holds_flush = false;
    cluster_pass(cluster, CLUSTER_S);
    for (uint32_t i = 0; i < TL_COUNT_OF(efforts); i++) cr_assert_eq(efforts[i].err, TL_OK);
    cr_assert_eq(efforts[399].calls_count, 1);
    cr_assert_null(site_get(site, "refused"));
    cr_assert_eq(site_put(site, "again", "1", NULL), TL_OK);
    cluster_destroy(cluster);
}

Test(node_store, log_error_ends_the_process_and_nothing_is_acknowledged)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct effort effort;
    struct buf *entry = effort_entry("a", "1", false, 0, 0);
    cr_assert_eq(effort_start(&effort, site, entry, 2 * CLUSTER_S), TL_OK);
    site->log_err = TL_ERR_IO;
    cluster_step(cluster); /* hands the batch over */
    cluster_step(cluster); /* it fails */
    cr_assert_eq(site->failures_count, 1);
    cr_assert_eq(site->exit_code, 4);
    uint32_t frames_count = site->frames_count;
    struct effort later;
    entry = effort_entry("b", "1", false, 0, 0);
    cr_assert_eq(effort_start(&later, site, entry, CLUSTER_S), TL_ERR_STOPPING);
    buf_release(entry);
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert_eq(site->frames_count, frames_count, "mute");
    cr_assert_eq(site->failures_count, 1, "told once");
    cr_assert_eq(effort.calls_count, 0);
    site_kill(site);
    cr_assert_eq(effort.err, TL_ERR_UNKNOWN);
    cluster_await_leader(cluster);
    cluster_destroy(cluster);
}

Test(node_store, flush_error_ends_the_process)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 0, 3);
    site->flush_err = TL_ERR_IO;
    cluster_pass(cluster, 6 * CLUSTER_S);
    cr_assert_eq(site->exit_code, 4);
    cr_assert_str_eq(site->fault.reason, "planted");
    cluster_destroy(cluster);
}

Test(node_store, read_error_ends_the_process)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    site->options.generation_age_ns = 3600 * CLUSTER_S;
    cluster_form(cluster);
    for (uint32_t i = 0; i < 10; i++) put_many(site, i * 1000, 1000);
    site_kill(site);
    site->read_err = TL_ERR_CORRUPT;
    site_start(site);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_eq(site->exit_code, 4);
    cluster_destroy(cluster);
}

Test(node_store, log_commit_that_never_ends_ends_the_process)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    site->holds_log = true;
    struct effort effort;
    struct buf *entry = effort_entry("a", "1", false, 0, 0);
    cr_assert_eq(effort_start(&effort, site, entry, 60 * CLUSTER_S), TL_OK);
    cluster_pass(cluster, 5 * CLUSTER_S);
    struct node_status status;
    node_get_status(site->node, &status);
    cr_assert_geq(status.log_commit_age_ms, 4900);
    cr_assert_eq(site->failures_count, 0);
    cluster_pass(cluster, 16 * CLUSTER_S);
    cr_assert_eq(site->exit_code, 4);
    cluster_destroy(cluster);
}

/* Timers come before what the disk has done meanwhile. */
Test(node_store, process_that_was_stopped_for_long_hears_what_became_of_its_log_commit)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    struct effort effort;
    struct buf *entry = effort_entry("a", "1", false, 0, 0);
    cr_assert_eq(effort_start(&effort, site, entry, 60 * CLUSTER_S), TL_OK);
    node_turn(site->node);
    cr_assert_gt(site->batches_count, 0);
    cluster->now_ns += 25 * CLUSTER_S;
    node_turn(site->node);
    cr_assert_eq(site->failures_count, 0);
    cr_assert(cluster_run(cluster, CLUSTER_S, effort_is_over, &effort));
    cr_assert_eq(effort.err, TL_OK);
    cluster_destroy(cluster);
}

/* ... as often as it is stopped; a commit that does not end while it runs ends it. */
Test(node_store, process_that_is_stopped_again_and_again_waits_anew_for_its_log_commit)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    site->holds_log = true;
    struct effort effort;
    struct buf *entry = effort_entry("a", "1", false, 0, 0);
    cr_assert_eq(effort_start(&effort, site, entry, 60 * CLUSTER_S), TL_OK);
    node_turn(site->node);
    cr_assert_gt(site->batches_count, 0);
    cluster->now_ns += 25 * CLUSTER_S;
    node_turn(site->node);
    for (uint32_t i = 0; i < 3; i++) {
        cluster->now_ns += 2 * CLUSTER_S;
        node_turn(site->node);
        cr_assert_eq(site->failures_count, 0, "stop %u", i);
    }
    cluster_pass(cluster, 2 * CLUSTER_S);
    cr_assert_eq(site->exit_code, 4);
    cluster_destroy(cluster);
}

Test(node_store, no_log_is_deleted_that_the_table_does_not_cover)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    site->options.generation_rows_max = 200;
    site->options.log_retain_bytes = 1;
    cluster_form(cluster);
    for (uint32_t i = 0; i < 30; i++) put_many(site, i * 40, 40);
    struct node_group_status status;
    site_status(site, &status);
    cr_assert_gt(status.raft.first, 1, "some log is deleted");
    cr_assert_leq(status.raft.first, status.flushed + 1);
    site_kill(site);
    site_start(site);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, cluster_is_ready, cluster));
    expect_many(site, 1200);
    cluster_destroy(cluster);
}

static void swap_dirs(struct cluster *cluster, const char *name)
{
    char one[256];
    char other[256];
    char middle[256];
    snprintf(one, sizeof one, "%s/%s", cluster->sites[0].dir, name);
    snprintf(other, sizeof other, "%s/%s", cluster->sites[1].dir, name);
    snprintf(middle, sizeof middle, "%s/swap", cluster->dir);
    cr_assert_eq(rename(one, middle), 0);
    cr_assert_eq(rename(other, one), 0);
    cr_assert_eq(rename(middle, other), 0);
}

Test(node_store, table_ahead_of_the_log_is_refused)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *old = &cluster->sites[0];
    if (leader == 0) leader = 1;
    site_kill(old);
    cluster_await_leader(cluster);
    put_many(&cluster->sites[leader], 0, 100);
    cluster_pass(cluster, 6 * CLUSTER_S);
    site_kill(&cluster->sites[1]);
    swap_dirs(cluster, "kv.1.0");
    cr_assert_eq(site_try_start(old), TL_ERR_CORRUPT);
    cr_assert_eq(old->fault.group, 1);
    cr_assert_not_null(strstr(old->fault.reason, "ahead of the log"), "%s", old->fault.reason);
    cluster_destroy(cluster);
}

/* The identity is the member's that the others know; its votes and acknowledgements are gone. */
Test(node_store, member_whose_log_was_removed_does_not_come_back)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    cr_assert_eq(site_put(&cluster->sites[0], "a", "1", NULL), TL_OK);
    cluster_pass(cluster, 6 * CLUSTER_S);
    struct site *site = &cluster->sites[2];
    site_kill(site);
    char dir[256];
    snprintf(dir, sizeof dir, "%s/log", site->dir);
    tmpdir_destroy(dir);
    cr_assert_eq(site_try_start(site), TL_ERR_CORRUPT);
    cluster_destroy(cluster);
}

Test(node_store, log_of_another_store_makes_no_leader)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    struct cluster *other = cluster_create(1);
    cluster_form(other);
    site_kill(&cluster->sites[0]);
    site_kill(&other->sites[0]);
    char mine[256];
    char theirs[256];
    snprintf(mine, sizeof mine, "%s/log", cluster->sites[0].dir);
    snprintf(theirs, sizeof theirs, "%s/log", other->sites[0].dir);
    tmpdir_destroy(mine);
    cr_assert_eq(rename(theirs, mine), 0);
    site_start(&cluster->sites[0]);
    cluster_pass(cluster, 3 * CLUSTER_S);
    cr_assert_not(node_is_ready(cluster->sites[0].node));
    cluster_destroy(other);
    cluster_destroy(cluster);
}

Test(node_store, lagging_follower_is_fed_from_the_log)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    uint32_t lagging = (leader + 1) % CLUSTER_NODES;
    site_kill(&cluster->sites[lagging]);
    for (uint32_t i = 0; i < 10; i++) put_many(&cluster->sites[leader], i * 1000, 1000);
    /* A restarted leader has only its uncommitted tail in memory. */
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) site_kill(&cluster->sites[i]);
    site_start_all(cluster);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, cluster_is_ready, cluster));
    expect_many(&cluster->sites[lagging], 10000);
    cluster_destroy(cluster);
}
