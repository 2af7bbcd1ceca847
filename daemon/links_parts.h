/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the links share; private to links*.c.
 *
 *	links.c		a link from its first byte to its last
 *	links_strangers.c	who may come to prove itself, and what is told of those who do not
 *	links_io.c	the face to the engine: which ops are a link's
 */
#ifndef HOLDFAST_LINKS_PARTS_H
#define HOLDFAST_LINKS_PARTS_H

#include "links.h"
#include "list.h"
#include "tls.h"

/* Of a peer: a dial, a link, and old ones on their way out. */
enum { LINKS_MAX = LINK_STRANGERS_MAX + 4 * PEERS_MAX };
#define LINK_TICK_NS 250000000ull
#define LINK_ENDING_NS 1000000000ull		/* for the last bytes to leave */

#define LINK_STATES(X) \
	X(FREE,		TO(DIALING) | TO(GREETING) | TO(HANDSHAKE)) \
	X(DIALING,	TO(HANDSHAKE) | TO(SHUT)) \
	X(GREETING,	TO(HANDSHAKE) | TO(READY) | TO(SHUT))	/* accepted; its first byte is awaited */ \
	X(HANDSHAKE,	TO(READY) | TO(OPEN) | TO(FAILED) | TO(ENDING) | TO(SHUT)) \
	X(READY,	TO(OPEN) | TO(CLEAR) | TO(SHUT))	/* waits for an accept */ \
	X(OPEN,		TO(ENDING) | TO(SHUT)) \
	X(CLEAR,	TO(FREE) | TO(SHUT))			/* until its first byte is received */ \
	X(FAILED,	TO(ENDING) | TO(SHUT))			/* a front end's, who is yet to close it */ \
	X(ENDING,	TO(SHUT))				/* what is sealed leaves, an alert too */ \
	X(SHUT,		TO(FREE))				/* until its ops are over */

enum link_state {
#define X(name, to) LINK_##name,
	LINK_STATES(X)
#undef X
};

struct link {
	struct links *links;
	enum link_state state;
	const struct volume_peer_config *peer;	/* whom it dials; NULL: accepted */
	bool secured;			/* by links_secure(): the socket is a front end's from the beginning */
	int socket;			/* the inner one; -1 = none */
	struct tls *tls;
	struct io_op dial, recv, send;	/* of the inner io */
	struct io_op *user_dial, *user_recv, *user_send;
	uint64_t taken;			/* bytes of user_send */
	bool cut;			/* a send of the engine's was given up in its middle */
	int error;			/* what the wire failed with */
	int refused;			/* of FAILED: why */
	uint8_t first;			/* the first byte of an accepted one */
	uint64_t deadline_ns, born;
	uint64_t keyed_ns;		/* since when it sends under this key */
	char address[ADDRESS_BYTES];
};

/* An address that others than peers came from in vain: the host, of IPv6 its /64; all zeros = free. */
struct links_address { uint8_t host[16]; unsigned failures; uint64_t failed_ns, until_ns; };

/* io_op.private, of an op that is ours */
struct ended_op { struct list link; int64_t result; } __attribute__((may_alias));

struct links {
	struct io io, *inner;
	struct links_config config;
	struct tls_context *tls;
	bool all_encrypted;		/* nothing is taken in the clear */
	int listening;			/* the socket, -1 = none */
	struct io_op accept, timer, soon;
	struct io_op *user_accept;
	struct list ended;		/* ops of the engine that have a result */
	bool completing;		/* in a completion of the inner io, at whose end they are told */
	uint64_t births;
	struct links_address addresses[LINK_ADDRESSES];
	uint64_t lines_until_ns;	/* this time's lines to the operator */
	unsigned lines, lines_left_out;
	bool stopping;
	void (*stopped)(void *context);
	void *stopped_context;
	char why[PEERS_MAX][WHY_BYTES];	/* of each peer's last dial */
	struct link *found;		/* by link_find(), the last time */
	struct link all[LINKS_MAX];
};

static inline struct links *links_of(struct io *io) { return container_of(io, struct links, io); }
static inline struct ended_op *ended_op(struct io_op *op) { return (struct ended_op *)(void *)op->private; }

/* ---- links.c ---- */

/* An op of the engine at *@at is ours from now on; it has its result, and done() runs later. */
void link_op_begin(struct io_op **at, struct io_op *op);
void link_op_end(struct links *s, struct io_op **at, int64_t result);

void link_move(struct link *l, enum link_state state);
/* Without a word to it: it has failed, or was too long on its way. */
void link_send_away(struct link *l, int error, const char *why);
/* Accepted, and not the engine's yet. */
bool link_stranger(const struct link *l);
struct link *link_find(struct links *s, int socket);
void link_deadline(struct link *l, uint64_t ns);
/* All that can go on does. */
void link_step(struct link *l);
/* Its wire is gone, at once; it is free when the inner io has given its ops back. */
void link_shut(struct link *l);
void link_release(struct link *l);
void link_dial(struct links *s, struct io_op *op, const struct volume_peer_config *peer);
/* The inner io accepts; a link that is ready goes to an accept of the engine. */
void links_accept_next(struct links *s);
void links_accept_give(struct links *s);

/* ---- links_strangers.c ---- */

/* Whether a connection from there is taken; when there are too many, an older one is sent away for it. */
bool stranger_admit(struct links *s, const char *address);
/* @l has not proved who it is. */
void stranger_refused(struct link *l, int error, const char *why);
/* @l has. */
void stranger_proved(const struct link *l);

/* ---- links_io.c ---- */

extern const struct io links_face;

#endif
