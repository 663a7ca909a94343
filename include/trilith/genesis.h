/* genesis.h - how a cluster begins: its id and first members, entry 1 of every group.
 *
 * Role:       Encoding of identities, the genesis payload, and the questions nodes without a
 *             cluster ask (src/wire/FORMAT.md 6 and 7).
 * Thread:     pure.
 */

#ifndef TL_GENESIS_H
#define TL_GENESIS_H

#include "trilith/codec.h"
#include "trilith/entry.h"

/* "host:port" or "host:port/peerport", NUL included. */
#define ADDRESS_BYTES_MAX 280u

/* 128 random bits. */
struct store_id {
    uint8_t bytes[16];
};
static inline bool store_id_equal(const struct store_id *a, const struct store_id *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
bool store_id_is_zero(const struct store_id *id);
/* memcmp order: the smaller one connects. */
int store_id_compare(const struct store_id *a, const struct store_id *b);
/* 32 hex digits. */
void store_id_format(const struct store_id *id, char out_text[HASH_TEXT_BYTES]);
/* The member's id in the consensus core: its first 8 bytes, little-endian. Makers of store ids draw
 * again when this is 0; a genesis in which two members share it is refused. */
raft_id store_id_raft(const struct store_id *id);
/* Its 16 bytes. Reading past the end latches the reader and leaves *out_id. */
void store_id_write(struct buf *buf, const struct store_id *id);
void store_id_read(struct reader *reader, struct store_id *out_id);

struct member {
    char address[ADDRESS_BYTES_MAX];      /* what clients use: "host:port" */
    char peer_address[ADDRESS_BYTES_MAX]; /* where Raft listens: "host:port" */
    struct store_id store_id;
};

#define GENESIS_GROUPS_MAX 64u /* what a node's log store has room for */

struct genesis {
    struct store_id cluster_id;
    uint64_t time_us;       /* entry time of index 1 of every group */
    uint32_t groups_count;  /* group 0 and the data groups: 2 ... GENESIS_GROUPS_MAX */
    uint32_t members_count; /* 1 ... RAFT_MEMBERS_MAX */
    struct member members[RAFT_MEMBERS_MAX];
};

/* A new ENTRY_GENESIS entry, not sealed. */
struct buf *genesis_encode(const struct genesis *genesis);
/* The sealed entry 1 of a group: byte-identical on every node. */
struct buf *genesis_entry(const struct genesis *genesis, raft_group group);
/* Total: TL_OK or TL_ERR_INVALID (also for duplicate ids or addresses). */
TL_MUST_CHECK enum tl_err genesis_decode(struct bytes payload, struct genesis *out_genesis);

/* A node's word to another at birth. Asker and answerer send the same struct. */
struct birth_note {
    struct store_id store_id;
    struct store_id cluster_id; /* zero: no cluster */
    struct hash128 view_hash;   /* of the ordered view, addresses as given */
    char address[ADDRESS_BYTES_MAX];
    struct bytes
        genesis; /* answers: the genesis payload if the asker's store id is in it, or empty */
};
struct buf *birth_note_encode(const struct birth_note *note);
/* out_note->genesis borrows from source. */
TL_MUST_CHECK enum tl_err birth_note_decode(struct bytes source, struct birth_note *out_note);

#endif
