/* client.h - libtrilith: a retrying, leader-aware C client over libcurl.
 *
 * Role:       Sends requests to a list of endpoints, follows the cluster through failures, and
 *             retries what is known not to have happened. Writes carry an Idempotency-Key made
 *             here, so that a lost answer can be asked for again and the effect happens once.
 * Thread:     one thread per trilith_client; any number of clients.
 * Blocking:   every request, up to the timeout.
 * Ownership:  the caller owns what it passes in; answers are freed with trilith_answer_clear().
 */

#ifndef TRILITH_CLIENT_H
#define TRILITH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct trilith_client;

enum trilith_status {
    TRILITH_OK = 0,
    TRILITH_ERROR = 1, /* refused: see http_status, code, message */
    TRILITH_USAGE = 2, /* an argument is wrong; nothing was sent */
    TRILITH_NOT_FOUND = 3,
    TRILITH_CONDITION_FAILED = 4,
    TRILITH_UNAVAILABLE = 5, /* certainly not executed */
    TRILITH_UNKNOWN = 6,     /* may have been executed */
};

struct trilith_header {
    const char *name;
    const char *value;
};

struct trilith_answer {
    int http_status; /* 0: no answer arrived */
    uint8_t *body;   /* NUL-terminated behind body_bytes */
    size_t body_bytes;
    char content_type[256];
    uint64_t revision; /* of the ETag, else 0 */
    bool replayed;
    char node[280];    /* Trilith-Node */
    char token[64];    /* Trilith-Token */
    char code[64];     /* of an error */
    char message[512]; /* set unless TRILITH_OK: of an error, or why no answer arrived */
    uint32_t attempts_count;
};

/* endpoints: "HOST:PORT,HOST:PORT". NULL when none is usable or out of memory. */
struct trilith_client *trilith_client_create(const char *endpoints, uint32_t timeout_ms);
void trilith_client_destroy(struct trilith_client *client); /* accepts NULL */

/* For how long a node may say nothing before the next one is asked. 0, as it is at first: its share
 * of the timeout, one second at least, six for a count, which a node may take five for. */
void trilith_client_set_silence(struct trilith_client *client, uint32_t seconds);

/* How long the look-up of an endpoint's name may take before the timeout of a request begins. 0, as
 * it is at first: the look-up is part of the request. */
void trilith_client_set_lookup(struct trilith_client *client, uint32_t seconds);

/* One request with retries: whatever ends in UNAVAILABLE or UNKNOWN was tried until the timeout,
 * and a write of unknown outcome for a minute at most, while its key is remembered. A read is
 * never UNKNOWN. path: raw, begins with '/'. body may be NULL. headers end with a NULL name, or
 * NULL; no value is empty. is_write adds an Idempotency-Key unless the headers have one. */
enum trilith_status trilith_request(struct trilith_client *client, const char *method,
                                    const char *path, const void *body, size_t body_bytes,
                                    const struct trilith_header *headers, bool is_write,
                                    struct trilith_answer *out_answer);
void trilith_answer_clear(struct trilith_answer *answer);

enum trilith_status trilith_get(struct trilith_client *client, const void *key, size_t key_bytes,
                                const char *consistency, struct trilith_answer *out_answer);

struct trilith_write_options {
    const char *content_type;    /* NULL: application/octet-stream */
    const char *idempotency_key; /* NULL: one is made */
    uint64_t if_match;           /* revision; 0: no condition */
    bool if_absent;
};
enum trilith_status trilith_put(struct trilith_client *client, const void *key, size_t key_bytes,
                                const void *value, size_t value_bytes,
                                const struct trilith_write_options *options,
                                struct trilith_answer *out_answer);
enum trilith_status trilith_append(struct trilith_client *client, const void *key, size_t key_bytes,
                                   const void *value, size_t value_bytes,
                                   const struct trilith_write_options *options,
                                   struct trilith_answer *out_answer);
enum trilith_status trilith_incr(struct trilith_client *client, const void *key, size_t key_bytes,
                                 int64_t by, const struct trilith_write_options *options,
                                 struct trilith_answer *out_answer);
enum trilith_status trilith_delete(struct trilith_client *client, const void *key, size_t key_bytes,
                                   const struct trilith_write_options *options,
                                   struct trilith_answer *out_answer);

/* Keys of a range; NULL: no such bound. */
struct trilith_scan_options {
    const void *prefix;
    size_t prefix_bytes;
    const void *start; /* first key wanted */
    size_t start_bytes;
    const void *end; /* first key not wanted any more */
    size_t end_bytes;
    const void *after; /* `next` of the page before */
    size_t after_bytes;
    uint32_t limit; /* 1 to 1,000; 0: 100 */
    bool reverse;
    bool keys_only;
    bool count_only;
    const char *consistency; /* NULL: linearizable */
};
/* One page: its JSON is the answer's body. It may hold fewer rows than the limit, none even, and is
 * the last one when its `next` is null. */
enum trilith_status trilith_scan(struct trilith_client *client,
                                 const struct trilith_scan_options *options,
                                 struct trilith_answer *out_answer);

/* Carries out a transaction {"if":[...],"then":[...],"else":[...]}. TRILITH_CONDITION_FAILED
 * when `else` was carried out. The answer's body is JSON. Of the options only the idempotency
 * key counts; NULL: one is made. */
enum trilith_status trilith_txn(struct trilith_client *client, const char *json, size_t json_bytes,
                                const struct trilith_write_options *options,
                                struct trilith_answer *out_answer);

#ifdef __cplusplus
}
#endif

#endif
