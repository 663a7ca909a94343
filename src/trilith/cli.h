/* cli.h - what the files of the command line share. */

#ifndef TRILITH_CLI_H
#define TRILITH_CLI_H

#include "trilith/client.h"

enum cli_format { CLI_FORMAT_TABLE, CLI_FORMAT_JSON, CLI_FORMAT_RAW };

#define CLI_ARGS_MAX 8u

/* The parsed command line. All strings are borrowed from argv or the environment. */
struct cli {
    const char *endpoints;
    enum cli_format format;
    uint32_t timeout_ms;
    struct trilith_write_options write;
    const char *consistency; /* NULL: the server's default */
    int64_t by;
    bool is_dry_run;
    int64_t group; /* -1: not given */
    uint64_t from; /* 0: the newest */
    bool whole_cluster;
    bool has_timeout;                 /* --timeout was given */
    struct trilith_scan_options scan; /* without prefix, after, limit and consistency */
    uint64_t limit;                   /* 0: not given */
    bool count;
    int args_count; /* behind the verb */
    char *args[CLI_ARGS_MAX];
    struct trilith_client *client;
};

/* Each verb returns the exit code of the process. */
int cli_get(struct cli *cli);
int cli_put(struct cli *cli);
int cli_append(struct cli *cli);
int cli_incr(struct cli *cli);
int cli_delete(struct cli *cli);
int cli_scan(struct cli *cli);
int cli_txn(struct cli *cli);
int cli_status(struct cli *cli);
int cli_members(struct cli *cli);
int cli_log(struct cli *cli);
int cli_log_show(struct cli *cli);
int cli_inspect(struct cli *cli);
int cli_leader(struct cli *cli);

/* ---- output ---- */

/* Prints why a request failed, one line on stderr, and returns its exit code. */
int cli_report(const struct trilith_answer *answer, enum trilith_status status, const char *what);

/* Rows of text under a head; columns as wide as their widest cell. */
#define CLI_TABLE_COLUMNS_MAX 12u
#define CLI_TABLE_ROWS_MAX 256u
#define CLI_TABLE_CELL_BYTES_MAX 128u
struct cli_table {
    uint32_t columns_count;
    uint32_t rows_count;
    char cells[CLI_TABLE_ROWS_MAX][CLI_TABLE_COLUMNS_MAX][CLI_TABLE_CELL_BYTES_MAX];
};
__attribute__((format(printf, 4, 5))) void cli_table_set(struct cli_table *table, uint32_t row,
                                                         uint32_t column, const char *format, ...);
/* Text of others: on one line, and nothing in it that a terminal would obey. */
void cli_table_set_bytes(struct cli_table *table, uint32_t row, uint32_t column, const void *bytes,
                         size_t count);
/* Empties the table and sets its first row. */
void cli_table_begin(struct cli_table *table, const char *const *heads, uint32_t heads_count);
void cli_table_print(const struct cli_table *table);

/* ---- answers that are JSON ---- */

struct json_t;
/* NULL: *out_status and answer->message say why. The caller clears the answer in both cases. */
struct json_t *cli_get_json(struct trilith_client *client, const char *path,
                            struct trilith_answer *answer, enum trilith_status *out_status);
unsigned long long cli_json_number(const struct json_t *object, const char *name); /* 0: none */
long long cli_json_integer(const struct json_t *object, const char *name);         /* 0: none */
const char *cli_json_text(const struct json_t *object, const char *name);          /* "-": none */

void cli_print_json(const struct json_t *root);

/* Takes the value over. Without memory a field is missing. */
void cli_json_put(struct json_t *object, const char *name, struct json_t *value);

/* Reads standard input to its end. false: it cannot be read or is over the limit. */
bool cli_read_input(uint8_t **out_data, size_t *out_bytes);

#endif
