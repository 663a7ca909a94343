/* txn.c - POST /v1/txn: several keys in one step. */

#include "http_internal.h"
#include "txn_parse.h"

#define ANSWER_FIXED_BYTES 256u
#define ANSWER_RESULT_BYTES 128u

/* An answer on its way into JSON: in one turn where it is small, else in slices. */
struct txn_answer {
    struct text text;
    struct reader results;
    const struct txn_op *ops;
    uint32_t ops_count;
    uint32_t position; /* of the operation that comes next, or whose value is being added */
    bool is_in_value;
    struct item_value value;
    struct txn_result result; /* of the operation at `position`, while in its value */
};

static void add_result_head(struct txn_answer *answer)
{
    struct text *text = &answer->text;
    const struct txn_op *op = &answer->ops[answer->position];
    text_add_string(text, answer->position > 0 ? ",{\"op\":\"" : "{\"op\":\"");
    text_add_string(text, describe_op(op->type));
    text_add_string(text, "\",");
    item_add_key(text, op->key);
    if (op->type != COMMAND_GET) return;
    answer->is_in_value = answer->result.status == KV_FOUND;
    text_add_string(text, answer->is_in_value ? ",\"exists\":true" : ",\"exists\":false");
    if (answer->is_in_value) item_value_begin(text, answer->result.value, &answer->value);
}

static void end_value(struct txn_answer *answer)
{
    struct text *text = &answer->text;
    answer->is_in_value = false;
    item_value_end(text, &answer->value);
    if (answer->result.content_type.count == 0) return;
    text_add_string(text, ",\"content_type\":\"");
    text_add_json(text, answer->result.content_type);
    text_add_string(text, "\"");
}

static void add_result_tail(struct txn_answer *answer)
{
    struct text *text = &answer->text;
    const struct txn_result *result = &answer->result;
    switch (answer->ops[answer->position].type) {
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
    answer->position++;
}

/* A step of at most about HTTP_PIECE_BYTES. False: the results are not those of the operations. */
static bool add_step(struct txn_answer *answer)
{
    if (!answer->is_in_value) {
        if (txn_result_decode(&answer->results, &answer->result) != TL_OK) return false;
        add_result_head(answer);
    } else {
        item_value_add_piece(&answer->text, &answer->value, HTTP_PIECE_BYTES);
        if (answer->value.left.count == 0) end_value(answer);
    }
    if (!answer->is_in_value) add_result_tail(answer);
    return true;
}

static void respond_answer(struct exchange *exchange)
{
    text_add_string(&exchange->txn_answer->text, "]}");
    respond_json(exchange, 200, &exchange->txn_answer->text);
}

static void continue_answer(struct exchange *exchange)
{
    struct txn_answer *answer = exchange->txn_answer;
    while (answer->position < answer->ops_count) {
        if (!http_turn_has_room(exchange->server) && exchange->kept != NULL) {
            exchange_pause(exchange, continue_answer);
            return;
        }
        size_t before = answer->text.count;
        if (!add_step(answer)) {
            respond_failure(exchange, failure_of_err(TL_ERR_UNKNOWN));
            return;
        }
        http_turn_use(exchange->server, answer->text.count - before);
    }
    if (!reader_is_done(&answer->results)) {
        respond_failure(exchange, failure_of_err(TL_ERR_UNKNOWN));
        return;
    }
    respond_answer(exchange);
}

static void begin_answer(struct exchange *exchange, const struct kv_result *result)
{
    bool succeeded = (result->flags & KV_RESULT_ELSE) == 0;
    enum txn_branch branch = succeeded ? TXN_THEN : TXN_ELSE;
    const struct txn *txn = exchange->txn;
    struct txn_answer *answer = h2o_mem_alloc_pool(&exchange->req->pool, sizeof *answer);
    *answer = (struct txn_answer){.ops = txn->ops[branch], .ops_count = txn->ops_count[branch]};
    answer->text =
        text_make(&exchange->req->pool, ANSWER_FIXED_BYTES + result->results.count +
                                            answer->ops_count * ANSWER_RESULT_BYTES);
    struct text *text = &answer->text;
    text_add_string(text, succeeded ? "{\"succeeded\":true" : "{\"succeeded\":false");
    item_add_number(text, ",\"revision\":", result->revision);
    text_add_string(text, ",\"results\":");
    /* A repeat whose results were too large for the record. */
    if (result->results.count == 0 && answer->ops_count > 0) {
        text_add_string(text, "null}");
        respond_json(exchange, 200, text);
        return;
    }
    text_add_string(text, "[");
    exchange->txn_answer = answer;
    answer->results = reader_make(result->results);
    if (result->results.count <= HTTP_PIECE_BYTES) {
        continue_answer(exchange);
        return;
    }
    struct buf *kept = result->results_buf != NULL ? buf_acquire(result->results_buf)
                                                   : buf_copy(result->results);
    exchange_keep(exchange, kept);
    if (result->results_buf == NULL) answer->results = reader_make(buf_bytes(kept));
    exchange_pause(exchange, continue_answer);
}

static void on_written(struct exchange *exchange, enum tl_err err, const struct kv_result *result)
{
    respond_server_timing(exchange);
    if (err != TL_OK) {
        respond_failure(exchange, failure_of_err(err));
        return;
    }
    if ((result->flags & KV_RESULT_REPLAYED) != 0) respond_replayed(exchange);
    if (result->status == KV_KEY_REUSED || result->status == KV_NO_ROOM) {
        respond_failure(exchange, failure_of_outcome(result->status));
        return;
    }
    if (result->status != KV_TXN) {
        bool is_else = (result->flags & KV_RESULT_ELSE) != 0;
        respond_operation_failed(exchange, failure_of_outcome(result->status),
                                 is_else ? "else" : "then", (uint64_t)result->number);
        return;
    }
    begin_answer(exchange, result);
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
