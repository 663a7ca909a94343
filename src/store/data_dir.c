/* data_dir.c - lock, file system check and identity of a data directory: FORMAT.md 1.
 *
 * open:  make the directory -> refuse a foreign one before anything is written into it -> lock ->
 *        identity: read and compare, or make.
 */

#include "trilith/data_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "trilith/hash.h"

#define NAME_LOCK "lock"
#define NAME_IDENTITY "identity"
#define NAME_IDENTITY_TMP "identity.tmp"
#define NAME_LOG_DATA "log/data.mdb"
#define NAME_KV_PREFIX "kv."
#define NAME_LOST_FOUND "lost+found" /* of a file system mounted here */
#define DIRECTORY_MODE 0700
#define FILE_MODE 0600
#define IDENTITY_BYTES_MAX 512u
#define STORE_ID_DRAWS_MAX 8u

_Static_assert(ADDRESS_BYTES_MAX + 128u < IDENTITY_BYTES_MAX, "an identity fits");

struct data_dir {
    int lock_fd;
    bool is_new;
    uint32_t unknown_fs;
    struct store_id store_id;
    char address[ADDRESS_BYTES_MAX];
    char path[PATH_MAX];
};

static enum tl_err fail(const char *path, const char *call, int error, struct tl_fault *fault)
{
    tl_fault_set(fault, path, UINT32_MAX, 0, "%s: %s", call, strerror(error));
    return error == ENOSPC || error == EDQUOT ? TL_ERR_NO_SPACE : TL_ERR_IO;
}

/* "base/name"; TL_ERR_IO when there is no room. */
static enum tl_err join(const char *base, const char *name, char *out_path, size_t path_bytes,
                        struct tl_fault *fault)
{
    int count = snprintf(out_path, path_bytes, "%s/%s", base, name);
    if (count < 0 || (size_t)count >= path_bytes) {
        tl_fault_set(fault, base, UINT32_MAX, 0, "the path is too long");
        return TL_ERR_IO;
    }
    return TL_OK;
}

/* Closes the directory too. */
static enum tl_err flush_opened(const char *path, int fd, struct tl_fault *fault)
{
    int error = fsync(fd) == 0 ? 0 : errno;
    (void)close(fd); /* opened for reading: nothing can be lost by it */
    return error == 0 ? TL_OK : fail(path, "fsync of the directory", error, fault);
}

/* Makes the names in a directory durable. */
static enum tl_err flush_directory(const char *path, struct tl_fault *fault)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? fail(path, "open", errno, fault) : flush_opened(path, fd, fault);
}

static enum tl_err flush_parent(const char *path, struct tl_fault *fault)
{
    char parent[PATH_MAX];
    enum tl_err err = join(path, "..", parent, sizeof parent, fault);
    return err == TL_OK ? flush_directory(parent, fault) : err;
}

/* Makes one directory and flushes the one it is in, also when it exists: whoever made it may have
 * been killed before that. */
static enum tl_err make_directory(const char *path, struct tl_fault *fault)
{
    if (mkdir(path, DIRECTORY_MODE) != 0 && errno != EEXIST) {
        return fail(path, "mkdir", errno, fault);
    }
    return flush_parent(path, fault);
}

/* The name of a part of the path that is there already: it may have been made by a process that was
 * killed before it had flushed it. That process could open the parent, so a parent that may
 * not be read holds no such name. */
static enum tl_err flush_name(const char *part, struct tl_fault *fault)
{
    char parent[PATH_MAX];
    enum tl_err err = join(part, "..", parent, sizeof parent, fault);
    if (err != TL_OK) {
        return err;
    }
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno == EACCES ? TL_OK : fail(parent, "open", errno, fault);
    }
    return flush_opened(parent, fd, fault);
}

/* mkdir -p: what is missing is made and flushed, and when no process has come further than this,
 * what is there is flushed as well. */
static enum tl_err make_path(const char *path, bool is_unborn, struct tl_fault *fault)
{
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) {
        tl_fault_set(fault, path, UINT32_MAX, 0, "the path is empty or too long");
        return TL_ERR_IO;
    }
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        part[i] = '\0';
        struct stat status;
        enum tl_err err = TL_OK;
        if (stat(part, &status) != 0) {
            err = make_directory(part, fault);
        } else if (is_unborn) {
            err = flush_name(part, fault);
        }
        if (err != TL_OK) {
            return err;
        }
        part[i] = path[i];
    }
    return TL_OK;
}

/* ---- file system ---- */

/* A list of what is refused, not of what is accepted: a local file system that is newer than this
 * list should not keep a node from starting, so the others are reported (data_dir_unknown_fs()).
 * The magic numbers that <linux/magic.h> lacks are those of stat.c of GNU coreutils. The kernel's
 * f_type is a signed word, they are 32 bits: compared as such. */
struct fs_kind {
    uint32_t magic;
    const char *name;
};

/* A flush does not reach a device of this machine: it ends in memory, at another machine, in a
 * process of whose flush nothing is known, or in a layer that shows another file after a remount.
 * virtiofs has the number of FUSE. */
static const struct fs_kind refused_fs[] = {
    {TMPFS_MAGIC, "tmpfs"},
    {RAMFS_MAGIC, "ramfs"},
    {OVERLAYFS_SUPER_MAGIC, "overlay"},
    {0x61756673u, "aufs"},
    {FUSE_SUPER_MAGIC, "FUSE or virtiofs"},
    {0x6a656a63u, "fakeowner"}, /* Docker Desktop, before a virtiofs or FUSE of the host */
    {V9FS_MAGIC, "9p"},
    {HOSTFS_SUPER_MAGIC, "hostfs"},
    {0x786f4256u, "vboxsf"},
    {0xbacbacbcu, "vmhgfs"},
    {0x7c7c6673u, "prl_fs"},
    {NFS_SUPER_MAGIC, "NFS"},
    {SMB_SUPER_MAGIC, "SMB"},
    {CIFS_SUPER_MAGIC, "CIFS"},
    {SMB2_SUPER_MAGIC, "SMB2"},
    {NCP_SUPER_MAGIC, "NCP"},
    {AFS_SUPER_MAGIC, "AFS"},
    {AFS_FS_MAGIC, "AFS"},
    {CODA_SUPER_MAGIC, "Coda"},
    {CEPH_SUPER_MAGIC, "Ceph"},
    {0x0bd00bd0u, "Lustre"},
    {0x19830326u, "BeeGFS"},
    {0x47504653u, "GPFS"},
    {0xaad7aaeau, "PanFS"},
    {0x20030528u, "OrangeFS"},
    {0x01161970u, "GFS2"}, /* a device that other machines write to as well, as is the next */
    {OCFS2_SUPER_MAGIC, "OCFS2"},
};

/* Local ones: a flush is one of their device. */
static const struct fs_kind known_fs[] = {
    {EXT4_SUPER_MAGIC, "ext4"}, {XFS_SUPER_MAGIC, "XFS"},      {BTRFS_SUPER_MAGIC, "btrfs"},
    {F2FS_SUPER_MAGIC, "F2FS"}, {0x2fc12fc1u, "ZFS"},          {0xca451a4eu, "bcachefs"},
    {0x3153464au, "JFS"},       {NILFS_SUPER_MAGIC, "NILFS2"}, {REISERFS_SUPER_MAGIC, "ReiserFS"},
};

static const struct fs_kind *find_fs(const struct fs_kind *kinds, size_t count, uint32_t magic)
{
    for (size_t i = 0; i < count; i++) {
        if (kinds[i].magic == magic) return &kinds[i];
    }
    return NULL;
}

static enum tl_err check_fs(struct data_dir *dir, struct tl_fault *fault)
{
    struct statfs status;
    if (statfs(dir->path, &status) != 0) {
        return fail(dir->path, "statfs", errno, fault);
    }
    uint32_t magic = (uint32_t)status.f_type;
    const struct fs_kind *refused = find_fs(refused_fs, TL_COUNT_OF(refused_fs), magic);
    if (refused != NULL) {
        tl_fault_set(fault, dir->path, UINT32_MAX, 0,
                     "on %s a flush does not make data durable on a device of this machine; use a "
                     "local disk or volume, or allow any file system",
                     refused->name);
        return TL_ERR_IO;
    }
    bool is_known = find_fs(known_fs, TL_COUNT_OF(known_fs), magic) != NULL;
    dir->unknown_fs = is_known ? 0 : magic;
    return TL_OK;
}

/* ---- what is in the directory ---- */

struct contents {
    bool has_identity;
    bool has_kv;
    char foreign_name[NAME_MAX + 1]; /* one entry that an unborn directory has not; or "" */
};

static void note_name(struct contents *contents, const char *name)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, NAME_LOCK) == 0 ||
        strcmp(name, NAME_IDENTITY_TMP) == 0 || strcmp(name, NAME_LOST_FOUND) == 0) {
        return;
    }
    if (strcmp(name, NAME_IDENTITY) == 0) {
        contents->has_identity = true;
        return;
    }
    if (strncmp(name, NAME_KV_PREFIX, strlen(NAME_KV_PREFIX)) == 0) contents->has_kv = true;
    (void)snprintf(contents->foreign_name, sizeof contents->foreign_name, "%s", name);
}

static enum tl_err read_contents(const char *path, struct contents *out_contents,
                                 struct tl_fault *fault)
{
    DIR *stream = opendir(path);
    if (stream == NULL) {
        return fail(path, "opendir", errno, fault);
    }
    struct contents contents = {.has_identity = false};
    const struct dirent *entry;
    errno = 0;
    while ((entry = readdir(stream)) != NULL) note_name(&contents, entry->d_name);
    int error = errno; /* NULL is both the end and an error */
    (void)closedir(stream);
    if (error != 0) {
        return fail(path, "readdir", error, fault);
    }
    *out_contents = contents;
    return TL_OK;
}

static enum tl_err check_ours(const char *path, struct tl_fault *fault)
{
    struct contents contents;
    enum tl_err err = read_contents(path, &contents, fault);
    if (err != TL_OK) {
        return err;
    }
    if (!contents.has_identity && contents.foreign_name[0] != '\0') {
        tl_fault_set(fault, path, UINT32_MAX, 0,
                     "the directory is not empty (\"%.64s\") and no data directory of trilithd",
                     contents.foreign_name);
        return TL_ERR_FOREIGN;
    }
    return TL_OK;
}

/* Writes a short text at the begin of a file: 0 or an errno. */
static int write_text(int fd, const char *text, size_t text_bytes)
{
    ssize_t count = pwrite(fd, text, text_bytes, 0);
    if (count < 0) {
        return errno;
    }
    return (size_t)count == text_bytes ? 0 : ENOSPC; /* what a short write to a file means */
}

/* ---- lock ---- */

/* The process id in the lock file is for the message of the loser only. */
static enum tl_err report_in_use(const char *path, int fd, struct tl_fault *fault)
{
    char pid[16] = "";
    ssize_t count = pread(fd, pid, sizeof pid - 1, 0);
    pid[count > 0 ? strspn(pid, "0123456789") : 0] = '\0';
    tl_fault_set(fault, path, UINT32_MAX, 0, "the directory is in use by another process%s%s",
                 pid[0] == '\0' ? "" : ", pid ", pid);
    return TL_ERR_IN_USE;
}

static enum tl_err lock(struct data_dir *dir, struct tl_fault *fault)
{
    char path[PATH_MAX];
    enum tl_err err = join(dir->path, NAME_LOCK, path, sizeof path, fault);
    if (err != TL_OK) {
        return err;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        return fail(path, "open", errno, fault);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int error = errno;
        err = error == EWOULDBLOCK ? report_in_use(dir->path, fd, fault)
                                   : fail(path, "flock", error, fault);
        (void)close(fd); /* not written to */
        return err;
    }
    dir->lock_fd = fd;
    char pid[16];
    int count = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    int error = ftruncate(fd, 0) == 0 ? write_text(fd, pid, (size_t)count) : errno;
    return error == 0 ? TL_OK : fail(path, "writing the process id", error, fault);
}

/* ---- identity ---- */

/* Prints the file's one spelling and returns its length. */
static size_t identity_format(const struct store_id *store_id, const char *address,
                              char out_text[IDENTITY_BYTES_MAX])
{
    char id_text[HASH_TEXT_BYTES];
    store_id_format(store_id, id_text);
    int count =
        snprintf(out_text, IDENTITY_BYTES_MAX, "trilith-identity %u\nstore_id %s\naddress %s\n",
                 DATA_DIR_FORMAT, id_text, address);
    TL_ASSERT(count > 0);
    TL_ASSERT((size_t)count < IDENTITY_BYTES_MAX);
    uint64_t checksum = hash_checksum(bytes_make(out_text, (size_t)count));
    int tail_count = snprintf(out_text + count, IDENTITY_BYTES_MAX - (size_t)count,
                              "checksum %016" PRIx64 "\n", checksum);
    TL_ASSERT(tail_count > 0);
    TL_ASSERT((size_t)(count + tail_count) < IDENTITY_BYTES_MAX);
    return (size_t)(count + tail_count);
}

static bool parse_store_id(const char *text, struct store_id *out_id)
{
    for (size_t i = 0; i < sizeof out_id->bytes; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) {
            return false;
        }
        out_id->bytes[i] = (uint8_t)byte;
    }
    return true;
}

/* Parses `text` (NUL-terminated) and compares it with what identity_format() makes of the result:
 * whatever a lenient parse let through fails there. */
static enum tl_err identity_parse(const char *text, size_t text_bytes, struct store_id *out_id,
                                  char out_address[ADDRESS_BYTES_MAX])
{
    unsigned format;
    if (sscanf(text, "trilith-identity %u", &format) != 1) {
        return TL_ERR_CORRUPT;
    }
    if (format > DATA_DIR_FORMAT) {
        return TL_ERR_NEWER_FORMAT;
    }
    char id_text[HASH_TEXT_BYTES];
    char address[ADDRESS_BYTES_MAX];
    _Static_assert(ADDRESS_BYTES_MAX == 280 && HASH_TEXT_BYTES == 33, "the widths below");
    struct store_id id;
    if (sscanf(text, "trilith-identity %u store_id %32s address %279s", &format, id_text,
               address) != 3 ||
        strlen(id_text) != HASH_TEXT_BYTES - 1 || !parse_store_id(id_text, &id)) {
        return TL_ERR_CORRUPT;
    }
    char again[IDENTITY_BYTES_MAX];
    size_t again_bytes = identity_format(&id, address, again);
    if (!bytes_equal(bytes_make(text, text_bytes), bytes_make(again, again_bytes)) ||
        store_id_raft(&id) == RAFT_ID_NONE) {
        return TL_ERR_CORRUPT;
    }
    *out_id = id;
    memcpy(out_address, address, sizeof address);
    return TL_OK;
}

static enum tl_err identity_load(struct data_dir *dir, const char *path, struct tl_fault *fault)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail(path, "open", errno, fault);
    }
    char text[IDENTITY_BYTES_MAX];
    ssize_t count = read(fd, text, sizeof text - 1);
    int error = errno;
    (void)close(fd); /* read only */
    if (count < 0) {
        return fail(path, "read", error, fault);
    }
    text[count] = '\0';
    enum tl_err err = identity_parse(text, (size_t)count, &dir->store_id, dir->address);
    if (err == TL_ERR_NEWER_FORMAT) {
        tl_fault_set(fault, path, UINT32_MAX, 0,
                     "the directory was written by a newer version of trilithd");
    } else if (err != TL_OK) {
        tl_fault_set(fault, path, UINT32_MAX, 0, "the identity file fails its checksum");
    }
    return err;
}

/* All bytes of a new file, flushed. */
static enum tl_err write_file(const char *path, const char *text, size_t text_bytes,
                              struct tl_fault *fault)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        return fail(path, "open", errno, fault);
    }
    int error = write_text(fd, text, text_bytes);
    if (error == 0 && fsync(fd) != 0) error = errno;
    if (close(fd) != 0 && error == 0) error = errno;
    return error == 0 ? TL_OK : fail(path, "writing the identity", error, fault);
}

static enum tl_err draw_store_id(struct store_id *out_id, struct tl_fault *fault)
{
    for (unsigned i = 0; i < STORE_ID_DRAWS_MAX; i++) {
        /* Up to 256 bytes come whole or not at all once the pool is ready: getrandom(2). */
        if (getrandom(out_id->bytes, sizeof out_id->bytes, 0) != (ssize_t)sizeof out_id->bytes) {
            return fail("/dev/urandom", "getrandom", errno, fault);
        }
        if (store_id_raft(out_id) != RAFT_ID_NONE) {
            return TL_OK;
        }
    }
    tl_fault_set(fault, "/dev/urandom", UINT32_MAX, 0, "the kernel's random numbers are not");
    return TL_ERR_IO;
}

/* What an earlier store here was is not held against a new one. Durable with the new identity. */
static enum tl_err remove_marks(const struct data_dir *dir, struct tl_fault *fault)
{
    static const char *const names[] = {"diverged", "refused"};
    enum tl_err err = TL_OK;
    for (size_t i = 0; i < TL_COUNT_OF(names) && err == TL_OK; i++) {
        char path[PATH_MAX];
        err = join(dir->path, names[i], path, sizeof path, fault);
        if (err == TL_OK && unlink(path) != 0 && errno != ENOENT) {
            err = fail(path, "unlink", errno, fault);
        }
    }
    return err;
}

/* Durable before it is told to anyone: temporary file, flush, rename, flush of the directory. */
static enum tl_err identity_create(struct data_dir *dir, const char *path, const char *address,
                                   struct tl_fault *fault)
{
    struct store_id store_id;
    enum tl_err err = draw_store_id(&store_id, fault);
    if (err == TL_OK) err = remove_marks(dir, fault);
    if (err != TL_OK) {
        return err;
    }
    char text[IDENTITY_BYTES_MAX];
    size_t text_bytes = identity_format(&store_id, address, text);
    char tmp_path[PATH_MAX];
    err = join(dir->path, NAME_IDENTITY_TMP, tmp_path, sizeof tmp_path, fault);
    if (err == TL_OK) err = write_file(tmp_path, text, text_bytes, fault);
    if (err != TL_OK) {
        return err;
    }
    if (rename(tmp_path, path) != 0) {
        return fail(path, "rename", errno, fault);
    }
    err = flush_directory(dir->path, fault);
    if (err == TL_OK) err = flush_parent(dir->path, fault);
    if (err != TL_OK) {
        return err;
    }
    dir->store_id = store_id;
    memcpy(dir->address, address, strlen(address) + 1);
    dir->is_new = true;
    return TL_OK;
}

/* Whether this identity ever had a log. Without one it must not speak again: FORMAT.md 1. */
static enum tl_err log_exists(const struct data_dir *dir, bool *out_exists, struct tl_fault *fault)
{
    char path[PATH_MAX];
    enum tl_err err = join(dir->path, NAME_LOG_DATA, path, sizeof path, fault);
    if (err != TL_OK) {
        return err;
    }
    *out_exists = access(path, F_OK) == 0;
    if (!*out_exists && errno != ENOENT) {
        return fail(path, "access", errno, fault);
    }
    return TL_OK;
}

static enum tl_err identity_open(struct data_dir *dir, const char *address, struct tl_fault *fault)
{
    char path[PATH_MAX];
    struct contents contents;
    bool has_log = false;
    enum tl_err err = join(dir->path, NAME_IDENTITY, path, sizeof path, fault);
    if (err == TL_OK) err = read_contents(dir->path, &contents, fault);
    if (err != TL_OK) {
        return err;
    }
    if (!contents.has_identity) {
        return identity_create(dir, path, address, fault);
    }
    err = identity_load(dir, path, fault);
    if (err != TL_OK) {
        return err;
    }
    if (strcmp(dir->address, address) != 0) {
        tl_fault_set(fault, dir->path, UINT32_MAX, 0,
                     "the directory belongs to node %.60s, this is %.60s", dir->address, address);
        return TL_ERR_FOREIGN;
    }
    /* The process that has made it may have been killed before it had flushed the name. */
    err = flush_directory(dir->path, fault);
    if (err == TL_OK) err = flush_parent(dir->path, fault);
    if (err == TL_OK) err = log_exists(dir, &has_log, fault);
    if (err != TL_OK || has_log) {
        return err;
    }
    if (contents.has_kv) {
        tl_fault_set(fault, dir->path, UINT32_MAX, 0,
                     "the log is gone but tables are there; empty the directory to let the node "
                     "join again as a new member");
        return TL_ERR_CORRUPT;
    }
    return identity_create(dir, path, address, fault);
}

static enum tl_err find_identity(const char *path, bool *out_exists, struct tl_fault *fault)
{
    char identity[PATH_MAX];
    enum tl_err err = join(path, NAME_IDENTITY, identity, sizeof identity, fault);
    if (err != TL_OK) {
        return err;
    }
    *out_exists = access(identity, F_OK) == 0;
    if (!*out_exists && errno != ENOENT && errno != ENOTDIR) {
        return fail(path, "access", errno, fault);
    }
    return TL_OK;
}

bool data_dir_is_made(const char *path)
{
    bool exists = false;
    return find_identity(path, &exists, NULL) != TL_OK || exists;
}

static enum tl_err open_locked(struct data_dir *dir, const char *address, bool allow_any_fs,
                               struct tl_fault *fault)
{
    bool is_made = false;
    enum tl_err err = find_identity(dir->path, &is_made, fault);
    if (err == TL_OK) err = make_path(dir->path, !is_made, fault);
    if (err == TL_OK && !allow_any_fs) err = check_fs(dir, fault);
    if (err == TL_OK) err = check_ours(dir->path, fault);
    if (err == TL_OK) err = lock(dir, fault);
    if (err == TL_OK) err = identity_open(dir, address, fault);
    return err;
}

enum tl_err data_dir_open(const char *path, const char *address, bool allow_any_fs,
                          struct data_dir **out_dir, struct tl_fault *out_fault)
{
    TL_ASSERT(path != NULL);
    TL_ASSERT(address != NULL);
    /* Options are checked where they are read; this is what the file's grammar needs. */
    TL_ASSERT(address[0] != '\0');
    TL_ASSERT(strlen(address) < ADDRESS_BYTES_MAX);
    TL_ASSERT(strcspn(address, " \t\r\n") == strlen(address));
    TL_ASSERT(out_dir != NULL);

    struct data_dir *dir = calloc(1, sizeof *dir);
    TL_ASSERT(dir != NULL);
    dir->lock_fd = -1;
    enum tl_err err = TL_ERR_IO;
    int count = snprintf(dir->path, sizeof dir->path, "%s", path);
    if (count < 0 || (size_t)count >= sizeof dir->path) {
        tl_fault_set(out_fault, path, UINT32_MAX, 0, "the path is too long");
    } else {
        err = open_locked(dir, address, allow_any_fs, out_fault);
    }
    if (err != TL_OK) {
        data_dir_close(dir);
        return err;
    }
    *out_dir = dir;
    return TL_OK;
}

/* Without an identity there is nothing of ours to look at, and no lock file is made. */
static enum tl_err inspect_locked(struct data_dir *dir, struct tl_fault *fault)
{
    struct contents contents;
    char path[PATH_MAX];
    enum tl_err err = read_contents(dir->path, &contents, fault);
    if (err == TL_OK && !contents.has_identity) {
        tl_fault_set(fault, dir->path, UINT32_MAX, 0, "no data directory of trilithd");
        err = TL_ERR_FOREIGN;
    }
    if (err == TL_OK) err = lock(dir, fault);
    if (err == TL_OK) err = join(dir->path, NAME_IDENTITY, path, sizeof path, fault);
    return err == TL_OK ? identity_load(dir, path, fault) : err;
}

enum tl_err data_dir_open_to_inspect(const char *path, struct data_dir **out_dir,
                                     struct tl_fault *out_fault)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        enum tl_err err = errno == ENOENT || errno == ENOTDIR ? TL_ERR_NOT_FOUND : TL_ERR_IO;
        tl_fault_set(out_fault, path, UINT32_MAX, 0, "%s", strerror(errno));
        return err;
    }
    if (!S_ISDIR(status.st_mode)) {
        tl_fault_set(out_fault, path, UINT32_MAX, 0, "not a directory");
        return TL_ERR_FOREIGN;
    }
    struct data_dir *dir = calloc(1, sizeof *dir);
    TL_ASSERT(dir != NULL);
    dir->lock_fd = -1;
    enum tl_err err = TL_ERR_IO;
    int count = snprintf(dir->path, sizeof dir->path, "%s", path);
    if (count < 0 || (size_t)count >= sizeof dir->path) {
        tl_fault_set(out_fault, path, UINT32_MAX, 0, "the path is too long");
    } else {
        err = inspect_locked(dir, out_fault);
    }
    if (err != TL_OK) {
        data_dir_close(dir);
        return err;
    }
    *out_dir = dir;
    return TL_OK;
}

void data_dir_close(struct data_dir *dir)
{
    if (dir == NULL) {
        return;
    }
    if (dir->lock_fd >= 0) (void)close(dir->lock_fd); /* releases the lock */
    free(dir);
}

const struct store_id *data_dir_store_id(const struct data_dir *dir)
{
    return &dir->store_id;
}

bool data_dir_is_new(const struct data_dir *dir)
{
    return dir->is_new;
}

uint32_t data_dir_unknown_fs(const struct data_dir *dir)
{
    return dir->unknown_fs;
}

const char *data_dir_path(const struct data_dir *dir)
{
    return dir->path;
}

const char *data_dir_address(const struct data_dir *dir)
{
    return dir->address;
}

enum tl_err data_dir_sub(const struct data_dir *dir, const char *name, char *out_path,
                         size_t path_bytes, struct tl_fault *out_fault)
{
    TL_ASSERT(name[0] != '\0');
    TL_ASSERT(strchr(name, '/') == NULL);
    char path[PATH_MAX];
    enum tl_err err = join(dir->path, name, path, sizeof path, out_fault);
    if (err == TL_OK) err = make_directory(path, out_fault);
    if (err == TL_OK) err = join(dir->path, name, out_path, path_bytes, out_fault);
    return err;
}

uint64_t data_dir_free_bytes(const struct data_dir *dir)
{
    struct statvfs status;
    /* Not by its path: a directory that was deleted is not a full disk. */
    if (fstatvfs(dir->lock_fd, &status) != 0) {
        return 0; /* unknown: nothing may be promised */
    }
    return (uint64_t)status.f_bavail * status.f_frsize;
}
