/* txn: transactions and their results are read back as they were asked. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

#include "wire_samples.h"

static bool accepts_txn(struct bytes source)
{
    static struct txn txn;
    return txn_decode(source, &txn) == TL_OK;
}

static bool accepts_result(struct bytes source)
{
    struct reader reader = reader_make(source);
    struct txn_result result;
    return txn_result_decode(&reader, &result) == TL_OK && reader_is_done(&reader);
}

static bool accepts_results(struct bytes source)
{
    return txn_results_are_right(source);
}

Test(txn, encoding_is_the_documented_one)
{
    struct buf *buf = sample_txn();
    assert_is_format_example("txn", buf_bytes(buf));
    buf_release(buf);
}

static void assert_same_op(const struct txn_op *expected, const struct txn_op *actual)
{
    cr_assert_eq(actual->type, expected->type);
    cr_assert_eq(actual->value_is_json, expected->value_is_json);
    cr_assert_eq(actual->by, expected->by);
    cr_assert(bytes_equal(actual->key, expected->key));
    cr_assert(bytes_equal(actual->content_type, expected->content_type));
    cr_assert(bytes_equal(actual->value, expected->value));
}

Test(txn, all_fields_are_read_back)
{
    struct buf *buf = sample_txn();
    struct txn sent = sample_txn_value();
    struct txn received;
    cr_assert_eq(txn_decode(buf_bytes(buf), &received), TL_OK);
    cr_assert_eq(received.conditions_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_eq(received.conditions[i].type, sent.conditions[i].type);
        cr_assert_eq(received.conditions[i].number, sent.conditions[i].number);
        cr_assert(bytes_equal(received.conditions[i].key, sent.conditions[i].key));
        cr_assert(bytes_equal(received.conditions[i].value, sent.conditions[i].value));
    }
    cr_assert_eq(received.ops_count[TXN_THEN], 2);
    cr_assert_eq(received.ops_count[TXN_ELSE], 1);
    assert_same_op(&sent.ops[TXN_THEN][0], &received.ops[TXN_THEN][0]);
    assert_same_op(&sent.ops[TXN_THEN][1], &received.ops[TXN_THEN][1]);
    assert_same_op(&sent.ops[TXN_ELSE][0], &received.ops[TXN_ELSE][0]);
    buf_release(buf);
}

Test(txn, every_prefix_and_longer_source_is_refused)
{
    struct buf *buf = sample_txn();
    assert_refuses_prefixes(buf_bytes(buf), accepts_txn);
    assert_refuses_one_byte_more(buf_bytes(buf), accepts_txn);
    buf_release(buf);
}

Test(txn, values_that_mean_nothing_are_refused)
{
    struct buf *buf = sample_txn();
    /* The first condition is at 8, the second at 25, the first operation at 45. */
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{6, 1},  {8, 0},  {8, TXN_IF_EXISTS + 1}, {8, TXN_IF_EXISTS}, {9, 1},
               {33, 1}, {45, 0}, {45, COMMAND_TXN},      {45, COMMAND_GET},  {46, 2},
               {51, 1}, {57, 1}};
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        uint8_t good = buf->data[bad[i].at];
        buf->data[bad[i].at] = bad[i].value;
        cr_assert_not(accepts_txn(buf_bytes(buf)), "byte %zu", bad[i].at);
        buf->data[bad[i].at] = good;
    }
    cr_assert(accepts_txn(buf_bytes(buf)));
    buf_release(buf);
}

Test(txn, an_empty_one_is_one)
{
    const struct txn txn = {.conditions_count = 0};
    struct buf *buf = txn_encode(&txn);
    cr_assert(accepts_txn(buf_bytes(buf)));
    buf_release(buf);
}

static struct txn *with_gets(uint32_t gets_count)
{
    struct txn *txn = calloc(1, sizeof *txn);
    txn->ops_count[TXN_THEN] = gets_count;
    for (uint32_t i = 0; i < gets_count; i++) {
        txn->ops[TXN_THEN][i] = (struct txn_op){.type = COMMAND_GET, .key = bytes_of("k")};
    }
    return txn;
}

Test(txn, as_many_operations_as_there_may_be_are_accepted_and_no_more)
{
    struct txn *txn = with_gets(TXN_LIST_MAX);
    struct buf *buf = txn_encode(txn);
    cr_assert(accepts_txn(buf_bytes(buf)));
    struct buf *longer = buf_create(buf->count + 21);
    write_bytes(longer, buf_bytes(buf));
    write_bytes(longer, bytes_make(buf->data + 8, 21)); /* its first operation once more */
    put_u16(longer->data + 2, TXN_LIST_MAX + 1);
    cr_assert_not(accepts_txn(buf_bytes(longer)));
    buf_release(longer);
    buf_release(buf);
    free(txn);
}

Test(txn, what_is_over_a_mebibyte_is_not_encoded)
{
    uint8_t *room = calloc(1, TXN_BYTES_MAX);
    struct txn *txn = with_gets(1);
    txn->ops[TXN_THEN][0].type = COMMAND_PUT;
    txn->ops[TXN_THEN][0].value = bytes_make(room, TXN_BYTES_MAX - 8 - 20 - 1);
    struct buf *buf = txn_encode(txn);
    cr_assert_not_null(buf);
    cr_assert_eq(buf->count, TXN_BYTES_MAX);
    cr_assert(accepts_txn(buf_bytes(buf)));
    buf_release(buf);
    txn->ops[TXN_THEN][0].value.count++;
    cr_assert_null(txn_encode(txn));
    free(txn);
    free(room);
}

Test(txn, a_key_is_written_once_in_a_branch)
{
    struct txn_op ops[] = {
        {.type = COMMAND_GET, .key = bytes_of("a")},    {.type = COMMAND_PUT, .key = bytes_of("a")},
        {.type = COMMAND_DELETE, .key = bytes_of("b")}, {.type = COMMAND_GET, .key = bytes_of("b")},
        {.type = COMMAND_INCR, .key = bytes_of("a")},
    };
    cr_assert_eq(txn_find_second_write(ops, 4), 4);
    cr_assert_eq(txn_find_second_write(ops, 5), 4);

    struct buf *buf = sample_txn();
    struct txn txn = sample_txn_value();
    txn.ops[TXN_THEN][1].key = bytes_of("b");
    struct buf *twice = txn_encode(&txn);
    twice->data[twice->count - 21 - 1] = 'a'; /* the increment's key, before the last operation */
    cr_assert_not(accepts_txn(buf_bytes(twice)));
    buf_release(twice);
    buf_release(buf);
}

Test(txn, encoding_one_that_writes_a_key_twice_stops_the_process, .signal = SIGABRT)
{
    struct txn txn = sample_txn_value();
    txn.ops[TXN_THEN][1].key = txn.ops[TXN_THEN][0].key;
    (void)txn_encode(&txn);
}

/* ---- in a command ---- */

Test(txn, a_command_holds_one_that_decodes_and_no_key)
{
    struct buf *body = sample_txn();
    const struct command sent = {.type = COMMAND_TXN, .origin = 7, .value = buf_bytes(body)};
    struct buf *entry = command_encode(&sent);
    struct command received;
    cr_assert_eq(command_decode(entry_payload(entry), &received), TL_OK);
    cr_assert_eq(received.type, COMMAND_TXN);
    cr_assert(bytes_equal(received.value, buf_bytes(body)));
    entry->data[ENTRY_HEADER_BYTES + 2] = CONDITION_EXISTS;
    cr_assert_eq(command_decode(entry_payload(entry), &received), TL_ERR_INVALID);
    entry->data[ENTRY_HEADER_BYTES + 2] = CONDITION_NONE;
    entry->data[entry->count - body->count + 8] = 0; /* the first condition's type */
    cr_assert_eq(command_decode(entry_payload(entry), &received), TL_ERR_INVALID);
    buf_release(entry);
    buf_release(body);
}

/* ---- results ---- */

Test(txn_result, is_the_documented_one_and_read_back)
{
    const struct txn_result *sent = &sample_txn_result_value;
    struct buf *buf = sample_txn_result();
    assert_is_format_example("txn_result", buf_bytes(buf));
    struct reader reader = reader_make(buf_bytes(buf));
    struct txn_result received;
    cr_assert_eq(txn_result_decode(&reader, &received), TL_OK);
    cr_assert_eq(received.status, sent->status);
    cr_assert_eq(received.revision, sent->revision);
    cr_assert_eq(received.version, sent->version);
    cr_assert_eq(received.number, sent->number);
    cr_assert(bytes_equal(received.content_type, sent->content_type));
    cr_assert(bytes_equal(received.value, sent->value));
    assert_refuses_prefixes(buf_bytes(buf), accepts_result);
    buf->data[0] = KV_CONDITION_FAILED;
    cr_assert_not(accepts_result(buf_bytes(buf)));
    buf_release(buf);
}

Test(txn_result, any_number_of_them_and_nothing_behind)
{
    struct buf *one = sample_txn_result();
    struct buf *two = buf_create((size_t)2 * one->count);
    write_bytes(two, buf_bytes(one));
    write_bytes(two, buf_bytes(one));
    cr_assert(accepts_results(bytes_make(NULL, 0)));
    cr_assert(accepts_results(buf_bytes(two)));
    assert_refuses_one_byte_more(buf_bytes(two), accepts_results);
    buf_release(two);
    buf_release(one);
}

Test(txn_result, travels_behind_the_result_of_a_transaction_only)
{
    struct buf *results = sample_txn_result();
    struct kv_result sent = sample_kv_result_value;
    sent.status = KV_TXN;
    sent.results = buf_bytes(results);
    const struct forward_reply reply = {.request_id = 3, .result = sent};
    struct buf *frame = forward_reply_encode(&reply);
    struct bytes payload =
        bytes_make(frame->data + FRAME_HEADER_BYTES, frame->count - FRAME_HEADER_BYTES);
    struct forward_reply received;
    cr_assert_eq(forward_reply_decode(payload, &received), TL_OK);
    cr_assert_eq(received.result.status, KV_TXN);
    cr_assert(bytes_equal(received.result.results, buf_bytes(results)));
    frame->data[FRAME_HEADER_BYTES + 16] = KV_REPLACED;
    cr_assert_eq(forward_reply_decode(payload, &received), TL_ERR_INVALID);
    buf_release(frame);
    buf_release(results);
}
