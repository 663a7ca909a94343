noinst_LIBRARIES += libraft.a
libraft_a_SOURCES = src/raft/raft.c src/raft/raft_append.c src/raft/raft_conf.c \
    src/raft/raft_election.c src/raft/raft_log.c src/raft/raft_op.c src/raft/raft_read.c \
    src/raft/raft_replication.c src/raft/raft_internal.h include/trilith/raft.h
