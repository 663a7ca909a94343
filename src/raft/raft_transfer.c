/* raft_transfer.c - handing leadership over (thesis 3.10), and when a slow disk asks for it.
 *
 *     raft_transfer() -> nothing is proposed any more -> the target has the whole log
 *         -> TIMEOUT_NOW, again every heartbeat -> the target campaigns without a pre-vote,
 *            and its vote requests are answered although a leader is heard
 *     after an election timeout: over, proposals are taken again
 *
 * A TIMEOUT_NOW that comes late does no harm: it is obeyed in its own term only, and reads need no
 * lease that a sudden election could break.
 *
 * A leader whose disk hangs goes on sending heartbeats, for they need no disk, while nothing it
 * writes is answered (hashicorp/raft #503). So the host tells how long its oldest log commit has
 * been under way, and what its peers said of theirs. Leadership moves only to a voter that has
 * just reported a healthy disk, and not a sick one for as long as a stall takes to be noticed: when
 * one cause has stalled all of them, moving it helps nobody, and when that ends, some are told a
 * moment before the others.
 */

#include "raft_internal.h"

static bool may_take_over(const struct raft *raft, const struct raft_peer *peer)
{
    return raft_conf_is_incoming(&raft->conf, peer->id) && raft_is_heard(raft, peer->id) &&
           !peer->is_unfit;
}

static bool has_healthy_disk(const struct raft *raft, const struct raft_peer *peer)
{
    bool was_sick =
        peer->disk_sick_ns != 0 && raft->now_ns - peer->disk_sick_ns < RAFT_DISK_STALLED_NS &&
        raft->mutation != RAFT_MUTATION_DISK_JUST_WELL;
    return !was_sick && peer->disk_heard_ns != 0 && peer->disk_age_ns < RAFT_DISK_HEALTHY_NS &&
           raft->now_ns - peer->disk_heard_ns <= RAFT_DISK_REPORT_NS;
}

/* The voter that can take over soonest; RAFT_ID_NONE: none is there. */
static raft_id best_target(const struct raft *raft)
{
    const struct raft_peer *best = NULL;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        if (!may_take_over(raft, peer)) {
            continue;
        }
        bool is_better = best == NULL;
        if (best != NULL && has_healthy_disk(raft, peer) != has_healthy_disk(raft, best)) {
            is_better = has_healthy_disk(raft, peer);
        } else if (best != NULL) {
            is_better = peer->match > best->match;
        }
        if (is_better) {
            best = peer;
        }
    }
    return best != NULL ? best->id : RAFT_ID_NONE;
}

static void begin(struct raft *raft, raft_id target)
{
    if (raft->transfer.target == target) {
        return;
    }
    raft->transfer.target = target;
    raft->transfer.deadline_ns = raft->now_ns + raft->election_timeout_ns;
    raft->transfer.next_ns = raft->now_ns;
    raft->transfers_count++;
}

enum tl_err raft_transfer(struct raft *raft, raft_id target)
{
    if (raft->role != RAFT_LEADER) {
        return TL_ERR_NOT_LEADER;
    }
    if (target == RAFT_ID_NONE) {
        target = best_target(raft);
        if (target == RAFT_ID_NONE) {
            return TL_ERR_NO_QUORUM;
        }
    }
    if (target == raft->self || !raft_conf_is_incoming(&raft->conf, target)) {
        return TL_ERR_INVALID;
    }
    begin(raft, target);
    return TL_OK;
}

/* Nothing is appended while a transfer is under way, so the last entry stays what it is. */
void raft_transfer_step(struct raft *raft)
{
    raft_id target = raft->transfer.target;
    if (target == RAFT_ID_NONE || raft->now_ns < raft->transfer.next_ns) {
        return;
    }
    struct raft_peer *peer = raft_peer_find(raft, target);
    TL_ASSERT(peer != NULL);
    if (peer->match < raft->log.last) {
        return;
    }
    raft->transfer.next_ns = raft->now_ns + raft->heartbeat_interval_ns; /* it may be lost */
    peer->told_term = raft->term;
    struct raft_message message = raft_message_make(raft, RAFT_TIMEOUT_NOW, target);
    message.index = raft->log.last;
    message.log_term = raft_log_term(&raft->log, raft->log.last);
    raft_send(raft, &message);
}

void raft_set_peer_unfit(struct raft *raft, raft_id peer_id, bool is_unfit)
{
    struct raft_peer *peer = raft_peer_find(raft, peer_id);
    if (peer != NULL) peer->is_unfit = is_unfit;
}

/* ---- the disk ---- */

void raft_set_disk_began(struct raft *raft, uint64_t began_ns)
{
    raft->disk_began_ns = began_ns;
}

void raft_set_peer_disk_age(struct raft *raft, raft_id peer_id, uint64_t age_ns)
{
    struct raft_peer *peer = raft_peer_find(raft, peer_id);
    if (peer != NULL) {
        peer->disk_age_ns = age_ns;
        peer->disk_heard_ns = raft->now_ns;
        if (age_ns >= RAFT_DISK_HEALTHY_NS) peer->disk_sick_ns = TL_MAX(raft->now_ns, 1u);
    }
}

static uint64_t disk_age_ns(const struct raft *raft)
{
    bool is_busy = raft->disk_began_ns != 0 && raft->now_ns > raft->disk_began_ns;
    return is_busy ? raft->now_ns - raft->disk_began_ns : 0;
}

bool raft_is_disk_stalled(const struct raft *raft)
{
    return disk_age_ns(raft) > RAFT_DISK_STALLED_NS;
}

/* Up to date: it has all that is committed. */
static raft_id healthy_target(const struct raft *raft)
{
    const struct raft_peer *best = NULL;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        bool is_fit = may_take_over(raft, peer) && has_healthy_disk(raft, peer) &&
                      peer->match >= raft->commit;
        if (is_fit && (best == NULL || peer->match > best->match)) {
            best = peer;
        }
    }
    return best != NULL ? best->id : RAFT_ID_NONE;
}

static void heed_disk(struct raft *raft)
{
    raft_id target = raft_is_disk_stalled(raft) ? healthy_target(raft) : RAFT_ID_NONE;
    if (target == RAFT_ID_NONE || raft->mutation == RAFT_MUTATION_IGNORE_DISK) {
        return;
    }
    bool has_acted = raft->disk_acted_ns != 0;
    if (!has_acted || raft->now_ns - raft->disk_acted_ns >= RAFT_DISK_ACT_NS) {
        raft->disk_acted_ns = raft->now_ns;
        raft->disk_stalls_count++;
        begin(raft, target);
    } else if (raft->disk_acted_ns > raft->disk_began_ns &&
               disk_age_ns(raft) > RAFT_DISK_SILENT_NS) {
        /* The hand-over of this same stall has not worked. Silence makes them elect another. */
        raft_become_follower(raft, raft->term, RAFT_ID_NONE);
    }
}

void raft_transfer_advance(struct raft *raft)
{
    TL_ASSERT(raft->role == RAFT_LEADER);
    if (raft->transfer.target != RAFT_ID_NONE && raft->now_ns >= raft->transfer.deadline_ns) {
        raft->transfer.target = RAFT_ID_NONE;
    }
    heed_disk(raft);
}

static uint64_t later_than(uint64_t time_ns, uint64_t now_ns)
{
    return time_ns > now_ns ? time_ns : UINT64_MAX;
}

uint64_t raft_transfer_deadline_ns(const struct raft *raft)
{
    TL_ASSERT(raft->role == RAFT_LEADER);
    uint64_t deadline_ns = UINT64_MAX;
    if (raft->transfer.target != RAFT_ID_NONE) {
        /* What is due now and not sent waits for an acknowledgement. */
        deadline_ns =
            TL_MIN(raft->transfer.deadline_ns, later_than(raft->transfer.next_ns, raft->now_ns));
    }
    if (raft->disk_began_ns != 0) {
        uint64_t stalled_ns = raft->disk_began_ns + RAFT_DISK_STALLED_NS + 1;
        uint64_t silent_ns = raft->disk_began_ns + RAFT_DISK_SILENT_NS + 1;
        deadline_ns = TL_MIN(deadline_ns, later_than(stalled_ns, raft->now_ns));
        deadline_ns = TL_MIN(deadline_ns, later_than(silent_ns, raft->now_ns));
    }
    return deadline_ns;
}
