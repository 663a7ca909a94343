/* raft_cluster.c - carries out what cores ask for, when the test says so. */

#include "raft_cluster.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

static const char *const role_names[] = {"follower", "precandidate", "candidate", "leader"};

__attribute__((format(printf, 2, 3))) static void tell(struct cluster *cluster, const char *format,
                                                       ...)
{
    if (cluster->trace == NULL) {
        return;
    }
    va_list args;
    va_start(args, format);
    (void)vfprintf(cluster->trace, format, args);
    va_end(args);
}

struct cluster_node *cluster_at(struct cluster *cluster, raft_id id)
{
    TL_ASSERT(id >= 1);
    TL_ASSERT(id <= cluster->nodes_count);
    return &cluster->nodes[id - 1];
}

struct raft_conf cluster_conf(uint32_t voters_count, uint32_t learners_count)
{
    struct raft_conf conf = {.voters_count = voters_count, .learners_count = learners_count};
    for (uint32_t i = 0; i < voters_count; i++) conf.voters[i] = i + 1;
    for (uint32_t i = 0; i < learners_count; i++) conf.learners[i] = voters_count + i + 1;
    return conf;
}

struct cluster *cluster_create(uint32_t voters_count, uint32_t learners_count)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);
    TL_ASSERT(cluster != NULL);
    cluster->nodes_count = voters_count + learners_count;
    cluster->seed = 1;
    cluster->first_conf = cluster_conf(voters_count, learners_count);
    TL_ASSERT(cluster->nodes_count <= CLUSTER_NODES_MAX);
    for (uint32_t i = 0; i < cluster->nodes_count; i++) {
        cluster->nodes[i].id = i + 1;
        cluster->nodes[i].conf = cluster_conf(voters_count, learners_count);
    }
    return cluster;
}

void cluster_add_spares(struct cluster *cluster, uint32_t count)
{
    TL_ASSERT(cluster->nodes_count + count <= CLUSTER_NODES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        cluster->nodes[cluster->nodes_count].id = cluster->nodes_count + 1;
        cluster->nodes_count++;
    }
}

/* ---- disk ---- */

static void disk_truncate(struct cluster_node *node, raft_index from)
{
    TL_ASSERT(from > node->base.index);
    while (node->base.index + node->entries_count >= from) {
        buf_release(node->entries[--node->entries_count]);
    }
}

static void disk_append(struct cluster_node *node, struct buf *entry)
{
    TL_ASSERT(entry_index(entry) == node->base.index + node->entries_count + 1);
    if (node->entries_count == node->entries_capacity) {
        node->entries_capacity = node->entries_capacity == 0 ? 64 : 2 * node->entries_capacity;
        node->entries = realloc(node->entries, node->entries_capacity * sizeof *node->entries);
        TL_ASSERT(node->entries != NULL);
    }
    node->entries[node->entries_count++] = entry;
}

static struct buf *disk_entry(const struct cluster_node *node, raft_index index)
{
    TL_ASSERT(index > node->base.index);
    TL_ASSERT(index <= node->base.index + node->entries_count);
    return node->entries[index - node->base.index - 1];
}

static struct raft_conf decode_conf(const struct buf *entry)
{
    struct raft_conf conf;
    TL_ASSERT(conf_payload_decode(entry_payload(entry), &conf) == TL_OK);
    return conf;
}

static struct raft_conf disk_conf_at(const struct cluster_node *node, raft_index index)
{
    for (raft_index i = index; i > node->base.index; i--) {
        if (entry_type_of(disk_entry(node, i)) == ENTRY_CONF) {
            return decode_conf(disk_entry(node, i));
        }
    }
    return node->conf;
}

static void op_clear(struct cluster_op *op)
{
    for (uint32_t i = 0; i < op->entries_count; i++) buf_release(op->entries[i]);
    free(op->entries);
}

void cluster_fill(struct cluster *cluster, raft_id id, const raft_term *terms, uint32_t count,
                  raft_term term)
{
    struct cluster_node *node = cluster_at(cluster, id);
    TL_ASSERT(node->raft == NULL);
    struct hash128 hash = {0};
    for (uint32_t i = 0; i < count; i++) {
        struct buf *entry = entry_create(ENTRY_NOOP, 0);
        struct entry_header header = {
            .group = CLUSTER_GROUP, .index = i + 1, .term = terms[i], .time_us = i + 1};
        entry_seal(entry, hash, &header);
        hash = entry_hash(entry);
        disk_append(node, entry);
    }
    node->hard_state.term = count > 0 ? TL_MAX(term, terms[count - 1]) : term;
}

/* ---- life ---- */

/* What became of a snapshot, to the core that wanted it sent. */
static void tell_sender(struct cluster *cluster, struct cluster_snapshot *snapshot,
                        bool is_installed)
{
    raft_id from = snapshot->from;
    struct raft *raft = from != 0 ? cluster_at(cluster, from)->raft : NULL;
    if (raft != NULL && is_installed) raft_snapshot_sent(raft, snapshot->to, snapshot->base.index);
    if (raft != NULL && !is_installed) raft_snapshot_failed(raft, snapshot->to);
    *snapshot = (struct cluster_snapshot){.from = 0};
    if (raft != NULL) cluster_turn(cluster, from);
}

void cluster_start(struct cluster *cluster, raft_id id)
{
    struct cluster_node *node = cluster_at(cluster, id);
    TL_ASSERT(node->raft == NULL);
    raft_index last = node->base.index + node->entries_count;
    raft_index known = TL_MAX(node->hard_state.commit, node->applied);
    raft_index first = TL_MAX(node->base.index + 1, known);
    struct raft_options options = {
        .self = id,
        .group = CLUSTER_GROUP,
        .seed = (cluster->seed * 1000 + id) * 1000 + node->starts_count++,
        .election_timeout_ns = CLUSTER_T_NS,
        .heartbeat_interval_ns = CLUSTER_BEAT_NS,
        .conf = disk_conf_at(node, known),
        .hard_state = node->hard_state,
        .base = node->base,
        .applied = node->applied,
        .last_index = last,
        .entries = first <= last ? &node->entries[first - node->base.index - 1] : NULL,
        .entries_count = (uint32_t)(last + 1 - first),
        .append_entries_max = cluster->append_entries_max,
        .inflight_messages_max = cluster->inflight_messages_max,
        .cache_bytes_max = cluster->cache_bytes_max,
        .mutation = node->mutation,
    };
    node->raft = raft_create(&options);
    node->role = RAFT_FOLLOWER;
    node->term = node->hard_state.term;
    node->commit = raft_output(node->raft)->commit;
    raft_advance(node->raft, node->now_ns);
    cluster_turn(cluster, id);
}

void cluster_start_all(struct cluster *cluster)
{
    for (raft_id id = 1; id <= cluster->nodes_count; id++) cluster_start(cluster, id);
}

void cluster_crash(struct cluster *cluster, raft_id id)
{
    struct cluster_node *node = cluster_at(cluster, id);
    raft_destroy(node->raft);
    node->raft = NULL;
    for (uint32_t i = 0; i < node->ops_count; i++) op_clear(&node->ops[i]);
    node->ops_count = 0;
    node->has_log_read = false;
    tell_sender(cluster, &node->installing, false);
}

void cluster_destroy(struct cluster *cluster)
{
    for (raft_id id = 1; id <= cluster->nodes_count; id++) {
        struct cluster_node *node = cluster_at(cluster, id);
        cluster_crash(cluster, id);
        for (uint32_t i = 0; i < node->entries_count; i++) buf_release(node->entries[i]);
        free(node->entries);
    }
    (void)cluster_drop(cluster, 0, 0);
    free(cluster->messages);
    free(cluster->applied);
    const char *violation = cluster->violation;
    free(cluster);
    cr_assert_null(violation, "%s", violation);
}

/* ---- the end of a turn ---- */

static void tell_entries(struct cluster *cluster, struct buf *const *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        tell(cluster, " %" PRIu64 "/%" PRIu64, entry_index(entries[i]), entry_term(entries[i]));
        if (entry_type_of(entries[i]) == ENTRY_COMMAND) {
            struct bytes text = entry_payload(entries[i]);
            tell(cluster, "'%.*s'", (int)text.count, (const char *)text.data);
        } else if (entry_type_of(entries[i]) == ENTRY_CONF) {
            char text[256];
            struct raft_conf conf = decode_conf(entries[i]);
            cluster_conf_text(&conf, text, sizeof text);
            tell(cluster, "'%s'", text);
        }
    }
}

/* Tokens count up from a random number; told as 1, 2, ... */
static uint64_t told_token(struct cluster *cluster, raft_id asker, uint64_t token)
{
    struct cluster_node *node = cluster_at(cluster, asker);
    if (node->token_first == 0) {
        node->token_first = token;
    }
    return token - node->token_first + 1;
}

static void tell_message(struct cluster *cluster, const struct raft_message *m)
{
    tell(cluster, "  %" PRIu64 "->%" PRIu64 " %s term %" PRIu64, m->from, m->to,
         raft_message_type_name(m->type), m->term);
    switch (m->type) {
    case RAFT_PREVOTE:
    case RAFT_VOTE:
    case RAFT_TIMEOUT_NOW:
        if (m->is_forced) tell(cluster, " forced");
        tell(cluster, " last %" PRIu64 "/%" PRIu64, m->index, m->log_term);
        break;
    case RAFT_PREVOTE_REPLY:
    case RAFT_VOTE_REPLY:
        tell(cluster, m->granted ? " granted" : " refused");
        break;
    case RAFT_APPEND:
        tell(cluster, " after %" PRIu64 "/%" PRIu64 " commit %" PRIu64, m->index, m->log_term,
             m->commit);
        tell_entries(cluster, m->entries, m->entries_count);
        break;
    case RAFT_APPEND_REPLY:
        tell(cluster, " %s %" PRIu64, m->reject == RAFT_REJECT_NONE ? "match" : "reject", m->index);
        if (m->reject != RAFT_REJECT_NONE) {
            tell(cluster, " hint %" PRIu64 "/%" PRIu64, m->hint_index, m->hint_term);
        }
        break;
    case RAFT_HEARTBEAT:
        tell(cluster, " commit %" PRIu64, m->commit);
        break;
    case RAFT_READ:
        tell(cluster, " token %" PRIu64, told_token(cluster, m->from, m->context));
        break;
    case RAFT_READ_REPLY:
        tell(cluster, " token %" PRIu64 " index %" PRIu64, told_token(cluster, m->to, m->context),
             m->index);
        break;
    default:
        break;
    }
    if (m->sequence != 0) tell(cluster, " sequence %" PRIu64, m->sequence);
    tell(cluster, "\n");
}

static void push_message(struct cluster *cluster, const struct raft_message *message)
{
    if (cluster->messages_count == cluster->messages_capacity) {
        cluster->messages_capacity = 2 * cluster->messages_capacity + 64;
        cluster->messages =
            realloc(cluster->messages, cluster->messages_capacity * sizeof *cluster->messages);
        TL_ASSERT(cluster->messages != NULL);
    }
    cluster->messages[cluster->messages_count++] = *message;
}

static void take_messages(struct cluster *cluster, const struct raft_output *output)
{
    for (uint32_t i = 0; i < output->messages_count; i++) {
        struct raft_message *m = &output->messages[i];
        tell_message(cluster, m);
        TL_ASSERT(m->to <= cluster->nodes_count);
        if (cluster->is_cut[m->from][m->to]) {
            raft_message_clear(m);
        } else {
            push_message(cluster, m);
        }
    }
}

static void take_op(struct cluster *cluster, struct cluster_node *node,
                    const struct raft_append_op *op)
{
    TL_ASSERT(node->ops_count < CLUSTER_OPS_MAX);
    struct cluster_op *held = &node->ops[node->ops_count++];
    *held = (struct cluster_op){
        .sequence = op->sequence,
        .truncate_from = op->truncate_from,
        .entries_count = op->entries_count,
        .entries = calloc(op->entries_count + 1, sizeof *held->entries),
        .has_hard_state = op->has_hard_state,
        .hard_state = op->hard_state,
        .is_install = op->install != NULL,
    };
    if (held->is_install) held->install = *op->install;
    for (uint32_t i = 0; i < op->entries_count; i++) {
        held->entries[i] = buf_acquire(op->entries[i]);
    }
    tell(cluster, "  %" PRIu64 " op %" PRIu64, node->id, op->sequence);
    if (op->has_hard_state) {
        tell(cluster, " term %" PRIu64 " vote %" PRIu64 " commit %" PRIu64, op->hard_state.term,
             op->hard_state.vote, op->hard_state.commit);
    }
    if (op->truncate_from != 0) tell(cluster, " truncate %" PRIu64, op->truncate_from);
    if (op->entries_count > 0) tell(cluster, " append");
    tell_entries(cluster, op->entries, op->entries_count);
    if (held->is_install) {
        const struct raft_base *base = &held->install.base;
        tell(cluster, " install %" PRIu64 "/%" PRIu64 " %s", base->index, base->term,
             held->install.keeps_suffix ? "keep" : "empty");
    }
    tell(cluster, "\n");
}

static void check_applied(struct cluster *cluster, raft_index index, struct hash128 hash)
{
    if (index >= cluster->applied_capacity) {
        uint32_t capacity = (uint32_t)index * 2 + 64;
        cluster->applied = realloc(cluster->applied, capacity * sizeof *cluster->applied);
        TL_ASSERT(cluster->applied != NULL);
        memset(&cluster->applied[cluster->applied_capacity], 0,
               (capacity - cluster->applied_capacity) * sizeof *cluster->applied);
        cluster->applied_capacity = capacity;
    }
    struct hash128 none = {0};
    if (hash_equal(cluster->applied[index], none)) {
        cluster->applied[index] = hash;
    } else if (!hash_equal(cluster->applied[index], hash)) {
        cluster->violation = "two nodes applied different entries at one index";
    }
}

static bool is_installing(const struct cluster_node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, &status);
    return status.is_installing;
}

static void apply(struct cluster *cluster, struct cluster_node *node, raft_index to)
{
    if (to <= node->applied || node->holds_apply || is_installing(node)) {
        return;
    }
    tell(cluster, "  %" PRIu64 " applies %" PRIu64 "..%" PRIu64 "\n", node->id, node->applied + 1,
         to);
    for (raft_index i = node->applied + 1; i <= to; i++) {
        struct buf *entry = disk_entry(node, i); /* committed and durable: so it is there */
        struct buf *in_memory = raft_entry(node->raft, i);
        if (in_memory != NULL && !hash_equal(entry_hash(in_memory), entry_hash(entry))) {
            cluster->violation = "an entry to apply is not the one on disk";
        }
        check_applied(cluster, i, entry_hash(entry));
    }
    node->applied = to;
    raft_applied(node->raft, to);
}

static void watch_role(struct cluster *cluster, struct cluster_node *node)
{
    enum raft_role role = raft_role_of(node->raft);
    raft_term term = raft_current_term(node->raft);
    if (role != node->role || term != node->term) {
        tell(cluster, "  %" PRIu64 " is %s in term %" PRIu64 "\n", node->id, role_names[role],
             term);
    }
    node->role = role;
    node->term = term;
    if (role == RAFT_LEADER) {
        TL_ASSERT(term < TL_COUNT_OF(cluster->leaders));
        if (cluster->leaders[term] != 0 && cluster->leaders[term] != node->id) {
            cluster->violation = "two leaders in one term";
        }
        cluster->leaders[term] = node->id;
    }
}

void cluster_answer_log_read(struct cluster *cluster, raft_id id)
{
    struct cluster_node *node = cluster_at(cluster, id);
    TL_ASSERT(node->has_log_read);
    node->has_log_read = false;
    struct raft_log_read read = node->log_read;
    if (read.first <= node->base.index) {
        raft_log_read_done(node->raft, read.peer, NULL, 0);
        return;
    }
    raft_index begin = TL_MAX(read.first - 1, node->base.index + 1);
    uint32_t count = 0;
    size_t bytes = 0;
    for (raft_index i = begin; i <= read.last_max && (i <= read.first || bytes < read.bytes_max);
         i++) {
        bytes += disk_entry(node, i)->count;
        count++;
    }
    raft_log_read_done(node->raft, read.peer, &node->entries[begin - node->base.index - 1], count);
}

static void take_snapshots(struct cluster *cluster, struct cluster_node *node,
                           const struct raft_output *output)
{
    for (uint32_t i = 0; i < output->snapshots_count; i++) {
        raft_id peer = output->snapshots[i].peer;
        tell(cluster, "  %" PRIu64 " wants a snapshot >= %" PRIu64 " sent to %" PRIu64 "\n",
             node->id, output->snapshots[i].index, peer);
        if (cluster->sends_snapshots) {
            TL_ASSERT(cluster->snapshots_count < TL_COUNT_OF(cluster->snapshots));
            cluster->snapshots[cluster->snapshots_count++] = cluster_cut(cluster, node->id, peer);
        }
    }
}

static bool is_same_conf(const struct raft_conf *a, const struct raft_conf *b)
{
    char a_text[256];
    char b_text[256];
    cluster_conf_text(a, a_text, sizeof a_text);
    cluster_conf_text(b, b_text, sizeof b_text);
    return strcmp(a_text, b_text) == 0;
}

/* With nothing in flight the disk has what the core has, which must be in force. */
static void check_conf(struct cluster *cluster, struct cluster_node *node)
{
    if (node->ops_count > 0) {
        return;
    }
    struct raft_conf conf = disk_conf_at(node, node->base.index + node->entries_count);
    struct raft_status status = cluster_status(cluster, node->id);
    if (!is_same_conf(&conf, &status.conf)) {
        cluster->violation = "the configuration in force is not the newest in the log";
    }
}

void cluster_turn(struct cluster *cluster, raft_id id)
{
    struct cluster_node *node = cluster_at(cluster, id);
    for (bool is_again = true; is_again;) {
        is_again = false;
        const struct raft_output *output = raft_output(node->raft);
        node->output = *output;
        watch_role(cluster, node);
        take_messages(cluster, output);
        if (output->op != NULL) take_op(cluster, node, output->op);
        if (output->commit != node->commit) {
            tell(cluster, "  %" PRIu64 " commit %" PRIu64 "\n", id, output->commit);
            node->commit = output->commit;
        }
        for (uint32_t i = 0; i < output->log_reads_count; i++) {
            tell(cluster, "  %" PRIu64 " reads %" PRIu64 ".. for %" PRIu64 "\n", id,
                 output->log_reads[i].first, output->log_reads[i].peer);
        }
        take_snapshots(cluster, node, output);
        struct raft_log_read reads[RAFT_PEERS_MAX];
        uint32_t reads_count = output->log_reads_count;
        memcpy(reads, output->log_reads, sizeof reads);
        apply(cluster, node, node->output.applicable);
        for (uint32_t i = 0; i < reads_count; i++) {
            node->log_read = reads[i];
            node->has_log_read = true;
            if (!node->holds_log_reads) {
                cluster_answer_log_read(cluster, id);
                is_again = true;
            }
        }
        if (node->output.deadline_ns <= node->now_ns) {
            raft_advance(node->raft, node->now_ns);
            is_again = true;
        }
    }
    check_conf(cluster, node);
}

/* ---- moving things on ---- */

void cluster_advance(struct cluster *cluster, raft_id id, uint64_t by_ns)
{
    struct cluster_node *node = cluster_at(cluster, id);
    node->now_ns += by_ns;
    raft_advance(node->raft, node->now_ns);
    cluster_turn(cluster, id);
}

void cluster_timeout(struct cluster *cluster, raft_id id)
{
    struct cluster_node *node = cluster_at(cluster, id);
    uint64_t started_count = cluster_status(cluster, id).elections_started_count;
    for (uint32_t i = 0;; i++) {
        TL_ASSERT(i < 10); /* it never campaigns */
        TL_ASSERT(node->output.deadline_ns != UINT64_MAX);
        cluster_advance(cluster, id, node->output.deadline_ns - node->now_ns);
        if (node->role == RAFT_PRECANDIDATE || node->role == RAFT_LEADER ||
            cluster_status(cluster, id).elections_started_count > started_count) {
            return;
        }
    }
}

void cluster_run(struct cluster *cluster, uint64_t by_ns)
{
    for (uint64_t t = 0; t < by_ns; t += MS) {
        for (raft_id id = 1; id <= cluster->nodes_count; id++) {
            if (cluster_at(cluster, id)->raft != NULL) cluster_advance(cluster, id, MS);
        }
        cluster_settle(cluster);
    }
}

static void remove_message(struct cluster *cluster, uint32_t at)
{
    cluster->messages_count--;
    memmove(&cluster->messages[at], &cluster->messages[at + 1],
            (cluster->messages_count - at) * sizeof *cluster->messages);
}

static bool matches(const struct raft_message *m, raft_id from, raft_id to)
{
    return (from == 0 || m->from == from) && (to == 0 || m->to == to);
}

void cluster_inject(struct cluster *cluster, struct raft_message *message)
{
    raft_id to = message->to;
    message->group = CLUSTER_GROUP;
    if (cluster_at(cluster, to)->raft == NULL) {
        raft_message_clear(message);
        return;
    }
    raft_message(cluster_at(cluster, to)->raft, message);
    cluster_turn(cluster, to);
}

uint32_t cluster_deliver(struct cluster *cluster, raft_id from, raft_id to, uint32_t count_max)
{
    uint32_t delivered_count = 0;
    uint32_t at = 0;
    uint32_t end = cluster->messages_count; /* not what is sent in answer */
    while (at < end && delivered_count < count_max) {
        if (!matches(&cluster->messages[at], from, to)) {
            at++;
            continue;
        }
        struct raft_message message = cluster->messages[at];
        remove_message(cluster, at);
        end--;
        delivered_count++;
        cluster_inject(cluster, &message);
    }
    return delivered_count;
}

uint32_t cluster_drop(struct cluster *cluster, raft_id from, raft_id to)
{
    uint32_t dropped_count = 0;
    for (uint32_t at = 0; at < cluster->messages_count;) {
        if (!matches(&cluster->messages[at], from, to)) {
            at++;
            continue;
        }
        raft_message_clear(&cluster->messages[at]);
        remove_message(cluster, at);
        dropped_count++;
    }
    return dropped_count;
}

/* As sets: each id is in a part once. */
static bool is_same_part(const raft_id *a, uint32_t a_count, const raft_id *b, uint32_t b_count)
{
    uint32_t both_count = 0;
    for (uint32_t i = 0; i < a_count; i++) {
        for (uint32_t k = 0; k < b_count; k++) both_count += a[i] == b[k];
    }
    return a_count == b_count && both_count == a_count;
}

/* Quorums of a configuration and of the one before must meet: voters change by way of a joint one.
 */
static void check_succession(struct cluster *cluster, const struct cluster_node *node,
                             const struct buf *entry)
{
    if (entry_type_of(entry) != ENTRY_CONF) {
        return;
    }
    struct raft_conf old = disk_conf_at(node, entry_index(entry) - 1);
    struct raft_conf new = decode_conf(entry);
    bool is_first = old.voters_count == 0;
    bool is_joined = old.outgoing_count == 0 && new.outgoing_count > 0 &&
                     is_same_part(new.outgoing, new.outgoing_count, old.voters, old.voters_count);
    bool is_left = new.outgoing_count == 0 &&
                   is_same_part(new.voters, new.voters_count, old.voters, old.voters_count);
    if (!is_first && !is_joined && !is_left) {
        cluster->violation = "two configurations follow each other whose quorums need not meet";
    }
}

/* The switch to a snapshot: table, base and log at once. */
static void disk_install(struct cluster *cluster, struct cluster_node *node,
                         const struct raft_install *install)
{
    const struct raft_base *base = &install->base;
    raft_index kept_from = base->index + 1;
    raft_index last = node->base.index + node->entries_count;
    TL_ASSERT(base->index > node->applied);
    TL_ASSERT(base->index > node->hard_state.commit); /* as the log store does */
    if (!install->keeps_suffix || kept_from > last) {
        disk_truncate(node, node->base.index + 1);
    } else {
        if (!entry_hash_is_right(buf_bytes(disk_entry(node, kept_from)), base->hash)) {
            cluster->violation = "the log behind a snapshot does not continue it";
        }
        uint32_t count = (uint32_t)(base->index - node->base.index);
        for (uint32_t i = 0; i < count; i++) buf_release(node->entries[i]);
        node->entries_count -= count;
        memmove(node->entries, node->entries + count, node->entries_count * sizeof *node->entries);
    }
    node->base = *base;
    node->conf = install->conf;
    node->hard_state.commit = base->index;
    node->applied = base->index;
    check_applied(cluster, base->index, base->hash);
}

uint32_t cluster_write(struct cluster *cluster, raft_id id, uint32_t count_max)
{
    struct cluster_node *node = cluster_at(cluster, id);
    uint32_t count = 0;
    for (; count < count_max && node->ops_count > 0; count++) {
        struct cluster_op op = node->ops[0];
        node->ops_count--;
        memmove(&node->ops[0], &node->ops[1], node->ops_count * sizeof op);
        if (op.truncate_from != 0) disk_truncate(node, op.truncate_from);
        for (uint32_t i = 0; i < op.entries_count; i++) {
            check_succession(cluster, node, op.entries[i]);
            disk_append(node, buf_acquire(op.entries[i]));
        }
        if (op.has_hard_state) node->hard_state = op.hard_state;
        if (op.is_install) disk_install(cluster, node, &op.install);
        op_clear(&op);
        raft_append_done(node->raft, op.sequence);
        cluster_turn(cluster, id);
        if (op.is_install) tell_sender(cluster, &node->installing, true);
    }
    return count;
}

void cluster_settle(struct cluster *cluster)
{
    for (uint32_t moved = 1, rounds = 0; moved > 0; rounds++) {
        TL_ASSERT(rounds < 100000);
        moved = 0;
        for (raft_id id = 1; id <= cluster->nodes_count; id++) {
            if (cluster_at(cluster, id)->raft != NULL) {
                moved += cluster_write(cluster, id, UINT32_MAX);
            }
        }
        moved += cluster_deliver(cluster, 0, 0, UINT32_MAX);
        for (; cluster->snapshots_count > 0; moved++) cluster_deliver_snapshot(cluster, false);
    }
}

void cluster_isolate(struct cluster *cluster, raft_id id, bool is_cut)
{
    for (raft_id other = 1; other <= cluster->nodes_count; other++) {
        cluster->is_cut[id][other] = is_cut;
        cluster->is_cut[other][id] = is_cut;
    }
}

/* ---- looking and asking ---- */

const struct raft_message *cluster_find(const struct cluster *cluster, enum raft_message_type type,
                                        raft_id from, raft_id to)
{
    for (uint32_t i = cluster->messages_count; i > 0; i--) {
        const struct raft_message *m = &cluster->messages[i - 1];
        if (m->type == type && matches(m, from, to)) {
            return m;
        }
    }
    return NULL;
}

uint32_t cluster_count(const struct cluster *cluster, enum raft_message_type type, raft_id from,
                       raft_id to)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < cluster->messages_count; i++) {
        const struct raft_message *m = &cluster->messages[i];
        count += m->type == type && matches(m, from, to);
    }
    return count;
}

static enum tl_err propose(struct cluster *cluster, raft_id id, struct buf *entry)
{
    struct cluster_node *node = cluster_at(cluster, id);
    raft_index index;
    raft_term term;
    enum tl_err err = raft_propose(node->raft, entry, 0, &index, &term);
    if (err != TL_OK) {
        buf_release(entry);
    }
    cluster_turn(cluster, id);
    return err;
}

enum tl_err cluster_propose(struct cluster *cluster, raft_id id, const char *text)
{
    struct buf *entry = entry_create(ENTRY_COMMAND, strlen(text));
    memcpy(entry->data + ENTRY_HEADER_BYTES, text, strlen(text));
    return propose(cluster, id, entry);
}

enum tl_err cluster_propose_bytes(struct cluster *cluster, raft_id id, size_t bytes)
{
    struct buf *entry = entry_create(ENTRY_COMMAND, bytes);
    memset(entry->data + ENTRY_HEADER_BYTES, 'x', bytes);
    return propose(cluster, id, entry);
}

enum tl_err cluster_propose_conf(struct cluster *cluster, raft_id id,
                                 const struct raft_conf *target)
{
    raft_index index = 0;
    raft_term term = 0;
    enum tl_err err = raft_propose_conf(cluster_at(cluster, id)->raft, target, 0, &index, &term);
    cluster_turn(cluster, id);
    return err;
}

enum tl_err cluster_transfer(struct cluster *cluster, raft_id id, raft_id target)
{
    enum tl_err err = raft_transfer(cluster_at(cluster, id)->raft, target);
    cluster_turn(cluster, id);
    return err;
}

struct cluster_snapshot cluster_cut(struct cluster *cluster, raft_id from, raft_id to)
{
    struct cluster_node *node = cluster_at(cluster, from);
    struct cluster_snapshot snapshot = {.from = from, .to = to, .base = node->base};
    snapshot.conf = disk_conf_at(node, node->applied);
    if (snapshot.conf.voters_count == 0) snapshot.conf = cluster->first_conf;
    if (node->applied > node->base.index) {
        const struct buf *entry = disk_entry(node, node->applied);
        snapshot.base = (struct raft_base){.index = entry_index(entry),
                                           .term = entry_term(entry),
                                           .hash = entry_hash(entry),
                                           .time_us = entry_time_us(entry)};
    }
    return snapshot;
}

static enum tl_err install(struct cluster *cluster, const struct cluster_snapshot *snapshot)
{
    struct cluster_node *node = cluster_at(cluster, snapshot->to);
    if (node->raft == NULL) {
        return TL_ERR_CANCELED;
    }
    enum tl_err err =
        raft_snapshot_install(node->raft, snapshot->from, &snapshot->base, &snapshot->conf);
    cluster_turn(cluster, snapshot->to);
    return err;
}

enum tl_err cluster_install(struct cluster *cluster, raft_id from, raft_id to)
{
    struct cluster_snapshot snapshot = cluster_cut(cluster, from, to);
    return install(cluster, &snapshot);
}

void cluster_deliver_snapshot(struct cluster *cluster, bool is_lost)
{
    TL_ASSERT(cluster->snapshots_count > 0);
    struct cluster_snapshot snapshot = cluster->snapshots[0];
    cluster->snapshots_count--;
    memmove(&cluster->snapshots[0], &cluster->snapshots[1],
            cluster->snapshots_count * sizeof snapshot);
    enum tl_err err = is_lost ? TL_ERR_CANCELED : install(cluster, &snapshot);
    if (err == TL_OK) {
        cluster_at(cluster, snapshot.to)->installing = snapshot;
    } else {
        tell_sender(cluster, &snapshot, false);
    }
}

struct raft_conf cluster_conf_at(struct cluster *cluster, raft_id id, raft_index index)
{
    return disk_conf_at(cluster_at(cluster, id), index);
}

static size_t append_ids(char *out_text, size_t at, size_t text_bytes, const char *before,
                         const raft_id *ids, uint32_t ids_count)
{
    if (ids_count == 0) {
        return at;
    }
    for (uint32_t i = 0; i < ids_count; i++) {
        int count =
            snprintf(out_text + at, text_bytes - at, "%s%" PRIu64, i == 0 ? before : " ", ids[i]);
        TL_ASSERT(count > 0 && (size_t)count < text_bytes - at);
        at += (size_t)count;
    }
    return at;
}

void cluster_conf_text(const struct raft_conf *conf, char *out_text, size_t text_bytes)
{
    out_text[0] = '\0';
    size_t at = append_ids(out_text, 0, text_bytes, "", conf->voters, conf->voters_count);
    at = append_ids(out_text, at, text_bytes, " | ", conf->outgoing, conf->outgoing_count);
    at = append_ids(out_text, at, text_bytes, " learners ", conf->learners, conf->learners_count);
    if (conf->epoch != 0) {
        int count = snprintf(out_text + at, text_bytes - at, " epoch %" PRIu64, conf->epoch);
        TL_ASSERT(count > 0 && (size_t)count < text_bytes - at);
    }
}

uint64_t cluster_read(struct cluster *cluster, raft_id id)
{
    uint64_t round = raft_read(cluster_at(cluster, id)->raft);
    cluster_turn(cluster, id);
    return round;
}

void cluster_compact(struct cluster *cluster, raft_id id, raft_index index)
{
    struct cluster_node *node = cluster_at(cluster, id);
    TL_ASSERT(index > node->base.index);
    const struct buf *entry = disk_entry(node, index);
    struct raft_base base = {.index = index,
                             .term = entry_term(entry),
                             .hash = entry_hash(entry),
                             .time_us = entry_time_us(entry)};
    node->conf = disk_conf_at(node, index);
    uint32_t count = (uint32_t)(index - node->base.index);
    for (uint32_t i = 0; i < count; i++) buf_release(node->entries[i]);
    node->entries_count -= count;
    memmove(node->entries, node->entries + count, node->entries_count * sizeof *node->entries);
    node->base = base;
    if (node->raft != NULL) {
        raft_compacted(node->raft, &base);
    }
}

void cluster_elect(struct cluster *cluster, raft_id id)
{
    cluster_timeout(cluster, id);
    cluster_settle(cluster);
    cr_assert_eq(raft_role_of(cluster_at(cluster, id)->raft), RAFT_LEADER, "node %" PRIu64, id);
}

struct raft_status cluster_status(struct cluster *cluster, raft_id id)
{
    struct raft_status status;
    raft_get_status(cluster_at(cluster, id)->raft, &status);
    return status;
}

struct raft_peer_status cluster_peer(struct cluster *cluster, raft_id leader, raft_id id)
{
    struct raft_status status = cluster_status(cluster, leader);
    uint32_t at = 0;
    while (at < status.peers_count && status.peers[at].id != id) at++;
    cr_assert_lt(at, status.peers_count, "node %" PRIu64 " has no peer %" PRIu64, leader, id);
    return status.peers[at];
}

raft_id cluster_leader(const struct cluster *cluster)
{
    raft_id leader = 0;
    raft_term term = 0;
    for (uint32_t i = 0; i < cluster->nodes_count; i++) {
        const struct raft *raft = cluster->nodes[i].raft;
        if (raft != NULL && raft_role_of(raft) == RAFT_LEADER && raft_current_term(raft) > term) {
            leader = cluster->nodes[i].id;
            term = raft_current_term(raft);
        }
    }
    return leader;
}

void cluster_log_text(struct cluster *cluster, raft_id id, char *out_text, size_t text_bytes)
{
    struct cluster_node *node = cluster_at(cluster, id);
    size_t at = 0;
    out_text[0] = '\0';
    for (uint32_t i = 0; i < node->entries_count; i++) {
        int count = snprintf(out_text + at, text_bytes - at, "%s%" PRIu64, i > 0 ? " " : "",
                             entry_term(node->entries[i]));
        TL_ASSERT(count > 0 && (size_t)count < text_bytes - at);
        at += (size_t)count;
    }
}
