/* table_sums.h - what the items of a table add up to, against the state row.
 *
 * Role:       Takes the items of a table in key order, checks each one whole, and says at the end
 *             whether counts and digests are those of a state: the same for a table that is looked
 *             at, one that is sent, and one that is received.
 * Thread:     pure.
 */

#ifndef TL_STORE_TABLE_SUMS_H
#define TL_STORE_TABLE_SUMS_H

#include "trilith/row.h"

struct table_sums {
    uint64_t rows_count;
    uint64_t records_count;
    uint64_t queue_items_count;
    uint64_t bytes; /* of keys and values */
    struct hash128 rows_digest;
    struct hash128 records_digest;
    uint64_t queue_first; /* sequence of the first queue item; the others follow without a hole */
    /* Sum over queue items of a hash of (record's key, sequence, time), less that over records: 0
     * when they belong together one to one. */
    struct hash128 pairs_digest;
    uint32_t key_bytes; /* of the last item's key; 0: none yet */
    uint8_t key[ENV_KEY_BYTES_MAX];
};

/* Takes the next item. TL_ERR_CORRUPT or TL_ERR_NEWER_FORMAT with a static sentence in
 * *out_reason: wrong order, wrong form, a checksum that fails. The state row is no item. */
TL_MUST_CHECK enum tl_err table_sums_add(struct table_sums *sums, struct bytes env_key,
                                         struct bytes value, const char **out_reason);

/* What is wrong with the sums for this state; NULL: nothing. */
const char *table_sums_reason(const struct table_sums *sums, const struct group_state *state);

#endif
