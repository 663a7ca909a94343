/* json.c - one pass over a JSON text, with a bit a level instead of recursion. */

#include "json.h"

#include <jansson.h>

#include "parse.h"

struct scan {
    const uint8_t *at;
    const uint8_t *end;
    uint32_t depth;
    uint8_t is_object[JSON_DEPTH_MAX / 8]; /* a bit a level; clear: array */
};

static void skip_blanks(struct scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\t' || *scan->at == '\n' || *scan->at == '\r')) {
        scan->at++;
    }
}

/* Steps over `byte` if it is next. */
static bool take(struct scan *scan, uint8_t byte)
{
    if (scan->at == scan->end || *scan->at != byte) return false;
    scan->at++;
    return true;
}

static bool take_word(struct scan *scan, const char *word)
{
    size_t count = strlen(word);
    if ((size_t)(scan->end - scan->at) < count || memcmp(scan->at, word, count) != 0) return false;
    scan->at += count;
    return true;
}

static bool take_digits(struct scan *scan)
{
    const uint8_t *begin = scan->at;
    while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9') scan->at++;
    return scan->at > begin;
}

static bool take_number(struct scan *scan)
{
    (void)take(scan, '-'); /* may be there */
    if (!take(scan, '0') && !take_digits(scan)) return false;
    if (take(scan, '.') && !take_digits(scan)) return false;
    if (!take(scan, 'e') && !take(scan, 'E')) return true;
    if (!take(scan, '+')) (void)take(scan, '-'); /* either, or none */
    return take_digits(scan);
}

/* Four hex digits. */
static bool take_unit(struct scan *scan, uint32_t *out_unit)
{
    uint32_t unit = 0;
    if (scan->end - scan->at < 4) return false;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*scan->at++);
        if (digit < 0) return false;
        unit = unit * 16 + (uint32_t)digit;
    }
    *out_unit = unit;
    return true;
}

/* Behind the backslash. */
static bool take_escape(struct scan *scan)
{
    if (scan->at == scan->end) return false;
    uint8_t kind = *scan->at++;
    if (kind != 'u') return kind != 0 && strchr("\"\\/bfnrt", kind) != NULL;
    uint32_t unit;
    if (!take_unit(scan, &unit) || (unit >= 0xdc00 && unit <= 0xdfff)) return false;
    if (unit < 0xd800 || unit > 0xdfff) return true;
    return take_word(scan, "\\u") && take_unit(scan, &unit) && unit >= 0xdc00 && unit <= 0xdfff;
}

static bool take_string(struct scan *scan)
{
    if (!take(scan, '"')) return false;
    while (scan->at < scan->end) {
        uint8_t byte = *scan->at;
        if (byte >= 0x80) {
            size_t count = utf8_sequence(scan->at, (size_t)(scan->end - scan->at));
            if (count == 0) return false;
            scan->at += count;
            continue;
        }
        if (byte < 0x20) return false;
        scan->at++;
        if (byte == '"') return true;
        if (byte == '\\' && !take_escape(scan)) return false;
    }
    return false;
}

static bool take_scalar(struct scan *scan)
{
    if (scan->at == scan->end) return false;
    switch (*scan->at) {
    case '"':
        return take_string(scan);
    case 't':
        return take_word(scan, "true");
    case 'f':
        return take_word(scan, "false");
    case 'n':
        return take_word(scan, "null");
    default:
        return take_number(scan);
    }
}

static bool is_in_object(const struct scan *scan)
{
    TL_ASSERT(scan->depth > 0);
    uint32_t level = scan->depth - 1;
    return (scan->is_object[level / 8] >> (level % 8) & 1) != 0;
}

static bool push(struct scan *scan, bool is_object)
{
    if (scan->depth == JSON_DEPTH_MAX) return false;
    uint8_t bit = (uint8_t)(1u << (scan->depth % 8));
    uint8_t *at = &scan->is_object[scan->depth / 8];
    *at = is_object ? (uint8_t)(*at | bit) : (uint8_t)(*at & ~bit);
    scan->depth++;
    return true;
}

/* A member's name and its colon. */
static bool take_name(struct scan *scan)
{
    skip_blanks(scan);
    if (!take_string(scan)) return false;
    skip_blanks(scan);
    return take(scan, ':');
}

/* A scalar or an empty container is a whole value; otherwise the first value inside comes next. */
static bool take_value_begin(struct scan *scan, bool *out_is_whole)
{
    skip_blanks(scan);
    bool is_object = take(scan, '{');
    if (!is_object && !take(scan, '[')) {
        *out_is_whole = true;
        return take_scalar(scan);
    }
    if (!push(scan, is_object)) return false;
    skip_blanks(scan);
    *out_is_whole = take(scan, is_object ? '}' : ']');
    if (*out_is_whole) scan->depth--;
    return *out_is_whole || !is_object || take_name(scan);
}

/* Closes what ends behind a value, up to a comma (*out_is_done false) or the end of the text. */
static bool take_value_end(struct scan *scan, bool *out_is_done)
{
    for (;;) {
        skip_blanks(scan);
        *out_is_done = scan->depth == 0;
        if (*out_is_done) return scan->at == scan->end;
        if (take(scan, ',')) return !is_in_object(scan) || take_name(scan);
        if (!take(scan, is_in_object(scan) ? '}' : ']')) return false;
        scan->depth--;
    }
}

bool json_is_valid(struct bytes text)
{
    if (text.count == 0) return false;
    struct scan scan;
    scan.at = text.data;
    scan.end = text.data + text.count;
    scan.depth = 0; /* is_object is written level by level */
    for (;;) {
        bool is_whole = false;
        if (!take_value_begin(&scan, &is_whole)) return false;
        if (!is_whole) continue;
        bool is_done = false;
        if (!take_value_end(&scan, &is_done)) return false;
        if (is_done) return true;
    }
}

bool json_is_string_list(struct bytes json)
{
    if (json.count == 0) return false;
    struct scan scan;
    scan.at = json.data;
    scan.end = json.data + json.count;
    skip_blanks(&scan);
    if (!take(&scan, '[')) return false;
    skip_blanks(&scan);
    if (take(&scan, ']')) return true;
    for (;;) {
        skip_blanks(&scan);
        if (!take_string(&scan)) return false;
        skip_blanks(&scan);
        if (take(&scan, ']')) return true;
        if (!take(&scan, ',')) return false;
    }
}

struct json_t *json_parse(struct bytes text)
{
    /* Integers beyond 64 bits are JSON too. A NUL byte is not, but jansson takes it for the end. */
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
    if (text.count == 0 || memchr(text.data, 0, text.count) != NULL) return NULL;
    return json_loadb((const char *)text.data, text.count, flags, NULL);
}
