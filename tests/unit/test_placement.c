/* placement: what the members are is the same bytes everywhere, or refused. */

#include <criterion/criterion.h>
#include <signal.h>

#include "wire_samples.h"

static struct placement placement;

static bool accepts(struct bytes source)
{
    static struct placement received;
    return placement_decode(source, &received) == TL_OK;
}

Test(placement, encoding_is_the_documented_one)
{
    struct buf *buf = sample_placement();
    assert_is_format_example("placement", buf_bytes(buf));
    buf_release(buf);
}

Test(placement, all_fields_are_read_back)
{
    struct buf *buf = sample_placement();
    cr_assert_eq(placement_decode(buf_bytes(buf), &placement), TL_OK);
    cr_assert_eq(placement.epoch, 5);
    cr_assert_eq(placement.genesis.members_count, 2);
    cr_assert_eq(placement.members_count, 3);
    cr_assert_eq(placement.members[0].role, MEMBER_VOTER);
    cr_assert_eq(placement.members[1].role, MEMBER_LEAVING);
    cr_assert_str_eq(placement.members[2].member.address, "b:8080");
    cr_assert_str_eq(placement.members[2].member.peer_address, "b:9080");
    cr_assert_eq(store_id_raft(&placement.members[2].member.store_id), 3);
    cr_assert_eq(placement.removed_count, 1);
    cr_assert_eq(placement.removed[0], 4);
    buf_release(buf);
}

Test(placement, every_prefix_and_longer_source_is_refused)
{
    struct buf *buf = sample_placement();
    assert_refuses_prefixes(buf_bytes(buf), accepts);
    assert_refuses_one_byte_more(buf_bytes(buf), accepts);
    buf_release(buf);
}

Test(placement, the_largest_fits_a_value_and_a_question)
{
    struct genesis genesis = sample_genesis_value;
    genesis.members_count = RAFT_MEMBERS_MAX;
    for (uint32_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        struct member *member = &genesis.members[i];
        memset(member, 0, sizeof *member);
        memset(member->address, 'a', ADDRESS_BYTES_MAX - 1);
        memset(member->peer_address, 'p', ADDRESS_BYTES_MAX - 1);
        member->address[0] = member->peer_address[0] = (char)('A' + i);
        member->store_id.bytes[0] = (uint8_t)(i + 1);
    }
    placement_from_genesis(&placement, &genesis);
    placement.removed_count = PLACEMENT_REMOVED_MAX;
    for (uint32_t i = 0; i < PLACEMENT_REMOVED_MAX; i++) placement.removed[i] = 1000 + i;
    struct buf *buf = placement_encode(&placement);
    cr_assert(accepts(buf_bytes(buf)));
    cr_assert_lt(buf->count, 60u * 1024u, "strangers may send 64 KiB");
    buf_release(buf);
}

Test(placement, genesis_makes_voters_of_all)
{
    placement_from_genesis(&placement, &sample_genesis_value);
    cr_assert_eq(placement.epoch, 0);
    cr_assert_eq(placement.members_count, 2);
    cr_assert_eq(placement.members[0].role, MEMBER_VOTER);
    cr_assert_eq(placement.members[1].role, MEMBER_VOTER);
    cr_assert(placement_is_right(&placement));
}

static void start_over(void)
{
    placement_from_genesis(&placement, &sample_genesis_value);
}

Test(placement, what_cannot_be_is_not_right)
{
    start_over();
    placement.members[1].member.store_id = placement.members[0].member.store_id;
    cr_assert_not(placement_is_right(&placement), "a store twice");
    start_over();
    memcpy(placement.members[1].member.address, "a:8080", 7);
    cr_assert_not(placement_is_right(&placement), "an address with two peer addresses");
    memcpy(placement.members[1].member.peer_address, "a:9080", 7);
    cr_assert_not(placement_is_right(&placement), "two voters of one address");
    placement.members[1].role = MEMBER_LEARNER;
    cr_assert(placement_is_right(&placement));
    start_over();
    placement.removed[placement.removed_count++] = 2;
    cr_assert_not(placement_is_right(&placement), "a removed member");
    start_over();
    placement.members[0].role = placement.members[1].role = MEMBER_LEAVING;
    cr_assert_not(placement_is_right(&placement), "no voter");
    start_over();
    placement.members[0].role = (enum member_role)4;
    cr_assert_not(placement_is_right(&placement), "an unknown role");
    start_over();
    placement.members_count = 0;
    cr_assert_not(placement_is_right(&placement), "nobody");
}

Test(placement, encoding_what_is_not_right_stops_the_process, .signal = SIGABRT)
{
    start_over();
    placement.members_count = 0;
    (void)placement_encode(&placement);
}
