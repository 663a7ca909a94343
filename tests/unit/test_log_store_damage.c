/* log_store: damage is named and never repaired, served, or taken for an end of the log. */

#include <criterion/criterion.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log_store_fixture.h"
#include "trilith/codec.h"

#define ENTRIES_COUNT 60u

static struct log_model *model;

/* A log with a base, two configurations and a tail. */
static void setup(void)
{
    fixture_setup();
    model = model_create(5);
    model_append_conf(model, ENTRY_GENESIS, 50);
    model_append(model, 39, 300);
    model_append_conf(model, ENTRY_CONF, 60); /* 41 */
    model_append(model, ENTRIES_COUNT - 41, 300);
}

TestSuite(log_store_damage, .init = setup, .fini = fixture_teardown, .timeout = 60);

/* ---- changing stored records behind the store's back ---- */

struct edit {
    const char *database;
    const void *key;
    size_t key_bytes;
    size_t at;           /* byte to flip a bit of */
    const uint8_t *with; /* or the new value; NULL: flip */
    size_t with_bytes;   /* 0: delete the record */
};

static void edit(struct edit change)
{
    log_store_close(TL_TAKE(&fixture_store));
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    cr_assert_eq(mdb_env_create(&env), 0);
    cr_assert_eq(mdb_env_set_maxdbs(env, 8), 0);
    cr_assert_eq(mdb_env_set_mapsize(env, FIXTURE_MAP_BYTES), 0);
    cr_assert_eq(mdb_env_open(env, fixture_dir, 0, 0600), 0);
    cr_assert_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    cr_assert_eq(mdb_dbi_open(txn, change.database, 0, &dbi), 0);
    MDB_val key = {.mv_size = change.key_bytes, .mv_data = (void *)change.key};
    MDB_val value;
    uint8_t bytes[4096];
    if (change.with == NULL && change.with_bytes == 0) {
        cr_assert_eq(mdb_get(txn, dbi, &key, &value), 0);
        cr_assert_lt(change.at, value.mv_size);
        cr_assert_leq(value.mv_size, sizeof bytes);
        memcpy(bytes, value.mv_data, value.mv_size);
        bytes[change.at] ^= 0x10;
        value.mv_data = bytes;
    } else {
        value = (MDB_val){.mv_size = change.with_bytes, .mv_data = (void *)change.with};
    }
    int rc =
        value.mv_size == 0 ? mdb_del(txn, dbi, &key, NULL) : mdb_put(txn, dbi, &key, &value, 0);
    cr_assert_eq(rc, 0, "%s", mdb_strerror(rc));
    cr_assert_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void flip_entry(raft_index index, size_t at)
{
    edit((struct edit){.database = "log.5", .key = &index, .key_bytes = sizeof index, .at = at});
}

static void delete_entry(raft_index index)
{
    static const uint8_t none;
    edit((struct edit){
        .database = "log.5", .key = &index, .key_bytes = sizeof index, .with = &none});
}

static void assert_fault(raft_index index)
{
    cr_assert_eq(fixture_fault.group, 5);
    cr_assert_eq(fixture_fault.index, index, "%lu: %s", (unsigned long)fixture_fault.index,
                 fixture_fault.reason);
    cr_assert_not_null(strstr(fixture_fault.file, "data.mdb"));
    cr_assert_gt(strlen(fixture_fault.reason), 10);
}

static void assert_open_is_refused(raft_index index)
{
    cr_assert_eq(fixture_try_open(), TL_ERR_CORRUPT);
    assert_fault(index);
}

/* ---- entries ---- */

/* Bytes of every field of the header, and the payload. */
static const size_t entry_bytes[] = {0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 55, 56, 63, 64, 363};

Test(log_store_damage, a_flipped_bit_of_an_entry_is_named_by_its_index)
{
    for (size_t i = 0; i < TL_COUNT_OF(entry_bytes); i++) {
        flip_entry(20, entry_bytes[i]);
        fixture_open();
        uint32_t count = UINT32_MAX;
        cr_assert_eq(fixture_read(5, 1, ENTRIES_COUNT, &count), TL_ERR_CORRUPT, "byte %zu",
                     entry_bytes[i]);
        assert_fault(20);
        cr_assert_eq(count, UINT32_MAX, "nothing is given out");
        cr_assert_eq(fixture_read(5, 20, 20, &count), TL_ERR_CORRUPT);
        assert_fault(20);
        cr_assert_eq(fixture_read(5, 1, 19, &count), TL_OK, "what is before it is good");
        flip_entry(20, entry_bytes[i]);
        fixture_open();
        model_assert_stored(model, "flipped back");
    }
}

/* Its hash is what the next one is checked against: the right one of the two is named. */
Test(log_store_damage, a_read_behind_a_damaged_hash_names_the_damaged_entry)
{
    flip_entry(20, 45);
    fixture_open();
    uint32_t count;
    cr_assert_eq(fixture_read(5, 21, 30, &count), TL_ERR_CORRUPT);
    assert_fault(20);
    cr_assert_eq(fixture_read(5, 22, 30, &count), TL_OK);
}

Test(log_store_damage, a_damaged_first_entry_is_named)
{
    flip_entry(1, 70);
    fixture_open();
    uint32_t count;
    cr_assert_eq(fixture_read(5, 1, 3, &count), TL_ERR_CORRUPT);
    assert_fault(1);
}

Test(log_store_damage, a_damaged_last_entry_is_no_end_of_the_log)
{
    for (size_t i = 0; i < TL_COUNT_OF(entry_bytes); i++) {
        flip_entry(ENTRIES_COUNT, entry_bytes[i]);
        assert_open_is_refused(ENTRIES_COUNT);
        assert_open_is_refused(ENTRIES_COUNT);
        flip_entry(ENTRIES_COUNT, entry_bytes[i]);
    }
    fixture_open();
    model_assert_stored(model, "nothing was cut off");
}

Test(log_store_damage, an_entry_in_the_place_of_another_is_refused)
{
    const struct buf *other = model->entries[21];
    raft_index index = 20;
    edit((struct edit){.database = "log.5",
                       .key = &index,
                       .key_bytes = sizeof index,
                       .with = other->data,
                       .with_bytes = other->count});
    fixture_open();
    uint32_t count;
    cr_assert_eq(fixture_read(5, 18, 25, &count), TL_ERR_CORRUPT);
    assert_fault(20);
}

Test(log_store_damage, a_missing_entry_is_noticed_at_open)
{
    delete_entry(20);
    assert_open_is_refused(ENTRIES_COUNT);
    cr_assert_not_null(strstr(fixture_fault.reason, "gap"));
}

Test(log_store_damage, a_missing_first_entry_is_noticed_at_open)
{
    delete_entry(1);
    assert_open_is_refused(2);
}

Test(log_store_damage, an_end_below_the_commit_index_is_noticed_at_open)
{
    const struct raft_hard_state hard_state = {.term = 1, .commit = ENTRIES_COUNT};
    struct log_op op = {.group = 5, .hard_state = &hard_state};
    cr_assert_eq(model_commit(model, &op), TL_OK);
    delete_entry(ENTRIES_COUNT);
    assert_open_is_refused(ENTRIES_COUNT);
}

/* Flipped in the file itself, not through LMDB. */
Test(log_store_damage, a_flipped_bit_in_the_file_is_named_by_its_index)
{
    log_store_close(TL_TAKE(&fixture_store));
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", fixture_dir);
    int fd = open(path, O_RDWR);
    cr_assert_geq(fd, 0);
    struct stat status;
    cr_assert_eq(fstat(fd, &status), 0);
    uint8_t *file = malloc((size_t)status.st_size);
    cr_assert_eq(pread(fd, file, (size_t)status.st_size, 0), status.st_size);
    const struct buf *entry = model->entries[33];
    uint32_t count = 0;
    /* Pages are copied on write: an older copy of the record may lie around. */
    for (size_t i = 0; i + entry->count <= (size_t)status.st_size; i++) {
        if (memcmp(file + i, entry->data, entry->count) != 0) continue;
        uint8_t byte = file[i + 200] ^ 1;
        cr_assert_eq(pwrite(fd, &byte, 1, (off_t)(i + 200)), 1);
        count++;
    }
    free(file);
    (void)close(fd);
    cr_assert_geq(count, 1);
    fixture_open();
    cr_assert_eq(fixture_read(5, 1, ENTRIES_COUNT, &count), TL_ERR_CORRUPT);
    assert_fault(33);
}

/* ---- damage in the way of a commit ---- */

static const struct raft_hard_state committed = {.term = 1, .commit = 40};

Test(log_store_damage, a_damaged_entry_is_not_deleted_by_the_retention)
{
    flip_entry(20, 100);
    fixture_options.retain_bytes = 0;
    fixture_open();
    struct log_op op = {.group = 5, .hard_state = &committed, .deletable = 40};
    cr_assert_eq(model_commit(model, &op), TL_ERR_CORRUPT);
    assert_fault(20);
    cr_assert_not(op.out_has_base);
    struct log_op nothing = {.group = 5};
    fixture_fault.index = 0;
    cr_assert_eq(model_commit(model, &nothing), TL_ERR_CORRUPT, "latched");
    assert_fault(20);
    flip_entry(20, 100);
    fixture_open();
    model_assert_stored(model, "nothing was deleted");
}

Test(log_store_damage, a_damaged_entry_before_a_truncation_stops_it)
{
    flip_entry(49, 16);
    fixture_open();
    struct log_op op = {.group = 5, .truncate_from = 50};
    cr_assert_eq(model_commit(model, &op), TL_ERR_CORRUPT);
    assert_fault(49);
}

/* ---- small records ---- */

static void flip_record(const char *database, size_t at)
{
    raft_group group = 5;
    edit((struct edit){.database = database, .key = &group, .key_bytes = sizeof group, .at = at});
}

static void put_record(const char *database, const uint8_t *with, size_t with_bytes)
{
    static const uint8_t none;
    raft_group group = 5;
    edit((struct edit){.database = database,
                       .key = &group,
                       .key_bytes = sizeof group,
                       .with = with == NULL ? &none : with,
                       .with_bytes = with_bytes});
}

Test(log_store_damage, every_bit_of_hard_state_and_base_is_guarded)
{
    static const struct {
        const char *database;
        size_t bytes;
    } records[] = {{"hard_state", 32}, {"base", 48}};
    for (size_t i = 0; i < TL_COUNT_OF(records); i++) {
        for (size_t at = 0; at < records[i].bytes; at++) {
            flip_record(records[i].database, at);
            assert_open_is_refused(0);
            flip_record(records[i].database, at);
        }
    }
    fixture_open();
}

Test(log_store_damage, missing_hard_state_or_base_is_noticed_at_open)
{
    put_record("hard_state", NULL, 0);
    assert_open_is_refused(0);
}

Test(log_store_damage, missing_base_is_noticed_at_open)
{
    put_record("base", NULL, 0);
    assert_open_is_refused(0);
}

/* The layout of FORMAT.md 2, and that a record counts only for its own group. */
Test(log_store_damage, records_have_the_documented_layout_and_belong_to_their_group)
{
    uint8_t record[4 + 32];
    put_u32(record, 5);
    put_u64(record + 4, 3);
    put_u64(record + 12, 0x1122334455667788);
    put_u64(record + 20, 40);
    put_u64(record + 28, hash_checksum(bytes_make(record, 28)));
    put_record("hard_state", record + 4, 32);
    fixture_open();
    model->hard_state =
        (struct raft_hard_state){.term = 3, .vote = 0x1122334455667788, .commit = 40};
    model_assert_stored(model, "a hard state made by hand");

    put_u32(record, 6);
    put_u64(record + 28, hash_checksum(bytes_make(record, 28)));
    put_record("hard_state", record + 4, 32);
    assert_open_is_refused(0);
}

Test(log_store_damage, a_term_below_the_log_is_noticed_at_open)
{
    uint8_t record[4 + 32] = {5};
    put_u64(record + 28, hash_checksum(bytes_make(record, 28)));
    put_record("hard_state", record + 4, 32);
    assert_open_is_refused(ENTRIES_COUNT);
}

static void edit_conf(raft_index index, size_t at, const uint8_t *with, size_t with_bytes)
{
    uint8_t key[12] = {0, 0, 0, 5};
    put_u64_be(key + 4, index);
    edit((struct edit){.database = "conf",
                       .key = key,
                       .key_bytes = sizeof key,
                       .at = at,
                       .with = with,
                       .with_bytes = with_bytes});
}

Test(log_store_damage, a_damaged_configuration_is_noticed_at_open)
{
    static const size_t bytes[] = {0, 7, 8, 67};
    for (size_t i = 0; i < TL_COUNT_OF(bytes); i++) {
        edit_conf(41, bytes[i], NULL, 0);
        assert_open_is_refused(41);
        edit_conf(41, bytes[i], NULL, 0);
        edit_conf(1, 20, NULL, 0);
        assert_open_is_refused(1);
        edit_conf(1, 20, NULL, 0);
    }
    fixture_open();
}

/* index u32 group, u64 index, payload: what the checksum covers. */
static void put_conf(raft_index index, const char *payload)
{
    uint8_t covered[12 + 100];
    put_u32(covered, 5);
    put_u64(covered + 4, index);
    memcpy(covered + 12, payload, strlen(payload));
    uint8_t record[8 + 100];
    put_u64(record, hash_checksum(bytes_make(covered, 12 + strlen(payload))));
    memcpy(record + 8, payload, strlen(payload));
    edit_conf(index, 0, record, 8 + strlen(payload));
}

Test(log_store_damage, a_configuration_that_is_not_its_entry_is_noticed_at_open)
{
    put_conf(41, "not what the entry says");
    assert_open_is_refused(41);
}

Test(log_store_damage, a_configuration_without_its_entry_is_noticed_at_open)
{
    put_conf(ENTRIES_COUNT, "entry 60 is a command");
    assert_open_is_refused(ENTRIES_COUNT);
}

Test(log_store_damage, a_configuration_behind_the_end_is_noticed_at_open)
{
    put_conf(ENTRIES_COUNT + 1, "of the future");
    assert_open_is_refused(ENTRIES_COUNT + 1);
}

/* ---- the file as a whole ---- */

static void put_format(const uint8_t *mark, size_t mark_bytes)
{
    edit((struct edit){
        .database = NULL, .key = "format", .key_bytes = 6, .with = mark, .with_bytes = mark_bytes});
}

Test(log_store_damage, a_newer_format_is_refused_as_such)
{
    uint8_t mark[20] = {'T', 'L', 'L', 'G', 2, 0, 0, 0, 'o', 't', 'h', 'e', 'r'};
    put_format(mark, sizeof mark);
    cr_assert_eq(fixture_try_open(), TL_ERR_NEWER_FORMAT);
    cr_assert_not_null(strstr(fixture_fault.reason, "newer"));
}

Test(log_store_damage, a_damaged_or_missing_format_mark_is_refused)
{
    uint8_t mark[16] = {'T', 'L', 'L', 'G', 1};
    put_u64(mark + 8, hash_checksum(bytes_make(mark, 8)));
    put_format(mark, sizeof mark);
    fixture_open();
    mark[9] ^= 1;
    put_format(mark, sizeof mark);
    cr_assert_eq(fixture_try_open(), TL_ERR_CORRUPT);
    mark[9] ^= 1;
    mark[0] = 'X';
    put_format(mark, sizeof mark);
    cr_assert_eq(fixture_try_open(), TL_ERR_CORRUPT);
    put_format(mark, 0);
    cr_assert_eq(fixture_try_open(), TL_ERR_CORRUPT);
}

static void cut_data_file(off_t bytes)
{
    log_store_close(TL_TAKE(&fixture_store));
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", fixture_dir);
    cr_assert_eq(truncate(path, bytes), 0);
}

/* LMDB takes it for a new environment; for a log that would be amnesia. */
Test(log_store_damage, an_empty_data_file_is_not_a_new_log)
{
    cut_data_file(0);
    cr_assert_eq(fixture_try_open(), TL_ERR_CORRUPT);
}

Test(log_store_damage, a_zeroed_data_file_is_not_a_new_log)
{
    cut_data_file(0);
    cut_data_file(1 << 20);
    cr_assert_eq(fixture_try_open(), TL_ERR_CORRUPT);
}

Test(log_store_damage, a_file_that_lost_its_end_is_refused)
{
    cut_data_file(5 * 4096);
    cr_assert_eq(fixture_try_open(), TL_ERR_CORRUPT);
    cr_assert_gt(strlen(fixture_fault.reason), 10);
}
