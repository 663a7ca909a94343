/* raft: read rounds, one test per promise. */

#include <criterion/criterion.h>
#include <inttypes.h>

#include "raft_cluster.h"

static struct cluster *c;

static void setup(void)
{
    c = cluster_create(3, 0);
    cluster_start_all(c);
}

static void teardown(void)
{
    cluster_destroy(c);
}

TestSuite(raft_read, .init = setup, .fini = teardown, .timeout = 20);

static uint64_t ready(raft_id id)
{
    return cluster_at(c, id)->output.reads_ready_round;
}

Test(raft_read, round_is_confirmed_by_a_quorum_and_gives_the_commit_index)
{
    cluster_elect(c, 1);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cluster_settle(c);
    uint64_t round = cluster_read(c, 1);
    cr_assert_lt(ready(1), round);
    cluster_settle(c);
    cr_assert_eq(ready(1), round);
    cr_assert_eq(cluster_at(c, 1)->output.read_index, 2);
}

/* [etcd #7331] */
Test(raft_read, none_is_answered_before_the_own_term_has_committed)
{
    cluster_timeout(c, 1);
    cluster_deliver(c, 1, 0, UINT32_MAX);
    cluster_deliver(c, 0, 1, UINT32_MAX);
    cluster_write(c, 1, 1);
    cluster_deliver(c, 1, 0, UINT32_MAX);
    cluster_write(c, 2, 1);
    cluster_deliver(c, 2, 1, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_LEADER);
    (void)cluster_drop(c, 1, 0); /* the no-op */
    uint64_t round = cluster_read(c, 1);
    cluster_advance(c, 1, 10 * MS);
    cluster_deliver(c, 1, 0, UINT32_MAX);
    cluster_deliver(c, 0, 1, UINT32_MAX);
    cr_assert_lt(ready(1), round);
    cluster_run(c, 2 * CLUSTER_BEAT_NS);
    cr_assert_eq(ready(1), round, "it waited for the commit");
}

Test(raft_read, reads_share_rounds_however_many_they_are)
{
    cluster_elect(c, 1);
    uint64_t first = cluster_read(c, 1);
    uint64_t last = first;
    for (uint32_t i = 0; i < 1000; i++) last = cluster_read(c, 1);
    cr_assert_eq(last, first + 1);
    cluster_settle(c);
    cr_assert_eq(ready(1), last);
    cr_assert_eq(cluster_status(c, 1).read_rounds_count, 2);
}

Test(raft_read, acknowledgement_of_an_append_confirms_it_too)
{
    cluster_elect(c, 1);
    struct raft *raft = cluster_at(c, 1)->raft;
    uint64_t round = raft_read(raft);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cr_assert_eq(cluster_count(c, RAFT_HEARTBEAT, 1, 0), 0, "the appends ask already");
    cluster_deliver(c, 1, 2, UINT32_MAX);
    cluster_write(c, 2, 1);
    cluster_deliver(c, 2, 1, UINT32_MAX);
    cr_assert_eq(ready(1), round);
}

/* [etcd #20418] */
Test(raft_read, echo_of_what_was_sent_before_does_not_confirm)
{
    cluster_elect(c, 1);
    (void)cluster_read(c, 1);
    cluster_deliver(c, 1, 2, UINT32_MAX);
    struct raft_message late = *cluster_find(c, RAFT_HEARTBEAT_REPLY, 2, 1);
    cluster_settle(c);
    uint64_t second = cluster_read(c, 1);
    cluster_inject(c, &late);
    cr_assert_lt(ready(1), second);
}

Test(raft_read, deposed_leader_answers_none_and_the_round_is_asked_again)
{
    cluster_elect(c, 1);
    cluster_isolate(c, 1, true);
    uint64_t round = cluster_read(c, 1);
    cluster_run(c, 2000 * MS);
    raft_id leader = cluster_leader(c);
    cr_assert_neq(leader, 1);
    cr_assert_eq(cluster_propose(c, leader, "x"), TL_OK);
    cluster_run(c, 10 * MS);
    cr_assert_lt(ready(1), round);
    raft_index acknowledged = cluster_status(c, leader).commit;
    cluster_isolate(c, 1, false);
    cluster_run(c, 1000 * MS);
    cr_assert_eq(ready(1), round);
    cr_assert_geq(cluster_at(c, 1)->output.read_index, acknowledged);
}

Test(raft_read, follower_asks_its_leader)
{
    cluster_elect(c, 1);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cluster_settle(c);
    uint64_t round = cluster_read(c, 3);
    cluster_settle(c);
    cr_assert_eq(ready(3), round);
    cr_assert_eq(cluster_at(c, 3)->output.read_index, 2);
    cr_assert_geq(cluster_at(c, 3)->applied, 2, "the answer brings the commit index along");
}

/* [raft-rs #169] */
Test(raft_read, lost_request_is_made_again)
{
    cluster_elect(c, 1);
    uint64_t round = cluster_read(c, 3);
    cr_assert_eq(cluster_drop(c, 3, 1), 1);
    cluster_run(c, 99 * MS);
    cr_assert_lt(ready(3), round);
    cluster_run(c, 3 * MS);
    cr_assert_eq(ready(3), round);
}

Test(raft_read, follower_without_a_leader_asks_once_there_is_one)
{
    uint64_t round = cluster_read(c, 3);
    cr_assert_eq(c->messages_count, 0);
    cluster_elect(c, 1);
    cluster_run(c, 5 * MS);
    cr_assert_eq(ready(3), round);
}

/* A quorum slower than the retry must not starve its readers. */
Test(raft_read, answer_to_an_earlier_try_counts_for_its_rounds)
{
    cluster_elect(c, 1);
    uint64_t round = cluster_read(c, 3);
    cluster_deliver(c, 3, 1, UINT32_MAX);
    cluster_deliver(c, 1, 2, UINT32_MAX);
    cluster_advance(c, 3, 100 * MS);
    cluster_advance(c, 3, 100 * MS);
    cluster_deliver(c, 2, 1, UINT32_MAX);
    cluster_deliver(c, 1, 3, UINT32_MAX);
    cr_assert_eq(ready(3), round);
}

Test(raft_read, answer_to_an_earlier_life_of_the_node_does_not_count)
{
    cluster_elect(c, 1);
    (void)cluster_read(c, 3);
    cluster_deliver(c, 3, 1, UINT32_MAX);
    cluster_deliver(c, 1, 2, UINT32_MAX);
    cluster_deliver(c, 2, 1, UINT32_MAX);
    cluster_crash(c, 3);
    cluster_start(c, 3);
    struct raft_message beat = {.type = RAFT_HEARTBEAT, .from = 1, .to = 3, .term = 1};
    cluster_inject(c, &beat);
    uint64_t round = cluster_read(c, 3);
    cluster_deliver(c, 1, 3, UINT32_MAX);
    cr_assert_lt(ready(3), round);
}

Test(raft_read, learner_neither_asks_for_itself_as_a_quorum_nor_confirms)
{
    cluster_destroy(c);
    c = cluster_create(2, 1);
    cluster_start_all(c);
    cluster_elect(c, 1);
    cluster_isolate(c, 2, true);
    uint64_t round = cluster_read(c, 1);
    cluster_run(c, 100 * MS);
    cr_assert_lt(ready(1), round, "one of two voters and a learner");
    cluster_isolate(c, 2, false);
    cluster_run(c, 100 * MS);
    cr_assert_eq(ready(1), round);
    uint64_t own = cluster_read(c, 3);
    cluster_settle(c);
    cr_assert_eq(ready(3), own);
}

Test(raft_read, single_voter_is_its_own_quorum_after_its_first_commit)
{
    cluster_destroy(c);
    c = cluster_create(1, 0);
    cluster_start_all(c);
    uint64_t early = cluster_read(c, 1);
    cluster_timeout(c, 1);
    cluster_write(c, 1, 1);
    cr_assert_lt(ready(1), early);
    cluster_write(c, 1, 1);
    cr_assert_eq(ready(1), early);
    cr_assert_eq(cluster_read(c, 1), ready(1), "in the same turn");
}

/* The round begins while the other voter is being removed, which is not heard of again. Returns
 * whether the round ends. */
static bool round_ends_alone(uint32_t mutation)
{
    cluster_destroy(c);
    c = cluster_create(2, 0);
    cluster_at(c, 1)->mutation = mutation;
    cluster_start_all(c);
    cluster_elect(c, 1);
    struct raft_conf alone = cluster_conf(1, 0);
    alone.epoch = 1;
    cr_assert_eq(cluster_propose_conf(c, 1, &alone), TL_OK);
    cluster_write(c, 1, UINT32_MAX);
    cluster_deliver(c, 1, 2, UINT32_MAX);
    cluster_write(c, 2, UINT32_MAX); /* its acknowledgement echoes what came before the round */
    uint64_t round = cluster_read(c, 1);
    cluster_advance(c, 1, MS);
    (void)cluster_drop(c, 1, 2);
    cluster_deliver(c, 2, 1, UINT32_MAX);
    cluster_isolate(c, 2, true);
    cluster_run(c, 2 * CLUSTER_BEAT_NS);
    struct raft_status status = cluster_status(c, 1);
    cr_assert_eq(status.role, RAFT_LEADER);
    cr_assert_eq(status.conf.voters_count, 1);
    cr_assert(status.is_conf_committed);
    return ready(1) == round;
}

Test(raft_read, round_ends_when_the_voter_that_it_waits_for_has_been_removed)
{
    cr_assert(round_ends_alone(RAFT_MUTATION_NONE));
}

Test(raft_read, round_that_ends_by_echoes_alone_would_hang)
{
    cr_assert_not(round_ends_alone(RAFT_MUTATION_ROUND_BY_ECHO));
}
