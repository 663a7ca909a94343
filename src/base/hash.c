/* hash.c - XXH3-128 through the inlined xxHash library. */

#define XXH_INLINE_ALL
#include "trilith/hash.h"

#include <stdio.h>
#include <xxhash.h>

#include "trilith/codec.h"

/* Below this many bytes copying into one block is cheaper than a streaming state. */
#define HASH_GATHER_BYTES_MAX 1024u

struct hash128 hash_bytes(struct bytes source)
{
    XXH128_hash_t hash = XXH3_128bits(source.data, source.count);
    return (struct hash128){.low = hash.low64, .high = hash.high64};
}

struct hash128 hash_parts(const struct bytes *parts, size_t parts_count)
{
    size_t total = 0;
    for (size_t i = 0; i < parts_count; i++) total += parts[i].count;
    if (total <= HASH_GATHER_BYTES_MAX) {
        uint8_t block[HASH_GATHER_BYTES_MAX];
        size_t at = 0;
        for (size_t i = 0; i < parts_count; i++) {
            if (parts[i].count > 0) memcpy(block + at, parts[i].data, parts[i].count);
            at += parts[i].count;
        }
        return hash_bytes(bytes_make(block, total));
    }

    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    (void)XXH3_128bits_reset(&state); /* fails only on NULL */
    for (size_t i = 0; i < parts_count; i++) {
        (void)XXH3_128bits_update(&state, parts[i].data, parts[i].count); /* likewise */
    }
    XXH128_hash_t hash = XXH3_128bits_digest(&state);
    return (struct hash128){.low = hash.low64, .high = hash.high64};
}

uint64_t hash_checksum(struct bytes source)
{
    return hash_bytes(source).low;
}

void hash_put(uint8_t *at, struct hash128 hash)
{
    put_u64(at, hash.low);
    put_u64(at + 8, hash.high);
}

struct hash128 hash_get(const uint8_t *at)
{
    return (struct hash128){.low = get_u64(at), .high = get_u64(at + 8)};
}

void hash_format(struct hash128 hash, char out_text[HASH_TEXT_BYTES])
{
    (void)snprintf(out_text, HASH_TEXT_BYTES, "%016llx%016llx", (unsigned long long)hash.high,
                   (unsigned long long)hash.low);
}
