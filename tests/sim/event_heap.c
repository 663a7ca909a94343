/* event_heap.c - binary heap in an array that doubles; children of i stand at 2i + 1 and 2i + 2. */

#include "event_heap.h"

#include <stdlib.h>

#include "trilith/assert.h"

void event_heap_init(struct event_heap *heap)
{
    *heap = (struct event_heap){.capacity = 1024};
    heap->events = malloc(heap->capacity * sizeof *heap->events);
    TL_ASSERT(heap->events != NULL);
}

void event_heap_deinit(struct event_heap *heap)
{
    free(heap->events);
    *heap = (struct event_heap){0};
}

static bool is_before(const struct event *a, const struct event *b)
{
    if (a->time_ns != b->time_ns) return a->time_ns < b->time_ns;
    return a->sequence < b->sequence;
}

void event_heap_push(struct event_heap *heap, const struct event *event)
{
    if (heap->count == heap->capacity) {
        heap->capacity *= 2;
        heap->events = realloc(heap->events, heap->capacity * sizeof *heap->events);
        TL_ASSERT(heap->events != NULL);
    }
    struct event added = *event;
    added.sequence = heap->next_sequence++;
    size_t at = heap->count++;
    while (at > 0 && is_before(&added, &heap->events[(at - 1) / 2])) {
        heap->events[at] = heap->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->events[at] = added;
}

bool event_heap_pop(struct event_heap *heap, struct event *out_event)
{
    if (heap->count == 0) return false;
    *out_event = heap->events[0];
    struct event moved = heap->events[--heap->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->count) break;
        if (child + 1 < heap->count && is_before(&heap->events[child + 1], &heap->events[child])) {
            child++;
        }
        if (!is_before(&heap->events[child], &moved)) break;
        heap->events[at] = heap->events[child];
        at = child;
    }
    if (heap->count > 0) heap->events[at] = moved;
    return true;
}
