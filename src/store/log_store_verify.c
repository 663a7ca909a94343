/* log_store_verify.c - every record of a log, checked; for looking at the log of a stopped node. */

#include "log_store_internal.h"

/* One walk through a group's log. */
struct verify {
    const struct log_store *store;
    raft_group group;
    struct raft_base base;
    raft_index last;
    bool (*on_progress)(void *context, raft_index index, raft_index last);
    void *context;
    struct tl_fault *fault;
};

static enum tl_err corrupt(const struct verify *verify, raft_index index, const char *reason)
{
    return log_store_corrupt(verify->store, verify->group, index, reason, verify->fault);
}

static enum tl_err verify_record(const struct verify *verify, raft_index index, const MDB_val *key,
                                 const MDB_val *value, struct entry_header *previous)
{
    raft_index found;
    if (!log_key_index(key, &found) || found != index) {
        return corrupt(verify, index, "a log record is missing");
    }
    struct entry_header header;
    enum tl_err err =
        log_entry_check_chain(verify->store, verify->group, index, log_val_bytes(value),
                              previous->hash, &header, verify->fault);
    if (err != TL_OK) {
        return err;
    }
    if (header.term < previous->term || header.time_us <= previous->time_us) {
        return corrupt(verify, index,
                       "a log record's term or time is below that of the one before");
    }
    *previous = header;
    return TL_OK;
}

static bool goes_on(const struct verify *verify, raft_index index)
{
    bool is_step = index % LOG_VERIFY_STEP == 0 || index == verify->last;
    return !is_step || verify->on_progress == NULL ||
           verify->on_progress(verify->context, index, verify->last);
}

static enum tl_err verify_records(const struct verify *verify, MDB_cursor *cursor)
{
    struct entry_header previous = {
        .term = verify->base.term, .time_us = verify->base.time_us, .hash = verify->base.hash};
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (raft_index index = verify->base.index + 1; index <= verify->last; index++) {
        if (rc != MDB_SUCCESS) {
            return log_store_fail(verify->store, rc, "reading a log record", verify->group, index,
                                  verify->fault);
        }
        enum tl_err err = verify_record(verify, index, &key, &value, &previous);
        if (err != TL_OK) {
            return err;
        }
        if (!goes_on(verify, index)) {
            return TL_ERR_CANCELED;
        }
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (rc == MDB_SUCCESS) {
        return corrupt(verify, verify->last + 1, "there are records behind the log's end");
    }
    return rc == MDB_NOTFOUND ? TL_OK
                              : log_store_fail(verify->store, rc, "reading the log's end",
                                               verify->group, verify->last, verify->fault);
}

enum tl_err log_verify_run(const struct log_store *store, MDB_txn *txn,
                           const struct log_group *group, const struct raft_base *base,
                           bool (*on_progress)(void *context, raft_index index, raft_index last),
                           void *context, struct tl_fault *fault)
{
    MDB_stat stat;
    MDB_cursor *cursor = NULL;
    int rc = mdb_stat(txn, group->dbi, &stat);
    if (rc == MDB_SUCCESS) rc = mdb_cursor_open(txn, group->dbi, &cursor);
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "mdb_cursor_open", group->group, 0, fault);
    }
    const struct verify verify = {
        .store = store,
        .group = group->group,
        .base = *base,
        .last = base->index + stat.ms_entries,
        .on_progress = on_progress,
        .context = context,
        .fault = fault,
    };
    enum tl_err err = verify_records(&verify, cursor);
    mdb_cursor_close(cursor);
    return err;
}
