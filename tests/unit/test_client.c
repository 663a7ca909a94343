/* client: paths, verdicts, and retries against small servers made here. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client_internal.h"
#include "net_names.h"

Test(client, path_escapes_every_byte_that_is_not_plain)
{
    char *path = client_kv_path("a b/%\xff", 6, "?op=append");
    cr_assert_str_eq(path, "/v1/kv/a%20b/%25%FF?op=append");
    free(path);
}

Test(client, scan_path_has_what_is_asked_for_and_no_more)
{
    char *path = client_scan_path(&(struct trilith_scan_options){.prefix = NULL});
    cr_assert_str_eq(path, "/v1/kv?");
    free(path);
    path = client_scan_path(&(struct trilith_scan_options){.prefix = "a b",
                                                           .prefix_bytes = 3,
                                                           .start = "",
                                                           .end = "\xff",
                                                           .end_bytes = 1,
                                                           .after = "a&+",
                                                           .after_bytes = 3,
                                                           .limit = 1000,
                                                           .reverse = true,
                                                           .keys_only = true,
                                                           .count_only = true});
    cr_assert_str_eq(path, "/v1/kv?limit=1000&prefix=a%20b&start=&end=%FF&after=a%26%2B"
                           "&reverse=1&keys_only=1&count_only=1");
    free(path);
}

Test(client, only_a_definite_refusal_is_not_executed)
{
    cr_assert_eq(client_judge(200, ""), CLIENT_FINAL);
    cr_assert_eq(client_judge(404, ""), CLIENT_FINAL);
    cr_assert_eq(client_judge(429, "not_executed"), CLIENT_NOT_EXECUTED);
    cr_assert_eq(client_judge(503, "not_executed"), CLIENT_NOT_EXECUTED);
    cr_assert_eq(client_judge(503, "unknown"), CLIENT_MAYBE_EXECUTED);
    cr_assert_eq(client_judge(504, "unknown"), CLIENT_MAYBE_EXECUTED);
    cr_assert_eq(client_judge(500, "unknown"), CLIENT_MAYBE_EXECUTED);
    cr_assert_eq(client_judge(507, "not_executed"), CLIENT_NOT_EXECUTED);
}

Test(client, unknown_write_is_repeated_only_while_its_key_is_remembered)
{
    cr_assert(!client_is_over(59999, 100000, true));
    cr_assert(client_is_over(60000, 100000, true));
    cr_assert(!client_is_over(60000, 100000, false));
    cr_assert(client_is_over(100000, 100000, false));
}

Test(client, endpoints_without_a_port_are_refused)
{
    cr_assert_null(trilith_client_create("localhost", 100));
    cr_assert_null(trilith_client_create("", 100));
}

/* A server that takes a connection for each of its answers, in order; NULL: the answer is lost, the
 * connection closed behind the request. It remembers the requests. */
#define ANSWERS_MAX 2u
struct server {
    int listener;
    char endpoint[64];
    const char *answers[ANSWERS_MAX];
    uint32_t answers_count; /* 0: accepts nobody, as a stopped process */
    uint32_t delay_s;       /* before each answer */
    char requests[ANSWERS_MAX][4096];
};

static const char ok_answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"7\"\r\n\r\nok";

static void *serve(void *context)
{
    struct server *server = context;
    for (uint32_t i = 0; i < server->answers_count; i++) {
        int connection = accept(server->listener, NULL, NULL);
        ssize_t count = read(connection, server->requests[i], sizeof server->requests[i] - 1);
        cr_assert_gt(count, 0);
        const char *answer = server->answers[i];
        (void)sleep(server->delay_s);
        if (answer != NULL) {
            cr_assert_eq(write(connection, answer, strlen(answer)), (ssize_t)strlen(answer));
        }
        close(connection);
    }
    return NULL;
}

static void server_start(struct server *server, pthread_t *out_thread)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_bytes = sizeof address;
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(server->listener, 8), 0);
    cr_assert_eq(getsockname(server->listener, (struct sockaddr *)&address, &address_bytes), 0);
    snprintf(server->endpoint, sizeof server->endpoint, "127.0.0.1:%u", ntohs(address.sin_port));
    cr_assert_eq(pthread_create(out_thread, NULL, serve, server), 0);
}

static void server_stop(struct server *server, pthread_t thread)
{
    cr_assert_eq(pthread_join(thread, NULL), 0);
    close(server->listener);
}

static void idempotency_key_of(const char *request, char out_key[64])
{
    const char *header = strstr(request, "Idempotency-Key: ");
    cr_assert_not_null(header, "request without a key: %s", request);
    cr_assert_eq(sscanf(header, "Idempotency-Key: %63s", out_key), 1);
}

Test(client, lost_answer_is_asked_for_again_under_the_same_key, .timeout = 10)
{
    static struct server server = {.answers = {NULL, ok_answer}, .answers_count = 2};
    pthread_t thread;
    server_start(&server, &thread);
    struct trilith_client *client = trilith_client_create(server.endpoint, 3000);
    struct trilith_answer answer;
    cr_assert_eq(trilith_put(client, "k", 1, "v", 1, NULL, &answer), TRILITH_OK);
    server_stop(&server, thread);
    cr_assert_eq(answer.attempts_count, 2);
    cr_assert_eq(answer.revision, 7);
    cr_assert_str_eq((const char *)answer.body, "ok");

    char keys[2][64];
    idempotency_key_of(server.requests[0], keys[0]);
    idempotency_key_of(server.requests[1], keys[1]);
    cr_assert_str_eq(keys[0], keys[1]);

    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
}

/* A lost write, and then nobody who says what became of it; a lost read has done nothing. */
Test(client, lost_write_is_unknown_and_lost_read_unavailable, .timeout = 10)
{
    for (int i = 0; i < 2; i++) {
        struct server server = {.answers = {NULL}, .answers_count = 1};
        pthread_t thread;
        server_start(&server, &thread);
        struct trilith_client *client = trilith_client_create(server.endpoint, 500);
        struct trilith_answer answer;
        if (i == 0) {
            cr_assert_eq(trilith_put(client, "k", 1, "v", 1, NULL, &answer), TRILITH_UNKNOWN);
        } else {
            cr_assert_eq(trilith_get(client, "k", 1, NULL, &answer), TRILITH_UNAVAILABLE);
        }
        trilith_answer_clear(&answer);
        trilith_client_destroy(client);
        server_stop(&server, thread);
    }
}

Test(client, node_that_accepts_and_says_nothing_is_left_for_the_next, .timeout = 10)
{
    static struct server silent;
    static struct server server = {.answers = {ok_answer}, .answers_count = 1};
    pthread_t threads[2];
    server_start(&silent, &threads[0]);
    server_start(&server, &threads[1]);
    char endpoints[160];
    snprintf(endpoints, sizeof endpoints, "%s,%s", silent.endpoint, server.endpoint);
    struct trilith_client *client = trilith_client_create(endpoints, 5000);
    struct trilith_answer answer;
    cr_assert_eq(trilith_get(client, "k", 1, NULL, &answer), TRILITH_OK);
    cr_assert_eq(answer.attempts_count, 2);
    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
    server_stop(&silent, threads[0]);
    server_stop(&server, threads[1]);
}

/* Asks a node that takes two seconds; the share of each is one. Returns how many were asked. */
static uint32_t ask_slow_node(bool count_only, uint32_t silence_s)
{
    struct server slow = {.answers = {ok_answer}, .answers_count = 1, .delay_s = 2};
    struct server other = {.answers_count = 0};
    pthread_t threads[2];
    server_start(&slow, &threads[0]);
    server_start(&other, &threads[1]);
    char endpoints[160];
    snprintf(endpoints, sizeof endpoints, "%s,%s", slow.endpoint, other.endpoint);
    struct trilith_client *client = trilith_client_create(endpoints, 3000);
    trilith_client_set_silence(client, silence_s);
    struct trilith_answer answer;
    const struct trilith_scan_options options = {.count_only = count_only};
    enum trilith_status status = trilith_scan(client, &options, &answer);
    uint32_t attempts_count = answer.attempts_count;
    cr_assert_eq(status == TRILITH_OK, attempts_count == 1);
    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
    server_stop(&slow, threads[0]);
    server_stop(&other, threads[1]);
    return attempts_count;
}

Test(client, node_is_given_the_time_that_a_count_takes, .timeout = 10)
{
    cr_assert_eq(ask_slow_node(true, 0), 1);
}

Test(client, silence_that_was_set_counts_instead_of_a_share, .timeout = 10)
{
    cr_assert_eq(ask_slow_node(false, 3), 1);
}

Test(client, silence_that_was_set_counts_for_a_count_too, .timeout = 10)
{
    cr_assert_gt(ask_slow_node(true, 1), 1);
}

static enum trilith_status status_of_txn(const char *body)
{
    char text[512];
    struct server server = {.answers = {text}, .answers_count = 1};
    snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
             body);
    pthread_t thread;
    server_start(&server, &thread);
    struct trilith_client *client = trilith_client_create(server.endpoint, 3000);
    struct trilith_answer answer;
    enum trilith_status status = trilith_txn(client, "{}", 2, NULL, &answer);
    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
    server_stop(&server, thread);
    return status;
}

Test(client, failed_condition_is_told_whatever_bytes_else_has_read, .timeout = 10)
{
    cr_assert_eq(status_of_txn("{\"succeeded\":true,\"results\":[]}"), TRILITH_OK);
    cr_assert_eq(status_of_txn("{\"succeeded\":false,\"results\":[]}"), TRILITH_CONDITION_FAILED);
    cr_assert_eq(status_of_txn("{\"succeeded\":false,\"results\":[{\"value\":\"a\\u0000b\"}]}"),
                 TRILITH_CONDITION_FAILED);
}

Test(client, refusal_in_plain_text_is_told, .timeout = 10)
{
    static struct server server = {
        .answers = {"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large"},
        .answers_count = 1};
    pthread_t thread;
    server_start(&server, &thread);
    struct trilith_client *client = trilith_client_create(server.endpoint, 3000);
    struct trilith_answer answer;
    cr_assert_eq(trilith_put(client, "k", 1, "v", 1, NULL, &answer), TRILITH_ERROR);
    cr_assert_str_eq(answer.message, "too large, HTTP 413");
    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
    server_stop(&server, thread);
}

Test(client, key_that_would_not_be_sent_is_refused)
{
    struct trilith_client *client = trilith_client_create("127.0.0.1:1", 300);
    const struct trilith_write_options options = {.idempotency_key = ""};
    struct trilith_answer answer;
    cr_assert_eq(trilith_put(client, "k", 1, "v", 1, &options, &answer), TRILITH_USAGE);
    cr_assert_eq(answer.attempts_count, 0);
    trilith_client_destroy(client);
}

Test(client, nobody_there_is_unavailable_within_the_timeout, .timeout = 10)
{
    struct trilith_client *client = trilith_client_create("127.0.0.1:1", 300);
    struct trilith_answer answer;
    cr_assert_eq(trilith_get(client, "k", 1, NULL, &answer), TRILITH_UNAVAILABLE);
    cr_assert_gt(answer.attempts_count, 2);
    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
}

/* ---- names ---- */

static enum trilith_status get_from(const char *name, uint32_t timeout_ms, uint32_t lookup_s,
                                    struct trilith_answer *out_answer)
{
    static struct server server = {.answers = {ok_answer}, .answers_count = 1};
    pthread_t thread;
    server_start(&server, &thread);
    char endpoint[128];
    snprintf(endpoint, sizeof endpoint, "%s%s", name, strrchr(server.endpoint, ':'));
    struct trilith_client *client = trilith_client_create(endpoint, timeout_ms);
    trilith_client_set_lookup(client, lookup_s);
    enum trilith_status status = trilith_get(client, "k", 1, NULL, out_answer);
    trilith_client_destroy(client);
    if (status != TRILITH_OK) { /* the server still waits for a request */
        client = trilith_client_create(server.endpoint, 3000);
        struct trilith_answer answer;
        cr_assert_eq(trilith_get(client, "k", 1, NULL, &answer), TRILITH_OK);
        trilith_answer_clear(&answer);
        trilith_client_destroy(client);
    }
    server_stop(&server, thread);
    return status;
}

Test(client, name_may_take_longer_to_look_up_than_to_connect_to, .timeout = 10)
{
    struct trilith_answer answer;
    names_reset();
    names_set("node.test", "127.0.0.1");
    names_set_delay("node.test", 900);
    cr_assert_eq(get_from("node.test", 5000, 0, &answer), TRILITH_OK, "%s", answer.message);
    cr_assert_eq(names_count("node.test"), 1);
    trilith_answer_clear(&answer);
}

Test(client, look_up_is_part_of_the_time_unless_it_has_a_time_of_its_own, .timeout = 10)
{
    struct trilith_answer answer;
    names_reset();
    names_set("node.test", "127.0.0.1");
    names_set_delay("node.test", 900);
    cr_assert_eq(get_from("node.test", 500, 0, &answer), TRILITH_UNAVAILABLE);
    cr_assert_not_null(strstr(answer.message, "the name is not found"), "%s", answer.message);
    trilith_answer_clear(&answer);
    cr_assert_eq(get_from("node.test", 500, 5, &answer), TRILITH_OK, "%s", answer.message);
    trilith_answer_clear(&answer);
}

Test(client, addresses_of_a_name_are_tried_in_turn, .timeout = 10)
{
    struct trilith_answer answer;
    names_reset();
    names_set("node.test", "127.0.0.9 ::1 127.0.0.1");
    cr_assert_eq(get_from("node.test", 5000, 0, &answer), TRILITH_OK, "%s", answer.message);
    trilith_answer_clear(&answer);
}

Test(client, name_that_does_not_resolve_was_certainly_not_asked, .timeout = 10)
{
    struct trilith_client *client = trilith_client_create("none.test:1", 300);
    struct trilith_answer answer;
    names_reset();
    cr_assert_eq(trilith_put(client, "k", 1, "v", 1, NULL, &answer), TRILITH_UNAVAILABLE);
    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
}

Test(client, endpoint_whose_name_is_slow_is_not_waited_for_when_another_is_known, .timeout = 10)
{
    static struct server server = {.answers = {ok_answer}, .answers_count = 1};
    pthread_t thread;
    names_reset();
    names_set("slow.test", "127.0.0.1");
    names_set_delay("slow.test", 4000);
    server_start(&server, &thread);
    char endpoints[160];
    snprintf(endpoints, sizeof endpoints, "slow.test:1,%s", server.endpoint);
    struct trilith_client *client = trilith_client_create(endpoints, 3000);
    struct trilith_answer answer;
    cr_assert_eq(trilith_get(client, "k", 1, NULL, &answer), TRILITH_OK, "%s", answer.message);
    trilith_answer_clear(&answer);
    trilith_client_destroy(client); /* does not wait for the look-up either */
    server_stop(&server, thread);
}
