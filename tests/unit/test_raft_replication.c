/* raft: replication and the log, one test per promise. */

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

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

TestSuite(raft_replication, .init = setup, .fini = teardown, .timeout = 30);

static void make_leader(void)
{
    cluster_start_all(c);
    cluster_elect(c, 1);
    cluster_run(c, 3 * MS);
}

/* An append of node 2 to node 1 with entries of these terms behind entry `index`, chained to it. */
static struct raft_message append_of(raft_term term, raft_index index, const raft_term *terms,
                                     uint32_t count)
{
    struct cluster_node *node = cluster_at(c, 1);
    struct raft_message append = {
        .type = RAFT_APPEND, .from = 2, .to = 1, .term = term, .index = index};
    struct hash128 hash = {0};
    if (index > 0 && index <= node->entries_count) {
        append.log_term = entry_term(node->entries[index - 1]);
        hash = entry_hash(node->entries[index - 1]);
    }
    append.entries = count > 0 ? calloc(count, sizeof *append.entries) : NULL;
    append.entries_count = count;
    for (uint32_t i = 0; i < count; i++) {
        append.entries[i] = entry_create(ENTRY_NOOP, 0);
        struct entry_header header = {.group = CLUSTER_GROUP,
                                      .index = index + 1 + i,
                                      .term = terms[i],
                                      .time_us = index + 1 + i};
        entry_seal(append.entries[i], hash, &header);
        hash = entry_hash(append.entries[i]);
    }
    return append;
}

static const raft_term ones[] = {1, 1, 1, 1, 1, 1};

/* [SkipExistingEntries: only a conflict truncates] */
Test(raft_replication, late_and_repeated_appends_change_nothing)
{
    cluster_fill(c, 1, ones, 5, 1);
    cluster_start_all(c);
    for (raft_index index = 0; index < 5; index++) {
        struct raft_message append = append_of(1, index, ones, 1);
        cluster_inject(c, &append);
        cr_assert_eq(cluster_status(c, 1).last, 5);
    }
    cr_assert_eq(cluster_at(c, 1)->ops_count, 0, "nothing to write");
}

/* [cowsql LastStoredAheadOfPrevLogIndex: what lies behind is not verified] */
Test(raft_replication, follower_commits_no_more_than_the_append_verifies)
{
    cluster_fill(c, 1, ones, 5, 1);
    cluster_start_all(c);
    struct raft_message append = append_of(2, 2, NULL, 0);
    append.commit = 5;
    cluster_inject(c, &append);
    cr_assert_eq(cluster_status(c, 1).commit, 2);
    cr_assert_eq(cluster_status(c, 1).leader_commit, 5);
}

/* ["tocommit is out of range"] */
Test(raft_replication, commit_index_beyond_the_log_is_capped)
{
    cluster_fill(c, 1, ones, 2, 1);
    cluster_start_all(c);
    struct raft_message beat = {
        .type = RAFT_HEARTBEAT, .from = 2, .to = 1, .term = 1, .commit = 1000};
    cluster_inject(c, &beat);
    cr_assert_eq(cluster_status(c, 1).commit, 2);
}

Test(raft_replication, hint_is_never_below_the_commit_index)
{
    static const raft_term terms[] = {1, 1, 4, 4, 4};
    cluster_fill(c, 1, terms, 5, 4);
    cluster_at(c, 1)->hard_state.commit = 3;
    cluster_start_all(c);
    struct raft_message append = append_of(5, 9, NULL, 0);
    append.log_term = 2;
    cluster_inject(c, &append);
    cluster_write(c, 1, UINT32_MAX);
    cr_assert_eq(cluster_find(c, RAFT_APPEND_REPLY, 1, 2)->hint_index, 3);
}

Test(raft_replication, acknowledgement_waits_for_the_write_of_what_it_vouches_for)
{
    cluster_start_all(c);
    struct raft_message append = append_of(1, 0, ones, 3);
    cluster_inject(c, &append);
    struct raft_message again = append_of(1, 0, ones, 3);
    cluster_inject(c, &again);
    cr_assert_eq(cluster_count(c, RAFT_APPEND_REPLY, 1, 2), 0);
    cluster_write(c, 1, UINT32_MAX);
    cr_assert_eq(cluster_find(c, RAFT_APPEND_REPLY, 1, 2)->index, 3);
}

/* More decided than one op may hold: the acknowledgement waits for the last of the ops. */
Test(raft_replication, large_log_goes_out_in_several_ops)
{
    make_leader();
    struct cluster_node *leader = cluster_at(c, 1);
    for (uint32_t i = 0; i < RAFT_OP_ENTRIES_MAX + 10; i++) {
        raft_index index;
        raft_term term;
        cr_assert_eq(raft_propose(leader->raft, entry_create(ENTRY_NOOP, 0), 0, &index, &term),
                     TL_OK);
    }
    cluster_turn(c, 1);
    cr_assert_eq(leader->ops_count, 2);
    cr_assert_eq(leader->ops[0].entries_count, RAFT_OP_ENTRIES_MAX);
    cluster_settle(c);
    cr_assert_eq(cluster_status(c, 1).commit, RAFT_OP_ENTRIES_MAX + 11);
}

Test(raft_replication, ops_in_flight_are_bounded_and_nothing_is_lost)
{
    make_leader();
    for (uint32_t i = 0; i < 2 * RAFT_OPS_IN_FLIGHT_MAX; i++) {
        cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
        cluster_deliver(c, 1, 2, UINT32_MAX);
    }
    cr_assert_eq(cluster_at(c, 1)->ops_count, RAFT_OPS_IN_FLIGHT_MAX);
    cr_assert_eq(cluster_at(c, 2)->ops_count, RAFT_OPS_IN_FLIGHT_MAX);
    cluster_settle(c);
    cr_assert_eq(cluster_status(c, 1).commit, 1 + 2 * RAFT_OPS_IN_FLIGHT_MAX);
    cr_assert_eq(cluster_peer(c, 1, 2).match, 1 + 2 * RAFT_OPS_IN_FLIGHT_MAX);
}

Test(raft_replication, proposal_is_refused_where_nobody_leads_and_stays_the_callers)
{
    cluster_start_all(c);
    struct buf *entry = entry_create(ENTRY_NOOP, 0);
    raft_index index = 77;
    raft_term term = 77;
    cr_assert_eq(raft_propose(cluster_at(c, 1)->raft, entry, 0, &index, &term), TL_ERR_NOT_LEADER);
    cr_assert_eq(entry->refs_count, 1);
    cr_assert_eq(index, 77);
    buf_release(entry);
}

Test(raft_replication, entry_times_rise_strictly_whatever_is_wished)
{
    make_leader();
    static const uint64_t wishes[] = {1000, 5, 1000, 2000};
    uint64_t before = 0;
    for (uint32_t i = 0; i < TL_COUNT_OF(wishes); i++) {
        raft_index index;
        raft_term term;
        struct buf *entry = entry_create(ENTRY_NOOP, 0);
        cr_assert_eq(raft_propose(cluster_at(c, 1)->raft, entry, wishes[i], &index, &term), TL_OK);
        uint64_t time_us = entry_time_us(raft_entry(cluster_at(c, 1)->raft, index));
        cr_assert_gt(time_us, before);
        cr_assert_geq(time_us, wishes[i]);
        before = time_us;
    }
    cr_assert_eq(before, 2000);
    cluster_turn(c, 1);
}

/* [TestUncommittedEntryLimit, RawNodeBoundedLogGrowthWithPartition] */
Test(raft_replication, uncommitted_tail_is_bounded_by_bytes_and_free_again_after_commit)
{
    make_leader();
    enum tl_err err = TL_OK;
    uint32_t count = 0;
    while (err == TL_OK && count < 100) {
        err = cluster_propose_bytes(c, 1, 1024 * 1024);
        count += err == TL_OK;
    }
    cr_assert_eq(err, TL_ERR_FULL);
    cr_assert_eq(count, RAFT_UNCOMMITTED_BYTES_MAX / (1024 * 1024 + ENTRY_HEADER_BYTES));
    cluster_run(c, 10 * MS);
    cr_assert_eq(cluster_status(c, 1).uncommitted_bytes, 0);
    cr_assert_eq(cluster_propose_bytes(c, 1, 1024 * 1024), TL_OK);
}

Test(raft_replication, uncommitted_tail_is_bounded_by_entries)
{
    make_leader();
    raft_index index = 0;
    raft_term term;
    struct buf *entry = entry_create(ENTRY_NOOP, 0);
    while (raft_propose(cluster_at(c, 1)->raft, entry, 0, &index, &term) == TL_OK) {
        entry = entry_create(ENTRY_NOOP, 0);
    }
    buf_release(entry);
    cr_assert_eq(index, 1 + RAFT_UNCOMMITTED_ENTRIES_MAX);
    cluster_turn(c, 1);
    cluster_run(c, 5 * MS);
    cr_assert_eq(cluster_status(c, 3).applied, index);
}

/* [TestMsgAppFlowControlFull] */
Test(raft_replication, window_of_a_silent_peer_closes_by_messages_and_by_bytes)
{
    make_leader();
    for (uint32_t i = 0; i < RAFT_INFLIGHT_MESSAGES_MAX + 50; i++) {
        cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
        cluster_write(c, 1, UINT32_MAX);
    }
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), RAFT_INFLIGHT_MESSAGES_MAX);
    cluster_settle(c);
    cr_assert_eq(cluster_peer(c, 1, 2).match, RAFT_INFLIGHT_MESSAGES_MAX + 51);

    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(cluster_propose_bytes(c, 1, 1000 * 1000), TL_OK);
    }
    uint32_t open_count = RAFT_INFLIGHT_BYTES_MAX / (1000 * 1000 + ENTRY_HEADER_BYTES) + 1;
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), open_count);
}

Test(raft_replication, append_is_bounded_by_entries_and_bytes_but_carries_one_at_least)
{
    make_leader();
    for (uint32_t i = 0; i < RAFT_MESSAGE_ENTRIES_MAX + 1; i++) {
        raft_index index;
        raft_term term;
        cr_assert_eq(
            raft_propose(cluster_at(c, 1)->raft, entry_create(ENTRY_NOOP, 0), 0, &index, &term),
            TL_OK);
    }
    cluster_turn(c, 1);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 2);
    cr_assert_eq(cluster_find(c, RAFT_APPEND, 1, 2)->entries_count, 1);
    cluster_settle(c);
    cr_assert_eq(cluster_propose_bytes(c, 1, 2 * RAFT_MESSAGE_BYTES_MAX), TL_OK);
    cr_assert_eq(cluster_find(c, RAFT_APPEND, 1, 2)->entries_count, 1);
}

Test(raft_replication, commit_index_is_written_now_and_then_and_never_alone)
{
    make_leader();
    uint64_t ops_count = 0;
    for (uint32_t i = 0; i < 5000; i++) {
        cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
        ops_count += cluster_at(c, 1)->ops[0].has_hard_state;
        cluster_settle(c);
    }
    cr_assert_eq(ops_count, 1);
    cr_assert_gt(cluster_at(c, 1)->hard_state.commit, 4000);
    cr_assert_eq(cluster_at(c, 1)->ops_count, 0);
}

/* Entries that have left memory are read from the log, one read at a time. */
Test(raft_replication, lagging_peer_is_fed_from_the_log)
{
    make_leader();
    cluster_isolate(c, 3, true);
    for (uint32_t i = 0; i < 40; i++) {
        cr_assert_eq(cluster_propose_bytes(c, 1, 1000 * 1000), TL_OK);
        cluster_settle(c);
    }
    struct raft *raft = cluster_at(c, 1)->raft;
    cr_assert_null(raft_entry(raft, 5), "evicted");
    cr_assert_not_null(raft_entry(raft, cluster_status(c, 1).last));
    cluster_isolate(c, 3, false);
    cluster_at(c, 1)->holds_log_reads = true;
    for (uint32_t i = 0; i < 10 && !cluster_at(c, 1)->has_log_read; i++) {
        cluster_run(c, CLUSTER_BEAT_NS);
    }
    cr_assert(cluster_at(c, 1)->has_log_read);
    cr_assert_eq(cluster_at(c, 1)->log_read.peer, 3);
    cr_assert_leq(cluster_at(c, 1)->log_read.first, cluster_at(c, 1)->log_read.last_max);
    cluster_run(c, 2 * CLUSTER_BEAT_NS);
    cr_assert_eq(cluster_at(c, 1)->output.log_reads_count, 0, "one at a time");
    cluster_at(c, 1)->holds_log_reads = false;
    cluster_answer_log_read(c, 1);
    cluster_turn(c, 1);
    cluster_run(c, 4 * CLUSTER_BEAT_NS);
    cr_assert_eq(cluster_at(c, 3)->applied, 41);
}

Test(raft_replication, peer_behind_the_base_needs_a_snapshot)
{
    make_leader();
    cluster_isolate(c, 3, true);
    for (uint32_t i = 0; i < 40; i++) {
        cr_assert_eq(cluster_propose_bytes(c, 1, 1000 * 1000), TL_OK);
        cluster_settle(c);
    }
    cluster_compact(c, 1, 20);
    cluster_isolate(c, 3, false);
    cluster_run(c, 5 * CLUSTER_BEAT_NS);
    cr_assert_eq(cluster_peer(c, 1, 3).state, RAFT_NEEDS_SNAPSHOT);
    cr_assert_eq(cluster_status(c, 1).first, 21);
    cr_assert(cluster_peer(c, 1, 3).is_recently_active, "heartbeats go on");
}

Test(raft_replication, newest_committed_and_durable_entry_stays_in_memory)
{
    make_leader();
    for (uint32_t i = 0; i < 40; i++) {
        cr_assert_eq(cluster_propose_bytes(c, 1, 2 * 1000 * 1000), TL_OK);
        cluster_run(c, 3 * MS);
        for (raft_id id = 1; id <= 3; id++) {
            struct raft_status status = cluster_status(c, id);
            raft_index stable = TL_MIN(status.commit, status.durable);
            for (raft_index index = stable; index <= status.last; index++) {
                cr_assert_not_null(raft_entry(cluster_at(c, id)->raft, index));
            }
        }
    }
}

/* A follower whose apply stands still takes what fits, says so, and is not sent windows in vain. */
Test(raft_replication, follower_without_room_takes_a_part_and_goes_on_later)
{
    cluster_start_all(c);
    struct cluster_node *node = cluster_at(c, 1);
    raft_term terms[1000];
    for (uint32_t i = 0; i < TL_COUNT_OF(terms); i++) terms[i] = 1;
    raft_index limit = RAFT_LOG_RING_ENTRIES - 8192;
    while (cluster_status(c, 1).last < limit) {
        struct raft_message append =
            append_of(1, cluster_status(c, 1).last, terms, TL_COUNT_OF(terms));
        cluster_inject(c, &append);
        cluster_write(c, 1, UINT32_MAX);
        (void)cluster_drop(c, 0, 0);
    }
    cr_assert_eq(cluster_status(c, 1).last, limit, "and not one more");
    struct raft_message append = append_of(1, limit, terms, 10);
    cluster_inject(c, &append);
    cr_assert_eq(cluster_find(c, RAFT_APPEND_REPLY, 1, 2)->index, limit);
    cr_assert_eq(node->entries_count, limit);

    /* What is applied makes room. */
    struct raft_message beat = {
        .type = RAFT_HEARTBEAT, .from = 2, .to = 1, .term = 1, .commit = 1000};
    cluster_inject(c, &beat);
    append = append_of(1, limit, terms, 10);
    cluster_inject(c, &append);
    cr_assert_eq(cluster_status(c, 1).last, limit + 10);
}

Test(raft_replication, leader_waits_for_a_heartbeat_when_a_probe_was_not_taken)
{
    make_leader();
    raft_peer_lost(cluster_at(c, 1)->raft, 2);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    (void)cluster_drop(c, 1, 2);
    struct raft_message none = {
        .type = RAFT_APPEND_REPLY, .from = 2, .to = 1, .term = 1, .index = 1};
    cluster_inject(c, &none);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 0);
    cr_assert_eq(cluster_peer(c, 1, 2).state, RAFT_PROBE);
    cluster_run(c, 2 * CLUSTER_BEAT_NS);
    cr_assert_eq(cluster_peer(c, 1, 2).match, 2);
}

/* [TestRecvMsgUnreachable] */
Test(raft_replication, lost_peer_is_probed_from_its_match)
{
    make_leader();
    for (uint32_t i = 0; i < 5; i++) cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    (void)cluster_drop(c, 1, 2);
    cr_assert_eq(cluster_peer(c, 1, 2).next, 7);
    raft_peer_lost(cluster_at(c, 1)->raft, 2);
    cluster_turn(c, 1);
    cr_assert_eq(cluster_peer(c, 1, 2).state, RAFT_PROBE);
    cr_assert_eq(cluster_peer(c, 1, 2).next, 2);
    cluster_settle(c);
    cr_assert_eq(cluster_peer(c, 1, 2).match, 6);
}

/* [PipelineStaleRejectedIndex] */
Test(raft_replication, late_rejects_and_impossible_acknowledgements_change_nothing)
{
    make_leader();
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cluster_settle(c);
    struct raft_message late = {.type = RAFT_APPEND_REPLY,
                                .from = 2,
                                .to = 1,
                                .term = 1,
                                .index = 1,
                                .reject = RAFT_REJECT_MISMATCH};
    cluster_inject(c, &late);
    cr_assert_eq(cluster_peer(c, 1, 2).state, RAFT_REPLICATE);
    cr_assert_eq(cluster_peer(c, 1, 2).match, 2);
    struct raft_message impossible = {
        .type = RAFT_APPEND_REPLY, .from = 2, .to = 1, .term = 1, .index = 1000};
    cluster_inject(c, &impossible);
    cr_assert_eq(cluster_peer(c, 1, 2).match, 2);
}

/* ---- the hash chain ---- */

/* An append whose first entry is sealed on another predecessor than the one held here. */
static struct raft_message foreign_append(raft_term term, raft_index index)
{
    struct raft_message append = append_of(term, index, ones, 1);
    struct entry_header header = {
        .group = CLUSTER_GROUP, .index = index + 1, .term = term, .time_us = 9};
    struct hash128 other = {.low = 1};
    entry_seal(append.entries[0], other, &header);
    return append;
}

Test(raft_replication, entry_on_another_chain_is_not_taken_and_the_own_record_checked_first)
{
    cluster_fill(c, 1, ones, 2, 1);
    cluster_start_all(c);
    struct raft_message append = foreign_append(1, 2);
    cluster_inject(c, &append);
    struct cluster_node *node = cluster_at(c, 1);
    cr_assert_eq(node->output.verify_index, 2);
    cr_assert_eq(cluster_status(c, 1).last, 2);
    cr_assert_eq(cluster_count(c, RAFT_APPEND_REPLY, 1, 2), 0);
    append = foreign_append(1, 2);
    cluster_inject(c, &append);
    cr_assert_eq(node->output.verify_index, 0, "given out once");
    raft_verified(node->raft);
    cluster_turn(c, 1);
    const struct raft_message *reply = cluster_find(c, RAFT_APPEND_REPLY, 1, 2);
    cr_assert_eq(reply->reject, RAFT_REJECT_CHAIN_MISMATCH);
    cr_assert_eq(cluster_status(c, 1).chain_mismatches_count, 2);
}

Test(raft_replication, same_index_and_term_with_other_bytes_is_a_chain_mismatch)
{
    cluster_fill(c, 1, ones, 2, 1);
    cluster_start_all(c);
    struct raft_message append = foreign_append(1, 1);
    cluster_inject(c, &append);
    cr_assert_eq(cluster_at(c, 1)->output.verify_index, 1);
    cr_assert_eq(cluster_status(c, 1).last, 2, "and no reason to truncate");
}

/* Nothing will ever be appended to such a log, and what is applied may be wrong. */
Test(raft_replication, log_that_does_not_go_on_as_a_leader_has_committed_ends_the_process)
{
    cluster_fill(c, 1, ones, 2, 1);
    cluster_start_all(c);
    for (uint32_t i = 0; i < 2; i++) {
        struct raft_message append = foreign_append(1, 2);
        append.commit = 3;
        cluster_inject(c, &append);
        if (i == 0) raft_verified(cluster_at(c, 1)->raft);
        cr_assert_not(cluster_at(c, 1)->output.is_chain_broken, "the leader has time to look");
    }
    cluster_advance(c, 1, 310 * MS);
    struct raft_message append = foreign_append(1, 2);
    append.commit = 3;
    cluster_inject(c, &append);
    cr_assert(cluster_at(c, 1)->output.is_chain_broken);
}

Test(raft_replication, log_stays_that_does_not_go_on_as_a_leader_has_not_committed)
{
    cluster_fill(c, 1, ones, 2, 1);
    cluster_start_all(c);
    for (uint32_t i = 0; i < 3; i++) {
        struct raft_message append = foreign_append(1, 2);
        append.commit = 2;
        cluster_inject(c, &append);
        cluster_advance(c, 1, 290 * MS);
        cr_assert_not(cluster_at(c, 1)->output.is_chain_broken);
    }
}

/* A leader caps what it calls committed at what it knows this store to have: that may have been an
 * earlier process, before the disk went back to an old copy. */
Test(raft_replication, leaders_word_commits_nothing_that_is_not_seen_to_be_its_log)
{
    const struct raft_message word = {.from = 2, .to = 1, .term = 2, .commit = 3};
    struct raft_message message = word;
    cluster_fill(c, 1, ones, 3, 2);
    cluster_start(c, 1);
    message.type = RAFT_HEARTBEAT;
    cluster_inject(c, &message);
    message = word;
    message.type = RAFT_READ_REPLY;
    cluster_inject(c, &message);
    cr_assert_eq(cluster_status(c, 1).commit, 0, "of an older term, and not shown");
    message = append_of(2, 2, NULL, 0);
    cluster_inject(c, &message);
    message = word;
    message.type = RAFT_HEARTBEAT;
    cluster_inject(c, &message);
    cr_assert_eq(cluster_status(c, 1).commit, 2, "as far as it was shown");
}

Test(raft_replication, leaders_word_commits_what_ends_with_an_entry_of_its_term)
{
    cluster_fill(c, 1, ones, 3, 1);
    cluster_start(c, 1);
    struct raft_message heartbeat = {
        .type = RAFT_HEARTBEAT, .from = 2, .to = 1, .term = 1, .commit = 3};
    cluster_inject(c, &heartbeat);
    cr_assert_eq(cluster_status(c, 1).commit, 3);
}

static void accuse(raft_id id)
{
    struct raft_message reply = {.type = RAFT_APPEND_REPLY,
                                 .from = id,
                                 .to = 1,
                                 .term = 1,
                                 .index = 1,
                                 .reject = RAFT_REJECT_CHAIN_MISMATCH,
                                 .hint_index = 1};
    cluster_inject(c, &reply);
}

Test(raft_replication, leader_checks_itself_when_accused_and_stops_when_a_majority_says_so)
{
    make_leader();
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cluster_settle(c);
    accuse(2);
    cr_assert_eq(cluster_at(c, 1)->output.verify_index, 2);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_LEADER);
    cr_assert_not(cluster_at(c, 1)->output.is_chain_broken);
    accuse(3);
    cr_assert(cluster_at(c, 1)->output.is_chain_broken);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_FOLLOWER);
    cluster_advance(c, 1, 5000 * MS);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_FOLLOWER, "and never leads again");
}

/* ---- the contract with the host ---- */

Test(raft_replication, nothing_is_applicable_that_is_not_durable_here)
{
    make_leader();
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cluster_deliver(c, 1, 0, UINT32_MAX);
    cluster_write(c, 2, 1);
    cluster_write(c, 3, 1);
    cluster_deliver(c, 0, 1, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 1).commit, 2);
    cr_assert_eq(cluster_at(c, 1)->output.applicable, 1);
    cluster_write(c, 1, 1);
    cr_assert_eq(cluster_at(c, 1)->output.applicable, 2);
}

Test(raft_replication, idle_leader_and_follower_have_one_deadline_ahead)
{
    make_leader();
    cluster_settle(c);
    for (raft_id id = 1; id <= 3; id++) {
        struct cluster_node *node = cluster_at(c, id);
        cluster_turn(c, id);
        cr_assert_gt(node->output.deadline_ns, node->now_ns);
        cr_assert_null(node->output.op);
        cr_assert_eq(node->output.messages_count, 0);
    }
    cr_assert_leq(cluster_at(c, 1)->output.deadline_ns, cluster_at(c, 1)->now_ns + CLUSTER_BEAT_NS);
}

Test(raft_replication, op_done_out_of_order_stops_the_process, .signal = SIGABRT)
{
    make_leader();
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cr_assert_eq(cluster_propose(c, 1, "y"), TL_OK);
    raft_append_done(cluster_at(c, 1)->raft, cluster_at(c, 1)->ops[1].sequence);
}

/* A table whose flush is slow holds apply up; what is committed meanwhile is on the disk. */
static uint64_t memory_bytes_of_what_is_not_applied(uint32_t mutation)
{
    c->cache_bytes_max = 1000;
    cluster_at(c, 2)->mutation = mutation;
    make_leader();
    cluster_at(c, 2)->holds_apply = true;
    for (uint32_t i = 0; i < 50; i++) {
        cr_assert_eq(cluster_propose_bytes(c, 1, 400), TL_OK);
        cluster_settle(c);
    }
    cluster_run(c, CLUSTER_BEAT_NS);
    struct raft_status status = cluster_status(c, 2);
    cr_assert_eq(status.commit, status.last);
    cr_assert_geq(status.commit, status.applied + 50);
    uint64_t bytes = status.memory_bytes;
    cluster_at(c, 2)->holds_apply = false;
    cluster_turn(c, 2);
    cr_assert_eq(cluster_status(c, 2).applied, status.commit);
    return bytes;
}

Test(raft_replication, entries_that_are_not_applied_leave_memory)
{
    cr_assert_leq(memory_bytes_of_what_is_not_applied(RAFT_MUTATION_NONE), 2000);
}

Test(raft_replication, entries_that_are_kept_until_applied_would_fill_memory)
{
    cr_assert_geq(memory_bytes_of_what_is_not_applied(RAFT_MUTATION_KEEP_UNAPPLIED), 20000);
}

Test(raft_replication, applying_what_is_not_applicable_stops_the_process, .signal = SIGABRT)
{
    make_leader();
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    raft_applied(cluster_at(c, 1)->raft, 2);
}
