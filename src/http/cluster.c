/* cluster.c - GET /v1/cluster: the members and groups as this node knows them. */

#include "http_internal.h"

#include <jansson.h>

/* A voter this far behind has what it needs at hand and fills a quorum within a round trip. */
#define CAUGHT_UP_ENTRIES_MAX 1024u

/* What this node knows of the others: by its peers' acknowledgements when it leads, otherwise by
 * its connections. */
struct knowledge {
    const struct node_status *node;
    const struct raft_status *raft;
    raft_id self;
};

static bool is_connected(const struct node_status *node, raft_id id)
{
    for (uint32_t i = 0; i < node->members_count; i++) {
        if (store_id_raft(&node->members[i].store_id) == id) return node->member_is_connected[i];
    }
    return false;
}

static bool is_able(const struct knowledge *knowledge, raft_id id)
{
    const struct raft_status *raft = knowledge->raft;
    if (id == knowledge->self) return true;
    if (raft->role != RAFT_LEADER) return is_connected(knowledge->node, id);
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        const struct raft_peer_status *peer = &raft->peers[i];
        if (peer->id != id) continue;
        return peer->is_recently_active && peer->state != RAFT_NEEDS_SNAPSHOT &&
               peer->match + CAUGHT_UP_ENTRIES_MAX >= raft->commit;
    }
    return false;
}

/* Negative: so many are missing to a quorum. */
static int64_t can_lose_of(const struct knowledge *knowledge, const raft_id *voters,
                           uint32_t voters_count)
{
    uint32_t able_count = 0;
    for (uint32_t i = 0; i < voters_count; i++) {
        if (is_able(knowledge, voters[i])) able_count++;
    }
    return (int64_t)able_count - (int64_t)(voters_count / 2 + 1);
}

/* A joint configuration survives what both its halves survive. */
static int64_t can_lose(const struct knowledge *knowledge)
{
    const struct raft_conf *conf = &knowledge->raft->conf;
    int64_t count = can_lose_of(knowledge, conf->voters, conf->voters_count);
    if (conf->outgoing_count == 0) return count;
    return TL_MIN(count, can_lose_of(knowledge, conf->outgoing, conf->outgoing_count));
}

static void put_addresses(json_t *object, const char *name, const struct http_server *server,
                          const raft_id *ids, uint32_t ids_count)
{
    json_t *array = json_put_array(object, name);
    for (uint32_t i = 0; i < ids_count; i++) {
        const char *address = describe_address(server, ids[i]);
        json_t *item = address != NULL ? json_string(address) : NULL;
        int err = json_array_append_new(array, item != NULL ? item : json_null());
        TL_ASSERT(err == 0);
    }
}

static void put_members(json_t *root, const struct node_status *node)
{
    json_t *members = json_put_array(root, "members");
    for (uint32_t i = 0; i < node->members_count; i++) {
        json_t *member = json_add_object(members);
        json_put_string(member, "address", node->members[i].address);
        json_put_string(member, "peer_address", node->members[i].peer_address);
        json_put_store_id(member, "store_id", &node->members[i].store_id);
        json_put_string(member, "role", describe_member_role(node->member_roles[i]));
        json_put_bool(member, "live", node->member_is_connected[i]);
    }
}

/* The leader alone knows how far each one is. */
static void put_peers(json_t *group, const struct http_server *server,
                      const struct raft_status *raft)
{
    static const char *const states[] = {
        [RAFT_PROBE] = "probe",
        [RAFT_REPLICATE] = "replicate",
        [RAFT_NEEDS_SNAPSHOT] = "needs_snapshot",
    };
    json_t *peers = json_put_array(group, "peers");
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        json_t *peer = json_add_object(peers);
        json_put_string(peer, "address", describe_address(server, raft->peers[i].id));
        json_put_u64(peer, "match", raft->peers[i].match);
        json_put_u64(peer, "next", raft->peers[i].next);
        json_put_string(peer, "state", states[raft->peers[i].state]);
        json_put_bool(peer, "active", raft->peers[i].is_recently_active);
    }
}

static int64_t put_group(json_t *array, const struct http_server *server,
                         const struct node_status *node, raft_group id)
{
    struct node_group_status status;
    (void)describe_group(server, node, id, &status); /* it exists: id < groups_count */
    const struct raft_status *raft = &status.raft;
    const struct knowledge knowledge = {
        .node = node, .raft = raft, .self = node_self(server->node)};
    int64_t count = can_lose(&knowledge);
    json_t *group = json_add_object(array);
    json_put_u64(group, "group", id);
    json_put_string(group, "leader", describe_address(server, raft->leader));
    json_put_u64(group, "term", raft->term);
    json_put_bool(group, "has_quorum", raft->has_quorum);
    json_put_u64(group, "last", raft->last);
    json_put_u64(group, "commit", raft->commit);
    json_put_u64(group, "applied", raft->applied);
    put_addresses(group, "voters", server, raft->conf.voters, raft->conf.voters_count);
    put_addresses(group, "learners", server, raft->conf.learners, raft->conf.learners_count);
    if (raft->conf.outgoing_count > 0) {
        put_addresses(group, "outgoing", server, raft->conf.outgoing, raft->conf.outgoing_count);
    }
    if (raft->role == RAFT_LEADER) put_peers(group, server, raft);
    json_put_i64(group, "can_lose", count);
    return count;
}

void cluster_serve(struct exchange *exchange)
{
    if (!exchange_take_get(exchange, NULL, 0)) return;
    const struct http_server *server = exchange->server;
    struct node_status node;
    node_get_status(server->node, &node);
    json_t *root = json_object();
    json_put_store_id(root, "cluster_id", &node.cluster_id);
    json_put_string(root, "answered_by", server->options.address);
    json_put_u64(root, "placement_epoch", node.placement_epoch);
    json_put_u64(root, "removed", node.removed_count);
    put_members(root, &node);
    describe_transfers(server, root);
    json_t *groups = json_put_array(root, "groups");
    int64_t least = INT64_MAX;
    for (raft_group group = 0; group < node.groups_count; group++) {
        int64_t count = put_group(groups, server, &node, group);
        least = TL_MIN(least, count);
    }
    json_put_i64(root, "can_lose", node.groups_count > 0 ? least : 0);
    respond_document(exchange, 200, root);
}
