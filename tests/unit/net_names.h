/* net_names.h - names that a test resolves as it likes.
 *
 * A getaddrinfo() of this program in front of the C library's: names that end in ".test" are the
 * test's, all others the system's. */

#ifndef TL_TEST_NET_NAMES_H
#define TL_TEST_NET_NAMES_H

#include "trilith/codec.h"

#define NAMES_ADDRESSES_MAX 16u

/* Back to the beginning: no name is known, look-ups end at once. */
void names_reset(void);
/* Literals in order, divided by spaces; "" : the name does not resolve. Eight names at most. */
void names_set(const char *name, const char *addresses);
/* Look-ups of these names take so long, from now on. */
void names_set_delay(const char *name, uint32_t ms);
/* Look-ups of all names wait ... */
void names_hold(void);
/* ... until this. */
void names_release(void);
/* Look-ups begun, of this name. */
uint32_t names_count(const char *name);

#endif
