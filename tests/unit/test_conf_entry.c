/* conf_entry: a configuration is the same bytes everywhere, or refused. */

#include <criterion/criterion.h>
#include <signal.h>

#include "wire_samples.h"

static bool accepts_conf(struct bytes source)
{
    struct raft_conf conf;
    return conf_payload_decode(source, &conf) == TL_OK;
}

static void assert_same(const struct raft_conf *a, const struct raft_conf *b)
{
    cr_assert_eq(a->voters_count, b->voters_count);
    cr_assert_eq(a->outgoing_count, b->outgoing_count);
    cr_assert_eq(a->learners_count, b->learners_count);
    cr_assert_arr_eq(a->voters, b->voters, sizeof a->voters);
    cr_assert_arr_eq(a->outgoing, b->outgoing, sizeof a->outgoing);
    cr_assert_arr_eq(a->learners, b->learners, sizeof a->learners);
    cr_assert_eq(a->epoch, b->epoch);
}

Test(conf_entry, encoding_is_the_documented_one)
{
    struct buf *payload = sample_conf();
    assert_is_format_example("conf", buf_bytes(payload));
    buf_release(payload);
}

Test(conf_entry, all_fields_are_read_back)
{
    struct buf *entry = conf_entry_create(&sample_conf_value);
    cr_assert_eq(entry_type_of(entry), ENTRY_CONF);
    struct raft_conf conf;
    cr_assert_eq(conf_payload_decode(entry_payload(entry), &conf), TL_OK);
    assert_same(&conf, &sample_conf_value);
    buf_release(entry);
}

Test(conf_entry, a_full_one_is_read_back)
{
    struct raft_conf full = {.voters_count = RAFT_MEMBERS_MAX, .outgoing_count = RAFT_MEMBERS_MAX};
    for (uint32_t i = 0; i < RAFT_MEMBERS_MAX; i++) full.voters[i] = i + 1;
    for (uint32_t i = 0; i < RAFT_MEMBERS_MAX; i++) full.outgoing[i] = RAFT_MEMBERS_MAX - i;
    struct buf *entry = conf_entry_create(&full);
    struct raft_conf conf;
    cr_assert_eq(conf_payload_decode(entry_payload(entry), &conf), TL_OK);
    assert_same(&conf, &full);
    buf_release(entry);
}

Test(conf_entry, a_genesis_payload_says_its_members_are_the_voters)
{
    struct buf *payload = sample_genesis();
    struct raft_conf conf;
    cr_assert_eq(conf_payload_decode(buf_bytes(payload), &conf), TL_OK);
    struct raft_conf expected = {.voters_count = sample_genesis_value.members_count};
    for (uint32_t i = 0; i < expected.voters_count; i++) {
        expected.voters[i] = store_id_raft(&sample_genesis_value.members[i].store_id);
    }
    assert_same(&conf, &expected);
    buf_release(payload);
}

Test(conf_entry, every_prefix_and_one_byte_more_are_refused)
{
    struct buf *payload = sample_conf();
    assert_refuses_prefixes(buf_bytes(payload), accepts_conf);
    assert_refuses_one_byte_more(buf_bytes(payload), accepts_conf);
    buf_release(payload);
}

/* The sample is refused with `value` at `at`. */
static void assert_refused_with(size_t at, uint8_t value)
{
    struct buf *payload = sample_conf();
    payload->data[at] = value;
    cr_assert_not(accepts_conf(buf_bytes(payload)), "byte %zu", at);
    buf_release(payload);
}

Test(conf_entry, what_cannot_be_a_configuration_is_refused)
{
    assert_refused_with(0, 2);
    assert_refused_with(1, 2);
    assert_refused_with(2, 0);
    assert_refused_with(2, 255);
    assert_refused_with(5, 1);
    assert_refused_with(7, 1);
    assert_refused_with(16, 0); /* id 0 */
    assert_refused_with(24, 1); /* twice a voter */
    assert_refused_with(48, 3); /* voter and learner */
}

Test(conf_entry, more_than_16_members_are_refused)
{
    struct raft_conf conf = {.voters_count = RAFT_MEMBERS_MAX, .outgoing_count = 1};
    for (uint32_t i = 0; i < RAFT_MEMBERS_MAX; i++) conf.voters[i] = i + 1;
    conf.outgoing[0] = 1;
    cr_assert(raft_conf_is_right(&conf));
    conf.outgoing[0] = RAFT_MEMBERS_MAX + 1;
    cr_assert_not(raft_conf_is_right(&conf));
}

Test(conf_entry, encoding_a_wrong_one_stops_the_process, .signal = SIGABRT)
{
    struct raft_conf none = {.voters_count = 0};
    (void)conf_entry_create(&none);
}
