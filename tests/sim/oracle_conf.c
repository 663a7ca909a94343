/* oracle_conf.c - the judges of configurations: what a quorum is, here counted without the core's
 * help; that quorums of consecutive configurations meet; that a configuration is proposed only when
 * the one before it and something of the term are committed; and that the newest one in the log is
 * the one in force.
 */

#include "sim_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define DEAF_TIMEOUTS 4u /* a leader leads on for so many election timeouts without a quorum */

/* ---- quorums ---- */

static bool half_holds(const raft_id *ids, uint32_t count, bool (*holds)(void *context, raft_id id),
                       void *context)
{
    uint32_t holding = 0;
    for (uint32_t i = 0; i < count; i++) holding += holds(context, ids[i]);
    return 2 * holding > count;
}

bool conf_holds(const struct raft_conf *conf, bool (*holds)(void *context, raft_id id),
                void *context)
{
    if (!half_holds(conf->voters, conf->voters_count, holds, context)) return false;
    return conf->outgoing_count == 0 ||
           half_holds(conf->outgoing, conf->outgoing_count, holds, context);
}

struct subset {
    raft_id ids[4 * RAFT_MEMBERS_MAX];
    uint32_t count;
    uint64_t bits;
    bool wanted;
};

static void subset_add(struct subset *subset, const raft_id *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = 0;
        while (at < subset->count && subset->ids[at] != ids[i]) at++;
        if (at == subset->count) subset->ids[subset->count++] = ids[i];
    }
}

static bool is_in_subset(void *context, raft_id id)
{
    const struct subset *subset = context;
    uint32_t at = 0;
    while (subset->ids[at] != id) at++;
    return (subset->bits >> at & 1) == subset->wanted;
}

/* Whether no quorum of one is disjoint from one of the other: by trying all. */
static bool quorums_meet(const struct raft_conf *a, const struct raft_conf *b)
{
    struct subset subset = {.count = 0};
    subset_add(&subset, a->voters, a->voters_count);
    subset_add(&subset, a->outgoing, a->outgoing_count);
    subset_add(&subset, b->voters, b->voters_count);
    subset_add(&subset, b->outgoing, b->outgoing_count);
    for (subset.bits = 0; subset.bits < 1ull << subset.count; subset.bits++) {
        subset.wanted = true;
        if (!conf_holds(a, is_in_subset, &subset)) continue;
        subset.wanted = false;
        if (conf_holds(b, is_in_subset, &subset)) return false;
    }
    return true;
}

/* ---- the committed configurations ---- */

const struct raft_conf *conf_at(const struct sim *sim, raft_group group, raft_index index)
{
    const struct ghost_log *ghost = &sim->ghosts[group];
    const struct raft_conf *found = NULL;
    for (size_t i = 0; i < ghost->confs_count && ghost->confs[i].index <= index; i++) {
        found = &ghost->confs[i].conf;
    }
    return found;
}

void conf_on_committed(struct sim *sim, raft_group group, const struct buf *entry)
{
    enum entry_type type = entry_type_of(entry);
    if (type != ENTRY_GENESIS && type != ENTRY_CONF) return;
    struct ghost_log *ghost = &sim->ghosts[group];
    ghost->confs = realloc(ghost->confs, (ghost->confs_count + 1) * sizeof *ghost->confs);
    TL_ASSERT(ghost->confs != NULL);
    struct ghost_conf *added = &ghost->confs[ghost->confs_count++];
    added->index = entry_index(entry);
    enum tl_err err = conf_payload_decode(entry_payload(entry), &added->conf);
    TL_ASSERT(err == TL_OK);
    struct sim_counters *counters = &sim->result->counters;
    if (ghost->confs_count == 1) return;
    const struct ghost_conf *before = added - 1;
    counters->confs++;
    counters->confs_joint += added->conf.outgoing_count > 0;
    raft_term entered = ghost->entries[before->index - 1].term;
    bool is_left = before->conf.outgoing_count > 0 && added->conf.outgoing_count == 0;
    counters->joints_left_by_another += is_left && entered != entry_term(entry);
    sim_trace(sim, "g%" PRIu32 " has a configuration at %" PRIu64 ": %u + %u voters, %u learners",
              group, added->index, added->conf.voters_count, added->conf.outgoing_count,
              added->conf.learners_count);
    if (added->conf.epoch < before->conf.epoch) {
        sim_fail(sim,
                 "[58] group %" PRIu32 ": the configuration at %" PRIu64 " is of epoch %" PRIu64
                 ", older than that before it",
                 group, added->index, added->conf.epoch);
    }
    if (!quorums_meet(&before->conf, &added->conf)) {
        sim_fail(sim,
                 "[35] group %" PRIu32 ": a quorum of the configuration at %" PRIu64
                 " does not meet one of that at %" PRIu64,
                 group, before->index, added->index);
    }
}

/* ---- what becomes durable ---- */

static bool has_committed_in(const struct ghost_log *ghost, raft_term term)
{
    for (size_t i = ghost->count; i > 0 && ghost->entries[i - 1].term >= term; i--) {
        if (ghost->entries[i - 1].term == term) return true;
    }
    return false;
}

static uint32_t count_uncommitted(const struct mem_log *log, const struct log_op *op,
                                  raft_index committed)
{
    uint32_t count = 0;
    raft_index last = op->truncate_from != 0 ? op->truncate_from - 1 : log->last;
    for (raft_index i = committed + 1; i <= last; i++) {
        const struct buf *entry = mem_log_entry(log, i);
        count += entry != NULL && entry_type_of(entry) == ENTRY_CONF;
    }
    for (uint32_t i = 0; i < op->entries_count; i++) {
        const struct buf *entry = op->entries[i];
        count += entry_type_of(entry) == ENTRY_CONF && entry_index(entry) > committed;
    }
    return count;
}

void conf_on_log_op(struct sim *sim, uint32_t node, const struct mem_log *log,
                    const struct log_op *op)
{
    const struct ghost_log *ghost = &sim->ghosts[op->group];
    for (raft_index i = op->truncate_from; i != 0 && i <= log->last; i++) {
        const struct buf *entry = mem_log_entry(log, i);
        if (entry != NULL && entry_type_of(entry) == ENTRY_CONF) {
            sim->result->counters.confs_truncated++;
        }
    }
    for (uint32_t i = 0; i < op->entries_count; i++) {
        const struct buf *entry = op->entries[i];
        if (entry_type_of(entry) != ENTRY_CONF) continue;
        if (!has_committed_in(ghost, entry_term(entry))) {
            sim_fail(sim,
                     "[36] group %" PRIu32 ": node %u has a configuration at %" PRIu64
                     " of term %" PRIu64 ", of which nothing is committed",
                     op->group, node, entry_index(entry), entry_term(entry));
        }
        if (count_uncommitted(log, op, ghost->count) > 1) {
            sim_fail(sim,
                     "[36] group %" PRIu32 ": node %u has two configurations that are not "
                     "committed, the newer at %" PRIu64,
                     op->group, node, entry_index(entry));
        }
    }
}

/* ---- a node after its turn ---- */

static bool ids_equal(const raft_id *a, uint32_t a_count, const raft_id *b, uint32_t b_count)
{
    return a_count == b_count && memcmp(a, b, a_count * sizeof *a) == 0;
}

static bool confs_equal(const struct raft_conf *a, const struct raft_conf *b)
{
    return ids_equal(a->voters, a->voters_count, b->voters, b->voters_count) &&
           ids_equal(a->outgoing, a->outgoing_count, b->outgoing, b->outgoing_count) &&
           ids_equal(a->learners, a->learners_count, b->learners, b->learners_count);
}

/* The newest configuration in the log is in force, whatever was truncated or installed. */
static void check_active(struct sim *sim, const struct sim_node *node, raft_group group,
                         const struct raft_status *status)
{
    const struct mem_log *log = &node->disk->logs[group];
    bool is_quiet =
        !status->is_installing && status->durable == status->last && log->last == status->last;
    struct bytes payload = mem_log_conf(log);
    if (!is_quiet || payload.count == 0) return;
    struct raft_conf newest;
    enum tl_err err = conf_payload_decode(payload, &newest);
    TL_ASSERT(err == TL_OK);
    if (confs_equal(&newest, &status->conf)) return;
    sim_fail(sim,
             "[37] group %" PRIu32 ": node %u has %u + %u voters in force, its log's newest "
             "configuration %u + %u",
             group, node->number, status->conf.voters_count, status->conf.outgoing_count,
             newest.voters_count, newest.outgoing_count);
}

struct hearing {
    const struct sim *sim;
    const struct sim_node *node;
    uint64_t since_ns;
};

static bool is_heard(void *context, raft_id id)
{
    const struct hearing *hearing = context;
    const struct sim *sim = hearing->sim;
    if (id == hearing->node->id) return true;
    for (uint32_t i = 0; i < sim->stores_count; i++) {
        if (sim->stores[i].id != id) continue;
        if (hearing->node->heard_ns[i] >= hearing->since_ns) return true;
    }
    return false;
}

/* A leader that hears no quorum steps down (thesis 6.2): its clients would wait for ever. */
static void check_hearing(struct sim *sim, struct sim_node *node, raft_group group,
                          const struct raft_status *status)
{
    struct sim_node_group *seen = &node->groups[group];
    if (status->role != RAFT_LEADER) {
        seen->led_term = 0;
        return;
    }
    if (seen->led_term != status->term || seen->led_conf != status->conf_index) {
        seen->led_term = status->term;
        seen->led_conf = status->conf_index;
        seen->led_since_ns = sim->now_ns;
    }
    uint64_t span_ns = DEAF_TIMEOUTS * sim->swarm.election_timeout_ns;
    if (sim->now_ns - seen->led_since_ns < span_ns) return;
    struct hearing hearing = {.sim = sim, .node = node, .since_ns = sim->now_ns - span_ns};
    if (conf_holds(&status->conf, is_heard, &hearing)) return;
    sim_fail(sim,
             "[31] group %" PRIu32 ": node %u leads term %" PRIu64
             " on, and has not heard a quorum for %u election timeouts",
             group, node->number, status->term, DEAF_TIMEOUTS);
}

void conf_observe(struct sim *sim, const struct sim_node *node, const struct raft_status *status,
                  raft_group group)
{
    check_active(sim, node, group, status);
}

void conf_on_turn(struct sim *sim, struct sim_node *node)
{
    if (!host_is_born(node) || node->has_failed) return; /* mute, and about to end */
    for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) {
        struct node_group_status status;
        node_get_group_status(node->node, g, &status);
        check_hearing(sim, node, g, &status.raft);
    }
}
