/* frame_parts.h - a large frame on its way in parts, between which small ones may travel.
 *
 * Role:       Cuts a sealed frame into parts, each a frame of its own (src/wire/FORMAT.md 7), and
 *             puts it together again. A connection carries the parts of one frame at a time.
 * Thread:     pure.
 * Errors:     TL_ERR_INVALID for parts that no sender makes; the connection is to be closed.
 * Limits:     FRAME_PART_BYTES_MAX. Memory grows with the bytes that have arrived, not with what
 *             the first part announces: at most twice as many, and at most one frame.
 */

#ifndef TL_FRAME_PARTS_H
#define TL_FRAME_PARTS_H

#include "trilith/frame.h"

/* The header of the part that carries bytes [begin, end) of the sealed frame. */
void frame_part_head(const struct buf *frame, size_t begin, size_t end,
                     uint8_t out_head[FRAME_HEADER_BYTES]);

/* Zeros: nothing has arrived. */
struct reassembly {
    uint8_t *bytes; /* of the frame, its header first; owned */
    size_t count;
    size_t capacity;
    size_t frame_bytes; /* what they will be */
    struct frame_header header;
};

/* Adds the payload of a frame of type FRAME_PART_FIRST or FRAME_PART_NEXT that has passed its
 * checksum.
 *
 * TL_OK             the frame is whole and right: out_header, and out_payload until
 *                   reassembly_clear(), which has to follow.
 * TL_ERR_NOT_FOUND  more parts have to come.
 * TL_ERR_INVALID    the part does not continue the frame, or is not the begin of one that may
 *                   travel in parts, or the whole does not pass its checksum. */
TL_MUST_CHECK enum tl_err reassembly_add(struct reassembly *reassembly, enum frame_type type,
                                         struct bytes part, struct frame_header *out_header,
                                         struct bytes *out_payload);
void reassembly_clear(struct reassembly *reassembly);

#endif
