/* output.c - tables, errors and standard input. */

#include <errno.h>
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
