/* kv_row.c - one row before and after a request. */

#include "kv_internal.h"

enum tl_err kv_row_read(struct kv_apply *apply, struct bytes key, struct kv_row *out_old)
{
    uint8_t room[ENV_KEY_BYTES_MAX];
    *out_old = (struct kv_row){.is_there = false};
    apply->cost_bytes += KV_ROW_COST_BYTES;
    enum tl_err err =
        kv_table_get(apply->table, env_key_make(ENV_KEY_ROW, key, room), &out_old->row);
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

void kv_row_write(struct kv_apply *apply, const struct command *command, const struct kv_row *old,
                  const struct kv_value *value, struct kv_result *result)
{
    struct group_state *group = &apply->group;
    group->revision = apply->revision;
    uint8_t key_room[ENV_KEY_BYTES_MAX];
    struct bytes env_key = env_key_make(ENV_KEY_ROW, command->key, key_room);
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
    apply->cost_bytes += row.count;
    header.value_checksum = hash_checksum(row_value(row, &header));
    row_encode_head(&header, value->content_type, room);
    digest_add(&group->rows_digest, row_element(command->key, row));

    result->revision = header.revision;
    result->version = header.version;
    result->number = value->number;
}

enum tl_err kv_row_delete(struct kv_apply *apply, const struct command *command,
                          const struct kv_row *old, struct kv_result *result)
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
    uint8_t room[ENV_KEY_BYTES_MAX];
    kv_table_delete(apply->table, apply->index, env_key_make(ENV_KEY_ROW, command->key, room));
    group->rows_count--;
    group->revision = apply->revision;
    result->status = KV_DELETED;
    result->revision = group->revision;
    result->version = 0;
    return TL_OK;
}

enum tl_err kv_row_value(struct kv_apply *apply, const struct kv_row *row, struct bytes *out_value)
{
    apply->cost_bytes += row->header.value_bytes;
    if (!row_value_is_right(row->row, &row->header)) {
        return kv_apply_corrupt(apply, "a row's value failed its check");
    }
    *out_value = row_value(row->row, &row->header);
    return TL_OK;
}

/* Only appends and increments read the old value, so only they pay for its check. */
enum tl_err kv_row_new_value(struct kv_apply *apply, const struct command *command,
                             const struct kv_row *old, struct kv_value *out_value,
                             enum kv_status *out_status)
{
    struct kv_present present = {.is_there = old->is_there};
    if (old->is_there && command->type != COMMAND_PUT) {
        enum tl_err err = kv_row_value(apply, old, &present.value);
        if (err != TL_OK) {
            return err;
        }
        present.content_type = row_content_type(old->row, &old->header);
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
    case COMMAND_TXN:
    case COMMAND_GET:
        TL_ASSERT(command->type < COMMAND_DELETE); /* leave no value */
        break;
    }
    return TL_OK;
}
