/* members.c - POST /v1/cluster/members and DELETE /v1/cluster/members/{address}. */

#include "http_internal.h"

#include <jansson.h>

#include "trilith/address.h"

#define PREFIX "/v1/cluster/members/"

/* The request's context is the exchange; the change lives in the request's pool. */
static void answer(struct exchange *exchange, const struct node_change *change)
{
    const struct node_change_report *report = &change->report;
    if (report->refusal != NULL && !change->is_dry_run) {
        const struct failure failure = {
            .status = 409, .code = report->refusal_code, .message = report->refusal};
        respond_failure(exchange, &failure);
        return;
    }
    json_t *root = json_object();
    json_put_string(root, "address", change->address);
    json_put_bool(root, "dry_run", change->is_dry_run);
    json_put_bool(root, "changed", report->is_changed);
    json_put_u64(root, "epoch", report->epoch);
    json_put_i64(root, "can_lose_before", report->can_lose_before);
    json_put_i64(root, "can_lose_after", report->can_lose_after);
    json_put_u64(root, "bytes_to_move", report->bytes_to_move);
    json_put_string(root, "refused", report->refusal_code);
    json_put_string(root, "reason", report->refusal);
    respond_document(exchange, report->is_changed && !change->is_dry_run ? 202 : 200, root);
}

static void on_changed(struct exchange *exchange, enum tl_err err)
{
    if (err != TL_OK) {
        respond_failure(exchange, failure_of_err(err));
    } else {
        answer(exchange, exchange->change);
    }
}

/* `text` names a node, as in --view. */
static void start(struct exchange *exchange, enum node_change_kind kind, struct bytes text,
                  bool is_dry_run)
{
    struct node_change *change = h2o_mem_alloc_pool(&exchange->req->pool, sizeof *change);
    memset(change, 0, sizeof *change);
    change->kind = kind;
    change->is_dry_run = is_dry_run;
    if (address_parse_node(text, change->address, change->peer_address, ADDRESS_BYTES_MAX) !=
        TL_OK) {
        respond_refusal(exchange, REFUSAL_ADDRESS);
        return;
    }
    if (kind == NODE_CHANGE_ADD && change->peer_address[0] == '\0') {
        respond_refusal(exchange, REFUSAL_PEER_PORT);
        return;
    }
    exchange_change(exchange, change, on_changed);
}

static bool take_body(struct exchange *exchange, json_t **out_root, struct bytes *out_address)
{
    json_t *root = json_parse(exchange_body(exchange));
    const json_t *address = json_object_get(root, "address");
    if (!json_is_string(address) || json_object_size(root) != 1) {
        json_decref(root);
        return false;
    }
    *out_root = root;
    *out_address = bytes_make(json_string_value(address), json_string_length(address));
    return true;
}

void members_serve(struct exchange *exchange)
{
    bool is_dry_run = false;
    if (exchange->method != METHOD_POST) {
        respond_method(exchange, "POST");
        return;
    }
    if (!exchange_take_dry_run(exchange, &is_dry_run)) return;
    json_t *root = NULL;
    struct bytes address;
    if (!take_body(exchange, &root, &address)) {
        respond_refusal(exchange, REFUSAL_MEMBER);
        return;
    }
    start(exchange, NODE_CHANGE_ADD, address, is_dry_run);
    json_decref(root);
}

void member_serve(struct exchange *exchange)
{
    bool is_dry_run = false;
    if (exchange->method != METHOD_DELETE) {
        respond_method(exchange, "DELETE");
        return;
    }
    if (!exchange_take_dry_run(exchange, &is_dry_run)) return;
    const struct failure *failure = exchange_take_key(exchange, PREFIX);
    if (failure == NULL && exchange_body(exchange).count > 0) {
        failure = failure_of_refusal(REFUSAL_BODY);
    }
    if (failure != NULL) {
        respond_failure(exchange, failure);
        return;
    }
    start(exchange, NODE_CHANGE_REMOVE, exchange->key, is_dry_run);
}
