/* node_member.c - who the members are, and how the groups' configurations follow the placement.
 *
 *   an operator's change, a newcomer's question, a seat that is taken over, a leaver that is gone
 *     v  node_member_write: a conditional put of one row of group 0
 *   applied everywhere (node_member_load): peers are connected, leaders wake up
 *     v  follow: each group's leader, one change at a time (raft_propose_conf)
 *   applied (ENTRY_CONF): the next step, of this group or of one that waits for it
 *
 * No step remembers anything: each is derived from the placement and the configurations, so it does
 * not matter who leads or what crashed in between. A node that cannot apply group 0 may have heard
 * of a newer placement from others. That hint is good for finding them, and for nothing else.
 */

#include "node_internal.h"

#include <stdlib.h>

#include "trilith/crash_point.h"

#define MEMBER_RETRY_NS 50000000ull    /* after a step that did not go now */
#define MEMBER_PENDING_NS 100000000ull /* somebody has still to catch up */
#define MEMBER_ASK_INTERVAL_NS 1000000000ull
#define MEMBER_SEAT_SILENT_NS 10000000000ull /* a store unheard for so long may lose its seat */
#define MEMBER_HANDOVER_INTERVAL_NS 1000000000ull
#define MEMBER_WRITE_TIMEOUT_NS 5000000000ull

/* ---- the placement ---- */

const struct placement *node_member_newest(const struct node *node)
{
    TL_ASSERT(node->placement != NULL);
    return node->hint != NULL ? node->hint : node->placement;
}

void node_member_wake(struct node *node)
{
    node->member_check_ns = node->now_ns;
}

static void check_again(struct node *node, uint64_t delay_ns)
{
    node->member_check_ns = TL_MIN(node->member_check_ns, node->now_ns + delay_ns);
}

/* Rebuilds the peers from the newest placement; those that stay keep what is known of them. */
static void refresh_peers(struct node *node)
{
    const struct placement *placement = node_member_newest(node);
    struct node_peer peers[RAFT_MEMBERS_MAX];
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct placement_member *member = &placement->members[i];
        raft_id id = store_id_raft(&member->member.store_id);
        const struct node_peer *known = node_find_peer(node, id);
        peers[i] = (struct node_peer){
            .id = id, .heard_ns = node->now_ns, .space = {UINT64_MAX, UINT64_MAX}};
        if (known != NULL) peers[i] = *known;
        peers[i].member = member->member;
        peers[i].role = member->role;
    }
    for (uint32_t i = 0; i < node->peers_count; i++) {
        raft_id id = node->peers[i].id;
        if (placement_find(placement, id) == NULL) node_writes_link_lost(node, id);
    }
    node->peers_count = placement->members_count;
    memcpy(node->peers, peers, placement->members_count * sizeof peers[0]);
    node->has_new_peers = true;
    node_member_wake(node);
}

static struct placement *placement_new(void)
{
    struct placement *placement = malloc(sizeof *placement);
    TL_ASSERT(placement != NULL);
    return placement;
}

void node_member_begin(struct node *node, const struct genesis *genesis)
{
    TL_ASSERT(node->placement == NULL);
    node->placement = placement_new();
    placement_from_genesis(node->placement, genesis);
    refresh_peers(node);
}

/* Takes `placement` over as the applied one. */
static void set_placement(struct node *node, struct placement *placement, uint64_t revision)
{
    free(node->placement);
    node->placement = placement;
    node->placement_revision = revision;
    if (node->hint != NULL && node->hint->epoch <= placement->epoch) free(TL_TAKE(&node->hint));
    refresh_peers(node);
    node_log(node, LOG_LEVEL_INFO, "placement", "epoch=%llu members=%u removed=%u",
             (unsigned long long)placement->epoch, placement->members_count,
             placement->removed_count);
}

static enum tl_err load_failed(const struct node_group *group, const char *reason,
                               struct tl_fault *out_fault)
{
    tl_fault_set(out_fault, group->table_dir, group->id, group->state.group.index, "%s", reason);
    return TL_ERR_CORRUPT;
}

enum tl_err node_member_load(struct node_group *group, struct tl_fault *out_fault)
{
    TL_ASSERT(group->id == 0);
    struct node *node = group->node;
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct bytes row;
    enum tl_err err =
        kv_table_get(group->kv, env_key_make(ENV_KEY_ROW, bytes_of(PLACEMENT_KEY), room), &row);
    if (err == TL_ERR_NOT_FOUND) return err;
    if (err != TL_OK) {
        *out_fault = *kv_table_fault(group->kv);
        return err;
    }
    struct row_header header;
    err = row_decode(row, true, &header);
    if (err != TL_OK) return load_failed(group, "the placement's row does not decode", out_fault);
    if (node->placement != NULL && header.revision == node->placement_revision) return TL_OK;
    if (!row_value_is_right(row, &header)) {
        return load_failed(group, "the placement's row failed its check", out_fault);
    }
    struct placement *placement = placement_new();
    if (placement_decode(row_value(row, &header), placement) != TL_OK ||
        placement->genesis.groups_count > NODE_GROUPS_MAX) {
        free(placement);
        return load_failed(group, "the placement does not decode", out_fault);
    }
    set_placement(node, placement, header.revision);
    CRASH_POINT("placement-applied");
    return TL_OK;
}

bool node_member_hear(struct node *node, struct bytes encoded)
{
    TL_ASSERT(node->placement != NULL);
    if (encoded.count == 0) return false;
    const struct placement *newest = node_member_newest(node);
    struct placement *heard = placement_new();
    if (placement_decode(encoded, heard) != TL_OK || heard->epoch <= newest->epoch ||
        !store_id_equal(&heard->genesis.cluster_id, &newest->genesis.cluster_id)) {
        free(heard);
        return false;
    }
    free(node->hint);
    node->hint = heard;
    refresh_peers(node);
    node_log(node, LOG_LEVEL_INFO, "placement_heard", "epoch=%llu members=%u",
             (unsigned long long)heard->epoch, heard->members_count);
    return true;
}

enum tl_err node_member_write(struct node *node, struct node_write *write,
                              const struct placement *placement)
{
    struct buf *value = placement_encode(placement);
    const struct command command = {
        .type = COMMAND_PUT,
        .condition = node->placement_revision > 0 ? CONDITION_REVISION : CONDITION_ABSENT,
        .condition_revision = node->placement_revision,
        .origin = node->self,
        .value_bytes_max = VALUE_BYTES_MAX,
        .key = bytes_of(PLACEMENT_KEY),
        .value = buf_bytes(value),
    };
    write->group = 0;
    write->entry = command_encode(&command);
    buf_release(value);
    enum tl_err err = node_write(node, write);
    if (err == TL_OK) CRASH_POINT("placement-proposed");
    if (err != TL_OK) buf_release(TL_TAKE(&write->entry));
    return err;
}

void node_member_expelled(struct node *node, const char *reason)
{
    if (node->is_failed) return;
    struct tl_fault fault;
    tl_fault_set(&fault, data_dir_path(node->data_dir), UINT32_MAX, 0, "%s", reason);
    node->is_failed = true;
    node_log(node, LOG_LEVEL_ERROR, "expelled", "reason=\"%s\"", fault.reason);
    node->io.fail(node->io.context, 3, &fault);
}

/* ---- changes that the node makes by itself ---- */

static void on_placement_written(struct node_write *write, enum tl_err err,
                                 const struct kv_result *result)
{
    struct node *node = TL_CONTAINER_OF(write, struct node, placement_write);
    (void)err; /* whatever came of it: the next step is derived from what is applied */
    (void)result;
    node->is_placement_writing = false;
    check_again(node, MEMBER_RETRY_NS);
}

/* Takes `placement`, the next one. */
static void write_placement(struct node *node, struct placement *placement)
{
    TL_ASSERT(!node->is_placement_writing);
    node->placement_write = (struct node_write){
        .deadline_ns = node->now_ns + MEMBER_WRITE_TIMEOUT_NS,
        .on_done = on_placement_written,
    };
    node->is_placement_writing =
        node_member_write(node, &node->placement_write, placement) == TL_OK;
    if (!node->is_placement_writing) check_again(node, MEMBER_RETRY_NS);
    free(placement);
}

static struct placement *placement_copy(const struct node *node)
{
    struct placement *copy = placement_new();
    *copy = *node->placement;
    return copy;
}

static enum birth_word word_of(enum placement_verdict verdict)
{
    switch (verdict) {
    case PLACEMENT_CHANGED:
    case PLACEMENT_SAME: /* known here, but not in the placement that was heard */
        return BIRTH_WORD_WAIT;
    case PLACEMENT_REMOVED:
        return BIRTH_WORD_REMOVED;
    case PLACEMENT_OTHER_ADDRESS:
        return BIRTH_WORD_OTHER_ADDRESS;
    case PLACEMENT_OTHER_PORT:
        return BIRTH_WORD_OTHER_PORT;
    case PLACEMENT_FULL:
    case PLACEMENT_UNKNOWN:
    case PLACEMENT_LAST:
        break;
    }
    return BIRTH_WORD_FULL;
}

static bool is_of_two(const raft_id *voters, uint32_t voters_count, raft_id id)
{
    return voters_count == 2 && (voters[0] == id || voters[1] == id);
}

/* Whether nothing is committed any more in some group without this store: the other voter alone is
 * no majority. The configurations count: a placement may be ahead of them. */
static bool is_half_of_a_group(const struct node *node, raft_id id)
{
    for (uint32_t i = 0; i < node->groups_count; i++) {
        struct raft_status status;
        raft_get_status(node->groups[i]->raft, &status);
        const struct raft_conf *conf = &status.conf;
        if (is_of_two(conf->voters, conf->voters_count, id)) return true;
        if (is_of_two(conf->outgoing, conf->outgoing_count, id)) return true;
    }
    return false;
}

/* A seat is given away only when its store is not there, and not to one after the other: a store
 * that has just come to take it is given the time. NONE: it may be. */
static enum birth_word judge_seat(struct node *node, const char *address)
{
    const struct placement_member *heir = placement_heir(node->placement, address);
    if (heir != NULL) {
        const struct node_peer *peer = node_find_peer(node, store_id_raft(&heir->member.store_id));
        bool is_near = peer != NULL && (peer->id == node->self || peer->is_up[PEER_CLASS_RAFT] ||
                                        node->now_ns < peer->heard_ns + MEMBER_SEAT_SILENT_NS);
        if (is_near) return BIRTH_WORD_SEAT_LIVE;
    }
    const struct placement_member *holder = placement_holder(node->placement, address);
    if (holder == NULL) return BIRTH_WORD_NONE;
    raft_id id = store_id_raft(&holder->member.store_id);
    const struct node_peer *peer = node_find_peer(node, id);
    bool is_live = peer != NULL && (id == node->self || peer->is_up[PEER_CLASS_RAFT]);
    if (is_live) return BIRTH_WORD_SEAT_LIVE;
    return is_half_of_a_group(node, id) ? BIRTH_WORD_TWO_VOTERS : BIRTH_WORD_NONE;
}

enum birth_word node_member_admit(struct node *node, const struct member *member)
{
    enum birth_word word = judge_seat(node, member->address);
    if (word != BIRTH_WORD_NONE) return word;
    if (node->groups[0]->leader == RAFT_ID_NONE || node->is_draining) return BIRTH_WORD_NO_LEADER;
    struct placement *next = placement_copy(node);
    enum placement_verdict verdict = placement_add(next, member);
    if (verdict == PLACEMENT_CHANGED && !node->is_placement_writing) {
        node_log(node, LOG_LEVEL_INFO, "member_admitted", "address=%s epoch=%llu", member->address,
                 (unsigned long long)next->epoch);
        write_placement(node, next);
    } else {
        free(next);
    }
    return word_of(verdict);
}

/* ---- following the placement ---- */

/* What this node knows of all groups at one step. */
struct knowledge {
    struct raft_status group; /* of the one that is looked at */
    struct raft_conf confs[NODE_GROUPS_MAX];
    const struct raft_conf *known[NODE_GROUPS_MAX]; /* into confs; NULL: not committed here */
};

static struct knowledge *knowledge_gather(const struct node *node)
{
    struct knowledge *knowledge = malloc(sizeof *knowledge);
    TL_ASSERT(knowledge != NULL);
    for (raft_group id = 0; id < node->groups_count; id++) {
        raft_get_status(node->groups[id]->raft, &knowledge->group);
        knowledge->confs[id] = knowledge->group.conf;
        knowledge->known[id] = knowledge->group.is_conf_committed ? &knowledge->confs[id] : NULL;
    }
    return knowledge;
}

static bool is_caught_up(const void *context, raft_id id)
{
    const struct raft_status *status = context;
    for (uint32_t i = 0; i < status->peers_count; i++) {
        if (status->peers[i].id == id) return status->peers[i].is_caught_up;
    }
    return false;
}

/* Whether this node hears what becomes of every data group. */
static bool hears_data_groups(const struct node *node)
{
    for (raft_group id = 1; id < node->groups_count; id++) {
        struct raft_status status;
        raft_get_status(node->groups[id]->raft, &status);
        if (!status.has_quorum || !raft_conf_is_member(&status.conf, node->self)) return false;
    }
    return true;
}

/* Any voter that has caught up, of those that leave, too. */
static raft_id draw_successor(struct node *node, const struct raft_status *status)
{
    raft_id drawn = RAFT_ID_NONE;
    uint64_t count = 0;
    for (uint32_t i = 0; i < status->peers_count; i++) {
        const struct raft_peer_status *peer = &status->peers[i];
        if (!peer->is_caught_up || !raft_conf_is_voter(&status->conf, peer->id)) continue;
        if (prng_below(&node->prng, ++count) == 0) drawn = peer->id;
    }
    return drawn;
}

/* A leader that is to leave hands over before anything else: one that is removed by an entry of its
 * own may be the only one to know that it is committed, and one that is no member of a data group
 * any more does not hear what becomes of it, which the leader of group 0 has to know: while none of
 * those that stay can take over from such a one, another that leaves may. Tried again and again: it
 * may be elected again. true: that is under way. */
static bool hands_over(struct node_group *group, const struct raft_status *status)
{
    struct node *node = group->node;
    const struct placement_member *self = placement_find(node->placement, node->self);
    if (self == NULL || self->role != MEMBER_LEAVING) return false;
    if (status->transfer_target != RAFT_ID_NONE) return true;
    if (node->now_ns < group->handover_ns) return false;
    raft_id successor = node_group_successor(group, status);
    if (successor == RAFT_ID_NONE && group->id == 0 && !hears_data_groups(node)) {
        successor = draw_successor(node, status);
    }
    if (successor == RAFT_ID_NONE) return false;
    group->handover_ns = node->now_ns + MEMBER_HANDOVER_INTERVAL_NS;
    return raft_transfer(group->raft, successor) == TL_OK;
}

static void propose(struct node_group *group, const struct raft_conf *target)
{
    struct node *node = group->node;
    raft_index index = 0;
    raft_term term = 0;
    uint64_t time_us = node_group_time_us(group, node_clock_us(node));
    enum tl_err err = raft_propose_conf(group->raft, target, time_us, &index, &term);
    if (err != TL_OK) {
        check_again(node, MEMBER_RETRY_NS);
        return;
    }
    CRASH_POINT("conf-proposed");
    node->metrics.confs_proposed_count++;
    node_log(node, LOG_LEVEL_INFO, "conf_proposed",
             "group=%u index=%llu epoch=%llu voters=%u learners=%u", group->id,
             (unsigned long long)index, (unsigned long long)target->epoch, target->voters_count,
             target->learners_count);
}

/* Whether the configuration is all that the placement wants. */
static bool is_settled(const struct placement *placement, const struct raft_conf *conf)
{
    if (conf->outgoing_count > 0) return false;
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct placement_member *member = &placement->members[i];
        raft_id id = store_id_raft(&member->member.store_id);
        bool is_right = raft_conf_is_member(conf, id) == (member->role != MEMBER_LEAVING);
        if (member->role == MEMBER_VOTER) is_right = raft_conf_is_voter(conf, id);
        if (!is_right) return false;
    }
    return true;
}

static void follow(struct node_group *group, struct knowledge *knowledge)
{
    struct node *node = group->node;
    if (raft_role_of(group->raft) != RAFT_LEADER) return;
    raft_get_status(group->raft, &knowledge->group);
    const struct raft_status *status = &knowledge->group;
    if (!is_settled(node->placement, &status->conf)) check_again(node, MEMBER_PENDING_NS);
    node_group_make_room(group);
    if (node->is_failed) return;
    if (hands_over(group, status)) {
        check_again(node, MEMBER_RETRY_NS);
        return;
    }
    if (!status->is_conf_committed || status->conf.outgoing_count > 0) return;
    const struct placement_outlook outlook = {
        .group = group->id,
        .conf = &status->conf,
        .groups = knowledge->known,
        .groups_count = node->groups_count,
        .is_ready = is_caught_up,
        .context = status,
    };
    struct raft_conf target;
    if (placement_follow(node->placement, &outlook, &target)) propose(group, &target);
}

/* ---- what the leader of group 0 does beside ---- */

/* Of a store that has not been heard for long, while this node would have heard it. */
static bool is_silent(struct node *node, raft_id id)
{
    if (id == node->self) return false;
    const struct node_peer *peer = node_find_peer(node, id);
    uint64_t since_ns = node->leads_since_ns;
    if (peer != NULL) since_ns = TL_MAX(since_ns, peer->heard_ns);
    return node->now_ns >= since_ns + MEMBER_SEAT_SILENT_NS;
}

/* The next change that follows from what is known; NULL: none. */
static struct placement *next_placement(struct node *node, const struct knowledge *knowledge)
{
    struct placement *next = placement_copy(node);
    for (uint32_t i = 0; i < node->placement->members_count; i++) {
        const struct placement_member *member = &node->placement->members[i];
        raft_id id = store_id_raft(&member->member.store_id);
        enum placement_verdict verdict = PLACEMENT_UNKNOWN;
        if (member->role == MEMBER_LEAVING) {
            if (!placement_is_gone(node->placement, id, knowledge->known, node->groups_count)) {
                continue;
            }
            verdict = placement_settle(next, id);
        } else if (member->role == MEMBER_LEARNER) {
            const struct placement_member *holder =
                placement_holder(node->placement, member->member.address);
            if (holder == NULL) continue;
            check_again(node, MEMBER_PENDING_NS);
            if (!is_silent(node, store_id_raft(&holder->member.store_id)) ||
                !is_caught_up(&knowledge->group, id)) {
                continue;
            }
            verdict = placement_seat(next, id);
        }
        if (verdict == PLACEMENT_CHANGED) return next;
    }
    free(next);
    return NULL;
}

/* Members that are not connected may not know where the others are, or that they are members. */
static void tell_unconnected(struct node *node)
{
    bool has_unconnected = false;
    for (uint32_t i = 0; i < node->peers_count; i++) {
        const struct node_peer *peer = &node->peers[i];
        if (peer->id == node->self || peer->role == MEMBER_LEAVING ||
            peer->is_up[PEER_CLASS_RAFT]) {
            continue;
        }
        has_unconnected = true;
        if (node->now_ns < node->ask_members_ns) continue;
        node->io.ask(node->io.context, peer->member.peer_address,
                     node_birth_make_note(node, BIRTH_WORD_MEMBER, true));
    }
    if (!has_unconnected) return;
    if (node->now_ns >= node->ask_members_ns) {
        node->ask_members_ns = node->now_ns + MEMBER_ASK_INTERVAL_NS;
    }
    check_again(node, node->ask_members_ns - node->now_ns);
}

static void lead_cluster(struct node *node, struct knowledge *knowledge)
{
    tell_unconnected(node);
    if (node->is_placement_writing || node->is_draining) return;
    struct placement *next = next_placement(node, knowledge);
    if (next != NULL) write_placement(node, next);
}

/* ---- a member without a leader ---- */

static bool is_connected(struct node *node, raft_id id)
{
    const struct node_peer *peer = node_find_peer(node, id);
    return peer != NULL && peer->is_up[PEER_CLASS_RAFT];
}

static bool is_lost(const struct knowledge *knowledge)
{
    return knowledge->group.leader == RAFT_ID_NONE || !knowledge->group.has_quorum;
}

static bool is_peer_address(const struct node *node, const char *peer_address)
{
    for (uint32_t i = 0; i < node->peers_count; i++) {
        if (strcmp(node->peers[i].member.peer_address, peer_address) == 0) return true;
    }
    return false;
}

/* Whom the options name: the members that this node knows may all have gone while it was away. */
static void ask_named(struct node *node)
{
    for (uint32_t i = 0; i < node->view_count; i++) {
        const struct member *member = &node->view[i].member;
        bool is_self = strcmp(member->address, node->options.address) == 0;
        bool has_port = member->peer_address[0] != '\0';
        if (is_self || !has_port || is_peer_address(node, member->peer_address)) continue;
        node->io.ask(node->io.context, member->peer_address,
                     node_birth_make_note(node, BIRTH_WORD_NONE, true));
    }
}

/* It may have been removed, or everyone else may have moved: asks whom it knows, and says who the
 * members are, in case that it is the other who has not heard. */
static void ask_members(struct node *node)
{
    if (node->lost_since_ns == 0) node->lost_since_ns = TL_MAX(node->now_ns, 1u);
    uint64_t due_ns = TL_MAX(node->lost_since_ns + MEMBER_ASK_INTERVAL_NS, node->ask_members_ns);
    if (node->now_ns < due_ns) {
        check_again(node, due_ns - node->now_ns);
        return;
    }
    node->ask_members_ns = node->now_ns + MEMBER_ASK_INTERVAL_NS;
    check_again(node, MEMBER_ASK_INTERVAL_NS);
    for (uint32_t i = 0; i < node->peers_count; i++) {
        const struct node_peer *peer = &node->peers[i];
        if (peer->id == node->self) continue;
        node->io.ask(node->io.context, peer->member.peer_address,
                     node_birth_make_note(node, BIRTH_WORD_NONE, true));
    }
    ask_named(node);
}

void node_member_leader_changed(struct node *node)
{
    node->leads_since_ns = node->now_ns;
    node_member_wake(node);
}

void node_member_step(struct node *node)
{
    TL_ASSERT(node->groups_count > 0);
    if (node->now_ns < node->member_check_ns) return;
    node->member_check_ns = NODE_NEVER;
    if (placement_has_removed(node->placement, node->self)) {
        node_member_expelled(node, node_birth_word_text(BIRTH_WORD_REMOVED));
        return;
    }
    struct knowledge *knowledge = knowledge_gather(node);
    for (raft_group id = 0; id < node->groups_count && !node->is_failed; id++) {
        follow(node->groups[id], knowledge);
    }
    raft_get_status(node->groups[0]->raft, &knowledge->group);
    if (!is_lost(knowledge)) node->lost_since_ns = 0;
    if (!node->is_failed && knowledge->group.role == RAFT_LEADER) {
        lead_cluster(node, knowledge);
    } else if (!node->is_failed && is_lost(knowledge)) {
        ask_members(node);
    } else if (!is_connected(node, knowledge->group.leader)) {
        check_again(node, MEMBER_PENDING_NS); /* for ever, if this node is no voter any more */
    }
    free(knowledge);
}

uint64_t node_member_deadline(const struct node *node)
{
    return node->member_check_ns;
}
