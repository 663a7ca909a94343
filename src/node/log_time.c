/* log_time.c - log time from the monotonic clock of the leader. */

#include "log_time.h"

#include "trilith/assert.h"

#define NS_PER_US 1000u
#define US_PER_S 1000000u
#define SLOWER_SHARE 8u  /* log time may lose an eighth of what the clock counts */
#define FASTER_SHARE 32u /* and gain it all, less a 32nd */

/* Times come from logs and from clients: they may be anything. */
static uint64_t add(uint64_t time_us, uint64_t span_us)
{
    return time_us > UINT64_MAX - span_us ? UINT64_MAX : time_us + span_us;
}

static uint64_t slowest(uint64_t elapsed_us)
{
    return elapsed_us - elapsed_us / SLOWER_SHARE;
}

/* Rounded down, so that many short turns do not add up to more than one long one. */
static uint64_t fastest(uint64_t elapsed_us)
{
    uint64_t lost_us = (elapsed_us + FASTER_SHARE - 1) / FASTER_SHARE;
    return add(elapsed_us, elapsed_us - lost_us);
}

void log_time_begin(struct log_time *time, uint64_t term, uint64_t now_ns, uint64_t last_us)
{
    *time = (struct log_time){.term = term, .at_ns = now_ns, .time_us = last_us};
}

uint64_t log_time_advance(struct log_time *time, uint64_t now_ns, uint64_t wish_us)
{
    uint64_t elapsed_us = now_ns > time->at_ns ? (now_ns - time->at_ns) / NS_PER_US : 0;
    uint64_t least_us = add(time->time_us, slowest(elapsed_us));
    uint64_t most_us = add(time->time_us, fastest(elapsed_us));
    TL_ASSERT(least_us <= most_us);
    time->at_ns += elapsed_us * NS_PER_US; /* the rest of a microsecond counts next time */
    time->time_us = TL_MIN(TL_MAX(wish_us, least_us), most_us);
    return time->time_us;
}

uint64_t log_time_wait_ns(const struct log_time *time, uint64_t time_us)
{
    if (time_us <= time->time_us) return 0;
    uint64_t missing_us = time_us - time->time_us;
    /* 1/2 + 1/64 is more than 32/63, and the 1 is what fastest() rounds down. */
    uint64_t elapsed_us = missing_us / 2 + missing_us / (2 * FASTER_SHARE) + 1;
    return elapsed_us > UINT64_MAX / NS_PER_US ? UINT64_MAX : elapsed_us * NS_PER_US;
}

uint64_t log_time_seconds_until(uint64_t span_us)
{
    uint64_t elapsed_us = add(span_us, span_us / (SLOWER_SHARE - 1));
    return elapsed_us / US_PER_S + 1;
}
