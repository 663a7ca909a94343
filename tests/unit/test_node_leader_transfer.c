/* node: leadership moves when somebody wants it to, when a node stops, and when a disk hangs. */

#include <criterion/criterion.h>
#include <stdio.h>

#include "node_cluster.h"

/* ---- transfers ---- */

struct wish {
    struct node_leader_transfer transfer;
    uint32_t calls_count;
    enum tl_err err;
};

static void on_transfer_done(struct node_leader_transfer *transfer, enum tl_err err)
{
    struct wish *wish = transfer->context;
    wish->calls_count++;
    wish->err = err;
}

static bool wish_is_over(void *context)
{
    return ((struct wish *)context)->calls_count > 0;
}

static enum tl_err wish_try_start(struct wish *wish, struct site *site, const struct site *to)
{
    *wish = (struct wish){.err = TL_OK};
    wish->transfer = (struct node_leader_transfer){
        .group = NODE_DATA_GROUP,
        .deadline_ns = site->cluster->now_ns + 5 * CLUSTER_S,
        .on_done = on_transfer_done,
        .context = wish,
    };
    if (to != NULL) snprintf(wish->transfer.address, ADDRESS_BYTES_MAX, "%s", to->address);
    return node_leader_transfer(site->node, &wish->transfer);
}

static void wish_await(struct wish *wish, struct site *site)
{
    cr_assert(cluster_run(site->cluster, 10 * CLUSTER_S, wish_is_over, wish), "it hangs");
    cr_assert_eq(wish->calls_count, 1);
}

/* Asks `site` that `to` (NULL: anybody) leads; returns what came of it. */
static struct wish transfer(struct site *site, const struct site *to)
{
    struct wish wish;
    cr_assert_eq(wish_try_start(&wish, site, to), TL_OK);
    wish_await(&wish, site);
    return wish;
}

static uint64_t term_of(struct site *site)
{
    struct node_group_status status;
    site_status(site, &status);
    return status.raft.term;
}

static void expect_refusal(const struct wish *wish, const char *code)
{
    cr_assert_eq(wish->err, TL_OK, "%s", tl_err_text(wish->err));
    cr_assert_not(wish->transfer.report.is_changed);
    cr_assert_not_null(wish->transfer.report.refusal_code, "not refused, but %s", code);
    cr_assert_str_eq(wish->transfer.report.refusal_code, code);
    cr_assert_not_null(wish->transfer.report.refusal);
}

Test(node_leader_transfer, the_leader_hands_over_to_the_voter_that_is_named)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct site *target = &cluster->sites[(leader + 1) % 3];
    uint64_t began_ns = cluster->now_ns;
    struct wish wish = transfer(site, target);
    cr_assert_eq(wish.err, TL_OK);
    cr_assert(wish.transfer.report.is_changed);
    cr_assert_eq(wish.transfer.report.from, site->id);
    cr_assert_eq(wish.transfer.report.to, target->id);
    cr_assert_null(wish.transfer.report.refusal_code);
    cr_assert_eq(cluster_leader(cluster), target->place);
    cr_assert_lt(cluster->now_ns - began_ns, 100 * CLUSTER_MS, "it took an election timeout");
    cluster_destroy(cluster);
}

Test(node_leader_transfer, a_follower_that_is_asked_asks_the_leader)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *asked = &cluster->sites[(leader + 1) % 3];
    struct site *target = &cluster->sites[(leader + 2) % 3];
    struct wish wish = transfer(asked, target);
    cr_assert_eq(wish.err, TL_OK);
    cr_assert(wish.transfer.report.is_changed);
    cr_assert_eq(wish.transfer.report.from, cluster->sites[leader].id);
    cr_assert_eq(wish.transfer.report.to, target->id);
    wish = transfer(asked, asked); /* and to itself */
    cr_assert(wish.transfer.report.is_changed);
    cr_assert_eq(cluster_leader(cluster), asked->place);
    cluster_destroy(cluster);
}

Test(node_leader_transfer, without_a_name_another_voter_leads)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    for (uint32_t i = 0; i < 3; i++) {
        struct wish wish = transfer(&cluster->sites[i], NULL);
        cr_assert_eq(wish.err, TL_OK);
        cr_assert(wish.transfer.report.is_changed);
        uint32_t next = cluster_await_leader(cluster);
        cr_assert_neq(next, leader);
        cr_assert_eq(wish.transfer.report.to, cluster->sites[next].id);
        leader = next;
    }
    cluster_destroy(cluster);
}

Test(node_leader_transfer, to_whom_leads_already_changes_nothing)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    uint64_t term = term_of(&cluster->sites[leader]);
    for (uint32_t i = 0; i < 3; i++) {
        struct wish wish = transfer(&cluster->sites[i], &cluster->sites[leader]);
        cr_assert_eq(wish.err, TL_OK);
        cr_assert_not(wish.transfer.report.is_changed);
        cr_assert_null(wish.transfer.report.refusal_code);
        cr_assert_eq(wish.transfer.report.to, cluster->sites[leader].id);
    }
    cr_assert_eq(term_of(&cluster->sites[leader]), term);
    cluster_destroy(cluster);
}

Test(node_leader_transfer, a_dry_run_says_who_would_lead_and_changes_nothing)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    uint64_t term = term_of(&cluster->sites[leader]);
    for (uint32_t i = 0; i < 3; i++) {
        struct site *target = &cluster->sites[(leader + 1) % 3];
        struct wish wish;
        cr_assert_eq(wish_try_start(&wish, &cluster->sites[i], i == 0 ? NULL : target), TL_OK);
        wish.transfer.is_dry_run = true;
        wish_await(&wish, &cluster->sites[i]);
        cr_assert_eq(wish.err, TL_OK);
        cr_assert(wish.transfer.report.is_changed);
        cr_assert_neq(wish.transfer.report.to, cluster->sites[leader].id);
        if (i != 0) cr_assert_eq(wish.transfer.report.to, target->id);
    }
    cr_assert_eq(cluster_leader(cluster), leader);
    cr_assert_eq(term_of(&cluster->sites[leader]), term);
    cluster_destroy(cluster);
}

Test(node_leader_transfer, what_could_not_work_is_refused_and_writes_go_on)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct site *away = &cluster->sites[(leader + 1) % 3];
    struct site *other = &cluster->sites[(leader + 2) % 3];
    struct wish wish = transfer(site, &cluster->sites[4]);
    expect_refusal(&wish, "not_a_voter");
    cluster_isolate(cluster, away->place);
    cluster_pass(cluster, CLUSTER_S);
    wish = transfer(site, away);
    expect_refusal(&wish, "not_heard");
    wish = transfer(other, away);
    expect_refusal(&wish, "not_heard");
    uint64_t began_ns = cluster->now_ns;
    cr_assert_eq(site_put(site, "k", "v", NULL), TL_OK);
    cr_assert_lt(cluster->now_ns - began_ns, 100 * CLUSTER_MS, "the writes were stopped");
    cr_assert_eq(cluster_leader(cluster), leader);
    cluster_destroy(cluster);
}

Test(node_leader_transfer, of_one_alone_there_is_nobody_to_hand_over_to)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[cluster_form(cluster)];
    struct wish wish = transfer(site, NULL);
    expect_refusal(&wish, "no_successor");
    wish = transfer(site, site);
    cr_assert_null(wish.transfer.report.refusal_code);
    cr_assert_not(wish.transfer.report.is_changed);
    cluster_destroy(cluster);
}

Test(node_leader_transfer, a_target_that_does_not_take_over_is_told_and_the_leader_leads_on)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct site *target = &cluster->sites[(leader + 1) % 3];
    struct site *other = &cluster->sites[(leader + 2) % 3];
    for (uint32_t i = 0; i < 2; i++) {
        target->is_mute = true;
        target->holds_log = true; /* it cannot even write its vote */
        struct wish wish = transfer(i == 0 ? site : other, target);
        cr_assert_eq(wish.err, TL_ERR_UNKNOWN, "%s", tl_err_text(wish.err));
        cr_assert_eq(cluster_leader(cluster), leader);
        cr_assert_eq(site_put(site, "k", "v", NULL), TL_OK);
        target->is_mute = false;
        target->holds_log = false;
        cluster_pass(cluster, 2 * CLUSTER_S);
        leader = cluster_await_leader(cluster);
        if (leader != site->place) transfer(site, site);
        cluster_pass(cluster, CLUSTER_S); /* it has heard from everybody */
        leader = site->place;
    }
    cluster_destroy(cluster);
}

/* The write that it lacks keeps the leader from telling it. */
Test(node_leader_transfer, a_target_that_was_not_told_is_certain_not_to_take_over)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct site *target = &cluster->sites[(leader + 1) % 3];
    struct site *other = &cluster->sites[(leader + 2) % 3];
    for (uint32_t i = 0; i < 2; i++) {
        cluster_pass(cluster, CLUSTER_S);
        target->holds_log = true;
        struct effort effort;
        struct buf *entry = effort_entry("k", "v", false, 0, 0);
        cr_assert_eq(effort_start(&effort, site, entry, 5 * CLUSTER_S), TL_OK);
        struct wish wish = transfer(i == 0 ? site : other, target);
        cr_assert_eq(wish.err, TL_ERR_TIMEOUT, "%s", tl_err_text(wish.err));
        target->holds_log = false;
        cluster_pass(cluster, 2 * CLUSTER_S);
        cr_assert_eq(effort.err, TL_OK);
        cr_assert_eq(cluster_leader(cluster), leader);
    }
    cluster_destroy(cluster);
}

Test(node_leader_transfer, a_target_that_obeys_late_was_not_said_to_have_stayed)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct site *target = &cluster->sites[(leader + 1) % 3];
    cluster_pass(cluster, CLUSTER_S); /* it has all there is */
    target->holds_log = true;         /* told, it cannot write its vote for itself ... */
    target->is_mute = true;           /* ... and nobody hears of its term */
    struct wish wish = transfer(site, target);
    cr_assert_eq(wish.err, TL_ERR_UNKNOWN, "%s", tl_err_text(wish.err));
    target->is_mute = false;
    target->holds_log = false;
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_eq(cluster_leader(cluster), target->place);
    cluster_destroy(cluster);
}

Test(node_leader_transfer, a_second_one_elsewhere_waits_its_turn_and_disturbs_nothing)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct site *target = &cluster->sites[(leader + 1) % 3];
    struct site *other = &cluster->sites[(leader + 2) % 3];
    struct wish wish;
    cr_assert_eq(wish_try_start(&wish, site, target), TL_OK);
    node_turn(site->node); /* told */
    struct wish elsewhere = transfer(site, other);
    cr_assert_eq(elsewhere.err, TL_ERR_BUSY, "%s", tl_err_text(elsewhere.err));
    wish_await(&wish, site);
    cr_assert_eq(wish.err, TL_OK, "%s", tl_err_text(wish.err));
    cr_assert(wish.transfer.report.is_changed);
    cr_assert_eq(cluster_leader(cluster), target->place);
    cluster_destroy(cluster);
}

/* Asked through a node that does not lead, while leadership is on its way elsewhere. */
Test(node_leader_transfer, that_the_leader_is_busy_is_passed_on)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct site *target = &cluster->sites[(leader + 1) % 3];
    struct site *other = &cluster->sites[(leader + 2) % 3];
    target->is_mute = true;
    struct wish wish;
    cr_assert_eq(wish_try_start(&wish, site, target), TL_OK);
    node_turn(site->node);
    struct wish elsewhere = transfer(other, other);
    cr_assert_eq(elsewhere.err, TL_ERR_BUSY, "%s", tl_err_text(elsewhere.err));
    struct wish anywhere = transfer(site, NULL); /* the one under way will do */
    cr_assert_eq(anywhere.err, TL_ERR_UNKNOWN, "%s", tl_err_text(anywhere.err));
    wish_await(&wish, site);
    cluster_destroy(cluster);
}

Test(node_leader_transfer, an_unknown_group_and_too_many_are_refused_at_once)
{
    static struct wish wishes[NODE_LEADER_TRANSFERS_MAX + 1];
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct node_leader_transfer stranger = {.group = 7, .on_done = on_transfer_done};
    cr_assert_eq(node_leader_transfer(site->node, &stranger), TL_ERR_NOT_FOUND);
    for (uint32_t i = 0; i < NODE_LEADER_TRANSFERS_MAX; i++) {
        cr_assert_eq(wish_try_start(&wishes[i], site, site), TL_OK);
    }
    cr_assert_eq(wish_try_start(&wishes[NODE_LEADER_TRANSFERS_MAX], site, site), TL_ERR_FULL);
    node_leader_transfer_cancel(site->node, &wishes[3].transfer);
    cr_assert_eq(wish_try_start(&wishes[NODE_LEADER_TRANSFERS_MAX], site, site), TL_OK);
    cluster_pass(cluster, CLUSTER_S);
    for (uint32_t i = 0; i <= NODE_LEADER_TRANSFERS_MAX; i++) {
        cr_assert_eq(wishes[i].calls_count, i == 3 ? 0 : 1);
    }
    cluster_destroy(cluster);
}

Test(node_leader_transfer, without_a_leader_it_is_said_so)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *alone = &cluster->sites[(leader + 1) % 3];
    cluster_isolate(cluster, alone->place);
    cluster_pass(cluster, 2 * CLUSTER_S);
    struct wish wish = transfer(alone, NULL);
    cr_assert_eq(wish.err, TL_ERR_NO_QUORUM, "%s", tl_err_text(wish.err));
    cluster_destroy(cluster);
}

Test(node_leader_transfer, a_link_that_breaks_leaves_it_unknown)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *asked = &cluster->sites[(leader + 1) % 3];
    struct wish wish;
    cr_assert_eq(wish_try_start(&wish, asked, asked), TL_OK);
    node_turn(asked->node); /* sent */
    cluster_isolate(cluster, asked->place);
    wish_await(&wish, asked);
    cr_assert_eq(wish.err, TL_ERR_UNKNOWN, "%s", tl_err_text(wish.err));
    cluster_destroy(cluster);
}

#define EFFORTS_COUNT 30u

static bool efforts_are_over(void *context)
{
    const struct effort *efforts = context;
    for (uint32_t i = 0; i < EFFORTS_COUNT; i++) {
        if (efforts[i].calls_count == 0) return false;
    }
    return true;
}

Test(node_leader_transfer, writes_that_wait_meanwhile_are_done_by_the_next_leader)
{
    static struct effort efforts[EFFORTS_COUNT];
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct wish wish;
    struct site *target = &cluster->sites[(leader + 1) % 3];
    cr_assert_eq(wish_try_start(&wish, &cluster->sites[leader], target), TL_OK);
    for (uint32_t i = 0; i < EFFORTS_COUNT; i++) {
        char key[32];
        snprintf(key, sizeof key, "key%u", i);
        /* At every node, before, while and after leadership moves. */
        cr_assert_eq(effort_start(&efforts[i], &cluster->sites[i % 3],
                                  effort_entry(key, "v", false, 0, 0), 5 * CLUSTER_S),
                     TL_OK);
        (void)cluster_step(cluster);
    }
    wish_await(&wish, &cluster->sites[leader]);
    cr_assert(wish.transfer.report.is_changed);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, efforts_are_over, efforts), "one hangs");
    for (uint32_t i = 0; i < EFFORTS_COUNT; i++) {
        cr_assert_eq(efforts[i].err, TL_OK, "write %u: %s", i, tl_err_text(efforts[i].err));
    }
    cluster_destroy(cluster);
}

/* ---- a node that stops ---- */

static bool is_handed_over(void *context)
{
    return node_is_handed_over(((struct site *)context)->node);
}

static bool leads_any(struct site *site)
{
    for (raft_group group = 0; group < 2; group++) {
        struct node_group_status status;
        node_get_group_status(site->node, group, &status);
        if (status.raft.role == RAFT_LEADER) return true;
    }
    return false;
}

Test(node_hand_over, every_group_moves_and_requests_are_served_meanwhile)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    cr_assert_not(node_is_handed_over(site->node));
    struct effort effort;
    cr_assert_eq(effort_start(&effort, site, effort_entry("k", "v", false, 0, 0), 5 * CLUSTER_S),
                 TL_OK);
    node_hand_over(site->node);
    uint64_t began_ns = cluster->now_ns;
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, is_handed_over, site));
    cr_assert_lt(cluster->now_ns - began_ns, 100 * CLUSTER_MS, "it waited for its limit");
    cr_assert_not(leads_any(site));
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, effort_is_over, &effort));
    cr_assert_eq(effort.err, TL_OK);
    cr_assert_eq(site_put(site, "k2", "v", NULL), TL_OK);
    cr_assert_neq(cluster_await_leader(cluster), leader);
    cluster_destroy(cluster);
}

Test(node_hand_over, elected_again_it_hands_over_again)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    node_hand_over(site->node);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, is_handed_over, site));
    struct wish wish = transfer(&cluster->sites[(leader + 1) % 3], site);
    cr_assert_eq(wish.transfer.report.to, site->id);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_not(leads_any(site));
    cluster_destroy(cluster);
}

Test(node_hand_over, alone_or_unheard_it_does_not_wait_for_ever)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[cluster_form(cluster)];
    node_hand_over(site->node);
    cr_assert(node_is_handed_over(site->node));
    cr_assert_eq(site_put(site, "k", "v", NULL), TL_OK);
    cluster_destroy(cluster);

    cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    site = &cluster->sites[leader];
    for (uint32_t i = 1; i < 3; i++) cluster->sites[(leader + i) % 3].is_mute = true;
    uint64_t began_ns = cluster->now_ns;
    node_hand_over(site->node);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, is_handed_over, site));
    cr_assert_leq(cluster->now_ns - began_ns, NODE_HAND_OVER_MAX_NS + CLUSTER_MS);
    cluster_destroy(cluster);
}

Test(node_hand_over, a_draining_node_refuses_at_once_and_its_peers_writes_go_elsewhere)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct effort effort;
    struct site *other = &cluster->sites[(leader + 1) % 3];
    cr_assert_eq(effort_start(&effort, other, effort_entry("k", "v", false, 0, 0), 5 * CLUSTER_S),
                 TL_OK);
    node_turn(other->node); /* on its way to a leader that drains when it comes */
    node_hand_over(site->node);
    node_drain(site->node);
    struct wish wish;
    cr_assert_eq(wish_try_start(&wish, site, NULL), TL_ERR_STOPPING);
    struct effort late;
    struct buf *entry = effort_entry("l", "v", false, 0, 0);
    cr_assert_eq(effort_start(&late, site, entry, CLUSTER_S), TL_ERR_STOPPING);
    buf_release(entry);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, effort_is_over, &effort));
    cr_assert_eq(effort.err, TL_OK, "%s", tl_err_text(effort.err));
    cr_assert_neq(cluster_await_leader(cluster), leader);
    cluster_destroy(cluster);
}

/* ---- disks that hang ---- */

static bool has_other_leader(void *context)
{
    struct site *site = context;
    uint32_t leader = cluster_leader(site->cluster);
    return leader != CLUSTER_NONE && leader != site->place;
}

static void hang(struct cluster *cluster, uint32_t place, struct effort *effort)
{
    cluster->sites[place].holds_log = true;
    struct buf *entry = effort_entry("hung", "v", false, 0, 0);
    cr_assert_eq(effort_start(effort, &cluster->sites[place], entry, 30 * CLUSTER_S), TL_OK);
}

Test(node_disk, a_leader_whose_disk_hangs_hands_over_and_its_write_is_answered_later)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct effort effort;
    hang(cluster, leader, &effort);
    uint64_t began_ns = cluster->now_ns;
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, has_other_leader, site), "it leads on");
    cr_assert_gt(cluster->now_ns - began_ns, NODE_LOG_COMMIT_SLOW_NS);
    cr_assert_lt(cluster->now_ns - began_ns, 2 * CLUSTER_S);
    cr_assert_eq(site_put(&cluster->sites[(leader + 1) % 3], "k", "v", NULL), TL_OK);
    cluster_pass(cluster, 3 * CLUSTER_S);
    site->holds_log = false;
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, effort_is_over, &effort));
    cr_assert_eq(effort.err, TL_OK, "%s", tl_err_text(effort.err));
    cluster_destroy(cluster);
}

Test(node_disk, when_all_hang_together_leadership_stays_and_nothing_fails)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    uint64_t term = term_of(&cluster->sites[leader]);
    for (uint32_t i = 0; i < 3; i++) cluster->sites[i].holds_log = true;
    struct effort effort;
    hang(cluster, leader, &effort);
    cluster_pass(cluster, 700 * CLUSTER_MS);
    for (uint32_t i = 0; i < 3; i++) cluster->sites[i].holds_log = false;
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, effort_is_over, &effort));
    cr_assert_eq(effort.err, TL_OK, "%s", tl_err_text(effort.err));
    cr_assert_eq(cluster_leader(cluster), leader);
    cr_assert_eq(term_of(&cluster->sites[leader]), term);
    cluster_destroy(cluster);
}

Test(node_disk, a_follower_whose_disk_hangs_does_not_campaign)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *stalled = &cluster->sites[(leader + 1) % 3];
    struct effort effort;
    stalled->holds_log = true;
    cr_assert_eq(effort_start(&effort, &cluster->sites[leader], effort_entry("k", "v", false, 0, 0),
                              5 * CLUSTER_S),
                 TL_OK);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, effort_is_over, &effort));
    cr_assert_eq(effort.err, TL_OK);
    cluster_pass(cluster, CLUSTER_S);
    site_kill(&cluster->sites[leader]);
    cluster_pass(cluster, 3 * CLUSTER_S);
    struct node_group_status status;
    site_status(stalled, &status);
    cr_assert_eq(status.raft.role, RAFT_FOLLOWER);
    cr_assert_eq(status.raft.elections_started_count, 0);
    cluster_destroy(cluster);
}

Test(node_disk, the_age_of_a_hanging_commit_is_told_everywhere)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *stalled = &cluster->sites[(leader + 1) % 3];
    stalled->holds_log = true;
    cr_assert_eq(site_put(&cluster->sites[leader], "k", "v", NULL), TL_OK);
    cluster_pass(cluster, 800 * CLUSTER_MS);
    struct node_status status;
    node_get_status(stalled->node, &status);
    cr_assert(status.is_log_commit_slow);
    cr_assert_gt(status.log_commit_age_ms, 500);
    cr_assert_eq(node_get_metrics(stalled->node)->log_commits_slow_count, 1);
    node_get_status(cluster->sites[leader].node, &status);
    cr_assert_not(status.is_log_commit_slow);
    bool is_told = false;
    for (uint32_t i = 0; i < status.members_count; i++) {
        bool is_it = store_id_raft(&status.members[i].store_id) == stalled->id;
        if (is_it) is_told = status.member_log_commit_age_ms[i] > 500;
        if (!is_it) cr_assert_lt(status.member_log_commit_age_ms[i], 100);
    }
    cr_assert(is_told);
    stalled->holds_log = false;
    cluster_pass(cluster, CLUSTER_S);
    node_get_status(stalled->node, &status);
    cr_assert_not(status.is_log_commit_slow);
    cr_assert_eq(node_get_metrics(stalled->node)->log_commits_slow_count, 1);
    cluster_destroy(cluster);
}
