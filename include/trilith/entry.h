/* entry.h - a log entry as it is hashed, sent and stored: one encoding for all three.
 *
 * Role:       Layout, sealing and checking of entries (src/wire/FORMAT.md 1). The leader encodes an
 *             entry once; its bytes are the same in memory, on the wire and in the log env.
 * Thread:     pure.
 * Ownership:  an entry is a `struct buf`: ENTRY_HEADER_BYTES of header, then the payload. Whoever
 *             makes a proposal leaves the header's room free and the core fills it in (entry_seal).
 */

#ifndef TL_ENTRY_H
#define TL_ENTRY_H

#include "trilith/buf.h"
#include "trilith/error.h"
#include "trilith/hash.h"

typedef uint64_t raft_index; /* 1-based; 0 is "before the first entry" */
typedef uint64_t raft_term;  /* 0 only before genesis */
typedef uint64_t raft_id;    /* a member of a group: first 8 bytes of its store id; never 0 */
typedef uint32_t raft_group; /* 0 is the cluster's metadata, 1 and up hold data */

/* Larger terms and indexes are no honest peer's; below them sums cannot overflow. */
#define RAFT_NUMBER_MAX (UINT64_C(1) << 62)

#define RAFT_ID_NONE ((raft_id)0)
#define RAFT_MEMBERS_MAX 16u /* voters and learners of one group */

#define ENTRY_FORMAT 1u
#define ENTRY_HEADER_BYTES 64u
/* Largest payload: a 2 MiB value (--max-value-size at its limit), its key and the command around.
 */
#define ENTRY_PAYLOAD_BYTES_MAX (2u * 1024u * 1024u + 64u * 1024u)

/* Stored and sent: explicit numbers. */
enum entry_type {
    ENTRY_GENESIS = 1, /* index 1 of every group; payload: struct genesis */
    ENTRY_NOOP = 2,    /* a leader's first of its term; empty payload */
    ENTRY_COMMAND = 3, /* payload: struct command */
    ENTRY_CONF = 4,    /* payload: a configuration */
};

/* No entry has a later time, and no genesis one later than half of it (genesis.h): no leader comes
 * to the end of the numbers, whatever time a log begins with. */
#define ENTRY_TIME_MAX_US (UINT64_MAX / 2)

/* The decoded header. */
struct entry_header {
    enum entry_type type;
    raft_group group;
    raft_index index;
    raft_term term;
    uint64_t time_us;    /* hybrid time: microseconds since 1970, strictly rising along the log */
    struct hash128 hash; /* chain hash: of previous hash, header up to here, and payload */
    uint32_t payload_bytes;
};

/* A buf with count = ENTRY_HEADER_BYTES + payload_bytes and the header zeroed but for type; the
 * caller fills the payload at buf->data + ENTRY_HEADER_BYTES. */
struct buf *entry_create(enum entry_type type, size_t payload_bytes);

/* Completes the header in place: group, index, term, time and chain hash. `entry->count` says the
 * payload's length. header->type, hash and payload_bytes are set by the call. */
void entry_seal(struct buf *entry, struct hash128 previous_hash, struct entry_header *header);

/* Decodes and checks the header of an entry that came from disk or peer: format, known type,
 * payload_bytes == source.count - ENTRY_HEADER_BYTES, index and term > 0, a possible time. Does not
 * check the hash. TL_ERR_CORRUPT otherwise; *out_header is then untouched. */
TL_MUST_CHECK enum tl_err entry_decode(struct bytes source, struct entry_header *out_header);

/* What a header says its payload's length is, unchecked: to find the end of an entry among others.
 * entry_decode() judges it then. */
uint32_t entry_claimed_payload_bytes(const uint8_t header[ENTRY_HEADER_BYTES]);

/* Whether the entry's chain hash is right behind `previous_hash`. `source` passed entry_decode().
 */
bool entry_hash_is_right(struct bytes source, struct hash128 previous_hash);

/* Fields of an entry that was sealed here or has passed entry_decode(). */
enum entry_type entry_type_of(const struct buf *entry);
raft_index entry_index(const struct buf *entry);
raft_term entry_term(const struct buf *entry);
uint64_t entry_time_us(const struct buf *entry);
struct hash128 entry_hash(const struct buf *entry);
struct bytes entry_payload(const struct buf *entry);

#endif
