/* server.c - libh2o on the caller's loop: listening, accepting, closing.
 *
 * Closing: h2o tells HTTP/2 connections to go away by itself, and HTTP/1 clients with the next
 * answer. They get a moment to ask for it: a request that meets a closing socket leaves its client
 * in doubt. But an idle HTTP/1 connection would stay until its timeout. Shutting its reading side
 * down makes h2o see the client's end of file: an idle connection closes at once, a busy one after
 * its answer. What is left when the limit has passed (a client that does not read its answer) is
 * shut down both ways; a request that still waits for the node keeps its connection until the
 * node's answer, at its deadline at the latest.
 * Connections count themselves; the last one, behind the listener, ends the closing.
 */

#include "http_internal.h"

#include <errno.h>
#include <h2o/http1.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "trilith/log.h"

#define NS_PER_MS 1000000u
#define CLOSE_GRACE_MS 1000u
#define UNREADABLE_ANSWER_BYTES 119u /* of h2o's whole answer to what is no HTTP/1 request */
#define CLOSE_LIMIT_MS 3000u         /* below what the program gives the front end at SIGTERM */
#define EXIT_STORAGE_FAILED 4

static void check(const struct http_server *server)
{
    TL_ASSERT(server->magic == HTTP_SERVER_MAGIC);
    TL_ASSERT((server->connections == NULL) == (server->connections_count == 0));
    if (server->state == SERVER_OPEN) TL_ASSERT(server->listeners_count > 0);
    if (server->state == SERVER_CLOSED) TL_ASSERT(server->connections_count == 0);
    if (server->state == SERVER_CLOSED) TL_ASSERT(server->exchanges_waiting_count == 0);
}

uint64_t http_now_ns(void)
{
    struct timespec now;
    int err = clock_gettime(CLOCK_BOOTTIME, &now);
    TL_ASSERT(err == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void http_storage_failed(const struct tl_fault *fault)
{
    log_fault("storage_failed", fault);
    _Exit(EXIT_STORAGE_FAILED);
}

struct view_reader *http_server_reader(struct http_server *server)
{
    if (server->reader != NULL) return server->reader;
    struct views *views = node_views(server->node, NODE_DATA_GROUP);
    if (views == NULL) return NULL;
    if (view_reader_create(views, &server->reader) != TL_OK) {
        server->reader = NULL; /* the reader slots are taken: told as starting, tried again */
    }
    return server->reader;
}

/* ---- connections ---- */

static void maybe_closed(struct http_server *server);

static void on_connection_closed(uv_handle_t *handle)
{
    struct connection *connection =
        TL_CONTAINER_OF(handle, struct connection, tcp); /* handle->data is h2o's */
    TL_ASSERT(connection->magic == CONNECTION_MAGIC);
    struct http_server *server = connection->server;
    if (connection->next != NULL) connection->next->previous = connection->previous;
    if (connection->previous != NULL) {
        connection->previous->next = connection->next;
    } else {
        server->connections = connection->next;
    }
    server->connections_count--;
    connection->magic = 0;
    free(connection);
    maybe_closed(server);
}

/* h2o neither counts nor logs what its HTTP/1 parser refuses: the request never came to be. What it
 * sends then is told apart by its length, behind the last answer to a request. */
static void on_socket_closed(void *memory)
{
    struct connection *connection = TL_CAST(connection, memory, CONNECTION_MAGIC);
    size_t sent_bytes = TL_TAKE(&connection->socket)->bytes_written;
    struct http_counters *counters = &connection->server->counters;
    if (sent_bytes - connection->answered_bytes == UNREADABLE_ANSWER_BYTES) {
        counters->unreadable_count++;
    }
    if (!connection->has_had_request) counters->requestless_count++;
}

/* A request's answer has been sent. */
static void on_request_over(h2o_logger_t *logger, h2o_req_t *req)
{
    (void)logger;
    h2o_socket_t *socket = req->conn->callbacks->get_socket(req->conn);
    struct connection *connection = TL_CAST(connection, socket->on_close.data, CONNECTION_MAGIC);
    connection->answered_bytes = socket->bytes_written;
    connection->has_had_request = true;
}

/* A client that does not take its answer would keep it in memory for ever. */
static void set_user_timeout(const uv_tcp_t *tcp)
{
    uv_os_fd_t fd;
    unsigned timeout_ms = HTTP_IDLE_TIMEOUT_MS;
    if (uv_fileno((const uv_handle_t *)tcp, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    }
}

static struct connection *connection_create(struct http_server *server)
{
    struct connection *connection = calloc(1, sizeof *connection);
    TL_ASSERT(connection != NULL);
    connection->magic = CONNECTION_MAGIC;
    connection->server = server;
    int err = uv_tcp_init(server->loop, &connection->tcp);
    TL_ASSERT(err == 0);
    connection->next = server->connections;
    if (connection->next != NULL) connection->next->previous = connection;
    server->connections = connection;
    server->connections_count++;
    return connection;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct http_server *server = TL_CAST(http_server, listener->data, HTTP_SERVER_MAGIC);
    check(server);
    if (status != 0) {
        server->counters.accept_failures_count++;
        return;
    }
    struct connection *connection = connection_create(server);
    uv_stream_t *stream = (uv_stream_t *)&connection->tcp;
    if (uv_accept(listener, stream) != 0) {
        server->counters.accept_failures_count++;
        uv_close((uv_handle_t *)stream, on_connection_closed);
        return;
    }
    server->counters.connections_accepted_count++;
    if (server->connections_count > server->options.connections_max) {
        server->counters.connections_refused_count++;
        uv_close((uv_handle_t *)stream, on_connection_closed);
        return;
    }
    (void)uv_tcp_nodelay(&connection->tcp, 1); /* a hint: an answer is one write anyway */
    (void)uv_tcp_keepalive(&connection->tcp, 1, HTTP_TCP_KEEPALIVE_S); /* likewise */
    set_user_timeout(&connection->tcp);
    connection->socket = h2o_uv_socket_create(stream, on_connection_closed);
    connection->socket->on_close.cb = on_socket_closed;
    connection->socket->on_close.data = connection;
    h2o_accept(&server->accept, connection->socket);
}

/* ---- open ---- */

static void configure(struct http_server *server)
{
    h2o_globalconf_t *config = &server->config;
    h2o_config_init(config);
    config->server_name = h2o_iovec_init(H2O_STRLIT("trilith"));
    config->max_request_entity_size =
        TL_MAX((size_t)server->options.value_bytes_max * 2, (size_t)TXN_BYTES_MAX) +
        HTTP_BODY_OVERHEAD_BYTES;
    config->http1.req_timeout = HTTP_IDLE_TIMEOUT_MS;
    config->http2.idle_timeout = HTTP_IDLE_TIMEOUT_MS;
    config->http2.graceful_shutdown_timeout = CLOSE_LIMIT_MS; /* behind the second GOAWAY */
    h2o_hostconf_t *host =
        h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    TL_ASSERT(host != NULL);
    /* The fallback takes every path, also those that h2o's matching would not give to "/". */
    struct router_handler *router =
        (struct router_handler *)h2o_create_handler(&host->fallback_path, sizeof *router);
    router->super.on_req = router_on_request;
    router->server = server;
    h2o_create_logger(&host->fallback_path, sizeof(h2o_logger_t))->log_access = on_request_over;
    h2o_context_init(&server->context, server->loop, config);
    server->accept.ctx = &server->context;
    server->accept.hosts = config->hosts;
}

/* A port of 0 is the kernel's to choose. */
static uint16_t bound_port(const uv_tcp_t *listener)
{
    struct sockaddr_storage address;
    int address_bytes = (int)sizeof address;
    if (uv_tcp_getsockname(listener, (struct sockaddr *)&address, &address_bytes) != 0) return 0;
    return address.ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)&address)->sin6_port)
                                         : ntohs(((const struct sockaddr_in *)&address)->sin_port);
}

/* The socket is libuv's from here on, unless it is not taken. */
static int listen_on(struct http_server *server, int *socket)
{
    uv_tcp_t *listener = &server->listeners[server->listeners_count++];
    int err = uv_tcp_init(server->loop, listener);
    TL_ASSERT(err == 0); /* opens nothing yet */
    listener->data = server;
    err = uv_tcp_open(listener, *socket);
    if (err != 0) return err;
    *socket = -1;
    return uv_listen((uv_stream_t *)listener, HTTP_LISTEN_BACKLOG, on_connection);
}

static enum tl_err listen_at(struct http_server *server, struct tl_fault *out_fault)
{
    const struct http_server_options *options = &server->options;
    struct listen_sockets sockets;
    enum tl_err result = listen_sockets_open(options->listen_host, options->listen_port, &sockets,
                                             out_fault);
    if (result != TL_OK) return result == TL_ERR_NOT_FOUND ? TL_ERR_INVALID : result;
    int err = 0;
    for (uint32_t i = 0; i < sockets.count && err == 0; i++) {
        err = listen_on(server, &sockets.fds[i]);
    }
    if (err != 0) {
        listen_sockets_close(&sockets);
        tl_fault_set(out_fault, "", UINT32_MAX, 0, "cannot listen: %s", uv_strerror(err));
        return TL_ERR_IO;
    }
    server->port = bound_port(&server->listeners[0]);
    return TL_OK;
}

static void close_listeners(struct http_server *server, uv_close_cb on_closed)
{
    for (uint32_t i = 0; i < server->listeners_count; i++) {
        uv_close((uv_handle_t *)&server->listeners[i], on_closed);
    }
}

static void on_failed_listener_closed(uv_handle_t *handle)
{
    struct http_server *server = TL_CAST(http_server, handle->data, HTTP_SERVER_MAGIC);
    server->listeners_count--;
    if (server->listeners_count == 0) free(server);
}

enum tl_err http_server_open(const struct http_server_options *options, struct uv_loop_s *loop,
                             struct pump *pump, struct http_server **out_server,
                             struct tl_fault *out_fault)
{
    TL_ASSERT(options->request_timeout_ns > 0);
    TL_ASSERT(options->value_bytes_max > 0);
    TL_ASSERT(options->value_bytes_max <= VALUE_BYTES_MAX);
    TL_ASSERT(options->connections_max > 0);
    struct http_server *server = calloc(1, sizeof *server);
    TL_ASSERT(server != NULL);
    server->magic = HTTP_SERVER_MAGIC;
    server->options = *options;
    server->loop = loop;
    server->pump = pump;
    server->node = pump_node(pump);
    server->opened_ns = http_now_ns();
    enum tl_err result = listen_at(server, out_fault);
    if (result != TL_OK) {
        close_listeners(server, on_failed_listener_closed);
        if (server->listeners_count == 0) free(server);
        return result;
    }
    configure(server);
    int err = uv_timer_init(loop, &server->close_timer);
    TL_ASSERT(err == 0);
    server->close_timer.data = server;
    err = uv_idle_init(loop, &server->busy);
    TL_ASSERT(err == 0);
    server->busy.data = server;
    err = uv_prepare_init(loop, &server->turn_watch);
    TL_ASSERT(err == 0);
    server->turn_watch.data = server;
    err = uv_prepare_start(&server->turn_watch, exchange_on_turn);
    TL_ASSERT(err == 0);
    check(server);
    *out_server = server;
    return TL_OK;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

/* ---- close ---- */

static void shut_down(const uv_tcp_t *tcp, int how)
{
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)tcp, &fd) == 0) {
        (void)shutdown(fd, how); /* ENOTCONN: the client was faster */
    }
}

static int stop_reading(h2o_req_t *req, void *context)
{
    (void)context;
    int fd = h2o_socket_get_fd(req->conn->callbacks->get_socket(req->conn));
    if (fd >= 0) (void)shutdown(fd, SHUT_RD); /* ENOTCONN: the client was faster */
    return 0;
}

static void on_close_timer(uv_timer_t *timer)
{
    struct http_server *server = TL_CAST(http_server, timer->data, HTTP_SERVER_MAGIC);
    for (struct connection *each = server->connections; each != NULL; each = each->next) {
        shut_down(&each->tcp, SHUT_RDWR);
    }
}

static void on_farewell_over(uv_timer_t *timer)
{
    struct http_server *server = TL_CAST(http_server, timer->data, HTTP_SERVER_MAGIC);
    (void)H2O_HTTP1_CALLBACKS.foreach_request(&server->context, stop_reading, NULL); /* always 0 */
    uint64_t limit_ms = server->options.request_timeout_ns / NS_PER_MS + CLOSE_GRACE_MS;
    limit_ms = TL_MIN(limit_ms, CLOSE_LIMIT_MS) - HTTP_FAREWELL_MS;
    int err = uv_timer_start(timer, on_close_timer, limit_ms, CLOSE_GRACE_MS);
    TL_ASSERT(err == 0);
}

static void on_turn_watch_closed(uv_handle_t *handle)
{
    struct http_server *server = TL_CAST(http_server, handle->data, HTTP_SERVER_MAGIC);
    TL_ASSERT(server->paused_oldest == NULL);
    server->state = SERVER_CLOSED;
    view_reader_destroy(TL_TAKE(&server->reader));
    check(server);
    server->on_closed(server->on_closed_context);
}

static void on_busy_closed(uv_handle_t *handle)
{
    struct http_server *server = TL_CAST(http_server, handle->data, HTTP_SERVER_MAGIC);
    uv_close((uv_handle_t *)&server->turn_watch, on_turn_watch_closed);
}

static void on_close_timer_closed(uv_handle_t *handle)
{
    struct http_server *server = TL_CAST(http_server, handle->data, HTTP_SERVER_MAGIC);
    uv_close((uv_handle_t *)&server->busy, on_busy_closed);
}

static void maybe_closed(struct http_server *server)
{
    check(server);
    if (server->state != SERVER_CLOSING) return;
    if (server->listeners_count > 0 || server->connections_count > 0) return;
    if (uv_is_closing((const uv_handle_t *)&server->close_timer)) return;
    uv_close((uv_handle_t *)&server->close_timer, on_close_timer_closed);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct http_server *server = TL_CAST(http_server, handle->data, HTTP_SERVER_MAGIC);
    server->listeners_count--;
    maybe_closed(server);
}

void http_server_close(struct http_server *server, void (*on_closed)(void *context), void *context)
{
    check(server);
    TL_ASSERT(server->state == SERVER_OPEN);
    server->state = SERVER_CLOSING;
    server->on_closed = on_closed;
    server->on_closed_context = context;
    close_listeners(server, on_listener_closed);
    h2o_context_request_shutdown(&server->context);
    int err = uv_timer_start(&server->close_timer, on_farewell_over, HTTP_FAREWELL_MS, 0);
    TL_ASSERT(err == 0);
}

void http_server_destroy(struct http_server *server)
{
    if (server == NULL) return;
    check(server);
    TL_ASSERT(server->state == SERVER_CLOSED);
    /* h2o's second GOAWAY may still be due; with no connection left it has nobody to tell. */
    h2o_timeout_unlink(&server->context.http2._graceful_shutdown_timeout);
    h2o_context_dispose(&server->context);
    h2o_config_dispose(&server->config);
    server->magic = 0;
    free(server);
}
