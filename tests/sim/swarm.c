/* swarm.c - what a seed is like: every seed draws its own subset of features and its own
 * parameters, so that rare combinations are somewhere (swarm testing: Groce et al., ISSTA 2012). */

#include "sim_internal.h"

struct draw {
    struct prng prng;
};

static uint64_t pick(struct draw *draw, const uint64_t *values, size_t count)
{
    return values[prng_below(&draw->prng, count)];
}

#define PICK(draw, ...)                           \
    pick((draw), (const uint64_t[]){__VA_ARGS__}, \
         sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

/* 0 half of the time: the feature is not in this seed. */
static uint32_t weight(struct draw *draw, uint32_t weight_max)
{
    if (prng_chance(&draw->prng, 500000)) return 0;
    return (uint32_t)prng_between(&draw->prng, 1, weight_max);
}

static void draw_size(struct draw *draw, struct swarm *swarm)
{
    swarm->nodes_count = (uint32_t)PICK(draw, 1, 2, 3, 3, 3, 3, 3, 4, 5, 5);
    swarm->founders_count = swarm->nodes_count;
    swarm->clients_count = (uint32_t)prng_between(&draw->prng, 1, SIM_CLIENTS_MAX);
    swarm->keys_count = (uint32_t)prng_between(&draw->prng, 1, SIM_KEYS_MAX);
    swarm->storm_ns = PICK(draw, 4, 8, 12, 24) * SIM_S;
    swarm->election_timeout_ns = PICK(draw, 100, 300, 300) * SIM_MS;
    swarm->birth_spread_ns = PICK(draw, 1, 100, 1000, 2000) * SIM_MS;
    swarm->generation_rows_max = (uint32_t)PICK(draw, 2, 4, 8, 16, 64);
    swarm->generation_age_ns = PICK(draw, 20, 100, 500, 5000) * SIM_MS;
    swarm->log_retain_bytes = PICK(draw, 0, 2048, 16384, 1u << 20);
    swarm->has_snapshots = prng_chance(&draw->prng, 500000);
    swarm->log_cache_bytes = PICK(draw, 1, 1024, 8192, 1u << 20);
    swarm->snapshot_chunk_bytes = (uint32_t)PICK(draw, 1024, 1024, 4096);
}

static void draw_network(struct draw *draw, struct swarm *swarm)
{
    swarm->is_datagram = prng_chance(&draw->prng, 500000);
    swarm->delay_min_ns = PICK(draw, 20, 100, 1000, 5000) * SIM_US;
    swarm->delay_mean_ns = PICK(draw, 50, 200, 2000, 10000, 30000) * SIM_US;
    swarm->loss_ppm = (uint32_t)PICK(draw, 0, 1000, 20000, 100000);
    swarm->duplicate_ppm = (uint32_t)PICK(draw, 0, 10000, 100000, 300000);
    swarm->duplicate_delay_ns = PICK(draw, 5, 100, 2000) * SIM_MS;
    swarm->reset_ppm = (uint32_t)PICK(draw, 0, 0, 500, 3000);
    swarm->turn_delay_ns = PICK(draw, 1, 50, 500) * SIM_US;
    swarm->clock_ppm_max = (int32_t)PICK(draw, 0, 50, 500);
}

static void draw_disk(struct draw *draw, struct swarm *swarm)
{
    swarm->commit_min_ns = PICK(draw, 20, 100, 500, 3000) * SIM_US;
    swarm->commit_mean_ns = PICK(draw, 50, 500, 5000, 20000) * SIM_US;
    swarm->flush_mean_ns = PICK(draw, 500, 5000, 50000, 300000) * SIM_US;
    swarm->log_read_mean_ns = PICK(draw, 50, 1000, 20000) * SIM_US;
    swarm->snapshot_mean_ns = PICK(draw, 100, 5000, 100000) * SIM_US;
    swarm->stall_ppm = (uint32_t)PICK(draw, 0, 0, 500, 5000);
    swarm->stall_mean_ns = PICK(draw, 100, 500, 1500) * SIM_MS;
}

static void draw_faults(struct draw *draw, struct swarm *swarm)
{
    swarm->fault_mean_ns = PICK(draw, 100, 300, 800, 2000) * SIM_MS;
    swarm->crash_weight = weight(draw, 4);
    swarm->crash_all_weight = weight(draw, 1);
    swarm->stop_weight = weight(draw, 2);
    swarm->partition_weight = weight(draw, 6);
    swarm->pause_weight = weight(draw, 3);
    swarm->clock_weight = weight(draw, 1);
    swarm->reset_weight = weight(draw, 2);
    swarm->hang_weight = weight(draw, 2);
    swarm->transfer_weight = weight(draw, 2);
    swarm->hang_mean_ns = PICK(draw, 100, 700, 2000) * SIM_MS;
    swarm->commit_error_ppm = (uint32_t)PICK(draw, 0, 0, 0, 1000);
    swarm->crash_in_commit_ppm = (uint32_t)PICK(draw, 0, 500, 2000, 10000);
    swarm->crash_in_flush_ppm = (uint32_t)PICK(draw, 0, 5000, 20000, 100000);
    swarm->crash_at_point_ppm = (uint32_t)PICK(draw, 0, 5000, 50000, 300000);
    swarm->down_mean_ns = PICK(draw, 20, 200, 1000) * SIM_MS;
    swarm->partition_mean_ns = PICK(draw, 100, 500, 2000) * SIM_MS;
    swarm->pause_mean_ns = PICK(draw, 20, 300, 1000) * SIM_MS;
    swarm->pause_max_ns = 3 * SIM_S;
}

static void draw_workload(struct draw *draw, struct swarm *swarm)
{
    swarm->think_mean_ns = PICK(draw, 1, 10, 50, 200) * SIM_MS;
    swarm->keyed_ppm = (uint32_t)PICK(draw, 0, 200000, 500000, 1000000);
    swarm->read_ppm = (uint32_t)PICK(draw, 50000, 300000, 700000);
    swarm->request_timeout_ns = PICK(draw, 100, 500, 2000) * SIM_MS;
    swarm->records_max = (uint32_t)PICK(draw, 0, 0, 8, 40);
    swarm->future_token_ppm = (uint32_t)PICK(draw, 0, 0, 0, 20000);
    swarm->reads_are_inline = prng_chance(&draw->prng, 400000);
    swarm->late_repeat_ppm = swarm->future_token_ppm > 0 ? 100000 : 0;
}

/* What came later has draws of its own: the seeds of what was there stay as they were. */
static void draw_more(struct draw *draw, struct swarm *swarm)
{
    swarm->class_cut_ppm = (uint32_t)PICK(draw, 0, 0, 300000, 700000);
    swarm->moment_mean_ns = PICK(draw, 0, 0, 500, 2000) * SIM_MS;
    swarm->rot_weight = (uint32_t)PICK(draw, 0, 0, 0, 1);
    swarm->padding_max = (uint32_t)PICK(draw, 0, 0, 300, SIM_VALUE_BYTES_MAX);
    swarm->limits_divisor = (uint32_t)PICK(draw, 1, 1, 512, 1024);
    swarm->full_weight = (uint32_t)PICK(draw, 0, 0, 0, 1);
    bool is_slow = prng_chance(&draw->prng, 250000);
    for (uint32_t c = 0; c < PEER_CLASSES_COUNT; c++) {
        uint64_t rate = PICK(draw, 0, 20000, 100000, 1000000);
        swarm->bytes_per_s[c] = is_slow ? rate : 0;
    }
    swarm->queue_bytes_max = PICK(draw, 4096, 32768, 1u << 20);
    swarm->alter_ppm = (uint32_t)PICK(draw, 0, 100000);
    swarm->pause_again_ppm = (uint32_t)PICK(draw, 0, 300000);
}

/* ---- profiles: one thing in the foreground ---- */

static void profile_calm(struct swarm *swarm);

static void profile_crash(struct swarm *swarm)
{
    swarm->crash_weight = 4;
    swarm->crash_all_weight = 1;
    swarm->crash_in_commit_ppm = 5000;
    swarm->crash_in_flush_ppm = 50000;
    swarm->fault_mean_ns = 400 * SIM_MS;
    swarm->down_mean_ns = 50 * SIM_MS;
    swarm->commit_mean_ns = 5 * SIM_MS;
    swarm->flush_mean_ns = 50 * SIM_MS;
}

static void profile_reads(struct swarm *swarm)
{
    swarm->read_ppm = 700000;
    swarm->think_mean_ns = 2 * SIM_MS;
    swarm->generation_rows_max = 2;
    swarm->flush_mean_ns = 5 * SIM_MS;
    swarm->pause_weight = 4;
    swarm->partition_weight = 4;
    swarm->duplicate_ppm = 200000;
    swarm->reads_are_inline = false;
}

static void profile_network(struct swarm *swarm)
{
    swarm->partition_weight = 6;
    swarm->reset_weight = 2;
    swarm->pause_weight = 2;
    swarm->crash_weight = 1;
    swarm->fault_mean_ns = 300 * SIM_MS;
}

static void profile_snapshots(struct swarm *swarm)
{
    swarm->has_snapshots = true;
    swarm->nodes_count = TL_MAX(swarm->nodes_count, 3);
    swarm->log_retain_bytes = 2048;
    swarm->log_cache_bytes = 1024;
    swarm->snapshot_chunk_bytes = 1024;
    swarm->generation_rows_max = 4;
    swarm->flush_mean_ns = 5 * SIM_MS;
    swarm->think_mean_ns = 2 * SIM_MS;
    swarm->read_ppm = 100000;
    swarm->partition_weight = 6;
    swarm->crash_weight = 4;
    swarm->fault_mean_ns = 300 * SIM_MS;
    swarm->down_mean_ns = 1000 * SIM_MS;
    swarm->partition_mean_ns = 2000 * SIM_MS;
    swarm->crash_at_point_ppm = 100000;
}

/* Machines come and go, most of the time several at once. */
static void profile_membership(struct swarm *swarm)
{
    swarm->founders_count = 1 + swarm->clients_count % 4;
    swarm->nodes_count = TL_MIN(swarm->founders_count + 3, SIM_NODES_MAX);
    swarm->storm_ns = 20 * SIM_S;
    swarm->operator_mean_ns = 500 * SIM_MS;
    swarm->fault_mean_ns = 500 * SIM_MS;
    swarm->partition_mean_ns = TL_MIN(swarm->partition_mean_ns, 500 * SIM_MS);
    swarm->crash_weight = 4;
    swarm->partition_weight = 4;
    swarm->crash_at_point_ppm = TL_MAX(swarm->crash_at_point_ppm, 20000);
    swarm->election_timeout_ns = 100 * SIM_MS;
    swarm->loss_ppm = TL_MIN(swarm->loss_ppm, 20000);
    swarm->delay_mean_ns = TL_MIN(swarm->delay_mean_ns, 2 * SIM_MS);
    swarm->commit_mean_ns = TL_MIN(swarm->commit_mean_ns, 5 * SIM_MS);
}

/* Disks are emptied; the nodes come back to their seats by themselves. */
static void profile_wipes(struct swarm *swarm)
{
    swarm->founders_count = 3 + 2 * (swarm->clients_count % 2);
    swarm->nodes_count = swarm->founders_count;
    swarm->wipes_most = swarm->founders_count == 3 && swarm->keys_count % 2 == 0;
    swarm->storm_ns = swarm->wipes_most ? 8 * SIM_S : 30 * SIM_S;
    swarm->wipe_weight = swarm->wipes_most ? 0 : 4;
    swarm->fault_mean_ns = TL_MAX(swarm->fault_mean_ns, 800 * SIM_MS);
    swarm->crash_weight = 2;
    swarm->partition_weight = 1;
    swarm->partition_mean_ns = TL_MIN(swarm->partition_mean_ns, 500 * SIM_MS);
    swarm->loss_ppm = TL_MIN(swarm->loss_ppm, 20000);
}

/* Disks go back to older copies of themselves, between crashes and partitions. */
static void profile_rollback(struct swarm *swarm)
{
    swarm->founders_count = 3 + 2 * (swarm->clients_count % 2);
    swarm->nodes_count = swarm->founders_count;
    swarm->storm_ns = 40 * SIM_S;
    swarm->rollback_weight = 12;
    swarm->fault_mean_ns = 400 * SIM_MS;
    swarm->crash_weight = 3;
    swarm->crash_all_weight = swarm->hang_weight = swarm->pause_weight = swarm->stop_weight = 0;
    swarm->partition_weight = 2;
    swarm->partition_mean_ns = TL_MIN(swarm->partition_mean_ns, 500 * SIM_MS);
    swarm->down_mean_ns = TL_MIN(swarm->down_mean_ns, 200 * SIM_MS);
    swarm->loss_ppm = 0;
    swarm->delay_mean_ns = TL_MIN(swarm->delay_mean_ns, 2 * SIM_MS);
    swarm->commit_mean_ns = TL_MIN(swarm->commit_mean_ns, 5 * SIM_MS);
}

/* Both, with room for five voters. */
static void profile_churn(struct swarm *swarm)
{
    profile_membership(swarm);
    swarm->founders_count = 4;
    swarm->nodes_count = SIM_NODES_MAX;
    swarm->storm_ns = 30 * SIM_S;
    swarm->operator_mean_ns = 2 * SIM_S;
    swarm->wipe_weight = 2;
}

/* Log commits that hang, of one node or of all. */
static void profile_hangs(struct swarm *swarm)
{
    swarm->hang_weight = 6;
    swarm->hang_mean_ns = TL_MAX(swarm->hang_mean_ns, 700 * SIM_MS);
    swarm->crash_weight = 1;
    swarm->crash_all_weight = 0;
}

/* A healthy world with clients enough that there is always something to write. */
static void make_healthy(struct swarm *swarm)
{
    profile_calm(swarm);
    swarm->founders_count = swarm->nodes_count = 3;
    swarm->crash_weight = swarm->crash_all_weight = swarm->stop_weight = swarm->hang_weight = 0;
    swarm->partition_weight = swarm->pause_weight = swarm->clock_weight = swarm->reset_weight = 0;
    swarm->wipe_weight = swarm->transfer_weight = 0;
    swarm->future_token_ppm = 0; /* and nobody sleeps */
    swarm->class_cut_ppm = 0;
    swarm->moment_mean_ns = 0;
    swarm->rot_weight = swarm->full_weight = 0;
    swarm->padding_max = 0;
    memset(swarm->bytes_per_s, 0, sizeof swarm->bytes_per_s);
    swarm->delay_min_ns = 100 * SIM_US;
    swarm->delay_mean_ns = SIM_MS;
    swarm->storm_ns = 24 * SIM_S;
    swarm->clients_count = SIM_CLIENTS_MAX;
    swarm->think_mean_ns = SIM_MS;
    swarm->read_ppm = 50000;
}

/* Log commits that hang at all nodes at once, and nothing else: no reason for an election. */
static void profile_stalls(struct swarm *swarm)
{
    make_healthy(swarm);
    swarm->hangs_all = true;
    swarm->hang_weight = 1;
    swarm->hang_mean_ns = 700 * SIM_MS;
    swarm->fault_mean_ns = SIM_S;
    swarm->commit_mean_ns = 20 * SIM_MS;
}

/* Log commits that hang at one that leads, and nothing else: it has to go. */
static void profile_handover(struct swarm *swarm)
{
    make_healthy(swarm);
    swarm->founders_count = swarm->nodes_count = 3 + 2 * (swarm->keys_count % 2);
    swarm->hangs_leader = true;
    swarm->think_mean_ns = 10 * SIM_MS;
    swarm->hang_weight = 1;
    swarm->fault_mean_ns = SIM_S;
    swarm->commit_min_ns = 100 * SIM_US;
    swarm->commit_mean_ns = TL_MIN(swarm->commit_mean_ns, 5 * SIM_MS); /* others are well */
}

/* One node at a time that leads nothing is cut off and comes back: nobody else has to notice. */
static void profile_isolation(struct swarm *swarm)
{
    make_healthy(swarm);
    swarm->founders_count = swarm->nodes_count = 3 + 2 * (swarm->keys_count % 2);
    swarm->isolates = true;
    swarm->partition_weight = 1;
    swarm->partition_mean_ns = 700 * SIM_MS;
    swarm->fault_mean_ns = 3 * SIM_S;
    swarm->think_mean_ns = 20 * SIM_MS;
}

/* Leadership that is asked to move, again and again, and nodes that stop and hand over. */
static void profile_transfers(struct swarm *swarm)
{
    swarm->transfer_weight = 8;
    swarm->stop_weight = 3;
    swarm->crash_weight = 1;
    swarm->partition_weight = 1;
    swarm->crash_all_weight = 0;
    swarm->fault_mean_ns = 200 * SIM_MS;
    swarm->down_mean_ns = 50 * SIM_MS;
}

/* Wall clocks that are hours or days off, set back and forth and stopped while leaders change,
 * machines that sleep, and requests that are repeated late. */
static void profile_clocks(struct swarm *swarm)
{
    swarm->has_wild_clocks = true;
    swarm->clock_weight = 6;
    swarm->transfer_weight = 2;
    swarm->crash_weight = 2;
    swarm->partition_weight = 2;
    swarm->hang_weight = 0;
    swarm->stall_ppm = 0;
    swarm->fault_mean_ns = 300 * SIM_MS;
    swarm->down_mean_ns = TL_MIN(swarm->down_mean_ns, 200 * SIM_MS);
    swarm->partition_mean_ns = TL_MIN(swarm->partition_mean_ns, 500 * SIM_MS);
    swarm->keyed_ppm = TL_MAX(swarm->keyed_ppm, 500000);
    swarm->read_ppm = TL_MIN(swarm->read_ppm, 300000);
    swarm->late_repeat_ppm = 300000;
    swarm->future_token_ppm = 5000;
    swarm->records_max = swarm->records_max == 8 ? 100 : swarm->records_max;
}

/* Leaders that are cut off in the moment in which they are elected, or while they hand over, and
 * whose writes others bring through, or a snapshot does. */
static void profile_deposals(struct swarm *swarm)
{
    profile_calm(swarm);
    swarm->founders_count = swarm->nodes_count = 3 + 2 * (swarm->keys_count % 2);
    swarm->has_snapshots = true;
    swarm->depose_ppm = 500000;
    swarm->fault_mean_ns = 200 * SIM_MS;
    swarm->partition_mean_ns = 400 * SIM_MS;
    swarm->crash_weight = swarm->pause_weight = swarm->reset_weight = 1;
    swarm->crash_all_weight = swarm->stop_weight = swarm->clock_weight = swarm->hang_weight = 0;
    swarm->partition_weight = 0;
    swarm->transfer_weight = 3;
    swarm->down_mean_ns = 50 * SIM_MS;
    swarm->election_timeout_ns = 100 * SIM_MS;
    swarm->delay_mean_ns = TL_MIN(swarm->delay_mean_ns, 2 * SIM_MS);
    swarm->commit_mean_ns = TL_MIN(swarm->commit_mean_ns, 5 * SIM_MS);
    swarm->clients_count = SIM_CLIENTS_MAX;
    swarm->think_mean_ns = 2 * SIM_MS;
    swarm->read_ppm = 300000;
    swarm->request_timeout_ns = 2 * SIM_S;
    swarm->log_retain_bytes = 0;
    swarm->log_cache_bytes = 1;
    swarm->generation_rows_max = 4;
}

/* Crashes, and now and then something else, at the n-th time that something happens. */
static void profile_moments(struct swarm *swarm)
{
    swarm->has_snapshots = true;
    swarm->nodes_count = TL_MAX(swarm->nodes_count, 3);
    swarm->founders_count = TL_MIN(swarm->founders_count, swarm->nodes_count);
    swarm->operator_mean_ns = swarm->keys_count % 2 == 0 ? 2 * SIM_S : 0;
    swarm->log_retain_bytes = 2048;
    swarm->moment_mean_ns = 300 * SIM_MS;
    swarm->transfer_weight = 3;
    swarm->partition_weight = 3;
    swarm->crash_weight = 1;
    swarm->crash_all_weight = 0;
    swarm->fault_mean_ns = 500 * SIM_MS;
    swarm->down_mean_ns = 50 * SIM_MS;
    swarm->partition_mean_ns = TL_MIN(swarm->partition_mean_ns, 500 * SIM_MS);
}

/* Disks that give back other bytes than were written, between crashes. */
static void profile_rot(struct swarm *swarm)
{
    swarm->founders_count = swarm->nodes_count = 3 + 2 * (swarm->clients_count % 2);
    swarm->storm_ns = 15 * SIM_S;
    swarm->clients_count = TL_MIN(swarm->clients_count, 3); /* often all disks are alike */
    swarm->think_mean_ns = 50 * SIM_MS;
    swarm->rot_weight = 3;
    swarm->alter_ppm = 700000;
    swarm->crash_weight = 3;
    swarm->crash_all_weight = 3; /* then one whose last entry is wrong may be elected */
    swarm->stop_weight = 1;
    swarm->partition_weight = 1;
    swarm->wipe_weight = 0;
    swarm->fault_mean_ns = 500 * SIM_MS;
    swarm->partition_mean_ns = TL_MIN(swarm->partition_mean_ns, 500 * SIM_MS);
    swarm->down_mean_ns = TL_MIN(swarm->down_mean_ns, 200 * SIM_MS);
    swarm->loss_ppm = TL_MIN(swarm->loss_ppm, 20000);
}

/* Large values, small windows, links that take their time and queues that are full. */
static void profile_large(struct swarm *swarm)
{
    swarm->nodes_count = TL_MAX(swarm->nodes_count, 3);
    swarm->founders_count = TL_MIN(swarm->founders_count, swarm->nodes_count);
    swarm->operator_mean_ns = 0;
    swarm->founders_count = swarm->nodes_count;
    swarm->clients_count = SIM_CLIENTS_MAX;
    swarm->think_mean_ns = 2 * SIM_MS;
    swarm->read_ppm = 100000;
    swarm->padding_max = SIM_VALUE_BYTES_MAX;
    swarm->limits_divisor = 1024;
    swarm->log_cache_bytes = 8192;
    swarm->generation_rows_max = 64;
    swarm->queue_bytes_max = 16384;
    for (uint32_t c = 0; c < PEER_CLASSES_COUNT; c++) {
        swarm->bytes_per_s[c] = TL_MAX(swarm->bytes_per_s[c], 200000);
    }
    swarm->partition_weight = 4;
    swarm->crash_weight = 2;
    swarm->storm_ns = TL_MIN(swarm->storm_ns, 12 * SIM_S);
}

/* File systems that run full and have room again. */
static void profile_full(struct swarm *swarm)
{
    swarm->founders_count = swarm->nodes_count = TL_MAX(swarm->nodes_count, 3);
    swarm->storm_ns = TL_MAX(swarm->storm_ns, 12 * SIM_S);
    swarm->full_weight = 4;
    swarm->fault_mean_ns = TL_MAX(swarm->fault_mean_ns, 800 * SIM_MS);
    swarm->crash_weight = 1;
    swarm->partition_weight = 1;
    swarm->transfer_weight = 1;
    swarm->hang_weight = swarm->crash_all_weight = 0;
    swarm->partition_mean_ns = TL_MIN(swarm->partition_mean_ns, 500 * SIM_MS);
}

/* A process is stopped for longer than its log commit may take, and has to hear of that first. */
static void profile_pauses(struct swarm *swarm)
{
    make_healthy(swarm);
    swarm->storm_ns = 60 * SIM_S;
    swarm->clients_count = TL_MIN(swarm->clients_count, 3);
    swarm->think_mean_ns = 20 * SIM_MS;
    swarm->commit_mean_ns = 20 * SIM_MS;
    swarm->pause_weight = 1;
    swarm->fault_mean_ns = 5 * SIM_S;
    swarm->pause_mean_ns = 25 * SIM_S;
    swarm->pause_max_ns = 25 * SIM_S;
    swarm->pause_again_ppm = 500000;
}

/* Followers that need a snapshot, and are away when it comes. */
static void profile_absences(struct swarm *swarm)
{
    make_healthy(swarm);
    swarm->has_snapshots = true;
    swarm->storm_ns = 40 * SIM_S;
    swarm->clients_count = TL_MIN(swarm->clients_count, 3);
    swarm->think_mean_ns = 20 * SIM_MS;
    swarm->log_retain_bytes = 0;
    swarm->log_cache_bytes = 1;
    swarm->generation_rows_max = 2;
    swarm->partition_weight = swarm->crash_weight = 1;
    swarm->partition_mean_ns = SIM_S;
    swarm->fault_mean_ns = 2 * SIM_S;
    swarm->absent_ppm = 300000;
}

static void profile_errors(struct swarm *swarm)
{
    swarm->commit_error_ppm = 5000;
    swarm->crash_weight = 2;
}

static void profile_calm(struct swarm *swarm)
{
    swarm->fault_mean_ns = 3600 * SIM_S;
    swarm->crash_in_commit_ppm = 0;
    swarm->crash_in_flush_ppm = 0;
    swarm->stall_ppm = 0;
    swarm->reset_ppm = 0;
    swarm->loss_ppm = 0;
    swarm->commit_error_ppm = 0;
    swarm->crash_at_point_ppm = 0;
    swarm->moment_mean_ns = 0;
}

/* Of a mixture's first draw. Newer ones have draws of their own, so that seeds that are written
 * down stay what they were; the last is for asking only. */
#define PROFILES_DRAWN 11u
#define PROFILES_DRAWN_LATER 3u
#define PROFILES_DRAWN_LAST 7u

static const struct profile {
    const char *name;
    void (*apply)(struct swarm *swarm);
} profiles[] = {
    {"crash", profile_crash},
    {"reads", profile_reads},
    {"network", profile_network},
    {"snapshots", profile_snapshots},
    {"membership", profile_membership},
    {"wipes", profile_wipes},
    {"churn", profile_churn},
    {"hangs", profile_hangs},
    {"errors", profile_errors},
    {"transfers", profile_transfers},
    {"stalls", profile_stalls},
    {"rollback", profile_rollback},
    {"handover", profile_handover},
    {"isolation", profile_isolation},
    {"moments", profile_moments},
    {"rot", profile_rot},
    {"large", profile_large},
    {"full", profile_full},
    {"deposals", profile_deposals},
    {"pauses", profile_pauses},
    {"absences", profile_absences},
    {"calm", profile_calm},
    {"clocks", profile_clocks},
};

static const struct profile *find_profile(const char *name)
{
    for (size_t i = 0; i < TL_COUNT_OF(profiles); i++) {
        if (strcmp(profiles[i].name, name) == 0) return &profiles[i];
    }
    return NULL;
}

bool sim_profile_exists(const char *name)
{
    return find_profile(name) != NULL;
}

void swarm_draw(struct swarm *swarm, uint64_t seed, const char *profile)
{
    struct draw draw;
    prng_init(&draw.prng, seed ^ 0x737761726d);
    *swarm = (struct swarm){0};
    draw_size(&draw, swarm);
    draw_network(&draw, swarm);
    draw_disk(&draw, swarm);
    draw_faults(&draw, swarm);
    draw_workload(&draw, swarm);
    struct draw more;
    prng_init(&more.prng, seed ^ 0x6d6f7265);
    draw_more(&more, swarm);
    if (profile != NULL) {
        find_profile(profile)->apply(swarm);
    } else if (prng_chance(&draw.prng, 500000)) {
        profiles[prng_below(&draw.prng, PROFILES_DRAWN)].apply(swarm);
    } else if (prng_chance(&draw.prng, 60000 * PROFILES_DRAWN_LATER)) {
        profiles[PROFILES_DRAWN + prng_below(&draw.prng, PROFILES_DRAWN_LATER)].apply(swarm);
    } else if (prng_chance(&more.prng, 60000 * PROFILES_DRAWN_LAST)) {
        uint32_t first = PROFILES_DRAWN + PROFILES_DRAWN_LATER;
        profiles[first + prng_below(&more.prng, PROFILES_DRAWN_LAST)].apply(swarm);
    }
    bool is_rot_possible =
        swarm->rollback_weight == 0 && swarm->operator_mean_ns == 0 && !swarm->wipes_most;
    if (!is_rot_possible) swarm->rot_weight = 0;
    if (swarm->rot_weight == 0) swarm->alter_ppm = 0;
    if (swarm->rollback_weight > 0 || swarm->wipes_most) swarm->full_weight = 0;
    if (swarm->full_weight > 0) swarm->free_bytes_min = 16u << 20;
}
