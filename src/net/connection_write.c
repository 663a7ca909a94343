/* connection_write.c - the bytes a connection sends.
 *
 * Frames wait in a ring and leave together: first as far as the socket takes them at once, without
 * a request of libuv; the rest in one uv_write, during which newer frames wait in the ring again.
 * So a healthy connection costs one system call a turn, and a slow one a bounded ring.
 */

#include "net_internal.h"

static struct buf *queue_at(const struct connection *connection, uint32_t i)
{
    return connection->queue[(connection->queue_first + i) % PUMP_QUEUE_FRAMES_MAX];
}

static void queue_drop_first(struct connection *connection)
{
    struct buf *frame = queue_at(connection, 0);
    connection->queue_bytes -= frame->count;
    connection->queue_first = (connection->queue_first + 1) % PUMP_QUEUE_FRAMES_MAX;
    connection->queue_count--;
    connection->queue_offset = 0;
    buf_release(frame);
}

void connection_queue_clear(struct connection *connection)
{
    connection->writing_count = 0;
    while (connection->queue_count > 0) queue_drop_first(connection);
}

bool connection_queue(struct connection *connection, struct buf *frame)
{
    connection_check(connection);
    TL_ASSERT(connection->state >= CONNECTION_GREETING);
    TL_ASSERT(connection->state < CONNECTION_CLOSING);
    TL_ASSERT(frame->count >= FRAME_HEADER_BYTES);
    TL_ASSERT(frame->count <= FRAME_HEADER_BYTES + FRAME_PAYLOAD_BYTES_MAX);
    if (connection->queue_count == PUMP_QUEUE_FRAMES_MAX ||
        connection->queue_bytes + frame->count > PUMP_QUEUE_BYTES_MAX) {
        connection->transport->pump->metrics.frames_dropped_count++;
        buf_release(frame);
        return false;
    }
    uint32_t last = (connection->queue_first + connection->queue_count) % PUMP_QUEUE_FRAMES_MAX;
    connection->queue[last] = frame;
    connection->queue_count++;
    connection->queue_bytes += frame->count;
    transport_mark_dirty(connection->transport, connection);
    connection_check(connection);
    return true;
}

/* The unsent bytes of the first frames of the ring. */
static uint32_t gather(const struct connection *connection, uv_buf_t iovs[CONNECTION_IOVS_MAX],
                       size_t *out_bytes)
{
    uint32_t count = TL_MIN(connection->queue_count, CONNECTION_IOVS_MAX);
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct buf *frame = queue_at(connection, i);
        size_t offset = i == 0 ? connection->queue_offset : 0;
        iovs[i] = uv_buf_init((char *)frame->data + offset, (unsigned)(frame->count - offset));
        bytes += iovs[i].len;
    }
    *out_bytes = bytes;
    return count;
}

static void consume(struct connection *connection, size_t bytes)
{
    connection->transport->pump->metrics.bytes_sent_count += bytes;
    while (bytes > 0) {
        size_t left = queue_at(connection, 0)->count - connection->queue_offset;
        if (bytes < left) {
            connection->queue_offset += bytes;
            return;
        }
        bytes -= left;
        queue_drop_first(connection);
    }
}

static void on_written(uv_write_t *request, int status)
{
    struct connection *connection = TL_CAST(connection, request->data, CONNECTION_MAGIC);
    if (connection->state == CONNECTION_CLOSING) {
        return; /* the ring is cleared when the handles have closed */
    }
    if (status != 0) {
        connection_lost(connection);
        return;
    }
    connection_check(connection);
    TL_ASSERT(connection->writing_count > 0);
    size_t bytes = 0;
    for (uint32_t i = 0; i < connection->writing_count; i++) {
        bytes += queue_at(connection, i)->count;
    }
    bytes -= connection->queue_offset;
    connection->writing_count = 0;
    consume(connection, bytes);
    connection_flush(connection);
}

/* The socket's buffer is full. */
static void write_rest(struct connection *connection)
{
    uv_buf_t iovs[CONNECTION_IOVS_MAX];
    size_t bytes;
    uint32_t count = gather(connection, iovs, &bytes);
    connection->write_request.data = connection;
    int rc = uv_write(&connection->write_request, (uv_stream_t *)&connection->tcp, iovs, count,
                      on_written);
    if (rc != 0) {
        connection_lost(connection);
        return;
    }
    connection->writing_count = count;
}

void connection_flush(struct connection *connection)
{
    connection_check(connection);
    while (connection->queue_count > 0 && connection->writing_count == 0) {
        uv_buf_t iovs[CONNECTION_IOVS_MAX];
        size_t bytes;
        uint32_t count = gather(connection, iovs, &bytes);
        int sent = uv_try_write((uv_stream_t *)&connection->tcp, iovs, count);
        if (sent < 0 && sent != UV_EAGAIN) {
            connection_lost(connection);
            return;
        }
        consume(connection, sent > 0 ? (size_t)sent : 0);
        if (sent < 0 || (size_t)sent < bytes) {
            write_rest(connection);
            return;
        }
    }
    if (connection->state == CONNECTION_DRAINING && connection->queue_count == 0) {
        connection_end(connection, END_DONE);
    }
}
