/* failure.h - the one table that gives errors and outcomes their HTTP status, code and text.
 *
 * Role:       What clients are told when a request did not succeed, and whether it may have
 *             happened. Statuses are given to codes here and nowhere else.
 * Thread:     pure.
 */

#ifndef TL_HTTP_FAILURE_H
#define TL_HTTP_FAILURE_H

#include "trilith/command.h"

struct failure {
    int status;
    const char *code;    /* of the error JSON: a word clients may switch on */
    const char *message; /* a sentence; needs no JSON escaping */
    bool is_unknown;     /* outcome "unknown": it may have been executed */
};

/* What http itself refuses, before the node sees it. X(name, status, code, message) */
#define REFUSAL_LIST(X)                                                                            \
    X(REFUSAL_ROUTE, 404, "no_route", "no resource has this path")                                 \
    X(REFUSAL_METHOD, 405, "method_not_allowed", "the resource does not have this method")         \
    X(REFUSAL_ESCAPE, 400, "bad_request", "the path holds a bad percent escape")                   \
    X(REFUSAL_KEY_EMPTY, 400, "bad_request", "the key is empty")                                   \
    X(REFUSAL_KEY_LONG, 414, "key_too_long", "a key has at most 480 bytes")                        \
    X(REFUSAL_QUERY, 400, "bad_request", "a query parameter is unknown, repeated or malformed")    \
    X(REFUSAL_OP, 400, "bad_request", "op is append or incr; by is an integer and for incr")       \
    X(REFUSAL_BODY, 400, "bad_request", "this request takes no body")                              \
    X(REFUSAL_CONSISTENCY, 400, "bad_request",                                                     \
      "consistency is linearizable, causal or local, and given once")                              \
    X(REFUSAL_CONDITION, 400, "bad_request",                                                       \
      "one condition: If-Match with a quoted revision or *, or If-None-Match with *")              \
    X(REFUSAL_IDEMPOTENCY_KEY, 400, "bad_request", "one Idempotency-Key of 1 to 64 bytes")         \
    X(REFUSAL_TOKEN, 400, "bad_request", "Trilith-Token is not a token of this cluster")           \
    X(REFUSAL_JSON, 400, "invalid_json", "the body is not JSON but its Content-Type says so")      \
    X(REFUSAL_CONTENT_TYPE, 415, "unsupported_media_type",                                         \
      "Content-Type is not type/subtype of at most 255 bytes, or there are several")               \
    X(REFUSAL_CONTENT_ENCODING, 415, "unsupported_media_type", "Content-Encoding is not served")   \
    X(REFUSAL_MEMBER, 400, "bad_request", "the body is a JSON object that holds an address alone") \
    X(REFUSAL_LEADER, 400, "bad_request",                                                          \
      "the body is a JSON object that may hold a group's number and a member's address")           \
    X(REFUSAL_GROUP, 404, "no_group", "there is no such group")                                    \
    X(REFUSAL_ADDRESS, 400, "bad_request", "a member is named HOST:PORT or HOST:PORT/PEERPORT")    \
    X(REFUSAL_PEER_PORT, 400, "bad_request",                                                       \
      "the port + 10000 is no port: name the peer port, HOST:PORT/PEERPORT")                       \
    X(REFUSAL_VALUE_LARGE, 413, "value_too_large", "the value is over --max-value-size")           \
    X(REFUSAL_LIMIT, 400, "bad_request", "limit is 1 to 1000, and not for counts")                 \
    X(REFUSAL_TXN_LARGE, 413, "txn_too_large", "a transaction has at most 1 MiB")                  \
    X(REFUSAL_TXN_CONDITION, 400, "bad_request",                                                   \
      "the conditions of a transaction stand in its body")

enum refusal {
#define REFUSAL_ENUM(name, status, code, message) name,
    REFUSAL_LIST(REFUSAL_ENUM)
#undef REFUSAL_ENUM
        REFUSALS_COUNT
};

const struct failure *failure_of_refusal(enum refusal refusal);

/* Of node_write(), node_read() and their callbacks. Never NULL; err != TL_OK. */
const struct failure *failure_of_err(enum tl_err err);

/* Of a decided write: NULL for those that succeeded. */
const struct failure *failure_of_outcome(enum kv_status status);

/* The reason phrase of every status this server sends. */
const char *status_reason(int status);

#endif
