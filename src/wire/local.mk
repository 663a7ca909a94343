noinst_LIBRARIES += libwire.a
libwire_a_SOURCES = src/wire/command.c src/wire/conf_entry.c src/wire/digest_report.c \
    src/wire/entry.c src/wire/frame.c src/wire/frame_parts.c src/wire/genesis.c src/wire/placement.c \
    src/wire/raft_message.c src/wire/row.c src/wire/snapshot_chunk.c include/trilith/command.h \
    src/wire/raft_message.c src/wire/row.c src/wire/snapshot_chunk.c src/wire/txn.c \
    include/trilith/command.h include/trilith/conf_entry.h include/trilith/digest_report.h \
    include/trilith/entry.h include/trilith/frame.h include/trilith/frame_parts.h \
    include/trilith/genesis.h \
    include/trilith/placement.h include/trilith/raft_message.h include/trilith/row.h \
    include/trilith/snapshot_chunk.h include/trilith/txn.h
EXTRA_DIST += src/wire/FORMAT.md

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_wire
tests_unit_test_wire_SOURCES = tests/unit/test_entry.c tests/unit/test_raft_message.c \
    tests/unit/test_command.c tests/unit/test_conf_entry.c tests/unit/test_row.c \
    tests/unit/test_genesis.c tests/unit/test_frame.c tests/unit/test_frame_parts.c \
    tests/unit/test_placement.c \
    tests/unit/test_snapshot_chunk.c tests/unit/test_txn.c tests/unit/test_wire_fuzz.c \
    tests/unit/wire_samples.c \
    tests/unit/wire_samples.h tests/fuzz/fuzz_wire.c tests/fuzz/fuzz_wire.h
tests_unit_test_wire_CPPFLAGS = $(AM_CPPFLAGS) $(CRITERION_CFLAGS) \
    -DTL_SRCDIR='"$(abs_top_srcdir)"'
tests_unit_test_wire_LDADD = libwire.a libbase.a $(CRITERION_LIBS)
endif

# On demand: make fuzz && ./fuzz_wire -max_total_time=60. Needs clang; built in one go, because
# everything that is fuzzed must be instrumented.
FUZZ_CC = clang
fuzz: fuzz_wire
fuzz_wire: $(libwire_a_SOURCES) $(libbase_a_SOURCES) tests/fuzz/fuzz_wire.c tests/fuzz/fuzz_wire.h
	$(FUZZ_CC) -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined $(DEFS) $(AM_CPPFLAGS) \
	    -o $@ $(filter %.c,$^)
.PHONY: fuzz
CLEANFILES += fuzz_wire
