/* kv_state.h - the replicated state machine of a data group.
 *
 * Role:       Applies entries in order. A pure function of (state, rows, entry): no clock, random
 *             source, locale, address or option has a say, so equal logs give equal states.
 * Thread:     the loop thread (apply).
 * Errors:     those of kv_table.h; TL_ERR_CORRUPT also for an entry whose payload does not decode
 *             (it passed its chain hash: a bug or a newer version; the node stops), and
 *             TL_ERR_NEWER_FORMAT for a row or record that a newer version wrote. After an error
 *             the state is as before, the table is not: the process must end.
 */

#ifndef TL_KV_STATE_H
#define TL_KV_STATE_H

#include "trilith/command.h"
#include "trilith/kv_table.h"

#define RECORDS_MAX_DEFAULT 262144u
#define RECORD_KEEP_US (5ull * 60 * 1000000) /* older ones may go */
#define RECORD_KEEP_MIN_US (60ull * 1000000) /* younger ones may not */
#define RECORD_EVICT_MAX 4u                  /* evictions an entry does at most */
#define KV_ROW_COST_BYTES 2048u /* what a look at a row costs, in bytes that could be copied */

/* Planted bugs of the test suite (docs/correctness.md numbers them). */
enum kv_mutation {
    KV_MUTATION_NONE = 0,
    KV_MUTATION_OWN_TIME = 27, /* rows and records get a time that is not the entry's */
};

struct kv_state {
    struct group_state group;
    /* Why the last apply was TL_ERR_CORRUPT; NULL: kv_table_fault() says it. Static. */
    const char *fault_reason;
    struct buf *results; /* of the last transaction; owned; NULL: there was none */
    /* What the last entry has cost: bytes read and written, and KV_ROW_COST_BYTES for each row. */
    uint64_t cost_bytes;
    uint32_t mutation;   /* enum kv_mutation; 0 in production */
};

/* Takes over what the table holds. */
void kv_state_init(struct kv_state *state, const struct group_state *from);
void kv_state_deinit(struct kv_state *state);

/* Applies one entry, index == state->group.index + 1, inside kv_table_begin/end, and publishes it.
 * ENTRY_GENESIS sets the revision to 1; ENTRY_NOOP and ENTRY_CONF move only index, term, time and
 * hash. out_result is set for ENTRY_COMMAND; its results are borrowed until kv_table_end() or the
 * next call. NULL: no request waits for the outcome, and values that a transaction only reads are
 * not read. */
TL_MUST_CHECK enum tl_err kv_state_apply(struct kv_state *state, struct kv_table *table,
                                         const struct buf *entry, struct kv_result *out_result);

#endif
