/* rot.c - disks that give back other bytes than were written to them.
 *
 *   damage      a bit of a log record, of a row or of another item of the table in use, or of the
 *               hard state is another one: no checksum fits any more
 *   alteration  the last entry of a log has other bytes under a chain hash that is right, as after
 *               an error of the memory while it was encoded: only the other replicas can tell
 *
 * One disk at a time, and only while the others have all that is promised. What becomes of it: the
 * process that finds it ends (exit 4) as soon as it has looked there, and neither serves, applies,
 * sends, truncates nor repairs what is there; started again it ends again; with an empty disk the
 * node takes its seat again. Of what nobody reads nobody knows: when all is healed, nodes start
 * again and check their logs, and the operator empties the others.
 */

#include "sim_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define END_NS (3 * SIM_S) /* after it was found, a second of which is for telling a client */
#define WRONG_NS (8 * SIM_S)
#define ALTERED_NS (10 * SIM_S) /* after all was healed */

bool rot_explains(const struct sim_node *node)
{
    return node->disk->is_damage_given || node->disk->is_altered;
}

static struct sim_node *find_rotten(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        if (mem_disk_has_damage(sim->nodes[i].disk)) return &sim->nodes[i];
    }
    return NULL;
}

/* ---- damage ---- */

static struct buf *flip_bit(struct sim *sim, const struct buf *buf)
{
    struct buf *damaged = buf_copy(buf_bytes(buf));
    uint64_t head = TL_MIN(buf->count, ENTRY_HEADER_BYTES);
    uint64_t bytes = prng_chance(&sim->more_random, 300000) ? head : buf->count;
    damaged->data[prng_below(&sim->more_random, bytes)] ^=
        (uint8_t)(1u << prng_below(&sim->more_random, 8));
    return damaged;
}

/* A committed one, often one of the last. */
static bool damage_record(struct sim *sim, struct sim_node *node, raft_group group)
{
    struct mem_log *log = &node->disk->logs[group];
    raft_index first = log->base.index + 1;
    raft_index last = TL_MIN(log->last, sim->ghosts[group].count);
    if (last < first) return false;
    if (prng_chance(&sim->more_random, 500000) && last - first > 8) first = last - 8;
    raft_index index = prng_between(&sim->more_random, first, last);
    log->damaged = flip_bit(sim, log->entries[index - 1]);
    log->damaged_index = index;
    sim->result->counters.records_damaged++;
    sim_trace(sim, "n%u: record %" PRIu64 " of g%" PRIu32 " rots", node->number, index, group);
    return true;
}

static struct mem_table *find_table(struct mem_disk *disk, raft_group group)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/kv.%" PRIu32 ".%" PRIu64, disk->path, group,
                   disk->logs[group].table_number);
    return mem_disk_find_table(disk, path);
}

static bool damage_item(struct sim *sim, struct sim_node *node, raft_group group)
{
    struct mem_table *table = find_table(node->disk, group);
    if (table == NULL || table->current == NULL || table->current->items_count == 0) return false;
    size_t count = table->current->items_count;
    struct mem_table_item *item = &table->current->items[prng_below(&sim->more_random, count)];
    struct buf *whole = item->value;
    item->value = flip_bit(sim, whole);
    item->is_damaged = true;
    buf_release(whole);
    sim->result->counters.items_damaged++;
    sim_trace(sim, "n%u: an item '%c' of the table of g%" PRIu32 " rots", node->number,
              item->key->data[0], group);
    return true;
}

static void on_checked(struct node_log_query *query, enum tl_err err)
{
    struct sim *sim = query->context;
    sim->is_log_checked = false;
    sim_trace(sim, "a check of a log ends: %s", tl_err_name(err));
}

/* A client asks for a check of the chain. */
static void check_log(struct sim *sim, const struct sim_node *node)
{
    if (sim->is_log_checked || !host_is_born(node)) return;
    sim->log_check = (struct node_log_query){
        .group = (raft_group)prng_below(&sim->more_random, SIM_GROUPS_COUNT),
        .kind = NODE_LOG_VERIFY,
        .timeout_ns = SIM_S,
        .on_done = on_checked,
        .context = sim,
    };
    sim->is_log_checked = node_log_query(node->node, &sim->log_check) == TL_OK;
}

void rot_inject(struct sim *sim, struct sim_node *node)
{
    struct sim_node *rotten = find_rotten(sim);
    if (rotten != NULL) {
        check_log(sim, rotten);
        return;
    }
    if (!members_can_lose(sim, node)) return;
    raft_group group = prng_chance(&sim->more_random, 800000) ? NODE_DATA_GROUP : 0;
    uint64_t dice = prng_below(&sim->more_random, 10);
    if (dice == 0) {
        node->disk->logs[group].is_head_damaged = true;
        sim->result->counters.heads_damaged++;
        sim_trace(sim, "n%u: the hard state of g%" PRIu32 " rots", node->number, group);
    } else if (dice < 4) {
        (void)damage_item(sim, node, group);
    } else {
        (void)damage_record(sim, node, group);
    }
}

/* ---- alteration ---- */

/* Whether the others cannot be made to take what this disk has: every one has what was written. */
static bool have_others(const struct sim *sim, const struct sim_node *node, raft_index index)
{
    struct hash128 hash = sim->ghosts[NODE_DATA_GROUP].entries[index - 1].hash;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        const struct sim_node *other = &sim->nodes[i];
        const struct mem_log *log = &other->disk->logs[NODE_DATA_GROUP];
        const struct buf *entry = mem_log_entry(log, index);
        if (other == node) continue;
        if (entry == NULL || !hash_equal(entry_hash(entry), hash)) return false;
    }
    return true;
}

/* The same with another byte in its value; NULL: it has none. */
static struct buf *alter(const struct buf *entry, struct hash128 previous_hash)
{
    struct command command;
    struct entry_header header;
    struct buf *altered = buf_copy(buf_bytes(entry));
    enum tl_err err = entry_decode(buf_bytes(altered), &header);
    TL_ASSERT(err == TL_OK);
    bool is_put = header.type == ENTRY_COMMAND &&
                  command_decode(entry_payload(altered), &command) == TL_OK &&
                  command.type == COMMAND_PUT && command.value.count > 0;
    if (!is_put) {
        buf_release(altered);
        return NULL;
    }
    altered->data[command.value.data - altered->data] ^= 1;
    entry_seal(altered, previous_hash, &header);
    return altered;
}

void rot_alter(struct sim *sim, struct sim_node *node)
{
    struct mem_log *log = &node->disk->logs[NODE_DATA_GROUP];
    if (sim_is_quiet(sim) || !prng_chance(&sim->more_random, sim->swarm.alter_ppm)) return;
    bool is_open = log->last > log->base.index + 1 && log->hard_state.commit < log->last &&
                   log->last <= sim->ghosts[NODE_DATA_GROUP].count;
    if (!is_open || find_rotten(sim) != NULL || !members_can_lose(sim, node)) return;
    if (!have_others(sim, node, log->last)) return;
    struct buf *altered =
        alter(log->entries[log->last - 1], entry_hash(log->entries[log->last - 2]));
    if (altered == NULL) return;
    buf_release(log->entries[log->last - 1]);
    log->entries[log->last - 1] = altered;
    node->disk->is_altered = true;
    node->disk->is_alteration_gone = false;
    node->disk->altered_index = log->last;
    sim->result->counters.entries_altered++;
    sim_trace(sim, "n%u: entry %" PRIu64 " was written with other bytes", node->number, log->last);
}

/* ---- what is found ---- */

static void push_judge(struct sim *sim, const struct sim_node *node)
{
    struct event event = {
        .kind = EVENT_ROT, .node = SIM_WORLD, .peer = node->number, .a = node->incarnation};
    sim_push(sim, sim->now_ns + END_NS, &event);
}

void rot_on_found(struct sim *sim, struct sim_node *node)
{
    sim->result->counters.damage_found++;
    sim_trace(sim, "n%u finds damage", node->number);
    push_judge(sim, node);
}

void rot_on_event(struct sim *sim, const struct event *event)
{
    const struct sim_node *node = &sim->nodes[event->peer];
    if (node->node == NULL || node->incarnation != event->a) return;
    if (node->paused_until_ns + END_NS > sim->now_ns && node->paused_until_ns > 0) {
        push_judge(sim, node);
        return;
    }
    sim_fail(sim, "[45] node %u goes on after it has found damage", node->number);
}

void rot_on_read_failed(struct sim *sim, struct sim_node *node)
{
    struct event event = {
        .kind = EVENT_CRASH, .node = node->number, .incarnation = node->incarnation};
    node->has_met_damage = true;
    sim_push(sim, sim->now_ns, &event);
}

/* It may be started again as it is: it has to end again. */
void rot_on_ended(struct sim *sim, struct sim_node *node)
{
    struct event event = {.kind = EVENT_START, .node = node->number};
    uint64_t down_ns = sim_exponential(&sim->more_random, sim->swarm.down_mean_ns);
    sim->result->counters.ends_by_damage++;
    sim->result->counters.ends_by_alteration += node->disk->is_altered;
    sim_push(sim, sim->now_ns + SIM_MS + (sim->is_calm ? 0 : down_ns), &event);
    if (prng_chance(&sim->more_random, 400000)) return;
    members_empty_disk(sim, node);
}

/* The others tell it when it leads: it has to end then. */
void rot_observe(struct sim *sim, struct sim_node *node, raft_group group,
                 const struct raft_status *status)
{
    if (group != NODE_DATA_GROUP) return;
    struct mem_disk *disk = node->disk;
    if (disk->is_alteration_gone && status->applied > disk->altered_index) {
        disk->is_altered = false; /* the snapshot that it has installed is right */
        return;
    }
    bool is_wrong = status->role == RAFT_LEADER && status->has_quorum;
    if (!is_wrong || node->wrong_term != status->term) {
        node->wrong_term = is_wrong ? status->term : 0;
        node->wrong_since_ns = sim->now_ns;
    } else if (sim->now_ns - node->wrong_since_ns > WRONG_NS) {
        sim_fail(sim, "[48] node %u leads on with an entry that is not the others'", node->number);
    }
}

/* What is sent of the committed log is what was written. */
void rot_check_sent(struct sim *sim, const struct sim_node *from,
                    const struct raft_message *message)
{
    const struct mem_log *log = &from->disk->logs[message->group];
    if (sim->swarm.rot_weight == 0 || from->disk->is_altered) return;
    for (uint32_t i = 0; i < message->entries_count; i++) {
        const struct buf *sent = message->entries[i];
        const struct buf *entry = mem_log_entry(log, message->index + 1 + i);
        if (entry == NULL || entry_term(sent) != entry_term(entry)) continue;
        if (bytes_equal(buf_bytes(sent), buf_bytes(entry))) continue;
        sim_fail(sim, "[46] node %u sends entry %" PRIu64 " as it never was", from->number,
                 message->index + 1 + i);
    }
}

/* ---- the end ---- */

static bool has_log_damage(const struct mem_disk *disk)
{
    for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) {
        if (disk->logs[g].damaged != NULL || disk->logs[g].is_head_damaged) return true;
    }
    return false;
}

void rot_calm(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (!node->is_wanted || !mem_disk_has_damage(node->disk)) continue;
        if (node->disk->is_altered) continue;
        host_crash(sim, node);
        if (!has_log_damage(node->disk)) members_empty_disk(sim, node);
    }
}

const char *rot_find_left(struct sim *sim, struct sim_node *node)
{
    struct mem_disk *disk = node->disk;
    if (disk->is_diverged) {
        /* Its digests told before its log did, and an operator does what its log line says. */
        host_crash(sim, node);
        members_empty_disk(sim, node);
        return "has an empty disk";
    }
    if (!disk->is_altered) return mem_disk_has_damage(disk) ? "has not found damage" : NULL;
    uint64_t since_ns = sim->now_ns - sim->liveness_stage_ns;
    if (since_ns < ALTERED_NS) return "has an entry that is not the others'";
    if (sim->ghosts[NODE_DATA_GROUP].count > disk->altered_index) {
        sim_fail(sim, "[47] node %u goes on with an entry that is not the others'", node->number);
    }
    /* Nothing has come behind it: only the operator could tell. */
    host_crash(sim, node);
    members_empty_disk(sim, node);
    return "has an empty disk";
}
