/* fuzz_wire.c - any bytes into every decoder: an error or a value, and a value encodes back.
 *
 * `make fuzz` links it with libFuzzer. Kinds with a checksum are tried twice, as they are and with
 * the checksum made right: no fuzzer finds a hash, and damage is not the only way to bad bytes.
 */

#include "fuzz_wire.h"

#include <stdlib.h>

#include "trilith/conf_entry.h"
#include "trilith/digest_report.h"
#include "trilith/frame.h"
#include "trilith/frame_parts.h"
#include "trilith/placement.h"
#include "trilith/raft_message.h"
#include "trilith/snapshot_chunk.h"
#include "trilith/txn.h"

uint64_t fuzz_wire_accepted_count;

static void expect_same(struct bytes expected, struct bytes actual)
{
    TL_ASSERT(bytes_equal(expected, actual));
    fuzz_wire_accepted_count++;
}

/* The payload of an entry against the source it was decoded from. */
static void expect_payload(struct bytes source, struct buf *entry)
{
    expect_same(source, entry_payload(entry));
    buf_release(entry);
}

static void expect_frame_payload(struct bytes source, struct buf *frame)
{
    expect_same(source,
                bytes_make(frame->data + FRAME_HEADER_BYTES, frame->count - FRAME_HEADER_BYTES));
    buf_release(frame);
}

static void try_entry(struct bytes source)
{
    struct entry_header header;
    if (entry_decode(source, &header) != TL_OK) {
        return;
    }
    (void)entry_hash_is_right(source, header.hash); /* only that it reads no further */
    struct buf *entry = entry_create(header.type, header.payload_bytes);
    memcpy(entry->data + ENTRY_HEADER_BYTES, source.data + ENTRY_HEADER_BYTES,
           header.payload_bytes);
    entry_seal(entry, (struct hash128){0, 0}, &header);
    memcpy(entry->data + 40, source.data + 40, HASH_BYTES); /* its place in the chain is unknown */
    expect_same(source, buf_bytes(entry));
    buf_release(entry);
}

static void try_raft_message(struct bytes source)
{
    struct reader reader = reader_make(source);
    struct raft_message message;
    if (raft_message_decode(&reader, &message) != TL_OK) {
        return;
    }
    struct buf *buf = buf_create(raft_message_bytes(&message));
    raft_message_encode(&message, buf);
    expect_same(bytes_make(source.data, source.count - reader_left(&reader)), buf_bytes(buf));
    buf_release(buf);
    raft_message_clear(&message);
}

static void try_command(struct bytes source)
{
    struct command command;
    if (command_decode(source, &command) != TL_OK) {
        return;
    }
    /* Encoding computes the fingerprint; a source with another one does not encode back. */
    if (command.has_idempotency_key &&
        !hash_equal(command.fingerprint, command_fingerprint(&command))) {
        return;
    }
    expect_payload(source, command_encode(&command));
}

static void try_txn(struct bytes source)
{
    struct txn txn;
    if (txn_decode(source, &txn) == TL_OK) {
        struct buf *buf = txn_encode(&txn);
        TL_ASSERT(buf != NULL);
        expect_same(source, buf_bytes(buf));
        buf_release(buf);
    }
    struct reader reader = reader_make(source);
    struct txn_result result;
    if (txn_result_decode(&reader, &result) == TL_OK) {
        struct buf *buf = buf_create(txn_result_bytes(&result));
        txn_result_encode(&result, buf);
        expect_same(bytes_make(source.data, buf->count), buf_bytes(buf));
        buf_release(buf);
    }
}

static void try_kv_result(struct bytes source)
{
    struct reader reader = reader_make(source);
    struct kv_result result;
    if (kv_result_decode(&reader, &result) != TL_OK) {
        return;
    }
    struct buf *buf = buf_create(KV_RESULT_BYTES + result.results.count);
    kv_result_encode(&result, buf);
    expect_same(bytes_make(source.data, buf->count), buf_bytes(buf));
    buf_release(buf);
}

static void try_row(struct bytes source)
{
    struct row_header header;
    if (row_decode(source, false, &header) != TL_OK) {
        return;
    }
    uint8_t head[ROW_HEADER_BYTES + CONTENT_TYPE_BYTES_MAX];
    row_encode_head(&header, row_content_type(source, &header), head);
    size_t head_bytes = ROW_HEADER_BYTES + header.content_type_bytes;
    expect_same(bytes_make(source.data, head_bytes), bytes_make(head, head_bytes));
    if (row_decode(source, true, &header) == TL_OK) {
        (void)row_value_is_right(source, &header); /* only that it reads no further */
    }
}

static void try_record(struct bytes source)
{
    struct record record;
    if (record_decode(source, &record) == TL_OK) {
        uint8_t bytes[RECORD_BYTES + RECORD_RESULTS_BYTES_MAX];
        record_encode(&record, bytes);
        expect_same(source, bytes_make(bytes, record_bytes(&record)));
    }
    struct queue_item item;
    if (queue_item_decode(source, &item) == TL_OK) {
        uint8_t bytes[QUEUE_ITEM_BYTES];
        queue_item_encode(&item, bytes);
        expect_same(source, bytes_make(bytes, sizeof bytes));
    }
}

static void try_group_state(struct bytes source)
{
    struct group_state state;
    struct bytes conf;
    if (group_state_decode(source, &state, &conf) != TL_OK) {
        return;
    }
    static uint8_t bytes[GROUP_STATE_BYTES_MAX];
    size_t count = group_state_encode(&state, conf, bytes);
    expect_same(source, bytes_make(bytes, count));
}

static void try_genesis(struct bytes source)
{
    struct genesis genesis;
    if (genesis_decode(source, &genesis) == TL_OK) {
        expect_payload(source, genesis_encode(&genesis));
    }
    struct birth_note note;
    if (birth_note_decode(source, &note) == TL_OK) {
        struct buf *buf = birth_note_encode(&note);
        expect_same(source, buf_bytes(buf));
        buf_release(buf);
    }
}

static void try_placement(struct bytes source)
{
    static struct placement placement;
    if (placement_decode(source, &placement) == TL_OK) {
        struct buf *buf = placement_encode(&placement);
        expect_same(source, buf_bytes(buf));
        buf_release(buf);
    }
}

static void try_conf(struct bytes source)
{
    struct raft_conf conf;
    if (conf_payload_decode(source, &conf) != TL_OK) {
        return;
    }
    TL_ASSERT(raft_conf_is_right(&conf));
    if (source.data[1] != 0) { /* no genesis */
        expect_payload(source, conf_entry_create(&conf));
    }
}

/* The source as the payloads of three parts; a source that begins a frame is one that goes on. */
static void try_parts(struct bytes source)
{
    struct reassembly reassembly = {.bytes = NULL};
    size_t cut = TL_MIN(source.count, (size_t)FRAME_HEADER_BYTES + 8);
    const struct bytes parts[] = {
        bytes_make(source.data, cut),
        bytes_make(source.data + cut, (source.count - cut) / 2),
        bytes_make(source.data + cut + (source.count - cut) / 2,
                   source.count - cut - (source.count - cut) / 2),
    };
    struct frame_header header;
    struct bytes payload;
    enum tl_err err = TL_ERR_NOT_FOUND;
    for (size_t i = 0; i < TL_COUNT_OF(parts) && err == TL_ERR_NOT_FOUND; i++) {
        enum frame_type type = i == 0 ? FRAME_PART_FIRST : FRAME_PART_NEXT;
        err = reassembly_add(&reassembly, type, parts[i], &header, &payload);
        TL_ASSERT(reassembly.capacity <= TL_MAX(2 * source.count, (size_t)FRAME_PART_BYTES_MAX));
    }
    if (err == TL_OK) {
        expect_same(bytes_make(source.data + FRAME_HEADER_BYTES, header.payload_bytes), payload);
    }
    reassembly_clear(&reassembly);
}

static void try_batch(struct bytes source, bool has_space)
{
    struct reader reader = reader_make(source);
    struct raft_batch_head head;
    if (raft_batch_head_decode(&reader, has_space, &head) == TL_OK) {
        uint8_t bytes[RAFT_BATCH_HEAD_BYTES + RAFT_BATCH_SPACE_BYTES];
        size_t count = RAFT_BATCH_HEAD_BYTES + (has_space ? RAFT_BATCH_SPACE_BYTES : 0u);
        raft_batch_head_encode(&head, bytes);
        expect_same(bytes_make(source.data, count), bytes_make(bytes, count));
        for (uint32_t i = 0; i < head.messages_count && !reader.failed; i++) {
            struct raft_message message;
            if (raft_message_decode(&reader, &message) != TL_OK) {
                break;
            }
            raft_message_clear(&message);
        }
    }
}

static void try_frame_payloads(struct bytes source)
{
    struct hello hello;
    if (hello_decode(source, &hello) == TL_OK) {
        expect_frame_payload(source, hello_encode(&hello));
    }
    struct forward forward;
    if (forward_decode(source, &forward) == TL_OK) {
        expect_frame_payload(source, forward_encode(&forward));
    }
    struct position position;
    if (position_decode(source, &position) == TL_OK) {
        expect_frame_payload(source, position_encode(&position));
    }
    struct forward_reply reply;
    if (forward_reply_decode(source, &reply) == TL_OK && reply.err == TL_OK) {
        expect_frame_payload(source, forward_reply_encode(&reply));
    }
    struct leader_transfer transfer;
    if (leader_transfer_decode(source, &transfer) == TL_OK) {
        expect_frame_payload(source, leader_transfer_encode(&transfer));
    }
    struct leader_transfer_reply transfer_reply;
    if (leader_transfer_reply_decode(source, &transfer_reply) == TL_OK &&
        transfer_reply.err == TL_OK) {
        expect_frame_payload(source, leader_transfer_reply_encode(&transfer_reply));
    }
    struct snapshot_ack ack;
    if (snapshot_ack_decode(source, &ack) == TL_OK) {
        expect_frame_payload(source, snapshot_ack_encode(&ack));
    }
    struct reader digests = reader_make(source);
    struct digest_report report;
    if (digest_report_decode(&digests, &report) == TL_OK) {
        struct buf *buf = buf_create(digest_report_bytes(report.points_count));
        digest_report_encode(&report, buf);
        expect_same(bytes_make(source.data, buf->count), buf_bytes(buf));
        buf_release(buf);
    }
    try_batch(source, false);
    try_batch(source, true);
}

static void try_snapshot_chunk(struct bytes source)
{
    struct snapshot_chunk chunk;
    if (snapshot_chunk_decode(source, &chunk) != TL_OK) {
        return;
    }
    struct buf *buf = buf_copy(source);
    snapshot_chunk_seal(&chunk, buf->data);
    expect_same(source, buf_bytes(buf));
    buf_release(buf);
    struct reader reader = reader_make(chunk.payload);
    struct bytes env_key;
    struct bytes value;
    while (reader_left(&reader) > 0 && snapshot_item_read(&reader, &env_key, &value)) {
        uint8_t *item = malloc(snapshot_item_bytes(env_key, value));
        snapshot_item_write(item, env_key, value);
        expect_same(bytes_make(item, SNAPSHOT_ITEM_HEAD_BYTES),
                    bytes_make(env_key.data - SNAPSHOT_ITEM_HEAD_BYTES, SNAPSHOT_ITEM_HEAD_BYTES));
        free(item);
    }
    static struct snapshot_info info;
    if (snapshot_info_decode(source, &info) == TL_OK) {
        buf = snapshot_info_encode(&info, 0);
        expect_same(source, buf_bytes(buf));
        buf_release(buf);
    }
}

static void try_frame(struct bytes source)
{
    struct frame_header header;
    if (source.count < FRAME_HEADER_BYTES || frame_header_decode(source.data, &header) != TL_OK) {
        return;
    }
    struct bytes payload =
        bytes_make(source.data + FRAME_HEADER_BYTES, source.count - FRAME_HEADER_BYTES);
    try_frame_payloads(payload);
    if (frame_payload_is_right(&header, payload)) {
        struct buf *frame = frame_create(header.type, payload);
        expect_same(source, buf_bytes(frame));
        buf_release(frame);
    }
}

/* Writes the checksum of [0, at) and [tail, end) at `at`, when there is room for it. */
static void fix_checksum(struct buf *buf, size_t at, size_t tail, size_t end)
{
    if (buf->count < at + 8 || end > buf->count || tail > end) {
        return;
    }
    const struct bytes parts[] = {bytes_make(buf->data, at),
                                  bytes_make(buf->data + tail, end - tail)};
    put_u64(buf->data + at, hash_parts(parts, TL_COUNT_OF(parts)).low);
}

/* Each kind of stored record with its checksum made right. */
static void try_with_checksums(struct bytes source)
{
    struct buf *buf = buf_copy(source);
    if (buf->count >= ROW_HEADER_BYTES) {
        fix_checksum(buf, 88, ROW_HEADER_BYTES, ROW_HEADER_BYTES + get_u16(buf->data + 2));
        try_row(buf_bytes(buf));
    }
    fix_checksum(buf, 88, 96, buf->count);
    try_record(buf_bytes(buf));
    fix_checksum(buf, 24, 32, 32);
    try_record(buf_bytes(buf));
    fix_checksum(buf, 120, 128, buf->count);
    try_group_state(buf_bytes(buf));
    if (buf->count >= SNAPSHOT_CHUNK_HEADER_BYTES) {
        const struct bytes parts[] = {bytes_make(buf->data, 48),
                                      bytes_make(buf->data + SNAPSHOT_CHUNK_HEADER_BYTES,
                                                 buf->count - SNAPSHOT_CHUNK_HEADER_BYTES)};
        hash_put(buf->data + 48, hash_parts(parts, TL_COUNT_OF(parts)));
        try_snapshot_chunk(buf_bytes(buf));
    }
    buf_release(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes source = bytes_make(data, size);
    try_entry(source);
    try_raft_message(source);
    try_command(source);
    try_txn(source);
    try_kv_result(source);
    try_row(source);
    try_record(source);
    try_group_state(source);
    try_genesis(source);
    try_placement(source);
    try_conf(source);
    try_frame_payloads(source);
    try_parts(source);
    try_frame(source);
    try_snapshot_chunk(source);
    try_with_checksums(source);
    return 0;
}
