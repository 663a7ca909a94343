/* main.c - trilith-sim: runs seeds.
 *
 * Usage: trilith-sim [--seed N] [--seeds COUNT] [--mutation M] [--profile NAME] [--trace]
 * [--verbose] Every 20th seed is run twice and its traces compared. Exit: 0 clean, 1 violation, 2
 * usage. With --mutation the first violation ends the batch: it is what is looked for.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define REPEAT_EVERY 20u
#define COVERAGE_SEEDS_MIN 1000u /* a batch this large must have met everything */

struct arguments {
    struct sim_options options;
    uint64_t seeds_count;
    bool is_verbose;
};

static int usage(void)
{
    fprintf(stderr, "usage: trilith-sim [--seed N] [--seeds COUNT] [--mutation M] "
                    "[--profile NAME] [--trace] [--verbose]\n");
    return 2;
}

static bool parse_number(const char *text, uint64_t *out_number)
{
    char *end = NULL;
    if (text == NULL) return false;
    *out_number = strtoull(text, &end, 10);
    return *text != '\0' && *end == '\0';
}

static bool parse(int argc, char **argv, struct arguments *arguments)
{
    *arguments = (struct arguments){.options = {.seed = 1}, .seeds_count = 1};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        uint64_t number = 0;
        if (strcmp(argv[i], "--trace") == 0) {
            arguments->options.is_traced = true;
            continue;
        }
        if (strcmp(argv[i], "--verbose") == 0) {
            arguments->is_verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--profile") == 0 && value != NULL && sim_profile_exists(value)) {
            arguments->options.profile = value;
        } else if (!parse_number(value, &number)) {
            return false;
        } else if (strcmp(argv[i], "--seed") == 0) {
            arguments->options.seed = number;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            arguments->seeds_count = number;
        } else if (strcmp(argv[i], "--mutation") == 0) {
            arguments->options.mutation = (uint32_t)number;
        } else {
            return false;
        }
        i++;
    }
    return true;
}

static void print_violation(const struct sim_options *options, const struct sim_result *result)
{
    printf("seed %" PRIu64 ": %s\n", options->seed, result->violation);
    printf("replay: trilith-sim --seed %" PRIu64 " --trace", options->seed);
    if (options->mutation != 0) printf(" --mutation %" PRIu32, options->mutation);
    if (options->profile != NULL) printf(" --profile %s", options->profile);
    printf("\n");
}

static bool is_repeatable(const struct sim_options *options, const struct sim_result *result)
{
    struct sim_options again_options = *options;
    again_options.is_traced = false;
    struct sim_result again;
    sim_run(&again_options, &again);
    if (again.trace_hash == result->trace_hash) return true;
    printf("seed %" PRIu64 ": two runs differ, traces %016" PRIx64 " and %016" PRIx64 "\n",
           options->seed, result->trace_hash, again.trace_hash);
    return false;
}

static bool print_counters(const struct sim_counters *sum, bool must_cover)
{
    bool is_covered = true;
#define SIM_COUNTER_PRINT(name)                          \
    printf("%-20s %12" PRIu64 "\n", #name, (sum)->name); \
    is_covered = is_covered && (sum)->name > 0;
    SIM_COUNTERS(SIM_COUNTER_PRINT)
#undef SIM_COUNTER_PRINT
    if (must_cover && !is_covered) printf("a counter is 0: this batch has not tested everything\n");
    return is_covered || !must_cover;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    if (!parse(argc, argv, &arguments)) return usage();
    struct sim_options options = arguments.options;
    struct sim_counters sum = {0};
    for (uint64_t i = 0; i < arguments.seeds_count; i++) {
        options.seed = arguments.options.seed + i;
        struct sim_result result;
        sim_run(&options, &result);
        sim_counters_add(&sum, &result.counters);
        if (arguments.is_verbose) {
            printf("seed %" PRIu64 " trace %016" PRIx64 " events %" PRIu64 " end %.3f s\n",
                   options.seed, result.trace_hash, result.counters.events,
                   (double)result.end_ns / 1e9);
            (void)fflush(stdout);
        }
        if (result.is_violated) {
            print_violation(&options, &result);
            return 1;
        }
        if (i % REPEAT_EVERY == 0 && !is_repeatable(&options, &result)) return 1;
    }
    bool must_cover = options.mutation == 0 && options.profile == NULL &&
                      arguments.seeds_count >= COVERAGE_SEEDS_MIN;
    bool is_covered = print_counters(&sum, must_cover);
    printf("%" PRIu64 " seeds from %" PRIu64 ": no violation\n", arguments.seeds_count,
           arguments.options.seed);
    return is_covered ? 0 : 1;
}
