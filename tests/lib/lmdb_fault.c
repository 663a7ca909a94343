/* lmdb_fault.c - the wrappers. */

#include "lmdb_fault.h"

#include <lmdb.h>
#include <sys/statvfs.h>

static struct {
    bool is_armed;
    bool has_fired;
    uint32_t calls_left;
    int rc;
    enum lmdb_fault_when when;
    const char *call;
} fault = {.call = ""};

void lmdb_fault_arm(uint32_t n, int rc, enum lmdb_fault_when when)
{
    fault.is_armed = true;
    fault.has_fired = false;
    fault.calls_left = n;
    fault.rc = rc;
    fault.when = when;
    fault.call = "";
}

bool lmdb_fault_disarm(void)
{
    fault.is_armed = false;
    return fault.has_fired;
}

static bool file_systems_are_full;

void lmdb_fault_fill_file_systems(bool are_full)
{
    file_systems_are_full = are_full;
}

int __real_statvfs(const char *path, struct statvfs *status);
int __wrap_statvfs(const char *path, struct statvfs *status);
int __wrap_statvfs(const char *path, struct statvfs *status)
{
    int rc = __real_statvfs(path, status);
    if (file_systems_are_full) status->f_bavail = 0;
    return rc;
}

const char *lmdb_fault_call(void)
{
    return fault.call;
}

static bool fires(const char *call)
{
    if (!fault.is_armed || fault.has_fired) {
        return false;
    }
    fault.calls_left--;
    if (fault.calls_left > 0) {
        return false;
    }
    fault.has_fired = true;
    fault.call = call;
    return true;
}

/* Defines __wrap_<name>, which either fails or calls the real function. */
#define WRAP(name, parameters, arguments)                         \
    int __real_##name parameters;                                 \
    int __wrap_##name parameters;                                 \
    int __wrap_##name parameters                                  \
    {                                                             \
        return fires(#name) ? fault.rc : __real_##name arguments; \
    }

WRAP(mdb_env_create, (MDB_env * *env), (env))
WRAP(mdb_env_set_maxdbs, (MDB_env * env, MDB_dbi dbs), (env, dbs))
WRAP(mdb_env_set_maxreaders, (MDB_env * env, unsigned readers), (env, readers))
WRAP(mdb_env_set_mapsize, (MDB_env * env, size_t size), (env, size))
WRAP(mdb_env_open, (MDB_env * env, const char *path, unsigned flags, mdb_mode_t mode),
     (env, path, flags, mode))
WRAP(mdb_env_sync, (MDB_env * env, int force), (env, force))
WRAP(mdb_env_info, (MDB_env * env, MDB_envinfo *info), (env, info))
WRAP(mdb_env_stat, (MDB_env * env, MDB_stat *stat), (env, stat))
WRAP(mdb_env_get_fd, (MDB_env * env, mdb_filehandle_t *fd), (env, fd))
WRAP(mdb_txn_begin, (MDB_env * env, MDB_txn *parent, unsigned flags, MDB_txn **txn),
     (env, parent, flags, txn))
WRAP(mdb_txn_renew, (MDB_txn * txn), (txn))
WRAP(mdb_dbi_open, (MDB_txn * txn, const char *name, unsigned flags, MDB_dbi *dbi),
     (txn, name, flags, dbi))
WRAP(mdb_stat, (MDB_txn * txn, MDB_dbi dbi, MDB_stat *stat), (txn, dbi, stat))
WRAP(mdb_get, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *value), (txn, dbi, key, value))
WRAP(mdb_put, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags),
     (txn, dbi, key, value, flags))
WRAP(mdb_del, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *value), (txn, dbi, key, value))
WRAP(mdb_drop, (MDB_txn * txn, MDB_dbi dbi, int del), (txn, dbi, del))
WRAP(mdb_cursor_open, (MDB_txn * txn, MDB_dbi dbi, MDB_cursor **cursor), (txn, dbi, cursor))
WRAP(mdb_cursor_renew, (MDB_txn * txn, MDB_cursor *cursor), (txn, cursor))
WRAP(mdb_cursor_get, (MDB_cursor * cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op),
     (cursor, key, value, op))
WRAP(mdb_cursor_put, (MDB_cursor * cursor, MDB_val *key, MDB_val *value, unsigned flags),
     (cursor, key, value, flags))
WRAP(mdb_cursor_del, (MDB_cursor * cursor, unsigned flags), (cursor, flags))

/* A transaction is gone after a commit, whatever that returned. */
int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    if (!fires("mdb_txn_commit")) {
        return __real_mdb_txn_commit(txn);
    }
    if (fault.when == LMDB_FAULT_COMMIT_TAKES_EFFECT) {
        (void)__real_mdb_txn_commit(txn); /* the answer is the fault's */
    } else {
        mdb_txn_abort(txn);
    }
    return fault.rc;
}
