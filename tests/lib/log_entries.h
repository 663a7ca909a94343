/* log_entries.h - sealed, chained entries for tests of the log.
 *
 * Role:       A chain makes the entries of one group in order. A payload says which entry it is of,
 *             so that a mixed-up one is noticed.
 * Thread:     one.
 */

#ifndef TL_TESTS_LOG_ENTRIES_H
#define TL_TESTS_LOG_ENTRIES_H

#include "trilith/entry.h"

/* Where a group's log stands: a copy taken earlier continues from there. */
struct log_chain {
    raft_group group;
    raft_index last_index;
    raft_term term; /* of the entries to come */
    uint64_t time_us;
    struct hash128 hash;
};

struct log_chain log_chain_make(raft_group group, raft_term term);

/* The next entry, the caller's. */
struct buf *log_chain_next(struct log_chain *chain, enum entry_type type, size_t payload_bytes);

#endif
