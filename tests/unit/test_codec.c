/* codec: a reader never runs past its end, and what is written is read back. */

#include <criterion/criterion.h>
#include <signal.h>

#include "trilith/codec.h"

Test(codec, integers_are_read_back)
{
    struct buf *buf = buf_create(64);
    write_u8(buf, 0xab);
    write_u16(buf, 0xbeef);
    write_u32(buf, 0xdeadbeef);
    write_u64(buf, 0x0123456789abcdefu);
    write_block(buf, bytes_of("stone"));

    struct reader reader = reader_make(buf_bytes(buf));
    cr_assert_eq(read_u8(&reader), 0xab);
    cr_assert_eq(read_u16(&reader), 0xbeef);
    cr_assert_eq(read_u32(&reader), 0xdeadbeef);
    cr_assert_eq(read_u64(&reader), 0x0123456789abcdefu);
    cr_assert(bytes_equal(read_block(&reader), bytes_of("stone")));
    cr_assert(reader_is_done(&reader));
    buf_release(buf);
}

Test(codec, short_source_latches_failed)
{
    const uint8_t three[] = {1, 2, 3};
    struct reader reader = reader_make(bytes_make(three, sizeof three));
    cr_assert_eq(read_u32(&reader), 0);
    cr_assert(reader.failed);
    cr_assert_eq(read_u8(&reader), 0, "latched: even what is there is not given");
    cr_assert_not(reader_is_done(&reader));
}

Test(codec, block_longer_than_source_fails)
{
    const uint8_t lying[] = {0xff, 0xff, 0xff, 0xff, 'x'};
    struct reader reader = reader_make(bytes_make(lying, sizeof lying));
    cr_assert_eq(read_block(&reader).count, 0);
    cr_assert(reader.failed);
}

Test(codec, big_endian_orders_as_numbers)
{
    uint8_t low[8];
    uint8_t high[8];
    put_u64_be(low, 255);
    put_u64_be(high, 256);
    cr_assert_lt(memcmp(low, high, 8), 0);
    cr_assert_eq(get_u64_be(high), 256);
}

Test(codec, write_past_capacity_stops_the_process, .signal = SIGABRT)
{
    struct buf *buf = buf_create(3);
    write_u32(buf, 1);
}
