/* verbs.c - get, put, append, incr, delete. */

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static void print_raw(const void *data, size_t bytes)
{
    (void)fwrite(data, 1, bytes, stdout); /* main checks stdout once at the end */
}

static bool is_text(const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] == 0) {
            return false;
        }
    }
    json_t *text = json_stringn((const char *)data, bytes); /* NULL unless valid UTF-8 */
    json_decref(text);
    return text != NULL;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static json_t *base64_string(const uint8_t *data, size_t bytes)
{
    char *text = malloc((bytes + 2) / 3 * 4 + 1);
    if (text == NULL) {
        return NULL;
    }
    size_t at = 0;
    for (size_t i = 0; i < bytes; i += 3) {
        size_t left = bytes - i;
        uint32_t group = (uint32_t)data[i] << 16;
        group |= left > 1 ? (uint32_t)data[i + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)data[i + 2] : 0;
        text[at++] = base64_digits[group >> 18];
        text[at++] = base64_digits[(group >> 12) & 63];
        text[at++] = left > 1 ? base64_digits[(group >> 6) & 63] : '=';
        text[at++] = left > 2 ? base64_digits[group & 63] : '=';
    }
    json_t *string = json_stringn(text, at);
    free(text);
    return string;
}

/* A JSON string of the bytes, or of their base64. */
static json_t *text_or_base64(const uint8_t *data, size_t bytes, bool is_plain)
{
    return is_plain ? json_stringn((const char *)data, bytes) : base64_string(data, bytes);
}

static int print_json(json_t *taken)
{
    char *text = taken != NULL ? json_dumps(taken, JSON_COMPACT) : NULL;
    json_decref(taken);
    if (text == NULL) {
        (void)fprintf(stderr, "trilith: the answer cannot be shown as JSON\n");
        return TRILITH_ERROR;
    }
    (void)printf("%s\n", text);
    free(text);
    return TRILITH_OK;
}

static int print_value(const struct cli *cli, const char *key, const struct trilith_answer *answer)
{
    const uint8_t *body = answer->body != NULL ? answer->body : (const uint8_t *)"";
    bool is_plain = is_text(body, answer->body_bytes);
    if (cli->format == CLI_FORMAT_RAW) {
        print_raw(body, answer->body_bytes);
        return TRILITH_OK;
    }
    if (cli->format == CLI_FORMAT_JSON) {
        bool is_key_plain = is_text((const uint8_t *)key, strlen(key));
        return print_json(json_pack("{s:o, s:s*, s:o, s:s, s:I, s:s}", "key",
                                    text_or_base64((const uint8_t *)key, strlen(key), is_key_plain),
                                    "key_encoding", is_key_plain ? NULL : "base64", "value",
                                    text_or_base64(body, answer->body_bytes, is_plain), "encoding",
                                    is_plain ? "utf-8" : "base64", "revision",
                                    (json_int_t)answer->revision, "content_type",
                                    answer->content_type));
    }
    static struct cli_table table;
    cli_table_set(&table, 0, 0, "KEY");
    cli_table_set(&table, 0, 1, "REVISION");
    cli_table_set(&table, 0, 2, "TYPE");
    cli_table_set(&table, 0, 3, "VALUE");
    cli_table_set(&table, 1, 0, "%s", key);
    cli_table_set(&table, 1, 1, "%llu", (unsigned long long)answer->revision);
    cli_table_set(&table, 1, 2, "%s", answer->content_type);
    cli_table_set(&table, 1, 3, "%s", "");
    if (!is_plain) {
        cli_table_set(&table, 1, 3, "(%zu bytes)", answer->body_bytes);
    }
    cli_table_print(&table);
    if (is_plain) {
        /* Behind the last column's head, which a long value would not fit: a line of its own. */
        print_raw(body, answer->body_bytes);
        (void)printf("\n");
    }
    return TRILITH_OK;
}

int cli_get(struct cli *cli)
{
    struct trilith_answer answer;
    const char *key = cli->args[0];
    enum trilith_status status =
        trilith_get(cli->client, key, strlen(key), cli->consistency, &answer);
    int code =
        status == TRILITH_OK ? print_value(cli, key, &answer) : cli_report(&answer, status, key);
    trilith_answer_clear(&answer);
    return code;
}

/* The server's JSON as it is, its revision alone, or a sentence. */
static int print_write(const struct cli *cli, const char *key, const struct trilith_answer *answer,
                       const char *number_name)
{
    const char *body = answer->body != NULL ? (const char *)answer->body : "";
    if (cli->format == CLI_FORMAT_JSON) {
        (void)printf("%s\n", body);
        return TRILITH_OK;
    }
    json_t *root = json_loads(body, 0, NULL);
    if (root == NULL) {
        (void)fprintf(stderr, "trilith: %s: the answer is not JSON\n", key);
        return TRILITH_ERROR;
    }
    if (cli->format == CLI_FORMAT_RAW) {
        const char *name = number_name != NULL ? number_name : "revision";
        (void)printf("%lld\n", cli_json_integer(root, name));
    } else {
        static struct cli_table table;
        cli_table_set(&table, 0, 0, "KEY");
        cli_table_set(&table, 0, 1, "REVISION");
        cli_table_set(&table, 0, 2, "OUTCOME");
        cli_table_set(&table, 1, 0, "%s", key);
        cli_table_set(&table, 1, 1, "%lld", cli_json_integer(root, "revision"));
        if (number_name != NULL) {
            cli_table_set(&table, 1, 2, "%s %lld", number_name,
                          cli_json_integer(root, number_name));
        } else {
            bool is_deletion = json_is_true(json_object_get(root, "deleted"));
            const char *outcome = answer->http_status == 201 ? "created" : "replaced";
            cli_table_set(&table, 1, 2, "%s", is_deletion ? "deleted" : outcome);
        }
        cli_table_print(&table);
    }
    json_decref(root);
    return TRILITH_OK;
}

static int finish_write(const struct cli *cli, enum trilith_status status,
                        struct trilith_answer *answer, const char *number_name)
{
    const char *key = cli->args[0];
    int code = status == TRILITH_OK ? print_write(cli, key, answer, number_name)
                                    : cli_report(answer, status, key);
    trilith_answer_clear(answer);
    return code;
}

/* The value is the second argument, or standard input when it is "-" or missing. */
static bool read_value(const struct cli *cli, uint8_t **out_data, size_t *out_bytes)
{
    if (cli->args_count < 2 || strcmp(cli->args[1], "-") == 0) {
        return cli_read_input(out_data, out_bytes);
    }
    *out_bytes = strlen(cli->args[1]);
    *out_data = (uint8_t *)strdup(cli->args[1]);
    return *out_data != NULL;
}

int cli_put(struct cli *cli)
{
    uint8_t *value;
    size_t value_bytes;
    if (!read_value(cli, &value, &value_bytes)) {
        return TRILITH_ERROR;
    }
    struct trilith_answer answer;
    enum trilith_status status = trilith_put(cli->client, cli->args[0], strlen(cli->args[0]), value,
                                             value_bytes, &cli->write, &answer);
    free(value);
    return finish_write(cli, status, &answer, NULL);
}

int cli_append(struct cli *cli)
{
    uint8_t *value;
    size_t value_bytes;
    if (!read_value(cli, &value, &value_bytes)) {
        return TRILITH_ERROR;
    }
    struct trilith_answer answer;
    enum trilith_status status = trilith_append(cli->client, cli->args[0], strlen(cli->args[0]),
                                                value, value_bytes, &cli->write, &answer);
    free(value);
    return finish_write(cli, status, &answer, "length");
}

int cli_incr(struct cli *cli)
{
    struct trilith_answer answer;
    enum trilith_status status = trilith_incr(cli->client, cli->args[0], strlen(cli->args[0]),
                                              cli->by, &cli->write, &answer);
    return finish_write(cli, status, &answer, "value");
}

int cli_delete(struct cli *cli)
{
    struct trilith_answer answer;
    enum trilith_status status =
        trilith_delete(cli->client, cli->args[0], strlen(cli->args[0]), &cli->write, &answer);
    return finish_write(cli, status, &answer, NULL);
}
