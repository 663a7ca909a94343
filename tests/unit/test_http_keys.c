/* /keys/{key}: the statuses and texts of the list family, in their order. */

#include <criterion/criterion.h>
#include <stdio.h>

#include "http_client.h"

#define JSON "Content-Type: application/json\r\n"

TestSuite(http_keys, .init = server_begin, .fini = server_end);

Test(http_keys, get_gives_a_bare_array)
{
    fake_set_row("animals", "application/json", bytes_of("[\"cat\",\"dog\"]"), 5);
    struct answer *answer = request("GET", "/keys/animals", "", NULL);
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(body_of(answer), "[\"cat\",\"dog\"]");
    cr_assert_str_eq(header(answer, "Content-Type"), "application/json");
    cr_assert_not_null(header(answer, "Trilith-Node"));
}

Test(http_keys, get_of_an_absent_key_is_an_empty_404)
{
    struct answer *answer = request("GET", "/keys/animals", "", NULL);
    cr_assert_eq(answer->status, 404);
    cr_assert_eq(answer->body_bytes, 0);
    cr_assert_str_eq(header(answer, "Content-Length"), "0");
}

Test(http_keys, get_of_what_is_no_list_is_an_empty_400)
{
    static const char *const values[][2] = {
        {"application/json", "[1]"}, {"application/json", "\"cat\""}, {"text/plain", "[\"cat\"]"}};
    for (size_t i = 0; i < TL_COUNT_OF(values); i++) {
        fake_set_row("k", values[i][0], bytes_of(values[i][1]), 5);
        struct answer *answer = request("GET", "/keys/k", "", NULL);
        cr_assert_eq(answer->status, 400, "%s", values[i][1]);
        cr_assert_eq(answer->body_bytes, 0);
    }
}

Test(http_keys, get_without_quorum_is_503_but_local_answers)
{
    fake.read_err = TL_ERR_NO_QUORUM;
    cr_assert_eq(request("GET", "/keys/k", "", NULL)->status, 503);
    fake.read_is_ready = true;
    fake_set_row("k", "application/json", bytes_of("[]"), 5);
    cr_assert_eq(request("GET", "/keys/k?consistency=local", "", NULL)->status, 200);
}

Test(http_keys, put_is_204_and_stores_a_json_array)
{
    struct answer *answer =
        request("POST", "/keys/a%2Fb", "Content-Type: application/json; x=y\r\n",
                "{\"type\": \"PUT\", \"value\": [\"a\", \"b\\u0000\"]}");
    cr_assert_eq(answer->status, 204);
    cr_assert_null(header(answer, "Content-Length"), "a 204 has no body to measure");
    cr_assert_eq(fake.command.type, COMMAND_PUT);
    cr_assert(bytes_equal(fake.command.key, bytes_of("a/b")));
    cr_assert(bytes_equal(fake.command.value, bytes_of("[\"a\",\"b\\u0000\"]")));
    cr_assert(bytes_equal(fake.command.content_type, bytes_of("application/json")));
    cr_assert(fake.command.value_is_json);
    cr_assert_eq(request("POST", "/keys/k", JSON, "{\"type\":\"PUT\",\"value\":[]}")->status, 204);
    cr_assert(bytes_equal(fake.command.value, bytes_of("[]")));
}

Test(http_keys, append_is_204_and_sends_one_json_string)
{
    struct answer *answer =
        request("POST", "/keys/k", JSON, "{\"type\":\"APPEND\",\"value\":\"d\\\"og\"}");
    cr_assert_eq(answer->status, 204);
    cr_assert_eq(fake.command.type, COMMAND_LIST_APPEND);
    cr_assert(bytes_equal(fake.command.value, bytes_of("\"d\\\"og\"")));
}

Test(http_keys, errors_come_in_their_order)
{
    static const char not_valid[] = "The request is not valid";
    static const char bad_type[] = "The request type is not correct";
    static const char bad_value[] = "The request value is not valid";
    static const struct {
        const char *headers;
        const char *body;
        const char *text;
    } bad[] = {
        {"", "{\"type\":\"PUT\",\"value\":[]}", not_valid},
        {"Content-Type: text/plain\r\n", "{\"type\":\"PUT\",\"value\":[]}", not_valid},
        {"Content-Type: json\r\n", "{\"type\":\"PUT\",\"value\":[]}", not_valid},
        {JSON, "{", not_valid},
        {JSON, "", not_valid},
        {JSON, "[1]", not_valid},
        {JSON, "{}", bad_type},
        {JSON, "{\"value\":[]}", bad_type},
        {JSON, "{\"type\":\"put\",\"value\":[]}", bad_type},
        {JSON, "{\"type\":\"PUT\\u0000\",\"value\":[]}", bad_type},
        {JSON, "{\"type\":5,\"value\":3}", bad_type},
        {JSON, "{\"type\":\"PUT\"}", bad_value},
        {JSON, "{\"type\":\"PUT\",\"value\":\"x\"}", bad_value},
        {JSON, "{\"type\":\"PUT\",\"value\":[\"a\",1]}", bad_value},
        {JSON, "{\"type\":\"APPEND\"}", bad_value},
        {JSON, "{\"type\":\"APPEND\",\"value\":[\"x\"]}", bad_value},
    };
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        struct answer *answer = request("POST", "/keys/k", bad[i].headers, bad[i].body);
        cr_assert_eq(answer->status, 400, "%s", bad[i].body);
        cr_assert_str_eq(body_of(answer), bad[i].text, "%s: %s", bad[i].body, body_of(answer));
        cr_assert_str_eq(header(answer, "Content-Type"), "text/plain");
    }
    cr_assert_eq(fake.writes_count, 0);
}

Test(http_keys, wrong_targets_are_refused_in_the_familys_words)
{
    static const char *const targets[] = {"/keys/", "/keys/a%zz", "/keys/a?x=1",
                                          "/keys/a?consistency=strong"};
    for (size_t i = 0; i < TL_COUNT_OF(targets); i++) {
        struct answer *answer =
            request("POST", targets[i], JSON, "{\"type\":\"PUT\",\"value\":[]}");
        cr_assert_eq(answer->status, 400, "%s", targets[i]);
        cr_assert_str_eq(body_of(answer), "The request is not valid", "%s", targets[i]);
        answer = request("GET", targets[i], "", NULL);
        cr_assert_eq(answer->status, 400, "%s", targets[i]);
        cr_assert_str_eq(body_of(answer), "", "%s", targets[i]);
    }
    cr_assert_eq(fake.writes_count, 0);
}

Test(http_keys, append_to_what_is_no_list_is_a_bad_value)
{
    fake.result.status = KV_NOT_LIST;
    struct answer *answer =
        request("POST", "/keys/k", JSON, "{\"type\":\"APPEND\",\"value\":\"c\"}");
    cr_assert_eq(answer->status, 400);
    cr_assert_str_eq(body_of(answer), "The request value is not valid");
}

Test(http_keys, write_without_quorum_is_503_or_504)
{
    const char *body = "{\"type\":\"PUT\",\"value\":[]}";
    fake.write_err = TL_ERR_NO_QUORUM;
    cr_assert_eq(request("POST", "/keys/k", JSON, body)->status, 503);
    fake.write_err = TL_ERR_UNKNOWN;
    cr_assert_eq(request("POST", "/keys/k", JSON, body)->status, 504);
}

Test(http_keys, list_over_the_limit_is_413)
{
    static char body[TEST_VALUE_BYTES_MAX + 64];
    int count = snprintf(body, sizeof body, "{\"type\":\"PUT\",\"value\":[\"");
    memset(body + count, 'v', TEST_VALUE_BYTES_MAX);
    memcpy(body + count + TEST_VALUE_BYTES_MAX, "\"]}", 4);
    cr_assert_eq(request("POST", "/keys/k", JSON, body)->status, 413);
}

Test(http_keys, other_methods_are_405)
{
    cr_assert_eq(request("PUT", "/keys/k", JSON, "[]")->status, 405);
    cr_assert_eq(request("DELETE", "/keys/k", "", NULL)->status, 405);
}
