/* histogram.c - log-linear buckets: 0 ... 3 exactly, then four to each power of two. */

#include "trilith/histogram.h"

#include "trilith/assert.h"

static uint32_t bucket_of(uint64_t value)
{
    if (value < 4) {
        return (uint32_t)value;
    }
    uint32_t power = 63u - (uint32_t)__builtin_clzll(value);
    uint32_t quarter = (uint32_t)(value >> (power - 2)) & 3u;
    return TL_MIN((power - 1) * 4 + quarter, HISTOGRAM_BUCKETS_COUNT - 1);
}

void histogram_add(struct histogram *histogram, uint64_t value_us)
{
    histogram->counts[bucket_of(value_us)]++;
    histogram->count++;
    histogram->sum_us += value_us;
    histogram->max_us = TL_MAX(histogram->max_us, value_us);
}

uint64_t histogram_bound_us(uint32_t bucket)
{
    TL_ASSERT(bucket < HISTOGRAM_BUCKETS_COUNT);
    if (bucket < 4) {
        return bucket;
    }
    uint32_t power = bucket / 4 + 1;
    uint64_t quarter = bucket % 4;
    return ((4 + quarter + 1) << (power - 2)) - 1;
}

uint64_t histogram_quantile_us(const struct histogram *histogram, uint32_t permille)
{
    TL_ASSERT(permille <= 1000);
    uint64_t rank = (histogram->count * permille + 999) / 1000;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS_COUNT && histogram->count > 0; i++) {
        seen += histogram->counts[i];
        if (seen >= rank && seen > 0) {
            return TL_MIN(histogram_bound_us(i), histogram->max_us);
        }
    }
    return 0;
}
