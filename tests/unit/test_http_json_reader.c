/* The cursor over valid JSON sees what jansson sees. */

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>

#include "src/http/json.h"
#include "src/http/json_reader.h"
#include "trilith/prng.h"

#define DEPTH_MAX 4u

static void assert_same_string(struct json_string string, const char *expected,
                               size_t expected_count)
{
    uint8_t *bytes = malloc(string.raw.count + 1);
    size_t count = json_string_decode(string, bytes);
    cr_assert(bytes_equal(bytes_make(bytes, count), bytes_make(expected, expected_count)), "%.*s",
              (int)string.raw.count, (const char *)string.raw.data);
    if (!string.has_escapes) cr_assert_eq(count, string.raw.count);
    free(bytes);
}

/* Recursion over what the test itself has made, DEPTH_MAX deep. */
static void assert_same_value(struct json_reader *reader, const json_t *expected)
{
    switch (json_reader_kind(reader)) {
    case JSON_KIND_OBJECT:
        cr_assert(json_is_object(expected));
        json_reader_enter(reader);
        while (json_reader_more(reader)) {
            struct json_string name = json_reader_name(reader);
            char text[64] = {0};
            cr_assert_lt(name.raw.count, sizeof text);
            (void)json_string_decode(name, (uint8_t *)text);
            const json_t *value = json_object_get(expected, text);
            cr_assert_not_null(value, "%s", text);
            assert_same_value(reader, value);
        }
        return;
    case JSON_KIND_ARRAY:
        cr_assert(json_is_array(expected));
        json_reader_enter(reader);
        for (size_t i = 0; json_reader_more(reader); i++) {
            cr_assert_lt(i, json_array_size(expected));
            assert_same_value(reader, json_array_get(expected, i));
        }
        return;
    case JSON_KIND_STRING:
        cr_assert(json_is_string(expected));
        assert_same_string(json_reader_string(reader), json_string_value(expected),
                           json_string_length(expected));
        return;
    case JSON_KIND_NUMBER: {
        struct bytes number = json_reader_number(reader);
        char text[64] = {0};
        cr_assert_lt(number.count, sizeof text);
        memcpy(text, number.data, number.count);
        cr_assert_eq(strtod(text, NULL), json_number_value(expected));
        return;
    }
    case JSON_KIND_BOOL:
        cr_assert_eq(json_reader_bool(reader), json_is_true(expected));
        return;
    case JSON_KIND_NULL:
        cr_assert(json_is_null(expected));
        json_reader_skip(reader);
        return;
    }
}

static json_t *random_string(struct prng *prng)
{
    static const char *const texts[] = {"",
                                        "plain",
                                        "q\"u\\o/te",
                                        "\b\f\n\r\t\x01",
                                        "\xc3\xa9\xe2\x82\xac",
                                        "\xf0\x9f\x98\x80",
                                        "[{,:}]"};
    if (prng_chance(prng, 100000)) return json_stringn("n\0l", 3);
    return json_string(texts[prng_below(prng, TL_COUNT_OF(texts))]);
}

static json_t *random_value(struct prng *prng, uint32_t depth)
{
    uint64_t kind = prng_below(prng, depth < DEPTH_MAX ? 7 : 5);
    if (kind == 0) return json_integer((json_int_t)prng_next(prng));
    if (kind == 1) return json_real((double)prng_below(prng, 1000) / 8 - 60);
    if (kind == 2) return json_boolean(prng_chance(prng, 500000));
    if (kind == 3) return json_null();
    if (kind == 4) return random_string(prng);
    json_t *value = kind == 5 ? json_array() : json_object();
    uint64_t count = prng_below(prng, 4);
    for (uint64_t i = 0; i < count; i++) {
        json_t *member = random_value(prng, depth + 1);
        json_t *name = random_string(prng);
        int err = kind == 5 ? json_array_append_new(value, member)
                            : json_object_set_new(value, json_string_value(name), member);
        cr_assert_eq(err, 0);
        json_decref(name);
    }
    return value;
}

Test(http_json_reader, every_value_is_what_jansson_has_written)
{
    struct prng prng;
    prng_init(&prng, 1);
    for (int i = 0; i < 3000; i++) {
        json_t *value = random_value(&prng, 0);
        size_t flags = JSON_ENCODE_ANY | (prng_chance(&prng, 500000) ? JSON_INDENT(2) : 0) |
                       (prng_chance(&prng, 500000) ? JSON_ENSURE_ASCII : 0);
        char *text = json_dumps(value, flags);
        cr_assert(json_is_valid(bytes_of(text)));
        struct json_reader reader = json_reader_make(bytes_of(text));
        assert_same_value(&reader, value);
        cr_assert_eq(reader.at, reader.end, "%s", text);
        reader = json_reader_make(bytes_of(text));
        json_reader_skip(&reader);
        cr_assert_eq(reader.at, reader.end, "%s", text);
        free(text);
        json_decref(value);
    }
}

Test(http_json_reader, members_of_an_object_come_in_order_between_blanks)
{
    struct json_reader reader =
        json_reader_make(bytes_of(" { \"a\" : [ ] , \"b\":{\"c\":[1,\"]\"]} ,\"d\": null } "));
    static const char *const names[] = {"a", "b", "d"};
    size_t count = 0;
    for (json_reader_enter(&reader); json_reader_more(&reader); count++) {
        cr_assert_lt(count, TL_COUNT_OF(names));
        cr_assert(json_string_is(json_reader_name(&reader), names[count]));
        json_reader_skip(&reader);
    }
    cr_assert_eq(count, 3);
}

Test(http_json_reader, numbers_are_handed_out_as_they_are_written)
{
    struct json_reader reader = json_reader_make(bytes_of("[18446744073709551615,-1.5e+3]"));
    json_reader_enter(&reader);
    cr_assert(json_reader_more(&reader));
    cr_assert(bytes_equal(json_reader_number(&reader), bytes_of("18446744073709551615")));
    cr_assert(json_reader_more(&reader));
    cr_assert(bytes_equal(json_reader_number(&reader), bytes_of("-1.5e+3")));
    cr_assert_not(json_reader_more(&reader));
}

Test(http_json_reader, every_escape_is_its_byte)
{
    struct json_reader reader = json_reader_make(
        bytes_of("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\ud83d\\ude00\\u0000.\""));
    assert_same_string(json_reader_string(&reader),
                       "\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0.", 20);
}
