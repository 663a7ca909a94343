/* row: rows, records, queue items and group states are read back, or their damage is seen. */

#include <criterion/criterion.h>
#include <signal.h>

#include "wire_samples.h"

static bool accepts_row(struct bytes source)
{
    struct row_header header;
    return row_decode(source, true, &header) == TL_OK && row_value_is_right(source, &header);
}

static bool accepts_record(struct bytes source)
{
    struct record record;
    return record_decode(source, &record) == TL_OK;
}

static bool accepts_queue_item(struct bytes source)
{
    struct queue_item item;
    return queue_item_decode(source, &item) == TL_OK;
}

static bool accepts_group_state(struct bytes source)
{
    struct group_state state;
    struct bytes conf;
    return group_state_decode(source, &state, &conf) == TL_OK;
}

/* ---- rows ---- */

Test(row, encoding_is_the_documented_one)
{
    struct buf *row = sample_row();
    assert_is_format_example("row", buf_bytes(row));
    buf_release(row);
}

Test(row, all_fields_are_read_back)
{
    struct row_header sent = {
        .time_us = 1,
        .origin = 2,
        .create_revision = 3,
        .revision = 4,
        .version = 5,
        .lease = 6,
        .value_bytes = 7,
        .content_type_bytes = 1,
        .value_checksum = 8,
    };
    uint8_t row[ROW_HEADER_BYTES + 1 + 7] = {0};
    row_encode_head(&sent, bytes_of("t"), row);
    struct row_header received;
    cr_assert_eq(row_decode(bytes_make(row, sizeof row), true, &received), TL_OK);
    cr_assert_eq(received.flags, 0);
    cr_assert_eq(received.time_us, sent.time_us);
    cr_assert_eq(received.origin, sent.origin);
    cr_assert_eq(received.create_revision, sent.create_revision);
    cr_assert_eq(received.revision, sent.revision);
    cr_assert_eq(received.version, sent.version);
    cr_assert_eq(received.lease, sent.lease);
    cr_assert_eq(received.value_bytes, sent.value_bytes);
    cr_assert_eq(received.content_type_bytes, sent.content_type_bytes);
    cr_assert_eq(received.value_checksum, sent.value_checksum);
    cr_assert_eq(received.header_checksum, sent.header_checksum);
}

Test(row, parts_are_where_they_were_put)
{
    struct buf *row = sample_row();
    struct row_header header;
    cr_assert_eq(row_decode(buf_bytes(row), true, &header), TL_OK);
    cr_assert_eq(row_bytes(&header), row->count);
    cr_assert(bytes_equal(row_content_type(buf_bytes(row), &header), bytes_of("text/plain")));
    cr_assert(bytes_equal(row_value(buf_bytes(row), &header), bytes_of("cat")));
    buf_release(row);
}

Test(row, every_prefix_longer_source_and_flipped_bit_is_refused)
{
    struct buf *row = sample_row();
    assert_refuses_prefixes(buf_bytes(row), accepts_row);
    assert_refuses_one_byte_more(buf_bytes(row), accepts_row);
    assert_refuses_bit_flips(buf_bytes(row), accepts_row);
    buf_release(row);
}

Test(row, the_head_alone_decodes_when_the_row_need_not_be_whole)
{
    struct buf *row = sample_row();
    struct row_header header;
    struct bytes head = bytes_make(row->data, ROW_HEADER_BYTES + 10);
    cr_assert_eq(row_decode(head, false, &header), TL_OK);
    cr_assert_eq(row_decode(head, true, &header), TL_ERR_CORRUPT);
    head.count--;
    cr_assert_eq(row_decode(head, false, &header), TL_ERR_CORRUPT);
    buf_release(row);
}

/* Makes the row's header checksum right again after a change. */
static void reseal_row(struct buf *row)
{
    const struct bytes parts[] = {bytes_make(row->data, 88), bytes_make(row->data + 96, 10)};
    put_u64(row->data + 88, hash_parts(parts, 2).low);
}

Test(row, what_a_newer_version_wrote_is_told_from_damage)
{
    struct row_header header;
    const size_t newer[] = {1, 64, 87}; /* flags, reserve */
    for (size_t i = 0; i < TL_COUNT_OF(newer); i++) {
        struct buf *row = sample_row();
        row->data[newer[i]] = 1;
        cr_assert_eq(row_decode(buf_bytes(row), true, &header), TL_ERR_CORRUPT);
        reseal_row(row);
        cr_assert_eq(row_decode(buf_bytes(row), true, &header), TL_ERR_NEWER_FORMAT);
        buf_release(row);
    }
    struct buf *row = sample_row();
    row->data[0] = ROW_FORMAT + 1;
    cr_assert_eq(row_decode(buf_bytes(row), true, &header), TL_ERR_NEWER_FORMAT);
    row->data[0] = 0;
    cr_assert_eq(row_decode(buf_bytes(row), true, &header), TL_ERR_CORRUPT);
    buf_release(row);
}

Test(row, element_depends_on_key_header_and_through_its_checksum_on_the_value)
{
    struct buf *row = sample_row();
    struct hash128 element = row_element(bytes_of("stone"), buf_bytes(row));
    cr_assert_not(hash_equal(element, row_element(bytes_of("stona"), buf_bytes(row))));
    struct hash128 head_only =
        row_element(bytes_of("stone"), bytes_make(row->data, ROW_HEADER_BYTES));
    cr_assert(hash_equal(element, head_only), "the value itself is not read");
    row->data[56] ^= 1;
    cr_assert_not(hash_equal(element, row_element(bytes_of("stone"), buf_bytes(row))));
    buf_release(row);
}

Test(row, encoding_a_value_beyond_the_limit_stops_the_process, .signal = SIGABRT)
{
    struct row_header header = {.value_bytes = VALUE_BYTES_MAX + 1};
    uint8_t room[ROW_HEADER_BYTES];
    row_encode_head(&header, bytes_make(NULL, 0), room);
}

Test(row, env_keys_are_one_kind_byte_and_the_rest)
{
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct bytes key = env_key_make(ENV_KEY_ROW, bytes_of("stone"), room);
    cr_assert(bytes_equal(key, bytes_of("rstone")));
    cr_assert(bytes_equal(env_key_make(ENV_KEY_META, bytes_make(NULL, 0), room), bytes_of("m")));
}

/* ---- records and the queue ---- */

Test(record, encoding_is_the_documented_one)
{
    struct buf *record = sample_record();
    assert_is_format_example("record", buf_bytes(record));
    buf_release(record);
}

Test(record, all_fields_are_read_back)
{
    const struct record sent = {
        .fingerprint = {1, 2},
        .sequence = 3,
        .time_us = 4,
        .status = 5,
        .result_flags = 6,
        .revision = 7,
        .version = 8,
        .number = -9,
        .results = bytes_of("results"),
    };
    uint8_t bytes[RECORD_BYTES + 7];
    cr_assert_eq(record_bytes(&sent), sizeof bytes);
    record_encode(&sent, bytes);
    struct record received;
    cr_assert_eq(record_decode(bytes_make(bytes, sizeof bytes), &received), TL_OK);
    cr_assert(bytes_equal(received.results, sent.results));
    cr_assert(hash_equal(received.fingerprint, sent.fingerprint));
    cr_assert_eq(received.sequence, sent.sequence);
    cr_assert_eq(received.time_us, sent.time_us);
    cr_assert_eq(received.status, sent.status);
    cr_assert_eq(received.result_flags, sent.result_flags);
    cr_assert_eq(received.revision, sent.revision);
    cr_assert_eq(received.version, sent.version);
    cr_assert_eq(received.number, sent.number);
}

Test(record, every_prefix_longer_source_and_flipped_bit_is_refused)
{
    struct buf *record = sample_record();
    assert_refuses_prefixes(buf_bytes(record), accepts_record);
    assert_refuses_one_byte_more(buf_bytes(record), accepts_record);
    assert_refuses_bit_flips(buf_bytes(record), accepts_record);
    buf_release(record);
}

Test(record, what_a_newer_version_wrote_is_told_from_damage)
{
    struct buf *buf = sample_record();
    struct record record;
    buf->data[0] = RECORD_FORMAT + 1;
    cr_assert_eq(record_decode(buf_bytes(buf), &record), TL_ERR_NEWER_FORMAT);
    buf->data[0] = RECORD_FORMAT;
    buf->data[3] = 1;
    cr_assert_eq(record_decode(buf_bytes(buf), &record), TL_ERR_CORRUPT);
    put_u64(buf->data + 88, hash_checksum(bytes_make(buf->data, 88)));
    cr_assert_eq(record_decode(buf_bytes(buf), &record), TL_ERR_NEWER_FORMAT);
    buf_release(buf);
}

Test(queue_item, is_the_documented_one_and_read_back_or_refused)
{
    struct buf *buf = sample_queue_item();
    assert_is_format_example("queue_item", buf_bytes(buf));
    struct queue_item item;
    cr_assert_eq(queue_item_decode(buf_bytes(buf), &item), TL_OK);
    cr_assert(hash_equal(item.key, sample_queue_item_value.key));
    cr_assert_eq(item.time_us, sample_queue_item_value.time_us);
    assert_refuses_prefixes(buf_bytes(buf), accepts_queue_item);
    assert_refuses_one_byte_more(buf_bytes(buf), accepts_queue_item);
    assert_refuses_bit_flips(buf_bytes(buf), accepts_queue_item);
    buf_release(buf);
}

/* ---- the group's state ---- */

Test(group_state, encoding_is_the_documented_one)
{
    struct buf *buf = sample_group_state();
    assert_is_format_example("group_state", buf_bytes(buf));
    buf_release(buf);
}

Test(group_state, all_fields_and_the_configuration_are_read_back)
{
    const struct group_state *sent = &sample_group_state_value;
    struct buf *buf = sample_group_state();
    struct group_state received;
    struct bytes conf;
    cr_assert_eq(group_state_decode(buf_bytes(buf), &received, &conf), TL_OK);
    cr_assert_eq(received.index, sent->index);
    cr_assert_eq(received.term, sent->term);
    cr_assert_eq(received.time_us, sent->time_us);
    cr_assert(hash_equal(received.chain_hash, sent->chain_hash));
    cr_assert_eq(received.revision, sent->revision);
    cr_assert_eq(received.rows_count, sent->rows_count);
    cr_assert(hash_equal(received.rows_digest, sent->rows_digest));
    cr_assert(hash_equal(received.records_digest, sent->records_digest));
    cr_assert_eq(received.records_first, sent->records_first);
    cr_assert_eq(received.records_next, sent->records_next);
    cr_assert(bytes_equal(conf, bytes_of("conf")));
    buf_release(buf);
}

Test(group_state, every_prefix_longer_source_and_flipped_bit_is_refused)
{
    struct buf *buf = sample_group_state();
    assert_refuses_prefixes(buf_bytes(buf), accepts_group_state);
    assert_refuses_one_byte_more(buf_bytes(buf), accepts_group_state);
    assert_refuses_bit_flips(buf_bytes(buf), accepts_group_state);
    buf_release(buf);
}

Test(group_state, an_empty_and_the_largest_configuration_fit)
{
    static uint8_t conf_bytes[GROUP_STATE_CONF_BYTES_MAX];
    static uint8_t room[GROUP_STATE_BYTES_MAX];
    struct group_state state;
    struct bytes conf;
    size_t count = group_state_encode(&sample_group_state_value, bytes_make(NULL, 0), room);
    cr_assert_eq(group_state_decode(bytes_make(room, count), &state, &conf), TL_OK);
    cr_assert_eq(conf.count, 0);
    count = group_state_encode(&sample_group_state_value, bytes_make(conf_bytes, sizeof conf_bytes),
                               room);
    cr_assert_leq(count, GROUP_STATE_BYTES_MAX);
    cr_assert_eq(group_state_decode(bytes_make(room, count), &state, &conf), TL_OK);
    cr_assert_eq(conf.count, sizeof conf_bytes);
}

Test(group_state, a_queue_that_ends_before_it_begins_is_refused)
{
    struct buf *buf = sample_group_state();
    put_u64(buf->data + 104, 14);
    const struct bytes parts[] = {bytes_make(buf->data, 120), bytes_of("conf")};
    put_u64(buf->data + 120, hash_parts(parts, 2).low);
    cr_assert_not(accepts_group_state(buf_bytes(buf)));
    put_u64(buf->data + 104, 15);
    put_u64(buf->data + 120, hash_parts(parts, 2).low);
    cr_assert(accepts_group_state(buf_bytes(buf)), "the checksum above is computed right");
    buf_release(buf);
}
