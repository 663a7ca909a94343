/* http_client.c - see http_client.h. */

#include "http_client.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define WAIT_MS 3000u
#define CLOSE_WAIT_MS 6000u /* the request timeout, a second, and a slow machine */

struct http_server *server;
static uv_loop_t loop;
static bool is_closed;

void server_begin(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    fake_reset();
    cr_assert_eq(uv_loop_init(&loop), 0);
    const struct http_server_options options = {
        .listen_host = "127.0.0.1",
        .address = FAKE_ADDRESS,
        .request_timeout_ns = TEST_TIMEOUT_NS,
        .value_bytes_max = TEST_VALUE_BYTES_MAX,
        .idempotency_records = 1000,
        .connections_max = TEST_CONNECTIONS_MAX,
    };
    struct tl_fault fault;
    enum tl_err err = http_server_open(&options, &loop, fake_pump(), &server, &fault);
    cr_assert_eq(err, TL_OK, "%s", err != TL_OK ? fault.reason : "");
}

void server_turn(void)
{
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    fake_turn();
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

void server_set_closed(void)
{
    is_closed = true;
}

struct uv_loop_s *server_loop(void)
{
    return &loop;
}

bool server_close(void)
{
    is_closed = false;
    http_server_close(server, on_closed, &is_closed);
    for (uint32_t i = 0; i < CLOSE_WAIT_MS && !is_closed; i++) {
        server_turn();
        if (!is_closed) (void)usleep(1000);
    }
    return is_closed;
}

void server_end(void)
{
    if (!is_closed) cr_assert(server_close(), "the server did not close");
    http_server_destroy(server);
    cr_assert_eq(fake.readers_count, 0, "a view reader was left");
    fake_clear();
    cr_assert_eq(uv_loop_close(&loop), 0, "a handle was left on the loop");
}

int client_connect(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_geq(fd, 0);
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(http_server_port(server)),
        .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
    };
    cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void client_send(int fd, const void *data, size_t count)
{
    const char *at = data;
    for (uint32_t i = 0; count > 0 && i < WAIT_MS; i++) {
        ssize_t sent = send(fd, at, count, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return; /* the server has refused the rest */
        if (sent > 0) {
            at += sent;
            count -= (size_t)sent;
        }
        server_turn();
    }
}

/* Receives until `count` bytes are there. Returns what is there. */
static size_t receive_until(int fd, char *data, size_t have, size_t count)
{
    for (uint32_t i = 0; have < count && i < WAIT_MS; i++) {
        server_turn();
        ssize_t got = recv(fd, data + have, count - have, MSG_DONTWAIT);
        if (got == 0) return have;
        if (got > 0) {
            have += (size_t)got;
        } else {
            (void)usleep(1000);
        }
    }
    return have;
}

size_t client_receive_bytes(int fd, void *data, size_t count)
{
    return receive_until(fd, data, 0, count);
}

bool client_finds(int fd, const char *bytes)
{
    char window[64] = {0};
    size_t count = strlen(bytes);
    cr_assert_leq(count, sizeof window);
    while (memcmp(window, bytes, count) != 0) {
        memmove(window, window + 1, count - 1);
        if (receive_until(fd, window, count - 1, count) < count) return false;
    }
    return true;
}

bool client_sees_end(int fd)
{
    char byte;
    for (uint32_t i = 0; i < 1000; i++) {
        server_turn();
        ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) return true;
        cr_assert_lt(got, 0, "more bytes where the end was expected");
        (void)usleep(1000);
    }
    return false;
}

struct answer *client_receive(int fd, bool has_body)
{
    static struct answer answer;
    answer = (struct answer){.status = 0};
    size_t have = 0;
    char *end = NULL;
    while (end == NULL) {
        size_t more = receive_until(fd, answer.text, have, have + 1);
        cr_assert_gt(more, have, "no answer, after %zu bytes: %s", have, answer.text);
        have = more;
        answer.text[have] = '\0';
        end = strstr(answer.text, "\r\n\r\n");
    }
    answer.head_bytes = have;
    answer.text[have - 2] = '\0'; /* the blank line ends the head */
    cr_assert_eq(sscanf(answer.text, "HTTP/1.1 %d", &answer.status), 1, "%s", answer.text);
    const char *length = header(&answer, "content-length");
    if (length == NULL || !has_body) return &answer;
    answer.body_bytes = strtoul(length, NULL, 10);
    cr_assert_lt(have + answer.body_bytes, sizeof answer.text);
    cr_assert_eq(receive_until(fd, answer.text, have, have + answer.body_bytes),
                 have + answer.body_bytes, "the body is short");
    answer.text[have + answer.body_bytes] = '\0';
    return &answer;
}

struct answer *request(const char *method, const char *target, const char *headers,
                       const char *body)
{
    char head[8192];
    char length[64] = "";
    if (body != NULL) {
        (void)snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(body));
    }
    int count = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: test\r\n%s%s\r\n", method,
                         target, headers, length);
    cr_assert(count > 0 && (size_t)count < sizeof head);
    int fd = client_connect();
    client_send(fd, head, (size_t)count);
    if (body != NULL) client_send(fd, body, strlen(body));
    struct answer *answer = client_receive(fd, strcmp(method, "HEAD") != 0);
    (void)close(fd);
    return answer;
}

const char *header(const struct answer *answer, const char *name)
{
    static char value[512];
    size_t name_count = strlen(name);
    const char *line = strstr(answer->text, "\r\n");
    for (; line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, name_count) != 0 || line[name_count] != ':') continue;
        const char *begin = line + name_count + 2;
        (void)snprintf(value, sizeof value, "%.*s", (int)strcspn(begin, "\r"), begin);
        return value;
    }
    return NULL;
}

const char *body_of(const struct answer *answer)
{
    return answer->text + answer->head_bytes;
}
