/* node_snapshot.h - a group's table on its way from one node to another.
 *
 *   node_snapshot_job.c   what the snapshot thread does: cut, read, stage, open, delete
 *   node_send.c           the sender: whom, which chunk next, when to go on and when to give up
 *   node_receive.c        the receiver: offers, chunks in order, the finished table
 *   node_install.c        the switch to it, and the table it replaces
 *   send_rate.c           the sender's pace
 *
 *   sender                                              receiver
 *   CUTTING   one read transaction -> spool file
 *   OFFERING  chunk 0 ------------------------------->  begins a stage, or knows it
 *   CHUNKS    chunk k ... <--------------- next = k ---  STAGING
 *             waits       <-------- next = chunks_count  FINISHING  digests, sync, rename, open
 *                                                        READY      no flush of the group runs,
 *                                                                   who leads is known
 *             end         <----------------- installed   INSTALLING one transaction of the log
 *
 * A lost connection loses nothing: the sender offers again, the receiver says where it stands. Ids
 * are of content, so neither has to trust the other's memory. A process that ends loses its half;
 * the other one notices by the answer to its next chunk or offer, and goes on from the beginning.
 *
 * While a snapshot is on its way the log is kept from its index on, and behind it until the peer
 * has caught up: otherwise a follower that is slower than the retention would need one snapshot
 * after the other (hashicorp/raft#212).
 */

#ifndef TL_NODE_SNAPSHOT_H
#define TL_NODE_SNAPSHOT_H

#include "send_rate.h"
#include "trilith/conf_entry.h"
#include "trilith/node.h"
#include "trilith/snapshot.h"

#define SNAPSHOT_WINDOW_CHUNKS 8u /* sent and not yet stored by the receiver */
#define SNAPSHOT_QUEUE_CHUNKS (2u * SNAPSHOT_WINDOW_CHUNKS)
#define SNAPSHOT_RECEIVING_MAX 2u

#define SNAPSHOT_RETRY_NS 1000000000ull      /* before another attempt after one that failed */
#define SNAPSHOT_RETRY_SHIFT_MAX 4u          /* doubled so often while all fail */
#define SNAPSHOT_LOOK_NS 50000000ull         /* between two looks for a peer that can be reached */
#define SNAPSHOT_OFFER_NS 2000000000ull      /* an offer without an answer is made again */
#define SNAPSHOT_BUSY_NS 300000000ull        /* ... and so is one that came too early */
#define SNAPSHOT_BUSY_SHIFT_MAX 3u           /* doubled so often while all come too early */
#define SNAPSHOT_ANSWER_NS 10000000000ull    /* without any answer: offer again */
#define SNAPSHOT_PROGRESS_NS 60000000000ull  /* without progress: give up */
#define SNAPSHOT_LOST_NS 5000000000ull       /* without a receiver: another peer may be served */
#define SNAPSHOT_SILENCE_NS 60000000000ull   /* receiver: without a chunk: give up */
#define SNAPSHOT_REPLACE_NS 3000000000ull    /* receiver: silent so long, another one may come */
#define SNAPSHOT_REFUSED_NS 10000000000ull   /* receiver: between two lines on missing space */
#define SNAPSHOT_CATCH_UP_NS 120000000000ull /* the log is kept for a peer behind its snapshot */

/* How long a cut may take, and besides as long as the table would be on its way at
 * SEND_RATE_MIN. */
#define SNAPSHOT_CUT_NS 30000000000ull

enum snapshot_job_kind {
    SNAPSHOT_JOB_CUT,     /* reader -> snapshot */
    SNAPSHOT_JOB_READ,    /* snapshot, number -> chunk, a sealed frame */
    SNAPSHOT_JOB_RELEASE, /* snapshot -> */
    SNAPSHOT_JOB_STAGE,   /* dir, chunk -> stage */
    SNAPSHOT_JOB_WRITE,   /* stage, chunk -> stage */
    SNAPSHOT_JOB_FINISH,  /* stage -> table, open */
    SNAPSHOT_JOB_ABORT,   /* stage or table -> */
};

/* What is in it belongs to whoever carries it out while is_out, else to its owner. */
struct node_snapshot_job {
    enum snapshot_job_kind kind;
    bool is_out;
    _Atomic bool is_canceled; /* set by the owner while it is out: a cut ends soon */
    raft_group group;
    const struct node_io *io; /* its clock bounds a cut */
    uint64_t began_ns;
    struct table_reader *reader; /* CUT */
    struct table *table;
    struct snapshot *snapshot;
    struct snapshot_stage *stage;
    uint32_t number;
    uint32_t chunk_limit; /* CUT */
    struct buf *chunk;
    uint64_t free_bytes_min;          /* CUT: ends when there is less space left */
    uint64_t cut_ns_max;              /* CUT: ends when it takes longer */
    const char *stop_reason;          /* CUT: why it has ended early; NULL: it has not */
    const struct data_dir *data_dir;  /* CUT, STAGE */
    struct data_dir_table table_name; /* STAGE: what is made */
    size_t map_bytes;
    size_t map_headroom_bytes;
    char dir[512]; /* CUT: of the node's data; otherwise of the table, which STAGE fills in */
};

enum sending_state {
    SENDING_IDLE = 0,
    SENDING_CUTTING,
    SENDING_OFFERING,
    SENDING_CHUNKS,
    SENDING_RELEASING, /* it is over; what is left is given back */
};

/* What became of a group's snapshots to one peer. */
struct snapshot_attempts {
    uint32_t failures_count; /* in a row */
    uint64_t retry_ns;       /* not before */
};

/* The log is kept for a peer that goes on behind its snapshot. */
struct snapshot_trail {
    raft_group group;
    raft_id peer; /* RAFT_ID_NONE: nobody */
    raft_index from;
    uint64_t until_ns;
};

struct node_sending {
    enum sending_state state;
    raft_group group;
    raft_id peer;
    struct node_snapshot_job job;
    struct snapshot *snapshot; /* NULL while the job has it */
    struct snapshot_info info; /* from OFFERING on */
    raft_index keep_from;
    uint32_t acked; /* chunks the receiver has stored */
    uint32_t sent;
    uint32_t offers_count;
    uint32_t busy_count; /* offers in a row that came too early */
    uint64_t began_ns;
    uint64_t cut_ns; /* how long the cut took */
    uint64_t progress_ns;
    uint64_t heard_ns;
    uint64_t reached_ns; /* when the peer was last connected */
    uint64_t offer_ns;   /* not before */
    uint64_t send_ns;    /* not before */
    struct send_rate rate;
    uint32_t outdated_count; /* snapshots in a row that the log had left behind */
    struct snapshot_trail trail;
};

enum receiving_state {
    RECEIVING_FREE = 0,
    RECEIVING_STAGING,
    RECEIVING_FINISHING,
    RECEIVING_READY,
    RECEIVING_INSTALLING,
    RECEIVING_DROPPING, /* given up; stage or table are being deleted */
};

struct node_receiving {
    enum receiving_state state;
    raft_group group;
    raft_id peer;
    struct node_snapshot_job job;
    struct snapshot_stage *stage; /* STAGING, while the job does not have it */
    struct table *table;          /* READY and on */
    struct snapshot_info info;
    uint64_t table_number;
    struct buf *chunks[SNAPSHOT_QUEUE_CHUNKS]; /* a ring: come and not yet given to a job */
    uint32_t chunks_first;
    uint32_t chunks_count;
    uint32_t arrived; /* number of the chunk to come next */
    uint32_t stored;
    uint64_t began_ns;
    uint64_t heard_ns;
    struct log_install install; /* INSTALLING: what the log writer sees */
};

struct node_group;
struct node_peer;
struct node_batch;

/* ---- node_snapshot_job.c ---- */
/* Gives the job out, with what is in it. */
void node_snapshot_give(struct node *node, struct node_snapshot_job *job,
                        enum snapshot_job_kind kind);
/* How long a cut of so many bytes may take. */
uint64_t node_snapshot_cut_ns_max(uint64_t table_bytes);
/* Why a job has failed, in words. */
const char *node_snapshot_reason(enum tl_err err, const struct tl_fault *fault);
/* Frees what a job has that nobody will carry out. */
void node_snapshot_job_clear(struct node_snapshot_job *job);

/* ---- node_send.c ---- */
/* The core says that a peer needs a snapshot of this group. */
void node_send_want(struct node_group *group);
/* Once a turn, before the passes. */
void node_send_step(struct node *node);
uint64_t node_send_deadline(const struct node *node);
void node_send_done(struct node *node, enum tl_err err, const struct tl_fault *fault);
TL_MUST_CHECK enum tl_err node_send_on_answer(struct node *node, raft_id peer,
                                              struct bytes payload);
void node_send_link_lost(struct node *node, raft_id peer);
/* The peer may be another process than the one that failed. */
void node_send_link_up(struct node_peer *peer);
/* Entries from here on must stay in the group's log; 0: none must. */
raft_index node_send_keep_from(const struct node_group *group);
void node_send_note_commit(struct node *node, uint64_t spent_us);
void node_send_close(struct node *node);

/* ---- node_receive.c ---- */
TL_MUST_CHECK enum tl_err node_receive_on_chunk(struct node *node, raft_id peer,
                                                struct bytes payload);
void node_receive_step(struct node *node);
uint64_t node_receive_deadline(const struct node *node);
void node_receive_done(struct node *node, struct node_receiving *receiving, enum tl_err err,
                       const struct tl_fault *fault);
void node_receive_answer(struct node *node, const struct node_receiving *receiving,
                         enum snapshot_answer answer, uint32_t next);
/* Ends it; the reason is logged, NULL: it is installed and has given its table away. */
void node_receive_end(struct node *node, struct node_receiving *receiving, const char *reason);
void node_receive_close(struct node *node);

/* ---- node_install.c ---- */
/* Hands a finished table to the core, once no flush of the group runs. */
void node_install_begin(struct node *node, struct node_receiving *receiving);
/* The group's op is the switch: fills in what the log writer needs. */
void node_install_fill_op(struct node_group *group, const struct raft_install *install,
                          struct log_op *op);
/* The switch is durable and the core knows. */
void node_install_done(struct node_group *group);
/* Once a turn, after views_collect(): a replaced table that nobody reads any more goes. */
void node_install_retire(struct node *node);
void node_install_retired(struct node *node, enum tl_err err, const struct tl_fault *fault);
void node_install_close(struct node *node);

#endif
