/* spool.h - a temporary file without a name.
 *
 * Thread:     one.
 */

#ifndef TL_STORE_SPOOL_H
#define TL_STORE_SPOOL_H

#include "trilith/buf.h"
#include "trilith/error.h"

struct spool;

/* TL_ERR_IO, TL_ERR_NO_SPACE of all of them: *out_fault says what. */
TL_MUST_CHECK enum tl_err spool_create(const char *dir, struct spool **out_spool,
                                       struct tl_fault *out_fault);
void spool_destroy(struct spool *spool); /* accepts NULL */

TL_MUST_CHECK enum tl_err spool_append(struct spool *spool, struct bytes source,
                                       struct tl_fault *out_fault);

/* Exactly `count` bytes that were appended. */
TL_MUST_CHECK enum tl_err spool_read(struct spool *spool, uint64_t offset, uint8_t *out_bytes,
                                     size_t count, struct tl_fault *out_fault);

#endif
