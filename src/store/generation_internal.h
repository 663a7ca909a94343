/* generation_internal.h - what views and scans do with generations beyond their header.
 *
 * Thread:     the reference count: the loop thread. Cursors: as generation_find().
 */

#ifndef TL_STORE_GENERATION_INTERNAL_H
#define TL_STORE_GENERATION_INTERNAL_H

#include "trilith/generation.h"

/* One more view that names it. A generation is made with no reference. */
void generation_acquire(struct generation *generation);

/* One view fewer; destroys it with the last. */
void generation_release(struct generation *generation);

/* A place in the list: the keys that have a version at or below `at`. */
struct generation_cursor {
    const struct generation *generation;
    const void *node;
    bool is_reverse;
    raft_index at;
    struct bytes env_key; /* of the present place; borrowed while the generation lives */
    struct generation_version version;
};

/* Sets *cursor to the first key >= start, in reverse to the last key < start. false: there is none.
 */
bool generation_cursor_seek(struct generation_cursor *cursor, const struct generation *generation,
                            struct bytes start, bool is_reverse, raft_index at);

/* Moves to the next key, in reverse to the one before. false: there is none. */
bool generation_cursor_next(struct generation_cursor *cursor);

#endif
