/* json_reader.c - a cursor over a valid text: every byte looked for is there. */

#include "json_reader.h"

#include "parse.h"

struct json_reader json_reader_make(struct bytes valid_text)
{
    return (struct json_reader){.at = valid_text.data, .end = valid_text.data + valid_text.count};
}

static uint8_t peek(const struct json_reader *reader)
{
    TL_ASSERT(reader->at < reader->end);
    return *reader->at;
}

static void skip_blanks(struct json_reader *reader)
{
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\t' ||
                                        *reader->at == '\n' || *reader->at == '\r')) {
        reader->at++;
    }
}

/* The next byte that is no blank, stepped over. */
static uint8_t take(struct json_reader *reader)
{
    skip_blanks(reader);
    uint8_t byte = peek(reader);
    reader->at++;
    return byte;
}

enum json_kind json_reader_kind(struct json_reader *reader)
{
    skip_blanks(reader);
    switch (peek(reader)) {
    case '{':
        return JSON_KIND_OBJECT;
    case '[':
        return JSON_KIND_ARRAY;
    case '"':
        return JSON_KIND_STRING;
    case 't':
    case 'f':
        return JSON_KIND_BOOL;
    case 'n':
        return JSON_KIND_NULL;
    default:
        return JSON_KIND_NUMBER;
    }
}

void json_reader_enter(struct json_reader *reader)
{
    uint8_t byte = take(reader);
    TL_ASSERT(byte == '{' || byte == '[');
}

bool json_reader_more(struct json_reader *reader)
{
    skip_blanks(reader);
    uint8_t byte = peek(reader);
    if (byte == '}' || byte == ']') {
        reader->at++;
        return false;
    }
    if (byte == ',') reader->at++;
    return true;
}

struct json_string json_reader_string(struct json_reader *reader)
{
    uint8_t quote = take(reader);
    TL_ASSERT(quote == '"');
    struct json_string string = {.raw = bytes_make(reader->at, 0)};
    while (peek(reader) != '"') {
        bool is_escape = peek(reader) == '\\';
        string.has_escapes |= is_escape;
        reader->at += is_escape ? 2 : 1; /* \u1234 goes on with plain digits */
    }
    string.raw.count = (size_t)(reader->at - string.raw.data);
    reader->at++;
    return string;
}

struct json_string json_reader_name(struct json_reader *reader)
{
    skip_blanks(reader);
    struct json_string name = json_reader_string(reader);
    uint8_t colon = take(reader);
    TL_ASSERT(colon == ':');
    return name;
}

static bool is_in_word(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || byte == 'E' ||
           byte == '+' || byte == '-' || byte == '.';
}

/* A number, true, false or null. */
static struct bytes take_word(struct json_reader *reader)
{
    skip_blanks(reader);
    struct bytes word = bytes_make(reader->at, 0);
    while (reader->at < reader->end && is_in_word(*reader->at)) reader->at++;
    word.count = (size_t)(reader->at - word.data);
    return word;
}

struct bytes json_reader_number(struct json_reader *reader)
{
    return take_word(reader);
}

bool json_reader_bool(struct json_reader *reader)
{
    return text_is(take_word(reader), "true");
}

void json_reader_skip(struct json_reader *reader)
{
    size_t depth = 0;
    do {
        skip_blanks(reader);
        uint8_t byte = peek(reader);
        if (byte == '"') {
            (void)json_reader_string(reader); /* its brackets are none */
        } else if (is_in_word(byte)) {
            (void)take_word(reader);
        } else {
            if (byte == '{' || byte == '[') depth++;
            if (byte == '}' || byte == ']') depth--;
            reader->at++;
        }
    } while (depth > 0);
}

/* ---- strings ---- */

static uint32_t unit_at(const uint8_t *digits)
{
    uint32_t unit = 0;
    for (size_t i = 0; i < 4; i++) unit = unit * 16 + (uint32_t)hex_digit(digits[i]);
    return unit;
}

/* At most three bytes for one unit of six, four for a pair of twelve. */
static size_t put_utf8(uint32_t point, uint8_t *out_bytes)
{
    if (point < 0x80) {
        out_bytes[0] = (uint8_t)point;
        return 1;
    }
    if (point < 0x800) {
        out_bytes[0] = (uint8_t)(0xc0 | point >> 6);
        out_bytes[1] = (uint8_t)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        out_bytes[0] = (uint8_t)(0xe0 | point >> 12);
        out_bytes[1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        out_bytes[2] = (uint8_t)(0x80 | (point & 0x3f));
        return 3;
    }
    out_bytes[0] = (uint8_t)(0xf0 | point >> 18);
    out_bytes[1] = (uint8_t)(0x80 | (point >> 12 & 0x3f));
    out_bytes[2] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
    out_bytes[3] = (uint8_t)(0x80 | (point & 0x3f));
    return 4;
}

static uint8_t plain_escape(uint8_t letter)
{
    static const char letters[] = "bfnrt";
    static const char bytes[] = "\b\f\n\r\t";
    const char *at = strchr(letters, letter);
    return at != NULL ? (uint8_t)bytes[at - letters] : letter; /* quote, slashes */
}

/* The escape at `at`, behind its backslash. Returns how many bytes of it there are. */
static size_t decode_escape(const uint8_t *at, uint8_t *out_bytes, size_t *out_count)
{
    if (*at != 'u') {
        out_bytes[(*out_count)++] = plain_escape(*at);
        return 1;
    }
    uint32_t point = unit_at(at + 1);
    size_t used = 5;
    if (point >= 0xd800 && point < 0xdc00) { /* a valid text has its other half behind it */
        point = 0x10000 + ((point - 0xd800) << 10) + (unit_at(at + 7) - 0xdc00);
        used = 11;
    }
    *out_count += put_utf8(point, out_bytes + *out_count);
    return used;
}

size_t json_string_decode(struct json_string string, uint8_t *out_bytes)
{
    size_t count = 0;
    for (size_t i = 0; i < string.raw.count;) {
        uint8_t byte = string.raw.data[i++];
        if (byte != '\\') {
            out_bytes[count++] = byte;
        } else {
            i += decode_escape(string.raw.data + i, out_bytes, &count);
        }
    }
    return count;
}

bool json_string_is(struct json_string string, const char *text)
{
    return !string.has_escapes && text_is(string.raw, text);
}
