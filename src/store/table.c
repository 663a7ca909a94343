/* table.c - the kv env: src/store/FORMAT.md 3.
 *
 * All keys stand in LMDB's unnamed database; the row ENV_KEY_META says at which index they stand.
 * It is written in every transaction that writes anything, so whatever a reader's transaction sees
 * is the state at that index, no more and no less.
 *
 * A failed fsync says nothing about which pages reached the disk, and LMDB lets the next
 * transaction begin as if nothing had been. Hence the latch.
 */

#include "table_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lmdb_env.h"

#define FILE_MODE 0600
#define FILE_NEW_NAME "new.mdb"

struct table {
    /* Constant after open. */
    char *dir;
    raft_group group;
    bool is_read_only;
    MDB_env *env;
    MDB_dbi dbi;

    /* Owned by the flusher while it runs, by the owner else. */
    struct group_state state;
    uint64_t leaf_pages;
    _Atomic uint64_t data_bytes;
    enum tl_err latched;

    /* Shared. */
    atomic_uint readers_count;
};

struct table_reader {
    struct table *table;
    MDB_txn *txn;
    bool is_begun;
    raft_index index; /* of the state that the transaction sees, */
    size_t index_txn; /* as of this transaction id; 0: not read yet */
};

static const uint8_t meta_key[] = {ENV_KEY_META};

static MDB_val val_of(struct bytes bytes)
{
    return (MDB_val){.mv_size = bytes.count, .mv_data = (void *)(uintptr_t)bytes.data};
}

static struct bytes bytes_of_val(const MDB_val *val)
{
    return bytes_make(val->mv_data, val->mv_size);
}

static enum tl_err table_fail(const struct table *table, int rc, const char *call,
                              struct tl_fault *fault)
{
    return lmdb_env_fail(rc, call, table->dir, table->group, fault);
}

enum tl_err table_corrupt(const struct table *table, raft_index index, const char *reason,
                          struct tl_fault *fault)
{
    tl_fault_set(fault, table->dir, table->group, index, "%s", reason);
    return TL_ERR_CORRUPT;
}

/* ---- Opening ------------------------------------------------------------------------------- */

static int env_open(const struct table_options *options, const char *path, unsigned flags,
                    MDB_env **out_env)
{
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = mdb_env_set_mapsize(
        env, lmdb_env_map_bytes(options->dir, options->map_bytes, options->map_headroom_bytes));
    if (rc == MDB_SUCCESS) rc = mdb_env_set_maxreaders(env, options->readers_max);
    /* NOTLS: a reader's slot belongs to its transaction, not to its thread. */
    if (rc == MDB_SUCCESS) rc = mdb_env_open(env, path, flags | MDB_NOTLS, FILE_MODE);
    if (rc != MDB_SUCCESS) {
        mdb_env_close(env);
        return rc;
    }
    *out_env = env;
    return MDB_SUCCESS;
}

static int put_state(MDB_txn *txn, MDB_dbi dbi, const struct group_state *state, struct bytes conf)
{
    uint8_t bytes[GROUP_STATE_BYTES_MAX];
    size_t count = group_state_encode(state, conf, bytes);
    MDB_val key = val_of(bytes_make(meta_key, sizeof meta_key));
    MDB_val value = val_of(bytes_make(bytes, count));
    return mdb_put(txn, dbi, &key, &value, 0);
}

/* Writes the state before the first entry into an empty env, synced. */
static int env_init(MDB_env *env)
{
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = mdb_dbi_open(txn, NULL, 0, &dbi);
    const struct group_state zero = {0};
    if (rc == MDB_SUCCESS) rc = put_state(txn, dbi, &zero, bytes_make(NULL, 0));
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static bool path_join(char path[PATH_MAX], const char *dir, const char *name)
{
    int length = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return length > 0 && length < PATH_MAX;
}

/* Builds the file beside its place and renames it: a power cut during creation leaves no file whose
 * pages are missing, which could not be told from damage. */
static enum tl_err table_create(struct table *table, const struct table_options *options,
                                struct tl_fault *out_fault)
{
    char path_new[PATH_MAX];
    char path_lock[PATH_MAX];
    char path[PATH_MAX];
    if (!path_join(path_new, table->dir, FILE_NEW_NAME) ||
        !path_join(path_lock, table->dir, FILE_NEW_NAME "-lock") ||
        !path_join(path, table->dir, "data.mdb")) {
        return table_fail(table, ENAMETOOLONG, "creating the table", out_fault);
    }
    if (unlink(path_new) != 0 && errno != ENOENT) { /* of a start that was cut short */
        return table_fail(table, errno, "unlink of " FILE_NEW_NAME, out_fault);
    }
    MDB_env *env = NULL;
    int rc = env_open(options, path_new, MDB_NOSUBDIR, &env);
    if (rc != MDB_SUCCESS) {
        return table_fail(table, rc, "mdb_env_open of " FILE_NEW_NAME, out_fault);
    }
    rc = env_init(env);
    mdb_env_close(env);
    if (rc != MDB_SUCCESS) {
        return table_fail(table, rc, "writing " FILE_NEW_NAME, out_fault);
    }
    if (unlink(path_lock) != 0) {
        return table_fail(table, errno, "unlink of the lock of " FILE_NEW_NAME, out_fault);
    }
    if (rename(path_new, path) != 0) {
        return table_fail(table, errno, "rename of " FILE_NEW_NAME, out_fault);
    }
    return lmdb_env_sync_dir(table->dir, table->group, out_fault);
}

/* *out_conf borrows from the transaction. */
static enum tl_err read_state(const struct table *table, MDB_txn *txn,
                              struct group_state *out_state, struct bytes *out_conf,
                              struct tl_fault *out_fault)
{
    MDB_val key = val_of(bytes_make(meta_key, sizeof meta_key));
    MDB_val value;
    int rc = mdb_get(txn, table->dbi, &key, &value);
    if (rc == MDB_NOTFOUND) {
        return table_corrupt(table, 0, "the state row is missing", out_fault);
    }
    if (rc != MDB_SUCCESS) {
        return table_fail(table, rc, "mdb_get of the state row", out_fault);
    }
    enum tl_err err = group_state_decode(bytes_of_val(&value), out_state, out_conf);
    if (err != TL_OK) {
        tl_fault_set(out_fault, table->dir, table->group, 0, "the state row: %s", tl_err_text(err));
    }
    return err;
}

static uint64_t bytes_of_pages(const MDB_stat *stat)
{
    return (stat->ms_branch_pages + stat->ms_leaf_pages + stat->ms_overflow_pages) * stat->ms_psize;
}

/* Checks what the env holds and takes its state over. */
static enum tl_err table_load(struct table *table, struct tl_fault *out_fault)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(table->env, NULL, MDB_RDONLY, &txn);
    if (rc != MDB_SUCCESS) {
        return table_fail(table, rc, "mdb_txn_begin", out_fault);
    }
    enum tl_err err = lmdb_env_check_tail(txn, table->dir, table->group, out_fault);
    MDB_stat stat = {0};
    if (err == TL_OK) {
        rc = mdb_dbi_open(txn, NULL, 0, &table->dbi);
        if (rc == MDB_SUCCESS) rc = mdb_stat(txn, table->dbi, &stat);
        if (rc != MDB_SUCCESS) err = table_fail(table, rc, "mdb_dbi_open", out_fault);
    }
    struct bytes conf;
    if (err == TL_OK) err = read_state(table, txn, &table->state, &conf, out_fault);
    mdb_txn_abort(txn); /* the unnamed database's handle stays valid */
    table->leaf_pages = stat.ms_leaf_pages;
    table->data_bytes = bytes_of_pages(&stat);
    return err;
}

static enum tl_err open_steps(struct table *table, const struct table_options *options,
                              struct tl_fault *out_fault)
{
    bool exists = false;
    enum tl_err err = lmdb_env_check_file(table->dir, table->group, &exists, out_fault);
    if (err == TL_OK && !exists && options->is_read_only) {
        tl_fault_set(out_fault, table->dir, table->group, 0, "there is no table");
        err = TL_ERR_NOT_FOUND;
    }
    if (err == TL_OK && !exists) {
        err = table_create(table, options, out_fault);
    } else if (err == TL_OK && !options->is_read_only) {
        err = lmdb_env_settle(table->dir, table->group, out_fault);
    }
    if (err != TL_OK) {
        return err;
    }
    /* Read only, the directory's lock stands for LMDB's. */
    unsigned flags = options->is_read_only ? MDB_RDONLY | MDB_NOLOCK : 0u;
    int rc = env_open(options, table->dir, flags, &table->env);
    if (rc != MDB_SUCCESS) {
        return table_fail(table, rc, "mdb_env_open", out_fault);
    }
    return table_load(table, out_fault);
}

enum tl_err table_open(const struct table_options *options, struct table **out_table,
                       struct tl_fault *out_fault)
{
    TL_ASSERT(options->dir != NULL);
    TL_ASSERT(options->map_bytes > 0);
    TL_ASSERT(options->readers_max > 0);
    struct table *table = calloc(1, sizeof *table);
    TL_ASSERT(table != NULL);
    table->dir = strdup(options->dir);
    TL_ASSERT(table->dir != NULL);
    table->group = options->group;
    table->is_read_only = options->is_read_only;

    enum tl_err err = open_steps(table, options, out_fault);
    if (err != TL_OK) {
        table_close(table);
        return err;
    }
    *out_table = table;
    return TL_OK;
}

void table_close(struct table *table)
{
    if (table == NULL) {
        return;
    }
    TL_ASSERT(atomic_load(&table->readers_count) == 0);
    if (table->env != NULL) mdb_env_close(table->env);
    free(table->dir);
    free(table);
}

const char *table_dir(const struct table *table)
{
    return table->dir;
}

raft_group table_group(const struct table *table)
{
    return table->group;
}

const struct group_state *table_state(const struct table *table)
{
    return &table->state;
}

uint64_t table_leaf_pages(const struct table *table)
{
    return table->leaf_pages;
}

uint64_t table_data_bytes(const struct table *table)
{
    return table->data_bytes;
}

/* ---- Flushing ------------------------------------------------------------------------------ */

struct flush {
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    int rc;
};

/* In key order: most of the time the cursor stays on its leaf and does not walk down from the root.
 * Deletions have LMDB's own cursor, which keeps ours right. */
static bool flush_row(void *context, struct bytes env_key, const struct generation_version *version)
{
    struct flush *flush = context;
    TL_ASSERT(env_key.data[0] != ENV_KEY_META);
    MDB_val key = val_of(env_key);
    if (version->value.data == NULL) {
        int rc = mdb_del(flush->txn, flush->dbi, &key, NULL);
        flush->rc = rc == MDB_NOTFOUND ? MDB_SUCCESS : rc; /* came and went within the generation */
    } else {
        MDB_val value = val_of(version->value);
        flush->rc = mdb_cursor_put(flush->cursor, &key, &value, 0);
    }
    return flush->rc == MDB_SUCCESS;
}

/* Fills the transaction. The cursor is gone on return: a write transaction must not end before. */
static int flush_rows(struct flush *flush, const struct generation *generation, MDB_stat *out_stat)
{
    const struct group_state *final = generation_final(generation);
    int rc = mdb_cursor_open(flush->txn, flush->dbi, &flush->cursor);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    generation_walk(generation, bytes_make(NULL, 0), final->index, flush_row, flush);
    mdb_cursor_close(flush->cursor);
    rc = flush->rc;
    if (rc == MDB_SUCCESS) {
        rc = put_state(flush->txn, flush->dbi, final, generation_conf(generation));
    }
    if (rc == MDB_SUCCESS) rc = mdb_stat(flush->txn, flush->dbi, out_stat);
    return rc;
}

static enum tl_err flush_fail(struct table *table, int rc, const char *call,
                              struct tl_fault *out_fault)
{
    table->latched = table_fail(table, rc, call, out_fault);
    return table->latched;
}

enum tl_err table_flush(struct table *table, const struct generation *generation,
                        struct tl_fault *out_fault)
{
    TL_ASSERT(!table->is_read_only);
    TL_ASSERT(generation_is_frozen(generation));
    TL_ASSERT(generation_first(generation) == table->state.index);
    TL_ASSERT(generation_final(generation)->index > table->state.index);
    if (table->latched != TL_OK) {
        tl_fault_set(out_fault, table->dir, table->group, 0, "an earlier flush failed");
        return table->latched;
    }

    struct flush flush = {.dbi = table->dbi};
    int rc = mdb_txn_begin(table->env, NULL, 0, &flush.txn);
    if (rc != MDB_SUCCESS) {
        return flush_fail(table, rc, "mdb_txn_begin", out_fault);
    }
    MDB_stat stat;
    rc = flush_rows(&flush, generation, &stat);
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(flush.txn);
        return flush_fail(table, rc, "writing a generation", out_fault);
    }
    /* The durability point. */
    rc = mdb_txn_commit(flush.txn);
    if (rc != MDB_SUCCESS) {
        return flush_fail(table, rc, "mdb_txn_commit", out_fault);
    }
    table->latched = lmdb_env_check_named(table->env, table->dir, table->group, out_fault);
    if (table->latched != TL_OK) {
        return table->latched;
    }
    table->state = *generation_final(generation);
    table->leaf_pages = stat.ms_leaf_pages;
    table->data_bytes = bytes_of_pages(&stat);
    return TL_OK;
}

/* ---- Reading ------------------------------------------------------------------------------- */

enum tl_err table_reader_create(struct table *table, struct table_reader **out_reader)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(table->env, NULL, MDB_RDONLY, &txn);
    if (rc != MDB_SUCCESS) {
        return lmdb_env_error(rc);
    }
    mdb_txn_reset(txn); /* keeps the slot, holds no pages */
    struct table_reader *reader = calloc(1, sizeof *reader);
    TL_ASSERT(reader != NULL);
    reader->table = table;
    reader->txn = txn;
    atomic_fetch_add(&table->readers_count, 1);
    *out_reader = reader;
    return TL_OK;
}

void table_reader_destroy(struct table_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    mdb_txn_abort(reader->txn);
    /* The last thing done to the table: who sees 0 may close it. */
    atomic_fetch_sub(&reader->table->readers_count, 1);
    free(reader);
}

struct table *table_reader_table(const struct table_reader *reader)
{
    return reader->table;
}

uint32_t table_readers_count(const struct table *table)
{
    return atomic_load(&table->readers_count);
}

enum tl_err table_reader_begin(struct table_reader *reader, raft_index *out_index,
                               struct tl_fault *out_fault)
{
    table_reader_end(reader);
    int rc = mdb_txn_renew(reader->txn);
    if (rc != MDB_SUCCESS) {
        return table_fail(reader->table, rc, "mdb_txn_renew", out_fault);
    }
    reader->is_begun = true;
    /* The state changes with a flush only: between two it is decoded once. */
    size_t txn_id = mdb_txn_id(reader->txn);
    if (txn_id != reader->index_txn) {
        struct group_state state;
        struct bytes conf;
        enum tl_err err = read_state(reader->table, reader->txn, &state, &conf, out_fault);
        if (err != TL_OK) {
            table_reader_end(reader);
            return err;
        }
        reader->index = state.index;
        reader->index_txn = txn_id;
    }
    *out_index = reader->index;
    return TL_OK;
}

enum tl_err table_reader_state(struct table_reader *reader, struct group_state *out_state,
                               uint8_t *out_conf, uint32_t *out_conf_bytes,
                               struct tl_fault *out_fault)
{
    TL_ASSERT(reader->is_begun);
    struct bytes conf;
    enum tl_err err = read_state(reader->table, reader->txn, out_state, &conf, out_fault);
    if (err != TL_OK) {
        return err;
    }
    if (conf.count > 0) memcpy(out_conf, conf.data, conf.count);
    *out_conf_bytes = (uint32_t)conf.count;
    return TL_OK;
}

enum tl_err table_items_count(struct table_reader *reader, uint64_t *out_count,
                              struct tl_fault *out_fault)
{
    TL_ASSERT(reader->is_begun);
    MDB_stat stat;
    int rc = mdb_stat(reader->txn, reader->table->dbi, &stat);
    if (rc != MDB_SUCCESS) {
        return table_fail(reader->table, rc, "mdb_stat", out_fault);
    }
    *out_count = stat.ms_entries - 1; /* the state row is there: it was read at the begin */
    return TL_OK;
}

void table_reader_end(struct table_reader *reader)
{
    if (reader->is_begun) mdb_txn_reset(reader->txn);
    reader->is_begun = false;
}

/* Rows only: the meta row is checked by read_state(), the others by those who decode them. */
static enum tl_err check_row(const struct table_reader *reader, struct bytes env_key,
                             struct bytes value, bool is_whole, struct tl_fault *out_fault)
{
    if (env_key.data[0] != ENV_KEY_ROW) {
        return TL_OK;
    }
    struct row_header header;
    enum tl_err err = row_decode(value, true, &header);
    if (err == TL_OK && is_whole && !row_value_is_right(value, &header)) err = TL_ERR_CORRUPT;
    if (err != TL_OK) {
        tl_fault_set(out_fault, reader->table->dir, reader->table->group, reader->index,
                     "the row of a key of %zu bytes (checksum %016llx): %s", env_key.count - 1,
                     (unsigned long long)hash_checksum(env_key), tl_err_text(err));
    }
    return err;
}

static enum tl_err get_checked(struct table_reader *reader, struct bytes env_key, bool is_whole,
                               struct bytes *out_value, struct tl_fault *out_fault)
{
    TL_ASSERT(reader->is_begun);
    TL_ASSERT(env_key.count > 0);
    TL_ASSERT(env_key.count <= ENV_KEY_BYTES_MAX);
    MDB_val key = val_of(env_key);
    MDB_val val;
    int rc = mdb_get(reader->txn, reader->table->dbi, &key, &val);
    if (rc == MDB_NOTFOUND) {
        return TL_ERR_NOT_FOUND;
    }
    if (rc != MDB_SUCCESS) {
        return table_fail(reader->table, rc, "mdb_get", out_fault);
    }
    struct bytes value = bytes_of_val(&val);
    enum tl_err err = check_row(reader, env_key, value, is_whole, out_fault);
    if (err == TL_OK) *out_value = value;
    return err;
}

enum tl_err table_get(struct table_reader *reader, struct bytes env_key, struct bytes *out_value,
                      struct tl_fault *out_fault)
{
    return get_checked(reader, env_key, false, out_value, out_fault);
}

enum tl_err table_get_whole(struct table_reader *reader, struct bytes env_key,
                            struct bytes *out_value, struct tl_fault *out_fault)
{
    return get_checked(reader, env_key, true, out_value, out_fault);
}

/* ---- Walking ------------------------------------------------------------------------------- */

static enum tl_err cursor_move(struct table_cursor *cursor, MDB_val key, MDB_cursor_op op,
                               struct tl_fault *out_fault)
{
    MDB_val value;
    int rc = mdb_cursor_get(cursor->cursor, &key, &value, op);
    cursor->is_there = rc == MDB_SUCCESS;
    if (rc == MDB_NOTFOUND) {
        return TL_OK;
    }
    if (rc != MDB_SUCCESS) {
        return table_fail(cursor->reader->table, rc, "mdb_cursor_get", out_fault);
    }
    cursor->env_key = bytes_of_val(&key);
    cursor->value = bytes_of_val(&value);
    return check_row(cursor->reader, cursor->env_key, cursor->value, false, out_fault);
}

/* Which way leads from where SET_RANGE comes to rest, a key >= start or none, to the one before. */
static MDB_cursor_op op_before(struct table_cursor *cursor, struct bytes start)
{
    MDB_val key = val_of(start);
    MDB_val value;
    int rc = mdb_cursor_get(cursor->cursor, &key, &value, MDB_SET_RANGE);
    return rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV; /* another error: the next call meets it too */
}

enum tl_err table_cursor_open(struct table_cursor *cursor, struct table_reader *reader,
                              struct bytes start, bool is_reverse, struct tl_fault *out_fault)
{
    TL_ASSERT(reader->is_begun);
    TL_ASSERT(!is_reverse || start.count > 0);
    *cursor = (struct table_cursor){.reader = reader, .is_reverse = is_reverse};
    int rc = mdb_cursor_open(reader->txn, reader->table->dbi, &cursor->cursor);
    if (rc != MDB_SUCCESS) {
        return table_fail(reader->table, rc, "mdb_cursor_open", out_fault);
    }
    MDB_cursor_op op = start.count == 0 ? MDB_FIRST : MDB_SET_RANGE; /* no empty key in LMDB */
    if (is_reverse) op = op_before(cursor, start);
    enum tl_err err = cursor_move(cursor, val_of(start), op, out_fault);
    if (err != TL_OK) table_cursor_close(cursor);
    return err;
}

enum tl_err table_cursor_next(struct table_cursor *cursor, struct tl_fault *out_fault)
{
    TL_ASSERT(cursor->is_there);
    MDB_cursor_op op = cursor->is_reverse ? MDB_PREV : MDB_NEXT;
    return cursor_move(cursor, val_of(cursor->env_key), op, out_fault);
}

void table_cursor_close(struct table_cursor *cursor)
{
    mdb_cursor_close(cursor->cursor);
    cursor->cursor = NULL;
}

enum tl_err table_walk(struct table_reader *reader, struct bytes start,
                       bool (*on_item)(void *context, struct bytes env_key, struct bytes value),
                       void *context, struct tl_fault *out_fault)
{
    struct table_cursor cursor;
    enum tl_err err = table_cursor_open(&cursor, reader, start, false, out_fault);
    if (err != TL_OK) {
        return err;
    }
    while (err == TL_OK && cursor.is_there && on_item(context, cursor.env_key, cursor.value)) {
        err = table_cursor_next(&cursor, out_fault);
    }
    table_cursor_close(&cursor);
    return err;
}
