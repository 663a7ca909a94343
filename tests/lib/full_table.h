/* full_table.h - tables for tests of what looks at a whole one: rows, records and their queue, with
 * a state row that says so.
 *
 * Thread:     one.
 */

#ifndef TL_TESTS_FULL_TABLE_H
#define TL_TESTS_FULL_TABLE_H

#include "trilith/table.h"

#define FULL_TABLE_GROUP 3u
#define FULL_TABLE_CONF "a configuration"

struct full_table {
    uint32_t rows_count;
    uint32_t records_count;
    size_t value_bytes; /* of every 100th row: ten times that */
    raft_index index;   /* that it stands at */
    uint64_t salt;      /* another one makes other values */
};

/* Opens the table in an existing directory, and fills it through generations when it is new. */
struct table *full_table_open(const char *dir, const struct full_table *content);

#endif
