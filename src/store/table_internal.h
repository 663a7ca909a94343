/* table_internal.h - what views and scans ask of a table beyond its header.
 *
 * Thread:     as table.h.
 */

#ifndef TL_STORE_TABLE_INTERNAL_H
#define TL_STORE_TABLE_INTERNAL_H

#include <lmdb.h>

#include "trilith/table.h"

raft_group table_group(const struct table *table); /* any thread */

/* Leaf pages as of the last flush. Owner's thread, no flush running. */
uint64_t table_leaf_pages(const struct table *table);

/* The table a reader was made for. */
struct table *table_reader_table(const struct table_reader *reader);

/* Readers that exist, begun or not. Any thread; once nobody can make another one, 0 stays. */
uint32_t table_readers_count(const struct table *table);

/* Items of the table, the state row not counted. Inside begin/end. */
TL_MUST_CHECK enum tl_err table_items_count(struct table_reader *reader, uint64_t *out_count,
                                            struct tl_fault *out_fault);

/* The state row as the reader's transaction has it. conf is copied to out_conf
 * (GROUP_STATE_CONF_BYTES_MAX). Inside begin/end. */
TL_MUST_CHECK enum tl_err table_reader_state(struct table_reader *reader,
                                             struct group_state *out_state, uint8_t *out_conf,
                                             uint32_t *out_conf_bytes, struct tl_fault *out_fault);

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
    bool is_there; /* false: behind the last key */
    struct bytes env_key;
    struct bytes value;
};

/* Opens a cursor at the first key >= start. On TL_OK it must be closed. */
TL_MUST_CHECK enum tl_err table_cursor_open(struct table_cursor *cursor,
                                            struct table_reader *reader, struct bytes start,
                                            struct tl_fault *out_fault);
TL_MUST_CHECK enum tl_err table_cursor_next(struct table_cursor *cursor,
                                            struct tl_fault *out_fault);
void table_cursor_close(struct table_cursor *cursor);

#endif
