/* raft: the core does what the paper says, one test per sentence; section numbers are those of
 * "In Search of an Understandable Consensus Algorithm (Extended Version)". */

#include <criterion/criterion.h>
#include <inttypes.h>
#include <string.h>

#include "raft_cluster.h"

static struct cluster *c;

static void make(uint32_t voters_count)
{
    c = cluster_create(voters_count, 0);
    cluster_start_all(c);
}

static void teardown(void)
{
    cluster_destroy(c);
}

TestSuite(raft_paper, .fini = teardown, .timeout = 20);

/* A message of a node whose core the test plays itself. */
static struct raft_message from(raft_id id, enum raft_message_type type, raft_term term)
{
    return (struct raft_message){.type = type, .from = id, .to = 1, .term = term};
}

static void inject(struct raft_message message)
{
    cluster_inject(c, &message);
}

/* Makes node 1 a follower, pre-candidate, candidate or leader, the rest of the cluster unheard. */
static void bring_to(enum raft_role role)
{
    if (role >= RAFT_PRECANDIDATE) {
        cluster_timeout(c, 1);
    }
    raft_term term = cluster_status(c, 1).term;
    for (raft_id id = 2; role >= RAFT_CANDIDATE && id <= c->nodes_count; id++) {
        struct raft_message reply = from(id, RAFT_PREVOTE_REPLY, term + 1);
        reply.granted = true;
        inject(reply);
    }
    if (role >= RAFT_CANDIDATE) cluster_write(c, 1, UINT32_MAX);
    for (raft_id id = 2; role == RAFT_LEADER && id <= c->nodes_count; id++) {
        struct raft_message reply = from(id, RAFT_VOTE_REPLY, term + 1);
        reply.granted = true;
        inject(reply);
    }
    cr_assert_eq(cluster_status(c, 1).role, role);
}

static struct buf *entry_after(raft_index index, raft_term term, struct hash128 previous)
{
    struct buf *entry = entry_create(ENTRY_NOOP, 0);
    struct entry_header header = {
        .group = CLUSTER_GROUP, .index = index + 1, .term = term, .time_us = index + 1};
    entry_seal(entry, previous, &header);
    return entry;
}

/* 5.1: "If one server's current term is smaller than the other's, then it updates its current term
 * to the larger value. If a candidate or leader discovers that its term is out of date, it
 * immediately reverts to follower state." */
Test(raft_paper, higher_term_is_adopted_by_any_role_which_then_follows)
{
    for (enum raft_role role = RAFT_FOLLOWER; role <= RAFT_LEADER; role++) {
        make(3);
        bring_to(role);
        raft_term term = cluster_status(c, 1).term;
        inject(from(2, RAFT_APPEND, term + 5));
        struct raft_status status = cluster_status(c, 1);
        cr_assert_eq(status.role, RAFT_FOLLOWER);
        cr_assert_eq(status.term, term + 5);
        cr_assert_eq(status.leader, 2);
        if (role != RAFT_LEADER) cluster_destroy(c);
    }
}

/* 5.1: "If a server receives a request with a stale term number, it rejects the request." */
Test(raft_paper, stale_term_is_refused_and_told_ours)
{
    make(3);
    inject(from(2, RAFT_HEARTBEAT, 5));
    cluster_write(c, 1, UINT32_MAX);
    (void)cluster_drop(c, 0, 0);
    struct raft_message append = from(3, RAFT_APPEND, 4);
    append.entries_count = 1;
    append.entries = calloc(1, sizeof *append.entries);
    append.entries[0] = entry_after(0, 4, (struct hash128){0});
    inject(append);
    cluster_write(c, 1, UINT32_MAX);
    cr_assert_eq(cluster_count(c, RAFT_APPEND_REPLY, 1, 3), 0, "its sender cannot count on it");
    cr_assert_eq(cluster_status(c, 1).leader, 2);
    cr_assert_eq(cluster_find(c, RAFT_HEARTBEAT_REPLY, 1, 3)->term, 5);
}

/* 5.2: "When servers start up, they begin as followers." */
Test(raft_paper, starts_as_follower)
{
    make(3);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_FOLLOWER);
    cr_assert_eq(cluster_status(c, 1).leader, RAFT_ID_NONE);
}

/* 5.2: "Leaders send periodic heartbeats to all followers in order to maintain their authority." */
Test(raft_paper, leader_sends_heartbeats_to_all_each_interval)
{
    make(3);
    cluster_elect(c, 1);
    for (uint32_t i = 0; i < 3; i++) {
        cluster_advance(c, 1, CLUSTER_BEAT_NS);
        cr_assert_eq(cluster_count(c, RAFT_HEARTBEAT, 1, 2), 1);
        cr_assert_eq(cluster_count(c, RAFT_HEARTBEAT, 1, 3), 1);
        cluster_settle(c);
    }
}

static void check_starts_election(void)
{
    struct raft_status before = cluster_status(c, 1);
    cluster_timeout(c, 1);
    for (raft_id id = 2; id <= 3; id++) {
        const struct raft_message *ask = cluster_find(c, RAFT_PREVOTE, 1, id);
        cr_assert_not_null(ask);
        cr_assert_eq(ask->term, before.term + 1);
    }
    struct raft_message reply = from(2, RAFT_PREVOTE_REPLY, before.term + 1);
    reply.granted = true;
    inject(reply);
    struct raft_status status = cluster_status(c, 1);
    cr_assert_eq(status.role, RAFT_CANDIDATE);
    cr_assert_eq(status.term, before.term + 1);
    cr_assert_eq(status.vote, 1);
    cr_assert_eq(cluster_count(c, RAFT_VOTE, 1, 0), 0, "not before its own vote is durable");
    cluster_write(c, 1, UINT32_MAX);
    cr_assert_eq(cluster_count(c, RAFT_VOTE, 1, 2), 1);
    cr_assert_eq(cluster_count(c, RAFT_VOTE, 1, 3), 1);
    (void)cluster_drop(c, 0, 0);
}

/* 5.2: "To begin an election, a follower increments its current term and transitions to candidate
 * state. It then votes for itself and issues RequestVote RPCs in parallel to each of the other
 * servers." And: "each candidate will time out and start a new election". */
Test(raft_paper, follower_and_candidate_start_an_election_when_timing_out)
{
    make(3);
    check_starts_election();
    cr_assert_eq(cluster_status(c, 1).role, RAFT_CANDIDATE);
    check_starts_election();
}

/* 5.2: "A candidate wins an election if it receives votes from a majority of the servers in the
 * full cluster for the same term." */
Test(raft_paper, majority_wins_in_one_round)
{
    static const struct {
        uint32_t size, granted_count, refused_count;
        enum raft_role role;
    } cases[] = {
        {2, 1, 0, RAFT_LEADER},    {3, 2, 0, RAFT_LEADER},    {3, 1, 0, RAFT_LEADER},
        {5, 4, 0, RAFT_LEADER},    {5, 3, 0, RAFT_LEADER},    {5, 2, 0, RAFT_LEADER},
        {3, 0, 2, RAFT_FOLLOWER},  {5, 0, 4, RAFT_FOLLOWER},  {5, 1, 3, RAFT_FOLLOWER},
        {3, 0, 0, RAFT_CANDIDATE}, {5, 1, 0, RAFT_CANDIDATE}, {5, 0, 2, RAFT_CANDIDATE},
        {4, 1, 0, RAFT_CANDIDATE}, {4, 2, 0, RAFT_LEADER},    {4, 0, 2, RAFT_FOLLOWER},
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        make(cases[i].size);
        bring_to(RAFT_CANDIDATE);
        for (uint32_t v = 0; v < cases[i].granted_count + cases[i].refused_count; v++) {
            struct raft_message reply = from(v + 2, RAFT_VOTE_REPLY, 1);
            reply.granted = v < cases[i].granted_count;
            inject(reply);
        }
        cr_assert_eq(cluster_status(c, 1).role, cases[i].role, "case %zu", i);
        cr_assert_eq(cluster_status(c, 1).term, 1);
        if (i + 1 < TL_COUNT_OF(cases)) cluster_destroy(c);
    }
}

Test(raft_paper, single_voter_elects_itself_after_its_own_write)
{
    make(1);
    cluster_timeout(c, 1);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_CANDIDATE);
    cluster_write(c, 1, 1);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_LEADER);
}

/* 5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-
 * served basis." */
Test(raft_paper, votes_once_in_a_term_first_come_first_served)
{
    static const struct {
        raft_id vote, candidate;
        bool granted;
    } cases[] = {{0, 2, true}, {0, 3, true},  {2, 2, true},
                 {3, 3, true}, {2, 3, false}, {3, 2, false}};
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        c = cluster_create(3, 0);
        cluster_at(c, 1)->hard_state = (struct raft_hard_state){.term = 1, .vote = cases[i].vote};
        cluster_start_all(c);
        inject(from(cases[i].candidate, RAFT_VOTE, 1));
        cluster_write(c, 1, UINT32_MAX);
        const struct raft_message *reply = cluster_find(c, RAFT_VOTE_REPLY, 1, cases[i].candidate);
        cr_assert_not_null(reply);
        cr_assert_eq(reply->granted, cases[i].granted, "case %zu", i);
        if (i + 1 < TL_COUNT_OF(cases)) cluster_destroy(c);
    }
}

/* 5.2: "If the leader's term (included in its RPC) is at least as large as the candidate's current
 * term, then the candidate recognizes the leader as legitimate and returns to follower state." */
Test(raft_paper, candidate_falls_back_when_a_leader_of_its_term_or_later_speaks)
{
    for (raft_term ahead = 0; ahead <= 1; ahead++) {
        make(3);
        bring_to(RAFT_CANDIDATE);
        inject(from(3, RAFT_APPEND, 1 + ahead));
        struct raft_status status = cluster_status(c, 1);
        cr_assert_eq(status.role, RAFT_FOLLOWER);
        cr_assert_eq(status.term, 1 + ahead);
        cr_assert_eq(status.leader, 3);
        if (ahead == 0) cluster_destroy(c);
    }
}

/* 5.2: "election timeouts are chosen randomly from a fixed interval". */
static void check_timeout_spread(enum raft_role role)
{
    bool was_seen[10] = {false};
    for (uint64_t seed = 1; seed <= 200; seed++) {
        c = cluster_create(3, 0);
        c->seed = seed;
        cluster_start_all(c);
        bring_to(role);
        struct cluster_node *node = cluster_at(c, 1);
        uint64_t timeout_ns = node->output.deadline_ns - node->now_ns;
        cr_assert_geq(timeout_ns, CLUSTER_T_NS);
        cr_assert_lt(timeout_ns, 2 * CLUSTER_T_NS);
        was_seen[(timeout_ns - CLUSTER_T_NS) / (CLUSTER_T_NS / 10)] = true;
        cluster_destroy(c);
    }
    for (uint32_t i = 0; i < 10; i++)
        cr_assert(was_seen[i], "tenth %u of [T, 2T) is never drawn", i);
}

Test(raft_paper, election_timeouts_are_spread_over_t_to_2t)
{
    check_timeout_spread(RAFT_FOLLOWER);
    check_timeout_spread(RAFT_CANDIDATE);
    make(1);
}

/* 5.2: "This spreads out the servers so that in most cases only a single server will time out". */
Test(raft_paper, split_votes_are_rare)
{
    uint32_t close_count = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        c = cluster_create(5, 0);
        c->seed = seed;
        cluster_start_all(c);
        uint64_t first = UINT64_MAX;
        uint64_t second = UINT64_MAX;
        for (raft_id id = 1; id <= 5; id++) {
            uint64_t at = cluster_at(c, id)->output.deadline_ns;
            if (at < first) {
                second = first;
                first = at;
            } else if (at < second) {
                second = at;
            }
        }
        close_count += second - first < 5 * MS;
        cluster_destroy(c);
    }
    cr_assert_lt(close_count, 200 * 3 / 10);
    make(1);
}

/* 5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in
 * parallel to each of the other servers", with "the index and term of the entry in its log that
 * immediately precedes the new entries"; and (thesis 10.2.1) in parallel with its own write. */
Test(raft_paper, leader_starts_replication_in_parallel_with_its_own_write)
{
    make(3);
    cluster_elect(c, 1);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    for (raft_id id = 2; id <= 3; id++) {
        const struct raft_message *append = cluster_find(c, RAFT_APPEND, 1, id);
        cr_assert_not_null(append);
        cr_assert_eq(append->index, 1);
        cr_assert_eq(append->log_term, 1);
        cr_assert_eq(append->entries_count, 1);
        cr_assert_eq(entry_index(append->entries[0]), 2);
        cr_assert_eq(entry_term(append->entries[0]), 1);
    }
    cr_assert_eq(cluster_at(c, 1)->ops_count, 1);
    cr_assert_eq(cluster_status(c, 1).commit, 1);
}

/* 5.3: "When the entry has been safely replicated, the leader applies the entry ... it keeps track
 * of the highest index it knows to be committed, and it includes that index in future
 * AppendEntries RPCs (including heartbeats) so that the other servers eventually find out." */
Test(raft_paper, leader_commits_and_tells)
{
    make(3);
    cluster_elect(c, 1);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    cluster_settle(c);
    cr_assert_eq(cluster_status(c, 1).commit, 2);
    cr_assert_eq(cluster_status(c, 2).commit, 1);
    cluster_advance(c, 1, CLUSTER_BEAT_NS);
    cluster_settle(c);
    for (raft_id id = 1; id <= 3; id++) {
        cr_assert_eq(cluster_status(c, id).commit, 2);
        cr_assert_eq(cluster_at(c, id)->applied, 2);
    }
}

/* 5.3: "A log entry is committed once the leader that created the entry has replicated it on a
 * majority of the servers". */
Test(raft_paper, leader_needs_acknowledgements_of_a_majority)
{
    static const struct {
        uint32_t size, acks_count;
        bool is_committed;
    } cases[] = {{1, 0, true},  {3, 0, false}, {3, 1, true}, {3, 2, true}, {5, 0, false},
                 {5, 1, false}, {5, 2, true},  {5, 3, true}, {5, 4, true}, {4, 1, false},
                 {4, 2, true},  {2, 0, false}, {2, 1, true}};
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        make(cases[i].size);
        cluster_elect(c, 1);
        cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
        cluster_write(c, 1, UINT32_MAX);
        for (raft_id id = 2; id < 2 + cases[i].acks_count; id++) {
            cluster_deliver(c, 1, id, UINT32_MAX);
            cluster_write(c, id, UINT32_MAX);
            cluster_deliver(c, id, 1, UINT32_MAX);
        }
        cr_assert_eq(cluster_status(c, 1).commit == 2, cases[i].is_committed, "case %zu", i);
        if (i + 1 < TL_COUNT_OF(cases)) cluster_destroy(c);
    }
}

/* 5.3: "This also commits all preceding entries in the leader's log, including entries created by
 * previous leaders." */
Test(raft_paper, own_entry_commits_the_ones_before_it)
{
    static const raft_term terms[] = {1, 1, 2};
    c = cluster_create(3, 0);
    cluster_fill(c, 1, terms, 3, 2);
    cluster_start_all(c);
    cluster_elect(c, 1);
    cr_assert_eq(cluster_status(c, 1).commit, 4);
    cr_assert_eq(cluster_at(c, 1)->applied, 4);
}

/* 5.3: "Once a follower learns that a log entry is committed, it applies the entry to its local
 * state machine (in log order)." (The harness applies and compares.) */
Test(raft_paper, follower_applies_in_order_once_it_learns_of_commitment)
{
    make(3);
    cluster_elect(c, 1);
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
        cluster_run(c, 3 * MS);
        cr_assert_eq(cluster_at(c, 2)->applied, i + 2);
    }
}

/* 5.3: "If the follower does not find an entry in its log with the same index and term, then it
 * refuses the new entries." */
Test(raft_paper, follower_checks_the_entry_before)
{
    static const raft_term terms[] = {1, 2};
    static const struct {
        raft_term term;
        raft_index index;
        bool is_rejected;
        raft_index hint;
    } cases[] = {{0, 0, false, 0}, {1, 1, false, 0}, {2, 2, false, 0}, {1, 2, true, 1},
                 {2, 3, true, 2},  {3, 3, true, 2},  {1, 3, true, 1}};
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        c = cluster_create(3, 0);
        cluster_fill(c, 1, terms, 2, 2);
        cluster_start_all(c);
        struct raft_message append = from(2, RAFT_APPEND, 3);
        append.index = cases[i].index;
        append.log_term = cases[i].term;
        inject(append);
        cluster_write(c, 1, UINT32_MAX);
        const struct raft_message *reply = cluster_find(c, RAFT_APPEND_REPLY, 1, 2);
        cr_assert_not_null(reply);
        cr_assert_eq(reply->reject != RAFT_REJECT_NONE, cases[i].is_rejected, "case %zu", i);
        cr_assert_eq(reply->index, cases[i].index);
        cr_assert_eq(reply->hint_index, cases[i].hint, "case %zu", i);
        if (i + 1 < TL_COUNT_OF(cases)) cluster_destroy(c);
    }
}

/* 5.3: "If an existing entry conflicts with a new one (same index but different terms), delete the
 * existing entry and all that follow it. Append any new entries not already in the log." */
Test(raft_paper, follower_replaces_a_conflicting_tail_and_nothing_else)
{
    static const raft_term held[] = {1, 2};
    static const struct {
        raft_index after;
        uint32_t terms_count;
        raft_term terms[2];
        const char *log;
    } cases[] = {{2, 1, {3}, "1 2 3"}, {1, 2, {3, 4}, "1 3 4"}, {0, 2, {1, 2}, "1 2"},
                 {0, 1, {3}, "3"},     {0, 1, {1}, "1 2"},      {1, 1, {2}, "1 2"}};
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        c = cluster_create(3, 0);
        cluster_fill(c, 1, held, 2, 2);
        cluster_start_all(c);
        struct raft_message append = from(2, RAFT_APPEND, 4);
        append.index = cases[i].after;
        append.log_term = cases[i].after > 0 ? held[cases[i].after - 1] : 0;
        append.entries_count = cases[i].terms_count;
        append.entries = calloc(2, sizeof *append.entries);
        struct hash128 hash = {0};
        if (cases[i].after > 0) hash = entry_hash(cluster_at(c, 1)->entries[cases[i].after - 1]);
        for (uint32_t e = 0; e < cases[i].terms_count; e++) {
            append.entries[e] = entry_after(cases[i].after + e, cases[i].terms[e], hash);
            hash = entry_hash(append.entries[e]);
        }
        inject(append);
        cluster_write(c, 1, UINT32_MAX);
        char log[64];
        cluster_log_text(c, 1, log, sizeof log);
        cr_assert_str_eq(log, cases[i].log, "case %zu", i);
        if (i + 1 < TL_COUNT_OF(cases)) cluster_destroy(c);
    }
}

/* Figure 7: "When the leader at the top comes to power, it is possible that any of scenarios (a-f)
 * could occur in follower logs." All are brought in line. */
Test(raft_paper, leader_repairs_the_logs_of_figure_7)
{
    static const raft_term leader[] = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6};
    static const struct {
        uint32_t count;
        raft_term terms[12];
    } followers[] = {
        {9, {1, 1, 1, 4, 4, 5, 5, 6, 6}},
        {4, {1, 1, 1, 4}},
        {11, {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6}},
        {12, {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7}},
        {7, {1, 1, 1, 4, 4, 4, 4}},
        {11, {1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}},
    };
    for (size_t i = 0; i < TL_COUNT_OF(followers); i++) {
        c = cluster_create(3, 0);
        cluster_fill(c, 1, leader, 10, 7);
        cluster_fill(c, 2, followers[i].terms, followers[i].count, 7);
        cluster_fill(c, 3, leader, 3, 7);
        cluster_start_all(c);
        cluster_elect(c, 1);
        cluster_run(c, 2 * CLUSTER_BEAT_NS);
        char log[64];
        cluster_log_text(c, 2, log, sizeof log);
        cr_assert_str_eq(log, "1 1 1 4 4 5 5 6 6 6 8", "figure 7 (%c)", (int)('a' + i));
        cr_assert_eq(cluster_at(c, 2)->applied, 11);
        if (i + 1 < TL_COUNT_OF(followers)) cluster_destroy(c);
    }
}

/* 5.4.1: "the RPC includes information about the candidate's log". */
Test(raft_paper, vote_request_carries_the_last_index_and_term)
{
    static const raft_term terms[] = {1, 2, 2};
    c = cluster_create(2, 0);
    cluster_fill(c, 1, terms, 3, 2);
    cluster_start_all(c);
    bring_to(RAFT_CANDIDATE);
    const struct raft_message *request = cluster_find(c, RAFT_VOTE, 1, 2);
    cr_assert_not_null(request);
    cr_assert_eq(request->term, 3);
    cr_assert_eq(request->index, 3);
    cr_assert_eq(request->log_term, 2);
}

/* 5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the candidate."
 */
Test(raft_paper, voter_denies_candidates_with_older_logs)
{
    static const struct {
        uint32_t count;
        raft_term terms[3];
        raft_term log_term;
        raft_index index;
        bool is_granted;
    } cases[] = {
        {1, {1}, 1, 1, true},  {1, {1}, 1, 2, true},  {2, {1, 1}, 1, 1, false},
        {1, {1}, 2, 1, true},  {1, {1}, 2, 2, true},  {2, {1, 1}, 2, 1, true},
        {1, {2}, 1, 1, false}, {1, {2}, 1, 2, false}, {2, {2, 2}, 1, 9, false},
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        c = cluster_create(2, 0);
        cluster_fill(c, 1, cases[i].terms, cases[i].count, 2);
        cluster_start_all(c);
        for (uint32_t is_real = 0; is_real < 2; is_real++) {
            struct raft_message request = from(2, is_real ? RAFT_VOTE : RAFT_PREVOTE, 3);
            request.log_term = cases[i].log_term;
            request.index = cases[i].index;
            inject(request);
            cluster_write(c, 1, UINT32_MAX);
            const struct raft_message *reply =
                cluster_find(c, is_real ? RAFT_VOTE_REPLY : RAFT_PREVOTE_REPLY, 1, 2);
            cr_assert_not_null(reply);
            cr_assert_eq(reply->granted, cases[i].is_granted, "case %zu", i);
        }
        if (i + 1 < TL_COUNT_OF(cases)) cluster_destroy(c);
    }
}

/* 5.4.2: "only log entries from the leader's current term are committed by counting replicas";
 * figure 8. */
Test(raft_paper, leader_commits_only_entries_of_its_own_term_by_counting)
{
    static const raft_term terms[] = {1, 2};
    for (raft_index acked = 1; acked <= 3; acked++) {
        c = cluster_create(2, 0);
        cluster_fill(c, 1, terms, 2, 2);
        cluster_start_all(c);
        bring_to(RAFT_LEADER);
        cluster_write(c, 1, UINT32_MAX);
        struct raft_message ack = from(2, RAFT_APPEND_REPLY, 3);
        ack.index = acked;
        inject(ack);
        cr_assert_eq(cluster_status(c, 1).commit, acked < 3 ? 0 : 3, "acked %" PRIu64, acked);
        if (acked < 3) cluster_destroy(c);
    }
}

/* Figure 8, (a) to (d): node 1 leads again in term 4 and brings entry 2 of term 2 onto a
 * majority, but no entry of term 4; it dies, and node 5 overwrites the entry with its own of
 * term 3. Had node 1 committed it by counting, two nodes would now have applied different
 * entries. */
static void play_figure_8(uint32_t mutation)
{
    static const raft_term second[] = {1, 2};
    static const raft_term third[] = {1, 3};
    c = cluster_create(5, 0);
    c->append_entries_max = 1;
    cluster_fill(c, 1, second, 2, 3);
    cluster_fill(c, 2, second, 2, 3);
    cluster_fill(c, 3, second, 1, 3);
    cluster_fill(c, 4, second, 1, 3);
    cluster_fill(c, 5, third, 2, 3);
    for (raft_id id = 1; id <= 5; id++) cluster_at(c, id)->mutation = mutation;
    cluster_start_all(c);

    cluster_isolate(c, 5, true);
    cluster_timeout(c, 1);
    for (uint32_t i = 0; i < 2; i++) { /* pre-votes and votes */
        cluster_deliver(c, 1, 0, UINT32_MAX);
        for (raft_id id = 2; id <= 4; id++) cluster_write(c, id, UINT32_MAX);
        cluster_deliver(c, 0, 1, UINT32_MAX);
        cluster_write(c, 1, 1);
    }
    cr_assert_eq(cluster_status(c, 1).role, RAFT_LEADER);
    (void)cluster_drop(c, 1, 4);
    for (uint32_t i = 0; i < 2; i++) { /* the probe that is refused, and entry 2 alone */
        cluster_deliver(c, 1, 3, UINT32_MAX);
        cluster_write(c, 3, UINT32_MAX);
        cluster_deliver(c, 3, 1, 1);
    }
    cr_assert_eq(cluster_at(c, 3)->entries_count, 2);
    struct raft_message ack = from(2, RAFT_APPEND_REPLY, cluster_status(c, 1).term);
    ack.index = 2;
    inject(ack);
    cluster_crash(c, 1);
    (void)cluster_drop(c, 0, 0);

    cluster_isolate(c, 5, false);
    for (raft_id id = 2; id <= 4; id++) {
        raft_peer_lost(cluster_at(c, id)->raft, 1);
        cluster_turn(c, id);
    }
    cluster_timeout(c, 5);
    cluster_settle(c);
    cluster_elect(c, 5); /* in the term that it has now heard of */
    cr_assert_eq(cluster_at(c, 5)->applied, 3);
}

Test(raft_paper, figure_8_loses_nothing_that_was_committed)
{
    play_figure_8(RAFT_MUTATION_NONE);
    cr_assert_null(c->violation);
    cluster_destroy(c);
    play_figure_8(RAFT_MUTATION_COMMIT_OLD_TERM);
    cr_assert_not_null(c->violation, "the test sees it when it happens");
    c->violation = NULL;
}
