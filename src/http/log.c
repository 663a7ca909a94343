/* log.c - /v1/log: the replicated log as a chain of blocks, and the check of the chain. */

#include "http_internal.h"

#include <time.h>

#define LIMIT_DEFAULT 100u
#define BLOCK_BYTES 512u       /* of room to begin with */
#define VALUE_SHOWN_BYTES 256u /* longer values are told by their length */
#define TIME_TEXT_BYTES 40u

static void add_number(struct text *text, const char *name, uint64_t value)
{
    text_printf(text, "\"%s\":%llu", name, (unsigned long long)value);
}

static void add_hash(struct text *text, const char *name, struct hash128 hash)
{
    char hex[HASH_TEXT_BYTES];
    hash_format(hash, hex);
    text_printf(text, ",\"%s\":\"%s\"", name, hex);
}

/* As a string, in base64 when it is not UTF-8: `encoding` then says so. */
static void add_bytes(struct text *text, const char *name, const char *encoding, struct bytes bytes)
{
    bool is_text = utf8_is_valid(bytes);
    text_printf(text, ",\"%s\":\"", name);
    if (is_text) {
        text_add_json(text, bytes);
    } else {
        text_add_base64(text, bytes);
    }
    text_add_string(text, "\"");
    if (!is_text) text_printf(text, ",\"%s\":\"base64\"", encoding);
}

/* ---- operations ---- */

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

static const char *op_name(enum command_type type)
{
    switch (type) {
    case COMMAND_PUT:
        return "put";
    case COMMAND_DELETE:
        return "delete";
    case COMMAND_APPEND:
        return "append";
    case COMMAND_INCR:
        return "incr";
    case COMMAND_LIST_APPEND:
        return "list_append";
    }
    return "unknown";
}

static void add_condition(struct text *text, const struct command *command)
{
    switch (command->condition) {
    case CONDITION_NONE:
        return;
    case CONDITION_REVISION:
        text_printf(text, ",\"if_match\":%llu", (unsigned long long)command->condition_revision);
        return;
    case CONDITION_EXISTS:
        text_add_string(text, ",\"if_match\":\"*\"");
        return;
    case CONDITION_ABSENT:
        text_add_string(text, ",\"if_none_match\":\"*\"");
        return;
    }
}

static void add_command(struct text *text, struct bytes payload)
{
    struct command command;
    if (command_decode(payload, &command) != TL_OK) {
        text_add_string(text, "null"); /* a kind that this version does not know */
        return;
    }
    text_printf(text, "{\"op\":\"%s\"", op_name(command.type));
    add_bytes(text, "key", "key_encoding", command.key);
    add_condition(text, &command);
    if (command.type == COMMAND_INCR) {
        text_printf(text, ",\"by\":%lld", (long long)command.by);
    } else if (command.type != COMMAND_DELETE) {
        text_printf(text, ",\"value_bytes\":%zu", command.value.count);
        if (command.content_type.count > 0) {
            add_bytes(text, "content_type", "content_type_encoding", command.content_type);
        }
        if (command.value.count <= VALUE_SHOWN_BYTES) {
            add_bytes(text, "value", "encoding", command.value);
        }
    }
    if (command.has_idempotency_key) {
        add_hash(text, "idempotency_key_hash", command.idempotency_key);
    }
    text_add_string(text, "}");
}

static void add_genesis(struct text *text, struct bytes payload)
{
    struct genesis genesis;
    if (genesis_decode(payload, &genesis) != TL_OK) {
        text_add_string(text, "null");
        return;
    }
    char id[HASH_TEXT_BYTES];
    store_id_format(&genesis.cluster_id, id);
    text_printf(text, "{\"op\":\"genesis\",\"cluster_id\":\"%s\",\"members\":[", id);
    for (uint32_t i = 0; i < genesis.members_count; i++) {
        text_add_string(text, i == 0 ? "\"" : ",\"");
        text_add_json(text, bytes_of(genesis.members[i].address)); /* visible ASCII */
        text_add_string(text, "\"");
    }
    text_add_string(text, "]}");
}

static void add_ids(struct text *text, const char *name, const raft_id *ids, uint32_t ids_count)
{
    text_printf(text, ",\"%s\":[", name);
    for (uint32_t i = 0; i < ids_count; i++) {
        char id[RAFT_ID_TEXT_BYTES];
        raft_id_format(ids[i], id);
        text_printf(text, "%s\"%s\"", i == 0 ? "" : ",", id);
    }
    text_add_string(text, "]");
}

/* By their ids: whoever has left has no address any more. */
static void add_conf(struct text *text, struct bytes payload)
{
    struct raft_conf conf;
    if (conf_payload_decode(payload, &conf) != TL_OK) {
        text_add_string(text, "null");
        return;
    }
    text_add_string(text, "{\"op\":\"configuration\",");
    add_number(text, "epoch", conf.epoch);
    add_ids(text, "voters", conf.voters, conf.voters_count);
    add_ids(text, "learners", conf.learners, conf.learners_count);
    add_ids(text, "outgoing", conf.outgoing, conf.outgoing_count);
    text_add_string(text, "}");
}

static void add_operation(struct text *text, const struct buf *entry)
{
    switch (entry_type_of(entry)) {
    case ENTRY_COMMAND:
        add_command(text, entry_payload(entry));
        return;
    case ENTRY_GENESIS:
        add_genesis(text, entry_payload(entry));
        return;
    case ENTRY_CONF:
        add_conf(text, entry_payload(entry));
        return;
    case ENTRY_NOOP:
        break;
    }
    text_add_string(text, "null");
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
    text_add_string(text, "{");
    add_number(text, "index", entry_index(entry));
    text_printf(text, ",\"term\":%llu,\"type\":\"%s\"", (unsigned long long)entry_term(entry),
                type_name(entry_type_of(entry)));
    add_time(text, entry_time_us(entry));
    text_add_string(text, ",\"operation\":");
    add_operation(text, entry);
    add_hash(text, "hash", entry_hash(entry));
    add_hash(text, "previous_hash", previous_hash);
    text_printf(text, ",\"status\":\"%s\"}",
                entry_index(entry) <= commit ? "decided" : "tentative");
}

static void add_head(struct text *text, const struct node_log_query *query)
{
    text_add_string(text, "{");
    add_number(text, "group", query->group);
    text_add_string(text, ",");
    add_number(text, "first", query->first);
    text_add_string(text, ",");
    add_number(text, "last", query->last);
    text_add_string(text, ",");
    add_number(text, "commit", query->commit);
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
    text_add_string(&text, ",");
    add_number(&text, "count", count);
    add_hash(&text, "hash", query->last_hash);
    text_printf(&text, ",\"ok\":%s", err == TL_OK ? "true" : "false");
    if (err == TL_ERR_CORRUPT) {
        text_add_string(&text, ",");
        add_number(&text, "broken_at", query->fault.index);
        add_bytes(&text, "file", "file_encoding", bytes_of(query->fault.file));
        add_bytes(&text, "reason", "reason_encoding", bytes_of(query->fault.reason));
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
