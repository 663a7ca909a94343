/* hash: parts hash as their concatenation, digests do not depend on order. */

#include <criterion/criterion.h>
#include <stdlib.h>

#include "trilith/hash.h"

static void assert_parts_hash_as_whole(size_t total, size_t cut)
{
    uint8_t *data = malloc(total);
    for (size_t i = 0; i < total; i++) data[i] = (uint8_t)(i * 31 + 7);
    struct bytes parts[] = {bytes_make(data, cut), bytes_make(NULL, 0),
                            bytes_make(data + cut, total - cut)};
    cr_assert(hash_equal(hash_parts(parts, 3), hash_bytes(bytes_make(data, total))),
              "total %zu cut %zu", total, cut);
    free(data);
}

Test(hash, parts_hash_as_their_concatenation)
{
    /* Both sides of the limit between gathering and streaming, and of XXH3's own block sizes. */
    const size_t totals[] = {1, 16, 17, 240, 241, 1023, 1024, 1025, 5000, 100000};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
        assert_parts_hash_as_whole(totals[i], totals[i] / 3);
    }
}

Test(hash, put_and_get_are_inverse)
{
    struct hash128 hash = hash_bytes(bytes_of("stone"));
    uint8_t stored[HASH_BYTES];
    hash_put(stored, hash);
    cr_assert(hash_equal(hash_get(stored), hash));
}

Test(hash, digest_ignores_order_and_forgets_what_is_removed)
{
    struct hash128 a = hash_bytes(bytes_of("a"));
    struct hash128 b = hash_bytes(bytes_of("b"));
    struct hash128 ab = {0, 0};
    struct hash128 ba = {0, 0};
    digest_add(&ab, a);
    digest_add(&ab, b);
    digest_add(&ba, b);
    digest_add(&ba, a);
    cr_assert(hash_equal(ab, ba));
    digest_remove(&ab, b);
    cr_assert(hash_equal(ab, a));
}
