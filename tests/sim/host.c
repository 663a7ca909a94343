/* host.c - the machines: node processes with their threads' work in virtual time, their disks, and
 * their deaths. */

#include "sim_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "trilith/crash_point.h"
#include "trilith/placement_change.h"

#define DRAIN_NS (5 * SIM_S) /* as long as the server waits before it just ends */
#define COMMIT_MAX_NS (19 * SIM_S) /* by its clock 20: a process whose commit hangs longer ends */
#define TIMERS_PAST_MAX 1000u    /* turns in a row that ask for the next one at once */
#define EXIT_EXPELLED 3
#define EXIT_STORAGE 4

static struct sim *sim_of; /* node_io's context is the node; one simulation at a time */

uint64_t host_node_time(const struct sim_node *node, uint64_t world_ns)
{
    uint64_t real_ns = world_ns + sim_of->clocks.slept_ns;
    int64_t drift = (int64_t)(real_ns / 1000000) * node->clock_ppm;
    return (uint64_t)((int64_t)real_ns + drift);
}

static uint64_t world_time(const struct sim_node *node, uint64_t node_ns)
{
    /* The drift is that of the real time, which is found in two steps: after days of sleep one step
     * is milliseconds wrong, and a timer that comes early is set again and again. */
    int64_t real_ns = (int64_t)node_ns - (int64_t)(node_ns / 1000000) * node->clock_ppm;
    real_ns = (int64_t)node_ns - real_ns / 1000000 * node->clock_ppm;
    int64_t world_ns = real_ns - (int64_t)sim_of->clocks.slept_ns;
    return world_ns < 0 ? 0 : (uint64_t)world_ns;
}

static void push(struct sim *sim, struct sim_node *node, uint64_t delay_ns, enum event_kind kind,
                 void *data)
{
    struct event event = {
        .kind = kind, .node = node->number, .incarnation = node->incarnation, .data = data};
    sim_push(sim, sim->now_ns + delay_ns, &event);
}

void host_wake(struct sim *sim, struct sim_node *node)
{
    if (node->has_turn_coming || node->node == NULL) return;
    node->has_turn_coming = true;
    push(sim, node, prng_below(&sim->disk_random, sim->swarm.turn_delay_ns), EVENT_TURN, NULL);
}

/* ---- node_io ---- */

static uint64_t io_now_ns(void *context)
{
    return host_node_time(context, sim_of->now_ns);
}

uint64_t host_clock_us(const struct sim_node *node)
{
    if (node->clock_stopped_us != 0) return node->clock_stopped_us;
    const uint64_t epoch_us = 1700000000000000ull;
    int64_t since_us =
        (int64_t)(host_node_time(node, sim_of->now_ns) / 1000) + node->clock_offset_us;
    return epoch_us + (uint64_t)since_us;
}

static uint64_t io_clock_us(void *context)
{
    return host_clock_us(context);
}

static void io_random(void *context, void *out_bytes, size_t count)
{
    struct sim_node *node = context;
    uint8_t *at = out_bytes;
    for (size_t i = 0; i < count; i++) at[i] = (uint8_t)prng_below(&node->random, 256);
}

static uint64_t draw_latency(struct sim *sim, uint64_t min_ns, uint64_t mean_ns)
{
    uint64_t latency = min_ns + sim_exponential(&sim->disk_random, mean_ns);
    if (!sim_is_quiet(sim) && prng_chance(&sim->disk_random, sim->swarm.stall_ppm)) {
        sim->result->counters.disk_stalls++;
        latency += sim_exponential(&sim->disk_random, sim->swarm.stall_mean_ns);
    }
    return latency;
}

/* The writer takes everything that is there and commits it. */
static void take_queue(struct sim *sim, struct sim_node *node)
{
    if (node->taken != NULL || node->queue == NULL) return;
    node->taken = TL_TAKE(&node->queue);
    node->taken_ns = sim->now_ns;
    uint64_t latency = draw_latency(sim, sim->swarm.commit_min_ns, sim->swarm.commit_mean_ns);
    push(sim, node, latency, EVENT_LOG_COMMIT, NULL);
    nemesis_maybe_crash_in(sim, node, sim->swarm.crash_in_commit_ppm, latency);
}

static void io_log_commit(void *context, struct node_log_batch *batch)
{
    struct sim_node *node = context;
    struct node_log_batch **at = &node->queue;
    while (*at != NULL) at = &(*at)->next;
    batch->next = NULL;
    *at = batch;
    for (uint32_t i = 0; i < batch->ops_count; i++) {
        const struct log_op *op = &batch->ops[i];
        for (uint32_t k = 0; k < op->entries_count; k++) clocks_on_made(sim_of, op->entries[k]);
    }
    take_queue(sim_of, node);
}

static void io_flush(void *context, struct node_flush_job *job)
{
    struct sim_node *node = context;
    TL_ASSERT(node->flush == NULL);
    node->flush = job;
    node->flush_is_durable = false;
    node->flush_is_of_storm = !sim_of->is_calm;
    uint64_t latency = draw_latency(sim_of, 50 * SIM_US, sim_of->swarm.flush_mean_ns);
    push(sim_of, node, latency, EVENT_FLUSH_COMMIT, NULL);
    moments_note(sim_of, node, MOMENT_FLUSH_BEGIN);
    nemesis_maybe_crash_in(sim_of, node, sim_of->swarm.crash_in_flush_ppm, latency);
}

static void io_log_read(void *context, struct node_log_read *job)
{
    struct sim_counters *counters = &sim_of->result->counters;
    if (job->purpose == NODE_LOG_READ_PEER) counters->log_reads_peer++;
    if (job->purpose == NODE_LOG_READ_APPLY) counters->log_reads_apply++;
    uint64_t latency = draw_latency(sim_of, 20 * SIM_US, sim_of->swarm.log_read_mean_ns);
    push(sim_of, context, latency, EVENT_LOG_READ, job);
}

static void start_snapshot(struct sim *sim, struct sim_node *node)
{
    uint64_t latency = draw_latency(sim, 20 * SIM_US, sim->swarm.snapshot_mean_ns);
    push(sim, node, latency, EVENT_SNAPSHOT, NULL);
}

static void io_snapshot(void *context, struct node_snapshot_job *job)
{
    struct sim_node *node = context;
    TL_ASSERT(node->snapshots_count < SIM_SNAPSHOT_JOBS_MAX);
    node->snapshots[node->snapshots_count++] = job;
    if (node->snapshots_count == 1) start_snapshot(sim_of, node);
}

static bool send_in_lane(void *context, raft_id peer, enum peer_class class, bool is_urgent,
                         struct buf *frame)
{
    struct sim_node *node = context;
    if (node->is_crashing) {
        buf_release(frame);
        return false;
    }
    if (node->has_failed) sim_fail(sim_of, "[34] node %u sends after it has failed", node->number);
    if (class == PEER_CLASS_BULK) deposal_on_bulk(sim_of, node, peer);
    return network_send(sim_of, node, peer, class, is_urgent, frame);
}

static bool io_send(void *context, raft_id peer, enum peer_class class, struct buf *frame)
{
    return send_in_lane(context, peer, class, false, frame);
}

static bool io_send_urgent(void *context, raft_id peer, struct buf *frame)
{
    return send_in_lane(context, peer, PEER_CLASS_RAFT, true, frame);
}

static size_t io_backlog(void *context, raft_id peer)
{
    return network_backlog(sim_of, context, peer);
}

static const struct sim_store *find_store(const struct sim *sim, raft_id id)
{
    for (uint32_t i = 0; i < sim->stores_count; i++) {
        if (sim->stores[i].id == id) return &sim->stores[i];
    }
    return NULL;
}

static void io_set_peers(void *context, const struct store_id *cluster_id,
                         const struct member *members, uint32_t members_count)
{
    struct sim_node *node = context;
    struct sim *sim = sim_of;
    if (store_id_is_zero(&sim->cluster_id)) sim->cluster_id = *cluster_id;
    if (!store_id_equal(&sim->cluster_id, cluster_id)) {
        sim_fail(sim, "node %u belongs to a second cluster", node->number);
    }
    node->knows_count = members_count;
    for (uint32_t i = 0; i < members_count; i++) {
        node->knows[i] = store_id_raft(&members[i].store_id);
        if (find_store(sim, node->knows[i]) == NULL) {
            sim_fail(sim, "node %u has a member that never existed", node->number);
            return;
        }
    }
    sim_trace(sim, "n%u knows %u members", node->number, members_count);
    network_on_peers(sim, node);
}

static void io_ask(void *context, const char *peer_address, struct buf *frame)
{
    network_ask(sim_of, context, peer_address, frame);
}

static void io_set_timer(void *context, uint64_t deadline_ns)
{
    struct sim_node *node = context;
    bool is_past = deadline_ns <= host_node_time(node, sim_of->now_ns);
    node->timers_past = is_past ? node->timers_past + 1 : 0;
    if (node->timers_past > TIMERS_PAST_MAX) {
        sim_fail(sim_of, "[59] node %u has turn after turn and does not get on", node->number);
    }
    node->timer_token++;
    if (deadline_ns == UINT64_MAX) return;
    /* Rounded up, so that the node's clock has passed its deadline then. */
    uint64_t time_ns = world_time(node, deadline_ns) + 2000;
    struct event event = {.kind = EVENT_TIMER,
                          .node = node->number,
                          .incarnation = node->incarnation,
                          .a = node->timer_token};
    sim_push(sim_of, time_ns, &event);
}

/* Of a commit, by the clock that counts what was slept. */
static bool has_waited_for(const struct sim *sim, const struct node_log_batch *batch)
{
    return batch != NULL && clocks_real_ns(sim) > batch->issued_ns + COMMIT_MAX_NS;
}

static void io_fail(void *context, int exit_code, const struct tl_fault *fault)
{
    struct sim_node *node = context;
    struct sim *sim = sim_of;
    if (node->is_crashing) return;
    sim_trace(sim, "n%u must end: %d %s", node->number, exit_code, fault->reason);
    bool has_waited = has_waited_for(sim, node->taken) || has_waited_for(sim, node->queue);
    bool is_disk = exit_code == EXIT_STORAGE &&
                   (node->has_failed || has_waited || rot_explains(node));
    if (exit_code == EXIT_EXPELLED || is_disk) {
        if (exit_code == EXIT_EXPELLED) members_on_expelled(sim, node);
        node->has_failed = true;
        push(sim, node, 0, EVENT_CRASH, NULL);
        return;
    }
    sim_fail(sim_of,
             "node %u wants to end with code %d: %s group %" PRIu32 " index %" PRIu64 ": %s",
             node->number, exit_code, fault->file, fault->group, fault->index, fault->reason);
}

static void io_log(void *context, enum log_level level, const char *event, const char *format,
                   va_list args)
{
    const struct sim_node *node = context;
    char text[400] = "";
    if (format != NULL) (void)vsnprintf(text, sizeof text, format, args);
    sim_trace(sim_of, "n%u log %d %s %s", node->number, (int)level, event, text);
    /* Invariant 26. Of planted bug 27 the verdict is looked for, not the suspicion. */
    bool is_planted = sim_of->options.mutation == KV_MUTATION_OWN_TIME;
    /* Of one whose last entry was written wrongly they may tell it first. */
    if (sim_of->result->counters.entries_altered > 0) return;
    if (strcmp(event, "diverged") == 0 || (!is_planted && strcmp(event, "digests_differ") == 0)) {
        sim_fail(sim_of, "[26] node %u: %s %s", node->number, event, text);
    }
}

static struct node_io node_io_of(struct sim_node *node)
{
    return (struct node_io){
        .context = node,
        .now_ns = io_now_ns,
        .clock_us = io_clock_us,
        .random = io_random,
        .log_commit = io_log_commit,
        .flush = io_flush,
        .log_read = io_log_read,
        .snapshot = io_snapshot,
        .send = io_send,
        .send_urgent = io_send_urgent,
        .backlog = io_backlog,
        .set_peers = io_set_peers,
        .ask = io_ask,
        .set_timer = io_set_timer,
        .fail = io_fail,
        .log = io_log,
    };
}

/* ---- life ---- */

struct sim_node *host_find(struct sim *sim, raft_id id)
{
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        if (sim->nodes[i].id == id) return &sim->nodes[i];
    }
    return NULL;
}

bool host_is_born(const struct sim_node *node)
{
    return node->node != NULL && node_views(node->node, NODE_DATA_GROUP) != NULL;
}

bool host_leads(const struct sim *sim, const struct sim_node *node, raft_group group)
{
    struct node_group_status status;
    if (!host_is_born(node)) return false;
    node_get_group_status(node->node, group, &status);
    return status.raft.role == RAFT_LEADER &&
           status.raft.term == sim->ghosts[group].leader_term_max;
}

/* Planted bug 25 looks where a flusher must not look. */
static bool live_state(void *context, struct mem_disk *disk, raft_group group,
                       struct group_state *out_state)
{
    struct sim *sim = context;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->disk != disk || node->node == NULL) continue;
        struct node_group_status status;
        node_get_group_status(node->node, group, &status);
        *out_state = status.state;
        return true;
    }
    return false;
}

/* Counter at_stage_chunk is of the point "stage-chunk". */
static bool is_named(const char *counter, const char *point)
{
    if (strncmp(counter, "at_", 3) != 0) return false;
    for (counter += 3; *counter == *point || (*counter == '_' && *point == '-'); counter++) {
        if (*point++ == '\0') return true;
    }
    return false;
}

static void count_point(struct sim *sim, const char *point)
{
    uint64_t *found = NULL;
#define FIND_COUNTER(name) \
    if (is_named(#name, point)) found = &sim->result->counters.name;
    SIM_COUNTERS(FIND_COUNTER)
#undef FIND_COUNTER
    if (found == NULL) {
        sim_fail(sim, "the crash point %s has no counter", point);
    } else {
        (*found)++;
    }
}

/* From here on nothing that the process writes reaches its disk; it dies when the call is over. */
static void on_crash_point(const char *name)
{
    struct sim *sim = sim_of;
    struct sim_node *node = sim->at_disk;
    if (node == NULL || node->disk->is_cut_off || sim_is_quiet(sim)) return;
    if (!prng_chance(&sim->disk_random, sim->swarm.crash_at_point_ppm)) return;
    node->disk->is_cut_off = true;
    node->is_crashing = true;
    count_point(sim, name);
    sim_trace(sim, "n%u is cut off at %s", node->number, name);
}

static void add_store(struct sim *sim, struct sim_node *node)
{
    TL_ASSERT(sim->stores_count < SIM_STORES_MAX);
    node->disk = mem_disk_at(node->data_dir);
    node->id = store_id_raft(&node->disk->store_id);
    node->stores_count++;
    node->store = sim->stores_count;
    sim->stores[sim->stores_count++] =
        (struct sim_store){.id = node->id, .node = node->number, .disk = node->disk};
}

void host_empty_disk(struct sim *sim, struct sim_node *node)
{
    TL_ASSERT(node->node == NULL);
    sim_trace(sim, "n%u has an empty disk", node->number);
    sim->result->counters.disks_emptied++;
    mem_disk_retire(node->disk);
    add_store(sim, node);
    node->is_off = false;
}

void host_put_back(struct sim *sim, struct sim_node *node)
{
    TL_ASSERT(node->node == NULL);
    mem_disk_replace(node->disk, TL_TAKE(&node->copy));
    add_store(sim, node);
}

void host_init(struct sim *sim)
{
    sim_of = sim;
    sim->at_disk = NULL;
    crash_point_hook = on_crash_point;
    mem_disk_hooks.live_state = live_state;
    mem_disk_hooks.mutation = sim->options.mutation;
    placement_mutation = sim->options.mutation;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->number = i;
        (void)snprintf(node->address, sizeof node->address, "10.0.0.%u:8080", i + 1);
        (void)snprintf(node->peer_address, sizeof node->peer_address, "10.0.0.%u:18080", i + 1);
        (void)snprintf(node->data_dir, sizeof node->data_dir, "/sim/%u", i);
        add_store(sim, node);
        prng_init(&node->random, sim->options.seed * 31 + i);
        uint64_t ppm_max = (uint64_t)sim->swarm.clock_ppm_max;
        node->clock_ppm =
            (int32_t)prng_between(&node->random, 0, 2 * ppm_max) - sim->swarm.clock_ppm_max;
        node->clock_offset_us = (int64_t)prng_below(&node->random, 100000);
        node->is_wanted = node->is_founder = i < sim->swarm.founders_count;
        node->is_off = !node->is_wanted;
        uint64_t delay = prng_below(&node->random, sim->swarm.birth_spread_ns);
        if (node->is_wanted) push(sim, node, delay, EVENT_START, NULL);
    }
}

/* A running member to join through, any of them; NULL: none. */
static const struct sim_node *draw_introducer(struct sim *sim, const struct sim_node *node)
{
    const struct sim_node *found = NULL;
    uint64_t count = 0;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        const struct sim_node *other = &sim->nodes[i];
        bool is_member = other != node && other->is_wanted && other->disk->logs[0].exists;
        if (is_member && prng_below(&sim->fault_random, ++count) == 0) found = other;
    }
    return found;
}

static void set_member(struct member *member, const struct sim_node *node)
{
    *member = (struct member){0};
    (void)snprintf(member->address, sizeof member->address, "%s", node->address);
    (void)snprintf(member->peer_address, sizeof member->peer_address, "%s", node->peer_address);
}

/* view has room for all machines. A node that joins has itself in its view, and behind that whom it
 * asks. */
static void fill_options(struct sim *sim, struct sim_node *node, struct member *view,
                         struct node_options *options)
{
    uint32_t view_count = 0;
    for (uint32_t i = 0; i < sim->swarm.founders_count && node->is_founder; i++) {
        set_member(&view[view_count++], &sim->nodes[i]);
    }
    if (!node->is_founder) {
        set_member(&view[view_count++], node);
        const struct sim_node *introducer = draw_introducer(sim, node);
        set_member(&view[view_count],
                   introducer == NULL ? &sim->nodes[node->number == 0] : introducer);
    }
    *options = (struct node_options){
        .address = node->address,
        .peer_address = node->peer_address,
        .view = view,
        .view_count = view_count,
        .join = node->is_founder ? NULL : &view[view_count],
        .data_dir = node->data_dir,
        .data_groups_count = 1,
        .log_retain_bytes = sim->swarm.log_retain_bytes,
        .log_map_bytes = SIM_MAP_BYTES,
        .table_map_bytes = SIM_MAP_BYTES,
        .map_headroom_bytes = SIM_MAP_HEADROOM_BYTES,
        .election_timeout_ns = sim->swarm.election_timeout_ns,
        .heartbeat_interval_ns = sim->swarm.election_timeout_ns / 6,
        .generation_age_ns = sim->swarm.generation_age_ns,
        .digest_interval = 16, /* so that short runs compare many */
        .generation_rows_max = sim->swarm.generation_rows_max,
        .log_cache_bytes = sim->swarm.log_cache_bytes,
        .free_bytes_min = sim->swarm.free_bytes_min,
        .limits_divisor = sim->swarm.limits_divisor,
        .snapshot_chunk_bytes = sim->swarm.snapshot_chunk_bytes,
        .mutation = sim->options.mutation,
    };
    /* Planted bug 27 is one of a single machine. */
    if (sim->options.mutation == KV_MUTATION_OWN_TIME && node->number != 0) options->mutation = 0;
}

void host_start(struct sim *sim, struct sim_node *node)
{
    if (node->node != NULL) return;
    struct member view[SIM_NODES_MAX];
    struct node_options options;
    fill_options(sim, node, view, &options);
    struct node_io io = node_io_of(node);
    node->knows_count = 0;
    node->timers_past = 0;
    node->has_failed = false;
    node->has_met_damage = false;
    node->hangs_until_ns = 0;
    memset(node->groups, 0, sizeof node->groups);
    memset(node->promises, 0, sizeof node->promises);
    node->has_turn_coming = false;
    node->is_draining = false;
    node->queue = node->taken = NULL;
    node->flush = NULL;
    node->snapshots_count = 0;
    node->replayed_count = 0;
    sim->result->counters.starts++;
    sim_trace(sim, "n%u starts", node->number);
    struct tl_fault fault = {0};
    enum tl_err err = node_open(&options, &io, &node->node, &fault);
    bool is_old_copy = rollback_explains(sim, node);
    if (err == TL_ERR_FOREIGN && (is_old_copy || members_has_removed(sim, node->id))) {
        sim_trace(sim, "n%u is refused: %s", node->number, fault.reason);
        node->node = NULL;
        if (is_old_copy) {
            rollback_on_refused(sim, node);
            return;
        }
        node->is_off = true;
        return;
    }
    if ((err == TL_ERR_CORRUPT || err == TL_ERR_NEWER_FORMAT) && rot_explains(node)) {
        node->node = NULL;
        node->incarnation++;
        sim_trace(sim, "n%u does not open: %s", node->number, fault.reason);
        rot_on_ended(sim, node);
        return;
    }
    if (err != TL_OK) {
        node->node = NULL;
        sim_fail(sim, "node %u does not open: %s: %s", node->number, tl_err_text(err),
                 fault.reason);
        return;
    }
    oracle_on_start(sim, node);
    host_wake(sim, node);
}

/* An error of the disk: what was to be written may be there or not. */
static bool fails(struct sim *sim, struct sim_node *node)
{
    if (sim_is_quiet(sim)) return false;
    if (!prng_chance(&sim->disk_random, sim->swarm.commit_error_ppm)) return false;
    sim->result->counters.commit_errors++;
    sim_trace(sim, "a log commit of n%u fails", node->number);
    return true;
}

static void commit_batch(struct sim *sim, struct sim_node *node, struct node_log_batch *batch)
{
    struct tl_fault fault;
    enum tl_err err =
        log_store_commit(node_log_store(node->node), batch->ops, batch->ops_count, &fault);
    if (err != TL_OK && !node->disk->is_cut_off)
        sim_fail(sim, "log commit of node %u: %s", node->number, tl_err_text(err));
}

static void commit_flush(struct sim *sim, struct sim_node *node)
{
    struct tl_fault fault;
    enum tl_err err = table_flush(node->flush->table, node->flush->generation, &fault);
    if (err != TL_OK && !mem_table_stops_half_way && !node->disk->is_cut_off) {
        sim_fail(sim, "flush of node %u: %s", node->number, tl_err_text(err));
    }
    node->flush_is_durable = true;
}

/* What was under way when the process died is on disk or not, as a whole; of several commits, a
 * prefix. */
static void settle_writes(struct sim *sim, struct sim_node *node)
{
    struct sim_counters *counters = &sim->result->counters;
    bool is_kept = true;
    struct node_log_batch *lists[] = {node->taken, node->queue};
    if (node->taken != NULL) counters->crashes_in_commit++;
    for (size_t i = 0; i < TL_COUNT_OF(lists); i++) {
        for (struct node_log_batch *batch = lists[i]; batch != NULL; batch = batch->next) {
            is_kept = is_kept && prng_chance(&sim->disk_random, 500000);
            if (is_kept) commit_batch(sim, node, batch);
            *(is_kept ? &counters->commits_kept : &counters->commits_lost) += 1;
        }
    }
    if (node->flush == NULL || node->flush_is_durable) return;
    counters->crashes_in_flush++;
    if (prng_chance(&sim->disk_random, 500000)) {
        mem_table_stops_half_way = prng_chance(&sim->disk_random, 500000);
        commit_flush(sim, node);
        mem_table_stops_half_way = false;
    }
}

static void count_up(struct sim *sim, struct sim_node *node)
{
    struct sim_counters *counters = &sim->result->counters;
    const struct node_metrics *metrics = node_get_metrics(node->node);
    counters->forwards += metrics->writes_forwarded_count;
    counters->snapshots_sent += metrics->snapshots_sent_count;
    counters->snapshot_resumes += metrics->snapshot_resumes_count;
    counters->snapshots_failed += metrics->snapshots_failed_count;
    counters->installs += metrics->snapshots_installed_count;
    for (raft_group g = 0; g < SIM_GROUPS_COUNT && host_is_born(node); g++) {
        struct node_group_status status;
        node_get_group_status(node->node, g, &status);
        counters->elections_started += status.raft.elections_started_count;
        counters->read_rounds += status.raft.read_rounds_count;
        counters->chain_mismatches += status.raft.chain_mismatches_count;
    }
}

static void end_process(struct sim *sim, struct sim_node *node)
{
    settle_writes(sim, node);
    count_up(sim, node);
    /* A dead process deletes nothing. */
    if (node->is_crashing) node->disk->is_cut_off = true;
    view_reader_destroy(TL_TAKE(&node->reader));
    node_close(TL_TAKE(&node->node));
    node->is_crashing = false;
    node->is_draining = false;
    node->incarnation++;
    node->paused_until_ns = 0;
    node->queue = node->taken = NULL;
    node->flush = NULL;
    node->snapshots_count = 0;
    network_on_crash(sim, node);
    rot_alter(sim, node);
    nemesis_on_end(sim, node);
}

void host_crash(struct sim *sim, struct sim_node *node)
{
    if (node->node == NULL) return;
    sim->result->counters.crashes++;
    if (!host_is_born(node)) sim->result->counters.births_with_crash++;
    sim_trace(sim, "n%u crashes", node->number);
    node->is_crashing = true;
    end_process(sim, node);
}

void host_stop(struct sim *sim, struct sim_node *node)
{
    if (node->node == NULL || node->is_draining) return;
    sim->result->counters.stops++;
    sim_trace(sim, "n%u drains", node->number);
    node->is_draining = true;
    node_hand_over(node->node);
    node_drain(node->node);
    host_wake(sim, node);
    struct event event = {.kind = EVENT_DRAIN_CHECK,
                          .node = node->number,
                          .incarnation = node->incarnation,
                          .a = sim->now_ns + DRAIN_NS};
    sim_push(sim, sim->now_ns + 5 * SIM_MS, &event);
}

static void on_drain_check(struct sim *sim, struct sim_node *node, const struct event *event)
{
    if (!node_is_drained(node->node) && sim->now_ns < event->a) {
        sim_push(sim, sim->now_ns + 5 * SIM_MS, event);
        return;
    }
    sim_trace(sim, "n%u ends", node->number);
    end_process(sim, node);
}

void host_deinit(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->node == NULL) continue;
        count_up(sim, node);
        node->is_crashing = true;
        view_reader_destroy(TL_TAKE(&node->reader));
        node_close(TL_TAKE(&node->node));
    }
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        sim->result->counters.entries_truncated += sim->nodes[i].disk->truncations_count;
        sim->result->counters.entries_deleted += sim->nodes[i].disk->deletions_count;
        sim->result->counters.flushes += sim->nodes[i].disk->flushes_count;
    }
}

/* ---- events ---- */

/* The process has to end, whatever else it has to do. */
static void fail_commit(struct sim *sim, struct sim_node *node, struct node_log_batch *batch,
                        enum tl_err err)
{
    bool is_there = err == TL_ERR_IO && prng_chance(&sim->disk_random, 500000);
    while (batch != NULL) {
        struct node_log_batch *next = batch->next;
        if (is_there) commit_batch(sim, node, batch);
        struct event event = {.kind = EVENT_LOG_DONE,
                              .node = node->number,
                              .incarnation = node->incarnation,
                              .a = (uint64_t)-err,
                              .data = batch};
        sim_push(sim, sim->now_ns + SIM_TELL_DELAY_NS, &event);
        batch = next;
    }
    if (sim->options.mutation == NODE_MUTATION_IGNORE_LOG_ERROR) {
        take_queue(sim, node);
    } else {
        node->disk->is_cut_off = true; /* the store takes nothing any more */
    }
}

static void on_log_done(struct sim *sim, struct sim_node *node, struct node_log_batch *batch,
                        enum tl_err err)
{
    struct tl_fault fault;
    bool has_failed = err != TL_OK;
    tl_fault_set(&fault, node->data_dir, UINT32_MAX, 0, "a simulated error of the disk");
    node->has_failed = has_failed && sim->options.mutation != NODE_MUTATION_IGNORE_LOG_ERROR;
    sim->at_disk = node; /* a snapshot may be switched to: it can die at that */
    node_on_log_done(node->node, batch, err, &fault);
    sim->at_disk = NULL;
    if (node->is_crashing) {
        host_crash(sim, node);
    } else {
        host_wake(sim, node);
    }
}

static void on_log_commit(struct sim *sim, struct sim_node *node)
{
    if (node->hangs_until_ns > sim->now_ns) {
        push(sim, node, node->hangs_until_ns - sim->now_ns, EVENT_LOG_COMMIT, NULL);
        return;
    }
    struct node_log_batch *batch = TL_TAKE(&node->taken);
    moments_note(sim, node, MOMENT_LOG_COMMIT);
    enum tl_err err = fails(sim, node) ? TL_ERR_IO : TL_OK;
    if (err == TL_OK) err = full_stops_log(sim, node, batch);
    if (err != TL_OK) {
        fail_commit(sim, node, batch, err);
        return;
    }
    while (batch != NULL && !sim->is_over) {
        struct node_log_batch *next = batch->next;
        sim->at_disk = node;
        moments_note_ops(sim, node, batch->ops, batch->ops_count);
        commit_batch(sim, node, batch);
        sim->at_disk = NULL;
        if (node->disk->is_cut_off) {
            host_crash(sim, node);
            return;
        }
        push(sim, node, SIM_TELL_DELAY_NS, EVENT_LOG_DONE, batch);
        batch = next;
    }
    take_queue(sim, node);
}

static void on_flush_commit(struct sim *sim, struct sim_node *node)
{
    if (node->flush == NULL || node->flush_is_durable || node->disk->is_cut_off) return;
    enum tl_err err = full_stops_flush(sim, node);
    if (err != TL_OK) {
        node->disk->is_cut_off = true;
        struct event event = {.kind = EVENT_FLUSH_DONE,
                              .node = node->number,
                              .incarnation = node->incarnation,
                              .a = (uint64_t)-err};
        sim_push(sim, sim->now_ns + SIM_TELL_DELAY_NS, &event);
        return;
    }
    commit_flush(sim, node);
    push(sim, node, prng_below(&sim->disk_random, SIM_MS), EVENT_FLUSH_DONE, NULL);
    moments_note(sim, node, MOMENT_FLUSH_DONE);
}

static void tell_flush(struct sim *sim, struct sim_node *node)
{
    node_on_flush_done(node->node, TL_TAKE(&node->flush), TL_OK, NULL);
    host_wake(sim, node);
}

static void tell_flush_failed(struct sim *sim, struct sim_node *node, enum tl_err err)
{
    struct tl_fault fault;
    tl_fault_set(&fault, node->data_dir, UINT32_MAX, 0, "no space left");
    node->has_failed = true;
    node_on_flush_done(node->node, TL_TAKE(&node->flush), err, &fault);
    host_wake(sim, node);
}

void host_run_flush_now(struct sim *sim, struct sim_node *node, bool also_tell)
{
    if (node->flush == NULL) return;
    sim->result->counters.reads_in_flush++;
    if (!node->flush_is_durable) on_flush_commit(sim, node);
    if (!also_tell || !node->flush_is_durable) return;
    tell_flush(sim, node);
    node_turn(node->node);
}

static void on_log_read(struct sim *sim, struct sim_node *node, struct node_log_read *job)
{
    struct log_reader *reader = NULL;
    struct tl_fault fault = {0};
    enum tl_err err = log_reader_create(node_log_store(node->node), &reader);
    if (err == TL_OK) {
        err = node_log_read_carry_out(job, reader, &fault);
    }
    log_reader_destroy(reader);
    if (err != TL_OK) job->entries_count = 0;
    sim_trace(sim, "n%u reads g%" PRIu32 " %" PRIu64 "..%" PRIu64 " purpose %d: %" PRIu32 " %s",
              node->number, job->group, job->first, job->last, (int)job->purpose,
              job->entries_count, tl_err_name(err));
    node_on_log_read_done(node->node, job, err, &fault);
    host_wake(sim, node);
}

static void on_snapshot(struct sim *sim, struct sim_node *node)
{
    sim->at_disk = node;
    node->snapshot_fault = (struct tl_fault){0};
    node->snapshot_err = node_snapshot_job_run(node->snapshots[0], &node->snapshot_fault);
    sim->at_disk = NULL;
    sim_trace(sim, "n%u does a snapshot job: %s", node->number, tl_err_name(node->snapshot_err));
    if (node->disk->is_cut_off) {
        host_crash(sim, node);
        return;
    }
    push(sim, node, SIM_TELL_DELAY_NS, EVENT_SNAPSHOT_DONE, NULL);
}

static void on_snapshot_done(struct sim *sim, struct sim_node *node)
{
    struct node_snapshot_job *job = node->snapshots[0];
    node->snapshots_count--;
    memmove(node->snapshots, node->snapshots + 1,
            node->snapshots_count * sizeof node->snapshots[0]);
    if (node->snapshots_count > 0) start_snapshot(sim, node);
    node_on_snapshot_done(node->node, job, node->snapshot_err, &node->snapshot_fault);
    host_wake(sim, node);
}

static void on_turn(struct sim *sim, struct sim_node *node)
{
    node->has_turn_coming = false;
    sim->at_disk = node;
    node_turn(node->node);
    sim->at_disk = NULL;
    oracle_observe(sim, node); /* what it said before it died may tell what it knew */
    conf_on_turn(sim, node);
    if (node->is_crashing) host_crash(sim, node);
}

void host_on_event(struct sim *sim, struct sim_node *node, const struct event *event)
{
    if (event->kind == EVENT_START) {
        if (!node->is_off || (event->a == 1 && !sim->is_calm)) host_start(sim, node);
        return;
    }
    if (node->node == NULL || event->incarnation != node->incarnation) return;
    switch (event->kind) {
    case EVENT_TURN:
        on_turn(sim, node);
        break;
    case EVENT_TIMER:
        if (event->a == node->timer_token) host_wake(sim, node);
        break;
    case EVENT_LOG_COMMIT:
        on_log_commit(sim, node);
        break;
    case EVENT_LOG_DONE:
        on_log_done(sim, node, event->data, (enum tl_err)-(int)event->a);
        break;
    case EVENT_FLUSH_COMMIT:
        on_flush_commit(sim, node);
        break;
    case EVENT_FLUSH_DONE:
        /* A reader that met the flush may have brought the news already. */
        if (event->a != 0) {
            tell_flush_failed(sim, node, (enum tl_err)-(int)event->a);
        } else if (node->flush != NULL && node->flush_is_durable) {
            tell_flush(sim, node);
        }
        break;
    case EVENT_LOG_READ:
        on_log_read(sim, node, event->data);
        break;
    case EVENT_SNAPSHOT:
        on_snapshot(sim, node);
        break;
    case EVENT_SNAPSHOT_DONE:
        on_snapshot_done(sim, node);
        break;
    case EVENT_DRAIN_CHECK:
        on_drain_check(sim, node, event);
        break;
    case EVENT_CRASH:
        host_crash(sim, node);
        break;
    default:
        TL_ASSERT(false);
    }
}
