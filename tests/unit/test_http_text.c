/* Answers are written digit by digit as documented, whatever the first capacity. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>

#include "src/http/text.h"
#include "trilith/prng.h"

static h2o_mem_pool_t pool;

static void begin(void)
{
    h2o_mem_init_pool(&pool);
}

static void end(void)
{
    h2o_mem_clear_pool(&pool);
}

TestSuite(http_text, .init = begin, .fini = end);

static void assert_text(const struct text *text, const char *expected)
{
    cr_assert(bytes_equal(text_bytes(text), bytes_of(expected)), "%.*s", (int)text->count,
              text->data);
}

Test(http_text, grows_and_keeps_what_was_there)
{
    struct text text = text_make(&pool, 1);
    for (int i = 0; i < 100; i++) text_add_string(&text, "abc");
    cr_assert_eq(text.count, 300);
    for (size_t i = 0; i < text.count; i++) cr_assert_eq(text.data[i], "abc"[i % 3]);
}

Test(http_text, numbers_at_their_limits)
{
    struct text text = text_make(&pool, 1);
    text_add_u64(&text, 0);
    text_add_string(&text, " ");
    text_add_u64(&text, UINT64_MAX);
    text_add_string(&text, " ");
    text_add_i64(&text, INT64_MIN);
    text_add_string(&text, " ");
    text_add_milli(&text, 1234567);
    text_add_string(&text, " ");
    text_add_milli(&text, 5);
    assert_text(&text, "0 18446744073709551615 -9223372036854775808 1234.567 0.005");
}

Test(http_text, json_strings_are_escaped)
{
    struct text text = text_make(&pool, 1);
    text_add_json(&text, bytes_make("a\"b\\c\n\0\x1f\xc3\xa9/", 11));
    assert_text(&text, "a\\\"b\\\\c\\u000a\\u0000\\u001f\xc3\xa9/");
}

/* The rules, a byte at a time. */
static void assert_json(struct bytes bytes)
{
    char expected[6 * 64];
    size_t count = 0;
    cr_assert_leq(bytes.count, 64);
    for (size_t i = 0; i < bytes.count; i++) {
        char byte = (char)bytes.data[i];
        if (bytes.data[i] < 0x20) {
            count += (size_t)snprintf(expected + count, 7, "\\u%04x", bytes.data[i]);
        } else {
            if (byte == '"' || byte == '\\') expected[count++] = '\\';
            expected[count++] = byte;
        }
    }
    struct text text = text_make(&pool, 1);
    text_add_json(&text, bytes);
    cr_assert(bytes_equal(text_bytes(&text), bytes_make(expected, count)),
              "%zu bytes became %zu, not %zu", bytes.count, text.count, count);
}

Test(http_text, json_escapes_every_byte_that_needs_it_at_every_offset)
{
    static const uint8_t fillers[] = {'a', 0x20, 0x21, '#', '[', ']', 0x7f, 0x80, 0xff};
    for (size_t filler = 0; filler < TL_COUNT_OF(fillers); filler++) {
        for (size_t at = 0; at <= 17; at++) {
            for (uint32_t byte = 0; byte <= UINT8_MAX; byte++) {
                uint8_t bytes[24];
                memset(bytes, fillers[filler], sizeof bytes);
                bytes[at] = (uint8_t)byte;
                assert_json(bytes_make(bytes, sizeof bytes));
                assert_json(bytes_make(bytes, at + 1));
            }
        }
        h2o_mem_clear_pool(&pool);
    }
}

Test(http_text, json_of_random_strings_is_that_of_their_bytes)
{
    static const uint8_t special[] = {0, 0x1f, 0x20, 0x21, '"', '#', '[', '\\', ']', 0x7f, 0x80};
    uint64_t seed = (uint64_t)time(NULL);
    (void)fprintf(stderr, "json of random strings: seed %llu\n", (unsigned long long)seed);
    struct prng prng;
    prng_init(&prng, seed);
    for (uint32_t round = 0; round < 20000; round++) {
        uint8_t bytes[64];
        size_t count = prng_below(&prng, sizeof bytes + 1);
        uint64_t specials_one_in = prng_between(&prng, 1, 40);
        for (size_t i = 0; i < count; i++) {
            bytes[i] = (uint8_t)prng_between(&prng, 0x23, 0x5b);
            if (prng_below(&prng, specials_one_in) > 0) continue;
            bytes[i] = special[prng_below(&prng, TL_COUNT_OF(special))];
        }
        assert_json(bytes_make(bytes, count));
        h2o_mem_clear_pool(&pool);
    }
}

Test(http_text, base64_pads)
{
    static const char *const pairs[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"\xff\xfe\xfd!", "//79IQ=="}};
    for (size_t i = 0; i < TL_COUNT_OF(pairs); i++) {
        struct text text = text_make(&pool, 1);
        text_add_base64(&text, bytes_of(pairs[i][0]));
        assert_text(&text, pairs[i][1]);
    }
}

Test(http_text, printf_of_any_length)
{
    struct text text = text_make(&pool, 2);
    text_printf(&text, "%s=%d", "a long name", -5);
    assert_text(&text, "a long name=-5");
}
