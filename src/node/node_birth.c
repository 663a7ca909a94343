/* node_birth.c - from an empty data directory to a member.
 *
 *   asks every address of its view, again and again
 *     | one offers a genesis that      | all say: no cluster, same view; ids differ
 *     v lists this store               v (looked at by the first address of the view only)
 *   write it durably <---------- make a genesis
 *     v  node_birth_written
 *   member: cores exist, peers are connected, the view is never looked at again
 *
 * A cluster is formed only when every address of the view has just said that it has none: a member
 * that is merely unreachable may have data. Two nodes cannot form different clusters from one view,
 * as only its first address forms one, and only once: its own genesis is durable before it offers
 * it, and a genesis lists everyone by store id.
 */

#include "node_internal.h"

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

enum tl_err node_birth_init(struct node *node, struct tl_fault *out_fault)
{
    const char *reason = judge_view(node);
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
    node->genesis = *genesis;
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
    for (raft_group id = 0; id < node->genesis.groups_count; id++) {
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
    struct genesis genesis = node->genesis;
    node_become_member(node, &genesis, buf_copy(entry_payload(node->birth_entries[0])));
    struct tl_fault fault;
    if (open_groups(node, &fault) != TL_OK) {
        node_fail(node, &fault);
        return;
    }
    node->groups_count = genesis.groups_count;
    char cluster_id[HASH_TEXT_BYTES];
    store_id_format(&genesis.cluster_id, cluster_id);
    node_log(node, LOG_LEVEL_INFO, "cluster_joined", "cluster=%s members=%u groups=%u", cluster_id,
             genesis.members_count, genesis.groups_count);
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
    if (!node->view[0].is_self || node->is_birth_writing) return;
    for (uint32_t i = 0; i < node->options.view_count; i++) {
        if (!node->view[i].is_self && node->view[i].answer != BIRTH_NO_CLUSTER) return;
    }
    if (!ids_differ(node)) return;
    struct genesis genesis = {
        .time_us = node->io.clock_us(node->io.context),
        .groups_count = 1 + node->options.data_groups_count,
        .members_count = node->options.view_count,
    };
    draw_id(node, &genesis.cluster_id);
    for (uint32_t i = 0; i < node->options.view_count; i++) {
        genesis.members[i] = node->view[i].member;
    }
    write_genesis(node, &genesis);
}

static bool lists_this_store(const struct node *node, const struct genesis *genesis)
{
    for (uint32_t i = 0; i < genesis->members_count; i++) {
        const struct member *member = &genesis->members[i];
        if (!store_id_equal(&member->store_id, &node->store_id)) continue;
        return strcmp(member->address, node->options.address) == 0;
    }
    return false;
}

/* Takes an offered genesis; false: it is not this store's to take. */
static bool take_genesis(struct node *node, struct bytes payload)
{
    struct genesis genesis;
    if (genesis_decode(payload, &genesis) != TL_OK) return false;
    if (!lists_this_store(node, &genesis)) return false;
    if (payload.count > GROUP_STATE_CONF_BYTES_MAX) return false;
    write_genesis(node, &genesis);
    return true;
}

/* ---- asking and answering ---- */

static struct buf *make_note(const struct node *node, const struct store_id *asker)
{
    struct birth_note note = {.store_id = node->store_id, .view_hash = node->view_hash};
    /* The option was checked against the data directory, whose identity has the same bound. */
    text_format(note.address, sizeof note.address, "%s", node->options.address);
    if (node->groups_count > 0) {
        note.cluster_id = node->genesis.cluster_id;
        for (uint32_t i = 0; i < node->genesis.members_count; i++) {
            if (!store_id_equal(&node->genesis.members[i].store_id, asker)) continue;
            note.genesis = buf_bytes(node->genesis_payload);
        }
    }
    struct buf *payload = birth_note_encode(&note);
    struct buf *frame = frame_create(FRAME_BIRTH, buf_bytes(payload));
    buf_release(payload);
    return frame;
}

static void ask_all(struct node *node)
{
    for (uint32_t i = 0; i < node->options.view_count; i++) {
        struct birth_address *address = &node->view[i];
        if (address->is_self) {
            address->member.store_id = node->store_id;
        } else if (!address->is_asked) {
            address->is_asked = true;
            node->io.ask(node->io.context, address->member.peer_address,
                         make_note(node, &node->store_id));
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

struct buf *node_on_birth(struct node *node, struct bytes payload)
{
    node_enter(node);
    struct birth_note note;
    if (node->is_failed || birth_note_decode(payload, &note) != TL_OK) return NULL;
    return make_note(node, &note.store_id);
}

static void judge_note(struct node *node, struct birth_address *address,
                       const struct birth_note *note)
{
    address->member.store_id = note->store_id;
    if (note->genesis.count > 0) {
        if (!take_genesis(node, note->genesis)) address->answer = BIRTH_BAD_GENESIS;
    } else if (!store_id_is_zero(&note->cluster_id)) {
        address->answer = BIRTH_NOT_LISTED;
    } else if (!hash_equal(note->view_hash, node->view_hash)) {
        address->answer = BIRTH_OTHER_VIEW;
    } else if (strcmp(note->address, address->member.address) != 0) {
        address->answer = BIRTH_OTHER_ADDRESS;
    } else {
        address->answer = BIRTH_NO_CLUSTER;
    }
}

void node_on_birth_reply(struct node *node, const char *peer_address, const struct bytes *payload)
{
    node_enter(node);
    if (node->is_failed) return;
    for (uint32_t i = 0; i < node->options.view_count && i < RAFT_MEMBERS_MAX; i++) {
        struct birth_address *address = &node->view[i];
        if (address->is_self || strcmp(address->member.peer_address, peer_address) != 0) continue;
        address->is_asked = false;
        if (node->groups_count > 0 || node->is_birth_writing) continue;
        address->answer = BIRTH_SILENT;
        struct birth_note note;
        if (payload == NULL || birth_note_decode(*payload, &note) != TL_OK) continue;
        judge_note(node, address, &note);
    }
}

/* ---- the sentence ---- */

static const char *answer_text(enum birth_answer answer)
{
    switch (answer) {
    case BIRTH_SILENT:
        return "no answer";
    case BIRTH_NO_CLUSTER:
        return "ready";
    case BIRTH_OTHER_VIEW:
        return "another view";
    case BIRTH_OTHER_ADDRESS:
        return "calls itself by another address";
    case BIRTH_NOT_LISTED:
        return "its cluster does not know this store";
    case BIRTH_BAD_GENESIS:
        return "its cluster knows this store by another address";
    }
    return "?";
}

void node_birth_waits_for(const struct node *node, char *out_text, size_t text_bytes)
{
    out_text[0] = '\0';
    if (node->groups_count > 0) return;
    if (node->is_birth_writing) {
        (void)text_format(out_text, text_bytes, "writing the cluster's first entry");
        return;
    }
    size_t at = 0;
    for (uint32_t i = 0; i < node->options.view_count; i++) {
        const struct birth_address *address = &node->view[i];
        if (address->is_self || address->answer == BIRTH_NO_CLUSTER) continue;
        at += text_format(out_text + at, text_bytes - at, "%s%s (%s)",
                          at == 0 ? "waiting for " : ", ", address->member.address,
                          answer_text(address->answer));
    }
    if (at > 0) return;
    const char *first = node->view[0].member.address;
    if (!node->view[0].is_self) {
        (void)text_format(out_text, text_bytes, "waiting for %s to form the cluster", first);
    } else if (!ids_differ(node)) {
        (void)text_format(out_text, text_bytes, "two addresses of the view are one store");
    }
}
