/* conf_entry.c - configurations in the log: src/wire/FORMAT.md 8. */

#include "trilith/conf_entry.h"

#include "trilith/genesis.h"

#define CONF_FORMAT 1u
#define CONF_KIND 1u /* a genesis payload has 0 here */
#define CONF_HEAD_BYTES 16u

/* Adds the ids of a part to `seen`, each once; false: one is 0, or twice in the part, or it is one
 * id too many. */
static bool add_part(const raft_id *ids, uint32_t ids_count, raft_id seen[RAFT_MEMBERS_MAX],
                     uint32_t *seen_count)
{
    if (ids_count > RAFT_MEMBERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < ids_count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (ids[k] == ids[i]) {
                return false;
            }
        }
        uint32_t at = 0;
        while (at < *seen_count && seen[at] != ids[i]) at++;
        if (ids[i] == RAFT_ID_NONE || at == RAFT_MEMBERS_MAX) {
            return false;
        }
        seen[at] = ids[i];
        *seen_count = TL_MAX(*seen_count, at + 1);
    }
    return true;
}

bool raft_conf_is_right(const struct raft_conf *conf)
{
    raft_id seen[RAFT_MEMBERS_MAX];
    uint32_t seen_count = 0;
    if (conf->voters_count == 0 || !add_part(conf->voters, conf->voters_count, seen, &seen_count) ||
        !add_part(conf->outgoing, conf->outgoing_count, seen, &seen_count) ||
        !add_part(conf->learners, conf->learners_count, seen, &seen_count)) {
        return false;
    }
    for (uint32_t i = 0; i < conf->learners_count; i++) {
        for (uint32_t k = 0; k < conf->voters_count; k++) {
            if (conf->learners[i] == conf->voters[k]) {
                return false;
            }
        }
    }
    return true;
}

struct buf *conf_entry_create(const struct raft_conf *conf)
{
    TL_ASSERT(raft_conf_is_right(conf));
    uint32_t ids_count = conf->voters_count + conf->outgoing_count + conf->learners_count;
    struct buf *entry = entry_create(ENTRY_CONF, CONF_HEAD_BYTES + 8u * ids_count);
    entry->count = ENTRY_HEADER_BYTES;
    write_u8(entry, CONF_FORMAT);
    write_u8(entry, CONF_KIND);
    write_u8(entry, (uint8_t)conf->voters_count);
    write_u8(entry, (uint8_t)conf->outgoing_count);
    write_u8(entry, (uint8_t)conf->learners_count);
    write_u8(entry, 0);
    write_u16(entry, 0);
    write_u64(entry, conf->epoch);
    for (uint32_t i = 0; i < conf->voters_count; i++) write_u64(entry, conf->voters[i]);
    for (uint32_t i = 0; i < conf->outgoing_count; i++) write_u64(entry, conf->outgoing[i]);
    for (uint32_t i = 0; i < conf->learners_count; i++) write_u64(entry, conf->learners[i]);
    return entry;
}

static enum tl_err decode_conf(struct bytes payload, struct raft_conf *out_conf)
{
    struct reader reader = reader_make(payload);
    (void)read_u16(&reader); /* format and kind */
    struct raft_conf conf = {.voters_count = read_u8(&reader)};
    conf.outgoing_count = read_u8(&reader);
    conf.learners_count = read_u8(&reader);
    uint8_t zero_8 = read_u8(&reader);
    uint16_t zero_16 = read_u16(&reader);
    conf.epoch = read_u64(&reader);
    if (reader.failed || zero_8 != 0 || zero_16 != 0 || conf.voters_count > RAFT_MEMBERS_MAX ||
        conf.outgoing_count > RAFT_MEMBERS_MAX || conf.learners_count > RAFT_MEMBERS_MAX) {
        return TL_ERR_INVALID;
    }
    for (uint32_t i = 0; i < conf.voters_count; i++) conf.voters[i] = read_u64(&reader);
    for (uint32_t i = 0; i < conf.outgoing_count; i++) conf.outgoing[i] = read_u64(&reader);
    for (uint32_t i = 0; i < conf.learners_count; i++) conf.learners[i] = read_u64(&reader);
    if (!reader_is_done(&reader) || !raft_conf_is_right(&conf)) {
        return TL_ERR_INVALID;
    }
    *out_conf = conf;
    return TL_OK;
}

static enum tl_err decode_genesis(struct bytes payload, struct raft_conf *out_conf)
{
    struct genesis genesis;
    enum tl_err err = genesis_decode(payload, &genesis);
    if (err != TL_OK) {
        return err;
    }
    struct raft_conf conf = {.voters_count = genesis.members_count};
    for (uint32_t i = 0; i < genesis.members_count; i++) {
        conf.voters[i] = store_id_raft(&genesis.members[i].store_id);
    }
    TL_ASSERT(raft_conf_is_right(&conf));
    *out_conf = conf;
    return TL_OK;
}

enum tl_err conf_payload_decode(struct bytes payload, struct raft_conf *out_conf)
{
    bool is_conf =
        payload.count >= 2 && payload.data[0] == CONF_FORMAT && payload.data[1] == CONF_KIND;
    return is_conf ? decode_conf(payload, out_conf) : decode_genesis(payload, out_conf);
}
