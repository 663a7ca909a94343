/* frame_parts: what is cut is put together again, and what nobody has cut is refused. */

#include <criterion/criterion.h>
#include <stdlib.h>

#include "trilith/frame_parts.h"
#include "wire_samples.h"

static struct reassembly reassembly;

static void teardown(void)
{
    reassembly_clear(&reassembly);
}

TestSuite(frame_parts, .fini = teardown, .timeout = 30);

static struct buf *frame_of(enum frame_type type, size_t payload_bytes)
{
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + payload_bytes);
    frame->count = (uint32_t)(FRAME_HEADER_BYTES + payload_bytes);
    for (size_t i = 0; i < payload_bytes; i++) {
        frame->data[FRAME_HEADER_BYTES + i] = (uint8_t)(i * 31 + i / 251);
    }
    frame_seal(frame, type);
    return frame;
}

/* As a connection hands it on: its own header is right. */
static enum tl_err add(const struct buf *frame, size_t begin, size_t end,
                       struct frame_header *out_header, struct bytes *out_payload)
{
    uint8_t head[FRAME_HEADER_BYTES];
    struct frame_header header;
    struct bytes part = bytes_make(frame->data + begin, end - begin);
    frame_part_head(frame, begin, end, head);
    cr_assert_eq(frame_header_decode(head, &header), TL_OK);
    cr_assert_eq(header.type, begin == 0 ? FRAME_PART_FIRST : FRAME_PART_NEXT);
    cr_assert(frame_payload_is_right(&header, part));
    return reassembly_add(&reassembly, header.type, part, out_header, out_payload);
}

static void check_round(size_t payload_bytes, size_t part_bytes)
{
    struct buf *frame = frame_of(FRAME_RAFT, payload_bytes);
    struct frame_header header;
    struct bytes payload;
    for (size_t begin = 0; begin < frame->count; begin += part_bytes) {
        size_t end = TL_MIN(begin + part_bytes, (size_t)frame->count);
        enum tl_err err = add(frame, begin, end, &header, &payload);
        cr_assert_eq(err, end == frame->count ? TL_OK : TL_ERR_NOT_FOUND);
    }
    cr_assert_eq(header.type, FRAME_RAFT);
    cr_assert(bytes_equal(payload, bytes_make(frame->data + FRAME_HEADER_BYTES, payload_bytes)));
    reassembly_clear(&reassembly);
    buf_release(frame);
}

Test(frame_parts, frame_is_whole_again_whatever_the_cuts)
{
    check_round(2, FRAME_HEADER_BYTES + 1);
    check_round(1000, 25);
    check_round(1000, 1000);
    check_round(FRAME_PART_BYTES_MAX, FRAME_PART_BYTES_MAX);
    check_round(1024 * 1024, 65536);
    check_round(FRAME_PAYLOAD_BYTES_MAX, FRAME_PART_BYTES_MAX);
}

Test(frame_parts, are_the_documented_ones)
{
    static const size_t at[] = {0, 40, 56};
    static const char *const names[] = {"part_first", "part_next"};
    struct buf *frame = sample_leader_transfer();
    cr_assert_eq(frame->count, at[2]);
    for (size_t i = 0; i < TL_COUNT_OF(names); i++) {
        struct buf *part = buf_create(FRAME_HEADER_BYTES + at[i + 1] - at[i]);
        frame_part_head(frame, at[i], at[i + 1], part->data);
        part->count = FRAME_HEADER_BYTES;
        write_bytes(part, bytes_make(frame->data + at[i], at[i + 1] - at[i]));
        assert_is_format_example(names[i], buf_bytes(part));
        buf_release(part);
    }
    buf_release(frame);
}

/* What is announced is not what is allocated. */
Test(frame_parts, memory_grows_with_what_has_arrived)
{
    struct buf *frame = frame_of(FRAME_RAFT, FRAME_PAYLOAD_BYTES_MAX);
    struct frame_header header;
    struct bytes payload;
    for (size_t begin = 0; begin + 1000 < 1024 * 1024; begin += 1000) {
        cr_assert_eq(add(frame, begin, begin + 1000, &header, &payload), TL_ERR_NOT_FOUND);
        cr_assert_leq(reassembly.capacity,
                      TL_MAX(2 * reassembly.count, (size_t)FRAME_PART_BYTES_MAX));
    }
    buf_release(frame);
}

/* ---- hostile senders ---- */

static enum tl_err add_bytes(enum frame_type type, struct bytes part)
{
    struct frame_header header;
    struct bytes payload;
    return reassembly_add(&reassembly, type, part, &header, &payload);
}

Test(frame_parts, parts_out_of_order_are_refused)
{
    struct buf *frame = frame_of(FRAME_RAFT, 1000);
    struct bytes first = bytes_make(frame->data, 100);
    cr_assert_eq(add_bytes(FRAME_PART_NEXT, first), TL_ERR_INVALID, "of no frame");
    cr_assert_eq(add_bytes(FRAME_PART_FIRST, first), TL_ERR_NOT_FOUND);
    cr_assert_eq(add_bytes(FRAME_PART_FIRST, first), TL_ERR_INVALID, "another one is open");
    cr_assert_eq(add_bytes(FRAME_PART_NEXT, bytes_make(NULL, 0)), TL_ERR_INVALID, "nothing");
    cr_assert_eq(add_bytes(FRAME_PART_NEXT, bytes_make(frame->data, 925)), TL_ERR_INVALID,
                 "a byte too many");
    buf_release(frame);
}

Test(frame_parts, first_part_must_begin_a_frame_that_needs_parts)
{
    static const enum frame_type types[] = {FRAME_HELLO, FRAME_BIRTH};
    for (size_t i = 0; i < TL_COUNT_OF(types); i++) {
        struct buf *frame = frame_of(types[i], 1000);
        cr_assert_eq(add_bytes(FRAME_PART_FIRST, bytes_make(frame->data, 100)), TL_ERR_INVALID);
        buf_release(frame);
    }
    struct buf *frame = frame_of(FRAME_RAFT, 1000);
    cr_assert_eq(add_bytes(FRAME_PART_FIRST, bytes_make(frame->data, FRAME_HEADER_BYTES)),
                 TL_ERR_INVALID, "nothing but the header");
    cr_assert_eq(add_bytes(FRAME_PART_FIRST, bytes_make(frame->data, 10)), TL_ERR_INVALID);
    cr_assert_eq(add_bytes(FRAME_PART_FIRST, buf_bytes(frame)), TL_ERR_INVALID, "a whole frame");
    cr_assert_eq(add_bytes(FRAME_PART_FIRST, bytes_make(frame->data + 1, 100)), TL_ERR_INVALID);
    frame->data[4] = FRAME_PART_FIRST; /* parts of parts */
    cr_assert_eq(add_bytes(FRAME_PART_FIRST, bytes_make(frame->data, 100)), TL_ERR_INVALID);
    frame->data[4] = FRAME_RAFT;
    put_u32(frame->data + 8, FRAME_PAYLOAD_BYTES_MAX + 1);
    cr_assert_eq(add_bytes(FRAME_PART_FIRST, bytes_make(frame->data, 100)), TL_ERR_INVALID);
    cr_assert_null(reassembly.bytes, "nothing was kept of all these");
    buf_release(frame);
}

/* Each part is right in itself. */
Test(frame_parts, whole_frame_must_pass_its_checksum)
{
    struct buf *frame = frame_of(FRAME_RAFT, 1000);
    frame->data[500] ^= 1;
    cr_assert_eq(add_bytes(FRAME_PART_FIRST, bytes_make(frame->data, 100)), TL_ERR_NOT_FOUND);
    cr_assert_eq(add_bytes(FRAME_PART_NEXT, bytes_make(frame->data + 100, frame->count - 100)),
                 TL_ERR_INVALID);
    buf_release(frame);
}

Test(frame_parts, part_is_limited_by_its_type)
{
    struct buf *frame = frame_of(FRAME_RAFT, 1000);
    uint8_t head[FRAME_HEADER_BYTES];
    struct frame_header header;
    frame_part_head(frame, 0, 100, head);
    put_u32(head + 8, FRAME_PART_BYTES_MAX);
    cr_assert_eq(frame_header_decode(head, &header), TL_OK);
    put_u32(head + 8, FRAME_PART_BYTES_MAX + 1);
    cr_assert_eq(frame_header_decode(head, &header), TL_ERR_INVALID);
    buf_release(frame);
}
