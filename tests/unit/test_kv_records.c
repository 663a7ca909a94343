/* kv_records: a keyed request has its effect at most once, and its record goes when it may. */

#include <criterion/criterion.h>

#include "kv_fixture.h"

#define SECOND_US 1000000u
#define MINUTE_US (60u * SECOND_US)

static struct kv_fixture fixture;

static void setup(void)
{
    kv_fixture_init(&fixture);
}

static void teardown(void)
{
    kv_fixture_deinit(&fixture);
}

TestSuite(kv_records, .init = setup, .fini = teardown);

static struct hash128 key_hash(uint64_t n)
{
    return (struct hash128){n, ~n};
}

/* A put of "v" under a row key of its own. */
static struct command keyed(uint64_t n, uint32_t records_max)
{
    static uint8_t rows[256][2];
    uint8_t *row = rows[n % 256];
    put_u16(row, (uint16_t)n);
    return (struct command){
        .type = COMMAND_PUT,
        .has_idempotency_key = true,
        .idempotency_key = key_hash(n),
        .records_max = records_max,
        .value_bytes_max = 100,
        .key = bytes_make(row, 2),
        .content_type = bytes_of("text/plain"),
        .value = bytes_of("v"),
    };
}

static struct kv_result do_keyed(uint64_t n, uint32_t records_max)
{
    struct command command = keyed(n, records_max);
    return kv_fixture_do(&fixture, &command);
}

static uint64_t records_count(void)
{
    return fixture.state.group.records_next - fixture.state.group.records_first;
}

static struct bytes record_env_key(uint64_t n, uint8_t room[ENV_KEY_BYTES_MAX])
{
    uint8_t hash[HASH_BYTES];
    hash_put(hash, key_hash(n));
    return env_key_make(ENV_KEY_RECORD, bytes_make(hash, sizeof hash), room);
}

static struct buf *stored_record(uint64_t n)
{
    uint8_t room[ENV_KEY_BYTES_MAX];
    return kv_fake_find(fixture.table, record_env_key(n, room));
}

static struct bytes queue_env_key(uint64_t sequence, uint8_t room[ENV_KEY_BYTES_MAX])
{
    uint8_t number[8];
    put_u64_be(number, sequence);
    return env_key_make(ENV_KEY_QUEUE, bytes_make(number, sizeof number), room);
}

/* ---- replays ---- */

Test(kv_records, a_repeat_gets_the_recorded_outcome_as_of_now_and_changes_nothing)
{
    struct kv_result first = do_keyed(1, 0);
    struct command other = keyed(2, 0);
    other.has_idempotency_key = false;
    kv_fixture_do(&fixture, &other);
    uint64_t revision = fixture.state.group.revision;

    struct kv_result again = do_keyed(1, 0);
    cr_assert_eq(again.status, KV_CREATED);
    cr_assert_eq(again.flags, KV_RESULT_REPLAYED);
    cr_assert_eq(again.revision, first.revision);
    cr_assert_eq(again.version, first.version);
    cr_assert_gt(again.time_us, first.time_us);
    cr_assert_gt(again.index, first.index);
    cr_assert_eq(again.group_revision, revision);
    cr_assert_eq(fixture.state.group.revision, revision);
    cr_assert_eq(records_count(), 1);
}

Test(kv_records, a_repeated_increment_counts_once)
{
    struct command command = keyed(1, 0);
    command.type = COMMAND_INCR;
    command.by = 5;
    cr_assert_eq(kv_fixture_do(&fixture, &command).number, 5);
    struct kv_result again = kv_fixture_do(&fixture, &command);
    cr_assert_eq(again.number, 5);
    cr_assert_eq(again.flags, KV_RESULT_REPLAYED);
}

Test(kv_records, refusals_are_recorded_too)
{
    struct command missing = keyed(1, 0);
    missing.type = COMMAND_DELETE;
    struct command conditional = keyed(2, 0);
    conditional.condition = CONDITION_EXISTS;
    struct command too_large = keyed(3, 0);
    too_large.type = COMMAND_APPEND;
    too_large.value_bytes_max = 0;
    const struct command commands[] = {missing, conditional, too_large};
    const enum kv_status expected[] = {KV_NOT_FOUND, KV_CONDITION_FAILED, KV_TOO_LARGE};
    for (size_t i = 0; i < TL_COUNT_OF(commands); i++) {
        cr_assert_eq(kv_fixture_do(&fixture, &commands[i]).status, expected[i]);
        /* Now the same request would succeed; its repeat must not. */
        struct command put = commands[i];
        put.type = COMMAND_PUT;
        put.condition = CONDITION_NONE;
        put.has_idempotency_key = false;
        kv_fixture_do(&fixture, &put);
        struct kv_result again = kv_fixture_do(&fixture, &commands[i]);
        cr_assert_eq(again.status, expected[i]);
        cr_assert_eq(again.flags, KV_RESULT_REPLAYED);
    }
}

Test(kv_records, the_key_on_another_request_is_refused_and_leaves_the_record)
{
    do_keyed(1, 0);
    struct group_state before = fixture.state.group;
    struct command other = keyed(1, 0);
    other.value = bytes_of("w");
    struct kv_result result = kv_fixture_do(&fixture, &other);
    cr_assert_eq(result.status, KV_KEY_REUSED);
    cr_assert_eq(result.flags, 0);
    cr_assert_eq(fixture.state.group.revision, before.revision);
    cr_assert_eq(fixture.state.group.records_next, before.records_next);
    cr_assert_eq(do_keyed(1, 0).flags, KV_RESULT_REPLAYED);
}

Test(kv_records, the_same_request_by_way_of_another_node_is_a_repeat)
{
    do_keyed(1, 0);
    struct command command = keyed(1, 7);
    command.origin = 99;
    command.token_us = 1;
    cr_assert_eq(kv_fixture_do(&fixture, &command).flags, KV_RESULT_REPLAYED);
}

Test(kv_records, requests_without_key_leave_none)
{
    struct command command = keyed(1, 0);
    command.has_idempotency_key = false;
    kv_fixture_do(&fixture, &command);
    cr_assert_eq(records_count(), 0);
    cr_assert_eq(fixture.state.group.records_next, 0);
}

/* ---- eviction ---- */

Test(kv_records, records_older_than_five_minutes_go_at_most_four_an_entry)
{
    for (uint64_t n = 0; n < 6; n++) do_keyed(n, 0);
    fixture.time_us += RECORD_KEEP_US + SECOND_US;
    do_keyed(100, 0);
    cr_assert_eq(fixture.state.group.records_first, RECORD_EVICT_MAX);
    cr_assert_eq(records_count(), 3);
    do_keyed(101, 0);
    cr_assert_eq(records_count(), 2, "the two new ones");
    cr_assert_null(stored_record(0));
    cr_assert_not_null(stored_record(100));
}

Test(kv_records, a_record_of_exactly_five_minutes_stays)
{
    do_keyed(1, 0);
    fixture.time_us += RECORD_KEEP_US - 1; /* one has passed */
    do_keyed(2, 0);
    cr_assert_eq(records_count(), 2);
    do_keyed(3, 0);
    cr_assert_eq(records_count(), 2, "one microsecond later it is gone");
}

Test(kv_records, what_is_evicted_may_be_asked_again)
{
    do_keyed(1, 0);
    fixture.time_us += RECORD_KEEP_US + SECOND_US;
    do_keyed(2, 0);
    struct kv_result result = do_keyed(1, 0);
    cr_assert_eq(result.status, KV_REPLACED);
    cr_assert_eq(result.flags, 0);
}

Test(kv_records, when_full_the_oldest_goes_once_it_is_a_minute_old)
{
    do_keyed(1, 2);
    fixture.time_us += 30 * SECOND_US;
    do_keyed(2, 2);
    fixture.time_us += 31 * SECOND_US;
    cr_assert_eq(do_keyed(3, 2).status, KV_CREATED);
    cr_assert_eq(records_count(), 2);
    cr_assert_null(stored_record(1));
    cr_assert_not_null(stored_record(2));
}

Test(kv_records, when_full_of_younger_ones_a_keyed_request_is_refused_and_changes_nothing)
{
    do_keyed(1, 2);
    do_keyed(2, 2);
    fixture.time_us += MINUTE_US - 3;
    struct group_state before = fixture.state.group;
    struct kv_result result = do_keyed(3, 2);
    cr_assert_eq(result.status, KV_NO_ROOM);
    cr_assert_eq(fixture.state.group.revision, before.revision);
    cr_assert_eq(fixture.state.group.rows_count, before.rows_count);
    cr_assert_eq(fixture.state.group.records_next, before.records_next);
    cr_assert_eq(do_keyed(1, 2).flags, KV_RESULT_REPLAYED, "a repeat needs no room");
    fixture.time_us += 3;
    cr_assert_eq(do_keyed(3, 2).status, KV_CREATED, "a refusal is not recorded");
}

/* What Retry-After is made of. */
Test(kv_records, a_refusal_says_exactly_how_far_log_time_has_to_rise)
{
    do_keyed(1, 2);
    do_keyed(2, 2);
    fixture.time_us += 20 * SECOND_US;
    int64_t wait_us = do_keyed(3, 2).number;
    cr_assert_geq(wait_us, 40 * (int64_t)SECOND_US - 10);
    cr_assert_leq(wait_us, 40 * (int64_t)SECOND_US);
    uint64_t refused_us = fixture.state.group.time_us;
    while (fixture.state.group.time_us + 2 < refused_us + (uint64_t)wait_us) {
        fixture.time_us = TL_MAX(fixture.time_us, refused_us + (uint64_t)wait_us - 3);
        struct kv_result result = do_keyed(3, 2);
        cr_assert_eq(result.status, KV_NO_ROOM);
        cr_assert_eq(fixture.state.group.time_us + (uint64_t)result.number,
                     refused_us + (uint64_t)wait_us);
    }
    fixture.time_us = TL_MAX(fixture.time_us, refused_us + (uint64_t)wait_us);
    cr_assert_eq(do_keyed(3, 2).status, KV_CREATED);
}

Test(kv_records, a_lower_limit_is_reached_four_an_entry)
{
    for (uint64_t n = 0; n < 10; n++) do_keyed(n, 0);
    fixture.time_us += 2 * MINUTE_US;
    cr_assert_eq(do_keyed(100, 2).status, KV_NO_ROOM);
    cr_assert_eq(records_count(), 6);
    cr_assert_eq(do_keyed(100, 2).status, KV_NO_ROOM);
    cr_assert_eq(records_count(), 2);
    cr_assert_eq(do_keyed(100, 2).status, KV_CREATED);
    cr_assert_eq(records_count(), 2);
}

Test(kv_records, a_repeat_of_an_old_request_is_still_known_until_another_needs_the_room)
{
    do_keyed(1, 0);
    fixture.time_us += 2 * RECORD_KEEP_US;
    cr_assert_eq(do_keyed(1, 0).flags, KV_RESULT_REPLAYED);
    cr_assert_eq(records_count(), 1);
}

Test(kv_records, the_queue_is_in_the_order_of_the_requests)
{
    for (uint64_t n = 0; n < 300; n++) do_keyed(n, 0);
    for (uint64_t n = 0; n < 300; n++) {
        uint8_t room[ENV_KEY_BYTES_MAX];
        struct buf *stored = kv_fake_find(fixture.table, queue_env_key(n, room));
        struct queue_item item;
        cr_assert_eq(queue_item_decode(buf_bytes(stored), &item), TL_OK);
        cr_assert(hash_equal(item.key, key_hash(n)));
    }
}

/* ---- damage ---- */

static void assert_fails(uint64_t n, enum tl_err expected)
{
    struct command command = keyed(n, 0);
    struct group_state before = fixture.state.group;
    struct kv_result result;
    fixture.state.fault_reason = NULL;
    cr_assert_eq(kv_fixture_apply(&fixture, command_encode(&command), &result), expected);
    cr_assert_eq(memcmp(&before, &fixture.state.group, sizeof before), 0);
    cr_assert_eq(fixture.state.fault_reason != NULL, expected == TL_ERR_CORRUPT);
}

/* One record, old enough to be evicted by the next request. */
static void make_old_record(void)
{
    do_keyed(1, 0);
    fixture.time_us += RECORD_KEEP_US + SECOND_US;
}

Test(kv_records, a_damaged_record_is_noticed_when_asked_for)
{
    do_keyed(1, 0);
    stored_record(1)->data[40] ^= 1;
    assert_fails(1, TL_ERR_CORRUPT);
}

Test(kv_records, a_damaged_record_is_noticed_when_evicted)
{
    make_old_record();
    stored_record(1)->data[40] ^= 1;
    assert_fails(2, TL_ERR_CORRUPT);
}

Test(kv_records, a_missing_record_is_noticed)
{
    make_old_record();
    uint8_t room[ENV_KEY_BYTES_MAX];
    kv_fake_remove(fixture.table, record_env_key(1, room));
    assert_fails(2, TL_ERR_CORRUPT);
}

Test(kv_records, a_hole_in_the_queue_is_noticed)
{
    make_old_record();
    uint8_t room[ENV_KEY_BYTES_MAX];
    kv_fake_remove(fixture.table, queue_env_key(0, room));
    assert_fails(2, TL_ERR_CORRUPT);
}

Test(kv_records, a_damaged_queue_is_noticed)
{
    make_old_record();
    uint8_t room[ENV_KEY_BYTES_MAX];
    kv_fake_find(fixture.table, queue_env_key(0, room))->data[0] ^= 1;
    assert_fails(2, TL_ERR_CORRUPT);
}

Test(kv_records, a_record_in_another_ones_place_is_noticed)
{
    make_old_record();
    struct buf *stored = stored_record(1);
    struct record record;
    cr_assert_eq(record_decode(buf_bytes(stored), &record), TL_OK);
    record.sequence++;
    record_encode(&record, stored->data);
    assert_fails(2, TL_ERR_CORRUPT);
}

Test(kv_records, a_record_of_a_newer_version_is_told_from_damage)
{
    make_old_record();
    struct buf *stored = stored_record(1);
    struct record record;
    cr_assert_eq(record_decode(buf_bytes(stored), &record), TL_OK);
    record.status = KV_STATUS_LAST + 1;
    record_encode(&record, stored->data);
    assert_fails(1, TL_ERR_NEWER_FORMAT);
    stored->data[0] = RECORD_FORMAT + 1;
    assert_fails(1, TL_ERR_NEWER_FORMAT);
    assert_fails(2, TL_ERR_NEWER_FORMAT);
}

Test(kv_records, every_lookup_may_fail_and_is_passed_on)
{
    uint32_t failures_count = 0;
    for (uint32_t n = 1;; n++) {
        kv_fixture_deinit(&fixture);
        kv_fixture_init(&fixture);
        make_old_record();
        kv_fake_fail_get(fixture.table, n);
        struct command command = keyed(2, 0);
        struct group_state before = fixture.state.group;
        struct kv_result result;
        enum tl_err err = kv_fixture_apply(&fixture, command_encode(&command), &result);
        if (err == TL_OK) {
            break;
        }
        cr_assert_eq(err, TL_ERR_IO);
        cr_assert_eq(memcmp(&before, &fixture.state.group, sizeof before), 0);
        failures_count++;
    }
    cr_assert_eq(failures_count, 4, "the record, the queue's front, the old record, the row");
}
