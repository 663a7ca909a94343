/* table_delete.c - the end of a table's directory. */

#include "trilith/table.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lmdb_env.h"
#include "trilith/crash_point.h"

/* Nothing but files of LMDB and ours stands in it: a directory in there is somebody else's, and
 * unlink() refuses it. */
static int unlink_file(const char *dir, const char *name)
{
    char path[PATH_MAX];
    int count = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (count < 0 || (size_t)count >= sizeof path) {
        return ENAMETOOLONG;
    }
    return unlink(path) == 0 || errno == ENOENT ? 0 : errno;
}

static int unlink_files(const char *dir, DIR *stream)
{
    int error = 0;
    const struct dirent *entry;
    errno = 0;
    while (error == 0 && (entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            error = unlink_file(dir, entry->d_name);
            CRASH_POINT("delete-half");
        }
        if (error == 0) errno = 0;
    }
    return error != 0 ? error : errno;
}

enum tl_err table_delete(const char *dir, struct tl_fault *out_fault)
{
    CRASH_POINT("delete-before");
    DIR *stream = opendir(dir);
    if (stream == NULL) {
        return errno == ENOENT ? TL_OK
                               : lmdb_env_fail(errno, "opendir", dir, UINT32_MAX, out_fault);
    }
    int error = unlink_files(dir, stream);
    (void)closedir(stream);
    if (error == 0 && rmdir(dir) != 0 && errno != ENOENT) error = errno;
    /* Not flushed: what comes back after a power cut is deleted by the next start. */
    return error == 0 ? TL_OK
                      : lmdb_env_fail(error, "deleting a table", dir, UINT32_MAX, out_fault);
}
