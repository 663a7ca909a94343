/* kv_value.c - what PUT, APPEND, LIST_APPEND and INCR make of a value.
 *
 * Decided on bytes alone, without a JSON library: every replica, whatever its version of a library,
 * must come to the same bytes. Values of a JSON content type were checked to be JSON when they came
 * in, so the scanners only need to tell the shape, and never trust it for memory safety.
 */

#include "kv_internal.h"

static struct bytes text_plain(void)
{
    return bytes_of("text/plain");
}

static struct bytes application_json(void)
{
    return bytes_of("application/json");
}

size_t kv_value_bytes(const struct kv_value *value)
{
    size_t total = 0;
    for (uint32_t i = 0; i < value->parts_count; i++) total += value->parts[i].count;
    return total;
}

static void add_part(struct kv_value *value, struct bytes part)
{
    TL_ASSERT(value->parts_count < KV_VALUE_PARTS_MAX);
    value->parts[value->parts_count++] = part;
}

/* ---- JSON shapes ---- */

static bool is_json_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_space(struct bytes text, size_t at)
{
    while (at < text.count && is_json_space(text.data[at])) at++;
    return at;
}

/* Whether the media type is application/json, whatever its case and parameters (RFC 9110 8.3.1). */
static bool is_json_type(struct bytes content_type)
{
    struct bytes json = application_json();
    if (content_type.count < json.count) {
        return false;
    }
    for (size_t i = 0; i < json.count; i++) {
        uint8_t c = content_type.data[i];
        if ((c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c) != json.data[i]) {
            return false;
        }
    }
    size_t at = json.count;
    while (at < content_type.count &&
           (content_type.data[at] == ' ' || content_type.data[at] == '\t')) {
        at++;
    }
    return at == content_type.count || content_type.data[at] == ';';
}

static bool is_hex_digit(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* The end of the escape whose backslash is at `at`; 0: it is none. */
static size_t escape_end(struct bytes text, size_t at)
{
    if (at + 1 >= text.count) {
        return 0;
    }
    uint8_t c = text.data[at + 1];
    if (c != 0 && strchr("\"\\/bfnrt", c) != NULL) {
        return at + 2;
    }
    if (c != 'u' || text.count - at < 6) {
        return 0;
    }
    for (size_t i = at + 2; i < at + 6; i++) {
        if (!is_hex_digit(text.data[i])) {
            return 0;
        }
    }
    return at + 6;
}

/* The end of the JSON string that starts at `at`; 0: none does. */
static size_t string_end(struct bytes text, size_t at)
{
    if (at >= text.count || text.data[at] != '"') {
        return 0;
    }
    at++;
    while (at < text.count) {
        uint8_t c = text.data[at];
        if (c == '"') {
            return at + 1;
        }
        if (c < 0x20) {
            return 0;
        }
        at = c == '\\' ? escape_end(text, at) : at + 1;
        if (at == 0) {
            return 0;
        }
    }
    return 0;
}

/* Where the array's closing bracket is. false: the text's first or last byte is no bracket. */
static bool find_array(struct bytes text, size_t *out_close_at, bool *out_is_empty)
{
    size_t open_at = skip_space(text, 0);
    size_t end = text.count;
    while (end > open_at && is_json_space(text.data[end - 1])) end--;
    if (end < open_at + 2 || text.data[open_at] != '[' || text.data[end - 1] != ']') {
        return false;
    }
    *out_close_at = end - 1;
    *out_is_empty = skip_space(text, open_at + 1) == end - 1;
    return true;
}

/* Whether the whole text is an array of strings. */
static bool is_string_list(struct bytes text)
{
    size_t close_at;
    bool is_empty;
    if (!find_array(text, &close_at, &is_empty)) {
        return false;
    }
    if (is_empty) {
        return true;
    }
    size_t at = skip_space(text, 0) + 1;
    for (;;) {
        at = string_end(text, skip_space(text, at));
        if (at == 0) {
            return false;
        }
        at = skip_space(text, at);
        if (at == close_at) {
            return true;
        }
        TL_ASSERT(at < close_at); /* a quote ended the string; behind the bracket is only space */
        if (text.data[at] != ',') {
            return false;
        }
        at++;
    }
}

/* Puts `element` before the closing bracket. */
static void splice(struct bytes array, size_t close_at, bool is_empty, struct bytes element,
                   struct kv_value *out_value)
{
    add_part(out_value, bytes_make(array.data, close_at));
    if (!is_empty) {
        add_part(out_value, bytes_of(","));
    }
    add_part(out_value, element);
    add_part(out_value, bytes_make(array.data + close_at, array.count - close_at));
}

enum kv_status kv_value_put(const struct command *command, const struct kv_present *present,
                            struct kv_value *out_value)
{
    *out_value = (struct kv_value){.content_type = command->content_type};
    add_part(out_value, command->value);
    return present->is_there ? KV_REPLACED : KV_CREATED;
}

/* ---- appends ---- */

/* The limits are those of the node that received the command, within what a row can hold. */
static enum kv_status finish_append(const struct command *command, enum kv_status status,
                                    struct kv_value *value)
{
    size_t bytes = kv_value_bytes(value);
    if (bytes > TL_MIN(command->value_bytes_max, VALUE_BYTES_MAX)) {
        return KV_TOO_LARGE;
    }
    value->number = (int64_t)bytes;
    return status;
}

enum kv_status kv_value_append(const struct command *command, const struct kv_present *present,
                               struct kv_value *out_value)
{
    *out_value = (struct kv_value){.parts_count = 0};
    if (!present->is_there) {
        out_value->content_type = command->content_type;
        add_part(out_value, command->value);
        return finish_append(command, KV_CREATED, out_value);
    }

    out_value->content_type = present->content_type;
    if (!is_json_type(present->content_type)) {
        add_part(out_value, present->value);
        add_part(out_value, command->value);
        return finish_append(command, KV_REPLACED, out_value);
    }

    size_t close_at;
    bool is_empty;
    if (!command->value_is_json || !find_array(present->value, &close_at, &is_empty)) {
        return KV_NOT_LIST;
    }
    splice(present->value, close_at, is_empty, command->value, out_value);
    return finish_append(command, KV_REPLACED, out_value);
}

enum kv_status kv_value_list_append(const struct command *command, const struct kv_present *present,
                                    struct kv_value *out_value)
{
    *out_value = (struct kv_value){.parts_count = 0};
    size_t element_end = string_end(command->value, 0);
    if (element_end == 0 || element_end != command->value.count) {
        return KV_NOT_LIST;
    }
    bool has_value = present->is_there && present->value.count > 0;
    if (has_value && (!is_json_type(present->content_type) || !is_string_list(present->value))) {
        return KV_NOT_LIST;
    }

    size_t close_at = 0;
    bool is_empty = true;
    if (has_value) {
        bool is_array = find_array(present->value, &close_at, &is_empty);
        TL_ASSERT(is_array);
    }
    if (is_empty) {
        out_value->content_type = application_json();
        add_part(out_value, bytes_of("["));
        add_part(out_value, command->value);
        add_part(out_value, bytes_of("]"));
    } else {
        out_value->content_type = present->content_type;
        splice(present->value, close_at, is_empty, command->value, out_value);
    }
    return finish_append(command, present->is_there ? KV_REPLACED : KV_CREATED, out_value);
}

/* ---- integers ---- */

/* An optional sign and decimal digits, nothing else, in the range of int64_t. */
static bool integer_parse(struct bytes text, int64_t *out_number)
{
    if (text.count == 0 || text.count > KV_INTEGER_TEXT_BYTES_MAX) {
        return false;
    }
    bool is_negative = text.data[0] == '-';
    size_t at = is_negative || text.data[0] == '+' ? 1 : 0;
    if (at == text.count) {
        return false;
    }
    /* Downwards from 0: INT64_MIN has no positive counterpart. */
    int64_t number = 0;
    for (; at < text.count; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') {
            return false;
        }
        int64_t digit = text.data[at] - '0';
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_sub_overflow(number, digit, &number)) {
            return false;
        }
    }
    if (!is_negative && __builtin_sub_overflow((int64_t)0, number, &number)) {
        return false;
    }
    *out_number = number;
    return true;
}

/* Writes the decimal text of `number` and returns it. */
static struct bytes integer_format(int64_t number, char out_text[KV_INTEGER_TEXT_BYTES_MAX])
{
    char reversed[KV_INTEGER_TEXT_BYTES_MAX];
    size_t count = 0;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        reversed[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (number < 0) {
        reversed[count++] = '-';
    }
    for (size_t i = 0; i < count; i++) out_text[i] = reversed[count - 1 - i];
    return bytes_make(out_text, count);
}

enum kv_status kv_value_increment(const struct command *command, const struct kv_present *present,
                                  struct kv_value *out_value)
{
    *out_value = (struct kv_value){.content_type = text_plain()};
    int64_t number = 0;
    if (present->is_there) {
        if (!integer_parse(present->value, &number)) {
            return KV_NOT_INTEGER;
        }
        out_value->content_type = present->content_type;
    }
    if (__builtin_add_overflow(number, command->by, &number)) {
        return KV_OVERFLOW;
    }
    out_value->number = number;
    add_part(out_value, integer_format(number, out_value->number_text));
    return present->is_there ? KV_REPLACED : KV_CREATED;
}
