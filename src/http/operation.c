/* operation.c - what an entry of the log does, as JSON: for /v1/log. */

#include "http_internal.h"

#include <stdlib.h>

#include "trilith/conf_entry.h"
#include "trilith/txn.h"

#define VALUE_SHOWN_BYTES 256u /* longer values are told by their length */

static void add_bytes(struct text *text, const char *name, const char *encoding, struct bytes bytes)
{
    text_printf(text, ",\"%s\":", name);
    if (!item_add_bytes(text, bytes)) text_printf(text, ",\"%s\":\"base64\"", encoding);
}

/* ---- commands ---- */

static void add_value(struct text *text, struct bytes value, struct bytes content_type)
{
    item_add_number(text, ",\"value_bytes\":", value.count);
    if (content_type.count > 0) {
        add_bytes(text, "content_type", "content_type_encoding", content_type);
    }
    if (value.count <= VALUE_SHOWN_BYTES) add_bytes(text, "value", "encoding", value);
}

static void add_condition(struct text *text, const struct command *command)
{
    switch (command->condition) {
    case CONDITION_NONE:
        return;
    case CONDITION_REVISION:
        item_add_number(text, ",\"if_match\":", command->condition_revision);
        return;
    case CONDITION_EXISTS:
        text_add_string(text, ",\"if_match\":\"*\"");
        return;
    case CONDITION_ABSENT:
        text_add_string(text, ",\"if_none_match\":\"*\"");
        return;
    }
}

/* ---- transactions ---- */

static void add_txn_condition(struct text *text, const struct txn_condition *condition)
{
    text_add_string(text, "{");
    item_add_key(text, condition->key);
    switch (condition->type) {
    case TXN_IF_REVISION:
        item_add_number(text, ",\"revision\":", condition->number);
        break;
    case TXN_IF_VERSION:
        item_add_number(text, ",\"version\":", condition->number);
        break;
    case TXN_IF_VALUE:
        add_value(text, condition->value, bytes_make(NULL, 0));
        break;
    case TXN_IF_EXISTS:
        text_add_string(text, condition->number != 0 ? ",\"exists\":true" : ",\"exists\":false");
        break;
    }
    text_add_string(text, "}");
}

static void add_txn_op(struct text *text, const struct txn_op *op)
{
    text_printf(text, "{\"op\":\"%s\",", describe_op(op->type));
    item_add_key(text, op->key);
    if (op->type == COMMAND_INCR) {
        text_printf(text, ",\"by\":%lld", (long long)op->by);
    } else if (op->type == COMMAND_PUT || op->type == COMMAND_APPEND) {
        add_value(text, op->value, op->content_type);
    }
    text_add_string(text, "}");
}

static void add_branch(struct text *text, const char *name, const struct txn *txn,
                       enum txn_branch branch)
{
    text_printf(text, ",\"%s\":[", name);
    for (uint32_t i = 0; i < txn->ops_count[branch]; i++) {
        if (i > 0) text_add_string(text, ",");
        add_txn_op(text, &txn->ops[branch][i]);
    }
    text_add_string(text, "]");
}

static void add_txn(struct text *text, struct bytes encoded)
{
    struct txn *txn = malloc(sizeof *txn);
    TL_ASSERT(txn != NULL);
    enum tl_err err = txn_decode(encoded, txn);
    TL_ASSERT(err == TL_OK); /* command_decode() has seen to it */
    text_add_string(text, ",\"if\":[");
    for (uint32_t i = 0; i < txn->conditions_count; i++) {
        if (i > 0) text_add_string(text, ",");
        add_txn_condition(text, &txn->conditions[i]);
    }
    text_add_string(text, "]");
    add_branch(text, "then", txn, TXN_THEN);
    add_branch(text, "else", txn, TXN_ELSE);
    free(txn);
}

static void add_command(struct text *text, struct bytes payload)
{
    struct command command;
    if (command_decode(payload, &command) != TL_OK) {
        text_add_string(text, "null"); /* a kind that this version does not know */
        return;
    }
    text_printf(text, "{\"op\":\"%s\"", describe_op(command.type));
    if (command.type == COMMAND_TXN) {
        add_txn(text, command.value);
    } else {
        text_add_string(text, ",");
        item_add_key(text, command.key);
        add_condition(text, &command);
        if (command.type == COMMAND_INCR) {
            text_printf(text, ",\"by\":%lld", (long long)command.by);
        } else if (command.type != COMMAND_DELETE) {
            add_value(text, command.value, command.content_type);
        }
    }
    if (command.has_idempotency_key) {
        item_add_hash(text, ",\"idempotency_key_hash\":", command.idempotency_key);
    }
    text_add_string(text, "}");
}

/* ---- the cluster ---- */

static void add_genesis(struct text *text, struct bytes payload)
{
    struct genesis genesis;
    if (genesis_decode(payload, &genesis) != TL_OK) {
        text_add_string(text, "null");
        return;
    }
    char id[HASH_TEXT_BYTES];
    store_id_format(&genesis.cluster_id, id);
    text_printf(text, "{\"op\":\"genesis\",\"cluster_id\":\"%s\",\"members\":[", id);
    for (uint32_t i = 0; i < genesis.members_count; i++) {
        text_add_string(text, i == 0 ? "\"" : ",\"");
        text_add_json(text, bytes_of(genesis.members[i].address)); /* visible ASCII */
        text_add_string(text, "\"");
    }
    text_add_string(text, "]}");
}

static void add_ids(struct text *text, const char *name, const raft_id *ids, uint32_t ids_count)
{
    text_printf(text, ",\"%s\":[", name);
    for (uint32_t i = 0; i < ids_count; i++) {
        char id[RAFT_ID_TEXT_BYTES];
        raft_id_format(ids[i], id);
        text_printf(text, "%s\"%s\"", i == 0 ? "" : ",", id);
    }
    text_add_string(text, "]");
}

/* By their ids: whoever has left has no address any more. */
static void add_conf(struct text *text, struct bytes payload)
{
    struct raft_conf conf;
    if (conf_payload_decode(payload, &conf) != TL_OK) {
        text_add_string(text, "null");
        return;
    }
    item_add_number(text, "{\"op\":\"configuration\",\"epoch\":", conf.epoch);
    add_ids(text, "voters", conf.voters, conf.voters_count);
    add_ids(text, "learners", conf.learners, conf.learners_count);
    add_ids(text, "outgoing", conf.outgoing, conf.outgoing_count);
    text_add_string(text, "}");
}

void operation_add(struct text *text, const struct buf *entry)
{
    switch (entry_type_of(entry)) {
    case ENTRY_COMMAND:
        add_command(text, entry_payload(entry));
        return;
    case ENTRY_GENESIS:
        add_genesis(text, entry_payload(entry));
        return;
    case ENTRY_CONF:
        add_conf(text, entry_payload(entry));
        return;
    case ENTRY_NOOP:
        break;
    }
    text_add_string(text, "null");
}
