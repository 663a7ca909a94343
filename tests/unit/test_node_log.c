/* node: looks at the log. */

#include <criterion/criterion.h>
#include <stdio.h>

#include "node_cluster.h"

TestSuite(node_log, .timeout = 60);

/* A query and what became of it. */
struct look {
    struct node_log_query query;
    uint32_t calls_count;
    enum tl_err err;
    raft_index first_index; /* of the entries */
    raft_index last_index;
    bool is_chain; /* each entry's hash is right behind the one before */
};

static void on_look(struct node_log_query *query, enum tl_err err)
{
    struct look *look = query->context;
    look->calls_count++;
    look->err = err;
    if (err != TL_OK || query->kind != NODE_LOG_ENTRIES || query->entries_count == 0) return;
    look->first_index = entry_index(query->entries[0]);
    look->last_index = entry_index(query->entries[query->entries_count - 1]);
    look->is_chain = true;
    struct hash128 hash = query->previous_hash;
    for (uint32_t i = 0; i < query->entries_count; i++) {
        if (!entry_hash_is_right(buf_bytes(query->entries[i]), hash)) look->is_chain = false;
        if (entry_index(query->entries[i]) != look->first_index + i) look->is_chain = false;
        hash = entry_hash(query->entries[i]);
    }
}

static bool look_is_over(void *context)
{
    const struct look *look = context;
    return look->calls_count > 0;
}

static enum tl_err look_start(struct look *look, struct site *site, enum node_log_query_kind kind,
                              raft_index from, uint32_t limit)
{
    *look = (struct look){.query = {.group = NODE_DATA_GROUP,
                                    .kind = kind,
                                    .from = from,
                                    .limit = limit,
                                    .timeout_ns = 5 * CLUSTER_S,
                                    .on_done = on_look,
                                    .context = look}};
    return node_log_query(site->node, &look->query);
}

static void look_at(struct look *look, struct site *site, enum node_log_query_kind kind,
                    raft_index from, uint32_t limit)
{
    cr_assert_eq(look_start(look, site, kind, from, limit), TL_OK);
    cr_assert(cluster_run(site->cluster, 10 * CLUSTER_S, look_is_over, look));
    cr_assert_eq(look->calls_count, 1);
}

static void put_many(struct site *site, uint32_t count, uint32_t value_bytes)
{
    static struct effort efforts[1024];
    static char value[65536];
    memset(value, 'v', value_bytes);
    value[value_bytes] = '\0';
    for (uint32_t done = 0; done < count;) {
        uint32_t part = TL_MIN(count - done, TL_COUNT_OF(efforts));
        for (uint32_t i = 0; i < part; i++) {
            char key[16];
            snprintf(key, sizeof key, "k%05u", done + i);
            struct buf *entry = effort_entry(key, value, false, 0, 0);
            cr_assert_eq(effort_start(&efforts[i], site, entry, 30 * CLUSTER_S), TL_OK);
        }
        for (uint32_t i = 0; i < part; i++) {
            cr_assert(cluster_run(site->cluster, 30 * CLUSTER_S, effort_is_over, &efforts[i]));
            cr_assert_eq(efforts[i].err, TL_OK);
        }
        done += part;
    }
}

static raft_index last_durable(struct site *site)
{
    struct node_group_status status;
    site_status(site, &status);
    return status.raft.durable;
}

Test(node_log, entries_in_memory_need_no_read)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 20, 10);
    site->holds_reads = true;
    raft_index last = last_durable(site);
    struct look look;
    look_at(&look, site, NODE_LOG_ENTRIES, 0, 5);
    cr_assert_eq(look.err, TL_OK);
    cr_assert_eq(look.query.entries_count, 5, "the newest");
    cr_assert_eq(look.last_index, last);
    cr_assert(look.is_chain);
    cr_assert_eq(look.query.last, last);
    cr_assert_eq(look.query.commit, last);
    look_at(&look, site, NODE_LOG_ENTRIES, 1, NODE_LOG_QUERY_ENTRIES_MAX);
    cr_assert_eq(look.first_index, 1);
    cr_assert_eq(look.last_index, last);
    cr_assert(look.is_chain, "the first stands behind zeros");
    cluster_destroy(cluster);
}

Test(node_log, nothing_is_above_the_last_entry)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    struct look look;
    look_at(&look, site, NODE_LOG_ENTRIES, last_durable(site) + 1, 5);
    cr_assert_eq(look.err, TL_OK);
    cr_assert_eq(look.query.entries_count, 0);
    cluster_destroy(cluster);
}

Test(node_log, entries_not_in_memory_are_read_with_the_hash_before_them)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 50, 10);
    cluster_pass(cluster, 6 * CLUSTER_S); /* flushed: a restart has the tail alone in memory */
    site_kill(site);
    site_start(site);
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, cluster_is_ready, cluster));
    struct look look;
    look_at(&look, site, NODE_LOG_ENTRIES, 10, 7);
    cr_assert_eq(look.err, TL_OK);
    cr_assert_eq(look.query.entries_count, 7);
    cr_assert_eq(look.first_index, 10);
    cr_assert(look.is_chain);
    look_at(&look, site, NODE_LOG_ENTRIES, 1, 3);
    cr_assert_eq(look.first_index, 1);
    cr_assert(look.is_chain);
    cluster_destroy(cluster);
}

/* A log that has lost its beginning to retention. */
static struct cluster *compacted_cluster(void)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    site->options.log_retain_bytes = 64 * 1024;
    site->options.generation_rows_max = 100;
    cluster_form(cluster);
    put_many(site, 2000, 400);
    put_many(site, 2000, 400);
    struct node_group_status status;
    site_status(site, &status);
    cr_assert_gt(status.raft.first, 100);
    return cluster;
}

Test(node_log, below_the_first_kept_entry_it_is_compacted_and_says_where_it_begins)
{
    struct cluster *cluster = compacted_cluster();
    struct site *site = &cluster->sites[0];
    struct look look;
    look_at(&look, site, NODE_LOG_ENTRIES, 5, 5);
    cr_assert_eq(look.err, TL_ERR_COMPACTED);
    raft_index first = look.query.first;
    cr_assert_gt(first, 100);
    look_at(&look, site, NODE_LOG_ENTRIES, first, 5);
    cr_assert_eq(look.err, TL_OK);
    cr_assert_eq(look.first_index, first);
    cr_assert(look.is_chain, "the first kept one stands behind the base");
    look_at(&look, site, NODE_LOG_ENTRIES, 0, NODE_LOG_QUERY_ENTRIES_MAX);
    cr_assert_eq(look.err, TL_OK, "the newest are never compacted");
    cluster_destroy(cluster);
}

Test(node_log, a_check_goes_over_everything_kept)
{
    struct cluster *cluster = compacted_cluster();
    struct site *site = &cluster->sites[0];
    struct look look;
    look_at(&look, site, NODE_LOG_VERIFY, 0, 0);
    cr_assert_eq(look.err, TL_OK);
    struct node_group_status status;
    site_status(site, &status);
    cr_assert_eq(look.query.first, status.raft.first);
    cr_assert_eq(look.query.last, status.raft.durable);
    cr_assert(hash_equal(look.query.last_hash, status.state.chain_hash));
    cluster_destroy(cluster);
}

Test(node_log, a_check_ends_while_the_log_goes_on)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    site->options.log_retain_bytes = 64 * 1024;
    site->options.generation_rows_max = 100;
    cluster_form(cluster);
    put_many(site, 5000, 100);
    struct look look;
    cr_assert_eq(look_start(&look, site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    site->holds_reads = true;
    put_many(site, 3000, 400); /* its beginning is deleted meanwhile */
    site->holds_reads = false;
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, look_is_over, &look));
    cr_assert_eq(look.err, TL_OK);
    struct node_group_status status;
    site_status(site, &status);
    cr_assert_eq(look.query.first, status.raft.first);
    cluster_destroy(cluster);
}

Test(node_log, checks_of_many_clients_share_the_reader_and_end)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 6000, 10);
    static struct look looks[NODE_LOG_QUERIES_MAX];
    for (uint32_t i = 0; i < NODE_LOG_QUERIES_MAX; i++) {
        cr_assert_eq(look_start(&looks[i], site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    }
    struct look one_more;
    cr_assert_eq(look_start(&one_more, site, NODE_LOG_ENTRIES, 1, 1), TL_ERR_FULL);
    cluster_step(cluster);
    cr_assert_leq(site->reads_count, 1, "one slice at a time");
    for (uint32_t i = 0; i < NODE_LOG_QUERIES_MAX; i++) {
        cr_assert(cluster_run(cluster, 10 * CLUSTER_S, look_is_over, &looks[i]));
        cr_assert_eq(looks[i].err, TL_OK);
    }
    look_at(&one_more, site, NODE_LOG_ENTRIES, 1, 1);
    cr_assert_eq(one_more.err, TL_OK);
    cluster_destroy(cluster);
}

Test(node_log, a_cancelled_query_is_not_told_and_holds_nobody_up)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    site->holds_reads = true;
    struct look gone;
    struct look queued;
    struct look next;
    cr_assert_eq(look_start(&gone, site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    cr_assert_eq(look_start(&queued, site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    cr_assert_eq(look_start(&next, site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    cluster_step(cluster);
    cr_assert_eq(site->reads_count, 1);
    node_log_query_cancel(site->node, &gone.query);
    node_log_query_cancel(site->node, &queued.query);
    node_log_query_cancel(site->node, &queued.query);
    site->holds_reads = false;
    cr_assert(cluster_run(cluster, 5 * CLUSTER_S, look_is_over, &next));
    cr_assert_eq(next.err, TL_OK);
    cr_assert_eq(gone.calls_count, 0);
    cr_assert_eq(queued.calls_count, 0);
    cluster_destroy(cluster);
}

Test(node_log, entries_not_yet_committed_are_told_apart)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    raft_index before = last_durable(site);
    cluster_isolate(cluster, leader);
    struct effort effort;
    struct buf *entry = effort_entry("alone", "1", false, 0, 0);
    cr_assert_eq(effort_start(&effort, site, entry, 10 * CLUSTER_S), TL_OK);
    cluster_pass(cluster, 10 * CLUSTER_MS);
    struct look look;
    look_at(&look, site, NODE_LOG_ENTRIES, 0, 1);
    cr_assert_eq(look.first_index, before + 1);
    cr_assert_eq(look.query.commit, before);
    cluster_destroy(cluster);
}

Test(node_log, damage_is_named_to_the_client_and_then_ends_the_node)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    site->read_err = TL_ERR_CORRUPT;
    struct look look;
    look_at(&look, site, NODE_LOG_VERIFY, 0, 0);
    cr_assert_eq(look.err, TL_ERR_CORRUPT);
    cr_assert_str_eq(look.query.fault.reason, "planted");
    cr_assert_eq(site->failures_count, 0);
    cluster_pass(cluster, 2 * NODE_DAMAGE_GRACE_NS);
    cr_assert_eq(site->failures_count, 1);
    cr_assert_eq(site->exit_code, 4);
    cr_assert_str_eq(site->fault.reason, "planted");
    cluster_destroy(cluster);
}

Test(node_log, damage_that_a_cancelled_query_finds_ends_the_node_too)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    site->holds_reads = true;
    struct look look;
    cr_assert_eq(look_start(&look, site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    cluster_pass(cluster, 10 * CLUSTER_MS);
    node_log_query_cancel(site->node, &look.query);
    site->read_err = TL_ERR_CORRUPT;
    site->holds_reads = false;
    cluster_pass(cluster, 2 * NODE_DAMAGE_GRACE_NS);
    cr_assert_eq(site->failures_count, 1);
    cr_assert_eq(site->exit_code, 4);
    cluster_destroy(cluster);
}

Test(node_log, the_whole_log_is_checked_after_a_start)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 3000, 10);
    cluster_pass(cluster, 6 * CLUSTER_S);
    raft_index last = last_durable(site);
    site_kill(site);
    site_start(site);
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_geq(node_get_metrics(site->node)->log_entries_verified_count, last);
    site_kill(site);
    site_start(site);
    site->read_err = TL_ERR_CORRUPT;
    cluster_pass(cluster, CLUSTER_S);
    cr_assert_eq(site->exit_code, 4);
    cluster_destroy(cluster);
}

Test(node_log, nobody_waits_for_a_reader_that_hangs)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 50, 10);
    cluster_pass(cluster, 6 * CLUSTER_S); /* flushed: a restart has the tail alone in memory */
    site_kill(site);
    site_start(site);
    cluster_pass(cluster, CLUSTER_S);
    site->holds_reads = true;
    struct look looks[3];
    cr_assert_eq(look_start(&looks[0], site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    cr_assert_eq(look_start(&looks[1], site, NODE_LOG_ENTRIES, 10, 7), TL_OK);
    cr_assert_eq(look_start(&looks[2], site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    uint64_t began_ns = cluster->now_ns;
    for (uint32_t i = 0; i < TL_COUNT_OF(looks); i++) {
        cr_assert(cluster_run(cluster, 10 * CLUSTER_S, look_is_over, &looks[i]), "look %u", i);
        cr_assert_eq(looks[i].err, TL_ERR_TIMEOUT);
    }
    cr_assert_eq(cluster->now_ns - began_ns, 5 * CLUSTER_S);
    site->holds_reads = false; /* what it was at comes late */
    struct look look;
    look_at(&look, site, NODE_LOG_ENTRIES, 10, 7);
    cr_assert_eq(look.err, TL_OK);
    cluster_destroy(cluster);
}

Test(node_log, a_check_has_as_long_as_the_log_is_while_it_goes_on)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 6000, 10);
    struct look look;
    cr_assert_eq(look_start(&look, site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    uint64_t began_ns = cluster->now_ns;
    while (look.calls_count == 0) {
        site->holds_reads = true;
        cluster_pass(cluster, 4 * CLUSTER_S); /* a slice */
        site->holds_reads = false;
        (void)cluster_step(cluster);
    }
    cr_assert_eq(look.err, TL_OK, "%s", tl_err_text(look.err));
    cr_assert_gt(cluster->now_ns - began_ns, 5 * CLUSTER_S, "the test is none");
    cluster_destroy(cluster);
}

Test(node_log, a_replay_goes_first_and_it_is_said_so)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    cluster_form(cluster);
    put_many(site, 6000, 10);
    site_kill(site);
    site->holds_reads = true;
    site_start(site);
    cluster_pass(cluster, CLUSTER_S);
    struct node_status status;
    node_get_status(site->node, &status);
    cr_assert_eq(status.stage, NODE_STAGE_REPLAY);
    struct look look;
    cr_assert_eq(look_start(&look, site, NODE_LOG_ENTRIES, 0, 1), TL_ERR_STARTING);
    cr_assert_eq(look_start(&look, site, NODE_LOG_VERIFY, 0, 0), TL_ERR_STARTING);
    site->holds_reads = false;
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, cluster_is_ready, cluster));
    look_at(&look, site, NODE_LOG_ENTRIES, 0, 1);
    cr_assert_eq(look.err, TL_OK);
    cluster_destroy(cluster);
}

Test(node_log, a_node_that_stops_says_so)
{
    struct cluster *cluster = cluster_create(1);
    struct site *site = &cluster->sites[0];
    struct look look;
    site_start(site);
    cr_assert_eq(look_start(&look, site, NODE_LOG_VERIFY, 0, 0), TL_ERR_STARTING);
    site_kill(site);
    cluster_form(cluster);
    look.query.group = 9;
    cr_assert_eq(node_log_query(site->node, &look.query), TL_ERR_NOT_FOUND);
    site->holds_reads = true;
    cr_assert_eq(look_start(&look, site, NODE_LOG_VERIFY, 0, 0), TL_OK);
    cluster_step(cluster);
    node_drain(site->node);
    cluster_step(cluster);
    cr_assert_eq(look.calls_count, 1);
    cr_assert_eq(look.err, TL_ERR_STOPPING);
    cr_assert_eq(look_start(&look, site, NODE_LOG_VERIFY, 0, 0), TL_ERR_STOPPING);
    cluster_destroy(cluster);
}

/* ---- memory ---- */

static void on_look_that_spoils(struct node_log_query *query, enum tl_err err)
{
    struct look *look = query->context;
    look->calls_count++;
    cr_assert_eq(err, TL_OK);
    for (uint32_t i = 0; i < query->entries_count; i++) {
        struct buf *entry = query->entries[i];
        if (entry->count > ENTRY_HEADER_BYTES) entry->data[entry->count - 1] ^= 1;
    }
}

static bool has_failed(void *context)
{
    return ((const struct site *)context)->failures_count > 0;
}

/* It is the leader's memory that is damaged, and a follower that notices by the chain: the leader
 * looks at its disk before the follower takes its own log for the wrong one. */
Test(node_log, leader_whose_memory_is_not_its_disk_ends_and_no_follower_does)
{
    struct cluster *cluster = cluster_create(CLUSTER_NODES);
    uint32_t leader = cluster_form(cluster);
    struct site *site = &cluster->sites[leader];
    struct site *lagging = &cluster->sites[(leader + 1) % CLUSTER_NODES];
    cluster_isolate(cluster, lagging->place);
    put_many(site, 3, 10);
    struct look look;
    cr_assert_eq(look_start(&look, site, NODE_LOG_ENTRIES, 0, 2), TL_OK);
    look.query.on_done = on_look_that_spoils;
    cr_assert(cluster_run(cluster, CLUSTER_S, look_is_over, &look));
    cluster_heal(cluster);
    cr_assert(cluster_run(cluster, 10 * CLUSTER_S, has_failed, site));
    cr_assert_eq(site->exit_code, 4);
    cr_assert_not_null(strstr(site->fault.reason, "memory"));
    cr_assert_eq(lagging->failures_count, 0);
    cluster_destroy(cluster);
}
