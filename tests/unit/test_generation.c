/* generation: what is promised in generation.h, one test per promise. */

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "trilith/generation.h"
#include "trilith/prng.h"

static struct generation *generation;

static void setup(void)
{
    generation = generation_create(10);
}

static void teardown(void)
{
    generation_destroy(generation);
}

TestSuite(generation, .init = setup, .fini = teardown, .timeout = 20);

static void put_text(raft_index index, const char *key, const char *text)
{
    struct bytes value = bytes_of(text);
    uint8_t *room = generation_put(generation, index, bytes_of(key), value.count, 0, false);
    memcpy(room, value.data, value.count);
}

static void delete (raft_index index, const char *key)
{
    cr_assert_null(generation_put(generation, index, bytes_of(key), 0, 0, true));
}

static void assert_found(const char *key, raft_index at, raft_index index, const char *text)
{
    struct generation_version version;
    cr_assert(generation_find(generation, bytes_of(key), at, &version), "%s at %" PRIu64, key, at);
    cr_assert_eq(version.index, index);
    if (text == NULL) {
        cr_assert_null(version.value.data, "a deletion has no data");
    } else {
        cr_assert(bytes_equal(version.value, bytes_of(text)), "%s at %" PRIu64, key, at);
    }
}

static bool is_found(const char *key, raft_index at)
{
    struct generation_version version;
    return generation_find(generation, bytes_of(key), at, &version);
}

Test(generation, find_returns_the_newest_version_at_or_below_the_index)
{
    put_text(11, "rk", "one");
    put_text(13, "rk", "two");
    delete (15, "rk");
    put_text(16, "rk", "three");

    cr_assert(!is_found("rk", 10), "nothing is said about what was before");
    assert_found("rk", 11, 11, "one");
    assert_found("rk", 12, 11, "one");
    assert_found("rk", 13, 13, "two");
    assert_found("rk", 15, 15, NULL);
    assert_found("rk", UINT64_MAX, 16, "three");
    cr_assert(!is_found("r", UINT64_MAX), "a prefix is another key");
    cr_assert(!is_found("rkk", UINT64_MAX));
}

Test(generation, an_empty_value_is_not_a_deletion)
{
    put_text(11, "rk", "");
    assert_found("rk", 11, 11, "");
}

Test(generation, second_put_of_the_same_entry_replaces_the_first)
{
    put_text(11, "rk", "old");
    generation_publish(generation, 11);
    put_text(12, "rk", "first");
    put_text(12, "rk", "second");
    assert_found("rk", 12, 12, "second");
    assert_found("rk", 11, 11, "old");
    delete (12, "rk");
    assert_found("rk", 12, 12, NULL);
    cr_assert_eq(generation_keys_count(generation), 1);
}

Test(generation, a_value_stays_where_it_is_while_others_are_put)
{
    put_text(11, "rk", "stone");
    struct generation_version version;
    cr_assert(generation_find(generation, bytes_of("rk"), 11, &version));
    for (raft_index index = 12; index < 5000; index++) {
        put_text(index, "rk", "water");
    }
    cr_assert(bytes_equal(version.value, bytes_of("stone")));
}

Test(generation, find_tip_sees_the_entry_at_work)
{
    struct generation_version version;
    cr_assert(!generation_find_tip(generation, bytes_of("rk"), &version));
    put_text(11, "rk", "now");
    cr_assert(generation_find_tip(generation, bytes_of("rk"), &version));
    cr_assert_eq(version.index, 11);
    cr_assert(!generation_find_tip(generation, bytes_of("rj"), &version));
    cr_assert(!generation_find_tip(generation, bytes_of("rl"), &version));
}

#define WALK_ITEMS_MAX 8u

struct seen {
    uint32_t count;
    uint32_t count_max;
    raft_index indexes[WALK_ITEMS_MAX];
    char keys[WALK_ITEMS_MAX][8];
};

static bool see(void *context, struct bytes env_key, const struct generation_version *version)
{
    struct seen *seen = context;
    cr_assert_lt(seen->count, WALK_ITEMS_MAX);
    cr_assert_lt(env_key.count, sizeof seen->keys[0]);
    memcpy(seen->keys[seen->count], env_key.data, env_key.count);
    seen->indexes[seen->count] = version->index;
    seen->count++;
    return seen->count < seen->count_max;
}

Test(generation, walk_gives_every_key_once_in_order_deletions_included)
{
    put_text(11, "rc", "c");
    put_text(12, "ra", "a");
    delete (13, "rb");
    put_text(14, "ra", "a2");
    put_text(15, "rd", "late");

    struct seen seen = {.count_max = WALK_ITEMS_MAX};
    generation_walk(generation, bytes_make(NULL, 0), 14, see, &seen);
    cr_assert_eq(seen.count, 3, "rd is not there at 14");
    cr_assert_str_eq(seen.keys[0], "ra");
    cr_assert_eq(seen.indexes[0], 14);
    cr_assert_str_eq(seen.keys[1], "rb");
    cr_assert_eq(seen.indexes[1], 13);
    cr_assert_str_eq(seen.keys[2], "rc");
}

Test(generation, walk_starts_at_the_key_and_stops_when_told)
{
    put_text(11, "ra", "a");
    put_text(11, "rb", "b");
    put_text(11, "rc", "c");
    struct seen from_b = {.count_max = WALK_ITEMS_MAX};
    generation_walk(generation, bytes_of("rb"), 11, see, &from_b);
    cr_assert_eq(from_b.count, 2);
    cr_assert_str_eq(from_b.keys[0], "rb");
    struct seen one = {.count_max = 1};
    generation_walk(generation, bytes_of("raa"), 11, see, &one);
    cr_assert_eq(one.count, 1);
    cr_assert_str_eq(one.keys[0], "rb");
}

/* Random operations against the plainest thing that can be right: an array of all of them. Sorted
 * runs, the same keys again and look-ups between puts, so that the finger is right sometimes. */
#define MODEL_KEYS_COUNT 400u
#define MODEL_PUTS_COUNT 20000u

static raft_index model[MODEL_KEYS_COUNT][3]; /* the last three indexes of a key, newest first */

static void model_key(uint32_t number, char out_key[16])
{
    (void)snprintf(out_key, 16, "r%05u", number);
}

static void model_put(uint32_t number, raft_index index)
{
    char key[16];
    char text[24];
    model_key(number, key);
    (void)snprintf(text, sizeof text, "%" PRIu64, index);
    put_text(index, key, text);
    if (model[number][0] != index) {
        model[number][2] = model[number][1];
        model[number][1] = model[number][0];
        model[number][0] = index;
    }
}

Test(generation, behaves_as_a_plain_map_of_versions)
{
    struct prng prng;
    prng_init(&prng, 7);
    raft_index index = 10;
    uint32_t number = 0;
    for (uint32_t i = 0; i < MODEL_PUTS_COUNT; i++) {
        if (prng_chance(&prng, 800000)) index++;
        bool is_next = prng_chance(&prng, 300000);
        number = is_next ? (number + 1) % MODEL_KEYS_COUNT
                         : (uint32_t)prng_below(&prng, MODEL_KEYS_COUNT);
        struct generation_version version;
        char key[16];
        model_key(number, key);
        bool is_there = generation_find_tip(generation, bytes_of(key), &version);
        cr_assert_eq(is_there, model[number][0] != 0, "put %u", i);
        if (is_there) cr_assert_eq(version.index, model[number][0], "put %u", i);
        model_put(number, index > 10 ? index : ++index);
    }
    for (number = 0; number < MODEL_KEYS_COUNT; number++) {
        char key[16];
        model_key(number, key);
        for (uint32_t i = 0; i < 3; i++) {
            char text[24];
            (void)snprintf(text, sizeof text, "%" PRIu64, model[number][i]);
            assert_found(key, model[number][i], model[number][i], text);
        }
    }
}

Test(generation, freeze_captures_the_final_state_and_configuration)
{
    put_text(11, "rk", "v");
    generation_publish(generation, 11);
    generation_publish(generation, 12); /* an entry that wrote nothing */
    struct group_state final = {.index = 12, .term = 3, .revision = 7};
    char conf[] = "conf";
    generation_freeze(generation, &final, bytes_of(conf));
    final.term = 0;
    conf[0] = 'x';
    cr_assert(generation_is_frozen(generation));
    cr_assert_eq(generation_first(generation), 10);
    cr_assert_eq(generation_last(generation), 12);
    cr_assert_eq(generation_final(generation)->term, 3);
    cr_assert(bytes_equal(generation_conf(generation), bytes_of("conf")));
    assert_found("rk", 12, 11, "v");
}

Test(generation, put_after_freeze_stops_the_process, .signal = SIGABRT)
{
    generation_publish(generation, 11);
    struct group_state final = {.index = 11};
    generation_freeze(generation, &final, bytes_make(NULL, 0));
    put_text(12, "rk", "v");
}

Test(generation, freeze_at_another_index_stops_the_process, .signal = SIGABRT)
{
    generation_publish(generation, 11);
    struct group_state final = {.index = 12};
    generation_freeze(generation, &final, bytes_make(NULL, 0));
}

Test(generation, put_of_a_published_entry_stops_the_process, .signal = SIGABRT)
{
    generation_publish(generation, 11);
    put_text(11, "rk", "v");
}

static void put_numbered(raft_index index, uint32_t number, size_t value_bytes)
{
    char key[16];
    model_key(number, key);
    (void)generation_put(generation, index, bytes_of(key), value_bytes, 0, false);
}

Test(generation, is_full_at_the_limit_of_rows_and_at_the_scaled_one)
{
    generation_set_leaf_pages(generation, 0);
    for (uint32_t i = 0; i < GENERATION_ROWS_MAX / 2; i++) put_numbered(11, i, 8);
    cr_assert(generation_is_full(generation, 500));
    cr_assert(!generation_is_full(generation, 501));
    for (uint32_t i = 0; i < GENERATION_ROWS_MAX - 1; i++) put_numbered(12, i, 8);
    cr_assert(!generation_is_full(generation, 1000));
    put_numbered(12, GENERATION_ROWS_MAX, 8);
    cr_assert(generation_is_full(generation, 1000));
    put_numbered(12, GENERATION_ROWS_MAX + 1, 8); /* goes on: an entry is never split */
}

Test(generation, overwrites_of_one_key_count_in_bytes)
{
    uint32_t puts_count = 0;
    while (!generation_is_full(generation, 1000)) {
        put_numbered(11 + puts_count, 1, 1000);
        puts_count++;
    }
    cr_assert_eq(generation_keys_count(generation), 1);
    cr_assert_geq(generation_bytes(generation), GENERATION_BYTES_MAX);
    cr_assert_leq((size_t)puts_count * 1000, GENERATION_BYTES_MAX);
    cr_assert_geq((size_t)puts_count * 1000, GENERATION_BYTES_MAX / 10 * 9);
    cr_assert_leq(generation_pages(generation), 3, "a flush writes the newest only");
}

Test(generation, pages_are_a_leaf_for_each_row_but_no_more_than_the_table_has)
{
    for (uint32_t i = 0; i < 1000; i++) put_numbered(11, i, 8);
    cr_assert_geq(generation_pages(generation), 1000, "unknown table");
    generation_set_leaf_pages(generation, 1000);
    cr_assert_geq(generation_pages(generation), 632, "some rows share a leaf: 1000 (1 - 1/e)");
    cr_assert_leq(generation_pages(generation), 632 * 11 / 10 + 1000 * 32 / 2048);
    generation_set_leaf_pages(generation, 100);
    cr_assert_geq(generation_pages(generation), 100);
    cr_assert_leq(generation_pages(generation), 100 + 1000 * 32 / 2048 + 1);
}

static uint8_t *overwrite_numbered(raft_index index, uint32_t number, size_t value_bytes,
                                   size_t replaced_bytes)
{
    char key[16];
    model_key(number, key);
    return generation_put(generation, index, bytes_of(key), value_bytes, replaced_bytes, false);
}

Test(generation, pages_of_overwrites_are_the_leaves_they_are_on)
{
    generation_set_leaf_pages(generation, 100);
    for (uint32_t i = 0; i < 1000; i++) (void)overwrite_numbered(11, i, 300, 300);
    cr_assert_eq(generation_pages(generation), 100, "as long as before, or shorter: no new leaves");
    for (uint32_t i = 0; i < 1000; i++) (void)overwrite_numbered(12, i, 200, 300);
    cr_assert_eq(generation_pages(generation), 100);
    for (uint32_t i = 0; i < 1000; i++) (void)overwrite_numbered(13, i, 400, 200);
    cr_assert_eq(generation_pages(generation), 100 + 1000 * 100 / 2048, "what grew may split them");
    for (uint32_t i = 1000; i < 2000; i++) (void)overwrite_numbered(14, i, 5000, 5000);
    cr_assert_eq(generation_pages(generation), 100 + 1000 * 100 / 2048 + 1000 * 2,
                 "overflow pages are always new");
}

Test(generation, pages_count_large_values_by_their_overflow_pages)
{
    generation_set_leaf_pages(generation, 0);
    put_numbered(11, 1, 1024u * 1024u);
    cr_assert_eq(generation_pages(generation), 257, "1 MiB and a page header");
    put_numbered(12, 1, 8);
    cr_assert_eq(generation_pages(generation), 0, "overwritten by a small one");
    uint32_t number = 0;
    while (!generation_is_full(generation, 1000)) put_numbered(13, number++, 2500);
    cr_assert_lt(number, 16384);
    cr_assert_gt(number, 8000);
}

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert_not_null(file);
    unsigned long total;
    unsigned long resident;
    int fields = fscanf(file, "%lu %lu", &total, &resident);
    cr_assert_eq(fields, 2);
    (void)fclose(file);
    return (size_t)resident * 4096;
}

static struct generation *filled(void)
{
    struct generation *full = generation_create(1);
    for (uint32_t i = 0; !generation_is_full(full, 1000); i++) {
        uint8_t *room = generation_put(full, 2, bytes_make(&i, sizeof i), 4000, 0, false);
        memset(room, 'x', 4000);
    }
    return full;
}

static void fill(void)
{
    generation_destroy(generation);
    generation = filled();
}

Test(generation, memory_does_not_grow_with_the_number_of_generations)
{
    fill();
    fill();
    size_t before = resident_bytes();
    for (uint32_t i = 0; i < 20; i++) fill();
    size_t after = resident_bytes();
    cr_assert_leq(after, before + 4u * 1024u * 1024u, "%zu -> %zu bytes", before, after);
}

Test(generation, memory_of_more_than_one_generation_is_given_back)
{
    size_t before = resident_bytes();
    struct generation *generations[3];
    for (uint32_t i = 0; i < 3; i++) generations[i] = filled();
    cr_assert_geq(resident_bytes(), before + 3 * (GENERATION_BYTES_MAX / 10 * 9));
    for (uint32_t i = 0; i < 3; i++) generation_destroy(generations[i]);
    cr_assert_leq(resident_bytes(), before + GENERATION_BYTES_MAX + 4u * 1024u * 1024u);
}
