/* genesis.c - identities, genesis and birth notes: src/wire/FORMAT.md 6. */

#include "trilith/genesis.h"

#define GENESIS_FORMAT 1u
#define GENESIS_HEAD_BYTES 40u
#define BIRTH_FORMAT 1u
#define BIRTH_HEAD_BYTES 56u

bool store_id_is_zero(const struct store_id *id)
{
    const struct store_id zero = {{0}};
    return store_id_equal(id, &zero);
}

int store_id_compare(const struct store_id *a, const struct store_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

static void format_hex(const uint8_t *bytes, size_t count, char *out_text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        out_text[2 * i] = digits[bytes[i] >> 4];
        out_text[2 * i + 1] = digits[bytes[i] & 15];
    }
    out_text[2 * count] = 0;
}

void store_id_format(const struct store_id *id, char out_text[HASH_TEXT_BYTES])
{
    format_hex(id->bytes, sizeof id->bytes, out_text);
}

raft_id store_id_raft(const struct store_id *id)
{
    return get_u64(id->bytes);
}

void raft_id_format(raft_id id, char out_text[RAFT_ID_TEXT_BYTES])
{
    uint8_t bytes[sizeof id];
    put_u64(bytes, id);
    format_hex(bytes, sizeof bytes, out_text);
}

void store_id_write(struct buf *buf, const struct store_id *id)
{
    write_bytes(buf, bytes_make(id->bytes, sizeof id->bytes));
}

void store_id_read(struct reader *reader, struct store_id *out_id)
{
    struct bytes source = read_bytes(reader, sizeof out_id->bytes);
    if (source.count == sizeof out_id->bytes) {
        memcpy(out_id->bytes, source.data, sizeof out_id->bytes);
    }
}

bool address_read(struct reader *reader, char out_address[ADDRESS_BYTES_MAX])
{
    struct bytes text = read_block(reader);
    if (text.count == 0 || text.count >= ADDRESS_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < text.count; i++) {
        if (text.data[i] < 0x21 || text.data[i] > 0x7e) {
            return false;
        }
    }
    memcpy(out_address, text.data, text.count);
    memset(out_address + text.count, 0, ADDRESS_BYTES_MAX - text.count);
    return true;
}

static bool members_are_distinct(const struct member *a, const struct member *b)
{
    return store_id_raft(&a->store_id) != store_id_raft(&b->store_id) &&
           strcmp(a->address, b->address) != 0 && strcmp(a->peer_address, b->peer_address) != 0;
}

static bool genesis_is_right(const struct genesis *genesis)
{
    if (genesis->groups_count < 2 || genesis->groups_count > GENESIS_GROUPS_MAX ||
        genesis->time_us > GENESIS_TIME_MAX_US || store_id_is_zero(&genesis->cluster_id)) {
        return false;
    }
    if (genesis->members_count < 1 || genesis->members_count > RAFT_MEMBERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < genesis->members_count; i++) {
        if (store_id_raft(&genesis->members[i].store_id) == RAFT_ID_NONE) {
            return false;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (!members_are_distinct(&genesis->members[i], &genesis->members[j])) {
                return false;
            }
        }
    }
    return true;
}

struct buf *genesis_encode(const struct genesis *genesis)
{
    TL_ASSERT(genesis_is_right(genesis));
    size_t bytes = GENESIS_HEAD_BYTES;
    for (uint32_t i = 0; i < genesis->members_count; i++) {
        const struct member *member = &genesis->members[i];
        bytes += sizeof member->store_id + 4 + strlen(member->address) + 4 +
                 strlen(member->peer_address);
    }
    struct buf *entry = entry_create(ENTRY_GENESIS, bytes);
    entry->count = ENTRY_HEADER_BYTES;
    write_u8(entry, GENESIS_FORMAT);
    write_u8(entry, 0);
    write_u16(entry, 0);
    write_u32(entry, genesis->groups_count);
    write_u32(entry, genesis->members_count);
    write_u32(entry, 0);
    store_id_write(entry, &genesis->cluster_id);
    write_u64(entry, genesis->time_us);
    for (uint32_t i = 0; i < genesis->members_count; i++) {
        const struct member *member = &genesis->members[i];
        store_id_write(entry, &member->store_id);
        write_block(entry, bytes_of(member->address));
        write_block(entry, bytes_of(member->peer_address));
    }
    TL_ASSERT(entry->count == entry->capacity);
    return entry;
}

struct buf *genesis_entry(const struct genesis *genesis, raft_group group)
{
    TL_ASSERT(group < genesis->groups_count);
    struct buf *entry = genesis_encode(genesis);
    struct entry_header header = {
        .group = group, .index = 1, .term = 1, .time_us = genesis->time_us};
    entry_seal(entry, (struct hash128){0, 0}, &header);
    return entry;
}

enum tl_err genesis_decode(struct bytes payload, struct genesis *out_genesis)
{
    struct reader reader = reader_make(payload);
    struct genesis genesis = {.time_us = 0};
    uint8_t format = read_u8(&reader);
    uint8_t zero_1 = read_u8(&reader);
    uint16_t zero_2 = read_u16(&reader);
    genesis.groups_count = read_u32(&reader);
    genesis.members_count = read_u32(&reader);
    uint32_t zero_12 = read_u32(&reader);
    store_id_read(&reader, &genesis.cluster_id);
    genesis.time_us = read_u64(&reader);
    if (reader.failed || format != GENESIS_FORMAT || zero_1 != 0 || zero_2 != 0 || zero_12 != 0) {
        return TL_ERR_INVALID;
    }
    if (genesis.members_count > RAFT_MEMBERS_MAX) {
        return TL_ERR_INVALID;
    }
    for (uint32_t i = 0; i < genesis.members_count; i++) {
        struct member *member = &genesis.members[i];
        store_id_read(&reader, &member->store_id);
        if (!address_read(&reader, member->address) ||
            !address_read(&reader, member->peer_address)) {
            return TL_ERR_INVALID;
        }
    }
    if (!reader_is_done(&reader) || !genesis_is_right(&genesis)) {
        return TL_ERR_INVALID;
    }
    *out_genesis = genesis;
    return TL_OK;
}

struct buf *birth_note_encode(const struct birth_note *note)
{
    TL_ASSERT(note->placement.count <= ENTRY_PAYLOAD_BYTES_MAX);
    size_t address_bytes = strlen(note->address);
    size_t peer_address_bytes = strlen(note->peer_address);
    struct buf *buf = buf_create(BIRTH_HEAD_BYTES + 4 + address_bytes + 4 + peer_address_bytes + 4 +
                                 note->placement.count);
    uint8_t view_hash[HASH_BYTES];
    hash_put(view_hash, note->view_hash);
    write_u8(buf, BIRTH_FORMAT);
    write_u8(buf, (uint8_t)note->word);
    write_u16(buf, 0);
    write_u32(buf, 0);
    store_id_write(buf, &note->store_id);
    store_id_write(buf, &note->cluster_id);
    write_bytes(buf, bytes_make(view_hash, sizeof view_hash));
    write_block(buf, bytes_make(note->address, address_bytes));
    write_block(buf, bytes_make(note->peer_address, peer_address_bytes));
    write_block(buf, note->placement);
    TL_ASSERT(buf->count == buf->capacity);
    return buf;
}

enum tl_err birth_note_decode(struct bytes source, struct birth_note *out_note)
{
    struct reader reader = reader_make(source);
    struct birth_note note = {.placement = bytes_make(NULL, 0)};
    uint8_t format = read_u8(&reader);
    note.word = (enum birth_word)read_u8(&reader);
    uint16_t zero_2 = read_u16(&reader);
    uint32_t zero_4 = read_u32(&reader);
    store_id_read(&reader, &note.store_id);
    store_id_read(&reader, &note.cluster_id);
    struct bytes view_hash = read_bytes(&reader, HASH_BYTES);
    if (reader.failed || format != BIRTH_FORMAT || zero_2 != 0 || zero_4 != 0 ||
        note.word > BIRTH_WORD_LAST) {
        return TL_ERR_INVALID;
    }
    note.view_hash = hash_get(view_hash.data);
    if (!address_read(&reader, note.address) || !address_read(&reader, note.peer_address)) {
        return TL_ERR_INVALID;
    }
    note.placement = read_block(&reader);
    if (!reader_is_done(&reader) || store_id_raft(&note.store_id) == RAFT_ID_NONE) {
        return TL_ERR_INVALID;
    }
    *out_note = note;
    return TL_OK;
}
