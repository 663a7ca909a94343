/* log_show.c - log show: entries of the replicated log as blocks, page by page. */

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define ENTRIES_DEFAULT 20u
#define PAGE_ENTRIES 200u      /* what a table holds */
#define PAGE_ENTRIES_MAX 1000u /* what the server takes */
#define KEY_SHOWN_BYTES 40u
#define HASH_SHOWN 16 /* digits, in tables */
#define PATH_BYTES 128u

static void add_block(struct cli_table *table, const json_t *block)
{
    uint32_t row = table->rows_count;
    const json_t *operation = json_object_get(block, "operation");
    cli_table_set(table, row, 0, "%llu", cli_json_number(block, "index"));
    cli_table_set(table, row, 1, "%llu", cli_json_number(block, "term"));
    cli_table_set(table, row, 2, "%s", cli_json_text(block, "type"));
    cli_table_set(table, row, 3, "%s", cli_json_text(block, "time"));
    cli_table_set(table, row, 4, "%s", cli_json_text(operation, "op"));
    const json_t *key = json_object_get(operation, "key");
    size_t key_bytes = json_string_length(key); /* of none: 0 */
    if (key_bytes > 0) {
        cli_table_set_bytes(table, row, 5, json_string_value(key),
                            key_bytes < KEY_SHOWN_BYTES ? key_bytes : KEY_SHOWN_BYTES);
    } else {
        cli_table_set(table, row, 5, "-");
    }
    cli_table_set(table, row, 6, "%.*s", HASH_SHOWN, cli_json_text(block, "hash"));
    cli_table_set(table, row, 7, "%.*s", HASH_SHOWN, cli_json_text(block, "previous_hash"));
    cli_table_set(table, row, 8, "%s", cli_json_text(block, "status"));
}

/* A table for each page, so that no number of entries is too large. */
static void print_page(const json_t *page)
{
    static const char *const heads[] = {"INDEX", "TERM", "TYPE",     "TIME",  "OP",
                                        "KEY",   "HASH", "PREVIOUS", "STATUS"};
    static struct cli_table table;
    cli_table_begin(&table, heads, sizeof heads / sizeof heads[0]);
    size_t i;
    json_t *block;
    json_array_foreach(json_object_get(page, "blocks"), i, block)
    {
        add_block(&table, block);
    }
    cli_table_print(&table);
}

static uint64_t entries_wanted(const struct cli *cli)
{
    return cli->limit != 0 ? cli->limit : ENTRIES_DEFAULT;
}

/* GET /v1/log, the newest entries when `from` is 0. NULL: *out_code is the exit code of what has
 * been reported. */
static json_t *get_page(struct cli *cli, uint64_t from, uint64_t limit, int *out_code)
{
    char path[PATH_BYTES];
    int count =
        snprintf(path, sizeof path, "/v1/log?group=%" PRId64 "&limit=%" PRIu64, cli->group, limit);
    if (from != 0) {
        (void)snprintf(path + count, sizeof path - (size_t)count, "&from=%" PRIu64, from);
    }
    struct trilith_answer answer;
    enum trilith_status status;
    json_t *page = cli_get_json(cli->client, path, &answer, &status);
    if (page == NULL) *out_code = cli_report(&answer, status, "log show");
    trilith_answer_clear(&answer);
    return page;
}

/* The pages are one document: the head is that of the first, `next` that of the last. */
static void print_json_page(const json_t *page, bool is_first)
{
    if (is_first) {
        (void)printf("{\"group\":%llu,\"first\":%llu,\"last\":%llu,\"commit\":%llu,\"blocks\":[",
                     cli_json_number(page, "group"), cli_json_number(page, "first"),
                     cli_json_number(page, "last"), cli_json_number(page, "commit"));
    }
    size_t i;
    json_t *block;
    json_array_foreach(json_object_get(page, "blocks"), i, block)
    {
        char *text = json_dumps(block, JSON_COMPACT);
        if (text != NULL) (void)printf("%s\n%s", is_first && i == 0 ? "" : ",", text);
        free(text);
    }
}

static void print_json_end(uint64_t next)
{
    if (next != 0) {
        (void)printf("],\"next\":%" PRIu64 "}\n", next);
    } else {
        (void)printf("],\"next\":null}\n");
    }
}

/* The server cuts a page that gets large: what counts is what came. */
static int show_pages(struct cli *cli, uint64_t from)
{
    bool is_table = cli->format == CLI_FORMAT_TABLE;
    uint64_t most = is_table ? PAGE_ENTRIES : PAGE_ENTRIES_MAX;
    uint64_t left = entries_wanted(cli);
    bool is_first = true;
    while (is_first || (left > 0 && from != 0)) {
        int code = TRILITH_OK;
        json_t *page = get_page(cli, from, left < most ? left : most, &code);
        if (page == NULL) return code;
        if (is_table) {
            print_page(page);
        } else {
            print_json_page(page, is_first);
        }
        is_first = false;
        size_t blocks_count = json_array_size(json_object_get(page, "blocks"));
        left -= blocks_count < left ? blocks_count : left;
        from = blocks_count > 0 ? cli_json_number(page, "next") : 0;
        json_decref(page);
    }
    if (!is_table) print_json_end(from);
    return TRILITH_OK;
}

/* Where the newest `limit` entries begin. */
static int find_newest(struct cli *cli, uint64_t *out_from)
{
    int code = TRILITH_OK;
    json_t *page = get_page(cli, 0, 1, &code);
    uint64_t first = cli_json_number(page, "first");
    uint64_t last = cli_json_number(page, "last");
    json_decref(page);
    uint64_t wanted = entries_wanted(cli);
    uint64_t from = last >= wanted ? last - wanted + 1 : 1;
    *out_from = from > first ? from : first;
    return code;
}

int cli_log_show(struct cli *cli)
{
    uint64_t from = cli->from;
    int code = from == 0 ? find_newest(cli, &from) : TRILITH_OK;
    return code == TRILITH_OK ? show_pages(cli, from) : code;
}
