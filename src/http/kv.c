/* kv.c - /v1/kv/{key}: values by key, over HTTP as it is meant. */

#include "http_internal.h"

#define PREFIX "/v1/kv/"
#define ANSWER_FIXED_BYTES 160u

/* ---- answers of writes ---- */

static void add_outcome(struct text *text, const struct exchange *exchange,
                        const struct kv_result *result)
{
    text_add_string(text, "{");
    item_add_key(text, exchange->key);
    item_add_number(text, ",\"revision\":", result->revision);
    if (result->status == KV_DELETED) {
        text_add_string(text, ",\"deleted\":true}");
        return;
    }
    item_add_number(text, ",\"version\":", result->version);
    switch (exchange->command_type) {
    case COMMAND_INCR:
        text_add_string(text, ",\"value\":");
        text_add_i64(text, result->number);
        text_add_string(text, "}");
        return;
    case COMMAND_APPEND:
        item_add_number(text, ",\"length\":", (uint64_t)result->number);
        break;
    default:
        break;
    }
    text_add_string(text,
                    result->status == KV_REPLACED ? ",\"replaced\":true}" : ",\"replaced\":false}");
}

static void on_written(struct exchange *exchange, enum tl_err err, const struct kv_result *result)
{
    respond_server_timing(exchange);
    if (err != TL_OK) {
        respond_failure(exchange, failure_of_err(err));
        return;
    }
    if ((result->flags & KV_RESULT_REPLAYED) != 0) respond_replayed(exchange);
    if (result->status == KV_CONDITION_FAILED) {
        respond_condition_failed(exchange, result->revision);
        return;
    }
    const struct failure *failure = failure_of_outcome(result->status);
    if (failure != NULL) {
        respond_failure(exchange, failure);
        return;
    }
    respond_etag(exchange, result->revision);
    struct text text =
        text_make(&exchange->req->pool, ANSWER_FIXED_BYTES + exchange->key.count * 2);
    add_outcome(&text, exchange, result);
    bool is_created = result->status == KV_CREATED && exchange->command_type != COMMAND_INCR;
    respond_json(exchange, is_created ? 201 : 200, &text);
}

static void start_write(struct exchange *exchange, struct command *command)
{
    exchange->command_type = command->type;
    exchange_write(exchange, command, on_written);
}

/* ---- what a request asks for ---- */

enum { PARAM_CONSISTENCY, PARAM_OP, PARAM_BY, PARAMS_COUNT };

struct params {
    struct query_param all[PARAMS_COUNT];
};

/* Query, key and options. False: refused. */
static bool take_request(struct exchange *exchange, struct params *params)
{
    *params = (struct params){{{.name = "consistency"}, {.name = "op"}, {.name = "by"}}};
    size_t params_count = exchange->method == METHOD_POST ? PARAMS_COUNT : PARAM_CONSISTENCY + 1;
    if (!exchange_take_query(exchange, params->all, params_count)) return false;
    const struct failure *failure = exchange_take_key(exchange, PREFIX);
    if (failure == NULL) failure = exchange_take_options(exchange, &params->all[PARAM_CONSISTENCY]);
    if (failure != NULL) respond_failure(exchange, failure);
    return failure == NULL;
}

/* The body as a value: within the limit, and JSON when it says that it is. */
static bool take_value(struct exchange *exchange, struct command *command)
{
    command->value = exchange_body(exchange);
    command->content_type = exchange->options.content_type;
    if (command->value.count > exchange->server->options.value_bytes_max) {
        respond_refusal(exchange, REFUSAL_VALUE_LARGE);
        return false;
    }
    if (!media_type_is(command->content_type, "application/json")) return true;
    command->value_is_json = json_is_valid(command->value);
    if (!command->value_is_json) respond_refusal(exchange, REFUSAL_JSON);
    return command->value_is_json;
}

static void serve_put(struct exchange *exchange)
{
    struct params params;
    struct command command = {.type = COMMAND_PUT};
    if (!take_request(exchange, &params) || !take_value(exchange, &command)) return;
    start_write(exchange, &command);
}

static void serve_delete(struct exchange *exchange)
{
    struct params params;
    struct command command = {.type = COMMAND_DELETE};
    if (!take_request(exchange, &params)) return;
    start_write(exchange, &command);
}

static void serve_incr(struct exchange *exchange, const struct query_param *by)
{
    struct command command = {.type = COMMAND_INCR, .by = 1};
    if (by->is_present && !parse_i64(by->value, &command.by)) {
        respond_refusal(exchange, REFUSAL_OP);
        return;
    }
    if (exchange_body(exchange).count > 0) {
        respond_refusal(exchange, REFUSAL_BODY);
        return;
    }
    start_write(exchange, &command);
}

static void serve_append(struct exchange *exchange, const struct query_param *by)
{
    struct command command = {.type = COMMAND_APPEND};
    if (by->is_present) {
        respond_refusal(exchange, REFUSAL_OP);
        return;
    }
    if (!take_value(exchange, &command)) return;
    start_write(exchange, &command);
}

static void serve_post(struct exchange *exchange)
{
    struct params params;
    if (!take_request(exchange, &params)) return;
    if (text_is(params.all[PARAM_OP].value, "incr")) {
        serve_incr(exchange, &params.all[PARAM_BY]);
    } else if (text_is(params.all[PARAM_OP].value, "append")) {
        serve_append(exchange, &params.all[PARAM_BY]);
    } else {
        respond_refusal(exchange, REFUSAL_OP);
    }
}

/* ---- reads ---- */

static void on_row(struct exchange *exchange, enum tl_err err, const struct row_view *row)
{
    if (err == TL_ERR_NOT_FOUND) {
        respond_failure(exchange, failure_of_outcome(KV_NOT_FOUND));
        return;
    }
    if (err != TL_OK) {
        respond_failure(exchange, failure_of_err(err));
        return;
    }
    respond_etag(exchange, row->header.revision);
    struct bytes content_type = row->content_type.count > 0
                                    ? respond_copy(exchange, row->content_type)
                                    : bytes_of("application/octet-stream");
    /* A HEAD needs the value's length only. */
    bool is_head = exchange->method == METHOD_HEAD;
    struct bytes value = is_head ? row->value : respond_copy(exchange, row->value);
    respond(exchange, 200, content_type, value);
}

static void serve_get(struct exchange *exchange)
{
    struct params params;
    if (!take_request(exchange, &params)) return;
    exchange_read(exchange, on_row);
}

void kv_serve(struct exchange *exchange)
{
    switch (exchange->method) {
    case METHOD_GET:
    case METHOD_HEAD:
        serve_get(exchange);
        return;
    case METHOD_PUT:
        serve_put(exchange);
        return;
    case METHOD_DELETE:
        serve_delete(exchange);
        return;
    case METHOD_POST:
        serve_post(exchange);
        return;
    default:
        respond_method(exchange, "GET, HEAD, PUT, DELETE, POST");
        return;
    }
}
