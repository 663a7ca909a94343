noinst_LIBRARIES += libnet.a
libnet_a_SOURCES = src/net/address_list.c src/net/background.c src/net/connection.c \
    src/net/connection_write.c src/net/flusher.c src/net/handshake.c src/net/listener.c \
    src/net/log_writer.c src/net/peer.c src/net/pump.c src/net/pump_io.c src/net/resolver.c \
    src/net/snapshots.c src/net/transport.c src/net/turn.c src/net/worker.c \
    src/net/net_internal.h include/trilith/listener.h include/trilith/pump.h
libnet_a_CPPFLAGS = $(AM_CPPFLAGS) $(UV_CFLAGS)

if HAVE_CRITERION
check_PROGRAMS += tests/unit/test_net
tests_unit_test_net_SOURCES = tests/unit/test_net_turn.c tests/unit/test_net_transport.c \
    tests/unit/test_net_names.c tests/unit/net_names.c tests/unit/net_names.h \
    tests/unit/net_world.c tests/unit/net_world.h
tests_unit_test_net_CPPFLAGS = $(AM_CPPFLAGS) $(UV_CFLAGS) $(CRITERION_CFLAGS)
tests_unit_test_net_LDADD = libnet.a libwire.a libbase.a $(UV_LIBS) $(XXHASH_LIBS) \
    $(CRITERION_LIBS) -lpthread
endif
