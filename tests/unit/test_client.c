/* client: paths, verdicts, and retries against small servers made here. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client_internal.h"

Test(client, path_escapes_every_byte_that_is_not_plain)
{
    char *path = client_kv_path("a b/%\xff", 6, "?op=append");
    cr_assert_str_eq(path, "/v1/kv/a%20b/%25%FF?op=append");
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
}

Test(client, endpoints_without_a_port_are_refused)
{
    cr_assert_null(trilith_client_create("localhost", 100));
    cr_assert_null(trilith_client_create("", 100));
}

/* A server that closes its first connection after the request (the answer is lost) and answers the
 * second; it remembers both requests. */
struct server {
    int listener;
    uint16_t port;
    char requests[2][4096];
};

static void *serve(void *context)
{
    struct server *server = context;
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"7\"\r\n\r\nok";
    for (int i = 0; i < 2; i++) {
        int connection = accept(server->listener, NULL, NULL);
        ssize_t count = read(connection, server->requests[i], sizeof server->requests[i] - 1);
        cr_assert_gt(count, 0);
        if (i == 1) {
            cr_assert_eq(write(connection, answer, sizeof answer - 1), (ssize_t)sizeof answer - 1);
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
    server->port = ntohs(address.sin_port);
    cr_assert_eq(pthread_create(out_thread, NULL, serve, server), 0);
}

static void idempotency_key_of(const char *request, char out_key[64])
{
    const char *header = strstr(request, "Idempotency-Key: ");
    cr_assert_not_null(header, "request without a key: %s", request);
    cr_assert_eq(sscanf(header, "Idempotency-Key: %63s", out_key), 1);
}

Test(client, lost_answer_is_asked_for_again_under_the_same_key, .timeout = 10)
{
    static struct server server;
    pthread_t thread;
    server_start(&server, &thread);
    char endpoints[64];
    snprintf(endpoints, sizeof endpoints, "127.0.0.1:%u", server.port);

    struct trilith_client *client = trilith_client_create(endpoints, 3000);
    struct trilith_answer answer;
    cr_assert_eq(trilith_put(client, "k", 1, "v", 1, NULL, &answer), TRILITH_OK);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(answer.attempts_count, 2);
    cr_assert_eq(answer.revision, 7);
    cr_assert_str_eq((const char *)answer.body, "ok");

    char keys[2][64];
    idempotency_key_of(server.requests[0], keys[0]);
    idempotency_key_of(server.requests[1], keys[1]);
    cr_assert_str_eq(keys[0], keys[1]);

    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
    close(server.listener);
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
