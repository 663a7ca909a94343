/* log_store.c - opening the log env, what is checked then, and what is told to recovery.
 *
 * open:  create the data file if there is none -> look at its metas -> map it -> one read
 *        transaction: format mark, databases, and each group (FORMAT.md 2, "What must hold").
 * The state of each group then lives in memory (log_store_internal.h) and moves with commits only.
 */

#include "log_store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lmdb_env.h"

static void check_state(const struct log_state *state)
{
    TL_ASSERT(state->base.index <= state->last_index);
    TL_ASSERT(state->base.term <= state->last_term);
    TL_ASSERT(state->hard_state.commit <= state->last_index);
    TL_ASSERT(state->hard_state.term >= state->last_term);
    TL_ASSERT(state->conf_index <= state->last_index);
    TL_ASSERT((state->confs_count == 0) == (state->conf_index == 0));
}

void log_store_check(const struct log_store *store)
{
    uint32_t groups_count = atomic_load_explicit(&store->groups_count, memory_order_relaxed);
    TL_ASSERT(groups_count <= LOG_STORE_GROUPS_MAX);
    TL_ASSERT(store->pending_groups_count == groups_count);
    TL_ASSERT(store->page_bytes > 0);
    uint64_t pages_count = 0;
    for (uint32_t i = 0; i < groups_count; i++) {
        check_state(&store->groups[i].durable);
        pages_count += store->groups[i].durable.pages_count;
    }
    TL_ASSERT(store->pages_count == pages_count);
}

struct log_group *log_store_find(struct log_store *store, raft_group group)
{
    uint32_t groups_count = atomic_load_explicit(&store->groups_count, memory_order_acquire);
    for (uint32_t i = 0; i < groups_count; i++) {
        if (store->groups[i].group == group) {
            return &store->groups[i];
        }
    }
    return NULL;
}

enum tl_err log_store_corrupt(const struct log_store *store, raft_group group, raft_index index,
                              const char *reason, struct tl_fault *fault)
{
    tl_fault_set(fault, store->path, group, index, "%s", reason);
    return TL_ERR_CORRUPT;
}

enum tl_err log_store_fail(const struct log_store *store, int rc, const char *call,
                           raft_group group, raft_index index, struct tl_fault *fault)
{
    TL_ASSERT(rc != MDB_SUCCESS);
    if (rc == MDB_NOTFOUND) {
        tl_fault_set(fault, store->path, group, index, "%s: it is missing", call);
        return TL_ERR_CORRUPT;
    }
    enum tl_err err = lmdb_env_fail(rc, call, store->path, group, fault);
    if (fault != NULL) fault->index = index;
    return err;
}

enum tl_err log_store_publish(struct log_store *store, struct tl_fault *fault)
{
    MDB_envinfo info;
    int rc = mdb_env_info(store->env, &info);
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "mdb_env_info", UINT32_MAX, 0, fault);
    }
    uint64_t mapped_bytes = ((uint64_t)info.me_last_pgno + 1) * store->page_bytes;
    atomic_store_explicit(&store->file_bytes, TL_MAX(mapped_bytes, store->file_bytes_at_open),
                          memory_order_relaxed);
    atomic_store_explicit(&store->used_bytes, store->pages_count * store->page_bytes,
                          memory_order_relaxed);
    atomic_store_explicit(&store->groups_count, store->pending_groups_count, memory_order_release);
    return TL_OK;
}

/* What recovery reads of one group, inside a transaction. */
struct load {
    struct log_store *store;
    MDB_txn *txn;
    struct log_group *group;
    struct tl_fault *fault;
};

static enum tl_err load_corrupt(const struct load *load, raft_index index, const char *reason)
{
    return log_store_corrupt(load->store, load->group->group, index, reason, load->fault);
}

static enum tl_err load_fail(const struct load *load, int rc, const char *call, raft_index index)
{
    return log_store_fail(load->store, rc, call, load->group->group, index, load->fault);
}

/* Hard state and base: written when the group was born, so they are there. */
static enum tl_err load_records(const struct load *load, struct log_state *state)
{
    raft_group group = load->group->group;
    MDB_val key = {.mv_size = sizeof group, .mv_data = &group};
    MDB_val value;
    int rc = mdb_get(load->txn, load->store->dbi_hard_state, &key, &value);
    if (rc != MDB_SUCCESS) {
        return load_fail(load, rc, "reading the hard state", 0);
    }
    if (log_hard_state_decode(group, log_val_bytes(&value), &state->hard_state) != TL_OK) {
        return load_corrupt(load, 0, "the hard state fails its checksum");
    }
    rc = mdb_get(load->txn, load->store->dbi_base, &key, &value);
    if (rc != MDB_SUCCESS) {
        return load_fail(load, rc, "reading the base", 0);
    }
    if (log_base_decode(group, log_val_bytes(&value), &state->base) != TL_OK) {
        return load_corrupt(load, 0, "the base fails its checksum");
    }
    return TL_OK;
}

/* None: the group's table is the one it was born with. */
static enum tl_err load_active(const struct load *load, struct log_state *state)
{
    if (!load->store->has_active) {
        return TL_OK;
    }
    raft_group group = load->group->group;
    MDB_val key = {.mv_size = sizeof group, .mv_data = &group};
    MDB_val value;
    int rc = mdb_get(load->txn, load->store->dbi_active, &key, &value);
    if (rc == MDB_NOTFOUND) {
        return TL_OK;
    }
    if (rc != MDB_SUCCESS) {
        return load_fail(load, rc, "reading the name of the table", 0);
    }
    if (log_active_decode(group, log_val_bytes(&value), &state->table_number) != TL_OK) {
        return load_corrupt(load, 0, "the name of the table fails its checksum");
    }
    return TL_OK;
}

/* First and last key, and that the count leaves no room for a gap between them. */
static enum tl_err load_range(const struct load *load, uint64_t entries_count,
                              struct log_state *state)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(load->txn, load->group->dbi, &cursor);
    if (rc != MDB_SUCCESS) {
        return load_fail(load, rc, "mdb_cursor_open", 0);
    }
    MDB_val first_key;
    MDB_val last_key;
    MDB_val value;
    rc = mdb_cursor_get(cursor, &first_key, &value, MDB_FIRST);
    if (rc == MDB_SUCCESS) rc = mdb_cursor_get(cursor, &last_key, &value, MDB_LAST);
    mdb_cursor_close(cursor);
    if (rc != MDB_SUCCESS) {
        return load_fail(load, rc, "reading both ends of the log", state->base.index + 1);
    }
    raft_index first;
    raft_index last;
    if (!log_key_index(&first_key, &first) || !log_key_index(&last_key, &last)) {
        return load_corrupt(load, 0, "a key of the log is no index");
    }
    if (first != state->base.index + 1) {
        return load_corrupt(load, first, "the log does not begin right behind its base");
    }
    if (last < first || last - first != entries_count - 1) {
        return load_corrupt(load, last, "the log has a gap");
    }
    state->last_index = last;
    return TL_OK;
}

static enum tl_err load_last(const struct load *load, struct log_state *state)
{
    struct hash128 previous_hash;
    enum tl_err err = log_entry_previous_hash(load->store, load->txn, load->group, &state->base,
                                              state->last_index, &previous_hash, load->fault);
    if (err != TL_OK) {
        return err;
    }
    struct bytes record;
    struct entry_header header;
    err = log_entry_get(load->store, load->txn, load->group, state->last_index, &record, &header,
                        load->fault);
    if (err != TL_OK) {
        return err;
    }
    if (!entry_hash_is_right(record, previous_hash)) {
        return load_corrupt(load, state->last_index, "a log record fails its chain hash");
    }
    state->last_term = header.term;
    state->last_hash = header.hash;
    return TL_OK;
}

/* The newest configuration against its entry, if that is still in the log. */
static enum tl_err load_conf_entry(const struct load *load, const struct log_state *state,
                                   struct bytes payload)
{
    if (state->conf_index > state->last_index) {
        return load_corrupt(load, state->conf_index, "a configuration is behind the log's end");
    }
    if (state->conf_index <= state->base.index) {
        return TL_OK;
    }
    struct bytes record;
    struct entry_header header;
    enum tl_err err = log_entry_get(load->store, load->txn, load->group, state->conf_index, &record,
                                    &header, load->fault);
    if (err != TL_OK) {
        return err;
    }
    struct bytes stored =
        bytes_make(record.data + ENTRY_HEADER_BYTES, record.count - ENTRY_HEADER_BYTES);
    bool is_conf = header.type == ENTRY_GENESIS || header.type == ENTRY_CONF;
    if (!is_conf || !bytes_equal(stored, payload)) {
        return load_corrupt(load, state->conf_index,
                            "a configuration differs from its entry in the log");
    }
    return TL_OK;
}

/* Walks the group's configurations from the newest down. *out_payload borrows from the txn. */
static enum tl_err load_confs_of(const struct load *load, MDB_cursor *cursor,
                                 struct log_state *state, struct bytes *out_payload)
{
    raft_group group = load->group->group;
    MDB_val key;
    MDB_val value;
    int rc = log_conf_seek(cursor, group, UINT64_MAX, &key, &value);
    while (rc == MDB_SUCCESS) {
        raft_group found_group;
        raft_index index;
        if (!log_conf_key_decode(log_val_bytes(&key), &found_group, &index)) {
            return load_corrupt(load, 0, "a key of the configurations is malformed");
        }
        if (found_group != group) {
            break;
        }
        struct bytes payload;
        if (log_conf_decode(log_val_bytes(&key), log_val_bytes(&value), &payload) != TL_OK) {
            return load_corrupt(load, index, "a configuration fails its checksum");
        }
        if (state->confs_count == 0) {
            state->conf_index = index;
            *out_payload = payload;
        }
        state->confs_count++;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_PREV);
    }
    if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND) {
        return load_fail(load, rc, "reading the configurations", 0);
    }
    return TL_OK;
}

static enum tl_err load_confs(const struct load *load, struct log_state *state,
                              struct bytes *out_payload)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(load->txn, load->store->dbi_conf, &cursor);
    if (rc != MDB_SUCCESS) {
        return load_fail(load, rc, "mdb_cursor_open", 0);
    }
    enum tl_err err = load_confs_of(load, cursor, state, out_payload);
    mdb_cursor_close(cursor);
    return err;
}

/* Reads and checks a whole group; *out_conf borrows the newest configuration's payload from the
 * transaction, data NULL when there is none. */
static enum tl_err load_group(const struct load *load, struct log_state *out_state,
                              struct bytes *out_conf)
{
    struct log_state state = {.last_index = 0};
    *out_conf = bytes_make(NULL, 0);
    enum tl_err err = load_records(load, &state);
    if (err == TL_OK) err = load_active(load, &state);
    if (err != TL_OK) {
        return err;
    }
    MDB_stat stat;
    int rc = mdb_stat(load->txn, load->group->dbi, &stat);
    if (rc != MDB_SUCCESS) {
        return load_fail(load, rc, "mdb_stat", 0);
    }
    state.pages_count = stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    state.last_index = state.base.index;
    state.last_term = state.base.term;
    state.last_hash = state.base.hash;
    if (stat.ms_entries > 0) {
        err = load_range(load, stat.ms_entries, &state);
        if (err == TL_OK) err = load_last(load, &state);
    }
    if (err == TL_OK) err = load_confs(load, &state, out_conf);
    if (err == TL_OK && state.confs_count > 0) err = load_conf_entry(load, &state, *out_conf);
    if (err != TL_OK) {
        return err;
    }
    if (state.base.term > state.last_term) {
        return load_corrupt(load, state.last_index, "the last term is below that of the base");
    }
    if (state.hard_state.commit > state.last_index) {
        return load_corrupt(load, state.hard_state.commit, "committed entries are missing");
    }
    if (state.hard_state.term < state.last_term) {
        return load_corrupt(load, state.last_index, "the last term is above the current one");
    }
    *out_state = state;
    return TL_OK;
}

/* "log.<group>" in its one spelling. */
static bool parse_log_name(const MDB_val *key, raft_group *out_group)
{
    char name[32];
    if (key->mv_size >= sizeof name) {
        return false;
    }
    memcpy(name, key->mv_data, key->mv_size);
    name[key->mv_size] = '\0';
    raft_group group;
    char again[32];
    if (sscanf(name, LOG_STORE_NAME_LOG_PREFIX "%" SCNu32, &group) != 1) {
        return false;
    }
    (void)snprintf(again, sizeof again, LOG_STORE_NAME_LOG_PREFIX "%" PRIu32, group);
    *out_group = group;
    return strcmp(name, again) == 0;
}

static enum tl_err open_group(struct log_store *store, MDB_txn *txn, raft_group group,
                              struct tl_fault *fault)
{
    if (store->pending_groups_count == LOG_STORE_GROUPS_MAX) {
        return log_store_corrupt(store, group, 0, "the log env has too many groups", fault);
    }
    struct log_group *slot = &store->groups[store->pending_groups_count];
    slot->group = group;
    char name[32];
    (void)snprintf(name, sizeof name, LOG_STORE_NAME_LOG_PREFIX "%" PRIu32, group);
    int rc = mdb_dbi_open(txn, name, MDB_INTEGERKEY, &slot->dbi);
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "opening the log", group, 0, fault);
    }
    struct load load = {.store = store, .txn = txn, .group = slot, .fault = fault};
    struct bytes conf;
    enum tl_err err = load_group(&load, &slot->durable, &conf);
    if (err != TL_OK) {
        return err;
    }
    store->pages_count += slot->durable.pages_count;
    store->pending_groups_count++;
    return TL_OK;
}

static enum tl_err open_groups(struct log_store *store, MDB_txn *txn, MDB_dbi dbi_main,
                               struct tl_fault *fault)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(txn, dbi_main, &cursor);
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "mdb_cursor_open", UINT32_MAX, 0, fault);
    }
    enum tl_err err = TL_OK;
    MDB_val key;
    MDB_val value;
    while (err == TL_OK && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS) {
        raft_group group;
        if (parse_log_name(&key, &group)) err = open_group(store, txn, group, fault);
    }
    mdb_cursor_close(cursor);
    if (err == TL_OK && rc != MDB_NOTFOUND) {
        err = log_store_fail(store, rc, "reading the list of groups", UINT32_MAX, 0, fault);
    }
    return err;
}

static enum tl_err check_format(const struct log_store *store, MDB_txn *txn, MDB_dbi dbi_main,
                                struct tl_fault *fault)
{
    char name[] = LOG_STORE_NAME_FORMAT;
    MDB_val key = {.mv_size = strlen(name), .mv_data = name};
    MDB_val value;
    int rc = mdb_get(txn, dbi_main, &key, &value);
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "reading the format mark", UINT32_MAX, 0, fault);
    }
    enum tl_err err = log_format_mark_decode(log_val_bytes(&value));
    if (err == TL_ERR_NEWER_FORMAT) {
        tl_fault_set(fault, store->path, UINT32_MAX, 0,
                     "the log was written by a newer version of trilithd");
    } else if (err != TL_OK) {
        tl_fault_set(fault, store->path, UINT32_MAX, 0, "the format mark fails its checksum");
    }
    return err;
}

static enum tl_err load_env(struct log_store *store, MDB_txn *txn, struct tl_fault *fault)
{
    MDB_dbi dbi_main;
    int rc = mdb_dbi_open(txn, NULL, 0, &dbi_main);
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "mdb_dbi_open", UINT32_MAX, 0, fault);
    }
    enum tl_err err = check_format(store, txn, dbi_main, fault);
    if (err != TL_OK) {
        return err;
    }
    rc = mdb_dbi_open(txn, LOG_STORE_NAME_HARD_STATE, MDB_INTEGERKEY, &store->dbi_hard_state);
    if (rc == MDB_SUCCESS) {
        rc = mdb_dbi_open(txn, LOG_STORE_NAME_BASE, MDB_INTEGERKEY, &store->dbi_base);
    }
    if (rc == MDB_SUCCESS) rc = mdb_dbi_open(txn, LOG_STORE_NAME_CONF, 0, &store->dbi_conf);
    if (rc == MDB_SUCCESS) {
        rc = mdb_dbi_open(txn, LOG_STORE_NAME_ACTIVE, MDB_INTEGERKEY, &store->dbi_active);
        store->has_active = rc == MDB_SUCCESS;
        if (rc == MDB_NOTFOUND) rc = MDB_SUCCESS;
    }
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "opening a database", UINT32_MAX, 0, fault);
    }
    return open_groups(store, txn, dbi_main, fault);
}

/* What is constant of the mapped file. */
static enum tl_err read_sizes(struct log_store *store, struct tl_fault *fault)
{
    MDB_stat stat;
    mdb_filehandle_t fd;
    struct stat status;
    int rc = mdb_env_stat(store->env, &stat);
    if (rc == MDB_SUCCESS) rc = mdb_env_get_fd(store->env, &fd);
    if (rc == MDB_SUCCESS && fstat(fd, &status) != 0) rc = errno;
    /* LMDB sets close-on-exec on all its descriptors but this one (mdb.c, mdb_fopen). */
    if (rc == MDB_SUCCESS && fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) rc = errno;
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "looking at the mapped file", UINT32_MAX, 0, fault);
    }
    store->page_bytes = stat.ms_psize;
    store->file_bytes_at_open = (uint64_t)status.st_size;
    return TL_OK;
}

static enum tl_err load(struct log_store *store, const char *dir, struct tl_fault *fault)
{
    enum tl_err err = read_sizes(store, fault);
    if (err != TL_OK) {
        return err;
    }
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "mdb_txn_begin", UINT32_MAX, 0, fault);
    }
    err = lmdb_env_check_tail(txn, dir, UINT32_MAX, fault);
    if (err == TL_OK) err = load_env(store, txn, fault);
    if (err != TL_OK) {
        mdb_txn_abort(txn);
        return err;
    }
    rc = mdb_txn_commit(txn); /* not abort: that would close the handles */
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "mdb_txn_commit", UINT32_MAX, 0, fault);
    }
    return log_store_publish(store, fault);
}

static enum tl_err open_env(struct log_store *store, const struct log_store_options *options,
                            struct tl_fault *fault)
{
    bool exists;
    enum tl_err err = lmdb_env_check_file(options->dir, UINT32_MAX, &exists, fault);
    if (err == TL_OK && !exists && store->is_read_only) {
        tl_fault_set(fault, store->path, UINT32_MAX, 0, "there is no log");
        err = TL_ERR_NOT_FOUND;
    }
    if (err == TL_OK && !exists) {
        err = log_store_file_create(options, store->path, fault);
    } else if (err == TL_OK && !store->is_read_only) {
        err = lmdb_env_settle(options->dir, UINT32_MAX, fault);
    }
    if (err != TL_OK) {
        return err;
    }
    /* Read only, the directory's lock stands for LMDB's. */
    unsigned flags = LOG_STORE_ENV_FLAGS | (store->is_read_only ? MDB_RDONLY | MDB_NOLOCK : 0u);
    size_t map_bytes =
        lmdb_env_map_bytes(options->dir, options->map_bytes, options->map_headroom_bytes);
    int rc = log_store_env_open(options->dir, flags, map_bytes, &store->env);
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "mdb_env_open", UINT32_MAX, 0, fault);
    }
    return load(store, options->dir, fault);
}

enum tl_err log_store_open(const struct log_store_options *options, struct log_store **out_store,
                           struct tl_fault *out_fault)
{
    TL_ASSERT(options != NULL);
    TL_ASSERT(options->dir != NULL);
    TL_ASSERT(options->map_bytes >= options->prefill_bytes);
    TL_ASSERT(out_store != NULL);

    struct log_store *store = calloc(1, sizeof *store);
    TL_ASSERT(store != NULL);
    store->retain_bytes = options->retain_bytes;
    store->is_read_only = options->is_read_only;
    enum tl_err err = log_store_file_path(options->dir, "data.mdb", store->path, out_fault);
    if (err == TL_OK) err = open_env(store, options, out_fault);
    if (err != TL_OK) {
        log_store_close(store);
        return err;
    }
    log_store_check(store);
    *out_store = store;
    return TL_OK;
}

void log_store_close(struct log_store *store)
{
    if (store == NULL) {
        return;
    }
    if (store->env != NULL) mdb_env_close(store->env);
    free(store);
}

static enum tl_err recover_group(struct load *load, struct log_group_info *out_info)
{
    int rc = mdb_txn_begin(load->store->env, NULL, MDB_RDONLY, &load->txn);
    if (rc != MDB_SUCCESS) {
        return load_fail(load, rc, "mdb_txn_begin", 0);
    }
    struct log_state state;
    struct bytes conf;
    enum tl_err err = load_group(load, &state, &conf);
    if (err == TL_OK) {
        *out_info = (struct log_group_info){
            .exists = true,
            .hard_state = state.hard_state,
            .base = state.base,
            .last_index = state.last_index,
            .conf = state.confs_count > 0 ? buf_copy(conf) : NULL,
            .conf_index = state.conf_index,
            .table_number = state.table_number,
        };
    }
    mdb_txn_abort(load->txn); /* read only: nothing to lose */
    return err;
}

enum tl_err log_store_recover(struct log_store *store, raft_group group,
                              struct log_group_info *out_info, struct tl_fault *out_fault)
{
    TL_ASSERT(store != NULL);
    TL_ASSERT(out_info != NULL);
    struct log_group *found = log_store_find(store, group);
    if (found == NULL) {
        *out_info = (struct log_group_info){.exists = false};
        return TL_OK;
    }
    struct load load = {.store = store, .group = found, .fault = out_fault};
    return recover_group(&load, out_info);
}

uint32_t log_store_groups(const struct log_store *store,
                          raft_group out_groups[LOG_STORE_GROUPS_MAX])
{
    uint32_t groups_count = atomic_load_explicit(&store->groups_count, memory_order_acquire);
    for (uint32_t i = 0; i < groups_count; i++) out_groups[i] = store->groups[i].group;
    return groups_count;
}

uint64_t log_store_used_bytes(const struct log_store *store)
{
    return atomic_load_explicit(&store->used_bytes, memory_order_relaxed);
}

uint64_t log_store_group_bytes(struct log_store *store, raft_group group)
{
    const struct log_group *found = log_store_find(store, group);
    return found != NULL ? found->durable.pages_count * store->page_bytes : 0;
}

uint64_t log_store_file_bytes(const struct log_store *store)
{
    return atomic_load_explicit(&store->file_bytes, memory_order_relaxed);
}
