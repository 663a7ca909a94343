/* main.c - the server: options, process settings, node and HTTP on one loop, and its end.
 *
 *   start   options -> process -> pump_open (directory, recovery, peer port, threads)
 *           -> http_server_open -> loop
 *   stop    SIGTERM or SIGINT -> the node hands over what it leads -> it refuses requests, HTTP
 *           answers what is under way and closes -> the node drains and flushes -> threads end
 *           -> exit 0. A second signal ends the process at once.
 */

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "options.h"

#include "trilith/crash_point.h"
#include "trilith/http_server.h"
#include "trilith/log.h"
#include "trilith/std_streams.h"

#define PROGRAM_MAGIC 0x474f5250u
/* Together, and with NODE_HAND_OVER_MAX_NS, below the ten seconds that docker and systemd wait
 * before they kill. */
#define HTTP_CLOSE_TIMEOUT_MS 4000u
#define DRAIN_TIMEOUT_NS 4000000000ull
#define FILES_MAX ((rlim_t)1 << 20)
#define FILES_RESERVED ((rlim_t)256) /* for storage and peers: clients must not use these up */

enum exit_code {
    EXIT_STOPPED = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_DIR = 3,
    EXIT_STORAGE = 4
};

struct program {
    uint32_t magic;
    struct options options;
    uv_loop_t loop;
    struct pump *pump;
    struct http_server *http;
    uv_signal_t on_term;
    uv_signal_t on_int;
    uv_timer_t http_guard; /* HTTP may wait no longer than this */
    uv_check_t ready_watch;
    bool is_stopping;
    bool is_pump_stopping;
    bool is_pump_stopped;
    bool is_http_given_up;
    bool is_http_closed;
};

/* A mapped page that cannot be read: a bad sector, or a data file cut short under us. Nothing can
 * be acknowledged after it. Only what a signal handler may call. */
static char sigbus_line[512];
static size_t sigbus_line_count;

static void on_sigbus(int number)
{
    (void)number;
    (void)!write(STDERR_FILENO, sigbus_line, sigbus_line_count);
    _exit(EXIT_STORAGE);
}

/* An address holds nothing that JSON escapes. */
static void prepare_sigbus_line(const struct options *options)
{
    const char *reason = "a mapped page of the data directory cannot be read (SIGBUS)";
    const char *format = options->is_log_json
                             ? "{\"level\":\"error\",\"event\":\"storage_failed\",\"node\":\"%s\","
                               "\"reason\":\"%s\"}\n"
                             : "level=error event=storage_failed node=%s reason=\"%s\"\n";
    sigbus_line_count =
        text_format(sigbus_line, sizeof sigbus_line, format, options->address, reason);
}

static void handle_signals(const struct options *options)
{
    prepare_sigbus_line(options);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction bus = {.sa_handler = on_sigbus};
    int rc = sigaction(SIGPIPE, &ignore, NULL); /* a closed socket is an error code, not a death */
    TL_ASSERT(rc == 0);
    rc = sigaction(SIGBUS, &bus, NULL);
    TL_ASSERT(rc == 0);
}

static void raise_files_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < TL_MIN(limit.rlim_max, FILES_MAX)) {
        limit.rlim_cur = TL_MIN(limit.rlim_max, FILES_MAX);
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* then fewer connections */
    }
}

static uint32_t connections_max(void)
{
    struct rlimit limit;
    int rc = getrlimit(RLIMIT_NOFILE, &limit);
    TL_ASSERT(rc == 0);
    rlim_t files_max = TL_MAX(TL_MIN(limit.rlim_cur, FILES_MAX), 2u);
    return (uint32_t)(files_max > 2 * FILES_RESERVED ? files_max - FILES_RESERVED : files_max / 2);
}

/* Keeps the resident memory flat under steady load, and the cost of large values low.
 *
 * glibc gives every thread an arena of its own, but here memory made by one thread is freed by
 * another (entries read in the background, LMDB's dirty pages), so each arena would keep its own
 * peak: two are enough for four threads that seldom allocate. Blocks of some megabytes, answers
 * and entries, are worth keeping: mapped anew each time, the kernel's zeroing of their pages costs
 * more than all that is done with them. The top of the heap is trimmed late, since the next turn
 * will want it again. Chunks of generations are maps of their own (arena.c). */
static void tune_malloc(void)
{
    (void)mallopt(M_ARENA_MAX, 2); /* other libraries' malloc: nothing to tune */
    (void)mallopt(M_MMAP_THRESHOLD, 8 * 1024 * 1024);
    (void)mallopt(M_TRIM_THRESHOLD, 64 * 1024 * 1024);
}

static int exit_code_of(enum tl_err err)
{
    switch (err) {
    case TL_ERR_INVALID:
        return EXIT_USAGE;
    case TL_ERR_IN_USE:
    case TL_ERR_FOREIGN:
    case TL_ERR_NEWER_FORMAT:
        return EXIT_DIR;
    case TL_ERR_IO:
    case TL_ERR_CORRUPT:
    case TL_ERR_NO_SPACE:
        return EXIT_STORAGE;
    default:
        return EXIT_FAILED;
    }
}

static void log_start_failed(enum tl_err err, const struct tl_fault *fault)
{
    if (fault->group == UINT32_MAX) {
        log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"%s\" file=\"%s\" reason=\"%s\"",
                  tl_err_text(err), fault->file, fault->reason);
    } else {
        log_event(LOG_LEVEL_ERROR, "start_failed",
                  "error=\"%s\" file=\"%s\" group=%lu index=%llu reason=\"%s\"", tl_err_text(err),
                  fault->file, (unsigned long)fault->group, (unsigned long long)fault->index,
                  fault->reason);
    }
}

/* ---- stopping ---- */

/* Stops the loop and not only what keeps it alive: h2o's timers live as long as its context. */
static void maybe_stop_loop(struct program *program)
{
    if (program->is_pump_stopped && (program->is_http_closed || program->is_http_given_up)) {
        uv_stop(&program->loop);
    }
}

static void on_pump_stopped(void *context)
{
    struct program *program = TL_CAST(program, context, PROGRAM_MAGIC);
    program->is_pump_stopped = true;
    maybe_stop_loop(program);
}

static void stop_pump(struct program *program)
{
    if (!program->is_pump_stopping) {
        program->is_pump_stopping = true;
        pump_stop(program->pump, DRAIN_TIMEOUT_NS, on_pump_stopped, program);
    }
}

static void on_http_closed(void *context)
{
    struct program *program = TL_CAST(program, context, PROGRAM_MAGIC);
    program->is_http_closed = true;
    int rc = uv_timer_stop(&program->http_guard);
    TL_ASSERT(rc == 0);
    stop_pump(program);
    maybe_stop_loop(program);
}

static void on_http_guard(uv_timer_t *timer)
{
    struct program *program = TL_CAST(program, timer->data, PROGRAM_MAGIC);
    log_event(LOG_LEVEL_WARN, "http_close_timeout", NULL);
    program->is_http_given_up = true; /* its connections are left to the process's end */
    stop_pump(program);
}

/* Who asks from now on is told that it was not executed, and goes to another node. */
static void on_handed_over(void *context)
{
    struct program *program = TL_CAST(program, context, PROGRAM_MAGIC);
    int rc = uv_timer_start(&program->http_guard, on_http_guard, HTTP_CLOSE_TIMEOUT_MS, 0);
    TL_ASSERT(rc == 0);
    node_drain(pump_node(program->pump));
    pump_wake(program->pump);
    http_server_close(program->http, on_http_closed, program);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct program *program = TL_CAST(program, handle->data, PROGRAM_MAGIC);
    if (program->is_stopping) {
        log_event(LOG_LEVEL_WARN, "stopped", "reason=\"second signal\"");
        _exit(EXIT_FAILED);
    }
    program->is_stopping = true;
    log_event(LOG_LEVEL_INFO, "stopping", "signal=%d", number);
    pump_hand_over(program->pump, on_handed_over, program);
}

/* ---- starting ---- */

static void watch_signals(struct program *program)
{
    int rc = uv_timer_init(&program->loop, &program->http_guard);
    TL_ASSERT(rc == 0);
    program->http_guard.data = program;
    rc = uv_signal_init(&program->loop, &program->on_term);
    TL_ASSERT(rc == 0);
    rc = uv_signal_init(&program->loop, &program->on_int);
    TL_ASSERT(rc == 0);
    program->on_term.data = program;
    program->on_int.data = program;
    rc = uv_signal_start(&program->on_term, on_signal, SIGTERM);
    TL_ASSERT(rc == 0);
    rc = uv_signal_start(&program->on_int, on_signal, SIGINT);
    TL_ASSERT(rc == 0);
}

/* Looks once a loop turn, until the first time. */
static void on_ready_watch(uv_check_t *handle)
{
    struct program *program = TL_CAST(program, handle->data, PROGRAM_MAGIC);
    if (!program->is_stopping && node_is_ready(pump_node(program->pump))) {
        log_event(LOG_LEVEL_INFO, "ready", NULL);
        uv_close((uv_handle_t *)handle, NULL);
    }
}

static void watch_ready(struct program *program)
{
    int rc = uv_check_init(&program->loop, &program->ready_watch);
    TL_ASSERT(rc == 0);
    program->ready_watch.data = program;
    rc = uv_check_start(&program->ready_watch, on_ready_watch);
    TL_ASSERT(rc == 0);
}

static enum tl_err open_pump(struct program *program, struct tl_fault *out_fault)
{
    const struct options *options = &program->options;
    struct pump_options pump_options = {.peer_listen_port = options->peer_listen.port};
    if (options->peer_listen.port != 0) pump_options.peer_listen_host = options->peer_listen.host;
    node_options_init(&pump_options.node);
    pump_options.node.address = options->address;
    pump_options.node.peer_address = options->peer_address;
    pump_options.node.view = options->view;
    pump_options.node.view_count = options->view_count;
    pump_options.node.join = options->has_join ? &options->join : NULL;
    if (options->birth_refusal[0] != '\0') {
        pump_options.node.birth_refusal = options->birth_refusal;
    }
    pump_options.node.data_dir = options->data_dir;
    pump_options.node.allow_any_fs = options->allow_any_fs;
    pump_options.node.idempotency_records = options->idempotency_records;
    pump_options.node.log_retain_bytes = options->log_retain_bytes;
    pump_options.node.log_map_bytes = options->log_map_bytes;
    pump_options.node.table_map_bytes = options->table_map_bytes;
    pump_options.node.map_headroom_bytes = options->map_headroom_bytes;
    return pump_open(&pump_options, &program->loop, &program->pump, out_fault);
}

static enum tl_err open_http(struct program *program, struct tl_fault *out_fault)
{
    const struct options *options = &program->options;
    struct http_server_options http_options = {.listen_host = options->listen.host,
                                               .listen_port = options->listen.port,
                                               .address = options->address,
                                               .request_timeout_ns = options->request_timeout_ns,
                                               .value_bytes_max = options->value_bytes_max,
                                               .idempotency_records = options->idempotency_records,
                                               .connections_max = connections_max()};
    return http_server_open(&http_options, &program->loop, program->pump, &program->http,
                            out_fault);
}

static void log_listening(const struct program *program)
{
    const struct address *http = &program->options.listen;
    const struct address *peers = &program->options.peer_listen;
    char peers_text[ADDRESS_HOST_BYTES_MAX + 16];
    if (peers->port != 0) {
        (void)text_format(peers_text, sizeof peers_text, "%s:%u", peers->host,
                          (unsigned)peers->port);
    } else {
        (void)text_format(peers_text, sizeof peers_text, "%s",
                          node_peer_address(pump_node(program->pump)));
    }
    log_event(LOG_LEVEL_INFO, "listening", "http=%s:%u peers=%s", http->host, (unsigned)http->port,
              peers_text);
}

/* Nothing is made for a node that could not be born. */
static bool may_open(const struct options *options, char out_message[OPTIONS_MESSAGE_BYTES])
{
    if (options->birth_refusal[0] == '\0' || data_dir_is_made(options->data_dir)) return true;
    memcpy(out_message, options->birth_refusal, sizeof options->birth_refusal);
    return false;
}

/* A map that does not fit would end the node only when it is needed: at the start, or while a
 * snapshot is being received. So all that may be open at once are tried together. */
static bool has_address_space(const struct options *options,
                              char out_message[OPTIONS_MESSAGE_BYTES])
{
    struct {
        void *at;
        size_t bytes;
    } maps[OPTIONS_TABLE_MAPS_MAX + 1];
    bool has_room = true;
    for (size_t i = 0; i < TL_COUNT_OF(maps); i++) {
        maps[i].bytes = i == 0 ? options->log_map_bytes : options->table_map_bytes;
        maps[i].bytes += options->map_headroom_bytes;
        maps[i].at = mmap(NULL, maps[i].bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (maps[i].at == MAP_FAILED) has_room = false;
    }
    for (size_t i = 0; i < TL_COUNT_OF(maps); i++) {
        if (maps[i].at == MAP_FAILED) continue;
        int rc = munmap(maps[i].at, maps[i].bytes);
        TL_ASSERT(rc == 0);
    }
    if (has_room) return true;
    (void)text_format(out_message, OPTIONS_MESSAGE_BYTES,
                      "--map-size: this process has no address space for %u tables of up to %zu "
                      "bytes each (%zu more are mapped for each); take less, or raise ulimit -v",
                      OPTIONS_TABLE_MAPS_MAX, options->table_map_bytes,
                      options->map_headroom_bytes);
    return false;
}

static int run(struct program *program)
{
    struct tl_fault fault = {.group = UINT32_MAX};
    log_event(LOG_LEVEL_INFO, "starting", "version=%s pid=%ld data_dir=\"%s\"", PACKAGE_VERSION,
              (long)getpid(), program->options.data_dir);
    int rc = uv_loop_init(&program->loop);
    if (rc != 0) {
        tl_fault_set(&fault, "", UINT32_MAX, 0, "no event loop: %s", uv_strerror(rc));
        log_start_failed(TL_ERR_FULL, &fault);
        return EXIT_FAILED;
    }
    enum tl_err err = open_pump(program, &fault);
    if (err != TL_OK) {
        log_start_failed(err, &fault);
        return exit_code_of(err);
    }
    err = open_http(program, &fault);
    if (err != TL_OK) {
        /* Nothing was acknowledged yet and the next start recovers: no need to undo the rest. */
        log_start_failed(err, &fault);
        return EXIT_FAILED;
    }
    watch_signals(program);
    watch_ready(program);
    log_listening(program);
    (void)uv_run(&program->loop, UV_RUN_DEFAULT); /* handles left open end with the process */
    if (program->is_http_closed) { /* else HTTP still has a reader of the node's views */
        http_server_destroy(TL_TAKE(&program->http));
        pump_destroy(TL_TAKE(&program->pump));
    }
    log_event(LOG_LEVEL_INFO, "stopped", NULL);
    return EXIT_STOPPED;
}

/* Only a build for tests (--enable-verify) can be told to die. Not a TRILITH_ variable: those are
 * options. */
static bool arm_crash_point(void)
{
#ifdef TL_VERIFY
    const char *text = getenv("TL_CRASH_POINT");
    return text == NULL || crash_point_arm(text);
#else
    return true;
#endif
}

int main(int argc, char **argv)
{
    static struct program program = {.magic = PROGRAM_MAGIC};
    char message[OPTIONS_MESSAGE_BYTES];
    if (std_streams_hold() != TL_OK) return EXIT_FAILED;
    if (options_parse(argc, argv, environ, &program.options, message) != TL_OK ||
        !may_open(&program.options, message) || !has_address_space(&program.options, message)) {
        (void)fprintf(stderr, "trilithd: %s\nTry `trilithd --help' for more information.\n",
                      message);
        return EXIT_USAGE;
    }
    if (!arm_crash_point()) {
        (void)fputs("trilithd: TL_CRASH_POINT is not of the form NAME[:COUNT]\n", stderr);
        return EXIT_USAGE;
    }
    log_configure(program.options.is_log_json, LOG_LEVEL_INFO, program.options.address);
    handle_signals(&program.options);
    raise_files_limit();
    tune_malloc();
    return run(&program);
}
