/* raft: whole conversations, as text.
 *
 * A scenario is a file in tests/unit/scenarios. Lines that begin with ">" are commands; what the
 * cores do in answer is written below each; "#" begins a comment. A test runs the commands and
 * compares the file with what it would look like. `make scenario-rewrite` writes that instead: the
 * diff is then to be read, line by line, by whoever commits it.
 *
 *     cache BYTES                     of entries that a core keeps in memory, when it starts
 *     window COUNT                    of appends that a peer may leave unanswered, when it starts
 *     nodes V [learners L] [spares S] [seed S]   voters 1 ... V, then learners, then nodes that
 *                                     wait to be added; ends the cluster before
 *     fill N T T ...                  entries 1, 2, ... on N's disk with these terms
 *     term N T                        its durable term
 *     conf N V L                      the configuration that N knows: V voters, then L learners
 *     mutation N M                    plants a bug
 *     start [N]                       N, or all
 *     crash N · restart N             what is not written is lost
 *     timeout N                       N's clock goes on until it campaigns
 *     advance N MS                    N's clock
 *     run MS [quiet]                  all clocks, with everything delivered
 *     deliver A B [COUNT]             messages from A to B; 0 is any
 *     drop A B
 *     cut A B · isolate N · heal      what is sent from A to B is lost from now on
 *     write N [COUNT]                 N's disk finishes ops
 *     beats A B COUNT                 A's clock by heartbeats; of what it sends only the first
 *                                     message reaches B, whose answer it gets
 *     settle [quiet]                  delivers and writes until nothing is left
 *     propose N TEXT · read N
 *     change N V V ... [learners L L ...] [epoch E]   N proposes this configuration
 *     transfer N TARGET               0: to the best
 *     disk N MS · told N PEER MS   N's oldest log commit began so long ago; PEER told N its age
 *     install A B · sent A B I · failed A B   B installs what A would cut now; A hears of it
 *     lost N PEER                     N hears that PEER's process is gone
 *     compact N INDEX
 *     status [N] · log N · progress N · reads N · confs
 */

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "raft_cluster.h"

#define WORDS_MAX 20u

struct scenario {
    struct cluster *cluster;
    FILE *out;
};

static uint64_t number(const char *word)
{
    cr_assert_not_null(word, "a number is missing");
    char *end;
    uint64_t value = strtoull(word, &end, 10);
    cr_assert(*word != '\0' && *end == '\0', "not a number: '%s'", word);
    return value;
}

static void print_status(struct scenario *s, raft_id id)
{
    static const char *const roles[] = {"follower", "precandidate", "candidate", "leader"};
    if (cluster_at(s->cluster, id)->raft == NULL) {
        (void)fprintf(s->out, "  %" PRIu64 " down\n", id);
        return;
    }
    struct raft_status status = cluster_status(s->cluster, id);
    (void)fprintf(s->out,
                  "  %" PRIu64 " %s term %" PRIu64 " vote %" PRIu64 " leader %" PRIu64
                  " last %" PRIu64 " durable %" PRIu64 " commit %" PRIu64 " applied %" PRIu64 "\n",
                  id, roles[status.role], status.term, status.vote, status.leader, status.last,
                  status.durable, status.commit, status.applied);
}

static void print_progress(struct scenario *s, raft_id id)
{
    static const char *const states[] = {"probe", "replicate", "needs snapshot"};
    struct raft_status status = cluster_status(s->cluster, id);
    for (uint32_t i = 0; i < status.peers_count; i++) {
        const struct raft_peer_status *peer = &status.peers[i];
        (void)fprintf(s->out, "  %" PRIu64 " %s match %" PRIu64 " next %" PRIu64 "%s\n", peer->id,
                      states[peer->state], peer->match, peer->next,
                      peer->is_recently_active ? "" : " silent");
    }
}

static void print_reads(struct scenario *s, raft_id id)
{
    const struct raft_output *output = &cluster_at(s->cluster, id)->output;
    (void)fprintf(s->out, "  %" PRIu64 " rounds ready %" PRIu64 " read index %" PRIu64 "\n", id,
                  output->reads_ready_round, output->read_index);
}

/* Commands that build or break nodes. */
static bool run_building(struct scenario *s, char **words, uint32_t count)
{
    const char *verb = words[0];
    if (strcmp(verb, "nodes") == 0) {
        if (s->cluster != NULL) cluster_destroy(s->cluster);
        uint32_t learners = 0;
        uint32_t spares = 0;
        uint64_t seed = 1;
        for (uint32_t i = 2; i + 1 < count; i += 2) {
            if (strcmp(words[i], "learners") == 0) learners = (uint32_t)number(words[i + 1]);
            if (strcmp(words[i], "spares") == 0) spares = (uint32_t)number(words[i + 1]);
            if (strcmp(words[i], "seed") == 0) seed = number(words[i + 1]);
        }
        s->cluster = cluster_create((uint32_t)number(words[1]), learners);
        cluster_add_spares(s->cluster, spares);
        s->cluster->seed = seed;
        s->cluster->trace = s->out;
    } else if (strcmp(verb, "fill") == 0) {
        raft_term terms[WORDS_MAX];
        for (uint32_t i = 2; i < count; i++) terms[i - 2] = number(words[i]);
        cluster_fill(s->cluster, number(words[1]), terms, count - 2, 0);
    } else if (strcmp(verb, "cache") == 0) {
        s->cluster->cache_bytes_max = number(words[1]);
    } else if (strcmp(verb, "window") == 0) {
        s->cluster->inflight_messages_max = (uint32_t)number(words[1]);
    } else if (strcmp(verb, "term") == 0) {
        cluster_at(s->cluster, number(words[1]))->hard_state.term = number(words[2]);
    } else if (strcmp(verb, "conf") == 0) {
        cluster_at(s->cluster, number(words[1]))->conf =
            cluster_conf((uint32_t)number(words[2]), (uint32_t)number(words[3]));
    } else if (strcmp(verb, "mutation") == 0) {
        cluster_at(s->cluster, number(words[1]))->mutation = (uint32_t)number(words[2]);
    } else if (strcmp(verb, "start") == 0 && count == 1) {
        cluster_start_all(s->cluster);
    } else if (strcmp(verb, "start") == 0) {
        cluster_start(s->cluster, number(words[1]));
    } else if (strcmp(verb, "crash") == 0 || strcmp(verb, "restart") == 0) {
        cluster_crash(s->cluster, number(words[1]));
        if (verb[0] == 'r') cluster_start(s->cluster, number(words[1]));
    } else if (strcmp(verb, "compact") == 0) {
        cluster_compact(s->cluster, number(words[1]), number(words[2]));
    } else {
        return false;
    }
    return true;
}

/* The first message of a turn is the heartbeat. */
static void beats(struct cluster *c, raft_id from, raft_id to, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        cluster_advance(c, from, CLUSTER_BEAT_NS);
        for (raft_id id = 1; id <= c->nodes_count; id++) {
            if (to == 0 || to == id) (void)cluster_deliver(c, from, id, 1);
        }
        (void)cluster_drop(c, from, 0);
        (void)cluster_deliver(c, to, from, UINT32_MAX);
    }
}

/* Commands that move messages, writes and clocks on. */
static bool run_moving(struct scenario *s, char **words, uint32_t count)
{
    struct cluster *c = s->cluster;
    const char *verb = words[0];
    if (strcmp(verb, "timeout") == 0) {
        cluster_timeout(c, number(words[1]));
    } else if (strcmp(verb, "advance") == 0) {
        cluster_advance(c, number(words[1]), number(words[2]) * MS);
    } else if (strcmp(verb, "run") == 0) {
        c->trace = count > 2 ? NULL : s->out;
        cluster_run(c, number(words[1]) * MS);
        c->trace = s->out;
    } else if (strcmp(verb, "beats") == 0) {
        beats(c, number(words[1]), number(words[2]), number(words[3]));
    } else if (strcmp(verb, "deliver") == 0) {
        uint32_t count_max = count > 3 ? (uint32_t)number(words[3]) : UINT32_MAX;
        (void)cluster_deliver(c, number(words[1]), number(words[2]), count_max);
    } else if (strcmp(verb, "drop") == 0) {
        uint32_t dropped_count = cluster_drop(c, number(words[1]), number(words[2]));
        (void)fprintf(s->out, "  dropped %u\n", dropped_count);
    } else if (strcmp(verb, "cut") == 0) {
        c->is_cut[number(words[1])][number(words[2])] = true;
    } else if (strcmp(verb, "isolate") == 0) {
        cluster_isolate(c, number(words[1]), true);
    } else if (strcmp(verb, "heal") == 0) {
        memset(c->is_cut, 0, sizeof c->is_cut);
    } else if (strcmp(verb, "disk") == 0) {
        struct cluster_node *node = cluster_at(c, number(words[1]));
        raft_set_disk_began(node->raft, node->now_ns - number(words[2]) * MS);
        cluster_advance(c, node->id, 0);
    } else if (strcmp(verb, "told") == 0) {
        raft_set_peer_disk_age(cluster_at(c, number(words[1]))->raft, number(words[2]),
                               number(words[3]) * MS);
    } else if (strcmp(verb, "sent") == 0) {
        raft_snapshot_sent(cluster_at(c, number(words[1]))->raft, number(words[2]),
                           number(words[3]));
        cluster_turn(c, number(words[1]));
    } else if (strcmp(verb, "failed") == 0) {
        raft_snapshot_failed(cluster_at(c, number(words[1]))->raft, number(words[2]));
        cluster_turn(c, number(words[1]));
    } else if (strcmp(verb, "write") == 0) {
        uint32_t count_max = count > 2 ? (uint32_t)number(words[2]) : UINT32_MAX;
        (void)cluster_write(c, number(words[1]), count_max);
    } else if (strcmp(verb, "settle") == 0) {
        c->trace = count > 1 ? NULL : s->out;
        cluster_settle(c);
        c->trace = s->out;
    } else {
        return false;
    }
    return true;
}

static void propose_conf(struct scenario *s, char **words, uint32_t count)
{
    struct raft_conf target = {.epoch = 0};
    raft_id *ids = target.voters;
    uint32_t *ids_count = &target.voters_count;
    for (uint32_t i = 2; i < count; i++) {
        if (strcmp(words[i], "learners") == 0) {
            ids = target.learners;
            ids_count = &target.learners_count;
        } else if (strcmp(words[i], "epoch") == 0) {
            target.epoch = number(words[++i]);
        } else {
            ids[(*ids_count)++] = number(words[i]);
        }
    }
    enum tl_err err = cluster_propose_conf(s->cluster, number(words[1]), &target);
    if (err != TL_OK) (void)fprintf(s->out, "  %s\n", tl_err_name(err));
}

static void print_confs(struct scenario *s)
{
    for (raft_id id = 1; id <= s->cluster->nodes_count; id++) {
        if (cluster_at(s->cluster, id)->raft == NULL) {
            continue;
        }
        char text[256];
        struct raft_status status = cluster_status(s->cluster, id);
        cluster_conf_text(&status.conf, text, sizeof text);
        (void)fprintf(s->out, "  %" PRIu64 " %s%s\n", id, text[0] != '\0' ? text : "none",
                      status.is_conf_committed ? "" : ", not committed");
    }
}

/* Commands that ask the cores. */
static bool run_asking(struct scenario *s, char **words, uint32_t count)
{
    struct cluster *c = s->cluster;
    const char *verb = words[0];
    if (strcmp(verb, "propose") == 0) {
        enum tl_err err = cluster_propose(c, number(words[1]), words[2]);
        if (err != TL_OK) (void)fprintf(s->out, "  %s\n", tl_err_name(err));
    } else if (strcmp(verb, "read") == 0) {
        uint64_t round = cluster_read(c, number(words[1]));
        (void)fprintf(s->out, "  round %" PRIu64 "\n", round);
    } else if (strcmp(verb, "change") == 0) {
        propose_conf(s, words, count);
    } else if (strcmp(verb, "confs") == 0) {
        print_confs(s);
    } else if (strcmp(verb, "transfer") == 0) {
        enum tl_err err = cluster_transfer(c, number(words[1]), number(words[2]));
        if (err != TL_OK) (void)fprintf(s->out, "  %s\n", tl_err_name(err));
    } else if (strcmp(verb, "install") == 0) {
        enum tl_err err = cluster_install(c, number(words[1]), number(words[2]));
        if (err != TL_OK) (void)fprintf(s->out, "  %s\n", tl_err_name(err));
    } else if (strcmp(verb, "reads") == 0) {
        print_reads(s, number(words[1]));
    } else if (strcmp(verb, "lost") == 0) {
        raft_peer_lost(cluster_at(c, number(words[1]))->raft, number(words[2]));
        cluster_turn(c, number(words[1]));
    } else if (strcmp(verb, "status") == 0) {
        for (raft_id id = 1; id <= c->nodes_count; id++) {
            if (count == 1 || number(words[1]) == id) print_status(s, id);
        }
    } else if (strcmp(verb, "log") == 0) {
        char text[512];
        cluster_log_text(c, number(words[1]), text, sizeof text);
        (void)fprintf(s->out, "  %s\n", text);
    } else if (strcmp(verb, "progress") == 0) {
        print_progress(s, number(words[1]));
    } else {
        return false;
    }
    return true;
}

static void run_command(struct scenario *s, const char *line)
{
    char copy[512];
    cr_assert_lt(strlen(line), sizeof copy);
    (void)strncpy(copy, line, sizeof copy - 1);
    copy[sizeof copy - 1] = '\0';
    char *words[WORDS_MAX + 1] = {NULL};
    uint32_t count = 0;
    for (char *at = copy + 1; *at != '\0' && count < WORDS_MAX;) {
        at += strspn(at, " \n");
        if (*at == '\0') break;
        words[count++] = at;
        at += strcspn(at, " \n");
        if (*at != '\0') *at++ = '\0';
    }
    cr_assert_gt(count, 0, "an empty command");
    bool is_known =
        run_building(s, words, count) || run_moving(s, words, count) || run_asking(s, words, count);
    cr_assert(is_known, "unknown command: %s", line);
}

/* Runs the commands of `in`; returns the text that the file should be. Freed by the caller. */
static char *run_file(FILE *in)
{
    char *text = NULL;
    size_t text_bytes = 0;
    struct scenario s = {.out = open_memstream(&text, &text_bytes)};
    TL_ASSERT(s.out != NULL);
    char line[512];
    while (fgets(line, sizeof line, in) != NULL) {
        if (line[0] == '>' || line[0] == '#' || line[0] == '\n') {
            (void)fputs(line, s.out);
        }
        if (line[0] == '>') {
            run_command(&s, line);
        }
    }
    cluster_destroy(s.cluster);
    TL_ASSERT(fclose(s.out) == 0);
    return text;
}

static char *read_all(FILE *in)
{
    char *text = NULL;
    size_t text_bytes = 0;
    FILE *out = open_memstream(&text, &text_bytes);
    TL_ASSERT(out != NULL);
    char line[512];
    while (fgets(line, sizeof line, in) != NULL) (void)fputs(line, out);
    TL_ASSERT(fclose(out) == 0);
    return text;
}

static void check_scenario(const char *name)
{
    const char *source_dir = getenv("srcdir");
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/tests/unit/scenarios/%s.txt",
                   source_dir != NULL ? source_dir : TL_SOURCE_DIR, name);
    FILE *in = fopen(path, "r");
    cr_assert_not_null(in, "cannot open %s", path);
    char *text = run_file(in);
    rewind(in);
    char *expected = read_all(in);
    (void)fclose(in);
    if (getenv("SCENARIO_REWRITE") != NULL) {
        FILE *out = fopen(path, "w");
        cr_assert_not_null(out, "cannot write %s", path);
        (void)fputs(text, out);
        cr_assert_eq(fclose(out), 0);
    } else if (strcmp(text, expected) != 0) {
        size_t line = 1;
        size_t at = 0;
        for (; text[at] == expected[at]; at++) line += text[at] == '\n';
        cr_assert_fail("%s differs at line %zu; `make scenario-rewrite` and read the diff", path,
                       line);
    }
    free(text);
    free(expected);
}

#define SCENARIO(name)         \
    Test(raft_scenario, name)  \
    {                          \
        check_scenario(#name); \
    }

TestSuite(raft_scenario, .timeout = 20);

SCENARIO(async_storage_writes)
SCENARIO(async_storage_writes_append_aba_race)
SCENARIO(campaign)
SCENARIO(campaign_learner_must_vote)
SCENARIO(checkquorum)
SCENARIO(conf_add_voters)
SCENARIO(conf_leader_in_leaving_half)
SCENARIO(conf_new_leader_leaves)
SCENARIO(conf_new_leader_pending)
SCENARIO(conf_old_leader_leaves)
SCENARIO(conf_refusals)
SCENARIO(conf_remove_leader)
SCENARIO(conf_remove_leader_alone)
SCENARIO(conf_remove_self_of_three)
SCENARIO(conf_replace_leader)
SCENARIO(conf_replace_leader_stepdown)
SCENARIO(conf_restart)
SCENARIO(conf_rollback)
SCENARIO(conf_rollback_initial)
SCENARIO(conf_rollback_joint)
SCENARIO(conf_rollback_previous)
SCENARIO(conf_rollback_snapshot)
SCENARIO(disk_stall)
SCENARIO(disk_stall_silent)
SCENARIO(forget_leader)
SCENARIO(heartbeat_resp_recovers_from_probing)
SCENARIO(lagging_commit)
SCENARIO(prevote)
SCENARIO(prevote_checkquorum)
SCENARIO(probe_and_replicate)
SCENARIO(read_index)
SCENARIO(replicate_pause)
SCENARIO(single_node)
SCENARIO(slow_follower_after_compaction)
SCENARIO(snapshot_conf)
SCENARIO(snapshot_during_write)
SCENARIO(snapshot_joint)
SCENARIO(snapshot_restore)
SCENARIO(snapshot_sent)
SCENARIO(snapshot_succeed_via_app_resp)
SCENARIO(snapshot_succeed_via_app_resp_behind)
SCENARIO(snapshot_suffix)
SCENARIO(snapshot_while_installing)
SCENARIO(transfer)
SCENARIO(transfer_after_snapshot)
SCENARIO(transfer_again)
SCENARIO(transfer_back)
SCENARIO(transfer_higher_term)
SCENARIO(transfer_late)
SCENARIO(transfer_refused)
SCENARIO(transfer_replaced)
SCENARIO(transfer_timeout)
