/* log_store_file.c - birth of the log env's data file: it is complete when it gets its name.
 *
 * LMDB takes an empty file for a new environment. For a log that would be amnesia: a node whose
 * file was lost or zeroed would vote again in terms it has voted in. So LMDB never creates
 * data.mdb here; a rename does (FORMAT.md 2, "The data file").
 */

#include "log_store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lmdb_env.h"

#define NEW_NAME "new.mdb"
#define NEW_LOCK_NAME "new.mdb-lock" /* LMDB's suffix with MDB_NOSUBDIR */
#define FILL_BYTES (1024u * 1024u)

/* The paths of one creation. */
struct birth {
    const struct log_store_options *options;
    char new_path[PATH_MAX];
    char new_lock_path[PATH_MAX];
};

enum tl_err log_store_file_path(const char *dir, const char *name, char out_path[PATH_MAX],
                                struct tl_fault *fault)
{
    int count = snprintf(out_path, PATH_MAX, "%s/%s", dir, name);
    if (count < 0 || count >= PATH_MAX) {
        tl_fault_set(fault, dir, UINT32_MAX, 0, "the path is too long");
        return TL_ERR_IO;
    }
    return TL_OK;
}

static enum tl_err fail(const char *path, const char *call, int rc, struct tl_fault *fault)
{
    return lmdb_env_fail(rc, call, path, UINT32_MAX, fault);
}

int log_store_env_open(const char *path, unsigned flags, size_t map_bytes, MDB_env **out_env)
{
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = mdb_env_set_maxdbs(env, LOG_STORE_DBS_MAX);
    if (rc == MDB_SUCCESS) rc = mdb_env_set_maxreaders(env, LOG_STORE_READERS_MAX);
    if (rc == MDB_SUCCESS) rc = mdb_env_set_mapsize(env, map_bytes);
    if (rc == MDB_SUCCESS) rc = mdb_env_open(env, path, flags, LOG_STORE_FILE_MODE);
    if (rc != MDB_SUCCESS) {
        mdb_env_close(env); /* also after a failed open: mdb_env_open() */
        return rc;
    }
    *out_env = env;
    return MDB_SUCCESS;
}

static int put_format_mark(MDB_txn *txn)
{
    MDB_dbi dbi;
    int rc = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    uint8_t mark[LOG_FORMAT_MARK_BYTES];
    log_format_mark_encode(mark);
    char name[] = LOG_STORE_NAME_FORMAT;
    MDB_val key = {.mv_size = strlen(name), .mv_data = name};
    MDB_val value = {.mv_size = sizeof mark, .mv_data = mark};
    return mdb_put(txn, dbi, &key, &value, MDB_NOOVERWRITE);
}

/* The databases every log env has, and the format mark, in one transaction. */
static int fill_env(MDB_env *env)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    MDB_dbi dbi;
    rc = mdb_dbi_open(txn, LOG_STORE_NAME_HARD_STATE, MDB_CREATE | MDB_INTEGERKEY, &dbi);
    if (rc == MDB_SUCCESS) {
        rc = mdb_dbi_open(txn, LOG_STORE_NAME_BASE, MDB_CREATE | MDB_INTEGERKEY, &dbi);
    }
    if (rc == MDB_SUCCESS) rc = mdb_dbi_open(txn, LOG_STORE_NAME_CONF, MDB_CREATE, &dbi);
    if (rc == MDB_SUCCESS) rc = put_format_mark(txn);
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

/* Writes zeros from the end of the file up to `bytes`: 0 or an errno. */
static int fill_fd(int fd, size_t bytes)
{
    static const uint8_t zeros[FILL_BYTES];
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return errno;
    }
    size_t at = (size_t)status.st_size;
    while (at < bytes) {
        ssize_t count = pwrite(fd, zeros, TL_MIN(sizeof zeros, bytes - at), (off_t)at);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return count < 0 ? errno : ENOSPC; /* what a short write to a file means */
        }
        at += (size_t)count;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

static enum tl_err fill_file(const struct birth *birth, struct tl_fault *fault)
{
    int fd = open(birth->new_path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return fail(birth->new_path, "open", errno, fault);
    }
    int rc = fill_fd(fd, birth->options->prefill_bytes);
    (void)close(fd); /* after fsync there is nothing left that could fail to be written */
    return rc == 0 ? TL_OK : fail(birth->new_path, "filling the new log", rc, fault);
}

/* Removes what a crash in the middle of a creation left. */
static enum tl_err remove_leftover(const char *path, struct tl_fault *fault)
{
    if (unlink(path) != 0 && errno != ENOENT) {
        return fail(path, "unlink", errno, fault);
    }
    return TL_OK;
}

static enum tl_err build(const struct birth *birth, struct tl_fault *fault)
{
    enum tl_err err = remove_leftover(birth->new_path, fault);
    if (err == TL_OK) err = remove_leftover(birth->new_lock_path, fault);
    if (err != TL_OK) {
        return err;
    }
    MDB_env *env = NULL;
    int rc = log_store_env_open(birth->new_path, LOG_STORE_ENV_FLAGS | MDB_NOSUBDIR,
                                birth->options->map_bytes, &env);
    if (rc != MDB_SUCCESS) {
        return fail(birth->new_path, "mdb_env_open", rc, fault);
    }
    rc = fill_env(env);
    mdb_env_close(env);
    if (rc != MDB_SUCCESS) {
        return fail(birth->new_path, "writing the new log", rc, fault);
    }
    return fill_file(birth, fault);
}

enum tl_err log_store_file_create(const struct log_store_options *options, const char *data_path,
                                  struct tl_fault *fault)
{
    struct birth birth = {.options = options};
    enum tl_err err = log_store_file_path(options->dir, NEW_NAME, birth.new_path, fault);
    if (err == TL_OK) {
        err = log_store_file_path(options->dir, NEW_LOCK_NAME, birth.new_lock_path, fault);
    }
    if (err == TL_OK) err = build(&birth, fault);
    if (err != TL_OK) {
        return err;
    }
    if (rename(birth.new_path, data_path) != 0) {
        return fail(data_path, "rename", errno, fault);
    }
    err = remove_leftover(birth.new_lock_path, fault);
    if (err != TL_OK) {
        return err;
    }
    return lmdb_env_sync_dir(options->dir, UINT32_MAX, fault);
}
