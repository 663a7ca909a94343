/* peer.c - keeping three connections to a peer.
 *
 * The side with the smaller store id connects, so that two nodes never hold two crossing
 * connections. It tries the raft class alone until that is up: a peer that is away costs one
 * attempt per back-off and not three.
 *
 * A peer of a version that knows only the first format of the hello closes a connection that begins
 * with another one. So the attempt after one that was closed without an answer is made at once and
 * in the first format, and the one after that in the newest again, for the peer may have been
 * exchanged for a newer one. A newer peer that refuses a connection says so, and is not taken for
 * an old one.
 *
 * Who is gone? "Lost" says nothing: a cable, a pause, a crash. But a connect that is answered with
 * a reset tells that the machine lives and the process does not, which is worth knowing hundreds of
 * milliseconds before an election timeout does. The connecting side learns it from its next
 * attempt; the accepting side has none, so it sends one probe after a loss.
 */

#include "net_internal.h"

#include <stdlib.h>

static void peer_check(const struct peer *peer)
{
    TL_ASSERT(peer->id != RAFT_ID_NONE);
    TL_ASSERT(peer->timers_open_count <= PEER_CLASSES_COUNT);
    for (uint32_t i = 0; i < PEER_CLASSES_COUNT; i++) {
        const struct link *link = &peer->links[i];
        TL_ASSERT(link->peer == peer);
        TL_ASSERT((uint32_t)link->class == i);
        TL_ASSERT(link->backoff_ms <= PUMP_BACKOFF_MAX_MS);
        if (link->connection != NULL) {
            TL_ASSERT(link->connection->link == link);
            TL_ASSERT(link->connection->state == CONNECTION_UP);
        }
        if (link->attempt != NULL) {
            TL_ASSERT(peer->is_connector);
            TL_ASSERT(link->attempt->link == link);
        }
        if (peer->is_removed) {
            TL_ASSERT(link->connection == NULL);
            TL_ASSERT(link->attempt == NULL);
        }
    }
}

static bool link_is_wanted(const struct link *link)
{
    const struct peer *peer = link->peer;
    if (!peer->is_connector || peer->is_removed || link->connection != NULL ||
        link->attempt != NULL) {
        return false;
    }
    return link->class == PEER_CLASS_RAFT || peer->links[PEER_CLASS_RAFT].connection != NULL;
}

static void link_try_in(struct link *link, uint8_t hello_format)
{
    if (!link_is_wanted(link)) {
        return;
    }
    int rc = uv_timer_stop(&link->backoff);
    TL_ASSERT(rc == 0);
    const struct peer *peer = link->peer;
    link->attempt = connection_create(peer->transport, CONNECTION_LINK, peer->member.peer_address);
    link->attempt->link = link;
    link->attempt->hello_format = hello_format;
    connection_start(link->attempt);
}

static void link_try(struct link *link)
{
    link_try_in(link, HELLO_FORMAT);
}

static void on_backoff(uv_timer_t *timer)
{
    struct link *link = TL_CAST(link, timer->data, LINK_MAGIC);
    link_try(link);
}

static void link_try_later(struct link *link)
{
    if (!link_is_wanted(link)) {
        return;
    }
    uv_update_time(link->peer->transport->loop);
    int rc = uv_timer_start(&link->backoff, on_backoff, link->backoff_ms, 0);
    TL_ASSERT(rc == 0);
    link->backoff_ms = TL_MIN(link->backoff_ms * 2, PUMP_BACKOFF_MAX_MS);
}

struct peer *peer_create(struct transport *transport, const struct member *member)
{
    struct peer *peer = calloc(1, sizeof *peer);
    TL_ASSERT(peer != NULL);
    peer->transport = transport;
    peer->member = *member;
    peer->id = store_id_raft(&member->store_id);
    peer->is_connector = store_id_compare(&transport->self, &member->store_id) < 0;
    pump_hold(transport->pump);
    for (uint32_t i = 0; i < PEER_CLASSES_COUNT; i++) {
        struct link *link = &peer->links[i];
        link->magic = LINK_MAGIC;
        link->class = (enum peer_class)i;
        link->peer = peer;
        link->backoff_ms = PUMP_BACKOFF_MIN_MS;
        link->is_refusal_told = true; /* never up: there is nothing to tell */
        int rc = uv_timer_init(transport->loop, &link->backoff);
        TL_ASSERT(rc == 0);
        link->backoff.data = link;
        peer->timers_open_count++;
    }
    peer_check(peer);
    link_try(&peer->links[PEER_CLASS_RAFT]);
    return peer;
}

static void on_backoff_closed(uv_handle_t *handle)
{
    struct link *link = TL_CAST(link, handle->data, LINK_MAGIC);
    struct peer *peer = link->peer;
    link->magic = 0;
    peer->timers_open_count--;
    if (peer->timers_open_count == 0) {
        struct pump *pump = peer->transport->pump;
        free(peer);
        pump_let_go(pump);
    }
}

void peer_destroy(struct peer *peer)
{
    peer_check(peer);
    struct transport *transport = peer->transport;
    peer->is_removed = true;
    if (peer->probe != NULL) {
        connection_close(TL_TAKE(&peer->probe));
    }
    for (uint32_t i = 0; i < PEER_CLASSES_COUNT; i++) {
        struct link *link = &peer->links[i];
        if (link->attempt != NULL) {
            connection_close(TL_TAKE(&link->attempt));
        }
        if (link->connection != NULL) {
            connection_close(TL_TAKE(&link->connection));
            if (!transport->is_closing) {
                node_on_peer_down(transport->node, peer->id, link->class, false);
                pump_wake(transport->pump);
            }
        }
        uv_close((uv_handle_t *)&link->backoff, on_backoff_closed);
    }
    peer_check(peer);
}

void link_on_up(struct link *link, struct connection *connection)
{
    struct peer *peer = link->peer;
    peer_check(peer);
    if (link->attempt == connection) {
        link->attempt = NULL;
    }
    struct connection *old = link->connection;
    if (old != NULL) {
        /* The peer knows best: it would not connect again if the old connection worked. */
        link->connection = NULL;
        connection_close(old);
        node_on_peer_down(peer->transport->node, peer->id, link->class, false);
    }
    link->connection = connection;
    connection->link = link;
    connection->up_since_ns = clock_boottime_ns();
    link->is_refusal_told = false;
    node_on_peer_up(peer->transport->node, peer->id, link->class, connection->features);
    pump_wake(peer->transport->pump);
    if (link->class == PEER_CLASS_RAFT) {
        link_try(&peer->links[PEER_CLASS_BULK]);
        link_try(&peer->links[PEER_CLASS_FORWARD]);
    }
    peer_check(peer);
}

static void peer_probe(struct peer *peer)
{
    if (peer->probe == NULL && !peer->is_connector) {
        peer->probe =
            connection_create(peer->transport, CONNECTION_PROBE, peer->member.peer_address);
        peer->probe->probed = peer;
        connection_start(peer->probe);
    }
}

/* Nobody listens at the peer's address: every class that is down, and not told so yet, is told. */
static void peer_on_refused(struct peer *peer)
{
    for (uint32_t i = 0; i < PEER_CLASSES_COUNT; i++) {
        if (peer->links[i].connection != NULL) {
            return; /* it lives, whatever answers at its address */
        }
    }
    for (uint32_t i = 0; i < PEER_CLASSES_COUNT; i++) {
        struct link *link = &peer->links[i];
        if (!link->is_refusal_told) {
            link->is_refusal_told = true;
            node_on_peer_down(peer->transport->node, peer->id, link->class, true);
            pump_wake(peer->transport->pump);
        }
    }
}

static void link_on_lost(struct link *link, const struct connection *connection)
{
    struct peer *peer = link->peer;
    link->connection = NULL;
    node_on_peer_down(peer->transport->node, peer->id, link->class, false);
    pump_wake(peer->transport->pump);
    if (!peer->is_connector) {
        peer_probe(peer);
        return;
    }
    if (clock_boottime_ns() - connection->up_since_ns >= LINK_SETTLED_NS) {
        link->backoff_ms = PUMP_BACKOFF_MIN_MS;
        link_try(link);
    } else {
        link_try_later(link);
    }
}

void link_on_end(struct link *link, struct connection *connection, enum connection_end how)
{
    struct peer *peer = link->peer;
    if (link->connection == connection) {
        link_on_lost(link, connection);
    } else {
        TL_ASSERT(link->attempt == connection);
        link->attempt = NULL;
        if (how == END_REFUSED) {
            peer_on_refused(peer);
        }
        if (how == END_UNHEARD && connection->hello_format == HELLO_FORMAT) {
            link_try_in(link, HELLO_FORMAT_FIRST);
        } else {
            link_try_later(link);
        }
    }
    peer_check(peer);
}

void peer_on_probe_end(struct peer *peer, enum connection_end how)
{
    TL_ASSERT(peer->probe != NULL);
    peer->probe = NULL;
    if (how == END_REFUSED) {
        peer_on_refused(peer);
    }
    peer_check(peer);
}
