/* kv_fixture.c - the state machine's fixture and its table. */

#include "kv_fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define ITEMS_MAX 4096u
#define BORROWS_MAX 512u
#define CHANGES_MAX 256u /* of one entry */
#define SPOILT 0xdd

struct item {
    struct buf *key;
    struct buf *value;
};

struct kv_table {
    struct item items[ITEMS_MAX]; /* in key order */
    size_t items_count;
    struct item borrows[BORROWS_MAX]; /* what lookups gave out since begin */
    size_t borrows_count;
    struct buf *changed_keys[CHANGES_MAX]; /* by the entry being applied */
    size_t changed_count;
    bool is_begun;
    raft_index published;
    uint32_t fail_get_in;
};

/* ---- kv_table.h ---- */

/* The first item whose key is not below `key`. */
static size_t lower_bound(const struct kv_table *table, struct bytes key)
{
    size_t at = 0;
    while (at < table->items_count && bytes_compare(buf_bytes(table->items[at].key), key) < 0) at++;
    return at;
}

struct buf *kv_fake_find(const struct kv_table *table, struct bytes env_key)
{
    size_t at = lower_bound(table, env_key);
    bool is_there =
        at < table->items_count && bytes_equal(buf_bytes(table->items[at].key), env_key);
    return is_there ? table->items[at].value : NULL;
}

enum tl_err kv_table_begin(struct kv_table *table)
{
    cr_assert_not(table->is_begun);
    table->is_begun = true;
    return TL_OK;
}

void kv_table_end(struct kv_table *table)
{
    cr_assert(table->is_begun);
    table->is_begun = false;
    for (size_t i = 0; i < table->borrows_count; i++) {
        buf_release(table->borrows[i].key);
        buf_release(table->borrows[i].value);
    }
    table->borrows_count = 0;
}

enum tl_err kv_table_get(struct kv_table *table, struct bytes env_key, struct bytes *out_value)
{
    cr_assert(table->is_begun);
    if (table->fail_get_in > 0 && --table->fail_get_in == 0) {
        return TL_ERR_IO;
    }
    struct buf *value = kv_fake_find(table, env_key);
    if (value == NULL) {
        return TL_ERR_NOT_FOUND;
    }
    cr_assert_lt(table->borrows_count, BORROWS_MAX);
    struct item *borrow = &table->borrows[table->borrows_count++];
    *borrow = (struct item){buf_copy(env_key), buf_copy(buf_bytes(value))};
    *out_value = buf_bytes(borrow->value);
    return TL_OK;
}

/* What every change does first: the key is marked as changed. */
static void begin_change(struct kv_table *table, raft_index index, struct bytes env_key)
{
    cr_assert(table->is_begun);
    cr_assert_eq(index, table->published + 1);
    for (size_t i = 0; i < table->changed_count; i++) {
        cr_assert_not(bytes_equal(buf_bytes(table->changed_keys[i]), env_key),
                      "a key is changed once an entry");
    }
    cr_assert_lt(table->changed_count, CHANGES_MAX);
    table->changed_keys[table->changed_count++] = buf_copy(env_key);
}

uint8_t *kv_table_put(struct kv_table *table, raft_index index, struct bytes env_key,
                      size_t value_bytes, size_t replaced_bytes)
{
    begin_change(table, index, env_key);
    size_t at = lower_bound(table, env_key);
    const struct buf *replaced = kv_fake_find(table, env_key);
    cr_assert_eq(replaced_bytes, replaced != NULL ? replaced->count : 0);
    if (replaced == NULL) {
        cr_assert_lt(table->items_count, ITEMS_MAX);
        memmove(&table->items[at + 1], &table->items[at],
                (table->items_count - at) * sizeof table->items[0]);
        table->items_count++;
        table->items[at] = (struct item){buf_copy(env_key), NULL};
    }
    buf_release(table->items[at].value);
    struct buf *value = buf_create(value_bytes);
    memset(value->data, SPOILT, value_bytes); /* a byte that is not filled shows */
    value->count = (uint32_t)value_bytes;
    table->items[at].value = value;
    return value->data;
}

void kv_fake_remove(struct kv_table *table, struct bytes env_key)
{
    cr_assert_not_null(kv_fake_find(table, env_key));
    size_t at = lower_bound(table, env_key);
    buf_release(table->items[at].key);
    buf_release(table->items[at].value);
    table->items_count--;
    memmove(&table->items[at], &table->items[at + 1],
            (table->items_count - at) * sizeof table->items[0]);
}

void kv_table_delete(struct kv_table *table, raft_index index, struct bytes env_key)
{
    begin_change(table, index, env_key);
    kv_fake_remove(table, env_key);
}

void kv_table_publish(struct kv_table *table, raft_index index)
{
    cr_assert_eq(index, table->published + 1);
    table->published = index;
    for (size_t i = 0; i < table->changed_count; i++) buf_release(table->changed_keys[i]);
    table->changed_count = 0;
}

size_t kv_fake_count(const struct kv_table *table, enum env_key_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < table->items_count; i++) {
        count += table->items[i].key->data[0] == (uint8_t)kind;
    }
    return count;
}

bool kv_fake_equal(const struct kv_table *a, const struct kv_table *b)
{
    if (a->items_count != b->items_count) {
        return false;
    }
    for (size_t i = 0; i < a->items_count; i++) {
        if (!bytes_equal(buf_bytes(a->items[i].key), buf_bytes(b->items[i].key)) ||
            !bytes_equal(buf_bytes(a->items[i].value), buf_bytes(b->items[i].value))) {
            return false;
        }
    }
    return true;
}

void kv_fake_fail_get(struct kv_table *table, uint32_t n)
{
    table->fail_get_in = n;
}

/* ---- the fixture ---- */

void kv_fixture_init(struct kv_fixture *fixture)
{
    const struct group_state nothing = {.index = 0};
    *fixture = (struct kv_fixture){.table = calloc(1, sizeof(struct kv_table))};
    fixture->time_us = 1700000000000000u;
    kv_state_init(&fixture->state, &nothing);
    struct kv_result unused;
    cr_assert_eq(kv_fixture_apply(fixture, entry_create(ENTRY_GENESIS, 0), &unused), TL_OK);
}

void kv_fixture_deinit(struct kv_fixture *fixture)
{
    struct kv_table *table = fixture->table;
    cr_assert_not(table->is_begun);
    for (size_t i = 0; i < table->items_count; i++) {
        buf_release(table->items[i].key);
        buf_release(table->items[i].value);
    }
    for (size_t i = 0; i < table->changed_count; i++) buf_release(table->changed_keys[i]);
    free(table);
    buf_release(fixture->results);
    kv_state_deinit(&fixture->state);
    fixture->table = NULL;
}

/* They are borrowed from the state, or from the table until kv_table_end(). */
static void keep_results(struct kv_fixture *fixture, struct kv_result *result)
{
    buf_release(fixture->results);
    fixture->results = buf_copy(result->results);
    result->results = buf_bytes(fixture->results);
}

enum tl_err kv_fixture_apply(struct kv_fixture *fixture, struct buf *entry,
                             struct kv_result *out_result)
{
    struct entry_header header = {
        .group = 1,
        .index = fixture->state.group.index + 1,
        .term = 3,
        .time_us = fixture->time_us++,
    };
    entry_seal(entry, fixture->state.group.chain_hash, &header);
    cr_assert_eq(kv_table_begin(fixture->table), TL_OK);
    enum tl_err err = kv_state_apply(&fixture->state, fixture->table, entry, out_result);
    bool has_result = err == TL_OK && header.type == ENTRY_COMMAND && out_result != NULL;
    if (has_result) keep_results(fixture, out_result);
    kv_table_end(fixture->table);
    if (err == TL_OK) {
        cr_assert_eq(fixture->table->published, header.index);
        cr_assert_eq(fixture->state.group.index, header.index);
    }
    buf_release(entry);
    return err;
}

void assert_digests_are_right(const struct kv_fixture *fixture)
{
    const struct group_state *group = &fixture->state.group;
    struct hash128 rows = {0, 0};
    struct hash128 records = {0, 0};
    for (size_t i = 0; i < fixture->table->items_count; i++) {
        struct bytes key = buf_bytes(fixture->table->items[i].key);
        struct bytes value = buf_bytes(fixture->table->items[i].value);
        const struct bytes whole[] = {key, value};
        if (key.data[0] == ENV_KEY_ROW) {
            digest_add(&rows, row_element(bytes_make(key.data + 1, key.count - 1), value));
        } else if (key.data[0] == ENV_KEY_RECORD) {
            digest_add(&records, hash_parts(whole, TL_COUNT_OF(whole)));
        }
    }
    cr_assert_eq(group->rows_count, kv_fake_count(fixture->table, ENV_KEY_ROW));
    cr_assert(hash_equal(group->rows_digest, rows));
    size_t records_count = kv_fake_count(fixture->table, ENV_KEY_RECORD);
    cr_assert_eq(group->records_next - group->records_first, records_count);
    cr_assert_eq(kv_fake_count(fixture->table, ENV_KEY_QUEUE), records_count);
    cr_assert(hash_equal(group->records_digest, records));
}

struct kv_result kv_fixture_do(struct kv_fixture *fixture, const struct command *command)
{
    struct kv_result result;
    memset(&result, SPOILT, sizeof result);
    uint64_t time_us = fixture->time_us;
    cr_assert_eq(kv_fixture_apply(fixture, command_encode(command), &result), TL_OK);
    cr_assert_eq(result.time_us, time_us);
    cr_assert_eq(result.index, fixture->state.group.index);
    cr_assert_eq(result.group_revision, fixture->state.group.revision);
    assert_digests_are_right(fixture);
    return result;
}

bool kv_fixture_row(const struct kv_fixture *fixture, const char *key,
                    struct row_header *out_header, struct bytes *out_content_type,
                    struct bytes *out_value)
{
    uint8_t room[ENV_KEY_BYTES_MAX];
    struct buf *row = kv_fake_find(fixture->table, env_key_make(ENV_KEY_ROW, bytes_of(key), room));
    if (row == NULL) {
        return false;
    }
    cr_assert_eq(row_decode(buf_bytes(row), true, out_header), TL_OK);
    cr_assert(row_value_is_right(buf_bytes(row), out_header));
    *out_content_type = row_content_type(buf_bytes(row), out_header);
    *out_value = row_value(buf_bytes(row), out_header);
    return true;
}

void assert_value(const struct kv_fixture *fixture, const char *key, const char *content_type,
                  const char *value)
{
    struct row_header header;
    struct bytes type;
    struct bytes actual;
    cr_assert(kv_fixture_row(fixture, key, &header, &type, &actual), "%s is absent", key);
    cr_assert(bytes_equal(type, bytes_of(content_type)), "content type is %.*s", (int)type.count,
              (const char *)type.data);
    cr_assert(bytes_equal(actual, bytes_of(value)), "value is %.*s, not %s", (int)actual.count,
              (const char *)actual.data, value);
}
