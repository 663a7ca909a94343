/* log_store: every call into LMDB and the file system fails once, and the promises still hold.
 *
 * Method: round n makes the n-th call fail; the sweep ends with the round in which none did. So no
 *         call has to be named here, and a new one is swept by being there.
 */

#include <criterion/criterion.h>
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>

#include "lmdb_fault.h"
#include "log_store_fixture.h"
#include "sys_fault.h"

TestSuite(log_store_fault, .init = fixture_setup, .fini = fixture_teardown, .timeout = 120);

/* ---- commit ---- */

static struct log_model *before; /* group 1 before the commit */
static struct log_model *after;  /* and after it */
static struct log_model *born;   /* group 2, made by the commit */

/* Group 1: 100 entries with three configurations, of which two may go. */
static void scene_setup(void)
{
    before = model_create(1);
    model_append_conf(before, ENTRY_GENESIS, 10);
    model_append(before, 2, 300);
    model_append_conf(before, ENTRY_CONF, 20); /* 4 */
    model_append(before, 93, 300);
    model_append_conf(before, ENTRY_CONF, 30); /* 98 */
    model_append(before, 2, 3000);             /* 100 */
    fixture_options.retain_bytes = 0;
    fixture_reopen();
}

/* Truncation that takes a configuration back, appends with one, a hard state, retention that drops
 * a configuration, and a new group: every kind of write there is. */
static enum tl_err scene_commit(struct log_op ops[2])
{
    static const struct raft_hard_state hard_state = {.term = 2, .vote = 9, .commit = 90};
    static const struct raft_hard_state born_hard_state = {.term = 1, .commit = 1};
    static struct buf *entries[3];
    for (int i = 0; i < 3; i++) entries[i] = after->entries[97 + i];
    ops[0] = (struct log_op){
        .group = 1,
        .truncate_from = 97,
        .entries = entries,
        .entries_count = 3,
        .hard_state = &hard_state,
        .deletable = 6,
    };
    ops[1] = (struct log_op){
        .group = 2,
        .entries = &born->entries[1],
        .entries_count = 1,
        .hard_state = &born_hard_state,
    };
    return log_store_commit(fixture_store, ops, 2, &fixture_fault);
}

/* What the store must hold after the commit. */
static void scene_expect(void)
{
    after = model_create(1);
    after->chain = before->chain;
    for (raft_index i = 1; i <= 96; i++) after->entries[i] = buf_acquire(before->entries[i]);
    after->chain.last_index = 100;
    model_truncate(after, 97, 2);
    (void)model_extend(after, ENTRY_COMMAND, 1, 100);
    (void)model_extend(after, ENTRY_CONF, 1, 40);
    (void)model_extend(after, ENTRY_COMMAND, 1, 5000);
    after->hard_state = (struct raft_hard_state){.term = 2, .vote = 9, .commit = 90};
    born = model_create(2);
    (void)model_extend(born, ENTRY_GENESIS, 1, 64);
    born->hard_state = (struct raft_hard_state){.term = 1, .commit = 1};
    after->base.index = 6;
    after->base.term = 1;
    after->base.hash = entry_hash(before->entries[after->base.index]);
    after->base.time_us = entry_time_us(before->entries[after->base.index]);
}

/* The reopened store is the one or the other as a whole. Returns whether it is the new one. */
static bool scene_check(const char *call)
{
    struct log_group_info info;
    cr_assert_eq(log_store_recover(fixture_store, 2, &info, &fixture_fault), TL_OK);
    buf_release(info.conf);
    model_assert_stored(info.exists ? after : before, call);
    if (info.exists) model_assert_stored(born, call);
    cr_assert(fixture_conf_is(1, info.exists ? after->entries[98] : before->entries[98]), "%s",
              call);
    return info.exists;
}

/* Returns how often the new state was there after a commit that said it failed. */
static uint32_t sweep_commit(enum lmdb_fault_when when, int rc, enum tl_err expected,
                             uint32_t *out_faults_count)
{
    uint32_t new_count = 0;
    for (uint32_t n = 1;; n++) {
        fixture_teardown();
        fixture_setup();
        scene_setup();
        scene_expect();
        struct log_op ops[2];
        lmdb_fault_arm(n, rc, when);
        enum tl_err err = scene_commit(ops);
        if (!lmdb_fault_disarm()) {
            cr_assert_eq(err, TL_OK);
            cr_assert_eq(ops[0].out_base.index, after->base.index);
            cr_assert(ops[0].out_has_base && !ops[1].out_has_base);
            fixture_reopen();
            cr_assert(scene_check("no fault"));
            *out_faults_count = n - 1;
            return new_count;
        }
        const char *call = lmdb_fault_call();
        cr_assert_eq(err, expected, "fault %u in %s: %s", n, call, tl_err_name(err));
        cr_assert_gt(strlen(fixture_fault.reason), 0, "fault %u in %s", n, call);
        cr_assert(!ops[0].out_has_base && !ops[1].out_has_base, "fault %u in %s", n, call);
        struct log_op nothing = {.group = 1};
        cr_assert_eq(log_store_commit(fixture_store, &nothing, 1, NULL), expected,
                     "fault %u in %s: not latched", n, call);
        fixture_reopen();
        new_count += scene_check(call);
    }
}

Test(log_store_fault, a_failed_commit_is_latched_and_leaves_all_or_nothing)
{
    uint32_t faults_count;
    /* The two: asking for the file's descriptor and for its new size, after the commit. */
    cr_assert_eq(sweep_commit(LMDB_FAULT_WITHOUT_EFFECT, EIO, TL_ERR_IO, &faults_count), 2);
    cr_assert_geq(faults_count, 45, "%u", faults_count);
}

/* LMDB makes an EIO of a write that was cut short, as a full file system does. */
Test(log_store_fault, an_error_without_a_free_block_is_one_of_space)
{
    lmdb_fault_fill_file_systems(true);
    uint32_t faults_count;
    cr_assert_eq(sweep_commit(LMDB_FAULT_WITHOUT_EFFECT, EIO, TL_ERR_NO_SPACE, &faults_count), 2);
    cr_assert_neq(strstr(fixture_fault.reason, "no free block left"), NULL, "%s",
                  fixture_fault.reason);
    lmdb_fault_fill_file_systems(false);
}

Test(log_store_fault, a_commit_that_fails_may_have_written_all_of_it)
{
    uint32_t faults_count;
    cr_assert_eq(
        sweep_commit(LMDB_FAULT_COMMIT_TAKES_EFFECT, ENOSPC, TL_ERR_NO_SPACE, &faults_count), 3);
}

/* ---- read ---- */

Test(log_store_fault, a_failed_read_gives_nothing_and_the_next_one_works)
{
    scene_setup();
    struct log_reader *reader = NULL;
    cr_assert_eq(log_reader_create(fixture_store, &reader), TL_OK);
    static struct buf *entries[10];
    bool has_fired = true;
    uint32_t n = 0;
    while (has_fired) {
        n++;
        uint32_t count = 77;
        lmdb_fault_arm(n, EIO, LMDB_FAULT_WITHOUT_EFFECT);
        enum tl_err err =
            log_reader_read(reader, 1, 50, 55, 10, SIZE_MAX / 2, entries, &count, &fixture_fault);
        has_fired = lmdb_fault_disarm();
        cr_assert_eq(err, has_fired ? TL_ERR_IO : TL_OK, "fault %u in %s", n, lmdb_fault_call());
        cr_assert_eq(count, has_fired ? 77 : 6);
        if (has_fired) cr_assert_null(entries[0], "fault %u in %s", n, lmdb_fault_call());
    }
    for (int i = 0; i < 6; i++) buf_release(entries[i]);
    log_reader_destroy(reader);
    cr_assert_eq(n - 1, 11, "renew, base, cursor, last, previous, six records");
}

Test(log_store_fault, a_reader_that_cannot_be_made_is_told)
{
    struct log_reader *reader = NULL;
    lmdb_fault_arm(1, MDB_READERS_FULL, LMDB_FAULT_WITHOUT_EFFECT);
    cr_assert_eq(log_reader_create(fixture_store, &reader), TL_ERR_FULL);
    cr_assert(lmdb_fault_disarm());
    cr_assert_null(reader);
}

/* ---- open and recover ---- */

/* The two kinds of calls are counted apart. */
struct injector {
    void (*arm)(uint32_t n);
    bool (*disarm)(void);
    const char *(*call)(void);
};

static void arm_lmdb(uint32_t n)
{
    lmdb_fault_arm(n, EIO, LMDB_FAULT_WITHOUT_EFFECT);
}

static void arm_sys(uint32_t n)
{
    sys_fault_arm(n, EIO);
}

static const struct injector lmdb_injector = {arm_lmdb, lmdb_fault_disarm, lmdb_fault_call};
static const struct injector sys_injector = {arm_sys, sys_fault_disarm, sys_fault_call};

/* Returns the number of calls swept. */
static uint32_t sweep_open(const struct injector *injector)
{
    for (uint32_t n = 1;; n++) {
        log_store_close(TL_TAKE(&fixture_store));
        injector->arm(n);
        enum tl_err err = fixture_try_open();
        bool has_fired = injector->disarm();
        cr_assert_eq(err, has_fired ? TL_ERR_IO : TL_OK, "fault %u in %s", n, injector->call());
        if (!has_fired) {
            return n - 1;
        }
        cr_assert_null(fixture_store);
        cr_assert_gt(strlen(fixture_fault.reason), 0);
        fixture_open();
    }
}

Test(log_store_fault, a_failed_open_changes_nothing_and_can_be_done_again)
{
    scene_setup();
    cr_assert_geq(sweep_open(&lmdb_injector), 30);
    cr_assert_geq(sweep_open(&sys_injector), 6, "open, metas, sizes, close-on-exec");
    model_assert_stored(before, "at the end");
}

static uint32_t sweep_creation(const struct injector *injector)
{
    for (uint32_t n = 1;; n++) {
        fixture_teardown();
        tmpdir_create(fixture_dir);
        fixture_options.prefill_bytes = 100000;
        injector->arm(n);
        enum tl_err err = fixture_try_open();
        bool has_fired = injector->disarm();
        cr_assert_eq(err, has_fired ? TL_ERR_IO : TL_OK, "fault %u in %s: %s", n, injector->call(),
                     tl_err_name(err));
        if (has_fired) fixture_open();
        struct log_model *model = model_create(3);
        model_append(model, 3, 100);
        fixture_reopen();
        model_assert_stored(model, injector->call());
        if (!has_fired) {
            return n - 1;
        }
    }
}

Test(log_store_fault, a_failed_creation_can_be_done_again)
{
    cr_assert_geq(sweep_creation(&lmdb_injector), 30);
    cr_assert_geq(sweep_creation(&sys_injector), 12);
}

Test(log_store_fault, a_full_disk_is_told_as_such)
{
    fixture_teardown();
    tmpdir_create(fixture_dir);
    fixture_options.prefill_bytes = 100000;
    for (uint32_t n = 1;; n++) {
        sys_fault_arm(n, ENOSPC);
        enum tl_err err = fixture_try_open();
        cr_assert(sys_fault_disarm(), "pwrite was not reached");
        if (strcmp(sys_fault_call(), "pwrite") == 0) {
            cr_assert_eq(err, TL_ERR_NO_SPACE);
            break;
        }
    }
    fixture_open();
}

Test(log_store_fault, a_failed_recovery_is_told)
{
    scene_setup();
    bool has_fired = true;
    uint32_t n = 0;
    while (has_fired) {
        struct log_group_info info = {.last_index = 5};
        n++;
        arm_lmdb(n);
        enum tl_err err = log_store_recover(fixture_store, 1, &info, &fixture_fault);
        has_fired = lmdb_fault_disarm();
        cr_assert_eq(err, has_fired ? TL_ERR_IO : TL_OK, "fault %u in %s", n, lmdb_fault_call());
        cr_assert_eq(info.last_index, has_fired ? 5 : 100);
        buf_release(info.conf);
    }
    cr_assert_gt(n, 10);
}
