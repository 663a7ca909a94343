/* command: a request and its result are read back as they were asked. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

#include "wire_samples.h"

static bool accepts_command(struct bytes source)
{
    struct command command;
    return command_decode(source, &command) == TL_OK;
}

static bool accepts_kv_result(struct bytes source)
{
    struct reader reader = reader_make(source);
    struct kv_result result;
    return kv_result_decode(&reader, &result) == TL_OK && reader_is_done(&reader);
}

static bool encodes(const struct command *command)
{
    struct buf *entry = command_encode(command);
    bool is_accepted = accepts_command(entry_payload(entry));
    buf_release(entry);
    return is_accepted;
}

Test(command, encoding_is_the_documented_one)
{
    struct buf *payload = sample_command();
    assert_is_format_example("command", buf_bytes(payload));
    buf_release(payload);
}

Test(command, all_fields_are_read_back)
{
    const struct command *sent = &sample_command_value;
    struct buf *payload = sample_command();
    struct command received;
    cr_assert_eq(command_decode(buf_bytes(payload), &received), TL_OK);
    cr_assert_eq(received.type, sent->type);
    cr_assert_eq(received.condition, sent->condition);
    cr_assert_eq(received.condition_revision, sent->condition_revision);
    cr_assert_eq(received.value_is_json, sent->value_is_json);
    cr_assert_eq(received.has_idempotency_key, sent->has_idempotency_key);
    cr_assert(hash_equal(received.idempotency_key, sent->idempotency_key));
    cr_assert(hash_equal(received.fingerprint, command_fingerprint(sent)));
    cr_assert_eq(received.by, sent->by);
    cr_assert_eq(received.origin, sent->origin);
    cr_assert_eq(received.token_us, sent->token_us);
    cr_assert_eq(received.value_bytes_max, sent->value_bytes_max);
    cr_assert_eq(received.records_max, sent->records_max);
    cr_assert(bytes_equal(received.key, sent->key));
    cr_assert(bytes_equal(received.content_type, sent->content_type));
    cr_assert(bytes_equal(received.value, sent->value));
    buf_release(payload);
}

Test(command, without_idempotency_key_it_is_smaller_and_has_no_fingerprint)
{
    struct command command = sample_command_value;
    command.has_idempotency_key = false;
    struct buf *entry = command_encode(&command);
    struct buf *keyed = sample_command();
    struct command received;
    cr_assert_eq(command_decode(entry_payload(entry), &received), TL_OK);
    cr_assert_eq(entry_payload(entry).count, keyed->count - 32);
    cr_assert_not(received.has_idempotency_key);
    cr_assert(hash_equal(received.fingerprint, (struct hash128){0, 0}));
    buf_release(keyed);
    buf_release(entry);
}

Test(command, every_prefix_and_longer_source_is_refused)
{
    struct buf *payload = sample_command();
    assert_refuses_prefixes(buf_bytes(payload), accepts_command);
    assert_refuses_one_byte_more(buf_bytes(payload), accepts_command);
    buf_release(payload);
}

static void assert_refused_with(size_t at, uint8_t value)
{
    struct buf *payload = sample_command();
    payload->data[at] = value;
    cr_assert_not(accepts_command(buf_bytes(payload)), "byte %zu", at);
    buf_release(payload);
}

Test(command, values_that_mean_nothing_are_refused)
{
    assert_refused_with(0, 2);
    assert_refused_with(1, 0);
    assert_refused_with(1, COMMAND_TXN); /* has no key */
    assert_refused_with(1, COMMAND_GET);
    assert_refused_with(2, CONDITION_ABSENT + 1);
    assert_refused_with(3, 4);
    assert_refused_with(20, 1);
}

Test(command, lengths_at_their_limits_are_accepted_and_beyond_refused)
{
    uint8_t *room = calloc(1, VALUE_BYTES_MAX);
    struct command command = {.type = COMMAND_PUT, .has_idempotency_key = true};
    command.key = bytes_make(room, KEY_BYTES_MAX);
    command.content_type = bytes_make(room, CONTENT_TYPE_BYTES_MAX);
    command.value = bytes_make(room, VALUE_BYTES_MAX);
    cr_assert(encodes(&command));
    command.key.count = 1;
    command.content_type.count = 0;
    command.value.count = 0;
    cr_assert(encodes(&command));
    free(room);

    /* One byte moved from the value to the key, and so on: the sum stays right. */
    struct buf *entry = command_encode(&sample_command_value);
    uint8_t *head = entry->data + ENTRY_HEADER_BYTES;
    put_u16(head + 4, 0);
    put_u16(head + 6, 16 + 5);
    cr_assert_not(accepts_command(entry_payload(entry)), "empty key");
    buf_release(entry);
}

/* A command of raw lengths; the content is zeros. */
static bool accepts_lengths(uint16_t key_bytes, uint16_t content_type_bytes, uint32_t value_bytes)
{
    size_t total = 56u + key_bytes + content_type_bytes + value_bytes;
    struct buf *payload = buf_create(total);
    memset(payload->data, 0, total);
    payload->count = (uint32_t)total;
    payload->data[0] = 1;
    payload->data[1] = COMMAND_PUT;
    put_u16(payload->data + 4, key_bytes);
    put_u16(payload->data + 6, content_type_bytes);
    put_u32(payload->data + 8, value_bytes);
    bool is_accepted = accepts_command(buf_bytes(payload));
    buf_release(payload);
    return is_accepted;
}

Test(command, each_length_has_its_limit)
{
    cr_assert(accepts_lengths(KEY_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, VALUE_BYTES_MAX));
    cr_assert_not(accepts_lengths(KEY_BYTES_MAX + 1, 0, 0));
    cr_assert_not(accepts_lengths(1, CONTENT_TYPE_BYTES_MAX + 1, 0));
    cr_assert_not(accepts_lengths(1, 0, VALUE_BYTES_MAX + 1));
    cr_assert_not(accepts_lengths(0, 0, 0));
}

Test(command, encoding_an_empty_key_stops_the_process, .signal = SIGABRT)
{
    struct command command = sample_command_value;
    command.key.count = 0;
    (void)command_encode(&command);
}

/* ---- fingerprint ---- */

static bool same_fingerprint(const struct command *other)
{
    return hash_equal(command_fingerprint(&sample_command_value), command_fingerprint(other));
}

Test(command, fingerprint_covers_what_is_asked)
{
    struct command other = sample_command_value;
    other.type = COMMAND_APPEND;
    cr_assert_not(same_fingerprint(&other));
    other = sample_command_value;
    other.condition = CONDITION_EXISTS;
    cr_assert_not(same_fingerprint(&other));
    other = sample_command_value;
    other.condition_revision++;
    cr_assert_not(same_fingerprint(&other));
    other = sample_command_value;
    other.by++;
    cr_assert_not(same_fingerprint(&other));
    other = sample_command_value;
    other.key = bytes_of("ston");
    cr_assert_not(same_fingerprint(&other));
    other = sample_command_value;
    other.content_type = bytes_of("text/plain");
    cr_assert_not(same_fingerprint(&other));
    other = sample_command_value;
    other.value = bytes_of("[2]");
    cr_assert_not(same_fingerprint(&other));
}

Test(command, fingerprint_does_not_cover_who_received_it_when)
{
    struct command other = sample_command_value;
    other.origin++;
    other.token_us++;
    other.value_bytes_max++;
    other.records_max++;
    other.idempotency_key.low++;
    cr_assert(same_fingerprint(&other));
}

Test(command, number_of_records_is_changed_and_nothing_else)
{
    struct buf *entry = command_encode(&sample_command_value);
    struct command before;
    struct command after;
    cr_assert_eq(command_decode(entry_payload(entry), &before), TL_OK);
    command_set_records_max(entry, 12345);
    cr_assert_eq(command_decode(entry_payload(entry), &after), TL_OK);
    cr_assert_eq(after.records_max, 12345);
    command_set_records_max(entry, before.records_max);
    struct buf *again = command_encode(&sample_command_value);
    cr_assert(bytes_equal(entry_payload(entry), entry_payload(again)));
    buf_release(entry);
    buf_release(again);
}

Test(command, fingerprint_sees_where_one_field_ends_and_the_next_begins)
{
    struct command a = sample_command_value;
    struct command b = sample_command_value;
    a.key = bytes_of("ab");
    a.content_type = bytes_of("c");
    b.key = bytes_of("a");
    b.content_type = bytes_of("bc");
    cr_assert_not(hash_equal(command_fingerprint(&a), command_fingerprint(&b)));
}

/* ---- results ---- */

Test(kv_result, encoding_is_the_documented_one)
{
    struct buf *buf = sample_kv_result();
    cr_assert_eq(buf->count, KV_RESULT_BYTES);
    assert_is_format_example("kv_result", buf_bytes(buf));
    buf_release(buf);
}

Test(kv_result, all_fields_are_read_back)
{
    const struct kv_result *sent = &sample_kv_result_value;
    struct buf *buf = sample_kv_result();
    struct reader reader = reader_make(buf_bytes(buf));
    struct kv_result received;
    cr_assert_eq(kv_result_decode(&reader, &received), TL_OK);
    cr_assert_eq(received.status, sent->status);
    cr_assert_eq(received.flags, sent->flags);
    cr_assert_eq(received.revision, sent->revision);
    cr_assert_eq(received.version, sent->version);
    cr_assert_eq(received.number, sent->number);
    cr_assert_eq(received.time_us, sent->time_us);
    cr_assert_eq(received.group_revision, sent->group_revision);
    cr_assert_eq(received.index, sent->index);
    buf_release(buf);
}

Test(kv_result, prefixes_and_values_that_mean_nothing_are_refused)
{
    struct buf *buf = sample_kv_result();
    assert_refuses_prefixes(buf_bytes(buf), accepts_kv_result);
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0, 0}, {0, KV_STATUS_LAST + 1}, {1, 4}, {2, 1}, {4, 1}, {56, 1}};
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        uint8_t good = buf->data[bad[i].at];
        buf->data[bad[i].at] = bad[i].value;
        cr_assert_not(accepts_kv_result(buf_bytes(buf)), "byte %zu", bad[i].at);
        buf->data[bad[i].at] = good;
    }
    buf_release(buf);
}
