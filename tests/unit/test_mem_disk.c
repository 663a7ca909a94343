/* mem_disk: the simulated disks keep what the store headers promise of installs and snapshots. */

#include <criterion/criterion.h>
#include <signal.h>

#include "../sim/mem_disk.h"
#include "full_table.h"
#include "log_entries.h"
#include "trilith/crash_point.h"
#include "trilith/snapshot.h"

static const struct full_table content = {
    .rows_count = 400, .records_count = 10, .value_bytes = 50, .index = 60};

static struct data_dir *dir;
static struct tl_fault fault;

static void setup(void)
{
    mem_disks_reset(1);
    cr_assert_eq(data_dir_open("n1", "a:1", true, &dir, &fault), TL_OK);
}

static void teardown(void)
{
    crash_point_hook = NULL;
    data_dir_close(TL_TAKE(&dir));
    mem_disks_reset(1);
}

TestSuite(mem_disk, .init = setup, .fini = teardown, .timeout = 30);

/* Cuts node 2's table and stages it as kv.3.1 of node 1, up to and with finish. */
static enum tl_err transfer(void)
{
    struct table *table = full_table_open("n2/kv.3.0", &content);
    struct table_reader *reader = NULL;
    struct snapshot *snapshot = NULL;
    const struct snapshot_cut_options cut = {
        .dir = "n2", .group = FULL_TABLE_GROUP, .chunk_limit = 2048};
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    cr_assert_eq(snapshot_cut(&cut, reader, &snapshot, &fault), TL_OK, "%s", fault.reason);

    char path[64];
    const struct data_dir_table name = {.group = FULL_TABLE_GROUP, .number = 1};
    enum tl_err err = data_dir_table_make(dir, name, path, sizeof path, &fault);
    const struct snapshot_stage_options options = {.dir = path, .group = FULL_TABLE_GROUP};
    struct snapshot_stage *stage = NULL;
    for (uint32_t i = 0; err == TL_OK && i < snapshot_get_info(snapshot)->chunks_count; i++) {
        struct buf *chunk = NULL;
        cr_assert_eq(snapshot_read(snapshot, i, 0, &chunk, &fault), TL_OK);
        err = i == 0 ? snapshot_stage_create(&options, buf_bytes(chunk), &stage, &fault)
                     : snapshot_stage_write(stage, buf_bytes(chunk), &fault);
        buf_release(chunk);
    }
    if (err == TL_OK) {
        err = snapshot_stage_finish(stage, &fault);
    } else {
        snapshot_stage_abort(stage);
    }
    snapshot_destroy(snapshot);
    table_close(table);
    return err;
}

static raft_index staged_index(void)
{
    const struct mem_table *table = mem_disk_find_table(mem_disk_at("n1"), "n1/kv.3.1");
    return table == NULL || table->current == NULL ? 0 : table->current->index;
}

Test(mem_disk, a_staged_table_adds_up)
{
    cr_assert_eq(transfer(), TL_OK, "%s", fault.reason);
    const struct table_options options = {.dir = "n1/kv.3.1", .group = FULL_TABLE_GROUP};
    struct table *table = NULL;
    struct table_reader *reader = NULL;
    struct table_totals totals;
    raft_index index;
    cr_assert_eq(table_open(&options, &table, &fault), TL_OK);
    cr_assert_eq(table_state(table)->index, content.index);
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    enum tl_err err = table_verify(reader, NULL, NULL, &totals, &fault);
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
    cr_assert_eq(totals.rows_count, content.rows_count);
    table_reader_destroy(reader);
    table_close(table);
}

Test(mem_disk, tables_that_are_not_kept_are_deleted)
{
    cr_assert_eq(transfer(), TL_OK);
    char path[64];
    uint32_t count;
    struct data_dir_table kept = {.group = FULL_TABLE_GROUP, .number = 0};
    cr_assert_eq(data_dir_table_make(dir, kept, path, sizeof path, &fault), TL_OK);
    cr_assert_eq(data_dir_tables(dir, NULL, 0, &count, &fault), TL_OK);
    cr_assert_eq(count, 2);
    cr_assert_eq(data_dir_keep_tables(dir, &kept, 1, &count, &fault), TL_OK);
    cr_assert_eq(count, 1);
    cr_assert_eq(data_dir_tables(dir, &kept, 1, &count, &fault), TL_OK);
    cr_assert_eq(count, 1);
    cr_assert_eq(kept.number, 0);
}

/* ---- cut off at a crash point ---- */

static const char *cut_at;

static void cut_off(const char *name)
{
    if (strcmp(name, cut_at) == 0) mem_disk_at("n1")->is_cut_off = true;
}

Test(mem_disk, what_is_written_after_the_disk_is_cut_off_has_no_effect)
{
    static const struct {
        const char *name;
        bool is_whole;
    } points[] = {
        {"stage-chunk", false},
        {"stage-before-sync", false},
        {"stage-before-rename", false},
        {"stage-before-dir-sync", true},
    };
    for (size_t i = 0; i < TL_COUNT_OF(points); i++) {
        teardown();
        setup();
        cut_at = points[i].name;
        crash_point_hook = cut_off;
        cr_assert_eq(transfer(), TL_ERR_IO, "%s", cut_at);
        cr_assert_eq(staged_index(), points[i].is_whole ? content.index : 0, "%s", cut_at);
        data_dir_close(TL_TAKE(&dir));
        crash_point_hook = NULL;
        cr_assert_eq(data_dir_open("n1", "a:1", true, &dir, &fault), TL_OK);
        uint32_t deleted_count;
        cr_assert_eq(data_dir_keep_tables(dir, NULL, 0, &deleted_count, &fault), TL_OK);
        cr_assert_eq(deleted_count, 1);
    }
}

/* ---- the log ---- */

static struct log_store *store;
static struct buf *entries[30];

static void open_log(void)
{
    const struct log_store_options options = {.dir = "n1/log", .retain_bytes = 1u << 20};
    cr_assert_eq(log_store_open(&options, &store, &fault), TL_OK);
    struct log_chain chain = log_chain_make(1, 3);
    entries[0] = log_chain_next(&chain, ENTRY_GENESIS, 20);
    for (int i = 1; i < 30; i++) entries[i] = log_chain_next(&chain, ENTRY_COMMAND, 20);
    const struct raft_hard_state hard_state = {.term = 3, .commit = 5};
    struct log_op op = {
        .group = 1, .entries = entries, .entries_count = 30, .hard_state = &hard_state};
    cr_assert_eq(log_store_commit(store, &op, 1, &fault), TL_OK);
}

static void close_log(void)
{
    log_store_close(TL_TAKE(&store));
    for (int i = 0; i < 30; i++) buf_release(TL_TAKE(&entries[i]));
}

static struct log_group_info install(raft_index index, bool keeps_suffix)
{
    struct log_chain chain = log_chain_make(1, 3);
    while (chain.last_index < index) buf_release(log_chain_next(&chain, ENTRY_COMMAND, 20));
    struct log_install install = {
        .base = {.index = index, .term = 3, .hash = chain.hash, .time_us = chain.time_us},
        .keeps_suffix = keeps_suffix,
        .table_number = 1,
        .conf = bytes_of("conf"),
    };
    if (keeps_suffix) install.base.hash = entry_hash(entries[index - 1]);
    struct log_op op = {.group = 1, .install = &install};
    cr_assert_eq(log_store_commit(store, &op, 1, &fault), TL_OK);
    cr_assert(op.out_has_base);
    struct log_group_info info;
    cr_assert_eq(log_store_recover(store, 1, &info, &fault), TL_OK);
    cr_assert_eq(info.base.index, index);
    cr_assert_eq(info.hard_state.commit, index);
    cr_assert_eq(info.table_number, 1);
    cr_assert(bytes_equal(buf_bytes(info.conf), bytes_of("conf")));
    cr_assert_eq(info.conf_index, index);
    buf_release(info.conf);
    return info;
}

Test(mem_disk, an_install_empties_the_log)
{
    open_log();
    struct log_group_info info = install(20, false);
    cr_assert_eq(info.last_index, 20);
    cr_assert_eq(log_store_used_bytes(store), 0);
    close_log();
}

Test(mem_disk, an_install_behind_the_end_leaves_room_to_append)
{
    open_log();
    struct log_group_info info = install(5000, false);
    cr_assert_eq(info.last_index, 5000);
    struct log_chain chain = {.group = 1, .last_index = 5000, .term = 3, .hash = info.base.hash};
    struct buf *entry = log_chain_next(&chain, ENTRY_COMMAND, 20);
    struct log_op op = {.group = 1, .entries = &entry, .entries_count = 1};
    cr_assert_eq(log_store_commit(store, &op, 1, &fault), TL_OK);
    buf_release(entry);
    close_log();
}

Test(mem_disk, an_install_keeps_the_suffix)
{
    open_log();
    struct log_group_info info = install(20, true);
    cr_assert_eq(info.last_index, 30);
    struct log_reader *reader = NULL;
    struct buf *read[30];
    uint32_t count;
    cr_assert_eq(log_reader_create(store, &reader), TL_OK);
    cr_assert_eq(log_reader_read(reader, 1, 20, 30, 30, 1 << 20, read, &count, &fault),
                 TL_ERR_COMPACTED);
    cr_assert_eq(log_reader_read(reader, 1, 21, 30, 30, 1 << 20, read, &count, &fault), TL_OK);
    cr_assert_eq(count, 10);
    for (uint32_t i = 0; i < count; i++) buf_release(read[i]);
    cr_assert_eq(log_reader_verify(reader, 1, NULL, NULL, &fault), TL_OK);
    log_reader_destroy(reader);
    close_log();
}

Test(mem_disk, a_running_transfer_keeps_what_it_needs)
{
    open_log();
    close_log();
    const struct log_store_options options = {.dir = "n1/log", .retain_bytes = 400};
    cr_assert_eq(log_store_open(&options, &store, &fault), TL_OK);
    struct log_op op = {.group = 1, .deletable = 25, .keep_from = 11};
    cr_assert_eq(log_store_commit(store, &op, 1, &fault), TL_OK);
    cr_assert_eq(op.out_base.index, 11, "84 bytes an entry: 4 x 400 bytes are 19 entries");
    op = (struct log_op){.group = 1, .deletable = 25};
    cr_assert_eq(log_store_commit(store, &op, 1, &fault), TL_OK);
    cr_assert_eq(op.out_base.index, 25);
    close_log();
}
