/* Snapshots between whole nodes: a follower that was away longer than the log is kept. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "lmdb_fault.h"
#include "node_cluster.h"
#include "src/node/node_snapshot.h"

#define ROWS_COUNT 300u

struct scene {
    struct cluster *cluster;
    uint32_t leader;
    uint32_t other; /* the follower that stays */
    uint32_t away;  /* the one that needs a snapshot */
};

static struct cluster *small_cluster(uint32_t nodes_count)
{
    struct cluster *cluster = cluster_create(nodes_count);
    for (uint32_t i = 0; i < nodes_count; i++) {
        struct node_options *options = &cluster->sites[i].options;
        options->log_retain_bytes = 0;
        options->log_cache_bytes = 1;
        options->generation_age_ns = 20 * CLUSTER_MS;
        options->snapshot_chunk_bytes = 1024;
    }
    return cluster;
}

static void put_rows(struct scene *scene, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        char key[32];
        char value[64];
        snprintf(key, sizeof key, "key-%04u", i);
        snprintf(value, sizeof value, "value-%04u-%032u", i, i);
        struct site *leader = &scene->cluster->sites[scene->leader];
        cr_assert_eq(site_put(leader, key, value, NULL), TL_OK);
    }
}

static raft_index last_of(struct site *site)
{
    struct node_group_status status;
    site_status(site, &status);
    return status.raft.last;
}

/* The others' logs go on until what the one that is cut off needs is deleted. */
static void go_on_without(struct scene *scene, raft_index last)
{
    put_rows(scene, 5, ROWS_COUNT);
    for (uint32_t i = 0; i < 50; i++) {
        put_rows(scene, 0, 5);
        cluster_pass(scene->cluster, 50 * CLUSTER_MS);
        struct node_group_status status;
        site_status(&scene->cluster->sites[scene->leader], &status);
        if (status.raft.first > last + 100) return;
    }
    cr_assert_fail("the log is not deleted");
}

static struct scene formed(void)
{
    struct scene scene = {.cluster = small_cluster(3)};
    scene.leader = cluster_form(scene.cluster);
    scene.away = (scene.leader + 1) % 3;
    scene.other = (scene.leader + 2) % 3;
    return scene;
}

static struct scene leave_behind(void)
{
    struct scene scene = formed();
    put_rows(&scene, 0, 5);
    cluster_pass(scene.cluster, 200 * CLUSTER_MS);
    cluster_isolate(scene.cluster, scene.away);
    go_on_without(&scene, last_of(&scene.cluster->sites[scene.away]));
    return scene;
}

static bool is_level(void *context)
{
    const struct scene *scene = context;
    struct site *away = &scene->cluster->sites[scene->away];
    struct site *leader = &scene->cluster->sites[scene->leader];
    if (away->node == NULL || node_views(away->node, NODE_DATA_GROUP) == NULL) return false;
    struct node_group_status mine;
    struct node_group_status theirs;
    site_status(away, &mine);
    site_status(leader, &theirs);
    return mine.raft.applied == theirs.raft.applied && mine.raft.commit == theirs.raft.commit;
}

static void assert_level(struct scene *scene)
{
    cr_assert(cluster_run(scene->cluster, 30 * CLUSTER_S, is_level, scene), "not caught up");
    struct node_group_status mine;
    struct node_group_status theirs;
    site_status(&scene->cluster->sites[scene->away], &mine);
    site_status(&scene->cluster->sites[scene->leader], &theirs);
    cr_assert_eq(mine.state.rows_count, theirs.state.rows_count);
    cr_assert(hash_equal(mine.state.rows_digest, theirs.state.rows_digest));
    cr_assert(hash_equal(mine.state.records_digest, theirs.state.records_digest));
    cr_assert(hash_equal(mine.state.chain_hash, theirs.state.chain_hash));
    cr_assert_str_eq(site_get(&scene->cluster->sites[scene->away], "key-0100"),
                     "value-0100-00000000000000000000000000000100");
}

static const struct node_metrics *metrics_of(const struct scene *scene, uint32_t place)
{
    return node_get_metrics(scene->cluster->sites[place].node);
}

/* Bytes stored of the transfer to the one that was away; UINT64_MAX: none is under way. */
static uint64_t received_bytes(const struct scene *scene)
{
    const struct site *away = &scene->cluster->sites[scene->away];
    if (away->node == NULL) return UINT64_MAX;
    struct node_transfer_status transfers[NODE_TRANSFERS_MAX];
    uint32_t count = node_get_transfers(away->node, transfers);
    for (uint32_t i = 0; i < count; i++) {
        if (transfers[i].group == NODE_DATA_GROUP) return transfers[i].bytes_done;
    }
    return UINT64_MAX;
}

static bool is_half_way(void *context)
{
    uint64_t bytes = received_bytes(context);
    return bytes != UINT64_MAX && bytes > 4096;
}

Test(node_snapshot, brings_back_a_follower_that_the_log_has_left_behind)
{
    struct scene scene = leave_behind();
    cluster_heal(scene.cluster);
    assert_level(&scene);
    cr_assert_geq(metrics_of(&scene, scene.leader)->snapshots_sent_count, 1);
    cr_assert_geq(metrics_of(&scene, scene.away)->snapshots_installed_count, 1);
    cr_assert_eq(metrics_of(&scene, scene.other)->snapshots_installed_count, 0);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, what_was_installed_is_there_after_a_restart_and_grows_on)
{
    struct scene scene = leave_behind();
    cluster_heal(scene.cluster);
    assert_level(&scene);
    put_rows(&scene, 1000, 20);
    site_kill(&scene.cluster->sites[scene.away]);
    put_rows(&scene, 2000, 3);
    site_start(&scene.cluster->sites[scene.away]);
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, a_broken_connection_costs_no_chunk_twice_over)
{
    struct scene scene = leave_behind();
    cluster_heal(scene.cluster);
    cr_assert(cluster_run(scene.cluster, 10 * CLUSTER_S, is_half_way, &scene));
    uint64_t before = received_bytes(&scene);
    cluster_isolate(scene.cluster, scene.away);
    cluster_pass(scene.cluster, 500 * CLUSTER_MS);
    cr_assert_geq(received_bytes(&scene), before, "the stage is kept");
    cluster_heal(scene.cluster);
    assert_level(&scene);
    cr_assert_geq(metrics_of(&scene, scene.leader)->snapshot_resumes_count, 1);
    cr_assert_eq(metrics_of(&scene, scene.leader)->snapshots_failed_count, 0);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, a_receiver_that_is_killed_half_way_gets_it_again)
{
    struct scene scene = leave_behind();
    cluster_heal(scene.cluster);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert(cluster_run(scene.cluster, 10 * CLUSTER_S, is_half_way, &scene));
        site_kill(&scene.cluster->sites[scene.away]);
        cluster_pass(scene.cluster, 100 * CLUSTER_MS);
        site_start(&scene.cluster->sites[scene.away]);
    }
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, a_sender_that_is_killed_half_way_leaves_it_to_the_next_leader)
{
    struct scene scene = leave_behind();
    cluster_heal(scene.cluster);
    cr_assert(cluster_run(scene.cluster, 10 * CLUSTER_S, is_half_way, &scene));
    uint32_t old = scene.leader;
    site_kill(&scene.cluster->sites[old]);
    scene.leader = cluster_await_leader(scene.cluster);
    cr_assert_eq(scene.leader, scene.other, "whose log is short cannot lead");
    site_start(&scene.cluster->sites[old]);
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

static bool is_deposed(void *context)
{
    const struct scene *scene = context;
    struct node_group_status status;
    site_status(&scene->cluster->sites[scene->leader], &status);
    return status.raft.role != RAFT_LEADER;
}

Test(node_snapshot, a_leader_that_is_deposed_half_way_goes_on_sending)
{
    struct scene scene = leave_behind();
    struct site *old = &scene.cluster->sites[scene.leader];
    cluster_heal(scene.cluster);
    cr_assert(cluster_run(scene.cluster, 10 * CLUSTER_S, is_half_way, &scene));
    scene.cluster->sites[scene.away].holds_snapshots = true;
    old->is_raft_mute = true;
    cr_assert(cluster_run(scene.cluster, 10 * CLUSTER_S, is_deposed, &scene));
    old->is_raft_mute = false;
    cr_assert_neq(received_bytes(&scene), UINT64_MAX);
    scene.cluster->sites[scene.away].holds_snapshots = false;
    scene.leader = cluster_await_leader(scene.cluster);
    assert_level(&scene);
    cr_assert_geq(metrics_of(&scene, scene.away)->snapshots_installed_count, 1);
    cr_assert_eq(node_get_metrics(old->node)->snapshots_sent_count, 1);
    cluster_destroy(scene.cluster);
}

static bool is_received(void *context)
{
    const struct scene *scene = context;
    struct node_transfer_status transfers[NODE_TRANSFERS_MAX];
    uint32_t count = node_get_transfers(scene->cluster->sites[scene->away].node, transfers);
    for (uint32_t i = 0; i < count; i++) {
        bool is_its = transfers[i].group == NODE_DATA_GROUP;
        if (is_its && strcmp(transfers[i].stage, "install") == 0) return true;
    }
    return false;
}

Test(node_snapshot, a_flush_that_runs_is_waited_for)
{
    struct scene scene = formed();
    struct site *away = &scene.cluster->sites[scene.away];
    cluster_pass(scene.cluster, 500 * CLUSTER_MS); /* what the birth left is flushed */
    away->holds_flush = true;
    put_rows(&scene, 0, 5);
    cluster_pass(scene.cluster, 200 * CLUSTER_MS);
    cr_assert_not_null(away->flush);
    cr_assert_eq(away->flush->group, NODE_DATA_GROUP);
    cluster_isolate(scene.cluster, scene.away);
    go_on_without(&scene, last_of(away));
    raft_index before = site_applied(away);
    cluster_heal(scene.cluster);
    cr_assert(cluster_run(scene.cluster, 10 * CLUSTER_S, is_received, &scene));
    cluster_pass(scene.cluster, 500 * CLUSTER_MS);
    cr_assert_eq(site_applied(away), before);
    away->holds_flush = false;
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

/* A new term makes the commit index durable, and so what has to be read at the next start. */
static struct scene change_leader(struct scene scene)
{
    scene.other = scene.leader;
    site_kill(&scene.cluster->sites[scene.other]);
    cluster_pass(scene.cluster, CLUSTER_S);
    scene.leader = cluster_await_leader(scene.cluster);
    scene.away = 3 - scene.leader - scene.other;
    site_start(&scene.cluster->sites[scene.other]);
    cluster_pass(scene.cluster, CLUSTER_S);
    return scene;
}

/* Away and back, with entries to apply that are asked of the log and have not come. */
static struct scene leave_reading(void)
{
    struct scene scene = formed();
    for (uint32_t i = 0; i < 3; i++) scene.cluster->sites[i].holds_flush = true;
    put_rows(&scene, 0, 20);
    cluster_pass(scene.cluster, 200 * CLUSTER_MS);
    scene = change_leader(scene);
    struct site *away = &scene.cluster->sites[scene.away];
    cluster_isolate(scene.cluster, scene.away);
    site_kill(away); /* what is applied is not flushed */
    for (uint32_t i = 0; i < 3; i++) scene.cluster->sites[i].holds_flush = false;
    away->holds_reads = true;
    site_start(away);
    cluster_pass(scene.cluster, 100 * CLUSTER_MS);
    cr_assert_gt(away->reads_count, 0, "the replay reads the log");
    go_on_without(&scene, last_of(away));
    cluster_heal(scene.cluster);
    return scene;
}

Test(node_snapshot, entries_read_to_be_applied_come_too_late)
{
    struct scene scene = leave_reading();
    struct site *away = &scene.cluster->sites[scene.away];
    assert_level(&scene);
    away->holds_reads = false;
    cluster_pass(scene.cluster, CLUSTER_S);
    cr_assert_eq(away->failures_count, 0);
    put_rows(&scene, 3000, 5);
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, entries_read_to_be_applied_are_gone_before_the_switch_is_known)
{
    struct scene scene = leave_reading();
    struct site *away = &scene.cluster->sites[scene.away];
    away->reads_at_switch = true;
    assert_level(&scene);
    cr_assert_eq(away->failures_count, 0, "%s", away->fault.reason);
    cr_assert_eq(away->reads_gone_count, 1);
    away->holds_reads = false;
    put_rows(&scene, 3000, 5);
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, what_a_deposed_leader_had_proposed_below_it_has_an_unknown_outcome)
{
    struct scene scene = formed();
    put_rows(&scene, 0, 5);
    cluster_pass(scene.cluster, 200 * CLUSTER_MS);
    scene.away = scene.leader;
    struct site *old = &scene.cluster->sites[scene.away];
    cluster_isolate(scene.cluster, scene.away);
    struct effort effort;
    struct buf *entry = effort_entry("lost", "1", false, 0, 0);
    cr_assert_eq(effort_start(&effort, old, entry, 600 * CLUSTER_S), TL_OK);
    cluster_pass(scene.cluster, 3 * CLUSTER_S);
    scene.leader = cluster_await_leader(scene.cluster);
    go_on_without(&scene, last_of(old));
    cr_assert_eq(effort.calls_count, 0);
    cluster_heal(scene.cluster);
    assert_level(&scene);
    cr_assert_eq(effort.calls_count, 1);
    cr_assert_eq(effort.err, TL_ERR_UNKNOWN);
    cr_assert_geq(metrics_of(&scene, scene.away)->snapshots_installed_count, 1);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, readers_of_the_replaced_table_end_on_what_they_began_with)
{
    struct scene scene = leave_behind();
    struct site *away = &scene.cluster->sites[scene.away];
    struct view_reader *reader = NULL;
    cr_assert_eq(view_reader_create(node_views(away->node, NODE_DATA_GROUP), &reader), TL_OK);
    raft_index applied = 0;
    struct tl_fault fault;
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_OK);
    cluster_heal(scene.cluster);
    assert_level(&scene);
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct bytes key = env_key_make(ENV_KEY_ROW, bytes_of("key-0100"), room);
    struct bytes row;
    cr_assert_eq(view_get(reader, key, &row, &fault), TL_ERR_NOT_FOUND);
    view_end(reader);
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_OK);
    cr_assert_eq(view_get(reader, key, &row, &fault), TL_OK);
    view_end(reader);
    view_reader_destroy(reader);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, a_stage_that_fails_is_begun_again)
{
    struct scene scene = leave_behind();
    scene.cluster->sites[scene.away].snapshot_err = TL_ERR_NO_SPACE;
    cluster_heal(scene.cluster);
    assert_level(&scene);
    cr_assert_geq(metrics_of(&scene, scene.away)->snapshots_failed_count, 1);
    cr_assert_eq(scene.cluster->sites[scene.away].failures_count, 0);
    cluster_destroy(scene.cluster);
}

static bool is_finishing(void *context)
{
    const struct scene *scene = context;
    const struct site *away = &scene->cluster->sites[scene->away];
    return away->snapshots_count > 0 && away->snapshots[0]->kind == SNAPSHOT_JOB_FINISH;
}

/* Carries the job out with the n-th call into LMDB failing; false: there is no n-th. */
static bool finish_with_failing_call(struct site *site, uint32_t n)
{
    struct node_snapshot_job *job = site->snapshots[0];
    site->snapshots_count = 0;
    struct tl_fault fault = {0};
    lmdb_fault_arm(n, EMFILE, LMDB_FAULT_WITHOUT_EFFECT);
    enum tl_err err = node_snapshot_job_run(job, &fault);
    bool has_failed = lmdb_fault_disarm();
    cr_assert_eq(err != TL_OK, has_failed);
    if (has_failed) cr_assert_neq(access(job->dir, F_OK), 0, "%s", lmdb_fault_call());
    node_on_snapshot_done(site->node, job, err, &fault);
    return has_failed;
}

Test(node_snapshot, a_finished_table_that_cannot_be_opened_is_deleted)
{
    struct scene scene = leave_behind();
    struct site *away = &scene.cluster->sites[scene.away];
    cluster_heal(scene.cluster);
    bool has_failed = true;
    for (uint32_t n = 1; has_failed; n++) {
        away->holds_finish = true;
        cr_assert(cluster_run(scene.cluster, 60 * CLUSTER_S, is_finishing, &scene));
        has_failed = finish_with_failing_call(away, n);
        away->holds_finish = false;
    }
    assert_level(&scene);
    cr_assert_eq(away->failures_count, 0);
    cluster_destroy(scene.cluster);
}

#define LOST_COUNT 400u

/* Away is a deposed leader whose log is longer than the snapshot that replaces it, and of a dead
 * term; who leads now is forgotten when the snapshot has come. */
Test(node_snapshot, log_gets_shorter_when_the_sender_is_heard_to_lead)
{
    struct scene scene = formed();
    put_rows(&scene, 0, 5);
    cluster_pass(scene.cluster, 200 * CLUSTER_MS);
    scene.away = scene.leader;
    struct site *away = &scene.cluster->sites[scene.away];
    cluster_isolate(scene.cluster, scene.away);
    static struct effort efforts[LOST_COUNT];
    for (uint32_t i = 0; i < LOST_COUNT; i++) {
        struct buf *entry = effort_entry("lost", "1", false, 0, 0);
        cr_assert_eq(effort_start(&efforts[i], away, entry, 600 * CLUSTER_S), TL_OK);
    }
    cluster_pass(scene.cluster, 3 * CLUSTER_S);
    scene.leader = cluster_await_leader(scene.cluster);
    struct node_group_status before;
    site_status(away, &before);
    struct node_group_status theirs = {.raft.first = 0};
    for (uint32_t i = 0; i < 20 && theirs.raft.first <= before.raft.commit + 1; i++) {
        put_rows(&scene, 0, 5);
        cluster_pass(scene.cluster, 100 * CLUSTER_MS);
        site_status(&scene.cluster->sites[scene.leader], &theirs);
    }
    cr_assert_gt(theirs.raft.first, before.raft.commit + 1, "the log is not deleted");
    cr_assert_lt(theirs.raft.last, before.raft.last);

    away->holds_finish = true;
    cluster_heal(scene.cluster);
    cr_assert(cluster_run(scene.cluster, 20 * CLUSTER_S, is_finishing, &scene));
    raft_id sender = scene.cluster->sites[scene.leader].id;
    node_on_peer_down(away->node, sender, PEER_CLASS_RAFT, true);
    away->holds_finish = false;
    cluster_cut(scene.cluster, scene.away, scene.leader);
    cluster_cut(scene.cluster, scene.away, scene.other);
    cluster_pass(scene.cluster, 2 * CLUSTER_S);
    struct node_group_status after;
    site_status(away, &after);
    cr_assert_eq(after.raft.last, before.raft.last);
    cr_assert_not(after.raft.is_installing);
    cluster_heal(scene.cluster);
    cr_assert(cluster_run(scene.cluster, 200 * CLUSTER_MS, is_level, &scene), "it is not woken");
    cr_assert_eq(metrics_of(&scene, scene.away)->snapshots_installed_count, 1);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, a_cut_that_fails_is_made_again)
{
    struct scene scene = leave_behind();
    scene.cluster->sites[scene.leader].snapshot_err = TL_ERR_CANCELED;
    cluster_heal(scene.cluster);
    assert_level(&scene);
    cr_assert_geq(metrics_of(&scene, scene.leader)->snapshots_failed_count, 1);
    cr_assert_eq(scene.cluster->sites[scene.leader].failures_count, 0);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, a_cut_may_take_as_long_as_its_table_would_be_on_its_way)
{
    uint64_t table_bytes = 100ull << 30;
    cr_assert_eq(node_snapshot_cut_ns_max(0), 30 * CLUSTER_S);
    cr_assert_geq(node_snapshot_cut_ns_max(table_bytes), table_bytes / SEND_RATE_MIN * CLUSTER_S);
}

Test(node_snapshot, a_cut_that_takes_too_long_ends_and_says_so)
{
    struct scene scene = leave_behind();
    struct site *leader = &scene.cluster->sites[scene.leader];
    leader->cut_chunk_ns = 20 * CLUSTER_S;
    cluster_heal(scene.cluster);
    cluster_pass(scene.cluster, CLUSTER_S);
    cr_assert_geq(metrics_of(&scene, scene.leader)->snapshots_failed_count, 1);
    cr_assert_not_null(strstr(leader->warning, "reason=\"the cut took too long\""), "%s",
                       leader->warning);
    leader->cut_chunk_ns = CLUSTER_MS;
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, the_more_attempts_fail_the_longer_until_the_next)
{
    struct scene scene = leave_behind();
    struct site *leader = &scene.cluster->sites[scene.leader];
    leader->cut_chunk_ns = 20 * CLUSTER_S;
    cluster_heal(scene.cluster);
    cluster_pass(scene.cluster, 60 * CLUSTER_S);
    cr_assert_geq(leader->cuts_count, 4);
    cr_assert_leq(leader->cuts_count, 8);
    leader->cut_chunk_ns = 0;
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

static void restart_with_free_bytes_min(struct site *site, uint64_t free_bytes_min)
{
    site_kill(site);
    site->options.free_bytes_min = free_bytes_min;
    site_start(site);
}

#define MORE_THAN_ANY_DISK (1ull << 60)

Test(node_snapshot, what_a_receiver_has_no_room_for_is_offered_again_and_not_cut_again)
{
    struct scene scene = leave_behind();
    struct site *leader = &scene.cluster->sites[scene.leader];
    struct site *away = &scene.cluster->sites[scene.away];
    uint64_t free_bytes_min = away->options.free_bytes_min;
    restart_with_free_bytes_min(away, MORE_THAN_ANY_DISK);
    cluster_heal(scene.cluster);
    cluster_pass(scene.cluster, 10 * CLUSTER_S);
    uint32_t cuts_count = leader->cuts_count;
    cr_assert_geq(cuts_count, 1);
    cr_assert_not_null(strstr(away->warning, "no space left for it"));
    cluster_pass(scene.cluster, 30 * CLUSTER_S);
    cr_assert_eq(metrics_of(&scene, scene.leader)->snapshots_failed_count, 0);
    restart_with_free_bytes_min(away, free_bytes_min);
    assert_level(&scene);
    cr_assert_eq(leader->cuts_count, cuts_count);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, a_sender_without_room_for_the_spool_does_not_begin_it)
{
    struct scene scene = leave_behind();
    struct site *others[] = {&scene.cluster->sites[scene.leader],
                             &scene.cluster->sites[scene.other]};
    uint64_t free_bytes_min = others[0]->options.free_bytes_min;
    for (uint32_t i = 0; i < 2; i++) restart_with_free_bytes_min(others[i], MORE_THAN_ANY_DISK);
    (void)cluster_await_leader(scene.cluster);
    cluster_heal(scene.cluster);
    cluster_pass(scene.cluster, 10 * CLUSTER_S);
    scene.leader = cluster_await_leader(scene.cluster);
    cr_assert_geq(metrics_of(&scene, scene.leader)->snapshots_failed_count, 1);
    cr_assert_eq(others[0]->cuts_count + others[1]->cuts_count, 0);
    for (uint32_t i = 0; i < 2; i++) restart_with_free_bytes_min(others[i], free_bytes_min);
    scene.leader = cluster_await_leader(scene.cluster);
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, a_receiver_that_is_gone_does_not_keep_another_one_waiting)
{
    struct scene scene = {.cluster = small_cluster(5)};
    scene.leader = cluster_form(scene.cluster);
    const uint32_t places[] = {(scene.leader + 1) % 5, (scene.leader + 2) % 5};
    put_rows(&scene, 0, 5);
    cluster_pass(scene.cluster, 200 * CLUSTER_MS);
    for (uint32_t i = 0; i < 2; i++) cluster_isolate(scene.cluster, places[i]);
    go_on_without(&scene, last_of(&scene.cluster->sites[places[0]]));
    cluster_heal(scene.cluster);
    scene.away = places[0];
    bool is_first = cluster_run(scene.cluster, 200 * CLUSTER_MS, is_half_way, &scene);
    scene.away = places[is_first ? 1 : 0];
    cr_assert_eq(received_bytes(&scene), UINT64_MAX, "one at a time");
    cluster_isolate(scene.cluster, places[is_first ? 0 : 1]);
    cr_assert(cluster_run(scene.cluster, 10 * CLUSTER_S, is_level, &scene));
    scene.away = places[is_first ? 0 : 1];
    cluster_heal(scene.cluster);
    assert_level(&scene);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, a_table_in_use_that_does_not_check_ends_its_node)
{
    struct scene scene = leave_behind();
    scene.cluster->sites[scene.leader].snapshot_err = TL_ERR_CORRUPT;
    cluster_heal(scene.cluster);
    cluster_pass(scene.cluster, 2 * CLUSTER_S);
    cr_assert_eq(scene.cluster->sites[scene.leader].failures_count, 1);
    cr_assert_eq(scene.cluster->sites[scene.leader].exit_code, 4);
    cluster_destroy(scene.cluster);
}

Test(node_snapshot, the_replaced_directory_goes_and_the_new_one_is_the_only_one)
{
    struct scene scene = leave_behind();
    cluster_heal(scene.cluster);
    assert_level(&scene);
    cluster_pass(scene.cluster, 500 * CLUSTER_MS);
    struct site *away = &scene.cluster->sites[scene.away];
    struct data_dir *dir = NULL;
    site_kill(away);
    struct tl_fault fault;
    cr_assert_eq(data_dir_open(away->dir, away->address, true, &dir, &fault), TL_OK);
    struct data_dir_table tables[8];
    uint32_t count = 0;
    cr_assert_eq(data_dir_tables(dir, tables, TL_COUNT_OF(tables), &count, &fault), TL_OK);
    cr_assert_eq(count, 2, "one of each group");
    data_dir_close(dir);
    cluster_destroy(scene.cluster);
}
