/* std_streams.h - descriptors 0, 1 and 2 are never anything else.
 *
 * Role:       A program may be started with some of its standard streams closed. The next file or
 *             socket it opens would take their numbers, and a log line meant for stderr would go
 *             into a database file or to a peer.
 * Thread:     the main thread, before anything else is opened.
 */

#ifndef TL_STD_STREAMS_H
#define TL_STD_STREAMS_H

#include "trilith/error.h"

/* Occupies those that are closed. Reading or writing them goes on to fail with EBADF, so that
 * nothing is lost or invented in silence.
 *
 * TL_ERR_IO  one is closed and cannot be occupied (no /dev/null): the program must not go on. */
TL_MUST_CHECK enum tl_err std_streams_hold(void);

#endif
