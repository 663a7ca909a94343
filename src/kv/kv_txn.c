/* kv_txn.c - a transaction: conditions, then one of two branches, as a whole or not at all.
 *
 * In three passes: conditions; what every operation of the branch would do; the writes. All rows
 * are read before the first is written, so conditions and gets see the state before the
 * transaction, and an operation that does not go (an increment of a text) leaves nothing behind. A
 * branch writes a key once, so no write has to see another one.
 */

#include "kv_internal.h"
#include "trilith/txn.h"

/* What an operation will do. */
struct step {
    struct kv_row old;
    struct kv_value value; /* of a write that is no delete */
    struct txn_result result;
};

/* The operation as a request of its own. */
static struct command step_command(const struct command *command, const struct txn_op *op)
{
    return (struct command){
        .type = op->type,
        .value_is_json = op->value_is_json,
        .by = op->by,
        .origin = command->origin,
        .value_bytes_max = command->value_bytes_max,
        .key = op->key,
        .content_type = op->content_type,
        .value = op->value,
    };
}

/* ---- conditions ---- */

static enum tl_err condition_holds(struct kv_apply *apply, const struct txn_condition *condition,
                                   bool *out_holds)
{
    struct kv_row row;
    enum tl_err err = kv_row_read(apply, condition->key, &row);
    if (err != TL_OK) {
        return err;
    }
    struct bytes value = {0};
    switch (condition->type) {
    case TXN_IF_REVISION:
        *out_holds = (row.is_there ? row.header.revision : 0) == condition->number;
        return TL_OK;
    case TXN_IF_VERSION:
        *out_holds = (row.is_there ? row.header.version : 0) == condition->number;
        return TL_OK;
    case TXN_IF_EXISTS:
        *out_holds = row.is_there == (condition->number != 0);
        return TL_OK;
    case TXN_IF_VALUE:
        break;
    }
    *out_holds = row.is_there && row.header.value_bytes == condition->value.count;
    if (*out_holds) {
        err = kv_row_value(apply, &row, &value);
        *out_holds = err == TL_OK && bytes_equal(value, condition->value);
    }
    return err;
}

static enum tl_err choose_branch(struct kv_apply *apply, const struct txn *txn,
                                 enum txn_branch *out_branch)
{
    *out_branch = TXN_THEN;
    for (uint32_t i = 0; i < txn->conditions_count; i++) {
        bool holds;
        enum tl_err err = condition_holds(apply, &txn->conditions[i], &holds);
        if (err != TL_OK) {
            return err;
        }
        if (!holds) {
            *out_branch = TXN_ELSE;
            return TL_OK;
        }
    }
    return TL_OK;
}

/* ---- what operations would do ---- */

/* The value itself is read only where its bytes go into an answer or a record: a replica that
 * serves neither needs its size alone. */
static enum tl_err plan_get(struct kv_apply *apply, struct step *step, size_t *effect_bytes)
{
    step->result.status = step->old.is_there ? KV_FOUND : KV_NOT_FOUND;
    if (!step->old.is_there) {
        return TL_OK;
    }
    *effect_bytes += step->old.header.value_bytes;
    if (!apply->needs_results) {
        return TL_OK;
    }
    step->result.revision = step->old.header.revision;
    step->result.version = step->old.header.version;
    step->result.content_type = row_content_type(step->old.row, &step->old.header);
    return kv_row_value(apply, &step->old, &step->result.value);
}

/* Reads the row and works the new value out. Adds to *effect_bytes what the operation writes or
 * returns. */
static enum tl_err plan_step(struct kv_apply *apply, const struct command *command,
                             const struct txn_op *op, struct step *step, size_t *effect_bytes)
{
    step->result = (struct txn_result){.status = KV_NOT_FOUND};
    enum tl_err err = kv_row_read(apply, op->key, &step->old);
    if (err != TL_OK || op->type == COMMAND_DELETE) {
        return err;
    }
    if (op->type == COMMAND_GET) {
        return plan_get(apply, step, effect_bytes);
    }
    const struct command single = step_command(command, op);
    err = kv_row_new_value(apply, &single, &step->old, &step->value, &step->result.status);
    if (err != TL_OK) {
        return err;
    }
    if (step->result.status == KV_CREATED || step->result.status == KV_REPLACED) {
        *effect_bytes += kv_value_bytes(&step->value);
    }
    return TL_OK;
}

static bool step_goes(const struct step *step)
{
    enum kv_status status = step->result.status;
    return status == KV_CREATED || status == KV_REPLACED || status == KV_NOT_FOUND ||
           status == KV_FOUND;
}

/* Plans the whole branch. result->status is KV_TXN when all of it goes; else it says why not, and
 * result->number at which operation. */
static enum tl_err plan_branch(struct kv_apply *apply, const struct command *command,
                               const struct txn_op *ops, uint32_t ops_count, struct step *steps,
                               struct kv_result *result)
{
    size_t effect_bytes = 0;
    for (uint32_t i = 0; i < ops_count; i++) {
        enum tl_err err = plan_step(apply, command, &ops[i], &steps[i], &effect_bytes);
        if (err != TL_OK) {
            return err;
        }
        result->number = i;
        result->status = steps[i].result.status;
        if (!step_goes(&steps[i])) {
            return TL_OK;
        }
        if (effect_bytes > TXN_EFFECT_BYTES_MAX) {
            result->status = KV_TXN_TOO_LARGE;
            return TL_OK;
        }
    }
    result->number = 0;
    result->status = KV_TXN;
    return TL_OK;
}

/* ---- carrying it out ---- */

static enum tl_err do_step(struct kv_apply *apply, const struct command *command,
                           const struct txn_op *op, struct step *step)
{
    const struct command single = step_command(command, op);
    struct kv_result result = {.status = step->result.status};
    enum tl_err err = TL_OK;
    if (op->type == COMMAND_GET) {
        return TL_OK;
    }
    if (op->type == COMMAND_DELETE) {
        err = kv_row_delete(apply, &single, &step->old, &result);
    } else {
        kv_row_write(apply, &single, &step->old, &step->value, &result);
    }
    step->result.status = result.status;
    step->result.revision = result.revision;
    step->result.version = result.version;
    step->result.number = result.number;
    return err;
}

static struct bytes encode_results(struct kv_apply *apply, const struct step *steps,
                                   uint32_t steps_count)
{
    size_t total = 0;
    for (uint32_t i = 0; i < steps_count; i++) total += txn_result_bytes(&steps[i].result);
    buf_release(*apply->results);
    *apply->results = buf_create(total);
    for (uint32_t i = 0; i < steps_count; i++) {
        txn_result_encode(&steps[i].result, *apply->results);
    }
    apply->cost_bytes += total;
    return buf_bytes(*apply->results);
}

enum tl_err kv_txn_do(struct kv_apply *apply, const struct command *command,
                      struct kv_result *result)
{
    struct txn txn;
    if (txn_decode(command->value, &txn) != TL_OK) {
        return kv_apply_corrupt(apply, "a log entry's transaction does not decode");
    }
    enum txn_branch branch;
    enum tl_err err = choose_branch(apply, &txn, &branch);
    if (err != TL_OK) {
        return err;
    }
    const struct txn_op *ops = txn.ops[branch];
    uint32_t ops_count = txn.ops_count[branch];
    struct step steps[TXN_LIST_MAX];
    err = plan_branch(apply, command, ops, ops_count, steps, result);
    if (err != TL_OK) {
        return err;
    }
    if (branch == TXN_ELSE) result->flags |= KV_RESULT_ELSE;
    for (uint32_t i = 0; i < ops_count && result->status == KV_TXN; i++) {
        err = do_step(apply, command, &ops[i], &steps[i]);
        if (err != TL_OK) {
            return err;
        }
    }
    if (result->status == KV_TXN && apply->needs_results) {
        result->results = encode_results(apply, steps, ops_count);
        result->results_buf = *apply->results;
    }
    result->revision = apply->group.revision;
    return TL_OK;
}
