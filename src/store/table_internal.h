/* table_internal.h - what views and scans ask of a table beyond its header.
 *
 * Thread:     as table.h.
 */

#ifndef TL_STORE_TABLE_INTERNAL_H
#define TL_STORE_TABLE_INTERNAL_H

#include <lmdb.h>

#include "trilith/table.h"

/* Leaf pages as of the last flush. Owner's thread, no flush running. */
uint64_t table_leaf_pages(const struct table *table);

/* Sets *fault to name the table, and returns TL_ERR_CORRUPT. */
enum tl_err table_corrupt(const struct table *table, raft_index index, const char *reason,
                          struct tl_fault *fault);

/* table_get(), and the value of a row is held against its checksum too. */
TL_MUST_CHECK enum tl_err table_get_whole(struct table_reader *reader, struct bytes env_key,
                                          struct bytes *out_value, struct tl_fault *out_fault);

/* A place in the table, inside begin/end. */
struct table_cursor {
    struct table_reader *reader;
    MDB_cursor *cursor;
    bool is_reverse;
    bool is_there; /* false: behind the last key, or before the first */
    struct bytes env_key;
    struct bytes value;
};

/* Opens a cursor at the first key >= start, in reverse at the last key < start, which is not empty.
 * On TL_OK it must be closed. */
TL_MUST_CHECK enum tl_err table_cursor_open(struct table_cursor *cursor,
                                            struct table_reader *reader, struct bytes start,
                                            bool is_reverse, struct tl_fault *out_fault);
/* Moves to the next key, in reverse to the one before. */
TL_MUST_CHECK enum tl_err table_cursor_next(struct table_cursor *cursor,
                                            struct tl_fault *out_fault);
void table_cursor_close(struct table_cursor *cursor);

#endif
