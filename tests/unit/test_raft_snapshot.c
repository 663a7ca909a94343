/* raft: what a node is behind a snapshot, and what it is when it starts. */

#include <criterion/criterion.h>
#include <inttypes.h>

#include "raft_cluster.h"

static struct cluster *c;

static void teardown(void)
{
    cluster_destroy(c);
}

TestSuite(raft_snapshot, .fini = teardown, .timeout = 20);

/* ---- roles behind a snapshot ---- */

/* Node 3 alone runs, and has installed a snapshot at 5 with this configuration. */
static void restore(uint32_t voters_count, uint32_t learners_count, struct raft_conf conf)
{
    c = cluster_create(voters_count, learners_count);
    cluster_start(c, 3);
    struct raft_base base = {.index = 5, .term = 2, .hash = {1, 2}, .time_us = 9};
    cr_assert_eq(raft_snapshot_install(cluster_at(c, 3)->raft, 1, &base, &conf), TL_OK);
    cluster_turn(c, 3);
    cluster_write(c, 3, UINT32_MAX);
    struct raft_status status = cluster_status(c, 3);
    cr_assert_eq(status.first, 6);
    cr_assert_eq(status.last, 5);
    cr_assert_eq(status.commit, 5);
    cr_assert_eq(status.applied, 5);
    cr_assert_eq(status.term, 2);
    cr_assert(status.is_conf_committed);
    cr_assert_eq(raft_snapshot_install(cluster_at(c, 3)->raft, 1, &base, &conf), TL_ERR_STALE);
}

static bool campaigns(raft_id id)
{
    for (uint32_t i = 0; i < 100; i++) {
        cluster_advance(c, id, 10 * MS);
        if (cluster_status(c, id).role != RAFT_FOLLOWER) return true;
    }
    return false;
}

static uint32_t outgoing_request_count(enum raft_message_type type)
{
    return cluster_count(c, type, 3, 0);
}

/* [etcd-io/raft TestRestore, TestRestoreVoterToLearner] */
Test(raft_snapshot, voter_that_it_calls_a_learner_does_not_campaign)
{
    restore(3, 0, cluster_conf(2, 1));
    cr_assert_not(campaigns(3));
    cluster_crash(c, 3);
    cluster_start(c, 3);
    cr_assert_not(campaigns(3), "nor after a restart");
}

Test(raft_snapshot, voter_that_it_does_not_name_does_not_campaign)
{
    restore(3, 0, cluster_conf(2, 0));
    cr_assert_not(campaigns(3));
}

/* [etcd-io/raft TestRestoreLearnerPromotion] */
Test(raft_snapshot, learner_that_it_calls_a_voter_campaigns)
{
    restore(2, 1, cluster_conf(3, 0));
    cr_assert(campaigns(3));
    cr_assert_eq(outgoing_request_count(RAFT_PREVOTE), 2);
}

/* [etcd-io/raft TestRestoreWithLearner] */
Test(raft_snapshot, learners_that_it_names_are_not_asked_for_votes)
{
    restore(3, 2, cluster_conf(3, 2));
    cr_assert(campaigns(3));
    cr_assert_eq(outgoing_request_count(RAFT_PREVOTE), 2);
    cr_assert_eq(cluster_status(c, 3).conf.learners_count, 2);
}

/* ---- the leader's side ---- */

/* Node 1 leads and has deleted what `away` lacks, which has not been heard of since. */
static void leave_behind(uint32_t voters_count, uint32_t learners_count, raft_id away)
{
    c = cluster_create(voters_count, learners_count);
    c->cache_bytes_max = 1;
    cluster_start_all(c);
    cluster_elect(c, 1);
    cluster_run(c, 100 * MS);
    cluster_isolate(c, away, true);
    for (uint32_t i = 0; i < 4; i++) cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cluster_run(c, 100 * MS);
    cluster_compact(c, 1, cluster_status(c, 1).applied);
}

/* [etcd-io/raft TestIgnoreProvidingSnap; cowsql/raft snapshot/skipOffline] */
Test(raft_snapshot, is_not_cut_for_who_is_not_heard)
{
    leave_behind(3, 0, 3);
    c->sends_snapshots = true; /* cluster_run() would deliver it, beside the network */
    cluster_run(c, 1000 * MS);
    cr_assert_eq(cluster_status(c, 3).installs_count, 0);
    cluster_isolate(c, 3, false);
    cluster_run(c, 1000 * MS);
    cr_assert_eq(cluster_status(c, 3).installs_count, 1);
    cr_assert_eq(cluster_peer(c, 1, 3).state, RAFT_REPLICATE);
}

/* [etcd-io/raft TestLearnerReceiveSnapshot] */
Test(raft_snapshot, brings_a_learner_on)
{
    leave_behind(1, 1, 2);
    c->sends_snapshots = true;
    cluster_isolate(c, 2, false);
    cluster_run(c, 300 * MS);
    cr_assert_eq(cluster_status(c, 2).installs_count, 1);
    cr_assert_eq(cluster_peer(c, 1, 2).match, cluster_status(c, 1).last);
    cr_assert_eq(cluster_status(c, 2).commit, cluster_status(c, 1).commit);
}

/* [etcd-io/raft TestSendingSnapshotSetPendingSnapshot, TestPendingSnapshotPauseReplication] */
Test(raft_snapshot, nothing_is_appended_at_a_peer_that_waits_for_it)
{
    leave_behind(3, 0, 3);
    cluster_isolate(c, 3, false);
    cluster_run(c, 200 * MS);
    cr_assert_eq(cluster_peer(c, 1, 3).state, RAFT_NEEDS_SNAPSHOT);
    for (uint32_t i = 0; i < 10; i++) cr_assert_eq(cluster_propose(c, 1, "y"), TL_OK);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 10);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 3), 0);
}

/* [cowsql/raft replication/staleRejectedIndexSnapshot] */
Test(raft_snapshot, late_rejects_of_before_it_change_nothing)
{
    leave_behind(3, 0, 3);
    cluster_isolate(c, 3, false);
    cluster_run(c, 200 * MS);
    struct raft_message reject = {.type = RAFT_APPEND_REPLY,
                                  .from = 3,
                                  .to = 1,
                                  .term = 1,
                                  .reject = RAFT_REJECT_MISMATCH,
                                  .index = cluster_status(c, 1).first - 1,
                                  .hint_index = 1,
                                  .hint_term = 1};
    cr_assert_eq(cluster_install(c, 1, 3), TL_OK);
    cluster_run(c, 60 * MS);
    struct raft_peer_status before = cluster_peer(c, 1, 3);
    cr_assert_eq(before.state, RAFT_REPLICATE);
    cluster_inject(c, &reject);
    struct raft_peer_status after = cluster_peer(c, 1, 3);
    cr_assert_eq(after.state, RAFT_REPLICATE);
    cr_assert_eq(after.next, before.next);
    cr_assert_eq(after.match, before.match);
}

/* ---- the switch and what is heard during it ---- */

/* No honest leader can say that what the snapshot contradicts is committed; whoever says so must
 * not stop this node. */
static void hear_commit_during_the_switch(enum raft_message_type type)
{
    static const raft_term terms[] = {1, 2, 2, 2, 2, 2, 2, 2};
    c = cluster_create(3, 0);
    cluster_fill(c, 3, terms, 8, 2);
    cluster_start(c, 3);
    const struct raft_message word = {.type = type, .from = 1, .to = 3, .term = 2};
    struct raft_message message = word;
    cluster_inject(c, &message);
    struct raft_base base = {.index = 5, .term = 1, .hash = {1, 2}, .time_us = 9};
    struct raft_conf conf = cluster_conf(3, 0);
    cr_assert_eq(raft_snapshot_install(cluster_at(c, 3)->raft, 1, &base, &conf), TL_OK);
    for (uint32_t i = 0; i < 2; i++) { /* while the switch is wanted, and while it is written */
        message = word;
        message.commit = 8;
        cluster_inject(c, &message);
    }
    cluster_write(c, 3, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 3).last, 5);
    cr_assert_eq(cluster_status(c, 3).commit, 5);
}

Test(raft_snapshot, commit_index_heard_for_a_log_that_goes_away_is_not_taken)
{
    hear_commit_during_the_switch(RAFT_HEARTBEAT);
}

Test(raft_snapshot, nor_is_that_of_an_answered_read)
{
    hear_commit_during_the_switch(RAFT_READ_REPLY);
}

/* Node 3 has acknowledged up to 8 in term 5, and knows nobody who leads. */
static enum tl_err install_from(raft_id sender, raft_index index, raft_term term)
{
    struct raft_base base = {.index = index, .term = term, .hash = {1, 2}, .time_us = 9};
    struct raft_conf conf = cluster_conf(3, 0);
    return raft_snapshot_install(cluster_at(c, 3)->raft, sender, &base, &conf);
}

static void start_with_a_tail_of_term_5(void)
{
    static const raft_term terms[] = {1, 1, 1, 5, 5, 5, 5, 5};
    c = cluster_create(3, 0);
    cluster_fill(c, 3, terms, 8, 5);
    cluster_start(c, 3);
}

/* Killed behind the switch it would begin with less than it had promised in term 5: an old copy of
 * itself to who remembers that. */
Test(raft_snapshot, log_gets_shorter_only_in_a_term_that_the_sender_leads)
{
    start_with_a_tail_of_term_5();
    cr_assert_eq(install_from(1, 5, 4), TL_ERR_NO_LEADER);
    struct raft_message heartbeat = {.type = RAFT_HEARTBEAT, .from = 1, .to = 3, .term = 7};
    cluster_inject(c, &heartbeat);
    cr_assert_eq(install_from(2, 5, 4), TL_ERR_NO_LEADER);
    cr_assert_not(cluster_status(c, 3).is_installing);
    cr_assert_eq(install_from(1, 5, 4), TL_OK);
    cluster_turn(c, 3);
    cr_assert_eq(cluster_at(c, 3)->ops_count, 2);
    cr_assert_eq(cluster_at(c, 3)->ops[0].hard_state.term, 7);
    cr_assert(cluster_at(c, 3)->ops[1].is_install);
    cluster_write(c, 3, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 3).last, 5);
}

Test(raft_snapshot, of_a_newer_term_needs_no_known_leader)
{
    start_with_a_tail_of_term_5();
    cr_assert_eq(install_from(1, 5, 6), TL_OK);
    cluster_turn(c, 3);
    cr_assert_eq(cluster_at(c, 3)->ops[0].hard_state.term, 6);
}

Test(raft_snapshot, at_the_end_of_the_log_needs_no_known_leader)
{
    start_with_a_tail_of_term_5();
    cr_assert_eq(install_from(1, 8, 4), TL_OK);
}

/* ---- start ---- */

/* [cowsql/raft start/oneSnapshotAndSomeFollowUpEntries; etcd-io/raft
 * TestNodeRestartFromSnapshot] */
Test(raft_snapshot, node_starts_from_one_and_the_entries_behind_it)
{
    static const raft_term terms[] = {1, 1, 1, 2, 2, 2};
    c = cluster_create(3, 0);
    for (raft_id id = 1; id <= 2; id++) {
        cluster_fill(c, id, terms, 6, 2);
        cluster_compact(c, id, 4);
        cluster_at(c, id)->applied = 4;
        cluster_start(c, id);
        cr_assert_eq(cluster_status(c, id).first, 5);
        cr_assert_eq(cluster_status(c, id).last, 6);
        cr_assert_eq(cluster_status(c, id).commit, 4, "what a snapshot holds is committed");
        cr_assert_eq(cluster_at(c, id)->applied, 4, "what follows it need not be");
    }
    cluster_elect(c, 1);
    cluster_run(c, 60 * MS);
    for (raft_id id = 1; id <= 2; id++) cr_assert_eq(cluster_at(c, id)->applied, 7);
}

/* [etcd-io/raft TestNodeRestart] */
Test(raft_snapshot, what_was_known_to_be_committed_is_applied_before_anybody_leads)
{
    static const raft_term terms[] = {1, 1, 1};
    c = cluster_create(3, 0);
    cluster_fill(c, 1, terms, 3, 1);
    cluster_at(c, 1)->hard_state.commit = 2;
    cluster_start(c, 1);
    cr_assert_eq(cluster_status(c, 1).leader, RAFT_ID_NONE);
    cr_assert_eq(cluster_at(c, 1)->applied, 2);
}

/* [cowsql/raft start/singleVotingNotUs] */
Test(raft_snapshot, node_beside_a_single_voter_leads_only_if_it_is_that_voter)
{
    c = cluster_create(1, 1);
    cluster_start(c, 2);
    cr_assert_not(campaigns(2));
    cluster_start(c, 1);
    cr_assert(campaigns(1));
    cluster_run(c, 100 * MS);
    cr_assert_eq(cluster_leader(c), 1);
    cr_assert_eq(cluster_status(c, 2).leader, 1);
}
