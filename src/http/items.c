/* items.c - keys and values as members of JSON objects. */

#include "http_internal.h"

bool item_add_bytes(struct text *text, struct bytes bytes)
{
    bool is_text = utf8_is_valid(bytes);
    text_add_string(text, "\"");
    if (is_text) {
        text_add_json(text, bytes);
    } else {
        text_add_base64(text, bytes);
    }
    text_add_string(text, "\"");
    return is_text;
}

void item_add_key(struct text *text, struct bytes key)
{
    text_add_string(text, "\"key\":");
    if (!item_add_bytes(text, key)) text_add_string(text, ",\"key_encoding\":\"base64\"");
}

void item_add_value(struct text *text, struct bytes value)
{
    text_add_string(text, ",\"value\":");
    bool is_text = item_add_bytes(text, value);
    text_add_string(text, is_text ? ",\"encoding\":\"utf-8\"" : ",\"encoding\":\"base64\"");
}

void item_add_hash(struct text *text, const char *name, struct hash128 hash)
{
    char hex[HASH_TEXT_BYTES];
    hash_format(hash, hex);
    text_printf(text, "%s\"%s\"", name, hex);
}

void item_add_number(struct text *text, const char *name, uint64_t value)
{
    text_add_string(text, name);
    text_add_u64(text, value);
}
