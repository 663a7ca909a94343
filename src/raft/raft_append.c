/* raft_append.c - the follower's side of replication (thesis 3.5, 10.2).
 *
 * What an append may do to the log, entry by entry:
 *
 *     at or below commit      nothing: it is the same entry (leader completeness)
 *     held, same term         nothing: it is the same entry, which its chain hash must say, too
 *     held, other term        the log is truncated from there, and the entry appended
 *     behind the last         the entry is appended
 *
 * Nothing is truncated for any other reason: appends arrive late, twice and out of order.
 */

#include "raft_internal.h"

/* The largest index that may match: no higher than asked, its term no higher than the leader's
 * there, which skips a whole term per round trip (thesis 3.5). What is committed matches. */
static void set_hint(const struct raft *raft, const struct raft_message *append,
                     struct raft_message *reply)
{
    raft_index hint = TL_MIN(append->index, raft->log.last);
    while (hint > raft->commit && raft_log_term(&raft->log, hint) > append->log_term) hint--;
    reply->hint_index = hint;
    reply->hint_term = raft_log_has(&raft->log, hint) ? raft_log_term(&raft->log, hint) : 0;
}

static void reject(struct raft *raft, const struct raft_message *append)
{
    struct raft_message reply = raft_message_make(raft, RAFT_APPEND_REPLY, append->from);
    reply.index = append->index;
    reply.sequence = append->sequence;
    reply.reject = RAFT_REJECT_MISMATCH;
    set_hint(raft, append, &reply);
    raft_send(raft, &reply);
}

/* Equal index and term, other bytes; `index` is the last entry that both were thought to share.
 * Either this node's record is damaged, or the leader's is: before it accuses anybody it looks at
 * its own. */
static void report_chain_mismatch(struct raft *raft, const struct raft_message *append,
                                  raft_index index)
{
    raft->chain_mismatches_count++;
    struct raft_message reply = raft_message_make(raft, RAFT_APPEND_REPLY, append->from);
    reply.index = append->index;
    reply.sequence = append->sequence;
    reply.reject = RAFT_REJECT_CHAIN_MISMATCH;
    reply.hint_index = index;
    if (index <= raft->log.base.index || index > raft->ops.durable) {
        raft_send(raft, &reply); /* there is no record to look at */
    } else if (raft->verify.index == 0) {
        raft->verify.index = index;
        raft->verify.is_given_out = false;
        raft->verify.term = raft->term;
        raft->verify.reply = reply;
    }
}

/* A quorum has taken the leader's next entry as it is, so it is this log that differs: nothing will
 * ever be appended to it, and what is applied may be wrong. The leader has an election timeout to
 * find that its own memory is at fault: it looks at its record when it is told of the mismatch. */
static void judge_own_chain(struct raft *raft, const struct raft_message *append, raft_index index)
{
    if (append->commit <= index) return;
    if (raft->mutation == RAFT_MUTATION_IGNORE_LEADER_CHAIN) return;
    bool is_again = raft->differs_since_ns != 0 && raft->differs_index == index;
    if (!is_again) {
        raft->differs_index = index;
        raft->differs_since_ns = TL_MAX(raft->now_ns, 1u);
    } else if (raft->now_ns >= raft->differs_since_ns + raft->election_timeout_ns) {
        raft->is_chain_broken = true;
    }
}

enum verdict { SAME, APPEND, CONFLICT, BROKEN, NO_ROOM };

/* What to do with an entry whose predecessor is in the log and equal. */
static enum verdict judge(const struct raft *raft, const struct buf *entry)
{
    raft_index index = entry_index(entry);
    const struct raft_log *log = &raft->log;
    TL_ASSERT(index <= log->last + 1);
    if (index <= log->last) {
        const struct buf *held = raft_log_entry(log, index);
        if (held == NULL) {
            TL_ASSERT(index <= raft->commit);
            return SAME;
        }
        if (entry_term(held) == entry_term(entry)) {
            return hash_equal(entry_hash(held), entry_hash(entry)) ? SAME : BROKEN;
        }
        if (index <= raft->commit) {
            return BROKEN;
        }
    }
    if (!entry_hash_is_right(buf_bytes(entry), raft_log_hash(log, index - 1))) {
        return BROKEN;
    }
    if (index <= log->last) {
        return CONFLICT;
    }
    return raft_log_room(log) > 0 ? APPEND : NO_ROOM;
}

/* Returns how many entries of the message the log now holds, or false for a broken chain. */
static bool take_entries(struct raft *raft, const struct raft_message *append,
                         uint32_t *out_taken_count)
{
    uint32_t i = 0;
    for (; i < append->entries_count; i++) {
        struct buf *entry = append->entries[i];
        enum verdict verdict = judge(raft, entry);
        if (verdict == BROKEN) {
            report_chain_mismatch(raft, append, append->index + i);
            judge_own_chain(raft, append, append->index + i);
            return false;
        }
        if (verdict == CONFLICT) {
            raft_truncate(raft, entry_index(entry));
            verdict = raft_log_room(&raft->log) > 0 ? APPEND : NO_ROOM;
        }
        if (verdict == NO_ROOM) {
            break; /* the leader comes back with the rest */
        }
        if (verdict == APPEND) {
            raft_append_entry(raft, buf_acquire(entry));
        }
    }
    *out_taken_count = i;
    return true;
}

/* Bytes of a peer: the sums and orders that decoding promises, and what only the core knows. */
static bool is_well_formed(const struct raft_message *append)
{
    raft_term term = append->log_term;
    for (uint32_t i = 0; i < append->entries_count; i++) {
        const struct buf *entry = append->entries[i];
        if (entry_index(entry) != append->index + 1 + i || entry_term(entry) < term ||
            !raft_is_entry_right(entry)) {
            return false;
        }
        term = entry_term(entry);
    }
    return term <= append->term;
}

void raft_step_append(struct raft *raft, const struct raft_message *append)
{
    if (!is_well_formed(append) || !raft_hear_leader(raft, append->from)) {
        raft->messages_dropped_count++;
        return;
    }
    raft->leader_commit = TL_MAX(raft->leader_commit, append->commit);
    if (raft->install.state != RAFT_INSTALL_NONE) {
        return; /* what is to become of the log is decided: the leader comes back */
    }

    const struct raft_log *log = &raft->log;
    bool is_known = append->index <= log->last && raft_log_has(log, append->index);
    bool is_equal = is_known && raft_log_term(log, append->index) == append->log_term;
    if (append->index > raft->commit && !is_equal) {
        reject(raft, append);
        return;
    }
    if (is_known && !is_equal) {
        report_chain_mismatch(raft, append, append->index); /* committed here, and not there */
        return;
    }
    uint32_t taken_count = 0;
    if (!take_entries(raft, append, &taken_count)) {
        return;
    }

    /* What lies behind the last entry of this append may be a dead leader's: not verified, so not
     * committed whatever the leader's commit index is (thesis 3.5, figure 3.1, "AppendEntries 5").
     */
    raft_index verified = append->index + taken_count;
    raft->verified = TL_MAX(raft->verified, verified);
    if (raft->verified > raft->differs_index) raft->differs_since_ns = 0;
    raft_index commit = TL_MIN(append->commit, verified);
    if (raft->mutation == RAFT_MUTATION_COMMIT_UNCAPPED) {
        commit = TL_MIN(append->commit, log->last);
    }
    if (commit > raft->commit) {
        raft_commit_to(raft, commit);
    }
    struct raft_message reply = raft_message_make(raft, RAFT_APPEND_REPLY, append->from);
    reply.index = TL_MAX(verified, raft->commit);
    reply.sequence = append->sequence;
    raft_send_after(raft, &reply);
}

/* An append of a term that is over, from a leader that is gone or does not know yet: its entries
 * are kept where they continue the log. They may be all that is left of what is long on its way
 * over a slow link, and the new leader need not send again what is here when it first asks.
 *
 * Why that is safe although this node may have voted in a newer term since. What Raft forbids is to
 * let the old leader count this node (thesis 3.6.3: a voter has accepted the entry before it votes
 * in a newer term): the entries are not acknowledged, the answer is this node's newer term, and
 * `verified` stays. The log stays a prefix of the old leader's, checked by the index, the term and
 * the hash of the entry before (Log Matching), and nothing is truncated. An entry that is in the
 * log and that no leader has counted is what every follower has after its acknowledgement was lost:
 * a later leader has it, or replaces it. It only makes this node refuse candidates that have less,
 * as it may. Configurations are left out: they would be in force at once. Nor is a candidate's
 * log to become another one than it has asked votes for. */
void raft_keep_older_append(struct raft *raft, const struct raft_message *append)
{
    const struct raft_log *log = &raft->log;
    bool is_ready = raft->role == RAFT_FOLLOWER && raft->install.state == RAFT_INSTALL_NONE;
    bool is_held = append->index <= log->last && raft_log_has(log, append->index);
    if (!is_ready || !is_held || !is_well_formed(append) ||
        raft_log_term(log, append->index) != append->log_term) {
        return;
    }
    for (uint32_t i = 0; i < append->entries_count; i++) {
        struct buf *entry = append->entries[i];
        enum verdict verdict = judge(raft, entry);
        bool is_kept = verdict == APPEND && entry_type_of(entry) != ENTRY_CONF;
        if (!is_kept && verdict != SAME) return;
        if (is_kept) raft_append_entry(raft, buf_acquire(entry));
    }
    if (raft->mutation == RAFT_MUTATION_ACK_OLDER_APPEND) {
        struct raft_message reply = raft_message_make(raft, RAFT_APPEND_REPLY, append->from);
        reply.term = append->term;
        reply.index = append->index + append->entries_count;
        reply.sequence = append->sequence;
        raft_send_after(raft, &reply);
    }
}

raft_index raft_common_index(const struct raft *raft)
{
    raft_index last = raft->log.last;
    if (raft->install.state != RAFT_INSTALL_NONE && !raft->install.install.keeps_suffix) {
        return raft->commit;
    }
    if (raft->mutation == RAFT_MUTATION_COMMIT_UNCAPPED) {
        return last;
    }
    return raft_log_term(&raft->log, last) == raft->term ? last : TL_MIN(raft->verified, last);
}

void raft_step_heartbeat(struct raft *raft, const struct raft_message *heartbeat)
{
    if (!raft_hear_leader(raft, heartbeat->from)) {
        raft->messages_dropped_count++;
        return;
    }
    raft->leader_commit = TL_MAX(raft->leader_commit, heartbeat->commit);
    raft_index commit = TL_MIN(heartbeat->commit, raft_common_index(raft)); /* a peer's word */
    if (commit > raft->commit) {
        raft_commit_to(raft, commit);
    }
    struct raft_message reply = raft_message_make(raft, RAFT_HEARTBEAT_REPLY, heartbeat->from);
    reply.sequence = heartbeat->sequence;
    raft_send(raft, &reply);
}
