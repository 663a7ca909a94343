/* scan.c - GET /v1/kv: a page of a range of keys, or how many there are.
 *
 * A page is read from one view within PAGE_TIME_NS; what does not fit into that time, its bytes or
 * its limit comes with the next request, behind `next`. A count has no page to end: it goes on in
 * later turns, COUNT_TIME_NS at a time, each with a view of its own, up to the request's timeout.
 */

#include "http_internal.h"
#include "trilith/scan.h"

#define LIMIT_DEFAULT 100u
#define LIMIT_MAX 1000u
#define PAGE_BYTES_MAX (1024u * 1024u)
#define PAGE_TIME_NS 10000000ull /* a pin's */
#define COUNT_TIME_NS 1000000ull /* a turn's */
#define ANSWER_BYTES 16384u

struct scan {
    struct scan_page page;
    bool is_count;
    uint64_t limit_ns;            /* of this page or slice */
    uint64_t rows_count;          /* of the slices before */
    struct text text;             /* the answer as far as it goes */
    uint8_t after[KEY_BYTES_MAX]; /* where the next slice goes on */
};

/* ---- what is asked for ---- */

enum {
    PARAM_CONSISTENCY,
    PARAM_PREFIX,
    PARAM_START,
    PARAM_END,
    PARAM_AFTER,
    PARAM_LIMIT,
    PARAM_REVERSE,
    PARAM_KEYS_ONLY,
    PARAM_COUNT_ONLY,
    PARAMS_COUNT
};

/* Of "name", "name=1" and "name=true": set. */
static bool take_flag(const struct query_param *param, bool *out_is_set)
{
    struct bytes value = param->value;
    bool is_off = !param->is_present || text_is(value, "0") || text_is(value, "false");
    *out_is_set = !is_off;
    return is_off || value.count == 0 || text_is(value, "1") || text_is(value, "true");
}

static bool take_limit(const struct query_param *param, uint32_t *out_limit)
{
    uint64_t limit = LIMIT_DEFAULT;
    if (param->is_present && !parse_u64(param->value, &limit)) return false;
    *out_limit = (uint32_t)limit;
    return limit >= 1 && limit <= LIMIT_MAX;
}

static const struct failure *take_range(const struct query_param *params,
                                        struct scan_range *out_range)
{
    for (size_t i = PARAM_PREFIX; i <= PARAM_AFTER; i++) {
        if (params[i].value.count > KEY_BYTES_MAX) return failure_of_refusal(REFUSAL_KEY_LONG);
    }
    *out_range = (struct scan_range){
        .prefix = params[PARAM_PREFIX].value,
        .start = params[PARAM_START].value,
        .end = params[PARAM_END].value,
        .after = params[PARAM_AFTER].value,
    };
    return take_flag(&params[PARAM_REVERSE], &out_range->is_reverse)
               ? NULL
               : failure_of_refusal(REFUSAL_QUERY);
}

static const struct failure *take_params(const struct query_param *params, struct scan *scan)
{
    const struct failure *failure = take_range(params, &scan->page.range);
    if (failure != NULL) return failure;
    if (!take_flag(&params[PARAM_KEYS_ONLY], &scan->page.has_no_values) ||
        !take_flag(&params[PARAM_COUNT_ONLY], &scan->is_count)) {
        return failure_of_refusal(REFUSAL_QUERY);
    }
    if (!take_limit(&params[PARAM_LIMIT], &scan->page.rows_max) ||
        (scan->is_count && params[PARAM_LIMIT].is_present)) {
        return failure_of_refusal(REFUSAL_LIMIT);
    }
    return NULL;
}

/* False: refused. */
static bool take_request(struct exchange *exchange, struct scan *scan)
{
    struct query_param params[PARAMS_COUNT] = {
        {.name = "consistency"}, {.name = "prefix"},    {.name = "start"},
        {.name = "end"},         {.name = "after"},     {.name = "limit"},
        {.name = "reverse"},     {.name = "keys_only"}, {.name = "count_only"},
    };
    if (!exchange_take_query(exchange, params, PARAMS_COUNT)) return false;
    const struct failure *failure = exchange_take_options(exchange, &params[PARAM_CONSISTENCY]);
    if (failure == NULL) failure = take_params(params, scan);
    if (failure != NULL) respond_failure(exchange, failure);
    return failure == NULL;
}

/* ---- answers ---- */

static void on_row(void *context, struct bytes key, const struct row_header *header,
                   struct bytes value)
{
    struct scan *scan = context;
    struct text *text = &scan->text;
    text_add_string(text, scan->page.rows_count > 0 ? ",{" : "{");
    item_add_key(text, key);
    if (!scan->page.has_no_values) item_add_value(text, value);
    item_add_number(text, ",\"revision\":", header->revision);
    item_add_number(text, ",\"version\":", header->version);
    text_add_string(text, "}");
}

static bool is_time_up(void *context)
{
    const struct scan *scan = context;
    return http_now_ns() >= scan->limit_ns;
}

static void add_next(struct text *text, const struct scan_page *page)
{
    struct bytes next = bytes_make(page->next, page->next_bytes);
    if (page->is_last) {
        text_add_string(text, ",\"next\":null");
    } else if (utf8_is_valid(next)) {
        text_add_string(text, ",\"next\":\"");
        text_add_json(text, next);
        text_add_string(text, "\"");
    } else {
        text_add_string(text, ",\"next\":\"");
        text_add_base64(text, next);
        text_add_string(text, "\",\"next_encoding\":\"base64\"");
    }
}

/* Behind the items. */
static void respond_scan(struct exchange *exchange, uint64_t rows_count)
{
    struct scan *scan = exchange->scan;
    text_add_string(&scan->text, "]");
    add_next(&scan->text, &scan->page);
    item_add_number(&scan->text, ",\"count\":", rows_count);
    text_add_string(&scan->text, "}");
    respond_json(exchange, 200, &scan->text);
}

/* ---- pages ---- */

static void run(struct scan *scan, struct view_reader *reader, uint64_t time_ns)
{
    struct tl_fault fault;
    scan->limit_ns = http_now_ns() + time_ns;
    if (scan_run(reader, &scan->page, &fault) != TL_OK) http_storage_failed(&fault);
}

static void on_page_view(struct exchange *exchange, enum tl_err err, struct view_reader *reader)
{
    struct scan *scan = exchange->scan;
    if (err != TL_OK) {
        respond_failure(exchange, failure_of_err(err));
        return;
    }
    run(scan, reader, PAGE_TIME_NS);
    struct http_counters *counters = &exchange->server->counters;
    counters->scan_rows_count += scan->page.rows_count;
    counters->scan_pages_cut_count += scan->page.is_cut;
    respond_scan(exchange, scan->page.rows_count);
}

/* ---- counts ---- */

/* The state machine keeps the count of all rows. */
static void respond_count_of_all(struct exchange *exchange)
{
    struct node_group_status status;
    node_get_group_status(exchange->server->node, NODE_DATA_GROUP, &status);
    exchange->scan->page.is_last = true;
    respond_scan(exchange, status.state.rows_count);
}

static void on_count_view(struct exchange *exchange, enum tl_err err, struct view_reader *reader)
{
    struct scan *scan = exchange->scan;
    struct scan_page *page = &scan->page;
    if (err != TL_OK) {
        respond_failure(exchange, failure_of_err(err));
        return;
    }
    if (scan_range_is_all(&page->range)) {
        respond_count_of_all(exchange);
        return;
    }
    run(scan, reader, COUNT_TIME_NS);
    http_turn_use(exchange->server, HTTP_TURN_BYTES);
    scan->rows_count += page->rows_count;
    if (page->is_last || http_now_ns() >= exchange->read.deadline_ns) {
        respond_scan(exchange, scan->rows_count);
        return;
    }
    memcpy(scan->after, page->next, page->next_bytes);
    page->range.after = bytes_make(scan->after, page->next_bytes);
    exchange->server->counters.scan_slices_count++;
    exchange_pause_view(exchange);
}

void scan_serve(struct exchange *exchange)
{
    if (exchange->method != METHOD_GET) {
        respond_method(exchange, "GET");
        return;
    }
    struct scan *scan = h2o_mem_alloc_pool(&exchange->req->pool, sizeof *scan);
    *scan = (struct scan){.page = {.bytes_max = PAGE_BYTES_MAX, .is_time_up = is_time_up}};
    if (!take_request(exchange, scan)) return;
    exchange->scan = scan;
    scan->page.context = scan;
    scan->text = text_make(&exchange->req->pool, ANSWER_BYTES);
    text_add_string(&scan->text, "{\"items\":[");
    if (scan->is_count) {
        scan->page.rows_max = UINT32_MAX;
        exchange_view(exchange, on_count_view);
    } else {
        scan->page.on_row = on_row;
        exchange_view(exchange, on_page_view);
    }
}
