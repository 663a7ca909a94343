noinst_LIBRARIES += libkv.a
libkv_a_SOURCES = src/kv/kv_records.c src/kv/kv_row.c src/kv/kv_state.c src/kv/kv_txn.c \
    src/kv/kv_value.c src/kv/kv_internal.h \
    include/trilith/kv_state.h include/trilith/kv_table.h

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_kv
tests_unit_test_kv_SOURCES = tests/unit/test_kv_state.c tests/unit/test_kv_records.c \
    tests/unit/test_kv_model.c tests/unit/test_kv_txn.c tests/unit/kv_fixture.c tests/unit/kv_fixture.h
tests_unit_test_kv_CPPFLAGS = $(AM_CPPFLAGS) $(CRITERION_CFLAGS) $(JANSSON_CFLAGS)
tests_unit_test_kv_LDADD = libkv.a libwire.a libbase.a $(CRITERION_LIBS) $(JANSSON_LIBS)
endif
