/* mem_disk.c - the registry of simulated disks. */

#include "mem_disk.h"

#include <stdio.h>
#include <stdlib.h>

#include "trilith/prng.h"

struct mem_disk_hooks mem_disk_hooks;

static struct mem_disk *disks[MEM_DISKS_MAX];
static uint32_t disks_count;
static struct prng store_ids;

static void log_clear(struct mem_log *log)
{
    for (raft_index i = 0; i < log->last; i++) buf_release(log->entries[i]);
    buf_release(log->base_conf);
    buf_release(log->damaged);
    free(log->entries);
}

void mem_disks_reset(uint64_t seed)
{
    for (uint32_t i = 0; i < disks_count; i++) {
        struct mem_disk *disk = disks[i];
        for (uint32_t g = 0; g < MEM_DISK_GROUPS_MAX; g++) log_clear(&disk->logs[g]);
        for (uint32_t t = 0; t < disk->tables_count; t++) {
            mem_table_version_release(disk->tables[t].current);
        }
        free(disk);
    }
    disks_count = 0;
    mem_disk_hooks = (struct mem_disk_hooks){0};
    mem_table_stops_half_way = false;
    prng_init(&store_ids, seed);
}

static struct mem_disk *disk_create(const char *path)
{
    TL_ASSERT(disks_count < MEM_DISKS_MAX);
    struct mem_disk *disk = calloc(1, sizeof *disk);
    TL_ASSERT(disk != NULL);
    TL_ASSERT(strlen(path) < sizeof disk->path);
    (void)snprintf(disk->path, sizeof disk->path, "%s", path);
    do {
        for (size_t i = 0; i < sizeof disk->store_id.bytes; i++) {
            disk->store_id.bytes[i] = (uint8_t)prng_below(&store_ids, 256);
        }
    } while (store_id_raft(&disk->store_id) == RAFT_ID_NONE);
    disks[disks_count++] = disk;
    return disk;
}

struct mem_disk *mem_disk_at(const char *path)
{
    for (uint32_t i = 0; i < disks_count; i++) {
        size_t count = strlen(disks[i]->path);
        if (strncmp(path, disks[i]->path, count) == 0 &&
            (path[count] == '\0' || path[count] == '/')) {
            return disks[i];
        }
    }
    return disk_create(path);
}

void mem_disk_retire(struct mem_disk *disk)
{
    TL_ASSERT(!disk->is_locked);
    (void)snprintf(disk->path, sizeof disk->path, "(retired)");
}

static void log_copy(struct mem_log *copy, const struct mem_log *log)
{
    *copy = *log;
    if (log->base_conf != NULL) copy->base_conf = buf_acquire(log->base_conf);
    copy->damaged = NULL;
    copy->entries_capacity = log->last;
    copy->entries = calloc(TL_MAX(log->last, 1u), sizeof(struct buf *));
    TL_ASSERT(copy->entries != NULL);
    for (raft_index i = 0; i < log->last; i++) {
        if (log->entries[i] != NULL) copy->entries[i] = buf_acquire(log->entries[i]);
    }
}

bool mem_disks_are_full(void)
{
    return disks_count > MEM_DISKS_MAX / 2;
}

struct mem_disk *mem_disk_copy(const struct mem_disk *disk)
{
    struct mem_disk *copy = disk_create("(copy)");
    *copy = *disk;
    (void)snprintf(copy->path, sizeof copy->path, "(copy)");
    copy->is_locked = copy->is_cut_off = false;
    for (uint32_t g = 0; g < MEM_DISK_GROUPS_MAX; g++) log_copy(&copy->logs[g], &disk->logs[g]);
    for (uint32_t t = 0; t < disk->tables_count; t++) {
        if (copy->tables[t].current != NULL) copy->tables[t].current->refs_count++;
    }
    copy->truncations_count = copy->deletions_count = copy->flushes_count = 0;
    copy->installs_count = 0;
    return copy;
}

void mem_disk_replace(struct mem_disk *disk, struct mem_disk *copy)
{
    (void)snprintf(copy->path, sizeof copy->path, "%s", disk->path);
    mem_disk_retire(disk);
}

struct mem_table *mem_disk_find_table(struct mem_disk *disk, const char *path)
{
    for (uint32_t i = 0; i < disk->tables_count; i++) {
        if (strcmp(disk->tables[i].path, path) == 0) return &disk->tables[i];
    }
    return NULL;
}

struct mem_table *mem_disk_table(struct mem_disk *disk, const char *path)
{
    struct mem_table *table = mem_disk_find_table(disk, path);
    if (table != NULL) return table;
    table = mem_disk_find_table(disk, ""); /* of one that was deleted */
    if (table == NULL) {
        TL_ASSERT(disk->tables_count < MEM_DISK_TABLES_MAX);
        table = &disk->tables[disk->tables_count++];
    }
    TL_ASSERT(strlen(path) < sizeof table->path);
    (void)snprintf(table->path, sizeof table->path, "%s", path);
    return table;
}

enum tl_err mem_disk_damaged(struct mem_disk *disk, raft_group group, raft_index index,
                             const char *reason, struct tl_fault *out_fault)
{
    disk->is_damage_given = disk->is_damage_found = true;
    tl_fault_set(out_fault, disk->path, group, index, "%s", reason);
    if (mem_disk_hooks.on_damage_found != NULL) {
        mem_disk_hooks.on_damage_found(mem_disk_hooks.context, disk);
    }
    return TL_ERR_CORRUPT;
}

static bool table_has_damage(const struct mem_table *table)
{
    const struct mem_table_version *version = table->current;
    for (size_t i = 0; version != NULL && i < version->items_count; i++) {
        if (version->items[i].is_damaged) return true;
    }
    return false;
}

bool mem_disk_has_damage(const struct mem_disk *disk)
{
    for (uint32_t g = 0; g < MEM_DISK_GROUPS_MAX; g++) {
        if (disk->logs[g].damaged != NULL || disk->logs[g].is_head_damaged) return true;
    }
    for (uint32_t i = 0; i < disk->tables_count; i++) {
        if (table_has_damage(&disk->tables[i])) return true;
    }
    return disk->is_altered || disk->is_damage_found;
}

static uint64_t table_bytes(const struct mem_table *table)
{
    uint64_t bytes = 0;
    const struct mem_table_version *version = table->current;
    for (size_t i = 0; version != NULL && i < version->items_count; i++) {
        bytes += version->items[i].key->count + version->items[i].value->count;
    }
    return bytes;
}

static uint64_t used_bytes(const struct mem_disk *disk)
{
    uint64_t bytes = 0;
    for (uint32_t g = 0; g < MEM_DISK_GROUPS_MAX; g++) bytes += disk->logs[g].used_bytes;
    for (uint32_t i = 0; i < disk->tables_count; i++) bytes += table_bytes(&disk->tables[i]);
    return bytes;
}

void mem_disk_fill(struct mem_disk *disk, uint64_t left_bytes)
{
    disk->file_bytes = used_bytes(disk);
    disk->size_bytes = disk->file_bytes + left_bytes;
}

uint64_t mem_disk_free_bytes(struct mem_disk *disk)
{
    if (disk->size_bytes == 0) return 1ull << 40;
    disk->file_bytes = TL_MIN(TL_MAX(disk->file_bytes, used_bytes(disk)), disk->size_bytes);
    return disk->size_bytes - disk->file_bytes;
}

bool mem_disk_takes(struct mem_disk *disk, uint64_t bytes)
{
    if (disk->size_bytes == 0) return true;
    return used_bytes(disk) + bytes <= disk->size_bytes;
}

enum tl_err mem_disk_may_write(const struct mem_disk *disk, struct tl_fault *fault)
{
    if (!disk->is_cut_off) return TL_OK;
    tl_fault_set(fault, disk->path, UINT32_MAX, 0, "the disk is cut off");
    return TL_ERR_IO;
}
