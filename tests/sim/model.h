/* model.h - the key/value semantics once more, as plainly as possible: the sequential machine every
 * answer and every replica is compared with.
 *
 * Role:       Takes the committed entries in order; says for each what its answer must be, and for
 *             each key what it held at any index. Keeps everything, knows no storage.
 * Thread:     pure.
 */

#ifndef TL_SIM_MODEL_H
#define TL_SIM_MODEL_H

#include "trilith/kv_state.h"
#include "trilith/txn.h"

/* What a key held from an index on. */
struct model_version {
    raft_index index;
    bool exists;
    struct row_header header; /* the checksums are not filled in */
    struct buf *value;        /* NULL when it does not exist */
    const char *content_type; /* the workload sends none; increments make text of absent keys */
};

struct model_key {
    struct buf *key;
    struct model_version *versions;
    size_t versions_count;
    size_t versions_capacity;
};

/* What one entry came to. */
struct model_step {
    enum entry_type type;
    uint64_t time_us;
    uint64_t origin;         /* of a command: which attempt of the workload wrote it */
    struct kv_result result; /* of a command */
    struct buf *results;     /* of a transaction that was carried out here; else NULL */
    uint64_t revision;       /* of the group, after it */
    uint64_t rows_count;
    uint64_t records_count;
};

struct model_record {
    struct hash128 key;
    struct hash128 fingerprint;
    uint64_t time_us;
    struct kv_result result;
};

struct model {
    struct model_key *keys;
    size_t keys_count;
    struct model_step *steps; /* steps[i] is entry i + 1 */
    size_t steps_count;
    size_t steps_capacity;
    struct model_record *records; /* in order of their making */
    size_t records_count;
    size_t records_capacity;
    size_t records_first; /* oldest not evicted yet */
    uint64_t revision;
    uint64_t rows_count;
    uint64_t evictions_count;
    uint64_t replays_count;
};

void model_init(struct model *model);
void model_deinit(struct model *model);

/* Applies the next entry. TL_ERR_CORRUPT: its payload does not decode. */
TL_MUST_CHECK enum tl_err model_apply(struct model *model, const struct buf *entry);

/* The key as of `index`; NULL: never written until then. */
const struct model_version *model_find(const struct model *model, struct bytes key,
                                       raft_index index);
const struct model_step *model_step(const struct model *model, raft_index index);

#endif
