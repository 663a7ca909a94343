/* frame: garbage on a connection is known at the first header, damage at the payload's end. */

#include <criterion/criterion.h>
#include <signal.h>

#include "wire_samples.h"

static struct bytes payload_of(const struct buf *frame)
{
    return bytes_make(frame->data + FRAME_HEADER_BYTES, frame->count - FRAME_HEADER_BYTES);
}

static bool accepts_frame(struct bytes source)
{
    struct frame_header header;
    if (source.count < FRAME_HEADER_BYTES) {
        return false;
    }
    return frame_header_decode(source.data, &header) == TL_OK &&
           frame_payload_is_right(&header, bytes_make(source.data + FRAME_HEADER_BYTES,
                                                      source.count - FRAME_HEADER_BYTES));
}

static bool accepts_hello(struct bytes source)
{
    struct hello hello;
    return hello_decode(source, &hello) == TL_OK;
}

static bool accepts_forward(struct bytes source)
{
    struct forward forward;
    return forward_decode(source, &forward) == TL_OK;
}

static bool accepts_forward_reply(struct bytes source)
{
    struct forward_reply reply;
    return forward_reply_decode(source, &reply) == TL_OK;
}

static bool accepts_leader_transfer(struct bytes source)
{
    struct leader_transfer transfer;
    return leader_transfer_decode(source, &transfer) == TL_OK;
}

static bool accepts_leader_transfer_reply(struct bytes source)
{
    struct leader_transfer_reply reply;
    return leader_transfer_reply_decode(source, &reply) == TL_OK;
}

static bool accepts_batch_head(struct bytes source)
{
    struct reader reader = reader_make(source);
    struct raft_batch_head head;
    return raft_batch_head_decode(&reader, false, &head) == TL_OK;
}

Test(frame, header_is_read_back_and_knows_its_payload)
{
    struct buf *frame = frame_create(FRAME_BIRTH, bytes_of("payload"));
    struct frame_header header;
    cr_assert_eq(frame_header_decode(frame->data, &header), TL_OK);
    cr_assert_eq(header.type, FRAME_BIRTH);
    cr_assert_eq(header.payload_bytes, 7);
    cr_assert(frame_payload_is_right(&header, payload_of(frame)));
    cr_assert_not(frame_payload_is_right(&header, bytes_of("payloae")));
    cr_assert_not(frame_payload_is_right(&header, bytes_of("payloa")));
    buf_release(frame);
}

Test(frame, every_prefix_and_longer_source_is_refused)
{
    struct buf *frame = sample_hello();
    assert_refuses_prefixes(buf_bytes(frame), accepts_frame);
    assert_refuses_one_byte_more(buf_bytes(frame), accepts_frame);
    buf_release(frame);
}

Test(frame, every_flipped_bit_of_the_payload_is_seen)
{
    struct buf *frame = sample_hello();
    for (size_t bit = 8 * FRAME_HEADER_BYTES; bit < 8 * (size_t)frame->count; bit++) {
        frame->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_not(accepts_frame(buf_bytes(frame)));
        frame->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_release(frame);
}

Test(frame, garbage_is_recognised_at_the_header)
{
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0, 'G'}, {3, '2'}, {4, 0}, {4, FRAME_PART_NEXT + 1}, {5, 1}, {6, 1}, {12, 1}};
    struct frame_header header;
    struct buf *frame = sample_hello();
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        uint8_t good = frame->data[bad[i].at];
        frame->data[bad[i].at] = bad[i].value;
        cr_assert_eq(frame_header_decode(frame->data, &header), TL_ERR_INVALID);
        frame->data[bad[i].at] = good;
    }
    put_u32(frame->data + 8, FRAME_PAYLOAD_BYTES_MAX);
    cr_assert_eq(frame_header_decode(frame->data, &header), TL_OK);
    put_u32(frame->data + 8, FRAME_PAYLOAD_BYTES_MAX + 1);
    cr_assert_eq(frame_header_decode(frame->data, &header), TL_ERR_INVALID);
    buf_release(frame);
}

Test(frame, sealing_too_large_a_payload_stops_the_process, .signal = SIGABRT)
{
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + FRAME_PAYLOAD_BYTES_MAX + 1);
    frame->count = frame->capacity;
    frame_seal(frame, FRAME_RAFT);
}

/* ---- hello ---- */

Test(hello, is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_hello();
    assert_is_format_example("hello", buf_bytes(frame));
    struct hello hello;
    cr_assert_eq(hello_decode(payload_of(frame), &hello), TL_OK);
    cr_assert_eq(hello.format, HELLO_FORMAT);
    cr_assert_eq(hello.class, PEER_CLASS_FORWARD);
    cr_assert_not(hello.is_refused);
    cr_assert_eq(hello.features, HELLO_FEATURE_CONTINUATION | HELLO_FEATURE_SPACE);
    cr_assert(store_id_equal(&hello.cluster_id, &sample_genesis_value.cluster_id));
    cr_assert(store_id_equal(&hello.from, &sample_genesis_value.members[0].store_id));
    cr_assert(store_id_equal(&hello.to, &sample_genesis_value.members[1].store_id));
    buf_release(frame);
}

/* What nodes of the first version say and expect, byte by byte. */
Test(hello, first_format_is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_hello_first();
    assert_is_format_example("hello_first", buf_bytes(frame));
    struct hello hello;
    cr_assert_eq(hello_decode(payload_of(frame), &hello), TL_OK);
    cr_assert_eq(hello.format, HELLO_FORMAT_FIRST);
    cr_assert_eq(hello.features, 0);
    cr_assert_not(hello.is_refused);
    buf_release(frame);
}

Test(hello, first_format_carries_no_features)
{
    const struct hello hello = {.format = HELLO_FORMAT_FIRST, .features = UINT32_MAX};
    struct hello read;
    struct buf *frame = hello_encode(&hello);
    cr_assert_eq(hello_decode(payload_of(frame), &read), TL_OK);
    cr_assert_eq(read.features, 0);
    buf_release(frame);
}

Test(hello, features_that_are_not_known_are_read_all_the_same)
{
    const struct hello hello = {.format = HELLO_FORMAT, .is_refused = true, .features = 0xa5a5a5a5};
    struct hello read;
    struct buf *frame = hello_encode(&hello);
    cr_assert_eq(hello_decode(payload_of(frame), &read), TL_OK);
    cr_assert_eq(read.features, 0xa5a5a5a5);
    cr_assert(read.is_refused);
    buf_release(frame);
}

struct bad_byte {
    size_t at;
    uint8_t value;
};

static void assert_refuses_bytes(struct buf *frame, const struct bad_byte *bad, size_t bad_count)
{
    assert_refuses_prefixes(payload_of(frame), accepts_hello);
    assert_refuses_one_byte_more(payload_of(frame), accepts_hello);
    for (size_t i = 0; i < bad_count; i++) {
        uint8_t *at = frame->data + FRAME_HEADER_BYTES + bad[i].at;
        uint8_t good = *at;
        *at = bad[i].value;
        cr_assert_not(accepts_hello(payload_of(frame)), "byte %zu", bad[i].at);
        *at = good;
    }
    buf_release(frame);
}

Test(hello, prefixes_and_values_that_mean_nothing_are_refused)
{
    static const struct bad_byte bad[] = {
        {0, 0}, {0, HELLO_FORMAT + 1}, {1, PEER_CLASSES_COUNT}, {2, 2}, {3, 1}};
    assert_refuses_bytes(sample_hello(), bad, TL_COUNT_OF(bad));
    static const struct bad_byte bad_first[] = {
        {0, 0}, {1, PEER_CLASSES_COUNT}, {2, 1}, {3, 1}, {4, 1}, {7, 128}};
    assert_refuses_bytes(sample_hello_first(), bad_first, TL_COUNT_OF(bad_first));
}

/* ---- batches of messages ---- */

Test(raft_batch, is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_raft_batch();
    assert_is_format_example("raft_batch",
                             bytes_make(frame->data, FRAME_HEADER_BYTES + RAFT_BATCH_HEAD_BYTES));
    struct reader reader = reader_make(payload_of(frame));
    struct raft_batch_head head;
    cr_assert_eq(raft_batch_head_decode(&reader, false, &head), TL_OK);
    cr_assert_not(head.has_space);
    cr_assert_eq(head.clock_us, 1700000000000000u);
    cr_assert_eq(head.life, 12);
    cr_assert_eq(head.log_commit_age_ms, 7);
    cr_assert_eq(head.messages_count, 1);
    struct raft_message message;
    cr_assert_eq(raft_message_decode(&reader, &message), TL_OK);
    cr_assert(reader_is_done(&reader));
    raft_message_clear(&message);
    buf_release(frame);
}

Test(raft_batch, with_space_is_the_documented_one_and_read_back)
{
    const struct raft_batch_head head = {
        .clock_us = 1700000000000000u,
        .life = 12,
        .log_commit_age_ms = 7,
        .has_space = true,
        .free_bytes = 3u << 30,
        .map_free_bytes = 1u << 30,
    };
    struct buf *frame =
        buf_create(FRAME_HEADER_BYTES + RAFT_BATCH_HEAD_BYTES + RAFT_BATCH_SPACE_BYTES);
    raft_batch_head_encode(&head, frame->data + FRAME_HEADER_BYTES);
    frame->count = FRAME_HEADER_BYTES + RAFT_BATCH_HEAD_BYTES + RAFT_BATCH_SPACE_BYTES;
    frame_seal(frame, FRAME_RAFT);
    assert_is_format_example("raft_batch_space", buf_bytes(frame));
    struct reader reader = reader_make(payload_of(frame));
    struct raft_batch_head read;
    cr_assert_eq(raft_batch_head_decode(&reader, true, &read), TL_OK);
    cr_assert(reader_is_done(&reader));
    cr_assert(read.has_space);
    cr_assert_eq(read.messages_count, 0);
    cr_assert_eq(read.free_bytes, 3u << 30);
    cr_assert_eq(read.map_free_bytes, 1u << 30);
    for (size_t count = 0; count < RAFT_BATCH_HEAD_BYTES + RAFT_BATCH_SPACE_BYTES; count++) {
        reader = reader_make(bytes_make(payload_of(frame).data, count));
        cr_assert_eq(raft_batch_head_decode(&reader, true, &read), TL_ERR_INVALID);
    }
    buf_release(frame);
}

Test(raft_batch, more_messages_than_bytes_are_refused)
{
    uint8_t room[RAFT_BATCH_HEAD_BYTES + RAFT_MESSAGE_HEAD_BYTES] = {0};
    struct raft_batch_head head = {.messages_count = 1};
    raft_batch_head_encode(&head, room);
    cr_assert(accepts_batch_head(bytes_make(room, sizeof room)));
    cr_assert_not(accepts_batch_head(bytes_make(room, sizeof room - 1)));
    head.messages_count = 2;
    raft_batch_head_encode(&head, room);
    cr_assert_not(accepts_batch_head(bytes_make(room, sizeof room)));
}

/* ---- forwarded writes ---- */

Test(forward, is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_forward();
    struct buf *command = sample_command();
    assert_is_format_example("forward", bytes_make(frame->data, FRAME_HEADER_BYTES + 16));
    struct forward forward;
    cr_assert_eq(forward_decode(payload_of(frame), &forward), TL_OK);
    cr_assert_eq(forward.request_id, 12);
    cr_assert_eq(forward.group, 1);
    cr_assert_eq(forward.timeout_ms, 900);
    cr_assert(bytes_equal(forward.command, buf_bytes(command)));
    buf_release(command);
    buf_release(frame);
}

Test(forward, a_command_that_could_not_be_applied_is_refused)
{
    struct buf *frame = sample_forward();
    assert_refuses_prefixes(payload_of(frame), accepts_forward);
    assert_refuses_one_byte_more(payload_of(frame), accepts_forward);
    frame->data[FRAME_HEADER_BYTES + 16 + 1] = 0; /* command type */
    cr_assert_not(accepts_forward(payload_of(frame)));
    buf_release(frame);
}

Test(forward_reply, is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_forward_reply();
    assert_is_format_example("forward_reply", bytes_make(frame->data, FRAME_HEADER_BYTES + 16));
    struct forward_reply reply;
    cr_assert_eq(forward_reply_decode(payload_of(frame), &reply), TL_OK);
    cr_assert_eq(reply.request_id, 12);
    cr_assert_eq(reply.err, TL_OK);
    cr_assert_eq(reply.result.status, sample_kv_result_value.status);
    cr_assert_eq(reply.result.number, sample_kv_result_value.number);
    cr_assert_eq(reply.result.index, sample_kv_result_value.index);
    assert_refuses_prefixes(payload_of(frame), accepts_forward_reply);
    assert_refuses_one_byte_more(payload_of(frame), accepts_forward_reply);
    buf_release(frame);
}

static bool accepts_snapshot_ack(struct bytes source)
{
    struct snapshot_ack ack;
    return snapshot_ack_decode(source, &ack) == TL_OK;
}

Test(snapshot_ack, is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_snapshot_ack();
    assert_is_format_example("snapshot_ack", buf_bytes(frame));
    struct snapshot_ack ack;
    cr_assert_eq(snapshot_ack_decode(payload_of(frame), &ack), TL_OK);
    cr_assert_eq(ack.group, 1);
    cr_assert_eq(ack.answer, SNAPSHOT_ANSWER_NEXT);
    cr_assert_eq(ack.next, 700);
    cr_assert_eq(ack.id.low, 0x0102030405060708);
    cr_assert_eq(ack.id.high, 0x1112131415161718);
    assert_refuses_prefixes(payload_of(frame), accepts_snapshot_ack);
    assert_refuses_one_byte_more(payload_of(frame), accepts_snapshot_ack);
    buf_release(frame);
}

Test(snapshot_ack, an_unknown_answer_and_a_number_where_none_belongs_are_refused)
{
    struct buf *frame = sample_snapshot_ack();
    frame->data[FRAME_HEADER_BYTES + 4] = SNAPSHOT_ANSWER_BROKEN;
    cr_assert_not(accepts_snapshot_ack(payload_of(frame)));
    put_u32(frame->data + FRAME_HEADER_BYTES + 8, 0);
    cr_assert(accepts_snapshot_ack(payload_of(frame)));
    frame->data[FRAME_HEADER_BYTES + 4] = SNAPSHOT_ANSWER_BROKEN + 1;
    cr_assert_not(accepts_snapshot_ack(payload_of(frame)));
    buf_release(frame);
}

Test(forward_reply, every_error_is_read_back_without_a_result)
{
#define NUMBER(name, number, text) name,
    static const enum tl_err errors[] = {TL_ERR_LIST(NUMBER)};
#undef NUMBER
    for (size_t i = 0; i < TL_COUNT_OF(errors); i++) {
        if (errors[i] == TL_OK) {
            continue;
        }
        const struct forward_reply sent = {.request_id = i, .err = errors[i]};
        struct buf *frame = forward_reply_encode(&sent);
        struct forward_reply reply;
        cr_assert_eq(forward_reply_decode(payload_of(frame), &reply), TL_OK);
        cr_assert_eq(reply.err, errors[i]);
        cr_assert_eq(reply.request_id, i);
        buf_release(frame);
    }
}

Test(forward_reply, an_error_this_version_does_not_know_is_an_unknown_outcome)
{
    const uint32_t numbers[] = {1, (uint32_t)-1000, 0x80000000u};
    const struct forward_reply sent = {.err = TL_ERR_IO};
    struct buf *frame = forward_reply_encode(&sent);
    for (size_t i = 0; i < TL_COUNT_OF(numbers); i++) {
        put_u32(frame->data + FRAME_HEADER_BYTES + 8, numbers[i]);
        struct forward_reply reply;
        cr_assert_eq(forward_reply_decode(payload_of(frame), &reply), TL_OK);
        cr_assert_eq(reply.err, TL_ERR_UNKNOWN);
    }
    buf_release(frame);
}

/* ---- digests ---- */

static bool accepts_digests(struct bytes source)
{
    struct reader reader = reader_make(source);
    struct digest_report report;
    return digest_report_decode(&reader, &report) == TL_OK && reader_is_done(&reader);
}

Test(digest_report, is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_digests();
    assert_is_format_example("digests", buf_bytes(frame));
    struct reader reader = reader_make(payload_of(frame));
    struct digest_report report;
    cr_assert_eq(digest_report_decode(&reader, &report), TL_OK);
    cr_assert_eq(report.group, 1);
    cr_assert_eq(report.points_count, 2);
    cr_assert_eq(report.points[0].index, 256);
    cr_assert_eq(report.points[1].index, 512);
    cr_assert(hash_equal(report.points[1].digest, group_state_digest(&sample_group_state_value)));
    assert_refuses_prefixes(payload_of(frame), accepts_digests);
    assert_refuses_one_byte_more(payload_of(frame), accepts_digests);
    buf_release(frame);
}

Test(digest_report, points_are_counted_and_rise)
{
    struct buf *frame = sample_digests();
    uint8_t *payload = frame->data + FRAME_HEADER_BYTES;
    put_u32(payload + 4, 0);
    cr_assert_not(accepts_digests(payload_of(frame)));
    put_u32(payload + 4, DIGEST_POINTS_MAX + 1);
    cr_assert_not(accepts_digests(payload_of(frame)));
    put_u32(payload + 4, 2);
    cr_assert(accepts_digests(payload_of(frame)));
    put_u64(payload + 8, 512);
    cr_assert_not(accepts_digests(payload_of(frame)), "an index twice");
    put_u64(payload + 8, 0);
    cr_assert_not(accepts_digests(payload_of(frame)), "index 0");
    put_u64(payload + 8, 256);
    put_u64(payload + 32, RAFT_NUMBER_MAX);
    cr_assert(accepts_digests(payload_of(frame)));
    put_u64(payload + 32, RAFT_NUMBER_MAX + 1);
    cr_assert_not(accepts_digests(payload_of(frame)), "no honest peer's");
    buf_release(frame);
}

Test(group_state, digest_is_over_every_field)
{
    struct group_state state = sample_group_state_value;
    const struct hash128 digest = group_state_digest(&state);
    uint64_t *const fields[] = {&state.index,
                                &state.term,
                                &state.time_us,
                                &state.chain_hash.low,
                                &state.revision,
                                &state.rows_count,
                                &state.rows_digest.high,
                                &state.records_digest.low,
                                &state.records_first,
                                &state.records_next};
    for (size_t i = 0; i < TL_COUNT_OF(fields); i++) {
        (*fields[i])++;
        cr_assert_not(hash_equal(group_state_digest(&state), digest), "field %zu", i);
        (*fields[i])--;
    }
    cr_assert(hash_equal(group_state_digest(&state), digest));
}

/* ---- positions ---- */

static bool accepts_position(struct bytes source)
{
    struct position position;
    return position_decode(source, &position) == TL_OK;
}

Test(position, is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_position();
    assert_is_format_example("position", buf_bytes(frame));
    struct position position;
    cr_assert_eq(position_decode(payload_of(frame), &position), TL_OK);
    cr_assert_not(position.is_refused);
    cr_assert_eq(position.life, 12);
    cr_assert_eq(position.groups_count, 1);
    cr_assert_eq(position.last[0], 99);
    cr_assert_eq(position.term[0], 2);
    assert_refuses_prefixes(payload_of(frame), accepts_position);
    assert_refuses_one_byte_more(payload_of(frame), accepts_position);
    buf_release(frame);
}

Test(position, with_the_number_of_records_is_of_a_format_of_its_own)
{
    const struct position said = {
        .life = 12, .records_max = 5, .groups_count = 1, .last = {99}, .term = {2}};
    struct buf *frame = position_encode(&said);
    cr_assert_eq(frame->data[FRAME_HEADER_BYTES], 2);
    struct position position;
    cr_assert_eq(position_decode(payload_of(frame), &position), TL_OK);
    cr_assert_eq(position.records_max, 5);
    cr_assert_eq(position.life, 12);
    cr_assert_eq(position.last[0], 99);
    cr_assert_eq(position.term[0], 2);
    assert_refuses_prefixes(payload_of(frame), accepts_position);
    assert_refuses_one_byte_more(payload_of(frame), accepts_position);
    frame->data[FRAME_HEADER_BYTES + 20] = 1;
    cr_assert_not(accepts_position(payload_of(frame)), "not zero");
    frame->data[FRAME_HEADER_BYTES + 20] = 0;
    frame->data[FRAME_HEADER_BYTES + 16] = 0;
    cr_assert_not(accepts_position(payload_of(frame)), "none is said by the first format");
    buf_release(frame);
}

Test(position, values_that_mean_nothing_are_refused)
{
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0, 2}, {1, 2}, {2, 1}, {4, 2}, {7, 1}};
    struct buf *frame = sample_position();
    uint8_t *payload = frame->data + FRAME_HEADER_BYTES;
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        uint8_t good = payload[bad[i].at];
        payload[bad[i].at] = bad[i].value;
        cr_assert_not(accepts_position(payload_of(frame)), "byte %zu", bad[i].at);
        payload[bad[i].at] = good;
    }
    buf_release(frame);
}

/* ---- transfers of leadership ---- */

Test(leader_transfer, is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_leader_transfer();
    assert_is_format_example("leader_transfer", buf_bytes(frame));
    struct leader_transfer transfer;
    cr_assert_eq(leader_transfer_decode(payload_of(frame), &transfer), TL_OK);
    cr_assert_eq(transfer.request_id, 13);
    cr_assert_eq(transfer.group, 1);
    cr_assert_eq(transfer.timeout_ms, 900);
    cr_assert_eq(transfer.target, 0x0200);
    cr_assert(transfer.is_dry_run);
    assert_refuses_prefixes(payload_of(frame), accepts_leader_transfer);
    assert_refuses_one_byte_more(payload_of(frame), accepts_leader_transfer);
    frame->data[FRAME_HEADER_BYTES + 24] = 2; /* neither yes nor no */
    cr_assert_not(accepts_leader_transfer(payload_of(frame)));
    buf_release(frame);
}

Test(leader_transfer_reply, is_the_documented_one_and_read_back)
{
    struct buf *frame = sample_leader_transfer_reply();
    assert_is_format_example("leader_transfer_reply", buf_bytes(frame));
    struct leader_transfer_reply reply;
    cr_assert_eq(leader_transfer_reply_decode(payload_of(frame), &reply), TL_OK);
    cr_assert_eq(reply.request_id, 13);
    cr_assert_eq(reply.err, TL_OK);
    cr_assert_eq(reply.verdict, TRANSFER_SILENT);
    cr_assert_eq(reply.leader, 0x0100);
    assert_refuses_prefixes(payload_of(frame), accepts_leader_transfer_reply);
    assert_refuses_one_byte_more(payload_of(frame), accepts_leader_transfer_reply);
    buf_release(frame);
}

Test(leader_transfer_reply, has_a_verdict_or_an_error)
{
    struct buf *frame = sample_leader_transfer_reply();
    uint8_t *verdict = frame->data + FRAME_HEADER_BYTES + 12;
    *verdict = TRANSFER_NONE;
    cr_assert_not(accepts_leader_transfer_reply(payload_of(frame)));
    *verdict = TRANSFER_VERDICTS_COUNT;
    cr_assert_not(accepts_leader_transfer_reply(payload_of(frame)));
    put_u32(frame->data + FRAME_HEADER_BYTES + 8, (uint32_t)TL_ERR_NOT_LEADER);
    *verdict = TRANSFER_DONE;
    cr_assert_not(accepts_leader_transfer_reply(payload_of(frame)));
    *verdict = TRANSFER_NONE;
    cr_assert(accepts_leader_transfer_reply(payload_of(frame)));
    buf_release(frame);
}
