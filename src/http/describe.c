/* describe.c - the node's own account of itself, for status pages: not a hot path. */

#include "http_internal.h"

#include <jansson.h>
#include <stdlib.h>

const char *describe_address(const struct http_server *server, raft_id id)
{
    if (id == RAFT_ID_NONE) return NULL;
    const struct member *member = node_member(server->node, id);
    return member != NULL ? member->address : NULL;
}

bool describe_group(const struct http_server *server, const struct node_status *node,
                    raft_group group, struct node_group_status *out_status)
{
    if (group >= node->groups_count) {
        memset(out_status, 0, sizeof *out_status);
        out_status->group = group;
        return false;
    }
    node_get_group_status(server->node, group, out_status);
    return true;
}

const char *describe_role(enum raft_role role)
{
    switch (role) {
    case RAFT_FOLLOWER:
        return "follower";
    case RAFT_PRECANDIDATE:
        return "precandidate";
    case RAFT_CANDIDATE:
        return "candidate";
    case RAFT_LEADER:
        return "leader";
    }
    return "unknown";
}

const char *describe_op(enum command_type type)
{
    switch (type) {
    case COMMAND_PUT:
        return "put";
    case COMMAND_DELETE:
        return "delete";
    case COMMAND_APPEND:
        return "append";
    case COMMAND_INCR:
        return "incr";
    case COMMAND_LIST_APPEND:
        return "list_append";
    case COMMAND_TXN:
        return "txn";
    case COMMAND_GET:
        return "get";
    }
    return "unknown";
}

const char *describe_member_role(enum member_role role)
{
    switch (role) {
    case MEMBER_LEARNER:
        return "learner";
    case MEMBER_VOTER:
        return "voter";
    case MEMBER_LEAVING:
        return "leaving";
    }
    return "unknown";
}

const char *describe_room(enum tl_err lack)
{
    return lack == TL_OK ? "ok" : failure_of_err(lack)->code;
}

const char *describe_stage(enum node_stage stage)
{
    switch (stage) {
    case NODE_STAGE_BIRTH:
        return "birth";
    case NODE_STAGE_REPLAY:
        return "replay";
    case NODE_STAGE_RUNNING:
        return "running";
    case NODE_STAGE_DRAINING:
        return "draining";
    }
    return "unknown";
}

/* Takes `value`. Names are literals, values are built from numbers and checked text, so a refusal
 * of jansson can only be a bug (or memory, where the process ends as well). */
static void put(json_t *object, const char *name, json_t *value)
{
    int err = json_object_set_new(object, name, value);
    TL_ASSERT(err == 0);
}

void json_put_u64(struct json_t *object, const char *name, uint64_t value)
{
    put(object, name, json_integer((json_int_t)TL_MIN(value, (uint64_t)INT64_MAX)));
}

void json_put_i64(struct json_t *object, const char *name, int64_t value)
{
    put(object, name, json_integer((json_int_t)value));
}

void json_put_bool(struct json_t *object, const char *name, bool value)
{
    put(object, name, json_boolean(value));
}

/* Addresses come from the operator and from peers: what is not UTF-8 is told as null. */
void json_put_string(struct json_t *object, const char *name, const char *value)
{
    json_t *string = value != NULL ? json_string(value) : NULL;
    put(object, name, string != NULL ? string : json_null());
}

void json_put_hash(struct json_t *object, const char *name, struct hash128 value)
{
    char text[HASH_TEXT_BYTES];
    hash_format(value, text);
    json_put_string(object, name, text);
}

void json_put_store_id(struct json_t *object, const char *name, const struct store_id *id)
{
    char text[HASH_TEXT_BYTES];
    store_id_format(id, text);
    json_put_string(object, name, text);
}

struct json_t *json_put_object(struct json_t *object, const char *name)
{
    json_t *inner = json_object_get(object, name);
    if (inner == NULL) {
        inner = json_object();
        put(object, name, inner);
    }
    return inner;
}

struct json_t *json_put_array(struct json_t *object, const char *name)
{
    json_t *inner = json_array();
    put(object, name, inner);
    return inner;
}

void json_put_addresses(struct json_t *object, const char *name, const struct http_server *server,
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

const char *describe_digests(enum node_digests digests)
{
    switch (digests) {
    case NODE_DIGESTS_AGREE:
        return "agree";
    case NODE_DIGESTS_DIFFER:
        return "differ";
    case NODE_DIGESTS_DIVERGED:
        return "diverged";
    }
    return "unknown";
}

void json_put_digests(struct json_t *group, const struct http_server *server,
                      const struct node_group_status *status)
{
    json_put_string(group, "digests", describe_digests(status->digests));
    if (status->digests == NODE_DIGESTS_AGREE) return;
    json_put_u64(group, "differs_at", status->differs_at);
    json_put_addresses(group, "differing", server, status->differing, status->differing_count);
}

struct json_t *json_add_object(struct json_t *array)
{
    json_t *inner = json_object();
    int err = json_array_append_new(array, inner);
    TL_ASSERT(err == 0);
    return inner;
}

void describe_transfers(const struct http_server *server, struct json_t *root)
{
    struct node_transfer_status transfers[NODE_TRANSFERS_MAX];
    uint32_t count = node_get_transfers(server->node, transfers);
    json_t *array = json_put_array(root, "transfers");
    for (uint32_t i = 0; i < count; i++) {
        const struct node_transfer_status *transfer = &transfers[i];
        json_t *item = json_add_object(array);
        json_put_u64(item, "group", transfer->group);
        json_put_string(item, transfer->is_outgoing ? "to" : "from",
                        describe_address(server, transfer->peer));
        json_put_string(item, "stage", transfer->stage);
        json_put_u64(item, "index", transfer->index);
        json_put_u64(item, "rows", transfer->rows);
        json_put_u64(item, "bytes_done", transfer->bytes_done);
        json_put_u64(item, "bytes", transfer->bytes);
        if (transfer->is_outgoing) json_put_u64(item, "bytes_per_s", transfer->bytes_per_s);
        json_put_u64(item, "age_ms", transfer->age_ms);
    }
}

void respond_document(struct exchange *exchange, int status, struct json_t *json)
{
    char *dump = json_dumps(json, JSON_INDENT(2));
    TL_ASSERT(dump != NULL);
    struct bytes body = respond_copy(exchange, bytes_of(dump));
    free(dump);
    json_decref(json);
    respond(exchange, status, bytes_of("application/json"), body);
}
