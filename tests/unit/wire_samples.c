/* wire_samples.c - one good value of every kind. */

#include "wire_samples.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define TIME_US 1700000000000000u
#define FIELD(text)                               \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }

const struct command sample_command_value = {
    .type = COMMAND_PUT,
    .condition = CONDITION_REVISION,
    .condition_revision = 41,
    .value_is_json = true,
    .has_idempotency_key = true,
    .idempotency_key = {0x1111111111111111u, 0x2222222222222222u},
    .by = -1,
    .origin = 0x0807060504030201u,
    .token_us = TIME_US - 1,
    .value_bytes_max = 1048576,
    .records_max = 262144,
    .key = FIELD("stone"),
    .content_type = FIELD("application/json"),
    .value = FIELD("[1]"),
};

const struct kv_result sample_kv_result_value = {
    .status = KV_REPLACED,
    .flags = KV_RESULT_REPLAYED,
    .revision = 42,
    .version = 3,
    .number = -5,
    .time_us = TIME_US,
    .group_revision = 43,
    .index = 99,
};

const struct txn_result sample_txn_result_value = {
    .status = KV_FOUND,
    .revision = 42,
    .version = 3,
    .content_type = FIELD("text/plain"),
    .value = FIELD("cat"),
};

const struct row_header sample_row_value = {
    .time_us = TIME_US,
    .origin = 0x0807060504030201u,
    .create_revision = 2,
    .revision = 42,
    .version = 3,
    .value_bytes = 3,
    .content_type_bytes = 10,
};

const struct record sample_record_value = {
    .fingerprint = {0x3333333333333333u, 0x4444444444444444u},
    .sequence = 17,
    .time_us = TIME_US,
    .status = KV_REPLACED,
    .revision = 42,
    .version = 3,
    .number = -5,
};

const struct queue_item sample_queue_item_value = {
    .key = {0x1111111111111111u, 0x2222222222222222u},
    .time_us = TIME_US,
};

const struct group_state sample_group_state_value = {
    .index = 99,
    .term = 2,
    .time_us = TIME_US,
    .chain_hash = {0x5555555555555555u, 0x6666666666666666u},
    .revision = 43,
    .rows_count = 12,
    .rows_digest = {0x7777777777777777u, 0x8888888888888888u},
    .records_digest = {0x9999999999999999u, 0xaaaaaaaaaaaaaaaau},
    .records_first = 15,
    .records_next = 18,
};

#define CLUSTER_ID                                                \
    {                                                             \
        {                                                         \
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 \
        }                                                         \
    }
#define STORE_ID(n)                                        \
    {                                                      \
        {                                                  \
            n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n \
        }                                                  \
    }

const struct raft_conf sample_conf_value = {
    .voters_count = 2,
    .outgoing_count = 2,
    .learners_count = 1,
    .voters = {1, 3},
    .outgoing = {1, 2},
    .learners = {2},
    .epoch = 5,
};

const struct genesis sample_genesis_value = {
    .cluster_id = CLUSTER_ID,
    .time_us = TIME_US,
    .groups_count = 2,
    .members_count = 2,
    .members = {{"a:8080", "a:9080", STORE_ID(1)}, {"b:8080", "b:9080", STORE_ID(2)}},
};

/* ---- the samples ---- */

static struct buf *entry_at(raft_index index, const char *payload)
{
    struct buf *entry = entry_create(ENTRY_COMMAND, strlen(payload));
    memcpy(entry->data + ENTRY_HEADER_BYTES, payload, strlen(payload));
    struct entry_header header = {.group = 1, .index = index, .term = 2, .time_us = TIME_US};
    entry_seal(entry, (struct hash128){0, 0}, &header);
    return entry;
}

struct buf *sample_entry(void)
{
    return entry_at(7, "hello");
}

struct raft_message sample_raft_message_value(void)
{
    struct raft_message message = {
        .type = RAFT_APPEND,
        .group = 1,
        .from = 1,
        .to = 2,
        .term = 3,
        .index = 6,
        .log_term = 1,
        .commit = 5,
        .sequence = 44,
        .entries_count = 2,
        .entries = calloc(2, sizeof(struct buf *)),
    };
    message.entries[0] = sample_entry();
    message.entries[1] = entry_at(8, "");
    return message;
}

struct buf *sample_raft_message(void)
{
    struct raft_message message = sample_raft_message_value();
    struct buf *buf = buf_create(raft_message_bytes(&message));
    raft_message_encode(&message, buf);
    raft_message_clear(&message);
    return buf;
}

/* The payload of an entry; the entry is released. */
static struct buf *payload_of(struct buf *entry)
{
    struct buf *payload = buf_copy(entry_payload(entry));
    buf_release(entry);
    return payload;
}

struct buf *sample_command(void)
{
    return payload_of(command_encode(&sample_command_value));
}

struct txn sample_txn_value(void)
{
    struct txn txn = {.conditions_count = 2, .ops_count = {2, 1}};
    txn.conditions[0] =
        (struct txn_condition){.type = TXN_IF_REVISION, .number = 41, .key = bytes_of("a")};
    txn.conditions[1] = (struct txn_condition){
        .type = TXN_IF_VALUE, .key = bytes_of("b"), .value = bytes_of("old")};
    txn.ops[TXN_THEN][0] = (struct txn_op){.type = COMMAND_PUT,
                                           .value_is_json = true,
                                           .key = bytes_of("a"),
                                           .content_type = bytes_of("application/json"),
                                           .value = bytes_of("[1]")};
    txn.ops[TXN_THEN][1] =
        (struct txn_op){.type = COMMAND_INCR, .by = -2, .key = bytes_of("count")};
    txn.ops[TXN_ELSE][0] = (struct txn_op){.type = COMMAND_GET, .key = bytes_of("a")};
    return txn;
}

struct buf *sample_txn(void)
{
    struct txn txn = sample_txn_value();
    return txn_encode(&txn);
}

struct buf *sample_txn_result(void)
{
    struct buf *buf = buf_create(txn_result_bytes(&sample_txn_result_value));
    txn_result_encode(&sample_txn_result_value, buf);
    return buf;
}

struct buf *sample_kv_result(void)
{
    struct buf *buf = buf_create(KV_RESULT_BYTES);
    kv_result_encode(&sample_kv_result_value, buf);
    return buf;
}

struct buf *sample_row(void)
{
    struct row_header header = sample_row_value;
    struct bytes value = bytes_of("cat");
    header.value_checksum = hash_checksum(value);
    struct buf *row = buf_create(row_bytes(&header));
    row_encode_head(&header, bytes_of("text/plain"), row->data);
    row->count = ROW_HEADER_BYTES + header.content_type_bytes;
    write_bytes(row, value);
    return row;
}

struct buf *sample_record(void)
{
    uint8_t bytes[RECORD_BYTES];
    record_encode(&sample_record_value, bytes);
    return buf_copy(bytes_make(bytes, sizeof bytes));
}

struct buf *sample_queue_item(void)
{
    uint8_t bytes[QUEUE_ITEM_BYTES];
    queue_item_encode(&sample_queue_item_value, bytes);
    return buf_copy(bytes_make(bytes, sizeof bytes));
}

struct buf *sample_group_state(void)
{
    uint8_t bytes[GROUP_STATE_BYTES_MAX];
    size_t count = group_state_encode(&sample_group_state_value, bytes_of("conf"), bytes);
    return buf_copy(bytes_make(bytes, count));
}

struct buf *sample_genesis(void)
{
    return payload_of(genesis_encode(&sample_genesis_value));
}

struct buf *sample_conf(void)
{
    return payload_of(conf_entry_create(&sample_conf_value));
}

struct buf *sample_placement(void)
{
    static struct placement placement;
    placement_from_genesis(&placement, &sample_genesis_value);
    placement.epoch = 5;
    placement.members[1].role = MEMBER_LEAVING;
    placement.members[placement.members_count++] = (struct placement_member){
        .member = {"b:8080", "b:9080", STORE_ID(3)}, .role = MEMBER_VOTER};
    placement.removed[placement.removed_count++] = 4;
    return placement_encode(&placement);
}

struct buf *sample_birth_note(void)
{
    struct buf *placement = sample_placement();
    const struct birth_note note = {
        .word = BIRTH_WORD_MEMBER,
        .store_id = STORE_ID(1),
        .cluster_id = CLUSTER_ID,
        .view_hash = {0x5555555555555555u, 0x6666666666666666u},
        .address = "a:8080",
        .peer_address = "a:9080",
        .placement = buf_bytes(placement),
    };
    struct buf *buf = birth_note_encode(&note);
    buf_release(placement);
    return buf;
}

struct buf *sample_hello(void)
{
    const struct hello hello = {
        .format = HELLO_FORMAT,
        .class = PEER_CLASS_FORWARD,
        .features = HELLO_FEATURE_CONTINUATION | HELLO_FEATURE_SPACE,
        .cluster_id = CLUSTER_ID,
        .from = STORE_ID(1),
        .to = STORE_ID(2),
    };
    return hello_encode(&hello);
}

struct buf *sample_hello_first(void)
{
    const struct hello hello = {
        .format = HELLO_FORMAT_FIRST,
        .class = PEER_CLASS_FORWARD,
        .cluster_id = CLUSTER_ID,
        .from = STORE_ID(1),
        .to = STORE_ID(2),
    };
    return hello_encode(&hello);
}

struct buf *sample_raft_batch(void)
{
    const struct raft_batch_head head = {
        .clock_us = TIME_US, .life = 12, .log_commit_age_ms = 7, .messages_count = 1};
    struct buf *message = sample_raft_message();
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + RAFT_BATCH_HEAD_BYTES + message->count);
    raft_batch_head_encode(&head, frame->data + FRAME_HEADER_BYTES);
    frame->count = FRAME_HEADER_BYTES + RAFT_BATCH_HEAD_BYTES;
    write_bytes(frame, buf_bytes(message));
    frame_seal(frame, FRAME_RAFT);
    buf_release(message);
    return frame;
}

struct buf *sample_forward(void)
{
    struct buf *command = sample_command();
    const struct forward forward = {
        .request_id = 12, .group = 1, .timeout_ms = 900, .command = buf_bytes(command)};
    struct buf *frame = forward_encode(&forward);
    buf_release(command);
    return frame;
}

struct buf *sample_position(void)
{
    const struct position position = {.life = 12, .groups_count = 1, .last = {99}, .term = {2}};
    return position_encode(&position);
}

struct buf *sample_forward_reply(void)
{
    const struct forward_reply reply = {
        .request_id = 12, .err = TL_OK, .result = sample_kv_result_value};
    return forward_reply_encode(&reply);
}

struct buf *sample_leader_transfer(void)
{
    const struct leader_transfer transfer = {
        .request_id = 13, .group = 1, .timeout_ms = 900, .target = 0x0200, .is_dry_run = true};
    return leader_transfer_encode(&transfer);
}

struct buf *sample_leader_transfer_reply(void)
{
    const struct leader_transfer_reply reply = {
        .request_id = 13, .err = TL_OK, .verdict = TRANSFER_SILENT, .leader = 0x0100};
    return leader_transfer_reply_encode(&reply);
}

struct buf *sample_snapshot_ack(void)
{
    const struct snapshot_ack ack = {.group = 1,
                                     .answer = SNAPSHOT_ANSWER_NEXT,
                                     .next = 700,
                                     .id = {.low = 0x0102030405060708, .high = 0x1112131415161718}};
    return snapshot_ack_encode(&ack);
}

struct buf *sample_digests(void)
{
    const struct digest_report report = {
        .group = 1,
        .points_count = 2,
        .points = {{.index = 256, .digest = {0x1111111111111111u, 0x2222222222222222u}},
                   {.index = 512, .digest = group_state_digest(&sample_group_state_value)}}};
    struct buf *frame = buf_create(FRAME_HEADER_BYTES + digest_report_bytes(report.points_count));
    frame->count = FRAME_HEADER_BYTES;
    digest_report_encode(&report, frame);
    frame_seal(frame, FRAME_DIGESTS);
    return frame;
}

static struct snapshot_info snapshot_info_value(void)
{
    struct snapshot_info info = {
        .group = 1,
        .chunk_limit = 1024,
        .chunks_count = 2,
        .items_count = 1,
        .state = sample_group_state_value,
        .conf_bytes = 4,
        .conf = "conf",
    };
    info.id = snapshot_id(info.group, info.chunk_limit, &info.state, bytes_of("conf"));
    struct buf *row = sample_row();
    info.bytes = SNAPSHOT_CHUNK_HEADER_BYTES + snapshot_item_bytes(bytes_of("rk"), buf_bytes(row));
    buf_release(row);
    return info;
}

struct buf *sample_snapshot_info(void)
{
    struct snapshot_info info = snapshot_info_value();
    return snapshot_info_encode(&info, 0);
}

struct buf *sample_snapshot_chunk(void)
{
    struct snapshot_info info = snapshot_info_value();
    struct buf *row = sample_row();
    struct buf *buf = buf_create(info.bytes);
    buf->count = (uint32_t)info.bytes;
    uint8_t *payload = buf->data + SNAPSHOT_CHUNK_HEADER_BYTES;
    snapshot_item_write(payload, bytes_of("rk"), buf_bytes(row));
    const struct snapshot_chunk chunk = {
        .id = info.id,
        .group = info.group,
        .number = 1,
        .items_count = 1,
        .payload = bytes_make(payload, buf->count - SNAPSHOT_CHUNK_HEADER_BYTES),
    };
    snapshot_chunk_seal(&chunk, buf->data);
    buf_release(row);
    return buf;
}

/* ---- FORMAT.md ---- */

/* Reads hex digits up to '#' or the line's end; false at the fence that ends the block. */
static bool read_hex_line(const char *line, struct buf *out_bytes)
{
    if (strncmp(line, "```", 3) == 0) {
        return false;
    }
    char pair[3] = {0};
    size_t digits_count = 0;
    for (; *line != 0 && *line != '#'; line++) {
        if (strchr("0123456789abcdef", *line) == NULL) {
            continue;
        }
        pair[digits_count++] = *line;
        if (digits_count == 2) {
            write_u8(out_bytes, (uint8_t)strtoul(pair, NULL, 16));
            digits_count = 0;
        }
    }
    cr_assert_eq(digits_count, 0, "half a byte in FORMAT.md");
    return true;
}

static struct buf *read_format_example(const char *name)
{
    FILE *file = fopen(TL_SRCDIR "/src/wire/FORMAT.md", "r");
    cr_assert_not_null(file);
    char heading[64];
    (void)snprintf(heading, sizeof heading, "example: %s\n", name);
    struct buf *bytes = buf_create(4096);
    char line[512];
    bool is_inside = false;
    while (fgets(line, sizeof line, file) != NULL) {
        if (is_inside && !read_hex_line(line, bytes)) {
            break;
        }
        is_inside = is_inside || strcmp(line, heading) == 0;
    }
    (void)fclose(file); /* was only read */
    cr_assert(is_inside, "FORMAT.md has no block \"example: %s\"", name);
    return bytes;
}

void assert_is_format_example(const char *name, struct bytes actual)
{
    struct buf *example = read_format_example(name);
    if (!bytes_equal(buf_bytes(example), actual)) {
        for (size_t i = 0; i < actual.count; i++) {
            (void)fprintf(stderr, "%02x%s", actual.data[i], i % 8 == 7 ? "\n" : " ");
        }
        cr_assert_fail("the encoding is not the one in FORMAT.md: %s", name);
    }
    buf_release(example);
}

/* ---- what is asked of every decoder ---- */

static bool accepts_copy(struct bytes source, accepts_function accepts)
{
    uint8_t *copy = malloc(source.count > 0 ? source.count : 1);
    memcpy(copy, source.data, source.count);
    bool is_accepted = accepts(bytes_make(copy, source.count));
    free(copy);
    return is_accepted;
}

void assert_refuses_prefixes(struct bytes good, accepts_function accepts)
{
    cr_assert(accepts_copy(good, accepts), "the sample itself");
    for (size_t count = 0; count < good.count; count++) {
        cr_assert_not(accepts_copy(bytes_make(good.data, count), accepts), "%zu of %zu bytes",
                      count, good.count);
    }
}

void assert_refuses_one_byte_more(struct bytes good, accepts_function accepts)
{
    struct buf *longer = buf_create(good.count + 1);
    write_bytes(longer, good);
    write_u8(longer, 0);
    cr_assert_not(accepts(buf_bytes(longer)));
    buf_release(longer);
}

void assert_refuses_bit_flips(struct bytes good, accepts_function accepts)
{
    struct buf *copy = buf_copy(good);
    for (size_t bit = 0; bit < 8 * good.count; bit++) {
        copy->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_not(accepts(buf_bytes(copy)), "bit %zu of byte %zu", bit % 8, bit / 8);
        copy->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_release(copy);
}
