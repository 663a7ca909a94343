/* log.c - event lines. The pairs are formatted once and, for JSON, taken apart again: events are
 * rare, and the callers stay readable. */

#include "trilith/log.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 2048u

static struct {
    bool is_json;
    enum log_level level_min;
    const char *node;
} settings = {.level_min = LOG_LEVEL_INFO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_configure(bool is_json, enum log_level level_min, const char *node)
{
    settings.is_json = is_json;
    settings.level_min = level_min;
    settings.node = node;
}

size_t text_format(char *out_text, size_t text_bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int count = vsnprintf(out_text, text_bytes, format, args);
    va_end(args);
    if (count < 0) {
        return 0;
    }
    return (size_t)count < text_bytes ? (size_t)count : text_bytes - 1;
}

struct line {
    char text[LINE_BYTES_MAX];
    size_t count;
};

static void line_add(struct line *line, const char *text, size_t count)
{
    size_t room = sizeof line->text - 2 - line->count; /* a newline and a NUL always fit */
    count = count < room ? count : room;
    memcpy(line->text + line->count, text, count);
    line->count += count;
}

static void line_add_text(struct line *line, const char *text)
{
    line_add(line, text, strlen(text));
}

/* As the inside of a JSON string. */
static void line_add_escaped(struct line *line, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)text[i];
        char escaped[8];
        if (c == '"' || c == '\\') {
            (void)snprintf(escaped, sizeof escaped, "\\%c", c);
        } else if (c < 0x20) {
            (void)snprintf(escaped, sizeof escaped, "\\u%04x", c);
        } else {
            (void)snprintf(escaped, sizeof escaped, "%c", c);
        }
        line_add_text(line, escaped);
    }
}

static void line_add_json_pair(struct line *line, const char *key, size_t key_count,
                               const char *value, size_t value_count)
{
    line_add_text(line, ",\"");
    line_add_escaped(line, key, key_count);
    line_add_text(line, "\":\"");
    line_add_escaped(line, value, value_count);
    line_add_text(line, "\"");
}

/* Takes "key=value key2="two words"" apart. */
static void line_add_json_pairs(struct line *line, const char *pairs)
{
    while (*pairs != '\0') {
        pairs += strspn(pairs, " ");
        size_t key_count = strcspn(pairs, "= ");
        if (pairs[key_count] != '=') {
            break;
        }
        const char *key = pairs;
        const char *value = pairs + key_count + 1;
        bool is_quoted = *value == '"';
        value += is_quoted;
        size_t value_count = strcspn(value, is_quoted ? "\"" : " ");
        line_add_json_pair(line, key, key_count, value, value_count);
        pairs = value + value_count;
        pairs += is_quoted && *pairs == '"';
    }
}

void log_event_v(enum log_level level, const char *event, const char *format, va_list args)
{
    if (level < settings.level_min) {
        return;
    }
    char pairs[LINE_BYTES_MAX] = "";
    if (format != NULL) {
        (void)vsnprintf(pairs, sizeof pairs, format, args);
    }
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock and pointer */
    struct tm utc;
    (void)gmtime_r(&now.tv_sec, &utc); /* fails only past year 2^31 */
    char stamp[64];
    size_t stamp_count = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(stamp + stamp_count, sizeof stamp - stamp_count, ".%03ldZ",
                   now.tv_nsec / 1000000);

    struct line line = {.count = 0};
    line_add_text(&line, settings.is_json ? "{\"time\":\"" : "time=");
    line_add_text(&line, stamp);
    line_add_text(&line, settings.is_json ? "\",\"level\":\"" : " level=");
    line_add_text(&line, level_names[level]);
    line_add_text(&line, settings.is_json ? "\",\"event\":\"" : " event=");
    line_add_text(&line, event);
    line_add_text(&line, settings.is_json ? "\"" : "");
    if (settings.is_json) {
        if (settings.node != NULL) {
            line_add_json_pair(&line, "node", 4, settings.node, strlen(settings.node));
        }
        line_add_json_pairs(&line, pairs);
        line_add_text(&line, "}");
    } else {
        if (settings.node != NULL) {
            line_add_text(&line, " node=");
            line_add_text(&line, settings.node);
        }
        line_add_text(&line, pairs[0] != '\0' ? " " : "");
        line_add_text(&line, pairs);
    }
    line.text[line.count++] = '\n';
    (void)!write(STDERR_FILENO, line.text, line.count); /* nowhere left to report to */
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_event_v(level, event, format, args);
    va_end(args);
}

void log_fault(const char *event, const struct tl_fault *fault)
{
    if (fault->group == UINT32_MAX) {
        log_event(LOG_LEVEL_ERROR, event, "file=\"%s\" reason=\"%s\"", fault->file, fault->reason);
    } else {
        log_event(LOG_LEVEL_ERROR, event, "file=\"%s\" group=%lu index=%llu reason=\"%s\"",
                  fault->file, (unsigned long)fault->group, (unsigned long long)fault->index,
                  fault->reason);
    }
}
