/* node: clients that have taken all slots leave an operator's requests theirs. */

#include <criterion/criterion.h>

#include "node_cluster.h"

#define WAIT_NS (60 * CLUSTER_S)

TestSuite(node_admin, .timeout = 60);

struct wish_to_remove {
    struct node_change change;
    uint32_t calls_count;
    enum tl_err err;
};

static void on_changed(struct node_change *change, enum tl_err err)
{
    struct wish_to_remove *wish = change->context;
    wish->calls_count++;
    wish->err = err;
}

static bool is_answered(void *context)
{
    return ((struct wish_to_remove *)context)->calls_count > 0;
}

/* A site and the reads that take all of its clients' slots. */
struct crowd {
    struct site *site;
    struct glance glances[NODE_REQUESTS_MAX];
};

/* Each waits for a round of the leader; one that is over comes again. */
static void fill(struct crowd *crowd)
{
    for (uint32_t i = 0; i < NODE_REQUESTS_MAX; i++) {
        struct glance *glance = &crowd->glances[i];
        bool is_new = glance->read.on_ready == NULL;
        if (!is_new && glance->calls_count == 0) continue;
        enum tl_err err = glance_start(glance, crowd->site, NODE_LINEARIZABLE, 0, WAIT_NS);
        cr_assert_eq(err, TL_OK, "%s", tl_err_text(err));
    }
    struct effort effort;
    struct buf *entry = effort_entry("a", "1", false, 0, 0);
    cr_assert_eq(effort_start(&effort, crowd->site, entry, CLUSTER_S), TL_ERR_FULL);
    buf_release(entry);
}

struct scene {
    struct crowd crowds[2];
    struct wish_to_remove wish;
};

static bool is_changed_in_a_crowd(void *context)
{
    struct scene *scene = context;
    for (uint32_t i = 0; i < 2; i++) fill(&scene->crowds[i]);
    return is_answered(&scene->wish);
}

static void start(struct wish_to_remove *wish, struct site *at, const struct site *about)
{
    *wish = (struct wish_to_remove){.err = TL_OK};
    wish->change = (struct node_change){
        .kind = NODE_CHANGE_REMOVE,
        .deadline_ns = at->cluster->now_ns + 5 * CLUSTER_S,
        .on_done = on_changed,
        .context = wish,
    };
    memcpy(wish->change.address, about->address, sizeof about->address);
}

Test(node_admin, member_is_removed_while_clients_have_all_slots)
{
    static struct scene scene;
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *at = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    scene.crowds[0].site = &cluster->sites[leader];
    scene.crowds[1].site = at;
    for (uint32_t i = 0; i < 2; i++) fill(&scene.crowds[i]);
    /* Forwarded to the leader of group 0, where the slots are taken as well. */
    start(&scene.wish, at, &cluster->sites[(leader + 2) % CLUSTER_NODES]);
    cr_assert_eq(node_change(at->node, &scene.wish.change), TL_OK);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, is_changed_in_a_crowd, &scene));
    cr_assert_eq(scene.wish.err, TL_OK, "%s", tl_err_text(scene.wish.err));
    cr_assert(scene.wish.change.report.is_changed);
    cluster_pass(cluster, 10 * CLUSTER_S); /* the members follow it */
    struct node_status status;
    node_get_status(at->node, &status);
    cr_assert_eq(status.members_count, CLUSTER_NODES - 1);
    cluster_destroy(cluster);
}

/* No operator needs more, and each may hold a whole placement. */
Test(node_admin, slots_of_operators_are_bounded)
{
    static struct wish_to_remove wishes[NODE_ADMIN_REQUESTS_MAX + 1];
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *at = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    cluster_isolate(cluster, at->place);
    cluster_pass(cluster, CLUSTER_MS);
    for (uint32_t i = 0; i < NODE_ADMIN_REQUESTS_MAX; i++) {
        start(&wishes[i], at, &cluster->sites[leader]);
        cr_assert_eq(node_change(at->node, &wishes[i].change), TL_OK);
    }
    start(&wishes[NODE_ADMIN_REQUESTS_MAX], at, &cluster->sites[leader]);
    cr_assert_eq(node_change(at->node, &wishes[NODE_ADMIN_REQUESTS_MAX].change), TL_ERR_FULL);
    struct glance glance;
    cr_assert_eq(glance_start(&glance, at, NODE_LINEARIZABLE, 0, CLUSTER_S), TL_OK,
                 "clients have theirs");
    cluster_pass(cluster, 10 * CLUSTER_S);
    for (uint32_t i = 0; i < NODE_ADMIN_REQUESTS_MAX; i++) {
        cr_assert_eq(wishes[i].calls_count, 1);
        cr_assert_neq(wishes[i].err, TL_OK);
    }
    cluster_destroy(cluster);
}
