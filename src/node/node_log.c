/* node_log.c - looks at the log: entries for clients, and checks of the whole chain.
 *
 *   node_log_query -> queued -> entries in memory --------------------> on_done
 *                       ^  \-> a read on the background thread -> come -^
 *                       '------- a check: behind the others again, slice by slice
 *
 * One read is under way at a time, whoever asked: what else the background thread has to do waits
 * for one slice at most. A check costs the log's writer nothing but memory bandwidth: each slice is
 * a read transaction of its own, so freed pages are not held back.
 *
 * After each start the log of every group is checked once, behind the replay: damage is found while
 * the other replicas are still there, and not on the day a peer needs the damaged entry.
 */

#include "node_internal.h"

enum tl_err node_log_read_carry_out(struct node_log_read *read, struct log_reader *reader,
                                    struct tl_fault *out_fault)
{
    enum tl_err err =
        log_reader_read(reader, read->group, read->first, read->last, NODE_LOG_READ_ENTRIES_MAX,
                        read->bytes_max, read->entries, &read->entries_count, out_fault);
    if (err != TL_OK) {
        read->entries_count = 0;
        return err;
    }
    if (read->entries_count == 0) return TL_OK;
    read->previous_hash = log_reader_previous_hash(reader);
    if (!read->keeps_last_only) return TL_OK;
    for (uint32_t i = 0; i + 1 < read->entries_count; i++) buf_release(read->entries[i]);
    read->entries[0] = read->entries[read->entries_count - 1];
    read->entries_count = 1;
    return TL_OK;
}

/* ---- the queue ---- */

static void push(struct node *node, struct node_log_query *query)
{
    struct node_log_query **at = &node->log_queries;
    while (*at != NULL) at = &(*at)->next;
    query->next = NULL;
    *at = query;
}

static void list_remove(struct node *node, struct node_log_query *query)
{
    struct node_log_query **at = &node->log_queries;
    while (*at != query) {
        TL_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = query->next;
    query->next = NULL;
}

static bool is_own(const struct node *node, const struct node_log_query *query)
{
    return query == &node->groups[query->group]->start_check;
}

static struct node_job *take_read(struct node_log_query *query)
{
    return TL_CONTAINER_OF(TL_TAKE(&query->read), struct node_job, read);
}

/* Takes the query out of everything. What it has read, if that has come, is for the caller to free;
 * a read under way is freed when it comes. */
static struct node_job *detach(struct node *node, struct node_log_query *query)
{
    list_remove(node, query);
    struct node_job *job = NULL;
    if (query->state == LOG_QUERY_COME) job = take_read(query);
    query->read = NULL;
    query->state = LOG_QUERY_IDLE;
    if (!is_own(node, query)) node->log_queries_count--;
    return job;
}

enum tl_err node_log_query(struct node *node, struct node_log_query *query)
{
    node_enter(node);
    query->state = LOG_QUERY_IDLE;
    if (node->is_failed || node->is_draining) return TL_ERR_STOPPING;
    if (node->groups_count == 0 || node_is_replaying(node)) return TL_ERR_STARTING;
    if (query->group >= node->groups_count) return TL_ERR_NOT_FOUND;
    if (node->log_queries_count == NODE_LOG_QUERIES_MAX) return TL_ERR_FULL;
    TL_ASSERT(query->on_done != NULL);
    if (query->kind == NODE_LOG_ENTRIES) {
        TL_ASSERT(query->limit >= 1);
        TL_ASSERT(query->limit <= NODE_LOG_QUERY_ENTRIES_MAX);
    }
    query->state = LOG_QUERY_QUEUED;
    query->deadline_ns = node->now_ns + query->timeout_ns;
    query->next_index = 0;
    query->read = NULL;
    push(node, query);
    node->log_queries_count++;
    node->metrics.log_queries_count++;
    node->has_new_requests = true;
    return TL_OK;
}

void node_log_query_cancel(struct node *node, struct node_log_query *query)
{
    node_enter(node);
    if (query->state == LOG_QUERY_IDLE) return;
    struct node_job *job = detach(node, query);
    if (job != NULL) node_free_job(node, job);
}

/* on_done may use the query's memory again; the entries live until it returns. */
static void finish(struct node *node, struct node_log_query *query, enum tl_err err)
{
    struct node_job *job = detach(node, query);
    query->on_done(query, err);
    if (job != NULL) node_free_job(node, job);
}

/* ---- reads ---- */

static void start_read(struct node *node, struct node_log_query *query, raft_index first,
                       raft_index last)
{
    TL_ASSERT(!node->is_log_query_reading);
    TL_ASSERT(first <= last);
    struct node_job *job = node_take_job(node);
    bool is_check = query->kind == NODE_LOG_VERIFY;
    job->read.group = query->group;
    job->read.first = first;
    job->read.last = last;
    job->read.bytes_max = is_check ? NODE_VERIFY_SLICE_BYTES : NODE_LOG_QUERY_BYTES_MAX;
    job->read.purpose = NODE_LOG_READ_QUERY;
    job->read.peer = RAFT_ID_NONE;
    job->read.keeps_last_only = is_check;
    job->is_out = true;
    query->read = &job->read;
    query->state = LOG_QUERY_READING;
    node->is_log_query_reading = true;
    node->io.log_read(node->io.context, &job->read);
}

/* ---- damage ---- */

static void report_damage(struct node *node, const struct tl_fault *fault)
{
    if (node->damage_ns != 0) return;
    node->damage = *fault;
    node->damage_ns = node->now_ns + NODE_DAMAGE_GRACE_NS;
    node_log(node, LOG_LEVEL_ERROR, "log_damaged", "file=\"%s\" group=%u index=%llu reason=\"%s\"",
             fault->file, (unsigned)fault->group, (unsigned long long)fault->index, fault->reason);
}

void node_check_damage(struct node *node)
{
    if (node->damage_ns != 0 && node->now_ns >= node->damage_ns) node_fail(node, &node->damage);
}

/* ---- what has been read ---- */

void node_log_query_come(struct node *node, struct node_job *job, enum tl_err err,
                         const struct tl_fault *fault)
{
    TL_ASSERT(node->is_log_query_reading);
    node->is_log_query_reading = false;
    if (err != TL_OK && err != TL_ERR_COMPACTED && err != TL_ERR_CORRUPT) node_fail(node, fault);
    struct node_log_query *query = node->log_queries;
    while (query != NULL && query->read != &job->read) query = query->next;
    if (query == NULL) { /* cancelled, which does not undo what was found */
        if (err == TL_ERR_CORRUPT) report_damage(node, fault);
        node_free_job(node, job);
        return;
    }
    query->outcome = err;
    if (err == TL_ERR_CORRUPT) query->fault = *fault;
    query->state = LOG_QUERY_COME;
}

/* ---- entries ---- */

static void set_bounds(const struct node_group *group, struct node_log_query *query)
{
    struct raft_status status;
    raft_get_status(group->raft, &status);
    query->first = status.first;
    query->last = status.durable;
    query->commit = TL_MIN(status.commit, status.durable);
}

/* Whether [from, to] and the entry before are in memory; then they are put into a job. */
static bool take_from_memory(const struct node_group *group, struct node_log_query *query,
                             raft_index from, raft_index to)
{
    const struct raft *raft = group->raft;
    if (from > 1 && raft_entry(raft, from - 1) == NULL) return false;
    if (raft_entry(raft, from) == NULL || raft_entry(raft, to) == NULL) return false;
    struct node_job *job = node_take_job(group->node);
    struct node_log_read *read = &job->read;
    read->previous_hash =
        from > 1 ? entry_hash(raft_entry(raft, from - 1)) : (struct hash128){0, 0};
    size_t bytes = 0;
    for (raft_index i = from; i <= to; i++) {
        struct buf *entry = raft_entry(raft, i);
        TL_ASSERT(entry != NULL); /* what is in memory has no holes */
        bytes += entry->count;
        if (i > from && bytes > NODE_LOG_QUERY_BYTES_MAX) break;
        read->entries[read->entries_count++] = buf_acquire(entry);
    }
    query->read = read;
    query->state = LOG_QUERY_COME;
    query->outcome = TL_OK;
    return true;
}

static void finish_entries(struct node *node, struct node_log_query *query)
{
    if (query->state == LOG_QUERY_COME) {
        query->entries = query->read->entries;
        query->entries_count = query->read->entries_count;
        query->previous_hash = query->read->previous_hash;
    }
    finish(node, query, TL_OK);
}

static void begin_entries(struct node_group *group, struct node_log_query *query)
{
    struct node *node = group->node;
    set_bounds(group, query);
    query->entries = NULL;
    query->entries_count = 0;
    raft_index from = query->from;
    if (from == 0) {
        from = query->last >= query->limit ? query->last - query->limit + 1 : 1;
        from = TL_MAX(from, query->first);
    }
    raft_index to = TL_MIN(query->last, from + query->limit - 1);
    if (from < query->first) {
        finish(node, query, TL_ERR_COMPACTED);
    } else if (from > query->last) {
        finish(node, query, TL_OK);
    } else if (take_from_memory(group, query, from, to)) {
        finish_entries(node, query);
    } else {
        start_read(node, query, from, to);
    }
}

/* The store deletes before the core is told of it: bounds that are not yet new are asked again. */
static void entries_come(struct node *node, struct node_log_query *query)
{
    if (query->outcome == TL_OK) {
        finish_entries(node, query);
        return;
    }
    if (query->outcome == TL_ERR_CORRUPT) {
        report_damage(node, &query->fault);
        finish(node, query, TL_ERR_CORRUPT);
        return;
    }
    node_free_job(node, take_read(query));
    query->state = LOG_QUERY_QUEUED;
    begin_entries(node->groups[query->group], query);
}

/* ---- checks ---- */

static void begin_check(struct node_group *group, struct node_log_query *query)
{
    set_bounds(group, query);
    query->next_index = query->first;
    query->last_hash = (struct hash128){0, 0};
}

static void check_on(struct node *node, struct node_log_query *query)
{
    struct node_group *group = node->groups[query->group];
    if (query->next_index == 0) begin_check(group, query);
    if (query->next_index > query->last) {
        finish(node, query, TL_OK);
        return;
    }
    raft_index to = query->next_index + NODE_VERIFY_SLICE_ENTRIES - 1;
    start_read(node, query, query->next_index, TL_MIN(to, query->last));
}

static void slice_come(struct node *node, struct node_log_query *query)
{
    if (query->outcome == TL_ERR_CORRUPT) {
        query->last = query->next_index - 1;
        report_damage(node, &query->fault);
        finish(node, query, TL_ERR_CORRUPT);
        return;
    }
    struct node_job *job = take_read(query);
    query->state = LOG_QUERY_QUEUED;
    if (query->outcome == TL_ERR_COMPACTED) {
        query->next_index = 0; /* deletion has overtaken it: from the new first entry */
    } else if (job->read.entries_count == 0) {
        query->last = query->next_index - 1; /* the rest was replaced by a shorter tail */
    } else {
        raft_index index = entry_index(job->read.entries[0]);
        node->metrics.log_entries_verified_count += index - query->next_index + 1;
        query->last_hash = entry_hash(job->read.entries[0]);
        query->next_index = index + 1;
    }
    node_free_job(node, job);
    if (!is_own(node, query)) query->deadline_ns = node->now_ns + query->timeout_ns;
    list_remove(node, query); /* behind the others */
    push(node, query);
}

/* ---- steps ---- */

/* Carries one query on; false: there is nothing to do now. */
static bool step(struct node *node)
{
    struct node_log_query *query = node->log_queries;
    while (query != NULL && query->state == LOG_QUERY_READING) query = query->next;
    if (query == NULL) return false;
    if (query->state == LOG_QUERY_COME) {
        if (query->kind == NODE_LOG_VERIFY) {
            slice_come(node, query);
        } else {
            entries_come(node, query);
        }
        return true;
    }
    if (node->is_log_query_reading) return false;
    if (query->kind == NODE_LOG_VERIFY) {
        check_on(node, query);
    } else {
        begin_entries(node->groups[query->group], query);
    }
    return true;
}

static struct node_log_query *find_late(struct node *node)
{
    for (struct node_log_query *query = node->log_queries; query != NULL; query = query->next) {
        if (node->now_ns >= query->deadline_ns) return query;
    }
    return NULL;
}

uint64_t node_log_queries_deadline(const struct node *node)
{
    uint64_t deadline_ns = NODE_NEVER;
    for (const struct node_log_query *query = node->log_queries; query != NULL;
         query = query->next) {
        deadline_ns = TL_MIN(deadline_ns, query->deadline_ns);
    }
    return deadline_ns;
}

void node_log_queries_step(struct node *node)
{
    if (node->is_draining) {
        while (node->log_queries != NULL && !node->is_failed) {
            finish(node, node->log_queries, TL_ERR_STOPPING);
        }
        return;
    }
    if (node_is_replaying(node)) return;
    while (!node->is_failed && step(node)) continue;
    for (struct node_log_query *late; !node->is_failed && (late = find_late(node)) != NULL;) {
        finish(node, late, TL_ERR_TIMEOUT); /* a read under way is freed when it comes */
    }
}

void node_log_queries_close(struct node *node)
{
    while (node->log_queries != NULL) finish(node, node->log_queries, TL_ERR_STOPPING);
}

static void on_start_checked(struct node_log_query *query, enum tl_err err)
{
    struct node_group *group = query->context;
    if (err == TL_ERR_CORRUPT) node_fail(group->node, &query->fault);
    if (err != TL_OK) return;
    char hash[HASH_TEXT_BYTES];
    hash_format(query->last_hash, hash);
    node_log(group->node, LOG_LEVEL_INFO, "log_verified", "group=%u first=%llu last=%llu hash=%s",
             group->id, (unsigned long long)query->first, (unsigned long long)query->last, hash);
}

void node_group_check_log(struct node_group *group)
{
    struct node_log_query *query = &group->start_check;
    query->group = group->id;
    query->kind = NODE_LOG_VERIFY;
    query->on_done = on_start_checked;
    query->context = group;
    query->deadline_ns = NODE_NEVER;
    query->state = LOG_QUERY_QUEUED;
    push(group->node, query);
}
