/* respond.c - answers: headers, bodies, errors, and the count of both. */

#include "http_internal.h"

#define ANSWER_HEADERS_MAX 12u
#define RETRY_AFTER_S 1u
#define NUMBER_HEADER_BYTES 24u
#define SERVER_TIMING_BYTES 96u
#define FAILURE_BODY_BYTES 256u
#define FAILURE_MORE_BYTES 64u

/* HTTP/2 wants names in lower case; HTTP/1 clients see the spelling of the documents. h2o takes
 * names by a pointer that is not const and does not write through it. */
struct header_name {
    h2o_iovec_t lower;
    const char *spelled;
};
#define HEADER_NAME(lower_, spelled_)                                                         \
    {                                                                                         \
        .lower = {.base = (char *)(lower_), .len = sizeof(lower_) - 1}, .spelled = (spelled_) \
    }

static struct header_name name_revision = HEADER_NAME("trilith-revision", "Trilith-Revision");
static struct header_name name_token = HEADER_NAME("trilith-token", "Trilith-Token");
static struct header_name name_node = HEADER_NAME("trilith-node", "Trilith-Node");
static struct header_name name_replayed = HEADER_NAME("trilith-replayed", "Trilith-Replayed");
static struct header_name name_applied = HEADER_NAME("trilith-applied", "Trilith-Applied");
static struct header_name name_age = HEADER_NAME("trilith-age-ms", "Trilith-Age-Ms");
static struct header_name name_timing = HEADER_NAME("server-timing", "Server-Timing");

/* `value` is in the request's pool or static. */
static void add_header(struct exchange *exchange, struct header_name *name, struct bytes value)
{
    h2o_headers_t *headers = &exchange->req->res.headers;
    h2o_vector_reserve(&exchange->req->pool, headers,
                       TL_MAX(headers->size + 1, ANSWER_HEADERS_MAX));
    headers->entries[headers->size++] = (h2o_header_t){
        .name = &name->lower,
        .orig_name = name->spelled,
        .value = h2o_iovec_init(value.data, value.count),
    };
}

static void add_token_header(struct exchange *exchange, const h2o_token_t *token,
                             const char *spelled, struct bytes value)
{
    h2o_add_header(&exchange->req->pool, &exchange->req->res.headers, token, spelled,
                   (const char *)value.data, value.count);
}

static void add_number(struct exchange *exchange, struct header_name *name, uint64_t value)
{
    struct text text = text_make(&exchange->req->pool, NUMBER_HEADER_BYTES);
    text_add_u64(&text, value);
    add_header(exchange, name, text_bytes(&text));
}

void respond_etag(struct exchange *exchange, uint64_t revision)
{
    struct text text = text_make(&exchange->req->pool, NUMBER_HEADER_BYTES);
    text_add_string(&text, "\"");
    text_add_u64(&text, revision);
    text_add_string(&text, "\"");
    add_token_header(exchange, H2O_TOKEN_ETAG, "ETag", text_bytes(&text));
}

void respond_replayed(struct exchange *exchange)
{
    add_header(exchange, &name_replayed, bytes_of("true"));
}

/* The headers of a local read: what it saw and how old that may be. */
static void add_local(struct exchange *exchange)
{
    add_number(exchange, &name_applied, exchange->applied);
    uint64_t age_ms = node_age_ms(exchange->server->node, NODE_DATA_GROUP);
    add_number(exchange, &name_age, TL_MIN(age_ms, (uint64_t)INT64_MAX)); /* as in JSON */
}

/* A step that was not reached took no time; the one it ended in took all that was left. */
void respond_server_timing(struct exchange *exchange)
{
    const struct node_write *write = &exchange->write;
    uint64_t now_ns = http_now_ns();
    uint64_t submitted_ns = write->submitted_ns > 0 ? write->submitted_ns : now_ns;
    uint64_t proposed_ns = write->proposed_ns > 0 ? write->proposed_ns : now_ns;
    uint64_t committed_ns = write->committed_ns > 0 ? write->committed_ns : now_ns;
    const struct {
        const char *name;
        uint64_t begin_ns;
        uint64_t end_ns;
    } steps[] = {
        {"queue;dur=", submitted_ns, proposed_ns},
        {", replicate;dur=", proposed_ns, committed_ns},
        {", apply;dur=", committed_ns, now_ns},
    };
    struct text text = text_make(&exchange->req->pool, SERVER_TIMING_BYTES);
    for (size_t i = 0; i < TL_COUNT_OF(steps); i++) {
        uint64_t step_ns =
            steps[i].end_ns > steps[i].begin_ns ? steps[i].end_ns - steps[i].begin_ns : 0;
        text_add_string(&text, steps[i].name);
        text_add_milli(&text, step_ns / 1000);
    }
    add_header(exchange, &name_timing, text_bytes(&text));
}

static void add_position(struct exchange *exchange)
{
    struct http_server *server = exchange->server;
    if (!exchange->has_position && node_views(server->node, NODE_DATA_GROUP) != NULL) {
        exchange->revision = node_applied_revision(server->node, NODE_DATA_GROUP);
        exchange->token_us = node_applied_time_us(server->node, NODE_DATA_GROUP);
    }
    add_number(exchange, &name_revision, exchange->revision);
    add_number(exchange, &name_token, exchange->token_us);
    add_header(exchange, &name_node, bytes_of(server->options.address));
    bool is_local_read = exchange->applied > 0 && exchange->options.consistency == NODE_LOCAL;
    if (is_local_read) add_local(exchange);
}

static void count_answer(struct exchange *exchange, int status)
{
    TL_ASSERT(status >= STATUS_MIN);
    TL_ASSERT((uint32_t)(status - STATUS_MIN) < STATUSES_COUNT);
    exchange->server->counters.requests[exchange->family][exchange->method][status - STATUS_MIN]++;
}

/* Of a large body a piece at a time, each when the socket has taken the one before, and as much as
 * a turn has room for: one answer of megabytes costs milliseconds, and there may be many. */
static void send_piece(struct exchange *exchange)
{
    struct bytes *unsent = &exchange->unsent;
    size_t count = TL_MIN(unsent->count, HTTP_PIECE_BYTES);
    h2o_iovec_t part = h2o_iovec_init(unsent->data, count);
    *unsent = bytes_make(unsent->data + count, unsent->count - count);
    http_turn_use(exchange->server, count);
    bool is_last = unsent->count == 0;
    h2o_send(exchange->req, &part, count > 0 ? 1 : 0,
             is_last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    (void)req;
    struct exchange *exchange = TL_CONTAINER_OF(generator, struct exchange, generator);
    if (http_turn_has_room(exchange->server)) {
        send_piece(exchange);
    } else {
        exchange_pause(exchange, send_piece);
    }
}

/* content_length SIZE_MAX: an answer that has no body, and no header that speaks of one. */
static void send_answer(struct exchange *exchange, int status, size_t content_length,
                        struct bytes body)
{
    h2o_req_t *req = exchange->req;
    TL_ASSERT(!exchange->is_answered);
    TL_ASSERT(exchange->waiting == EXCHANGE_IDLE);
    exchange->is_answered = true;
    count_answer(exchange, status);
    add_position(exchange);
    req->res.status = status;
    req->res.reason = status_reason(status);
    req->res.content_length = content_length;
    /* h2o decides this when it has read the head of a request, which may be before the closing. */
    if (exchange->server->state != SERVER_OPEN) req->http1_is_persistent = 0;
    exchange->generator = (h2o_generator_t){.proceed = on_proceed};
    if (exchange->method != METHOD_HEAD) exchange->unsent = body;
    h2o_start_response(req, &exchange->generator);
    send_piece(exchange);
}

void respond(struct exchange *exchange, int status, struct bytes content_type, struct bytes body)
{
    if (content_type.count > 0) {
        add_token_header(exchange, H2O_TOKEN_CONTENT_TYPE, "Content-Type", content_type);
    }
    send_answer(exchange, status, body.count, body);
}

void respond_text(struct exchange *exchange, int status, const char *body)
{
    respond(exchange, status, bytes_of("text/plain; charset=utf-8"), bytes_of(body));
}

void respond_json(struct exchange *exchange, int status, const struct text *text)
{
    respond(exchange, status, bytes_of("application/json"), text_bytes(text));
}

void respond_empty(struct exchange *exchange, int status)
{
    send_answer(exchange, status, status == 204 ? SIZE_MAX : 0, bytes_make(NULL, 0));
}

static void add_retry_after(struct exchange *exchange)
{
    struct text value = text_make(&exchange->req->pool, NUMBER_HEADER_BYTES);
    text_add_u64(&value, TL_MAX(exchange->retry_after_s, RETRY_AFTER_S));
    add_token_header(exchange, H2O_TOKEN_RETRY_AFTER, "Retry-After", text_bytes(&value));
}

/* `more` is what stands behind the usual members of the error: nothing, or from a comma on. */
static void respond_failure_and(struct exchange *exchange, const struct failure *failure,
                                struct bytes more)
{
    if (failure->status == 429 || failure->status == 503) {
        add_retry_after(exchange);
    }
    struct text text = text_make(&exchange->req->pool, FAILURE_BODY_BYTES);
    text_add_string(&text, "{\"error\":{\"code\":\"");
    text_add_string(&text, failure->code);
    text_add_string(&text, "\",\"message\":\"");
    text_add_string(&text, failure->message);
    text_add_string(&text, "\",\"outcome\":\"");
    text_add_string(&text, failure->is_unknown ? "unknown" : "not_executed");
    text_add_string(&text, "\"");
    text_add(&text, more);
    text_add_string(&text, "}}");
    respond_json(exchange, failure->status, &text);
}

void respond_failure(struct exchange *exchange, const struct failure *failure)
{
    respond_failure_and(exchange, failure, bytes_make(NULL, 0));
}

void respond_failure_with(struct exchange *exchange, const struct failure *failure,
                          const char *name, uint64_t value)
{
    struct text more = text_make(&exchange->req->pool, FAILURE_MORE_BYTES);
    text_printf(&more, ",\"%s\":", name);
    text_add_u64(&more, value);
    respond_failure_and(exchange, failure, text_bytes(&more));
}

void respond_condition_failed(struct exchange *exchange, uint64_t revision)
{
    if (revision != 0) respond_etag(exchange, revision);
    respond_failure_with(exchange, failure_of_outcome(KV_CONDITION_FAILED), "revision", revision);
}

void respond_operation_failed(struct exchange *exchange, const struct failure *failure,
                              const char *branch, uint64_t position)
{
    struct text more = text_make(&exchange->req->pool, FAILURE_MORE_BYTES);
    text_printf(&more, ",\"branch\":\"%s\"", branch);
    item_add_number(&more, ",\"operation\":", position);
    respond_failure_and(exchange, failure, text_bytes(&more));
}

void respond_refusal(struct exchange *exchange, enum refusal refusal)
{
    respond_failure(exchange, failure_of_refusal(refusal));
}

void respond_method(struct exchange *exchange, const char *allow)
{
    add_token_header(exchange, H2O_TOKEN_ALLOW, "Allow", bytes_of(allow));
    respond_refusal(exchange, REFUSAL_METHOD);
}

struct bytes respond_copy(struct exchange *exchange, struct bytes bytes)
{
    if (bytes.count == 0) return bytes;
    void *copy = h2o_mem_alloc_pool(&exchange->req->pool, bytes.count);
    memcpy(copy, bytes.data, bytes.count);
    return bytes_make(copy, bytes.count);
}
