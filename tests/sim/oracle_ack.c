/* oracle_ack.c - the judges of acknowledgements around installed snapshots. The core asserts much
 * of its log, but what it has told others is known here only: from what was sent and delivered.
 */

#include "sim_internal.h"

#include <inttypes.h>

#include "trilith/frame.h"

void ack_on_install(struct sim *sim, uint32_t node, const struct mem_log *log,
                    const struct log_op *op)
{
    const struct raft_base *base = &op->install->base;
    struct sim_ack *ack = &sim->stores[sim->nodes[node].store].acks[op->group];
    if (op->install->keeps_suffix) return;
    ack->is_unasked = true;
    ack->install = *base;
    if (ack->term != log->hard_state.term || base->index >= ack->index) return;
    /* A process that is started on this disk has less than it has acknowledged in its term, and is
     * refused as an old copy of itself. */
    sim_fail(sim,
             "[57] group %" PRIu32 ": a snapshot at %" PRIu64 " takes from node %u what it has "
             "acknowledged in term %" PRIu64 ", up to %" PRIu64,
             op->group, base->index, node, ack->term, ack->index);
}

void ack_on_sent(struct sim *sim, const struct sim_node *from, const struct raft_message *message)
{
    if (message->type != RAFT_APPEND_REPLY || message->reject != RAFT_REJECT_NONE) return;
    struct sim_ack *ack = &sim->stores[from->store].acks[message->group];
    if (message->term > ack->term) ack->index = 0;
    ack->term = TL_MAX(ack->term, message->term);
    if (message->term == ack->term) ack->index = TL_MAX(ack->index, message->index);
    bool is_of_install = ack->is_unasked && message->index == ack->install.index;
    if (!is_of_install || message->term == ack->install.term) return;
    sim_fail(sim,
             "[56] group %" PRIu32 ": node %u acknowledges its snapshot at %" PRIu64
             " of term %" PRIu64 " unasked to a leader of term %" PRIu64,
             message->group, from->number, message->index, ack->install.term, message->term);
}

/* A leader that sends an append has asked. */
void ack_on_frame(struct sim *sim, const struct sim_node *to, struct bytes payload)
{
    struct sim_ack *acks = sim->stores[to->store].acks;
    bool is_any = false;
    for (raft_group g = 0; g < SIM_GROUPS_COUNT; g++) is_any = is_any || acks[g].is_unasked;
    if (!is_any) return;
    struct reader reader = reader_make(payload);
    struct raft_batch_head head;
    enum tl_err err = raft_batch_head_decode(&reader, true, &head);
    for (uint32_t i = 0; err == TL_OK && i < head.messages_count; i++) {
        struct raft_message message;
        err = raft_message_decode(&reader, &message);
        if (err != TL_OK) break;
        bool is_asked = message.type == RAFT_APPEND && message.group < SIM_GROUPS_COUNT;
        if (is_asked) acks[message.group].is_unasked = false;
        raft_message_clear(&message);
    }
}
