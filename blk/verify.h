/* SPDX-License-Identifier: Apache-2.0 */
/* Online verify: do all replicas hold the same bytes? While the volume is written to.
 *
 *	primary (verify.c)				peer (verify_sink.c)
 *	----						------
 *	a range of blocks is read, as of LSN L
 *	VERIFY(L, hashes), before any log beyond L	applies its log up to L, and no further
 *							reads its own blocks: as of L too
 *							VERIFIED(which differ); goes on with its log
 *	counted, told
 *	with repair: those blocks are read anew,
 *	as of M; REPAIR(M, bytes), as above		applies up to M, puts them in place
 *							VERIFIED, once they are durable in its store
 *
 * The invariant: two blocks are compared only as of the same LSN, on both sides. So whatever is written meanwhile, a
 * block that differs is one that a disk or memory has changed. Whose block is wrong nobody can know: a repair takes
 * the primary's.
 *
 * What cannot be done (L is not committed in time, the peer's disk is too slow, a read lost its race with destage) is
 * tried again with fewer blocks, and after VERIFY_TRIES counted as not compared.
 */
#ifndef HOLDFAST_VERIFY_H
#define HOLDFAST_VERIFY_H

#include "frame.h"
#include "volume.h"

struct peer;

enum {
	VERIFY_RANGES = 4,		/* in flight: 1 MiB, which hides the way there and back */
	VERIFY_TRIES = 6,
	VERIFY_CHECKS = VERIFY_RANGES,	/* that a peer holds: one source asks at a time */
};

/* ---- the primary's side ---- */

/* Blocks that are being compared, a piece of them at a time. */
struct verify_range {
	struct volume *volume;
	struct volume_request request;
	uint8_t *buffer;		/* frame_blocks_max() blocks */
	enum { RANGE_FREE, RANGE_READY, RANGE_READ, RANGE_ASKED } state;
	bool stale;			/* its verify is over: free as soon as its read is done */
	bool repair;			/* the piece is sent, to those where it differed */
	uint64_t first, end;		/* blocks still to do */
	uint32_t count;			/* of them, in the piece at `first` */
	uint64_t id, lsn;		/* of the piece */
	unsigned tries;
	uint64_t from_ns, until_ns;	/* READY: not read before. ASKED: not waited for any longer */
	uint64_t began_ns;		/* to read the piece */
	unsigned send, answer, could_not;	/* peers, a bit each: still to be sent to, to answer; that could not */
	uint64_t differ[PEERS_MAX];
	uint8_t hashes[FRAME_BLOCKS_MAX * HASH_BYTES];
};

struct verify_peer {
	uint64_t mismatches, repaired, skipped;	/* blocks; skipped: not compared */
	unsigned range_count;
	struct volume_range ranges[VERIFY_RANGES_MAX];
};

struct verify {
	bool running, repair;
	unsigned peers;			/* that are compared with; a bit each, in the order of v->peers */
	uint64_t next;			/* block */
	uint64_t done, unreadable;	/* blocks; unreadable: by this node */
	uint64_t ids;
	uint64_t hurried_ns;
	uint64_t rest_ns;		/* nothing is read before, while clients' writes wait */
	uint64_t started_ns, ended_ns;	/* wall clock */
	struct verify_range ranges[VERIFY_RANGES];
	struct verify_peer of[PEERS_MAX];
};

MUST_CHECK int verify_new(struct volume *v);
void verify_delete(struct volume *v);
/* What verify_new() allots. */
uint64_t verify_memory_bytes(const struct geometry *g);
/* Every turn. */
void verify_step(struct volume *v);
/* VERIFIED of a peer. */
void verify_answered(struct peer *p, const struct frame_verified *verified);
/* We give it no log any more. */
void verify_lost(struct peer *p);
/* Frames of either side, when the wire is free. */
void verify_put(struct peer *p);
/* Log must not be sent beyond. */
uint64_t verify_log_limit(const struct peer *p);
void verify_status(const struct volume *v, struct volume_verify_status *out);
void verify_peer_status(const struct volume *v, unsigned peer, struct volume_peer_status *out);

/* ---- the peer's side ---- */

struct verify_check {
	/* HELD: until our log is applied up to its lsn and the blocks are compared, or put in place. PUT: until they
	 * are in the store. DONE: to be answered. */
	enum { CHECK_FREE, CHECK_HELD, CHECK_PUT, CHECK_DONE } state;
	bool repair;
	uint64_t id, lsn, first, differ;	/* differ of a repair: which blocks it brings */
	uint32_t count, at;		/* blocks; those below `at` are compared */
	bool single;			/* blocks are read one by one: one of them cannot be */
	bool done;
	uint64_t until_ns, reached_ns;	/* no longer held; since when its lsn is applied, 0 = not yet */
	uint64_t order, round;		/* as in resync_got */
	uint8_t hashes[FRAME_BLOCKS_MAX * HASH_BYTES];
};

struct verify_sink {
	struct verify_check checks[VERIFY_CHECKS];
	struct volume_request read;
	uint32_t read_count;
	bool busy;			/* `read` is in flight */
	struct verify_check *reading;	/* for whom; NULL: it was given up */
	uint8_t *buffer;		/* of `read` */
	uint8_t *data;			/* of the one REPAIR that may be held */
};

/* VERIFY or REPAIR of our source. False: that ended the connection. */
bool verify_asked(struct peer *p, const struct frame_header *header);
/* The source is gone. */
void verify_sink_lost(struct volume *v);
/* Every turn. */
void verify_sink_step(struct volume *v);
void verify_sink_put(struct peer *p);
/* Nothing beyond may be applied. */
uint64_t verify_hold(const struct volume *v);

#endif
