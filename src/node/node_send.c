/* node_send.c - one snapshot on its way to a peer.
 *
 * At most one a node: two would share the same disk and the same link, and both would come later.
 * The core only says that some peer needs one. Whom to serve is looked up in its status when there
 * is time for it, so nothing has to be remembered that could be out of date.
 */

#include "node_internal.h"

#include <stdatomic.h>

#define OUTDATED_COUNT_MAX 4u

enum send_outcome { SEND_DONE, SEND_USELESS, SEND_FAILED };

static const char *address_of(const struct node *node, raft_id id)
{
    const struct member *member = node_member(node, id);
    return member != NULL ? member->address : "unknown";
}

static bool is_reached(struct node *node, raft_id id)
{
    const struct node_peer *peer = node_find_peer(node, id);
    return peer != NULL && peer->is_up[PEER_CLASS_BULK];
}

static const struct raft_peer_status *find_status(const struct raft_status *status, raft_id id)
{
    for (uint32_t i = 0; i < status->peers_count; i++) {
        if (status->peers[i].id == id) return &status->peers[i];
    }
    return NULL;
}

/* ---- the end ---- */

static void release(struct node *node)
{
    struct node_sending *sending = &node->sending;
    sending->state = SENDING_RELEASING;
    if (sending->job.is_out) return;
    if (sending->snapshot == NULL) {
        sending->state = SENDING_IDLE;
        return;
    }
    sending->job.snapshot = TL_TAKE(&sending->snapshot);
    node_snapshot_give(node, &sending->job, SNAPSHOT_JOB_RELEASE);
}

static void keep_log_behind(struct node_sending *sending, uint64_t now_ns)
{
    sending->trail = (struct snapshot_trail){
        .group = sending->group,
        .peer = sending->peer,
        .from = sending->info.state.index + 1,
        .until_ns = now_ns + SNAPSHOT_CATCH_UP_NS,
    };
}

/* What an attempt costs is its cut: at most half of the time is spent on it while all fail. */
static void put_off(struct node *node, raft_group group, raft_id id, uint64_t cut_ns)
{
    struct node_peer *peer = node_find_peer(node, id);
    if (peer == NULL) return;
    struct snapshot_attempts *attempts = &peer->snapshots[group];
    uint32_t shift = TL_MIN(attempts->failures_count, SNAPSHOT_RETRY_SHIFT_MAX);
    attempts->failures_count++;
    attempts->retry_ns = node->now_ns + (SNAPSHOT_RETRY_NS << shift) + cut_ns;
}

static void clear_attempts(struct node *node, raft_group group, raft_id id)
{
    struct node_peer *peer = node_find_peer(node, id);
    if (peer != NULL) peer->snapshots[group] = (struct snapshot_attempts){0};
}

static void end(struct node *node, enum send_outcome outcome, const char *reason)
{
    static const char *const names[] = {
        [SEND_DONE] = "installed", [SEND_USELESS] = "useless", [SEND_FAILED] = "failed"};
    struct node_sending *sending = &node->sending;
    struct node_group *group = node->groups[sending->group];
    atomic_store(&sending->job.is_canceled, true);
    node_log(node, outcome == SEND_FAILED ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "snapshot_send_end",
             "group=%u to=%s outcome=%s reason=\"%s\" chunks=%u of=%u ms=%llu", sending->group,
             address_of(node, sending->peer), names[outcome], reason, sending->acked,
             sending->info.chunks_count,
             (unsigned long long)((node->now_ns - sending->began_ns) / 1000000));
    group->snapshot_look_ns = node->now_ns;
    group->has_snapshot_want = true; /* looked up again: there may be others */
    raft_id peer = sending->peer;
    if (outcome == SEND_DONE) {
        node->metrics.snapshots_sent_count++;
        sending->outdated_count = 0;
        clear_attempts(node, group->id, peer);
        keep_log_behind(sending, node->now_ns);
    } else {
        node->metrics.snapshots_failed_count++;
    }
    if (outcome == SEND_FAILED) put_off(node, group->id, peer, sending->cut_ns);
    raft_index index = sending->info.state.index;
    release(node);
    node_group_make_room(group);
    if (node->is_failed) return;
    node_group_advance(group);
    if (outcome == SEND_DONE) {
        raft_snapshot_sent(group->raft, peer, index);
    } else {
        raft_snapshot_failed(group->raft, peer);
    }
}

/* ---- the beginning ---- */

void node_send_want(struct node_group *group)
{
    group->has_snapshot_want = true;
}

/* Room for the spool beside what is kept free: it is not to be what makes this node refuse writes.
 */
static bool has_space(const struct node_group *group)
{
    const struct node *node = group->node;
    uint64_t needed = table_data_bytes(group->table) + 2 * node->options.free_bytes_min;
    return data_dir_free_bytes(node->data_dir) > needed;
}

static void begin(struct node_group *group, raft_id peer)
{
    struct node *node = group->node;
    struct node_sending *sending = &node->sending;
    if (!has_space(group)) {
        node->metrics.snapshots_failed_count++;
        node_log(node, LOG_LEVEL_WARN, "snapshot_not_cut",
                 "group=%u to=%s bytes=%llu reason=\"no space left for it\"", group->id,
                 address_of(node, peer), (unsigned long long)table_data_bytes(group->table));
        put_off(node, group->id, peer, 0);
        return;
    }
    struct table_reader *reader = NULL;
    if (table_reader_create(group->table, &reader) != TL_OK) {
        group->snapshot_look_ns = node->now_ns + SNAPSHOT_RETRY_NS; /* no slot is free */
        return;
    }
    sending->state = SENDING_CUTTING;
    sending->group = group->id;
    sending->peer = peer;
    sending->info = (struct snapshot_info){.group = group->id};
    sending->keep_from = group->flushed + 1; /* the cut is at this flush, or at a later one */
    sending->acked = sending->sent = sending->offers_count = sending->busy_count = 0;
    sending->began_ns = sending->progress_ns = sending->heard_ns = node->now_ns;
    sending->reached_ns = node->now_ns;
    sending->cut_ns = 0;
    sending->offer_ns = sending->send_ns = 0;
    /* Each time the log went on without waiting, the next attempt has to be quicker. */
    send_rate_begin(&sending->rate, SEND_RATE_MIN << sending->outdated_count, node->now_ns);
    sending->job.group = group->id;
    sending->job.reader = reader;
    sending->job.data_dir = node->data_dir;
    sending->job.free_bytes_min = 2 * node->options.free_bytes_min;
    sending->job.cut_ns_max = node_snapshot_cut_ns_max(table_data_bytes(group->table));
    sending->job.chunk_limit = node->options.snapshot_chunk_bytes;
    text_format(sending->job.dir, sizeof sending->job.dir, "%s", data_dir_path(node->data_dir));
    node_snapshot_give(node, &sending->job, SNAPSHOT_JOB_CUT);
}

struct choice {
    raft_id peer; /* RAFT_ID_NONE: nobody is to be served now */
    bool is_any;  /* somebody needs one */
};

/* The next peer in need behind the one served last, so that one that fails does not starve others.
 */
static struct choice choose(const struct node_group *group)
{
    struct node *node = group->node;
    struct raft_status status;
    raft_get_status(group->raft, &status);
    struct choice choice = {.peer = RAFT_ID_NONE};
    uint32_t first = 0;
    for (uint32_t i = 0; i < status.peers_count; i++) {
        if (status.peers[i].id == node->sending.peer) first = i + 1;
    }
    for (uint32_t k = 0; k < status.peers_count; k++) {
        const struct raft_peer_status *peer = &status.peers[(first + k) % status.peers_count];
        if (peer->state != RAFT_NEEDS_SNAPSHOT || peer->id == node->self) continue;
        choice.is_any = true;
        if (!peer->is_recently_active || !is_reached(node, peer->id)) continue;
        if (node->now_ns < node_find_peer(node, peer->id)->snapshots[group->id].retry_ns) continue;
        choice.peer = peer->id;
        break;
    }
    return choice;
}

static void look(struct node *node)
{
    if (node->is_draining || node->is_diverged) return;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct node_group *group = node->groups[i];
        if (!group->has_snapshot_want || node->now_ns < group->snapshot_look_ns) continue;
        struct choice choice = choose(group);
        group->has_snapshot_want = choice.is_any;
        group->snapshot_look_ns = node->now_ns + SNAPSHOT_LOOK_NS;
        if (choice.peer == RAFT_ID_NONE) continue;
        begin(group, choice.peer);
        return;
    }
}

/* ---- under way ---- */

static void offer_again(struct node_sending *sending, uint64_t at_ns)
{
    sending->state = SENDING_OFFERING;
    sending->offer_ns = at_ns;
}

static void read_chunk(struct node *node, uint32_t number)
{
    struct node_sending *sending = &node->sending;
    sending->job.snapshot = TL_TAKE(&sending->snapshot);
    sending->job.number = number;
    node_snapshot_give(node, &sending->job, SNAPSHOT_JOB_READ);
}

static void send_chunk(struct node *node, uint32_t number, struct buf *frame)
{
    struct node_sending *sending = &node->sending;
    bool is_offer = sending->state == SENDING_OFFERING;
    if (number != (is_offer ? 0 : sending->sent)) { /* meant for a state that is over */
        buf_release(frame);
        return;
    }
    size_t bytes = frame->count;
    bool is_given = node->io.send(node->io.context, sending->peer, PEER_CLASS_BULK, frame);
    if (is_offer) {
        sending->offers_count++;
        sending->offer_ns = node->now_ns + SNAPSHOT_OFFER_NS;
        return;
    }
    if (!is_given) {
        offer_again(sending, node->now_ns + SNAPSHOT_BUSY_NS);
        return;
    }
    sending->sent++;
    sending->send_ns =
        TL_MAX(sending->send_ns, node->now_ns) + send_rate_span_ns(&sending->rate, bytes);
    node->metrics.frames_sent_count++;
    node->metrics.snapshot_bytes_sent_count += bytes;
}

static void cut_done(struct node *node)
{
    struct node_sending *sending = &node->sending;
    sending->info = *snapshot_get_info(sending->snapshot);
    sending->keep_from = sending->info.state.index + 1;
    sending->progress_ns = sending->heard_ns = node->now_ns;
    sending->cut_ns = node->now_ns - sending->began_ns;
    node_log(node, LOG_LEVEL_INFO, "snapshot_send_begin",
             "group=%u to=%s index=%llu rows=%llu bytes=%llu chunks=%u cut_ms=%llu", sending->group,
             address_of(node, sending->peer), (unsigned long long)sending->info.state.index,
             (unsigned long long)sending->info.state.rows_count,
             (unsigned long long)sending->info.bytes, sending->info.chunks_count,
             (unsigned long long)((node->now_ns - sending->began_ns) / 1000000));
    offer_again(sending, 0);
}

void node_send_done(struct node *node, enum tl_err err, const struct tl_fault *fault)
{
    struct node_sending *sending = &node->sending;
    struct node_snapshot_job *job = &sending->job;
    struct buf *chunk = TL_TAKE(&job->chunk);
    sending->snapshot = TL_TAKE(&job->snapshot);
    table_reader_destroy(TL_TAKE(&job->reader)); /* of a cut that was not carried out */
    bool is_cut = job->kind == SNAPSHOT_JOB_CUT;
    if (is_cut && (err == TL_ERR_CORRUPT || err == TL_ERR_NEWER_FORMAT)) {
        buf_release(chunk);
        node_fail(node, fault); /* the table in use is damaged */
        return;
    }
    if (sending->state == SENDING_RELEASING) {
        buf_release(chunk);
        release(node);
    } else if (err != TL_OK) {
        buf_release(chunk);
        if (is_cut) sending->cut_ns = node->now_ns - sending->began_ns;
        end(node, SEND_FAILED, node_snapshot_reason(err, fault));
    } else if (is_cut) {
        cut_done(node);
    } else {
        send_chunk(node, job->number, chunk);
    }
}

/* ---- what the receiver says ---- */

static enum tl_err on_next(struct node *node, uint32_t next)
{
    struct node_sending *sending = &node->sending;
    if (next > sending->info.chunks_count) return TL_ERR_INVALID;
    if (next == 0) {
        if (sending->state == SENDING_CHUNKS) offer_again(sending, node->now_ns);
    } else if (sending->state == SENDING_OFFERING) {
        if (sending->offers_count > 1 || next > 1) {
            node->metrics.snapshot_resumes_count++;
            node_log(node, LOG_LEVEL_INFO, "snapshot_send_resume", "group=%u to=%s chunk=%u of=%u",
                     sending->group, address_of(node, sending->peer), next,
                     sending->info.chunks_count);
        }
        sending->state = SENDING_CHUNKS;
        sending->acked = sending->sent = next;
        sending->progress_ns = node->now_ns;
    } else if (next > sending->acked && next <= sending->sent) {
        sending->acked = next;
        sending->progress_ns = node->now_ns;
    }
    return TL_OK;
}

enum tl_err node_send_on_answer(struct node *node, raft_id peer, struct bytes payload)
{
    struct snapshot_ack ack;
    enum tl_err err = snapshot_ack_decode(payload, &ack);
    if (err != TL_OK) return err;
    struct node_sending *sending = &node->sending;
    bool is_open = sending->state == SENDING_OFFERING || sending->state == SENDING_CHUNKS;
    if (!is_open || sending->peer != peer || sending->group != ack.group ||
        !hash_equal(sending->info.id, ack.id)) {
        return TL_OK; /* of a transfer that is over */
    }
    sending->heard_ns = node->now_ns;
    switch (ack.answer) {
    case SNAPSHOT_ANSWER_NEXT:
        sending->busy_count = 0;
        return on_next(node, ack.next);
    case SNAPSHOT_ANSWER_INSTALLED:
        end(node, SEND_DONE, "installed");
        break;
    case SNAPSHOT_ANSWER_STALE:
        end(node, SEND_DONE, "the peer has what is in it");
        break;
    case SNAPSHOT_ANSWER_BUSY:
        offer_again(sending, node->now_ns + (SNAPSHOT_BUSY_NS << sending->busy_count));
        sending->busy_count = TL_MIN(sending->busy_count + 1, SNAPSHOT_BUSY_SHIFT_MAX);
        break;
    case SNAPSHOT_ANSWER_BROKEN:
        end(node, SEND_FAILED, "the peer could not take it");
        break;
    }
    return TL_OK;
}

void node_send_link_lost(struct node *node, raft_id peer)
{
    struct node_sending *sending = &node->sending;
    if (sending->state == SENDING_CHUNKS && sending->peer == peer) {
        offer_again(sending, node->now_ns);
    } else if (sending->state == SENDING_OFFERING && sending->peer == peer) {
        sending->offer_ns = node->now_ns; /* the answer to the last one is not to be waited for */
    }
}

/* A peer that is back is served at once, unless it goes with every snapshot that comes. */
void node_send_link_up(struct node_peer *peer)
{
    for (raft_group group = 0; group < NODE_GROUPS_MAX; group++) {
        if (peer->snapshots[group].failures_count < 2) peer->snapshots[group].retry_ns = 0;
    }
}

/* ---- each turn ---- */

/* A peer that is gone, or that does not take what it is offered, is waited for as long as no other
 * one could be served meanwhile. */
static bool is_in_the_way(const struct node *node)
{
    const struct node_sending *sending = &node->sending;
    uint64_t since_ns = sending->reached_ns;
    if (sending->state == SENDING_OFFERING) since_ns = TL_MIN(since_ns, sending->progress_ns);
    if (node->now_ns < since_ns + SNAPSHOT_LOST_NS) return false;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        const struct node_group *group = node->groups[i];
        if (!group->has_snapshot_want) continue;
        raft_id peer = choose(group).peer; /* itself only when there is no other */
        bool is_itself = peer == sending->peer && group->id == sending->group;
        if (peer != RAFT_ID_NONE && !is_itself) return true;
    }
    return false;
}

/* Why it is of no use to go on; NULL: it is. A node that stops leading goes on with what the
 * peer has accepted: a snapshot is of what is committed, whoever leads, and the next leader's
 * would begin with chunk 0 again. The peer says when it has no use for it. */
static const char *find_needless(const struct node_sending *sending,
                                 const struct raft_status *status)
{
    if (status->role != RAFT_LEADER) {
        return sending->acked > 0 ? NULL : "this node does not lead any more";
    }
    const struct raft_peer_status *peer = find_status(status, sending->peer);
    if (peer == NULL) return "the peer is no member any more";
    /* In PROBE a new leader does not know yet. */
    if (peer->state == RAFT_REPLICATE) return "the peer needs none any more";
    return NULL;
}

static bool end_if_over(struct node *node)
{
    struct node_sending *sending = &node->sending;
    const struct node_group *group = node->groups[sending->group];
    struct raft_status status;
    raft_get_status(group->raft, &status);
    bool is_cut = sending->state != SENDING_CUTTING;
    bool is_all = is_cut && sending->acked == sending->info.chunks_count;
    const char *needless = find_needless(sending, &status);
    if (node_find_peer(node, sending->peer) == NULL) needless = "the peer is no member any more";
    bool is_ending = node->is_draining || node->is_diverged; /* not to hand a wrong state on */
    if (is_ending) needless = node->is_draining ? "this node stops" : "this node has diverged";
    if (needless != NULL) {
        end(node, is_all && !is_ending ? SEND_DONE : SEND_USELESS, needless);
    } else if (is_cut && status.role == RAFT_LEADER &&
               group->base_index > sending->info.state.index) {
        sending->outdated_count = TL_MIN(sending->outdated_count + 1, OUTDATED_COUNT_MAX);
        end(node, SEND_FAILED, "the log behind it is deleted");
    } else if (is_cut && node->now_ns > sending->progress_ns + SNAPSHOT_PROGRESS_NS) {
        end(node, SEND_FAILED, "no progress");
    } else if (is_in_the_way(node)) {
        end(node, SEND_FAILED, "the peer does not take it, and another one waits");
    }
    return sending->state == SENDING_RELEASING || sending->state == SENDING_IDLE;
}

static void step_trail(struct node *node)
{
    struct snapshot_trail *trail = &node->sending.trail;
    if (trail->peer == RAFT_ID_NONE) return;
    struct raft_status status;
    raft_get_status(node->groups[trail->group]->raft, &status);
    const struct raft_peer_status *peer = find_status(&status, trail->peer);
    if (status.role != RAFT_LEADER || peer == NULL || peer->is_caught_up ||
        node->now_ns >= trail->until_ns) {
        trail->peer = RAFT_ID_NONE;
        return;
    }
    trail->from = TL_MAX(trail->from, peer->match + 1);
}

void node_send_step(struct node *node)
{
    struct node_sending *sending = &node->sending;
    step_trail(node);
    if (sending->state == SENDING_IDLE) {
        look(node);
        return;
    }
    if (is_reached(node, sending->peer)) sending->reached_ns = node->now_ns;
    if (sending->state == SENDING_RELEASING || end_if_over(node)) return;
    send_rate_judge(&sending->rate, node->now_ns);
    if (sending->state == SENDING_CHUNKS && node->now_ns > sending->heard_ns + SNAPSHOT_ANSWER_NS) {
        sending->heard_ns = node->now_ns;
        offer_again(sending, node->now_ns);
    }
    if (sending->job.is_out || !is_reached(node, sending->peer)) return;
    if (sending->state == SENDING_OFFERING && node->now_ns >= sending->offer_ns) {
        read_chunk(node, 0);
    } else if (sending->state == SENDING_CHUNKS && sending->sent < sending->info.chunks_count &&
               sending->sent - sending->acked < SNAPSHOT_WINDOW_CHUNKS &&
               node->now_ns >= sending->send_ns) {
        read_chunk(node, sending->sent);
    }
}

static uint64_t look_deadline(const struct node *node)
{
    uint64_t deadline_ns = NODE_NEVER;
    if (node->is_draining || node->is_diverged) return deadline_ns;
    for (uint32_t i = 0; i < node->groups_count; i++) {
        const struct node_group *group = node->groups[i];
        if (!group->has_snapshot_want) continue;
        deadline_ns = TL_MIN(deadline_ns, TL_MAX(group->snapshot_look_ns, node->now_ns));
    }
    return deadline_ns;
}

uint64_t node_send_deadline(const struct node *node)
{
    const struct node_sending *sending = &node->sending;
    uint64_t deadline_ns = NODE_NEVER;
    if (sending->trail.peer != RAFT_ID_NONE) deadline_ns = sending->trail.until_ns;
    if (sending->state == SENDING_IDLE) return TL_MIN(deadline_ns, look_deadline(node));
    if (sending->state != SENDING_OFFERING && sending->state != SENDING_CHUNKS) return deadline_ns;
    deadline_ns = TL_MIN(deadline_ns, sending->progress_ns + SNAPSHOT_PROGRESS_NS);
    if (sending->job.is_out) return deadline_ns;
    /* When the peer is not reached, the next event is its connection. */
    bool is_up = is_reached((struct node *)node, sending->peer);
    uint64_t lost_ns = sending->reached_ns + SNAPSHOT_LOST_NS;
    if (!is_up && lost_ns > node->now_ns) deadline_ns = TL_MIN(deadline_ns, lost_ns);
    if (is_up && sending->state == SENDING_OFFERING) {
        deadline_ns = TL_MIN(deadline_ns, TL_MAX(sending->offer_ns, node->now_ns));
    } else if (is_up && sending->sent < sending->info.chunks_count &&
               sending->sent - sending->acked < SNAPSHOT_WINDOW_CHUNKS) {
        deadline_ns = TL_MIN(deadline_ns, TL_MAX(sending->send_ns, node->now_ns));
    } else if (sending->state == SENDING_CHUNKS ||
               node->options.mutation == NODE_MUTATION_OFFER_DEADLINE) {
        deadline_ns = TL_MIN(deadline_ns, sending->heard_ns + SNAPSHOT_ANSWER_NS + 1);
    }
    return deadline_ns;
}

raft_index node_send_keep_from(const struct node_group *group)
{
    const struct node_sending *sending = &group->node->sending;
    raft_index from = 0;
    if (sending->state != SENDING_IDLE && sending->state != SENDING_RELEASING &&
        sending->group == group->id) {
        from = sending->keep_from;
    }
    const struct snapshot_trail *trail = &sending->trail;
    if (trail->peer != RAFT_ID_NONE && trail->group == group->id) {
        from = from == 0 ? trail->from : TL_MIN(from, trail->from);
    }
    return from;
}

void node_send_note_commit(struct node *node, uint64_t spent_us)
{
    send_rate_note_commit(&node->sending.rate, spent_us, node->sending.state != SENDING_IDLE);
}

void node_send_close(struct node *node)
{
    struct node_sending *sending = &node->sending;
    snapshot_destroy(TL_TAKE(&sending->snapshot));
    node_snapshot_job_clear(&sending->job);
}
