# Helpers of the unit tests. A program that uses lmdb_fault.c or sys_fault.c has them in LDFLAGS:
# the linker then routes the calls of the code under test through __wrap_*.
LMDB_FAULT_WRAPS = -Wl,--wrap=mdb_env_create -Wl,--wrap=mdb_env_set_maxdbs \
    -Wl,--wrap=mdb_env_set_maxreaders -Wl,--wrap=mdb_env_set_mapsize -Wl,--wrap=mdb_env_open \
    -Wl,--wrap=mdb_env_sync \
    -Wl,--wrap=mdb_env_info -Wl,--wrap=mdb_env_stat -Wl,--wrap=mdb_env_get_fd \
    -Wl,--wrap=mdb_txn_begin -Wl,--wrap=mdb_txn_renew -Wl,--wrap=mdb_txn_commit \
    -Wl,--wrap=mdb_dbi_open -Wl,--wrap=mdb_stat -Wl,--wrap=mdb_get -Wl,--wrap=mdb_put \
    -Wl,--wrap=mdb_del -Wl,--wrap=mdb_drop -Wl,--wrap=mdb_cursor_open -Wl,--wrap=mdb_cursor_renew \
    -Wl,--wrap=mdb_cursor_get -Wl,--wrap=mdb_cursor_put -Wl,--wrap=mdb_cursor_del \
    -Wl,--wrap=statvfs
SYS_FAULT_WRAPS = -Wl,--wrap=open -Wl,--wrap=pwrite -Wl,--wrap=pread -Wl,--wrap=fsync \
    -Wl,--wrap=fstat -Wl,--wrap=statx -Wl,--wrap=rename -Wl,--wrap=unlink -Wl,--wrap=mkdir \
    -Wl,--wrap=ftruncate -Wl,--wrap=flock -Wl,--wrap=statfs -Wl,--wrap=access -Wl,--wrap=opendir \
    -Wl,--wrap=getrandom -Wl,--wrap=fcntl
