/* mem_data_dir.c - data_dir.h over the simulated disks. */

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
                              raft_index *out_index)
{
    if (!dir->disk->is_diverged) return TL_ERR_NOT_FOUND;
    *out_group = dir->disk->diverged_group;
    *out_index = dir->disk->diverged_index;
    return TL_OK;
}

uint64_t data_dir_free_bytes(const struct data_dir *dir)
{
    (void)dir; /* a full disk is not simulated */
    return 1ull << 40;
}
