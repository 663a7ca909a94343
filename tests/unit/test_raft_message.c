/* raft_message: what is encoded is decoded, and no bytes of a peer do harm. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

#include "wire_samples.h"

static bool accepts_raft_message(struct bytes source)
{
    struct reader reader = reader_make(source);
    struct raft_message message;
    if (raft_message_decode(&reader, &message) != TL_OK) {
        return false;
    }
    raft_message_clear(&message);
    return reader_is_done(&reader);
}

static struct raft_message decode_good(struct bytes source)
{
    struct reader reader = reader_make(source);
    struct raft_message message;
    cr_assert_eq(raft_message_decode(&reader, &message), TL_OK);
    cr_assert(reader_is_done(&reader));
    return message;
}

Test(raft_message, encoding_is_the_documented_one)
{
    struct buf *buf = sample_raft_message();
    assert_is_format_example("raft_message", buf_bytes(buf));
    buf_release(buf);
}

Test(raft_message, all_fields_are_read_back)
{
    struct raft_message sent = {
        .type = RAFT_APPEND_REPLY,
        .group = 1,
        .from = 2,
        .to = 3,
        .term = 4,
        .index = 5,
        .log_term = 6,
        .commit = 7,
        .sequence = 8,
        .context = 9,
        .granted = true,
        .is_forced = true,
        .reject = RAFT_REJECT_MISMATCH,
        .hint_index = 10,
        .hint_term = 11,
    };
    struct buf *buf = buf_create(raft_message_bytes(&sent));
    raft_message_encode(&sent, buf);
    cr_assert_eq(buf->count, buf->capacity, "raft_message_bytes() says the size");
    struct raft_message received = decode_good(buf_bytes(buf));
    cr_assert_eq(received.type, sent.type);
    cr_assert_eq(received.group, sent.group);
    cr_assert_eq(received.from, sent.from);
    cr_assert_eq(received.to, sent.to);
    cr_assert_eq(received.term, sent.term);
    cr_assert_eq(received.index, sent.index);
    cr_assert_eq(received.log_term, sent.log_term);
    cr_assert_eq(received.commit, sent.commit);
    cr_assert_eq(received.sequence, sent.sequence);
    cr_assert_eq(received.context, sent.context);
    cr_assert_eq(received.granted, sent.granted);
    cr_assert_eq(received.is_forced, sent.is_forced);
    cr_assert_eq(received.reject, sent.reject);
    cr_assert_eq(received.hint_index, sent.hint_index);
    cr_assert_eq(received.hint_term, sent.hint_term);
    cr_assert_eq(received.entries_count, 0);
    cr_assert_null(received.entries);
    buf_release(buf);
}

Test(raft_message, entries_travel_byte_for_byte)
{
    struct raft_message sent = sample_raft_message_value();
    struct buf *buf = sample_raft_message();
    struct raft_message received = decode_good(buf_bytes(buf));
    cr_assert_eq(received.entries_count, sent.entries_count);
    for (uint32_t i = 0; i < sent.entries_count; i++) {
        cr_assert(bytes_equal(buf_bytes(received.entries[i]), buf_bytes(sent.entries[i])));
    }
    raft_message_clear(&sent);
    raft_message_clear(&received);
    cr_assert_null(received.entries);
    buf_release(buf);
}

Test(raft_message, messages_stand_one_behind_the_other)
{
    struct buf *one = sample_raft_message();
    struct buf *two = buf_create(2 * (size_t)one->count);
    write_bytes(two, buf_bytes(one));
    write_bytes(two, buf_bytes(one));
    struct reader reader = reader_make(buf_bytes(two));
    for (int i = 0; i < 2; i++) {
        struct raft_message message;
        cr_assert_eq(raft_message_decode(&reader, &message), TL_OK);
        raft_message_clear(&message);
    }
    cr_assert(reader_is_done(&reader));
    buf_release(one);
    buf_release(two);
}

Test(raft_message, every_prefix_is_refused)
{
    struct buf *buf = sample_raft_message();
    assert_refuses_prefixes(buf_bytes(buf), accepts_raft_message);
    buf_release(buf);
}

/* The sample is refused with `value` at `at`. */
static void assert_refused_with(size_t at, uint8_t value)
{
    struct buf *buf = sample_raft_message();
    buf->data[at] = value;
    cr_assert_not(accepts_raft_message(buf_bytes(buf)), "byte %zu", at);
    buf_release(buf);
}

Test(raft_message, values_that_mean_nothing_are_refused)
{
    assert_refused_with(0, 0);
    assert_refused_with(0, RAFT_TIMEOUT_NOW + 1);
    assert_refused_with(1, 4);
    assert_refused_with(2, RAFT_REJECT_CHAIN_MISMATCH + 1);
    assert_refused_with(3, 1);
    assert_refused_with(8, 0);  /* from nobody */
    assert_refused_with(16, 0); /* to nobody */
}

Test(raft_message, entries_outside_an_append_are_refused)
{
    assert_refused_with(0, RAFT_HEARTBEAT);
}

Test(raft_message, more_entries_than_bytes_are_refused_before_memory_is_spent)
{
    assert_refused_with(88, 3);
    assert_refused_with(91, 0xff);
}

Test(raft_message, fewer_entries_than_bytes_are_refused)
{
    assert_refused_with(88, 1);
    assert_refused_with(88, 0);
}

Test(raft_message, entries_of_another_group_are_refused)
{
    assert_refused_with(RAFT_MESSAGE_HEAD_BYTES + 8, 2);
}

Test(raft_message, a_gap_between_entries_is_refused)
{
    assert_refused_with(32, 5);
    assert_refused_with(RAFT_MESSAGE_HEAD_BYTES + 64 + 5 + 16, 9);
}

Test(raft_message, falling_terms_are_refused)
{
    assert_refused_with(40, 3);                                    /* below log_term */
    assert_refused_with(RAFT_MESSAGE_HEAD_BYTES + 64 + 5 + 24, 1); /* below the entry before */
}

Test(raft_message, an_entry_of_a_later_term_than_the_message_is_refused)
{
    assert_refused_with(24, 1);
}

Test(raft_message, indexes_that_would_wrap_are_refused)
{
    struct buf *buf = sample_raft_message();
    put_u64(buf->data + 32, UINT64_MAX - 1);
    put_u64(buf->data + RAFT_MESSAGE_HEAD_BYTES + 16, UINT64_MAX);
    put_u64(buf->data + RAFT_MESSAGE_HEAD_BYTES + 64 + 5 + 16, 0);
    cr_assert_not(accepts_raft_message(buf_bytes(buf)));
    buf_release(buf);
}

Test(raft_message, entries_that_do_not_decode_are_refused)
{
    assert_refused_with(RAFT_MESSAGE_HEAD_BYTES, ENTRY_FORMAT + 1);
    assert_refused_with(RAFT_MESSAGE_HEAD_BYTES + 4, 6);
}

/* An append of `count` empty entries. */
static struct raft_message append_of(uint32_t count)
{
    struct raft_message message = {.type = RAFT_APPEND, .group = 1, .from = 1, .to = 2, .term = 1};
    message.entries = calloc(count, sizeof(struct buf *));
    message.entries_count = count;
    for (uint32_t i = 0; i < count; i++) {
        message.entries[i] = entry_create(ENTRY_NOOP, 0);
        struct entry_header header = {.group = 1, .index = i + 1, .term = 1};
        entry_seal(message.entries[i], (struct hash128){0, 0}, &header);
    }
    return message;
}

Test(raft_message, the_largest_number_of_entries_travels)
{
    struct raft_message message = append_of(RAFT_MESSAGE_ENTRIES_MAX);
    struct buf *buf = buf_create(raft_message_bytes(&message));
    raft_message_encode(&message, buf);
    cr_assert(accepts_raft_message(buf_bytes(buf)));
    raft_message_clear(&message);
    buf_release(buf);
}

Test(raft_message, encoding_too_many_entries_stops_the_process, .signal = SIGABRT)
{
    struct raft_message message = append_of(RAFT_MESSAGE_ENTRIES_MAX + 1);
    struct buf *buf = buf_create(raft_message_bytes(&message));
    raft_message_encode(&message, buf);
}

Test(raft_message, every_type_has_a_name_of_its_own)
{
    for (int a = RAFT_PREVOTE; a <= RAFT_TIMEOUT_NOW; a++) {
        const char *name = raft_message_type_name((enum raft_message_type)a);
        cr_assert_str_neq(name, "unknown");
        for (int b = RAFT_PREVOTE; b < a; b++) {
            cr_assert_str_neq(name, raft_message_type_name((enum raft_message_type)b));
        }
    }
}
