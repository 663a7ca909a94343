/* log_store_commit.c - the one way to change the log env: all ops in one flushed transaction.
 *
 * Every step works on `pending` states; they become `durable` after mdb_txn_commit() has said so.
 * Any error latches the store: a failed commit may still be on disk (the new meta page can have
 * reached it), and LMDB itself would let the next transaction begin as if nothing had happened.
 *
 * Truncation takes from the end, retention from the front, both by deleting what the cursor finds
 * at that end: no key is computed, so a hole is seen instead of skipped.
 */

#include "log_store_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "lmdb_env.h"
#include "trilith/codec.h"
#include "trilith/crash_point.h"

/* Deleting one record frees its overflow pages, and leaf and branch pages by merging. */
#define FREED_TREE_PAGES_MAX 4u

enum tl_err log_commit_corrupt(const struct log_commit *commit, raft_index index,
                               const char *reason)
{
    return log_store_corrupt(commit->store, commit->group->group, index, reason, commit->fault);
}

enum tl_err log_commit_fail(const struct log_commit *commit, int rc, const char *call,
                            raft_index index)
{
    raft_group group = commit->group == NULL ? UINT32_MAX : commit->group->group;
    return log_store_fail(commit->store, rc, call, group, index, commit->fault);
}

/* The caller's promises about one op, in the state the ops before it have made. */
static void check_op(const struct log_state *state, const struct log_op *op)
{
    if (op->install != NULL) {
        TL_ASSERT(op->truncate_from == 0);
        TL_ASSERT(op->entries_count == 0);
        TL_ASSERT(op->deletable == 0);
        /* Never back behind what is committed (etcd-io/etcd#15271). */
        TL_ASSERT(op->install->base.index > state->base.index);
        TL_ASSERT(op->install->base.index > state->hard_state.commit);
        TL_ASSERT(op->install->table_number > state->table_number);
        TL_ASSERT(op->install->conf.count > 0);
        return;
    }
    raft_index last_index = state->last_index;
    if (op->truncate_from > 0) {
        TL_ASSERT(op->truncate_from > state->base.index);
        /* Committed entries are never taken back (thesis 3.6.2): another node has broken safety,
         * or this one has a bug. */
        TL_ASSERT(op->truncate_from > state->hard_state.commit);
        last_index = TL_MIN(last_index, op->truncate_from - 1);
    }
    for (uint32_t i = 0; i < op->entries_count; i++) {
        TL_ASSERT(op->entries[i] != NULL);
    }
    last_index += op->entries_count;
    if (op->hard_state != NULL) {
        TL_ASSERT(op->hard_state->term >= state->hard_state.term);
        TL_ASSERT(op->hard_state->commit <= last_index);
    }
    TL_ASSERT(op->deletable <= last_index);
}

enum tl_err log_commit_put_hard_state(const struct log_commit *commit,
                                      const struct raft_hard_state *hard_state)
{
    raft_group group = commit->group->group;
    uint8_t bytes[LOG_HARD_STATE_BYTES];
    log_hard_state_encode(group, hard_state, bytes);
    MDB_val key = {.mv_size = sizeof group, .mv_data = &group};
    MDB_val value = {.mv_size = sizeof bytes, .mv_data = bytes};
    int rc = mdb_put(commit->txn, commit->store->dbi_hard_state, &key, &value, 0);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "writing the hard state", 0);
    }
    commit->group->pending.hard_state = *hard_state;
    return TL_OK;
}

enum tl_err log_commit_put_base(const struct log_commit *commit, const struct raft_base *base)
{
    raft_group group = commit->group->group;
    uint8_t bytes[LOG_BASE_BYTES];
    log_base_encode(group, base, bytes);
    MDB_val key = {.mv_size = sizeof group, .mv_data = &group};
    MDB_val value = {.mv_size = sizeof bytes, .mv_data = bytes};
    int rc = mdb_put(commit->txn, commit->store->dbi_base, &key, &value, 0);
    return rc == MDB_SUCCESS ? TL_OK : log_commit_fail(commit, rc, "writing the base", base->index);
}

/* Makes log.<group>, its hard state and its base: they exist together from here on. */
static enum tl_err create_group(struct log_commit *commit, raft_group group)
{
    struct log_store *store = commit->store;
    TL_ASSERT(store->pending_groups_count < LOG_STORE_GROUPS_MAX);
    struct log_group *slot = &store->groups[store->pending_groups_count];
    *slot = (struct log_group){.group = group};
    commit->group = slot;

    char name[32];
    (void)snprintf(name, sizeof name, LOG_STORE_NAME_LOG_PREFIX "%" PRIu32, group);
    int rc = mdb_dbi_open(commit->txn, name, MDB_CREATE | MDB_INTEGERKEY, &slot->dbi);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "creating the log of a group", 0);
    }
    store->pending_groups_count++;
    const struct raft_hard_state hard_state = {.term = 0};
    const struct raft_base base = {.index = 0};
    enum tl_err err = log_commit_put_hard_state(commit, &hard_state);
    if (err == TL_OK) err = log_commit_put_base(commit, &base);
    return err;
}

static enum tl_err find_group(struct log_commit *commit, raft_group group)
{
    struct log_store *store = commit->store;
    for (uint32_t i = 0; i < store->pending_groups_count; i++) {
        if (store->groups[i].group == group) {
            commit->group = &store->groups[i];
            return TL_OK;
        }
    }
    return create_group(commit, group);
}

/* Brings the count of used pages up to date with the group's database. */
enum tl_err log_commit_count_pages(const struct log_commit *commit)
{
    struct log_state *state = &commit->group->pending;
    MDB_stat stat;
    int rc = mdb_stat(commit->txn, commit->group->dbi, &stat);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "mdb_stat", 0);
    }
    uint64_t pages_count = stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    commit->store->pages_count += pages_count - state->pages_count;
    state->pages_count = pages_count;
    return TL_OK;
}

/* ---- configurations ---- */

enum tl_err log_commit_put_conf(const struct log_commit *commit, raft_index index,
                                struct bytes payload)
{
    struct log_state *state = &commit->group->pending;
    uint8_t key_bytes[LOG_CONF_KEY_BYTES];
    log_conf_key_encode(commit->group->group, index, key_bytes);

    MDB_val key = {.mv_size = sizeof key_bytes, .mv_data = key_bytes};
    MDB_val value = {.mv_size = LOG_CONF_HEADER_BYTES + payload.count};
    int rc =
        mdb_put(commit->txn, commit->store->dbi_conf, &key, &value, MDB_RESERVE | MDB_NOOVERWRITE);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "writing a configuration", index);
    }
    put_u64(value.mv_data, log_conf_checksum(key_bytes, payload));
    if (payload.count > 0) {
        memcpy((uint8_t *)value.mv_data + LOG_CONF_HEADER_BYTES, payload.data, payload.count);
    }
    state->conf_index = index;
    state->confs_count++;
    return TL_OK;
}

/* The index of the newest configuration <= `index`, on which the cursor then stands; 0: none. */
static enum tl_err seek_conf(const struct log_commit *commit, MDB_cursor *cursor, raft_index index,
                             raft_index *out_index)
{
    MDB_val key;
    MDB_val value;
    int rc = log_conf_seek(cursor, commit->group->group, index, &key, &value);
    if (rc == MDB_NOTFOUND) {
        *out_index = 0;
        return TL_OK;
    }
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "reading the configurations", index);
    }
    raft_group group;
    bool is_key = log_conf_key_decode(log_val_bytes(&key), &group, out_index);
    TL_ASSERT(is_key); /* log_conf_seek() has decoded it */
    return TL_OK;
}

static enum tl_err delete_conf(const struct log_commit *commit, MDB_cursor *cursor,
                               raft_index index)
{
    struct log_state *state = &commit->group->pending;
    int rc = mdb_cursor_del(cursor, 0);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "deleting a configuration", index);
    }
    if (state->confs_count == 0) {
        return log_commit_corrupt(commit, index, "there are more configurations than at the start");
    }
    state->confs_count--;
    return TL_OK;
}

/* Truncation: what was in force before is the newest again. */
static enum tl_err truncate_confs(const struct log_commit *commit, MDB_cursor *cursor,
                                  raft_index truncate_from)
{
    struct log_state *state = &commit->group->pending;
    for (;;) {
        raft_index index;
        enum tl_err err = seek_conf(commit, cursor, UINT64_MAX, &index);
        if (err == TL_OK && index >= truncate_from) err = delete_conf(commit, cursor, index);
        if (err != TL_OK) {
            return err;
        }
        if (index < truncate_from) {
            state->conf_index = index;
            return TL_OK;
        }
    }
}

/* Retention: only the configuration in force at the base is needed of those at or below it. */
static enum tl_err delete_old_confs(const struct log_commit *commit, MDB_cursor *cursor,
                                    raft_index base_index)
{
    raft_index kept;
    enum tl_err err = seek_conf(commit, cursor, base_index, &kept);
    while (err == TL_OK && kept > 0) {
        raft_index index;
        err = seek_conf(commit, cursor, kept - 1, &index);
        if (err != TL_OK || index == 0) {
            return err;
        }
        err = delete_conf(commit, cursor, index);
    }
    return err;
}

static enum tl_err with_conf_cursor(const struct log_commit *commit, raft_index index,
                                    enum tl_err (*work)(const struct log_commit *, MDB_cursor *,
                                                        raft_index))
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(commit->txn, commit->store->dbi_conf, &cursor);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "mdb_cursor_open", index);
    }
    enum tl_err err = work(commit, cursor, index);
    mdb_cursor_close(cursor);
    return err;
}

enum tl_err log_commit_clear_confs(const struct log_commit *commit)
{
    return with_conf_cursor(commit, 1, truncate_confs);
}

/* ---- entries ---- */

/* The hash and term the log ends with, read back after a truncation. */
static enum tl_err reload_last(const struct log_commit *commit)
{
    struct log_state *state = &commit->group->pending;
    if (state->last_index == state->base.index) {
        state->last_term = state->base.term;
        state->last_hash = state->base.hash;
        return TL_OK;
    }
    struct bytes record;
    struct entry_header header;
    enum tl_err err = log_entry_get(commit->store, commit->txn, commit->group, state->last_index,
                                    &record, &header, commit->fault);
    if (err != TL_OK) {
        return err;
    }
    state->last_term = header.term;
    state->last_hash = header.hash;
    return TL_OK;
}

static enum tl_err truncate_log(const struct log_commit *commit, raft_index truncate_from)
{
    struct log_state *state = &commit->group->pending;
    if (truncate_from > state->last_index) {
        return TL_OK;
    }
    while (state->last_index >= truncate_from) {
        MDB_val key;
        raft_index index;
        int rc = mdb_cursor_get(commit->cursor, &key, NULL, MDB_LAST);
        if (rc != MDB_SUCCESS) {
            return log_commit_fail(commit, rc, "reading the log's end", state->last_index);
        }
        if (!log_key_index(&key, &index) || index != state->last_index) {
            return log_commit_corrupt(commit, state->last_index,
                                      "the log's last key is not its last index");
        }
        rc = mdb_cursor_del(commit->cursor, 0);
        if (rc != MDB_SUCCESS) {
            return log_commit_fail(commit, rc, "truncating the log", index);
        }
        state->last_index--;
    }
    enum tl_err err = TL_OK;
    if (state->conf_index >= truncate_from) {
        err = with_conf_cursor(commit, truncate_from, truncate_confs);
    }
    return err == TL_OK ? reload_last(commit) : err;
}

enum tl_err log_commit_append(const struct log_commit *commit, const struct buf *entry)
{
    struct log_state *state = &commit->group->pending;
    struct bytes bytes = buf_bytes(entry);
    struct entry_header header;
    enum tl_err decoded = entry_decode(bytes, &header);
    TL_ASSERT(decoded == TL_OK);
    TL_ASSERT(header.group == commit->group->group);
    TL_ASSERT(header.index == state->last_index + 1);
    TL_ASSERT(header.term >= state->last_term);
    /* The pair of the check at reading. It costs 40 ns of the 4 us an entry takes, and finds bytes
     * that changed on their way between two threads before they are promised to peers. */
    TL_ASSERT(entry_hash_is_right(bytes, state->last_hash));

    raft_index index = header.index;
    MDB_val key = {.mv_size = sizeof index, .mv_data = &index};
    MDB_val value = {.mv_size = bytes.count, .mv_data = (void *)bytes.data}; /* not written to */
    int rc = mdb_cursor_put(commit->cursor, &key, &value, MDB_APPEND);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "appending to the log", index);
    }
    state->last_index = index;
    state->last_term = header.term;
    state->last_hash = header.hash;
    bool is_conf = header.type == ENTRY_GENESIS || header.type == ENTRY_CONF;
    return is_conf ? log_commit_put_conf(commit, index, entry_payload(entry)) : TL_OK;
}

/* ---- retention ---- */

/* Saturating: a retention of "everything" stays that. */
static uint64_t retain_bytes_for(const struct log_store *store, const struct log_op *op,
                                 raft_index index)
{
    bool is_needed = op->keep_from > 0 && index >= op->keep_from;
    uint64_t factor = is_needed ? LOG_RETAIN_TRANSFER_FACTOR : 1;
    bool fits = store->retain_bytes <= UINT64_MAX / 2 / factor;
    return fits ? store->retain_bytes * factor : UINT64_MAX / 2;
}

static bool has_room_to_delete(const struct log_store *store, uint64_t retain_bytes,
                               size_t record_bytes)
{
    uint64_t freed_bytes_max =
        (uint64_t)record_bytes + (uint64_t)FREED_TREE_PAGES_MAX * store->page_bytes;
    return store->pages_count * store->page_bytes >= retain_bytes + freed_bytes_max;
}

/* Deletes the first record, if the retention allows it, and moves the base on to it. It is checked
 * first: a record that is damaged is reported, never thrown away. */
static enum tl_err delete_first(const struct log_commit *commit, const struct log_op *op,
                                bool *out_deleted)
{
    struct log_state *state = &commit->group->pending;
    raft_index index = state->base.index + 1;
    MDB_val key;
    MDB_val value;
    raft_index found;
    int rc = mdb_cursor_get(commit->cursor, &key, &value, MDB_FIRST);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "reading the log's begin", index);
    }
    if (!log_key_index(&key, &found) || found != index) {
        return log_commit_corrupt(commit, index, "the log does not begin right behind its base");
    }
    uint64_t retain_bytes = retain_bytes_for(commit->store, op, index);
    *out_deleted = has_room_to_delete(commit->store, retain_bytes, value.mv_size);
    if (!*out_deleted) {
        return TL_OK;
    }
    struct entry_header header;
    enum tl_err err =
        log_entry_check_chain(commit->store, commit->group->group, index, log_val_bytes(&value),
                              state->base.hash, &header, commit->fault);
    if (err != TL_OK) {
        return err;
    }
    rc = mdb_cursor_del(commit->cursor, 0);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(commit, rc, "deleting an old entry", index);
    }
    state->base = (struct raft_base){
        .index = index, .term = header.term, .hash = header.hash, .time_us = header.time_us};
    return log_commit_count_pages(commit);
}

static enum tl_err delete_old(const struct log_commit *commit, struct log_op *op)
{
    struct log_state *state = &commit->group->pending;
    uint64_t left_count = (uint64_t)op->entries_count + LOG_DELETE_EXTRA;
    raft_index base_index_before = state->base.index;
    bool deleted = true;
    while (deleted && left_count > 0 && state->base.index < op->deletable) {
        enum tl_err err = delete_first(commit, op, &deleted);
        if (err != TL_OK) {
            return err;
        }
        left_count--;
    }
    if (state->base.index == base_index_before) {
        return TL_OK;
    }
    op->out_base = state->base; /* out_has_base follows once it is durable */
    enum tl_err err = log_commit_put_base(commit, &state->base);
    if (err == TL_OK && state->confs_count > 1) {
        err = with_conf_cursor(commit, state->base.index, delete_old_confs);
    }
    return err;
}

/* ---- the transaction ---- */

static enum tl_err change_log(struct log_commit *commit, struct log_op *op)
{
    enum tl_err err = TL_OK;
    if (op->truncate_from > 0) err = truncate_log(commit, op->truncate_from);
    for (uint32_t i = 0; i < op->entries_count && err == TL_OK; i++) {
        err = log_commit_append(commit, op->entries[i]);
    }
    if (err == TL_OK) err = log_commit_count_pages(commit);
    if (err == TL_OK) err = delete_old(commit, op);
    return err;
}

static enum tl_err apply_op(struct log_commit *commit, struct log_op *op)
{
    op->out_has_base = false;
    op->out_base = (struct raft_base){.index = 0};
    enum tl_err err = find_group(commit, op->group);
    if (err != TL_OK) {
        return err;
    }
    check_op(&commit->group->pending, op);
    if (op->install != NULL) {
        return log_commit_install(commit, op);
    }
    if (op->truncate_from > 0 || op->entries_count > 0 || op->deletable > 0) {
        int rc = mdb_cursor_open(commit->txn, commit->group->dbi, &commit->cursor);
        if (rc != MDB_SUCCESS) {
            return log_commit_fail(commit, rc, "mdb_cursor_open", 0);
        }
        err = change_log(commit, op);
        mdb_cursor_close(commit->cursor);
        commit->cursor = NULL;
    }
    if (err == TL_OK && op->hard_state != NULL)
        err = log_commit_put_hard_state(commit, op->hard_state);
    if (err == TL_OK) {
        TL_ASSERT(commit->group->pending.hard_state.term >= commit->group->pending.last_term);
    }
    return err;
}

/* Whether a configuration is among the entries of the op, which has just been applied. */
static bool has_new_conf(const struct log_group *group, const struct log_op *op)
{
    return op->entries_count > 0 && group->pending.conf_index >= entry_index(op->entries[0]);
}

static enum tl_err write_ops(struct log_store *store, struct log_op *ops, uint32_t ops_count,
                             struct tl_fault *fault)
{
    struct log_commit commit = {.store = store, .fault = fault};
    int rc = mdb_txn_begin(store->env, NULL, 0, &commit.txn);
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(&commit, rc, "mdb_txn_begin", 0);
    }
    enum tl_err err = TL_OK;
    bool has_conf = false;
    for (uint32_t i = 0; i < ops_count && err == TL_OK; i++) {
        err = apply_op(&commit, &ops[i]);
        has_conf = has_conf || (err == TL_OK && has_new_conf(commit.group, &ops[i]));
    }
    if (err != TL_OK) {
        mdb_txn_abort(commit.txn);
        return err;
    }
    commit.group = NULL;
    bool has_install = false;
    for (uint32_t i = 0; i < ops_count; i++) has_install = has_install || ops[i].install != NULL;
    if (has_install) CRASH_POINT("switch-before-commit");
    if (has_conf) CRASH_POINT("conf-before-commit");
    rc = mdb_txn_commit(commit.txn); /* frees the transaction also when it fails */
    if (has_install) CRASH_POINT("switch-after-commit");
    if (has_conf) CRASH_POINT("conf-after-commit");
    if (rc != MDB_SUCCESS) {
        return log_commit_fail(&commit, rc, "committing to the log", 0);
    }
    return lmdb_env_check_named(store->env, store->path, UINT32_MAX, fault);
}

static enum tl_err latch(struct log_store *store, enum tl_err err, const struct tl_fault *fault,
                         struct tl_fault *out_fault)
{
    store->latched = err;
    store->latched_fault = *fault;
    if (out_fault != NULL) *out_fault = *fault;
    return err;
}

enum tl_err log_store_commit(struct log_store *store, struct log_op *ops, uint32_t ops_count,
                             struct tl_fault *out_fault)
{
    TL_ASSERT(store != NULL);
    TL_ASSERT(ops != NULL);
    TL_ASSERT(ops_count > 0);
    TL_ASSERT(!store->is_read_only);
    if (store->latched != TL_OK) {
        if (out_fault != NULL) *out_fault = store->latched_fault;
        return store->latched;
    }
    log_store_check(store);

    for (uint32_t i = 0; i < store->pending_groups_count; i++) {
        store->groups[i].pending = store->groups[i].durable;
    }
    struct tl_fault fault = {.group = UINT32_MAX};
    enum tl_err err = write_ops(store, ops, ops_count, &fault);
    if (err != TL_OK) {
        return latch(store, err, &fault, out_fault);
    }
    for (uint32_t i = 0; i < store->pending_groups_count; i++) {
        store->groups[i].durable = store->groups[i].pending;
    }
    err = log_store_publish(store, &fault);
    if (err != TL_OK) {
        return latch(store, err, &fault, out_fault);
    }
    for (uint32_t i = 0; i < ops_count; i++) ops[i].out_has_base = ops[i].out_base.index > 0;
    log_store_check(store);
    return TL_OK;
}
