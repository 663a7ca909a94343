# store: the memtable, the table and what readers see of both
libstore_a_SOURCES += src/store/arena.c src/store/arena.h src/store/generation.c \
    src/store/generation_internal.h src/store/kv_table.c src/store/table.c \
    src/store/table_delete.c src/store/table_internal.h src/store/table_sums.c \
    src/store/table_sums.h src/store/table_verify.c src/store/view.c src/store/view_internal.h src/store/view_walk.c \
    include/trilith/generation.h include/trilith/kv_table.h include/trilith/table.h \
    include/trilith/view.h

check_PROGRAMS += tests/unit/test_view_threads
tests_unit_test_view_threads_SOURCES = tests/unit/test_view_threads.c tests/lib/rows.c \
    tests/lib/rows.h tests/lib/tmpdir.c tests/lib/tmpdir.h
tests_unit_test_view_threads_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib
tests_unit_test_view_threads_LDADD = libstore.a libwire.a libbase.a $(LMDB_LIBS) $(XXHASH_LIBS)

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_memtable
tests_unit_test_memtable_SOURCES = tests/unit/test_generation.c tests/unit/test_kv_table.c \
    tests/unit/test_table.c tests/unit/test_view.c tests/unit/test_view_install.c \
    tests/lib/rows.c tests/lib/rows.h \
    tests/lib/lmdb_fault.c tests/lib/lmdb_fault.h \
    tests/lib/sys_fault.c tests/lib/sys_fault.h tests/lib/tmpdir.c tests/lib/tmpdir.h
tests_unit_test_memtable_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib $(LMDB_CFLAGS) \
    $(CRITERION_CFLAGS)
tests_unit_test_memtable_LDADD = libstore.a libwire.a libbase.a $(LMDB_LIBS) $(XXHASH_LIBS) \
    $(CRITERION_LIBS)
tests_unit_test_memtable_LDFLAGS = $(LMDB_FAULT_WRAPS) $(SYS_FAULT_WRAPS)
endif
