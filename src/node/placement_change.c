/* placement_change.c - changes of the placement, and the steps that follow it. */

#include "trilith/placement_change.h"

uint32_t placement_mutation;

static raft_id id_of(const struct placement_member *member)
{
    return store_id_raft(&member->member.store_id);
}

static bool has_address(const struct placement_member *member, const char *address)
{
    return strcmp(member->member.address, address) == 0;
}

static struct placement_member *find(struct placement *placement, raft_id id)
{
    for (uint32_t i = 0; i < placement->members_count; i++) {
        if (id_of(&placement->members[i]) == id) return &placement->members[i];
    }
    return NULL;
}

const struct placement_member *placement_find(const struct placement *placement, raft_id id)
{
    return find((struct placement *)placement, id);
}

bool placement_has_removed(const struct placement *placement, raft_id id)
{
    for (uint32_t i = 0; i < placement->removed_count; i++) {
        if (placement->removed[i] == id) return true;
    }
    return false;
}

static struct placement_member *find_at(struct placement *placement, const char *address,
                                        enum member_role role)
{
    for (uint32_t i = 0; i < placement->members_count; i++) {
        struct placement_member *member = &placement->members[i];
        if (member->role == role && has_address(member, address)) return member;
    }
    return NULL;
}

const struct placement_member *placement_holder(const struct placement *placement,
                                                const char *address)
{
    return find_at((struct placement *)placement, address, MEMBER_VOTER);
}

const struct placement_member *placement_heir(const struct placement *placement,
                                              const char *address)
{
    return find_at((struct placement *)placement, address, MEMBER_LEARNER);
}

static uint32_t count_voters(const struct placement *placement)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < placement->members_count; i++) {
        count += placement->members[i].role == MEMBER_VOTER;
    }
    return count;
}

/* ---- changes ---- */

static enum placement_verdict changed(struct placement *placement)
{
    placement->epoch++;
    TL_ASSERT(placement_is_right(placement));
    return PLACEMENT_CHANGED;
}

/* Everything of a newcomer that does not go together with those who are there. */
static enum placement_verdict judge_newcomer(const struct placement *placement,
                                             const struct member *member)
{
    raft_id id = store_id_raft(&member->store_id);
    if (placement_has_removed(placement, id)) return PLACEMENT_REMOVED;
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct placement_member *other = &placement->members[i];
        bool is_address = has_address(other, member->address);
        bool is_peer_address = strcmp(other->member.peer_address, member->peer_address) == 0;
        if (id_of(other) == id) {
            if (!is_address || !is_peer_address) return PLACEMENT_OTHER_ADDRESS;
            return other->role == MEMBER_LEAVING ? PLACEMENT_REMOVED : PLACEMENT_SAME;
        }
        if (is_address != is_peer_address) return PLACEMENT_OTHER_PORT;
    }
    return placement->members_count < RAFT_MEMBERS_MAX ? PLACEMENT_CHANGED : PLACEMENT_FULL;
}

enum placement_verdict placement_add(struct placement *placement, const struct member *member)
{
    TL_ASSERT(store_id_raft(&member->store_id) != RAFT_ID_NONE);
    enum placement_verdict verdict = judge_newcomer(placement, member);
    if (verdict != PLACEMENT_CHANGED) return verdict;
    struct placement_member *earlier = find_at(placement, member->address, MEMBER_LEARNER);
    bool is_taken = placement_holder(placement, member->address) != NULL;
    if (earlier != NULL) earlier->role = MEMBER_LEAVING;
    placement->members[placement->members_count++] = (struct placement_member){
        .member = *member,
        .role = is_taken ? MEMBER_LEARNER : MEMBER_VOTER,
    };
    return changed(placement);
}

enum placement_verdict placement_seat(struct placement *placement, raft_id id)
{
    struct placement_member *learner = find(placement, id);
    if (learner == NULL || learner->role != MEMBER_LEARNER) return PLACEMENT_UNKNOWN;
    struct placement_member *holder = find_at(placement, learner->member.address, MEMBER_VOTER);
    if (holder == NULL) return PLACEMENT_UNKNOWN;
    holder->role = MEMBER_LEAVING;
    learner->role = MEMBER_VOTER;
    return changed(placement);
}

enum placement_verdict placement_remove(struct placement *placement, const char *address)
{
    bool is_there = false;
    bool is_staying = false;
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct placement_member *member = &placement->members[i];
        if (!has_address(member, address)) continue;
        is_there = true;
        is_staying = is_staying || member->role != MEMBER_LEAVING;
    }
    if (!is_there) return PLACEMENT_UNKNOWN;
    if (!is_staying) return PLACEMENT_SAME;
    if (count_voters(placement) == 1 && placement_holder(placement, address) != NULL) {
        return PLACEMENT_LAST;
    }
    for (uint32_t i = 0; i < placement->members_count; i++) {
        struct placement_member *member = &placement->members[i];
        if (has_address(member, address)) member->role = MEMBER_LEAVING;
    }
    return changed(placement);
}

enum placement_verdict placement_settle(struct placement *placement, raft_id id)
{
    struct placement_member *member = find(placement, id);
    if (member == NULL || member->role != MEMBER_LEAVING) return PLACEMENT_UNKNOWN;
    raft_id *removed = placement->removed;
    if (placement->removed_count == PLACEMENT_REMOVED_MAX) {
        memmove(removed, removed + 1, (PLACEMENT_REMOVED_MAX - 1) * sizeof removed[0]);
        placement->removed_count--;
    }
    removed[placement->removed_count++] = id;
    *member = placement->members[--placement->members_count];
    return changed(placement);
}

/* ---- following it ---- */

static bool contains(const raft_id *ids, uint32_t ids_count, raft_id id)
{
    for (uint32_t i = 0; i < ids_count; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

static bool is_voter(const struct raft_conf *conf, raft_id id)
{
    return contains(conf->voters, conf->voters_count, id);
}

static bool is_learner(const struct raft_conf *conf, raft_id id)
{
    return contains(conf->learners, conf->learners_count, id);
}

/* Whether every data group, all of them known, has the id as a voter and is not joint. */
static bool votes_in_data_groups(const struct placement_outlook *outlook, raft_id id)
{
    for (raft_group group = 1; group < outlook->groups_count; group++) {
        const struct raft_conf *conf = outlook->groups[group];
        if (conf == NULL || conf->outgoing_count > 0 || !is_voter(conf, id)) return false;
    }
    return true;
}

bool placement_is_gone(const struct placement *placement, raft_id id,
                       const struct raft_conf *const *groups, uint32_t groups_count)
{
    for (raft_group group = 0; group < groups_count; group++) {
        const struct raft_conf *conf = groups[group];
        if (conf == NULL || conf->epoch < placement->epoch) return false;
        if (raft_conf_is_member(conf, id)) return false;
    }
    return true;
}

static bool may_vote(const struct placement_outlook *outlook, raft_id id)
{
    if (!is_learner(outlook->conf, id) || !outlook->is_ready(outlook->context, id)) return false;
    return outlook->group > 0 || votes_in_data_groups(outlook, id);
}

/* The first group that a newcomer is a member of is group 0, whose placement tells it about the
 * others. */
static bool may_learn(const struct placement_outlook *outlook, raft_id id)
{
    if (outlook->group == 0) return true;
    return outlook->groups[0] != NULL && raft_conf_is_member(outlook->groups[0], id);
}

/* Group 0 is left last: whoever leaves needs it to learn that it does. */
static bool may_leave(const struct placement *placement, const struct placement_outlook *outlook,
                      raft_id id)
{
    if (outlook->group > 0 || outlook->groups_count == 1) return true;
    return placement_is_gone(placement, id, outlook->groups + 1, outlook->groups_count - 1);
}

/* Whether a majority of those that are to vote do so in group 0. Who has left a data group does not
 * hear what becomes of it, and so cannot lead group 0 on to what follows from that: before anybody
 * leaves, enough of those that stay have to be able to lead it. */
static bool has_heirs(const struct placement *placement, const struct placement_outlook *outlook)
{
    const struct raft_conf *conf = outlook->groups[0];
    if (placement_mutation == PLACEMENT_MUTATION_NO_SUCCESSORS) return true;
    if (conf == NULL || conf->outgoing_count > 0) return false;
    uint32_t heirs_count = 0;
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct placement_member *member = &placement->members[i];
        heirs_count += member->role == MEMBER_VOTER && is_voter(conf, id_of(member));
    }
    return heirs_count > count_voters(placement) / 2;
}

/* Whether a newcomer is to take the seat of `member` and cannot yet. */
static bool waits_for_newcomer(const struct placement *placement,
                               const struct placement_outlook *outlook,
                               const struct placement_member *member)
{
    const struct placement_member *newcomer = placement_holder(placement, member->member.address);
    if (newcomer == NULL) return false;
    raft_id id = id_of(newcomer);
    return !is_voter(outlook->conf, id) && !may_vote(outlook, id);
}

/* Whether a voter of the configuration stays one. */
static bool stays_voter(const struct placement *placement, const struct placement_outlook *outlook,
                        raft_id id)
{
    const struct placement_member *member = placement_find(placement, id);
    if (member == NULL) return false;
    if (member->role != MEMBER_LEAVING) return true;
    if (outlook->group > 0 && !has_heirs(placement, outlook)) return true;
    return !may_leave(placement, outlook, id) || waits_for_newcomer(placement, outlook, member);
}

static bool is_wanted_learner(const struct placement *placement,
                              const struct placement_outlook *outlook,
                              const struct placement_member *member)
{
    raft_id id = id_of(member);
    if (member->role == MEMBER_LEAVING) {
        return is_learner(outlook->conf, id) && !may_leave(placement, outlook, id);
    }
    return is_learner(outlook->conf, id) || may_learn(outlook, id);
}

/* Adds those that vote now to the newcomers of the target: those that stay, or everyone while those
 * alone would be less than a majority of what is wanted, or could lose fewer than now although more
 * are to come: nobody leaves before who is to follow votes. */
static void keep_voters(const struct placement *placement, const struct placement_outlook *outlook,
                        struct raft_conf *target)
{
    const struct raft_conf *conf = outlook->conf;
    uint32_t staying_count = 0;
    for (uint32_t i = 0; i < conf->voters_count; i++) {
        staying_count += stays_voter(placement, outlook, conf->voters[i]);
    }
    uint32_t wanted_count = count_voters(placement);
    uint32_t left_count = target->voters_count + staying_count;
    bool is_enough =
        left_count > wanted_count / 2 && left_count >= TL_MIN(wanted_count, conf->voters_count);
    for (uint32_t i = 0; i < conf->voters_count; i++) {
        if (is_enough && !stays_voter(placement, outlook, conf->voters[i])) continue;
        target->voters[target->voters_count++] = conf->voters[i];
    }
    TL_ASSERT(target->voters_count > 0);
}

static bool has_same_ids(const raft_id *a, uint32_t a_count, const raft_id *b, uint32_t b_count)
{
    if (a_count != b_count) return false;
    for (uint32_t i = 0; i < a_count; i++) {
        if (!contains(b, b_count, a[i])) return false;
    }
    return true;
}

/* Somebody who leaves is not in the configuration, but a leader that has not heard so could still
 * propose one of an older epoch with it. */
static bool needs_fence(const struct placement *placement, const struct raft_conf *conf)
{
    if (conf->epoch >= placement->epoch) return false;
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct placement_member *member = &placement->members[i];
        if (member->role == MEMBER_LEAVING && !raft_conf_is_member(conf, id_of(member))) {
            return true;
        }
    }
    return false;
}

bool placement_follow(const struct placement *placement, const struct placement_outlook *outlook,
                      struct raft_conf *out_target)
{
    const struct raft_conf *conf = outlook->conf;
    TL_ASSERT(outlook->group < outlook->groups_count);
    TL_ASSERT(conf->outgoing_count == 0);
    struct raft_conf target = {.epoch = placement->epoch};
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct placement_member *member = &placement->members[i];
        raft_id id = id_of(member);
        if (is_voter(conf, id)) continue;
        if (member->role == MEMBER_VOTER && may_vote(outlook, id)) {
            target.voters[target.voters_count++] = id;
        } else if (is_wanted_learner(placement, outlook, member)) {
            target.learners[target.learners_count++] = id;
        }
    }
    if (conf->voters_count + target.voters_count > RAFT_MEMBERS_MAX) return false;
    keep_voters(placement, outlook, &target);
    bool is_same =
        has_same_ids(conf->voters, conf->voters_count, target.voters, target.voters_count) &&
        has_same_ids(conf->learners, conf->learners_count, target.learners, target.learners_count);
    if (is_same && !needs_fence(placement, conf)) return false;
    *out_target = target;
    return true;
}

int32_t placement_can_lose(const struct placement *placement,
                           bool (*is_able)(const void *context, raft_id id), const void *context)
{
    int32_t able_count = 0;
    int32_t voters_count = 0;
    for (uint32_t i = 0; i < placement->members_count; i++) {
        if (placement->members[i].role != MEMBER_VOTER) continue;
        voters_count++;
        able_count += is_able(context, id_of(&placement->members[i]));
    }
    return able_count - (voters_count / 2 + 1);
}
