/* node_change.c - changes of the membership that an operator asks for.
 *
 *   READING   group 0 is read linearizably: the placement here is the newest
 *     |  \_ add: ASKING   the node at the address says which store it is
 *     v  v
 *   decided from the placement --- dry run, refused, so already ---> done
 *     v
 *   WRITING   on the condition that nobody has written it meanwhile; if so: READING again
 *
 * A repeated request finds the change made and says so. What is refused is refused here, by what
 * this node sees of the others; what follows from the placement asks for its own quorums.
 */

#include "node_internal.h"

#include <stdlib.h>

enum change_state {
    CHANGE_READING = 0,
    CHANGE_ASKING = 1,
    CHANGE_WRITING = 2,
};

static void forget(struct node *node, struct node_change *change)
{
    struct node_change **at = &node->changes;
    while (*at != change) {
        TL_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = change->next;
    change->next = NULL;
}

static void finish(struct node_change *change, enum tl_err err)
{
    forget(change->node, change);
    change->on_done(change, err);
}

static void refuse(struct node_change *change, const char *code, const char *reason)
{
    change->report.refusal_code = code;
    change->report.refusal = reason;
}

/* ---- deciding ---- */

static void refuse_by_verdict(struct node_change *change, enum placement_verdict verdict)
{
    switch (verdict) {
    case PLACEMENT_CHANGED:
    case PLACEMENT_SAME:
    case PLACEMENT_UNKNOWN: /* a removal that has happened */
        break;
    case PLACEMENT_REMOVED:
        refuse(change, "store_removed",
               "the store at this address was removed; empty its directory first");
        break;
    case PLACEMENT_OTHER_ADDRESS:
        refuse(change, "other_address", "the store is a member under another address");
        break;
    case PLACEMENT_OTHER_PORT:
        refuse(change, "other_peer_port",
               "a member has this address, or this peer address, together with another");
        break;
    case PLACEMENT_FULL:
        refuse(change, "too_many_members", "there is no room for another store");
        break;
    case PLACEMENT_LAST:
        refuse(change, "last_voter", "the last voter cannot be removed");
        break;
    }
}

static bool is_able(const void *context, raft_id id)
{
    const struct node_change *change = context;
    const struct node *node = change->node;
    if (id == node->self || id == change->newcomer_id) return true;
    const struct node_peer *peer = node_find_peer((struct node *)node, id);
    return peer != NULL && peer->is_up[PEER_CLASS_RAFT];
}

/* What the report says of a change that is refused before it is tried. */
static void describe_now(struct node_change *change)
{
    const struct placement *placement = change->node->placement;
    int32_t can_lose = placement_can_lose(placement, is_able, change);
    change->report = (struct node_change_report){
        .epoch = placement->epoch,
        .can_lose_before = can_lose,
        .can_lose_after = can_lose,
    };
}

/* Without a store that does not answer those that are left are no fewer: it may be one of many that
 * were added and never came, and the placement then counts on more than vote yet. */
static bool is_holder_able(const struct node_change *change)
{
    const struct placement_member *holder =
        placement_holder(change->node->placement, change->address);
    return holder != NULL && is_able(change, store_id_raft(&holder->member.store_id));
}

static uint64_t bytes_of_tables(const struct node *node)
{
    uint64_t bytes = 0;
    for (raft_group id = 0; id < node->groups_count; id++) {
        bytes += table_data_bytes(node->groups[id]->table);
    }
    return bytes;
}

static void on_written(struct node_write *write, enum tl_err err, const struct kv_result *result);

static void write_change(struct node_change *change, const struct placement *next)
{
    change->state = CHANGE_WRITING;
    change->write = (struct node_write){
        .deadline_ns = change->deadline_ns,
        .on_done = on_written,
        .context = change,
    };
    enum tl_err err = node_member_write(change->node, &change->write, next);
    if (err != TL_OK) finish(change, err);
}

/* The placement is the newest, and the newcomer, if there is to be one, is known. */
static void decide(struct node_change *change, const struct member *newcomer)
{
    struct node *node = change->node;
    struct node_change_report *report = &change->report;
    struct placement *next = malloc(sizeof *next);
    TL_ASSERT(next != NULL);
    *next = *node->placement;
    change->newcomer_id = newcomer != NULL ? store_id_raft(&newcomer->store_id) : RAFT_ID_NONE;
    report->can_lose_before = placement_can_lose(next, is_able, change);
    bool takes_away = newcomer == NULL && is_holder_able(change);
    enum placement_verdict verdict =
        newcomer != NULL ? placement_add(next, newcomer) : placement_remove(next, change->address);
    report->can_lose_after = placement_can_lose(next, is_able, change);
    report->is_changed = verdict == PLACEMENT_CHANGED;
    report->epoch = next->epoch;
    report->bytes_to_move = newcomer != NULL && report->is_changed ? bytes_of_tables(node) : 0;
    refuse_by_verdict(change, verdict);
    if (report->is_changed && report->can_lose_after < 0 && takes_away) {
        refuse(change, "would_lose_quorum",
               "those that are left and answer would be no majority of the voters");
    }
    if (report->refusal != NULL) report->is_changed = false;
    if (report->is_changed && !change->is_dry_run) {
        write_change(change, next);
    } else {
        finish(change, TL_OK);
    }
    free(next);
}

/* ---- the steps ---- */

static void begin_asking(struct node_change *change)
{
    struct node *node = change->node;
    change->state = CHANGE_ASKING;
    node->io.ask(node->io.context, change->peer_address,
                 node_birth_make_note(node, BIRTH_WORD_NONE, false));
}

static void on_read(struct node_read *read, enum tl_err err)
{
    struct node_change *change = read->context;
    struct node *node = change->node;
    if (err != TL_OK) {
        finish(change, err);
        return;
    }
    const struct placement_member *holder = placement_holder(node->placement, change->address);
    if (change->kind == NODE_CHANGE_REMOVE) {
        decide(change, NULL);
    } else if (holder != NULL) { /* a voter already: nobody has to be asked */
        bool is_same = strcmp(holder->member.peer_address, change->peer_address) == 0;
        describe_now(change);
        if (!is_same) refuse_by_verdict(change, PLACEMENT_OTHER_PORT);
        finish(change, TL_OK);
    } else {
        begin_asking(change);
    }
}

static enum tl_err read_placement(struct node_change *change)
{
    change->state = CHANGE_READING;
    change->read = (struct node_read){
        .group = 0,
        .consistency = NODE_LINEARIZABLE,
        .deadline_ns = change->deadline_ns,
        .on_ready = on_read,
        .context = change,
    };
    bool is_ready = false;
    enum tl_err err = node_read(change->node, &change->read, &is_ready);
    TL_ASSERT(err != TL_OK || !is_ready); /* linearizable reads take a round */
    return err;
}

static void on_written(struct node_write *write, enum tl_err err, const struct kv_result *result)
{
    struct node_change *change = write->context;
    if (err == TL_OK && result->status == KV_CONDITION_FAILED) {
        err = read_placement(change);
        if (err == TL_OK) return;
    }
    finish(change, err);
}

/* A store that has a cluster. One of this cluster that is no member was removed, however long ago:
 * the newest removals alone are remembered by their ids. */
static void judge_belonging(struct node_change *change, const struct birth_note *note)
{
    const struct placement *placement = change->node->placement;
    if (!store_id_equal(&note->cluster_id, &placement->genesis.cluster_id)) {
        refuse(change, "other_cluster", "the node there belongs to another cluster");
    } else if (placement_find(placement, store_id_raft(&note->store_id)) == NULL) {
        refuse_by_verdict(change, PLACEMENT_REMOVED);
    }
}

static void on_answer(struct node_change *change, const struct birth_note *note)
{
    struct node *node = change->node;
    describe_now(change);
    if (note == NULL) {
        refuse(change, "no_answer", "no node answers at this address; start it with --join first");
    } else if (strcmp(note->address, change->address) != 0) {
        refuse(change, "other_address", "the node there calls itself by another address");
    } else if (store_id_equal(&note->store_id, &node->store_id)) {
        refuse(change, "own_address", "the address leads to this node");
    } else if (!store_id_is_zero(&note->cluster_id)) {
        judge_belonging(change, note);
    }
    if (change->report.refusal != NULL) {
        finish(change, TL_OK);
        return;
    }
    struct member newcomer = {.store_id = note->store_id};
    memcpy(newcomer.address, note->address, sizeof newcomer.address);
    memcpy(newcomer.peer_address, change->peer_address, sizeof newcomer.peer_address);
    decide(change, &newcomer);
}

void node_change_on_birth_reply(struct node *node, const char *peer_address,
                                const struct birth_note *note)
{
    struct node_change *next = NULL;
    for (struct node_change *change = node->changes; change != NULL; change = next) {
        next = change->next;
        if (change->state != CHANGE_ASKING) continue;
        if (strcmp(change->peer_address, peer_address) == 0) on_answer(change, note);
    }
}

enum tl_err node_change(struct node *node, struct node_change *change)
{
    node_enter(node);
    if (node->is_failed || node->is_draining) return TL_ERR_STOPPING;
    if (node->groups_count == 0) return TL_ERR_STARTING;
    TL_ASSERT(change->on_done != NULL);
    change->node = node;
    change->report = (struct node_change_report){.epoch = 0};
    change->newcomer_id = RAFT_ID_NONE;
    enum tl_err err = read_placement(change);
    if (err != TL_OK) return err;
    change->next = node->changes;
    node->changes = change;
    return TL_OK;
}

void node_change_cancel(struct node *node, struct node_change *change)
{
    node_enter(node);
    if (change->state == CHANGE_READING) node_read_cancel(node, &change->read);
    if (change->state == CHANGE_WRITING) node_write_cancel(node, &change->write);
    forget(node, change);
}

/* Reads and writes have been answered; what is left waits for somebody's answer. */
void node_changes_close(struct node *node)
{
    while (node->changes != NULL) finish(node->changes, TL_ERR_STOPPING);
}
