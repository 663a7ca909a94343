/* mem_log_store.c - log_store.h over the simulated disks. */

#include <stdlib.h>

#include "mem_disk.h"
#include "trilith/crash_point.h"

struct log_store {
    struct mem_disk *disk;
    uint64_t retain_bytes;
};

struct log_reader {
    struct log_store *store;
    struct hash128 previous_hash;
};

struct buf *mem_log_entry(const struct mem_log *log, raft_index index)
{
    if (index <= log->base.index || index > log->last) return NULL;
    return log->entries[index - 1];
}

struct buf *mem_log_record(struct mem_disk *disk, const struct mem_log *log, raft_index index)
{
    TL_ASSERT(index > log->base.index);
    TL_ASSERT(index <= log->last);
    if (log->damaged == NULL || log->damaged_index != index) return log->entries[index - 1];
    disk->is_damage_given = true;
    return log->damaged;
}

/* The damaged record is not there any more. */
static void forget_damage(struct mem_log *log, raft_index index)
{
    if (log->damaged_index == index) buf_release(TL_TAKE(&log->damaged));
}

static bool is_conf(const struct buf *entry)
{
    return entry_type_of(entry) == ENTRY_GENESIS || entry_type_of(entry) == ENTRY_CONF;
}

static void find_conf(struct mem_log *log)
{
    log->conf_index = log->last;
    while (log->conf_index > log->base.index && !is_conf(log->entries[log->conf_index - 1])) {
        log->conf_index--;
    }
    if (log->conf_index == log->base.index) log->conf_index = 0;
}

struct bytes mem_log_conf(const struct mem_log *log)
{
    if (log->conf_index > log->base.index) return entry_payload(log->entries[log->conf_index - 1]);
    return log->base_conf != NULL ? buf_bytes(log->base_conf) : bytes_make(NULL, 0);
}

static void log_truncate(struct mem_disk *disk, struct mem_log *log, raft_index from)
{
    TL_ASSERT(from > log->base.index);
    for (raft_index i = from; i <= log->last; i++) {
        log->used_bytes -= log->entries[i - 1]->count;
        buf_release(TL_TAKE(&log->entries[i - 1]));
        forget_damage(log, i);
        if (i == disk->altered_index && log == &disk->logs[1]) disk->is_alteration_gone = true;
        disk->truncations_count++;
    }
    if (from <= log->last) log->last = from - 1;
    if (log->conf_index >= from) find_conf(log);
}

static struct hash128 last_hash(const struct mem_log *log)
{
    if (log->last == log->base.index) return log->base.hash;
    return entry_hash(log->entries[log->last - 1]);
}

/* Room for entry `index`. */
static void log_reserve(struct mem_log *log, raft_index index)
{
    size_t capacity = TL_MAX(log->entries_capacity, 256);
    while (capacity < index) capacity *= 2;
    if (capacity == log->entries_capacity) return;
    log->entries = realloc(log->entries, capacity * sizeof(struct buf *));
    TL_ASSERT(log->entries != NULL);
    memset(log->entries + log->entries_capacity, 0,
           (capacity - log->entries_capacity) * sizeof(struct buf *));
    log->entries_capacity = capacity;
}

/* A copy: a later change of the bytes in memory must not reach the disk. */
static void log_append(struct mem_log *log, const struct buf *entry)
{
    TL_ASSERT(entry_index(entry) == log->last + 1);
    TL_ASSERT(entry_hash_is_right(buf_bytes(entry), last_hash(log)));
    log_reserve(log, log->last + 1);
    log->entries[log->last++] = buf_copy(buf_bytes(entry));
    if (is_conf(entry)) log->conf_index = log->last;
    log->used_bytes += entry->count;
}

/* Deletes the oldest entry: it becomes the base. */
static void log_delete_first(struct mem_log *log)
{
    struct buf *entry = log->entries[log->base.index];
    log->used_bytes -= entry->count;
    if (is_conf(entry)) {
        buf_release(log->base_conf);
        log->base_conf = buf_copy(entry_payload(entry));
        log->base_conf_index = entry_index(entry);
    }
    log->base = (struct raft_base){
        .index = entry_index(entry),
        .term = entry_term(entry),
        .hash = entry_hash(entry),
        .time_us = entry_time_us(entry),
    };
    log->entries[log->base.index - 1] = NULL;
    forget_damage(log, log->base.index);
    buf_release(entry);
}

static void log_retain(struct mem_disk *disk, struct mem_log *log, struct log_op *op,
                       uint64_t retain_bytes)
{
    raft_index limit = TL_MIN(op->deletable, log->last);
    if (mem_disk_hooks.retain_floor != NULL) {
        limit = TL_MIN(limit, mem_disk_hooks.retain_floor(mem_disk_hooks.context, op->group));
    }
    uint32_t left = op->entries_count + LOG_DELETE_EXTRA;
    while (left-- > 0 && log->base.index < limit) {
        bool is_needed = op->keep_from > 0 && log->base.index + 1 >= op->keep_from;
        uint64_t kept_bytes = is_needed ? LOG_RETAIN_TRANSFER_FACTOR * retain_bytes : retain_bytes;
        if (log->used_bytes <= kept_bytes) break;
        log_delete_first(log);
        disk->deletions_count++;
        op->out_has_base = true;
        op->out_base = log->base;
    }
}

static void log_install(struct mem_disk *disk, struct mem_log *log, struct log_op *op)
{
    const struct log_install *install = op->install;
    raft_index index = install->base.index;
    TL_ASSERT(op->truncate_from == 0);
    TL_ASSERT(op->entries_count == 0);
    TL_ASSERT(index > log->base.index);
    TL_ASSERT(index > log->hard_state.commit);
    TL_ASSERT(install->table_number > log->table_number);
    raft_index last = log->last;
    if (install->keeps_suffix) {
        TL_ASSERT(hash_equal(entry_hash(mem_log_entry(log, index)), install->base.hash));
        last = index;
    }
    for (raft_index i = log->base.index + 1; i <= last; i++) {
        log->used_bytes -= log->entries[i - 1]->count;
        buf_release(TL_TAKE(&log->entries[i - 1]));
        forget_damage(log, i);
    }
    log->is_head_damaged = false;
    if (log == &disk->logs[1]) disk->is_alteration_gone = true;
    log_reserve(log, index);
    if (!install->keeps_suffix) log->last = index;
    log->base = install->base;
    buf_release(log->base_conf);
    log->base_conf = buf_copy(install->conf);
    log->base_conf_index = index;
    find_conf(log);
    log->table_number = install->table_number;
    log->hard_state.commit = TL_MAX(log->hard_state.commit, index);
    op->out_has_base = true;
    op->out_base = log->base;
    disk->installs_count++;
}

void mem_log_apply(struct mem_disk *disk, struct log_op *op, uint64_t retain_bytes)
{
    TL_ASSERT(op->group < MEM_DISK_GROUPS_MAX);
    if (mem_disk_hooks.on_log_op != NULL) {
        mem_disk_hooks.on_log_op(mem_disk_hooks.context, disk, op);
    }
    struct mem_log *log = &disk->logs[op->group];
    log->exists = true;
    if (op->truncate_from != 0) log_truncate(disk, log, op->truncate_from);
    for (uint32_t i = 0; i < op->entries_count; i++) log_append(log, op->entries[i]);
    if (op->hard_state != NULL) log->hard_state = *op->hard_state;
    op->out_has_base = false;
    if (op->install != NULL) log_install(disk, log, op);
    TL_ASSERT(log->hard_state.commit <= log->last);
    log_retain(disk, log, op, retain_bytes);
}

enum tl_err log_store_open(const struct log_store_options *options, struct log_store **out_store,
                           struct tl_fault *out_fault)
{
    (void)out_fault;
    struct log_store *store = calloc(1, sizeof *store);
    TL_ASSERT(store != NULL);
    store->disk = mem_disk_at(options->dir);
    store->retain_bytes = options->retain_bytes;
    *out_store = store;
    return TL_OK;
}

void log_store_close(struct log_store *store)
{
    free(store);
}

/* A record behind a hash that is right, or not asked for. */
static enum tl_err check_record(struct mem_disk *disk, raft_group group, raft_index index,
                                const struct hash128 *previous_hash, struct hash128 *out_hash,
                                struct tl_fault *fault)
{
    struct bytes record = buf_bytes(mem_log_record(disk, &disk->logs[group], index));
    struct entry_header header;
    if (entry_decode(record, &header) != TL_OK) {
        return mem_disk_damaged(disk, group, index, "a log record is not an entry", fault);
    }
    if (header.group != group || header.index != index) {
        return mem_disk_damaged(disk, group, index, "a log record is another entry", fault);
    }
    if (previous_hash != NULL && !entry_hash_is_right(record, *previous_hash)) {
        return mem_disk_damaged(disk, group, index, "a log record fails its chain hash", fault);
    }
    *out_hash = header.hash;
    return TL_OK;
}

/* The hash in front of `index`, as the record before it says. */
static enum tl_err previous_hash(struct mem_disk *disk, raft_group group, raft_index index,
                                 struct hash128 *out_hash, struct tl_fault *fault)
{
    const struct mem_log *log = &disk->logs[group];
    *out_hash = log->base.hash;
    if (index == log->base.index + 1) return TL_OK;
    return check_record(disk, group, index - 1, NULL, out_hash, fault);
}

/* What opening a log looks at: hard state and base, the last record, and the last configuration. */
static enum tl_err check_ends(struct mem_disk *disk, const struct mem_log *log, raft_group group,
                              struct tl_fault *fault)
{
    struct hash128 hash;
    if (log->is_head_damaged) {
        return mem_disk_damaged(disk, group, 0, "the hard state fails its checksum", fault);
    }
    if (log->last == log->base.index) return TL_OK;
    enum tl_err err = previous_hash(disk, group, log->last, &hash, fault);
    if (err == TL_OK) err = check_record(disk, group, log->last, &hash, &hash, fault);
    bool has_conf = log->conf_index > log->base.index;
    if (err != TL_OK || !has_conf) return err;
    err = check_record(disk, group, log->conf_index, NULL, &hash, fault);
    if (err != TL_OK) return err;
    const struct buf *record = mem_log_record(disk, log, log->conf_index);
    if (bytes_equal(entry_payload(record), mem_log_conf(log))) return TL_OK;
    return mem_disk_damaged(disk, group, log->conf_index,
                            "a configuration differs from its entry in the log", fault);
}

enum tl_err log_store_recover(struct log_store *store, raft_group group,
                              struct log_group_info *out_info, struct tl_fault *out_fault)
{
    *out_info = (struct log_group_info){0};
    if (group >= MEM_DISK_GROUPS_MAX || !store->disk->logs[group].exists) return TL_OK;
    struct mem_log *log = &store->disk->logs[group];
    if (mem_disk_hooks.mutation == MEM_MUTATION_CUT_DAMAGE && log->damaged != NULL) {
        log_truncate(store->disk, log, log->damaged_index);
        log->hard_state.commit = TL_MIN(log->hard_state.commit, log->last);
    }
    enum tl_err err = check_ends(store->disk, log, group, out_fault);
    if (err != TL_OK) return err;
    out_info->exists = true;
    out_info->hard_state = log->hard_state;
    out_info->base = log->base;
    out_info->last_index = log->last;
    out_info->table_number = log->table_number;
    for (raft_index i = log->last; i > log->base.index; i--) {
        if (!is_conf(log->entries[i - 1])) continue;
        out_info->conf = buf_copy(entry_payload(log->entries[i - 1]));
        out_info->conf_index = i;
        return TL_OK;
    }
    if (log->base_conf != NULL) {
        out_info->conf = buf_copy(buf_bytes(log->base_conf));
        out_info->conf_index = log->base_conf_index;
    }
    return TL_OK;
}

static bool op_has_conf(const struct log_op *op)
{
    for (uint32_t i = 0; i < op->entries_count; i++) {
        if (is_conf(op->entries[i])) return true;
    }
    return false;
}

enum tl_err log_store_commit(struct log_store *store, struct log_op *ops, uint32_t ops_count,
                             struct tl_fault *out_fault)
{
    bool has_install = false;
    bool has_conf = false;
    for (uint32_t i = 0; i < ops_count; i++) {
        has_install = has_install || ops[i].install != NULL;
        has_conf = has_conf || op_has_conf(&ops[i]);
    }
    if (has_install) CRASH_POINT("switch-before-commit");
    if (has_conf) CRASH_POINT("conf-before-commit");
    enum tl_err err = mem_disk_may_write(store->disk, out_fault);
    if (err != TL_OK) return err;
    for (uint32_t i = 0; i < ops_count; i++) {
        mem_log_apply(store->disk, &ops[i], store->retain_bytes);
    }
    if (has_install) CRASH_POINT("switch-after-commit");
    if (has_conf) CRASH_POINT("conf-after-commit");
    return TL_OK;
}

uint32_t log_store_groups(const struct log_store *store,
                          raft_group out_groups[LOG_STORE_GROUPS_MAX])
{
    uint32_t count = 0;
    for (raft_group g = 0; g < MEM_DISK_GROUPS_MAX; g++) {
        if (store->disk->logs[g].exists) out_groups[count++] = g;
    }
    return count;
}

uint64_t log_store_used_bytes(const struct log_store *store)
{
    uint64_t sum = store->disk->log_map_bytes;
    for (uint32_t g = 0; g < MEM_DISK_GROUPS_MAX; g++) sum += store->disk->logs[g].used_bytes;
    return sum;
}

enum tl_err log_reader_create(struct log_store *store, struct log_reader **out_reader)
{
    struct log_reader *reader = calloc(1, sizeof *reader);
    TL_ASSERT(reader != NULL);
    reader->store = store;
    *out_reader = reader;
    return TL_OK;
}

void log_reader_destroy(struct log_reader *reader)
{
    free(reader);
}

enum tl_err log_reader_read(struct log_reader *reader, raft_group group, raft_index first,
                            raft_index last, uint32_t entries_max, size_t bytes_max,
                            struct buf **out_entries, uint32_t *out_count,
                            struct tl_fault *out_fault)
{
    TL_ASSERT(group < MEM_DISK_GROUPS_MAX);
    TL_ASSERT(first > 0);
    struct mem_disk *disk = reader->store->disk;
    const struct mem_log *log = &disk->logs[group];
    *out_count = 0;
    if (first <= log->base.index) return TL_ERR_COMPACTED;
    if (first > log->last) return TL_OK;
    uint32_t count = 0;
    size_t bytes = 0;
    struct hash128 hash;
    enum tl_err err = previous_hash(disk, group, first, &hash, out_fault);
    reader->previous_hash = hash;
    for (raft_index i = first; i <= TL_MIN(last, log->last) && count < entries_max; i++) {
        const struct buf *record = mem_log_record(disk, log, i);
        if (err != TL_OK || (count > 0 && bytes + record->count > bytes_max)) break;
        bytes += record->count;
        bool is_unchecked = mem_disk_hooks.mutation == MEM_MUTATION_READ_UNCHECKED;
        if (!is_unchecked) err = check_record(disk, group, i, &hash, &hash, out_fault);
        if (err == TL_OK) out_entries[count++] = buf_copy(buf_bytes(record));
    }
    if (err == TL_OK) *out_count = count;
    for (uint32_t i = 0; err != TL_OK && i < count; i++) buf_release(TL_TAKE(&out_entries[i]));
    return err;
}

struct hash128 log_reader_previous_hash(const struct log_reader *reader)
{
    return reader->previous_hash;
}

enum tl_err log_reader_verify(struct log_reader *reader, raft_group group,
                              bool (*on_progress)(void *context, raft_index index, raft_index last),
                              void *context, struct tl_fault *out_fault)
{
    TL_ASSERT(group < MEM_DISK_GROUPS_MAX);
    struct mem_disk *disk = reader->store->disk;
    const struct mem_log *log = &disk->logs[group];
    struct hash128 hash = log->base.hash;
    for (raft_index i = log->base.index + 1; i <= log->last; i++) {
        enum tl_err err = check_record(disk, group, i, &hash, &hash, out_fault);
        if (err != TL_OK) return err;
    }
    if (on_progress != NULL && log->last > log->base.index) {
        return on_progress(context, log->last, log->last) ? TL_OK : TL_ERR_CANCELED;
    }
    return TL_OK;
}
