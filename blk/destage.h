/* SPDX-License-Identifier: Apache-2.0 */
/* Destage: brings what the log changed into the store, so that the journal's tail can advance.
 *
 * One round:	barrier	what was applied up to now is this round's; at most DESTAGE_ROUND_PAGES pages
 *		preserve where a snapshot records (undo.h), it gets what the store held
 *		punch	the holes, once their records are durable and `reach` covers them
 *		stage	runs of neighbouring pages, in block order, are copied into a stage of up to 1 MiB;
 *			once the newest record in it is durable and `reach` covers it, it is written
 *		sync	of the store
 *		tail	meta gets the new tail; then the journal may overwrite what is below
 *
 * A stage is a copy, so a page that is changed all the time is still destaged: what goes to the store is the
 * page as of one LSN, and only that LSN has to be durable.
 *
 * `reach` (meta) says up to which record the store may have been changed. It is durable before the store is,
 * so that after a crash nobody takes a store that is half ahead for a consistent one.
 */
#ifndef HOLDFAST_DESTAGE_H
#define HOLDFAST_DESTAGE_H

#include "journal.h"
#include "meta.h"
#include "pool.h"
#include "undo.h"

enum {
	DESTAGE_STAGES = 8,		/* 8 MiB in flight to the store */
	DESTAGE_STAGE_BYTES = 1 << 20,
	DESTAGE_ROUND_PAGES = 8192,	/* 32 MiB: a round takes a fraction of a second, so nobody waits long */
	DESTAGE_PUNCHES = 16,		/* calls of fallocate in flight */
	DESTAGE_TRACE = 256,		/* so many changes of the store are remembered, for reads that they overtake */
};

#define DESTAGE_STATES(X) X(IDLE) X(PRESERVE) X(PUNCH) X(STAGE) X(SYNC) X(TAIL)
enum destage_state {
#define X(name) DESTAGE_##name,
	DESTAGE_STATES(X)
#undef X
};

struct destage;

struct destage_range { uint64_t first, end; };	/* blocks */

struct destage_punch { struct io_op op; struct destage *destage; bool used; };

struct destage_stage {
	struct destage *destage;
	struct io_op op;
	uint8_t *buffer;
	uint64_t block, count;		/* count = 0: free */
	uint64_t lsn;			/* must be durable before this is written */
	bool written, full;		/* full: the disk was; to be written again */
};

struct destage {
	struct io *io;
	int store;
	struct pool *pool;
	struct journal *journal;
	struct meta *meta;
	struct undo *undo;
	const uint64_t *applied;	/* pages and holes hold everything up to this LSN */
	enum destage_state state;
	uint64_t barrier;
	bool preserving;
	uint64_t *blocks;		/* of this round, sorted */
	uint64_t block_count, block_next;
	uint32_t hole_next;
	struct destage_punch punches[DESTAGE_PUNCHES];
	struct destage_stage stages[DESTAGE_STAGES];
	uint32_t stage_count;
	uint64_t stage_blocks;		/* how many fit one stage */
	struct io_op sync;
	uint64_t ticket;
	uint64_t started_ns, ended_ns;
	bool store_full;		/* waits for space; tried again by destage_retry() */
	int failed;			/* -errno, for good */
	void (*freed)(struct destage *d);	/* pages or journal were freed, or it failed */
	struct destage_range trace[DESTAGE_TRACE];
	uint64_t traced;		/* changes of the store begun so far */
	uint64_t started, finished;	/* rounds; the number of the last one whose changes are durable in the store */
	uint64_t clean_order;		/* and of the pages: up to this order (pool_clean_order()) */
	bool held;			/* no round may start */
	uint64_t rounds, bytes, punched_bytes;
};

/* @stage_count <= DESTAGE_STAGES. -ENOMEM. */
MUST_CHECK int destage_new(struct destage *d, struct io *io, int store, struct pool *pool,
			   struct journal *journal, struct meta *meta, struct undo *undo, const uint64_t *applied,
			   uint32_t stage_count, void (*freed)(struct destage *d));
void destage_delete(struct destage *d);
/* Starts a round if none runs and there is something to do. */
void destage_start(struct destage *d);
/* Goes on where it waits for the journal or for meta; called whenever these moved. */
void destage_step(struct destage *d);
/* Tries again what a full disk refused. */
void destage_retry(struct destage *d);
/* Whether the store's blocks [first, end) may have been changed since d->traced was @since. */
bool destage_touched(const struct destage *d, uint64_t first, uint64_t end, uint64_t since);
/* No op of it is in flight. */
bool destage_quiet(const struct destage *d);
/* Whether it is time for a round: pages or journal fill up. */
bool destage_due(const struct destage *d);

#endif
