/* txn_parse.h - the JSON of a transaction as a struct txn.
 *
 * Role:       Every rule that a request must keep, and a sentence for each that says where it is
 *             broken.
 * Thread:     the loop thread.
 * Ownership:  the transaction borrows from the body and from the pool.
 */

#ifndef TL_HTTP_TXN_PARSE_H
#define TL_HTTP_TXN_PARSE_H

#include <h2o.h>

#include "failure.h"
#include "trilith/txn.h"

/* NULL: it has been refused, and *out_failure says why. */
const struct txn *txn_parse(h2o_mem_pool_t *pool, struct bytes body, uint32_t value_bytes_max,
                            struct failure *out_failure);

#endif
