# store: the Raft log and the data directory
libstore_a_SOURCES += src/store/data_dir.c src/store/data_dir_tables.c \
    src/store/log_store.c src/store/log_store_commit.c \
    src/store/log_store_file.c src/store/log_store_install.c src/store/log_store_internal.h \
    src/store/log_store_read.c src/store/log_store_record.c src/store/log_store_verify.c \
    include/trilith/data_dir.h include/trilith/log_store.h
EXTRA_DIST += src/store/FORMAT.md

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_log_store
tests_unit_test_log_store_SOURCES = tests/unit/test_log_store.c tests/unit/test_log_store_damage.c \
    tests/unit/test_log_store_fault.c tests/unit/test_log_store_install.c tests/unit/test_data_dir.c \
    tests/unit/log_store_fixture.c tests/unit/log_store_fixture.h tests/lib/log_entries.c \
    tests/lib/log_entries.h tests/lib/lmdb_fault.c tests/lib/lmdb_fault.h tests/lib/sys_fault.c \
    tests/lib/sys_fault.h tests/lib/tmpdir.c tests/lib/tmpdir.h
tests_unit_test_log_store_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib $(LMDB_CFLAGS) \
    $(CRITERION_CFLAGS)
tests_unit_test_log_store_LDADD = libstore.a libwire.a libbase.a $(LMDB_LIBS) $(CRITERION_LIBS)
tests_unit_test_log_store_LDFLAGS = $(LMDB_FAULT_WRAPS) $(SYS_FAULT_WRAPS)
endif
