/* sim.h - the deterministic simulator of a whole cluster: nodes, disks, network, clients, faults
 * and the judges, in virtual time (docs/correctness.md).
 *
 * Role:       Runs one seed: a storm in which only safety is judged, then a healed world in which
 *             the cluster has to recover. Same seed and options, same trace.
 * Thread:     one at a time in a process.
 */

#ifndef TL_SIM_H
#define TL_SIM_H

#include <stdbool.h>
#include <stdint.h>

/* What happened, so that a batch of seeds can be seen to have tested something. */
#define SIM_COUNTERS(X)         \
    X(events)                   \
    X(elections_started)        \
    X(leaders)                  \
    X(crashes)                  \
    X(crashes_in_commit)        \
    X(crashes_in_flush)         \
    X(commits_kept)             \
    X(commits_lost)             \
    X(stops)                    \
    X(starts)                   \
    X(pauses)                   \
    X(pauses_again)             \
    X(clock_jumps)              \
    X(sleeps)                   \
    X(late_repeats)             \
    X(disk_stalls)              \
    X(freezes)                  \
    X(flushes)                  \
    X(entries_truncated)        \
    X(entries_deleted)          \
    X(entries_committed)        \
    X(forwards)                 \
    X(read_rounds)              \
    X(reads_checked)            \
    X(scans_checked)            \
    X(txns_applied)             \
    X(reads_in_flush)           \
    X(writes_ok)                \
    X(frames)                   \
    X(frames_lost)              \
    X(frames_duplicated)        \
    X(connections_reset)        \
    X(partitions)               \
    X(partitions_of_classes)    \
    X(frames_queued)            \
    X(sends_refused)            \
    X(outcomes_full)            \
    X(values_large)             \
    X(disks_near_full)          \
    X(leaders_filled)           \
    X(disks_full)               \
    X(maps_full)                \
    X(ends_by_full_disks)       \
    X(outcomes_no_space)        \
    X(outcomes_map_full)        \
    X(records_damaged)          \
    X(items_damaged)            \
    X(heads_damaged)            \
    X(entries_altered)          \
    X(damage_found)             \
    X(ends_by_damage)           \
    X(ends_by_alteration)       \
    X(chain_mismatches)         \
    X(at_log_commit)            \
    X(at_conf)                  \
    X(at_truncation)            \
    X(at_chunk)                 \
    X(at_install)               \
    X(at_election)              \
    X(at_transfer)              \
    X(at_vote)                  \
    X(at_freeze)                \
    X(at_flush_begin)           \
    X(at_flush_done)            \
    X(at_forward)               \
    X(dedupe_hits)              \
    X(records_evicted)          \
    X(log_reads_peer)           \
    X(log_reads_apply)          \
    X(outcomes_refused)         \
    X(outcomes_replaced)        \
    X(outcomes_unknown)         \
    X(replayed_at_start)        \
    X(births_with_crash)        \
    X(snapshots_sent)           \
    X(snapshot_resumes)         \
    X(snapshots_failed)         \
    X(installs)                 \
    X(confs)                    \
    X(confs_joint)              \
    X(confs_truncated)          \
    X(joints_left_by_another)   \
    X(placements)               \
    X(changes_refused)          \
    X(expulsions)               \
    X(disks_emptied)            \
    X(wipes_while_down)         \
    X(wipes_of_most)            \
    X(rollbacks)                \
    X(rollbacks_of_leaders)     \
    X(rollbacks_refused)        \
    X(rollback_messages)        \
    X(transfers_asked)          \
    X(transfers_done)           \
    X(hangs)                    \
    X(stalls_judged)            \
    X(hangs_of_all)             \
    X(hangs_of_leaders)         \
    X(isolations)               \
    X(deposals)                 \
    X(absences)                 \
    X(commit_errors)            \
    X(at_stage_begun)           \
    X(at_stage_chunk)           \
    X(at_stage_before_sync)     \
    X(at_stage_before_rename)   \
    X(at_stage_before_dir_sync) \
    X(at_stage_done)            \
    X(at_install_begun)         \
    X(at_switch_before_commit)  \
    X(at_switch_after_commit)   \
    X(at_install_published)     \
    X(at_delete_before)         \
    X(at_delete_half)           \
    X(at_conf_proposed)         \
    X(at_conf_before_commit)    \
    X(at_conf_after_commit)     \
    X(at_conf_applied)          \
    X(at_placement_proposed)    \
    X(at_placement_applied)

struct sim_counters {
#define SIM_COUNTER_FIELD(name) uint64_t name;
    SIM_COUNTERS(SIM_COUNTER_FIELD)
#undef SIM_COUNTER_FIELD
};

struct sim_options {
    uint64_t seed;
    uint32_t mutation;   /* planted bug, docs/correctness.md; 0 none */
    const char *profile; /* NULL: drawn from the seed; else a name of SIM_PROFILES */
    bool is_traced;      /* print every event */
};

struct sim_result {
    bool is_violated;
    char violation[768];
    uint64_t trace_hash;
    uint64_t end_ns; /* virtual */
    struct sim_counters counters;
};

/* Runs one seed. An assertion that fails inside is a violation too; the memory of that run is lost
 * to the process then. */
void sim_run(const struct sim_options *options, struct sim_result *out_result);

bool sim_profile_exists(const char *name);
void sim_counters_add(struct sim_counters *sum, const struct sim_counters *added);

#endif
