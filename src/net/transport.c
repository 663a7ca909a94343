/* transport.c - who the peers are, listening, sending.
 *
 * The node only leaves word here (set_peers, ask, send); transport_work() acts on it after the
 * turn, when calling back into the node is allowed again. Frames of one turn to one peer leave in
 * one system call that way.
 */

#include "net_internal.h"

#include <string.h>

#define REFUSAL_LOG_INTERVAL_NS 1000000000ull
#define LISTEN_BACKLOG 128

static void on_connection(uv_stream_t *listener, int status)
{
    struct pump *pump = TL_CAST(pump, listener->data, PUMP_MAGIC);
    if (status == 0) { /* otherwise the stranger went away again, or descriptors ran out */
        connection_accept(&pump->transport, listener);
    }
}

/* The socket is libuv's from here on, unless it is not taken. */
static enum tl_err listen_on(struct transport *transport, int *socket)
{
    uv_tcp_t *listener = &transport->listeners[transport->listeners_count++];
    int rc = uv_tcp_init(transport->loop, listener);
    TL_ASSERT(rc == 0); /* opens nothing yet */
    pump_hold_handle(transport->pump, (uv_handle_t *)listener);
    rc = uv_tcp_open(listener, *socket);
    if (rc != 0) {
        return TL_ERR_IO;
    }
    *socket = -1;
    rc = uv_listen((uv_stream_t *)listener, LISTEN_BACKLOG, on_connection);
    return rc == 0 ? TL_OK : TL_ERR_IO;
}

enum tl_err transport_start(struct transport *transport, struct listen_sockets *sockets)
{
    struct node_status status;
    node_get_status(transport->node, &status);
    transport->self = status.store_id;
    resolver_open(transport);
    for (uint32_t i = 0; i < sockets->count; i++) {
        enum tl_err err = listen_on(transport, &sockets->fds[i]);
        if (err != TL_OK) {
            return err;
        }
    }
    return TL_OK;
}

void transport_close(struct transport *transport)
{
    transport->is_closing = true;
    for (uint32_t i = 0; i < transport->listeners_count; i++) {
        pump_close_handle(transport->pump, (uv_handle_t *)&transport->listeners[i]);
    }
    for (uint32_t i = 0; i < transport->peers_count; i++) {
        peer_destroy(TL_TAKE(&transport->peers[i]));
    }
    transport->peers_count = 0;
    while (transport->connections != NULL) {
        connection_close(transport->connections);
    }
    TL_ASSERT(transport->dirty == NULL);
    TL_ASSERT(transport->dirty_later == NULL);
    TL_ASSERT(transport->strangers_count == 0);
    resolver_close(transport);
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

static void list_push(struct connection **list, struct connection *connection)
{
    if (connection->is_dirty) return;
    connection->is_dirty = true;
    connection->next_dirty = *list;
    *list = connection;
}

void transport_mark_dirty(struct transport *transport, struct connection *connection)
{
    list_push(&transport->dirty, connection);
}

void transport_flush_later(struct transport *transport, struct connection *connection)
{
    list_push(&transport->dirty_later, connection);
    pump_wake(transport->pump); /* the loop polls, and does not sleep before */
}

/* False: it is not in the list. */
static bool list_remove(struct connection **list, struct connection *connection)
{
    struct connection **at = list;
    while (*at != NULL && *at != connection) at = &(*at)->next_dirty;
    if (*at == NULL) return false;
    *at = connection->next_dirty;
    return true;
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
        bool is_found = list_remove(&transport->dirty, connection) ||
                        list_remove(&transport->dirty_later, connection);
        TL_ASSERT(is_found);
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

/* One whose address is still being looked up asks the newer question instead: while name servers
 * do not answer, questions are asked again and again. */
static bool ask_replace(struct transport *transport, const char *peer_address, struct buf *frame)
{
    for (struct connection *each = transport->connections; each != NULL; each = each->next) {
        if (each->purpose == CONNECTION_ASK && each->state == CONNECTION_RESOLVING &&
            strcmp(each->address, peer_address) == 0) {
            buf_release(each->greeting);
            each->greeting = frame;
            return true;
        }
    }
    return false;
}

void transport_ask(struct transport *transport, const char *peer_address, struct buf *frame)
{
    if (ask_replace(transport, peer_address, frame)) {
        return;
    }
    struct connection *ask = connection_create(transport, CONNECTION_ASK, peer_address);
    ask->greeting = frame;
    ask->next_dirty = transport->asks;
    transport->asks = ask;
}

void connections_on_looked_up(struct transport *transport, const struct endpoint *endpoint)
{
    struct connection *next;
    for (struct connection *each = transport->connections; each != NULL; each = next) {
        next = each->next;
        if (each->endpoint == endpoint && each->state == CONNECTION_RESOLVING) {
            connection_on_looked_up(each);
        }
    }
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
    transport->turn++;
    if (transport->has_held_reads) {
        transport->has_held_reads = false;
        struct connection *next = NULL;
        for (struct connection *each = transport->connections; each != NULL; each = next) {
            next = each->next; /* it may end and be taken out */
            connection_read_on(each);
        }
    }
    struct connection *later = TL_TAKE(&transport->dirty_later);
    while (later != NULL) {
        struct connection *connection = later;
        later = connection->next_dirty;
        connection->is_dirty = false;
        transport_mark_dirty(transport, connection);
    }
    while (transport->dirty != NULL) {
        struct connection *connection = transport->dirty;
        transport->dirty = connection->next_dirty;
        connection->is_dirty = false;
        connection_flush(connection);
    }
}
