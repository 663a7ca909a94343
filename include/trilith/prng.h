/* prng.h - a seeded random source (splitmix64 into xoshiro256**), part of its owner's state.
 *
 * Role:       Jitter, swarm options and simulator schedules. Same seed, same sequence, on every
 *             machine. Identities (store ids) come from the kernel instead.
 * Thread:     pure.
 */

#ifndef TL_PRNG_H
#define TL_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t state[4];
};

void prng_init(struct prng *prng, uint64_t seed);
uint64_t prng_next(struct prng *prng);

/* Uniform in [0, bound); bound > 0. */
uint64_t prng_below(struct prng *prng, uint64_t bound);

/* Uniform in [low, high], both inclusive; low <= high, high - low < 2^64 - 1. */
uint64_t prng_between(struct prng *prng, uint64_t low, uint64_t high);

/* True with `per_million` in 1,000,000. */
bool prng_chance(struct prng *prng, uint32_t per_million);

#endif
