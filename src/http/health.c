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

/* One sentence: why it is not ready. */
static const char *reason_of(const struct node_status *node, const struct node_group_status *group)
{
    if (node->waits_for[0] != '\0') return node->waits_for;
    if (node->is_diverged) {
        return "diverged: this node's state is not that of most replicas; empty its data directory";
    }
    switch (node->stage) {
    case NODE_STAGE_BIRTH:
        return "no cluster yet";
    case NODE_STAGE_REPLAY:
        return "replaying the log";
    case NODE_STAGE_DRAINING:
        return "stopping";
    case NODE_STAGE_RUNNING:
        break;
    }
    return group->raft.leader == RAFT_ID_NONE ? "no leader is known"
                                              : "catching up with the leader";
}

static void respond_verbose(struct exchange *exchange, const struct node_status *node,
                            const struct node_group_status *group, bool is_ready)
{
    json_t *root = json_object();
    json_put_bool(root, "ready", is_ready);
    json_put_string(root, "stage", describe_stage(node->stage));
    if (!is_ready) json_put_string(root, "reason", reason_of(node, group));
    json_put_string(root, "leader", describe_address(exchange->server, group->raft.leader));
    json_put_bool(root, "has_quorum", group->raft.has_quorum);
    json_put_u64(root, "applied", group->raft.applied);
    json_put_u64(root, "commit", group->raft.commit);
    json_put_u64(root, "leader_commit", group->raft.leader_commit);
    json_put_u64(root, "replay_left", group->replay_left);
    json_put_string(root, "digests", describe_digests(group->digests));
    respond_document(exchange, is_ready ? 200 : 503, root);
}

void readyz_serve(struct exchange *exchange)
{
    struct query_param verbose = {.name = "verbose"};
    if (!exchange_take_get(exchange, &verbose, 1)) return;
    struct http_server *server = exchange->server;
    struct node_status node;
    struct node_group_status group;
    node_get_status(server->node, &node);
    (void)describe_group(server, &node, NODE_DATA_GROUP, &group); /* zeros until it exists */
    bool is_ready = node_is_ready(server->node) && server->state == SERVER_OPEN;
    if (verbose.is_present) {
        respond_verbose(exchange, &node, &group, is_ready);
        return;
    }
    struct text text = text_make(&exchange->req->pool, sizeof node.waits_for + 128);
    if (is_ready) {
        text_add_string(&text, "ready\n");
    } else {
        text_printf(&text, "not ready: %s\n", reason_of(&node, &group));
    }
    respond(exchange, is_ready ? 200 : 503, bytes_of("text/plain; charset=utf-8"),
            text_bytes(&text));
}
