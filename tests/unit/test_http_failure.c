/* Every error and outcome has the status, code and outcome that the API names. */

#include <criterion/criterion.h>
#include <signal.h>

#include "src/http/failure.h"

Test(http_failure, errors_have_their_status_and_only_unknown_ones_may_have_happened)
{
    static const struct {
        enum tl_err err;
        int status;
        bool is_unknown;
    } expected[] = {
        {TL_ERR_FULL, 429, false},      {TL_ERR_NO_LEADER, 503, false},
        {TL_ERR_NO_QUORUM, 503, false}, {TL_ERR_STARTING, 503, false},
        {TL_ERR_STOPPING, 503, false},  {TL_ERR_REPLACED, 503, false},
        {TL_ERR_TIMEOUT, 503, false},   {TL_ERR_UNKNOWN, 504, true},
        {TL_ERR_NO_SPACE, 507, false},  {TL_ERR_INVALID, 400, false},
        {TL_ERR_BUSY, 503, false},      {TL_ERR_STALE, 409, false},
        {TL_ERR_DIVERGED, 503, false},  {TL_ERR_OUT_OF_ORDER, 409, false},
        {TL_ERR_STALLED, 503, false},   {TL_ERR_IO, 500, true},
    };
    for (size_t i = 0; i < TL_COUNT_OF(expected); i++) {
        const struct failure *failure = failure_of_err(expected[i].err);
        cr_assert_eq(failure->status, expected[i].status, "%s", tl_err_name(expected[i].err));
        cr_assert_eq(failure->is_unknown, expected[i].is_unknown, "%s",
                     tl_err_name(expected[i].err));
    }
}

Test(http_failure, outcomes_have_their_status_and_successes_none)
{
    static const int statuses[] = {
        [KV_NOT_FOUND] = 404,  [KV_CONDITION_FAILED] = 412, [KV_NOT_INTEGER] = 409,
        [KV_OVERFLOW] = 409,   [KV_TOO_LARGE] = 413,        [KV_NOT_LIST] = 409,
        [KV_KEY_REUSED] = 409, [KV_NO_ROOM] = 429,          [KV_TXN_TOO_LARGE] = 413};
    for (size_t status = KV_CREATED; status < TL_COUNT_OF(statuses); status++) {
        const struct failure *failure = failure_of_outcome((enum kv_status)status);
        cr_assert_eq(failure != NULL ? failure->status : 0, statuses[status], "%zu", status);
    }
    cr_assert_str_eq(failure_of_outcome(KV_KEY_REUSED)->code, "idempotency_key_reused");
}

Test(http_failure, codes_and_messages_stand_in_json_as_they_are)
{
    for (int refusal = 0; refusal < REFUSALS_COUNT; refusal++) {
        const struct failure *failure = failure_of_refusal((enum refusal)refusal);
        cr_assert_null(strpbrk(failure->message, "\"\\\n"), "%s", failure->message);
        cr_assert_null(strpbrk(failure->code, " \"\\"), "%s", failure->code);
        cr_assert_str_neq(status_reason(failure->status), "Unknown", "%d", failure->status);
        cr_assert_not(failure->is_unknown);
    }
}

Test(http_failure, success_is_no_failure, .signal = SIGABRT)
{
    (void)failure_of_err(TL_OK);
}
