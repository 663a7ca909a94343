/* wire_fuzz: seeded bytes through the fuzz target: samples with changes, and noise. */

#include <criterion/criterion.h>
#include <stdlib.h>

#include "../fuzz/fuzz_wire.h"
#include "trilith/prng.h"
#include "wire_samples.h"

#define ROUNDS_COUNT 15000u
#define NOISE_BYTES_MAX 300u
#define CHANGES_MAX 4u

typedef struct buf *(*sample_function)(void);
static const sample_function samples[] = {
    sample_entry,   sample_raft_message,  sample_command,         sample_kv_result,
    sample_row,     sample_record,        sample_queue_item,      sample_group_state,
    sample_genesis, sample_birth_note,    sample_hello,           sample_raft_batch,
    sample_forward, sample_forward_reply, sample_snapshot_info,   sample_snapshot_chunk,
    sample_conf,    sample_snapshot_ack,  sample_placement,       sample_digests,
    sample_txn,     sample_txn_result,    sample_leader_transfer, sample_leader_transfer_reply,
    sample_hello_first,
};

/* From an allocation of its own size, so that a sanitizer sees a read past the end. */
static void feed(struct bytes source)
{
    uint8_t *copy = malloc(source.count > 0 ? source.count : 1);
    if (source.count > 0) {
        memcpy(copy, source.data, source.count);
    }
    (void)LLVMFuzzerTestOneInput(copy, source.count); /* always 0; aborts when it objects */
    free(copy);
}

/* One place of `buf` gets another byte, a length that lies, or the rest is cut off. */
static void change(struct prng *prng, struct buf *buf)
{
    if (buf->count < 8) {
        return;
    }
    size_t at = prng_below(prng, buf->count - 7);
    static const uint64_t lies[] = {0, 1, UINT32_MAX, UINT64_MAX, UINT64_MAX - 1, 1u << 31};
    switch (prng_below(prng, 5)) {
    case 0:
        buf->data[at] ^= (uint8_t)(1u << prng_below(prng, 8));
        break;
    case 1:
        buf->data[at] = (uint8_t)prng_next(prng);
        break;
    case 2:
        put_u32(buf->data + at, (uint32_t)lies[prng_below(prng, TL_COUNT_OF(lies))]);
        break;
    case 3:
        put_u64(buf->data + at, lies[prng_below(prng, TL_COUNT_OF(lies))]);
        break;
    default:
        buf->count = (uint32_t)at;
        break;
    }
}

Test(wire_fuzz, samples_are_accepted_by_some_decoder)
{
    for (size_t i = 0; i < TL_COUNT_OF(samples); i++) {
        struct buf *buf = samples[i]();
        uint64_t accepted_before = fuzz_wire_accepted_count;
        feed(buf_bytes(buf));
        cr_assert_gt(fuzz_wire_accepted_count, accepted_before, "sample %zu", i);
        buf_release(buf);
    }
}

Test(wire_fuzz, changed_samples_decode_or_fail)
{
    struct prng prng;
    prng_init(&prng, 1);
    for (size_t i = 0; i < TL_COUNT_OF(samples); i++) {
        struct buf *good = samples[i]();
        for (uint32_t round = 0; round < ROUNDS_COUNT; round++) {
            struct buf *buf = buf_copy(buf_bytes(good));
            uint64_t changes_count = prng_between(&prng, 1, CHANGES_MAX);
            for (uint64_t c = 0; c < changes_count; c++) change(&prng, buf);
            feed(buf_bytes(buf));
            buf_release(buf);
        }
        buf_release(good);
    }
    cr_assert_gt(fuzz_wire_accepted_count, ROUNDS_COUNT, "the changes get past the first checks");
}

Test(wire_fuzz, noise_decodes_or_fails)
{
    struct prng prng;
    prng_init(&prng, 2);
    uint8_t noise[NOISE_BYTES_MAX];
    for (uint32_t round = 0; round < ROUNDS_COUNT; round++) {
        size_t count = prng_below(&prng, NOISE_BYTES_MAX + 1);
        /* Small numbers are likelier to be a known type or a length that fits. */
        uint64_t bound = prng_chance(&prng, 500000) ? 256 : 3;
        for (size_t i = 0; i < count; i++) noise[i] = (uint8_t)prng_below(&prng, bound);
        feed(bytes_make(noise, count));
    }
}
