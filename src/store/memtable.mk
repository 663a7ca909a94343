# store: the memtable, the table and what readers see of both
libstore_a_SOURCES += src/store/arena.c src/store/arena.h src/store/generation.c \
    src/store/generation_internal.h include/trilith/generation.h
