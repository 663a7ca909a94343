# System tests: real processes on loopback. Those among TESTS are part of `make check`; the others
# have targets of their own, bounded by their options.
noinst_PROGRAMS += tests/system/sync_shim.so
tests_system_sync_shim_so_SOURCES = tests/system/sync_shim.c
tests_system_sync_shim_so_CPPFLAGS = $(AM_CPPFLAGS) $(LMDB_CFLAGS)
tests_system_sync_shim_so_CFLAGS = $(AM_CFLAGS) -fPIC -Wno-pedantic -Wno-missing-prototypes
tests_system_sync_shim_so_LDFLAGS = -shared
tests_system_sync_shim_so_LDADD = -ldl
noinst_PROGRAMS += tests/system/client_load
tests_system_client_load_SOURCES = tests/system/client_load.c
tests_system_client_load_LDADD = libtrilith.a libbase.a $(CURL_LIBS) $(JANSSON_LIBS)

TESTS += tests/system/basic.py tests/system/chain.py tests/system/completion.sh \
    tests/system/linear.py tests/system/manual.sh
dist_check_SCRIPTS += tests/system/basic.py tests/system/chain.py tests/system/completion.sh \
    tests/system/manual.sh tests/system/synced.py tests/system/crash.py \
    tests/system/crash_points.py tests/system/failover.py \
    tests/system/handover.py tests/system/linear.py tests/system/members.py tests/system/names.py \
    tests/system/power_cut.py tests/system/rows.py tests/system/snapshot.py tests/system/soak.py
EXTRA_DIST += tests/system/cluster.py tests/system/disk.py tests/system/load.py tests/system/shim.py

system_test_environment = builddir='$(abs_builddir)' PYTHONDONTWRITEBYTECODE=1
system_test_needs = trilithd trilith trilith-bench tests/system/sync_shim.so tests/system/client_load

# What CI runs beyond `make check`: bounded versions of what the long targets do.
check-system: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/synced.py
	$(system_test_environment) $(srcdir)/tests/system/crash.py --rounds 15
	$(system_test_environment) $(srcdir)/tests/system/failover.py --tries 5
	$(system_test_environment) $(srcdir)/tests/system/handover.py --tries 5 --rounds 1
	$(system_test_environment) $(srcdir)/tests/system/members.py --kills
	$(system_test_environment) $(srcdir)/tests/system/names.py
	$(system_test_environment) $(srcdir)/tests/system/rows.py --rows 200000
	$(system_test_environment) $(srcdir)/tests/system/snapshot.py --rows 100000 --kills 4 --speed-share 0.5

check-crash: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/crash.py --rounds 100
# Of a build with --enable-verify.
check-crash-points: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/crash_points.py
check-failover: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/failover.py --tries 20
check-handover: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/handover.py --tries 20 --rounds 5 --long
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
check-snapshot: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/snapshot.py --rows 1000000
check-soak: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/soak.py --minutes 10
check-chain: $(system_test_needs)
	$(system_test_environment) $(srcdir)/tests/system/chain.py --entries 1000000 --log-retain 1GiB
.PHONY: check-system check-chain check-crash check-crash-points check-failover check-handover \
    check-members check-power-cut check-rows check-snapshot check-soak soak-power-cut
