/* /v1/kv/{key} over the wire: what the node is asked for, and what the client is told. */

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_client.h"
#include "src/http/http_internal.h"
#include "trilith/prng.h"

TestSuite(http_kv, .init = server_begin, .fini = server_end);

static void assert_failure(const struct answer *answer, int status, const char *code,
                           const char *outcome)
{
    cr_assert_eq(answer->status, status, "%d %s", answer->status, body_of(answer));
    json_t *root = json_loads(body_of(answer), 0, NULL);
    cr_assert_not_null(root, "%s", body_of(answer));
    const json_t *error = json_object_get(root, "error");
    cr_assert_str_eq(json_string_value(json_object_get(error, "code")), code);
    cr_assert_str_eq(json_string_value(json_object_get(error, "outcome")), outcome);
    cr_assert_not_null(json_string_value(json_object_get(error, "message")));
    json_decref(root);
    cr_assert_str_eq(header(answer, "Content-Type"), "application/json");
}

/* ---- writes ---- */

Test(http_kv, put_creates_with_201_and_says_where_it_stands)
{
    struct answer *answer = request("PUT", "/v1/kv/stone", "", "granite");
    cr_assert_eq(answer->status, 201);
    cr_assert_str_eq(body_of(answer),
                     "{\"key\":\"stone\",\"revision\":12,\"version\":1,\"replaced\":false}");
    cr_assert_str_eq(header(answer, "ETag"), "\"12\"");
    cr_assert_str_eq(header(answer, "Trilith-Revision"), "12");
    cr_assert_str_eq(header(answer, "Trilith-Token"), "2000");
    cr_assert_str_eq(header(answer, "Trilith-Node"), FAKE_ADDRESS);
    cr_assert_null(header(answer, "Trilith-Replayed"));
    cr_assert_str_eq(header(answer, "Content-Type"), "application/json");
    cr_assert_gt(fake.wakes_count, 0, "the node was not woken");
}

Test(http_kv, put_replaces_with_200)
{
    fake.result.status = KV_REPLACED;
    fake.result.version = 3;
    struct answer *answer = request("PUT", "/v1/kv/stone", "", "slate");
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(body_of(answer),
                     "{\"key\":\"stone\",\"revision\":12,\"version\":3,\"replaced\":true}");
}

Test(http_kv, put_hands_everything_to_the_node)
{
    (void)request("PUT", "/v1/kv/a%2Fb//../%00%ff?",
                  "Content-Type: text/plain; charset=utf-8\r\nIf-Match: \"7\"\r\n"
                  "Idempotency-Key: once\r\nTrilith-Token: 123\r\n",
                  "granite");
    const struct command *command = &fake.command;
    cr_assert_eq(command->type, COMMAND_PUT);
    cr_assert(bytes_equal(command->key, bytes_make("a/b//../\0\xff", 10)));
    cr_assert(bytes_equal(command->value, bytes_of("granite")));
    cr_assert(bytes_equal(command->content_type, bytes_of("text/plain; charset=utf-8")));
    cr_assert_eq(command->condition, CONDITION_REVISION);
    cr_assert_eq(command->condition_revision, 7);
    cr_assert(command->has_idempotency_key);
    cr_assert(hash_equal(command->idempotency_key, hash_bytes(bytes_of("once"))));
    cr_assert(fake.write_was_keyed);
    cr_assert_eq(command->token_us, 123);
    cr_assert_eq(command->origin, FAKE_ID);
    cr_assert_eq(command->value_bytes_max, TEST_VALUE_BYTES_MAX);
    cr_assert_eq(command->records_max, 1000);
    cr_assert_not(command->value_is_json);
}

Test(http_kv, conditions_reach_the_node)
{
    (void)request("PUT", "/v1/kv/k", "If-Match: *\r\n", "v");
    cr_assert_eq(fake.command.condition, CONDITION_EXISTS);
    (void)request("DELETE", "/v1/kv/k", "If-None-Match: *\r\n", NULL);
    cr_assert_eq(fake.command.condition, CONDITION_ABSENT);
    (void)request("PUT", "/v1/kv/k", "", "v");
    cr_assert_eq(fake.command.condition, CONDITION_NONE);
    cr_assert_not(fake.write_was_keyed);
}

Test(http_kv, put_without_a_body_stores_nothing_of_no_length)
{
    struct answer *answer = request("PUT", "/v1/kv/empty", "", NULL);
    cr_assert_eq(answer->status, 201);
    cr_assert_eq(fake.command.value.count, 0);
}

Test(http_kv, keys_that_are_no_text_are_told_in_base64)
{
    struct answer *answer = request("PUT", "/v1/kv/%ff%22", "", "v");
    cr_assert_not_null(strstr(body_of(answer), "\"key\":\"/yI=\",\"key_encoding\":\"base64\""));
    answer = request("PUT", "/v1/kv/%22%0a%c3%a9", "", "v");
    cr_assert_not_null(strstr(body_of(answer), "\"key\":\"\\\"\\u000a\xc3\xa9\","));
}

Test(http_kv, delete_says_deleted)
{
    fake.result.status = KV_DELETED;
    struct answer *answer = request("DELETE", "/v1/kv/stone", "", NULL);
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(body_of(answer), "{\"key\":\"stone\",\"revision\":12,\"deleted\":true}");
    cr_assert_eq(fake.command.type, COMMAND_DELETE);
}

Test(http_kv, append_says_the_new_length)
{
    fake.result.number = 7;
    struct answer *answer = request("POST", "/v1/kv/log?op=append", "", "one");
    cr_assert_eq(answer->status, 201);
    cr_assert_not_null(strstr(body_of(answer), "\"length\":7,"));
    cr_assert_eq(fake.command.type, COMMAND_APPEND);
    fake.result.status = KV_REPLACED;
    cr_assert_eq(request("POST", "/v1/kv/log?op=append", "", "two")->status, 200);
}

Test(http_kv, incr_says_the_value_with_200_also_when_it_creates)
{
    fake.result.number = -5;
    struct answer *answer = request("POST", "/v1/kv/n?op=incr&by=-9223372036854775808", "", NULL);
    cr_assert_eq(answer->status, 200);
    cr_assert_not_null(strstr(body_of(answer), "\"value\":-5}"), "%s", body_of(answer));
    cr_assert_eq(fake.command.type, COMMAND_INCR);
    cr_assert_eq(fake.command.by, INT64_MIN);
    (void)request("POST", "/v1/kv/n?op=incr", "", "");
    cr_assert_eq(fake.command.by, 1);
}

Test(http_kv, json_is_checked_and_kept_byte_for_byte)
{
    const char *json = "{ \"a\" : 1.0e2,\n\"a\":[] }";
    cr_assert_eq(request("PUT", "/v1/kv/j", "Content-Type: application/json\r\n", json)->status,
                 201);
    cr_assert(bytes_equal(fake.command.value, bytes_of(json)));
    cr_assert(fake.command.value_is_json);
    uint32_t writes_count = fake.writes_count;
    assert_failure(request("PUT", "/v1/kv/j", "Content-Type: Application/JSON;x=y\r\n", "{"), 400,
                   "invalid_json", "not_executed");
    assert_failure(request("POST", "/v1/kv/j?op=append", "Content-Type: application/json\r\n", ""),
                   400, "invalid_json", "not_executed");
    cr_assert_eq(fake.writes_count, writes_count);
}

Test(http_kv, server_timing_names_three_steps)
{
    struct answer *answer = request("PUT", "/v1/kv/k", "", "v");
    double queue, replicate, apply;
    cr_assert_eq(sscanf(header(answer, "Server-Timing"),
                        "queue;dur=%lf, replicate;dur=%lf, apply;dur=%lf", &queue, &replicate,
                        &apply),
                 3, "%s", header(answer, "Server-Timing"));
    cr_assert_null(header(request("GET", "/v1/kv/k", "", NULL), "Server-Timing"));
}

Test(http_kv, replays_say_so_whatever_the_outcome)
{
    fake.result.flags = KV_RESULT_REPLAYED;
    struct answer *answer = request("PUT", "/v1/kv/k", "Idempotency-Key: 1\r\n", "v");
    cr_assert_eq(answer->status, 201);
    cr_assert_str_eq(header(answer, "Trilith-Replayed"), "true");
    fake.result.status = KV_NOT_FOUND;
    answer = request("DELETE", "/v1/kv/k", "Idempotency-Key: 1\r\n", NULL);
    cr_assert_str_eq(header(answer, "Trilith-Replayed"), "true");
    assert_failure(answer, 404, "not_found", "not_executed");
}

Test(http_kv, failed_condition_tells_the_present_revision)
{
    fake.result.status = KV_CONDITION_FAILED;
    struct answer *answer = request("PUT", "/v1/kv/k", "If-Match: \"3\"\r\n", "v");
    cr_assert_str_eq(header(answer, "ETag"), "\"12\"");
    cr_assert_not_null(strstr(body_of(answer), "\"revision\":12"));
    assert_failure(answer, 412, "condition_failed", "not_executed");
    fake.result.revision = 0;
    answer = request("PUT", "/v1/kv/k", "If-Match: \"3\"\r\n", "v");
    cr_assert_null(header(answer, "ETag"), "an absent key has no tag");
    cr_assert_eq(answer->status, 412);
}

Test(http_kv, outcomes_of_writes_are_told)
{
    fake.result.status = KV_NOT_INTEGER;
    assert_failure(request("POST", "/v1/kv/k?op=incr", "", NULL), 409, "not_integer",
                   "not_executed");
    fake.result.status = KV_KEY_REUSED;
    assert_failure(request("PUT", "/v1/kv/k", "Idempotency-Key: a\r\n", "v"), 409,
                   "idempotency_key_reused", "not_executed");
    fake.result.status = KV_NO_ROOM;
    struct answer *answer = request("PUT", "/v1/kv/k", "Idempotency-Key: a\r\n", "v");
    cr_assert_not_null(header(answer, "Retry-After"));
    assert_failure(answer, 429, "no_room", "not_executed");
}

Test(http_kv, what_became_of_a_write_is_told_by_status_and_outcome)
{
    fake.write_err = TL_ERR_UNKNOWN;
    struct answer *answer = request("PUT", "/v1/kv/k", "", "v");
    cr_assert_null(header(answer, "Retry-After"), "trying again is not safe");
    assert_failure(answer, 504, "unknown", "unknown");
    fake.write_err = TL_ERR_REPLACED;
    answer = request("PUT", "/v1/kv/k", "", "v");
    cr_assert_not_null(header(answer, "Retry-After"));
    assert_failure(answer, 503, "replaced", "not_executed");
    fake.write_err = TL_ERR_NO_LEADER;
    assert_failure(request("PUT", "/v1/kv/k", "", "v"), 503, "no_leader", "not_executed");
}

Test(http_kv, write_the_node_does_not_take_is_answered_at_once)
{
    fake.write_refusal = TL_ERR_FULL;
    struct answer *answer = request("PUT", "/v1/kv/k", "", "v");
    cr_assert_str_eq(header(answer, "Retry-After"), "1");
    cr_assert_eq(fake.entry->refs_count, 1, "the entry stayed the caller's and was not released");
    assert_failure(answer, 429, "overloaded", "not_executed");
    fake.write_refusal = TL_ERR_STARTING;
    fake.has_no_group = true;
    answer = request("PUT", "/v1/kv/k", "", "v");
    cr_assert_str_eq(header(answer, "Trilith-Revision"), "0");
    assert_failure(answer, 503, "starting", "not_executed");
}

/* ---- reads ---- */

Test(http_kv, get_gives_value_type_and_tag)
{
    fake_set_row("stone", "text/plain", bytes_make("gra\0nite", 8), 5);
    struct answer *answer = request("GET", "/v1/kv/stone", "", NULL);
    cr_assert_eq(answer->status, 200);
    cr_assert_eq(answer->body_bytes, 8);
    cr_assert(memcmp(body_of(answer), "gra\0nite", 8) == 0);
    cr_assert_str_eq(header(answer, "Content-Type"), "text/plain");
    cr_assert_str_eq(header(answer, "ETag"), "\"5\"");
    cr_assert_str_eq(header(answer, "Trilith-Revision"), "9");
    cr_assert_str_eq(header(answer, "Trilith-Token"), "1000");
    cr_assert_str_eq(header(answer, "Trilith-Node"), FAKE_ADDRESS);
    cr_assert_null(header(answer, "Trilith-Applied"));
    cr_assert_eq(fake.seen_read.consistency, NODE_LINEARIZABLE);
    cr_assert_eq(fake.seen_read.group, NODE_DATA_GROUP);
}

Test(http_kv, value_without_a_type_is_an_octet_stream)
{
    fake_set_row("k", "", bytes_of("v"), 5);
    cr_assert_str_eq(header(request("GET", "/v1/kv/k", "", NULL), "Content-Type"),
                     "application/octet-stream");
}

Test(http_kv, head_has_the_headers_of_get_and_no_body)
{
    fake_set_row("k", "text/plain", bytes_of("twelve bytes"), 5);
    struct answer *answer = request("HEAD", "/v1/kv/k", "", NULL);
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(header(answer, "Content-Length"), "12");
    cr_assert_str_eq(header(answer, "ETag"), "\"5\"");
    cr_assert_str_eq(header(answer, "Content-Type"), "text/plain");
}

Test(http_kv, head_leaves_the_connection_at_the_next_answer)
{
    fake_set_row("k", "", bytes_of("a body that must not come"), 5);
    const char *two =
        "HEAD /v1/kv/k HTTP/1.1\r\nHost: t\r\n\r\nGET /livez HTTP/1.1\r\nHost: t\r\n\r\n";
    int fd = client_connect();
    client_send(fd, two, strlen(two));
    cr_assert_eq(client_receive(fd, false)->status, 200);
    cr_assert_str_eq(body_of(client_receive(fd, true)), "ok\n");
}

Test(http_kv, absent_key_is_404)
{
    assert_failure(request("GET", "/v1/kv/nothing", "", NULL), 404, "not_found", "not_executed");
    cr_assert_eq(request("HEAD", "/v1/kv/nothing", "", NULL)->status, 404);
}

Test(http_kv, consistency_comes_from_query_or_header)
{
    (void)request("GET", "/v1/kv/k?consistency=causal", "Trilith-Token: 55\r\n", NULL);
    cr_assert_eq(fake.seen_read.consistency, NODE_CAUSAL);
    cr_assert_eq(fake.seen_read.token_us, 55);
    (void)request("GET", "/v1/kv/k", "Trilith-Consistency: local\r\n", NULL);
    cr_assert_eq(fake.seen_read.consistency, NODE_LOCAL);
}

Test(http_kv, local_read_says_its_index_and_age)
{
    fake.read_is_ready = true;
    fake_set_row("k", "", bytes_of("v"), 5);
    struct answer *answer = request("GET", "/v1/kv/k?consistency=local", "", NULL);
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(header(answer, "Trilith-Applied"), "77");
    cr_assert_str_eq(header(answer, "Trilith-Age-Ms"), "5");
    fake.age_ms = UINT64_MAX;
    answer = request("GET", "/v1/kv/k?consistency=local", "", NULL);
    cr_assert_str_eq(header(answer, "Trilith-Age-Ms"), "9223372036854775807", "never");
}

Test(http_kv, read_that_cannot_be_served_is_503)
{
    fake.read_err = TL_ERR_TIMEOUT;
    struct answer *answer = request("GET", "/v1/kv/k", "", NULL);
    cr_assert_not_null(header(answer, "Retry-After"));
    assert_failure(answer, 503, "timeout", "not_executed");
    fake.read_refusal = TL_ERR_STARTING;
    assert_failure(request("GET", "/v1/kv/k", "", NULL), 503, "starting", "not_executed");
}

Test(http_kv, local_read_before_the_group_exists_is_503)
{
    fake.read_is_ready = true;
    fake.has_no_group = true;
    assert_failure(request("GET", "/v1/kv/k?consistency=local", "", NULL), 503, "starting",
                   "not_executed");
}

Test(http_kv, token_is_judged_by_the_node_and_not_by_a_clock)
{
    static const char token[] = "Trilith-Token: 99999999999999999\r\n";
    cr_assert_eq(request("GET", "/v1/kv/k?consistency=causal", token, NULL)->status, 404);
    cr_assert_eq(fake.seen_read.token_us, 99999999999999999);
    cr_assert_eq(request("PUT", "/v1/kv/k", token, "v")->status, 201);
    cr_assert_eq(fake.command.token_us, 99999999999999999);
    fake.read_err = fake.write_err = TL_ERR_AHEAD;
    assert_failure(request("GET", "/v1/kv/k?consistency=causal", token, NULL), 400, "token_ahead",
                   "not_executed");
    assert_failure(request("PUT", "/v1/kv/k", token, "v"), 400, "token_ahead", "not_executed");
}

Test(http_kv, full_table_of_idempotency_records_says_when_there_is_room)
{
    fake.result.status = KV_NO_ROOM;
    fake.result.number = 42000000;
    struct answer *answer = request("PUT", "/v1/kv/k", "Idempotency-Key: a\r\n", "v");
    cr_assert_str_eq(header(answer, "Retry-After"), "49");
    assert_failure(answer, 429, "no_room", "not_executed");
}

/* ---- large values ---- */

#define LARGE_BYTES (1024u * 1024u)
#define LARGE_ANSWER_BYTES_MAX (LARGE_BYTES + 4096u)
#define CLIENTS_COUNT 12u

struct client {
    int fd;
    size_t count;
    char *text; /* what has come */
};

static uint8_t large[LARGE_BYTES];

static void set_large_row(void)
{
    struct prng prng;
    prng_init(&prng, 1);
    for (size_t i = 0; i < sizeof large; i++) large[i] = (uint8_t)prng_next(&prng);
    fake_set_row("large", "", bytes_make(large, sizeof large), 5);
}

/* Without a turn of the loop. */
static struct client client_begin(const char *text)
{
    struct client client = {.fd = client_connect(), .text = malloc(LARGE_ANSWER_BYTES_MAX)};
    cr_assert_eq(send(client.fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    return client;
}

static void clients_begin(struct client clients[CLIENTS_COUNT])
{
    set_large_row();
    for (uint32_t i = 0; i < CLIENTS_COUNT; i++) {
        clients[i] = client_begin("GET /v1/kv/large HTTP/1.1\r\nHost: t\r\n\r\n");
    }
}

static void client_end(struct client *client)
{
    (void)close(client->fd);
    free(client->text);
}

/* All that has come since; returns how much. */
static size_t client_take(struct client *client)
{
    size_t before = client->count;
    ssize_t got = 1;
    while (got > 0) {
        got = recv(client->fd, client->text + client->count, LARGE_ANSWER_BYTES_MAX - client->count,
                   MSG_DONTWAIT);
        if (got > 0) client->count += (size_t)got;
    }
    return client->count - before;
}

static struct bytes client_body(const struct client *client)
{
    const char *end = memmem(client->text, client->count, "\r\n\r\n", 4);
    if (end == NULL) return bytes_make(NULL, 0);
    return bytes_make(end + 4, client->count - (size_t)(end + 4 - client->text));
}

Test(http_kv, large_values_are_given_to_the_sockets_in_shares_of_a_turn)
{
    struct client clients[CLIENTS_COUNT];
    clients_begin(clients);
    struct client other = client_begin("GET /v1/kv/other HTTP/1.1\r\nHost: t\r\n\r\n");
    size_t all = 0;
    size_t most = 0;
    size_t all_at_other = 0; /* when the other one was answered */
    for (uint32_t i = 0; i < 2000 && all < CLIENTS_COUNT * LARGE_BYTES; i++) {
        server_turn();
        size_t given = 0;
        for (uint32_t j = 0; j < CLIENTS_COUNT; j++) given += client_take(&clients[j]);
        all += given;
        most = TL_MAX(most, given);
        if (client_take(&other) > 0) all_at_other = all;
    }
    /* A share, a piece that begins within it, and the heads. */
    cr_assert_leq(most, HTTP_TURN_BYTES + HTTP_PIECE_BYTES + CLIENTS_COUNT * 512, "%zu", most);
    cr_assert_gt(other.count, 0);
    cr_assert_lt(all_at_other, 2 * LARGE_BYTES, "%zu", all_at_other);
    for (uint32_t i = 0; i < CLIENTS_COUNT; i++) {
        (void)client_take(&clients[i]);
        cr_assert(bytes_equal(client_body(&clients[i]), bytes_make(large, sizeof large)), "%u", i);
        client_end(&clients[i]);
    }
    client_end(&other);
}

Test(http_kv, clients_that_go_in_the_middle_of_large_values_leave_nothing)
{
    struct client clients[CLIENTS_COUNT];
    clients_begin(clients);
    for (uint32_t i = 0; i < 20; i++) {
        server_turn();
        for (uint32_t j = 0; j < CLIENTS_COUNT; j++) (void)client_take(&clients[j]);
    }
    uint32_t paused_count = 0; /* in the middle of their bodies */
    for (struct exchange *each = server->paused_oldest; each != NULL; each = each->paused_newer) {
        if (each->is_answered) paused_count++;
    }
    cr_assert_gt(paused_count, 1);
    for (uint32_t i = 0; i < CLIENTS_COUNT; i++) client_end(&clients[i]);
    for (uint32_t i = 0; i < 1000 && server->connections_count > 0; i++) server_turn();
    cr_assert_eq(server->connections_count, 0);
    cr_assert_null(server->paused_oldest);
    cr_assert_null(server->paused_newest);
    cr_assert_not_null(
        strstr(body_of(request("GET", "/metrics", "", NULL)), "\ntrilith_http_waiting 0\n"));
}

Test(http_kv, head_of_a_large_value_says_its_length)
{
    set_large_row();
    struct answer *answer = request("HEAD", "/v1/kv/large", "", NULL);
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(header(answer, "Content-Length"), "1048576");
    const char *two = "HEAD /v1/kv/large HTTP/1.1\r\nHost: t\r\n\r\n"
                      "GET /livez HTTP/1.1\r\nHost: t\r\n\r\n";
    int fd = client_connect();
    client_send(fd, two, strlen(two));
    cr_assert_eq(client_receive(fd, false)->status, 200);
    cr_assert_str_eq(body_of(client_receive(fd, true)), "ok\n");
    (void)close(fd);
}

Test(http_kv, large_value_comes_whole_over_http2)
{
    /* Preface, SETTINGS and WINDOW_UPDATE for windows of a GiB and more, a GET as stream 1. */
    static const uint8_t get[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                 "\0\0\6\4\0\0\0\0\0"
                                 "\0\4\x7f\xff\xff\xff"
                                 "\0\0\4\x08\0\0\0\0\0"
                                 "\x70\0\0\0"
                                 "\0\0\x19\1\5\0\0\0\1"
                                 "\x82\x86\x04\x0c/v1/kv/large\x41\x07one.two";
    set_large_row();
    int fd = client_connect();
    client_send(fd, get, sizeof get - 1);
    size_t count = 0;
    uint32_t data_frames_count = 0;
    for (bool is_last = false; !is_last;) {
        uint8_t head[9];
        static uint8_t payload[16384];
        cr_assert_eq(client_receive_bytes(fd, head, sizeof head), sizeof head);
        size_t bytes = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        cr_assert_leq(bytes, sizeof payload);
        cr_assert_eq(client_receive_bytes(fd, payload, bytes), bytes);
        if (head[3] == 1) cr_assert_eq(payload[0], 0x88, "200");
        if (head[3] != 0) continue;
        cr_assert_leq(count + bytes, LARGE_BYTES);
        cr_assert_eq(memcmp(payload, large + count, bytes), 0, "from %zu on", count);
        count += bytes;
        data_frames_count++;
        is_last = (head[4] & 1) != 0;
    }
    cr_assert_eq(count, LARGE_BYTES);
    cr_assert_geq(data_frames_count, LARGE_BYTES / 16384);
    (void)close(fd);
}

/* ---- refusals ---- */

Test(http_kv, bad_requests_are_refused_before_the_node_sees_them)
{
    static const struct {
        const char *method;
        const char *target;
        const char *headers;
        const char *body;
        int status;
    } bad[] = {
        {"PUT", "/v1/kv/", "", "v", 400},
        {"PUT", "/v1/kv/a%2", "", "v", 400},
        {"GET", "/v1/kv/%zz", "", NULL, 400},
        {"GET", "/v1/kv/k?unknown=1", "", NULL, 400},
        {"PUT", "/v1/kv/k?op=append", "", "v", 400},
        {"GET", "/v1/kv/k?consistency=strong", "", NULL, 400},
        {"GET", "/v1/kv/k?consistency=local&consistency=local", "", NULL, 400},
        {"GET", "/v1/kv/k?consistency=local", "Trilith-Consistency: local\r\n", NULL, 400},
        {"PUT", "/v1/kv/k", "If-Match: abc\r\n", "v", 400},
        {"PUT", "/v1/kv/k", "If-None-Match: \"1\"\r\n", "v", 400},
        {"PUT", "/v1/kv/k", "If-Match: \"1\"\r\nIf-Match: \"1\"\r\n", "v", 400},
        {"PUT", "/v1/kv/k", "If-Match: *\r\nIf-None-Match: *\r\n", "v", 400},
        {"PUT", "/v1/kv/k", "Idempotency-Key: a\r\nIdempotency-Key: a\r\n", "v", 400},
        {"PUT", "/v1/kv/k", "Trilith-Token: 1.5.x\r\n", "v", 400},
        {"POST", "/v1/kv/k", "", "v", 400},
        {"POST", "/v1/kv/k?op=square", "", "v", 400},
        {"POST", "/v1/kv/k?op=incr&by=many", "", NULL, 400},
        {"POST", "/v1/kv/k?op=incr&by=9223372036854775808", "", NULL, 400},
        {"POST", "/v1/kv/k?op=incr", "", "v", 400},
        {"POST", "/v1/kv/k?op=append&by=1", "", "v", 400},
        {"PUT", "/v1/kv/k", "Content-Type: nonsense\r\n", "v", 415},
        {"PUT", "/v1/kv/k", "Content-Encoding: gzip\r\n", "v", 415},
        {"GET", "/v1/nothing", "", NULL, 404},
        {"GET", "/nothing", "", NULL, 404},
    };
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        struct answer *answer = request(bad[i].method, bad[i].target, bad[i].headers, bad[i].body);
        cr_assert_eq(answer->status, bad[i].status, "%s %s: %d", bad[i].method, bad[i].target,
                     answer->status);
        cr_assert_not_null(strstr(body_of(answer), "\"outcome\":\"not_executed\""));
        cr_assert_not_null(header(answer, "Trilith-Node"));
    }
    cr_assert_eq(fake.writes_count + fake.reads_count, 0);
}

Test(http_kv, key_has_480_bytes_at_most)
{
    char target[600] = "/v1/kv/";
    memset(target + 7, 'k', 480);
    cr_assert_eq(request("PUT", target, "", "v")->status, 201);
    target[7 + 480] = 'k';
    assert_failure(request("PUT", target, "", "v"), 414, "key_too_long", "not_executed");
}

Test(http_kv, idempotency_key_has_64_bytes_at_most)
{
    char line[128] = "Idempotency-Key: ";
    size_t at = strlen(line);
    memset(line + at, 'k', 64);
    memcpy(line + at + 64, "\r\n", 3);
    cr_assert_eq(request("PUT", "/v1/kv/k", line, "v")->status, 201);
    memcpy(line + at + 64, "k\r\n", 4);
    cr_assert_eq(request("PUT", "/v1/kv/k", line, "v")->status, 400);
    cr_assert_eq(request("PUT", "/v1/kv/k", "Idempotency-Key: \r\n", "v")->status, 400);
}

Test(http_kv, value_over_the_limit_is_413)
{
    static char body[TEST_VALUE_BYTES_MAX + 2];
    memset(body, 'v', TEST_VALUE_BYTES_MAX);
    cr_assert_eq(request("PUT", "/v1/kv/k", "", body)->status, 201);
    body[TEST_VALUE_BYTES_MAX] = 'v';
    assert_failure(request("PUT", "/v1/kv/k", "", body), 413, "value_too_large", "not_executed");
}

Test(http_kv, body_far_over_the_limit_is_not_even_read)
{
    const char *head = "PUT /v1/kv/k HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n";
    int fd = client_connect();
    client_send(fd, head, strlen(head));
    cr_assert_eq(client_receive(fd, true)->status, 413);
    cr_assert(client_sees_end(fd));
}

Test(http_kv, other_methods_are_405_with_allow)
{
    struct answer *answer = request("PATCH", "/v1/kv/k", "", "v");
    cr_assert_str_eq(header(answer, "Allow"), "GET, HEAD, PUT, DELETE, POST");
    assert_failure(answer, 405, "method_not_allowed", "not_executed");
}

Test(http_kv, absolute_target_names_the_same_key)
{
    (void)request("PUT", "http://one.test:8081/v1/kv/k?", "", "v");
    cr_assert(bytes_equal(fake.command.key, bytes_of("k")));
}

Test(http_kv, chunked_body_is_a_body)
{
    const char *text = "PUT /v1/kv/k HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "4\r\ngran\r\n3\r\nite\r\n0\r\n\r\n";
    int fd = client_connect();
    client_send(fd, text, strlen(text));
    cr_assert_eq(client_receive(fd, true)->status, 201);
    cr_assert(bytes_equal(fake.command.value, bytes_of("granite")));
}
