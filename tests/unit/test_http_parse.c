/* What clients send is taken apart as documented, and nothing malformed passes. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "src/http/parse.h"
#include "trilith/prng.h"

static struct bytes decoded(const char *source, uint8_t *room)
{
    size_t count;
    if (!percent_decode(bytes_of(source), room, &count)) return bytes_make(NULL, SIZE_MAX);
    return bytes_make(room, count);
}

Test(http_parse, escapes_are_decoded_once_and_nothing_is_normalised)
{
    uint8_t room[32];
    cr_assert(bytes_equal(decoded("a%2Fb/../%2e", room), bytes_of("a/b/../.")));
    cr_assert(bytes_equal(decoded("%2541", room), bytes_of("%41")));
    cr_assert(bytes_equal(decoded("a+b", room), bytes_of("a+b")));
    cr_assert(bytes_equal(decoded("%00%fF", room), bytes_make("\0\xff", 2)));
}

Test(http_parse, bad_escapes_are_refused)
{
    static const char *const bad[] = {"%", "a%", "a%2", "%zz", "%2", "%%41", "%-1"};
    uint8_t room[8];
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        cr_assert_eq(decoded(bad[i], room).count, SIZE_MAX, "%s", bad[i]);
    }
}

Test(http_parse, query_fills_known_parameters_in_any_order)
{
    struct query_param params[] = {{.name = "op"}, {.name = "by"}, {.name = "verbose"}};
    uint8_t scratch[64];
    cr_assert(query_parse(bytes_of("&by=%2D5&verbose&op=in%63r"), scratch, params, 3));
    cr_assert(text_is(params[0].value, "incr"));
    cr_assert(text_is(params[1].value, "-5"));
    cr_assert(params[2].is_present);
    cr_assert_eq(params[2].value.count, 0);
}

Test(http_parse, query_refuses_unknown_repeated_and_badly_escaped_parameters)
{
    static const char *const bad[] = {"x=1", "op=a&op=a", "op=%4", "op=a&x", "OP=a", "=a", "o=a"};
    uint8_t scratch[64];
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        struct query_param params[] = {{.name = "op"}};
        cr_assert_not(query_parse(bytes_of(bad[i]), scratch, params, 1), "%s", bad[i]);
    }
}

Test(http_parse, numbers_are_digits_in_range)
{
    uint64_t u;
    int64_t i;
    cr_assert(parse_u64(bytes_of("18446744073709551615"), &u));
    cr_assert_eq(u, UINT64_MAX);
    cr_assert(parse_i64(bytes_of("-9223372036854775808"), &i));
    cr_assert_eq(i, INT64_MIN);
    cr_assert(parse_i64(bytes_of("9223372036854775807"), &i));
    cr_assert_eq(i, INT64_MAX);
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x10",
                                      "1.",
                                      "--1",
                                      "9223372036854775808",
                                      "-9223372036854775809"};
    for (size_t at = 0; at < TL_COUNT_OF(bad); at++) {
        cr_assert_not(parse_i64(bytes_of(bad[at]), &i), "%s", bad[at]);
    }
    cr_assert_not(parse_u64(bytes_of("18446744073709551616"), &u));
    cr_assert_not(parse_u64(bytes_of("-1"), &u));
}

Test(http_parse, etag_is_a_quoted_revision)
{
    uint64_t revision;
    cr_assert(parse_etag(bytes_of("\"42\""), &revision));
    cr_assert_eq(revision, 42);
    static const char *const bad[] = {"42", "\"\"", "\"", "W/\"42\"", "\"4\",\"5\"", "\"x\"", "*"};
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        cr_assert_not(parse_etag(bytes_of(bad[i]), &revision), "%s", bad[i]);
    }
}

Test(http_parse, consistency_has_three_names)
{
    enum node_consistency consistency;
    cr_assert(parse_consistency(bytes_of("linearizable"), &consistency));
    cr_assert_eq(consistency, NODE_LINEARIZABLE);
    cr_assert(parse_consistency(bytes_of("causal"), &consistency));
    cr_assert_eq(consistency, NODE_CAUSAL);
    cr_assert(parse_consistency(bytes_of("local"), &consistency));
    cr_assert_eq(consistency, NODE_LOCAL);
    cr_assert_not(parse_consistency(bytes_of("Local"), &consistency));
    cr_assert_not(parse_consistency(bytes_of(""), &consistency));
}

Test(http_parse, media_type_ignores_case_and_parameters)
{
    cr_assert(media_type_is(bytes_of("application/json"), "application/json"));
    cr_assert(media_type_is(bytes_of(" Application/JSON ; charset=utf-8"), "application/json"));
    cr_assert_not(media_type_is(bytes_of("application/json5"), "application/json"));
    cr_assert_not(media_type_is(bytes_of(""), "application/json"));
    cr_assert(media_type_is_valid(bytes_of("text/plain;x=y")));
    static const char *const bad[] = {"", "text", "/", "text/", "/plain", "a/b/c", "te xt/plain"};
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        cr_assert_not(media_type_is_valid(bytes_of(bad[i])), "%s", bad[i]);
    }
}

Test(http_parse, utf8_is_strict)
{
    static const char *const good[] = {"",
                                       "a",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80"};
    static const char *const bad[] = {
        "\x80", "\xc0\x80",         "\xc3",  "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "\xf5", "\xf0\x80\x80\x80", "a\xff", "\xe2\x82",     "\xe2\x28\xa1"};
    for (size_t i = 0; i < TL_COUNT_OF(good); i++) {
        cr_assert(utf8_is_valid(bytes_of(good[i])), "good %zu", i);
    }
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        cr_assert_not(utf8_is_valid(bytes_of(bad[i])), "bad %zu", i);
    }
}

/* The definition, a byte at a time: the code point is put together and judged. */
static bool is_utf8_by_definition(const uint8_t *bytes, size_t count)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < count;) {
        uint32_t point = bytes[i++];
        if (point < 0x80) continue;
        if (point < 0xc0 || point > 0xf7) return false;
        size_t more = point >= 0xf0 ? 3 : point >= 0xe0 ? 2 : 1;
        point &= 0x3fu >> more;
        for (size_t j = 0; j < more; j++, i++) {
            if (i == count || bytes[i] < 0x80 || bytes[i] > 0xbf) return false;
            point = point << 6 | (bytes[i] & 0x3fu);
        }
        bool is_surrogate = point >= 0xd800 && point <= 0xdfff;
        if (point < least[more] || point > 0x10ffff || is_surrogate) return false;
    }
    return true;
}

static void assert_utf8(const uint8_t *bytes, size_t count)
{
    cr_assert_eq(utf8_is_valid(bytes_make(bytes, count)), is_utf8_by_definition(bytes, count),
                 "%zu bytes from %02x on", count, bytes[0]);
}

Test(http_parse, utf8_is_judged_the_same_at_every_offset)
{
    for (size_t at = 0; at <= 17; at++) {
        for (uint32_t pair = 0; pair <= UINT16_MAX; pair++) {
            uint8_t bytes[24];
            memset(bytes, 'a', sizeof bytes);
            bytes[at] = (uint8_t)(pair >> 8);
            bytes[at + 1] = (uint8_t)pair;
            assert_utf8(bytes, sizeof bytes);
            assert_utf8(bytes, at + 1);
            bytes[at + 2] = 0x80;
            bytes[at + 3] = 0xbf;
            assert_utf8(bytes, at + 3);
            assert_utf8(bytes, sizeof bytes);
        }
    }
}

/* Well-formed sequences between runs of ASCII, and sometimes one byte that is another. */
Test(http_parse, utf8_of_random_strings_is_judged_as_defined)
{
    static const char *const sequences[] = {"\xc2\x80",        "\xdf\xbf",     "\xe0\xa0\x80",
                                            "\xed\x9f\xbf",    "\xef\xbf\xbf", "\xf0\x90\x80\x80",
                                            "\xf4\x8f\xbf\xbf"};
    uint64_t seed = (uint64_t)time(NULL);
    (void)fprintf(stderr, "utf8 of random strings: seed %llu\n", (unsigned long long)seed);
    struct prng prng;
    prng_init(&prng, seed);
    uint32_t valid_count = 0;
    for (uint32_t round = 0; round < 100000; round++) {
        uint8_t bytes[80];
        size_t count = 0;
        while (count < 64) {
            const char *sequence = sequences[prng_below(&prng, TL_COUNT_OF(sequences))];
            memcpy(bytes + count, sequence, strlen(sequence));
            count += strlen(sequence);
            size_t run = prng_below(&prng, 12);
            memset(bytes + count, 'a', run);
            count += run;
        }
        if (prng_below(&prng, 2) == 0) bytes[prng_below(&prng, count)] = (uint8_t)prng_next(&prng);
        assert_utf8(bytes, count);
        valid_count += utf8_is_valid(bytes_make(bytes, count));
        assert_utf8(bytes, prng_between(&prng, 1, count));
    }
    cr_assert_gt(valid_count, 50000);
    cr_assert_lt(valid_count, 100000);
}

/* ---- base64 ---- */

static bool decodes_to(const char *text, const char *expected, size_t expected_count)
{
    uint8_t bytes[64];
    size_t count;
    return base64_decode(bytes_of(text), bytes, &count) &&
           bytes_equal(bytes_make(bytes, count), bytes_make(expected, expected_count));
}

Test(http_parse, base64_is_decoded_with_its_padding)
{
    cr_assert(decodes_to("", "", 0));
    cr_assert(decodes_to("Zg==", "f", 1));
    cr_assert(decodes_to("Zm8=", "fo", 2));
    cr_assert(decodes_to("Zm9v", "foo", 3));
    cr_assert(decodes_to("Zm9vYmFy", "foobar", 6));
    cr_assert(decodes_to("+/8A", "\xfb\xff\0", 3));
}

Test(http_parse, base64_that_another_would_read_differently_is_refused)
{
    static const char *const bad[] = {"Z",    "Zg",   "Zg=",    "Zg===", "Zg==Zg==",
                                      "=",    "====", "Zh==",   "Zm9=",  "Zm 9v",
                                      "-_8A", "Z===", "Zm9v\n", "Zg=a"};
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        cr_assert_not(decodes_to(bad[i], "f", 1), "%s", bad[i]);
        uint8_t bytes[64];
        size_t count;
        cr_assert_not(base64_decode(bytes_of(bad[i]), bytes, &count), "%s", bad[i]);
    }
}
