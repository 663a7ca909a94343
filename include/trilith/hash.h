/* hash.h - the one hash of the project: XXH3-128 (xxHash library), stored little-endian.
 *
 * Role:       Checksums, the log's hash chain, digests and fingerprints. Shows damage and
 *             divergence; it is not a defence against forgery.
 * Thread:     pure.
 */

#ifndef TL_HASH_H
#define TL_HASH_H

#include "trilith/buf.h"

#define HASH_BYTES 16u

struct hash128 {
    uint64_t low;
    uint64_t high;
};

/* Of the concatenation of `parts`, without concatenating them. */
struct hash128 hash_parts(const struct bytes *parts, size_t parts_count);

struct hash128 hash_bytes(struct bytes source);

/* The low 64 bits of hash_bytes(): for checksums inside records. */
uint64_t hash_checksum(struct bytes source);

static inline bool hash_equal(struct hash128 a, struct hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

void hash_put(uint8_t *at, struct hash128 hash); /* HASH_BYTES bytes */
struct hash128 hash_get(const uint8_t *at);

/* 32 lower-case hex digits (high first) and a NUL. */
#define HASH_TEXT_BYTES 33u
void hash_format(struct hash128 hash, char out_text[HASH_TEXT_BYTES]);

/* A digest is the sum of its elements' hashes, each half modulo 2^64: a multiset hash, so the order
 * of additions and removals does not show. */
static inline void digest_add(struct hash128 *digest, struct hash128 element)
{
    digest->low += element.low;
    digest->high += element.high;
}

static inline void digest_remove(struct hash128 *digest, struct hash128 element)
{
    digest->low -= element.low;
    digest->high -= element.high;
}

#endif
