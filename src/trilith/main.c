/* main.c - trilith, the command line: options and the choice of a verb. */

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

#include "trilith/std_streams.h"

#define TIMEOUT_S_MAX 1000000 /* in milliseconds it fits 32 bits */

const char *argp_program_version = "trilith " PACKAGE_VERSION_TEXT;

static const char doc[] =
    "Reads and writes a Trilith cluster.\v"
    "Verbs:\n"
    "  get KEY               print a value\n"
    "  put KEY [VALUE|-]     store a value (standard input without VALUE)\n"
    "  append KEY [VALUE|-]  append bytes, or an element to a JSON array\n"
    "  incr KEY              add --by to an integer value\n"
    "  delete KEY            delete a key\n"
    "  log show              the newest entries of the log, or those --from one\n"
    "  log verify            check the chain of a node's log, or of all (--cluster)\n"
    "  inspect DIR           a stopped node's data directory: what it holds, and\n"
    "                        whether all of it is as it was written\n"
    "  scan [PREFIX]         list keys in order, with their values\n"
    "  txn [JSON|FILE|-]     carry out a transaction (standard input without one)\n"
    "  status                one row a node and group, and what may still fail\n"
    "  members [list]        who belongs to the cluster\n"
    "  members add ADDRESS   add the node that waits there (--dry-run: only ask)\n"
    "  members remove ADDRESS\n"
    "                        remove a node; its data directory is refused then\n"
    "  leader transfer [ADDRESS]\n"
    "                        hand leadership over, to the node at ADDRESS\n"
    "                        (--dry-run: only ask)\n"
    "\n"
    "Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 condition failed,\n"
    "5 unavailable, 6 outcome unknown. Endpoints also come from\n"
    "TRILITH_ENDPOINTS.";

enum {
    OPTION_TIMEOUT = 256,
    OPTION_BY,
    OPTION_IF_MATCH,
    OPTION_IF_ABSENT,
    OPTION_TYPE,
    OPTION_IDEMPOTENCY_KEY,
    OPTION_CONSISTENCY,
    OPTION_DRY_RUN,
    OPTION_GROUP,
    OPTION_FROM,
    OPTION_LIMIT,
    OPTION_CLUSTER,
    OPTION_START,
    OPTION_END,
    OPTION_REVERSE,
    OPTION_KEYS_ONLY,
    OPTION_COUNT
};

static const struct argp_option options[] = {
    {"endpoints", 'e', "HOST:PORT,...", 0, "nodes to ask (127.0.0.1:8081)", 0},
    {"output", 'o', "FORMAT", 0, "table, json or raw (table on a terminal, raw in a pipe)", 0},
    {"timeout", OPTION_TIMEOUT, "SECONDS", 0,
     "for the request and its retries (10; log verify: 120)", 0},
    {"consistency", OPTION_CONSISTENCY, "LEVEL", 0, "get, scan: linearizable, causal or local", 0},
    {"type", OPTION_TYPE, "MEDIA-TYPE", 0, "put, append: content type of the value", 0},
    {"by", OPTION_BY, "N", 0, "incr: what to add (1)", 0},
    {"if-match", OPTION_IF_MATCH, "REVISION", 0, "writes but txn: only over this revision", 0},
    {"if-absent", OPTION_IF_ABSENT, NULL, 0, "writes but txn: only when the key is absent", 0},
    {"dry-run", OPTION_DRY_RUN, NULL, 0, "members add, remove, leader: only ask", 0},
    {"idempotency-key", OPTION_IDEMPOTENCY_KEY, "KEY", 0, "writes: instead of a random one", 0},
    {"group", OPTION_GROUP, "N", 0, "log: the Raft group (1); leader: this group alone", 0},
    {"from", OPTION_FROM, "INDEX", 0, "log show: the first entry wanted", 0},
    {"cluster", OPTION_CLUSTER, NULL, 0, "log verify: every member, and whether they agree", 0},
    {"start", OPTION_START, "KEY", 0, "scan: from this key on", 0},
    {"end", OPTION_END, "KEY", 0, "scan: up to this key, without it", 0},
    {"limit", OPTION_LIMIT, "N", 0, "scan: at most N keys (all); log show: N entries (20)", 0},
    {"reverse", OPTION_REVERSE, NULL, 0, "scan: from the last key to the first", 0},
    {"keys-only", OPTION_KEYS_ONLY, NULL, 0, "scan: no values", 0},
    {"count", OPTION_COUNT, NULL, 0, "scan: only how many there are", 0},
    {0},
};

#define BIT(option) (1u << ((option)-OPTION_TIMEOUT))
#define OPTIONS_CONDITIONAL (BIT(OPTION_IF_MATCH) | BIT(OPTION_IF_ABSENT))
#define OPTIONS_WRITE (OPTIONS_CONDITIONAL | BIT(OPTION_IDEMPOTENCY_KEY))
#define OPTIONS_SCAN                                                                     \
    (BIT(OPTION_CONSISTENCY) | BIT(OPTION_START) | BIT(OPTION_END) | BIT(OPTION_LIMIT) | \
     BIT(OPTION_REVERSE) | BIT(OPTION_KEYS_ONLY) | BIT(OPTION_COUNT))
#define OPTIONS_LOG_SHOW (BIT(OPTION_GROUP) | BIT(OPTION_FROM) | BIT(OPTION_LIMIT))

struct verb {
    const char *name;
    const char *action; /* NULL: whatever the first argument is */
    int (*run)(struct cli *cli);
    int args_min;
    int args_max;
    uint32_t options; /* what it heeds, beside -e, -o and --timeout; others are refused */
};

/* Of one name the one without an action is the first. */
static const struct verb verbs[] = {
    {"get", NULL, cli_get, 1, 1, BIT(OPTION_CONSISTENCY)},
    {"put", NULL, cli_put, 1, 2, OPTIONS_WRITE | BIT(OPTION_TYPE)},
    {"append", NULL, cli_append, 1, 2, OPTIONS_WRITE | BIT(OPTION_TYPE)},
    {"incr", NULL, cli_incr, 1, 1, OPTIONS_WRITE | BIT(OPTION_BY)},
    {"delete", NULL, cli_delete, 1, 1, OPTIONS_WRITE},
    {"scan", NULL, cli_scan, 0, 1, OPTIONS_SCAN},
    {"txn", NULL, cli_txn, 0, 1, BIT(OPTION_IDEMPOTENCY_KEY)},
    {"status", NULL, cli_status, 0, 0, 0},
    {"log", NULL, cli_log, 1, 1, 0},
    {"log", "show", cli_log, 1, 1, OPTIONS_LOG_SHOW},
    {"log", "verify", cli_log, 1, 1, BIT(OPTION_GROUP) | BIT(OPTION_CLUSTER)},
    {"inspect", NULL, cli_inspect, 1, 1, 0},
    {"members", NULL, cli_members, 0, 2, 0},
    {"members", "add", cli_members, 2, 2, BIT(OPTION_DRY_RUN)},
    {"members", "remove", cli_members, 2, 2, BIT(OPTION_DRY_RUN)},
    {"leader", NULL, cli_leader, 1, 2, BIT(OPTION_DRY_RUN) | BIT(OPTION_GROUP)},
};
#define VERBS_COUNT (sizeof verbs / sizeof verbs[0])

/* argp's state is the cli and the verb, whose arguments follow it. */
struct parse {
    struct cli *cli;
    const struct verb *verb;
    uint32_t given; /* of the options of some verbs only */
};

static bool parse_integer(const char *text, int64_t *out_value)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') {
        return false;
    }
    *out_value = value;
    return true;
}

/* The index of `text` among the three. */
static int parse_one_of(struct argp_state *state, const char *option, const char *const names[3],
                        const char *text)
{
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0) return i;
    }
    argp_error(state, "--%s is %s, %s or %s, not \"%s\"", option, names[0], names[1], names[2],
               text);
    return 0;
}

static enum cli_format parse_format(struct argp_state *state, const char *text)
{
    static const char *const names[] = {"table", "json", "raw"};
    return (enum cli_format)parse_one_of(state, "output", names, text);
}

static const char *parse_consistency(struct argp_state *state, const char *text)
{
    static const char *const names[] = {"linearizable", "causal", "local"};
    return names[parse_one_of(state, "consistency", names, text)];
}

static int64_t parse_number(struct argp_state *state, const char *name, const char *text,
                            int64_t least, int64_t most)
{
    int64_t value = 0;
    if (!parse_integer(text, &value) || value < least || value > most) {
        argp_error(state, "--%s takes a whole number from %lld to %lld, not \"%s\"", name,
                   (long long)least, (long long)most, text);
    }
    return value;
}

/* action NULL: the first of the name. NULL: there is none. */
static const struct verb *find_verb(const char *name, const char *action)
{
    for (size_t i = 0; i < VERBS_COUNT; i++) {
        const struct verb *verb = &verbs[i];
        if (strcmp(name, verb->name) != 0) continue;
        if (action == NULL || (verb->action != NULL && strcmp(action, verb->action) == 0)) {
            return verb;
        }
    }
    return NULL;
}

static void parse_argument(struct argp_state *state, struct parse *parse, char *text)
{
    if (parse->verb == NULL) {
        parse->verb = find_verb(text, NULL);
        if (parse->verb == NULL) argp_error(state, "unknown verb \"%s\"", text);
        return;
    }
    if (parse->cli->args_count >= parse->verb->args_max) {
        argp_error(state, "%s: too many arguments", parse->verb->name);
        return;
    }
    if (parse->cli->args_count == 0) {
        const struct verb *verb = find_verb(parse->verb->name, text);
        if (verb != NULL) parse->verb = verb;
    }
    parse->cli->args[parse->cli->args_count++] = text;
}

/* An option that would be ignored: who gives it means another verb, or something by it. */
static void refuse_unheeded(struct argp_state *state, const struct parse *parse)
{
    const struct verb *verb = parse->verb;
    for (const struct argp_option *option = options; option->name != NULL; option++) {
        if (option->key < OPTION_TIMEOUT) continue;
        if ((parse->given & ~verb->options & BIT(option->key)) == 0) continue;
        argp_error(state, "%s%s%s does not take --%s", verb->name, verb->action != NULL ? " " : "",
                   verb->action != NULL ? verb->action : "", option->name);
    }
}

static void parse_end(struct argp_state *state, const struct parse *parse)
{
    if (parse->verb == NULL) {
        argp_error(state, "a verb is missing");
    } else if (parse->cli->args_count < parse->verb->args_min) {
        argp_error(state, "%s: an argument is missing", parse->verb->name);
    } else if (parse->cli->args_count > 0 && parse->cli->args[0][0] == '\0') {
        argp_error(state, "%s: an argument is empty", parse->verb->name);
    } else if (parse->cli->count && parse->cli->limit != 0) {
        argp_error(state, "--count and --limit exclude each other");
    } else if (parse->cli->write.if_match != 0 && parse->cli->write.if_absent) {
        argp_error(state, "--if-match and --if-absent exclude each other");
    } else {
        refuse_unheeded(state, parse);
    }
}

/* What to list, of the log or of the keys. false: it is another option. */
static bool parse_list_option(struct argp_state *state, struct cli *cli, int key, char *text)
{
    switch (key) {
    case OPTION_GROUP:
        cli->group = parse_number(state, "group", text, 0, UINT32_MAX);
        break;
    case OPTION_FROM:
        cli->from = (uint64_t)parse_number(state, "from", text, 1, INT64_MAX);
        break;
    case OPTION_CLUSTER:
        cli->whole_cluster = true;
        break;
    case OPTION_START:
        cli->scan.start = text;
        cli->scan.start_bytes = strlen(text);
        break;
    case OPTION_END:
        cli->scan.end = text;
        cli->scan.end_bytes = strlen(text);
        break;
    case OPTION_LIMIT:
        cli->limit = (uint64_t)parse_number(state, "limit", text, 1, INT64_MAX);
        break;
    case OPTION_REVERSE:
        cli->scan.reverse = true;
        break;
    case OPTION_KEYS_ONLY:
        cli->scan.keys_only = true;
        break;
    case OPTION_COUNT:
        cli->count = true;
        break;
    default:
        return false;
    }
    return true;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct parse *parse = state->input;
    struct cli *cli = parse->cli;
    if (key > OPTION_TIMEOUT && key <= OPTION_COUNT) parse->given |= BIT(key);
    switch (key) {
    case 'e':
        cli->endpoints = text;
        break;
    case 'o':
        cli->format = parse_format(state, text);
        break;
    case OPTION_TIMEOUT:
        cli->timeout_ms = (uint32_t)parse_number(state, "timeout", text, 1, TIMEOUT_S_MAX) * 1000u;
        cli->has_timeout = true;
        break;
    case OPTION_CONSISTENCY:
        cli->consistency = parse_consistency(state, text);
        break;
    case OPTION_TYPE:
        cli->write.content_type = text;
        break;
    case OPTION_BY:
        cli->by = parse_number(state, "by", text, INT64_MIN, INT64_MAX);
        break;
    case OPTION_IF_MATCH:
        cli->write.if_match = (uint64_t)parse_number(state, "if-match", text, 1, INT64_MAX);
        break;
    case OPTION_IF_ABSENT:
        cli->write.if_absent = true;
        break;
    case OPTION_DRY_RUN:
        cli->is_dry_run = true;
        break;
    case OPTION_IDEMPOTENCY_KEY:
        cli->write.idempotency_key = text;
        break;
    case ARGP_KEY_ARG:
        parse_argument(state, parse, text);
        break;
    case ARGP_KEY_END:
        parse_end(state, parse);
        break;
    default:
        return parse_list_option(state, cli, key, text) ? 0 : ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (std_streams_hold() != TL_OK) return TRILITH_ERROR;
    const char *endpoints = getenv("TRILITH_ENDPOINTS");
    struct cli cli = {
        .endpoints = endpoints != NULL ? endpoints : "127.0.0.1:8081",
        .format = isatty(STDOUT_FILENO) != 0 ? CLI_FORMAT_TABLE : CLI_FORMAT_RAW,
        .timeout_ms = 10000,
        .by = 1,
        .group = -1,
    };
    struct parse parse = {.cli = &cli};
    const struct argp argp = {options, parse_option, "VERB [ARGUMENT...]", doc, NULL, NULL, NULL};
    argp_err_exit_status = TRILITH_USAGE;
    (void)argp_parse(&argp, argc, argv, 0, NULL, &parse); /* exits with 2 on any error */

    bool is_offline = parse.verb->run == cli_inspect;
    if (!is_offline) cli.client = trilith_client_create(cli.endpoints, cli.timeout_ms);
    if (!is_offline && cli.client == NULL) {
        (void)fprintf(stderr, "trilith: endpoints are HOST:PORT,HOST:PORT,..., not \"%s\"\n",
                      cli.endpoints);
        return TRILITH_USAGE;
    }
    int code = parse.verb->run(&cli);
    trilith_client_destroy(cli.client);
    if (fflush(stdout) != 0) {
        (void)fprintf(stderr, "trilith: standard output: %s\n", strerror(errno));
        return TRILITH_ERROR;
    }
    return code;
}
