bin_PROGRAMS += trilithd
dist_man_MANS += docs/trilithd.8
dist_bashcompletion_DATA += scripts/completions/trilithd
trilithd_SOURCES = src/trilithd/main.c src/trilithd/options.c src/trilithd/settings.c \
    src/trilithd/options.h src/trilithd/options_internal.h
trilithd_CPPFLAGS = $(AM_CPPFLAGS) $(UV_CFLAGS) $(INIH_CFLAGS)
trilithd_LDADD = libhttp.a libnet.a libnode.a libkv.a libstore.a libraft.a libwire.a libbase.a \
    $(H2O_LIBS) $(UV_LIBS) $(LMDB_LIBS) $(JANSSON_LIBS) $(XXHASH_LIBS) $(INIH_LIBS) -lpthread -lm

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_options
tests_unit_test_options_SOURCES = tests/unit/test_options.c src/trilithd/options.c \
    src/trilithd/settings.c
tests_unit_test_options_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/src/trilithd \
    $(INIH_CFLAGS) $(CRITERION_CFLAGS)
tests_unit_test_options_LDADD = libbase.a $(INIH_LIBS) $(XXHASH_LIBS) $(CRITERION_LIBS)
endif
