/* view: what is promised in view.h, one test per promise.
 *
 * The workload has entries that are transactions: entry i puts i under "ra" and "rb", puts "rd<i>"
 * and deletes "rd<i-1>", and puts i under "rk<i mod 16>". So what a reader must see follows from R
 * alone.
 */

#include <criterion/criterion.h>
#include <inttypes.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "rows.h"
#include "tmpdir.h"
#include "trilith/view.h"

#define MAP_BYTES (256u * 1024u * 1024u)
#define RING_COUNT 16u
#define KEY_TEXT_BYTES 32u

static char dir[TMPDIR_PATH_BYTES_MAX];
static struct table *table;
static struct views *views;
static struct view_reader *reader;
static struct tl_fault fault;

static void open_views(void)
{
    struct table_options options = {
        .dir = dir,
        .group = 1,
        .map_bytes = MAP_BYTES,
        .readers_max = VIEW_READERS_MAX + 2,
    };
    cr_assert_eq(table_open(&options, &table, &fault), TL_OK, "%s", fault.reason);
    views = views_create(table);
    cr_assert_eq(view_reader_create(views, &reader), TL_OK);
}

static void close_views(void)
{
    view_reader_destroy(TL_TAKE(&reader));
    views_destroy(TL_TAKE(&views));
    table_close(TL_TAKE(&table));
}

static void setup(void)
{
    tmpdir_create(dir);
    open_views();
}

static void teardown(void)
{
    close_views();
    tmpdir_destroy(dir);
}

TestSuite(view, .init = setup, .fini = teardown, .timeout = 60);

/* ---- The workload -------------------------------------------------------------------------- */

static const char *ring_key(raft_index index, char out_key[KEY_TEXT_BYTES])
{
    (void)snprintf(out_key, KEY_TEXT_BYTES, "rk%02u", (unsigned)(index % RING_COUNT));
    return out_key;
}

static const char *moving_key(raft_index index, char out_key[KEY_TEXT_BYTES])
{
    (void)snprintf(out_key, KEY_TEXT_BYTES, "rd%" PRIu64, index);
    return out_key;
}

/* Puts entry `index` without publishing it. */
static void put_entry(raft_index index)
{
    char key[KEY_TEXT_BYTES];
    struct bytes value = bytes_make(&index, sizeof index);
    struct generation *active = views_active(views);
    rows_put(active, index, "ra", value);
    rows_put(active, index, moving_key(index, key), value);
    (void)generation_put(active, index, bytes_of(moving_key(index - 1, key)), 0, 0, true);
    rows_put(active, index, ring_key(index, key), value);
    rows_put(active, index, "rb", value);
}

static void publish(raft_index index)
{
    generation_publish(views_active(views), index);
    views_publish(views, index);
}

static void apply(void)
{
    raft_index index = views_applied(views) + 1;
    put_entry(index);
    publish(index);
}

static void freeze(void)
{
    struct group_state final = rows_final(views_applied(views));
    views_freeze(views, &final, bytes_make(NULL, 0));
}

static void flush_table(void)
{
    enum tl_err err = table_flush(table, views_oldest_frozen(views), &fault);
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
}

/* 0: absent. */
static bool sees(struct view_reader *from, const char *key, raft_index expected)
{
    struct bytes row;
    enum tl_err err = view_get(from, bytes_of(key), &row, NULL);
    if (err != TL_OK) {
        return err == TL_ERR_NOT_FOUND && expected == 0;
    }
    raft_index index;
    struct bytes value = rows_value(row);
    TL_ASSERT(value.count == sizeof index);
    memcpy(&index, value.data, sizeof index);
    return index == expected;
}

/* What a walk meets, against what R says. */
struct walked {
    raft_index applied;
    uint32_t count;
    bool is_right;
    bool is_reverse;
    uint8_t last[KEY_TEXT_BYTES]; /* key of the item before */
    size_t last_bytes;
};

static bool walk_item(void *context, struct bytes env_key, struct bytes row)
{
    struct walked *walked = context;
    raft_index index;
    int order = bytes_compare(env_key, bytes_make(walked->last, walked->last_bytes));
    bool is_next = walked->is_reverse ? order < 0 || walked->last_bytes == 0 : order > 0;
    walked->is_right = walked->is_right && is_next;
    memcpy(walked->last, env_key.data, env_key.count);
    walked->last_bytes = env_key.count;
    if (env_key.data[0] != 'r') return false; /* backwards there is more behind the rows */
    if (row.data == NULL) return true;        /* deleted */
    memcpy(&index, rows_value(row).data, sizeof index);
    bool is_ring = env_key.data[1] == 'k';
    bool is_right = is_ring ? index + RING_COUNT > walked->applied && index <= walked->applied
                            : index == walked->applied;
    walked->is_right = walked->is_right && is_right;
    walked->count++;
    return true;
}

/* Whether a reader that said R sees the state after R, R >= 1. */
static bool is_right_at(struct view_reader *from, raft_index applied)
{
    char key[KEY_TEXT_BYTES];
    bool is_right = sees(from, "ra", applied) && sees(from, "rb", applied);
    for (raft_index index = applied < 8 ? 1 : applied - 7; index < applied + 8; index++) {
        bool is_there = index == applied;
        is_right = is_right && sees(from, moving_key(index, key), is_there ? index : 0);
    }
    for (raft_index i = 0; i < RING_COUNT && i < applied; i++) {
        is_right = is_right && sees(from, ring_key(applied - i, key), applied - i);
    }
    for (int is_reverse = 0; is_reverse <= 1; is_reverse++) {
        struct walked walked = {.applied = applied, .is_right = true, .is_reverse = is_reverse};
        struct bytes start = bytes_of(is_reverse ? "s" : "r");
        enum tl_err err = view_walk(from, start, is_reverse, walk_item, &walked, NULL);
        is_right = is_right && err == TL_OK && walked.is_right &&
                   walked.count == 3 + TL_MIN(applied, RING_COUNT);
    }
    return is_right;
}

/* ---- Reading ------------------------------------------------------------------------------- */

static raft_index begin(void)
{
    raft_index applied = 0;
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_OK, "%s", fault.reason);
    return applied;
}

Test(view, an_entry_is_seen_as_a_whole_once_it_is_published)
{
    apply();
    put_entry(2);
    cr_assert_eq(begin(), 1);
    cr_assert(is_right_at(reader, 1));
    view_end(reader);
    publish(2);
    cr_assert_eq(begin(), 2);
    cr_assert(is_right_at(reader, 2));
}

Test(view, a_reader_stays_at_its_index_whatever_is_applied_and_flushed)
{
    apply();
    apply();
    cr_assert_eq(begin(), 2);
    struct bytes row;
    cr_assert_eq(view_get(reader, bytes_of("ra"), &row, &fault), TL_OK);
    for (unsigned i = 0; i < 3; i++) {
        apply();
        freeze();
        apply();
        flush_table();
        views_flushed(views);
        views_collect(views);
        cr_assert(is_right_at(reader, 2), "round %u", i);
        cr_assert_eq(*rows_value(row).data, 2, "a value is there until the end");
    }
    view_end(reader);
    cr_assert_eq(begin(), 8);
    cr_assert(is_right_at(reader, 8));
}

Test(view, what_was_flushed_is_seen_after_reopening)
{
    for (unsigned i = 0; i < 20; i++) apply();
    freeze();
    flush_table();
    close_views();
    open_views();
    cr_assert_eq(views_applied(views), 20);
    cr_assert_eq(views_base(views), 20);
    cr_assert_eq(begin(), 20);
    cr_assert(is_right_at(reader, 20));
}

Test(view, counts_and_indexes_follow_freezes_and_flushes)
{
    cr_assert_eq(views_applied(views), 0);
    cr_assert_null(views_oldest_frozen(views));
    apply();
    freeze();
    apply();
    apply();
    freeze();
    cr_assert_eq(views_frozen_count(views), VIEW_FROZEN_MAX);
    cr_assert_eq(generation_first(views_oldest_frozen(views)), 0);
    cr_assert_eq(generation_first(views_active(views)), 3);
    flush_table();
    cr_assert_eq(views_base(views), 0, "until it is said");
    views_flushed(views);
    cr_assert_eq(views_base(views), 1);
    cr_assert_eq(views_frozen_count(views), 1);
    cr_assert_eq(generation_first(views_oldest_frozen(views)), 1);
}

/* The process ends in a test of SIGABRT, and the directory with it. */
static void expect_abort(void)
{
    tmpdir_destroy(dir);
}

Test(view, a_third_frozen_generation_stops_the_process, .signal = SIGABRT)
{
    for (unsigned i = 0; i < VIEW_FROZEN_MAX; i++) {
        apply();
        freeze();
    }
    apply();
    expect_abort();
    freeze();
}

Test(view, freezing_nothing_stops_the_process, .signal = SIGABRT)
{
    expect_abort();
    freeze();
}

Test(view, dropping_what_is_not_in_the_table_stops_the_process, .signal = SIGABRT)
{
    apply();
    freeze();
    expect_abort();
    views_flushed(views);
}

Test(view, readers_are_limited_and_their_places_used_again)
{
    struct view_reader *readers[VIEW_READERS_MAX];
    readers[0] = reader;
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 1; i < VIEW_READERS_MAX; i++) {
            cr_assert_eq(view_reader_create(views, &readers[i]), TL_OK);
        }
        struct view_reader *one_more;
        cr_assert_eq(view_reader_create(views, &one_more), TL_ERR_FULL);
        for (uint32_t i = 1; i < VIEW_READERS_MAX; i++) view_reader_destroy(readers[i]);
    }
}

static bool stop_after_two(void *context, struct bytes env_key, struct bytes row)
{
    uint32_t *count = context;
    (void)env_key;
    (void)row;
    return ++*count < 2;
}

Test(view, walk_starts_at_the_key_and_stops_when_told)
{
    for (unsigned i = 0; i < 20; i++) apply();
    freeze();
    for (unsigned i = 0; i < 3; i++) apply();
    (void)begin();
    uint32_t count = 0;
    cr_assert_eq(view_walk(reader, bytes_of("r"), false, stop_after_two, &count, &fault), TL_OK);
    cr_assert_eq(count, 2);
    struct walked walked = {.applied = 23, .is_right = true};
    cr_assert_eq(view_walk(reader, bytes_of("rk10"), false, walk_item, &walked, &fault), TL_OK);
    cr_assert_eq(walked.count, 6);
    cr_assert(walked.is_right);
    struct walked back = {.applied = 23, .is_right = true, .is_reverse = true};
    cr_assert_eq(view_walk(reader, bytes_of("rk10"), true, walk_item, &back, &fault), TL_OK);
    cr_assert_eq(back.count, 3 + RING_COUNT - 6, "rk10 and what is behind it are left out");
    cr_assert(back.is_right);
}

Test(view, a_damaged_value_from_the_table_is_not_given_out)
{
    struct generation *generation = generation_create(0);
    uint8_t *room =
        generation_put(generation, 1, bytes_of("ra"), rows_bytes(bytes_of("stone")), 0, false);
    rows_fill(room, 1, bytes_of("stone"));
    room[ROW_HEADER_BYTES] ^= 1; /* as it were flipped on the disk */
    generation_publish(generation, 1);
    struct group_state final = rows_final(1);
    generation_freeze(generation, &final, bytes_make(NULL, 0));
    cr_assert_eq(table_flush(table, generation, &fault), TL_OK);
    generation_destroy(generation);
    close_views();
    open_views();
    (void)begin();
    struct bytes row = {0};
    cr_assert_eq(view_get(reader, bytes_of("ra"), &row, &fault), TL_ERR_CORRUPT);
    cr_assert_null(row.data);
    cr_assert_str_eq(fault.file, dir);
}

Test(view, a_table_that_is_ahead_of_what_was_applied_is_an_error_and_not_a_loop)
{
    struct generation *generation = generation_create(0);
    generation_publish(generation, 9);
    struct group_state final = rows_final(9);
    generation_freeze(generation, &final, bytes_make(NULL, 0));
    cr_assert_eq(table_flush(table, generation, &fault), TL_OK); /* behind the back of the views */
    generation_destroy(generation);
    raft_index applied = 77;
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_ERR_CORRUPT);
    cr_assert_eq(applied, 77);
}

/* ---- The order of a read ------------------------------------------------------------------- */

/* What happens between two steps: a apply, z freeze, f flush, d drop what was flushed, c collect.
 * What cannot be done at that moment is left out. */
static const char *const happenings[] = {"", "a", "aza", "f", "fdca", "azafdca", "zafdcazafdca"};
#define HAPPENINGS_COUNT TL_COUNT_OF(happenings)
#define STEPS_COUNT 5

static const char *plan[STEPS_COUNT]; /* NULL: done already */
static uint32_t rounds_count;
static bool is_flushed; /* and not dropped */

static void happen(char what)
{
    switch (what) {
    case 'a':
        apply();
        break;
    case 'z':
        if (views_frozen_count(views) < VIEW_FROZEN_MAX) freeze();
        break;
    case 'f':
        if (views_frozen_count(views) > 0 && !is_flushed) {
            flush_table();
            is_flushed = true;
        }
        break;
    case 'd':
        if (is_flushed) views_flushed(views);
        is_flushed = false;
        break;
    default:
        views_collect(views);
        break;
    }
}

static void happen_all(const char *what)
{
    while (*what != '\0') happen(*what++);
}

static void on_step(int step)
{
    if (step == 0) rounds_count++;
    const char *what = TL_TAKE(&plan[step]);
    if (what != NULL) happen_all(what);
}

/* One frozen generation, an entry in the active one, then a read with the plan. */
static bool run_plan(const char *const steps[STEPS_COUNT])
{
    happen_all("fdfdcaza");
    memcpy(plan, steps, sizeof plan);
    view_begin_hook = on_step;
    raft_index applied = begin();
    view_begin_hook = NULL;
    bool is_right = is_right_at(reader, applied);
    view_end(reader);
    return is_right;
}

/* Everything that may happen at one step or at two, until a read was wrong. Returns whether one
 * was, and after how many. */
static bool sweep_steps(uint32_t *out_runs_count)
{
    uint32_t runs_count = 0;
    rounds_count = 0;
    for (int first = 0; first < STEPS_COUNT; first++) {
        for (int second = first + 1; second < STEPS_COUNT; second++) {
            for (size_t i = 0; i < HAPPENINGS_COUNT * HAPPENINGS_COUNT; i++) {
                const char *steps[STEPS_COUNT] = {NULL};
                steps[first] = happenings[i / HAPPENINGS_COUNT];
                steps[second] = happenings[i % HAPPENINGS_COUNT];
                bool is_right = run_plan(steps);
                *out_runs_count = ++runs_count;
                if (!is_right) {
                    return true;
                }
            }
        }
    }
    return false;
}

Test(view, no_row_is_lost_whatever_happens_between_two_steps_of_a_read)
{
    uint32_t runs_count;
    cr_assert(!sweep_steps(&runs_count), "wrong in run %u", runs_count);
    cr_assert_gt(rounds_count, runs_count + 50, "reads that had to start over");
}

static void assert_found(enum view_mutation mutation)
{
    uint32_t runs_count;
    view_mutation = mutation;
    bool is_found = sweep_steps(&runs_count);
    view_mutation = VIEW_MUTATION_NONE;
    cr_assert(is_found, "not found in %u runs", runs_count);
}

Test(view, a_transaction_begun_before_the_pin_is_found)
{
    assert_found(VIEW_MUTATION_TRANSACTION_FIRST);
}

Test(view, a_table_ahead_of_the_read_index_is_found)
{
    assert_found(VIEW_MUTATION_NO_INDEX_CHECK);
}

Test(view, a_view_older_than_the_read_index_is_found)
{
    assert_found(VIEW_MUTATION_NO_VIEW_CHECK);
}
