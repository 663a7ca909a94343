/* raft_membership.c - the configuration at each position of the log, and how it changes.
 *
 *     raft_propose_conf()   voters change            leader, when it is committed
 *     old ----------------------------------> joint ----------------------------> new
 *          \_____ only learners change: one entry _______________________________/
 *
 * A configuration is in force as soon as its entry is in the log, committed or not, and is no more
 * when the entry is truncated (thesis 4.1). Truncation never reaches below the commit index, so
 * two are kept: the newest in the log, and the newest that is committed, to which everything falls
 * back. In between there may be others after a restart, which are found by reading the log.
 *
 * Joint consensus is the only way to change voters: one path for one change and for many, and
 * swapping a member never passes through a group that is smaller or even (thesis 4.3).
 */

#include "raft_internal.h"

static bool is_conf(const struct buf *entry)
{
    return entry_type_of(entry) == ENTRY_CONF || entry_type_of(entry) == ENTRY_GENESIS;
}

bool raft_is_entry_right(const struct buf *entry)
{
    struct raft_conf conf;
    return !is_conf(entry) || conf_payload_decode(entry_payload(entry), &conf) == TL_OK;
}

static struct raft_conf conf_of(const struct buf *entry)
{
    struct raft_conf conf;
    enum tl_err err = conf_payload_decode(entry_payload(entry), &conf);
    TL_ASSERT(err == TL_OK); /* own, or passed raft_is_entry_right() */
    return conf;
}

void raft_check_membership(const struct raft *raft)
{
    TL_ASSERT(raft->conf_committed_index <= raft->commit);     /* M1 */
    TL_ASSERT(raft->conf_committed_index <= raft->conf_index); /* M1 */
    if (raft->mutation == RAFT_MUTATION_CONF_NOT_ROLLED_BACK) {
        return;
    }
    TL_ASSERT(raft->conf_index <= raft->log.last); /* M1 */
    const struct buf *entry = raft_log_entry(&raft->log, raft->conf_index);
    if (entry != NULL && raft->conf_index > raft->log.base.index)
        TL_ASSERT(is_conf(entry)); /* M1 */
    if (raft->conf_index <= raft->commit) {
        TL_ASSERT(raft->conf_committed_index == raft->conf_index); /* M1 */
    }
}

/* ---- quorums ---- */

/* The active configuration, or what a planted bug takes for it. */
static const struct raft_conf *quorum_conf(const struct raft *raft, struct raft_conf *copy)
{
    if (raft->mutation != RAFT_MUTATION_JOINT_ONE_HALF) {
        return &raft->conf;
    }
    *copy = raft->conf;
    copy->outgoing_count = 0;
    return copy;
}

bool raft_has_quorum(const struct raft *raft, bool (*holds)(const void *, raft_id))
{
    struct raft_conf copy;
    return raft_conf_has_quorum(quorum_conf(raft, &copy), holds, raft);
}

raft_index raft_quorum_index(const struct raft *raft, raft_index (*match)(const void *, raft_id))
{
    struct raft_conf copy;
    return raft_conf_quorum_index(quorum_conf(raft, &copy), match, raft);
}

/* ---- peers ---- */

static void add_peers(struct raft *raft, const raft_id *ids, uint32_t ids_count)
{
    for (uint32_t i = 0; i < ids_count; i++) {
        if (ids[i] == raft->self || raft_peer_find(raft, ids[i]) != NULL) {
            continue;
        }
        TL_ASSERT(raft->peers_count < RAFT_PEERS_MAX);
        struct raft_peer *peer = &raft->peers[raft->peers_count++];
        *peer = (struct raft_peer){.id = ids[i], .next = 1};
        if (raft->role == RAFT_LEADER) {
            raft_peer_begin(raft, peer);
        }
    }
}

/* Keeps what is known of those who stay. Pointers to peers are void after it. */
static void update_peers(struct raft *raft)
{
    const struct raft_conf *confs[] = {&raft->conf, &raft->conf_committed};
    uint32_t kept_count = 0;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        raft_id id = raft->peers[i].id;
        if (!raft_conf_is_member(confs[0], id) && !raft_conf_is_member(confs[1], id)) {
            continue;
        }
        if (kept_count != i) {
            raft->peers[kept_count] = raft->peers[i];
        }
        kept_count++;
    }
    raft->peers_count = kept_count;
    for (uint32_t i = 0; i < TL_COUNT_OF(confs); i++) {
        add_peers(raft, confs[i]->voters, confs[i]->voters_count);
        add_peers(raft, confs[i]->outgoing, confs[i]->outgoing_count);
        add_peers(raft, confs[i]->learners, confs[i]->learners_count);
    }
    raft->has_departing = false;
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        raft->has_departing |= !raft_conf_is_member(confs[0], raft->peers[i].id);
    }
}

/* ---- along the log ---- */

/* The newest configuration in [first, last], or NULL. */
static const struct buf *find_conf(const struct raft *raft, raft_index first, raft_index last)
{
    for (raft_index i = last; i >= first; i--) {
        const struct buf *entry = raft_log_entry(&raft->log, i);
        if (is_conf(entry)) {
            return entry;
        }
    }
    return NULL;
}

static void find_active(struct raft *raft)
{
    const struct buf *entry = find_conf(raft, raft->commit + 1, raft->log.last);
    raft->conf = entry != NULL ? conf_of(entry) : raft->conf_committed;
    raft->conf_index = entry != NULL ? entry_index(entry) : raft->conf_committed_index;
    update_peers(raft);
}

void raft_membership_init(struct raft *raft, const struct raft_conf *conf)
{
    raft->conf_committed = *conf;
    raft->conf_committed_index = 0;
    find_active(raft);
}

void raft_append_entry(struct raft *raft, struct buf *entry)
{
    raft->uncommitted_bytes += entry->count;
    raft_log_append(&raft->log, entry);
    if (is_conf(entry)) {
        raft->conf = conf_of(entry);
        raft->conf_index = entry_index(entry);
        update_peers(raft);
    }
}

raft_index raft_append_own(struct raft *raft, struct buf *entry, uint64_t time_us)
{
    TL_ASSERT(raft->role == RAFT_LEADER);
    if (is_conf(entry)) TL_ASSERT(raft->conf_index <= raft->commit); /* M2 */
    struct entry_header header = {
        .group = raft->group,
        .index = raft->log.last + 1,
        .term = raft->term,
        .time_us = TL_MAX(time_us, raft_log_last_time_us(&raft->log) + 1),
    };
    entry_seal(entry, raft_log_hash(&raft->log, raft->log.last), &header);
    raft_append_entry(raft, entry);
    return header.index;
}

void raft_membership_on_install(struct raft *raft, const struct raft_conf *conf)
{
    raft->conf_committed = *conf;
    raft->conf_committed_index = 0;
    const struct buf *entry = find_conf(raft, raft->log.base.index + 1, raft->commit);
    if (entry != NULL) {
        raft->conf_committed = conf_of(entry);
        raft->conf_committed_index = entry_index(entry);
    }
    find_active(raft);
}

void raft_membership_on_truncate(struct raft *raft, raft_index from)
{
    if (raft->conf_index >= from && raft->mutation != RAFT_MUTATION_CONF_NOT_ROLLED_BACK) {
        find_active(raft);
    }
}

void raft_membership_on_commit(struct raft *raft, raft_index commit_before)
{
    if (raft->conf_index <= commit_before) {
        return;
    }
    if (raft->conf_index <= raft->commit) {
        raft->conf_committed = raft->conf;
        raft->conf_committed_index = raft->conf_index;
        raft->conf_committed_ns = raft->now_ns;
        return;
    }
    const struct buf *entry = find_conf(raft, commit_before + 1, raft->commit);
    if (entry != NULL) {
        raft->conf_committed = conf_of(entry);
        raft->conf_committed_index = entry_index(entry);
    }
}

/* ---- changing it ---- */

static bool is_in(const raft_id *ids, uint32_t ids_count, raft_id id)
{
    uint32_t i = 0;
    while (i < ids_count && ids[i] != id) i++;
    return i < ids_count;
}

/* Whether the parts hold the same ids, each of which is in a part once. */
static bool is_same_part(const raft_id *a, uint32_t a_count, const raft_id *b, uint32_t b_count)
{
    for (uint32_t i = 0; i < a_count; i++) {
        if (!is_in(b, b_count, a[i])) {
            return false;
        }
    }
    return a_count == b_count;
}

static bool is_same_voters(const struct raft_conf *a, const struct raft_conf *b)
{
    return is_same_part(a->voters, a->voters_count, b->voters, b->voters_count);
}

static bool is_same(const struct raft_conf *a, const struct raft_conf *b)
{
    return is_same_voters(a, b) && a->epoch == b->epoch &&
           is_same_part(a->learners, a->learners_count, b->learners, b->learners_count);
}

/* Who becomes a voter is there and has the log: a new configuration must be able to commit from its
 * first entry on. Those who were voters before may be gone, or nobody could be replaced
 * (etcd #21640). */
static bool can_take_over(struct raft *raft, const struct raft_conf *target)
{
    for (uint32_t i = 0; i < target->voters_count; i++) {
        raft_id id = target->voters[i];
        if (!is_in(raft->conf.voters, raft->conf.voters_count, id) &&
            !raft_peer_is_caught_up(raft, raft_peer_find(raft, id))) {
            return false;
        }
    }
    return raft_conf_has_quorum(target, raft_is_heard, raft);
}

static bool are_new_voters_learners(const struct raft *raft, const struct raft_conf *target)
{
    const struct raft_conf *conf = &raft->conf;
    for (uint32_t i = 0; i < target->voters_count; i++) {
        raft_id id = target->voters[i];
        if (!is_in(conf->voters, conf->voters_count, id) &&
            !is_in(conf->learners, conf->learners_count, id)) {
            return false;
        }
    }
    return true;
}

enum tl_err raft_propose_conf(struct raft *raft, const struct raft_conf *target, uint64_t time_us,
                              raft_index *out_index, raft_term *out_term)
{
    struct raft_conf next = *target;
    next.outgoing_count = 0;
    if (target->outgoing_count > 0 || !raft_conf_is_right(&next)) {
        return TL_ERR_INVALID;
    }
    enum tl_err err = raft_may_propose(raft, ENTRY_HEADER_BYTES);
    if (err != TL_OK) {
        return err;
    }
    if (raft->conf.outgoing_count > 0 || raft->conf_index > raft->commit ||
        raft_log_term(&raft->log, raft->commit) != raft->term) {
        return TL_ERR_BUSY;
    }
    if (next.epoch < raft->conf.epoch && raft->mutation != RAFT_MUTATION_OLDER_EPOCH) {
        return TL_ERR_STALE;
    }
    if (!is_same_voters(&next, &raft->conf)) {
        next.outgoing_count = raft->conf.voters_count;
        memcpy(next.outgoing, raft->conf.voters, sizeof next.outgoing);
    }
    if (is_same(target, &raft->conf) || !raft_conf_is_right(&next) ||
        !are_new_voters_learners(raft, target)) {
        return TL_ERR_INVALID;
    }
    if (!can_take_over(raft, target)) {
        return TL_ERR_NO_QUORUM;
    }
    *out_index = raft_append_own(raft, conf_entry_create(&next), time_us);
    *out_term = raft->term;
    return TL_OK;
}

static void leave_joint(struct raft *raft)
{
    struct raft_conf next = raft->conf;
    next.outgoing_count = 0;
    memset(next.outgoing, 0, sizeof next.outgoing);
    (void)raft_append_own(raft, conf_entry_create(&next), 0);
    raft_maybe_commit(raft); /* a smaller quorum may have it all */
}

/* A leader that is a voter no more has led until the configuration without it was committed, by
 * others. They hear of it before it falls silent: a group of which nobody knows that the change
 * is committed would go on asking the one that has left (openraft #2091). */
static void leave_group(struct raft *raft)
{
    for (uint32_t i = 0; i < raft->peers_count; i++) raft_send_heartbeat(raft, &raft->peers[i]);
    raft_become_follower(raft, raft->term, RAFT_ID_NONE);
}

/* A leader that is to be removed lets one that stays lead out of the joint configuration; once, for
 * an election timeout, and if nobody takes it leads out itself. */
static bool hand_over_first(struct raft *raft)
{
    if (raft->conf_handed_over_index != raft->conf_index &&
        !raft_conf_is_incoming(&raft->conf, raft->self)) {
        raft->conf_handed_over_index = raft->conf_index;
        (void)!raft_transfer(raft, RAFT_ID_NONE); /* nobody is there: then not */
    }
    return raft->transfer.target != RAFT_ID_NONE;
}

static void lead_change(struct raft *raft)
{
    bool is_own_term = raft_log_term(&raft->log, raft->commit) == raft->term;
    if (raft->conf_index > raft->commit || !is_own_term) {
        return;
    }
    if (raft->conf.outgoing_count > 0) {
        if (raft_log_room(&raft->log) > 0 && !hand_over_first(raft)) {
            leave_joint(raft);
        }
    } else if (!raft_conf_is_voter(&raft->conf, raft->self)) {
        leave_group(raft);
    }
}

/* Who has left is told so: otherwise it would campaign whenever it hears nobody, which harms
 * nobody and helps nobody. It has an election timeout to take the entry; it may be gone for
 * good. */
static bool is_leaving_told(const struct raft *raft)
{
    if (raft->role != RAFT_LEADER ||
        raft->now_ns - raft->conf_committed_ns >= raft->election_timeout_ns) {
        return true;
    }
    for (uint32_t i = 0; i < raft->peers_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        if (peer->commit_sent < raft->conf_index && !raft_conf_is_member(&raft->conf, peer->id)) {
            return false;
        }
    }
    return true;
}

void raft_membership_step(struct raft *raft)
{
    if (raft->has_departing && raft->conf_index <= raft->commit && is_leaving_told(raft)) {
        update_peers(raft);
    }
    if (raft->role == RAFT_LEADER) {
        lead_change(raft);
    }
}
