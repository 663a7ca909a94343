/* raft: any order of deliveries, losses, repetitions, slow disks and crashes keeps every safety
 * property, and once they stop a leader commits again. A small brother of tests/sim, next to the
 * core: it finds a broken core in seconds, and shows that planted bugs are found. */

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "raft_cluster.h"

#define SEEDS_COUNT 150u
#define STEPS_COUNT 4000u
#define MUTANT_SEEDS_MAX 1000u

struct run {
    struct cluster *cluster;
    struct prng prng;
    bool is_disk_slow;
    bool is_calm; /* clocks seldom run far apart: leaders last */
    uint32_t loss_per_million;
    uint32_t crash_per_million;

    /* Reads under way: what they must see at least. */
    struct {
        raft_id id;
        uint64_t round;
        raft_index acknowledged;
    } reads[64];
    uint32_t reads_count;
    raft_index acknowledged; /* highest index applied by a leader: what clients were told */
    uint64_t reads_done_count;
    uint64_t crashes_count;
    uint64_t changes_count;
    uint64_t installs_count;
};

static void cause_message(struct run *run)
{
    struct cluster *c = run->cluster;
    if (c->messages_count == 0) {
        return;
    }
    uint32_t at = (uint32_t)prng_below(&run->prng, TL_MIN(c->messages_count, 8u));
    struct raft_message message = c->messages[at];
    if (prng_chance(&run->prng, 30000)) { /* twice */
        struct raft_message copy = message;
        if (copy.entries_count > 0) {
            copy.entries = malloc(copy.entries_count * sizeof(struct buf *));
            for (uint32_t i = 0; i < copy.entries_count; i++) {
                copy.entries[i] = buf_acquire(message.entries[i]);
            }
        }
        c->messages_count--;
        memmove(&c->messages[at], &c->messages[at + 1], (c->messages_count - at) * sizeof message);
        c->messages[c->messages_count++] = copy; /* again, much later */
    } else {
        c->messages_count--;
        memmove(&c->messages[at], &c->messages[at + 1], (c->messages_count - at) * sizeof message);
    }
    if (prng_chance(&run->prng, run->loss_per_million)) {
        raft_message_clear(&message);
    } else {
        cluster_inject(c, &message);
    }
}

static void cause_read(struct run *run, raft_id id)
{
    if (run->reads_count == TL_COUNT_OF(run->reads)) {
        return;
    }
    uint64_t round = cluster_read(run->cluster, id);
    run->reads[run->reads_count].id = id;
    run->reads[run->reads_count].round = round;
    run->reads[run->reads_count++].acknowledged = run->acknowledged;
}

static void check_reads(struct run *run)
{
    for (uint32_t i = 0; i < run->reads_count;) {
        const struct raft_output *output = &cluster_at(run->cluster, run->reads[i].id)->output;
        if (output->reads_ready_round < run->reads[i].round) {
            i++;
            continue;
        }
        if (output->read_index < run->reads[i].acknowledged) {
            run->cluster->violation = "a read index is older than an acknowledged write";
        }
        run->reads_done_count++;
        run->reads[i] = run->reads[--run->reads_count];
    }
}

static void cause_crash(struct run *run, raft_id id)
{
    cluster_crash(run->cluster, id);
    run->crashes_count++;
    for (uint32_t i = 0; i < run->reads_count;) {
        if (run->reads[i].id == id) {
            run->reads[i] = run->reads[--run->reads_count];
        } else {
            i++;
        }
    }
    cluster_start(run->cluster, id);
}

/* Cuts the leader off, or any node, or heals everything: an old leader that still believes in
 * itself is what reads and commitment are most easily wrong about. */
static void cause_partition(struct run *run)
{
    struct cluster *c = run->cluster;
    memset(c->is_cut, 0, sizeof c->is_cut);
    raft_id leader = cluster_leader(c);
    if (prng_chance(&run->prng, 500000) && leader != 0) {
        cluster_isolate(c, leader, true);
    } else if (prng_chance(&run->prng, 500000)) {
        cluster_isolate(c, prng_between(&run->prng, 1, c->nodes_count), true);
    } else if (prng_chance(&run->prng, 500000)) {
        uint64_t half = prng_next(&run->prng); /* bit i: the side of node i */
        for (raft_id a = 1; a <= c->nodes_count; a++) {
            for (raft_id b = 1; b <= c->nodes_count; b++) {
                c->is_cut[a][b] = (half >> a & 1) != (half >> b & 1);
            }
        }
    }
}

static void remove_id(raft_id *ids, uint32_t *ids_count, raft_id id)
{
    uint32_t kept_count = 0;
    for (uint32_t i = 0; i < *ids_count; i++) {
        if (ids[i] != id) ids[kept_count++] = ids[i];
    }
    *ids_count = kept_count;
}

/* Somebody comes as a learner, becomes a voter, is made a learner again, or leaves; often several
 * at once, which swaps them. What cannot be is refused. */
static void cause_change(struct run *run)
{
    struct cluster *c = run->cluster;
    raft_id leader = cluster_leader(c);
    if (leader == 0) {
        return;
    }
    struct raft_conf target = cluster_status(c, leader).conf;
    target.outgoing_count = 0;
    target.epoch++;
    for (uint64_t moves = prng_between(&run->prng, 1, 4); moves > 0; moves--) {
        raft_id id = prng_between(&run->prng, 1, c->nodes_count);
        bool is_member = raft_conf_is_member(&target, id);
        remove_id(target.voters, &target.voters_count, id);
        remove_id(target.learners, &target.learners_count, id);
        uint64_t part = prng_below(&run->prng, 8);
        if (is_member && part < 4) {
            target.voters[target.voters_count++] = id;
        } else if (!is_member || part < 7) {
            target.learners[target.learners_count++] = id;
        }
    }
    run->changes_count += cluster_propose_conf(c, leader, &target) == TL_OK;
}

static void cause_snapshot(struct run *run, raft_id id)
{
    struct cluster *c = run->cluster;
    raft_id from = prng_between(&run->prng, 1, c->nodes_count);
    if (c->snapshots_count > 0) {
        cluster_deliver_snapshot(c, prng_chance(&run->prng, 300000));
    } else if (prng_chance(&run->prng, 300000) && from != id && cluster_at(c, from)->applied > 0) {
        run->installs_count += cluster_install(c, from, id) == TL_OK;
    }
}

static void cause_disk(struct run *run, raft_id id)
{
    struct cluster_node *node = cluster_at(run->cluster, id);
    bool is_stalled = prng_chance(&run->prng, 500000);
    raft_set_disk_began(node->raft, is_stalled ? node->now_ns + 1 : 0);
    for (raft_id peer = 1; peer <= run->cluster->nodes_count; peer++) {
        raft_set_peer_disk_age(node->raft, peer, prng_below(&run->prng, 200 * MS));
    }
    cluster_turn(run->cluster, id);
}

static void cause_rarely(struct run *run, raft_id id)
{
    struct cluster *c = run->cluster;
    switch (prng_below(&run->prng, 8)) {
    case 0:
        cause_partition(run);
        break;
    case 1:
        raft_peer_lost(cluster_at(c, id)->raft, prng_between(&run->prng, 1, c->nodes_count));
        cluster_turn(c, id);
        break;
    case 2:
        (void)!cluster_transfer(c, id, prng_below(&run->prng, c->nodes_count + 1));
        break;
    case 3:
        cause_disk(run, id);
        break;
    case 4:
        cause_snapshot(run, id);
        break;
    default:
        cause_change(run);
    }
}

static void cause_any(struct run *run)
{
    struct cluster *c = run->cluster;
    raft_id id = prng_between(&run->prng, 1, c->nodes_count);
    struct cluster_node *node = cluster_at(c, id);
    uint64_t kind = prng_below(&run->prng, 100);
    /* Crashes are worth most while something is being written. */
    uint32_t crash_per_million = run->crash_per_million * (node->ops_count > 0 ? 10 : 1);
    if (prng_chance(&run->prng, crash_per_million)) {
        cause_crash(run, id);
    } else if (kind < 60) {
        cause_message(run);
    } else if (kind < 80) {
        if (!run->is_disk_slow || prng_chance(&run->prng, 200000)) (void)cluster_write(c, id, 1);
    } else if (kind < 85) {
        cluster_advance(c, id, prng_below(&run->prng, 20 * MS));
    } else if (kind < 88) {
        bool is_far = !run->is_calm || prng_chance(&run->prng, 50000);
        cluster_advance(c, id, prng_below(&run->prng, (is_far ? 700 : 10) * MS));
    } else if (kind < 93) {
        raft_id leader = cluster_leader(c);
        (void)!cluster_propose(c, prng_chance(&run->prng, 500000) && leader != 0 ? leader : id,
                               "x");
    } else if (kind < 95) {
        cause_read(run, id);
    } else if (kind < 99) {
        cause_rarely(run, id);
    } else if (node->applied > node->base.index + 3) {
        cluster_compact(c, id, node->applied - 1 - prng_below(&run->prng, 2));
    }
    /* What a leader has applied in its own term, its client may have been told. */
    for (raft_id other = 1; other <= c->nodes_count; other++) {
        if (cluster_at(c, other)->role == RAFT_LEADER) {
            run->acknowledged = TL_MAX(run->acknowledged, cluster_at(c, other)->applied);
        }
    }
    check_reads(run);
}

static void run_begin(struct run *run, uint64_t seed, uint32_t mutation)
{
    *run = (struct run){0};
    prng_init(&run->prng, seed);
    uint32_t voters_count = (uint32_t)prng_between(&run->prng, 1, 5);
    if (mutation != 0 && mutation != RAFT_MUTATION_COUNT_MEMORY) {
        voters_count = 3 + 2 * (uint32_t)prng_below(&run->prng, 2);
    }
    run->cluster = cluster_create(voters_count, (uint32_t)prng_below(&run->prng, 2));
    cluster_add_spares(run->cluster, (uint32_t)prng_below(&run->prng, 4));
    run->cluster->sends_snapshots = true;
    run->cluster->seed = seed;
    if (prng_chance(&run->prng, 750000)) {
        run->cluster->append_entries_max = (uint32_t)prng_between(&run->prng, 1, 4);
        run->cluster->inflight_messages_max = (uint32_t)prng_between(&run->prng, 1, 8);
        run->cluster->cache_bytes_max = prng_between(&run->prng, 1, 2000);
    }
    run->is_calm = prng_chance(&run->prng, 500000);
    run->is_disk_slow = prng_chance(&run->prng, 500000);
    run->loss_per_million = (uint32_t)prng_below(&run->prng, 200000);
    run->crash_per_million = (uint32_t)prng_below(&run->prng, run->is_calm ? 500 : 5000);
    for (uint32_t i = 0; i < run->cluster->nodes_count; i++) {
        run->cluster->nodes[i].mutation = mutation;
    }
    cluster_start_all(run->cluster);
}

static void run_storm(struct run *run)
{
    for (uint32_t i = 0; i < STEPS_COUNT && run->cluster->violation == NULL; i++) cause_any(run);
}

/* No faults any more: a leader, no joint configuration, everything committed at every member. */
static void check_liveness(struct run *run, uint64_t seed)
{
    struct cluster *c = run->cluster;
    memset(c->is_cut, 0, sizeof c->is_cut);
    for (raft_id id = 1; id <= c->nodes_count; id++) {
        raft_set_disk_began(cluster_at(c, id)->raft, 0);
    }
    cluster_run(c, 3000 * MS);
    raft_id leader = cluster_leader(c);
    cr_assert_neq(leader, 0, "seed %" PRIu64 ": no leader", seed);
    raft_index last = cluster_status(c, leader).last;
    cr_assert_eq(cluster_propose(c, leader, "end"), TL_OK, "seed %" PRIu64, seed);
    uint64_t round = cluster_read(c, leader);
    cluster_run(c, 100 * MS);
    cr_assert_geq(cluster_status(c, leader).commit, last + 1, "seed %" PRIu64, seed);
    cr_assert_geq(cluster_at(c, leader)->output.reads_ready_round, round, "seed %" PRIu64, seed);
    struct raft_status status = cluster_status(c, leader);
    cr_assert_eq(status.conf.outgoing_count, 0, "seed %" PRIu64 ": still joint", seed);
    for (uint32_t i = 0; i < status.peers_count; i++) {
        cr_assert_eq(cluster_at(c, status.peers[i].id)->applied, status.commit,
                     "seed %" PRIu64 ": node %" PRIu64, seed, status.peers[i].id);
    }
}

Test(raft_random, every_schedule_is_safe_and_then_live, .timeout = 120)
{
    uint64_t elections_count = 0;
    uint64_t reads_count = 0;
    uint64_t crashes_count = 0;
    uint64_t applied_count = 0;
    uint64_t changes_count = 0;
    uint64_t installs_count = 0;
    for (uint64_t seed = 1; seed <= SEEDS_COUNT; seed++) {
        struct run run;
        run_begin(&run, seed, 0);
        run_storm(&run);
        cr_assert_null(run.cluster->violation, "seed %" PRIu64 ": %s", seed,
                       run.cluster->violation);
        check_liveness(&run, seed);
        for (uint32_t term = 0; term < TL_COUNT_OF(run.cluster->leaders); term++) {
            elections_count += run.cluster->leaders[term] != 0;
        }
        reads_count += run.reads_done_count;
        crashes_count += run.crashes_count;
        applied_count += run.acknowledged;
        changes_count += run.changes_count;
        installs_count += run.installs_count;
        cluster_destroy(run.cluster);
    }
    /* A harness in which nothing happens would pass everything. */
    cr_assert_gt(elections_count, 3 * SEEDS_COUNT);
    cr_assert_gt(reads_count, SEEDS_COUNT);
    cr_assert_gt(crashes_count, 3 * SEEDS_COUNT);
    cr_assert_gt(applied_count, 5 * SEEDS_COUNT);
    cr_assert_gt(changes_count, SEEDS_COUNT);
    cr_assert_gt(installs_count, SEEDS_COUNT / 10);
}

static void check_is_found(enum raft_mutation mutation)
{
    for (uint64_t seed = 1; seed <= MUTANT_SEEDS_MAX; seed++) {
        struct run run;
        run_begin(&run, seed, mutation);
        run_storm(&run);
        bool is_found = run.cluster->violation != NULL;
        run.cluster->violation = NULL;
        cluster_destroy(run.cluster);
        if (is_found) {
            return;
        }
    }
    cr_assert_fail("mutation %u was not found by %u seeds", mutation, MUTANT_SEEDS_MAX);
}

#define MUTANT(name, mutation)                         \
    Test(raft_random, name##_is_found, .timeout = 120) \
    {                                                  \
        check_is_found(mutation);                      \
    }

MUTANT(vote_before_durable, RAFT_MUTATION_VOTE_BEFORE_DURABLE)
MUTANT(count_memory, RAFT_MUTATION_COUNT_MEMORY)
MUTANT(joint_one_half, RAFT_MUTATION_JOINT_ONE_HALF)
MUTANT(commit_uncapped, RAFT_MUTATION_COMMIT_UNCAPPED)
MUTANT(read_unconfirmed, RAFT_MUTATION_READ_UNCONFIRMED)
MUTANT(prevote_as_vote, RAFT_MUTATION_PREVOTE_AS_VOTE)
MUTANT(keep_conflicting_suffix, RAFT_MUTATION_KEEP_CONFLICTING_SUFFIX)
MUTANT(conf_not_rolled_back, RAFT_MUTATION_CONF_NOT_ROLLED_BACK)
MUTANT(ack_from_scalar, RAFT_MUTATION_ACK_FROM_SCALAR)
