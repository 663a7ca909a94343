/* generation.h - a memtable: everything applied in an index range, ordered by key, versioned.
 *
 * Role:       What is flushed together. One writer (apply) inserts; readers walk without waiting
 *             and see, per key, the newest version at or below the index they ask for.
 * Thread:     put, freeze: the loop thread. find, walk: any thread that holds a view pin (or is the
 *             flusher with a frozen one). The lists are single-writer: a node is published with one
 *             release store after it is complete, and never unlinked or changed.
 * Ownership:  keys and values are copied into the generation's arena, freed as a whole.
 * Limits:     GENERATION_ROWS_MAX distinct keys, GENERATION_BYTES_MAX of arena: these are asked by
 *             generation_is_full(); a put beyond them still works (an entry is never split).
 */

#ifndef TL_GENERATION_H
#define TL_GENERATION_H

#include "trilith/row.h"

#define GENERATION_ROWS_MAX 65536u
#define GENERATION_BYTES_MAX (32u * 1024u * 1024u)
#define GENERATION_PAGES_MAX 16384u /* estimate of LMDB pages a flush will dirty */

struct generation;

/* A version found. value.data == NULL: the key is deleted at that index. */
struct generation_version {
    raft_index index;
    struct bytes value; /* borrowed while the generation lives */
};

/* An empty generation of what comes after `first`. */
struct generation *generation_create(raft_index first);
void generation_destroy(struct generation *generation); /* accepts NULL */

/* Adds a version of `env_key` made by entry `index`; indexes do not fall. Room for value_bytes is
 * returned, to be filled before generation_publish(); NULL and value_bytes 0 with is_deletion. A
 * second put of the same key and index replaces the first before it is published. replaced_bytes:
 * length of the value it takes the place of, 0 if there is none or it is not known. */
uint8_t *generation_put(struct generation *generation, raft_index index, struct bytes env_key,
                        size_t value_bytes, size_t replaced_bytes, bool is_deletion);

/* All versions of entry `index` are in place: readers at R >= index may see them. Called for every
 * entry, one that wrote nothing too. The caller then publishes `applied` itself (views_publish). */
void generation_publish(struct generation *generation, raft_index index);

/* The newest version of env_key, the entry at work included; for the writer alone. Remembers the
 * place, so that a put of the same key right after it costs no second search. */
bool generation_find_tip(struct generation *generation, struct bytes env_key,
                         struct generation_version *out_version);

/* The newest version of env_key with index <= at. false: this generation says nothing about it. */
bool generation_find(const struct generation *generation, struct bytes env_key, raft_index at,
                     struct generation_version *out_version);

/* Calls on_item for the newest version <= at of every key >= start, in key order, deletions
 * included, until it returns false. */
void generation_walk(const struct generation *generation, struct bytes start, raft_index at,
                     bool (*on_item)(void *context, struct bytes env_key,
                                     const struct generation_version *version),
                     void *context);

/* Closes it for writing; `final` is captured here and is what table_flush() writes. final->index is
 * the last published index. conf: the group's configuration bytes, copied. */
void generation_freeze(struct generation *generation, const struct group_state *final,
                       struct bytes conf);

raft_index generation_first(const struct generation *generation);                /* exclusive */
raft_index generation_last(const struct generation *generation);                 /* published */
const struct group_state *generation_final(const struct generation *generation); /* frozen only */
struct bytes generation_conf(const struct generation *generation);               /* frozen only */
uint32_t generation_keys_count(const struct generation *generation);
size_t generation_bytes(const struct generation *generation);
bool generation_is_frozen(const struct generation *generation);

/* Tells how many leaf pages the table has: no flush dirties more of them, however many rows it has.
 * UINT64_MAX, unknown, until it is told. */
void generation_set_leaf_pages(struct generation *generation, uint64_t leaf_pages);
uint64_t generation_leaf_pages(const struct generation *generation);

/* Estimate of the LMDB pages that a flush of it would dirty. */
uint64_t generation_pages(const struct generation *generation);

/* Whether a limit, scaled by `permille` of its value (500-1000), is reached. */
bool generation_is_full(const struct generation *generation, uint32_t permille);

#endif
