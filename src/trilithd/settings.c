/* settings.c - collects the texts of settings from command line, environment and file. */

#include "options_internal.h"

#include <argp.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>

#include "trilith/log.h"

#define OPTION_KEY_FIRST 0x100 /* beyond characters: no option has a one-letter name */

static const struct {
    const char *name;
    const char *argument;     /* NULL: takes none */
    const char *variables[2]; /* beside TRILITH_NAME; the second wins */
    const char *help;
} table[SETTINGS_COUNT] = {
    [SETTING_ADDRESS] = {"address",
                         "HOST:PORT",
                         {"ip_port", "SOCKET_ADDRESS"},
                         "The address clients and peers know this node by"},
    [SETTING_VIEW] = {"view",
                      "HOST:PORT[/PEERPORT],...",
                      {"VIEW", NULL},
                      "Initial members, this node included; the same everywhere. Without it the "
                      "node is a cluster of its own"},
    [SETTING_LISTEN] = {"listen",
                        "HOST:PORT",
                        {NULL, NULL},
                        "Where to listen for HTTP: every address of the host (default: "
                        "--address)"},
    [SETTING_PEER_LISTEN] = {"peer-listen",
                             "HOST:PORT",
                             {NULL, NULL},
                             "Where to listen for peers, likewise (default: host of --address, "
                             "its port + 10000)"},
    [SETTING_DATA_DIR] = {"data-dir", "DIR", {NULL, NULL}, "Default: ./data/HOST_PORT"},
    [SETTING_SHARDS] = {"shards", "N", {"SHARD_COUNT", NULL}, "Number of shards (1)"},
    [SETTING_REPLICAS] = {"replicas", "K", {"K", NULL}, "Replicas per shard (not in this version)"},
    [SETTING_JOIN] = {"join",
                      "HOST:PORT[/PEERPORT]",
                      {NULL, NULL},
                      "A member of the running cluster to join; in place of --view"},
    [SETTING_CONFIG] = {"config", "FILE", {NULL, NULL}, "INI file: lines of OPTION = VALUE"},
    [SETTING_LOG_RETAIN] = {"log-retain",
                            "SIZE",
                            {NULL, NULL},
                            "Log to keep for nodes that come back (128MiB)"},
    [SETTING_MAP_SIZE] = {"map-size",
                          "SIZE",
                          {NULL, NULL},
                          "What the table may hold, at most 16TiB (1TiB)"},
    [SETTING_HTTP_THREADS] = {"http-threads",
                              "N",
                              {NULL, NULL},
                              "Threads for HTTP beside the loop (0)"},
    [SETTING_REQUEST_TIMEOUT] = {"request-timeout",
                                 "TIME",
                                 {NULL, NULL},
                                 "An answer is given within this time (5s)"},
    [SETTING_MAX_VALUE_SIZE] = {"max-value-size",
                                "SIZE",
                                {NULL, NULL},
                                "Largest value, at most 2MiB (1MiB)"},
    [SETTING_IDEMPOTENCY_RECORDS] = {"idempotency-records",
                                     "N",
                                     {NULL, NULL},
                                     "Keyed requests remembered (262144); the largest number of "
                                     "the members holds"},
    [SETTING_LOG_FORMAT] = {"log-format",
                            "text|json",
                            {NULL, NULL},
                            "Event lines on stderr (text)"},
    [SETTING_ALLOW_ANY_FS] = {"allow-any-fs",
                              NULL,
                              {NULL, NULL},
                              "Accept a data directory on a file system where a flush means "
                              "nothing (tmpfs, overlay, FUSE, NFS): for tests"},
};

enum tl_err settings_refuse(struct settings *settings, const char *format, ...)
{
    if (settings->message[0] == '\0') {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(settings->message, OPTIONS_MESSAGE_BYTES, format, args); /* may be cut */
        va_end(args);
    }
    return TL_ERR_INVALID;
}

/* Returns the setting when `rank` wins over what it has, ready for a text. */
static struct setting *setting_claim(struct settings *settings, size_t id, enum setting_rank rank)
{
    struct setting *setting = &settings->all[id];
    if (setting->rank > rank) {
        return NULL;
    }
    free(TL_TAKE(&setting->owned));
    setting->rank = rank;
    return setting;
}

static void set_borrowed(struct settings *settings, size_t id, enum setting_rank rank,
                         const char *text, const char *source_prefix, const char *source)
{
    struct setting *setting = setting_claim(settings, id, rank);
    if (setting != NULL) {
        setting->text = text;
        (void)text_format(setting->source, sizeof setting->source, "%s%s", source_prefix, source);
    }
}

/* ---- command line ---- */

static error_t on_argp(int key, char *argument, struct argp_state *state)
{
    struct settings *settings = state->input;
    if (key >= OPTION_KEY_FIRST && key < OPTION_KEY_FIRST + (int)SETTINGS_COUNT) {
        size_t id = (size_t)(key - OPTION_KEY_FIRST);
        set_borrowed(settings, id, SETTING_OPTION, argument == NULL ? "yes" : argument, "--",
                     table[id].name);
        return 0;
    }
    if (key == ARGP_KEY_ARG) {
        argp_error(state, "unexpected argument \"%s\"", argument);
    }
    return ARGP_ERR_UNKNOWN;
}

static enum tl_err collect_arguments(struct settings *settings, int argc, char **argv)
{
    struct argp_option options[SETTINGS_COUNT + 1] = {{0}};
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        options[i] = (struct argp_option){.name = table[i].name,
                                          .key = OPTION_KEY_FIRST + (int)i,
                                          .arg = table[i].argument,
                                          .doc = table[i].help};
    }
    const struct argp argp = {
        .options = options,
        .parser = on_argp,
        .doc = "A node of Trilith, a durable, replicated key/value database.\v"
               "Every option is also a variable (--log-retain: TRILITH_LOG_RETAIN) and a line of "
               "the file. An option wins over a TRILITH_ variable, that over SOCKET_ADDRESS, "
               "ip_port, VIEW, SHARD_COUNT and K, and those over the file.\n"
               "Sizes: 4096, 64KiB, 128MiB, 1GiB, 1TiB. Times: 500ms, 5s, 2m, 1h.\n"
               "Exit codes: 0 stopped, 1 failed, 2 wrong option, 3 data directory in use or not "
               "this node's, 4 storage failed."};
    argp_program_version = "trilithd " PACKAGE_VERSION;
    argp_err_exit_status = 2;
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, settings) != 0) {
        return settings_refuse(settings, "the command line cannot be read");
    }
    return TL_OK;
}

/* ---- environment ---- */

static void variable_name(const char *name, char out_variable[64])
{
    size_t count = text_format(out_variable, 64, "TRILITH_%s", name);
    for (size_t i = 0; i < count; i++) {
        char c = out_variable[i];
        out_variable[i] = c == '-' ? '_' : (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    }
}

/* NULL when it is not there or empty. */
static const char *variable_find(char *const *environment, const char *name)
{
    size_t count = strlen(name);
    for (char *const *at = environment; *at != NULL; at++) {
        if (strncmp(*at, name, count) == 0 && (*at)[count] == '=') {
            return (*at)[count + 1] == '\0' ? NULL : *at + count + 1;
        }
    }
    return NULL;
}

static void collect_environment(struct settings *settings, char *const *environment)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        for (size_t j = 0; j < TL_COUNT_OF(table[i].variables); j++) {
            const char *name = table[i].variables[j];
            const char *text = name == NULL ? NULL : variable_find(environment, name);
            if (text != NULL) {
                set_borrowed(settings, i, SETTING_OTHER, text, "variable ", name);
            }
        }
        char name[64];
        variable_name(table[i].name, name);
        const char *text = variable_find(environment, name);
        if (text != NULL) {
            set_borrowed(settings, i, SETTING_VARIABLE, text, "variable ", name);
        }
    }
}

/* ---- file ---- */

struct file_reading {
    struct settings *settings;
    FILE *file;
    const char *path;
    unsigned line;
    bool is_indented; /* a continuation: inih gives it under the name of the line before */
    bool is_cut;      /* a line longer than inih takes */
    bool was_seen[SETTINGS_COUNT];
};

/* fgets() that counts lines and notices when one does not fit. */
static char *read_line(char *out_text, int text_bytes, void *context)
{
    struct file_reading *reading = context;
    char *text = fgets(out_text, text_bytes, reading->file);
    if (text == NULL) {
        return NULL;
    }
    reading->line++;
    reading->is_indented = text[0] == ' ' || text[0] == '\t';
    if (strchr(text, '\n') == NULL && !feof(reading->file) && !reading->is_cut) {
        reading->is_cut = true;
        (void)settings_refuse(reading->settings,
                              "%s:%u: the line is longer than %d characters (go on in an indented "
                              "line)",
                              reading->path, reading->line, text_bytes - 2);
    }
    return text;
}

static int on_pair(void *context, const char *section, const char *name, const char *text)
{
    struct file_reading *reading = context;
    struct settings *settings = reading->settings;
    if (section[0] != '\0' && strcmp(section, "trilithd") != 0) {
        (void)settings_refuse(settings, "%s:%u: unknown section [%s]", reading->path, reading->line,
                              section);
        return 0;
    }
    size_t id = 0;
    while (id < SETTINGS_COUNT && strcmp(table[id].name, name) != 0) id++;
    if (id == SETTINGS_COUNT || id == SETTING_CONFIG) {
        (void)settings_refuse(settings, "%s:%u: unknown option \"%s\"", reading->path,
                              reading->line, name);
        return 0;
    }
    if (reading->was_seen[id] && !reading->is_indented) {
        (void)settings_refuse(settings, "%s:%u: \"%s\" is set twice", reading->path, reading->line,
                              name);
        return 0;
    }
    const char *before = reading->was_seen[id] ? settings->all[id].owned : NULL;
    reading->was_seen[id] = true;
    if (settings->all[id].rank > SETTING_FILE) {
        return 1;
    }
    size_t bytes = strlen(text) + (before == NULL ? 0 : strlen(before)) + 1;
    char *joined = malloc(bytes);
    TL_ASSERT(joined != NULL);
    (void)text_format(joined, bytes, "%s%s", before == NULL ? "" : before, text);
    struct setting *setting = setting_claim(settings, id, SETTING_FILE);
    setting->owned = joined;
    setting->text = joined;
    (void)text_format(setting->source, sizeof setting->source, "%s:%u: %s", reading->path,
                      reading->line, name);
    return 1;
}

static enum tl_err collect_file(struct settings *settings)
{
    const struct setting *config = &settings->all[SETTING_CONFIG];
    if (config->text == NULL) {
        return TL_OK;
    }
    struct file_reading reading = {.settings = settings, .path = config->text};
    reading.file = fopen(config->text, "re");
    if (reading.file == NULL) {
        return settings_refuse(settings, "%s: cannot open \"%s\": %s", config->source, config->text,
                               strerror(errno));
    }
    int rc = ini_parse_stream(read_line, &reading, on_pair, &reading);
    bool is_read = ferror(reading.file) == 0;
    (void)fclose(reading.file); /* was only read */
    if (!is_read) {
        return settings_refuse(settings, "%s: cannot read \"%s\"", config->source, config->text);
    }
    if (rc != 0) {
        return settings_refuse(settings, "%s:%d: not a line of OPTION = VALUE", config->text, rc);
    }
    return settings->message[0] == '\0' ? TL_OK : TL_ERR_INVALID;
}

enum tl_err settings_collect(struct settings *settings, int argc, char **argv,
                             char *const *environment)
{
    enum tl_err err = collect_arguments(settings, argc, argv);
    if (err != TL_OK) {
        return err;
    }
    collect_environment(settings, environment);
    return collect_file(settings);
}

void settings_clear(struct settings *settings)
{
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        free(TL_TAKE(&settings->all[i].owned));
    }
}
