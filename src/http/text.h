/* text.h - answers are written here: text that grows in a request's pool.
 *
 * Role:       Appends numbers, strings and JSON strings without a JSON library. A capacity that
 *             is large enough makes it one allocation; growth copies.
 * Thread:     the loop thread.
 * Ownership:  memory belongs to the pool; nothing is freed here.
 */

#ifndef TL_HTTP_TEXT_H
#define TL_HTTP_TEXT_H

#include <h2o.h>

#include "trilith/buf.h"

struct text {
    h2o_mem_pool_t *pool; /* outlives it */
    char *data;
    size_t count;
    size_t capacity;
};

struct text text_make(h2o_mem_pool_t *pool, size_t capacity);

void text_add(struct text *text, struct bytes bytes);
void text_add_string(struct text *text, const char *string);
void text_add_u64(struct text *text, uint64_t value);
void text_add_i64(struct text *text, int64_t value);
/* Thousandths: 1234 is "1.234". */
void text_add_milli(struct text *text, uint64_t thousandths);
/* The inside of a JSON string. The bytes are UTF-8. */
void text_add_json(struct text *text, struct bytes utf8);
void text_add_base64(struct text *text, struct bytes bytes);

__attribute__((format(printf, 2, 3))) void text_printf(struct text *text, const char *format, ...);

static inline struct bytes text_bytes(const struct text *text)
{
    return bytes_make(text->data, text->count);
}

#endif
