/* POST /v1/txn over the wire: what the node is asked for, what the client is told, what is refused.
 */

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>

#include "http_client.h"
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
