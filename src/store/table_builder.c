/* table_builder.c - a table from sorted items.
 *
 * MDB_NOSYNC, which no env in use ever has: nothing depends on this one before it is complete, and
 * a crash before that deletes it. A flush per batch would cost most of the time; the one at the end
 * is mdb_env_sync(), through the descriptor that everything was written through, which reports
 * each write-back error once: here, or before in writeout_step().
 */

#include "table_builder.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lmdb_env.h"
#include "trilith/crash_point.h"

#define FILE_MODE 0600

struct table_builder {
    raft_group group;
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn; /* between begin and commit */
    MDB_cursor *cursor;
    mdb_filehandle_t fd;
    uint64_t batch_bytes;
    struct writeout writeout;
    char dir[PATH_MAX];
};

static enum tl_err fail(const struct table_builder *builder, int rc, const char *call,
                        struct tl_fault *fault)
{
    return lmdb_env_fail(rc, call, builder->dir, builder->group, fault);
}

/* 0 or an errno. */
static int file_path(const struct table_builder *builder, const char *name, char path[PATH_MAX])
{
    int count = snprintf(path, PATH_MAX, "%s/%s", builder->dir, name);
    return count > 0 && count < PATH_MAX ? 0 : ENAMETOOLONG;
}

static int remove_file(const struct table_builder *builder, const char *name)
{
    char path[PATH_MAX];
    int error = file_path(builder, name, path);
    if (error != 0) {
        return error;
    }
    return unlink(path) == 0 || errno == ENOENT ? 0 : errno;
}

static int open_env(struct table_builder *builder, size_t map_bytes)
{
    char path[PATH_MAX];
    int rc = file_path(builder, "stage.mdb", path);
    if (rc == 0) rc = mdb_env_create(&builder->env);
    if (rc == MDB_SUCCESS) rc = mdb_env_set_mapsize(builder->env, map_bytes);
    if (rc == MDB_SUCCESS) {
        rc = mdb_env_open(builder->env, path, MDB_NOSUBDIR | MDB_NOSYNC, FILE_MODE);
    }
    if (rc == MDB_SUCCESS) rc = mdb_env_get_fd(builder->env, &builder->fd);
    return rc;
}

static int open_dbi(struct table_builder *builder)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(builder->env, NULL, 0, &txn);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = mdb_dbi_open(txn, NULL, 0, &builder->dbi);
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static enum tl_err create_steps(struct table_builder *builder, const char *dir, size_t map_bytes,
                                struct tl_fault *fault)
{
    int count = snprintf(builder->dir, sizeof builder->dir, "%s", dir);
    if (count < 0 || (size_t)count >= sizeof builder->dir) {
        tl_fault_set(fault, dir, builder->group, 0, "the path is too long");
        return TL_ERR_IO;
    }
    static const char *const names[] = {"data.mdb", "lock.mdb", "stage.mdb", "stage.mdb-lock"};
    int rc = 0;
    for (size_t i = 0; i < TL_COUNT_OF(names) && rc == 0; i++) rc = remove_file(builder, names[i]);
    if (rc == 0) rc = open_env(builder, map_bytes);
    if (rc == 0) rc = open_dbi(builder);
    return rc == 0 ? TL_OK : fail(builder, rc, "beginning a table", fault);
}

enum tl_err table_builder_create(const char *dir, raft_group group, size_t map_bytes,
                                 struct table_builder **out_builder, struct tl_fault *out_fault)
{
    struct table_builder *builder = calloc(1, sizeof *builder);
    TL_ASSERT(builder != NULL);
    builder->group = group;
    enum tl_err err = create_steps(builder, dir, map_bytes, out_fault);
    if (err != TL_OK) {
        table_builder_destroy(builder);
        return err;
    }
    *out_builder = builder;
    return TL_OK;
}

/* The cursor of a write transaction goes before it. */
static void close_cursor(struct table_builder *builder)
{
    if (builder->cursor != NULL) mdb_cursor_close(TL_TAKE(&builder->cursor));
}

void table_builder_destroy(struct table_builder *builder)
{
    if (builder == NULL) {
        return;
    }
    close_cursor(builder);
    if (builder->txn != NULL) mdb_txn_abort(builder->txn);
    if (builder->env != NULL) mdb_env_close(builder->env);
    free(builder);
}

enum tl_err table_builder_begin(struct table_builder *builder, struct tl_fault *out_fault)
{
    TL_ASSERT(builder->txn == NULL);
    builder->batch_bytes = 0;
    int rc = mdb_txn_begin(builder->env, NULL, 0, &builder->txn);
    if (rc == MDB_SUCCESS) rc = mdb_cursor_open(builder->txn, builder->dbi, &builder->cursor);
    return rc == MDB_SUCCESS ? TL_OK : fail(builder, rc, "mdb_txn_begin", out_fault);
}

enum tl_err table_builder_put(struct table_builder *builder, struct bytes env_key,
                              struct bytes value, struct tl_fault *out_fault)
{
    TL_ASSERT(builder->cursor != NULL);
    TL_ASSERT(env_key.data[0] != ENV_KEY_META);
    MDB_val key = {.mv_size = env_key.count, .mv_data = (void *)(uintptr_t)env_key.data};
    MDB_val val = {.mv_size = value.count, .mv_data = (void *)(uintptr_t)value.data};
    /* Pages are filled completely, and the cursor never walks down from the root. */
    int rc = mdb_cursor_put(builder->cursor, &key, &val, MDB_APPEND);
    builder->batch_bytes += env_key.count + value.count;
    return rc == MDB_SUCCESS ? TL_OK : fail(builder, rc, "writing a table", out_fault);
}

enum tl_err table_builder_commit(struct table_builder *builder, struct tl_fault *out_fault)
{
    TL_ASSERT(builder->cursor != NULL);
    close_cursor(builder);
    int rc = mdb_txn_commit(TL_TAKE(&builder->txn));
    if (rc != MDB_SUCCESS) {
        return fail(builder, rc, "mdb_txn_commit", out_fault);
    }
    rc = writeout_step(&builder->writeout, builder->fd, builder->batch_bytes);
    return rc == 0 ? TL_OK : fail(builder, rc, "writing out a table", out_fault);
}

static int put_state(struct table_builder *builder, const struct group_state *state,
                     struct bytes conf)
{
    uint8_t bytes[GROUP_STATE_BYTES_MAX];
    uint8_t kind = ENV_KEY_META;
    MDB_val key = {.mv_size = 1, .mv_data = &kind};
    MDB_val value = {.mv_size = group_state_encode(state, conf, bytes), .mv_data = bytes};
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(builder->env, NULL, 0, &txn);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = mdb_put(txn, builder->dbi, &key, &value, 0);
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int give_name(const struct table_builder *builder)
{
    char from[PATH_MAX];
    char to[PATH_MAX];
    int error = remove_file(builder, "stage.mdb-lock");
    if (error == 0) error = file_path(builder, "stage.mdb", from);
    if (error == 0) error = file_path(builder, "data.mdb", to);
    if (error != 0) {
        return error;
    }
    return rename(from, to) == 0 ? 0 : errno;
}

enum tl_err table_builder_finish(struct table_builder *builder, const struct group_state *state,
                                 struct bytes conf, struct tl_fault *out_fault)
{
    TL_ASSERT(builder->txn == NULL);
    int rc = put_state(builder, state, conf);
    if (rc == MDB_SUCCESS) rc = mdb_env_sync(builder->env, 1);
    if (rc != MDB_SUCCESS) {
        return fail(builder, rc, "completing a table", out_fault);
    }
    mdb_env_close(TL_TAKE(&builder->env));
    CRASH_POINT("stage-before-rename");
    rc = give_name(builder);
    if (rc != 0) {
        return fail(builder, rc, "naming a table", out_fault);
    }
    CRASH_POINT("stage-before-dir-sync");
    return lmdb_env_sync_dir(builder->dir, builder->group, out_fault);
}
