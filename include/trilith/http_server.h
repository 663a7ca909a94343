/* http_server.h - the HTTP front end: libh2o on the node's uv loop.
 *
 * Role:       Listens, routes, and serves the API families (docs/api.md). One file per family in
 *             src/http. Talks to the node by node_write, node_read and views.
 * Thread:     the loop thread. The program ignores SIGPIPE.
 * Errors:     http_server_open(): TL_ERR_IN_USE (address), TL_ERR_INVALID (address does not parse
 *             or resolve), TL_ERR_IO. A read that meets damaged storage prints it and ends the
 *             process with exit code 4: nothing wrong is given out.
 */

#ifndef TL_HTTP_SERVER_H
#define TL_HTTP_SERVER_H

#include "trilith/pump.h"

struct http_server;

#define HTTP_FAREWELL_MS 200u

struct http_server_options {
    const char *listen_host;      /* name or literal; NULL: every address; until open returns */
    uint16_t listen_port;         /* 0: any free one */
    const char *address;          /* this node's, for Trilith-Node; borrowed for ever */
    uint64_t request_timeout_ns;  /* --request-timeout, 5 s */
    uint32_t value_bytes_max;     /* --max-value-size, 1 MiB */
    uint32_t idempotency_records; /* --idempotency-records, 262,144 */
    uint32_t connections_max;     /* more are closed at once; leaves descriptors for the rest */
};

/* Opens after pump_open(). On an error the loop still has to run once to free what was begun. */
TL_MUST_CHECK enum tl_err http_server_open(const struct http_server_options *options,
                                           struct uv_loop_s *loop, struct pump *pump,
                                           struct http_server **out_server,
                                           struct tl_fault *out_fault);

/* The port it listens at. */
uint16_t http_server_port(const struct http_server *server);

/* Stops accepting; answers what is under way, and for HTTP_FAREWELL_MS what still comes, each with
 * `Connection: close`; closes idle connections; then on_closed. Clients
 * that do not read their answer are cut off after 3 s; a request that waits for the node is
 * answered at its deadline. Called once, while the node still turns (before or during
 * pump_stop(), not after its on_stopped). The server no longer reads views from on_closed on. */
void http_server_close(struct http_server *server, void (*on_closed)(void *context), void *context);
/* After on_closed, before pump_destroy(), outside uv_run(): h2o turns the loop once to end its
 * handles. They keep uv_run() from returning by itself: use uv_stop(). Accepts NULL.
 *
 * Without on_closed (a program that waits no longer) neither this nor pump_destroy() is called: a
 * reader of the views is still there, and the process ends anyway. */
void http_server_destroy(struct http_server *server);

#endif
