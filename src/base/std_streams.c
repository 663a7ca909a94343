/* std_streams.c - holding 0, 1 and 2, as the C library does it for set-user-ID programs. */

#include "trilith/std_streams.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "trilith/assert.h"

enum tl_err std_streams_hold(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
        /* The wrong way round: a read of stdin, a write to the others fails as if it was closed. */
        int held = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        if (held == -1) return TL_ERR_IO;
        TL_ASSERT(held == fd); /* the lowest free one, and those below are taken */
    }
    return TL_OK;
}
