/* node: what a leader refuses for want of space, when it hands over, and what others are told. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "node_cluster.h"
#include "trilith/txn.h"

#define MIB (1024ull * 1024)
#define AMPLE (1024 * MIB)
#define LITTLE (100 * MIB) /* below free_bytes_min */
#define RESERVE (20 * MIB) /* below the last reserve */

static enum tl_err end_of(struct site *site, struct buf *entry)
{
    struct effort effort;
    cr_assert_eq(effort_start(&effort, site, entry, 5 * CLUSTER_S), TL_OK);
    cr_assert(cluster_run(site->cluster, 10 * CLUSTER_S, effort_is_over, &effort), "it hangs");
    return effort.err;
}

static enum tl_err delete (struct site *site, const char *key) {
    const struct command command = {.type = COMMAND_DELETE,
                                    .value_bytes_max = VALUE_BYTES_MAX,
                                    .key = bytes_of(key)};
    return end_of(site, command_encode(&command));
}

/* Reads "a", and writes or deletes "b". */
static enum tl_err transact(struct site *site, enum command_type type, enum txn_branch branch)
{
    struct txn *txn = calloc(1, sizeof *txn);
    txn->ops_count[TXN_THEN] = 1;
    txn->ops[TXN_THEN][0] = (struct txn_op){.type = COMMAND_GET, .key = bytes_of("a")};
    struct txn_op *op = &txn->ops[branch][txn->ops_count[branch]++];
    *op = (struct txn_op){.type = type, .key = bytes_of("b")};
    if (type == COMMAND_PUT) op->value = bytes_of("1");
    struct buf *body = txn_encode(txn);
    cr_assert_not_null(body);
    free(txn);
    const struct command command = {
        .type = COMMAND_TXN, .value_bytes_max = VALUE_BYTES_MAX, .value = buf_bytes(body)};
    struct buf *entry = command_encode(&command);
    buf_release(body);
    return end_of(site, entry);
}

static struct cluster *form_with(uint64_t free_bytes, uint32_t *out_leader)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) cluster->sites[i].free_bytes = free_bytes;
    *out_leader = cluster_form(cluster);
    return cluster;
}

static struct site *next_of(struct cluster *cluster, uint32_t place, uint32_t count)
{
    return &cluster->sites[(place + count) % CLUSTER_NODES];
}

static void pass(struct cluster *cluster)
{
    cluster_pass(cluster, 2 * CLUSTER_S);
}

Test(node_space, a_leader_without_room_hands_over_and_no_write_is_refused)
{
    uint32_t leader;
    struct cluster *cluster = form_with(AMPLE, &leader);
    struct site *full = &cluster->sites[leader];
    full->free_bytes = LITTLE;
    cluster_pass(cluster, 1100 * CLUSTER_MS); /* it looks once a second */
    cr_assert_neq(cluster_await_leader(cluster), leader, "it leads on");
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        cr_assert_eq(site_put(&cluster->sites[i], "a", "1", NULL), TL_OK);
    }
    struct node_status status;
    node_get_status(cluster->sites[cluster_leader(cluster)].node, &status);
    uint32_t lacks_count = 0;
    for (uint32_t i = 0; i < status.members_count; i++) {
        bool is_full = status.member_free_bytes[i] == LITTLE;
        cr_assert_eq(status.member_space_lack[i], is_full ? TL_ERR_NO_SPACE : TL_OK);
        lacks_count += is_full ? 1 : 0;
    }
    cr_assert_eq(lacks_count, 1);
    node_get_status(full->node, &status);
    cr_assert_eq(status.space_lack, TL_ERR_NO_SPACE);
    cluster_destroy(cluster);
}

Test(node_space, a_write_that_comes_in_that_moment_is_done_by_the_next_leader)
{
    uint32_t leader;
    struct cluster *cluster = form_with(AMPLE, &leader);
    struct site *full = &cluster->sites[leader];
    cluster_pass(cluster, 1100 * CLUSTER_MS);
    full->free_bytes = LITTLE;
    cluster->now_ns += CLUSTER_S; /* so that the turn with the write is the one that looks */
    cr_assert_eq(site_put(full, "a", "1", NULL), TL_OK);
    cr_assert_neq(cluster_await_leader(cluster), leader);
    cluster_destroy(cluster);
}

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

static struct wish transfer(struct site *site, const struct site *to)
{
    struct wish wish = {.err = TL_OK};
    wish.transfer = (struct node_leader_transfer){
        .group = NODE_DATA_GROUP,
        .deadline_ns = site->cluster->now_ns + 5 * CLUSTER_S,
        .on_done = on_transfer_done,
        .context = &wish,
    };
    if (to != NULL) snprintf(wish.transfer.address, ADDRESS_BYTES_MAX, "%s", to->address);
    cr_assert_eq(node_leader_transfer(site->node, &wish.transfer), TL_OK);
    cr_assert(cluster_run(site->cluster, 10 * CLUSTER_S, wish_is_over, &wish), "it hangs");
    cr_assert_eq(wish.err, TL_OK, "%s", tl_err_text(wish.err));
    return wish;
}

static void expect_refused(const struct wish *wish, const char *code)
{
    cr_assert_not(wish->transfer.report.is_changed);
    cr_assert_not_null(wish->transfer.report.refusal_code, "it is not refused");
    cr_assert_str_eq(wish->transfer.report.refusal_code, code);
}

Test(node_space, a_transfer_to_a_node_without_room_is_refused)
{
    uint32_t leader;
    struct cluster *cluster = form_with(AMPLE, &leader);
    struct site *full = next_of(cluster, leader, 1);
    struct site *other = next_of(cluster, leader, 2);
    full->free_bytes = LITTLE;
    pass(cluster);
    struct wish wish = transfer(&cluster->sites[leader], full);
    expect_refused(&wish, "no_space");
    wish = transfer(other, full); /* over the hop */
    expect_refused(&wish, "no_space");
    cr_assert_eq(cluster_await_leader(cluster), leader);
    wish = transfer(full, NULL); /* whoever can */
    cr_assert(wish.transfer.report.is_changed);
    cr_assert_eq(wish.transfer.report.to, other->id);
    cluster_destroy(cluster);
}

Test(node_space, an_older_node_hears_a_refusal_that_it_knows)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) cluster->sites[i].free_bytes = AMPLE;
    cluster->sites[1].features = 0;
    uint32_t leader = cluster_form(cluster);
    if (leader == 1) {
        struct wish wish = transfer(&cluster->sites[1], &cluster->sites[0]);
        cr_assert(wish.transfer.report.is_changed);
        leader = 0;
    }
    struct site *full = &cluster->sites[leader == 0 ? 2 : 0];
    full->free_bytes = LITTLE;
    pass(cluster);
    struct wish wish = transfer(&cluster->sites[1], full);
    expect_refused(&wish, "no_successor");
    struct node_status status;
    node_get_status(cluster->sites[leader].node, &status);
    for (uint32_t i = 0; i < status.members_count; i++) {
        if (strcmp(status.members[i].address, cluster->sites[1].address) != 0) continue;
        cr_assert_eq(status.member_free_bytes[i], UINT64_MAX, "it does not say it");
        cr_assert_eq(status.member_space_lack[i], TL_OK);
    }
    cr_assert_eq(site_put(&cluster->sites[1], "a", "1", NULL), TL_OK);
    cluster_destroy(cluster);
}

Test(node_space, when_no_quorum_has_room_what_may_grow_is_refused_and_leadership_stays)
{
    uint32_t leader;
    struct cluster *cluster = form_with(AMPLE, &leader);
    struct site *site = &cluster->sites[leader];
    cr_assert_eq(site_put(site, "a", "1", NULL), TL_OK);
    cr_assert_eq(site_put(site, "b", "1", NULL), TL_OK);
    next_of(cluster, leader, 1)->free_bytes = LITTLE;
    pass(cluster);
    cr_assert_eq(site_put(site, "a", "2", NULL), TL_OK, "two of three have room");
    next_of(cluster, leader, 2)->free_bytes = LITTLE;
    pass(cluster);
    cr_assert_eq(site_put(site, "a", "3", NULL), TL_ERR_NO_SPACE, "one of three has room");
    cr_assert_eq(site_put(next_of(cluster, leader, 1), "a", "3", NULL), TL_ERR_NO_SPACE);
    site->free_bytes = LITTLE;
    pass(cluster);
    cr_assert_eq(site_put(site, "a", "3", NULL), TL_ERR_NO_SPACE);
    cr_assert_eq(transact(site, COMMAND_PUT, TXN_THEN), TL_ERR_NO_SPACE);
    cr_assert_eq(transact(site, COMMAND_PUT, TXN_ELSE), TL_ERR_NO_SPACE);
    cr_assert_eq(transact(site, COMMAND_DELETE, TXN_ELSE), TL_OK);
    cr_assert_eq(transact(site, COMMAND_DELETE, TXN_THEN), TL_OK);
    cr_assert_eq(delete (next_of(cluster, leader, 1), "a"), TL_OK);
    cr_assert_null(site_get(site, "a"));
    cr_assert_eq(cluster_await_leader(cluster), leader, "nobody could do better");
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) cluster->sites[i].free_bytes = RESERVE;
    pass(cluster);
    cr_assert_eq(delete (site, "b"), TL_ERR_NO_SPACE, "below the last reserve");
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) cluster->sites[i].free_bytes = AMPLE;
    pass(cluster);
    cr_assert_eq(site_put(site, "a", "4", NULL), TL_OK, "by itself");
    cr_assert_gt(node_get_metrics(site->node)->writes_without_space_count, 0);
    cluster_destroy(cluster);
}

Test(node_space, a_voter_that_is_gone_is_not_one_that_has_room)
{
    uint32_t leader;
    struct cluster *cluster = form_with(AMPLE, &leader);
    struct site *site = &cluster->sites[leader];
    next_of(cluster, leader, 1)->free_bytes = LITTLE;
    pass(cluster);
    cr_assert_eq(site_put(site, "a", "1", NULL), TL_OK);
    site_kill(next_of(cluster, leader, 2));
    pass(cluster);
    cr_assert_eq(site_put(site, "a", "2", NULL), TL_ERR_NO_SPACE);
    cr_assert_eq(delete (site, "a"), TL_OK);
    cluster_destroy(cluster);
}

Test(node_space, leadership_does_not_go_back_and_forth_near_the_limit)
{
    uint32_t leader;
    struct cluster *cluster = form_with(AMPLE, &leader);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) cluster->sites[i].free_bytes = 129 * MIB;
    pass(cluster);
    cluster->sites[leader].free_bytes = 127 * MIB;
    cluster_pass(cluster, 10 * CLUSTER_S);
    cr_assert_eq(cluster_await_leader(cluster), leader, "the others have hardly more");
    struct site *other = next_of(cluster, leader, 1);
    other->free_bytes = 161 * MIB;
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert_eq(cluster_await_leader(cluster), other->place);
    cluster_destroy(cluster);
}

/* Of one page each, and more. */
static void put_large(struct site *site, uint32_t number, enum tl_err *out_err)
{
    static char value[64 * 1024];
    char key[16];
    memset(value, 'v', sizeof value - 1);
    snprintf(key, sizeof key, "k%u", number);
    *out_err = site_put(site, key, value, NULL);
}

static uint32_t fill_table(struct site *site)
{
    for (uint32_t i = 0; i < 1000; i++) {
        enum tl_err err;
        put_large(site, i, &err);
        if (err != TL_OK) {
            cr_assert_eq(err, TL_ERR_MAP_FULL, "%s", tl_err_text(err));
            return i;
        }
    }
    cr_assert_fail("the table has no limit");
    return 0;
}

Test(node_space, a_table_at_its_limit_takes_deletions_and_opens_again)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        cluster->sites[i].options.table_map_bytes = 2 * MIB;
        cluster->sites[i].options.generation_age_ns = 10 * CLUSTER_MS;
    }
    uint32_t leader = cluster_form(cluster);
    cr_assert_eq(site_put(&cluster->sites[leader], "small", "1", NULL), TL_OK);
    uint32_t count = fill_table(&cluster->sites[leader]);
    cr_assert_gt(count, 20);
    enum tl_err err;
    put_large(next_of(cluster, leader, 1), 0, &err);
    cr_assert_eq(err, TL_ERR_MAP_FULL, "also over the hop: %s", tl_err_text(err));
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) site_kill(&cluster->sites[i]);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) site_start(&cluster->sites[i]);
    leader = cluster_await_leader(cluster);
    struct site *site = &cluster->sites[leader];
    pass(cluster);
    put_large(site, 0, &err);
    cr_assert_eq(err, TL_ERR_MAP_FULL);
    cr_assert_str_eq(site_get(site, "small"), "1");
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i);
        cr_assert_eq(delete (site, key), TL_OK);
    }
    pass(cluster);
    put_large(site, 0, &err);
    cr_assert_eq(err, TL_OK, "there is room again");
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        cr_assert_eq(cluster->sites[i].failures_count, 0);
    }
    cluster_destroy(cluster);
}

Test(node_space, a_leader_with_a_smaller_map_hands_over)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        cluster->sites[i].options.generation_age_ns = 10 * CLUSTER_MS;
    }
    uint32_t leader = cluster_form(cluster);
    struct site *small = &cluster->sites[leader];
    site_kill(small);
    small->options.table_map_bytes = MIB;
    site_start(small);
    pass(cluster);
    (void)transfer(small, small);
    cr_assert_eq(cluster_await_leader(cluster), leader);
    for (uint32_t i = 0; i < 40; i++) {
        enum tl_err err;
        put_large(small, i, &err);
        cr_assert_eq(err, TL_OK, "%s", tl_err_text(err));
        cluster_pass(cluster, 100 * CLUSTER_MS);
    }
    pass(cluster);
    cr_assert_neq(cluster_await_leader(cluster), leader);
    struct wish wish = transfer(next_of(cluster, leader, 1), small);
    expect_refused(&wish, "no_space");
    cluster_destroy(cluster);
}
