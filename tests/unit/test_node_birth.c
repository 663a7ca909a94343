/* node: from empty directories to a cluster, and never to a second one. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>

#include "node_cluster.h"

TestSuite(node_birth, .timeout = 60);

static const char *waits_for(struct site *site)
{
    static struct node_status status;
    node_get_status(site->node, &status);
    return status.waits_for;
}

static bool is_in_cluster(struct site *site)
{
    struct node_status status;
    node_get_status(site->node, &status);
    return status.members_count > 0;
}

Test(node_birth, view_of_one_forms_at_once)
{
    struct cluster *cluster = cluster_create(1);
    site_start(&cluster->sites[0]);
    cr_assert(cluster_run(cluster, CLUSTER_S, cluster_is_ready, cluster));
    cr_assert_eq(cluster->sites[0].asks_count, 0);
    cr_assert_eq(site_put(&cluster->sites[0], "a", "1", NULL), TL_OK);
    cr_assert_str_eq(site_get(&cluster->sites[0], "a"), "1");
    cluster_destroy(cluster);
}

static void form_in_order(const uint32_t order[CLUSTER_NODES])
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct site *site = &cluster->sites[order[i]];
        site_start(site);
        if (i == CLUSTER_NODES - 1) break;
        cluster_pass(cluster, 350 * CLUSTER_MS);
        cr_assert(!is_in_cluster(site));
        const char *missing = cluster->sites[order[CLUSTER_NODES - 1]].address;
        cr_assert_not_null(strstr(waits_for(site), missing), "%s", waits_for(site));
        cr_assert_not_null(strstr(waits_for(site), "no answer"), "%s", waits_for(site));
        struct glance glance;
        cr_assert_eq(glance_start(&glance, site, NODE_LOCAL, 0, CLUSTER_S), TL_ERR_STARTING);
    }
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, cluster_is_ready, cluster));
    struct node_status first;
    node_get_status(cluster->sites[0].node, &first);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) {
        struct node_status status;
        node_get_status(cluster->sites[i].node, &status);
        cr_assert(store_id_equal(&status.cluster_id, &first.cluster_id));
        cr_assert_eq(status.members_count, CLUSTER_NODES);
        cr_assert_str_eq(status.waits_for, "");
        cr_assert_eq(status.stage, NODE_STAGE_RUNNING);
    }
    cr_assert_eq(site_put(&cluster->sites[order[0]], "a", "1", NULL), TL_OK);
    cluster_destroy(cluster);
}

Test(node_birth, forms_in_every_start_order)
{
    static const uint32_t orders[][CLUSTER_NODES] = {
        {0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0},
    };
    for (uint32_t i = 0; i < TL_COUNT_OF(orders); i++) form_in_order(orders[i]);
}

Test(node_birth, another_view_is_not_formed_with)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    struct member swapped[CLUSTER_NODES];
    memcpy(swapped, cluster->sites[0].options.view, sizeof swapped);
    struct member first = swapped[0];
    swapped[0] = swapped[1];
    swapped[1] = first;
    cluster->sites[2].options.view = swapped;
    site_start_all(cluster);
    cluster_pass(cluster, 3 * CLUSTER_S);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) cr_assert(!is_in_cluster(&cluster->sites[i]));
    cr_assert_not_null(strstr(waits_for(&cluster->sites[0]), "127.0.0.1:8083 (another view)"), "%s",
                       waits_for(&cluster->sites[0]));
    cluster_destroy(cluster);
}

Test(node_birth, two_addresses_of_one_store_are_not_formed_with)
{
    struct cluster *cluster = cluster_create(2);
    site_start_all(cluster);
    struct site *site = &cluster->sites[0];
    struct birth_note note = {.store_id = {{0}}};
    struct node_status status;
    node_get_status(site->node, &status);
    note.store_id = status.store_id;
    snprintf(note.address, sizeof note.address, "%s", cluster->sites[1].address);
    snprintf(note.peer_address, sizeof note.peer_address, "%s", cluster->sites[1].peer_address);
    struct buf *own = node_on_birth(site->node, bytes_make(NULL, 0));
    cr_assert_null(own, "garbage is not answered");
    struct buf *question = birth_note_encode(&note);
    own = node_on_birth(site->node, buf_bytes(question));
    struct birth_note answer;
    struct bytes payload =
        bytes_make(own->data + FRAME_HEADER_BYTES, own->count - FRAME_HEADER_BYTES);
    cr_assert_eq(birth_note_decode(payload, &answer), TL_OK);
    snprintf(answer.address, sizeof answer.address, "%s", cluster->sites[1].address);
    struct buf *reply = birth_note_encode(&answer);
    struct bytes reply_bytes = buf_bytes(reply);
    for (uint32_t i = 0; i < 3; i++) {
        node_turn(site->node);
        node_on_birth_reply(site->node, cluster->sites[1].peer_address, &reply_bytes);
        node_turn(site->node);
        cluster->now_ns += CLUSTER_S;
    }
    cr_assert_eq(site->batches_count, 0, "nothing was formed");
    cr_assert_str_eq(waits_for(site), "two addresses of the view are one store");
    buf_release(own);
    buf_release(question);
    buf_release(reply);
    cluster_destroy(cluster);
}

Test(node_birth, node_with_data_ignores_the_view)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    cr_assert_eq(site_put(&cluster->sites[0], "a", "1", NULL), TL_OK);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) site_kill(&cluster->sites[i]);
    struct member alone = cluster->sites[1].options.view[1];
    cluster->sites[1].options.view = &alone;
    cluster->sites[1].options.view_count = 1;
    site_start(&cluster->sites[1]);
    cluster_pass(cluster, 2 * CLUSTER_S);
    struct node_status status;
    node_get_status(cluster->sites[1].node, &status);
    cr_assert_eq(status.members_count, CLUSTER_NODES);
    cr_assert(!node_is_ready(cluster->sites[1].node), "one of three");
    site_start(&cluster->sites[0]);
    cluster_await_leader(cluster);
    cr_assert_eq(site_put(&cluster->sites[1], "a", "2", NULL), TL_OK);
    cluster_destroy(cluster);
}

Test(node_birth, emptied_disk_is_not_taken_for_the_member_it_was)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    struct site *site = &cluster->sites[2];
    raft_id old = site->id;
    site_kill(site);
    site_empty_disk(site);
    site_start(site);
    cluster_pass(cluster, 3 * CLUSTER_S);
    cr_assert_neq(site->id, old);
    struct node_group_status status;
    site_status(&cluster->sites[0], &status);
    cr_assert(raft_conf_is_voter(&status.raft.conf, old), "its seat is the old store's still");
    cr_assert_not(raft_conf_is_voter(&status.raft.conf, site->id));
    cr_assert_eq(site_put(&cluster->sites[0], "a", "1", NULL), TL_OK);
    cluster_destroy(cluster);
}

/* All disks but the first address's are gone: whoever is left must not begin anew. */
Test(node_birth, no_second_cluster_while_one_member_lives)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    for (uint32_t i = 0; i < 2; i++) {
        site_kill(&cluster->sites[i]);
        site_empty_disk(&cluster->sites[i]);
        site_start(&cluster->sites[i]);
    }
    cluster_pass(cluster, 3 * CLUSTER_S);
    cr_assert(!is_in_cluster(&cluster->sites[0]));
    cr_assert(!is_in_cluster(&cluster->sites[1]));
    cluster_destroy(cluster);
}

Test(node_birth, genesis_is_offered_only_once_it_is_durable)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster->sites[0].holds_log = true;
    site_start_all(cluster);
    cluster_pass(cluster, CLUSTER_S);
    for (uint32_t i = 0; i < CLUSTER_NODES; i++) cr_assert(!is_in_cluster(&cluster->sites[i]));
    cr_assert_eq(cluster->sites[0].batches_count, 1, "it is being written");
    site_kill(&cluster->sites[0]); /* and is lost */
    cluster->sites[0].holds_log = false;
    site_start(&cluster->sites[0]);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, cluster_is_ready, cluster));
    cr_assert_eq(site_put(&cluster->sites[2], "a", "1", NULL), TL_OK);
    cluster_destroy(cluster);
}

Test(node_birth, follower_that_dies_before_it_wrote_the_genesis_takes_it_again)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster->sites[1].holds_log = true;
    site_start_all(cluster);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert(is_in_cluster(&cluster->sites[0]));
    cr_assert(!is_in_cluster(&cluster->sites[1]));
    site_kill(&cluster->sites[1]);
    cluster->sites[1].holds_log = false;
    site_start(&cluster->sites[1]);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, cluster_is_ready, cluster));
    cluster_destroy(cluster);
}

/* A genesis that says this store lives elsewhere is someone's copied directory. */
Test(node_birth, genesis_under_another_address_is_not_taken)
{
    struct cluster *cluster = cluster_create(2);
    struct site *site = &cluster->sites[0];
    site_start(site);
    node_turn(site->node);
    struct node_status status;
    node_get_status(site->node, &status);
    struct genesis genesis = {
        .cluster_id = {{7}}, .time_us = 1, .groups_count = 2, .members_count = 1};
    snprintf(genesis.members[0].address, ADDRESS_BYTES_MAX, "elsewhere:1");
    snprintf(genesis.members[0].peer_address, ADDRESS_BYTES_MAX, "elsewhere:2");
    genesis.members[0].store_id = status.store_id;
    static struct placement placement;
    placement_from_genesis(&placement, &genesis);
    struct buf *encoded = placement_encode(&placement);
    struct birth_note note = {.store_id = {{9}}, .cluster_id = genesis.cluster_id};
    snprintf(note.address, sizeof note.address, "%s", cluster->sites[1].address);
    snprintf(note.peer_address, sizeof note.peer_address, "%s", cluster->sites[1].peer_address);
    note.placement = buf_bytes(encoded);
    struct buf *reply = birth_note_encode(&note);
    struct bytes reply_bytes = buf_bytes(reply);
    node_on_birth_reply(site->node, cluster->sites[1].peer_address, &reply_bytes);
    cr_assert_not_null(strstr(waits_for(site), "has a cluster"), "%s", waits_for(site));
    cluster->now_ns += CLUSTER_S;
    node_turn(site->node); /* asks to be taken in */
    node_on_birth_reply(site->node, cluster->sites[1].peer_address, &reply_bytes);
    cr_assert_eq(site->batches_count, 0);
    cr_assert_not_null(strstr(waits_for(site), "knows this store by another address"));
    buf_release(reply);
    buf_release(encoded);
    cluster_destroy(cluster);
}

Test(node_birth, bad_views_are_refused_at_open)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    struct member view[CLUSTER_NODES];
    memcpy(view, cluster->sites[0].options.view, sizeof view);
    struct site *site = &cluster->sites[0];
    site->options.view = view;
    view[2] = view[1];
    cr_assert_eq(site_try_start(site), TL_ERR_INVALID, "an address twice");
    site->options.view = view + 1;
    site->options.view_count = 1;
    cr_assert_eq(site_try_start(site), TL_ERR_INVALID, "not its own");
    cr_assert_neq(site->fault.reason[0], '\0');
    cluster_destroy(cluster);
}

Test(node_birth, what_the_options_say_is_wrong_with_the_view_is_told_to_the_unborn_alone)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    site->options.birth_refusal = "the view is nonsense";
    cr_assert_eq(site_try_start(site), TL_ERR_INVALID);
    cr_assert_str_eq(site->fault.reason, "the view is nonsense");
    site->options.birth_refusal = NULL;
    cluster_form(cluster);
    site_kill(site);
    site->options.birth_refusal = "the view is nonsense";
    site->options.view = cluster->sites[1].options.view + 1; /* and not its own */
    cr_assert_eq(site_try_start(site), TL_OK);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, cluster_is_ready, cluster));
    cluster_destroy(cluster);
}

Test(node_birth, a_member_is_where_its_peers_look_for_it_whatever_its_options_say)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    cluster_form(cluster);
    struct site *site = &cluster->sites[1];
    site_kill(site);
    site->options.peer_address = "127.0.0.1:7";
    site_start(site);
    cr_assert_str_eq(node_peer_address(site->node), site->peer_address);
    site_kill(site);
    site_empty_disk(site);
    site_start(site);
    cr_assert_str_eq(node_peer_address(site->node), "127.0.0.1:7", "it is in no placement");
    cluster_destroy(cluster);
}

/* ---- a view that names two clusters ---- */

/* Sites 0 and 1 are clusters of one each; site 2 names both. */
static struct cluster *two_clusters(struct member view[3])
{
    struct cluster *cluster = cluster_create(3);
    memcpy(view, cluster->sites[0].options.view, 3 * sizeof view[0]);
    for (uint32_t i = 0; i < 2; i++) {
        cluster->sites[i].options.view = &view[i];
        cluster->sites[i].options.view_count = 1;
    }
    cluster->sites[2].options.view = view;
    cluster->sites[2].options.view_count = 3;
    return cluster;
}

static bool is_alone(const struct site *site)
{
    struct node_status status;
    node_get_status(site->node, &status);
    return status.members_count == 1;
}

static void expect_none_is_joined(struct cluster *cluster)
{
    cr_assert(!is_in_cluster(&cluster->sites[2]));
    cr_assert(is_alone(&cluster->sites[0]), "nothing permanent follows");
    cr_assert(is_alone(&cluster->sites[1]));
    const char *text = waits_for(&cluster->sites[2]);
    cr_assert_not_null(strstr(text, "two clusters"), "%s", text);
    for (uint32_t i = 0; i < 2; i++) {
        struct node_status status;
        char id[HASH_TEXT_BYTES];
        node_get_status(cluster->sites[i].node, &status);
        store_id_format(&status.cluster_id, id);
        cr_assert_not_null(strstr(text, id), "%s", text);
        cr_assert_not_null(strstr(text, cluster->sites[i].address), "%s", text);
    }
}

Test(node_birth, view_of_two_clusters_joins_none)
{
    struct member view[3];
    struct cluster *cluster = two_clusters(view);
    for (uint32_t i = 0; i < 3; i++) site_start(&cluster->sites[i]);
    cluster_pass(cluster, 10 * CLUSTER_S);
    expect_none_is_joined(cluster);
    site_kill(&cluster->sites[2]);
    cluster->sites[2].options.view = &view[1]; /* it is mended */
    cluster->sites[2].options.view_count = 2;
    site_start(&cluster->sites[2]);
    cluster_pass(cluster, 5 * CLUSTER_S);
    cr_assert(is_in_cluster(&cluster->sites[2]));
    cr_assert(is_alone(&cluster->sites[0]));
    cluster_destroy(cluster);
}

/* The second one answers while the first is about to be asked. */
Test(node_birth, view_of_two_clusters_joins_none_though_one_answers_late)
{
    struct member view[3];
    struct cluster *cluster = two_clusters(view);
    site_start(&cluster->sites[0]);
    site_start(&cluster->sites[2]);
    cluster_pass(cluster, 2 * CLUSTER_S);
    cr_assert(!is_in_cluster(&cluster->sites[2]), "it waits for all of its view");
    site_start(&cluster->sites[1]);
    cluster_pass(cluster, 10 * CLUSTER_S);
    expect_none_is_joined(cluster);
    cluster_destroy(cluster);
}

Test(node_birth, silent_address_of_the_view_keeps_no_store_out)
{
    struct member view[3];
    struct cluster *cluster = two_clusters(view);
    site_start(&cluster->sites[0]);
    site_start(&cluster->sites[2]);
    cluster_pass(cluster, 10 * CLUSTER_S);
    cr_assert(is_in_cluster(&cluster->sites[2]));
    cluster_destroy(cluster);
}
