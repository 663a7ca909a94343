/* Changes of the membership over HTTP. */

#include <criterion/criterion.h>
#include <jansson.h>
#include <unistd.h>

#include "http_client.h"

TestSuite(http_members, .init = server_begin, .fini = server_end);

#define MEMBERS "/v1/cluster/members"
#define JSON "Content-Type: application/json\r\n"

static json_t *document_of(struct answer *answer, int status)
{
    cr_assert_eq(answer->status, status, "%d: %s", answer->status, body_of(answer));
    json_t *root = json_loads(body_of(answer), 0, NULL);
    cr_assert_not_null(root, "%s", body_of(answer));
    return root;
}

static long long number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    cr_assert(json_is_integer(value), "%s is no integer", name);
    return json_integer_value(value);
}

static void expect_error(struct answer *answer, int status, const char *code)
{
    json_t *root = document_of(answer, status);
    const json_t *error = json_object_get(root, "error");
    cr_assert_str_eq(json_string_value(json_object_get(error, "code")), code);
    cr_assert_str_eq(json_string_value(json_object_get(error, "outcome")),
                     status == 504 ? "unknown" : "not_executed");
    json_decref(root);
}

Test(http_members, an_added_member_is_accepted)
{
    fake.report = (struct node_change_report){.is_changed = true,
                                              .epoch = 7,
                                              .can_lose_before = 1,
                                              .can_lose_after = 2,
                                              .bytes_to_move = 4096};
    json_t *root = document_of(request("POST", MEMBERS, JSON, "{\"address\": \"n4:8084\"}"), 202);
    cr_assert(json_is_true(json_object_get(root, "changed")));
    cr_assert(json_is_false(json_object_get(root, "dry_run")));
    cr_assert(json_is_null(json_object_get(root, "refused")));
    cr_assert_eq(number(root, "epoch"), 7);
    cr_assert_eq(number(root, "can_lose_before"), 1);
    cr_assert_eq(number(root, "can_lose_after"), 2);
    cr_assert_eq(number(root, "bytes_to_move"), 4096);
    cr_assert_str_eq(json_string_value(json_object_get(root, "address")), "n4:8084");
    json_decref(root);
    cr_assert_eq(fake.seen_change.kind, NODE_CHANGE_ADD);
    cr_assert_not(fake.seen_change.is_dry_run);
    cr_assert_str_eq(fake.seen_change.address, "n4:8084");
    cr_assert_str_eq(fake.seen_change.peer_address, "n4:18084");
    cr_assert_gt(fake.seen_change.deadline_ns, 0);
}

Test(http_members, a_member_may_be_named_with_its_peer_port)
{
    (void)request("POST", MEMBERS, JSON, "{\"address\": \"n4:8084/99\"}");
    cr_assert_str_eq(fake.seen_change.address, "n4:8084");
    cr_assert_str_eq(fake.seen_change.peer_address, "n4:99");
}

Test(http_members, a_high_port_names_a_member_and_a_newcomer_only_with_its_peer_port)
{
    fake.report = (struct node_change_report){.is_changed = true};
    json_decref(document_of(request("DELETE", MEMBERS "/n2:60000", "", NULL), 202));
    cr_assert_str_eq(fake.seen_change.address, "n2:60000");
    json_decref(document_of(request("POST", MEMBERS, JSON, "{\"address\": \"n4:60000/99\"}"), 202));
    cr_assert_str_eq(fake.seen_change.peer_address, "n4:99");
    struct answer *answer = request("POST", MEMBERS, JSON, "{\"address\": \"n4:60000\"}");
    expect_error(answer, 400, "bad_request");
    cr_assert_not_null(strstr(body_of(answer), "HOST:PORT/PEERPORT"), "%s", body_of(answer));
}

Test(http_members, what_is_so_already_is_ok)
{
    fake.report = (struct node_change_report){.epoch = 7};
    json_t *root = document_of(request("DELETE", MEMBERS "/n2:8082", "", NULL), 200);
    cr_assert(json_is_false(json_object_get(root, "changed")));
    json_decref(root);
    cr_assert_eq(fake.seen_change.kind, NODE_CHANGE_REMOVE);
    cr_assert_str_eq(fake.seen_change.address, "n2:8082");
}

Test(http_members, a_refusal_is_a_conflict_and_in_a_dry_run_an_answer)
{
    fake.report = (struct node_change_report){
        .can_lose_after = -1, .refusal_code = "would_lose_quorum", .refusal = "too few are left"};
    expect_error(request("DELETE", MEMBERS "/n2:8082", "", NULL), 409, "would_lose_quorum");
    json_t *root = document_of(request("DELETE", MEMBERS "/n2:8082?dry_run=1", "", NULL), 200);
    cr_assert(fake.seen_change.is_dry_run);
    cr_assert(json_is_true(json_object_get(root, "dry_run")));
    cr_assert_eq(number(root, "can_lose_after"), -1);
    cr_assert_str_eq(json_string_value(json_object_get(root, "refused")), "would_lose_quorum");
    cr_assert_str_eq(json_string_value(json_object_get(root, "reason")), "too few are left");
    json_decref(root);
}

Test(http_members, errors_of_the_node_are_told_as_of_writes)
{
    fake.change_refusal = TL_ERR_STARTING;
    expect_error(request("DELETE", MEMBERS "/n2:8082", "", NULL), 503, "starting");
    fake.change_refusal = TL_OK;
    fake.change_err = TL_ERR_NO_QUORUM;
    expect_error(request("DELETE", MEMBERS "/n2:8082", "", NULL), 503, "no_quorum");
    fake.change_err = TL_ERR_UNKNOWN;
    expect_error(request("POST", MEMBERS, JSON, "{\"address\": \"n4:8084\"}"), 504, "unknown");
}

Test(http_members, malformed_requests_never_reach_the_node)
{
    static const char *const bodies[] = {
        "",
        "{}",
        "[]",
        "\"n4:8084\"",
        "{\"address\": 1}",
        "{\"address\": \"n4\"}",
        "{\"address\": \"n4:0\"}",
        "{\"address\": \"n4:8084/x\"}",
        "{\"address\": \"n4:8084\", \"role\": \"voter\"}",
    };
    for (size_t i = 0; i < TL_COUNT_OF(bodies); i++) {
        expect_error(request("POST", MEMBERS, JSON, bodies[i]), 400, "bad_request");
    }
    expect_error(request("POST", MEMBERS "?dry_run=2", JSON, "{\"address\": \"n4:8084\"}"), 400,
                 "bad_request");
    expect_error(request("DELETE", MEMBERS "/n2:8082?force=1", "", NULL), 400, "bad_request");
    expect_error(request("DELETE", MEMBERS "/", "", NULL), 400, "bad_request");
    expect_error(request("DELETE", MEMBERS "/n2", "", NULL), 400, "bad_request");
    expect_error(request("DELETE", MEMBERS "/n2:8082", "", "body"), 400, "bad_request");
    cr_assert_eq(fake.changes_count, 0);
}

Test(http_members, other_methods_are_not_allowed)
{
    struct answer *answer = request("GET", MEMBERS, "", NULL);
    cr_assert_eq(answer->status, 405);
    cr_assert_str_eq(header(answer, "Allow"), "POST");
    answer = request("PUT", MEMBERS "/n2:8082", "", "x");
    cr_assert_eq(answer->status, 405);
    cr_assert_str_eq(header(answer, "Allow"), "DELETE");
}

/* Preface, empty SETTINGS, and a DELETE as stream 1 (RFC 9113, RFC 7541). */
static const uint8_t h2_delete[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                   "\0\0\0\4\0\0\0\0\0"
                                   "\0\0\x2f\1\5\0\0\0\1"
                                   "\x02\x06"
                                   "DELETE\x86\x04\x1b" MEMBERS "/n2:8082\x41\x07one.two";
static const uint8_t h2_reset[] = "\0\0\4\3\0\0\0\0\1\0\0\0\x08"; /* CANCEL */

Test(http_members, a_request_that_is_reset_is_cancelled_at_the_node)
{
    fake.is_held = true;
    int fd = client_connect();
    client_send(fd, h2_delete, sizeof h2_delete - 1);
    for (int i = 0; i < 100 && fake.changes_count == 0; i++) server_turn();
    cr_assert_eq(fake.changes_count, 1);
    client_send(fd, h2_reset, sizeof h2_reset - 1);
    for (int i = 0; i < 100 && fake.changes_cancelled_count == 0; i++) server_turn();
    cr_assert_eq(fake.changes_cancelled_count, 1);
    (void)close(fd);
}

Test(http_members, the_cluster_page_tells_roles_and_epoch)
{
    fake.status.member_roles[2] = MEMBER_LEAVING;
    json_t *root = document_of(request("GET", "/v1/cluster", "", NULL), 200);
    cr_assert_eq(number(root, "placement_epoch"), 6);
    const json_t *members = json_object_get(root, "members");
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(members, 0), "role")),
                     "voter");
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(members, 2), "role")),
                     "leaving");
    json_decref(root);
}
