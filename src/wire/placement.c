/* placement.c - the placement's encoding: src/wire/FORMAT.md 9. */

#include "trilith/placement.h"

#define PLACEMENT_FORMAT 1u
#define HEAD_BYTES 24u
#define MEMBER_HEAD_BYTES 24u

void placement_from_genesis(struct placement *placement, const struct genesis *genesis)
{
    placement->epoch = 0;
    placement->genesis = *genesis;
    placement->members_count = genesis->members_count;
    placement->removed_count = 0;
    for (uint32_t i = 0; i < genesis->members_count; i++) {
        placement->members[i] =
            (struct placement_member){.member = genesis->members[i], .role = MEMBER_VOTER};
    }
}

static bool is_removed(const struct placement *placement, raft_id id)
{
    for (uint32_t i = 0; i < placement->removed_count; i++) {
        if (placement->removed[i] == id) {
            return true;
        }
    }
    return false;
}

/* Two members may share an address, not a part of it, and not as two voters. */
static bool can_stand_together(const struct placement_member *a, const struct placement_member *b)
{
    if (store_id_raft(&a->member.store_id) == store_id_raft(&b->member.store_id)) {
        return false;
    }
    bool has_same_address = strcmp(a->member.address, b->member.address) == 0;
    if (has_same_address != (strcmp(a->member.peer_address, b->member.peer_address) == 0)) {
        return false;
    }
    return !has_same_address || a->role != MEMBER_VOTER || b->role != MEMBER_VOTER;
}

bool placement_is_right(const struct placement *placement)
{
    if (placement->members_count < 1 || placement->members_count > RAFT_MEMBERS_MAX ||
        placement->removed_count > PLACEMENT_REMOVED_MAX) {
        return false;
    }
    uint32_t voters_count = 0;
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct placement_member *member = &placement->members[i];
        raft_id id = store_id_raft(&member->member.store_id);
        if (id == RAFT_ID_NONE || is_removed(placement, id) || member->role < MEMBER_LEARNER ||
            member->role > MEMBER_LEAVING) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (!can_stand_together(member, &placement->members[k])) {
                return false;
            }
        }
        voters_count += member->role == MEMBER_VOTER;
    }
    return voters_count > 0;
}

struct buf *placement_encode(const struct placement *placement)
{
    TL_ASSERT(placement_is_right(placement));
    struct buf *genesis = genesis_encode(&placement->genesis);
    struct bytes payload =
        bytes_make(genesis->data + ENTRY_HEADER_BYTES, genesis->count - ENTRY_HEADER_BYTES);
    size_t bytes = HEAD_BYTES + 4 + payload.count + 8u * (size_t)placement->removed_count;
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct member *member = &placement->members[i].member;
        bytes += MEMBER_HEAD_BYTES + 4 + strlen(member->address) + 4 + strlen(member->peer_address);
    }
    struct buf *buf = buf_create(bytes);
    write_u8(buf, PLACEMENT_FORMAT);
    write_u8(buf, 0);
    write_u16(buf, 0);
    write_u32(buf, 0);
    write_u64(buf, placement->epoch);
    write_u32(buf, placement->members_count);
    write_u32(buf, placement->removed_count);
    write_block(buf, payload);
    buf_release(genesis);
    for (uint32_t i = 0; i < placement->members_count; i++) {
        const struct placement_member *member = &placement->members[i];
        write_u8(buf, (uint8_t)member->role);
        write_u8(buf, 0);
        write_u16(buf, 0);
        write_u32(buf, 0);
        store_id_write(buf, &member->member.store_id);
        write_block(buf, bytes_of(member->member.address));
        write_block(buf, bytes_of(member->member.peer_address));
    }
    for (uint32_t i = 0; i < placement->removed_count; i++) {
        write_u64(buf, placement->removed[i]);
    }
    TL_ASSERT(buf->count == buf->capacity);
    return buf;
}

static bool read_member(struct reader *reader, struct placement_member *out_member)
{
    out_member->role = (enum member_role)read_u8(reader);
    uint8_t zero_1 = read_u8(reader);
    uint16_t zero_2 = read_u16(reader);
    uint32_t zero_4 = read_u32(reader);
    store_id_read(reader, &out_member->member.store_id);
    return zero_1 == 0 && zero_2 == 0 && zero_4 == 0 &&
           address_read(reader, out_member->member.address) &&
           address_read(reader, out_member->member.peer_address);
}

enum tl_err placement_decode(struct bytes source, struct placement *out_placement)
{
    struct reader reader = reader_make(source);
    uint8_t format = read_u8(&reader);
    uint8_t zero_1 = read_u8(&reader);
    uint16_t zero_2 = read_u16(&reader);
    uint32_t zero_4 = read_u32(&reader);
    out_placement->epoch = read_u64(&reader);
    out_placement->members_count = read_u32(&reader);
    out_placement->removed_count = read_u32(&reader);
    struct bytes genesis = read_block(&reader);
    if (reader.failed || format != PLACEMENT_FORMAT || zero_1 != 0 || zero_2 != 0 || zero_4 != 0 ||
        out_placement->members_count > RAFT_MEMBERS_MAX ||
        out_placement->removed_count > PLACEMENT_REMOVED_MAX ||
        genesis_decode(genesis, &out_placement->genesis) != TL_OK) {
        return TL_ERR_INVALID;
    }
    for (uint32_t i = 0; i < out_placement->members_count; i++) {
        if (!read_member(&reader, &out_placement->members[i])) {
            return TL_ERR_INVALID;
        }
    }
    for (uint32_t i = 0; i < out_placement->removed_count; i++) {
        out_placement->removed[i] = read_u64(&reader);
    }
    return reader_is_done(&reader) && placement_is_right(out_placement) ? TL_OK : TL_ERR_INVALID;
}
