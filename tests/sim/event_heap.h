/* event_heap.h - the queue of virtual time: a binary heap of events ordered by (time, sequence).
 *
 * Role:       Gives events back in time order; events of one time in the order they were added, so
 *             that a run is a function of its seed.
 * Thread:     pure.
 * Ownership:  `data` of an event belongs to whoever pops it; event_heap_deinit() frees only the
 *             heap's array.
 */

#ifndef TL_SIM_EVENT_HEAP_H
#define TL_SIM_EVENT_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event {
    uint64_t time_ns;
    uint64_t sequence; /* set by event_heap_push() */
    uint32_t kind;
    uint32_t node;        /* whom it concerns; NODE_NONE: the world */
    uint32_t incarnation; /* of that node when it was made */
    uint32_t peer;
    uint64_t a;
    uint64_t b;
    void *data;
};

struct event_heap {
    struct event *events;
    size_t count;
    size_t capacity;
    uint64_t next_sequence;
};

void event_heap_init(struct event_heap *heap);
void event_heap_deinit(struct event_heap *heap);
void event_heap_push(struct event_heap *heap, const struct event *event);
/* false: empty. */
bool event_heap_pop(struct event_heap *heap, struct event *out_event);

#endif
