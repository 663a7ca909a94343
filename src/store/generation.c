/* generation.c - a skip list (Pugh 1990) with one writer and readers that never wait.
 *
 * Every key has a node, every node a chain of versions, newest first. Nothing that a reader can
 * reach is ever changed but for two kinds of pointer: a node's `next` (a node comes in between) and
 * its `newest` (a version is put in front). Both are stored with release after what they point to
 * is complete, and loaded with acquire. Nothing is unlinked: memory goes as a whole.
 *
 * A reader at R passes over versions above R. So a version may be linked before its value has been
 * filled in: its index is above every reader's R until the entry is published.
 *
 * Invariants:
 * (1) first <= published <= put_index; equal to put_index when frozen or when nothing is at work.
 * (2) indexes fall along a chain of versions.
 * (3) the finger is one place on all levels: on none of them is a node between finger[level] and
 *     finger[0]. It is where the last search of the writer ended, or the node added there.
 */

#include "generation_internal.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "arena.h"
#include "trilith/prng.h"

#define HEIGHT_MAX 12u /* a quarter of the nodes of one level reach the next: enough for 4^12 */

/* LMDB 0.9 with pages of 4 KiB: a page holds at least two nodes, a larger one moves its value to
 * pages of its own (mdb.c, me_nodemax). A leaf that was split is half full. */
#define PAGE_BYTES 4096u
#define PAGE_HEADER_BYTES 16u
#define PAGE_NODE_BYTES_MAX 2038u
#define PAGE_NODE_HEADER_BYTES 8u
#define PAGE_NODE_INDEX_BYTES 2u
#define PAGE_FILL_BYTES (PAGE_BYTES / 2)

struct version {
    raft_index index;
    const struct version *older;
    uint32_t value_bytes;
    bool is_deletion;
    uint8_t value[];
};

struct node {
    _Atomic(struct version *) newest;
    uint32_t replaced_bytes; /* of the value below this generation; 0: none */
    uint16_t key_bytes;
    uint8_t height;
    _Atomic(struct node *) next[]; /* `height` of them, then the key */
};

struct generation {
    uint32_t refs_count; /* views that name it; owned by the loop thread */
    bool is_frozen;
    struct arena nodes; /* apart from values: a search stays within a megabyte or two */
    struct arena versions;
    struct node *head; /* no key; before all others */
    atomic_uint height;

    /* Owned by the writer. */
    struct node *finger[HEIGHT_MAX];
    struct prng prng; /* heights: the same puts make the same list */
    raft_index first;
    raft_index put_index;
    raft_index published;
    uint32_t keys_count;
    uint64_t leaf_bytes;     /* of newest versions in leaf pages, beyond what they replace */
    uint64_t overflow_pages; /* of newest versions that do not */
    uint64_t leaf_pages_max; /* of the table */

    /* Constant once frozen. */
    struct group_state final;
    struct buf *conf;
};

static void generation_check(const struct generation *generation)
{
    TL_ASSERT(generation->first <= generation->published); /* (1) */
    TL_ASSERT(generation->published <= generation->put_index);
    TL_ASSERT(!generation->is_frozen || generation->published == generation->put_index);
    TL_ASSERT(!generation->is_frozen || generation->published == generation->final.index);
}

static struct bytes node_key(const struct node *node)
{
    return bytes_make(node->next + node->height, node->key_bytes);
}

static struct node *node_next(const struct node *node, uint32_t level)
{
    return atomic_load_explicit(&node->next[level], memory_order_acquire);
}

static size_t node_bytes(uint32_t height, size_t key_bytes)
{
    return sizeof(struct node) + height * sizeof(_Atomic(struct node *)) + key_bytes;
}

/* ---- Making and ending --------------------------------------------------------------------- */

struct generation *generation_create(raft_index first)
{
    struct generation *generation = calloc(1, sizeof *generation);
    TL_ASSERT(generation != NULL);
    generation->head = calloc(1, node_bytes(HEIGHT_MAX, 0));
    TL_ASSERT(generation->head != NULL);
    generation->head->height = HEIGHT_MAX;
    atomic_init(&generation->head->newest, NULL);
    for (uint32_t level = 0; level < HEIGHT_MAX; level++) {
        atomic_init(&generation->head->next[level], NULL);
        generation->finger[level] = generation->head;
    }
    atomic_init(&generation->height, 1);
    prng_init(&generation->prng, first);
    generation->first = first;
    generation->put_index = first;
    generation->published = first;
    generation->leaf_pages_max = UINT64_MAX;
    return generation;
}

void generation_destroy(struct generation *generation)
{
    if (generation == NULL) {
        return;
    }
    TL_ASSERT(generation->refs_count == 0);
    arena_clear(&generation->nodes);
    arena_clear(&generation->versions);
    buf_release(generation->conf);
    free(generation->head);
    free(generation);
}

void generation_acquire(struct generation *generation)
{
    generation->refs_count++;
}

void generation_release(struct generation *generation)
{
    TL_ASSERT(generation->refs_count > 0);
    generation->refs_count--;
    if (generation->refs_count == 0) {
        generation_destroy(generation);
    }
}

/* ---- Searching ----------------------------------------------------------------------------- */

/* The first node whose key is >= key, or NULL. finger, unless NULL, receives the last node before
 * it on every level in use. */
static struct node *search(const struct generation *generation, struct bytes key,
                           struct node **finger)
{
    struct node *node = generation->head;
    struct node *not_before = NULL; /* compared already, one level up */
    uint32_t level = atomic_load_explicit(&generation->height, memory_order_relaxed);
    while (level > 0) {
        level--;
        struct node *next = node_next(node, level);
        while (next != NULL && next != not_before && bytes_compare(node_key(next), key) < 0) {
            node = next;
            next = node_next(node, level);
        }
        not_before = next;
        if (finger != NULL) finger[level] = node;
    }
    return not_before;
}

static bool key_is(const struct node *node, struct bytes key)
{
    return node != NULL && bytes_equal(node_key(node), key);
}

/* Whether the place of `key` on `level` is right behind the finger. By (3) level 0 answers for all:
 * what is behind finger[level] is behind finger[0] too, and so not before the node behind that. */
static bool finger_is_right(const struct generation *generation, struct bytes key, uint32_t level)
{
    const struct node *before = generation->finger[level];
    if (before != generation->head && bytes_compare(node_key(before), key) >= 0) {
        return false;
    }
    const struct node *after = node_next(before, level);
    return after == NULL || bytes_compare(node_key(after), key) >= 0;
}

/* search() for the writer. The finger is often right: apply looks a row up before it puts it, and
 * bulk loads come in order. */
static struct node *search_at_finger(struct generation *generation, struct bytes key)
{
    if (finger_is_right(generation, key, 0)) {
        return node_next(generation->finger[0], 0);
    }
    return search(generation, key, generation->finger);
}

static bool version_at(const struct node *node, raft_index at,
                       struct generation_version *out_version)
{
    const struct version *version = atomic_load_explicit(&node->newest, memory_order_acquire);
    while (version != NULL && version->index > at) {
        version = version->older;
    }
    if (version == NULL) {
        return false;
    }
    *out_version = (struct generation_version){
        .index = version->index,
        .value = version->is_deletion ? bytes_make(NULL, 0)
                                      : bytes_make(version->value, version->value_bytes),
    };
    return true;
}

/* ---- Writing ------------------------------------------------------------------------------- */

static bool has_overflow_pages(size_t key_bytes, size_t value_bytes)
{
    return PAGE_NODE_HEADER_BYTES + key_bytes + value_bytes > PAGE_NODE_BYTES_MAX;
}

/* What a row takes of its leaf page. */
static uint64_t leaf_bytes_of(size_t key_bytes, size_t value_bytes)
{
    size_t data_bytes = has_overflow_pages(key_bytes, value_bytes) ? sizeof(uint64_t) : value_bytes;
    return PAGE_NODE_HEADER_BYTES + key_bytes + data_bytes + PAGE_NODE_INDEX_BYTES;
}

/* Adds (sign 1) or takes back (-1) what a newest version is expected to dirty in LMDB beside the
 * leaf it is on. What fits into the place of the value before it splits no leaf. */
static void count_pages(struct generation *generation, const struct node *node,
                        const struct version *version, int sign)
{
    uint64_t unit = sign > 0 ? 1 : UINT64_MAX; /* modulo 2^64: times -1 */
    if (version->is_deletion) {
        return;
    }
    if (has_overflow_pages(node->key_bytes, version->value_bytes)) {
        uint64_t bytes = PAGE_HEADER_BYTES + (uint64_t)version->value_bytes;
        generation->overflow_pages += unit * ((bytes + PAGE_BYTES - 1) / PAGE_BYTES);
    }
    uint64_t needed = leaf_bytes_of(node->key_bytes, version->value_bytes);
    uint64_t there =
        node->replaced_bytes > 0 ? leaf_bytes_of(node->key_bytes, node->replaced_bytes) : 0;
    generation->leaf_bytes += unit * (needed - TL_MIN(needed, there));
}

static struct version *version_create(struct generation *generation, raft_index index,
                                      size_t value_bytes, bool is_deletion)
{
    struct version *version = arena_alloc(&generation->versions, sizeof *version + value_bytes);
    *version = (struct version){
        .index = index,
        .value_bytes = (uint32_t)value_bytes,
        .is_deletion = is_deletion,
    };
    return version;
}

/* Puts the version in front of the node's chain, or in the place of one of the same entry: no
 * reader may see that one yet, and one that stands on it finds its older ones still. */
static void add_version(struct generation *generation, struct node *node, struct version *version)
{
    const struct version *newest = atomic_load_explicit(&node->newest, memory_order_relaxed);
    TL_ASSERT(newest->index <= version->index); /* (2) */
    version->older = newest->index == version->index ? newest->older : newest;
    count_pages(generation, node, newest, -1);
    count_pages(generation, node, version, 1);
    atomic_store_explicit(&node->newest, version, memory_order_release);
}

static uint32_t draw_height(struct generation *generation)
{
    uint64_t random = prng_next(&generation->prng);
    uint32_t height = 1;
    while (height < HEIGHT_MAX && (random & 3) == 0) {
        height++;
        random >>= 2;
    }
    return height;
}

/* The finger is right. */
static void add_node(struct generation *generation, struct bytes key, struct version *version,
                     size_t replaced_bytes)
{
    uint32_t height = draw_height(generation);
    uint32_t height_now = atomic_load_explicit(&generation->height, memory_order_relaxed);
    for (uint32_t level = 0; level < height; level++) {
        TL_ASSERT_SLOW(finger_is_right(generation, key, level));
    }
    if (height > height_now) {
        /* A reader that sees the new height too early finds NULL there and goes down. */
        atomic_store_explicit(&generation->height, height, memory_order_relaxed);
    }

    struct node *node = arena_alloc(&generation->nodes, node_bytes(height, key.count));
    atomic_init(&node->newest, version);
    node->replaced_bytes = (uint32_t)replaced_bytes;
    node->key_bytes = (uint16_t)key.count;
    node->height = (uint8_t)height;
    memcpy(node->next + height, key.data, key.count);
    for (uint32_t level = 0; level < height; level++) {
        atomic_init(&node->next[level], node_next(generation->finger[level], level));
    }
    for (uint32_t level = 0; level < height; level++) {
        atomic_store_explicit(&generation->finger[level]->next[level], node, memory_order_release);
        generation->finger[level] = node;
    }
    generation->keys_count++;
    count_pages(generation, node, version, 1);
}

uint8_t *generation_put(struct generation *generation, raft_index index, struct bytes env_key,
                        size_t value_bytes, size_t replaced_bytes, bool is_deletion)
{
    generation_check(generation);
    TL_ASSERT(!generation->is_frozen);
    TL_ASSERT(index > generation->published);
    TL_ASSERT(index >= generation->put_index);
    TL_ASSERT(env_key.count > 0);
    TL_ASSERT(env_key.count <= ENV_KEY_BYTES_MAX);
    TL_ASSERT(value_bytes <= BUF_BYTES_MAX);
    TL_ASSERT(replaced_bytes <= BUF_BYTES_MAX);
    TL_ASSERT(!is_deletion || value_bytes == 0);

    generation->put_index = index;
    struct node *node = search_at_finger(generation, env_key);
    struct version *version = version_create(generation, index, value_bytes, is_deletion);
    if (key_is(node, env_key)) {
        add_version(generation, node, version);
    } else {
        add_node(generation, env_key, version, replaced_bytes);
    }
    return is_deletion ? NULL : version->value;
}

void generation_publish(struct generation *generation, raft_index index)
{
    generation_check(generation);
    TL_ASSERT(!generation->is_frozen);
    TL_ASSERT(index >= generation->put_index);
    TL_ASSERT(index > generation->published);
    generation->put_index = index;
    generation->published = index;
}

void generation_freeze(struct generation *generation, const struct group_state *final,
                       struct bytes conf)
{
    TL_ASSERT(!generation->is_frozen);
    TL_ASSERT(final->index == generation->published);
    generation->final = *final;
    generation->conf = buf_copy(conf);
    generation->is_frozen = true;
    generation_check(generation);
}

/* ---- Reading ------------------------------------------------------------------------------- */

bool generation_find_tip(struct generation *generation, struct bytes env_key,
                         struct generation_version *out_version)
{
    TL_ASSERT(!generation->is_frozen);
    const struct node *node = search_at_finger(generation, env_key);
    return key_is(node, env_key) && version_at(node, UINT64_MAX, out_version);
}

bool generation_find(const struct generation *generation, struct bytes env_key, raft_index at,
                     struct generation_version *out_version)
{
    const struct node *node = search(generation, env_key, NULL);
    return key_is(node, env_key) && version_at(node, at, out_version);
}

/* The last node before the key; NULL: there is none. Links point forwards only. */
static const struct node *search_before(const struct generation *generation, struct bytes key)
{
    struct node *finger[HEIGHT_MAX];
    (void)search(generation, key, finger); /* what is behind the key is of no interest */
    return finger[0] != generation->head ? finger[0] : NULL;
}

static const struct node *cursor_step(const struct generation_cursor *cursor,
                                      const struct node *node)
{
    return cursor->is_reverse ? search_before(cursor->generation, node_key(node))
                              : node_next(node, 0);
}

/* Sets the cursor to the first node from `node` on that has a version. */
static bool cursor_settle(struct generation_cursor *cursor, const struct node *node)
{
    while (node != NULL && !version_at(node, cursor->at, &cursor->version)) {
        node = cursor_step(cursor, node);
    }
    cursor->node = node;
    if (node != NULL) cursor->env_key = node_key(node);
    return node != NULL;
}

bool generation_cursor_seek(struct generation_cursor *cursor, const struct generation *generation,
                            struct bytes start, bool is_reverse, raft_index at)
{
    cursor->generation = generation;
    cursor->is_reverse = is_reverse;
    cursor->at = at;
    return cursor_settle(cursor, is_reverse ? search_before(generation, start)
                                            : search(generation, start, NULL));
}

bool generation_cursor_next(struct generation_cursor *cursor)
{
    TL_ASSERT(cursor->node != NULL);
    return cursor_settle(cursor, cursor_step(cursor, cursor->node));
}

void generation_walk(const struct generation *generation, struct bytes start, raft_index at,
                     bool (*on_item)(void *context, struct bytes env_key,
                                     const struct generation_version *version),
                     void *context)
{
    struct generation_cursor cursor;
    bool is_there = generation_cursor_seek(&cursor, generation, start, false, at);
    while (is_there && on_item(context, cursor.env_key, &cursor.version)) {
        is_there = generation_cursor_next(&cursor);
    }
}

/* ---- What is known about it ---------------------------------------------------------------- */

raft_index generation_first(const struct generation *generation)
{
    return generation->first;
}

raft_index generation_last(const struct generation *generation)
{
    return generation->published;
}

const struct group_state *generation_final(const struct generation *generation)
{
    TL_ASSERT(generation->is_frozen);
    return &generation->final;
}

struct bytes generation_conf(const struct generation *generation)
{
    TL_ASSERT(generation->is_frozen);
    return buf_bytes(generation->conf);
}

uint32_t generation_keys_count(const struct generation *generation)
{
    return generation->keys_count;
}

size_t generation_bytes(const struct generation *generation)
{
    return generation->nodes.bytes + generation->versions.bytes;
}

bool generation_is_frozen(const struct generation *generation)
{
    return generation->is_frozen;
}

void generation_set_leaf_pages(struct generation *generation, uint64_t leaf_pages)
{
    generation->leaf_pages_max = leaf_pages;
}

uint64_t generation_leaf_pages(const struct generation *generation)
{
    return generation->leaf_pages_max;
}

/* How many of L leaves k rows fall on when they are spread at random: L (1 - exp(-k / L)), of which
 * 2kL / (2L + k) is a close bound from above (a Padé approximant) up to k = 2L. In a large table
 * that is a leaf for nearly every row. */
static uint64_t touched_leaves(uint64_t rows_count, uint64_t leaves_count)
{
    if (rows_count == 0 || leaves_count > UINT32_MAX) {
        return rows_count;
    }
    uint64_t touched = 2 * rows_count * leaves_count / (2 * leaves_count + rows_count);
    return TL_MIN(touched, leaves_count);
}

/* What is new splits the leaves it comes to. Branch pages are a hundredth and not counted. */
uint64_t generation_pages(const struct generation *generation)
{
    uint64_t new_leaves = generation->leaf_bytes / PAGE_FILL_BYTES;
    return touched_leaves(generation->keys_count, generation->leaf_pages_max) + new_leaves +
           generation->overflow_pages;
}

bool generation_is_full(const struct generation *generation, uint32_t permille)
{
    TL_ASSERT(permille <= 1000);
    uint64_t scale = permille;
    return generation->keys_count >= GENERATION_ROWS_MAX * scale / 1000 ||
           generation_bytes(generation) >= GENERATION_BYTES_MAX * scale / 1000 ||
           generation_pages(generation) >= GENERATION_PAGES_MAX * scale / 1000;
}
