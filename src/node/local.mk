noinst_LIBRARIES += libnode.a
libnode_a_SOURCES = src/node/node.c src/node/node_apply.c src/node/node_birth.c \
    src/node/node_group.c src/node/node_internal.h src/node/node_read.c src/node/node_status.c \
    src/node/node_turn.c src/node/node_write.c include/trilith/node.h
