/* table: a whole table looked at, opened to look at, deleted. */

#include <criterion/criterion.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "full_table.h"
#include "tmpdir.h"

static const struct full_table content = {
    .rows_count = 9000, .records_count = 50, .value_bytes = 40, .index = 77};

static char dir[TMPDIR_PATH_BYTES_MAX];
static struct table *table;
static struct table_totals totals;
static struct tl_fault fault;

static void setup(void)
{
    tmpdir_create(dir);
    table = full_table_open(dir, &content);
}

static void teardown(void)
{
    table_close(TL_TAKE(&table));
    tmpdir_destroy(dir);
}

TestSuite(table_verify, .init = setup, .fini = teardown, .timeout = 60);

struct progress {
    uint32_t calls_count;
    uint64_t items_done;
    uint64_t items_count;
    bool goes_on;
};

static bool note_progress(void *context, uint64_t items_done, uint64_t items_count)
{
    struct progress *progress = context;
    cr_assert_gt(items_done, progress->items_done);
    progress->calls_count++;
    progress->items_done = items_done;
    progress->items_count = items_count;
    return progress->goes_on;
}

static enum tl_err verify(struct progress *progress)
{
    struct table_reader *reader = NULL;
    raft_index index;
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    enum tl_err err = table_verify(reader, note_progress, progress, &totals, &fault);
    table_reader_destroy(reader);
    return err;
}

Test(table_verify, a_sound_table_adds_up)
{
    struct progress progress = {.goes_on = true};
    cr_assert_eq(verify(&progress), TL_OK, "%s", fault.reason);
    cr_assert_eq(totals.rows_count, content.rows_count);
    cr_assert_eq(totals.records_count, content.records_count);
    cr_assert_eq(totals.queue_items_count, content.records_count);
    cr_assert_gt(totals.bytes, content.rows_count * (ROW_HEADER_BYTES + content.value_bytes));
    cr_assert_eq(progress.items_done, 9100);
    cr_assert_eq(progress.items_count, 9100);
    cr_assert_eq(progress.calls_count, 9100 / TABLE_VERIFY_STEP + 1);
}

Test(table_verify, looking_can_be_stopped)
{
    struct progress progress = {.goes_on = false};
    cr_assert_eq(verify(&progress), TL_ERR_CANCELED);
    cr_assert_eq(progress.calls_count, 1);
}

/* ---- damage ---- */

struct edit {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
};

static struct edit edit_begin(void)
{
    struct edit edit = {NULL, NULL, 0};
    table_close(TL_TAKE(&table));
    cr_assert_eq(mdb_env_create(&edit.env), 0);
    cr_assert_eq(mdb_env_set_mapsize(edit.env, 1u << 30), 0);
    cr_assert_eq(mdb_env_open(edit.env, dir, 0, 0600), 0);
    cr_assert_eq(mdb_txn_begin(edit.env, NULL, 0, &edit.txn), 0);
    cr_assert_eq(mdb_dbi_open(edit.txn, NULL, 0, &edit.dbi), 0);
    return edit;
}

static void edit_end(struct edit *edit)
{
    cr_assert_eq(mdb_txn_commit(edit->txn), 0);
    mdb_env_close(edit->env);
    table = full_table_open(dir, &content);
}

/* The n-th key of a kind; its value is copied to out_value. */
static MDB_val find_nth(const struct edit *edit, uint8_t kind, uint32_t n, uint8_t *out_value,
                        size_t *out_value_bytes)
{
    static uint8_t key_room[ENV_KEY_BYTES_MAX];
    MDB_cursor *cursor = NULL;
    MDB_val key = {.mv_size = 1, .mv_data = &kind};
    MDB_val value;
    cr_assert_eq(mdb_cursor_open(edit->txn, edit->dbi, &cursor), 0);
    cr_assert_eq(mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE), 0);
    for (uint32_t i = 0; i < n; i++) {
        cr_assert_eq(mdb_cursor_get(cursor, &key, &value, MDB_NEXT), 0);
    }
    memcpy(key_room, key.mv_data, key.mv_size);
    memcpy(out_value, value.mv_data, value.mv_size);
    *out_value_bytes = value.mv_size;
    mdb_cursor_close(cursor);
    return (MDB_val){.mv_size = key.mv_size, .mv_data = key_room};
}

/* Flips byte `at` (from the end when negative) of the n-th value of a kind. */
static void flip(uint8_t kind, uint32_t n, int at)
{
    uint8_t bytes[2048];
    size_t count;
    struct edit edit = edit_begin();
    MDB_val key = find_nth(&edit, kind, n, bytes, &count);
    bytes[at < 0 ? (size_t)((int)count + at) : (size_t)at] ^= 1;
    MDB_val value = {.mv_size = count, .mv_data = bytes};
    cr_assert_eq(mdb_put(edit.txn, edit.dbi, &key, &value, 0), 0);
    edit_end(&edit);
}

static void assert_corrupt(const char *reason)
{
    struct progress progress = {.goes_on = true};
    cr_assert_eq(verify(&progress), TL_ERR_CORRUPT, "%s", reason);
    cr_assert_not_null(strstr(fault.reason, reason), "\"%s\" for \"%s\"", fault.reason, reason);
    cr_assert_eq(fault.group, FULL_TABLE_GROUP);
    cr_assert_str_eq(fault.file, dir);
}

Test(table_verify, a_flipped_byte_of_a_value_is_found)
{
    flip(ENV_KEY_ROW, 4321, -1);
    assert_corrupt("value fails its checksum");
}

Test(table_verify, a_flipped_byte_of_a_header_is_found)
{
    flip(ENV_KEY_ROW, 4321, 40);
    struct progress progress = {.goes_on = true};
    cr_assert_eq(verify(&progress), TL_ERR_CORRUPT);
}

Test(table_verify, a_flipped_byte_of_a_record_is_found)
{
    flip(ENV_KEY_RECORD, 7, 30);
    assert_corrupt("record fails its check");
}

Test(table_verify, a_flipped_byte_of_a_queue_item_is_found)
{
    flip(ENV_KEY_QUEUE, 7, 30);
    assert_corrupt("queue fails its check");
}

static void delete_nth(uint8_t kind, uint32_t n)
{
    uint8_t bytes[2048];
    size_t count;
    struct edit edit = edit_begin();
    MDB_val key = find_nth(&edit, kind, n, bytes, &count);
    cr_assert_eq(mdb_del(edit.txn, edit.dbi, &key, NULL), 0);
    edit_end(&edit);
}

Test(table_verify, a_missing_row_is_found)
{
    delete_nth(ENV_KEY_ROW, 100);
    assert_corrupt("number of rows");
}

Test(table_verify, a_missing_record_is_found)
{
    delete_nth(ENV_KEY_RECORD, 10);
    assert_corrupt("number of records");
}

Test(table_verify, a_hole_in_the_queue_is_found)
{
    delete_nth(ENV_KEY_QUEUE, 10);
    assert_corrupt("hole");
}

Test(table_verify, a_queue_without_its_begin_is_found)
{
    delete_nth(ENV_KEY_QUEUE, 0);
    assert_corrupt("queue is not the state's");
}

/* Whole rows, records and items in each other's place: only sums over all of them see it. */
static void copy_value(uint8_t kind, uint32_t from, uint32_t to)
{
    uint8_t bytes[2048];
    uint8_t old[2048];
    size_t count;
    size_t old_count;
    struct edit edit = edit_begin();
    (void)find_nth(&edit, kind, from, bytes, &count);
    MDB_val key = find_nth(&edit, kind, to, old, &old_count);
    MDB_val value = {.mv_size = count, .mv_data = bytes};
    cr_assert_eq(mdb_put(edit.txn, edit.dbi, &key, &value, 0), 0);
    edit_end(&edit);
}

Test(table_verify, a_row_in_the_place_of_another_is_found)
{
    copy_value(ENV_KEY_ROW, 5, 6);
    assert_corrupt("digest of the rows");
}

Test(table_verify, a_record_in_the_place_of_another_is_found)
{
    copy_value(ENV_KEY_RECORD, 5, 6);
    assert_corrupt("digest of the records");
}

Test(table_verify, a_queue_item_in_the_place_of_another_is_found)
{
    copy_value(ENV_KEY_QUEUE, 5, 6);
    assert_corrupt("do not belong together");
}

Test(table_verify, a_key_of_no_known_kind_is_found)
{
    struct edit edit = edit_begin();
    char text[] = "zebra";
    MDB_val key = {.mv_size = strlen(text), .mv_data = text};
    cr_assert_eq(mdb_put(edit.txn, edit.dbi, &key, &key, 0), 0);
    edit_end(&edit);
    assert_corrupt("no known kind");
}

/* ---- looking ---- */

static struct table_options looking(void)
{
    return (struct table_options){.dir = dir,
                                  .group = FULL_TABLE_GROUP,
                                  .map_bytes = 1u << 30,
                                  .readers_max = 4,
                                  .is_read_only = true};
}

Test(table_verify, a_table_opened_to_look_at_is_not_written)
{
    char lock_path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(lock_path, sizeof lock_path, "%s/lock.mdb", dir);
    table_close(TL_TAKE(&table));
    cr_assert_eq(unlink(lock_path), 0);
    struct table_options options = looking();
    cr_assert_eq(table_open(&options, &table, &fault), TL_OK, "%s", fault.reason);
    struct progress progress = {.goes_on = true};
    cr_assert_eq(verify(&progress), TL_OK, "%s", fault.reason);
    cr_assert_str_eq(table_dir(table), dir);
    cr_assert_neq(access(lock_path, F_OK), 0, "no lock file was made");
}

Test(table_verify, looking_makes_no_table)
{
    table_close(TL_TAKE(&table));
    tmpdir_destroy(dir);
    tmpdir_create(dir);
    struct table_options options = looking();
    cr_assert_eq(table_open(&options, &table, &fault), TL_ERR_NOT_FOUND);
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    cr_assert_neq(access(path, F_OK), 0);
}

Test(table_verify, closing_a_table_that_is_read_stops_the_process, .signal = SIGABRT)
{
    struct table_reader *reader = NULL;
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    table_close(table);
}

/* ---- deleting ---- */

Test(table_verify, a_deleted_table_is_gone_and_may_be_deleted_again)
{
    table_close(TL_TAKE(&table));
    cr_assert_eq(table_delete(dir, &fault), TL_OK, "%s", fault.reason);
    cr_assert_neq(access(dir, F_OK), 0);
    cr_assert_eq(table_delete(dir, &fault), TL_OK);
    cr_assert_eq(mkdir(dir, 0700), 0);
}

Test(table_verify, a_directory_with_a_directory_in_it_is_not_deleted)
{
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/photos", dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    table_close(TL_TAKE(&table));
    cr_assert_eq(table_delete(dir, &fault), TL_ERR_IO);
    cr_assert_eq(access(path, F_OK), 0);
}
