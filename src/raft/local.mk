noinst_LIBRARIES += libraft.a
libraft_a_SOURCES = src/raft/raft.c src/raft/raft_append.c src/raft/raft_conf.c \
    src/raft/raft_election.c src/raft/raft_log.c src/raft/raft_op.c src/raft/raft_read.c \
    src/raft/raft_replication.c src/raft/raft_internal.h include/trilith/raft.h

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_raft
tests_unit_test_raft_SOURCES = tests/unit/raft_cluster.c tests/unit/raft_cluster.h \
    tests/unit/test_raft_paper.c
tests_unit_test_raft_CPPFLAGS = $(AM_CPPFLAGS) $(CRITERION_CFLAGS)
tests_unit_test_raft_LDADD = libraft.a libwire.a libbase.a $(CRITERION_LIBS)
endif
