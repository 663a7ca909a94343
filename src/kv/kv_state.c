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

/* ---- one request on one row ---- */

/* The key's row as it is before the request. */
struct old_row {
    bool is_there;
    struct bytes row; /* whole; borrowed from the table */
    struct row_header header;
};

static enum tl_err read_old_row(struct kv_apply *apply, struct bytes env_key,
                                struct old_row *out_old)
{
    *out_old = (struct old_row){.is_there = false};
    enum tl_err err = kv_table_get(apply->table, env_key, &out_old->row);
    if (err == TL_ERR_NOT_FOUND) {
        return TL_OK;
    }
    if (err != TL_OK) {
        return err;
    }
    err = row_decode(out_old->row, true, &out_old->header);
    if (err == TL_ERR_CORRUPT) {
        return kv_apply_corrupt(apply, "a row's header failed its check");
    }
    out_old->is_there = err == TL_OK;
    return err;
}

static bool condition_holds(const struct command *command, const struct old_row *old)
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

/* Writes the new row over `old` and moves revision, count and digest. */
static void write_row(struct kv_apply *apply, const struct command *command, struct bytes env_key,
                      const struct old_row *old, const struct kv_value *value,
                      struct kv_result *result)
{
    struct group_state *group = &apply->group;
    group->revision++;
    struct row_header header = {
        .time_us = apply->time_us,
        .origin = command->origin,
        .create_revision = old->is_there ? old->header.create_revision : group->revision,
        .revision = group->revision,
        .version = old->is_there ? old->header.version + 1 : 1,
        .value_bytes = (uint32_t)kv_value_bytes(value),
        .content_type_bytes = (uint16_t)value->content_type.count,
    };
    if (old->is_there) {
        digest_remove(&group->rows_digest, row_element(command->key, old->row));
    } else {
        group->rows_count++;
    }

    /* The value first: the header holds its checksum. */
    uint8_t *room =
        kv_table_put(apply->table, apply->index, env_key, row_bytes(&header), old->row.count);
    size_t at = ROW_HEADER_BYTES + header.content_type_bytes;
    for (uint32_t i = 0; i < value->parts_count; i++) {
        if (value->parts[i].count > 0) {
            memcpy(room + at, value->parts[i].data, value->parts[i].count);
        }
        at += value->parts[i].count;
    }
    TL_ASSERT(at == row_bytes(&header));
    struct bytes row = bytes_make(room, row_bytes(&header));
    header.value_checksum = hash_checksum(row_value(row, &header));
    row_encode_head(&header, value->content_type, room);
    digest_add(&group->rows_digest, row_element(command->key, row));

    result->revision = header.revision;
    result->version = header.version;
    result->number = value->number;
}

static enum tl_err delete_row(struct kv_apply *apply, const struct command *command,
                              struct bytes env_key, const struct old_row *old,
                              struct kv_result *result)
{
    if (!old->is_there) {
        result->status = KV_NOT_FOUND;
        return TL_OK;
    }
    struct group_state *group = &apply->group;
    if (group->rows_count == 0) {
        return kv_apply_corrupt(apply, "there are more rows than the stored count says");
    }
    digest_remove(&group->rows_digest, row_element(command->key, old->row));
    kv_table_delete(apply->table, apply->index, env_key);
    group->rows_count--;
    group->revision++;
    result->status = KV_DELETED;
    result->revision = group->revision;
    result->version = 0;
    return TL_OK;
}

/* What the command makes of the row. Only appends and increments read the old value, so only they
 * pay for its check. */
static enum tl_err new_value(struct kv_apply *apply, const struct command *command,
                             const struct old_row *old, struct kv_value *out_value,
                             enum kv_status *out_status)
{
    struct kv_present present = {.is_there = old->is_there};
    if (old->is_there && command->type != COMMAND_PUT) {
        if (!row_value_is_right(old->row, &old->header)) {
            return kv_apply_corrupt(apply, "a row's value failed its check");
        }
        present.content_type = row_content_type(old->row, &old->header);
        present.value = row_value(old->row, &old->header);
    }
    switch (command->type) {
    case COMMAND_PUT:
        *out_status = kv_value_put(command, &present, out_value);
        break;
    case COMMAND_APPEND:
        *out_status = kv_value_append(command, &present, out_value);
        break;
    case COMMAND_LIST_APPEND:
        *out_status = kv_value_list_append(command, &present, out_value);
        break;
    case COMMAND_INCR:
        *out_status = kv_value_increment(command, &present, out_value);
        break;
    case COMMAND_DELETE:
        TL_ASSERT(command->type != COMMAND_DELETE); /* leaves no value */
        break;
    }
    return TL_OK;
}

/* Does the request and says in *result what came of it. */
static enum tl_err do_request(struct kv_apply *apply, const struct command *command,
                              struct kv_result *result)
{
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct bytes env_key = env_key_make(ENV_KEY_ROW, command->key, room);
    struct old_row old;
    enum tl_err err = read_old_row(apply, env_key, &old);
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
        return delete_row(apply, command, env_key, &old, result);
    }

    struct kv_value value;
    err = new_value(apply, command, &old, &value, &result->status);
    if (err != TL_OK) {
        return err;
    }
    if (result->status == KV_CREATED || result->status == KV_REPLACED) {
        write_row(apply, command, env_key, &old, &value, result);
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
        result->status = KV_NO_ROOM;
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
    enum tl_err err = command.has_idempotency_key ? do_keyed_request(apply, &command, &result)
                                                  : do_request(apply, &command, &result);
    if (err != TL_OK) {
        return err;
    }
    result.group_revision = apply->group.revision;
    *out_result = result;
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
    kv_table_publish(table, apply.index);
    kv_state_check(state);
    return TL_OK;
}
