/* client.c - requests with retries.
 *
 * An attempt ends in one of three verdicts (enum client_verdict). What certainly did not happen is
 * tried on the next endpoint; what may have happened is tried again too, because every write
 * carries an Idempotency-Key, which makes the repeat harmless for as long as the cluster is sure to
 * remember the key. A node from which nothing is heard for its share of the time is left for the
 * next one: it may be stopped and still accept connections. Between rounds over all endpoints the
 * client waits, 20 ms at first and at most 200 ms, until the timeout of the request.
 */

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "client_internal.h"

#define ENDPOINTS_MAX CLIENT_ENDPOINTS_MAX
#define ENDPOINT_BYTES_MAX CLIENT_ENDPOINT_BYTES_MAX
#define CONNECT_TIMEOUT_MS 500L
#define PAUSE_MS_MIN 20u
#define PAUSE_MS_MAX 200u
#define KEY_REMEMBERED_MS 60000u /* at least, however many keys there are (docs/api.md) */
#define BODY_BYTES_MAX (64u * 1024u * 1024u)

struct trilith_client {
    CURL *curl;
    uint32_t timeout_ms;
    uint32_t silence_s; /* 0: a share of the time */
    uint32_t endpoints_count;
    uint32_t endpoint; /* the one that answered last */
    char endpoints[ENDPOINTS_MAX][ENDPOINT_BYTES_MAX];
    struct client_names *names; /* owned; of the endpoints */
    uint32_t lookup_s;          /* for the first look-up, beside the request's time */
};

/* One request as trilith_request() got it. */
struct request {
    const char *method;
    const char *path;
    const void *body;
    size_t body_bytes;
    struct curl_slist *headers;
    bool is_write;
    uint32_t silence_s_min; /* how long a healthy node may need before it answers */
    uint64_t begin_ms;
    uint64_t deadline_ms;
};

static uint64_t clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with a valid clock and pointer */
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void pause_ms(uint32_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L};
    (void)nanosleep(&time, NULL); /* waking early is harmless */
}

static bool add_endpoint(struct trilith_client *client, const char *text, size_t count)
{
    if (count == 0 || count >= ENDPOINT_BYTES_MAX || client->endpoints_count == ENDPOINTS_MAX ||
        memchr(text, ':', count) == NULL) {
        return false;
    }
    char *endpoint = client->endpoints[client->endpoints_count++];
    memcpy(endpoint, text, count);
    endpoint[count] = '\0';
    return true;
}

static bool parse_endpoints(struct trilith_client *client, const char *endpoints)
{
    while (*endpoints != '\0') {
        size_t count = strcspn(endpoints, ",");
        if (!add_endpoint(client, endpoints, count)) {
            return false;
        }
        endpoints += count;
        endpoints += *endpoints == ',';
    }
    return client->endpoints_count > 0;
}

struct trilith_client *trilith_client_create(const char *endpoints, uint32_t timeout_ms)
{
    struct trilith_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return NULL;
    }
    client->timeout_ms = timeout_ms;
    client->curl = curl_easy_init();
    if (client->curl == NULL || !parse_endpoints(client, endpoints)) {
        trilith_client_destroy(client);
        return NULL;
    }
    client->names = client_names_create(client->endpoints, client->endpoints_count);
    if (client->names == NULL) {
        trilith_client_destroy(client);
        return NULL;
    }
    return client;
}

void trilith_client_destroy(struct trilith_client *client)
{
    if (client == NULL) {
        return;
    }
    curl_easy_cleanup(client->curl);
    client_names_destroy(client->names);
    free(client);
}

void trilith_client_set_silence(struct trilith_client *client, uint32_t seconds)
{
    client->silence_s = seconds;
}

void trilith_client_set_lookup(struct trilith_client *client, uint32_t seconds)
{
    client->lookup_s = seconds;
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct trilith_answer *answer = context;
    size_t bytes = size * count;
    if (answer->body_bytes + bytes > BODY_BYTES_MAX) {
        return 0;
    }
    uint8_t *body = realloc(answer->body, answer->body_bytes + bytes + 1);
    if (body == NULL) {
        return 0;
    }
    memcpy(body + answer->body_bytes, data, bytes);
    answer->body = body;
    answer->body_bytes += bytes;
    answer->body[answer->body_bytes] = '\0';
    return bytes;
}

static bool header_is(const char *line, size_t count, const char *name, char *out_value,
                      size_t value_bytes)
{
    size_t name_count = strlen(name);
    if (count <= name_count || line[name_count] != ':' ||
        curl_strnequal(line, name, name_count) == 0) {
        return false;
    }
    const char *value = line + name_count + 1;
    const char *end = line + count;
    while (value < end && (*value == ' ' || *value == '\t')) value++;
    while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) end--;
    (void)snprintf(out_value, value_bytes, "%.*s", (int)(end - value), value);
    return true;
}

static size_t on_header(char *data, size_t size, size_t count, void *context)
{
    struct trilith_answer *answer = context;
    size_t bytes = size * count;
    char text[64];
    if (header_is(data, bytes, "ETag", text, sizeof text)) {
        answer->revision = strtoull(text + (text[0] == '"'), NULL, 10);
    } else if (header_is(data, bytes, "Trilith-Replayed", text, sizeof text)) {
        answer->replayed = strcmp(text, "true") == 0;
    } else if (!header_is(data, bytes, "Trilith-Node", answer->node, sizeof answer->node) &&
               !header_is(data, bytes, "Trilith-Token", answer->token, sizeof answer->token)) {
        (void)header_is(data, bytes, "Content-Type", answer->content_type,
                        sizeof answer->content_type);
    }
    return bytes;
}

/* What the HTTP parser itself refuses is told in a line of plain text, if at all. */
static void take_plain_reason(struct trilith_answer *answer)
{
    const char *text = answer->body != NULL ? (const char *)answer->body : "";
    int count = (int)strcspn(text, "\r\n");
    (void)snprintf(answer->message, sizeof answer->message, "%.*s%sHTTP %d", count, text,
                   count > 0 ? ", " : "", answer->http_status);
}

/* Reads code, message and outcome of an error body; without one only a message is made. */
static void parse_error(struct trilith_answer *answer, char *out_outcome, size_t outcome_bytes)
{
    out_outcome[0] = '\0';
    if (answer->http_status < 400) {
        return;
    }
    take_plain_reason(answer);
    json_t *root = json_loadb((const char *)answer->body, answer->body_bytes, 0, NULL);
    const char *code = NULL;
    const char *message = NULL;
    const char *outcome = NULL;
    if (root != NULL && json_unpack(root, "{s:{s:s, s?s, s?s}}", "error", "code", &code, "message",
                                    &message, "outcome", &outcome) == 0) {
        (void)snprintf(answer->code, sizeof answer->code, "%s", code);
        (void)snprintf(answer->message, sizeof answer->message, "%s",
                       message != NULL ? message : "");
        (void)snprintf(out_outcome, outcome_bytes, "%s", outcome != NULL ? outcome : "");
    }
    json_decref(root);
}

enum client_verdict client_judge(int http_status, const char *outcome)
{
    if (http_status == 504 || (http_status >= 400 && strcmp(outcome, "unknown") == 0)) {
        return CLIENT_MAYBE_EXECUTED;
    }
    switch (http_status) {
    case 429:
    case 503:
    case 507: /* of this leader's disk; another one may have room */
        return CLIENT_NOT_EXECUTED;
    default:
        return CLIENT_FINAL;
    }
}

/* What a transport error says: only failures to connect are certain not to have delivered. */
static enum client_verdict judge_transport(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
        return CLIENT_NOT_EXECUTED;
    default:
        return CLIENT_MAYBE_EXECUTED;
    }
}

static void answer_begin(struct trilith_answer *answer)
{
    uint32_t attempts_count = answer->attempts_count + 1;
    free(answer->body);
    *answer = (struct trilith_answer){.attempts_count = attempts_count};
}

/* How long a node may say nothing before it is left for the next one. */
static uint32_t silence_s_of(const struct trilith_client *client, const struct request *request,
                             uint64_t left_ms)
{
    if (client->silence_s != 0) return client->silence_s;
    uint32_t share_s = (uint32_t)(left_ms / 1000 / client->endpoints_count);
    return share_s > request->silence_s_min ? share_s : request->silence_s_min;
}

static void set_request(struct trilith_client *client, const struct request *request,
                        struct trilith_answer *answer, const char *url)
{
    CURL *curl = client->curl;
    uint64_t now = clock_ms();
    uint64_t left_ms = request->deadline_ms > now ? request->deadline_ms - now : 1;

    curl_easy_reset(curl); /* keeps connections */
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)left_ms);
    if (client->endpoints_count > 1) {
        (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME,
                               (long)silence_s_of(client, request, left_ms));
    }
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, request->headers);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, answer);
    if (request->body != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_bytes);
    }
    if (strcmp(request->method, "HEAD") == 0) {
        (void)curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else {
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

static enum client_verdict attempt(struct trilith_client *client, const struct request *request,
                                   struct trilith_answer *answer)
{
    answer_begin(answer);
    size_t url_bytes = strlen(request->path) + ENDPOINT_BYTES_MAX + sizeof "http://";
    char *url = malloc(url_bytes);
    if (url == NULL) {
        (void)snprintf(answer->message, sizeof answer->message, "out of memory");
        return CLIENT_NOT_EXECUTED;
    }
    char hint[CLIENT_HINT_BYTES];
    if (!client_names_await(client->names, &client->endpoint, request->deadline_ms, hint)) {
        (void)snprintf(answer->message, sizeof answer->message, "%s: the name is not found",
                       client->endpoints[client->endpoint]);
        free(url);
        return CLIENT_NOT_EXECUTED;
    }
    const char *endpoint = client->endpoints[client->endpoint];
    (void)snprintf(url, url_bytes, "http://%s%s", endpoint, request->path);
    set_request(client, request, answer, url);
    struct curl_slist *hints = hint[0] != '\0' ? curl_slist_append(NULL, hint) : NULL;
    (void)curl_easy_setopt(client->curl, CURLOPT_RESOLVE, hints);
    CURLcode code = curl_easy_perform(client->curl);
    (void)curl_easy_setopt(client->curl, CURLOPT_RESOLVE, NULL);
    curl_slist_free_all(hints);
    free(url);
    if (code != CURLE_OK) {
        (void)snprintf(answer->message, sizeof answer->message, "%s: %s", endpoint,
                       curl_easy_strerror(code));
        return judge_transport(code);
    }
    long status = 0;
    (void)curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    answer->http_status = (int)status;
    char outcome[32];
    parse_error(answer, outcome, sizeof outcome);
    return client_judge(answer->http_status, outcome);
}

static enum trilith_status status_of_answer(const struct trilith_answer *answer)
{
    if (answer->http_status >= 200 && answer->http_status < 300) {
        return TRILITH_OK;
    }
    switch (answer->http_status) {
    case 404:
        return TRILITH_NOT_FOUND;
    case 412:
        return TRILITH_CONDITION_FAILED;
    default:
        return TRILITH_ERROR;
    }
}

bool client_is_over(uint64_t elapsed_ms, uint64_t timeout_ms, bool is_unknown)
{
    return elapsed_ms >= timeout_ms || (is_unknown && elapsed_ms >= KEY_REMEMBERED_MS);
}

/* Attempts until an answer is final, repeating is not allowed, or the time is over. */
static enum trilith_status run(struct trilith_client *client, const struct request *request,
                               struct trilith_answer *answer)
{
    bool is_unknown = false;
    uint32_t pause = PAUSE_MS_MIN;
    for (uint32_t tried = 1;; tried++) {
        enum client_verdict verdict = attempt(client, request, answer);
        if (verdict == CLIENT_FINAL) {
            return status_of_answer(answer);
        }
        is_unknown |= request->is_write && verdict == CLIENT_MAYBE_EXECUTED;
        client->endpoint = (client->endpoint + 1) % client->endpoints_count;
        bool is_round_over = tried % client->endpoints_count == 0;
        uint64_t elapsed_ms = clock_ms() - request->begin_ms + (is_round_over ? pause : 0);
        if (client_is_over(elapsed_ms, client->timeout_ms, is_unknown)) {
            return is_unknown ? TRILITH_UNKNOWN : TRILITH_UNAVAILABLE;
        }
        if (is_round_over) {
            pause_ms(pause);
            pause = pause * 2 < PAUSE_MS_MAX ? pause * 2 : PAUSE_MS_MAX;
        }
    }
}

static bool has_header(const struct trilith_header *headers, const char *name)
{
    for (; headers != NULL && headers->name != NULL; headers++) {
        if (curl_strequal(headers->name, name) != 0) {
            return true;
        }
    }
    return false;
}

static bool append_header(struct curl_slist **list, const char *name, const char *value)
{
    char line[1024];
    int count = snprintf(line, sizeof line, "%s: %s", name, value);
    if (count < 0 || (size_t)count >= sizeof line || strpbrk(line, "\r\n") != NULL) {
        return false;
    }
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer == NULL) {
        return false;
    }
    *list = longer;
    return true;
}

/* 128 random bits as text: no two requests of any client share one. */
static bool append_idempotency_key(struct curl_slist **list)
{
    uint64_t words[2];
    if (getrandom(words, sizeof words, 0) != (ssize_t)sizeof words) {
        return false;
    }
    char text[33];
    (void)snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)words[0],
                   (unsigned long long)words[1]);
    return append_header(list, "Idempotency-Key", text);
}

static bool make_headers(const struct trilith_header *headers, bool is_write,
                         struct curl_slist **out_list)
{
    /* Without this curl waits for "100 Continue" with large bodies. */
    bool is_ok = append_header(out_list, "Expect", "");
    for (const struct trilith_header *h = headers; is_ok && h != NULL && h->name != NULL; h++) {
        /* curl leaves a header without a value out: an Idempotency-Key would not be sent. */
        is_ok = h->value[0] != '\0' && append_header(out_list, h->name, h->value);
    }
    if (is_ok && !has_header(headers, "Content-Type")) {
        is_ok = append_header(out_list, "Content-Type", "application/octet-stream");
    }
    if (is_ok && is_write && !has_header(headers, "Idempotency-Key")) {
        is_ok = append_idempotency_key(out_list);
    }
    return is_ok;
}

enum trilith_status client_request(struct trilith_client *client, const char *method,
                                   const char *path, const void *body, size_t body_bytes,
                                   const struct trilith_header *headers, bool is_write,
                                   uint32_t silence_s_min, struct trilith_answer *out_answer)
{
    *out_answer = (struct trilith_answer){.attempts_count = 0};
    if (path == NULL || path[0] != '/') {
        (void)snprintf(out_answer->message, sizeof out_answer->message, "a path begins with /");
        return TRILITH_USAGE;
    }
    if (client->lookup_s > 0) {
        char hint[CLIENT_HINT_BYTES];
        uint64_t until_ms = clock_ms() + (uint64_t)client->lookup_s * 1000u;
        (void)client_names_await(client->names, &client->endpoint, until_ms, hint);
    }
    /* Repeating is always allowed: a write carries an Idempotency-Key by make_headers(). */
    struct request request = {.method = method,
                              .path = path,
                              .body = body,
                              .body_bytes = body_bytes,
                              .is_write = is_write,
                              .silence_s_min = silence_s_min,
                              .begin_ms = clock_ms()};
    request.deadline_ms = request.begin_ms + client->timeout_ms;
    enum trilith_status status = TRILITH_USAGE;
    if (make_headers(headers, is_write, &request.headers)) {
        status = run(client, &request, out_answer);
    } else {
        (void)snprintf(out_answer->message, sizeof out_answer->message, "a header is not valid");
    }
    curl_slist_free_all(request.headers);
    return status;
}

enum trilith_status trilith_request(struct trilith_client *client, const char *method,
                                    const char *path, const void *body, size_t body_bytes,
                                    const struct trilith_header *headers, bool is_write,
                                    struct trilith_answer *out_answer)
{
    return client_request(client, method, path, body, body_bytes, headers, is_write,
                          CLIENT_SILENCE_S_MIN, out_answer);
}

void trilith_answer_clear(struct trilith_answer *answer)
{
    free(answer->body);
    *answer = (struct trilith_answer){.http_status = 0};
}
