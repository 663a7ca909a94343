/* log_store_record.c - the records of the log env (FORMAT.md 2): encoding, checks, look-ups. */

#include "log_store_internal.h"

#include "trilith/codec.h"

#define FORMAT_MAGIC 0x474c4c54u /* "TLLG" */

/* Checksum of a record of a group: the group is covered although it is in the key only. */
static uint64_t group_checksum(raft_group group, const uint8_t *fields, size_t fields_bytes)
{
    uint8_t prefix[4];
    put_u32(prefix, group);
    const struct bytes parts[] = {
        bytes_make(prefix, sizeof prefix),
        bytes_make(fields, fields_bytes),
    };
    return hash_parts(parts, TL_COUNT_OF(parts)).low;
}

void log_format_mark_encode(uint8_t out_bytes[LOG_FORMAT_MARK_BYTES])
{
    put_u32(out_bytes, FORMAT_MAGIC);
    put_u32(out_bytes + 4, LOG_STORE_FORMAT);
    put_u64(out_bytes + 8, hash_checksum(bytes_make(out_bytes, 8)));
}

enum tl_err log_format_mark_decode(struct bytes source)
{
    /* Magic and version stand first in every format to come; the rest may change. */
    if (source.count < 8 || get_u32(source.data) != FORMAT_MAGIC) {
        return TL_ERR_CORRUPT;
    }
    if (get_u32(source.data + 4) > LOG_STORE_FORMAT) {
        return TL_ERR_NEWER_FORMAT;
    }
    uint8_t expected[LOG_FORMAT_MARK_BYTES];
    log_format_mark_encode(expected);
    return bytes_equal(source, bytes_make(expected, sizeof expected)) ? TL_OK : TL_ERR_CORRUPT;
}

void log_hard_state_encode(raft_group group, const struct raft_hard_state *hard_state,
                           uint8_t out_bytes[LOG_HARD_STATE_BYTES])
{
    put_u64(out_bytes, hard_state->term);
    put_u64(out_bytes + 8, hard_state->vote);
    put_u64(out_bytes + 16, hard_state->commit);
    put_u64(out_bytes + 24, group_checksum(group, out_bytes, 24));
}

enum tl_err log_hard_state_decode(raft_group group, struct bytes source,
                                  struct raft_hard_state *out_hard_state)
{
    if (source.count != LOG_HARD_STATE_BYTES ||
        get_u64(source.data + 24) != group_checksum(group, source.data, 24)) {
        return TL_ERR_CORRUPT;
    }
    *out_hard_state = (struct raft_hard_state){
        .term = get_u64(source.data),
        .vote = get_u64(source.data + 8),
        .commit = get_u64(source.data + 16),
    };
    return TL_OK;
}

void log_base_encode(raft_group group, const struct raft_base *base,
                     uint8_t out_bytes[LOG_BASE_BYTES])
{
    put_u64(out_bytes, base->index);
    put_u64(out_bytes + 8, base->term);
    hash_put(out_bytes + 16, base->hash);
    put_u64(out_bytes + 32, base->time_us);
    put_u64(out_bytes + 40, group_checksum(group, out_bytes, 40));
}

enum tl_err log_base_decode(raft_group group, struct bytes source, struct raft_base *out_base)
{
    if (source.count != LOG_BASE_BYTES ||
        get_u64(source.data + 40) != group_checksum(group, source.data, 40)) {
        return TL_ERR_CORRUPT;
    }
    *out_base = (struct raft_base){
        .index = get_u64(source.data),
        .term = get_u64(source.data + 8),
        .hash = hash_get(source.data + 16),
        .time_us = get_u64(source.data + 32),
    };
    return TL_OK;
}

void log_active_encode(raft_group group, uint64_t table_number, uint8_t out_bytes[LOG_ACTIVE_BYTES])
{
    put_u64(out_bytes, table_number);
    put_u64(out_bytes + 8, group_checksum(group, out_bytes, 8));
}

enum tl_err log_active_decode(raft_group group, struct bytes source, uint64_t *out_table_number)
{
    if (source.count != LOG_ACTIVE_BYTES ||
        get_u64(source.data + 8) != group_checksum(group, source.data, 8)) {
        return TL_ERR_CORRUPT;
    }
    *out_table_number = get_u64(source.data);
    return TL_OK;
}

/* Big-endian: memcmp order of keys is the order of (group, index). */
void log_conf_key_encode(raft_group group, raft_index index, uint8_t out_key[LOG_CONF_KEY_BYTES])
{
    for (unsigned i = 0; i < 4; i++) out_key[i] = (uint8_t)(group >> (24 - 8 * i));
    put_u64_be(out_key + 4, index);
}

bool log_conf_key_decode(struct bytes key, raft_group *out_group, raft_index *out_index)
{
    if (key.count != LOG_CONF_KEY_BYTES) {
        return false;
    }
    raft_group group = 0;
    for (unsigned i = 0; i < 4; i++) group = (group << 8) | key.data[i];
    *out_group = group;
    *out_index = get_u64_be(key.data + 4);
    return true;
}

uint64_t log_conf_checksum(const uint8_t key[LOG_CONF_KEY_BYTES], struct bytes payload)
{
    raft_group group;
    raft_index index;
    bool is_key = log_conf_key_decode(bytes_make(key, LOG_CONF_KEY_BYTES), &group, &index);
    TL_ASSERT(is_key);
    uint8_t prefix[12];
    put_u32(prefix, group);
    put_u64(prefix + 4, index);
    const struct bytes parts[] = {bytes_make(prefix, sizeof prefix), payload};
    return hash_parts(parts, TL_COUNT_OF(parts)).low;
}

enum tl_err log_conf_decode(struct bytes key, struct bytes value, struct bytes *out_payload)
{
    if (key.count != LOG_CONF_KEY_BYTES || value.count < LOG_CONF_HEADER_BYTES) {
        return TL_ERR_CORRUPT;
    }
    struct bytes payload =
        bytes_make(value.data + LOG_CONF_HEADER_BYTES, value.count - LOG_CONF_HEADER_BYTES);
    if (get_u64(value.data) != log_conf_checksum(key.data, payload)) {
        return TL_ERR_CORRUPT;
    }
    *out_payload = payload;
    return TL_OK;
}

bool log_key_index(const MDB_val *key, raft_index *out_index)
{
    if (key->mv_size != sizeof *out_index) {
        return false;
    }
    memcpy(out_index, key->mv_data, sizeof *out_index); /* native order: MDB_INTEGERKEY */
    return true;
}

int log_conf_seek(MDB_cursor *cursor, raft_group group, raft_index index, MDB_val *out_key,
                  MDB_val *out_value)
{
    uint8_t wanted[LOG_CONF_KEY_BYTES];
    log_conf_key_encode(group, index, wanted);
    MDB_val key = {.mv_size = sizeof wanted, .mv_data = wanted};
    int rc = mdb_cursor_get(cursor, &key, out_value, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND) {
        rc = mdb_cursor_get(cursor, &key, out_value, MDB_LAST);
    } else if (rc == MDB_SUCCESS &&
               !bytes_equal(log_val_bytes(&key), bytes_make(wanted, sizeof wanted))) {
        rc = mdb_cursor_get(cursor, &key, out_value, MDB_PREV);
    }
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    raft_group found_group;
    raft_index found_index;
    if (!log_conf_key_decode(log_val_bytes(&key), &found_group, &found_index)) {
        return MDB_CORRUPTED;
    }
    *out_key = key;
    return found_group == group ? MDB_SUCCESS : MDB_NOTFOUND;
}

enum tl_err log_entry_check(const struct log_store *store, raft_group group, raft_index index,
                            struct bytes record, struct entry_header *out_header,
                            struct tl_fault *fault)
{
    struct entry_header header;
    if (entry_decode(record, &header) != TL_OK) {
        return log_store_corrupt(store, group, index, "a log record is not an entry", fault);
    }
    if (header.group != group || header.index != index) {
        return log_store_corrupt(store, group, index,
                                 "a log record is the entry of another group or index", fault);
    }
    *out_header = header;
    return TL_OK;
}

enum tl_err log_entry_check_chain(const struct log_store *store, raft_group group, raft_index index,
                                  struct bytes record, struct hash128 previous_hash,
                                  struct entry_header *out_header, struct tl_fault *fault)
{
    enum tl_err err = log_entry_check(store, group, index, record, out_header, fault);
    if (err != TL_OK) {
        return err;
    }
    if (!entry_hash_is_right(record, previous_hash)) {
        return log_store_corrupt(store, group, index, "a log record fails its chain hash", fault);
    }
    return TL_OK;
}

enum tl_err log_entry_get(const struct log_store *store, MDB_txn *txn,
                          const struct log_group *group, raft_index index, struct bytes *out_record,
                          struct entry_header *out_header, struct tl_fault *fault)
{
    MDB_val key = {.mv_size = sizeof index, .mv_data = &index};
    MDB_val value;
    int rc = mdb_get(txn, group->dbi, &key, &value);
    if (rc != MDB_SUCCESS) {
        return log_store_fail(store, rc, "reading a log record", group->group, index, fault);
    }
    *out_record = log_val_bytes(&value);
    return log_entry_check(store, group->group, index, *out_record, out_header, fault);
}

enum tl_err log_entry_previous_hash(const struct log_store *store, MDB_txn *txn,
                                    const struct log_group *group, const struct raft_base *base,
                                    raft_index index, struct hash128 *out_hash,
                                    struct tl_fault *fault)
{
    TL_ASSERT(index > base->index);
    if (index == base->index + 1) {
        *out_hash = base->hash;
        return TL_OK;
    }
    struct bytes record;
    struct entry_header header;
    enum tl_err err = log_entry_get(store, txn, group, index - 1, &record, &header, fault);
    if (err == TL_OK) *out_hash = header.hash;
    return err;
}
