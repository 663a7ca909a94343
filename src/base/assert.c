/* assert.c - how a failed assertion ends the process. */

#include "trilith/assert.h"

#include <stdio.h>
#include <stdlib.h>

void tl_assert_failed(const char *condition, const char *file, int line, const char *function)
{
    (void)fprintf(stderr, "event=assertion_failed at=%s:%d function=%s condition=\"%s\"\n", file,
                  line, function, condition);
    (void)fflush(stderr);
    abort();
}
