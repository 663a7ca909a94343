/* txn_parse.c - from JSON to a struct txn.
 *
 * An object of the request is first read into a table of the fields that any of them may have; its
 * kind then says which of these it must have and may have. Without a tree in between a body of a
 * mebibyte takes a few milliseconds of the loop.
 */

#include "txn_parse.h"

#include "json.h"
#include "json_reader.h"
#include "parse.h"
#include "text.h"

#define MESSAGE_BYTES 96u

enum field {
    FIELD_OP,
    FIELD_KEY,
    FIELD_KEY_ENCODING,
    FIELD_VALUE,
    FIELD_ENCODING,
    FIELD_CONTENT_TYPE,
    FIELD_BY,
    FIELD_REVISION,
    FIELD_VERSION,
    FIELD_EXISTS,
    FIELDS_COUNT
};

static const struct {
    const char *name;
    enum json_kind kind;
} fields[] = {
    [FIELD_OP] = {"op", JSON_KIND_STRING},
    [FIELD_KEY] = {"key", JSON_KIND_STRING},
    [FIELD_KEY_ENCODING] = {"key_encoding", JSON_KIND_STRING},
    [FIELD_VALUE] = {"value", JSON_KIND_STRING},
    [FIELD_ENCODING] = {"encoding", JSON_KIND_STRING},
    [FIELD_CONTENT_TYPE] = {"content_type", JSON_KIND_STRING},
    [FIELD_BY] = {"by", JSON_KIND_NUMBER},
    [FIELD_REVISION] = {"revision", JSON_KIND_NUMBER},
    [FIELD_VERSION] = {"version", JSON_KIND_NUMBER},
    [FIELD_EXISTS] = {"exists", JSON_KIND_BOOL},
};

#define BIT(field) (1u << (field))
#define KEY_BITS (BIT(FIELD_KEY) | BIT(FIELD_KEY_ENCODING))
#define VALUE_BITS (BIT(FIELD_VALUE) | BIT(FIELD_ENCODING))

/* An object's fields as they were read. */
struct object {
    uint32_t present; /* bits */
    struct json_string strings[FIELDS_COUNT];
    struct bytes numbers[FIELDS_COUNT];
    bool exists;
};

struct parse {
    h2o_mem_pool_t *pool;
    struct json_reader reader;
    uint32_t value_bytes_max;
    const char *list; /* "if", "then" or "else", and the position in it: where a fault is */
    uint32_t position;
    struct failure *failure;
};

/* ---- refusing ---- */

static bool refuse_as(struct parse *parse, int status, const char *code, const char *message)
{
    struct text text = text_make(parse->pool, MESSAGE_BYTES);
    if (parse->list != NULL) text_printf(&text, "%s[%u]: ", parse->list, parse->position);
    text_add_string(&text, message);
    text_add(&text, bytes_make("", 1));
    *parse->failure = (struct failure){.status = status, .code = code, .message = text.data};
    return false;
}

static bool refuse(struct parse *parse, const char *message)
{
    return refuse_as(parse, 400, "bad_request", message);
}

/* ---- one object ---- */

static enum field find_field(struct json_string name)
{
    uint32_t field = 0;
    while (field < FIELDS_COUNT && !json_string_is(name, fields[field].name)) field++;
    return (enum field)field;
}

static bool take_field(struct parse *parse, struct object *object)
{
    enum field field = find_field(json_reader_name(&parse->reader));
    if (field == FIELDS_COUNT) return refuse(parse, "a field is unknown");
    if ((object->present & BIT(field)) != 0) return refuse(parse, "a field is repeated");
    if (json_reader_kind(&parse->reader) != fields[field].kind) {
        return refuse(parse, "a field is of the wrong type");
    }
    object->present |= BIT(field);
    if (fields[field].kind == JSON_KIND_STRING) {
        object->strings[field] = json_reader_string(&parse->reader);
    } else if (fields[field].kind == JSON_KIND_NUMBER) {
        object->numbers[field] = json_reader_number(&parse->reader);
    } else {
        object->exists = json_reader_bool(&parse->reader);
    }
    return true;
}

static bool take_object(struct parse *parse, struct object *out_object)
{
    *out_object = (struct object){.present = 0};
    if (json_reader_kind(&parse->reader) != JSON_KIND_OBJECT) {
        return refuse(parse, "it is no object");
    }
    json_reader_enter(&parse->reader);
    while (json_reader_more(&parse->reader)) {
        if (!take_field(parse, out_object)) return false;
    }
    return true;
}

/* The string's bytes: borrowed from the body when they stand there as they are. */
static struct bytes plain_string(struct parse *parse, struct json_string string)
{
    if (!string.has_escapes) return string.raw;
    uint8_t *bytes = h2o_mem_alloc_pool(parse->pool, string.raw.count);
    return bytes_make(bytes, json_string_decode(string, bytes));
}

/* The string in the encoding that another field names. */
static bool take_bytes(struct parse *parse, const struct object *object, enum field field,
                       enum field encoding, struct bytes *out_bytes)
{
    *out_bytes = plain_string(parse, object->strings[field]);
    if ((object->present & BIT(encoding)) == 0) return true;
    if (json_string_is(object->strings[encoding], "utf-8")) return true;
    if (!json_string_is(object->strings[encoding], "base64")) {
        return refuse(parse, "an encoding is utf-8 or base64");
    }
    uint8_t *bytes = h2o_mem_alloc_pool(parse->pool, out_bytes->count + 1);
    size_t count;
    if (!base64_decode(*out_bytes, bytes, &count)) return refuse(parse, "base64 is malformed");
    *out_bytes = bytes_make(bytes, count);
    return true;
}

static bool take_key(struct parse *parse, const struct object *object, struct bytes *out_key)
{
    if ((object->present & BIT(FIELD_KEY)) == 0) return refuse(parse, "key is missing");
    if (!take_bytes(parse, object, FIELD_KEY, FIELD_KEY_ENCODING, out_key)) return false;
    if (out_key->count == 0) return refuse(parse, "the key is empty");
    if (out_key->count > KEY_BYTES_MAX) return refuse(parse, "a key has at most 480 bytes");
    return true;
}

/* Whether the object has no field beside these. */
static bool has_only(struct parse *parse, const struct object *object, uint32_t bits)
{
    return (object->present & ~bits) == 0 || refuse(parse, "a field does not belong here");
}

/* ---- conditions ---- */

static bool take_condition_value(struct parse *parse, const struct object *object,
                                 struct txn_condition *out_condition)
{
    switch (out_condition->type) {
    case TXN_IF_REVISION:
        return parse_u64(object->numbers[FIELD_REVISION], &out_condition->number) ||
               refuse(parse, "revision is no integer from 0 to 2^64 - 1");
    case TXN_IF_VERSION:
        return parse_u64(object->numbers[FIELD_VERSION], &out_condition->number) ||
               refuse(parse, "version is no integer from 0 to 2^64 - 1");
    case TXN_IF_EXISTS:
        out_condition->number = object->exists;
        return true;
    case TXN_IF_VALUE:
        break;
    }
    return take_bytes(parse, object, FIELD_VALUE, FIELD_ENCODING, &out_condition->value);
}

static bool take_condition(struct parse *parse, void *item)
{
    static const struct {
        enum field field;
        enum txn_condition_type type;
        uint32_t bits;
    } kinds[] = {
        {FIELD_REVISION, TXN_IF_REVISION, KEY_BITS | BIT(FIELD_REVISION)},
        {FIELD_VERSION, TXN_IF_VERSION, KEY_BITS | BIT(FIELD_VERSION)},
        {FIELD_VALUE, TXN_IF_VALUE, KEY_BITS | VALUE_BITS},
        {FIELD_EXISTS, TXN_IF_EXISTS, KEY_BITS | BIT(FIELD_EXISTS)},
    };
    struct txn_condition *condition = item;
    struct object object;
    if (!take_object(parse, &object)) return false;
    size_t kind = 0;
    while (kind < TL_COUNT_OF(kinds) && (object.present & BIT(kinds[kind].field)) == 0) kind++;
    if (kind == TL_COUNT_OF(kinds)) {
        return refuse(parse, "a condition has revision, version, value or exists");
    }
    *condition = (struct txn_condition){.type = kinds[kind].type};
    return has_only(parse, &object, kinds[kind].bits) &&
           take_key(parse, &object, &condition->key) &&
           take_condition_value(parse, &object, condition);
}

/* ---- operations ---- */

static bool take_content_type(struct parse *parse, const struct object *object, struct txn_op *op)
{
    if ((object->present & BIT(FIELD_CONTENT_TYPE)) == 0) return true;
    op->content_type = plain_string(parse, object->strings[FIELD_CONTENT_TYPE]);
    if (op->content_type.count > CONTENT_TYPE_BYTES_MAX || !media_type_is_valid(op->content_type)) {
        return refuse(parse, "content_type is not type/subtype of at most 255 bytes");
    }
    if (!media_type_is(op->content_type, "application/json")) return true;
    op->value_is_json = json_is_valid(op->value);
    return op->value_is_json || refuse_as(parse, 400, "invalid_json",
                                          "the value is not JSON but its content_type says so");
}

static bool take_value(struct parse *parse, const struct object *object, struct txn_op *op)
{
    if ((object->present & BIT(FIELD_VALUE)) == 0) return refuse(parse, "value is missing");
    if (!take_bytes(parse, object, FIELD_VALUE, FIELD_ENCODING, &op->value)) return false;
    if (op->value.count > parse->value_bytes_max) {
        return refuse_as(parse, 413, "value_too_large", "the value is over --max-value-size");
    }
    return take_content_type(parse, object, op);
}

static bool take_operands(struct parse *parse, const struct object *object, struct txn_op *op)
{
    if (op->type == COMMAND_PUT || op->type == COMMAND_APPEND) return take_value(parse, object, op);
    if (op->type != COMMAND_INCR) return true;
    op->by = 1;
    return (object->present & BIT(FIELD_BY)) == 0 ||
           parse_i64(object->numbers[FIELD_BY], &op->by) ||
           refuse(parse, "by is no integer of 64 bits");
}

static bool take_op(struct parse *parse, void *item)
{
    static const struct {
        const char *name;
        enum command_type type;
        uint32_t bits;
    } kinds[] = {
        {"put", COMMAND_PUT, KEY_BITS | VALUE_BITS | BIT(FIELD_CONTENT_TYPE)},
        {"get", COMMAND_GET, KEY_BITS},
        {"delete", COMMAND_DELETE, KEY_BITS},
        {"append", COMMAND_APPEND, KEY_BITS | VALUE_BITS | BIT(FIELD_CONTENT_TYPE)},
        {"incr", COMMAND_INCR, KEY_BITS | BIT(FIELD_BY)},
    };
    struct txn_op *op = item;
    struct object object;
    if (!take_object(parse, &object)) return false;
    if ((object.present & BIT(FIELD_OP)) == 0) return refuse(parse, "op is missing");
    size_t kind = 0;
    while (kind < TL_COUNT_OF(kinds) && !json_string_is(object.strings[FIELD_OP], kinds[kind].name))
        kind++;
    if (kind == TL_COUNT_OF(kinds)) {
        return refuse(parse, "op is put, get, delete, append or incr");
    }
    *op = (struct txn_op){.type = kinds[kind].type};
    return has_only(parse, &object, kinds[kind].bits | BIT(FIELD_OP)) &&
           take_key(parse, &object, &op->key) && take_operands(parse, &object, op);
}

/* ---- the whole ---- */

/* The three members: where their items go. */
struct list {
    const char *name;
    bool is_present;
    uint32_t *count;
    uint8_t *items;
    size_t item_bytes;
    bool (*take)(struct parse *parse, void *item);
};

static bool take_list(struct parse *parse, struct list *list)
{
    if (list->is_present) return refuse(parse, "if, then or else is repeated");
    list->is_present = true;
    if (json_reader_kind(&parse->reader) != JSON_KIND_ARRAY) {
        return refuse(parse, "if, then and else are arrays");
    }
    parse->list = list->name;
    parse->position = 0;
    json_reader_enter(&parse->reader);
    while (json_reader_more(&parse->reader)) {
        if (parse->position == TXN_LIST_MAX) return refuse(parse, "there are more than 128");
        if (!list->take(parse, list->items + parse->position * list->item_bytes)) return false;
        *list->count = ++parse->position;
    }
    parse->list = NULL;
    return true;
}

static bool take_lists(struct parse *parse, struct list *lists, size_t lists_count)
{
    if (json_reader_kind(&parse->reader) != JSON_KIND_OBJECT) {
        return refuse(parse, "a transaction is an object with if, then and else");
    }
    json_reader_enter(&parse->reader);
    while (json_reader_more(&parse->reader)) {
        struct json_string name = json_reader_name(&parse->reader);
        size_t i = 0;
        while (i < lists_count && !json_string_is(name, lists[i].name)) i++;
        if (i == lists_count) {
            return refuse(parse, "a transaction is an object with if, then and else");
        }
        if (!take_list(parse, &lists[i])) return false;
    }
    return true;
}

static bool writes_once(struct parse *parse, const struct txn *txn)
{
    for (uint32_t branch = 0; branch < TXN_BRANCHES_COUNT; branch++) {
        parse->list = branch == TXN_THEN ? "then" : "else";
        parse->position = txn_find_second_write(txn->ops[branch], txn->ops_count[branch]);
        if (parse->position < txn->ops_count[branch]) {
            return refuse(parse, "this key is written by an operation before");
        }
    }
    return true;
}

const struct txn *txn_parse(h2o_mem_pool_t *pool, struct bytes body, uint32_t value_bytes_max,
                            struct failure *out_failure)
{
    struct parse parse = {.pool = pool, .value_bytes_max = value_bytes_max, .failure = out_failure};
    if (!json_is_valid(body)) {
        (void)refuse_as(&parse, 400, "invalid_json", "the body is not JSON");
        return NULL;
    }
    struct txn *txn = h2o_mem_alloc_pool(pool, sizeof *txn);
    txn->conditions_count = 0;
    txn->ops_count[TXN_THEN] = 0;
    txn->ops_count[TXN_ELSE] = 0;
    struct list lists[] = {
        {"if", false, &txn->conditions_count, (uint8_t *)txn->conditions, sizeof txn->conditions[0],
         take_condition},
        {"then", false, &txn->ops_count[TXN_THEN], (uint8_t *)txn->ops[TXN_THEN],
         sizeof txn->ops[0][0], take_op},
        {"else", false, &txn->ops_count[TXN_ELSE], (uint8_t *)txn->ops[TXN_ELSE],
         sizeof txn->ops[0][0], take_op},
    };
    parse.reader = json_reader_make(body);
    bool is_ok = take_lists(&parse, lists, TL_COUNT_OF(lists)) && writes_once(&parse, txn);
    return is_ok ? txn : NULL;
}
