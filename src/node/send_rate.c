/* send_rate.c - the pace of a snapshot. */

#include "send_rate.h"

#include "trilith/assert.h"

#define SMOOTHING 64u
#define SHARE_SMOOTHING 256u
#define WHOLE 65536u

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
    uint64_t limit_us = rate->usual_us * SEND_RATE_SLOW_FACTOR + SEND_RATE_SLOW_EXTRA_US;
    bool is_slow = rate->usual_us > 0 && spent_us > limit_us;
    if (is_sending) {
        rate->commits_count++;
        if (is_slow) rate->slow_count++;
        return;
    }
    if (rate->usual_us == 0) rate->usual_us = spent_us;
    rate->usual_us = (rate->usual_us * (SMOOTHING - 1) + spent_us) / SMOOTHING;
    rate->usual_slow_share =
        (rate->usual_slow_share * (SHARE_SMOOTHING - 1) + (is_slow ? WHOLE : 0)) / SHARE_SMOOTHING;
}

void send_rate_judge(struct send_rate *rate, uint64_t now_ns)
{
    if (now_ns < rate->judged_ns + SEND_RATE_JUDGE_NS) return;
    uint64_t limit = 2 * rate->usual_slow_share + SEND_RATE_SLOW_SHARE_EXTRA;
    if ((uint64_t)rate->slow_count * WHOLE > limit * rate->commits_count) {
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
