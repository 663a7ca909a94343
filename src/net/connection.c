/* connection.c - one TCP connection from its first packet to its last, and the bytes it receives.
 *
 * Every wait has a deadline: a black-holed peer must not hold anything (cockroachdb/cockroach
 * #80713: requests stayed wedged on one although a new leader existed). Before the connection is up
 * that is the timer here, with a time of its own for the look-up, for each address and for the
 * hello; afterwards it is the kernel's: keepalive when idle and TCP_USER_TIMEOUT when something was
 * sent, and Raft's own time-outs above.
 *
 * The addresses of a name are tried in turn, beginning with the one that worked last.
 */

#include "net_internal.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#define KEEPALIVE_S 1

static void lane_check(const struct lane *lane)
{
    TL_ASSERT(lane->count <= PUMP_QUEUE_FRAMES_MAX);
    TL_ASSERT(lane->first < PUMP_QUEUE_FRAMES_MAX);
    TL_ASSERT(lane->bytes <= PUMP_QUEUE_BYTES_MAX);
    TL_ASSERT((lane->count == 0) == (lane->bytes == 0));
    TL_ASSERT(lane->offset <= lane->bytes);
}

void connection_check(const struct connection *connection)
{
    TL_ASSERT(connection->magic == CONNECTION_MAGIC);
    TL_ASSERT(connection->state <= CONNECTION_CLOSING);
    TL_ASSERT(connection->received_count <= connection->received_capacity);
    for (uint32_t i = 0; i < CONNECTION_LANES_COUNT; i++) lane_check(&connection->lanes[i]);
    const struct piece *piece = &connection->piece;
    if (piece->bytes > 0) {
        TL_ASSERT(connection->lanes[piece->lane].count > 0);
        TL_ASSERT(piece->sent < piece->head_bytes + piece->bytes);
    }
    if (connection->is_writing) TL_ASSERT(piece->bytes > 0);
    if (connection->state == CONNECTION_UP) {
        TL_ASSERT(connection->has_tcp);
        TL_ASSERT(connection->link != NULL);
    }
    if (connection->state == CONNECTION_CLOSING) {
        TL_ASSERT(connection->link == NULL);
        TL_ASSERT(connection->probed == NULL);
        TL_ASSERT(!connection->is_dirty);
    }
    if (connection->purpose != CONNECTION_ASK) {
        TL_ASSERT(connection->greeting == NULL);
    }
}

struct connection *connection_create(struct transport *transport, enum connection_purpose purpose,
                                     const char *address)
{
    TL_ASSERT(!transport->is_closing);
    struct connection *connection = calloc(1, sizeof *connection);
    TL_ASSERT(connection != NULL);
    connection->magic = CONNECTION_MAGIC;
    connection->purpose = purpose;
    connection->transport = transport;
    (void)text_format(connection->address, sizeof connection->address, "%s", address);
    for (uint32_t i = 0; i < CONNECTION_LANES_COUNT; i++) {
        struct lane *lane = &connection->lanes[i];
        lane->frames = malloc(PUMP_QUEUE_FRAMES_MAX * sizeof lane->frames[0]);
        TL_ASSERT(lane->frames != NULL);
    }
    int rc = uv_timer_init(transport->loop, &connection->deadline);
    TL_ASSERT(rc == 0);
    connection->deadline.data = connection;
    connection->users_count = 1;
    connection->next = transport->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    transport->connections = connection;
    pump_hold(transport->pump);
    return connection;
}

static void connection_unuse(struct connection *connection)
{
    TL_ASSERT(connection->users_count > 0);
    connection->users_count--;
    if (connection->users_count == 0) {
        TL_ASSERT(connection->state == CONNECTION_CLOSING);
        struct pump *pump = connection->transport->pump;
        connection_queue_clear(connection);
        for (uint32_t i = 0; i < CONNECTION_LANES_COUNT; i++) free(connection->lanes[i].frames);
        free(connection->received);
        reassembly_clear(&connection->reassembly);
        buf_release(connection->greeting);
        connection->magic = 0;
        free(connection);
        pump_let_go(pump);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct connection *connection = TL_CAST(connection, handle->data, CONNECTION_MAGIC);
    connection_unuse(connection);
}

static bool connection_is_stranger(const struct connection *connection)
{
    return connection->purpose == CONNECTION_ACCEPTED &&
           (connection->state == CONNECTION_GREETING || connection->state == CONNECTION_DRAINING);
}

/* The address that is being tried, or is connected to. */
static const union socket_address *connection_where(const struct connection *connection)
{
    TL_ASSERT(connection->tried_count > 0);
    uint32_t place = connection->first + connection->tried_count - 1;
    return &connection->addresses.at[place % connection->addresses.count];
}

void connection_worked(struct connection *connection)
{
    if (connection->endpoint != NULL) { /* ours */
        endpoint_worked(connection->endpoint, connection_where(connection));
    }
}

void connection_close(struct connection *connection)
{
    if (connection->state == CONNECTION_CLOSING) {
        return;
    }
    connection_check(connection);
    if (connection_is_stranger(connection)) {
        TL_ASSERT(connection->transport->strangers_count > 0);
        connection->transport->strangers_count--;
    }
    if (connection->endpoint != NULL) {
        endpoint_release(TL_TAKE(&connection->endpoint));
    }
    connection->state = CONNECTION_CLOSING;
    connection->link = NULL;
    connection->probed = NULL;
    transport_forget(connection->transport, connection);
    if (connection->has_tcp) {
        connection->has_tcp = false;
        uv_close((uv_handle_t *)&connection->tcp, on_handle_closed);
    }
    uv_close((uv_handle_t *)&connection->deadline, on_handle_closed);
    connection_check(connection);
}

void connection_end(struct connection *connection, enum connection_end how)
{
    if (connection->state == CONNECTION_CLOSING) {
        return;
    }
    bool is_tried_in_first_format = how == END_UNHEARD && connection->hello_format == HELLO_FORMAT;
    if (connection->state == CONNECTION_GREETING && connection->endpoint != NULL &&
        !is_tried_in_first_format) {
        endpoint_failed(connection->endpoint, connection_where(connection));
    }
    struct transport *transport = connection->transport;
    struct link *link = connection->link;
    struct peer *probed = connection->probed;
    bool is_connect =
        connection->state == CONNECTION_RESOLVING || connection->state == CONNECTION_CONNECTING;
    if (is_connect && how != END_DONE) {
        transport->pump->metrics.connect_failures_count++;
    }
    connection_close(connection); /* its memory stays until its handles have closed */
    if (link != NULL) {
        link_on_end(link, connection, how);
    } else if (probed != NULL) {
        peer_on_probe_end(probed, how);
    } else if (connection->purpose == CONNECTION_ASK) {
        node_on_birth_reply(transport->node, connection->address, NULL);
        pump_wake(transport->pump);
    }
}

void connection_reject(struct connection *connection, uint64_t *counter, const char *reason)
{
    struct transport *transport = connection->transport;
    transport->pump->metrics.connections_refused_count++;
    if (counter != NULL) {
        *counter += 1;
    }
    transport_log_refusal(transport, connection->address, reason);
    connection_end(connection, END_REJECTED);
}

void connection_lost(struct connection *connection)
{
    bool is_unheard =
        connection->purpose == CONNECTION_LINK && connection->state == CONNECTION_GREETING;
    connection_end(connection, is_unheard ? END_UNHEARD : END_LOST);
}

static void connect_failed(struct connection *connection, int reason);

static void on_deadline(uv_timer_t *timer)
{
    struct connection *connection = TL_CAST(connection, timer->data, CONNECTION_MAGIC);
    if (connection_is_stranger(connection)) {
        connection_reject(connection, NULL, "silent");
    } else if (connection->state == CONNECTION_CONNECTING) {
        connect_failed(connection, UV_ETIMEDOUT);
    } else {
        connection_end(connection, END_LOST);
    }
}

static void deadline_set(struct connection *connection, uint64_t timeout_ms)
{
    uv_update_time(connection->transport->loop); /* or a long turn is taken off the timeout */
    int rc = uv_timer_start(&connection->deadline, on_deadline, timeout_ms, 0);
    TL_ASSERT(rc == 0);
}

/* ---- receiving ---- */

/* What is read from one connection in a turn, but for the last piece: a peer that sends megabytes
 * does not keep the loop from the others. */
#define READ_BYTES_MAX (128u * 1024u)

static void on_alloc(uv_handle_t *handle, size_t suggested_bytes, uv_buf_t *out_buffer)
{
    (void)suggested_bytes;
    struct connection *connection = TL_CAST(connection, handle->data, CONNECTION_MAGIC);
    size_t wanted = TL_MAX((size_t)CONNECTION_RECEIVE_BYTES, connection->received_needed);
    if (connection->received_capacity < wanted) {
        connection->received = realloc(connection->received, wanted);
        TL_ASSERT(connection->received != NULL);
        connection->received_capacity = wanted;
    }
    size_t room = connection->received_capacity - connection->received_count;
    TL_ASSERT(room > 0);
    *out_buffer =
        uv_buf_init((char *)connection->received + connection->received_count, (unsigned)room);
}

static enum tl_err on_part(struct connection *connection, enum frame_type type, struct bytes part)
{
    if ((connection->features & HELLO_FEATURE_CONTINUATION) == 0) return TL_ERR_INVALID;
    struct frame_header header;
    struct bytes payload;
    enum tl_err err = reassembly_add(&connection->reassembly, type, part, &header, &payload);
    if (err == TL_ERR_NOT_FOUND) return TL_OK;
    if (err == TL_OK) {
        raft_id from = connection->link->peer->id;
        err = node_on_frame(connection->transport->node, from, header.type, payload);
        pump_wake(connection->transport->pump);
        reassembly_clear(&connection->reassembly);
    }
    return err;
}

static void on_frame(struct connection *connection, enum frame_type type, struct bytes payload)
{
    struct transport *transport = connection->transport;
    if (connection->state != CONNECTION_UP) {
        handshake_on_frame(connection, type, payload);
        return;
    }
    enum tl_err err = TL_ERR_INVALID;
    if (type == FRAME_PART_FIRST || type == FRAME_PART_NEXT) {
        err = on_part(connection, type, payload);
    } else if (type != FRAME_HELLO && type != FRAME_BIRTH) {
        err = node_on_frame(transport->node, connection->link->peer->id, type, payload);
        pump_wake(transport->pump);
    }
    if (err != TL_OK) {
        connection_reject(connection, &transport->pump->metrics.garbage_count, "invalid_frame");
    }
}

/* The frame at the front of `left`. TL_OK: whole and right. TL_ERR_NOT_FOUND: not all there yet;
 * received_needed says how much that is, as soon as it is known. TL_ERR_INVALID: garbage. */
static enum tl_err frame_take(struct connection *connection, struct bytes left,
                              struct frame_header *out_header)
{
    connection->received_needed = 0;
    if (left.count >= sizeof(uint32_t) && get_u32(left.data) != FRAME_MAGIC) {
        return TL_ERR_INVALID; /* also a line of text too short for a header */
    }
    if (left.count < FRAME_HEADER_BYTES) {
        return TL_ERR_NOT_FOUND;
    }
    struct frame_header header;
    if (frame_header_decode(left.data, &header) != TL_OK) {
        return TL_ERR_INVALID;
    }
    size_t payload_bytes_max = connection->state == CONNECTION_UP ? FRAME_PAYLOAD_BYTES_MAX
                                                                  : CONNECTION_STRANGER_BYTES_MAX;
    if (header.payload_bytes > payload_bytes_max) {
        return TL_ERR_INVALID;
    }
    size_t frame_bytes = FRAME_HEADER_BYTES + (size_t)header.payload_bytes;
    if (left.count < frame_bytes) {
        connection->received_needed = frame_bytes;
        return TL_ERR_NOT_FOUND;
    }
    struct bytes payload = bytes_make(left.data + FRAME_HEADER_BYTES, header.payload_bytes);
    if (!frame_payload_is_right(&header, payload)) {
        return TL_ERR_INVALID;
    }
    *out_header = header;
    return TL_OK;
}

/* Keeps the `left` bytes from `begin` on for the next read. */
static void received_keep(struct connection *connection, size_t begin)
{
    connection->received_count -= begin;
    if (begin > 0 && connection->received_count > 0) {
        memmove(connection->received, connection->received + begin, connection->received_count);
    }
    if (connection->received_count == 0 &&
        connection->received_capacity > CONNECTION_RECEIVE_KEPT_BYTES) {
        free(TL_TAKE(&connection->received));
        connection->received_capacity = 0;
    }
}

static void frames_handle(struct connection *connection)
{
    size_t begin = 0;
    while (connection->state != CONNECTION_CLOSING) {
        struct bytes left =
            bytes_make(connection->received + begin, connection->received_count - begin);
        struct frame_header header;
        enum tl_err err = frame_take(connection, left, &header);
        if (err == TL_ERR_NOT_FOUND) {
            break;
        }
        if (err != TL_OK) {
            connection_reject(connection, &connection->transport->pump->metrics.garbage_count,
                              "garbage");
            return;
        }
        begin += FRAME_HEADER_BYTES + header.payload_bytes;
        on_frame(connection, header.type,
                 bytes_make(left.data + FRAME_HEADER_BYTES, header.payload_bytes));
    }
    if (connection->state != CONNECTION_CLOSING) {
        received_keep(connection, begin);
    }
}

/* On a slow link the next heartbeat, and to a peer without parts everything, waits for the rest of
 * what is arriving: to the node that is as good as a word from its sender, for as long as it
 * arrives no more slowly than the slowest link that is reckoned with. A peer that dribbles bytes
 * for ever is silent in the end. */
static void note_partial(struct connection *connection, size_t count)
{
    bool is_partial = connection->received_count > 0 || connection->reassembly.count > 0;
    if (!is_partial || connection->link->class != PEER_CLASS_RAFT) {
        connection->partial_since_ns = 0;
        return;
    }
    uint64_t now_ns = clock_boottime_ns();
    if (connection->partial_since_ns == 0) {
        connection->partial_since_ns = now_ns;
        connection->partial_bytes = 0;
    }
    connection->partial_bytes += count;
    uint64_t allowed_ns = CONNECTION_PARTIAL_NS +
                          connection->partial_bytes * 1000000000u / CONNECTION_PARTIAL_BYTES_PER_S;
    if (now_ns - connection->partial_since_ns <= allowed_ns) {
        node_on_partial_frame(connection->transport->node, connection->link->peer->id);
    }
}

static void take_read_share(struct connection *connection, size_t bytes)
{
    struct transport *transport = connection->transport;
    if (connection->read_turn != transport->turn) connection->read_bytes = 0;
    connection->read_turn = transport->turn;
    connection->read_bytes += bytes;
    if (connection->read_bytes < READ_BYTES_MAX) return;
    int rc = uv_read_stop((uv_stream_t *)&connection->tcp);
    TL_ASSERT(rc == 0);
    connection->is_read_held = true;
    transport->has_held_reads = true;
    pump_wake(transport->pump); /* the loop polls, and does not sleep before */
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    (void)buffer; /* is the connection's own */
    struct connection *connection = TL_CAST(connection, stream->data, CONNECTION_MAGIC);
    if (count < 0) {
        connection_lost(connection);
        return;
    }
    connection_check(connection);
    connection->received_count += (size_t)count;
    connection->transport->pump->metrics.bytes_received_count += (uint64_t)count;
    frames_handle(connection);
    if (connection->state == CONNECTION_UP) note_partial(connection, (size_t)count);
    if (connection->state == CONNECTION_UP) take_read_share(connection, (size_t)count);
    connection_check(connection);
}

void connection_read_on(struct connection *connection)
{
    if (!connection->is_read_held || connection->state != CONNECTION_UP) return;
    connection->is_read_held = false;
    int rc = uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read);
    if (rc != 0) connection_lost(connection);
}

/* ---- connecting and accepting ---- */

/* Options of a socket cannot fail but for a kernel without them, which is none of ours. */
static void tcp_set_options(struct connection *connection)
{
    int rc = uv_tcp_nodelay(&connection->tcp, 1);
    TL_ASSERT(rc == 0);
    (void)uv_tcp_keepalive(&connection->tcp, 1, KEEPALIVE_S); /* helps, is not relied upon */
    uv_os_fd_t fd;
    rc = uv_fileno((uv_handle_t *)&connection->tcp, &fd);
    TL_ASSERT(rc == 0);
    int interval_s = KEEPALIVE_S;
    unsigned user_timeout_ms = PUMP_USER_TIMEOUT_MS;
    unsigned unsent_bytes = CONNECTION_UNSENT_BYTES;
    /* These end a dead connection sooner; without them Raft's time-outs still work. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
    /* Without it the buffer grows to megabytes, seconds of a slow link, that nothing overtakes. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_bytes, sizeof unsent_bytes);
}

static void begin(struct connection *connection)
{
    connection->state = CONNECTION_GREETING;
    int rc = uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read);
    if (rc != 0) {
        connection_end(connection, END_LOST);
        return;
    }
    deadline_set(connection, connection->purpose == CONNECTION_ASK ? PUMP_ASK_TIMEOUT_MS
                                                                   : PUMP_HELLO_TIMEOUT_MS);
    handshake_begin(connection);
}

static void on_connect(uv_connect_t *request, int status)
{
    struct connection *connection = TL_CAST(connection, request->data, CONNECTION_MAGIC);
    if (connection->state == CONNECTION_CLOSING || status == UV_ECANCELED) {
        return; /* it is over, or another address has its turn */
    }
    if (status != 0) {
        connect_failed(connection, status);
    } else if (connection->purpose == CONNECTION_PROBE) {
        connection_worked(connection);
        connection_end(connection, END_DONE);
    } else {
        begin(connection);
    }
}

/* 0: it is under way. Otherwise why not; the handle, if there is one, must be closed. */
static int connect_to(struct connection *connection, const union socket_address *where)
{
    connection->transport->pump->metrics.connects_count++;
    int rc =
        uv_tcp_init_ex(connection->transport->loop, &connection->tcp, where->any.sa_family);
    if (rc != 0) { /* out of descriptors */
        return rc;
    }
    connection->has_tcp = true;
    connection->users_count++;
    connection->tcp.data = connection;
    tcp_set_options(connection);
    connection->connect_request.data = connection;
    return uv_tcp_connect(&connection->connect_request, &connection->tcp, &where->any, on_connect);
}

static void connect_next(struct connection *connection)
{
    TL_ASSERT(connection->state == CONNECTION_CONNECTING);
    TL_ASSERT(!connection->has_tcp);
    if (connection->tried_count == connection->addresses.count) {
        bool is_refused = connection->is_refused && !connection->is_lost;
        connection_end(connection, is_refused ? END_REFUSED : END_LOST);
        return;
    }
    connection->tried_count++;
    int rc = connect_to(connection, connection_where(connection));
    if (rc != 0) {
        connect_failed(connection, rc);
    } else {
        deadline_set(connection, PUMP_CONNECT_TIMEOUT_MS);
    }
}

static void on_address_closed(uv_handle_t *handle)
{
    struct connection *connection = TL_CAST(connection, handle->data, CONNECTION_MAGIC);
    bool is_closing = connection->state == CONNECTION_CLOSING;
    connection_unuse(connection);
    if (!is_closing) {
        connect_next(connection); /* its timer is a user still */
    }
}

/* An address that this machine has no way to says nothing of the process that is looked for. */
static bool is_no_way(int reason)
{
    return reason == UV_ENETUNREACH || reason == UV_EADDRNOTAVAIL || reason == UV_EAFNOSUPPORT;
}

/* The next address has its turn. */
static void connect_failed(struct connection *connection, int reason)
{
    TL_ASSERT(connection->state == CONNECTION_CONNECTING);
    connection->is_refused |= reason == UV_ECONNREFUSED;
    connection->is_lost |= reason != UV_ECONNREFUSED && !is_no_way(reason);
    int rc = uv_timer_stop(&connection->deadline);
    TL_ASSERT(rc == 0);
    if (connection->has_tcp) {
        connection->has_tcp = false;
        uv_close((uv_handle_t *)&connection->tcp, on_address_closed);
    } else { /* the next would want a descriptor too */
        connection_end(connection, END_LOST);
    }
}

void connection_on_looked_up(struct connection *connection)
{
    TL_ASSERT(connection->state == CONNECTION_RESOLVING);
    const struct endpoint *endpoint = connection->endpoint;
    if (endpoint->list.count == 0) {
        connection_end(connection, END_LOST);
        return;
    }
    connection->addresses = endpoint->list; /* a look-up may change the endpoint's meanwhile */
    connection->first = 0;
    (void)address_list_find(&endpoint->list, &endpoint->first, &connection->first);
    connection->state = CONNECTION_CONNECTING;
    connect_next(connection);
}

void connection_start(struct connection *connection)
{
    TL_ASSERT(connection->state == CONNECTION_RESOLVING);
    connection->endpoint =
        endpoint_acquire(&connection->transport->resolver, connection->address);
    if (connection->endpoint == NULL) {
        connection_end(connection, END_LOST);
    } else if (connection->endpoint->list.count > 0 || !connection->endpoint->is_looking_up) {
        connection_on_looked_up(connection);
    } else {
        deadline_set(connection, PUMP_LOOKUP_TIMEOUT_MS);
    }
}

static void name_stranger(struct connection *connection)
{
    struct sockaddr_storage from;
    int from_bytes = sizeof from;
    char host[64] = "?";
    if (uv_tcp_getpeername(&connection->tcp, (struct sockaddr *)&from, &from_bytes) == 0) {
        (void)uv_ip_name((struct sockaddr *)&from, host, sizeof host); /* "?" will do */
    }
    (void)text_format(connection->address, sizeof connection->address, "%s", host);
}

void connection_accept(struct transport *transport, uv_stream_t *listener)
{
    struct connection *connection = connection_create(transport, CONNECTION_ACCEPTED, "");
    int rc = uv_tcp_init(transport->loop, &connection->tcp);
    TL_ASSERT(rc == 0); /* opens nothing yet */
    connection->has_tcp = true;
    connection->users_count++;
    connection->tcp.data = connection;
    rc = uv_accept(listener, (uv_stream_t *)&connection->tcp);
    if (rc != 0) {
        connection_close(connection);
        return;
    }
    name_stranger(connection);
    transport->pump->metrics.connections_accepted_count++;
    transport->strangers_count++;
    connection->state = CONNECTION_GREETING;
    if (transport->strangers_count > PUMP_STRANGERS_MAX) {
        connection_reject(connection, NULL, "too_many");
        return;
    }
    tcp_set_options(connection);
    begin(connection);
}
