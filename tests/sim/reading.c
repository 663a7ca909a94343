/* reading.c - a client's read through a view_reader, as the HTTP layer does it, with the flusher's
 * thread at work between the steps of view_begin(). */

#include "sim_internal.h"

#include "trilith/scan.h"

#define MUTATION_BEGIN_EARLY 26u /* the reader's transaction begun before the view is pinned */

/* Who is in view_begin(); NULL: nobody whom a flush may meet. */
static struct sim *meeting_sim;
static struct sim_node *meeting_node;

/* On a thread of its own, a reader can meet both the flush and the loop's turn that hears of it. On
 * the loop it can meet only the flush. */
static void on_view_begin_step(int step)
{
    (void)step;
    struct sim *sim = meeting_sim;
    struct sim_node *node = TL_TAKE(&meeting_node);
    if (node == NULL) return;
    if (prng_chance(&sim->work_random, 250000)) {
        host_run_flush_now(sim, node, !sim->swarm.reads_are_inline);
    }
    meeting_node = node;
}

static enum tl_err read_key(struct view_reader *reader, struct judgement *judgement, uint32_t i)
{
    uint8_t key[1 + 16] = {ENV_KEY_ROW};
    size_t count = 1 + workload_key(judgement->keys[i], key + 1);
    struct bytes row;
    struct tl_fault fault;
    enum tl_err err = view_get(reader, bytes_make(key, count), &row, &fault);
    if (err == TL_ERR_NOT_FOUND) return TL_OK;
    if (err != TL_OK) return err;
    struct row_header *header = &judgement->headers[i];
    err = row_decode(row, true, header);
    if (err != TL_OK) return err;
    if (!row_value_is_right(row, header)) return TL_ERR_CORRUPT;
    judgement->values[i] = buf_copy(row_value(row, header));
    return TL_OK;
}

static void on_scan_row(void *context, struct bytes key, const struct row_header *header,
                        struct bytes value)
{
    struct judgement *judgement = context;
    uint32_t i = judgement->keys_count++;
    TL_ASSERT(i < SIM_KEYS_MAX);
    judgement->keys[i] = (uint8_t)(key.data[key.count - 1] - '0');
    judgement->headers[i] = *header;
    judgement->values[i] = buf_copy(value);
}

static enum tl_err read_scan(struct view_reader *reader, struct judgement *judgement)
{
    const struct sim_scan *scan = &judgement->scan;
    uint8_t rooms[2][16];
    struct scan_page page = {.rows_max = scan->rows_max,
                             .bytes_max = SIZE_MAX,
                             .range.is_reverse = scan->is_reverse,
                             .on_row = on_scan_row,
                             .context = judgement};
    if (scan->has_start) {
        page.range.start = bytes_make(rooms[0], workload_key(scan->start, rooms[0]));
    }
    if (scan->has_end) page.range.end = bytes_make(rooms[1], workload_key(scan->end, rooms[1]));
    struct tl_fault fault;
    judgement->keys_count = 0;
    enum tl_err err = scan_run(reader, &page, &fault);
    judgement->is_last_page = page.is_last;
    return err;
}

static enum tl_err read_keys(struct sim *sim, struct sim_node *node, struct judgement *judgement)
{
    struct tl_fault fault;
    meeting_sim = sim;
    meeting_node = node;
    view_begin_hook = on_view_begin_step;
    if (sim->options.mutation == MUTATION_BEGIN_EARLY) {
        view_mutation = VIEW_MUTATION_TRANSACTION_FIRST;
    }
    enum tl_err err = view_begin(node->reader, &judgement->applied, &fault);
    view_begin_hook = NULL;
    view_mutation = VIEW_MUTATION_NONE;
    uint32_t keys_count = judgement->scan.is_scan ? 0 : judgement->keys_count;
    for (uint32_t i = 0; i < keys_count && err == TL_OK; i++) {
        err = read_key(node->reader, judgement, i);
    }
    if (judgement->scan.is_scan && err == TL_OK) err = read_scan(node->reader, judgement);
    view_end(node->reader);
    return err;
}

bool reading_read(struct sim *sim, struct sim_node *node, struct judgement *judgement)
{
    if (!host_is_born(node)) return false;
    if (node->reader == NULL) {
        struct views *views = node_views(node->node, NODE_DATA_GROUP);
        enum tl_err err = view_reader_create(views, &node->reader);
        TL_ASSERT(err == TL_OK);
    }
    enum tl_err err = read_keys(sim, node, judgement);
    if (err != TL_OK && rot_explains(node)) {
        rot_on_read_failed(sim, node);
        return false;
    }
    if (err != TL_OK) {
        sim_fail(sim, "a read of node %u: %s", node->number, tl_err_text(err));
        return false;
    }
    judgement->is_of_altered = node->disk->is_altered;
    judgement->result.time_us = node_applied_time_us(node->node, NODE_DATA_GROUP);
    return true;
}
