/* The server as a whole: status pages, metrics, connections, HTTP/2, closing. */

#include <criterion/criterion.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_client.h"

TestSuite(http_server, .init = server_begin, .fini = server_end);

static json_t *document(const char *target, int status)
{
    struct answer *answer = request("GET", target, "", NULL);
    cr_assert_eq(answer->status, status, "%s: %d", target, answer->status);
    cr_assert_str_eq(header(answer, "Content-Type"), "application/json");
    json_t *root = json_loads(body_of(answer), 0, NULL);
    cr_assert_not_null(root, "%s: %s", target, body_of(answer));
    return root;
}

static long long number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    cr_assert(json_is_integer(value), "%s is no integer", name);
    return json_integer_value(value);
}

static const char *string(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

/* ---- what is looked at ---- */

Test(http_server, admin_status_of_a_leader_has_every_field)
{
    json_t *root = document("/admin/status", 200);
    cr_assert_str_eq(string(root, "self"), FAKE_ADDRESS);
    cr_assert_str_eq(string(root, "leader"), FAKE_ADDRESS);
    cr_assert(json_is_true(json_object_get(root, "has_quorum")));
    static const struct {
        const char *name;
        long long value;
    } expected[] = {
        {"state", 2},
        {"partner_nodes_count", 2},
        {"partner_node_status_server_two.test:8082", 2},
        {"partner_node_status_server_three.test:8083", 2},
        {"log_len", 80},
        {"last_applied", 77},
        {"commit_idx", 78},
        {"leader_commit_idx", 78},
        {"raft_term", 4},
        {"next_node_idx_count", 2},
        {"match_idx_count", 2},
        {"next_node_idx_two.test:8082", 81},
        {"match_idx_three.test:8083", 78},
        {"readonly_nodes_count", 0},
    };
    for (size_t i = 0; i < TL_COUNT_OF(expected); i++) {
        cr_assert_eq(number(root, expected[i].name), expected[i].value, "%s", expected[i].name);
    }
    (void)number(root, "uptime");
    (void)number(root, "self_code_version");
    (void)number(root, "enabled_code_version");
    cr_assert_not_null(string(root, "version"));
    json_decref(root);
}

Test(http_server, admin_status_of_a_lost_follower_names_no_leader)
{
    fake.group.raft.role = RAFT_FOLLOWER;
    fake.group.raft.leader = RAFT_ID_NONE;
    fake.group.raft.has_quorum = false;
    fake.status.member_is_connected[1] = false;
    json_t *root = document("/admin/status", 200);
    cr_assert(json_is_null(json_object_get(root, "leader")));
    cr_assert(json_is_false(json_object_get(root, "has_quorum")));
    cr_assert_eq(number(root, "state"), 0);
    cr_assert_eq(number(root, "partner_node_status_server_two.test:8082"), 0);
    cr_assert_null(json_object_get(root, "next_node_idx_count"));
    json_decref(root);
    fake.group.raft.role = RAFT_CANDIDATE;
    root = document("/admin/status", 200);
    cr_assert_eq(number(root, "state"), 1);
    json_decref(root);
}

Test(http_server, status_pages_answer_before_there_is_a_cluster)
{
    fake.status.groups_count = 0;
    fake.status.members_count = 0;
    fake.status.stage = NODE_STAGE_BIRTH;
    fake.has_no_group = true;
    fake.is_ready = false;
    static const char *const targets[] = {"/admin/status", "/v1/status", "/v1/cluster"};
    for (size_t i = 0; i < TL_COUNT_OF(targets); i++) {
        json_decref(document(targets[i], 200));
    }
    cr_assert_eq(request("GET", "/metrics", "", NULL)->status, 200);
}

Test(http_server, status_tells_groups_queues_and_disk)
{
    histogram_add(&fake.metrics.log_commit_idle_us, 400);
    json_t *root = document("/v1/status", 200);
    const json_t *group = json_array_get(json_object_get(root, "groups"), 1);
    cr_assert_eq(number(group, "group"), 1);
    cr_assert_str_eq(string(group, "role"), "leader");
    cr_assert_eq(number(group, "commit"), 78);
    cr_assert_eq(number(group, "durable"), 79);
    cr_assert_eq(strlen(string(group, "rows_digest")), 32);
    const json_t *commit = json_object_get(json_object_get(root, "disk"), "log_commit");
    cr_assert_eq(number(commit, "p99_us"), 400);
    cr_assert_eq(number(json_object_get(root, "queues"), "requests_max"), NODE_REQUESTS_MAX);
    json_decref(root);
}

Test(http_server, status_and_cluster_tell_snapshots_on_their_way)
{
    fake.transfers_count = 2;
    fake.transfers[0] = (struct node_transfer_status){.is_outgoing = true,
                                                      .group = 1,
                                                      .peer = fake.group.raft.peers[0].id,
                                                      .stage = "send",
                                                      .index = 70,
                                                      .bytes_done = 1000,
                                                      .bytes = 4000,
                                                      .bytes_per_s = 500};
    fake.transfers[1] = (struct node_transfer_status){
        .peer = fake.group.raft.peers[1].id, .stage = "receive", .bytes = 9};
    static const char *const targets[] = {"/v1/status", "/v1/cluster"};
    for (size_t i = 0; i < TL_COUNT_OF(targets); i++) {
        json_t *root = document(targets[i], 200);
        const json_t *transfers = json_object_get(root, "transfers");
        cr_assert_eq(json_array_size(transfers), 2);
        const json_t *out = json_array_get(transfers, 0);
        cr_assert_str_eq(string(out, "to"), "two.test:8082");
        cr_assert_str_eq(string(out, "stage"), "send");
        cr_assert_eq(number(out, "bytes_done"), 1000);
        cr_assert_eq(number(out, "bytes"), 4000);
        cr_assert_eq(number(out, "bytes_per_s"), 500);
        const json_t *in = json_array_get(transfers, 1);
        cr_assert_str_eq(string(in, "from"), "three.test:8083");
        cr_assert_null(json_object_get(in, "bytes_per_s"));
        json_decref(root);
    }
}

static long long can_lose(void)
{
    json_t *root = document("/v1/cluster", 200);
    long long count = number(root, "can_lose");
    json_decref(root);
    return count;
}

Test(http_server, cluster_tells_what_can_be_lost)
{
    cr_assert_eq(can_lose(), 1);
    fake.group.raft.peers[0].is_recently_active = false;
    cr_assert_eq(can_lose(), 0, "as leader by what peers acknowledge");
    fake.group.raft.peers[1].state = RAFT_NEEDS_SNAPSHOT;
    cr_assert_eq(can_lose(), -1);
    fake.group.raft.role = RAFT_FOLLOWER;
    cr_assert_eq(can_lose(), 1, "as follower by connections");
    fake.status.member_is_connected[2] = false;
    cr_assert_eq(can_lose(), 0);
    fake.group.raft.leader_commit = fake.group.raft.last + 1025;
    cr_assert_eq(can_lose(), -1, "this node lacks too much itself");
    fake.group.raft.leader_commit = fake.group.raft.last;
    fake.group.raft.is_installing = true;
    cr_assert_eq(can_lose(), -1);
}

Test(http_server, before_there_is_a_cluster_nothing_can_be_said_of_losses)
{
    fake.status.groups_count = 0;
    json_t *root = document("/v1/cluster", 200);
    cr_assert(json_is_null(json_object_get(root, "can_lose")));
    json_decref(root);
    struct answer *answer = request("GET", "/metrics", "", NULL);
    cr_assert_null(strstr(body_of(answer), "trilith_can_lose"));
}

Test(http_server, can_lose_is_a_metric_to_be_alarmed_by)
{
    struct answer *answer = request("GET", "/metrics", "", NULL);
    cr_assert_not_null(strstr(body_of(answer), "\ntrilith_can_lose 1\n"));
    fake.group.raft.peers[0].is_recently_active = false;
    fake.group.raft.peers[1].is_recently_active = false;
    answer = request("GET", "/metrics", "", NULL);
    cr_assert_not_null(strstr(body_of(answer), "\ntrilith_can_lose -1\n"));
}

Test(http_server, cluster_that_is_joint_can_lose_what_both_halves_can)
{
    struct raft_conf *conf = &fake.group.raft.conf;
    conf->outgoing_count = 2;
    conf->outgoing[0] = conf->voters[0];
    conf->outgoing[1] = conf->voters[1];
    cr_assert_eq(can_lose(), 0);
}

Test(http_server, cluster_tells_members_and_leaders)
{
    fake.status.member_is_connected[2] = false;
    json_t *root = document("/v1/cluster", 200);
    const json_t *members = json_object_get(root, "members");
    cr_assert_eq(json_array_size(members), 3);
    cr_assert_str_eq(string(json_array_get(members, 1), "address"), "two.test:8082");
    cr_assert(json_is_true(json_object_get(json_array_get(members, 1), "live")));
    cr_assert(json_is_false(json_object_get(json_array_get(members, 2), "live")));
    cr_assert_eq(json_array_size(json_object_get(root, "groups")), 2);
    const json_t *group = json_array_get(json_object_get(root, "groups"), 0);
    cr_assert_str_eq(string(group, "leader"), FAKE_ADDRESS);
    cr_assert_eq(number(group, "term"), 4);
    json_decref(root);
}

Test(http_server, a_replica_that_differs_is_named)
{
    fake.group.digests = NODE_DIGESTS_DIFFER;
    fake.group.differs_at = 512;
    fake.group.differing_count = 1;
    fake.group.differing[0] = store_id_raft(&fake.status.members[2].store_id);
    static const char *const targets[] = {"/v1/status", "/v1/cluster"};
    for (size_t i = 0; i < TL_COUNT_OF(targets); i++) {
        json_t *root = document(targets[i], 200);
        const json_t *group = json_array_get(json_object_get(root, "groups"), 1);
        cr_assert_str_eq(string(group, "digests"), "differ");
        cr_assert_eq(number(group, "differs_at"), 512);
        const json_t *differing = json_object_get(group, "differing");
        cr_assert_eq(json_array_size(differing), 1);
        cr_assert_str_eq(json_string_value(json_array_get(differing, 0)), "three.test:8083");
        json_decref(root);
    }
    cr_assert_eq(can_lose(), 0, "it would not serve");
    fake.group.raft.conf.voters_count = 2;
    fake.group.differing[0] = store_id_raft(&fake.status.members[1].store_id);
    cr_assert_eq(can_lose(), 0, "of two nobody knows which one is wrong");
}

Test(http_server, a_node_that_has_diverged_says_so_everywhere)
{
    fake.is_ready = false;
    fake.status.is_diverged = true;
    fake.group.digests = NODE_DIGESTS_DIVERGED;
    fake.group.differs_at = 256;
    fake.read_refusal = TL_ERR_DIVERGED;
    fake.write_refusal = TL_ERR_DIVERGED;
    struct answer *answer = request("GET", "/readyz", "", NULL);
    cr_assert_eq(answer->status, 503);
    cr_assert_not_null(strstr(body_of(answer), "diverged"));
    json_t *root = document("/v1/status", 200);
    const json_t *group = json_array_get(json_object_get(root, "groups"), 1);
    cr_assert_str_eq(string(group, "digests"), "diverged");
    json_decref(root);
    answer = request("GET", "/metrics", "", NULL);
    cr_assert_not_null(strstr(body_of(answer), "trilith_diverged{group=\"1\"} 1\n"));
    static const char *const methods[] = {"GET", "PUT"};
    for (size_t i = 0; i < TL_COUNT_OF(methods); i++) {
        root =
            json_loads(body_of(request(methods[i], "/v1/kv/k", "", i == 0 ? NULL : "1")), 0, NULL);
        const json_t *error = json_object_get(root, "error");
        cr_assert_str_eq(string(error, "code"), "diverged");
        cr_assert_str_eq(string(error, "outcome"), "not_executed");
        json_decref(root);
    }
}

Test(http_server, readyz_says_why_not)
{
    struct answer *answer = request("GET", "/readyz", "", NULL);
    cr_assert_eq(answer->status, 200);
    fake.is_ready = false;
    const char *sentence = "waiting for three.test:8083 to answer";
    memcpy(fake.status.waits_for, sentence, strlen(sentence) + 1);
    answer = request("GET", "/readyz", "", NULL);
    cr_assert_eq(answer->status, 503);
    cr_assert_not_null(strstr(body_of(answer), sentence));
    json_t *root = document("/readyz?verbose", 503);
    cr_assert_str_eq(string(root, "reason"), sentence);
    json_decref(root);
    cr_assert_eq(request("GET", "/livez", "", NULL)->status, 200);
}

Test(http_server, readyz_names_the_group_that_is_not_ready)
{
    fake.is_ready = false;
    for (raft_group group = 0; group < 2; group++) {
        fake.unready_group = group;
        char sentence[64];
        (void)snprintf(sentence, sizeof sentence, "group %u: catching up with the leader", group);
        struct answer *answer = request("GET", "/readyz", "", NULL);
        cr_assert_eq(answer->status, 503);
        cr_assert_not_null(strstr(body_of(answer), sentence), "%s", body_of(answer));
        json_t *root = document("/readyz?verbose", 503);
        cr_assert_str_eq(string(root, "reason"), sentence);
        cr_assert_eq(number(root, "group"), group);
        json_decref(root);
    }
    fake.group.raft.leader = RAFT_ID_NONE;
    struct answer *answer = request("GET", "/readyz", "", NULL);
    cr_assert_not_null(strstr(body_of(answer), "group 1: no leader is known"));
}

Test(http_server, pages_are_for_looking_at)
{
    static const char *const targets[] = {
        "/v1/status", "/v1/cluster", "/admin/status", "/metrics", "/livez", "/readyz", "/"};
    for (size_t i = 0; i < TL_COUNT_OF(targets); i++) {
        struct answer *answer = request("POST", targets[i], "", "");
        cr_assert_eq(answer->status, 405, "%s", targets[i]);
        cr_assert_str_eq(header(answer, "Allow"), "GET, HEAD");
        cr_assert_eq(request("HEAD", targets[i], "", NULL)->status, 200, "%s", targets[i]);
        char target[64];
        (void)snprintf(target, sizeof target, "%s?x=1", targets[i]);
        cr_assert_eq(request("GET", target, "", NULL)->status, 400, "%s", target);
    }
}

static double sample(const struct answer *answer, const char *name)
{
    for (const char *at = body_of(answer); at != NULL; at = strchr(at, '\n')) {
        at += at[0] == '\n';
        size_t count = strlen(name);
        if (strncmp(at, name, count) == 0 && at[count] == ' ') return strtod(at + count, NULL);
    }
    return -1;
}

Test(http_server, metrics_count_what_was_answered)
{
    (void)request("PUT", "/v1/kv/k", "", "v");
    (void)request("PUT", "/v1/kv/k", "", "v");
    (void)request("GET", "/v1/kv/k", "", NULL);
    const char *garbage = "\1\2\3\r\n\r\n";
    int fd = client_connect();
    client_send(fd, garbage, strlen(garbage));
    (void)close(fd);
    struct answer *answer = request("GET", "/metrics", "", NULL);
    cr_assert_eq(
        sample(answer, "trilith_http_requests_total{family=\"kv\",method=\"PUT\",status=\"201\"}"),
        2);
    cr_assert_eq(
        sample(answer, "trilith_http_requests_total{family=\"kv\",method=\"GET\",status=\"404\"}"),
        1);
    cr_assert_eq(sample(answer, "trilith_http_connections_accepted_total"), 5);
    cr_assert_gt(sample(answer, "trilith_resident_memory_bytes"), 1e6);
}

Test(http_server, metrics_of_the_node_are_there)
{
    fake.metrics.reads_linearizable_count = 17;
    for (uint64_t us = 1; us <= 1000; us++) histogram_add(&fake.metrics.log_commit_idle_us, us);
    for (uint64_t ms = 4; ms <= 6; ms++) histogram_add(&fake.pump_metrics.loop_cpu_us, ms * 1000);
    struct answer *answer = request("GET", "/metrics", "", NULL);
    cr_assert_eq(sample(answer, "trilith_reads_total{consistency=\"linearizable\"}"), 17);
    cr_assert_eq(sample(answer, "trilith_log_commit_seconds_bucket{flush=\"0\",le=\"0.000255\"}"),
                 255);
    cr_assert_eq(sample(answer, "trilith_log_commit_seconds_bucket{flush=\"0\",le=\"+Inf\"}"),
                 1000);
    cr_assert_eq(sample(answer, "trilith_log_commit_seconds_count{flush=\"0\"}"), 1000);
    cr_assert_eq(sample(answer, "trilith_log_commit_seconds_count{flush=\"1\"}"), 0);
    cr_assert_float_eq(
        sample(answer, "trilith_log_commit_quantile_seconds{flush=\"0\",quantile=\"0.99\"}"), 1e-3,
        1e-6);
    cr_assert_eq(sample(answer, "trilith_loop_turn_cpu_seconds_bucket{le=\"0.004095\"}"), 1);
    cr_assert_eq(sample(answer, "trilith_loop_turn_cpu_seconds_bucket{le=\"0.005119\"}"), 2);
    cr_assert_eq(sample(answer, "trilith_loop_turn_cpu_seconds_bucket{le=\"0.006143\"}"), 3);
    cr_assert_eq(sample(answer, "trilith_loop_turn_cpu_seconds_count"), 3);
    cr_assert_eq(sample(answer, "trilith_raft_term{group=\"1\"}"), 4);
    cr_assert_eq(sample(answer, "trilith_ready"), 1);
}

/* ---- connections ---- */

Test(http_server, pipelined_requests_are_answered_in_order)
{
    const char *three = "PUT /v1/kv/a HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n1"
                        "GET /livez HTTP/1.1\r\nHost: t\r\n\r\n"
                        "GET /v1/kv/a HTTP/1.1\r\nHost: t\r\n\r\n";
    int fd = client_connect();
    client_send(fd, three, strlen(three));
    cr_assert_eq(client_receive(fd, true)->status, 201);
    cr_assert_str_eq(body_of(client_receive(fd, true)), "ok\n");
    cr_assert_eq(client_receive(fd, true)->status, 404);
    (void)close(fd);
}

Test(http_server, client_that_left_gets_its_write_answered_into_nothing)
{
    fake.is_held = true;
    const char *put = "PUT /v1/kv/a HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n1";
    int fd = client_connect();
    client_send(fd, put, strlen(put));
    for (int i = 0; i < 100 && fake.writes == NULL; i++) server_turn();
    cr_assert_not_null(fake.writes);
    (void)close(fd);
    for (int i = 0; i < 10; i++) server_turn();
    fake.is_held = false;
    for (int i = 0; i < 10; i++) server_turn();
    cr_assert_eq(request("GET", "/livez", "", NULL)->status, 200);
}

static double metric(const char *name)
{
    return sample(request("GET", "/metrics", "", NULL), name);
}

/* Sends it, and reads answers up to an error, behind which the server closes. */
static void send_unreadable(const char *text)
{
    int fd = client_connect();
    client_send(fd, text, strlen(text));
    while (client_receive(fd, true)->status < 400) continue;
    cr_assert(client_sees_end(fd), "%s", text);
    (void)close(fd);
}

Test(http_server, what_http_cannot_parse_is_counted)
{
    static const char *const texts[] = {
        "\1\2\3\r\n\r\n",
        "GET /livez HTTP/3.0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: t\r\n\r\n\1\2\3\r\n\r\n", /* behind a good one */
        "PUT /v1/kv/k HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "PUT /v1/kv/k HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        "PUT /v1/kv/k HTTP/1.1\r\nContent-Length: 1\r\nExpect: tea\r\n\r\nx",
    };
    (void)close(client_connect()); /* says nothing: no request */
    for (size_t i = 0; i < TL_COUNT_OF(texts); i++) {
        send_unreadable(texts[i]);
        cr_assert_eq(metric("trilith_http_bad_requests_total"), (double)(i + 1), "%s", texts[i]);
    }
}

Test(http_server, connections_over_the_limit_are_closed_and_counted)
{
    int fds[TEST_CONNECTIONS_MAX];
    for (uint32_t i = 0; i < TL_COUNT_OF(fds); i++) {
        fds[i] = client_connect();
        server_turn();
    }
    int refused = client_connect();
    cr_assert(client_sees_end(refused));
    (void)close(refused);
    const char *get = "GET /livez HTTP/1.1\r\nHost: t\r\n\r\n";
    for (uint32_t i = 0; i < TL_COUNT_OF(fds); i++) {
        client_send(fds[i], get, strlen(get));
        cr_assert_eq(client_receive(fds[i], true)->status, 200, "those before it are served");
        (void)close(fds[i]);
    }
    for (int i = 0; i < 100; i++) server_turn();
    cr_assert_eq(metric("trilith_http_connections_refused_total"), 1);
}

/* The server's end of the connection, found by its peer's port: it is in the same process. */
static int server_end_of(int client)
{
    struct sockaddr_in own;
    socklen_t count = sizeof own;
    cr_assert_eq(getsockname(client, (struct sockaddr *)&own, &count), 0);
    for (int fd = 0; fd < 256; fd++) {
        struct sockaddr_in peer;
        count = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &count) != 0) continue;
        if (peer.sin_family == AF_INET && peer.sin_port == own.sin_port) return fd;
    }
    return -1;
}

Test(http_server, client_that_does_not_take_its_answer_is_not_kept)
{
    int fd = client_connect();
    int accepted = -1;
    for (int i = 0; i < 100 && accepted < 0; i++) {
        server_turn();
        accepted = server_end_of(fd);
    }
    unsigned timeout_ms = 0;
    socklen_t count = sizeof timeout_ms;
    cr_assert_eq(getsockopt(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, &count), 0);
    cr_assert_eq(timeout_ms, 75000);
    (void)close(fd);
}

/* ---- HTTP/2 in clear text, with prior knowledge ---- */

/* Preface, empty SETTINGS, and a GET of /v1/kv/k as stream 1 (RFC 9113, RFC 7541). */
static const uint8_t h2_get[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                "\0\0\0\4\0\0\0\0\0"
                                "\0\0\x15\1\5\0\0\0\1"
                                "\x82\x86\x04\x08/v1/kv/k\x41\x07one.two";
static const uint8_t h2_reset[] = "\0\0\4\3\0\0\0\0\1\0\0\0\x08"; /* CANCEL */

static int h2_begin_get(void)
{
    int fd = client_connect();
    client_send(fd, h2_get, sizeof h2_get - 1);
    for (int i = 0; i < 100 && fake.reads_count == 0; i++) server_turn();
    cr_assert_eq(fake.reads_count, 1);
    return fd;
}

Test(http_server, http2_is_served)
{
    fake_set_row("k", "", bytes_of("over two"), 5);
    int fd = h2_begin_get();
    cr_assert(client_finds(fd, "over two"));
    (void)close(fd);
}

Test(http_server, connections_without_a_request_are_counted)
{
    static const uint8_t garbage[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                     "\xff\xff\xff\xff\xff\xff\xff\xff\xff"; /* no SETTINGS */
    int fd = client_connect();
    client_send(fd, garbage, sizeof garbage - 1);
    for (int i = 0; i < 10; i++) server_turn();
    (void)close(fd);
    (void)close(client_connect()); /* silent */
    for (int i = 0; i < 100; i++) server_turn();
    (void)close(h2_begin_get()); /* has one */
    for (int i = 0; i < 100; i++) server_turn();
    cr_assert_eq(metric("trilith_http_connections_without_request_total"), 2);
}

Test(http_server, request_that_is_reset_is_cancelled_at_the_node)
{
    fake.is_held = true;
    int fd = h2_begin_get();
    client_send(fd, h2_reset, sizeof h2_reset - 1);
    for (int i = 0; i < 100 && fake.reads_cancelled_count == 0; i++) server_turn();
    cr_assert_eq(fake.reads_cancelled_count, 1);
    cr_assert_null(fake.reads);
    (void)close(fd);
}

/* ---- closing ---- */

Test(http_server, close_ends_idle_connections_and_accepts_no_more)
{
    int fd = client_connect();
    const char *get = "GET /livez HTTP/1.1\r\nHost: t\r\n\r\n";
    client_send(fd, get, strlen(get));
    cr_assert_eq(client_receive(fd, true)->status, 200);
    cr_assert(server_close());
    char byte;
    cr_assert_eq(read(fd, &byte, 1), 0);
    (void)close(fd);
}

Test(http_server, close_ends_idle_http2_connections)
{
    int fd = h2_begin_get();
    for (int i = 0; i < 10; i++) server_turn();
    cr_assert(server_close());
    (void)close(fd);
}

/* The answers are more than the sockets hold, and nobody reads them. */
Test(http_server, close_does_not_wait_for_a_client_that_does_not_read, .timeout = 10)
{
    static uint8_t value[VALUE_BYTES_MAX];
    fake_set_row("k", "", bytes_make(value, sizeof value), 5);
    const char *get = "GET /v1/kv/k HTTP/1.1\r\nHost: t\r\n\r\n";
    int fd = client_connect();
    for (int i = 0; i < 16; i++) client_send(fd, get, strlen(get));
    for (int i = 0; i < 200; i++) server_turn();
    cr_assert_gt(fake.reads_count, 0);
    cr_assert_lt(fake.reads_count, 16, "the sockets held everything");
    cr_assert(server_close());
    (void)close(fd);
}

static void set_true(void *context)
{
    *(bool *)context = true;
}

Test(http_server, close_answers_what_is_under_way)
{
    fake.is_held = true;
    int fd = client_connect();
    const char *put = "PUT /v1/kv/a HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n1";
    client_send(fd, put, strlen(put));
    for (int i = 0; i < 100 && fake.writes == NULL; i++) server_turn();
    bool is_closed = false;
    http_server_close(server, set_true, &is_closed);
    for (int i = 0; i < 50; i++) server_turn();
    cr_assert_not(is_closed, "closed over a request");
    fake.is_held = false;
    cr_assert_eq(client_receive(fd, true)->status, 201);
    cr_assert(client_sees_end(fd));
    for (int i = 0; i < 100 && !is_closed; i++) server_turn();
    cr_assert(is_closed);
    server_set_closed();
    (void)close(fd);
}

Test(http_server, a_request_whose_body_comes_after_the_closing_is_the_last_of_its_connection)
{
    const char *head = "PUT /v1/kv/a HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n";
    int fd = client_connect();
    client_send(fd, head, strlen(head));
    for (int i = 0; i < 10; i++) server_turn();
    bool is_closed = false;
    http_server_close(server, set_true, &is_closed);
    client_send(fd, "1", 1);
    struct answer *answer = client_receive(fd, true);
    cr_assert_eq(answer->status, 201);
    cr_assert_str_eq(header(answer, "Connection"), "close");
    cr_assert(client_sees_end(fd));
    for (int i = 0; i < 100 && !is_closed; i++) server_turn();
    cr_assert(is_closed);
    server_set_closed();
    (void)close(fd);
}

Test(http_server, address_in_use_and_nonsense_are_told)
{
    struct http_server_options options = {
        .listen_host = "127.0.0.1",
        .listen_port = http_server_port(server),
        .address = FAKE_ADDRESS,
        .request_timeout_ns = TEST_TIMEOUT_NS,
        .value_bytes_max = TEST_VALUE_BYTES_MAX,
        .connections_max = TEST_CONNECTIONS_MAX,
    };
    struct http_server *second = NULL;
    struct tl_fault fault;
    enum tl_err err = http_server_open(&options, server_loop(), fake_pump(), &second, &fault);
    cr_assert_eq(err, TL_ERR_IN_USE);
    cr_assert_not_null(strstr(fault.reason, "127.0.0.1"));
    options.listen_host = "300.300.300.300";
    err = http_server_open(&options, server_loop(), fake_pump(), &second, &fault);
    cr_assert_eq(err, TL_ERR_INVALID);
    cr_assert_null(second);
}
