/* raft: slow links. What is on its way is neither lost nor sent twice, bytes are a sign of life,
 * and what a dead leader has sent is kept. */

#include <criterion/criterion.h>
#include <stdlib.h>

#include "raft_cluster.h"

#define KIB 1024u

static struct cluster *c;

static void setup(void)
{
    c = cluster_create(3, 0);
}

static void teardown(void)
{
    cluster_destroy(c);
}

TestSuite(raft_links, .init = setup, .fini = teardown, .timeout = 30);

static struct raft *core(raft_id id)
{
    return cluster_at(c, id)->raft;
}

static void make_leader(void)
{
    cluster_start_all(c);
    cluster_elect(c, 1);
    cluster_run(c, 3 * MS);
}

/* ---- backlogs ---- */

Test(raft_links, peer_with_a_backlog_is_sent_no_entries_but_heartbeats)
{
    make_leader();
    raft_set_peer_backlog(core(1), 2, RAFT_BACKLOG_BYTES_MAX);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 0);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 3), 1, "the other one is");
    cluster_advance(c, 1, CLUSTER_BEAT_NS);
    cr_assert_eq(cluster_count(c, RAFT_HEARTBEAT, 1, 2), 1);
    cr_assert_gt(cluster_at(c, 1)->output.deadline_ns, cluster_at(c, 1)->now_ns,
                 "the host calls when the backlog is gone");
    raft_set_peer_backlog(core(1), 2, RAFT_BACKLOG_BYTES_MAX - 1);
    cluster_turn(c, 1);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 1);
}

/* Appends to node 2 in the next output, which goes nowhere. */
static uint32_t appends_in_output(uint64_t *out_deadline_ns)
{
    const struct raft_output *output = raft_output(core(1));
    uint32_t count = 0;
    for (uint32_t i = 0; i < output->messages_count; i++) {
        count += output->messages[i].type == RAFT_APPEND && output->messages[i].to == 2;
        raft_message_clear(&output->messages[i]);
    }
    *out_deadline_ns = output->deadline_ns;
    return count;
}

/* Without a word of the host in between: it has not even seen what there is. */
Test(raft_links, one_output_holds_little_more_than_a_backlog_for_each_peer)
{
    make_leader();
    for (uint32_t i = 0; i < 3; i++) {
        raft_index index;
        raft_term term;
        struct buf *entry = entry_create(ENTRY_NOOP, 1000 * KIB);
        cr_assert_eq(raft_propose(core(1), entry, 0, &index, &term), TL_OK);
    }
    uint64_t deadline_ns;
    cr_assert_eq(appends_in_output(&deadline_ns), 1);
    cr_assert_eq(deadline_ns, cluster_at(c, 1)->now_ns, "there is more");
    raft_set_peer_backlog(core(1), 2, 1000 * KIB);
    raft_set_peer_backlog(core(1), 3, 1000 * KIB);
    cr_assert_eq(appends_in_output(&deadline_ns), 0);
    cr_assert_gt(deadline_ns, cluster_at(c, 1)->now_ns, "when the host says so");
    raft_set_peer_backlog(core(1), 2, 0);
    cr_assert_eq(appends_in_output(&deadline_ns), 1);
}

/* ---- probes that heartbeats overtake ---- */

/* The leader has just sent a probe of so many bytes to node 2, which gets none of it for now. */
static void send_probe(size_t bytes)
{
    make_leader();
    raft_peer_lost(core(1), 2);
    (void)cluster_drop(c, 1, 2);
    cr_assert_eq(cluster_propose_bytes(c, 1, bytes), TL_OK);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 1);
    cr_assert_eq(cluster_peer(c, 1, 2).state, RAFT_PROBE);
}

static void answer_heartbeat(uint64_t by_ns)
{
    cluster_advance(c, 1, by_ns);
    struct raft_message reply = {.type = RAFT_HEARTBEAT_REPLY, .from = 2, .to = 1, .term = 1};
    cluster_inject(c, &reply);
    struct raft_message other = {.type = RAFT_HEARTBEAT_REPLY, .from = 3, .to = 1, .term = 1};
    cluster_inject(c, &other);
}

Test(raft_links, small_probe_is_sent_again_after_a_heartbeat)
{
    send_probe(1000);
    answer_heartbeat(CLUSTER_BEAT_NS);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 2);
}

Test(raft_links, large_probe_is_not_sent_again_while_it_may_be_on_its_way)
{
    send_probe(500 * KIB);
    for (uint32_t i = 0; i < CLUSTER_T_NS / CLUSTER_BEAT_NS - 1; i++) {
        answer_heartbeat(CLUSTER_BEAT_NS);
        cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 1);
    }
    answer_heartbeat(CLUSTER_BEAT_NS);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 2, "it is lost");
}

Test(raft_links, probe_is_not_lost_while_it_waits_to_be_sent)
{
    send_probe(500 * KIB);
    for (uint32_t i = 0; i < 4 * CLUSTER_T_NS / CLUSTER_BEAT_NS; i++) {
        raft_set_peer_backlog(core(1), 2, 1);
        answer_heartbeat(CLUSTER_BEAT_NS);
        cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 1);
        cr_assert_eq(cluster_status(c, 1).role, RAFT_LEADER);
    }
    raft_set_peer_backlog(core(1), 2, 0);
    answer_heartbeat(CLUSTER_T_NS / 2);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 1, "its last byte has just left");
    answer_heartbeat(CLUSTER_T_NS / 2);
    cr_assert_eq(cluster_count(c, RAFT_APPEND, 1, 2), 2);
}

/* ---- messages that are arriving ---- */

Test(raft_links, arriving_bytes_of_the_leader_keep_a_follower_from_campaigning)
{
    make_leader();
    cluster_isolate(c, 1, true);
    for (uint32_t i = 0; i < 40; i++) {
        raft_hear_partial(core(2), 1, cluster_at(c, 2)->now_ns + CLUSTER_T_NS / 2);
        cluster_advance(c, 2, CLUSTER_T_NS / 2);
        cr_assert_eq(cluster_status(c, 2).role, RAFT_FOLLOWER);
        cr_assert_eq(cluster_status(c, 2).leader, 1);
        cr_assert(cluster_status(c, 2).has_quorum);
    }
    cluster_timeout(c, 2);
    cr_assert_eq(cluster_status(c, 2).role, RAFT_PRECANDIDATE, "when they end it does");
}

/* The bytes arrived before the deadline was looked at. */
Test(raft_links, arriving_bytes_count_although_the_timeout_has_passed_unnoticed)
{
    make_leader();
    cluster_isolate(c, 1, true);
    uint64_t late_ns = cluster_at(c, 2)->now_ns + 3 * CLUSTER_T_NS;
    raft_hear_partial(core(2), 1, late_ns);
    cluster_advance(c, 2, 3 * CLUSTER_T_NS);
    cr_assert_eq(cluster_status(c, 2).role, RAFT_FOLLOWER);
}

Test(raft_links, arriving_bytes_of_others_mean_nothing)
{
    make_leader();
    cluster_isolate(c, 1, true);
    for (uint32_t i = 0; i < 4; i++) {
        raft_hear_partial(core(2), 3, cluster_at(c, 2)->now_ns);
        raft_hear_partial(core(2), RAFT_ID_NONE, cluster_at(c, 2)->now_ns);
        raft_hear_partial(core(2), 99, cluster_at(c, 2)->now_ns);
        cluster_advance(c, 2, CLUSTER_T_NS / 2);
    }
    cr_assert_neq(cluster_status(c, 2).role, RAFT_FOLLOWER);
    raft_id leader = cluster_status(c, 2).leader;
    raft_hear_partial(core(2), 1, cluster_at(c, 2)->now_ns);
    cr_assert_eq(cluster_status(c, 2).leader, leader, "a candidate does not go back for bytes");
    cr_assert_neq(cluster_status(c, 2).role, RAFT_FOLLOWER);
}

/* A leader is not kept by the bytes of others: CheckQuorum looks at answers. */
Test(raft_links, leader_is_not_kept_by_arriving_bytes)
{
    make_leader();
    cluster_isolate(c, 1, true);
    for (uint32_t i = 0; i < 8; i++) {
        raft_hear_partial(core(1), 2, cluster_at(c, 1)->now_ns);
        cluster_advance(c, 1, CLUSTER_T_NS / 4);
    }
    cr_assert_eq(cluster_status(c, 1).role, RAFT_FOLLOWER);
}

/* ---- what a dead leader has sent ---- */

/* Node 1 leads term 1 and dies. Its entries 2 ... 6 are on node 2, and on their way to node 3. Node
 * 2 leads term 2 with node 3's vote. */
static void make_successor(enum entry_type type)
{
    cluster_add_spares(c, 1);
    make_leader();
    for (uint32_t i = 0; i < 5; i++) {
        raft_index index;
        raft_term term;
        struct buf *entry = entry_create(ENTRY_NOOP, 100);
        if (type == ENTRY_CONF && i == 2) {
            struct raft_conf conf = cluster_conf(3, 0);
            conf.learners[conf.learners_count++] = 4;
            conf.epoch = 1;
            buf_release(entry);
            cr_assert_eq(raft_propose_conf(core(1), &conf, 0, &index, &term), TL_OK);
        } else {
            cr_assert_eq(raft_propose(core(1), entry, 0, &index, &term), TL_OK);
        }
        cluster_turn(c, 1);
        (void)cluster_deliver(c, 1, 2, UINT32_MAX);
        (void)cluster_write(c, 2, UINT32_MAX);
    }
    (void)cluster_drop(c, 2, 1);
    cluster_crash(c, 1);
    cr_assert_eq(cluster_status(c, 2).last, 6);
    cr_assert_eq(cluster_status(c, 3).last, 1);
}

/* What node 1 has sent to node 3 stays under way. */
static void elect_successor(void)
{
    for (uint32_t i = 0; i < 4; i++) cluster_advance(c, 3, CLUSTER_T_NS / 4);
    cluster_timeout(c, 2);
    for (uint32_t i = 0; i < 4 && cluster_status(c, 2).role != RAFT_LEADER; i++) {
        (void)cluster_deliver(c, 2, 3, UINT32_MAX);
        (void)cluster_write(c, 3, UINT32_MAX);
        (void)cluster_deliver(c, 3, 2, UINT32_MAX);
        (void)cluster_write(c, 2, UINT32_MAX);
    }
    cr_assert_eq(cluster_status(c, 2).role, RAFT_LEADER);
    cr_assert_eq(cluster_status(c, 3).term, 2);
    (void)cluster_drop(c, 3, 1);
}

Test(raft_links, entries_of_a_dead_leader_are_kept_and_not_sent_again)
{
    make_successor(ENTRY_NOOP);
    elect_successor();
    (void)cluster_drop(c, 2, 3); /* its first append is lost: it is asked after the others */
    cr_assert_eq(cluster_deliver(c, 1, 3, UINT32_MAX), 5);
    cr_assert_eq(cluster_status(c, 3).last, 6);
    cr_assert_eq(cluster_status(c, 3).commit, 1);
    cluster_write(c, 3, UINT32_MAX);
    cr_assert_eq(cluster_count(c, RAFT_APPEND_REPLY, 3, 1), 0, "the dead leader must not count it");
    cr_assert_eq(cluster_find(c, RAFT_HEARTBEAT_REPLY, 3, 1)->term, 2);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < 20 && cluster_status(c, 2).commit < 7; i++) {
        cluster_advance(c, 2, CLUSTER_BEAT_NS);
        for (uint32_t k = 0; k < 3; k++) {
            const struct raft_message *append = cluster_find(c, RAFT_APPEND, 2, 3);
            if (append != NULL) bytes += append->entries_count;
            (void)cluster_deliver(c, 2, 3, UINT32_MAX);
            (void)cluster_write(c, 3, UINT32_MAX);
            (void)cluster_deliver(c, 3, 2, UINT32_MAX);
            (void)cluster_write(c, 2, UINT32_MAX);
        }
    }
    cr_assert_eq(cluster_status(c, 2).commit, 7);
    cr_assert_leq(bytes, 2, "the new leader's own entry, which the first try had lost");
}

/* The same messages, and the new leader has begun to send before they arrive. */
Test(raft_links, entries_of_a_dead_leader_may_arrive_at_any_time)
{
    make_successor(ENTRY_NOOP);
    elect_successor();
    (void)cluster_deliver(c, 2, 3, UINT32_MAX);
    (void)cluster_deliver(c, 1, 3, 2);
    cluster_write(c, 3, UINT32_MAX);
    (void)cluster_deliver(c, 3, 2, UINT32_MAX);
    (void)cluster_deliver(c, 2, 3, UINT32_MAX);
    (void)cluster_deliver(c, 1, 3, UINT32_MAX);
    (void)cluster_drop(c, 3, 1);
    cluster_settle(c);
    cr_assert_eq(cluster_status(c, 3).last, 7);
    cr_assert_eq(cluster_status(c, 2).commit, 7);
    char text[64];
    cluster_log_text(c, 3, text, sizeof text);
    cr_assert_str_eq(text, "1 1 1 1 1 1 2");
}

Test(raft_links, gap_and_conflict_of_an_older_term_change_nothing)
{
    make_successor(ENTRY_NOOP);
    elect_successor();
    struct raft_message gap = *cluster_find(c, RAFT_APPEND, 1, 3); /* the newest */
    cr_assert_eq(gap.index, 5);
    cluster_settle(c); /* all arrives, and the new leader's own entry at 7 */
    cr_assert_eq(cluster_status(c, 3).last, 7);
    static const raft_term terms[] = {1, 1, 1, 1, 1, 1, 2};
    cr_assert_eq(entry_term(raft_entry(core(3), 7)), 2);
    struct raft_message late = {
        .type = RAFT_APPEND, .from = 1, .to = 3, .term = 1, .index = 6, .log_term = 1};
    struct buf *other = entry_create(ENTRY_NOOP, 9);
    struct entry_header header = {.group = CLUSTER_GROUP, .index = 7, .term = 1, .time_us = 99};
    entry_seal(other, entry_hash(raft_entry(core(3), 6)), &header);
    late.entries = calloc(1, sizeof *late.entries);
    late.entries[0] = other;
    late.entries_count = 1;
    cluster_inject(c, &late);
    cr_assert_eq(cluster_status(c, 3).last, TL_COUNT_OF(terms), "nothing is truncated for it");
    cr_assert_eq(entry_term(raft_entry(core(3), 7)), 2);
}

Test(raft_links, entry_of_an_older_term_behind_a_gap_is_not_kept)
{
    make_successor(ENTRY_NOOP);
    elect_successor();
    (void)cluster_drop(c, 2, 3);
    (void)cluster_deliver(c, 1, 3, 1);
    cr_assert_eq(cluster_status(c, 3).last, 2);
    struct raft_message newest = *cluster_find(c, RAFT_APPEND, 1, 3);
    struct raft_message copy = newest;
    copy.entries = calloc(1, sizeof *copy.entries);
    copy.entries[0] = buf_acquire(newest.entries[0]);
    cluster_inject(c, &copy);
    cr_assert_eq(cluster_status(c, 3).last, 2);
}

/* It would be in force at once, and is looked at with more care when its leader sends it. */
Test(raft_links, configuration_of_an_older_term_is_not_kept)
{
    make_successor(ENTRY_CONF);
    elect_successor();
    (void)cluster_drop(c, 2, 3);
    (void)cluster_deliver(c, 1, 3, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 3).last, 3, "what is before it is");
    cr_assert_eq(cluster_status(c, 3).conf.learners_count, 0);
}

Test(raft_links, candidate_keeps_nothing_of_an_older_term)
{
    make_successor(ENTRY_NOOP);
    cluster_timeout(c, 3);
    (void)cluster_deliver(c, 3, 2, UINT32_MAX);
    (void)cluster_drop(c, 2, 3);
    /* Elected by a word of its own, as if the leader had asked for it. */
    struct raft_message grant = {
        .type = RAFT_PREVOTE_REPLY, .from = 2, .to = 3, .term = 2, .granted = true};
    cluster_inject(c, &grant);
    cr_assert_eq(cluster_status(c, 3).role, RAFT_CANDIDATE);
    (void)cluster_deliver(c, 1, 3, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 3).last, 1);
}

/* The schedule that Raft forbids: node 1 does not know that it is deposed, and its last append
 * reaches node 3 after that has voted for node 2. */
static const char *commit_by_a_voter_of_another(uint32_t mutation)
{
    cluster_at(c, 3)->mutation = mutation;
    make_leader();
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cluster_write(c, 1, UINT32_MAX);
    (void)cluster_drop(c, 1, 2);
    c->is_cut[2][1] = true;
    elect_successor();
    cluster_write(c, 2, UINT32_MAX);
    cr_assert_eq(cluster_deliver(c, 1, 3, UINT32_MAX), 1);
    cr_assert_eq(cluster_status(c, 3).last, 2);
    (void)cluster_drop(c, 3, 1); /* the newer term */
    cluster_write(c, 3, UINT32_MAX);
    (void)cluster_deliver(c, 3, 1, UINT32_MAX);
    cluster_settle(c);
    const char *violation = c->violation;
    c->violation = NULL;
    return violation;
}

Test(raft_links, entry_of_an_older_term_is_not_counted)
{
    cr_assert_null(commit_by_a_voter_of_another(0));
    cr_assert_eq(cluster_status(c, 2).commit, 2);
    cr_assert_eq(cluster_status(c, 1).commit, 1);
}

/* Planted bug 35. */
Test(raft_links, entry_of_an_older_term_that_is_counted_is_noticed)
{
    cr_assert_not_null(commit_by_a_voter_of_another(RAFT_MUTATION_ACK_OLDER_APPEND));
}
