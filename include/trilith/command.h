/* command.h - a client's request as it stands in a log entry, and what it comes to.
 *
 * Role:       Encoding of commands and results (src/wire/FORMAT.md 3). A command holds everything
 *             its apply needs: no option, clock or locale of a node has a say.
 * Thread:     pure.
 * Ownership:  decoded commands borrow from the payload.
 */

#ifndef TL_COMMAND_H
#define TL_COMMAND_H

#include "trilith/row.h"

#define IDEMPOTENCY_KEY_BYTES_MAX 64u
#define TXN_BYTES_MAX (1024u * 1024u)

/* Stored: explicit numbers. */
enum command_type {
    COMMAND_PUT = 1,
    COMMAND_DELETE = 2,
    COMMAND_APPEND = 3, /* bytes; an element when the present value is a JSON array */
    COMMAND_INCR = 4,
    COMMAND_LIST_APPEND =
        5,           /* /keys APPEND: value is one JSON string; the key holds an array of strings */
    COMMAND_TXN = 6, /* value is a transaction (txn.h); it has no key and no condition of its own */
    COMMAND_GET = 7, /* only within a transaction */
};

enum command_condition {
    CONDITION_NONE = 0,
    CONDITION_REVISION = 1, /* If-Match: "<revision>" */
    CONDITION_EXISTS = 2,   /* If-Match: * */
    CONDITION_ABSENT = 3,   /* If-None-Match: * */
};

struct command {
    enum command_type type;
    enum command_condition condition;
    uint64_t condition_revision;
    bool value_is_json; /* value was checked to be one JSON text */
    bool has_idempotency_key;
    struct hash128 idempotency_key; /* hash of the key */
    struct hash128 fingerprint;     /* command_fingerprint(); set by encode */
    int64_t by;                     /* INCR */
    uint64_t origin;                /* raft_id of the node that received it */
    uint64_t token_us;              /* hybrid time the client has seen; 0 none */
    uint32_t value_bytes_max;  /* limit for the result of appends: of the node that received it */
    uint32_t records_max;      /* --idempotency-records there, or more; 0 means 262,144 */
    struct bytes key;          /* 1 ... KEY_BYTES_MAX; TXN: empty */
    struct bytes content_type; /* <= CONTENT_TYPE_BYTES_MAX */
    struct bytes value;        /* <= VALUE_BYTES_MAX; TXN: txn_encode(), <= TXN_BYTES_MAX */
};

/* A new ENTRY_COMMAND entry whose payload is the command. Lengths are in range. */
struct buf *command_encode(const struct command *command);
/* Changes the records_max of such an entry, which is in no log yet. */
void command_set_records_max(struct buf *entry, uint32_t records_max);

/* Total over any bytes: TL_OK or TL_ERR_INVALID. */
TL_MUST_CHECK enum tl_err command_decode(struct bytes payload, struct command *out_command);

/* Hash of what the request asks (type, condition, key, content type, value, by): not of who
 * received it or when. */
struct hash128 command_fingerprint(const struct command *command);

/* Stored in records and sent: explicit numbers. */
enum kv_status {
    KV_CREATED = 1,  /* the key was absent */
    KV_REPLACED = 2, /* it was there */
    KV_DELETED = 3,
    KV_NOT_FOUND = 4,        /* delete of an absent key */
    KV_CONDITION_FAILED = 5, /* 412; result.revision is the present revision, 0 absent */
    KV_NOT_INTEGER = 6,      /* 409 */
    KV_OVERFLOW = 7,         /* 409 */
    KV_TOO_LARGE = 8,        /* 413: an append would pass value_bytes_max */
    KV_NOT_LIST = 9,    /* append of an element to what is not an array of strings, or of bytes that
                         * are    no JSON to a JSON array */
    KV_KEY_REUSED = 10, /* 409 idempotency_key_reused; not recorded */
    KV_NO_ROOM = 11,    /* 429: no room for the idempotency record; not recorded */
    KV_TXN = 12,        /* a transaction was carried out: results has what became of each operation;
                         * another status, but the two above, is that of the operation which made
                         * the whole of it fail: then number is its position in the branch */
    KV_TXN_TOO_LARGE = 13, /* 413: a transaction would write and return too much */
    KV_FOUND = 14,         /* only of a get within a transaction */
};
#define KV_STATUS_LAST KV_TXN_TOO_LARGE /* of a request */

/* Whether a record may hold it. */
static inline bool kv_status_is_recorded(enum kv_status status)
{
    return status >= KV_CREATED && status <= KV_STATUS_LAST && status != KV_KEY_REUSED &&
           status != KV_NO_ROOM;
}

#define KV_RESULT_REPLAYED 1u /* this is the recorded outcome of an earlier request */
#define KV_RESULT_ELSE 2u     /* of a transaction: a condition does not hold */
#define KV_RESULT_FLAGS_ALL (KV_RESULT_REPLAYED | KV_RESULT_ELSE)
#define KV_RESULT_BYTES 64u /* and the results of a transaction behind it */

struct kv_result {
    enum kv_status status;
    uint8_t flags;
    uint64_t
        revision; /* of the key after the write; CONDITION_FAILED: present one; TXN: the group's */
    uint64_t version;
    /* INCR: new value · APPEND, LIST_APPEND: new length in bytes · NO_ROOM: microseconds of log
     * time until records may go for another one, from a node of an older version 0 */
    int64_t number;
    uint64_t time_us;        /* entry time: the causal token */
    uint64_t group_revision; /* the group's revision after the entry */
    raft_index index;
    /* TXN: its results (txn.h), borrowed; empty too when a repeat's were too large to be kept. */
    struct bytes results;
    /* Holds `results`: a caller that needs them longer acquires it. NULL: it has to copy them. */
    struct buf *results_buf;
};
/* KV_RESULT_BYTES and the results. */
void kv_result_encode(const struct kv_result *result, struct buf *buf);
TL_MUST_CHECK enum tl_err kv_result_decode(struct reader *reader, struct kv_result *out_result);

#endif
