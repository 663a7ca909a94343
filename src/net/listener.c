/* listener.c - sockets that listen at every address of a host. */

#include "trilith/listener.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

#include "net_internal.h"

#define LISTEN_BACKLOG 1024 /* what connects at once after a restart of this node */

_Static_assert(LISTEN_SOCKETS_MAX >= ADDRESS_LIST_MAX, "one for each address");

static socklen_t address_bytes(const union socket_address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4;
}

static void set_port(union socket_address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET6) {
        address->v6.sin6_port = htons(port);
    } else {
        address->v4.sin_port = htons(port);
    }
}

static uint16_t bound_port(int fd)
{
    union socket_address address;
    socklen_t bytes = sizeof address;
    if (getsockname(fd, &address.any, &bytes) != 0) return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

static int set_options(int fd, const union socket_address *where, bool is_alone)
{
    int on = 1; /* or a restarted node waits for old connections to leave TIME_WAIT */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return -1;
    if (where->any.sa_family != AF_INET6) return 0;
    int is_v6_only = is_alone ? 0 : 1; /* whatever net.ipv6.bindv6only says */
    return setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6_only, sizeof is_v6_only);
}

/* The socket; -1: errno says why not. */
static int listen_at(const union socket_address *where, bool is_alone)
{
    int fd = socket(where->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (set_options(fd, where, is_alone) != 0 ||
        bind(fd, &where->any, address_bytes(where)) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int reason = errno;
        (void)close(fd); /* nothing was written */
        errno = reason;
        return -1;
    }
    return fd;
}

/* A name may have addresses that this machine does not have: without IPv6 it has no ::1, and
 * /etc/hosts lists it all the same. */
static bool is_of_no_use(int reason)
{
    return reason == EADDRNOTAVAIL || reason == EAFNOSUPPORT;
}

/* 0, or why not. */
static int listen_at_all(struct address_list *list, uint16_t port, struct listen_sockets *sockets)
{
    int reason = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        set_port(&list->at[i], port);
        int fd = listen_at(&list->at[i], list->count == 1);
        if (fd >= 0) {
            sockets->fds[sockets->count++] = fd;
            if (port == 0) port = bound_port(fd);
        } else if (is_of_no_use(errno)) {
            reason = errno;
        } else {
            return errno;
        }
    }
    return sockets->count > 0 ? 0 : reason;
}

enum tl_err listen_sockets_open(const char *host, uint16_t port, struct listen_sockets *out_sockets,
                                struct tl_fault *out_fault)
{
    const char *name = host != NULL ? host : "*";
    struct address_list list = {.count = 0};
    int rc = address_list_resolve(host, port, AI_PASSIVE, &list);
    if (rc != 0) {
        tl_fault_set(out_fault, name, UINT32_MAX, 0, "cannot listen on %s port %u: %s", name,
                     (unsigned)port, gai_strerror(rc));
        return TL_ERR_NOT_FOUND;
    }
    struct listen_sockets sockets = {.count = 0};
    int reason = listen_at_all(&list, port, &sockets);
    if (reason != 0) {
        listen_sockets_close(&sockets);
        tl_fault_set(out_fault, name, UINT32_MAX, 0, "cannot listen on %s port %u: %s", name,
                     (unsigned)port, strerror(reason));
        if (is_of_no_use(reason)) return TL_ERR_NOT_FOUND;
        return reason == EADDRINUSE ? TL_ERR_IN_USE : TL_ERR_IO;
    }
    *out_sockets = sockets;
    return TL_OK;
}

void listen_sockets_close(struct listen_sockets *sockets)
{
    for (uint32_t i = 0; i < sockets->count; i++) {
        if (sockets->fds[i] >= 0) (void)close(sockets->fds[i]); /* a socket without a connection */
    }
    sockets->count = 0;
}
