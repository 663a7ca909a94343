/* POST /v1/txn over the wire: what the node is asked for, what the client is told, what is refused.
 */

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_client.h"
#include "src/http/http_internal.h"
#include "trilith/prng.h"
#include "trilith/txn.h"

static struct txn txn; /* as the node got it */
static struct buf *results;

static void setup(void)
{
    server_begin();
    fake.result = (struct kv_result){
        .status = KV_TXN, .revision = 12, .time_us = 2000, .group_revision = 12, .index = 80};
}

static void teardown(void)
{
    buf_release(TL_TAKE(&results));
    server_end();
}

TestSuite(http_txn, .init = setup, .fini = teardown);

static void add_result(const struct txn_result *result)
{
    if (results == NULL) results = buf_create(65536);
    txn_result_encode(result, results);
    fake.result.results = buf_bytes(results);
}

static struct answer *post(const char *body)
{
    struct answer *answer = request("POST", "/v1/txn", "", body);
    if (fake.command.type == COMMAND_TXN) {
        cr_assert_eq(txn_decode(fake.command.value, &txn), TL_OK);
    }
    return answer;
}

static void assert_refused(const char *body, int status, const char *code, const char *message)
{
    uint32_t writes_count = fake.writes_count;
    struct answer *answer = request("POST", "/v1/txn", "", body);
    cr_assert_eq(answer->status, status, "%s: %d %s", body, answer->status, body_of(answer));
    json_t *root = json_loads(body_of(answer), 0, NULL);
    const json_t *error = json_object_get(root, "error");
    cr_assert_str_eq(json_string_value(json_object_get(error, "code")), code);
    cr_assert_str_eq(json_string_value(json_object_get(error, "message")), message);
    cr_assert_str_eq(json_string_value(json_object_get(error, "outcome")), "not_executed");
    json_decref(root);
    cr_assert_eq(fake.writes_count, writes_count);
}

Test(http_txn, every_kind_of_condition_and_operation_reaches_the_node)
{
    (void)post(
        "{\"if\":[{\"key\":\"a\",\"revision\":18446744073709551615},"
        "{\"key\":\"b\",\"version\":0},{\"key\":\"c\",\"value\":\"x\\ny\"},"
        "{\"value\":\"AP8=\",\"encoding\":\"base64\",\"key\":\"/w==\","
        "\"key_encoding\":\"base64\"},{\"key\":\"e\",\"exists\":false}],"
        "\"then\":[{\"op\":\"put\",\"key\":\"k\",\"value\":\"[1]\","
        "\"content_type\":\"application/json\"},{\"op\":\"get\",\"key\":\"k\"},"
        "{\"op\":\"append\",\"key\":\"l\",\"value\":\"\",\"encoding\":\"utf-8\"}],"
        "\"else\":[{\"op\":\"incr\",\"key\":\"n\"},{\"op\":\"incr\",\"key\":\"m\",\"by\":-7},"
        "{\"op\":\"delete\",\"key\":\"\\u0000\"}]}");
    cr_assert_eq(fake.command.type, COMMAND_TXN);
    cr_assert_eq(fake.command.origin, FAKE_ID);
    cr_assert_eq(fake.command.value_bytes_max, TEST_VALUE_BYTES_MAX);
    cr_assert_eq(txn.conditions_count, 5);
    cr_assert_eq(txn.conditions[0].type, TXN_IF_REVISION);
    cr_assert_eq(txn.conditions[0].number, UINT64_MAX);
    cr_assert_eq(txn.conditions[1].type, TXN_IF_VERSION);
    cr_assert_eq(txn.conditions[2].type, TXN_IF_VALUE);
    cr_assert(bytes_equal(txn.conditions[2].value, bytes_of("x\ny")));
    cr_assert(bytes_equal(txn.conditions[3].key, bytes_of("\xff")));
    cr_assert(bytes_equal(txn.conditions[3].value, bytes_make("\0\xff", 2)));
    cr_assert_eq(txn.conditions[4].type, TXN_IF_EXISTS);
    cr_assert_eq(txn.conditions[4].number, 0);
    cr_assert_eq(txn.ops_count[TXN_THEN], 3);
    cr_assert_eq(txn.ops[TXN_THEN][0].type, COMMAND_PUT);
    cr_assert(txn.ops[TXN_THEN][0].value_is_json);
    cr_assert(bytes_equal(txn.ops[TXN_THEN][0].content_type, bytes_of("application/json")));
    cr_assert_eq(txn.ops[TXN_THEN][1].type, COMMAND_GET);
    cr_assert_eq(txn.ops[TXN_THEN][2].type, COMMAND_APPEND);
    cr_assert_eq(txn.ops_count[TXN_ELSE], 3);
    cr_assert_eq(txn.ops[TXN_ELSE][0].by, 1);
    cr_assert_eq(txn.ops[TXN_ELSE][1].by, -7);
    cr_assert_eq(txn.ops[TXN_ELSE][2].type, COMMAND_DELETE);
    cr_assert(bytes_equal(txn.ops[TXN_ELSE][2].key, bytes_make("", 1)));
}

Test(http_txn, results_are_told_operation_by_operation)
{
    add_result(&(struct txn_result){.status = KV_CREATED, .revision = 12, .version = 1});
    add_result(
        &(struct txn_result){.status = KV_REPLACED, .revision = 12, .version = 4, .number = 9});
    add_result(
        &(struct txn_result){.status = KV_REPLACED, .revision = 12, .version = 2, .number = -3});
    add_result(&(struct txn_result){.status = KV_DELETED, .revision = 12});
    add_result(&(struct txn_result){.status = KV_NOT_FOUND});
    struct answer *answer =
        post("{\"then\":[{\"op\":\"put\",\"key\":\"a\",\"value\":\"\"},"
             "{\"op\":\"append\",\"key\":\"b\",\"value\":\"\"},{\"op\":\"incr\",\"key\":\"c\"},"
             "{\"op\":\"delete\",\"key\":\"d\"},{\"op\":\"delete\",\"key\":\"e\"}]}");
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(
        body_of(answer),
        "{\"succeeded\":true,\"revision\":12,\"results\":["
        "{\"op\":\"put\",\"key\":\"a\",\"revision\":12,\"version\":1,\"replaced\":false},"
        "{\"op\":\"append\",\"key\":\"b\",\"length\":9,\"revision\":12,\"version\":4,"
        "\"replaced\":true},"
        "{\"op\":\"incr\",\"key\":\"c\",\"value\":-3,\"revision\":12,\"version\":2,"
        "\"replaced\":true},"
        "{\"op\":\"delete\",\"key\":\"d\",\"deleted\":true,\"revision\":12},"
        "{\"op\":\"delete\",\"key\":\"e\",\"deleted\":false}]}");
    cr_assert_str_eq(header(answer, "Trilith-Revision"), "12");
    cr_assert_str_eq(header(answer, "Trilith-Token"), "2000");
    cr_assert_null(header(answer, "Trilith-Replayed"));
}

Test(http_txn, conditions_that_fail_are_no_error_and_show_the_other_branch)
{
    fake.result.flags = KV_RESULT_ELSE;
    add_result(&(struct txn_result){.status = KV_FOUND,
                                    .revision = 3,
                                    .version = 1,
                                    .content_type = bytes_of("text/plain"),
                                    .value = bytes_of("caf\xc3\xa9")});
    add_result(&(struct txn_result){
        .status = KV_FOUND, .revision = 4, .version = 2, .value = bytes_of("\xff")});
    add_result(&(struct txn_result){.status = KV_NOT_FOUND});
    struct answer *answer =
        post("{\"if\":[{\"key\":\"a\",\"exists\":false}],\"else\":[{\"op\":\"get\",\"key\":\"a\"},"
             "{\"op\":\"get\",\"key\":\"b\"},{\"op\":\"get\",\"key\":\"c\"}]}");
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(
        body_of(answer),
        "{\"succeeded\":false,\"revision\":12,\"results\":["
        "{\"op\":\"get\",\"key\":\"a\",\"exists\":true,\"value\":\"caf\xc3\xa9\","
        "\"encoding\":\"utf-8\",\"content_type\":\"text/plain\",\"revision\":3,\"version\":1},"
        "{\"op\":\"get\",\"key\":\"b\",\"exists\":true,\"value\":\"/w==\",\"encoding\":\"base64\","
        "\"revision\":4,\"version\":2},"
        "{\"op\":\"get\",\"key\":\"c\",\"exists\":false}]}");
}

Test(http_txn, an_operation_that_does_not_go_names_itself)
{
    fake.result.status = KV_NOT_INTEGER;
    fake.result.number = 1;
    struct answer *answer = post("{\"then\":[]}");
    cr_assert_eq(answer->status, 409);
    cr_assert_not_null(strstr(body_of(answer), "\"code\":\"not_integer\""));
    cr_assert_not_null(strstr(body_of(answer), ",\"branch\":\"then\",\"operation\":1}}"));
    fake.result.flags = KV_RESULT_ELSE;
    fake.result.status = KV_TXN_TOO_LARGE;
    answer = post("{\"then\":[]}");
    cr_assert_eq(answer->status, 413);
    cr_assert_not_null(strstr(body_of(answer), ",\"branch\":\"else\",\"operation\":1}}"));
}

Test(http_txn, a_repeat_says_so_and_may_have_lost_its_results)
{
    fake.result.flags = KV_RESULT_REPLAYED;
    struct answer *answer = request("POST", "/v1/txn", "Idempotency-Key: once\r\n",
                                    "{\"then\":[{\"op\":\"put\",\"key\":\"a\",\"value\":\"\"}]}");
    cr_assert(fake.write_was_keyed);
    cr_assert_str_eq(header(answer, "Trilith-Replayed"), "true");
    cr_assert_str_eq(body_of(answer), "{\"succeeded\":true,\"revision\":12,\"results\":null}");
    fake.result.status = KV_KEY_REUSED;
    cr_assert_eq(post("{}")->status, 409);
    fake.result.status = KV_NO_ROOM;
    cr_assert_eq(post("{}")->status, 429);
}

Test(http_txn, an_empty_one_is_answered)
{
    struct answer *answer = post("{}");
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(body_of(answer), "{\"succeeded\":true,\"revision\":12,\"results\":[]}");
}

Test(http_txn, failures_of_the_node_are_told_as_of_other_writes)
{
    fake.write_err = TL_ERR_UNKNOWN;
    cr_assert_eq(post("{}")->status, 504);
    fake.write_err = TL_OK;
    fake.write_refusal = TL_ERR_FULL;
    cr_assert_eq(request("POST", "/v1/txn", "", "{}")->status, 429);
}

Test(http_txn, what_is_no_transaction_is_refused_with_the_place)
{
#define WHOLE "a transaction is an object with if, then and else"
    static const struct {
        const char *body;
        const char *message;
    } cases[] = {
        {"[]", WHOLE},
        {"{\"when\":[]}", WHOLE},
        {"{\"then\":[],\"then\":[]}", "if, then or else is repeated"},
        {"{\"then\":{}}", "if, then and else are arrays"},
        {"{\"then\":[1]}", "then[0]: it is no object"},
        {"{\"then\":[{\"op\":\"get\",\"key\":\"a\"},{}]}", "then[1]: op is missing"},
        {"{\"then\":[{\"op\":\"set\",\"key\":\"a\"}]}",
         "then[0]: op is put, get, delete, append or incr"},
        {"{\"then\":[{\"op\":1,\"key\":\"a\"}]}", "then[0]: a field is of the wrong type"},
        {"{\"then\":[{\"op\":\"get\",\"op\":\"get\"}]}", "then[0]: a field is repeated"},
        {"{\"then\":[{\"op\":\"get\",\"name\":\"a\"}]}", "then[0]: a field is unknown"},
        {"{\"then\":[{\"op\":\"get\",\"key\":\"a\",\"by\":1}]}",
         "then[0]: a field does not belong here"},
        {"{\"then\":[{\"op\":\"get\"}]}", "then[0]: key is missing"},
        {"{\"then\":[{\"op\":\"get\",\"key\":\"\"}]}", "then[0]: the key is empty"},
        {"{\"then\":[{\"op\":\"get\",\"key\":\"a\",\"key_encoding\":\"hex\"}]}",
         "then[0]: an encoding is utf-8 or base64"},
        {"{\"then\":[{\"op\":\"put\",\"key\":\"a\"}]}", "then[0]: value is missing"},
        {"{\"then\":[{\"op\":\"put\",\"key\":\"a\",\"value\":7}]}",
         "then[0]: a field is of the wrong type"},
        {"{\"then\":[{\"op\":\"put\",\"key\":\"a\",\"value\":\"A\",\"encoding\":\"base64\"}]}",
         "then[0]: base64 is malformed"},
        {"{\"then\":[{\"op\":\"put\",\"key\":\"a\",\"value\":\"\",\"content_type\":\"text\"}]}",
         "then[0]: content_type is not type/subtype of at most 255 bytes"},
        {"{\"else\":[{\"op\":\"incr\",\"key\":\"a\",\"by\":1.5}]}",
         "else[0]: by is no integer of 64 bits"},
        {"{\"else\":[{\"op\":\"incr\",\"key\":\"a\",\"by\":9223372036854775808}]}",
         "else[0]: by is no integer of 64 bits"},
        {"{\"if\":[{\"key\":\"a\"}]}", "if[0]: a condition has revision, version, value or exists"},
        {"{\"if\":[{\"key\":\"a\",\"revision\":-1}]}",
         "if[0]: revision is no integer from 0 to 2^64 - 1"},
        {"{\"if\":[{\"key\":\"a\",\"version\":1e3}]}",
         "if[0]: version is no integer from 0 to 2^64 - 1"},
        {"{\"if\":[{\"key\":\"a\",\"exists\":1}]}", "if[0]: a field is of the wrong type"},
        {"{\"if\":[{\"key\":\"a\",\"exists\":true,\"version\":1}]}",
         "if[0]: a field does not belong here"},
        {"{\"then\":[{\"op\":\"put\",\"key\":\"a\",\"value\":\"\"},{\"op\":\"get\",\"key\":\"a\"},"
         "{\"op\":\"delete\",\"key\":\"a\"}]}",
         "then[2]: this key is written by an operation before"},
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        assert_refused(cases[i].body, 400, "bad_request", cases[i].message);
    }
    assert_refused("{\"then\":[}", 400, "invalid_json", "the body is not JSON");
    assert_refused(NULL, 400, "invalid_json", "the body is not JSON");
    assert_refused("{\"then\":[{\"op\":\"put\",\"key\":\"a\",\"value\":\"[\","
                   "\"content_type\":\"application/json\"}]}",
                   400, "invalid_json",
                   "then[0]: the value is not JSON but its content_type says so");
}

Test(http_txn, lists_have_their_limit)
{
    for (uint32_t count = TXN_LIST_MAX; count <= TXN_LIST_MAX + 1; count++) {
        json_t *gets = json_array();
        for (uint32_t i = 0; i < count; i++) {
            json_t *get = json_pack("{s:s,s:s}", "op", "get", "key", "k");
            cr_assert_eq(json_array_append_new(gets, get), 0);
            add_result(&(struct txn_result){.status = KV_NOT_FOUND});
        }
        json_t *root = json_pack("{s:o}", "then", gets);
        char *body = json_dumps(root, JSON_COMPACT);
        if (count == TXN_LIST_MAX) {
            cr_assert_eq(post(body)->status, 200);
            cr_assert_eq(txn.ops_count[TXN_THEN], TXN_LIST_MAX);
        } else {
            assert_refused(body, 400, "bad_request", "then[128]: there are more than 128");
        }
        free(body);
        json_decref(root);
    }
}

/* A transaction with one put of `value_bytes`, blanks up to `bytes` behind it. */
static struct answer *post_large(size_t value_bytes, size_t bytes)
{
    static const char head[] = "{\"then\":[{\"op\":\"put\",\"key\":\"a\",\"value\":\"";
    char *body = malloc(bytes + 1);
    memset(body, ' ', bytes);
    body[bytes] = 0;
    memcpy(body, head, sizeof head - 1);
    memset(body + sizeof head - 1, 'x', value_bytes);
    memcpy(body + sizeof head - 1 + value_bytes, "\"}]}", 4);
    struct answer *answer = request("POST", "/v1/txn", "", body);
    free(body);
    return answer;
}

Test(http_txn, sizes_have_their_limits)
{
    add_result(&(struct txn_result){.status = KV_CREATED, .revision = 12, .version = 1});
    cr_assert_eq(post_large(TEST_VALUE_BYTES_MAX, TXN_BYTES_MAX)->status, 200);
    struct answer *answer = post_large(TEST_VALUE_BYTES_MAX + 1, TXN_BYTES_MAX);
    cr_assert_eq(answer->status, 413);
    cr_assert_not_null(strstr(body_of(answer), "value_too_large"));
    answer = post_large(1, TXN_BYTES_MAX + 1);
    cr_assert_eq(answer->status, 413);
    cr_assert_not_null(strstr(body_of(answer), "txn_too_large"));
}

Test(http_txn, only_post_without_parameters_and_conditions)
{
    struct answer *answer = request("GET", "/v1/txn", "", NULL);
    cr_assert_eq(answer->status, 405);
    cr_assert_str_eq(header(answer, "Allow"), "POST");
    cr_assert_eq(request("POST", "/v1/txn?consistency=local", "", "{}")->status, 400);
    cr_assert_eq(request("POST", "/v1/txn", "If-Match: \"1\"\r\n", "{}")->status, 400);
    cr_assert_eq(request("POST", "/v1/txn", "Trilith-Token: x\r\n", "{}")->status, 400);
}

Test(http_txn, results_that_are_not_those_of_the_operations_are_no_outcome)
{
    add_result(&(struct txn_result){.status = KV_NOT_FOUND});
    cr_assert_eq(
        post("{\"then\":[{\"op\":\"get\",\"key\":\"a\"},{\"op\":\"get\",\"key\":\"b\"}]}")->status,
        504);
    cr_assert_eq(post("{}")->status, 504);
}

/* ---- large answers, which are made in slices ---- */

#define LARGE_BYTES (3000001u) /* neither a whole number of pieces nor of base64 */
#define GET_THREE                                                               \
    "{\"then\":[{\"op\":\"get\",\"key\":\"a\"},{\"op\":\"get\",\"key\":\"b\"}," \
    "{\"op\":\"get\",\"key\":\"c\"}]}"

/* Escapes and sequences of several bytes, at every distance from the borders of pieces. */
static struct bytes large_text(void)
{
    static const char *const parts[] = {
        "\"",         "\\", "\n", "\x01", "\x7f", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
        "plain text "};
    static uint8_t text[LARGE_BYTES];
    struct prng prng;
    prng_init(&prng, 1);
    size_t count = 0;
    while (LARGE_BYTES - count > 16) {
        const char *part = parts[prng_below(&prng, TL_COUNT_OF(parts))];
        memcpy(text + count, part, strlen(part));
        count += strlen(part);
    }
    memset(text + count, 'z', LARGE_BYTES - count);
    return bytes_make(text, LARGE_BYTES);
}

static struct bytes large_binary(void)
{
    static uint8_t bytes[LARGE_BYTES];
    struct prng prng;
    prng_init(&prng, 2);
    for (size_t i = 0; i < LARGE_BYTES; i++) bytes[i] = (uint8_t)prng_next(&prng);
    return bytes_make(bytes, LARGE_BYTES);
}

static void print_json(FILE *file, struct bytes text)
{
    for (size_t i = 0; i < text.count; i++) {
        uint8_t byte = text.data[i];
        if (byte < 0x20) {
            (void)fprintf(file, "\\u%04x", byte);
            continue;
        }
        if (byte == '"' || byte == '\\') (void)fputc('\\', file);
        (void)fputc(byte, file);
    }
}

static void print_base64(FILE *file, struct bytes bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    uint32_t bits_count = 0;
    for (size_t i = 0; i < bytes.count; i++) {
        bits = bits << 8 | bytes.data[i];
        for (bits_count += 8; bits_count >= 6; bits_count -= 6) {
            (void)fputc(digits[bits >> (bits_count - 6) & 63], file);
        }
    }
    if (bits_count > 0) (void)fputc(digits[bits << (6 - bits_count) & 63], file);
    for (size_t i = bytes.count; i % 3 != 0; i++) (void)fputc('=', file);
}

static void add_large_results(void)
{
    results = buf_create(2 * LARGE_BYTES + 4096);
    add_result(&(struct txn_result){.status = KV_FOUND,
                                    .revision = 3,
                                    .version = 1,
                                    .content_type = bytes_of("text/plain"),
                                    .value = large_text()});
    add_result(&(struct txn_result){
        .status = KV_FOUND, .revision = 4, .version = 2, .value = large_binary()});
    add_result(&(struct txn_result){.status = KV_NOT_FOUND});
}

/* Turns until the answer is being made. */
static int begin_large(const void *data, size_t count)
{
    int fd = client_connect();
    client_send(fd, data, count);
    for (int i = 0; i < 100 && server->paused_oldest == NULL; i++) server_turn();
    cr_assert_not_null(server->paused_oldest, "it was made in one turn");
    cr_assert_not(server->paused_oldest->is_answered);
    cr_assert_eq(uv_backend_timeout(server_loop()), 0, "the loop would sleep");
    return fd;
}

static int post_large_results(void)
{
    char text[512];
    int count = snprintf(text, sizeof text,
                         "POST /v1/txn HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n%s",
                         strlen(GET_THREE), GET_THREE);
    return begin_large(text, (size_t)count);
}

static void assert_large_answer(int fd)
{
    char *expected = NULL;
    size_t expected_bytes = 0;
    FILE *file = open_memstream(&expected, &expected_bytes);
    (void)fputs("{\"succeeded\":true,\"revision\":12,\"results\":["
                "{\"op\":\"get\",\"key\":\"a\",\"exists\":true,\"value\":\"",
                file);
    print_json(file, large_text());
    (void)fputs(
        "\",\"encoding\":\"utf-8\",\"content_type\":\"text/plain\",\"revision\":3,\"version\":1},"
        "{\"op\":\"get\",\"key\":\"b\",\"exists\":true,\"value\":\"",
        file);
    print_base64(file, large_binary());
    (void)fputs("\",\"encoding\":\"base64\",\"revision\":4,\"version\":2},"
                "{\"op\":\"get\",\"key\":\"c\",\"exists\":false}]}",
                file);
    (void)fclose(file);
    struct answer *answer = client_receive(fd, false);
    cr_assert_eq(answer->status, 200);
    cr_assert_eq(strtoul(header(answer, "Content-Length"), NULL, 10), expected_bytes);
    char *body = malloc(expected_bytes);
    cr_assert_eq(client_receive_bytes(fd, body, expected_bytes), expected_bytes);
    size_t same = 0;
    while (same < expected_bytes && body[same] == expected[same]) same++;
    cr_assert_eq(same, expected_bytes, "byte %zu of %zu", same, expected_bytes);
    free(body);
    free(expected);
}

static void assert_other_is_answered_meanwhile(void)
{
    static const char get[] = "GET /v1/kv/other HTTP/1.1\r\nHost: t\r\n\r\n";
    int fd = client_connect();
    client_send(fd, get, sizeof get - 1);
    char byte;
    for (int i = 0; i < 100 && recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 1; i++) server_turn();
    cr_assert_not_null(server->paused_oldest, "it had to wait for the large one");
    cr_assert_not(server->paused_oldest->is_answered);
    cr_assert_eq(client_receive(fd, true)->status, 404);
    (void)close(fd);
}

Test(http_txn, large_results_are_told_byte_for_byte_while_others_are_answered)
{
    add_large_results();
    int fd = post_large_results();
    memset(results->data, 0xee, results->count); /* were borrowed */
    assert_other_is_answered_meanwhile();
    assert_large_answer(fd);
    (void)close(fd);
}

Test(http_txn, large_results_in_a_buffer_of_their_own_are_held_and_not_copied)
{
    add_large_results();
    fake.result.results_buf = results;
    int fd = post_large_results();
    cr_assert_eq(results->refs_count, 2);
    assert_other_is_answered_meanwhile();
    assert_large_answer(fd);
    (void)close(fd);
    for (int i = 0; i < 100 && server->connections_count > 0; i++) server_turn();
    cr_assert_eq(results->refs_count, 1);
}

static void assert_nothing_is_left(void)
{
    for (int i = 0; i < 1000 && server->connections_count > 0; i++) server_turn();
    cr_assert_eq(server->connections_count, 0);
    cr_assert_null(server->paused_oldest);
    cr_assert_null(server->paused_newest);
    cr_assert_eq(results->refs_count, 1);
    cr_assert_not_null(
        strstr(body_of(request("GET", "/metrics", "", NULL)), "\ntrilith_http_waiting 0\n"));
    cr_assert_eq(uv_is_active((const uv_handle_t *)&server->busy), 0, "the loop would not sleep");
}

Test(http_txn, client_that_goes_while_a_large_answer_is_made_leaves_nothing)
{
    add_large_results();
    fake.result.results_buf = results;
    (void)close(post_large_results());
    assert_nothing_is_left();
}

Test(http_txn, client_that_goes_in_the_middle_of_a_large_answer_leaves_nothing)
{
    add_large_results();
    fake.result.results_buf = results;
    int fd = post_large_results();
    static char some[300000];
    cr_assert_eq(client_receive_bytes(fd, some, sizeof some), sizeof some);
    (void)close(fd);
    assert_nothing_is_left();
}

/* HTTP/2: preface, empty SETTINGS, HEADERS of a POST as stream 1; its DATA; RST_STREAM. */
Test(http_txn, large_answer_that_is_reset_is_given_up_at_once)
{
    static const uint8_t head[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                  "\0\0\0\4\0\0\0\0\0"
                                  "\0\0\x14\1\4\0\0\0\1"
                                  "\x83\x86\x04\x07/v1/txn\x41\x07one.two";
    static const uint8_t reset[] = "\0\0\4\3\0\0\0\0\1\0\0\0\x08";
    uint8_t text[256];
    size_t count = sizeof head - 1;
    memcpy(text, head, count);
    memcpy(text + count, "\0\0\0\0\1\0\0\0\1", 9);
    text[count + 2] = (uint8_t)strlen(GET_THREE);
    memcpy(text + count + 9, GET_THREE, strlen(GET_THREE));
    add_large_results();
    fake.result.results_buf = results;
    int fd = begin_large(text, count + 9 + strlen(GET_THREE));
    client_send(fd, reset, sizeof reset - 1);
    for (int i = 0; i < 10; i++) server_turn();
    cr_assert_null(server->paused_oldest);
    cr_assert_eq(server->exchanges_waiting_count, 0);
    cr_assert_eq(server->counters.abandoned_count, 1);
    cr_assert_eq(results->refs_count, 1);
    (void)close(fd);
    assert_nothing_is_left();
}
