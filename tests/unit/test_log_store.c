/* log_store: what log_store.h promises of commits, recovery, reads and retention. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log_store_fixture.h"
#include "sys_fault.h"

TestSuite(log_store, .init = fixture_setup, .fini = fixture_teardown, .timeout = 60);

static struct log_group_info recover(raft_group group)
{
    struct log_group_info info;
    enum tl_err err = log_store_recover(fixture_store, group, &info, &fixture_fault);
    cr_assert_eq(err, TL_OK, "recover: %s", fixture_fault.reason);
    return info;
}

/* ---- groups ---- */

Test(log_store, a_new_store_has_no_group)
{
    cr_assert_not(recover(0).exists);
    cr_assert_eq(log_store_used_bytes(fixture_store), 0);
    fixture_reopen();
    cr_assert_not(recover(0).exists);
}

Test(log_store, the_first_op_creates_its_group)
{
    struct log_op op = {.group = 9};
    cr_assert_eq(log_store_commit(fixture_store, &op, 1, NULL), TL_OK);
    cr_assert_not(op.out_has_base);
    fixture_reopen();
    struct log_group_info info = recover(9);
    cr_assert(info.exists);
    cr_assert_eq(info.last_index, 0);
    cr_assert_eq(info.hard_state.term, 0);
    cr_assert_null(info.conf);
    cr_assert_not(recover(8).exists);
}

Test(log_store, the_limit_of_groups_can_be_used)
{
    static struct log_op ops[LOG_STORE_GROUPS_MAX];
    for (uint32_t i = 0; i < LOG_STORE_GROUPS_MAX; i++) ops[i].group = i * 1000003u;
    cr_assert_eq(log_store_commit(fixture_store, ops, LOG_STORE_GROUPS_MAX, NULL), TL_OK);
    fixture_reopen();
    for (uint32_t i = 0; i < LOG_STORE_GROUPS_MAX; i++) cr_assert(recover(i * 1000003u).exists);
}

Test(log_store, one_group_too_many_stops_the_process, .signal = SIGABRT)
{
    static struct log_op ops[LOG_STORE_GROUPS_MAX + 1];
    for (uint32_t i = 0; i <= LOG_STORE_GROUPS_MAX; i++) ops[i].group = i;
    (void)!log_store_commit(fixture_store, ops, LOG_STORE_GROUPS_MAX + 1, NULL);
}

/* ---- commits ---- */

Test(log_store, entries_and_hard_state_survive_a_reopen_unchanged)
{
    struct log_model *model = model_create(1);
    static const size_t payload_bytes[] = {0, 1, 300, 2000, 2048, 5000, 70000, 1u << 20};
    for (size_t i = 0; i < TL_COUNT_OF(payload_bytes); i++) {
        model_append(model, 3, payload_bytes[i]);
    }
    const struct raft_hard_state hard_state = {.term = 7, .vote = 0xfedcba9876543210, .commit = 5};
    struct log_op op = {.group = 1, .hard_state = &hard_state};
    cr_assert_eq(model_commit(model, &op), TL_OK);
    model_assert_stored(model, "before");
    fixture_reopen();
    model_assert_stored(model, "after");
}

Test(log_store, the_longest_entry_is_stored)
{
    struct log_model *model = model_create(1);
    model_append(model, 2, ENTRY_PAYLOAD_BYTES_MAX);
    fixture_reopen();
    model_assert_stored(model, "reopened");
}

Test(log_store, ops_of_many_groups_are_one_commit)
{
    struct log_model *models[3];
    struct log_op ops[3];
    const struct raft_hard_state hard_state = {.term = 1};
    for (raft_group i = 0; i < 3; i++) {
        models[i] = model_create(i);
        models[i]->hard_state = hard_state;
        ops[i] = (struct log_op){
            .group = i,
            .entries = model_extend(models[i], ENTRY_COMMAND, 10 + i, 100),
            .entries_count = 10 + i,
            .hard_state = &hard_state,
        };
    }
    cr_assert_eq(log_store_commit(fixture_store, ops, 3, NULL), TL_OK);
    fixture_reopen();
    for (raft_group i = 0; i < 3; i++) model_assert_stored(models[i], "reopened");
}

Test(log_store, ops_of_one_group_are_applied_in_order)
{
    struct log_model *model = model_create(4);
    struct log_chain fork = model->chain;
    struct buf *dropped[3];
    for (int i = 0; i < 3; i++) dropped[i] = log_chain_next(&fork, ENTRY_COMMAND, 5000);
    const struct raft_hard_state first = {.term = 1, .vote = 1};
    const struct raft_hard_state second = {.term = 2, .vote = 2};
    model->chain.term = 2;
    model->hard_state = second;
    struct log_op ops[] = {
        {.group = 4, .entries = dropped, .entries_count = 3, .hard_state = &first},
        {.group = 4,
         .truncate_from = 1,
         .entries = model_extend(model, ENTRY_COMMAND, 2, 10),
         .entries_count = 2,
         .hard_state = &second},
    };
    cr_assert_eq(log_store_commit(fixture_store, ops, 2, NULL), TL_OK);
    for (int i = 0; i < 3; i++) buf_release(dropped[i]);
    model_assert_stored(model, "same transaction");
    fixture_reopen();
    model_assert_stored(model, "reopened");
}

/* Replaces everything from `first` by `count` entries of a higher term. */
static void replace(struct log_model *model, raft_index first, uint32_t count)
{
    model_truncate(model, first, model->chain.term + 1);
    struct raft_hard_state hard_state = model->hard_state;
    hard_state.term = model->chain.term;
    struct log_op op = {
        .group = model->chain.group,
        .truncate_from = first,
        .entries = model_extend(model, ENTRY_COMMAND, count, 200),
        .entries_count = count,
        .hard_state = &hard_state,
    };
    cr_assert_eq(model_commit(model, &op), TL_OK, "%s", fixture_fault.reason);
    model_assert_stored(model, "replaced");
}

Test(log_store, truncation_removes_from_its_index_on_and_appends_after_it)
{
    struct log_model *model = model_create(1);
    model_append(model, 3000, 100);
    model_append(model, 5, 9000);
    uint64_t used_bytes = log_store_used_bytes(fixture_store);
    replace(model, 3005, 1);
    replace(model, 3002, 7);
    replace(model, 2, 4);
    cr_assert_lt(log_store_used_bytes(fixture_store), used_bytes / 10, "its pages are free");
    replace(model, 4, 0);
    replace(model, 1, 0);
    fixture_reopen();
    model_assert_stored(model, "emptied");
    model_append(model, 20, 100);
    fixture_reopen();
    model_assert_stored(model, "filled again");
}

Test(log_store, truncation_above_the_end_changes_nothing)
{
    struct log_model *model = model_create(1);
    model_append(model, 3, 10);
    struct log_op op = {.group = 1, .truncate_from = 4};
    cr_assert_eq(model_commit(model, &op), TL_OK);
    model_assert_stored(model, "afterwards");
}

Test(log_store, a_commit_to_a_deleted_file_is_told_and_latched)
{
    struct log_model *model = model_create(1);
    model_append(model, 3, 100);
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", fixture_dir);
    cr_assert_eq(unlink(path), 0);
    struct log_op op = {.group = 1};
    cr_assert_eq(model_commit(model, &op), TL_ERR_IO);
    cr_assert_not_null(strstr(fixture_fault.reason, "deleted"), "%s", fixture_fault.reason);
    cr_assert_eq(model_commit(model, &op), TL_ERR_IO, "not latched");
}

Test(log_store, a_full_map_is_told_and_latched_and_keeps_what_was_there)
{
    log_store_close(TL_TAKE(&fixture_store));
    tmpdir_destroy(fixture_dir);
    tmpdir_create(fixture_dir);
    fixture_options.map_bytes = 1u << 20;
    fixture_open();
    struct log_model *model = model_create(1);
    model_append(model, 10, 1000);
    struct log_chain before = model->chain;
    struct log_op op = {
        .group = 1,
        .entries = model_extend(model, ENTRY_COMMAND, 1, 2u << 20),
        .entries_count = 1,
    };
    cr_assert_eq(model_commit(model, &op), TL_ERR_FULL);
    cr_assert_gt(strlen(fixture_fault.reason), 0);
    cr_assert_eq(fixture_fault.group, 1);

    fixture_fault = (struct tl_fault){.group = 0};
    struct log_op nothing = {.group = 1};
    cr_assert_eq(model_commit(model, &nothing), TL_ERR_FULL, "not latched");
    cr_assert_eq(fixture_fault.group, 1, "the first fault is told again");

    buf_release(TL_TAKE(&model->entries[11]));
    model->chain = before;
    fixture_options.map_bytes = FIXTURE_MAP_BYTES;
    fixture_reopen();
    model_assert_stored(model, "reopened");
    model_append(model, 1, 2u << 20);
    model_assert_stored(model, "with a larger map");
}

/* ---- what only a bug of ours can ask for ---- */

static void commit_or_stop(struct log_op op)
{
    tmpdir_destroy(fixture_dir); /* nobody else will: the process ends here */
    (void)!log_store_commit(fixture_store, &op, 1, NULL);
}

Test(log_store, a_gap_in_indexes_stops_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    struct buf **entries = model_extend(model, ENTRY_COMMAND, 2, 1);
    const struct raft_hard_state hard_state = {.term = 1};
    commit_or_stop((struct log_op){
        .group = 1, .entries = &entries[1], .entries_count = 1, .hard_state = &hard_state});
}

Test(log_store, an_entry_behind_a_truncation_gap_stops_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    model_append(model, 5, 1);
    struct buf **entries = model_extend(model, ENTRY_COMMAND, 1, 1);
    commit_or_stop(
        (struct log_op){.group = 1, .truncate_from = 3, .entries = entries, .entries_count = 1});
}

Test(log_store, an_entry_changed_after_sealing_stops_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    model_append(model, 1, 10);
    struct buf **entries = model_extend(model, ENTRY_COMMAND, 1, 10);
    entries[0]->data[ENTRY_HEADER_BYTES] ^= 1;
    commit_or_stop((struct log_op){.group = 1, .entries = entries, .entries_count = 1});
}

Test(log_store, an_entry_of_another_group_stops_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    const struct raft_hard_state hard_state = {.term = 1};
    commit_or_stop((struct log_op){.group = 2,
                                   .entries = model_extend(model, ENTRY_COMMAND, 1, 1),
                                   .entries_count = 1,
                                   .hard_state = &hard_state});
}

Test(log_store, truncation_of_committed_entries_stops_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    model->hard_state.commit = 2;
    model_append(model, 5, 1);
    commit_or_stop((struct log_op){.group = 1, .truncate_from = 2});
}

Test(log_store, a_commit_index_above_the_end_stops_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    model_append(model, 5, 1);
    const struct raft_hard_state hard_state = {.term = 1, .commit = 6};
    commit_or_stop((struct log_op){.group = 1, .hard_state = &hard_state});
}

Test(log_store, a_falling_term_stops_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    model->hard_state.term = 3;
    model_append(model, 1, 1);
    const struct raft_hard_state hard_state = {.term = 2};
    commit_or_stop((struct log_op){.group = 1, .hard_state = &hard_state});
}

Test(log_store, entries_above_the_current_term_stop_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    model->chain.term = 2;
    commit_or_stop((struct log_op){
        .group = 1, .entries = model_extend(model, ENTRY_COMMAND, 1, 1), .entries_count = 1});
}

Test(log_store, deletable_above_the_end_stops_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    model_append(model, 5, 1);
    commit_or_stop((struct log_op){.group = 1, .deletable = 6});
}

/* ---- configurations ---- */

Test(log_store, the_newest_configuration_is_recovered)
{
    struct log_model *model = model_create(0);
    cr_assert(!recover(0).exists);
    model_append_conf(model, ENTRY_GENESIS, 200);
    cr_assert(fixture_conf_is(0, model->entries[1]));
    model_append(model, 50, 100);
    model_append_conf(model, ENTRY_CONF, 0);
    model_append(model, 5, 100);
    fixture_reopen();
    cr_assert(fixture_conf_is(0, model->entries[52]), "also an empty payload");
    model_append_conf(model, ENTRY_CONF, 3000);
    fixture_reopen();
    cr_assert(fixture_conf_is(0, model->entries[58]));
}

Test(log_store, groups_have_their_own_configurations)
{
    struct log_model *models[3];
    for (raft_group i = 0; i < 3; i++) {
        models[i] = model_create(i == 2 ? UINT32_MAX : i);
        if (i != 1) model_append_conf(models[i], ENTRY_GENESIS, 10 + i);
        model_append(models[i], 1, 1);
    }
    cr_assert(fixture_conf_is(0, models[0]->entries[1]));
    cr_assert(fixture_conf_is(1, NULL));
    cr_assert(fixture_conf_is(UINT32_MAX, models[2]->entries[1]));
}

/* A leader that loses its term takes its configuration with it (thesis 4.1). */
Test(log_store, truncation_brings_the_configuration_before_back)
{
    struct log_model *model = model_create(1);
    model_append_conf(model, ENTRY_GENESIS, 100);
    model_append(model, 3, 1);
    model_append_conf(model, ENTRY_CONF, 101); /* 5 */
    model_append(model, 3, 1);
    model_append_conf(model, ENTRY_CONF, 102); /* 9 */
    replace(model, 9, 1);
    cr_assert(fixture_conf_is(1, model->entries[5]));
    model_append_conf(model, ENTRY_CONF, 103); /* 10 */
    cr_assert(fixture_conf_is(1, model->entries[10]));
    replace(model, 3, 0);
    fixture_reopen();
    cr_assert(fixture_conf_is(1, model->entries[1]), "two at once");
    replace(model, 1, 0);
    fixture_reopen();
    cr_assert(fixture_conf_is(1, NULL));
}

/* ---- reading ---- */

Test(log_store, reads_give_the_range_and_no_more)
{
    struct log_model *model = model_create(1);
    model_append(model, 200, 100);
    uint32_t count = 0;
    cr_assert_eq(fixture_read(1, 100, 102, &count), TL_OK);
    cr_assert_eq(count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(entry_index(fixture_read_entry(i)), 100 + i);
        cr_assert(
            bytes_equal(buf_bytes(fixture_read_entry(i)), buf_bytes(model->entries[100 + i])));
    }
    cr_assert_eq(fixture_read(1, 199, 5000, &count), TL_OK);
    cr_assert_eq(count, 2, "up to the last");
    cr_assert_eq(fixture_read(1, 201, 5000, &count), TL_OK);
    cr_assert_eq(count, 0, "above the last");
    cr_assert_eq(fixture_read(1, 5, 4, &count), TL_OK);
    cr_assert_eq(count, 0, "an empty range");
    cr_assert_eq(fixture_read(2, 1, 4, &count), TL_OK);
    cr_assert_eq(count, 0, "a group never written");
}

Test(log_store, reads_stop_at_their_limits_but_give_one_entry_at_least)
{
    struct log_model *model = model_create(1);
    model_append(model, 20, 1000);
    struct log_reader *reader = NULL;
    cr_assert_eq(log_reader_create(fixture_store, &reader), TL_OK);
    struct buf *entries[20];
    static const struct {
        uint32_t entries_max;
        size_t bytes_max;
        uint32_t count;
    } cases[] = {{7, 1u << 20, 7}, {20, 5 * (1000 + ENTRY_HEADER_BYTES), 5}, {20, 1, 1}, {1, 0, 1}};
    for (size_t i = 0; i < TL_COUNT_OF(cases); i++) {
        uint32_t count = 0;
        cr_assert_eq(log_reader_read(reader, 1, 1, 20, cases[i].entries_max, cases[i].bytes_max,
                                     entries, &count, NULL),
                     TL_OK);
        cr_assert_eq(count, cases[i].count, "case %zu", i);
        for (uint32_t k = 0; k < count; k++) buf_release(entries[k]);
    }
    log_reader_destroy(reader);
}

Test(log_store, a_reader_sees_every_commit_before_the_read)
{
    struct log_reader *reader = NULL;
    cr_assert_eq(log_reader_create(fixture_store, &reader), TL_OK);
    struct log_model *model = model_create(1);
    for (raft_index i = 1; i <= 10; i++) {
        model_append(model, 1, 50);
        struct buf *entry = NULL;
        uint32_t count = 0;
        cr_assert_eq(log_reader_read(reader, 1, i, i, 1, 1, &entry, &count, NULL), TL_OK);
        cr_assert_eq(count, 1);
        cr_assert_eq(entry_index(entry), i);
        buf_release(entry);
    }
    log_reader_destroy(reader);
}

Test(log_store, a_read_tells_the_hash_in_front_of_its_first_entry)
{
    struct log_model *model = model_create(1);
    model_append(model, 10, 50);
    struct log_reader *reader = NULL;
    cr_assert_eq(log_reader_create(fixture_store, &reader), TL_OK);
    for (raft_index i = 1; i <= 9; i += 4) {
        struct buf *entries[2];
        uint32_t count = 0;
        cr_assert_eq(log_reader_read(reader, 1, i, i + 1, 2, 1000, entries, &count, NULL), TL_OK);
        cr_assert_eq(count, 2);
        cr_assert(entry_hash_is_right(buf_bytes(entries[0]), log_reader_previous_hash(reader)));
        for (uint32_t k = 0; k < count; k++) buf_release(entries[k]);
    }
    log_reader_destroy(reader);
}

Test(log_store, bytes_are_told_by_group)
{
    struct log_model *model = model_create(1);
    model_append(model, 100, 1000);
    cr_assert_geq(log_store_group_bytes(fixture_store, 1), 100 * 1000);
    cr_assert_eq(log_store_group_bytes(fixture_store, 1), log_store_used_bytes(fixture_store));
    cr_assert_eq(log_store_group_bytes(fixture_store, 2), 0);
}

Test(log_store, readers_are_many_and_their_limit_is_told)
{
    static struct log_reader *readers[200];
    uint32_t count = 0;
    enum tl_err err = TL_OK;
    while (count < 200 && (err = log_reader_create(fixture_store, &readers[count])) == TL_OK) {
        count++;
    }
    cr_assert_eq(err, TL_ERR_FULL);
    cr_assert_geq(count, 32);
    for (uint32_t i = 0; i < count; i++) log_reader_destroy(readers[i]);
    cr_assert_eq(log_reader_create(fixture_store, &readers[0]), TL_OK, "a slot is given back");
    log_reader_destroy(readers[0]);
    log_reader_destroy(NULL);
}

/* ---- retention ---- */

static void reopen_with_retention(uint64_t retain_bytes)
{
    fixture_options.retain_bytes = retain_bytes;
    fixture_reopen();
}

static enum tl_err append_and_delete(struct log_model *model, uint32_t count, size_t payload_bytes,
                                     raft_index deletable, struct log_op *out_op)
{
    const struct raft_hard_state hard_state = {.term = 1, .commit = deletable};
    *out_op = (struct log_op){
        .group = model->chain.group,
        .entries = model_extend(model, ENTRY_COMMAND, count, payload_bytes),
        .entries_count = count,
        .hard_state = &hard_state,
        .deletable = deletable,
    };
    enum tl_err err = model_commit(model, out_op);
    out_op->entries = NULL;
    out_op->hard_state = NULL;
    return err;
}

Test(log_store, old_entries_go_with_appends_a_few_at_a_time)
{
    struct log_model *model = model_create(1);
    model_append(model, 1000, 300);
    reopen_with_retention(0);
    struct log_op op;
    cr_assert_eq(append_and_delete(model, 10, 300, 900, &op), TL_OK);
    cr_assert(op.out_has_base);
    cr_assert_eq(op.out_base.index, 10 + LOG_DELETE_EXTRA);
    model_assert_stored(model, "after");
    cr_assert_eq(append_and_delete(model, 0, 0, 900, &op), TL_OK);
    cr_assert_eq(op.out_base.index, 10 + 2 * LOG_DELETE_EXTRA);
    fixture_reopen();
    model_assert_stored(model, "reopened");
    uint32_t count;
    cr_assert_eq(fixture_read(1, model->base.index, UINT64_MAX, &count), TL_ERR_COMPACTED);
    cr_assert_eq(fixture_read(1, model->base.index + 1, UINT64_MAX, &count), TL_OK);
}

Test(log_store, nothing_above_deletable_is_deleted)
{
    struct log_model *model = model_create(1);
    model_append(model, 500, 300);
    reopen_with_retention(0);
    struct log_op op;
    cr_assert_eq(append_and_delete(model, 10, 300, 5, &op), TL_OK);
    cr_assert_eq(model->base.index, 5);
    cr_assert_eq(append_and_delete(model, 10, 300, 5, &op), TL_OK);
    cr_assert_not(op.out_has_base, "nothing more to delete");
    cr_assert_eq(append_and_delete(model, 10, 300, 0, &op), TL_OK);
    cr_assert_not(op.out_has_base);
    model_assert_stored(model, "after");
}

Test(log_store, the_retention_is_kept)
{
    const uint64_t retain_bytes = 256u << 10;
    struct log_model *model = model_create(1);
    reopen_with_retention(retain_bytes);
    uint64_t used_bytes_max = 0;
    for (int i = 0; i < 300; i++) {
        struct log_op op;
        raft_index base_index = model->base.index;
        cr_assert_eq(append_and_delete(model, 20, 300, model->chain.last_index, &op), TL_OK);
        uint64_t used_bytes = log_store_used_bytes(fixture_store);
        used_bytes_max = TL_MAX(used_bytes_max, used_bytes);
        if (op.out_has_base) {
            cr_assert_geq(used_bytes, retain_bytes, "turn %d", i);
            cr_assert_leq(model->base.index - base_index, 20 + LOG_DELETE_EXTRA);
        } else {
            cr_assert_leq(used_bytes, retain_bytes + (64u << 10), "turn %d", i);
        }
    }
    cr_assert_gt(model->base.index, 4000, "it was reached");
    cr_assert_leq(used_bytes_max, retain_bytes + (64u << 10));
    model_assert_stored(model, "after");
}

/* The retention is the node's: one group's log may make room for another's. */
Test(log_store, the_retention_counts_all_groups)
{
    struct log_model *big = model_create(1);
    struct log_model *small = model_create(2);
    model_append(big, 1000, 300);
    model_append(small, 10, 300);
    reopen_with_retention(100u << 10);
    struct log_op op;
    cr_assert_eq(append_and_delete(small, 1, 300, 5, &op), TL_OK);
    cr_assert_eq(small->base.index, 5);
    model_assert_stored(big, "big");
    model_assert_stored(small, "small");
}

/* Records of all sizes, overflow pages and all, a reader in between: freed pages are used again. */
Test(log_store, the_data_file_stops_growing)
{
    const uint64_t retain_bytes = 4u << 20;
    struct log_model *model = model_create(1);
    reopen_with_retention(retain_bytes);
    static const size_t payload_bytes[] = {100, 300, 3000, 20, 12000, 300, 40000, 900};
    uint64_t file_bytes_at_half = 0;
    for (uint32_t i = 0; i < 1200; i++) {
        struct log_op op;
        size_t bytes = payload_bytes[i % TL_COUNT_OF(payload_bytes)];
        cr_assert_eq(append_and_delete(model, 5, bytes, model->chain.last_index, &op), TL_OK);
        uint32_t count;
        cr_assert_eq(fixture_read(1, model->chain.last_index - 2, UINT64_MAX, &count), TL_OK);
        if (i == 600) file_bytes_at_half = log_store_file_bytes(fixture_store);
    }
    cr_assert_leq(log_store_file_bytes(fixture_store), 2 * retain_bytes);
    cr_assert_leq(log_store_file_bytes(fixture_store), file_bytes_at_half + (retain_bytes / 4));
    fixture_reopen();
    model_assert_stored(model, "reopened");
}

Test(log_store, the_whole_log_may_go)
{
    struct log_model *model = model_create(1);
    model_append(model, 40, 5000);
    reopen_with_retention(0);
    for (int i = 0; i < 5; i++) {
        struct log_op op;
        cr_assert_eq(append_and_delete(model, 0, 0, 40, &op), TL_OK);
    }
    cr_assert_geq(model->base.index, 35, "the last pages stay within a fixed slack");
    fixture_reopen();
    model_assert_stored(model, "reopened");
    model_append(model, 3, 100);
    model_assert_stored(model, "appended");
}

Test(log_store, the_configuration_in_force_outlives_its_entry)
{
    struct log_model *model = model_create(1);
    model_append_conf(model, ENTRY_GENESIS, 100);
    model_append(model, 10, 300);
    model_append_conf(model, ENTRY_CONF, 101); /* 12 */
    model_append_conf(model, ENTRY_CONF, 102); /* 13 */
    model_append(model, 300, 300);
    struct buf *in_force = buf_acquire(model->entries[13]);
    reopen_with_retention(0);
    struct log_op op;
    cr_assert_eq(append_and_delete(model, 10, 300, 100, &op), TL_OK);
    cr_assert_gt(model->base.index, 13);
    fixture_reopen();
    cr_assert(fixture_conf_is(1, in_force));

    /* Truncated down to the base, it is still there. */
    model_append_conf(model, ENTRY_CONF, 103);
    cr_assert(fixture_conf_is(1, model->entries[model->chain.last_index]));
    replace(model, 101, 0);
    cr_assert(fixture_conf_is(1, in_force));
    buf_release(in_force);
}

Test(log_store, truncation_at_the_base_stops_the_process, .signal = SIGABRT)
{
    struct log_model *model = model_create(1);
    model_append(model, 500, 300);
    reopen_with_retention(0);
    struct log_op op = {.group = 1, .deletable = 400};
    cr_assert_eq(model_commit(model, &op), TL_OK);
    commit_or_stop((struct log_op){.group = 1, .truncate_from = model->base.index});
}

/* ---- the data file ---- */

static void replace_with_new_store(size_t prefill_bytes)
{
    log_store_close(TL_TAKE(&fixture_store));
    tmpdir_destroy(fixture_dir);
    tmpdir_create(fixture_dir);
    fixture_options.prefill_bytes = prefill_bytes;
}

static struct stat stat_data_file(void)
{
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", fixture_dir);
    struct stat status;
    cr_assert_eq(stat(path, &status), 0);
    return status;
}

Test(log_store, a_new_file_is_filled_with_blocks_that_were_written)
{
    replace_with_new_store(5u << 20);
    sys_fault_arm(0, 0);
    fixture_open();
    cr_assert_not_null(strstr(sys_fault_trace(), "pwrite fsync rename unlink fsync "),
                       "flushed before it has its name, the name before anything is promised: %s",
                       sys_fault_trace());
    struct stat status = stat_data_file();
    cr_assert_eq(status.st_size, 5 << 20);
    cr_assert_geq(status.st_blocks * 512, 5 << 20, "not sparse");
    cr_assert_eq(log_store_file_bytes(fixture_store), 5u << 20);

    struct log_model *model = model_create(1);
    model_append(model, 100, 10000);
    cr_assert_eq(stat_data_file().st_size, 5 << 20, "commits overwrite");
    model_append(model, 600, 10000);
    cr_assert_eq((uint64_t)stat_data_file().st_size, log_store_file_bytes(fixture_store));
    cr_assert_gt(log_store_file_bytes(fixture_store), 6u << 20);
    fixture_reopen();
    model_assert_stored(model, "reopened");
}

Test(log_store, a_short_write_while_filling_goes_on)
{
    replace_with_new_store(1u << 20);
    sys_fault_arm_short_write();
    fixture_open();
    cr_assert(sys_fault_disarm());
    cr_assert_eq(stat_data_file().st_size, 1 << 20);
}

Test(log_store, what_a_crash_in_creation_left_is_built_again)
{
    replace_with_new_store(0);
    static const char *const leftovers[] = {"new.mdb", "new.mdb-lock"};
    for (size_t i = 0; i < TL_COUNT_OF(leftovers); i++) {
        char path[TMPDIR_PATH_BYTES_MAX + 16];
        (void)snprintf(path, sizeof path, "%s/%s", fixture_dir, leftovers[i]);
        FILE *file = fopen(path, "w");
        cr_assert_not_null(file);
        (void)fputs("half a file", file);
        cr_assert_eq(fclose(file), 0);
    }
    fixture_open();
    model_append(model_create(1), 3, 3);
}

/* A child that is exec'd must not keep the file open. */
Test(log_store, the_data_file_is_closed_on_exec)
{
    DIR *stream = opendir("/proc/self/fd");
    cr_assert_not_null(stream);
    uint32_t count = 0;
    const struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        char path[300];
        char target[300];
        (void)snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        if (strstr(target, fixture_dir) == NULL) continue;
        int flags = fcntl((int)strtol(entry->d_name, NULL, 10), F_GETFD, 0);
        cr_assert((flags & FD_CLOEXEC) != 0, "%s", target);
        count++;
    }
    (void)closedir(stream);
    cr_assert_geq(count, 2, "data and lock file");
}
