/* lmdb_fault.c - the wrapped calls. */

#include "lmdb_fault.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <unistd.h>

static uint32_t calls_left; /* until the one that fails; 0: none does */
static bool has_fired;
static int fault_rc;
static enum lmdb_fault_when fault_when;

void lmdb_fault_arm(uint32_t n, int rc, enum lmdb_fault_when when)
{
    calls_left = n;
    fault_rc = rc;
    fault_when = when;
    has_fired = false;
}

bool lmdb_fault_disarm(void)
{
    calls_left = 0;
    return has_fired;
}

static bool is_the_one(void)
{
    if (calls_left == 0 || --calls_left > 0) {
        return false;
    }
    has_fired = true;
    return true;
}

/* Declares the real function and defines the one that is called in its place. */
#define WRAP(name, parameters, arguments) \
    int __real_##name parameters;         \
    int __wrap_##name parameters;         \
    int __wrap_##name parameters          \
    {                                     \
        if (is_the_one()) {               \
            return fault_rc;              \
        }                                 \
        return __real_##name arguments;   \
    }

/* The same for calls that return -1 and set errno. */
#define WRAP_ERRNO(name, parameters, arguments) \
    int __real_##name parameters;               \
    int __wrap_##name parameters;               \
    int __wrap_##name parameters                \
    {                                           \
        if (is_the_one()) {                     \
            errno = fault_rc;                   \
            return -1;                          \
        }                                       \
        return __real_##name arguments;         \
    }

WRAP(mdb_env_create, (MDB_env * *env), (env))
WRAP(mdb_env_set_mapsize, (MDB_env * env, size_t bytes), (env, bytes))
WRAP(mdb_env_set_maxreaders, (MDB_env * env, unsigned count), (env, count))
WRAP(mdb_env_open, (MDB_env * env, const char *path, unsigned flags, mdb_mode_t mode),
     (env, path, flags, mode))
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
WRAP(mdb_cursor_open, (MDB_txn * txn, MDB_dbi dbi, MDB_cursor **cursor), (txn, dbi, cursor))
WRAP(mdb_cursor_get, (MDB_cursor * cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op),
     (cursor, key, value, op))
WRAP(mdb_cursor_put, (MDB_cursor * cursor, MDB_val *key, MDB_val *value, unsigned flags),
     (cursor, key, value, flags))
WRAP_ERRNO(fsync, (int fd), (fd))
WRAP_ERRNO(rename, (const char *from, const char *to), (from, to))

/* A commit ends its transaction also when it fails. */
int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    if (!is_the_one()) {
        return __real_mdb_txn_commit(txn);
    }
    if (fault_when == LMDB_FAULT_COMMIT_TAKES_EFFECT) {
        (void)__real_mdb_txn_commit(txn);
    } else {
        mdb_txn_abort(txn);
    }
    return fault_rc;
}
