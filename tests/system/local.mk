# System tests: real processes on loopback. Those among TESTS are part of `make check`; the others
# have targets of their own, bounded by their options.
noinst_PROGRAMS += tests/system/sync_shim.so
tests_system_sync_shim_so_SOURCES = tests/system/sync_shim.c
tests_system_sync_shim_so_CPPFLAGS = $(AM_CPPFLAGS) $(LMDB_CFLAGS)
tests_system_sync_shim_so_CFLAGS = $(AM_CFLAGS) -fPIC -Wno-pedantic -Wno-missing-prototypes
tests_system_sync_shim_so_LDFLAGS = -shared
tests_system_sync_shim_so_LDADD = -ldl
noinst_PROGRAMS += tests/system/clock_shim.so
tests_system_clock_shim_so_SOURCES = tests/system/clock_shim.c
tests_system_clock_shim_so_CFLAGS = $(AM_CFLAGS) -fPIC -Wno-pedantic -Wno-missing-prototypes
tests_system_clock_shim_so_LDFLAGS = -shared
tests_system_clock_shim_so_LDADD = -ldl
noinst_PROGRAMS += tests/system/client_load
tests_system_client_load_SOURCES = tests/system/client_load.c
tests_system_client_load_LDADD = libtrilith.a libbase.a $(CURL_LIBS) $(JANSSON_LIBS)

TESTS += tests/system/basic.py tests/system/chain.py tests/system/completion.sh \
    tests/system/linear.py tests/system/manual.sh
dist_check_SCRIPTS += tests/system/basic.py tests/system/chain.py tests/system/clocks.py \
    tests/system/completion.sh \
    tests/system/manual.sh tests/system/synced.py tests/system/crash.py \
    tests/system/crash_points.py tests/system/failover.py \
    tests/system/handover.py tests/system/linear.py tests/system/links.py \
    tests/system/members.py tests/system/names.py tests/system/power_cut.py \
    tests/system/rows.py tests/system/slow_flush.py tests/system/snapshot.py \
    tests/system/soak.py tests/system/space.py tests/system/turns.py tests/system/upgrade.py
EXTRA_DIST += tests/system/cluster.py tests/system/disk.py tests/system/load.py tests/system/shim.py

system_test_environment = builddir='$(abs_builddir)' PYTHONDONTWRITEBYTECODE=1
system_test_needs = trilithd trilith trilith-bench tests/system/sync_shim.so \
    tests/system/clock_shim.so tests/system/client_load

# What CI runs beyond `make check`: bounded versions of what the long targets do.
check-system: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/synced.py
	$(system_test_environment) $(srcdir)/tests/system/clocks.py --seeds 3
	$(system_test_environment) $(srcdir)/tests/system/crash.py --rounds 15
	$(system_test_environment) $(srcdir)/tests/system/failover.py --tries 5
	$(system_test_environment) $(srcdir)/tests/system/handover.py --tries 5 --rounds 1
	$(system_test_environment) $(srcdir)/tests/system/links.py --rates 20 --nodes 3
	$(system_test_environment) $(srcdir)/tests/system/members.py --kills
	$(system_test_environment) $(srcdir)/tests/system/names.py
	$(system_test_environment) $(srcdir)/tests/system/rows.py --rows 200000
	$(system_test_environment) $(srcdir)/tests/system/slow_flush.py --seconds 15 --role follower
	$(system_test_environment) $(srcdir)/tests/system/snapshot.py --rows 100000 --kills 4 --speed-share 0.5
	$(system_test_environment) $(srcdir)/tests/system/space.py
	$(system_test_environment) $(srcdir)/tests/system/turns.py --seconds 5 --cpu-ms 12.3
	$(system_test_environment) $(srcdir)/tests/system/upgrade.py

check-clocks: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/clocks.py --seeds 50
check-crash: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/crash.py --rounds 100
# Of a build with --enable-verify.
check-crash-points: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/crash_points.py
check-failover: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/failover.py --tries 20
check-handover: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/handover.py --tries 20 --rounds 5 --long
# Needs root; beside it the same with etcd, where that is installed. About half an hour.
check-links: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/links.py --rates 20,100,1000 --nodes 3,5 \
	    --delays 0,1,2 --etcd
# About a minute and a half.
check-turns: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/turns.py
check-upgrade: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/upgrade.py --rounds 5
check-members: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/members.py --kills --rounds 5
# Needs root and loop devices. First that what must be seen is seen, then many cuts.
check-power-cut: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/power_cut.py --expect-loss 40
	$(system_test_environment) $(srcdir)/tests/system/power_cut.py --expect-loss 41
	$(system_test_environment) $(srcdir)/tests/system/power_cut.py --cache
	$(system_test_environment) $(srcdir)/tests/system/power_cut.py --cuts 300
soak-power-cut: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/power_cut.py --cuts 1000
check-rows: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/rows.py --rows 1000000
# 13 GB of disk; about eleven minutes.
check-slow-flush: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/slow_flush.py --seconds 300
check-snapshot: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/snapshot.py --rows 1000000
# Full disks and maps (loop devices: root). With a trilithd of an older version in the variable OLD: what
# that one leaves behind is opened too.
check-space: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/space.py $${OLD:+--old "$$OLD"}
check-soak: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/soak.py --minutes 10
check-chain: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/chain.py --entries 1000000 --log-retain 1GiB
.PHONY: check-system check-chain check-clocks check-crash check-crash-points check-failover \
    check-handover check-links check-upgrade check-members check-power-cut check-rows check-slow-flush \
    check-snapshot check-soak check-space check-turns soak-power-cut
