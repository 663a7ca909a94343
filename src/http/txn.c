/* txn.c - POST /v1/txn: several keys in one step. */

#include "http_internal.h"
#include "txn_parse.h"

#define ANSWER_FIXED_BYTES 256u
#define ANSWER_RESULT_BYTES 128u

static void add_result(struct text *text, const struct txn_op *op, const struct txn_result *result)
{
    text_add_string(text, "{\"op\":\"");
    text_add_string(text, describe_op(op->type));
    text_add_string(text, "\",");
    item_add_key(text, op->key);
    switch (op->type) {
    case COMMAND_GET:
        text_add_string(text,
                        result->status == KV_FOUND ? ",\"exists\":true" : ",\"exists\":false");
        if (result->status != KV_FOUND) break;
        item_add_value(text, result->value);
        if (result->content_type.count > 0) {
            text_add_string(text, ",\"content_type\":\"");
            text_add_json(text, result->content_type);
            text_add_string(text, "\"");
        }
        break;
    case COMMAND_DELETE:
        text_add_string(text,
                        result->status == KV_DELETED ? ",\"deleted\":true" : ",\"deleted\":false");
        break;
    case COMMAND_INCR:
        text_add_string(text, ",\"value\":");
        text_add_i64(text, result->number);
        break;
    case COMMAND_APPEND:
        item_add_number(text, ",\"length\":", (uint64_t)result->number);
        break;
    default:
        break;
    }
    if (result->revision != 0) item_add_number(text, ",\"revision\":", result->revision);
    if (result->version != 0) item_add_number(text, ",\"version\":", result->version);
    if (result->status == KV_CREATED) text_add_string(text, ",\"replaced\":false");
    if (result->status == KV_REPLACED) text_add_string(text, ",\"replaced\":true");
    text_add_string(text, "}");
}

/* False: the results are not those of these operations. */
static bool add_results(struct text *text, const struct txn_op *ops, uint32_t ops_count,
                        struct bytes results)
{
    /* A repeat whose results were too large for the record. */
    if (results.count == 0 && ops_count > 0) {
        text_add_string(text, "null");
        return true;
    }
    struct reader reader = reader_make(results);
    text_add_string(text, "[");
    for (uint32_t i = 0; i < ops_count; i++) {
        struct txn_result result;
        if (txn_result_decode(&reader, &result) != TL_OK) return false;
        if (i > 0) text_add_string(text, ",");
        add_result(text, &ops[i], &result);
    }
    text_add_string(text, "]");
    return reader_is_done(&reader);
}

static void on_written(struct exchange *exchange, enum tl_err err, const struct kv_result *result)
{
    respond_server_timing(exchange);
    if (err != TL_OK) {
        respond_failure(exchange, failure_of_err(err));
        return;
    }
    if ((result->flags & KV_RESULT_REPLAYED) != 0) respond_replayed(exchange);
    bool succeeded = (result->flags & KV_RESULT_ELSE) == 0;
    enum txn_branch branch = succeeded ? TXN_THEN : TXN_ELSE;
    if (result->status == KV_KEY_REUSED || result->status == KV_NO_ROOM) {
        respond_failure(exchange, failure_of_outcome(result->status));
        return;
    }
    if (result->status != KV_TXN) {
        respond_operation_failed(exchange, failure_of_outcome(result->status),
                                 succeeded ? "then" : "else", (uint64_t)result->number);
        return;
    }
    const struct txn *txn = exchange->txn;
    struct text text =
        text_make(&exchange->req->pool, ANSWER_FIXED_BYTES + result->results.count +
                                            txn->ops_count[branch] * ANSWER_RESULT_BYTES);
    text_add_string(&text, succeeded ? "{\"succeeded\":true" : "{\"succeeded\":false");
    item_add_number(&text, ",\"revision\":", result->revision);
    text_add_string(&text, ",\"results\":");
    if (!add_results(&text, txn->ops[branch], txn->ops_count[branch], result->results)) {
        respond_failure(exchange, failure_of_err(TL_ERR_UNKNOWN));
        return;
    }
    text_add_string(&text, "}");
    respond_json(exchange, 200, &text);
}

static void start_write(struct exchange *exchange)
{
    struct buf *body = txn_encode(exchange->txn);
    TL_ASSERT(body != NULL); /* never longer than the JSON it was parsed from */
    struct command command = {.type = COMMAND_TXN, .value = buf_bytes(body)};
    /* All keys belong to one group, the one exchange_write() proposes to. */
    exchange_write(exchange, &command, on_written);
    buf_release(body);
}

void txn_serve(struct exchange *exchange)
{
    if (exchange->method != METHOD_POST) {
        respond_method(exchange, "POST");
        return;
    }
    if (!exchange_take_query(exchange, NULL, 0)) return;
    const struct failure *failure = exchange_take_options(exchange, NULL);
    if (failure != NULL) {
        respond_failure(exchange, failure);
        return;
    }
    if (exchange->options.condition != CONDITION_NONE) {
        respond_refusal(exchange, REFUSAL_TXN_CONDITION);
        return;
    }
    struct bytes body = exchange_body(exchange);
    if (body.count > TXN_BYTES_MAX) {
        respond_refusal(exchange, REFUSAL_TXN_LARGE);
        return;
    }
    struct failure refused;
    exchange->txn =
        txn_parse(&exchange->req->pool, body, exchange->server->options.value_bytes_max, &refused);
    if (exchange->txn == NULL) {
        respond_failure(exchange, &refused);
        return;
    }
    start_write(exchange);
}
