/* view: one writer that also installs tables, a flusher and two readers at the same time.
 *
 * Goal:   a reader at R sees every entry up to R and none above, whole entries only, while
 *         generations are frozen, flushed, dropped and freed under it, and the table is replaced,
 *         closed and deleted. Under TSan: no data race.
 * Method: entry i puts i under "rs" and under "rk<i mod 64>", and puts or deletes "rt" by turns: so
 *         all 66 keys follow from R.
 *
 * A program of its own without Criterion, whose memory arena and TSan's shadow memory want the same
 * addresses: most of the time a Criterion program built with TSan does not start.
 */

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "rows.h"
#include "tmpdir.h"
#include "trilith/view.h"

#define RING_COUNT 64u
#define ENTRIES_PER_GENERATION 40u
#define ENTRIES_PER_TURN 4u
#define RUN_MS 1200u
#define READERS_COUNT 2u
#define GENERATIONS_PER_INSTALL 5u
#define ENTRIES_INSTALLED 500u /* that nobody here has applied */

static char dir[TMPDIR_PATH_BYTES_MAX];

static struct table *table;
static struct views *views;

static atomic_bool is_over;
static atomic_uint reads_count;
static atomic_uint wrong_count;
static uint32_t deleted_count; /* tables that were replaced */

/* The hand-over to the flusher: as the mailboxes do it, with a lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static const struct generation *job; /* NULL: the flusher is idle */
static bool is_job_done;

static void *run_flusher(void *context)
{
    (void)context;
    (void)pthread_mutex_lock(&lock);
    while (!is_over) {
        if (job == NULL || is_job_done) {
            (void)pthread_cond_wait(&changed, &lock);
            continue;
        }
        const struct generation *generation = job;
        (void)pthread_mutex_unlock(&lock);
        struct tl_fault fault;
        enum tl_err err = table_flush(table, generation, &fault);
        TL_ASSERT(err == TL_OK);
        (void)pthread_mutex_lock(&lock);
        is_job_done = true;
    }
    (void)pthread_mutex_unlock(&lock);
    return NULL;
}

/* The loop thread's side of it: takes the result, hands the next one over. */
static void drive_flusher(void)
{
    (void)pthread_mutex_lock(&lock);
    if (is_job_done) {
        views_flushed(views);
        job = NULL;
        is_job_done = false;
    }
    if (job == NULL && views_frozen_count(views) > 0) {
        job = views_oldest_frozen(views);
        (void)pthread_cond_signal(&changed);
    }
    (void)pthread_mutex_unlock(&lock);
}

static void ring_key(raft_index index, char out_key[16])
{
    (void)snprintf(out_key, 16, "rk%02u", (unsigned)(index % RING_COUNT));
}

static bool sees(struct view_reader *reader, const char *key, raft_index expected)
{
    struct bytes row;
    enum tl_err err = view_get(reader, bytes_of(key), &row, NULL);
    if (err != TL_OK) {
        return err == TL_ERR_NOT_FOUND && expected == 0;
    }
    raft_index index;
    memcpy(&index, rows_value(row).data, sizeof index);
    return index == expected;
}

static bool is_right_at(struct view_reader *reader, raft_index applied)
{
    bool is_right = sees(reader, "rs", applied);
    is_right = is_right && sees(reader, "rt", applied % 2 == 0 ? 0 : applied);
    for (raft_index i = 0; i < RING_COUNT && i < applied; i++) {
        char key[16];
        ring_key(applied - i, key);
        is_right = is_right && sees(reader, key, applied - i);
    }
    return is_right;
}

static void *run_reader(void *context)
{
    struct view_reader *reader = context;
    raft_index last = 0;
    while (!is_over) {
        raft_index applied = 0;
        enum tl_err err = view_begin(reader, &applied, NULL);
        TL_ASSERT(err == TL_OK);
        if (!is_right_at(reader, applied) || applied < last) atomic_fetch_add(&wrong_count, 1);
        view_end(reader);
        last = applied;
        atomic_fetch_add(&reads_count, 1);
    }
    return NULL;
}

static void put_entry(struct generation *active, raft_index index)
{
    char key[16];
    ring_key(index, key);
    rows_put(active, index, "rs", bytes_make(&index, sizeof index));
    rows_put(active, index, key, bytes_make(&index, sizeof index));
    if (index % 2 == 0) {
        (void)generation_put(active, index, bytes_of("rt"), 0, 0, true);
    } else {
        rows_put(active, index, "rt", bytes_make(&index, sizeof index));
    }
    generation_publish(active, index);
}

static void apply_entry(raft_index index)
{
    put_entry(views_active(views), index);
    views_publish(views, index);
}

static struct table *open_table(uint32_t number)
{
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/%u", dir, number);
    int rc = mkdir(path, 0700);
    TL_ASSERT(rc == 0);
    struct table_options options = {
        .dir = path, .map_bytes = 64u * 1024u * 1024u, .readers_max = 8};
    struct table *opened = NULL;
    enum tl_err err = table_open(&options, &opened, NULL);
    TL_ASSERT(err == TL_OK);
    return opened;
}

/* A table as of entry `last`. */
static struct table *make_table(uint32_t number, raft_index last)
{
    struct table *made = open_table(number);
    struct generation *generation = generation_create(0);
    for (raft_index i = last - RING_COUNT; i <= last; i++) put_entry(generation, i);
    struct group_state final = rows_final(last);
    generation_freeze(generation, &final, bytes_make(NULL, 0));
    enum tl_err err = table_flush(made, generation, NULL);
    TL_ASSERT(err == TL_OK);
    generation_destroy(generation);
    return made;
}

static void delete_table(struct table *retired)
{
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s", table_dir(retired));
    table_close(retired);
    enum tl_err err = table_delete(path, NULL);
    TL_ASSERT(err == TL_OK);
}

/* With the flusher idle. Returns whether it was. */
static bool install(void)
{
    static uint32_t number;
    (void)pthread_mutex_lock(&lock);
    bool is_idle = job == NULL;
    if (is_idle) {
        table = make_table(++number, views_applied(views) + ENTRIES_INSTALLED);
        views_install(views, table);
    }
    (void)pthread_mutex_unlock(&lock);
    return is_idle;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void delete_retired(void)
{
    views_collect(views);
    for (struct table *retired; (retired = views_take_retired(views)) != NULL;) {
        delete_table(retired);
        deleted_count++;
    }
}

/* Returns how many generations went by. */
static uint32_t run_writer(void)
{
    uint32_t freezes_count = 0;
    uint32_t install_at = GENERATIONS_PER_INSTALL;
    uint64_t end_ms = now_ms() + RUN_MS;
    while (now_ms() < end_ms) {
        /* In small portions: readers meet all parts of a generation's life. */
        for (uint32_t i = 0; i < ENTRIES_PER_TURN; i++) apply_entry(views_applied(views) + 1);
        raft_index first = generation_first(views_active(views));
        if (views_frozen_count(views) < VIEW_FROZEN_MAX &&
            views_applied(views) >= first + ENTRIES_PER_GENERATION) {
            struct group_state final = rows_final(views_applied(views));
            views_freeze(views, &final, bytes_make(NULL, 0));
            freezes_count++;
        }
        drive_flusher();
        if (freezes_count >= install_at && install()) install_at += GENERATIONS_PER_INSTALL;
        delete_retired();
        const struct timespec pause = {.tv_nsec = 20000};
        (void)nanosleep(&pause, NULL);
    }
    return freezes_count;
}

static void create_thread(pthread_t *thread, void *(*run)(void *), void *context)
{
    int rc = pthread_create(thread, NULL, run, context);
    TL_ASSERT(rc == 0);
}

/* Everything but the table. Returns how many generations went by. */
static uint32_t run_all(void)
{
    pthread_t threads[READERS_COUNT + 1];
    struct view_reader *readers[READERS_COUNT];
    views = views_create(table);
    apply_entry(1);
    for (uint32_t i = 0; i < READERS_COUNT; i++) {
        enum tl_err err = view_reader_create(views, &readers[i]);
        TL_ASSERT(err == TL_OK);
        create_thread(&threads[i], run_reader, readers[i]);
    }
    create_thread(&threads[READERS_COUNT], run_flusher, NULL);
    uint32_t freezes_count = run_writer();

    (void)pthread_mutex_lock(&lock);
    is_over = true;
    (void)pthread_cond_signal(&changed);
    (void)pthread_mutex_unlock(&lock);
    for (uint32_t i = 0; i < READERS_COUNT + 1; i++) (void)pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < READERS_COUNT; i++) view_reader_destroy(readers[i]);
    delete_retired();
    views_destroy(views);
    return freezes_count;
}

int main(void)
{
    tmpdir_create(dir);
    table = open_table(0);
    uint32_t freezes_count = run_all();
    table_close(table);
    tmpdir_destroy(dir);
    printf("%u wrong of %u reads over %u generations and %u installs\n", wrong_count, reads_count,
           freezes_count, deleted_count);
    /* A run in which nothing happened proves nothing. */
    return wrong_count == 0 && reads_count > 100 && freezes_count > 10 && deleted_count > 0 ? 0 : 1;
}
