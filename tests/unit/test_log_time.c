/* log_time: how fast log time goes, whatever it is asked for. */

#include <criterion/criterion.h>

#include "src/node/log_time.h"
#include "trilith/kv_state.h"
#include "trilith/prng.h"

#define US 1000ull
#define MS 1000000ull
#define S 1000000000ull
#define S_US 1000000ull
#define HOUR_US (3600 * S_US)
#define START_US (1700000000 * S_US)
#define KEEP_REAL_US (150 * S_US)

static struct log_time begun(uint64_t now_ns, uint64_t last_us)
{
    struct log_time time;
    log_time_begin(&time, 1, now_ns, last_us);
    return time;
}

Test(log_time, follows_a_wish_within_its_bounds)
{
    struct log_time time = begun(10 * S, START_US);
    for (uint64_t i = 1; i < 1000; i++) {
        uint64_t wish_us = START_US + i * 10000;
        cr_assert_eq(log_time_advance(&time, 10 * S + i * 10 * MS, wish_us), wish_us);
    }
}

Test(log_time, does_not_jump_when_a_clock_is_set_forward)
{
    struct log_time time = begun(0, START_US);
    uint64_t at_us = log_time_advance(&time, 10 * S, START_US + HOUR_US);
    cr_assert_lt(at_us, START_US + 20 * S_US);
    cr_assert_gt(at_us, START_US + 19 * S_US, "a backlog is caught up at nearly double speed");
}

/* Time in which nothing was proposed close to the limit is not saved up for later. */
Test(log_time, does_not_jump_after_hours_in_which_it_went_as_fast_as_real_time)
{
    struct log_time time = begun(0, START_US);
    uint64_t now_ns = 0;
    for (uint64_t i = 1; i <= 24 * 60; i++) {
        now_ns = i * 60 * S;
        cr_assert_eq(log_time_advance(&time, now_ns, START_US + i * 60 * S_US),
                     START_US + i * 60 * S_US);
    }
    uint64_t before_us = time.time_us;
    uint64_t after_us = log_time_advance(&time, now_ns + 30 * MS, before_us + 24 * HOUR_US);
    cr_assert_leq(after_us, before_us + 60000);
}

Test(log_time, goes_on_when_clocks_stand_still_or_are_set_back)
{
    struct log_time time = begun(0, START_US);
    for (uint64_t i = 1; i <= 100; i++) {
        uint64_t wish_us = i % 2 == 0 ? START_US : START_US - 8 * HOUR_US;
        uint64_t at_us = log_time_advance(&time, i * 10 * S, wish_us);
        cr_assert_geq(at_us, START_US + i * 10 * S_US * 7 / 8);
        cr_assert_leq(at_us, START_US + i * 10 * S_US);
    }
}

Test(log_time, clocks_that_were_set_back_are_met_in_the_end)
{
    struct log_time time = begun(0, START_US + HOUR_US); /* an hour ahead of all clocks */
    uint64_t i = 0;
    while (log_time_advance(&time, i * 60 * S, START_US + i * 60 * S_US) !=
           START_US + i * 60 * S_US) {
        cr_assert_lt(i++, 8 * 60 + 1);
    }
}

/* An entry that was made without a wish, and one with a token right behind it. */
Test(log_time, the_first_wish_of_a_moment_decides)
{
    struct log_time time = begun(0, START_US);
    cr_assert_eq(log_time_advance(&time, 3600 * S, START_US + HOUR_US), START_US + HOUR_US);
    for (uint32_t i = 0; i < 300; i++) {
        cr_assert_eq(log_time_advance(&time, 3600 * S, UINT64_MAX), START_US + HOUR_US);
    }
    cr_assert_eq(log_time_advance(&time, S, 0), START_US + HOUR_US,
                 "an earlier moment is that one");
}

/* Turns of 7 us lose as little as one long one, and gain no more. */
Test(log_time, many_short_turns_are_as_one_long_one)
{
    struct log_time slow = begun(0, START_US);
    struct log_time fast = begun(0, START_US);
    for (uint64_t now_ns = 0; now_ns <= S; now_ns += 7300) {
        (void)log_time_advance(&slow, now_ns, 0);
        (void)log_time_advance(&fast, now_ns, UINT64_MAX);
    }
    cr_assert_geq(slow.time_us, START_US + S_US * 7 / 8 - 10);
    cr_assert_leq(fast.time_us, START_US + S_US * 63 / 32);
    cr_assert_geq(fast.time_us, START_US + S_US * 3 / 2);
}

Test(log_time, says_how_long_to_wait_and_that_is_enough)
{
    struct log_time time = begun(0, START_US);
    (void)log_time_advance(&time, S, START_US + S_US);
    static const uint64_t ahead_us[] = {0, 1, 2, 31, 32, 33, 1000, 1000000, 10 * S_US, HOUR_US};
    for (size_t i = 0; i < TL_COUNT_OF(ahead_us); i++) {
        struct log_time copy = time;
        uint64_t wanted_us = time.time_us + ahead_us[i];
        uint64_t wait_ns = log_time_wait_ns(&time, wanted_us);
        cr_assert_eq(wait_ns == 0, ahead_us[i] == 0);
        cr_assert_geq(log_time_advance(&copy, S + wait_ns, wanted_us), wanted_us);
    }
    cr_assert_eq(log_time_wait_ns(&time, UINT64_MAX), UINT64_MAX);
}

Test(log_time, says_in_how_many_seconds_it_has_risen)
{
    static const uint64_t spans_us[] = {0, 1, 999999, 1000000, 60 * S_US + 1, 300 * S_US};
    for (size_t i = 0; i < TL_COUNT_OF(spans_us); i++) {
        struct log_time time = begun(0, START_US);
        uint64_t seconds = log_time_seconds_until(spans_us[i]);
        cr_assert_geq(log_time_advance(&time, seconds * S, 0), START_US + spans_us[i]);
        cr_assert_leq(seconds, spans_us[i] / S_US * 8 / 7 + 2);
    }
}

Test(log_time, ends_at_the_largest_number)
{
    struct log_time time = begun(0, UINT64_MAX - 5);
    cr_assert_eq(log_time_advance(&time, 3600 * S, UINT64_MAX), UINT64_MAX);
    cr_assert_eq(log_time_advance(&time, 7200 * S, 0), UINT64_MAX);
}

/* The promise of API.md: five minutes of log time are never less than 150 s of real time. Leaders
 * follow each other, each for a span drawn anew, with wishes that jump by days and a burst of
 * entries in each; leaders' clocks run up to 1.5 % fast. */
static uint64_t real_us_of_keep(struct prng *prng, uint64_t span_max_us, uint64_t fast_ppm)
{
    uint64_t last_us = START_US;
    uint64_t real_us = 0;
    while (last_us - START_US <= RECORD_KEEP_US) {
        struct log_time time = begun(S, last_us);
        uint64_t span_us = prng_between(prng, 1, span_max_us);
        uint64_t steps_count = prng_between(prng, 1, 20);
        for (uint64_t i = 1; i <= steps_count; i++) {
            uint64_t elapsed_us = span_us * i / steps_count;
            uint64_t clock_us = elapsed_us + elapsed_us * fast_ppm / 1000000;
            uint64_t wish_us = prng_chance(prng, 200000) ? 0 : START_US + 24 * HOUR_US;
            uint64_t time_us = log_time_advance(&time, S + clock_us * US, wish_us);
            last_us = TL_MAX(time_us, last_us + 1);
        }
        real_us += span_us;
    }
    return real_us;
}

Test(log_time, five_minutes_are_never_less_than_150_s_however_often_the_leader_changes)
{
    struct prng prng;
    prng_init(&prng, 7);
    static const uint64_t spans_us[] = {100000, 1000000, 3000000, 60000000, 600000000};
    for (uint32_t i = 0; i < 200; i++) {
        uint64_t span_us = spans_us[i % TL_COUNT_OF(spans_us)];
        uint64_t fast_ppm = i % 2 == 0 ? 0 : 15000;
        uint64_t real_us = real_us_of_keep(&prng, span_us, fast_ppm);
        cr_assert_geq(real_us, KEEP_REAL_US, "spans of %llu us: %llu us",
                      (unsigned long long)span_us, (unsigned long long)real_us);
    }
}
