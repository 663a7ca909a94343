/* log.c - log verify: whether the replicated log's chain of hashes is whole, and the same on every
 * node.
 *
 * Each entry's hash covers the one before. Two nodes with the same hash at an index have the same
 * log up to there, and once they differ they differ for good: the first entry in which they do is
 * found by bisection, a few requests however long the log is.
 */

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define PROBE_LOOKUP_S 10u        /* a name server may be slow */
#define PROBE_TIMEOUT_MS 1000u    /* a node that is down is not waited for */
#define VERIFY_TIMEOUT_MS 120000u /* gigabytes may have to come from the disk */
#define NODES_MAX 16u
#define PATH_BYTES 128u
#define HASH_TEXT_BYTES 40u

/* A node and what its check said. */
struct checked {
    char address[280];
    struct trilith_client *client;
    json_t *result; /* NULL: see status and message */
    enum trilith_status status;
    char message[512];
    bool is_whole; /* its chain has no break */
    uint64_t first;
    uint64_t decided;      /* the last entry that cannot be replaced any more */
    uint64_t differs_from; /* first entry that is not the others'; 0: none */
};

static void verify_path(const struct cli *cli, char out_path[PATH_BYTES])
{
    (void)snprintf(out_path, PATH_BYTES, "/v1/log/verify?group=%" PRId64, cli->group);
}

static uint32_t verify_timeout_ms(const struct cli *cli)
{
    return cli->has_timeout ? cli->timeout_ms : VERIFY_TIMEOUT_MS;
}

static void take_result(struct checked *node, json_t *result)
{
    node->result = result;
    node->is_whole = json_is_true(json_object_get(result, "ok"));
    node->first = cli_json_number(result, "first");
    uint64_t last = cli_json_number(result, "last");
    uint64_t commit = cli_json_number(result, "commit");
    node->decided = last < commit ? last : commit;
}

static void add_checked(struct cli_table *table, const struct checked *node)
{
    uint32_t row = table->rows_count;
    cli_table_set(table, row, 0, "%s", node->address);
    if (node->result == NULL) {
        cli_table_set(table, row, 5, "%s",
                      node->status == TRILITH_NOT_FOUND     ? "no such group"
                      : node->status == TRILITH_UNAVAILABLE ? "no answer"
                                                            : "error");
        return;
    }
    cli_table_set(table, row, 1, "%llu", cli_json_number(node->result, "first"));
    cli_table_set(table, row, 2, "%llu", cli_json_number(node->result, "last"));
    cli_table_set(table, row, 3, "%llu", cli_json_number(node->result, "count"));
    cli_table_set(table, row, 4, "%s", cli_json_text(node->result, "hash"));
    if (!node->is_whole) {
        cli_table_set(table, row, 5, "broken at %llu", cli_json_number(node->result, "broken_at"));
    } else if (node->differs_from != 0) {
        cli_table_set(table, row, 5, "differs from %" PRIu64 " on", node->differs_from);
    } else {
        cli_table_set(table, row, 5, "ok");
    }
}

static void print_checked(const struct checked *nodes, uint32_t nodes_count)
{
    static const char *const heads[] = {"NODE", "FIRST", "LAST", "COUNT", "HASH", "RESULT"};
    static struct cli_table table;
    cli_table_begin(&table, heads, sizeof heads / sizeof heads[0]);
    for (uint32_t i = 0; i < nodes_count; i++) add_checked(&table, &nodes[i]);
    cli_table_print(&table);
}

/* Nothing is heard from a node until it has read its whole log: one that answers at all is found
 * first, and is then given all the time. */
static json_t *verify_some_node(const struct cli *cli, struct trilith_client *client,
                                struct trilith_answer *answer, enum trilith_status *out_status)
{
    trilith_client_set_silence(client, PROBE_TIMEOUT_MS / 1000);
    json_t *root = cli_get_json(client, "/v1/status", answer, out_status);
    if (root == NULL) return NULL;
    json_decref(root);
    trilith_answer_clear(answer);
    char path[PATH_BYTES];
    verify_path(cli, path);
    trilith_client_set_silence(client, verify_timeout_ms(cli) / 1000);
    return cli_get_json(client, path, answer, out_status);
}

static int verify_one(struct cli *cli)
{
    struct trilith_client *client = trilith_client_create(cli->endpoints, verify_timeout_ms(cli));
    if (client == NULL) {
        (void)fprintf(stderr, "trilith: out of memory\n");
        return TRILITH_ERROR;
    }
    struct trilith_answer answer;
    enum trilith_status status;
    json_t *result = verify_some_node(cli, client, &answer, &status);
    trilith_client_destroy(client);
    int code = TRILITH_OK;
    if (result == NULL) {
        code = cli_report(&answer, status, "log verify");
    } else if (cli->format == CLI_FORMAT_TABLE) {
        struct checked node = {.client = NULL};
        (void)snprintf(node.address, sizeof node.address, "%s", answer.node);
        take_result(&node, result);
        print_checked(&node, 1);
    } else {
        (void)printf("%s", (const char *)answer.body);
    }
    if (result != NULL && !json_is_true(json_object_get(result, "ok"))) code = TRILITH_ERROR;
    json_decref(result);
    trilith_answer_clear(&answer);
    return code;
}

/* ---- log verify --cluster ---- */

static bool answers(const char *address)
{
    struct trilith_client *client = trilith_client_create(address, PROBE_TIMEOUT_MS);
    if (client == NULL) return false;
    trilith_client_set_lookup(client, PROBE_LOOKUP_S);
    struct trilith_answer answer;
    enum trilith_status status;
    json_t *root = cli_get_json(client, "/v1/status", &answer, &status);
    json_decref(root);
    trilith_answer_clear(&answer);
    trilith_client_destroy(client);
    return root != NULL;
}

static void check_node(const struct cli *cli, struct checked *node, const char *address)
{
    *node = (struct checked){.status = TRILITH_UNAVAILABLE, .message = "no answer"};
    (void)snprintf(node->address, sizeof node->address, "%s", address);
    if (!answers(address)) return;
    node->client = trilith_client_create(address, verify_timeout_ms(cli));
    if (node->client == NULL) return;
    char path[PATH_BYTES];
    verify_path(cli, path);
    struct trilith_answer answer;
    json_t *result = cli_get_json(node->client, path, &answer, &node->status);
    if (result != NULL) {
        take_result(node, result);
    } else {
        (void)cli_report(&answer, node->status, address);
        (void)snprintf(node->message, sizeof node->message, "%s", answer.message);
    }
    trilith_answer_clear(&answer);
}

/* The hash of an entry; false: the node does not say. */
static bool hash_at(const struct cli *cli, const struct checked *node, uint64_t index,
                    char out_hash[HASH_TEXT_BYTES])
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "/v1/log?group=%" PRId64 "&from=%" PRIu64 "&limit=1",
                   cli->group, index);
    struct trilith_answer answer;
    enum trilith_status status;
    json_t *page = cli_get_json(node->client, path, &answer, &status);
    const json_t *block = json_array_get(json_object_get(page, "blocks"), 0);
    bool is_there = block != NULL && cli_json_number(block, "index") == index;
    if (is_there) {
        (void)snprintf(out_hash, HASH_TEXT_BYTES, "%s", cli_json_text(block, "hash"));
    }
    json_decref(page);
    trilith_answer_clear(&answer);
    return is_there;
}

/* The first index of (low, high] at which the two differ; they do at `high`. 0: one of them does
 * not say. `low` is the index before the first that both have. */
static uint64_t bisect(const struct cli *cli, const struct checked *one,
                       const struct checked *other, uint64_t low, uint64_t high)
{
    while (low + 1 < high) {
        uint64_t middle = low + (high - low) / 2;
        char hash[2][HASH_TEXT_BYTES];
        if (!hash_at(cli, one, middle, hash[0]) || !hash_at(cli, other, middle, hash[1])) return 0;
        if (strcmp(hash[0], hash[1]) == 0) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high;
}

/* What the nodes have in common, and who has it otherwise. */
struct comparison {
    uint64_t first; /* of what all that answered and are whole have */
    uint64_t last;
    uint32_t nodes_count;
    bool is_possible; /* two nodes at least, and a common range */
    bool is_complete; /* every hash that was asked for was told */
    bool has_differing;
};

static void find_common(const struct checked *nodes, uint32_t nodes_count,
                        struct comparison *comparison)
{
    comparison->last = UINT64_MAX;
    for (uint32_t i = 0; i < nodes_count; i++) {
        if (nodes[i].result == NULL || !nodes[i].is_whole) continue;
        comparison->nodes_count++;
        if (nodes[i].first > comparison->first) comparison->first = nodes[i].first;
        if (nodes[i].decided < comparison->last) comparison->last = nodes[i].decided;
    }
    comparison->is_possible = comparison->nodes_count >= 2 && comparison->first <= comparison->last;
}

/* The node whose hash most others share; the first of several. */
static uint32_t find_reference(char (*hashes)[HASH_TEXT_BYTES], uint32_t nodes_count)
{
    uint32_t best = 0;
    uint32_t best_count = 0;
    for (uint32_t i = 0; i < nodes_count; i++) {
        if (hashes[i][0] == '\0') continue;
        uint32_t count = 0;
        for (uint32_t k = 0; k < nodes_count; k++) count += strcmp(hashes[i], hashes[k]) == 0;
        if (count > best_count) {
            best = i;
            best_count = count;
        }
    }
    return best;
}

static void compare(const struct cli *cli, struct checked *nodes, uint32_t nodes_count,
                    struct comparison *comparison)
{
    find_common(nodes, nodes_count, comparison);
    comparison->is_complete = true;
    if (!comparison->is_possible) return;
    char hashes[NODES_MAX][HASH_TEXT_BYTES] = {{0}};
    for (uint32_t i = 0; i < nodes_count; i++) {
        if (nodes[i].result == NULL || !nodes[i].is_whole) continue;
        if (!hash_at(cli, &nodes[i], comparison->last, hashes[i])) {
            comparison->is_complete = false;
        }
    }
    uint32_t reference = find_reference(hashes, nodes_count);
    for (uint32_t i = 0; i < nodes_count; i++) {
        if (hashes[i][0] == '\0' || strcmp(hashes[i], hashes[reference]) == 0) continue;
        comparison->has_differing = true;
        nodes[i].differs_from =
            bisect(cli, &nodes[i], &nodes[reference], comparison->first - 1, comparison->last);
        if (nodes[i].differs_from == 0) nodes[i].differs_from = comparison->last;
    }
}

static void print_why_unchecked(const struct cli *cli, const struct checked *node)
{
    if (node->status == TRILITH_NOT_FOUND) {
        (void)printf("%s has no group %" PRId64 ".\n", node->address, cli->group);
    } else if (node->status == TRILITH_UNAVAILABLE) {
        (void)printf("%s does not answer.\n", node->address);
    } else {
        (void)printf("%s could not be checked: %s.\n", node->address, node->message);
    }
}

static void print_sentences(const struct cli *cli, const struct checked *nodes,
                            uint32_t nodes_count, const struct comparison *comparison)
{
    for (uint32_t i = 0; i < nodes_count; i++) {
        const struct checked *node = &nodes[i];
        if (node->result == NULL) {
            print_why_unchecked(cli, node);
        } else if (!node->is_whole) {
            (void)printf("The chain of %s breaks at index %llu: %s.\n", node->address,
                         cli_json_number(node->result, "broken_at"),
                         cli_json_text(node->result, "reason"));
        } else if (node->differs_from != 0) {
            (void)printf("%s differs from the others from index %" PRIu64 " on.\n", node->address,
                         node->differs_from);
        }
    }
    if (!comparison->is_possible) {
        (void)printf("There are no two whole chains with common indexes to compare.\n");
    } else if (!comparison->is_complete) {
        (void)printf("Not every node told its hash at index %" PRIu64 ".\n", comparison->last);
    } else if (!comparison->has_differing) {
        (void)printf("The chains of %" PRIu32 " nodes are whole and agree up to index %" PRIu64
                     ".\n",
                     comparison->nodes_count, comparison->last);
    }
}

static void print_json(const struct cli *cli, const struct checked *nodes, uint32_t nodes_count,
                       const struct comparison *comparison)
{
    json_t *root = json_object();
    json_t *array = json_array();
    cli_json_put(root, "group", json_integer((json_int_t)cli->group));
    for (uint32_t i = 0; i < nodes_count; i++) {
        json_t *node = json_object();
        cli_json_put(node, "address", json_string(nodes[i].address));
        cli_json_put(node, "result",
                     nodes[i].result != NULL ? json_incref(nodes[i].result) : json_null());
        cli_json_put(node, "error",
                     nodes[i].result != NULL ? json_null() : json_string(nodes[i].message));
        cli_json_put(node, "differs_from",
                     nodes[i].differs_from != 0 ? json_integer((json_int_t)nodes[i].differs_from)
                                                : json_null());
        (void)json_array_append_new(array, node); /* as in put() */
    }
    cli_json_put(root, "nodes", array);
    if (comparison->is_possible) {
        cli_json_put(root, "common_first", json_integer((json_int_t)comparison->first));
        cli_json_put(root, "common_last", json_integer((json_int_t)comparison->last));
    }
    cli_json_put(root, "agree",
                 json_boolean(comparison->is_possible && comparison->is_complete &&
                              !comparison->has_differing));
    cli_print_json(root);
    json_decref(root);
}

static int code_of(const struct checked *nodes, uint32_t nodes_count,
                   const struct comparison *comparison)
{
    bool is_down = !comparison->is_complete;
    bool is_absent = false;
    for (uint32_t i = 0; i < nodes_count; i++) {
        if (nodes[i].result != NULL) {
            if (!nodes[i].is_whole) return TRILITH_ERROR;
        } else if (nodes[i].status == TRILITH_UNAVAILABLE) {
            is_down = true;
        } else if (nodes[i].status == TRILITH_NOT_FOUND) {
            is_absent = true;
        } else {
            return TRILITH_ERROR;
        }
    }
    if (comparison->has_differing) return TRILITH_ERROR;
    if (is_down) return TRILITH_UNAVAILABLE;
    return is_absent ? TRILITH_NOT_FOUND : TRILITH_OK;
}

static int verify_cluster(struct cli *cli)
{
    struct trilith_answer answer;
    enum trilith_status status;
    json_t *cluster = cli_get_json(cli->client, "/v1/cluster", &answer, &status);
    int code = TRILITH_OK;
    if (cluster == NULL) code = cli_report(&answer, status, "log verify");
    trilith_answer_clear(&answer);
    if (cluster == NULL) return code;
    static struct checked nodes[NODES_MAX];
    uint32_t nodes_count = 0;
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(cluster, "members"), i, member)
    {
        if (nodes_count == NODES_MAX) break;
        check_node(cli, &nodes[nodes_count++], cli_json_text(member, "address"));
    }
    json_decref(cluster);
    struct comparison comparison = {.first = 0};
    compare(cli, nodes, nodes_count, &comparison);
    if (cli->format == CLI_FORMAT_TABLE) {
        print_checked(nodes, nodes_count);
        print_sentences(cli, nodes, nodes_count, &comparison);
    } else {
        print_json(cli, nodes, nodes_count, &comparison);
    }
    code = code_of(nodes, nodes_count, &comparison);
    for (uint32_t k = 0; k < nodes_count; k++) {
        json_decref(nodes[k].result);
        trilith_client_destroy(nodes[k].client);
    }
    return code;
}

int cli_log(struct cli *cli)
{
    if (cli->group < 0) cli->group = 1;
    if (strcmp(cli->args[0], "show") == 0) return cli_log_show(cli);
    if (strcmp(cli->args[0], "verify") == 0) {
        return cli->whole_cluster ? verify_cluster(cli) : verify_one(cli);
    }
    (void)fprintf(stderr, "trilith: log show or log verify, not log %s\n", cli->args[0]);
    return TRILITH_USAGE;
}
