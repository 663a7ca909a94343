/* view.c - views, pins, and the order of a read.
 *
 * A view is replaced by one pointer store and freed when no slot names it (hazard pointers, Michael
 * 2004). A reader writes the pointer into its slot and then finds it still current: so it was in
 * the slot before the writer replaced it, and the writer, which looks at the slots after it has
 * replaced the view, sees it there. Both sides are sequentially consistent: a store must not be
 * passed by the load behind it.
 *
 * The order of a read. Let the pinned view have base B and an active generation that began at A.
 *   - Pin before R. With R first, entries R+1 ... F may be flushed and their generation dropped
 *     before the pin; the table then shows them to a reader that said R.
 *   - The view is still current after R was taken. A freeze in between starts a generation that the
 *     pinned view does not name, and R may lie in it: everything above the freeze would be missing.
 *     A freeze publishes its view before any later entry is published, so a reader that took such
 *     an R sees the new view pointer here.
 *   - The transaction after the pin. The other way round a flush in between drops a generation that
 *     the transaction does not see yet: its rows are in neither. In this order F >= B, because the
 *     view was published after the flush up to B had committed.
 *   - F <= R, else a flush that committed since R was taken shows entries above R, and only those
 *     of them whose keys have no version in the pinned generations: half of transactions.
 * With B <= F <= R every version in (F, R] is in a pinned generation, and every one up to F is in
 * the table (one above B in both).
 *
 * It ends because a round is repeated only if the writer froze or flushed a whole generation
 * between two neighbouring steps of it.
 *
 * An install replaces the table too, and every generation: the view is published first, `applied`
 * after it. A reader between the two sees the new view with an R below its base; everything up to
 * the base is in that view, so R is the base then. The other order would show the old table as if
 * it stood at the new index.
 *
 * Between reads a reader's table transaction rests in its slot, where the writer can take it away:
 * a thread that reads nothing any more must not keep a replaced table open for ever. Whoever has
 * exchanged the pointer for NULL owns it.
 *
 * Invariants:
 * (1) base <= final of frozen generations, rising <= applied.
 * (2) generations of a view join: each begins where the next older one ended, the oldest at base.
 * (3) a table is retired when no view names it, and then no reader of it is made any more.
 */

#include "view_internal.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "generation_internal.h"
#include "table_internal.h"

#define VIEW_BEGIN_TRIES_MAX 1000u
#define CACHE_LINE_BYTES 64u

/* One a line: readers on different cores do not take it from each other. */
struct slot {
    _Alignas(CACHE_LINE_BYTES) _Atomic(struct view *) pinned;
    _Atomic(struct table_reader *) idle; /* between reads; NULL while in use, or taken away */
    atomic_bool is_taken;
};

/* A table, and the views that name it. */
struct table_use {
    struct table *table; /* the caller's; borrowed until views_take_retired() */
    uint32_t views_count;
    struct table_use *next; /* in views.retired_tables */
};

struct views {
    /* Shared. */
    _Atomic(struct view *) current;
    _Atomic raft_index applied;
    struct slot slots[VIEW_READERS_MAX];

    /* Owned by the loop thread. */
    struct table_use *use;            /* of the current view */
    struct view *retired;             /* replaced, perhaps pinned */
    struct table_use *retired_tables; /* no view names them; readers may be left */
    uint32_t applies_count;
    uint32_t kv_tables_count;
};

struct view_reader {
    struct views *views;
    struct slot *slot;
    struct table_reader *table; /* owned inside begin/end, else NULL */
    struct view *view;          /* pinned; NULL outside begin/end */
    raft_index applied;
};

void (*view_begin_hook)(int step);
enum view_mutation view_mutation;

static void at_step(int step)
{
    if (view_begin_hook != NULL) view_begin_hook(step);
}

static void view_check(const struct view *view, raft_index applied)
{
    TL_ASSERT(view->generations_count >= 1);
    TL_ASSERT(view->generations_count <= VIEW_GENERATIONS_MAX);
    TL_ASSERT(generation_last(view->generations[0]) <= applied); /* (1) */
    raft_index from = view->base;
    for (uint32_t i = view->generations_count; i-- > 0;) { /* (2) */
        TL_ASSERT(generation_first(view->generations[i]) == from);
        TL_ASSERT(generation_is_frozen(view->generations[i]) == (i > 0));
        from = generation_last(view->generations[i]);
    }
}

/* ---- Views: the loop thread ---------------------------------------------------------------- */

const struct view *views_current(const struct views *views)
{
    return atomic_load_explicit(&views->current, memory_order_relaxed);
}

/* A view of these generations over the table in use; they get one reference more. */
static struct view *view_create(const struct views *views, raft_index base,
                                struct generation *const *generations, uint32_t generations_count)
{
    TL_ASSERT(generations_count <= VIEW_GENERATIONS_MAX);
    struct view *view = calloc(1, sizeof *view);
    TL_ASSERT(view != NULL);
    view->use = views->use;
    view->use->views_count++;
    view->base = base;
    view->generations_count = generations_count;
    for (uint32_t i = 0; i < generations_count; i++) {
        generation_acquire(generations[i]);
        view->generations[i] = generations[i];
    }
    return view;
}

static void view_destroy(struct views *views, struct view *view)
{
    for (uint32_t i = 0; i < view->generations_count; i++) {
        generation_release(view->generations[i]);
    }
    struct table_use *use = view->use;
    TL_ASSERT(use->views_count > 0);
    use->views_count--;
    if (use->views_count == 0 && use != views->use) { /* (3) */
        use->next = views->retired_tables;
        views->retired_tables = use;
    }
    free(view);
}

static struct table_use *table_use_create(struct table *table)
{
    struct table_use *use = calloc(1, sizeof *use);
    TL_ASSERT(use != NULL);
    use->table = table;
    return use;
}

static struct generation *generation_over_table(const struct views *views, raft_index first)
{
    struct generation *generation = generation_create(first);
    generation_set_leaf_pages(generation, table_leaf_pages(views_table(views)));
    return generation;
}

struct views *views_create(struct table *table)
{
    struct views *views = aligned_alloc(CACHE_LINE_BYTES, sizeof *views);
    TL_ASSERT(views != NULL);
    memset(views, 0, sizeof *views);
    views->use = table_use_create(table);
    raft_index base = table_state(table)->index;
    for (uint32_t i = 0; i < VIEW_READERS_MAX; i++) {
        atomic_init(&views->slots[i].pinned, NULL);
        atomic_init(&views->slots[i].idle, NULL);
        atomic_init(&views->slots[i].is_taken, false);
    }
    struct generation *active = generation_over_table(views, base);
    atomic_init(&views->current, view_create(views, base, &active, 1));
    atomic_init(&views->applied, base);
    view_check(views_current(views), base);
    return views;
}

void views_destroy(struct views *views)
{
    if (views == NULL) {
        return;
    }
    TL_ASSERT(views->applies_count == 0);
    TL_ASSERT(views->kv_tables_count == 0);
    for (uint32_t i = 0; i < VIEW_READERS_MAX; i++) {
        TL_ASSERT(!atomic_load(&views->slots[i].is_taken));
    }
    views_collect(views);
    TL_ASSERT(views->retired == NULL);
    TL_ASSERT(views->retired_tables == NULL);
    view_destroy(views, atomic_load(&views->current));
    free(views->use);
    free(views);
}

struct table *views_table(const struct views *views)
{
    return views->use->table;
}

struct generation *views_active(struct views *views)
{
    return views_current(views)->generations[0];
}

uint32_t views_frozen_count(const struct views *views)
{
    return views_current(views)->generations_count - 1;
}

const struct generation *views_oldest_frozen(const struct views *views)
{
    const struct view *view = views_current(views);
    return view->generations_count > 1 ? view->generations[view->generations_count - 1] : NULL;
}

static void views_exchange(struct views *views, struct view *view)
{
    struct view *old = atomic_exchange(&views->current, view);
    old->retired_next = views->retired;
    views->retired = old;
}

static void views_replace(struct views *views, struct view *view)
{
    view_check(view, views_applied(views));
    views_exchange(views, view);
}

void views_freeze(struct views *views, const struct group_state *final, struct bytes conf)
{
    const struct view *view = views_current(views);
    struct generation *active = view->generations[0];
    TL_ASSERT(views_frozen_count(views) < VIEW_FROZEN_MAX);
    TL_ASSERT(final->index == views_applied(views));
    TL_ASSERT(final->index > generation_first(active));

    generation_freeze(active, final, conf);
    struct generation *next = generation_create(final->index);
    generation_set_leaf_pages(next, generation_leaf_pages(active));
    struct generation *generations[VIEW_GENERATIONS_MAX] = {next};
    for (uint32_t i = 0; i < view->generations_count; i++) {
        generations[1 + i] = view->generations[i];
    }
    views_replace(views, view_create(views, view->base, generations, view->generations_count + 1));
}

void views_flushed(struct views *views)
{
    const struct view *view = views_current(views);
    TL_ASSERT(view->generations_count > 1);
    TL_ASSERT(views->applies_count == 0);
    uint32_t left_count = view->generations_count - 1;
    raft_index base = generation_final(view->generations[left_count])->index;
    TL_ASSERT(table_state(views_table(views))->index == base);

    generation_set_leaf_pages(view->generations[0], table_leaf_pages(views_table(views)));
    views_replace(views, view_create(views, base, view->generations, left_count));
}

void views_install(struct views *views, struct table *table)
{
    raft_index index = table_state(table)->index;
    TL_ASSERT(table != views_table(views));
    TL_ASSERT(index > views_applied(views));
    TL_ASSERT(views->applies_count == 0);
    TL_ASSERT(views->kv_tables_count == 0);

    views->use = table_use_create(table);
    struct generation *active = generation_over_table(views, index);
    struct view *view = view_create(views, index, &active, 1);
    view_check(view, index);
    views_exchange(views, view);
    at_step(5);
    atomic_store(&views->applied, index); /* after the view: see above */
}

/* Takes idle readers of retired tables out of their slots. One of the table in use goes back,
 * unless its owner has made itself another one meanwhile. */
static void reclaim_readers(struct views *views)
{
    for (uint32_t i = 0; i < VIEW_READERS_MAX; i++) {
        struct table_reader *reader = atomic_exchange(&views->slots[i].idle, NULL);
        if (reader == NULL) {
            continue;
        }
        struct table_reader *none = NULL;
        if (table_reader_table(reader) != views_table(views) ||
            !atomic_compare_exchange_strong(&views->slots[i].idle, &none, reader)) {
            table_reader_destroy(reader);
        }
    }
}

struct table *views_take_retired(struct views *views)
{
    if (views->retired_tables == NULL) {
        return NULL;
    }
    reclaim_readers(views);
    for (struct table_use **link = &views->retired_tables; *link != NULL; link = &(*link)->next) {
        struct table_use *use = *link;
        if (table_readers_count(use->table) == 0) {
            struct table *table = use->table;
            *link = use->next;
            free(use);
            return table;
        }
    }
    return NULL;
}

void views_publish(struct views *views, raft_index index)
{
    TL_ASSERT(index > views_applied(views));
    TL_ASSERT(index == generation_last(views_active(views)));
    atomic_store_explicit(&views->applied, index, memory_order_release);
}

raft_index views_applied(const struct views *views)
{
    return atomic_load_explicit(&views->applied, memory_order_acquire);
}

raft_index views_base(const struct views *views)
{
    return views_current(views)->base;
}

void views_apply_begin(struct views *views)
{
    views->applies_count++;
}

void views_apply_end(struct views *views)
{
    TL_ASSERT(views->applies_count > 0);
    views->applies_count--;
}

void views_kv_table_opened(struct views *views)
{
    views->kv_tables_count++;
}

void views_kv_table_closed(struct views *views)
{
    TL_ASSERT(views->kv_tables_count > 0);
    views->kv_tables_count--;
}

static bool is_pinned(const struct views *views, const struct view *view)
{
    for (uint32_t i = 0; i < VIEW_READERS_MAX; i++) {
        if (atomic_load(&views->slots[i].pinned) == view) {
            return true;
        }
    }
    return false;
}

void views_collect(struct views *views)
{
    struct view **link = &views->retired;
    while (*link != NULL) {
        struct view *view = *link;
        if (is_pinned(views, view)) {
            link = &view->retired_next;
        } else {
            *link = view->retired_next;
            view_destroy(views, view);
        }
    }
}

/* ---- Readers: any thread ------------------------------------------------------------------- */

static struct slot *slot_take(struct views *views)
{
    for (uint32_t i = 0; i < VIEW_READERS_MAX; i++) {
        bool expected = false;
        if (atomic_compare_exchange_strong(&views->slots[i].is_taken, &expected, true)) {
            return &views->slots[i];
        }
    }
    return NULL;
}

/* Pins the current view: it is named by the slot before it could be replaced. */
static struct view *pin_current(struct views *views, struct slot *slot)
{
    struct view *view;
    do {
        view = atomic_load(&views->current);
        atomic_store(&slot->pinned, view);
    } while (atomic_load(&views->current) != view);
    return view;
}

enum tl_err view_reader_create(struct views *views, struct view_reader **out_reader)
{
    struct slot *slot = slot_take(views);
    if (slot == NULL) {
        return TL_ERR_FULL;
    }
    struct table_reader *table = NULL;
    enum tl_err err = table_reader_create(pin_current(views, slot)->use->table, &table);
    atomic_store(&slot->pinned, NULL);
    if (err != TL_OK) {
        atomic_store(&slot->is_taken, false);
        return err;
    }
    struct view_reader *reader = calloc(1, sizeof *reader);
    TL_ASSERT(reader != NULL);
    *reader = (struct view_reader){.views = views, .slot = slot};
    atomic_store(&slot->idle, table);
    *out_reader = reader;
    return TL_OK;
}

void view_reader_destroy(struct view_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    view_end(reader);
    table_reader_destroy(atomic_exchange(&reader->slot->idle, NULL));
    atomic_store(&reader->slot->is_taken, false);
    free(reader);
}

/* Takes the transaction out of the slot, and makes another one when it is of a table that the
 * pinned view has not. */
static enum tl_err take_table_reader(struct view_reader *reader, struct tl_fault *out_fault)
{
    struct table *table = reader->view->use->table;
    if (reader->table == NULL) reader->table = atomic_exchange(&reader->slot->idle, NULL);
    if (reader->table != NULL && table_reader_table(reader->table) != table) {
        table_reader_destroy(TL_TAKE(&reader->table));
    }
    if (reader->table != NULL) {
        return TL_OK;
    }
    enum tl_err err = table_reader_create(table, &reader->table);
    if (err != TL_OK) {
        tl_fault_set(out_fault, table_dir(table), UINT32_MAX, 0, "no reader: %s", tl_err_text(err));
    }
    return err;
}

/* One round of view_begin(); false: start over. */
static bool try_begin(struct view_reader *reader, enum tl_err *out_err, raft_index *out_index,
                      struct tl_fault *out_fault)
{
    struct views *views = reader->views;
    bool is_early = view_mutation == VIEW_MUTATION_TRANSACTION_FIRST;
    *out_err = TL_OK;
    if (is_early) {
        if (reader->table == NULL) reader->table = atomic_exchange(&reader->slot->idle, NULL);
        *out_err = table_reader_begin(reader->table, out_index, out_fault);
    }

    at_step(0);
    reader->view = atomic_load(&views->current);
    atomic_store(&reader->slot->pinned, reader->view);
    at_step(1);
    reader->applied = views_applied(views);
    at_step(2);
    if (atomic_load(&views->current) != reader->view &&
        view_mutation != VIEW_MUTATION_NO_VIEW_CHECK) {
        return false; /* and nothing of the view has been looked at: it may be gone */
    }
    reader->applied = TL_MAX(reader->applied, reader->view->base); /* amid views_install() */
    at_step(3);
    if (!is_early) {
        *out_err = take_table_reader(reader, out_fault);
        if (*out_err == TL_OK) {
            *out_err = table_reader_begin(reader->table, out_index, out_fault);
        }
    }
    at_step(4);
    return *out_err != TL_OK || *out_index <= reader->applied ||
           view_mutation != VIEW_MUTATION_NONE;
}

enum tl_err view_begin(struct view_reader *reader, raft_index *out_applied,
                       struct tl_fault *out_fault)
{
    TL_ASSERT(reader->view == NULL);
    enum tl_err err = TL_OK;
    raft_index index = 0;
    bool is_done = false;
    for (uint32_t i = 0; i < VIEW_BEGIN_TRIES_MAX && !is_done; i++) {
        is_done = try_begin(reader, &err, &index, out_fault);
    }
    /* Neither can come from us: somebody else writes to the table. */
    const char *reason = NULL;
    if (!is_done) {
        reason = "the table is ahead of what was applied";
    } else if (err == TL_OK && index < reader->view->base && view_mutation == VIEW_MUTATION_NONE) {
        reason = "the table went back";
    }
    if (reason != NULL) {
        const char *dir = reader->table == NULL ? "" : table_dir(table_reader_table(reader->table));
        tl_fault_set(out_fault, dir, UINT32_MAX, index, "%s", reason);
        err = TL_ERR_CORRUPT;
    }
    if (err != TL_OK) {
        view_end(reader);
        return err;
    }
    *out_applied = reader->applied;
    return TL_OK;
}

void view_end(struct view_reader *reader)
{
    if (reader->table != NULL) {
        table_reader_end(reader->table);
        /* There is one in the slot when the writer had it in its hands at view_begin(). */
        table_reader_destroy(atomic_exchange(&reader->slot->idle, TL_TAKE(&reader->table)));
    }
    reader->view = NULL;
    atomic_store_explicit(&reader->slot->pinned, NULL, memory_order_release);
}

bool view_find(const struct view *view, uint32_t first, struct bytes env_key, raft_index at,
               struct generation_version *out_version)
{
    for (uint32_t i = first; i < view->generations_count; i++) {
        if (generation_find(view->generations[i], env_key, at, out_version)) {
            return true;
        }
    }
    return false;
}

enum tl_err view_get(struct view_reader *reader, struct bytes env_key, struct bytes *out_value,
                     struct tl_fault *out_fault)
{
    TL_ASSERT(reader->view != NULL);
    struct generation_version version;
    if (view_find(reader->view, 0, env_key, reader->applied, &version)) {
        if (version.value.data == NULL) {
            return TL_ERR_NOT_FOUND;
        }
        *out_value = version.value;
        return TL_OK;
    }
    return table_get_whole(reader->table, env_key, out_value, out_fault);
}

const struct view *view_reader_view(const struct view_reader *reader)
{
    TL_ASSERT(reader->view != NULL);
    return reader->view;
}

raft_index view_reader_applied(const struct view_reader *reader)
{
    return reader->applied;
}

struct table_reader *view_reader_table(const struct view_reader *reader)
{
    return reader->table;
}
