/* node: what a process says over its raft connection counts when its position has been judged. */

#include <criterion/criterion.h>

#include "node_cluster.h"
#include "trilith/frame.h"

#define LIFE 777u /* of a process that the cluster does not have */

/* One member that hears no other any more but what a test gives it. */
struct scene {
    struct cluster *cluster;
    struct site *site;
    raft_id peer; /* of its cluster */
};

static struct scene scene_begin(void)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    cr_assert_eq(site_put(&cluster->sites[leader], "a", "1", NULL), TL_OK);
    cluster_pass(cluster, CLUSTER_S);
    cluster_isolate(cluster, site->place);
    cluster_pass(cluster, CLUSTER_S);
    return (struct scene){
        .cluster = cluster, .site = site, .peer = cluster->sites[leader].id};
}

static raft_term term_of(const struct site *site)
{
    struct node_group_status status;
    node_get_group_status(site->node, NODE_DATA_GROUP, &status);
    return status.raft.term;
}

static void connect(const struct scene *scene, uint32_t features)
{
    node_on_peer_up(scene->site->node, scene->peer, PEER_CLASS_RAFT, features);
}

/* A heartbeat of a leader of this term. */
static void hear(const struct scene *scene, uint64_t life, raft_term term)
{
    const struct raft_message message = {.type = RAFT_HEARTBEAT,
                                         .group = NODE_DATA_GROUP,
                                         .from = scene->peer,
                                         .to = scene->site->id,
                                         .term = term};
    const struct raft_batch_head head = {.clock_us = 1, .life = life, .messages_count = 1};
    struct buf *payload = buf_create(RAFT_BATCH_HEAD_BYTES + raft_message_bytes(&message));
    raft_batch_head_encode(&head, payload->data);
    payload->count = RAFT_BATCH_HEAD_BYTES;
    raft_message_encode(&message, payload);
    cr_assert_eq(node_on_frame(scene->site->node, scene->peer, FRAME_RAFT, buf_bytes(payload)),
                 TL_OK);
    buf_release(payload);
}

static void say_position(const struct scene *scene, uint64_t life, raft_index last, raft_term term)
{
    struct position position = {.life = life, .groups_count = 2};
    for (uint32_t i = 0; i < position.groups_count; i++) {
        position.last[i] = last;
        position.term[i] = term;
    }
    struct buf *frame = position_encode(&position);
    struct bytes payload =
        bytes_make(frame->data + FRAME_HEADER_BYTES, frame->count - FRAME_HEADER_BYTES);
    cr_assert_eq(node_on_frame(scene->site->node, scene->peer, FRAME_POSITION, payload), TL_OK);
    buf_release(frame);
}

static uint64_t ignored_count(const struct site *site)
{
    return node_get_metrics(site->node)->messages_ignored_count;
}

Test(node_position, no_message_counts_before_the_position)
{
    struct scene scene = scene_begin();
    raft_term term = term_of(scene.site);
    connect(&scene, HELLO_FEATURE_POSITION);
    hear(&scene, LIFE, term + 3);
    cr_assert_eq(term_of(scene.site), term);
    cr_assert_eq(ignored_count(scene.site), 1);
    say_position(&scene, LIFE, 1000, term);
    hear(&scene, LIFE, term + 3);
    cr_assert_eq(term_of(scene.site), term + 3);
    cr_assert_eq(ignored_count(scene.site), 1);
    cluster_destroy(scene.cluster);
}

Test(node_position, judged_process_stays_judged_when_its_connection_is_made_anew)
{
    struct scene scene = scene_begin();
    raft_term term = term_of(scene.site);
    connect(&scene, HELLO_FEATURE_POSITION);
    say_position(&scene, LIFE, 1000, term);
    node_on_peer_down(scene.site->node, scene.peer, PEER_CLASS_RAFT, false);
    connect(&scene, HELLO_FEATURE_POSITION);
    hear(&scene, LIFE, term + 1);
    cr_assert_eq(term_of(scene.site), term + 1);
    hear(&scene, LIFE + 1, term + 2);
    cr_assert_eq(term_of(scene.site), term + 1, "another process is another matter");
    cluster_destroy(scene.cluster);
}

Test(node_position, no_message_of_an_old_copy_counts)
{
    struct scene scene = scene_begin();
    raft_term term = term_of(scene.site);
    connect(&scene, HELLO_FEATURE_POSITION);
    say_position(&scene, LIFE, 0, 0);
    hear(&scene, LIFE, term + 1);
    cr_assert_eq(term_of(scene.site), term);
    cr_assert_eq(ignored_count(scene.site), 1);
    node_on_peer_down(scene.site->node, scene.peer, PEER_CLASS_RAFT, false);
    connect(&scene, 0);
    hear(&scene, LIFE, term + 1);
    cr_assert_eq(term_of(scene.site), term, "whatever version it is of");
    say_position(&scene, LIFE + 1, 1000, term);
    hear(&scene, LIFE + 1, term + 1);
    cr_assert_eq(term_of(scene.site), term + 1, "the disk was emptied, or is the right one again");
    cluster_destroy(scene.cluster);
}

Test(node_position, peer_of_an_older_version_counts_before_its_position)
{
    struct scene scene = scene_begin();
    raft_term term = term_of(scene.site);
    connect(&scene, 0);
    hear(&scene, LIFE, term + 1);
    cr_assert_eq(term_of(scene.site), term + 1);
    say_position(&scene, LIFE, 0, 0); /* on its forward connection */
    hear(&scene, LIFE, term + 2);
    cr_assert_eq(term_of(scene.site), term + 1, "refused all the same");
    cluster_destroy(scene.cluster);
}
