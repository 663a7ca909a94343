/* connection_write.c - the bytes a connection sends.
 *
 * Frames wait in two lanes and leave together: first as far as the socket takes them at once,
 * without a request of libuv; the rest of what was begun in one uv_write, during which newer frames
 * wait in their lanes. So a healthy connection costs one system call a turn, and a slow one a
 * bounded queue.
 *
 * On a slow link it is what was begun that later frames wait for: a heartbeat that waits for eight
 * MiB of entries is no heartbeat. So to a peer that puts parts together again a large frame goes in
 * parts (frame_parts.h), and an urgent frame waits for no more than one of them, and for the bytes
 * that the kernel has taken and not sent, which TCP_NOTSENT_LOWAT bounds (connection.c). The kernel
 * answers EAGAIN above that bound (tcp_stream_memory_free()), and the socket is writable again when
 * half of it has left; libuv polls for that, as for a full buffer. Urgent frames are small, and
 * nothing in them depends on what they overtake.
 */

#include "net_internal.h"

/* Of a large frame in one part. A heartbeat waits for it for 26 ms on a link of 20 Mbit/s. */
#define PART_BYTES (64u * 1024u)
_Static_assert(PART_BYTES <= FRAME_PART_BYTES_MAX, "the peer takes it");
#define GATHER_PIECES_MAX 32u
/* Of one flush, but for what is left of its last piece. A fast socket takes megabytes at once, in
 * milliseconds: the rest goes in the next turn. */
#define FLUSH_BYTES_MAX (128u * 1024u)

static struct buf *lane_at(const struct lane *lane, uint32_t i)
{
    return lane->frames[(lane->first + i) % PUMP_QUEUE_FRAMES_MAX];
}

static void lane_push(struct lane *lane, struct buf *frame)
{
    TL_ASSERT(lane->count < PUMP_QUEUE_FRAMES_MAX);
    lane->frames[(lane->first + lane->count) % PUMP_QUEUE_FRAMES_MAX] = frame;
    lane->count++;
    lane->bytes += frame->count;
}

static void lane_drop_first(struct lane *lane)
{
    struct buf *frame = lane_at(lane, 0);
    lane->bytes -= frame->count;
    lane->first = (lane->first + 1) % PUMP_QUEUE_FRAMES_MAX;
    lane->count--;
    lane->offset = 0;
    buf_release(frame);
}

void connection_queue_clear(struct connection *connection)
{
    connection->is_writing = false;
    connection->piece.bytes = 0;
    for (uint32_t i = 0; i < CONNECTION_LANES_COUNT; i++) {
        while (connection->lanes[i].count > 0) lane_drop_first(&connection->lanes[i]);
    }
}

size_t connection_backlog(const struct connection *connection)
{
    const struct lane *lane = &connection->lanes[LANE_IN_ORDER];
    return lane->bytes - lane->offset;
}

static bool is_queue_empty(const struct connection *connection)
{
    return connection->lanes[LANE_URGENT].count == 0 && connection->lanes[LANE_IN_ORDER].count == 0;
}

bool connection_queue(struct connection *connection, enum connection_lane name, struct buf *frame)
{
    connection_check(connection);
    TL_ASSERT(connection->state >= CONNECTION_GREETING);
    TL_ASSERT(connection->state < CONNECTION_CLOSING);
    TL_ASSERT(frame->count >= FRAME_HEADER_BYTES);
    TL_ASSERT(frame->count <= FRAME_HEADER_BYTES + FRAME_PAYLOAD_BYTES_MAX);
    if (connection->transport->pump->mutation == PUMP_MUTATION_NO_OVERTAKING) name = LANE_IN_ORDER;
    struct lane *lane = &connection->lanes[name];
    size_t bytes = connection->lanes[LANE_URGENT].bytes + connection->lanes[LANE_IN_ORDER].bytes;
    if (lane->count == PUMP_QUEUE_FRAMES_MAX || bytes + frame->count > PUMP_QUEUE_BYTES_MAX) {
        connection->transport->pump->metrics.frames_dropped_count++;
        buf_release(frame);
        return false;
    }
    lane_push(lane, frame);
    transport_mark_dirty(connection->transport, connection);
    connection_check(connection);
    return true;
}

/* ---- pieces ---- */

static size_t piece_left(const struct piece *piece)
{
    return piece->head_bytes + piece->bytes - piece->sent;
}

/* What of a lane is gathered next: frame i from `offset` on. */
struct lane_cursor {
    uint32_t i;
    size_t offset;
};

static void cursor_pass(struct lane_cursor *cursor, const struct lane *lane, size_t bytes)
{
    cursor->offset += bytes;
    if (cursor->offset == lane_at(lane, cursor->i)->count) {
        cursor->i++;
        cursor->offset = 0;
    }
}

static bool goes_in_parts(const struct connection *connection, const struct buf *frame)
{
    bool is_understood = (connection->features & HELLO_FEATURE_CONTINUATION) != 0;
    return is_understood && frame->count > PART_BYTES;
}

static struct piece piece_make(const struct connection *connection, enum connection_lane name,
                               const struct lane_cursor *cursor)
{
    const struct buf *frame = lane_at(&connection->lanes[name], cursor->i);
    struct piece piece = {.lane = name, .data = frame->data + cursor->offset};
    size_t left = frame->count - cursor->offset;
    if (!goes_in_parts(connection, frame)) {
        piece.bytes = left;
        return piece;
    }
    piece.bytes = TL_MIN(left, (size_t)PART_BYTES);
    piece.head_bytes = FRAME_HEADER_BYTES;
    frame_part_head(frame, cursor->offset, cursor->offset + piece.bytes, piece.head);
    return piece;
}

/* The pieces to be sent next, until they are of `bytes_max` bytes or more: what was begun, what is
 * urgent, the rest. */
static uint32_t pieces_gather(const struct connection *connection, size_t bytes_max,
                              struct piece pieces[GATHER_PIECES_MAX])
{
    struct lane_cursor cursors[CONNECTION_LANES_COUNT];
    for (uint32_t i = 0; i < CONNECTION_LANES_COUNT; i++) {
        cursors[i] = (struct lane_cursor){.i = 0, .offset = connection->lanes[i].offset};
    }
    uint32_t count = 0;
    size_t bytes = 0;
    const struct piece *begun = &connection->piece;
    if (begun->bytes > 0) {
        bytes += piece_left(begun);
        pieces[count++] = *begun;
        cursor_pass(&cursors[begun->lane], &connection->lanes[begun->lane], begun->bytes);
    }
    for (uint32_t i = 0; i < CONNECTION_LANES_COUNT; i++) {
        const struct lane *lane = &connection->lanes[i];
        while (cursors[i].i < lane->count && count < GATHER_PIECES_MAX && bytes < bytes_max) {
            pieces[count] = piece_make(connection, (enum connection_lane)i, &cursors[i]);
            cursor_pass(&cursors[i], lane, pieces[count].bytes);
            bytes += piece_left(&pieces[count]);
            count++;
        }
    }
    return count;
}

/* The unsent bytes of pieces; returns how many ranges. */
static uint32_t pieces_ranges(const struct piece *pieces, uint32_t count, uv_buf_t *out_ranges,
                              size_t *out_bytes)
{
    uint32_t ranges_count = 0;
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct piece *piece = &pieces[i];
        size_t sent = piece->sent;
        if (sent < piece->head_bytes) {
            out_ranges[ranges_count++] = uv_buf_init((char *)(uintptr_t)piece->head + sent,
                                                     (unsigned)(piece->head_bytes - sent));
            sent = piece->head_bytes;
        }
        sent -= piece->head_bytes;
        out_ranges[ranges_count++] =
            uv_buf_init((char *)(uintptr_t)piece->data + sent, (unsigned)(piece->bytes - sent));
        bytes += piece_left(piece);
    }
    *out_bytes = bytes;
    return ranges_count;
}

/* All of it is in the kernel's hands. */
static void piece_end(struct connection *connection, const struct piece *piece)
{
    struct lane *lane = &connection->lanes[piece->lane];
    size_t backlog_before = connection_backlog(connection);
    lane->offset += piece->bytes;
    if (lane->offset == lane_at(lane, 0)->count) lane_drop_first(lane);
    connection->piece.bytes = 0;
    bool is_below = connection_backlog(connection) < NODE_BACKLOG_BYTES_MAX;
    if (is_below && backlog_before >= NODE_BACKLOG_BYTES_MAX) {
        pump_wake(connection->transport->pump); /* the node has held something back */
    }
}

/* Takes note of `sent` bytes of the pieces; the first that is not wholly among them is what the
 * connection goes on with. Returns its number. */
static uint32_t pieces_consume(struct connection *connection, const struct piece *pieces,
                               uint32_t count, size_t sent)
{
    connection->transport->pump->metrics.bytes_sent_count += sent;
    for (uint32_t i = 0; i < count; i++) {
        size_t left = piece_left(&pieces[i]);
        if (sent < left) {
            connection->piece = pieces[i];
            connection->piece.sent += sent;
            return i;
        }
        sent -= left;
        piece_end(connection, &pieces[i]);
    }
    return count;
}

/* ---- writing ---- */

static void on_written(uv_write_t *request, int status)
{
    struct connection *connection = TL_CAST(connection, request->data, CONNECTION_MAGIC);
    if (connection->state == CONNECTION_CLOSING) {
        return; /* the lanes are cleared when the handles have closed */
    }
    if (status != 0) {
        connection_lost(connection);
        return;
    }
    connection_check(connection);
    TL_ASSERT(connection->is_writing);
    connection->is_writing = false;
    connection->transport->pump->metrics.bytes_sent_count += piece_left(&connection->piece);
    const struct piece piece = connection->piece;
    piece_end(connection, &piece);
    connection_flush(connection);
}

/* The socket takes no more: libuv sends the rest of what was begun when it does. */
static void write_rest(struct connection *connection)
{
    uv_buf_t ranges[2];
    size_t bytes;
    uint32_t count = pieces_ranges(&connection->piece, 1, ranges, &bytes);
    connection->write_request.data = connection;
    int rc = uv_write(&connection->write_request, (uv_stream_t *)&connection->tcp, ranges, count,
                      on_written);
    if (rc != 0) {
        connection_lost(connection);
        return;
    }
    connection->is_writing = true;
}

void connection_flush(struct connection *connection)
{
    connection_check(connection);
    size_t flushed_bytes = 0;
    while (!is_queue_empty(connection) && !connection->is_writing) {
        if (flushed_bytes >= FLUSH_BYTES_MAX) {
            transport_flush_later(connection->transport, connection);
            return;
        }
        struct piece pieces[GATHER_PIECES_MAX];
        uv_buf_t ranges[2 * GATHER_PIECES_MAX];
        size_t bytes;
        uint32_t count = pieces_gather(connection, FLUSH_BYTES_MAX - flushed_bytes, pieces);
        uint32_t ranges_count = pieces_ranges(pieces, count, ranges, &bytes);
        int sent = uv_try_write((uv_stream_t *)&connection->tcp, ranges, ranges_count);
        if (sent < 0 && sent != UV_EAGAIN) {
            connection_lost(connection);
            return;
        }
        if (pieces_consume(connection, pieces, count, sent > 0 ? (size_t)sent : 0) < count) {
            write_rest(connection);
            return;
        }
        flushed_bytes += bytes;
    }
    if (connection->state == CONNECTION_DRAINING && is_queue_empty(connection)) {
        connection_end(connection, END_DONE);
    }
}
