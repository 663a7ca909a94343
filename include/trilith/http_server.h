/* http_server.h - the HTTP front end: libh2o on the node's uv loop.
 *
 * Role:       Listens, routes, and serves the API families (API.md of the project: docs/api.md).
 *             One file per family in src/http. Talks to the node by node_write, node_read and
 *             views.
 * Thread:     the loop thread.
 * Errors:     http_server_open(): TL_ERR_IN_USE (address), TL_ERR_INVALID (address does not parse),
 *             TL_ERR_IO.
 */

#ifndef TL_HTTP_SERVER_H
#define TL_HTTP_SERVER_H

#include "trilith/pump.h"

struct http_server;

struct http_server_options {
    const char *listen_host;
    uint16_t listen_port;
    const char *address;          /* this node's, for Trilith-Node; borrowed for ever */
    uint64_t request_timeout_ns;  /* --request-timeout, 5 s */
    uint32_t value_bytes_max;     /* --max-value-size, 1 MiB */
    uint32_t idempotency_records; /* --idempotency-records, 262,144 */
};

TL_MUST_CHECK enum tl_err http_server_open(const struct http_server_options *options,
                                           struct uv_loop_s *loop, struct pump *pump,
                                           struct http_server **out_server,
                                           struct tl_fault *out_fault);

/* Stops accepting; answers what is under way; closes idle connections; then on_closed. */
void http_server_close(struct http_server *server, void (*on_closed)(void *context), void *context);
/* After on_closed. Accepts NULL. */
void http_server_destroy(struct http_server *server);

#endif
