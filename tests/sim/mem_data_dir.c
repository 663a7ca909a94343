/* mem_data_dir.c - data_dir.h over the simulated disks. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "mem_disk.h"

struct data_dir {
    struct mem_disk *disk;
    bool is_new;
    char path[64];
};

enum tl_err data_dir_open(const char *path, const char *address, bool allow_any_fs,
                          struct data_dir **out_dir, struct tl_fault *out_fault)
{
    (void)allow_any_fs; /* a simulated flush always means something */
    struct mem_disk *disk = mem_disk_at(path);
    if (disk->is_locked) {
        tl_fault_set(out_fault, path, UINT32_MAX, 0, "locked by another process");
        return TL_ERR_IN_USE;
    }
    if (disk->has_identity && strcmp(disk->address, address) != 0) {
        tl_fault_set(out_fault, path, UINT32_MAX, 0, "made by %s", disk->address);
        return TL_ERR_FOREIGN;
    }
    struct data_dir *dir = calloc(1, sizeof *dir);
    TL_ASSERT(dir != NULL);
    dir->disk = disk;
    dir->is_new = !disk->has_identity;
    (void)snprintf(dir->path, sizeof dir->path, "%s", path);
    (void)snprintf(disk->address, sizeof disk->address, "%s", address);
    disk->has_identity = true;
    disk->is_locked = true;
    disk->is_cut_off = false;
    if (disk->is_alteration_gone) disk->is_altered = false;
    disk->is_damage_given = disk->is_damage_found = false;
    *out_dir = dir;
    return TL_OK;
}

void data_dir_close(struct data_dir *dir)
{
    if (dir == NULL) return;
    TL_ASSERT(dir->disk->is_locked);
    dir->disk->is_locked = false;
    free(dir);
}

const struct store_id *data_dir_store_id(const struct data_dir *dir)
{
    return &dir->disk->store_id;
}

bool data_dir_is_new(const struct data_dir *dir)
{
    return dir->is_new;
}

uint32_t data_dir_unknown_fs(const struct data_dir *dir)
{
    (void)dir;
    return 0;
}

const char *data_dir_path(const struct data_dir *dir)
{
    return dir->path;
}

enum tl_err data_dir_sub(const struct data_dir *dir, const char *name, char *out_path,
                         size_t path_bytes, struct tl_fault *out_fault)
{
    int count = snprintf(out_path, path_bytes, "%s/%s", dir->path, name);
    if (count < 0 || (size_t)count >= path_bytes) {
        tl_fault_set(out_fault, dir->path, UINT32_MAX, 0, "path too long");
        return TL_ERR_IO;
    }
    return TL_OK;
}

enum tl_err data_dir_mark_diverged(const struct data_dir *dir, raft_group group, raft_index index,
                                   struct tl_fault *out_fault)
{
    (void)out_fault;
    dir->disk->is_diverged = true;
    dir->disk->diverged_group = group;
    dir->disk->diverged_index = index;
    return TL_OK;
}

enum tl_err data_dir_diverged(const struct data_dir *dir, raft_group *out_group,
                              raft_index *out_index, struct tl_fault *out_fault)
{
    (void)out_fault;
    if (!dir->disk->is_diverged) return TL_ERR_NOT_FOUND;
    *out_group = dir->disk->diverged_group;
    *out_index = dir->disk->diverged_index;
    return TL_OK;
}

enum tl_err data_dir_mark_refused(const struct data_dir *dir, struct tl_fault *out_fault)
{
    enum tl_err err = mem_disk_may_write(dir->disk, out_fault);
    if (err == TL_OK) dir->disk->is_refused = true;
    return err;
}

enum tl_err data_dir_refused(const struct data_dir *dir, struct tl_fault *out_fault)
{
    (void)out_fault;
    return dir->disk->is_refused ? TL_OK : TL_ERR_NOT_FOUND;
}

const char *data_dir_address(const struct data_dir *dir)
{
    return dir->disk->address;
}

enum tl_err data_dir_open_to_inspect(const char *path, struct data_dir **out_dir,
                                     struct tl_fault *out_fault)
{
    const struct mem_disk *disk = mem_disk_at(path);
    if (!disk->has_identity) return TL_ERR_FOREIGN;
    return data_dir_open(path, disk->address, true, out_dir, out_fault);
}

enum tl_err data_dir_table_path(const struct data_dir *dir, struct data_dir_table table,
                                char *out_path, size_t path_bytes, struct tl_fault *out_fault)
{
    char name[64];
    (void)snprintf(name, sizeof name, "kv.%" PRIu32 ".%" PRIu64, table.group, table.number);
    return data_dir_sub(dir, name, out_path, path_bytes, out_fault);
}

enum tl_err data_dir_table_make(const struct data_dir *dir, struct data_dir_table table,
                                char *out_path, size_t path_bytes, struct tl_fault *out_fault)
{
    enum tl_err err = mem_disk_may_write(dir->disk, out_fault);
    if (err == TL_OK) err = data_dir_table_path(dir, table, out_path, path_bytes, out_fault);
    if (err == TL_OK) (void)mem_disk_table(dir->disk, out_path);
    return err;
}

static bool parse_table(const struct data_dir *dir, const char *path,
                        struct data_dir_table *out_table)
{
    size_t count = strlen(dir->path);
    return strncmp(path, dir->path, count) == 0 &&
           sscanf(path + count, "/kv.%" SCNu32 ".%" SCNu64, &out_table->group,
                  &out_table->number) == 2;
}

enum tl_err data_dir_tables(const struct data_dir *dir, struct data_dir_table *out_tables,
                            uint32_t tables_max, uint32_t *out_count, struct tl_fault *out_fault)
{
    (void)out_fault;
    uint32_t count = 0;
    for (uint32_t i = 0; i < dir->disk->tables_count; i++) {
        struct data_dir_table table;
        if (!parse_table(dir, dir->disk->tables[i].path, &table)) continue;
        if (count < tables_max) out_tables[count] = table;
        count++;
    }
    *out_count = count;
    return TL_OK;
}

static bool is_listed(struct data_dir_table table, const struct data_dir_table *tables,
                      uint32_t tables_count)
{
    for (uint32_t i = 0; i < tables_count; i++) {
        if (tables[i].group == table.group && tables[i].number == table.number) return true;
    }
    return false;
}

enum tl_err data_dir_keep_tables(const struct data_dir *dir, const struct data_dir_table *tables,
                                 uint32_t tables_count, uint32_t *out_deleted_count,
                                 struct tl_fault *out_fault)
{
    enum tl_err err = TL_OK;
    *out_deleted_count = 0;
    for (uint32_t i = 0; i < dir->disk->tables_count && err == TL_OK; i++) {
        const char *path = dir->disk->tables[i].path;
        struct data_dir_table table;
        if (!parse_table(dir, path, &table) || is_listed(table, tables, tables_count)) continue;
        err = table_delete(path, out_fault);
        (*out_deleted_count)++;
    }
    return err;
}

uint64_t data_dir_free_bytes(const struct data_dir *dir)
{
    if (mem_disk_hooks.mutation == MEM_MUTATION_FREE_BYTES_UNSEEN) return 1ull << 40;
    return mem_disk_free_bytes(dir->disk);
}
