/* leader.c - POST /v1/cluster/leader: leadership of a group is handed over. */

#include "http_internal.h"

#include <jansson.h>

#include "trilith/address.h"

static void put_address(json_t *root, const char *name, const struct exchange *exchange, raft_id id)
{
    json_put_string(root, name, describe_address(exchange->server, id));
}

static void answer(struct exchange *exchange, const struct node_leader_transfer *transfer)
{
    const struct node_leader_transfer_report *report = &transfer->report;
    if (report->refusal != NULL && !transfer->is_dry_run) {
        const struct failure failure = {
            .status = 409, .code = report->refusal_code, .message = report->refusal};
        respond_failure(exchange, &failure);
        return;
    }
    json_t *root = json_object();
    json_put_u64(root, "group", transfer->group);
    json_put_bool(root, "dry_run", transfer->is_dry_run);
    json_put_bool(root, "changed", report->is_changed);
    put_address(root, "from", exchange, report->from);
    put_address(root, "leader", exchange, report->to);
    json_put_string(root, "refused", report->refusal_code);
    json_put_string(root, "reason", report->refusal);
    respond_document(exchange, 200, root);
}

static void on_transferred(struct exchange *exchange, enum tl_err err)
{
    if (err == TL_OK) {
        answer(exchange, exchange->transfer);
    } else if (err == TL_ERR_NOT_FOUND) {
        respond_refusal(exchange, REFUSAL_GROUP);
    } else {
        respond_failure(exchange, failure_of_err(err));
    }
}

/* json_parse() gives every number as a real one. */
static bool take_group(const json_t *group, raft_group *out_group)
{
    *out_group = NODE_DATA_GROUP;
    if (group == NULL) return true;
    double number = json_number_value(group);
    if (!json_is_number(group) || number < 0 || number > UINT32_MAX) return false;
    *out_group = (raft_group)number;
    return (double)*out_group >= number;
}

/* {"group": 1, "address": "HOST:PORT"}, both optional. */
static bool take_body(const json_t *root, struct node_leader_transfer *out_transfer,
                      enum refusal *out_refusal)
{
    const json_t *group = json_object_get(root, "group");
    const json_t *address = json_object_get(root, "address");
    size_t known_count = (group != NULL ? 1u : 0u) + (address != NULL ? 1u : 0u);
    *out_refusal = REFUSAL_LEADER;
    if (!json_is_object(root) || json_object_size(root) != known_count) return false;
    if (!take_group(group, &out_transfer->group)) return false;
    if (address == NULL) return true;
    if (!json_is_string(address)) return false;
    char peer_address[ADDRESS_BYTES_MAX];
    struct bytes text = bytes_make(json_string_value(address), json_string_length(address));
    *out_refusal = REFUSAL_ADDRESS;
    return address_parse_node(text, out_transfer->address, peer_address, ADDRESS_BYTES_MAX) ==
           TL_OK;
}

void leader_serve(struct exchange *exchange)
{
    if (exchange->method != METHOD_POST) {
        respond_method(exchange, "POST");
        return;
    }
    struct node_leader_transfer *transfer =
        h2o_mem_alloc_pool(&exchange->req->pool, sizeof *transfer);
    memset(transfer, 0, sizeof *transfer);
    if (!exchange_take_dry_run(exchange, &transfer->is_dry_run)) return;
    json_t *root = json_parse(exchange_body(exchange));
    enum refusal refusal;
    bool is_right = take_body(root, transfer, &refusal);
    json_decref(root);
    if (is_right) {
        exchange_transfer(exchange, transfer, on_transferred);
    } else {
        respond_refusal(exchange, refusal);
    }
}
