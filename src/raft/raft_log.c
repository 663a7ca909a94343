/* raft_log.c - the newest entries of the log, in memory.
 *
 *     base.index        first            evictable          last
 *     | on disk only ... | cached ........| needed ..........|
 *
 * The ring always holds the entry at min(commit, durable), for its term and chain hash, and
 * everything above it (or the base is that entry). Below, it is a cache for peers and apply, of
 * bounded bytes: what is in memory does not grow when apply is slow.
 */

#include "raft_internal.h"

#include <stdlib.h>

_Static_assert((RAFT_LOG_RING_ENTRIES & (RAFT_LOG_RING_ENTRIES - 1)) == 0, "masked, not divided");
_Static_assert(RAFT_UNCOMMITTED_ENTRIES_MAX + RAFT_LOG_RESERVE_ENTRIES < RAFT_LOG_RING_ENTRIES,
               "a leader's tail fits");

static struct buf **slot(const struct raft_log *log, raft_index index)
{
    return &log->ring[index & (RAFT_LOG_RING_ENTRIES - 1)];
}

static void raft_log_check(const struct raft_log *log)
{
    TL_ASSERT(log->first <= log->last + 1);
    TL_ASSERT(log->last - log->first + 1 <= RAFT_LOG_RING_ENTRIES);
    TL_ASSERT(log->base.index <= log->last);
    TL_ASSERT(log->evictable + 1 >= log->first);
    TL_ASSERT(log->evictable <= log->last);
    TL_ASSERT(log->evictable_bytes <= log->bytes);
}

void raft_log_init(struct raft_log *log, const struct raft_base *base, struct buf *const *entries,
                   uint32_t entries_count, raft_index last, uint64_t cache_bytes_max)
{
    TL_ASSERT(entries_count <= RAFT_LOG_RING_ENTRIES);
    TL_ASSERT(last >= base->index);
    TL_ASSERT(last - base->index >= entries_count);
    if (last > base->index) TL_ASSERT(entries_count > 0);
    *log = (struct raft_log){
        .base = *base,
        .first = last - entries_count + 1,
        .last = last,
        .evictable = last - entries_count,
        .cache_bytes_max = cache_bytes_max,
    };
    log->ring = calloc(RAFT_LOG_RING_ENTRIES, sizeof *log->ring);
    TL_ASSERT(log->ring != NULL);
    for (uint32_t i = 0; i < entries_count; i++) {
        TL_ASSERT(entry_index(entries[i]) == log->first + i);
        if (i > 0) TL_ASSERT(entry_term(entries[i]) >= entry_term(entries[i - 1]));
        *slot(log, log->first + i) = buf_acquire(entries[i]);
        log->bytes += entries[i]->count;
    }
    raft_log_check(log);
}

void raft_log_deinit(struct raft_log *log)
{
    for (raft_index i = log->first; i <= log->last; i++) buf_release(*slot(log, i));
    free(log->ring);
    log->ring = NULL;
}

struct buf *raft_log_entry(const struct raft_log *log, raft_index index)
{
    return index >= log->first && index <= log->last ? *slot(log, index) : NULL;
}

bool raft_log_has(const struct raft_log *log, raft_index index)
{
    return index == log->base.index || (index >= log->first && index <= log->last);
}

raft_term raft_log_term(const struct raft_log *log, raft_index index)
{
    TL_ASSERT(raft_log_has(log, index));
    const struct buf *entry = raft_log_entry(log, index);
    return entry != NULL ? entry_term(entry) : log->base.term;
}

struct hash128 raft_log_hash(const struct raft_log *log, raft_index index)
{
    TL_ASSERT(raft_log_has(log, index));
    const struct buf *entry = raft_log_entry(log, index);
    return entry != NULL ? entry_hash(entry) : log->base.hash;
}

uint64_t raft_log_last_time_us(const struct raft_log *log)
{
    const struct buf *entry = raft_log_entry(log, log->last);
    return entry != NULL ? entry_time_us(entry) : log->base.time_us;
}

raft_index raft_log_room(const struct raft_log *log)
{
    raft_index needed_count = log->last - log->evictable;
    raft_index limit = RAFT_LOG_RING_ENTRIES - RAFT_LOG_RESERVE_ENTRIES;
    return needed_count < limit ? limit - needed_count : 0;
}

static void evict_first(struct raft_log *log)
{
    TL_ASSERT(log->first <= log->evictable);
    struct buf *entry = TL_TAKE(slot(log, log->first));
    TL_ASSERT(log->evictable_bytes >= entry->count);
    log->evictable_bytes -= entry->count;
    log->bytes -= entry->count;
    buf_release(entry);
    log->first++;
}

static void drop_from(struct raft_log *log, raft_index from)
{
    for (raft_index i = from; i <= log->last; i++) {
        struct buf *entry = TL_TAKE(slot(log, i));
        log->bytes -= entry->count;
        buf_release(entry);
    }
}

void raft_log_append(struct raft_log *log, struct buf *entry)
{
    raft_log_check(log);
    TL_ASSERT(entry_index(entry) == log->last + 1);
    TL_ASSERT(entry_term(entry) >= raft_log_term(log, log->last));
    if (log->last - log->first + 1 == RAFT_LOG_RING_ENTRIES) {
        evict_first(log);
    }
    log->last++;
    log->bytes += entry->count;
    *slot(log, log->last) = entry;
    raft_log_check(log);
}

void raft_log_truncate(struct raft_log *log, raft_index from)
{
    raft_log_check(log);
    TL_ASSERT(from > log->evictable);
    TL_ASSERT(from > log->base.index);
    TL_ASSERT(from >= log->first);
    drop_from(log, from);
    log->last = from - 1;
    raft_log_check(log);
}

void raft_log_install(struct raft_log *log, const struct raft_base *base, bool keeps_suffix)
{
    raft_log_check(log);
    TL_ASSERT(base->index > log->base.index);
    log->base = *base;
    if (!keeps_suffix) {
        drop_from(log, log->first);
        log->first = base->index + 1;
        log->last = base->index;
        log->evictable = base->index;
        log->evictable_bytes = 0;
    }
    raft_log_check(log);
}

void raft_log_set_evictable(struct raft_log *log, raft_index index)
{
    TL_ASSERT(index <= log->last);
    for (; log->evictable < index; log->evictable++) {
        log->evictable_bytes += raft_log_entry(log, log->evictable + 1)->count;
    }
    while (log->evictable_bytes > log->cache_bytes_max) evict_first(log);
    raft_log_check(log);
}
