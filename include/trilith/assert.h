/* assert.h - assertions that stay on in every build, and the small macros of ownership.
 *
 * Role:       TL_ASSERT stops the process when only a bug of ours can explain what is seen. Bytes
 *             from a disk, peer, client, option or clock are never asserted: they get an error.
 * Thread:     any.
 */

#ifndef TL_ASSERT_H
#define TL_ASSERT_H

#include <stddef.h>
#include <stdint.h>

_Noreturn void tl_assert_failed(const char *condition, const char *file, int line,
                                const char *function);

/* Independent of NDEBUG, always on. */
#define TL_ASSERT(condition)                                            \
    do {                                                                \
        if (__builtin_expect(!(condition), 0)) {                        \
            tl_assert_failed(#condition, __FILE__, __LINE__, __func__); \
        }                                                               \
    } while (0)

/* Checks too slow for production; compiled in by --enable-verify. The condition is always
 * compiled, so that it cannot rot. */
#ifdef TL_VERIFY
#define TL_ASSERT_SLOW(condition) TL_ASSERT(condition)
#else
#define TL_ASSERT_SLOW(condition)    \
    do {                             \
        if (0) TL_ASSERT(condition); \
    } while (0)
#endif

/* Moves a pointer out of its place: the source is NULL afterwards. */
#define TL_TAKE(pointer_address)                                    \
    __extension__({                                                 \
        __typeof__(*(pointer_address)) taken_ = *(pointer_address); \
        *(pointer_address) = NULL;                                  \
        taken_;                                                     \
    })

/* Gets a struct back from the void pointer it travelled through. The struct starts with
 * `uint32_t magic`. */
#define TL_CAST(type, pointer, magic_expected)       \
    __extension__({                                  \
        struct type *cast_ = (pointer);              \
        TL_ASSERT(cast_ != NULL);                    \
        TL_ASSERT(cast_->magic == (magic_expected)); \
        cast_;                                       \
    })

#define TL_CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define TL_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define TL_MIN(a, b) ((a) < (b) ? (a) : (b))
#define TL_MAX(a, b) ((a) > (b) ? (a) : (b))

#define TL_MUST_CHECK __attribute__((warn_unused_result))

#endif
