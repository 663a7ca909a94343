/* node_birth.c - from an empty data directory to a member.
 *
 *   asks every address of its view, or the node it is to join through, again and again
 *     | one has a placement that       | all say: no cluster, same view; ids differ
 *     v lists this store               v (looked at by the first address of the view only)
 *   write its genesis durably <- make a genesis
 *     v  node_birth_written
 *   member: cores exist, peers are connected, the view is never looked at again
 *
 * Who asks to be taken in belongs to a cluster for good. So each address is first asked with a
 * cluster id that is none, which no member takes for a store without a cluster: its answer says
 * only which cluster it is of. When all have answered, or have had their time, and name one cluster
 * and no second, that one is asked to take this store in. A view that names two is an error that
 * only its operator can mend.
 *
 * A member that is asked by a store it does not know has it added to the placement, and answers
 * with that once it is: joining is being asked about until one is in. The same question finds lost
 * members again: one that has no leader asks the others, and hears of the newest placement, or that
 * it was removed.
 *
 * A cluster is formed only when every address of the view has just said that it has none: a member
 * that is merely unreachable may have data. Two nodes cannot form different clusters from one view,
 * as only its first address forms one, and only once: its own genesis is durable before it offers
 * it, and a genesis lists everyone by store id.
 */

#include "node_internal.h"

#include <stdlib.h>

#define BIRTH_WAIT_NS 3000000000ull

/* All bits set: no cluster has it. */
static const struct store_id probe_id = {.bytes = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                                   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

static struct hash128 hash_view(const struct node *node)
{
    struct bytes parts[RAFT_MEMBERS_MAX];
    for (uint32_t i = 0; i < node->options.view_count; i++) {
        const char *address = node->view[i].member.address;
        parts[i] = bytes_make(address, strlen(address) + 1); /* the NUL divides */
    }
    return hash_parts(parts, node->options.view_count);
}

static const char *judge_view(struct node *node)
{
    const struct node_options *options = &node->options;
    if (options->view_count > RAFT_MEMBERS_MAX) return "the view has too many addresses";
    if (node->is_joining &&
        strcmp(node->view[options->view_count].member.address, options->address) == 0) {
        return "a node cannot join through itself";
    }
    uint32_t selves_count = 0;
    size_t text_bytes = 0;
    for (uint32_t i = 0; i < options->view_count; i++) {
        const struct member *member = &node->view[i].member;
        text_bytes += strlen(member->address) + strlen(member->peer_address);
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(node->view[k].member.address, member->address) == 0) {
                return "an address is twice in the view";
            }
        }
        node->view[i].is_self = strcmp(member->address, options->address) == 0;
        if (node->view[i].is_self) selves_count++;
    }
    if (selves_count != 1) return "the view does not hold this node's address";
    /* A genesis travels in every flush's group state. */
    size_t genesis_bytes_max = text_bytes + 64 + (size_t)options->view_count * 64;
    if (genesis_bytes_max > GROUP_STATE_CONF_BYTES_MAX) return "the view's addresses are too long";
    return NULL;
}

enum tl_err node_birth_init(struct node *node, const char *refusal, struct tl_fault *out_fault)
{
    const char *reason = refusal != NULL ? refusal : judge_view(node);
    if (reason != NULL) {
        tl_fault_set(out_fault, data_dir_path(node->data_dir), UINT32_MAX, 0, "%s", reason);
        return TL_ERR_INVALID;
    }
    node->view_hash = hash_view(node);
    return TL_OK;
}

/* ---- writing and taking a genesis ---- */

/* Entry 1 of every group in one commit: a node is a member of all of them or of none. */
static void write_genesis(struct node *node, const struct genesis *genesis)
{
    static const struct raft_hard_state hard_state = {.term = 1, .vote = 0, .commit = 1};
    TL_ASSERT(genesis->groups_count <= NODE_GROUPS_MAX);
    node->birth_genesis = *genesis;
    struct node_batch *batch = node_take_batch(node);
    batch->is_genesis = true;
    for (raft_group id = 0; id < genesis->groups_count; id++) {
        node->birth_entries[id] = genesis_entry(genesis, id);
        batch->log.ops[batch->log.ops_count++] = (struct log_op){
            .group = id,
            .entries = &node->birth_entries[id],
            .entries_count = 1,
            .hard_state = &hard_state,
        };
        batch->entries_count++;
    }
    node->is_birth_writing = true;
    node_issue_batch(node, batch);
}

static enum tl_err open_groups(struct node *node, struct tl_fault *out_fault)
{
    for (raft_group id = 0; id < node->birth_genesis.groups_count; id++) {
        struct log_group_info info = {
            .exists = true,
            .hard_state = {.term = 1, .vote = RAFT_ID_NONE, .commit = 1},
            .last_index = 1,
        };
        enum tl_err err = node_group_open(node, id, &info, &node->groups[id], out_fault);
        if (err != TL_OK) return err;
        buf_release(TL_TAKE(&node->birth_entries[id]));
    }
    return TL_OK;
}

void node_birth_written(struct node *node)
{
    TL_ASSERT(node->is_birth_writing);
    node->is_birth_writing = false;
    const struct genesis *genesis = &node->birth_genesis;
    node_member_begin(node, genesis);
    struct tl_fault fault;
    if (open_groups(node, &fault) != TL_OK) {
        node_fail(node, &fault);
        return;
    }
    node->groups_count = genesis->groups_count;
    char cluster_id[HASH_TEXT_BYTES];
    store_id_format(&genesis->cluster_id, cluster_id);
    node_log(node, LOG_LEVEL_INFO, "cluster_joined", "cluster=%s members=%u groups=%u", cluster_id,
             node->peers_count, genesis->groups_count);
}

static void draw_id(struct node *node, struct store_id *out_id)
{
    do {
        node->io.random(node->io.context, out_id->bytes, sizeof out_id->bytes);
    } while (store_id_is_zero(out_id));
}

static bool ids_differ(const struct node *node)
{
    for (uint32_t i = 0; i < node->options.view_count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (store_id_raft(&node->view[i].member.store_id) ==
                store_id_raft(&node->view[k].member.store_id)) {
                return false;
            }
        }
    }
    return true;
}

/* Forms the cluster when it is this node's to form and everyone has agreed. */
static void maybe_form(struct node *node)
{
    if (node->is_joining || !node->view[0].is_self || node->is_birth_writing) return;
    for (uint32_t i = 0; i < node->options.view_count; i++) {
        if (!node->view[i].is_self && node->view[i].answer != BIRTH_NO_CLUSTER) return;
    }
    if (!ids_differ(node)) return;
    struct genesis genesis = {
        /* Right or not: the leaders go on from it, towards the clocks (log_time.h). */
        .time_us = TL_MIN(node->io.clock_us(node->io.context), GENESIS_TIME_MAX_US),
        .groups_count = 1 + node->options.data_groups_count,
        .members_count = node->options.view_count,
    };
    draw_id(node, &genesis.cluster_id);
    for (uint32_t i = 0; i < node->options.view_count; i++) {
        genesis.members[i] = node->view[i].member;
    }
    write_genesis(node, &genesis);
}

static bool lists_this_store(const struct node *node, const struct placement *placement)
{
    const struct placement_member *found = placement_find(placement, node->self);
    return found != NULL && store_id_equal(&found->member.store_id, &node->store_id) &&
           strcmp(found->member.address, node->options.address) == 0;
}

/* The first address of the view that has a cluster, and the first that has another one; NULL: none
 * has. */
static void find_clusters(const struct node *node, const struct birth_address **out_one,
                          const struct birth_address **out_other)
{
    *out_one = NULL;
    *out_other = NULL;
    for (uint32_t i = 0; i < node->view_count && *out_other == NULL; i++) {
        const struct birth_address *address = &node->view[i];
        if (address->is_self || store_id_is_zero(&address->cluster_id)) continue;
        if (*out_one == NULL) {
            *out_one = address;
        } else if (!store_id_equal(&address->cluster_id, &(*out_one)->cluster_id)) {
            *out_other = address;
        }
    }
}

static bool has_two_clusters(const struct node *node)
{
    const struct birth_address *one;
    const struct birth_address *other;
    find_clusters(node, &one, &other);
    return other != NULL;
}

/* Becomes a member of the cluster whose placement lists this store; false: it does not. */
static bool take_placement(struct node *node, const struct birth_note *note)
{
    TL_ASSERT(node->groups_count == 0);
    if (node->is_birth_writing || node->is_draining || has_two_clusters(node)) {
        return true; /* not now */
    }
    struct placement *placement = malloc(sizeof *placement);
    TL_ASSERT(placement != NULL);
    bool is_taken = placement_decode(note->placement, placement) == TL_OK &&
                    placement->genesis.groups_count <= NODE_GROUPS_MAX &&
                    store_id_equal(&placement->genesis.cluster_id, &note->cluster_id) &&
                    lists_this_store(node, placement);
    if (is_taken) write_genesis(node, &placement->genesis);
    if (is_taken && placement->epoch > 0) {
        free(node->hint);
        node->hint = TL_TAKE(&placement);
    }
    free(placement);
    return is_taken;
}

/* ---- asking and answering ---- */

static void begin_note(const struct node *node, struct birth_note *out_note)
{
    *out_note = (struct birth_note){.store_id = node->store_id, .view_hash = node->view_hash};
    /* The options were checked against the data directory, whose identity has the same bound. */
    text_format(out_note->address, sizeof out_note->address, "%s", node->options.address);
    text_format(out_note->peer_address, sizeof out_note->peer_address, "%s",
                node->options.peer_address);
}

static struct buf *note_frame(const struct birth_note *note)
{
    struct buf *payload = birth_note_encode(note);
    struct buf *frame = frame_create(FRAME_BIRTH, buf_bytes(payload));
    buf_release(payload);
    return frame;
}

struct buf *node_birth_make_note(const struct node *node, enum birth_word word, bool has_placement)
{
    struct birth_note note;
    begin_note(node, &note);
    note.word = word;
    struct buf *placement = NULL;
    if (node->groups_count > 0) {
        note.cluster_id = node->placement->genesis.cluster_id;
        if (has_placement) {
            placement = placement_encode(node_member_newest(node));
            note.placement = buf_bytes(placement);
        }
    }
    struct buf *frame = note_frame(&note);
    buf_release(placement);
    return frame;
}

static struct buf *make_probe(const struct node *node)
{
    struct birth_note note;
    begin_note(node, &note);
    note.cluster_id = probe_id;
    return note_frame(&note);
}

/* Whether the one cluster that the view names may be asked to take this store in. */
static bool may_join(const struct node *node)
{
    for (uint32_t i = 0; i < node->view_count; i++) {
        const struct birth_address *address = &node->view[i];
        bool is_missing = !address->is_self && !address->has_answered;
        if (is_missing && node->now_ns < node->birth_wait_ns) return false;
    }
    return !has_two_clusters(node);
}

static void ask_all(struct node *node)
{
    bool is_joined = may_join(node);
    for (uint32_t i = 0; i < node->view_count; i++) {
        struct birth_address *address = &node->view[i];
        if (address->is_self) {
            address->member.store_id = node->store_id;
        } else if (!address->is_asked) {
            address->is_asked = true;
            address->is_probe = !is_joined || store_id_is_zero(&address->cluster_id);
            node->io.ask(node->io.context, address->member.peer_address,
                         address->is_probe ? make_probe(node)
                                           : node_birth_make_note(node, BIRTH_WORD_NONE, false));
        }
    }
}

static void report_waiting(struct node *node)
{
    char text[sizeof node->birth_reported];
    node_birth_waits_for(node, text, sizeof text);
    if (strcmp(text, node->birth_reported) == 0) return;
    memcpy(node->birth_reported, text, sizeof text);
    if (text[0] != '\0') node_log(node, LOG_LEVEL_INFO, "birth", "state=\"%s\"", text);
}

void node_birth_step(struct node *node)
{
    TL_ASSERT(node->groups_count == 0);
    if (node->is_draining || node->is_birth_writing) return;
    if (node->birth_wait_ns == 0) node->birth_wait_ns = node->now_ns + BIRTH_WAIT_NS;
    if (node->now_ns >= node->birth_ask_ns) {
        report_waiting(node);
        ask_all(node);
        node->birth_ask_ns = node->now_ns + NODE_BIRTH_ASK_INTERVAL_NS;
    }
    maybe_form(node);
}

uint64_t node_birth_deadline(const struct node *node)
{
    if (node->groups_count > 0 || node->is_draining || node->is_birth_writing) return NODE_NEVER;
    return node->birth_ask_ns;
}

/* What a member of a cluster says to the store that asks. */
static enum birth_word judge_asker(struct node *node, const struct birth_note *note)
{
    const struct placement *placement = node_member_newest(node);
    raft_id id = store_id_raft(&note->store_id);
    if (placement_has_removed(placement, id)) return BIRTH_WORD_REMOVED;
    const struct placement_member *member = placement_find(placement, id);
    bool has_cluster = !store_id_is_zero(&note->cluster_id);
    if (member != NULL) {
        if (!store_id_equal(&member->member.store_id, &note->store_id) ||
            strcmp(member->member.address, note->address) != 0) {
            return BIRTH_WORD_OTHER_ADDRESS;
        }
        bool is_late = member->role == MEMBER_LEAVING && !has_cluster;
        return is_late ? BIRTH_WORD_REMOVED : BIRTH_WORD_MEMBER;
    }
    if (has_cluster) return BIRTH_WORD_NONE; /* another's, or not known here yet */
    struct member newcomer = {.store_id = note->store_id};
    memcpy(newcomer.address, note->address, sizeof newcomer.address);
    memcpy(newcomer.peer_address, note->peer_address, sizeof newcomer.peer_address);
    return node_member_admit(node, &newcomer);
}

static bool is_of_this_cluster(const struct node *node, const struct birth_note *note)
{
    return store_id_equal(&note->cluster_id, &node->placement->genesis.cluster_id);
}

struct buf *node_on_birth(struct node *node, struct bytes payload)
{
    node_enter(node);
    struct birth_note note;
    if (node->is_failed || birth_note_decode(payload, &note) != TL_OK) return NULL;
    enum birth_word word = BIRTH_WORD_NONE;
    if (node->groups_count > 0) {
        if (is_of_this_cluster(node, &note)) (void)node_member_hear(node, note.placement);
        word = judge_asker(node, &note);
    } else if (note.placement.count > 0) {
        (void)take_placement(node, &note); /* not this store's: the answer says whose */
    }
    return node_birth_make_note(node, word, word == BIRTH_WORD_MEMBER);
}

static void judge_note(struct node *node, struct birth_address *address,
                       const struct birth_note *note)
{
    address->member.store_id = note->store_id;
    address->has_answered = true;
    address->cluster_id = note->cluster_id;
    bool has_cluster = !store_id_is_zero(&note->cluster_id);
    if (has_cluster && address->is_probe) {
        address->answer = BIRTH_FOUND;
    } else if (note->placement.count > 0) {
        if (!take_placement(node, note)) address->answer = BIRTH_BAD_GENESIS;
    } else if (has_cluster) {
        address->answer = note->word == BIRTH_WORD_NONE ? BIRTH_NOT_LISTED : BIRTH_TOLD;
        address->word = note->word;
    } else if (node->is_joining) {
        address->answer = BIRTH_NO_CLUSTER;
    } else if (!hash_equal(note->view_hash, node->view_hash)) {
        address->answer = BIRTH_OTHER_VIEW;
    } else if (strcmp(note->address, address->member.address) != 0) {
        address->answer = BIRTH_OTHER_ADDRESS;
    } else {
        address->answer = BIRTH_NO_CLUSTER;
    }
}

/* A member's answer to a member. */
static void hear_member(struct node *node, const struct birth_note *note)
{
    if (!is_of_this_cluster(node, note)) return;
    (void)node_member_hear(node, note->placement); /* empty, or not newer: nothing new */
    if (note->word == BIRTH_WORD_REMOVED || note->word == BIRTH_WORD_OTHER_ADDRESS) {
        node_member_expelled(node, node_birth_word_text(note->word));
    }
}

void node_on_birth_reply(struct node *node, const char *peer_address, const struct bytes *payload)
{
    node_enter(node);
    if (node->is_failed) return;
    struct birth_note note;
    bool is_note = payload != NULL && birth_note_decode(*payload, &note) == TL_OK;
    node_change_on_birth_reply(node, peer_address, is_note ? &note : NULL);
    if (node->groups_count > 0 && is_note) hear_member(node, &note);
    for (uint32_t i = 0; i < node->view_count; i++) {
        struct birth_address *address = &node->view[i];
        if (address->is_self || strcmp(address->member.peer_address, peer_address) != 0) continue;
        address->is_asked = false;
        if (node->groups_count > 0 || node->is_birth_writing) continue;
        address->answer = BIRTH_SILENT;
        if (is_note) judge_note(node, address, &note);
    }
}

/* ---- the sentence ---- */

const char *node_birth_word_text(enum birth_word word)
{
    switch (word) {
    case BIRTH_WORD_NONE:
    case BIRTH_WORD_MEMBER:
        break;
    case BIRTH_WORD_WAIT:
        return "is adding this store";
    case BIRTH_WORD_REMOVED:
        return "this store was removed from its cluster; empty the directory to join again";
    case BIRTH_WORD_OTHER_ADDRESS:
        return "its cluster knows this store by another address";
    case BIRTH_WORD_SEAT_LIVE:
        return "another store of its cluster has this address and is alive";
    case BIRTH_WORD_NO_LEADER:
        return "its cluster has no leader that could add this store";
    case BIRTH_WORD_TWO_VOTERS:
        return "its cluster has two voters, of which this address is one: the other alone cannot "
               "replace it";
    case BIRTH_WORD_FULL:
        return "its cluster has no room for another store";
    case BIRTH_WORD_OTHER_PORT:
        return "its cluster knows this address, or this peer address, together with another";
    }
    return "?";
}

static const char *answer_text(const struct birth_address *address)
{
    switch (address->answer) {
    case BIRTH_SILENT:
        return "no answer";
    case BIRTH_NO_CLUSTER:
        return "has no cluster";
    case BIRTH_OTHER_VIEW:
        return "another view";
    case BIRTH_OTHER_ADDRESS:
        return "calls itself by another address";
    case BIRTH_NOT_LISTED:
        return "its cluster does not know this store";
    case BIRTH_BAD_GENESIS:
        return "its cluster knows this store by another address";
    case BIRTH_TOLD:
        return node_birth_word_text(address->word);
    case BIRTH_FOUND:
        return "has a cluster";
    }
    return "?";
}

/* false: the view names one cluster at most. */
static bool describe_two_clusters(const struct node *node, char *out_text, size_t text_bytes)
{
    const struct birth_address *one;
    const struct birth_address *other;
    find_clusters(node, &one, &other);
    if (other == NULL) return false;
    char id[HASH_TEXT_BYTES];
    char other_id[HASH_TEXT_BYTES];
    store_id_format(&one->cluster_id, id);
    store_id_format(&other->cluster_id, other_id);
    (void)text_format(out_text, text_bytes,
                      "the view names nodes of two clusters, and none is joined: %s is of %s, %s "
                      "of %s",
                      one->member.address, id, other->member.address, other_id);
    return true;
}

void node_birth_waits_for(const struct node *node, char *out_text, size_t text_bytes)
{
    out_text[0] = '\0';
    if (node->groups_count > 0) return;
    if (node->is_birth_writing) {
        (void)text_format(out_text, text_bytes, "writing the cluster's first entry");
        return;
    }
    if (describe_two_clusters(node, out_text, text_bytes)) return;
    size_t at = 0;
    for (uint32_t i = 0; i < node->view_count; i++) {
        const struct birth_address *address = &node->view[i];
        bool is_right = address->answer == BIRTH_NO_CLUSTER && !node->is_joining;
        if (address->is_self || is_right) continue;
        at += text_format(out_text + at, text_bytes - at, "%s%s (%s)",
                          at == 0 ? "waiting for " : ", ", address->member.address,
                          answer_text(address));
    }
    if (at > 0) return;
    const char *first = node->view[0].member.address;
    if (!node->view[0].is_self) {
        (void)text_format(out_text, text_bytes, "waiting for %s to form the cluster", first);
    } else if (!ids_differ(node)) {
        (void)text_format(out_text, text_bytes, "two addresses of the view are one store");
    }
}
