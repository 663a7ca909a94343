/* log_store: the switch to an installed snapshot, what a running transfer keeps, and looking at a
 * log without writing. */

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lmdb_fault.h"
#include "log_store_fixture.h"
#include "trilith/crash_point.h"

TestSuite(log_store_install, .init = fixture_setup, .fini = fixture_teardown, .timeout = 60);

static const struct raft_hard_state raised = {.term = 5, .vote = 3, .commit = 10};

/* Where another log of the group stands at `index`: what a snapshot taken there is of. */
static struct log_chain foreign_chain(raft_index index, raft_term term)
{
    struct log_chain chain = log_chain_make(1, term);
    while (chain.last_index < index) buf_release(log_chain_next(&chain, ENTRY_COMMAND, 7));
    return chain;
}

static struct raft_base base_of(const struct log_chain *chain)
{
    return (struct raft_base){.index = chain->last_index,
                              .term = chain->term,
                              .hash = chain->hash,
                              .time_us = chain->time_us};
}

static struct raft_base base_at(const struct log_model *model, raft_index index)
{
    const struct buf *entry = model->entries[index];
    return (struct raft_base){.index = index,
                              .term = entry_term(entry),
                              .hash = entry_hash(entry),
                              .time_us = entry_time_us(entry)};
}

/* Configurations at 1, 40 and 95; 100 entries; committed up to 10. */
static struct log_model *scene(void)
{
    struct log_model *model = model_create(1);
    model_append_conf(model, ENTRY_GENESIS, 10);
    model_append(model, 38, 300);
    model_append_conf(model, ENTRY_CONF, 20);
    model_append(model, 54, 300);
    model_append_conf(model, ENTRY_CONF, 30);
    model_append(model, 5, 9000);
    struct log_op op = {.group = 1, .hard_state = &raised};
    cr_assert_eq(model_commit(model, &op), TL_OK);
    return model;
}

static struct log_install install_of(struct raft_base base, bool keeps_suffix)
{
    return (struct log_install){.base = base,
                                .keeps_suffix = keeps_suffix,
                                .table_number = 1,
                                .conf = bytes_of("the snapshot's configuration")};
}

static enum tl_err commit_install(struct log_model *model, const struct log_install *install)
{
    struct log_op op = {.group = 1, .install = install};
    enum tl_err err = model_commit(model, &op);
    if (err == TL_OK) {
        cr_assert(op.out_has_base);
        cr_assert_eq(op.out_base.index, install->base.index);
        model->hard_state.commit = install->base.index;
    }
    return err;
}

/* The model after the log was emptied. */
static void model_restart(struct log_model *model, const struct log_chain *chain)
{
    for (raft_index i = 1; i < FIXTURE_ENTRIES_MAX; i++) buf_release(TL_TAKE(&model->entries[i]));
    model->chain = *chain;
    model->base = base_of(chain);
}

static void assert_conf(const char *text, raft_index index)
{
    struct log_group_info info;
    cr_assert_eq(log_store_recover(fixture_store, 1, &info, &fixture_fault), TL_OK);
    cr_assert(bytes_equal(buf_bytes(info.conf), bytes_of(text)));
    cr_assert_eq(info.conf_index, index);
    buf_release(info.conf);
}

static uint64_t table_number(raft_group group)
{
    struct log_group_info info;
    cr_assert_eq(log_store_recover(fixture_store, group, &info, &fixture_fault), TL_OK);
    buf_release(info.conf);
    return info.table_number;
}

Test(log_store_install, the_log_is_emptied_and_goes_on_behind_the_base)
{
    struct log_model *model = scene();
    struct log_chain chain = foreign_chain(60, 4); /* below our last entry, of another term */
    struct log_install install = install_of(base_of(&chain), false);
    cr_assert_eq(commit_install(model, &install), TL_OK, "%s", fixture_fault.reason);
    model_restart(model, &chain);
    model_assert_stored(model, "installed");
    assert_conf("the snapshot's configuration", 60);
    fixture_reopen();
    model_assert_stored(model, "reopened");
    assert_conf("the snapshot's configuration", 60);
    model_append(model, 20, 300);
    fixture_reopen();
    model_assert_stored(model, "appended");
}

Test(log_store_install, a_base_behind_the_end_is_installed)
{
    struct log_model *model = scene();
    struct log_chain chain = foreign_chain(5000, 5);
    struct log_install install = install_of(base_of(&chain), false);
    cr_assert_eq(commit_install(model, &install), TL_OK);
    model_restart(model, &chain);
    fixture_reopen();
    model_assert_stored(model, "reopened");
    cr_assert_lt(log_store_used_bytes(fixture_store), 8192, "the pages are free again");
}

Test(log_store_install, the_suffix_behind_a_matching_entry_stays)
{
    struct log_model *model = scene();
    struct log_install install = install_of(base_at(model, 60), true);
    struct buf *conf = buf_acquire(model->entries[95]);
    cr_assert_eq(commit_install(model, &install), TL_OK, "%s", fixture_fault.reason);
    model_assert_stored(model, "installed");
    cr_assert_eq(model->chain.last_index, 100);
    cr_assert(fixture_conf_is(1, conf), "a later configuration stays");
    fixture_reopen();
    model_assert_stored(model, "reopened");
    cr_assert(fixture_conf_is(1, conf));
    model_append(model, 3, 100);
    model_assert_stored(model, "appended");

    /* Truncated down to the base, the snapshot's own is in force. */
    struct raft_hard_state hard_state = {.term = 6, .commit = 60};
    struct log_op op = {.group = 1, .truncate_from = 61, .hard_state = &hard_state};
    cr_assert_eq(model_commit(model, &op), TL_OK);
    assert_conf("the snapshot's configuration", 60);
    buf_release(conf);
}

Test(log_store_install, an_empty_suffix_may_stay)
{
    struct log_model *model = scene();
    struct log_install install = install_of(base_at(model, 100), true);
    cr_assert_eq(commit_install(model, &install), TL_OK);
    fixture_reopen();
    model_assert_stored(model, "reopened");
    assert_conf("the snapshot's configuration", 100);
}

Test(log_store_install, a_group_may_be_born_by_an_install)
{
    struct log_chain chain = foreign_chain(77, 2);
    struct log_install install = install_of(base_of(&chain), false);
    const struct raft_hard_state hard_state = {.term = 2};
    struct log_op op = {.group = 1, .install = &install, .hard_state = &hard_state};
    cr_assert_eq(log_store_commit(fixture_store, &op, 1, &fixture_fault), TL_OK);
    fixture_reopen();
    struct log_model *model = model_create(1);
    model_restart(model, &chain);
    model->hard_state = (struct raft_hard_state){.term = 2, .commit = 77};
    model_assert_stored(model, "reopened");
}

Test(log_store_install, the_commit_index_is_raised_and_the_vote_stays)
{
    struct log_model *model = scene();
    struct log_install install = install_of(base_at(model, 60), true);
    cr_assert_eq(commit_install(model, &install), TL_OK);
    struct log_group_info info;
    cr_assert_eq(log_store_recover(fixture_store, 1, &info, &fixture_fault), TL_OK);
    buf_release(info.conf);
    cr_assert_eq(info.hard_state.commit, 60);
    cr_assert_eq(info.hard_state.term, raised.term);
    cr_assert_eq(info.hard_state.vote, raised.vote);
}

Test(log_store_install, the_table_in_use_is_named_by_group)
{
    struct log_model *model = scene();
    model_append(model_create(2), 3, 10);
    cr_assert_eq(table_number(1), 0);
    struct log_install install = install_of(base_at(model, 60), true);
    cr_assert_eq(commit_install(model, &install), TL_OK);
    cr_assert_eq(table_number(1), 1);
    install = install_of(base_at(model, 70), true);
    install.table_number = 7;
    cr_assert_eq(commit_install(model, &install), TL_OK);
    fixture_reopen();
    cr_assert_eq(table_number(1), 7);
    cr_assert_eq(table_number(2), 0);
    cr_assert_eq(table_number(3), 0, "never written");
}

Test(log_store_install, another_entry_at_the_base_on_disk_is_corruption)
{
    struct log_model *model = scene();
    struct raft_base base = base_at(model, 60);
    base.hash.low ^= 1;
    struct log_install install = install_of(base, true);
    cr_assert_eq(commit_install(model, &install), TL_ERR_CORRUPT);
    cr_assert_eq(fixture_fault.index, 60);
    fixture_reopen();
    model_assert_stored(model, "nothing was taken away");
}

static void commit_or_stop(struct log_install install)
{
    struct log_op op = {.group = 1, .install = &install};
    enum tl_err err = log_store_commit(fixture_store, &op, 1, NULL);
    cr_assert_fail("came back: %s", tl_err_name(err));
}

Test(log_store_install, going_back_behind_the_commit_index_stops_the_process, .signal = SIGABRT)
{
    commit_or_stop(install_of(base_at(scene(), 10), true));
}

Test(log_store_install, an_old_table_number_stops_the_process, .signal = SIGABRT)
{
    struct log_install install = install_of(base_at(scene(), 60), true);
    install.table_number = 0;
    commit_or_stop(install);
}

Test(log_store_install, entries_in_the_same_op_stop_the_process, .signal = SIGABRT)
{
    struct log_model *model = scene();
    struct log_install install = install_of(base_at(model, 60), true);
    struct log_op op = {.group = 1, .install = &install, .truncate_from = 70};
    enum tl_err err = log_store_commit(fixture_store, &op, 1, NULL);
    cr_assert_fail("came back: %s", tl_err_name(err));
}

/* ---- all or nothing ---- */

static bool is_installed(struct log_model *model, bool keeps_suffix, const char *when)
{
    if (table_number(1) == 0) {
        model_assert_stored(model, when);
        return false;
    }
    if (keeps_suffix) {
        struct log_model *after = model_create(1);
        after->chain = model->chain;
        after->base = base_at(model, 60);
        after->hard_state = model->hard_state;
        after->hard_state.commit = 60;
        for (raft_index i = 61; i <= 100; i++) after->entries[i] = buf_acquire(model->entries[i]);
        model_assert_stored(after, when);
    } else {
        struct log_chain chain = foreign_chain(60, 4);
        model_restart(model, &chain);
        model->hard_state.commit = 60;
        model_assert_stored(model, when);
    }
    return true;
}

static void sweep(bool keeps_suffix)
{
    uint32_t new_count = 0;
    for (uint32_t n = 1;; n++) {
        fixture_teardown();
        fixture_setup();
        struct log_model *model = scene();
        struct log_chain chain = foreign_chain(60, 4);
        struct log_install install =
            install_of(keeps_suffix ? base_at(model, 60) : base_of(&chain), keeps_suffix);
        struct log_op op = {.group = 1, .install = &install};
        lmdb_fault_arm(n, EIO, LMDB_FAULT_COMMIT_TAKES_EFFECT);
        enum tl_err err = log_store_commit(fixture_store, &op, 1, &fixture_fault);
        bool has_fired = lmdb_fault_disarm();
        cr_assert_eq(err, has_fired ? TL_ERR_IO : TL_OK, "fault %u in %s", n, lmdb_fault_call());
        cr_assert_eq(op.out_has_base, !has_fired);
        fixture_reopen();
        bool is_new = is_installed(model, keeps_suffix, lmdb_fault_call());
        if (!has_fired) {
            cr_assert(is_new);
            cr_assert_geq(n, keeps_suffix ? 90 : 15);
            cr_assert_eq(new_count, 3, "the commit, and the two questions after it");
            return;
        }
        new_count += is_new;
    }
}

Test(log_store_install, a_failed_install_is_latched_and_leaves_all_or_nothing)
{
    sweep(false);
    sweep(true);
}

/* A child is killed at the point; the parent looks at what it left. */
static bool installed_after_kill_at(const char *point)
{
    struct log_model *model = scene();
    log_store_close(TL_TAKE(&fixture_store));
    (void)fflush(NULL); /* or the child prints it again */
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct log_chain chain = foreign_chain(60, 4);
        struct log_install install = install_of(base_of(&chain), false);
        struct log_op op = {.group = 1, .install = &install};
        if (!crash_point_arm(point) || fixture_try_open() != TL_OK) _exit(1);
        _exit(log_store_commit(fixture_store, &op, 1, NULL) == TL_OK ? 2 : 3);
    }
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s was not reached", point);
    fixture_open();
    return is_installed(model, false, point);
}

Test(log_store_install, killed_before_the_switch_it_did_not_happen)
{
    cr_assert_not(installed_after_kill_at("switch-before-commit"));
}

Test(log_store_install, killed_behind_the_switch_it_has_happened)
{
    cr_assert(installed_after_kill_at("switch-after-commit"));
}

/* ---- what a transfer keeps ---- */

static raft_index base_after_appends(uint64_t retain_bytes, raft_index keep_from)
{
    struct log_model *model = model_create(1);
    fixture_options.retain_bytes = retain_bytes;
    fixture_reopen();
    struct raft_hard_state hard_state = {.term = 1};
    for (int i = 0; i < 200; i++) {
        raft_index deletable = model->chain.last_index;
        struct log_op op = {
            .group = 1,
            .entries = model_extend(model, ENTRY_COMMAND, 20, 400),
            .entries_count = 20,
            .hard_state = &hard_state,
            .deletable = deletable,
            .keep_from = keep_from,
        };
        cr_assert_eq(model_commit(model, &op), TL_OK, "%s", fixture_fault.reason);
    }
    model_assert_stored(model, "at the end");
    return model->base.index;
}

Test(log_store_install, a_running_transfer_keeps_what_it_needs)
{
    cr_assert_gt(base_after_appends(600u << 10, 0), 2000, "without it");
    fixture_teardown();
    fixture_setup();
    cr_assert_eq(base_after_appends(600u << 10, 1000), 999, "4,000 entries are below 4 x 600 KiB");
}

Test(log_store_install, a_transfer_keeps_no_more_than_four_times_the_retention)
{
    raft_index base = base_after_appends(200u << 10, 100);
    cr_assert_gt(base, 1000);
    uint64_t used_bytes = log_store_used_bytes(fixture_store);
    cr_assert_geq(used_bytes, 4 * (200u << 10));
    cr_assert_leq(used_bytes, 4 * (200u << 10) + (64u << 10));
}

/* ---- looking ---- */

struct progress {
    uint32_t calls_count;
    raft_index index;
    raft_index last;
    bool goes_on;
};

static bool note_progress(void *context, raft_index index, raft_index last)
{
    struct progress *progress = context;
    cr_assert_gt(index, progress->index);
    progress->calls_count++;
    progress->index = index;
    progress->last = last;
    return progress->goes_on;
}

static enum tl_err verify(raft_group group, struct progress *progress)
{
    struct log_reader *reader = NULL;
    cr_assert_eq(log_reader_create(fixture_store, &reader), TL_OK);
    enum tl_err err = log_reader_verify(reader, group, note_progress, progress, &fixture_fault);
    log_reader_destroy(reader);
    return err;
}

Test(log_store_install, verify_walks_the_whole_log_and_tells_how_far_it_is)
{
    struct log_model *model = model_create(1);
    model_append(model, 3 * LOG_VERIFY_STEP + 5, 20);
    struct progress progress = {.goes_on = true};
    cr_assert_eq(verify(1, &progress), TL_OK, "%s", fixture_fault.reason);
    cr_assert_eq(progress.calls_count, 4);
    cr_assert_eq(progress.index, model->chain.last_index);
    cr_assert_eq(progress.last, model->chain.last_index);
    progress = (struct progress){.goes_on = false};
    cr_assert_eq(verify(1, &progress), TL_ERR_CANCELED);
    cr_assert_eq(progress.calls_count, 1);
    progress = (struct progress){.goes_on = true};
    cr_assert_eq(verify(9, &progress), TL_OK, "a group never written");
    cr_assert_eq(progress.calls_count, 0);
}

Test(log_store_install, verify_goes_on_behind_an_installed_base)
{
    struct log_model *model = scene();
    struct log_install install = install_of(base_at(model, 60), true);
    cr_assert_eq(commit_install(model, &install), TL_OK);
    struct progress progress = {.goes_on = true};
    cr_assert_eq(verify(1, &progress), TL_OK, "%s", fixture_fault.reason);
    cr_assert_eq(progress.index, 100);
}

/* Flips a bit of the payload that says "entry <index>" in the file. */
static void flip_in_file(raft_index index)
{
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", fixture_dir);
    uint32_t count;
    cr_assert_eq(fixture_read(1, index, index, &count), TL_OK);
    struct buf *entry = buf_copy(buf_bytes(fixture_read_entry(0)));
    log_store_close(TL_TAKE(&fixture_store));
    FILE *file = fopen(path, "r+");
    cr_assert_not_null(file);
    static uint8_t page[4096];
    uint32_t found_count = 0;
    for (long at = 0; fread(page, 1, sizeof page, file) == sizeof page; at += 4096) {
        for (size_t i = 0; i + entry->count <= sizeof page; i++) {
            if (memcmp(page + i, entry->data, entry->count) != 0) continue;
            found_count++;
            page[i + ENTRY_HEADER_BYTES] ^= 1;
            cr_assert_eq(fseek(file, at, SEEK_SET), 0);
            cr_assert_eq(fwrite(page, 1, sizeof page, file), sizeof page);
        }
        cr_assert_eq(fseek(file, at + 4096, SEEK_SET), 0);
    }
    cr_assert_eq(fclose(file), 0);
    cr_assert_geq(found_count, 1);
    buf_release(entry);
}

Test(log_store_install, verify_names_the_damaged_entry)
{
    model_append(model_create(1), 500, 300);
    flip_in_file(321);
    fixture_open();
    struct progress progress = {.goes_on = true};
    cr_assert_eq(verify(1, &progress), TL_ERR_CORRUPT);
    cr_assert_eq(fixture_fault.index, 321);
    cr_assert_eq(fixture_fault.group, 1);
}

Test(log_store_install, a_log_opened_to_look_at_is_not_written)
{
    struct log_model *model = scene();
    char lock_path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(lock_path, sizeof lock_path, "%s/lock.mdb", fixture_dir);
    log_store_close(TL_TAKE(&fixture_store));
    cr_assert_eq(unlink(lock_path), 0);
    fixture_options.is_read_only = true;
    fixture_open();
    model_assert_stored(model, "read only");
    struct progress progress = {.goes_on = true};
    cr_assert_eq(verify(1, &progress), TL_OK);
    raft_group groups[LOG_STORE_GROUPS_MAX];
    cr_assert_eq(log_store_groups(fixture_store, groups), 1);
    cr_assert_eq(groups[0], 1);
    cr_assert_neq(access(lock_path, F_OK), 0, "no lock file was made");
}

Test(log_store_install, looking_makes_no_log)
{
    log_store_close(TL_TAKE(&fixture_store));
    tmpdir_destroy(fixture_dir);
    tmpdir_create(fixture_dir);
    fixture_options.is_read_only = true;
    cr_assert_eq(fixture_try_open(), TL_ERR_NOT_FOUND);
    char path[TMPDIR_PATH_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/data.mdb", fixture_dir);
    cr_assert_neq(access(path, F_OK), 0);
}

Test(log_store_install, writing_to_a_log_opened_to_look_at_stops_the_process, .signal = SIGABRT)
{
    (void)scene();
    fixture_options.is_read_only = true;
    fixture_reopen();
    struct log_op op = {.group = 1};
    enum tl_err err = log_store_commit(fixture_store, &op, 1, NULL);
    cr_assert_fail("came back: %s", tl_err_name(err));
}
