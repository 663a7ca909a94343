/* table_builder.h - a new table written in key order, which nobody reads before it is complete.
 *
 * Role:       Puts items into an LMDB file of another name, without a flush on the way; at the end
 *             one flush, and the file gets its name. A directory with a data.mdb therefore holds a
 *             whole table.
 * Thread:     one; between begin and commit the same one (LMDB's write transaction).
 */

#ifndef TL_STORE_TABLE_BUILDER_H
#define TL_STORE_TABLE_BUILDER_H

#include "trilith/row.h"

struct table_builder;

/* In an existing directory; what is in it of an earlier one is removed. Errors of all of them:
 * TL_ERR_IO, TL_ERR_NO_SPACE, TL_ERR_FULL (the map); after one only destroy() is left. */
TL_MUST_CHECK enum tl_err table_builder_create(const char *dir, raft_group group, size_t map_bytes,
                                               struct table_builder **out_builder,
                                               struct tl_fault *out_fault);
void table_builder_destroy(struct table_builder *builder); /* accepts NULL; leaves the files */

/* A batch: all of its puts or none. Keys rise over all batches; none is the state row's. */
TL_MUST_CHECK enum tl_err table_builder_begin(struct table_builder *builder,
                                              struct tl_fault *out_fault);
TL_MUST_CHECK enum tl_err table_builder_put(struct table_builder *builder, struct bytes env_key,
                                            struct bytes value, struct tl_fault *out_fault);
TL_MUST_CHECK enum tl_err table_builder_commit(struct table_builder *builder,
                                               struct tl_fault *out_fault);

/* Puts the state row, and makes all of it durable under its name. */
TL_MUST_CHECK enum tl_err table_builder_finish(struct table_builder *builder,
                                               const struct group_state *state, struct bytes conf,
                                               struct tl_fault *out_fault);

#endif
