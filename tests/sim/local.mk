# The whole-node simulator (docs/correctness.md). Its stores stand on simulated disks; generations,
# views and the rows as apply sees them are the server's own.
check_LIBRARIES += libsim.a
libsim_a_SOURCES = tests/sim/bandwidth.c tests/sim/clocks.c tests/sim/deposal.c \
    tests/sim/event_heap.c \
    tests/sim/event_heap.h tests/sim/full.c tests/sim/host.c \
    tests/sim/liveness.c tests/sim/mem_data_dir.c tests/sim/mem_disk.c tests/sim/mem_disk.h \
    tests/sim/mem_log_store.c tests/sim/mem_snapshot.c \
    tests/sim/mem_table.c tests/sim/model.c tests/sim/model.h \
    tests/sim/members.c tests/sim/moments.c tests/sim/nemesis.c tests/sim/network.c tests/sim/oracle.c \
    tests/sim/oracle_ack.c tests/sim/oracle_conf.c tests/sim/reading.c tests/sim/rollback.c \
    tests/sim/rot.c \
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

# The planted bugs that the simulator has to find (docs/correctness.md). A bug that a seed has found
# is planted, and not its seed kept: what a seed does changes with everything that is drawn.
SIM_MUTATIONS = 1 4 5 10 11 13:deposals 14 15 16 21 22 25 26 27 28 29 30 \
    31:clocks 32:clocks 33:clocks 70:rot 71:rot 72:rot 73:rot 74:large 75:large 76:full 80:full \
    85:rollback 95:large \
    44:deposals 45:membership 46:membership 47:absences 48:stalls 49:rollback 53:pauses 54:snapshots \
    60:pauses 81:full \
    8:deposals 9:deposals \
    56:deposals 57:membership 58:deposals 59:deposals

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_mem_disk
tests_unit_test_mem_disk_SOURCES = tests/unit/test_mem_disk.c tests/lib/full_table.c \
    tests/lib/full_table.h tests/lib/log_entries.c tests/lib/log_entries.h
tests_unit_test_mem_disk_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir) -I$(top_srcdir)/tests/lib \
    $(CRITERION_CFLAGS)
tests_unit_test_mem_disk_LDADD = libsim.a libwire.a libbase.a $(XXHASH_LIBS) $(CRITERION_LIBS)
endif
