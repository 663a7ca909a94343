/* address.c - "host:port" texts. */

#include "trilith/address.h"

#include <stdio.h>

/* Letters, digits and what names and IPv6 literals with a zone use; so an address can be printed in
 * a log line, a file name or a JSON text without a second look. */
static bool is_host_character(char c, bool is_bracketed)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
        return true;
    }
    return c == '.' || c == '-' || c == '_' || (is_bracketed && (c == ':' || c == '%'));
}

static bool parse_port(const char *text, size_t count, uint16_t *out_port)
{
    uint32_t port = 0;
    if (count == 0 || count > 5) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    if (port == 0 || port > UINT16_MAX) {
        return false;
    }
    *out_port = (uint16_t)port;
    return true;
}

enum tl_err address_parse(struct bytes text, struct address *out_address)
{
    const char *at = (const char *)text.data;
    size_t colon = text.count;
    while (colon > 0 && at[colon - 1] != ':') colon--;
    if (colon == 0) {
        return TL_ERR_INVALID;
    }
    struct address address = {.port = 0};
    if (!parse_port(at + colon, text.count - colon, &address.port)) {
        return TL_ERR_INVALID;
    }
    size_t host_count = colon - 1;
    bool is_bracketed = host_count >= 2 && at[0] == '[' && at[host_count - 1] == ']';
    if (is_bracketed) {
        at++;
        host_count -= 2;
    }
    if (host_count == 0 || host_count >= sizeof address.host) {
        return TL_ERR_INVALID;
    }
    for (size_t i = 0; i < host_count; i++) {
        if (!is_host_character(at[i], is_bracketed)) {
            return TL_ERR_INVALID;
        }
        address.host[i] = at[i];
    }
    *out_address = address;
    return TL_OK;
}

enum tl_err address_parse_node(struct bytes text, char *out_address, char *out_peer_address,
                               size_t room)
{
    size_t slash = 0;
    while (slash < text.count && text.data[slash] != '/') slash++;
    struct address address;
    if (slash >= room || address_parse(bytes_make(text.data, slash), &address) != TL_OK) {
        return TL_ERR_INVALID;
    }
    uint16_t peer_port = 0;
    if (slash < text.count) {
        const char *port = (const char *)text.data + slash + 1;
        if (!parse_port(port, text.count - slash - 1, &peer_port)) {
            return TL_ERR_INVALID;
        }
    } else if (address.port + ADDRESS_PEER_PORT_OFFSET <= UINT16_MAX) {
        peer_port = (uint16_t)(address.port + ADDRESS_PEER_PORT_OFFSET);
    }
    size_t colon = slash;
    while (text.data[colon - 1] != ':') colon--;
    char peer_address[ADDRESS_HOST_BYTES_MAX + 16];
    int length = snprintf(peer_address, sizeof peer_address, "%.*s%u", (int)colon,
                          (const char *)text.data, (unsigned)peer_port);
    if (length < 0 || (size_t)length >= TL_MIN(room, sizeof peer_address)) {
        return TL_ERR_INVALID;
    }
    memcpy(out_address, text.data, slash);
    out_address[slash] = '\0';
    memcpy(out_peer_address, peer_address, (size_t)length + 1);
    if (peer_port == 0) out_peer_address[0] = '\0';
    return TL_OK;
}
