/* failure.c - errors and outcomes as clients see them. */

#include "failure.h"

#include "trilith/error.h"

const struct failure *failure_of_refusal(enum refusal refusal)
{
    static const struct failure table[] = {
#define REFUSAL_ROW(name, status_, code_, message_) \
    [name] = {.status = status_, .code = code_, .message = message_},
        REFUSAL_LIST(REFUSAL_ROW)
#undef REFUSAL_ROW
    };
    TL_ASSERT(refusal < REFUSALS_COUNT);
    return &table[refusal];
}

/* Codes that no request should meet are told as 500, and as unknown: nothing is known. */
const struct failure *failure_of_err(enum tl_err err)
{
    static const struct {
        enum tl_err err;
        struct failure failure;
    } table[] = {
        {TL_ERR_FULL,
         {429, "overloaded", "the queue of this node or of the leader is full", false}},
        {TL_ERR_STALLED, {503, "stalled", "the leader's disk does not keep up", false}},
        {TL_ERR_NO_LEADER, {503, "no_leader", "no leader is known", false}},
        {TL_ERR_NOT_LEADER, {503, "no_leader", "the leader has changed", false}},
        {TL_ERR_NO_QUORUM, {503, "no_quorum", "no quorum of the voters answers", false}},
        {TL_ERR_STARTING, {503, "starting", "this node is starting", false}},
        {TL_ERR_STOPPING, {503, "stopping", "this node is stopping", false}},
        {TL_ERR_DIVERGED,
         {503, "diverged", "this node's state is not that of most replicas", false}},
        {TL_ERR_BUSY, {503, "busy", "another change is under way", false}},
        {TL_ERR_STALE, {409, "stale", "something newer is known", false}},
        {TL_ERR_OUT_OF_ORDER, {409, "out_of_order", "it is not the next part", false}},
        {TL_ERR_REPLACED, {503, "replaced", "another entry took its place in the log", false}},
        {TL_ERR_TIMEOUT, {503, "timeout", "it was not done within the request timeout", false}},
        {TL_ERR_CANCELED, {503, "canceled", "it was canceled", false}},
        {TL_ERR_NO_SPACE,
         {507, "disk_full", "the file system of the leader, or of too many voters, is nearly full",
          false}},
        {TL_ERR_MAP_FULL,
         {507, "map_full", "the table has reached --map-size on the leader, or on too many voters",
          false}},
        {TL_ERR_AHEAD,
         {400, "token_ahead", "Trilith-Token is more than 10 s ahead of the cluster's time",
          false}},
        {TL_ERR_INVALID, {400, "refused", "the leader refuses the command", false}},
        {TL_ERR_NOT_FOUND, {404, "no_group", "there is no such group", false}},
        {TL_ERR_COMPACTED, {410, "compacted", "it is below the first kept index", false}},
        {TL_ERR_CORRUPT, {500, "log_damaged", "a log record fails its check", false}},
        {TL_ERR_UNKNOWN, {504, "unknown", "it may have been done, or still be done", true}},
    };
    static const struct failure internal = {500, "internal", "an internal error", true};
    TL_ASSERT(err != TL_OK);
    for (size_t i = 0; i < TL_COUNT_OF(table); i++) {
        if (table[i].err == err) return &table[i].failure;
    }
    return &internal;
}

const struct failure *failure_of_outcome(enum kv_status status)
{
    static const struct failure table[] = {
        [KV_NOT_FOUND] = {404, "not_found", "the key does not exist", false},
        [KV_CONDITION_FAILED] = {412, "condition_failed", "the condition does not hold", false},
        [KV_NOT_INTEGER] = {409, "not_integer", "the value is not an integer", false},
        [KV_OVERFLOW] = {409, "overflow", "the sum does not fit 64 bits", false},
        [KV_TOO_LARGE] = {413, "value_too_large", "the value would pass --max-value-size", false},
        [KV_NOT_LIST] = {409, "not_list", "the value does not take this element", false},
        [KV_KEY_REUSED] = {409, "idempotency_key_reused",
                           "another request has had this Idempotency-Key", false},
        [KV_NO_ROOM] = {429, "no_room", "no room for another Idempotency-Key now", false},
        [KV_TXN_TOO_LARGE] = {413, "txn_too_large",
                              "the transaction would write and return more than 4 MiB", false},
    };
    TL_ASSERT((size_t)status < TL_COUNT_OF(table));
    return table[status].code != NULL ? &table[status] : NULL;
}

const char *status_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Payload Too Large";
    case 414:
        return "URI Too Long";
    case 415:
        return "Unsupported Media Type";
    case 429:
        return "Too Many Requests";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 507:
        return "Insufficient Storage";
    default:
        return "Unknown";
    }
}
