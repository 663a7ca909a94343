/* options.c - the meaning of settings: defaults, ranges, and what follows from what. */

#include "options_internal.h"

#include <stdarg.h>
#include <stdio.h>

#include "trilith/log.h"

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

#define LOG_RETAIN_DEFAULT (128 * MIB)
#define IDEMPOTENCY_RECORDS_DEFAULT 262144u
#define IDEMPOTENCY_RECORDS_MAX (16u * 1024u * 1024u)
#define TABLE_MAP_MIN (64 * MIB) /* two generations and the pages a flush replaces */
#ifdef TL_SMALL_MAPS             /* sanitizers and valgrind shadow every mapped byte */
#define TABLE_MAP_DEFAULT (4 * GIB)
#define LOG_MAP_BYTES (4 * GIB)
#define MAP_HEADROOM_BYTES (1 * GIB)
#else
#define TABLE_MAP_DEFAULT (1 * TIB)
#define LOG_MAP_BYTES (64 * GIB)
/* Far more than what is accepted and not flushed, and the pages that flushes replace while the
 * table is being copied. It costs address space only. */
#define MAP_HEADROOM_BYTES (64 * GIB)
#endif
/* OPTIONS_TABLE_MAPS_MAX of them fit into the 128 TiB of a process, whatever lies between them. */
#define TABLE_MAP_MAX (16 * TIB)
/* A record, its place in the queue, and the share of pages that are not full. */
#define IDEMPOTENCY_RECORD_BYTES 256u
/* A slow follower may need four times the retained log, and freed pages come back late. */
#define LOG_RETAIN_MAX (LOG_MAP_BYTES / 8)

struct unit {
    const char *name;
    uint64_t factor;
};
static const struct unit size_units[] = {
    {"", 1}, {"KiB", KIB}, {"MiB", MIB}, {"GiB", GIB}, {"TiB", TIB}};
static const struct unit time_units[] = {
    {"ms", 1000000u}, {"s", 1000000000u}, {"m", 60000000000u}, {"h", 3600000000000u}};
static const struct unit plain_units[] = {{"", 1}};

/* Digits and a unit, nothing else: no sign, no space, no fraction. */
static bool parse_quantity(const char *text, const struct unit *units, size_t units_count,
                           uint64_t *out_value)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value)) {
            return false;
        }
    }
    if (at == text) {
        return false;
    }
    for (size_t i = 0; i < units_count; i++) {
        if (strcmp(at, units[i].name) == 0) {
            return !__builtin_mul_overflow(value, units[i].factor, out_value);
        }
    }
    return false;
}

static enum tl_err get_size(struct settings *settings, enum setting_id id, uint64_t value_default,
                            uint64_t low, uint64_t high, uint64_t *out_value)
{
    const struct setting *setting = &settings->all[id];
    uint64_t value = value_default;
    if (setting->text != NULL &&
        !parse_quantity(setting->text, size_units, TL_COUNT_OF(size_units), &value)) {
        return settings_refuse(settings, "%s: \"%s\" is not a size (4096, 128MiB, 1GiB)",
                               setting->source, setting->text);
    }
    if (value < low || value > high) {
        return settings_refuse(settings, "%s: %s is not between %llu and %llu bytes",
                               setting->source, setting->text, (unsigned long long)low,
                               (unsigned long long)high);
    }
    *out_value = value;
    return TL_OK;
}

/* Idempotency records are rows of the table: they must not fill it by themselves. */
static enum tl_err check_records(struct settings *settings, const struct options *options)
{
    uint64_t bytes = (uint64_t)options->idempotency_records * IDEMPOTENCY_RECORD_BYTES;
    if (bytes <= options->table_map_bytes) {
        return TL_OK;
    }
    const struct setting *records = &settings->all[SETTING_IDEMPOTENCY_RECORDS];
    const struct setting *map = &settings->all[SETTING_MAP_SIZE];
    return settings_refuse(settings,
                           "%s: %lu records take about %llu bytes, and the table is limited to "
                           "%zu (%s)",
                           records->text != NULL ? records->source : "--idempotency-records",
                           (unsigned long)options->idempotency_records, (unsigned long long)bytes,
                           options->table_map_bytes,
                           map->text != NULL ? map->source : "--map-size");
}

static enum tl_err get_time(struct settings *settings, enum setting_id id,
                            uint64_t value_default_ns, uint64_t low_ns, uint64_t high_ns,
                            uint64_t *out_value_ns)
{
    const struct setting *setting = &settings->all[id];
    uint64_t value_ns = value_default_ns;
    if (setting->text != NULL &&
        !parse_quantity(setting->text, time_units, TL_COUNT_OF(time_units), &value_ns)) {
        return settings_refuse(settings, "%s: \"%s\" is not a time (500ms, 5s, 2m)",
                               setting->source, setting->text);
    }
    if (value_ns < low_ns || value_ns > high_ns) {
        return settings_refuse(settings, "%s: %s is not between %llu and %llu ms", setting->source,
                               setting->text, (unsigned long long)(low_ns / 1000000u),
                               (unsigned long long)(high_ns / 1000000u));
    }
    *out_value_ns = value_ns;
    return TL_OK;
}

static enum tl_err get_count(struct settings *settings, enum setting_id id, uint32_t value_default,
                             uint32_t low, uint32_t high, uint32_t *out_value)
{
    const struct setting *setting = &settings->all[id];
    uint64_t value = value_default;
    if (setting->text != NULL &&
        (!parse_quantity(setting->text, plain_units, TL_COUNT_OF(plain_units), &value) ||
         value < low || value > high)) {
        return settings_refuse(settings, "%s: \"%s\" is not a number between %lu and %lu",
                               setting->source, setting->text, (unsigned long)low,
                               (unsigned long)high);
    }
    *out_value = (uint32_t)value;
    return TL_OK;
}

/* What the project's interface names and this version does not do is refused, never ignored. */
static enum tl_err check_refused(struct settings *settings)
{
    uint32_t shards_count;
    uint32_t threads_count;
    enum tl_err err = get_count(settings, SETTING_SHARDS, 1, 1, UINT16_MAX, &shards_count);
    if (err == TL_OK && shards_count > 1) {
        err = settings_refuse(settings, "%s: this version has one shard",
                              settings->all[SETTING_SHARDS].source);
    }
    if (err == TL_OK) {
        err = get_count(settings, SETTING_HTTP_THREADS, 0, 0, 1024, &threads_count);
    }
    if (err == TL_OK && threads_count > 0) {
        err = settings_refuse(settings, "%s: this version serves HTTP on its one loop (0)",
                              settings->all[SETTING_HTTP_THREADS].source);
    }
    if (err == TL_OK && settings->all[SETTING_REPLICAS].text != NULL) {
        err = settings_refuse(settings, "%s: this version replicates to every node of the view",
                              settings->all[SETTING_REPLICAS].source);
    }
    return err;
}

/* ---- addresses ---- */

static enum tl_err get_address(struct settings *settings, enum setting_id id,
                               struct address *out_address)
{
    const struct setting *setting = &settings->all[id];
    struct address address;
    if (address_parse(bytes_of(setting->text), &address) != TL_OK) {
        return settings_refuse(settings, "%s: \"%s\" is not a HOST:PORT", setting->source,
                               setting->text);
    }
    *out_address = address;
    return TL_OK;
}

/* The host as it stands in "HOST:PORT", brackets and all, with another port. */
static void format_peer_address(const char *address, uint32_t peer_port,
                                char out_text[ADDRESS_BYTES_MAX])
{
    const char *colon = strrchr(address, ':');
    TL_ASSERT(colon != NULL);
    (void)text_format(out_text, ADDRESS_BYTES_MAX, "%.*s:%u", (int)(colon - address), address,
                      (unsigned)peer_port);
}

/* What is wrong with the view or the node to join through is told to a node that would be born with
 * it: one that has data does not look at them. The first thing counts. */
__attribute__((format(printf, 2, 3))) static void refuse_birth(struct options *options,
                                                               const char *format, ...)
{
    if (options->birth_refusal[0] != '\0') return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(options->birth_refusal, sizeof options->birth_refusal, format,
                    args); /* may be cut */
    va_end(args);
}

struct view_entry {
    char address[ADDRESS_BYTES_MAX]; /* without the peer port */
    uint32_t port;
    uint32_t peer_port; /* 0: not named */
};

static bool parse_view_entry(struct bytes text, struct view_entry *out_entry)
{
    while (text.count > 0 && text.data[0] == ' ') text = bytes_make(text.data + 1, text.count - 1);
    while (text.count > 0 && text.data[text.count - 1] == ' ') text.count--;
    size_t address_count = 0;
    while (address_count < text.count && text.data[address_count] != '/') address_count++;
    struct address address;
    if (address_parse(bytes_make(text.data, address_count), &address) != TL_OK) {
        return false;
    }
    out_entry->port = address.port;
    out_entry->peer_port = 0;
    (void)text_format(out_entry->address, sizeof out_entry->address, "%.*s", (int)address_count,
                      (const char *)text.data);
    if (address_count < text.count) {
        char port_text[8];
        uint64_t port;
        (void)text_format(port_text, sizeof port_text, "%.*s",
                          (int)TL_MIN(text.count - address_count - 1, sizeof port_text - 1),
                          (const char *)text.data + address_count + 1);
        if (!parse_quantity(port_text, plain_units, TL_COUNT_OF(plain_units), &port) || port == 0 ||
            port > UINT16_MAX) {
            return false;
        }
        out_entry->peer_port = (uint32_t)port;
    }
    return true;
}

/* The peer port is the one named, or `peer_port_default`, or follows from the port. */
static uint32_t peer_port_of(const struct view_entry *entry, uint32_t peer_port_default)
{
    if (entry->peer_port != 0) return entry->peer_port;
    return peer_port_default != 0 ? peer_port_default : entry->port + ADDRESS_PEER_PORT_OFFSET;
}

static void view_add(const struct settings *settings, struct options *options,
                     const struct view_entry *entry, uint32_t peer_port_default)
{
    const char *source = settings->all[SETTING_VIEW].source;
    if (options->view_count == RAFT_MEMBERS_MAX) {
        refuse_birth(options, "%s: more than %u members", source, RAFT_MEMBERS_MAX);
        return;
    }
    for (uint32_t i = 0; i < options->view_count; i++) {
        if (strcmp(options->view[i].address, entry->address) == 0) {
            refuse_birth(options, "%s: %s is there twice", source, entry->address);
            return;
        }
    }
    uint32_t peer_port = peer_port_of(entry, peer_port_default);
    struct member *member = &options->view[options->view_count++];
    (void)text_format(member->address, sizeof member->address, "%s", entry->address);
    if (peer_port > UINT16_MAX) {
        refuse_birth(options,
                     "%s + %u is no port: name the peer port, HOST:PORT/PEERPORT in --view or "
                     "--peer-listen",
                     entry->address, ADDRESS_PEER_PORT_OFFSET);
        return;
    }
    format_peer_address(entry->address, peer_port, member->peer_address);
}

static enum tl_err get_view(struct settings *settings, struct options *options,
                            const struct view_entry *self, uint32_t self_peer_port)
{
    const struct setting *view = &settings->all[SETTING_VIEW];
    if (view->text == NULL) {
        view_add(settings, options, self, self_peer_port);
        return TL_OK;
    }
    bool is_self_there = false;
    for (const char *at = view->text; at != NULL;) {
        const char *comma = strchr(at, ',');
        size_t count = comma == NULL ? strlen(at) : (size_t)(comma - at);
        struct view_entry entry;
        if (!parse_view_entry(bytes_make(at, count), &entry)) {
            return settings_refuse(settings, "%s: \"%.*s\" is not a HOST:PORT[/PEERPORT]",
                                   view->source, (int)count, at);
        }
        bool is_self = strcmp(entry.address, self->address) == 0;
        is_self_there = is_self_there || is_self;
        view_add(settings, options, &entry, is_self ? self_peer_port : 0);
        at = comma == NULL ? NULL : comma + 1;
    }
    if (!is_self_there) {
        refuse_birth(options, "%s: this node's own address %s is not in \"%s\"", view->source,
                     self->address, view->text);
    }
    return TL_OK;
}

/* Without one only a node that has data can start: it knows its own. */
static void find_peer_address(struct options *options, const struct view_entry *self)
{
    uint32_t peer_port = peer_port_of(self, options->peer_listen.port);
    if (peer_port <= UINT16_MAX) {
        format_peer_address(self->address, peer_port, options->peer_address);
    }
    for (uint32_t i = 0; i < options->view_count; i++) {
        if (strcmp(options->view[i].address, options->address) == 0) {
            memcpy(options->peer_address, options->view[i].peer_address,
                   sizeof options->peer_address);
        }
    }
    TL_ASSERT(options->peer_address[0] != '\0' || options->birth_refusal[0] != '\0');
}

static bool is_same(const struct address *a, const struct address *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* HTTP and the peers need a port each. */
static enum tl_err check_ports(struct settings *settings, struct options *options)
{
    const struct setting *peer_listen = &settings->all[SETTING_PEER_LISTEN];
    struct address peers;
    if (peer_listen->text != NULL && is_same(&options->listen, &options->peer_listen)) {
        return settings_refuse(settings, "%s: %s is where this node listens for HTTP",
                               peer_listen->source, peer_listen->text);
    }
    if (peer_listen->text == NULL &&
        address_parse(bytes_of(options->peer_address), &peers) == TL_OK &&
        is_same(&options->listen, &peers)) {
        refuse_birth(options, "%s: the peers' address %s is where this node listens for HTTP",
                     settings->all[SETTING_VIEW].source, options->peer_address);
    }
    return TL_OK;
}

static enum tl_err get_addresses(struct settings *settings, struct options *options)
{
    const struct setting *address = &settings->all[SETTING_ADDRESS];
    if (address->text == NULL) {
        return settings_refuse(settings, "--address HOST:PORT is missing");
    }
    enum tl_err err = get_address(settings, SETTING_ADDRESS, &options->listen);
    if (err != TL_OK) {
        return err;
    }
    struct view_entry self = {.port = options->listen.port};
    (void)text_format(self.address, sizeof self.address, "%s", address->text);
    (void)text_format(options->address, sizeof options->address, "%s", address->text);
    if (settings->all[SETTING_PEER_LISTEN].text != NULL) {
        err = get_address(settings, SETTING_PEER_LISTEN, &options->peer_listen);
    }
    if (err == TL_OK) {
        err = get_view(settings, options, &self, options->peer_listen.port);
    }
    if (err != TL_OK) {
        return err;
    }
    find_peer_address(options, &self);
    if (settings->all[SETTING_LISTEN].text != NULL) {
        err = get_address(settings, SETTING_LISTEN, &options->listen);
    }
    return err == TL_OK ? check_ports(settings, options) : err;
}

static enum tl_err get_join(struct settings *settings, struct options *options)
{
    const struct setting *join = &settings->all[SETTING_JOIN];
    if (join->text == NULL) {
        return TL_OK;
    }
    if (settings->all[SETTING_VIEW].text != NULL) {
        refuse_birth(options, "%s: a node that joins takes no view (%s)", join->source,
                     settings->all[SETTING_VIEW].source);
    }
    struct member *member = &options->join;
    if (address_parse_node(bytes_of(join->text), member->address, member->peer_address,
                           sizeof member->address) != TL_OK) {
        return settings_refuse(settings, "%s: \"%s\" is not a HOST:PORT[/PEERPORT]", join->source,
                               join->text);
    }
    if (member->peer_address[0] == '\0') {
        refuse_birth(options, "%s: %s + %u is no port: name the peer port, HOST:PORT/PEERPORT",
                     join->source, member->address, ADDRESS_PEER_PORT_OFFSET);
        return TL_OK;
    }
    if (strcmp(member->address, options->address) == 0) {
        refuse_birth(options, "%s: %s is this node's own address", join->source, join->text);
    }
    options->has_join = true;
    return TL_OK;
}

/* ---- the rest ---- */

static enum tl_err get_data_dir(struct settings *settings, struct options *options)
{
    const struct setting *dir = &settings->all[SETTING_DATA_DIR];
    if (dir->text == NULL) {
        struct address address;
        enum tl_err err = address_parse(bytes_of(options->address), &address);
        TL_ASSERT(err == TL_OK);
        (void)text_format(options->data_dir, sizeof options->data_dir, "./data/%s_%u", address.host,
                          (unsigned)address.port);
        return TL_OK;
    }
    /* The longest name below it is DIR/kv.<group>.<n>/data.mdb. */
    if (dir->text[0] == '\0' || strlen(dir->text) > sizeof options->data_dir - 64) {
        return settings_refuse(settings, "%s: empty or too long", dir->source);
    }
    (void)text_format(options->data_dir, sizeof options->data_dir, "%s", dir->text);
    return TL_OK;
}

static enum tl_err get_words(struct settings *settings, struct options *options)
{
    const struct setting *format = &settings->all[SETTING_LOG_FORMAT];
    options->is_log_json = format->text != NULL && strcmp(format->text, "json") == 0;
    if (format->text != NULL && !options->is_log_json && strcmp(format->text, "text") != 0) {
        return settings_refuse(settings, "%s: \"%s\" is neither text nor json", format->source,
                               format->text);
    }
    const struct setting *any_fs = &settings->all[SETTING_ALLOW_ANY_FS];
    options->allow_any_fs = any_fs->text != NULL && strcmp(any_fs->text, "yes") == 0;
    if (any_fs->text != NULL && !options->allow_any_fs && strcmp(any_fs->text, "no") != 0) {
        return settings_refuse(settings, "%s: \"%s\" is neither yes nor no", any_fs->source,
                               any_fs->text);
    }
    return TL_OK;
}

static enum tl_err get_limits(struct settings *settings, struct options *options)
{
    uint64_t table_map_bytes = 0;
    uint64_t value_bytes_max = 0;
    enum tl_err err = get_size(settings, SETTING_LOG_RETAIN, LOG_RETAIN_DEFAULT, 0, LOG_RETAIN_MAX,
                               &options->log_retain_bytes);
    if (err == TL_OK) {
        err = get_size(settings, SETTING_MAP_SIZE, TABLE_MAP_DEFAULT, TABLE_MAP_MIN, TABLE_MAP_MAX,
                       &table_map_bytes);
    }
    if (err == TL_OK) {
        err = get_size(settings, SETTING_MAX_VALUE_SIZE, MIB, 1, OPTIONS_VALUE_BYTES_MAX,
                       &value_bytes_max);
    }
    if (err == TL_OK) {
        err = get_time(settings, SETTING_REQUEST_TIMEOUT, 5000000000u, 10000000u, 3600000000000u,
                       &options->request_timeout_ns);
    }
    if (err == TL_OK) {
        err = get_count(settings, SETTING_IDEMPOTENCY_RECORDS, IDEMPOTENCY_RECORDS_DEFAULT, 1,
                        IDEMPOTENCY_RECORDS_MAX, &options->idempotency_records);
    }
    options->log_map_bytes = LOG_MAP_BYTES;
    options->table_map_bytes = table_map_bytes & ~(size_t)0xffff; /* whole pages of any machine */
    options->map_headroom_bytes = MAP_HEADROOM_BYTES;
    options->value_bytes_max = (uint32_t)value_bytes_max;
    return err == TL_OK ? check_records(settings, options) : err;
}

enum tl_err options_parse(int argc, char **argv, char *const *environment,
                          struct options *out_options, char out_message[OPTIONS_MESSAGE_BYTES])
{
    struct settings settings = {.message = out_message};
    struct options options = {.view_count = 0};
    out_message[0] = '\0';
    enum tl_err err = settings_collect(&settings, argc, argv, environment);
    if (err == TL_OK) {
        err = check_refused(&settings);
    }
    if (err == TL_OK) {
        err = get_addresses(&settings, &options);
    }
    if (err == TL_OK) {
        err = get_join(&settings, &options);
    }
    if (err == TL_OK) {
        err = get_data_dir(&settings, &options);
    }
    if (err == TL_OK) {
        err = get_words(&settings, &options);
    }
    if (err == TL_OK) {
        err = get_limits(&settings, &options);
    }
    settings_clear(&settings);
    TL_ASSERT((err == TL_OK) == (out_message[0] == '\0'));
    if (err == TL_OK) {
        *out_options = options;
    }
    return err;
}
