/* Answers are written digit by digit as documented, whatever the first capacity. */

#include <criterion/criterion.h>

#include "src/http/text.h"

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
