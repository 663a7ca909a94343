/* client_ops.c - the verbs of the native API as calls. */

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_internal.h"

#define KV_PREFIX "/v1/kv/"
#define HEADERS_MAX 6u

static bool is_unreserved(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~' || c == '/';
}

char *client_escape(char *at, const void *bytes, size_t bytes_count)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < bytes_count; i++) {
        uint8_t c = ((const uint8_t *)bytes)[i];
        if (is_unreserved(c)) {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
    return at;
}

char *client_kv_path(const void *key, size_t key_bytes, const char *suffix)
{
    char *path = malloc(sizeof KV_PREFIX + key_bytes * 3 + strlen(suffix));
    if (path == NULL) {
        return NULL;
    }
    memcpy(path, KV_PREFIX, sizeof KV_PREFIX - 1);
    char *at = client_escape(path + sizeof KV_PREFIX - 1, key, key_bytes);
    memcpy(at, suffix, strlen(suffix) + 1);
    return path;
}

/* A key and a suffix as a request. */
static enum trilith_status kv_request(struct trilith_client *client, const char *method,
                                      const void *key, size_t key_bytes, const char *suffix,
                                      const void *body, size_t body_bytes,
                                      const struct trilith_header *headers, bool is_write,
                                      struct trilith_answer *out_answer)
{
    *out_answer = (struct trilith_answer){.http_status = 0};
    if (key_bytes == 0) {
        (void)snprintf(out_answer->message, sizeof out_answer->message, "the key is empty");
        return TRILITH_USAGE;
    }
    char *path = client_kv_path(key, key_bytes, suffix);
    if (path == NULL) {
        (void)snprintf(out_answer->message, sizeof out_answer->message, "out of memory");
        return TRILITH_ERROR;
    }
    enum trilith_status status =
        trilith_request(client, method, path, body, body_bytes, headers, is_write, out_answer);
    free(path);
    return status;
}

/* Writes the options as headers; `text` holds the formatted revision. */
static void option_headers(const struct trilith_write_options *options,
                           struct trilith_header out_headers[HEADERS_MAX], char text[32])
{
    size_t count = 0;
    if (options != NULL && options->content_type != NULL) {
        out_headers[count++] = (struct trilith_header){"Content-Type", options->content_type};
    }
    if (options != NULL && options->idempotency_key != NULL) {
        out_headers[count++] = (struct trilith_header){"Idempotency-Key", options->idempotency_key};
    }
    if (options != NULL && options->if_match != 0) {
        (void)snprintf(text, 32, "\"%llu\"", (unsigned long long)options->if_match);
        out_headers[count++] = (struct trilith_header){"If-Match", text};
    }
    if (options != NULL && options->if_absent) {
        out_headers[count++] = (struct trilith_header){"If-None-Match", "*"};
    }
    out_headers[count] = (struct trilith_header){NULL, NULL};
}

enum trilith_status trilith_get(struct trilith_client *client, const void *key, size_t key_bytes,
                                const char *consistency, struct trilith_answer *out_answer)
{
    const struct trilith_header headers[] = {
        {consistency != NULL ? "Trilith-Consistency" : NULL, consistency}, {NULL, NULL}};
    return kv_request(client, "GET", key, key_bytes, "", NULL, 0, headers, false, out_answer);
}

enum trilith_status trilith_put(struct trilith_client *client, const void *key, size_t key_bytes,
                                const void *value, size_t value_bytes,
                                const struct trilith_write_options *options,
                                struct trilith_answer *out_answer)
{
    struct trilith_header headers[HEADERS_MAX];
    char text[32];
    option_headers(options, headers, text);
    return kv_request(client, "PUT", key, key_bytes, "", value, value_bytes, headers, true,
                      out_answer);
}

enum trilith_status trilith_append(struct trilith_client *client, const void *key, size_t key_bytes,
                                   const void *value, size_t value_bytes,
                                   const struct trilith_write_options *options,
                                   struct trilith_answer *out_answer)
{
    struct trilith_header headers[HEADERS_MAX];
    char text[32];
    option_headers(options, headers, text);
    return kv_request(client, "POST", key, key_bytes, "?op=append", value, value_bytes, headers,
                      true, out_answer);
}

enum trilith_status trilith_incr(struct trilith_client *client, const void *key, size_t key_bytes,
                                 int64_t by, const struct trilith_write_options *options,
                                 struct trilith_answer *out_answer)
{
    struct trilith_header headers[HEADERS_MAX];
    char text[32];
    char suffix[64];
    option_headers(options, headers, text);
    (void)snprintf(suffix, sizeof suffix, "?op=incr&by=%lld", (long long)by);
    return kv_request(client, "POST", key, key_bytes, suffix, "", 0, headers, true, out_answer);
}

enum trilith_status trilith_delete(struct trilith_client *client, const void *key, size_t key_bytes,
                                   const struct trilith_write_options *options,
                                   struct trilith_answer *out_answer)
{
    struct trilith_header headers[HEADERS_MAX];
    char text[32];
    option_headers(options, headers, text);
    return kv_request(client, "DELETE", key, key_bytes, "", NULL, 0, headers, true, out_answer);
}

/* ---- scans ---- */

#define SCAN_PREFIX "/v1/kv?"
#define SCAN_FIXED_BYTES 160u /* names, flags and the limit */

static char *add_text(char *at, const char *text)
{
    size_t count = strlen(text);
    memcpy(at, text, count);
    return at + count;
}

static char *add_key(char *at, const char *name, const void *key, size_t key_bytes)
{
    return key != NULL ? client_escape(add_text(at, name), key, key_bytes) : at;
}

char *client_scan_path(const struct trilith_scan_options *options)
{
    size_t keys_bytes =
        options->prefix_bytes + options->start_bytes + options->end_bytes + options->after_bytes;
    char *path = malloc(SCAN_FIXED_BYTES + keys_bytes * 3);
    if (path == NULL) {
        return NULL;
    }
    char *at = add_text(path, SCAN_PREFIX);
    if (options->limit > 0) {
        char limit[32];
        (void)snprintf(limit, sizeof limit, "limit=%u", (unsigned)options->limit);
        at = add_text(at, limit);
    }
    at = add_key(at, "&prefix=", options->prefix, options->prefix_bytes);
    at = add_key(at, "&start=", options->start, options->start_bytes);
    at = add_key(at, "&end=", options->end, options->end_bytes);
    at = add_key(at, "&after=", options->after, options->after_bytes);
    if (options->reverse) at = add_text(at, "&reverse=1");
    if (options->keys_only) at = add_text(at, "&keys_only=1");
    if (options->count_only) at = add_text(at, "&count_only=1");
    *at = '\0';
    return path;
}

enum trilith_status trilith_scan(struct trilith_client *client,
                                 const struct trilith_scan_options *options,
                                 struct trilith_answer *out_answer)
{
    *out_answer = (struct trilith_answer){.http_status = 0};
    char *path = client_scan_path(options);
    if (path == NULL) {
        (void)snprintf(out_answer->message, sizeof out_answer->message, "out of memory");
        return TRILITH_ERROR;
    }
    const struct trilith_header headers[] = {
        {options->consistency != NULL ? "Trilith-Consistency" : NULL, options->consistency},
        {NULL, NULL}};
    uint32_t silence_s_min =
        options->count_only ? CLIENT_COUNT_SILENCE_S_MIN : CLIENT_SILENCE_S_MIN;
    enum trilith_status status =
        client_request(client, "GET", path, NULL, 0, headers, false, silence_s_min, out_answer);
    free(path);
    return status;
}

/* ---- transactions ---- */

static bool has_failed_condition(const struct trilith_answer *answer)
{
    /* What `else` read may have NUL bytes. */
    json_t *root = json_loadb((const char *)answer->body, answer->body_bytes, JSON_ALLOW_NUL, NULL);
    bool is_failed = json_is_false(json_object_get(root, "succeeded"));
    json_decref(root);
    return is_failed;
}

enum trilith_status trilith_txn(struct trilith_client *client, const char *json, size_t json_bytes,
                                const struct trilith_write_options *options,
                                struct trilith_answer *out_answer)
{
    const char *key = options != NULL ? options->idempotency_key : NULL;
    const struct trilith_header headers[] = {{"Content-Type", "application/json"},
                                             {key != NULL ? "Idempotency-Key" : NULL, key},
                                             {NULL, NULL}};
    enum trilith_status status =
        trilith_request(client, "POST", "/v1/txn", json, json_bytes, headers, true, out_answer);
    if (status == TRILITH_OK && out_answer->body != NULL && has_failed_condition(out_answer)) {
        return TRILITH_CONDITION_FAILED;
    }
    return status;
}
