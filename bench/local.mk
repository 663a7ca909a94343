# The load generator, and scripts that compare and soak.
bin_PROGRAMS += trilith-bench
trilith_bench_SOURCES = bench/trilith_bench.c
trilith_bench_CPPFLAGS = $(AM_CPPFLAGS) -DPACKAGE_VERSION_TEXT='"$(PACKAGE_VERSION)"'
trilith_bench_LDADD = libbase.a
EXTRA_DIST += bench/compare.py bench/README.md
