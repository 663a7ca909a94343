/* assert.c - how a failed assertion ends the process. */

#include "trilith/assert.h"

#include <stdio.h>
#include <stdlib.h>

#include "trilith/log.h"

void tl_assert_failed(const char *condition, const char *file, int line, const char *function)
{
    char text[256];
    size_t count = text_format(text, sizeof text, "%s", condition);
    for (size_t i = 0; i < count; i++) {
        if (text[i] == '"') text[i] = '\''; /* log.h: none inside a value */
    }
    log_event(LOG_LEVEL_ERROR, "assertion_failed", "at=%s:%d function=%s condition=\"%s\"", file,
              line, function, text);
    abort();
}
