/* kv_table.h - the rows of a group as the state machine sees them: read-modify-write at the tip.
 *
 * Role:       What src/kv may do with storage: look up an env key in the active generation, the
 *             frozen ones, then the table; put and delete in the active one. Nothing else.
 * Thread:     the loop thread (apply).
 * Blocking:   a lookup may fault a page of the table in.
 * Errors:     TL_ERR_CORRUPT, TL_ERR_IO: the process must end; *fault is in kv_table_fault().
 */

#ifndef TL_KV_TABLE_H
#define TL_KV_TABLE_H

#include "trilith/view.h"

struct kv_table;

TL_MUST_CHECK enum tl_err kv_table_create(struct views *views, struct kv_table **out_table);
void kv_table_destroy(struct kv_table *table); /* accepts NULL */

/* Begins a batch of entries: renews the table's transaction once. Ends with kv_table_end(). Within
 * it views_freeze() may be called, between two entries; views_flushed() may not. */
TL_MUST_CHECK enum tl_err kv_table_begin(struct kv_table *table);
void kv_table_end(struct kv_table *table);

/* The newest value of env_key, this entry's own puts included. Borrowed until kv_table_end(), also
 * when the key is put or deleted meanwhile. Headers of rows are checked; whoever uses an old value
 * checks it with row_value_is_right(). TL_ERR_NOT_FOUND: absent. */
TL_MUST_CHECK enum tl_err kv_table_get(struct kv_table *table, struct bytes env_key,
                                       struct bytes *out_value);

/* Room for the new value of env_key as of entry `index`, to be filled before kv_table_publish(). Of
 * several puts and deletes of a key within an entry the last one counts. replaced_bytes: length of
 * the value that kv_table_get() gave, 0 if there was none; a flush is planned by it. */
uint8_t *kv_table_put(struct kv_table *table, raft_index index, struct bytes env_key,
                      size_t value_bytes, size_t replaced_bytes);
void kv_table_delete(struct kv_table *table, raft_index index, struct bytes env_key);

/* Publishes everything of entry `index` to readers. Once for every entry, one that wrote nothing
 * too. */
void kv_table_publish(struct kv_table *table, raft_index index);

const struct tl_fault *kv_table_fault(const struct kv_table *table);

#endif
