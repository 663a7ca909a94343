/* log_store_fixture.c - the store under test and its model. */

#include "log_store_fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define MODELS_MAX 8u

char fixture_dir[TMPDIR_PATH_BYTES_MAX];
struct log_store_options fixture_options;
struct log_store *fixture_store;
struct tl_fault fixture_fault;

static struct log_model *models[MODELS_MAX];
static uint32_t models_count;
static struct buf *read_entries[FIXTURE_ENTRIES_MAX];
static uint32_t read_count;

enum tl_err fixture_try_open(void)
{
    return log_store_open(&fixture_options, &fixture_store, &fixture_fault);
}

void fixture_open(void)
{
    enum tl_err err = fixture_try_open();
    cr_assert_eq(err, TL_OK, "open: %s: %s", tl_err_name(err), fixture_fault.reason);
}

void fixture_reopen(void)
{
    log_store_close(TL_TAKE(&fixture_store));
    fixture_open();
}

void fixture_setup(void)
{
    tmpdir_create(fixture_dir);
    fixture_options = (struct log_store_options){
        .dir = fixture_dir,
        .map_bytes = FIXTURE_MAP_BYTES,
        .prefill_bytes = 0,
        .retain_bytes = FIXTURE_RETAIN_ALL,
    };
    fixture_open();
}

static void release_read(void)
{
    for (uint32_t i = 0; i < read_count; i++) buf_release(TL_TAKE(&read_entries[i]));
    read_count = 0;
}

void fixture_teardown(void)
{
    release_read();
    for (uint32_t i = 0; i < models_count; i++) {
        for (uint32_t k = 0; k < FIXTURE_ENTRIES_MAX; k++) buf_release(models[i]->entries[k]);
        free(TL_TAKE(&models[i]));
    }
    models_count = 0;
    log_store_close(TL_TAKE(&fixture_store));
    tmpdir_destroy(fixture_dir);
}

struct log_model *model_create(raft_group group)
{
    TL_ASSERT(models_count < MODELS_MAX);
    struct log_model *model = calloc(1, sizeof *model);
    TL_ASSERT(model != NULL);
    model->chain = log_chain_make(group, 1);
    models[models_count++] = model;
    return model;
}

void model_truncate(struct log_model *model, raft_index first, raft_term term)
{
    for (raft_index i = first; i <= model->chain.last_index; i++) {
        buf_release(TL_TAKE(&model->entries[i]));
    }
    raft_index last = first - 1;
    const struct buf *entry = model->entries[last];
    model->chain.last_index = last;
    model->chain.hash = entry == NULL ? model->base.hash : entry_hash(entry);
    model->chain.term = term;
}

struct buf **model_extend(struct log_model *model, enum entry_type type, uint32_t count,
                          size_t payload_bytes)
{
    raft_index first = model->chain.last_index + 1;
    TL_ASSERT(first + count <= FIXTURE_ENTRIES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        model->entries[first + i] = log_chain_next(&model->chain, type, payload_bytes);
    }
    return &model->entries[first];
}

enum tl_err model_commit(struct log_model *model, struct log_op *op)
{
    enum tl_err err = log_store_commit(fixture_store, op, 1, &fixture_fault);
    if (err == TL_OK && op->hard_state != NULL) model->hard_state = *op->hard_state;
    if (err == TL_OK && op->out_has_base) {
        for (raft_index i = model->base.index + 1; i <= op->out_base.index; i++) {
            buf_release(TL_TAKE(&model->entries[i]));
        }
        model->base = op->out_base;
    }
    return err;
}

static void append(struct log_model *model, enum entry_type type, uint32_t count,
                   size_t payload_bytes)
{
    struct raft_hard_state hard_state = model->hard_state;
    hard_state.term = TL_MAX(hard_state.term, model->chain.term);
    struct log_op op = {
        .group = model->chain.group,
        .entries = model_extend(model, type, count, payload_bytes),
        .entries_count = count,
        .hard_state = &hard_state,
    };
    enum tl_err err = model_commit(model, &op);
    cr_assert_eq(err, TL_OK, "append: %s: %s", tl_err_name(err), fixture_fault.reason);
}

void model_append(struct log_model *model, uint32_t count, size_t payload_bytes)
{
    append(model, ENTRY_COMMAND, count, payload_bytes);
}

void model_append_conf(struct log_model *model, enum entry_type type, size_t payload_bytes)
{
    append(model, type, 1, payload_bytes);
}

enum tl_err fixture_read(raft_group group, raft_index first, raft_index last, uint32_t *out_count)
{
    release_read();
    struct log_reader *reader = NULL;
    cr_assert_eq(log_reader_create(fixture_store, &reader), TL_OK);
    enum tl_err err = log_reader_read(reader, group, first, last, FIXTURE_ENTRIES_MAX, SIZE_MAX / 2,
                                      read_entries, &read_count, &fixture_fault);
    log_reader_destroy(reader);
    if (err == TL_OK) *out_count = read_count;
    return err;
}

struct buf *fixture_read_entry(uint32_t i)
{
    TL_ASSERT(i < read_count);
    return read_entries[i];
}

void model_assert_stored(const struct log_model *model, const char *when)
{
    struct log_group_info info;
    enum tl_err err = log_store_recover(fixture_store, model->chain.group, &info, &fixture_fault);
    cr_assert_eq(err, TL_OK, "%s: recover: %s", when, fixture_fault.reason);
    buf_release(info.conf);
    cr_assert(info.exists, "%s", when);
    cr_assert_eq(info.last_index, model->chain.last_index, "%s", when);
    cr_assert_eq(info.base.index, model->base.index, "%s", when);
    cr_assert(hash_equal(info.base.hash, model->base.hash), "%s", when);
    cr_assert_eq(info.hard_state.term, model->hard_state.term, "%s", when);
    cr_assert_eq(info.hard_state.vote, model->hard_state.vote, "%s", when);
    cr_assert_eq(info.hard_state.commit, model->hard_state.commit, "%s", when);
    uint32_t count;
    err = fixture_read(model->chain.group, info.base.index + 1, UINT64_MAX, &count);
    cr_assert_eq(err, TL_OK, "%s: read: %s", when, fixture_fault.reason);
    cr_assert_eq(count, info.last_index - info.base.index, "%s", when);
    for (uint32_t i = 0; i < count; i++) {
        const struct buf *entry = model->entries[info.base.index + 1 + i];
        cr_assert(bytes_equal(buf_bytes(read_entries[i]), buf_bytes(entry)), "%s: entry %u differs",
                  when, i);
    }
}

bool fixture_conf_is(raft_group group, const struct buf *entry)
{
    struct log_group_info info;
    cr_assert_eq(log_store_recover(fixture_store, group, &info, &fixture_fault), TL_OK);
    bool is_equal = entry == NULL ? info.conf == NULL
                                  : info.conf != NULL &&
                                        bytes_equal(buf_bytes(info.conf), entry_payload(entry));
    buf_release(info.conf);
    return is_equal;
}
