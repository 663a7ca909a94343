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

void item_value_begin(struct text *text, struct bytes value, struct item_value *out_item)
{
    *out_item = (struct item_value){.left = value, .is_text = utf8_is_valid(value)};
    text_add_string(text, ",\"value\":\"");
}

void item_value_add_piece(struct text *text, struct item_value *item, size_t bytes_max)
{
    size_t count = TL_MIN(item->left.count, bytes_max / 3 * 3); /* a border of base64 */
    struct bytes piece = bytes_make(item->left.data, count);
    if (item->is_text) {
        text_add_json(text, piece);
    } else {
        text_add_base64(text, piece);
    }
    item->left = bytes_make(item->left.data + count, item->left.count - count);
}

void item_value_end(struct text *text, const struct item_value *item)
{
    text_add_string(text,
                    item->is_text ? "\",\"encoding\":\"utf-8\"" : "\",\"encoding\":\"base64\"");
}

void item_add_value(struct text *text, struct bytes value)
{
    struct item_value item;
    item_value_begin(text, value, &item);
    item_value_add_piece(text, &item, value.count + 3);
    item_value_end(text, &item);
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
