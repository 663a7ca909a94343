/* arena.c - chunks of memory, mapped and recycled.
 *
 * Chunks come from mmap and not from malloc: glibc raises its mmap threshold with the first chunk
 * freed, from then on serves chunks from the heap, and small allocations between them keep the heap
 * from shrinking again.
 */

#include "arena.h"

#include <sys/mman.h>

#include "trilith/assert.h"

/* Pieces above this get a chunk of their own, so that at most a quarter of a chunk is lost. */
#define PIECE_BYTES_MAX (ARENA_CHUNK_BYTES / 4)

/* Chunks a thread keeps for reuse: those of one full generation. Sanitizer builds keep none, so
 * that a late reader touches unmapped memory. */
#ifdef TL_SMALL_MAPS
static const uint32_t chunks_kept_max = 0;
#else
static const uint32_t chunks_kept_max = 32;
#endif

struct arena_chunk {
    struct arena_chunk *next;
    size_t bytes; /* of the mapping */
};

_Static_assert(sizeof(struct arena_chunk) % 8 == 0, "pieces are aligned to 8");

static _Thread_local struct arena_chunk *kept_chunks;
static _Thread_local uint32_t kept_count;

static struct arena_chunk *chunk_acquire(size_t bytes)
{
    struct arena_chunk *chunk = NULL;
    if (bytes == ARENA_CHUNK_BYTES && kept_chunks != NULL) {
        chunk = kept_chunks;
        kept_chunks = chunk->next;
        kept_count--;
    } else {
        void *memory =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        TL_ASSERT(memory != MAP_FAILED);
        chunk = memory;
    }
    *chunk = (struct arena_chunk){.bytes = bytes};
    return chunk;
}

static void chunk_release(struct arena_chunk *chunk)
{
    if (chunk->bytes == ARENA_CHUNK_BYTES && kept_count < chunks_kept_max) {
        chunk->next = kept_chunks;
        kept_chunks = chunk;
        kept_count++;
        return;
    }
    int rc = munmap(chunk, chunk->bytes);
    TL_ASSERT(rc == 0);
}

static struct arena_chunk *chunk_add(struct arena *arena, size_t bytes)
{
    struct arena_chunk *chunk = chunk_acquire(bytes);
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    if (bytes > PIECE_BYTES_MAX) {
        arena->bytes += bytes;
        return chunk_add(arena, sizeof(struct arena_chunk) + bytes) + 1;
    }
    if ((size_t)(arena->end - arena->at) < bytes) {
        arena->bytes += (size_t)(arena->end - arena->at);
        struct arena_chunk *chunk = chunk_add(arena, ARENA_CHUNK_BYTES);
        arena->at = (uint8_t *)(chunk + 1);
        arena->end = (uint8_t *)chunk + ARENA_CHUNK_BYTES;
    }
    void *piece = arena->at;
    arena->at += bytes;
    arena->bytes += bytes;
    return piece;
}

void arena_clear(struct arena *arena)
{
    while (arena->chunks != NULL) {
        struct arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        chunk_release(chunk);
    }
    *arena = (struct arena){0};
}
