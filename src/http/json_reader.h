/* json_reader.h - what a JSON text holds, value by value, without building a tree of it.
 *
 * Role:       A cursor over a text that has passed json_is_valid(): only its shape is in question.
 *             Strings without escapes are borrowed from the text as they stand.
 * Thread:     pure.
 *
 *   for (json_reader_enter(&reader); json_reader_more(&reader);) {
 *       struct json_string name = json_reader_name(&reader);   objects only
 *       ... json_reader_kind(), then one of the functions that take a value
 *   }
 */

#ifndef TL_HTTP_JSON_READER_H
#define TL_HTTP_JSON_READER_H

#include "trilith/buf.h"

enum json_kind {
    JSON_KIND_OBJECT,
    JSON_KIND_ARRAY,
    JSON_KIND_STRING,
    JSON_KIND_NUMBER,
    JSON_KIND_BOOL,
    JSON_KIND_NULL
};

struct json_reader {
    const uint8_t *at;
    const uint8_t *end;
};

/* What stands between the quotes. */
struct json_string {
    struct bytes raw;
    bool has_escapes;
};

struct json_reader json_reader_make(struct bytes valid_text);

/* Of the value that is next. */
enum json_kind json_reader_kind(struct json_reader *reader);

/* Steps into the object or array that is next. */
void json_reader_enter(struct json_reader *reader);
/* Whether one more member or element follows; steps behind the end otherwise. */
bool json_reader_more(struct json_reader *reader);
struct json_string json_reader_name(struct json_reader *reader);

/* Takes the value that is next, which is of that kind. */
struct json_string json_reader_string(struct json_reader *reader);
struct bytes json_reader_number(struct json_reader *reader); /* as it is written */
bool json_reader_bool(struct json_reader *reader);
/* Of any kind. */
void json_reader_skip(struct json_reader *reader);

/* Writes the string's bytes, in UTF-8; out_bytes has room for raw.count. Returns their count. */
size_t json_string_decode(struct json_string string, uint8_t *out_bytes);

/* For names: a string with escapes equals none. */
bool json_string_is(struct json_string string, const char *text);

#endif
