/* json.h - JSON bodies: whether they are JSON, and what they hold.
 *
 * Role:       json_is_valid() judges a value that is stored byte for byte; json_parse() loads a
 *             request that is made of JSON.
 * Thread:     pure.
 */

#ifndef TL_HTTP_JSON_H
#define TL_HTTP_JSON_H

#include "trilith/buf.h"

#define JSON_DEPTH_MAX 2048u

/* Whether the bytes are one JSON text (RFC 8259) of any kind, in UTF-8, without unpaired
 * surrogates, nested at most JSON_DEPTH_MAX deep. Numbers are not interpreted. One pass, no
 * allocation: loading a megabyte takes jansson tens of milliseconds, in which the loop would
 * stand still. */
bool json_is_valid(struct bytes text);

/* Whether a text that passed json_is_valid() is an array of strings. */
bool json_is_string_list(struct bytes json);

/* Loads one JSON text of any kind; NULL when it is none. The caller gives the reference back. */
struct json_t;
struct json_t *json_parse(struct bytes text);

#endif
