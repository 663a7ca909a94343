/* prng.c - splitmix64 and xoshiro256** (Blackman, Vigna). */

#include "trilith/prng.h"

#include "trilith/assert.h"

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return (value << bits) | (value >> (64 - bits));
}

void prng_init(struct prng *prng, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) prng->state[i] = splitmix64(&seed);
}

uint64_t prng_next(struct prng *prng)
{
    uint64_t *s = prng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t prng_below(struct prng *prng, uint64_t bound)
{
    TL_ASSERT(bound > 0);
    /* Multiply-shift; the bias of at most bound / 2^64 does not matter here. */
    __extension__ typedef unsigned __int128 u128;
    return (uint64_t)(((u128)prng_next(prng) * bound) >> 64);
}

uint64_t prng_between(struct prng *prng, uint64_t low, uint64_t high)
{
    TL_ASSERT(low <= high);
    TL_ASSERT(high - low < UINT64_MAX);
    return low + prng_below(prng, high - low + 1);
}

bool prng_chance(struct prng *prng, uint32_t per_million)
{
    return prng_below(prng, 1000000) < per_million;
}
