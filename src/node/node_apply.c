/* node_apply.c - from committed entries to rows, and from rows to the table.
 *
 *   applicable -> kv_state_apply -> active generation -> (due) -> frozen -> flush job -> table
 *
 * Freezing happens only between two entries, with the state as of the last of them; a flush gets
 * that generation and nothing live. An entry is applicable only when it is durable here, so a flush
 * never puts into the table what the log could lose.
 *
 * Entries come from the core's memory. After a restart, or when a slow apply let the core evict,
 * they are read from the log, one read being applied while the next is under way.
 */

#include "node_internal.h"

#include "trilith/crash_point.h"

/* A flush needs new pages for those that it replaces, before it gives any back: of at most 64 MiB,
 * which is much where little is left. */
#define LOW_SPACE_GENERATION_SHARE 8u

/* ---- freezing and flushing ---- */

bool node_group_has_generation(const struct node_group *group)
{
    return group->state.group.index > generation_first(views_active(group->views));
}

static bool has_room(const struct node_group *group)
{
    return views_frozen_count(group->views) < VIEW_FROZEN_MAX;
}

uint64_t node_group_freeze_deadline(const struct node_group *group)
{
    if (group->generation_began_ns == 0 || group->installing != NULL) return NODE_NEVER;
    if (!has_room(group)) return NODE_NEVER; /* tried again after the flush */
    return group->generation_began_ns + group->node->options.generation_age_ns;
}

static bool is_full(const struct node_group *group)
{
    if (!node_group_has_generation(group)) return false;
    const struct generation *active = views_active(group->views);
    uint32_t permille = group->generation_permille;
    if (node_is_low_on_space(group->node)) permille /= LOW_SPACE_GENERATION_SHARE;
    if (generation_is_full(active, permille)) return true;
    uint64_t bytes_max = node_limit(group->node, GENERATION_BYTES_MAX);
    if (generation_bytes(active) >= bytes_max * group->generation_permille / 1000) return true;
    uint64_t rows_max = group->node->options.generation_rows_max;
    if (rows_max == 0) return false;
    uint64_t rows_limit = TL_MAX(rows_max * group->generation_permille / 1000, 1u);
    return generation_keys_count(active) >= rows_limit;
}

static bool freeze_is_due(const struct node_group *group)
{
    const struct node *node = group->node;
    if (group->installing != NULL || !node_group_has_generation(group)) return false;
    if (is_full(group)) return true;
    if (node->now_ns >= group->generation_began_ns + node->options.generation_age_ns) return true;
    return node->is_draining && group->flushed < group->drain_index;
}

static void freeze(struct node_group *group)
{
    struct node *node = group->node;
    uint32_t frozen_count = views_frozen_count(group->views);
    TL_ASSERT(frozen_count < VIEW_FROZEN_MAX);
    TL_ASSERT(group->conf != NULL);
    views_freeze(group->views, &group->state.group, buf_bytes(group->conf));
    group->frozen_order[frozen_count] = ++node->freezes_count;
    group->generation_began_ns = 0;
    /* Drawn anew each time, so that nodes that apply the same entries do not flush together. */
    group->generation_permille = (uint32_t)prng_between(&node->prng, 500, 1000);
}

void node_group_maybe_freeze(struct node_group *group)
{
    if (freeze_is_due(group) && has_room(group)) freeze(group);
}

/* What a flush would write if it could see live state: the planted bug that a crash must show. */
static void leak_live_counters(struct node_group *group, const struct generation *generation)
{
    struct group_state *final = (struct group_state *)generation_final(generation);
    final->revision = group->state.group.revision;
    final->rows_count = group->state.group.rows_count;
    final->records_first = group->state.group.records_first;
    final->records_next = group->state.group.records_next;
}

void node_maybe_flush(struct node *node)
{
    if (node->flush_group != NULL) return;
    struct node_group *oldest = NULL;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct node_group *group = node->groups[i];
        if (views_frozen_count(group->views) == 0 || group->installing != NULL) continue;
        if (oldest == NULL || group->frozen_order[0] < oldest->frozen_order[0]) oldest = group;
    }
    if (oldest == NULL) return;
    const struct generation *generation = views_oldest_frozen(oldest->views);
    TL_ASSERT(generation_first(generation) == oldest->flushed);
    TL_ASSERT(generation_final(generation)->index <= oldest->applicable);
    if (node->options.mutation == NODE_MUTATION_LIVE_COUNTERS) {
        leak_live_counters(oldest, generation);
    }
    node->flush_group = oldest;
    node->flush_index = generation_final(generation)->index;
    node->flush_began_ns = node->now_ns;
    node->flush_job = (struct node_flush_job){
        .group = oldest->id,
        .table = oldest->table,
        .generation = generation,
        .mutation = node->options.mutation,
    };
    node->io.flush(node->io.context, &node->flush_job);
}

/* ---- replay ---- */

static bool job_holds(const struct node_job *job, raft_index index)
{
    return index >= job->read.first && index - job->read.first < job->read.entries_count;
}

/* Asks the log for entries from `first` on, unless a read is under way or come already. */
static void read_ahead(struct node_group *group, raft_index first)
{
    if (group->replay_ahead != NULL || first > group->applicable) return;
    struct node_job *job = node_take_job(group->node);
    job->read.group = group->id;
    job->read.first = first;
    job->read.last = group->applicable; /* committed: never truncated meanwhile */
    job->read.bytes_max = NODE_REPLAY_READ_BYTES;
    job->read.purpose = NODE_LOG_READ_APPLY;
    job->read.peer = RAFT_ID_NONE;
    job->is_out = true;
    group->replay_ahead = job;
    group->node->io.log_read(group->node->io.context, &job->read);
}

void node_group_replay_come(struct node_group *group, struct node_job *job)
{
    if (job->is_stale) {
        job->is_stale = false;
        node_free_job(group->node, job);
        return;
    }
    TL_ASSERT(job == group->replay_ahead);
    if (job->read.entries_count > 0) return;
    if (group->installing != NULL && group->installing->state == RECEIVING_INSTALLING) {
        /* The switch is on the disk, and its completion still on its way here. */
        node_free_job(group->node, TL_TAKE(&group->replay_ahead));
        return;
    }
    struct tl_fault fault;
    tl_fault_set(&fault, "log", group->id, job->read.first, "a committed entry is missing");
    node_fail(group->node, &fault);
}

/* The entry, borrowed until the next call; NULL: it is being read. */
static const struct buf *find_entry(struct node_group *group, raft_index index)
{
    const struct buf *entry = raft_entry(group->raft, index);
    if (entry != NULL) return entry;
    struct node *node = group->node;
    if (group->replay != NULL && !job_holds(group->replay, index)) {
        node_free_job(node, TL_TAKE(&group->replay));
    }
    if (group->replay == NULL && group->replay_ahead != NULL && !group->replay_ahead->is_out) {
        struct node_job *job = TL_TAKE(&group->replay_ahead);
        if (job_holds(job, index)) {
            group->replay = job;
        } else {
            node_free_job(node, job); /* overtaken by entries from memory */
        }
    }
    if (group->replay == NULL) {
        read_ahead(group, index);
        return NULL;
    }
    raft_index behind = group->replay->read.first + group->replay->read.entries_count;
    if (raft_entry(group->raft, behind) == NULL) read_ahead(group, behind);
    return group->replay->read.entries[index - group->replay->read.first];
}

/* ---- applying ---- */

static void apply_failed(struct node_group *group, raft_index index)
{
    const struct tl_fault *fault = kv_table_fault(group->kv);
    struct tl_fault undecodable;
    if (group->state.fault_reason != NULL) {
        tl_fault_set(&undecodable, group->table_dir, group->id, index, "%s",
                     group->state.fault_reason);
        fault = &undecodable;
    }
    node_fail(group->node, fault);
}

/* Applies the next entry. false: it could not be; the node may have failed. */
static bool apply_next(struct node_group *group)
{
    struct node *node = group->node;
    raft_index index = group->state.group.index + 1;
    const struct buf *entry = find_entry(group, index);
    if (entry == NULL) return false;
    TL_ASSERT(entry_index(entry) == index);
    struct kv_result result;
    bool is_awaited = node_group_awaits(group, index);
    enum tl_err err =
        kv_state_apply(&group->state, group->kv, entry, is_awaited ? &result : NULL);
    if (err != TL_OK) {
        apply_failed(group, index);
        return false;
    }
    TL_ASSERT(group->state.group.index == index);
    if (group->generation_began_ns == 0) group->generation_began_ns = TL_MAX(node->now_ns, 1u);
    node->metrics.entries_applied_count++;
    enum entry_type type = entry_type_of(entry);
    bool is_command = type == ENTRY_COMMAND;
    if (type == ENTRY_GENESIS || type == ENTRY_CONF) {
        buf_release(group->conf);
        group->conf = buf_copy(entry_payload(entry));
        CRASH_POINT("conf-applied");
        node_member_wake(node);
    }
    node_group_writes_applied(group, index, entry_term(entry),
                              is_command && is_awaited ? &result : NULL);
    if (index % node->options.digest_interval == 0) node_group_note_digest(group);
    return true;
}

/* Applies what may be applied, within kv_table_begin/end: about a millisecond's work in a turn, so
 * that heartbeats are sent and heard between two turns. An entry is not divided. */
static void apply_batch(struct node_group *group)
{
    for (uint32_t i = 0; i < NODE_APPLY_TURN_MAX && group->applied_bytes < NODE_APPLY_TURN_BYTES;
         i++) {
        if (group->state.group.index == group->applicable) return;
        node_group_maybe_freeze(group);
        group->is_apply_stalled = is_full(group);
        if (group->is_apply_stalled || !apply_next(group)) return;
        group->applied_bytes += group->state.cost_bytes;
    }
    group->has_more_to_apply = group->state.group.index < group->applicable;
}

/* Gives back reads that apply has gone past. */
static void drop_replay(struct node_group *group)
{
    raft_index next = group->state.group.index + 1;
    if (group->replay != NULL && !job_holds(group->replay, next)) {
        node_free_job(group->node, TL_TAKE(&group->replay));
    }
    struct node_job *ahead = group->replay_ahead;
    if (ahead != NULL && !ahead->is_out && next >= ahead->read.first && !job_holds(ahead, next)) {
        node_free_job(group->node, TL_TAKE(&group->replay_ahead));
    }
}

/* Group 0 has one row that matters here. */
static void load_placement(struct node_group *group)
{
    struct tl_fault fault;
    enum tl_err err = node_member_load(group, &fault);
    if (err != TL_OK && err != TL_ERR_NOT_FOUND) node_fail(group->node, &fault);
}

void node_group_apply(struct node_group *group)
{
    raft_index applied = group->state.group.index;
    group->has_more_to_apply = false;
    if (applied == group->applicable || group->installing != NULL) return;
    if (kv_table_begin(group->kv) != TL_OK) {
        node_fail(group->node, kv_table_fault(group->kv));
        return;
    }
    apply_batch(group);
    if (group->id == 0 && !group->node->is_failed) load_placement(group);
    kv_table_end(group->kv);
    if (group->node->is_failed) return;
    if (group->state.group.index == applied) return;
    raft_applied(group->raft, group->state.group.index);
    drop_replay(group);
}
