/* options_internal.h - texts of settings as they were found, and where.
 *
 * Role:       settings.c collects them; what they mean is options.c's.
 *
 * Thread:     the main thread.
 */

#ifndef TL_TRILITHD_OPTIONS_INTERNAL_H
#define TL_TRILITHD_OPTIONS_INTERNAL_H

#include "options.h"

enum setting_id {
    SETTING_ADDRESS,
    SETTING_VIEW,
    SETTING_LISTEN,
    SETTING_PEER_LISTEN,
    SETTING_DATA_DIR,
    SETTING_SHARDS,
    SETTING_REPLICAS,
    SETTING_JOIN,
    SETTING_CONFIG,
    SETTING_LOG_RETAIN,
    SETTING_MAP_SIZE,
    SETTING_HTTP_THREADS,
    SETTING_REQUEST_TIMEOUT,
    SETTING_MAX_VALUE_SIZE,
    SETTING_IDEMPOTENCY_RECORDS,
    SETTING_LOG_FORMAT,
    SETTING_ALLOW_ANY_FS,
    SETTINGS_COUNT
};

/* A later one wins. */
enum setting_rank { SETTING_UNSET, SETTING_FILE, SETTING_OTHER, SETTING_VARIABLE, SETTING_OPTION };

struct setting {
    enum setting_rank rank;
    const char *text;                     /* NULL when unset; borrowed, or `owned` */
    char *owned;                          /* a text from the file */
    char source[OPTIONS_PATH_BYTES + 64]; /* "--view", "TRILITH_VIEW", "node.ini:3: view" */
};

struct settings {
    struct setting all[SETTINGS_COUNT];
    char *message; /* OPTIONS_MESSAGE_BYTES */
};

TL_MUST_CHECK enum tl_err settings_collect(struct settings *settings, int argc, char **argv,
                                           char *const *environment);
void settings_clear(struct settings *settings);

/* Writes the message, unless there is one already, and returns TL_ERR_INVALID. */
__attribute__((format(printf, 2, 3))) enum tl_err settings_refuse(struct settings *settings,
                                                                  const char *format, ...);

#endif
