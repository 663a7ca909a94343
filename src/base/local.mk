noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = src/base/address.c src/base/assert.c src/base/buf.c src/base/codec.c \
    src/base/crash_point.c src/base/error.c src/base/hash.c src/base/histogram.c src/base/log.c \
    src/base/prng.c src/base/std_streams.c include/trilith/address.h include/trilith/assert.h \
    include/trilith/buf.h include/trilith/codec.h include/trilith/crash_point.h \
    include/trilith/error.h include/trilith/hash.h include/trilith/histogram.h \
    include/trilith/log.h include/trilith/prng.h include/trilith/std_streams.h

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_base
tests_unit_test_base_SOURCES = tests/unit/test_codec.c tests/unit/test_hash.c \
    tests/unit/test_histogram.c tests/unit/test_buf.c tests/unit/test_address.c \
    tests/unit/test_crash_point.c tests/unit/test_error.c tests/unit/test_log.c \
    tests/unit/test_std_streams.c
tests_unit_test_base_CPPFLAGS = $(AM_CPPFLAGS) $(CRITERION_CFLAGS)
tests_unit_test_base_LDADD = libbase.a $(CRITERION_LIBS)
endif
