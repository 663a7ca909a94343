/* transport.c - who the peers are, listening, sending.
 *
 * The node only leaves word here (set_peers, ask, send); transport_work() acts on it after the
 * turn, when calling back into the node is allowed again. Frames of one turn to one peer leave in
 * one system call that way.
 */

#include "net_internal.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REFUSAL_LOG_INTERVAL_NS 1000000000ull
#define LISTEN_BACKLOG 128

/* IPv4 first where a name has both: the side that connects chooses the same way. */
const struct addrinfo *addrinfo_choose(const struct addrinfo *list)
{
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next) {
        if (at->ai_family == AF_INET) {
            return at;
        }
    }
    return list;
}

static int bind_to(const struct addrinfo *where)
{
    int fd = socket(where->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    int on = 1; /* or a restarted node waits for old connections to leave TIME_WAIT */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, where->ai_addr, where->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int saved = errno;
        (void)close(fd); /* nothing was written */
        errno = saved;
        return -1;
    }
    return fd;
}

enum tl_err transport_bind(const char *host, uint16_t port, int *out_socket,
                           struct tl_fault *out_fault)
{
    char port_text[8];
    (void)text_format(port_text, sizeof port_text, "%u", (unsigned)port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, port_text, &hints, &list);
    if (rc != 0) {
        tl_fault_set(out_fault, host, UINT32_MAX, 0, "cannot listen for peers on %s port %s: %s",
                     host, port_text, gai_strerror(rc));
        return TL_ERR_NOT_FOUND;
    }
    int fd = bind_to(addrinfo_choose(list));
    int reason = errno;
    freeaddrinfo(list);
    if (fd < 0) {
        tl_fault_set(out_fault, host, UINT32_MAX, 0, "cannot listen for peers on %s port %s: %s",
                     host, port_text, strerror(reason));
        return TL_ERR_NOT_FOUND;
    }
    *out_socket = fd;
    return TL_OK;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct pump *pump = TL_CAST(pump, listener->data, PUMP_MAGIC);
    if (status == 0) { /* otherwise the stranger went away again, or descriptors ran out */
        connection_accept(&pump->transport, listener);
    }
}

enum tl_err transport_start(struct transport *transport, int socket)
{
    struct node_status status;
    node_get_status(transport->node, &status);
    transport->self = status.store_id;
    int rc = uv_tcp_init(transport->loop, &transport->listener);
    TL_ASSERT(rc == 0); /* opens nothing yet */
    pump_hold_handle(transport->pump, (uv_handle_t *)&transport->listener);
    rc = uv_tcp_open(&transport->listener, socket);
    if (rc != 0) {
        return TL_ERR_IO;
    }
    rc = uv_listen((uv_stream_t *)&transport->listener, LISTEN_BACKLOG, on_connection);
    return rc == 0 ? TL_OK : TL_ERR_IO;
}

void transport_close(struct transport *transport)
{
    transport->is_closing = true;
    pump_close_handle(transport->pump, (uv_handle_t *)&transport->listener);
    for (uint32_t i = 0; i < transport->peers_count; i++) {
        peer_destroy(TL_TAKE(&transport->peers[i]));
    }
    transport->peers_count = 0;
    while (transport->connections != NULL) {
        connection_close(transport->connections);
    }
    TL_ASSERT(transport->dirty == NULL);
    TL_ASSERT(transport->strangers_count == 0);
}

struct peer *transport_find(struct transport *transport, raft_id id)
{
    for (uint32_t i = 0; i < transport->peers_count; i++) {
        if (transport->peers[i]->id == id) {
            return transport->peers[i];
        }
    }
    return NULL;
}

void transport_mark_dirty(struct transport *transport, struct connection *connection)
{
    if (!connection->is_dirty) {
        connection->is_dirty = true;
        connection->next_dirty = transport->dirty;
        transport->dirty = connection;
    }
}

void transport_forget(struct transport *transport, struct connection *connection)
{
    if (connection->previous != NULL) {
        connection->previous->next = connection->next;
    } else {
        transport->connections = connection->next;
    }
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    if (connection->is_dirty) {
        struct connection **at = &transport->dirty;
        while (*at != connection) at = &(*at)->next_dirty;
        *at = connection->next_dirty;
        connection->is_dirty = false;
    }
}

/* A port scanner or a misconfigured node must not fill the disk with log lines. */
void transport_log_refusal(struct transport *transport, const char *address, const char *reason)
{
    uint64_t now_ns = clock_boottime_ns();
    if (transport->refusal_logged_ns != 0 &&
        now_ns - transport->refusal_logged_ns < REFUSAL_LOG_INTERVAL_NS) {
        transport->refusals_unlogged_count++;
        return;
    }
    log_event(LOG_LEVEL_WARN, "peer_connection_refused", "from=%s reason=%s not_logged=%llu",
              address, reason, (unsigned long long)transport->refusals_unlogged_count);
    transport->refusal_logged_ns = now_ns;
    transport->refusals_unlogged_count = 0;
}

static struct connection *find_connection(struct transport *transport, raft_id id,
                                          enum peer_class class)
{
    TL_ASSERT((uint32_t) class < PEER_CLASSES_COUNT);
    struct peer *peer = transport_find(transport, id);
    return peer == NULL ? NULL : peer->links[class].connection;
}

size_t transport_backlog(struct transport *transport, raft_id id)
{
    const struct connection *connection = find_connection(transport, id, PEER_CLASS_RAFT);
    return connection == NULL ? 0 : connection_backlog(connection);
}

bool transport_send(struct transport *transport, raft_id id, enum peer_class class,
                    enum connection_lane lane, struct buf *frame)
{
    struct connection *connection = find_connection(transport, id, class);
    if (connection == NULL) {
        buf_release(frame);
        transport->pump->metrics.frames_dropped_count++;
        return false;
    }
    return connection_queue(connection, lane, frame);
}

void transport_set_peers(struct transport *transport, const struct store_id *cluster_id,
                         const struct member *members, uint32_t members_count)
{
    TL_ASSERT(members_count <= RAFT_MEMBERS_MAX);
    transport->cluster_id = *cluster_id;
    transport->members_count = members_count;
    memcpy(transport->members, members, members_count * sizeof members[0]);
    transport->is_members_changed = true;
}

void transport_ask(struct transport *transport, const char *peer_address, struct buf *frame)
{
    struct connection *ask = connection_create(transport, CONNECTION_ASK, peer_address);
    ask->greeting = frame;
    ask->next_dirty = transport->asks;
    transport->asks = ask;
}

static const struct member *members_find(const struct transport *transport,
                                         const struct member *wanted)
{
    for (uint32_t i = 0; i < transport->members_count; i++) {
        const struct member *member = &transport->members[i];
        if (store_id_equal(&member->store_id, &wanted->store_id) &&
            strcmp(member->peer_address, wanted->peer_address) == 0) {
            return member;
        }
    }
    return NULL;
}

/* Removed peers leave the list before they are destroyed: that tells the node, which may send. */
static void peers_remove_old(struct transport *transport)
{
    struct peer *removed[RAFT_MEMBERS_MAX];
    uint32_t removed_count = 0;
    uint32_t kept_count = 0;
    for (uint32_t i = 0; i < transport->peers_count; i++) {
        struct peer *peer = TL_TAKE(&transport->peers[i]);
        if (members_find(transport, &peer->member) != NULL) {
            transport->peers[kept_count++] = peer;
        } else {
            removed[removed_count++] = peer;
        }
    }
    transport->peers_count = kept_count;
    for (uint32_t i = 0; i < removed_count; i++) {
        peer_destroy(removed[i]);
    }
}

/* A member that moved to another address is another peer. */
static void peers_renew(struct transport *transport)
{
    transport->is_members_changed = false;
    peers_remove_old(transport);
    for (uint32_t i = 0; i < transport->members_count; i++) {
        const struct member *member = &transport->members[i];
        bool is_self = store_id_equal(&member->store_id, &transport->self);
        if (!is_self && transport_find(transport, store_id_raft(&member->store_id)) == NULL) {
            transport->peers[transport->peers_count++] = peer_create(transport, member);
        }
    }
}

void transport_work(struct transport *transport)
{
    if (transport->is_closing) {
        return;
    }
    if (transport->is_members_changed) {
        peers_renew(transport);
    }
    while (transport->asks != NULL) {
        struct connection *ask = transport->asks;
        transport->asks = ask->next_dirty;
        ask->next_dirty = NULL;
        connection_start(ask);
    }
    while (transport->dirty != NULL) {
        struct connection *connection = transport->dirty;
        transport->dirty = connection->next_dirty;
        connection->is_dirty = false;
        connection_flush(connection);
    }
}
