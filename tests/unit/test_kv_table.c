/* kv_table: what is promised in kv_table.h, one test per promise. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

#include "rows.h"
#include "tmpdir.h"
#include "trilith/kv_table.h"

static char dir[TMPDIR_PATH_BYTES_MAX];
static struct table *table;
static struct views *views;
static struct kv_table *rows;
static struct tl_fault fault;

static void open_all(void)
{
    struct table_options options = {
        .dir = dir,
        .group = 5,
        .map_bytes = 64u * 1024u * 1024u,
        .readers_max = 4,
    };
    cr_assert_eq(table_open(&options, &table, &fault), TL_OK, "%s", fault.reason);
    views = views_create(table);
    cr_assert_eq(kv_table_create(views, &rows), TL_OK);
}

static void close_all(void)
{
    kv_table_destroy(TL_TAKE(&rows));
    views_destroy(TL_TAKE(&views));
    table_close(TL_TAKE(&table));
}

static void setup(void)
{
    tmpdir_create(dir);
    open_all();
}

static void teardown(void)
{
    close_all();
    tmpdir_destroy(dir);
}

TestSuite(kv_table, .init = setup, .fini = teardown, .timeout = 20);

static void begin(void)
{
    cr_assert_eq(kv_table_begin(rows), TL_OK, "%s", kv_table_fault(rows)->reason);
}

static void put(raft_index index, const char *key, const char *text)
{
    struct bytes value = bytes_of(text);
    rows_fill(kv_table_put(rows, index, bytes_of(key), rows_bytes(value), 0), index, value);
}

static void freeze(void)
{
    struct group_state final = rows_final(views_applied(views));
    views_freeze(views, &final, bytes_make(NULL, 0));
}

static void flush(void)
{
    cr_assert_eq(table_flush(table, views_oldest_frozen(views), &fault), TL_OK);
    views_flushed(views);
}

static struct bytes get(const char *key)
{
    struct bytes row = {0};
    cr_assert_eq(kv_table_get(rows, bytes_of(key), &row), TL_OK, "%s", key);
    return rows_value(row);
}

static void assert_absent(const char *key)
{
    struct bytes row;
    cr_assert_eq(kv_table_get(rows, bytes_of(key), &row), TL_ERR_NOT_FOUND, "%s", key);
}

Test(kv_table, get_sees_the_newest_of_table_frozen_and_active)
{
    begin();
    put(1, "ra", "table");
    put(1, "rb", "table");
    put(1, "rc", "table");
    put(1, "rd", "table");
    kv_table_publish(rows, 1);
    kv_table_end(rows);
    freeze();
    flush();
    begin();
    put(2, "rb", "frozen");
    put(2, "rc", "frozen");
    kv_table_delete(rows, 2, bytes_of("rd"));
    kv_table_publish(rows, 2);
    kv_table_end(rows);
    freeze();
    begin();
    put(3, "rc", "active");
    put(3, "re", "active");

    cr_assert(bytes_equal(get("ra"), bytes_of("table")));
    cr_assert(bytes_equal(get("rb"), bytes_of("frozen")));
    cr_assert(bytes_equal(get("rc"), bytes_of("active")), "this entry's own put");
    cr_assert(bytes_equal(get("re"), bytes_of("active")));
    assert_absent("rd");
    assert_absent("rf");
    kv_table_delete(rows, 3, bytes_of("rc"));
    assert_absent("rc");
    kv_table_publish(rows, 3);
    kv_table_end(rows);
}

Test(kv_table, a_value_stays_until_the_end_of_the_batch)
{
    begin();
    put(1, "ra", "stone");
    put(1, "rb", "stone");
    kv_table_publish(rows, 1);
    kv_table_end(rows);
    freeze();
    flush();
    begin();
    put(2, "rb", "wood");
    struct bytes from_table = get("ra");
    struct bytes from_memory = get("rb");
    for (raft_index index = 3; index < 2000; index++) {
        kv_table_publish(rows, index - 1);
        put(index, "ra", "water");
        put(index, "rb", "water");
    }
    cr_assert(bytes_equal(from_table, bytes_of("stone")));
    cr_assert(bytes_equal(from_memory, bytes_of("wood")));
    kv_table_publish(rows, 1999);
    kv_table_end(rows);
}

Test(kv_table, readers_see_an_entry_only_when_it_is_published)
{
    struct view_reader *reader;
    raft_index applied;
    struct bytes row;
    cr_assert_eq(view_reader_create(views, &reader), TL_OK);
    begin();
    put(1, "ra", "one");
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_OK);
    cr_assert_eq(applied, 0);
    cr_assert_eq(view_get(reader, bytes_of("ra"), &row, &fault), TL_ERR_NOT_FOUND);
    view_end(reader);
    kv_table_publish(rows, 1);
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_OK);
    cr_assert_eq(applied, 1);
    cr_assert_eq(view_get(reader, bytes_of("ra"), &row, &fault), TL_OK);
    view_end(reader);
    kv_table_end(rows);
    view_reader_destroy(reader);
}

Test(kv_table, a_freeze_within_a_batch_hides_nothing)
{
    begin();
    put(1, "ra", "one");
    kv_table_publish(rows, 1);
    freeze();
    cr_assert(bytes_equal(get("ra"), bytes_of("one")));
    put(2, "rb", "two");
    kv_table_publish(rows, 2);
    freeze();
    cr_assert(bytes_equal(get("ra"), bytes_of("one")));
    cr_assert(bytes_equal(get("rb"), bytes_of("two")));
    kv_table_end(rows);
}

/* The flusher's commit may come at any time; that it is known comes between batches. */
Test(kv_table, a_flush_within_a_batch_hides_nothing)
{
    begin();
    put(1, "ra", "one");
    kv_table_publish(rows, 1);
    freeze();
    cr_assert_eq(table_flush(table, views_oldest_frozen(views), &fault), TL_OK);
    cr_assert(bytes_equal(get("ra"), bytes_of("one")), "not in the batch's transaction");
    kv_table_end(rows);
    begin();
    cr_assert(bytes_equal(get("ra"), bytes_of("one")), "flushed and not dropped");
    kv_table_end(rows);
    views_flushed(views);
    begin();
    cr_assert(bytes_equal(get("ra"), bytes_of("one")));
    kv_table_end(rows);
}

Test(kv_table, dropping_a_generation_within_a_batch_stops_the_process, .signal = SIGABRT)
{
    begin();
    put(1, "ra", "one");
    kv_table_publish(rows, 1);
    freeze();
    cr_assert_eq(table_flush(table, views_oldest_frozen(views), &fault), TL_OK);
    tmpdir_destroy(dir); /* nobody else will: the process ends here */
    views_flushed(views);
}

Test(kv_table, a_damaged_row_is_an_error_with_its_fault)
{
    begin();
    uint8_t *room = kv_table_put(rows, 1, bytes_of("ra"), rows_bytes(bytes_of("one")), 0);
    rows_fill(room, 1, bytes_of("one"));
    room[20] ^= 1; /* as it were flipped on the disk */
    kv_table_publish(rows, 1);
    kv_table_end(rows);
    freeze();
    flush();
    begin();
    struct bytes row = {0};
    cr_assert_eq(kv_table_get(rows, bytes_of("ra"), &row), TL_ERR_CORRUPT);
    cr_assert_null(row.data);
    cr_assert_str_eq(kv_table_fault(rows)->file, dir);
    cr_assert_eq(kv_table_fault(rows)->group, 5);
    kv_table_end(rows);
}

Test(kv_table, a_table_that_is_ahead_is_refused)
{
    struct generation *generation = generation_create(0);
    generation_publish(generation, 9);
    struct group_state final = rows_final(9);
    generation_freeze(generation, &final, bytes_make(NULL, 0));
    cr_assert_eq(table_flush(table, generation, &fault), TL_OK); /* behind the back of the views */
    generation_destroy(generation);
    cr_assert_eq(kv_table_begin(rows), TL_ERR_CORRUPT);
    cr_assert_eq(kv_table_fault(rows)->group, 5);
}
