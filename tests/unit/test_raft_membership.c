/* raft: changes of configuration, transfers, disk rules and snapshots, where one promise is better
 * shown alone than in a scenario. */

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>

#include "raft_cluster.h"

static struct cluster *c;

static void teardown(void)
{
    cluster_destroy(c);
}

TestSuite(raft_membership, .fini = teardown, .timeout = 20);

static struct raft_conf conf_of(uint32_t voters_count, const raft_id *voters,
                                uint32_t learners_count, const raft_id *learners, uint64_t epoch)
{
    struct raft_conf conf = {
        .voters_count = voters_count, .learners_count = learners_count, .epoch = epoch};
    for (uint32_t i = 0; i < voters_count; i++) conf.voters[i] = voters[i];
    for (uint32_t i = 0; i < learners_count; i++) conf.learners[i] = learners[i];
    return conf;
}

#define IDS(...)                                         \
    TL_COUNT_OF(((raft_id[]){__VA_ARGS__})), (raft_id[]) \
    {                                                    \
        __VA_ARGS__                                      \
    }
#define NO_IDS 0, NULL

static bool is_in_force(raft_id at, const char *expected)
{
    char text[256];
    struct raft_status status = cluster_status(c, at);
    cluster_conf_text(&status.conf, text, sizeof text);
    return strcmp(text, expected) == 0;
}

static void lead(uint32_t voters_count, uint32_t learners_count, uint32_t spares_count)
{
    c = cluster_create(voters_count, learners_count);
    cluster_add_spares(c, spares_count);
    cluster_start_all(c);
    cluster_elect(c, 1);
    cluster_run(c, 100 * MS);
}

/* ---- learners ---- */

Test(raft_membership, learner_does_not_campaign)
{
    lead(1, 1, 0);
    cluster_crash(c, 1);
    cluster_run(c, 5000 * MS);
    cr_assert_eq(cluster_status(c, 2).role, RAFT_FOLLOWER);
    cr_assert_eq(cluster_status(c, 2).elections_started_count, 0);
}

Test(raft_membership, learner_counts_for_nothing)
{
    lead(3, 2, 0);
    cluster_isolate(c, 2, true);
    cluster_isolate(c, 3, true);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    raft_index commit = cluster_status(c, 1).commit;
    uint64_t round = cluster_read(c, 1);
    cluster_run(c, 100 * MS);
    cr_assert_eq(cluster_status(c, 1).commit, commit, "1, 4 and 5 are no quorum of 1, 2 and 3");
    cr_assert_lt(cluster_at(c, 1)->output.reads_ready_round, round);
    cluster_run(c, 400 * MS);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_FOLLOWER, "CheckQuorum asks voters");
}

Test(raft_membership, learner_reads_through_its_leader)
{
    lead(1, 1, 0);
    uint64_t round = cluster_read(c, 2);
    cluster_run(c, 10 * MS);
    cr_assert_geq(cluster_at(c, 2)->output.reads_ready_round, round);
}

Test(raft_membership, node_without_a_configuration_waits)
{
    c = cluster_create(1, 0);
    cluster_add_spares(c, 1);
    cluster_start_all(c);
    cluster_run(c, 3000 * MS);
    cr_assert_eq(cluster_status(c, 2).term, 0);
    cr_assert_eq(cluster_at(c, 2)->output.deadline_ns, UINT64_MAX);
}

Test(raft_membership, learner_has_caught_up_when_it_has_what_is_committed)
{
    lead(1, 0, 1);
    struct raft_conf target = conf_of(IDS(1), IDS(2), 1);
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_OK);
    cr_assert_not(cluster_peer(c, 1, 2).is_caught_up);
    cluster_run(c, 100 * MS);
    cr_assert(cluster_peer(c, 1, 2).is_caught_up);
    cluster_isolate(c, 2, true);
    cluster_run(c, 400 * MS);
    cr_assert_not(cluster_peer(c, 1, 2).is_caught_up, "it is not heard from");
}

/* ---- changes ---- */

Test(raft_membership, voters_are_swapped_at_once)
{
    lead(3, 3, 0);
    struct raft_conf target = conf_of(IDS(4, 5, 6), NO_IDS, 1);
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_OK);
    cr_assert(is_in_force(1, "4 5 6 | 1 2 3 epoch 1"));
    cluster_run(c, 1000 * MS);
    raft_id leader = cluster_leader(c);
    cr_assert_geq(leader, 4);
    cr_assert(is_in_force(leader, "4 5 6 epoch 1"));
    cr_assert(cluster_status(c, leader).is_conf_committed);
    for (raft_id id = 1; id <= 3; id++) cluster_crash(c, id);
    cr_assert_eq(cluster_propose(c, leader, "x"), TL_OK);
    raft_index last = cluster_status(c, leader).last;
    cluster_run(c, 10 * MS);
    cr_assert_eq(cluster_status(c, leader).commit, last);
}

Test(raft_membership, too_many_members_are_refused)
{
    lead(1, 0, 0);
    struct raft_conf target = {.voters_count = 1, .voters = {1}};
    for (raft_id id = 2; id <= RAFT_MEMBERS_MAX + 1; id++) {
        target.learners[target.learners_count++] = id;
    }
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_ERR_INVALID);
}

Test(raft_membership, epoch_alone_may_change)
{
    lead(3, 0, 0);
    struct raft_conf target = conf_of(IDS(1, 2, 3), NO_IDS, 9);
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_OK);
    cluster_settle(c);
    cr_assert(is_in_force(1, "1 2 3 epoch 9"));
    target.epoch = 8;
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_ERR_STALE);
}

Test(raft_membership, status_says_where_the_configuration_stands)
{
    lead(3, 0, 1);
    cr_assert_eq(cluster_status(c, 1).conf_index, 0);
    struct raft_conf target = conf_of(IDS(1, 2, 3), IDS(4), 1);
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_OK);
    cr_assert_eq(cluster_status(c, 1).conf_index, cluster_status(c, 1).last);
    cr_assert_not(cluster_status(c, 1).is_conf_committed);
    cluster_settle(c);
    cr_assert(cluster_status(c, 1).is_conf_committed);
}

/* What a peer sends may decode as an entry and be no configuration. */
Test(raft_membership, entry_that_is_no_configuration_is_not_taken)
{
    c = cluster_create(3, 0);
    cluster_start_all(c);
    struct raft_message append = {
        .type = RAFT_APPEND, .from = 2, .to = 1, .term = 1, .entries_count = 1};
    append.entries = malloc(sizeof *append.entries);
    append.entries[0] = entry_create(ENTRY_CONF, 3);
    memset(append.entries[0]->data + ENTRY_HEADER_BYTES, 7, 3);
    struct entry_header header = {.group = CLUSTER_GROUP, .index = 1, .term = 1, .time_us = 1};
    entry_seal(append.entries[0], (struct hash128){0, 0}, &header);
    cluster_inject(c, &append);
    cr_assert_eq(cluster_status(c, 1).last, 0);
    cr_assert_eq(cluster_status(c, 1).messages_dropped_count, 1);
}

/* ---- transfers ---- */

Test(raft_membership, nothing_is_proposed_during_a_transfer_and_reads_go_on)
{
    lead(3, 1, 0);
    cr_assert_eq(cluster_transfer(c, 1, 2), TL_OK);
    cr_assert_eq(cluster_status(c, 1).transfer_target, 2);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_ERR_NOT_LEADER);
    struct raft_conf target = conf_of(IDS(1, 2, 3), NO_IDS, 1);
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_ERR_NOT_LEADER);
    (void)cluster_drop(c, 1, 2);
    uint64_t round = cluster_read(c, 1);
    (void)cluster_deliver(c, 1, 3, UINT32_MAX);
    (void)cluster_deliver(c, 3, 1, UINT32_MAX);
    cluster_advance(c, 1, 10 * MS);
    (void)cluster_deliver(c, 1, 3, UINT32_MAX);
    (void)cluster_deliver(c, 3, 1, UINT32_MAX);
    cr_assert_geq(cluster_at(c, 1)->output.reads_ready_round, round);
}

Test(raft_membership, transfer_takes_no_election_timeout)
{
    lead(3, 0, 0);
    cr_assert_eq(cluster_transfer(c, 1, 0), TL_OK);
    cluster_run(c, 2 * MS);
    raft_id leader = cluster_leader(c);
    cr_assert_neq(leader, 1);
    cr_assert_neq(leader, 0);
    cr_assert_eq(cluster_propose(c, leader, "x"), TL_OK);
}

/* ---- disks ---- */

Test(raft_membership, stalled_disk_is_noticed_by_the_clock_alone)
{
    lead(3, 0, 0);
    struct cluster_node *node = cluster_at(c, 1);
    for (raft_id id = 2; id <= 3; id++) raft_set_peer_disk_age(node->raft, id, 0);
    raft_set_disk_began(node->raft, node->now_ns - 490 * MS);
    cluster_turn(c, 1);
    cr_assert_leq(node->output.deadline_ns, node->now_ns + 10 * MS + 1);
    cluster_advance(c, 1, 9 * MS);
    cr_assert_eq(cluster_status(c, 1).transfer_target, RAFT_ID_NONE);
    cluster_advance(c, 1, 2 * MS);
    cr_assert_neq(cluster_status(c, 1).transfer_target, RAFT_ID_NONE);
    cr_assert_eq(cluster_status(c, 1).disk_stalls_count, 1);
}

/* One cause stalls all; the followers' disks are told to go on a moment before the leader's. */
Test(raft_membership, disk_that_has_just_recovered_takes_nothing_over)
{
    lead(3, 0, 0);
    struct cluster_node *node = cluster_at(c, 1);
    raft_set_disk_began(node->raft, node->now_ns);
    for (uint64_t ms = 0; ms < 700; ms += 50) {
        for (raft_id id = 2; id <= 3; id++) raft_set_peer_disk_age(node->raft, id, ms * MS);
        cluster_run(c, 50 * MS);
    }
    for (raft_id id = 2; id <= 3; id++) raft_set_peer_disk_age(node->raft, id, 0);
    cluster_run(c, 50 * MS);
    cr_assert_eq(cluster_status(c, 1).transfers_count, 0);
    for (uint64_t ms = 0; ms < 500; ms += 50) {
        for (raft_id id = 2; id <= 3; id++) raft_set_peer_disk_age(node->raft, id, 0);
        cluster_run(c, 50 * MS);
    }
    cr_assert_eq(cluster_status(c, 1).transfers_count, 1, "it was the leader's own");
}

Test(raft_membership, disk_moves_leadership_once_in_ten_seconds)
{
    lead(3, 0, 0);
    struct cluster_node *node = cluster_at(c, 1);
    /* A stall each second, shorter than one; nobody hears that leadership is handed over. */
    for (uint64_t ms = 0; ms < 10000; ms += 50) {
        if (ms % 1000 == 0) raft_set_disk_began(node->raft, node->now_ns);
        if (ms % 1000 == 600) raft_set_disk_began(node->raft, 0);
        raft_set_peer_disk_age(node->raft, 2, 0);
        cluster_advance(c, 1, 50 * MS);
        for (raft_id id = 2; id <= 3; id++) (void)cluster_deliver(c, 1, id, 1);
        (void)cluster_drop(c, 1, 0);
        (void)cluster_deliver(c, 0, 1, UINT32_MAX);
    }
    cr_assert_eq(cluster_status(c, 1).role, RAFT_LEADER);
    cr_assert_eq(cluster_status(c, 1).disk_stalls_count, 1);
}

Test(raft_membership, old_report_of_a_disk_counts_for_nothing)
{
    lead(3, 0, 0);
    struct cluster_node *node = cluster_at(c, 1);
    raft_set_peer_disk_age(node->raft, 2, 0);
    cluster_run(c, 201 * MS);
    raft_set_disk_began(node->raft, node->now_ns - 600 * MS);
    cluster_run(c, 100 * MS);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_LEADER);
    cr_assert_eq(cluster_status(c, 1).transfers_count, 0);
}

/* Of two that are as good the host says of one that it may not lead. */
Test(raft_membership, leadership_does_not_go_by_itself_to_who_is_unfit)
{
    for (raft_id unfit = 2; unfit <= 3; unfit++) {
        if (unfit > 2) cluster_destroy(c);
        lead(3, 0, 0);
        struct cluster_node *node = cluster_at(c, 1);
        for (raft_id id = 2; id <= 3; id++) raft_set_peer_disk_age(node->raft, id, 0);
        raft_set_peer_unfit(node->raft, unfit, true);
        raft_set_disk_began(node->raft, node->now_ns - 600 * MS);
        cluster_advance(c, 1, 1 * MS);
        cr_assert_eq(cluster_status(c, 1).transfer_target, 5 - unfit);
        raft_set_peer_unfit(node->raft, 5 - unfit, true);
        cr_assert_eq(raft_transfer(node->raft, RAFT_ID_NONE), TL_ERR_NO_QUORUM);
        cr_assert_eq(raft_transfer(node->raft, unfit), TL_OK, "it was named");
    }
}

/* CheckQuorum allows a new leader an election timeout; a change of voters must not believe that who
 * was not heard yet is there: its quorum would be lost for good. */
Test(raft_membership, new_leader_counts_on_nobody_it_has_not_heard)
{
    lead(5, 0, 0);
    cluster_crash(c, 1);
    cluster_crash(c, 4);
    raft_id leader = RAFT_ID_NONE;
    for (uint32_t i = 0; i < 2000 && leader == RAFT_ID_NONE; i++) {
        cluster_run(c, 1 * MS);
        leader = cluster_leader(c);
    }
    cr_assert_neq(leader, RAFT_ID_NONE);
    cr_assert_eq(cluster_status(c, leader).commit, cluster_status(c, leader).last);
    struct raft_conf target = conf_of(IDS(leader, 1, 4), NO_IDS, 1);
    cr_assert_eq(cluster_propose_conf(c, leader, &target), TL_ERR_NO_QUORUM, "1 and 4 are down");
    cr_assert_eq(cluster_transfer(c, leader, RAFT_ID_NONE), TL_OK);
    raft_id chosen = cluster_status(c, leader).transfer_target;
    cr_assert(chosen != 1 && chosen != 4);
}

/* ---- snapshots ---- */

Test(raft_membership, snapshot_is_wanted_only_above_the_commit_index_and_not_by_a_leader)
{
    lead(3, 0, 0);
    raft_index commit = cluster_status(c, 2).commit;
    cr_assert_not(raft_snapshot_is_wanted(cluster_at(c, 2)->raft, commit));
    cr_assert(raft_snapshot_is_wanted(cluster_at(c, 2)->raft, commit + 1));
    cr_assert_not(raft_snapshot_is_wanted(cluster_at(c, 1)->raft, commit + 1));
}

/* Node 3 has entry 2 and does not know that it is committed. */
static void leave_entry_2_uncommitted_at_3(void)
{
    lead(3, 0, 0);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    (void)cluster_deliver(c, 1, 0, UINT32_MAX);
    for (raft_id id = 1; id <= 3; id++) cluster_write(c, id, UINT32_MAX);
    (void)cluster_deliver(c, 0, 1, UINT32_MAX);
    (void)cluster_drop(c, 0, 0);
    cr_assert_eq(cluster_status(c, 1).commit, 2);
    cr_assert_eq(cluster_status(c, 3).commit, 1);
}

Test(raft_membership, snapshot_with_other_bytes_at_an_equal_index_and_term_is_refused)
{
    leave_entry_2_uncommitted_at_3();
    struct cluster_snapshot snapshot = cluster_cut(c, 1, 3);
    snapshot.base.hash.low ^= 1;
    struct raft *raft = cluster_at(c, 3)->raft;
    cr_assert_eq(raft_snapshot_install(raft, 1, &snapshot.base, &snapshot.conf), TL_ERR_CORRUPT);
    cr_assert_not(cluster_status(c, 3).is_installing);
    cr_assert_eq(cluster_install(c, 1, 3), TL_OK);
    cr_assert(cluster_status(c, 3).is_installing);
    cr_assert_eq(cluster_install(c, 1, 3), TL_ERR_BUSY);
    cluster_settle(c);
    cr_assert_eq(cluster_status(c, 3).applied, 2);
    cr_assert_eq(cluster_status(c, 3).installs_count, 1);
}

Test(raft_membership, commit_may_pass_the_snapshot_while_it_is_installed)
{
    leave_entry_2_uncommitted_at_3();
    cr_assert_eq(cluster_install(c, 1, 3), TL_OK);
    struct raft_message heartbeat = {
        .type = RAFT_HEARTBEAT, .from = 1, .to = 3, .term = 1, .commit = 2};
    cluster_inject(c, &heartbeat);
    cr_assert_eq(cluster_status(c, 3).commit, 2);
    cr_assert_eq(cluster_at(c, 3)->applied, 1, "the host has stopped applying");
    cluster_write(c, 3, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 3).applied, 2);
}

/* The commit index is written with a new term, and the switch behind it must not be one back. */
Test(raft_membership, commit_that_passes_a_wanted_snapshot_is_not_written_before_the_switch)
{
    leave_entry_2_uncommitted_at_3();
    struct cluster_snapshot snapshot = cluster_cut(c, 1, 3);
    struct raft *raft = cluster_at(c, 3)->raft;
    cr_assert_eq(raft_snapshot_install(raft, 1, &snapshot.base, &snapshot.conf), TL_OK);
    struct raft_message heartbeat = {
        .type = RAFT_HEARTBEAT, .group = CLUSTER_GROUP, .from = 1, .to = 3, .term = 1, .commit = 2};
    raft_message(raft, &heartbeat);
    struct raft_message vote = {.type = RAFT_VOTE,
                                .from = 2,
                                .to = 3,
                                .term = 2,
                                .index = 2,
                                .log_term = 1,
                                .is_forced = true};
    cluster_inject(c, &vote);
    cr_assert_eq(cluster_status(c, 3).commit, 2);
    cr_assert_eq(cluster_at(c, 3)->ops_count, 2);
    cr_assert_eq(cluster_at(c, 3)->ops[0].hard_state.term, 2);
    cr_assert_eq(cluster_at(c, 3)->ops[0].hard_state.commit, 1);
    cr_assert(cluster_at(c, 3)->ops[1].is_install);
    cluster_write(c, 3, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 3).applied, 2);
    cr_assert_eq(cluster_status(c, 3).installs_count, 1);
}

Test(raft_membership, term_heard_during_the_switch_is_durable_before_it_is_acknowledged_in)
{
    leave_entry_2_uncommitted_at_3();
    cr_assert_eq(cluster_install(c, 1, 3), TL_OK);
    struct raft_message heartbeat = {.type = RAFT_HEARTBEAT, .from = 2, .to = 3, .term = 2};
    cluster_inject(c, &heartbeat);
    cr_assert_eq(cluster_status(c, 3).term, 2);
    cr_assert_eq(cluster_status(c, 3).leader, 2);
    cluster_write(c, 3, 1);
    cr_assert_eq(cluster_status(c, 3).applied, 2, "the switch is done");
    struct raft_message probe = {
        .type = RAFT_APPEND, .from = 2, .to = 3, .term = 2, .index = 2, .log_term = 1};
    cluster_inject(c, &probe);
    cr_assert_null(cluster_find(c, RAFT_APPEND_REPLY, 3, 2), "its disk knows nothing of term 2");
    cluster_write(c, 3, UINT32_MAX);
    cr_assert_eq(cluster_at(c, 3)->hard_state.term, 2);
    const struct raft_message *reply = cluster_find(c, RAFT_APPEND_REPLY, 3, 2);
    cr_assert_not_null(reply);
    cr_assert_eq(reply->term, 2);
    cr_assert_eq(reply->index, 2);
}

/* The snapshot's last entry may have been committed in a term after this leader's, of which neither
 * it nor the receiver has heard, and be another one in its log. */
Test(raft_membership, leader_of_a_later_term_than_the_snapshots_last_entry_has_to_ask_for_it)
{
    leave_entry_2_uncommitted_at_3();
    struct raft_message heartbeat = {.type = RAFT_HEARTBEAT, .from = 2, .to = 3, .term = 2};
    cluster_inject(c, &heartbeat);
    cluster_write(c, 3, UINT32_MAX);
    cr_assert_eq(cluster_install(c, 1, 3), TL_OK);
    cluster_write(c, 3, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 3).applied, 2);
    cr_assert_null(cluster_find(c, RAFT_APPEND_REPLY, 3, 2));
}

Test(raft_membership, leader_that_wrote_the_snapshots_last_entry_need_not_ask_for_it)
{
    leave_entry_2_uncommitted_at_3();
    cr_assert_eq(cluster_install(c, 1, 3), TL_OK);
    cluster_write(c, 3, UINT32_MAX);
    const struct raft_message *reply = cluster_find(c, RAFT_APPEND_REPLY, 3, 1);
    cr_assert_not_null(reply);
    cr_assert_eq(reply->index, 2);
}

Test(raft_membership, crash_before_the_switch_leaves_the_old_log)
{
    leave_entry_2_uncommitted_at_3();
    cr_assert_eq(cluster_install(c, 1, 3), TL_OK);
    cluster_crash(c, 3);
    cluster_start(c, 3);
    cr_assert_eq(cluster_status(c, 3).first, 1);
    cr_assert_eq(cluster_status(c, 3).last, 2);
    cluster_run(c, 100 * MS);
    cr_assert_eq(cluster_status(c, 3).applied, 2);
}

/* A snapshot of a later term than this node has heard of: the term is durable before the switch. */
Test(raft_membership, term_of_a_snapshot_is_adopted_first)
{
    c = cluster_create(2, 0);
    cluster_start(c, 2);
    struct cluster_snapshot snapshot = {.base = {.index = 7, .term = 5}};
    snapshot.conf = cluster_conf(2, 0);
    struct raft *raft = cluster_at(c, 2)->raft;
    cr_assert_eq(raft_snapshot_install(raft, 1, &snapshot.base, &snapshot.conf), TL_OK);
    cluster_turn(c, 2);
    cr_assert_eq(cluster_at(c, 2)->ops_count, 2);
    cr_assert(cluster_at(c, 2)->ops[0].has_hard_state);
    cr_assert_eq(cluster_at(c, 2)->ops[0].hard_state.term, 5);
    cr_assert(cluster_at(c, 2)->ops[1].is_install);
    cluster_write(c, 2, UINT32_MAX);
    cluster_crash(c, 2);
    cluster_start(c, 2);
    cr_assert_eq(cluster_status(c, 2).applied, 7);
    cr_assert_eq(cluster_status(c, 2).last, 7);
}

/* ---- planted bugs ---- */

/* A leader that nobody answers must not believe in itself. */
static bool leads_alone_for_a_second(uint32_t mutation)
{
    c = cluster_create(3, 0);
    for (raft_id id = 1; id <= 3; id++) cluster_at(c, id)->mutation = mutation;
    cluster_start_all(c);
    cluster_elect(c, 1);
    cluster_isolate(c, 1, true);
    cluster_run(c, 1000 * MS);
    return cluster_status(c, 1).role == RAFT_LEADER;
}

Test(raft_membership, no_check_quorum_is_found)
{
    cr_assert_not(leads_alone_for_a_second(RAFT_MUTATION_NONE));
    cluster_destroy(c);
    cr_assert(leads_alone_for_a_second(RAFT_MUTATION_NO_CHECK_QUORUM));
}

/* A leader whose disk hangs, while the others' are well, moves on. */
static bool leads_on_with_a_hung_disk(uint32_t mutation)
{
    c = cluster_create(3, 0);
    for (raft_id id = 1; id <= 3; id++) cluster_at(c, id)->mutation = mutation;
    cluster_start_all(c);
    cluster_elect(c, 1);
    struct cluster_node *node = cluster_at(c, 1);
    raft_set_disk_began(node->raft, node->now_ns);
    for (uint32_t i = 0; i < 40 && cluster_leader(c) == 1; i++) {
        for (raft_id id = 2; id <= 3; id++) raft_set_peer_disk_age(node->raft, id, 0);
        cluster_run(c, 50 * MS);
    }
    return cluster_leader(c) == 1;
}

Test(raft_membership, ignore_disk_is_found)
{
    cr_assert_not(leads_on_with_a_hung_disk(RAFT_MUTATION_NONE));
    cluster_destroy(c);
    cr_assert(leads_on_with_a_hung_disk(RAFT_MUTATION_IGNORE_DISK));
}

/* One that was cut off comes back, and nobody has to notice. */
static bool disturbs_when_it_is_back(uint32_t mutation)
{
    c = cluster_create(3, 0);
    for (raft_id id = 1; id <= 3; id++) cluster_at(c, id)->mutation = mutation;
    cluster_start_all(c);
    cluster_elect(c, 1);
    raft_term term = cluster_status(c, 1).term;
    cluster_isolate(c, 3, true);
    cluster_run(c, 3000 * MS);
    cluster_isolate(c, 3, false);
    cluster_run(c, 2000 * MS);
    return cluster_status(c, 1).term != term;
}

Test(raft_membership, no_prevote_is_found)
{
    cr_assert_not(disturbs_when_it_is_back(RAFT_MUTATION_NONE));
    cluster_destroy(c);
    cr_assert(disturbs_when_it_is_back(RAFT_MUTATION_NO_PREVOTE));
}
