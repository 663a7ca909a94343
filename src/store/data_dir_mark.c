/* data_dir_mark.c - the marks of a directory whose state is not that of the other replicas, or
 * which the cluster has refused: FORMAT.md 1. Files of their own that are only ever added: nothing
 * has to be rewritten for them. They go with the identity (data_dir.c). */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "trilith/data_dir.h"

#define NAME_DIVERGED "diverged"
#define NAME_REFUSED "refused"
#define MARK_BYTES_MAX 64u
#define FILE_MODE 0600

static enum tl_err mark_path(const struct data_dir *dir, const char *name, char out_path[PATH_MAX])
{
    int count = snprintf(out_path, PATH_MAX, "%s/%s", data_dir_path(dir), name);
    return count > 0 && count < PATH_MAX ? TL_OK : TL_ERR_IO;
}

/* Flushes and closes: 0 or an errno. */
static int flush_and_close(int fd)
{
    int error = fsync(fd) == 0 ? 0 : errno;
    if (close(fd) != 0 && error == 0) error = errno;
    return error;
}

static int flush_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? errno : flush_and_close(fd);
}

/* A file cut short by a crash is a mark too, so it needs no rename. */
static int write_file(const char *path, const char *text)
{
    size_t count = strlen(text);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        return errno;
    }
    int error = 0;
    ssize_t written = write(fd, text, count);
    if (written != (ssize_t)count) error = written < 0 ? errno : ENOSPC;
    int flush_error = flush_and_close(fd);
    return error != 0 ? error : flush_error;
}

/* 0 or an errno. */
static int add_mark(const struct data_dir *dir, const char *name, const char *text)
{
    char path[PATH_MAX];
    if (mark_path(dir, name, path) != TL_OK) {
        return ENAMETOOLONG;
    }
    int error = write_file(path, text);
    return error != 0 ? error : flush_directory(data_dir_path(dir));
}

static enum tl_err mark_error(int error)
{
    return error == ENOSPC || error == EDQUOT ? TL_ERR_NO_SPACE : TL_ERR_IO;
}

enum tl_err data_dir_mark_diverged(const struct data_dir *dir, raft_group group, raft_index index,
                                   struct tl_fault *out_fault)
{
    char text[MARK_BYTES_MAX];
    int count = snprintf(text, sizeof text, "group %" PRIu32 " index %" PRIu64 "\n", group, index);
    TL_ASSERT(count > 0);
    TL_ASSERT((size_t)count < sizeof text);
    int error = add_mark(dir, NAME_DIVERGED, text);
    if (error == 0) {
        return TL_OK;
    }
    tl_fault_set(out_fault, data_dir_path(dir), group, index, "marking the directory: %s",
                 strerror(error));
    return mark_error(error);
}

enum tl_err data_dir_mark_refused(const struct data_dir *dir, struct tl_fault *out_fault)
{
    int error = add_mark(dir, NAME_REFUSED, "an old copy\n");
    if (error == 0) {
        return TL_OK;
    }
    tl_fault_set(out_fault, data_dir_path(dir), UINT32_MAX, 0, "marking the directory: %s",
                 strerror(error));
    return mark_error(error);
}

/* TL_ERR_NOT_FOUND: there is none. TL_ERR_IO: nobody can say. */
static enum tl_err find_mark(const struct data_dir *dir, const char *name, char out_path[PATH_MAX],
                             struct tl_fault *out_fault)
{
    int error = ENAMETOOLONG;
    if (mark_path(dir, name, out_path) == TL_OK) error = access(out_path, F_OK) == 0 ? 0 : errno;
    if (error == 0 || error == ENOENT) {
        return error == 0 ? TL_OK : TL_ERR_NOT_FOUND;
    }
    tl_fault_set(out_fault, data_dir_path(dir), UINT32_MAX, 0,
                 "looking whether the directory is marked as %s: %s", name, strerror(error));
    return TL_ERR_IO;
}

enum tl_err data_dir_refused(const struct data_dir *dir, struct tl_fault *out_fault)
{
    char path[PATH_MAX];
    return find_mark(dir, NAME_REFUSED, path, out_fault);
}

enum tl_err data_dir_diverged(const struct data_dir *dir, raft_group *out_group,
                              raft_index *out_index, struct tl_fault *out_fault)
{
    char path[PATH_MAX];
    enum tl_err err = find_mark(dir, NAME_DIVERGED, path, out_fault);
    if (err != TL_OK) {
        return err;
    }
    raft_group group = 0;
    raft_index index = 0;
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "group %" SCNu32 " index %" SCNu64, &group, &index) != 2) index = 0;
        (void)fclose(file); /* was only read */
    }
    *out_group = group;
    *out_index = index;
    return TL_OK;
}
