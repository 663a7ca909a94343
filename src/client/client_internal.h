/* client_internal.h - what the files of libtrilith share. */

#ifndef TRILITH_CLIENT_INTERNAL_H
#define TRILITH_CLIENT_INTERNAL_H

#include "trilith/client.h"

/* "/v1/kv/" and the key percent-encoded, then `suffix`. Malloced; NULL when out of memory. */
char *client_kv_path(const void *key, size_t key_bytes, const char *suffix);

/* Appends the bytes percent-encoded; `at` has room for three times as many. Returns the end. */
char *client_escape(char *at, const void *bytes, size_t bytes_count);

/* "/v1/kv?" and the options. Malloced; NULL when out of memory. */
char *client_scan_path(const struct trilith_scan_options *options);

#define CLIENT_SILENCE_S_MIN 1u
/* A count is answered as far as it has got when the server's --request-timeout (5 s) is over. */
#define CLIENT_COUNT_SILENCE_S_MIN 6u

/* As trilith_request(); a node may say nothing for `silence_s_min` at least before the next one is
 * asked, however many there are. */
enum trilith_status client_request(struct trilith_client *client, const char *method,
                                   const char *path, const void *body, size_t body_bytes,
                                   const struct trilith_header *headers, bool is_write,
                                   uint32_t silence_s_min, struct trilith_answer *out_answer);

/* ---- client_names.c ---- */

#define CLIENT_ENDPOINTS_MAX 32u
#define CLIENT_ENDPOINT_BYTES_MAX 280u
#define CLIENT_HINT_BYTES 1024u
struct client_names;
/* Of endpoints that hold a colon. NULL when out of memory. */
struct client_names *client_names_create(char endpoints[][CLIENT_ENDPOINT_BYTES_MAX],
                                         uint32_t count);
void client_names_destroy(struct client_names *names); /* accepts NULL */
/* Waits until the endpoint's name has been looked up, or that of another one, which then takes its
 * place. Names that were found stay so while later look-ups fail.
 *
 * deadline_ms  on CLOCK_MONOTONIC
 * out_hint     for CURLOPT_RESOLVE; "": the host is a literal
 *
 * false: the name does not resolve, or has not within the time. */
bool client_names_await(struct client_names *names, uint32_t *endpoint, uint64_t deadline_ms,
                        char out_hint[CLIENT_HINT_BYTES]);

/* What one attempt says about the request as a whole. */
enum client_verdict {
    CLIENT_FINAL,         /* an answer to give to the caller */
    CLIENT_NOT_EXECUTED,  /* certainly did not happen: may be tried elsewhere */
    CLIENT_MAYBE_EXECUTED /* may have happened: reported as unknown if it stays so */
};

/* Judges an HTTP answer by status and the error body's "outcome" ("" when there is none). */
enum client_verdict client_judge(int http_status, const char *outcome);

/* Whether the time for another attempt is over. A write that may have happened is not repeated when
 * its key may be forgotten: it would happen again. */
bool client_is_over(uint64_t elapsed_ms, uint64_t timeout_ms, bool is_unknown);

#endif
