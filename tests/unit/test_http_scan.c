/* GET /v1/kv over the wire: what is asked of a scan, and how its rows are told. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "http_client.h"

TestSuite(http_scan, .init = server_begin, .fini = server_end, .timeout = 20);

/* The first `count` letters. */
static void set_keys(uint32_t count)
{
    static const char *const texts[] = {"a", "b", "c", "d", "e"};
    fake.scan_keys_count = count;
    for (uint32_t i = 0; i < count; i++) fake.scan_keys[i] = bytes_of(texts[i]);
}

/* A row each turn, of more than can be counted. */
static void set_endless(void)
{
    set_keys(1);
    fake.scan_rows_per_view = 1;
    fake.scan_is_endless = true;
}

static struct answer *get(const char *target)
{
    return request("GET", target, "", NULL);
}

Test(http_scan, a_page_lists_its_rows_and_where_the_next_one_goes_on)
{
    set_keys(3);
    struct answer *answer = get("/v1/kv?limit=2");
    cr_assert_eq(answer->status, 200);
    cr_assert_str_eq(body_of(answer),
                     "{\"items\":["
                     "{\"key\":\"a\",\"value\":\"a\",\"encoding\":\"utf-8\",\"revision\":100,"
                     "\"version\":1},"
                     "{\"key\":\"b\",\"value\":\"b\",\"encoding\":\"utf-8\",\"revision\":101,"
                     "\"version\":2}],\"next\":\"b\",\"count\":2}");
    cr_assert_str_eq(header(answer, "Trilith-Revision"), "9");
    cr_assert_str_eq(header(answer, "Content-Type"), "application/json");
    answer = get("/v1/kv?limit=2&after=b");
    cr_assert_str_eq(body_of(answer),
                     "{\"items\":["
                     "{\"key\":\"c\",\"value\":\"c\",\"encoding\":\"utf-8\",\"revision\":102,"
                     "\"version\":3}],\"next\":null,\"count\":1}");
}

Test(http_scan, without_rows_it_is_an_empty_page)
{
    cr_assert_str_eq(body_of(get("/v1/kv")), "{\"items\":[],\"next\":null,\"count\":0}");
}

Test(http_scan, what_is_no_text_is_told_in_base64)
{
    fake.scan_keys_count = 2;
    fake.scan_keys[0] = bytes_of("\xff");
    fake.scan_keys[1] = bytes_of("\xfe");
    cr_assert_str_eq(body_of(get("/v1/kv?limit=1")),
                     "{\"items\":[{\"key\":\"/w==\",\"key_encoding\":\"base64\",\"value\":\"/w==\","
                     "\"encoding\":\"base64\",\"revision\":100,\"version\":1}],"
                     "\"next\":\"/w==\",\"next_encoding\":\"base64\",\"count\":1}");
}

Test(http_scan, keys_only_leaves_values_out)
{
    set_keys(1);
    cr_assert_str_eq(body_of(get("/v1/kv?keys_only=1")),
                     "{\"items\":[{\"key\":\"a\",\"revision\":100,\"version\":1}],"
                     "\"next\":null,\"count\":1}");
    cr_assert(fake.seen_page.has_no_values);
}

Test(http_scan, parameters_reach_the_scan)
{
    (void)get("/v1/kv?prefix=a%2Fb&start=a+c&end=%ff&after=a%2Bd&limit=1000&reverse=true");
    const struct scan_page *page = &fake.seen_page;
    /* The ranges stood in the request's memory, which h2o keeps for the connection's next one. */
    cr_assert_eq(page->range.prefix.count, 3);
    cr_assert_eq(page->range.start.count, 3);
    cr_assert_eq(page->range.end.count, 1);
    cr_assert_eq(page->range.after.count, 3);
    cr_assert(page->range.is_reverse);
    cr_assert_eq(page->rows_max, 1000);
    cr_assert_eq(page->bytes_max, 1024 * 1024);
    cr_assert_not_null(page->is_time_up);
    cr_assert_not(page->has_no_values);
    (void)get("/v1/kv?reverse=0&keys_only=false");
    cr_assert_not(page->range.is_reverse);
    cr_assert_not(page->has_no_values);
    cr_assert_eq(page->rows_max, 100);
    (void)get("/v1/kv?reverse&keys_only=");
    cr_assert(page->range.is_reverse);
    cr_assert(page->has_no_values);
}

Test(http_scan, a_count_goes_on_over_as_many_turns_as_it_needs)
{
    set_keys(5);
    fake.scan_rows_per_view = 2;
    struct answer *answer = get("/v1/kv?count_only=1&start=a");
    cr_assert_str_eq(body_of(answer), "{\"items\":[],\"next\":null,\"count\":5}");
    cr_assert_eq(fake.scans_count, 3);
    cr_assert_null(fake.seen_page.on_row);
}

Test(http_scan, a_count_of_everything_is_known)
{
    set_keys(5);
    fake.group.state.rows_count = 123456;
    cr_assert_str_eq(body_of(get("/v1/kv?count_only=1")),
                     "{\"items\":[],\"next\":null,\"count\":123456}");
    cr_assert_eq(fake.scans_count, 0);
}

Test(http_scan, a_count_that_takes_too_long_says_where_it_stopped)
{
    set_endless();
    struct answer *answer = get("/v1/kv?count_only=1&prefix=a");
    cr_assert_eq(answer->status, 200);
    cr_assert_not_null(strstr(body_of(answer), "\"items\":[],\"next\":\"a\",\"count\":"));
    cr_assert_gt(fake.scans_count, 10);
}

Test(http_scan, a_client_that_goes_ends_its_count)
{
    set_endless();
    static const char head[] = "GET /v1/kv?count_only=1&prefix=a HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = client_connect();
    client_send(fd, head, sizeof head - 1);
    while (fake.scans_count < 3) server_turn();
    close(fd);
    /* The kernel says so after a while where the machine is busy; the timeout ends it at last. */
    uint32_t scans_count;
    int rounds_count = 0;
    do {
        scans_count = fake.scans_count;
        for (int i = 0; i < 100; i++) server_turn();
        (void)usleep(1000);
    } while (fake.scans_count != scans_count && ++rounds_count < 2000);
    cr_assert_eq(fake.scans_count, scans_count);
}

Test(http_scan, counts_take_turns)
{
    set_endless();
    static const char head[] = "GET /v1/kv?count_only=1&prefix=a HTTP/1.1\r\nHost: x\r\n\r\n";
    int fds[3];
    for (size_t i = 0; i < TL_COUNT_OF(fds); i++) {
        fds[i] = client_connect();
        client_send(fds[i], head, sizeof head - 1);
    }
    for (size_t i = 0; i < TL_COUNT_OF(fds); i++) {
        cr_assert_eq(client_receive(fds[i], true)->status, 200);
        close(fds[i]);
    }
}

Test(http_scan, it_reads_at_the_consistency_asked_for)
{
    struct answer *answer = get("/v1/kv?consistency=local");
    cr_assert_eq(fake.seen_read.consistency, NODE_LOCAL);
    cr_assert_str_eq(header(answer, "Trilith-Applied"), "77");
    cr_assert_str_eq(header(answer, "Trilith-Age-Ms"), "5");
    answer = request("GET", "/v1/kv?count_only=1",
                     "Trilith-Token: 55\r\nTrilith-Consistency: causal\r\n", NULL);
    cr_assert_eq(fake.seen_read.consistency, NODE_CAUSAL);
    cr_assert_eq(fake.seen_read.token_us, 55);
    cr_assert_null(header(answer, "Trilith-Applied"));
    fake.read_err = TL_ERR_NO_LEADER;
    cr_assert_eq(get("/v1/kv")->status, 503);
    cr_assert_eq(get("/v1/kv?count_only=1")->status, 503);
    fake.read_refusal = TL_ERR_FULL;
    cr_assert_eq(get("/v1/kv")->status, 429);
}

Test(http_scan, what_is_asked_wrongly_is_refused)
{
    static const char *const bad[] = {
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1&limit=2",
        "size=1",
        "reverse=yes",
        "keys_only=2",
        "count_only=x",
        "prefix=%zz",
        "consistency=strong",
        "count_only=1&limit=5",
    };
    for (size_t i = 0; i < TL_COUNT_OF(bad); i++) {
        char target[128];
        (void)snprintf(target, sizeof target, "/v1/kv?%s", bad[i]);
        cr_assert_eq(get(target)->status, 400, "%s", bad[i]);
    }
    char target[600] = "/v1/kv?after=";
    memset(target + 13, 'k', KEY_BYTES_MAX + 1);
    cr_assert_eq(get(target)->status, 414);
    target[13 + KEY_BYTES_MAX] = 0;
    cr_assert_eq(get(target)->status, 200);
}

Test(http_scan, only_get)
{
    struct answer *answer = request("POST", "/v1/kv", "", "x");
    cr_assert_eq(answer->status, 405);
    cr_assert_str_eq(header(answer, "Allow"), "GET");
    cr_assert_eq(get("/v1/kv/")->status, 400, "an empty key is none");
}
