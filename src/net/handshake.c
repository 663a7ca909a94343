/* handshake.c - who is at the other end.
 *
 * Both sides say hello first: cluster, own and the other's store id, class. Ids and not addresses:
 * an address can be given to another machine, and a node whose disk was emptied has a new id, so
 * that it cannot be taken for the voter that once acknowledged things. A node without a cluster
 * asks a birth question instead; it is answered and the connection closed.
 */

#include "net_internal.h"

static void say_hello(struct connection *connection, enum peer_class class,
                      const struct store_id *to)
{
    const struct transport *transport = connection->transport;
    const struct hello hello = {.format = connection->hello_format,
                                .class = class,
                                .features = HELLO_FEATURES,
                                .cluster_id = transport->cluster_id,
                                .from = transport->self,
                                .to = *to};
    /* The hello takes the lane that no other frame overtakes. */
    bool is_queued = connection_queue(connection, LANE_URGENT, hello_encode(&hello));
    TL_ASSERT(is_queued); /* the first frame of a connection */
}

void handshake_begin(struct connection *connection)
{
    if (connection->purpose == CONNECTION_LINK) {
        const struct link *link = connection->link;
        say_hello(connection, link->class, &link->peer->member.store_id);
        connection_flush(connection);
    } else if (connection->purpose == CONNECTION_ASK) {
        bool is_queued = connection_queue(connection, LANE_URGENT, TL_TAKE(&connection->greeting));
        TL_ASSERT(is_queued);
        connection_flush(connection);
    }
}

/* Why a hello is not from whom we expect, or NULL and the peer. */
static const char *hello_objection(const struct connection *connection, const struct hello *hello,
                                   struct peer **out_peer)
{
    struct transport *transport = connection->transport;
    if (store_id_is_zero(&transport->cluster_id)) {
        return "no_cluster_here_yet";
    }
    if (!store_id_equal(&hello->cluster_id, &transport->cluster_id)) {
        return "other_cluster";
    }
    if (!store_id_equal(&hello->to, &transport->self)) {
        return "meant_for_another_store";
    }
    struct peer *peer = transport_find(transport, store_id_raft(&hello->from));
    if (peer == NULL || !store_id_equal(&peer->member.store_id, &hello->from)) {
        return "unknown_store";
    }
    if (connection->purpose == CONNECTION_LINK) {
        if (peer != connection->link->peer || hello->class != connection->link->class) {
            return "not_whom_we_called";
        }
    } else if (peer->is_connector) {
        return "wrong_direction";
    }
    *out_peer = peer;
    return NULL;
}

/* Closes a connection that is not for this node. The asker is told, without a word of who this node
 * is, that its hello was understood: it would take a silent end for that of a node of an older
 * version, and speak to this one in the first format. */
static void refuse(struct connection *connection, const struct hello *hello, uint64_t *counter,
                   const char *objection)
{
    bool is_answered =
        connection->purpose == CONNECTION_ACCEPTED && hello->format != HELLO_FORMAT_FIRST;
    if (is_answered) {
        const struct hello answer = {
            .format = hello->format, .class = hello->class, .is_refused = true};
        bool is_queued = connection_queue(connection, LANE_URGENT, hello_encode(&answer));
        TL_ASSERT(is_queued);         /* the first frame of a connection */
        connection_flush(connection); /* what the socket does not take at once is not waited for */
    }
    connection_reject(connection, counter, objection);
}

static void on_hello(struct connection *connection, const struct hello *hello)
{
    struct transport *transport = connection->transport;
    struct pump_metrics *metrics = &transport->pump->metrics;
    struct peer *peer = NULL;
    const char *objection = hello_objection(connection, hello, &peer);
    if (objection != NULL) {
        bool is_foreign = !store_id_is_zero(&transport->cluster_id) &&
                          !store_id_equal(&hello->cluster_id, &transport->cluster_id);
        refuse(connection, hello, is_foreign ? &metrics->foreign_cluster_count : NULL, objection);
        return;
    }
    int rc = uv_timer_stop(&connection->deadline);
    TL_ASSERT(rc == 0);
    struct link *link = &peer->links[hello->class];
    if (connection->purpose == CONNECTION_ACCEPTED) {
        TL_ASSERT(transport->strangers_count > 0);
        transport->strangers_count--;
        connection->hello_format = hello->format;
        say_hello(connection, hello->class, &hello->from);
    }
    bool is_first = connection->hello_format == HELLO_FORMAT_FIRST; /* ours announced nothing */
    connection->features = is_first ? 0 : hello->features & HELLO_FEATURES;
    connection->state = CONNECTION_UP;
    connection_worked(connection);
    link_on_up(link, connection);
}

static void on_birth(struct connection *connection, struct bytes payload)
{
    struct transport *transport = connection->transport;
    struct buf *answer = node_on_birth(transport->node, payload);
    pump_wake(transport->pump);
    if (answer == NULL) {
        connection_reject(connection, &transport->pump->metrics.garbage_count, "invalid_birth");
        return;
    }
    bool is_queued = connection_queue(connection, LANE_URGENT, answer);
    TL_ASSERT(is_queued);
    connection->state = CONNECTION_DRAINING;
    connection_flush(connection);
}

void handshake_on_frame(struct connection *connection, enum frame_type type, struct bytes payload)
{
    struct transport *transport = connection->transport;
    bool is_ask = connection->purpose == CONNECTION_ASK;
    if (connection->state == CONNECTION_GREETING && type == FRAME_HELLO && !is_ask) {
        struct hello hello;
        enum tl_err err = hello_decode(payload, &hello);
        if (err == TL_OK && !hello.is_refused) {
            on_hello(connection, &hello);
            return;
        }
        if (err == TL_OK && connection->purpose == CONNECTION_LINK) {
            connection_end(connection, END_LOST); /* tried again later, in the same format */
            return;
        }
    } else if (connection->state == CONNECTION_GREETING && type == FRAME_BIRTH) {
        if (connection->purpose == CONNECTION_ACCEPTED) {
            on_birth(connection, payload);
            return;
        }
        if (is_ask) {
            connection_worked(connection);
            node_on_birth_reply(transport->node, connection->address, &payload);
            pump_wake(transport->pump);
            connection_close(connection);
            return;
        }
    }
    connection_reject(connection, &transport->pump->metrics.garbage_count, "unexpected_frame");
}
