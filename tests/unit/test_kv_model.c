/* kv_model: seeded random commands against a model that shares no code with the state machine.
 *
 * The model keeps plain arrays and asks jansson and strtoll what a value is. The same log also goes
 * to a second replica that is stopped and started from its encoded state now and then: at the end
 * both must hold the same bytes.
 */

#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "kv_fixture.h"
#include "trilith/prng.h"
#include "trilith/txn.h"

#define SEEDS_COUNT 60u
#define COMMANDS_COUNT 1500u
#define KEYS_COUNT 6u
#define IDEMPOTENCY_KEYS_COUNT 24u
#define MODEL_VALUE_BYTES_MAX 256u
#define MODEL_RECORDS_MAX (COMMANDS_COUNT + 1u)

struct model_row {
    bool is_there;
    char value[MODEL_VALUE_BYTES_MAX];
    const char *content_type;
    uint64_t create_revision;
    uint64_t revision;
    uint64_t version;
};

/* A transaction that was asked for; kept to the end, for repeats. */
struct model_txn {
    struct txn txn; /* borrows static texts and `compared` */
    char compared[2][MODEL_VALUE_BYTES_MAX];
    struct buf *body;    /* encoded: what a command's value points to */
    struct buf *results; /* what was expected of it when it was carried out; NULL: nothing yet */
    struct model_txn *next;
};

struct model_record {
    uint64_t key;
    struct command command; /* borrows static texts */
    uint64_t time_us;
    struct kv_result result;
};

struct model {
    struct model_row rows[KEYS_COUNT];
    uint64_t revision;
    struct model_record records[MODEL_RECORDS_MAX];
    size_t records_first;
    size_t records_next;
    struct model_txn *txns;
};

static const char *const key_texts[KEYS_COUNT] = {"a", "b", "bb", "c/d", "e", "\xc3\xa9"};
static const char *const content_types[] = {"text/plain", "application/json",
                                            "Application/JSON; charset=utf-8"};
static const char *const values[] = {
    "[]",  "[\"a\"]", "[1]",  "{\"x\":1}",          "5", "-12", "\"s\"",
    "cat", "",        "null", "9223372036854775800"};
static const char *const elements[] = {"\"c\"", "\"]\"", "7"};

/* How often each outcome was seen in all runs: a run in which nothing happens proves nothing. */
static uint64_t seen_count[KV_STATUS_LAST + 1];
static uint64_t else_count;
static uint64_t results_dropped_count;
static uint64_t replayed_count;
static uint64_t evicted_count;

/* ---- the model ---- */

/* The value as a JSON array; NULL: it is none, or its content type is another. */
static json_t *as_array(const struct model_row *row)
{
    if (strcmp(row->content_type, "text/plain") == 0) {
        return NULL;
    }
    json_t *array = json_loads(row->value, 0, NULL);
    if (!json_is_array(array)) {
        json_decref(array);
        return NULL;
    }
    return array;
}

static bool are_all_strings(const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (!json_is_string(json_array_get(array, i))) {
            return false;
        }
    }
    return true;
}

/* The array with `element` behind the last, as text. */
static enum kv_status extend_array(const char *element, json_t *array,
                                   char out_value[MODEL_VALUE_BYTES_MAX])
{
    cr_assert_eq(json_array_append_new(array, json_loads(element, JSON_DECODE_ANY, NULL)), 0);
    char *text = json_dumps(array, JSON_COMPACT | JSON_ENSURE_ASCII);
    cr_assert_lt(strlen(text), MODEL_VALUE_BYTES_MAX);
    (void)snprintf(out_value, MODEL_VALUE_BYTES_MAX, "%s", text);
    free(text);
    return KV_REPLACED;
}

static enum kv_status model_append(const struct model_row *row, const struct command *command,
                                   struct model_row *out_row)
{
    const char *body = (const char *)command->value.data;
    if (!row->is_there) {
        out_row->content_type = (const char *)command->content_type.data;
        (void)snprintf(out_row->value, MODEL_VALUE_BYTES_MAX, "%s", body);
        return KV_CREATED;
    }
    if (strcmp(row->content_type, "text/plain") == 0) {
        (void)snprintf(out_row->value, MODEL_VALUE_BYTES_MAX, "%s%s", row->value, body);
        return KV_REPLACED;
    }
    json_t *array = as_array(row);
    enum kv_status status = KV_NOT_LIST;
    if (array != NULL && command->value_is_json) {
        status = extend_array(body, array, out_row->value);
    }
    json_decref(array);
    return status;
}

static enum kv_status model_list_append(const struct model_row *row, const struct command *command,
                                        struct model_row *out_row)
{
    const char *element = (const char *)command->value.data;
    if (element[0] != '"') {
        return KV_NOT_LIST;
    }
    bool is_empty = !row->is_there || row->value[0] == '\0';
    json_t *array = is_empty ? json_array() : as_array(row);
    enum kv_status status = KV_NOT_LIST;
    if (array != NULL && are_all_strings(array)) {
        if (json_array_size(array) == 0) {
            out_row->content_type = "application/json";
        }
        status = extend_array(element, array, out_row->value);
    }
    json_decref(array);
    return status == KV_REPLACED && !row->is_there ? KV_CREATED : status;
}

static enum kv_status model_increment(const struct model_row *row, const struct command *command,
                                      struct model_row *out_row, int64_t *out_number)
{
    long long number = 0;
    if (row->is_there) {
        char *end;
        errno = 0;
        number = strtoll(row->value, &end, 10);
        if (errno != 0 || end == row->value || *end != 0) {
            return KV_NOT_INTEGER;
        }
    } else {
        out_row->content_type = "text/plain";
    }
    if (command->by > 0 ? number > INT64_MAX - command->by : number < INT64_MIN - command->by) {
        return KV_OVERFLOW;
    }
    *out_number = number + command->by;
    (void)snprintf(out_row->value, MODEL_VALUE_BYTES_MAX, "%lld", (long long)*out_number);
    return row->is_there ? KV_REPLACED : KV_CREATED;
}

/* Makes the new row of a command that is no delete; *out_row starts as the old one. */
static enum kv_status model_value(const struct model_row *row, const struct command *command,
                                  struct model_row *out_row, int64_t *out_number)
{
    if (command->type == COMMAND_INCR) {
        return model_increment(row, command, out_row, out_number);
    }
    if (command->type == COMMAND_PUT) {
        out_row->content_type = (const char *)command->content_type.data;
        (void)snprintf(out_row->value, MODEL_VALUE_BYTES_MAX, "%s",
                       (const char *)command->value.data);
        return row->is_there ? KV_REPLACED : KV_CREATED;
    }
    enum kv_status status = command->type == COMMAND_APPEND
                                ? model_append(row, command, out_row)
                                : model_list_append(row, command, out_row);
    if (status == KV_NOT_LIST) {
        return status;
    }
    if (strlen(out_row->value) > command->value_bytes_max) {
        return KV_TOO_LARGE;
    }
    *out_number = (int64_t)strlen(out_row->value);
    return status;
}

static bool model_condition(const struct model_row *row, const struct command *command)
{
    bool is_match = row->is_there && row->revision == command->condition_revision;
    return command->condition == CONDITION_NONE ||
           (command->condition == CONDITION_EXISTS && row->is_there) ||
           (command->condition == CONDITION_ABSENT && !row->is_there) ||
           (command->condition == CONDITION_REVISION && is_match);
}

static struct kv_result model_request(struct model *model, size_t key_at,
                                      const struct command *command)
{
    struct model_row *row = &model->rows[key_at];
    struct kv_result result = {.revision = row->is_there ? row->revision : 0,
                               .version = row->is_there ? row->version : 0};
    if (!model_condition(row, command)) {
        result.status = KV_CONDITION_FAILED;
        return result;
    }
    if (command->type == COMMAND_DELETE) {
        result.status = row->is_there ? KV_DELETED : KV_NOT_FOUND;
        if (row->is_there) {
            result.revision = ++model->revision;
            result.version = 0;
        }
        row->is_there = false;
        return result;
    }
    struct model_row next = *row;
    int64_t number = 0;
    result.status = model_value(row, command, &next, &number);
    if (result.status == KV_CREATED || result.status == KV_REPLACED) {
        next.is_there = true;
        next.revision = ++model->revision;
        next.create_revision = row->is_there ? row->create_revision : next.revision;
        next.version = row->is_there ? row->version + 1 : 1;
        *row = next;
        result.revision = next.revision;
        result.version = next.version;
        result.number = number;
    }
    return result;
}

/* ---- transactions: every operation against the rows as they were ---- */

static size_t key_index(struct bytes key)
{
    size_t at = 0;
    while (!bytes_equal(bytes_of(key_texts[at]), key)) at++;
    return at;
}

static bool model_txn_condition(const struct model *model, const struct txn_condition *condition)
{
    const struct model_row *row = &model->rows[key_index(condition->key)];
    switch (condition->type) {
    case TXN_IF_REVISION:
        return condition->number == (row->is_there ? row->revision : 0);
    case TXN_IF_VERSION:
        return condition->number == (row->is_there ? row->version : 0);
    case TXN_IF_EXISTS:
        return row->is_there == (condition->number == 1);
    case TXN_IF_VALUE:
        break;
    }
    return row->is_there && bytes_equal(bytes_of(row->value), condition->value);
}

/* Carries one operation out on `after`; the rows before it are those of `before`. */
static struct txn_result model_txn_op(const struct model *before, struct model *after,
                                      const struct command *command, const struct txn_op *op)
{
    size_t at = key_index(op->key);
    const struct model_row *row = &before->rows[at];
    if (op->type == COMMAND_GET) {
        struct txn_result found = {.status = KV_FOUND, .revision = row->revision};
        found.version = row->version;
        found.content_type = bytes_of(row->is_there ? row->content_type : "");
        found.value = bytes_of(row->value);
        return row->is_there ? found : (struct txn_result){.status = KV_NOT_FOUND};
    }
    struct command single = *command;
    single.type = op->type;
    single.value_is_json = op->value_is_json;
    single.by = op->by;
    single.content_type = op->content_type;
    single.value = op->value;
    struct model scratch = {.revision = before->revision};
    scratch.rows[at] = *row;
    struct kv_result result = model_request(&scratch, at, &single);
    after->rows[at] = scratch.rows[at];
    if (scratch.revision > before->revision) after->revision = scratch.revision;
    bool is_absent = result.status == KV_NOT_FOUND;
    return (struct txn_result){.status = result.status,
                               .revision = is_absent ? 0 : result.revision,
                               .version = result.version,
                               .number = result.number};
}

static struct kv_result model_txn(struct model *model, const struct command *command)
{
    struct model_txn *txn = model->txns;
    while (txn->body->data != command->value.data) txn = txn->next;
    bool holds = true;
    for (uint32_t i = 0; i < txn->txn.conditions_count; i++) {
        holds = holds && model_txn_condition(model, &txn->txn.conditions[i]);
    }
    enum txn_branch branch = holds ? TXN_THEN : TXN_ELSE;
    struct kv_result result = {.status = KV_TXN, .flags = holds ? 0 : KV_RESULT_ELSE};
    struct model *after = malloc(sizeof *after);
    *after = *model;
    struct buf *results = buf_create(65536);
    for (uint32_t i = 0; i < txn->txn.ops_count[branch] && result.status == KV_TXN; i++) {
        struct txn_result one = model_txn_op(model, after, command, &txn->txn.ops[branch][i]);
        if (one.status > KV_NOT_FOUND && one.status != KV_FOUND) {
            result.status = one.status;
            result.number = i;
        }
        txn_result_encode(&one, results);
    }
    buf_release(txn->results);
    txn->results = results;
    if (result.status == KV_TXN) {
        *model = *after;
        result.results = buf_bytes(results);
    }
    result.revision = model->revision;
    free(after);
    return result;
}

static bool is_same_request(const struct command *a, const struct command *b)
{
    return a->type == b->type && a->condition == b->condition &&
           a->condition_revision == b->condition_revision && a->by == b->by &&
           bytes_equal(a->key, b->key) && bytes_equal(a->content_type, b->content_type) &&
           bytes_equal(a->value, b->value);
}

static void model_evict(struct model *model, uint64_t now_us, size_t records_max)
{
    for (int i = 0; i < 4 && model->records_first < model->records_next; i++) {
        uint64_t age_us = now_us - model->records[model->records_first].time_us;
        bool is_full = model->records_next - model->records_first >= records_max;
        if (age_us <= 300000000u && !(is_full && age_us > 60000000u)) {
            break;
        }
        model->records_first++;
        evicted_count++;
    }
}

static struct kv_result model_any(struct model *model, size_t key_at, const struct command *command)
{
    return command->type == COMMAND_TXN ? model_txn(model, command)
                                        : model_request(model, key_at, command);
}

static struct kv_result model_apply(struct model *model, size_t key_at,
                                    const struct command *command, uint64_t now_us)
{
    if (!command->has_idempotency_key) {
        return model_any(model, key_at, command);
    }
    for (size_t i = model->records_first; i < model->records_next; i++) {
        const struct model_record *record = &model->records[i];
        if (record->key != command->idempotency_key.low) {
            continue;
        }
        if (!is_same_request(&record->command, command)) {
            return (struct kv_result){.status = KV_KEY_REUSED};
        }
        struct kv_result result = record->result;
        result.flags |= KV_RESULT_REPLAYED;
        return result;
    }
    model_evict(model, now_us, command->records_max);
    if (model->records_next - model->records_first >= command->records_max) {
        uint64_t age_us =
            now_us - model->records[model->records_next - command->records_max].time_us;
        uint64_t wait_us = age_us > RECORD_KEEP_MIN_US ? 0 : RECORD_KEEP_MIN_US + 1 - age_us;
        return (struct kv_result){.status = KV_NO_ROOM, .number = (int64_t)wait_us};
    }
    struct model_record record = {.key = command->idempotency_key.low, .time_us = now_us};
    record.command = *command;
    struct kv_result result = model_any(model, key_at, command);
    record.result = result;
    if (result.results.count > RECORD_RESULTS_BYTES_MAX) {
        record.result.results.count = 0;
        results_dropped_count++;
    }
    model->records[model->records_next++] = record;
    return result;
}

static void assert_rows_are_the_models(const struct kv_fixture *fixture, const struct model *model)
{
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        const struct model_row *expected = &model->rows[i];
        struct row_header header;
        struct bytes content_type;
        struct bytes value;
        bool is_there = kv_fixture_row(fixture, key_texts[i], &header, &content_type, &value);
        cr_assert_eq(is_there, expected->is_there);
        if (is_there) {
            assert_value(fixture, key_texts[i], expected->content_type, expected->value);
            cr_assert_eq(header.create_revision, expected->create_revision);
            cr_assert_eq(header.revision, expected->revision);
            cr_assert_eq(header.version, expected->version);
        }
    }
}

/* ---- random commands ---- */

static const char *pick(struct prng *prng, const char *const *texts, size_t texts_count)
{
    return texts[prng_below(prng, texts_count)];
}

static bool is_json(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    json_decref(json);
    return json != NULL;
}

static struct command random_command(struct prng *prng, const struct model *model, size_t key_at)
{
    struct command command = {
        .type = (enum command_type)prng_between(prng, COMMAND_PUT, COMMAND_LIST_APPEND),
        .by = (int64_t)prng_below(prng, 20) - 10,
        .origin = prng_below(prng, 3),
        .value_bytes_max = prng_chance(prng, 200000) ? 8 : 60,
        .records_max = prng_chance(prng, 300000) ? 3 : 8,
        .key = bytes_of(key_texts[key_at]),
        .content_type = bytes_of(pick(prng, content_types, TL_COUNT_OF(content_types))),
    };
    if (prng_chance(prng, 200000)) {
        command.by = prng_chance(prng, 500000) ? INT64_MAX : INT64_MIN;
    }
    const char *value = command.type == COMMAND_APPEND || command.type == COMMAND_LIST_APPEND
                            ? pick(prng, elements, TL_COUNT_OF(elements))
                            : pick(prng, values, TL_COUNT_OF(values));
    command.value = bytes_of(value);
    command.value_is_json = is_json(value) && prng_chance(prng, 900000);
    if (prng_chance(prng, 300000)) {
        command.condition =
            (enum command_condition)prng_between(prng, CONDITION_REVISION, CONDITION_ABSENT);
        command.condition_revision = model->rows[key_at].revision - prng_below(prng, 2);
    }
    return command;
}

static struct txn_condition random_condition(struct prng *prng, const struct model *model,
                                             char compared[MODEL_VALUE_BYTES_MAX])
{
    size_t at = prng_below(prng, KEYS_COUNT);
    const struct model_row *row = &model->rows[at];
    struct txn_condition condition = {
        .type = (enum txn_condition_type)prng_between(prng, TXN_IF_REVISION, TXN_IF_EXISTS),
        .key = bytes_of(key_texts[at]),
    };
    bool is_right = prng_chance(prng, 800000);
    switch (condition.type) {
    case TXN_IF_REVISION:
        condition.number = (row->is_there ? row->revision : 0) + !is_right;
        break;
    case TXN_IF_VERSION:
        condition.number = (row->is_there ? row->version : 0) + !is_right;
        break;
    case TXN_IF_EXISTS:
        condition.number = row->is_there == is_right;
        break;
    case TXN_IF_VALUE:
        (void)snprintf(compared, MODEL_VALUE_BYTES_MAX, "%s", is_right ? row->value : "another");
        condition.value = bytes_of(compared);
        break;
    }
    return condition;
}

/* Operations on `count` keys in a random order, so that none is written twice; gets in between. */
static uint32_t random_branch(struct prng *prng, const struct model *model, uint32_t count,
                              struct txn_op *out_ops)
{
    size_t first = prng_below(prng, KEYS_COUNT);
    uint32_t ops_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct command command = random_command(prng, model, (first + i) % KEYS_COUNT);
        if (command.type == COMMAND_LIST_APPEND) command.type = COMMAND_PUT;
        struct txn_op op = {.type = command.type, .key = command.key};
        if (command.type == COMMAND_INCR) op.by = command.by;
        if (command.type == COMMAND_PUT || command.type == COMMAND_APPEND) {
            op.content_type = command.content_type;
            op.value = command.value;
            op.value_is_json = command.value_is_json;
        }
        out_ops[ops_count++] = op;
        uint64_t gets_count = prng_chance(prng, 50000) ? 40 : prng_below(prng, 2);
        for (uint64_t g = 0; g < gets_count && ops_count < TXN_LIST_MAX; g++) {
            out_ops[ops_count++] = (struct txn_op){
                .type = COMMAND_GET, .key = bytes_of(key_texts[prng_below(prng, KEYS_COUNT)])};
        }
        if (ops_count == TXN_LIST_MAX) break;
    }
    return ops_count;
}

/* Makes the command a transaction. */
static void make_txn(struct prng *prng, struct model *model, struct command *command)
{
    struct model_txn *txn = calloc(1, sizeof *txn);
    txn->next = model->txns;
    model->txns = txn;
    txn->txn.conditions_count = (uint32_t)prng_below(prng, 3);
    for (uint32_t i = 0; i < txn->txn.conditions_count; i++) {
        txn->txn.conditions[i] = random_condition(prng, model, txn->compared[i]);
    }
    for (uint32_t branch = 0; branch < TXN_BRANCHES_COUNT; branch++) {
        txn->txn.ops_count[branch] = random_branch(
            prng, model, (uint32_t)prng_below(prng, KEYS_COUNT), txn->txn.ops[branch]);
    }
    txn->body = txn_encode(&txn->txn);
    command->type = COMMAND_TXN;
    command->condition = CONDITION_NONE;
    command->condition_revision = 0;
    command->by = 0;
    command->value_is_json = false;
    command->key = bytes_make(NULL, 0);
    command->content_type = bytes_make(NULL, 0);
    command->value = buf_bytes(txn->body);
}

static void free_txns(struct model *model)
{
    while (model->txns != NULL) {
        struct model_txn *txn = model->txns;
        model->txns = txn->next;
        buf_release(txn->body);
        buf_release(txn->results);
        free(txn);
    }
}

/* Gives the command an idempotency key, or makes it the repeat of a recent one. */
static void add_key(struct prng *prng, const struct model *model, struct command *command,
                    size_t *key_at)
{
    if (model->records_next > 0 && prng_chance(prng, 300000)) {
        size_t back = prng_below(prng, TL_MIN(model->records_next, 6)) + 1;
        *command = model->records[model->records_next - back].command;
        for (size_t i = 0; i < KEYS_COUNT; i++) {
            if (bytes_equal(command->key, bytes_of(key_texts[i]))) *key_at = i;
        }
    } else if (prng_chance(prng, 500000)) {
        command->has_idempotency_key = true;
        command->idempotency_key.low = prng_below(prng, IDEMPOTENCY_KEYS_COUNT);
    }
}

static uint64_t random_pause_us(struct prng *prng)
{
    static const uint64_t pauses[] = {0, 0, 1000, 1000000, 20000000, 61000000, 301000000};
    return pauses[prng_below(prng, TL_COUNT_OF(pauses))];
}

/* ---- the runs ---- */

/* Stops the replica and starts it from its state as it is stored. */
static void restart(struct kv_fixture *fixture)
{
    static uint8_t stored[GROUP_STATE_BYTES_MAX];
    size_t count = group_state_encode(&fixture->state.group, bytes_make(NULL, 0), stored);
    struct group_state state;
    struct bytes conf;
    cr_assert_eq(group_state_decode(bytes_make(stored, count), &state, &conf), TL_OK);
    kv_state_deinit(&fixture->state);
    kv_state_init(&fixture->state, &state);
}

/* Pointers differ. */
static bool is_same_result(const struct kv_result *a, const struct kv_result *b)
{
    return a->status == b->status && a->flags == b->flags && a->revision == b->revision &&
           a->version == b->version && a->number == b->number && a->time_us == b->time_us &&
           a->group_revision == b->group_revision && a->index == b->index &&
           bytes_equal(a->results, b->results);
}

static void assert_result_is(const struct kv_result *expected, const struct kv_result *actual,
                             uint64_t seed, uint32_t step)
{
    cr_assert(bytes_equal(actual->results, expected->results), "seed %lu step %u",
              (unsigned long)seed, step);
    cr_assert_eq(actual->status, expected->status, "seed %lu step %u: %d, not %d",
                 (unsigned long)seed, step, (int)actual->status, (int)expected->status);
    cr_assert_eq(actual->flags, expected->flags, "seed %lu step %u", (unsigned long)seed, step);
    cr_assert_eq(actual->revision, expected->revision, "seed %lu step %u", (unsigned long)seed,
                 step);
    cr_assert_eq(actual->version, expected->version, "seed %lu step %u", (unsigned long)seed, step);
    cr_assert_eq(actual->number, expected->number, "seed %lu step %u", (unsigned long)seed, step);
}

static void run(uint64_t seed)
{
    struct prng prng;
    prng_init(&prng, seed);
    struct model *model = calloc(1, sizeof *model);
    model->revision = 1;
    struct kv_fixture a;
    struct kv_fixture b;
    kv_fixture_init(&a);
    kv_fixture_init(&b);
    for (uint32_t step = 0; step < COMMANDS_COUNT; step++) {
        size_t key_at = prng_below(&prng, KEYS_COUNT);
        struct command command = random_command(&prng, model, key_at);
        if (prng_chance(&prng, 250000)) make_txn(&prng, model, &command);
        add_key(&prng, model, &command, &key_at);
        a.time_us += random_pause_us(&prng);
        b.time_us = a.time_us;
        struct kv_result expected = model_apply(model, key_at, &command, a.time_us);
        struct kv_result result_a = kv_fixture_do(&a, &command);
        struct kv_result result_b = kv_fixture_do(&b, &command);
        assert_result_is(&expected, &result_a, seed, step);
        cr_assert(is_same_result(&result_a, &result_b));
        cr_assert_eq(a.state.group.revision, model->revision);
        cr_assert_eq(a.state.group.records_first, model->records_first);
        cr_assert_eq(a.state.group.records_next, model->records_next);
        seen_count[result_a.status]++;
        else_count += (result_a.flags & KV_RESULT_ELSE) != 0;
        replayed_count += (result_a.flags & KV_RESULT_REPLAYED) != 0;
        if (prng_chance(&prng, 20000)) {
            restart(&b);
        }
    }
    assert_rows_are_the_models(&a, model);
    cr_assert_eq(memcmp(&a.state.group, &b.state.group, sizeof a.state.group), 0);
    cr_assert(kv_fake_equal(a.table, b.table));
    kv_fixture_deinit(&a);
    kv_fixture_deinit(&b);
    free_txns(model);
    free(model);
}

Test(kv_model, every_outcome_is_the_models_and_replicas_are_byte_identical)
{
    for (uint64_t seed = 1; seed <= SEEDS_COUNT; seed++) run(seed);
    for (size_t status = KV_CREATED; status <= KV_TXN; status++) {
        cr_assert_geq(seen_count[status], SEEDS_COUNT, "outcome %zu was seen %lu times", status,
                      (unsigned long)seen_count[status]);
    }
    cr_assert_geq(else_count, 20 * SEEDS_COUNT);
    cr_assert_geq(results_dropped_count, SEEDS_COUNT);
    cr_assert_geq(replayed_count, 100 * SEEDS_COUNT);
    cr_assert_geq(evicted_count, 100 * SEEDS_COUNT);
}
