/* SPDX-License-Identifier: Apache-2.0 */
/* The buffer pool: pages (4 KiB blocks of the volume) in bounded memory, and the ranges that a discard or a
 * zeroing emptied but the store does not know of yet ("holes").
 *
 * What a block holds is, in this order: its page if there is one; zeros if a hole covers it; the store.
 * Invariant: a page is newer than any hole over its block.
 *
 * A page is FREE, LOADING (a read of the store is in flight), CLEAN (equal to the store; on the LRU list) or
 * DIRTY (on the dirty list, by the record that first dirtied it). A page that a destage copied away is
 * `writing` until the store has the copy; meanwhile it may become dirty again, but is never given up.
 */
#ifndef HOLDFAST_POOL_H
#define HOLDFAST_POOL_H

#include "holes.h"
#include "io.h"
#include "list.h"
#include "log.h"

enum page_state { PAGE_FREE, PAGE_LOADING, PAGE_CLEAN, PAGE_DIRTY };

struct page {
	uint64_t block;
	uint64_t lsn_first;	/* of the oldest record in it that no destage has copied; dirty only */
	uint64_t lsn_last;	/* end of the newest record in it */
	uint64_t order;		/* of its entry into the dirty list */
	uint64_t stamp;		/* another one whenever its bytes may be others; never 0, never used twice */
	uint8_t *data;
	struct page *hash_next;
	struct list link;	/* free, clean (LRU) or dirty list */
	uint8_t state;		/* enum page_state */
	bool writing;
	uint32_t needed;	/* by the pool_prepare() of this number: to count it once */
};

/* Loads of pages in flight at once; more wait. */
enum { POOL_LOADS_MAX = 64 };

struct pool_load {
	struct io_op op;
	struct page *page;
	struct pool *pool;
	bool mending;		/* it has failed, and waits for pool_mended() */
	bool asked;		/* by pool_ask(): a failure is told to whoever asked */
};

enum { POOL_UNREADABLE = 8 };

struct pool {
	struct io *io;
	int store;
	const struct geometry *geometry;
	uint64_t page_count, dirty_count, free_count, loading_count;
	uint64_t order;			/* entries into the dirty list so far */
	uint64_t stamps;		/* given so far */
	uint64_t clean_count;		/* of those that may be given up: without `writing` */
	struct page *pages;
	uint8_t *data;
	struct page **buckets;
	uint64_t bucket_mask;
	struct list free, clean, dirty;
	uint32_t prepares;
	struct holes *holes;		/* since the last destage round began */
	struct holes *holes_now;	/* being punched by the round that runs */
	struct pool_load loads[POOL_LOADS_MAX];
	uint64_t unreadable[POOL_UNREADABLE];	/* blocks + 1 whose asked load failed, until that is told; 0 = none */
	unsigned unreadable_next;
	/* After every load: whoever waits tries again. @error: it failed, and not for pool_ask(). */
	void (*loaded)(struct pool *pool, int error);
	/* A load has failed. True: the page is to stay LOADING until pool_mended() or pool_unmended(). NULL: never. */
	bool (*mend)(struct pool *pool, uint64_t block);
	/* Blocks [first, end) are about to change. NULL: nobody wants to know. */
	void (*changing)(struct pool *pool, uint64_t first, uint64_t end);
};

/* How much memory the pool takes for each page, descriptor and index included. */
enum { POOL_PAGE_COST = BLOCK_BYTES + sizeof(struct page) + 2 * sizeof(struct page *) };

MUST_CHECK int pool_new(struct pool *pool, struct io *io, int store, const struct geometry *g,
			uint64_t page_count, void (*loaded)(struct pool *pool, int error));
/* No load is in flight. */
void pool_delete(struct pool *pool);

/* The page of @block in any state but FREE, or NULL. */
struct page *pool_find(const struct pool *pool, uint64_t block);
/* Whether the block reads as zeros because of a hole; there is no page. */
bool pool_in_hole(const struct pool *pool, uint64_t block);
/* End of the run of blocks from @block, at most @end, that have no page and all are (or all are not) in a
 * hole. @block has no page. */
uint64_t pool_run_end(const struct pool *pool, uint64_t block, uint64_t end, bool *hole);

/* To be read: 0 when the block is in memory, page or hole. -EAGAIN: it is being loaded, try again after loaded().
 * -ENOSPC as of pool_prepare(). -EIO: it cannot be read; said once, then it is tried anew. */
MUST_CHECK int pool_ask(struct pool *pool, uint64_t block);
/* What one record will change: 0 when all that is needed is in memory, and then pool_apply() cannot fail.
 * -EAGAIN: pages are being loaded, try again after loaded(). -ENOSPC: no page (or hole) is free until a
 * destage gives some back. -E2BIG: more pages than the pool has. */
MUST_CHECK int pool_prepare(struct pool *pool, const struct record_delta *deltas, uint32_t count);
/* Puts the deltas of the record [@lsn, @lsn_end) into pages and holes. @payload: bytes of its DELTA_DATA. */
void pool_apply(struct pool *pool, const struct record_delta *deltas, uint32_t count,
		const uint8_t *payload, uint64_t lsn, uint64_t lsn_end);
/* Whether the load of @block has failed, and its page stays LOADING. */
bool pool_mending(const struct pool *pool, uint64_t block);
/* It is over: the block holds @data, which the store has not, with the effects of records up to @lsn_end; as in
 * pool_apply() otherwise. */
void pool_mended(struct pool *pool, uint64_t block, const uint8_t *data, uint64_t lsn, uint64_t lsn_end);
/* It is over: the page is given up, and whoever needs it loads it again. */
void pool_unmended(struct pool *pool, uint64_t block);
/* The same, and nobody can help. False: the load was not asked for (pool_ask()), so nobody hears of it. */
MUST_CHECK bool pool_given_up(struct pool *pool, uint64_t block);
/* Marks as recently used. */
void pool_touch(struct pool *pool, struct page *page);

/* LSN of the oldest record whose effect is only here; @otherwise when there is none. */
uint64_t pool_oldest(const struct pool *pool, uint64_t otherwise);
bool pool_dirty(const struct pool *pool);
/* All that entered the dirty list up to this order has left it. */
uint64_t pool_clean_order(const struct pool *pool);
/* Gives up all pages and holes, dirty ones too. Nothing is being loaded or written. */
void pool_forget(struct pool *pool);

/* For destage. */
void pool_page_copied(struct pool *pool, struct page *page);	/* dirty -> writing */
void pool_page_written(struct pool *pool, struct page *page);	/* -> clean, unless dirty again */

#endif
