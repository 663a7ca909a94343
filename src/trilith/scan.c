/* scan.c - the scan verb: pages one behind the other, until the range or the limit ends. */

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define PAGE_ROWS_MAX 1000u
#define PAGE_TABLE_ROWS_MAX (CLI_TABLE_ROWS_MAX - 1) /* below the head */

/* Bytes that were told as text or in base64. */
struct decoded {
    uint8_t *data; /* malloced */
    size_t count;
    bool is_text;
};

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

static size_t base64_decode(const char *text, uint8_t *out_data)
{
    size_t count = 0;
    uint32_t bits = 0;
    uint32_t bits_count = 0;
    for (; base64_digit(*text) >= 0; text++) {
        bits = bits << 6 | (uint32_t)base64_digit(*text);
        bits_count += 6;
        if (bits_count >= 8) {
            bits_count -= 8;
            out_data[count++] = (uint8_t)(bits >> bits_count);
        }
    }
    return count;
}

/* The member `name`, by the encoding that another member names; data NULL: it is not there. */
static struct decoded decode(const json_t *object, const char *name, const char *encoding_name)
{
    const json_t *member = json_object_get(object, name);
    const char *encoding = json_string_value(json_object_get(object, encoding_name));
    size_t count = json_string_length(member);
    struct decoded decoded = {.is_text = encoding == NULL || strcmp(encoding, "base64") != 0};
    if (!json_is_string(member)) {
        return decoded;
    }
    decoded.data = malloc(count + 1);
    if (decoded.data == NULL) {
        return decoded;
    }
    memcpy(decoded.data, json_string_value(member), count + 1);
    decoded.count =
        decoded.is_text ? count : base64_decode(json_string_value(member), decoded.data);
    return decoded;
}

static void set_cell(struct cli_table *table, uint32_t row, uint32_t column,
                     const struct decoded *decoded)
{
    if (decoded->is_text) {
        cli_table_set_bytes(table, row, column, decoded->data, decoded->count);
    } else {
        cli_table_set(table, row, column, "(%zu bytes)", decoded->count);
    }
}

static void print_table(const json_t *items, bool keys_only)
{
    static struct cli_table table;
    memset(&table, 0, sizeof table);
    cli_table_set(&table, 0, 0, "KEY");
    cli_table_set(&table, 0, 1, "REVISION");
    cli_table_set(&table, 0, 2, "VERSION");
    if (!keys_only) cli_table_set(&table, 0, 3, "VALUE");
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item)
    {
        uint32_t row = (uint32_t)i + 1;
        struct decoded key = decode(item, "key", "key_encoding");
        struct decoded value = decode(item, "value", "encoding");
        set_cell(&table, row, 0, &key);
        cli_table_set(&table, row, 1, "%lld",
                      (long long)json_integer_value(json_object_get(item, "revision")));
        cli_table_set(&table, row, 2, "%lld",
                      (long long)json_integer_value(json_object_get(item, "version")));
        if (!keys_only) set_cell(&table, row, 3, &value);
        free(key.data);
        free(value.data);
    }
    cli_table_print(&table);
}

/* A line a key: its bytes, and behind a tab those of the value. */
static void print_raw(const json_t *items)
{
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item)
    {
        struct decoded key = decode(item, "key", "key_encoding");
        struct decoded value = decode(item, "value", "encoding");
        (void)fwrite(key.data, 1, key.count, stdout); /* main checks stdout at the end */
        if (value.data != NULL) {
            (void)putchar('\t');
            (void)fwrite(value.data, 1, value.count, stdout);
        }
        (void)putchar('\n');
        free(key.data);
        free(value.data);
    }
}

/* A line an item. */
static void print_json(const json_t *items)
{
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item)
    {
        char *text = json_dumps(item, JSON_COMPACT);
        if (text != NULL) (void)printf("%s\n", text);
        free(text);
    }
}

static void print_items(const struct cli *cli, const json_t *items)
{
    switch (cli->format) {
    case CLI_FORMAT_TABLE:
        print_table(items, cli->scan.keys_only);
        break;
    case CLI_FORMAT_JSON:
        print_json(items);
        break;
    case CLI_FORMAT_RAW:
        print_raw(items);
        break;
    }
}

/* One page as JSON; NULL: it has been reported, *out_code is the exit code. */
static json_t *get_page(struct cli *cli, const struct trilith_scan_options *options, int *out_code)
{
    struct trilith_answer answer;
    enum trilith_status status = trilith_scan(cli->client, options, &answer);
    json_t *page = NULL;
    if (status == TRILITH_OK && answer.body != NULL) {
        page = json_loadb((const char *)answer.body, answer.body_bytes, JSON_ALLOW_NUL, NULL);
    }
    *out_code = TRILITH_ERROR;
    if (status != TRILITH_OK) {
        *out_code = cli_report(&answer, status, "scan");
    } else if (page == NULL) {
        (void)fprintf(stderr, "trilith: scan: the answer is not JSON\n");
    }
    trilith_answer_clear(&answer);
    return page;
}

static uint32_t page_limit(const struct cli *cli, uint64_t rows_count)
{
    uint32_t most = cli->format == CLI_FORMAT_TABLE ? PAGE_TABLE_ROWS_MAX : PAGE_ROWS_MAX;
    uint64_t left = cli->limit == 0 ? most : cli->limit - rows_count;
    return left < most ? (uint32_t)left : most;
}

int cli_scan(struct cli *cli)
{
    struct trilith_scan_options options = cli->scan;
    options.consistency = cli->consistency;
    options.count_only = cli->count;
    if (cli->args_count > 0) {
        options.prefix = cli->args[0];
        options.prefix_bytes = strlen(cli->args[0]);
    }
    struct decoded next = {.data = NULL};
    uint64_t rows_count = 0;
    do {
        int code;
        if (!cli->count) options.limit = page_limit(cli, rows_count);
        options.after = next.data;
        options.after_bytes = next.count;
        json_t *page = get_page(cli, &options, &code);
        free(next.data);
        if (page == NULL) {
            return code;
        }
        const json_t *items = json_object_get(page, "items");
        bool is_empty = json_array_size(items) == 0;
        if (!cli->count && (!is_empty || cli->format == CLI_FORMAT_TABLE)) print_items(cli, items);
        rows_count += (uint64_t)json_integer_value(json_object_get(page, "count"));
        next = decode(page, "next", "next_encoding");
        json_decref(page);
    } while (next.data != NULL && (cli->limit == 0 || rows_count < cli->limit));
    free(next.data);
    if (cli->count) {
        (void)printf(cli->format == CLI_FORMAT_JSON ? "{\"count\":%llu}\n" : "%llu\n",
                     (unsigned long long)rows_count);
    }
    return TRILITH_OK;
}
