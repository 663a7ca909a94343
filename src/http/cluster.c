/* cluster.c - GET /v1/cluster: the members and groups as this node knows them, and how many more
 * may fail. */

#include "http_internal.h"

#include <jansson.h>

/* A voter this far behind has what it needs at hand and fills a quorum within a round trip. */
#define CAUGHT_UP_ENTRIES_MAX 1024u

/* What this node knows of the voters: by its peers' acknowledgements when it leads, otherwise of
 * the others by its connections. */
struct knowledge {
    const struct node_status *node;
    const struct raft_status *raft;
    const struct node_group_status *group;
    raft_id self;
};

static bool is_connected(const struct node_status *node, raft_id id)
{
    for (uint32_t i = 0; i < node->members_count; i++) {
        if (store_id_raft(&node->members[i].store_id) == id) return node->member_is_connected[i];
    }
    return false;
}

static bool is_voter(const struct raft_conf *conf, raft_id id)
{
    for (uint32_t i = 0; i < conf->voters_count; i++) {
        if (conf->voters[i] == id) return true;
    }
    return false;
}

/* It keeps the log and votes, but it would not serve. */
static bool has_diverged(const struct knowledge *knowledge, raft_id id)
{
    const struct node_group_status *group = knowledge->group;
    if (group->digests == NODE_DIGESTS_DIVERGED) return id == knowledge->self;
    const struct raft_conf *conf = &knowledge->raft->conf;
    uint32_t voters_count = 0;
    bool is_found = false;
    for (uint32_t i = 0; i < group->differing_count; i++) {
        if (is_voter(conf, group->differing[i])) voters_count++;
        if (group->differing[i] == id) is_found = true;
    }
    /* Without a majority of one state nobody knows whose is wrong. */
    return is_found && voters_count + conf->voters_count / 2 + 1 <= conf->voters_count;
}

/* It keeps what is there, but what is written next may end it. */
static bool lacks_room(const struct node_status *node, raft_id id)
{
    for (uint32_t i = 0; i < node->members_count; i++) {
        if (store_id_raft(&node->members[i].store_id) != id) continue;
        return node->member_space_lack[i] != TL_OK;
    }
    return false;
}

static bool is_able(const struct knowledge *knowledge, raft_id id)
{
    const struct raft_status *raft = knowledge->raft;
    if (has_diverged(knowledge, id) || lacks_room(knowledge->node, id)) return false;
    if (id == knowledge->self) {
        return !raft->is_installing && raft->last + CAUGHT_UP_ENTRIES_MAX >= raft->leader_commit;
    }
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
static int64_t can_lose(const struct http_server *server, const struct node_status *node,
                        const struct node_group_status *group)
{
    const struct knowledge knowledge = {
        .node = node, .raft = &group->raft, .group = group, .self = node_self(server->node)};
    const struct raft_conf *conf = &group->raft.conf;
    int64_t count = can_lose_of(&knowledge, conf->voters, conf->voters_count);
    if (conf->outgoing_count == 0) return count;
    return TL_MIN(count, can_lose_of(&knowledge, conf->outgoing, conf->outgoing_count));
}

bool cluster_can_lose(const struct http_server *server, const struct node_status *node,
                      int64_t *out_count)
{
    int64_t least = INT64_MAX;
    for (raft_group group = 0; group < node->groups_count; group++) {
        struct node_group_status status;
        node_get_group_status(server->node, group, &status);
        least = TL_MIN(least, can_lose(server, node, &status));
    }
    *out_count = least;
    return node->groups_count > 0;
}

/* null: it is not known. */
static void json_put_known(json_t *object, const char *name, uint64_t value)
{
    if (value == UINT64_MAX) {
        json_put_string(object, name, NULL);
    } else {
        json_put_u64(object, name, value);
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
        json_put_string(member, "room", describe_room(node->member_space_lack[i]));
        json_put_known(member, "free_bytes", node->member_free_bytes[i]);
        json_put_known(member, "map_free_bytes", node->member_map_free_bytes[i]);
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

static void put_group(json_t *array, const struct http_server *server,
                      const struct node_status *node, raft_group id)
{
    struct node_group_status status;
    (void)describe_group(server, node, id, &status); /* it exists: id < groups_count */
    const struct raft_status *raft = &status.raft;
    json_t *group = json_add_object(array);
    json_put_u64(group, "group", id);
    json_put_string(group, "leader", describe_address(server, raft->leader));
    json_put_u64(group, "term", raft->term);
    json_put_bool(group, "has_quorum", raft->has_quorum);
    json_put_u64(group, "last", raft->last);
    json_put_u64(group, "commit", raft->commit);
    json_put_u64(group, "applied", raft->applied);
    json_put_addresses(group, "voters", server, raft->conf.voters, raft->conf.voters_count);
    json_put_addresses(group, "learners", server, raft->conf.learners, raft->conf.learners_count);
    if (raft->conf.outgoing_count > 0) {
        json_put_addresses(group, "outgoing", server, raft->conf.outgoing,
                           raft->conf.outgoing_count);
    }
    if (raft->role == RAFT_LEADER) put_peers(group, server, raft);
    json_put_digests(group, server, &status);
    json_put_i64(group, "can_lose", can_lose(server, node, &status));
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
    for (raft_group group = 0; group < node.groups_count; group++) {
        put_group(groups, server, &node, group);
    }
    int64_t count;
    if (cluster_can_lose(server, &node, &count)) {
        json_put_i64(root, "can_lose", count);
    } else {
        json_put_string(root, "can_lose", NULL); /* there is no cluster yet */
    }
    respond_document(exchange, 200, root);
}
