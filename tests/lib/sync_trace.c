/* sync_trace.c - the calls, and the model behind them. */

#include "sync_trace.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "trilith/assert.h"

#define FILES_MAX 64u
#define NAMES_MAX 64u
#define FDS_MAX 1024
#define PAGES_MAX 4096u
#define PAGE_BYTES 4096u
#define METAS_COUNT 2u
#define CALLS_MAX 256u

enum page_state {
    PAGE_CLEAN,
    PAGE_DIRTY,
    PAGE_LOST, /* clean for the kernel, and not on the disk */
};

struct file {
    dev_t dev;
    ino_t ino;
    char path[PATH_MAX];
    uint8_t pages[PAGES_MAX];
};

struct name {
    char path[PATH_MAX]; /* "": free */
    dev_t dir_dev;
    ino_t dir_ino;
};

static struct file files[FILES_MAX];
static uint32_t files_count;
static struct name names[NAMES_MAX];
static struct file *fd_files[FDS_MAX];
static bool fd_is_dsync[FDS_MAX];
static char calls[CALLS_MAX];
static char violation[PATH_MAX + 64];
static char unsynced[PATH_MAX + 64];
static unsigned planted_flags;
static bool has_failing_writeout;

/* The function that would have been called but for this file. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static bool is_lock(const char *path)
{
    const char *base = strrchr(path, '/');
    return strstr(base == NULL ? path : base, "lock") != NULL;
}

static bool is_data(const struct file *file)
{
    const char *base = strrchr(file->path, '/');
    return strcmp(base == NULL ? file->path : base + 1, "data.mdb") == 0;
}

static void note_call(const struct file *file, char call)
{
    size_t count = strlen(calls);
    if (!is_data(file) || (count > 0 && calls[count - 1] == call)) return;
    TL_ASSERT(count + 1 < CALLS_MAX);
    calls[count] = call;
}

static void note_violation(const char *what, const char *path)
{
    if (violation[0] == '\0') (void)snprintf(violation, sizeof violation, "%s %s", what, path);
}

static struct file *find_file(const char *path)
{
    for (uint32_t i = 0; i < files_count; i++) {
        if (strcmp(files[i].path, path) == 0) return &files[i];
    }
    return NULL;
}

static bool has_unsynced_page(const struct file *file, uint32_t first)
{
    for (uint32_t i = first; i < PAGES_MAX; i++) {
        if (file->pages[i] != PAGE_CLEAN) return true;
    }
    return false;
}

/* ---- files ---- */

static struct file *file_of(const struct stat *status, const char *path)
{
    for (uint32_t i = 0; i < files_count; i++) {
        if (files[i].dev == status->st_dev && files[i].ino == status->st_ino) return &files[i];
    }
    TL_ASSERT(files_count < FILES_MAX);
    struct file *file = &files[files_count++];
    file->dev = status->st_dev;
    file->ino = status->st_ino;
    (void)snprintf(file->path, sizeof file->path, "%s", path);
    return file;
}

/* A file that is made may have the number of one that was deleted, perhaps by a call that does not
 * come by here. */
static void forget_number(const struct stat *status)
{
    for (uint32_t i = 0; i < files_count; i++) {
        if (files[i].dev != status->st_dev || files[i].ino != status->st_ino) continue;
        files[i].path[0] = '\0';
        files[i].ino = 0;
    }
}

static void on_write(int fd, off_t offset, size_t bytes)
{
    struct file *file = fd >= 0 && fd < FDS_MAX ? fd_files[fd] : NULL;
    if (file == NULL || bytes == 0) return;
    bool is_dsync = fd_is_dsync[fd];
    uint64_t first = (uint64_t)offset / PAGE_BYTES;
    uint64_t last = ((uint64_t)offset + bytes - 1) / PAGE_BYTES;
    TL_ASSERT(last < PAGES_MAX);
    bool is_meta = first < METAS_COUNT;
    note_call(file, is_meta ? (is_dsync ? 'M' : 'm') : 'w');
    if (is_meta && is_data(file) && has_unsynced_page(file, METAS_COUNT)) {
        note_violation("a meta page written before the pages it refers to were flushed:",
                       file->path);
    }
    for (uint64_t i = first; i <= last; i++) file->pages[i] = is_dsync ? PAGE_CLEAN : PAGE_DIRTY;
}

static void on_flush(int fd)
{
    struct file *file = fd >= 0 && fd < FDS_MAX ? fd_files[fd] : NULL;
    if (file == NULL) return;
    note_call(file, 'f');
    for (uint32_t i = 0; i < PAGES_MAX; i++) {
        if (file->pages[i] == PAGE_DIRTY) file->pages[i] = PAGE_CLEAN;
    }
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        if (names[i].dir_dev == file->dev && names[i].dir_ino == file->ino) {
            names[i] = (struct name){.path = ""};
        }
    }
}

/* ---- names ---- */

static void drop_name(const char *path)
{
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        if (strcmp(names[i].path, path) == 0) names[i] = (struct name){.path = ""};
    }
}

static void add_name(const char *path)
{
    char parent[PATH_MAX];
    struct stat status;
    if (is_lock(path)) return;
    drop_name(path);
    (void)snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash != NULL) *slash = '\0';
    TL_ASSERT(stat(slash == NULL ? "." : parent, &status) == 0);
    uint32_t i = 0;
    while (i < NAMES_MAX && names[i].path[0] != '\0') i++;
    TL_ASSERT(i < NAMES_MAX);
    names[i].dir_dev = status.st_dev;
    names[i].dir_ino = status.st_ino;
    (void)snprintf(names[i].path, sizeof names[i].path, "%s", path);
}

/* Its number may be given to another file. */
static void forget_file(const char *path)
{
    struct file *file = find_file(path);
    drop_name(path);
    if (file != NULL) {
        file->path[0] = '\0';
        file->ino = 0;
    }
}

/* ---- what tests ask ---- */

const char *sync_trace_unsynced(void)
{
    for (uint32_t i = 0; i < files_count; i++) {
        if (files[i].path[0] == '\0' || is_lock(files[i].path)) continue; /* "": deleted */
        for (uint32_t k = 0; k < PAGES_MAX; k++) {
            if (files[i].pages[k] == PAGE_CLEAN) continue;
            (void)snprintf(unsynced, sizeof unsynced, "page %u of %.4000s", k, files[i].path);
            return unsynced;
        }
    }
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        if (names[i].path[0] == '\0') continue;
        (void)snprintf(unsynced, sizeof unsynced, "the name %.4000s", names[i].path);
        return unsynced;
    }
    return NULL;
}

const char *sync_trace_violation(void)
{
    return violation[0] == '\0' ? NULL : violation;
}

const char *sync_trace_calls(void)
{
    return calls;
}

void sync_trace_clear(void)
{
    memset(calls, 0, sizeof calls);
}

void sync_trace_lose_page(const char *path, uint32_t page)
{
    struct file *file = find_file(path);
    TL_ASSERT(file != NULL);
    file->pages[page] = PAGE_LOST;
}

void sync_trace_lose_name(const char *path)
{
    add_name(path);
}

void sync_trace_fail_writeout(void)
{
    has_failing_writeout = true;
}

void sync_trace_plant(unsigned env_flags)
{
    planted_flags = env_flags;
}

/* ---- the calls ---- */

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    struct stat status;
    bool was_there = stat(path, &status) == 0;
    int fd = REAL(open)(path, flags, mode);
    if (fd < 0 || fd >= FDS_MAX || fstat(fd, &status) != 0) return fd;
    bool is_new = !was_there && (flags & O_CREAT) != 0;
    if (is_new) forget_number(&status);
    fd_files[fd] =
        S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) ? file_of(&status, path) : NULL;
    fd_is_dsync[fd] = (flags & O_DSYNC) != 0;
    if (is_new) add_name(path);
    return fd;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    ssize_t count = REAL(pwrite)(fd, data, bytes, offset);
    if (count > 0) on_write(fd, offset, (size_t)count);
    return count;
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t count = REAL(write)(fd, data, bytes);
    if (count > 0 && offset >= 0) on_write(fd, offset, (size_t)count);
    return count;
}

ssize_t writev(int fd, const struct iovec *parts, int parts_count)
{
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t count = REAL(writev)(fd, parts, parts_count);
    if (count > 0 && offset >= 0) on_write(fd, offset, (size_t)count);
    return count;
}

int fdatasync(int fd)
{
    int rc = REAL(fdatasync)(fd);
    if (rc == 0) on_flush(fd);
    return rc;
}

int fsync(int fd)
{
    int rc = REAL(fsync)(fd);
    if (rc == 0) on_flush(fd);
    return rc;
}

int sync_file_range(int fd, off_t offset, off_t bytes, unsigned flags)
{
    struct file *file = fd >= 0 && fd < FDS_MAX ? fd_files[fd] : NULL;
    if (!has_failing_writeout || file == NULL) {
        return REAL(sync_file_range)(fd, offset, bytes, flags);
    }
    has_failing_writeout = false;
    uint32_t page = METAS_COUNT;
    while (page < PAGES_MAX && file->pages[page] != PAGE_DIRTY) page++;
    TL_ASSERT(page < PAGES_MAX);
    file->pages[page] = PAGE_LOST;
    errno = EIO;
    return -1;
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS_MAX) fd_files[fd] = NULL;
    return REAL(close)(fd);
}

int rename(const char *from, const char *to)
{
    struct file *file = find_file(from);
    if (file != NULL && has_unsynced_page(file, 0)) {
        note_violation("renamed before it was flushed:", from);
    }
    int rc = REAL(rename)(from, to);
    if (rc != 0) return rc;
    drop_name(from);
    if (file != NULL) (void)snprintf(file->path, sizeof file->path, "%s", to);
    add_name(to);
    return rc;
}

int unlink(const char *path)
{
    int rc = REAL(unlink)(path);
    if (rc == 0) forget_file(path);
    return rc;
}

int remove(const char *path)
{
    int rc = REAL(remove)(path);
    if (rc == 0) forget_file(path);
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    int rc = REAL(mkdir)(path, mode);
    if (rc == 0) add_name(path);
    return rc;
}

int mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
    return REAL(mdb_env_open)(env, path, flags | planted_flags, mode);
}
