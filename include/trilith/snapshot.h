/* snapshot.h - a group's table cut into chunks, and built again from them beside the one in use.
 *
 * Role:       The two ends of a transfer. A cut spools the table as of one transaction into an
 *             unlinked file, at the speed of the disk, so that a slow receiver holds up a file and
 *             not the table's free pages. A stage writes chunks into a new table's directory; what
 *             makes that the group's table is log_op.install. src/wire/FORMAT.md 10 has the chunks,
 *             src/store/FORMAT.md 4 the steps.
 * Thread:     one at a time per object; the thread for snapshots.
 * Blocking:   all of it waits for the disk.
 * Errors:     TL_ERR_CORRUPT, TL_ERR_NEWER_FORMAT of a cut: the table in use is damaged, and the
 *             process must end. No other error here concerns anything a node has promised: the
 *             transfer is given up, and begun again later.
 */

#ifndef TL_SNAPSHOT_H
#define TL_SNAPSHOT_H

#include "trilith/snapshot_chunk.h"
#include "trilith/table.h"

#define SNAPSHOT_CHUNK_LIMIT_DEFAULT (256u * 1024u)

struct snapshot;

struct snapshot_cut_options {
    const char *dir; /* where the spool is made: the data directory */
    raft_group group;
    uint32_t chunk_limit; /* 0: SNAPSHOT_CHUNK_LIMIT_DEFAULT */
    /* Asked before every chunk: true ends the cut with TL_ERR_CANCELED. A cut's transaction must
     * not get too old: pages freed meanwhile are not used again (LMDB). NULL: never. */
    bool (*is_stopped)(void *context);
    void *context;
};

/* Cuts the table as the reader sees it when it begins. Everything is checked on the way as in
 * table_verify(): damage is not sent.
 *
 * reader  of the table, not begun; taken, and destroyed on return in every case: that is what keeps
 *         the table open meanwhile, also when it is replaced.
 *
 * TL_ERR_CANCELED, TL_ERR_IO, TL_ERR_NO_SPACE: there is no snapshot.
 */
TL_MUST_CHECK enum tl_err snapshot_cut(const struct snapshot_cut_options *options,
                                       struct table_reader *reader, struct snapshot **out_snapshot,
                                       struct tl_fault *out_fault);
void snapshot_destroy(struct snapshot *snapshot); /* accepts NULL; the spool is gone */

const struct snapshot_info *snapshot_get_info(const struct snapshot *snapshot);

/* Reads chunk `number` (< chunks_count) behind head_bytes free bytes: room for a frame's header. In
 * any order, as often as wanted: a transfer goes on where the last connection broke.
 *
 * TL_ERR_IO  also when the spool's bytes fail their checksum. */
TL_MUST_CHECK enum tl_err snapshot_read(struct snapshot *snapshot, uint32_t number,
                                        size_t head_bytes, struct buf **out_chunk,
                                        struct tl_fault *out_fault);

struct snapshot_stage;

struct snapshot_stage_options {
    const char *dir; /* of data_dir_table_make(), of a number above the one in use; emptied */
    raft_group group;
    size_t map_bytes;
};

/* Begins with chunk 0, as it came from a peer.
 *
 * TL_ERR_INVALID, TL_ERR_NEWER_FORMAT  it is none. TL_ERR_FOREIGN: of another group.
 * TL_ERR_IO, TL_ERR_NO_SPACE, TL_ERR_FULL
 */
TL_MUST_CHECK enum tl_err snapshot_stage_create(const struct snapshot_stage_options *options,
                                                struct bytes chunk,
                                                struct snapshot_stage **out_stage,
                                                struct tl_fault *out_fault);

/* The number of the chunk that is wanted; chunks_count when all are there. */
uint32_t snapshot_stage_next(const struct snapshot_stage *stage);

/* Takes the wanted chunk. It is there as a whole or not at all; durable only after finish.
 *
 * TL_ERR_INVALID       malformed, or damaged, or its items are.
 * TL_ERR_NEWER_FORMAT
 * TL_ERR_FOREIGN       of another snapshot or group.
 * TL_ERR_OUT_OF_ORDER  not the wanted one: a repeated or an early chunk.
 *                      After these four nothing has changed, and the stage goes on.
 * TL_ERR_IO, TL_ERR_NO_SPACE, TL_ERR_FULL (the map)  the stage is broken: abort it.
 */
TL_MUST_CHECK enum tl_err snapshot_stage_write(struct snapshot_stage *stage, struct bytes chunk,
                                               struct tl_fault *out_fault);

/* Checks that the items add up to the state's counts and digests, makes the table durable, and
 * frees the stage in every case. TL_OK: its directory holds a table for table_open(), at
 * info.state.index. Otherwise the directory is deleted.
 *
 * TL_ERR_OUT_OF_ORDER  chunks are missing. TL_ERR_INVALID: the items do not add up.
 * TL_ERR_IO, TL_ERR_NO_SPACE, TL_ERR_FULL
 */
TL_MUST_CHECK enum tl_err snapshot_stage_finish(struct snapshot_stage *stage,
                                                struct tl_fault *out_fault);

/* Frees the stage and deletes its directory, as far as that is possible: the next start does the
 * rest. Accepts NULL. */
void snapshot_stage_abort(struct snapshot_stage *stage);

#endif
