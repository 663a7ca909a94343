/* kv_table.c - rows at the tip, for apply.
 *
 * No pin is needed: apply runs on the thread that alone changes views, and views_flushed() refuses
 * to run within a batch. The transaction of a batch may be older or newer than the last flush that
 * the view knows of; either way, what it does not see stands in a generation of the view.
 */

#include "trilith/kv_table.h"

#include <stdlib.h>

#include "table_internal.h"
#include "view_internal.h"

struct kv_table {
    struct views *views;
    struct table_reader *reader;
    bool is_begun;
    struct tl_fault fault;
};

enum tl_err kv_table_create(struct views *views, struct kv_table **out_table)
{
    struct table_reader *reader = NULL;
    enum tl_err err = table_reader_create(views_table(views), &reader);
    if (err != TL_OK) {
        return err;
    }
    struct kv_table *table = calloc(1, sizeof *table);
    TL_ASSERT(table != NULL);
    views_kv_table_opened(views);
    table->views = views;
    table->reader = reader;
    *out_table = table;
    return TL_OK;
}

void kv_table_destroy(struct kv_table *table)
{
    if (table == NULL) {
        return;
    }
    TL_ASSERT(!table->is_begun);
    table_reader_destroy(table->reader);
    views_kv_table_closed(table->views);
    free(table);
}

enum tl_err kv_table_begin(struct kv_table *table)
{
    TL_ASSERT(!table->is_begun);
    raft_index index = 0;
    enum tl_err err = table_reader_begin(table->reader, &index, &table->fault);
    if (err != TL_OK) {
        return err;
    }
    if (index < views_base(table->views) || index > views_applied(table->views)) {
        table_reader_end(table->reader);
        return table_corrupt(views_table(table->views), index,
                             "the table is not between the last flush and what was applied",
                             &table->fault);
    }
    views_apply_begin(table->views);
    table->is_begun = true;
    return TL_OK;
}

void kv_table_end(struct kv_table *table)
{
    TL_ASSERT(table->is_begun);
    table_reader_end(table->reader);
    views_apply_end(table->views);
    table->is_begun = false;
}

enum tl_err kv_table_get(struct kv_table *table, struct bytes env_key, struct bytes *out_value)
{
    TL_ASSERT(table->is_begun);
    struct generation_version version;
    /* The active one through its finger: the put that follows most lookups starts there. */
    bool is_found = generation_find_tip(views_active(table->views), env_key, &version) ||
                    view_find(views_current(table->views), 1, env_key, UINT64_MAX, &version);
    if (!is_found) {
        return table_get(table->reader, env_key, out_value, &table->fault);
    }
    if (version.value.data == NULL) {
        return TL_ERR_NOT_FOUND;
    }
    *out_value = version.value;
    return TL_OK;
}

uint8_t *kv_table_put(struct kv_table *table, raft_index index, struct bytes env_key,
                      size_t value_bytes, size_t replaced_bytes)
{
    TL_ASSERT(table->is_begun);
    return generation_put(views_active(table->views), index, env_key, value_bytes, replaced_bytes,
                          false);
}

void kv_table_delete(struct kv_table *table, raft_index index, struct bytes env_key)
{
    TL_ASSERT(table->is_begun);
    (void)generation_put(views_active(table->views), index, env_key, 0, 0, true);
}

void kv_table_publish(struct kv_table *table, raft_index index)
{
    generation_publish(views_active(table->views), index);
    views_publish(table->views, index);
}

const struct tl_fault *kv_table_fault(const struct kv_table *table)
{
    return &table->fault;
}
