/* http_internal.h - what the files of the front end share.
 *
 * Role:       The server, the exchange (one request and its answer), the steps every family is
 *             made of: take the key, take the options, write or read, respond.
 * Thread:     the loop thread.
 *
 * An exchange lives in its request's h2o pool as a shared chunk, so it dies with the request,
 * whoever ends that: the answer that was sent, a client that has gone, a closing connection. What
 * it still waits for from the node is then cancelled; the node never sees a dead exchange, and the
 * exchange never outlives its request.
 */

#ifndef TL_HTTP_INTERNAL_H
#define TL_HTTP_INTERNAL_H

#include <uv.h>
#include <h2o.h>

#include "failure.h"
#include "json.h"
#include "parse.h"
#include "text.h"
#include "trilith/http_server.h"
#include "trilith/listener.h"
#include "trilith/txn.h"
#include "trilith/view.h"

#define HTTP_SERVER_MAGIC 0x74746803u
#define EXCHANGE_MAGIC 0x68637865u
#define CONNECTION_MAGIC 0x6e6e6f63u

#define HTTP_IDLE_TIMEOUT_MS 75000u
#define HTTP_TCP_KEEPALIVE_S 60u
#define HTTP_LISTEN_BACKLOG 1024
/* Of answers, what one turn of the loop makes or gives to sockets: some tenths of a millisecond. */
#define HTTP_TURN_BYTES (128u * 1024u)
#define HTTP_PIECE_BYTES (64u * 1024u) /* of a large answer, at a time */
/* A body may hold a value in a wrapping (JSON escapes), and one that is only a little too large
 * deserves an answer rather than a closed connection. */
#define HTTP_BODY_OVERHEAD_BYTES (64u * 1024u)

enum http_family {
    FAMILY_KV,
    FAMILY_SCAN,
    FAMILY_TXN,
    FAMILY_KEYS,
    FAMILY_STATUS,
    FAMILY_CLUSTER,
    FAMILY_LOG,
    FAMILY_METRICS,
    FAMILY_HEALTH,
    FAMILY_OTHER,
    FAMILIES_COUNT
};

enum http_method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_PUT,
    METHOD_POST,
    METHOD_DELETE,
    METHOD_OTHER,
    METHODS_COUNT
};

#define STATUS_MIN 200
#define STATUSES_COUNT 400u /* 200 ... 599 */

struct http_counters {
    uint64_t requests[FAMILIES_COUNT][METHODS_COUNT][STATUSES_COUNT]; /* answered */
    uint64_t connections_accepted_count;
    uint64_t accept_failures_count;
    uint64_t connections_refused_count; /* over connections_max */
    uint64_t unreadable_count;          /* what HTTP/1 could not parse as a request */
    uint64_t requestless_count;         /* connections that ended without one */
    uint64_t abandoned_count;           /* the client went while the node was at work */
    uint64_t scan_rows_count;           /* given out */
    uint64_t scan_pages_cut_count;      /* ended for want of time, before they were full */
    uint64_t scan_slices_count; /* of counts: turns that counted, and others had to follow */
};

/* An accepted connection. h2o owns it; it unlinks itself when h2o has closed it. */
struct connection {
    uint32_t magic;
    uv_tcp_t tcp;
    struct http_server *server; /* outlives it */
    struct connection *next;
    struct connection *previous;
    h2o_socket_t *socket;  /* h2o's, until on_socket_closed() */
    size_t answered_bytes; /* sent up to the last answer to a request */
    bool has_had_request;
};

struct http_server {
    uint32_t magic;
    /* Constant after open. */
    struct http_server_options options;
    uv_loop_t *loop;   /* the caller's, outlives it */
    struct pump *pump; /* the caller's, until on_closed */
    struct node *node; /* the pump's */
    h2o_globalconf_t config;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    uint16_t port;
    uint64_t opened_ns;
    /* Owned by the loop thread. */
    uint32_t listeners_count; /* open */
    uv_tcp_t listeners[LISTEN_SOCKETS_MAX];
    uv_timer_t close_timer; /* from close on: ends connections that do not end by themselves */
    struct connection *connections;
    uint32_t connections_count;
    uint32_t exchanges_waiting_count;
    struct view_reader *reader;     /* of the data group; made with the first read */
    uv_prepare_t turn_watch;        /* before each poll: the paused go on */
    uv_idle_t busy;                 /* while something is paused: the loop does not sleep */
    size_t turn_bytes;              /* of HTTP_TURN_BYTES, used in this turn */
    struct exchange *paused_oldest; /* go on in turn; each takes itself out when it dies */
    struct exchange *paused_newest;
    struct http_counters counters;
    enum { SERVER_OPEN, SERVER_CLOSING, SERVER_CLOSED } state;
    void (*on_closed)(void *context);
    void *on_closed_context;
};

/* What a request asks for beside its key and body, from query and headers. */
struct request_options {
    enum node_consistency consistency;
    bool has_consistency;
    bool has_token;
    uint64_t token_us;
    enum command_condition condition;
    uint64_t condition_revision;
    bool has_idempotency_key;
    struct hash128 idempotency_key;
    struct bytes content_type; /* of the body; empty when none was sent */
    bool has_content_type;
};

struct exchange;

/* A row as a reader sees it, borrowed until on_row returns. */
struct row_view {
    struct row_header header;
    struct bytes content_type;
    struct bytes value;
};
/* TL_OK with a row, TL_ERR_NOT_FOUND, or what node_read() failed with. */
typedef void (*exchange_on_row)(struct exchange *exchange, enum tl_err err,
                                const struct row_view *row);
/* A view of the data group that is good enough for the exchange, pinned until on_view returns; NULL
 * unless TL_OK. */
typedef void (*exchange_on_view)(struct exchange *exchange, enum tl_err err,
                                 struct view_reader *reader);
/* result is set with TL_OK only. */
typedef void (*exchange_on_written)(struct exchange *exchange, enum tl_err err,
                                    const struct kv_result *result);

typedef void (*exchange_on_resume)(struct exchange *exchange);

typedef void (*exchange_on_changed)(struct exchange *exchange, enum tl_err err);

typedef void (*exchange_on_log)(struct exchange *exchange, enum tl_err err,
                                const struct node_log_query *query);

enum exchange_waiting {
    EXCHANGE_IDLE,
    EXCHANGE_WRITING,
    EXCHANGE_READING,
    EXCHANGE_CHANGING,
    EXCHANGE_TRANSFERRING,
    EXCHANGE_LOG,
    EXCHANGE_PAUSED
};

struct exchange {
    uint32_t magic;
    enum http_family family;
    enum http_method method;
    struct http_server *server; /* outlives it */
    h2o_req_t *req;             /* owns this memory through its pool */
    struct bytes path;          /* raw, without the query; borrowed from req */
    struct bytes query;         /* raw; borrowed from req */
    struct bytes key;           /* decoded, in req's pool */
    struct request_options options;
    bool is_answered;
    /* Of the answer's headers. */
    bool has_position; /* revision and token are those of a result, not those of now */
    uint64_t revision;
    uint64_t token_us;
    raft_index applied; /* of the last view */
    uint64_t retry_after_s; /* if there is something to wait for; 0: nothing in particular */
    /* What it waits for. */
    enum exchange_waiting waiting;
    enum command_type command_type; /* of the write */
    const struct txn *txn;          /* the write, when it is one; in req's pool */
    struct txn_answer *txn_answer;  /* of large results, in req's pool */
    struct scan *scan;              /* in req's pool */
    exchange_on_resume on_resume;   /* while it is paused */
    struct buf *kept;               /* owned; NULL: nothing */
    h2o_generator_t generator;      /* of a body that is sent in pieces */
    struct bytes unsent;            /* of it; in req's pool or static */
    struct exchange *paused_older;  /* towards server->paused_oldest */
    struct exchange *paused_newer;
    union {
        struct node_write write;
        struct node_read read;
        /* In the request's pool: too large for what every request has. */
        struct node_change *change;
        struct node_leader_transfer *transfer;
        struct node_log_query *log;
    };
    exchange_on_written on_written;
    exchange_on_view on_view;
    exchange_on_row on_row;
    exchange_on_changed on_changed; /* of a change or a transfer */
    exchange_on_log on_log;
};

/* ---- server.c ---- */
uint64_t http_now_ns(void); /* the node's clock */
/* A reader of the data group, or NULL before the group exists. */
struct view_reader *http_server_reader(struct http_server *server);
/* A read met damaged storage: prints the fault and ends the process with exit code 4. */
_Noreturn void http_storage_failed(const struct tl_fault *fault);

/* ---- describe.c: what the node says of itself, and JSON objects of it ---- */
struct json_t;
/* The address of a member; NULL for RAFT_ID_NONE and strangers. */
const char *describe_address(const struct http_server *server, raft_id id);
/* False, and all zeros, before the group exists here. */
bool describe_group(const struct http_server *server, const struct node_status *node,
                    raft_group group, struct node_group_status *out_status);
const char *describe_role(enum raft_role role);
const char *describe_op(enum command_type type);
const char *describe_member_role(enum member_role role);
/* Snapshots on their way from or to this node, as array `transfers`. */
void describe_transfers(const struct http_server *server, struct json_t *root);
const char *describe_stage(enum node_stage stage);
/* "ok", or the code of the refusal that a write which may grow would get of such a leader. */
const char *describe_room(enum tl_err lack);
const char *describe_digests(enum node_digests digests);
/* What the exchange of digests has shown of a group: digests, differs_at, differing. */
void json_put_digests(struct json_t *group, const struct http_server *server,
                      const struct node_group_status *status);
void json_put_u64(struct json_t *object, const char *name, uint64_t value);
void json_put_i64(struct json_t *object, const char *name, int64_t value);
void json_put_bool(struct json_t *object, const char *name, bool value);
void json_put_string(struct json_t *object, const char *name, const char *value); /* NULL: null */
void json_put_hash(struct json_t *object, const char *name, struct hash128 value);
void json_put_store_id(struct json_t *object, const char *name, const struct store_id *id);
/* The object named `name`, made when it is not there; borrowed from `object`. */
struct json_t *json_put_object(struct json_t *object, const char *name);
struct json_t *json_put_array(struct json_t *object, const char *name);
struct json_t *json_add_object(struct json_t *array);
/* Their addresses, null for strangers. */
void json_put_addresses(struct json_t *object, const char *name, const struct http_server *server,
                        const raft_id *ids, uint32_t ids_count);
/* Takes `json`. */
void respond_document(struct exchange *exchange, int status, struct json_t *json);

/* ---- router.c ---- */
int router_on_request(h2o_handler_t *handler, h2o_req_t *req);
struct router_handler {
    h2o_handler_t super;
    struct http_server *server;
};

/* ---- exchange.c: the steps ---- */
struct exchange *exchange_create(struct http_server *server, h2o_req_t *req);
/* Fills params (may be none) from the query. */
const struct failure *exchange_parse_query(struct exchange *exchange, struct query_param *params,
                                           size_t params_count);
/* As exchange_parse_query(). False: it has been refused. */
bool exchange_take_query(struct exchange *exchange, struct query_param *params,
                         size_t params_count);
/* For what is only looked at: GET or HEAD with these parameters. False: it has been refused. */
bool exchange_take_get(struct exchange *exchange, struct query_param *params, size_t params_count);
/* Decodes and checks the key behind `prefix`. */
const struct failure *exchange_take_key(struct exchange *exchange, const char *prefix);
/* Fills options from the headers, and the consistency from the query's parameter. */
const struct failure *exchange_take_options(struct exchange *exchange,
                                            const struct query_param *consistency);
struct bytes exchange_body(const struct exchange *exchange);
/* Starts the write: key, condition, idempotency key, token and limits are filled in; on_written is
 * called once, now or later. */
void exchange_write(struct exchange *exchange, struct command *command,
                    exchange_on_written on_written);
/* Starts a change of the membership, which lives in the request's pool; on_changed is called once,
 * now or later. */
void exchange_change(struct exchange *exchange, struct node_change *change,
                     exchange_on_changed on_changed);
/* Starts a transfer of leadership; likewise. */
void exchange_transfer(struct exchange *exchange, struct node_leader_transfer *transfer,
                       exchange_on_changed on_changed);
/* Reads the exchange's key at its consistency; on_row is called once, now or later. */
void exchange_read(struct exchange *exchange, exchange_on_row on_row);

/* Asks about the log; on_log is called once, now (when it is refused) or later. */
void exchange_query_log(struct exchange *exchange, const struct node_log_query *query,
                        exchange_on_log on_log);

/* As exchange_read(), but a view to read anything in. */
void exchange_view(struct exchange *exchange, exchange_on_view on_view);
/* on_resume is called in a later turn: for work that would hold the loop up. */
void exchange_pause(struct exchange *exchange, exchange_on_resume on_resume);
/* From within on_view: it is called again in a later turn, with a new view that is no older. */
void exchange_pause_view(struct exchange *exchange);
/* Keeps the buffer, which may be NULL, for as long as the exchange lives. */
void exchange_keep(struct exchange *exchange, struct buf *buf);
void exchange_on_turn(uv_prepare_t *watch);

/* Whether this turn has something left of HTTP_TURN_BYTES, and that so much of it is used. */
bool http_turn_has_room(const struct http_server *server);
void http_turn_use(struct http_server *server, size_t bytes);
/* Takes ?dry_run=, 0 or 1, as the only parameter. False: it has been refused. */
bool exchange_take_dry_run(struct exchange *exchange, bool *out_is_dry_run);

/* ---- respond.c: the answer; exactly one per exchange ---- */
void respond_etag(struct exchange *exchange, uint64_t revision);
void respond_replayed(struct exchange *exchange);
void respond_server_timing(struct exchange *exchange);
/* `body` is in the request's pool or static. HEAD sends its length only. */
void respond(struct exchange *exchange, int status, struct bytes content_type, struct bytes body);
void respond_text(struct exchange *exchange, int status, const char *body);
void respond_json(struct exchange *exchange, int status, const struct text *text);
void respond_empty(struct exchange *exchange, int status);
/* The error JSON, with Retry-After where it is worth trying again. */
void respond_failure(struct exchange *exchange, const struct failure *failure);
/* The same with a number that belongs to it. */
void respond_failure_with(struct exchange *exchange, const struct failure *failure,
                          const char *name, uint64_t value);
void respond_refusal(struct exchange *exchange, enum refusal refusal);
void respond_method(struct exchange *exchange, const char *allow);
/* 412 with the present revision, 0 when the key is absent. */
void respond_condition_failed(struct exchange *exchange, uint64_t revision);
/* One operation made the transaction fail as a whole. */
void respond_operation_failed(struct exchange *exchange, const struct failure *failure,
                              const char *branch, uint64_t position);
/* A copy in the request's pool, for what is borrowed from a view. */
struct bytes respond_copy(struct exchange *exchange, struct bytes bytes);

/* ---- items.c: keys and values as members of JSON objects ---- */
/* As a string, in base64 when it is not UTF-8: then false. */
bool item_add_bytes(struct text *text, struct bytes bytes);
/* A value, behind another member, in steps: begin, pieces until there are none left, end. */
struct item_value {
    struct bytes left; /* borrowed */
    bool is_text;
};
void item_value_begin(struct text *text, struct bytes value, struct item_value *out_item);
void item_value_add_piece(struct text *text, struct item_value *item, size_t bytes_max);
void item_value_end(struct text *text, const struct item_value *item);
void item_add_key(struct text *text, struct bytes key);
void item_add_value(struct text *text, struct bytes value); /* behind another member */
/* name: with the comma, quotes and colon. */
void item_add_number(struct text *text, const char *name, uint64_t value);
void item_add_hash(struct text *text, const char *name, struct hash128 hash);

/* ---- operation.c ---- */
/* What an entry of the log does, as an object; null: nothing, or nothing this version knows. */
void operation_add(struct text *text, const struct buf *entry);

/* ---- families: each answers the exchange, now or later ---- */
void kv_serve(struct exchange *exchange);
void scan_serve(struct exchange *exchange);
void txn_serve(struct exchange *exchange);
void keys_serve(struct exchange *exchange);
void status_serve(struct exchange *exchange);
void admin_serve(struct exchange *exchange);
void cluster_serve(struct exchange *exchange);
/* How many more voters may fail, the least of all groups; negative: so many are missing to a
 * quorum. false: no cluster yet. */
bool cluster_can_lose(const struct http_server *server, const struct node_status *node,
                      int64_t *out_count);
void members_serve(struct exchange *exchange);
void member_serve(struct exchange *exchange);
void log_serve(struct exchange *exchange);
void log_verify_serve(struct exchange *exchange);
void leader_serve(struct exchange *exchange);
void metrics_serve(struct exchange *exchange);
void livez_serve(struct exchange *exchange);
void readyz_serve(struct exchange *exchange);

#endif
