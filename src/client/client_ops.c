/* client_ops.c - the verbs of the native API as calls. */

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

char *client_kv_path(const void *key, size_t key_bytes, const char *suffix)
{
    static const char hex[] = "0123456789ABCDEF";
    char *path = malloc(sizeof KV_PREFIX + key_bytes * 3 + strlen(suffix));
    if (path == NULL) {
        return NULL;
    }
    memcpy(path, KV_PREFIX, sizeof KV_PREFIX - 1);
    char *at = path + sizeof KV_PREFIX - 1;
    for (size_t i = 0; i < key_bytes; i++) {
        uint8_t c = ((const uint8_t *)key)[i];
        if (is_unreserved(c)) {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
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
