/* crash_point.c - the hook, and the one that kills. */

#include "trilith/crash_point.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void (*crash_point_hook)(const char *name);

static char armed_name[CRASH_POINT_NAME_BYTES_MAX];
static atomic_ulong passes_left;

/* SIGKILL, as a power cut has it: no handler, no flush of anything. The line tells it from one that
 * came from outside. */
static void kill_at(const char *name)
{
    if (strcmp(name, armed_name) == 0 && atomic_fetch_sub(&passes_left, 1) == 1) {
        (void)fprintf(stderr, "killed at crash point %s\n", name);
        (void)raise(SIGKILL); /* does not return */
    }
}

bool crash_point_arm(const char *text)
{
    size_t name_bytes = strcspn(text, ":");
    unsigned long count = 1;
    if (text[name_bytes] == ':') {
        char *end = NULL;
        count = strtoul(text + name_bytes + 1, &end, 10);
        if (*end != '\0') return false;
    }
    if (name_bytes == 0 || name_bytes >= sizeof armed_name || count == 0) {
        return false;
    }
    memcpy(armed_name, text, name_bytes);
    armed_name[name_bytes] = '\0';
    atomic_store(&passes_left, count);
    crash_point_hook = kill_at;
    return true;
}
