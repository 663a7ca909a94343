/* snapshot_chunk: what is promised in snapshot_chunk.h and src/wire/FORMAT.md 10. */

#include <criterion/criterion.h>
#include <signal.h>

#include "wire_samples.h"

static bool accepts_info(struct bytes source)
{
    struct snapshot_info info;
    return snapshot_info_decode(source, &info) == TL_OK;
}

static bool accepts_chunk(struct bytes source)
{
    struct snapshot_chunk chunk;
    return snapshot_chunk_decode(source, &chunk) == TL_OK;
}

Test(snapshot_chunk, encodings_are_the_documented_ones)
{
    struct buf *info = sample_snapshot_info();
    struct buf *chunk = sample_snapshot_chunk();
    assert_is_format_example("snapshot_info", buf_bytes(info));
    assert_is_format_example("snapshot_chunk", buf_bytes(chunk));
    buf_release(chunk);
    buf_release(info);
}

Test(snapshot_chunk, damaged_chunks_are_refused)
{
    struct buf *info = sample_snapshot_info();
    assert_refuses_prefixes(buf_bytes(info), accepts_info);
    assert_refuses_one_byte_more(buf_bytes(info), accepts_info);
    assert_refuses_bit_flips(buf_bytes(info), accepts_info);
    struct buf *chunk = sample_snapshot_chunk();
    assert_refuses_prefixes(buf_bytes(chunk), accepts_chunk);
    assert_refuses_one_byte_more(buf_bytes(chunk), accepts_chunk);
    assert_refuses_bit_flips(buf_bytes(chunk), accepts_chunk);
    buf_release(chunk);
    buf_release(info);
}

Test(snapshot_chunk, chunk_0_says_what_the_snapshot_is_of)
{
    struct buf *buf = sample_snapshot_info();
    struct snapshot_info info;
    cr_assert_eq(snapshot_info_decode(buf_bytes(buf), &info), TL_OK);
    cr_assert_eq(info.group, 1);
    cr_assert_eq(info.chunks_count, 2);
    cr_assert_eq(info.items_count, 1);
    cr_assert_eq(info.state.index, sample_group_state_value.index);
    cr_assert(hash_equal(info.state.rows_digest, sample_group_state_value.rows_digest));
    cr_assert(bytes_equal(bytes_make(info.conf, info.conf_bytes), bytes_of("conf")));
    buf_release(buf);
}

Test(snapshot_chunk, only_chunk_0_decodes_as_info)
{
    struct buf *chunk = sample_snapshot_chunk();
    cr_assert_not(accepts_info(buf_bytes(chunk)));
    buf_release(chunk);
}

/* Under a right checksum: a peer with a bug, not a wire with noise. */
Test(snapshot_chunk, impossible_totals_are_refused)
{
    struct buf *good = sample_snapshot_info();
    struct snapshot_info info;
    cr_assert_eq(snapshot_info_decode(buf_bytes(good), &info), TL_OK);
    struct snapshot_info wrong[10];
    for (size_t i = 0; i < TL_COUNT_OF(wrong); i++) wrong[i] = info;
    wrong[0].chunks_count = 0;
    wrong[1].chunks_count = 1; /* with an item */
    wrong[2].chunks_count = 3; /* with one item */
    wrong[3].bytes = 1;
    wrong[4].bytes = UINT64_MAX;
    wrong[5].chunk_limit = 0;
    wrong[8].state.index = RAFT_NUMBER_MAX + 1;
    wrong[9].state.term = RAFT_NUMBER_MAX + 1;
    for (size_t i = 8; i < 10; i++) {
        wrong[i].id = snapshot_id(wrong[i].group, wrong[i].chunk_limit, &wrong[i].state,
                                  bytes_make(wrong[i].conf, wrong[i].conf_bytes));
    }
    wrong[6].id.low++;
    wrong[7].state.revision++; /* no longer what the id is of */
    for (size_t i = 0; i < TL_COUNT_OF(wrong); i++) {
        struct buf *buf = snapshot_info_encode(&wrong[i], 0);
        cr_assert_eq(snapshot_info_decode(buf_bytes(buf), &info), TL_ERR_INVALID, "case %zu", i);
        buf_release(buf);
    }
    buf_release(good);
}

Test(snapshot_chunk, newer_formats_are_told_from_damage)
{
    struct buf *buf = sample_snapshot_chunk();
    buf->data[0] = SNAPSHOT_CHUNK_FORMAT + 1;
    struct snapshot_chunk chunk;
    cr_assert_eq(snapshot_chunk_decode(buf_bytes(buf), &chunk), TL_ERR_NEWER_FORMAT);
    buf_release(buf);
}

Test(snapshot_chunk, items_come_back_as_they_were_written)
{
    uint8_t room[64];
    struct bytes key = bytes_of("rkey");
    struct bytes value = bytes_of("value");
    snapshot_item_write(room, key, value);
    size_t first_bytes = snapshot_item_bytes(key, value);
    snapshot_item_write(room + first_bytes, bytes_of("s"), bytes_make(NULL, 0));
    size_t count = first_bytes + snapshot_item_bytes(bytes_of("s"), bytes_make(NULL, 0));
    struct reader reader = reader_make(bytes_make(room, count));
    struct bytes read_key;
    struct bytes read_value;
    cr_assert(snapshot_item_read(&reader, &read_key, &read_value));
    cr_assert(bytes_equal(read_key, key));
    cr_assert(bytes_equal(read_value, value));
    cr_assert(snapshot_item_read(&reader, &read_key, &read_value));
    cr_assert_eq(read_value.count, 0);
    cr_assert(reader_is_done(&reader));
    for (size_t cut = 1; cut < count; cut++) {
        reader = reader_make(bytes_make(room, cut));
        bool is_read = snapshot_item_read(&reader, &read_key, &read_value);
        if (is_read) is_read = snapshot_item_read(&reader, &read_key, &read_value);
        cr_assert_not(is_read, "%zu bytes", cut);
    }
}
