/* transport: who is let in, what arrives, and what the node is told when a peer comes or goes. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "net_world.h"
#include "src/net/net_internal.h"
#include "trilith/frame_parts.h"

/* Two pumps; "low" has the smaller store id and connects. */
static struct pump *low;
static struct pump *high;
static uint16_t ports[2];
static const uint8_t numbers[2] = {1, 2};

static void setup(void)
{
    world_init();
    memset(ports, 0, sizeof ports);
    low = world_open(1, &ports[0]);
    high = world_open(2, &ports[1]);
}

static void teardown(void)
{
    if (low != NULL) {
        world_close(low);
    }
    if (high != NULL) {
        world_close(high);
    }
    world_fini();
}

TestSuite(net_transport, .init = setup, .fini = teardown, .timeout = 30);

static bool are_up(void *context)
{
    const struct node *nodes[] = {pump_node(low), pump_node(high)};
    for (size_t i = 0; i < 2; i++) {
        for (uint32_t j = 0; j < PEER_CLASSES_COUNT; j++) {
            if (nodes[i]->up_counts[j] < *(uint32_t *)context) {
                return false;
            }
        }
    }
    return true;
}

static void join(void)
{
    uint32_t once = 1;
    world_set_peers(low, 9, numbers, ports, 2);
    world_set_peers(high, 9, numbers, ports, 2);
    cr_assert(world_run(are_up, &once, 3000), "not connected");
}

static bool send_to(struct pump *from, uint8_t to, enum peer_class class, struct buf *frame)
{
    struct node *node = pump_node(from);
    struct store_id id = world_id(to);
    return node->io.send(node->io.context, store_id_raft(&id), class, frame);
}

struct wanted {
    struct pump *pump;
    uint32_t count;
};

static bool has_frames(void *context)
{
    const struct wanted *wanted = context;
    return pump_node(wanted->pump)->frames_count >= wanted->count;
}

static bool has_refused(void *context)
{
    const struct wanted *wanted = context;
    return pump_get_metrics(wanted->pump)->connections_refused_count >= wanted->count;
}

/* The other side has closed: no byte, or a reset. */
static bool is_closed(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

/* ---- connecting ---- */

Test(net_transport, two_nodes_hold_one_connection_per_class_made_by_the_smaller_id)
{
    join();
    world_run_for(100);
    for (uint32_t i = 0; i < PEER_CLASSES_COUNT; i++) {
        cr_assert_eq(pump_node(low)->up_counts[i], 1);
        cr_assert_eq(pump_node(high)->up_counts[i], 1);
        cr_assert_eq(pump_node(low)->down_counts[i], 0);
    }
    cr_assert_eq(pump_get_metrics(low)->connections_accepted_count, 0);
    cr_assert_eq(pump_get_metrics(high)->connects_count, 0);
}

/* One node learns of the cluster before the other: it is refused at first and tries again. */
Test(net_transport, peers_find_each_other_whoever_starts_first)
{
    uint32_t once = 1;
    world_set_peers(low, 9, numbers, ports, 2);
    world_run_for(150);
    cr_assert_eq(pump_node(high)->up_counts[0], 0);
    world_set_peers(high, 9, numbers, ports, 2);
    cr_assert(world_run(are_up, &once, 1000), "back-off is capped at 250 ms");
}

Test(net_transport, host_names_are_resolved)
{
    struct node *node = pump_node(low);
    struct member members[2] = {{.store_id = world_id(1)}, {.store_id = world_id(2)}};
    (void)snprintf(members[0].peer_address, ADDRESS_BYTES_MAX, "localhost:%u", (unsigned)ports[0]);
    (void)snprintf(members[1].peer_address, ADDRESS_BYTES_MAX, "localhost:%u", (unsigned)ports[1]);
    struct store_id cluster_id = world_id(9);
    uint32_t once = 1;
    node->io.set_peers(node->io.context, &cluster_id, members, 2);
    world_set_peers(high, 9, numbers, ports, 2);
    cr_assert(world_run(are_up, &once, 5000));
}

Test(net_transport, member_that_is_removed_is_disconnected_and_told)
{
    join();
    world_set_peers(low, 9, numbers, ports, 1); /* itself alone */
    world_run_for(100);
    cr_assert_eq(pump_node(low)->down_counts[PEER_CLASS_RAFT], 1);
    cr_assert_eq(pump_node(high)->down_counts[PEER_CLASS_RAFT], 1);
    cr_assert_eq(pump_node(low)->up_counts[PEER_CLASS_RAFT], 1, "it does not come back");
    cr_assert_not(send_to(low, 2, PEER_CLASS_RAFT, world_frame(10, 1)));
}

Test(net_transport, busy_peer_port_fails_the_open_and_leaves_nothing)
{
    char address[32];
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)ports[0]);
    const struct pump_options options = {.node = {.peer_address = address}};
    struct pump *pump = NULL;
    struct tl_fault fault = {.group = 0};
    cr_assert_eq(pump_open(&options, &world_loop, &pump, &fault), TL_ERR_NOT_FOUND);
    cr_assert_null(pump);
    cr_assert_neq(strstr(fault.reason, "in use"), NULL, "%s", fault.reason);
}

/* ---- frames ---- */

Test(net_transport, frames_arrive_whole_in_order_and_once)
{
    static const size_t sizes[] = {0, 1, 100, 70000, 131072, 300000, 5, FRAME_PAYLOAD_BYTES_MAX, 7};
    join();
    uint64_t hash = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < TL_COUNT_OF(sizes); i++) {
        struct buf *frame = world_frame(sizes[i], i);
        hash = hash * 31 + hash_checksum(bytes_make(frame->data + FRAME_HEADER_BYTES, sizes[i]));
        bytes += sizes[i];
        cr_assert(send_to(low, 2, PEER_CLASS_RAFT, frame));
    }
    struct wanted wanted = {high, TL_COUNT_OF(sizes)};
    cr_assert(world_run(has_frames, &wanted, 10000));
    cr_assert_eq(pump_node(high)->frames_bytes, bytes);
    cr_assert_eq(pump_node(high)->frames_hash, hash);
    struct store_id from = world_id(1);
    cr_assert_eq(pump_node(high)->frame_from, store_id_raft(&from));
    cr_assert_gt(pump_get_metrics(high)->bytes_received_count, bytes);
}

Test(net_transport, both_directions_and_all_classes_carry_frames)
{
    join();
    for (uint32_t i = 0; i < PEER_CLASSES_COUNT; i++) {
        for (uint32_t j = 0; j < 500; j++) {
            cr_assert(send_to(low, 2, (enum peer_class)i, world_frame(200, j)));
            cr_assert(send_to(high, 1, (enum peer_class)i, world_frame(300, j)));
        }
    }
    struct wanted to_high = {high, 1500};
    struct wanted to_low = {low, 1500};
    cr_assert(world_run(has_frames, &to_high, 5000));
    cr_assert(world_run(has_frames, &to_low, 5000));
    cr_assert_eq(pump_node(high)->frames_bytes, 1500 * 200);
    cr_assert_eq(pump_node(low)->frames_bytes, 1500 * 300);
}

Test(net_transport, send_says_no_when_not_connected)
{
    cr_assert_not(send_to(low, 2, PEER_CLASS_FORWARD, world_frame(10, 1)), "unknown peer");
    world_set_peers(low, 9, numbers, ports, 2);
    world_run_for(50);
    cr_assert_not(send_to(low, 2, PEER_CLASS_FORWARD, world_frame(10, 1)), "no hello yet");
    cr_assert_eq(pump_get_metrics(low)->frames_dropped_count, 2);
}

/* The loop does not run here, so nothing leaves. */
Test(net_transport, queue_of_a_connection_is_bounded)
{
    join();
    uint32_t taken_count = 0;
    while (send_to(low, 2, PEER_CLASS_BULK, world_frame(1024 * 1024, 1))) taken_count++;
    cr_assert_eq(taken_count, 31, "32 MiB with headers");
    taken_count = 0;
    while (send_to(low, 2, PEER_CLASS_FORWARD, world_frame(10, 1))) taken_count++;
    cr_assert_eq(taken_count, PUMP_QUEUE_FRAMES_MAX);
    cr_assert_eq(pump_get_metrics(low)->frames_dropped_count, 2);
    struct wanted wanted = {high, 31 + PUMP_QUEUE_FRAMES_MAX};
    cr_assert(world_run(has_frames, &wanted, 10000));
    cr_assert(send_to(low, 2, PEER_CLASS_FORWARD, world_frame(10, 1)), "room again");
}

Test(net_transport, frame_the_node_refuses_closes_the_connection_and_is_counted)
{
    join();
    pump_node(high)->frame_answer = TL_ERR_INVALID;
    cr_assert(send_to(low, 2, PEER_CLASS_FORWARD, world_frame(10, 1)));
    struct wanted wanted = {high, 1};
    cr_assert(world_run(has_refused, &wanted, 2000));
    cr_assert_eq(pump_get_metrics(high)->garbage_count, 1);
    cr_assert_eq(pump_node(high)->down_counts[PEER_CLASS_FORWARD], 1);
    cr_assert_eq(pump_node(high)->down_counts[PEER_CLASS_RAFT], 0, "the others live on");
}

Test(net_transport, frame_with_a_wrong_checksum_is_not_handed_on)
{
    join();
    struct buf *frame = world_frame(1000, 1);
    frame->data[500] ^= 1;
    cr_assert(send_to(low, 2, PEER_CLASS_RAFT, frame));
    struct wanted wanted = {high, 1};
    cr_assert(world_run(has_refused, &wanted, 2000));
    cr_assert_eq(pump_get_metrics(high)->garbage_count, 1);
    cr_assert_eq(pump_node(high)->frames_count, 0);
}

/* ---- strangers ---- */

Test(net_transport, garbage_closes_the_connection_and_is_counted)
{
    static const char *const texts[] = {"GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x02", "AAAAAAAA",
                                        "TRL1\x63________________________"};
    for (uint32_t i = 0; i < TL_COUNT_OF(texts); i++) {
        int fd = world_connect(ports[0]);
        world_write(fd, bytes_of(texts[i]));
        struct wanted wanted = {low, i + 1};
        cr_assert(world_run(has_refused, &wanted, 500), "at once, not at the hello's deadline");
        cr_assert(is_closed(fd));
        cr_assert_eq(pump_get_metrics(low)->garbage_count, i + 1);
        (void)close(fd);
    }
}

Test(net_transport, stranger_cannot_make_the_node_take_a_large_frame)
{
    struct buf *frame = world_frame(1024 * 1024, 1);
    int fd = world_connect(ports[0]);
    world_write(fd, bytes_make(frame->data, FRAME_HEADER_BYTES));
    struct wanted wanted = {low, 1};
    cr_assert(world_run(has_refused, &wanted, 500));
    cr_assert_eq(pump_get_metrics(low)->garbage_count, 1);
    (void)close(fd);
    buf_release(frame);
}

Test(net_transport, silent_stranger_is_closed_after_a_second)
{
    int fd = world_connect(ports[0]);
    struct wanted wanted = {low, 1};
    cr_assert_not(world_run(has_refused, &wanted, PUMP_HELLO_TIMEOUT_MS / 2));
    cr_assert(world_run(has_refused, &wanted, PUMP_HELLO_TIMEOUT_MS));
    cr_assert(is_closed(fd));
    cr_assert_eq(pump_get_metrics(low)->garbage_count, 0);
    (void)close(fd);
}

Test(net_transport, strangers_are_bounded)
{
    int fds[PUMP_STRANGERS_MAX + 10];
    for (size_t i = 0; i < TL_COUNT_OF(fds); i++) {
        fds[i] = world_connect(ports[0]);
        world_run_for(1);
    }
    struct wanted wanted = {low, 10};
    cr_assert(world_run(has_refused, &wanted, 700));
    cr_assert_eq(pump_get_metrics(low)->connections_refused_count, 10);
    for (size_t i = 0; i < TL_COUNT_OF(fds); i++) (void)close(fds[i]);
}

static void write_hello(int fd, const struct hello *hello)
{
    struct buf *frame = hello_encode(hello);
    world_write(fd, buf_bytes(frame));
    buf_release(frame);
}

static void say_hello_in(int fd, uint8_t format, uint8_t from, uint8_t to, enum peer_class class)
{
    const struct hello hello = {.format = format,
                                .class = class,
                                .features = UINT32_MAX,
                                .cluster_id = world_id(9),
                                .from = world_id(from),
                                .to = world_id(to)};
    write_hello(fd, &hello);
}

static void say_hello(int fd, uint8_t cluster, uint8_t from, uint8_t to, enum peer_class class)
{
    const struct hello hello = {.format = HELLO_FORMAT,
                                .class = class,
                                .cluster_id = world_id(cluster),
                                .from = world_id(from),
                                .to = world_id(to)};
    write_hello(fd, &hello);
}

/* What the pump has said on this connection; nothing else came before it. */
static struct hello take_hello(int fd)
{
    uint8_t bytes[1024];
    struct hello hello = {.class = 0};
    ssize_t count = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    cr_assert_gt(count, (ssize_t)FRAME_HEADER_BYTES, "no hello");
    struct bytes payload =
        bytes_make(bytes + FRAME_HEADER_BYTES, (size_t)count - FRAME_HEADER_BYTES);
    cr_assert_eq(hello_decode(payload, &hello), TL_OK);
    return hello;
}

Test(net_transport, wrong_hellos_are_refused_and_wrong_clusters_counted)
{
    static const struct {
        uint8_t cluster;
        uint8_t from;
        uint8_t to;
        const char *what;
    } cases[] = {{8, 1, 2, "other cluster"},
                 {9, 1, 3, "meant for another store"},
                 {9, 7, 2, "unknown store"},
                 {9, 2, 2, "ourselves"},
                 {9, 3, 2, "a member with a larger id, which we connect to"}};
    static const uint8_t three[3] = {1, 2, 3};
    const uint16_t three_ports[3] = {ports[0], ports[1], world_free_port()};
    world_set_peers(high, 9, three, three_ports, 3);
    world_run_for(5);
    for (uint32_t i = 0; i < TL_COUNT_OF(cases); i++) {
        int fd = world_connect(ports[1]);
        say_hello(fd, cases[i].cluster, cases[i].from, cases[i].to, PEER_CLASS_RAFT);
        struct wanted wanted = {high, i + 1};
        cr_assert(world_run(has_refused, &wanted, 500), "%s", cases[i].what);
        struct hello answer = take_hello(fd);
        cr_assert(answer.is_refused, "so that it is not taken for a node of an older version");
        cr_assert(store_id_is_zero(&answer.cluster_id), "a stranger learns nothing");
        cr_assert(store_id_is_zero(&answer.from));
        cr_assert(is_closed(fd));
        (void)close(fd);
    }
    cr_assert_eq(pump_get_metrics(high)->foreign_cluster_count, 1);
    cr_assert_eq(pump_get_metrics(high)->garbage_count, 0);
    cr_assert_eq(pump_node(high)->up_counts[PEER_CLASS_RAFT], 0);
}

/* The peer restarted and its old connection was never closed: half-open for us. */
Test(net_transport, new_connection_of_a_peer_replaces_its_old_one)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    int old = world_connect(ports[1]);
    say_hello(old, 9, 1, 2, PEER_CLASS_RAFT);
    world_run_for(20);
    cr_assert_eq(pump_node(high)->up_counts[PEER_CLASS_RAFT], 1);
    int fresh = world_connect(ports[1]);
    say_hello(fresh, 9, 1, 2, PEER_CLASS_RAFT);
    world_run_for(20);
    cr_assert_eq(pump_node(high)->up_counts[PEER_CLASS_RAFT], 2);
    cr_assert_eq(pump_node(high)->down_counts[PEER_CLASS_RAFT], 1);
    char hello[4096];
    cr_assert_gt(recv(old, hello, sizeof hello, MSG_DONTWAIT), 0, "its hello");
    cr_assert(is_closed(old));
    cr_assert_gt(recv(fresh, hello, sizeof hello, MSG_DONTWAIT), 0);
    cr_assert_not(is_closed(fresh));
    (void)close(old);
    (void)close(fresh);
}

/* Bytes that trickle in are a frame all the same. */
Test(net_transport, hello_may_arrive_byte_by_byte)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    const struct hello hello = {.format = HELLO_FORMAT,
                                .class = PEER_CLASS_BULK,
                                .cluster_id = world_id(9),
                                .from = world_id(1),
                                .to = world_id(2)};
    struct buf *frame = hello_encode(&hello);
    int fd = world_connect(ports[1]);
    for (uint32_t i = 0; i < frame->count; i++) {
        world_write(fd, bytes_make(frame->data + i, 1));
        (void)uv_run(&world_loop, UV_RUN_NOWAIT);
    }
    world_run_for(20);
    cr_assert_eq(pump_node(high)->up_counts[PEER_CLASS_BULK], 1);
    buf_release(frame);
    (void)close(fd);
}

/* ---- versions of the hello ---- */

Test(net_transport, peer_is_answered_in_the_format_of_its_hello)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    for (uint8_t format = HELLO_FORMAT_FIRST; format <= HELLO_FORMAT; format++) {
        int fd = world_connect(ports[1]);
        say_hello_in(fd, format, 1, 2, PEER_CLASS_RAFT);
        world_run_for(20);
        struct hello answer = take_hello(fd);
        bool is_first = format == HELLO_FORMAT_FIRST;
        cr_assert_eq(answer.format, format);
        cr_assert_eq(answer.features, is_first ? 0 : HELLO_FEATURES);
        cr_assert_eq(pump_node(high)->up_counts[PEER_CLASS_RAFT], format);
        cr_assert_eq(pump_node(high)->features[PEER_CLASS_RAFT], answer.features,
                     "bits that this node does not know are not in force");
        (void)close(fd);
    }
    cr_assert_eq(pump_get_metrics(high)->connections_refused_count, 0);
}

/* A hello of the first format that is refused is not answered: its sender knows no such answer. */
Test(net_transport, refusal_of_the_first_format_is_silent)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    int fd = world_connect(ports[1]);
    say_hello_in(fd, HELLO_FORMAT_FIRST, 7, 2, PEER_CLASS_RAFT);
    struct wanted wanted = {high, 1};
    cr_assert(world_run(has_refused, &wanted, 500));
    cr_assert(is_closed(fd));
    (void)close(fd);
}

/* Waits for the next connection to `listener`; -1: none came. */
static int accept_within(int listener, uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i++) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0) return fd;
        world_run_for(1);
    }
    return -1;
}

static struct hello await_hello(int fd)
{
    uint8_t byte;
    for (uint32_t i = 0; i < 500; i++) {
        if (recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1) break;
        world_run_for(1);
    }
    return take_hello(fd);
}

/* Low's peer is this socket. */
static int listen_as_high(void)
{
    uint16_t port = 0;
    int listener = world_listen(&port);
    const uint16_t our_ports[2] = {ports[0], port};
    world_set_peers(low, 9, numbers, our_ports, 2);
    return listener;
}

/* Waits for the next connection of the raft class; the other classes' are closed unanswered.
 * Returns -1 when none came. */
static int accept_raft_within(int listener, uint32_t ms, struct hello *out_hello)
{
    for (;;) {
        int fd = accept_within(listener, ms);
        if (fd < 0) return -1;
        *out_hello = await_hello(fd);
        if (out_hello->class == PEER_CLASS_RAFT) return fd;
        (void)close(fd);
    }
}

static bool is_raft_up(void *context)
{
    return pump_node(low)->up_counts[PEER_CLASS_RAFT] == *(const uint32_t *)context;
}

static bool is_raft_down(void *context)
{
    return pump_node(low)->down_counts[PEER_CLASS_RAFT] == *(const uint32_t *)context;
}

/* As a node of the first version behaves. */
Test(net_transport, peer_of_the_first_version_is_spoken_to_in_its_format_at_once)
{
    int listener = listen_as_high();
    struct hello hello;
    for (uint32_t round = 1; round <= 2; round++) {
        int fd = accept_raft_within(listener, 500, &hello);
        cr_assert_geq(fd, 0);
        cr_assert_eq(hello.format, HELLO_FORMAT, "the newest first, also after a loss");
        (void)close(fd);
        fd = accept_raft_within(listener, PUMP_BACKOFF_MIN_MS / 2, &hello);
        cr_assert_geq(fd, 0, "without a back-off");
        cr_assert_eq(hello.format, HELLO_FORMAT_FIRST);
        cr_assert_eq(hello.features, 0);
        say_hello_in(fd, HELLO_FORMAT_FIRST, 2, 1, hello.class);
        cr_assert(world_run(is_raft_up, &round, 3000));
        cr_assert_eq(pump_node(low)->features[PEER_CLASS_RAFT], 0);
        (void)close(fd);
        cr_assert(world_run(is_raft_down, &round, 3000));
    }
    (void)close(listener);
}

Test(net_transport, peer_that_takes_neither_format_is_left_alone_for_the_back_off)
{
    int listener = listen_as_high();
    uint32_t counts[2] = {0, 0};
    int fd;
    uint64_t began_ms = uv_now(&world_loop);
    while (uv_now(&world_loop) - began_ms < 1000) {
        fd = accept_within(listener, 50);
        if (fd < 0) continue;
        counts[await_hello(fd).format == HELLO_FORMAT]++;
        (void)close(fd);
    }
    cr_assert_geq(counts[1], 4);
    cr_assert_leq(counts[1], 10, "the back-off grows");
    cr_assert_leq(counts[0], counts[1]);
    cr_assert_geq(counts[0] + 1, counts[1]);
    (void)close(listener);
}

/* It is not yet in the cluster, say: it would be spoken to without its features from then on. */
Test(net_transport, peer_that_refuses_is_not_taken_for_one_of_an_older_version)
{
    int listener = listen_as_high();
    const struct hello refusal = {.format = HELLO_FORMAT, .is_refused = true};
    for (uint32_t i = 0; i < 3; i++) {
        int fd = accept_within(listener, 500);
        cr_assert_geq(fd, 0);
        cr_assert_eq(await_hello(fd).format, HELLO_FORMAT);
        write_hello(fd, &refusal);
        world_run_for(5);
        cr_assert(is_closed(fd));
        (void)close(fd);
    }
    cr_assert_eq(pump_get_metrics(low)->connections_refused_count, 0);
    (void)close(listener);
}

/* ---- large frames and small ones ---- */

static bool send_urgent_to(struct pump *from, uint8_t to, struct buf *frame)
{
    struct node *node = pump_node(from);
    struct store_id id = world_id(to);
    return node->io.send_urgent(node->io.context, store_id_raft(&id), frame);
}

static size_t backlog_of(struct pump *from, uint8_t to)
{
    struct node *node = pump_node(from);
    struct store_id id = world_id(to);
    return node->io.backlog(node->io.context, store_id_raft(&id));
}

/* Queues a large frame, lets it begin to leave, and a small one after it. Returns which of the two
 * arrives first: the payload's size. */
static uint64_t first_to_arrive(void)
{
    join();
    cr_assert(send_to(low, 2, PEER_CLASS_RAFT, world_frame(FRAME_PAYLOAD_BYTES_MAX, 1)));
    cr_assert_gt(backlog_of(low, 2), FRAME_PAYLOAD_BYTES_MAX);
    uint64_t sent_before = pump_get_metrics(low)->bytes_sent_count;
    pump_wake(low);
    while (pump_get_metrics(low)->bytes_sent_count == sent_before) {
        (void)uv_run(&world_loop, UV_RUN_NOWAIT);
    }
    cr_assert_eq(pump_node(high)->frames_count, 0, "it was taken in one go");
    cr_assert(send_urgent_to(low, 2, world_frame(10, 2)));
    pump_wake(low);
    struct wanted wanted = {high, 2};
    cr_assert(world_run(has_frames, &wanted, 10000));
    cr_assert_eq(pump_node(high)->frame_sizes[0] + pump_node(high)->frame_sizes[1],
                 FRAME_PAYLOAD_BYTES_MAX + 10);
    cr_assert_eq(backlog_of(low, 2), 0);
    return pump_node(high)->frame_sizes[0];
}

Test(net_transport, urgent_frame_overtakes_a_large_one_that_has_begun_to_leave)
{
    cr_assert_eq(first_to_arrive(), 10);
}

/* Planted bug 34. */
Test(net_transport, urgent_frame_that_does_not_overtake_is_noticed)
{
    world_close(TL_TAKE(&low));
    ports[0] = 0;
    low = world_open_mutant(1, &ports[0], PUMP_MUTATION_NO_OVERTAKING);
    cr_assert_eq(first_to_arrive(), FRAME_PAYLOAD_BYTES_MAX);
}

Test(net_transport, urgent_frame_does_not_overtake_the_hello)
{
    pump_node(low)->speaks_first = true;
    pump_node(high)->speaks_first = true;
    join();
    struct wanted wanted = {high, 1};
    cr_assert(world_run(has_frames, &wanted, 3000));
    wanted.pump = low;
    cr_assert(world_run(has_frames, &wanted, 3000));
    cr_assert_eq(pump_get_metrics(low)->connections_refused_count, 0);
    cr_assert_eq(pump_get_metrics(high)->connections_refused_count, 0);
}

Test(net_transport, large_and_urgent_frames_of_all_sizes_arrive_whole)
{
    join();
    uint64_t bytes = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < 120; i++) {
        size_t large = 1000 + (size_t)i * 7919 % 300000;
        if (send_to(low, 2, PEER_CLASS_RAFT, world_frame(large, i))) bytes += large, count++;
        if (send_urgent_to(low, 2, world_frame(i, i))) bytes += i, count++;
        pump_wake(low);
        (void)uv_run(&world_loop, UV_RUN_NOWAIT);
    }
    cr_assert_eq(count, 240);
    struct wanted wanted = {high, count};
    cr_assert(world_run(has_frames, &wanted, 10000));
    cr_assert_eq(pump_node(high)->frames_bytes, bytes);
    cr_assert_eq(pump_get_metrics(high)->connections_refused_count, 0);
}

/* The node holds entries back while there is a backlog, and has to hear that it has gone. */
Test(net_transport, turn_follows_when_a_backlog_has_left)
{
    join();
    world_run_for(20);
    cr_assert(send_to(low, 2, PEER_CLASS_RAFT, world_frame(NODE_BACKLOG_BYTES_MAX, 1)));
    uint32_t turns_before = pump_node(low)->turns_count;
    pump_wake(low);
    struct wanted wanted = {high, 1};
    cr_assert(world_run(has_frames, &wanted, 2000));
    world_run_for(20);
    cr_assert_geq(pump_node(low)->turns_count, turns_before + 2, "one that sends, and one more");
}

/* A socket that has said hello as node 1, in this format. */
static int connect_as_low(uint8_t format)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    int fd = world_connect(ports[1]);
    say_hello_in(fd, format, 1, 2, PEER_CLASS_RAFT);
    world_run_for(20);
    cr_assert_eq(pump_node(high)->up_counts[PEER_CLASS_RAFT], 1);
    (void)take_hello(fd);
    return fd;
}

static void read_all(int fd, uint8_t *bytes, size_t count)
{
    for (size_t got = 0; got < count;) {
        ssize_t n = recv(fd, bytes + got, count - got, MSG_DONTWAIT);
        if (n > 0) {
            got += (size_t)n;
        } else {
            cr_assert(n < 0 && errno == EAGAIN, "closed after %zu bytes", got);
            world_run_for(1);
        }
    }
}

Test(net_transport, peer_of_the_first_version_gets_large_frames_whole)
{
    int fd = connect_as_low(HELLO_FORMAT_FIRST);
    struct buf *frame = world_frame(300000, 1);
    uint8_t *bytes = malloc(frame->count);
    cr_assert(send_to(high, 1, PEER_CLASS_RAFT, buf_acquire(frame)));
    pump_wake(high);
    read_all(fd, bytes, frame->count);
    cr_assert(bytes_equal(bytes_make(bytes, frame->count), buf_bytes(frame)));
    free(bytes);
    buf_release(frame);
    (void)close(fd);
}

Test(net_transport, peer_that_takes_parts_gets_large_frames_in_parts)
{
    int fd = connect_as_low(HELLO_FORMAT);
    struct buf *frame = world_frame(300000, 1);
    cr_assert(send_to(high, 1, PEER_CLASS_RAFT, buf_acquire(frame)));
    pump_wake(high);
    struct reassembly reassembly = {.bytes = NULL};
    enum tl_err err = TL_ERR_NOT_FOUND;
    static uint8_t bytes[FRAME_PART_BYTES_MAX];
    while (err == TL_ERR_NOT_FOUND) {
        uint8_t head[FRAME_HEADER_BYTES];
        struct frame_header header;
        struct bytes payload;
        read_all(fd, head, sizeof head);
        cr_assert_eq(frame_header_decode(head, &header), TL_OK);
        cr_assert_leq(header.payload_bytes, FRAME_PART_BYTES_MAX);
        read_all(fd, bytes, header.payload_bytes);
        struct bytes part = bytes_make(bytes, header.payload_bytes);
        cr_assert(frame_payload_is_right(&header, part));
        err = reassembly_add(&reassembly, header.type, part, &header, &payload);
    }
    cr_assert_eq(err, TL_OK);
    cr_assert(bytes_equal(bytes_make(reassembly.bytes, reassembly.count), buf_bytes(frame)));
    reassembly_clear(&reassembly);
    buf_release(frame);
    (void)close(fd);
}

static void write_part(int fd, const struct buf *frame, size_t begin, size_t end)
{
    uint8_t head[FRAME_HEADER_BYTES];
    frame_part_head(frame, begin, end, head);
    world_write(fd, bytes_make(head, sizeof head));
    world_write(fd, bytes_make(frame->data + begin, end - begin));
}

static void check_part_is_refused(int fd, const struct buf *frame, size_t begin, size_t end)
{
    write_part(fd, frame, begin, end);
    struct wanted wanted = {high, 1};
    cr_assert(world_run(has_refused, &wanted, 500));
    cr_assert_eq(pump_get_metrics(high)->garbage_count, 1);
    cr_assert_eq(pump_node(high)->frames_count, 0);
    (void)close(fd);
}

Test(net_transport, part_of_a_peer_that_has_not_announced_them_is_refused)
{
    struct buf *frame = world_frame(1000, 1);
    check_part_is_refused(connect_as_low(HELLO_FORMAT_FIRST), frame, 0, 500);
    buf_release(frame);
}

Test(net_transport, part_that_continues_nothing_is_refused)
{
    struct buf *frame = world_frame(1000, 1);
    check_part_is_refused(connect_as_low(HELLO_FORMAT), frame, 500, 600);
    buf_release(frame);
}

Test(net_transport, frames_between_the_parts_of_another_are_handed_on_at_once)
{
    int fd = connect_as_low(HELLO_FORMAT);
    struct buf *large = world_frame(1000, 1);
    struct buf *small = world_frame(10, 2);
    write_part(fd, large, 0, 500);
    world_write(fd, buf_bytes(small));
    struct wanted wanted = {high, 1};
    cr_assert(world_run(has_frames, &wanted, 500));
    cr_assert_eq(pump_node(high)->frame_sizes[0], 10);
    write_part(fd, large, 500, large->count);
    wanted.count = 2;
    cr_assert(world_run(has_frames, &wanted, 500));
    cr_assert_eq(pump_node(high)->frame_sizes[1], 1000);
    buf_release(large);
    buf_release(small);
    (void)close(fd);
}

/* What waits in the kernel is overtaken by nothing: a peer that does not read must not be given
 * megabytes. Its own buffer takes some; ours no more than the bound and one packet. */
Test(net_transport, kernel_holds_little_that_is_not_sent)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    int fd = world_connect_with(ports[1], 4096);
    say_hello_in(fd, HELLO_FORMAT, 1, 2, PEER_CLASS_RAFT);
    world_run_for(20);
    cr_assert_eq(pump_node(high)->up_counts[PEER_CLASS_RAFT], 1);
    cr_assert(send_to(high, 1, PEER_CLASS_RAFT, world_frame(8 * 1024 * 1024, 1)));
    pump_wake(high);
    world_run_for(300);
    cr_assert_lt(pump_get_metrics(high)->bytes_sent_count, 256 * 1024);
    (void)close(fd);
}

/* ---- shares of a turn ---- */

#define SHARE_BYTES (128u * 1024u) /* FLUSH_BYTES_MAX, READ_BYTES_MAX */
#define WIDE_BYTES (4 * 1024 * 1024)

static bool has_no_backlog(void *context)
{
    (void)context;
    return backlog_of(high, 1) == 0;
}

/* A connection to high from this node, which is given, and gives, a lot at once. */
static int connect_wide(uint8_t from, enum peer_class class)
{
    int fd = world_connect_with(ports[1], WIDE_BYTES);
    int on = 1;
    cr_assert_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    struct store_id to = pump_node(high)->store_id;
    say_hello_in(fd, HELLO_FORMAT, from, to.bytes[0], class);
    world_run_for(20);
    (void)take_hello(fd);
    return fd;
}

/* The kernel's windows grow with what they have seen pass. */
static void widen(int fd, uint8_t from, enum peer_class class)
{
    static uint8_t bytes[WIDE_BYTES];
    struct buf *frame = world_frame(60000, 1);
    for (uint32_t i = 0; i < 50; i++) cr_assert(send_to(high, from, class, buf_acquire(frame)));
    pump_wake(high);
    read_all(fd, bytes, 50u * frame->count);
    struct wanted wanted = {high, pump_node(high)->frames_count};
    for (uint32_t i = 0; i < 50; i++) {
        wanted.count++;
        world_write(fd, buf_bytes(frame));
        if (i % 5 == 4) cr_assert(world_run(has_frames, &wanted, 5000));
    }
    buf_release(frame);
}

/* Reads until the end, beside the loop: what is read wakes it no more than the network does. */
static void *read_beside(void *fd)
{
    static uint8_t bytes[65536];
    while (read(*(int *)fd, bytes, sizeof bytes) > 0) continue;
    return NULL;
}

static void queue_frames(uint8_t to, enum peer_class class, size_t bytes, uint32_t count)
{
    struct buf *frame = world_frame(bytes, 1);
    for (uint32_t i = 0; i < count; i++) cr_assert(send_to(high, to, class, buf_acquire(frame)));
    buf_release(frame);
}

static void check_flush_shares(size_t frame_bytes, uint32_t frames_count)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    int fd = connect_wide(1, PEER_CLASS_RAFT);
    widen(fd, 1, PEER_CLASS_RAFT);
    pthread_t reader;
    cr_assert_eq(pthread_create(&reader, NULL, read_beside, &fd), 0);
    uint64_t before = pump_get_metrics(high)->bytes_sent_count;
    queue_frames(1, PEER_CLASS_RAFT, frame_bytes, frames_count);
    transport_work(&high->transport);
    uint64_t sent = pump_get_metrics(high)->bytes_sent_count - before;
    cr_assert_geq(sent, SHARE_BYTES);
    cr_assert_leq(sent, SHARE_BYTES + 65 * 1024, "%llu", (unsigned long long)sent);
    cr_assert(world_run(has_no_backlog, NULL, 2000), "the loop slept with bytes to send");
    cr_assert_null(high->transport.dirty_later);
    cr_assert_eq(shutdown(fd, SHUT_RDWR), 0);
    cr_assert_eq(pthread_join(reader, NULL), 0);
    (void)close(fd);
}

Test(net_transport, flush_gives_a_share_of_a_large_frame_and_the_rest_in_later_turns)
{
    check_flush_shares(2 * 1024 * 1024, 1);
}

Test(net_transport, flush_gives_a_share_of_many_frames_and_the_rest_in_later_turns)
{
    check_flush_shares(60000, 35);
}

Test(net_transport, turn_reads_a_share_and_the_rest_follows)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    int fd = connect_wide(1, PEER_CLASS_RAFT);
    widen(fd, 1, PEER_CLASS_RAFT);
    struct wanted wanted = {high, pump_node(high)->frames_count + 13};
    struct buf *frame = world_frame(60000, 1);
    world_write(fd, bytes_make(frame->data, 1000)); /* so that one read is less than a share */
    world_run_for(5);
    world_write(fd, bytes_make(frame->data + 1000, frame->count - 1000));
    for (uint32_t i = 0; i < 12; i++) world_write(fd, buf_bytes(frame));
    uint64_t before = pump_get_metrics(high)->bytes_received_count;
    (void)uv_run(&world_loop, UV_RUN_NOWAIT);
    uint64_t got = pump_get_metrics(high)->bytes_received_count - before;
    cr_assert_geq(got, SHARE_BYTES);
    cr_assert_lt(got, SHARE_BYTES + CONNECTION_RECEIVE_BYTES, "%llu", (unsigned long long)got);
    cr_assert(world_run(has_frames, &wanted, 2000), "the loop slept with bytes to read");
    buf_release(frame);
    (void)close(fd);
}

static bool is_raft_of_high_down(void *context)
{
    return pump_node(high)->down_counts[PEER_CLASS_RAFT] == *(const uint32_t *)context;
}

Test(net_transport, what_was_sent_before_the_end_is_read_in_shares)
{
    uint32_t once = 1;
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    int fd = connect_wide(1, PEER_CLASS_RAFT);
    widen(fd, 1, PEER_CLASS_RAFT);
    uint32_t frames_count = pump_node(high)->frames_count;
    struct buf *frame = world_frame(60000, 1);
    for (uint32_t i = 0; i < 12; i++) world_write(fd, buf_bytes(frame));
    (void)close(fd);
    cr_assert(world_run(is_raft_of_high_down, &once, 2000));
    cr_assert_eq(pump_node(high)->frames_count, frames_count + 12);
    buf_release(frame);
}

/* Of two connections that have had their share, one is lost; the other goes on. */
static void check_end_while_held(uint8_t lost)
{
    world_close(TL_TAKE(&high));
    ports[1] = 0;
    high = world_open(3, &ports[1]);
    static const uint8_t three[3] = {1, 2, 3};
    const uint16_t three_ports[3] = {world_free_port(), world_free_port(), ports[1]};
    world_set_peers(high, 9, three, three_ports, 3);
    world_run_for(5);
    int fds[3];
    for (uint8_t id = 1; id <= 2; id++) {
        fds[id] = connect_wide(id, PEER_CLASS_RAFT);
        widen(fds[id], id, PEER_CLASS_RAFT);
    }
    for (uint8_t id = 1; id <= 2; id++) queue_frames(id, PEER_CLASS_RAFT, 60000, 30);
    struct connection **later = &high->transport.dirty_later;
    transport_work(&high->transport);
    cr_assert_not_null(*later);
    struct connection *second = (*later)->next_dirty;
    cr_assert_not_null(second, "both are held");
    struct store_id lost_id = world_id(lost);
    bool is_first = (*later)->link->peer->id == store_id_raft(&lost_id);
    struct connection *left = is_first ? second : *later;
    connection_lost(is_first ? *later : second);
    cr_assert_eq(*later, left);
    cr_assert_null(left->next_dirty);
    static uint8_t bytes[30 * (60000 + FRAME_HEADER_BYTES)];
    read_all(fds[3 - lost], bytes, sizeof bytes);
    cr_assert_null(*later);
    cr_assert_eq(pump_node(high)->down_counts[PEER_CLASS_RAFT], 1);
    for (uint8_t id = 1; id <= 2; id++) (void)close(fds[id]);
}

Test(net_transport, connection_that_is_lost_while_it_is_held_leaves_the_other)
{
    check_end_while_held(1);
    world_run_for(20);
    check_end_while_held(2);
}

/* ---- frames that are still arriving ---- */

static bool has_partials(void *context)
{
    const struct wanted *wanted = context;
    return pump_node(wanted->pump)->partials_count >= wanted->count;
}

Test(net_transport, node_hears_of_a_frame_that_is_arriving)
{
    int fd = connect_as_low(HELLO_FORMAT);
    struct buf *frame = world_frame(100000, 1);
    cr_assert_eq(pump_node(high)->partials_count, 0);
    for (uint32_t i = 0; i < 10; i++) {
        world_write(fd, bytes_make(frame->data + (size_t)i * 1000, 1000));
        struct wanted heard = {high, i + 1};
        cr_assert(world_run(has_partials, &heard, 500));
        cr_assert_eq(pump_node(high)->partials_count, i + 1);
    }
    struct store_id from = world_id(1);
    cr_assert_eq(pump_node(high)->partial_from, store_id_raft(&from));
    world_run_for(50);
    cr_assert_eq(pump_node(high)->partials_count, 10, "while bytes arrive, and no longer");
    world_write(fd, bytes_make(frame->data + 10000, frame->count - 10000));
    struct wanted wanted = {high, 1};
    cr_assert(world_run(has_frames, &wanted, 500));
    buf_release(frame);
    (void)close(fd);
}

Test(net_transport, node_hears_of_a_frame_that_arrives_in_parts)
{
    int fd = connect_as_low(HELLO_FORMAT);
    struct buf *frame = world_frame(10000, 1);
    write_part(fd, frame, 0, 1000);
    struct wanted heard = {high, 1};
    cr_assert(world_run(has_partials, &heard, 500), "a whole part is no whole frame");
    buf_release(frame);
    (void)close(fd);
}

Test(net_transport, frame_on_another_class_is_no_sign_of_the_leader)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    int fd = world_connect(ports[1]);
    say_hello_in(fd, HELLO_FORMAT, 1, 2, PEER_CLASS_BULK);
    world_run_for(20);
    struct buf *frame = world_frame(10000, 1);
    world_write(fd, bytes_make(frame->data, 1000));
    world_run_for(20);
    cr_assert_eq(pump_node(high)->partials_count, 0);
    buf_release(frame);
    (void)close(fd);
}

/* A broken peer could keep its followers for ever. */
Test(net_transport, frame_that_dribbles_is_not_heard_for_ever)
{
    int fd = connect_as_low(HELLO_FORMAT);
    struct buf *frame = world_frame(100000, 1);
    uint32_t heard_count = 0;
    for (uint32_t i = 0; i < 30; i++) {
        world_write(fd, bytes_make(frame->data + i, 1));
        world_run_for(50);
        if (i == 10) heard_count = pump_node(high)->partials_count;
    }
    cr_assert_eq(heard_count, 11);
    cr_assert_lt(pump_node(high)->partials_count, 25, "for a second and a little");
    cr_assert_eq(pump_node(high)->down_counts[PEER_CLASS_RAFT], 0);
    buf_release(frame);
    (void)close(fd);
}

/* ---- peers that go ---- */

static bool is_refusal_told(void *context)
{
    const struct node *node = pump_node(*(struct pump **)context);
    return node->refused_counts[0] + node->refused_counts[1] + node->refused_counts[2] ==
           PEER_CLASSES_COUNT;
}

static void check_gone_is_told(struct pump **gone, struct pump *left)
{
    join();
    world_close(TL_TAKE(gone));
    cr_assert(world_run(is_refusal_told, &left, 1000), "the port is closed: it is gone");
    for (uint32_t i = 0; i < PEER_CLASSES_COUNT; i++) {
        cr_assert_eq(pump_node(left)->down_counts[i], 1, "lost, and that at once");
        cr_assert_eq(pump_node(left)->refused_counts[i], 1);
    }
    world_run_for(300);
    cr_assert(is_refusal_told(&left), "it is told once");
}

Test(net_transport, connecting_side_learns_that_a_peer_is_gone)
{
    check_gone_is_told(&high, low);
}

Test(net_transport, accepting_side_learns_that_a_peer_is_gone)
{
    check_gone_is_told(&low, high);
}

/* The process lives (its port answers), only a connection was cut. */
Test(net_transport, lost_connection_is_not_called_gone)
{
    world_set_peers(high, 9, numbers, ports, 2);
    world_run_for(5);
    int fd = world_connect(ports[1]);
    say_hello(fd, 9, 1, 2, PEER_CLASS_RAFT);
    world_run_for(20);
    cr_assert_eq(pump_node(high)->up_counts[PEER_CLASS_RAFT], 1);
    (void)close(fd);
    world_run_for(200);
    cr_assert_eq(pump_node(high)->down_counts[PEER_CLASS_RAFT], 1);
    cr_assert_eq(pump_node(high)->refused_counts[PEER_CLASS_RAFT], 0);
}

Test(net_transport, restarted_peer_is_found_again_within_the_back_off)
{
    uint32_t once = 1;
    join();
    world_close(TL_TAKE(&high));
    world_run_for(600);
    uint32_t attempts_count = (uint32_t)pump_get_metrics(low)->connect_failures_count;
    cr_assert_lt(attempts_count, 12, "attempts while it is away are few, and of one class");
    memset(pump_node(low)->up_counts, 0, sizeof pump_node(low)->up_counts);
    high = world_open(2, &ports[1]);
    world_set_peers(high, 9, numbers, ports, 2);
    cr_assert(world_run(are_up, &once, PUMP_BACKOFF_MAX_MS + 200));
}

/* ---- birth ---- */

static struct buf *birth_frame(const char *text)
{
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + strlen(text));
    frame->count = FRAME_HEADER_BYTES;
    write_bytes(frame, bytes_of(text));
    frame_seal(frame, FRAME_BIRTH);
    return frame;
}

static void ask(uint16_t port, const char *text)
{
    struct node *node = pump_node(low);
    char address[32];
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)port);
    node->is_inside = true; /* no answer may come before ask() has returned */
    node->io.ask(node->io.context, address, birth_frame(text));
    node->is_inside = false;
    memset(address, 'x', sizeof address); /* borrowed for the call only */
}

static bool is_birth_answered(void *context)
{
    (void)context;
    const struct node *node = pump_node(low);
    return node->birth_replies_count + node->birth_refusals_count > 0;
}

Test(net_transport, birth_question_is_answered_and_the_connection_closed)
{
    ask(ports[1], "say");
    cr_assert(world_run(is_birth_answered, NULL, 1000));
    cr_assert_str_eq(pump_node(low)->birth_reply, "hearsay");
    cr_assert_eq(pump_node(high)->births_count, 1);
    world_run_for(50);
    cr_assert_eq(pump_node(low)->birth_replies_count, 1);
    cr_assert_eq(pump_node(low)->birth_refusals_count, 0);
    cr_assert_eq(pump_get_metrics(high)->connections_refused_count, 0);
}

Test(net_transport, birth_question_nobody_hears_is_answered_with_nothing)
{
    ask(world_free_port(), "say");
    cr_assert(world_run(is_birth_answered, NULL, 1000));
    cr_assert_eq(pump_node(low)->birth_refusals_count, 1);
}

Test(net_transport, birth_question_that_is_garbage_is_refused)
{
    ask(ports[1], "no");
    cr_assert(world_run(is_birth_answered, NULL, 1000));
    cr_assert_eq(pump_node(low)->birth_refusals_count, 1);
    cr_assert_eq(pump_get_metrics(high)->garbage_count, 1);
}

Test(net_transport, birth_question_to_a_mute_address_ends_within_a_second)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t where_bytes = sizeof where;
    cr_assert_eq(bind(fd, (struct sockaddr *)&where, sizeof where), 0);
    cr_assert_eq(listen(fd, 1), 0); /* accepts in the kernel, and never reads */
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&where, &where_bytes), 0);
    ask(ntohs(where.sin_port), "say");
    cr_assert_not(world_run(is_birth_answered, NULL, PUMP_ASK_TIMEOUT_MS / 2));
    cr_assert(world_run(is_birth_answered, NULL, PUMP_ASK_TIMEOUT_MS));
    cr_assert_eq(pump_node(low)->birth_refusals_count, 1);
    (void)close(fd);
}

Test(net_transport, birth_question_to_an_address_that_is_none_is_answered_with_nothing)
{
    struct node *node = pump_node(low);
    node->io.ask(node->io.context, "nonsense", birth_frame("say"));
    cr_assert(world_run(is_birth_answered, NULL, 1000));
    cr_assert_eq(node->birth_refusals_count, 1);
}
