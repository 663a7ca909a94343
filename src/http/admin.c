/* admin.c - /v1/status and /admin/status: this node. */

#include "http_internal.h"

#include <jansson.h>

#include "trilith/log.h"

#define FIELD_BYTES_MAX (ADDRESS_BYTES_MAX + 64u)
#define PARTNER_CONNECTED 2u
#define PARTNER_LOST 0u
#define CODE_VERSION 0u /* of replicated code that is switched on cluster-wide; there is one */

#ifndef PACKAGE_VERSION
#error "configure defines PACKAGE_VERSION"
#endif

static uint64_t uptime_s(const struct http_server *server)
{
    return (http_now_ns() - server->opened_ns) / 1000000000u;
}

/* ---- /v1/status ---- */

static void put_histogram(json_t *object, const char *name, const struct histogram *histogram)
{
    json_t *inner = json_put_object(object, name);
    json_put_u64(inner, "count", histogram->count);
    json_put_u64(inner, "p50_us", histogram_quantile_us(histogram, 500));
    json_put_u64(inner, "p99_us", histogram_quantile_us(histogram, 990));
    json_put_u64(inner, "max_us", histogram->max_us);
}

static void put_disk(json_t *root, const struct http_server *server, const struct node_status *node)
{
    const struct node_metrics *metrics = node_get_metrics(server->node);
    json_t *disk = json_put_object(root, "disk");
    put_histogram(disk, "log_commit", &metrics->log_commit_idle_us);
    put_histogram(disk, "log_commit_during_flush", &metrics->log_commit_flush_us);
    put_histogram(disk, "flush", &metrics->flush_us);
    json_put_u64(disk, "log_commit_age_ms", node->log_commit_age_ms);
    json_put_bool(disk, "log_commit_slow", node->is_log_commit_slow);
    json_put_u64(disk, "log_commits_slow", metrics->log_commits_slow_count);
    json_t *members = json_put_array(disk, "members");
    for (uint32_t i = 0; i < node->members_count; i++) {
        json_t *member = json_add_object(members);
        json_put_string(member, "address", node->members[i].address);
        json_put_u64(member, "log_commit_age_ms", node->member_log_commit_age_ms[i]);
    }
    json_put_u64(disk, "log_used_bytes", node->log_used_bytes);
    json_put_u64(disk, "log_limit_bytes", node->log_limit_bytes);
    json_put_u64(disk, "map_limit_bytes", node->map_limit_bytes);
    json_put_u64(disk, "free_bytes", node->free_bytes);
    json_put_string(disk, "room", describe_room(node->space_lack));
}

static void put_queues(json_t *root, const struct http_server *server,
                       const struct node_status *node)
{
    json_t *queues = json_put_object(root, "queues");
    json_put_u64(queues, "requests", node->requests_waiting_count);
    json_put_u64(queues, "requests_max", NODE_REQUESTS_MAX);
    json_put_u64(queues, "request_bytes", node->request_bytes_waiting);
    json_put_u64(queues, "request_bytes_max", NODE_REQUEST_BYTES_MAX);
    json_put_u64(queues, "log_batches", pump_get_metrics(server->pump)->log_queue_depth);
    json_put_u64(queues, "connections", server->connections_count);
}

static void put_group(json_t *array, const struct http_server *server,
                      const struct node_group_status *status)
{
    json_t *group = json_add_object(array);
    json_put_u64(group, "group", status->group);
    json_put_string(group, "role", describe_role(status->raft.role));
    json_put_u64(group, "term", status->raft.term);
    json_put_string(group, "leader", describe_address(server, status->raft.leader));
    json_put_bool(group, "has_quorum", status->raft.has_quorum);
    json_put_u64(group, "first", status->raft.first);
    json_put_u64(group, "last", status->raft.last);
    json_put_u64(group, "durable", status->raft.durable);
    json_put_u64(group, "commit", status->raft.commit);
    json_put_u64(group, "applied", status->raft.applied);
    json_put_u64(group, "flushed", status->flushed);
    json_put_u64(group, "leader_commit", status->raft.leader_commit);
    json_put_string(group, "transfer_to", describe_address(server, status->raft.transfer_target));
    json_put_u64(group, "leader_transfers", status->raft.transfers_count);
    json_put_u64(group, "disk_stalls", status->raft.disk_stalls_count);
    json_put_u64(group, "revision", status->state.revision);
    json_put_u64(group, "rows", status->state.rows_count);
    json_put_hash(group, "chain_hash", status->state.chain_hash);
    json_put_hash(group, "rows_digest", status->state.rows_digest);
    json_put_hash(group, "records_digest", status->state.records_digest);
    json_put_digests(group, server, status);
    json_put_u64(group, "idempotency_records",
                 status->state.records_next - status->state.records_first);
    json_put_u64(group, "generation_bytes", status->generation_bytes);
    json_put_u64(group, "generation_keys", status->generation_keys_count);
    json_put_u64(group, "generations_frozen", status->frozen_count);
    json_put_u64(group, "map_used_bytes", status->map_used_bytes);
    json_put_u64(group, "replay_left", status->replay_left);
}

void status_serve(struct exchange *exchange)
{
    if (!exchange_take_get(exchange, NULL, 0)) return;
    const struct http_server *server = exchange->server;
    struct node_status node;
    node_get_status(server->node, &node);
    json_t *root = json_object();
    json_put_string(root, "version", PACKAGE_VERSION);
    json_put_string(root, "address", server->options.address);
    json_put_string(root, "stage", describe_stage(node.stage));
    json_put_bool(root, "ready", node_is_ready(server->node));
    if (node.waits_for[0] != '\0') json_put_string(root, "waits_for", node.waits_for);
    json_put_store_id(root, "store_id", &node.store_id);
    json_put_store_id(root, "cluster_id", &node.cluster_id);
    json_put_u64(root, "uptime_s", uptime_s(server));
    json_put_u64(root, "replayed", node.replayed_count);
    json_put_u64(root, "age_ms", node_age_ms(server->node, NODE_DATA_GROUP));
    put_queues(root, server, &node);
    put_disk(root, server, &node);
    describe_transfers(server, root);
    json_t *groups = json_put_array(root, "groups");
    for (raft_group group = 0; group < node.groups_count; group++) {
        struct node_group_status status;
        (void)describe_group(server, &node, group, &status); /* it exists: group < count */
        put_group(groups, server, &status);
    }
    respond_document(exchange, 200, root);
}

/* ---- /admin/status: flat, of the data group ---- */

/* Fields whose name ends in a partner's address. */
static void put_of_address(json_t *root, const char *name, const char *address, uint64_t value)
{
    char field[FIELD_BYTES_MAX];
    (void)text_format(field, sizeof field, "%s_%s", name, address);
    if (utf8_is_valid(bytes_of(field))) json_put_u64(root, field, value);
}

static void put_partners(json_t *root, const struct http_server *server,
                         const struct node_status *node)
{
    raft_id self = node_self(server->node);
    json_put_u64(root, "partner_nodes_count",
                 node->members_count > 0 ? node->members_count - 1 : 0);
    for (uint32_t i = 0; i < node->members_count; i++) {
        if (store_id_raft(&node->members[i].store_id) == self) continue;
        put_of_address(root, "partner_node_status_server", node->members[i].address,
                       node->member_is_connected[i] ? PARTNER_CONNECTED : PARTNER_LOST);
    }
}

static void put_progress(json_t *root, const struct http_server *server,
                         const struct raft_status *raft)
{
    raft_id self = node_self(server->node);
    uint64_t partners_count = 0;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        const struct raft_peer_status *peer = &raft->peers[i];
        const char *address = describe_address(server, peer->id);
        if (peer->id == self || address == NULL) continue;
        put_of_address(root, "next_node_idx", address, peer->next);
        put_of_address(root, "match_idx", address, peer->match);
        partners_count++;
    }
    json_put_u64(root, "next_node_idx_count", partners_count);
    json_put_u64(root, "match_idx_count", partners_count);
}

static uint64_t state_number(enum raft_role role)
{
    switch (role) {
    case RAFT_FOLLOWER:
        return 0;
    case RAFT_PRECANDIDATE:
    case RAFT_CANDIDATE:
        return 1;
    case RAFT_LEADER:
        return 2;
    }
    return 0;
}

void admin_serve(struct exchange *exchange)
{
    if (!exchange_take_get(exchange, NULL, 0)) return;
    const struct http_server *server = exchange->server;
    struct node_status node;
    struct node_group_status group;
    node_get_status(server->node, &node);
    (void)describe_group(server, &node, NODE_DATA_GROUP, &group); /* zeros until it exists */
    const struct raft_status *raft = &group.raft;
    json_t *root = json_object();
    json_put_string(root, "version", PACKAGE_VERSION);
    json_put_string(root, "self", server->options.address);
    json_put_u64(root, "state", state_number(raft->role));
    json_put_string(root, "leader", describe_address(server, raft->leader));
    json_put_bool(root, "has_quorum", raft->has_quorum);
    put_partners(root, server, &node);
    /* The last index, not the entries kept: retention deletes behind, a write always adds one. */
    json_put_u64(root, "log_len", raft->last);
    json_put_u64(root, "last_applied", raft->applied);
    json_put_u64(root, "commit_idx", raft->commit);
    json_put_u64(root, "leader_commit_idx", raft->leader_commit);
    json_put_u64(root, "raft_term", raft->term);
    if (raft->role == RAFT_LEADER) put_progress(root, server, raft);
    json_put_u64(root, "uptime", uptime_s(server));
    json_put_u64(root, "self_code_version", CODE_VERSION);
    json_put_u64(root, "enabled_code_version", CODE_VERSION);
    json_put_u64(root, "readonly_nodes_count", raft->conf.learners_count);
    respond_document(exchange, 200, root);
}
