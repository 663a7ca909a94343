# store: snapshots, cut from a table and staged beside one
libstore_a_SOURCES += src/store/snapshot_cut.c src/store/snapshot_stage.c src/store/spool.c \
    src/store/spool.h src/store/table_builder.c src/store/table_builder.h \
    include/trilith/snapshot.h

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_snapshot
tests_unit_test_snapshot_SOURCES = tests/unit/test_snapshot.c tests/unit/test_table_verify.c \
    tests/lib/full_table.c tests/lib/full_table.h tests/lib/lmdb_fault.c tests/lib/lmdb_fault.h \
    tests/lib/sys_fault.c tests/lib/sys_fault.h tests/lib/tmpdir.c tests/lib/tmpdir.h
tests_unit_test_snapshot_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib $(LMDB_CFLAGS) \
    $(CRITERION_CFLAGS)
tests_unit_test_snapshot_LDADD = libstore.a libwire.a libbase.a $(LMDB_LIBS) $(XXHASH_LIBS) \
    $(CRITERION_LIBS)
tests_unit_test_snapshot_LDFLAGS = $(LMDB_FAULT_WRAPS) $(SYS_FAULT_WRAPS)

check_PROGRAMS += tests/unit/test_store_durable
tests_unit_test_store_durable_SOURCES = tests/unit/test_store_durable.c \
    tests/unit/log_store_fixture.c tests/unit/log_store_fixture.h tests/lib/full_table.c \
    tests/lib/full_table.h tests/lib/log_entries.c tests/lib/log_entries.h tests/lib/rows.c \
    tests/lib/rows.h tests/lib/sync_trace.c tests/lib/sync_trace.h tests/lib/tmpdir.c \
    tests/lib/tmpdir.h
tests_unit_test_store_durable_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib $(LMDB_CFLAGS) \
    $(CRITERION_CFLAGS)
# sync_trace.c defines functions of the C library: no prototype of it is in force for open().
tests_unit_test_store_durable_CFLAGS = $(AM_CFLAGS) -Wno-missing-prototypes -Wno-pedantic
tests_unit_test_store_durable_LDADD = libstore.a libwire.a libbase.a $(LMDB_LIBS) $(XXHASH_LIBS) \
    $(CRITERION_LIBS) -ldl
endif
