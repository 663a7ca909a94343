/* node_group.c - one group's table, views and core over what its log holds.
 *
 * The log env is where Raft starts from; the table is behind it by what was applied and not
 * flushed. Before anything is built on the two, their relations are checked: a table ahead of the
 * log, or one whose last entry the log has otherwise, is another replica's or an old disk image,
 * and replaying over it would diverge silently.
 */

#include "node_internal.h"

#include <stdlib.h>

#define GROUP_READ_ENTRIES_MAX 4096u
#define GROUP_READ_BYTES_MAX (16u * 1024u * 1024u)

/* Reads one entry, the caller's. */
static enum tl_err read_entry(struct log_reader *reader, raft_group group, raft_index index,
                              struct buf **out_entry, struct tl_fault *out_fault)
{
    uint32_t count = 0;
    enum tl_err err =
        log_reader_read(reader, group, index, index, 1, 1, out_entry, &count, out_fault);
    if (err != TL_OK) return err;
    if (count == 1) return TL_OK;
    tl_fault_set(out_fault, "log", group, index, "an entry is missing from the log");
    return TL_ERR_CORRUPT;
}

/* Whether the log has, at the table's index, the entry the table was made by. */
static enum tl_err check_same_entry(const struct node_group *group,
                                    const struct log_group_info *info, struct log_reader *reader,
                                    struct tl_fault *out_fault)
{
    const struct group_state *state = table_state(group->table);
    raft_term term = info->base.term;
    struct hash128 hash = info->base.hash;
    if (state->index > info->base.index) {
        struct buf *entry = NULL;
        enum tl_err err = read_entry(reader, group->id, state->index, &entry, out_fault);
        if (err != TL_OK) return err;
        term = entry_term(entry);
        hash = entry_hash(entry);
        buf_release(entry);
    }
    if (state->term == term && hash_equal(state->chain_hash, hash)) return TL_OK;
    tl_fault_set(out_fault, group->table_dir, group->id, state->index,
                 "table and log disagree about the table's last entry");
    return TL_ERR_CORRUPT;
}

static enum tl_err check_relations(const struct node_group *group,
                                   const struct log_group_info *info, struct log_reader *reader,
                                   struct tl_fault *out_fault)
{
    raft_index index = table_state(group->table)->index;
    const char *reason = NULL;
    if (index < info->base.index) reason = "the table ends before the log begins";
    if (index > info->last_index) reason = "the table is ahead of the log";
    if (info->hard_state.commit > info->last_index) reason = "the commit index is ahead of the log";
    if (reason == NULL) return check_same_entry(group, info, reader, out_fault);
    tl_fault_set(out_fault, group->table_dir, group->id, index, "%s", reason);
    return TL_ERR_CORRUPT;
}

/* Fills entries [first, last] from the log. */
static enum tl_err read_entries(struct log_reader *reader, raft_group group, raft_index first,
                                raft_index last, struct buf **entries, struct tl_fault *out_fault)
{
    raft_index next = first;
    while (next <= last) {
        uint32_t count = 0;
        enum tl_err err =
            log_reader_read(reader, group, next, last, GROUP_READ_ENTRIES_MAX, GROUP_READ_BYTES_MAX,
                            &entries[next - first], &count, out_fault);
        if (err == TL_OK && count == 0) {
            tl_fault_set(out_fault, "log", group, next, "an entry is missing from the log");
            err = TL_ERR_CORRUPT;
        }
        if (err != TL_OK) return err;
        next += count;
    }
    return TL_OK;
}

static void make_core(struct node_group *group, const struct log_group_info *info,
                      const struct raft_conf *conf, struct buf *const *entries,
                      uint32_t entries_count)
{
    struct node *node = group->node;
    const struct raft_options options = {
        .self = node->self,
        .group = group->id,
        .seed = prng_next(&node->prng),
        .election_timeout_ns = node->options.election_timeout_ns,
        .heartbeat_interval_ns = node->options.heartbeat_interval_ns,
        .conf = *conf,
        .hard_state = info->hard_state,
        .base = info->base,
        .applied = group->state.group.index,
        .last_index = info->last_index,
        .entries = entries,
        .entries_count = entries_count,
        .cache_bytes_max = node->options.log_cache_bytes,
        .message_bytes_max = node_limit(node, RAFT_MESSAGE_BYTES_MAX),
        .inflight_bytes_max = node_limit(node, RAFT_INFLIGHT_BYTES_MAX),
        .uncommitted_bytes_max = node_limit(node, RAFT_UNCOMMITTED_BYTES_MAX),
        .mutation = node->options.mutation,
    };
    group->raft = raft_create(&options);
}

/* Of the entries [first, last] the last that is a configuration, in place of *conf. */
static enum tl_err scan_confs(const struct node_group *group, struct log_reader *reader,
                              raft_index first, raft_index last, struct raft_conf *conf,
                              struct tl_fault *out_fault)
{
    struct buf **entries = calloc(GROUP_READ_ENTRIES_MAX, sizeof *entries);
    TL_ASSERT(entries != NULL);
    enum tl_err err = TL_OK;
    for (raft_index next = first; next <= last && err == TL_OK;) {
        raft_index end = TL_MIN(last, next + GROUP_READ_ENTRIES_MAX - 1);
        err = read_entries(reader, group->id, next, end, entries, out_fault);
        for (uint32_t i = 0; i <= end - next; i++) {
            struct buf *entry = TL_TAKE(&entries[i]);
            if (entry == NULL) continue; /* reading failed before */
            enum entry_type type = entry_type_of(entry);
            if ((type == ENTRY_CONF || type == ENTRY_GENESIS) && err == TL_OK) {
                err = conf_payload_decode(entry_payload(entry), conf);
            }
            buf_release(entry);
        }
        next = end + 1;
    }
    free(entries);
    return err;
}

/* The configuration in force at `index`, which is not below what is applied. The newest of the log
 * may stand behind it, and then it is not known which are between: they are looked for. */
static enum tl_err find_conf(const struct node_group *group, const struct log_group_info *info,
                             struct log_reader *reader, raft_index index,
                             struct raft_conf *out_conf, struct tl_fault *out_fault)
{
    struct raft_conf conf = {.voters_count = 0};
    enum tl_err err = TL_OK;
    if (group->conf != NULL) err = conf_payload_decode(buf_bytes(group->conf), &conf);
    bool is_newest = group->conf != NULL && info->conf != NULL &&
                     bytes_equal(buf_bytes(group->conf), buf_bytes(info->conf));
    if (err == TL_OK && !is_newest) {
        err = scan_confs(group, reader, group->state.group.index + 1, index, &conf, out_fault);
    }
    if (err == TL_ERR_INVALID) {
        tl_fault_set(out_fault, group->table_dir, group->id, index,
                     "a configuration does not decode");
        err = TL_ERR_CORRUPT;
    }
    if (err == TL_OK) *out_conf = conf;
    return err;
}

/* The core keeps the entries it may still have to replace or send; the others are read when they
 * are applied. */
static enum tl_err open_core(struct node_group *group, const struct log_group_info *info,
                             struct log_reader *reader, struct tl_fault *out_fault)
{
    raft_index first = TL_MAX(info->hard_state.commit, group->state.group.index);
    if (first <= info->base.index) first = info->base.index + 1;
    raft_index left = first <= info->last_index ? info->last_index - first + 1 : 0;
    if (left > RAFT_LOG_RING_ENTRIES) {
        tl_fault_set(out_fault, "log", group->id, first,
                     "%llu entries above the stored commit index, more than the core can hold",
                     (unsigned long long)left);
        return TL_ERR_CORRUPT;
    }
    struct buf **entries = calloc(left + 1, sizeof *entries);
    TL_ASSERT(entries != NULL);
    struct raft_conf conf;
    enum tl_err err =
        find_conf(group, info, reader, TL_MAX(info->hard_state.commit, group->state.group.index),
                  &conf, out_fault);
    if (err == TL_OK) {
        err = read_entries(reader, group->id, first, info->last_index, entries, out_fault);
    }
    if (err == TL_OK && left > 0 && entry_term(entries[left - 1]) > info->hard_state.term) {
        tl_fault_set(out_fault, "log", group->id, info->last_index,
                     "the last entry's term is above the stored term");
        err = TL_ERR_CORRUPT;
    }
    if (err == TL_OK) make_core(group, info, &conf, entries, (uint32_t)left);
    for (raft_index i = 0; i < left; i++) buf_release(entries[i]);
    free(entries);
    return err;
}

static enum tl_err open_table(struct node_group *group, struct tl_fault *out_fault)
{
    struct node *node = group->node;
    const struct data_dir_table name = {.group = group->id, .number = group->table_number};
    enum tl_err err = data_dir_table_make(node->data_dir, name, group->table_dir,
                                          sizeof group->table_dir, out_fault);
    if (err != TL_OK) return err;
    const struct table_options options = {
        .dir = group->table_dir,
        .group = group->id,
        .map_bytes = node->options.table_map_bytes,
        .map_headroom_bytes = node->options.map_headroom_bytes,
        .readers_max = NODE_TABLE_READERS_MAX,
    };
    return table_open(&options, &group->table, out_fault);
}

/* Views and state machine, once the table is known to belong to the log. */
static enum tl_err open_state(struct node_group *group, struct tl_fault *out_fault)
{
    struct node *node = group->node;
    group->views = views_create(group->table);
    enum tl_err err = kv_table_create(group->views, &group->kv);
    if (err != TL_OK) {
        tl_fault_set(out_fault, group->table_dir, group->id, 0, "no reader: %s", tl_err_text(err));
        return err;
    }
    kv_state_init(&group->state, table_state(group->table));
    group->state.mutation = node->options.mutation;
    group->flushed = group->state.group.index;
    group->applicable = group->state.group.index;
    group->commit = group->state.group.index;
    group->generation_permille = (uint32_t)prng_between(&node->prng, 500, 1000);
    return TL_OK;
}

/* The configuration that was flushed with the table's rows. */
static enum tl_err load_conf(struct node_group *group, struct tl_fault *out_fault)
{
    static const uint8_t meta_key[] = {ENV_KEY_META};
    enum tl_err err = kv_table_begin(group->kv);
    struct bytes row = bytes_make(NULL, 0);
    if (err == TL_OK) {
        err = kv_table_get(group->kv, bytes_make(meta_key, sizeof meta_key), &row);
        if (err == TL_ERR_NOT_FOUND) {
            kv_table_end(group->kv);
            return TL_OK; /* a table that was never flushed */
        }
        struct group_state state;
        struct bytes conf = bytes_make(NULL, 0);
        if (err == TL_OK) err = group_state_decode(row, &state, &conf);
        if (err == TL_OK && conf.count > 0) group->conf = buf_copy(conf);
        kv_table_end(group->kv);
    }
    if (err != TL_OK) *out_fault = *kv_table_fault(group->kv);
    return err;
}

static void report_recovered(struct node_group *group, const struct log_group_info *info)
{
    struct node *node = group->node;
    raft_index applied = group->state.group.index;
    node->replayed_count += info->last_index - applied;
    node_log(node, LOG_LEVEL_INFO, "recovered", "group=%u applied=%llu last=%llu replay=%llu",
             group->id, (unsigned long long)applied, (unsigned long long)info->last_index,
             (unsigned long long)(info->last_index - applied));
}

enum tl_err node_group_read_entry(struct node *node, raft_group group, raft_index index,
                                  struct buf **out_entry, struct tl_fault *out_fault)
{
    struct log_reader *reader = NULL;
    enum tl_err err = log_reader_create(node->log_store, &reader);
    if (err != TL_OK) {
        tl_fault_set(out_fault, "log", group, index, "no reader: %s", tl_err_text(err));
        return err;
    }
    err = read_entry(reader, group, index, out_entry, out_fault);
    log_reader_destroy(reader);
    return err;
}

enum tl_err node_group_open(struct node *node, raft_group id, const struct log_group_info *info,
                            struct node_group **out_group, struct tl_fault *out_fault)
{
    struct node_group *group = calloc(1, sizeof *group);
    TL_ASSERT(group != NULL);
    group->node = node;
    group->id = id;
    group->base_index = info->base.index;
    group->start_last = info->last_index;
    group->start_term = info->hard_state.term;
    group->table_number = info->table_number;
    group->replay_target = info->hard_state.commit;
    group->deadline_ns = NODE_NEVER;
    node_group_reset_digests(group);
    struct log_reader *reader = NULL;
    enum tl_err err = log_reader_create(node->log_store, &reader);
    if (err != TL_OK) tl_fault_set(out_fault, "log", id, 0, "no reader: %s", tl_err_text(err));
    if (err == TL_OK) err = open_table(group, out_fault);
    if (err == TL_OK) err = check_relations(group, info, reader, out_fault);
    if (err == TL_OK) err = open_state(group, out_fault);
    if (err == TL_OK) err = load_conf(group, out_fault);
    if (err == TL_OK) err = open_core(group, info, reader, out_fault);
    log_reader_destroy(reader);
    if (err != TL_OK) {
        node_group_close(group);
        return err;
    }
    report_recovered(group, info);
    *out_group = group;
    return TL_OK;
}

/* Tables that were replaced: the next start deletes them. */
static void close_retired(struct views *views)
{
    views_collect(views);
    struct table *table = NULL;
    while ((table = views_take_retired(views)) != NULL) table_close(table);
}

void node_group_close(struct node_group *group)
{
    if (group == NULL) return;
    raft_destroy(group->raft);
    kv_state_deinit(&group->state);
    kv_table_destroy(group->kv);
    if (group->views != NULL) close_retired(group->views);
    views_destroy(group->views);
    table_close(group->table);
    buf_release(group->conf);
    free(group);
}
