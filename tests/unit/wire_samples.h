/* wire_samples.h - one good value of every kind, which are also the worked examples of
 * src/wire/FORMAT.md, and what the tests of all kinds ask of a decoder.
 *
 * Thread:     pure.
 */

#ifndef TL_WIRE_SAMPLES_H
#define TL_WIRE_SAMPLES_H

#include "trilith/conf_entry.h"
#include "trilith/digest_report.h"
#include "trilith/frame.h"
#include "trilith/placement.h"
#include "trilith/raft_message.h"
#include "trilith/snapshot_chunk.h"
#include "trilith/txn.h"

/* Every sample is a new buf, the caller's. */
struct buf *sample_entry(void); /* sealed: index 7, term 2, group 1, behind a zero hash */
struct buf *sample_raft_message(void);
struct buf *sample_command(void); /* payload only */
struct buf *sample_txn(void);
struct buf *sample_txn_result(void);
struct buf *sample_kv_result(void);
struct buf *sample_row(void);
struct buf *sample_record(void);
struct buf *sample_queue_item(void);
struct buf *sample_group_state(void);
struct buf *sample_genesis(void); /* payload only */
struct buf *sample_conf(void);    /* payload only */
struct buf *sample_birth_note(void);
struct buf *sample_placement(void);
struct buf *sample_hello(void); /* a frame, as the next ones */
struct buf *sample_hello_first(void);
struct buf *sample_raft_batch(void);
struct buf *sample_forward(void);
struct buf *sample_forward_reply(void);
struct buf *sample_position(void);
struct buf *sample_leader_transfer(void);
struct buf *sample_leader_transfer_reply(void);
struct buf *sample_snapshot_ack(void);
struct buf *sample_digests(void);
struct buf *sample_snapshot_info(void); /* chunk 0 */
struct buf *sample_snapshot_chunk(void);

/* What the samples are made from. */
struct raft_message sample_raft_message_value(void); /* owns its entries */
struct txn sample_txn_value(void);
extern const struct txn_result sample_txn_result_value;
extern const struct command sample_command_value;
extern const struct kv_result sample_kv_result_value;
extern const struct row_header sample_row_value;
extern const struct record sample_record_value;
extern const struct queue_item sample_queue_item_value;
extern const struct group_state sample_group_state_value;
extern const struct genesis sample_genesis_value;
extern const struct raft_conf sample_conf_value; /* joint */

/* Fails the test unless `actual` is the block "example: <name>" of FORMAT.md. */
void assert_is_format_example(const char *name, struct bytes actual);

typedef bool (*accepts_function)(struct bytes source);

/* Every proper prefix is refused. Each is decoded from an allocation of its own size, so that a
 * sanitizer sees a read past the end. */
void assert_refuses_prefixes(struct bytes good, accepts_function accepts);
/* So is it with one more byte behind it. */
void assert_refuses_one_byte_more(struct bytes good, accepts_function accepts);
/* And with any one bit flipped: for kinds with a checksum. */
void assert_refuses_bit_flips(struct bytes good, accepts_function accepts);

#endif
