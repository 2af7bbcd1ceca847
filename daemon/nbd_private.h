/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the NBD server, shared by its stages:
 *	nbd.c			the server and its connections: accept, receive, time, stop
 *	nbd_buffer.c		the one budget of data buffers
 *	nbd_handshake.c		options, until a client has chosen the export
 *	nbd_transmission.c	requests and replies
 */
#ifndef HOLDFAST_NBD_PRIVATE_H
#define HOLDFAST_NBD_PRIVATE_H

#include "nbd.h"
#include "nbd_protocol.h"

/* What is served. Production binds it to a struct volume, tests to memory. */
struct nbd_backend {
	void (*submit)(void *context, struct volume_request *request);	/* as volume_submit() */
	bool (*writable)(void *context);
	void *context;
	uint64_t bytes;
};

enum {
	NBD_LISTENERS_MAX = 4,
	NBD_STRANGERS_MAX = 16,		/* from other machines, before they are served; one more ends the oldest */
	NBD_STRANGER_LINES = 10,	/* to the operator, of what they do in 10 s */
	NBD_REQUESTS_MAX = 128,		/* in flight on one connection: the deepest queue that clients use */
	NBD_IN_BYTES = 128 << 10,	/* two options of 64 KiB; 31 writes of 4 KiB by one receive */
	NBD_OUT_BYTES = 64 << 10,	/* replies packed into one send: 15 reads of 4 KiB */
	NBD_PACK_BYTES = 16 << 10,	/* read data up to this is copied, more is sent from where it is */
	NBD_DIRECT_BYTES = 64 << 10,	/* of a payload that much missing is received into its own buffer */
	NBD_EXTENTS_MAX = 64,		/* of one BLOCK_STATUS; a client asks on from where we stopped */
};
_Static_assert((int)NBD_IN_BYTES >= (int)NBD_OPTION_BYTES_MAX + (int)sizeof(struct nbd_option),
	       "a whole option is looked at in the receive buffer");
_Static_assert((int)NBD_OUT_BYTES >= (int)NBD_PACK_BYTES + (int)NBD_REPLY_HEADER_MAX,
	       "any reply that is packed fits");

#define NBD_HANDSHAKE_NS (10 * 1000000000ull)	/* to choose an export */
#define NBD_LEAVE_NS (10 * 1000000000ull)	/* to receive the last replies */
#define NBD_STALL_NS (30 * 1000000000ull)	/* without a byte moved, holding buffers that others wait for */
#define NBD_STRANGER_LINES_NS (10 * 1000000000ull)
#define NBD_TICK_NS (1000000000ull)

/* ---- data buffers -------------------------------------------------------------------------------- */

/* Runs of pages from one region. Nobody waits here: who gets none queues at the server. */
struct nbd_buffers {
	uint8_t *memory;
	uint32_t *runs;		/* at a run's first and last page: its length, with RUN_FREE when it is free */
	uint32_t page_count, page_next;		/* page_next: a run begins there, where the search starts */
};

MUST_CHECK int nbd_buffers_init(struct nbd_buffers *buffers, struct io *io, uint64_t bytes);
void nbd_buffers_free(struct nbd_buffers *buffers, struct io *io);
bool nbd_buffers_has(struct nbd_buffers *buffers, uint32_t pages);
/* BLOCK_BYTES-aligned, with any content; NULL when no run is long enough. */
uint8_t *nbd_buffers_take(struct nbd_buffers *buffers, uint32_t pages);
void nbd_buffers_put(struct nbd_buffers *buffers, uint8_t *memory);

/* ---- connections --------------------------------------------------------------------------------- */

/* What a connection waits for, who takes its next step, and where it may go. */
#define NBD_STATES(X)                                                                                       \
	X(FREE,         NULL,             TO(FLAGS))                                                        \
	X(FLAGS,        nbd_step_flags,   TO(OPTION) | TO(GONE))          /* the client's flags */          \
	X(OPTION,       nbd_step_option,  TO(OPTION_SKIP) | TO(SECURING) | TO(REQUEST) | TO(LEAVING) | TO(GONE)) \
	X(SECURING,     nbd_step_securing, TO(OPTION) | TO(GONE))         /* the last answer in the clear */ \
	X(OPTION_SKIP,  nbd_step_option_skip, TO(OPTION) | TO(GONE))      /* the rest of a refused option */ \
	X(REQUEST,      nbd_step_request, TO(PAYLOAD) | TO(PAYLOAD_SKIP) | TO(STARVED) | TO(LEAVING) | TO(GONE)) \
	X(PAYLOAD,      nbd_step_payload, TO(REQUEST) | TO(GONE))         /* the rest of a write */         \
	X(PAYLOAD_SKIP, nbd_step_payload_skip, TO(REQUEST) | TO(GONE))    /* the rest of a refused write */ \
	X(STARVED,      NULL,             TO(REQUEST) | TO(GONE))         /* a data buffer */               \
	X(LEAVING,      nbd_step_leave,   TO(GONE))                       /* the last replies to be sent */ \
	X(GONE,         NULL,             TO(FREE))                       /* ops and requests to end */

#define NBD_STATE_ENUM(name, step, moves) NBD_##name,
enum nbd_state { NBD_STATES(NBD_STATE_ENUM) NBD_STATES_COUNT };
#undef NBD_STATE_ENUM

/* What a step says of the next one. */
enum nbd_step {
	NBD_AGAIN,		/* now */
	NBD_BYTES,		/* when more has been received */
	NBD_WAIT,		/* when something else has happened, which calls nbd_connection_advance() */
};

struct nbd_request {
	struct volume_request volume;
	struct nbd_connection *connection;
	struct list link;		/* in the connection's requests_free or replies */
	enum nbd_command command;
	unsigned flags;			/* enum nbd_command_flag */
	be64 cookie;
	uint64_t offset;
	uint32_t len;
	enum nbd_error error;
	uint8_t *buffer;		/* from nbd_buffers, or NULL */
	uint8_t *data;			/* in it: what is read, written, or an array of nbd_extent */
	uint32_t payload_received;	/* of WRITE */
	unsigned extent_count, map_count;	/* of BLOCK_STATUS */
};

struct nbd_connection {
	struct nbd_server *server;
	enum nbd_state state;
	unsigned number;		/* for the log: 1.. since start */
	int socket;
	struct io_op recv, send, soon;
	struct list link;		/* in the server's starved */
	bool is_turn;			/* it has waited for its buffers: may take them before others */

	uint8_t *in;			/* NBD_IN_BYTES; in_start..in_end has been received and not looked at */
	uint32_t in_start, in_end;
	bool recv_direct;		/* the receive in flight goes to payload->data */
	uint64_t skip;			/* bytes of a refused message still to come */
	struct nbd_request *payload;	/* the write whose data is being received, or dropped */

	uint8_t *out;			/* NBD_OUT_BYTES; the replies that are being sent */
	uint32_t out_len;
	struct nbd_request *sending;	/* or the one read that is being sent from its own buffer: */
	uint8_t *send_at;		/* what of it comes next, and how much that is */
	uint64_t send_left;
	struct list replies;		/* requests that are done, to be sent */

	struct list requests_free;
	unsigned request_count;		/* not free */
	uint32_t buffer_count;		/* data buffers it holds */
	uint32_t pages_wanted;		/* of STARVED */

	unsigned option_count;
	bool no_zeroes, structured, allocation, read_only;	/* as negotiated */
	bool tls, tls_required;		/* it is encrypted; nothing is served before it is */
	uint64_t deadline_ns;		/* of handshake and leaving; 0 = none */
	uint64_t moved_ns;		/* when bytes last moved, or began to be awaited */
	struct nbd_request requests[NBD_REQUESTS_MAX];
};

struct nbd_listener {
	struct nbd_server *server;
	int socket;
	struct io_op accept;
	bool tls_required;
	char address[ADDRESS_BYTES];
};

struct nbd_server {
	struct io *io;
	struct nbd_backend backend;
	bool writable;			/* as of the last change of role */
	char name[NAME_BYTES];
	uint32_t request_bytes_max;	/* REQUEST_BYTES_MAX, less when the budget is a test's */
	struct nbd_listener listeners[NBD_LISTENERS_MAX];
	unsigned listener_count;
	struct nbd_connection *connections;
	uint8_t *connection_memory;	/* all in and out */
	unsigned connections_max, connection_count, connection_number;
	bool full_said;
	uint64_t stranger_lines_until_ns;
	unsigned stranger_lines;
	struct nbd_buffers buffers;
	struct list starved;		/* connections, first come first served */
	struct io_op tick, soon;
	bool stopping, stopped;
	int (*secure)(void *context, int socket);	/* NULL: there is no TLS */
	void *secure_context;
	void (*stop_done)(void *context);
	void *stop_context;
};

/* As nbd_server_new(), of any backend, with bounds as tests like; @buffer_bytes is at least 5 pages. */
MUST_CHECK int nbd_server_new_backend(struct nbd_server **out, struct io *io, const struct nbd_backend *backend,
				      const char *export_name, unsigned connections_max, uint64_t buffer_bytes);

void nbd_connection_move(struct nbd_connection *c, enum nbd_state state);
/* Takes all the steps that can be taken, then receives. */
void nbd_connection_advance(struct nbd_connection *c);
/* Hang up; @why goes to the log unless it is NULL. The connection is reused when all has ended. */
void nbd_connection_drop(struct nbd_connection *c, const char *why);
/* Drops what has come of c->skip. True when that was all. */
bool nbd_connection_skip(struct nbd_connection *c);
/* Send the last replies, then hang up. */
void nbd_connection_leave(struct nbd_connection *c);
void nbd_connection_send(struct nbd_connection *c, void *data, uint64_t len);
/* To be called when something of a GONE connection has ended. */
void nbd_connection_settle(struct nbd_connection *c);
/* A buffer was put back: whoever waits may have it, at the end of this turn. */
void nbd_server_buffer_freed(struct nbd_server *s);

/* nbd_handshake.c */
void nbd_greet(struct nbd_connection *c);
enum nbd_step nbd_step_flags(struct nbd_connection *c);
enum nbd_step nbd_step_option(struct nbd_connection *c);
enum nbd_step nbd_step_option_skip(struct nbd_connection *c);
enum nbd_step nbd_step_securing(struct nbd_connection *c);

/* nbd_transmission.c */
void nbd_transmission_init(struct nbd_connection *c);
enum nbd_step nbd_step_request(struct nbd_connection *c);
enum nbd_step nbd_step_payload(struct nbd_connection *c);
enum nbd_step nbd_step_payload_skip(struct nbd_connection *c);
/* What was in flight on the socket has been sent: what is next? */
void nbd_replies_sent(struct nbd_connection *c);
void nbd_replies_soon(struct io_op *op, int64_t result);
void nbd_request_release(struct nbd_request *r);

#endif
