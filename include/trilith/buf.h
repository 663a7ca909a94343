/* buf.h - borrowed byte ranges and reference-counted buffers.
 *
 * Role:       `struct bytes` borrows; `struct buf` owns. Values and log entries pass from the
 *             socket to the log, the peers and the table as one buf and are never copied on the
 *             way.
 * Thread:     any, but one at a time: the reference count is not atomic. A thread that is handed a
 *             buf for a job (log writer, flusher) borrows it until the job's completion has been
 *             received; only the owner's thread acquires and releases.
 * Errors:     allocation failure ends the process (TL_ASSERT): after start, being out of memory is
 *             a crash, and a crash is what recovery is tested for.
 */

#ifndef TL_BUF_H
#define TL_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "trilith/assert.h"

/* A borrowed range. `data` may be NULL only when count is 0. */
struct bytes {
    const uint8_t *data;
    size_t count;
};

static inline struct bytes bytes_make(const void *data, size_t count)
{
    return (struct bytes){.data = data, .count = count};
}

/* Of a C string, without its NUL. */
static inline struct bytes bytes_of(const char *text)
{
    return bytes_make(text, strlen(text));
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.count == b.count && (a.count == 0 || memcmp(a.data, b.data, a.count) == 0);
}

/* memcmp order, the shorter first when one is a prefix of the other (LMDB's order). */
int bytes_compare(struct bytes a, struct bytes b);

/* One allocation: this header and `capacity` bytes of data. */
struct buf {
    uint32_t refs_count;
    uint32_t count;    /* bytes in use */
    uint32_t capacity; /* bytes allocated behind the header */
    uint32_t reserved;
    uint8_t data[];
};

/* A new buffer with count 0 and one reference. capacity <= BUF_BYTES_MAX. */
#define BUF_BYTES_MAX (64u * 1024u * 1024u)
struct buf *buf_create(size_t capacity);

/* A new buffer that holds a copy of `source`. */
struct buf *buf_copy(struct bytes source);

/* One more reference; returns its argument. */
static inline struct buf *buf_acquire(struct buf *buf)
{
    TL_ASSERT(buf->refs_count > 0);
    buf->refs_count++;
    return buf;
}

/* Gives one reference back and frees the buffer with the last one. Accepts NULL. */
void buf_release(struct buf *buf);

static inline struct bytes buf_bytes(const struct buf *buf)
{
    return bytes_make(buf->data, buf->count);
}

#endif
