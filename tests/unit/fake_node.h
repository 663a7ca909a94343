/* fake_node.h - a node without a cluster: the functions of node.h, pump.h and view.h that the HTTP
 * front end calls, scripted by a test.
 *
 * Role:       Every answer a node can give can be given here on demand, also those that a real
 *             cluster gives once in a blue moon.
 * Thread:     the test's.
 */

#ifndef TL_FAKE_NODE_H
#define TL_FAKE_NODE_H

#include "trilith/pump.h"
#include "trilith/scan.h"

#define FAKE_ADDRESS "one.test:8081"
#define FAKE_ID 0x1111111111111111u

struct fake_node {
    /* Script: set by the test. */
    enum tl_err write_refusal; /* returned at once when not TL_OK */
    enum tl_err write_err;     /* given to on_done */
    struct kv_result result;
    enum tl_err read_refusal;
    enum tl_err read_err; /* given to on_ready */
    bool read_is_ready;   /* needs no waiting */
    enum tl_err change_refusal;
    enum tl_err change_err; /* given to on_done */
    struct node_change_report report;
    enum tl_err log_refusal;
    enum tl_err log_err;       /* given to on_done */
    struct node_log_query log; /* what on_done sees of it, as far as the node sets it */
    enum tl_err leader_transfer_refusal;
    enum tl_err leader_transfer_err; /* given to on_done */
    struct node_leader_transfer_report leader_transfer_report;
    bool is_held;      /* fake_turn() answers nothing */
    bool has_no_group; /* birth */
    bool is_ready;
    raft_group unready_group; /* UINT32_MAX: none */
    uint64_t age_ms;
    uint64_t applied_revision;
    uint64_t applied_time_us;
    struct buf *row; /* the one row there is, under row_key; owned */
    char row_key[64];
    struct buf *lent; /* what a reader sees of it, inside a view */
    /* What scans meet, in this order whatever they ask for; the value of each is its key. */
    struct bytes scan_keys[16];
    uint32_t scan_keys_count;
    uint32_t scan_rows_per_view; /* then the time is up; 0: never */
    bool scan_is_endless;        /* behind the last key is the last key */
    struct node_status status;
    struct node_group_status group; /* of every group */
    uint32_t transfers_count;
    struct node_transfer_status transfers[NODE_TRANSFERS_MAX];
    struct node_metrics metrics;
    struct pump_metrics pump_metrics;
    /* Seen: read by the test. */
    struct command command; /* of the last write; borrows from entry */
    struct buf *entry;      /* of the last write; owned */
    bool write_was_keyed;
    uint64_t write_deadline_ns;
    struct node_read seen_read; /* copy of the last one */
    struct scan_page seen_page; /* likewise; its ranges may be gone */
    uint32_t scans_count;
    uint32_t writes_count;
    uint32_t reads_count;
    struct node_log_query seen_log_query;
    uint32_t log_queries_count;
    uint32_t log_queries_cancelled_count;
    uint32_t writes_cancelled_count;
    uint32_t reads_cancelled_count;
    struct node_change seen_change; /* copy of the last one */
    uint32_t changes_count;
    uint32_t changes_cancelled_count;
    struct node_leader_transfer seen_leader_transfer; /* copy of the last one */
    uint32_t leader_transfers_count;
    uint32_t leader_transfers_cancelled_count;
    uint32_t wakes_count;
    uint32_t readers_count;
    /* Waiting, oldest first. */
    struct node_write *writes;
    struct node_read *reads;
    struct node_change *changes;
    struct node_log_query *log_query; /* one is enough */
    struct node_leader_transfer *leader_transfers;
};
extern struct fake_node fake;

/* Three members and two groups, this node leads; everything succeeds. */
void fake_reset(void);
/* Makes the row that reads see. */
void fake_set_row(const char *key, const char *content_type, struct bytes value, uint64_t revision);
/* Answers what waits as scripted. */
void fake_turn(void);
/* Gives back what the last request left. */
void fake_clear(void);
struct pump *fake_pump(void);

#endif
