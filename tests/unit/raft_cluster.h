/* raft_cluster.h - cores, their disks and the network between them, all under a test's control.
 *
 * Role:       Carries out the outputs of the cores as a host would, but moves a message or finishes
 *             a write only when told to. Checks election safety and state machine safety all along.
 * Thread:     pure.
 * Ownership:  per call; the cluster owns cores, entries and queued messages.
 */

#ifndef RAFT_CLUSTER_H
#define RAFT_CLUSTER_H

#include <stdio.h>

#include "trilith/raft.h"

#define CLUSTER_NODES_MAX 9u
#define CLUSTER_GROUP 7u
#define CLUSTER_T_NS 300000000ull /* election timeout */
#define CLUSTER_BEAT_NS 50000000ull
#define CLUSTER_OPS_MAX RAFT_OPS_IN_FLIGHT_MAX
#define MS 1000000ull

/* An op as a log writer holds it: the core's own is only borrowed. */
struct cluster_op {
    uint64_t sequence;
    raft_index truncate_from;
    raft_index first; /* of the entries; valid if entries_count > 0 */
    uint32_t entries_count;
    struct buf **entries;
    bool has_hard_state;
    struct raft_hard_state hard_state;
    bool is_install;
    struct raft_install install;
};

/* A snapshot on its way. */
struct cluster_snapshot {
    raft_id from;
    raft_id to; /* RAFT_ID_NONE: none */
    struct raft_base base;
    struct raft_conf conf;
};

struct cluster_node {
    raft_id id;
    struct raft *raft; /* NULL: down */
    uint64_t now_ns;
    uint32_t mutation;
    struct raft_conf conf; /* at its base */
    uint64_t starts_count;
    uint64_t token_first; /* of its reads, seen so far; told as 1 */

    /* The disk: what a restart finds. */
    struct raft_hard_state hard_state;
    struct raft_base base;
    struct buf **entries; /* entries[i] has index base.index + 1 + i */
    uint32_t entries_count;
    uint32_t entries_capacity;
    raft_index applied;

    struct cluster_op ops[CLUSTER_OPS_MAX]; /* in flight, oldest first */
    uint32_t ops_count;
    struct cluster_snapshot installing; /* came from a core that wants to know what became of it */
    bool holds_apply;                   /* its table is slow: nothing is applied */
    bool holds_log_reads;               /* false: answered in the turn in which they are asked */
    struct raft_log_read log_read;
    bool has_log_read;

    struct raft_output output; /* the last one, without what was carried out */
    enum raft_role role;       /* as last traced */
    raft_term term;
    raft_index commit;
};

struct cluster {
    uint32_t nodes_count;
    struct cluster_node nodes[CLUSTER_NODES_MAX]; /* ids 1, 2, ... */
    uint64_t seed;
    struct raft_conf first_conf; /* what a genesis entry would say */
    uint32_t append_entries_max; /* as in raft_options; 0: default */
    uint32_t inflight_messages_max;
    uint64_t cache_bytes_max;
    bool is_cut[CLUSTER_NODES_MAX + 1][CLUSTER_NODES_MAX + 1]; /* [from][to]: dropped when sent */

    struct raft_message *messages; /* under way, oldest first */
    uint32_t messages_count;
    uint32_t messages_capacity;

    bool sends_snapshots; /* cut when a core asks for one, delivered by cluster_settle() */
    struct cluster_snapshot snapshots[64];
    uint32_t snapshots_count;

    raft_id leaders[1024];   /* of each term */
    struct hash128 *applied; /* of each index, as first applied anywhere */
    uint32_t applied_capacity;
    const char *violation; /* the first safety property seen broken, or NULL */

    FILE *trace; /* where events are told; NULL: nowhere */
};

/* `voters_count` voters 1, 2, ... and then learners. Nothing is started. */
struct cluster *cluster_create(uint32_t voters_count, uint32_t learners_count);
/* Nodes more, members of nothing, that wait to be added. */
void cluster_add_spares(struct cluster *cluster, uint32_t count);
struct raft_conf cluster_conf(uint32_t voters_count, uint32_t learners_count);
/* Stops the test if a safety property was broken and violation was not cleared. */
void cluster_destroy(struct cluster *cluster);
struct cluster_node *cluster_at(struct cluster *cluster, raft_id id);

/* Fills the disk of a node that is down: entries 1, 2, ... with these terms; equal prefixes of
 * terms give equal entries. The hard state's term is the last one's, unless `term` is larger. */
void cluster_fill(struct cluster *cluster, raft_id id, const raft_term *terms, uint32_t count,
                  raft_term term);
void cluster_start(struct cluster *cluster, raft_id id);
void cluster_start_all(struct cluster *cluster);
void cluster_crash(struct cluster *cluster, raft_id id); /* writes in flight are lost */

/* One turn's end: output, carried out but for deliveries and writes. */
void cluster_turn(struct cluster *cluster, raft_id id);

/* Moves a node's clock on, and its turn. */
void cluster_advance(struct cluster *cluster, raft_id id, uint64_t by_ns);
/* To its deadline, and until it campaigns. */
void cluster_timeout(struct cluster *cluster, raft_id id);
/* All clocks in steps of 1 ms, everything delivered and written in between. */
void cluster_run(struct cluster *cluster, uint64_t by_ns);

/* 0 matches any id. Return how many. */
uint32_t cluster_deliver(struct cluster *cluster, raft_id from, raft_id to, uint32_t count_max);
uint32_t cluster_drop(struct cluster *cluster, raft_id from, raft_id to);
uint32_t cluster_write(struct cluster *cluster, raft_id id, uint32_t count_max); /* finish ops */
void cluster_answer_log_read(struct cluster *cluster, raft_id id);
void cluster_settle(struct cluster *cluster); /* delivers and writes until nothing is left */
void cluster_isolate(struct cluster *cluster, raft_id id, bool is_cut);

/* A message that no core sent; taken. */
void cluster_inject(struct cluster *cluster, struct raft_message *message);
/* The newest message under way of this type, borrowed, or NULL. */
const struct raft_message *cluster_find(const struct cluster *cluster, enum raft_message_type type,
                                        raft_id from, raft_id to);
uint32_t cluster_count(const struct cluster *cluster, enum raft_message_type type, raft_id from,
                       raft_id to);

enum tl_err cluster_propose(struct cluster *cluster, raft_id id, const char *text);
enum tl_err cluster_propose_bytes(struct cluster *cluster, raft_id id, size_t bytes);
enum tl_err cluster_propose_conf(struct cluster *cluster, raft_id id,
                                 const struct raft_conf *target);
enum tl_err cluster_transfer(struct cluster *cluster, raft_id id, raft_id target);
/* Hands `to` the snapshot that `from` would cut now; what raft_snapshot_install() says to it. */
enum tl_err cluster_install(struct cluster *cluster, raft_id from, raft_id to);
struct cluster_snapshot cluster_cut(struct cluster *cluster, raft_id from, raft_id to);
/* The oldest snapshot on its way arrives, or is lost. */
void cluster_deliver_snapshot(struct cluster *cluster, bool is_lost);
uint64_t cluster_read(struct cluster *cluster, raft_id id);
void cluster_compact(struct cluster *cluster, raft_id id, raft_index index);

/* Elects `id` by itself timing out, everything delivered. */
void cluster_elect(struct cluster *cluster, raft_id id);

struct raft_status cluster_status(struct cluster *cluster, raft_id id);
struct raft_peer_status cluster_peer(struct cluster *cluster, raft_id leader, raft_id id);
raft_id cluster_leader(const struct cluster *cluster); /* of the highest term; 0: none */

/* The newest configuration on the node's disk at or below `index`. */
struct raft_conf cluster_conf_at(struct cluster *cluster, raft_id id, raft_index index);
/* "1 2 3 | 1 2 learners 4 epoch 2": voters, outgoing, the rest. */
void cluster_conf_text(const struct raft_conf *conf, char *out_text, size_t text_bytes);

/* "1 1 2": terms of the entries on disk. */
void cluster_log_text(struct cluster *cluster, raft_id id, char *out_text, size_t text_bytes);

#endif
