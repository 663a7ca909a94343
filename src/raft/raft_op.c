/* raft_op.c - append ops in flight, and the messages that wait for them.
 *
 *     decided, not issued ---raft_ops_issue()---> in flight (FIFO) ---raft_ops_done()---> durable
 *
 * raft_send_after(): a message waits behind everything that was decided when it was made.
 *
 * Completion is bound to the op, never to an index. A follower may append entry 7, be told to
 * replace it, and append another 7, all before the disk has written the first. A completion that
 * said "7 is durable" would vouch for an entry that is not there (etcd-io/raft, "append ABA race").
 * So an acknowledgement is complete when it is made, and is only held back; and what an op has
 * made durable is cut down (valid_last) when a later decision truncates what it wrote.
 *
 * Vote requests wait, too. A grant answers for a candidate's log as the request describes it; if
 * part of that log were lost in a crash, the same candidate could come back, ask again in the same
 * term, and win with the late grant for a log that it no longer has.
 */

#include "raft_internal.h"

#include <stdlib.h>

static struct raft_op *op_at(struct raft_ops *ops, uint32_t position)
{
    TL_ASSERT(position < ops->count);
    return &ops->in_flight[(ops->first + position) % RAFT_OPS_IN_FLIGHT_MAX];
}

static struct raft_message *after_at(struct raft_ops *ops, uint32_t position)
{
    TL_ASSERT(position < ops->after_count);
    return &ops->after[(ops->after_first + position) % RAFT_AFTER_MESSAGES_MAX];
}

static void raft_ops_check(const struct raft *raft)
{
    const struct raft_ops *ops = &raft->ops;
    TL_ASSERT(ops->count <= RAFT_OPS_IN_FLIGHT_MAX);
    TL_ASSERT(ops->pointers_used <= RAFT_OP_POINTERS_MAX);
    TL_ASSERT(ops->after_next_count <= ops->after_count);
    TL_ASSERT(ops->after_count <= RAFT_AFTER_MESSAGES_MAX);
    TL_ASSERT(ops->issued_last <= raft->log.last);
    TL_ASSERT(ops->durable <= ops->issued_last);
    TL_ASSERT(ops->hard_issued.term <= raft->term);
    TL_ASSERT(ops->hard_issued.commit <= ops->issued_last);
    TL_ASSERT(ops->durable_term <= ops->hard_issued.term);
    if (ops->truncate_from != 0) TL_ASSERT(ops->truncate_from == ops->issued_last + 1);
    if (ops->count == 0) TL_ASSERT(ops->durable == ops->issued_last);
}

void raft_ops_init(struct raft *raft, const struct raft_options *options)
{
    struct raft_ops *ops = &raft->ops;
    ops->pointers = calloc(RAFT_OP_POINTERS_MAX, sizeof *ops->pointers);
    ops->after = calloc(RAFT_AFTER_MESSAGES_MAX, sizeof *ops->after);
    TL_ASSERT(ops->pointers != NULL);
    TL_ASSERT(ops->after != NULL);
    ops->issued_last = options->last_index;
    ops->durable = options->last_index;
    ops->durable_scalar = options->last_index;
    ops->hard_issued = options->hard_state;
    ops->durable_term = options->hard_state.term;
    ops->durable_vote = options->hard_state.vote;
    raft_ops_check(raft);
}

static void release_entries(struct raft_append_op *op)
{
    for (uint32_t i = 0; i < op->entries_count; i++) {
        buf_release(op->entries[i]);
        op->entries[i] = NULL;
    }
}

void raft_ops_deinit(struct raft *raft)
{
    struct raft_ops *ops = &raft->ops;
    for (uint32_t i = 0; i < ops->count; i++) release_entries(&op_at(ops, i)->op);
    free(ops->pointers);
    free(ops->after);
    ops->pointers = NULL;
    ops->after = NULL;
}

bool raft_ops_is_dirty(const struct raft *raft)
{
    const struct raft_ops *ops = &raft->ops;
    return ops->issued_last < raft->log.last || ops->truncate_from != 0 ||
           ops->hard_issued.term != raft->term || ops->hard_issued.vote != raft->vote;
}

void raft_ops_on_truncate(struct raft *raft, raft_index from)
{
    struct raft_ops *ops = &raft->ops;
    raft_ops_check(raft);
    for (uint32_t i = 0; i < ops->count; i++) {
        struct raft_op *op = op_at(ops, i);
        op->valid_last = TL_MIN(op->valid_last, from - 1);
    }
    ops->durable = TL_MIN(ops->durable, from - 1);
    if (ops->issued_last >= from) {
        ops->issued_last = from - 1;
        ops->truncate_from = from; /* below an earlier one, if there was one */
    }
}

void raft_ops_on_install(struct raft *raft)
{
    struct raft_ops *ops = &raft->ops;
    TL_ASSERT(ops->truncate_from == 0);
    ops->issued_last = raft->log.last;
    ops->durable = raft->log.last;
    ops->durable_scalar = raft->log.last;
}

/* The newest acknowledgement or vote says all that an older one waiting for the same op does. */
static bool replaces(const struct raft_message *newer, const struct raft_message *older)
{
    return newer->type == older->type && newer->to == older->to && newer->term >= older->term;
}

static bool raft_send_after_merge(struct raft_ops *ops, const struct raft_message *message,
                                  uint32_t group_count)
{
    for (uint32_t i = ops->after_count - group_count; i < ops->after_count; i++) {
        struct raft_message *older = after_at(ops, i);
        if (!replaces(message, older)) {
            continue;
        }
        struct raft_message merged = *message;
        if (merged.type == RAFT_APPEND_REPLY && merged.term == older->term) {
            /* Appends may be reordered; within a term what was verified stays so. */
            merged.index = TL_MAX(merged.index, older->index);
            merged.sequence = TL_MAX(merged.sequence, older->sequence);
        } else if (merged.type == RAFT_VOTE_REPLY && merged.term == older->term) {
            merged.granted = merged.granted || older->granted; /* a vote is not taken back */
        }
        *older = merged;
        return true;
    }
    return false;
}

void raft_send_after(struct raft *raft, const struct raft_message *message)
{
    struct raft_ops *ops = &raft->ops;
    TL_ASSERT(message->entries_count == 0);
    TL_ASSERT(message->reject == RAFT_REJECT_NONE);
    bool is_dirty = raft_ops_is_dirty(raft);
    bool is_early =
        raft->mutation == RAFT_MUTATION_VOTE_BEFORE_DURABLE && message->type == RAFT_VOTE_REPLY;
    if (is_early || (!is_dirty && ops->count == 0)) {
        raft_send(raft, message);
        return;
    }
    uint32_t *group_count = &ops->after_next_count;
    if (!is_dirty) {
        TL_ASSERT(ops->after_next_count == 0);
        group_count = &op_at(ops, ops->count - 1)->after_count;
    }
    if (raft_send_after_merge(ops, message, *group_count)) {
        return;
    }
    if (ops->after_count == RAFT_AFTER_MESSAGES_MAX) {
        raft->messages_dropped_count++; /* as a network may: it is asked for again */
        return;
    }
    ops->after_count++;
    (*group_count)++;
    *after_at(ops, ops->after_count - 1) = *message;
}

/* Contiguous room for `count` pointers, or NULL. Takes it, and what it skips at the ring's end. */
static struct buf **take_pointers(struct raft_ops *ops, uint32_t count, uint32_t *out_taken)
{
    uint32_t end = (ops->pointers_begin + ops->pointers_used) % RAFT_OP_POINTERS_MAX;
    uint32_t skipped = end + count > RAFT_OP_POINTERS_MAX ? RAFT_OP_POINTERS_MAX - end : 0;
    if (ops->pointers_used + skipped + count > RAFT_OP_POINTERS_MAX) {
        return NULL;
    }
    *out_taken = skipped + count;
    ops->pointers_used += *out_taken;
    return &ops->pointers[(end + skipped) % RAFT_OP_POINTERS_MAX];
}

/* Behind everything that was decided before it, and alone. */
static bool is_install_due(const struct raft *raft)
{
    return raft->install.state == RAFT_INSTALL_WANTED && !raft_ops_is_dirty(raft);
}

static uint32_t next_entries_count(const struct raft *raft)
{
    raft_index waiting = raft->log.last - raft->ops.issued_last;
    return (uint32_t)TL_MIN(waiting, (raft_index)RAFT_OP_ENTRIES_MAX);
}

bool raft_ops_can_issue(const struct raft *raft)
{
    /* Twice: in the worst case as much is skipped at the ring's end as is taken. */
    return raft->install.state != RAFT_INSTALL_ISSUED &&
           (raft_ops_is_dirty(raft) || is_install_due(raft)) &&
           raft->ops.count < RAFT_OPS_IN_FLIGHT_MAX &&
           raft->ops.pointers_used + 2 * RAFT_OP_ENTRIES_MAX <= RAFT_OP_POINTERS_MAX;
}

/* The commit index is no promise of its own: it is written to shorten what a restart has to hold in
 * memory, whenever it has moved far enough, and never alone. Beside a configuration it is always
 * written: the host has the addresses of those whom it names from what is applied. A restart that
 * did not know that this is committed could neither reach them nor, without them, commit. */
static bool has_hard_state(const struct raft *raft, raft_index last)
{
    const struct raft_hard_state *issued = &raft->ops.hard_issued;
    bool has_conf = raft->conf_index > raft->ops.issued_last && raft->conf_index <= last &&
                    raft->mutation != RAFT_MUTATION_CONF_WITHOUT_COMMIT;
    uint64_t lag_max = has_conf ? 0 : RAFT_COMMIT_HINT_LAG;
    return issued->term != raft->term || issued->vote != raft->vote ||
           raft->commit > issued->commit + lag_max;
}

/* What of the commit index may be written. Below a snapshot that is wanted: the log store never
 * goes back behind what it knows as committed, so it would refuse a switch that another op of a
 * new term has let the index overtake. The switch itself brings the index there. */
static raft_index writable_commit(const struct raft *raft, raft_index last)
{
    raft_index commit = TL_MIN(raft->commit, last);
    if (raft->install.state == RAFT_INSTALL_WANTED) {
        commit = TL_MIN(commit, raft->install.install.base.index - 1);
    }
    return commit;
}

const struct raft_append_op *raft_ops_issue(struct raft *raft)
{
    struct raft_ops *ops = &raft->ops;
    raft_ops_check(raft);
    if (!raft_ops_can_issue(raft)) {
        return NULL;
    }
    bool is_install = is_install_due(raft);
    uint32_t entries_count = next_entries_count(raft);
    uint32_t taken = 0;
    struct buf **entries = take_pointers(ops, entries_count, &taken);
    TL_ASSERT(entries != NULL);
    for (uint32_t i = 0; i < entries_count; i++) {
        entries[i] = buf_acquire(raft_log_entry(&raft->log, ops->issued_last + 1 + i));
    }
    raft_index last = ops->issued_last + entries_count;
    bool has_hard = has_hard_state(raft, last);

    ops->count++;
    struct raft_op *op = op_at(ops, ops->count - 1);
    *op = (struct raft_op){
        .op = {.sequence = ++ops->sequence,
               .truncate_from = ops->truncate_from,
               .entries_count = entries_count,
               .entries = entries,
               .has_hard_state = has_hard},
        .pointers_count = taken,
        .last = last,
        .valid_last = last,
    };
    ops->issued_last = last;
    ops->truncate_from = 0;
    if (is_install) {
        TL_ASSERT(entries_count == 0);
        op->op.has_hard_state = false; /* only the commit hint could be due */
        op->op.install = &raft->install.install;
        raft->install.state = RAFT_INSTALL_ISSUED;
    }
    if (op->op.has_hard_state) {
        op->op.hard_state = (struct raft_hard_state){
            .term = raft->term, .vote = raft->vote, .commit = writable_commit(raft, last)};
        TL_ASSERT(op->op.hard_state.commit >= ops->hard_issued.commit);
        ops->hard_issued = op->op.hard_state;
    }
    if (!raft_ops_is_dirty(raft)) {
        op->after_count = ops->after_next_count;
        ops->after_next_count = 0;
    }
    raft_ops_check(raft);
    return &op->op;
}

/* Lets a message go whose op is done. */
static void release_message(struct raft *raft, struct raft_message *message)
{
    if (message->type == RAFT_VOTE &&
        (raft->role != RAFT_CANDIDATE || message->term != raft->term)) {
        return; /* that election is over */
    }
    if (raft->mutation == RAFT_MUTATION_ACK_FROM_SCALAR && message->type == RAFT_APPEND_REPLY) {
        message->term = raft->term;
        message->to = raft->leader != RAFT_ID_NONE ? raft->leader : message->to;
        message->index = raft->ops.durable_scalar;
    }
    raft_send(raft, message);
}

void raft_ops_done(struct raft *raft, uint64_t sequence)
{
    struct raft_ops *ops = &raft->ops;
    raft_ops_check(raft);
    TL_ASSERT(ops->count > 0);
    struct raft_op *op = op_at(ops, 0);
    TL_ASSERT(op->op.sequence == sequence);

    release_entries(&op->op);
    ops->pointers_begin = (ops->pointers_begin + op->pointers_count) % RAFT_OP_POINTERS_MAX;
    ops->pointers_used -= op->pointers_count;
    ops->durable = TL_MAX(ops->durable, op->valid_last);
    ops->durable_scalar = TL_MAX(ops->durable_scalar, op->last);
    if (op->op.has_hard_state) {
        ops->durable_term = op->op.hard_state.term;
        ops->durable_vote = op->op.hard_state.vote;
    }
    if (op->op.install != NULL) {
        TL_ASSERT(ops->count == 1);
        raft_install_done(raft);
    }
    for (uint32_t i = 0; i < op->after_count; i++) {
        release_message(raft, after_at(ops, 0));
        ops->after_first = (ops->after_first + 1) % RAFT_AFTER_MESSAGES_MAX;
        ops->after_count--;
    }
    ops->first = (ops->first + 1) % RAFT_OPS_IN_FLIGHT_MAX;
    ops->count--;
    raft_ops_check(raft);
}
