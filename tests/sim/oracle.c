/* oracle.c - the judges of safety. The ghost log, one per group, is what has been committed: an
 * entry enters it when any node first says that its commit index covers it, and must at that moment
 * be on the disks of a quorum. Everything else is compared with the ghost log and with the
 * sequential model that follows it. The numbers in the comments are those of docs/correctness.md.
 */

#include "sim_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "trilith/frame.h"

static struct ghost_entry *ghost_at(struct ghost_log *ghost, raft_index index)
{
    TL_ASSERT(index >= 1);
    TL_ASSERT(index <= ghost->count);
    return &ghost->entries[index - 1];
}

static uint32_t node_of_disk(const struct sim *sim, const struct mem_disk *disk)
{
    uint32_t number = 0;
    while (sim->nodes[number].disk != disk) number++;
    return number;
}

/* ---- what becomes durable (hooks of the disks) ---- */

/* Invariants 6, 7: terms rise, a vote is given once a term. */
static void check_hard_state(struct sim *sim, uint32_t node, const struct mem_log *log,
                             const struct log_op *op)
{
    const struct raft_hard_state *old = &log->hard_state;
    const struct raft_hard_state *new = op->hard_state;
    if (new->term < old->term) {
        sim_fail(sim,
                 "[6] group %" PRIu32 ": the term of node %u falls from %" PRIu64 " to %" PRIu64,
                 op->group, node, old->term, new->term);
    }
    /* Also of a store whose disk went back to an older copy: what it was before is kept. */
    for (uint32_t i = 0; i < sim->stores_count; i++) {
        if (sim->stores[i].id != sim->nodes[node].id) continue;
        old = &sim->stores[i].disk->logs[op->group].hard_state;
        bool has_voted = new->term == old->term && old->vote != RAFT_ID_NONE;
        bool is_known = old == &log->hard_state || new->vote != RAFT_ID_NONE;
        if (!has_voted || !is_known || new->vote == old->vote) continue;
        sim_fail(sim, "[7] group %" PRIu32 ": node %u votes twice in term %" PRIu64, op->group,
                 node, new->term);
    }
}

/* Invariant 20: what is committed never leaves a disk that has it, but by retention. A disk may
 * have it by chance, though, of a leader before the one that has brought it through, and one in
 * between, late, may still replace it there: until it knows of the term in which it was committed.
 */
static void check_truncation(struct sim *sim, uint32_t node, const struct mem_log *log,
                             const struct log_op *op)
{
    struct ghost_log *ghost = &sim->ghosts[op->group];
    for (raft_index i = op->truncate_from; i <= TL_MIN(log->last, ghost->count); i++) {
        const struct buf *entry = mem_log_entry(log, i);
        if (entry == NULL || !hash_equal(entry_hash(entry), ghost_at(ghost, i)->hash)) continue;
        if (log->hard_state.term < ghost_at(ghost, i)->committed_term) continue;
        sim_fail(sim, "[20] group %" PRIu32 ": node %u truncates the committed entry %" PRIu64,
                 op->group, node, i);
        return;
    }
}

/* Invariants 20, 22: a snapshot is of the committed log, and what is committed behind it stays. */
static void check_install(struct sim *sim, uint32_t node, const struct mem_log *log,
                          const struct log_op *op)
{
    struct ghost_log *ghost = &sim->ghosts[op->group];
    const struct log_install *install = op->install;
    raft_index index = install->base.index;
    if (index > ghost->count || !hash_equal(install->base.hash, ghost_at(ghost, index)->hash)) {
        sim_fail(sim,
                 "[22] group %" PRIu32 ": node %u installs a snapshot at %" PRIu64
                 " that is not of the committed log",
                 op->group, node, index);
        return;
    }
    const struct buf *same = mem_log_entry(log, index);
    bool is_suffix = same != NULL && hash_equal(entry_hash(same), install->base.hash);
    if (index <= log->hard_state.commit || (install->keeps_suffix && !is_suffix)) {
        sim_fail(sim,
                 "[22] group %" PRIu32 ": node %u, at %" PRIu64 ", installs a snapshot at %" PRIu64
                 " and keeps a log that is none of it",
                 op->group, node, log->hard_state.commit, index);
        return;
    }
    for (raft_index i = index + 1; i <= TL_MIN(log->last, ghost->count); i++) {
        const struct buf *entry = mem_log_entry(log, i);
        if (install->keeps_suffix || entry == NULL) continue;
        if (!hash_equal(entry_hash(entry), ghost_at(ghost, i)->hash)) continue;
        sim_fail(sim,
                 "[20] group %" PRIu32 ": node %u drops the committed entry %" PRIu64
                 " behind its snapshot",
                 op->group, node, i);
        return;
    }
}

/* The index the durable table in use by a group is at. */
static raft_index table_index(const struct mem_disk *disk, raft_group group)
{
    char name[64];
    (void)snprintf(name, sizeof name, "/kv.%" PRIu32 ".%" PRIu64, group,
                   disk->logs[group].table_number);
    for (uint32_t i = 0; i < disk->tables_count; i++) {
        const struct mem_table *table = &disk->tables[i];
        const char *found = strstr(table->path, "/kv.");
        if (found != NULL && strcmp(found, name) == 0 && table->current != NULL) {
            return table->current->index;
        }
    }
    return 0;
}

static void on_log_op(void *context, struct mem_disk *disk, const struct log_op *op)
{
    struct sim *sim = context;
    uint32_t node = node_of_disk(sim, disk);
    const struct mem_log *log = &disk->logs[op->group];
    sim_trace(sim, "n%u log g%" PRIu32 " cut %" PRIu64 " +%" PRIu32 " term %" PRIu64, node,
              op->group, op->truncate_from, op->entries_count,
              op->hard_state == NULL ? 0 : op->hard_state->term);
    if (op->hard_state != NULL) check_hard_state(sim, node, log, op);
    if (op->truncate_from != 0) check_truncation(sim, node, log, op);
    if (op->install != NULL) check_install(sim, node, log, op);
    if (op->install != NULL) ack_on_install(sim, node, log, op);
    conf_on_log_op(sim, node, log, op);
    /* Invariant 25: only what a durable flush covers may be deleted. */
    if (op->deletable > table_index(disk, op->group)) {
        sim_fail(sim,
                 "[25] group %" PRIu32 ": node %u would delete up to %" PRIu64
                 ", flushed is %" PRIu64,
                 op->group, node, op->deletable, table_index(disk, op->group));
    }
}

/* The newest entry up to which every disk agrees with the ghost log. */
static raft_index retain_floor(void *context, raft_group group)
{
    struct sim *sim = context;
    struct ghost_log *ghost = &sim->ghosts[group];
    raft_index floor = ghost->count;
    if (sim->swarm.has_snapshots) return floor;
    for (uint32_t n = 0; n < sim->swarm.nodes_count; n++) {
        const struct mem_log *log = &sim->nodes[n].disk->logs[group];
        floor = TL_MIN(floor, log->last);
        while (floor > log->base.index &&
               !hash_equal(entry_hash(mem_log_entry(log, floor)), ghost_at(ghost, floor)->hash)) {
            floor--;
        }
    }
    return floor;
}

/* ---- tables as recovery finds them ---- */

struct table_check {
    struct sim *sim;
    uint32_t node;
    raft_index index;
    uint64_t rows_count;
    uint64_t records_count;
};

static bool row_equals(struct bytes row, const struct model_version *version)
{
    struct row_header header;
    if (version == NULL || !version->exists) return false;
    if (row_decode(row, true, &header) != TL_OK) return false;
    return header.revision == version->header.revision &&
           header.create_revision == version->header.create_revision &&
           header.version == version->header.version && header.origin == version->header.origin &&
           header.time_us == version->header.time_us &&
           bytes_equal(row_value(row, &header), buf_bytes(version->value));
}

static void check_table_item(struct table_check *check, const struct mem_table_item *item)
{
    uint8_t kind = item->key->data[0];
    if (kind == ENV_KEY_RECORD) check->records_count++;
    if (kind != ENV_KEY_ROW) return;
    check->rows_count++;
    if (item->is_damaged) return;
    struct bytes key = bytes_make(item->key->data + 1, item->key->count - 1);
    const struct model_version *version = model_find(&check->sim->model, key, check->index);
    /* What planted bug 27 does is for the nodes to notice. */
    if (check->sim->options.mutation == KV_MUTATION_OWN_TIME) return;
    if (!row_equals(buf_bytes(item->value), version)) {
        sim_fail(check->sim,
                 "[23] node %u recovers a table at %" PRIu64 " whose row %.*s is not the model's",
                 check->node, check->index, (int)key.count, (const char *)key.data);
    }
}

/* Invariant 23: the table at index F holds exactly what the log up to F makes. */
static void on_table_open(void *context, struct mem_disk *disk, raft_group group,
                          const struct mem_table_version *version)
{
    struct sim *sim = context;
    if (version->index == 0 || group != NODE_DATA_GROUP || disk->is_altered) return;
    struct table_check check = {.sim = sim, .node = node_of_disk(sim, disk)};
    check.index = version->index;
    const struct mem_table_item *meta = &version->items[0];
    struct group_state state;
    struct bytes conf;
    enum tl_err err = group_state_decode(buf_bytes(meta->value), &state, &conf);
    TL_ASSERT(err == TL_OK);
    if (version->index > sim->model.steps_count) {
        sim_fail(sim, "[23] node %u recovers a table at %" PRIu64 ", committed is %zu", check.node,
                 version->index, sim->model.steps_count);
        return;
    }
    for (size_t i = 1; i < version->items_count; i++) check_table_item(&check, &version->items[i]);
    const struct model_step *step = model_step(&sim->model, version->index);
    if (check.rows_count != step->rows_count || state.rows_count != step->rows_count ||
        check.records_count != step->records_count || state.revision != step->revision ||
        state.records_next - state.records_first != step->records_count) {
        sim_fail(sim,
                 "[23] node %u recovers a table at %" PRIu64 " with %" PRIu64 " rows, %" PRIu64
                 " records, revision %" PRIu64 "; the model has %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                 check.node, version->index, check.rows_count, check.records_count, state.revision,
                 step->rows_count, step->records_count, step->revision);
    }
}

static void on_damage_found(void *context, struct mem_disk *disk)
{
    struct sim *sim = context;
    rot_on_found(sim, &sim->nodes[node_of_disk(sim, disk)]);
}

void oracle_init(struct sim *sim)
{
    model_init(&sim->model);
    mem_disk_hooks.on_damage_found = on_damage_found;
    mem_disk_hooks.context = sim;
    mem_disk_hooks.on_log_op = on_log_op;
    mem_disk_hooks.retain_floor = retain_floor;
    mem_disk_hooks.on_table_open = on_table_open;
}

static void judgement_clear(struct judgement *judgement)
{
    for (size_t k = 0; k < SIM_KEYS_MAX; k++) buf_release(judgement->values[k]);
    buf_release(judgement->results);
}

void oracle_deinit(struct sim *sim)
{
    sim->result->counters.dedupe_hits += sim->model.replays_count;
    sim->result->counters.records_evicted += sim->model.evictions_count;
    for (size_t g = 0; g < SIM_GROUPS_COUNT; g++) {
        free(sim->ghosts[g].entries);
        free(sim->ghosts[g].leaders);
        free(sim->ghosts[g].confs);
    }
    for (size_t i = 0; i < sim->judgements_count; i++) {
        judgement_clear(&sim->judgements[i]);
    }
    free(sim->judgements);
    model_deinit(&sim->model);
}

/* ---- the ghost log ---- */

/* Invariant 14: what is said to have certainly not happened did not, and what has no key happened
 * once. */
static void note_command(struct sim *sim, raft_index index)
{
    uint64_t number = model_step(&sim->model, index)->origin;
    if (number == 0 || number > sim->attempts_count) {
        sim_fail(sim, "entry %" PRIu64 " is of no client", index);
        return;
    }
    struct attempt *attempt = &sim->attempts[number - 1];
    if (attempt->state == ATTEMPT_DEFINITE) {
        sim_fail(sim, "[14] attempt %" PRIu64 ", answered not executed, is committed at %" PRIu64,
                 number, index);
    }
    if (attempt->first_index != 0 && !attempt->is_keyed) {
        sim_fail(sim, "[14] attempt %" PRIu64 " is committed twice, at %" PRIu64 " and %" PRIu64,
                 number, attempt->first_index, index);
    }
    if (attempt->first_index == 0) attempt->first_index = index;
}

void oracle_on_attempt_done(struct sim *sim, uint64_t number, enum attempt_state state)
{
    struct attempt *attempt = &sim->attempts[number - 1];
    TL_ASSERT(attempt->state == ATTEMPT_OPEN);
    attempt->state = state;
    if (state == ATTEMPT_DEFINITE && attempt->first_index != 0) {
        sim_fail(sim,
                 "[14] attempt %" PRIu64 " is answered not executed, but committed at %" PRIu64,
                 number, attempt->first_index);
    }
}

/* What some disk has at an index, and who has it too. */
struct holding {
    const struct sim *sim;
    raft_group group;
    raft_index index;
    const struct buf *entry;
};

/* Disks that were emptied count as they were: the promise was kept. */
static bool has_entry(void *context, raft_id id)
{
    const struct holding *holding = context;
    const struct sim *sim = holding->sim;
    for (uint32_t i = 0; i < sim->stores_count; i++) {
        if (sim->stores[i].id != id) continue;
        const struct mem_log *log = &sim->stores[i].disk->logs[holding->group];
        if (holding->index <= log->base.index) return true; /* in its table */
        const struct buf *entry = mem_log_entry(log, holding->index);
        if (entry != NULL && hash_equal(entry_hash(entry), entry_hash(holding->entry))) return true;
    }
    return false;
}

/* The first configuration of a log behind `index`, which may be in force already while what stands
 * before it is not committed: there is one such at most. */
static bool find_next_conf(const struct mem_log *log, raft_index index, struct raft_conf *out_conf)
{
    for (raft_index i = index + 1; i <= log->last; i++) {
        const struct buf *entry = mem_log_entry(log, i);
        if (entry == NULL || entry_type_of(entry) != ENTRY_CONF) continue;
        return conf_payload_decode(entry_payload(entry), out_conf) == TL_OK;
    }
    return false;
}

/* The entry that a quorum of disks has at `index`; NULL: none (invariant 20). `active`, not NULL:
 * what is in force at the leader that says so, perhaps by an entry that is on no disk yet. */
static const struct buf *find_quorum_entry(struct sim *sim, raft_group group, raft_index index,
                                           const struct raft_conf *active)
{
    struct holding holding = {.sim = sim, .group = group, .index = index};
    const struct raft_conf *conf = conf_at(sim, group, index);
    for (uint32_t i = 0; i < sim->stores_count; i++) {
        const struct mem_log *log = &sim->stores[i].disk->logs[group];
        holding.entry = mem_log_entry(log, index);
        if (holding.entry == NULL) continue;
        /* Genesis is decided by one node before there is a group. */
        if (entry_type_of(holding.entry) == ENTRY_GENESIS) return holding.entry;
        if (conf == NULL) continue;
        if (active != NULL && conf_holds(active, has_entry, &holding)) return holding.entry;
        struct raft_conf next;
        if (find_next_conf(log, index - 1, &next) && conf_holds(&next, has_entry, &holding)) {
            return holding.entry;
        }
        bool is_conf = entry_type_of(holding.entry) == ENTRY_CONF; /* in force where it stands */
        if (!is_conf && conf_holds(conf, has_entry, &holding)) return holding.entry;
    }
    return NULL;
}

static void ghost_push(struct ghost_log *ghost, const struct buf *entry, raft_term term)
{
    if (ghost->count == ghost->capacity) {
        ghost->capacity = ghost->capacity == 0 ? 256 : 2 * ghost->capacity;
        ghost->entries = realloc(ghost->entries, ghost->capacity * sizeof *ghost->entries);
        TL_ASSERT(ghost->entries != NULL);
    }
    ghost->entries[ghost->count++] = (struct ghost_entry){
        .term = entry_term(entry),
        .committed_term = term,
        .hash = entry_hash(entry),
        .time_us = entry_time_us(entry),
    };
}

static void ghost_extend(struct sim *sim, const struct sim_node *node, raft_group group,
                         const struct raft_status *status)
{
    struct ghost_log *ghost = &sim->ghosts[group];
    const struct raft_conf *active = status->role == RAFT_LEADER ? &status->conf : NULL;
    while (ghost->count < status->commit && !sim->is_over) {
        raft_index index = ghost->count + 1;
        const struct buf *entry = find_quorum_entry(sim, group, index, active);
        if (entry == NULL) {
            sim_fail(sim,
                     "[20] group %" PRIu32 ": node %u calls entry %" PRIu64
                     " committed, which no quorum of disks has",
                     group, node->number, index);
            return;
        }
        ghost_push(ghost, entry, status->term);
        sim->result->counters.entries_committed++;
        conf_on_committed(sim, group, entry);
        if (group == 0) members_on_committed(sim, entry);
        if (group != NODE_DATA_GROUP) {
            clocks_on_committed(sim, group, entry);
            continue;
        }
        enum tl_err err = model_apply(&sim->model, entry);
        if (err != TL_OK) sim_fail(sim, "entry %" PRIu64 " does not decode", index);
        if (entry_type_of(entry) == ENTRY_COMMAND) note_command(sim, index);
        clocks_on_committed(sim, group, entry);
    }
}

/* ---- a node after its turn ---- */

/* Invariants 1 and 4: one leader a term, and the newest has all that is committed. */
static void check_leader(struct sim *sim, const struct sim_node *node, raft_group group,
                         const struct raft_status *status)
{
    struct ghost_log *ghost = &sim->ghosts[group];
    if (status->term >= ghost->leaders_count) {
        size_t count = (size_t)status->term + 64;
        ghost->leaders = realloc(ghost->leaders, count * sizeof *ghost->leaders);
        TL_ASSERT(ghost->leaders != NULL);
        memset(ghost->leaders + ghost->leaders_count, 0,
               (count - ghost->leaders_count) * sizeof *ghost->leaders);
        ghost->leaders_count = count;
    }
    raft_id *leader = &ghost->leaders[status->term];
    if (*leader == RAFT_ID_NONE) {
        sim->result->counters.leaders++;
        ghost->leader_since_ns = sim->now_ns;
        deposal_on_leader(sim, node);
        moments_note(sim, node, MOMENT_ELECTION);
        sim_trace(sim, "g%" PRIu32 " n%u leads term %" PRIu64, group, node->number, status->term);
    }
    if (*leader != RAFT_ID_NONE && *leader != node->id) {
        sim_fail(sim, "[1] group %" PRIu32 ": node %u is not the first to lead term %" PRIu64,
                 group, node->number, status->term);
    }
    if (ghost->kept_term != 0 && status->term > ghost->kept_term) {
        sim_fail(sim,
                 "[38] group %" PRIu32 ": node %u takes over in term %" PRIu64
                 ", although nothing ails the leader that does not ail all",
                 group, node->number, status->term);
    }
    *leader = node->id;
    ghost->leader_term_max = TL_MAX(ghost->leader_term_max, status->term);
    if (status->term == ghost->leader_term_max && status->last < ghost->count) {
        sim_fail(sim,
                 "[4] group %" PRIu32 ": node %u leads term %" PRIu64 " and ends at %" PRIu64
                 ", committed is %zu",
                 group, node->number, status->term, status->last, ghost->count);
    }
}

/* Invariants 6, 10, 12: what only rises, and what bounds what. */
static void check_order(struct sim *sim, struct sim_node *node, raft_group group,
                        const struct node_group_status *status)
{
    const struct raft_status *raft = &status->raft;
    struct sim_node_group *seen = &node->groups[group];
    bool is_right = raft->commit >= seen->commit && raft->applied >= seen->applied &&
                    raft->term >= seen->term && raft->commit <= raft->last &&
                    raft->applied <= raft->commit && raft->applied <= raft->durable &&
                    status->flushed <= raft->applied && raft->first <= status->flushed + 1 &&
                    raft->applied == status->state.index;
    if (!is_right) {
        sim_fail(sim,
                 "[10] group %" PRIu32 " of node %u: term %" PRIu64 " first %" PRIu64
                 " last %" PRIu64 " durable %" PRIu64 " commit %" PRIu64 " applied %" PRIu64
                 " state %" PRIu64 " flushed %" PRIu64 "; before: term %" PRIu64 " commit %" PRIu64
                 " applied %" PRIu64,
                 group, node->number, raft->term, raft->first, raft->last, raft->durable,
                 raft->commit, raft->applied, status->state.index, status->flushed, seen->term,
                 seen->commit, seen->applied);
    }
    if (status->frozen_count > seen->frozen_count) {
        sim->result->counters.freezes++;
        moments_note(sim, node, MOMENT_FREEZE);
    }
    seen->commit = raft->commit;
    seen->applied = raft->applied;
    seen->term = raft->term;
    seen->frozen_count = status->frozen_count;
}

/* What a core keeps in memory is bounded in bytes, however slowly its entries are applied. */
static void check_memory(struct sim *sim, const struct sim_node *node, raft_group group,
                         const struct raft_status *status)
{
    bool has_tail = status->commit < status->last || status->durable < status->last;
    uint64_t newest_bytes = ENTRY_HEADER_BYTES + ENTRY_PAYLOAD_BYTES_MAX;
    const struct buf *newest = mem_log_entry(&node->disk->logs[group], status->last);
    if (newest != NULL) newest_bytes = newest->count;
    if (!has_tail && status->memory_bytes > sim->swarm.log_cache_bytes + newest_bytes) {
        sim_fail(sim,
                 "[86] group %" PRIu32 " of node %u: %" PRIu64 " bytes of entries in memory, all "
                 "committed and durable; applied %" PRIu64 " of %" PRIu64,
                 group, node->number, status->memory_bytes, status->applied, status->last);
    }
}

/* Invariants 2, 8: its disk holds the committed log wherever it says so. */
static void check_prefix(struct sim *sim, struct sim_node *node, raft_group group,
                         const struct raft_status *status)
{
    struct sim_node_group *seen = &node->groups[group];
    const struct mem_log *log = &node->disk->logs[group];
    raft_index end = TL_MIN(status->commit, status->durable);
    seen->verified = TL_MAX(seen->verified, log->base.index);
    for (raft_index i = seen->verified + 1; i <= end; i++) {
        const struct buf *entry = mem_log_entry(log, i);
        if (entry == NULL ||
            !hash_equal(entry_hash(entry), ghost_at(&sim->ghosts[group], i)->hash)) {
            sim_fail(sim,
                     "[2] group %" PRIu32 ": node %u calls its entry %" PRIu64
                     " committed, which is another",
                     group, node->number, i);
            return;
        }
    }
    seen->verified = TL_MAX(seen->verified, end);
}

/* Invariant 5: equal index, equal state; and the state is the model's. */
static void check_state(struct sim *sim, const struct sim_node *node, raft_group group,
                        const struct group_state *state)
{
    if (state->index == 0) return;
    struct ghost_entry *ghost = ghost_at(&sim->ghosts[group], state->index);
    bool is_right = state->term == ghost->term && state->time_us == ghost->time_us &&
                    hash_equal(state->chain_hash, ghost->hash);
    if (group == NODE_DATA_GROUP) {
        const struct model_step *step = model_step(&sim->model, state->index);
        is_right = is_right && state->revision == step->revision &&
                   state->rows_count == step->rows_count &&
                   state->records_next - state->records_first == step->records_count;
    }
    if (!ghost->has_state) {
        ghost->has_state = true;
        ghost->rows_digest = state->rows_digest;
        ghost->records_digest = state->records_digest;
    }
    /* As above. */
    if (sim->options.mutation == KV_MUTATION_OWN_TIME) return;
    is_right = is_right && hash_equal(ghost->rows_digest, state->rows_digest) &&
               hash_equal(ghost->records_digest, state->records_digest);
    if (!is_right) {
        sim_fail(sim,
                 "[5] group %" PRIu32 ": the state of node %u at %" PRIu64
                 " is not that of the others or of the model (revision %" PRIu64 ", rows %" PRIu64
                 ")",
                 group, node->number, state->index, state->revision, state->rows_count);
    }
}

void oracle_on_start(struct sim *sim, struct sim_node *node)
{
    if (!host_is_born(node)) return;
    struct node_group_status status;
    node_get_group_status(node->node, NODE_DATA_GROUP, &status);
    node->replayed_count = status.replay_left;
    sim->result->counters.replayed_at_start += status.replay_left;
    /* Invariant 24: recovery starts at what was flushed. */
    raft_index flushed = table_index(node->disk, NODE_DATA_GROUP);
    if (status.state.index < flushed) {
        sim_fail(sim, "[24] node %u recovers at %" PRIu64 ", flushed was %" PRIu64, node->number,
                 status.state.index, flushed);
    }
}

static void judge(struct sim *sim, const struct judgement *judgement);

void oracle_observe(struct sim *sim, struct sim_node *node)
{
    if (!host_is_born(node)) return;
    for (raft_group g = 0; g < SIM_GROUPS_COUNT && !sim->is_over; g++) {
        struct node_group_status status;
        node_get_group_status(node->node, g, &status);
        if (!node->has_failed) check_order(sim, node, g, &status); /* it may have amid a step */
        ghost_extend(sim, node, g, &status.raft);
        if (sim->is_over) return;
        if (status.raft.role == RAFT_LEADER) check_leader(sim, node, g, &status.raft);
        conf_observe(sim, node, &status.raft, g);
        clocks_observe(sim, node, g, &status.raft);
        if (node->disk->is_altered) {
            rot_observe(sim, node, g, &status.raft);
            continue; /* it cannot know better */
        }
        check_prefix(sim, node, g, &status.raft);
        check_memory(sim, node, g, &status.raft);
        check_state(sim, node, g, &status.state);
    }
    for (size_t i = 0; i < sim->judgements_count; i++) {
        struct judgement *judgement = &sim->judgements[i];
        judge(sim, judgement);
        judgement_clear(judgement);
    }
    sim->judgements_count = 0;
}

/* ---- what leaves a node ---- */

/* Invariant 8: a promise is on disk before it is told. */
static void check_promise(struct sim *sim, const struct sim_node *from,
                          const struct raft_message *message)
{
    const struct mem_log *log = &from->disk->logs[message->group];
    const struct raft_hard_state *durable = &log->hard_state;
    bool is_vote = message->type == RAFT_VOTE_REPLY && message->granted;
    bool is_append = message->type == RAFT_APPEND_REPLY && message->reject == RAFT_REJECT_NONE;
    bool is_own_term = message->type == RAFT_VOTE || message->type == RAFT_APPEND;
    if (!is_vote && !is_append && !is_own_term) return;
    bool is_right = durable->term >= message->term;
    if (is_own_term && durable->term == message->term) is_right = durable->vote == from->id;
    if (is_vote && durable->term == message->term) is_right = durable->vote == message->to;
    if (is_append && durable->term == message->term) {
        is_right = is_right && log->last >= message->index;
    }
    if (!is_right) {
        sim_fail(sim,
                 "[8] group %" PRIu32 ": node %u sends a %s of term %" PRIu64
                 " before what it promises is on its disk",
                 message->group, from->number, raft_message_type_name(message->type),
                 message->term);
    }
}

void oracle_observe_message(struct sim *sim, struct sim_node *from, struct bytes frame)
{
    struct frame_header header;
    if (frame_header_decode(frame.data, &header) != TL_OK || header.type != FRAME_RAFT) return;
    struct reader reader =
        reader_make(bytes_make(frame.data + FRAME_HEADER_BYTES, frame.count - FRAME_HEADER_BYTES));
    struct raft_batch_head head;
    enum tl_err err = raft_batch_head_decode(&reader, true, &head);
    for (uint32_t i = 0; err == TL_OK && i < head.messages_count; i++) {
        struct raft_message message;
        err = raft_message_decode(&reader, &message);
        if (err != TL_OK) break;
        check_promise(sim, from, &message);
        ack_on_sent(sim, from, &message);
        deposal_on_sent(sim, from, &message);
        rot_check_sent(sim, from, &message);
        if (message.type == RAFT_TIMEOUT_NOW) moments_note(sim, from, MOMENT_TRANSFER);
        if (message.type == RAFT_VOTE_REPLY) moments_note(sim, from, MOMENT_VOTE);
        sim_trace(sim,
                  "n%u sends %s g%" PRIu32 " term %" PRIu64 " index %" PRIu64 " commit %" PRIu64
                  " +%" PRIu32,
                  from->number, raft_message_type_name(message.type), message.group, message.term,
                  message.index, message.commit, message.entries_count);
        raft_message_clear(&message);
    }
    if (err != TL_OK) sim_fail(sim, "node %u sends what does not decode", from->number);
}

/* ---- answers ---- */

void oracle_judge(struct sim *sim, const struct judgement *judgement)
{
    if (sim->judgements_count == sim->judgements_capacity) {
        sim->judgements_capacity =
            sim->judgements_capacity == 0 ? 64 : 2 * sim->judgements_capacity;
        sim->judgements =
            realloc(sim->judgements, sim->judgements_capacity * sizeof *sim->judgements);
        TL_ASSERT(sim->judgements != NULL);
    }
    sim->judgements[sim->judgements_count++] = *judgement;
}

static bool result_equals(const struct kv_result *a, const struct kv_result *b)
{
    return a->status == b->status && a->flags == b->flags && a->revision == b->revision &&
           a->version == b->version && a->number == b->number && a->time_us == b->time_us &&
           a->group_revision == b->group_revision && a->index == b->index &&
           bytes_equal(a->results, b->results);
}

/* Invariants 13 and 16: an acknowledged write is committed, with that result, after all that was
 * acknowledged before it was asked. */
static void judge_write(struct sim *sim, const struct judgement *judgement)
{
    raft_index index = judgement->result.index;
    sim->result->counters.writes_ok++;
    if (index < 1 || index > sim->model.steps_count) {
        sim_fail(sim, "[13] attempt %" PRIu64 " is acknowledged at %" PRIu64 ", committed is %zu",
                 judgement->attempt, index, sim->model.steps_count);
        return;
    }
    const struct model_step *step = model_step(&sim->model, index);
    if (step->origin != judgement->attempt) {
        sim_fail(sim,
                 "[13] attempt %" PRIu64 " is acknowledged at %" PRIu64 ", where attempt %" PRIu64
                 " stands",
                 judgement->attempt, index, step->origin);
    }
    const struct kv_result *result = &judgement->result;
    sim->result->counters.txns_applied += result->status == KV_TXN;
    if (!result_equals(result, &step->result)) {
        sim_fail(sim,
                 "[13] attempt %" PRIu64 " at %" PRIu64 " is answered status %d revision %" PRIu64
                 " version %" PRIu64 " number %" PRIi64 " flags %d; the model says %d %" PRIu64
                 " %" PRIu64 " %" PRIi64 " %d",
                 judgement->attempt, index, (int)result->status, result->revision, result->version,
                 result->number, result->flags, (int)step->result.status, step->result.revision,
                 step->result.version, step->result.number, step->result.flags);
    }
    if (index <= judgement->floor) {
        sim_fail(sim,
                 "[16] attempt %" PRIu64 " stands at %" PRIu64 ", before %" PRIu64
                 ", which was acknowledged before it was asked",
                 judgement->attempt, index, judgement->floor);
    }
}

static void judge_read_key(struct sim *sim, const struct judgement *judgement, uint32_t i)
{
    uint8_t room[16];
    struct bytes key = bytes_make(room, workload_key(judgement->keys[i], room));
    const struct model_version *version = model_find(&sim->model, key, judgement->applied);
    const struct buf *value = judgement->values[i];
    const struct row_header *header = &judgement->headers[i];
    bool exists = version != NULL && version->exists;
    bool is_right = exists == (value != NULL);
    if (exists && value != NULL) {
        is_right = bytes_equal(buf_bytes(value), buf_bytes(version->value)) &&
                   header->revision == version->header.revision &&
                   header->version == version->header.version &&
                   header->origin == version->header.origin;
    }
    if (is_right) return;
    sim_fail(sim,
             "[17] attempt %" PRIu64 " reads %.*s at %" PRIu64 ": %s revision %" PRIu64
             "; the model has %s revision %" PRIu64,
             judgement->attempt, (int)key.count, (const char *)key.data, judgement->applied,
             value == NULL ? "absent" : "there", value == NULL ? 0 : header->revision,
             exists ? "there" : "absent", exists ? version->header.revision : 0);
}

/* Whether the key is in the scan's range and there at its index. */
static bool is_expected(const struct sim *sim, const struct judgement *judgement, uint32_t number)
{
    const struct sim_scan *scan = &judgement->scan;
    uint8_t rooms[3][16];
    struct bytes key = bytes_make(rooms[0], workload_key(number, rooms[0]));
    struct bytes start = bytes_make(rooms[1], workload_key(scan->start, rooms[1]));
    struct bytes end = bytes_make(rooms[2], workload_key(scan->end, rooms[2]));
    const struct model_version *version = model_find(&sim->model, key, judgement->applied);
    return version != NULL && version->exists &&
           (!scan->has_start || bytes_compare(key, start) >= 0) &&
           (!scan->has_end || bytes_compare(key, end) < 0);
}

/* A page is what the model has at its index, in order and without a hole, up to its limit. Keys
 * have one digit: their order is that of their numbers. */
static void judge_scan(struct sim *sim, const struct judgement *judgement)
{
    _Static_assert(SIM_KEYS_MAX <= 10, "keys have one digit");
    const struct sim_scan *scan = &judgement->scan;
    uint32_t seen = 0;
    bool is_right = true;
    bool is_last = true;
    for (uint32_t i = 0; i < SIM_KEYS_MAX; i++) {
        uint32_t number = scan->is_reverse ? SIM_KEYS_MAX - 1 - i : i;
        if (!is_expected(sim, judgement, number)) continue;
        if (seen == scan->rows_max) {
            is_last = false;
            break;
        }
        is_right = is_right && seen < judgement->keys_count && judgement->keys[seen] == number;
        seen++;
    }
    sim->result->counters.scans_checked++;
    if (is_right && seen == judgement->keys_count && is_last == judgement->is_last_page) return;
    sim_fail(sim, "[17] scan %" PRIu64 " at %" PRIu64 " has %u rows, the model %u; or other ones",
             judgement->attempt, judgement->applied, judgement->keys_count, seen);
}

/* Invariants 17 to 19: a read sees exactly one index; linearizable: one at or above everything
 * acknowledged before it was asked; causal: one that covers its token. */
static void judge_read(struct sim *sim, const struct judgement *judgement)
{
    if (judgement->is_of_altered) return;
    sim->result->counters.reads_checked++;
    raft_index applied = judgement->applied;
    if (applied > sim->model.steps_count) {
        sim_fail(sim, "[17] attempt %" PRIu64 " reads at %" PRIu64 ", committed is %zu",
                 judgement->attempt, applied, sim->model.steps_count);
        return;
    }
    if (applied < judgement->floor) {
        sim_fail(sim,
                 "[18] the linearizable read %" PRIu64 " is of %" PRIu64 ", but %" PRIu64
                 " was acknowledged before it was asked",
                 judgement->attempt, applied, judgement->floor);
    }
    if (judgement->token_us > 0 &&
        (applied == 0 || model_step(&sim->model, applied)->time_us < judgement->token_us)) {
        sim_fail(sim, "[19] the causal read %" PRIu64 " at %" PRIu64 " does not cover its token",
                 judgement->attempt, applied);
    }
    for (uint32_t i = 0; i < judgement->keys_count; i++) judge_read_key(sim, judgement, i);
    if (judgement->scan.is_scan) judge_scan(sim, judgement);
}

static void judge(struct sim *sim, const struct judgement *judgement)
{
    if (judgement->is_read) {
        judge_read(sim, judgement);
    } else {
        judge_write(sim, judgement);
    }
}
