/* view.h - what a reader sees: generations, newest first, over the table; replaced as a whole.
 *
 * Role:       Publishes `applied` and the current view of one group; pins views for readers; frees
 *             a view, and a generation, when the last pin and the last view that name them are
 *             gone.
 * Thread:     views_freeze, views_flushed, views_publish, views_collect: the loop thread (the
 *             writer). view_begin ... view_end: any thread, with a reader of its own.
 * Errors:     as table.h.
 *
 * The order of a read, which loses rows in any other: pin the view; take R = applied; see that the
 * view is still the current one; begin the table's transaction and read its index F; F <= R must
 * hold; else start over. src/store/view.c says why.
 */

#ifndef TL_VIEW_H
#define TL_VIEW_H

#include "trilith/table.h"

#define VIEW_FROZEN_MAX 2u /* then apply waits and a leader refuses */
#define VIEW_READERS_MAX 32u

struct views;
struct view_reader;

/* Starts with an empty active generation over the table at its index. The table is borrowed. */
struct views *views_create(struct table *table);
void views_destroy(struct views *views); /* accepts NULL; all readers and kv_tables destroyed, and
                                          * all retired tables taken, before */

struct generation *views_active(struct views *views);
uint32_t views_frozen_count(const struct views *views);

/* The oldest frozen generation, the one to flush next; NULL: none. */
const struct generation *views_oldest_frozen(const struct views *views);

/* Freezes the active generation with `final` and starts a new one. Frozen count < VIEW_FROZEN_MAX,
 * an entry was published since the last freeze, final->index == applied. */
void views_freeze(struct views *views, const struct group_state *final, struct bytes conf);

/* The oldest frozen generation is durable in the table: drops it from the view. Not between
 * kv_table_begin() and kv_table_end(); not while a flush runs. */
void views_flushed(struct views *views);

/* Replaces the table and drops every generation: from now on readers see `table`, which is borrowed
 * as that of views_create(), at its index, which is above what was applied and becomes it. No
 * kv_table exists (destroyed before, created anew after), no flush runs. Reads that are under way
 * end on what they have pinned. */
void views_install(struct views *views, struct table *table);

/* A table that was replaced and that no view and no reader names any more: the caller's again, to
 * be closed and deleted. NULL: none, or not yet. Called once a turn, after views_collect(). */
struct table *views_take_retired(struct views *views);

/* Entry `index` is applied and all its versions are in place. */
void views_publish(struct views *views, raft_index index);
raft_index views_applied(const struct views *views); /* any thread */
raft_index views_base(const struct views *views);    /* index of the last flush; loop thread */

/* Frees what no pin holds any more. Called once a turn; cheap. */
void views_collect(struct views *views);

/* A reader: a pin slot and a table reader. TL_ERR_FULL: VIEW_READERS_MAX exist, or the table's
 * readers_max. */
TL_MUST_CHECK enum tl_err view_reader_create(struct views *views, struct view_reader **out_reader);
void view_reader_destroy(struct view_reader *reader); /* accepts NULL */

/* Pins, takes R, begins the transaction, checks; out_applied is R. A turn's length at most. Not
 * again before view_end(). TL_ERR_FULL: after an install, the new table's readers_max. */
TL_MUST_CHECK enum tl_err view_begin(struct view_reader *reader, raft_index *out_applied,
                                     struct tl_fault *out_fault);
void view_end(struct view_reader *reader);

/* Looks env_key up at R. The value is borrowed until view_end(). A row from the table is checked
 * whole, header and value: nothing wrong is given out. TL_ERR_NOT_FOUND: absent. */
TL_MUST_CHECK enum tl_err view_get(struct view_reader *reader, struct bytes env_key,
                                   struct bytes *out_value, struct tl_fault *out_fault);

/* Walks env keys in order from `start` (inclusive), as they are at R, and calls on_item until it
 * returns false or the end. Deleted keys do not appear. Headers of rows are checked; whoever gives
 * a value out checks it with row_value_is_right(). */
TL_MUST_CHECK enum tl_err view_walk(struct view_reader *reader, struct bytes start,
                                    bool (*on_item)(void *context, struct bytes env_key,
                                                    struct bytes value),
                                    void *context, struct tl_fault *out_fault);

/* A hook of the unit test that changes the view between every two steps of view_begin(); NULL in
 * production. step: 0 before the pin, 1 after it, 2 after R, 3 after the view was checked, 4 after
 * the transaction has begun; 5 amid views_install(), between the view and `applied`. */
extern void (*view_begin_hook)(int step);

/* Planted bugs of view_begin() that the same test must find; VIEW_MUTATION_NONE in production. */
enum view_mutation {
    VIEW_MUTATION_NONE = 0,
    VIEW_MUTATION_TRANSACTION_FIRST, /* the transaction is begun before the pin, F is not checked */
    VIEW_MUTATION_NO_INDEX_CHECK,    /* F <= R is not checked */
    VIEW_MUTATION_NO_VIEW_CHECK,     /* the view is not looked at again after R was taken */
};
extern enum view_mutation view_mutation;

#endif
