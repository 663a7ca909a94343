/* sys_fault.c - the wrappers. */

#include "sys_fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>

#define TRACE_BYTES_MAX 4096u

static struct {
    bool is_armed;
    bool has_fired;
    bool is_short_write;
    uint32_t calls_left;
    int error;
    uint32_t random_zeros_left;
    uint32_t statfs_type; /* 0: the real one */
    const char *call;
    char trace[TRACE_BYTES_MAX];
} fault = {.call = ""};

static void arm(uint32_t n, int error, bool is_short_write)
{
    fault.is_armed = true;
    fault.has_fired = false;
    fault.is_short_write = is_short_write;
    fault.calls_left = n;
    fault.error = error;
    fault.call = "";
    fault.trace[0] = '\0';
}

void sys_fault_arm(uint32_t n, int error)
{
    arm(n, error, false);
}

void sys_fault_arm_short_write(void)
{
    arm(0, 0, true);
}

void sys_fault_random_zeros(uint32_t count)
{
    fault.random_zeros_left = count;
}

void sys_fault_statfs_type(uint32_t type)
{
    fault.statfs_type = type;
}

bool sys_fault_disarm(void)
{
    fault.is_armed = false;
    return fault.has_fired;
}

const char *sys_fault_call(void)
{
    return fault.call;
}

const char *sys_fault_trace(void)
{
    return fault.trace;
}

static bool fires(const char *call)
{
    if (!fault.is_armed || fault.calls_left == 0 || --fault.calls_left > 0) {
        return false;
    }
    fault.has_fired = true;
    fault.call = call;
    errno = fault.error;
    return true;
}

static bool fires_traced(const char *call)
{
    if (fault.is_armed && strlen(fault.trace) + strlen(call) + 2 < sizeof fault.trace) {
        size_t count = strlen(fault.trace);
        memcpy(fault.trace + count, call, strlen(call));
        memcpy(fault.trace + count + strlen(call), " ", 2);
    }
    return fires(call);
}

/* Defines __wrap_<name>, which either fails or calls the real function. */
#define WRAP(type, fires_as, failure, name, parameters, arguments)  \
    type __real_##name parameters;                                  \
    type __wrap_##name parameters;                                  \
    type __wrap_##name parameters                                   \
    {                                                               \
        return fires_as(#name) ? failure : __real_##name arguments; \
    }

WRAP(int, fires_traced, -1, fsync, (int fd), (fd))
WRAP(int, fires_traced, -1, rename, (const char *from, const char *to), (from, to))
WRAP(int, fires_traced, -1, unlink, (const char *path), (path))
WRAP(int, fires_traced, -1, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, fires, -1, fstat, (int fd, struct stat *status), (fd, status))
WRAP(int, fires, -1, statx,
     (int fd, const char *path, int flags, unsigned mask, struct statx *status),
     (fd, path, flags, mask, status))
WRAP(int, fires, -1, ftruncate, (int fd, off_t bytes), (fd, bytes))
WRAP(int, fires, -1, flock, (int fd, int operation), (fd, operation))
WRAP(int, fires, -1, access, (const char *path, int mode), (path, mode))
WRAP(DIR *, fires, NULL, opendir, (const char *path), (path))
WRAP(ssize_t, fires, -1, pread, (int fd, void *bytes, size_t count, off_t offset),
     (fd, bytes, count, offset))

ssize_t __real_pwrite(int fd, const void *bytes, size_t count, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t count, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    if (fires_traced("pwrite")) {
        return -1;
    }
    if (fault.is_armed && fault.is_short_write && count > 1) {
        fault.is_short_write = false;
        fault.has_fired = true;
        count /= 2;
    }
    return __real_pwrite(fd, bytes, count, offset);
}

int __real_statfs(const char *path, struct statfs *status);
int __wrap_statfs(const char *path, struct statfs *status);
int __wrap_statfs(const char *path, struct statfs *status)
{
    if (fires("statfs")) {
        return -1;
    }
    int rc = __real_statfs(path, status);
    /* A signed word, of a number of 32 bits: the kernel extends some with their sign. */
    if (rc == 0 && fault.statfs_type != 0) status->f_type = (int32_t)fault.statfs_type;
    return rc;
}

ssize_t __real_getrandom(void *bytes, size_t count, unsigned flags);
ssize_t __wrap_getrandom(void *bytes, size_t count, unsigned flags);
ssize_t __wrap_getrandom(void *bytes, size_t count, unsigned flags)
{
    if (fires("getrandom")) {
        return -1;
    }
    if (fault.random_zeros_left > 0) {
        fault.random_zeros_left--;
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
    return fires("open") ? -1 : __real_open(path, flags, mode);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    int argument = va_arg(args, int);
    va_end(args);
    return fires("fcntl") ? -1 : __real_fcntl(fd, command, argument);
}
