/* log_store_read.c - reading entries back: nothing leaves that has not passed its chain hash.
 *
 * A reader keeps one read transaction and renews it for each read, which costs no lock and no
 * allocation. It ends with the call: a transaction that stays open keeps LMDB from reusing freed
 * pages, and the data file grows.
 */

#include "log_store_internal.h"

#include <stdlib.h>

#include "lmdb_env.h"

struct log_reader {
    struct log_store *store; /* outlives the reader */
    MDB_txn *txn;            /* owned; reset between reads */
};

enum tl_err log_reader_create(struct log_store *store, struct log_reader **out_reader)
{
    TL_ASSERT(store != NULL);
    TL_ASSERT(out_reader != NULL);
    struct log_reader *reader = calloc(1, sizeof *reader);
    TL_ASSERT(reader != NULL);
    reader->store = store;
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &reader->txn);
    if (rc != MDB_SUCCESS) {
        free(reader);
        return lmdb_env_error(rc);
    }
    mdb_txn_reset(reader->txn);
    *out_reader = reader;
    return TL_OK;
}

void log_reader_destroy(struct log_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    mdb_txn_abort(reader->txn);
    free(reader);
}

/* One call of log_reader_read(). */
struct read {
    const struct log_store *store;
    MDB_txn *txn;
    const struct log_group *group;
    struct raft_base base;
    raft_index first;
    raft_index last;
    uint32_t entries_max;
    size_t bytes_max;
    struct buf **entries; /* the caller's array */
    uint32_t count;       /* filled so far */
    struct tl_fault *fault;
};

static enum tl_err fail(const struct read *read, int rc, const char *call, raft_index index)
{
    return log_store_fail(read->store, rc, call, read->group->group, index, read->fault);
}

static enum tl_err read_base(struct read *read)
{
    raft_group group = read->group->group;
    MDB_val key = {.mv_size = sizeof group, .mv_data = &group};
    MDB_val value;
    int rc = mdb_get(read->txn, read->store->dbi_base, &key, &value);
    if (rc != MDB_SUCCESS) {
        return fail(read, rc, "reading the base", 0);
    }
    if (log_base_decode(group, log_val_bytes(&value), &read->base) != TL_OK) {
        return log_store_corrupt(read->store, group, 0, "the base fails its checksum", read->fault);
    }
    return TL_OK;
}

/* Clips the range to what is stored; read->first > read->last afterwards: nothing is. */
static enum tl_err clip(struct read *read, MDB_cursor *cursor)
{
    MDB_val key;
    int rc = mdb_cursor_get(cursor, &key, NULL, MDB_LAST);
    if (rc == MDB_NOTFOUND) {
        read->last = 0;
        return TL_OK;
    }
    if (rc != MDB_SUCCESS) {
        return fail(read, rc, "reading the log's end", 0);
    }
    raft_index last;
    if (!log_key_index(&key, &last)) {
        return log_store_corrupt(read->store, read->group->group, 0, "a key of the log is no index",
                                 read->fault);
    }
    read->last = TL_MIN(read->last, last);
    return TL_OK;
}

/* The first record fails behind the one before it, of which only the hash was used so far. If that
 * record fails behind its own predecessor, it is the damaged one: name it. */
static enum tl_err blame_previous(const struct read *read, raft_index index)
{
    struct tl_fault fault;
    struct hash128 hash;
    struct bytes record;
    struct entry_header header;
    if (index == 0 || index <= read->base.index ||
        log_entry_previous_hash(read->store, read->txn, read->group, &read->base, index, &hash,
                                &fault) != TL_OK ||
        log_entry_get(read->store, read->txn, read->group, index, &record, &header, &fault) !=
            TL_OK) {
        return TL_ERR_CORRUPT;
    }
    if (!entry_hash_is_right(record, hash)) {
        return log_store_corrupt(read->store, read->group->group, index,
                                 "a log record fails its chain hash", read->fault);
    }
    return TL_ERR_CORRUPT;
}

static enum tl_err read_entries(struct read *read, MDB_cursor *cursor, struct hash128 hash)
{
    raft_index index = read->first;
    size_t bytes = 0;
    MDB_val key = {.mv_size = sizeof index, .mv_data = &index};
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_KEY);
    for (;;) {
        if (rc != MDB_SUCCESS) {
            return fail(read, rc, "reading a log record", index);
        }
        raft_index found;
        if (!log_key_index(&key, &found) || found != index) {
            return log_store_corrupt(read->store, read->group->group, index,
                                     "a log record is missing", read->fault);
        }
        if (read->count > 0 && bytes + value.mv_size > read->bytes_max) {
            return TL_OK;
        }
        struct entry_header header;
        enum tl_err err = log_entry_check_chain(read->store, read->group->group, index,
                                                log_val_bytes(&value), hash, &header, read->fault);
        if (err != TL_OK) {
            return index == read->first ? blame_previous(read, index - 1) : err;
        }
        hash = header.hash;
        bytes += value.mv_size;
        read->entries[read->count++] = buf_copy(log_val_bytes(&value));
        if (read->count == read->entries_max || index == read->last) {
            return TL_OK;
        }
        index++;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
}

static enum tl_err read_range(struct read *read, MDB_cursor *cursor)
{
    enum tl_err err = clip(read, cursor);
    if (err != TL_OK || read->first > read->last) {
        return err;
    }
    struct hash128 hash;
    err = log_entry_previous_hash(read->store, read->txn, read->group, &read->base, read->first,
                                  &hash, read->fault);
    return err == TL_OK ? read_entries(read, cursor, hash) : err;
}

static enum tl_err read_group(struct read *read)
{
    enum tl_err err = read_base(read);
    if (err != TL_OK) {
        return err;
    }
    if (read->first <= read->base.index) {
        return TL_ERR_COMPACTED;
    }
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(read->txn, read->group->dbi, &cursor);
    if (rc != MDB_SUCCESS) {
        return fail(read, rc, "mdb_cursor_open", 0);
    }
    err = read_range(read, cursor);
    mdb_cursor_close(cursor);
    return err;
}

enum tl_err log_reader_read(struct log_reader *reader, raft_group group, raft_index first,
                            raft_index last, uint32_t entries_max, size_t bytes_max,
                            struct buf **out_entries, uint32_t *out_count,
                            struct tl_fault *out_fault)
{
    TL_ASSERT(reader != NULL);
    TL_ASSERT(first > 0);
    TL_ASSERT(entries_max > 0);
    TL_ASSERT(out_entries != NULL);
    TL_ASSERT(out_count != NULL);

    struct read read = {
        .store = reader->store,
        .txn = reader->txn,
        .group = log_store_find(reader->store, group),
        .first = first,
        .last = last,
        .entries_max = entries_max,
        .bytes_max = bytes_max,
        .entries = out_entries,
        .fault = out_fault,
    };
    if (read.group == NULL) {
        *out_count = 0;
        return TL_OK;
    }
    int rc = mdb_txn_renew(reader->txn);
    if (rc != MDB_SUCCESS) {
        return fail(&read, rc, "mdb_txn_renew", first);
    }
    enum tl_err err = read_group(&read);
    mdb_txn_reset(reader->txn);
    if (err != TL_OK) {
        for (uint32_t i = 0; i < read.count; i++) buf_release(TL_TAKE(&out_entries[i]));
        return err;
    }
    *out_count = read.count;
    return TL_OK;
}

enum tl_err log_reader_verify(struct log_reader *reader, raft_group group,
                              bool (*on_progress)(void *context, raft_index index, raft_index last),
                              void *context, struct tl_fault *out_fault)
{
    struct read read = {
        .store = reader->store,
        .txn = reader->txn,
        .group = log_store_find(reader->store, group),
        .fault = out_fault,
    };
    if (read.group == NULL) {
        return TL_OK;
    }
    int rc = mdb_txn_renew(reader->txn);
    if (rc != MDB_SUCCESS) {
        return fail(&read, rc, "mdb_txn_renew", 0);
    }
    enum tl_err err = read_base(&read);
    if (err == TL_OK) {
        err = log_verify_run(read.store, read.txn, read.group, &read.base, on_progress, context,
                             out_fault);
    }
    mdb_txn_reset(reader->txn);
    return err;
}
