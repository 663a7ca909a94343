/* node: how many idempotency records are kept where the members are configured differently. */

#include <criterion/criterion.h>

#include "node_cluster.h"

#define FEW 3u
#define MANY 100u

TestSuite(node_records, .timeout = 60);

/* A keyed put as the node `site` makes it of a client's request; false: no room for its record. */
static bool is_taken(struct site *site, uint64_t number)
{
    struct command command = {
        .type = COMMAND_PUT,
        .key = bytes_of("key"),
        .value = bytes_of("value"),
        .value_bytes_max = 1024,
        .records_max = site->options.idempotency_records,
        .has_idempotency_key = true,
        .idempotency_key = {.low = number, .high = 7},
    };
    struct effort effort;
    cr_assert_eq(effort_start(&effort, site, command_encode(&command), 5 * CLUSTER_S), TL_OK);
    cr_assert(cluster_run(site->cluster, 10 * CLUSTER_S, effort_is_over, &effort));
    cr_assert_eq(effort.err, TL_OK, "%s", tl_err_text(effort.err));
    return effort.result.status != KV_NO_ROOM;
}

static struct cluster *formed(uint32_t few_at)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        cluster->sites[i].options.idempotency_records = i == few_at ? FEW : MANY;
    }
    cluster_form(cluster);
    return cluster;
}

static void on_transferred(struct node_leader_transfer *transfer, enum tl_err err)
{
    (void)transfer;
    cr_assert_eq(err, TL_OK, "%s", tl_err_text(err));
}

static void move_leadership(struct cluster *cluster, uint32_t to)
{
    uint32_t leader = cluster_await_leader(cluster);
    if (leader == to) return;
    struct node_leader_transfer transfer = {.group = NODE_DATA_GROUP,
                                            .deadline_ns = cluster->now_ns + 5 * CLUSTER_S,
                                            .on_done = on_transferred};
    memcpy(transfer.address, cluster->sites[to].address, sizeof cluster->sites[to].address);
    cr_assert_eq(node_leader_transfer(cluster->sites[leader].node, &transfer), TL_OK);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_eq(cluster_await_leader(cluster), to);
}

Test(node_records, node_that_keeps_fewer_refuses_no_client_wherever_the_leader_is)
{
    for (uint32_t to = 0; to < 2; to++) {
        struct cluster *cluster = formed(0);
        move_leadership(cluster, to);
        for (uint32_t i = 0; i < 3 * FEW; i++) {
            cr_assert(is_taken(&cluster->sites[0], i), "leader %u, put %u", to, i);
        }
        cluster_destroy(cluster);
    }
}

Test(node_records, largest_number_is_a_limit)
{
    struct cluster *cluster = formed(CLUSTER_NODES); /* as many at each */
    for (uint32_t i = 0; i < MANY; i++) cr_assert(is_taken(&cluster->sites[i % 3], i));
    cr_assert_not(is_taken(&cluster->sites[0], MANY));
    cluster_destroy(cluster);
}

/* The number that a member said holds while it is away. */
Test(node_records, number_of_a_member_that_is_away_still_counts)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        cluster->sites[i].options.idempotency_records = i == 2 ? MANY : FEW;
    }
    cluster_form(cluster);
    move_leadership(cluster, 0);
    site_kill(&cluster->sites[2]);
    for (uint32_t i = 0; i < 3 * FEW; i++) cr_assert(is_taken(&cluster->sites[1], i));
    cluster_destroy(cluster);
}
