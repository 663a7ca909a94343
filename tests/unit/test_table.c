/* table: what is promised in table.h, one test per promise. */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lmdb_fault.h"
#include "rows.h"
#include "sys_fault.h"
#include "tmpdir.h"
#include "trilith/prng.h"
#include "trilith/table.h"

#define MAP_BYTES (256u * 1024u * 1024u)
#define GROUP 3u
#define PAGE_BYTES 4096u

static char dir[TMPDIR_PATH_BYTES_MAX];
static struct table *table;
static struct tl_fault fault;

static enum tl_err try_open(size_t map_bytes)
{
    struct table_options options = {
        .dir = dir,
        .group = GROUP,
        .map_bytes = map_bytes,
        .readers_max = 8,
    };
    return table_open(&options, &table, &fault);
}

static void open_table(void)
{
    enum tl_err err = try_open(MAP_BYTES);
    cr_assert_eq(err, TL_OK, "open: %s: %s", tl_err_text(err), fault.reason);
}

static void close_table(void)
{
    table_close(TL_TAKE(&table));
}

static void setup(void)
{
    tmpdir_create(dir);
    open_table();
}

static void teardown(void)
{
    close_table();
    tmpdir_destroy(dir);
}

TestSuite(table, .init = setup, .fini = teardown, .timeout = 60);

static struct generation *generation_start(void)
{
    return generation_create(table_state(table)->index);
}

static void freeze(struct generation *generation, raft_index index)
{
    generation_publish(generation, index);
    struct group_state final = rows_final(index);
    generation_freeze(generation, &final, bytes_of("conf"));
}

static void delete_row(struct generation *generation, raft_index index, const char *key)
{
    (void)generation_put(generation, index, bytes_of(key), 0, 0, true);
}

static enum tl_err flush(struct generation *generation)
{
    enum tl_err err = table_flush(table, generation, &fault);
    generation_destroy(generation);
    return err;
}

/* One generation of one entry with one row. */
static void flush_one(raft_index index, const char *key, const char *text)
{
    struct generation *generation = generation_start();
    rows_put(generation, index, key, bytes_of(text));
    freeze(generation, index);
    cr_assert_eq(flush(generation), TL_OK, "%s", fault.reason);
}

/* The value as of now is `text`; NULL: there is none. */
static void assert_row(const char *key, const char *text)
{
    struct table_reader *reader;
    raft_index index;
    struct bytes row;
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    enum tl_err err = table_get(reader, bytes_of(key), &row, &fault);
    if (text == NULL) {
        cr_assert_eq(err, TL_ERR_NOT_FOUND, "%s", key);
    } else {
        cr_assert_eq(err, TL_OK, "%s: %s", key, tl_err_text(err));
        cr_assert(bytes_equal(rows_value(row), bytes_of(text)), "%s", key);
    }
    table_reader_destroy(reader);
}

Test(table, a_new_one_stands_at_index_zero_and_again_after_reopening)
{
    const struct group_state zero = {0};
    cr_assert_eq(memcmp(table_state(table), &zero, sizeof zero), 0);
    close_table();
    open_table();
    cr_assert_eq(memcmp(table_state(table), &zero, sizeof zero), 0);
}

Test(table, flush_writes_rows_deletions_and_state_durably)
{
    flush_one(1, "ra", "a1");
    flush_one(2, "rb", "b2");
    struct generation *generation = generation_start();
    rows_put(generation, 3, "ra", bytes_of("a3"));
    rows_put(generation, 4, "ra", bytes_of("a4"));
    delete_row(generation, 4, "rb");
    rows_put(generation, 4, "rc", bytes_of("c4"));
    delete_row(generation, 5, "rc");
    delete_row(generation, 5, "rd");
    freeze(generation, 6);
    cr_assert_eq(flush(generation), TL_OK);

    for (int i = 0; i < 2; i++) {
        struct group_state final = rows_final(6);
        cr_assert_eq(memcmp(table_state(table), &final, sizeof final), 0);
        assert_row("ra", "a4");
        assert_row("rb", NULL);
        assert_row("rc", NULL);
        assert_row("rd", NULL);
        close_table();
        open_table();
    }
}

Test(table, a_flush_to_a_deleted_file_is_told_and_latched)
{
    flush_one(1, "a", "1");
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    cr_assert_eq(unlink(path), 0);
    for (raft_index index = 2; index < 4; index++) {
        struct generation *generation = generation_start();
        freeze(generation, index);
        cr_assert_eq(flush(generation), TL_ERR_IO);
    }
    cr_assert_eq(table_state(table)->index, 1);
}

Test(table, a_generation_without_rows_moves_the_state)
{
    struct generation *generation = generation_start();
    freeze(generation, 9);
    cr_assert_eq(flush(generation), TL_OK);
    close_table();
    open_table();
    cr_assert_eq(table_state(table)->index, 9);
}

Test(table, flush_of_a_generation_that_does_not_continue_it_stops_the_process, .signal = SIGABRT)
{
    struct generation *generation = generation_create(5);
    freeze(generation, 6);
    tmpdir_destroy(dir); /* nobody else will: the process ends here */
    (void)!flush(generation);
}

Test(table, a_reader_sees_one_index_until_it_begins_again)
{
    flush_one(1, "ra", "a1");
    struct table_reader *reader;
    raft_index index;
    struct bytes row;
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    cr_assert_eq(index, 1);
    flush_one(2, "ra", "a2");
    cr_assert_eq(table_get(reader, bytes_of("ra"), &row, &fault), TL_OK);
    cr_assert(bytes_equal(rows_value(row), bytes_of("a1")));

    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    cr_assert_eq(index, 2);
    cr_assert_eq(table_get(reader, bytes_of("ra"), &row, &fault), TL_OK);
    cr_assert(bytes_equal(rows_value(row), bytes_of("a2")));
    table_reader_end(reader);
    table_reader_destroy(reader);
}

Test(table, more_readers_than_agreed_are_refused)
{
    struct table_reader *readers[8];
    for (unsigned i = 0; i < 8; i++) {
        cr_assert_eq(table_reader_create(table, &readers[i]), TL_OK);
    }
    struct table_reader *one_more;
    cr_assert_eq(table_reader_create(table, &one_more), TL_ERR_FULL);
    for (unsigned i = 0; i < 8; i++) table_reader_destroy(readers[i]);
}

static bool count_item(void *context, struct bytes env_key, struct bytes value)
{
    uint32_t *count = context;
    cr_assert(bytes_equal(rows_value(value), bytes_make(env_key.data + 1, env_key.count - 1)));
    (*count)++;
    return *count < 3;
}

Test(table, walk_goes_in_order_from_the_start_until_told_to_stop)
{
    struct generation *generation = generation_start();
    const char *keys[] = {"rd", "ra", "re", "rb", "rc"};
    for (unsigned i = 0; i < TL_COUNT_OF(keys); i++) {
        rows_put(generation, 1, keys[i], bytes_of(keys[i] + 1));
    }
    freeze(generation, 1);
    cr_assert_eq(flush(generation), TL_OK);
    struct table_reader *reader;
    raft_index index;
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    uint32_t count = 0;
    cr_assert_eq(table_walk(reader, bytes_of("rd"), count_item, &count, &fault), TL_OK);
    cr_assert_eq(count, 2, "rd, re");
    count = 0;
    cr_assert_eq(table_walk(reader, bytes_of("r"), count_item, &count, &fault), TL_OK);
    cr_assert_eq(count, 3, "stopped");
    table_reader_destroy(reader);
}

/* ---- Random generations against a plain array ---------------------------------------------- */

#define MODEL_KEYS_COUNT 3000u
#define MODEL_ROUNDS_COUNT 60u

static uint32_t model[MODEL_KEYS_COUNT]; /* 0: absent, else bytes of the value */
static uint8_t model_bytes[20000];

static void model_key(uint32_t number, char out_key[24])
{
    (void)snprintf(out_key, 24, "r%08" PRIx32, number * 2654435761u);
}

/* Rounds that mostly put, mostly delete, or touch little; values in leaves and beside them. */
static void model_round(struct prng *prng, struct generation *generation, raft_index index)
{
    uint32_t changes_count = (uint32_t)prng_between(prng, 1, 1200);
    uint32_t deletions_per_million = (uint32_t)prng_below(prng, 3) * 450000;
    for (uint32_t i = 0; i < changes_count; i++) {
        uint32_t number = (uint32_t)prng_below(prng, MODEL_KEYS_COUNT);
        char key[24];
        model_key(number, key);
        if (prng_chance(prng, deletions_per_million)) {
            delete_row(generation, index, key);
            model[number] = 0;
            continue;
        }
        uint32_t bytes_max = prng_chance(prng, 20000) ? sizeof model_bytes : 300;
        model[number] = (uint32_t)prng_between(prng, 1, bytes_max);
        rows_put(generation, index, key, bytes_make(model_bytes, model[number]));
    }
}

static void assert_model(uint32_t round)
{
    struct table_reader *reader;
    raft_index index;
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    for (uint32_t number = 0; number < MODEL_KEYS_COUNT; number++) {
        char key[24];
        struct bytes row;
        model_key(number, key);
        enum tl_err err = table_get(reader, bytes_of(key), &row, &fault);
        cr_assert_eq(err, model[number] == 0 ? TL_ERR_NOT_FOUND : TL_OK, "round %u", round);
        if (err == TL_OK) cr_assert_eq(rows_value(row).count, model[number], "round %u", round);
    }
    table_reader_destroy(reader);
}

static bool file_is_short(void)
{
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    uint64_t last_pages[2];
    struct stat status;
    int fd = open(path, O_RDONLY);
    cr_assert_eq(fstat(fd, &status), 0);
    for (unsigned i = 0; i < 2; i++) {
        ssize_t count = pread(fd, &last_pages[i], 8, (off_t)(i * PAGE_BYTES + 136));
        cr_assert_eq(count, 8);
    }
    (void)close(fd);
    uint64_t pages = TL_MAX(last_pages[0], last_pages[1]) + 1;
    return (uint64_t)status.st_size < pages * PAGE_BYTES;
}

Test(table, holds_what_its_generations_held_and_opens_after_any_of_them)
{
    struct prng prng;
    prng_init(&prng, 11);
    for (size_t i = 0; i < sizeof model_bytes; i++) model_bytes[i] = (uint8_t)prng_next(&prng);
    for (uint32_t round = 1; round <= MODEL_ROUNDS_COUNT; round++) {
        struct generation *generation = generation_start();
        model_round(&prng, generation, round);
        freeze(generation, round);
        cr_assert_eq(flush(generation), TL_OK, "round %u: %s", round, fault.reason);
        if (round % 4 == 0) {
            close_table();
            open_table();
        }
        assert_model(round);
    }
}

/* Opens the env behind the table's back and begins a transaction in it. */
static MDB_env *raw_begin(MDB_txn **out_txn, MDB_dbi *out_dbi)
{
    close_table();
    MDB_env *env;
    cr_assert_eq(mdb_env_create(&env), 0);
    cr_assert_eq(mdb_env_set_mapsize(env, MAP_BYTES), 0);
    cr_assert_eq(mdb_env_open(env, dir, 0, 0600), 0);
    cr_assert_eq(mdb_txn_begin(env, NULL, 0, out_txn), 0);
    cr_assert_eq(mdb_dbi_open(*out_txn, NULL, 0, out_dbi), 0);
    return env;
}

static void raw_commit(MDB_env *env, MDB_txn *txn)
{
    cr_assert_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* LMDB does not write pages that a commit took at the end of the file and dropped again: the file
 * ends before its last page number, and that is no damage. */
Test(table, opens_a_sound_file_that_is_shorter_than_its_last_page)
{
    for (raft_index index = 1; index < 5; index++) flush_one(index, "ra", "a1");
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_env *env = raw_begin(&txn, &dbi);
    for (unsigned is_deletion = 0; is_deletion < 2; is_deletion++) {
        for (uint32_t i = 0; i < 5000; i++) {
            MDB_val val = {.mv_size = sizeof i, .mv_data = &i};
            int rc = is_deletion ? mdb_del(txn, dbi, &val, NULL) : mdb_put(txn, dbi, &val, &val, 0);
            cr_assert_eq(rc, 0);
        }
    }
    raw_commit(env, txn);
    cr_assert(file_is_short(), "the test did not reach what it is for");
    open_table();
    assert_row("ra", "a1");
    flush_one(5, "ra", "a2");
}

/* ---- Damage -------------------------------------------------------------------------------- */

/* Overwrites the value under a key behind the table's back; count 0: deletes it. */
static void damage(const char *env_key, struct bytes value)
{
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_env *env = raw_begin(&txn, &dbi);
    MDB_val key = {.mv_size = strlen(env_key), .mv_data = (void *)(uintptr_t)env_key};
    MDB_val val = {.mv_size = value.count, .mv_data = (void *)(uintptr_t)value.data};
    int rc = value.count > 0 ? mdb_put(txn, dbi, &key, &val, 0) : mdb_del(txn, dbi, &key, NULL);
    cr_assert_eq(rc, 0);
    raw_commit(env, txn);
}

static bool ignore_item(void *context, struct bytes env_key, struct bytes value)
{
    (void)context;
    (void)env_key;
    (void)value;
    return true;
}

Test(table, a_row_whose_header_is_damaged_is_not_given_out)
{
    flush_one(1, "ra", "a1");
    uint8_t row[ROW_HEADER_BYTES + 2];
    rows_fill(row, 1, bytes_of("a1"));
    row[40] ^= 1;
    damage("ra", bytes_make(row, sizeof row));
    open_table();
    struct table_reader *reader;
    raft_index index;
    struct bytes value = {0};
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    cr_assert_eq(table_get(reader, bytes_of("ra"), &value, &fault), TL_ERR_CORRUPT);
    cr_assert_null(value.data);
    cr_assert_str_eq(fault.file, dir);
    cr_assert_eq(fault.group, GROUP);
    enum tl_err err = table_walk(reader, bytes_of("r"), ignore_item, NULL, &fault);
    cr_assert_eq(err, TL_ERR_CORRUPT);
    table_reader_destroy(reader);
}

Test(table, a_missing_or_damaged_state_row_is_refused)
{
    flush_one(1, "ra", "a1");
    damage("m", bytes_make(NULL, 0));
    cr_assert_eq(try_open(MAP_BYTES), TL_ERR_CORRUPT);
    damage("m", bytes_of("nothing that could be a state"));
    cr_assert_eq(try_open(MAP_BYTES), TL_ERR_CORRUPT);
    cr_assert_str_eq(fault.file, dir);
    cr_assert_eq(fault.group, GROUP);
}

static int open_file(int flags)
{
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    int fd = open(path, flags);
    cr_assert_geq(fd, 0);
    return fd;
}

static bool count_any(void *context, struct bytes env_key, struct bytes row)
{
    uint32_t *count = context;
    (void)env_key;
    (void)rows_value(row);
    (*count)++;
    return true;
}

static uint32_t count_rows(void)
{
    struct table_reader *reader;
    raft_index index;
    uint32_t count = 0;
    cr_assert_eq(table_reader_create(table, &reader), TL_OK);
    cr_assert_eq(table_reader_begin(reader, &index, &fault), TL_OK);
    cr_assert_eq(table_walk(reader, bytes_of("r"), count_any, &count, &fault), TL_OK);
    table_reader_destroy(reader);
    return count;
}

/* Puts (or deletes) enough rows to fill some pages. */
static void flush_many(raft_index index, char letter, bool is_deletion)
{
    struct generation *generation = generation_start();
    for (uint32_t number = 0; number < 500; number++) {
        char key[24];
        (void)snprintf(key, sizeof key, "r%c%03u", letter, number);
        if (is_deletion) delete_row(generation, index, key);
        if (!is_deletion) rows_put(generation, index, key, bytes_of(key));
    }
    freeze(generation, index);
    cr_assert_eq(flush(generation), TL_OK);
}

/* A page in use that was cut from the end is missed, also when it is a leaf and the roots are
 * whole: pages are freed at the start of the file, and small flushes move the roots there. (Free
 * pages at the end may be cut: nothing reads them.) */
Test(table, an_empty_or_cut_file_is_damage_and_not_a_new_table)
{
    flush_many(1, 'a', false);
    flush_many(2, 'b', false);
    flush_many(3, 'a', true);
    for (raft_index index = 4; index < 10; index++) flush_one(index, "ra", "small");
    close_table();
    int fd = open_file(O_RDWR);
    struct stat status;
    cr_assert_eq(fstat(fd, &status), 0);
    uint32_t leaves_count = 0;
    for (off_t bytes = status.st_size - PAGE_BYTES; bytes >= 0; bytes -= PAGE_BYTES) {
        cr_assert_eq(ftruncate(fd, bytes), 0);
        enum tl_err err = try_open(MAP_BYTES);
        if (err == TL_OK) {
            cr_assert_eq(count_rows(), 501, "%lld bytes", (long long)bytes);
            close_table();
            continue;
        }
        cr_assert_eq(err, TL_ERR_CORRUPT, "%lld bytes", (long long)bytes);
        leaves_count += strstr(fault.reason, "lost its end") != NULL;
    }
    cr_assert_gt(leaves_count, 5);
    (void)close(fd);
}

/* Every bit of both meta pages that says where things are. What is let through (counters, the map's
 * size and address, which LMDB does not use) leaves a table that reads as before. */
Test(table, a_flipped_bit_in_a_meta_page_is_refused_or_harmless)
{
    flush_one(1, "ra", "a1");
    flush_one(2, "rb", "b2");
    uint32_t refused_count = 0;
    for (uint32_t bit = 0; bit < 2 * 152 * 8; bit += 3) {
        off_t at = (off_t)((bit / (152 * 8)) * PAGE_BYTES + bit / 8 % 152);
        uint8_t byte;
        close_table();
        int fd = open_file(O_RDWR);
        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        uint8_t flipped = byte ^ (uint8_t)(1u << bit % 8);
        cr_assert_eq(pwrite(fd, &flipped, 1, at), 1);
        enum tl_err err = try_open(MAP_BYTES);
        if (err == TL_OK) {
            cr_assert_geq(table_state(table)->index, 1, "bit %u", bit);
            assert_row("ra", "a1");
            close_table();
        } else {
            refused_count++;
        }
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
        (void)close(fd);
        open_table();
    }
    cr_assert_gt(refused_count, 200);
}

/* ---- Faults -------------------------------------------------------------------------------- */

static void fault_generation(struct generation **out_generation)
{
    *out_generation = generation_start();
    rows_put(*out_generation, 2, "ra", bytes_of("a2"));
    delete_row(*out_generation, 2, "rb");
    rows_put(*out_generation, 3, "rc", bytes_of("c3"));
    freeze(*out_generation, 3);
}

/* Fails every call of a flush in turn. Returns how often the new state was there after it. */
static uint32_t sweep_flush(enum lmdb_fault_when when, int rc, enum tl_err expected,
                            uint32_t *out_faults_count)
{
    uint32_t new_count = 0;
    for (uint32_t n = 1;; n++) {
        teardown();
        setup();
        flush_one(1, "rb", "b1");
        struct generation *generation;
        fault_generation(&generation);
        lmdb_fault_arm(n, rc, when);
        enum tl_err err = table_flush(table, generation, &fault);
        if (!lmdb_fault_disarm()) {
            cr_assert_eq(err, TL_OK);
            generation_destroy(generation);
            *out_faults_count = n - 1;
            return new_count;
        }
        cr_assert_eq(err, expected, "fault %u: %s", n, tl_err_name(err));
        cr_assert_eq(table_state(table)->index, 1, "fault %u: the index moved", n);
        cr_assert_eq(table_flush(table, generation, &fault), expected, "fault %u: not latched", n);
        generation_destroy(generation);

        close_table();
        open_table();
        bool is_new = table_state(table)->index == 3;
        cr_assert(is_new || table_state(table)->index == 1, "fault %u", n);
        assert_row("ra", is_new ? "a2" : NULL);
        assert_row("rb", is_new ? NULL : "b1");
        assert_row("rc", is_new ? "c3" : NULL);
        new_count += is_new;
    }
}

Test(table, a_failed_flush_leaves_the_old_state_and_latches)
{
    uint32_t faults_count;
    /* The one: asking for the file's descriptor, after the commit. */
    cr_assert_eq(sweep_flush(LMDB_FAULT_WITHOUT_EFFECT, EIO, TL_ERR_IO, &faults_count), 1);
    /* begin, cursor open, put, delete, put, state, stat, commit, descriptor */
    cr_assert_eq(faults_count, 9);
}

/* LMDB makes an EIO of a write that was cut short, as a full file system does. */
Test(table, an_error_without_a_free_block_is_one_of_space)
{
    lmdb_fault_fill_file_systems(true);
    uint32_t faults_count;
    cr_assert_eq(sweep_flush(LMDB_FAULT_WITHOUT_EFFECT, EIO, TL_ERR_NO_SPACE, &faults_count), 1);
    teardown();
    setup();
    struct generation *generation = generation_start();
    rows_put(generation, 1, "ra", bytes_of("a1"));
    freeze(generation, 1);
    lmdb_fault_arm(1, EIO, LMDB_FAULT_WITHOUT_EFFECT);
    cr_assert_eq(flush(generation), TL_ERR_NO_SPACE);
    cr_assert(lmdb_fault_disarm());
    cr_assert_neq(strstr(fault.reason, "no free block left"), NULL, "%s", fault.reason);
    lmdb_fault_fill_file_systems(false);
}

/* Accepted before the limit was seen to be reached, and replaced by flushes. */
Test(table, a_map_has_headroom_above_its_limit_and_above_a_longer_file)
{
    const struct table_options options = {
        .dir = dir,
        .group = GROUP,
        .map_bytes = 128 * 1024,
        .map_headroom_bytes = 4 * 1024 * 1024,
        .readers_max = 2,
    };
    static uint8_t value[1024 * 1024];
    for (raft_index index = 1; index <= 8; index++) {
        close_table();
        cr_assert_eq(table_open(&options, &table, &fault), TL_OK, "%s", fault.reason);
        char key[8];
        snprintf(key, sizeof key, "r%u", (unsigned)index);
        struct generation *generation = generation_start();
        rows_put(generation, index, key, bytes_make(value, sizeof value));
        freeze(generation, index);
        cr_assert_eq(flush(generation), TL_OK, "%s", fault.reason);
        cr_assert_gt(table_data_bytes(table), index * sizeof value);
    }
}

Test(table, a_commit_that_fails_may_have_written_all_of_it)
{
    uint32_t faults_count;
    cr_assert_eq(
        sweep_flush(LMDB_FAULT_COMMIT_TAKES_EFFECT, ENOSPC, TL_ERR_NO_SPACE, &faults_count), 2);
    cr_assert_eq(faults_count, 9);
}

/* Opens where the n-th call fails, until none does; after each failure again without. Returns how
 * many could fail. */
static uint32_t sweep_open(void (*arm)(uint32_t n), bool (*disarm)(void))
{
    uint32_t faults_count = 0;
    bool has_fired = true;
    while (has_fired) {
        teardown();
        tmpdir_create(dir);
        arm(faults_count + 1);
        enum tl_err err = try_open(MAP_BYTES);
        has_fired = disarm();
        faults_count += has_fired;
        /* LMDB's lock file of the building place may stay: nothing depends on it. */
        bool is_harmless = err == TL_OK && strcmp(lmdb_fault_call(), "unlink") == 0;
        cr_assert_eq(err, has_fired && !is_harmless ? TL_ERR_IO : TL_OK, "fault %u in %s",
                     faults_count, lmdb_fault_call());
        if (err != TL_OK) open_table();
        flush_one(1, "ra", "a1");
        assert_row("ra", "a1");
    }
    return faults_count;
}

static void arm_lmdb(uint32_t n)
{
    lmdb_fault_arm(n, EIO, LMDB_FAULT_WITHOUT_EFFECT);
}

static void arm_sys(uint32_t n)
{
    sys_fault_arm(n, EIO);
}

Test(table, a_creation_that_fails_can_be_done_again)
{
    cr_assert_geq(sweep_open(arm_lmdb, lmdb_fault_disarm), 16, "two opens, first state, load");
    cr_assert_geq(sweep_open(arm_sys, sys_fault_disarm), 6, "opens, unlinks, rename, fsync, fstat");
}

Test(table, a_full_map_is_told_and_latched)
{
    close_table();
    cr_assert_eq(try_open(16 * PAGE_BYTES), TL_OK);
    struct generation *generation = generation_start();
    rows_put(generation, 1, "ra", bytes_make(model_bytes, sizeof model_bytes));
    rows_put(generation, 1, "rb", bytes_make(model_bytes, sizeof model_bytes));
    rows_put(generation, 1, "rc", bytes_make(model_bytes, sizeof model_bytes));
    freeze(generation, 1);
    cr_assert_eq(table_flush(table, generation, &fault), TL_ERR_FULL);
    cr_assert_eq(table_flush(table, generation, &fault), TL_ERR_FULL);
    cr_assert_eq(flush(generation), TL_ERR_FULL);
    cr_assert_eq(table_state(table)->index, 0);
}
