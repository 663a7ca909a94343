/* raft_conf.c - membership and quorums, of simple and joint configurations (thesis 4.3). */

#include "raft_internal.h"

static bool contains(const raft_id *ids, uint32_t ids_count, raft_id id)
{
    TL_ASSERT(ids_count <= RAFT_MEMBERS_MAX);
    for (uint32_t i = 0; i < ids_count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

bool raft_conf_is_incoming(const struct raft_conf *conf, raft_id id)
{
    return contains(conf->voters, conf->voters_count, id);
}

bool raft_conf_is_voter(const struct raft_conf *conf, raft_id id)
{
    return contains(conf->voters, conf->voters_count, id) ||
           contains(conf->outgoing, conf->outgoing_count, id);
}

bool raft_conf_is_member(const struct raft_conf *conf, raft_id id)
{
    return raft_conf_is_voter(conf, id) || contains(conf->learners, conf->learners_count, id);
}

static bool half_has_majority(const raft_id *ids, uint32_t ids_count,
                              bool (*holds)(const void *, raft_id), const void *context)
{
    TL_ASSERT(ids_count <= RAFT_MEMBERS_MAX);
    uint32_t held_count = 0;
    for (uint32_t i = 0; i < ids_count; i++) {
        held_count += holds(context, ids[i]);
    }
    return held_count > ids_count / 2;
}

bool raft_conf_has_quorum(const struct raft_conf *conf, bool (*holds)(const void *, raft_id),
                          const void *context)
{
    /* No voters: nobody has decided anything yet, so nothing may be decided. */
    if (!half_has_majority(conf->voters, conf->voters_count, holds, context)) {
        return false;
    }
    return conf->outgoing_count == 0 ||
           half_has_majority(conf->outgoing, conf->outgoing_count, holds, context);
}

static raft_index half_quorum_index(const raft_id *ids, uint32_t ids_count,
                                    raft_index (*match)(const void *, raft_id), const void *context)
{
    TL_ASSERT(ids_count <= RAFT_MEMBERS_MAX);
    if (ids_count == 0) {
        return 0;
    }
    raft_index sorted[RAFT_MEMBERS_MAX]; /* descending, by insertion: at most 16 */
    for (uint32_t i = 0; i < ids_count; i++) {
        raft_index index = match(context, ids[i]);
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] < index; at--) sorted[at] = sorted[at - 1];
        sorted[at] = index;
    }
    return sorted[ids_count / 2]; /* ids_count / 2 + 1 voters have at least this */
}

raft_index raft_conf_quorum_index(const struct raft_conf *conf,
                                  raft_index (*match)(const void *, raft_id), const void *context)
{
    raft_index index = half_quorum_index(conf->voters, conf->voters_count, match, context);
    if (conf->outgoing_count == 0) {
        return index;
    }
    raft_index outgoing = half_quorum_index(conf->outgoing, conf->outgoing_count, match, context);
    return TL_MIN(index, outgoing);
}
