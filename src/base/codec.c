/* codec.c - bounded cursors. */

#include "trilith/codec.h"

struct reader reader_make(struct bytes source)
{
    static const uint8_t nothing;
    const uint8_t *data = source.data != NULL ? source.data : &nothing;
    return (struct reader){.at = data, .end = data + source.count};
}

struct bytes read_bytes(struct reader *reader, size_t count)
{
    if (reader->failed || reader_left(reader) < count) {
        reader->failed = true;
        return bytes_make(NULL, 0);
    }
    struct bytes result = bytes_make(reader->at, count);
    reader->at += count;
    return result;
}

uint8_t read_u8(struct reader *reader)
{
    struct bytes b = read_bytes(reader, 1);
    return b.count == 1 ? b.data[0] : 0;
}

uint16_t read_u16(struct reader *reader)
{
    struct bytes b = read_bytes(reader, 2);
    return b.count == 2 ? get_u16(b.data) : 0;
}

uint32_t read_u32(struct reader *reader)
{
    struct bytes b = read_bytes(reader, 4);
    return b.count == 4 ? get_u32(b.data) : 0;
}

uint64_t read_u64(struct reader *reader)
{
    struct bytes b = read_bytes(reader, 8);
    return b.count == 8 ? get_u64(b.data) : 0;
}

struct bytes read_block(struct reader *reader)
{
    uint32_t count = read_u32(reader);
    return read_bytes(reader, count);
}

static uint8_t *write_room(struct buf *buf, size_t count)
{
    TL_ASSERT(count <= buf->capacity - buf->count);
    uint8_t *at = buf->data + buf->count;
    buf->count += (uint32_t)count;
    return at;
}

void write_u8(struct buf *buf, uint8_t value)
{
    *write_room(buf, 1) = value;
}

void write_u16(struct buf *buf, uint16_t value)
{
    put_u16(write_room(buf, 2), value);
}

void write_u32(struct buf *buf, uint32_t value)
{
    put_u32(write_room(buf, 4), value);
}

void write_u64(struct buf *buf, uint64_t value)
{
    put_u64(write_room(buf, 8), value);
}

void write_bytes(struct buf *buf, struct bytes source)
{
    uint8_t *at = write_room(buf, source.count);
    if (source.count > 0) {
        memcpy(at, source.data, source.count);
    }
}

void write_block(struct buf *buf, struct bytes source)
{
    TL_ASSERT(source.count <= UINT32_MAX);
    write_u32(buf, (uint32_t)source.count);
    write_bytes(buf, source);
}
