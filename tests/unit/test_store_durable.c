/* store: what a power cut would leave, by the model of sync_trace.h. Whatever returns success has
 * everything on the disk, content and names; and what is found at an opening is there before a
 * word of it is given out. */

#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "full_table.h"
#include "log_store_fixture.h"
#include "rows.h"
#include "sync_trace.h"
#include "tmpdir.h"
#include "trilith/data_dir.h"
#include "trilith/snapshot.h"

#define ADDRESS "10.0.0.1:7001"
#define GROUP FULL_TABLE_GROUP
#define TABLE_MAP_BYTES (256u * 1024u * 1024u)

static char root[TMPDIR_PATH_BYTES_MAX];
static char path[TMPDIR_PATH_BYTES_MAX + 64];
static struct table *table;
static struct tl_fault fault;

static void assert_durable(const char *when)
{
    cr_assert_null(sync_trace_unsynced(), "%s: %s", when, sync_trace_unsynced());
    cr_assert_null(sync_trace_violation(), "%s: %s", when, sync_trace_violation());
}

static void setup(void)
{
    tmpdir_create(root);
}

static void teardown(void)
{
    table_close(TL_TAKE(&table));
    tmpdir_destroy(root);
}

TestSuite(store_durable, .init = setup, .fini = teardown, .timeout = 60);
TestSuite(log_durable, .init = fixture_setup, .fini = fixture_teardown, .timeout = 60);

static const char *in_root(const char *name)
{
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

/* ---- the log ---- */

static const char *log_path(void)
{
    (void)snprintf(path, sizeof path, "%s/data.mdb", fixture_dir);
    return path;
}

Test(log_durable, a_new_one_is_on_the_disk_when_it_is_open)
{
    assert_durable("prefilled with nothing");
    log_store_close(TL_TAKE(&fixture_store));
    cr_assert_eq(remove(log_path()), 0);
    fixture_options.prefill_bytes = 1u << 20;
    fixture_open();
    assert_durable("prefilled");
}

Test(log_durable, a_commit_is_on_the_disk_when_it_returns)
{
    struct log_model *model = model_create(1);
    for (uint32_t i = 0; i < 20; i++) {
        sync_trace_clear();
        model_append(model, 1 + i % 3, 100 + 1000 * (size_t)i);
        assert_durable("a commit");
        cr_assert_str_eq(sync_trace_calls(), "wfM", "%s", sync_trace_calls());
    }
    fixture_options.retain_bytes = 0;
    fixture_reopen();
    const struct raft_hard_state hard_state = {.term = 1, .commit = 20};
    struct log_op op = {.group = 1, .deletable = 10, .hard_state = &hard_state};
    cr_assert_eq(model_commit(model, &op), TL_OK);
    assert_durable("a commit that deletes");
}

/* The bug of number 41. */
Test(log_durable, a_meta_page_that_is_not_flushed_is_seen)
{
    sync_trace_plant(MDB_NOMETASYNC);
    fixture_reopen();
    sync_trace_clear();
    model_append(model_create(1), 1, 100);
    cr_assert_not_null(sync_trace_unsynced());
    cr_assert_str_eq(sync_trace_calls(), "wfm", "%s", sync_trace_calls());
}

/* Killed before the flush of the meta page had returned, or ended because it had failed. */
Test(log_durable, a_meta_page_in_the_cache_alone_is_on_the_disk_before_it_is_believed)
{
    struct log_model *model = model_create(1);
    for (uint32_t i = 0; i < 4; i++) {
        model_append(model, 1, 100);
        log_store_close(TL_TAKE(&fixture_store));
        sync_trace_lose_page(log_path(), i % 2);
        fixture_open();
        assert_durable("opened again");
        model_assert_stored(model, "opened again");
    }
}

Test(log_durable, a_name_that_was_not_flushed_is_on_the_disk_before_it_is_believed)
{
    log_store_close(TL_TAKE(&fixture_store));
    sync_trace_lose_name(log_path());
    fixture_open();
    assert_durable("opened again");
}

Test(log_durable, looking_at_a_log_writes_nothing)
{
    model_append(model_create(1), 1, 100);
    log_store_close(TL_TAKE(&fixture_store));
    sync_trace_clear();
    fixture_options.is_read_only = true;
    fixture_open();
    cr_assert_str_eq(sync_trace_calls(), "");
}

/* ---- the table ---- */

static void open_table(void)
{
    const struct table_options options = {
        .dir = root, .group = GROUP, .map_bytes = TABLE_MAP_BYTES, .readers_max = 8};
    enum tl_err err = table_open(&options, &table, &fault);
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
}

static void flush_rows(uint32_t rows_count)
{
    raft_index index = table_state(table)->index + 1;
    struct generation *generation = generation_create(index - 1);
    for (uint32_t i = 0; i < rows_count; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "rkey-%u", i);
        rows_put(generation, index, key, bytes_of("a value"));
    }
    generation_publish(generation, index);
    struct group_state final = rows_final(index);
    generation_freeze(generation, &final, bytes_of("conf"));
    enum tl_err err = table_flush(table, generation, &fault);
    generation_destroy(generation);
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
}

Test(store_durable, a_new_table_is_on_the_disk_when_it_is_open)
{
    open_table();
    assert_durable("a new table");
}

Test(store_durable, a_flush_is_on_the_disk_when_it_returns)
{
    open_table();
    for (uint32_t i = 0; i < 10; i++) {
        sync_trace_clear();
        flush_rows(1 + 300 * i);
        assert_durable("a flush");
        cr_assert_str_eq(sync_trace_calls(), "wfM", "%s", sync_trace_calls());
    }
}

/* The bug of number 40. */
Test(store_durable, a_table_that_is_not_flushed_is_seen)
{
    open_table();
    table_close(TL_TAKE(&table));
    sync_trace_plant(MDB_NOSYNC);
    open_table();
    sync_trace_clear();
    flush_rows(10);
    cr_assert_not_null(sync_trace_unsynced());
    cr_assert_not_null(sync_trace_violation());
    cr_assert_str_eq(sync_trace_calls(), "wm", "%s", sync_trace_calls());
}

/* The log is deleted up to where the table stands, so it must not stand there in the cache only. */
Test(store_durable, a_table_in_the_cache_alone_is_on_the_disk_before_it_is_believed)
{
    open_table();
    for (uint32_t i = 0; i < 4; i++) {
        flush_rows(10);
        table_close(TL_TAKE(&table));
        sync_trace_lose_page(in_root("data.mdb"), i % 2);
        sync_trace_lose_name(in_root("data.mdb"));
        open_table();
        assert_durable("opened again");
    }
}

/* ---- a snapshot ---- */

static struct snapshot *cut(const struct full_table *content)
{
    struct table_reader *reader = NULL;
    struct snapshot *snapshot = NULL;
    cr_assert_eq(mkdir(in_root("kv.3.0"), 0700), 0);
    table = full_table_open(path, content);
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    const struct snapshot_cut_options options = {
        .dir = root, .group = GROUP, .chunk_limit = 1u << 20};
    cr_assert_eq(snapshot_cut(&options, reader, &snapshot, &fault), TL_OK, "%s", fault.reason);
    return snapshot;
}

/* Takes the snapshot's chunks into kv.3.1; on an error the stage is gone. */
static enum tl_err stage_all(struct snapshot *snapshot)
{
    struct snapshot_stage *stage = NULL;
    enum tl_err err = TL_OK;
    cr_assert_eq(mkdir(in_root("kv.3.1"), 0700), 0);
    const struct snapshot_stage_options options = {
        .dir = path, .group = GROUP, .map_bytes = TABLE_MAP_BYTES};
    for (uint32_t i = 0; i < snapshot_get_info(snapshot)->chunks_count && err == TL_OK; i++) {
        struct buf *chunk = NULL;
        cr_assert_eq(snapshot_read(snapshot, i, 0, &chunk, &fault), TL_OK);
        err = i == 0 ? snapshot_stage_create(&options, buf_bytes(chunk), &stage, &fault)
                     : snapshot_stage_write(stage, buf_bytes(chunk), &fault);
        buf_release(chunk);
    }
    if (err == TL_OK) return snapshot_stage_finish(stage, &fault);
    snapshot_stage_abort(stage);
    return err;
}

/* The names of the tables' directories: data_dir_table_make() flushes them. */
static void flush_root(void)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY);
    cr_assert_geq(fd, 0);
    cr_assert_eq(fsync(fd), 0);
    cr_assert_eq(close(fd), 0);
}

Test(store_durable, a_staged_table_is_on_the_disk_when_it_is_complete)
{
    static const struct full_table content = {
        .rows_count = 3000, .records_count = 20, .value_bytes = 400, .index = 40};
    struct snapshot *snapshot = cut(&content);
    cr_assert_eq(stage_all(snapshot), TL_OK, "%s", fault.reason);
    snapshot_destroy(snapshot);
    flush_root();
    assert_durable("a staged table");
}

/* The error of a write-back is told once: what waits for it must not drop it. */
Test(store_durable, a_write_back_that_failed_ends_the_stage)
{
    static const struct full_table content = {
        .rows_count = 20000, .records_count = 0, .value_bytes = 400, .index = 40};
    struct snapshot *snapshot = cut(&content);
    sync_trace_fail_writeout();
    cr_assert_eq(stage_all(snapshot), TL_ERR_IO);
    snapshot_destroy(snapshot);
}

/* ---- the data directory ---- */

static void open_dir(const char *name, struct data_dir **out_dir)
{
    enum tl_err err = data_dir_open(in_root(name), ADDRESS, true, out_dir, &fault);
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
}

Test(store_durable, an_identity_is_on_the_disk_with_its_parents_when_it_is_open)
{
    struct data_dir *dir;
    char sub[PATH_MAX];
    open_dir("a/b/c", &dir);
    assert_durable("a new directory");
    cr_assert_eq(data_dir_sub(dir, "log", sub, sizeof sub, &fault), TL_OK);
    assert_durable("a sub-directory");
    cr_assert_eq(data_dir_mark_diverged(dir, 1, 2, &fault), TL_OK);
    assert_durable("a mark");
    data_dir_close(dir);
}

/* Killed between any of its names and the flush that should have followed. */
Test(store_durable, names_that_were_not_flushed_are_on_the_disk_before_they_are_believed)
{
    static const char *const names[] = {"a", "a/b", "a/b/identity"};
    for (size_t i = 0; i < TL_COUNT_OF(names); i++) {
        struct data_dir *dir;
        bool has_identity = i == 2;
        cr_assert_eq(mkdir(in_root("a"), 0700), 0);
        cr_assert_eq(mkdir(in_root("a/b"), 0700), 0);
        if (has_identity) {
            open_dir("a/b", &dir);
            data_dir_close(dir);
        }
        sync_trace_lose_name(in_root(names[i]));
        open_dir("a/b", &dir);
        assert_durable(names[i]);
        data_dir_close(dir);
        tmpdir_destroy(in_root("a"));
    }
}
