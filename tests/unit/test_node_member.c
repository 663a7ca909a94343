/* node: members come, go, and come back with empty disks. */

#include <criterion/criterion.h>
#include <stdio.h>

#include "node_cluster.h"

/* ---- what is asked of a cluster ---- */

static void join_through(struct site *site, const struct site *through)
{
    static struct member rooms[CLUSTER_SITES][2];
    struct member *members = rooms[site->place];
    memcpy(members[0].address, site->address, sizeof site->address);
    memcpy(members[0].peer_address, site->peer_address, sizeof site->peer_address);
    memcpy(members[1].address, through->address, sizeof through->address);
    memcpy(members[1].peer_address, through->peer_address, sizeof through->peer_address);
    site->options.view = &members[0];
    site->options.view_count = 1;
    site->options.join = &members[1];
}

static struct raft_conf conf_of(struct site *site, raft_group group)
{
    struct node_group_status status;
    node_get_group_status(site->node, group, &status);
    return status.raft.is_conf_committed ? status.raft.conf : (struct raft_conf){.voters_count = 0};
}

/* Whether exactly these sites vote in both groups, nobody learns, nothing is joint, and the
 * placement holds no others, as each of them sees it. */
struct wish {
    struct cluster *cluster;
    uint32_t places[CLUSTER_SITES];
    uint32_t count;
};

static bool is_in(const struct node_status *status)
{
    return status->members_count > 0;
}

static bool is_conf_as_wished(const struct wish *wish, const struct raft_conf *conf)
{
    if (conf->voters_count != wish->count || conf->learners_count > 0) return false;
    if (conf->outgoing_count > 0) return false;
    for (uint32_t i = 0; i < wish->count; i++) {
        const struct site *site = &wish->cluster->sites[wish->places[i]];
        if (!raft_conf_is_voter(conf, site->id)) return false;
    }
    return true;
}

static bool is_as_wished(void *context)
{
    const struct wish *wish = context;
    for (uint32_t i = 0; i < wish->count; i++) {
        struct site *site = &wish->cluster->sites[wish->places[i]];
        if (site->node == NULL) continue;
        struct node_status status;
        node_get_status(site->node, &status);
        if (!is_in(&status) || status.members_count != wish->count) return false;
        for (raft_group group = 0; group < status.groups_count; group++) {
            struct raft_conf conf = conf_of(site, group);
            if (!is_conf_as_wished(wish, &conf)) return false;
        }
    }
    return true;
}

static bool comes_true(const struct wish *wish, uint64_t span_ns)
{
    return cluster_run(wish->cluster, span_ns, is_as_wished, (void *)wish);
}

struct request {
    struct node_change change;
    uint32_t calls_count;
    enum tl_err err;
};

static void on_change_done(struct node_change *change, enum tl_err err)
{
    struct request *request = change->context;
    request->calls_count++;
    request->err = err;
}

static bool request_is_over(void *context)
{
    return ((struct request *)context)->calls_count > 0;
}

static void request_start(struct request *request, struct site *site, enum node_change_kind kind,
                          const struct site *about, bool is_dry_run)
{
    *request = (struct request){.err = TL_OK};
    request->change = (struct node_change){
        .kind = kind,
        .is_dry_run = is_dry_run,
        .deadline_ns = site->cluster->now_ns + 5 * CLUSTER_S,
        .on_done = on_change_done,
        .context = request,
    };
    snprintf(request->change.address, ADDRESS_BYTES_MAX, "%s", about->address);
    snprintf(request->change.peer_address, ADDRESS_BYTES_MAX, "%s", about->peer_address);
    cr_assert_eq(node_change(site->node, &request->change), TL_OK);
}

static struct node_change_report change(struct site *site, enum node_change_kind kind,
                                        const struct site *about, bool is_dry_run)
{
    struct request request;
    request_start(&request, site, kind, about, is_dry_run);
    cr_assert(cluster_run(site->cluster, 10 * CLUSTER_S, request_is_over, &request), "it hangs");
    cr_assert_eq(request.err, TL_OK, "%s", tl_err_text(request.err));
    return request.change.report;
}

static void put_many(struct site *site, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        char key[32];
        snprintf(key, sizeof key, "key-%u", i);
        cr_assert_eq(site_put(site, key, key, NULL), TL_OK);
    }
}

static void expect_many(struct site *site, uint32_t count)
{
    cluster_pass(site->cluster, CLUSTER_S);
    for (uint32_t i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof key, "key-%u", i);
        cr_assert_str_eq(site_get(site, key), key);
    }
}

static struct cluster *formed(void)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    return cluster;
}

/* ---- coming ---- */

Test(node_member, a_node_that_joins_gets_everything_and_votes)
{
    struct cluster *cluster = formed();
    put_many(&cluster->sites[0], 0, 50);
    join_through(&cluster->sites[3], &cluster->sites[1]);
    site_start(&cluster->sites[3]);
    const struct wish four = {.cluster = cluster, .places = {0, 1, 2, 3}, .count = 4};
    cr_assert(comes_true(&four, 10 * CLUSTER_S));
    join_through(&cluster->sites[4], &cluster->sites[3]);
    site_start(&cluster->sites[4]);
    const struct wish five = {.cluster = cluster, .places = {0, 1, 2, 3, 4}, .count = 5};
    cr_assert(comes_true(&five, 10 * CLUSTER_S));
    expect_many(&cluster->sites[4], 50);
    cr_assert(cluster_is_ready(cluster));
    cluster_destroy(cluster);
}

/* Its log begins with a snapshot, and so do the members and the configuration it knows. */
Test(node_member, a_node_that_joins_what_the_log_no_longer_tells_gets_a_snapshot)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) {
        struct node_options *options = &cluster->sites[i].options;
        options->log_retain_bytes = 0;
        options->log_cache_bytes = 1;
        options->generation_age_ns = 20 * CLUSTER_MS;
        options->snapshot_chunk_bytes = 1024;
    }
    cluster_form(cluster);
    for (uint32_t round = 0; round < 8; round++) {
        put_many(&cluster->sites[0], round * 50, 50);
        cluster_pass(cluster, 100 * CLUSTER_MS);
    }
    for (uint32_t place = 3; place < 5; place++) {
        struct site *newcomer = &cluster->sites[place];
        join_through(newcomer, &cluster->sites[1]);
        site_start(newcomer);
        struct wish all = {.cluster = cluster, .places = {0, 1, 2, 3, 4}, .count = place + 1};
        cr_assert(comes_true(&all, 20 * CLUSTER_S));
        cr_assert_geq(node_get_metrics(newcomer->node)->snapshots_installed_count, 1);
        expect_many(newcomer, 400);
        site_kill(newcomer);
        site_start(newcomer);
        cr_assert(comes_true(&all, 20 * CLUSTER_S));
    }
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, cluster_is_ready, cluster));
    cluster_destroy(cluster);
}

Test(node_member, a_node_that_joins_and_dies_at_once_goes_on_where_it_was)
{
    struct cluster *cluster = formed();
    put_many(&cluster->sites[0], 0, 20);
    join_through(&cluster->sites[3], &cluster->sites[1]);
    const struct wish four = {.cluster = cluster, .places = {0, 1, 2, 3}, .count = 4};
    for (uint32_t i = 0; i < 40 && !is_as_wished((void *)&four); i++) {
        site_start(&cluster->sites[3]);
        cluster_pass(cluster, (i + 1) * 20 * CLUSTER_MS);
        site_kill(&cluster->sites[3]);
    }
    site_start(&cluster->sites[3]);
    cr_assert(comes_true(&four, 10 * CLUSTER_S));
    expect_many(&cluster->sites[3], 20);
    cluster_destroy(cluster);
}

/* The change is asked of a node that is down: whoever leads derives it anew. */
Test(node_member, changes_go_on_through_restarts_of_everyone)
{
    struct cluster *cluster = formed();
    join_through(&cluster->sites[3], &cluster->sites[0]);
    site_start(&cluster->sites[3]);
    const struct wish four = {.cluster = cluster, .places = {0, 1, 2, 3}, .count = 4};
    for (uint32_t i = 0; i < 60 && !is_as_wished((void *)&four); i++) {
        cluster_pass(cluster, (i + 1) * 15 * CLUSTER_MS);
        for (uint32_t k = 0; k < 4; k++) {
            if ((i + k) % 4 != 0) site_kill(&cluster->sites[k]);
        }
        for (uint32_t k = 0; k < 4; k++) {
            if (cluster->sites[k].node == NULL) site_start(&cluster->sites[k]);
        }
    }
    cr_assert(comes_true(&four, 20 * CLUSTER_S));
    cluster_destroy(cluster);
}

/* The configuration in the log of the one that was alone names a newcomer, without whom nothing can
 * be committed any more: who that is must be found again after a crash at any moment. */
static void grow_to_two_and_crash(uint64_t after_ns, bool is_all)
{
    struct cluster *cluster = cluster_create(1);
    cluster_form(cluster);
    join_through(&cluster->sites[1], &cluster->sites[0]);
    site_start(&cluster->sites[1]);
    cluster_pass(cluster, after_ns);
    site_kill(&cluster->sites[0]);
    if (is_all) {
        site_kill(&cluster->sites[1]);
        site_start(&cluster->sites[1]);
    }
    site_start(&cluster->sites[0]);
    const struct wish two = {.cluster = cluster, .places = {0, 1}, .count = 2};
    cr_assert(comes_true(&two, 20 * CLUSTER_S), "after %llu ms, %s",
              (unsigned long long)(after_ns / CLUSTER_MS), is_all ? "both" : "the first");
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, cluster_is_ready, cluster));
    cluster_destroy(cluster);
}

Test(node_member, one_becomes_two_whatever_crashes_when)
{
    for (uint32_t i = 1; i <= 25; i++) {
        grow_to_two_and_crash(i * 20 * CLUSTER_MS, false);
        grow_to_two_and_crash(i * 20 * CLUSTER_MS, true);
    }
    grow_to_two_and_crash(2 * CLUSTER_S, false);
    grow_to_two_and_crash(2 * CLUSTER_S, true);
}

Test(node_member, an_operator_adds_a_node_that_waits)
{
    struct cluster *cluster = formed();
    struct site *newcomer = &cluster->sites[3];
    join_through(newcomer, &cluster->sites[4]); /* nobody is there */
    site_start(newcomer);
    cluster_pass(cluster, CLUSTER_S);
    struct node_change_report report = change(&cluster->sites[1], NODE_CHANGE_ADD, newcomer, true);
    cr_assert(report.is_changed);
    cr_assert_eq(report.can_lose_before, 1);
    cr_assert_eq(report.can_lose_after, 1);
    cluster_pass(cluster, 2 * CLUSTER_S);
    cr_assert_eq(conf_of(&cluster->sites[0], 0).voters_count, 3, "it was only asked about");
    report = change(&cluster->sites[1], NODE_CHANGE_ADD, newcomer, false);
    cr_assert(report.is_changed);
    cr_assert_eq(report.epoch, 1);
    const struct wish four = {.cluster = cluster, .places = {0, 1, 2, 3}, .count = 4};
    cr_assert(comes_true(&four, 10 * CLUSTER_S));
    report = change(&cluster->sites[2], NODE_CHANGE_ADD, newcomer, false);
    cr_assert_not(report.is_changed, "it is so already");
    cr_assert_null(report.refusal);
    cluster_destroy(cluster);
}

Test(node_member, adding_who_does_not_answer_is_refused)
{
    struct cluster *cluster = formed();
    struct node_change_report report =
        change(&cluster->sites[1], NODE_CHANGE_ADD, &cluster->sites[4], false);
    cr_assert_not(report.is_changed);
    cr_assert_str_eq(report.refusal_code, "no_answer");
    cr_assert_eq(report.can_lose_before, 1, "as it is");
    cr_assert_eq(report.can_lose_after, 1);
    cr_assert(change(&cluster->sites[1], NODE_CHANGE_REMOVE, &cluster->sites[2], false).is_changed);
    report = change(&cluster->sites[1], NODE_CHANGE_ADD, &cluster->sites[4], true);
    cr_assert_str_eq(report.refusal_code, "no_answer");
    cr_assert_geq(report.epoch, 1);
    cr_assert_eq(report.can_lose_before, 0);
    cluster_destroy(cluster);
}

Test(node_member, a_voter_under_another_peer_port_is_refused)
{
    struct cluster *cluster = formed();
    struct site about = {.address = ""};
    memcpy(about.address, cluster->sites[2].address, sizeof about.address);
    snprintf(about.peer_address, sizeof about.peer_address, "127.0.0.1:7");
    struct node_change_report report = change(&cluster->sites[1], NODE_CHANGE_ADD, &about, false);
    cr_assert_not(report.is_changed);
    cr_assert_str_eq(report.refusal_code, "other_peer_port");
    cr_assert_eq(report.can_lose_after, 1);
    report = change(&cluster->sites[1], NODE_CHANGE_ADD, &cluster->sites[2], false);
    cr_assert_null(report.refusal_code, "it is so already");
    cluster_destroy(cluster);
}

Test(node_member, adding_a_member_of_another_cluster_is_refused)
{
    struct cluster *cluster = formed();
    struct site *other = &cluster->sites[4];
    join_through(other, &cluster->sites[0]);
    other->options.join = NULL;
    site_start(other);
    cluster_pass(cluster, CLUSTER_S);
    struct node_change_report report = change(&cluster->sites[1], NODE_CHANGE_ADD, other, false);
    cr_assert_str_eq(report.refusal_code, "other_cluster");
    cluster_destroy(cluster);
}

/* Whether its id is remembered or not: it says itself that it was of this cluster. */
Test(node_member, adding_a_store_of_this_cluster_that_is_no_member_is_refused)
{
    struct cluster *cluster = formed();
    struct site *gone = &cluster->sites[2];
    cluster_isolate(cluster, 2);
    cr_assert(change(&cluster->sites[0], NODE_CHANGE_REMOVE, gone, false).is_changed);
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert_eq(gone->exit_code, 0, "it has not heard of it");
    cluster_heal(cluster);
    struct node_change_report report = change(&cluster->sites[0], NODE_CHANGE_ADD, gone, false);
    cr_assert_str_eq(report.refusal_code, "store_removed");
    cluster_destroy(cluster);
}

/* ---- going ---- */

static void expect_removal_of(struct cluster *cluster, uint32_t place)
{
    struct site *asked = &cluster->sites[(place + 1) % CLUSTER_NODES];
    struct wish two = {.cluster = cluster, .count = 0};
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        if (i != place) two.places[two.count++] = i;
    }
    struct node_change_report report =
        change(asked, NODE_CHANGE_REMOVE, &cluster->sites[place], false);
    cr_assert(report.is_changed, "%s", report.refusal);
    cr_assert_eq(report.can_lose_before, 1);
    cr_assert_eq(report.can_lose_after, 0);
    cr_assert(comes_true(&two, 10 * CLUSTER_S));
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert_eq(cluster->sites[place].exit_code, 3, "the removed node ends");
    cr_assert_eq(site_put(asked, "after", "1", NULL), TL_OK);
    site_kill(&cluster->sites[place]);
    enum tl_err err = site_try_start(&cluster->sites[place]);
    if (err == TL_OK) {
        cluster_pass(cluster, 5 * CLUSTER_S);
        cr_assert_eq(cluster->sites[place].exit_code, 3, "and again");
    } else {
        cr_assert_eq(err, TL_ERR_FOREIGN);
    }
}

Test(node_member, a_follower_is_removed)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    expect_removal_of(cluster, (cluster_form(cluster) + 1) % CLUSTER_NODES);
    cluster_destroy(cluster);
}

Test(node_member, the_leader_is_removed_and_writes_go_on)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    expect_removal_of(cluster, cluster_form(cluster));
    cluster_destroy(cluster);
}

Test(node_member, a_removal_that_would_lose_the_quorum_is_refused)
{
    struct cluster *cluster = formed();
    site_kill(&cluster->sites[2]);
    cluster_await_leader(cluster);
    struct node_change_report report =
        change(&cluster->sites[0], NODE_CHANGE_REMOVE, &cluster->sites[1], true);
    cr_assert_str_eq(report.refusal_code, "would_lose_quorum");
    cr_assert_eq(report.can_lose_before, 0);
    cr_assert_eq(report.can_lose_after, -1);
    report = change(&cluster->sites[0], NODE_CHANGE_REMOVE, &cluster->sites[1], false);
    cr_assert_str_eq(report.refusal_code, "would_lose_quorum");
    cr_assert_not(report.is_changed);
    report = change(&cluster->sites[0], NODE_CHANGE_REMOVE, &cluster->sites[2], false);
    cr_assert(report.is_changed, "the dead one can go");
    const struct wish two = {.cluster = cluster, .places = {0, 1}, .count = 2};
    cr_assert(comes_true(&two, 10 * CLUSTER_S));
    cluster_destroy(cluster);
}

/* They are to vote, and do not yet: the one that is left is a majority of those that do. */
Test(node_member, those_that_were_added_and_never_came_can_be_removed)
{
    struct cluster *cluster = cluster_create(1);
    cluster_form(cluster);
    struct site *first = &cluster->sites[0];
    for (uint32_t i = 1; i < 3; i++) {
        join_through(&cluster->sites[i], first);
        cluster->sites[i].is_raft_mute = true;
        site_start(&cluster->sites[i]);
        cluster_pass(cluster, 2 * CLUSTER_S);
    }
    for (uint32_t i = 1; i < 3; i++) site_kill(&cluster->sites[i]);
    cr_assert_eq(conf_of(first, 0).voters_count, 1);
    struct node_change_report report = change(first, NODE_CHANGE_REMOVE, first, true);
    cr_assert_str_eq(report.refusal_code, "would_lose_quorum");
    for (uint32_t i = 1; i < 3; i++) {
        report = change(first, NODE_CHANGE_REMOVE, &cluster->sites[i], false);
        cr_assert(report.is_changed, "%s", report.refusal);
    }
    const struct wish one = {.cluster = cluster, .places = {0}, .count = 1};
    cr_assert(comes_true(&one, 10 * CLUSTER_S));
    cluster_destroy(cluster);
}

Test(node_member, removing_again_changes_nothing)
{
    struct cluster *cluster = formed();
    cr_assert(change(&cluster->sites[0], NODE_CHANGE_REMOVE, &cluster->sites[2], false).is_changed);
    struct node_change_report report =
        change(&cluster->sites[1], NODE_CHANGE_REMOVE, &cluster->sites[2], false);
    cr_assert_not(report.is_changed);
    cr_assert_null(report.refusal);
    cluster_pass(cluster, 5 * CLUSTER_S);
    report = change(&cluster->sites[1], NODE_CHANGE_REMOVE, &cluster->sites[2], false);
    cr_assert_not(report.is_changed);
    cr_assert_null(report.refusal);
    cluster_destroy(cluster);
}

Test(node_member, the_last_voter_cannot_be_removed)
{
    struct cluster *cluster = cluster_create(1);
    cluster_form(cluster);
    struct node_change_report report =
        change(&cluster->sites[0], NODE_CHANGE_REMOVE, &cluster->sites[0], false);
    cr_assert_str_eq(report.refusal_code, "last_voter");
    cluster_destroy(cluster);
}

Test(node_member, a_node_that_was_away_while_it_was_removed_hears_of_it)
{
    struct cluster *cluster = formed();
    site_kill(&cluster->sites[2]);
    cluster_await_leader(cluster);
    cr_assert(change(&cluster->sites[0], NODE_CHANGE_REMOVE, &cluster->sites[2], false).is_changed);
    cluster_pass(cluster, 5 * CLUSTER_S);
    site_start(&cluster->sites[2]);
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert_eq(cluster->sites[2].exit_code, 3);
    cluster_destroy(cluster);
}

/* It knows none of the present members' stores, and one address. */
static bool knows_four(void *context)
{
    const struct site *site = context;
    struct node_status status;
    node_get_status(site->node, &status);
    return status.members_count == 4;
}

static bool is_member(void *context)
{
    struct node_status status;
    node_get_status(((struct site *)context)->node, &status);
    return is_in(&status);
}

/* All that its disk names are those who formed the cluster, and none of them answers. */
Test(node_member, a_node_whose_members_have_all_gone_asks_whom_it_is_to_join)
{
    struct cluster *cluster = formed();
    struct site *last = &cluster->sites[3];
    struct site *away = &cluster->sites[4];
    join_through(last, &cluster->sites[0]);
    site_start(last);
    const struct wish four = {.cluster = cluster, .places = {0, 1, 2, 3}, .count = 4};
    cr_assert(comes_true(&four, 10 * CLUSTER_S));
    join_through(away, last);
    site_start(away);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, is_member, away));
    site_kill(away);
    const uint32_t leaving[] = {4, 0, 1};
    for (uint32_t i = 0; i < TL_COUNT_OF(leaving); i++) {
        struct site *site = &cluster->sites[leaving[i]];
        struct node_change_report report = change(last, NODE_CHANGE_REMOVE, site, false);
        cr_assert(report.is_changed, "%s", report.refusal);
        cluster_pass(cluster, 10 * CLUSTER_S);
        if (site->node != NULL) site_kill(site);
    }
    site_kill(&cluster->sites[2]);
    site_start(away);
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert_eq(away->exit_code, 3, "it was removed, and has not heard it");
    cluster_destroy(cluster);
}

/* Nobody leads: the newcomer may need the vote of one that has not heard of it. */
Test(node_member, a_member_without_a_leader_tells_whom_it_asks_who_the_members_are)
{
    struct cluster *cluster = formed();
    struct site *away = &cluster->sites[2];
    cluster_isolate(cluster, 2);
    join_through(&cluster->sites[3], &cluster->sites[0]);
    site_start(&cluster->sites[3]);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, knows_four, &cluster->sites[3]));
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_not(knows_four(away));
    site_kill(&cluster->sites[0]);
    site_kill(&cluster->sites[1]);
    cluster_heal(cluster);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, knows_four, away));
    cluster_destroy(cluster);
}

Test(node_member, a_node_that_was_away_while_the_others_changed_finds_them)
{
    struct cluster *cluster = formed();
    site_kill(&cluster->sites[2]);
    cluster_await_leader(cluster);
    for (uint32_t i = 3; i < 5; i++) {
        join_through(&cluster->sites[i], &cluster->sites[0]);
        site_start(&cluster->sites[i]);
    }
    const struct wish five = {.cluster = cluster, .places = {0, 1, 2, 3, 4}, .count = 5};
    cr_assert(comes_true(&five, 10 * CLUSTER_S));
    for (uint32_t i = 0; i < 2; i++) {
        struct node_change_report report =
            change(&cluster->sites[4], NODE_CHANGE_REMOVE, &cluster->sites[i], false);
        cr_assert(report.is_changed, "%s", report.refusal);
        cluster_pass(cluster, 10 * CLUSTER_S);
        site_kill(&cluster->sites[i]);
    }
    site_start(&cluster->sites[2]);
    const struct wish three = {.cluster = cluster, .places = {2, 3, 4}, .count = 3};
    cr_assert(comes_true(&three, 10 * CLUSTER_S));
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, cluster_is_ready, cluster));
    cluster_destroy(cluster);
}

/* ---- coming back empty ---- */

static void empty(struct site *site)
{
    site_kill(site);
    site_empty_disk(site);
    site_start(site);
}

Test(node_member, an_emptied_disk_takes_its_seat_after_ten_seconds)
{
    struct cluster *cluster = formed();
    put_many(&cluster->sites[0], 0, 30);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct site *site = &cluster->sites[i];
        raft_id old = site->id;
        empty(site);
        cluster_pass(cluster, 8 * CLUSTER_S);
        struct site *other = &cluster->sites[(i + 1) % CLUSTER_NODES];
        struct raft_conf conf = conf_of(other, 1);
        cr_assert(raft_conf_is_voter(&conf, old), "the seat is its store's still");
        cr_assert_not(raft_conf_is_voter(&conf, site->id));
        cr_assert(raft_conf_is_member(&conf, site->id), "it learns meanwhile");
        const struct wish three = {.cluster = cluster, .places = {0, 1, 2}, .count = 3};
        cr_assert(comes_true(&three, 10 * CLUSTER_S), "site %u", i);
        expect_many(site, 30);
    }
    cluster_destroy(cluster);
}

static const char *waits_for(struct site *site)
{
    static struct node_status status;
    node_get_status(site->node, &status);
    return status.waits_for;
}

/* Each would displace the one before it, for as long as new ones come. */
Test(node_member, a_store_that_came_for_a_seat_is_not_replaced_for_ten_seconds)
{
    struct cluster *cluster = formed();
    struct site *site = &cluster->sites[2];
    empty(site);
    cluster_pass(cluster, 2 * CLUSTER_S);
    raft_id first = site->id;
    for (uint32_t i = 0; i < 3; i++) {
        empty(site);
        cluster_pass(cluster, 2 * CLUSTER_S);
        cr_assert_neq(site->id, first);
        struct raft_conf conf = conf_of(&cluster->sites[0], 0);
        cr_assert(raft_conf_is_member(&conf, first));
        cr_assert_not(raft_conf_is_member(&conf, site->id));
        cr_assert_not_null(strstr(waits_for(site), "is alive"), "%s", waits_for(site));
    }
    const struct wish three = {.cluster = cluster, .places = {0, 1, 2}, .count = 3};
    cr_assert(comes_true(&three, 20 * CLUSTER_S));
    cluster_destroy(cluster);
}

Test(node_member, a_disk_emptied_twice_takes_its_seat_too)
{
    struct cluster *cluster = formed();
    put_many(&cluster->sites[0], 0, 30);
    for (uint32_t i = 0; i < 4; i++) {
        empty(&cluster->sites[2]);
        cluster_pass(cluster, (i + 1) * 500 * CLUSTER_MS);
    }
    const struct wish three = {.cluster = cluster, .places = {0, 1, 2}, .count = 3};
    cr_assert(comes_true(&three, 20 * CLUSTER_S));
    expect_many(&cluster->sites[2], 30);
    cluster_destroy(cluster);
}

Test(node_member, one_of_two_voters_cannot_be_replaced_and_is_told_so)
{
    struct cluster *cluster = cluster_create(2);
    cluster_form(cluster);
    empty(&cluster->sites[1]);
    cluster_pass(cluster, 15 * CLUSTER_S);
    cr_assert_not_null(strstr(waits_for(&cluster->sites[1]), "two voters"), "%s",
                       waits_for(&cluster->sites[1]));
    cluster_destroy(cluster);
}

/* It was to be one of two voters, and does not vote yet: the other alone is the quorum. */
Test(node_member, a_disk_emptied_before_it_voted_is_replaced)
{
    struct cluster *cluster = cluster_create(1);
    cluster_form(cluster);
    struct site *first = &cluster->sites[0];
    struct site *site = &cluster->sites[1];
    join_through(site, first);
    site->is_raft_mute = true; /* so that it does not catch up */
    site_start(site);
    cluster_pass(cluster, 2 * CLUSTER_S);
    struct raft_conf conf = conf_of(first, 0);
    cr_assert(raft_conf_is_member(&conf, site->id));
    cr_assert_eq(conf.voters_count, 1);
    site->is_raft_mute = false;
    empty(site);
    const struct wish two = {.cluster = cluster, .places = {0, 1}, .count = 2};
    cr_assert(comes_true(&two, 20 * CLUSTER_S), "%s", waits_for(site));
    cluster_destroy(cluster);
}

static bool has_two_voters(void *context)
{
    return conf_of(context, NODE_DATA_GROUP).voters_count == 2;
}

/* The data group has the two voters already that group 0 is to have. */
Test(node_member, a_disk_emptied_when_it_voted_in_one_group_cannot_be_replaced_and_is_told_so)
{
    struct cluster *cluster = cluster_create(1);
    cluster_form(cluster);
    struct site *first = &cluster->sites[0];
    struct site *site = &cluster->sites[1];
    join_through(site, first);
    site_start(site);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, has_two_voters, first));
    cr_assert_eq(conf_of(first, 0).voters_count, 1);
    empty(site);
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert_not_null(strstr(waits_for(site), "two voters"), "%s", waits_for(site));
    cluster_destroy(cluster);
}

Test(node_member, two_emptied_disks_form_nothing)
{
    struct cluster *cluster = formed();
    put_many(&cluster->sites[0], 0, 10);
    cluster_pass(cluster, 6 * CLUSTER_S); /* flushed */
    site_kill(&cluster->sites[0]);
    empty(&cluster->sites[1]);
    empty(&cluster->sites[2]);
    cluster_pass(cluster, 15 * CLUSTER_S);
    for (uint32_t i = 1; i < 3; i++) {
        struct node_status status;
        node_get_status(cluster->sites[i].node, &status);
        cr_assert_not(is_in(&status));
    }
    site_start(&cluster->sites[0]);
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert_not_null(strstr(waits_for(&cluster->sites[1]), "has no leader"), "%s",
                       waits_for(&cluster->sites[1]));
    expect_many(&cluster->sites[0], 10);
    cluster_destroy(cluster);
}

Test(node_member, a_second_store_under_a_live_address_is_refused)
{
    struct cluster *cluster = formed();
    struct site *second = &cluster->sites[4];
    join_through(second, &cluster->sites[0]);
    memcpy(second->address, cluster->sites[2].address, sizeof second->address);
    struct member view = {.address = ""};
    memcpy(view.address, second->address, sizeof second->address);
    memcpy(view.peer_address, cluster->sites[2].peer_address, sizeof second->peer_address);
    second->options.view = &view;
    second->options.peer_address = cluster->sites[2].peer_address;
    site_start(second);
    cluster_pass(cluster, 15 * CLUSTER_S);
    cr_assert_not_null(strstr(waits_for(second), "is alive"), "%s", waits_for(second));
    cr_assert_eq(conf_of(&cluster->sites[0], 0).learners_count, 0);
    cluster_destroy(cluster);
}

static void copy_dir(const char *from, const char *to)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
    cr_assert_eq(system(command), 0);
}

/* `site` is killed, having acknowledged what a copy of its disk lacks. */
static void make_old_copy(struct cluster *cluster, struct site *site, uint32_t leader,
                          char copy[256])
{
    snprintf(copy, 256, "%s.copy", site->dir);
    put_many(&cluster->sites[leader], 0, 10);
    site_kill(site);
    copy_dir(site->dir, copy);
    site_start(site);
    cluster_pass(cluster, CLUSTER_S);
    put_many(&cluster->sites[leader], 10, 10);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_eq(cluster->sites[leader].exit_code, 0);
    cr_assert_eq(site->exit_code, 0, "its own disk is taken");
    site_kill(site);
}

static void expect_refusal(struct cluster *cluster, struct site *site)
{
    site_start(site);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_eq(site->exit_code, 3);
    cr_assert_not_null(strstr(site->fault.reason, "an old copy"));
    site_kill(site);
}

Test(node_member, an_old_copy_of_a_disk_is_refused)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    char copy[256];
    make_old_copy(cluster, site, leader, copy);
    copy_dir(copy, site->dir);
    expect_refusal(cluster, site);
    cr_assert_eq(site_try_start(site), TL_ERR_FOREIGN, "and again");
    site_empty_disk(site);
    site_start(site);
    const struct wish three = {.cluster = cluster, .places = {0, 1, 2}, .count = 3};
    cr_assert(comes_true(&three, 20 * CLUSTER_S));
    expect_many(site, 20);
    cluster_destroy(cluster);
}

static void on_transferred(struct node_leader_transfer *transfer, enum tl_err err)
{
    cr_assert_eq(err, TL_OK);
    cr_assert_null(transfer->report.refusal_code);
}

/* Whom it acknowledged to still knows, whoever leads now. */
Test(node_member, an_old_copy_of_a_disk_is_refused_after_leadership_has_moved)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t first = cluster_form(cluster);
    uint32_t other = (first + 2) % CLUSTER_NODES;
    struct site *site = &cluster->sites[(first + 1) % CLUSTER_NODES];
    char copy[256];
    make_old_copy(cluster, site, first, copy);
    struct node_leader_transfer transfer = {.group = NODE_DATA_GROUP,
                                            .deadline_ns = cluster->now_ns + 5 * CLUSTER_S,
                                            .on_done = on_transferred};
    memcpy(transfer.address, cluster->sites[other].address, sizeof cluster->sites[other].address);
    cr_assert_eq(node_leader_transfer(cluster->sites[first].node, &transfer), TL_OK);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_eq(cluster_await_leader(cluster), other);
    copy_dir(copy, site->dir);
    expect_refusal(cluster, site);
    cluster_destroy(cluster);
}

/* A broken connection between two processes that live on makes nobody forget. */
Test(node_member, an_old_copy_of_a_disk_is_refused_after_a_connection_was_lost)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    uint32_t number = (leader + 1) % CLUSTER_NODES;
    struct site *site = &cluster->sites[number];
    cluster_flap(cluster, leader, number, PEER_CLASS_RAFT);
    char copy[256];
    snprintf(copy, sizeof copy, "%s.copy", site->dir);
    copy_dir(site->dir, copy);
    put_many(&cluster->sites[leader], 0, 10);
    cluster_pass(cluster, CLUSTER_S);
    site_kill(site);
    copy_dir(copy, site->dir);
    expect_refusal(cluster, site);
    cluster_destroy(cluster);
}

/* Or takes over a term that it had once voted in: it would vote again. */
Test(node_member, an_old_copy_of_a_disk_that_has_forgotten_a_term_is_refused)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t first = cluster_form(cluster);
    uint32_t number = (first + 1) % CLUSTER_NODES;
    struct site *site = &cluster->sites[number];
    char copy[256];
    snprintf(copy, sizeof copy, "%s.copy", site->dir);
    site_kill(site);
    copy_dir(site->dir, copy);
    site_start(site);
    uint32_t leader = first;
    for (uint32_t i = 0; i < 20 && leader == first; i++) {
        cluster_cut(cluster, first, number);
        cluster_cut(cluster, first, (first + 2) % CLUSTER_NODES);
        cluster_pass(cluster, 2 * CLUSTER_S);
        cluster_heal(cluster);
        leader = cluster_await_leader(cluster);
    }
    cr_assert_neq(leader, first);
    site_kill(site);
    copy_dir(copy, site->dir);
    expect_refusal(cluster, site);
    cluster_destroy(cluster);
}

/* Whatever is lost or late: what a process acknowledges is not held against what it began with. */
Test(node_member, a_disk_that_lost_nothing_is_never_refused)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    for (uint32_t i = 0; i < 60; i++) {
        uint32_t a = i % CLUSTER_NODES;
        uint32_t b = (i + 1 + i / 7 % 2) % CLUSTER_NODES;
        if (i % 3 == 0) {
            site_kill(&cluster->sites[a]);
            site_start(&cluster->sites[a]);
        } else if (i % 3 == 1 && cluster->is_connected[a][b]) {
            cluster_flap(cluster, a, b, (enum peer_class)(i % PEER_CLASSES_COUNT));
        } else {
            cluster_cut(cluster, a, b);
            cluster_pass(cluster, (i % 5) * 30 * CLUSTER_MS);
            cluster_heal(cluster);
        }
        cluster_pass(cluster, (i % 4) * 100 * CLUSTER_MS);
        uint32_t leader = cluster_await_leader(cluster);
        put_many(&cluster->sites[leader], 5 * i, 5);
        for (uint32_t k = 0; k < CLUSTER_NODES; k++) {
            cr_assert_eq(cluster->sites[k].exit_code, 0, "round %u", i);
        }
    }
    cluster_destroy(cluster);
}
