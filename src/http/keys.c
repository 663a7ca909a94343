/* keys.c - /keys/{key}: lists of strings, kept as JSON arrays. */

#include "http_internal.h"

#include <jansson.h>
#include <stdlib.h>

#define PREFIX "/keys/"
#define CONTENT_TYPE "application/json"

static const char not_valid[] = "The request is not valid";
static const char bad_type[] = "The request type is not correct";
static const char bad_value[] = "The request value is not valid";

static void refuse(struct exchange *exchange, const char *text)
{
    respond(exchange, 400, bytes_of("text/plain"), bytes_of(text));
}

/* 400 in this family's words; the others say more than this family has words for. */
static void refuse_failure(struct exchange *exchange, const struct failure *failure)
{
    if (failure->status != 400 && failure->status != 415) {
        respond_failure(exchange, failure);
    } else if (exchange->method == METHOD_POST) {
        refuse(exchange, not_valid);
    } else {
        respond_empty(exchange, 400);
    }
}

static bool take_request(struct exchange *exchange)
{
    struct query_param consistency = {.name = "consistency"};
    const struct failure *failure = exchange_parse_query(exchange, &consistency, 1);
    if (failure == NULL) failure = exchange_take_key(exchange, PREFIX);
    if (failure == NULL) failure = exchange_take_options(exchange, &consistency);
    if (failure != NULL) refuse_failure(exchange, failure);
    return failure == NULL;
}

/* ---- GET ---- */

static void on_row(struct exchange *exchange, enum tl_err err, const struct row_view *row)
{
    if (err == TL_ERR_NOT_FOUND) {
        respond_empty(exchange, 404);
        return;
    }
    if (err != TL_OK) {
        respond_failure(exchange, failure_of_err(err));
        return;
    }
    if (!media_type_is(row->content_type, CONTENT_TYPE) || !json_is_string_list(row->value)) {
        respond_empty(exchange, 400);
        return;
    }
    respond_etag(exchange, row->header.revision);
    respond(exchange, 200, bytes_of(CONTENT_TYPE), respond_copy(exchange, row->value));
}

static void serve_get(struct exchange *exchange)
{
    if (take_request(exchange)) exchange_read(exchange, on_row);
}

/* ---- POST ---- */

static void on_written(struct exchange *exchange, enum tl_err err, const struct kv_result *result)
{
    respond_server_timing(exchange);
    if (err != TL_OK) {
        respond_failure(exchange, failure_of_err(err));
        return;
    }
    if ((result->flags & KV_RESULT_REPLAYED) != 0) respond_replayed(exchange);
    if (result->status == KV_NOT_LIST) {
        refuse(exchange, bad_value);
    } else if (result->status == KV_CONDITION_FAILED) {
        respond_condition_failed(exchange, result->revision);
    } else if (failure_of_outcome(result->status) != NULL) {
        respond_failure(exchange, failure_of_outcome(result->status));
    } else {
        respond_etag(exchange, result->revision);
        respond_empty(exchange, 204);
    }
}

static bool is_string_list(const json_t *value)
{
    if (!json_is_array(value)) return false;
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!json_is_string(json_array_get(value, i))) return false;
    }
    return true;
}

static void start_write(struct exchange *exchange, enum command_type type, const json_t *value)
{
    char *json = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    TL_ASSERT(json != NULL);
    struct command command = {
        .type = type,
        .value_is_json = true,
        .content_type = bytes_of(CONTENT_TYPE),
        .value = bytes_of(json),
    };
    if (command.value.count > exchange->server->options.value_bytes_max) {
        respond_refusal(exchange, REFUSAL_VALUE_LARGE);
    } else {
        exchange_write(exchange, &command, on_written); /* copies the value into the entry */
    }
    free(json);
}

/* The order of the checks is part of the contract. */
static void serve_body(struct exchange *exchange, const json_t *body)
{
    const json_t *value = json_object_get(body, "value");
    const json_t *type_json = json_object_get(body, "type");
    struct bytes type = bytes_make(json_string_value(type_json), json_string_length(type_json));
    if (!json_is_object(body)) {
        refuse(exchange, not_valid);
    } else if (!text_is(type, "PUT") && !text_is(type, "APPEND")) {
        refuse(exchange, bad_type);
    } else if (text_is(type, "PUT")) {
        if (is_string_list(value)) {
            start_write(exchange, COMMAND_PUT, value);
        } else {
            refuse(exchange, bad_value);
        }
    } else if (json_is_string(value)) {
        start_write(exchange, COMMAND_LIST_APPEND, value);
    } else {
        refuse(exchange, bad_value);
    }
}

static void serve_post(struct exchange *exchange)
{
    if (!take_request(exchange)) return;
    struct bytes body = exchange_body(exchange);
    json_t *json = NULL;
    if (media_type_is(exchange->options.content_type, CONTENT_TYPE)) {
        json = json_parse(body);
    }
    serve_body(exchange, json);
    json_decref(json);
}

void keys_serve(struct exchange *exchange)
{
    switch (exchange->method) {
    case METHOD_GET:
    case METHOD_HEAD:
        serve_get(exchange);
        return;
    case METHOD_POST:
        serve_post(exchange);
        return;
    default:
        respond_method(exchange, "GET, HEAD, POST");
        return;
    }
}
