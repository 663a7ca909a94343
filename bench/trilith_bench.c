/* trilith_bench.c - a closed-loop load generator: N keep-alive connections, one request each.
 *
 * One thread, epoll. A connection sends its next request when the answer to the last one is there,
 * so the offered load follows the server. Every latency is kept, so that quantiles are exact; the
 * first second is not counted.
 */

#include <argp.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "trilith/prng.h"

const char *argp_program_version = "trilith-bench " PACKAGE_VERSION_TEXT;

#define CONNECTIONS_MAX 1024u
#define TARGETS_MAX 16u
#define VALUE_BYTES_MAX (1024u * 1024u)
#define ANSWER_HEAD_BYTES_MAX 8192u
#define WARMUP_NS 1000000000ull
#define SAMPLES_MAX (64u * 1024u * 1024u)

enum mode { MODE_PUT, MODE_GET, MODE_MIXED };

struct settings {
    const char *targets;
    uint32_t connections_count;
    uint32_t seconds;
    uint32_t keys_count;
    uint32_t value_bytes;
    enum mode mode;
    bool is_fill; /* every key once, in order, then end */
    const char *query;
    uint64_t seed;
};

struct connection {
    int fd;
    uint32_t watched; /* events that epoll reports for it */
    uint64_t sent_ns;
    size_t request_bytes;
    size_t request_sent;
    size_t head_bytes; /* of the answer, so far */
    size_t body_left;  /* valid once the head is complete */
    bool is_head_done;
    bool is_busy;
    int status;
    char *request;
    char head[ANSWER_HEAD_BYTES_MAX];
};

static struct settings settings = {
    .targets = "127.0.0.1:8081",
    .connections_count = 64,
    .seconds = 10,
    .keys_count = 100000,
    .value_bytes = 256,
    .query = "",
    .seed = 1,
};

static struct {
    int epoll;
    struct prng prng;
    struct sockaddr_storage addresses[TARGETS_MAX];
    socklen_t address_bytes[TARGETS_MAX];
    uint32_t targets_count;
    struct connection connections[CONNECTIONS_MAX];
    char *value;
    uint64_t start_ns;
    uint64_t end_ns;
    uint32_t next_key; /* --fill */
    uint32_t busy_count;
    uint32_t *latencies_us; /* SAMPLES_MAX; later ones are counted, not kept */
    size_t latencies_count;
    uint64_t ok_count;
    uint64_t not_found_count;
    uint64_t failed_count;
} bench;

static uint64_t clock_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with a valid clock and pointer */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

_Noreturn static void die(const char *what)
{
    (void)fprintf(stderr, "trilith-bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void resolve_targets(void)
{
    char *list = strdup(settings.targets);
    char *rest = list;
    for (char *target; (target = strsep(&rest, ",")) != NULL;) {
        char *colon = strrchr(target, ':');
        if (colon == NULL || bench.targets_count == TARGETS_MAX) {
            (void)fprintf(stderr, "trilith-bench: --targets is HOST:PORT,HOST:PORT,...\n");
            exit(2);
        }
        *colon = '\0';
        const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
        struct addrinfo *found = NULL;
        int rc = getaddrinfo(target, colon + 1, &hints, &found);
        if (rc != 0) {
            (void)fprintf(stderr, "trilith-bench: %s: %s\n", target, gai_strerror(rc));
            exit(1);
        }
        memcpy(&bench.addresses[bench.targets_count], found->ai_addr, found->ai_addrlen);
        bench.address_bytes[bench.targets_count++] = found->ai_addrlen;
        freeaddrinfo(found);
    }
    free(list);
}

/* Chooses the next request; false when there is none. */
static bool make_request(struct connection *c)
{
    uint64_t key = prng_below(&bench.prng, settings.keys_count);
    if (settings.is_fill) {
        if (bench.next_key == settings.keys_count) {
            return false;
        }
        key = bench.next_key++;
    }
    bool is_put = settings.mode == MODE_PUT ||
                  (settings.mode == MODE_MIXED && prng_chance(&bench.prng, 500000));
    size_t room = settings.value_bytes + 1024;
    int head;
    if (is_put) {
        head = snprintf(c->request, room,
                        "PUT /v1/kv/bench/%010" PRIu64 "%s HTTP/1.1\r\nHost: bench\r\n"
                        "Content-Length: %u\r\n\r\n",
                        key, settings.query, settings.value_bytes);
        memcpy(c->request + head, bench.value, settings.value_bytes);
        c->request_bytes = (size_t)head + settings.value_bytes;
    } else {
        head = snprintf(c->request, room,
                        "GET /v1/kv/bench/%010" PRIu64 "%s HTTP/1.1\r\nHost: bench\r\n\r\n", key,
                        settings.query);
        c->request_bytes = (size_t)head;
    }
    c->request_sent = 0;
    c->head_bytes = 0;
    c->is_head_done = false;
    return true;
}

static void watch(struct connection *c, uint32_t events, int operation)
{
    if (operation == EPOLL_CTL_MOD && events == c->watched) {
        return;
    }
    c->watched = events;
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(bench.epoll, operation, c->fd, &event) != 0) {
        die("epoll_ctl");
    }
}

static void connect_again(struct connection *c);

static void send_request(struct connection *c)
{
    while (c->request_sent < c->request_bytes) {
        ssize_t count = send(c->fd, c->request + c->request_sent,
                             c->request_bytes - c->request_sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) {
            watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            return;
        }
        if (count < 0) {
            connect_again(c);
            return;
        }
        c->request_sent += (size_t)count;
        if (c->request_sent == c->request_bytes) {
            watch(c, EPOLLIN, EPOLL_CTL_MOD);
        }
    }
}

static void next_request(struct connection *c)
{
    uint64_t now = clock_ns();
    c->is_busy = (settings.is_fill || now < bench.end_ns) && make_request(c);
    if (!c->is_busy) {
        bench.busy_count--;
        return;
    }
    c->sent_ns = now;
    send_request(c);
}

static void connect_start(struct connection *c)
{
    uint32_t target = (uint32_t)(c - bench.connections) % bench.targets_count;
    c->fd =
        socket(bench.addresses[target].ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        die("socket");
    }
    int on = 1;
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* slower without */
    if (connect(c->fd, (struct sockaddr *)&bench.addresses[target], bench.address_bytes[target]) !=
            0 &&
        errno != EINPROGRESS) {
        die("connect");
    }
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

/* The connection broke: its request counts as failed and is not repeated. */
static void connect_again(struct connection *c)
{
    bench.failed_count++;
    (void)close(c->fd);
    if (bench.failed_count > 100000) {
        (void)fprintf(stderr, "trilith-bench: too many failures\n");
        exit(1);
    }
    connect_start(c);
    c->request_sent = c->request_bytes; /* nothing to send until the socket is writable */
    c->is_head_done = false;
    c->head_bytes = 0;
    if (make_request(c)) {
        c->sent_ns = clock_ns();
    }
}

static void count_answer(struct connection *c)
{
    uint64_t now = clock_ns();
    if (c->status == 200 || c->status == 201) {
        if (settings.is_fill || c->sent_ns >= bench.start_ns + WARMUP_NS) {
            bench.ok_count++;
            if (bench.latencies_count < SAMPLES_MAX) {
                bench.latencies_us[bench.latencies_count++] = (uint32_t)((now - c->sent_ns) / 1000);
            }
        }
    } else if (c->status == 404) {
        bench.not_found_count++;
    } else {
        bench.failed_count++;
    }
}

/* Reads status and length out of a complete head. */
static void parse_head(struct connection *c, const char *head_end)
{
    c->status = 0;
    c->body_left = 0;
    (void)sscanf(c->head, "HTTP/1.1 %d", &c->status); /* stays 0: counted as failed */
    for (const char *line = c->head; line < head_end; line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, "content-length:", 15) == 0) {
            c->body_left = strtoull(line + 15, NULL, 10);
        }
    }
    c->is_head_done = true;
}

static void on_bytes(struct connection *c, const char *data, size_t count)
{
    if (!c->is_head_done) {
        size_t room = sizeof c->head - 1 - c->head_bytes;
        size_t taken = count < room ? count : room;
        memcpy(c->head + c->head_bytes, data, taken);
        c->head_bytes += taken;
        c->head[c->head_bytes] = '\0';
        const char *end = strstr(c->head, "\r\n\r\n");
        if (end == NULL) {
            return;
        }
        parse_head(c, end + 2);
        size_t body_here = c->head_bytes - (size_t)(end + 4 - c->head) + (count - taken);
        c->body_left -= body_here < c->body_left ? body_here : c->body_left;
    } else {
        c->body_left -= count < c->body_left ? count : c->body_left;
    }
    if (c->body_left == 0) {
        count_answer(c);
        next_request(c);
    }
}

static void on_readable(struct connection *c)
{
    static char data[65536];
    ssize_t count = recv(c->fd, data, sizeof data, 0);
    if (count < 0 && errno == EAGAIN) {
        return;
    }
    if (count <= 0) {
        connect_again(c);
        return;
    }
    on_bytes(c, data, (size_t)count);
}

static void run(void)
{
    bench.start_ns = clock_ns();
    bench.end_ns = bench.start_ns + WARMUP_NS + (uint64_t)settings.seconds * 1000000000u;
    for (uint32_t i = 0; i < settings.connections_count; i++) {
        struct connection *c = &bench.connections[i];
        c->request = malloc(settings.value_bytes + 1024);
        bench.busy_count++;
        connect_start(c);
        next_request(c);
    }
    uint64_t give_up_ns = bench.end_ns + 10000000000u;
    while (bench.busy_count > 0 && (settings.is_fill || clock_ns() < give_up_ns)) {
        struct epoll_event events[256];
        int count = epoll_wait(bench.epoll, events, 256, 1000);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if ((events[i].events & EPOLLOUT) != 0 && c->is_busy) {
                send_request(c);
            }
            if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
                on_readable(c);
            }
        }
    }
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t quantile_us(unsigned permille)
{
    size_t count = bench.latencies_count;
    return count > 0 ? bench.latencies_us[(count - 1) * permille / 1000] : 0;
}

static void report(void)
{
    uint64_t now = clock_ns();
    double seconds =
        settings.is_fill ? (double)(now - bench.start_ns) / 1e9 : (double)settings.seconds;
    qsort(bench.latencies_us, bench.latencies_count, sizeof *bench.latencies_us, compare_u32);
    (void)printf("{\"ops_per_s\":%.0f,\"ok\":%" PRIu64 ",\"not_found\":%" PRIu64
                 ",\"failed\":%" PRIu64 ",\"seconds\":%.2f,\"p50_us\":%u,\"p99_us\":%u"
                 ",\"max_us\":%u}\n",
                 (double)bench.ok_count / seconds, bench.ok_count, bench.not_found_count,
                 bench.failed_count, seconds, quantile_us(500), quantile_us(990),
                 quantile_us(1000));
}

static const struct argp_option options[] = {
    {"targets", 't', "HOST:PORT,...", 0, "nodes; connections are spread over them", 0},
    {"connections", 'c', "N", 0, "keep-alive connections, one request each (64)", 0},
    {"seconds", 's', "N", 0, "measured time, after one second of warm-up (10)", 0},
    {"keys", 'k', "N", 0, "uniform keys (100000)", 0},
    {"value-bytes", 'v', "N", 0, "size of values (256)", 0},
    {"mode", 'm', "MODE", 0, "put, get or mixed (put)", 0},
    {"fill", 'f', NULL, 0, "put every key once, in order, then end", 0},
    {"query", 'q', "QUERY", 0, "appended to each path, e.g. ?consistency=local", 0},
    {"seed", 'r', "N", 0, "of the key sequence (1)", 0},
    {0},
};

static uint32_t parse_count(struct argp_state *state, const char *text, uint32_t max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || value == 0 || value > max) {
        argp_error(state, "\"%s\" is not a number between 1 and %u", text, max);
    }
    return (uint32_t)value;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 't':
        settings.targets = text;
        break;
    case 'c':
        settings.connections_count = parse_count(state, text, CONNECTIONS_MAX);
        break;
    case 's':
        settings.seconds = parse_count(state, text, 86400);
        break;
    case 'k':
        settings.keys_count = parse_count(state, text, 1000000000);
        break;
    case 'v':
        settings.value_bytes = parse_count(state, text, VALUE_BYTES_MAX);
        break;
    case 'f':
        settings.is_fill = true;
        break;
    case 'q':
        settings.query = text;
        break;
    case 'r':
        settings.seed = parse_count(state, text, UINT32_MAX);
        break;
    case 'm':
        if (strcmp(text, "put") == 0) {
            settings.mode = MODE_PUT;
        } else if (strcmp(text, "get") == 0) {
            settings.mode = MODE_GET;
        } else if (strcmp(text, "mixed") == 0) {
            settings.mode = MODE_MIXED;
        } else {
            argp_error(state, "--mode is put, get or mixed");
        }
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct argp argp = {
        options, parse_option, NULL, "Puts load on a Trilith cluster and prints one line of JSON.",
        NULL,    NULL,         NULL};
    argp_err_exit_status = 2;
    (void)argp_parse(&argp, argc, argv, 0, NULL, NULL); /* exits with 2 on any error */
    prng_init(&bench.prng, settings.seed);
    bench.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (bench.epoll < 0) {
        die("epoll_create1");
    }
    bench.value = malloc(settings.value_bytes);
    /* Untouched pages of it cost nothing. */
    bench.latencies_us = malloc(SAMPLES_MAX * sizeof *bench.latencies_us);
    if (bench.value == NULL || bench.latencies_us == NULL) {
        die("malloc");
    }
    for (uint32_t i = 0; i < settings.value_bytes; i++) {
        bench.value[i] = (char)('a' + prng_below(&bench.prng, 26));
    }
    resolve_targets();
    run();
    report();
    return bench.ok_count > 0 ? 0 : 1;
}
