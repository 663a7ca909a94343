/* lmdb_fault.c - the wrapped calls. */

#include "lmdb_fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TRACE_BYTES_MAX 4096u

static uint32_t calls_left; /* until the one that fails; 0: none does */
static bool has_fired;
static int fault_rc;
static enum lmdb_fault_when fault_when;
static const char *fault_call = "";
static char trace[TRACE_BYTES_MAX];
static bool is_next_write_short;
static uint32_t random_zeros_left;

void lmdb_fault_arm(uint32_t n, int rc, enum lmdb_fault_when when)
{
    calls_left = n;
    fault_rc = rc;
    fault_when = when;
    has_fired = false;
    fault_call = "";
    trace[0] = '\0';
}

bool lmdb_fault_disarm(void)
{
    calls_left = 0;
    return has_fired;
}

const char *lmdb_fault_call(void)
{
    return fault_call;
}

const char *lmdb_fault_trace(void)
{
    return trace;
}

void lmdb_fault_short_write(void)
{
    is_next_write_short = true;
}

void lmdb_fault_random_zeros(uint32_t count)
{
    random_zeros_left = count;
}

static bool is_the_one(const char *call)
{
    if (calls_left == 0 || --calls_left > 0) {
        return false;
    }
    has_fired = true;
    fault_call = call;
    errno = fault_rc;
    return true;
}

static bool is_the_one_traced(const char *call)
{
    size_t count = strlen(trace);
    (void)snprintf(trace + count, sizeof trace - count, "%s ", call);
    return is_the_one(call);
}

/* Declares the real function and defines the one that is called in its place. */
#define WRAP_AS(type, check, failure, name, parameters, arguments) \
    type __real_##name parameters;                                 \
    type __wrap_##name parameters;                                 \
    type __wrap_##name parameters                                  \
    {                                                              \
        if (check(#name)) {                                        \
            return failure;                                        \
        }                                                          \
        return __real_##name arguments;                            \
    }

#define WRAP(name, parameters, arguments) \
    WRAP_AS(int, is_the_one, fault_rc, name, parameters, arguments)

/* The same for calls that return -1 and set errno. */
#define WRAP_ERRNO(name, parameters, arguments) \
    WRAP_AS(int, is_the_one, -1, name, parameters, arguments)
#define WRAP_WRITING(name, parameters, arguments) \
    WRAP_AS(int, is_the_one_traced, -1, name, parameters, arguments)

WRAP(mdb_env_create, (MDB_env * *env), (env))
WRAP(mdb_env_set_maxdbs, (MDB_env * env, MDB_dbi count), (env, count))
WRAP(mdb_env_set_mapsize, (MDB_env * env, size_t bytes), (env, bytes))
WRAP(mdb_env_set_maxreaders, (MDB_env * env, unsigned count), (env, count))
WRAP(mdb_env_open, (MDB_env * env, const char *path, unsigned flags, mdb_mode_t mode),
     (env, path, flags, mode))
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
WRAP(mdb_cursor_open, (MDB_txn * txn, MDB_dbi dbi, MDB_cursor **cursor), (txn, dbi, cursor))
WRAP(mdb_cursor_get, (MDB_cursor * cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op),
     (cursor, key, value, op))
WRAP(mdb_cursor_put, (MDB_cursor * cursor, MDB_val *key, MDB_val *value, unsigned flags),
     (cursor, key, value, flags))
WRAP(mdb_cursor_del, (MDB_cursor * cursor, unsigned flags), (cursor, flags))

WRAP_WRITING(fsync, (int fd), (fd))
WRAP_WRITING(rename, (const char *from, const char *to), (from, to))
WRAP_WRITING(unlink, (const char *path), (path))
WRAP_WRITING(mkdir, (const char *path, mode_t mode), (path, mode))
WRAP_ERRNO(fstat, (int fd, struct stat *status), (fd, status))
WRAP_ERRNO(ftruncate, (int fd, off_t bytes), (fd, bytes))
WRAP_ERRNO(flock, (int fd, int operation), (fd, operation))
WRAP_ERRNO(statfs, (const char *path, struct statfs *status), (path, status))
WRAP_ERRNO(access, (const char *path, int mode), (path, mode))
WRAP_AS(DIR *, is_the_one, NULL, opendir, (const char *path), (path))
WRAP_AS(ssize_t, is_the_one, -1, pread, (int fd, void *bytes, size_t count, off_t offset),
        (fd, bytes, count, offset))

/* A commit ends its transaction also when it fails. */
int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    if (!is_the_one("mdb_txn_commit")) {
        return __real_mdb_txn_commit(txn);
    }
    if (fault_when == LMDB_FAULT_COMMIT_TAKES_EFFECT) {
        (void)__real_mdb_txn_commit(txn);
    } else {
        mdb_txn_abort(txn);
    }
    return fault_rc;
}

ssize_t __real_pwrite(int fd, const void *bytes, size_t count, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t count, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    if (is_the_one_traced("pwrite")) {
        return -1;
    }
    if (is_next_write_short) {
        is_next_write_short = false;
        count = (count + 1) / 2;
    }
    return __real_pwrite(fd, bytes, count, offset);
}

ssize_t __real_getrandom(void *bytes, size_t count, unsigned flags);
ssize_t __wrap_getrandom(void *bytes, size_t count, unsigned flags);
ssize_t __wrap_getrandom(void *bytes, size_t count, unsigned flags)
{
    if (is_the_one("getrandom")) {
        return -1;
    }
    if (random_zeros_left > 0) {
        random_zeros_left--;
        memset(bytes, 0, count);
        return (ssize_t)count;
    }
    return __real_getrandom(bytes, count, flags);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return is_the_one("open") ? -1 : __real_open(path, flags, mode);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    int argument = va_arg(args, int);
    va_end(args);
    return is_the_one("fcntl") ? -1 : __real_fcntl(fd, command, argument);
}
