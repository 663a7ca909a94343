/* clocks.c - wall clocks that are wrong, nights in which all machines sleep, requests that are
 * repeated late; and the judges of log time, which know nothing of the rules that they judge.
 *
 * Real time here is what a right monotonic clock counts: virtual time and the time slept.
 *
 *   41  the same Idempotency-Key does not take effect twice within its promised time
 *   42  while a node leads, log time rises at most twice as fast as real time
 *   43  and at least three quarters as fast, whatever the clocks say
 *   44  nor does it along the committed log, across leaders
 */

#include "sim_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define HOUR_US (3600ll * 1000000)
#define DAY_US (24 * HOUR_US)
#define DEFAULT_JUMP_US 10000000ll
#define SLEEP_APART_NS (500 * SIM_MS)
#define RATE_SLACK_US 5000u
/* Each entry is a microsecond later than the one before, uncharged: after a burst of entries, log
 * time does not show in them before it has caught up. */
#define BURST_US 1000u
#define CHAIN_SLACK_US 3000000u
/* What the docs promise of an outcome that is kept. */
#define KEEP_NS (150 * SIM_S)
#define KEEP_FULL_NS (30 * SIM_S)  /* in a full table */
#define KEEP_SLACK_NS (20 * SIM_S) /* an entry may be seen late where log commits hang */

uint64_t clocks_real_ns(const struct sim *sim)
{
    return sim->now_ns + sim->clocks.slept_ns;
}

/* ---- a map from hashes ---- */

static struct clock_item *map_slot(const struct clock_map *map, struct hash128 key)
{
    size_t at = key.low & (map->capacity - 1);
    while (map->items[at].is_used && !hash_equal(map->items[at].key, key)) {
        at = (at + 1) & (map->capacity - 1);
    }
    return &map->items[at];
}

static void map_grow(struct clock_map *map)
{
    struct clock_map larger = {.capacity = map->capacity == 0 ? 1024 : 2 * map->capacity};
    larger.items = calloc(larger.capacity, sizeof *larger.items);
    TL_ASSERT(larger.items != NULL);
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->items[i].is_used) *map_slot(&larger, map->items[i].key) = map->items[i];
    }
    larger.count = map->count;
    free(map->items);
    *map = larger;
}

/* The item under the key, made if there is none. Valid until the next call. */
static struct clock_item *map_get(struct clock_map *map, struct hash128 key, bool *out_is_new)
{
    if (2 * map->count >= map->capacity) map_grow(map);
    struct clock_item *item = map_slot(map, key);
    *out_is_new = !item->is_used;
    if (*out_is_new) {
        *item = (struct clock_item){.is_used = true, .key = key};
        map->count++;
    }
    return item;
}

/* ---- life ---- */

void clocks_init(struct sim *sim)
{
    struct sim_clocks *clocks = &sim->clocks;
    prng_init(&clocks->random, sim->options.seed ^ 0x636c6f636b);
    clocks->jump_max_us = DEFAULT_JUMP_US;
    if (prng_chance(&clocks->random, 250000)) clocks->jump_max_us = HOUR_US;
    if (!sim->swarm.has_wild_clocks) return;
    clocks->jump_max_us = prng_chance(&clocks->random, 500000) ? HOUR_US : DAY_US;
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) clocks_jump(sim, &sim->nodes[i]);
}

void clocks_deinit(struct sim *sim)
{
    struct sim_clocks *clocks = &sim->clocks;
    free(clocks->made.items);
    free(clocks->effects.items);
    for (uint32_t i = 0; i < SIM_CLIENTS_MAX; i++) {
        for (uint32_t k = 0; k < SIM_PAST_MAX; k++) buf_release(clocks->past[i][k].entry);
        buf_release(clocks->repeated[i]);
    }
}

/* ---- clocks that are wrong ---- */

static int64_t draw_offset(struct sim_clocks *clocks)
{
    int64_t max = clocks->jump_max_us;
    return (int64_t)prng_between(&clocks->random, 0, (uint64_t)(2 * max)) - max;
}

void clocks_jump(struct sim *sim, struct sim_node *node)
{
    struct sim_clocks *clocks = &sim->clocks;
    sim->result->counters.clock_jumps++;
    bool was_stopped = node->clock_stopped_us != 0;
    node->clock_stopped_us = 0;
    switch (prng_below(&clocks->random, was_stopped ? 4 : 6)) {
    case 0:
        node->clock_offset_us = 0; /* set right */
        break;
    case 1:
        node->clock_offset_us = clocks->jump_max_us;
        break;
    case 2:
        node->clock_offset_us = -clocks->jump_max_us;
        break;
    case 3:
    case 4:
        node->clock_offset_us += draw_offset(clocks);
        break;
    default:
        node->clock_stopped_us = host_clock_us(node);
    }
    sim_trace(sim, "the clock of n%u is off by %" PRId64 " ms%s", node->number,
              node->clock_offset_us / 1000, node->clock_stopped_us != 0 ? " and stands still" : "");
}

/* All machines sleep at once, as virtual machines do: records grow old without anything done. */
void clocks_sleep(struct sim *sim)
{
    struct sim_clocks *clocks = &sim->clocks;
    if (sim_is_quiet(sim) || sim->now_ns < clocks->slept_last_ns + SLEEP_APART_NS) return;
    bool is_long = prng_chance(&clocks->random, 250000); /* longer than any outcome is kept */
    uint64_t length = prng_between(&clocks->random, is_long ? 150 * SIM_S : 5 * SIM_S,
                                   is_long ? 400 * SIM_S : 80 * SIM_S);
    clocks->slept_last_ns = sim->now_ns;
    clocks->slept_ns += length;
    sim->result->counters.sleeps++;
    sim_trace(sim, "all machines sleep for %.3f s", (double)length / (double)SIM_S);
    for (uint32_t i = 0; i < sim->swarm.nodes_count; i++) host_wake(sim, &sim->nodes[i]);
}

/* ---- what clients do ---- */

void clocks_disturb(struct sim *sim, struct command *command)
{
    struct sim_clocks *clocks = &sim->clocks;
    if (sim_is_quiet(sim)) return;
    if (prng_chance(&clocks->random, 500000)) {
        clocks_sleep(sim);
    } else {
        /* Of no entry: some are refused, the others have to wait. */
        uint64_t ahead_us = prng_chance(&clocks->random, 500000) ? 30000000 : 2000000;
        command->token_us += prng_below(&clocks->random, ahead_us);
    }
}

void clocks_note_past(struct sim *sim, const struct client *client)
{
    if (client->is_read || !client->command.has_idempotency_key) return;
    struct sim_clocks *clocks = &sim->clocks;
    uint32_t at = clocks->past_count[client->number]++ % SIM_PAST_MAX;
    struct sim_past *past = &clocks->past[client->number][at];
    buf_release(past->entry);
    past->entry = command_encode(&client->command);
    past->key = client->read_keys[0];
}

bool clocks_draw_repeat(struct sim *sim, struct client *client)
{
    struct sim_clocks *clocks = &sim->clocks;
    uint32_t count = TL_MIN(clocks->past_count[client->number], SIM_PAST_MAX);
    if (count == 0 || !prng_chance(&clocks->random, sim->swarm.late_repeat_ppm)) return false;
    const struct sim_past *past = &clocks->past[client->number][prng_below(&clocks->random, count)];
    buf_release(clocks->repeated[client->number]);
    clocks->repeated[client->number] = buf_acquire(past->entry);
    enum tl_err err = command_decode(entry_payload(past->entry), &client->command);
    TL_ASSERT(err == TL_OK);
    client->read_keys[0] = past->key;
    client->command.token_us = client->token_us;
    sim->result->counters.late_repeats++;
    return true;
}

/* ---- judges ---- */

void clocks_on_made(struct sim *sim, const struct buf *entry)
{
    bool is_new;
    struct clock_item *item = map_get(&sim->clocks.made, entry_hash(entry), &is_new);
    if (is_new) item->real_ns = clocks_real_ns(sim);
}

static uint64_t made_ns(struct sim *sim, const struct buf *entry)
{
    bool is_new;
    struct clock_item *item = map_get(&sim->clocks.made, entry_hash(entry), &is_new);
    if (is_new) item->real_ns = clocks_real_ns(sim);
    return item->real_ns;
}

/* Whether an entry is seen as soon as it is made. */
static bool is_prompt(const struct sim *sim)
{
    return sim->swarm.hang_weight == 0 && sim->swarm.stall_ppm == 0;
}

/* Invariant 41. A full table may forget an outcome earlier, but for its newest ones. */
static void judge_effect(struct sim *sim, const struct command *command, uint64_t real_ns)
{
    struct sim_clocks *clocks = &sim->clocks;
    bool is_first;
    struct clock_item *item = map_get(&clocks->effects, command->idempotency_key, &is_first);
    uint64_t number = ++clocks->effects_count;
    if (!is_first) {
        sim_trace(sim, "a request takes effect again");
        uint64_t records_max =
            command->records_max == 0 ? RECORDS_MAX_DEFAULT : command->records_max;
        bool is_newest = number - item->number <= records_max;
        uint64_t keep_ns = is_newest ? KEEP_NS : KEEP_FULL_NS;
        if (!is_prompt(sim)) keep_ns -= KEEP_SLACK_NS;
        uint64_t kept_ns = real_ns - TL_MIN(real_ns, item->real_ns);
        if (kept_ns < keep_ns) {
            sim_fail(sim,
                     "[41] a request takes effect twice within %.3f s of real time; its outcome "
                     "was to be kept for %.0f s",
                     (double)kept_ns / (double)SIM_S, (double)keep_ns / (double)SIM_S);
        }
    }
    item->real_ns = real_ns;
    item->number = number;
}

/* Invariant 44, of commands: what a core appends by itself does not follow the time. */
static void judge_chain(struct sim *sim, raft_group group, uint64_t time_us, uint64_t real_ns)
{
    struct clock_chain *chain = &sim->clocks.chains[group];
    if (chain->real_ns != 0 && is_prompt(sim)) {
        uint64_t elapsed_ns = real_ns - TL_MIN(real_ns, chain->real_ns);
        chain->limit_us += 2 * elapsed_ns / 1000;
        if (time_us > chain->limit_us + CHAIN_SLACK_US) {
            sim_fail(sim,
                     "[44] group %" PRIu32 ": log time is %.3f s further than real time allows",
                     group, (double)(time_us - chain->limit_us) / 1e6);
        }
    }
    bool is_lower = chain->real_ns == 0 || time_us < chain->limit_us;
    if (is_lower) chain->limit_us = time_us;
    chain->real_ns = TL_MAX(chain->real_ns, real_ns);
}

void clocks_on_committed(struct sim *sim, raft_group group, const struct buf *entry)
{
    if (entry_type_of(entry) != ENTRY_COMMAND) return;
    uint64_t real_ns = made_ns(sim, entry);
    judge_chain(sim, group, entry_time_us(entry), real_ns);
    struct command command;
    if (group != NODE_DATA_GROUP || command_decode(entry_payload(entry), &command) != TL_OK) return;
    const struct kv_result *result = &model_step(&sim->model, entry_index(entry))->result;
    bool is_replayed = (result->flags & KV_RESULT_REPLAYED) != 0;
    if (!command.has_idempotency_key || is_replayed || !kv_status_is_recorded(result->status)) {
        return;
    }
    judge_effect(sim, &command, real_ns);
}

/* Invariants 42 and 43: of the node that leads, after each of its turns, for commands as above. */
void clocks_observe(struct sim *sim, struct sim_node *node, raft_group group,
                    const struct raft_status *status)
{
    struct clock_lead *lead = &node->groups[group].lead;
    if (status->role != RAFT_LEADER || status->conf_index == status->last) return;
    uint64_t real_ns = clocks_real_ns(sim);
    uint64_t elapsed_us = (real_ns - lead->real_ns) / 1000;
    if (status->term == lead->term && status->last_time_us == lead->time_us) return;
    if (status->term == lead->term) {
        uint64_t most_us = lead->time_us + 2 * elapsed_us + RATE_SLACK_US;
        uint64_t least_us = lead->time_us + elapsed_us * 3 / 4;
        if (status->last_time_us > most_us) {
            sim_fail(sim, "[42] group %" PRIu32 ": at node %u log time rises by %.6f s in %.6f s",
                     group, node->number, (double)(status->last_time_us - lead->time_us) / 1e6,
                     (double)elapsed_us / 1e6);
        }
        if (status->last_time_us + BURST_US < least_us) {
            sim_fail(sim,
                     "[43] group %" PRIu32 ": at node %u log time rises by %.6f s only in %.6f s",
                     group, node->number, (double)(status->last_time_us - lead->time_us) / 1e6,
                     (double)elapsed_us / 1e6);
        }
    }
    *lead = (struct clock_lead){
        .term = status->term, .time_us = status->last_time_us, .real_ns = real_ns};
}
