/* kv_state.c - the replicated state machine: one entry in, new rows and a new state out.
 *
 * Order within a keyed command: find its record, make room for one, do the request, add the record.
 * A request that is answered from its record, or refused for want of room, does nothing else; a
 * record is never deleted and added in one entry.
 *
 * The new state is built in struct kv_apply and taken over when everything has succeeded. Rows that
 * were put before an error stay in the table unpublished: every error here ends the process.
 */

#include "kv_internal.h"

enum tl_err kv_apply_corrupt(struct kv_apply *apply, const char *reason)
{
    apply->fault_reason = reason;
    return TL_ERR_CORRUPT;
}

static void kv_state_check(const struct kv_state *state)
{
    TL_ASSERT(state->group.records_first <= state->group.records_next);
}

void kv_state_init(struct kv_state *state, const struct group_state *from)
{
    *state = (struct kv_state){.group = *from};
    kv_state_check(state);
}

void kv_state_deinit(struct kv_state *state)
{
    buf_release(TL_TAKE(&state->results));
}

/* ---- one request ---- */

static bool condition_holds(const struct command *command, const struct kv_row *old)
{
    switch (command->condition) {
    case CONDITION_NONE:
        return true;
    case CONDITION_REVISION:
        return old->is_there && old->header.revision == command->condition_revision;
    case CONDITION_EXISTS:
        return old->is_there;
    case CONDITION_ABSENT:
        break;
    }
    return !old->is_there;
}

/* Does the request and says in *result what came of it. */
static enum tl_err do_request(struct kv_apply *apply, const struct command *command,
                              struct kv_result *result)
{
    if (command->type == COMMAND_TXN) {
        return kv_txn_do(apply, command, result);
    }
    struct kv_row old;
    enum tl_err err = kv_row_read(apply, command->key, &old);
    if (err != TL_OK) {
        return err;
    }
    result->revision = old.is_there ? old.header.revision : 0;
    result->version = old.is_there ? old.header.version : 0;
    if (!condition_holds(command, &old)) {
        result->status = KV_CONDITION_FAILED;
        return TL_OK;
    }
    if (command->type == COMMAND_DELETE) {
        return kv_row_delete(apply, command, &old, result);
    }

    struct kv_value value;
    err = kv_row_new_value(apply, command, &old, &value, &result->status);
    if (err != TL_OK) {
        return err;
    }
    if (result->status == KV_CREATED || result->status == KV_REPLACED) {
        kv_row_write(apply, command, &old, &value, result);
    }
    return TL_OK;
}

/* ---- at most once ---- */

/* Answers from the record an earlier request with this key left. */
static void answer_from_record(const struct command *command, const struct record *record,
                               struct kv_result *result)
{
    if (!hash_equal(record->fingerprint, command->fingerprint)) {
        result->status = KV_KEY_REUSED;
        return;
    }
    result->status = (enum kv_status)record->status;
    result->flags = (uint8_t)(record->result_flags | KV_RESULT_REPLAYED);
    result->revision = record->revision;
    result->version = record->version;
    result->number = record->number;
    result->results = record->results;
}

static enum tl_err do_keyed_request(struct kv_apply *apply, const struct command *command,
                                    struct kv_result *result)
{
    struct record record;
    bool is_found;
    enum tl_err err = kv_records_find(apply, command->idempotency_key, &is_found, &record);
    if (err != TL_OK) {
        return err;
    }
    if (is_found) {
        answer_from_record(command, &record, result);
        return TL_OK;
    }

    bool has_room;
    err = kv_records_make_room(apply, command->records_max, &has_room);
    if (err != TL_OK) {
        return err;
    }
    if (!has_room) {
        uint64_t wait_us;
        err = kv_records_wait(apply, command->records_max, &wait_us);
        if (err != TL_OK) {
            return err;
        }
        result->status = KV_NO_ROOM;
        result->number = (int64_t)wait_us;
        return TL_OK;
    }
    err = do_request(apply, command, result);
    if (err != TL_OK) {
        return err;
    }
    kv_records_add(apply, command, result);
    return TL_OK;
}

static enum tl_err apply_command(struct kv_apply *apply, struct bytes payload,
                                 struct kv_result *out_result)
{
    struct command command;
    if (command_decode(payload, &command) != TL_OK) {
        return kv_apply_corrupt(apply, "a log entry's command does not decode");
    }
    struct kv_result result = {.index = apply->index, .time_us = apply->group.time_us};
    apply->needs_results = out_result != NULL || command.has_idempotency_key;
    apply->cost_bytes += payload.count;
    enum tl_err err = command.has_idempotency_key ? do_keyed_request(apply, &command, &result)
                                                  : do_request(apply, &command, &result);
    if (err != TL_OK) {
        return err;
    }
    result.group_revision = apply->group.revision;
    if (out_result != NULL) *out_result = result;
    return TL_OK;
}

static enum tl_err apply_entry(struct kv_apply *apply, const struct buf *entry,
                               struct kv_result *out_result)
{
    switch (entry_type_of(entry)) {
    case ENTRY_GENESIS:
        if (apply->index != 1) {
            return kv_apply_corrupt(apply, "a second genesis stands in the log");
        }
        apply->group.revision = 1;
        return TL_OK;
    case ENTRY_NOOP:
    case ENTRY_CONF:
        return TL_OK;
    case ENTRY_COMMAND:
        return apply_command(apply, entry_payload(entry), out_result);
    }
    return kv_apply_corrupt(apply, "a log entry is of an unknown type");
}

enum tl_err kv_state_apply(struct kv_state *state, struct kv_table *table, const struct buf *entry,
                           struct kv_result *out_result)
{
    kv_state_check(state);
    TL_ASSERT(entry_index(entry) == state->group.index + 1);

    struct kv_apply apply = {
        .table = table,
        .group = state->group,
        .index = entry_index(entry),
        .time_us = entry_time_us(entry),
        .revision = state->group.revision + 1,
        .results = &state->results,
    };
    apply.group.index = apply.index;
    apply.group.term = entry_term(entry);
    apply.group.time_us = apply.time_us;
    apply.group.chain_hash = entry_hash(entry);
    if (state->mutation == KV_MUTATION_OWN_TIME) apply.time_us++;
    enum tl_err err = apply_entry(&apply, entry, out_result);
    if (err != TL_OK) {
        state->fault_reason = apply.fault_reason;
        return err;
    }
    TL_ASSERT(apply.group.revision <= state->group.revision + 1);
    state->group = apply.group;
    state->cost_bytes = apply.cost_bytes;
    kv_table_publish(table, apply.index);
    kv_state_check(state);
    return TL_OK;
}
