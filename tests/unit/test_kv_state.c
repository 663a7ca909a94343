/* kv_state: what every command does to its row, and what it leaves alone. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

#include "kv_fixture.h"

static struct kv_fixture fixture;

static void setup(void)
{
    kv_fixture_init(&fixture);
}

static void teardown(void)
{
    kv_fixture_deinit(&fixture);
}

TestSuite(kv_state, .init = setup, .fini = teardown);

/* A command on "k"; the fields a test is not about have values of their own. */
static struct command command_of(enum command_type type, const char *content_type,
                                 const char *value)
{
    return (struct command){
        .type = type,
        .origin = 5,
        .value_bytes_max = 100,
        .key = bytes_of("k"),
        .content_type = bytes_of(content_type),
        .value = bytes_of(value),
    };
}

static struct kv_result put(const char *content_type, const char *value)
{
    struct command command = command_of(COMMAND_PUT, content_type, value);
    return kv_fixture_do(&fixture, &command);
}

static struct kv_result delete (void)
{
    struct command command = command_of(COMMAND_DELETE, "", "");
    return kv_fixture_do(&fixture, &command);
}

static struct kv_result append(const char *content_type, const char *value, bool value_is_json)
{
    struct command command = command_of(COMMAND_APPEND, content_type, value);
    command.value_is_json = value_is_json;
    return kv_fixture_do(&fixture, &command);
}

static struct kv_result list_append(const char *value)
{
    struct command command = command_of(COMMAND_LIST_APPEND, "", value);
    command.value_is_json = true;
    return kv_fixture_do(&fixture, &command);
}

static struct kv_result increment(int64_t by)
{
    struct command command = command_of(COMMAND_INCR, "", "");
    command.by = by;
    return kv_fixture_do(&fixture, &command);
}

static struct row_header row_of_k(void)
{
    struct row_header header;
    struct bytes content_type;
    struct bytes value;
    cr_assert(kv_fixture_row(&fixture, "k", &header, &content_type, &value));
    return header;
}

static struct buf *stored_row_of_k(void)
{
    return kv_fake_find(fixture.table, bytes_of("rk"));
}

/* ---- entries ---- */

Test(kv_state, genesis_sets_revision_one_and_the_first_write_gets_two)
{
    cr_assert_eq(fixture.state.group.revision, 1);
    cr_assert_eq(put("text/plain", "v").revision, 2);
}

Test(kv_state, noop_and_configuration_move_only_the_place_in_the_log)
{
    put("text/plain", "v");
    const enum entry_type types[] = {ENTRY_NOOP, ENTRY_CONF};
    for (size_t i = 0; i < TL_COUNT_OF(types); i++) {
        struct group_state expected = fixture.state.group;
        struct buf *entry = entry_create(types[i], 0);
        uint64_t time_us = fixture.time_us;
        struct kv_result unused;
        cr_assert_eq(kv_fixture_apply(&fixture, buf_acquire(entry), &unused), TL_OK);
        expected.index++;
        expected.term = 3;
        expected.time_us = time_us;
        expected.chain_hash = entry_hash(entry);
        cr_assert_eq(memcmp(&expected, &fixture.state.group, sizeof expected), 0);
        buf_release(entry);
    }
}

Test(kv_state, an_entry_that_does_not_follow_stops_the_process, .signal = SIGABRT)
{
    fixture.state.group.index++;
    struct buf *entry = entry_create(ENTRY_NOOP, 0);
    struct entry_header header = {.group = 1, .index = 2, .term = 3};
    entry_seal(entry, fixture.state.group.chain_hash, &header);
    struct kv_result unused;
    cr_assert_eq(kv_state_apply(&fixture.state, fixture.table, entry, &unused), TL_OK);
}

/* ---- put and delete ---- */

Test(kv_state, put_creates_then_replaces)
{
    struct kv_result created = put("text/plain", "cat");
    cr_assert_eq(created.status, KV_CREATED);
    cr_assert_eq(created.revision, 2);
    cr_assert_eq(created.version, 1);
    assert_value(&fixture, "k", "text/plain", "cat");

    struct kv_result replaced = put("text/html", "dog");
    cr_assert_eq(replaced.status, KV_REPLACED);
    cr_assert_eq(replaced.revision, 3);
    cr_assert_eq(replaced.version, 2);
    cr_assert_eq(replaced.flags, 0);
    assert_value(&fixture, "k", "text/html", "dog");
}

Test(kv_state, a_row_remembers_its_writes)
{
    put("text/plain", "cat");
    uint64_t time_us = fixture.time_us;
    put("text/plain", "dog");
    struct row_header header = row_of_k();
    cr_assert_eq(header.time_us, time_us);
    cr_assert_eq(header.origin, 5);
    cr_assert_eq(header.create_revision, 2, "kept on overwrite");
    cr_assert_eq(header.revision, 3);
    cr_assert_eq(header.version, 2);
    cr_assert_eq(header.lease, 0);
}

Test(kv_state, put_of_nothing_is_a_row)
{
    put("", "");
    assert_value(&fixture, "k", "", "");
}

Test(kv_state, the_largest_row_fits)
{
    uint8_t *room = calloc(1, VALUE_BYTES_MAX);
    struct command command = {
        .type = COMMAND_PUT,
        .key = bytes_make(room, KEY_BYTES_MAX),
        .content_type = bytes_make(room, CONTENT_TYPE_BYTES_MAX),
        .value = bytes_make(room, VALUE_BYTES_MAX),
    };
    cr_assert_eq(kv_fixture_do(&fixture, &command).status, KV_CREATED);
    free(room);
}

Test(kv_state, delete_removes_the_row_and_moves_the_revision)
{
    put("text/plain", "cat");
    struct kv_result deleted = delete ();
    cr_assert_eq(deleted.status, KV_DELETED);
    cr_assert_eq(deleted.revision, 3);
    cr_assert_eq(fixture.state.group.revision, 3);
    cr_assert_eq(fixture.state.group.rows_count, 0);
    cr_assert(hash_equal(fixture.state.group.rows_digest, (struct hash128){0, 0}));
    cr_assert_null(stored_row_of_k());
}

Test(kv_state, delete_of_an_absent_key_changes_nothing)
{
    struct kv_result result = delete ();
    cr_assert_eq(result.status, KV_NOT_FOUND);
    cr_assert_eq(result.revision, 0);
    cr_assert_eq(fixture.state.group.revision, 1);
}

Test(kv_state, a_key_that_comes_back_begins_anew)
{
    put("text/plain", "cat");
    delete ();
    struct kv_result result = put("text/plain", "cat");
    cr_assert_eq(result.status, KV_CREATED);
    cr_assert_eq(result.version, 1);
    cr_assert_eq(row_of_k().create_revision, 4);
}

/* ---- conditions ---- */

static struct kv_result put_if(enum command_condition condition, uint64_t revision)
{
    struct command command = command_of(COMMAND_PUT, "text/plain", "new");
    command.condition = condition;
    command.condition_revision = revision;
    return kv_fixture_do(&fixture, &command);
}

Test(kv_state, conditions_of_an_absent_key)
{
    cr_assert_eq(put_if(CONDITION_REVISION, 1).status, KV_CONDITION_FAILED);
    cr_assert_eq(put_if(CONDITION_REVISION, 0).status, KV_CONDITION_FAILED,
                 "If-Match needs something that matches, RFC 9110 13.1.1");
    cr_assert_eq(put_if(CONDITION_EXISTS, 0).status, KV_CONDITION_FAILED);
    cr_assert_eq(put_if(CONDITION_ABSENT, 0).status, KV_CREATED);
}

Test(kv_state, conditions_of_a_present_key)
{
    put("text/plain", "old");
    cr_assert_eq(put_if(CONDITION_REVISION, 1).status, KV_CONDITION_FAILED);
    cr_assert_eq(put_if(CONDITION_ABSENT, 0).status, KV_CONDITION_FAILED);
    cr_assert_eq(put_if(CONDITION_REVISION, 2).status, KV_REPLACED);
    cr_assert_eq(put_if(CONDITION_EXISTS, 0).status, KV_REPLACED);
}

Test(kv_state, a_failed_condition_changes_nothing_and_tells_the_present_revision)
{
    put("text/plain", "old");
    uint64_t revision = fixture.state.group.revision;
    struct kv_result result = put_if(CONDITION_REVISION, 77);
    cr_assert_eq(result.revision, 2);
    cr_assert_eq(result.version, 1);
    cr_assert_eq(fixture.state.group.revision, revision);
    assert_value(&fixture, "k", "text/plain", "old");
    delete ();
    cr_assert_eq(put_if(CONDITION_EXISTS, 0).revision, 0);
}

Test(kv_state, every_command_heeds_its_condition)
{
    const enum command_type types[] = {COMMAND_PUT, COMMAND_DELETE, COMMAND_APPEND, COMMAND_INCR,
                                       COMMAND_LIST_APPEND};
    for (size_t i = 0; i < TL_COUNT_OF(types); i++) {
        struct command command = command_of(types[i], "text/plain", "\"1\"");
        command.condition = CONDITION_EXISTS;
        cr_assert_eq(kv_fixture_do(&fixture, &command).status, KV_CONDITION_FAILED);
    }
}

/* ---- append ---- */

Test(kv_state, append_to_an_absent_key_creates_it)
{
    struct kv_result result = append("text/html", "cat", false);
    cr_assert_eq(result.status, KV_CREATED);
    cr_assert_eq(result.number, 3);
    assert_value(&fixture, "k", "text/html", "cat");
}

Test(kv_state, append_of_bytes_keeps_the_content_type)
{
    put("text/plain", "cat");
    struct kv_result result = append("application/json", "[1]", true);
    cr_assert_eq(result.status, KV_REPLACED);
    cr_assert_eq(result.number, 6);
    cr_assert_eq(result.version, 2);
    assert_value(&fixture, "k", "text/plain", "cat[1]");
}

Test(kv_state, append_to_a_json_array_adds_an_element)
{
    const struct {
        const char *before;
        const char *element;
        const char *after;
    } cases[] = {
        {"[]", "1", "[1]"},
        {"[1]", "{\"a\":[]}", "[1,{\"a\":[]}]"},
        {" [ 1 ] ", "2", " [ 1 ,2] "},
        {"[ ]", "\"]\"", "[ \"]\"]"},
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        put("application/json", cases[i].before);
        struct kv_result result = append("application/json", cases[i].element, true);
        cr_assert_eq(result.status, KV_REPLACED);
        cr_assert_eq((size_t)result.number, strlen(cases[i].after));
        assert_value(&fixture, "k", "application/json", cases[i].after);
    }
}

Test(kv_state, append_knows_json_by_its_media_type)
{
    const char *const json[] = {"application/json", "Application/JSON",
                                "application/json; charset=utf-8", "application/json ;x=y"};
    for (size_t i = 0; i < TL_COUNT_OF(json); i++) {
        put(json[i], "[1]");
        append("application/json", "2", true);
        assert_value(&fixture, "k", json[i], "[1,2]");
    }
    const char *const other[] = {"application/jsonx", "application/jso", "", "text/plain",
                                 "application/json-seq"};
    for (size_t i = 0; i < TL_COUNT_OF(other); i++) {
        put(other[i], "[1]");
        append("application/json", "2", true);
        assert_value(&fixture, "k", other[i], "[1]2");
    }
}

Test(kv_state, append_to_json_that_is_no_array_is_refused)
{
    const char *const values[] = {"5", "\"[]\"", "{}", "null", "[", "]", "", " "};
    for (size_t i = 0; i < TL_COUNT_OF(values); i++) {
        put("application/json", values[i]);
        uint64_t revision = fixture.state.group.revision;
        struct kv_result result = append("application/json", "1", true);
        cr_assert_eq(result.status, KV_NOT_LIST, "%s", values[i]);
        cr_assert_eq(result.revision, revision, "the present one");
        cr_assert_eq(fixture.state.group.revision, revision);
    }
}

Test(kv_state, append_of_bytes_that_are_no_json_to_a_json_array_is_refused)
{
    put("application/json", "[1]");
    cr_assert_eq(append("application/octet-stream", "2", false).status, KV_NOT_LIST);
    assert_value(&fixture, "k", "application/json", "[1]");
}

Test(kv_state, append_up_to_the_limit_and_no_further)
{
    struct command command = command_of(COMMAND_APPEND, "text/plain", "abcde");
    command.value_bytes_max = 10;
    kv_fixture_do(&fixture, &command);
    cr_assert_eq(kv_fixture_do(&fixture, &command).status, KV_REPLACED);
    command.value = bytes_of("x");
    cr_assert_eq(kv_fixture_do(&fixture, &command).status, KV_TOO_LARGE);
    assert_value(&fixture, "k", "text/plain", "abcdeabcde");

    struct command list = command_of(COMMAND_LIST_APPEND, "", "\"abc\"");
    list.key = bytes_of("list");
    list.value_bytes_max = 12;
    cr_assert_eq(kv_fixture_do(&fixture, &list).status, KV_CREATED); /* ["abc"]: 7 */
    cr_assert_eq(kv_fixture_do(&fixture, &list).status, KV_TOO_LARGE);
    list.value_bytes_max = 13;
    cr_assert_eq(kv_fixture_do(&fixture, &list).status, KV_REPLACED);
}

Test(kv_state, append_never_makes_a_row_that_cannot_be_stored)
{
    uint8_t *room = calloc(1, VALUE_BYTES_MAX);
    struct command command = command_of(COMMAND_APPEND, "", "");
    command.value = bytes_make(room, VALUE_BYTES_MAX);
    command.value_bytes_max = UINT32_MAX;
    cr_assert_eq(kv_fixture_do(&fixture, &command).status, KV_CREATED);
    command.value.count = 1;
    cr_assert_eq(kv_fixture_do(&fixture, &command).status, KV_TOO_LARGE);
    free(room);
}

/* ---- lists of strings ---- */

Test(kv_state, list_append_to_an_absent_or_empty_list_is_a_list_of_one)
{
    struct kv_result result = list_append("\"c\"");
    cr_assert_eq(result.status, KV_CREATED);
    cr_assert_eq(result.number, 5);
    assert_value(&fixture, "k", "application/json", "[\"c\"]");
    put("application/json", " [ ] ");
    cr_assert_eq(list_append("\"c\"").status, KV_REPLACED);
    assert_value(&fixture, "k", "application/json", "[\"c\"]");
    put("text/plain", "");
    cr_assert_eq(list_append("\"c\"").status, KV_REPLACED);
    assert_value(&fixture, "k", "application/json", "[\"c\"]");
}

Test(kv_state, list_append_adds_behind_the_last)
{
    const struct {
        const char *before;
        const char *after;
    } cases[] = {
        {"[\"a\",\"b\"]", "[\"a\",\"b\",\"c\"]"},
        {"[\"\"]", "[\"\",\"c\"]"},
        {" [ \"a\" , \"b\" ]\n", " [ \"a\" , \"b\" ,\"c\"]\n"},
        {"[\"]\",\"\\\"\\\\\"]", "[\"]\",\"\\\"\\\\\",\"c\"]"},
        {"[\"\\u00e9\\n\"]", "[\"\\u00e9\\n\",\"c\"]"},
        {"[\"\xc3\xa9\"]", "[\"\xc3\xa9\",\"c\"]"},
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        put("application/json;v=1", cases[i].before);
        struct kv_result result = list_append("\"c\"");
        cr_assert_eq(result.status, KV_REPLACED, "%s", cases[i].before);
        cr_assert_eq((size_t)result.number, strlen(cases[i].after));
        assert_value(&fixture, "k", "application/json;v=1", cases[i].after);
    }
}

Test(kv_state, list_append_to_what_is_no_list_of_strings_is_refused)
{
    const char *const values[] = {
        "5",
        "\"a\"",
        "{}",
        "[1]",
        "[\"a\",1]",
        "[\"a\",[\"b\"]]",
        "[\"a\"",
        "\"a\"]",
        "[\"a\",]",
        "[,\"a\"]",
        "[\"a\"\"b\"]",
        "[\"a\"]]",
        "[\"a\\x\"]",
        "[\"\\u12\"]",
        "[\"\\u12g4\"]",
        "[\"a]",
        "[\"a\n\"]",
        "[\"a\\\"]",
        "[null]",
        " ",
        "[\"a\"] 1]",
        "[\"a\";\"b\"]",
    };
    for (size_t i = 0; i < TL_COUNT_OF(values); i++) {
        put("application/json", values[i]);
        uint64_t revision = fixture.state.group.revision;
        cr_assert_eq(list_append("\"c\"").status, KV_NOT_LIST, "%s", values[i]);
        cr_assert_eq(fixture.state.group.revision, revision);
        assert_value(&fixture, "k", "application/json", values[i]);
    }
}

Test(kv_state, text_that_looks_like_a_list_is_none)
{
    put("text/plain", "[\"a\"]");
    cr_assert_eq(list_append("\"c\"").status, KV_NOT_LIST);
}

Test(kv_state, list_append_of_what_is_no_string_is_refused)
{
    const char *const elements[] = {"", "c", "5", "\"c", "\"c\" ", " \"c\"", "\"c\",\"d\"", "[]"};
    for (size_t i = 0; i < TL_COUNT_OF(elements); i++) {
        cr_assert_eq(list_append(elements[i]).status, KV_NOT_LIST, "%s", elements[i]);
    }
    cr_assert_eq(fixture.state.group.rows_count, 0);
}

/* ---- increment ---- */

Test(kv_state, increment_of_an_absent_key_begins_at_zero)
{
    struct kv_result result = increment(-7);
    cr_assert_eq(result.status, KV_CREATED);
    cr_assert_eq(result.number, -7);
    assert_value(&fixture, "k", "text/plain", "-7");
}

Test(kv_state, increment_adds_and_keeps_the_content_type)
{
    const struct {
        const char *before;
        int64_t by;
        const char *after;
    } cases[] = {
        {"5", 3, "8"},
        {"+5", -6, "-1"},
        {"-5", 5, "0"},
        {"007", 1, "8"},
        {"-0", 0, "0"},
        {"9223372036854775806", 1, "9223372036854775807"},
        {"-9223372036854775807", -1, "-9223372036854775808"},
        {"-9223372036854775808", INT64_MAX, "-1"},
        {"9223372036854775807", INT64_MIN, "-1"},
    };
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        put("application/x-counter", cases[i].before);
        struct kv_result result = increment(cases[i].by);
        cr_assert_eq(result.status, KV_REPLACED);
        cr_assert_eq(result.number, strtoll(cases[i].after, NULL, 10));
        assert_value(&fixture, "k", "application/x-counter", cases[i].after);
    }
}

Test(kv_state, increment_of_what_is_no_integer_is_refused)
{
    const char *const values[] = {"",
                                  "+",
                                  "-",
                                  "cat",
                                  "5 ",
                                  " 5",
                                  "5.0",
                                  "1e3",
                                  "--5",
                                  "0x5",
                                  "9223372036854775808",
                                  "-9223372036854775809",
                                  "99999999999999999999",
                                  "000000000000000000005"};
    for (size_t i = 0; i < TL_COUNT_OF(values); i++) {
        put("text/plain", values[i]);
        uint64_t revision = fixture.state.group.revision;
        cr_assert_eq(increment(1).status, KV_NOT_INTEGER, "%s", values[i]);
        cr_assert_eq(fixture.state.group.revision, revision);
    }
}

Test(kv_state, increment_that_would_overflow_changes_nothing)
{
    put("text/plain", "9223372036854775807");
    cr_assert_eq(increment(1).status, KV_OVERFLOW);
    assert_value(&fixture, "k", "text/plain", "9223372036854775807");
    put("text/plain", "-9223372036854775808");
    cr_assert_eq(increment(-1).status, KV_OVERFLOW);
    assert_value(&fixture, "k", "text/plain", "-9223372036854775808");
    cr_assert_eq(fixture.state.group.revision, 3);
}

/* ---- damage ---- */

/* The command fails with `expected`, and the state is as before. */
static void assert_fails(struct buf *entry, enum tl_err expected)
{
    struct group_state before = fixture.state.group;
    struct kv_result result;
    fixture.state.fault_reason = NULL;
    cr_assert_eq(kv_fixture_apply(&fixture, entry, &result), expected);
    cr_assert_eq(memcmp(&before, &fixture.state.group, sizeof before), 0);
    cr_assert_eq(fixture.state.fault_reason != NULL, expected == TL_ERR_CORRUPT);
}

Test(kv_state, a_damaged_value_is_noticed_by_who_reads_it)
{
    put("text/plain", "5");
    struct buf *row = stored_row_of_k();
    row->data[row->count - 1] ^= 1;
    struct command command = command_of(COMMAND_APPEND, "", "x");
    assert_fails(command_encode(&command), TL_ERR_CORRUPT);
    command.type = COMMAND_INCR;
    assert_fails(command_encode(&command), TL_ERR_CORRUPT);
    command.type = COMMAND_LIST_APPEND;
    assert_fails(command_encode(&command), TL_ERR_CORRUPT);
    cr_assert_eq(put("text/plain", "new").status, KV_REPLACED, "an overwrite does not read it");
}

Test(kv_state, a_damaged_header_is_noticed_by_every_command)
{
    put("text/plain", "5");
    stored_row_of_k()->data[40] ^= 1;
    struct command command = command_of(COMMAND_PUT, "", "x");
    assert_fails(command_encode(&command), TL_ERR_CORRUPT);
    command.type = COMMAND_DELETE;
    assert_fails(command_encode(&command), TL_ERR_CORRUPT);
}

Test(kv_state, a_row_of_a_newer_version_is_told_from_damage)
{
    put("text/plain", "5");
    stored_row_of_k()->data[0] = ROW_FORMAT + 1;
    struct command command = command_of(COMMAND_PUT, "", "x");
    assert_fails(command_encode(&command), TL_ERR_NEWER_FORMAT);
}

Test(kv_state, a_command_that_does_not_decode_is_corrupt)
{
    assert_fails(entry_create(ENTRY_COMMAND, 0), TL_ERR_CORRUPT);
}

Test(kv_state, a_second_genesis_is_corrupt)
{
    assert_fails(entry_create(ENTRY_GENESIS, 0), TL_ERR_CORRUPT);
}

Test(kv_state, a_row_too_many_for_the_count_is_corrupt)
{
    put("text/plain", "5");
    fixture.state.group.rows_count = 0;
    struct command command = command_of(COMMAND_DELETE, "", "");
    assert_fails(command_encode(&command), TL_ERR_CORRUPT);
}
