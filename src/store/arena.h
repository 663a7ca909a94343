/* arena.h - memory that is given out piece by piece and taken back as a whole.
 *
 * Role:       Memory of a generation: chunks mapped from the kernel, the last ones kept for the
 *             next generation, so that neither the heap nor the resident set grows with the number
 *             of generations that came and went.
 * Thread:     one thread makes, fills and frees all arenas it has (the loop thread): chunks kept
 *             for reuse belong to the thread. Readers of the memory may be anywhere.
 * Errors:     allocation failure ends the process, as everywhere (buf.h).
 */

#ifndef TL_STORE_ARENA_H
#define TL_STORE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define ARENA_CHUNK_BYTES (1024u * 1024u)

struct arena_chunk;

/* All zeros is an empty arena. */
struct arena {
    struct arena_chunk *chunks;
    uint8_t *at; /* free part of the newest chunk of ARENA_CHUNK_BYTES */
    uint8_t *end;
    size_t bytes; /* given out or lost at the ends of chunks */
};

/* `bytes` of memory aligned to 8; contents are arbitrary. */
void *arena_alloc(struct arena *arena, size_t bytes);

/* Takes everything back; the arena is empty again. */
void arena_clear(struct arena *arena);

#endif
