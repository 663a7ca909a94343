/* Leadership handed over by HTTP. */

#include <criterion/criterion.h>
#include <jansson.h>
#include <unistd.h>

#include "http_client.h"

TestSuite(http_leader, .init = server_begin, .fini = server_end);

#define LEADER "/v1/cluster/leader"
#define JSON "Content-Type: application/json\r\n"
#define TWO_ID 0x2222222222222222u

static json_t *document_of(struct answer *answer, int status)
{
    cr_assert_eq(answer->status, status, "%d: %s", answer->status, body_of(answer));
    json_t *root = json_loads(body_of(answer), 0, NULL);
    cr_assert_not_null(root, "%s", body_of(answer));
    return root;
}

static void expect_error(struct answer *answer, int status, const char *code)
{
    json_t *root = document_of(answer, status);
    const json_t *error = json_object_get(root, "error");
    cr_assert_str_eq(json_string_value(json_object_get(error, "code")), code);
    json_decref(root);
}

static void set_true(void *context)
{
    *(bool *)context = true;
}

static void expect_text(const json_t *root, const char *name, const char *value)
{
    const char *text = json_string_value(json_object_get(root, name));
    cr_assert_not_null(text, "%s is no string", name);
    cr_assert_str_eq(text, value);
}

Test(http_leader, a_transfer_is_answered_when_it_is_done)
{
    fake.leader_transfer_report =
        (struct node_leader_transfer_report){.is_changed = true, .from = FAKE_ID, .to = TWO_ID};
    json_t *root = document_of(
        request("POST", LEADER, JSON, "{\"group\":0,\"address\":\"two.test:8082\"}"), 200);
    cr_assert_eq(fake.seen_leader_transfer.group, 0);
    cr_assert_str_eq(fake.seen_leader_transfer.address, "two.test:8082");
    cr_assert_not(fake.seen_leader_transfer.is_dry_run);
    cr_assert_gt(fake.seen_leader_transfer.deadline_ns, 0);
    cr_assert(json_is_true(json_object_get(root, "changed")));
    cr_assert(json_is_false(json_object_get(root, "dry_run")));
    cr_assert_eq(json_integer_value(json_object_get(root, "group")), 0);
    expect_text(root, "from", FAKE_ADDRESS);
    expect_text(root, "leader", "two.test:8082");
    cr_assert(json_is_null(json_object_get(root, "refused")));
    json_decref(root);
}

Test(http_leader, a_high_port_names_a_member)
{
    json_decref(
        document_of(request("POST", LEADER, JSON, "{\"address\":\"two.test:60000\"}"), 200));
    cr_assert_str_eq(fake.seen_leader_transfer.address, "two.test:60000");
}

Test(http_leader, group_and_address_may_be_left_out)
{
    fake.leader_transfer_report =
        (struct node_leader_transfer_report){.is_changed = true, .to = TWO_ID};
    json_t *root = document_of(request("POST", LEADER, JSON, "{}"), 200);
    cr_assert_eq(fake.seen_leader_transfer.group, NODE_DATA_GROUP);
    cr_assert_str_eq(fake.seen_leader_transfer.address, "");
    cr_assert(json_is_null(json_object_get(root, "from")), "not known");
    json_decref(root);
}

Test(http_leader, a_refusal_is_a_conflict_and_of_a_dry_run_an_answer)
{
    fake.leader_transfer_report = (struct node_leader_transfer_report){
        .from = FAKE_ID, .to = FAKE_ID, .refusal_code = "not_heard", .refusal = "a sentence"};
    expect_error(request("POST", LEADER, JSON, "{\"address\":\"two.test:8082\"}"), 409,
                 "not_heard");
    json_t *root = document_of(
        request("POST", LEADER "?dry_run=1", JSON, "{\"address\":\"two.test:8082\"}"), 200);
    cr_assert(fake.seen_leader_transfer.is_dry_run);
    cr_assert(json_is_false(json_object_get(root, "changed")));
    expect_text(root, "refused", "not_heard");
    expect_text(root, "reason", "a sentence");
    json_decref(root);
}

Test(http_leader, errors_of_the_node_have_their_status)
{
    fake.leader_transfer_err = TL_ERR_TIMEOUT;
    expect_error(request("POST", LEADER, JSON, "{}"), 503, "timeout");
    fake.leader_transfer_err = TL_ERR_UNKNOWN;
    expect_error(request("POST", LEADER, JSON, "{}"), 504, "unknown");
    fake.leader_transfer_refusal = TL_ERR_STOPPING;
    expect_error(request("POST", LEADER, JSON, "{}"), 503, "stopping");
    fake.leader_transfer_refusal = TL_ERR_NOT_FOUND;
    expect_error(request("POST", LEADER, JSON, "{\"group\":9}"), 404, "no_group");
}

Test(http_leader, what_is_not_right_never_reaches_the_node)
{
    static const char *const bodies[] = {
        "",
        "[]",
        "{\"group\":\"1\"}",
        "{\"group\":-1}",
        "{\"group\":1.5}",
        "{\"group\":9000000000000000000}",
        "{\"address\":7}",
        "{\"address\":\"\"}",
        "{\"address\":\"nowhere\"}",
        "{\"address\":\"two.test:8082\",\"force\":true}",
    };
    for (size_t i = 0; i < TL_COUNT_OF(bodies); i++) {
        expect_error(request("POST", LEADER, JSON, bodies[i]), 400, "bad_request");
    }
    expect_error(request("POST", LEADER "?dry_run=yes", JSON, "{}"), 400, "bad_request");
    expect_error(request("POST", LEADER "?group=1", JSON, "{}"), 400, "bad_request");
    expect_error(request("GET", LEADER, "", NULL), 405, "method_not_allowed");
    cr_assert_eq(fake.leader_transfers_count, 0);
}

/* Preface, empty SETTINGS, a POST as stream 1 and its body (RFC 9113, RFC 7541). */
static const uint8_t h2_post[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                 "\0\0\0\4\0\0\0\0\0"
                                 "\0\0\x1f\1\4\0\0\0\1"
                                 "\x83\x86\x44\x12" LEADER "\x41\7one.two"
                                 "\0\0\2\0\1\0\0\0\1{}";
static const uint8_t h2_reset[] = "\0\0\4\3\0\0\0\0\1\0\0\0\x08"; /* CANCEL */

Test(http_leader, a_request_that_is_reset_is_cancelled_at_the_node)
{
    fake.is_held = true;
    int fd = client_connect();
    client_send(fd, h2_post, sizeof h2_post - 1);
    for (int i = 0; i < 100 && fake.leader_transfers_count == 0; i++) server_turn();
    cr_assert_eq(fake.leader_transfers_count, 1);
    client_send(fd, h2_reset, sizeof h2_reset - 1);
    for (int i = 0; i < 100 && fake.leader_transfers_cancelled_count == 0; i++) server_turn();
    cr_assert_eq(fake.leader_transfers_cancelled_count, 1);
    (void)close(fd);
}

Test(http_leader, a_client_that_is_served_while_the_server_closes_is_told_to_go)
{
    int fd = client_connect();
    const char *post = "POST " LEADER " HTTP/1.1\r\nHost: t\r\n" JSON "Content-Length: 2\r\n\r\n{}";
    client_send(fd, post, strlen(post));
    cr_assert_eq(client_receive(fd, true)->status, 200);
    bool is_closed = false;
    http_server_close(server, set_true, &is_closed);
    server_turn();
    fake.leader_transfer_refusal = TL_ERR_STOPPING; /* the node drains */
    client_send(fd, post, strlen(post));
    struct answer *answer = client_receive(fd, true);
    cr_assert_eq(answer->status, 503);
    cr_assert_str_eq(header(answer, "Connection"), "close");
    cr_assert(client_sees_end(fd));
    for (int i = 0; i < 100 && !is_closed; i++) server_turn();
    cr_assert(is_closed);
    server_set_closed();
    (void)close(fd);
}
