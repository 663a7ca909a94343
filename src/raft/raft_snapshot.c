/* raft_snapshot.c - peers that need a snapshot, and installing one (thesis 5).
 *
 * The core sees no bytes of a snapshot, only where it stands: {index, term, chain hash, time,
 * configuration}. The host sends them to a peer that needs one, and receives them beside the table
 * in use. Then
 *
 *     raft_snapshot_install()   WANTED   no entries are taken any more, no campaign is begun
 *          everything decided before is issued
 *                               ISSUED   the op is with the log writer, behind those before it
 *          raft_append_done()   NONE     log, commit and applied index, configuration are switched
 *
 * What is in memory changes when the disk has changed, not before: until then this node may still
 * vote and answer for its old log, and the new one need not be kept in mind twice.
 *
 * The log behind the snapshot stays only if it has the snapshot's last entry, by index and term.
 * Otherwise all of it goes: entries of a dead leader that stayed behind the base could never be
 * replaced, for nothing in the log would contradict them, and the leader would send snapshot after
 * snapshot (hashicorp/raft #697).
 *
 * What goes may have been acknowledged, to the leader of an older term: who still knows that takes
 * a log that has become shorter in the same term for an old copy of itself. So it becomes shorter
 * only in a term in which the sender is known to lead, or with a snapshot of a newer one: the term
 * is written before the switch.
 */

#include "raft_internal.h"

/* ---- the leader's side ---- */

void raft_ask_snapshots(struct raft *raft)
{
    struct raft_output *output = &raft->output;
    for (uint32_t i = 0; i < raft->peers_count && raft->role == RAFT_LEADER; i++) {
        struct raft_peer *peer = &raft->peers[i];
        if (peer->state != RAFT_NEEDS_SNAPSHOT || !peer->is_snapshot_due ||
            peer->is_snapshot_asked) {
            continue;
        }
        peer->is_snapshot_asked = true;
        output->snapshots[output->snapshots_count++] =
            (struct raft_snapshot_wanted){.peer = peer->id, .index = raft->log.base.index};
    }
}

static struct raft_peer *find_needy(struct raft *raft, raft_id peer_id)
{
    struct raft_peer *peer = raft_peer_find(raft, peer_id);
    bool is_needy = raft->role == RAFT_LEADER && peer != NULL && peer->state == RAFT_NEEDS_SNAPSHOT;
    return is_needy ? peer : NULL;
}

void raft_snapshot_sent(struct raft *raft, raft_id peer_id, raft_index index)
{
    struct raft_peer *peer = find_needy(raft, peer_id);
    if (peer == NULL) {
        return;
    }
    TL_ASSERT(index <= raft->applied); /* it was cut here */
    if (index < raft->log.base.index) {
        raft_snapshot_failed(raft, peer_id); /* overtaken: another one is needed */
    } else {
        raft_peer_to_probe(peer, TL_MAX(index, peer->match) + 1);
    }
}

void raft_snapshot_failed(struct raft *raft, raft_id peer_id)
{
    struct raft_peer *peer = find_needy(raft, peer_id);
    if (peer != NULL) {
        peer->is_snapshot_due = false; /* until it says again that it lacks the base */
        peer->is_snapshot_asked = false;
    }
}

/* ---- the receiver's side ---- */

bool raft_snapshot_is_wanted(const struct raft *raft, raft_index index)
{
    return raft->role != RAFT_LEADER && index > raft->commit &&
           raft->install.state == RAFT_INSTALL_NONE;
}

static bool has_last_entry(const struct raft *raft, const struct raft_base *base)
{
    return base->index <= raft->log.last && raft_log_term(&raft->log, base->index) == base->term;
}

/* ... in the term in which this node may have acknowledged what goes. */
static bool makes_shorter(const struct raft *raft, const struct raft_base *base, bool keeps_suffix)
{
    return !keeps_suffix && base->index < raft->log.last && base->term <= raft->term;
}

enum tl_err raft_snapshot_install(struct raft *raft, raft_id sender, const struct raft_base *base,
                                  const struct raft_conf *conf)
{
    TL_ASSERT(raft_conf_is_right(conf));
    if (raft->install.state != RAFT_INSTALL_NONE) {
        return TL_ERR_BUSY;
    }
    if (!raft_snapshot_is_wanted(raft, base->index)) {
        return TL_ERR_STALE;
    }
    bool keeps_suffix = has_last_entry(raft, base);
    if (keeps_suffix && !hash_equal(raft_log_hash(&raft->log, base->index), base->hash)) {
        raft->chain_mismatches_count++;
        return TL_ERR_CORRUPT;
    }
    if (raft->mutation == RAFT_MUTATION_KEEP_CONFLICTING_SUFFIX) {
        keeps_suffix = base->index <= raft->log.last;
    }
    if (makes_shorter(raft, base, keeps_suffix) && raft->leader != sender) {
        return TL_ERR_NO_LEADER;
    }
    if (raft->role != RAFT_FOLLOWER || base->term > raft->term) {
        raft_become_follower(raft, TL_MAX(raft->term, base->term), RAFT_ID_NONE);
    }
    raft->install.state = RAFT_INSTALL_WANTED;
    raft->install.install =
        (struct raft_install){.base = *base, .conf = *conf, .keeps_suffix = keeps_suffix};
    return TL_OK;
}

void raft_install_done(struct raft *raft)
{
    const struct raft_install *install = &raft->install.install;
    const struct raft_base *base = &install->base;
    TL_ASSERT(raft->install.state == RAFT_INSTALL_ISSUED);
    TL_ASSERT(raft->role != RAFT_LEADER);
    TL_ASSERT(base->index > raft->applied);
    raft->install.state = RAFT_INSTALL_NONE;
    raft->installs_count++;

    raft_log_install(&raft->log, base, install->keeps_suffix);
    raft->commit = TL_MAX(raft->commit, base->index);
    raft->leader_commit = TL_MAX(raft->leader_commit, raft->commit);
    raft->applied = base->index;
    raft->uncommitted_bytes = 0;
    for (raft_index i = raft->commit + 1; i <= raft->log.last; i++) {
        raft->uncommitted_bytes += raft_log_entry(&raft->log, i)->count;
    }
    raft_ops_on_install(raft);
    raft_membership_on_install(raft, &install->conf);
    raft_update_evictable(raft);

    /* A leader of the term of the snapshot's last entry has written that entry: it need not ask.
     * One of a later term does: the snapshot may have been committed in a term after its own, of
     * which neither has heard, and it may have another entry there. */
    bool is_author = raft->term == base->term;
    if (raft->mutation == RAFT_MUTATION_INSTALL_ACKED_UNASKED) {
        is_author = true;
    }
    if (raft->leader != RAFT_ID_NONE && is_author) {
        struct raft_message reply = raft_message_make(raft, RAFT_APPEND_REPLY, raft->leader);
        reply.index = base->index;
        raft_send_after(raft, &reply);
    }
}
