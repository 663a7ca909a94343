/* options: which source wins, what every value may be, and that nothing wrong is accepted. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "options.h"

#define ARGUMENTS_MAX 16

static char *no_environment[] = {NULL};
static struct options options;
static char message[OPTIONS_MESSAGE_BYTES];

/* A command line or an environment is written as one text, separated by spaces. */
static int split(const char *text, char *words, char **out_words)
{
    int count = 0;
    (void)snprintf(words, 1024, "%s", text);
    for (char *rest = words, *word; (word = strtok_r(rest, " ", &rest)) != NULL;) {
        out_words[count++] = word;
    }
    out_words[count] = NULL;
    return count;
}

static enum tl_err parse_in(const char *arguments, const char *environment)
{
    char argument_words[1024];
    char variable_words[1024];
    char *argv[ARGUMENTS_MAX + 2] = {"trilithd"};
    char *variables[ARGUMENTS_MAX + 1];
    int argc = 1 + split(arguments, argument_words, argv + 1);
    (void)split(environment, variable_words, variables);
    memset(&options, 0, sizeof options);
    return options_parse(argc, argv, variables, &options, message);
}

static enum tl_err parse(const char *arguments)
{
    return parse_in(arguments, "");
}

#define A "--address 127.0.0.1:8085 "

Test(options, address_alone_is_a_one_node_cluster_with_all_defaults)
{
    cr_assert_eq(parse("--address 127.0.0.1:8085"), TL_OK, "%s", message);
    cr_assert_str_eq(message, "");
    cr_assert_str_eq(options.address, "127.0.0.1:8085");
    cr_assert_str_eq(options.peer_address, "127.0.0.1:18085");
    cr_assert_str_eq(options.listen.host, "127.0.0.1");
    cr_assert_eq(options.listen.port, 8085);
    cr_assert_eq(options.peer_listen.port, 0, "where the peers connect to");
    cr_assert_str_eq(options.birth_refusal, "");
    cr_assert_eq(options.view_count, 1);
    cr_assert_str_eq(options.view[0].address, "127.0.0.1:8085");
    cr_assert_str_eq(options.view[0].peer_address, "127.0.0.1:18085");
    cr_assert_str_eq(options.data_dir, "./data/127.0.0.1_8085");
    cr_assert_not(options.allow_any_fs);
    cr_assert_not(options.is_log_json);
    cr_assert_eq(options.log_retain_bytes, 128u << 20);
    cr_assert_eq(options.request_timeout_ns, 5000000000u);
    cr_assert_eq(options.value_bytes_max, 1u << 20);
    cr_assert_eq(options.idempotency_records, 262144);
#ifdef TL_SMALL_MAPS
    cr_assert_eq(options.table_map_bytes, (size_t)4 << 30);
    cr_assert_eq(options.log_map_bytes, (size_t)4 << 30);
#else
    cr_assert_eq(options.table_map_bytes, (size_t)1 << 40);
    cr_assert_eq(options.log_map_bytes, (size_t)64 << 30);
#endif
}

Test(options, view_is_taken_in_order_with_peer_ports)
{
    cr_assert_eq(parse("--address b:81 --view a:80,b:81/7000,[::1]:82"), TL_OK, "%s", message);
    cr_assert_eq(options.view_count, 3);
    cr_assert_str_eq(options.view[0].address, "a:80");
    cr_assert_str_eq(options.view[0].peer_address, "a:10080");
    cr_assert_str_eq(options.view[1].address, "b:81");
    cr_assert_str_eq(options.view[1].peer_address, "b:7000");
    cr_assert_str_eq(options.view[2].peer_address, "[::1]:10082");
    cr_assert_str_eq(options.peer_address, "b:7000");
}

Test(options, listening_elsewhere_does_not_change_what_others_know)
{
    cr_assert_eq(parse("--address b:81 --view a:80,b:81/7000 --listen 0.0.0.0:90 "
                       "--peer-listen 0.0.0.0:91"),
                 TL_OK, "%s", message);
    cr_assert_str_eq(options.listen.host, "0.0.0.0");
    cr_assert_eq(options.listen.port, 90);
    cr_assert_str_eq(options.peer_listen.host, "0.0.0.0");
    cr_assert_eq(options.peer_listen.port, 91);
    cr_assert_str_eq(options.address, "b:81");
    cr_assert_str_eq(options.peer_address, "b:7000", "the view names it");
    cr_assert_eq(parse("--address b:81 --view a:80,b:81 --peer-listen 0.0.0.0:91"), TL_OK);
    cr_assert_str_eq(options.peer_address, "b:91", "the port it listens on");
}

Test(options, high_ports_need_a_named_peer_port)
{
    cr_assert_eq(parse("--address h:55535"), TL_OK);
    cr_assert_str_eq(options.peer_address, "h:65535");
    cr_assert_eq(parse("--address h:55536"), TL_OK);
    cr_assert_neq(strstr(options.birth_refusal, "--peer-listen"), NULL, "%s", message);
    cr_assert_str_eq(options.peer_address, "", "a node that has data knows its own");
    cr_assert_eq(parse("--address h:60000 --peer-listen h:60001"), TL_OK);
    cr_assert_str_eq(options.peer_address, "h:60001");
    cr_assert_eq(parse("--address h:60000 --view h:60000/9,i:60000"), TL_OK);
    cr_assert_neq(strstr(options.birth_refusal, "i:60000"), NULL, "%s", options.birth_refusal);
    cr_assert_eq(parse("--address h:60000 --view h:60000/9,i:60000/9"), TL_OK);
    cr_assert_str_eq(options.birth_refusal, "");
}

Test(options, values_are_read)
{
    cr_assert_eq(parse(A
                       "--data-dir /d --log-retain 256MiB --map-size 64MiB --request-timeout 500ms "
                       "--max-value-size 4096"),
                 TL_OK, "%s", message);
    cr_assert_str_eq(options.data_dir, "/d");
    cr_assert_eq(options.log_retain_bytes, 256u << 20);
    cr_assert_eq(options.table_map_bytes, 64u << 20);
    cr_assert_eq(options.request_timeout_ns, 500000000u);
    cr_assert_eq(options.value_bytes_max, 4096);
    cr_assert_eq(parse(A "--log-format json --allow-any-fs --idempotency-records 1 --shards 1 "
                         "--http-threads 0"),
                 TL_OK, "%s", message);
    cr_assert(options.is_log_json);
    cr_assert(options.allow_any_fs);
    cr_assert_eq(options.idempotency_records, 1);
}

/* The second text must be in the message: it names where the mistake is. */
static const struct {
    const char *arguments;
    const char *named;
} wrong[] = {
    {"", "--address"},
    {"--address nonsense", "--address"},
    {"--address h:0", "--address"},
    {"--address h:1/2", "--address"},
    {"--address h:65536", "--address"},
    {A "--view 127.0.0.1:8085,", "--view"},
    {A "--view 127.0.0.1:8085,,a:1", "--view"},
    {A "--view 127.0.0.1:8085,a", "\"a\""},
    {A "--view 127.0.0.1:8085,a:1/", "a:1/"},
    {A "--view 127.0.0.1:8085,a:1/0", "a:1/0"},
    {A "--view 127.0.0.1:8085,a:1/65536", "a:1/65536"},
    {A "--view 127.0.0.1:8085,a:1/x", "a:1/x"},
    {A "--view 127.0.0.1:8085,a:1/2/3", "a:1/2/3"},
    {A "--listen 8080", "--listen"},
    {A "--peer-listen :1", "--peer-listen"},
    {A "--log-retain x", "--log-retain"},
    {A "--log-retain -1", "--log-retain"},
    {A "--log-retain 1.5GiB", "--log-retain"},
    {A "--log-retain 128MB", "--log-retain"},
    {A "--log-retain 16EiB", "--log-retain"},
    {A "--log-retain 99999999999999999999", "--log-retain"},
    {A "--log-retain 99999999TiB", "--log-retain"},
    {A "--log-retain 100GiB", "between"},
    {A "--map-size 1MiB", "--map-size"},
    {A "--map-size 17TiB", "--map-size"},
    {A "--map-size 43TiB", "between"},
    {A "--map-size 64MiB --idempotency-records 262145", "--idempotency-records"},
    {A "--map-size 1GiB --idempotency-records 16777216", "--map-size"},
    {A "--listen 127.0.0.1:99 --peer-listen 127.0.0.1:99", "--peer-listen"},
    {A "--peer-listen 127.0.0.1:8085", "listens for HTTP"},
    {A "--max-value-size 0", "--max-value-size"},
    {A "--max-value-size 3MiB", "--max-value-size"},
    {A "--request-timeout 5", "--request-timeout"},
    {A "--request-timeout 5KiB", "--request-timeout"},
    {A "--request-timeout 1ms", "--request-timeout"},
    {A "--request-timeout 2h", "--request-timeout"},
    {A "--idempotency-records 0", "--idempotency-records"},
    {A "--idempotency-records 1KiB", "--idempotency-records"},
    {A "--log-format xml", "--log-format"},
    {A "--data-dir=", "--data-dir"},
    {A "--shards 0", "--shards"},
    {A "--shards 2", "--shards"},
    {A "--shards two", "--shards"},
    {A "--replicas 3", "--replicas"},
    {A "--join a", "--join"},
    {A "--http-threads 2", "--http-threads"},
    {A "--config /no/such/file", "/no/such/file"},
};

/* A node that has data starts with them. */
static const struct {
    const char *arguments;
    const char *named;
} unborn[] = {
    {A "--join a:60000", "--join: a:60000 + 10000 is no port"},
    {A "--view 127.0.0.1:8086", "127.0.0.1:8085 is not in"},
    {A "--view 127.0.0.1:8085,127.0.0.1:8085", "twice"},
    {A "--view 127.0.0.1:8085,a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,a:10,a:11,a:12,a:13,a:14,a:15,"
       "a:16",
     "more than 16"},
    {A "--join a:1 --view 127.0.0.1:8085", "takes no view"},
    {A "--join 127.0.0.1:8085", "own address"},
};

Test(options, a_view_that_cannot_be_is_a_refusal_of_birth_and_no_more)
{
    for (size_t i = 0; i < TL_COUNT_OF(unborn); i++) {
        cr_expect_eq(parse(unborn[i].arguments), TL_OK, "%s: %s", unborn[i].arguments, message);
        cr_expect_neq(strstr(options.birth_refusal, unborn[i].named), NULL, "%s: %s",
                      unborn[i].arguments, options.birth_refusal);
        cr_expect_str_eq(options.address, "127.0.0.1:8085");
        cr_expect_str_eq(options.peer_address, "127.0.0.1:18085");
    }
}

Test(options, http_and_the_peers_need_a_port_each)
{
    cr_assert_eq(parse(A "--view 127.0.0.1:8085/8085"), TL_OK, "%s", message);
    cr_assert_neq(strstr(options.birth_refusal, "listens for HTTP"), NULL, "%s",
                  options.birth_refusal);
    cr_assert_eq(parse(A "--peer-listen 127.0.0.1:8086"), TL_OK, "%s", message);
    cr_assert_str_eq(options.birth_refusal, "");
    cr_assert_eq(parse(A "--listen 127.0.0.1:99 --peer-listen 127.0.0.2:99"), TL_OK, "%s", message);
}

Test(options, the_node_to_join_through_has_a_peer_address)
{
    cr_assert_eq(parse(A "--join a:1"), TL_OK, "%s", message);
    cr_assert(options.has_join);
    cr_assert_str_eq(options.join.address, "a:1");
    cr_assert_str_eq(options.join.peer_address, "a:10001");
    cr_assert_eq(options.view_count, 1);
    cr_assert_eq(parse(A "--join [::1]:60000/7"), TL_OK, "%s", message);
    cr_assert_str_eq(options.join.address, "[::1]:60000");
    cr_assert_str_eq(options.join.peer_address, "[::1]:7");
    cr_assert_eq(parse(A), TL_OK);
    cr_assert_not(options.has_join);
}

Test(options, wrong_values_are_refused_and_named)
{
    for (size_t i = 0; i < TL_COUNT_OF(wrong); i++) {
        cr_expect_eq(parse(wrong[i].arguments), TL_ERR_INVALID, "accepted: %s", wrong[i].arguments);
        cr_expect_neq(strstr(message, wrong[i].named), NULL, "%s: %s", wrong[i].arguments, message);
        cr_expect_eq(options.view_count, 0, "%s: options were touched", wrong[i].arguments);
    }
}

Test(options, unknown_option_exits_with_2, .exit_code = 2)
{
    (void)!parse(A "--no-such-option");
}

Test(options, stray_argument_exits_with_2, .exit_code = 2)
{
    (void)!parse(A "extra");
}

Test(options, option_without_its_value_exits_with_2, .exit_code = 2)
{
    (void)!parse("--address");
}

Test(options, help_exits_with_0, .exit_code = 0)
{
    (void)!parse("--help");
    _exit(9);
}

Test(options, version_exits_with_0, .exit_code = 0)
{
    (void)!parse("--version");
    _exit(9);
}

/* ---- environment ---- */

Test(options, every_option_is_also_a_variable)
{
    cr_assert_eq(parse_in("",
                          "TRILITH_ADDRESS=a:1 TRILITH_VIEW=a:1,b:2 TRILITH_DATA_DIR=/d "
                          "TRILITH_LOG_RETAIN=1MiB TRILITH_MAX_VALUE_SIZE=1KiB "
                          "TRILITH_REQUEST_TIMEOUT=2s TRILITH_LOG_FORMAT=json "
                          "TRILITH_ALLOW_ANY_FS=yes TRILITH_PEER_LISTEN=x:3 TRILITH_LISTEN=y:4"),
                 TL_OK, "%s", message);
    cr_assert_str_eq(options.address, "a:1");
    cr_assert_eq(options.view_count, 2);
    cr_assert_str_eq(options.data_dir, "/d");
    cr_assert_eq(options.log_retain_bytes, 1u << 20);
    cr_assert_eq(options.value_bytes_max, 1024);
    cr_assert_eq(options.request_timeout_ns, 2000000000u);
    cr_assert(options.is_log_json);
    cr_assert(options.allow_any_fs);
    cr_assert_str_eq(options.peer_listen.host, "x");
    cr_assert_str_eq(options.listen.host, "y");
}

Test(options, other_variables_are_known)
{
    cr_assert_eq(parse_in("", "SOCKET_ADDRESS=a:1 VIEW=b:2,a:1 SHARD_COUNT=1"), TL_OK, "%s",
                 message);
    cr_assert_str_eq(options.address, "a:1");
    cr_assert_str_eq(options.view[0].address, "b:2");
    cr_assert_eq(parse_in("", "ip_port=c:1"), TL_OK);
    cr_assert_str_eq(options.address, "c:1");
    cr_assert_eq(parse_in("", "ip_port=c:1 SHARD_COUNT=2"), TL_ERR_INVALID);
    cr_assert_neq(strstr(message, "SHARD_COUNT"), NULL, "%s", message);
    cr_assert_eq(parse_in("", "ip_port=c:1 K=3"), TL_ERR_INVALID);
    cr_assert_neq(strstr(message, "variable K"), NULL, "%s", message);
}

Test(options, empty_variable_counts_as_not_set)
{
    cr_assert_eq(parse_in("--address a:1", "VIEW= K= TRILITH_LOG_RETAIN= TRILITH_CONFIG="), TL_OK,
                 "%s", message);
    cr_assert_eq(options.view_count, 1);
}

Test(options, wrong_value_of_a_variable_is_refused_by_its_name)
{
    cr_assert_eq(parse_in("--address a:1", "TRILITH_LOG_RETAIN=much"), TL_ERR_INVALID);
    cr_assert_neq(strstr(message, "TRILITH_LOG_RETAIN"), NULL, "%s", message);
}

/* ---- file and precedence ---- */

static char path[64];

static void write_file(const char *text)
{
    (void)snprintf(path, sizeof path, "test_options.%ld.ini", (long)getpid());
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

static enum tl_err parse_file(const char *arguments, const char *environment, const char *text)
{
    char with_config[256];
    write_file(text);
    (void)snprintf(with_config, sizeof with_config, "%s --config %s", arguments, path);
    enum tl_err err = parse_in(with_config, environment);
    (void)unlink(path);
    return err;
}

Test(options, option_wins_over_variable_over_other_variable_over_file)
{
    const char *file = "address = file:1\n";
    cr_assert_eq(parse_file("", "", file), TL_OK, "%s", message);
    cr_assert_str_eq(options.address, "file:1");
    cr_assert_eq(parse_file("", "SOCKET_ADDRESS=other:1", file), TL_OK);
    cr_assert_str_eq(options.address, "other:1");
    cr_assert_eq(parse_file("", "TRILITH_ADDRESS=own:1 SOCKET_ADDRESS=other:1", file), TL_OK);
    cr_assert_str_eq(options.address, "own:1");
    cr_assert_eq(parse_file("--address option:1", "TRILITH_ADDRESS=own:1 ip_port=other:1", file),
                 TL_OK);
    cr_assert_str_eq(options.address, "option:1");
}

Test(options, file_may_have_comments_a_section_and_continued_lines)
{
    cr_assert_eq(parse_file("", "",
                            "; a comment\n# another\n[trilithd]\n\naddress = a:1\n"
                            "view = a:1,\n       b:2,\n       c:3\nlog-retain = 1MiB ; inline\n"),
                 TL_OK, "%s", message);
    cr_assert_eq(options.view_count, 3);
    cr_assert_str_eq(options.view[2].address, "c:3");
    cr_assert_eq(options.log_retain_bytes, 1u << 20);
}

Test(options, mistakes_in_the_file_are_refused_with_their_line)
{
    static const struct {
        const char *text;
        const char *named;
    } cases[] = {
        {"address = a:1\nadress = b:1\n", ":2: unknown option \"adress\""},
        {"address = a:1\n\nconfig = other\n", ":3: unknown option \"config\""},
        {"address = a:1\naddress = b:1\n", ":2: \"address\" is set twice"},
        {"[server]\naddress = a:1\n", ":2: unknown section [server]"},
        {"address = a:1\nnonsense\n", ":2: not a line"},
        {"address = a:1\nlog-retain = much\n", ":2: log-retain: \"much\""},
        {"address = nowhere\n", ":1: address"},
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        cr_expect_eq(parse_file("", "", cases[i].text), TL_ERR_INVALID, "%s", cases[i].text);
        cr_expect_neq(strstr(message, cases[i].named), NULL, "%s: %s", cases[i].text, message);
    }
    char text[4096] = "address = ";
    memset(text + strlen(text), 'a', 2000);
    cr_assert_eq(parse_file("", "", text), TL_ERR_INVALID);
}

Test(options, config_file_may_be_named_by_its_variable)
{
    char environment[128];
    write_file("address = file:1\n");
    (void)snprintf(environment, sizeof environment, "TRILITH_CONFIG=%s", path);
    cr_assert_eq(parse_in("", environment), TL_OK, "%s", message);
    (void)unlink(path);
    cr_assert_str_eq(options.address, "file:1");
}

Test(options, nothing_set_at_all_is_refused)
{
    char *argv[] = {"trilithd", NULL};
    cr_assert_eq(options_parse(1, argv, no_environment, &options, message), TL_ERR_INVALID);
    cr_assert_neq(message[0], '\0');
}
