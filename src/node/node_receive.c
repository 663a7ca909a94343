/* node_receive.c - snapshots on their way to this node.
 *
 * A chunk is answered when it is stored in the stage, so what a sender hears is what the disk keeps
 * up with; at most SNAPSHOT_WINDOW_CHUNKS wait here. Nothing that goes wrong with a stage concerns
 * what this node has promised: it is given up, and the sender begins again.
 */

#include "node_internal.h"

static const char *address_of(const struct node *node, raft_id id)
{
    const struct member *member = node_member(node, id);
    return member != NULL ? member->address : "unknown";
}

static struct node_receiving *find(struct node *node, raft_group group)
{
    for (uint32_t i = 0; i < SNAPSHOT_RECEIVING_MAX; i++) {
        struct node_receiving *receiving = &node->receivings[i];
        if (receiving->state != RECEIVING_FREE && receiving->group == group) return receiving;
    }
    return NULL;
}

static struct node_receiving *find_free(struct node *node)
{
    for (uint32_t i = 0; i < SNAPSHOT_RECEIVING_MAX; i++) {
        if (node->receivings[i].state == RECEIVING_FREE) return &node->receivings[i];
    }
    return NULL;
}

static void answer(struct node *node, raft_id peer, const struct snapshot_ack *ack)
{
    node->metrics.frames_sent_count++;
    /* Lost with its link: the sender offers again. */
    (void)node->io.send(node->io.context, peer, PEER_CLASS_BULK, snapshot_ack_encode(ack));
}

void node_receive_answer(struct node *node, const struct node_receiving *receiving,
                         enum snapshot_answer what, uint32_t next)
{
    const struct snapshot_ack ack = {
        .group = receiving->group, .answer = what, .next = next, .id = receiving->info.id};
    answer(node, receiving->peer, &ack);
}

/* ---- the queue of chunks ---- */

static void chunks_clear(struct node_receiving *receiving)
{
    while (receiving->chunks_count > 0) {
        buf_release(TL_TAKE(&receiving->chunks[receiving->chunks_first]));
        receiving->chunks_first = (receiving->chunks_first + 1) % SNAPSHOT_QUEUE_CHUNKS;
        receiving->chunks_count--;
    }
}

static void push(struct node_receiving *receiving, struct bytes chunk)
{
    TL_ASSERT(receiving->chunks_count < SNAPSHOT_QUEUE_CHUNKS);
    uint32_t at = (receiving->chunks_first + receiving->chunks_count) % SNAPSHOT_QUEUE_CHUNKS;
    receiving->chunks[at] = buf_copy(chunk);
    receiving->chunks_count++;
    receiving->arrived++;
}

/* Gives the next chunk to the snapshot thread, unless it has one. */
static void work(struct node *node, struct node_receiving *receiving)
{
    struct node_snapshot_job *job = &receiving->job;
    if (job->is_out || receiving->state != RECEIVING_STAGING || receiving->chunks_count == 0) {
        return;
    }
    job->chunk = TL_TAKE(&receiving->chunks[receiving->chunks_first]);
    receiving->chunks_first = (receiving->chunks_first + 1) % SNAPSHOT_QUEUE_CHUNKS;
    receiving->chunks_count--;
    bool is_first = receiving->stage == NULL;
    job->stage = TL_TAKE(&receiving->stage);
    node_snapshot_give(node, job, is_first ? SNAPSHOT_JOB_STAGE : SNAPSHOT_JOB_WRITE);
}

/* ---- the end ---- */

void node_receive_end(struct node *node, struct node_receiving *receiving, const char *reason)
{
    chunks_clear(receiving);
    receiving->state = RECEIVING_DROPPING;
    if (reason != NULL) {
        node->metrics.snapshots_failed_count++;
        node_log(node, LOG_LEVEL_WARN, "snapshot_receive_end",
                 "group=%u from=%s index=%llu outcome=dropped reason=\"%s\" chunks=%u of=%u",
                 receiving->group, address_of(node, receiving->peer),
                 (unsigned long long)receiving->info.state.index, reason, receiving->stored,
                 receiving->info.chunks_count);
    }
    struct node_snapshot_job *job = &receiving->job;
    if (job->is_out) return;
    if (receiving->stage == NULL && receiving->table == NULL) {
        receiving->state = RECEIVING_FREE;
        return;
    }
    job->stage = TL_TAKE(&receiving->stage);
    job->table = TL_TAKE(&receiving->table);
    node_snapshot_give(node, job, SNAPSHOT_JOB_ABORT);
}

/* ---- what the snapshot thread has done ---- */

static void stored(struct node *node, struct node_receiving *receiving)
{
    receiving->stored = snapshot_stage_next(receiving->stage);
    node_receive_answer(node, receiving, SNAPSHOT_ANSWER_NEXT, receiving->stored);
    if (receiving->stored < receiving->info.chunks_count) {
        work(node, receiving);
        return;
    }
    receiving->state = RECEIVING_FINISHING;
    receiving->job.stage = TL_TAKE(&receiving->stage);
    node_snapshot_give(node, &receiving->job, SNAPSHOT_JOB_FINISH);
}

static void failed(struct node *node, struct node_receiving *receiving, enum tl_err err,
                   const struct tl_fault *fault)
{
    node_receive_answer(node, receiving, SNAPSHOT_ANSWER_BROKEN, 0);
    node_receive_end(node, receiving, node_snapshot_reason(err, fault));
}

void node_receive_done(struct node *node, struct node_receiving *receiving, enum tl_err err,
                       const struct tl_fault *fault)
{
    struct node_snapshot_job *job = &receiving->job;
    buf_release(TL_TAKE(&job->chunk));
    receiving->stage = TL_TAKE(&job->stage);
    receiving->table = TL_TAKE(&job->table);
    if (receiving->state == RECEIVING_DROPPING) {
        /* What could not be deleted the next start deletes. */
        node_receive_end(node, receiving, NULL);
    } else if (err != TL_OK) {
        failed(node, receiving, err, fault);
    } else if (job->kind == SNAPSHOT_JOB_FINISH) {
        receiving->state = RECEIVING_READY;
    } else {
        stored(node, receiving);
    }
}

/* ---- what the sender says ---- */

/* Two copies of the table, and the log goes on growing meanwhile. Without the space the sender
 * keeps what it has cut, for a while, and offers it again. */
static bool has_space(struct node *node, raft_id peer, const struct snapshot_info *info)
{
    uint64_t needed =
        2 * info->bytes + node->options.log_retain_bytes + node->options.free_bytes_min;
    if (data_dir_free_bytes(node->data_dir) > needed) return true;
    if (node->now_ns >= node->snapshot_refused_ns) {
        node->snapshot_refused_ns = node->now_ns + SNAPSHOT_REFUSED_NS;
        node_log(node, LOG_LEVEL_WARN, "snapshot_refused",
                 "group=%u from=%s bytes=%llu reason=\"no space left for it\"", info->group,
                 address_of(node, peer), (unsigned long long)info->bytes);
    }
    return false;
}

static enum tl_err begin(struct node_group *group, raft_id peer, const struct snapshot_info *info,
                         struct bytes chunk)
{
    struct node *node = group->node;
    struct snapshot_ack ack = {.group = group->id, .answer = SNAPSHOT_ANSWER_BUSY, .id = info->id};
    struct node_receiving *receiving = find_free(node);
    if (!raft_snapshot_is_wanted(group->raft, info->state.index)) {
        ack.answer = SNAPSHOT_ANSWER_STALE;
    }
    bool is_free = receiving != NULL && !node->is_draining;
    if (ack.answer == SNAPSHOT_ANSWER_STALE || !is_free || !has_space(node, peer, info)) {
        answer(node, peer, &ack);
        return TL_OK;
    }
    receiving->state = RECEIVING_STAGING;
    receiving->group = group->id;
    receiving->peer = peer;
    receiving->info = *info;
    receiving->table_number = group->table_number + 1;
    receiving->chunks_first = 0;
    receiving->arrived = receiving->stored = 0;
    receiving->began_ns = receiving->heard_ns = node->now_ns;
    receiving->job.group = group->id;
    receiving->job.map_bytes = node->options.table_map_bytes;
    receiving->job.map_headroom_bytes = node->options.map_headroom_bytes;
    receiving->job.data_dir = node->data_dir;
    receiving->job.table_name =
        (struct data_dir_table){.group = group->id, .number = receiving->table_number};
    node_log(node, LOG_LEVEL_INFO, "snapshot_receive_begin",
             "group=%u from=%s index=%llu rows=%llu bytes=%llu chunks=%u", group->id,
             address_of(node, peer), (unsigned long long)info->state.index,
             (unsigned long long)info->state.rows_count, (unsigned long long)info->bytes,
             info->chunks_count);
    push(receiving, chunk);
    work(node, receiving);
    return TL_OK;
}

/* The snapshot that is on its way already, after a lost connection or from another sender. */
static void resume(struct node *node, struct node_receiving *receiving, raft_id peer)
{
    receiving->peer = peer;
    receiving->heard_ns = node->now_ns;
    node->metrics.snapshot_resumes_count++;
    node_log(node, LOG_LEVEL_INFO, "snapshot_receive_resume", "group=%u from=%s chunk=%u of=%u",
             receiving->group, address_of(node, peer), receiving->arrived,
             receiving->info.chunks_count);
    node_receive_answer(node, receiving, SNAPSHOT_ANSWER_NEXT, receiving->arrived);
}

/* For a chunk, or to hear that the sender leads: another one may take its place. */
static bool is_waiting(const struct node *node, const struct node_receiving *receiving)
{
    bool is_held_back = receiving->state == RECEIVING_READY &&
                        node->groups[receiving->group]->installing != receiving;
    return receiving->state == RECEIVING_STAGING || is_held_back;
}

static enum tl_err on_offer(struct node *node, raft_id peer, struct bytes chunk)
{
    struct snapshot_info info;
    enum tl_err err = snapshot_info_decode(chunk, &info);
    if (err != TL_OK) return TL_ERR_INVALID;
    struct node_group *group = node_find_group(node, info.group);
    struct snapshot_ack busy = {.group = info.group, .answer = SNAPSHOT_ANSWER_BUSY, .id = info.id};
    struct raft_conf conf;
    if (conf_payload_decode(bytes_make(info.conf, info.conf_bytes), &conf) != TL_OK) {
        return TL_ERR_INVALID;
    }
    struct node_receiving *receiving = find(node, info.group);
    if (group == NULL) {
        answer(node, peer, &busy); /* it is about to be created, or deleted */
    } else if (receiving == NULL) {
        return begin(group, peer, &info, chunk);
    } else if (hash_equal(receiving->info.id, info.id) && receiving->state != RECEIVING_DROPPING) {
        resume(node, receiving, peer);
    } else {
        bool is_quiet = node->now_ns > receiving->heard_ns + SNAPSHOT_REPLACE_NS;
        if (is_waiting(node, receiving) && (peer == receiving->peer || is_quiet)) {
            node_receive_end(node, receiving, "another one is offered");
        }
        answer(node, peer, &busy);
    }
    return TL_OK;
}

enum tl_err node_receive_on_chunk(struct node *node, raft_id peer, struct bytes payload)
{
    struct snapshot_chunk chunk;
    enum tl_err err = snapshot_chunk_decode(payload, &chunk);
    if (err != TL_OK) return TL_ERR_INVALID;
    node->metrics.snapshot_bytes_received_count += payload.count;
    if (chunk.number == 0) return on_offer(node, peer, payload);
    struct node_receiving *receiving = find(node, chunk.group);
    if (receiving == NULL || !hash_equal(receiving->info.id, chunk.id) ||
        receiving->state == RECEIVING_DROPPING) {
        /* This process, or this stage, is not the one that asked for it. */
        const struct snapshot_ack unknown = {
            .group = chunk.group, .answer = SNAPSHOT_ANSWER_NEXT, .next = 0, .id = chunk.id};
        answer(node, peer, &unknown);
        return TL_OK;
    }
    if (receiving->state != RECEIVING_STAGING || chunk.number != receiving->arrived) {
        return TL_OK; /* sent again, or behind one that was lost: the sender offers again */
    }
    if (chunk.number >= receiving->info.chunks_count ||
        receiving->chunks_count == SNAPSHOT_QUEUE_CHUNKS) {
        return TL_ERR_INVALID; /* beyond what it was told to send */
    }
    receiving->heard_ns = node->now_ns;
    push(receiving, payload);
    work(node, receiving);
    return TL_OK;
}

/* ---- each turn ---- */

static void step(struct node *node, struct node_receiving *receiving)
{
    const struct node_group *group = node->groups[receiving->group];
    if (receiving->state == RECEIVING_READY) {
        node_install_begin(node, receiving);
    } else if (receiving->state == RECEIVING_STAGING &&
               !raft_snapshot_is_wanted(group->raft, receiving->info.state.index)) {
        node_receive_answer(node, receiving, SNAPSHOT_ANSWER_STALE, 0);
        node_receive_end(node, receiving, "the log has what is in it");
    }
    if (is_waiting(node, receiving) && node->now_ns > receiving->heard_ns + SNAPSHOT_SILENCE_NS) {
        node_receive_end(node, receiving, "the sender is silent");
    }
}

void node_receive_step(struct node *node)
{
    for (uint32_t i = 0; i < SNAPSHOT_RECEIVING_MAX && !node->is_failed; i++) {
        struct node_receiving *receiving = &node->receivings[i];
        if (receiving->state != RECEIVING_FREE) step(node, receiving);
    }
}

uint64_t node_receive_deadline(const struct node *node)
{
    uint64_t deadline_ns = NODE_NEVER;
    for (uint32_t i = 0; i < SNAPSHOT_RECEIVING_MAX; i++) {
        const struct node_receiving *receiving = &node->receivings[i];
        if (!is_waiting(node, receiving)) continue;
        deadline_ns = TL_MIN(deadline_ns, receiving->heard_ns + SNAPSHOT_SILENCE_NS + 1);
    }
    return deadline_ns;
}

void node_receive_close(struct node *node)
{
    for (uint32_t i = 0; i < SNAPSHOT_RECEIVING_MAX; i++) {
        struct node_receiving *receiving = &node->receivings[i];
        chunks_clear(receiving);
        snapshot_stage_abort(TL_TAKE(&receiving->stage));
        table_close(TL_TAKE(&receiving->table));
        node_snapshot_job_clear(&receiving->job);
    }
}
