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
/* The first 16 digits of store_id_format(). */
#define RAFT_ID_TEXT_BYTES 17u
void raft_id_format(raft_id id, char out_text[RAFT_ID_TEXT_BYTES]);
/* Its 16 bytes. Reading past the end latches the reader and leaves *out_id. */
void store_id_write(struct buf *buf, const struct store_id *id);
void store_id_read(struct reader *reader, struct store_id *out_id);

/* Reads a block that is an address: visible ASCII, not empty. Anything else is damage, and would
 * reach log lines. */
bool address_read(struct reader *reader, char out_address[ADDRESS_BYTES_MAX]);

struct member {
    char address[ADDRESS_BYTES_MAX];      /* what clients use: "host:port" */
    char peer_address[ADDRESS_BYTES_MAX]; /* where Raft listens: "host:port" */
    struct store_id store_id;
};

#define GENESIS_GROUPS_MAX 64u /* what a node's log store has room for */
#define GENESIS_TIME_MAX_US (ENTRY_TIME_MAX_US / 2)

struct genesis {
    struct store_id cluster_id;
    uint64_t time_us;       /* entry time of index 1 of every group; <= GENESIS_TIME_MAX_US */
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

/* What a member of a cluster says to who asks. Sent: explicit numbers. */
enum birth_word {
    BIRTH_WORD_NONE = 0,          /* there is no cluster here */
    BIRTH_WORD_MEMBER = 1,        /* you are in it: see the placement */
    BIRTH_WORD_WAIT = 2,          /* you will be: ask again */
    BIRTH_WORD_REMOVED = 3,       /* this store was removed, for ever */
    BIRTH_WORD_OTHER_ADDRESS = 4, /* this store is a member under another address */
    BIRTH_WORD_SEAT_LIVE = 5,     /* another store has this address and is alive */
    BIRTH_WORD_NO_LEADER = 6,     /* nobody leads the cluster now, so nobody can be added */
    BIRTH_WORD_TWO_VOTERS = 7,    /* the seat is one of two: the other is no majority */
    BIRTH_WORD_FULL = 8,          /* there is room for no more */
    BIRTH_WORD_OTHER_PORT = 9,    /* the address is taken with another peer address */
};
#define BIRTH_WORD_LAST BIRTH_WORD_OTHER_PORT

/* A node's word to another: at birth, and between members that have lost each other. Asker and
 * answerer send the same struct. */
struct birth_note {
    enum birth_word word; /* answers of members */
    struct store_id store_id;
    struct store_id cluster_id; /* zero: no cluster */
    struct hash128 view_hash;   /* of the ordered view, addresses as given */
    char address[ADDRESS_BYTES_MAX];
    char peer_address[ADDRESS_BYTES_MAX];
    struct bytes placement; /* encoded; for members only, else empty */
};
struct buf *birth_note_encode(const struct birth_note *note);
/* out_note->placement borrows from source. */
TL_MUST_CHECK enum tl_err birth_note_decode(struct bytes source, struct birth_note *out_note);

#endif
