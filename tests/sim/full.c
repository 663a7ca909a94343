/* full.c - file systems and maps that run full, of one machine or of all, and have room again.
 *
 *   near   less is left than the reserve, on all: writes are refused as not executed, nobody ends
 *   full   next to nothing is left: what has to be written all the same ends its process (exit 4),
 *          which comes back when there is room
 *   maps   the log or the tables have what they may hold: writes are refused as well; what is on
 *          its way has the headroom
 */

#include "sim_internal.h"

#include <inttypes.h>

/* A leader looks at its file system once a second. */
#define SEEN_NS (1500 * SIM_MS)
#define LENGTH_MIN_NS (2 * SIM_S)

static bool is_low(const struct sim *sim, const struct sim_node *node)
{
    const struct mem_disk *disk = node->disk;
    if (sim->full.is_of_maps) return disk->log_map_bytes > 0 || disk->table_map_bytes > 0;
    return mem_disk_free_bytes(node->disk) < sim->swarm.free_bytes_min;
}

/* Of its limit nothing is left, whatever is deleted. */
static void fill_map(struct sim *sim, struct sim_node *node)
{
    bool is_log = prng_chance(&sim->more_random, 300000);
    *(is_log ? &node->disk->log_map_bytes : &node->disk->table_map_bytes) = SIM_MAP_BYTES;
    sim_trace(sim, "the map of n%u's %s is full", node->number, is_log ? "log" : "tables");
}

static void fill(struct sim *sim, struct sim_node *node, uint64_t left_bytes)
{
    mem_disk_fill(node->disk, left_bytes);
    sim_trace(sim, "the file system of n%u has %" PRIu64 " bytes left", node->number, left_bytes);
}

static uint64_t draw_left(struct sim *sim)
{
    uint64_t min = sim->swarm.free_bytes_min;
    if (sim->full.is_near) return prng_between(&sim->more_random, min / 4, min - 1);
    return prng_below(&sim->more_random, 20000);
}

void full_inject(struct sim *sim, struct sim_node *node)
{
    struct sim_full *full = &sim->full;
    if (full->is_active) return;
    *full = (struct sim_full){.is_active = true, .number = full->number + 1};
    full->is_of_maps = prng_chance(&sim->more_random, 300000);
    full->is_near = full->is_of_maps || prng_chance(&sim->more_random, 600000);
    bool is_of_all = full->is_near || prng_chance(&sim->more_random, 200000);
    if (full->is_of_maps) is_of_all = prng_chance(&sim->more_random, 600000);
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        if (!is_of_all && i != node->number) continue;
        if (full->is_of_maps) {
            fill_map(sim, &sim->nodes[i]);
        } else {
            fill(sim, &sim->nodes[i], draw_left(sim));
        }
    }
    full->since_ns = is_of_all ? sim->now_ns : 0;
    sim->result->counters.maps_full += full->is_of_maps;
    sim->result->counters.disks_near_full += full->is_near && !full->is_of_maps;
    sim->result->counters.disks_full += !full->is_near;
    struct event event = {.kind = EVENT_ROOM, .node = SIM_WORLD, .a = full->number};
    uint64_t length = sim_exponential(&sim->more_random, LENGTH_MIN_NS);
    sim_push(sim, sim->now_ns + LENGTH_MIN_NS + length, &event);
}

static void end(struct sim *sim)
{
    if (sim->full.is_active) sim_trace(sim, "there is room again");
    sim->full.is_active = false;
    sim->full.ended_ns = sim->now_ns;
    for (uint32_t i = 0; i < sim->stores_count; i++) {
        struct mem_disk *disk = sim->stores[i].disk;
        disk->size_bytes = disk->log_map_bytes = disk->table_map_bytes = 0;
    }
}

void full_on_event(struct sim *sim, const struct event *event)
{
    if (event->a == sim->full.number) end(sim);
}

void full_calm(struct sim *sim)
{
    end(sim);
}

static enum tl_err stop(struct sim *sim, struct sim_node *node, enum tl_err err)
{
    if (err != TL_OK) full_on_stopped(sim, node);
    return err;
}

static uint64_t batch_bytes(const struct node_log_batch *batch)
{
    uint64_t bytes = 0;
    for (; batch != NULL; batch = batch->next) {
        for (uint32_t i = 0; i < batch->ops_count; i++) {
            for (uint32_t k = 0; k < batch->ops[i].entries_count; k++) {
                bytes += batch->ops[i].entries[k]->count;
            }
        }
    }
    return bytes;
}

static enum tl_err room_for(struct sim_node *node, uint64_t map_bytes, uint64_t bytes)
{
    if (!mem_disk_takes(node->disk, bytes)) return TL_ERR_NO_SPACE;
    bool is_in_map = map_bytes + bytes <= SIM_MAP_BYTES + SIM_MAP_HEADROOM_BYTES;
    return is_in_map ? TL_OK : TL_ERR_MAP_FULL;
}

enum tl_err full_stops_log(struct sim *sim, struct sim_node *node,
                           const struct node_log_batch *batch)
{
    uint64_t map_bytes = log_store_used_bytes(node_log_store(node->node));
    return stop(sim, node, room_for(node, map_bytes, batch_bytes(batch)));
}

enum tl_err full_stops_flush(struct sim *sim, struct sim_node *node)
{
    uint64_t map_bytes = table_data_bytes(node->flush->table);
    return stop(sim, node, room_for(node, map_bytes, generation_bytes(node->flush->generation)));
}

void full_on_stopped(struct sim *sim, struct sim_node *node)
{
    sim->result->counters.ends_by_full_disks++;
    sim_trace(sim, "the file system of n%u is full", node->number);
    if (!sim->full.is_near) return;
    sim_fail(sim, "[51] node %u ends for want of space, which all have had a reserve of",
             node->number);
}

/* Until every node must have seen that there is room again, leadership may move because there was
 * none. */
bool full_is_over(const struct sim *sim)
{
    return sim->swarm.full_weight == 0 || sim->now_ns >= sim->full.ended_ns + 2 * SEEN_NS;
}

/* In a cluster at rest: the data group's leader has less than the reserve, and a quorum of others
 * has room. NULL: there is nobody to hand over to. */
struct sim_node *full_fill_leader(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        struct node_group_status status;
        if (!node->is_wanted) continue;
        node_get_group_status(node->node, NODE_DATA_GROUP, &status);
        if (status.raft.role != RAFT_LEADER || status.raft.conf.voters_count < 3) continue;
        sim->full.number++; /* the end of the last such time is not the end of this one */
        if (prng_chance(&sim->more_random, 500000)) {
            fill_map(sim, node);
        } else {
            fill(sim, node, sim->swarm.free_bytes_min / 2);
        }
        sim->result->counters.leaders_filled++;
        return node;
    }
    return NULL;
}

/* Begun when every node must have seen for a while that it has no room for it. */
void full_judge_write(struct sim *sim, const struct attempt *attempt)
{
    const struct sim_full *full = &sim->full;
    if (!full->is_active || full->since_ns == 0) return;
    if (attempt->begun_ns < full->since_ns + SEEN_NS) return;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) {
        if (!is_low(sim, &sim->nodes[i])) return;
    }
    sim_fail(sim, "[52] a write is executed that no node has room for");
}
