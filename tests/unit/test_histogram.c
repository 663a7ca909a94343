/* histogram: quantiles are within a quarter, bounds rise. */

#include <criterion/criterion.h>

#include "trilith/histogram.h"

Test(histogram, bounds_rise_and_hold_their_values)
{
    for (uint32_t i = 1; i < HISTOGRAM_BUCKETS_COUNT; i++) {
        cr_assert_gt(histogram_bound_us(i), histogram_bound_us(i - 1), "bucket %u", i);
    }
}

Test(histogram, quantile_is_within_a_quarter)
{
    for (uint64_t value = 1; value < 10000000; value = value * 3 + 1) {
        struct histogram histogram = {.count = 0};
        for (int i = 0; i < 100; i++) histogram_add(&histogram, value);
        histogram_add(&histogram, value * 100);
        uint64_t p50 = histogram_quantile_us(&histogram, 500);
        cr_assert_geq(p50, value);
        cr_assert_leq(p50, value + value / 4 + 1, "value %lu", (unsigned long)value);
    }
}

Test(histogram, empty_has_quantile_zero)
{
    struct histogram histogram = {.count = 0};
    cr_assert_eq(histogram_quantile_us(&histogram, 990), 0);
}
