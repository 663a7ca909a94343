/* address: what is an address, and what is not. */

#include <criterion/criterion.h>

#include "trilith/address.h"

Test(address, host_and_port_are_taken_apart)
{
    static const struct {
        const char *text;
        const char *host;
        uint16_t port;
    } cases[] = {
        {"127.0.0.1:8085", "127.0.0.1", 8085},
        {"node-1.example_x:1", "node-1.example_x", 1},
        {"[::1]:65535", "::1", 65535},
        {"[fe80::1%eth0]:80", "fe80::1%eth0", 80},
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        struct address address;
        cr_assert_eq(address_parse(bytes_of(cases[i].text), &address), TL_OK, "%s", cases[i].text);
        cr_assert_str_eq(address.host, cases[i].host);
        cr_assert_eq(address.port, cases[i].port);
    }
}

Test(address, everything_else_is_invalid_and_changes_nothing)
{
    static const char *const texts[] = {
        "",         "host",       ":",           ":80",     "host:",
        "host:0",   "host:65536", "h:-1",        "h:8x",    "h: 80",
        "ho st:80", "::1:80",     "[]:80",       "[::1]",   "h/x:8",
        "h\"x:80",  "h=:80",      "host:080808", "h:80:90", "h:99999999999999999999",
    };
    for (size_t i = 0; i < TL_COUNT_OF(texts); i++) {
        struct address address = {.host = "untouched", .port = 7};
        cr_assert_eq(address_parse(bytes_of(texts[i]), &address), TL_ERR_INVALID, "%s", texts[i]);
        cr_assert_str_eq(address.host, "untouched");
        cr_assert_eq(address.port, 7);
    }
}

Test(address, host_longer_than_the_limit_is_invalid)
{
    char text[ADDRESS_HOST_BYTES_MAX + 8];
    struct address address;
    memset(text, 'h', sizeof text);
    memcpy(text + ADDRESS_HOST_BYTES_MAX - 1, ":80", 4);
    cr_assert_eq(address_parse(bytes_of(text), &address), TL_OK);
    memset(text, 'h', sizeof text);
    memcpy(text + ADDRESS_HOST_BYTES_MAX, ":80", 4);
    cr_assert_eq(address_parse(bytes_of(text), &address), TL_ERR_INVALID);
}

Test(address, a_node_is_named_with_or_without_its_peer_port)
{
    static const struct {
        const char *text;
        const char *address;
        const char *peer_address;
    } good[] = {
        {"a:80", "a:80", "a:10080"},
        {"a:80/81", "a:80", "a:81"},
        {"[::1]:55535", "[::1]:55535", "[::1]:65535"},
        {"[::1]:65535/1", "[::1]:65535", "[::1]:1"},
        {"a:55535", "a:55535", "a:65535"},
        {"a:55536", "a:55536", ""},
    };
    char address[64];
    char peer_address[64];
    for (size_t i = 0; i < TL_COUNT_OF(good); i++) {
        enum tl_err err =
            address_parse_node(bytes_of(good[i].text), address, peer_address, sizeof address);
        cr_assert_eq(err, TL_OK, "%s", good[i].text);
        cr_assert_str_eq(address, good[i].address);
        cr_assert_str_eq(peer_address, good[i].peer_address);
    }
    static const char *const bad[] = {"a",          "a:80/",    "a:80/0", "a:80/x",
                                      "a:80/65536", "a:80/1/2", "/80",    ""};
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        enum tl_err err =
            address_parse_node(bytes_of(bad[i]), address, peer_address, sizeof address);
        cr_assert_eq(err, TL_ERR_INVALID, "%s", bad[i]);
    }
    cr_assert_eq(address_parse_node(bytes_of("a:80"), address, peer_address, 7), TL_ERR_INVALID);
    cr_assert_eq(address_parse_node(bytes_of("a:80"), address, peer_address, 8), TL_OK);
}
