noinst_LIBRARIES += libnode.a
libnode_a_SOURCES = src/node/node.c src/node/node_apply.c src/node/node_birth.c \
    src/node/node_change.c src/node/node_digest.c src/node/node_group.c \
    src/node/node_install.c src/node/node_internal.h src/node/node_leader_transfer.c \
    src/node/node_log.c src/node/node_member.c src/node/node_position.c src/node/node_read.c \
    src/node/node_receive.c src/node/node_send.c src/node/node_snapshot.h \
    src/node/node_snapshot_job.c src/node/node_space.c src/node/node_status.c \
    src/node/node_time.c src/node/node_turn.c src/node/node_write.c src/node/log_time.c \
    src/node/log_time.h src/node/placement_change.c \
    src/node/send_rate.c src/node/send_rate.h include/trilith/node.h \
    include/trilith/placement_change.h

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_node
tests_unit_test_node_SOURCES = tests/unit/test_log_time.c tests/unit/test_node_admin.c \
    tests/unit/test_node_birth.c tests/unit/test_node_digest.c tests/unit/test_node_links.c \
    tests/unit/test_node_log.c tests/unit/test_node_member.c tests/unit/test_node_position.c \
    tests/unit/test_node_read.c tests/unit/test_node_records.c tests/unit/test_node_snapshot.c \
    tests/unit/test_node_space.c tests/unit/test_node_store.c tests/unit/test_node_leader_transfer.c \
    tests/unit/test_node_time.c tests/unit/test_node_write.c tests/unit/test_placement_change.c tests/unit/test_send_rate.c \
    tests/unit/node_cluster.c \
    tests/unit/node_cluster.h tests/lib/lmdb_fault.c tests/lib/lmdb_fault.h tests/lib/tmpdir.c \
    tests/lib/tmpdir.h
tests_unit_test_node_LDFLAGS = $(AM_LDFLAGS) $(LMDB_FAULT_WRAPS) -Wl,--wrap=data_dir_free_bytes
tests_unit_test_node_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib -I$(top_srcdir) \
    $(CRITERION_CFLAGS)
tests_unit_test_node_LDADD = libnode.a libkv.a libstore.a libraft.a libwire.a libbase.a \
    $(LMDB_LIBS) $(XXHASH_LIBS) $(CRITERION_LIBS)
endif
