/* What is stored as JSON is JSON, whatever it is nested in. */

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>

#include "src/http/json.h"
#include "trilith/prng.h"

Test(http_json, json_is_any_one_text)
{
    static const char *const good[] = {"1",
                                       " null ",
                                       "\"a\\u0000b\"",
                                       "[]",
                                       "{\"a\":[1,2.5e3,{}]}",
                                       "{\"a\":1,\"a\":2}",
                                       "123456789012345678901234567890",
                                       "-0",
                                       "1E+9",
                                       "1e999",
                                       "\t[ ]\n",
                                       "{\"\":{}}",
                                       "\"\\ud83d\\ude00\"",
                                       "[[],{},[{}],\"\\/\"]",
                                       "true",
                                       "\"\x7f\""};
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "[1,]",
                                      "1 2",
                                      "nul",
                                      "'a'",
                                      "\"\xff\"",
                                      "01",
                                      "[",
                                      "]",
                                      "}",
                                      "[}",
                                      "{]",
                                      "[1}",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{1:2}",
                                      "{\"a\":1,}",
                                      "[,1]",
                                      "[1 2]",
                                      "{\"a\" 1}",
                                      "\"a",
                                      "\"\\x\"",
                                      "\"\\u12g4\"",
                                      "\"\\u123",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\n\"",
                                      "-",
                                      "1.",
                                      ".5",
                                      "1e",
                                      "+1",
                                      "tru",
                                      "truex",
                                      "nan",
                                      "\"\\",
                                      "{\"a\":1}}",
                                      "[]]",
                                      "\"a\"b"};
    for (size_t i = 0; i < TL_COUNT_OF(good); i++) {
        cr_assert(json_is_valid(bytes_of(good[i])), "%s", good[i]);
    }
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        cr_assert_not(json_is_valid(bytes_of(bad[i])), "%s", bad[i]);
    }
    cr_assert_not(json_is_valid(bytes_make(NULL, 0)));
    cr_assert_not(json_is_valid(bytes_make("1\0", 2)));
}

Test(http_json, string_list_is_an_array_of_strings_only)
{
    static const char *const good[] = {"[]", " [ ] ", "[\"a\"]", "[ \"a\\\"]\" ,\t\"\" ]\n",
                                       "[\"\\\\\",\"b\"]"};
    static const char *const bad[] = {"\"a\"", "[1]", "[\"a\",1]", "[\"a\",[\"b\"]]", "{}",
                                      "null",  "",    "[null]",    "[\"a\",{}]"};
    for (size_t i = 0; i < TL_COUNT_OF(good); i++) {
        cr_assert(json_is_string_list(bytes_of(good[i])), "%s", good[i]);
    }
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        cr_assert_not(json_is_string_list(bytes_of(bad[i])), "%s", bad[i]);
    }
}

Test(http_json, nesting_has_a_limit)
{
    char text[2 * JSON_DEPTH_MAX + 2];
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    cr_assert(json_is_valid(bytes_make(text, 2 * JSON_DEPTH_MAX)));
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    cr_assert_not(json_is_valid(bytes_make(text, sizeof text)));
}

/* Texts made of the pieces of JSON, mostly wrong: a second opinion on each. jansson refuses some
 * numbers and names for what they mean; those do not occur here. */
Test(http_json, judges_as_jansson_does)
{
    static const char *const pieces[] = {"{",  "}",    "[",  "]", ",",       ":",     "\"a\"", "1",
                                         "-2", "null", "  ", "0", "\"\\n\"", "false", "3.5"};
    struct prng prng;
    prng_init(&prng, 1);
    uint32_t valid_count = 0;
    for (uint32_t round = 0; round < 200000; round++) {
        char text[64] = "";
        size_t count = 0;
        uint32_t pieces_count = 1 + (uint32_t)prng_below(&prng, 6);
        for (uint32_t i = 0; i < pieces_count; i++) {
            const char *piece = pieces[prng_below(&prng, TL_COUNT_OF(pieces))];
            memcpy(text + count, piece, strlen(piece));
            count += strlen(piece);
        }
        json_t *json = json_parse(bytes_make(text, count));
        cr_assert_eq(json_is_valid(bytes_make(text, count)), json != NULL, "%.*s", (int)count,
                     text);
        valid_count += json != NULL;
        json_decref(json);
    }
    cr_assert_gt(valid_count, 1000, "the texts were too wrong to say anything");
}
