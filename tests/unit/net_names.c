/* net_names.c - see net_names.h. */

#include "net_names.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAMES_MAX 8u

struct name {
    char name[64];
    char addresses[256];
    uint32_t delay_ms;
    uint32_t count;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_held;
    uint32_t names_count;
    struct name names[NAMES_MAX];
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static char scripted[] = "scripted"; /* in ai_canonname: the list is one of ours */

void names_reset(void)
{
    pthread_mutex_lock(&all.lock);
    all.is_held = false;
    all.names_count = 0;
    pthread_cond_broadcast(&all.changed);
    pthread_mutex_unlock(&all.lock);
}

/* Under the lock. NULL: not known. */
static struct name *find(const char *name)
{
    for (uint32_t i = 0; i < all.names_count; i++) {
        if (strcmp(all.names[i].name, name) == 0) return &all.names[i];
    }
    return NULL;
}

static struct name *find_or_add(const char *name)
{
    struct name *found = find(name);
    if (found != NULL) return found;
    cr_assert_lt(all.names_count, NAMES_MAX);
    found = &all.names[all.names_count++];
    memset(found, 0, sizeof *found);
    (void)snprintf(found->name, sizeof found->name, "%s", name);
    return found;
}

void names_set(const char *name, const char *addresses)
{
    pthread_mutex_lock(&all.lock);
    struct name *found = find_or_add(name);
    (void)snprintf(found->addresses, sizeof found->addresses, "%s", addresses);
    pthread_mutex_unlock(&all.lock);
}

void names_set_delay(const char *name, uint32_t ms)
{
    pthread_mutex_lock(&all.lock);
    find_or_add(name)->delay_ms = ms;
    pthread_mutex_unlock(&all.lock);
}

static void set_held(bool is_held)
{
    pthread_mutex_lock(&all.lock);
    all.is_held = is_held;
    pthread_cond_broadcast(&all.changed);
    pthread_mutex_unlock(&all.lock);
}

void names_hold(void)
{
    set_held(true);
}

void names_release(void)
{
    set_held(false);
}

uint32_t names_count(const char *name)
{
    pthread_mutex_lock(&all.lock);
    const struct name *found = find(name);
    uint32_t count = found == NULL ? 0 : found->count;
    pthread_mutex_unlock(&all.lock);
    return count;
}

/* Waits as the name's look-up is to take; its addresses as they are then. */
static void look_up(const char *name, char out_addresses[256])
{
    out_addresses[0] = '\0';
    pthread_mutex_lock(&all.lock);
    struct name *found = find(name);
    uint32_t delay_ms = found == NULL ? 0 : found->delay_ms;
    if (found != NULL) found->count++;
    while (all.is_held) pthread_cond_wait(&all.changed, &all.lock);
    pthread_mutex_unlock(&all.lock);
    const struct timespec delay = {.tv_sec = delay_ms / 1000,
                                   .tv_nsec = (long)(delay_ms % 1000) * 1000000};
    (void)nanosleep(&delay, NULL);
    pthread_mutex_lock(&all.lock);
    found = find(name);
    if (found != NULL) (void)snprintf(out_addresses, 256, "%s", found->addresses);
    pthread_mutex_unlock(&all.lock);
}

static struct addrinfo *make_info(const char *literal, uint16_t port)
{
    struct {
        struct addrinfo info;
        struct sockaddr_in6 address;
    } *made = calloc(1, sizeof *made);
    struct sockaddr_in *v4 = (struct sockaddr_in *)&made->address;
    made->info.ai_socktype = SOCK_STREAM;
    made->info.ai_addr = (struct sockaddr *)&made->address;
    made->info.ai_canonname = scripted;
    if (inet_pton(AF_INET, literal, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        made->info.ai_addrlen = sizeof *v4;
    } else {
        cr_assert_eq(inet_pton(AF_INET6, literal, &made->address.sin6_addr), 1, "%s", literal);
        made->address.sin6_family = AF_INET6;
        made->address.sin6_port = htons(port);
        made->info.ai_addrlen = sizeof made->address;
    }
    made->info.ai_family = made->info.ai_addr->sa_family;
    return &made->info;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **out_infos)
{
    size_t length = node == NULL ? 0 : strlen(node);
    if (length < 5 || strcmp(node + length - 5, ".test") != 0) {
        int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
        *(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
        return next(node, service, hints, out_infos);
    }
    char addresses[256];
    look_up(node, addresses);
    struct addrinfo *first = NULL;
    struct addrinfo **end = &first;
    char *rest = addresses;
    for (char *each; (each = strtok_r(rest, " ", &rest)) != NULL;) {
        *end = make_info(each, (uint16_t)strtoul(service, NULL, 10));
        end = &(*end)->ai_next;
    }
    if (first == NULL) return EAI_NONAME;
    *out_infos = first;
    return 0;
}

void freeaddrinfo(struct addrinfo *infos)
{
    if (infos == NULL || infos->ai_canonname != scripted) {
        void (*next)(struct addrinfo *);
        *(void **)&next = dlsym(RTLD_NEXT, "freeaddrinfo");
        next(infos);
        return;
    }
    while (infos != NULL) {
        struct addrinfo *next = infos->ai_next;
        free(infos);
        infos = next;
    }
}
