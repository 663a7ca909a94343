/* options.h - what the operator asked for: command line, environment and file, checked.
 *
 * Role:       The only place that knows names, defaults and ranges of options. Opens nothing but
 *             the file named by --config; resolves no names.
 * Thread:     the main thread, before anything else runs.
 * Errors:     a sentence that names the source of the wrong value; the process then exits with 2.
 */

#ifndef TL_TRILITHD_OPTIONS_H
#define TL_TRILITHD_OPTIONS_H

#include "trilith/address.h"
#include "trilith/genesis.h"

#define OPTIONS_MESSAGE_BYTES 512u
#define OPTIONS_PATH_BYTES 1024u
#define OPTIONS_VALUE_BYTES_MAX (2u * 1024u * 1024u)
/* Tables that may be mapped at once: those of two groups, two that are being received, and two that
 * were replaced and still have readers. */
#define OPTIONS_TABLE_MAPS_MAX 6u

struct options {
    char address[ADDRESS_BYTES_MAX];      /* as clients and peers know it */
    char peer_address[ADDRESS_BYTES_MAX]; /* what peers connect to; "" only with birth_refusal */
    struct address listen;                /* where to bind HTTP */
    struct address peer_listen;           /* where to bind Raft; port 0: what peers connect to */
    /* Why no node can be born with this view, or through this member: one line. "": it can. */
    char birth_refusal[OPTIONS_MESSAGE_BYTES];
    uint32_t view_count;                  /* >= 1, itself included unless birth_refusal */
    struct member view[RAFT_MEMBERS_MAX]; /* store ids zero */
    bool has_join;
    struct member join; /* store id zero */
    char data_dir[OPTIONS_PATH_BYTES];
    bool allow_any_fs;
    bool is_log_json;
    uint64_t log_retain_bytes;
    size_t log_map_bytes;
    size_t table_map_bytes;
    size_t map_headroom_bytes; /* of each map, above what it is to hold */
    uint64_t request_timeout_ns;
    uint32_t value_bytes_max;
    uint32_t idempotency_records;
};

/* Reads all sources, a later one winning over an earlier: file, other variables (SOCKET_ADDRESS and
 * the like), TRILITH_ variables, command line. An empty variable counts as not set.
 *
 * environment  NULL-terminated NAME=VALUE texts, borrowed.
 * out_message  on TL_ERR_INVALID: what is wrong, one line.
 *
 * --help and --version print and exit with 0; an option that does not exist prints and exits
 * with 2, as argp(3) does. */
TL_MUST_CHECK enum tl_err options_parse(int argc, char **argv, char *const *environment,
                                        struct options *out_options,
                                        char out_message[OPTIONS_MESSAGE_BYTES]);

#endif
