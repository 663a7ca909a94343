/* network.c - connections between nodes: three per pair, as the transport of the server keeps them.
 *
 * A link's life: maintenance finds both ends alive, acquainted and not cut off, and brings it up at
 * both. It breaks when it is reset, when a frame of a stream meets a partition, or when a process
 * dies; from then on nothing gets through, and each end notices at a time of its own. When both
 * have, maintenance may bring it up again, as a new generation.
 *
 * Frames of forwarded writes always go as over TCP: in order, each once, and lost only with the
 * link. Raft frames do the same, but that urgent ones overtake others, or (swarm.is_datagram) are
 * lost, doubled and reordered one by one, which the core must survive too.
 */

#include "sim_internal.h"

#include <inttypes.h>

#include "trilith/frame.h"

static struct sim_link *link_of(struct sim *sim, uint32_t a, uint32_t b, enum peer_class class)
{
    TL_ASSERT(a != b);
    return &sim->links[TL_MIN(a, b)][TL_MAX(a, b)][class];
}

static uint32_t side_of(uint32_t node, uint32_t peer)
{
    return node < peer ? 0 : 1;
}

static uint64_t draw_delay(struct sim *sim)
{
    return sim->swarm.delay_min_ns + sim_exponential(&sim->net_random, sim->swarm.delay_mean_ns);
}

static void push_frame(struct sim *sim, enum event_kind kind, uint32_t from, uint32_t to,
                       uint64_t time_ns, uint64_t generation, uint64_t class, struct buf *frame)
{
    struct event event = {
        .kind = kind, .node = to, .peer = from, .a = generation, .b = class, .data = frame};
    sim_push(sim, time_ns, &event);
}

static bool knows(const struct sim_node *node, raft_id id)
{
    for (uint32_t i = 0; i < node->knows_count; i++) {
        if (node->knows[i] == id) return true;
    }
    return false;
}

/* Of two machines with the disks that they have. */
static uint64_t stores_of(const struct sim *sim, uint32_t from, uint32_t to)
{
    return (uint64_t)sim->nodes[from].stores_count << 32 | sim->nodes[to].stores_count;
}

/* ---- links ---- */

static void push_maintenance(struct sim *sim, uint32_t a, uint32_t b)
{
    struct event event = {.kind = EVENT_CONNECT, .node = SIM_WORLD, .a = a, .b = b};
    uint64_t delay = prng_between(&sim->net_random, 10 * SIM_MS, 250 * SIM_MS);
    sim_push(sim, sim->now_ns + delay, &event);
}

void network_init(struct sim *sim)
{
    for (uint32_t a = 0; a < sim->swarm.nodes_count; a++) {
        for (uint32_t b = a + 1; b < sim->swarm.nodes_count; b++) push_maintenance(sim, a, b);
    }
}

static bool is_cut(const struct sim *sim, uint32_t a, uint32_t b, enum peer_class class)
{
    return sim->blocked[a][b][class] > 0 || sim->blocked[b][a][class] > 0;
}

static bool is_awake(const struct sim *sim, const struct sim_node *node)
{
    return node->node != NULL && node->paused_until_ns <= sim->now_ns;
}

static void bring_up(struct sim *sim, struct sim_node *a, struct sim_node *b, enum peer_class class)
{
    struct sim_link *link = link_of(sim, a->number, b->number, class);
    link->generation++;
    link->is_broken = false;
    link->is_up[0] = link->is_up[1] = true;
    link->free_ns[0] = link->free_ns[1] = sim->now_ns;
    link->ids[side_of(a->number, b->number)] = a->id;
    link->ids[side_of(b->number, a->number)] = b->id;
    sim_trace(sim, "link n%u-n%u class %d up", a->number, b->number, (int)class);
    node_on_peer_up(a->node, b->id, class, HELLO_FEATURES);
    node_on_peer_up(b->node, a->id, class, HELLO_FEATURES);
    host_wake(sim, a);
    host_wake(sim, b);
}

static void push_down(struct sim *sim, uint32_t node, uint32_t peer, enum peer_class class,
                      uint64_t delay_ns)
{
    struct event event = {.kind = EVENT_LINK_DOWN,
                          .node = node,
                          .incarnation = sim->nodes[node].incarnation,
                          .peer = peer,
                          .a = link_of(sim, node, peer, class)->generation,
                          .b = class};
    sim_push(sim, sim->now_ns + delay_ns, &event);
}

/* A node that keeps trying to reach a dead process is told that it is refused: so is every store
 * that it knows at that address. */
static void maybe_refuse(struct sim *sim, struct sim_node *from, const struct sim_node *to,
                         enum peer_class class)
{
    const struct sim_link *link = link_of(sim, from->number, to->number, class);
    if (!is_awake(sim, from) || to->node != NULL) return;
    if (link->is_up[side_of(from->number, to->number)]) return;
    for (uint32_t i = 0; i < sim->stores_count; i++) {
        const struct sim_store *store = &sim->stores[i];
        if (store->node != to->number || !knows(from, store->id)) continue;
        node_on_peer_down(from->node, store->id, class, true);
        host_wake(sim, from);
    }
}

static void on_maintenance(struct sim *sim, const struct event *event)
{
    struct sim_node *a = &sim->nodes[event->a];
    struct sim_node *b = &sim->nodes[event->b];
    push_maintenance(sim, a->number, b->number);
    for (uint32_t c = 0; c < PEER_CLASSES_COUNT; c++) {
        const struct sim_link *link = link_of(sim, a->number, b->number, c);
        if (link->is_up[0] || link->is_up[1] || is_cut(sim, a->number, b->number, c)) continue;
        if (is_awake(sim, a) && is_awake(sim, b) && knows(a, b->id) && knows(b, a->id)) {
            bring_up(sim, a, b, c);
        } else {
            maybe_refuse(sim, a, b, c);
            maybe_refuse(sim, b, a, c);
        }
    }
}

/* Nothing gets through any more; each end notices within `notice_ns`. */
static void break_link(struct sim *sim, uint32_t a, uint32_t b, enum peer_class class,
                       uint64_t notice_ns)
{
    struct sim_link *link = link_of(sim, a, b, class);
    if (link->is_broken) return;
    link->is_broken = true;
    sim_trace(sim, "link n%u-n%u class %d breaks", a, b, (int)class);
    push_down(sim, a, b, class, prng_below(&sim->net_random, notice_ns));
    push_down(sim, b, a, class, prng_below(&sim->net_random, notice_ns));
}

void network_reset_link(struct sim *sim, uint32_t a, uint32_t b, enum peer_class class)
{
    struct sim_link *link = link_of(sim, a, b, class);
    if (!link->is_up[0] || !link->is_up[1]) return;
    sim->result->counters.connections_reset++;
    break_link(sim, a, b, class, 20 * SIM_MS);
}

void network_on_peers(struct sim *sim, struct sim_node *node)
{
    for (uint32_t p = 0; p < sim->swarm.nodes_count; p++) {
        for (uint32_t c = 0; c < PEER_CLASSES_COUNT && p != node->number; c++) {
            const struct sim_link *link = link_of(sim, node->number, p, c);
            if (!link->is_up[side_of(node->number, p)]) continue;
            if (knows(node, link->ids[side_of(p, node->number)])) continue;
            break_link(sim, node->number, p, c, 20 * SIM_MS);
        }
    }
}

bool network_is_whole(const struct sim *sim)
{
    for (uint32_t a = 0; a < sim->swarm.nodes_count; a++) {
        for (uint32_t b = a + 1; b < sim->swarm.nodes_count; b++) {
            if (!sim->nodes[a].is_wanted || !sim->nodes[b].is_wanted) continue;
            for (uint32_t c = 0; c < PEER_CLASSES_COUNT; c++) {
                const struct sim_link *link = &sim->links[a][b][c];
                if (!link->is_up[0] || !link->is_up[1] || link->is_broken) return false;
            }
        }
    }
    return true;
}

static void on_link_down(struct sim *sim, const struct event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    const struct sim_node *peer = &sim->nodes[event->peer];
    struct sim_link *link = link_of(sim, node->number, peer->number, (enum peer_class)event->b);
    uint32_t side = side_of(node->number, peer->number);
    if (link->generation != event->a || !link->is_up[side]) return;
    if (node->node == NULL || node->incarnation != event->incarnation) return;
    link->is_up[side] = false;
    raft_id id = link->ids[side_of(peer->number, node->number)];
    node_on_peer_down(node->node, id, (enum peer_class)event->b, false);
    host_wake(sim, node);
    if (peer->node == NULL && !is_cut(sim, node->number, peer->number, (enum peer_class)event->b)) {
        struct event refused = *event;
        refused.kind = EVENT_REFUSED;
        sim_push(sim, sim->now_ns + prng_below(&sim->net_random, 5 * SIM_MS), &refused);
    }
}

static void on_refused(struct sim *sim, const struct event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    if (node->node == NULL || node->incarnation != event->incarnation) return;
    maybe_refuse(sim, node, &sim->nodes[event->peer], (enum peer_class)event->b);
}

/* The dead process's ends are gone at once; the others learn it by a reset, or, cut off, late. */
void network_on_crash(struct sim *sim, struct sim_node *node)
{
    for (uint32_t p = 0; p < sim->swarm.nodes_count; p++) {
        if (p == node->number) continue;
        for (uint32_t c = 0; c < PEER_CLASSES_COUNT; c++) {
            struct sim_link *link = link_of(sim, node->number, p, c);
            link->is_up[side_of(node->number, p)] = false;
            link->is_broken = true;
            uint64_t notice = is_cut(sim, node->number, p, c) ? 1500 * SIM_MS : 5 * SIM_MS;
            push_down(sim, p, node->number, c, prng_below(&sim->net_random, notice));
        }
    }
}

/* ---- frames ---- */

/* What is said once on a connection, and is not said again, goes as over TCP also then. */
static bool goes_as_datagram(const struct sim *sim, enum peer_class class, const struct buf *frame)
{
    return sim->swarm.is_datagram && class == PEER_CLASS_RAFT && frame->data[4] == FRAME_RAFT;
}

static void send_datagram(struct sim *sim, uint32_t from, uint32_t to, enum peer_class class,
                          uint64_t leave_ns, struct buf *frame)
{
    if (prng_chance(&sim->net_random, sim->swarm.duplicate_ppm)) {
        sim->result->counters.frames_duplicated++;
        uint64_t late = sim_exponential(&sim->net_random, sim->swarm.duplicate_delay_ns);
        /* Not when all is healed: a node asked to campaign, once more, obeys. */
        uint64_t arrival = TL_MIN(leave_ns + draw_delay(sim) + late, sim->swarm.storm_ns);
        push_frame(sim, EVENT_FRAME, from, to, arrival, stores_of(sim, from, to), class,
                   buf_acquire(frame));
    }
    if (prng_chance(&sim->net_random, sim->swarm.loss_ppm)) {
        sim->result->counters.frames_lost++;
        buf_release(frame);
        return;
    }
    push_frame(sim, EVENT_FRAME, from, to, leave_ns + draw_delay(sim), stores_of(sim, from, to),
               class, frame);
}

static void note_frame(struct sim *sim, const struct sim_node *from, const struct buf *frame)
{
    struct frame_header header;
    enum tl_err err = frame_header_decode(frame->data, &header);
    TL_ASSERT(err == TL_OK);
    if (header.type == FRAME_SNAPSHOT_CHUNK) moments_note(sim, from, MOMENT_CHUNK);
    if (header.type == FRAME_FORWARD) moments_note(sim, from, MOMENT_FORWARD);
}

static void send_in_stream(struct sim *sim, uint32_t from, uint32_t to, enum peer_class class,
                           bool is_urgent, uint64_t leave_ns, struct buf *frame)
{
    struct sim_link *link = link_of(sim, from, to, class);
    uint32_t side = side_of(from, to);
    if (prng_chance(&sim->net_random, sim->swarm.reset_ppm))
        network_reset_link(sim, from, to, class);
    uint64_t arrival = leave_ns + draw_delay(sim);
    uint64_t *last_ns = &link->last_arrival_ns[side][is_urgent ? 1 : 0];
    arrival = TL_MAX(arrival, *last_ns + 1);
    *last_ns = arrival;
    push_frame(sim, EVENT_FRAME, from, to, arrival, link->generation, class, frame);
}

bool network_send(struct sim *sim, struct sim_node *from, raft_id to, enum peer_class class,
                  bool is_urgent, struct buf *frame)
{
    struct sim_node *peer = host_find(sim, to);
    TL_ASSERT(peer != from);
    struct sim_link *link = peer == NULL ? NULL : link_of(sim, from->number, peer->number, class);
    bool is_up = link != NULL && link->is_up[side_of(from->number, peer->number)];
    /* A connection to the machine whose disk is another one now is not one to the new store. */
    if (!is_up || link->ids[side_of(peer->number, from->number)] != to) {
        buf_release(frame);
        return false;
    }
    uint64_t *free_ns = &link->free_ns[side_of(from->number, peer->number)];
    uint64_t leave_ns = bandwidth_leave(sim, free_ns, class, is_urgent, frame->count);
    if (leave_ns == SIM_NEVER) {
        buf_release(frame);
        return false;
    }
    sim->result->counters.frames++;
    oracle_observe_message(sim, from, buf_bytes(frame));
    note_frame(sim, from, frame);
    if (sim->rollback.node == from) rollback_on_sent(sim, frame);
    if (goes_as_datagram(sim, class, frame)) {
        send_datagram(sim, from->number, peer->number, class, leave_ns, frame);
    } else {
        send_in_stream(sim, from->number, peer->number, class, is_urgent, leave_ns, frame);
    }
    return true;
}

size_t network_backlog(struct sim *sim, struct sim_node *from, raft_id to)
{
    const struct sim_node *peer = host_find(sim, to);
    if (peer == NULL || peer == from) return 0;
    const struct sim_link *link = link_of(sim, from->number, peer->number, PEER_CLASS_RAFT);
    uint32_t side = side_of(from->number, peer->number);
    if (!link->is_up[side]) return 0;
    return bandwidth_waiting(sim, link->free_ns[side], PEER_CLASS_RAFT);
}

/* Whether a frame that has travelled is received. */
static bool is_received(struct sim *sim, const struct event *event)
{
    const struct sim_node *node = &sim->nodes[event->node];
    enum peer_class class = (enum peer_class)event->b;
    const struct sim_link *link = link_of(sim, event->node, event->peer, class);
    bool is_up = node->node != NULL && link->is_up[side_of(event->node, event->peer)];
    bool is_stopped = sim->blocked[event->peer][event->node][class] > 0;
    if (goes_as_datagram(sim, class, event->data)) {
        return is_up && !is_stopped && event->a == stores_of(sim, event->peer, event->node);
    }
    if (link->generation != event->a || link->is_broken) return false;
    if (is_stopped) {
        break_link(sim, event->node, event->peer, class, 1000 * SIM_MS);
        return false;
    }
    return is_up;
}

static struct bytes payload_of(const struct buf *frame, struct frame_header *out_header)
{
    TL_ASSERT(frame->count >= FRAME_HEADER_BYTES);
    enum tl_err err = frame_header_decode(frame->data, out_header);
    TL_ASSERT(err == TL_OK);
    struct bytes payload =
        bytes_make(frame->data + FRAME_HEADER_BYTES, frame->count - FRAME_HEADER_BYTES);
    TL_ASSERT(payload.count == out_header->payload_bytes);
    return payload;
}

static void on_frame(struct sim *sim, const struct event *event)
{
    struct buf *frame = event->data;
    struct sim_node *node = &sim->nodes[event->node];
    if (is_received(sim, event)) {
        struct frame_header header;
        struct bytes payload = payload_of(frame, &header);
        TL_ASSERT(frame_payload_is_right(&header, payload));
        sim_trace(sim, "n%u <- n%u frame %d of %zu", event->node, event->peer, (int)header.type,
                  payload.count);
        if (header.type == FRAME_RAFT) {
            node->heard_ns[sim->nodes[event->peer].store] = sim->now_ns;
            rollback_on_frame(sim, node, &sim->nodes[event->peer], payload);
            ack_on_frame(sim, node, payload);
        }
        uint64_t ignored_count = node_get_metrics(node->node)->messages_ignored_count;
        enum tl_err err =
            node_on_frame(node->node, sim->nodes[event->peer].id, header.type, payload);
        ignored_count = node_get_metrics(node->node)->messages_ignored_count - ignored_count;
        if (header.type == FRAME_RAFT) rollback_on_taken(sim, node, payload, ignored_count);
        if (err != TL_OK && node_member(node->node, sim->nodes[event->peer].id) != NULL)
            sim_fail(sim, "node %u refuses a frame", event->node);
        host_wake(sim, node);
    } else {
        sim->result->counters.frames_lost++;
    }
    buf_release(frame);
}

/* ---- birth ---- */

void network_ask(struct sim *sim, struct sim_node *from, const char *peer_address,
                 struct buf *frame)
{
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        if (strcmp(sim->nodes[i].peer_address, peer_address) != 0) continue;
        push_frame(sim, EVENT_BIRTH_ASK, from->number, i, sim->now_ns + draw_delay(sim),
                   from->incarnation, 0, frame);
        return;
    }
    sim_fail(sim, "node %u asks %s, which is in no view", from->number, peer_address);
    buf_release(frame);
}

static void on_birth_ask(struct sim *sim, const struct event *event)
{
    struct buf *frame = event->data;
    struct sim_node *node = &sim->nodes[event->node];
    struct buf *answer = NULL;
    uint64_t delay = draw_delay(sim);
    if (sim->blocked[event->peer][event->node][PEER_CLASS_RAFT] > 0) {
        delay = SIM_S;
    } else if (node->node != NULL) {
        struct frame_header header;
        answer = node_on_birth(node->node, payload_of(frame, &header));
        host_wake(sim, node);
        bool is_ending = node->has_failed; /* which it does in a moment, and answers nobody */
        if (answer == NULL && !is_ending) {
            sim_fail(sim, "node %u finds a birth note garbage", event->node);
        }
        if (sim->blocked[event->node][event->peer][PEER_CLASS_RAFT] > 0) {
            buf_release(TL_TAKE(&answer));
            delay = SIM_S;
        }
    }
    buf_release(frame);
    push_frame(sim, EVENT_BIRTH_REPLY, event->node, event->peer, sim->now_ns + delay, event->a, 0,
               answer);
}

static void on_birth_reply(struct sim *sim, const struct event *event)
{
    struct sim_node *node = &sim->nodes[event->node];
    struct buf *answer = event->data;
    if (node->node != NULL && node->incarnation == event->a) {
        struct frame_header header;
        struct bytes payload = answer == NULL ? bytes_make(NULL, 0) : payload_of(answer, &header);
        node_on_birth_reply(node->node, sim->nodes[event->peer].peer_address,
                            answer == NULL ? NULL : &payload);
        host_wake(sim, node);
    }
    buf_release(answer);
}

void network_on_event(struct sim *sim, const struct event *event)
{
    switch (event->kind) {
    case EVENT_FRAME:
        on_frame(sim, event);
        break;
    case EVENT_BIRTH_ASK:
        on_birth_ask(sim, event);
        break;
    case EVENT_BIRTH_REPLY:
        on_birth_reply(sim, event);
        break;
    case EVENT_CONNECT:
        on_maintenance(sim, event);
        break;
    case EVENT_LINK_DOWN:
        on_link_down(sim, event);
        break;
    case EVENT_REFUSED:
        on_refused(sim, event);
        break;
    default:
        TL_ASSERT(false);
    }
}
