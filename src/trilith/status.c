/* status.c - the state of the cluster, one row a node and group. */

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define NODE_TIMEOUT_MS 1000u

#define NOTES_BYTES 4096u

/* Sentences below the table. */
struct notes {
    char text[NOTES_BYTES];
    size_t count;
};

__attribute__((format(printf, 2, 3))) static void note(struct notes *notes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int count = vsnprintf(notes->text + notes->count, NOTES_BYTES - notes->count, format, args);
    va_end(args);
    if (count > 0 && (size_t)count < NOTES_BYTES - notes->count) notes->count += (size_t)count;
    notes->text[notes->count] = '\0';
}

static bool is_diverged(const json_t *group)
{
    return strcmp(cli_json_text(group, "digests"), "diverged") == 0;
}

static void add_row(struct cli_table *table, const char *address, const json_t *group)
{
    uint32_t row = table->rows_count;
    cli_table_set(table, row, 0, "%s", address);
    cli_table_set(table, row, 1, "%llu", cli_json_number(group, "group"));
    cli_table_set(table, row, 2, "%s",
                  is_diverged(group) ? "diverged" : cli_json_text(group, "role"));
    cli_table_set(table, row, 3, "%llu", cli_json_number(group, "term"));
    cli_table_set(table, row, 4, "%llu", cli_json_number(group, "commit"));
    cli_table_set(table, row, 5, "%llu", cli_json_number(group, "applied"));
    cli_table_set(table, row, 6, "%llu", cli_json_number(group, "flushed"));
    cli_table_set(table, row, 7, "%llu", cli_json_number(group, "revision"));
}

static void note_digests(struct notes *notes, const char *address, const json_t *group)
{
    if (is_diverged(group)) {
        note(
            notes,
            "%s has diverged: from index %llu on its group %llu is not what most replicas have. It "
            "does not serve;\nempty its data directory and start it again.\n",
            address, cli_json_number(group, "differs_at"), cli_json_number(group, "group"));
        return;
    }
    size_t i;
    json_t *other;
    json_array_foreach(json_object_get(group, "differing"), i, other)
    {
        note(notes, "%s says that group %llu of %s differs from its own, from index %llu on.\n",
             address, cli_json_number(group, "group"),
             json_is_string(other) ? json_string_value(other) : "a stranger",
             cli_json_number(group, "differs_at"));
    }
}

/* The rows of one node, asked directly; a node that does not answer gets a row that says so. */
static void add_node(struct cli_table *table, struct notes *notes, const char *address)
{
    struct trilith_answer answer;
    enum trilith_status status = TRILITH_ERROR;
    struct trilith_client *client = trilith_client_create(address, NODE_TIMEOUT_MS);
    json_t *root = NULL;
    if (client != NULL) {
        root = cli_get_json(client, "/v1/status", &answer, &status);
        trilith_answer_clear(&answer);
    }
    size_t i;
    json_t *group;
    json_array_foreach(json_object_get(root, "groups"), i, group)
    {
        add_row(table, address, group);
        note_digests(notes, address, group);
    }
    if (root == NULL) {
        uint32_t row = table->rows_count;
        cli_table_set(table, row, 0, "%s", address);
        cli_table_set(table, row, 2, "down");
    }
    json_decref(root);
    trilith_client_destroy(client);
}

static void print_can_lose(const json_t *cluster)
{
    long long can_lose = json_integer_value(json_object_get(cluster, "can_lose"));
    if (can_lose < 0) {
        (void)printf("No quorum: writes are refused.\n");
    } else if (can_lose == 0) {
        (void)printf("Cannot lose another node.\n");
    } else {
        (void)printf("Can lose %lld more node%s.\n", can_lose, can_lose == 1 ? "" : "s");
    }
}

static void print_table(const json_t *cluster)
{
    static const char *const heads[] = {"NODE",   "GROUP",   "ROLE",    "TERM",
                                        "COMMIT", "APPLIED", "FLUSHED", "REVISION"};
    static struct cli_table table;
    cli_table_begin(&table, heads, sizeof heads / sizeof heads[0]);
    static struct notes notes;
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(cluster, "members"), i, member)
    {
        add_node(&table, &notes, cli_json_text(member, "address"));
    }
    cli_table_print(&table);
    (void)printf("%s", notes.text);
    print_can_lose(cluster);
}

int cli_status(struct cli *cli)
{
    struct trilith_answer answer;
    enum trilith_status status;
    json_t *cluster = cli_get_json(cli->client, "/v1/cluster", &answer, &status);
    if (cluster == NULL) {
        int code = cli_report(&answer, status, "status");
        trilith_answer_clear(&answer);
        return code;
    }
    if (cli->format == CLI_FORMAT_TABLE) {
        print_table(cluster);
    } else {
        (void)printf("%s\n", (const char *)answer.body);
    }
    trilith_answer_clear(&answer);
    json_decref(cluster);
    return TRILITH_OK;
}
