/* frame.c - frames between nodes and what stands in them: src/wire/FORMAT.md 7. */

#include "trilith/frame.h"

#include "trilith/raft_message.h"

#define AT_MAGIC 0u
#define AT_TYPE 4u
#define AT_ZERO_5 5u
#define AT_ZERO_6 6u
#define AT_PAYLOAD_BYTES 8u
#define AT_ZERO_12 12u
#define AT_CHECKSUM 16u
_Static_assert(AT_CHECKSUM + 8 == FRAME_HEADER_BYTES, "the layout fills the header");

#define HELLO_BYTES 56u
#define POSITION_FORMAT_FIRST 1u
#define POSITION_FORMAT 2u /* with records_max */
#define POSITION_HEAD_BYTES 16u
#define FORWARD_HEAD_BYTES 16u
#define FORWARD_REPLY_BYTES (16u + KV_RESULT_BYTES)
#define LEADER_TRANSFER_BYTES 32u
#define LEADER_TRANSFER_REPLY_BYTES 24u
#define SNAPSHOT_ACK_BYTES 32u

_Static_assert(FORWARD_HEAD_BYTES + ENTRY_PAYLOAD_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX,
               "a frame holds any command");
_Static_assert(RAFT_BATCH_HEAD_BYTES + RAFT_BATCH_SPACE_BYTES + RAFT_MESSAGE_ENCODED_BYTES_MAX <=
                   FRAME_PAYLOAD_BYTES_MAX,
               "a frame holds any message");

/* A frame with room for its payload; the writer stands behind the header. */
static struct buf *frame_begin(size_t payload_bytes)
{
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + payload_bytes);
    frame->count = FRAME_HEADER_BYTES;
    return frame;
}

static size_t payload_bytes_max(uint8_t type)
{
    bool is_part = type == FRAME_PART_FIRST || type == FRAME_PART_NEXT;
    return is_part ? FRAME_PART_BYTES_MAX : FRAME_PAYLOAD_BYTES_MAX;
}

void frame_header_encode(enum frame_type type, struct bytes payload, uint8_t at[FRAME_HEADER_BYTES])
{
    TL_ASSERT(payload.count <= payload_bytes_max((uint8_t)type));
    memset(at, 0, FRAME_HEADER_BYTES);
    put_u32(at + AT_MAGIC, FRAME_MAGIC);
    at[AT_TYPE] = (uint8_t)type;
    put_u32(at + AT_PAYLOAD_BYTES, (uint32_t)payload.count);
    put_u64(at + AT_CHECKSUM, hash_checksum(payload));
}

void frame_seal(struct buf *frame, enum frame_type type)
{
    TL_ASSERT(frame->count >= FRAME_HEADER_BYTES);
    TL_ASSERT(frame->count >= FRAME_HEADER_BYTES);
    struct bytes payload =
        bytes_make(frame->data + FRAME_HEADER_BYTES, frame->count - FRAME_HEADER_BYTES);
    frame_header_encode(type, payload, frame->data);
}

struct buf *frame_create(enum frame_type type, struct bytes payload)
{
    struct buf *frame = frame_begin(payload.count);
    write_bytes(frame, payload);
    frame_seal(frame, type);
    return frame;
}

enum tl_err frame_header_decode(const uint8_t at[FRAME_HEADER_BYTES],
                                struct frame_header *out_header)
{
    uint8_t type = at[AT_TYPE];
    uint32_t payload_bytes = get_u32(at + AT_PAYLOAD_BYTES);
    if (get_u32(at + AT_MAGIC) != FRAME_MAGIC || at[AT_ZERO_5] != 0 ||
        get_u16(at + AT_ZERO_6) != 0 || get_u32(at + AT_ZERO_12) != 0) {
        return TL_ERR_INVALID;
    }
    if (type < FRAME_HELLO || type > FRAME_PART_NEXT || payload_bytes > payload_bytes_max(type)) {
        return TL_ERR_INVALID;
    }
    *out_header = (struct frame_header){
        .payload_bytes = payload_bytes,
        .type = (enum frame_type)type,
        .checksum = get_u64(at + AT_CHECKSUM),
    };
    return TL_OK;
}

bool frame_payload_is_right(const struct frame_header *header, struct bytes payload)
{
    return payload.count == header->payload_bytes && hash_checksum(payload) == header->checksum;
}

struct buf *hello_encode(const struct hello *hello)
{
    bool has_features = hello->format != HELLO_FORMAT_FIRST;
    TL_ASSERT(hello->format >= HELLO_FORMAT_FIRST);
    TL_ASSERT(hello->format <= HELLO_FORMAT);
    if (!has_features) TL_ASSERT(!hello->is_refused);
    struct buf *frame = frame_begin(HELLO_BYTES);
    write_u8(frame, hello->format);
    write_u8(frame, (uint8_t)hello->class);
    write_u8(frame, hello->is_refused ? 1 : 0);
    write_u8(frame, 0);
    write_u32(frame, has_features ? hello->features : 0);
    store_id_write(frame, &hello->cluster_id);
    store_id_write(frame, &hello->from);
    store_id_write(frame, &hello->to);
    frame_seal(frame, FRAME_HELLO);
    return frame;
}

enum tl_err hello_decode(struct bytes payload, struct hello *out_hello)
{
    struct reader reader = reader_make(payload);
    struct hello hello = {.format = read_u8(&reader)};
    uint8_t class = read_u8(&reader);
    uint8_t is_refused = read_u8(&reader);
    uint8_t zero_3 = read_u8(&reader);
    hello.features = read_u32(&reader);
    store_id_read(&reader, &hello.cluster_id);
    store_id_read(&reader, &hello.from);
    store_id_read(&reader, &hello.to);
    bool is_known = hello.format == HELLO_FORMAT_FIRST || hello.format == HELLO_FORMAT;
    if (!reader_is_done(&reader) || !is_known || class >= PEER_CLASSES_COUNT || is_refused > 1 ||
        zero_3 != 0) {
        return TL_ERR_INVALID;
    }
    if (hello.format == HELLO_FORMAT_FIRST && (is_refused != 0 || hello.features != 0)) {
        return TL_ERR_INVALID;
    }
    hello.class = (enum peer_class) class;
    hello.is_refused = is_refused == 1;
    *out_hello = hello;
    return TL_OK;
}

void raft_batch_head_encode(const struct raft_batch_head *head, uint8_t *at)
{
    put_u64(at, head->clock_us);
    put_u64(at + 8, head->life);
    put_u32(at + 16, head->log_commit_age_ms);
    put_u32(at + 20, head->messages_count);
    if (!head->has_space) return;
    put_u64(at + RAFT_BATCH_HEAD_BYTES, head->free_bytes);
    put_u64(at + RAFT_BATCH_HEAD_BYTES + 8, head->map_free_bytes);
}

enum tl_err raft_batch_head_decode(struct reader *reader, bool has_space,
                                   struct raft_batch_head *out_head)
{
    struct raft_batch_head head = {.clock_us = read_u64(reader)};
    head.life = read_u64(reader);
    head.log_commit_age_ms = read_u32(reader);
    head.messages_count = read_u32(reader);
    head.has_space = has_space;
    if (has_space) {
        head.free_bytes = read_u64(reader);
        head.map_free_bytes = read_u64(reader);
    }
    if (reader->failed || head.messages_count > reader_left(reader) / RAFT_MESSAGE_HEAD_BYTES) {
        return TL_ERR_INVALID;
    }
    *out_head = head;
    return TL_OK;
}

struct buf *forward_encode(const struct forward *forward)
{
    struct buf *frame = frame_begin(FORWARD_HEAD_BYTES + forward->command.count);
    write_u64(frame, forward->request_id);
    write_u32(frame, forward->group);
    write_u32(frame, forward->timeout_ms);
    write_bytes(frame, forward->command);
    frame_seal(frame, FRAME_FORWARD);
    return frame;
}

enum tl_err forward_decode(struct bytes payload, struct forward *out_forward)
{
    struct reader reader = reader_make(payload);
    struct forward forward = {.request_id = read_u64(&reader)};
    forward.group = read_u32(&reader);
    forward.timeout_ms = read_u32(&reader);
    forward.command = read_bytes(&reader, reader_left(&reader));
    /* A command that does not decode must never get into a log: apply would stop every node. */
    struct command command;
    if (reader.failed || command_decode(forward.command, &command) != TL_OK) {
        return TL_ERR_INVALID;
    }
    *out_forward = forward;
    return TL_OK;
}

struct buf *forward_reply_encode(const struct forward_reply *reply)
{
    struct buf *frame = frame_begin(FORWARD_REPLY_BYTES + reply->result.results.count);
    write_u64(frame, reply->request_id);
    write_u32(frame, (uint32_t)reply->err);
    write_u32(frame, 0);
    if (reply->err == TL_OK) {
        kv_result_encode(&reply->result, frame);
    } else {
        const uint8_t none[KV_RESULT_BYTES] = {0};
        write_bytes(frame, bytes_make(none, sizeof none));
    }
    frame_seal(frame, FRAME_FORWARD_REPLY);
    return frame;
}

/* A newer node may know errors that this one does not: then only "unknown" is safe to say. */
static enum tl_err err_of_number(uint32_t number)
{
    switch (number) {
#define ERR_CASE(name, value, text) case (uint32_t)(value):
        TL_ERR_LIST(ERR_CASE)
#undef ERR_CASE
        return (enum tl_err)(int32_t)number;
    default:
        return TL_ERR_UNKNOWN;
    }
}

enum tl_err forward_reply_decode(struct bytes payload, struct forward_reply *out_reply)
{
    struct reader reader = reader_make(payload);
    struct forward_reply reply = {.request_id = read_u64(&reader)};
    reply.err = err_of_number(read_u32(&reader));
    uint32_t zero_12 = read_u32(&reader);
    if (reply.err == TL_OK) {
        if (kv_result_decode(&reader, &reply.result) != TL_OK) {
            return TL_ERR_INVALID;
        }
    } else {
        (void)read_bytes(&reader, KV_RESULT_BYTES); /* says nothing */
    }
    if (!reader_is_done(&reader) || zero_12 != 0) {
        return TL_ERR_INVALID;
    }
    *out_reply = reply;
    return TL_OK;
}

struct buf *snapshot_ack_encode(const struct snapshot_ack *ack)
{
    TL_ASSERT(ack->next == 0 || ack->answer == SNAPSHOT_ANSWER_NEXT);
    struct buf *frame = frame_begin(SNAPSHOT_ACK_BYTES);
    write_u32(frame, ack->group);
    write_u8(frame, (uint8_t)ack->answer);
    write_u8(frame, 0);
    write_u16(frame, 0);
    write_u32(frame, ack->next);
    write_u32(frame, 0);
    uint8_t id[HASH_BYTES];
    hash_put(id, ack->id);
    write_bytes(frame, bytes_make(id, sizeof id));
    frame_seal(frame, FRAME_SNAPSHOT_ACK);
    return frame;
}

enum tl_err snapshot_ack_decode(struct bytes payload, struct snapshot_ack *out_ack)
{
    struct reader reader = reader_make(payload);
    struct snapshot_ack ack = {.group = read_u32(&reader)};
    uint8_t answer = read_u8(&reader);
    uint8_t zero_5 = read_u8(&reader);
    uint16_t zero_6 = read_u16(&reader);
    ack.next = read_u32(&reader);
    uint32_t zero_12 = read_u32(&reader);
    struct bytes id = read_bytes(&reader, HASH_BYTES);
    if (!reader_is_done(&reader) || zero_5 != 0 || zero_6 != 0 || zero_12 != 0 ||
        answer > SNAPSHOT_ANSWER_BROKEN || (answer != SNAPSHOT_ANSWER_NEXT && ack.next != 0)) {
        return TL_ERR_INVALID;
    }
    ack.answer = (enum snapshot_answer)answer;
    ack.id = hash_get(id.data);
    *out_ack = ack;
    return TL_OK;
}

struct buf *position_encode(const struct position *position)
{
    TL_ASSERT(position->groups_count <= GENESIS_GROUPS_MAX);
    bool has_records = position->records_max != 0;
    struct buf *frame = frame_begin(POSITION_HEAD_BYTES + (has_records ? 8u : 0u) +
                                    16u * (size_t)position->groups_count);
    write_u8(frame, has_records ? POSITION_FORMAT : POSITION_FORMAT_FIRST);
    write_u8(frame, position->is_refused ? 1 : 0);
    write_u16(frame, 0);
    write_u32(frame, position->groups_count);
    write_u64(frame, position->life);
    if (has_records) {
        write_u32(frame, position->records_max);
        write_u32(frame, 0);
    }
    for (uint32_t i = 0; i < position->groups_count; i++) {
        write_u64(frame, position->last[i]);
        write_u64(frame, position->term[i]);
    }
    frame_seal(frame, FRAME_POSITION);
    return frame;
}

enum tl_err position_decode(struct bytes payload, struct position *out_position)
{
    struct reader reader = reader_make(payload);
    struct position position = {.life = 0};
    uint8_t format = read_u8(&reader);
    uint8_t is_refused = read_u8(&reader);
    uint16_t zero = read_u16(&reader);
    position.groups_count = read_u32(&reader);
    position.life = read_u64(&reader);
    if (reader.failed || format < POSITION_FORMAT_FIRST || format > POSITION_FORMAT ||
        is_refused > 1 || zero != 0 || position.groups_count > GENESIS_GROUPS_MAX) {
        return TL_ERR_INVALID;
    }
    if (format != POSITION_FORMAT_FIRST) {
        position.records_max = read_u32(&reader);
        if (read_u32(&reader) != 0 || position.records_max == 0) return TL_ERR_INVALID;
    }
    position.is_refused = is_refused == 1;
    for (uint32_t i = 0; i < position.groups_count; i++) {
        position.last[i] = read_u64(&reader);
        position.term[i] = read_u64(&reader);
    }
    if (!reader_is_done(&reader)) {
        return TL_ERR_INVALID;
    }
    *out_position = position;
    return TL_OK;
}

struct buf *leader_transfer_encode(const struct leader_transfer *transfer)
{
    struct buf *frame = frame_begin(LEADER_TRANSFER_BYTES);
    write_u64(frame, transfer->request_id);
    write_u32(frame, transfer->group);
    write_u32(frame, transfer->timeout_ms);
    write_u64(frame, transfer->target);
    write_u64(frame, transfer->is_dry_run ? 1 : 0);
    frame_seal(frame, FRAME_LEADER_TRANSFER);
    return frame;
}

enum tl_err leader_transfer_decode(struct bytes payload, struct leader_transfer *out_transfer)
{
    struct reader reader = reader_make(payload);
    struct leader_transfer transfer = {.request_id = read_u64(&reader)};
    transfer.group = read_u32(&reader);
    transfer.timeout_ms = read_u32(&reader);
    transfer.target = read_u64(&reader);
    uint64_t is_dry_run = read_u64(&reader);
    if (!reader_is_done(&reader) || is_dry_run > 1) {
        return TL_ERR_INVALID;
    }
    transfer.is_dry_run = is_dry_run == 1;
    *out_transfer = transfer;
    return TL_OK;
}

struct buf *leader_transfer_reply_encode(const struct leader_transfer_reply *reply)
{
    TL_ASSERT((reply->err == TL_OK) == (reply->verdict != TRANSFER_NONE));
    struct buf *frame = frame_begin(LEADER_TRANSFER_REPLY_BYTES);
    write_u64(frame, reply->request_id);
    write_u32(frame, (uint32_t)reply->err);
    write_u32(frame, (uint32_t)reply->verdict);
    write_u64(frame, reply->leader);
    frame_seal(frame, FRAME_LEADER_TRANSFER_REPLY);
    return frame;
}

enum tl_err leader_transfer_reply_decode(struct bytes payload,
                                         struct leader_transfer_reply *out_reply)
{
    struct reader reader = reader_make(payload);
    struct leader_transfer_reply reply = {.request_id = read_u64(&reader)};
    reply.err = err_of_number(read_u32(&reader));
    uint32_t verdict = read_u32(&reader);
    reply.leader = read_u64(&reader);
    if (!reader_is_done(&reader) || verdict >= TRANSFER_VERDICTS_COUNT ||
        (reply.err == TL_OK) != (verdict != TRANSFER_NONE)) {
        return TL_ERR_INVALID;
    }
    reply.verdict = (enum transfer_verdict)verdict;
    *out_reply = reply;
    return TL_OK;
}
