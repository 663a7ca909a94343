/* error.c - texts of error codes and the fault record. */

#include "trilith/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *tl_err_text(enum tl_err err)
{
    switch (err) {
#define TL_ERR_TEXT(name, number, text) \
    case name:                          \
        return text;
        TL_ERR_LIST(TL_ERR_TEXT)
#undef TL_ERR_TEXT
    }
    return "unknown error";
}

const char *tl_err_name(enum tl_err err)
{
    switch (err) {
#define TL_ERR_NAME(name, number, text) \
    case name:                          \
        return #name;
        TL_ERR_LIST(TL_ERR_NAME)
#undef TL_ERR_NAME
    }
    return "TL_ERR_?";
}

/* A fault is printed in double quotes (log.h), and names of files are the operator's. */
static void make_quotable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '"') {
            *text = '\'';
        } else if ((unsigned char)*text < ' ') {
            *text = '?';
        }
    }
}

void tl_fault_set(struct tl_fault *fault, const char *file, uint32_t group, uint64_t index,
                  const char *format, ...)
{
    if (fault == NULL) {
        return;
    }
    (void)snprintf(fault->file, sizeof fault->file, "%s", file);
    fault->group = group;
    fault->index = index;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(fault->reason, sizeof fault->reason, format, args);
    va_end(args);
    make_quotable(fault->file);
    make_quotable(fault->reason);
}
