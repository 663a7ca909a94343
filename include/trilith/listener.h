/* listener.h - sockets that listen at every address of a host.
 *
 * Role:       The HTTP front end and the peers' transport both listen through it, so that a name
 *             means the same to both: all of its addresses that this machine has, IPv4 and IPv6.
 * Thread:     any.
 * Blocking:   for the name servers, when the host is a name.
 */

#ifndef TL_LISTENER_H
#define TL_LISTENER_H

#include "trilith/error.h"

#define LISTEN_SOCKETS_MAX 8u

struct listen_sockets {
    uint32_t count;
    int fds[LISTEN_SOCKETS_MAX]; /* -1: taken over */
};

/* Binds and listens, without blocking on accept. An IPv6 socket takes IPv4 connections as well only
 * if it is alone and bound to every address ("::"). A name's addresses that this machine does not
 * have are left out, unless it has none of them.
 *
 * host         name or literal; NULL: every address
 * port         0: the kernel's choice, the same at each address
 * out_sockets  on TL_OK at least one; the caller's, until listen_sockets_close().
 *
 * TL_ERR_NOT_FOUND  the host does not resolve, or this machine has none of its addresses.
 * TL_ERR_IN_USE     the port is in use at one of the addresses: nothing is left open.
 * TL_ERR_IO         anything else, a port below 1024 for instance. *out_fault says what. */
TL_MUST_CHECK enum tl_err listen_sockets_open(const char *host, uint16_t port,
                                              struct listen_sockets *out_sockets,
                                              struct tl_fault *out_fault);
/* Closes those that nothing has taken over. */
void listen_sockets_close(struct listen_sockets *sockets);

#endif
