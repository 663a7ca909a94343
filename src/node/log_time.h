/* log_time.h - how fast log time may go while a node leads a group.
 *
 * Role:       Bounds an entry's time on both sides by the leader's monotonic clock. What a record's
 *             age is measured in must neither jump when a wall clock is set forward, or is replaced
 *             by one that is right, nor stop when it is set back or does not move. Knows no clock:
 *             the caller brings the monotonic time, and a wish that comes from wall clocks or from
 *             a client's causal token.
 * Thread:     pure.
 *
 * While a node leads, log time goes on from the time of the last entry that was in the log when its
 * leadership began, at no less than 7/8 and no more than 63/32 of the rate of its monotonic clock.
 * Between them it follows the wish: a clock that is ahead, or a backlog of hours, is caught up at
 * nearly double speed, and log time that is ahead of the clocks slows down by an eighth until they
 * have caught up with it.
 *
 * Why 300 s of log time are never less than 150 s of real time, whatever wall clocks say and
 * however often the leader changes: let entry B follow entry A in one log. A leadership whose
 * entries are between them began after it had received its predecessor's last entry that is there,
 * hence after that one was made; so the spans of time in which the entries between A and B were
 * made do not overlap, and they are parts of the time that passed between A and B. In each span log
 * time rose by at most 63/32 of its length, and nothing is granted between spans: neither per
 * leadership nor per entry. 300 s take 152.3 s, and what is left covers monotonic clocks that run
 * 1.5 % fast. Times also rise by at least one microsecond per entry, which is not charged: that
 * adds up only where a leader makes two entries in each microsecond.
 */

#ifndef TL_LOG_TIME_H
#define TL_LOG_TIME_H

#include <stdint.h>

/* Log time while one node leads one group, in one term. */
struct log_time {
    uint64_t term;    /* that it is of; 0: none */
    uint64_t at_ns;   /* monotonic, of the last advance */
    uint64_t time_us; /* log time then */
};

/* A leadership began at `now_ns`, when the last entry of the log was of `last_us`. */
void log_time_begin(struct log_time *time, uint64_t term, uint64_t now_ns, uint64_t last_us);

/* The time now, as near to the wish as the bounds allow. Does not fall; an earlier now_ns than the
 * last one counts as that. The first wish of a moment decides: what it did not use of the bound is
 * lost, or an entry made in between would be older at once than the bound allows. */
uint64_t log_time_advance(struct log_time *time, uint64_t now_ns, uint64_t wish_us);

/* How long after the last advance `time_us` is within the bounds. */
uint64_t log_time_wait_ns(const struct log_time *time, uint64_t time_us);

/* In how many whole seconds at the latest log time has risen by `span_us`, while there is a leader:
 * for Retry-After. At least 1. */
uint64_t log_time_seconds_until(uint64_t span_us);

#endif
