/* address_list.c - the addresses of a host, in the order in which they are used.
 *
 * Families alternate (RFC 8305, 4): where one of them leads nowhere, the second attempt is made
 * over the other one, however many addresses the first has.
 */

#include "net_internal.h"

#include <netdb.h>
#include <string.h>

#include "trilith/log.h"

static bool is_usable(const struct addrinfo *info)
{
    return (info->ai_family == AF_INET && info->ai_addrlen == sizeof(struct sockaddr_in)) ||
           (info->ai_family == AF_INET6 && info->ai_addrlen == sizeof(struct sockaddr_in6));
}

bool socket_address_equal(const union socket_address *a, const union socket_address *b)
{
    if (a->any.sa_family != b->any.sa_family) return false;
    if (a->any.sa_family == AF_INET) {
        return a->v4.sin_port == b->v4.sin_port &&
               a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    }
    return a->v6.sin6_port == b->v6.sin6_port && a->v6.sin6_scope_id == b->v6.sin6_scope_id &&
           memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof a->v6.sin6_addr) == 0;
}

bool address_list_find(const struct address_list *list, const union socket_address *wanted,
                       uint32_t *out_place)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (socket_address_equal(&list->at[i], wanted)) {
            *out_place = i;
            return true;
        }
    }
    return false;
}

/* The next one of this family that the list does not have yet, from *at on; false: none. */
static bool address_list_add(struct address_list *list, const struct addrinfo **at, int family)
{
    for (; *at != NULL; *at = (*at)->ai_next) {
        const struct addrinfo *info = *at;
        if (!is_usable(info) || info->ai_family != family) continue;
        union socket_address address;
        memset(&address, 0, sizeof address);
        memcpy(&address, info->ai_addr, info->ai_addrlen);
        uint32_t place;
        if (address_list_find(list, &address, &place)) continue; /* /etc/hosts may say it twice */
        list->at[list->count++] = address;
        *at = info->ai_next;
        return true;
    }
    return false;
}

void address_list_fill(struct address_list *list, const struct addrinfo *infos)
{
    list->count = 0;
    const struct addrinfo *first = infos;
    while (first != NULL && !is_usable(first)) first = first->ai_next;
    if (first == NULL) return;
    int family = first->ai_family;
    const struct addrinfo *same = first;
    const struct addrinfo *other = first;
    bool has_more = true;
    while (has_more && list->count < ADDRESS_LIST_MAX) {
        has_more = address_list_add(list, &same, family);
        if (list->count < ADDRESS_LIST_MAX) {
            has_more |= address_list_add(list, &other, family == AF_INET ? AF_INET6 : AF_INET);
        }
    }
}

int address_list_resolve(const char *host, uint16_t port, int flags, struct address_list *out_list)
{
    char port_text[8];
    (void)text_format(port_text, sizeof port_text, "%u", (unsigned)port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    struct addrinfo *infos = NULL;
    int rc = getaddrinfo(host, port_text, &hints, &infos);
    if (rc != 0) return rc;
    address_list_fill(out_list, infos);
    freeaddrinfo(infos);
    return out_list->count > 0 ? 0 : EAI_NONAME;
}
