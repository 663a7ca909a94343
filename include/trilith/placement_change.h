/* placement_change.h - what administration makes of a placement, and what a group's leader makes of
 *                      its configuration to follow it.
 *
 * Role:       Decisions without effects: every step follows from (placement, configurations), so it
 *             can be taken by any leader after any crash. Knows no message, time or disk.
 * Thread:     pure.
 *
 *   placement_add      a store becomes a voter-to-be, or the learner of a seat that is taken
 *   placement_seat     that learner takes the seat, the store that had it leaves
 *   placement_remove   an address leaves
 *   placement_settle   a leaving store that no configuration names is removed
 *   placement_follow   the next configuration of a group
 */

#ifndef TL_PLACEMENT_CHANGE_H
#define TL_PLACEMENT_CHANGE_H

#include "trilith/placement.h"
#include "trilith/raft.h"

/* What came of an attempt. All but PLACEMENT_CHANGED leave the placement as it was. */
enum placement_verdict {
    PLACEMENT_CHANGED = 0,   /* the epoch has risen by one */
    PLACEMENT_SAME,          /* it is so already */
    PLACEMENT_REMOVED,       /* the store was removed: it needs an emptied directory */
    PLACEMENT_OTHER_ADDRESS, /* the store is a member under another address */
    PLACEMENT_OTHER_PORT,    /* the address is taken with another peer address, or the other way */
    PLACEMENT_FULL,          /* RAFT_MEMBERS_MAX members */
    PLACEMENT_UNKNOWN,       /* no member has this address */
    PLACEMENT_LAST,          /* the last voter cannot leave */
};

/* The member with this id; NULL: none. */
const struct placement_member *placement_find(const struct placement *placement, raft_id id);
bool placement_has_removed(const struct placement *placement, raft_id id);
/* The voter that has the address; NULL: the seat is free, or nobody's. */
const struct placement_member *placement_holder(const struct placement *placement,
                                                const char *address);
/* The learner that is to take the seat of the address; NULL: there is none. */
const struct placement_member *placement_heir(const struct placement *placement,
                                              const char *address);

/* Adds a store. Under an address of nobody, or whose stores all leave: a voter. Under that of a
 * voter: a learner, which is to take the seat; an earlier such learner leaves. */
enum placement_verdict placement_add(struct placement *placement, const struct member *member);

/* The learner `id` takes the seat of its address; the voter there leaves. PLACEMENT_UNKNOWN: it is
 * no learner with a seat to take. */
enum placement_verdict placement_seat(struct placement *placement, raft_id id);

/* All stores of the address leave. PLACEMENT_SAME: they do already. PLACEMENT_UNKNOWN: no member
 * has it, which is also what whoever asks again hears when they are gone. */
enum placement_verdict placement_remove(struct placement *placement, const char *address);

/* The leaving store `id` is removed. PLACEMENT_UNKNOWN: it is not leaving. Of more than
 * PLACEMENT_REMOVED_MAX removed stores the oldest is forgotten: it is not told any more that it was
 * removed, and is a stranger to everyone. It stays out all the same: who comes with this cluster's
 * id and is no member was removed, and a store without one has never acknowledged anything. */
enum placement_verdict placement_settle(struct placement *placement, raft_id id);

/* What the leader of a group knows when it asks for the next step. */
struct placement_outlook {
    raft_group group;
    const struct raft_conf *conf; /* the group's active one: committed, not joint */
    /* The latest committed configuration of each group as this node knows it, groups_count of them;
     * NULL: this node does not know it. conf's own group is not looked at. */
    const struct raft_conf *const *groups;
    uint32_t groups_count;
    /* Of a learner in conf: it has caught up and may vote. */
    bool (*is_ready)(const void *context, raft_id id);
    const void *context;
};

/* The configuration to propose, with the placement's epoch; false: there is nothing to do (now).
 *
 * Order: learner in group 0; learner, then voter in the data groups; voter in group 0. Leaving: the
 * data groups, then group 0. A seat whose holder leaves and whose newcomer is not ready yet keeps
 * its holder, so that both are exchanged by one joint change (in group 0 it may stay a little
 * longer, until every data group is known to be without it); and nobody leaves while those that
 * are left would be less than a majority of the voters wanted. The same configuration in a newer
 * epoch when somebody who leaves is not in it (placement_is_gone). */
bool placement_follow(const struct placement *placement, const struct placement_outlook *outlook,
                      struct raft_conf *out_target);

/* Whether no configuration names the id, which leaves, and none ever will: what is known of a group
 * may be old, and its leader may not have heard of the placement, but after one of this epoch the
 * group takes none of an older one, and none of this or a later one names who is not there. */
bool placement_is_gone(const struct placement *placement, raft_id id,
                       const struct raft_conf *const *groups, uint32_t groups_count);

/* Planted bugs of these two that the simulator must find; 0 in production. */
enum placement_mutation {
    PLACEMENT_MUTATION_NONE = 0,
    PLACEMENT_MUTATION_NO_SUCCESSORS = 46, /* a data group is left before others can lead group 0 */
};
extern uint32_t placement_mutation;

/* How many of a placement's voters may still fail: those that are able beyond a majority. Negative:
 * so many are missing to a quorum. */
int32_t placement_can_lose(const struct placement *placement,
                           bool (*is_able)(const void *context, raft_id id), const void *context);

#endif
