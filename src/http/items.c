/* items.c - keys and values as members of JSON objects. */

#include "http_internal.h"

void item_add_key(struct text *text, struct bytes key)
{
    bool is_text = utf8_is_valid(key);
    text_add_string(text, "\"key\":\"");
    if (is_text) {
        text_add_json(text, key);
    } else {
        text_add_base64(text, key);
    }
    text_add_string(text, is_text ? "\"" : "\",\"key_encoding\":\"base64\"");
}

void item_add_value(struct text *text, struct bytes value)
{
    bool is_text = utf8_is_valid(value);
    text_add_string(text, ",\"value\":\"");
    if (is_text) {
        text_add_json(text, value);
    } else {
        text_add_base64(text, value);
    }
    text_add_string(text, is_text ? "\",\"encoding\":\"utf-8\"" : "\",\"encoding\":\"base64\"");
}

void item_add_number(struct text *text, const char *name, uint64_t value)
{
    text_add_string(text, name);
    text_add_u64(text, value);
}
