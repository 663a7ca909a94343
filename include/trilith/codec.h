/* codec.h - little-endian integers and bounded cursors over bytes.
 *
 * Role:       The only way integers get into and out of messages and records. A reader never runs
 *             past its end: it latches `failed`, returns zeros, and is asked once at the end.
 * Thread:     pure.
 */

#ifndef TL_CODEC_H
#define TL_CODEC_H

#include "trilith/buf.h"

static inline void put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void put_u32(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static inline void put_u64(uint8_t *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static inline uint16_t get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | (uint16_t)(at[1] << 8));
}

static inline uint32_t get_u32(const uint8_t *at)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++) value |= (uint32_t)at[i] << (8 * i);
    return value;
}

static inline uint64_t get_u64(const uint8_t *at)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++) value |= (uint64_t)at[i] << (8 * i);
    return value;
}

/* Big-endian, for integers inside LMDB keys: memcmp order is numeric order. */
static inline void put_u64_be(uint8_t *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) at[i] = (uint8_t)(value >> (56 - 8 * i));
}

static inline uint64_t get_u64_be(const uint8_t *at)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++) value = (value << 8) | at[i];
    return value;
}

/* Reads a borrowed range from front to back. */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed; /* latched: something was asked that is not there */
};

struct reader reader_make(struct bytes source);
uint8_t read_u8(struct reader *reader);
uint16_t read_u16(struct reader *reader);
uint32_t read_u32(struct reader *reader);
uint64_t read_u64(struct reader *reader);

/* The next `count` bytes, borrowed from the source; an empty range when they are not there. */
struct bytes read_bytes(struct reader *reader, size_t count);

/* A u32 length and that many bytes. */
struct bytes read_block(struct reader *reader);

static inline size_t reader_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* Whether everything asked for was there and nothing is left over. */
static inline bool reader_is_done(const struct reader *reader)
{
    return !reader->failed && reader->at == reader->end;
}

/* Appends to a buf whose capacity the caller made large enough: asserted, not grown. */
void write_u8(struct buf *buf, uint8_t value);
void write_u16(struct buf *buf, uint16_t value);
void write_u32(struct buf *buf, uint32_t value);
void write_u64(struct buf *buf, uint64_t value);
void write_bytes(struct buf *buf, struct bytes source);
void write_block(struct buf *buf, struct bytes source);

#endif
