/* send_rate: the pace of a snapshot beside log commits. */

#include <criterion/criterion.h>

#include "src/node/send_rate.h"

#define INTERVAL SEND_RATE_JUDGE_NS

static void commits(struct send_rate *rate, uint32_t count, uint64_t spent_us, bool is_sending)
{
    for (uint32_t i = 0; i < count; i++) send_rate_note_commit(rate, spent_us, is_sending);
}

Test(send_rate, creeps_up_while_commits_are_as_usual_and_has_an_upper_end)
{
    struct send_rate rate = {0};
    commits(&rate, 500, 1000, false);
    send_rate_begin(&rate, 0, 0);
    cr_assert_eq(rate.bytes_per_s, SEND_RATE_FIRST);
    for (uint64_t i = 1; i < 100; i++) {
        commits(&rate, 50, 1500, true);
        send_rate_judge(&rate, i * INTERVAL);
    }
    cr_assert_eq(rate.bytes_per_s, SEND_RATE_MAX);
}

Test(send_rate, is_halved_while_commits_are_slow_and_has_a_lower_end)
{
    struct send_rate rate = {0};
    commits(&rate, 500, 1000, false);
    send_rate_begin(&rate, 0, 0);
    commits(&rate, 40, 1000, true);
    commits(&rate, 10, 20000, true);
    send_rate_judge(&rate, INTERVAL);
    cr_assert_eq(rate.bytes_per_s, SEND_RATE_FIRST / 2);
    for (uint64_t i = 2; i < 20; i++) {
        commits(&rate, 10, 20000, true);
        send_rate_judge(&rate, i * INTERVAL);
    }
    cr_assert_eq(rate.bytes_per_s, SEND_RATE_MIN);
}

Test(send_rate, takes_no_notice_of_as_many_slow_commits_as_there_always_are)
{
    struct send_rate rate = {0};
    for (uint32_t i = 0; i < 500; i++) {
        commits(&rate, 9, 1000, false);
        commits(&rate, 1, 20000, false);
    }
    send_rate_begin(&rate, 0, 0);
    commits(&rate, 90, 1000, true);
    commits(&rate, 10, 20000, true);
    send_rate_judge(&rate, INTERVAL);
    cr_assert_gt(rate.bytes_per_s, SEND_RATE_FIRST);
}

Test(send_rate, goes_up_when_nobody_writes)
{
    struct send_rate rate = {0};
    send_rate_begin(&rate, 0, 0);
    send_rate_judge(&rate, INTERVAL - 1);
    cr_assert_eq(rate.bytes_per_s, SEND_RATE_FIRST, "not judged yet");
    send_rate_judge(&rate, INTERVAL);
    cr_assert_gt(rate.bytes_per_s, SEND_RATE_FIRST);
}

Test(send_rate, does_not_fall_below_what_a_transfer_in_a_hurry_asks_for)
{
    struct send_rate rate = {0};
    commits(&rate, 500, 1000, false);
    send_rate_begin(&rate, 2 * SEND_RATE_FIRST, 0);
    cr_assert_eq(rate.bytes_per_s, 2 * SEND_RATE_FIRST);
    commits(&rate, 10, 20000, true);
    send_rate_judge(&rate, INTERVAL);
    cr_assert_eq(rate.bytes_per_s, 2 * SEND_RATE_FIRST);
}

Test(send_rate, spans_what_the_bytes_take)
{
    struct send_rate rate = {0};
    send_rate_begin(&rate, 0, 0);
    cr_assert_eq(send_rate_span_ns(&rate, SEND_RATE_FIRST), 1000000000u);
    cr_assert_eq(send_rate_span_ns(&rate, SEND_RATE_FIRST / 4), 250000000u);
}
