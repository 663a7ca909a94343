/* /v1/log: blocks, their bounds, and the check of the chain. */

#include <criterion/criterion.h>
#include <jansson.h>
#include <unistd.h>

#include "http_client.h"
#include "trilith/conf_entry.h"
#include "trilith/txn.h"

#define ENTRIES_COUNT 6u

static struct buf *entries[ENTRIES_COUNT];
static struct hash128 before = {7, 9};

static void seal(uint32_t i, struct buf *entry, raft_term term)
{
    struct entry_header header = {
        .group = 1, .index = 41 + i, .term = term, .time_us = 1700000000000000ull + i};
    entry_seal(entry, i == 0 ? before : entry_hash(entries[i - 1]), &header);
    entries[i] = entry;
}

static struct buf *txn_entry(void)
{
    static struct txn txn;
    txn = (struct txn){.conditions_count = 2, .ops_count = {2, 1}};
    txn.conditions[0] = (struct txn_condition){.type = TXN_IF_EXISTS, .key = bytes_of("lock")};
    txn.conditions[1] = (struct txn_condition){
        .type = TXN_IF_VALUE, .key = bytes_of("owner"), .value = bytes_of("nobody")};
    txn.ops[TXN_THEN][0] =
        (struct txn_op){.type = COMMAND_PUT, .key = bytes_of("lock"), .value = bytes_of("me")};
    txn.ops[TXN_THEN][1] = (struct txn_op){.type = COMMAND_INCR, .key = bytes_of("n"), .by = 2};
    txn.ops[TXN_ELSE][0] = (struct txn_op){.type = COMMAND_GET, .key = bytes_of("lock")};
    struct buf *encoded = txn_encode(&txn);
    const struct command command = {.type = COMMAND_TXN, .value = buf_bytes(encoded)};
    struct buf *entry = command_encode(&command);
    buf_release(encoded);
    return entry;
}

static void log_begin(void)
{
    server_begin();
    struct command put = {.type = COMMAND_PUT,
                          .condition = CONDITION_REVISION,
                          .condition_revision = 5,
                          .has_idempotency_key = true,
                          .key = bytes_of("sto\"ne"),
                          .content_type = bytes_of("text/plain"),
                          .value = bytes_of("granite")};
    seal(0, command_encode(&put), 2);
    seal(1, entry_create(ENTRY_NOOP, 0), 3);
    struct command incr = {.type = COMMAND_INCR, .by = -3, .key = bytes_make("\xff", 1)};
    seal(2, command_encode(&incr), 3);
    static uint8_t large[300];
    struct command append = {
        .type = COMMAND_APPEND, .key = bytes_of("k"), .value = bytes_make(large, sizeof large)};
    seal(3, command_encode(&append), 3);
    const struct raft_conf conf = {
        .voters_count = 1, .voters = {0x01ab}, .outgoing_count = 1, .outgoing = {2}, .epoch = 7};
    seal(4, conf_entry_create(&conf), 3);
    seal(5, txn_entry(), 3);
    fake.log = (struct node_log_query){.first = 30,
                                       .last = 50,
                                       .commit = 42,
                                       .entries = entries,
                                       .entries_count = ENTRIES_COUNT,
                                       .previous_hash = before};
}

static void log_end(void)
{
    for (uint32_t i = 0; i < ENTRIES_COUNT; i++) buf_release(TL_TAKE(&entries[i]));
    server_end();
}

TestSuite(http_log, .init = log_begin, .fini = log_end);

static json_t *get(const char *target, int status)
{
    struct answer *answer = request("GET", target, "", NULL);
    cr_assert_eq(answer->status, status, "%s: %d %s", target, answer->status, body_of(answer));
    json_t *json = json_loads(body_of(answer), 0, NULL);
    cr_assert_not_null(json, "%s", body_of(answer));
    return json;
}

static const json_t *member(const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json, name);
    cr_assert_not_null(value, "%s is missing", name);
    return value;
}

static const char *text_in(const json_t *json, const char *name)
{
    return json_string_value(member(json, name));
}

static json_int_t number_in(const json_t *json, const char *name)
{
    return json_integer_value(member(json, name));
}

Test(http_log, entries_are_blocks_that_name_the_hash_before)
{
    json_t *page = get("/v1/log?group=1&from=41&limit=6", 200);
    cr_assert_eq(fake.seen_log_query.group, 1);
    cr_assert_eq(fake.seen_log_query.from, 41);
    cr_assert_eq(fake.seen_log_query.limit, 6);
    cr_assert_eq(fake.seen_log_query.kind, NODE_LOG_ENTRIES);
    cr_assert_eq(number_in(page, "first"), 30);
    cr_assert_eq(number_in(page, "last"), 50);
    cr_assert_eq(number_in(page, "commit"), 42);
    cr_assert_eq(number_in(page, "next"), 47);
    const json_t *blocks = member(page, "blocks");
    cr_assert_eq(json_array_size(blocks), ENTRIES_COUNT);
    char hash[HASH_TEXT_BYTES];
    hash_format(before, hash);
    for (uint32_t i = 0; i < ENTRIES_COUNT; i++) {
        const json_t *block = json_array_get(blocks, i);
        cr_assert_eq(number_in(block, "index"), 41 + i);
        cr_assert_eq(number_in(block, "term"), i == 0 ? 2 : 3);
        cr_assert_str_eq(text_in(block, "previous_hash"), hash);
        hash_format(entry_hash(entries[i]), hash);
        cr_assert_str_eq(text_in(block, "hash"), hash);
        cr_assert_str_eq(text_in(block, "status"), i <= 1 ? "decided" : "tentative");
    }
    cr_assert_str_eq(text_in(json_array_get(blocks, 3), "time"), "2023-11-14T22:13:20.000003Z");
    json_decref(page);
}

Test(http_log, operations_are_told_and_long_values_are_not)
{
    json_t *page = get("/v1/log", 200);
    const json_t *blocks = member(page, "blocks");
    const json_t *put = member(json_array_get(blocks, 0), "operation");
    cr_assert_str_eq(text_in(put, "op"), "put");
    cr_assert_str_eq(text_in(put, "key"), "sto\"ne");
    cr_assert_str_eq(text_in(put, "value"), "granite");
    cr_assert_str_eq(text_in(put, "content_type"), "text/plain");
    cr_assert_eq(number_in(put, "value_bytes"), 7);
    cr_assert_eq(number_in(put, "if_match"), 5);
    cr_assert_not_null(text_in(put, "idempotency_key_hash"));
    cr_assert_str_eq(text_in(json_array_get(blocks, 1), "type"), "noop");
    cr_assert(json_is_null(member(json_array_get(blocks, 1), "operation")));
    const json_t *incr = member(json_array_get(blocks, 2), "operation");
    cr_assert_eq(number_in(incr, "by"), -3);
    cr_assert_str_eq(text_in(incr, "key"), "/w==");
    cr_assert_str_eq(text_in(incr, "key_encoding"), "base64");
    const json_t *append = member(json_array_get(blocks, 3), "operation");
    cr_assert_eq(number_in(append, "value_bytes"), 300);
    cr_assert_null(json_object_get(append, "value"));
    json_decref(page);
}

Test(http_log, configurations_name_their_members_by_their_ids)
{
    json_t *page = get("/v1/log", 200);
    const json_t *block = json_array_get(member(page, "blocks"), 4);
    cr_assert_str_eq(text_in(block, "type"), "configuration");
    const json_t *conf = member(block, "operation");
    cr_assert_eq(number_in(conf, "epoch"), 7);
    const json_t *voter = json_array_get(member(conf, "voters"), 0);
    cr_assert_str_eq(json_string_value(voter), "ab01000000000000");
    cr_assert_eq(json_array_size(member(conf, "learners")), 0);
    cr_assert_eq(json_array_size(member(conf, "outgoing")), 1);
    json_decref(page);
}

Test(http_log, transactions_are_told_as_they_were_posted)
{
    json_t *page = get("/v1/log", 200);
    const json_t *txn = member(json_array_get(member(page, "blocks"), 5), "operation");
    cr_assert_str_eq(text_in(txn, "op"), "txn");
    const json_t *conditions = member(txn, "if");
    cr_assert_eq(json_array_size(conditions), 2);
    cr_assert(json_is_false(member(json_array_get(conditions, 0), "exists")));
    cr_assert_str_eq(text_in(json_array_get(conditions, 1), "value"), "nobody");
    const json_t *then = member(txn, "then");
    cr_assert_eq(json_array_size(then), 2);
    cr_assert_str_eq(text_in(json_array_get(then, 0), "key"), "lock");
    cr_assert_str_eq(text_in(json_array_get(then, 0), "value"), "me");
    cr_assert_eq(number_in(json_array_get(then, 1), "by"), 2);
    cr_assert_str_eq(text_in(json_array_get(member(txn, "else"), 0), "op"), "get");
    json_decref(page);
}

Test(http_log, without_parameters_the_newest_of_the_data_group_are_asked_for)
{
    json_decref(get("/v1/log", 200));
    cr_assert_eq(fake.seen_log_query.group, NODE_DATA_GROUP);
    cr_assert_eq(fake.seen_log_query.from, 0);
    cr_assert_eq(fake.seen_log_query.limit, 100);
}

Test(http_log, genesis_names_the_members)
{
    struct genesis genesis = {.groups_count = 2, .members_count = 1, .time_us = 1};
    genesis.cluster_id.bytes[0] = 1;
    genesis.members[0].store_id.bytes[0] = 1;
    memcpy(genesis.members[0].address, "a:1", 4);
    memcpy(genesis.members[0].peer_address, "a:2", 4);
    struct buf *entry = genesis_entry(&genesis, 1);
    fake.log.entries = &entry;
    fake.log.entries_count = 1;
    fake.log.last = 1;
    json_t *page = get("/v1/log?from=1", 200);
    const json_t *block = json_array_get(member(page, "blocks"), 0);
    cr_assert_str_eq(text_in(block, "type"), "genesis");
    const json_t *members = member(member(block, "operation"), "members");
    cr_assert_str_eq(json_string_value(json_array_get(members, 0)), "a:1");
    cr_assert(json_is_null(member(page, "next")), "there is nothing behind it");
    json_decref(page);
    buf_release(entry);
}

Test(http_log, below_the_first_kept_index_is_410_with_that_index)
{
    fake.log_err = TL_ERR_COMPACTED;
    json_t *page = get("/v1/log?from=1", 410);
    cr_assert_str_eq(text_in(member(page, "error"), "code"), "compacted");
    cr_assert_eq(number_in(member(page, "error"), "first"), 30);
    json_decref(page);
}

Test(http_log, refusals_have_their_status)
{
    static const struct {
        enum tl_err err;
        int status;
        const char *code;
    } cases[] = {{TL_ERR_FULL, 429, "overloaded"},
                 {TL_ERR_NOT_FOUND, 404, "no_group"},
                 {TL_ERR_STARTING, 503, "starting"},
                 {TL_ERR_STOPPING, 503, "stopping"}};
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        fake.log_refusal = cases[i].err;
        json_t *page = get(i % 2 == 0 ? "/v1/log" : "/v1/log/verify", cases[i].status);
        cr_assert_str_eq(text_in(member(page, "error"), "code"), cases[i].code);
        json_decref(page);
    }
}

Test(http_log, bad_parameters_are_400)
{
    static const char *const targets[] = {"/v1/log?from=0",         "/v1/log?from=x",
                                          "/v1/log?limit=0",        "/v1/log?limit=1001",
                                          "/v1/log?group=-1",       "/v1/log?group=4294967296",
                                          "/v1/log?after=1",        "/v1/log/verify?from=1",
                                          "/v1/log/verify?group=x", "/v1/log?from=1&from=2"};
    for (size_t i = 0; i < TL_COUNT_OF(targets); i++) json_decref(get(targets[i], 400));
    cr_assert_eq(fake.log_queries_count, 0);
    cr_assert_eq(request("POST", "/v1/log", "", "")->status, 405);
    cr_assert_eq(request("DELETE", "/v1/log/verify", "", NULL)->status, 405);
}

Test(http_log, a_whole_chain_is_ok_with_count_and_hash)
{
    fake.log.last_hash = (struct hash128){1, 2};
    json_t *result = get("/v1/log/verify?group=0", 200);
    cr_assert_eq(fake.seen_log_query.kind, NODE_LOG_VERIFY);
    cr_assert_eq(fake.seen_log_query.group, 0);
    cr_assert(json_is_true(member(result, "ok")));
    cr_assert_eq(number_in(result, "first"), 30);
    cr_assert_eq(number_in(result, "last"), 50);
    cr_assert_eq(number_in(result, "count"), 21);
    char hash[HASH_TEXT_BYTES];
    hash_format(fake.log.last_hash, hash);
    cr_assert_str_eq(text_in(result, "hash"), hash);
    json_decref(result);
}

Test(http_log, a_break_is_named_by_index)
{
    fake.log_err = TL_ERR_CORRUPT;
    tl_fault_set(&fake.log.fault, "/data/log", 1, 44, "a log record fails its chain hash");
    json_t *result = get("/v1/log/verify", 200);
    cr_assert(json_is_false(member(result, "ok")));
    cr_assert_eq(number_in(result, "broken_at"), 44);
    cr_assert_str_eq(text_in(result, "file"), "/data/log");
    cr_assert_str_eq(text_in(result, "reason"), "a log record fails its chain hash");
    json_decref(result);
    json_t *page = get("/v1/log?from=41", 500);
    cr_assert_str_eq(text_in(member(page, "error"), "code"), "log_damaged");
    cr_assert_eq(number_in(member(page, "error"), "index"), 44);
    json_decref(page);
}

/* Preface, empty SETTINGS, and a GET of /v1/log/verify as stream 1 (RFC 9113, RFC 7541). */
static const uint8_t h2_get[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                "\0\0\0\4\0\0\0\0\0"
                                "\0\0\x1b\1\5\0\0\0\1"
                                "\x82\x86\x04\x0e/v1/log/verify\x41\x07one.two";
static const uint8_t h2_reset[] = "\0\0\4\3\0\0\0\0\1\0\0\0\x08"; /* CANCEL */

Test(http_log, a_query_that_is_reset_is_cancelled_at_the_node)
{
    fake.is_held = true;
    int fd = client_connect();
    client_send(fd, h2_get, sizeof h2_get - 1);
    for (int i = 0; i < 100 && fake.log_query == NULL; i++) server_turn();
    cr_assert_not_null(fake.log_query);
    client_send(fd, h2_reset, sizeof h2_reset - 1);
    for (int i = 0; i < 100 && fake.log_query != NULL; i++) server_turn();
    cr_assert_eq(fake.log_queries_cancelled_count, 1);
    (void)close(fd);
}
