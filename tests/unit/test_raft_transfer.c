/* raft: hand-overs that meet changes of configuration, and orders to lead for those who may not. */

#include <criterion/criterion.h>
#include <inttypes.h>

#include "raft_cluster.h"

static struct cluster *c;

static void teardown(void)
{
    cluster_destroy(c);
}

TestSuite(raft_transfer, .fini = teardown, .timeout = 20);

static void lead(uint32_t voters_count, uint32_t learners_count, uint32_t spares_count)
{
    c = cluster_create(voters_count, learners_count);
    cluster_add_spares(c, spares_count);
    cluster_start_all(c);
    cluster_elect(c, 1);
    cluster_run(c, 100 * MS);
}

/* Node 1 orders `id` to lead. */
static void order(raft_id id)
{
    struct raft_message heartbeat = {.type = RAFT_HEARTBEAT, .from = 1, .to = id, .term = 1};
    cluster_inject(c, &heartbeat);
    cr_assert_eq(cluster_status(c, id).leader, 1);
    struct raft_status leader = cluster_status(c, 1);
    struct raft_message message = {.type = RAFT_TIMEOUT_NOW, .from = 1, .to = id, .term = 1};
    message.index = cluster_status(c, id).last < leader.last ? 0 : leader.last;
    cluster_inject(c, &message);
}

static void assert_disobeys(raft_id id)
{
    uint64_t dropped_count = cluster_status(c, id).messages_dropped_count;
    order(id);
    cr_assert_eq(cluster_status(c, id).role, RAFT_FOLLOWER);
    cr_assert_eq(cluster_status(c, id).elections_started_count, 0);
    cr_assert_eq(cluster_status(c, id).messages_dropped_count, dropped_count + 1);
}

/* [etcd-io/raft TestLearnerCampaign, TestTransferNonMember] */
Test(raft_transfer, who_may_not_lead_does_not_when_ordered)
{
    lead(3, 1, 1);
    assert_disobeys(4); /* a learner */
    assert_disobeys(5); /* no member */
    cr_assert_eq(cluster_install(c, 1, 2), TL_ERR_STALE);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    (void)cluster_drop(c, 1, 2);
    cluster_settle(c);
    cr_assert_eq(cluster_install(c, 1, 2), TL_OK);
    assert_disobeys(2); /* what is to become of its log is decided */
    order(3);
    cr_assert_eq(cluster_status(c, 3).role, RAFT_CANDIDATE);
}

/* It has not heard of its removal. What it may not do any more it could not do alone either: the
 * others' votes are asked for in vain, because they know who leads. */
Test(raft_transfer, removed_node_is_not_elected)
{
    lead(4, 0, 0);
    cluster_isolate(c, 4, true);
    struct raft_conf target = cluster_conf(3, 0);
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_OK);
    cluster_run(c, 1000 * MS);
    cluster_isolate(c, 4, false);
    cluster_run(c, 2000 * MS);
    cr_assert_eq(cluster_leader(c), 1);
    cr_assert_eq(cluster_status(c, 1).term, 1);
    cr_assert_eq(cluster_status(c, 4).term, 1);
}

/* [etcd-io/raft TestLeaderTransferRemoveNode, TestLeaderTransferDemoteNode: there it is given
 * up, here it cannot come to that] */
Test(raft_transfer, who_is_being_removed_or_demoted_is_no_target)
{
    lead(4, 0, 0);
    struct raft_conf target = cluster_conf(2, 1); /* 3 is demoted, 4 removed */
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_OK);
    cr_assert_eq(cluster_status(c, 1).conf.outgoing_count, 4);
    cr_assert_eq(cluster_transfer(c, 1, 3), TL_ERR_INVALID);
    cr_assert_eq(cluster_transfer(c, 1, 4), TL_ERR_INVALID);
    cr_assert_eq(cluster_transfer(c, 1, RAFT_ID_NONE), TL_OK);
    cr_assert_eq(cluster_status(c, 1).transfer_target, 2);
}

/* A change that has begun waits for the hand-over, and the hand-over not for the change: nothing is
 * appended behind what the target has. */
Test(raft_transfer, joint_configuration_is_left_when_the_hand_over_has_ended)
{
    lead(3, 1, 0);
    struct raft_conf target = {.voters_count = 3, .voters = {1, 2, 4}};
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_OK);
    cr_assert_eq(cluster_transfer(c, 1, 2), TL_OK);
    cluster_isolate(c, 2, true); /* what it was sent is still delivered, what it answers is not */
    (void)cluster_deliver(c, 1, 0, UINT32_MAX);
    for (raft_id id = 1; id <= 4; id++) cluster_write(c, id, UINT32_MAX);
    (void)cluster_deliver(c, 0, 1, UINT32_MAX);
    raft_index last = cluster_status(c, 1).last;
    cr_assert_eq(cluster_status(c, 1).commit, last, "1, 3 and 4 are enough of both halves");
    cr_assert_eq(cluster_status(c, 1).transfer_target, 2);
    cr_assert_gt(cluster_status(c, 1).conf.outgoing_count, 0);
    cluster_run(c, CLUSTER_T_NS + CLUSTER_BEAT_NS);
    cr_assert_eq(cluster_status(c, 1).transfer_target, RAFT_ID_NONE);
    cr_assert_eq(cluster_status(c, 1).conf.outgoing_count, 0);
    cr_assert_eq(cluster_status(c, 1).commit, last + 1);
}
