/* parse.c - well-formedness of what clients send. */

#include "parse.h"

int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
}

static uint8_t to_lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

bool percent_decode(struct bytes source, uint8_t *out_bytes, size_t *out_count)
{
    size_t count = 0;
    for (size_t i = 0; i < source.count; i++) {
        uint8_t byte = source.data[i];
        if (byte == '%') {
            if (source.count - i < 3) return false;
            int high = hex_digit(source.data[i + 1]);
            int low = hex_digit(source.data[i + 2]);
            if (high < 0 || low < 0) return false;
            byte = (uint8_t)(high * 16 + low);
            i += 2;
        }
        out_bytes[count++] = byte;
    }
    *out_count = count;
    return true;
}

static int base64_digit(uint8_t byte)
{
    if (byte >= 'A' && byte <= 'Z') return byte - 'A';
    if (byte >= 'a' && byte <= 'z') return byte - 'a' + 26;
    if (byte >= '0' && byte <= '9') return byte - '0' + 52;
    if (byte == '+') return 62;
    if (byte == '/') return 63;
    return -1;
}

bool base64_decode(struct bytes source, uint8_t *out_bytes, size_t *out_count)
{
    if (source.count % 4 != 0) return false;
    size_t digits_count = source.count;
    while (digits_count > 0 && source.count - digits_count < 2 &&
           source.data[digits_count - 1] == '=') {
        digits_count--;
    }
    uint32_t bits = 0;
    uint32_t bits_count = 0;
    size_t count = 0;
    for (size_t i = 0; i < digits_count; i++) {
        int digit = base64_digit(source.data[i]);
        if (digit < 0) return false;
        bits = bits << 6 | (uint32_t)digit;
        bits_count += 6;
        if (bits_count < 8) continue;
        bits_count -= 8;
        out_bytes[count++] = (uint8_t)(bits >> bits_count);
        bits &= (1u << bits_count) - 1;
    }
    if (bits != 0) return false;
    *out_count = count;
    return true;
}

static struct bytes slice(struct bytes text, size_t begin, size_t end)
{
    TL_ASSERT(begin <= end);
    TL_ASSERT(end <= text.count);
    return bytes_make(end > begin ? text.data + begin : NULL, end - begin);
}

/* Position of `byte`, or text.count. */
static size_t find_byte(struct bytes text, uint8_t byte)
{
    const uint8_t *at = text.count > 0 ? memchr(text.data, byte, text.count) : NULL;
    return at != NULL ? (size_t)(at - text.data) : text.count;
}

/* A space is '+' in what browsers and client libraries make of a query (URL Standard 5.1), and a
 * plus "%2B". */
static bool form_decode(struct bytes source, uint8_t *out_bytes, size_t *out_count)
{
    for (size_t i = 0; i < source.count; i++) {
        out_bytes[i] = source.data[i] == '+' ? ' ' : source.data[i];
    }
    return percent_decode(bytes_make(out_bytes, source.count), out_bytes, out_count);
}

static bool query_take(struct bytes pair, uint8_t *scratch, struct query_param *params,
                       size_t params_count)
{
    size_t name_count = find_byte(pair, '=');
    struct bytes value = slice(pair, TL_MIN(name_count + 1, pair.count), pair.count);
    for (size_t i = 0; i < params_count; i++) {
        if (!text_is(slice(pair, 0, name_count), params[i].name)) continue;
        size_t count;
        if (params[i].is_present || !form_decode(value, scratch, &count)) return false;
        params[i].is_present = true;
        params[i].value = bytes_make(scratch, count);
        return true;
    }
    return false;
}

bool query_parse(struct bytes query, uint8_t *scratch, struct query_param *params,
                 size_t params_count)
{
    while (query.count > 0) {
        size_t pair_count = find_byte(query, '&');
        struct bytes pair = slice(query, 0, pair_count);
        if (pair_count > 0 && !query_take(pair, scratch, params, params_count)) return false;
        size_t step = TL_MIN(pair_count + 1, query.count);
        scratch += step;
        query = slice(query, step, query.count);
    }
    return true;
}

bool parse_u64(struct bytes text, uint64_t *out_value)
{
    if (text.count == 0) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < text.count; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        if (__builtin_mul_overflow(value, 10u, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value)) return false;
    }
    *out_value = value;
    return true;
}

bool parse_i64(struct bytes text, int64_t *out_value)
{
    bool is_negative = text.count > 0 && text.data[0] == '-';
    uint64_t magnitude;
    if (!parse_u64(slice(text, is_negative ? 1 : 0, text.count), &magnitude)) return false;
    if (magnitude > (uint64_t)INT64_MAX + (is_negative ? 1u : 0u)) return false;
    *out_value = is_negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

bool parse_etag(struct bytes text, uint64_t *out_revision)
{
    if (text.count < 3 || text.data[0] != '"' || text.data[text.count - 1] != '"') return false;
    return parse_u64(slice(text, 1, text.count - 1), out_revision);
}

bool parse_consistency(struct bytes text, enum node_consistency *out_consistency)
{
    static const char *const names[] = {
        [NODE_LINEARIZABLE] = "linearizable", [NODE_CAUSAL] = "causal", [NODE_LOCAL] = "local"};
    for (size_t i = 0; i < TL_COUNT_OF(names); i++) {
        if (!text_is(text, names[i])) continue;
        *out_consistency = (enum node_consistency)i;
        return true;
    }
    return false;
}

bool text_is(struct bytes text, const char *expected)
{
    return bytes_equal(text, bytes_of(expected));
}

bool text_is_nocase(struct bytes text, const char *expected)
{
    if (text.count != strlen(expected)) return false;
    for (size_t i = 0; i < text.count; i++) {
        if (to_lower(text.data[i]) != to_lower((uint8_t)expected[i])) return false;
    }
    return true;
}

/* What stands before the parameters, without the blanks around it. */
static struct bytes media_type_of(struct bytes content_type)
{
    size_t begin = 0;
    size_t end = find_byte(content_type, ';');
    while (begin < end && (content_type.data[begin] == ' ' || content_type.data[begin] == '\t')) {
        begin++;
    }
    while (end > begin &&
           (content_type.data[end - 1] == ' ' || content_type.data[end - 1] == '\t')) {
        end--;
    }
    return slice(content_type, begin, end);
}

bool media_type_is(struct bytes content_type, const char *media_type)
{
    return text_is_nocase(media_type_of(content_type), media_type);
}

bool media_type_is_valid(struct bytes content_type)
{
    struct bytes type = media_type_of(content_type);
    size_t slash = find_byte(type, '/');
    if (slash == 0 || slash + 1 >= type.count) return false;
    for (size_t i = 0; i < type.count; i++) {
        if (type.data[i] <= ' ' || type.data[i] >= 0x7f) return false;
        if (type.data[i] == '/' && i != slash) return false;
    }
    return true;
}

/* Unicode, table 3-7. */
size_t utf8_sequence(const uint8_t *at, size_t room)
{
    uint8_t lead = at[0];
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4) return 0;
    size_t count = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (room < count) return 0;
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < count; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
    }
    return count;
}

/* Eight bytes at a time: values are mostly ASCII, and may be of megabytes. */
static size_t ascii_run(const uint8_t *data, size_t count)
{
    size_t at = 0;
    for (; at + sizeof(uint64_t) <= count; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, data + at, sizeof word);
        if ((word & 0x8080808080808080u) != 0) break;
    }
    return at;
}

bool utf8_is_valid(struct bytes text)
{
    size_t at = 0;
    while (at < text.count) {
        at += ascii_run(text.data + at, text.count - at);
        if (at == text.count) break;
        size_t count = utf8_sequence(text.data + at, text.count - at);
        if (count == 0) return false;
        at += count;
    }
    return true;
}
