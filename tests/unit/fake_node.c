/* fake_node.c - see fake_node.h. */

#include "fake_node.h"

#include "trilith/view.h"

struct fake_node fake;

#define FAKE_MEMBERS_COUNT 3u
#define FAKE_APPLIED 77u
#define FAKE_AGE_MS 5u

struct pump *fake_pump(void)
{
    return (struct pump *)(void *)&fake;
}

static void set_member(uint32_t i, const char *address)
{
    struct member *member = &fake.status.members[i];
    memcpy(member->address, address, strlen(address) + 1);
    memcpy(member->peer_address, address, strlen(address) + 1);
    memset(member->store_id.bytes, (int)(0x11 * (i + 1)), sizeof member->store_id.bytes);
    fake.status.member_is_connected[i] = true;
}

static void set_group(void)
{
    struct raft_status *raft = &fake.group.raft;
    raft->role = RAFT_LEADER;
    raft->term = 4;
    raft->leader = FAKE_ID;
    raft->has_quorum = true;
    raft->first = 1;
    raft->last = 80;
    raft->durable = 79;
    raft->commit = 78;
    raft->applied = FAKE_APPLIED;
    raft->leader_commit = 78;
    raft->conf.voters_count = FAKE_MEMBERS_COUNT;
    for (uint32_t i = 0; i < FAKE_MEMBERS_COUNT; i++) {
        raft_id id = store_id_raft(&fake.status.members[i].store_id);
        raft->conf.voters[i] = id;
        if (id == FAKE_ID) continue;
        raft->peers[raft->peers_count++] = (struct raft_peer_status){
            .id = id, .match = 78, .next = 81, .state = RAFT_REPLICATE, .is_recently_active = true};
    }
}

void fake_reset(void)
{
    memset(&fake, 0, sizeof fake);
    fake.is_ready = true;
    fake.unready_group = UINT32_MAX;
    fake.age_ms = FAKE_AGE_MS;
    fake.applied_revision = 9;
    fake.applied_time_us = 1000;
    fake.result = (struct kv_result){.status = KV_CREATED,
                                     .revision = 12,
                                     .version = 1,
                                     .time_us = 2000,
                                     .group_revision = 12,
                                     .index = 80};
    fake.status.stage = NODE_STAGE_RUNNING;
    fake.status.groups_count = 2;
    fake.status.members_count = FAKE_MEMBERS_COUNT;
    fake.status.placement_epoch = 6;
    for (uint32_t i = 0; i < FAKE_MEMBERS_COUNT; i++) fake.status.member_roles[i] = MEMBER_VOTER;
    set_member(0, FAKE_ADDRESS);
    set_member(1, "two.test:8082");
    set_member(2, "three.test:8083");
    set_group();
}

void fake_clear(void)
{
    buf_release(TL_TAKE(&fake.row));
    buf_release(TL_TAKE(&fake.entry));
}

void fake_set_row(const char *key, const char *content_type, struct bytes value, uint64_t revision)
{
    buf_release(fake.row);
    struct row_header header = {
        .revision = revision,
        .version = 1,
        .value_bytes = (uint32_t)value.count,
        .content_type_bytes = (uint16_t)strlen(content_type),
        .value_checksum = hash_checksum(value),
    };
    fake.row = buf_create(row_bytes(&header));
    row_encode_head(&header, bytes_of(content_type), fake.row->data);
    fake.row->count = (uint32_t)row_bytes(&header);
    if (value.count > 0) {
        memcpy(fake.row->data + fake.row->count - value.count, value.data, value.count);
    }
    memcpy(fake.row_key, key, strlen(key) + 1);
}

void fake_turn(void)
{
    while (fake.writes != NULL && !fake.is_held) {
        struct node_write *write = fake.writes;
        fake.writes = write->next;
        write->on_done(write, fake.write_err, fake.write_err == TL_OK ? &fake.result : NULL);
    }
    while (fake.reads != NULL && !fake.is_held) {
        struct node_read *read = fake.reads;
        fake.reads = read->next;
        read->on_ready(read, fake.read_err);
    }
    while (fake.changes != NULL && !fake.is_held) {
        struct node_change *change = fake.changes;
        fake.changes = change->next;
        change->report = fake.report;
        change->on_done(change, fake.change_err);
    }
    while (fake.leader_transfers != NULL && !fake.is_held) {
        struct node_leader_transfer *transfer = fake.leader_transfers;
        fake.leader_transfers = transfer->next;
        transfer->report = fake.leader_transfer_report;
        transfer->on_done(transfer, fake.leader_transfer_err);
    }
    if (fake.log_query == NULL || fake.is_held) return;
    struct node_log_query *query = TL_TAKE(&fake.log_query);
    query->first = fake.log.first;
    query->last = fake.log.last;
    query->commit = fake.log.commit;
    query->entries = fake.log.entries;
    query->entries_count = fake.log.entries_count;
    query->previous_hash = fake.log.previous_hash;
    query->last_hash = fake.log.last_hash;
    query->fault = fake.log.fault;
    query->on_done(query, fake.log_err);
}

/* ---- pump.h ---- */

struct node *pump_node(struct pump *pump)
{
    return (struct node *)(void *)pump;
}

void pump_wake(struct pump *pump)
{
    (void)pump;
    fake.wakes_count++;
}

const struct pump_metrics *pump_get_metrics(const struct pump *pump)
{
    (void)pump;
    return &fake.pump_metrics;
}

/* ---- node.h ---- */

enum tl_err node_write(struct node *node, struct node_write *write)
{
    (void)node;
    buf_release(TL_TAKE(&fake.entry));
    if (fake.write_refusal != TL_OK) {
        fake.entry = buf_acquire(write->entry); /* so that the test sees who still holds it */
        return fake.write_refusal;
    }
    fake.entry = TL_TAKE(&write->entry);
    enum tl_err err = command_decode(entry_payload(fake.entry), &fake.command);
    TL_ASSERT(err == TL_OK);
    fake.write_was_keyed = write->is_keyed;
    fake.write_deadline_ns = write->deadline_ns;
    fake.writes_count++;
    write->next = NULL;
    struct node_write **tail = &fake.writes;
    while (*tail != NULL) tail = &(*tail)->next;
    *tail = write;
    return TL_OK;
}

void node_write_cancel(struct node *node, struct node_write *write)
{
    (void)node;
    struct node_write **at = &fake.writes;
    while (*at != write) {
        TL_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = write->next;
    fake.writes_cancelled_count++;
}

enum tl_err node_read(struct node *node, struct node_read *read, bool *out_is_ready)
{
    (void)node;
    if (fake.read_refusal != TL_OK) return fake.read_refusal;
    fake.seen_read = *read;
    fake.reads_count++;
    *out_is_ready = fake.read_is_ready;
    if (fake.read_is_ready) return TL_OK;
    read->next = NULL;
    struct node_read **tail = &fake.reads;
    while (*tail != NULL) tail = &(*tail)->next;
    *tail = read;
    return TL_OK;
}

void node_read_cancel(struct node *node, struct node_read *read)
{
    (void)node;
    struct node_read **at = &fake.reads;
    while (*at != read) {
        TL_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = read->next;
    fake.reads_cancelled_count++;
}

enum tl_err node_change(struct node *node, struct node_change *change)
{
    (void)node;
    if (fake.change_refusal != TL_OK) return fake.change_refusal;
    fake.seen_change = *change;
    fake.changes_count++;
    change->next = fake.changes;
    fake.changes = change;
    return TL_OK;
}

void node_change_cancel(struct node *node, struct node_change *change)
{
    (void)node;
    TL_ASSERT(fake.changes == change); /* a test has one at a time */
    fake.changes = change->next;
    fake.changes_cancelled_count++;
}

enum tl_err node_log_query(struct node *node, struct node_log_query *query)
{
    (void)node;
    if (fake.log_refusal != TL_OK) return fake.log_refusal;
    TL_ASSERT(fake.log_query == NULL);
    fake.seen_log_query = *query;
    fake.log_queries_count++;
    fake.log_query = query;
    return TL_OK;
}

void node_log_query_cancel(struct node *node, struct node_log_query *query)
{
    (void)node;
    TL_ASSERT(fake.log_query == query);
    fake.log_query = NULL;
    fake.log_queries_cancelled_count++;
}

enum tl_err node_leader_transfer(struct node *node, struct node_leader_transfer *transfer)
{
    (void)node;
    if (fake.leader_transfer_refusal != TL_OK) return fake.leader_transfer_refusal;
    fake.seen_leader_transfer = *transfer;
    fake.leader_transfers_count++;
    transfer->next = fake.leader_transfers;
    fake.leader_transfers = transfer;
    return TL_OK;
}

void node_leader_transfer_cancel(struct node *node, struct node_leader_transfer *transfer)
{
    (void)node;
    TL_ASSERT(fake.leader_transfers == transfer); /* a test has one at a time */
    fake.leader_transfers = transfer->next;
    fake.leader_transfers_cancelled_count++;
}

struct views *node_views(struct node *node, raft_group group)
{
    TL_ASSERT(group == NODE_DATA_GROUP);
    return fake.has_no_group ? NULL : (struct views *)(void *)node;
}

uint64_t node_applied_time_us(const struct node *node, raft_group group)
{
    (void)node;
    TL_ASSERT(group == NODE_DATA_GROUP);
    TL_ASSERT(!fake.has_no_group);
    return fake.applied_time_us;
}

uint64_t node_log_time_seconds(uint64_t span_us)
{
    return span_us / 1000000 + 7;
}

uint64_t node_applied_revision(const struct node *node, raft_group group)
{
    (void)node;
    TL_ASSERT(group == NODE_DATA_GROUP);
    TL_ASSERT(!fake.has_no_group);
    return fake.applied_revision;
}

uint64_t node_age_ms(const struct node *node, raft_group group)
{
    (void)node;
    TL_ASSERT(group == NODE_DATA_GROUP);
    return fake.age_ms;
}

raft_id node_self(const struct node *node)
{
    (void)node;
    return FAKE_ID;
}

void node_get_status(const struct node *node, struct node_status *out_status)
{
    (void)node;
    *out_status = fake.status;
}

void node_get_group_status(const struct node *node, raft_group group,
                           struct node_group_status *out_status)
{
    (void)node;
    TL_ASSERT(group < fake.status.groups_count);
    *out_status = fake.group;
    out_status->group = group;
    out_status->is_ready = group != fake.unready_group;
}

bool node_is_ready(const struct node *node)
{
    (void)node;
    return fake.is_ready;
}

const struct member *node_member(const struct node *node, raft_id id)
{
    (void)node;
    for (uint32_t i = 0; i < fake.status.members_count; i++) {
        if (store_id_raft(&fake.status.members[i].store_id) == id) return &fake.status.members[i];
    }
    return NULL;
}

uint32_t node_get_transfers(const struct node *node,
                            struct node_transfer_status out_transfers[NODE_TRANSFERS_MAX])
{
    (void)node;
    memcpy(out_transfers, fake.transfers, sizeof fake.transfers);
    return fake.transfers_count;
}

const struct node_metrics *node_get_metrics(const struct node *node)
{
    (void)node;
    return &fake.metrics;
}

/* ---- view.h ---- */

enum tl_err view_reader_create(struct views *views, struct view_reader **out_reader)
{
    *out_reader = (struct view_reader *)(void *)views;
    fake.readers_count++;
    return TL_OK;
}

void view_reader_destroy(struct view_reader *reader)
{
    if (reader != NULL) fake.readers_count--;
}

enum tl_err view_begin(struct view_reader *reader, raft_index *out_applied,
                       struct tl_fault *out_fault)
{
    (void)reader;
    (void)out_fault;
    *out_applied = FAKE_APPLIED;
    return TL_OK;
}

void view_end(struct view_reader *reader)
{
    (void)reader;
    /* The row was borrowed until here: what an answer still needs has to be a copy. */
    if (fake.lent != NULL) memset(fake.lent->data, 0xee, fake.lent->count);
    buf_release(TL_TAKE(&fake.lent));
}

enum tl_err view_get(struct view_reader *reader, struct bytes env_key, struct bytes *out_value,
                     struct tl_fault *out_fault)
{
    (void)reader;
    (void)out_fault;
    TL_ASSERT(env_key.count >= 2);
    TL_ASSERT(env_key.data[0] == ENV_KEY_ROW);
    struct bytes key = bytes_make(env_key.data + 1, env_key.count - 1);
    if (fake.row == NULL || !bytes_equal(key, bytes_of(fake.row_key))) return TL_ERR_NOT_FOUND;
    fake.lent = buf_copy(buf_bytes(fake.row));
    *out_value = buf_bytes(fake.lent);
    return TL_OK;
}

/* ---- scan.h ---- */

bool scan_range_is_all(const struct scan_range *range)
{
    return range->prefix.count + range->start.count + range->end.count + range->after.count == 0;
}

/* Goes on behind the key that is `after`. */
static uint32_t scan_begin_at(const struct scan_range *range)
{
    for (uint32_t i = 0; i < fake.scan_keys_count; i++) {
        bool is_last = fake.scan_is_endless && i + 1 == fake.scan_keys_count;
        if (bytes_equal(fake.scan_keys[i], range->after)) return is_last ? i : i + 1;
    }
    return 0;
}

enum tl_err scan_run(struct view_reader *reader, struct scan_page *page, struct tl_fault *out_fault)
{
    (void)reader;
    (void)out_fault;
    fake.scans_count++;
    page->rows_count = 0;
    page->is_cut = false;
    uint32_t rows_max = page->rows_max;
    if (fake.scan_rows_per_view > 0) rows_max = TL_MIN(rows_max, fake.scan_rows_per_view);
    uint32_t at = scan_begin_at(&page->range);
    for (; at < fake.scan_keys_count && page->rows_count < rows_max; at++) {
        struct bytes key = fake.scan_keys[at];
        const struct row_header header = {.revision = 100 + at, .version = 1 + at};
        if (page->on_row != NULL) page->on_row(page->context, key, &header, key);
        page->rows_count++;
        memcpy(page->next, key.data, key.count);
        page->next_bytes = key.count;
    }
    page->is_last = at == fake.scan_keys_count && !fake.scan_is_endless;
    page->is_cut = !page->is_last && page->rows_count < page->rows_max;
    fake.seen_page = *page;
    return TL_OK;
}
