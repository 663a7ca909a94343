/* raft_message.c - messages between consensus cores: src/wire/FORMAT.md 2. */

#include "trilith/raft_message.h"

#include <stdlib.h>

#define HEAD_BYTES RAFT_MESSAGE_HEAD_BYTES
#define FLAG_GRANTED 1u
#define FLAG_FORCED 2u

/* The largest entry must be able to travel alone. */
_Static_assert(HEAD_BYTES + ENTRY_HEADER_BYTES + ENTRY_PAYLOAD_BYTES_MAX <=
                   RAFT_MESSAGE_ENCODED_BYTES_MAX,
               "a message holds any entry");

void raft_message_clear(struct raft_message *message)
{
    for (uint32_t i = 0; i < message->entries_count; i++) buf_release(message->entries[i]);
    free(message->entries);
    *message = (struct raft_message){.entries = NULL};
}

static size_t entries_bytes(const struct raft_message *message)
{
    size_t total = 0;
    for (uint32_t i = 0; i < message->entries_count; i++) total += message->entries[i]->count;
    return total;
}

size_t raft_message_bytes(const struct raft_message *message)
{
    return HEAD_BYTES + entries_bytes(message);
}

void raft_message_encode(const struct raft_message *message, struct buf *buf)
{
    size_t bytes = entries_bytes(message);
    TL_ASSERT(message->entries_count <= RAFT_MESSAGE_ENTRIES_MAX);
    TL_ASSERT(message->entries_count == 0 || message->type == RAFT_APPEND);
    TL_ASSERT(HEAD_BYTES + bytes <= RAFT_MESSAGE_ENCODED_BYTES_MAX);

    write_u8(buf, (uint8_t)message->type);
    write_u8(buf, (uint8_t)((message->granted ? FLAG_GRANTED : 0u) |
                            (message->is_forced ? FLAG_FORCED : 0u)));
    write_u8(buf, (uint8_t)message->reject);
    write_u8(buf, 0);
    write_u32(buf, message->group);
    write_u64(buf, message->from);
    write_u64(buf, message->to);
    write_u64(buf, message->term);
    write_u64(buf, message->index);
    write_u64(buf, message->log_term);
    write_u64(buf, message->commit);
    write_u64(buf, message->sequence);
    write_u64(buf, message->context);
    write_u64(buf, message->hint_index);
    write_u64(buf, message->hint_term);
    write_u32(buf, message->entries_count);
    write_u32(buf, (uint32_t)bytes);
    for (uint32_t i = 0; i < message->entries_count; i++) {
        write_bytes(buf, buf_bytes(message->entries[i]));
    }
}

/* Reads everything before the entries. out_message->entries_count is what the head claims. */
static enum tl_err decode_head(struct reader *reader, struct raft_message *out_message,
                               uint32_t *out_entries_bytes)
{
    uint8_t type = read_u8(reader);
    uint8_t flags = read_u8(reader);
    uint8_t reject = read_u8(reader);
    uint8_t zero = read_u8(reader);
    struct raft_message message = {.type = (enum raft_message_type)type};
    message.group = read_u32(reader);
    message.from = read_u64(reader);
    message.to = read_u64(reader);
    message.term = read_u64(reader);
    message.index = read_u64(reader);
    message.log_term = read_u64(reader);
    message.commit = read_u64(reader);
    message.sequence = read_u64(reader);
    message.context = read_u64(reader);
    message.hint_index = read_u64(reader);
    message.hint_term = read_u64(reader);
    message.entries_count = read_u32(reader);
    uint32_t entries_bytes_claimed = read_u32(reader);
    if (reader->failed || zero != 0 || (flags & ~(FLAG_GRANTED | FLAG_FORCED)) != 0) {
        return TL_ERR_INVALID;
    }
    if (type < RAFT_PREVOTE || type > RAFT_TIMEOUT_NOW || reject > RAFT_REJECT_CHAIN_MISMATCH) {
        return TL_ERR_INVALID;
    }
    if (message.from == RAFT_ID_NONE || message.to == RAFT_ID_NONE) {
        return TL_ERR_INVALID;
    }
    message.granted = (flags & FLAG_GRANTED) != 0;
    message.is_forced = (flags & FLAG_FORCED) != 0;
    message.reject = (enum raft_reject)reject;
    *out_message = message;
    *out_entries_bytes = entries_bytes_claimed;
    return TL_OK;
}

/* Takes the next entry off the reader, checked against the message and the term before it. */
static enum tl_err decode_entry(struct reader *reader, const struct raft_message *message,
                                raft_index index, raft_term term_min, struct buf **out_entry)
{
    if (reader_left(reader) < ENTRY_HEADER_BYTES) {
        return TL_ERR_INVALID;
    }
    size_t payload_bytes = entry_claimed_payload_bytes(reader->at);
    struct bytes source = read_bytes(reader, ENTRY_HEADER_BYTES + payload_bytes);
    struct entry_header header;
    if (reader->failed || entry_decode(source, &header) != TL_OK) {
        return TL_ERR_INVALID;
    }
    /* An index that wrapped is 0, which entry_decode() has refused. */
    if (header.group != message->group || header.index != index) {
        return TL_ERR_INVALID;
    }
    if (header.term < term_min || header.term > message->term) {
        return TL_ERR_INVALID;
    }
    *out_entry = buf_copy(source);
    return TL_OK;
}

/* Takes `claimed` entries off the reader, which ends where they do. The message owns what it holds
 * also when this fails. */
static enum tl_err decode_entries(struct reader *reader, uint32_t claimed,
                                  struct raft_message *message)
{
    message->entries = malloc(claimed * sizeof(struct buf *));
    TL_ASSERT(message->entries != NULL);
    raft_term term_min = message->log_term;
    for (uint32_t i = 0; i < claimed; i++) {
        struct buf *entry;
        enum tl_err err = decode_entry(reader, message, message->index + 1 + i, term_min, &entry);
        if (err != TL_OK) {
            return err;
        }
        message->entries[message->entries_count++] = entry;
        term_min = entry_term(entry);
    }
    return reader_is_done(reader) ? TL_OK : TL_ERR_INVALID;
}

enum tl_err raft_message_decode(struct reader *reader, struct raft_message *out_message)
{
    struct raft_message message;
    uint32_t bytes;
    enum tl_err err = decode_head(reader, &message, &bytes);
    if (err != TL_OK) {
        return err;
    }
    uint32_t claimed = message.entries_count;
    message.entries_count = 0;
    struct bytes source = read_bytes(reader, bytes);
    if (reader->failed || bytes > RAFT_MESSAGE_ENCODED_BYTES_MAX - HEAD_BYTES) {
        return TL_ERR_INVALID;
    }
    /* Before memory is spent: no more entries than the bytes at hand can hold. */
    if (claimed > RAFT_MESSAGE_ENTRIES_MAX || claimed > bytes / ENTRY_HEADER_BYTES) {
        return TL_ERR_INVALID;
    }
    if (claimed == 0) {
        if (bytes != 0) {
            return TL_ERR_INVALID;
        }
        *out_message = message;
        return TL_OK;
    }
    if (message.type != RAFT_APPEND) {
        return TL_ERR_INVALID;
    }

    struct reader entries_reader = reader_make(source);
    err = decode_entries(&entries_reader, claimed, &message);
    if (err != TL_OK) {
        raft_message_clear(&message);
        return err;
    }
    *out_message = message;
    return TL_OK;
}

const char *raft_message_type_name(enum raft_message_type type)
{
    switch (type) {
    case RAFT_PREVOTE:
        return "prevote";
    case RAFT_PREVOTE_REPLY:
        return "prevote_reply";
    case RAFT_VOTE:
        return "vote";
    case RAFT_VOTE_REPLY:
        return "vote_reply";
    case RAFT_APPEND:
        return "append";
    case RAFT_APPEND_REPLY:
        return "append_reply";
    case RAFT_HEARTBEAT:
        return "heartbeat";
    case RAFT_HEARTBEAT_REPLY:
        return "heartbeat_reply";
    case RAFT_READ:
        return "read";
    case RAFT_READ_REPLY:
        return "read_reply";
    case RAFT_TIMEOUT_NOW:
        return "timeout_now";
    }
    return "unknown";
}
