/* node_install.c - the switch from a group's table to an installed one.
 *
 *   READY        the new table is complete, durable and open beside the one in use; it waits here,
 *                while the group goes on, when the core first has to hear that its sender leads
 *   no flush     of the group runs; apply, freezes and flushes of it stop
 *   INSTALLING   raft_snapshot_install(); its op, one transaction of the log, is the switch
 *   done         raft_append_done(); readers get the new view, apply goes on behind the base
 *   retiring     when the last reader of the old table has gone, it is closed and deleted
 *
 * A crash before the switch leaves a directory that no log names: the next start deletes it. A
 * crash behind it leaves the old one, for the same end.
 */

#include "node_internal.h"

#include "trilith/crash_point.h"

/* ---- before ---- */

void node_install_begin(struct node *node, struct node_receiving *receiving)
{
    struct node_group *group = node->groups[receiving->group];
    group->installing = receiving; /* from here on nothing of it is applied, frozen or flushed */
    if (node->flush_group == group) return;
    node_group_make_room(group);
    if (node->is_failed) return;
    const struct snapshot_info *info = &receiving->info;
    const struct raft_base base = {
        .index = info->state.index,
        .term = info->state.term,
        .hash = info->state.chain_hash,
        .time_us = info->state.time_us,
    };
    struct raft_conf conf;
    enum tl_err err = conf_payload_decode(bytes_make(info->conf, info->conf_bytes), &conf);
    TL_ASSERT(err == TL_OK); /* checked when it was offered */
    node_group_advance(group);
    err = raft_snapshot_install(group->raft, receiving->peer, &base, &conf);
    if (err == TL_OK) {
        receiving->state = RECEIVING_INSTALLING;
        CRASH_POINT("install-begun");
        return;
    }
    group->installing = NULL;
    /* Every frame is followed by a turn, and so by another attempt. */
    if (err == TL_ERR_NO_LEADER) return;
    TL_ASSERT(err != TL_ERR_BUSY); /* one at a time per group */
    bool is_stale = err == TL_ERR_STALE;
    node_receive_answer(node, receiving, is_stale ? SNAPSHOT_ANSWER_STALE : SNAPSHOT_ANSWER_BROKEN,
                        0);
    node_receive_end(node, receiving,
                     is_stale ? "the log has what is in it"
                              : "the log has other bytes at its index");
}

void node_install_fill_op(struct node_group *group, const struct raft_install *install,
                          struct log_op *op)
{
    struct node_receiving *receiving = group->installing;
    TL_ASSERT(receiving != NULL && receiving->state == RECEIVING_INSTALLING);
    TL_ASSERT(install->base.index == receiving->info.state.index);
    receiving->install = (struct log_install){
        .base = install->base,
        .keeps_suffix = install->keeps_suffix,
        .table_number = receiving->table_number,
        .conf = bytes_make(receiving->info.conf, receiving->info.conf_bytes),
    };
    op->install = &receiving->install;
}

/* ---- behind ---- */

/* What was read from the log to be applied is in the new table. */
static void drop_replay(struct node_group *group)
{
    struct node *node = group->node;
    if (group->replay != NULL) node_free_job(node, TL_TAKE(&group->replay));
    if (node->options.mutation == NODE_MUTATION_KEEP_REPLAY) return;
    struct node_job *ahead = TL_TAKE(&group->replay_ahead);
    if (ahead == NULL) return;
    if (ahead->is_out) {
        ahead->is_stale = true; /* freed when it comes back */
    } else {
        node_free_job(node, ahead);
    }
}

static enum tl_err replace_table(struct node_group *group, struct table *table)
{
    kv_table_destroy(TL_TAKE(&group->kv));
    views_install(group->views, table);
    group->table = table;
    const struct group_state *state = table_state(table);
    uint32_t mutation = group->state.mutation;
    kv_state_deinit(&group->state);
    kv_state_init(&group->state, state);
    group->state.mutation = mutation;
    group->flushed = group->base_index = state->index;
    group->applicable = TL_MAX(group->applicable, state->index);
    group->commit = TL_MAX(group->commit, state->index);
    group->generation_began_ns = 0;
    group->is_apply_stalled = false;
    memset(group->frozen_order, 0, sizeof group->frozen_order);
    node_group_reset_digests(group);
    return kv_table_create(group->views, &group->kv);
}

/* Group 0's table says who the members are. */
static void load_members(struct node_group *group)
{
    struct node *node = group->node;
    struct tl_fault fault;
    enum tl_err err = kv_table_begin(group->kv);
    if (err != TL_OK) {
        node_fail(node, kv_table_fault(group->kv));
        return;
    }
    err = node_member_load(group, &fault);
    kv_table_end(group->kv);
    if (err != TL_OK && err != TL_ERR_NOT_FOUND) node_fail(node, &fault);
}

void node_install_done(struct node_group *group)
{
    struct node *node = group->node;
    struct node_receiving *receiving = TL_TAKE(&group->installing);
    const struct snapshot_info *info = &receiving->info;
    raft_index before = group->state.group.index;
    drop_replay(group);
    memcpy(group->table_dir, receiving->job.dir, sizeof group->table_dir);
    group->table_number = receiving->table_number;
    enum tl_err err = replace_table(group, TL_TAKE(&receiving->table));
    if (err != TL_OK) {
        struct tl_fault fault;
        tl_fault_set(&fault, group->table_dir, group->id, 0, "no reader: %s", tl_err_text(err));
        node_fail(node, &fault);
        return;
    }
    buf_release(group->conf);
    group->conf = buf_copy(bytes_make(info->conf, info->conf_bytes));
    if (group->id == 0) load_members(group);
    if (node->is_failed) return;
    CRASH_POINT("install-published");
    node_member_wake(node);
    node_group_writes_installed(group);
    node->metrics.snapshots_installed_count++;
    node_log(node, LOG_LEVEL_INFO, "snapshot_installed",
             "group=%u index=%llu rows=%llu before=%llu keeps_suffix=%d ms=%llu", group->id,
             (unsigned long long)info->state.index, (unsigned long long)info->state.rows_count,
             (unsigned long long)before, receiving->install.keeps_suffix ? 1 : 0,
             (unsigned long long)((node->now_ns - receiving->began_ns) / 1000000));
    node_receive_answer(node, receiving, SNAPSHOT_ANSWER_INSTALLED, 0);
    node_receive_end(node, receiving, NULL);
}

/* ---- the replaced table ---- */

void node_install_retire(struct node *node)
{
    struct node_snapshot_job *job = &node->retiring;
    for (uint32_t i = 0; i < node->groups_count && !job->is_out; i++) {
        struct table *table = views_take_retired(node->groups[i]->views);
        if (table == NULL) continue;
        job->group = node->groups[i]->id;
        job->table = table;
        text_format(job->dir, sizeof job->dir, "%s", table_dir(table));
        node_snapshot_give(node, job, SNAPSHOT_JOB_ABORT);
    }
}

void node_install_retired(struct node *node, enum tl_err err, const struct tl_fault *fault)
{
    if (err == TL_OK) return;
    /* It is not the group's any more; the next start tries again. */
    node_log(node, LOG_LEVEL_WARN, "table_not_deleted", "dir=\"%s\" reason=\"%s\"",
             node->retiring.dir, node_snapshot_reason(err, fault));
}

void node_install_close(struct node *node)
{
    node_snapshot_job_clear(&node->retiring);
}
