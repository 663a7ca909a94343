/* net_world.c - see net_world.h. */

#include "net_world.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "trilith/prng.h"
#include "trilith/table.h"

uv_loop_t world_loop;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_held;
    enum tl_err err;
    char reason[64];
    uint32_t commits_count;
    uint32_t commit_ops[WORLD_EVENTS_MAX];
} stores = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct store_id next_id;

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- stores ---- */

static void stores_set_held(bool is_held)
{
    pthread_mutex_lock(&stores.lock);
    stores.is_held = is_held;
    pthread_cond_broadcast(&stores.changed);
    pthread_mutex_unlock(&stores.lock);
}

void world_stores_hold(void)
{
    stores_set_held(true);
}

void world_stores_release(void)
{
    stores_set_held(false);
}

void world_stores_fail(enum tl_err err, const char *reason)
{
    pthread_mutex_lock(&stores.lock);
    stores.err = err;
    (void)snprintf(stores.reason, sizeof stores.reason, "%s", reason);
    pthread_mutex_unlock(&stores.lock);
}

static enum tl_err stores_use(uint32_t ops_count, struct tl_fault *out_fault)
{
    pthread_mutex_lock(&stores.lock);
    if (ops_count > 0) {
        stores.commit_ops[stores.commits_count++] = ops_count;
    }
    while (stores.is_held) pthread_cond_wait(&stores.changed, &stores.lock);
    enum tl_err err = stores.err;
    if (err != TL_OK) {
        tl_fault_set(out_fault, "data.mdb", 1, 42, "%s", stores.reason);
    }
    pthread_mutex_unlock(&stores.lock);
    return err;
}

uint32_t world_commits_count(void)
{
    pthread_mutex_lock(&stores.lock);
    uint32_t count = stores.commits_count;
    pthread_mutex_unlock(&stores.lock);
    return count;
}

uint32_t world_commit_ops(uint32_t i)
{
    pthread_mutex_lock(&stores.lock);
    uint32_t ops = stores.commit_ops[i];
    pthread_mutex_unlock(&stores.lock);
    return ops;
}

/* Says of every op that it deleted up to its group's number. */
enum tl_err log_store_commit(struct log_store *store, struct log_op *ops, uint32_t ops_count,
                             struct tl_fault *out_fault)
{
    (void)store;
    for (uint32_t i = 0; i < ops_count; i++) {
        ops[i].out_has_base = true;
        ops[i].out_base.index = ops[i].group;
    }
    return stores_use(ops_count, out_fault);
}

enum tl_err log_reader_create(struct log_store *store, struct log_reader **out_reader)
{
    (void)store;
    *out_reader = (struct log_reader *)(void *)&stores;
    return TL_OK;
}

void log_reader_destroy(struct log_reader *reader)
{
    (void)reader;
}

enum tl_err node_log_read_carry_out(struct node_log_read *read, struct log_reader *reader,
                                    struct tl_fault *out_fault)
{
    (void)reader;
    read->entries_count = (uint32_t)(read->last - read->first + 1);
    return stores_use(0, out_fault);
}

enum tl_err table_flush(struct table *table, const struct generation *generation,
                        struct tl_fault *out_fault)
{
    (void)table;
    (void)generation;
    return stores_use(0, out_fault);
}

/* ---- the node ---- */

static void enter(struct node *node)
{
    cr_assert_not(node->is_inside, "the node was called from inside its I/O table");
    node->is_inside = true;
}

static void leave(struct node *node)
{
    node->is_inside = false;
}

enum tl_err node_open(const struct node_options *options, const struct node_io *io,
                      struct node **out_node, struct tl_fault *out_fault)
{
    (void)out_fault;
    struct node *node = calloc(1, sizeof *node);
    (void)snprintf(node->peer_address, sizeof node->peer_address, "%s", options->peer_address);
    node->io = *io;
    node->store_id = next_id;
    *out_node = node;
    return TL_OK;
}

const char *node_peer_address(const struct node *node)
{
    return node->peer_address;
}

void node_close(struct node *node)
{
    free(node);
}

void node_turn(struct node *node)
{
    enter(node);
    node->turns_count++;
    node->turn_ns = now_ns();
    if (node->on_turn != NULL) {
        node->on_turn(node);
    }
    leave(node);
}

struct log_store *node_log_store(struct node *node)
{
    (void)node;
    return (struct log_store *)(void *)&stores;
}

void node_on_log_done(struct node *node, struct node_log_batch *batch, enum tl_err err,
                      const struct tl_fault *fault)
{
    enter(node);
    node->logs_done[node->logs_done_count] = batch;
    node->log_errs[node->logs_done_count++] = err;
    memcpy(node->fault_reason, fault->reason, sizeof node->fault_reason);
    leave(node);
}

void node_on_flush_done(struct node *node, struct node_flush_job *job, enum tl_err err,
                        const struct tl_fault *fault)
{
    (void)job;
    enter(node);
    node->flushes_done_count++;
    node->flush_err = err;
    memcpy(node->fault_reason, fault->reason, sizeof node->fault_reason);
    leave(node);
}

void node_on_log_read_done(struct node *node, struct node_log_read *job, enum tl_err err,
                           const struct tl_fault *fault)
{
    (void)job;
    enter(node);
    node->reads_done_count++;
    node->read_err = err;
    memcpy(node->fault_reason, fault->reason, sizeof node->fault_reason);
    leave(node);
}

enum tl_err node_snapshot_job_run(struct node_snapshot_job *job, struct tl_fault *out_fault)
{
    job->runs_count++;
    return stores_use(0, out_fault);
}

void node_on_snapshot_done(struct node *node, struct node_snapshot_job *job, enum tl_err err,
                           const struct tl_fault *fault)
{
    (void)job;
    enter(node);
    node->snapshots_done_count++;
    node->snapshot_err = err;
    memcpy(node->fault_reason, fault->reason, sizeof node->fault_reason);
    leave(node);
}

enum tl_err node_on_frame(struct node *node, raft_id peer, enum frame_type type,
                          struct bytes payload)
{
    enter(node);
    cr_assert_eq(type, FRAME_RAFT);
    if (node->frames_count < WORLD_EVENTS_MAX) {
        node->frame_sizes[node->frames_count] = payload.count;
    }
    node->frames_count++;
    node->frames_bytes += payload.count;
    node->frames_hash = node->frames_hash * 31 + hash_checksum(payload);
    node->frame_from = peer;
    leave(node);
    return node->frame_answer;
}

void node_on_partial_frame(struct node *node, raft_id peer)
{
    enter(node);
    node->partial_from = peer;
    node->partials_count++;
    leave(node);
}

void node_on_peer_up(struct node *node, raft_id peer, enum peer_class class, uint32_t features)
{
    enter(node);
    node->up_counts[class]++;
    node->features[class] = features;
    if (node->speaks_first && class == PEER_CLASS_RAFT) {
        (void)node->io.send_urgent(node->io.context, peer, world_frame(10, 1));
    }
    leave(node);
}

void node_on_peer_down(struct node *node, raft_id peer, enum peer_class class, bool is_refused)
{
    (void)peer;
    enter(node);
    if (is_refused) {
        node->refused_counts[class]++;
    } else {
        node->down_counts[class]++;
    }
    leave(node);
}

/* The answer is what was asked, prefixed; "no" is garbage. */
struct buf *node_on_birth(struct node *node, struct bytes payload)
{
    enter(node);
    node->births_count++;
    leave(node);
    if (bytes_equal(payload, bytes_of("no"))) {
        return NULL;
    }
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + payload.count + 4);
    frame->count = FRAME_HEADER_BYTES;
    write_bytes(frame, bytes_of("hear"));
    write_bytes(frame, payload);
    frame_seal(frame, FRAME_BIRTH);
    return frame;
}

void node_on_birth_reply(struct node *node, const char *peer_address, const struct bytes *payload)
{
    (void)peer_address;
    enter(node);
    if (payload == NULL) {
        node->birth_refusals_count++;
    } else {
        node->birth_replies_count++;
        (void)snprintf(node->birth_reply, sizeof node->birth_reply, "%.*s", (int)payload->count,
                       (const char *)payload->data);
    }
    leave(node);
}

void node_hand_over(struct node *node)
{
    node->is_handing_over = true;
}

bool node_is_handed_over(const struct node *node)
{
    return node->is_handed_over;
}

void node_drain(struct node *node)
{
    node->is_draining = true;
    node->is_drained = !node->is_drain_slow;
}

bool node_is_drained(const struct node *node)
{
    return node->is_drained;
}

void node_get_status(const struct node *node, struct node_status *out_status)
{
    memset(out_status, 0, sizeof *out_status);
    out_status->store_id = node->store_id;
}

/* ---- the world ---- */

void world_init(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    cr_assert_eq(uv_loop_init(&world_loop), 0);
}

void world_fini(void)
{
    (void)uv_run(&world_loop, UV_RUN_NOWAIT);
    cr_assert_eq(uv_loop_close(&world_loop), 0, "handles are left open");
}

static int listen_anywhere(uint16_t *out_port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t where_bytes = sizeof where;
    cr_assert_eq(bind(fd, (struct sockaddr *)&where, sizeof where), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&where, &where_bytes), 0);
    *out_port = ntohs(where.sin_port);
    return fd;
}

uint16_t world_free_port(void)
{
    uint16_t port;
    (void)close(listen_anywhere(&port));
    return port;
}

struct store_id world_id(uint8_t number)
{
    struct store_id id;
    memset(&id, number, sizeof id);
    return id;
}

static struct pump *world_open_with(uint8_t number, const char *listen_host, uint32_t mutation,
                                    uint16_t *port)
{
    if (*port == 0) {
        *port = world_free_port();
    }
    char address[32];
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)*port);
    next_id = world_id(number);
    const struct pump_options options = {
        .node = {.peer_address = address, .mutation = mutation},
        .peer_listen_host = listen_host,
    };
    struct pump *pump = NULL;
    struct tl_fault fault = {.group = 0};
    cr_assert_eq(pump_open(&options, &world_loop, &pump, &fault), TL_OK, "%s", fault.reason);
    return pump;
}

struct pump *world_open(uint8_t number, uint16_t *port)
{
    return world_open_with(number, NULL, 0, port);
}

struct pump *world_open_at(uint8_t number, const char *listen_host, uint16_t *port)
{
    return world_open_with(number, listen_host, 0, port);
}

struct pump *world_open_mutant(uint8_t number, uint16_t *port, uint32_t mutation)
{
    return world_open_with(number, NULL, mutation, port);
}

static void on_stopped(void *context)
{
    *(bool *)context = true;
}

static bool is_true(void *context)
{
    return *(bool *)context;
}

void world_close(struct pump *pump)
{
    bool is_stopped = false;
    pump_stop(pump, 1000000000u, on_stopped, &is_stopped);
    cr_assert(world_run(is_true, &is_stopped, 5000), "the pump does not stop");
    pump_destroy(pump);
}

void world_set_peers(struct pump *pump, uint8_t cluster, const uint8_t *numbers,
                     const uint16_t *ports, uint32_t count)
{
    struct member members[RAFT_MEMBERS_MAX] = {{.address = ""}};
    for (uint32_t i = 0; i < count; i++) {
        members[i].store_id = world_id(numbers[i]);
        (void)snprintf(members[i].peer_address, sizeof members[i].peer_address, "127.0.0.1:%u",
                       (unsigned)ports[i]);
    }
    struct store_id cluster_id = world_id(cluster);
    struct node *node = pump_node(pump);
    node->io.set_peers(node->io.context, &cluster_id, members, count);
    memset(members, 0xee, sizeof members); /* borrowed for the call only */
    pump_wake(pump);
}

static void on_guard(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

bool world_run(bool (*is_done)(void *context), void *context, uint32_t timeout_ms)
{
    bool is_over = false;
    uv_timer_t guard;
    cr_assert_eq(uv_timer_init(&world_loop, &guard), 0);
    guard.data = &is_over;
    uv_update_time(&world_loop);
    cr_assert_eq(uv_timer_start(&guard, on_guard, timeout_ms, 0), 0);
    while (!is_done(context) && !is_over) {
        (void)uv_run(&world_loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&guard, NULL);
    (void)uv_run(&world_loop, UV_RUN_NOWAIT); /* it leaves the loop before this frame ends */
    return is_done(context);
}

void world_wait_commits(uint32_t count)
{
    for (int i = 0; i < 2000 && world_commits_count() < count; i++) (void)usleep(1000);
    cr_assert_geq(world_commits_count(), count);
}

static bool is_never(void *context)
{
    (void)context;
    return false;
}

void world_run_for(uint32_t ms)
{
    (void)world_run(is_never, NULL, ms);
}

struct buf *world_frame(size_t payload_bytes, uint64_t seed)
{
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + payload_bytes);
    struct prng prng;
    prng_init(&prng, seed);
    frame->count = (uint32_t)(FRAME_HEADER_BYTES + payload_bytes);
    for (size_t i = 0; i < payload_bytes; i++) {
        frame->data[FRAME_HEADER_BYTES + i] = i % 64 == 0 ? (uint8_t)prng_next(&prng) : (uint8_t)i;
    }
    frame_seal(frame, FRAME_RAFT);
    return frame;
}

int world_listen(uint16_t *out_port)
{
    int fd = listen_anywhere(out_port);
    cr_assert_eq(listen(fd, 16), 0);
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

int world_connect(uint16_t port)
{
    return world_connect_with(port, 0);
}

int world_connect_with(uint16_t port, int receive_bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (receive_bytes > 0) {
        int rc = setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
        cr_assert_eq(rc, 0);
    }
    struct sockaddr_in where = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(connect(fd, (struct sockaddr *)&where, sizeof where), 0);
    return fd;
}

void world_write(int fd, struct bytes bytes)
{
    cr_assert_eq(write(fd, bytes.data, bytes.count), (ssize_t)bytes.count);
}
