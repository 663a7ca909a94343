/* rollback.c - disks that go back to an older copy of themselves, as a restored backup does.
 *
 * Such a store has forgotten votes and acknowledgements, and its id does not tell. A member that
 * had more promised by it recognises it and refuses it; until then it may do harm, as two voters of
 * three that have lost nothing might need it. So a disk is put back only when somebody that runs
 * knows better, nothing else is the matter, and nothing else happens until it is refused: that has
 * to come soon. Then its disk is emptied, and its seat is taken again like that of any lost store.
 *
 * Who knows better is found out here from what was delivered, not from what the nodes keep.
 */

#include "sim_internal.h"

#include <inttypes.h>

#include "trilith/frame.h"

#define QUIET_NS (2 * SIM_S)   /* before the disk is put back: what was the matter ends */
#define ELECT_NS (3 * SIM_S)   /* if it led: the others elect another before it comes back */
#define REFUSAL_NS (5 * SIM_S) /* after it has come back */

static void push_step(struct sim *sim, uint64_t delay_ns)
{
    struct event event = {.kind = EVENT_ROLLBACK, .node = SIM_WORLD, .a = sim->rollback.number};
    sim_push(sim, sim->now_ns + delay_ns, &event);
}

bool sim_is_quiet(const struct sim *sim)
{
    return sim->is_calm || sim->rollback.node != NULL;
}

/* ---- what was promised to whom ---- */

static void note(struct sim_promise *promise, const struct raft_message *message)
{
    bool is_ack = message->type == RAFT_APPEND_REPLY && message->reject == RAFT_REJECT_NONE;
    bool is_vote = message->type == RAFT_VOTE_REPLY && message->granted;
    bool is_of_leader = message->type == RAFT_APPEND;
    if (message->group >= SIM_GROUPS_COUNT || !(is_ack || is_vote || is_of_leader)) return;
    raft_index index = is_ack ? message->index : 0;
    raft_term *term = &promise->term[message->group];
    raft_index *at = &promise->index[message->group];
    if (message->term < *term) return;
    *at = message->term > *term ? index : TL_MAX(*at, index);
    *term = message->term;
}

void rollback_on_frame(struct sim *sim, struct sim_node *to, const struct sim_node *from,
                       struct bytes payload)
{
    if (sim->swarm.rollback_weight == 0 || !host_is_born(to)) return;
    if (node_member(to->node, from->id) == NULL) return;
    struct sim_promise *promise = &to->promises[from->number];
    if (promise->id != from->id) *promise = (struct sim_promise){.id = from->id};
    struct reader reader = reader_make(payload);
    struct raft_batch_head head;
    enum tl_err err = raft_batch_head_decode(&reader, true, &head);
    for (uint32_t i = 0; err == TL_OK && i < head.messages_count; i++) {
        struct raft_message message;
        err = raft_message_decode(&reader, &message);
        if (err != TL_OK) break;
        note(promise, &message);
        raft_message_clear(&message);
    }
}

/* ---- what counts ---- */

static bool head_of(struct bytes payload, struct raft_batch_head *out_head)
{
    struct reader reader = reader_make(payload);
    return raft_batch_head_decode(&reader, true, out_head) == TL_OK;
}

void rollback_on_sent(struct sim *sim, const struct buf *frame)
{
    struct raft_batch_head head;
    if (!sim->rollback.is_done || frame->data[4] != FRAME_RAFT) return;
    if (head_of(bytes_make(frame->data + FRAME_HEADER_BYTES, frame->count - FRAME_HEADER_BYTES),
                &head)) {
        sim->rollback.life = head.life;
    }
}

void rollback_on_taken(struct sim *sim, const struct sim_node *by, struct bytes payload,
                       uint64_t ignored_count)
{
    struct raft_batch_head head;
    if (sim->rollback.life == 0 || !sim->rollback.knows_better[by->number]) return;
    if (!head_of(payload, &head) || head.life != sim->rollback.life) return;
    sim->result->counters.rollback_messages += head.messages_count;
    if (ignored_count == head.messages_count) return;
    sim_fail(sim, "[85] node %u takes what an old copy of node %u's disk says, and knows better",
             by->number, sim->rollback.node->number);
}

static bool breaks(const struct mem_disk *disk, const struct sim_promise *promise)
{
    for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) {
        const struct mem_log *log = &disk->logs[g];
        if (log->hard_state.term < promise->term[g]) return true;
        if (log->hard_state.term == promise->term[g] && log->last < promise->index[g]) return true;
    }
    return false;
}

/* ---- whether it can be borne ---- */

static bool is_well(const struct sim *sim, const struct sim_node *node)
{
    return host_is_born(node) && !node->is_draining && !node->has_failed &&
           node->paused_until_ns <= sim->now_ns && node->hangs_until_ns <= sim->now_ns;
}

/* Every machine runs and is connected, somebody leads, and somebody knows better than the copy. */
static bool may_put_back(struct sim *sim, const struct sim_node *node)
{
    bool is_known = false;
    bool is_led[SIM_GROUPS_COUNT] = {false};
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        const struct sim_node *other = &sim->nodes[i];
        if (!other->is_wanted) continue;
        if (!is_well(sim, other)) return false;
        for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) {
            is_led[g] = is_led[g] || host_leads(sim, other, g);
        }
        const struct sim_promise *promise = &other->promises[node->number];
        is_known =
            is_known || (other != node && promise->id == node->id && breaks(node->copy, promise));
    }
    return is_known && is_led[0] && is_led[1] && network_is_whole(sim) &&
           members_can_lose(sim, node);
}

static bool leads(const struct sim *sim, const struct sim_node *node)
{
    return host_leads(sim, node, 0) || host_leads(sim, node, NODE_DATA_GROUP);
}

/* ---- the fault ---- */

void rollback_inject(struct sim *sim, struct sim_node *node)
{
    bool is_of_disk =
        node->copy != NULL && store_id_equal(&node->copy->store_id, &node->disk->store_id);
    if (!is_of_disk || prng_chance(&sim->fault_random, 200000)) {
        if (!node->disk->has_identity || mem_disks_are_full()) return;
        node->copy = mem_disk_copy(node->disk);
        sim_trace(sim, "the disk of n%u is copied", node->number);
        return;
    }
    uint64_t end_ns = sim->now_ns + QUIET_NS + ELECT_NS + REFUSAL_NS;
    if (end_ns > sim->swarm.storm_ns || !may_put_back(sim, node)) return;
    sim->rollback.node = node;
    sim->rollback.number++;
    push_step(sim, QUIET_NS);
}

static void put_back(struct sim *sim, struct sim_node *node)
{
    uint64_t delay_ns = leads(sim, node) ? ELECT_NS : SIM_MS;
    sim->result->counters.rollbacks++;
    sim->result->counters.rollbacks_of_leaders += leads(sim, node);
    node->is_off = true; /* nobody else starts it */
    host_crash(sim, node);
    node->is_off = false;
    sim_trace(sim, "n%u goes back to a copy of its disk", node->number);
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        const struct sim_promise *promise = &sim->nodes[i].promises[node->number];
        sim->rollback.knows_better[i] = &sim->nodes[i] != node && promise->id == node->id &&
                                        breaks(node->copy, promise);
    }
    host_put_back(sim, node);
    sim->rollback.is_done = true;
    struct event event = {.kind = EVENT_START, .node = node->number};
    sim_push(sim, sim->now_ns + delay_ns, &event);
    push_step(sim, delay_ns + REFUSAL_NS);
}

void rollback_on_event(struct sim *sim, const struct event *event)
{
    struct sim_node *node = sim->rollback.node;
    if (node == NULL || event->a != sim->rollback.number) return;
    if (sim->rollback.is_done) {
        sim_fail(sim, "[39] node %u is back with an old copy of its disk, and nobody refuses it",
                 node->number);
    } else if (node->node != NULL && may_put_back(sim, node)) {
        put_back(sim, node);
    } else {
        sim->rollback.node = NULL;
    }
}

bool rollback_explains(const struct sim *sim, const struct sim_node *node)
{
    return sim->rollback.is_done && sim->rollback.node == node;
}

/* Started once more it is refused once more. */
void rollback_on_refused(struct sim *sim, struct sim_node *node)
{
    sim->result->counters.rollbacks_refused++;
    struct event event = {.kind = EVENT_START, .node = node->number};
    if (prng_chance(&sim->fault_random, 300000)) {
        sim_push(sim, sim->now_ns + 50 * SIM_MS, &event);
        return;
    }
    sim->rollback = (struct sim_rollback){.number = sim->rollback.number};
    node->copy = NULL;
    members_empty_disk(sim, node);
    sim_push(sim, sim->now_ns + sim_exponential(&sim->fault_random, sim->swarm.down_mean_ns),
             &event);
}
