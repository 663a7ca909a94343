/* error.h - the one list of error codes of every module.
 *
 * Role:       A code, its name and its text are defined here and nowhere else; HTTP statuses are
 *             given to codes in src/http only.
 * Thread:     any.
 */

#ifndef TL_ERROR_H
#define TL_ERROR_H

#include "trilith/assert.h"

/* X(name, number, text). Numbers travel between nodes in forwarded answers: never reused. */
#define TL_ERR_LIST(X)                                                        \
    X(TL_OK, 0, "ok")                                                         \
    X(TL_ERR_INVALID, -1, "invalid input")                                    \
    X(TL_ERR_FULL, -2, "a limit is reached")                                  \
    X(TL_ERR_IO, -3, "input/output error")                                    \
    X(TL_ERR_CORRUPT, -4, "stored data failed a check")                       \
    X(TL_ERR_NOT_FOUND, -5, "not found")                                      \
    X(TL_ERR_IN_USE, -6, "in use by another process")                         \
    X(TL_ERR_FOREIGN, -7, "belongs to another node or program")               \
    X(TL_ERR_NEWER_FORMAT, -8, "written by a newer version")                  \
    X(TL_ERR_NOT_LEADER, -9, "this node is not the leader")                   \
    X(TL_ERR_NO_LEADER, -10, "no leader is known")                            \
    X(TL_ERR_NO_QUORUM, -11, "no quorum of the voters answers")               \
    X(TL_ERR_REPLACED, -12, "another entry took its place")                   \
    X(TL_ERR_TIMEOUT, -13, "the deadline passed")                             \
    X(TL_ERR_UNKNOWN, -14, "the outcome is unknown")                          \
    X(TL_ERR_STARTING, -15, "the node is starting")                           \
    X(TL_ERR_STOPPING, -16, "the node is stopping")                           \
    X(TL_ERR_CANCELED, -17, "canceled")                                       \
    X(TL_ERR_COMPACTED, -18, "below the first kept index")                    \
    X(TL_ERR_NO_SPACE, -19, "no space left on the device")                    \
    X(TL_ERR_NO_MEMORY, -20, "out of memory")                                 \
    X(TL_ERR_BUSY, -21, "another change is under way")                        \
    X(TL_ERR_STALE, -22, "older than what is known")                          \
    X(TL_ERR_OUT_OF_ORDER, -23, "not the next part")                          \
    X(TL_ERR_DIVERGED, -24, "this replica's state is not that of the others") \
    X(TL_ERR_STALLED, -25, "what is decided waits for the disk")              \
    X(TL_ERR_AHEAD, -26, "further ahead than anything that is known")         \
    X(TL_ERR_MAP_FULL, -27, "the table or the log is as large as it may be")

enum tl_err {
#define TL_ERR_ENUM(name, number, text) name = number,
    TL_ERR_LIST(TL_ERR_ENUM)
#undef TL_ERR_ENUM
};

/* The sentence of a code; "unknown error" for a number that is none. Never NULL, static. */
const char *tl_err_text(enum tl_err err);

/* The code's name, "TL_ERR_IO"; for logs. Never NULL, static. */
const char *tl_err_name(enum tl_err err);

/* What is known about broken storage when it is reported: the node prints it and exits with
 * code 4. Filled by the store functions that return TL_ERR_IO or TL_ERR_CORRUPT. */
struct tl_fault {
    char file[256];   /* path of the file or directory */
    uint32_t group;   /* Raft group, or UINT32_MAX when none is concerned */
    uint64_t index;   /* log index, or 0 when none is concerned */
    char reason[160]; /* one sentence */
};

/* Sets all fields of *fault from a printf format, without double quotes and control characters in
 * them, for log.h; `fault` may be NULL. */
__attribute__((format(printf, 5, 6))) void tl_fault_set(struct tl_fault *fault, const char *file,
                                                        uint32_t group, uint64_t index,
                                                        const char *format, ...);

#endif
