/* txn.h - a transaction and its results, as they stand in commands and answers.
 *
 * Role:       Encoding of the body of a COMMAND_TXN and of what its operations come to
 *             (src/wire/FORMAT.md 3). Knows shapes and limits, not what an operation does.
 * Thread:     pure.
 * Ownership:  decoded transactions and results borrow from the source.
 * Limits:     TXN_LIST_MAX conditions, and operations in either branch; TXN_BYTES_MAX encoded.
 */

#ifndef TL_TXN_H
#define TL_TXN_H

#include "trilith/command.h"

#define TXN_LIST_MAX 128u
/* What its operations may write and return, keys not counted: an append to a large value writes far
 * more than the request holds, and one entry must not fill a generation. */
#define TXN_EFFECT_BYTES_MAX (4u * 1024u * 1024u)

/* Stored: explicit numbers. */
enum txn_condition_type {
    TXN_IF_REVISION = 1, /* number; 0: the key is absent */
    TXN_IF_VERSION = 2,  /* likewise */
    TXN_IF_VALUE = 3,
    TXN_IF_EXISTS = 4, /* number is 1 or 0 */
};

struct txn_condition {
    enum txn_condition_type type;
    uint64_t number;
    struct bytes key;
    struct bytes value;
};

struct txn_op {
    enum command_type type; /* PUT, DELETE, APPEND, INCR, GET */
    bool value_is_json;
    int64_t by;
    struct bytes key;
    struct bytes content_type;
    struct bytes value;
};

enum txn_branch { TXN_THEN = 0, TXN_ELSE = 1 };
#define TXN_BRANCHES_COUNT 2u

struct txn {
    uint32_t conditions_count;
    uint32_t ops_count[TXN_BRANCHES_COUNT];
    struct txn_condition conditions[TXN_LIST_MAX];
    struct txn_op ops[TXN_BRANCHES_COUNT][TXN_LIST_MAX];
};

/* The first operation that writes a key which one before it has written; ops_count: none does. */
uint32_t txn_find_second_write(const struct txn_op *ops, uint32_t ops_count);

/* The transaction, encoded, in a new buf. Lengths and counts are in range and no branch writes a
 * key twice. NULL: it is over TXN_BYTES_MAX. */
struct buf *txn_encode(const struct txn *txn);

/* Total over any bytes: TL_OK or TL_ERR_INVALID. */
TL_MUST_CHECK enum tl_err txn_decode(struct bytes source, struct txn *out_txn);

/* What became of one operation. */
struct txn_result {
    enum kv_status status; /* CREATED, REPLACED, DELETED, FOUND, NOT_FOUND (get and delete) */
    uint64_t revision;     /* of the key after the transaction */
    uint64_t version;
    int64_t number;            /* as in struct kv_result */
    struct bytes content_type; /* FOUND */
    struct bytes value;        /* FOUND */
};
#define TXN_RESULT_HEAD_BYTES 32u
static inline size_t txn_result_bytes(const struct txn_result *result)
{
    return TXN_RESULT_HEAD_BYTES + result->content_type.count + result->value.count;
}

/* Results stand one behind the other, in the order of the operations. */
void txn_result_encode(const struct txn_result *result, struct buf *buf);
TL_MUST_CHECK enum tl_err txn_result_decode(struct reader *reader, struct txn_result *out_result);

/* Whether the bytes are results, any number of them. */
bool txn_results_are_right(struct bytes results);

#endif
