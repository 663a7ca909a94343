lib_LIBRARIES += libtrilith.a
libtrilith_a_SOURCES = src/client/client.c src/client/client_names.c src/client/client_ops.c \
    src/client/client_internal.h
libtrilith_a_CPPFLAGS = $(AM_CPPFLAGS) $(CURL_CFLAGS) $(JANSSON_CFLAGS)
pkginclude_HEADERS += include/trilith/client.h

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_client
tests_unit_test_client_SOURCES = tests/unit/test_client.c tests/unit/net_names.c \
    tests/unit/net_names.h
tests_unit_test_client_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/src/client $(CRITERION_CFLAGS)
tests_unit_test_client_LDADD = libtrilith.a libbase.a $(CURL_LIBS) $(JANSSON_LIBS) \
    $(CRITERION_LIBS) -lpthread
endif
