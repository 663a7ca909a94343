/* frame_parts.c - parts of frames: src/wire/FORMAT.md 7. */

#include "trilith/frame_parts.h"

#include <stdlib.h>

#define CAPACITY_FIRST FRAME_PART_BYTES_MAX

void frame_part_head(const struct buf *frame, size_t begin, size_t end,
                     uint8_t out_head[FRAME_HEADER_BYTES])
{
    TL_ASSERT(begin < end);
    TL_ASSERT(end <= frame->count);
    TL_ASSERT(end - begin <= FRAME_PART_BYTES_MAX);
    if (begin == 0) TL_ASSERT(end > FRAME_HEADER_BYTES);
    enum frame_type type = begin == 0 ? FRAME_PART_FIRST : FRAME_PART_NEXT;
    frame_header_encode(type, bytes_make(frame->data + begin, end - begin), out_head);
}

static void check(const struct reassembly *reassembly)
{
    TL_ASSERT(reassembly->count <= reassembly->capacity);
    TL_ASSERT((reassembly->count == 0) == (reassembly->bytes == NULL));
    TL_ASSERT(reassembly->count <= reassembly->frame_bytes);
    TL_ASSERT(reassembly->frame_bytes <= FRAME_HEADER_BYTES + FRAME_PAYLOAD_BYTES_MAX);
}

/* The frame that begins with `part`: one that is sent between peers that have said hello. */
static enum tl_err begin(struct reassembly *reassembly, struct bytes part)
{
    struct frame_header header;
    if (part.count <= FRAME_HEADER_BYTES || frame_header_decode(part.data, &header) != TL_OK) {
        return TL_ERR_INVALID;
    }
    bool is_possible = header.type >= FRAME_RAFT && header.type < FRAME_PART_FIRST;
    size_t frame_bytes = FRAME_HEADER_BYTES + (size_t)header.payload_bytes;
    if (!is_possible || part.count >= frame_bytes) return TL_ERR_INVALID;
    reassembly->header = header;
    reassembly->frame_bytes = frame_bytes;
    return TL_OK;
}

static void append(struct reassembly *reassembly, struct bytes part)
{
    size_t needed = reassembly->count + part.count;
    if (needed > reassembly->capacity) {
        size_t capacity = TL_MAX(TL_MAX(needed, 2 * reassembly->capacity), (size_t)CAPACITY_FIRST);
        reassembly->capacity = TL_MIN(capacity, reassembly->frame_bytes);
        reassembly->bytes = realloc(reassembly->bytes, reassembly->capacity);
        TL_ASSERT(reassembly->bytes != NULL);
    }
    memcpy(reassembly->bytes + reassembly->count, part.data, part.count);
    reassembly->count = needed;
}

enum tl_err reassembly_add(struct reassembly *reassembly, enum frame_type type, struct bytes part,
                           struct frame_header *out_header, struct bytes *out_payload)
{
    check(reassembly);
    bool is_first = type == FRAME_PART_FIRST;
    if (is_first != (reassembly->count == 0) || part.count == 0) return TL_ERR_INVALID;
    if (is_first && begin(reassembly, part) != TL_OK) return TL_ERR_INVALID;
    if (part.count > reassembly->frame_bytes - reassembly->count) return TL_ERR_INVALID;
    append(reassembly, part);
    check(reassembly);
    if (reassembly->count < reassembly->frame_bytes) return TL_ERR_NOT_FOUND;
    struct bytes payload =
        bytes_make(reassembly->bytes + FRAME_HEADER_BYTES, reassembly->header.payload_bytes);
    if (!frame_payload_is_right(&reassembly->header, payload)) return TL_ERR_INVALID;
    *out_header = reassembly->header;
    *out_payload = payload;
    return TL_OK;
}

void reassembly_clear(struct reassembly *reassembly)
{
    free(reassembly->bytes);
    *reassembly = (struct reassembly){.bytes = NULL};
}
