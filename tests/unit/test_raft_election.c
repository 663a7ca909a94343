/* raft: elections, one test per promise. Names in brackets are those of public test suites and
 * issues that the case comes from. */

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>

#include "raft_cluster.h"

static struct cluster *c;

static void setup(void)
{
    c = cluster_create(3, 0);
}

static void teardown(void)
{
    cluster_destroy(c);
}

static void replace(uint32_t voters_count)
{
    cluster_destroy(c);
    c = cluster_create(voters_count, 0);
    cluster_start_all(c);
}

static struct raft_message from(raft_id id, enum raft_message_type type, raft_term term)
{
    return (struct raft_message){.type = type, .from = id, .to = 1, .term = term};
}

static void inject(struct raft_message message)
{
    cluster_inject(c, &message);
}

TestSuite(raft_election, .init = setup, .fini = teardown, .timeout = 20);

Test(raft_election, vote_leaves_only_when_it_is_durable)
{
    cluster_start_all(c);
    inject(from(2, RAFT_VOTE, 1));
    cr_assert_eq(cluster_count(c, RAFT_VOTE_REPLY, 1, 0), 0);
    cr_assert_eq(cluster_at(c, 1)->ops[0].hard_state.vote, 2);
    cr_assert_eq(cluster_at(c, 1)->ops[0].hard_state.term, 1);
    cluster_write(c, 1, 1);
    cr_assert_eq(cluster_count(c, RAFT_VOTE_REPLY, 1, 2), 1);
}

Test(raft_election, vote_survives_a_crash)
{
    cluster_start_all(c);
    inject(from(2, RAFT_VOTE, 1));
    cluster_write(c, 1, 1);
    cluster_crash(c, 1);
    (void)cluster_drop(c, 0, 0);
    cluster_start(c, 1);
    inject(from(3, RAFT_VOTE, 1));
    cluster_write(c, 1, UINT32_MAX);
    cr_assert_not(cluster_find(c, RAFT_VOTE_REPLY, 1, 3)->granted);
    inject(from(2, RAFT_VOTE, 1));
    cluster_write(c, 1, UINT32_MAX);
    cr_assert(cluster_find(c, RAFT_VOTE_REPLY, 1, 2)->granted, "the same candidate, again");
}

/* A candidate that crashes before its vote is durable has asked nobody, so no grant can come late
 * for a log that it has lost. */
Test(raft_election, vote_is_asked_for_only_when_the_own_vote_is_durable)
{
    cluster_start_all(c);
    cluster_timeout(c, 1);
    cluster_deliver(c, 1, 0, UINT32_MAX);
    cluster_deliver(c, 0, 1, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_CANDIDATE);
    cr_assert_eq(cluster_count(c, RAFT_VOTE, 1, 0), 0);
    cluster_write(c, 1, 1);
    cr_assert_eq(cluster_count(c, RAFT_VOTE, 1, 0), 2);
}

/* [canonical/raft #386: two leaders in one term] */
Test(raft_election, late_prevote_replies_are_no_votes)
{
    replace(5);
    cluster_timeout(c, 1);
    for (raft_id id = 2; id <= 5; id++) {
        struct raft_message reply = from(id, RAFT_PREVOTE_REPLY, 1);
        reply.granted = true;
        inject(reply);
    }
    cluster_write(c, 1, UINT32_MAX);
    for (raft_id id = 4; id <= 5; id++) {
        struct raft_message reply = from(id, RAFT_PREVOTE_REPLY, 1);
        reply.granted = true;
        inject(reply);
    }
    cr_assert_eq(cluster_status(c, 1).role, RAFT_CANDIDATE);
}

Test(raft_election, one_peer_has_one_vote_however_often_it_answers)
{
    replace(5);
    cluster_timeout(c, 1);
    for (uint32_t i = 0; i < 4; i++) {
        struct raft_message reply = from(2, RAFT_PREVOTE_REPLY, 1);
        reply.granted = true;
        inject(reply);
    }
    cr_assert_eq(cluster_status(c, 1).role, RAFT_PRECANDIDATE);
}

/* [CCF #8094] */
Test(raft_election, stepping_down_within_a_term_keeps_the_vote)
{
    cluster_start_all(c);
    cluster_timeout(c, 1);
    cluster_deliver(c, 1, 0, UINT32_MAX);
    cluster_deliver(c, 0, 1, UINT32_MAX);
    cluster_write(c, 1, 1);
    for (raft_id id = 2; id <= 3; id++) inject(from(id, RAFT_VOTE_REPLY, 1)); /* refused */
    cr_assert_eq(cluster_status(c, 1).role, RAFT_FOLLOWER);
    cr_assert_eq(cluster_status(c, 1).vote, 1);
    (void)cluster_drop(c, 0, 0);
    inject(from(3, RAFT_VOTE, 1));
    cluster_write(c, 1, UINT32_MAX);
    cr_assert_not(cluster_find(c, RAFT_VOTE_REPLY, 1, 3)->granted);
}

/* [TestLeaderCycle] */
Test(raft_election, each_node_can_lead_in_turn)
{
    cluster_start_all(c);
    for (raft_id id = 1; id <= 3; id++) {
        for (raft_id other = 1; other <= 3; other++) {
            raft_id leader = raft_leader(cluster_at(c, other)->raft);
            raft_peer_lost(cluster_at(c, other)->raft, leader);
            cluster_turn(c, other);
        }
        if (id > 1) {
            cluster_isolate(c, id - 1, true); /* a leader that hears a quorum refuses */
            cluster_advance(c, id - 1, CLUSTER_T_NS);
            cluster_isolate(c, id - 1, false);
        }
        cluster_elect(c, id);
        cr_assert_eq(cluster_leader(c), id);
    }
}

/* [TestVoteFromAnyState] */
Test(raft_election, vote_of_a_higher_term_is_given_from_any_role_that_has_lost_its_leader)
{
    for (enum raft_role role = RAFT_FOLLOWER; role <= RAFT_CANDIDATE; role++) {
        replace(3);
        if (role >= RAFT_PRECANDIDATE) cluster_timeout(c, 1);
        if (role == RAFT_CANDIDATE) {
            cluster_deliver(c, 1, 0, UINT32_MAX);
            cluster_deliver(c, 0, 1, UINT32_MAX);
        }
        cr_assert_eq(cluster_status(c, 1).role, role);
        raft_term term = cluster_status(c, 1).term + 3;
        inject(from(2, RAFT_VOTE, term));
        cluster_write(c, 1, UINT32_MAX);
        const struct raft_message *reply = cluster_find(c, RAFT_VOTE_REPLY, 1, 2);
        cr_assert(reply->granted);
        cr_assert_eq(reply->term, term);
        cr_assert_eq(cluster_status(c, 1).role, RAFT_FOLLOWER);
    }
}

/* Thesis 4.2.3. */
Test(raft_election, who_hears_a_leader_ignores_vote_requests)
{
    cluster_start_all(c);
    cluster_elect(c, 1);
    raft_term term = cluster_status(c, 2).term;
    struct raft_message request = {.type = RAFT_VOTE, .from = 3, .to = 2, .term = term + 9};
    request.log_term = 99;
    cluster_inject(c, &request);
    inject(from(3, RAFT_VOTE, term + 9));
    cluster_settle(c);
    cr_assert_eq(cluster_status(c, 2).term, term);
    cr_assert_eq(cluster_leader(c), 1);
    cr_assert_eq(cluster_status(c, 1).term, term);
}

/* Thesis 9.6. */
Test(raft_election, partitioned_node_comes_back_without_disturbing)
{
    cluster_start_all(c);
    cluster_elect(c, 1);
    cluster_isolate(c, 3, true);
    cluster_run(c, 5000 * MS);
    raft_term term = cluster_status(c, 1).term;
    cr_assert_eq(cluster_status(c, 3).term, term);
    cluster_isolate(c, 3, false);
    cluster_run(c, 1000 * MS);
    cr_assert_eq(cluster_leader(c), 1);
    cr_assert_eq(cluster_status(c, 1).term, term);
    cr_assert_eq(cluster_status(c, 3).leader, 1);
}

/* [TestFreeStuckCandidateWithCheckQuorum] */
Test(raft_election, node_of_a_higher_term_gets_its_leader_to_step_down_and_is_freed)
{
    c->nodes[2].hard_state.term = 9;
    cluster_start_all(c);
    cluster_isolate(c, 3, true);
    cluster_elect(c, 1);
    cluster_isolate(c, 3, false);
    cluster_run(c, 2000 * MS);
    raft_id leader = cluster_leader(c);
    cr_assert_neq(leader, 0);
    cr_assert_geq(cluster_status(c, leader).term, 9);
    for (raft_id id = 1; id <= 3; id++) cr_assert_eq(cluster_status(c, id).leader, leader);
}

/* [canonical/raft #279, TestNodeWithSmallerTermCanCompleteElection] */
Test(raft_election, prevote_asker_of_a_lower_term_is_told_and_can_win_then)
{
    static const raft_term longer[] = {1, 1};
    cluster_fill(c, 1, longer, 2, 1);
    cluster_fill(c, 2, longer, 1, 5);
    cluster_start(c, 1);
    cluster_start(c, 2);
    cluster_timeout(c, 1);
    cluster_settle(c);
    cr_assert_eq(cluster_status(c, 1).term, 5);
    cluster_elect(c, 1);
}

/* [LogCabin #200] */
Test(raft_election, slow_own_disk_is_no_reason_to_campaign)
{
    cluster_start_all(c);
    cluster_elect(c, 1);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cluster_deliver(c, 1, 2, UINT32_MAX);
    cr_assert_eq(cluster_at(c, 2)->ops_count, 1);
    cr_assert_eq(cluster_at(c, 2)->output.deadline_ns, UINT64_MAX);
    cluster_advance(c, 2, 5000 * MS);
    cr_assert_eq(cluster_status(c, 2).role, RAFT_FOLLOWER);
    cluster_write(c, 2, 1);
    struct cluster_node *node = cluster_at(c, 2);
    cr_assert_eq(cluster_status(c, 2).role, RAFT_FOLLOWER);
    cr_assert_geq(node->output.deadline_ns, node->now_ns + CLUSTER_T_NS, "the timer starts anew");
}

/* [TestLeaderStepdownWhenQuorumActive, ...Lost] */
Test(raft_election, leader_stays_with_a_quorum_and_steps_down_without)
{
    replace(5);
    cluster_elect(c, 1);
    cluster_isolate(c, 4, true);
    cluster_isolate(c, 5, true);
    cluster_run(c, 2000 * MS);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_LEADER);
    cr_assert(cluster_status(c, 1).has_quorum);
    cluster_isolate(c, 3, true);
    cluster_run(c, CLUSTER_T_NS + 10 * MS);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_FOLLOWER);
    cr_assert_not(cluster_status(c, 1).has_quorum);
}

/* [etcd incident at Cloudflare, 2020: neither side of a bridge may depose the leader for ever] */
Test(raft_election, bridge_partition_keeps_its_leader)
{
    cluster_start_all(c);
    cluster_elect(c, 1);
    c->is_cut[1][3] = true;
    c->is_cut[3][1] = true;
    cluster_run(c, 10000 * MS);
    cr_assert_eq(cluster_status(c, 1).elections_won_count +
                     cluster_status(c, 2).elections_won_count +
                     cluster_status(c, 3).elections_won_count,
                 1);
}

/* [cockroach #79699] */
Test(raft_election, leader_that_is_not_heard_or_cannot_hear_is_replaced_once)
{
    for (uint32_t is_deaf = 0; is_deaf < 2; is_deaf++) {
        replace(3);
        cluster_elect(c, 1);
        cluster_run(c, 100 * MS);
        for (raft_id id = 2; id <= 3; id++) {
            c->is_cut[1][id] = is_deaf == 0;
            c->is_cut[id][1] = is_deaf == 1;
        }
        cluster_run(c, 1500 * MS);
        raft_id leader = cluster_leader(c);
        cr_assert_neq(leader, 1);
        cr_assert_neq(leader, 0);
        raft_term term = cluster_status(c, leader).term;
        for (raft_id id = 2; id <= 3; id++) {
            c->is_cut[1][id] = false;
            c->is_cut[id][1] = false;
        }
        cluster_run(c, 1500 * MS);
        cr_assert_eq(cluster_leader(c), leader, "none on heal");
        cr_assert_eq(cluster_status(c, leader).term, term);
    }
}

/* [cockroach #128642] */
Test(raft_election, lost_leader_is_forgotten_and_the_campaign_jitters_over_5_to_50_ms)
{
    uint64_t least_ns = UINT64_MAX;
    uint64_t most_ns = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        cluster_destroy(c);
        c = cluster_create(3, 0);
        c->seed = seed;
        cluster_start_all(c);
        inject(from(2, RAFT_HEARTBEAT, 1));
        cluster_write(c, 1, UINT32_MAX);
        struct cluster_node *node = cluster_at(c, 1);
        raft_peer_lost(node->raft, 3);
        cr_assert_eq(raft_leader(node->raft), 2, "not the leader");
        raft_peer_lost(node->raft, 2);
        cluster_turn(c, 1);
        cr_assert_eq(raft_leader(node->raft), RAFT_ID_NONE);
        uint64_t wait_ns = node->output.deadline_ns - node->now_ns;
        least_ns = TL_MIN(least_ns, wait_ns);
        most_ns = TL_MAX(most_ns, wait_ns);
    }
    cr_assert_geq(least_ns, 5 * MS);
    cr_assert_leq(most_ns, 50 * MS);
    cr_assert_gt(most_ns - least_ns, 30 * MS);
}

Test(raft_election, fast_path_survives_the_end_of_an_own_write)
{
    cluster_start_all(c);
    inject(from(2, RAFT_HEARTBEAT, 1));
    raft_peer_lost(cluster_at(c, 1)->raft, 2);
    cluster_turn(c, 1);
    cluster_write(c, 1, 1);
    cr_assert_leq(cluster_at(c, 1)->output.deadline_ns, 50 * MS);
}

/* Thesis 4.2.3: the voter may not know the configuration that the candidate is in. */
Test(raft_election, strangers_are_voted_for_and_may_lead_but_their_answers_do_not_count)
{
    for (raft_id id = 1; id <= 3; id++) cluster_at(c, id)->conf = cluster_conf(2, 0);
    cluster_start_all(c);
    inject(from(3, RAFT_VOTE, 1));
    cluster_write(c, 1, UINT32_MAX);
    cr_assert(cluster_find(c, RAFT_VOTE_REPLY, 1, 3)->granted);
    inject(from(3, RAFT_HEARTBEAT, 1));
    cr_assert_eq(cluster_status(c, 1).leader, 3);
    uint64_t dropped_count = cluster_status(c, 1).messages_dropped_count;
    inject(from(3, RAFT_APPEND_REPLY, 1));
    inject(from(3, RAFT_VOTE_REPLY, 1));
    cr_assert_eq(cluster_status(c, 1).messages_dropped_count, dropped_count + 2);
    cluster_timeout(c, 3 - 1);
    cr_assert_eq(cluster_at(c, 3)->output.deadline_ns, UINT64_MAX, "no member, no campaign");
}

Test(raft_election, messages_that_are_not_ours_or_absurd_are_dropped)
{
    cluster_start_all(c);
    struct raft *raft = cluster_at(c, 1)->raft;
    struct raft_message wrong[] = {
        {.type = RAFT_VOTE, .group = CLUSTER_GROUP + 1, .from = 2, .to = 1, .term = 1},
        {.type = RAFT_VOTE, .group = CLUSTER_GROUP, .from = 2, .to = 3, .term = 1},
        {.type = RAFT_VOTE, .group = CLUSTER_GROUP, .from = 1, .to = 1, .term = 1},
        {.type = RAFT_VOTE, .group = CLUSTER_GROUP, .from = 0, .to = 1, .term = 1},
        {.type = RAFT_VOTE, .group = CLUSTER_GROUP, .from = 2, .to = 1, .term = UINT64_MAX},
        {.type = RAFT_APPEND, .group = CLUSTER_GROUP, .from = 2, .to = 1, .index = UINT64_MAX},
        {.type = (enum raft_message_type)77, .group = CLUSTER_GROUP, .from = 2, .to = 1},
    };
    for (uint32_t i = 0; i < TL_COUNT_OF(wrong); i++) {
        raft_message(raft, &wrong[i]);
        cr_assert_eq(cluster_status(c, 1).messages_dropped_count, i + 1);
        cr_assert_eq(raft_current_term(raft), 0);
    }
}

/* [TestDuelingCandidates] */
Test(raft_election, dueling_candidates_end_with_one_leader)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cluster_destroy(c);
        c = cluster_create(5, 0);
        c->seed = seed;
        cluster_start_all(c);
        for (raft_id id = 1; id <= 5; id++) cluster_timeout(c, id);
        cluster_settle(c);
        cluster_run(c, 3000 * MS);
        raft_id leader = cluster_leader(c);
        cr_assert_neq(leader, 0, "seed %" PRIu64, seed);
        for (raft_id id = 1; id <= 5; id++) cr_assert_eq(cluster_status(c, id).leader, leader);
    }
}

Test(raft_election, healthy_cluster_has_no_elections)
{
    cluster_start_all(c);
    cluster_elect(c, 2);
    cluster_run(c, 20000 * MS);
    cr_assert_eq(cluster_leader(c), 2);
    cr_assert_eq(cluster_status(c, 2).elections_started_count, 1);
    cr_assert_eq(cluster_status(c, 1).leader_changes_count, 1);
}

Test(raft_election, two_leaders_of_one_term_stop_the_process, .signal = SIGABRT)
{
    cluster_start_all(c);
    cluster_elect(c, 1);
    inject(from(2, RAFT_HEARTBEAT, cluster_status(c, 1).term));
}
