noinst_LIBRARIES += libkv.a
libkv_a_SOURCES = src/kv/kv_records.c src/kv/kv_state.c src/kv/kv_value.c src/kv/kv_internal.h \
    include/trilith/kv_state.h include/trilith/kv_table.h
