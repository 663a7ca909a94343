/* log.c - /v1/log: the replicated log as a chain of blocks, and the check of the chain. */

#include "http_internal.h"

#include <time.h>

#define LIMIT_DEFAULT 100u
#define BLOCK_BYTES 512u /* of room to begin with */
#define TIME_TEXT_BYTES 40u

static const char *type_name(enum entry_type type)
{
    switch (type) {
    case ENTRY_GENESIS:
        return "genesis";
    case ENTRY_NOOP:
        return "noop";
    case ENTRY_COMMAND:
        return "command";
    case ENTRY_CONF:
        return "configuration";
    }
    return "unknown";
}

/* ---- blocks ---- */

/* RFC 3339, in UTC, with microseconds. */
static void add_time(struct text *text, uint64_t time_us)
{
    time_t seconds = (time_t)(time_us / 1000000u);
    struct tm parts;
    char date[TIME_TEXT_BYTES];
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts) == 0) {
        text_add_string(text, ",\"time\":null"); /* a year that is no number */
        return;
    }
    text_printf(text, ",\"time\":\"%s.%06uZ\"", date, (unsigned)(time_us % 1000000u));
}

static void add_block(struct text *text, const struct buf *entry, struct hash128 previous_hash,
                      raft_index commit)
{
    item_add_number(text, "{\"index\":", entry_index(entry));
    text_printf(text, ",\"term\":%llu,\"type\":\"%s\"", (unsigned long long)entry_term(entry),
                type_name(entry_type_of(entry)));
    add_time(text, entry_time_us(entry));
    text_add_string(text, ",\"operation\":");
    operation_add(text, entry);
    item_add_hash(text, ",\"hash\":", entry_hash(entry));
    item_add_hash(text, ",\"previous_hash\":", previous_hash);
    text_printf(text, ",\"status\":\"%s\"}",
                entry_index(entry) <= commit ? "decided" : "tentative");
}

static void add_head(struct text *text, const struct node_log_query *query)
{
    item_add_number(text, "{\"group\":", query->group);
    item_add_number(text, ",\"first\":", query->first);
    item_add_number(text, ",\"last\":", query->last);
    item_add_number(text, ",\"commit\":", query->commit);
}

static void respond_log_failure(struct exchange *exchange, enum tl_err err,
                                const struct node_log_query *query)
{
    const struct failure *failure = failure_of_err(err);
    if (err == TL_ERR_COMPACTED) {
        respond_failure_with(exchange, failure, "first", query->first);
    } else if (err == TL_ERR_CORRUPT) {
        respond_failure_with(exchange, failure, "index", query->fault.index);
    } else {
        respond_failure(exchange, failure);
    }
}

static void on_entries(struct exchange *exchange, enum tl_err err,
                       const struct node_log_query *query)
{
    if (err != TL_OK) {
        respond_log_failure(exchange, err, query);
        return;
    }
    struct text text =
        text_make(&exchange->req->pool, (query->entries_count + 1) * (size_t)BLOCK_BYTES);
    add_head(&text, query);
    text_add_string(&text, ",\"blocks\":[");
    struct hash128 previous_hash = query->previous_hash;
    raft_index next = 0;
    for (uint32_t i = 0; i < query->entries_count; i++) {
        if (i > 0) text_add_string(&text, ",\n");
        add_block(&text, query->entries[i], previous_hash, query->commit);
        previous_hash = entry_hash(query->entries[i]);
        next = entry_index(query->entries[i]) + 1;
    }
    text_add_string(&text, "],\"next\":");
    if (next != 0 && next <= query->last) {
        text_add_u64(&text, next);
    } else {
        text_add_string(&text, "null");
    }
    text_add_string(&text, "}\n");
    respond_json(exchange, 200, &text);
}

/* ---- parameters ---- */

static bool take_number(const struct query_param *param, uint64_t min, uint64_t max,
                        uint64_t *out_value)
{
    if (!param->is_present) return true;
    return parse_u64(param->value, out_value) && *out_value >= min && *out_value <= max;
}

void log_serve(struct exchange *exchange)
{
    enum { GROUP, FROM, LIMIT };
    struct query_param params[] = {{.name = "group"}, {.name = "from"}, {.name = "limit"}};
    if (!exchange_take_get(exchange, params, TL_COUNT_OF(params))) return;
    uint64_t group = NODE_DATA_GROUP;
    uint64_t from = 0;
    uint64_t limit = LIMIT_DEFAULT;
    if (!take_number(&params[GROUP], 0, UINT32_MAX, &group) ||
        !take_number(&params[FROM], 1, UINT64_MAX / 2, &from) ||
        !take_number(&params[LIMIT], 1, NODE_LOG_QUERY_ENTRIES_MAX, &limit)) {
        respond_refusal(exchange, REFUSAL_QUERY);
        return;
    }
    const struct node_log_query query = {.group = (raft_group)group,
                                         .kind = NODE_LOG_ENTRIES,
                                         .from = from,
                                         .limit = (uint32_t)limit};
    exchange_query_log(exchange, &query, on_entries);
}

/* ---- /v1/log/verify ---- */

static void on_verified(struct exchange *exchange, enum tl_err err,
                        const struct node_log_query *query)
{
    if (err != TL_OK && err != TL_ERR_CORRUPT) {
        respond_log_failure(exchange, err, query);
        return;
    }
    uint64_t count = query->last >= query->first ? query->last - query->first + 1 : 0;
    struct text text = text_make(&exchange->req->pool, 2 * (size_t)BLOCK_BYTES);
    add_head(&text, query);
    item_add_number(&text, ",\"count\":", count);
    item_add_hash(&text, ",\"hash\":", query->last_hash);
    text_printf(&text, ",\"ok\":%s", err == TL_OK ? "true" : "false");
    if (err == TL_ERR_CORRUPT) {
        item_add_number(&text, ",\"broken_at\":", query->fault.index);
        text_add_string(&text, ",\"file\":");
        (void)item_add_bytes(&text, bytes_of(query->fault.file)); /* a path may be of any bytes */
        text_add_string(&text, ",\"reason\":");
        (void)item_add_bytes(&text, bytes_of(query->fault.reason)); /* is ours: UTF-8 */
    }
    text_add_string(&text, "}\n");
    respond_json(exchange, 200, &text);
}

void log_verify_serve(struct exchange *exchange)
{
    struct query_param group_param = {.name = "group"};
    if (!exchange_take_get(exchange, &group_param, 1)) return;
    uint64_t group = NODE_DATA_GROUP;
    if (!take_number(&group_param, 0, UINT32_MAX, &group)) {
        respond_refusal(exchange, REFUSAL_QUERY);
        return;
    }
    const struct node_log_query query = {.group = (raft_group)group, .kind = NODE_LOG_VERIFY};
    exchange_query_log(exchange, &query, on_verified);
}
