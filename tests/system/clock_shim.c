/* clock_shim.c - LD_PRELOAD: clocks that are wrong, and time that passes faster.
 *
 * The file named by TL_CLOCK is mapped and shared with the test. All clocks of the process run
 * `factor` times as fast as the machine's: the monotonic ones from the machine's zero, the wall
 * clock from a moment that all nodes share. `offset_us` is added to the wall clock, which stands
 * still at `stopped_us` while that is not 0: both may change at any time. What waits for time waits
 * accordingly less: timerfd and epoll, which is what the loop waits in.
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull
#define US_PER_S 1000000ull

struct shared {
    uint64_t factor;
    uint64_t base_real_us; /* the wall clock ... */
    uint64_t base_boot_ns; /* ... at this moment of the machine's CLOCK_BOOTTIME */
    _Atomic int64_t offset_us;
    _Atomic uint64_t stopped_us;
};

static const struct shared *shared;

static int real_gettime(clockid_t clock, struct timespec *out_time)
{
    static int (*found)(clockid_t, struct timespec *);
    if (found == NULL) {
        found = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    return found(clock, out_time);
}

static const struct shared *shared_get(void)
{
    const char *path = getenv("TL_CLOCK");
    if (shared == NULL && path != NULL) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        const void *map = mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            abort();
        }
        (void)close(fd);
        shared = map;
    }
    return shared;
}

static uint64_t ns_of(struct timespec time)
{
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

static uint64_t wall_us(const struct shared *s)
{
    uint64_t stopped_us = s->stopped_us;
    if (stopped_us != 0) {
        return stopped_us;
    }
    struct timespec boot;
    (void)real_gettime(CLOCK_BOOTTIME, &boot);
    uint64_t passed_us = (ns_of(boot) - s->base_boot_ns) * s->factor / 1000;
    return s->base_real_us + passed_us + (uint64_t)s->offset_us;
}

int clock_gettime(clockid_t clock, struct timespec *out_time)
{
    const struct shared *s = shared_get();
    int rc = real_gettime(clock, out_time);
    if (s == NULL || rc != 0) {
        return rc;
    }
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        *out_time = timespec_of(wall_us(s) * 1000);
        break;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_BOOTTIME:
        *out_time = timespec_of(ns_of(*out_time) * s->factor);
        break;
    default: /* processor time */
        break;
    }
    return 0;
}

int gettimeofday(struct timeval *restrict out_time, void *restrict zone)
{
    (void)zone;
    struct timespec now;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    out_time->tv_sec = now.tv_sec;
    out_time->tv_usec = now.tv_nsec / 1000;
    return rc;
}

time_t time(time_t *out_time)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out_time != NULL) {
        *out_time = now.tv_sec;
    }
    return now.tv_sec;
}

/* Rounded up: a timer that fires early would be armed again, and one of 0 is disarmed. */
static struct timespec shortened(const struct shared *s, struct timespec time)
{
    return timespec_of((ns_of(time) + s->factor - 1) / s->factor);
}

/* Of the monotonic clocks, absolute or not. */
int timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *out_old)
{
    int (*real)(int, int, const struct itimerspec *, struct itimerspec *) =
        (int (*)(int, int, const struct itimerspec *, struct itimerspec *))dlsym(RTLD_NEXT,
                                                                                 "timerfd_settime");
    const struct shared *s = shared_get();
    if (s == NULL) {
        return real(fd, flags, when, out_old);
    }
    struct itimerspec sooner = {.it_value = shortened(s, when->it_value),
                                .it_interval = shortened(s, when->it_interval)};
    return real(fd, flags, &sooner, out_old);
}

static int shortened_ms(int timeout_ms)
{
    const struct shared *s = shared_get();
    if (s == NULL || timeout_ms <= 0) {
        return timeout_ms;
    }
    return (int)(((uint64_t)timeout_ms + s->factor - 1) / s->factor);
}

int epoll_pwait(int fd, struct epoll_event *events, int events_max, int timeout_ms,
                const sigset_t *mask)
{
    int (*real)(int, struct epoll_event *, int, int, const sigset_t *) =
        (int (*)(int, struct epoll_event *, int, int, const sigset_t *))dlsym(RTLD_NEXT,
                                                                              "epoll_pwait");
    return real(fd, events, events_max, shortened_ms(timeout_ms), mask);
}

int epoll_wait(int fd, struct epoll_event *events, int events_max, int timeout_ms)
{
    return epoll_pwait(fd, events, events_max, timeout_ms, NULL);
}
