/* inspect.c - a stopped node's data directory: what it is, what it holds, and whether every byte of
 * it is what was written.
 *
 * Nothing is repaired and nothing is written but this process's id into the lock file. What is
 * damaged is named by file, group and index; the rest is looked at all the same.
 */

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "trilith/data_dir.h"
#include "trilith/log_store.h"
#include "trilith/placement.h"
#include "trilith/table.h"

#define EXIT_NOT_OURS 3             /* in use, or no data directory; trilithd's code for it too */
#define MAP_BYTES ((size_t)1 << 30) /* LMDB takes more by itself when the file is larger */
#define PATH_BYTES 4096u
#define BAR_CELLS 40u
#define BAR_INTERVAL_MS 100u
#define DAMAGES_MAX 64u

/* What there is of a group. */
struct group_report {
    raft_group group;
    struct log_group_info info; /* without its conf */
    raft_term last_term;
    struct hash128 last_hash;
    uint64_t log_bytes;
    bool has_table;
    char table_dir[PATH_BYTES];
    struct group_state state;
    struct table_totals totals;
};

struct inspect {
    enum cli_format format;
    struct data_dir *dir;
    struct log_store *log;
    struct log_reader *reader;
    struct store_id cluster_id;
    bool has_cluster_id;
    bool is_refused;
    bool is_diverged;
    raft_group diverged_group;
    raft_index diverged_index;
    uint32_t groups_count;
    struct group_report *groups[LOG_STORE_GROUPS_MAX];
    uint32_t damages_count; /* all of them; the first DAMAGES_MAX are kept */
    struct tl_fault damages[DAMAGES_MAX];
};

static void add_damage(struct inspect *inspect, const struct tl_fault *fault)
{
    if (inspect->damages_count < DAMAGES_MAX) inspect->damages[inspect->damages_count] = *fault;
    inspect->damages_count++;
}

/* ---- progress ---- */

/* A bar on a terminal; elsewhere one line when it is done. */
struct progress {
    char what[64];
    bool is_terminal;
    uint64_t first; /* what counts as nothing done */
    uint64_t drawn_ms;
};

static uint64_t clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with a valid clock and pointer */
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static struct progress progress_begin(const char *kind, raft_group group, uint64_t first)
{
    struct progress progress = {.is_terminal = isatty(STDERR_FILENO) != 0, .first = first};
    (void)snprintf(progress.what, sizeof progress.what, "%s of group %" PRIu32, kind, group);
    return progress;
}

static bool on_progress(void *context, uint64_t done, uint64_t end)
{
    struct progress *progress = context;
    if (!progress->is_terminal) return true;
    uint64_t now_ms = clock_ms();
    if (done < end && now_ms - progress->drawn_ms < BAR_INTERVAL_MS) return true;
    progress->drawn_ms = now_ms;
    uint64_t all = end - progress->first;
    uint64_t part = done - progress->first;
    unsigned cells = all > 0 ? (unsigned)(part * BAR_CELLS / all) : BAR_CELLS;
    unsigned percent = all > 0 ? (unsigned)(part * 100 / all) : 100;
    (void)fprintf(stderr, "\r%-20s [%.*s%*s] %3u %%", progress->what, (int)cells,
                  "########################################", (int)(BAR_CELLS - cells), "",
                  percent);
    (void)fflush(stderr); /* only looks */
    return true;
}

static void progress_end(const struct progress *progress, uint64_t count, const char *unit,
                         enum tl_err err)
{
    if (progress->is_terminal) (void)fprintf(stderr, "\r\033[K");
    (void)fprintf(stderr, "%s: %" PRIu64 " %s, %s\n", progress->what, count, unit,
                  err == TL_OK ? "ok" : "DAMAGED");
}

/* ---- the log ---- */

/* One entry, the caller's; NULL: there is none. */
static enum tl_err read_entry(struct inspect *inspect, raft_group group, raft_index index,
                              struct buf **out_entry, struct tl_fault *fault)
{
    uint32_t count = 0;
    *out_entry = NULL;
    enum tl_err err =
        log_reader_read(inspect->reader, group, index, index, 1, 1, out_entry, &count, fault);
    if (err != TL_OK || count == 0) *out_entry = NULL;
    return err;
}

static void set_cluster_id(struct inspect *inspect, const struct genesis *genesis)
{
    inspect->cluster_id = genesis->cluster_id;
    inspect->has_cluster_id = true;
}

/* From the first entry of group 0, or its configuration while that is still the genesis. When both
 * are gone, the placement in its table says it. */
static void find_genesis(struct inspect *inspect, const struct log_group_info *info)
{
    struct genesis genesis;
    struct buf *entry = NULL;
    struct tl_fault ignored; /* damage is named by the check of the whole log */
    if (info->conf != NULL && genesis_decode(buf_bytes(info->conf), &genesis) == TL_OK) {
        set_cluster_id(inspect, &genesis);
    } else if (info->base.index == 0 && info->last_index > 0 &&
               read_entry(inspect, 0, 1, &entry, &ignored) == TL_OK && entry != NULL &&
               genesis_decode(entry_payload(entry), &genesis) == TL_OK) {
        set_cluster_id(inspect, &genesis);
    }
    buf_release(entry);
}

/* Term and hash of the last entry. */
static enum tl_err read_end(struct inspect *inspect, struct group_report *report,
                            struct tl_fault *fault)
{
    const struct log_group_info *info = &report->info;
    report->last_term = info->base.term;
    report->last_hash = info->base.hash;
    if (info->last_index == info->base.index) return TL_OK;
    struct buf *entry = NULL;
    enum tl_err err = read_entry(inspect, report->group, info->last_index, &entry, fault);
    if (entry == NULL) return err;
    report->last_term = entry_term(entry);
    report->last_hash = entry_hash(entry);
    buf_release(entry);
    return TL_OK;
}

static void look_at_log(struct inspect *inspect, struct group_report *report)
{
    struct tl_fault fault;
    enum tl_err err = log_store_recover(inspect->log, report->group, &report->info, &fault);
    if (err != TL_OK) {
        add_damage(inspect, &fault);
        return;
    }
    if (report->group == 0) find_genesis(inspect, &report->info);
    buf_release(report->info.conf);
    report->info.conf = NULL;
    report->log_bytes = log_store_group_bytes(inspect->log, report->group);
    raft_index base = report->info.base.index;
    struct progress progress = progress_begin("log", report->group, base);
    err = log_reader_verify(inspect->reader, report->group, on_progress, &progress, &fault);
    progress_end(&progress, report->info.last_index - base, "entries", err);
    if (err != TL_OK) add_damage(inspect, &fault);
    enum tl_err end_err = read_end(inspect, report, &fault);
    if (err == TL_OK && end_err != TL_OK) add_damage(inspect, &fault);
}

/* ---- the table ---- */

/* Whether the log has, at the table's index, the entry the table was made by. */
static enum tl_err check_relation(struct inspect *inspect, const struct group_report *report,
                                  struct tl_fault *fault)
{
    const struct log_group_info *info = &report->info;
    const struct group_state *state = &report->state;
    if (state->index < info->base.index || state->index > info->last_index) {
        tl_fault_set(fault, report->table_dir, report->group, state->index, "%s",
                     state->index < info->base.index ? "the table ends before the log begins"
                                                     : "the table is ahead of the log");
        return TL_ERR_CORRUPT;
    }
    struct hash128 hash = info->base.hash;
    if (state->index > info->base.index) {
        struct buf *entry = NULL;
        enum tl_err err = read_entry(inspect, report->group, state->index, &entry, fault);
        if (err != TL_OK) return TL_OK; /* damage of the log, named already */
        if (entry != NULL) hash = entry_hash(entry);
        buf_release(entry);
    }
    if (hash_equal(hash, state->chain_hash)) return TL_OK;
    tl_fault_set(fault, report->table_dir, report->group, state->index,
                 "table and log disagree about the table's last entry");
    return TL_ERR_CORRUPT;
}

/* Inside table_reader_begin/end, in a table of group 0 that is whole. */
static void find_placement(struct inspect *inspect, struct table_reader *reader)
{
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct bytes key = env_key_make(ENV_KEY_ROW, bytes_of(PLACEMENT_KEY), room);
    struct bytes row;
    struct row_header header;
    struct tl_fault ignored;
    if (inspect->has_cluster_id || table_get(reader, key, &row, &ignored) != TL_OK) return;
    struct placement *placement = malloc(sizeof *placement);
    TL_ASSERT(placement != NULL);
    if (row_decode(row, true, &header) == TL_OK &&
        placement_decode(row_value(row, &header), placement) == TL_OK) {
        set_cluster_id(inspect, &placement->genesis);
    }
    free(placement);
}

static enum tl_err verify_table(struct inspect *inspect, struct table *table,
                                struct group_report *report, struct tl_fault *fault)
{
    struct table_reader *reader = NULL;
    enum tl_err err = table_reader_create(table, &reader);
    if (err != TL_OK) {
        tl_fault_set(fault, report->table_dir, report->group, 0, "no reader: %s", tl_err_text(err));
        return err;
    }
    raft_index index;
    err = table_reader_begin(reader, &index, fault);
    struct progress progress = progress_begin("table", report->group, 0);
    if (err == TL_OK) {
        err = table_verify(reader, on_progress, &progress, &report->totals, fault);
        if (err == TL_OK && report->group == 0) find_placement(inspect, reader);
        table_reader_end(reader);
    }
    const struct table_totals *totals = &report->totals;
    progress_end(&progress, totals->rows_count + totals->records_count + totals->queue_items_count,
                 "items", err);
    table_reader_destroy(reader);
    return err;
}

static enum tl_err look_at_open_table(struct inspect *inspect, struct table *table,
                                      struct group_report *report, struct tl_fault *fault)
{
    report->has_table = true;
    report->state = *table_state(table);
    enum tl_err err = verify_table(inspect, table, report, fault);
    if (err != TL_OK) return err;
    return check_relation(inspect, report, fault);
}

static void look_at_table(struct inspect *inspect, struct group_report *report)
{
    struct tl_fault fault;
    const struct data_dir_table name = {.group = report->group,
                                        .number = report->info.table_number};
    enum tl_err err = data_dir_table_path(inspect->dir, name, report->table_dir,
                                          sizeof report->table_dir, &fault);
    struct table *table = NULL;
    if (err == TL_OK) {
        const struct table_options options = {.dir = report->table_dir,
                                              .group = report->group,
                                              .map_bytes = MAP_BYTES,
                                              .readers_max = 4,
                                              .is_read_only = true};
        err = table_open(&options, &table, &fault);
    }
    if (err == TL_ERR_NOT_FOUND && report->info.base.index == 0) return; /* nothing flushed yet */
    if (err == TL_ERR_NOT_FOUND) {
        tl_fault_set(&fault, report->table_dir, report->group, report->info.base.index,
                     "the table is missing, and the log does not reach back to the beginning");
    }
    if (err == TL_OK) err = look_at_open_table(inspect, table, report, &fault);
    if (err != TL_OK) add_damage(inspect, &fault);
    table_close(table);
}

/* ---- what is printed ---- */

static void print_identity(const struct inspect *inspect)
{
    char id[HASH_TEXT_BYTES];
    store_id_format(data_dir_store_id(inspect->dir), id);
    (void)printf("directory   %s\nformat      %u\naddress     %s\nstore id    %s\n",
                 data_dir_path(inspect->dir), DATA_DIR_FORMAT, data_dir_address(inspect->dir), id);
    if (inspect->has_cluster_id) {
        store_id_format(&inspect->cluster_id, id);
        (void)printf("cluster id  %s\n", id);
    } else {
        (void)printf("cluster id  -\n");
    }
    if (inspect->is_diverged) {
        (void)printf("diverged    group %" PRIu32 " from index %" PRIu64
                     " on: no node serves from this directory\n",
                     inspect->diverged_group, inspect->diverged_index);
    }
    if (inspect->is_refused) {
        (void)printf("refused     an old copy, as the cluster has found: no node starts on it\n");
    }
    (void)printf("\n");
}

static void print_logs(const struct inspect *inspect)
{
    static const char *const heads[] = {"GROUP", "FIRST",  "LAST",  "LAST-TERM", "TERM",
                                        "VOTE",  "COMMIT", "BYTES", "LAST-HASH"};
    static struct cli_table table;
    cli_table_begin(&table, heads, TL_COUNT_OF(heads));
    for (uint32_t i = 0; i < inspect->groups_count; i++) {
        const struct group_report *report = inspect->groups[i];
        const struct log_group_info *info = &report->info;
        char hash[HASH_TEXT_BYTES];
        char vote[RAFT_ID_TEXT_BYTES];
        hash_format(report->last_hash, hash);
        raft_id_format(info->hard_state.vote, vote);
        uint32_t row = table.rows_count;
        cli_table_set(&table, row, 0, "%" PRIu32, report->group);
        cli_table_set(&table, row, 1, "%" PRIu64, info->base.index + 1);
        cli_table_set(&table, row, 2, "%" PRIu64, info->last_index);
        cli_table_set(&table, row, 3, "%" PRIu64, report->last_term);
        cli_table_set(&table, row, 4, "%" PRIu64, info->hard_state.term);
        cli_table_set(&table, row, 5, "%s", vote);
        cli_table_set(&table, row, 6, "%" PRIu64, info->hard_state.commit);
        cli_table_set(&table, row, 7, "%" PRIu64, report->log_bytes);
        cli_table_set(&table, row, 8, "%s", hash);
    }
    cli_table_print(&table);
    (void)printf("\n");
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static void print_tables(const struct inspect *inspect)
{
    static const char *const heads[] = {"GROUP", "TABLE",   "INDEX", "REVISION",
                                        "ROWS",  "RECORDS", "BYTES", "DIGEST"};
    static struct cli_table table;
    cli_table_begin(&table, heads, TL_COUNT_OF(heads));
    for (uint32_t i = 0; i < inspect->groups_count; i++) {
        const struct group_report *report = inspect->groups[i];
        uint32_t row = table.rows_count;
        cli_table_set(&table, row, 0, "%" PRIu32, report->group);
        cli_table_set(&table, row, 1, "%s",
                      report->has_table ? last_name(report->table_dir) : "none yet");
        if (!report->has_table) continue;
        char digest[HASH_TEXT_BYTES];
        hash_format(report->state.rows_digest, digest);
        cli_table_set(&table, row, 2, "%" PRIu64, report->state.index);
        cli_table_set(&table, row, 3, "%" PRIu64, report->state.revision);
        cli_table_set(&table, row, 4, "%" PRIu64, report->state.rows_count);
        cli_table_set(&table, row, 5, "%" PRIu64,
                      report->state.records_next - report->state.records_first);
        cli_table_set(&table, row, 6, "%" PRIu64, report->totals.bytes);
        cli_table_set(&table, row, 7, "%s", digest);
    }
    cli_table_print(&table);
    (void)printf("\n");
}

static void print_text(const struct inspect *inspect)
{
    print_identity(inspect);
    if (inspect->groups_count > 0) {
        print_logs(inspect);
        print_tables(inspect);
    }
    for (uint32_t i = 0; i < TL_MIN(inspect->damages_count, DAMAGES_MAX); i++) {
        const struct tl_fault *fault = &inspect->damages[i];
        (void)printf("DAMAGED %s", fault->file);
        if (fault->group != UINT32_MAX) (void)printf(" group %" PRIu32, fault->group);
        if (fault->index != 0) (void)printf(" index %" PRIu64, fault->index);
        (void)printf(": %s\n", fault->reason);
    }
    if (inspect->damages_count == 0) (void)printf("Every record and row is as it was written.\n");
}

/* ---- JSON ---- */

static void put_number(json_t *object, const char *name, uint64_t value)
{
    cli_json_put(object, name, json_integer((json_int_t)value));
}

static void put_hash(json_t *object, const char *name, struct hash128 hash)
{
    char text[HASH_TEXT_BYTES];
    hash_format(hash, text);
    cli_json_put(object, name, json_string(text));
}

static void put_store_id(json_t *object, const char *name, const struct store_id *id)
{
    char text[HASH_TEXT_BYTES];
    store_id_format(id, text);
    cli_json_put(object, name, json_string(text));
}

static json_t *json_of_table(const struct group_report *report)
{
    if (!report->has_table) return json_null();
    json_t *table = json_object();
    const struct group_state *state = &report->state;
    cli_json_put(table, "directory", json_string(report->table_dir));
    put_number(table, "index", state->index);
    put_number(table, "term", state->term);
    put_number(table, "revision", state->revision);
    put_number(table, "rows", state->rows_count);
    put_number(table, "records", state->records_next - state->records_first);
    put_number(table, "bytes", report->totals.bytes);
    put_hash(table, "rows_digest", state->rows_digest);
    put_hash(table, "records_digest", state->records_digest);
    put_hash(table, "chain_hash", state->chain_hash);
    return table;
}

static json_t *json_of_group(const struct group_report *report)
{
    const struct log_group_info *info = &report->info;
    char vote[RAFT_ID_TEXT_BYTES];
    raft_id_format(info->hard_state.vote, vote);
    json_t *group = json_object();
    put_number(group, "group", report->group);
    put_number(group, "first", info->base.index + 1);
    put_number(group, "last", info->last_index);
    put_number(group, "last_term", report->last_term);
    put_hash(group, "last_hash", report->last_hash);
    put_number(group, "bytes", report->log_bytes);
    put_number(group, "term", info->hard_state.term);
    cli_json_put(group, "vote", json_string(vote));
    put_number(group, "commit", info->hard_state.commit);
    cli_json_put(group, "table", json_of_table(report));
    return group;
}

static json_t *json_of_damage(const struct tl_fault *fault)
{
    json_t *damage = json_object();
    cli_json_put(damage, "file", json_string(fault->file));
    if (fault->group != UINT32_MAX) put_number(damage, "group", fault->group);
    if (fault->index != 0) put_number(damage, "index", fault->index);
    cli_json_put(damage, "reason", json_string(fault->reason));
    return damage;
}

static void print_json(const struct inspect *inspect)
{
    json_t *root = json_object();
    cli_json_put(root, "directory", json_string(data_dir_path(inspect->dir)));
    put_number(root, "format", DATA_DIR_FORMAT);
    cli_json_put(root, "address", json_string(data_dir_address(inspect->dir)));
    put_store_id(root, "store_id", data_dir_store_id(inspect->dir));
    if (inspect->has_cluster_id) put_store_id(root, "cluster_id", &inspect->cluster_id);
    if (inspect->is_diverged) put_number(root, "diverged_from", inspect->diverged_index);
    if (inspect->is_refused) cli_json_put(root, "refused", json_true());
    json_t *groups = json_array();
    for (uint32_t i = 0; i < inspect->groups_count; i++) {
        (void)json_array_append_new(groups, json_of_group(inspect->groups[i])); /* likewise */
    }
    cli_json_put(root, "groups", groups);
    json_t *damages = json_array();
    for (uint32_t i = 0; i < TL_MIN(inspect->damages_count, DAMAGES_MAX); i++) {
        (void)json_array_append_new(damages, json_of_damage(&inspect->damages[i])); /* likewise */
    }
    cli_json_put(root, "damage", damages);
    cli_json_put(root, "ok", json_boolean(inspect->damages_count == 0));
    cli_print_json(root);
    json_decref(root);
}

/* ---- the whole ---- */

static int by_number(const void *one, const void *other)
{
    raft_group a = *(const raft_group *)one;
    raft_group b = *(const raft_group *)other;
    return (a > b) - (a < b);
}

static void look_at_groups(struct inspect *inspect)
{
    raft_group ids[LOG_STORE_GROUPS_MAX];
    uint32_t count = log_store_groups(inspect->log, ids);
    qsort(ids, count, sizeof ids[0], by_number);
    for (uint32_t i = 0; i < count; i++) {
        struct group_report *report = calloc(1, sizeof *report);
        TL_ASSERT(report != NULL);
        report->group = ids[i];
        inspect->groups[inspect->groups_count++] = report;
        look_at_log(inspect, report);
        look_at_table(inspect, report);
    }
}

/* The directory is locked from here on. */
static void look(struct inspect *inspect)
{
    struct tl_fault fault;
    enum tl_err err =
        data_dir_diverged(inspect->dir, &inspect->diverged_group, &inspect->diverged_index, &fault);
    inspect->is_diverged = err == TL_OK;
    if (err != TL_OK && err != TL_ERR_NOT_FOUND) add_damage(inspect, &fault);
    err = data_dir_refused(inspect->dir, &fault);
    inspect->is_refused = err == TL_OK;
    if (err != TL_OK && err != TL_ERR_NOT_FOUND) add_damage(inspect, &fault);
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/log", data_dir_path(inspect->dir));
    const struct log_store_options options = {
        .dir = path, .map_bytes = MAP_BYTES, .is_read_only = true};
    err = log_store_open(&options, &inspect->log, &fault);
    if (err == TL_ERR_NOT_FOUND) return; /* killed before it had one */
    if (err == TL_OK) {
        err = log_reader_create(inspect->log, &inspect->reader);
        if (err != TL_OK) tl_fault_set(&fault, path, UINT32_MAX, 0, "no reader");
    }
    if (err != TL_OK) {
        add_damage(inspect, &fault);
        return;
    }
    look_at_groups(inspect);
}

static void inspect_close(struct inspect *inspect)
{
    for (uint32_t i = 0; i < inspect->groups_count; i++) free(inspect->groups[i]);
    log_reader_destroy(inspect->reader);
    log_store_close(inspect->log);
    data_dir_close(inspect->dir);
}

int cli_inspect(struct cli *cli)
{
    static struct inspect inspect;
    struct tl_fault fault;
    enum tl_err err = data_dir_open_to_inspect(cli->args[0], &inspect.dir, &fault);
    if (err != TL_OK) {
        (void)fprintf(stderr, "trilith: inspect: %s: %s\n", fault.file, fault.reason);
        bool is_not_ours = err == TL_ERR_IN_USE || err == TL_ERR_FOREIGN ||
                           err == TL_ERR_NOT_FOUND || err == TL_ERR_NEWER_FORMAT;
        return is_not_ours ? EXIT_NOT_OURS : TRILITH_ERROR;
    }
    inspect.format = cli->format;
    look(&inspect);
    if (inspect.format == CLI_FORMAT_JSON) {
        print_json(&inspect);
    } else {
        print_text(&inspect);
    }
    int code = inspect.damages_count == 0 ? TRILITH_OK : TRILITH_ERROR;
    inspect_close(&inspect);
    return code;
}
