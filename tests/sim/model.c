/* model.c - the sequential machine. Linear searches throughout: a run has a handful of keys, and a
 * model must be easy to believe. */

#include "model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MODEL_RESULTS_BYTES_MAX 65536u /* what the workload asks for is far below */

void model_init(struct model *model)
{
    *model = (struct model){0};
}

void model_deinit(struct model *model)
{
    for (size_t k = 0; k < model->keys_count; k++) {
        struct model_key *key = &model->keys[k];
        for (size_t v = 0; v < key->versions_count; v++) buf_release(key->versions[v].value);
        buf_release(key->key);
        free(key->versions);
    }
    for (size_t i = 0; i < model->steps_count; i++) buf_release(model->steps[i].results);
    free(model->keys);
    free(model->steps);
    free(model->records);
    *model = (struct model){0};
}

/* Room for one more in an array that doubles. */
static void *grow(void *array, size_t count, size_t *capacity, size_t item_bytes)
{
    if (count < *capacity) return array;
    *capacity = *capacity == 0 ? 64 : 2 * *capacity;
    array = realloc(array, *capacity * item_bytes);
    TL_ASSERT(array != NULL);
    return array;
}

static struct model_key *key_of(const struct model *model, struct bytes key)
{
    for (size_t i = 0; i < model->keys_count; i++) {
        if (bytes_equal(buf_bytes(model->keys[i].key), key)) return &model->keys[i];
    }
    return NULL;
}

static struct model_key *key_make(struct model *model, struct bytes key)
{
    struct model_key *found = key_of(model, key);
    if (found != NULL) return found;
    model->keys = realloc(model->keys, (model->keys_count + 1) * sizeof *model->keys);
    TL_ASSERT(model->keys != NULL);
    found = &model->keys[model->keys_count++];
    *found = (struct model_key){.key = buf_copy(key)};
    return found;
}

const struct model_version *model_find(const struct model *model, struct bytes key,
                                       raft_index index)
{
    const struct model_key *found = key_of(model, key);
    if (found == NULL) return NULL;
    for (size_t i = found->versions_count; i > 0; i--) {
        if (found->versions[i - 1].index <= index) return &found->versions[i - 1];
    }
    return NULL;
}

const struct model_step *model_step(const struct model *model, raft_index index)
{
    TL_ASSERT(index >= 1);
    TL_ASSERT(index <= model->steps_count);
    return &model->steps[index - 1];
}

static struct model_record *record_find(const struct model *model, struct hash128 key)
{
    for (size_t i = model->records_count; i > model->records_first; i--) {
        struct model_record *record = &model->records[i - 1];
        if (hash_equal(record->key, key)) return record;
    }
    return NULL;
}

/* Whether `text` is a whole decimal number that fits. */
static bool parse_integer(struct bytes text, int64_t *out_number)
{
    char copy[24];
    if (text.count == 0 || text.count >= sizeof copy) return false;
    memcpy(copy, text.data, text.count);
    copy[text.count] = '\0';
    size_t digits = copy[0] == '-' ? 1 : 0;
    if (strspn(copy + digits, "0123456789") != text.count - digits) return false;
    if (text.count == digits) return false;
    return sscanf(copy, "%" SCNd64, out_number) == 1;
}

/* What a command finds and makes. */
struct change {
    const struct command *command;
    const struct model_version *old; /* NULL: absent */
    struct kv_result result;
    bool is_change;
    struct buf *value; /* the new one; NULL: the key is deleted */
};

static bool condition_holds(struct change *change)
{
    const struct command *command = change->command;
    uint64_t present = change->old == NULL ? 0 : change->old->header.revision;
    bool holds = true;
    if (command->condition == CONDITION_REVISION) {
        holds = present != 0 && present == command->condition_revision;
    }
    if (command->condition == CONDITION_EXISTS) holds = present != 0;
    if (command->condition == CONDITION_ABSENT) holds = present == 0;
    if (!holds) change->result.status = KV_CONDITION_FAILED;
    return holds;
}

static void change_append(struct change *change)
{
    struct bytes added = change->command->value;
    struct bytes old = change->old == NULL ? bytes_make(NULL, 0) : buf_bytes(change->old->value);
    if (old.count + added.count > change->command->value_bytes_max) {
        change->result.status = KV_TOO_LARGE;
        return;
    }
    change->value = buf_create(old.count + added.count);
    if (old.count > 0) memcpy(change->value->data, old.data, old.count);
    if (added.count > 0) memcpy(change->value->data + old.count, added.data, added.count);
    change->value->count = (uint32_t)(old.count + added.count);
    change->result.number = (int64_t)change->value->count;
    change->is_change = true;
}

static void change_incr(struct change *change)
{
    int64_t number = 0;
    if (change->old != NULL && !parse_integer(buf_bytes(change->old->value), &number)) {
        change->result.status = KV_NOT_INTEGER;
        return;
    }
    if (__builtin_add_overflow(number, change->command->by, &number)) {
        change->result.status = KV_OVERFLOW;
        return;
    }
    char text[24];
    int count = snprintf(text, sizeof text, "%" PRId64, number);
    change->value = buf_copy(bytes_make(text, (size_t)count));
    change->result.number = number;
    change->is_change = true;
}

static void change_make(struct change *change)
{
    change->result.revision = change->old == NULL ? 0 : change->old->header.revision;
    change->result.version = change->old == NULL ? 0 : change->old->header.version;
    if (!condition_holds(change)) return;
    switch (change->command->type) {
    case COMMAND_PUT:
        change->value = buf_copy(change->command->value);
        change->is_change = true;
        break;
    case COMMAND_DELETE:
        change->is_change = change->old != NULL;
        change->result.status = change->old != NULL ? KV_DELETED : KV_NOT_FOUND;
        return;
    case COMMAND_APPEND:
        change_append(change);
        break;
    case COMMAND_INCR:
        change_incr(change);
        break;
    case COMMAND_LIST_APPEND:
    case COMMAND_TXN:
    case COMMAND_GET:
        TL_ASSERT(false); /* the workload has no lists; the others do not come here */
    }
    if (change->is_change) change->result.status = change->old == NULL ? KV_CREATED : KV_REPLACED;
}

/* Writes the change down as the key's new version. */
static void change_keep(struct model *model, struct change *change, raft_index index,
                        uint64_t time_us, uint64_t revision)
{
    const struct command *command = change->command;
    model->revision = revision;
    struct model_version version = {.index = index, .value = change->value, .content_type = ""};
    if (command->type != COMMAND_PUT && change->old != NULL) {
        version.content_type = change->old->content_type;
    }
    if (command->type == COMMAND_INCR && change->old == NULL) version.content_type = "text/plain";
    version.exists = change->value != NULL;
    version.header = (struct row_header){
        .time_us = time_us,
        .origin = command->origin,
        .create_revision = change->old == NULL ? revision : change->old->header.create_revision,
        .revision = revision,
        .version = change->old == NULL ? 1 : change->old->header.version + 1,
    };
    if (version.exists) version.header.value_bytes = change->value->count;
    change->result.revision = revision;
    change->result.version = version.exists ? version.header.version : 0;
    if (version.exists && change->old == NULL) model->rows_count++;
    if (!version.exists) model->rows_count--;
    struct model_key *key = key_make(model, command->key);
    key->versions =
        grow(key->versions, key->versions_count, &key->versions_capacity, sizeof *key->versions);
    key->versions[key->versions_count++] = version;
}

static struct kv_result run_command(struct model *model, const struct command *command,
                                    raft_index index, uint64_t time_us)
{
    const struct model_version *old = model_find(model, command->key, index);
    struct change change = {.command = command};
    change.old = old != NULL && old->exists ? old : NULL;
    change_make(&change);
    if (change.is_change) change_keep(model, &change, index, time_us, model->revision + 1);
    return change.result;
}

/* ---- transactions ---- */

/* The key before entry `index`; NULL: absent. */
static const struct model_version *find_before(const struct model *model, struct bytes key,
                                               raft_index index)
{
    const struct model_version *version = model_find(model, key, index - 1);
    return version != NULL && version->exists ? version : NULL;
}

static bool txn_condition_holds(const struct model *model, const struct txn_condition *condition,
                                raft_index index)
{
    const struct model_version *version = find_before(model, condition->key, index);
    if (condition->type == TXN_IF_EXISTS) return (version != NULL) == (condition->number != 0);
    if (condition->type == TXN_IF_VALUE) {
        return version != NULL && bytes_equal(buf_bytes(version->value), condition->value);
    }
    if (version == NULL) return condition->number == 0;
    return condition->number == (condition->type == TXN_IF_REVISION ? version->header.revision
                                                                    : version->header.version);
}

/* What one operation makes of the state before the transaction. */
static struct change op_change(const struct model *model, const struct command *single,
                               raft_index index)
{
    struct change change = {.command = single};
    change.old = find_before(model, single->key, index);
    if (single->type != COMMAND_GET) {
        change_make(&change);
        return change;
    }
    change.result.status = change.old != NULL ? KV_FOUND : KV_NOT_FOUND;
    change.result.revision = change.old != NULL ? change.old->header.revision : 0;
    change.result.version = change.old != NULL ? change.old->header.version : 0;
    return change;
}

static void encode_op_result(const struct change *change, struct buf *buf)
{
    struct txn_result result = {
        .status = change->result.status,
        .revision = change->result.revision,
        .version = change->result.version,
        .number = change->result.number,
    };
    if (result.status == KV_FOUND) {
        result.value = buf_bytes(change->old->value);
        result.content_type = bytes_of(change->old->content_type);
    }
    txn_result_encode(&result, buf);
}

/* Keeps all changes, or none when one of them does not go. */
static void keep_changes(struct model *model, struct change *changes, uint32_t changes_count,
                         struct model_step *step, struct kv_result *result, raft_index index)
{
    result->status = KV_TXN;
    for (uint32_t i = 0; i < changes_count && result->status == KV_TXN; i++) {
        enum kv_status status = changes[i].result.status;
        if (status <= KV_NOT_FOUND || status == KV_FOUND) continue;
        result->status = status;
        result->number = i;
    }
    if (result->status != KV_TXN) {
        for (uint32_t i = 0; i < changes_count; i++) buf_release(changes[i].value);
        return;
    }
    step->results = buf_create(MODEL_RESULTS_BYTES_MAX);
    uint64_t revision = model->revision + 1;
    /* Results first: a version that is added may move the old one that a get has found. */
    for (uint32_t i = 0; i < changes_count; i++) {
        struct change shown = changes[i];
        if (shown.is_change) {
            bool exists = shown.value != NULL;
            uint64_t version = shown.old != NULL ? shown.old->header.version + 1 : 1;
            shown.result.revision = revision;
            shown.result.version = exists ? version : 0;
        }
        encode_op_result(&shown, step->results);
    }
    for (uint32_t i = 0; i < changes_count; i++) {
        if (changes[i].is_change) {
            change_keep(model, &changes[i], index, step->time_us, revision);
        }
    }
    result->results = buf_bytes(step->results);
}

static struct kv_result run_txn(struct model *model, const struct command *command,
                                raft_index index, struct model_step *step)
{
    static struct txn txn;
    static struct command singles[TXN_LIST_MAX];
    static struct change changes[TXN_LIST_MAX];
    enum tl_err err = txn_decode(command->value, &txn);
    TL_ASSERT(err == TL_OK); /* command_decode() has seen to it */
    bool holds = true;
    for (uint32_t i = 0; i < txn.conditions_count; i++) {
        holds = holds && txn_condition_holds(model, &txn.conditions[i], index);
    }
    enum txn_branch branch = holds ? TXN_THEN : TXN_ELSE;
    for (uint32_t i = 0; i < txn.ops_count[branch]; i++) {
        const struct txn_op *op = &txn.ops[branch][i];
        singles[i] = *command;
        singles[i].type = op->type;
        singles[i].key = op->key;
        singles[i].value = op->value;
        singles[i].by = op->by;
        changes[i] = op_change(model, &singles[i], index);
    }
    struct kv_result result = {.flags = holds ? 0 : KV_RESULT_ELSE};
    keep_changes(model, changes, txn.ops_count[branch], step, &result, index);
    result.revision = model->revision;
    return result;
}

static struct kv_result run_any(struct model *model, const struct command *command,
                                raft_index index, struct model_step *step)
{
    return command->type == COMMAND_TXN ? run_txn(model, command, index, step)
                                        : run_command(model, command, index, step->time_us);
}

/* ---- at most once ---- */

static void add_record(struct model *model, const struct command *command, uint64_t time_us,
                       const struct kv_result *result)
{
    model->records = grow(model->records, model->records_count, &model->records_capacity,
                          sizeof *model->records);
    model->records[model->records_count++] = (struct model_record){
        .key = command->idempotency_key,
        .fingerprint = command_fingerprint(command),
        .time_us = time_us,
        .result = *result,
    };
    if (result->results.count > RECORD_RESULTS_BYTES_MAX) {
        model->records[model->records_count - 1].result.results = bytes_make(NULL, 0);
    }
}

/* A record may go once it is old, or one of too many and not young any more. False: no room. */
static bool make_room(struct model *model, uint64_t time_us, uint64_t records_max)
{
    for (uint32_t i = 0; i < RECORD_EVICT_MAX; i++) {
        size_t count = model->records_count - model->records_first;
        if (count == 0) break;
        uint64_t age_us = time_us - model->records[model->records_first].time_us;
        bool is_old = age_us > RECORD_KEEP_US;
        bool is_one_too_many = count >= records_max && age_us > RECORD_KEEP_MIN_US;
        if (!is_old && !is_one_too_many) break;
        model->records_first++;
        model->evictions_count++;
    }
    return model->records_count - model->records_first < records_max;
}

static struct kv_result run_keyed(struct model *model, const struct command *command,
                                  raft_index index, struct model_step *step)
{
    uint64_t time_us = step->time_us;
    const struct model_record *record = record_find(model, command->idempotency_key);
    if (record != NULL) {
        if (!hash_equal(record->fingerprint, command_fingerprint(command))) {
            return (struct kv_result){.status = KV_KEY_REUSED};
        }
        model->replays_count++;
        struct kv_result result = record->result;
        result.flags |= KV_RESULT_REPLAYED;
        return result;
    }
    uint64_t records_max = command->records_max == 0 ? RECORDS_MAX_DEFAULT : command->records_max;
    if (!make_room(model, time_us, records_max)) {
        uint64_t age_us = time_us - model->records[model->records_count - records_max].time_us;
        uint64_t wait_us = age_us > RECORD_KEEP_MIN_US ? 0 : RECORD_KEEP_MIN_US + 1 - age_us;
        return (struct kv_result){.status = KV_NO_ROOM, .number = (int64_t)wait_us};
    }
    struct kv_result result = run_any(model, command, index, step);
    add_record(model, command, time_us, &result);
    return result;
}

static enum tl_err step_command(struct model *model, const struct buf *entry,
                                struct model_step *step)
{
    struct command command;
    enum tl_err err = command_decode(entry_payload(entry), &command);
    if (err != TL_OK) return TL_ERR_CORRUPT;
    raft_index index = entry_index(entry);
    step->origin = command.origin;
    step->result = command.has_idempotency_key ? run_keyed(model, &command, index, step)
                                               : run_any(model, &command, index, step);
    step->result.index = index;
    step->result.time_us = step->time_us;
    step->result.group_revision = model->revision;
    return TL_OK;
}

enum tl_err model_apply(struct model *model, const struct buf *entry)
{
    TL_ASSERT(entry_index(entry) == model->steps_count + 1);
    struct model_step step = {.type = entry_type_of(entry), .time_us = entry_time_us(entry)};
    if (step.type == ENTRY_GENESIS) model->revision = 1;
    if (step.type == ENTRY_COMMAND) {
        enum tl_err err = step_command(model, entry, &step);
        if (err != TL_OK) return err;
    }
    step.revision = model->revision;
    step.rows_count = model->rows_count;
    step.records_count = model->records_count - model->records_first;
    model->steps =
        grow(model->steps, model->steps_count, &model->steps_capacity, sizeof *model->steps);
    model->steps[model->steps_count++] = step;
    return TL_OK;
}
