/* raft: what a restart in the middle of a conversation must not do. Both were found by the
 * simulator (tests/sim). */

#include <criterion/criterion.h>
#include <inttypes.h>

#include "raft_cluster.h"

static struct cluster *c;

static void teardown(void)
{
    cluster_destroy(c);
}

TestSuite(raft_restart, .fini = teardown, .timeout = 20);

static void restart(raft_id id)
{
    cluster_crash(c, id);
    c->seed++; /* as raft.h asks: another one at every start */
    cluster_start(c, id);
}

/* The leader's answer to what node 2 asked before it was restarted comes when the restarted one has
 * asked, too: its read index may be older than what was acknowledged before the second read. */
Test(raft_restart, a_read_is_not_answered_by_what_an_earlier_life_asked)
{
    c = cluster_create(3, 0);
    cluster_start_all(c);
    cluster_elect(c, 1);
    (void)cluster_read(c, 2);
    (void)cluster_deliver(c, 2, 1, UINT32_MAX);
    (void)cluster_deliver(c, 1, 0, UINT32_MAX);
    (void)cluster_deliver(c, 0, 1, UINT32_MAX);
    const struct raft_message *reply = cluster_find(c, RAFT_READ_REPLY, 1, 2);
    cr_assert_not_null(reply);
    struct raft_message late = *reply; /* it has no entries: the copy owns nothing */
    (void)cluster_drop(c, 1, 2);

    restart(2);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    (void)cluster_drop(c, 1, 2);
    cluster_write(c, 1, UINT32_MAX);
    (void)cluster_deliver(c, 1, 3, UINT32_MAX);
    cluster_write(c, 3, UINT32_MAX);
    (void)cluster_deliver(c, 3, 1, UINT32_MAX);
    raft_index committed = cluster_status(c, 1).commit;
    cr_assert_gt(committed, late.index);

    struct raft_message heartbeat = {.type = RAFT_HEARTBEAT, .from = 1, .to = 2, .term = late.term};
    cluster_inject(c, &heartbeat);
    uint64_t round = cluster_read(c, 2);
    cluster_inject(c, &late);
    cr_assert_lt(cluster_at(c, 2)->output.reads_ready_round, round);

    cluster_run(c, 200 * MS);
    cr_assert_geq(cluster_at(c, 2)->output.reads_ready_round, round);
    cr_assert_geq(cluster_at(c, 2)->output.read_index, committed);
}

/* Node 1 leads a cluster whose node 3 has three of six entries, and has just been sent the others,
 * which are no longer in the leader's memory. */
static void lead_a_lagging_peer(void)
{
    static const raft_term terms[] = {1, 1, 1, 1, 1, 1};
    c = cluster_create(3, 0);
    cluster_fill(c, 1, terms, 6, 1);
    cluster_fill(c, 2, terms, 6, 1);
    cluster_fill(c, 3, terms, 3, 1);
    for (raft_id id = 1; id <= 2; id++) {
        cluster_at(c, id)->applied = 6;
        cluster_at(c, id)->hard_state.commit = 6;
        cluster_start(c, id);
    }
    cluster_elect(c, 1);
    cluster_start(c, 3);
    cluster_advance(c, 1, CLUSTER_BEAT_NS);
    while (cluster_find(c, RAFT_APPEND, 1, 3) == NULL ||
           cluster_find(c, RAFT_APPEND, 1, 3)->index != 3) {
        cr_assert_gt(cluster_deliver(c, 0, 0, 1) + cluster_write(c, 3, 1), 0);
    }
}

/* A crash takes acks, not what they spoke of. A leader that has deleted up to what such a peer has
 * on disk, but not up to what it acknowledged, must find out that no snapshot is needed. */
Test(raft_restart, a_peer_that_has_the_base_needs_no_snapshot_although_its_acks_were_lost)
{
    lead_a_lagging_peer();
    (void)cluster_deliver(c, 1, 3, UINT32_MAX);
    cluster_write(c, 3, UINT32_MAX);
    (void)cluster_drop(c, 3, 1);
    cr_assert_geq(cluster_at(c, 3)->entries_count, 5);
    cr_assert_lt(cluster_peer(c, 1, 3).match, 5);
    cluster_compact(c, 1, 5);
    restart(3);
    cluster_run(c, 500 * MS);
    cr_assert_eq(cluster_peer(c, 1, 3).match, cluster_status(c, 1).last);
    cr_assert_eq(cluster_peer(c, 1, 3).state, RAFT_REPLICATE);
}

/* One that does not have the base stays where it is, and is asked once a heartbeat, not more. */
Test(raft_restart, a_peer_below_the_base_is_asked_once_a_heartbeat)
{
    lead_a_lagging_peer();
    (void)cluster_drop(c, 1, 3);
    cluster_compact(c, 1, 5);
    restart(3);
    cluster_run(c, 500 * MS);
    cr_assert_eq(cluster_peer(c, 1, 3).state, RAFT_NEEDS_SNAPSHOT);
    (void)cluster_drop(c, 0, 0);
    cluster_advance(c, 1, CLUSTER_BEAT_NS);
    (void)cluster_deliver(c, 1, 3, UINT32_MAX);
    (void)cluster_deliver(c, 3, 1, UINT32_MAX);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 3), 1);
}
