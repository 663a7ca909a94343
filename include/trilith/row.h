/* row.h - a key's row and an idempotency record: encoding, checks, and the keys of the kv env.
 *
 * Role:       src/wire/FORMAT.md 4 and 5. The same bytes stand in the memtable and in the kv env.
 * Thread:     pure.
 */

#ifndef TL_ROW_H
#define TL_ROW_H

#include "trilith/codec.h"
#include "trilith/entry.h"

#define KEY_BYTES_MAX 480u
#define VALUE_BYTES_MAX (2u * 1024u * 1024u)
#define CONTENT_TYPE_BYTES_MAX 255u

#define ROW_FORMAT 1u
#define ROW_HEADER_BYTES 96u

/* Decoded header of a row. The encoded row is this header, the content type, the value. */
struct row_header {
    uint8_t flags;    /* 0; reserved */
    uint64_t time_us; /* entry time of the last write */
    uint64_t origin;  /* raft_id of the node that received the write; 0 unknown */
    uint64_t create_revision;
    uint64_t revision; /* of the last write */
    uint64_t version;  /* 1 at creation, + 1 each write */
    uint64_t lease;    /* 0: none */
    uint32_t value_bytes;
    uint16_t content_type_bytes;
    uint64_t value_checksum;  /* hash_checksum of the value */
    uint64_t header_checksum; /* of the header before it and the content type; set by encode */
};

/* Bytes of a whole row. */
static inline size_t row_bytes(const struct row_header *header)
{
    return ROW_HEADER_BYTES + header->content_type_bytes + header->value_bytes;
}

/* Writes header and content type at `at` (ROW_HEADER_BYTES + content_type_bytes); the value follows
 * behind, put there by the caller. Sets header->header_checksum. */
void row_encode_head(struct row_header *header, struct bytes content_type, uint8_t *at);

/* Decodes and checks the header of `row` (a whole row, or at least its head): format, lengths
 * against row.count when `is_whole`, header checksum. TL_ERR_CORRUPT or TL_ERR_NEWER_FORMAT. */
TL_MUST_CHECK enum tl_err row_decode(struct bytes row, bool is_whole,
                                     struct row_header *out_header);

/* Parts of a whole row that passed row_decode(). Borrowed. */
struct bytes row_content_type(struct bytes row, const struct row_header *header);
struct bytes row_value(struct bytes row, const struct row_header *header);

/* Whether the value's bytes match header->value_checksum. */
bool row_value_is_right(struct bytes row, const struct row_header *header);

/* The row's element of the digest: XXH3-128(key, encoded header). `key` is the user's, without the
 * env key's kind byte. */
struct hash128 row_element(struct bytes key, struct bytes row);

/* Keys of the kv env and of the memtable: one byte of kind, then: */
#define ENV_KEY_BYTES_MAX (1u + KEY_BYTES_MAX)
enum env_key_kind {
    ENV_KEY_META = 'm',   /* alone: struct group_state, encoded */
    ENV_KEY_QUEUE = 'q',  /* u64 big-endian sequence -> key hash, time: eviction order of records */
    ENV_KEY_ROW = 'r',    /* the user's key -> row */
    ENV_KEY_RECORD = 's', /* 16 bytes key hash -> record */
};

/* Builds kind and rest in `out_room` and returns what it holds. rest.count <= KEY_BYTES_MAX. */
struct bytes env_key_make(enum env_key_kind kind, struct bytes rest,
                          uint8_t out_room[ENV_KEY_BYTES_MAX]);

/* What a request with an Idempotency-Key left behind. */
#define RECORD_FORMAT 1u
#define RECORD_BYTES 96u /* and the results behind it */
#define RECORD_RESULTS_BYTES_MAX 1024u
struct record {
    struct hash128 fingerprint; /* of the request: the same key on another request is refused */
    uint64_t sequence;          /* its place in the queue */
    uint64_t time_us;           /* entry time */
    uint8_t status;             /* enum kv_status */
    uint8_t result_flags;       /* struct kv_result.flags */
    uint64_t revision;
    uint64_t version;
    int64_t number;
    struct bytes results; /* of a transaction; <= RECORD_RESULTS_BYTES_MAX; borrowed */
};
static inline size_t record_bytes(const struct record *record)
{
    return RECORD_BYTES + record->results.count;
}
/* Writes record_bytes(). */
void record_encode(const struct record *record, uint8_t *out_bytes);
TL_MUST_CHECK enum tl_err record_decode(struct bytes source, struct record *out_record);
/* Its element of the records' digest, under its whole env key. */
struct hash128 record_element(struct bytes env_key, struct bytes record);

/* What stands under ENV_KEY_QUEUE: whose record it is, and the record's time, so that eviction can
 * judge the oldest without reading it. */
#define QUEUE_ITEM_BYTES 32u
struct queue_item {
    struct hash128 key; /* of the record */
    uint64_t time_us;
};
void queue_item_encode(const struct queue_item *item, uint8_t out_bytes[QUEUE_ITEM_BYTES]);
TL_MUST_CHECK enum tl_err queue_item_decode(struct bytes source, struct queue_item *out_item);

/* The group's state at an index: `final` of a generation, the meta row of the kv env. */
#define GROUP_STATE_FORMAT 1u
#define GROUP_STATE_CONF_BYTES_MAX 8192u
#define GROUP_STATE_BYTES_MAX (256u + GROUP_STATE_CONF_BYTES_MAX)
struct group_state {
    raft_index index; /* last applied */
    raft_term term;
    uint64_t time_us;
    struct hash128 chain_hash;
    uint64_t revision; /* 1 after genesis; the first write gets 2 */
    uint64_t rows_count;
    struct hash128 rows_digest;
    struct hash128 records_digest;
    uint64_t records_first; /* sequence of the oldest record */
    uint64_t records_next;  /* sequence of the next one; equal: none */
};
/* Encodes state and configuration (opaque bytes, may be empty) with a checksum over both. */
size_t group_state_encode(const struct group_state *state, struct bytes conf,
                          uint8_t out_bytes[GROUP_STATE_BYTES_MAX]);
TL_MUST_CHECK enum tl_err group_state_decode(struct bytes source, struct group_state *out_state,
                                             struct bytes *out_conf);
/* Over all fields: equal logs give equal digests at equal indexes. */
struct hash128 group_state_digest(const struct group_state *state);

#endif
