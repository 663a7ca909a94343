/* kv_fixture.h - a state machine over a table in memory that is stricter than kv_table.h.
 *
 * Role:       kv_fixture.c also implements kv_table.h: an ordered array. A borrowed value is freed
 *             at the end of the batch, and a key put or deleted twice in an entry, a publish out of
 *             order or a call outside begin/end fails the test.
 * Thread:     pure.
 */

#ifndef TL_KV_FIXTURE_H
#define TL_KV_FIXTURE_H

#include "trilith/kv_state.h"

struct kv_fixture {
    struct kv_table *table;
    struct kv_state state;
    uint64_t time_us;    /* of the next entry; moves by one each */
    struct buf *results; /* of the last transaction: a result borrows them until the next entry */
};

/* Genesis is applied. */
void kv_fixture_init(struct kv_fixture *fixture);
void kv_fixture_deinit(struct kv_fixture *fixture);

/* Seals `entry` (taken) as the next of the log and applies it. out_result may be NULL. */
enum tl_err kv_fixture_apply(struct kv_fixture *fixture, struct buf *entry,
                             struct kv_result *out_result);
/* Applies a command, which must succeed; then the digests and counts must be those of the rows. */
struct kv_result kv_fixture_do(struct kv_fixture *fixture, const struct command *command);

/* Fails the test unless count and digests of the state are those of everything in the table. */
void assert_digests_are_right(const struct kv_fixture *fixture);

/* The row of a user's key; false: absent. Borrowed until the next change. */
bool kv_fixture_row(const struct kv_fixture *fixture, const char *key,
                    struct row_header *out_header, struct bytes *out_content_type,
                    struct bytes *out_value);
void assert_value(const struct kv_fixture *fixture, const char *key, const char *content_type,
                  const char *value);

/* ---- the table itself ---- */

/* The stored bytes under env_key, for reading or spoiling; NULL: absent. */
struct buf *kv_fake_find(const struct kv_table *table, struct bytes env_key);
void kv_fake_remove(struct kv_table *table, struct bytes env_key);
size_t kv_fake_count(const struct kv_table *table, enum env_key_kind kind);
bool kv_fake_equal(const struct kv_table *a, const struct kv_table *b);
/* The n-th lookup from now fails with TL_ERR_IO; 0: none does. */
void kv_fake_fail_get(struct kv_table *table, uint32_t n);

#endif
