noinst_LIBRARIES += libraft.a
libraft_a_SOURCES = src/raft/raft.c src/raft/raft_append.c src/raft/raft_conf.c \
    src/raft/raft_election.c src/raft/raft_log.c src/raft/raft_membership.c src/raft/raft_op.c \
    src/raft/raft_read.c src/raft/raft_replication.c src/raft/raft_snapshot.c \
    src/raft/raft_transfer.c src/raft/raft_internal.h include/trilith/raft.h

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_raft
tests_unit_test_raft_SOURCES = tests/unit/raft_cluster.c tests/unit/raft_cluster.h \
    tests/unit/test_raft_conf.c tests/unit/test_raft_conf_change.c \
    tests/unit/test_raft_election.c tests/unit/test_raft_links.c \
    tests/unit/test_raft_membership.c tests/unit/test_raft_paper.c \
    tests/unit/test_raft_random.c tests/unit/test_raft_read.c \
    tests/unit/test_raft_replication.c tests/unit/test_raft_restart.c \
    tests/unit/test_raft_scenario.c tests/unit/test_raft_snapshot.c \
    tests/unit/test_raft_transfer.c
tests_unit_test_raft_CPPFLAGS = $(AM_CPPFLAGS) $(CRITERION_CFLAGS) \
    -DTL_SOURCE_DIR='"$(srcdir)"'
tests_unit_test_raft_LDADD = libraft.a libwire.a libbase.a $(CRITERION_LIBS)

# Writes what the scenarios come to into the source tree: read the diff.
scenario-rewrite: tests/unit/test_raft$(EXEEXT)
	srcdir='$(srcdir)' SCENARIO_REWRITE=1 tests/unit/test_raft --filter 'raft_scenario/*'
endif
.PHONY: scenario-rewrite

RAFT_SCENARIOS = async_storage_writes async_storage_writes_append_aba_race campaign \
    campaign_learner_must_vote checkquorum conf_add_voters conf_leader_in_leaving_half \
    conf_new_leader_leaves conf_new_leader_pending conf_old_leader_leaves conf_refusals \
    conf_remove_leader conf_remove_leader_alone conf_remove_self_of_three conf_replace_leader \
    conf_replace_leader_stepdown conf_restart conf_rollback conf_rollback_initial \
    conf_rollback_joint conf_rollback_previous conf_rollback_snapshot disk_stall \
    disk_stall_silent forget_leader heartbeat_resp_recovers_from_probing lagging_commit prevote \
    prevote_checkquorum probe_and_replicate read_index replicate_pause single_node \
    slow_follower_after_compaction snapshot_conf snapshot_during_write snapshot_joint \
    snapshot_restore snapshot_sent snapshot_succeed_via_app_resp \
    snapshot_succeed_via_app_resp_behind snapshot_suffix snapshot_while_installing transfer \
    transfer_after_snapshot transfer_again transfer_back transfer_higher_term transfer_late \
    transfer_refused transfer_replaced transfer_timeout
EXTRA_DIST += $(RAFT_SCENARIOS:%=tests/unit/scenarios/%.txt)
