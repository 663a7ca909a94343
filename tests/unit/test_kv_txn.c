/* kv_txn: all of a transaction or nothing of it, on the state before it. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "kv_fixture.h"
#include "trilith/txn.h"

static struct kv_fixture fixture;
static struct txn txn; /* of the test */

static void setup(void)
{
    kv_fixture_init(&fixture);
    memset(&txn, 0, sizeof txn);
}

static void teardown(void)
{
    kv_fixture_deinit(&fixture);
}

TestSuite(kv_txn, .init = setup, .fini = teardown);

static void put(const char *key, const char *value)
{
    const struct command command = {.type = COMMAND_PUT,
                                    .origin = 5,
                                    .value_bytes_max = 100,
                                    .key = bytes_of(key),
                                    .content_type = bytes_of("text/plain"),
                                    .value = bytes_of(value)};
    (void)kv_fixture_do(&fixture, &command); /* only that the key is there */
}

static struct txn_op *add(enum txn_branch branch, enum command_type type, const char *key,
                          const char *value)
{
    struct txn_op *op = &txn.ops[branch][txn.ops_count[branch]++];
    *op = (struct txn_op){.type = type, .key = bytes_of(key), .value = bytes_of(value)};
    return op;
}

static void add_condition(enum txn_condition_type type, const char *key, uint64_t number,
                          const char *value)
{
    txn.conditions[txn.conditions_count++] = (struct txn_condition){
        .type = type, .number = number, .key = bytes_of(key), .value = bytes_of(value)};
}

static struct kv_result run_keyed(uint64_t idempotency_key, uint32_t value_bytes_max)
{
    struct buf *body = txn_encode(&txn);
    const struct command command = {.type = COMMAND_TXN,
                                    .has_idempotency_key = idempotency_key != 0,
                                    .idempotency_key = {idempotency_key, 1},
                                    .origin = 9,
                                    .value_bytes_max = value_bytes_max,
                                    .value = buf_bytes(body)};
    struct kv_result result = kv_fixture_do(&fixture, &command);
    buf_release(body);
    return result;
}

static struct kv_result run(void)
{
    return run_keyed(0, 100);
}

static uint32_t results_of(const struct kv_result *result, struct txn_result *out_results)
{
    struct reader reader = reader_make(result->results);
    uint32_t count = 0;
    while (reader_left(&reader) > 0) {
        cr_assert_eq(txn_result_decode(&reader, &out_results[count++]), TL_OK);
    }
    return count;
}

static bool succeeds(void)
{
    struct kv_result result = run();
    cr_assert_eq(result.status, KV_TXN);
    return (result.flags & KV_RESULT_ELSE) == 0;
}

static uint64_t revision_of(const char *key)
{
    struct row_header header;
    struct bytes content_type;
    struct bytes value;
    cr_assert(kv_fixture_row(&fixture, key, &header, &content_type, &value));
    cr_assert_eq(header.origin, 9);
    return header.revision;
}

Test(kv_txn, all_writes_get_one_revision)
{
    put("b", "old");
    put("n", "40");
    put("gone", "x");
    add(TXN_THEN, COMMAND_PUT, "a", "1");
    add(TXN_THEN, COMMAND_APPEND, "b", "er");
    add(TXN_THEN, COMMAND_INCR, "n", "")->by = 2;
    add(TXN_THEN, COMMAND_DELETE, "gone", "");
    struct kv_result result = run();
    cr_assert_eq(result.status, KV_TXN);
    cr_assert_eq(result.revision, 5, "genesis 1, three puts, one transaction");
    cr_assert_eq(result.group_revision, 5);
    cr_assert_eq(revision_of("a"), 5);
    cr_assert_eq(revision_of("b"), 5);
    cr_assert_eq(revision_of("n"), 5);
    assert_value(&fixture, "a", "", "1");
    assert_value(&fixture, "b", "text/plain", "older");
    assert_value(&fixture, "n", "text/plain", "42");
    cr_assert_eq(fixture.state.group.rows_count, 3);

    struct txn_result results[TXN_LIST_MAX];
    cr_assert_eq(results_of(&result, results), 4);
    cr_assert_eq(results[0].status, KV_CREATED);
    cr_assert_eq(results[0].revision, 5);
    cr_assert_eq(results[0].version, 1);
    cr_assert_eq(results[1].status, KV_REPLACED);
    cr_assert_eq(results[1].number, 5);
    cr_assert_eq(results[1].version, 2);
    cr_assert_eq(results[2].number, 42);
    cr_assert_eq(results[3].status, KV_DELETED);
}

Test(kv_txn, what_changes_nothing_moves_no_revision)
{
    put("a", "1");
    add(TXN_THEN, COMMAND_GET, "a", "");
    add(TXN_THEN, COMMAND_DELETE, "absent", "");
    struct kv_result result = run();
    cr_assert_eq(result.status, KV_TXN);
    cr_assert_eq(result.revision, 2);
    cr_assert_eq(fixture.state.group.revision, 2);
}

Test(kv_txn, gets_see_the_state_before_it_wherever_they_stand)
{
    put("a", "before");
    add(TXN_THEN, COMMAND_GET, "a", "");
    add(TXN_THEN, COMMAND_PUT, "a", "after");
    add(TXN_THEN, COMMAND_GET, "a", "");
    add(TXN_THEN, COMMAND_PUT, "new", "v");
    add(TXN_THEN, COMMAND_GET, "new", "");
    struct kv_result result = run();
    struct txn_result results[TXN_LIST_MAX];
    cr_assert_eq(results_of(&result, results), 5);
    for (uint32_t i = 0; i <= 2; i += 2) {
        cr_assert_eq(results[i].status, KV_FOUND);
        cr_assert_eq(results[i].revision, 2);
        cr_assert(bytes_equal(results[i].value, bytes_of("before")));
        cr_assert(bytes_equal(results[i].content_type, bytes_of("text/plain")));
    }
    cr_assert_eq(results[4].status, KV_NOT_FOUND);
    cr_assert_eq(results[4].revision, 0);
}

Test(kv_txn, every_condition_holds_and_fails)
{
    put("a", "one");
    const struct {
        struct txn_condition condition;
        bool holds;
    } cases[] = {
        {{TXN_IF_REVISION, 2, bytes_of("a"), {0}}, true},
        {{TXN_IF_REVISION, 3, bytes_of("a"), {0}}, false},
        {{TXN_IF_REVISION, 0, bytes_of("b"), {0}}, true},
        {{TXN_IF_REVISION, 0, bytes_of("a"), {0}}, false},
        {{TXN_IF_VERSION, 1, bytes_of("a"), {0}}, true},
        {{TXN_IF_VERSION, 2, bytes_of("a"), {0}}, false},
        {{TXN_IF_VERSION, 0, bytes_of("b"), {0}}, true},
        {{TXN_IF_VALUE, 0, bytes_of("a"), bytes_of("one")}, true},
        {{TXN_IF_VALUE, 0, bytes_of("a"), bytes_of("two")}, false},
        {{TXN_IF_VALUE, 0, bytes_of("a"), bytes_of("on")}, false},
        {{TXN_IF_VALUE, 0, bytes_of("b"), bytes_of("")}, false},
        {{TXN_IF_EXISTS, 1, bytes_of("a"), {0}}, true},
        {{TXN_IF_EXISTS, 0, bytes_of("a"), {0}}, false},
        {{TXN_IF_EXISTS, 1, bytes_of("b"), {0}}, false},
        {{TXN_IF_EXISTS, 0, bytes_of("b"), {0}}, true},
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        txn.conditions_count = 1;
        txn.conditions[0] = cases[i].condition;
        cr_assert_eq(succeeds(), cases[i].holds, "case %zu", i);
    }
}

Test(kv_txn, one_condition_that_fails_takes_the_other_branch)
{
    put("a", "one");
    add_condition(TXN_IF_EXISTS, "a", 1, "");
    add_condition(TXN_IF_VALUE, "a", 0, "two");
    add(TXN_THEN, COMMAND_PUT, "then", "v");
    add(TXN_ELSE, COMMAND_PUT, "else", "v");
    struct kv_result result = run();
    cr_assert_eq(result.status, KV_TXN);
    cr_assert_eq(result.flags, KV_RESULT_ELSE);
    cr_assert_eq(fixture.state.group.rows_count, 2);
    cr_assert_eq(revision_of("else"), 3);
}

Test(kv_txn, an_operation_that_does_not_go_leaves_nothing_of_the_others)
{
    put("text", "word");
    struct hash128 digest = fixture.state.group.rows_digest;
    add_condition(TXN_IF_EXISTS, "absent", 1, "");
    add(TXN_ELSE, COMMAND_PUT, "a", "v");
    add(TXN_ELSE, COMMAND_INCR, "text", "")->by = 1;
    add(TXN_ELSE, COMMAND_DELETE, "b", "");
    struct kv_result result = run();
    cr_assert_eq(result.status, KV_NOT_INTEGER);
    cr_assert_eq(result.flags, KV_RESULT_ELSE);
    cr_assert_eq(result.number, 1, "its position");
    cr_assert_eq(result.results.count, 0);
    cr_assert_eq(result.revision, 2);
    cr_assert_eq(fixture.state.group.revision, 2);
    cr_assert(hash_equal(digest, fixture.state.group.rows_digest));
    txn.ops[TXN_ELSE][1] = (struct txn_op){
        .type = COMMAND_APPEND, .key = bytes_of("text"), .value = bytes_of("123456789")};
    cr_assert_eq(run_keyed(0, 10).status, KV_TOO_LARGE);
    cr_assert_eq(run_keyed(0, 13).status, KV_TXN);
}

/* A value of two mebibytes, and `count` gets of it. */
static struct kv_result get_large_value(uint32_t count)
{
    uint8_t *value = calloc(1, VALUE_BYTES_MAX);
    const struct command command = {
        .type = COMMAND_PUT, .key = bytes_of("l"), .value = bytes_make(value, VALUE_BYTES_MAX)};
    (void)kv_fixture_do(&fixture, &command); /* only that the key is there */
    free(value);
    for (uint32_t i = 0; i < count; i++) add(TXN_THEN, COMMAND_GET, "l", "");
    return run();
}

Test(kv_txn, as_much_as_may_be_returned_is_returned)
{
    struct kv_result result = get_large_value(2);
    cr_assert_eq(result.status, KV_TXN);
    cr_assert_eq(result.results.count, 2 * (TXN_RESULT_HEAD_BYTES + VALUE_BYTES_MAX));
}

Test(kv_txn, what_would_return_more_fails_as_a_whole)
{
    add(TXN_THEN, COMMAND_PUT, "a", "v");
    struct kv_result result = get_large_value(3);
    cr_assert_eq(result.status, KV_TXN_TOO_LARGE);
    cr_assert_eq(result.number, 2, "the put's byte counts too");
    cr_assert_eq(fixture.state.group.rows_count, 1);
}

Test(kv_txn, what_would_write_more_fails_as_a_whole)
{
    static const char *const keys[] = {"a", "b", "c"};
    uint8_t *value = calloc(1, VALUE_BYTES_MAX);
    for (size_t i = 0; i < TL_COUNT_OF(keys); i++) {
        const struct command command = {.type = COMMAND_PUT,
                                        .key = bytes_of(keys[i]),
                                        .value = bytes_make(value, VALUE_BYTES_MAX - 1)};
        (void)kv_fixture_do(&fixture, &command); /* only that the key is there */
        add(TXN_THEN, COMMAND_APPEND, keys[i], "x");
    }
    free(value);
    cr_assert_eq(run_keyed(0, VALUE_BYTES_MAX).status, KV_TXN_TOO_LARGE);
    txn.ops_count[TXN_THEN] = 2;
    cr_assert_eq(run_keyed(0, VALUE_BYTES_MAX).status, KV_TXN);
}

Test(kv_txn, a_repeat_is_answered_with_the_first_results_and_does_nothing)
{
    put("n", "1");
    add(TXN_THEN, COMMAND_INCR, "n", "")->by = 1;
    struct kv_result first = run_keyed(7, 100);
    struct txn_result results[TXN_LIST_MAX];
    cr_assert_eq(results_of(&first, results), 1);
    cr_assert_eq(results[0].number, 2);
    put("n", "100");
    struct kv_result second = run_keyed(7, 100);
    cr_assert_eq(second.status, KV_TXN);
    cr_assert_eq(second.flags, KV_RESULT_REPLAYED);
    cr_assert_eq(second.revision, first.revision);
    cr_assert_eq(results_of(&second, results), 1);
    cr_assert_eq(results[0].number, 2);
    assert_value(&fixture, "n", "text/plain", "100");
}

Test(kv_txn, a_repeat_of_one_with_large_results_has_the_outcome_alone)
{
    put("a", "some value");
    for (int i = 0; i < 30; i++) add(TXN_THEN, COMMAND_GET, "a", "");
    cr_assert_gt(run_keyed(7, 100).results.count, RECORD_RESULTS_BYTES_MAX);
    struct kv_result second = run_keyed(7, 100);
    cr_assert_eq(second.status, KV_TXN);
    cr_assert_eq(second.flags, KV_RESULT_REPLAYED);
    cr_assert_eq(second.results.count, 0);
}

Test(kv_txn, the_same_idempotency_key_on_another_one_is_refused)
{
    add(TXN_THEN, COMMAND_PUT, "a", "1");
    cr_assert_eq(run_keyed(7, 100).status, KV_TXN);
    txn.ops[TXN_THEN][0].value = bytes_of("2");
    cr_assert_eq(run_keyed(7, 100).status, KV_KEY_REUSED);
    assert_value(&fixture, "a", "", "1");
}

Test(kv_txn, as_many_operations_as_there_may_be)
{
    static char keys[TXN_LIST_MAX][8];
    for (uint32_t i = 0; i < TXN_LIST_MAX; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "k%u", i);
        add(TXN_THEN, COMMAND_PUT, keys[i], "v");
    }
    cr_assert_eq(run().status, KV_TXN);
    cr_assert_eq(fixture.state.group.rows_count, TXN_LIST_MAX);
    cr_assert_eq(fixture.state.group.revision, 2);
}

Test(kv_txn, a_failing_lookup_at_any_place_ends_it)
{
    put("a", "1");
    add_condition(TXN_IF_VALUE, "a", 0, "1");
    add(TXN_THEN, COMMAND_GET, "a", "");
    add(TXN_THEN, COMMAND_PUT, "b", "1");
    for (uint32_t n = 1; n <= 3; n++) {
        struct buf *body = txn_encode(&txn);
        const struct command command = {.type = COMMAND_TXN, .value = buf_bytes(body)};
        kv_fake_fail_get(fixture.table, n);
        struct kv_result unused;
        cr_assert_eq(kv_fixture_apply(&fixture, command_encode(&command), &unused), TL_ERR_IO);
        buf_release(body);
    }
    cr_assert(succeeds());
}

/* As on every replica but the one that was asked. */
static enum tl_err apply_unawaited(struct kv_fixture *replica, uint64_t idempotency_key)
{
    struct buf *body = txn_encode(&txn);
    const struct command command = {.type = COMMAND_TXN,
                                    .has_idempotency_key = idempotency_key != 0,
                                    .idempotency_key = {idempotency_key, 1},
                                    .records_max = 10,
                                    .value_bytes_max = 100,
                                    .value = buf_bytes(body)};
    enum tl_err err = kv_fixture_apply(replica, command_encode(&command), NULL);
    buf_release(body);
    return err;
}

Test(kv_txn, where_no_request_waits_nothing_is_read_that_only_its_answer_needs)
{
    struct kv_result result = get_large_value(2);
    cr_assert_eq(result.results.count, 2 * (TXN_RESULT_HEAD_BYTES + VALUE_BYTES_MAX));
    cr_assert_gt(fixture.state.cost_bytes, 2 * result.results.count);
    struct buf *row = kv_fake_find(fixture.table, bytes_of("rl"));
    row->data[row->count - 1] ^= 1; /* reading it would end the process */
    cr_assert_eq(apply_unawaited(&fixture, 0), TL_OK);
    cr_assert_lt(fixture.state.cost_bytes, 4 * KV_ROW_COST_BYTES);
    cr_assert_eq(apply_unawaited(&fixture, 7), TL_ERR_CORRUPT, "a record holds the results");
}

Test(kv_txn, replicas_are_equal_whether_a_request_waits_or_not)
{
    struct kv_fixture replica;
    kv_fixture_init(&replica);
    for (uint64_t key = 0; key < 3; key++) {
        memset(&txn, 0, sizeof txn);
        add(TXN_THEN, COMMAND_PUT, "a", "1");
        add(TXN_THEN, COMMAND_GET, "b", "");
        add(TXN_THEN, COMMAND_INCR, "n", "")->by = 3;
        cr_assert_eq(apply_unawaited(&fixture, key), TL_OK);
        struct kv_result unused;
        struct buf *body = txn_encode(&txn);
        const struct command command = {.type = COMMAND_TXN,
                                        .has_idempotency_key = key != 0,
                                        .idempotency_key = {key, 1},
                                        .records_max = 10,
                                        .value_bytes_max = 100,
                                        .value = buf_bytes(body)};
        cr_assert_eq(kv_fixture_apply(&replica, command_encode(&command), &unused), TL_OK);
        buf_release(body);
    }
    cr_assert_eq(memcmp(&fixture.state.group, &replica.state.group, sizeof replica.state.group), 0);
    cr_assert(kv_fake_equal(fixture.table, replica.table));
    kv_fixture_deinit(&replica);
}

Test(kv_txn, a_damaged_value_is_not_returned_and_not_compared)
{
    put("a", "1");
    add(TXN_THEN, COMMAND_GET, "a", "");
    struct buf *row = kv_fake_find(fixture.table, bytes_of("ra"));
    row->data[row->count - 1] ^= 1;
    for (int i = 0; i < 2; i++) {
        struct buf *body = txn_encode(&txn);
        const struct command command = {.type = COMMAND_TXN, .value = buf_bytes(body)};
        struct kv_result unused;
        cr_assert_eq(kv_fixture_apply(&fixture, command_encode(&command), &unused), TL_ERR_CORRUPT);
        buf_release(body);
        txn.ops_count[TXN_THEN] = 0;
        add_condition(TXN_IF_VALUE, "a", 0, "1");
    }
}
