/* scan: pages against a sorted array, over generations and table. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "rows.h"
#include "tmpdir.h"
#include "trilith/prng.h"
#include "trilith/scan.h"

#define KEYS_MAX 400u
#define PAGE_ROWS_MAX 1000u

static char dir[TMPDIR_PATH_BYTES_MAX];
static struct table *table;
static struct views *views;
static struct view_reader *reader;
static struct tl_fault fault;

/* The rows there are, in key order. */
struct item {
    uint8_t key[ENV_KEY_BYTES_MAX]; /* the user's */
    size_t key_bytes;
    raft_index index; /* of the last write; also the value */
};
static struct item model[KEYS_MAX];
static size_t model_count;

static void setup(void)
{
    tmpdir_create(dir);
    struct table_options options = {
        .dir = dir, .group = 1, .map_bytes = 64u * 1024u * 1024u, .readers_max = 4};
    cr_assert_eq(table_open(&options, &table, &fault), TL_OK, "%s", fault.reason);
    views = views_create(table);
    cr_assert_eq(view_reader_create(views, &reader), TL_OK);
    model_count = 0;
}

static void teardown(void)
{
    view_reader_destroy(TL_TAKE(&reader));
    views_destroy(TL_TAKE(&views));
    table_close(TL_TAKE(&table));
    tmpdir_destroy(dir);
}

TestSuite(scan, .init = setup, .fini = teardown, .timeout = 60);

static struct bytes item_key(const struct item *item)
{
    return bytes_make(item->key, item->key_bytes);
}

/* ---- writing ---- */

static size_t model_find(struct bytes key)
{
    size_t at = 0;
    while (at < model_count && bytes_compare(item_key(&model[at]), key) < 0) at++;
    return at;
}

static void model_change(struct bytes key, raft_index index, bool is_deletion)
{
    size_t at = model_find(key);
    bool is_there = at < model_count && bytes_equal(item_key(&model[at]), key);
    size_t tail = (model_count - at) * sizeof model[0];
    if (is_deletion) {
        if (!is_there) return;
        model_count--;
        memmove(&model[at], &model[at + 1], tail - sizeof model[0]);
        return;
    }
    if (!is_there) {
        cr_assert_lt(model_count, KEYS_MAX);
        memmove(&model[at + 1], &model[at], tail);
        model_count++;
        memcpy(model[at].key, key.data, key.count);
        model[at].key_bytes = key.count;
    }
    model[at].index = index;
}

/* One entry: a row, or its deletion. */
static void change(struct bytes key, struct bytes value, bool is_deletion)
{
    raft_index index = views_applied(views) + 1;
    struct generation *active = views_active(views);
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct bytes env_key = env_key_make(ENV_KEY_ROW, key, room);
    size_t bytes = is_deletion ? 0 : rows_bytes(value);
    uint8_t *row = generation_put(active, index, env_key, bytes, 0, is_deletion);
    if (!is_deletion) rows_fill(row, index, value);
    generation_publish(active, index);
    views_publish(views, index);
    model_change(key, index, is_deletion);
}

static void put(const char *key, const char *value)
{
    change(bytes_of(key), bytes_of(value), false);
}

static void freeze(void)
{
    struct group_state final = rows_final(views_applied(views));
    views_freeze(views, &final, bytes_of("conf"));
}

static void flush(void)
{
    cr_assert_eq(table_flush(table, views_oldest_frozen(views), &fault), TL_OK, "%s", fault.reason);
    views_flushed(views);
}

/* ---- reading ---- */

struct seen {
    struct item items[PAGE_ROWS_MAX];
    size_t count;
    size_t value_bytes;
    uint32_t looks_count; /* at the clock */
    uint32_t looks_max;   /* then the time is up */
};
static struct seen seen;

static void on_row(void *context, struct bytes key, const struct row_header *header,
                   struct bytes value)
{
    struct seen *to = context;
    struct item *item = &to->items[to->count++];
    memcpy(item->key, key.data, key.count);
    item->key_bytes = key.count;
    item->index = header->revision;
    to->value_bytes += value.count;
}

static bool is_time_up(void *context)
{
    struct seen *of = context;
    return ++of->looks_count >= of->looks_max;
}

static struct scan_page page_of(struct scan_range range, uint32_t rows_max)
{
    seen.count = 0;
    seen.value_bytes = 0;
    return (struct scan_page){.range = range,
                              .rows_max = rows_max,
                              .bytes_max = SIZE_MAX,
                              .on_row = on_row,
                              .context = &seen};
}

static void run(struct scan_page *page)
{
    raft_index applied;
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_OK);
    cr_assert_eq(scan_run(reader, page, &fault), TL_OK, "%s", fault.reason);
    view_end(reader);
}

static bool is_wanted(const struct scan_range *range, struct bytes key)
{
    bool is_behind =
        range->after.count == 0 || (range->is_reverse ? bytes_compare(key, range->after) < 0
                                                      : bytes_compare(key, range->after) > 0);
    return is_behind && key.count >= range->prefix.count &&
           memcmp(key.data, range->prefix.data != NULL ? range->prefix.data : (const uint8_t *)"",
                  range->prefix.count) == 0 &&
           bytes_compare(key, range->start) >= 0 &&
           (range->end.count == 0 || bytes_compare(key, range->end) < 0);
}

/* The rows of the range in the scan's order. */
static size_t expected_rows(const struct scan_range *range, const struct item *out_items[KEYS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < model_count; i++) {
        const struct item *item = &model[range->is_reverse ? model_count - 1 - i : i];
        if (is_wanted(range, item_key(item))) out_items[count++] = item;
    }
    return count;
}

/* Reads the range page by page and holds every row against the model. */
static void assert_scan_is_right(const struct scan_range *range, uint32_t rows_max, bool is_pressed)
{
    static const struct item *expected[KEYS_MAX];
    size_t expected_count = expected_rows(range, expected);
    uint8_t after[KEY_BYTES_MAX];
    struct scan_range rest = *range;
    size_t at = 0;
    for (uint32_t pages_count = 0;; pages_count++) {
        cr_assert_leq(pages_count, 2 * KEYS_MAX, "no progress");
        struct scan_page page = page_of(rest, rows_max);
        seen.looks_count = 0;
        seen.looks_max = 1;
        if (is_pressed) page.is_time_up = is_time_up;
        run(&page);
        cr_assert_eq(page.rows_count, seen.count);
        cr_assert_leq(seen.count, rows_max);
        for (size_t i = 0; i < seen.count; i++, at++) {
            cr_assert_lt(at, expected_count);
            cr_assert(bytes_equal(item_key(&seen.items[i]), item_key(expected[at])));
            cr_assert_eq(seen.items[i].index, expected[at]->index);
        }
        if (!is_pressed) cr_assert_eq(page.is_last, at == expected_count);
        if (page.is_last) break;
        memcpy(after, page.next, page.next_bytes);
        rest.after = bytes_make(after, page.next_bytes);
    }
    cr_assert_eq(at, expected_count);
}

/* ---- the tests ---- */

/* Few bytes, so that prefixes meet keys; the last ones are those that a successor has to step over.
 */
static struct bytes random_key(struct prng *prng, uint8_t room[KEY_BYTES_MAX], size_t bytes_max)
{
    static const uint8_t alphabet[] = {0, 'a', 'b', 0xfe, 0xff};
    size_t count = prng_between(prng, 1, bytes_max);
    if (prng_chance(prng, 5000)) count = KEY_BYTES_MAX;
    for (size_t i = 0; i < count; i++) {
        room[i] = alphabet[prng_below(prng, sizeof alphabet)];
    }
    return bytes_make(room, count);
}

static void random_changes(struct prng *prng, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t room[KEY_BYTES_MAX];
        struct bytes key = random_key(prng, room, 3);
        change(key, bytes_of("value"), prng_chance(prng, 300000));
        if (prng_chance(prng, 30000) && views_frozen_count(views) < VIEW_FROZEN_MAX) freeze();
        if (prng_chance(prng, 20000) && views_frozen_count(views) > 0) flush();
    }
}

Test(scan, every_range_in_both_directions_is_the_models)
{
    struct prng prng;
    prng_init(&prng, 1);
    for (uint32_t round = 0; round < 300; round++) {
        random_changes(&prng, 40);
        uint8_t rooms[4][KEY_BYTES_MAX];
        struct scan_range range = {.is_reverse = prng_chance(&prng, 500000)};
        if (prng_chance(&prng, 500000)) range.prefix = random_key(&prng, rooms[0], 2);
        if (prng_chance(&prng, 400000)) range.start = random_key(&prng, rooms[1], 3);
        if (prng_chance(&prng, 400000)) range.end = random_key(&prng, rooms[2], 3);
        if (prng_chance(&prng, 300000)) range.after = random_key(&prng, rooms[3], 3);
        uint32_t rows_max = (uint32_t)prng_between(&prng, 1, 30);
        assert_scan_is_right(&range, rows_max, prng_chance(&prng, 300000));
    }
}

Test(scan, an_empty_store_has_one_page_and_it_is_the_last)
{
    for (int is_reverse = 0; is_reverse <= 1; is_reverse++) {
        struct scan_page page = page_of((struct scan_range){.is_reverse = is_reverse}, 10);
        run(&page);
        cr_assert_eq(page.rows_count, 0);
        cr_assert(page.is_last);
    }
}

Test(scan, a_full_page_at_the_end_of_the_range_is_the_last)
{
    put("a", "1");
    put("b", "2");
    put("c", "3");
    struct scan_page page = page_of((struct scan_range){.end = bytes_of("c")}, 2);
    run(&page);
    cr_assert_eq(page.rows_count, 2);
    cr_assert(page.is_last);
    page = page_of((struct scan_range){.prefix = {0}}, 2);
    run(&page);
    cr_assert_not(page.is_last);
    cr_assert(bytes_equal(bytes_make(page.next, page.next_bytes), bytes_of("b")));
}

Test(scan, a_page_ends_behind_the_row_that_fills_it)
{
    put("a", "12345");
    put("b", "12345");
    put("c", "12345");
    struct scan_page page = page_of((struct scan_range){.prefix = {0}}, 10);
    page.bytes_max = 12;
    run(&page);
    cr_assert_eq(page.rows_count, 2);
    cr_assert_not(page.is_last);
    page.bytes_max = 1;
    seen.count = 0;
    run(&page);
    cr_assert_eq(page.rows_count, 1, "whatever its size");
}

Test(scan, without_values_they_take_no_room)
{
    put("a", "12345");
    put("b", "12345");
    struct scan_page page = page_of((struct scan_range){.prefix = {0}}, 10);
    page.has_no_values = true;
    page.bytes_max = 2;
    run(&page);
    cr_assert_eq(page.rows_count, 2);
    cr_assert_eq(seen.value_bytes, 0);
}

Test(scan, without_a_callback_rows_are_counted)
{
    struct prng prng;
    prng_init(&prng, 2);
    random_changes(&prng, 300);
    struct scan_page page = page_of((struct scan_range){.prefix = bytes_of("a")}, UINT32_MAX);
    static const struct item *expected[KEYS_MAX];
    page.on_row = NULL;
    run(&page);
    cr_assert_eq(page.rows_count, expected_rows(&page.range, expected));
    cr_assert_gt(page.rows_count, 10);
}

Test(scan, deleted_keys_take_time_but_are_not_seen)
{
    char key[8];
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof key, "k%02u", i);
        put(key, "v");
        change(bytes_of(key), bytes_make(NULL, 0), true);
    }
    struct scan_page page = page_of((struct scan_range){.prefix = {0}}, 10);
    page.is_time_up = is_time_up;
    seen.looks_count = 0;
    seen.looks_max = 3;
    run(&page);
    cr_assert_eq(page.rows_count, 0);
    cr_assert_not(page.is_last, "there may be rows behind");
    cr_assert(bytes_equal(bytes_make(page.next, page.next_bytes), bytes_of("k47")));
}

Test(scan, other_kinds_of_keys_are_not_rows)
{
    raft_index index = views_applied(views) + 1;
    (void)generation_put(views_active(views), index, bytes_of("q1234567"), 0, 0, true);
    (void)generation_put(views_active(views), index, bytes_of("s1234567"), 0, 0, true);
    generation_publish(views_active(views), index);
    views_publish(views, index);
    put("a", "1");
    freeze();
    flush();
    for (int is_reverse = 0; is_reverse <= 1; is_reverse++) {
        struct scan_page page = page_of((struct scan_range){.is_reverse = is_reverse}, 10);
        run(&page);
        cr_assert_eq(page.rows_count, 1);
        cr_assert(page.is_last);
    }
}

Test(scan, a_damaged_value_is_not_given_out)
{
    put("a", "1");
    raft_index index = views_applied(views) + 1;
    uint8_t *row = generation_put(views_active(views), index, bytes_of("rb"),
                                  rows_bytes(bytes_of("stone")), 0, false);
    rows_fill(row, index, bytes_of("stone"));
    row[ROW_HEADER_BYTES] ^= 1;
    generation_publish(views_active(views), index);
    views_publish(views, index);
    freeze();
    flush();
    raft_index applied;
    struct scan_page page = page_of((struct scan_range){.prefix = {0}}, 10);
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_OK);
    cr_assert_eq(scan_run(reader, &page, &fault), TL_ERR_CORRUPT);
    cr_assert_eq(seen.count, 1);
    page.has_no_values = true;
    cr_assert_eq(scan_run(reader, &page, &fault), TL_OK, "the header is right");
    view_end(reader);
}

Test(scan, a_range_without_bounds_is_all)
{
    cr_assert(scan_range_is_all(&(struct scan_range){.is_reverse = true}));
    cr_assert_not(scan_range_is_all(&(struct scan_range){.prefix = bytes_of("a")}));
    cr_assert_not(scan_range_is_all(&(struct scan_range){.start = bytes_of("a")}));
    cr_assert_not(scan_range_is_all(&(struct scan_range){.end = bytes_of("a")}));
    cr_assert_not(scan_range_is_all(&(struct scan_range){.after = bytes_of("a")}));
}
