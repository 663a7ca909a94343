/* node.c - opening, closing, faults, and what comes in from the edges.
 *
 * Everything that comes in changes state in memory only; node_turn() draws the consequences. The
 * one exception is node_group_make_room(), which may carry out a core's output early.
 */

#include "node_internal.h"

#include <stdlib.h>

void node_check(const struct node *node)
{
    TL_ASSERT(node->clients.count <= NODE_REQUESTS_MAX);
    TL_ASSERT(node->admin.count <= NODE_ADMIN_REQUESTS_MAX);
    if (node->clients.count == 0) TL_ASSERT(node->clients.bytes == 0);
    if (node->admin.count == 0) TL_ASSERT(node->admin.bytes == 0);
    TL_ASSERT((node->batches_oldest == NULL) == (node->batches_newest == NULL));
    TL_ASSERT(node->groups_count == 0 || node->placement != NULL);
    if (node->hint != NULL && node->placement != NULL) {
        TL_ASSERT(node->hint->epoch > node->placement->epoch);
    }
    TL_ASSERT((node->placement != NULL) == (node->peers_count > 0));
    TL_ASSERT((node->leader_transfers == NULL) == (node->leader_transfers_count == 0));
    for (uint32_t i = 0; i < node->groups_count; i++) {
        const struct node_group *group = node->groups[i];
        TL_ASSERT(group->output == NULL);
        TL_ASSERT(group->flushed <= group->state.group.index);
        TL_ASSERT(group->base_index <= group->flushed ||
                  node->options.mutation == NODE_MUTATION_DELETE_APPLIED);
        if (group->applicable > 0) TL_ASSERT(group->state.group.index <= group->applicable);
    }
}

bool node_begin_request(struct node *node, raft_group group, size_t bytes)
{
    struct node_load *load = group == 0 ? &node->admin : &node->clients;
    uint32_t count_max = group == 0 ? NODE_ADMIN_REQUESTS_MAX : NODE_REQUESTS_MAX;
    size_t bytes_max = group == 0 ? NODE_ADMIN_REQUEST_BYTES_MAX
                                  : (size_t)node_limit(node, NODE_REQUEST_BYTES_MAX);
    if (load->count == count_max || (bytes > 0 && load->bytes + bytes > bytes_max)) return false;
    load->count++;
    load->bytes += bytes;
    return true;
}

void node_end_request(struct node *node, raft_group group, size_t bytes)
{
    struct node_load *load = group == 0 ? &node->admin : &node->clients;
    TL_ASSERT(load->count > 0);
    TL_ASSERT(load->bytes >= bytes);
    load->count--;
    load->bytes -= bytes;
}

void node_enter(struct node *node)
{
    TL_ASSERT(node != NULL);
    uint64_t now_ns = node->io.now_ns(node->io.context);
    if (now_ns > node->now_ns) node->now_ns = now_ns;
}

void node_log(struct node *node, enum log_level level, const char *event, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    node->io.log(node->io.context, level, event, format, args);
    va_end(args);
}

void node_fail(struct node *node, const struct tl_fault *fault)
{
    if (node->is_failed) return;
    node->is_failed = true;
    struct tl_fault unknown;
    if (fault == NULL) {
        tl_fault_set(&unknown, data_dir_path(node->data_dir), UINT32_MAX, 0, "not reported");
        fault = &unknown;
    }
    node->io.fail(node->io.context, 4, fault);
}

struct node_group *node_find_group(const struct node *node, raft_group group)
{
    return group < node->groups_count ? node->groups[group] : NULL;
}

struct node_peer *node_find_peer(struct node *node, raft_id id)
{
    for (uint32_t i = 0; i < node->peers_count; i++) {
        if (node->peers[i].id == id) return &node->peers[i];
    }
    return NULL;
}

bool node_reaches_quorum(const struct node *node)
{
    uint32_t reached_count = 0;
    uint32_t voters_count = 0;
    for (uint32_t i = 0; i < node->peers_count; i++) {
        const struct node_peer *peer = &node->peers[i];
        if (peer->role != MEMBER_VOTER) continue;
        voters_count++;
        if (peer->id == node->self || peer->is_up[PEER_CLASS_RAFT]) reached_count++;
    }
    return reached_count > voters_count / 2;
}

struct node_job *node_take_job(struct node *node)
{
    struct node_job *job = node->jobs_free;
    if (job != NULL) {
        node->jobs_free = job->next_free;
    } else {
        job = calloc(1, sizeof *job);
        TL_ASSERT(job != NULL);
        job->next_all = node->jobs;
        node->jobs = job;
    }
    job->is_free = false;
    job->next_free = NULL;
    TL_ASSERT(job->read.entries_count == 0);
    return job;
}

void node_free_job(struct node *node, struct node_job *job)
{
    TL_ASSERT(!job->is_free);
    TL_ASSERT(!job->is_out);
    for (uint32_t i = 0; i < job->read.entries_count; i++) {
        buf_release(TL_TAKE(&job->read.entries[i]));
    }
    job->read.entries_count = 0;
    job->read.keeps_last_only = false;
    job->is_free = true;
    job->next_free = node->jobs_free;
    node->jobs_free = job;
}

/* ---- open and close ---- */

void node_options_init(struct node_options *options)
{
    *options = (struct node_options){
        .data_groups_count = 1,
        .log_retain_bytes = 128ull * 1024 * 1024,
        .log_prefill_bytes = 128ull * 1024 * 1024,
        .log_map_bytes = (size_t)64 * 1024 * 1024 * 1024,
        .table_map_bytes = (size_t)1024 * 1024 * 1024 * 1024,
        .map_headroom_bytes = (size_t)64 * 1024 * 1024 * 1024,
        .election_timeout_ns = 300000000,
        .heartbeat_interval_ns = 50000000,
        .generation_age_ns = 5000000000,
        .digest_interval = 256,
        /* What is under way may still have to be written: three generations of 32 MiB, and LMDB's
         * copies of the pages of one flush. A write that fails for want of space ends the node. */
        .free_bytes_min = 128ull * 1024 * 1024,
    };
}

static char *text_copy(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = malloc(bytes);
    TL_ASSERT(copy != NULL);
    memcpy(copy, text, bytes);
    return copy;
}

static void copy_options(struct node *node, const struct node_options *options)
{
    TL_ASSERT(options->view_count >= 1);
    TL_ASSERT(options->data_groups_count >= 1);
    TL_ASSERT(options->data_groups_count < NODE_GROUPS_MAX);
    TL_ASSERT(options->election_timeout_ns > 0);
    TL_ASSERT(options->heartbeat_interval_ns > 0);
    TL_ASSERT(options->digest_interval > 0);
    node->options = *options;
    node->options.address = text_copy(options->address);
    node->options.peer_address = text_copy(options->peer_address);
    node->options.data_dir = text_copy(options->data_dir);
    node->options.view = NULL; /* node->view has them */
    node->options.join = NULL;
    node->options.birth_refusal = NULL;
}

/* What a crash left of a table that was being installed, or of one that was replaced: every table's
 * directory that the log does not name. */
static enum tl_err delete_leftovers(struct node *node, struct tl_fault *out_fault)
{
    raft_group groups[LOG_STORE_GROUPS_MAX];
    struct data_dir_table tables[LOG_STORE_GROUPS_MAX];
    uint32_t groups_count = log_store_groups(node->log_store, groups);
    for (uint32_t i = 0; i < groups_count; i++) {
        struct log_group_info info;
        enum tl_err err = log_store_recover(node->log_store, groups[i], &info, out_fault);
        if (err != TL_OK) return err;
        buf_release(info.conf);
        tables[i] = (struct data_dir_table){.group = groups[i], .number = info.table_number};
    }
    uint32_t deleted_count;
    enum tl_err err =
        data_dir_keep_tables(node->data_dir, tables, groups_count, &deleted_count, out_fault);
    if (err == TL_OK && deleted_count > 0) {
        node_log(node, LOG_LEVEL_INFO, "leftovers_deleted", "tables=%u", deleted_count);
    }
    return err;
}

static enum tl_err open_stores(struct node *node, struct tl_fault *out_fault)
{
    const struct node_options *options = &node->options;
    enum tl_err err = data_dir_open(options->data_dir, options->address, options->allow_any_fs,
                                    &node->data_dir, out_fault);
    if (err != TL_OK) return err;
    uint32_t unknown_fs = data_dir_unknown_fs(node->data_dir);
    if (unknown_fs != 0) {
        node_log(node, LOG_LEVEL_WARN, "unknown_file_system", "type=0x%08x", unknown_fs);
    }
    err = data_dir_refused(node->data_dir, out_fault);
    if (err == TL_OK) {
        tl_fault_set(out_fault, options->data_dir, UINT32_MAX, 0, "%s", NODE_OLD_COPY_TEXT);
        return TL_ERR_FOREIGN;
    }
    if (err != TL_ERR_NOT_FOUND) return err;
    node->store_id = *data_dir_store_id(node->data_dir);
    node->self = store_id_raft(&node->store_id);
    char dir[512];
    err = data_dir_sub(node->data_dir, "log", dir, sizeof dir, out_fault);
    if (err != TL_OK) return err;
    const struct log_store_options log_options = {
        .dir = dir,
        .map_bytes = options->log_map_bytes,
        .map_headroom_bytes = options->map_headroom_bytes,
        .prefill_bytes = options->log_prefill_bytes,
        .retain_bytes = options->log_retain_bytes,
    };
    err = log_store_open(&log_options, &node->log_store, out_fault);
    return err == TL_OK ? delete_leftovers(node, out_fault) : err;
}

/* How the cluster began: the first entry of group 0, or the group's configuration while that is
 * still the genesis. TL_ERR_NOT_FOUND: both are gone, and the placement tells it. */
static enum tl_err recover_genesis(struct node *node, struct tl_fault *out_fault)
{
    const struct node_group *group = node->groups[0];
    struct genesis genesis;
    struct buf *entry = NULL;
    enum tl_err err = TL_ERR_NOT_FOUND;
    if (group->conf != NULL) {
        if (genesis_decode(buf_bytes(group->conf), &genesis) == TL_OK) err = TL_OK;
    } else {
        err = node_group_read_entry(node, 0, 1, &entry, out_fault);
        if (err == TL_OK) err = genesis_decode(entry_payload(entry), &genesis);
        buf_release(entry);
    }
    if (err == TL_OK) node_member_begin(node, &genesis);
    return err;
}

/* The cluster as group 0 knows it. */
static enum tl_err recover_members(struct node *node, struct tl_fault *out_fault)
{
    struct node_group *group = node->groups[0];
    const char *dir = data_dir_path(node->data_dir);
    enum tl_err err = recover_genesis(node, out_fault);
    if (err != TL_OK && err != TL_ERR_NOT_FOUND) return err;
    err = kv_table_begin(group->kv);
    if (err != TL_OK) {
        *out_fault = *kv_table_fault(group->kv);
        return err;
    }
    err = node_member_load(group, out_fault);
    kv_table_end(group->kv);
    if (err != TL_OK && err != TL_ERR_NOT_FOUND) return err;
    if (node->placement == NULL) {
        tl_fault_set(out_fault, dir, 0, 1, "group 0 holds neither genesis nor placement");
        return TL_ERR_CORRUPT;
    }
    if (!placement_has_removed(node->placement, node->self)) return TL_OK;
    tl_fault_set(out_fault, dir, 0, 0,
                 "this store was removed from the cluster; empty the directory to join again");
    return TL_ERR_FOREIGN;
}

static enum tl_err recover_group(struct node *node, raft_group id, struct tl_fault *out_fault)
{
    struct log_group_info info;
    enum tl_err err = log_store_recover(node->log_store, id, &info, out_fault);
    if (err != TL_OK) return err;
    if (!info.exists) {
        if (id == 0) return TL_OK; /* birth */
        tl_fault_set(out_fault, data_dir_path(node->data_dir), id, 0, "the group's log is missing");
        return TL_ERR_CORRUPT;
    }
    err = node_group_open(node, id, &info, &node->groups[id], out_fault);
    buf_release(info.conf);
    return err;
}

/* Its peers look for it there, whatever the options say today. */
static void recover_peer_address(struct node *node)
{
    const struct placement_member *found = placement_find(node->placement, node->self);
    if (found == NULL) return; /* a newcomer that has not applied its own admission */
    char *known = text_copy(found->member.peer_address);
    free((char *)node->options.peer_address);
    node->options.peer_address = known;
}

static enum tl_err recover(struct node *node, struct tl_fault *out_fault)
{
    enum tl_err err = recover_group(node, 0, out_fault);
    if (err != TL_OK || node->groups[0] == NULL) return err;
    err = recover_members(node, out_fault);
    if (err != TL_OK) return err;
    uint32_t groups_count = node->placement->genesis.groups_count;
    for (raft_group id = 1; id < groups_count; id++) {
        err = recover_group(node, id, out_fault);
        if (err != TL_OK) return err;
    }
    node->groups_count = groups_count;
    recover_peer_address(node);
    for (raft_group id = 0; id < node->groups_count; id++) node_group_check_log(node->groups[id]);
    return node_recover_diverged(node, out_fault);
}

static void init_random(struct node *node)
{
    uint64_t seeds[2];
    node->io.random(node->io.context, seeds, sizeof seeds);
    prng_init(&node->prng, seeds[0]);
    /* A reply to the process before this one must not look like one to this. */
    node->forward_sequence = seeds[1] / NODE_SLOTS_MAX;
    node->leader_transfer_sequence = seeds[1];
    node->life = TL_MAX(prng_next(&node->prng), 1u);
    for (uint32_t i = 0; i < NODE_SLOTS_MAX; i++) node->slots_free[i] = (uint16_t)i;
    node->slots_free_count = NODE_SLOTS_MAX;
}

enum tl_err node_open(const struct node_options *options, const struct node_io *io,
                      struct node **out_node, struct tl_fault *out_fault)
{
    struct node *node = calloc(1, sizeof *node);
    TL_ASSERT(node != NULL);
    struct tl_fault fault;
    if (out_fault == NULL) out_fault = &fault;
    node->io = *io;
    node->requests_check_ns = NODE_NEVER;
    node->member_check_ns = NODE_NEVER;
    node->digest_deadline_ns = NODE_NEVER;
    copy_options(node, options);
    init_random(node);
    node_enter(node);
    node->view_count = TL_MIN(options->view_count, RAFT_MEMBERS_MAX);
    for (uint32_t i = 0; i < node->view_count; i++) node->view[i].member = options->view[i];
    if (options->join != NULL) {
        node->is_joining = true;
        node->view[node->view_count++].member = *options->join;
    }
    enum tl_err err = open_stores(node, out_fault);
    if (err == TL_OK) err = recover(node, out_fault);
    if (err == TL_OK && node->groups_count == 0) {
        err = node_birth_init(node, options->birth_refusal, out_fault);
    }
    if (err != TL_OK) {
        node_close(node);
        return err;
    }
    node_check(node);
    *out_node = node;
    return TL_OK;
}

static void free_batches(struct node_batch *batch)
{
    while (batch != NULL) {
        struct node_batch *next = batch->next;
        free(batch);
        batch = next;
    }
}

static void free_jobs(struct node *node)
{
    while (node->jobs != NULL) {
        struct node_job *job = node->jobs;
        node->jobs = job->next_all;
        for (uint32_t i = 0; i < job->read.entries_count; i++) {
            buf_release(job->read.entries[i]);
        }
        free(job);
    }
}

void node_close(struct node *node)
{
    if (node == NULL) return;
    node->is_failed = true; /* mute while the requests are answered */
    node_writes_close(node);
    node_reads_close(node);
    node_send_close(node);
    node_receive_close(node);
    node_install_close(node);
    node_changes_close(node);
    node_log_queries_close(node);
    node_leader_transfers_close(node);
    for (uint32_t i = 0; i < NODE_GROUPS_MAX; i++) {
        node_group_close(node->groups[i]);
        buf_release(node->birth_entries[i]);
    }
    free_batches(node->batches_oldest);
    free_batches(node->batches_free);
    free_jobs(node);
    free(node->placement);
    free(node->hint);
    log_store_close(node->log_store);
    data_dir_close(node->data_dir);
    free((char *)node->options.address);
    free((char *)node->options.peer_address);
    free((char *)node->options.data_dir);
    free(node);
}

struct log_store *node_log_store(struct node *node)
{
    return node->log_store;
}

/* ---- completions ---- */

static void batch_done(struct node *node, struct node_batch *batch)
{
    uint64_t spent_us = (node->now_ns - batch->log.issued_ns) / 1000;
    histogram_add(node->flush_group != NULL ? &node->metrics.log_commit_flush_us
                                            : &node->metrics.log_commit_idle_us,
                  spent_us);
    histogram_add(&node->metrics.log_batch_entries, batch->entries_count);
    node_send_note_commit(node, spent_us);
    for (uint32_t i = 0; i < batch->log.ops_count; i++) {
        const struct log_op *op = &batch->log.ops[i];
        if (batch->is_genesis) continue;
        struct node_group *group = node->groups[op->group];
        node_group_make_room(group);
        if (node->is_failed) return;
        node_group_advance(group);
        raft_append_done(group->raft, batch->sequences[i]);
        if (op->install != NULL) {
            node_install_done(group);
        } else if (op->out_has_base) {
            raft_compacted(group->raft, &op->out_base);
            group->base_index = op->out_base.index;
        }
    }
}

void node_on_log_done(struct node *node, struct node_log_batch *log, enum tl_err err,
                      const struct tl_fault *fault)
{
    node_enter(node);
    struct node_batch *batch = TL_CONTAINER_OF(log, struct node_batch, log);
    TL_ASSERT(batch == node->batches_oldest); /* in order, each once */
    node->batches_oldest = batch->next;
    if (node->batches_oldest == NULL) node->batches_newest = NULL;
    if (err != TL_OK && node->options.mutation == NODE_MUTATION_IGNORE_LOG_ERROR) err = TL_OK;
    if (err != TL_OK) node_fail(node, fault);
    if (!node->is_failed) batch_done(node, batch);
    bool is_genesis = batch->is_genesis;
    batch->next = node->batches_free;
    node->batches_free = batch;
    if (is_genesis && !node->is_failed) node_birth_written(node);
}

void node_on_flush_done(struct node *node, struct node_flush_job *job, enum tl_err err,
                        const struct tl_fault *fault)
{
    node_enter(node);
    TL_ASSERT(job == &node->flush_job);
    struct node_group *group = TL_TAKE(&node->flush_group);
    TL_ASSERT(group != NULL);
    if (err != TL_OK) {
        node_fail(node, fault);
        return;
    }
    if (node->is_failed) return;
    group->flushed = node->flush_index;
    node->space_read_ns = 0; /* the table is another one */
    views_flushed(group->views);
    TL_ASSERT(views_base(group->views) == group->flushed);
    memmove(&group->frozen_order[0], &group->frozen_order[1],
            sizeof group->frozen_order - sizeof group->frozen_order[0]);
    node->metrics.flushes_count++;
    histogram_add(&node->metrics.flush_us, (node->now_ns - node->flush_began_ns) / 1000);
}

static void peer_read_done(struct node_group *group, struct node_job *job, enum tl_err err)
{
    uint32_t entries_count = err == TL_ERR_COMPACTED ? 0 : job->read.entries_count;
    node_group_make_room(group);
    if (group->node->is_failed) return;
    raft_log_read_done(group->raft, job->read.peer, job->read.entries, entries_count);
}

/* The record is good, or was deleted meanwhile: it was flushed and is no longer served. What is in
 * memory, and is sent from there, has to be the same. */
static void verify_read_done(struct node_group *group, struct node_job *job)
{
    const struct buf *record = job->read.entries_count > 0 ? job->read.entries[0] : NULL;
    const struct buf *held = raft_entry(group->raft, job->read.first);
    bool is_same = record == NULL || held == NULL || entry_term(record) != entry_term(held) ||
                   bytes_equal(buf_bytes(record), buf_bytes(held));
    group->is_verifying = false;
    if (is_same) {
        raft_verified(group->raft);
    } else {
        struct tl_fault fault;
        tl_fault_set(&fault, "log", group->id, job->read.first,
                     "an entry in memory is not the one on the disk: the memory is at fault");
        node_fail(group->node, &fault);
    }
    node_free_job(group->node, job);
}

void node_on_log_read_done(struct node *node, struct node_log_read *read, enum tl_err err,
                           const struct tl_fault *fault)
{
    node_enter(node);
    struct node_job *job = TL_CONTAINER_OF(read, struct node_job, read);
    TL_ASSERT(job->is_out);
    job->is_out = false;
    if (read->purpose == NODE_LOG_READ_QUERY) {
        node_log_query_come(node, job, err, fault);
        return;
    }
    struct node_group *group = node->groups[read->group];
    /* To apply, a compacted entry is a missing one: the job has none. */
    if (err != TL_OK && err != TL_ERR_COMPACTED) node_fail(node, fault);
    if (node->is_failed) return;
    switch (read->purpose) {
    case NODE_LOG_READ_PEER:
        peer_read_done(group, job, err);
        node_free_job(node, job);
        break;
    case NODE_LOG_READ_APPLY:
        node_group_replay_come(group, job);
        break;
    case NODE_LOG_READ_VERIFY:
        verify_read_done(group, job);
        break;
    case NODE_LOG_READ_QUERY:
        break; /* taken above */
    }
}

/* ---- frames and connections ---- */

static enum tl_err step_message(struct node *node, struct node_peer *peer, uint64_t life,
                                struct reader *reader)
{
    struct raft_message message;
    enum tl_err err = raft_message_decode(reader, &message);
    if (err != TL_OK) return err;
    struct node_group *group = node_find_group(node, message.group);
    if (message.from != peer->id || group == NULL) {
        err = message.from != peer->id ? TL_ERR_INVALID : TL_OK;
        raft_message_clear(&message);
        return err;
    }
    if (!node_position_admits(node, peer, life)) {
        node->metrics.messages_ignored_count++;
        raft_message_clear(&message);
        return TL_OK;
    }
    if (message.type == RAFT_APPEND || message.type == RAFT_HEARTBEAT) {
        group->has_heard_leader = true;
    }
    if (message.type == RAFT_TIMEOUT_NOW && node->is_diverged) {
        raft_message_clear(&message); /* asked by who has not heard that it may not lead */
        return TL_OK;
    }
    node_group_make_room(group);
    if (node->is_failed) {
        raft_message_clear(&message);
        return TL_OK;
    }
    node_group_advance(group);
    if (message.to == node->self) node_position_heed(peer, life, &message);
    raft_message(group->raft, &message);
    return TL_OK;
}

/* What the cores have to know of a peer before they hand leadership over to it. */
static void hear_fitness(struct node *node, struct node_peer *peer, uint32_t age_ms)
{
    bool is_unfit = node_differs(node, peer->id);
    peer->log_commit_age_ms = age_ms;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct node_group *group = node->groups[i];
        node_group_make_room(group);
        if (node->is_failed) return;
        node_group_advance(group);
        raft_set_peer_disk_age(group->raft, peer->id, (uint64_t)age_ms * 1000000);
        raft_set_peer_unfit(group->raft, peer->id, is_unfit);
    }
}

static enum tl_err on_raft(struct node *node, struct node_peer *peer, struct bytes payload)
{
    struct reader reader = reader_make(payload);
    struct raft_batch_head head;
    bool has_space = (peer->features[PEER_CLASS_RAFT] & HELLO_FEATURE_SPACE) != 0;
    enum tl_err err = raft_batch_head_decode(&reader, has_space, &head);
    if (err != TL_OK) return err;
    peer->heard_ns = node->now_ns;
    peer->has_clock = true;
    peer->clock_us = head.clock_us;
    peer->clock_read_ns = node->now_ns;
    peer->space = (struct node_space){UINT64_MAX, UINT64_MAX};
    if (has_space) peer->space = (struct node_space){head.free_bytes, head.map_free_bytes};
    hear_fitness(node, peer, head.log_commit_age_ms);
    for (uint32_t i = 0; i < head.messages_count && !node->is_failed; i++) {
        err = step_message(node, peer, head.life, &reader);
        if (err != TL_OK) return err;
    }
    return node->is_failed || reader_is_done(&reader) ? TL_OK : TL_ERR_INVALID;
}

/* A switch without a default: the compiler finds the place of a new frame type. */
static enum tl_err frame_take(struct node *node, struct node_peer *peer, enum frame_type type,
                              struct bytes payload)
{
    switch (type) {
    case FRAME_RAFT:
        return on_raft(node, peer, payload);
    case FRAME_FORWARD:
        return node_on_forward(node, peer->id, payload);
    case FRAME_FORWARD_REPLY:
        return node_on_forward_reply(node, peer->id, payload);
    case FRAME_SNAPSHOT_CHUNK:
        return node_receive_on_chunk(node, peer->id, payload);
    case FRAME_SNAPSHOT_ACK:
        return node_send_on_answer(node, peer->id, payload);
    case FRAME_DIGESTS:
        return node_on_digests(node, peer->id, payload);
    case FRAME_POSITION:
        return node_on_position(node, peer, payload);
    case FRAME_LEADER_TRANSFER:
        return node_on_leader_transfer(node, peer->id, payload);
    case FRAME_LEADER_TRANSFER_REPLY:
        return node_on_leader_transfer_reply(node, peer->id, payload);
    case FRAME_HELLO: /* the transport's own */
    case FRAME_BIRTH:
    case FRAME_PART_FIRST:
    case FRAME_PART_NEXT:
        break;
    }
    return TL_ERR_INVALID;
}

enum tl_err node_on_frame(struct node *node, raft_id from, enum frame_type type,
                          struct bytes payload)
{
    node_enter(node);
    if (node->is_failed || node->groups_count == 0) return TL_OK;
    struct node_peer *peer = node_find_peer(node, from);
    enum tl_err err = TL_ERR_INVALID;
    if (peer != NULL && peer->id != node->self) {
        node->metrics.frames_received_count++;
        err = frame_take(node, peer, type, payload);
    }
    if (err != TL_OK) node->metrics.frames_invalid_count++;
    return err;
}

void node_on_partial_frame(struct node *node, raft_id from)
{
    node_enter(node);
    struct node_peer *peer = node_find_peer(node, from);
    if (peer == NULL || node->is_failed) return;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        raft_hear_partial(node->groups[i]->raft, from, node->now_ns);
    }
}

void node_on_peer_up(struct node *node, raft_id id, enum peer_class class, uint32_t features)
{
    node_enter(node);
    struct node_peer *peer = node_find_peer(node, id);
    if (peer == NULL) return;
    peer->is_up[class] = true;
    peer->features[class] = features;
    if (class == PEER_CLASS_RAFT) node_digests_peer_up(node, id);
    if (class == PEER_CLASS_BULK) node_send_link_up(peer);
    node_position_peer_up(node, peer, class);
    node_member_wake(node);
}

void node_on_peer_down(struct node *node, raft_id id, enum peer_class class, bool is_refused)
{
    node_enter(node);
    struct node_peer *peer = node_find_peer(node, id);
    if (peer == NULL || node->is_failed) return;
    peer->is_up[class] = false;
    peer->features[class] = 0;
    node_member_wake(node);
    if (class == PEER_CLASS_FORWARD) node_writes_link_lost(node, id);
    if (class == PEER_CLASS_BULK) node_send_link_lost(node, id);
    if (class != PEER_CLASS_RAFT || !is_refused) return;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct node_group *group = node->groups[i];
        node_group_make_room(group);
        if (node->is_failed) return;
        node_group_advance(group);
        raft_peer_lost(group->raft, id);
    }
}
