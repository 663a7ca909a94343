# store: the memtable, the table and what readers see of both
libstore_a_SOURCES += src/store/arena.c src/store/arena.h src/store/generation.c \
    src/store/generation_internal.h src/store/kv_table.c src/store/table.c \
    src/store/table_internal.h src/store/view.c src/store/view_internal.h src/store/view_walk.c \
    include/trilith/generation.h include/trilith/kv_table.h include/trilith/table.h \
    include/trilith/view.h
