# The whole-node simulator (docs/correctness.md). Its stores stand on simulated disks; generations,
# views and the rows as apply sees them are the server's own.
check_LIBRARIES += libsim.a
libsim_a_SOURCES = tests/sim/deposal.c tests/sim/event_heap.c tests/sim/event_heap.h tests/sim/host.c \
    tests/sim/liveness.c tests/sim/mem_data_dir.c tests/sim/mem_disk.c tests/sim/mem_disk.h \
    tests/sim/mem_log_store.c tests/sim/mem_snapshot.c \
    tests/sim/mem_table.c tests/sim/model.c tests/sim/model.h \
    tests/sim/members.c tests/sim/nemesis.c tests/sim/network.c tests/sim/oracle.c \
    tests/sim/oracle_ack.c tests/sim/oracle_conf.c tests/sim/reading.c tests/sim/rollback.c \
    tests/sim/sim.c tests/sim/sim.h tests/sim/sim_internal.h tests/sim/swarm.c \
    tests/sim/workload.c src/store/arena.c src/store/arena.h src/store/generation.c \
    src/store/generation_internal.h src/store/kv_table.c src/store/scan.c \
    src/store/snapshot_cut.c src/store/snapshot_stage.c src/store/spool.h \
    src/store/table_builder.h src/store/table_sums.c src/store/table_sums.h \
    src/store/table_verify.c src/store/view.c \
    src/store/view_internal.h src/store/view_walk.c
libsim_a_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir) $(LMDB_CFLAGS)
SIM_LIBS = libsim.a libnode.a libkv.a libsim.a libraft.a libwire.a libbase.a $(XXHASH_LIBS)

noinst_PROGRAMS += trilith-sim
trilith_sim_SOURCES = tests/sim/main.c
trilith_sim_LDADD = $(SIM_LIBS)

# 1294: a leader between two turns was judged silent.
# 107199: a flush that hung since before the healing held up apply while the probes ran.
# 112932: an entry of an older term than the write that was proposed at its index.
# 10:membership: one that had been alone forgot, by a crash, who its new fellow voter was.
# 32:membership: all voters left the data group, and then nobody could lead group 0 on.
# 90:membership: a snapshot offered to one that was removed kept the node busy for a minute.
# 200566:network: a doubled message asked for an election when all was healed.
# 200577:churn: a disk was emptied that could not be borne: another voter had ended before its time.
# 200540:hangs: a process whose log commit hung for 20 s ended, as it should.
# 24:rollback, 1249: what a process had acknowledged itself was held against what it had found at start.
# 300735:rollback: an old copy committed the tail of a dead leader on the word of one that knew the disk before.
# 1960: all disks hung alike when all was healed, and one after the other went on.
# 400099:membership: a leader that was no member any more had no clock, not even its own, to take a time from.
# 1:stalls: all disks hung alike, and leadership moved to the one that was told first that it ended.
# 500879: a node that was paused for 20 s took its disk for dead.
# 700216:network: leadership moved when all was healed, as it had been asked to before.
# 114:network: a crash in a long flush came when all was healed.
# 600182:churn: everyone whom an emptied disk's view named had been removed.
# 600316:membership: a store was asked in the moment in which it heard that it was removed.
# 500382:membership: a store was removed that the data group still had to add, as far as its leader knew.
SIM_SEEDS_KEPT = 1294 107199 112932 10:membership 32:membership 90:membership 1:stalls 200566:network \
    200577:churn 200540:hangs 24:rollback 1249 300735:rollback 1960 400099:membership 500382:membership \
    500879 600316:membership 600182:churn 114:network 700216:network
# The planted bugs that the simulator has to find (docs/correctness.md).
SIM_MUTATIONS = 1 4 5 10 11 13:transfers 14 15 16 21 22 25 26 27 28 29 30

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_mem_disk
tests_unit_test_mem_disk_SOURCES = tests/unit/test_mem_disk.c tests/lib/full_table.c \
    tests/lib/full_table.h tests/lib/log_entries.c tests/lib/log_entries.h
tests_unit_test_mem_disk_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir) -I$(top_srcdir)/tests/lib \
    $(CRITERION_CFLAGS)
tests_unit_test_mem_disk_LDADD = libsim.a libwire.a libbase.a $(XXHASH_LIBS) $(CRITERION_LIBS)
endif
