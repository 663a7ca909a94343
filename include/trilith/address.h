/* address.h - "host:port" texts.
 *
 * Role:       Takes apart what operators and peers write: HOST:PORT and [IPV6]:PORT, and how a node
 *             is named: HOST:PORT/PEERPORT. Does not resolve names.
 * Thread:     pure.
 */

#ifndef TL_ADDRESS_H
#define TL_ADDRESS_H

#include "trilith/buf.h"
#include "trilith/error.h"

#define ADDRESS_HOST_BYTES_MAX 256u /* NUL included; a DNS name has at most 253 characters */

struct address {
    char host[ADDRESS_HOST_BYTES_MAX]; /* without the brackets of an IPv6 literal */
    uint16_t port;                     /* 1 ... 65535 */
};

/* TL_ERR_INVALID: no port, port 0 or above 65535, empty or too long host, a colon in a host without
 * brackets, or characters that no name or literal has. */
TL_MUST_CHECK enum tl_err address_parse(struct bytes text, struct address *out_address);

/* Where a node listens for peers unless its name says so: its port + this. */
#define ADDRESS_PEER_PORT_OFFSET 10000u

/* Takes HOST:PORT[/PEERPORT] apart into the node's address and the one its peers use: "" when the
 * text does not name their port and PORT + ADDRESS_PEER_PORT_OFFSET is none. That is enough to say
 * which node is meant, but not to reach it.
 *
 * room  bytes of each out text; ADDRESS_HOST_BYTES_MAX + 10 are enough.
 *
 * TL_ERR_INVALID: as address_parse(), a peer port that is none, or no room. */
TL_MUST_CHECK enum tl_err address_parse_node(struct bytes text, char *out_address,
                                             char *out_peer_address, size_t room);

#endif
