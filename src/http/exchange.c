/* exchange.c - one request: its key and options taken apart, its write or read, its end. */

#include "http_internal.h"

static void check(const struct exchange *exchange)
{
    TL_ASSERT(exchange->magic == EXCHANGE_MAGIC);
    TL_ASSERT(exchange->server->magic == HTTP_SERVER_MAGIC);
    if (exchange->waiting == EXCHANGE_WRITING) TL_ASSERT(exchange->on_written != NULL);
    if (exchange->waiting == EXCHANGE_READING) TL_ASSERT(exchange->on_view != NULL);
    if (exchange->waiting == EXCHANGE_CHANGING) TL_ASSERT(exchange->on_changed != NULL);
    if (exchange->waiting == EXCHANGE_TRANSFERRING) TL_ASSERT(exchange->on_changed != NULL);
    if (exchange->waiting == EXCHANGE_LOG) TL_ASSERT(exchange->on_log != NULL);
    if (exchange->waiting == EXCHANGE_PAUSED) TL_ASSERT(exchange->on_resume != NULL);
    /* Only what is left of a body is waited for then. */
    if (exchange->is_answered) {
        TL_ASSERT(exchange->waiting == EXCHANGE_IDLE || exchange->waiting == EXCHANGE_PAUSED);
    }
}

static void paused_remove(struct exchange *exchange)
{
    struct http_server *server = exchange->server;
    struct exchange *older = exchange->paused_older;
    struct exchange *newer = exchange->paused_newer;
    *(older != NULL ? &older->paused_newer : &server->paused_oldest) = newer;
    *(newer != NULL ? &newer->paused_older : &server->paused_newest) = older;
    exchange->paused_older = NULL;
    exchange->paused_newer = NULL;
}

static void stop_waiting(struct exchange *exchange)
{
    struct node *node = exchange->server->node;
    switch (exchange->waiting) {
    case EXCHANGE_IDLE:
        return;
    case EXCHANGE_WRITING:
        node_write_cancel(node, &exchange->write);
        return;
    case EXCHANGE_READING:
        node_read_cancel(node, &exchange->read);
        return;
    case EXCHANGE_CHANGING:
        node_change_cancel(node, exchange->change);
        return;
    case EXCHANGE_TRANSFERRING:
        node_leader_transfer_cancel(node, exchange->transfer);
        return;
    case EXCHANGE_LOG:
        node_log_query_cancel(node, exchange->log);
        return;
    case EXCHANGE_PAUSED:
        paused_remove(exchange);
        return;
    }
}

/* The request is gone: nobody waits for the answer any more. */
static void exchange_dispose(void *memory)
{
    struct exchange *exchange = TL_CAST(exchange, memory, EXCHANGE_MAGIC);
    check(exchange);
    struct http_server *server = exchange->server;
    if (exchange->waiting != EXCHANGE_IDLE) {
        stop_waiting(exchange);
        server->exchanges_waiting_count--;
        server->counters.abandoned_count++;
    }
    buf_release(TL_TAKE(&exchange->kept));
    exchange->magic = 0;
}

struct exchange *exchange_create(struct http_server *server, h2o_req_t *req)
{
    struct exchange *exchange =
        h2o_mem_alloc_shared(&req->pool, sizeof *exchange, exchange_dispose);
    memset(exchange, 0, sizeof *exchange);
    exchange->magic = EXCHANGE_MAGIC;
    exchange->server = server;
    exchange->req = req;
    check(exchange);
    return exchange;
}

const struct failure *exchange_parse_query(struct exchange *exchange, struct query_param *params,
                                           size_t params_count)
{
    if (exchange->query.count == 0) return NULL;
    uint8_t *scratch = h2o_mem_alloc_pool(&exchange->req->pool, exchange->query.count);
    if (query_parse(exchange->query, scratch, params, params_count)) return NULL;
    return failure_of_refusal(REFUSAL_QUERY);
}

bool exchange_take_query(struct exchange *exchange, struct query_param *params, size_t params_count)
{
    const struct failure *failure = exchange_parse_query(exchange, params, params_count);
    if (failure != NULL) respond_failure(exchange, failure);
    return failure == NULL;
}

bool exchange_take_dry_run(struct exchange *exchange, bool *out_is_dry_run)
{
    struct query_param param = {.name = "dry_run"};
    if (!exchange_take_query(exchange, &param, 1)) return false;
    bool is_wrong = param.is_present && !text_is(param.value, "1") && !text_is(param.value, "0");
    if (is_wrong) respond_refusal(exchange, REFUSAL_QUERY);
    *out_is_dry_run = param.is_present && text_is(param.value, "1");
    return !is_wrong;
}

bool exchange_take_get(struct exchange *exchange, struct query_param *params, size_t params_count)
{
    if (exchange->method != METHOD_GET && exchange->method != METHOD_HEAD) {
        respond_method(exchange, "GET, HEAD");
        return false;
    }
    return exchange_take_query(exchange, params, params_count);
}

const struct failure *exchange_take_key(struct exchange *exchange, const char *prefix)
{
    size_t prefix_bytes = strlen(prefix);
    TL_ASSERT(exchange->path.count >= prefix_bytes);
    struct bytes raw =
        bytes_make(exchange->path.data + prefix_bytes, exchange->path.count - prefix_bytes);
    if (raw.count == 0) return failure_of_refusal(REFUSAL_KEY_EMPTY);
    uint8_t *key = h2o_mem_alloc_pool(&exchange->req->pool, raw.count);
    size_t key_bytes;
    if (!percent_decode(raw, key, &key_bytes)) return failure_of_refusal(REFUSAL_ESCAPE);
    if (key_bytes > KEY_BYTES_MAX) return failure_of_refusal(REFUSAL_KEY_LONG);
    exchange->key = bytes_make(key, key_bytes);
    return NULL;
}

static struct bytes bytes_of_iovec(h2o_iovec_t iovec)
{
    return bytes_make(iovec.base, iovec.len);
}

static const struct failure *take_consistency(struct request_options *options, struct bytes value)
{
    if (options->has_consistency || !parse_consistency(value, &options->consistency)) {
        return failure_of_refusal(REFUSAL_CONSISTENCY);
    }
    options->has_consistency = true;
    return NULL;
}

static const struct failure *take_if_match(struct request_options *options, struct bytes value)
{
    if (options->condition != CONDITION_NONE) return failure_of_refusal(REFUSAL_CONDITION);
    if (text_is(value, "*")) {
        options->condition = CONDITION_EXISTS;
        return NULL;
    }
    if (!parse_etag(value, &options->condition_revision)) {
        return failure_of_refusal(REFUSAL_CONDITION);
    }
    options->condition = CONDITION_REVISION;
    return NULL;
}

static const struct failure *take_if_none_match(struct request_options *options, struct bytes value)
{
    if (options->condition != CONDITION_NONE || !text_is(value, "*")) {
        return failure_of_refusal(REFUSAL_CONDITION);
    }
    options->condition = CONDITION_ABSENT;
    return NULL;
}

static const struct failure *take_idempotency_key(struct request_options *options,
                                                  struct bytes value)
{
    if (options->has_idempotency_key || value.count == 0 ||
        value.count > IDEMPOTENCY_KEY_BYTES_MAX) {
        return failure_of_refusal(REFUSAL_IDEMPOTENCY_KEY);
    }
    options->has_idempotency_key = true;
    options->idempotency_key = hash_bytes(value);
    return NULL;
}

/* Whether it is ahead of the cluster's time the node finds out. */
static const struct failure *take_token(struct request_options *options, struct bytes value)
{
    if (options->has_token || !parse_u64(value, &options->token_us)) {
        return failure_of_refusal(REFUSAL_TOKEN);
    }
    options->has_token = true;
    return NULL;
}

static const struct failure *take_content_type(struct request_options *options, struct bytes value)
{
    if (options->has_content_type || value.count > CONTENT_TYPE_BYTES_MAX ||
        !media_type_is_valid(value)) {
        return failure_of_refusal(REFUSAL_CONTENT_TYPE);
    }
    options->has_content_type = true;
    options->content_type = value;
    return NULL;
}

static const struct failure *take_header(struct exchange *exchange, const h2o_header_t *header)
{
    struct request_options *options = &exchange->options;
    struct bytes value = bytes_of_iovec(header->value);
    if (h2o_iovec_is_token(header->name)) {
        if (header->name == &H2O_TOKEN_CONTENT_TYPE->buf) return take_content_type(options, value);
        if (header->name == &H2O_TOKEN_CONTENT_ENCODING->buf &&
            !text_is_nocase(value, "identity")) {
            return failure_of_refusal(REFUSAL_CONTENT_ENCODING);
        }
        /* Conditions are for writes; a cache that revalidates a read gets the whole answer. */
        if (exchange->method == METHOD_GET || exchange->method == METHOD_HEAD) return NULL;
        if (header->name == &H2O_TOKEN_IF_MATCH->buf) return take_if_match(options, value);
        if (header->name == &H2O_TOKEN_IF_NONE_MATCH->buf)
            return take_if_none_match(options, value);
        return NULL;
    }
    struct bytes name = bytes_of_iovec(*header->name);
    if (text_is(name, "trilith-consistency")) return take_consistency(options, value);
    if (text_is(name, "trilith-token")) return take_token(options, value);
    if (text_is(name, "idempotency-key")) return take_idempotency_key(options, value);
    return NULL;
}

const struct failure *exchange_take_options(struct exchange *exchange,
                                            const struct query_param *consistency)
{
    const struct failure *failure = NULL;
    if (consistency != NULL && consistency->is_present) {
        failure = take_consistency(&exchange->options, consistency->value);
    }
    const h2o_headers_t *headers = &exchange->req->headers;
    for (size_t i = 0; i < headers->size && failure == NULL; i++) {
        failure = take_header(exchange, &headers->entries[i]);
    }
    return failure;
}

struct bytes exchange_body(const struct exchange *exchange)
{
    return bytes_of_iovec(exchange->req->entity);
}

static void wait_begin(struct exchange *exchange, enum exchange_waiting waiting)
{
    TL_ASSERT(exchange->waiting == EXCHANGE_IDLE);
    exchange->waiting = waiting;
    exchange->server->exchanges_waiting_count++;
    pump_wake(exchange->server->pump);
    check(exchange);
}

static void wait_end(struct exchange *exchange)
{
    check(exchange);
    TL_ASSERT(exchange->waiting != EXCHANGE_IDLE);
    exchange->waiting = EXCHANGE_IDLE;
    exchange->server->exchanges_waiting_count--;
}

static void on_write_done(struct node_write *write, enum tl_err err, const struct kv_result *result)
{
    struct exchange *exchange = TL_CAST(exchange, write->context, EXCHANGE_MAGIC);
    wait_end(exchange);
    if (err == TL_OK) {
        exchange->has_position = true;
        exchange->revision = result->group_revision;
        exchange->token_us = result->time_us;
    }
    if (err == TL_OK && result->status == KV_NO_ROOM) {
        exchange->retry_after_s = node_log_time_seconds((uint64_t)TL_MAX(result->number, 0));
    }
    exchange->on_written(exchange, err, result);
}

void exchange_write(struct exchange *exchange, struct command *command,
                    exchange_on_written on_written)
{
    const struct request_options *options = &exchange->options;
    struct http_server *server = exchange->server;
    command->condition = options->condition;
    command->condition_revision = options->condition_revision;
    command->has_idempotency_key = options->has_idempotency_key;
    command->idempotency_key = options->idempotency_key;
    command->origin = node_self(server->node);
    command->token_us = options->token_us;
    command->value_bytes_max = server->options.value_bytes_max;
    command->records_max = server->options.idempotency_records;
    command->key = exchange->key;

    exchange->on_written = on_written;
    exchange->write = (struct node_write){
        .group = NODE_DATA_GROUP,
        .entry = command_encode(command),
        .deadline_ns = http_now_ns() + server->options.request_timeout_ns,
        .token_us = options->token_us,
        .is_keyed = options->has_idempotency_key,
        .on_done = on_write_done,
        .context = exchange,
    };
    enum tl_err err = node_write(server->node, &exchange->write);
    if (err != TL_OK) {
        buf_release(TL_TAKE(&exchange->write.entry));
        on_written(exchange, err, NULL);
        return;
    }
    wait_begin(exchange, EXCHANGE_WRITING);
}

/* Looks the key up at the view's index and hands the row on while the view is pinned. */
static enum tl_err read_row(struct exchange *exchange, struct view_reader *reader,
                            struct row_view *out_row)
{
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct tl_fault fault = {.reason = "a row does not decode", .group = NODE_DATA_GROUP};
    struct bytes row;
    enum tl_err err =
        view_get(reader, env_key_make(ENV_KEY_ROW, exchange->key, room), &row, &fault);
    if (err == TL_ERR_NOT_FOUND) return err;
    if (err == TL_OK) err = row_decode(row, true, &out_row->header);
    if (err != TL_OK) http_storage_failed(&fault);
    out_row->content_type = row_content_type(row, &out_row->header);
    out_row->value = row_value(row, &out_row->header);
    return TL_OK;
}

static void on_view_of_row(struct exchange *exchange, enum tl_err err, struct view_reader *reader)
{
    struct row_view row;
    if (err == TL_OK) err = read_row(exchange, reader, &row);
    exchange->on_row(exchange, err, err == TL_OK ? &row : NULL);
}

static void view_now(struct exchange *exchange)
{
    struct http_server *server = exchange->server;
    if (!http_turn_has_room(server)) {
        exchange_pause_view(exchange);
        return;
    }
    struct view_reader *reader = http_server_reader(server);
    if (reader == NULL) {
        exchange->on_view(exchange, TL_ERR_STARTING, NULL);
        return;
    }
    raft_index applied;
    struct tl_fault fault;
    if (view_begin(reader, &applied, &fault) != TL_OK) http_storage_failed(&fault);
    exchange->has_position = true;
    exchange->revision = node_applied_revision(server->node, NODE_DATA_GROUP);
    exchange->token_us = node_applied_time_us(server->node, NODE_DATA_GROUP);
    exchange->applied = applied;
    exchange->on_view(exchange, TL_OK, reader);
    view_end(reader);
}

static void on_read_ready(struct node_read *read, enum tl_err err)
{
    struct exchange *exchange = TL_CAST(exchange, read->context, EXCHANGE_MAGIC);
    wait_end(exchange);
    if (err != TL_OK) {
        exchange->on_view(exchange, err, NULL);
        return;
    }
    view_now(exchange);
}

void exchange_view(struct exchange *exchange, exchange_on_view on_view)
{
    struct http_server *server = exchange->server;
    exchange->on_view = on_view;
    exchange->read = (struct node_read){
        .group = NODE_DATA_GROUP,
        .consistency = exchange->options.consistency,
        .token_us = exchange->options.token_us,
        .deadline_ns = http_now_ns() + server->options.request_timeout_ns,
        .on_ready = on_read_ready,
        .context = exchange,
    };
    bool is_ready = false;
    enum tl_err err = node_read(server->node, &exchange->read, &is_ready);
    if (err != TL_OK) {
        on_view(exchange, err, NULL);
        return;
    }
    if (is_ready) {
        view_now(exchange);
        return;
    }
    wait_begin(exchange, EXCHANGE_READING);
}

static void on_change_done(struct node_change *change, enum tl_err err)
{
    struct exchange *exchange = TL_CAST(exchange, change->context, EXCHANGE_MAGIC);
    wait_end(exchange);
    exchange->on_changed(exchange, err);
}

void exchange_change(struct exchange *exchange, struct node_change *change,
                     exchange_on_changed on_changed)
{
    struct http_server *server = exchange->server;
    exchange->change = change;
    exchange->on_changed = on_changed;
    change->deadline_ns = http_now_ns() + server->options.request_timeout_ns;
    change->on_done = on_change_done;
    change->context = exchange;
    enum tl_err err = node_change(server->node, change);
    if (err != TL_OK) {
        on_changed(exchange, err);
        return;
    }
    wait_begin(exchange, EXCHANGE_CHANGING);
}

static void on_transfer_done(struct node_leader_transfer *transfer, enum tl_err err)
{
    struct exchange *exchange = TL_CAST(exchange, transfer->context, EXCHANGE_MAGIC);
    wait_end(exchange);
    exchange->on_changed(exchange, err);
}

void exchange_transfer(struct exchange *exchange, struct node_leader_transfer *transfer,
                       exchange_on_changed on_changed)
{
    struct http_server *server = exchange->server;
    exchange->transfer = transfer;
    exchange->on_changed = on_changed;
    transfer->deadline_ns = http_now_ns() + server->options.request_timeout_ns;
    transfer->on_done = on_transfer_done;
    transfer->context = exchange;
    enum tl_err err = node_leader_transfer(server->node, transfer);
    if (err != TL_OK) {
        on_changed(exchange, err);
        return;
    }
    wait_begin(exchange, EXCHANGE_TRANSFERRING);
}

static void on_log_done(struct node_log_query *query, enum tl_err err)
{
    struct exchange *exchange = TL_CAST(exchange, query->context, EXCHANGE_MAGIC);
    wait_end(exchange);
    exchange->on_log(exchange, err, query);
}

void exchange_query_log(struct exchange *exchange, const struct node_log_query *query,
                        exchange_on_log on_log)
{
    exchange->on_log = on_log;
    exchange->log = h2o_mem_alloc_pool(&exchange->req->pool, sizeof *exchange->log);
    *exchange->log = *query;
    exchange->log->timeout_ns = exchange->server->options.request_timeout_ns;
    exchange->log->on_done = on_log_done;
    exchange->log->context = exchange;
    enum tl_err err = node_log_query(exchange->server->node, exchange->log);
    if (err != TL_OK) {
        on_log(exchange, err, exchange->log);
        return;
    }
    wait_begin(exchange, EXCHANGE_LOG);
}

void exchange_read(struct exchange *exchange, exchange_on_row on_row)
{
    exchange->on_row = on_row;
    exchange_view(exchange, on_view_of_row);
}

/* ---- work in slices ---- */

bool http_turn_has_room(const struct http_server *server)
{
    return server->turn_bytes < HTTP_TURN_BYTES;
}

void http_turn_use(struct http_server *server, size_t bytes)
{
    server->turn_bytes += bytes;
}

void exchange_keep(struct exchange *exchange, struct buf *buf)
{
    TL_ASSERT(exchange->kept == NULL);
    exchange->kept = buf;
}

static void on_busy(uv_idle_t *handle)
{
    (void)handle; /* being active is all it is for */
}

void exchange_pause(struct exchange *exchange, exchange_on_resume on_resume)
{
    struct http_server *server = exchange->server;
    TL_ASSERT(exchange->waiting == EXCHANGE_IDLE);
    exchange->waiting = EXCHANGE_PAUSED;
    exchange->on_resume = on_resume;
    server->exchanges_waiting_count++;
    exchange->paused_older = server->paused_newest;
    *(server->paused_newest != NULL ? &server->paused_newest->paused_newer
                                    : &server->paused_oldest) = exchange;
    server->paused_newest = exchange;
    int err = uv_idle_start(&server->busy, on_busy);
    TL_ASSERT(err == 0);
    check(exchange);
}

void exchange_pause_view(struct exchange *exchange)
{
    exchange_pause(exchange, view_now);
}

/* As many of them as a turn has room for: however many there are, what else the loop has to do is
 * not held up. One that pauses again waits for its turn behind the others. */
void exchange_on_turn(uv_prepare_t *watch)
{
    struct http_server *server = TL_CAST(http_server, watch->data, HTTP_SERVER_MAGIC);
    server->turn_bytes = 0;
    const struct exchange *newest = server->paused_newest;
    bool is_last = false;
    while (!is_last && server->paused_oldest != NULL && http_turn_has_room(server)) {
        struct exchange *exchange = server->paused_oldest;
        is_last = exchange == newest;
        paused_remove(exchange);
        wait_end(exchange);
        exchange->on_resume(exchange); /* it may be gone afterwards */
    }
    if (server->paused_oldest != NULL) return;
    int err = uv_idle_stop(&server->busy);
    TL_ASSERT(err == 0);
}
