/* buf.c - reference-counted buffers. */

#include "trilith/buf.h"

#include <stdlib.h>

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t shared = TL_MIN(a.count, b.count);
    int order = shared == 0 ? 0 : memcmp(a.data, b.data, shared);
    if (order != 0) {
        return order;
    }
    return (a.count > b.count) - (a.count < b.count);
}

struct buf *buf_create(size_t capacity)
{
    TL_ASSERT(capacity <= BUF_BYTES_MAX);
    struct buf *buf = malloc(sizeof *buf + capacity);
    TL_ASSERT(buf != NULL);
    *buf = (struct buf){.refs_count = 1, .capacity = (uint32_t)capacity};
    return buf;
}

struct buf *buf_copy(struct bytes source)
{
    struct buf *buf = buf_create(source.count);
    if (source.count > 0) {
        memcpy(buf->data, source.data, source.count);
    }
    buf->count = (uint32_t)source.count;
    return buf;
}

void buf_release(struct buf *buf)
{
    if (buf == NULL) {
        return;
    }
    TL_ASSERT(buf->refs_count > 0);
    buf->refs_count--;
    if (buf->refs_count == 0) {
        free(buf);
    }
}
