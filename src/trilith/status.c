/* status.c - the state of the cluster, one row a node and group, and what may still fail. */

#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define NODE_TIMEOUT_MS 1000u
#define NODE_LOOKUP_S 10u /* a slow name server makes no node one that is down */

#define NOTES_BYTES 4096u

/* Sentences below the table. */
struct notes {
    char text[NOTES_BYTES];
    size_t count;
    bool is_short_of_room; /* some node is */
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

static void note_room(struct notes *notes, const char *address, const json_t *root)
{
    const json_t *disk = json_object_get(root, "disk");
    const char *room = json_string_value(json_object_get(disk, "room"));
    if (room == NULL || strcmp(room, "ok") == 0) return; /* or a node of an older version */
    notes->is_short_of_room = true;
    if (strcmp(room, "map_full") == 0) {
        note(notes, "%s has no room for new data: its --map-size of %llu bytes is reached.\n",
             address, cli_json_number(disk, "map_limit_bytes"));
    } else {
        note(notes, "%s has no room for new data: its file system has %llu MiB left.\n", address,
             cli_json_number(disk, "free_bytes") / (1024 * 1024));
    }
}

/* A document of one node, asked directly. NULL: it does not answer. */
static json_t *ask_node(const char *address, const char *path)
{
    struct trilith_client *client = trilith_client_create(address, NODE_TIMEOUT_MS);
    if (client == NULL) return NULL;
    trilith_client_set_lookup(client, NODE_LOOKUP_S);
    struct trilith_answer answer;
    enum trilith_status status;
    json_t *root = cli_get_json(client, path, &answer, &status);
    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
    return root;
}

/* `root` is the node's /v1/status, NULL when it does not answer. */
static void add_node(struct cli_table *table, struct notes *notes, const char *address,
                     const json_t *root)
{
    size_t i;
    json_t *group;
    const json_t *groups = json_object_get(root, "groups");
    json_array_foreach(groups, i, group)
    {
        add_row(table, address, group);
        note_digests(notes, address, group);
    }
    if (json_array_size(groups) > 0) {
        note_room(notes, address, root);
        return;
    }
    uint32_t row = table->rows_count;
    cli_table_set(table, row, 0, "%s", address);
    cli_table_set(table, row, 2, "%s", root != NULL ? cli_json_text(root, "stage") : "down");
    const char *waits_for = json_string_value(json_object_get(root, "waits_for"));
    if (waits_for != NULL) note(notes, "%s: %s.\n", address, waits_for);
}

/* ---- can_lose ---- */

/* The group in a leader's own words; NULL: it does not answer, or leads no more. */
static const json_t *told_by_leader(const json_t *cluster, const char *leader, json_int_t id)
{
    if (strcmp(cli_json_text(cluster, "answered_by"), leader) != 0) return NULL;
    size_t i;
    json_t *group;
    json_array_foreach(json_object_get(cluster, "groups"), i, group)
    {
        if (json_integer_value(json_object_get(group, "group")) == id) {
            return strcmp(cli_json_text(group, "leader"), leader) == 0 ? group : NULL;
        }
    }
    return NULL;
}

/* Who is caught up a group's leader alone knows; others count whom they are connected to. */
static void take_leaders_words(json_t *cluster)
{
    json_t *documents = json_object(); /* by the leader's address */
    long long least = LLONG_MAX;
    size_t i;
    json_t *group;
    json_array_foreach(json_object_get(cluster, "groups"), i, group)
    {
        const char *leader = json_string_value(json_object_get(group, "leader"));
        if (leader != NULL && strcmp(leader, cli_json_text(cluster, "answered_by")) != 0) {
            if (json_object_get(documents, leader) == NULL) {
                json_t *document = ask_node(leader, "/v1/cluster");
                cli_json_put(documents, leader, document != NULL ? document : json_null());
            }
            const json_t *told =
                told_by_leader(json_object_get(documents, leader), leader,
                               json_integer_value(json_object_get(group, "group")));
            json_t *can_lose = json_object_get(told, "can_lose");
            if (json_is_integer(can_lose)) cli_json_put(group, "can_lose", json_incref(can_lose));
        }
        long long can_lose = cli_json_integer(group, "can_lose");
        if (can_lose < least) least = can_lose;
    }
    if (least != LLONG_MAX) cli_json_put(cluster, "can_lose", json_integer((json_int_t)least));
    json_decref(documents);
}

static bool has_quorum(const json_t *cluster)
{
    size_t i;
    json_t *group;
    json_array_foreach(json_object_get(cluster, "groups"), i, group)
    {
        if (!json_is_true(json_object_get(group, "has_quorum"))) return false;
    }
    return true;
}

static void print_can_lose(const json_t *cluster, bool is_short_of_room)
{
    long long can_lose = cli_json_integer(cluster, "can_lose");
    if (json_array_size(json_object_get(cluster, "groups")) == 0) {
        (void)printf("There is no cluster yet.\n");
    } else if (can_lose < 0 && is_short_of_room && has_quorum(cluster)) {
        (void)printf("Too few voters have room: new data is refused; reads and deletions go on.\n");
    } else if (can_lose < 0) {
        (void)printf("No quorum: writes are refused.\n");
    } else if (can_lose == 0) {
        (void)printf("Cannot lose another node.\n");
    } else {
        (void)printf("Can lose %lld more node%s.\n", can_lose, can_lose == 1 ? "" : "s");
    }
}

static void print_table(const struct cli *cli, const json_t *cluster)
{
    static const char *const heads[] = {"NODE",   "GROUP",   "ROLE",    "TERM",
                                        "COMMIT", "APPLIED", "FLUSHED", "REVISION"};
    static struct cli_table table;
    cli_table_begin(&table, heads, sizeof heads / sizeof heads[0]);
    static struct notes notes;
    const json_t *members = json_object_get(cluster, "members");
    size_t i;
    json_t *member;
    json_array_foreach(members, i, member)
    {
        const char *address = cli_json_text(member, "address");
        json_t *root = ask_node(address, "/v1/status");
        add_node(&table, &notes, address, root);
        json_decref(root);
    }
    if (json_array_size(members) == 0) { /* it is being born and knows nobody, not even itself */
        struct trilith_answer answer;
        enum trilith_status status;
        json_t *root = cli_get_json(cli->client, "/v1/status", &answer, &status);
        if (root != NULL) add_node(&table, &notes, cli_json_text(root, "address"), root);
        trilith_answer_clear(&answer);
        json_decref(root);
    }
    cli_table_print(&table);
    (void)printf("%s", notes.text);
    print_can_lose(cluster, notes.is_short_of_room);
}

int cli_status(struct cli *cli)
{
    struct trilith_answer answer;
    enum trilith_status status;
    json_t *cluster = cli_get_json(cli->client, "/v1/cluster", &answer, &status);
    int code = TRILITH_OK;
    if (cluster == NULL) code = cli_report(&answer, status, "status");
    trilith_answer_clear(&answer);
    if (cluster == NULL) return code;
    take_leaders_words(cluster);
    if (cli->format == CLI_FORMAT_TABLE) {
        print_table(cli, cluster);
    } else {
        cli_print_json(cluster);
    }
    json_decref(cluster);
    return code;
}
