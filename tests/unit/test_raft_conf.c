/* raft_conf: quorums of simple and joint configurations, against the definition. */

#include <criterion/criterion.h>
#include <string.h>

#include "trilith/prng.h"
#include "trilith/raft.h"

struct facts {
    uint32_t held;                          /* bit i: member i + 1 */
    raft_index match[RAFT_MEMBERS_MAX + 1]; /* by id */
};

static bool holds(const void *context, raft_id id)
{
    const struct facts *facts = context;
    return (facts->held >> (id - 1) & 1) != 0;
}

static raft_index match(const void *context, raft_id id)
{
    const struct facts *facts = context;
    return facts->match[id];
}

/* By counting, with no sorting and no early exit. */
static bool naive_majority(const raft_id *ids, uint32_t count, const struct facts *facts)
{
    uint32_t yes_count = 0;
    for (uint32_t i = 0; i < count; i++) yes_count += holds(facts, ids[i]);
    return 2 * yes_count > count;
}

static bool naive_quorum(const struct raft_conf *conf, const struct facts *facts)
{
    return naive_majority(conf->voters, conf->voters_count, facts) &&
           (conf->outgoing_count == 0 ||
            naive_majority(conf->outgoing, conf->outgoing_count, facts));
}

/* The largest index such that the members at or above it are a quorum. */
static raft_index naive_index(const struct raft_conf *conf, const struct facts *facts)
{
    for (raft_index index = 20; index > 0; index--) {
        struct facts reached = {0};
        for (raft_id id = 1; id <= RAFT_MEMBERS_MAX; id++) {
            if (facts->match[id] >= index) reached.held |= 1u << (id - 1);
        }
        if (naive_quorum(conf, &reached)) {
            return index;
        }
    }
    return 0;
}

static struct raft_conf conf_of(uint32_t voters, uint32_t outgoing)
{
    struct raft_conf conf = {0};
    for (raft_id id = 1; id <= RAFT_MEMBERS_MAX; id++) {
        if ((voters >> (id - 1) & 1) != 0) conf.voters[conf.voters_count++] = id;
        if ((outgoing >> (id - 1) & 1) != 0) conf.outgoing[conf.outgoing_count++] = id;
    }
    return conf;
}

Test(raft_conf, quorum_is_a_majority_of_both_halves)
{
    for (uint32_t voters = 1; voters < 32; voters++) {
        for (uint32_t outgoing = 0; outgoing < 32; outgoing++) {
            struct raft_conf conf = conf_of(voters, outgoing);
            for (uint32_t held = 0; held < 32; held++) {
                struct facts facts = {.held = held};
                cr_assert_eq(raft_conf_has_quorum(&conf, holds, &facts),
                             naive_quorum(&conf, &facts), "%x %x %x", voters, outgoing, held);
            }
        }
    }
}

Test(raft_conf, no_voters_are_no_quorum)
{
    struct raft_conf conf = {0};
    struct facts facts = {.held = UINT32_MAX};
    cr_assert_not(raft_conf_has_quorum(&conf, holds, &facts));
    cr_assert_eq(raft_conf_quorum_index(&conf, match, &facts), 0);
}

Test(raft_conf, quorum_index_is_the_largest_that_a_quorum_has_reached)
{
    struct prng prng;
    prng_init(&prng, 1);
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t voters = (uint32_t)prng_between(&prng, 1, 0xffff);
        uint32_t outgoing = prng_chance(&prng, 500000) ? (uint32_t)prng_below(&prng, 0x10000) : 0;
        struct raft_conf conf = conf_of(voters, outgoing);
        struct facts facts = {0};
        for (raft_id id = 1; id <= RAFT_MEMBERS_MAX; id++) facts.match[id] = prng_below(&prng, 20);
        cr_assert_eq(raft_conf_quorum_index(&conf, match, &facts), naive_index(&conf, &facts),
                     "%x %x round %u", voters, outgoing, i);
    }
}

Test(raft_conf, majorities_for_small_clusters)
{
    static const uint32_t majorities[] = {0, 1, 2, 2, 3, 3, 4, 4, 5, 5};
    for (uint32_t size = 1; size <= 9; size++) {
        struct raft_conf conf = conf_of((1u << size) - 1, 0);
        struct facts enough = {.held = (1u << majorities[size]) - 1};
        struct facts few = {.held = (1u << (majorities[size] - 1)) - 1};
        cr_assert(raft_conf_has_quorum(&conf, holds, &enough), "%u", size);
        cr_assert_not(raft_conf_has_quorum(&conf, holds, &few), "%u", size);
    }
}

/* [etcd-io/raft quorum/majority_commit, joint_commit] */
Test(raft_conf, quorum_index_by_hand)
{
    static const struct {
        uint32_t voters;
        uint32_t outgoing;
        raft_index match[6]; /* of 1, 2, ... */
        raft_index index;
    } cases[] = {
        {0x1, 0, {12}, 12},
        {0x3, 0, {12, 5}, 5},
        {0x3, 0, {12, 0}, 0},
        {0x7, 0, {12, 5, 0}, 5},
        {0x7, 0, {12, 5, 6}, 6},
        {0x7, 0, {12, 0, 0}, 0},
        {0xf, 0, {101, 104, 103, 103}, 103},
        {0xf, 0, {101, 104, 0, 0}, 0},
        {0x1f, 0, {101, 104, 103, 103, 99}, 103},
        {0x1f, 0, {101, 0, 103, 103, 0}, 101},
        {0x7, 0x7, {12, 5, 6}, 6},          /* twice the same half */
        {0x7, 0x1, {5, 10, 20}, 5},         /* a single outgoing voter holds it up */
        {0x1, 0x7, {100, 3, 2}, 3},         /* the outgoing majority does */
        {0x7, 0x38, {6, 6, 6, 9, 9, 1}, 6}, /* no voter in common */
        {0x7, 0x38, {9, 9, 9, 5, 0, 0}, 0}, /* one of three is none */
        {0x7, 0xc, {2, 10, 10, 4}, 4},      /* overlap: both of 3 and 4 */
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        struct raft_conf conf = conf_of(cases[i].voters, cases[i].outgoing);
        struct facts facts = {0};
        memcpy(&facts.match[1], cases[i].match, sizeof cases[i].match);
        cr_assert_eq(raft_conf_quorum_index(&conf, match, &facts), cases[i].index, "case %zu", i);
    }
}

Test(raft_conf, learners_are_members_and_no_voters)
{
    struct raft_conf conf = conf_of(3, 4);
    conf.learners[conf.learners_count++] = 9;
    cr_assert(raft_conf_is_voter(&conf, 1));
    cr_assert(raft_conf_is_voter(&conf, 3), "of the outgoing half");
    cr_assert_not(raft_conf_is_voter(&conf, 9));
    cr_assert(raft_conf_is_member(&conf, 9));
    cr_assert_not(raft_conf_is_member(&conf, 8));
}
