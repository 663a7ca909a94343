/* bandwidth.c - how long a link takes for a frame, and when it takes none: each direction of a link
 * has a rate of its own class, and a queue of bytes that wait to leave.
 */

#include "sim_internal.h"

uint64_t bandwidth_waiting(const struct sim *sim, uint64_t free_ns, enum peer_class class)
{
    if (free_ns <= sim->now_ns) return 0;
    return (free_ns - sim->now_ns) * sim->swarm.bytes_per_s[class] / SIM_S;
}

uint64_t bandwidth_leave(struct sim *sim, uint64_t *free_ns, enum peer_class class, bool is_urgent,
                         size_t bytes)
{
    uint64_t rate = sim->swarm.bytes_per_s[class];
    if (rate == 0) return sim->now_ns;
    uint64_t waiting = bandwidth_waiting(sim, *free_ns, class);
    if (waiting > 0 && waiting + bytes > sim->swarm.queue_bytes_max) {
        sim->result->counters.sends_refused++;
        return SIM_NEVER;
    }
    uint64_t begin_ns = TL_MAX(*free_ns, sim->now_ns);
    uint64_t span_ns = bytes * SIM_S / rate;
    sim->result->counters.frames_queued += begin_ns > sim->now_ns;
    *free_ns = begin_ns + span_ns;
    return is_urgent ? sim->now_ns + span_ns : *free_ns; /* what waits leaves later */
}
