/* client_names.c - the addresses of the endpoints' names.
 *
 * libcurl counts a look-up as part of connecting and throws an answer away that comes later: with
 * half a second for both, a client whose first name server is dead, which costs five seconds by the
 * default of resolv.conf(5), would never find a name. So names are looked up here, each in a thread
 * of its own, and what is found is given to libcurl; it tries the addresses in turn. A look-up
 * cannot be cancelled: its thread shares no more than the mailbox with the client, which lives
 * until the last of them has ended.
 */

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client_internal.h"

#define ADDRESSES_MAX 8u
#define FRESH_MS 60000u /* then it is asked for again, and the old answer used meanwhile */
#define HEAD_START_MS 100u

struct name {
    bool is_needed; /* else the host is a literal */
    bool is_looking_up;
    bool has_failed; /* the last look-up */
    uint64_t known_ms;
    char host[256];
    char port[8];
    char hint[CLIENT_HINT_BYTES]; /* "HOST:PORT:ADDRESS,..."; "": not known */
};

struct client_names {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    uint32_t users_count; /* the client and the look-ups under way */
    uint32_t count;
    struct name names[CLIENT_ENDPOINTS_MAX];
};

struct lookup {
    struct client_names *names;
    uint32_t place;
};

static void names_leave(struct client_names *names)
{
    bool is_last = --names->users_count == 0;
    (void)pthread_mutex_unlock(&names->lock);
    if (!is_last) return;
    (void)pthread_cond_destroy(&names->changed);
    (void)pthread_mutex_destroy(&names->lock);
    free(names);
}

static bool is_literal(const char *host)
{
    struct in6_addr address;
    return host[0] == '[' || inet_pton(AF_INET, host, &address) == 1;
}

static void name_init(struct name *name, const char *endpoint)
{
    const char *colon = strrchr(endpoint, ':');
    size_t host_bytes = (size_t)(colon - endpoint);
    if (host_bytes == 0 || host_bytes >= sizeof name->host ||
        strlen(colon + 1) >= sizeof name->port || memchr(endpoint, ':', host_bytes) != NULL) {
        return; /* libcurl says what is wrong with it */
    }
    memcpy(name->host, endpoint, host_bytes);
    (void)snprintf(name->port, sizeof name->port, "%s", colon + 1);
    name->is_needed = !is_literal(name->host);
}

struct client_names *client_names_create(char endpoints[][CLIENT_ENDPOINT_BYTES_MAX],
                                         uint32_t count)
{
    struct client_names *names = calloc(1, sizeof *names);
    if (names == NULL) return NULL;
    names->users_count = 1;
    names->count = count;
    for (uint32_t i = 0; i < count; i++) name_init(&names->names[i], endpoints[i]);
    pthread_condattr_t monotonic;
    (void)pthread_mutex_init(&names->lock, NULL); /* none of these fails on Linux */
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&names->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    return names;
}

void client_names_destroy(struct client_names *names)
{
    if (names == NULL) return;
    (void)pthread_mutex_lock(&names->lock);
    names_leave(names);
}

static void hint_append(char hint[CLIENT_HINT_BYTES], const char *prefix, const char *text,
                        const char *suffix)
{
    size_t at = strlen(hint);
    (void)snprintf(hint + at, CLIENT_HINT_BYTES - at, "%s%s%s", prefix, text, suffix);
}

/* "": there is no answer. */
static void look_up(const char *host, const char *port, char out_hint[CLIENT_HINT_BYTES])
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *infos = NULL;
    out_hint[0] = '\0';
    if (getaddrinfo(host, port, &hints, &infos) != 0) return;
    uint32_t count = 0;
    for (const struct addrinfo *at = infos; at != NULL && count < ADDRESSES_MAX; at = at->ai_next) {
        char text[64];
        bool is_v6 = at->ai_family == AF_INET6;
        if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST)) {
            continue;
        }
        if (count++ == 0) {
            (void)snprintf(out_hint, CLIENT_HINT_BYTES, "%s:%s:", host, port);
        } else {
            hint_append(out_hint, ",", "", "");
        }
        hint_append(out_hint, is_v6 ? "[" : "", text, is_v6 ? "]" : "");
    }
    freeaddrinfo(infos);
}

static uint64_t clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with a valid clock and pointer */
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void *lookup_main(void *context)
{
    struct lookup *lookup = context;
    struct client_names *names = lookup->names;
    struct name *name = &names->names[lookup->place]; /* its host and port do not change */
    free(lookup);
    char hint[CLIENT_HINT_BYTES];
    look_up(name->host, name->port, hint);
    (void)pthread_mutex_lock(&names->lock);
    name->is_looking_up = false;
    name->has_failed = hint[0] == '\0';
    if (!name->has_failed) {
        name->known_ms = clock_ms();
        memcpy(name->hint, hint, sizeof hint);
    }
    (void)pthread_cond_broadcast(&names->changed);
    names_leave(names);
    return NULL;
}

/* Under the lock. */
static void lookup_start(struct client_names *names, uint32_t place)
{
    struct name *name = &names->names[place];
    struct lookup *lookup = malloc(sizeof *lookup);
    pthread_t thread;
    name->has_failed = lookup == NULL;
    if (lookup == NULL) return;
    *lookup = (struct lookup){.names = names, .place = place};
    if (pthread_create(&thread, NULL, lookup_main, lookup) != 0) {
        free(lookup);
        name->has_failed = true;
        return;
    }
    (void)pthread_detach(thread);
    name->is_looking_up = true;
    names->users_count++;
}

/* Looks it up unless its answer is young or under way. Under the lock. */
static void name_want(struct client_names *names, uint32_t place)
{
    const struct name *name = &names->names[place];
    bool is_fresh = name->hint[0] != '\0' && clock_ms() - name->known_ms < FRESH_MS;
    if (name->is_needed && !name->is_looking_up && !is_fresh) lookup_start(names, place);
}

static bool is_usable(const struct name *name)
{
    return !name->is_needed || name->hint[0] != '\0';
}

static bool wait_until(struct client_names *names, uint64_t time_ms)
{
    const struct timespec time = {.tv_sec = (time_t)(time_ms / 1000),
                                  .tv_nsec = (long)(time_ms % 1000) * 1000000L};
    return pthread_cond_timedwait(&names->changed, &names->lock, &time) == 0;
}

/* The wanted one, if it is known soon; else the first that is. false: the wanted one does not
 * resolve, or the time is over. Under the lock. */
static bool names_choose(struct client_names *names, uint32_t *place, uint64_t deadline_ms)
{
    uint32_t wanted = *place;
    uint64_t alone_ms = clock_ms() + HEAD_START_MS;
    name_want(names, wanted);
    while (!is_usable(&names->names[wanted])) {
        if (names->names[wanted].has_failed || clock_ms() >= deadline_ms) return false;
        bool is_alone = clock_ms() < alone_ms;
        for (uint32_t i = 0; i < names->count && !is_alone; i++) {
            if (names->names[i].hint[0] == '\0') name_want(names, i);
            if (!is_usable(&names->names[i])) continue;
            *place = i;
            return true;
        }
        (void)wait_until(names, is_alone && alone_ms < deadline_ms ? alone_ms : deadline_ms);
    }
    return true;
}

bool client_names_await(struct client_names *names, uint32_t *endpoint, uint64_t deadline_ms,
                        char out_hint[CLIENT_HINT_BYTES])
{
    (void)pthread_mutex_lock(&names->lock);
    bool is_found = names_choose(names, endpoint, deadline_ms);
    memcpy(out_hint, names->names[*endpoint].hint, CLIENT_HINT_BYTES);
    (void)pthread_mutex_unlock(&names->lock);
    return is_found;
}
