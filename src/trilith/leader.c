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

static char *make_body(const char *address, long long group)
{
    json_t *root = json_pack("{s:I, s:s*}", "group", (json_int_t)group, "address", address);
    char *body = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return body;
}

/* NULL: *out_code is the exit code of what has been reported. */
static json_t *ask(struct cli *cli, long long group, const char *address, bool is_dry_run,
                   int *out_code)
{
    static const struct trilith_header headers[] = {{"Content-Type", "application/json"},
                                                    {NULL, NULL}};
    char *body = make_body(address, group);
    if (body == NULL) {
        (void)fprintf(stderr, "trilith: \"%s\" is not a HOST:PORT\n", address);
        *out_code = TRILITH_USAGE;
        return NULL;
    }
    struct trilith_answer answer;
    enum trilith_status status =
        trilith_request(cli->client, "POST", is_dry_run ? PATH "?dry_run=1" : PATH, body,
                        strlen(body), headers, !is_dry_run, &answer);
    free(body);
    json_t *root = NULL;
    *out_code = TRILITH_OK;
    if (status != TRILITH_OK) {
        *out_code = cli_report(&answer, status, "leader");
    } else if ((root = json_loads((const char *)answer.body, 0, NULL)) == NULL) {
        (void)fprintf(stderr, "trilith: leader: the answer is not JSON\n");
        *out_code = TRILITH_ERROR;
    }
    trilith_answer_clear(&answer);
    return root;
}

/* The best successor there is, as JSON with a `leader`. A request that names nobody would, when its
 * answer is lost and it is repeated, move leadership once more; one that names the node that leads
 * by now does nothing. */
static json_t *find_successor(struct cli *cli, long long group, int *out_code)
{
    json_t *root = ask(cli, group, NULL, true, out_code);
    const char *refused = json_string_value(json_object_get(root, "refused"));
    if (refused != NULL) {
        (void)fprintf(stderr, "trilith: leader: %s (%s)\n", text(root, "reason"), refused);
    } else if (root != NULL && !json_is_string(json_object_get(root, "leader"))) {
        (void)fprintf(stderr, "trilith: leader: the answer names no successor\n");
    } else {
        return root;
    }
    *out_code = TRILITH_ERROR;
    json_decref(root);
    return NULL;
}

static int transfer(struct cli *cli, long long group)
{
    const char *address = cli->args_count > 1 ? cli->args[1] : NULL;
    int code = TRILITH_OK;
    json_t *successor = NULL;
    if (address == NULL && !cli->is_dry_run) {
        successor = find_successor(cli, group, &code);
        if (successor == NULL) return code;
        address = text(successor, "leader");
    }
    json_t *root = ask(cli, group, address, cli->is_dry_run, &code);
    if (root != NULL && cli->format == CLI_FORMAT_TABLE) {
        print_transfer(cli, group, root);
    } else if (root != NULL) {
        cli_print_json(root);
    }
    json_decref(successor);
    json_decref(root);
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
