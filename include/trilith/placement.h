/* placement.h - who is to be a member of the cluster, as group 0 keeps it.
 *
 * Role:       The placement and its encoding (src/wire/FORMAT.md 9). It is the value of one key of
 *             group 0, PLACEMENT_KEY, written only on the condition that nobody has written it
 *             since it was read: it needs no state machine of its own, and travels with snapshots,
 *             digests and flushes as any row. What follows from it is in placement_change.h.
 * Thread:     pure.
 */

#ifndef TL_PLACEMENT_H
#define TL_PLACEMENT_H

#include "trilith/genesis.h"

#define PLACEMENT_KEY "placement"
#define PLACEMENT_REMOVED_MAX 4096u

/* Stored. One role for all groups: as yet every member holds every group. */
enum member_role {
    MEMBER_LEARNER = 1, /* gets everything, is in no quorum */
    MEMBER_VOTER = 2,
    MEMBER_LEAVING = 3, /* until no group's configuration names it any more */
};

struct placement_member {
    struct member member;
    enum member_role role;
};

/* Several members may share an address: the store that had it, and the one that is to take over
 * because the disk was emptied. At most one of them is a voter. */
struct placement {
    uint64_t epoch;         /* rises by one with every change; 0: as genesis says */
    struct genesis genesis; /* for newcomers: entry 1 of every group is made from it */
    uint32_t members_count; /* 1 ... RAFT_MEMBERS_MAX */
    struct placement_member members[RAFT_MEMBERS_MAX];
    uint32_t removed_count;
    raft_id removed[PLACEMENT_REMOVED_MAX]; /* refused; the oldest first */
};

/* What stands before the first change: the members of the genesis, all voters. */
void placement_from_genesis(struct placement *placement, const struct genesis *genesis);

/* Whether it can be one: nobody twice, nobody removed, a voter, addresses as said above. */
bool placement_is_right(const struct placement *placement);

/* A new buf with the encoding. The placement is right. */
struct buf *placement_encode(const struct placement *placement);
/* Total: TL_OK or TL_ERR_INVALID. The placement is large: not for the stack. */
TL_MUST_CHECK enum tl_err placement_decode(struct bytes source, struct placement *out_placement);

#endif
