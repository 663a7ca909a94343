/* lmdb_env.c - the checks of an LMDB data file that LMDB 0.9 does not do itself.
 *
 * Layout (lmdb 0.9, mdb.c "struct MDB_meta"; 64-bit, native byte order): pages 0 and 1 are metas.
 * Behind a page header of 16 bytes each holds magic u32, version u32, address u64, map size u64,
 * two tree records of 48 bytes (free list, main), last page number u64, transaction id u64. A tree
 * record: page size u32 (in the free list's only), flags u16, depth u16, four counters u64, root
 * page number u64. A commit writes the meta whose number is the low bit of its transaction id, so
 * the two ids are neighbours; both are 0 in a file that saw no commit. The last page number never
 * falls.
 */

#include "lmdb_env.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define META_MAGIC 0xbeefc0deu
#define META_VERSION 1u
#define META_OFFSET 16u
#define META_BYTES 136u
#define META_TREES_COUNT 2u
#define META_TREES_OFFSET 24u
#define META_TREE_BYTES 48u
#define ROOT_NONE UINT64_MAX
#define TREE_FLAGS_MASK 0x7fu /* how keys compare, duplicates; higher ones are of the env */
#define PAGE_FLAG_META 0x08u
#define PAGE_BYTES_MIN 512u
#define PAGE_BYTES_MAX 65536u
#define MAP_UNIT_BYTES 65536u /* whole pages of any machine */

_Static_assert(sizeof(size_t) == 8, "the layout of LMDB's metas is that of a 64-bit machine");

enum tl_err lmdb_env_error(int rc)
{
    TL_ASSERT(rc != MDB_SUCCESS);
    switch (rc) {
    case MDB_NOTFOUND:
        return TL_ERR_NOT_FOUND;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case MDB_READERS_FULL:
        return TL_ERR_FULL;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
        return TL_ERR_CORRUPT;
    case MDB_VERSION_MISMATCH:
        return TL_ERR_NEWER_FORMAT;
    case ENOSPC:
    case EDQUOT:
        return TL_ERR_NO_SPACE;
    case ENOMEM:
        return TL_ERR_NO_MEMORY;
    default:
        return TL_ERR_IO;
    }
}

/* Less than one write of LMDB may ask for, and more than blocks that are left over are. */
#define FREE_BYTES_NONE (1024u * 1024u)

static bool has_no_free_block(const char *path)
{
    struct statvfs status;
    return statvfs(path, &status) == 0 &&
           (uint64_t)status.f_bavail * status.f_frsize < FREE_BYTES_NONE;
}

enum tl_err lmdb_env_fail(int rc, const char *call, const char *path, uint32_t group,
                          struct tl_fault *fault)
{
    if (rc == EIO && has_no_free_block(path)) {
        tl_fault_set(fault, path, group, 0, "%s: %s, and the file system has no free block left",
                     call, mdb_strerror(rc));
        return TL_ERR_NO_SPACE;
    }
    tl_fault_set(fault, path, group, 0, "%s: %s", call, mdb_strerror(rc));
    return lmdb_env_error(rc);
}

size_t lmdb_env_map_bytes(const char *dir, size_t map_bytes, size_t headroom_bytes)
{
    char path[PATH_MAX];
    struct stat status;
    int length = snprintf(path, sizeof path, "%s/data.mdb", dir);
    bool is_there = length > 0 && (size_t)length < sizeof path && stat(path, &status) == 0;
    size_t file_bytes = is_there ? (size_t)status.st_size : 0;
    size_t bytes = TL_MAX(map_bytes, file_bytes) + headroom_bytes;
    return (bytes + MAP_UNIT_BYTES - 1) & ~(size_t)(MAP_UNIT_BYTES - 1);
}

struct meta {
    uint32_t page_bytes;
    uint64_t last_page;
    uint64_t txn_id;
    uint64_t roots[META_TREES_COUNT];
    uint16_t flags[META_TREES_COUNT];
};

/* Native byte order, as LMDB writes it. */
static uint16_t native_u16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t native_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t native_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Reads the meta page at `offset`; an error has its sentence in *out_reason. */
static enum tl_err read_meta(int fd, off_t offset, struct meta *out_meta, const char **out_reason)
{
    uint8_t page[META_OFFSET + META_BYTES];
    ssize_t count = pread(fd, page, sizeof page, offset);
    if (count < 0) {
        *out_reason = "a meta page cannot be read";
        return TL_ERR_IO;
    }
    const uint8_t *meta = page + META_OFFSET;
    if ((size_t)count < sizeof page || (native_u16(page + 10) & PAGE_FLAG_META) == 0 ||
        native_u32(meta) != META_MAGIC) {
        *out_reason = "a meta page is not one";
        return TL_ERR_CORRUPT;
    }
    if (native_u32(meta + 4) != META_VERSION) {
        *out_reason = "a meta page has another version of LMDB";
        return TL_ERR_NEWER_FORMAT;
    }
    *out_meta = (struct meta){
        .page_bytes = native_u32(meta + META_TREES_OFFSET),
        .last_page = native_u64(meta + 120),
        .txn_id = native_u64(meta + 128),
    };
    for (unsigned i = 0; i < META_TREES_COUNT; i++) {
        const uint8_t *tree = meta + META_TREES_OFFSET + i * (size_t)META_TREE_BYTES;
        out_meta->flags[i] = native_u16(tree + 4) & TREE_FLAGS_MASK;
        out_meta->roots[i] = native_u64(tree + 40);
    }
    return TL_OK;
}

/* What is wrong with one meta; NULL: nothing. */
static const char *meta_reason(const struct meta *meta)
{
    if (meta->last_page < 1 || meta->last_page > UINT64_MAX / PAGE_BYTES_MAX - 1) {
        return "a meta page names an impossible last page";
    }
    if (meta->flags[0] != MDB_INTEGERKEY || meta->flags[1] != 0) {
        return "a meta page names another order of keys";
    }
    for (unsigned i = 0; i < META_TREES_COUNT; i++) {
        uint64_t root = meta->roots[i];
        if (root != ROOT_NONE && (root < 2 || root > meta->last_page)) {
            return "a meta page names a root outside its pages";
        }
    }
    return NULL;
}

/* What is wrong with the two metas of a file of file_bytes; NULL: nothing. */
static const char *metas_reason(const struct meta metas[2], uint64_t file_bytes)
{
    for (unsigned i = 0; i < 2; i++) {
        const char *reason = meta_reason(&metas[i]);
        if (reason != NULL) {
            return reason;
        }
    }
    unsigned newer = metas[1].txn_id > metas[0].txn_id ? 1 : 0;
    const struct meta *meta = &metas[newer];
    const struct meta *older = &metas[1 - newer];
    if (meta->page_bytes != older->page_bytes) {
        return "the meta pages name different page sizes";
    }
    if (meta->txn_id > 0 && (meta->txn_id - older->txn_id != 1 || (meta->txn_id & 1) != newer)) {
        return "the meta pages are not one transaction apart";
    }
    if (meta->last_page < older->last_page) {
        return "the last page of the newer meta page is below that of the older";
    }
    /* Only the newer one's pages must be there. */
    for (unsigned i = 0; i < META_TREES_COUNT; i++) {
        uint64_t root = meta->roots[i];
        if (root != ROOT_NONE && (root + 1) * meta->page_bytes > file_bytes) {
            return "the file ends before a root page";
        }
    }
    return NULL;
}

static enum tl_err check_fd(int fd, bool *out_exists, const char **out_reason)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        *out_reason = "the data file's length cannot be read";
        return TL_ERR_IO;
    }
    struct meta metas[2];
    enum tl_err err = read_meta(fd, 0, &metas[0], out_reason);
    if (err != TL_OK) {
        return err;
    }
    uint32_t page_bytes = metas[0].page_bytes;
    if (page_bytes < PAGE_BYTES_MIN || page_bytes > PAGE_BYTES_MAX ||
        (page_bytes & (page_bytes - 1)) != 0) {
        *out_reason = "a meta page names an impossible page size";
        return TL_ERR_CORRUPT;
    }
    err = read_meta(fd, (off_t)page_bytes, &metas[1], out_reason);
    if (err != TL_OK) {
        return err;
    }
    *out_reason = metas_reason(metas, (uint64_t)status.st_size);
    if (*out_reason != NULL) {
        return TL_ERR_CORRUPT;
    }
    *out_exists = true;
    return TL_OK;
}

enum tl_err lmdb_env_check_file(const char *dir, uint32_t group, bool *out_exists,
                                struct tl_fault *out_fault)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/data.mdb", dir);
    if (length < 0 || (size_t)length >= sizeof path) {
        tl_fault_set(out_fault, dir, group, 0, "the path is too long");
        return TL_ERR_INVALID;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *out_exists = false;
        return TL_OK;
    }
    if (fd < 0) {
        tl_fault_set(out_fault, path, group, 0, "open: %s", mdb_strerror(errno));
        return TL_ERR_IO;
    }
    const char *reason = NULL;
    enum tl_err err = check_fd(fd, out_exists, &reason);
    if (err != TL_OK) {
        tl_fault_set(out_fault, path, group, 0, "%s", reason);
    }
    (void)close(fd); /* read only: nothing can be lost by its result */
    return err;
}

/* How many pages of number >= first are on the free list of the transaction's state. Its records:
 * transaction id -> count, page numbers. */
static int count_free_pages(MDB_txn *txn, uint64_t first, uint64_t *out_count)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(txn, 0, &cursor); /* 0: LMDB's handle of the free list */
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    uint64_t count = 0;
    MDB_val key;
    MDB_val value;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS) {
        const uint8_t *pages = value.mv_data;
        uint64_t pages_count = value.mv_size >= 8 ? native_u64(pages) : 0;
        if (pages_count >= value.mv_size / 8) {
            rc = MDB_CORRUPTED;
            break;
        }
        for (uint64_t i = 1; i <= pages_count; i++) {
            if (native_u64(pages + 8 * i) >= first) count++;
        }
    }
    mdb_cursor_close(cursor);
    *out_count = count;
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

enum tl_err lmdb_env_check_tail(MDB_txn *txn, const char *dir, uint32_t group,
                                struct tl_fault *out_fault)
{
    MDB_env *env = mdb_txn_env(txn);
    MDB_envinfo info;
    MDB_stat stat;
    mdb_filehandle_t fd;
    int rc = mdb_env_info(env, &info);
    if (rc == MDB_SUCCESS) rc = mdb_env_stat(env, &stat);
    if (rc == MDB_SUCCESS) rc = mdb_env_get_fd(env, &fd);
    if (rc != MDB_SUCCESS) {
        return lmdb_env_fail(rc, "mdb_env_info", dir, group, out_fault);
    }
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return lmdb_env_fail(errno, "fstat", dir, group, out_fault);
    }
    uint64_t file_pages = (uint64_t)status.st_size / stat.ms_psize;
    uint64_t pages = (uint64_t)info.me_last_pgno + 1;
    if (file_pages >= pages) {
        return TL_OK;
    }
    uint64_t free_count = 0;
    rc = count_free_pages(txn, file_pages, &free_count);
    if (rc != MDB_SUCCESS) {
        return lmdb_env_fail(rc, "reading the free list", dir, group, out_fault);
    }
    if (free_count < pages - file_pages) {
        tl_fault_set(out_fault, dir, group, 0, "the data file lost its end: %llu pages of %llu",
                     (unsigned long long)file_pages, (unsigned long long)pages);
        return TL_ERR_CORRUPT;
    }
    return TL_OK;
}

enum tl_err lmdb_env_check_named(MDB_env *env, const char *path, uint32_t group,
                                 struct tl_fault *out_fault)
{
    mdb_filehandle_t fd;
    struct statx status;
    int rc = mdb_env_get_fd(env, &fd);
    /* Not fstat(): it asks for the times too, and a file whose times were asked for gets new ones
     * at its next write (multigrain timestamps, Linux 6.13), which the next flush then has to write
     * as well. */
    if (rc == MDB_SUCCESS && statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &status) != 0) rc = errno;
    if (rc != MDB_SUCCESS) {
        return lmdb_env_fail(rc, "looking at the data file", path, group, out_fault);
    }
    if (status.stx_nlink > 0) {
        return TL_OK;
    }
    tl_fault_set(out_fault, path, group, 0,
                 "the file was deleted while it was in use; started again, the node joins as a new "
                 "member when its directory is empty");
    return TL_ERR_IO;
}

/* The bytes of each meta page that carry anything: header and meta. */
static int rewrite_metas(int fd)
{
    uint8_t page[META_OFFSET + META_BYTES];
    off_t offset = 0;
    for (unsigned i = 0; i < 2; i++) {
        ssize_t count = pread(fd, page, sizeof page, offset);
        if (count == (ssize_t)sizeof page) count = pwrite(fd, page, sizeof page, offset);
        if (count != (ssize_t)sizeof page) {
            return count < 0 ? errno : EIO;
        }
        offset = (off_t)native_u32(page + META_OFFSET + META_TREES_OFFSET);
    }
    return fdatasync(fd) == 0 ? 0 : errno;
}

/* Why the metas alone: LMDB writes one only after the flush of its transaction's pages has
 * succeeded, on the descriptor that they were written through (mdb.c, mdb_txn_commit). So all pages
 * that a meta refers to are on the disk when there is a meta, and those of a transaction whose
 * flush failed are referred to by none.
 *
 * Why they are written: after a failed flush the kernel calls the page clean, and a further flush
 * writes nothing and succeeds, though the disk has not got it ("fsyncgate"; Rebello et al., "Can
 * Applications Recover from fsync Failures?", USENIX ATC '20). A write makes it dirty again. A torn
 * one mixes equal bytes; or those of two transactions, which is what a commit may do as well, and
 * they are within one sector.
 *
 * Why no commit instead: it writes the other meta. After a power cut the file could have that one
 * beside one of three transactions before, which is how damage looks (metas_reason()).
 *
 * Why the cache is not dropped (POSIX_FADV_DONTNEED) and read again: that is advice, which skips
 * pages in use, and a large table would begin cold. */
enum tl_err lmdb_env_settle(const char *dir, uint32_t group, struct tl_fault *out_fault)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/data.mdb", dir);
    TL_ASSERT(length > 0);
    TL_ASSERT((size_t)length < sizeof path); /* lmdb_env_check_file() has opened it */
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return lmdb_env_fail(errno, "open", path, group, out_fault);
    }
    int rc = rewrite_metas(fd);
    (void)close(fd); /* after fdatasync there is nothing left that could fail to be written */
    if (rc != 0) {
        return lmdb_env_fail(rc, "writing the meta pages again", path, group, out_fault);
    }
    return lmdb_env_sync_dir(dir, group, out_fault);
}

enum tl_err lmdb_env_sync_dir(const char *dir, uint32_t group, struct tl_fault *out_fault)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return lmdb_env_fail(errno, "open of the directory", dir, group, out_fault);
    }
    int rc = fsync(fd) == 0 ? 0 : errno;
    (void)close(fd); /* a directory: fsync's result is the one that counts */
    return rc == 0 ? TL_OK : lmdb_env_fail(rc, "fsync of the directory", dir, group, out_fault);
}

int writeout_step(struct writeout *writeout, int fd, uint64_t bytes)
{
    writeout->bytes += bytes;
    if (writeout->bytes < WRITEOUT_BYTES) {
        return 0;
    }
    writeout->bytes = 0;
    const unsigned flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE;
    if (sync_file_range(fd, 0, 0, flags) == 0) {
        return 0;
    }
    /* Where the call is not known, the kernel writes when it likes to. */
    bool is_unknown = errno == ENOSYS || errno == EINVAL || errno == ESPIPE || errno == EOPNOTSUPP;
    return is_unknown ? 0 : errno;
}
