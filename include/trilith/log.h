/* log.h - event lines on stderr: key=value, or JSON.
 *
 * Role:       One event, one line, one write(2). Called by the layers that give up (node through
 *             its I/O table, net, http, the programs); never from below.
 * Thread:     any.
 */

#ifndef TL_LOG_H
#define TL_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "trilith/error.h"

enum log_level { LOG_LEVEL_DEBUG = 0, LOG_LEVEL_INFO = 1, LOG_LEVEL_WARN = 2, LOG_LEVEL_ERROR = 3 };

/* Before threads start. `node` (may be NULL) is printed with every line; borrowed for ever. */
void log_configure(bool is_json, enum log_level level_min, const char *node);

/* event: one snake_case word. format gives "key=value key2=\"two words\"" pairs: a value with a
 * space is put in double quotes by the caller, without a double quote inside. NULL: no pairs. */
__attribute__((format(printf, 3, 4))) void log_event(enum log_level level, const char *event,
                                                     const char *format, ...);
__attribute__((format(printf, 3, 0))) void log_event_v(enum log_level level, const char *event,
                                                       const char *format, va_list args);

/* A fault of the storage as an event; group and index only where they are known. */
void log_fault(const char *event, const struct tl_fault *fault);

/* snprintf for layers that see no stdio.h. Always NUL-terminated; returns the bytes written. */
__attribute__((format(printf, 3, 4))) size_t text_format(char *out_text, size_t text_bytes,
                                                         const char *format, ...);

#endif
