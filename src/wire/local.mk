noinst_LIBRARIES += libwire.a
libwire_a_SOURCES = src/wire/command.c src/wire/entry.c src/wire/frame.c src/wire/genesis.c \
    src/wire/raft_message.c src/wire/row.c \
    include/trilith/command.h include/trilith/entry.h include/trilith/frame.h \
    include/trilith/genesis.h include/trilith/raft_message.h include/trilith/row.h
EXTRA_DIST += src/wire/FORMAT.md
