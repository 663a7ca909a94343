/* send_rate.h - how fast a snapshot may be sent beside the writes of clients.
 *
 * Role:       A byte rate that is halved when more log commits are slow than usually are, and
 * creeps
 *             up while that is not so: what is held to is the clients' latency, not the transfer's.
 * Thread:     pure.
 */

#ifndef TL_SEND_RATE_H
#define TL_SEND_RATE_H

#include <stdbool.h>
#include <stdint.h>

#define SEND_RATE_FIRST (16u * 1024u * 1024u) /* bytes per second */
#define SEND_RATE_MIN (8u * 1024u * 1024u)
#define SEND_RATE_MAX (128u * 1024u * 1024u)
#define SEND_RATE_JUDGE_NS 100000000ull
/* A commit is slow when it takes this often the usual time, and a little on top. */
#define SEND_RATE_SLOW_FACTOR 3u
#define SEND_RATE_SLOW_EXTRA_US 2000u
/* So many more of them than usual, in parts of 65536, are too many: 6 %. */
#define SEND_RATE_SLOW_SHARE_EXTRA 4096u

struct send_rate {
    uint64_t bytes_per_s;
    uint64_t min;
    /* Of log commits while nothing is sent, smoothed. */
    uint64_t usual_us;         /* 0: not known */
    uint64_t usual_slow_share; /* in parts of 65536 */
    uint64_t judged_ns;
    uint32_t commits_count; /* since then */
    uint32_t slow_count;
};

/* A transfer begins that must not become slower than `min`. */
void send_rate_begin(struct send_rate *rate, uint64_t min, uint64_t now_ns);
/* A log commit took so long. */
void send_rate_note_commit(struct send_rate *rate, uint64_t spent_us, bool is_sending);
/* Draws the consequences, every SEND_RATE_JUDGE_NS. */
void send_rate_judge(struct send_rate *rate, uint64_t now_ns);
/* How long to wait behind so many bytes. */
uint64_t send_rate_span_ns(const struct send_rate *rate, uint64_t bytes);

#endif
