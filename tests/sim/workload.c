/* workload.c - the clients: one operation at a time each, any node, unique values, time-outs, and
 * repeats of keyed requests on other nodes. Between client and node stands what the HTTP layer
 * does: encode the command, node_write() or node_read(), read through a view_reader, answer.
 */

#include "sim_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CLIENT_DELAY_NS (300 * SIM_US)
#define REPEAT_DELAY_NS (30 * SIM_MS)
#define ATTEMPTS_MAX 5u

/* A request on its way to a node, then at it. */
struct request {
    struct node_write write;
    struct node_read read;
    struct sim *sim;
    uint32_t client;
    uint32_t node;
    uint32_t incarnation;
    uint64_t attempt;
    bool is_read;
    bool may_grow;
    struct buf *entry; /* until the node takes it */
    uint64_t token_us; /* of its command */
    struct judgement judgement;
    struct request *next; /* of sim.requests */
};

/* What the client gets. */
struct reply {
    uint32_t client;
    uint64_t attempt;
    enum tl_err err; /* TL_ERR_UNKNOWN also for a broken connection */
    raft_index index;
    uint64_t time_us;
    uint64_t revision;
    uint32_t key;
};

size_t workload_key(uint32_t number, uint8_t out_key[16])
{
    return (size_t)snprintf((char *)out_key, 16, "key%u", number);
}

static void push_client(struct sim *sim, uint64_t delay_ns, enum event_kind kind,
                        struct client *client, uint64_t attempt)
{
    struct event event = {.kind = kind, .node = SIM_WORLD, .peer = client->number, .a = attempt};
    sim_push(sim, sim->now_ns + delay_ns, &event);
}

static void push_next(struct sim *sim, struct client *client)
{
    client->is_waiting = false;
    if (client->is_busy) clocks_note_past(sim, client);
    client->is_busy = false;
    uint64_t think = sim_exponential(&sim->work_random, sim->swarm.think_mean_ns);
    push_client(sim, think, EVENT_CLIENT_NEXT, client, 0);
}

void workload_init(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->swarm.clients_count; i++) {
        sim->clients[i].number = i;
        push_next(sim, &sim->clients[i]);
    }
}

void workload_deinit(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->swarm.clients_count; i++) {
        buf_release(TL_TAKE(&sim->clients[i].txn));
    }
}

bool workload_is_idle(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->swarm.clients_count; i++) {
        if (sim->clients[i].is_busy) return false;
    }
    return sim->requests == NULL;
}

/* ---- what to ask ---- */

static void draw_condition(struct sim *sim, struct command *command, uint32_t key)
{
    switch (prng_below(&sim->work_random, 3)) {
    case 0:
        command->condition = CONDITION_ABSENT;
        break;
    case 1:
        command->condition = CONDITION_EXISTS;
        break;
    default:
        command->condition = CONDITION_REVISION;
        command->condition_revision = sim->last_revision[key];
    }
}

/* Every one is another's, and most are short. */
static size_t make_value(struct sim *sim, struct client *client)
{
    int count = snprintf((char *)client->value, sizeof client->value, "<%u.%" PRIu64 ">",
                         client->number, client->ops_count);
    uint32_t padding_max = sim->swarm.padding_max;
    if (padding_max == 0 || !prng_chance(&sim->more_random, 400000)) return (size_t)count;
    size_t padding = prng_below(&sim->more_random, padding_max);
    memset(client->value + count, '.', padding);
    sim->result->counters.values_large++;
    return (size_t)count + padding;
}

static void draw_type(struct sim *sim, struct client *client, uint32_t key)
{
    struct command *command = &client->command;
    uint64_t dice = prng_below(&sim->work_random, 100);
    command->type = COMMAND_PUT;
    /* A third of the keys are mostly counters, a third lists. */
    if (dice < 60 && key % 3 == 1) command->type = COMMAND_INCR;
    if (dice < 60 && key % 3 == 2) command->type = COMMAND_APPEND;
    if (dice >= 60 && dice < 75) command->type = COMMAND_DELETE;
    if (dice >= 97) command->type = COMMAND_INCR; /* on what may be no number */
    if (command->type == COMMAND_PUT || command->type == COMMAND_DELETE) {
        if (prng_chance(&sim->work_random, 300000)) draw_condition(sim, command, key);
    }
    if (command->type == COMMAND_INCR) {
        command->by = 1 + (int64_t)prng_below(&sim->work_random, 5);
        return;
    }
    if (command->type == COMMAND_DELETE) return;
    command->value = bytes_make(client->value, make_value(sim, client));
}

static struct txn_condition draw_txn_condition(struct sim *sim, const struct client *client,
                                               uint32_t key)
{
    struct txn_condition condition = {
        .type = (enum txn_condition_type)prng_between(&sim->work_random, TXN_IF_REVISION,
                                                      TXN_IF_EXISTS),
    };
    if (condition.type == TXN_IF_REVISION) condition.number = sim->last_revision[key];
    if (condition.type == TXN_IF_VERSION) condition.number = prng_below(&sim->work_random, 3);
    if (condition.type == TXN_IF_EXISTS) condition.number = prng_below(&sim->work_random, 2);
    if (condition.type == TXN_IF_VALUE) condition.value = bytes_make(client->value, 1);
    return condition;
}

/* Operations on neighbouring keys, each written at most once, with gets between. */
static uint32_t draw_ops(struct sim *sim, struct client *client, uint8_t keys[][16],
                         struct txn_op *out_ops)
{
    uint32_t keys_count = sim->swarm.keys_count;
    uint32_t first = (uint32_t)prng_below(&sim->work_random, keys_count);
    uint32_t ops_count = (uint32_t)prng_below(&sim->work_random, TL_MIN(keys_count, 4u) + 1);
    for (uint32_t i = 0; i < ops_count; i++) {
        uint32_t key = (first + i) % keys_count;
        struct client drawn = *client; /* its value is the same text */
        draw_type(sim, &drawn, key);
        if (prng_chance(&sim->work_random, 250000)) drawn.command.type = COMMAND_GET;
        struct txn_op *op = &out_ops[i];
        *op = (struct txn_op){.type = drawn.command.type};
        op->key = bytes_make(keys[key], workload_key(key, keys[key]));
        if (op->type == COMMAND_INCR) op->by = drawn.command.by;
        if (op->type == COMMAND_PUT || op->type == COMMAND_APPEND) {
            op->value = bytes_make(client->value, drawn.command.value.count);
        }
    }
    return ops_count;
}

static void draw_txn(struct sim *sim, struct client *client)
{
    static struct txn txn;
    uint8_t keys[SIM_KEYS_MAX][16];
    struct command *command = &client->command;
    int count = snprintf((char *)client->value, sizeof client->value, "<%u.%" PRIu64 ">",
                         client->number, client->ops_count);
    TL_ASSERT(count > 0);
    txn.conditions_count = (uint32_t)prng_below(&sim->work_random, 3);
    for (uint32_t i = 0; i < txn.conditions_count; i++) {
        uint32_t key = (uint32_t)prng_below(&sim->work_random, sim->swarm.keys_count);
        txn.conditions[i] = draw_txn_condition(sim, client, key);
        txn.conditions[i].key = bytes_make(keys[key], workload_key(key, keys[key]));
    }
    for (uint32_t branch = 0; branch < TXN_BRANCHES_COUNT; branch++) {
        txn.ops_count[branch] = draw_ops(sim, client, keys, txn.ops[branch]);
    }
    client->txn = txn_encode(&txn);
    command->type = COMMAND_TXN;
    command->key = bytes_make(NULL, 0);
    command->value = buf_bytes(client->txn);
}

static void draw_write(struct sim *sim, struct client *client)
{
    if (clocks_draw_repeat(sim, client)) return;
    struct command *command = &client->command;
    uint32_t key = (uint32_t)prng_below(&sim->work_random, sim->swarm.keys_count);
    *command = (struct command){.records_max = sim->swarm.records_max};
    command->key = bytes_make(client->key, workload_key(key, client->key));
    bool is_limited = prng_chance(&sim->work_random, 200000);
    command->value_bytes_max = is_limited ? 64 : TL_MAX(4096u, 2 * sim->swarm.padding_max);
    buf_release(TL_TAKE(&client->txn));
    if (prng_chance(&sim->work_random, 150000)) {
        draw_txn(sim, client);
    } else {
        draw_type(sim, client, key);
    }
    client->read_keys[0] = (uint8_t)key;
    command->has_idempotency_key = prng_chance(&sim->work_random, sim->swarm.keyed_ppm);
    const uint64_t name[] = {client->number, client->ops_count};
    command->idempotency_key = hash_bytes(bytes_make(name, sizeof name));
    command->token_us = client->token_us;
    if (prng_chance(&sim->work_random, sim->swarm.future_token_ppm)) clocks_disturb(sim, command);
}

static struct sim_scan draw_scan(struct sim *sim)
{
    struct prng *prng = &sim->work_random;
    return (struct sim_scan){
        .is_scan = true,
        .is_reverse = prng_chance(prng, 500000),
        .has_start = prng_chance(prng, 400000),
        .has_end = prng_chance(prng, 400000),
        .start = (uint8_t)prng_below(prng, SIM_KEYS_MAX),
        .end = (uint8_t)prng_below(prng, SIM_KEYS_MAX),
        .rows_max = (uint8_t)prng_between(prng, 1, SIM_KEYS_MAX),
    };
}

static void draw_read(struct sim *sim, struct client *client)
{
    client->scan = (struct sim_scan){.is_scan = false};
    if (prng_chance(&sim->work_random, 200000)) client->scan = draw_scan(sim);
    uint64_t dice = prng_below(&sim->work_random, 100);
    client->consistency = dice < 70 ? NODE_LINEARIZABLE : dice < 85 ? NODE_CAUSAL : NODE_LOCAL;
    client->read_keys_count = 1 + (uint32_t)prng_below(&sim->work_random, SIM_READ_KEYS_MAX);
    for (uint32_t i = 0; i < client->read_keys_count; i++) {
        client->read_keys[i] = (uint8_t)prng_below(&sim->work_random, sim->swarm.keys_count);
    }
}

/* ---- sending ---- */

static uint64_t attempt_begin(struct sim *sim, bool is_keyed)
{
    if (sim->attempts_count == sim->attempts_capacity) {
        sim->attempts_capacity = sim->attempts_capacity == 0 ? 256 : 2 * sim->attempts_capacity;
        sim->attempts = realloc(sim->attempts, sim->attempts_capacity * sizeof *sim->attempts);
        TL_ASSERT(sim->attempts != NULL);
    }
    sim->attempts[sim->attempts_count++] =
        (struct attempt){.is_keyed = is_keyed, .begun_ns = sim->now_ns};
    return sim->attempts_count;
}

static void send_request(struct sim *sim, struct client *client, uint32_t node)
{
    client->attempts_count++;
    client->is_waiting = false;
    client->attempt = attempt_begin(sim, !client->is_read && client->command.has_idempotency_key);
    struct request *request = calloc(1, sizeof *request);
    TL_ASSERT(request != NULL);
    request->sim = sim;
    request->client = client->number;
    request->node = node;
    request->attempt = client->attempt;
    request->is_read = client->is_read;
    struct judgement *judgement = &request->judgement;
    judgement->is_read = client->is_read;
    judgement->attempt = client->attempt;
    judgement->keys[0] = client->read_keys[0];
    if (client->is_read) {
        judgement->consistency = client->consistency;
        judgement->floor = client->consistency == NODE_LINEARIZABLE ? sim->acked_index : 0;
        judgement->token_us = client->consistency == NODE_CAUSAL ? client->token_us : 0;
        judgement->keys_count = client->read_keys_count;
        memcpy(judgement->keys, client->read_keys, sizeof client->read_keys);
        judgement->scan = client->scan;
    } else {
        judgement->floor = sim->acked_index;
        client->command.origin = client->attempt;
        request->may_grow = client->command.type != COMMAND_DELETE &&
                            client->command.type != COMMAND_TXN;
        request->entry = command_encode(&client->command);
        request->token_us = client->command.token_us;
    }
    struct event event = {.kind = EVENT_REQUEST, .node = node, .data = request};
    uint64_t delay = sim_exponential(&sim->work_random, CLIENT_DELAY_NS);
    sim_push(sim, sim->now_ns + delay, &event);
    uint64_t patience = sim->swarm.request_timeout_ns * 3 / 2 + 50 * SIM_MS;
    if (prng_chance(&sim->work_random, 100000)) patience /= 8;
    push_client(sim, patience, EVENT_CLIENT_GIVE_UP, client, client->attempt);
}

static void begin_operation(struct sim *sim, struct client *client, bool is_read, uint32_t node)
{
    client->is_busy = true;
    client->is_read = is_read;
    client->attempts_count = 0;
    client->ops_count++;
    if (is_read) {
        draw_read(sim, client);
    } else {
        draw_write(sim, client);
    }
    send_request(sim, client, node);
}

static uint32_t draw_node(struct sim *sim)
{
    return (uint32_t)prng_below(&sim->work_random, sim->swarm.nodes_count);
}

static void on_client_next(struct sim *sim, struct client *client)
{
    if (sim->takes_no_more || client->is_busy) return;
    bool is_read = prng_chance(&sim->work_random, sim->swarm.read_ppm);
    begin_operation(sim, client, is_read, draw_node(sim));
}

void workload_probe(struct sim *sim, uint32_t node, bool is_read)
{
    struct client *client = &sim->clients[0];
    TL_ASSERT(!client->is_busy);
    begin_operation(sim, client, is_read, node);
    client->attempts_count = ATTEMPTS_MAX; /* it has to succeed at once */
}

/* ---- answers ---- */

static void request_free(struct request *request)
{
    buf_release(request->entry);
    for (size_t i = 0; i < SIM_KEYS_MAX; i++) buf_release(request->judgement.values[i]);
    buf_release(request->judgement.results);
    free(request);
}

static void unlink_request(struct request *request)
{
    struct request **at = &request->sim->requests;
    while (*at != request) at = &(*at)->next;
    *at = request->next;
}

static enum attempt_state state_of(enum tl_err err)
{
    if (err == TL_OK) return ATTEMPT_OK;
    return err == TL_ERR_UNKNOWN ? ATTEMPT_UNKNOWN : ATTEMPT_DEFINITE;
}

/* The request has an outcome at the node: judged, told to the client, freed. */
static void finish(struct request *request, enum tl_err err, bool is_answered)
{
    struct sim *sim = request->sim;
    struct sim_counters *counters = &sim->result->counters;
    struct reply *reply = calloc(1, sizeof *reply);
    TL_ASSERT(reply != NULL);
    *reply = (struct reply){.client = request->client,
                            .attempt = request->attempt,
                            .key = request->judgement.keys[0],
                            .err = is_answered ? err : TL_ERR_UNKNOWN};
    sim_trace(sim, "attempt %" PRIu64 " at n%u: %s", request->attempt, request->node,
              is_answered ? tl_err_name(err) : "broken");
    counters->outcomes_replaced += is_answered && err == TL_ERR_REPLACED;
    counters->outcomes_no_space += is_answered && err == TL_ERR_NO_SPACE;
    counters->outcomes_map_full += is_answered && err == TL_ERR_MAP_FULL;
    counters->outcomes_full += is_answered && err == TL_ERR_FULL;
    counters->outcomes_unknown += is_answered && err == TL_ERR_UNKNOWN;
    counters->outcomes_refused += is_answered && state_of(err) == ATTEMPT_DEFINITE;
    oracle_on_attempt_done(sim, request->attempt, state_of(reply->err));
    if (is_answered && err == TL_OK) {
        const struct judgement *judgement = &request->judgement;
        reply->index = request->is_read ? judgement->applied : judgement->result.index;
        reply->time_us = judgement->result.time_us;
        reply->revision = judgement->result.revision;
        oracle_judge(sim, judgement);
        memset(request->judgement.values, 0, sizeof request->judgement.values);
        request->judgement.results = NULL;
    }
    struct event event = {.kind = EVENT_REPLY, .node = SIM_WORLD, .data = reply};
    uint64_t delay = sim_exponential(&sim->work_random, CLIENT_DELAY_NS);
    sim_push(sim, sim->now_ns + delay, &event);
    request_free(request);
}

static bool is_broken(const struct request *request)
{
    const struct sim_node *node = &request->sim->nodes[request->node];
    return node->is_crashing || node->incarnation != request->incarnation;
}

static void write_done(struct node_write *write, enum tl_err err, const struct kv_result *result)
{
    struct request *request = write->context;
    unlink_request(request);
    if (err == TL_OK) {
        struct judgement *judgement = &request->judgement;
        if (request->may_grow && (result->flags & KV_RESULT_REPLAYED) == 0) {
            full_judge_write(request->sim, &request->sim->attempts[request->attempt - 1]);
        }
        judgement->result = *result;
        judgement->results = buf_copy(result->results);
        judgement->result.results = buf_bytes(judgement->results);
    }
    finish(request, err, !is_broken(request));
}

static void read_now(struct request *request)
{
    struct sim *sim = request->sim;
    struct sim_node *node = &sim->nodes[request->node];
    if (is_broken(request) || !reading_read(sim, node, &request->judgement)) {
        finish(request, TL_ERR_UNKNOWN, false);
        return;
    }
    finish(request, TL_OK, true);
    if (!sim->swarm.reads_are_inline) oracle_observe(sim, node);
}

/* On the loop at once, or a little later as a loop of its own would. */
static void read_soon(struct request *request)
{
    struct sim *sim = request->sim;
    if (sim->swarm.reads_are_inline) {
        read_now(request);
        return;
    }
    struct event event = {.kind = EVENT_READ_NOW, .node = request->node, .data = request};
    sim_push(sim, sim->now_ns + prng_below(&sim->work_random, 200 * SIM_US), &event);
}

static void read_ready(struct node_read *read, enum tl_err err)
{
    struct request *request = read->context;
    unlink_request(request);
    if (err == TL_OK && !is_broken(request)) {
        read_soon(request);
    } else {
        finish(request, err, !is_broken(request));
    }
}

/* ---- at the node ---- */

static void link_request(struct request *request)
{
    request->next = request->sim->requests;
    request->sim->requests = request;
}

static void start_write(struct sim_node *node, struct request *request)
{
    const struct node_write write = {
        .group = NODE_DATA_GROUP,
        .entry = TL_TAKE(&request->entry),
        .deadline_ns = request->read.deadline_ns,
        .token_us = request->token_us,
        .is_keyed = request->sim->attempts[request->attempt - 1].is_keyed,
        .on_done = write_done,
        .context = request,
    };
    request->write = write;
    link_request(request);
    enum tl_err err = node_write(node->node, &request->write);
    if (err == TL_OK) return;
    unlink_request(request);
    request->entry = write.entry;
    finish(request, err, true);
}

static void start_read(struct sim_node *node, struct request *request)
{
    request->read.group = NODE_DATA_GROUP;
    request->read.consistency = request->judgement.consistency;
    request->read.token_us = request->judgement.token_us;
    request->read.on_ready = read_ready;
    request->read.context = request;
    link_request(request);
    bool is_ready = false;
    enum tl_err err = node_read(node->node, &request->read, &is_ready);
    if (err == TL_OK && !is_ready) return;
    unlink_request(request);
    if (err == TL_OK) {
        read_soon(request);
    } else {
        finish(request, err, true);
    }
}

static void on_request(struct sim *sim, struct request *request)
{
    struct sim_node *node = &sim->nodes[request->node];
    request->incarnation = node->incarnation;
    sim_trace(sim, "attempt %" PRIu64 " of client %u comes to n%u: %s %d", request->attempt,
              request->client, request->node, request->is_read ? "read" : "write",
              (int)request->judgement.consistency);
    if (node->node == NULL) {
        finish(request, TL_ERR_NO_LEADER, true); /* connection refused */
        return;
    }
    request->read.deadline_ns = host_node_time(node, sim->now_ns) + sim->swarm.request_timeout_ns;
    if (request->is_read) {
        start_read(node, request);
    } else {
        start_write(node, request);
    }
    host_wake(sim, node);
}

/* ---- back at the client ---- */

static void on_reply(struct sim *sim, const struct reply *reply)
{
    struct client *client = &sim->clients[reply->client];
    if (!client->is_busy || client->attempt != reply->attempt) return; /* given up */
    if (client->is_waiting) return;
    if (reply->err == TL_OK) {
        client->ops_answered_count++;
        bool is_fresh = !client->is_read || client->consistency == NODE_LINEARIZABLE;
        if (is_fresh) sim->acked_index = TL_MAX(sim->acked_index, reply->index);
        client->token_us = TL_MAX(client->token_us, reply->time_us);
        if (!client->is_read) sim->last_revision[reply->key] = reply->revision;
        push_next(sim, client);
        return;
    }
    /* What certainly did not happen may always be asked again, what may have only with a key. */
    bool may_repeat = state_of(reply->err) == ATTEMPT_DEFINITE || client->is_read ||
                      client->command.has_idempotency_key;
    if (may_repeat && client->attempts_count < ATTEMPTS_MAX &&
        prng_chance(&sim->work_random, 700000)) {
        client->is_waiting = true;
        push_client(sim, sim_exponential(&sim->work_random, REPEAT_DELAY_NS), EVENT_CLIENT_REPEAT,
                    client, client->attempt);
    } else {
        push_next(sim, client);
    }
}

static void on_repeat(struct sim *sim, struct client *client, uint64_t attempt)
{
    TL_ASSERT(client->is_busy);
    TL_ASSERT(client->attempt == attempt);
    send_request(sim, client, draw_node(sim));
}

/* Closes its connection: the server may notice. */
static void on_give_up(struct sim *sim, struct client *client, uint64_t attempt)
{
    if (!client->is_busy || client->attempt != attempt || client->is_waiting) return;
    struct request *request = sim->requests;
    while (request != NULL && request->attempt != attempt) request = request->next;
    if (request != NULL && !is_broken(request) && prng_chance(&sim->work_random, 500000)) {
        struct node *node = sim->nodes[request->node].node;
        unlink_request(request);
        if (request->is_read) {
            node_read_cancel(node, &request->read);
        } else {
            node_write_cancel(node, &request->write);
        }
        oracle_on_attempt_done(sim, attempt, ATTEMPT_UNKNOWN);
        request_free(request);
    }
    const struct reply reply = {
        .client = client->number, .attempt = attempt, .err = TL_ERR_UNKNOWN};
    on_reply(sim, &reply);
}

void workload_drop_event(const struct event *event)
{
    if (event->kind == EVENT_REQUEST || event->kind == EVENT_READ_NOW) request_free(event->data);
    if (event->kind == EVENT_REPLY) free(event->data);
}

void workload_on_event(struct sim *sim, const struct event *event)
{
    switch (event->kind) {
    case EVENT_REQUEST:
        on_request(sim, event->data);
        break;
    case EVENT_READ_NOW:
        read_now(event->data);
        break;
    case EVENT_REPLY:
        on_reply(sim, event->data);
        free(event->data);
        break;
    case EVENT_CLIENT_NEXT:
        on_client_next(sim, &sim->clients[event->peer]);
        break;
    case EVENT_CLIENT_REPEAT:
        on_repeat(sim, &sim->clients[event->peer], event->a);
        break;
    case EVENT_CLIENT_GIVE_UP:
        on_give_up(sim, &sim->clients[event->peer], event->a);
        break;
    default:
        TL_ASSERT(false);
    }
}
