# store: the Raft log and the data directory
libstore_a_SOURCES += src/store/data_dir.c src/store/log_store.c src/store/log_store_commit.c \
    src/store/log_store_file.c src/store/log_store_internal.h src/store/log_store_read.c \
    src/store/log_store_record.c include/trilith/data_dir.h include/trilith/log_store.h
EXTRA_DIST += src/store/FORMAT.md

