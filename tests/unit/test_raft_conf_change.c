/* raft: what a change of configuration comes to, against the definition, and what it does to
 * quorums that are being gathered meanwhile. */

#include <criterion/criterion.h>
#include <inttypes.h>

#include "raft_cluster.h"

#define NODES 7u
#define WALKS 30u
#define TARGETS 4u

static struct cluster *c;

static void teardown(void)
{
    cluster_destroy(c);
}

TestSuite(raft_conf_change, .fini = teardown, .timeout = 60);

static void lead(struct cluster *cluster)
{
    cluster_start_all(cluster);
    cluster_elect(cluster, 1);
    cluster_run(cluster, 100 * MS);
}

/* ---- configurations as sets: bit i is node i ---- */

struct sets {
    uint32_t voters;
    uint32_t outgoing;
    uint32_t learners;
    uint64_t epoch;
};

static uint32_t set_of(const raft_id *ids, uint32_t ids_count)
{
    uint32_t set = 0;
    for (uint32_t i = 0; i < ids_count; i++) set |= 1u << ids[i];
    return set;
}

static struct sets sets_of(const struct raft_conf *conf)
{
    return (struct sets){
        .voters = set_of(conf->voters, conf->voters_count),
        .outgoing = set_of(conf->outgoing, conf->outgoing_count),
        .learners = set_of(conf->learners, conf->learners_count),
        .epoch = conf->epoch,
    };
}

/* The ids of a set in descending order: a configuration does not depend on it. */
static uint32_t ids_of(uint32_t set, raft_id *out_ids)
{
    uint32_t count = 0;
    for (raft_id id = NODES; id >= 1; id--) {
        if ((set >> id & 1) != 0) out_ids[count++] = id;
    }
    return count;
}

static struct raft_conf conf_of(struct sets sets)
{
    struct raft_conf conf = {.epoch = sets.epoch};
    conf.voters_count = ids_of(sets.voters, conf.voters);
    conf.outgoing_count = ids_of(sets.outgoing, conf.outgoing);
    conf.learners_count = ids_of(sets.learners, conf.learners);
    return conf;
}

static struct sets in_force(struct cluster *cluster, raft_id id)
{
    struct raft_status status = cluster_status(cluster, id);
    return sets_of(&status.conf);
}

static bool is_equal(struct sets a, struct sets b)
{
    return a.voters == b.voters && a.outgoing == b.outgoing && a.learners == b.learners &&
           a.epoch == b.epoch;
}

/* Each node but the leader is nothing, a learner or a voter. */
static struct sets draw(struct prng *prng, uint64_t epoch)
{
    struct sets sets = {.voters = 1u << 1, .epoch = epoch};
    for (raft_id id = 2; id <= NODES; id++) {
        uint64_t kind = prng_below(prng, 3);
        if (kind == 1) sets.learners |= 1u << id;
        if (kind == 2) sets.voters |= 1u << id;
    }
    return sets;
}

/* ---- what is taken ---- */

/* Everybody is heard and has caught up. */
static enum tl_err verdict_of(struct sets now, struct sets target)
{
    if (target.voters == 0 || (target.voters & target.learners) != 0) return TL_ERR_INVALID;
    if (target.epoch < now.epoch) return TL_ERR_STALE;
    if ((target.voters & ~(now.voters | now.learners)) != 0) return TL_ERR_INVALID;
    return is_equal(now, target) ? TL_ERR_INVALID : TL_OK;
}

/* [etcd-io/raft confchange/simple_safety, joint_safety, update] */
Test(raft_conf_change, every_target_is_taken_or_refused_by_the_definition)
{
    struct prng prng;
    prng_init(&prng, 7);
    uint32_t taken_count = 0;
    c = cluster_create(3, 2);
    cluster_add_spares(c, NODES - 5);
    lead(c);
    for (uint32_t i = 0; i < 1000; i++) {
        struct sets now = in_force(c, 1);
        struct sets target = draw(&prng, TL_MAX(now.epoch + prng_below(&prng, 3), 1u) - 1);
        if (prng_chance(&prng, 50000)) target.voters = 0;
        if (prng_chance(&prng, 50000)) target.learners |= target.voters & (1u << 2);
        if (prng_chance(&prng, 50000)) target = now;
        struct raft_conf conf = conf_of(target);
        enum tl_err err = cluster_propose_conf(c, 1, &conf);
        cr_assert_eq(err, verdict_of(now, target), "%u: %x %x of %x %x: %s", i, target.voters,
                     target.learners, now.voters, now.learners, tl_err_name(err));
        if (err != TL_OK) continue;
        taken_count++;
        struct sets joint = target;
        if (target.voters != now.voters) joint.outgoing = now.voters;
        cr_assert(is_equal(in_force(c, 1), joint), "voters change by a joint one, and only they");
        cr_assert_eq(cluster_propose_conf(c, 1, &conf), TL_ERR_BUSY, "one at a time");
        cluster_run(c, 60 * MS);
        cr_assert(is_equal(in_force(c, 1), target));
    }
    cr_assert_gt(taken_count, 20);
}

/* [etcd-io/raft confchange/zero] */
Test(raft_conf_change, nobody_is_no_member)
{
    c = cluster_create(1, 0);
    lead(c);
    struct raft_conf target = {
        .voters_count = 1, .voters = {1}, .learners_count = 1, .learners = {RAFT_ID_NONE}};
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_ERR_INVALID);
}

/* ---- what it comes to ---- */

static void change_to(struct cluster *cluster, struct sets target)
{
    struct raft_conf conf = conf_of(target);
    cr_assert_eq(cluster_propose_conf(cluster, 1, &conf), TL_OK, "%x %x", target.voters,
                 target.learners);
    cluster_run(cluster, 110 * MS); /* learners catch up, who leaves is told */
}

/* The same for one node: what it is in `target` it becomes in `now`. */
static struct sets with_node_of(struct sets now, struct sets target, raft_id id)
{
    uint32_t bit = 1u << id;
    now.voters = (now.voters & ~bit) | (target.voters & bit);
    now.learners = (now.learners & ~bit) | (target.learners & bit);
    return now;
}

static void change_in_steps(struct cluster *cluster, struct prng *prng, struct sets target)
{
    struct sets now = in_force(cluster, 1);
    uint32_t left = (1u << (NODES + 1)) - 4; /* all but the leader */
    while (left != 0) {
        raft_id id = prng_between(prng, 2, NODES);
        if ((left >> id & 1) == 0) continue;
        left &= ~(1u << id);
        struct sets next = with_node_of(now, target, id);
        if (!is_equal(next, now)) change_to(cluster, next);
        now = next;
    }
    if (target.epoch > now.epoch) change_to(cluster, target);
}

static void check_same(struct cluster *a, struct cluster *b, struct sets target, uint32_t walk)
{
    for (raft_id id = 1; id <= NODES; id++) {
        if (((target.voters | target.learners) >> id & 1) == 0) continue;
        cr_assert(is_equal(in_force(a, id), target), "walk %u, node %" PRIu64, walk, id);
        cr_assert(is_equal(in_force(b, id), target), "walk %u, node %" PRIu64, walk, id);
        cr_assert(cluster_status(a, id).is_conf_committed);
    }
    struct raft_status of_a = cluster_status(a, 1);
    struct raft_status of_b = cluster_status(b, 1);
    uint32_t peers_a = 0;
    uint32_t peers_b = 0;
    for (uint32_t i = 0; i < of_a.peers_count; i++) peers_a |= 1u << of_a.peers[i].id;
    for (uint32_t i = 0; i < of_b.peers_count; i++) peers_b |= 1u << of_b.peers[i].id;
    cr_assert_eq(peers_a, (target.voters | target.learners) & ~(1u << 1), "walk %u", walk);
    cr_assert_eq(peers_b, peers_a, "walk %u", walk);
}

/* [etcd-io/raft confchange/quick_test.go: joint changes against sequences of simple ones] */
Test(raft_conf_change, one_change_comes_to_the_same_as_many_small_ones)
{
    struct prng prng;
    prng_init(&prng, 1);
    for (uint32_t walk = 1; walk <= WALKS; walk++) {
        struct cluster *small = cluster_create(3, 2);
        c = cluster_create(3, 2);
        cluster_add_spares(c, NODES - 5);
        cluster_add_spares(small, NODES - 5);
        lead(c);
        lead(small);
        for (uint32_t i = 0; i < TARGETS; i++) {
            struct sets now = in_force(c, 1);
            struct sets target = draw(&prng, now.epoch + 1);
            uint32_t strangers = target.voters & ~(now.voters | now.learners);
            target.voters &= ~strangers; /* they come as learners */
            target.learners |= strangers;
            change_to(c, target);
            change_in_steps(small, &prng, target);
            check_same(c, small, target, walk);
        }
        cluster_destroy(small);
        if (walk < WALKS) cluster_destroy(c);
    }
}

/* ---- votes in a joint configuration ---- */

enum answer { NONE, GRANTED, REFUSED, ANSWERS };

static bool has_majority(const uint8_t half[3], const enum answer answers[6], enum answer wanted)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < 3; i++) count += answers[half[i]] == wanted;
    return count >= 2;
}

static enum raft_role outcome_of(const enum answer answers[6])
{
    static const uint8_t incoming[] = {1, 2, 3};
    static const uint8_t outgoing[] = {1, 4, 5};
    if (has_majority(incoming, answers, REFUSED) || has_majority(outgoing, answers, REFUSED)) {
        return RAFT_FOLLOWER;
    }
    bool is_won =
        has_majority(incoming, answers, GRANTED) && has_majority(outgoing, answers, GRANTED);
    return is_won ? RAFT_LEADER : RAFT_CANDIDATE;
}

static void answer(enum raft_message_type type, raft_id from, bool is_granted)
{
    struct raft_message reply = {
        .type = type, .from = from, .to = 1, .term = 1, .granted = is_granted};
    cluster_inject(c, &reply);
}

/* Its own vote is written, the others' are not there yet. */
static void become_candidate(void)
{
    c = cluster_create(5, 0);
    cluster_at(c, 1)->conf = (struct raft_conf){
        .voters_count = 3, .voters = {1, 2, 3}, .outgoing_count = 3, .outgoing = {1, 4, 5}};
    cluster_start(c, 1);
    cluster_timeout(c, 1);
    for (raft_id id = 2; id <= 5; id++) answer(RAFT_PREVOTE_REPLY, id, true);
    cluster_write(c, 1, UINT32_MAX);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_CANDIDATE);
}

/* [etcd-io/raft quorum/joint_vote] */
Test(raft_conf_change, vote_is_won_by_both_halves_and_lost_by_either)
{
    uint32_t outcomes[4] = {0};
    for (uint32_t pattern = 0; pattern < 81; pattern++) {
        become_candidate();
        enum answer answers[6] = {[1] = GRANTED};
        uint32_t rest = pattern;
        for (raft_id id = 2; id <= 5; id++, rest /= ANSWERS) {
            if (outcome_of(answers) != RAFT_CANDIDATE) continue; /* decided: what is late is late */
            answers[id] = (enum answer)(rest % ANSWERS);
            if (answers[id] != NONE) answer(RAFT_VOTE_REPLY, id, answers[id] == GRANTED);
        }
        cr_assert_eq(cluster_status(c, 1).role, outcome_of(answers), "pattern %u", pattern);
        outcomes[outcome_of(answers)]++;
        if (pattern < 80) cluster_destroy(c);
    }
    cr_assert_gt(outcomes[RAFT_LEADER], 0);
    cr_assert_gt(outcomes[RAFT_CANDIDATE], 0);
    cr_assert_gt(outcomes[RAFT_FOLLOWER], 0);
}

/* ---- who comes and who goes ---- */

/* [etcd-io/raft TestLearnerPromotion] */
Test(raft_conf_change, learner_that_was_promoted_can_lead)
{
    c = cluster_create(1, 1);
    lead(c);
    change_to(c, (struct sets){.voters = 1u << 1 | 1u << 2});
    cluster_isolate(c, 1, true);
    cluster_run(c, 1000 * MS);
    cr_assert_eq(cluster_leader(c), RAFT_ID_NONE, "one of two is no majority");
    cluster_isolate(c, 1, false);
    cluster_run(c, 1000 * MS);
    raft_id leader = cluster_leader(c);
    cr_assert_neq(leader, RAFT_ID_NONE);
    cr_assert_eq(cluster_transfer(c, leader, 3 - leader), TL_OK);
    cluster_run(c, 10 * MS);
    cr_assert_eq(cluster_leader(c), 3 - leader);
    cr_assert_eq(cluster_transfer(c, 3 - leader, leader), TL_OK);
    cluster_run(c, 10 * MS);
    cr_assert_eq(cluster_leader(c), leader);
}

/* [etcd-io/raft TestAddNodeCheckQuorum] */
Test(raft_conf_change, voter_that_falls_silent_deposes_its_leader_after_a_timeout_not_at_once)
{
    c = cluster_create(1, 1);
    lead(c);
    struct raft_conf target = conf_of((struct sets){.voters = 1u << 1 | 1u << 2});
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_OK);
    cluster_crash(c, 2);
    cluster_run(c, CLUSTER_T_NS - CLUSTER_BEAT_NS - 10 * MS);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_LEADER);
    cluster_run(c, CLUSTER_BEAT_NS + 20 * MS);
    cr_assert_eq(cluster_status(c, 1).role, RAFT_FOLLOWER);
}

/* The entry that leaves the joint configuration is in force when it is appended: what stands
 * before it needs no more than the new voters, and is committed at once. [etcd-io/raft
 * TestCommitAfterRemoveNode] */
Test(raft_conf_change, what_waited_for_the_larger_quorum_is_committed_with_the_smaller)
{
    c = cluster_create(2, 0);
    lead(c);
    struct raft_conf target = conf_of((struct sets){.voters = 1u << 1});
    cr_assert_eq(cluster_propose_conf(c, 1, &target), TL_OK);
    cr_assert_eq(cluster_propose(c, 1, "x"), TL_OK);
    raft_index last = cluster_status(c, 1).last;
    cluster_write(c, 1, UINT32_MAX);
    (void)cluster_deliver(c, 1, 2, 1);
    cluster_write(c, 2, UINT32_MAX);
    cr_assert_lt(cluster_status(c, 1).commit, last - 1);
    (void)cluster_deliver(c, 2, 1, UINT32_MAX);
    cr_assert_eq(cluster_peer(c, 1, 2).match, last - 1, "it has the joint one, not what follows");
    cr_assert_eq(cluster_status(c, 1).commit, last);
}
