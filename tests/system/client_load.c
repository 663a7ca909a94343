/* client_load.c - a client of libtrilith that must not see one failure.
 *
 *     client_load HOST:PORT,... KEY
 *
 * Until standard input ends: adds one to KEY, reads it back, and both must have happened exactly
 * once. Prints how many rounds it did and how long the slowest request took; exit 1 at the first
 * thing that is not as it should be.
 */

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "trilith/client.h"

#define TIMEOUT_MS 10000u

static uint64_t clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static bool is_over(void)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};
    return poll(&input, 1, 0) != 0;
}

static bool fail(const char *what, uint64_t round, const struct trilith_answer *answer)
{
    (void)fprintf(stderr, "client_load: round %" PRIu64 ": %s: HTTP %d %s, %u attempts, \"%.*s\"\n",
                  round, what, answer->http_status, answer->message, answer->attempts_count,
                  (int)answer->body_bytes, (const char *)answer->body);
    return false;
}

static bool run_round(struct trilith_client *client, const char *key, uint64_t round)
{
    struct trilith_answer answer;
    enum trilith_status status = trilith_incr(client, key, strlen(key), 1, NULL, &answer);
    if (status != TRILITH_OK) return fail("incr", round, &answer);
    trilith_answer_clear(&answer);
    status = trilith_get(client, key, strlen(key), NULL, &answer);
    if (status != TRILITH_OK) return fail("get", round, &answer);
    if (strtoull((const char *)answer.body, NULL, 10) != round) {
        return fail("another value", round, &answer);
    }
    trilith_answer_clear(&answer);
    return true;
}

int main(int argc, char **argv)
{
    struct trilith_client *client = argc == 3 ? trilith_client_create(argv[1], TIMEOUT_MS) : NULL;
    if (client == NULL) {
        (void)fprintf(stderr, "client_load HOST:PORT,... KEY\n");
        return 2;
    }
    uint64_t slowest_ms = 0;
    uint64_t round = 0;
    bool is_right = true;
    while (is_right && !is_over()) {
        uint64_t began_ms = clock_ms();
        is_right = run_round(client, argv[2], ++round);
        uint64_t took_ms = clock_ms() - began_ms;
        if (took_ms > slowest_ms) slowest_ms = took_ms;
    }
    (void)printf("%" PRIu64 " %" PRIu64 "\n", round, slowest_ms);
    trilith_client_destroy(client);
    return is_right ? 0 : 1;
}
