/* txn.c - transactions and their results: src/wire/FORMAT.md 3. */

#include "trilith/txn.h"

#define HEAD_BYTES 8u
#define CONDITION_HEAD_BYTES 16u
#define OP_HEAD_BYTES 20u
#define FLAG_VALUE_IS_JSON 1u

static bool is_write(const struct txn_op *op)
{
    return op->type != COMMAND_GET;
}

uint32_t txn_find_second_write(const struct txn_op *ops, uint32_t ops_count)
{
    for (uint32_t i = 1; i < ops_count; i++) {
        for (uint32_t j = 0; j < i && is_write(&ops[i]); j++) {
            if (is_write(&ops[j]) && bytes_equal(ops[i].key, ops[j].key)) {
                return i;
            }
        }
    }
    return ops_count;
}

static bool key_is_right(struct bytes key)
{
    return key.count >= 1 && key.count <= KEY_BYTES_MAX;
}

static bool condition_is_right(const struct txn_condition *condition)
{
    bool has_value = condition->type == TXN_IF_VALUE;
    return condition->type >= TXN_IF_REVISION && condition->type <= TXN_IF_EXISTS &&
           key_is_right(condition->key) && (has_value || condition->value.count == 0) &&
           (!has_value || condition->number == 0) &&
           (condition->type != TXN_IF_EXISTS || condition->number <= 1);
}

static bool op_is_right(const struct txn_op *op)
{
    bool has_value = op->type == COMMAND_PUT || op->type == COMMAND_APPEND;
    bool is_known = has_value || op->type == COMMAND_DELETE || op->type == COMMAND_INCR ||
                    op->type == COMMAND_GET;
    return is_known && key_is_right(op->key) && op->content_type.count <= CONTENT_TYPE_BYTES_MAX &&
           (has_value ||
            (op->value.count == 0 && op->content_type.count == 0 && !op->value_is_json)) &&
           (op->type == COMMAND_INCR || op->by == 0);
}

/* ---- encoding ---- */

static size_t txn_bytes(const struct txn *txn)
{
    size_t total = HEAD_BYTES;
    for (uint32_t i = 0; i < txn->conditions_count; i++) {
        total +=
            CONDITION_HEAD_BYTES + txn->conditions[i].key.count + txn->conditions[i].value.count;
    }
    for (uint32_t branch = 0; branch < TXN_BRANCHES_COUNT; branch++) {
        for (uint32_t i = 0; i < txn->ops_count[branch]; i++) {
            const struct txn_op *op = &txn->ops[branch][i];
            total += OP_HEAD_BYTES + op->key.count + op->content_type.count + op->value.count;
        }
    }
    return total;
}

static void encode_condition(const struct txn_condition *condition, struct buf *buf)
{
    TL_ASSERT(condition_is_right(condition));
    write_u8(buf, (uint8_t)condition->type);
    write_u8(buf, 0);
    write_u16(buf, (uint16_t)condition->key.count);
    write_u32(buf, (uint32_t)condition->value.count);
    write_u64(buf, condition->number);
    write_bytes(buf, condition->key);
    write_bytes(buf, condition->value);
}

static void encode_op(const struct txn_op *op, struct buf *buf)
{
    TL_ASSERT(op_is_right(op));
    write_u8(buf, (uint8_t)op->type);
    write_u8(buf, op->value_is_json ? FLAG_VALUE_IS_JSON : 0);
    write_u16(buf, (uint16_t)op->key.count);
    write_u16(buf, (uint16_t)op->content_type.count);
    write_u16(buf, 0);
    write_u32(buf, (uint32_t)op->value.count);
    write_u64(buf, (uint64_t)op->by);
    write_bytes(buf, op->key);
    write_bytes(buf, op->content_type);
    write_bytes(buf, op->value);
}

struct buf *txn_encode(const struct txn *txn)
{
    TL_ASSERT(txn->conditions_count <= TXN_LIST_MAX);
    size_t total = txn_bytes(txn);
    if (total > TXN_BYTES_MAX) {
        return NULL;
    }
    struct buf *buf = buf_create(total);
    write_u16(buf, (uint16_t)txn->conditions_count);
    write_u16(buf, (uint16_t)txn->ops_count[TXN_THEN]);
    write_u16(buf, (uint16_t)txn->ops_count[TXN_ELSE]);
    write_u16(buf, 0);
    for (uint32_t i = 0; i < txn->conditions_count; i++) {
        encode_condition(&txn->conditions[i], buf);
    }
    for (uint32_t branch = 0; branch < TXN_BRANCHES_COUNT; branch++) {
        uint32_t count = txn->ops_count[branch];
        TL_ASSERT(count <= TXN_LIST_MAX);
        TL_ASSERT(txn_find_second_write(txn->ops[branch], count) == count);
        for (uint32_t i = 0; i < count; i++) encode_op(&txn->ops[branch][i], buf);
    }
    TL_ASSERT(buf->count == total);
    return buf;
}

/* ---- decoding ---- */

static bool decode_condition(struct reader *reader, struct txn_condition *out_condition)
{
    *out_condition = (struct txn_condition){.type = (enum txn_condition_type)read_u8(reader)};
    uint8_t zero_1 = read_u8(reader);
    uint16_t key_bytes = read_u16(reader);
    uint32_t value_bytes = read_u32(reader);
    out_condition->number = read_u64(reader);
    out_condition->key = read_bytes(reader, key_bytes);
    out_condition->value = read_bytes(reader, value_bytes);
    return !reader->failed && zero_1 == 0 && condition_is_right(out_condition);
}

static bool decode_op(struct reader *reader, struct txn_op *out_op)
{
    *out_op = (struct txn_op){.type = (enum command_type)read_u8(reader)};
    uint8_t flags = read_u8(reader);
    uint16_t key_bytes = read_u16(reader);
    uint16_t content_type_bytes = read_u16(reader);
    uint16_t zero_6 = read_u16(reader);
    uint32_t value_bytes = read_u32(reader);
    out_op->by = (int64_t)read_u64(reader);
    out_op->key = read_bytes(reader, key_bytes);
    out_op->content_type = read_bytes(reader, content_type_bytes);
    out_op->value = read_bytes(reader, value_bytes);
    out_op->value_is_json = (flags & FLAG_VALUE_IS_JSON) != 0;
    return !reader->failed && zero_6 == 0 && (flags & ~FLAG_VALUE_IS_JSON) == 0 &&
           op_is_right(out_op);
}

static bool decode_branch(struct reader *reader, uint32_t ops_count, struct txn_op *out_ops)
{
    for (uint32_t i = 0; i < ops_count; i++) {
        if (!decode_op(reader, &out_ops[i])) {
            return false;
        }
    }
    return txn_find_second_write(out_ops, ops_count) == ops_count;
}

enum tl_err txn_decode(struct bytes source, struct txn *out_txn)
{
    struct reader reader = reader_make(source);
    uint16_t conditions_count = read_u16(&reader);
    uint16_t then_count = read_u16(&reader);
    uint16_t else_count = read_u16(&reader);
    uint16_t zero_6 = read_u16(&reader);
    if (reader.failed || source.count > TXN_BYTES_MAX || zero_6 != 0 ||
        conditions_count > TXN_LIST_MAX || then_count > TXN_LIST_MAX || else_count > TXN_LIST_MAX) {
        return TL_ERR_INVALID;
    }
    for (uint32_t i = 0; i < conditions_count; i++) {
        if (!decode_condition(&reader, &out_txn->conditions[i])) {
            return TL_ERR_INVALID;
        }
    }
    if (!decode_branch(&reader, then_count, out_txn->ops[TXN_THEN]) ||
        !decode_branch(&reader, else_count, out_txn->ops[TXN_ELSE]) || !reader_is_done(&reader)) {
        return TL_ERR_INVALID;
    }
    out_txn->conditions_count = conditions_count;
    out_txn->ops_count[TXN_THEN] = then_count;
    out_txn->ops_count[TXN_ELSE] = else_count;
    return TL_OK;
}

/* ---- results ---- */

void txn_result_encode(const struct txn_result *result, struct buf *buf)
{
    write_u8(buf, (uint8_t)result->status);
    write_u8(buf, 0);
    write_u16(buf, (uint16_t)result->content_type.count);
    write_u32(buf, (uint32_t)result->value.count);
    write_u64(buf, result->revision);
    write_u64(buf, result->version);
    write_u64(buf, (uint64_t)result->number);
    write_bytes(buf, result->content_type);
    write_bytes(buf, result->value);
}

static bool result_status_is_right(enum kv_status status)
{
    return (status >= KV_CREATED && status <= KV_NOT_FOUND) || status == KV_FOUND;
}

enum tl_err txn_result_decode(struct reader *reader, struct txn_result *out_result)
{
    struct txn_result result = {.status = (enum kv_status)read_u8(reader)};
    uint8_t zero_1 = read_u8(reader);
    uint16_t content_type_bytes = read_u16(reader);
    uint32_t value_bytes = read_u32(reader);
    result.revision = read_u64(reader);
    result.version = read_u64(reader);
    result.number = (int64_t)read_u64(reader);
    result.content_type = read_bytes(reader, content_type_bytes);
    result.value = read_bytes(reader, value_bytes);
    if (reader->failed || zero_1 != 0 || content_type_bytes > CONTENT_TYPE_BYTES_MAX ||
        !result_status_is_right(result.status)) {
        return TL_ERR_INVALID;
    }
    *out_result = result;
    return TL_OK;
}

bool txn_results_are_right(struct bytes results)
{
    struct reader reader = reader_make(results);
    struct txn_result result;
    while (reader_left(&reader) > 0) {
        if (txn_result_decode(&reader, &result) != TL_OK) {
            return false;
        }
    }
    return true;
}
