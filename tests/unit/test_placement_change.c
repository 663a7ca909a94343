/* placement_change: changes, and the configurations that follow them through any crash. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "trilith/placement_change.h"
#include "trilith/prng.h"

#define GROUPS_COUNT 3u

static struct placement placement;

static struct member make_member(uint32_t number, char address)
{
    struct member member = {.store_id = {{0}}};
    snprintf(member.address, sizeof member.address, "%c:1", address);
    snprintf(member.peer_address, sizeof member.peer_address, "%c:2", address);
    put_u32(member.store_id.bytes, number);
    member.store_id.bytes[15] = 1;
    return member;
}

/* Members 1, 2, 3 ... at a, b, c ... */
static void start(uint32_t members_count)
{
    static struct genesis genesis;
    genesis = (struct genesis){.cluster_id = {{7}},
                               .time_us = 1,
                               .groups_count = GROUPS_COUNT,
                               .members_count = members_count};
    for (uint32_t i = 0; i < members_count; i++) {
        genesis.members[i] = make_member(i + 1, (char)('a' + (int)i));
    }
    placement_from_genesis(&placement, &genesis);
}

static enum placement_verdict add(uint32_t number, char address)
{
    struct member member = make_member(number, address);
    return placement_add(&placement, &member);
}

static enum member_role role_of(raft_id id)
{
    const struct placement_member *member = placement_find(&placement, id);
    return member != NULL ? member->role : (enum member_role)0;
}

/* ---- changes ---- */

Test(placement_change, a_store_under_a_new_address_is_to_vote)
{
    start(3);
    cr_assert_eq(add(4, 'd'), PLACEMENT_CHANGED);
    cr_assert_eq(placement.epoch, 1);
    cr_assert_eq(role_of(4), MEMBER_VOTER);
    cr_assert_eq(add(4, 'd'), PLACEMENT_SAME);
    cr_assert_eq(placement.epoch, 1);
}

Test(placement_change, a_store_under_the_address_of_a_voter_learns_until_it_takes_the_seat)
{
    start(3);
    cr_assert_eq(add(4, 'c'), PLACEMENT_CHANGED);
    cr_assert_eq(role_of(4), MEMBER_LEARNER);
    cr_assert_eq(role_of(3), MEMBER_VOTER);
    cr_assert_eq(placement_holder(&placement, "c:1")->member.store_id.bytes[0], 3);
    cr_assert_eq(placement_seat(&placement, 3), PLACEMENT_UNKNOWN, "it has one");
    cr_assert_eq(placement_seat(&placement, 4), PLACEMENT_CHANGED);
    cr_assert_eq(role_of(4), MEMBER_VOTER);
    cr_assert_eq(role_of(3), MEMBER_LEAVING);
    cr_assert_eq(placement.epoch, 2);
}

Test(placement_change, a_disk_emptied_again_replaces_the_learner)
{
    start(3);
    cr_assert_eq(add(4, 'c'), PLACEMENT_CHANGED);
    cr_assert_eq(add(5, 'c'), PLACEMENT_CHANGED);
    cr_assert_eq(role_of(3), MEMBER_VOTER);
    cr_assert_eq(role_of(4), MEMBER_LEAVING);
    cr_assert_eq(role_of(5), MEMBER_LEARNER);
    cr_assert_eq(add(4, 'c'), PLACEMENT_REMOVED, "it is too late");
}

Test(placement_change, a_removed_store_is_refused_for_ever)
{
    start(3);
    cr_assert_eq(placement_remove(&placement, "c:1"), PLACEMENT_CHANGED);
    cr_assert_eq(role_of(3), MEMBER_LEAVING);
    cr_assert_eq(placement_remove(&placement, "c:1"), PLACEMENT_SAME);
    cr_assert_eq(placement_settle(&placement, 2), PLACEMENT_UNKNOWN, "it stays");
    cr_assert_eq(placement_settle(&placement, 3), PLACEMENT_CHANGED);
    cr_assert_null(placement_find(&placement, 3));
    cr_assert(placement_has_removed(&placement, 3));
    cr_assert_eq(placement_remove(&placement, "c:1"), PLACEMENT_UNKNOWN);
    cr_assert_eq(add(3, 'c'), PLACEMENT_REMOVED);
    cr_assert_eq(add(3, 'd'), PLACEMENT_REMOVED);
    cr_assert_eq(add(4, 'c'), PLACEMENT_CHANGED, "another store may have the address");
    cr_assert_eq(role_of(4), MEMBER_VOTER);
}

Test(placement_change, a_store_under_two_addresses_is_refused)
{
    start(3);
    cr_assert_eq(add(3, 'd'), PLACEMENT_OTHER_ADDRESS);
    struct member mixed = make_member(4, 'd');
    snprintf(mixed.peer_address, sizeof mixed.peer_address, "a:2");
    cr_assert_eq(placement_add(&placement, &mixed), PLACEMENT_OTHER_PORT);
    mixed = make_member(4, 'a');
    snprintf(mixed.peer_address, sizeof mixed.peer_address, "d:2");
    cr_assert_eq(placement_add(&placement, &mixed), PLACEMENT_OTHER_PORT);
    cr_assert_eq(placement.epoch, 0);
}

Test(placement_change, limits_are_refused)
{
    start(RAFT_MEMBERS_MAX);
    cr_assert_eq(add(100, 'z'), PLACEMENT_FULL);
    start(2);
    cr_assert_eq(placement_remove(&placement, "a:1"), PLACEMENT_CHANGED);
    cr_assert_eq(placement_remove(&placement, "b:1"), PLACEMENT_LAST);
}

/* A store without a lasting disk is a new one at every start. */
Test(placement_change, any_number_of_stores_come_and_go)
{
    start(1);
    for (uint32_t i = 0; i < PLACEMENT_REMOVED_MAX + 2; i++) {
        cr_assert_eq(add(1000 + i, 'b'), PLACEMENT_CHANGED);
        cr_assert_eq(placement_remove(&placement, "b:1"), PLACEMENT_CHANGED);
        cr_assert_eq(placement_settle(&placement, 1000 + i), PLACEMENT_CHANGED);
    }
    cr_assert_eq(placement.removed_count, PLACEMENT_REMOVED_MAX);
    cr_assert_not(placement_has_removed(&placement, 1001), "the oldest are forgotten");
    cr_assert(placement_has_removed(&placement, 1002));
    cr_assert(placement_has_removed(&placement, 1000 + PLACEMENT_REMOVED_MAX + 1));
}

/* Ids below the number that the context points to answer. */
static bool is_below(const void *context, raft_id id)
{
    return id < *(const uint32_t *)context;
}

Test(placement_change, says_how_many_may_still_fail)
{
    start(5);
    uint32_t end = 6;
    cr_assert_eq(placement_can_lose(&placement, is_below, &end), 2);
    end = 4;
    cr_assert_eq(placement_can_lose(&placement, is_below, &end), 0);
    end = 3;
    cr_assert_eq(placement_can_lose(&placement, is_below, &end), -1);
    placement.members[4].role = MEMBER_LEAVING;
    placement.members[3].role = MEMBER_LEARNER;
    cr_assert_eq(placement_can_lose(&placement, is_below, &end), 0, "two of three");
}

/* ---- following ---- */

/* The groups of a cluster: of each, the configuration that is committed, and whether it is joint
 * just now. */
struct world {
    struct raft_conf confs[GROUPS_COUNT];
    bool is_ready; /* every learner has caught up */
};

static void world_start(struct world *world)
{
    *world = (struct world){.is_ready = true};
    for (uint32_t group = 0; group < GROUPS_COUNT; group++) {
        struct raft_conf *conf = &world->confs[group];
        for (uint32_t i = 0; i < placement.members_count; i++) {
            conf->voters[conf->voters_count++] =
                store_id_raft(&placement.members[i].member.store_id);
        }
    }
}

static bool is_ready(const void *context, raft_id id)
{
    (void)id;
    return ((const struct world *)context)->is_ready;
}

static bool follow_with(const struct world *world, const struct placement *seen, uint32_t group,
                        uint64_t unknown, struct raft_conf *out_target)
{
    const struct raft_conf *known[GROUPS_COUNT];
    for (uint32_t i = 0; i < GROUPS_COUNT; i++) {
        known[i] = (unknown >> i & 1) != 0 ? NULL : &world->confs[i];
    }
    const struct placement_outlook outlook = {
        .group = group,
        .conf = &world->confs[group],
        .groups = known,
        .groups_count = GROUPS_COUNT,
        .is_ready = is_ready,
        .context = world,
    };
    return placement_follow(seen, &outlook, out_target);
}

static bool follow(const struct world *world, uint32_t group, struct raft_conf *out_target)
{
    return follow_with(world, &placement, group, 0, out_target);
}

static bool has(const raft_id *ids, uint32_t count, raft_id id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

static bool votes(const struct raft_conf *conf, raft_id id)
{
    return has(conf->voters, conf->voters_count, id);
}

static bool learns(const struct raft_conf *conf, raft_id id)
{
    return has(conf->learners, conf->learners_count, id);
}

Test(placement_follow, nothing_is_proposed_when_all_is_as_wanted)
{
    struct world world;
    struct raft_conf target;
    start(3);
    world_start(&world);
    for (uint32_t group = 0; group < GROUPS_COUNT; group++) {
        cr_assert_not(follow(&world, group, &target));
    }
}

Test(placement_follow, a_newcomer_enters_group_0_first_and_votes_there_last)
{
    struct world world;
    struct raft_conf target;
    start(3);
    world_start(&world);
    cr_assert_eq(add(4, 'd'), PLACEMENT_CHANGED);
    cr_assert_not(follow(&world, 1, &target), "group 0 does not know it yet");
    cr_assert(follow(&world, 0, &target));
    cr_assert(learns(&target, 4) && !votes(&target, 4));
    cr_assert_eq(target.epoch, 1);
    world.confs[0] = target;
    cr_assert_not(follow(&world, 0, &target), "the data groups come first");
    for (uint32_t group = 1; group < GROUPS_COUNT; group++) {
        cr_assert(follow(&world, group, &target));
        cr_assert(learns(&target, 4));
        world.confs[group] = target;
        world.is_ready = false;
        cr_assert_not(follow(&world, group, &target), "it has not caught up");
        world.is_ready = true;
        cr_assert(follow(&world, group, &target));
        cr_assert(votes(&target, 4) && !learns(&target, 4));
        world.confs[group] = target;
    }
    cr_assert(follow(&world, 0, &target));
    cr_assert(votes(&target, 4));
}

Test(placement_follow, a_leaver_leaves_group_0_last)
{
    struct world world;
    struct raft_conf target;
    start(4);
    world_start(&world);
    cr_assert_eq(placement_remove(&placement, "d:1"), PLACEMENT_CHANGED);
    for (uint32_t group = 1; group < GROUPS_COUNT; group++) {
        cr_assert_not(follow(&world, 0, &target));
        cr_assert(follow(&world, group, &target));
        cr_assert_not(raft_conf_is_member(&target, 4));
        world.confs[group] = target;
    }
    cr_assert_not(follow_with(&world, &placement, 0, 2, &target), "one group is not known");
    cr_assert(follow(&world, 0, &target));
    cr_assert_not(raft_conf_is_member(&target, 4));
}

Test(placement_follow, a_seat_changes_hands_in_one_step)
{
    struct world world;
    struct raft_conf target;
    start(3);
    world_start(&world);
    cr_assert_eq(add(4, 'c'), PLACEMENT_CHANGED);
    cr_assert(follow(&world, 0, &target));
    world.confs[0] = target;
    cr_assert(follow(&world, 1, &target));
    cr_assert(learns(&target, 4) && votes(&target, 3));
    world.confs[1] = target;
    cr_assert_not(follow(&world, 1, &target), "the seat is taken");
    cr_assert_eq(placement_seat(&placement, 4), PLACEMENT_CHANGED);
    world.is_ready = false;
    cr_assert_not(follow(&world, 1, &target), "the old store keeps its seat until then");
    world.is_ready = true;
    cr_assert(follow(&world, 1, &target));
    cr_assert(votes(&target, 4) && !raft_conf_is_member(&target, 3));
    cr_assert_eq(target.voters_count, 3);
}

/* Two voters of three would be left, until the fourth one votes. */
Test(placement_follow, nobody_leaves_before_who_is_to_follow_votes)
{
    struct world world;
    struct raft_conf target;
    start(3);
    world_start(&world);
    cr_assert_eq(add(4, 'd'), PLACEMENT_CHANGED);
    cr_assert(follow(&world, 0, &target));
    world.confs[0] = target;
    cr_assert(follow(&world, 1, &target));
    world.confs[1] = target;
    cr_assert_eq(placement_remove(&placement, "b:1"), PLACEMENT_CHANGED);
    world.is_ready = false;
    cr_assert_not(follow(&world, 1, &target));
    world.is_ready = true;
    cr_assert(follow(&world, 1, &target));
    cr_assert(votes(&target, 4) && !raft_conf_is_member(&target, 2));
    cr_assert_eq(target.voters_count, 3);
}

/* It was never in the data group as far as anybody knows; a leader that has not heard that it
 * leaves could still add it. */
Test(placement_follow, nobody_is_gone_before_every_group_has_heard_that_it_leaves)
{
    struct world world;
    struct raft_conf target;
    start(3);
    world_start(&world);
    const struct raft_conf *known[GROUPS_COUNT];
    for (uint32_t i = 0; i < GROUPS_COUNT; i++) known[i] = &world.confs[i];
    cr_assert_eq(add(4, 'd'), PLACEMENT_CHANGED);
    cr_assert_eq(placement_remove(&placement, "d:1"), PLACEMENT_CHANGED);
    for (uint32_t group = 0; group < GROUPS_COUNT; group++) {
        cr_assert_not(placement_is_gone(&placement, 4, known, GROUPS_COUNT));
        cr_assert(follow(&world, group, &target));
        cr_assert_eq(target.epoch, placement.epoch);
        cr_assert_eq(target.voters_count, 3);
        world.confs[group] = target;
        cr_assert_not(follow(&world, group, &target), "once is enough");
    }
    cr_assert(placement_is_gone(&placement, 4, known, GROUPS_COUNT));
}

/* Who leads group 0 has to know what becomes of the data groups, of which it is a member if it
 * stays. */
static bool has_heir(const struct world *world, uint32_t group)
{
    for (uint32_t i = 0; i < placement.members_count; i++) {
        raft_id id = store_id_raft(&placement.members[i].member.store_id);
        bool stays = placement.members[i].role == MEMBER_VOTER;
        if (stays && votes(&world->confs[0], id) && votes(&world->confs[group], id)) return true;
    }
    return false;
}

Test(placement_follow, all_may_be_replaced_at_once_and_somebody_who_stays_can_lead_group_0)
{
    struct world world;
    struct raft_conf target;
    start(3);
    world_start(&world);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(add(4 + i, (char)('d' + (int)i)), PLACEMENT_CHANGED);
    }
    cr_assert_eq(placement_remove(&placement, "a:1"), PLACEMENT_CHANGED);
    cr_assert_eq(placement_remove(&placement, "b:1"), PLACEMENT_CHANGED);
    cr_assert_eq(placement_remove(&placement, "c:1"), PLACEMENT_CHANGED);
    bool is_settled = false;
    for (uint32_t round = 0; round < 20 && !is_settled; round++) {
        is_settled = true;
        for (uint32_t group = GROUPS_COUNT; group-- > 0;) {
            if (!follow(&world, group, &target)) continue;
            is_settled = false;
            world.confs[group] = target;
            bool are_there = votes(&target, 1) && votes(&target, 2) && votes(&target, 3);
            cr_assert(are_there || has_heir(&world, group), "round %u, group %u", round, group);
        }
    }
    for (uint32_t group = 0; group < GROUPS_COUNT; group++) {
        cr_assert_eq(world.confs[group].voters_count, 3);
        cr_assert(votes(&world.confs[group], 4) && votes(&world.confs[group], 6));
    }
}

Test(placement_follow, a_store_that_no_placement_names_is_dropped)
{
    struct world world;
    struct raft_conf target;
    start(3);
    world_start(&world);
    world.confs[1].learners[world.confs[1].learners_count++] = 9;
    cr_assert(follow(&world, 1, &target));
    cr_assert_not(raft_conf_is_member(&target, 9));
}

/* ---- any sequence of changes, any leaders, any crashes ---- */

struct history {
    struct prng prng;
    struct world world;
    struct raft_conf pending[GROUPS_COUNT]; /* proposed, not committed; voters_count 0: none */
    struct raft_conf heard[GROUPS_COUNT];   /* committed, as group 0's leader last heard */
    uint32_t next_number;
    struct placement *old; /* what a lagging leader still believes */
};

static void change_at_random(struct history *history)
{
    char address = (char)('a' + (int)prng_below(&history->prng, 7));
    char text[8];
    snprintf(text, sizeof text, "%c:1", address);
    uint32_t at = (uint32_t)prng_below(&history->prng, placement.members_count);
    raft_id id = store_id_raft(&placement.members[at].member.store_id);
    if (prng_below(&history->prng, 2) == 0) *history->old = placement;
    switch (prng_below(&history->prng, 4)) {
    case 0:
        (void)add(history->next_number++, address);
        break;
    case 1:
        (void)placement_remove(&placement, text);
        break;
    case 2:
        (void)placement_seat(&placement, id);
        break;
    default: {
        const struct raft_conf *known[GROUPS_COUNT];
        for (uint32_t i = 0; i < GROUPS_COUNT; i++) {
            if (prng_below(&history->prng, 2) == 0) history->heard[i] = history->world.confs[i];
            known[i] = &history->heard[i];
        }
        if (placement_is_gone(&placement, id, known, GROUPS_COUNT)) {
            (void)placement_settle(&placement, id);
        }
        break;
    }
    }
    cr_assert(placement_is_right(&placement));
}

/* What the core refuses is not to be asked for, nor what could lose fewer than before and after. */
static void expect_possible(const struct placement *seen, const struct raft_conf *conf,
                            const struct raft_conf *target)
{
    uint32_t wanted_count = 0;
    for (uint32_t i = 0; i < seen->members_count; i++) {
        wanted_count += seen->members[i].role == MEMBER_VOTER;
    }
    cr_assert_geq(target->voters_count, TL_MIN(wanted_count, conf->voters_count));
    struct raft_conf joint = *target;
    memcpy(joint.outgoing, conf->voters, sizeof joint.outgoing);
    joint.outgoing_count = conf->voters_count;
    cr_assert_gt(target->voters_count, 0);
    cr_assert(raft_conf_is_right(&joint), "the joint configuration is not right");
    for (uint32_t i = 0; i < target->voters_count; i++) {
        raft_id id = target->voters[i];
        cr_assert(votes(conf, id) || learns(conf, id), "a voter that never learned");
    }
}

/* A leader, maybe one that lags, takes a step; it commits, or crashes with its leader. */
static void step_at_random(struct history *history)
{
    uint32_t group = (uint32_t)prng_below(&history->prng, GROUPS_COUNT);
    struct raft_conf *pending = &history->pending[group];
    if (pending->voters_count > 0) {
        if (prng_below(&history->prng, 4) > 0) history->world.confs[group] = *pending;
        pending->voters_count = 0; /* committed, or truncated */
        return;
    }
    bool is_lagging = prng_below(&history->prng, 8) == 0;
    uint64_t unknown = prng_below(&history->prng, 4) == 0 ? prng_below(&history->prng, 8) : 0;
    history->world.is_ready = prng_below(&history->prng, 2) == 0;
    const struct placement *seen = is_lagging ? history->old : &placement;
    struct raft_conf target;
    if (!follow_with(&history->world, seen, group, unknown, &target)) return;
    if (target.epoch < history->world.confs[group].epoch) return; /* stale: the core refuses it */
    expect_possible(seen, &history->world.confs[group], &target);
    *pending = target;
}

static bool is_as_wanted(const struct world *world)
{
    for (uint32_t group = 0; group < GROUPS_COUNT; group++) {
        const struct raft_conf *conf = &world->confs[group];
        uint32_t members_count = 0;
        for (uint32_t i = 0; i < placement.members_count; i++) {
            const struct placement_member *member = &placement.members[i];
            raft_id id = store_id_raft(&member->member.store_id);
            if (member->role == MEMBER_LEAVING) return false; /* settled at the end */
            if (votes(conf, id) != (member->role == MEMBER_VOTER)) return false;
            if (learns(conf, id) != (member->role == MEMBER_LEARNER)) return false;
            members_count++;
        }
        if (conf->voters_count + conf->learners_count != members_count) return false;
    }
    return true;
}

/* A store that was removed has ended, or will: a group that counts on it may stand still. */
static void expect_nobody_removed(const struct history *history, uint64_t seed)
{
    for (uint32_t i = 0; i < placement.removed_count; i++) {
        for (uint32_t group = 0; group < GROUPS_COUNT; group++) {
            raft_id id = placement.removed[i];
            bool is_there = raft_conf_is_member(&history->world.confs[group], id) ||
                            raft_conf_is_member(&history->pending[group], id);
            cr_assert_not(is_there, "seed %llu: %llu was removed and is in group %u",
                          (unsigned long long)seed, (unsigned long long)id, group);
        }
    }
}

/* No more changes and no more crashes: leaders take steps until none is left. */
static void settle(struct history *history)
{
    struct world *world = &history->world;
    const struct raft_conf *known[GROUPS_COUNT];
    world->is_ready = true;
    for (uint32_t i = 0; i < GROUPS_COUNT; i++) known[i] = &world->confs[i];
    for (uint32_t round = 0; round < 60; round++) {
        for (uint32_t group = 0; group < GROUPS_COUNT; group++) {
            struct raft_conf target;
            if (!follow(world, group, &target)) continue;
            expect_possible(&placement, &world->confs[group], &target);
            world->confs[group] = target;
        }
        for (uint32_t i = 0; i < placement.members_count; i++) {
            raft_id id = store_id_raft(&placement.members[i].member.store_id);
            if (!placement_is_gone(&placement, id, known, GROUPS_COUNT)) continue;
            (void)placement_settle(&placement, id);
        }
    }
}

Test(placement_follow, any_history_converges_to_the_placement)
{
    static struct placement old;
    uint64_t changes_count = 0;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        static struct history history;
        history = (struct history){.next_number = 100, .old = &old};
        prng_init(&history.prng, seed);
        start((uint32_t)prng_between(&history.prng, 1, 5));
        world_start(&history.world);
        old = placement;
        for (uint32_t i = 0; i < 120; i++) {
            if (prng_below(&history.prng, 5) == 0) change_at_random(&history);
            step_at_random(&history);
            expect_nobody_removed(&history, seed);
        }
        settle(&history);
        changes_count += placement.epoch;
        cr_assert(is_as_wanted(&history.world), "seed %llu", (unsigned long long)seed);
        struct raft_conf target;
        for (uint32_t group = 0; group < GROUPS_COUNT; group++) {
            cr_assert_not(follow(&history.world, group, &target), "seed %llu goes on for ever",
                          (unsigned long long)seed);
        }
    }
    cr_assert_gt(changes_count, 10000, "histories without changes show nothing");
}
