/* buf: references are counted and over-release stops the process. */

#include <criterion/criterion.h>
#include <signal.h>

#include "trilith/buf.h"

Test(buf, compare_is_memcmp_order_with_shorter_first)
{
    cr_assert_lt(bytes_compare(bytes_of("a"), bytes_of("b")), 0);
    cr_assert_lt(bytes_compare(bytes_of("a"), bytes_of("aa")), 0);
    cr_assert_eq(bytes_compare(bytes_make(NULL, 0), bytes_of("")), 0);
    cr_assert_gt(bytes_compare(bytes_of("\xff"), bytes_of("a")), 0, "bytes are unsigned");
}

Test(buf, lives_until_the_last_reference)
{
    struct buf *buf = buf_copy(bytes_of("stone"));
    struct buf *second = buf_acquire(buf);
    buf_release(buf);
    cr_assert(bytes_equal(buf_bytes(second), bytes_of("stone")));
    buf_release(second);
    buf_release(NULL);
}

Test(buf, acquire_of_nothing_held_stops_the_process, .signal = SIGABRT)
{
    struct buf buf = {.refs_count = 0};
    (void)buf_acquire(&buf);
}
