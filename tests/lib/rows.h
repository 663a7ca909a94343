/* rows.h - rows for tests of the store: a key, a text, an index.
 *
 * Thread:     any.
 */

#ifndef TL_TESTS_ROWS_H
#define TL_TESTS_ROWS_H

#include "trilith/generation.h"

/* Puts a row with this value; the env key starts with 'r'. */
void rows_put(struct generation *generation, raft_index index, const char *env_key,
              struct bytes value);

/* The same into room that was made by kv_table_put(). */
size_t rows_bytes(struct bytes value);
void rows_fill(uint8_t *room, raft_index index, struct bytes value);

/* The value within an encoded row that passes all its checks. Asserts that it does. */
struct bytes rows_value(struct bytes row);

/* What a generation is frozen with at `index`. */
struct group_state rows_final(raft_index index);

#endif
