/* mem_disk.h - what survives a simulated crash: the memory back end of the store headers.
 *
 * Role:       A registry of disks, keyed by data directory. mem_log_store.c, mem_table.c and
 *             mem_data_dir.c implement log_store.h, table.h and data_dir.h over it, so a store
 *             object may be destroyed at any moment (the crash) and opened again on what its disk
 *             holds. A commit or flush is atomic and durable when it is called; *when* it is
 *             called, and whether one that was under way at a crash still is, the simulator says.
 * Thread:     one thread; the registry is global because the store headers pass paths only.
 */

#ifndef TL_SIM_MEM_DISK_H
#define TL_SIM_MEM_DISK_H

#include "trilith/data_dir.h"
#include "trilith/log_store.h"
#include "trilith/table.h"

#define MEM_DISKS_MAX 128u
#define MEM_DISK_GROUPS_MAX 4u
#define MEM_DISK_TABLES_MAX 16u

/* Planted bug: a table made of a snapshot lacks the idempotency records. */
#define MEM_MUTATION_NO_RECORDS 11u
/* Planted bugs: a log is cut off at a damaged record; one is given out unchecked. */
#define MEM_MUTATION_CUT_DAMAGE 70u
#define MEM_MUTATION_READ_UNCHECKED 71u
/* Planted bug: what is left of a file system is not seen. */
#define MEM_MUTATION_FREE_BYTES_UNSEEN 76u

/* The durable log of one group. entries[i] is entry i + 1; deleted ones are NULL. */
struct mem_log {
    bool exists;
    struct raft_hard_state hard_state;
    struct raft_base base;
    raft_index last;
    struct buf **entries;
    size_t entries_capacity;
    struct buf *base_conf; /* payload of the configuration in force at the base, or NULL */
    raft_index base_conf_index;
    raft_index conf_index; /* of the newest one in entries; 0: none */
    uint64_t used_bytes;
    uint64_t table_number; /* the table in use */
    /* What reading finds in the place of one entry, as long as that is there. The entry itself
     * stays above: it is what was written. */
    struct buf *damaged; /* NULL: none is */
    raft_index damaged_index;
    bool is_head_damaged; /* hard state and base */
};

/* One committed state of a table: MVCC by copying the array of pointers. */
struct mem_table_item {
    struct buf *key;
    struct buf *value;
    bool is_damaged; /* the value is not what was written */
};
struct mem_table_version {
    uint32_t refs_count;
    raft_index index; /* what the meta row says */
    size_t items_count;
    struct mem_table_item *items; /* in key order */
};

/* A table's directory; path "": the slot is free. */
struct mem_table {
    char path[128];
    struct mem_table_version *current; /* NULL: the directory holds no complete table */
};

struct mem_disk {
    char path[64];
    bool has_identity;
    bool is_locked;
    /* Nothing gets onto it any more: what writes is told of an error and has no effect. Set by a
     * simulator at a crash point, before it destroys the node; ends with the next open. */
    bool is_cut_off;
    /* Since the last open: damage was given out, for another one to check; it was found here. */
    bool is_damage_given;
    bool is_damage_found;
    /* The last entry of a log had other bytes, under a right chain hash, when it was written. */
    bool is_altered;
    raft_index altered_index; /* of the data group */
    bool is_alteration_gone;  /* from the disk: a process may have it in memory */
    struct store_id store_id;
    char address[ADDRESS_BYTES_MAX];
    bool is_refused;
    bool is_diverged;
    raft_group diverged_group;
    raft_index diverged_index;
    struct mem_log logs[MEM_DISK_GROUPS_MAX];
    struct mem_table tables[MEM_DISK_TABLES_MAX];
    uint32_t tables_count;
    uint64_t size_bytes;        /* that files may have in all; 0: no limit */
    uint64_t file_bytes;        /* that they have; they never shrink */
    uint64_t log_map_bytes;     /* taken in the map of the log beside what is simulated */
    uint64_t table_map_bytes;   /* in that of each table */
    uint64_t truncations_count; /* entries cut off logs */
    uint64_t deletions_count;   /* entries deleted by retention */
    uint64_t flushes_count;
    uint64_t installs_count;
};

/* How the simulator watches and bends the disks. All may be NULL. */
struct mem_disk_hooks {
    void *context;
    /* Before an op becomes durable. */
    void (*on_log_op)(void *context, struct mem_disk *disk, const struct log_op *op);
    /* No entry above this is deleted: a member that needs deleted entries needs a snapshot, which
     * is outside of what is simulated. */
    raft_index (*retain_floor)(void *context, raft_group group);
    void (*on_table_open)(void *context, struct mem_disk *disk, raft_group group,
                          const struct mem_table_version *version);
    /* Planted bug 25: what a flush would find if it looked at the live state. */
    bool (*live_state)(void *context, struct mem_disk *disk, raft_group group,
                       struct group_state *out_state);
    /* A check of the disk has failed. */
    void (*on_damage_found)(void *context, struct mem_disk *disk);
    uint32_t mutation;
};
extern struct mem_disk_hooks mem_disk_hooks;

/* Planted bug 10, while a crash is being carried out: the next table_flush() stops between its two
 * transactions. */
extern bool mem_table_stops_half_way;

void mem_disks_reset(uint64_t seed); /* empties the registry; store ids follow from the seed */
/* The disk `path` stands on (a data directory or something in it), made when absent. */
struct mem_disk *mem_disk_at(const char *path);
/* Takes the disk out of its machine: no path leads to it any more, and what is on it stays. */
void mem_disk_retire(struct mem_disk *disk);

bool mem_disks_are_full(void); /* the registry has no room for many more */
/* What is on the disk now, in no machine yet. */
struct mem_disk *mem_disk_copy(const struct mem_disk *disk);
/* Takes the disk out of its machine and puts the copy in its place. */
void mem_disk_replace(struct mem_disk *disk, struct mem_disk *copy);

/* The durable entry, borrowed; NULL when there is none (deleted, or above last). */
struct buf *mem_log_entry(const struct mem_log *log, raft_index index);
/* What reading it gives; there is one. */
struct buf *mem_log_record(struct mem_disk *disk, const struct mem_log *log, raft_index index);
/* Says so to the simulator, and returns TL_ERR_CORRUPT. */
enum tl_err mem_disk_damaged(struct mem_disk *disk, raft_group group, raft_index index,
                             const char *reason, struct tl_fault *out_fault);
/* Leaves so much of the file system from now on; size_bytes = 0 ends it. */
void mem_disk_fill(struct mem_disk *disk, uint64_t left_bytes);
uint64_t mem_disk_free_bytes(struct mem_disk *disk);
bool mem_disk_takes(struct mem_disk *disk, uint64_t bytes);
bool mem_disk_has_damage(const struct mem_disk *disk);
/* The payload of the newest configuration of the log, or in force at its base; none: empty. */
struct bytes mem_log_conf(const struct mem_log *log);
void mem_log_apply(struct mem_disk *disk, struct log_op *op, uint64_t retain_bytes);

void mem_table_version_release(struct mem_table_version *version); /* accepts NULL */
/* The table's directory, made when absent. */
struct mem_table *mem_disk_table(struct mem_disk *disk, const char *path);
/* NULL: there is none. */
struct mem_table *mem_disk_find_table(struct mem_disk *disk, const char *path);

/* What every write asks first: TL_OK, or the error of a disk that is cut off. */
TL_MUST_CHECK enum tl_err mem_disk_may_write(const struct mem_disk *disk, struct tl_fault *fault);

#endif
