/* histogram.h - latency histograms with power-of-two buckets split in four, in microseconds.
 *
 * Role:       Counts for /metrics and quantiles for status; error of a quantile <= 25 %.
 * Thread:     owner's.
 */

#ifndef TL_HISTOGRAM_H
#define TL_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS_COUNT 128u

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS_COUNT];
    uint64_t count;
    uint64_t sum_us;
    uint64_t max_us;
};

void histogram_add(struct histogram *histogram, uint64_t value_us);
/* Upper bound of bucket i, inclusive, in microseconds. */
uint64_t histogram_bound_us(uint32_t bucket);
/* Upper bound of the bucket that holds the quantile; 0 when empty. permille: 990 is p99. */
uint64_t histogram_quantile_us(const struct histogram *histogram, uint32_t permille);

#endif
