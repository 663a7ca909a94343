/* scan.c - pages of rows over view_walk().
 *
 * A range comes down to two env keys, low <= key < high, and a key to begin behind. What ends a
 * page is looked at when one more row is there: so a page that is full at the end of the range says
 * that it is the last.
 */

#include "trilith/scan.h"

#define STEPS_PER_LOOK 16u /* between two looks at the clock */

struct walk_state {
    struct scan_page *page;
    struct bytes low;  /* env key; inclusive */
    struct bytes high; /* env key; exclusive */
    size_t bytes;      /* given out */
    uint64_t steps_count;
    enum tl_err err;
    uint8_t low_room[ENV_KEY_BYTES_MAX];
    uint8_t high_room[ENV_KEY_BYTES_MAX];
};

bool scan_range_is_all(const struct scan_range *range)
{
    return range->prefix.count == 0 && range->start.count == 0 && range->end.count == 0 &&
           range->after.count == 0;
}

static struct bytes larger(struct bytes a, struct bytes b)
{
    return bytes_compare(a, b) < 0 ? b : a;
}

/* The smallest key that is above all with this env key as prefix: its kind's byte is below 0xff, so
 * there is one. */
static struct bytes prefix_end(struct bytes prefix, uint8_t room[ENV_KEY_BYTES_MAX])
{
    struct bytes end = env_key_make(ENV_KEY_ROW, prefix, room);
    while (room[end.count - 1] == 0xff) end.count--;
    TL_ASSERT(end.count >= 1);
    room[end.count - 1]++;
    return end;
}

static void set_bounds(struct walk_state *state)
{
    const struct scan_range *range = &state->page->range;
    struct bytes first = larger(range->prefix, range->start);
    if (!range->is_reverse) first = larger(first, range->after);
    state->low = env_key_make(ENV_KEY_ROW, first, state->low_room);

    state->high = prefix_end(range->prefix, state->high_room);
    struct bytes last = range->end;
    if (range->is_reverse && range->after.count > 0 &&
        (last.count == 0 || bytes_compare(range->after, last) < 0)) {
        last = range->after;
    }
    if (last.count == 0) return;
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct bytes end = env_key_make(ENV_KEY_ROW, last, room);
    if (bytes_compare(end, state->high) < 0) {
        memcpy(state->high_room, room, end.count);
        state->high.count = end.count;
    }
}

static bool is_inside(const struct walk_state *state, struct bytes env_key)
{
    return state->page->range.is_reverse ? bytes_compare(env_key, state->low) >= 0
                                         : bytes_compare(env_key, state->high) < 0;
}

static struct bytes user_key(struct bytes env_key)
{
    TL_ASSERT(env_key.data[0] == ENV_KEY_ROW); /* by the bounds */
    return bytes_make(env_key.data + 1, env_key.count - 1);
}

static bool is_time_up(const struct walk_state *state)
{
    const struct scan_page *page = state->page;
    return page->is_time_up != NULL && state->steps_count > 0 &&
           state->steps_count % STEPS_PER_LOOK == 0 && page->is_time_up(page->context);
}

/* Remembers the key as the last one seen: where the next page goes on. */
static void set_next(struct scan_page *page, struct bytes key)
{
    memcpy(page->next, key.data, key.count);
    page->next_bytes = key.count;
}

static bool take_row(struct walk_state *state, struct bytes key, struct bytes row)
{
    struct scan_page *page = state->page;
    struct row_header header;
    state->err = row_decode(row, true, &header);
    if (state->err != TL_OK) return false;
    struct bytes value = {0};
    if (!page->has_no_values) {
        value = row_value(row, &header);
        if (!row_value_is_right(row, &header)) state->err = TL_ERR_CORRUPT;
        if (state->err != TL_OK) return false;
    }
    state->bytes += key.count + value.count;
    page->on_row(page->context, key, &header, value);
    return true;
}

static bool on_item(void *context, struct bytes env_key, struct bytes row)
{
    struct walk_state *state = context;
    struct scan_page *page = state->page;
    if (!is_inside(state, env_key)) return false;
    struct bytes key = user_key(env_key);
    if (key.count == 0) state->err = TL_ERR_CORRUPT;
    if (key.count == 0) return false;
    if (bytes_equal(key, page->range.after)) return true;
    bool is_row = row.data != NULL;
    bool is_full = is_row && page->rows_count > 0 &&
                   (page->rows_count == page->rows_max || state->bytes >= page->bytes_max);
    page->is_cut = !is_full && is_time_up(state);
    if (is_full || page->is_cut) {
        page->is_last = false;
        return false;
    }
    state->steps_count++;
    set_next(page, key);
    if (!is_row) return true;
    if (page->on_row != NULL && !take_row(state, key, row)) return false;
    page->rows_count++;
    return true;
}

enum tl_err scan_run(struct view_reader *reader, struct scan_page *page, struct tl_fault *out_fault)
{
    TL_ASSERT(page->rows_max >= 1);
    struct walk_state state = {.page = page, .err = TL_OK};
    set_bounds(&state);
    page->rows_count = 0;
    page->is_last = true;
    page->is_cut = false;
    page->next_bytes = 0;
    if (bytes_compare(state.low, state.high) >= 0) return TL_OK;
    struct bytes start = page->range.is_reverse ? state.high : state.low;
    enum tl_err err = view_walk(reader, start, page->range.is_reverse, on_item, &state, out_fault);
    if (err != TL_OK) return err;
    if (state.err != TL_OK) tl_fault_set(out_fault, "", UINT32_MAX, 0, "a row is damaged");
    TL_ASSERT(page->is_last || page->next_bytes > 0);
    return state.err;
}
