/* entry: one encoding that shows damage at any byte, in any place of the chain. */

#include <criterion/criterion.h>
#include <signal.h>

#include "wire_samples.h"

static const struct hash128 zero_hash = {0, 0};

static bool accepts_entry(struct bytes source)
{
    struct entry_header header;
    return entry_decode(source, &header) == TL_OK;
}

static bool accepts_chained_entry(struct bytes source)
{
    return accepts_entry(source) && entry_hash_is_right(source, zero_hash);
}

Test(entry, encoding_is_the_documented_one)
{
    struct buf *entry = sample_entry();
    assert_is_format_example("entry", buf_bytes(entry));
    buf_release(entry);
}

Test(entry, sealed_fields_are_read_back)
{
    struct buf *entry = sample_entry();
    struct entry_header header;
    cr_assert_eq(entry_decode(buf_bytes(entry), &header), TL_OK);
    cr_assert_eq(header.type, ENTRY_COMMAND);
    cr_assert_eq(header.group, 1);
    cr_assert_eq(header.index, 7);
    cr_assert_eq(header.term, 2);
    cr_assert_eq(header.time_us, 1700000000000000u);
    cr_assert_eq(header.payload_bytes, 5);
    cr_assert_eq(entry_claimed_payload_bytes(entry->data), 5);
    cr_assert_eq(entry_type_of(entry), header.type);
    cr_assert_eq(entry_index(entry), header.index);
    cr_assert_eq(entry_term(entry), header.term);
    cr_assert_eq(entry_time_us(entry), header.time_us);
    cr_assert(hash_equal(entry_hash(entry), header.hash));
    cr_assert(bytes_equal(entry_payload(entry), bytes_of("hello")));
    buf_release(entry);
}

Test(entry, seal_tells_the_caller_type_length_and_hash)
{
    struct buf *entry = entry_create(ENTRY_NOOP, 0);
    struct entry_header header = {.group = 3, .index = 1, .term = 1};
    entry_seal(entry, zero_hash, &header);
    cr_assert_eq(header.type, ENTRY_NOOP);
    cr_assert_eq(header.payload_bytes, 0);
    cr_assert(hash_equal(header.hash, entry_hash(entry)));
    buf_release(entry);
}

Test(entry, sealing_again_moves_it_to_another_place)
{
    /* A proposal that never got into a log is sealed anew by the next leader. */
    struct buf *entry = sample_entry();
    struct entry_header header = {.group = 1, .index = 9, .term = 5, .time_us = 1};
    entry_seal(entry, zero_hash, &header);
    cr_assert(entry_hash_is_right(buf_bytes(entry), zero_hash));
    cr_assert_eq(entry_index(entry), 9);
    buf_release(entry);
}

Test(entry, a_time_after_which_there_are_few_is_refused)
{
    struct buf *entry = sample_entry();
    struct entry_header header = {.group = 1, .index = 9, .term = 5, .time_us = ENTRY_TIME_MAX_US};
    entry_seal(entry, zero_hash, &header);
    cr_assert_eq(entry_decode(buf_bytes(entry), &header), TL_OK);
    header.time_us = ENTRY_TIME_MAX_US + 1;
    entry_seal(entry, zero_hash, &header);
    cr_assert_eq(entry_decode(buf_bytes(entry), &header), TL_ERR_CORRUPT);
    buf_release(entry);
}

Test(entry, chain_hash_depends_on_the_entry_before)
{
    struct buf *entry = sample_entry();
    cr_assert(entry_hash_is_right(buf_bytes(entry), zero_hash));
    cr_assert_not(entry_hash_is_right(buf_bytes(entry), (struct hash128){1, 0}));
    cr_assert_not(entry_hash_is_right(buf_bytes(entry), (struct hash128){0, 1}));
    buf_release(entry);
}

Test(entry, every_prefix_and_longer_source_is_refused)
{
    struct buf *entry = sample_entry();
    assert_refuses_prefixes(buf_bytes(entry), accepts_entry);
    assert_refuses_one_byte_more(buf_bytes(entry), accepts_entry);
    buf_release(entry);
}

Test(entry, every_flipped_bit_is_seen)
{
    struct buf *entry = sample_entry();
    assert_refuses_bit_flips(buf_bytes(entry), accepts_chained_entry);
    buf_release(entry);
}

/* An entry is refused with `value` at `at`, and *out_header is left alone. */
static void assert_refused_with(size_t at, uint8_t value)
{
    struct buf *entry = sample_entry();
    entry->data[at] = value;
    struct entry_header header = {.index = 77};
    cr_assert_eq(entry_decode(buf_bytes(entry), &header), TL_ERR_CORRUPT, "byte %zu", at);
    cr_assert_eq(header.index, 77);
    buf_release(entry);
}

Test(entry, unknown_format_type_and_used_reserve_are_refused)
{
    assert_refused_with(0, 0);
    assert_refused_with(0, ENTRY_FORMAT + 1);
    assert_refused_with(1, 0);
    assert_refused_with(1, ENTRY_CONF + 1);
    assert_refused_with(2, 1);
    assert_refused_with(12, 1);
    assert_refused_with(63, 1);
}

Test(entry, index_or_term_zero_is_refused)
{
    assert_refused_with(16, 0);
    assert_refused_with(24, 0);
}

Test(entry, payload_beyond_the_limit_is_refused)
{
    struct buf *entry = buf_create(ENTRY_HEADER_BYTES + ENTRY_PAYLOAD_BYTES_MAX + 1);
    struct buf *good = sample_entry();
    memset(entry->data, 0, entry->capacity);
    memcpy(entry->data, good->data, ENTRY_HEADER_BYTES);
    entry->count = entry->capacity;
    put_u32(entry->data + 4, ENTRY_PAYLOAD_BYTES_MAX + 1);
    cr_assert_not(accepts_entry(buf_bytes(entry)));
    entry->count--;
    put_u32(entry->data + 4, ENTRY_PAYLOAD_BYTES_MAX);
    cr_assert(accepts_entry(buf_bytes(entry)));
    buf_release(good);
    buf_release(entry);
}

Test(entry, creating_one_beyond_the_limit_stops_the_process, .signal = SIGABRT)
{
    (void)entry_create(ENTRY_COMMAND, ENTRY_PAYLOAD_BYTES_MAX + 1);
}

Test(entry, sealing_at_index_zero_stops_the_process, .signal = SIGABRT)
{
    struct entry_header header = {.term = 1};
    entry_seal(entry_create(ENTRY_NOOP, 0), zero_hash, &header);
}
