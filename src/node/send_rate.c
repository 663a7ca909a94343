/* send_rate.c - the pace of a snapshot. */

#include "send_rate.h"

#include "trilith/assert.h"

#define SMOOTHING 64u

void send_rate_begin(struct send_rate *rate, uint64_t min, uint64_t now_ns)
{
    rate->min = TL_MIN(TL_MAX(min, SEND_RATE_MIN), SEND_RATE_MAX);
    rate->bytes_per_s = TL_MAX(rate->min, SEND_RATE_FIRST);
    rate->judged_ns = now_ns;
    rate->commits_count = 0;
    rate->slow_count = 0;
}

void send_rate_note_commit(struct send_rate *rate, uint64_t spent_us, bool is_sending)
{
    if (!is_sending) {
        if (rate->usual_us == 0) rate->usual_us = spent_us;
        rate->usual_us = (rate->usual_us * (SMOOTHING - 1) + spent_us) / SMOOTHING;
        return;
    }
    rate->commits_count++;
    uint64_t limit_us = rate->usual_us * SEND_RATE_SLOW_FACTOR + SEND_RATE_SLOW_EXTRA_US;
    if (spent_us > limit_us) rate->slow_count++;
}

void send_rate_judge(struct send_rate *rate, uint64_t now_ns)
{
    if (now_ns < rate->judged_ns + SEND_RATE_JUDGE_NS) return;
    if (rate->slow_count * SEND_RATE_SLOW_SHARE > rate->commits_count) {
        rate->bytes_per_s = TL_MAX(rate->bytes_per_s / 2, rate->min);
    } else {
        rate->bytes_per_s = TL_MIN(rate->bytes_per_s + rate->bytes_per_s / 8, SEND_RATE_MAX);
    }
    rate->judged_ns = now_ns;
    rate->commits_count = 0;
    rate->slow_count = 0;
}

uint64_t send_rate_span_ns(const struct send_rate *rate, uint64_t bytes)
{
    TL_ASSERT(rate->bytes_per_s > 0);
    return bytes * 1000000000u / rate->bytes_per_s;
}
