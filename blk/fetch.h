/* SPDX-License-Identifier: Apache-2.0 */
/* Read repair: a block that our disk cannot read is had from a peer, and written anew.
 *
 *	a client's read, or a load of the pool, gets an I/O error: it waits here
 *	FETCH		to our source; of a primary: to the peers that are online, one after the other
 *	FETCHED		the block as of an LSN
 *	put		as a dirty page: readers have it, and destage writes it over what cannot be read
 *	whoever waited goes on; if no peer can help, it gets its error
 *
 * As of which LSN?
 *
 * Of a primary: the block has no page, so all that ever changed it is in the store; the store is given nothing above
 * `reach`. A peer that has applied the log up to there has what we had. If the block is changed meanwhile, then by a
 * page, a hole or a destage of ours, and what the peer says is not needed.
 *
 * Of a secondary: the source's block is newer than what we show: as of L, and no log beyond L was sent before it. Once
 * all log up to L is in our journal and committed, so that we shall apply it whatever happens, the block becomes a
 * page, though it holds effects of records that we have yet to apply (one of them may wait for just this page). Redo of
 * these changes nothing. Until we have applied L the page is "ahead": readers wait, and destage leaves it alone; so
 * nobody sees it, and a crash loses it whole.
 */
#ifndef HOLDFAST_FETCH_H
#define HOLDFAST_FETCH_H

#include "frame.h"
#include "pool.h"
#include "volume.h"

struct peer;

enum {
	FETCHES = 8,		/* blocks that are asked for at once; more wait */
	FETCH_SERVES = 8,	/* that peers ask us for; more are not answered, and asked for elsewhere */
};

struct fetch {
	/* ASK: for the wire of `peer`, or for a peer. ASKED: for its answer. GOT: for its LSN, or room in the pool. */
	enum { FETCH_FREE, FETCH_ASK, FETCH_ASKED, FETCH_GOT } state;
	uint64_t block, id;
	enum volume_role role;		/* ours when we asked */
	uint64_t lsn;			/* the answer must not be older; GOT: what it is as of */
	uint64_t since;			/* destage.traced when it was last looked at: the store has nothing newer */
	struct peer *peer;
	unsigned asked;			/* peers that could not, a bit each */
	bool load;			/* the pool waits for it */
	uint64_t began_ns, until_ns, retried_ns;
	uint8_t *data;
};

struct fetch_serve {
	struct volume *volume;
	enum { SERVE_FREE, SERVE_WAIT, SERVE_READ, SERVE_READY } state;
	struct peer *peer;		/* NULL: it is gone */
	struct volume_request request;
	uint64_t id, block, lsn;	/* READY: as of lsn */
	uint64_t until_ns;
	bool found;
	uint8_t *data;
};

struct fetches {
	struct fetch at[FETCHES];
	struct fetch_serve serves[FETCH_SERVES];
	struct list readers;		/* requests; each waits for the block of its io */
	struct list early;		/* requests; each waits until we have applied `ahead` */
	uint64_t ahead;			/* no page is ahead once this is applied */
	uint64_t ids, repaired;
	uint64_t said_next;		/* block behind the last one that was told of */
	uint8_t *memory;
};

MUST_CHECK int fetch_new(struct volume *v);
void fetch_delete(struct volume *v);
/* The store's read of one block for this READ has failed. True: it waits here. */
bool fetch_read(struct volume *v, struct volume_request *request);
/* Whether that is so for a READ just now. */
bool fetch_serves(const struct volume *v, const struct volume_request *request);
/* It cannot be read, and nobody waits for it. */
void fetch_block(struct volume *v, uint64_t block);
/* A load has failed: as pool->mend. */
bool fetch_load(struct pool *pool, uint64_t block);
/* Whether any of these blocks has a page that is ahead. */
bool fetch_ahead(const struct volume *v, uint64_t first, uint64_t end);
/* The READ waits until none is. */
void fetch_early(struct volume *v, struct volume_request *request);
/* Every turn. */
void fetch_step(struct volume *v);
/* FETCH and FETCHED. False: that ended the connection. */
void fetch_asked(struct peer *p, const struct frame_fetch *frame);
bool fetch_answered(struct peer *p, const struct frame_fetched *frame);
/* The connection is over, or what we are to each other has changed. */
void fetch_lost(struct peer *p);
void fetch_put(struct peer *p);
/* Log must not be sent beyond; nothing beyond may be applied. */
uint64_t fetch_log_limit(const struct peer *p);
uint64_t fetch_hold(const struct volume *v);

#endif
