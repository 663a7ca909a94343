/* options: what options.h promises of sources, precedence, defaults and refusals. */

#include <criterion/criterion.h>

#include "options.h"

static struct options options;
static char message[OPTIONS_MESSAGE_BYTES];

static enum tl_err parse(char *const *environment, int argc, char **argv)
{
    memset(&options, 0, sizeof options);
    message[0] = '\0';
    return options_parse(argc, argv, environment, &options, message);
}

static char *no_environment[] = {NULL};

#define PARSE(environment, ...)                                                             \
    parse(environment, (int)(sizeof((char *[]){"trilithd", __VA_ARGS__}) / sizeof(char *)), \
          (char *[]){"trilithd", __VA_ARGS__, NULL})

Test(options, address_alone_is_a_one_node_cluster_with_defaults)
{
    cr_assert_eq(PARSE(no_environment, "--address", "127.0.0.1:8081"), TL_OK, "%s", message);
    cr_assert_eq(options.view_count, 1);
    cr_assert_str_eq(options.address, "127.0.0.1:8081");
    cr_assert_str_eq(options.peer_address, "127.0.0.1:18081");
    cr_assert_str_eq(options.data_dir, "./data/127.0.0.1_8081");
    cr_assert_eq(options.request_timeout_ns, 5000000000u);
    cr_assert_eq(options.value_bytes_max, 1u << 20);
    cr_assert_eq(options.log_retain_bytes, 128u << 20);
}

Test(options, view_keeps_its_order_and_names_peer_ports)
{
    cr_assert_eq(PARSE(no_environment, "--address", "b:82", "--view", "a:81,b:82/99,c:83"), TL_OK,
                 "%s", message);
    cr_assert_eq(options.view_count, 3);
    cr_assert_str_eq(options.view[0].peer_address, "a:10081");
    cr_assert_str_eq(options.view[1].peer_address, "b:99");
    cr_assert_str_eq(options.peer_address, "b:99");
}

Test(options, option_wins_over_own_variable_over_other_variable)
{
    char *other[] = {"SOCKET_ADDRESS=h:1", NULL};
    char *own[] = {"SOCKET_ADDRESS=h:1", "TRILITH_ADDRESS=h:2", NULL};
    cr_assert_eq(parse(other, 1, (char *[]){"trilithd", NULL}), TL_OK, "%s", message);
    cr_assert_str_eq(options.address, "h:1");
    cr_assert_eq(parse(own, 1, (char *[]){"trilithd", NULL}), TL_OK, "%s", message);
    cr_assert_str_eq(options.address, "h:2");
    cr_assert_eq(PARSE(own, "--address", "h:3"), TL_OK, "%s", message);
    cr_assert_str_eq(options.address, "h:3");
}

Test(options, sizes_and_durations_take_units)
{
    cr_assert_eq(PARSE(no_environment, "--address", "h:1", "--log-retain", "1GiB",
                       "--request-timeout", "500ms", "--max-value-size", "2MiB"),
                 TL_OK, "%s", message);
    cr_assert_eq(options.log_retain_bytes, 1u << 30);
    cr_assert_eq(options.request_timeout_ns, 500000000u);
    cr_assert_eq(options.value_bytes_max, 2u << 20);
}

Test(options, wrong_values_are_refused_with_a_sentence)
{
    static char *const wrong[][2] = {
        {"--log-retain", "x"},        {"--log-retain", "-1"},    {"--request-timeout", "5parsecs"},
        {"--max-value-size", "3MiB"}, {"--http-threads", "two"}, {"--view", "a:1,,b:2"},
        {"--view", "a:1,b:2"},        {"--log-format", "xml"},   {"--config", "/no/such/file"},
        {"--address", "nonsense"},    {"--address", "h:99999"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_assert_eq(PARSE(no_environment, "--address", "h:1", wrong[i][0], wrong[i][1]),
                     TL_ERR_INVALID, "%s %s was taken", wrong[i][0], wrong[i][1]);
        cr_assert_neq(message[0], '\0', "%s %s: no sentence", wrong[i][0], wrong[i][1]);
    }
}

Test(options, no_address_is_refused)
{
    cr_assert_eq(parse(no_environment, 1, (char *[]){"trilithd", NULL}), TL_ERR_INVALID);
}

Test(options, high_port_needs_a_peer_port)
{
    cr_assert_eq(PARSE(no_environment, "--address", "h:55536"), TL_ERR_INVALID);
    cr_assert_eq(PARSE(no_environment, "--address", "h:55535"), TL_OK, "%s", message);
}
