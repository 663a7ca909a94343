/* txn.c - the txn verb. */

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char *outcome_of(const json_t *result, char *out_text, size_t text_bytes)
{
    const json_t *value = json_object_get(result, "value");
    const json_t *length = json_object_get(result, "length");
    const char *op = json_string_value(json_object_get(result, "op"));
    if (json_is_false(json_object_get(result, "exists")) ||
        json_is_false(json_object_get(result, "deleted"))) {
        return "absent";
    }
    if (json_is_true(json_object_get(result, "deleted"))) {
        return "deleted";
    }
    if (json_is_integer(value)) {
        (void)snprintf(out_text, text_bytes, "value %lld", (long long)json_integer_value(value));
    } else if (json_is_integer(length)) {
        (void)snprintf(out_text, text_bytes, "length %lld", (long long)json_integer_value(length));
    } else if (op != NULL && strcmp(op, "get") == 0) {
        (void)snprintf(out_text, text_bytes, "%zu characters", json_string_length(value));
    } else {
        return json_is_true(json_object_get(result, "replaced")) ? "replaced" : "created";
    }
    return out_text;
}

static void print_table(const json_t *root)
{
    static struct cli_table table;
    cli_table_set(&table, 0, 0, "OP");
    cli_table_set(&table, 0, 1, "REVISION");
    cli_table_set(&table, 0, 2, "OUTCOME");
    cli_table_set(&table, 0, 3, "KEY");
    size_t i;
    json_t *result;
    json_array_foreach(json_object_get(root, "results"), i, result)
    {
        char text[CLI_TABLE_CELL_BYTES_MAX];
        uint32_t row = (uint32_t)i + 1;
        cli_table_set(&table, row, 0, "%s", json_string_value(json_object_get(result, "op")));
        cli_table_set(&table, row, 1, "%lld",
                      (long long)json_integer_value(json_object_get(result, "revision")));
        cli_table_set(&table, row, 2, "%s", outcome_of(result, text, sizeof text));
        char *key = json_dumps(json_object_get(result, "key"), JSON_ENCODE_ANY);
        cli_table_set(&table, row, 3, "%s", key != NULL ? key : "");
        free(key);
    }
    cli_table_print(&table);
    bool has_succeeded = json_is_true(json_object_get(root, "succeeded"));
    (void)printf("%s Revision %lld.\n",
                 has_succeeded ? "All conditions hold." : "A condition does not hold.",
                 (long long)json_integer_value(json_object_get(root, "revision")));
}

static int print_answer(const struct cli *cli, const struct trilith_answer *answer)
{
    const char *body = answer->body != NULL ? (const char *)answer->body : "";
    if (cli->format != CLI_FORMAT_TABLE) {
        (void)printf("%s\n", body);
        return TRILITH_OK;
    }
    json_t *root = json_loadb(body, answer->body_bytes, JSON_ALLOW_NUL, NULL);
    if (root == NULL) {
        (void)fprintf(stderr, "trilith: txn: the answer is not JSON\n");
        return TRILITH_ERROR;
    }
    print_table(root);
    json_decref(root);
    return TRILITH_OK;
}

/* The argument is the transaction itself when it begins like one, else the name of its file. */
static bool read_txn(const struct cli *cli, uint8_t **out_data, size_t *out_bytes)
{
    const char *argument = cli->args_count > 0 ? cli->args[0] : "-";
    if (argument[0] == '{') {
        *out_bytes = strlen(argument);
        *out_data = (uint8_t *)strdup(argument);
        return *out_data != NULL;
    }
    if (strcmp(argument, "-") != 0 && freopen(argument, "rb", stdin) == NULL) {
        (void)fprintf(stderr, "trilith: %s: %s\n", argument, strerror(errno));
        return false;
    }
    return cli_read_input(out_data, out_bytes);
}

int cli_txn(struct cli *cli)
{
    uint8_t *json;
    size_t json_bytes;
    if (!read_txn(cli, &json, &json_bytes)) {
        return TRILITH_ERROR;
    }
    struct trilith_answer answer;
    enum trilith_status status =
        trilith_txn(cli->client, (const char *)json, json_bytes, &cli->write, &answer);
    free(json);
    bool has_result = status == TRILITH_OK || status == TRILITH_CONDITION_FAILED;
    int code = has_result ? print_answer(cli, &answer) : cli_report(&answer, status, "txn");
    trilith_answer_clear(&answer);
    return code == TRILITH_OK ? (int)status : code;
}
