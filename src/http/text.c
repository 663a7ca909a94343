/* text.c - appending to pool memory. */

#include "text.h"

#include <stdarg.h>
#include <stdio.h>

#define U64_DIGITS_MAX 20u

struct text text_make(h2o_mem_pool_t *pool, size_t capacity)
{
    TL_ASSERT(capacity > 0);
    return (struct text){
        .pool = pool, .data = h2o_mem_alloc_pool(pool, capacity), .capacity = capacity};
}

/* Room for `count` bytes more. The memory left behind goes with the pool: at most as much again. */
static void text_reserve(struct text *text, size_t count)
{
    if (text->capacity - text->count >= count) return;
    size_t capacity = TL_MAX(text->capacity * 2, text->count + count);
    char *data = h2o_mem_alloc_pool(text->pool, capacity);
    memcpy(data, text->data, text->count);
    text->data = data;
    text->capacity = capacity;
}

void text_add(struct text *text, struct bytes bytes)
{
    if (bytes.count == 0) return;
    text_reserve(text, bytes.count);
    memcpy(text->data + text->count, bytes.data, bytes.count);
    text->count += bytes.count;
}

void text_add_string(struct text *text, const char *string)
{
    text_add(text, bytes_of(string));
}

void text_add_u64(struct text *text, uint64_t value)
{
    char digits[U64_DIGITS_MAX];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    text_add(text, bytes_make(digits + at, sizeof digits - at));
}

void text_add_i64(struct text *text, int64_t value)
{
    if (value < 0) text_add_string(text, "-");
    text_add_u64(text, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void text_add_milli(struct text *text, uint64_t thousandths)
{
    text_add_u64(text, thousandths / 1000);
    uint64_t rest = thousandths % 1000;
    const char digits[] = {'.', (char)('0' + rest / 100), (char)('0' + rest / 10 % 10),
                           (char)('0' + rest % 10)};
    text_add(text, bytes_make(digits, sizeof digits));
}

#define EACH_BYTE(byte) ((byte) * 0x0101010101010101u)

/* Whether one of eight bytes is 0 (and perhaps whether one is 1 behind such a one). */
static uint64_t has_zero(uint64_t word)
{
    return (word - EACH_BYTE(0x01u)) & ~word & EACH_BYTE(0x80u);
}

/* Bytes that stay as they are, in steps of eight: no quote, backslash or control character. */
static size_t plain_run(const uint8_t *data, size_t count)
{
    size_t at = 0;
    for (; at + sizeof(uint64_t) <= count; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, data + at, sizeof word);
        uint64_t is_control = (word - EACH_BYTE(0x20u)) & ~word & EACH_BYTE(0x80u);
        uint64_t is_special = has_zero(word ^ EACH_BYTE('"')) | has_zero(word ^ EACH_BYTE('\\'));
        if ((is_control | is_special) != 0) break;
    }
    return at;
}

void text_add_json(struct text *text, struct bytes utf8)
{
    static const char hex[] = "0123456789abcdef";
    if (utf8.count == 0) return;
    size_t begin = 0;
    for (size_t i = 0; i < utf8.count; i++) {
        i += plain_run(utf8.data + i, utf8.count - i);
        if (i == utf8.count) break;
        uint8_t byte = utf8.data[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
        text_add(text, bytes_make(utf8.data + begin, i - begin));
        begin = i + 1;
        if (byte >= 0x20) {
            const char escaped[] = {'\\', (char)byte};
            text_add(text, bytes_make(escaped, sizeof escaped));
        } else {
            const char escaped[] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
            text_add(text, bytes_make(escaped, sizeof escaped));
        }
    }
    text_add(text, bytes_make(utf8.data + begin, utf8.count - begin));
}

void text_add_base64(struct text *text, struct bytes bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    text_reserve(text, (bytes.count + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.count; i += 3) {
        size_t left = bytes.count - i;
        uint32_t bits = (uint32_t)bytes.data[i] << 16;
        if (left > 1) bits |= (uint32_t)bytes.data[i + 1] << 8;
        if (left > 2) bits |= bytes.data[i + 2];
        char *four = text->data + text->count;
        four[0] = digits[bits >> 18];
        four[1] = digits[bits >> 12 & 63];
        four[2] = left > 1 ? digits[bits >> 6 & 63] : '=';
        four[3] = left > 2 ? digits[bits & 63] : '=';
        text->count += 4;
    }
}

void text_printf(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int count = vsnprintf(NULL, 0, format, args);
    va_end(args);
    TL_ASSERT(count >= 0);
    text_reserve(text, (size_t)count + 1);
    va_start(args, format);
    (void)vsnprintf(text->data + text->count, (size_t)count + 1, format, args);
    va_end(args);
    text->count += (size_t)count;
}
