noinst_LIBRARIES += libhttp.a
libhttp_a_SOURCES = src/http/admin.c src/http/cluster.c src/http/describe.c src/http/exchange.c \
    src/http/failure.c src/http/health.c src/http/items.c src/http/json.c \
    src/http/json_reader.c src/http/keys.c src/http/kv.c src/http/leader.c src/http/log.c \
    src/http/members.c src/http/metrics.c src/http/operation.c src/http/parse.c \
    src/http/respond.c src/http/router.c src/http/scan.c src/http/server.c src/http/text.c \
    src/http/txn.c src/http/txn_parse.c src/http/json_reader.h src/http/txn_parse.h \
    src/http/failure.h src/http/http_internal.h src/http/json.h src/http/parse.h src/http/text.h \
    include/trilith/http_server.h
libhttp_a_CPPFLAGS = $(AM_CPPFLAGS) $(H2O_CFLAGS) $(UV_CFLAGS) $(JANSSON_CFLAGS)
EXTRA_DIST += docs/api.md docs/api_description.yml

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_http
tests_unit_test_http_SOURCES = tests/unit/test_http_failure.c tests/unit/test_http_json.c tests/unit/test_http_keys.c \
    tests/unit/test_http_json_reader.c tests/unit/test_http_kv.c tests/unit/test_http_leader.c \
    tests/unit/test_http_log.c tests/unit/test_http_members.c tests/unit/test_http_parse.c \
    tests/unit/test_http_scan.c tests/unit/test_http_server.c tests/unit/test_http_text.c \
    tests/unit/test_http_txn.c tests/unit/fake_node.c tests/unit/http_client.c \
    tests/unit/fake_node.h tests/unit/http_client.h
tests_unit_test_http_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir) $(H2O_CFLAGS) $(UV_CFLAGS) \
    $(JANSSON_CFLAGS) $(CRITERION_CFLAGS)
tests_unit_test_http_LDADD = libhttp.a libnet.a libwire.a libbase.a $(H2O_LIBS) $(UV_LIBS) \
    $(JANSSON_LIBS) $(XXHASH_LIBS) $(CRITERION_LIBS)
endif
