/* spool.c - a temporary file: made, unlinked, written in one go.
 *
 * It is never flushed, because nothing depends on it after a crash. But it is written out as it
 * grows: hundreds of megabytes of dirty pages would be written by the kernel at a moment of its
 * own, all at once, and every flush of the log on the same disk would wait behind them.
 */

#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lmdb_env.h"

#define SPOOL_NAME "spool.tmp" /* between open and unlink; a crash there leaves an empty file */
#define FILE_MODE 0600

struct spool {
    int fd;
    uint64_t bytes;
    struct writeout writeout;
    char path[PATH_MAX];
};

static enum tl_err fail(const struct spool *spool, const char *call, int error,
                        struct tl_fault *fault)
{
    tl_fault_set(fault, spool->path, UINT32_MAX, 0, "%s: %s", call, strerror(error));
    return error == ENOSPC || error == EDQUOT ? TL_ERR_NO_SPACE : TL_ERR_IO;
}

static enum tl_err open_unlinked(struct spool *spool, const char *dir, struct tl_fault *fault)
{
    int count = snprintf(spool->path, sizeof spool->path, "%s/%s", dir, SPOOL_NAME);
    if (count < 0 || (size_t)count >= sizeof spool->path) {
        tl_fault_set(fault, dir, UINT32_MAX, 0, "the path is too long");
        return TL_ERR_IO;
    }
    spool->fd = open(spool->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (spool->fd < 0) {
        return fail(spool, "open", errno, fault);
    }
    return unlink(spool->path) == 0 ? TL_OK : fail(spool, "unlink", errno, fault);
}

enum tl_err spool_create(const char *dir, struct spool **out_spool, struct tl_fault *out_fault)
{
    struct spool *spool = calloc(1, sizeof *spool);
    TL_ASSERT(spool != NULL);
    spool->fd = -1;
    enum tl_err err = open_unlinked(spool, dir, out_fault);
    if (err != TL_OK) {
        spool_destroy(spool);
        return err;
    }
    *out_spool = spool;
    return TL_OK;
}

void spool_destroy(struct spool *spool)
{
    if (spool == NULL) {
        return;
    }
    if (spool->fd >= 0) (void)close(spool->fd); /* nobody will read it again */
    free(spool);
}

enum tl_err spool_append(struct spool *spool, struct bytes source, struct tl_fault *out_fault)
{
    size_t done = 0;
    while (done < source.count) {
        ssize_t count = pwrite(spool->fd, source.data + done, source.count - done,
                               (off_t)(spool->bytes + done));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return fail(spool, "pwrite", count < 0 ? errno : ENOSPC, out_fault);
        }
        done += (size_t)count;
    }
    spool->bytes += source.count;
    int error = writeout_step(&spool->writeout, spool->fd, source.count);
    return error == 0 ? TL_OK : fail(spool, "write-back", error, out_fault);
}

enum tl_err spool_read(struct spool *spool, uint64_t offset, uint8_t *out_bytes, size_t count,
                       struct tl_fault *out_fault)
{
    TL_ASSERT(offset + count <= spool->bytes);
    size_t done = 0;
    while (done < count) {
        ssize_t now = pread(spool->fd, out_bytes + done, count - done, (off_t)(offset + done));
        if (now < 0 && errno == EINTR) {
            continue;
        }
        if (now <= 0) {
            return fail(spool, "pread", now < 0 ? errno : EIO, out_fault);
        }
        done += (size_t)now;
    }
    return TL_OK;
}
