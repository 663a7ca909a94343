/* members.c - members list, add, remove: who belongs to the cluster. */

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define PATH "/v1/cluster/members"
#define PATH_BYTES_MAX 512u

/* ---- list ---- */

static void print_members(const json_t *cluster)
{
    static const char *const heads[] = {"ADDRESS", "ROLE", "LIVE", "STORE"};
    static struct cli_table table;
    cli_table_begin(&table, heads, sizeof heads / sizeof heads[0]);
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(cluster, "members"), i, member)
    {
        uint32_t row = table.rows_count;
        bool is_live = json_is_true(json_object_get(member, "live"));
        cli_table_set(&table, row, 0, "%s", cli_json_text(member, "address"));
        cli_table_set(&table, row, 1, "%s", cli_json_text(member, "role"));
        cli_table_set(&table, row, 2, "%s", is_live ? "yes" : "no");
        cli_table_set(&table, row, 3, "%s", cli_json_text(member, "store_id"));
    }
    cli_table_print(&table);
}

static int list(struct cli *cli)
{
    struct trilith_answer answer;
    enum trilith_status status =
        trilith_request(cli->client, "GET", "/v1/cluster", NULL, 0, NULL, false, &answer);
    int code = TRILITH_OK;
    json_t *cluster = NULL;
    if (status != TRILITH_OK) {
        code = cli_report(&answer, status, "members");
    } else if (cli->format != CLI_FORMAT_TABLE) {
        (void)printf("%s\n", (const char *)answer.body);
    } else if ((cluster = json_loads((const char *)answer.body, 0, NULL)) != NULL) {
        print_members(cluster);
    } else {
        (void)fprintf(stderr, "trilith: members: the answer is not JSON\n");
        code = TRILITH_ERROR;
    }
    json_decref(cluster);
    trilith_answer_clear(&answer);
    return code;
}

/* ---- add, remove ---- */

static void print_change(const struct cli *cli, const json_t *root, const char *verb)
{
    const char *refused = json_string_value(json_object_get(root, "refused"));
    if (refused != NULL) {
        (void)printf("Would be refused: %s (%s).\n", cli_json_text(root, "reason"), refused);
    } else if (!json_is_true(json_object_get(root, "changed"))) {
        (void)printf("Nothing to do.\n");
    } else {
        (void)printf("%s %s %s, epoch %lld.\n", cli_json_text(root, "address"),
                     cli->is_dry_run ? "would be" : "is being", verb,
                     cli_json_integer(root, "epoch"));
    }
    (void)printf("Can lose %lld now, %lld afterwards; about %lld bytes to move.\n",
                 cli_json_integer(root, "can_lose_before"),
                 cli_json_integer(root, "can_lose_after"), cli_json_integer(root, "bytes_to_move"));
}

static int finish(const struct cli *cli, enum trilith_status status, struct trilith_answer *answer,
                  const char *verb)
{
    int code = TRILITH_OK;
    json_t *root = NULL;
    if (status != TRILITH_OK) {
        code = cli_report(answer, status, cli->args[1]);
    } else if (cli->format != CLI_FORMAT_TABLE) {
        (void)printf("%s\n", (const char *)answer->body);
    } else if ((root = json_loads((const char *)answer->body, 0, NULL)) != NULL) {
        print_change(cli, root, verb);
    } else {
        (void)fprintf(stderr, "trilith: %s: the answer is not JSON\n", cli->args[1]);
        code = TRILITH_ERROR;
    }
    json_decref(root);
    trilith_answer_clear(answer);
    return code;
}

/* A member's address needs no escapes: the server takes no others. */
static bool make_path(const struct cli *cli, const char *address, char out_path[PATH_BYTES_MAX])
{
    int length = snprintf(out_path, PATH_BYTES_MAX, PATH "%s%s%s", address[0] != '\0' ? "/" : "",
                          address, cli->is_dry_run ? "?dry_run=1" : "");
    return length > 0 && (size_t)length < PATH_BYTES_MAX && strpbrk(address, "?#% ") == NULL;
}

static int wrong_address(const char *address)
{
    (void)fprintf(stderr, "trilith: \"%s\" is not a HOST:PORT\n", address);
    return TRILITH_USAGE;
}

static int add(struct cli *cli)
{
    static const struct trilith_header headers[] = {{"Content-Type", "application/json"},
                                                    {NULL, NULL}};
    char path[PATH_BYTES_MAX];
    json_t *root = json_pack("{s:s}", "address", cli->args[1]);
    char *body = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (body == NULL || !make_path(cli, "", path)) {
        free(body);
        return wrong_address(cli->args[1]);
    }
    struct trilith_answer answer;
    enum trilith_status status =
        trilith_request(cli->client, "POST", path, body, strlen(body), headers, true, &answer);
    free(body);
    return finish(cli, status, &answer, "added");
}

static int remove_member(struct cli *cli)
{
    char path[PATH_BYTES_MAX];
    if (!make_path(cli, cli->args[1], path)) {
        return wrong_address(cli->args[1]);
    }
    struct trilith_answer answer;
    enum trilith_status status =
        trilith_request(cli->client, "DELETE", path, NULL, 0, NULL, true, &answer);
    return finish(cli, status, &answer, "removed");
}

int cli_members(struct cli *cli)
{
    const char *verb = cli->args_count > 0 ? cli->args[0] : "list";
    if (strcmp(verb, "list") == 0 && cli->args_count <= 1) {
        return list(cli);
    }
    if (strcmp(verb, "add") == 0 && cli->args_count == 2) {
        return add(cli);
    }
    if (strcmp(verb, "remove") == 0 && cli->args_count == 2) {
        return remove_member(cli);
    }
    (void)fprintf(stderr, "trilith: members [list] | members add HOST:PORT | members remove "
                          "HOST:PORT\n");
    return TRILITH_USAGE;
}
