/* metrics.c - GET /metrics: Prometheus text exposition 0.0.4.
 *
 * Histograms are thinned to powers of two: four buckets to a power are worth their bytes in
 * memory, not in every scrape. The CPU time of loop turns has all four: its bound lies between two.
 */

#include "http_internal.h"

#include "trilith/log.h"

#define METRICS_BYTES 65536u
#define LE_BUCKET_FIRST 15u /* <= 31 us */
#define LE_BUCKET_LAST 99u  /* <= 67 s */
#define LABELS_BYTES_MAX 64u
_Static_assert(LE_BUCKET_LAST < HISTOGRAM_BUCKETS_COUNT, "a bucket of the histogram");
_Static_assert(LE_BUCKET_FIRST % 4 == 3 && LE_BUCKET_LAST % 4 == 3, "last quarters of a power");

static void add_head(struct text *text, const char *name, const char *type, const char *help)
{
    text_printf(text, "# HELP trilith_%s %s\n# TYPE trilith_%s %s\n", name, help, name, type);
}

static void add_line(struct text *text, const char *name, const char *labels, uint64_t value)
{
    text_add_string(text, "trilith_");
    text_add_string(text, name);
    if (labels[0] != '\0') {
        text_add_string(text, "{");
        text_add_string(text, labels);
        text_add_string(text, "}");
    }
    text_add_string(text, " ");
    text_add_u64(text, value);
    text_add_string(text, "\n");
}

static void add_counter(struct text *text, const char *name, const char *help, uint64_t value)
{
    add_head(text, name, "counter", help);
    add_line(text, name, "", value);
}

static void add_gauge(struct text *text, const char *name, const char *help, uint64_t value)
{
    add_head(text, name, "gauge", help);
    add_line(text, name, "", value);
}

/* Values are whole microseconds (or counts, with scale 1). labels: "" or pairs with a comma behind.
 */
static void add_buckets_of(struct text *text, const char *name, const char *labels,
                           const struct histogram *histogram, double scale, bool is_fine)
{
    uint64_t count = 0;
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS_COUNT; bucket++) {
        count += histogram->counts[bucket];
        if ((bucket % 4 != 3 && !is_fine) || bucket < LE_BUCKET_FIRST || bucket > LE_BUCKET_LAST) {
            continue;
        }
        text_printf(text, "trilith_%s_bucket{%sle=\"%.9g\"} %llu\n", name, labels,
                    (double)histogram_bound_us(bucket) * scale, (unsigned long long)count);
    }
    text_printf(text, "trilith_%s_bucket{%sle=\"+Inf\"} %llu\n", name, labels,
                (unsigned long long)histogram->count);
    char braces[LABELS_BYTES_MAX] = "";
    size_t labels_bytes = strlen(labels);
    if (labels_bytes > 0) {
        (void)text_format(braces, sizeof braces, "{%.*s}", (int)labels_bytes - 1, labels);
    }
    text_printf(text, "trilith_%s_sum%s %.9g\ntrilith_%s_count%s %llu\n", name, braces,
                (double)histogram->sum_us * scale, name, braces,
                (unsigned long long)histogram->count);
}

static void add_buckets(struct text *text, const char *name, const char *labels,
                        const struct histogram *histogram, double scale)
{
    add_buckets_of(text, name, labels, histogram, scale, false);
}

static void add_seconds(struct text *text, const char *name, const char *help,
                        const struct histogram *histogram)
{
    add_head(text, name, "histogram", help);
    add_buckets(text, name, "", histogram, 1e-6);
}

static void add_quantiles(struct text *text, const char *name, const char *labels,
                          const struct histogram *histogram)
{
    static const struct {
        uint32_t permille;
        const char *label;
    } quantiles[] = {{500, "0.5"}, {990, "0.99"}, {999, "0.999"}};
    for (size_t i = 0; i < TL_COUNT_OF(quantiles); i++) {
        text_printf(text, "trilith_%s{%squantile=\"%s\"} %.9g\n", name, labels, quantiles[i].label,
                    (double)histogram_quantile_us(histogram, quantiles[i].permille) * 1e-6);
    }
}

static void add_disk(struct text *text, const struct node_metrics *metrics,
                     const struct histogram *write_us, const struct node_status *node)
{
    add_head(text, "log_commit_seconds", "histogram",
             "Synced commits of the log, by whether a table flush ran beside them.");
    add_buckets(text, "log_commit_seconds", "flush=\"0\",", &metrics->log_commit_idle_us, 1e-6);
    add_buckets(text, "log_commit_seconds", "flush=\"1\",", &metrics->log_commit_flush_us, 1e-6);
    add_head(text, "log_commit_quantile_seconds", "gauge",
             "Quantiles of log_commit_seconds since start, finer than its buckets.");
    add_quantiles(text, "log_commit_quantile_seconds", "flush=\"0\",",
                  &metrics->log_commit_idle_us);
    add_quantiles(text, "log_commit_quantile_seconds", "flush=\"1\",",
                  &metrics->log_commit_flush_us);
    add_seconds(text, "log_write_seconds", "Log commits alone, without waiting for the writer.",
                write_us);
    add_head(text, "log_batch_entries", "histogram", "Entries of a log commit.");
    add_buckets(text, "log_batch_entries", "", &metrics->log_batch_entries, 1);
    add_seconds(text, "flush_seconds", "Table flushes.", &metrics->flush_us);
    add_counter(text, "flushes_total", "Generations flushed to the table.", metrics->flushes_count);
    add_counter(text, "log_queries_total", "Looks of clients at the log.",
                metrics->log_queries_count);
    add_counter(text, "log_entries_verified_total", "Log records read back and checked.",
                metrics->log_entries_verified_count);
    add_gauge(text, "log_commit_age_ms", "Age of the oldest unfinished log commit.",
              node->log_commit_age_ms);
    add_gauge(text, "log_commit_slow", "Whether that is older than half a second.",
              node->is_log_commit_slow ? 1 : 0);
    add_counter(text, "log_commits_slow_total", "Log commits older than half a second.",
                metrics->log_commits_slow_count);
    add_head(text, "member_log_commit_age_ms", "gauge",
             "Age of the oldest unfinished log commit of a member, as last told.");
    for (uint32_t i = 0; i < node->members_count; i++) {
        char labels[LABELS_BYTES_MAX];
        char id[HASH_TEXT_BYTES];
        store_id_format(&node->members[i].store_id, id);
        (void)text_format(labels, sizeof labels, "store=\"%s\"", id);
        add_line(text, "member_log_commit_age_ms", labels, node->member_log_commit_age_ms[i]);
    }
}

static void add_member_values(struct text *text, const char *name, const char *help,
                              const struct node_status *node, const uint64_t *values)
{
    add_head(text, name, "gauge", help);
    for (uint32_t i = 0; i < node->members_count; i++) {
        if (values[i] == UINT64_MAX) continue; /* not known */
        char labels[LABELS_BYTES_MAX];
        char id[HASH_TEXT_BYTES];
        store_id_format(&node->members[i].store_id, id);
        (void)text_format(labels, sizeof labels, "store=\"%s\"", id);
        add_line(text, name, labels, values[i]);
    }
}

static void add_space(struct text *text, const struct node_metrics *metrics,
                      const struct node_status *node)
{
    add_gauge(text, "log_used_bytes", "Bytes of log records kept.", node->log_used_bytes);
    add_gauge(text, "log_limit_bytes", "The most that the log may hold.", node->log_limit_bytes);
    add_gauge(text, "map_limit_bytes", "The most that a table may hold (--map-size).",
              node->map_limit_bytes);
    add_gauge(text, "free_bytes", "Free space of the data directory's file system.",
              node->free_bytes);
    add_gauge(text, "has_room", "Whether this node would take new data as a leader.",
              node->space_lack == TL_OK ? 1 : 0);
    add_member_values(text, "member_free_bytes",
                      "Free space of a member's file system, as last told.", node,
                      node->member_free_bytes);
    add_member_values(text, "member_map_free_bytes",
                      "Bytes until a member's table or log has reached its limit, as last told.",
                      node, node->member_map_free_bytes);
    add_counter(text, "writes_without_space_total",
                "Writes refused by this leader for want of space.",
                metrics->writes_without_space_count);
}

static void add_writes(struct text *text, const struct node_metrics *metrics)
{
    add_seconds(text, "write_seconds", "Writes that succeeded, from the request to its result.",
                &metrics->write_us);
    add_head(text, "writes_total", "counter", "Writes by outcome.");
    add_line(text, "writes_total", "outcome=\"ok\"", metrics->writes_ok_count);
    add_line(text, "writes_total", "outcome=\"refused\"", metrics->writes_refused_count);
    add_line(text, "writes_total", "outcome=\"failed\"", metrics->writes_failed_count);
    add_line(text, "writes_total", "outcome=\"unknown\"", metrics->writes_unknown_count);
    add_counter(text, "writes_forwarded_total", "Writes sent on to the leader.",
                metrics->writes_forwarded_count);
    add_counter(text, "replays_total", "Idempotent repeats answered from the record.",
                metrics->replays_count);
}

static void add_reads(struct text *text, const struct node_metrics *metrics)
{
    add_seconds(text, "read_seconds", "Reads until this replica could serve them.",
                &metrics->read_us);
    add_head(text, "reads_total", "counter", "Reads served from this replica, by consistency.");
    add_line(text, "reads_total", "consistency=\"linearizable\"",
             metrics->reads_linearizable_count);
    add_line(text, "reads_total", "consistency=\"causal\"", metrics->reads_causal_count);
    add_line(text, "reads_total", "consistency=\"local\"", metrics->reads_local_count);
    add_counter(text, "reads_failed_total", "Reads that could not be served.",
                metrics->reads_failed_count);
}

static void add_node(struct text *text, const struct http_server *server,
                     const struct node_metrics *metrics, const struct node_status *node)
{
    add_seconds(text, "turn_seconds", "Turns of the node.", &metrics->turn_us);
    add_counter(text, "entries_applied_total", "Log entries applied.",
                metrics->entries_applied_count);
    add_counter(text, "entries_appended_total", "Log entries appended.",
                metrics->entries_appended_count);
    add_counter(text, "bytes_appended_total", "Bytes appended to the log.",
                metrics->bytes_appended_count);
    add_counter(text, "frames_sent_total", "Frames sent to peers.", metrics->frames_sent_count);
    add_counter(text, "frames_received_total", "Frames of peers.", metrics->frames_received_count);
    add_counter(text, "frames_invalid_total", "Frames of peers that did not decode.",
                metrics->frames_invalid_count);
    add_counter(text, "raft_messages_ignored_total",
                "Messages of a peer that has an old copy of its disk, or has not said yet what it "
                "found there.",
                metrics->messages_ignored_count);
    add_gauge(text, "ready", "Has a leader and has caught up with it.",
              node_is_ready(server->node) ? 1 : 0);
    int64_t can_lose;
    if (cluster_can_lose(server, node, &can_lose)) {
        add_head(text, "can_lose", "gauge",
                 "Voters that may fail before writes stop, as this node sees it; negative: so many "
                 "are missing.");
        text_add_string(text, "trilith_can_lose ");
        text_add_i64(text, can_lose);
        text_add_string(text, "\n");
    }
    add_gauge(text, "requests_waiting", "Requests the node is at work on.",
              node->requests_waiting_count);
    add_gauge(text, "request_bytes_waiting", "Bytes of those.", node->request_bytes_waiting);
    add_gauge(text, "members", "Members of the placement, leaving ones too.", node->members_count);
    add_gauge(text, "members_removed", "Removed stores that are remembered.", node->removed_count);
    add_gauge(text, "placement_epoch", "Changes of the placement so far.", node->placement_epoch);
    add_counter(text, "confs_proposed_total", "Configurations proposed by this node as a leader.",
                metrics->confs_proposed_count);
}

static void add_snapshots(struct text *text, const struct http_server *server,
                          const struct node_metrics *metrics)
{
    struct node_transfer_status transfers[NODE_TRANSFERS_MAX];
    add_gauge(text, "snapshot_transfers", "Snapshots on their way from or to this node.",
              node_get_transfers(server->node, transfers));
    add_counter(text, "snapshots_sent_total", "Snapshots sent and installed by the peer.",
                metrics->snapshots_sent_count);
    add_counter(text, "snapshots_installed_total", "Snapshots installed here.",
                metrics->snapshots_installed_count);
    add_counter(text, "snapshots_failed_total", "Transfers given up, at either end.",
                metrics->snapshots_failed_count);
    add_counter(text, "snapshot_resumes_total", "Transfers that went on after a lost connection.",
                metrics->snapshot_resumes_count);
    add_counter(text, "snapshot_bytes_sent_total", "Bytes of chunks sent.",
                metrics->snapshot_bytes_sent_count);
    add_counter(text, "snapshot_bytes_received_total", "Bytes of chunks received.",
                metrics->snapshot_bytes_received_count);
}

/* Of each group. */
static const struct {
    const char *name;
    const char *type;
    const char *help;
} group_metrics[] = {
    {"raft_term", "gauge", "Term."},
    {"raft_role", "gauge", "0 follower, 1 precandidate, 2 candidate, 3 leader."},
    {"raft_has_quorum", "gauge", "Has heard from a leader, as leader from a quorum."},
    {"raft_last_index", "gauge", "Last log index."},
    {"raft_durable_index", "gauge", "Last index on this disk."},
    {"raft_commit_index", "gauge", "Commit index."},
    {"raft_applied_index", "gauge", "Applied index."},
    {"raft_flushed_index", "gauge", "Index of the table."},
    {"revision", "gauge", "Revision."},
    {"keys", "gauge", "Keys."},
    {"map_used_bytes", "gauge", "Bytes of the table's pages in use."},
    {"generation_bytes", "gauge", "Bytes of the active generation."},
    {"raft_elections_started_total", "counter", "Elections begun by this node."},
    {"raft_elections_won_total", "counter", "Elections won by this node."},
    {"raft_leader_changes_total", "counter", "New leaders seen."},
    {"raft_messages_dropped_total", "counter", "Messages of strangers or of other groups."},
    {"raft_read_rounds_total", "counter", "Quorum rounds for reads begun by this leader."},
    {"raft_chain_mismatches_total", "counter", "Appends that did not fit the hash chain."},
    {"raft_leader_transfers_total", "counter", "Transfers of leadership begun by this leader."},
    {"raft_disk_stalls_total", "counter", "Of these, because its disk hung."},
    {"raft_voters", "gauge", "Voters of the newest configuration."},
    {"raft_learners", "gauge", "Its learners."},
    {"raft_outgoing", "gauge", "Voters of the configuration that is being left; 0: none is."},
    {"diverged", "gauge", "1: this state is not that of most replicas; nothing is served."},
    {"digest_differing_members", "gauge", "Members whose state is not this replica's."},
};

static void get_group_values(const struct http_server *server, const struct node_status *node,
                             raft_group group, uint64_t out_values[TL_COUNT_OF(group_metrics)])
{
    struct node_group_status status;
    (void)describe_group(server, node, group, &status); /* it exists: group < count */
    const struct raft_status *raft = &status.raft;
    const uint64_t row[] = {
        raft->term,
        raft->role,
        raft->has_quorum,
        raft->last,
        raft->durable,
        raft->commit,
        raft->applied,
        status.flushed,
        status.state.revision,
        status.state.rows_count,
        status.map_used_bytes,
        status.generation_bytes,
        raft->elections_started_count,
        raft->elections_won_count,
        raft->leader_changes_count,
        raft->messages_dropped_count,
        raft->read_rounds_count,
        raft->chain_mismatches_count,
        raft->transfers_count,
        raft->disk_stalls_count,
        raft->conf.voters_count,
        raft->conf.learners_count,
        raft->conf.outgoing_count,
        status.digests == NODE_DIGESTS_DIVERGED,
        status.differing_count,
    };
    _Static_assert(TL_COUNT_OF(row) == TL_COUNT_OF(group_metrics), "a value for every metric");
    memcpy(out_values, row, sizeof row);
}

static void add_groups(struct text *text, const struct http_server *server,
                       const struct node_status *node)
{
    uint64_t values[NODE_GROUPS_MAX][TL_COUNT_OF(group_metrics)];
    for (raft_group group = 0; group < node->groups_count; group++) {
        get_group_values(server, node, group, values[group]);
    }
    for (size_t i = 0; i < TL_COUNT_OF(group_metrics); i++) {
        add_head(text, group_metrics[i].name, group_metrics[i].type, group_metrics[i].help);
        for (raft_group group = 0; group < node->groups_count; group++) {
            char labels[LABELS_BYTES_MAX];
            (void)text_format(labels, sizeof labels, "group=\"%u\"", (unsigned)group);
            add_line(text, group_metrics[i].name, labels, values[group][i]);
        }
    }
}

static void add_transport(struct text *text, const struct pump_metrics *metrics)
{
    add_counter(text, "peer_connections_accepted_total", "Connections of peers.",
                metrics->connections_accepted_count);
    add_head(text, "peer_connections_refused_total", "counter", "Connections refused, by reason.");
    uint64_t named_count = metrics->garbage_count + metrics->foreign_cluster_count;
    uint64_t refused_count = metrics->connections_refused_count;
    add_line(text, "peer_connections_refused_total", "reason=\"garbage\"", metrics->garbage_count);
    add_line(text, "peer_connections_refused_total", "reason=\"foreign_cluster\"",
             metrics->foreign_cluster_count);
    add_line(text, "peer_connections_refused_total", "reason=\"other\"",
             refused_count > named_count ? refused_count - named_count : 0);
    add_counter(text, "peer_connects_total", "Connections to peers.", metrics->connects_count);
    add_counter(text, "peer_connect_failures_total", "Connections to peers that failed.",
                metrics->connect_failures_count);
    add_counter(text, "peer_frames_dropped_total", "Frames dropped: queue full, not connected.",
                metrics->frames_dropped_count);
    add_counter(text, "peer_bytes_sent_total", "Bytes sent to peers.", metrics->bytes_sent_count);
    add_counter(text, "peer_bytes_received_total", "Bytes of peers.",
                metrics->bytes_received_count);
    add_seconds(text, "loop_lag_seconds", "Turns of the loop, without waiting.",
                &metrics->loop_lag_us);
    add_head(text, "loop_turn_cpu_seconds", "histogram",
             "CPU time of the loop's thread in each of its turns.");
    add_buckets_of(text, "loop_turn_cpu_seconds", "", &metrics->loop_cpu_us, 1e-6, true);
    add_gauge(text, "log_queue_depth", "Batches that wait for the log writer.",
              metrics->log_queue_depth);
}

static void add_requests(struct text *text, const struct http_counters *counters)
{
    static const char *const families[] = {
        [FAMILY_SCAN] = "scan",       [FAMILY_TXN] = "txn",       [FAMILY_KV] = "kv",
        [FAMILY_KEYS] = "keys",       [FAMILY_STATUS] = "status", [FAMILY_CLUSTER] = "cluster",
        [FAMILY_METRICS] = "metrics", [FAMILY_HEALTH] = "health", [FAMILY_LOG] = "log",
        [FAMILY_OTHER] = "other",
    };
    static const char *const methods[] = {
        [METHOD_GET] = "GET",   [METHOD_HEAD] = "HEAD",     [METHOD_PUT] = "PUT",
        [METHOD_POST] = "POST", [METHOD_DELETE] = "DELETE", [METHOD_OTHER] = "other",
    };
    _Static_assert(TL_COUNT_OF(families) == FAMILIES_COUNT, "a name for each");
    _Static_assert(TL_COUNT_OF(methods) == METHODS_COUNT, "a name for each");
    add_head(text, "http_requests_total", "counter", "Requests answered.");
    for (size_t family = 0; family < FAMILIES_COUNT; family++) {
        for (size_t method = 0; method < METHODS_COUNT; method++) {
            for (size_t i = 0; i < STATUSES_COUNT; i++) {
                uint64_t count = counters->requests[family][method][i];
                if (count == 0) continue;
                char labels[LABELS_BYTES_MAX];
                (void)text_format(labels, sizeof labels,
                                  "family=\"%s\",method=\"%s\",status=\"%zu\"", families[family],
                                  methods[method], i + STATUS_MIN);
                add_line(text, "http_requests_total", labels, count);
            }
        }
    }
}

static void add_http(struct text *text, const struct http_server *server)
{
    const struct http_counters *counters = &server->counters;
    const h2o_context_t *context = &server->context;
    add_requests(text, counters);
    add_counter(text, "http_bad_requests_total", "Requests refused by the HTTP/1 parser.",
                counters->unreadable_count + context->emitted_error_status[H2O_STATUS_ERROR_400] +
                    context->emitted_error_status[H2O_STATUS_ERROR_417]);
    add_counter(text, "http_bodies_too_large_total", "Bodies cut off by the HTTP/1 parser.",
                context->emitted_error_status[H2O_STATUS_ERROR_413]);
    uint64_t streams_refused_count = 0;
    for (size_t i = 0; i < H2O_HTTP2_ERROR_MAX; i++) {
        streams_refused_count += context->http2.events.protocol_level_errors[i];
    }
    add_counter(text, "http2_streams_refused_total", "Requests refused by the HTTP/2 parser.",
                streams_refused_count);
    add_counter(text, "http_abandoned_total", "Clients that went before their answer.",
                counters->abandoned_count);
    add_counter(text, "http_connections_accepted_total", "Connections accepted.",
                counters->connections_accepted_count);
    add_counter(text, "http_accept_failures_total", "Connections that could not be accepted.",
                counters->accept_failures_count);
    add_counter(text, "http_connections_refused_total", "Connections over the limit.",
                counters->connections_refused_count);
    add_counter(text, "http_connections_without_request_total",
                "Connections that ended without a request: silent, too slow, not HTTP.",
                counters->requestless_count);
    add_gauge(text, "http_connections", "Connections open.", server->connections_count);
    add_gauge(text, "http_waiting", "Requests that wait for the node.",
              server->exchanges_waiting_count);
}

static void add_scans(struct text *text, const struct http_counters *counters)
{
    add_counter(text, "scan_rows_total", "Rows given out in pages.", counters->scan_rows_count);
    add_counter(text, "scan_pages_cut_total", "Pages that ended for want of time.",
                counters->scan_pages_cut_count);
    add_counter(text, "scan_count_slices_total", "Turns of counts that another turn followed.",
                counters->scan_slices_count);
}

static void add_process(struct text *text, const struct http_server *server)
{
    size_t resident_bytes = 0;
    (void)uv_resident_set_memory(&resident_bytes); /* 0 where /proc is not mounted */
    add_gauge(text, "resident_memory_bytes", "Resident memory.", resident_bytes);
    add_gauge(text, "uptime_seconds", "Since this server opened.",
              (http_now_ns() - server->opened_ns) / 1000000000u);
    add_head(text, "build_info", "gauge", "Version.");
    add_line(text, "build_info", "version=\"" PACKAGE_VERSION "\"", 1);
}

void metrics_serve(struct exchange *exchange)
{
    if (!exchange_take_get(exchange, NULL, 0)) return;
    struct http_server *server = exchange->server;
    const struct node_metrics *metrics = node_get_metrics(server->node);
    struct node_status node;
    node_get_status(server->node, &node);
    struct text text = text_make(&exchange->req->pool, METRICS_BYTES);
    add_writes(&text, metrics);
    add_reads(&text, metrics);
    add_disk(&text, metrics, &pump_get_metrics(server->pump)->log_commit_us, &node);
    add_space(&text, metrics, &node);
    add_node(&text, server, metrics, &node);
    add_snapshots(&text, server, metrics);
    add_groups(&text, server, &node);
    add_transport(&text, pump_get_metrics(server->pump));
    add_http(&text, server);
    add_scans(&text, &server->counters);
    add_process(&text, server);
    respond(exchange, 200, bytes_of("text/plain; version=0.0.4; charset=utf-8"), text_bytes(&text));
}
