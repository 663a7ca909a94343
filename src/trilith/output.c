/* output.c - tables, errors, JSON answers and standard input. */

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define INPUT_BYTES_MAX (4u * 1024u * 1024u)

int cli_report(const struct trilith_answer *answer, enum trilith_status status, const char *what)
{
    (void)fprintf(stderr, "trilith: %s: %s", what, answer->message);
    if (answer->code[0] != '\0') {
        (void)fprintf(stderr, " (%s, HTTP %d)", answer->code, answer->http_status);
    }
    if (status == TRILITH_UNKNOWN) {
        (void)fprintf(stderr, "; it may or may not have been executed");
    }
    (void)fprintf(stderr, "\n");
    return (int)status;
}

void cli_table_set(struct cli_table *table, uint32_t row, uint32_t column, const char *format, ...)
{
    if (row >= CLI_TABLE_ROWS_MAX || column >= CLI_TABLE_COLUMNS_MAX) {
        return;
    }
    if (row >= table->rows_count) table->rows_count = row + 1;
    if (column >= table->columns_count) table->columns_count = column + 1;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(table->cells[row][column], CLI_TABLE_CELL_BYTES_MAX, format, args);
    va_end(args);
}

void cli_table_set_bytes(struct cli_table *table, uint32_t row, uint32_t column, const void *bytes,
                         size_t count)
{
    char cell[CLI_TABLE_CELL_BYTES_MAX];
    if (count > sizeof cell - 1) count = sizeof cell - 1;
    for (size_t i = 0; i < count; i++) {
        uint8_t c = ((const uint8_t *)bytes)[i];
        cell[i] = c < 0x20 || c == 0x7f ? '.' : (char)c;
    }
    cell[count] = '\0';
    cli_table_set(table, row, column, "%s", cell);
}

void cli_table_begin(struct cli_table *table, const char *const *heads, uint32_t heads_count)
{
    *table = (struct cli_table){.rows_count = 0};
    for (uint32_t i = 0; i < heads_count; i++) cli_table_set(table, 0, i, "%s", heads[i]);
}

void cli_table_print(const struct cli_table *table)
{
    size_t widths[CLI_TABLE_COLUMNS_MAX] = {0};
    for (uint32_t row = 0; row < table->rows_count; row++) {
        for (uint32_t column = 0; column < table->columns_count; column++) {
            size_t width = strlen(table->cells[row][column]);
            if (width > widths[column]) widths[column] = width;
        }
    }
    for (uint32_t row = 0; row < table->rows_count; row++) {
        for (uint32_t column = 0; column < table->columns_count; column++) {
            bool is_last = column + 1 == table->columns_count;
            (void)printf("%-*s%s", is_last ? 0 : (int)widths[column], table->cells[row][column],
                         is_last ? "\n" : "  ");
        }
    }
}

json_t *cli_get_json(struct trilith_client *client, const char *path, struct trilith_answer *answer,
                     enum trilith_status *out_status)
{
    *out_status = trilith_request(client, "GET", path, NULL, 0, NULL, false, answer);
    if (*out_status != TRILITH_OK) {
        return NULL;
    }
    json_t *root = json_loadb((const char *)answer->body, answer->body_bytes, JSON_ALLOW_NUL, NULL);
    if (root == NULL) {
        *out_status = TRILITH_ERROR;
        (void)snprintf(answer->message, sizeof answer->message, "the answer is not JSON");
    }
    return root;
}

unsigned long long cli_json_number(const json_t *object, const char *name)
{
    return (unsigned long long)json_integer_value(json_object_get(object, name));
}

long long cli_json_integer(const json_t *object, const char *name)
{
    return (long long)json_integer_value(json_object_get(object, name));
}

void cli_print_json(const json_t *root)
{
    char *dump = json_dumps(root, JSON_INDENT(2));
    if (dump != NULL) (void)printf("%s\n", dump);
    free(dump);
}

void cli_json_put(json_t *object, const char *name, json_t *value)
{
    (void)json_object_set_new(object, name, value);
}

const char *cli_json_text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : "-";
}

bool cli_read_input(uint8_t **out_data, size_t *out_bytes)
{
    uint8_t *data = malloc(INPUT_BYTES_MAX + 1);
    if (data == NULL) {
        (void)fprintf(stderr, "trilith: out of memory\n");
        return false;
    }
    size_t count = fread(data, 1, INPUT_BYTES_MAX + 1, stdin);
    if (ferror(stdin) != 0 || count > INPUT_BYTES_MAX) {
        (void)fprintf(stderr, "trilith: standard input: %s\n",
                      ferror(stdin) != 0 ? strerror(errno) : "too large for a value");
        free(data);
        return false;
    }
    *out_data = data;
    *out_bytes = count;
    return true;
}
