/* digest_report.c - digests of states at applied indexes: src/wire/FORMAT.md 7. */

#include "trilith/digest_report.h"

#define HEAD_BYTES 8u
#define POINT_BYTES (8u + HASH_BYTES)

size_t digest_report_bytes(uint32_t points_count)
{
    return HEAD_BYTES + (size_t)points_count * POINT_BYTES;
}

void digest_report_encode(const struct digest_report *report, struct buf *frame)
{
    TL_ASSERT(report->points_count >= 1);
    TL_ASSERT(report->points_count <= DIGEST_POINTS_MAX);
    write_u32(frame, report->group);
    write_u32(frame, report->points_count);
    for (uint32_t i = 0; i < report->points_count; i++) {
        uint8_t digest[HASH_BYTES];
        hash_put(digest, report->points[i].digest);
        write_u64(frame, report->points[i].index);
        write_bytes(frame, bytes_make(digest, sizeof digest));
    }
}

enum tl_err digest_report_decode(struct reader *reader, struct digest_report *out_report)
{
    struct digest_report report = {.group = read_u32(reader)};
    report.points_count = read_u32(reader);
    if (reader->failed || report.points_count < 1 || report.points_count > DIGEST_POINTS_MAX) {
        return TL_ERR_INVALID;
    }
    raft_index previous = 0;
    for (uint32_t i = 0; i < report.points_count; i++) {
        struct digest_point *point = &report.points[i];
        point->index = read_u64(reader);
        struct bytes digest = read_bytes(reader, HASH_BYTES);
        if (reader->failed || point->index <= previous || point->index > RAFT_NUMBER_MAX) {
            return TL_ERR_INVALID;
        }
        point->digest = hash_get(digest.data);
        previous = point->index;
    }
    *out_report = report;
    return TL_OK;
}
