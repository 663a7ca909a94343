/* view_walk.c - the keys of a view in order: generations and table merged.
 *
 * A cursor in each; the smallest key is next, backwards the largest; where several stand on it, the
 * newest generation's version counts and all of them move on.
 */

#include "view_internal.h"

#include "generation_internal.h"
#include "table_internal.h"

struct walk {
    bool is_reverse;
    uint32_t generations_count;
    struct generation_cursor generations[VIEW_GENERATIONS_MAX]; /* newest first */
    bool is_there[VIEW_GENERATIONS_MAX];
    struct table_cursor table;
};

/* Whether `key` comes before `other` on this walk. */
static bool comes_before(const struct walk *walk, struct bytes key, struct bytes other)
{
    int order = bytes_compare(key, other);
    return walk->is_reverse ? order > 0 : order < 0;
}

/* The next of the keys that cursors stand on. false: all are at their end. */
static bool next_key(const struct walk *walk, struct bytes *out_key)
{
    bool is_any = walk->table.is_there;
    if (is_any) *out_key = walk->table.env_key;
    for (uint32_t i = 0; i < walk->generations_count; i++) {
        const struct generation_cursor *cursor = &walk->generations[i];
        if (walk->is_there[i] && (!is_any || comes_before(walk, cursor->env_key, *out_key))) {
            *out_key = cursor->env_key;
            is_any = true;
        }
    }
    return is_any;
}

/* Takes the value of `key` and moves every cursor that stands on it. *out_value has no data when
 * the key is deleted. Values stay: memory of generations and of the map does not move. */
static enum tl_err take_key(struct walk *walk, struct bytes key, struct bytes *out_value,
                            struct tl_fault *out_fault)
{
    bool is_taken = false;
    for (uint32_t i = 0; i < walk->generations_count; i++) {
        struct generation_cursor *cursor = &walk->generations[i];
        if (!walk->is_there[i] || !bytes_equal(cursor->env_key, key)) {
            continue;
        }
        if (!is_taken) *out_value = cursor->version.value;
        is_taken = true;
        walk->is_there[i] = generation_cursor_next(cursor);
    }
    if (!walk->table.is_there || !bytes_equal(walk->table.env_key, key)) {
        return TL_OK;
    }
    if (!is_taken) *out_value = walk->table.value;
    return table_cursor_next(&walk->table, out_fault);
}

enum tl_err view_walk(struct view_reader *reader, struct bytes start, bool is_reverse,
                      bool (*on_item)(void *context, struct bytes env_key, struct bytes value),
                      void *context, struct tl_fault *out_fault)
{
    const struct view *view = view_reader_view(reader);
    struct walk walk = {.is_reverse = is_reverse, .generations_count = view->generations_count};
    enum tl_err err =
        table_cursor_open(&walk.table, view_reader_table(reader), start, is_reverse, out_fault);
    if (err != TL_OK) {
        return err;
    }
    for (uint32_t i = 0; i < view->generations_count; i++) {
        walk.is_there[i] = generation_cursor_seek(&walk.generations[i], view->generations[i], start,
                                                  is_reverse, view_reader_applied(reader));
    }
    struct bytes key;
    bool is_wanted = true;
    while (err == TL_OK && is_wanted && next_key(&walk, &key)) {
        struct bytes value;
        err = take_key(&walk, key, &value, out_fault);
        if (err == TL_OK) is_wanted = on_item(context, key, value);
    }
    table_cursor_close(&walk.table);
    return err;
}
