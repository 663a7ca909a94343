/* names: peers are found by names whose look-up is slow or fails, or that have several addresses of
 * which some lead nowhere. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

#include "net_names.h"
#include "net_world.h"
#include "trilith/listener.h"

#define PEER "peer.test"
#define SLOW_MS 1500u /* more than the hello's second */
#define DEAD "127.0.0.9" /* nothing listens there */
#define FULL_SOCKETS 4u

static struct pump *low; /* connects */
static struct pump *high;
static uint16_t ports[2];
static int full_sockets[FULL_SOCKETS + 1];
static uint32_t full_count;

static void setup(void)
{
    names_reset();
    world_init();
    memset(ports, 0, sizeof ports);
    full_count = 0;
    low = world_open(1, &ports[0]);
    high = world_open(2, &ports[1]);
}

static void teardown(void)
{
    names_reset();
    for (uint32_t i = 0; i < full_count; i++) (void)close(full_sockets[i]);
    if (low != NULL) world_close(low);
    if (high != NULL) world_close(high);
    world_fini();
}

TestSuite(net_names, .init = setup, .fini = teardown, .timeout = 30);

/* Both know of each other; `high` is found by its name. */
static void introduce(void)
{
    static const uint8_t numbers[2] = {1, 2};
    struct node *node = pump_node(low);
    struct member members[2] = {{.store_id = world_id(1)}, {.store_id = world_id(2)}};
    struct store_id cluster_id = world_id(9);
    (void)snprintf(members[0].peer_address, ADDRESS_BYTES_MAX, "127.0.0.1:%u", ports[0]);
    (void)snprintf(members[1].peer_address, ADDRESS_BYTES_MAX, PEER ":%u", ports[1]);
    node->io.set_peers(node->io.context, &cluster_id, members, 2);
    pump_wake(low);
    if (high != NULL) world_set_peers(high, 9, numbers, ports, 2);
}

static bool is_up(void *context)
{
    (void)context;
    for (uint32_t i = 0; i < PEER_CLASSES_COUNT; i++) {
        if (pump_node(low)->up_counts[i] <= pump_node(low)->down_counts[i]) return false;
    }
    return true;
}

static bool has_attempts(void *context)
{
    return pump_get_metrics(low)->connect_failures_count >= *(uint32_t *)context;
}

static void join(void)
{
    introduce();
    cr_assert(world_run(is_up, NULL, 3000), "not connected");
}

/* Cuts the raft connection. */
static void cut(void)
{
    struct node *node = pump_node(low);
    struct store_id id = world_id(2);
    uint32_t frames_count = pump_node(high)->frames_count;
    pump_node(high)->frame_answer = TL_ERR_INVALID;
    cr_assert(node->io.send(node->io.context, store_id_raft(&id), PEER_CLASS_RAFT,
                            world_frame(10, 1)));
    pump_wake(low);
    while (pump_node(high)->frames_count == frames_count) world_run_for(1);
    pump_node(high)->frame_answer = TL_OK;
    while (pump_node(low)->down_counts[PEER_CLASS_RAFT] == 0) world_run_for(1);
}

/* Drops what comes to this address and the peer's port: its queue of connections is full. */
static void make_black_hole(const char *literal)
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(ports[1])};
    cr_assert_eq(inet_pton(AF_INET, literal, &where.sin_addr), 1);
    int fd = full_sockets[full_count++] = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&where, sizeof where), 0);
    cr_assert_eq(listen(fd, 0), 0);
    for (uint32_t i = 0; i < FULL_SOCKETS; i++) {
        fd = full_sockets[full_count++] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fd, (struct sockaddr *)&where, sizeof where);
        (void)usleep(1000);
    }
}

/* ---- slow look-ups ---- */

Test(net_names, look_up_may_take_longer_than_connect_and_hello)
{
    names_set(PEER, "127.0.0.1");
    names_set_delay(PEER, SLOW_MS);
    introduce();
    cr_assert(world_run(is_up, NULL, 3 * SLOW_MS), "a late answer is an answer");
    cr_assert_leq(names_count(PEER), 3, "and is good for all three connections");
}

Test(net_names, name_is_looked_up_once_at_a_time)
{
    names_set(PEER, "127.0.0.1");
    names_hold();
    introduce();
    world_run_for(SLOW_MS);
    cr_assert_eq(names_count(PEER), 1);
    names_release();
    cr_assert(world_run(is_up, NULL, 500));
}

Test(net_names, lost_connection_does_not_wait_for_a_look_up)
{
    names_set(PEER, "127.0.0.1");
    join();
    world_run_for(1100); /* the answer is no longer fresh */
    names_hold();
    cut();
    cr_assert(world_run(is_up, NULL, 500), "the addresses are known");
    world_run_for(50);
    cr_assert_geq(names_count(PEER), 2, "and asked for again meanwhile");
}

Test(net_names, peer_that_moved_is_found_at_its_new_address)
{
    names_set(PEER, "127.0.0.1");
    join();
    world_close(TL_TAKE(&high));
    world_run_for(100);
    names_set(PEER, "127.0.0.7");
    high = world_open_at(2, "127.0.0.7", &ports[1]);
    introduce();
    cr_assert(world_run(is_up, NULL, 3000));
}

Test(net_names, name_that_does_not_resolve_yet_is_tried_again)
{
    names_set(PEER, "");
    introduce();
    world_run_for(400);
    cr_assert_geq(names_count(PEER), 2);
    cr_assert_leq(names_count(PEER), 20);
    names_set(PEER, "127.0.0.1");
    cr_assert(world_run(is_up, NULL, 1000));
}

Test(net_names, known_addresses_outlive_a_look_up_that_fails)
{
    names_set(PEER, "127.0.0.1");
    join();
    world_run_for(1100);
    names_set(PEER, "");
    cut();
    cr_assert(world_run(is_up, NULL, 500));
    world_run_for(1100);
    cr_assert_geq(names_count(PEER), 2);
}

Test(net_names, slow_look_ups_of_others_delay_no_peer)
{
    static const uint8_t numbers[2] = {1, 2};
    struct node *node = pump_node(low);
    struct member members[8] = {{.store_id = world_id(1)}, {.store_id = world_id(2)}};
    struct store_id cluster_id = world_id(9);
    names_set(PEER, "127.0.0.1");
    (void)snprintf(members[0].peer_address, ADDRESS_BYTES_MAX, "127.0.0.1:%u", ports[0]);
    (void)snprintf(members[7].peer_address, ADDRESS_BYTES_MAX, PEER ":%u", ports[1]);
    members[7].store_id = world_id(2);
    for (uint8_t i = 1; i < 7; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "slow%u.test", i);
        names_set_delay(name, SLOW_MS);
        members[i].store_id = world_id((uint8_t)(i + 2));
        (void)snprintf(members[i].peer_address, ADDRESS_BYTES_MAX, "%s:%u", name, ports[1]);
    }
    node->io.set_peers(node->io.context, &cluster_id, members, 8);
    pump_wake(low);
    world_set_peers(high, 9, numbers, ports, 2);
    cr_assert(world_run(is_up, NULL, 1000));
}

Test(net_names, stop_does_not_wait_for_a_look_up)
{
    names_set(PEER, "127.0.0.1");
    names_hold();
    introduce();
    world_run_for(100);
    uint64_t begin_ms = uv_hrtime() / 1000000;
    world_close(TL_TAKE(&low));
    cr_assert_lt(uv_hrtime() / 1000000 - begin_ms, 1000);
    names_release();
    world_run_for(50); /* its answer comes to no resolver */
}

/* ---- several addresses ---- */

Test(net_names, addresses_are_tried_in_turn)
{
    names_set(PEER, DEAD " 127.0.0.8 127.0.0.1");
    introduce();
    cr_assert(world_run(is_up, NULL, 1000));
}

Test(net_names, address_that_drops_packets_has_a_deadline_of_its_own)
{
    make_black_hole(DEAD);
    names_set(PEER, DEAD " 127.0.0.1");
    introduce();
    cr_assert(world_run(is_up, NULL, 3 * PUMP_CONNECT_TIMEOUT_MS + 500));
}

Test(net_names, either_family_is_reached)
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (uint32_t i = 0; i < TL_COUNT_OF(hosts); i++) {
        world_close(TL_TAKE(&high));
        ports[1] = 0;
        high = world_open_at(2, hosts[i], &ports[1]);
        names_set(PEER, i == 0 ? "::1 127.0.0.1" : "127.0.0.1 ::1");
        introduce();
        cr_assert(world_run(is_up, NULL, 3000), "%s", hosts[i]);
    }
}

Test(net_names, address_that_worked_is_tried_first)
{
    names_set(PEER, DEAD " 127.0.0.1");
    join();
    uint64_t connects_count = pump_get_metrics(low)->connects_count;
    world_run_for(1100); /* settled; and the name is looked up again */
    cut();
    cr_assert(world_run(is_up, NULL, 500));
    cr_assert_eq(pump_get_metrics(low)->connects_count, connects_count + 1);
}

/* Another node has the first address. */
Test(net_names, address_of_another_node_is_passed_over)
{
    struct pump *other = world_open_at(3, DEAD, &ports[1]);
    names_set(PEER, DEAD " 127.0.0.1");
    introduce();
    bool is_found = world_run(is_up, NULL, 2000);
    world_close(other);
    cr_assert(is_found);
}

Test(net_names, many_addresses_of_one_family_hide_no_other)
{
    world_close(TL_TAKE(&high));
    ports[1] = 0;
    high = world_open_at(2, "::1", &ports[1]);
    names_set(PEER, "127.0.0.11 127.0.0.12 127.0.0.13 127.0.0.14 127.0.0.15 127.0.0.16 127.0.0.17 "
                    "127.0.0.18 127.0.0.19 ::1");
    introduce();
    cr_assert(world_run(is_up, NULL, 2000));
}

static uint32_t refusals_count(void)
{
    const struct node *node = pump_node(low);
    return node->refused_counts[0] + node->refused_counts[1] + node->refused_counts[2];
}

static bool is_called_gone(void *context)
{
    (void)context;
    return refusals_count() == PEER_CLASSES_COUNT;
}

Test(net_names, peer_is_gone_when_all_its_addresses_refuse)
{
    names_set(PEER, DEAD " 127.0.0.1");
    join();
    world_close(TL_TAKE(&high));
    cr_assert(world_run(is_called_gone, NULL, 1000));
}

Test(net_names, peer_is_not_gone_while_one_of_its_addresses_is_silent)
{
    make_black_hole(DEAD);
    names_set(PEER, DEAD " 127.0.0.1");
    join();
    world_close(TL_TAKE(&high));
    uint32_t attempts_count = (uint32_t)pump_get_metrics(low)->connect_failures_count + 2;
    cr_assert(world_run(has_attempts, &attempts_count, 3000));
    cr_assert_eq(refusals_count(), 0);
}

/* ---- birth ---- */

static void ask(const char *text)
{
    struct node *node = pump_node(low);
    char address[32];
    (void)snprintf(address, sizeof address, PEER ":%u", ports[1]);
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + strlen(text));
    frame->count = FRAME_HEADER_BYTES;
    write_bytes(frame, bytes_of(text));
    frame_seal(frame, FRAME_BIRTH);
    node->io.ask(node->io.context, address, frame);
    pump_wake(low);
}

static bool is_answered(void *context)
{
    (void)context;
    return pump_node(low)->birth_replies_count + pump_node(low)->birth_refusals_count > 0;
}

Test(net_names, birth_question_waits_for_a_slow_look_up)
{
    names_set(PEER, DEAD " 127.0.0.1");
    names_set_delay(PEER, SLOW_MS);
    ask("say");
    cr_assert(world_run(is_answered, NULL, 2 * SLOW_MS));
    cr_assert_str_eq(pump_node(low)->birth_reply, "hearsay");
}

Test(net_names, birth_questions_that_wait_for_one_name_become_one)
{
    names_set(PEER, "127.0.0.1");
    names_hold();
    for (uint32_t i = 0; i < 100; i++) {
        ask(i < 99 ? "old" : "new");
        world_run_for(1);
    }
    names_release();
    cr_assert(world_run(is_answered, NULL, 1000));
    world_run_for(100);
    cr_assert_str_eq(pump_node(low)->birth_reply, "hearnew");
    cr_assert_eq(pump_node(low)->birth_replies_count, 1);
    cr_assert_eq(names_count(PEER), 1);
}

Test(net_names, endpoints_are_bounded)
{
    struct node *node = pump_node(low);
    for (uint32_t i = 0; i < 200; i++) {
        char address[32];
        (void)snprintf(address, sizeof address, "127.0.0.1:%u", 1 + i);
        struct buf *frame = buf_create(FRAME_HEADER_BYTES);
        frame->count = FRAME_HEADER_BYTES;
        frame_seal(frame, FRAME_BIRTH);
        node->io.ask(node->io.context, address, frame);
    }
    pump_wake(low);
    world_run_for(500);
    cr_assert_eq(node->birth_refusals_count, 200, "each is answered");
    ask("say"); /* of a name that is not known */
    world_run_for(100);
    names_set(PEER, "127.0.0.1");
    ask("say");
    world_run_for(100);
    cr_assert_eq(node->birth_replies_count, 1);
}

/* ---- listening ---- */

static bool can_connect(int family, const char *literal, uint16_t port)
{
    int fd = socket(family, SOCK_STREAM, 0);
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    bool is_v4 = inet_pton(AF_INET, literal, &v4.sin_addr) == 1;
    if (!is_v4) cr_assert_eq(inet_pton(AF_INET6, literal, &v6.sin6_addr), 1);
    int rc = is_v4 ? connect(fd, (struct sockaddr *)&v4, sizeof v4)
                   : connect(fd, (struct sockaddr *)&v6, sizeof v6);
    (void)close(fd);
    return rc == 0;
}

Test(net_names, node_listens_at_every_address_of_its_name)
{
    uint16_t port = 0;
    names_set("own.test", "::1 127.0.0.1 127.0.0.3");
    struct pump *pump = world_open_at(3, "own.test", &port);
    cr_expect(can_connect(AF_INET6, "::1", port));
    cr_expect(can_connect(AF_INET, "127.0.0.1", port));
    cr_expect(can_connect(AF_INET, "127.0.0.3", port));
    cr_expect_not(can_connect(AF_INET, "127.0.0.4", port));
    world_run_for(10);
    cr_expect_eq(pump_get_metrics(pump)->connections_accepted_count, 3);
    world_close(pump);
}

/* 192.0.2.0/24 is nobody's (RFC 5737). */
Test(net_names, address_that_is_not_of_this_machine_is_left_out)
{
    uint16_t port = 0;
    names_set("own.test", "192.0.2.1 127.0.0.1");
    struct pump *pump = world_open_at(3, "own.test", &port);
    cr_expect(can_connect(AF_INET, "127.0.0.1", port));
    world_close(pump);
    names_set("own.test", "192.0.2.1");
    struct listen_sockets sockets;
    struct tl_fault fault = {.group = 0};
    cr_assert_eq(listen_sockets_open("own.test", port, &sockets, &fault), TL_ERR_NOT_FOUND);
    cr_assert_neq(strstr(fault.reason, "assign"), NULL, "%s", fault.reason);
}

Test(net_names, address_in_use_fails_and_leaves_nothing_open)
{
    struct listen_sockets sockets;
    struct tl_fault fault = {.group = 0};
    names_set("own.test", "127.0.0.3 127.0.0.1"); /* the second is that of `low` */
    cr_assert_eq(listen_sockets_open("own.test", ports[0], &sockets, &fault), TL_ERR_IN_USE);
    cr_assert_neq(strstr(fault.reason, "in use"), NULL, "%s", fault.reason);
    cr_assert_not(can_connect(AF_INET, "127.0.0.3", ports[0]));
    names_set("own.test", "");
    cr_assert_eq(listen_sockets_open("own.test", ports[0], &sockets, &fault), TL_ERR_NOT_FOUND);
}

Test(net_names, every_address_means_both_families)
{
    static const char *const hosts[] = {"::", NULL};
    for (uint32_t i = 0; i < TL_COUNT_OF(hosts); i++) {
        uint16_t port = world_free_port();
        struct listen_sockets sockets;
        struct tl_fault fault = {.group = 0};
        cr_assert_eq(listen_sockets_open(hosts[i], port, &sockets, &fault), TL_OK);
        cr_expect(can_connect(AF_INET6, "::1", port));
        cr_expect(can_connect(AF_INET, "127.0.0.1", port));
        listen_sockets_close(&sockets);
    }
}
