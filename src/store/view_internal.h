/* view_internal.h - views as kv_table and the walk see them.
 *
 * Thread:     views_*: the loop thread. A pinned view: the thread that pinned it.
 */

#ifndef TL_STORE_VIEW_INTERNAL_H
#define TL_STORE_VIEW_INTERNAL_H

#include "trilith/view.h"

#define VIEW_GENERATIONS_MAX (1u + VIEW_FROZEN_MAX)

/* Never changed once published, but that versions are added to the active generation. */
struct view {
    struct table_use *use; /* the table; lives as long as a view names it */
    raft_index base;       /* of the last flushed generation */
    uint32_t generations_count;
    struct generation *generations[VIEW_GENERATIONS_MAX]; /* newest first; [0] active */
    struct view *retired_next;
};

const struct view *views_current(const struct views *views);
struct table *views_table(const struct views *views);

/* Between the two nothing may be dropped from the view: apply has a transaction open that does not
 * see a later flush. */
void views_apply_begin(struct views *views);
void views_apply_end(struct views *views);

/* A kv_table has a transaction of the table's: no install until it is closed. */
void views_kv_table_opened(struct views *views);
void views_kv_table_closed(struct views *views);

/* What view_begin() left. */
const struct view *view_reader_view(const struct view_reader *reader);
raft_index view_reader_applied(const struct view_reader *reader);
struct table_reader *view_reader_table(const struct view_reader *reader);

/* The newest version <= at in the view's generations from number `first` on. false: none of them
 * says anything about the key. */
bool view_find(const struct view *view, uint32_t first, struct bytes env_key, raft_index at,
               struct generation_version *out_version);

#endif
