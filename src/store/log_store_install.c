/* log_store_install.c - the switch to an installed snapshot, one part of one transaction.
 *
 * The group's log is emptied by dropping its database, which frees pages and reads no record: a
 * prefix of hundreds of thousands of entries would take that many deletions. The suffix that stays
 * is what this node has not committed, at most what the core holds in memory: it is copied out,
 * checked on the way, and appended again.
 */

#include "log_store_internal.h"

#include <stdlib.h>

/* The entries behind the base, while the database is emptied. */
struct suffix {
    struct buf **entries;
    uint64_t entries_count;
};

static void suffix_clear(struct suffix *suffix)
{
    for (uint64_t i = 0; i < suffix->entries_count; i++) buf_release(suffix->entries[i]);
    free(suffix->entries);
}

/* The core says that the log has the base's entry, from its memory; the disk must say so too. */
static enum tl_err check_base_entry(const struct log_commit *commit, const struct raft_base *base)
{
    struct bytes record;
    struct entry_header header;
    enum tl_err err = log_entry_get(commit->store, commit->txn, commit->group, base->index, &record,
                                    &header, commit->fault);
    if (err != TL_OK) {
        return err;
    }
    if (header.term != base->term || !hash_equal(header.hash, base->hash)) {
        return log_commit_corrupt(commit, base->index,
                                  "a log record is not the entry the snapshot ends with");
    }
    return TL_OK;
}

static enum tl_err suffix_load(const struct log_commit *commit, const struct raft_base *base,
                               struct suffix *suffix)
{
    const struct log_state *state = &commit->group->pending;
    TL_ASSERT(base->index <= state->last_index);
    enum tl_err err = check_base_entry(commit, base);
    uint64_t count = state->last_index - base->index;
    suffix->entries = calloc(count + 1, sizeof(struct buf *));
    TL_ASSERT(suffix->entries != NULL);
    struct hash128 hash = base->hash;
    for (raft_index i = base->index + 1; err == TL_OK && i <= state->last_index; i++) {
        struct bytes record;
        struct entry_header header;
        err = log_entry_get(commit->store, commit->txn, commit->group, i, &record, &header,
                            commit->fault);
        if (err == TL_OK) {
            err = log_entry_check_chain(commit->store, commit->group->group, i, record, hash,
                                        &header, commit->fault);
        }
        if (err == TL_OK) {
            hash = header.hash;
            suffix->entries[suffix->entries_count++] = buf_copy(record);
        }
    }
    return err;
}

static enum tl_err empty_log(const struct log_commit *commit, const struct raft_base *base)
{
    struct log_state *state = &commit->group->pending;
    int rc = mdb_drop(commit->txn, commit->group->dbi, 0);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "emptying the log", 0);
    }
    state->base = *base;
    state->last_index = base->index;
    state->last_term = base->term;
    state->last_hash = base->hash;
    return log_commit_put_base(commit, base);
}

static enum tl_err append_suffix(struct log_commit *commit, const struct suffix *suffix)
{
    if (suffix->entries_count == 0) {
        return TL_OK;
    }
    int rc = mdb_cursor_open(commit->txn, commit->group->dbi, &commit->cursor);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "mdb_cursor_open", 0);
    }
    enum tl_err err = TL_OK;
    for (uint64_t i = 0; i < suffix->entries_count && err == TL_OK; i++) {
        err = log_commit_append(commit, suffix->entries[i]);
    }
    mdb_cursor_close(commit->cursor);
    commit->cursor = NULL;
    return err;
}

/* The database comes with the first install of a node: a log env without one needs none. */
static enum tl_err put_active(const struct log_commit *commit, uint64_t table_number)
{
    struct log_store *store = commit->store;
    if (!store->has_active) {
        int rc = mdb_dbi_open(commit->txn, LOG_STORE_NAME_ACTIVE, MDB_CREATE | MDB_INTEGERKEY,
                              &store->dbi_active);
        if (rc != MDB_SUCCESS) {
            return log_commit_fail(commit, rc, "creating a database", 0);
        }
        store->has_active = true; /* if the commit fails, the store is latched */
    }
    raft_group group = commit->group->group;
    uint8_t bytes[LOG_ACTIVE_BYTES];
    log_active_encode(group, table_number, bytes);
    MDB_val key = {.mv_size = sizeof group, .mv_data = &group};
    MDB_val value = {.mv_size = sizeof bytes, .mv_data = bytes};
    int rc = mdb_put(commit->txn, store->dbi_active, &key, &value, 0);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "writing the name of the table", 0);
    }
    commit->group->pending.table_number = table_number;
    return TL_OK;
}

static enum tl_err switch_log(struct log_commit *commit, const struct log_install *install,
                              const struct suffix *suffix)
{
    enum tl_err err = empty_log(commit, &install->base);
    if (err == TL_OK) err = log_commit_clear_confs(commit);
    if (err == TL_OK) err = log_commit_put_conf(commit, install->base.index, install->conf);
    if (err == TL_OK) err = append_suffix(commit, suffix); /* with its configurations */
    if (err == TL_OK) err = log_commit_count_pages(commit);
    if (err == TL_OK) err = put_active(commit, install->table_number);
    return err;
}

enum tl_err log_commit_install(struct log_commit *commit, struct log_op *op)
{
    const struct log_install *install = op->install;
    struct log_state *state = &commit->group->pending;
    struct suffix suffix = {.entries = NULL};
    enum tl_err err = TL_OK;
    if (install->keeps_suffix) err = suffix_load(commit, &install->base, &suffix);
    if (err == TL_OK) err = switch_log(commit, install, &suffix);
    suffix_clear(&suffix);
    if (err != TL_OK) {
        return err;
    }
    struct raft_hard_state hard_state =
        op->hard_state != NULL ? *op->hard_state : state->hard_state;
    hard_state.commit = TL_MAX(hard_state.commit, install->base.index);
    TL_ASSERT(hard_state.term >= state->last_term);
    TL_ASSERT(hard_state.commit <= state->last_index);
    op->out_base = state->base; /* out_has_base follows once it is durable */
    return log_commit_put_hard_state(commit, &hard_state);
}
