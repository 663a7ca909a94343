/* conf_entry.h - a group's configuration as it stands in a log entry.
 *
 * Role:       Encoding of configurations (src/wire/FORMAT.md 8): the payload of ENTRY_CONF, also
 *             what the log store and a table's state keep of it. What a configuration means to
 *             votes and commitment is in raft.h.
 * Thread:     pure.
 */

#ifndef TL_CONF_ENTRY_H
#define TL_CONF_ENTRY_H

#include "trilith/codec.h"
#include "trilith/entry.h"

/* A configuration. Joint while outgoing_count > 0 (thesis 4.3): votes, commitment, reads and
 * CheckQuorum then need a majority of both `voters` and `outgoing`. Whoever is to become a learner
 * when the joint configuration is left stands in `outgoing` and `learners` at once. */
struct raft_conf {
    uint32_t voters_count;
    uint32_t outgoing_count;
    uint32_t learners_count;
    raft_id voters[RAFT_MEMBERS_MAX];
    raft_id outgoing[RAFT_MEMBERS_MAX];
    raft_id learners[RAFT_MEMBERS_MAX];
    uint64_t epoch; /* of the placement that it follows; genesis: 0 */
};

/* Whether it can be one: voters, no id 0, nobody twice in a part, no learner among the voters, at
 * most RAFT_MEMBERS_MAX members in all. */
bool raft_conf_is_right(const struct raft_conf *conf);

/* A new ENTRY_CONF entry, not sealed. The configuration is right. */
struct buf *conf_entry_create(const struct raft_conf *conf);

/* The configuration that the payload of an ENTRY_CONF or an ENTRY_GENESIS says. Total: TL_OK, or
 * TL_ERR_INVALID for anything else. */
TL_MUST_CHECK enum tl_err conf_payload_decode(struct bytes payload, struct raft_conf *out_conf);

#endif
