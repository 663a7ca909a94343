/* log_store_fixture.h - what the tests of the log store share: a store in a directory of its own,
 * and a model of what must be in it.
 *
 * Thread:     one.
 */

#ifndef TL_TESTS_LOG_STORE_FIXTURE_H
#define TL_TESTS_LOG_STORE_FIXTURE_H

#include "log_entries.h"
#include "tmpdir.h"
#include "trilith/log_store.h"

#define FIXTURE_ENTRIES_MAX 20000u
#define FIXTURE_MAP_BYTES (256u * 1024u * 1024u)
#define FIXTURE_RETAIN_ALL UINT64_MAX / 2

extern char fixture_dir[TMPDIR_PATH_BYTES_MAX];
extern struct log_store_options
    fixture_options; /* changed by a test, it holds from the next open */
extern struct log_store *fixture_store;
extern struct tl_fault fixture_fault; /* of the last call of the fixture that failed */

/* A group's log as it should be: entries[index]; NULL where there is none. */
struct log_model {
    struct log_chain chain;
    struct raft_base base;
    struct raft_hard_state hard_state;
    struct buf *entries[FIXTURE_ENTRIES_MAX];
};

void fixture_setup(void);
void fixture_teardown(void);

enum tl_err fixture_try_open(void);
void fixture_open(void); /* must succeed */
void fixture_reopen(void);

/* A new model; freed by fixture_teardown(). At most 8 in a test. */
struct log_model *model_create(raft_group group);

/* The model forgets entries >= first; the chain goes on from there in `term`. */
void model_truncate(struct log_model *model, raft_index first, raft_term term);

/* Adds `count` entries of a payload size to the model and returns the first one's place: the
 * .entries of an op. */
struct buf **model_extend(struct log_model *model, enum entry_type type, uint32_t count,
                          size_t payload_bytes);

/* Commits model_extend()'s entries, with a hard state that allows them; asserts success. */
void model_append(struct log_model *model, uint32_t count, size_t payload_bytes);
void model_append_conf(struct log_model *model, enum entry_type type, size_t payload_bytes);

/* Commits one op and takes its base over into the model. */
enum tl_err model_commit(struct log_model *model, struct log_op *op);

/* The store recovers and reads exactly the model. */
void model_assert_stored(const struct log_model *model, const char *when);

/* Whether a recovered group's newest configuration is the payload of this entry. */
bool fixture_conf_is(raft_group group, const struct buf *entry);

/* Reads [first, last] with a reader of its own into a static array; entries are released by the
 * next call. */
enum tl_err fixture_read(raft_group group, raft_index first, raft_index last, uint32_t *out_count);
struct buf *fixture_read_entry(uint32_t i);

#endif
