/* node_cluster.c - queues instead of threads and sockets. */

#include "node_cluster.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/node/node_snapshot.h"

#define CLOCK_START_US 1700000000000000ull
#define MAP_BYTES ((size_t)64 * 1024 * 1024)

/* ---- the file system ---- */

static struct cluster *cluster_now; /* of this test */

uint64_t __real_data_dir_free_bytes(const struct data_dir *dir);
uint64_t __wrap_data_dir_free_bytes(const struct data_dir *dir);
uint64_t __wrap_data_dir_free_bytes(const struct data_dir *dir)
{
    for (uint32_t i = 0; cluster_now != NULL && i < CLUSTER_SITES; i++) {
        const struct site *site = &cluster_now->sites[i];
        bool is_it = site->free_bytes != 0 && strcmp(site->dir, data_dir_path(dir)) == 0;
        if (is_it) return site->free_bytes;
    }
    return __real_data_dir_free_bytes(dir);
}

/* ---- node_io ---- */

static uint64_t io_now_ns(void *context)
{
    struct site *site = context;
    if (site->is_cutting) site->cut_ns += site->cut_chunk_ns;
    return site->cluster->now_ns + (site->is_cutting ? site->cut_ns : 0);
}

static uint64_t io_clock_us(void *context)
{
    struct site *site = context;
    return (uint64_t)((int64_t)(CLOCK_START_US + site->cluster->now_ns / 1000) +
                      site->clock_offset_us);
}

static void io_random(void *context, void *out_bytes, size_t count)
{
    struct site *site = context;
    uint8_t *bytes = out_bytes;
    for (size_t i = 0; i < count; i++) {
        site->random = site->random * 6364136223846793005ull + 1442695040888963407ull;
        bytes[i] = (uint8_t)(site->random >> 56);
    }
}

static void io_log_commit(void *context, struct node_log_batch *batch)
{
    struct site *site = context;
    cr_assert_lt(site->batches_count, TL_COUNT_OF(site->batches));
    site->batches[site->batches_count++] = batch;
}

static void io_flush(void *context, struct node_flush_job *job)
{
    struct site *site = context;
    cr_assert_null(site->flush, "one flush at a time");
    site->flush = job;
}

static void io_log_read(void *context, struct node_log_read *job)
{
    struct site *site = context;
    cr_assert_lt(site->reads_count, TL_COUNT_OF(site->reads));
    if (job->purpose == NODE_LOG_READ_APPLY) site->log_reads_count++;
    site->reads[site->reads_count++] = job;
}

static void io_snapshot(void *context, struct node_snapshot_job *job)
{
    struct site *site = context;
    cr_assert_lt(site->snapshots_count, TL_COUNT_OF(site->snapshots));
    site->snapshots[site->snapshots_count++] = job;
}

static void post(struct cluster *cluster, struct parcel parcel)
{
    cr_assert_lt(cluster->parcels_count, CLUSTER_QUEUE_MAX);
    uint32_t at = (cluster->parcels_first + cluster->parcels_count++) % CLUSTER_QUEUE_MAX;
    cluster->parcels[at] = parcel;
}

static uint32_t place_of(const struct cluster *cluster, raft_id id)
{
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) {
        if (cluster->sites[i].id == id) return i;
    }
    return CLUSTER_SITES;
}

/* Counts the messages of a batch and the appends among them. false: its head has another length. */
static bool count_messages(const struct buf *frame, bool has_space, uint32_t *out_count,
                           uint32_t *out_appends_count)
{
    struct reader reader = reader_make(
        bytes_make(frame->data + FRAME_HEADER_BYTES, frame->count - FRAME_HEADER_BYTES));
    struct raft_batch_head head;
    if (raft_batch_head_decode(&reader, has_space, &head) != TL_OK) return false;
    *out_count = head.messages_count;
    *out_appends_count = 0;
    for (uint32_t i = 0; i < head.messages_count; i++) {
        struct raft_message message;
        if (raft_message_decode(&reader, &message) != TL_OK) return false;
        *out_appends_count += message.type == RAFT_APPEND;
        raft_message_clear(&message);
    }
    return reader_is_done(&reader);
}

/* Whether the frame holds appends, and nothing else. The features of a connection are not known
 * here before it is up, so both heads are tried. */
static bool is_of_appends(const struct buf *frame)
{
    uint32_t count = 0;
    uint32_t appends_count = 0;
    cr_assert(count_messages(frame, false, &count, &appends_count) ||
              count_messages(frame, true, &count, &appends_count));
    cr_assert_gt(count, 0);
    cr_assert(appends_count == 0 || appends_count == count, "mixed");
    return appends_count > 0;
}

static bool send_frame(void *context, raft_id peer, enum peer_class class, struct buf *frame)
{
    struct site *site = context;
    site->frames_count++;
    uint32_t to = place_of(site->cluster, peer);
    if (to == CLUSTER_SITES || !site->cluster->is_connected[site->place][to]) {
        buf_release(frame);
        return false;
    }
    if (site->is_mute || (site->is_raft_mute && class == PEER_CLASS_RAFT)) {
        buf_release(frame);
        return true;
    }
    post(site->cluster,
         (struct parcel){.from = site->place, .to = to, .class = class, .frame = frame});
    return true;
}

static bool io_send(void *context, raft_id peer, enum peer_class class, struct buf *frame)
{
    struct site *site = context;
    struct frame_header header;
    cr_assert_eq(frame_header_decode(frame->data, &header), TL_OK);
    if (header.type == FRAME_RAFT) {
        cr_assert(is_of_appends(frame), "what may overtake must be able to");
        site->appends_count++;
    }
    return send_frame(site, peer, class, frame);
}

static bool io_send_urgent(void *context, raft_id peer, struct buf *frame)
{
    struct site *site = context;
    struct frame_header header;
    cr_assert_eq(frame_header_decode(frame->data, &header), TL_OK);
    if (header.type == FRAME_RAFT) {
        cr_assert(!is_of_appends(frame), "an append would overtake its predecessor");
    } else {
        cr_assert_eq(header.type, FRAME_POSITION);
    }
    site->urgent_count++;
    return send_frame(site, peer, PEER_CLASS_RAFT, frame);
}

static size_t io_backlog(void *context, raft_id peer)
{
    const struct site *site = context;
    (void)peer;
    return site->backlog;
}

static void io_set_peers(void *context, const struct store_id *cluster_id,
                         const struct member *members, uint32_t members_count)
{
    struct site *site = context;
    cr_assert(!store_id_is_zero(cluster_id));
    cr_assert_not_null(members);
    cr_assert_geq(members_count, 1);
    cr_assert_leq(members_count, RAFT_MEMBERS_MAX);
    site->peers_count = members_count;
    for (uint32_t i = 0; i < members_count; i++) {
        site->peers[i] = store_id_raft(&members[i].store_id);
    }
}

static void io_ask(void *context, const char *peer_address, struct buf *frame)
{
    struct site *site = context;
    struct cluster *cluster = site->cluster;
    site->asks_count++;
    uint32_t to = 0;
    while (to < CLUSTER_SITES && strcmp(cluster->sites[to].peer_address, peer_address) != 0) to++;
    cr_assert_lt(to, CLUSTER_SITES, "asked an address of no view: %s", peer_address);
    post(cluster, (struct parcel){.from = site->place, .to = to, .frame = frame, .is_ask = true});
}

static void io_set_timer(void *context, uint64_t deadline_ns)
{
    struct site *site = context;
    site->timer_ns = deadline_ns;
}

static void io_fail(void *context, int exit_code, const struct tl_fault *fault)
{
    struct site *site = context;
    site->failures_count++;
    site->exit_code = exit_code;
    site->fault = *fault;
}

static void io_log(void *context, enum log_level level, const char *event, const char *format,
                   va_list args)
{
    struct site *site = context;
    cr_assert_not_null(event);
    if (level == LOG_LEVEL_WARN && format != NULL) {
        va_list copy;
        va_copy(copy, args);
        vsnprintf(site->warning, sizeof site->warning, format, copy);
        va_end(copy);
    }
    if (getenv("TL_TEST_LOG") == NULL) return;
    fprintf(stderr, "%8.3f %s %s ", (double)site->cluster->now_ns / 1e9, site->address, event);
    if (format != NULL) vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

/* ---- sites ---- */

static struct buf *payload_frame_check(struct buf *frame, struct bytes *out_payload,
                                       enum frame_type *out_type)
{
    struct frame_header header;
    cr_assert_eq(frame_header_decode(frame->data, &header), TL_OK);
    *out_payload = bytes_make(frame->data + FRAME_HEADER_BYTES, frame->count - FRAME_HEADER_BYTES);
    *out_type = header.type;
    cr_assert_eq(header.payload_bytes, out_payload->count);
    cr_assert(frame_payload_is_right(&header, *out_payload));
    return frame;
}

struct cluster *cluster_create(uint32_t view_count)
{
    static struct member view[CLUSTER_SITES];
    struct cluster *cluster = calloc(1, sizeof *cluster);
    cr_assert_not_null(cluster);
    cluster->now_ns = CLUSTER_S;
    tmpdir_create(cluster->dir);
    cluster_now = cluster;
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) {
        struct site *site = &cluster->sites[i];
        site->cluster = cluster;
        site->place = i;
        site->random = 77 + i;
        site->features = HELLO_FEATURES;
        snprintf(site->address, sizeof site->address, "127.0.0.1:808%u", i + 1);
        snprintf(site->peer_address, sizeof site->peer_address, "127.0.0.1:1808%u", i + 1);
        snprintf(site->dir, sizeof site->dir, "%s/%u", cluster->dir, i + 1);
        view[i] = (struct member){.address = ""};
        memcpy(view[i].address, site->address, sizeof site->address);
        memcpy(view[i].peer_address, site->peer_address, sizeof site->peer_address);
        node_options_init(&site->options);
        site->options.address = site->address;
        site->options.peer_address = site->peer_address;
        site->options.data_dir = site->dir;
        site->options.view = view;
        site->options.view_count = view_count;
        site->options.allow_any_fs = true;
        site->options.log_prefill_bytes = 0;
        site->options.log_map_bytes = MAP_BYTES;
        site->options.table_map_bytes = MAP_BYTES;
        site->options.map_headroom_bytes = MAP_BYTES;
    }
    return cluster;
}

void cluster_destroy(struct cluster *cluster)
{
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) site_kill(&cluster->sites[i]);
    while (cluster->parcels_count > 0) {
        buf_release(cluster->parcels[cluster->parcels_first].frame);
        cluster->parcels_first = (cluster->parcels_first + 1) % CLUSTER_QUEUE_MAX;
        cluster->parcels_count--;
    }
    tmpdir_destroy(cluster->dir);
    cluster_now = NULL;
    free(cluster);
}

enum tl_err site_try_start(struct site *site)
{
    cr_assert_null(site->node);
    const struct node_io io = {
        .context = site,
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
    site->peers_count = 0;
    site->timer_ns = 0;
    site->exit_code = 0;
    site->failures_count = 0;
    site->log_reads_count = 0;
    enum tl_err err = node_open(&site->options, &io, &site->node, &site->fault);
    if (err != TL_OK) return err;
    site->id = node_self(site->node);
    err = log_reader_create(node_log_store(site->node), &site->reader);
    cr_assert_eq(err, TL_OK);
    return TL_OK;
}

void site_start(struct site *site)
{
    enum tl_err err = site_try_start(site);
    cr_assert_eq(err, TL_OK, "open: %s (%s)", tl_err_text(err), site->fault.reason);
}

void site_start_all(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->sites[0].options.view_count; i++) {
        site_start(&cluster->sites[i]);
    }
}

static void disconnect(struct cluster *cluster, uint32_t a, uint32_t b, bool is_refused)
{
    if (!cluster->is_connected[a][b]) return;
    cluster->is_connected[a][b] = false;
    cluster->is_connected[b][a] = false;
    for (uint32_t class = 0; class < PEER_CLASSES_COUNT; class ++) {
        struct site *one = &cluster->sites[a];
        struct site *other = &cluster->sites[b];
        if (one->node != NULL) {
            node_on_peer_down(one->node, other->id, (enum peer_class) class, is_refused);
        }
        if (other->node != NULL) {
            node_on_peer_down(other->node, one->id, (enum peer_class) class, is_refused);
        }
    }
}

void site_kill(struct site *site)
{
    if (site->node == NULL) return;
    struct node *node = TL_TAKE(&site->node);
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) disconnect(site->cluster, site->place, i, true);
    log_reader_destroy(TL_TAKE(&site->reader));
    site->batches_count = 0;
    site->reads_count = 0;
    site->snapshots_count = 0;
    site->flush = NULL;
    node_close(node);
}

void site_empty_disk(struct site *site)
{
    cr_assert_null(site->node);
    tmpdir_destroy(site->dir);
}

/* ---- the network ---- */

void cluster_cut(struct cluster *cluster, uint32_t a, uint32_t b)
{
    cluster->is_cut[a][b] = true;
    cluster->is_cut[b][a] = true;
    disconnect(cluster, a, b, false);
}

void cluster_isolate(struct cluster *cluster, uint32_t a)
{
    for (uint32_t b = 0; b < CLUSTER_SITES; b++) {
        if (b != a) cluster_cut(cluster, a, b);
    }
}

void cluster_heal(struct cluster *cluster)
{
    memset(cluster->is_cut, 0, sizeof cluster->is_cut);
}

void cluster_flap(struct cluster *cluster, uint32_t a, uint32_t b, enum peer_class class)
{
    struct site *one = &cluster->sites[a];
    struct site *other = &cluster->sites[b];
    cr_assert(cluster->is_connected[a][b]);
    node_on_peer_down(one->node, other->id, class, false);
    node_on_peer_down(other->node, one->id, class, false);
    node_on_peer_up(one->node, other->id, class, one->features & other->features);
    node_on_peer_up(other->node, one->id, class, one->features & other->features);
}

static bool knows(const struct site *site, raft_id id)
{
    for (uint32_t i = 0; i < site->peers_count; i++) {
        if (site->peers[i] == id) return true;
    }
    return false;
}

static bool know_each_other(const struct site *a, const struct site *b)
{
    return knows(a, b->id) && knows(b, a->id);
}

static bool may_connect(const struct cluster *cluster, uint32_t a, uint32_t b)
{
    const struct site *one = &cluster->sites[a];
    const struct site *other = &cluster->sites[b];
    if (a == b || cluster->is_cut[a][b] || cluster->is_connected[a][b]) return false;
    return one->node != NULL && other->node != NULL && know_each_other(one, other);
}

static bool connect_all(struct cluster *cluster)
{
    bool has_worked = false;
    for (uint32_t a = 0; a < CLUSTER_SITES; a++) {
        for (uint32_t b = 0; b < CLUSTER_SITES; b++) {
            if (cluster->is_connected[a][b] &&
                !know_each_other(&cluster->sites[a], &cluster->sites[b])) {
                disconnect(cluster, a, b, false);
            }
            if (!may_connect(cluster, a, b)) continue;
            has_worked = true;
            cluster->is_connected[a][b] = true;
            cluster->is_connected[b][a] = true;
            uint32_t features = cluster->sites[a].features & cluster->sites[b].features;
            for (uint32_t class = 0; class < PEER_CLASSES_COUNT; class ++) {
                node_on_peer_up(cluster->sites[a].node, cluster->sites[b].id,
                                (enum peer_class) class, features);
                node_on_peer_up(cluster->sites[b].node, cluster->sites[a].id,
                                (enum peer_class) class, features);
            }
        }
    }
    return has_worked;
}

static void deliver_ask(struct cluster *cluster, const struct parcel *parcel, struct bytes payload)
{
    struct site *asker = &cluster->sites[parcel->from];
    struct site *asked = &cluster->sites[parcel->to];
    struct buf *answer = NULL;
    bool is_cut = cluster->is_cut[parcel->from][parcel->to];
    if (asked->node != NULL && !is_cut) answer = node_on_birth(asked->node, payload);
    if (asker->node == NULL) {
        buf_release(answer);
        return;
    }
    struct bytes bytes;
    enum frame_type type;
    if (answer != NULL) {
        payload_frame_check(answer, &bytes, &type);
        cr_assert_eq(type, FRAME_BIRTH);
    }
    node_on_birth_reply(asker->node, asked->peer_address, answer != NULL ? &bytes : NULL);
    buf_release(answer);
}

static bool deliver_all(struct cluster *cluster)
{
    uint32_t count = cluster->parcels_count;
    for (uint32_t i = 0; i < count; i++) {
        struct parcel parcel = cluster->parcels[cluster->parcels_first];
        cluster->parcels_first = (cluster->parcels_first + 1) % CLUSTER_QUEUE_MAX;
        cluster->parcels_count--;
        struct bytes payload;
        enum frame_type type;
        payload_frame_check(parcel.frame, &payload, &type);
        if (parcel.is_ask) {
            deliver_ask(cluster, &parcel, payload);
        } else if (cluster->is_connected[parcel.from][parcel.to]) {
            enum tl_err err = node_on_frame(cluster->sites[parcel.to].node,
                                            cluster->sites[parcel.from].id, type, payload);
            cr_assert_eq(err, TL_OK);
        }
        buf_release(parcel.frame);
    }
    return count > 0;
}

/* ---- jobs ---- */

static void run_read(struct site *site)
{
    struct node_log_read *job = site->reads[0];
    site->reads_count--;
    memmove(site->reads, site->reads + 1, site->reads_count * sizeof site->reads[0]);
    struct tl_fault fault = {.reason = "planted"};
    enum tl_err err = site->read_err;
    if (err == TL_OK) {
        err = node_log_read_carry_out(job, site->reader, &fault);
        cr_assert(err == TL_OK || err == TL_ERR_COMPACTED, "%s", fault.reason);
    }
    site->reads_gone_count += err == TL_ERR_COMPACTED;
    node_on_log_read_done(site->node, job, err, &fault);
}

static bool is_switch(const struct node_log_batch *batch)
{
    for (uint32_t i = 0; i < batch->ops_count; i++) {
        if (batch->ops[i].install != NULL) return true;
    }
    return false;
}

static void commit_batches(struct site *site)
{
    uint32_t count = site->batches_count;
    for (uint32_t i = 0; i < count; i++) {
        struct node_log_batch *batch = site->batches[i];
        struct tl_fault fault = {.reason = "planted"};
        enum tl_err err = site->log_err;
        if (err == TL_OK) {
            err =
                log_store_commit(node_log_store(site->node), batch->ops, batch->ops_count, &fault);
            cr_assert_eq(err, TL_OK, "%s", fault.reason);
        }
        site->commits_count++;
        while (site->reads_at_switch && is_switch(batch) && site->reads_count > 0) run_read(site);
        node_on_log_done(site->node, batch, err, &fault);
    }
    memmove(site->batches, site->batches + count,
            (site->batches_count - count) * sizeof site->batches[0]);
    site->batches_count -= count;
}

static void run_flush(struct site *site)
{
    struct node_flush_job *job = TL_TAKE(&site->flush);
    struct tl_fault fault = {.reason = "planted"};
    enum tl_err err = site->flush_err;
    if (err == TL_OK) {
        err = table_flush(job->table, job->generation, &fault);
        cr_assert_eq(err, TL_OK, "%s", fault.reason);
    }
    node_on_flush_done(site->node, job, err, &fault);
}

static void run_snapshot(struct site *site)
{
    struct node_snapshot_job *job = site->snapshots[0];
    site->snapshots_count--;
    memmove(site->snapshots, site->snapshots + 1,
            site->snapshots_count * sizeof site->snapshots[0]);
    struct tl_fault fault = {.reason = "planted"};
    enum tl_err err = site->snapshot_err;
    site->snapshot_err = TL_OK;
    site->is_cutting = job->kind == SNAPSHOT_JOB_CUT;
    site->cuts_count += site->is_cutting;
    site->cut_ns = 0;
    if (err == TL_OK) err = node_snapshot_job_run(job, &fault);
    site->is_cutting = false;
    node_on_snapshot_done(site->node, job, err, &fault);
}

static bool work(struct site *site)
{
    bool has_worked = false;
    if (site->batches_count > 0 && !site->holds_log) {
        commit_batches(site);
        has_worked = true;
    }
    if (site->flush != NULL && !site->holds_flush) {
        run_flush(site);
        has_worked = true;
    }
    while (site->reads_count > 0 && !site->holds_reads) {
        run_read(site);
        has_worked = true;
    }
    bool holds_snapshots =
        site->holds_snapshots || (site->holds_finish && site->snapshots_count > 0 &&
                                  site->snapshots[0]->kind == SNAPSHOT_JOB_FINISH);
    if (site->snapshots_count > 0 && !holds_snapshots) {
        run_snapshot(site);
        has_worked = true;
    }
    return has_worked;
}

/* ---- running ---- */

bool cluster_step(struct cluster *cluster)
{
    bool has_worked = connect_all(cluster);
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) {
        if (cluster->sites[i].node != NULL) has_worked |= work(&cluster->sites[i]);
    }
    has_worked |= deliver_all(cluster);
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) {
        struct site *site = &cluster->sites[i];
        if (site->node == NULL) continue;
        has_worked |= site->timer_ns <= cluster->now_ns && site->failures_count == 0;
        node_turn(site->node);
    }
    return has_worked;
}

static uint64_t next_timer(const struct cluster *cluster, uint64_t end_ns)
{
    uint64_t next_ns = end_ns;
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) {
        const struct site *site = &cluster->sites[i];
        if (site->node != NULL && site->failures_count == 0 && site->timer_ns < next_ns) {
            next_ns = site->timer_ns;
        }
    }
    return next_ns;
}

bool cluster_run(struct cluster *cluster, uint64_t span_ns, bool (*is_done)(void *context),
                 void *context)
{
    uint64_t end_ns = cluster->now_ns + span_ns;
    while (true) {
        uint32_t steps_count = 0;
        while (cluster_step(cluster)) {
            if (is_done != NULL && is_done(context)) return true;
            cluster->now_ns += 1000; /* work takes time: a loop shows as passing time */
            cr_assert_lt(++steps_count, 100000, "the nodes never rest");
        }
        if (is_done != NULL && is_done(context)) return true;
        if (cluster->now_ns >= end_ns) return false;
        uint64_t next_ns = next_timer(cluster, end_ns);
        if (next_ns > cluster->now_ns) cluster->now_ns = next_ns;
    }
}

void cluster_pass(struct cluster *cluster, uint64_t span_ns)
{
    (void)cluster_run(cluster, span_ns, NULL, NULL);
}

bool cluster_is_ready(void *context)
{
    struct cluster *cluster = context;
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) {
        struct node *node = cluster->sites[i].node;
        if (node != NULL && !node_is_ready(node)) return false;
    }
    return true;
}

void site_status(struct site *site, struct node_group_status *out_status)
{
    node_get_group_status(site->node, NODE_DATA_GROUP, out_status);
}

uint32_t cluster_leader(const struct cluster *cluster)
{
    uint32_t leader = CLUSTER_NONE;
    for (uint32_t i = 0; i < CLUSTER_SITES; i++) {
        struct site *site = (struct site *)&cluster->sites[i];
        if (site->node == NULL || node_views(site->node, NODE_DATA_GROUP) == NULL) continue;
        struct node_group_status status;
        site_status(site, &status);
        if (status.raft.role != RAFT_LEADER) continue;
        if (leader != CLUSTER_NONE) return CLUSTER_NONE;
        leader = i;
    }
    return leader;
}

static bool has_leader(void *context)
{
    return cluster_leader(context) != CLUSTER_NONE;
}

uint32_t cluster_await_leader(struct cluster *cluster)
{
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, has_leader, cluster), "nobody leads");
    return cluster_leader(cluster);
}

uint32_t cluster_form(struct cluster *cluster)
{
    site_start_all(cluster);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, cluster_is_ready, cluster), "not formed");
    return cluster_await_leader(cluster);
}

/* ---- requests ---- */

struct buf *effort_entry(const char *key, const char *value, bool is_append,
                         uint64_t idempotency_key, uint64_t token_us)
{
    struct command command = {
        .type = is_append ? COMMAND_APPEND : COMMAND_PUT,
        .condition = CONDITION_NONE,
        .has_idempotency_key = idempotency_key != 0,
        .idempotency_key = {.low = idempotency_key, .high = 1},
        .token_us = token_us,
        .value_bytes_max = VALUE_BYTES_MAX,
        .key = bytes_of(key),
        .content_type = bytes_of("text/plain"),
        .value = bytes_of(value),
    };
    return command_encode(&command);
}

static void on_effort_done(struct node_write *write, enum tl_err err,
                           const struct kv_result *result)
{
    struct effort *effort = write->context;
    effort->calls_count++;
    effort->err = err;
    cr_assert_eq(err == TL_OK, result != NULL);
    if (result != NULL) effort->result = *result;
}

enum tl_err effort_start(struct effort *effort, struct site *site, struct buf *entry,
                         uint64_t timeout_ns)
{
    struct command command;
    cr_assert_eq(command_decode(entry_payload(entry), &command), TL_OK);
    *effort = (struct effort){.err = TL_OK};
    effort->write = (struct node_write){
        .group = NODE_DATA_GROUP,
        .entry = entry,
        .deadline_ns = site->cluster->now_ns + timeout_ns,
        .token_us = command.token_us,
        .is_keyed = command.has_idempotency_key,
        .on_done = on_effort_done,
        .context = effort,
    };
    enum tl_err err = node_write(site->node, &effort->write);
    cr_assert_eq(effort->calls_count, 0, "an outcome before node_write() returned");
    return err;
}

bool effort_is_over(void *context)
{
    const struct effort *effort = context;
    return effort->calls_count > 0;
}

enum tl_err site_put(struct site *site, const char *key, const char *value,
                     struct kv_result *out_result)
{
    struct effort effort;
    struct buf *entry = effort_entry(key, value, false, 0, 0);
    enum tl_err err = effort_start(&effort, site, entry, 5 * CLUSTER_S);
    cr_assert_eq(err, TL_OK, "put refused: %s", tl_err_text(err));
    cr_assert(cluster_run(site->cluster, 10 * CLUSTER_S, effort_is_over, &effort), "put hangs");
    if (out_result != NULL) *out_result = effort.result;
    return effort.err;
}

static void on_glance_ready(struct node_read *read, enum tl_err err)
{
    struct glance *glance = read->context;
    glance->calls_count++;
    glance->err = err;
}

enum tl_err glance_start(struct glance *glance, struct site *site,
                         enum node_consistency consistency, uint64_t token_us, uint64_t timeout_ns)
{
    *glance = (struct glance){.err = TL_OK};
    glance->read = (struct node_read){
        .group = NODE_DATA_GROUP,
        .consistency = consistency,
        .token_us = token_us,
        .deadline_ns = site->cluster->now_ns + timeout_ns,
        .on_ready = on_glance_ready,
        .context = glance,
    };
    enum tl_err err = node_read(site->node, &glance->read, &glance->is_ready_at_once);
    cr_assert_eq(glance->calls_count, 0, "ready before node_read() returned");
    return err;
}

bool glance_is_over(void *context)
{
    const struct glance *glance = context;
    return glance->calls_count > 0 || glance->is_ready_at_once;
}

const char *site_get(struct site *site, const char *key)
{
    static char text[4096];
    struct view_reader *reader = NULL;
    struct views *views = node_views(site->node, NODE_DATA_GROUP);
    cr_assert_eq(view_reader_create(views, &reader), TL_OK);
    raft_index applied = 0;
    struct tl_fault fault;
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_OK);
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct bytes row;
    enum tl_err err =
        view_get(reader, env_key_make(ENV_KEY_ROW, bytes_of(key), room), &row, &fault);
    if (err == TL_OK) {
        struct row_header header;
        cr_assert_eq(row_decode(row, true, &header), TL_OK);
        struct bytes value = row_value(row, &header);
        cr_assert_lt(value.count, sizeof text);
        memcpy(text, value.data, value.count);
        text[value.count] = '\0';
    }
    view_end(reader);
    view_reader_destroy(reader);
    return err == TL_OK ? text : NULL;
}

raft_index site_applied(struct site *site)
{
    return views_applied(node_views(site->node, NODE_DATA_GROUP));
}
