/* SPDX-License-Identifier: Apache-2.0 */
/* A struct io around another one, whose links to peers are encrypted: the engine dials, accepts, sends and receives as
 * ever. Everything else goes to the inner io as it is.
 *
 * A dial to a node with a fingerprint is done when both ends have proved who they are. An accepted connection is handed
 * on when the other end has proved to be one of these nodes; or, where the config has insecure-loopback and a peer
 * without a fingerprint, when it begins in the clear: then socket_node() says "", and the engine takes it for nobody
 * who has one.
 *
 * With a server's certificates it is the io of a front end instead: the front end listens, accepts and closes as ever,
 * and what it says is to be encrypted (links_secure()) is from there on, when the client has proved that the authority
 * knows it. Ops on that socket wait for this, and fail when it does not come about.
 *
 * Strangers: LINK_STRANGERS_MAX connections at a time may be on their way to a proof, each for LINK_HANDSHAKE_NS; one
 * more ends the oldest of them, or is sent away itself when they all come from where peers are. An address that has
 * failed again and again has to wait, longer each time, before it is heard; not one where a peer is, nor any of a front
 * end. What is refused is told to the operator, LINK_LINES lines in LINK_LINES_NS at most.
 */
#ifndef HOLDFAST_LINKS_H
#define HOLDFAST_LINKS_H

#include "identity.h"
#include "io.h"
#include "volume.h"

enum {
	LINK_STRANGERS_MAX = 16,	/* 16 x 130 KiB; a peer needs two round trips to be none any more */
	LINK_LINES = 10,
	LINK_ADDRESSES = 64,
	LINK_FAILURES_FREE = 4,		/* from one address, before the first wait */
};
#define LINK_HANDSHAKE_NS 5000000000ull
#define LINK_LINES_NS 10000000000ull
#define LINK_WAIT_NS 250000000ull		/* the first, then twice as long each time */
#define LINK_WAIT_MAX_NS 32000000000ull
#define LINK_FORGET_NS 60000000000ull		/* without a failure */
#define LINK_KEY_NS 3600000000000ull		/* a key's time; TLS_KEY_BYTES may be over before */

struct links_config {
	const struct volume_config *volume;	/* its name and peers; the caller's until links_free() */
	const struct identity *identity;	/* the same; of a front end NULL */
	struct x509_store_st *authority;	/* of peers without a fingerprint; NULL = there are none; the same */
	const struct certificates *server;	/* NULL, or it is the io of a front end; the same */
	/* Where the other end of an inner socket is, for people. May be NULL. */
	void (*address)(void *context, int socket, char out[ADDRESS_BYTES]);
	void *context;
};

struct links;

/* Whether the peers of @volume need this: one of them has to prove who it is. */
bool links_needed(const struct volume_config *volume);
/* All memory of its links at most, of which OpenSSL's own part is an estimate. */
uint64_t links_memory_bytes(const struct volume_config *volume);

/* The same of a front end's. */
uint64_t links_server_memory_bytes(void);

/* *out is the caller's. -EINVAL two peers have the same fingerprint, or OpenSSL does not take the server's certificate;
 * -ENOMEM; @why is one sentence. */
MUST_CHECK int links_new(struct links **out, struct io *inner, const struct links_config *config,
			 char why[WHY_BYTES]);
struct io *links_io(struct links *links);
/* Of a front end: @socket, accepted through this io, with no op in flight and nothing of the client's read beyond what
 * was in the clear, is encrypted from here on; this end is the server. -ENOBUFS: too many are. */
MUST_CHECK int links_secure(struct links *links, int socket);
/* Ends all connections at once; done() runs later, when no op of the inner io is in flight any more. */
void links_stop(struct links *links, void (*done)(void *context), void *context);
/* After links_stop(), or before anything was dialed or accepted. */
void links_free(struct links *links);

#endif
