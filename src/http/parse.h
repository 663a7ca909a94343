/* parse.h - what clients send, taken apart: escapes, queries, numbers, header values.
 *
 * Role:       Total functions over foreign bytes: they return false and change nothing for what
 *             is not well formed. Know neither h2o nor a request.
 * Thread:     pure.
 */

#ifndef TL_HTTP_PARSE_H
#define TL_HTTP_PARSE_H

#include "trilith/node.h"

/* Its value; -1 for a byte that is none. */
int hex_digit(uint8_t byte);

/* Decodes %XX once; '+' stays as it is. out_bytes has room for source.count and may be the
 * source. False: a '%' without two hex digits behind it. */
bool percent_decode(struct bytes source, uint8_t *out_bytes, size_t *out_count);

/* Decodes standard base64 with its padding (RFC 4648 4), strictly: no blanks, no bits left over.
 * out_bytes has room for source.count. */
bool base64_decode(struct bytes source, uint8_t *out_bytes, size_t *out_count);

struct query_param {
    const char *name;
    bool is_present;
    struct bytes value; /* decoded; of "name" and "name=": empty */
};

/* Fills the parameters a request may have from its query (what follows the '?'), values decoded
 * into scratch (query.count bytes); there '+' is a space. False: a name that is not among them,
 * one given twice, or a bad escape. */
bool query_parse(struct bytes query, uint8_t *scratch, struct query_param *params,
                 size_t params_count);

/* Decimal digits only, in range; i64 also with a leading '-'. */
bool parse_u64(struct bytes text, uint64_t *out_value);
bool parse_i64(struct bytes text, int64_t *out_value);

/* "<revision>" in double quotes; weak tags and lists are not ours. */
bool parse_etag(struct bytes text, uint64_t *out_revision);

bool parse_consistency(struct bytes text, enum node_consistency *out_consistency);

bool text_is(struct bytes text, const char *expected);
bool text_is_nocase(struct bytes text, const char *expected);

/* Whether a Content-Type names this media type; parameters and case do not matter. */
bool media_type_is(struct bytes content_type, const char *media_type);
/* type/subtype of visible characters, with or without parameters. */
bool media_type_is_valid(struct bytes content_type);

/* Bytes of the well-formed sequence at `at` (room > 0); 0 when there is none. */
size_t utf8_sequence(const uint8_t *at, size_t room);
/* Strictly: no surrogates, nothing overlong, nothing above U+10FFFF. */
bool utf8_is_valid(struct bytes text);

#endif
