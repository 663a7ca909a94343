/* raft_message.h - what the consensus cores of two nodes say to each other, and its encoding.
 *
 * Role:       One struct for all message types of a group; src/wire/FORMAT.md 2 has the layout. The
 *             transport puts many messages of many groups into one frame.
 * Thread:     pure.
 * Ownership:  see `entries`.
 */

#ifndef TL_RAFT_MESSAGE_H
#define TL_RAFT_MESSAGE_H

#include "trilith/codec.h"
#include "trilith/entry.h"

/* Entries in one append message. */
#define RAFT_MESSAGE_ENTRIES_MAX 1024u
/* Payload of one append message; a single larger entry still travels alone. */
#define RAFT_MESSAGE_BYTES_MAX (1024u * 1024u)
/* Encoded size of a message without its entries. */
#define RAFT_MESSAGE_HEAD_BYTES 96u
/* Encoded size of one message, entries included. */
#define RAFT_MESSAGE_ENCODED_BYTES_MAX (8u * 1024u * 1024u)

/* Sent: explicit numbers. 20 and up are kept for snapshots. */
enum raft_message_type {
    RAFT_PREVOTE = 1,
    RAFT_PREVOTE_REPLY = 2,
    RAFT_VOTE = 3,
    RAFT_VOTE_REPLY = 4,
    RAFT_APPEND = 5,
    RAFT_APPEND_REPLY = 6,
    RAFT_HEARTBEAT = 7,
    RAFT_HEARTBEAT_REPLY = 8,
    RAFT_READ = 9, /* follower to leader: a read index, please */
    RAFT_READ_REPLY = 10,
    RAFT_TIMEOUT_NOW = 11, /* leadership transfer (thesis 3.10) */
};

/* Why an append was refused. Sent. */
enum raft_reject {
    RAFT_REJECT_NONE = 0,
    RAFT_REJECT_MISMATCH = 1,       /* no entry (prev_index, prev_term) here; see hint */
    RAFT_REJECT_CHAIN_MISMATCH = 2, /* same index and term, other bytes: damage or divergence */
};

/* Fields that a type does not use are 0. `term` is the sender's term but for: RAFT_PREVOTE, the
 * term the sender would campaign in; RAFT_PREVOTE_REPLY that grants, that same term. */
struct raft_message {
    enum raft_message_type type;
    raft_group group;
    raft_id from;
    raft_id to;
    raft_term term;
    raft_index index;   /* VOTE, PREVOTE, TIMEOUT_NOW: last index · APPEND: previous index ·
                       * APPEND_REPLY: match, or on a reject the previous index it answers ·
                       * READ_REPLY: read index */
    raft_term log_term; /* VOTE, PREVOTE, TIMEOUT_NOW: last term · APPEND: term at `index` */
    raft_index commit;  /* APPEND: the leader's, the receiver caps it at what the append verifies ·
                         * HEARTBEAT, READ_REPLY: capped at the receiver's match */
    uint64_t sequence;  /* APPEND, HEARTBEAT: the leader's read sequence; replies echo it */
    uint64_t context;   /* READ: the asker's round; READ_REPLY echoes it */
    bool granted;       /* vote replies */
    bool is_forced;     /* VOTE: the leader itself asked for it; answered although it is heard */
    enum raft_reject reject;
    raft_index hint_index; /* reject: the asker's best guess of the last matching index */
    raft_term hint_term;   /* reject: the term there, 0 when not known */

    /* APPEND: sealed entries index + 1 ... index + entries_count. Owned by the message: whoever
     * drops a message calls raft_message_clear(). */
    uint32_t entries_count;
    struct buf **entries; /* array allocated with the message; NULL when entries_count is 0 */
};

/* Releases the entries and frees the array. The message may be used again. */
void raft_message_clear(struct raft_message *message);

/* Bytes raft_message_encode() will append. */
size_t raft_message_bytes(const struct raft_message *message);

/* Appends the encoding to `buf`, which has that much room. */
void raft_message_encode(const struct raft_message *message, struct buf *buf);

/* Decodes one message that starts at the reader. Total: any bytes give TL_OK or TL_ERR_INVALID.
 * Entries are copied into bufs of their own and pass entry_decode(); their indexes follow
 * `index`, their terms do not fall and are <= term, their group is the message's. Chain hashes are
 * for the core to check. On TL_OK the message owns its entries. */
TL_MUST_CHECK enum tl_err raft_message_decode(struct reader *reader,
                                              struct raft_message *out_message);

const char *raft_message_type_name(enum raft_message_type type);

#endif
