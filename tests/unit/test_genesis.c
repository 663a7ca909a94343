/* genesis: how a cluster begins is the same bytes everywhere, or refused. */

#include <criterion/criterion.h>
#include <signal.h>

#include "wire_samples.h"

static bool accepts_genesis(struct bytes source)
{
    struct genesis genesis;
    return genesis_decode(source, &genesis) == TL_OK;
}

static bool accepts_birth_note(struct bytes source)
{
    struct birth_note note;
    return birth_note_decode(source, &note) == TL_OK;
}

Test(genesis, encoding_is_the_documented_one)
{
    struct buf *payload = sample_genesis();
    assert_is_format_example("genesis", buf_bytes(payload));
    buf_release(payload);
}

Test(genesis, all_fields_are_read_back)
{
    struct buf *payload = sample_genesis();
    struct genesis received;
    cr_assert_eq(genesis_decode(buf_bytes(payload), &received), TL_OK);
    const struct genesis *sent = &sample_genesis_value;
    cr_assert(store_id_equal(&received.cluster_id, &sent->cluster_id));
    cr_assert_eq(received.time_us, sent->time_us);
    cr_assert_eq(received.groups_count, sent->groups_count);
    cr_assert_eq(received.members_count, sent->members_count);
    for (uint32_t i = 0; i < sent->members_count; i++) {
        cr_assert_str_eq(received.members[i].address, sent->members[i].address);
        cr_assert_str_eq(received.members[i].peer_address, sent->members[i].peer_address);
        cr_assert(store_id_equal(&received.members[i].store_id, &sent->members[i].store_id));
    }
    buf_release(payload);
}

Test(genesis, entry_one_of_a_group_is_the_same_on_every_node)
{
    struct buf *here = genesis_entry(&sample_genesis_value, 1);
    struct buf *there = genesis_entry(&sample_genesis_value, 1);
    struct buf *other = genesis_entry(&sample_genesis_value, 0);
    cr_assert(bytes_equal(buf_bytes(here), buf_bytes(there)));
    cr_assert_not(bytes_equal(buf_bytes(here), buf_bytes(other)));
    cr_assert_eq(entry_type_of(here), ENTRY_GENESIS);
    cr_assert_eq(entry_index(here), 1);
    cr_assert_eq(entry_term(here), 1);
    cr_assert_eq(entry_time_us(here), sample_genesis_value.time_us);
    cr_assert(entry_hash_is_right(buf_bytes(here), (struct hash128){0, 0}));
    buf_release(here);
    buf_release(there);
    buf_release(other);
}

Test(genesis, the_largest_cluster_fits_an_entry)
{
    struct genesis genesis = sample_genesis_value;
    genesis.groups_count = GENESIS_GROUPS_MAX;
    genesis.members_count = RAFT_MEMBERS_MAX;
    for (uint32_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        struct member *member = &genesis.members[i];
        memset(member, 0, sizeof *member);
        memset(member->address, 'a', ADDRESS_BYTES_MAX - 1);
        memset(member->peer_address, 'p', ADDRESS_BYTES_MAX - 1);
        member->address[0] = member->peer_address[0] = (char)('A' + i);
        member->store_id.bytes[0] = (uint8_t)(i + 1);
    }
    struct buf *entry = genesis_encode(&genesis);
    cr_assert(accepts_genesis(entry_payload(entry)));
    buf_release(entry);
}

Test(genesis, every_prefix_and_longer_source_is_refused)
{
    struct buf *payload = sample_genesis();
    assert_refuses_prefixes(buf_bytes(payload), accepts_genesis);
    assert_refuses_one_byte_more(buf_bytes(payload), accepts_genesis);
    buf_release(payload);
}

/* Offsets in the sample: the head is 40 bytes, a member 16 + 4 + 6 + 4 + 6. */
#define MEMBER_AT(i) (40u + 36u * (i))

static void assert_refused_with(size_t at, uint8_t value)
{
    struct buf *payload = sample_genesis();
    payload->data[at] = value;
    cr_assert_not(accepts_genesis(buf_bytes(payload)), "byte %zu", at);
    buf_release(payload);
}

Test(genesis, values_that_mean_nothing_are_refused)
{
    assert_refused_with(0, 2);
    assert_refused_with(1, 1);
    assert_refused_with(2, 1);
    assert_refused_with(12, 1);
    assert_refused_with(4, 1);                      /* no data group */
    assert_refused_with(4, GENESIS_GROUPS_MAX + 1); /* more than a node can hold */
    assert_refused_with(8, 0);
    assert_refused_with(8, RAFT_MEMBERS_MAX + 1);
    assert_refused_with(39,
                        0x40); /* a time from which a log could come to the end of the numbers */
}

Test(genesis, addresses_that_are_no_visible_text_are_refused)
{
    assert_refused_with(MEMBER_AT(0) + 20, 0);
    assert_refused_with(MEMBER_AT(0) + 20, ' ');
    assert_refused_with(MEMBER_AT(0) + 20, '\n');
    assert_refused_with(MEMBER_AT(0) + 20, 0xc3);
    assert_refused_with(MEMBER_AT(0) + 16, 0);
}

Test(genesis, members_that_share_an_id_or_an_address_are_refused)
{
    assert_refused_with(MEMBER_AT(1), 1); /* only the last byte of the ids differs still */
    assert_refused_with(MEMBER_AT(1) + 20, 'a');
    assert_refused_with(MEMBER_AT(1) + 30, 'a');
}

Test(genesis, an_id_that_is_zero_in_the_core_is_refused)
{
    assert_refused_with(MEMBER_AT(0), 0);
    struct buf *payload = sample_genesis();
    memset(payload->data + 16, 0, 16);
    cr_assert_not(accepts_genesis(buf_bytes(payload)), "cluster id");
    buf_release(payload);
}

Test(genesis, encoding_members_that_share_an_id_stops_the_process, .signal = SIGABRT)
{
    struct genesis genesis = sample_genesis_value;
    genesis.members[1].store_id = genesis.members[0].store_id;
    (void)genesis_encode(&genesis);
}

/* ---- identities ---- */

Test(store_id, is_formatted_compared_and_shortened)
{
    const struct store_id id = {{0xab, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f}};
    const struct store_id zero = {{0}};
    char text[HASH_TEXT_BYTES];
    store_id_format(&id, text);
    cr_assert_str_eq(text, "ab01000000000000000000000000000f");
    cr_assert_eq(store_id_raft(&id), 0x01abu);
    char short_text[RAFT_ID_TEXT_BYTES];
    raft_id_format(store_id_raft(&id), short_text);
    cr_assert_str_eq(short_text, "ab01000000000000");
    cr_assert(store_id_is_zero(&zero));
    cr_assert_not(store_id_is_zero(&id));
    cr_assert_gt(store_id_compare(&id, &zero), 0);
    cr_assert_eq(store_id_compare(&id, &id), 0);
    cr_assert_lt(store_id_compare(&zero, &id), 0);
}

Test(store_id, reading_past_the_end_latches_the_reader)
{
    const uint8_t short_source[15] = {0};
    struct reader reader = reader_make(bytes_make(short_source, sizeof short_source));
    struct store_id id = {{1}};
    store_id_read(&reader, &id);
    cr_assert(reader.failed);
    cr_assert_eq(id.bytes[0], 1);
}

/* ---- birth notes ---- */

Test(birth_note, encoding_is_the_documented_one)
{
    struct buf *buf = sample_birth_note();
    assert_is_format_example("birth_note", buf_bytes(buf));
    buf_release(buf);
}

Test(birth_note, all_fields_are_read_back)
{
    struct buf *buf = sample_birth_note();
    struct buf *placement = sample_placement();
    struct birth_note note;
    cr_assert_eq(birth_note_decode(buf_bytes(buf), &note), TL_OK);
    cr_assert_eq(note.word, BIRTH_WORD_MEMBER);
    cr_assert_eq(note.store_id.bytes[15], 1);
    cr_assert(store_id_equal(&note.cluster_id, &sample_genesis_value.cluster_id));
    cr_assert(
        hash_equal(note.view_hash, (struct hash128){0x5555555555555555u, 0x6666666666666666u}));
    cr_assert_str_eq(note.address, "a:8080");
    cr_assert_str_eq(note.peer_address, "a:9080");
    cr_assert(bytes_equal(note.placement, buf_bytes(placement)));
    buf_release(placement);
    buf_release(buf);
}

Test(birth_note, every_prefix_and_longer_source_is_refused)
{
    struct buf *buf = sample_birth_note();
    assert_refuses_prefixes(buf_bytes(buf), accepts_birth_note);
    assert_refuses_one_byte_more(buf_bytes(buf), accepts_birth_note);
    buf_release(buf);
}

Test(birth_note, values_that_mean_nothing_are_refused)
{
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0, 2}, {1, BIRTH_WORD_LAST + 1}, {2, 1}, {4, 1}, {8, 0}, {60, 0}, {60, 0x7f},
               {70, 0}};
    struct buf *buf = sample_birth_note();
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        uint8_t good = buf->data[bad[i].at];
        buf->data[bad[i].at] = bad[i].value;
        cr_assert_not(accepts_birth_note(buf_bytes(buf)), "byte %zu", bad[i].at);
        buf->data[bad[i].at] = good;
    }
    buf_release(buf);
}
