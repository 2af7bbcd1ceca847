/* SPDX-License-Identifier: Apache-2.0 */
/* A struct io around another one, whose links to peers are encrypted: the engine dials, accepts, sends and receives as
 * ever. Everything else goes to the inner io as it is.
 *
 * A dial to a node with a fingerprint is done when both ends have proved who they are. An accepted connection is handed
 * on when the other end has proved to be one of these nodes; or, as long as there is a peer without a fingerprint, when
 * it begins in the clear: then socket_node() says "", and the engine takes it for nobody who has one.
 *
 * Strangers: LINK_STRANGERS_MAX connections at a time may be on their way to a proof, each for LINK_HANDSHAKE_NS; one
 * more ends the oldest of them. What is refused is told to the operator, LINK_LINES lines in LINK_LINES_NS at most.
 */
#ifndef HOLDFAST_LINKS_H
#define HOLDFAST_LINKS_H

#include "identity.h"
#include "io.h"
#include "volume.h"

enum {
	LINK_STRANGERS_MAX = 16,	/* 16 x 130 KiB; a peer needs two round trips to be none any more */
	LINK_LINES = 10,
};
#define LINK_HANDSHAKE_NS 5000000000ull
#define LINK_LINES_NS 10000000000ull

struct links_config {
	const struct volume_config *volume;	/* its name and peers; the caller's until links_free() */
	const struct identity *identity;	/* the same */
	/* Where the other end of an inner socket is, for people. May be NULL. */
	void (*address)(void *context, int socket, char out[ADDRESS_BYTES]);
	void *context;
};

struct links;

/* Whether the peers of @volume need this: one of them has a fingerprint. */
bool links_needed(const struct volume_config *volume);
/* All memory of its links at most, of which OpenSSL's own part is an estimate. */
uint64_t links_memory_bytes(const struct volume_config *volume);

/* *out is the caller's. -EINVAL two peers have the same fingerprint, -ENOMEM; @why is one sentence. */
MUST_CHECK int links_new(struct links **out, struct io *inner, const struct links_config *config,
			 char why[WHY_BYTES]);
struct io *links_io(struct links *links);
/* Ends all connections at once; done() runs later, when no op of the inner io is in flight any more. */
void links_stop(struct links *links, void (*done)(void *context), void *context);
/* After links_stop(), or before anything was dialed or accepted. */
void links_free(struct links *links);

#endif
