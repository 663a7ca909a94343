/* sim.c - the clock: takes the next event, hands it to the part it concerns, until the cluster has
 * recovered or a judge has found something. */

#include "sim_internal.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENTS_MAX 5000000u /* a run that does not end is a violation of liveness */

static sigjmp_buf abort_jump;

void sim_push(struct sim *sim, uint64_t time_ns, const struct event *event)
{
    struct event added = *event;
    added.time_ns = TL_MAX(time_ns, sim->now_ns);
    event_heap_push(&sim->heap, &added);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    if (sim->is_over) return;
    sim->is_over = true;
    struct sim_result *result = sim->result;
    result->is_violated = true;
    int count = snprintf(result->violation, sizeof result->violation,
                         "at %.6f s: ", (double)sim->now_ns / (double)SIM_S);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(result->violation + count, sizeof result->violation - (size_t)count, format,
                    args);
    va_end(args);
    sim_trace(sim, "VIOLATION %s", result->violation);
}

static void trace_mix(struct sim *sim, const char *text, size_t count)
{
    uint64_t hash = sim->result->trace_hash ^ sim->now_ns;
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3u; /* FNV-1a */
    }
    sim->result->trace_hash = hash ^ (hash >> 29);
}

void sim_trace(struct sim *sim, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int count = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    TL_ASSERT(count >= 0);
    trace_mix(sim, line, TL_MIN((size_t)count, sizeof line - 1));
    if (sim->options.is_traced) {
        printf("%12.6f %s\n", (double)sim->now_ns / (double)SIM_S, line);
        (void)fflush(stdout); /* an assertion may end this run */
    }
}

uint64_t sim_exponential(struct prng *prng, uint64_t mean_ns)
{
    if (mean_ns == 0) return 0;
    /* -ln(u) by bits: floor(log2) from the leading zeros, the rest linear. Close enough, and the
     * same on every machine, which libm does not promise. */
    uint64_t bits = prng_next(prng) | 1;
    uint64_t zeros = (uint64_t)__builtin_clzll(bits);
    uint64_t rest = (bits << zeros) >> 11;                            /* 53 bits, the top one set */
    uint64_t fraction = rest - (1ull << 52);                          /* of 2^52 */
    uint64_t scaled = 1000 * (zeros + 1) - ((fraction * 1000) >> 52); /* -log2(u) in thousandths */
    return TL_MIN(mean_ns * 10, mean_ns / 1000 * scaled * 693 / 1000);
}

/* The events a paused process does not see until it goes on. */
static bool is_of_process(uint32_t kind)
{
    return kind != EVENT_START && kind != EVENT_CRASH;
}

static void dispatch(struct sim *sim, const struct event *event)
{
    if (event->kind <= EVENT_CRASH && event->kind != EVENT_FRAME &&
        event->kind != EVENT_BIRTH_ASK && event->kind != EVENT_BIRTH_REPLY) {
        host_on_event(sim, &sim->nodes[event->node], event);
    } else if (event->kind <= EVENT_REFUSED) {
        network_on_event(sim, event);
    } else if (event->kind <= EVENT_CLIENT_GIVE_UP) {
        workload_on_event(sim, event);
    } else if (event->kind == EVENT_STORM_END) {
        liveness_begin(sim);
    } else if (event->kind == EVENT_OPERATOR) {
        members_on_event(sim, event);
    } else if (event->kind == EVENT_DEPOSAL) {
        deposal_on_event(sim, event);
    } else if (event->kind == EVENT_ROLLBACK) {
        rollback_on_event(sim, event);
    } else if (event->kind == EVENT_LIVENESS_CHECK) {
        liveness_check(sim);
    } else {
        nemesis_on_event(sim, event);
    }
}

static void run_events(struct sim *sim)
{
    struct event event;
    while (!sim->is_over && event_heap_pop(&sim->heap, &event)) {
        TL_ASSERT(event.time_ns >= sim->now_ns);
        sim->now_ns = event.time_ns;
        if (event.node != SIM_WORLD && is_of_process(event.kind) &&
            sim->nodes[event.node].paused_until_ns > sim->now_ns) {
            /* Timers come first when it goes on, what the disk has done after them; both sooner
             * than what the disk does from then on. */
            bool is_late = event.kind == EVENT_LOG_DONE || event.kind == EVENT_FLUSH_DONE;
            uint64_t late_ns = is_late ? SIM_TELL_DELAY_NS / 2 : 0;
            sim_push(sim, sim->nodes[event.node].paused_until_ns + late_ns, &event);
            continue;
        }
        sim->result->counters.events++;
        if (sim->result->counters.events > EVENTS_MAX) {
            sim_fail(sim, "%u events and no end", EVENTS_MAX);
        }
        dispatch(sim, &event);
    }
}

static void drop_events(struct sim *sim)
{
    struct event event;
    while (event_heap_pop(&sim->heap, &event)) {
        if (event.kind == EVENT_FRAME || event.kind == EVENT_BIRTH_ASK ||
            event.kind == EVENT_BIRTH_REPLY) {
            buf_release(event.data);
        }
        workload_drop_event(&event);
    }
    event_heap_deinit(&sim->heap);
}

static void run(struct sim *sim)
{
    event_heap_init(&sim->heap);
    swarm_draw(&sim->swarm, sim->options.seed, sim->options.profile);
    prng_init(&sim->net_random, sim->options.seed ^ 0x6e6574);
    prng_init(&sim->disk_random, sim->options.seed ^ 0x6469736b);
    prng_init(&sim->fault_random, sim->options.seed ^ 0x6661756c74);
    prng_init(&sim->work_random, sim->options.seed ^ 0x776f726b);
    prng_init(&sim->more_random, sim->options.seed ^ 0x6d6f7265);
    mem_disks_reset(sim->options.seed ^ 0x73746f7265);
    oracle_init(sim);
    host_init(sim);
    clocks_init(sim);
    network_init(sim);
    workload_init(sim);
    members_init(sim);
    nemesis_init(sim);
    moments_init(sim);
    run_events(sim);
    sim->result->end_ns = sim->now_ns;
    host_deinit(sim);
    drop_events(sim);
    oracle_deinit(sim);
    workload_deinit(sim);
    members_deinit(sim);
    clocks_deinit(sim);
    free(sim->attempts);
    mem_disks_reset(0);
}

static void on_abort(int signal_number)
{
    (void)signal_number;
    siglongjmp(abort_jump, 1);
}

void sim_run(const struct sim_options *options, struct sim_result *out_result)
{
    *out_result = (struct sim_result){0};
    struct sim *sim = calloc(1, sizeof *sim);
    TL_ASSERT(sim != NULL);
    sim->options = *options;
    sim->result = out_result;
    struct sigaction action = {.sa_handler = on_abort};
    struct sigaction before;
    (void)sigaction(SIGABRT, &action, &before);
    if (sigsetjmp(abort_jump, 1) == 0) {
        run(sim);
        free(sim);
    } else {
        /* The assertion has printed itself on stderr. */
        sim->is_over = false;
        sim_fail(sim, "an assertion of the code under test failed");
    }
    (void)sigaction(SIGABRT, &before, NULL);
}

void sim_counters_add(struct sim_counters *sum, const struct sim_counters *added)
{
#define SIM_COUNTER_ADD(name) sum->name += added->name;
    SIM_COUNTERS(SIM_COUNTER_ADD)
#undef SIM_COUNTER_ADD
}
