/* digest_report.h - what replicas tell each other of their states, so that one that is not like the
 * others is noticed.
 *
 * Role:       Encoding of the payload of a FRAME_DIGESTS (src/wire/FORMAT.md 7): reports, one a
 *             group, one behind the other.
 * Thread:     pure.
 */

#ifndef TL_DIGEST_REPORT_H
#define TL_DIGEST_REPORT_H

#include "trilith/codec.h"
#include "trilith/entry.h"

/* What a replica's state was at some of its applied indexes. */
#define DIGEST_POINTS_MAX 64u
struct digest_point {
    raft_index index;
    struct hash128 digest; /* group_state_digest() */
};
struct digest_report {
    raft_group group;
    uint32_t points_count;                         /* 1 ... DIGEST_POINTS_MAX */
    struct digest_point points[DIGEST_POINTS_MAX]; /* by rising index */
};
size_t digest_report_bytes(uint32_t points_count);
/* Appends the encoding to `frame`, which has that much room. */
void digest_report_encode(const struct digest_report *report, struct buf *frame);
/* Decodes one report that starts at the reader. Total: TL_OK or TL_ERR_INVALID. */
TL_MUST_CHECK enum tl_err digest_report_decode(struct reader *reader,
                                               struct digest_report *out_report);

#endif
