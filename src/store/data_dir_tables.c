/* data_dir_tables.c - which tables' directories there are, and which may go: FORMAT.md 1 and 4. */

#include "trilith/data_dir.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "trilith/table.h"

#define TABLES_MAX 1024u

static enum tl_err fail(const char *path, const char *call, int error, struct tl_fault *fault)
{
    tl_fault_set(fault, path, UINT32_MAX, 0, "%s: %s", call, strerror(error));
    return TL_ERR_IO;
}

static void format_name(struct data_dir_table table, char out_name[64])
{
    (void)snprintf(out_name, 64, "kv.%" PRIu32 ".%" PRIu64, table.group, table.number);
}

/* In its one spelling: what reads like a table's name and is none is not ours to delete. */
static bool parse_name(const char *name, struct data_dir_table *out_table)
{
    char again[64];
    if (sscanf(name, "kv.%" SCNu32 ".%" SCNu64, &out_table->group, &out_table->number) != 2) {
        return false;
    }
    format_name(*out_table, again);
    return strcmp(name, again) == 0;
}

enum tl_err data_dir_table_path(const struct data_dir *dir, struct data_dir_table table,
                                char *out_path, size_t path_bytes, struct tl_fault *out_fault)
{
    char name[64];
    format_name(table, name);
    int count = snprintf(out_path, path_bytes, "%s/%s", data_dir_path(dir), name);
    if (count < 0 || (size_t)count >= path_bytes) {
        tl_fault_set(out_fault, data_dir_path(dir), table.group, 0, "the path is too long");
        return TL_ERR_IO;
    }
    return TL_OK;
}

enum tl_err data_dir_table_make(const struct data_dir *dir, struct data_dir_table table,
                                char *out_path, size_t path_bytes, struct tl_fault *out_fault)
{
    char name[64];
    format_name(table, name);
    return data_dir_sub(dir, name, out_path, path_bytes, out_fault);
}

enum tl_err data_dir_tables(const struct data_dir *dir, struct data_dir_table *out_tables,
                            uint32_t tables_max, uint32_t *out_count, struct tl_fault *out_fault)
{
    const char *path = data_dir_path(dir);
    DIR *stream = opendir(path);
    if (stream == NULL) {
        return fail(path, "opendir", errno, out_fault);
    }
    uint32_t count = 0;
    const struct dirent *entry;
    errno = 0;
    while ((entry = readdir(stream)) != NULL) {
        struct data_dir_table table;
        if (parse_name(entry->d_name, &table)) {
            if (count < tables_max) out_tables[count] = table;
            count++;
        }
        errno = 0;
    }
    int error = errno; /* NULL is both the end and an error */
    (void)closedir(stream);
    if (error != 0) {
        return fail(path, "readdir", error, out_fault);
    }
    *out_count = count;
    return TL_OK;
}

static bool is_listed(struct data_dir_table table, const struct data_dir_table *tables,
                      uint32_t tables_count)
{
    for (uint32_t i = 0; i < tables_count; i++) {
        if (tables[i].group == table.group && tables[i].number == table.number) {
            return true;
        }
    }
    return false;
}

enum tl_err data_dir_keep_tables(const struct data_dir *dir, const struct data_dir_table *tables,
                                 uint32_t tables_count, uint32_t *out_deleted_count,
                                 struct tl_fault *out_fault)
{
    struct data_dir_table found[TABLES_MAX];
    uint32_t found_count;
    uint32_t deleted_count = 0;
    enum tl_err err = data_dir_tables(dir, found, TABLES_MAX, &found_count, out_fault);
    for (uint32_t i = 0; err == TL_OK && i < TL_MIN(found_count, TABLES_MAX); i++) {
        if (is_listed(found[i], tables, tables_count)) {
            continue;
        }
        char path[PATH_MAX];
        err = data_dir_table_path(dir, found[i], path, sizeof path, out_fault);
        if (err == TL_OK) err = table_delete(path, out_fault);
        deleted_count++;
    }
    if (err == TL_OK) *out_deleted_count = deleted_count;
    return err;
}
