/* health.c - /livez and /readyz. */

#include "http_internal.h"

#include <jansson.h>

/* Answering at all is the proof; a quorum has nothing to do with it, or a partition would get
 * healthy nodes killed. */
void livez_serve(struct exchange *exchange)
{
    if (!exchange_take_get(exchange, NULL, 0)) return;
    respond_text(exchange, 200, "ok\n");
}

/* Why it is not ready. */
struct readiness {
    bool is_ready;
    struct node_status node;
    struct node_group_status group; /* the one that is not, or the data group; zeros: no cluster */
    struct text reason;
};

static void add_group_reason(struct text *reason, const struct node_group_status *group)
{
    text_printf(reason, "group %u: %s", (unsigned)group->group,
                group->raft.leader == RAFT_ID_NONE ? "no leader is known"
                                                   : "catching up with the leader");
}

/* One sentence. */
static void add_reason(const struct http_server *server, struct readiness *readiness)
{
    const struct node_status *node = &readiness->node;
    struct text *reason = &readiness->reason;
    if (server->state != SERVER_OPEN) {
        text_add_string(reason, "stopping");
    } else if (node->waits_for[0] != '\0') {
        text_add_string(reason, node->waits_for);
    } else if (node->is_diverged) {
        text_add_string(reason, "diverged: this node's state is not that of most replicas; empty "
                                "its data directory");
    } else {
        switch (node->stage) {
        case NODE_STAGE_BIRTH:
            text_add_string(reason, "no cluster yet");
            break;
        case NODE_STAGE_REPLAY:
            text_add_string(reason, "replaying the log");
            break;
        case NODE_STAGE_DRAINING:
            text_add_string(reason, "stopping");
            break;
        case NODE_STAGE_RUNNING:
            add_group_reason(reason, &readiness->group);
            break;
        }
    }
}

static void judge(struct exchange *exchange, struct readiness *out_readiness)
{
    const struct http_server *server = exchange->server;
    node_get_status(server->node, &out_readiness->node);
    const struct node_status *node = &out_readiness->node;
    (void)describe_group(server, node, NODE_DATA_GROUP, &out_readiness->group);
    for (raft_group group = 0; group < node->groups_count; group++) {
        struct node_group_status status;
        node_get_group_status(server->node, group, &status);
        if (!status.is_ready) {
            out_readiness->group = status;
            break;
        }
    }
    out_readiness->is_ready = node_is_ready(server->node) && server->state == SERVER_OPEN;
    out_readiness->reason = text_make(&exchange->req->pool, sizeof node->waits_for + 128);
    if (!out_readiness->is_ready) add_reason(server, out_readiness);
    text_add(&out_readiness->reason, bytes_make("", 1)); /* a C string */
}

/* It serves, and is ready; but as a leader it would take no new data. NULL: it has room. */
static const char *lack_text(const struct node_status *node)
{
    if (node->groups_count == 0 || node->space_lack == TL_OK) return NULL;
    return node->space_lack == TL_ERR_MAP_FULL
               ? "no room for new data: --map-size is reached"
               : "no room for new data: the file system is nearly full";
}

static void respond_verbose(struct exchange *exchange, const struct readiness *readiness)
{
    const struct node_group_status *group = &readiness->group;
    json_t *root = json_object();
    json_put_bool(root, "ready", readiness->is_ready);
    json_put_string(root, "stage", describe_stage(readiness->node.stage));
    if (!readiness->is_ready) {
        json_put_string(root, "reason", (const char *)text_bytes(&readiness->reason).data);
    }
    json_put_u64(root, "group", group->group);
    json_put_string(root, "leader", describe_address(exchange->server, group->raft.leader));
    json_put_bool(root, "has_quorum", group->raft.has_quorum);
    json_put_u64(root, "applied", group->raft.applied);
    json_put_u64(root, "commit", group->raft.commit);
    json_put_u64(root, "leader_commit", group->raft.leader_commit);
    json_put_u64(root, "replay_left", group->replay_left);
    json_put_string(root, "digests", describe_digests(group->digests));
    json_put_string(root, "room", describe_room(readiness->node.space_lack));
    json_put_string(root, "warning", lack_text(&readiness->node));
    int64_t can_lose;
    if (cluster_can_lose(exchange->server, &readiness->node, &can_lose)) {
        json_put_i64(root, "can_lose", can_lose);
    }
    respond_document(exchange, readiness->is_ready ? 200 : 503, root);
}

void readyz_serve(struct exchange *exchange)
{
    struct query_param verbose = {.name = "verbose"};
    if (!exchange_take_get(exchange, &verbose, 1)) return;
    struct readiness readiness;
    judge(exchange, &readiness);
    if (verbose.is_present) {
        respond_verbose(exchange, &readiness);
        return;
    }
    struct text text = text_make(&exchange->req->pool, sizeof readiness.node.waits_for + 128);
    const char *lack = lack_text(&readiness.node);
    if (readiness.is_ready && lack != NULL) {
        text_printf(&text, "ready\n%s\n", lack);
    } else if (readiness.is_ready) {
        text_add_string(&text, "ready\n");
    } else {
        text_printf(&text, "not ready: %s\n", (const char *)text_bytes(&readiness.reason).data);
    }
    respond(exchange, readiness.is_ready ? 200 : 503, bytes_of("text/plain; charset=utf-8"),
            text_bytes(&text));
}
