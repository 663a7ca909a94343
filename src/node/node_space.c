/* node_space.c - room for new data: what is left on this node's file system and in its maps, and at
 * the other voters.
 *
 * What is in the log has to be written by every replica, and a write that fails for want of space
 * ends its node. So the leader refuses before an entry gets into the log, while every node can
 * still start and be read:
 *   - what may grow, below free_bytes_min, or when a table or the log has reached its limit;
 *   - what cannot grow, a deletion say, only below a last reserve: it is the way back to space;
 *   - both by the space of any quorum: too few voters would be left when those without it fail.
 * A voter that is silent is not counted as one that has room; one of an older version, which does
 * not say what it has, is.
 *
 * A leader without room hands over to a voter that has more than enough, if a quorum has room; else
 * it leads on, serves reads and takes deletions. The margin, and a pause after each attempt, keep
 * leadership from going back and forth between two nodes that are near the limit.
 */

#include "node_internal.h"

#include "trilith/txn.h"

#define HANDOVER_PAUSE_NS 3000000000ull
#define LAST_RESERVE_SHARE 4u /* of free_bytes_min */
#define MARGIN_SHARE 4u       /* of free_bytes_min, above it */
#define LOW_FACTOR 2u         /* below so many times free_bytes_min generations are small */

/* ---- this node ---- */

static uint64_t left_of(uint64_t limit_bytes, uint64_t used_bytes)
{
    return limit_bytes > used_bytes ? limit_bytes - used_bytes : 0;
}

void node_space_look(const struct node *node, struct node_space *out_space)
{
    const struct node_options *options = &node->options;
    out_space->free_bytes = data_dir_free_bytes(node->data_dir);
    uint64_t left = left_of(options->log_map_bytes, log_store_used_bytes(node->log_store));
    for (uint32_t i = 0; i < node->groups_count; i++) {
        uint64_t used_bytes = table_data_bytes(node->groups[i]->table);
        left = TL_MIN(left, left_of(options->table_map_bytes, used_bytes));
    }
    out_space->map_free_bytes = left;
}

const struct node_space *node_space_now(struct node *node)
{
    if (node->space_read_ns == 0 || node->now_ns - node->space_read_ns >= NODE_SPACE_AGE_NS) {
        node_space_look(node, &node->space);
        node->space_read_ns = TL_MAX(node->now_ns, 1u);
    }
    return &node->space;
}

bool node_is_low_on_space(struct node *node)
{
    uint64_t free_bytes_min = node->options.free_bytes_min;
    return node_space_now(node)->free_bytes / LOW_FACTOR < free_bytes_min;
}

/* ---- judging ---- */

static enum tl_err lack_of(const struct node *node, const struct node_space *space, bool may_grow)
{
    uint64_t free_bytes_min = node->options.free_bytes_min;
    if (!may_grow) free_bytes_min /= LAST_RESERVE_SHARE;
    if (space->free_bytes < free_bytes_min) return TL_ERR_NO_SPACE;
    return may_grow && space->map_free_bytes == 0 ? TL_ERR_MAP_FULL : TL_OK;
}

static const struct node_space *space_of(struct node *node, raft_id id)
{
    static const struct node_space unknown = {UINT64_MAX, UINT64_MAX};
    if (id == node->self) return node_space_now(node);
    const struct node_peer *peer = node_find_peer(node, id);
    return peer != NULL ? &peer->space : &unknown;
}

enum tl_err node_space_judge(const struct node *node, const struct node_space *space)
{
    return lack_of(node, space, true);
}

enum tl_err node_space_lack(struct node *node, raft_id id)
{
    return lack_of(node, space_of(node, id), true);
}

/* A leader that is new has not had the time to hear from everybody. */
static bool is_silent(const struct node_group *group, raft_id id)
{
    struct node *node = group->node;
    const struct node_peer *peer = node_find_peer(node, id);
    if (id == node->self || peer == NULL) return false;
    uint64_t since_ns = TL_MAX(peer->heard_ns, group->leader_since_ns);
    return node->now_ns - since_ns >= 2 * node->options.election_timeout_ns;
}

static enum tl_err lack_of_voters(const struct node_group *group, const raft_id *voters,
                                  uint32_t voters_count, bool may_grow)
{
    struct node *node = group->node;
    enum tl_err lack = TL_OK;
    uint32_t able_count = 0;
    for (uint32_t i = 0; i < voters_count; i++) {
        enum tl_err err = lack_of(node, space_of(node, voters[i]), may_grow);
        if (err != TL_OK) {
            lack = err;
        } else if (!is_silent(group, voters[i])) {
            able_count++;
        }
    }
    return able_count < voters_count / 2 + 1 ? lack : TL_OK;
}

static enum tl_err lack_of_quorum(const struct node_group *group, bool may_grow)
{
    const struct raft_conf *conf = raft_newest_conf(group->raft);
    enum tl_err err = lack_of_voters(group, conf->voters, conf->voters_count, may_grow);
    if (err != TL_OK || conf->outgoing_count == 0) return err;
    return lack_of_voters(group, conf->outgoing, conf->outgoing_count, may_grow);
}

enum tl_err node_group_space(const struct node_group *group, bool may_grow)
{
    struct node *node = group->node;
    bool is_mutated = node->options.mutation == NODE_MUTATION_DISK_SPACE_ONLY;
    enum tl_err err = lack_of(node, node_space_now(node), may_grow);
    if (err == TL_OK) err = lack_of_quorum(group, may_grow);
    return err == TL_ERR_MAP_FULL && is_mutated ? TL_OK : err;
}

static bool ops_may_grow(const struct txn_op *ops, uint32_t ops_count)
{
    for (uint32_t i = 0; i < ops_count; i++) {
        if (ops[i].type != COMMAND_DELETE && ops[i].type != COMMAND_GET) return true;
    }
    return false;
}

/* Group 0 holds one row, and what changes it may be what brings space: another node. */
bool node_command_may_grow(raft_group group, const struct command *command)
{
    if (group == 0 || command->type == COMMAND_DELETE) return false;
    if (command->type != COMMAND_TXN) return true;
    struct txn txn;
    if (txn_decode(command->value, &txn) != TL_OK) return true;
    return ops_may_grow(txn.ops[TXN_THEN], txn.ops_count[TXN_THEN]) ||
           ops_may_grow(txn.ops[TXN_ELSE], txn.ops_count[TXN_ELSE]);
}

/* ---- handing over ---- */

/* Not so little that it would have to be handed back soon. */
static bool has_ample_room(struct node *node, raft_id id)
{
    const struct node_space *space = space_of(node, id);
    uint64_t margin = node->options.free_bytes_min / MARGIN_SHARE;
    uint64_t map_margin = TL_MIN(margin, node->options.table_map_bytes / 16);
    if (space->map_free_bytes <= map_margin) return false;
    if (space->free_bytes < margin) return false;
    return space->free_bytes - margin >= node->options.free_bytes_min;
}

void node_group_yield(struct node_group *group)
{
    struct node *node = group->node;
    if (raft_role_of(group->raft) != RAFT_LEADER || node->now_ns < group->yield_ns) return;
    if (node->options.mutation == NODE_MUTATION_LEAD_WITHOUT_SPACE) return;
    if (lack_of(node, node_space_now(node), true) == TL_OK) return;
    if (lack_of_quorum(group, true) != TL_OK) return; /* the next leader would refuse as well */
    struct raft_status status;
    raft_get_status(group->raft, &status);
    if (status.transfer_target != RAFT_ID_NONE) return;
    raft_id successor = node_group_successor(group, &status);
    if (successor == RAFT_ID_NONE || !has_ample_room(node, successor)) return;
    group->yield_ns = node->now_ns + HANDOVER_PAUSE_NS;
    enum tl_err err = raft_transfer(group->raft, successor);
    TL_ASSERT(err == TL_OK); /* it leads, and the successor is a voter that stays */
    const struct member *member = node_member(node, successor);
    node_log(node, LOG_LEVEL_WARN, "hand_over",
             "group=%u to=%s reason=\"no room for new data\" free_bytes=%llu map_free_bytes=%llu",
             group->id, member != NULL ? member->address : "-",
             (unsigned long long)node->space.free_bytes,
             (unsigned long long)node->space.map_free_bytes);
}
