noinst_LIBRARIES += libstore.a
libstore_a_CPPFLAGS = $(AM_CPPFLAGS) $(LMDB_CFLAGS)
libstore_a_SOURCES = src/store/lmdb_env.c src/store/lmdb_env.h

include tests/lib/local.mk
include src/store/logstore.mk
include src/store/memtable.mk
include src/store/snapshot.mk
