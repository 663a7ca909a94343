/* http_client.h - a client in the server's own thread: sends raw bytes, turns the loop and the fake
 * node until the answer is there.
 *
 * Role:       Says exactly what goes over the wire, and sees exactly what comes back.
 * Thread:     the test's.
 */

#ifndef TL_TEST_HTTP_CLIENT_H
#define TL_TEST_HTTP_CLIENT_H

#include "fake_node.h"
#include "trilith/http_server.h"

#define ANSWER_BYTES_MAX (256u * 1024u)
#define TEST_VALUE_BYTES_MAX 4096u
#define TEST_CONNECTIONS_MAX 16u
#define TEST_TIMEOUT_NS 500000000ull

struct answer {
    int status;
    size_t head_bytes;
    size_t body_bytes;
    char text[ANSWER_BYTES_MAX]; /* head and body, each with a NUL behind */
};

extern struct http_server *server;

/* Fixtures: a server over the fake node, on a port of its own. */
void server_begin(void);
void server_end(void);
/* Turns loop and node a little. */
void server_turn(void);
/* http_server_close(), turned until closed. False: not within six seconds. */
bool server_close(void);
/* For a test that closes by itself: server_end() need not. */
void server_set_closed(void);
struct uv_loop_s *server_loop(void);

int client_connect(void);
void client_send(int fd, const void *data, size_t count);
/* The next answer; static, until the next call. Fails the test after three seconds. */
struct answer *client_receive(int fd, bool has_body);
/* Turns until `count` bytes are there, for three seconds at most; returns how many are. */
size_t client_receive_bytes(int fd, void *data, size_t count);
/* Whether the server has closed the connection, within a second. */
bool client_sees_end(int fd);
/* Whether these bytes come, among others, within three seconds. */
bool client_finds(int fd, const char *bytes);

/* One request on a connection of its own. headers: lines with \r\n, or "". body may be NULL. */
struct answer *request(const char *method, const char *target, const char *headers,
                       const char *body);

/* The header's value in a static buffer; NULL when it is not there. */
const char *header(const struct answer *answer, const char *name);
const char *body_of(const struct answer *answer);

#endif
