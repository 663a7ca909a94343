/* sync_shim.c - LD_PRELOAD: counts and holds up the flushes of the log env, and delays a table's.
 *
 * LMDB commits by writing data pages, fdatasync(), then the meta page through a descriptor opened
 * with O_DSYNC. A commit of the log is therefore complete when that last pwrite() has returned: it
 * is counted in the file named by TL_SHIM, mapped and shared with the test. While `hold` is set
 * there, fdatasync() on the log waits; `delay_us` makes each one slower, `table_delay_us` each one
 * of a table.
 *
 * `lose` ends the process in the flush of the log's next meta page, which fails: the device, a loop
 * device on the file TL_SHIM_IMAGE, refuses writes meanwhile, since that file is immutable. The
 * kernel then has the new page in its cache, calls it clean, and the disk has the old one.
 *
 * TL_SHIM_PLANT=40 opens tables, =41 the log with a flag of LMDB that must never be set: planted
 * bugs (docs/correctness.md) in the program as it ships.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <lmdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define FDS_MAX 4096

struct shared {
    _Atomic uint64_t commits_count; /* meta pages of the log written durably */
    _Atomic uint64_t syncs_count;   /* fdatasync() of the log returned */
    _Atomic uint64_t hold;          /* test sets it: fdatasync() waits */
    _Atomic uint64_t delay_us;      /* test sets it: fdatasync() sleeps first */
    _Atomic uint64_t fail;          /* test sets it: fdatasync() gives EIO */
    _Atomic uint64_t lose;          /* test sets it: the next meta page stays in the cache */
    _Atomic uint64_t table_delay_us; /* test sets it: fdatasync() of a table sleeps first */
};

static struct shared *shared;
static _Atomic char is_log[FDS_MAX];  /* descriptor of the log's data file */
static _Atomic char is_table[FDS_MAX]; /* of a table's */
static _Atomic char is_meta[FDS_MAX]; /* of those: opened with O_DSYNC */

static struct shared *shared_get(void)
{
    const char *path = getenv("TL_SHIM");
    if (shared == NULL && path != NULL) {
        int (*real_open)(const char *, int, ...) =
            (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
        int fd = real_open(path, O_RDWR);
        void *map = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            abort();
        }
        shared = map;
        (void)close(fd);
    }
    return shared;
}

static void remember(const char *path, int flags, int fd)
{
    if (fd >= 0 && fd < FDS_MAX) {
        is_log[fd] = strstr(path, "/log/data.mdb") != NULL;
        is_table[fd] = strstr(path, "/kv.") != NULL;
        is_meta[fd] = is_log[fd] && (flags & O_DSYNC) != 0;
    }
}

int open(const char *path, int flags, ...)
{
    int (*real_open)(const char *, int, ...) =
        (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    int fd = real_open(path, flags, mode);
    remember(path, flags, fd);
    return fd;
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open(path, flags, mode);
}

int fdatasync(int fd)
{
    int (*real_fdatasync)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    struct shared *s = shared_get();
    bool is_known = s != NULL && fd >= 0 && fd < FDS_MAX;
    if (is_known && is_table[fd] && s->table_delay_us != 0) {
        (void)usleep((useconds_t)s->table_delay_us);
    }
    if (!is_known || !is_log[fd]) {
        return real_fdatasync(fd);
    }
    while (s->hold != 0) {
        (void)usleep(1000);
    }
    if (s->delay_us != 0) {
        (void)usleep((useconds_t)s->delay_us);
    }
    if (s->fail != 0) {
        errno = EIO;
        return -1;
    }
    int rc = real_fdatasync(fd);
    s->syncs_count++;
    return rc;
}

static void set_image_immutable(bool is_immutable)
{
    int (*real_open)(const char *, int, ...) =
        (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    const char *path = getenv("TL_SHIM_IMAGE");
    int flags = 0;
    int fd = path == NULL ? -1 : real_open(path, O_RDONLY);
    if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) {
        abort();
    }
    flags = is_immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
    if (ioctl(fd, FS_IOC_SETFLAGS, &flags) != 0) {
        abort();
    }
    (void)close(fd);
}

typedef ssize_t (*pwrite_function)(int, const void *, size_t, off_t);

/* Does not return. An abort says that the write has succeeded, so the test shows nothing. */
static void lose_meta(pwrite_function real_pwrite, int fd, const void *data, size_t bytes,
                      off_t offset)
{
    set_image_immutable(true);
    ssize_t rc = real_pwrite(fd, data, bytes, offset);
    set_image_immutable(false);
    if (rc >= 0) {
        abort();
    }
    (void)raise(SIGKILL);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    pwrite_function real_pwrite = (pwrite_function)dlsym(RTLD_NEXT, "pwrite");
    struct shared *s = fd >= 0 && fd < FDS_MAX && is_meta[fd] ? shared_get() : NULL;
    if (s != NULL && s->lose != 0) lose_meta(real_pwrite, fd, data, bytes, offset);
    ssize_t rc = real_pwrite(fd, data, bytes, offset);
    if (fd >= 0 && fd < FDS_MAX && is_meta[fd] && rc == (ssize_t)bytes && shared_get() != NULL) {
        shared_get()->commits_count++;
    }
    return rc;
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset)
{
    return pwrite(fd, data, bytes, offset);
}

int mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
    int (*real_open)(MDB_env *, const char *, unsigned, mdb_mode_t) =
        (int (*)(MDB_env *, const char *, unsigned, mdb_mode_t))dlsym(RTLD_NEXT, "mdb_env_open");
    const char *planted = getenv("TL_SHIM_PLANT");
    bool is_of_table = strstr(path, "/kv.") != NULL;
    if (planted != NULL && strcmp(planted, "40") == 0 && is_of_table) flags |= MDB_NOSYNC;
    if (planted != NULL && strcmp(planted, "41") == 0 && !is_of_table) flags |= MDB_NOMETASYNC;
    return real_open(env, path, flags, mode);
}
