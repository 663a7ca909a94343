# store: snapshots, cut from a table and staged beside one
libstore_a_SOURCES += src/store/snapshot_cut.c src/store/snapshot_stage.c src/store/spool.c \
    src/store/spool.h src/store/table_builder.c src/store/table_builder.h \
    include/trilith/snapshot.h
