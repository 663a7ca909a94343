/* snapshot: what is promised in snapshot.h, one test per promise. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "full_table.h"
#include "lmdb_fault.h"
#include "sys_fault.h"
#include "tmpdir.h"
#include "trilith/crash_point.h"
#include "trilith/snapshot.h"

#define CHUNKS_MAX 200u

static const struct full_table small = {
    .rows_count = 300, .records_count = 20, .value_bytes = 100, .index = 40};

static char root[TMPDIR_PATH_BYTES_MAX];
static char table_path[TMPDIR_PATH_BYTES_MAX + 8];
static char stage_path[TMPDIR_PATH_BYTES_MAX + 8];
static struct table *table;
static struct snapshot *snapshot;
static struct buf *chunks[CHUNKS_MAX];
static uint32_t chunks_count;
static struct snapshot_stage *stage;
static struct tl_fault fault;

static enum tl_err cut_with(const struct snapshot_cut_options *options)
{
    struct table_reader *reader = NULL;
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    return snapshot_cut(options, reader, &snapshot, &fault);
}

static const struct snapshot_cut_options *cut_options(void)
{
    static struct snapshot_cut_options options;
    options =
        (struct snapshot_cut_options){.dir = root, .group = FULL_TABLE_GROUP, .chunk_limit = 2048};
    return &options;
}

static void read_chunks(void)
{
    chunks_count = snapshot_get_info(snapshot)->chunks_count;
    cr_assert_leq(chunks_count, CHUNKS_MAX);
    for (uint32_t i = 0; i < chunks_count; i++) {
        cr_assert_eq(snapshot_read(snapshot, i, 0, &chunks[i], &fault), TL_OK);
    }
}

static void setup(void)
{
    tmpdir_create(root);
    (void)snprintf(table_path, sizeof table_path, "%s/kv.3.0", root);
    (void)snprintf(stage_path, sizeof stage_path, "%s/kv.3.1", root);
    cr_assert_eq(mkdir(table_path, 0700), 0);
    cr_assert_eq(mkdir(stage_path, 0700), 0);
    table = full_table_open(table_path, &small);
    cr_assert_eq(cut_with(cut_options()), TL_OK, "%s", fault.reason);
    read_chunks();
}

static void teardown(void)
{
    for (uint32_t i = 0; i < CHUNKS_MAX; i++) buf_release(TL_TAKE(&chunks[i]));
    snapshot_stage_abort(TL_TAKE(&stage));
    snapshot_destroy(TL_TAKE(&snapshot));
    table_close(TL_TAKE(&table));
    tmpdir_destroy(root);
}

TestSuite(snapshot, .init = setup, .fini = teardown, .timeout = 60);

static enum tl_err try_stage(struct bytes chunk)
{
    const struct snapshot_stage_options options = {
        .dir = stage_path, .group = FULL_TABLE_GROUP, .map_bytes = 1u << 30};
    return snapshot_stage_create(&options, chunk, &stage, &fault);
}

static void begin_stage(void)
{
    enum tl_err err = try_stage(buf_bytes(chunks[0]));
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
}

static enum tl_err write_chunk(uint32_t number)
{
    return snapshot_stage_write(stage, buf_bytes(chunks[number]), &fault);
}

static void write_chunks(uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        cr_assert_eq(snapshot_stage_next(stage), i);
        enum tl_err err = write_chunk(i);
        cr_assert_eq(err, TL_OK, "chunk %u: %s", i, fault.reason);
    }
}

static bool is_there(const char *dir)
{
    return access(dir, F_OK) == 0;
}

/* ---- what stands in a table ---- */

struct listing {
    struct hash128 hash;
    uint64_t items_count;
};

static bool add_to_listing(void *context, struct bytes env_key, struct bytes value)
{
    struct listing *listing = context;
    uint8_t previous[HASH_BYTES];
    hash_put(previous, listing->hash);
    const struct bytes parts[] = {bytes_make(previous, sizeof previous), env_key, value};
    listing->hash = hash_parts(parts, TL_COUNT_OF(parts));
    listing->items_count++;
    return true;
}

/* Every byte of every item, the state row included. */
static struct listing list(struct table *of)
{
    struct listing listing = {.items_count = 0};
    struct table_reader *reader = NULL;
    raft_index index;
    cr_assert_eq(table_reader_create(of, &reader), TL_OK);
    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    enum tl_err err = table_walk(reader, bytes_make(NULL, 0), add_to_listing, &listing, &fault);
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
    table_reader_destroy(reader);
    return listing;
}

static void assert_installed(void)
{
    const struct table_options options = {
        .dir = stage_path, .group = FULL_TABLE_GROUP, .map_bytes = 1u << 30, .readers_max = 4};
    struct table *installed = NULL;
    cr_assert_eq(table_open(&options, &installed, &fault), TL_OK, "%s", fault.reason);
    cr_assert_eq(table_state(installed)->index, small.index);
    struct listing expected = list(table);
    struct listing actual = list(installed);
    cr_assert_eq(actual.items_count, expected.items_count);
    cr_assert(hash_equal(actual.hash, expected.hash));
    table_close(installed);
}

/* ---- cut ---- */

Test(snapshot, chunks_carry_the_whole_table)
{
    cr_assert_gt(chunks_count, 10, "or the tests below test little");
    begin_stage();
    write_chunks(1, chunks_count);
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_OK, "%s", fault.reason);
    assert_installed();
}

Test(snapshot, the_info_is_that_of_the_table)
{
    const struct snapshot_info *info = snapshot_get_info(snapshot);
    cr_assert_eq(info->group, FULL_TABLE_GROUP);
    cr_assert_eq(info->items_count, small.rows_count + 2 * small.records_count);
    cr_assert_eq(info->state.index, small.index);
    cr_assert_eq(info->state.rows_count, small.rows_count);
    cr_assert(bytes_equal(bytes_make(info->conf, info->conf_bytes), bytes_of(FULL_TABLE_CONF)));
    uint64_t bytes = 0;
    for (uint32_t i = 1; i < chunks_count; i++) bytes += chunks[i]->count;
    cr_assert_eq(info->bytes, bytes);
}

Test(snapshot, chunks_keep_to_their_limit_unless_one_item_is_larger)
{
    uint32_t larger_count = 0;
    for (uint32_t i = 1; i < chunks_count; i++) {
        struct snapshot_chunk chunk;
        cr_assert_eq(snapshot_chunk_decode(buf_bytes(chunks[i]), &chunk), TL_OK);
        if (chunk.payload.count > 2048) {
            cr_assert_eq(chunk.items_count, 1);
            larger_count++;
        }
    }
    cr_assert_eq(larger_count, 0);
    struct snapshot_cut_options options = *cut_options();
    options.chunk_limit = SNAPSHOT_CHUNK_LIMIT_MIN; /* some rows have 1,000 bytes */
    snapshot_destroy(TL_TAKE(&snapshot));
    for (uint32_t i = 0; i < chunks_count; i++) buf_release(TL_TAKE(&chunks[i]));
    cr_assert_eq(cut_with(&options), TL_OK);
    read_chunks();
    for (uint32_t i = 1; i < chunks_count; i++) {
        struct snapshot_chunk chunk;
        cr_assert_eq(snapshot_chunk_decode(buf_bytes(chunks[i]), &chunk), TL_OK);
        if (chunk.payload.count > SNAPSHOT_CHUNK_LIMIT_MIN) {
            cr_assert_eq(chunk.items_count, 1);
            larger_count++;
        }
    }
    cr_assert_eq(larger_count, 3);
}

/* So that another sender can finish what one has begun. */
Test(snapshot, equal_tables_make_equal_chunks)
{
    struct buf *first[CHUNKS_MAX];
    memcpy(first, chunks, sizeof first);
    memset(chunks, 0, sizeof chunks);
    uint32_t first_count = chunks_count;
    snapshot_destroy(TL_TAKE(&snapshot));
    table_close(TL_TAKE(&table));
    table = full_table_open(stage_path, &small);
    cr_assert_eq(cut_with(cut_options()), TL_OK);
    read_chunks();
    cr_assert_eq(chunks_count, first_count);
    for (uint32_t i = 0; i < chunks_count; i++) {
        cr_assert(bytes_equal(buf_bytes(chunks[i]), buf_bytes(first[i])), "chunk %u", i);
        buf_release(first[i]);
    }
}

Test(snapshot, a_chunk_can_be_read_again_behind_free_bytes)
{
    for (uint32_t i = chunks_count; i-- > 0;) {
        struct buf *buf = NULL;
        cr_assert_eq(snapshot_read(snapshot, i, 24, &buf, &fault), TL_OK);
        cr_assert(bytes_equal(bytes_make(buf->data + 24, buf->count - 24), buf_bytes(chunks[i])));
        buf_release(buf);
    }
}

Test(snapshot, an_empty_table_is_one_chunk)
{
    const struct full_table empty = {.index = 5};
    snapshot_destroy(TL_TAKE(&snapshot));
    for (uint32_t i = 0; i < chunks_count; i++) buf_release(TL_TAKE(&chunks[i]));
    table_close(TL_TAKE(&table));
    char path[TMPDIR_PATH_BYTES_MAX + 8];
    (void)snprintf(path, sizeof path, "%s/kv.3.9", root);
    cr_assert_eq(mkdir(path, 0700), 0);
    table = full_table_open(path, &empty);
    cr_assert_eq(cut_with(cut_options()), TL_OK, "%s", fault.reason);
    read_chunks();
    cr_assert_eq(chunks_count, 1);
    begin_stage();
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_OK, "%s", fault.reason);
    const struct table_options options = {
        .dir = stage_path, .group = FULL_TABLE_GROUP, .map_bytes = 1u << 30, .readers_max = 4};
    struct table *installed = NULL;
    cr_assert_eq(table_open(&options, &installed, &fault), TL_OK, "%s", fault.reason);
    cr_assert_eq(table_state(installed)->index, 5);
    table_close(installed);
}

static bool stop_at_third(void *context)
{
    uint32_t *calls_count = context;
    return ++*calls_count == 3;
}

Test(snapshot, a_cut_can_be_stopped)
{
    uint32_t calls_count = 0;
    struct snapshot_cut_options options = *cut_options();
    options.is_stopped = stop_at_third;
    options.context = &calls_count;
    snapshot_destroy(TL_TAKE(&snapshot));
    cr_assert_eq(cut_with(&options), TL_ERR_CANCELED);
    cr_assert_eq(calls_count, 3);
    cr_assert_null(snapshot);
}

Test(snapshot, the_spool_has_no_name)
{
    DIR *stream = opendir(root);
    cr_assert_not_null(stream);
    const struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        cr_assert(entry->d_name[0] == '.' || strncmp(entry->d_name, "kv.", 3) == 0, "%s",
                  entry->d_name);
    }
    (void)closedir(stream);
}

/* Changes one row behind the state's back, as rot in a page of LMDB's would. */
static void spoil_row(bool is_deleted)
{
    table_close(TL_TAKE(&table));
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    char key_text[] = "rkey-00000123";
    MDB_val key = {.mv_size = strlen(key_text), .mv_data = key_text};
    MDB_val value;
    cr_assert_eq(mdb_env_create(&env), 0);
    cr_assert_eq(mdb_env_set_mapsize(env, 1u << 30), 0);
    cr_assert_eq(mdb_env_open(env, table_path, 0, 0600), 0);
    cr_assert_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    cr_assert_eq(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    cr_assert_eq(mdb_get(txn, dbi, &key, &value), 0);
    uint8_t row[512];
    memcpy(row, value.mv_data, value.mv_size);
    row[value.mv_size - 1] ^= 1; /* in the value: its header is right */
    MDB_val changed = {.mv_size = value.mv_size, .mv_data = row};
    int rc = is_deleted ? mdb_del(txn, dbi, &key, NULL) : mdb_put(txn, dbi, &key, &changed, 0);
    cr_assert_eq(rc, 0);
    cr_assert_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    table = full_table_open(table_path, &small);
}

Test(snapshot, damage_is_not_cut)
{
    snapshot_destroy(TL_TAKE(&snapshot));
    spoil_row(false);
    cr_assert_eq(cut_with(cut_options()), TL_ERR_CORRUPT);
    cr_assert_not_null(strstr(fault.reason, "value"), "%s", fault.reason);
    cr_assert_eq(fault.group, FULL_TABLE_GROUP);
}

Test(snapshot, a_table_that_does_not_add_up_is_not_cut)
{
    snapshot_destroy(TL_TAKE(&snapshot));
    spoil_row(true);
    cr_assert_eq(cut_with(cut_options()), TL_ERR_CORRUPT);
    cr_assert_not_null(strstr(fault.reason, "number of rows"), "%s", fault.reason);
}

/* ---- stage ---- */

Test(snapshot, a_stage_goes_on_where_it_stands)
{
    begin_stage();
    write_chunks(1, chunks_count / 2);
    cr_assert_eq(snapshot_stage_next(stage), chunks_count / 2, "asked after a broken connection");
    write_chunks(chunks_count / 2, chunks_count);
    cr_assert_eq(snapshot_stage_next(stage), chunks_count);
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_OK);
    assert_installed();
}

Test(snapshot, repeated_and_early_chunks_are_refused_and_harmless)
{
    begin_stage();
    write_chunks(1, 5);
    for (uint32_t i = 0; i < chunks_count; i++) {
        if (i != 5) cr_assert_eq(write_chunk(i), TL_ERR_OUT_OF_ORDER, "chunk %u", i);
    }
    write_chunks(5, chunks_count);
    cr_assert_eq(write_chunk(chunks_count - 1), TL_ERR_OUT_OF_ORDER);
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_OK);
    assert_installed();
}

Test(snapshot, chunks_of_another_snapshot_are_refused_and_harmless)
{
    struct full_table other_content = small;
    other_content.salt = 1;
    struct snapshot *own = TL_TAKE(&snapshot);
    struct table *own_table = TL_TAKE(&table);
    char path[TMPDIR_PATH_BYTES_MAX + 8];
    (void)snprintf(path, sizeof path, "%s/kv.3.9", root);
    cr_assert_eq(mkdir(path, 0700), 0);
    table = full_table_open(path, &other_content);
    cr_assert_eq(cut_with(cut_options()), TL_OK);
    begin_stage();
    write_chunks(1, 3);
    struct buf *foreign = NULL;
    cr_assert_eq(snapshot_read(snapshot, 3, 0, &foreign, &fault), TL_OK);
    cr_assert_eq(snapshot_stage_write(stage, buf_bytes(foreign), &fault), TL_ERR_FOREIGN);
    buf_release(foreign);
    snapshot_destroy(snapshot);
    table_close(table);
    snapshot = own;
    table = own_table;
    write_chunks(3, chunks_count);
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_OK);
    assert_installed();
}

Test(snapshot, a_snapshot_of_another_group_is_refused)
{
    const struct snapshot_stage_options options = {
        .dir = stage_path, .group = FULL_TABLE_GROUP + 1, .map_bytes = 1u << 30};
    cr_assert_eq(snapshot_stage_create(&options, buf_bytes(chunks[0]), &stage, &fault),
                 TL_ERR_FOREIGN);
}

Test(snapshot, only_chunk_0_begins_a_stage)
{
    cr_assert_eq(try_stage(buf_bytes(chunks[1])), TL_ERR_INVALID);
    cr_assert_eq(try_stage(bytes_make(NULL, 0)), TL_ERR_INVALID);
}

Test(snapshot, every_changed_byte_of_a_chunk_is_refused_and_harmless)
{
    begin_stage();
    write_chunks(1, 3);
    struct buf *copy = buf_copy(buf_bytes(chunks[3]));
    for (uint32_t i = 0; i < copy->count; i++) {
        copy->data[i] ^= 0x41;
        enum tl_err err = snapshot_stage_write(stage, buf_bytes(copy), &fault);
        cr_assert(err == TL_ERR_INVALID || (i == 0 && err == TL_ERR_NEWER_FORMAT), "byte %u: %s", i,
                  tl_err_name(err));
        copy->data[i] ^= 0x41;
    }
    for (uint32_t count = 0; count < copy->count; count++) {
        struct bytes cut = bytes_make(copy->data, count);
        cr_assert_eq(snapshot_stage_write(stage, cut, &fault), TL_ERR_INVALID);
    }
    buf_release(copy);
    write_chunks(3, chunks_count);
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_OK);
    assert_installed();
}

/* ---- a sender with a bug: checksums are right, content is not ---- */

/* Seals chunk `number` again around what change() makes of it. */
static enum tl_err write_changed(uint32_t number,
                                 void (*change)(struct snapshot_chunk *chunk, uint8_t *payload))
{
    struct buf *copy = buf_copy(buf_bytes(chunks[number]));
    struct snapshot_chunk chunk;
    cr_assert_eq(snapshot_chunk_decode(buf_bytes(copy), &chunk), TL_OK);
    change(&chunk, copy->data + SNAPSHOT_CHUNK_HEADER_BYTES);
    snapshot_chunk_seal(&chunk, copy->data);
    copy->count = (uint32_t)(SNAPSHOT_CHUNK_HEADER_BYTES + chunk.payload.count);
    enum tl_err err = snapshot_stage_write(stage, buf_bytes(copy), &fault);
    buf_release(copy);
    return err;
}

static void change_offset(struct snapshot_chunk *chunk, uint8_t *payload)
{
    (void)payload;
    chunk->offset++;
}

static void change_items_count_up(struct snapshot_chunk *chunk, uint8_t *payload)
{
    (void)payload;
    chunk->items_count++;
}

static void change_items_count_down(struct snapshot_chunk *chunk, uint8_t *payload)
{
    (void)payload;
    chunk->items_count--;
}

static void change_items_count_to_none(struct snapshot_chunk *chunk, uint8_t *payload)
{
    (void)payload;
    chunk->items_count = 0;
    chunk->payload.count = 0;
}

static void change_key(struct snapshot_chunk *chunk, uint8_t *payload)
{
    (void)chunk;
    payload[SNAPSHOT_ITEM_HEAD_BYTES + 1] = 'A'; /* below the keys before it */
}

static void change_kind(struct snapshot_chunk *chunk, uint8_t *payload)
{
    (void)chunk;
    payload[SNAPSHOT_ITEM_HEAD_BYTES] = ENV_KEY_META;
}

static void change_value(struct snapshot_chunk *chunk, uint8_t *payload)
{
    payload[chunk->payload.count - 1] ^= 1;
}

static void change_item_length(struct snapshot_chunk *chunk, uint8_t *payload)
{
    (void)chunk;
    put_u32(payload + 2, UINT32_MAX);
}

Test(snapshot, wrong_content_under_right_checksums_is_refused_and_harmless)
{
    begin_stage();
    write_chunks(1, 5);
    void (*const changes[])(struct snapshot_chunk *, uint8_t *) = {
        change_offset,
        change_items_count_up,
        change_items_count_down,
        change_items_count_to_none,
        change_key,
        change_kind,
        change_value,
        change_item_length,
    };
    for (size_t i = 0; i < TL_COUNT_OF(changes); i++) {
        cr_assert_eq(write_changed(5, changes[i]), TL_ERR_INVALID, "change %zu", i);
    }
    write_chunks(5, chunks_count);
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_OK);
    assert_installed();
}

Test(snapshot, a_stage_with_chunks_missing_is_not_finished)
{
    begin_stage();
    write_chunks(1, chunks_count - 1);
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_ERR_OUT_OF_ORDER);
    cr_assert_not(is_there(stage_path), "deleted");
}

/* Another value under the same key, whole in itself: only the digest sees it. */
static void replace_last_row(struct snapshot_chunk *chunk, uint8_t *payload)
{
    struct reader reader = reader_make(chunk->payload);
    struct bytes env_key;
    struct bytes value = bytes_make(NULL, 0);
    for (uint32_t i = 0; i < chunk->items_count; i++) {
        cr_assert(snapshot_item_read(&reader, &env_key, &value));
        if (env_key.data[0] != ENV_KEY_ROW) continue;
        struct row_header header;
        cr_assert_eq(row_decode(value, true, &header), TL_OK);
        uint8_t *row = payload + (value.data - chunk->payload.data);
        header.version++;
        row_encode_head(&header, bytes_make(NULL, 0), row);
    }
}

Test(snapshot, items_that_do_not_add_up_are_not_finished)
{
    begin_stage();
    write_chunks(1, 5);
    cr_assert_eq(write_changed(5, replace_last_row), TL_OK, "%s", fault.reason);
    write_chunks(6, chunks_count);
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_ERR_INVALID);
    cr_assert_not_null(strstr(fault.reason, "digest"), "%s", fault.reason);
    cr_assert_not(is_there(stage_path), "deleted");
}

Test(snapshot, an_aborted_stage_leaves_nothing)
{
    begin_stage();
    write_chunks(1, 7);
    snapshot_stage_abort(TL_TAKE(&stage));
    cr_assert_not(is_there(stage_path));
}

Test(snapshot, a_stage_takes_the_place_of_an_earlier_one)
{
    begin_stage();
    write_chunks(1, 7);
    struct snapshot_stage *earlier = TL_TAKE(&stage); /* of a process that was killed */
    begin_stage();
    write_chunks(1, chunks_count);
    cr_assert_eq(snapshot_stage_finish(TL_TAKE(&stage), &fault), TL_OK);
    assert_installed();
    snapshot_stage_abort(earlier);
}

Test(snapshot, a_full_map_is_told)
{
    const struct snapshot_stage_options options = {
        .dir = stage_path, .group = FULL_TABLE_GROUP, .map_bytes = 64u << 10};
    cr_assert_eq(snapshot_stage_create(&options, buf_bytes(chunks[0]), &stage, &fault), TL_OK);
    enum tl_err err = TL_OK;
    for (uint32_t i = 1; i < chunks_count && err == TL_OK; i++) err = write_chunk(i);
    cr_assert_eq(err, TL_ERR_FULL);
}

Test(snapshot, writing_to_a_broken_stage_stops_the_process, .signal = SIGABRT)
{
    begin_stage();
    lmdb_fault_arm(1, EIO, LMDB_FAULT_WITHOUT_EFFECT);
    cr_assert_eq(write_chunk(1), TL_ERR_IO);
    cr_assert(lmdb_fault_disarm());
    enum tl_err err = write_chunk(1);
    cr_assert_fail("came back: %s", tl_err_name(err));
}

/* ---- every call fails once ---- */

static enum tl_err stage_all(void)
{
    enum tl_err err = try_stage(buf_bytes(chunks[0]));
    if (err != TL_OK) return err;
    for (uint32_t i = 1; i < chunks_count && err == TL_OK; i++) err = write_chunk(i);
    if (err != TL_OK) {
        snapshot_stage_abort(TL_TAKE(&stage));
        return err;
    }
    return snapshot_stage_finish(TL_TAKE(&stage), &fault);
}

static uint32_t sweep_stage(void (*arm)(uint32_t n), bool (*disarm)(void),
                            const char *(*call)(void))
{
    uint32_t step = 1; /* the puts are all alike: some of them will do */
    for (uint32_t n = 1;; n += step) {
        if (n == 60) step = 37;
        if (!is_there(stage_path)) cr_assert_eq(mkdir(stage_path, 0700), 0);
        arm(n);
        enum tl_err err = stage_all();
        bool has_fired = disarm();
        if (!has_fired) {
            cr_assert_eq(err, TL_OK);
            assert_installed();
            return n;
        }
        cr_assert_eq(err, TL_ERR_IO, "fault %u in %s: %s", n, call(), tl_err_name(err));
        cr_assert_gt(strlen(fault.reason), 0, "fault %u in %s", n, call());
    }
}

static void arm_lmdb(uint32_t n)
{
    lmdb_fault_arm(n, EIO, LMDB_FAULT_WITHOUT_EFFECT);
}

static void arm_sys(uint32_t n)
{
    sys_fault_arm(n, EIO);
}

Test(snapshot, a_stage_that_fails_can_be_done_again)
{
    cr_assert_gt(sweep_stage(arm_lmdb, lmdb_fault_disarm, lmdb_fault_call), 400);
    cr_assert_geq(sweep_stage(arm_sys, sys_fault_disarm, sys_fault_call), 6);
}

Test(snapshot, a_stage_is_flushed_before_it_has_its_name)
{
    sys_fault_arm(0, 0);
    cr_assert_eq(stage_all(), TL_OK);
    cr_assert_not_null(strstr(sys_fault_trace(), "rename fsync "), "%s", sys_fault_trace());
    (void)sys_fault_disarm();
}

/* Whether a fault in the n-th call into LMDB is met; the stage is deleted. */
static bool meets_call(uint32_t n)
{
    if (!is_there(stage_path)) cr_assert_eq(mkdir(stage_path, 0700), 0);
    arm_lmdb(n);
    enum tl_err err = stage_all();
    bool has_fired = lmdb_fault_disarm();
    cr_assert_eq(err, has_fired ? TL_ERR_IO : TL_OK);
    cr_assert_eq(table_delete(stage_path, &fault), TL_OK);
    return has_fired;
}

Test(snapshot, the_flush_is_the_last_that_is_asked_of_the_env)
{
    uint32_t met = 1;
    uint32_t not_met = 1u << 16;
    while (not_met - met > 1) {
        uint32_t middle = met + (not_met - met) / 2;
        if (meets_call(middle)) {
            met = middle;
        } else {
            not_met = middle;
        }
    }
    cr_assert(meets_call(met));
    cr_assert_str_eq(lmdb_fault_call(), "mdb_env_sync");
}

static uint32_t sweep_cut(void (*arm)(uint32_t n), bool (*disarm)(void), const char *(*call)(void))
{
    uint32_t step = 1;
    for (uint32_t n = 1;; n += step) {
        if (n == 40) step = 23;
        snapshot_destroy(TL_TAKE(&snapshot));
        struct table_reader *reader = NULL;
        cr_assert_eq(table_reader_create(table, &reader), TL_OK);
        arm(n);
        enum tl_err err = snapshot_cut(cut_options(), reader, &snapshot, &fault);
        bool has_fired = disarm();
        cr_assert_eq(err, has_fired ? TL_ERR_IO : TL_OK, "fault %u in %s", n, call());
        if (!has_fired) return n;
        cr_assert_null(snapshot);
    }
}

Test(snapshot, a_cut_that_fails_can_be_done_again)
{
    cr_assert_gt(sweep_cut(arm_lmdb, lmdb_fault_disarm, lmdb_fault_call), 300);
    cr_assert_gt(sweep_cut(arm_sys, sys_fault_disarm, sys_fault_call), chunks_count);
}

Test(snapshot, no_space_is_told_as_such)
{
    snapshot_destroy(TL_TAKE(&snapshot));
    enum tl_err err = TL_ERR_IO;
    for (uint32_t n = 1; err == TL_ERR_IO || err == TL_ERR_NO_SPACE; n++) {
        struct table_reader *reader = NULL;
        cr_assert_eq(table_reader_create(table, &reader), TL_OK);
        sys_fault_arm(n, ENOSPC);
        err = snapshot_cut(cut_options(), reader, &snapshot, &fault);
        if (sys_fault_disarm()) cr_assert_eq(err, TL_ERR_NO_SPACE, "%s", sys_fault_call());
    }
    cr_assert_eq(err, TL_OK);
}

Test(snapshot, a_short_write_of_the_spool_goes_on)
{
    snapshot_destroy(TL_TAKE(&snapshot));
    sys_fault_arm_short_write();
    cr_assert_eq(cut_with(cut_options()), TL_OK);
    cr_assert(sys_fault_disarm());
    struct buf *buf = NULL;
    cr_assert_eq(snapshot_read(snapshot, 1, 0, &buf, &fault), TL_OK);
    cr_assert(bytes_equal(buf_bytes(buf), buf_bytes(chunks[1])));
    buf_release(buf);
}

Test(snapshot, a_spool_that_cannot_be_read_is_told)
{
    struct buf *buf = NULL;
    sys_fault_arm(1, EIO);
    cr_assert_eq(snapshot_read(snapshot, 2, 0, &buf, &fault), TL_ERR_IO);
    cr_assert(sys_fault_disarm());
    cr_assert_null(buf);
}

/* ---- killed in the middle ---- */

/* A child stages all of it and is killed at the point; true: it has left a whole table. */
static bool is_whole_after_kill_at(const char *point)
{
    (void)fflush(NULL); /* or the child prints it again */
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        if (!crash_point_arm(point)) _exit(1);
        _exit(stage_all() == TL_OK ? 2 : 3);
    }
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s was not reached", point);
    const struct table_options options = {.dir = stage_path,
                                          .group = FULL_TABLE_GROUP,
                                          .map_bytes = 1u << 30,
                                          .readers_max = 4,
                                          .is_read_only = true};
    struct table *left = NULL;
    enum tl_err err = table_open(&options, &left, &fault);
    if (err == TL_OK) {
        table_close(left);
        assert_installed();
        return true;
    }
    cr_assert_eq(err, TL_ERR_NOT_FOUND, "%s: %s", point, fault.reason);
    /* What the next start does. */
    cr_assert_eq(table_delete(stage_path, &fault), TL_OK, "%s", fault.reason);
    cr_assert_not(is_there(stage_path));
    return false;
}

Test(snapshot, killed_before_its_name_a_stage_is_no_table)
{
    const char *const points[] = {"stage-chunk", "stage-chunk:9", "stage-before-sync",
                                  "stage-before-rename"};
    for (size_t i = 0; i < TL_COUNT_OF(points); i++) {
        cr_assert_not(is_whole_after_kill_at(points[i]), "%s", points[i]);
        cr_assert_eq(mkdir(stage_path, 0700), 0);
    }
}

Test(snapshot, killed_behind_its_name_a_stage_is_whole)
{
    cr_assert(is_whole_after_kill_at("stage-before-dir-sync"));
    cr_assert_eq(table_delete(stage_path, &fault), TL_OK);
    cr_assert_eq(mkdir(stage_path, 0700), 0);
    cr_assert(is_whole_after_kill_at("stage-done"));
}

Test(snapshot, killed_while_it_is_deleted_a_table_is_deleted_again)
{
    const char *const points[] = {"delete-before", "delete-half", "delete-half:2"};
    for (size_t i = 0; i < TL_COUNT_OF(points); i++) {
        if (!is_there(stage_path)) cr_assert_eq(mkdir(stage_path, 0700), 0);
        table_close(full_table_open(stage_path, &small));
        (void)fflush(NULL);
        pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            if (!crash_point_arm(points[i])) _exit(1);
            _exit(table_delete(stage_path, NULL) == TL_OK ? 2 : 3);
        }
        int status = 0;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status), "%s was not reached", points[i]);
        cr_assert(is_there(stage_path));
        cr_assert_eq(table_delete(stage_path, &fault), TL_OK, "%s", fault.reason);
        cr_assert_not(is_there(stage_path));
    }
}
