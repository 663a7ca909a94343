/* fuzz_wire.h - the fuzz target of the wire formats, also called by tests/unit/test_wire_fuzz.c.
 *
 * Thread:     pure.
 */

#ifndef TL_FUZZ_WIRE_H
#define TL_FUZZ_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* Feeds the bytes to every decoder. What decodes must encode to the same bytes again; anything else
 * aborts. libFuzzer's entry point, hence its name. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Values decoded since the start: a test sees by it that its inputs got past the first check. */
extern uint64_t fuzz_wire_accepted_count;

#endif
