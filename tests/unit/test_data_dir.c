/* data_dir: who owns a directory, that it is said durably, and what is refused. */

#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys_fault.h"
#include "tmpdir.h"
#include "trilith/data_dir.h"
#include "trilith/hash.h"

#define ADDRESS "10.0.0.1:7001"
#define TEXT_BYTES_MAX 1024u

static char parent[TMPDIR_PATH_BYTES_MAX];
static char path[PATH_MAX];
static struct data_dir *dir;
static struct tl_fault fault;

static void setup(void)
{
    tmpdir_create(parent);
    (void)snprintf(path, sizeof path, "%s/data", parent);
}

static void teardown(void)
{
    data_dir_close(TL_TAKE(&dir));
    tmpdir_destroy(parent);
}

TestSuite(data_dir, .init = setup, .fini = teardown, .timeout = 30);

static enum tl_err try_open(const char *address)
{
    return data_dir_open(path, address, true, &dir, &fault);
}

static void open_dir(void)
{
    enum tl_err err = try_open(ADDRESS);
    cr_assert_eq(err, TL_OK, "%s: %s", tl_err_name(err), fault.reason);
}

static struct store_id close_dir(void)
{
    struct store_id id = *data_dir_store_id(dir);
    data_dir_close(TL_TAKE(&dir));
    return id;
}

static const char *in_dir(const char *name)
{
    static char full[PATH_MAX + 32];
    (void)snprintf(full, sizeof full, "%s/%s", path, name);
    return full;
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(in_dir(name), "w");
    cr_assert_not_null(file);
    (void)fputs(text, file);
    cr_assert_eq(fclose(file), 0);
}

static size_t read_text(const char *name, char out_text[TEXT_BYTES_MAX])
{
    FILE *file = fopen(in_dir(name), "r");
    cr_assert_not_null(file);
    size_t count = fread(out_text, 1, TEXT_BYTES_MAX - 1, file);
    out_text[count] = '\0';
    (void)fclose(file);
    return count;
}

/* As log_store_open() does. */
static void make_log(void)
{
    char sub[PATH_MAX];
    cr_assert_eq(data_dir_sub(dir, "log", sub, sizeof sub, &fault), TL_OK);
    write_text("log/data.mdb", "the log");
}

/* ---- birth ---- */

Test(data_dir, is_made_with_its_parents_and_has_an_identity)
{
    (void)snprintf(path, sizeof path, "%s/a/b//c/", parent);
    open_dir();
    cr_assert(data_dir_is_new(dir));
    cr_assert_not(store_id_is_zero(data_dir_store_id(dir)));
    cr_assert_str_eq(data_dir_path(dir), path);
    cr_assert_gt(data_dir_free_bytes(dir), 0);
}

Test(data_dir, an_existing_empty_directory_is_taken)
{
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_assert_eq(mkdir(in_dir("lost+found"), 0700), 0);
    open_dir();
    cr_assert(data_dir_is_new(dir));
}

Test(data_dir, the_identity_stays)
{
    open_dir();
    make_log();
    struct store_id id = close_dir();
    for (int i = 0; i < 2; i++) {
        open_dir();
        cr_assert_not(data_dir_is_new(dir));
        cr_assert(store_id_equal(data_dir_store_id(dir), &id));
        (void)close_dir();
    }
}

Test(data_dir, asking_whether_it_is_made_makes_nothing)
{
    cr_assert_not(data_dir_is_made(path));
    cr_assert_not(data_dir_is_made("/dev/null"), "a file is none");
    struct stat status;
    cr_assert_neq(stat(path, &status), 0);
    open_dir();
    cr_assert(data_dir_is_made(path));
    (void)close_dir();
    cr_assert(data_dir_is_made(path));
}

Test(data_dir, identities_differ)
{
    open_dir();
    struct store_id id = close_dir();
    (void)snprintf(path, sizeof path, "%s/other", parent);
    open_dir();
    cr_assert_not(store_id_equal(data_dir_store_id(dir), &id));
}

/* 0 is "nobody" in the consensus core. */
Test(data_dir, an_id_that_would_be_nobody_is_drawn_again)
{
    sys_fault_random_zeros(3);
    open_dir();
    cr_assert_neq(store_id_raft(data_dir_store_id(dir)), RAFT_ID_NONE);
}

Test(data_dir, a_kernel_without_randomness_makes_no_identity)
{
    sys_fault_random_zeros(UINT32_MAX);
    cr_assert_eq(try_open(ADDRESS), TL_ERR_IO);
    cr_assert_neq(access(in_dir("identity"), F_OK), 0);
}

Test(data_dir, the_identity_is_durable_before_it_is_told)
{
    sys_fault_arm(0, 0);
    open_dir();
    cr_assert_not_null(strstr(sys_fault_trace(), "mkdir fsync "), "%s", sys_fault_trace());
    /* File, name, directory, and the directory's own name. */
    cr_assert_not_null(strstr(sys_fault_trace(), "pwrite fsync rename fsync fsync "), "%s",
                       sys_fault_trace());
}

/* FORMAT.md 1, byte for byte. */
Test(data_dir, the_identity_file_is_the_documented_text)
{
    open_dir();
    char id_text[HASH_TEXT_BYTES];
    store_id_format(data_dir_store_id(dir), id_text);
    char expected[TEXT_BYTES_MAX];
    int count = snprintf(expected, sizeof expected,
                         "trilith-identity 1\nstore_id %s\naddress " ADDRESS "\n", id_text);
    uint64_t checksum = hash_checksum(bytes_make(expected, (size_t)count));
    (void)snprintf(expected + count, sizeof expected - (size_t)count, "checksum %016" PRIx64 "\n",
                   checksum);
    char text[TEXT_BYTES_MAX];
    (void)read_text("identity", text);
    cr_assert_str_eq(text, expected);
}

/* The example of FORMAT.md 1 is an identity. */
Test(data_dir, the_documented_example_is_read)
{
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_assert_eq(mkdir(in_dir("log"), 0700), 0);
    write_text("log/data.mdb", "the log");
    write_text("identity", "trilith-identity 1\n"
                           "store_id 000102030405060708090a0b0c0d0e0f\n"
                           "address 10.0.0.1:7001\n"
                           "checksum 25cd2a390ebed4c8\n");
    open_dir();
    cr_assert_not(data_dir_is_new(dir));
    for (uint8_t i = 0; i < 16; i++) cr_assert_eq(data_dir_store_id(dir)->bytes[i], i);
}

/* ---- a lost log ---- */

Test(data_dir, an_identity_that_never_had_a_log_is_replaced)
{
    open_dir();
    struct store_id id = close_dir();
    open_dir();
    cr_assert(data_dir_is_new(dir), "under the old id it could vote twice in a term");
    cr_assert_not(store_id_equal(data_dir_store_id(dir), &id));
}

Test(data_dir, an_identity_whose_log_was_removed_is_replaced)
{
    open_dir();
    make_log();
    struct store_id id = close_dir();
    cr_assert_eq(unlink(in_dir("log/data.mdb")), 0);
    open_dir();
    cr_assert(data_dir_is_new(dir));
    cr_assert_not(store_id_equal(data_dir_store_id(dir), &id));
}

Test(data_dir, tables_without_a_log_are_refused)
{
    open_dir();
    (void)close_dir();
    cr_assert_eq(mkdir(in_dir("kv.1.1"), 0700), 0);
    cr_assert_eq(try_open(ADDRESS), TL_ERR_CORRUPT);
    cr_assert_not_null(strstr(fault.reason, "log is gone"));
}

/* ---- refused ---- */

Test(data_dir, a_foreign_directory_is_refused_and_not_touched)
{
    cr_assert_eq(mkdir(path, 0700), 0);
    write_text("thesis.tex", "years of work");
    cr_assert_eq(try_open(ADDRESS), TL_ERR_FOREIGN);
    cr_assert_not_null(strstr(fault.reason, "thesis.tex"));
    cr_assert_neq(access(in_dir("lock"), F_OK), 0);
    cr_assert_neq(access(in_dir("identity"), F_OK), 0);
}

Test(data_dir, another_nodes_directory_is_refused)
{
    open_dir();
    make_log();
    (void)close_dir();
    cr_assert_eq(try_open("10.0.0.2:7001"), TL_ERR_FOREIGN);
    cr_assert_not_null(strstr(fault.reason, ADDRESS));
    cr_assert_not_null(strstr(fault.reason, "10.0.0.2:7001"));
}

Test(data_dir, a_file_in_its_place_is_refused)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    (void)fclose(file);
    cr_assert_eq(try_open(ADDRESS), TL_ERR_IO);
    cr_assert_gt(strlen(fault.reason), 0);
}

Test(data_dir, a_path_that_is_too_long_is_refused)
{
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    cr_assert_eq(try_open(ADDRESS), TL_ERR_IO);
    path[0] = '\0';
    cr_assert_eq(try_open(ADDRESS), TL_ERR_IO);
}

Test(data_dir, every_changed_byte_of_the_identity_is_noticed)
{
    open_dir();
    make_log();
    (void)close_dir();
    char text[TEXT_BYTES_MAX];
    size_t count = read_text("identity", text);
    for (size_t i = 0; i < count; i++) {
        char before = text[i];
        text[i] ^= 1;
        write_text("identity", text);
        enum tl_err err = try_open(ADDRESS);
        /* The digit of the format says "newer" first. */
        bool is_format = i == strlen("trilith-identity ");
        cr_assert(err == TL_ERR_CORRUPT || (is_format && err != TL_OK), "byte %zu: %s", i,
                  tl_err_name(err));
        text[i] = before;
    }
    write_text("identity", text);
    open_dir();
}

Test(data_dir, a_cut_or_longer_identity_is_noticed)
{
    open_dir();
    make_log();
    (void)close_dir();
    char text[TEXT_BYTES_MAX];
    size_t count = read_text("identity", text);
    text[count] = '\n';
    text[count + 1] = '\0';
    write_text("identity", text);
    cr_assert_eq(try_open(ADDRESS), TL_ERR_CORRUPT);
    while (count-- > 0) {
        text[count] = '\0';
        write_text("identity", text);
        cr_assert_eq(try_open(ADDRESS), TL_ERR_CORRUPT, "%zu bytes", count);
    }
}

Test(data_dir, a_newer_format_is_refused_as_such)
{
    open_dir();
    (void)close_dir();
    write_text("identity", "trilith-identity 2\nof which we know nothing");
    cr_assert_eq(try_open(ADDRESS), TL_ERR_NEWER_FORMAT);
    cr_assert_not_null(strstr(fault.reason, "newer"));
}

/* ---- lock ---- */

Test(data_dir, is_locked_against_another_process)
{
    open_dir();
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct data_dir *other = NULL;
        enum tl_err err = data_dir_open(path, ADDRESS, true, &other, &fault);
        char pid[32];
        (void)snprintf(pid, sizeof pid, "pid %ld", (long)getppid());
        _exit(err == TL_ERR_IN_USE && strstr(fault.reason, pid) != NULL ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

Test(data_dir, the_lock_ends_with_close)
{
    open_dir();
    struct data_dir *other = NULL;
    cr_assert_eq(data_dir_open(path, ADDRESS, true, &other, &fault), TL_ERR_IN_USE);
    cr_assert_null(other);
    (void)close_dir();
    open_dir();
    data_dir_close(NULL);
}

/* ---- file systems ---- */

Test(data_dir, a_file_system_in_memory_is_refused_unless_allowed)
{
    struct statfs status;
    cr_assert_eq(statfs("/dev/shm", &status), 0);
    cr_assert_eq((uint32_t)status.f_type, TMPFS_MAGIC, "this test needs /dev/shm as tmpfs");
    char shm[] = "/dev/shm/trilith-test-0000000000";
    (void)snprintf(shm, sizeof shm, "/dev/shm/trilith-test-%d", (int)getpid());
    (void)snprintf(path, sizeof path, "%s", shm);
    enum tl_err refused = data_dir_open(path, ADDRESS, false, &dir, &fault);
    enum tl_err allowed = data_dir_open(path, ADDRESS, true, &dir, NULL);
    tmpdir_destroy(shm);
    cr_assert_eq(refused, TL_ERR_IO);
    cr_assert_not_null(strstr(fault.reason, "tmpfs"));
    cr_assert_eq(allowed, TL_OK);
}

Test(data_dir, a_file_system_whose_flush_reaches_no_device_of_this_machine_is_refused)
{
    static const struct {
        uint32_t type;
        const char *name;
    } refused[] = {
        {0x01021994, "tmpfs"},     {0x858458f6, "ramfs"},    {0x794c7630, "overlay"},
        {0x61756673, "aufs"},      {0x65735546, "FUSE"},     {0x65735546, "virtiofs"},
        {0x6a656a63, "fakeowner"}, {0x01021997, "9p"},       {0x00c0ffee, "hostfs"},
        {0x786f4256, "vboxsf"},    {0xbacbacbc, "vmhgfs"},   {0x7c7c6673, "prl_fs"},
        {0x6969, "NFS"},           {0x517b, "SMB"},          {0xff534d42, "CIFS"},
        {0xfe534d42, "SMB2"},      {0x564c, "NCP"},          {0x5346414f, "AFS"},
        {0x6b414653, "AFS"},       {0x73757245, "Coda"},     {0x00c36400, "Ceph"},
        {0x0bd00bd0, "Lustre"},    {0x19830326, "BeeGFS"},   {0x47504653, "GPFS"},
        {0xaad7aaea, "PanFS"},     {0x20030528, "OrangeFS"}, {0x01161970, "GFS2"},
        {0x7461636f, "OCFS2"},
    };
    for (size_t i = 0; i < TL_COUNT_OF(refused); i++) {
        sys_fault_statfs_type(refused[i].type);
        enum tl_err err = data_dir_open(path, ADDRESS, false, &dir, &fault);
        cr_assert_eq(err, TL_ERR_IO, "%s", refused[i].name);
        cr_assert_not_null(strstr(fault.reason, refused[i].name), "%s: %s", refused[i].name,
                           fault.reason);
        cr_assert_neq(access(in_dir("lock"), F_OK), 0, "%s", refused[i].name);
        cr_assert_eq(data_dir_open(path, ADDRESS, true, &dir, &fault), TL_OK);
        cr_assert_eq(data_dir_unknown_fs(dir), 0, "it was not asked for");
        (void)close_dir();
        tmpdir_destroy(path);
    }
}

Test(data_dir, a_file_system_that_is_not_known_is_taken_and_told)
{
    static const uint32_t known[] = {0xef53,     0x58465342, 0x9123683e, 0xf2f52010, 0x2fc12fc1,
                                     0xca451a4e, 0x3153464a, 0x3434,     0x52654973};
    for (size_t i = 0; i < TL_COUNT_OF(known); i++) {
        sys_fault_statfs_type(known[i]);
        cr_assert_eq(data_dir_open(path, ADDRESS, false, &dir, &fault), TL_OK);
        cr_assert_eq(data_dir_unknown_fs(dir), 0, "%08x", known[i]);
        (void)close_dir();
    }
    sys_fault_statfs_type(0xfedcba98u);
    cr_assert_eq(data_dir_open(path, ADDRESS, false, &dir, &fault), TL_OK);
    cr_assert_eq(data_dir_unknown_fs(dir), 0xfedcba98u);
}

/* ---- sub-directories ---- */

Test(data_dir, sub_directories_are_made_once_and_durably)
{
    open_dir();
    char sub[PATH_MAX];
    sys_fault_arm(0, 0);
    cr_assert_eq(data_dir_sub(dir, "kv.1.1", sub, sizeof sub, &fault), TL_OK);
    cr_assert_str_eq(sys_fault_trace(), "mkdir fsync ");
    cr_assert_str_eq(sub, in_dir("kv.1.1"));
    write_text("kv.1.1/file", "content");
    cr_assert_eq(data_dir_sub(dir, "kv.1.1", sub, sizeof sub, &fault), TL_OK);
    cr_assert_eq(access(in_dir("kv.1.1/file"), F_OK), 0);
}

Test(data_dir, a_sub_directory_without_room_for_its_path_is_refused)
{
    open_dir();
    char sub[8];
    cr_assert_eq(data_dir_sub(dir, "log", sub, sizeof sub, &fault), TL_ERR_IO);
}

Test(data_dir, a_sub_directory_elsewhere_stops_the_process, .signal = SIGABRT)
{
    open_dir();
    char sub[PATH_MAX];
    tmpdir_destroy(parent); /* nobody else will: the process ends here */
    (void)!data_dir_sub(dir, "../log", sub, sizeof sub, &fault);
}

/* ---- tables ---- */

static void make_table(raft_group group, uint64_t number)
{
    char table_path[PATH_MAX];
    const struct data_dir_table table = {.group = group, .number = number};
    enum tl_err err = data_dir_table_make(dir, table, table_path, sizeof table_path, &fault);
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
}

Test(data_dir, tables_are_named_by_group_and_number)
{
    open_dir();
    char made[PATH_MAX];
    char named[PATH_MAX];
    const struct data_dir_table table = {.group = 12, .number = UINT64_MAX};
    cr_assert_eq(data_dir_table_path(dir, table, named, sizeof named, &fault), TL_OK);
    cr_assert_neq(access(named, F_OK), 0, "the path alone makes nothing");
    cr_assert_eq(data_dir_table_make(dir, table, made, sizeof made, &fault), TL_OK);
    cr_assert_str_eq(made, named);
    cr_assert_str_eq(made, in_dir("kv.12.18446744073709551615"));
    cr_assert_eq(access(named, F_OK), 0);
    cr_assert_eq(data_dir_table_path(dir, table, named, 8, &fault), TL_ERR_IO);
}

Test(data_dir, tables_are_listed)
{
    open_dir();
    make_table(1, 0);
    make_table(1, 1);
    make_table(2, 10);
    static const char *const others[] = {"kv.1", "kv.1.x", "kv.01.1", "kv.1.1.old", "kv.-1.2"};
    for (size_t i = 0; i < TL_COUNT_OF(others); i++) {
        cr_assert_eq(mkdir(in_dir(others[i]), 0700), 0);
    }
    struct data_dir_table tables[8];
    uint32_t count;
    cr_assert_eq(data_dir_tables(dir, tables, 8, &count, &fault), TL_OK);
    cr_assert_eq(count, 3);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += 100 * tables[i].group + tables[i].number;
    cr_assert_eq(sum, 411);
    cr_assert_eq(data_dir_tables(dir, tables, 1, &count, &fault), TL_OK);
    cr_assert_eq(count, 3, "of all");
}

Test(data_dir, tables_that_are_not_kept_are_deleted)
{
    open_dir();
    make_log();
    make_table(1, 0);
    write_text("kv.1.0/data.mdb", "replaced");
    make_table(1, 1);
    write_text("kv.1.1/data.mdb", "in use");
    make_table(1, 2);
    write_text("kv.1.2/stage.mdb", "half a snapshot");
    make_table(2, 0);
    cr_assert_eq(mkdir(in_dir("kv.1.1.old"), 0700), 0);
    const struct data_dir_table kept[] = {{.group = 1, .number = 1}, {.group = 7, .number = 0}};
    uint32_t deleted_count;
    enum tl_err err = data_dir_keep_tables(dir, kept, TL_COUNT_OF(kept), &deleted_count, &fault);
    cr_assert_eq(err, TL_OK, "%s", fault.reason);
    cr_assert_eq(deleted_count, 3);
    cr_assert_eq(access(in_dir("kv.1.1/data.mdb"), F_OK), 0);
    cr_assert_eq(access(in_dir("kv.1.1.old"), F_OK), 0, "no table of ours");
    cr_assert_eq(access(in_dir("log/data.mdb"), F_OK), 0);
    cr_assert_neq(access(in_dir("kv.1.0"), F_OK), 0);
    cr_assert_neq(access(in_dir("kv.1.2"), F_OK), 0);
    cr_assert_neq(access(in_dir("kv.2.0"), F_OK), 0);
}

/* ---- looking ---- */

static enum tl_err try_look(void)
{
    return data_dir_open_to_inspect(path, &dir, &fault);
}

Test(data_dir, a_directory_of_any_address_can_be_looked_at)
{
    open_dir();
    make_log();
    struct store_id id = close_dir();
    cr_assert_eq(try_look(), TL_OK, "%s", fault.reason);
    cr_assert(store_id_equal(data_dir_store_id(dir), &id));
    cr_assert_str_eq(data_dir_address(dir), ADDRESS);
    cr_assert_str_eq(data_dir_path(dir), path);
}

Test(data_dir, a_directory_in_use_is_not_looked_at)
{
    open_dir();
    struct data_dir *user = TL_TAKE(&dir);
    cr_assert_eq(try_look(), TL_ERR_IN_USE);
    data_dir_close(user);
    cr_assert_eq(try_look(), TL_OK);
    struct data_dir *looker = TL_TAKE(&dir);
    cr_assert_eq(try_open(ADDRESS), TL_ERR_IN_USE, "nor is one used that is looked at");
    data_dir_close(looker);
}

Test(data_dir, looking_makes_nothing)
{
    cr_assert_eq(try_look(), TL_ERR_NOT_FOUND);
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_assert_eq(try_look(), TL_ERR_FOREIGN);
    cr_assert_neq(access(in_dir("lock"), F_OK), 0);
    write_text("thesis.tex", "years of work");
    cr_assert_eq(try_look(), TL_ERR_FOREIGN);
    cr_assert_neq(access(in_dir("lock"), F_OK), 0);
}

Test(data_dir, a_file_is_not_ours_to_look_at)
{
    cr_assert_eq(mkdir(path, 0700), 0);
    write_text("thesis.tex", "years of work");
    (void)snprintf(path, sizeof path, "%s/data/thesis.tex", parent);
    cr_assert_eq(try_look(), TL_ERR_FOREIGN);
    (void)snprintf(path, sizeof path, "%s/data/thesis.tex/data", parent);
    cr_assert_eq(try_look(), TL_ERR_NOT_FOUND);
}

Test(data_dir, a_damaged_identity_is_told_by_looking_too)
{
    open_dir();
    (void)close_dir();
    write_text("identity", "trilith-identity 1\nstore_id ?\n");
    cr_assert_eq(try_look(), TL_ERR_CORRUPT);
    cr_assert_null(dir);
}

/* ---- every system call fails once ---- */

static uint32_t sweep_open(bool is_born)
{
    for (uint32_t n = 1;; n++) {
        teardown();
        setup();
        struct store_id id = {{0}};
        if (is_born) {
            open_dir();
            make_log();
            id = close_dir();
        }
        sys_fault_arm(n, EIO);
        enum tl_err err = data_dir_open(path, ADDRESS, false, &dir, &fault);
        bool has_fired = sys_fault_disarm();
        cr_assert_eq(err, has_fired ? TL_ERR_IO : TL_OK, "fault %u in %s", n, sys_fault_call());
        if (!has_fired) {
            return n - 1;
        }
        cr_assert_null(dir);
        cr_assert_gt(strlen(fault.reason), 0, "fault %u in %s", n, sys_fault_call());
        open_dir();
        if (is_born) cr_assert(store_id_equal(data_dir_store_id(dir), &id), "fault %u", n);
    }
}

Test(data_dir, a_failed_start_can_be_done_again)
{
    struct statfs status;
    cr_assert_eq(statfs(".", &status), 0);
    cr_assert_geq(sweep_open(false), 15);
    cr_assert_geq(sweep_open(true), 7);
}

Test(data_dir, a_full_disk_is_told_as_such)
{
    sys_fault_arm_short_write(); /* of the process id in the lock file */
    enum tl_err err = try_open(ADDRESS);
    cr_assert(sys_fault_disarm());
    cr_assert_eq(err, TL_ERR_NO_SPACE);
    open_dir();
}

/* ---- the mark of a directory that has diverged ---- */

Test(data_dir, a_mark_stays_and_is_read_back)
{
    raft_group group = 9;
    raft_index index = 9;
    open_dir();
    make_log();
    cr_assert_eq(data_dir_diverged(dir, &group, &index, &fault), TL_ERR_NOT_FOUND);
    cr_assert_eq(data_dir_mark_diverged(dir, 1, 512, &fault), TL_OK);
    (void)close_dir();
    open_dir();
    cr_assert_eq(data_dir_diverged(dir, &group, &index, &fault), TL_OK);
    cr_assert_eq(group, 1);
    cr_assert_eq(index, 512);
}

Test(data_dir, a_refusal_stays)
{
    open_dir();
    make_log();
    cr_assert_eq(data_dir_refused(dir, &fault), TL_ERR_NOT_FOUND);
    cr_assert_eq(data_dir_mark_refused(dir, &fault), TL_OK);
    (void)close_dir();
    open_dir();
    cr_assert_eq(data_dir_refused(dir, &fault), TL_OK);
    raft_group group;
    raft_index index;
    cr_assert_eq(data_dir_diverged(dir, &group, &index, &fault), TL_ERR_NOT_FOUND);
}

Test(data_dir, a_mark_that_was_cut_short_is_one)
{
    open_dir();
    char name[PATH_MAX + 16];
    (void)snprintf(name, sizeof name, "%s/diverged", path);
    int fd = open(name, O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    (void)close(fd);
    raft_group group = 9;
    raft_index index = 9;
    cr_assert_eq(data_dir_diverged(dir, &group, &index, &fault), TL_OK);
    cr_assert_eq(index, 0);
}

Test(data_dir, a_mark_that_is_not_durable_is_an_error)
{
    open_dir();
    for (uint32_t n = 1; n <= 3; n++) {
        sys_fault_arm(n, EIO);
        enum tl_err err = data_dir_mark_diverged(dir, 1, 512, &fault);
        cr_assert(sys_fault_disarm(), "call %u", n);
        cr_assert_eq(err, TL_ERR_IO, "fault %u in %s", n, sys_fault_call());
    }
}

Test(data_dir, a_deleted_directory_is_not_taken_for_a_full_disk)
{
    open_dir();
    cr_assert_gt(data_dir_free_bytes(dir), 0);
    cr_assert_eq(unlink(in_dir("lock")), 0);
    cr_assert_eq(unlink(in_dir("identity")), 0);
    cr_assert_eq(rmdir(path), 0);
    cr_assert_gt(data_dir_free_bytes(dir), 0);
}

/* The store that differed is gone, and its log and tables with it. */
Test(data_dir, a_new_identity_has_no_mark)
{
    raft_group group = 9;
    raft_index index = 9;
    open_dir();
    make_log();
    cr_assert_eq(data_dir_mark_diverged(dir, 1, 512, &fault), TL_OK);
    cr_assert_eq(data_dir_mark_refused(dir, &fault), TL_OK);
    (void)close_dir();
    cr_assert_eq(unlink(in_dir("log/data.mdb")), 0);
    open_dir();
    cr_assert(data_dir_is_new(dir));
    cr_assert_eq(data_dir_diverged(dir, &group, &index, &fault), TL_ERR_NOT_FOUND);
    cr_assert_eq(data_dir_refused(dir, &fault), TL_ERR_NOT_FOUND);
}

Test(data_dir, a_mark_that_cannot_be_looked_for_is_not_taken_for_none)
{
    raft_group group = 9;
    raft_index index = 9;
    open_dir();
    cr_assert_eq(symlink("diverged", in_dir("diverged")), 0); /* leads to itself */
    cr_assert_eq(data_dir_diverged(dir, &group, &index, &fault), TL_ERR_IO);
    cr_assert_not_null(strstr(fault.reason, "diverged"));
}
