/* command.c - commands and their results: src/wire/FORMAT.md 3. */

#include "trilith/command.h"

#include "trilith/txn.h"

#define RECORDS_MAX_AT 16u /* in the payload */
#define COMMAND_FORMAT 1u
#define HEAD_BYTES 56u
#define KEYED_BYTES (2u * HASH_BYTES) /* idempotency key and fingerprint, when there is a key */
#define FLAG_VALUE_IS_JSON 1u
#define FLAG_KEYED 2u
#define FLAGS_ALL (FLAG_VALUE_IS_JSON | FLAG_KEYED)

_Static_assert(TXN_BYTES_MAX <= VALUE_BYTES_MAX, "no other limit for a transaction");
_Static_assert(HEAD_BYTES + KEYED_BYTES + KEY_BYTES_MAX + CONTENT_TYPE_BYTES_MAX +
                       VALUE_BYTES_MAX <=
                   ENTRY_PAYLOAD_BYTES_MAX,
               "an entry holds any command");

static bool lengths_are_right(const struct command *command)
{
    if (command->type == COMMAND_TXN) {
        return command->key.count == 0 && command->content_type.count == 0 &&
               command->value.count <= TXN_BYTES_MAX;
    }
    return command->key.count >= 1 && command->key.count <= KEY_BYTES_MAX &&
           command->content_type.count <= CONTENT_TYPE_BYTES_MAX &&
           command->value.count <= VALUE_BYTES_MAX;
}

static bool enums_are_right(const struct command *command)
{
    if (command->type == COMMAND_TXN) {
        return command->condition == CONDITION_NONE;
    }
    return command->type >= COMMAND_PUT && command->type <= COMMAND_LIST_APPEND &&
           command->condition <= CONDITION_ABSENT;
}

/* Whether apply can carry it out: the body of a transaction decodes. */
static bool body_is_right(const struct command *command)
{
    struct txn txn;
    return command->type != COMMAND_TXN || txn_decode(command->value, &txn) == TL_OK;
}

struct buf *command_encode(const struct command *command)
{
    TL_ASSERT(lengths_are_right(command));
    TL_ASSERT(enums_are_right(command));

    size_t head_bytes = HEAD_BYTES + (command->has_idempotency_key ? KEYED_BYTES : 0);
    struct buf *entry =
        entry_create(ENTRY_COMMAND, head_bytes + command->key.count + command->content_type.count +
                                        command->value.count);
    entry->count = ENTRY_HEADER_BYTES;
    write_u8(entry, COMMAND_FORMAT);
    write_u8(entry, (uint8_t)command->type);
    write_u8(entry, (uint8_t)command->condition);
    write_u8(entry, (uint8_t)((command->value_is_json ? FLAG_VALUE_IS_JSON : 0) |
                              (command->has_idempotency_key ? FLAG_KEYED : 0)));
    write_u16(entry, (uint16_t)command->key.count);
    write_u16(entry, (uint16_t)command->content_type.count);
    write_u32(entry, (uint32_t)command->value.count);
    write_u32(entry, command->value_bytes_max);
    write_u32(entry, command->records_max);
    write_u32(entry, 0);
    write_u64(entry, command->condition_revision);
    write_u64(entry, (uint64_t)command->by);
    write_u64(entry, command->origin);
    write_u64(entry, command->token_us);
    if (command->has_idempotency_key) {
        uint8_t keyed[KEYED_BYTES];
        hash_put(keyed, command->idempotency_key);
        hash_put(keyed + HASH_BYTES, command_fingerprint(command));
        write_bytes(entry, bytes_make(keyed, sizeof keyed));
    }
    write_bytes(entry, command->key);
    write_bytes(entry, command->content_type);
    write_bytes(entry, command->value);
    TL_ASSERT(entry->count == entry->capacity);
    return entry;
}

void command_set_records_max(struct buf *entry, uint32_t records_max)
{
    TL_ASSERT(entry->count >= ENTRY_HEADER_BYTES + RECORDS_MAX_AT + sizeof records_max);
    put_u32(entry->data + ENTRY_HEADER_BYTES + RECORDS_MAX_AT, records_max);
}

enum tl_err command_decode(struct bytes payload, struct command *out_command)
{
    struct reader reader = reader_make(payload);
    struct command command = {.has_idempotency_key = false};
    uint8_t format = read_u8(&reader);
    command.type = (enum command_type)read_u8(&reader);
    command.condition = (enum command_condition)read_u8(&reader);
    uint8_t flags = read_u8(&reader);
    uint16_t key_bytes = read_u16(&reader);
    uint16_t content_type_bytes = read_u16(&reader);
    uint32_t value_bytes = read_u32(&reader);
    command.value_bytes_max = read_u32(&reader);
    command.records_max = read_u32(&reader);
    uint32_t zero = read_u32(&reader);
    command.condition_revision = read_u64(&reader);
    command.by = (int64_t)read_u64(&reader);
    command.origin = read_u64(&reader);
    command.token_us = read_u64(&reader);
    if (reader.failed || format != COMMAND_FORMAT || (flags & ~FLAGS_ALL) != 0 || zero != 0) {
        return TL_ERR_INVALID;
    }
    command.value_is_json = (flags & FLAG_VALUE_IS_JSON) != 0;
    command.has_idempotency_key = (flags & FLAG_KEYED) != 0;
    if (command.has_idempotency_key) {
        struct bytes keyed = read_bytes(&reader, KEYED_BYTES);
        if (reader.failed) {
            return TL_ERR_INVALID;
        }
        command.idempotency_key = hash_get(keyed.data);
        command.fingerprint = hash_get(keyed.data + HASH_BYTES);
    }
    command.key = read_bytes(&reader, key_bytes);
    command.content_type = read_bytes(&reader, content_type_bytes);
    command.value = read_bytes(&reader, value_bytes);
    if (!reader_is_done(&reader) || !lengths_are_right(&command) || !enums_are_right(&command) ||
        !body_is_right(&command)) {
        return TL_ERR_INVALID;
    }
    *out_command = command;
    return TL_OK;
}

struct hash128 command_fingerprint(const struct command *command)
{
    /* The lengths stand in front: without them "ab" + "c" and "a" + "bc" would be one request. */
    uint8_t head[32] = {(uint8_t)command->type, (uint8_t)command->condition};
    put_u16(head + 2, (uint16_t)command->key.count);
    put_u32(head + 4, (uint32_t)command->content_type.count);
    put_u64(head + 8, command->value.count);
    put_u64(head + 16, command->condition_revision);
    put_u64(head + 24, (uint64_t)command->by);
    const struct bytes parts[] = {
        bytes_make(head, sizeof head),
        command->key,
        command->content_type,
        command->value,
    };
    return hash_parts(parts, TL_COUNT_OF(parts));
}

void kv_result_encode(const struct kv_result *result, struct buf *buf)
{
    write_u8(buf, (uint8_t)result->status);
    write_u8(buf, result->flags);
    write_u16(buf, 0);
    write_u32(buf, (uint32_t)result->results.count);
    write_u64(buf, result->revision);
    write_u64(buf, result->version);
    write_u64(buf, (uint64_t)result->number);
    write_u64(buf, result->time_us);
    write_u64(buf, result->group_revision);
    write_u64(buf, result->index);
    write_u64(buf, 0);
    write_bytes(buf, result->results);
}

enum tl_err kv_result_decode(struct reader *reader, struct kv_result *out_result)
{
    uint8_t status = read_u8(reader);
    uint8_t flags = read_u8(reader);
    uint16_t zero_2 = read_u16(reader);
    uint32_t results_bytes = read_u32(reader);
    struct kv_result result = {.status = (enum kv_status)status, .flags = flags};
    result.revision = read_u64(reader);
    result.version = read_u64(reader);
    result.number = (int64_t)read_u64(reader);
    result.time_us = read_u64(reader);
    result.group_revision = read_u64(reader);
    result.index = read_u64(reader);
    uint64_t zero_56 = read_u64(reader);
    result.results = read_bytes(reader, results_bytes);
    if (reader->failed || zero_2 != 0 || zero_56 != 0) {
        return TL_ERR_INVALID;
    }
    if (status < KV_CREATED || status > KV_STATUS_LAST || (flags & ~KV_RESULT_FLAGS_ALL) != 0) {
        return TL_ERR_INVALID;
    }
    if ((results_bytes > 0 && status != KV_TXN) || !txn_results_are_right(result.results)) {
        return TL_ERR_INVALID;
    }
    *out_result = result;
    return TL_OK;
}
