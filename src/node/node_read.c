/* node_read.c - when a read may be served from this replica.
 *
 *   linearizable   GATHERING -> ASKED (a round of the core, shared by all reads of the pass)
 *                            -> CONFIRMED (the round's read index) -> applied reaches it: ready
 *   causal         the same, and ready as soon as the applied entry time covers the token
 *   local          ready at once
 *
 * A round begins after the reads that share it came (thesis 6.4): one that is under way is never
 * joined (etcd-io/etcd#20418 shows what an old answer confirms).
 */

#include "node_internal.h"

static void list_push(struct read_list *list, struct node_read *read)
{
    read->next = NULL;
    read->previous = list->last;
    if (list->last != NULL) {
        list->last->next = read;
    } else {
        list->first = read;
    }
    list->last = read;
}

static void list_remove(struct read_list *list, struct node_read *read)
{
    if (read->previous != NULL) {
        read->previous->next = read->next;
    } else {
        TL_ASSERT(list->first == read);
        list->first = read->next;
    }
    if (read->next != NULL) {
        read->next->previous = read->previous;
    } else {
        TL_ASSERT(list->last == read);
        list->last = read->previous;
    }
    read->next = NULL;
    read->previous = NULL;
}

static struct read_list *list_of(struct node *node, const struct node_read *read)
{
    TL_ASSERT(read->state != READ_IDLE);
    if (read->state == READ_ENDING) return &node->reads_ending;
    struct node_group *group = node->groups[read->group];
    return read->consistency == NODE_CAUSAL ? &group->causal : &group->linearizable;
}

static void forget(struct node *node, struct node_read *read)
{
    list_remove(list_of(node, read), read);
    read->state = READ_IDLE;
    node_end_request(node, read->group, 0);
}

/* Told by node_deliver_reads(), not from within a walk over a list. */
static void finish_later(struct node *node, struct node_read *read, enum tl_err err)
{
    list_remove(list_of(node, read), read);
    read->state = READ_ENDING;
    read->outcome = err;
    list_push(&node->reads_ending, read);
}

static void count_read(struct node *node, enum node_consistency consistency)
{
    switch (consistency) {
    case NODE_LINEARIZABLE:
        node->metrics.reads_linearizable_count++;
        break;
    case NODE_CAUSAL:
        node->metrics.reads_causal_count++;
        break;
    case NODE_LOCAL:
        node->metrics.reads_local_count++;
        break;
    }
}

static void finish(struct node *node, struct node_read *read)
{
    enum tl_err err = (enum tl_err)read->outcome;
    forget(node, read);
    if (err == TL_OK) {
        count_read(node, read->consistency);
        histogram_add(&node->metrics.read_us, (node->now_ns - read->submitted_ns) / 1000);
    } else {
        node->metrics.reads_failed_count++;
    }
    read->on_ready(read, err);
}

void node_deliver_reads(struct node *node)
{
    while (node->reads_ending.first != NULL && !node->is_failed) {
        finish(node, node->reads_ending.first);
    }
}

static bool is_covered(const struct node_group *group, const struct node_read *read)
{
    if (read->consistency == NODE_LOCAL) return true;
    return read->consistency == NODE_CAUSAL && group->state.group.time_us >= read->token_us;
}

enum tl_err node_read(struct node *node, struct node_read *read, bool *out_is_ready)
{
    node_enter(node);
    read->state = READ_IDLE;
    if (node->is_failed || node->is_draining) return TL_ERR_STOPPING;
    if (node->groups_count == 0) return TL_ERR_STARTING;
    if (node->is_diverged) return TL_ERR_DIVERGED;
    TL_ASSERT(read->group < node->groups_count);
    struct node_group *group = node->groups[read->group];
    if (is_covered(group, read)) {
        count_read(node, read->consistency);
        histogram_add(&node->metrics.read_us, 0);
        *out_is_ready = true;
        return TL_OK;
    }
    if (!node_begin_request(node, read->group, 0)) return TL_ERR_FULL;
    TL_ASSERT(read->on_ready != NULL);
    node->has_new_requests = true;
    read->submitted_ns = node->now_ns;
    read->round = 0;
    read->read_index = 0;
    read->state = READ_GATHERING;
    list_push(list_of(node, read), read);
    uint64_t check_ns = TL_MIN(read->deadline_ns, node->now_ns + NODE_LEADER_WAIT_NS);
    node->requests_check_ns = TL_MIN(node->requests_check_ns, check_ns);
    *out_is_ready = false;
    return TL_OK;
}

void node_read_cancel(struct node *node, struct node_read *read)
{
    node_enter(node);
    if (read->state != READ_IDLE) forget(node, read);
}

/* New reads stand at the end: they are found from there. */
static void begin_list(struct node_group *group, struct read_list *list, uint64_t *round)
{
    for (struct node_read *read = list->last; read != NULL; read = read->previous) {
        if (read->state != READ_GATHERING) break;
        if (*round == 0) *round = raft_read(group->raft);
        read->round = *round;
        read->state = READ_ASKED;
    }
}

void node_group_begin_reads(struct node_group *group)
{
    uint64_t round = 0;
    begin_list(group, &group->linearizable, &round);
    begin_list(group, &group->causal, &round);
}

static void ready_list(struct node_group *group, struct read_list *list)
{
    struct node *node = group->node;
    raft_index applied = group->state.group.index;
    struct node_read *next = NULL;
    for (struct node_read *read = list->first; read != NULL; read = next) {
        next = read->next;
        if (read->state == READ_ASKED && read->round <= group->reads_ready_round) {
            read->state = READ_CONFIRMED;
            read->read_index = group->read_index;
        }
        bool is_ready = read->state == READ_CONFIRMED && applied >= read->read_index;
        if (is_ready || is_covered(group, read)) {
            /* All that was committed when the request came is applied, and a token is of that. */
            bool is_ahead = node_group_token_is_ahead(group, read->token_us);
            finish_later(node, read, is_ahead ? TL_ERR_AHEAD : TL_OK);
        } else if (read->consistency == NODE_LINEARIZABLE && read->state != READ_CONFIRMED) {
            break; /* by round: none behind it is further */
        }
    }
}

void node_group_ready_reads(struct node_group *group)
{
    ready_list(group, &group->linearizable);
    ready_list(group, &group->causal);
}

static void expire_list(struct node_group *group, struct read_list *list, uint64_t *check_ns)
{
    struct node *node = group->node;
    struct node_read *next = NULL;
    for (struct node_read *read = list->first; read != NULL; read = next) {
        next = read->next;
        uint64_t give_up_ns = read->submitted_ns + NODE_LEADER_WAIT_NS;
        if (node->now_ns >= read->deadline_ns) {
            finish_later(node, read, TL_ERR_TIMEOUT);
        } else if (node->now_ns >= give_up_ns && group->leader == RAFT_ID_NONE) {
            bool has_quorum = node_reaches_quorum(node);
            finish_later(node, read, has_quorum ? TL_ERR_NO_LEADER : TL_ERR_NO_QUORUM);
        } else {
            *check_ns = TL_MIN(*check_ns, read->deadline_ns);
            if (give_up_ns > node->now_ns) *check_ns = TL_MIN(*check_ns, give_up_ns);
        }
    }
}

void node_group_expire_reads(struct node_group *group, uint64_t *check_ns)
{
    expire_list(group, &group->linearizable, check_ns);
    expire_list(group, &group->causal, check_ns);
}

static void refuse_list(struct node *node, struct read_list *list)
{
    while (list->first != NULL) finish_later(node, list->first, TL_ERR_DIVERGED);
}

void node_group_refuse_reads(struct node_group *group)
{
    refuse_list(group->node, &group->linearizable);
    refuse_list(group->node, &group->causal);
}

static void close_list(struct node *node, struct read_list *list)
{
    while (list->first != NULL) {
        list->first->outcome = TL_ERR_STOPPING;
        finish(node, list->first);
    }
}

void node_reads_close(struct node *node)
{
    while (node->reads_ending.first != NULL) {
        node->reads_ending.first->outcome = TL_ERR_STOPPING; /* views are about to go */
        finish(node, node->reads_ending.first);
    }
    for (uint32_t i = 0; i < node->groups_count; i++) {
        close_list(node, &node->groups[i]->linearizable);
        close_list(node, &node->groups[i]->causal);
    }
}
