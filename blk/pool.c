/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <errno.h>
#include <string.h>

static void load_done(struct io_op *op, int64_t result);
static void load_over(struct pool_load *loaded, bool good);
static void page_dirty(struct pool *pool, struct page *page, uint64_t lsn, uint64_t lsn_end);

int pool_new(struct pool *pool, struct io *io, int store, const struct geometry *g, uint64_t page_count,
	     void (*loaded)(struct pool *pool, int error))
{
	uint64_t buckets = 1;

	while (buckets < page_count)
		buckets *= 2;
	*pool = (struct pool){ .io = io, .store = store, .geometry = g, .page_count = page_count,
			       .bucket_mask = buckets - 1, .loaded = loaded };
	pool->pages = io->alloc(io, page_count * sizeof *pool->pages, 0);
	pool->data = io->alloc(io, page_count * BLOCK_BYTES, IO_FIXED);
	pool->buckets = io->alloc(io, buckets * sizeof *pool->buckets, 0);
	pool->holes = io->alloc(io, sizeof *pool->holes, 0);
	pool->holes_now = io->alloc(io, sizeof *pool->holes_now, 0);
	list_init(&pool->free);
	list_init(&pool->clean);
	list_init(&pool->dirty);
	if (!pool->pages || !pool->data || !pool->buckets || !pool->holes || !pool->holes_now) {
		pool_delete(pool);
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < page_count; i++) {
		pool->pages[i].data = pool->data + i * BLOCK_BYTES;
		list_append(&pool->free, &pool->pages[i].link);
	}
	pool->free_count = page_count;
	return 0;
}

void pool_delete(struct pool *pool)
{
	if (!pool->io)
		return;
	CHECK(pool->loading_count == 0);
	pool->io->free(pool->io, pool->pages);
	pool->io->free(pool->io, pool->data);
	pool->io->free(pool->io, pool->buckets);
	pool->io->free(pool->io, pool->holes);
	pool->io->free(pool->io, pool->holes_now);
	*pool = (struct pool){ 0 };
}

/* ---- index ---- */

static struct page **bucket_of(const struct pool *pool, uint64_t block)
{
	return &pool->buckets[(block * 0x9e3779b97f4a7c15ull >> 20) & pool->bucket_mask];
}

struct page *pool_find(const struct pool *pool, uint64_t block)
{
	struct page *page = *bucket_of(pool, block);

	while (page && page->block != block)
		page = page->hash_next;
	return page;
}

static void index_remove(struct pool *pool, struct page *page)
{
	struct page **at = bucket_of(pool, page->block);

	while (*at != page)
		at = &(*at)->hash_next;
	*at = page->hash_next;
}

/* An unused page for @block, from the free list or from the page that was not used for longest. The caller
 * knows that there is one; the page is in no list and its state is the caller's to set. */
static struct page *page_take(struct pool *pool, uint64_t block)
{
	struct list *link = list_first(&pool->free);
	struct page *page, **bucket = bucket_of(pool, block);

	if (link) {
		pool->free_count--;
		page = list_entry(link, struct page, link);
	} else {
		link = list_first(&pool->clean);
		CHECK(link);
		page = list_entry(link, struct page, link);
		CHECK(page->state == PAGE_CLEAN && !page->writing);
		index_remove(pool, page);
		pool->clean_count--;
	}
	list_remove(&page->link);
	page->block = block;
	page->hash_next = *bucket;
	*bucket = page;
	return page;
}

static void page_free(struct pool *pool, struct page *page)
{
	CHECK(!page->writing && page->state != PAGE_LOADING);
	if (page->state == PAGE_CLEAN)
		pool->clean_count--;
	else if (page->state == PAGE_DIRTY)
		pool->dirty_count--;
	index_remove(pool, page);
	list_remove(&page->link);
	page->state = PAGE_FREE;
	list_append(&pool->free, &page->link);
	pool->free_count++;
}

void pool_touch(struct pool *pool, struct page *page)
{
	if (page->state != PAGE_CLEAN || page->writing)
		return;
	list_remove(&page->link);
	list_append(&pool->clean, &page->link);
}

bool pool_in_hole(const struct pool *pool, uint64_t block)
{
	return holes_have(pool->holes, block) || holes_have(pool->holes_now, block);
}

uint64_t pool_run_end(const struct pool *pool, uint64_t block, uint64_t end, bool *hole)
{
	uint64_t at = block + 1;

	*hole = pool_in_hole(pool, block);
	while (at < end && !pool_find(pool, at) && pool_in_hole(pool, at) == *hole)
		at++;
	return at;
}

/* ---- loading ---- */

static int load(struct pool *pool, uint64_t block, bool asked)
{
	struct pool_load *free_load = NULL;

	for (unsigned i = 0; i < POOL_LOADS_MAX && !free_load; i++)
		if (!pool->loads[i].op.in_flight && !pool->loads[i].page)
			free_load = &pool->loads[i];
	if (!free_load)
		return -EAGAIN;
	if (list_empty(&pool->free) && list_empty(&pool->clean))
		return pool->loading_count ? -EAGAIN : -ENOSPC;
	free_load->pool = pool;
	free_load->asked = asked;
	free_load->page = page_take(pool, block);
	free_load->page->state = PAGE_LOADING;
	pool->loading_count++;
	free_load->op = (struct io_op){
		.kind = IO_READ, .file = pool->store, .offset = block * BLOCK_BYTES, .len = BLOCK_BYTES,
		.data = free_load->page->data, .done = load_done,
	};
	pool->io->submit(pool->io, &free_load->op);
	return -EAGAIN;
}

/* Whether a load that has failed was asked for by somebody who can be told. */
static bool unreadable(const struct pool_load *loaded)
{
	struct pool *pool = loaded->pool;

	if (loaded->asked)
		pool->unreadable[pool->unreadable_next++ % POOL_UNREADABLE] = loaded->page->block + 1;
	return loaded->asked;
}

static void load_done(struct io_op *op, int64_t result)
{
	struct pool_load *loaded = container_of(op, struct pool_load, op);
	struct pool *pool = loaded->pool;
	struct page *page = loaded->page;
	int error = 0;

	CHECK(page->state == PAGE_LOADING);
	if (result != BLOCK_BYTES && pool->mend && pool->mend(pool, page->block)) {
		loaded->mending = true;
		return;
	}
	if (result != BLOCK_BYTES)
		error = unreadable(loaded) ? 0 : result < 0 ? (int)result : -EIO;
	load_over(loaded, result == BLOCK_BYTES);
	pool->loaded(pool, error);
}

int pool_ask(struct pool *pool, uint64_t block)
{
	struct page *page = pool_find(pool, block);

	if (page && page->state != PAGE_LOADING)
		pool_touch(pool, page);
	if (page || pool_in_hole(pool, block))
		return page && page->state == PAGE_LOADING ? -EAGAIN : 0;
	for (unsigned i = 0; i < POOL_UNREADABLE; i++) {
		if (pool->unreadable[i] == block + 1) {
			pool->unreadable[i] = 0;
			return -EIO;
		}
	}
	return load(pool, block, true);
}

static void load_over(struct pool_load *loaded, bool good)
{
	struct pool *pool = loaded->pool;
	struct page *page = loaded->page;

	loaded->page = NULL;
	loaded->mending = false;
	pool->loading_count--;
	page->state = PAGE_CLEAN;
	page->stamp = ++pool->stamps;
	page->lsn_first = page->lsn_last = 0;
	pool->clean_count++;
	list_append(&pool->clean, &page->link);
	if (!good)
		page_free(pool, page);
}

static struct pool_load *load_mending(const struct pool *pool, uint64_t block)
{
	for (unsigned i = 0; pool->loading_count && i < POOL_LOADS_MAX; i++)
		if (pool->loads[i].mending && pool->loads[i].page->block == block)
			return (struct pool_load *)&pool->loads[i];
	return NULL;
}

bool pool_mending(const struct pool *pool, uint64_t block)
{
	return load_mending(pool, block);
}

void pool_mended(struct pool *pool, uint64_t block, const uint8_t *data, uint64_t lsn, uint64_t lsn_end)
{
	struct pool_load *loaded = load_mending(pool, block);
	struct page *page;

	CHECK(loaded);
	page = loaded->page;
	memcpy(page->data, data, BLOCK_BYTES);
	load_over(loaded, true);
	page_dirty(pool, page, lsn, lsn_end);
	pool->loaded(pool, 0);
}

void pool_unmended(struct pool *pool, uint64_t block)
{
	struct pool_load *loaded = load_mending(pool, block);

	CHECK(loaded);
	load_over(loaded, false);
	pool->loaded(pool, 0);
}

bool pool_given_up(struct pool *pool, uint64_t block)
{
	struct pool_load *loaded = load_mending(pool, block);
	bool told;

	CHECK(loaded);
	told = unreadable(loaded);
	pool_unmended(pool, block);
	return told;
}

/* ---- one record ---- */

/* The blocks of a delta: [first, end) are touched, [full_first, full_end) are covered whole. */
struct blocks { uint64_t first, end, full_first, full_end; };

static struct blocks blocks_of(const struct record_delta *delta)
{
	uint64_t offset = from_le64(delta->offset), end = offset + from_le32(delta->length);
	struct blocks b = {
		.first = offset / BLOCK_BYTES, .end = round_up(end, BLOCK_BYTES) / BLOCK_BYTES,
		.full_first = round_up(offset, BLOCK_BYTES) / BLOCK_BYTES, .full_end = end / BLOCK_BYTES,
	};

	if (b.full_first > b.full_end)
		b.full_end = b.full_first;	/* within one block: nothing is whole */
	return b;
}

/* Whole blocks that become zeros are a hole; but one alone that keeps its space is a page of zeros: mostly it is filled
 * by what follows, often in the same record. */
static bool makes_hole(const struct record_delta *delta, const struct blocks *b)
{
	uint16_t kind = from_le16(delta->kind);

	return kind == DELTA_DISCARD || (kind == DELTA_ZERO && b->full_end - b->full_first > 1);
}

/* `last` is the newest block counted in `pages`: a record's deltas are mostly in order, so that a block changed by
 * several of them is counted once; counting one twice only asks for more than is needed. */
struct need { uint64_t pages, present_clean, holes, last; int result; };

static void need_block(struct pool *pool, uint64_t block, bool whole, struct need *need)
{
	struct page *page = pool_find(pool, block);

	if (page && page->state == PAGE_LOADING) {
		need->result = -EAGAIN;
	} else if (page) {
		need->present_clean += page->needed != pool->prepares && page->state == PAGE_CLEAN && !page->writing;
		page->needed = pool->prepares;
		pool_touch(pool, page);
	} else if (whole || need->last == block || pool_in_hole(pool, block)) {
		need->pages += need->last != block;
		need->last = block;
	} else if (need->result != -ENOSPC) {
		int result = load(pool, block, false);

		need->result = result;
	}
}

static void need_no_loads(struct pool *pool, uint64_t first, uint64_t end, struct need *need)
{
	for (unsigned i = 0; pool->loading_count && i < POOL_LOADS_MAX; i++) {
		const struct page *page = pool->loads[i].page;

		if (page && page->block >= first && page->block < end)
			need->result = need->result ? need->result : -EAGAIN;
	}
}

int pool_prepare(struct pool *pool, const struct record_delta *deltas, uint32_t count)
{
	struct need need = { .last = UINT64_MAX };

	pool->prepares++;

	for (uint32_t i = 0; i < count; i++) {
		struct blocks b = blocks_of(&deltas[i]);
		bool hole = makes_hole(&deltas[i], &b);

		for (uint64_t block = b.first; block < b.end; block++) {
			bool whole = block >= b.full_first && block < b.full_end;

			if (whole && hole) {	/* becomes a hole, or stays where it is being written */
				need_no_loads(pool, b.full_first, b.full_end, &need);
				need.holes++;
				block = b.full_end - 1;
			} else {
				need_block(pool, block, whole, &need);
			}
		}
	}
	if (need.pages + need.present_clean > pool->page_count || 2 * need.holes > HOLES_MAX)
		return -E2BIG;
	if (need.result)
		return need.result;
	if (need.pages > pool->free_count + pool->clean_count - need.present_clean)
		return pool->loading_count ? -EAGAIN : -ENOSPC;
	return holes_have_room(pool->holes, (uint32_t)need.holes) ? 0 : -ENOSPC;
}

static void page_dirty(struct pool *pool, struct page *page, uint64_t lsn, uint64_t lsn_end)
{
	if (page->state != PAGE_DIRTY) {
		if (page->state == PAGE_CLEAN && !page->writing)
			pool->clean_count--;
		list_remove(&page->link);
		page->state = PAGE_DIRTY;
		page->lsn_first = lsn;
		page->lsn_last = 0;
		page->order = ++pool->order;
		list_append(&pool->dirty, &page->link);
		pool->dirty_count++;
	}
	page->lsn_last = max_u64(page->lsn_last, lsn_end);	/* it may be ahead: see fetch.h */
	page->stamp = ++pool->stamps;
}

/* The page of @block to be changed by this record; new ones that are not written whole start as zeros. */
static struct page *page_for(struct pool *pool, uint64_t block, bool whole)
{
	struct page *page = pool_find(pool, block);

	if (page)
		return page;
	CHECK(whole || pool_in_hole(pool, block));
	page = page_take(pool, block);
	page->state = PAGE_FREE;
	page->writing = false;
	if (!whole)
		memset(page->data, 0, BLOCK_BYTES);
	return page;
}

/* @hole takes the place of the page. What the page held is no longer owed to the store, but only because this
 * hole is: so the hole is as old as the oldest record it replaces, and the tail waits for it as it would have
 * waited for the page. (Else a replay that begins behind that record and ends before the hole's own would show
 * a block that never was.) */
static void drop_page(struct pool *pool, struct page *page, struct hole *hole, uint64_t lsn)
{
	if (page->state == PAGE_DIRTY)
		hole->lsn = min_u64(hole->lsn, page->lsn_first);
	if (!page->writing) {
		page_free(pool, page);
		return;
	}
	/* Its older bytes are on their way to the store: they must be overwritten after that, not before. */
	memset(page->data, 0, BLOCK_BYTES);
	page_dirty(pool, page, lsn, hole->lsn_end);
}

static void make_hole(struct pool *pool, uint64_t first, uint64_t end, bool keep_space, uint64_t lsn,
		      uint64_t lsn_end)
{
	struct hole hole = { first, end, lsn, lsn_end, keep_space };

	if (end - first <= pool->page_count) {
		for (uint64_t block = first; block < end; block++) {
			struct page *page = pool_find(pool, block);

			if (page)
				drop_page(pool, page, &hole, lsn);
		}
	} else {
		for (uint64_t i = 0; i < pool->page_count; i++) {
			struct page *page = &pool->pages[i];

			if (page->state != PAGE_FREE && page->block >= first && page->block < end)
				drop_page(pool, page, &hole, lsn);
		}
	}
	holes_add(pool->holes, &hole);
}

static void apply_delta(struct pool *pool, const struct record_delta *delta, const uint8_t *bytes,
			uint64_t lsn, uint64_t lsn_end)
{
	struct blocks b = blocks_of(delta);
	uint64_t offset = from_le64(delta->offset), end = offset + from_le32(delta->length);
	bool data = from_le16(delta->kind) == DELTA_DATA;

	for (uint64_t block = b.first; block < b.end; block++) {
		bool whole = block >= b.full_first && block < b.full_end;
		uint64_t from = max_u64(offset, block * BLOCK_BYTES);
		uint64_t to = min_u64(end, (block + 1) * BLOCK_BYTES);
		struct page *page;

		if (whole && makes_hole(delta, &b)) {
			make_hole(pool, b.full_first, b.full_end, from_le16(delta->kind) == DELTA_ZERO, lsn, lsn_end);
			block = b.full_end - 1;
			continue;
		}
		page = page_for(pool, block, whole);
		CHECK(page->state != PAGE_LOADING);
		if (data)
			memcpy(page->data + from % BLOCK_BYTES, bytes + (from - offset), to - from);
		else
			memset(page->data + from % BLOCK_BYTES, 0, to - from);
		page_dirty(pool, page, lsn, lsn_end);
	}
}

void pool_apply(struct pool *pool, const struct record_delta *deltas, uint32_t count,
		const uint8_t *payload, uint64_t lsn, uint64_t lsn_end)
{
	for (uint32_t i = 0; i < count; i++) {
		struct blocks b = blocks_of(&deltas[i]);

		if (pool->changing)
			pool->changing(pool, b.first, b.end);
		apply_delta(pool, &deltas[i], payload, lsn, lsn_end);
		if (from_le16(deltas[i].kind) == DELTA_DATA)
			payload += from_le32(deltas[i].length);
	}
}

/* ---- destage ---- */

uint64_t pool_oldest(const struct pool *pool, uint64_t otherwise)
{
	struct list *link = list_first(&pool->dirty);
	uint64_t oldest = min_u64(holes_oldest(pool->holes), holes_oldest(pool->holes_now));

	if (link)
		oldest = min_u64(oldest, list_entry(link, struct page, link)->lsn_first);
	return min_u64(oldest, otherwise);
}

bool pool_dirty(const struct pool *pool)
{
	return !list_empty(&pool->dirty) || pool->holes->count || pool->holes_now->count;
}

uint64_t pool_clean_order(const struct pool *pool)
{
	struct list *link = list_first(&pool->dirty);

	return link ? list_entry(link, struct page, link)->order - 1 : pool->order;
}

void pool_forget(struct pool *pool)
{
	CHECK(pool->loading_count == 0 && pool->holes_now->count == 0);
	if (pool->changing)
		pool->changing(pool, 0, UINT64_MAX);
	for (uint64_t i = 0; i < pool->page_count; i++)
		if (pool->pages[i].state != PAGE_FREE)
			page_free(pool, &pool->pages[i]);
	pool->holes->count = 0;
}

void pool_page_copied(struct pool *pool, struct page *page)
{
	CHECK(page->state == PAGE_DIRTY && !page->writing);
	list_remove(&page->link);
	pool->dirty_count--;
	page->state = PAGE_CLEAN;
	page->writing = true;
}

void pool_page_written(struct pool *pool, struct page *page)
{
	CHECK(page->writing && (page->state == PAGE_CLEAN || page->state == PAGE_DIRTY));
	page->writing = false;
	if (page->state == PAGE_CLEAN) {
		list_append(&pool->clean, &page->link);
		pool->clean_count++;
	}
}
