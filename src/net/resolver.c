/* resolver.c - what the names of peers were last resolved to.
 *
 * Each HOST:PORT that is connected to is an endpoint, which keeps the addresses of its last good
 * look-up: a connection does not wait for a look-up while there are some. An attempt to connect
 * has them looked up again beside it, so that a host that has moved is found by the next attempt.
 * An answer is kept however late it is: the default of resolv.conf(5) is to ask the second name
 * server after five seconds, and that answer must do for all attempts that follow.
 *
 * A look-up cannot be cancelled and takes as long as the name servers do not answer. So each has a
 * thread of its own, at most one per endpoint: names whose servers are dead delay no others, as
 * they would in libuv's pool, which looks two names up at a time; and a process that ends does not
 * wait for them. Such a thread shares no more than the mailbox with the loop, which lives until
 * the last of them has ended.
 */

#include "net_internal.h"

#include <stdlib.h>
#include <string.h>

#include "trilith/error.h"

struct mailbox {
    pthread_mutex_t lock;
    /* Guarded by lock. */
    uint32_t users_count;  /* the resolver and the look-ups under way */
    uv_async_t *async;     /* the resolver's; NULL: it is closed and takes no answers */
    struct lookup *lookups; /* that have ended */
};

/* Owned by its thread, then by the mailbox, then by the loop. */
struct lookup {
    struct mailbox *mailbox; /* outlives it */
    struct lookup *next;
    char text[ADDRESS_BYTES_MAX]; /* of the endpoint */
    struct address address;
    struct address_list list; /* empty: there is no answer */
};

/* ---- the thread ---- */

static void mailbox_lock(struct mailbox *mailbox)
{
    int rc = pthread_mutex_lock(&mailbox->lock);
    TL_ASSERT(rc == 0);
}

static void mailbox_unlock(struct mailbox *mailbox)
{
    int rc = pthread_mutex_unlock(&mailbox->lock);
    TL_ASSERT(rc == 0);
}

/* The caller has the lock, and uses the mailbox no more. */
static void mailbox_leave(struct mailbox *mailbox)
{
    TL_ASSERT(mailbox->users_count > 0);
    mailbox->users_count--;
    bool is_last = mailbox->users_count == 0;
    mailbox_unlock(mailbox);
    if (is_last) {
        int rc = pthread_mutex_destroy(&mailbox->lock);
        TL_ASSERT(rc == 0);
        free(mailbox);
    }
}

static void *lookup_main(void *context)
{
    struct lookup *lookup = context;
    struct mailbox *mailbox = lookup->mailbox;
    if (address_list_resolve(lookup->address.host, lookup->address.port, 0, &lookup->list) != 0) {
        lookup->list.count = 0;
    }
    mailbox_lock(mailbox);
    if (mailbox->async != NULL) {
        lookup->next = mailbox->lookups;
        mailbox->lookups = lookup;
        int rc = uv_async_send(mailbox->async);
        TL_ASSERT(rc == 0);
    } else {
        free(lookup);
    }
    mailbox_leave(mailbox);
    return NULL;
}

static bool lookup_start(struct resolver *resolver, const struct endpoint *endpoint)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);
    TL_ASSERT(lookup != NULL);
    lookup->mailbox = resolver->mailbox;
    lookup->address = endpoint->address;
    memcpy(lookup->text, endpoint->text, sizeof lookup->text);
    mailbox_lock(resolver->mailbox);
    resolver->mailbox->users_count++;
    mailbox_unlock(resolver->mailbox);
    pthread_t thread;
    if (pthread_create(&thread, NULL, lookup_main, lookup) != 0) {
        mailbox_lock(resolver->mailbox);
        mailbox_leave(resolver->mailbox); /* the resolver is still there */
        free(lookup);
        return false;
    }
    (void)pthread_setname_np(thread, "name look-up"); /* only shown in tools */
    int rc = pthread_detach(thread);
    TL_ASSERT(rc == 0);
    return true;
}

/* ---- endpoints ---- */

static struct endpoint *endpoint_find(struct resolver *resolver, const char *text)
{
    for (uint32_t i = 0; i < resolver->endpoints_count; i++) {
        struct endpoint *endpoint = resolver->endpoints[i];
        if (strcmp(endpoint->text, text) == 0) return endpoint;
    }
    return NULL;
}

/* Makes room by forgetting the one that has not been used for longest; false: all are in use. */
static bool endpoint_evict(struct resolver *resolver)
{
    uint32_t oldest = ENDPOINTS_MAX;
    for (uint32_t i = 0; i < resolver->endpoints_count; i++) {
        const struct endpoint *endpoint = resolver->endpoints[i];
        if (endpoint->users_count > 0 || endpoint->is_looking_up) continue;
        if (oldest == ENDPOINTS_MAX ||
            endpoint->used_ns < resolver->endpoints[oldest]->used_ns) {
            oldest = i;
        }
    }
    if (oldest == ENDPOINTS_MAX) return false;
    free(resolver->endpoints[oldest]);
    resolver->endpoints[oldest] = resolver->endpoints[--resolver->endpoints_count];
    return true;
}

static struct endpoint *endpoint_create(struct resolver *resolver, const char *text)
{
    struct address address;
    if (address_parse(bytes_of(text), &address) != TL_OK) return NULL;
    if (resolver->endpoints_count == ENDPOINTS_MAX && !endpoint_evict(resolver)) return NULL;
    struct endpoint *endpoint = calloc(1, sizeof *endpoint);
    TL_ASSERT(endpoint != NULL);
    (void)text_format(endpoint->text, sizeof endpoint->text, "%s", text);
    endpoint->address = address;
    union socket_address *literal = &endpoint->list.at[0];
    endpoint->is_literal = uv_ip4_addr(address.host, address.port, &literal->v4) == 0 ||
                           uv_ip6_addr(address.host, address.port, &literal->v6) == 0;
    endpoint->list.count = endpoint->is_literal ? 1 : 0;
    resolver->endpoints[resolver->endpoints_count++] = endpoint;
    return endpoint;
}

struct endpoint *endpoint_acquire(struct resolver *resolver, const char *text)
{
    struct endpoint *endpoint = endpoint_find(resolver, text);
    if (endpoint == NULL) endpoint = endpoint_create(resolver, text);
    if (endpoint == NULL) return NULL;
    endpoint->users_count++;
    endpoint->used_ns = clock_boottime_ns();
    bool is_fresh = endpoint->looked_up_ns != 0 &&
                    endpoint->used_ns - endpoint->looked_up_ns < ENDPOINT_FRESH_NS;
    if (endpoint->is_literal || endpoint->is_looking_up ||
        (is_fresh && endpoint->list.count > 0)) {
        return endpoint;
    }
    endpoint->is_looking_up = lookup_start(resolver, endpoint);
    return endpoint;
}

void endpoint_release(struct endpoint *endpoint)
{
    TL_ASSERT(endpoint->users_count > 0);
    endpoint->users_count--;
}

void endpoint_worked(struct endpoint *endpoint, const union socket_address *address)
{
    endpoint->first = *address;
}

void endpoint_failed(struct endpoint *endpoint, const union socket_address *address)
{
    uint32_t place;
    if (address_list_find(&endpoint->list, address, &place)) {
        endpoint->first = endpoint->list.at[(place + 1) % endpoint->list.count];
    }
}

/* ---- the loop ---- */

static void endpoint_on_looked_up(struct transport *transport, const struct lookup *lookup)
{
    struct endpoint *endpoint = endpoint_find(&transport->resolver, lookup->text);
    TL_ASSERT(endpoint != NULL); /* is not forgotten while it is looked up */
    TL_ASSERT(endpoint->is_looking_up);
    endpoint->is_looking_up = false;
    endpoint->looked_up_ns = clock_boottime_ns();
    if (lookup->list.count > 0) endpoint->list = lookup->list; /* else the old ones may still do */
    connections_on_looked_up(transport, endpoint);
}

static void on_lookups(uv_async_t *async)
{
    struct pump *pump = TL_CAST(pump, async->data, PUMP_MAGIC);
    struct transport *transport = &pump->transport;
    if (transport->resolver.mailbox == NULL) return; /* closing */
    mailbox_lock(transport->resolver.mailbox);
    struct lookup *lookups = TL_TAKE(&transport->resolver.mailbox->lookups);
    mailbox_unlock(transport->resolver.mailbox);
    while (lookups != NULL) {
        struct lookup *lookup = lookups;
        lookups = lookup->next;
        endpoint_on_looked_up(transport, lookup);
        free(lookup);
    }
}

void resolver_open(struct transport *transport)
{
    struct resolver *resolver = &transport->resolver;
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    TL_ASSERT(mailbox != NULL);
    int rc = pthread_mutex_init(&mailbox->lock, NULL);
    TL_ASSERT(rc == 0);
    rc = uv_async_init(transport->loop, &resolver->async, on_lookups);
    TL_ASSERT(rc == 0);
    pump_hold_handle(transport->pump, (uv_handle_t *)&resolver->async);
    mailbox->users_count = 1;
    mailbox->async = &resolver->async;
    resolver->mailbox = mailbox;
}

void resolver_close(struct transport *transport)
{
    struct resolver *resolver = &transport->resolver;
    struct mailbox *mailbox = TL_TAKE(&resolver->mailbox);
    if (mailbox == NULL) return; /* never opened */
    mailbox_lock(mailbox);
    mailbox->async = NULL;
    struct lookup *lookups = TL_TAKE(&mailbox->lookups);
    mailbox_leave(mailbox);
    while (lookups != NULL) {
        struct lookup *lookup = lookups;
        lookups = lookup->next;
        free(lookup);
    }
    while (resolver->endpoints_count > 0) {
        struct endpoint *endpoint = resolver->endpoints[--resolver->endpoints_count];
        TL_ASSERT(endpoint->users_count == 0);
        free(endpoint);
    }
    pump_close_handle(transport->pump, (uv_handle_t *)&resolver->async);
}
