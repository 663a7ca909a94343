/* net_internal.h - what the files of src/net share: jobs, threads, connections, peers, the pump.
 *
 * Files:      pump.c      opening, stopping, closing
 *             turn.c      when the node gets its turns; the timer; completed jobs
 *             pump_io.c   the node's I/O table
 *             worker.c    a thread, its queue, and the way of results back to the loop
 *             log_writer.c, flusher.c, background.c, snapshots.c   what each thread does
 *             transport.c who the peers are, listening, sending
 *             peer.c      keeping three connections to a peer
 *             connection.c, connection_write.c, handshake.c   one TCP connection
 *             resolver.c, address_list.c   what names of peers were last resolved to
 *             listener.c  sockets at every address of a host
 * Thread:     loop thread, but for what worker.c, resolver.c and the four thread files say.
 *
 * Calls into the node happen only from callbacks of the loop and from pump_work(), never while the
 * node is inside a call of its own: its I/O table only queues (node.h asks for that).
 */

#ifndef TL_NET_INTERNAL_H
#define TL_NET_INTERNAL_H

#include <netinet/in.h>
#include <pthread.h>
#include <uv.h>

#include "trilith/address.h"
#include "trilith/frame_parts.h"
#include "trilith/listener.h"
#include "trilith/pump.h"

#define PUMP_MAGIC 0x504d5550u
#define WORKER_MAGIC 0x4b524f57u
#define CONNECTION_MAGIC 0x4e4e4f43u
#define LINK_MAGIC 0x4b4e494cu
#define TRANSPORT_MAGIC 0x4e415254u

/* ---- jobs: what the loop gives to a thread and gets back ---- */

enum job_kind { JOB_LOG_COMMIT, JOB_FLUSH, JOB_LOG_READ, JOB_SNAPSHOT, JOB_WORKER_ENDED };

/* Pooled in the pump; made and put back by the loop thread only. */
struct job {
    struct job *next;
    enum job_kind kind;
    union {
        struct node_log_batch *batch; /* all four: the node's, borrowed until it is told */
        struct node_flush_job *flush;
        struct node_log_read *read;
        struct node_snapshot_job *snapshot;
    };
    enum tl_err err;
    uint64_t duration_ns;  /* JOB_LOG_COMMIT: of the commit it was part of */
    struct tl_fault fault; /* set when err is not TL_OK */
};

struct job_list {
    struct job *first;
    struct job *last;
};
void job_list_push(struct job_list *list, struct job *job);
struct job *job_list_pop(struct job_list *list);                    /* NULL: empty */
void job_list_append(struct job_list *list, struct job_list *tail); /* empties `tail` */

/* The way back: one list and one wake-up for all threads. */
struct completions {
    pthread_mutex_t lock;
    struct job_list done; /* guarded by lock */
    uv_async_t async;
};
/* Worker threads. Takes the jobs; the list is empty afterwards. */
void completions_post(struct completions *completions, struct job_list *jobs);
void completions_post_one(struct completions *completions, struct job *job);
struct job_list completions_take(struct completions *completions);

struct worker {
    uint32_t magic;
    /* Constant after start. */
    const char *name;
    int niceness; /* of its thread, on top of the process's */
    struct completions *completions;
    /* Carries out every job of the list and posts it; the worker's thread. */
    void (*carry_out)(struct worker *worker, struct job_list *jobs);
    pthread_t thread;
    /* Shared, guarded by lock. */
    pthread_mutex_t lock;
    pthread_cond_t has_work;
    struct job_list queue;
    bool is_stopping;
    /* Owned by the loop thread. */
    bool is_started;
    /* Owned by the worker's thread: its last word. */
    struct job ended;
};
void worker_init(struct worker *worker, const char *name, struct completions *completions,
                 void (*carry_out)(struct worker *worker, struct job_list *jobs));
void worker_deinit(struct worker *worker); /* never started, or joined */
TL_MUST_CHECK enum tl_err worker_start(struct worker *worker);
void worker_submit(struct worker *worker, struct job *job);
/* Finishes what is queued, then posts JOB_WORKER_ENDED; worker_join() does not wait after that. */
void worker_stop(struct worker *worker);
void worker_join(struct worker *worker);

/* Ops of one commit: bounds the transaction when batches pile up behind a slow disk. */
#define LOG_WRITER_OPS_MAX 1024u
_Static_assert(LOG_WRITER_OPS_MAX >= NODE_GROUPS_MAX, "a single batch always fits");

struct log_writer {
    struct worker worker;
    struct log_store *store; /* the node's, set before start */
    struct log_op ops[LOG_WRITER_OPS_MAX];
};
void log_writer_carry_out(struct worker *worker, struct job_list *jobs);
void flusher_carry_out(struct worker *worker, struct job_list *jobs);

#define SNAPSHOTS_NICENESS 5
void snapshots_carry_out(struct worker *worker, struct job_list *jobs);

#define PUMP_WORKERS_COUNT 4u

struct background {
    struct worker worker;
    struct log_reader *reader; /* owned; made before start, destroyed before node_close() */
};
void background_carry_out(struct worker *worker, struct job_list *jobs);

/* ---- names (resolver.c, address_list.c) ---- */

#define ADDRESS_LIST_MAX 8u
#define ENDPOINTS_MAX 64u /* the members, the view and a few that are to be added */
#define ENDPOINT_FRESH_NS 1000000000ull /* an answer this young is not asked for again */

union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};
bool socket_address_equal(const union socket_address *a, const union socket_address *b);

struct address_list {
    uint32_t count;
    union socket_address at[ADDRESS_LIST_MAX];
};
struct addrinfo;
/* The first ones of `infos`, families in turn, each once. */
void address_list_fill(struct address_list *list, const struct addrinfo *infos);
bool address_list_find(const struct address_list *list, const union socket_address *wanted,
                       uint32_t *out_place);
/* getaddrinfo(): any thread; waits for name servers. 0, or its error. */
int address_list_resolve(const char *host, uint16_t port, int flags, struct address_list *out_list);

/* A HOST:PORT to connect to. */
struct endpoint {
    char text[ADDRESS_BYTES_MAX];
    struct address address;
    bool is_literal; /* needs no look-up */
    bool is_looking_up;
    uint64_t looked_up_ns;      /* when the last look-up ended; 0: none has */
    struct address_list list;   /* of the last one with an answer */
    union socket_address first; /* to be tried first, if the list has it */
    uint32_t users_count;       /* connections */
    uint64_t used_ns;
};

struct resolver {
    struct mailbox *mailbox; /* the look-ups' way back; shared with their threads */
    uv_async_t async;
    uint32_t endpoints_count;
    struct endpoint *endpoints[ENDPOINTS_MAX]; /* owned */
};

struct transport;
void resolver_open(struct transport *transport);
void resolver_close(struct transport *transport); /* no connection is left */
/* Has it looked up unless that is under way, or was just done. connections_on_looked_up() follows
 * when is_looking_up is set. NULL: not a HOST:PORT, or too many. Release it. */
struct endpoint *endpoint_acquire(struct resolver *resolver, const char *text);
void endpoint_release(struct endpoint *endpoint);
/* The right node answered at this address; none did, so that the next one has its turn. */
void endpoint_worked(struct endpoint *endpoint, const union socket_address *address);
void endpoint_failed(struct endpoint *endpoint, const union socket_address *address);
/* Those that wait for its addresses go on. */
void connections_on_looked_up(struct transport *transport, const struct endpoint *endpoint);

/* ---- one TCP connection (connection.c, connection_write.c, handshake.c) ---- */

enum connection_purpose {
    CONNECTION_ACCEPTED, /* a stranger, until its hello names a link */
    CONNECTION_LINK,     /* ours, for a link */
    CONNECTION_ASK,      /* a birth question */
    CONNECTION_PROBE,    /* does anyone listen there? */
};

/*
 *   RESOLVING --> CONNECTING --> GREETING --> UP
 *                                   ^  \        \          any --> CLOSING --> freed
 *                        accept ----'   `--> DRAINING: the answer to a birth question leaves
 */
enum connection_state {
    CONNECTION_RESOLVING,
    CONNECTION_CONNECTING,
    CONNECTION_GREETING,
    CONNECTION_UP,
    CONNECTION_DRAINING,
    CONNECTION_CLOSING,
};

enum connection_end {
    END_LOST,     /* closed, reset, timed out, unreachable */
    END_UNHEARD,  /* ours: closed or reset by the other side before it said hello */
    END_REFUSED,  /* refused at every address that there is a way to: no process listens */
    END_REJECTED, /* we closed it for what it said */
    END_DONE,     /* it has done its work */
};

/* The kernel takes no more while so many bytes are not sent. */
#define CONNECTION_UNSENT_BYTES (64u * 1024u)
#define CONNECTION_RECEIVE_BYTES (128u * 1024u)
#define CONNECTION_RECEIVE_KEPT_BYTES (1024u * 1024u) /* a larger buffer is given back when idle */
/* Largest payload before the hello: a stranger makes us allocate no more. */
#define CONNECTION_STRANGER_BYTES_MAX (64u * 1024u)

/* A message that is still arriving says that its sender lives, but not for ever: for so long, and
 * for as long again as its bytes take at the least rate that is reckoned with, 1 Mbit/s. */
#define CONNECTION_PARTIAL_NS 1000000000ull
#define CONNECTION_PARTIAL_BYTES_PER_S (128u * 1024u)

struct link;
struct peer;

/* Frames of a lane leave in the order in which they were queued; those of the urgent one between
 * the frames, and parts of frames, of the other. */
enum connection_lane { LANE_URGENT = 0, LANE_IN_ORDER = 1 };
#define CONNECTION_LANES_COUNT 2u

/* A ring of owned frames. */
struct lane {
    struct buf **frames;
    uint32_t first;
    uint32_t count;
    size_t bytes;  /* of all of them */
    size_t offset; /* bytes of the first one already sent, in whole pieces */
};

/* What must be sent without anything between: the rest of a lane's first frame, or a part of it
 * with a header of its own. */
struct piece {
    enum connection_lane lane;
    const uint8_t *data; /* in the frame */
    size_t bytes;        /* of data; 0: there is no piece */
    size_t head_bytes;   /* 0: no header of its own */
    size_t sent;         /* of header and data */
    uint8_t head[FRAME_HEADER_BYTES];
};

struct connection {
    uint32_t magic;
    enum connection_purpose purpose;
    enum connection_state state;
    struct transport *transport;     /* outlives it */
    struct link *link;               /* LINK always; ACCEPTED when UP; the link clears it */
    struct peer *probed;             /* PROBE; the peer clears it */
    char address[ADDRESS_BYTES_MAX]; /* where to connect, or who was accepted */
    struct connection *next;         /* in transport->connections */
    struct connection *previous;
    struct buf *greeting; /* ASK: the question, owned until it is queued */
    uint8_t hello_format; /* of our hello */
    uint32_t features;    /* UP: of both sides */
    uint64_t up_since_ns;

    /* Ours: where to connect. */
    struct endpoint *endpoint; /* the resolver's, until it is closing; NULL: accepted */
    struct address_list addresses;
    uint32_t first;       /* of them, to be tried first */
    uint32_t tried_count; /* the one being tried included */
    bool is_refused;      /* one has been refused */
    bool is_lost;         /* one has not answered, or otherwise */

    /* libuv's. Freed when users_count is 0: open handles. The connect and write requests end before
     * the close callback of their stream. */
    uint32_t users_count;
    bool has_tcp; /* open */
    uv_tcp_t tcp;
    uv_timer_t deadline;
    uv_connect_t connect_request;
    uv_write_t write_request;

    /* Receiving: bytes [0, received_count) of the buffer are not yet handled. */
    uint8_t *received;
    size_t received_capacity;
    size_t received_count;
    size_t received_needed;
    struct reassembly reassembly;
    uint64_t partial_since_ns; /* a frame, or a frame in parts, has been arriving; 0: none */
    uint64_t partial_bytes;    /* that have arrived since */
    uint64_t read_turn;        /* in which it was read from last (struct transport) */
    size_t read_bytes;         /* so many bytes */
    bool is_read_held;         /* it has had its share: nothing is read before the next turn */

    /* Sending. */
    struct lane lanes[CONNECTION_LANES_COUNT];
    struct piece piece; /* was begun */
    bool is_writing;    /* the rest of it is in libuv's hands */
    bool is_dirty;      /* in transport->dirty */
    struct connection *next_dirty;
};

struct connection *connection_create(struct transport *transport, enum connection_purpose purpose,
                                     const char *address);
/* Begins to resolve and connect. May end the connection before it returns. */
void connection_start(struct connection *connection);
/* What it waited for has been looked up. */
void connection_on_looked_up(struct connection *connection);
/* The right node has answered: its address is the first to be tried from now on. */
void connection_worked(struct connection *connection);
/* Takes the pending connection of the listener. */
void connection_accept(struct transport *transport, uv_stream_t *listener);
/* Closes it without telling anyone. */
void connection_close(struct connection *connection);
/* Closes it and tells its link, peer or asker. */
void connection_end(struct connection *connection, enum connection_end how);
/* The same, because the other side has closed or reset it. */
void connection_lost(struct connection *connection);
/* The same, because of what the other side sent: counted and logged (rate-limited). */
void connection_reject(struct connection *connection, uint64_t *counter, const char *reason);
void connection_check(const struct connection *connection);

/* Reads again, if it was held. May end the connection. */
void connection_read_on(struct connection *connection);
/* Queues a sealed frame for the next connection_flush(). Takes it in any case; false: no room. */
bool connection_queue(struct connection *connection, enum connection_lane lane, struct buf *frame);
/* Bytes that wait in order. */
size_t connection_backlog(const struct connection *connection);
/* Writes what is queued; may end the connection. */
void connection_flush(struct connection *connection);
void connection_queue_clear(struct connection *connection);

/* The handshake. The TCP connection stands; what to say first. */
void handshake_begin(struct connection *connection);
/* A whole frame that passed its checksum, before the connection is up. */
void handshake_on_frame(struct connection *connection, enum frame_type type, struct bytes payload);

/* ---- peers (peer.c) ---- */

/* A connection that lived at least this long is worth an attempt at once when it is lost; one that
 * keeps dying right after its hello is not. */
#define LINK_SETTLED_NS 1000000000ull

struct link {
    uint32_t magic;
    enum peer_class class;
    struct peer *peer;
    struct connection *connection; /* UP, or NULL */
    struct connection *attempt;    /* ours, not yet up, or NULL */
    uv_timer_t backoff;
    uint32_t backoff_ms; /* before the next attempt */
    bool is_refusal_told;
};

struct peer {
    struct transport *transport; /* outlives it */
    struct member member;
    raft_id id;
    bool is_connector; /* we connect: the smaller store id does */
    bool is_removed;
    uint32_t timers_open_count;
    struct connection *probe;
    struct link links[PEER_CLASSES_COUNT];
};

struct peer *peer_create(struct transport *transport, const struct member *member);
/* Closes its connections, tells the node of those that were up, and frees the peer later. */
void peer_destroy(struct peer *peer);
void link_on_up(struct link *link, struct connection *connection);
/* Its connection or attempt has ended. */
void link_on_end(struct link *link, struct connection *connection, enum connection_end how);
void peer_on_probe_end(struct peer *peer, enum connection_end how);

/* ---- the transport (transport.c) ---- */

struct transport {
    uint32_t magic;
    struct pump *pump;
    uv_loop_t *loop;
    struct node *node; /* NULL until node_open() has returned */
    struct resolver resolver;
    uint32_t listeners_count;
    uv_tcp_t listeners[LISTEN_SOCKETS_MAX];
    bool is_closing;

    struct store_id self;
    struct store_id cluster_id; /* zero: no cluster yet */
    /* As told by the last set_peers; taken over by transport_work(). */
    bool is_members_changed;
    uint32_t members_count;
    struct member members[RAFT_MEMBERS_MAX];

    uint32_t peers_count;
    struct peer *peers[RAFT_MEMBERS_MAX]; /* owned */

    struct connection *connections; /* all that are not closing */
    uint64_t turn;                  /* counts calls of transport_work() */
    bool has_held_reads;            /* a connection may have been held */
    struct connection *dirty;       /* have something to send */
    struct connection *dirty_later; /* ... and have sent their share of this turn */
    uint32_t strangers_count;
    struct connection *asks; /* to be started, by next_dirty */

    uint64_t refusal_logged_ns;
    uint64_t refusals_unlogged_count;
};

/* The node is open: takes the sockets over, as many as it can, and works from now on. */
TL_MUST_CHECK enum tl_err transport_start(struct transport *transport,
                                          struct listen_sockets *sockets);
void transport_close(struct transport *transport);
/* After each turn: new peers, questions, frames to send. */
void transport_work(struct transport *transport);
struct peer *transport_find(struct transport *transport, raft_id id);
void transport_mark_dirty(struct transport *transport, struct connection *connection);
/* For what a flush has left, which goes in the next turn. */
void transport_flush_later(struct transport *transport, struct connection *connection);
void transport_forget(struct transport *transport, struct connection *connection);
void transport_log_refusal(struct transport *transport, const char *address, const char *reason);

bool transport_send(struct transport *transport, raft_id peer, enum peer_class class,
                    enum connection_lane lane, struct buf *frame);
size_t transport_backlog(struct transport *transport, raft_id peer);
void transport_set_peers(struct transport *transport, const struct store_id *cluster_id,
                         const struct member *members, uint32_t members_count);
void transport_ask(struct transport *transport, const char *peer_address, struct buf *frame);

/* ---- the pump ---- */

enum pump_stage {
    PUMP_RUNNING,
    PUMP_DRAINING,       /* the node finishes its work, or the time for it runs out */
    PUMP_ENDING_WORKERS, /* no more turns; threads finish what they have */
    PUMP_CLOSING,        /* handles close */
    PUMP_CLOSED
};

struct pump {
    uint32_t magic;
    enum pump_stage stage;
    uv_loop_t *loop; /* the caller's */
    struct node *node;

    /* Turns. */
    uv_check_t check;     /* after the poll: turn on what it brought */
    uv_prepare_t prepare; /* before it: turn on what timers and turns brought */
    uv_idle_t idle;       /* active only while a turn is due: keeps the poll from blocking */
    uv_poll_t timer;
    int timer_fd;
    bool is_turn_due;
    uint64_t deadline_ns;   /* the node's; UINT64_MAX: none */
    uint64_t armed_ns;      /* of timer_fd; <= deadline_ns or UINT64_MAX */
    uint64_t work_since_ns; /* start of this loop turn's work; 0: none yet */
    uint64_t cpu_ns;        /* of the loop's thread when this turn began; 0: before the first */

    struct job *jobs_free;
    struct completions completions;
    struct log_writer log_writer;
    struct worker flusher;
    struct background background;
    struct worker snapshots;
    uint32_t workers_ended_count;
    uint32_t mutation;

    struct transport transport;
    struct pump_metrics metrics;

    /* Stopping. */
    void (*on_handed_over)(void *context); /* NULL: nobody waits for it */
    void *on_handed_over_context;
    uv_timer_t stop_timer;
    uint32_t holds_count; /* open handles of the pump, connections, peers */
    void (*on_stopped)(void *context);
    void *on_stopped_context;
};

void pump_check(const struct pump *pump);
/* Something is open that must be closed before on_stopped; and it has been. */
void pump_hold(struct pump *pump);
void pump_let_go(struct pump *pump);
/* The same for a handle that was just initialised and lives in the pump; its data is the pump. */
void pump_hold_handle(struct pump *pump, uv_handle_t *handle);
void pump_close_handle(struct pump *pump, uv_handle_t *handle); /* nothing when it is not open */

/* turn.c */
TL_MUST_CHECK enum tl_err turns_open(struct pump *pump);
void turns_close(struct pump *pump);
void turns_set_timer(struct pump *pump, uint64_t deadline_ns);
void pump_on_worker_ended(struct pump *pump);
void pump_on_drained(struct pump *pump);

/* pump_io.c */
struct node_io pump_io(struct pump *pump);
struct job *pump_job_acquire(struct pump *pump, enum job_kind kind);
void pump_job_release(struct pump *pump, struct job *job);
uint64_t clock_boottime_ns(void);
uint64_t clock_thread_cpu_ns(void); /* of the calling thread */

#endif
