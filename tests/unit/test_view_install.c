/* view: what is promised of views_install() in view.h, one test per promise. */

#include <criterion/criterion.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "rows.h"
#include "tmpdir.h"
#include "trilith/kv_table.h"

#define INSTALLED_INDEX 50u

static char dir[TMPDIR_PATH_BYTES_MAX];
static struct table *tables[4];
static struct views *views;
static struct view_reader *reader;
static struct tl_fault fault;

/* A table in which "ra" was put by entry `index`, the last one. */
static struct table *table_at(uint32_t number, raft_index index)
{
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/%u", dir, number);
    cr_assert_eq(mkdir(path, 0700), 0);
    const struct table_options options = {
        .dir = path, .group = 1, .map_bytes = 64u << 20, .readers_max = 4};
    cr_assert_eq(table_open(&options, &tables[number], &fault), TL_OK, "%s", fault.reason);
    if (index > 0) {
        struct generation *generation = generation_create(0);
        rows_put(generation, index, "ra", bytes_make(&index, sizeof index));
        rows_put(generation, index, "rnew", bytes_make(&index, sizeof index));
        generation_publish(generation, index);
        struct group_state final = rows_final(index);
        generation_freeze(generation, &final, bytes_make(NULL, 0));
        cr_assert_eq(table_flush(tables[number], generation, &fault), TL_OK);
        generation_destroy(generation);
    }
    return tables[number];
}

static void apply(void)
{
    raft_index index = views_applied(views) + 1;
    rows_put(views_active(views), index, "ra", bytes_make(&index, sizeof index));
    rows_put(views_active(views), index, "rold", bytes_make(&index, sizeof index));
    generation_publish(views_active(views), index);
    views_publish(views, index);
}

static void setup(void)
{
    tmpdir_create(dir);
    views = views_create(table_at(0, 0));
    cr_assert_eq(view_reader_create(views, &reader), TL_OK);
    apply();
    apply();
}

static void teardown(void)
{
    view_begin_hook = NULL;
    view_reader_destroy(TL_TAKE(&reader));
    if (views != NULL) {
        views_collect(views);
        while (views_take_retired(views) != NULL) continue;
    }
    views_destroy(TL_TAKE(&views));
    for (size_t i = 0; i < TL_COUNT_OF(tables); i++) table_close(TL_TAKE(&tables[i]));
    tmpdir_destroy(dir);
}

TestSuite(view_install, .init = setup, .fini = teardown, .timeout = 60);

/* The index under a key; 0: absent. */
static raft_index look(struct view_reader *from, const char *key)
{
    struct bytes row;
    enum tl_err err = view_get(from, bytes_of(key), &row, &fault);
    if (err == TL_ERR_NOT_FOUND) return 0;
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
    raft_index index;
    memcpy(&index, rows_value(row).data, sizeof index);
    return index;
}

static raft_index begin(struct view_reader *from)
{
    raft_index applied = 0;
    cr_assert_eq(view_begin(from, &applied, &fault), TL_OK, "%s", fault.reason);
    return applied;
}

static void assert_sees_installed(struct view_reader *from)
{
    cr_assert_eq(begin(from), INSTALLED_INDEX);
    cr_assert_eq(look(from, "ra"), INSTALLED_INDEX);
    cr_assert_eq(look(from, "rnew"), INSTALLED_INDEX);
    cr_assert_eq(look(from, "rold"), 0, "generations are gone");
    view_end(from);
}

static void assert_sees_old(struct view_reader *from)
{
    cr_assert_eq(look(from, "ra"), 2);
    cr_assert_eq(look(from, "rold"), 2);
    cr_assert_eq(look(from, "rnew"), 0);
}

Test(view_install, readers_see_the_installed_table_at_its_index)
{
    views_install(views, table_at(1, INSTALLED_INDEX));
    cr_assert_eq(views_applied(views), INSTALLED_INDEX);
    cr_assert_eq(views_base(views), INSTALLED_INDEX);
    cr_assert_eq(views_frozen_count(views), 0);
    assert_sees_installed(reader);
}

Test(view_install, frozen_generations_are_dropped_too)
{
    struct group_state final = rows_final(2);
    views_freeze(views, &final, bytes_make(NULL, 0));
    apply();
    views_install(views, table_at(1, INSTALLED_INDEX));
    cr_assert_null(views_oldest_frozen(views));
    assert_sees_installed(reader);
}

Test(view_install, a_read_under_way_ends_on_what_it_has_pinned)
{
    cr_assert_eq(begin(reader), 2);
    views_install(views, table_at(1, INSTALLED_INDEX));
    views_collect(views);
    cr_assert_null(views_take_retired(views));
    assert_sees_old(reader);
    view_end(reader);
    assert_sees_installed(reader);
}

Test(view_install, apply_goes_on_behind_it)
{
    views_install(views, table_at(1, INSTALLED_INDEX));
    apply();
    cr_assert_eq(begin(reader), INSTALLED_INDEX + 1);
    cr_assert_eq(look(reader, "ra"), INSTALLED_INDEX + 1);
    cr_assert_eq(look(reader, "rnew"), INSTALLED_INDEX);
    view_end(reader);
    struct group_state final = rows_final(INSTALLED_INDEX + 1);
    views_freeze(views, &final, bytes_make(NULL, 0));
    cr_assert_eq(table_flush(tables[1], views_oldest_frozen(views), &fault), TL_OK);
    views_flushed(views);
    cr_assert_eq(views_base(views), INSTALLED_INDEX + 1);
    cr_assert_eq(begin(reader), INSTALLED_INDEX + 1);
    cr_assert_eq(look(reader, "ra"), INSTALLED_INDEX + 1);
    view_end(reader);
}

Test(view_install, the_old_table_is_given_back_when_its_last_reader_is_gone)
{
    struct view_reader *other = NULL;
    cr_assert_eq(view_reader_create(views, &other), TL_OK);
    cr_assert_eq(begin(other), 2);
    views_install(views, table_at(1, INSTALLED_INDEX));
    views_collect(views);
    cr_assert_null(views_take_retired(views), "it is being read");
    view_end(other);
    cr_assert_null(views_take_retired(views), "the pinned view still names it");
    views_collect(views);
    cr_assert_eq(views_take_retired(views), tables[0], "idle readers do not hold it");
    cr_assert_null(views_take_retired(views));
    table_close(TL_TAKE(&tables[0]));
    assert_sees_installed(reader);
    assert_sees_installed(other);
    view_reader_destroy(other);
}

Test(view_install, a_table_read_by_a_snapshot_is_not_given_back)
{
    struct table_reader *cut = NULL;
    cr_assert_eq(table_reader_create(tables[0], &cut), TL_OK);
    views_install(views, table_at(1, INSTALLED_INDEX));
    views_collect(views);
    cr_assert_null(views_take_retired(views));
    table_reader_destroy(cut);
    cr_assert_eq(views_take_retired(views), tables[0]);
}

Test(view_install, several_tables_may_wait_for_their_readers)
{
    struct view_reader *other = NULL;
    cr_assert_eq(view_reader_create(views, &other), TL_OK);
    cr_assert_eq(begin(reader), 2);
    views_install(views, table_at(1, INSTALLED_INDEX));
    cr_assert_eq(begin(other), INSTALLED_INDEX);
    views_install(views, table_at(2, INSTALLED_INDEX + 10));
    views_collect(views);
    cr_assert_null(views_take_retired(views));
    assert_sees_old(reader);
    cr_assert_eq(look(other, "rnew"), INSTALLED_INDEX);
    view_end(other);
    views_collect(views);
    cr_assert_eq(views_take_retired(views), tables[1]);
    cr_assert_null(views_take_retired(views));
    view_end(reader);
    views_collect(views);
    cr_assert_eq(views_take_retired(views), tables[0]);
    cr_assert_eq(begin(reader), INSTALLED_INDEX + 10);
    view_end(reader);
    view_reader_destroy(other);
}

Test(view_install, a_reader_made_after_it_reads_the_new_table)
{
    views_install(views, table_at(1, INSTALLED_INDEX));
    struct view_reader *other = NULL;
    cr_assert_eq(view_reader_create(views, &other), TL_OK);
    assert_sees_installed(other);
    view_reader_destroy(other);
}

Test(view_install, a_new_table_without_room_for_readers_is_told)
{
    struct view_reader *others[4];
    struct table *installed = table_at(1, INSTALLED_INDEX);
    struct table_reader *taken[4];
    for (int i = 0; i < 4; i++) cr_assert_eq(table_reader_create(installed, &taken[i]), TL_OK);
    views_install(views, installed);
    raft_index applied;
    cr_assert_eq(view_begin(reader, &applied, &fault), TL_ERR_FULL);
    cr_assert_eq(view_reader_create(views, &others[0]), TL_ERR_FULL);
    for (int i = 0; i < 4; i++) table_reader_destroy(taken[i]);
    assert_sees_installed(reader);
}

Test(view_install, apply_reads_the_new_table)
{
    struct kv_table *kv = NULL;
    cr_assert_eq(kv_table_create(views, &kv), TL_OK);
    kv_table_destroy(kv);
    views_install(views, table_at(1, INSTALLED_INDEX));
    cr_assert_eq(kv_table_create(views, &kv), TL_OK);
    cr_assert_eq(kv_table_begin(kv), TL_OK);
    struct bytes row;
    cr_assert_eq(kv_table_get(kv, bytes_of("rnew"), &row), TL_OK);
    cr_assert_eq(kv_table_get(kv, bytes_of("rold"), &row), TL_ERR_NOT_FOUND);
    kv_table_end(kv);
    kv_table_destroy(kv);
}

/* ---- between two steps of a read ---- */

static int install_at_step;

static void install_at(int step)
{
    if (step != install_at_step) return;
    view_begin_hook = NULL;
    views_install(views, tables[1]);
    views_collect(views);
    (void)views_take_retired(views); /* takes idle transactions away too */
}

Test(view_install, whatever_step_of_a_read_it_meets_the_read_is_whole)
{
    bool has_seen_old = false;
    bool has_seen_new = false;
    for (install_at_step = 0; install_at_step <= 4; install_at_step++) {
        if (install_at_step > 0) {
            teardown();
            setup();
        }
        (void)table_at(1, INSTALLED_INDEX);
        view_begin_hook = install_at;
        raft_index applied = begin(reader);
        cr_assert_eq(views_applied(views), INSTALLED_INDEX, "it has happened");
        if (applied == 2) {
            assert_sees_old(reader);
            has_seen_old = true;
        } else {
            cr_assert_eq(applied, INSTALLED_INDEX);
            cr_assert_eq(look(reader, "rnew"), INSTALLED_INDEX);
            cr_assert_eq(look(reader, "rold"), 0);
            has_seen_new = true;
        }
        view_end(reader);
        assert_sees_installed(reader);
    }
    cr_assert(has_seen_old && has_seen_new);
}

static void read_amid_install(int step)
{
    if (step != 5) return;
    view_begin_hook = NULL;
    cr_assert_eq(views_applied(views), 2, "not yet");
    assert_sees_installed(reader);
    install_at_step = -1;
}

Test(view_install, a_read_amid_it_is_at_the_new_index)
{
    view_begin_hook = read_amid_install;
    install_at_step = 0;
    views_install(views, table_at(1, INSTALLED_INDEX));
    cr_assert_eq(install_at_step, -1, "it was read");
}

/* ---- what the caller has promised ---- */

Test(view_install, an_older_table_stops_the_process, .signal = SIGABRT)
{
    views_install(views, table_at(1, 2));
}

Test(view_install, an_open_kv_table_stops_the_process, .signal = SIGABRT)
{
    struct kv_table *kv = NULL;
    cr_assert_eq(kv_table_create(views, &kv), TL_OK);
    views_install(views, table_at(1, INSTALLED_INDEX));
}

Test(view_install, beginning_twice_stops_the_process, .signal = SIGABRT)
{
    (void)begin(reader);
    (void)begin(reader);
}
