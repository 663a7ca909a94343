/* leader.c - leader transfer: who leads the groups. */

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define PATH "/v1/cluster/leader"

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : "-";
}

static void print_transfer(const struct cli *cli, long long group, const json_t *root)
{
    const char *refused = json_string_value(json_object_get(root, "refused"));
    if (refused != NULL) {
        (void)printf("Group %lld: would be refused: %s (%s).\n", group, text(root, "reason"),
                     refused);
    } else if (!json_is_true(json_object_get(root, "changed"))) {
        (void)printf("Group %lld: %s leads already.\n", group, text(root, "leader"));
    } else {
        (void)printf("Group %lld: %s %s, before it %s.\n", group, text(root, "leader"),
                     cli->is_dry_run ? "would lead" : "leads", text(root, "from"));
    }
}

static char *make_body(const struct cli *cli, long long group)
{
    const char *address = cli->args_count > 1 ? cli->args[1] : NULL;
    json_t *root = json_pack("{s:I, s:s*}", "group", (json_int_t)group, "address", address);
    char *body = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return body;
}

static int transfer(struct cli *cli, long long group)
{
    static const struct trilith_header headers[] = {{"Content-Type", "application/json"},
                                                    {NULL, NULL}};
    char *body = make_body(cli, group);
    if (body == NULL) {
        (void)fprintf(stderr, "trilith: \"%s\" is not a HOST:PORT\n", cli->args[1]);
        return TRILITH_USAGE;
    }
    struct trilith_answer answer;
    enum trilith_status status =
        trilith_request(cli->client, "POST", cli->is_dry_run ? PATH "?dry_run=1" : PATH, body,
                        strlen(body), headers, true, &answer);
    free(body);
    int code = TRILITH_OK;
    json_t *root = NULL;
    if (status != TRILITH_OK) {
        code = cli_report(&answer, status, "leader");
    } else if (cli->format != CLI_FORMAT_TABLE) {
        (void)printf("%s\n", (const char *)answer.body);
    } else if ((root = json_loads((const char *)answer.body, 0, NULL)) != NULL) {
        print_transfer(cli, group, root);
    } else {
        (void)fprintf(stderr, "trilith: leader: the answer is not JSON\n");
        code = TRILITH_ERROR;
    }
    json_decref(root);
    trilith_answer_clear(&answer);
    return code;
}

/* One group behind the other: each is led by one of its own. */
static int transfer_all(struct cli *cli)
{
    struct trilith_answer answer;
    enum trilith_status status =
        trilith_request(cli->client, "GET", "/v1/cluster", NULL, 0, NULL, false, &answer);
    int code = TRILITH_OK;
    json_t *cluster = NULL;
    if (status != TRILITH_OK) {
        code = cli_report(&answer, status, "leader");
    } else if ((cluster = json_loads((const char *)answer.body, 0, NULL)) == NULL) {
        (void)fprintf(stderr, "trilith: leader: the answer is not JSON\n");
        code = TRILITH_ERROR;
    }
    trilith_answer_clear(&answer);
    size_t i;
    json_t *group;
    json_array_foreach(json_object_get(cluster, "groups"), i, group)
    {
        int next = transfer(cli, (long long)json_integer_value(json_object_get(group, "group")));
        if (code == TRILITH_OK) code = next;
    }
    json_decref(cluster);
    return code;
}

int cli_leader(struct cli *cli)
{
    if (strcmp(cli->args[0], "transfer") == 0) {
        return cli->group >= 0 ? transfer(cli, (long long)cli->group) : transfer_all(cli);
    }
    (void)fprintf(stderr, "trilith: leader transfer [HOST:PORT]\n");
    return TRILITH_USAGE;
}
