/* scan.h - the rows of a range of keys, a page at a time, from one view.
 *
 * Role:       What GET /v1/kv means by prefix, start, end, after and reverse; where a page ends and
 *             where the next one goes on. Knows rows, not how they are shown.
 * Thread:     as view_walk().
 * Blocking:   a page may fault pages of the table in; is_time_up bounds how many.
 * Ownership:  all ranges are borrowed; rows are borrowed until on_row returns.
 */

#ifndef TL_SCAN_H
#define TL_SCAN_H

#include "trilith/view.h"

/* Keys of users, each of at most KEY_BYTES_MAX bytes; empty: no such bound. */
struct scan_range {
    struct bytes prefix;
    struct bytes start; /* first key wanted */
    struct bytes end;   /* first key not wanted any more */
    struct bytes after; /* in the scan's order: the last key of the page before */
    bool is_reverse;
};

struct scan_page {
    struct scan_range range;
    uint32_t rows_max;  /* >= 1 */
    size_t bytes_max;   /* of keys and values; a page has one row at least, whatever its size */
    bool has_no_values; /* they are neither checked nor counted */
    /* NULL: rows are only counted. */
    void (*on_row)(void *context, struct bytes key, const struct row_header *header,
                   struct bytes value);
    /* Asked now and then, after some progress; true ends the page. NULL: there is time. */
    bool (*is_time_up)(void *context);
    void *context;
    /* Set by scan_run(). */
    uint64_t rows_count;
    bool is_cut;  /* the time was up */
    bool is_last; /* there is nothing behind it; else `after` of the next page is: */
    uint8_t next[KEY_BYTES_MAX];
    size_t next_bytes;
};

/* Whether the range is all keys there are, but for its direction. */
bool scan_range_is_all(const struct scan_range *range);

/* Reads a page, between view_begin() and view_end(). Errors as view_walk(); then some rows may have
 * been given out. */
TL_MUST_CHECK enum tl_err scan_run(struct view_reader *reader, struct scan_page *page,
                                   struct tl_fault *out_fault);

#endif
