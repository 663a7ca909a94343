/* frame.h - what goes over a connection between two nodes.
 *
 * Role:       Frames: a header of FRAME_HEADER_BYTES {length, type, checksum}, then the payload.
 *             src/wire/FORMAT.md 7. Garbage is recognised at the first header.
 * Thread:     pure.
 */

#ifndef TL_FRAME_H
#define TL_FRAME_H

#include "trilith/command.h"
#include "trilith/genesis.h"

#define FRAME_HEADER_BYTES 24u
#define FRAME_PAYLOAD_BYTES_MAX (16u * 1024u * 1024u)
#define FRAME_MAGIC 0x314c5254u /* "TRL1" */

/* Sent. */
enum frame_type {
    FRAME_HELLO = 1,   /* first on every connection, both ways */
    FRAME_BIRTH = 2,   /* birth_note, both ways; then the connection is closed */
    FRAME_RAFT = 3,    /* struct raft_batch_head, then raft messages */
    FRAME_FORWARD = 4, /* a write for the leader */
    FRAME_FORWARD_REPLY = 5,
    FRAME_SNAPSHOT_CHUNK = 6,   /* a chunk as it is (snapshot_chunk.h), to a peer that needs it */
    FRAME_SNAPSHOT_ACK = 7,     /* snapshot_ack, back */
    FRAME_DIGESTS = 8,          /* digest reports (digest_report.h), one behind the other */
    FRAME_POSITION = 9,         /* what a process found on its disk; or, back, that it is refused */
    FRAME_LEADER_TRANSFER = 10, /* a wish that the leader hands over */
    FRAME_LEADER_TRANSFER_REPLY = 11,
    FRAME_PART_FIRST = 12, /* the first bytes of a larger frame, its header included */
    FRAME_PART_NEXT = 13,  /* the bytes after those of the part before */
};
/* Payload of a part; larger frames go whole only to peers without HELLO_FEATURE_CONTINUATION. */
#define FRAME_PART_BYTES_MAX (128u * 1024u)

enum peer_class { PEER_CLASS_RAFT = 0, PEER_CLASS_BULK = 1, PEER_CLASS_FORWARD = 2 };
#define PEER_CLASSES_COUNT 3u

struct frame_header {
    uint32_t payload_bytes;
    enum frame_type type;
    uint64_t checksum; /* of the payload */
};
void frame_header_encode(enum frame_type type, struct bytes payload,
                         uint8_t at[FRAME_HEADER_BYTES]);
/* Fills the first FRAME_HEADER_BYTES of `frame`, whose payload stands behind them. */
void frame_seal(struct buf *frame, enum frame_type type);
/* A sealed frame around a copy of `payload`: for what is rare (birth notes). */
struct buf *frame_create(enum frame_type type, struct bytes payload);
/* Decodes a header: TL_ERR_INVALID for wrong magic, unknown type, too long for its type. */
TL_MUST_CHECK enum tl_err frame_header_decode(const uint8_t at[FRAME_HEADER_BYTES],
                                              struct frame_header *out_header);
bool frame_payload_is_right(const struct frame_header *header, struct bytes payload);

/* Format 1 has neither features nor a refusal, and a node that knows only format 1 closes a
 * connection that begins with another one. */
#define HELLO_FORMAT_FIRST 1u
#define HELLO_FORMAT 2u

/* What a node is able to do, one bit each; sent. A bit that the receiver does not know is ignored,
 * and in force on a connection is what both sides have announced. */
enum hello_feature {
    /* A large frame may arrive in parts (FORMAT.md 7). */
    HELLO_FEATURE_CONTINUATION = 1 << 0,
    /* The head of a raft batch says how many bytes are free on the sender's disk. */
    HELLO_FEATURE_SPACE = 1 << 1,
    /* The first frame on a raft connection is the position of the process. */
    HELLO_FEATURE_POSITION = 1 << 2,
};
/* Those of this version. */
#define HELLO_FEATURES                                                             \
    ((uint32_t)HELLO_FEATURE_CONTINUATION | (uint32_t)HELLO_FEATURE_SPACE |        \
     (uint32_t)HELLO_FEATURE_POSITION)

struct hello {
    uint8_t format; /* HELLO_FORMAT_FIRST or HELLO_FORMAT; the acceptor answers in the asker's */
    enum peer_class class;
    bool is_refused;   /* an answer: the connection is closed, but not because of its format */
    uint32_t features; /* of the sender, enum hello_feature */
    struct store_id cluster_id;
    struct store_id from;
    struct store_id to;
};
struct buf *hello_encode(const struct hello *hello); /* a sealed frame */
TL_MUST_CHECK enum tl_err hello_decode(struct bytes payload, struct hello *out_hello);

/* In front of the messages of a FRAME_RAFT. */
#define RAFT_BATCH_HEAD_BYTES 24u
struct raft_batch_head {
    uint64_t clock_us;          /* sender's wall clock */
    uint64_t life;              /* of the sending process, as in struct position */
    uint32_t log_commit_age_ms; /* of its oldest unfinished log commit; 0: none */
    uint32_t messages_count;
    bool has_space;          /* the rest is there: on connections with HELLO_FEATURE_SPACE */
    uint64_t free_bytes;     /* of the file system of its data */
    uint64_t map_free_bytes; /* until its table or its log has reached its limit */
};
/* RAFT_BATCH_HEAD_BYTES, and RAFT_BATCH_SPACE_BYTES more when head->has_space. */
#define RAFT_BATCH_SPACE_BYTES 16u
void raft_batch_head_encode(const struct raft_batch_head *head, uint8_t *at);
TL_MUST_CHECK enum tl_err raft_batch_head_decode(struct reader *reader, bool has_space,
                                                 struct raft_batch_head *out_head);

/* A write on its one hop to the leader. */
struct forward {
    uint64_t request_id; /* the asker's; echoed */
    raft_group group;
    uint32_t timeout_ms;  /* left of the client's deadline */
    struct bytes command; /* payload of the ENTRY_COMMAND */
};
struct buf *forward_encode(const struct forward *forward); /* a sealed frame */
/* The command is checked by command_decode() too: what gets into a log can be applied. */
TL_MUST_CHECK enum tl_err forward_decode(struct bytes payload, struct forward *out_forward);

struct forward_reply {
    uint64_t request_id;
    enum tl_err err; /* TL_OK: result is valid */
    struct kv_result result;
};
struct buf *forward_reply_encode(const struct forward_reply *reply); /* a sealed frame */
TL_MUST_CHECK enum tl_err forward_reply_decode(struct bytes payload,
                                               struct forward_reply *out_reply);

/* What the receiver of a snapshot says to its sender. Sent. */
enum snapshot_answer {
    SNAPSHOT_ANSWER_NEXT = 0,      /* send from chunk `next` on; 0: nothing is known of it here */
    SNAPSHOT_ANSWER_INSTALLED = 1, /* it is the group's table now */
    SNAPSHOT_ANSWER_STALE = 2,     /* of no use here: what it holds is committed here already */
    SNAPSHOT_ANSWER_BUSY = 3,      /* offer it again later */
    SNAPSHOT_ANSWER_BROKEN = 4,    /* it could not be stored, or does not add up */
};
struct snapshot_ack {
    raft_group group;
    enum snapshot_answer answer;
    uint32_t next; /* 0 but for SNAPSHOT_ANSWER_NEXT */
    struct hash128 id;
};
struct buf *snapshot_ack_encode(const struct snapshot_ack *ack); /* a sealed frame */
TL_MUST_CHECK enum tl_err snapshot_ack_decode(struct bytes payload, struct snapshot_ack *out_ack);

/* What a process found on its disk when it started: held against what it acknowledged before. */
struct position {
    bool is_refused;      /* back to that process: its store had promised more */
    uint64_t life;        /* random, of the process that the disk is of */
    uint32_t records_max; /* its --idempotency-records; 0: not said, to or by a peer of format 1 */
    uint32_t groups_count;
    raft_index last[GENESIS_GROUPS_MAX];
    raft_term term[GENESIS_GROUPS_MAX]; /* of the hard state */
};
struct buf *position_encode(const struct position *position); /* a sealed frame */
TL_MUST_CHECK enum tl_err position_decode(struct bytes payload, struct position *out_position);

/* What becomes of a wish that leadership moves. Sent. */
enum transfer_verdict {
    TRANSFER_NONE = 0,      /* in a reply with an error */
    TRANSFER_DONE = 1,      /* it has moved; of a dry run: it would be tried */
    TRANSFER_SAME = 2,      /* the target leads already */
    TRANSFER_NOT_VOTER = 3, /* the target does not vote, or is being removed */
    TRANSFER_SILENT = 4,    /* the leader does not hear from the target */
    TRANSFER_BEHIND = 5,    /* the target lacks too much of the log */
    TRANSFER_NOBODY = 6,    /* no target was named, and no other voter could take over */
    TRANSFER_OTHER = 7,     /* another one than the target was elected */
    /* The target has no room for new data. Only where HELLO_FEATURE_SPACE is in force. */
    TRANSFER_NO_SPACE = 8,
};
#define TRANSFER_VERDICTS_COUNT 9u

/* A transfer of leadership on its way to the leader. */
struct leader_transfer {
    uint64_t request_id; /* the asker's; echoed */
    raft_group group;
    uint32_t timeout_ms;
    raft_id target; /* RAFT_ID_NONE: the best voter there is */
    bool is_dry_run;
};
struct buf *leader_transfer_encode(const struct leader_transfer *transfer); /* a sealed frame */
TL_MUST_CHECK enum tl_err leader_transfer_decode(struct bytes payload,
                                                 struct leader_transfer *out_transfer);

struct leader_transfer_reply {
    uint64_t request_id;
    enum tl_err err; /* TL_OK: the verdict is valid */
    enum transfer_verdict verdict;
    raft_id leader; /* who leads now, or would */
};
struct buf *leader_transfer_reply_encode(
    const struct leader_transfer_reply *reply); /* a sealed frame */
TL_MUST_CHECK enum tl_err leader_transfer_reply_decode(struct bytes payload,
                                                       struct leader_transfer_reply *out_reply);

#endif
