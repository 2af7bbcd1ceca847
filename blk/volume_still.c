/* SPDX-License-Identifier: Apache-2.0 */
/* A still of the volume. What a block was at its moment is, in this order: what was kept of it, when it has changed
 * since; nothing (-ESTALE), when it has changed and was not kept; what readers see of it now.
 *
 * The invariant: before a block changes for the first time it is kept, or marked as changed. So a read that was in
 * flight meanwhile cannot deceive: when it is over, the block is asked for again, and that comes first. */
#include <errno.h>
#include <string.h>

#include "volume_private.h"

enum {
	STILL_VIEWS = 256,
	STILL_BITS_MAX = 1 << 27,	/* 16 MiB: a bit for each block up to 512 GiB, then one for several */
	STILL_RANGE_MAX = 4096,		/* blocks of a range that are looked at; of longer ones none is kept */
};

struct still_view {
	struct volume_still *still;
	struct volume_request request;
	uint64_t block;
	bool used, reading;
	int result;			/* when it is not being read */
	uint8_t *page;
};

struct still_kept { uint64_t block_plus_1, page; };	/* 0: free */

struct volume_still {
	struct blocks blocks;
	struct volume *volume;
	struct volume_still_config config;
	bool taken, freed;
	bool waiting;			/* somebody was told -EAGAIN */
	bool resync;			/* it is what readers see while a resync runs: that does not change */
	unsigned of_resync;		/* volume.views */
	uint64_t kept_count, slots;	/* slots: of kept, a power of two */
	struct still_kept *kept;	/* by block, open addressing */
	uint8_t *pages;			/* what is kept */
	uint64_t *changed;		/* a bit for 2^shift blocks */
	uint64_t changed_count;
	unsigned shift;
	unsigned in_flight, view_next;
	uint8_t *view_pages;
	struct still_view views[STILL_VIEWS];
};

static struct volume_still *of(struct blocks *blocks)
{
	return container_of(blocks, struct volume_still, blocks);
}

/* ---- what changes ---- */

static struct still_kept *kept_slot(const struct volume_still *s, uint64_t block)
{
	uint64_t at = block * 0x9e3779b97f4a7c15ull >> 20;

	for (;; at++) {
		struct still_kept *slot = &s->kept[at & (s->slots - 1)];

		if (slot->block_plus_1 == 0 || slot->block_plus_1 == block + 1)
			return slot;
	}
}

static bool has_changed(const struct volume_still *s, uint64_t block)
{
	uint64_t bit = block >> s->shift;

	return s->changed[bit / 64] >> bit % 64 & 1;
}

static void change(struct volume_still *s, uint64_t block)
{
	const struct page *page = pool_find(&s->volume->pool, block);
	struct still_kept *slot = kept_slot(s, block);
	uint64_t bit = block >> s->shift;

	if (slot->block_plus_1)
		return;
	if (has_changed(s, block))	/* it, or one beside it: what it is now is perhaps not what it was */
		return;
	if (page && page->state != PAGE_LOADING && s->config.keep(block, page->data)) {
		if (s->kept_count == s->config.blocks_max) {
			s->taken = false;
			return;
		}
		memcpy(s->pages + s->kept_count * BLOCK_BYTES, page->data, BLOCK_BYTES);
		*slot = (struct still_kept){ block + 1, s->kept_count++ };
		return;
	}
	s->changed[bit / 64] |= 1ull << bit % 64;
}

static void still_changing(struct pool *pool, uint64_t first, uint64_t end)
{
	struct volume_still *s = container_of(pool, struct volume, pool)->still;

	if (!s || !s->taken || s->resync)
		return;
	if (end == UINT64_MAX) {
		s->taken = false;
		return;
	}
	if (end - first <= STILL_RANGE_MAX) {
		for (uint64_t block = first; block < end && s->taken; block++)
			change(s, block);
		return;
	}
	for (uint64_t bit = first >> s->shift; bit <= (end - 1) >> s->shift; bit++)
		s->changed[bit / 64] |= 1ull << bit % 64;
}

/* ---- reading ---- */

static void still_delete(struct volume_still *s)
{
	struct io *io = s->volume->io;

	io->free(io, s->kept);
	io->free(io, s->pages);
	io->free(io, s->changed);
	io->free(io, s->view_pages);
	io->free(io, s);
}

static void view_read(struct volume_request *request, int result)
{
	struct still_view *view = container_of(request, struct still_view, request);
	struct volume_still *s = view->still;

	view->reading = false;
	view->result = result;
	s->in_flight--;
	if (s->freed) {
		if (s->in_flight == 0)
			still_delete(s);
		return;
	}
	if (s->waiting && s->blocks.ready) {
		s->waiting = false;
		s->blocks.ready(&s->blocks);
	}
}

static int wait(struct volume_still *s)
{
	s->waiting = true;
	return -EAGAIN;
}

static struct still_view *view_find(struct volume_still *s, uint64_t block)
{
	for (unsigned i = 0; i < STILL_VIEWS; i++)
		if (s->views[i].used && s->views[i].block == block)
			return &s->views[i];
	return NULL;
}

static void view_begin(struct volume_still *s, uint64_t block)
{
	for (unsigned i = 0; i < STILL_VIEWS; i++) {
		struct still_view *view = &s->views[s->view_next++ % STILL_VIEWS];

		if (view->reading)
			continue;
		view->block = block;
		view->used = view->reading = true;
		view->request = (struct volume_request){ .op = VOLUME_READ, .offset = block * BLOCK_BYTES,
							 .len = BLOCK_BYTES, .buffer = view->page, .done = view_read };
		s->in_flight++;
		volume_submit(s->volume, &view->request);
		return;
	}
}

/* What readers see is still of the same kind. */
static bool still_holds(struct volume_still *s)
{
	struct volume *v = s->volume;

	if (s->resync != resync_running(v) || (s->resync && (s->of_resync != v->views || !resync_readable(v))))
		s->taken = false;
	return s->taken;
}

static int still_read(struct blocks *blocks, uint64_t block, const uint8_t **page)
{
	struct volume_still *s = of(blocks);
	const struct still_kept *kept;
	struct still_view *view;

	if (block >= blocks->count)
		return -ERANGE;
	if (!still_holds(s))
		return -ESTALE;
	kept = kept_slot(s, block);
	if (kept->block_plus_1) {
		*page = s->pages + kept->page * BLOCK_BYTES;
		return 0;
	}
	if (has_changed(s, block))
		return -ESTALE;
	view = view_find(s, block);
	if (!view)
		view_begin(s, block);
	if (!view || view->reading)
		return wait(s);
	if (view->result) {	/* said once, then tried anew */
		view->used = false;
		return view->result;
	}
	*page = view->page;
	return 0;
}

/* ---- changing: never ---- */

static int refuse_page(struct blocks *blocks, uint64_t block, uint8_t **page)
{
	(void)blocks, (void)block, (void)page;
	return -EROFS;
}

static int refuse_write(struct blocks *blocks, uint64_t offset, const void *bytes, uint32_t len)
{
	(void)blocks, (void)offset, (void)bytes, (void)len;
	return -EROFS;
}

static int refuse_discard(struct blocks *blocks, uint64_t block, uint64_t count)
{
	(void)blocks, (void)block, (void)count;
	return -EROFS;
}

static int refuse_commit(struct blocks *blocks, const void *annotation, uint32_t len, uint64_t *lsn)
{
	(void)blocks, (void)annotation, (void)len, (void)lsn;
	return -EROFS;
}

static void still_abort(struct blocks *blocks)
{
	(void)blocks;
}

/* ---- new, take, free ---- */

static int allot(struct volume_still *s)
{
	struct io *io = s->volume->io;

	while (s->blocks.count >> s->shift > STILL_BITS_MAX)
		s->shift++;
	s->changed_count = (s->blocks.count >> s->shift) / 64 + 1;
	for (s->slots = 64; s->slots < 2 * s->config.blocks_max;)
		s->slots *= 2;
	s->kept = io->alloc(io, s->slots * sizeof *s->kept, 0);
	s->pages = io->alloc(io, s->config.blocks_max * BLOCK_BYTES, 0);
	s->changed = io->alloc(io, s->changed_count * sizeof *s->changed, 0);
	s->view_pages = io->alloc(io, STILL_VIEWS * (uint64_t)BLOCK_BYTES, IO_FIXED);
	return s->kept && s->pages && s->changed && s->view_pages ? 0 : -ENOMEM;
}

int volume_still_new(struct volume *v, const struct volume_still_config *config, struct volume_still **out)
{
	struct volume_still *s;
	int error;

	if (v->still)
		return -EBUSY;
	s = v->io->alloc(v->io, sizeof *s, 0);
	if (!s)
		return -ENOMEM;
	s->volume = v;
	s->config = *config;
	s->blocks = (struct blocks){
		.count = v->geometry.volume_bytes / BLOCK_BYTES, .read = still_read, .change = refuse_page,
		.fresh = refuse_page, .write = refuse_write, .discard = refuse_discard, .commit = refuse_commit,
		.abort = still_abort,
	};
	error = allot(s);
	if (error) {
		still_delete(s);
		return error;
	}
	for (unsigned i = 0; i < STILL_VIEWS; i++) {
		s->views[i].still = s;
		s->views[i].page = s->view_pages + i * (uint64_t)BLOCK_BYTES;
	}
	v->still = s;
	v->pool.changing = still_changing;
	*out = s;
	return 0;
}

void volume_still_free(struct volume_still *s)
{
	if (!s)
		return;
	s->volume->still = NULL;
	s->volume->pool.changing = NULL;
	s->freed = true;
	if (s->in_flight == 0)
		still_delete(s);
}

int volume_still_take(struct volume_still *s, uint64_t *lsn)
{
	struct volume *v = s->volume;

	if (v->state != VOLUME_OPEN)
		return v->state == VOLUME_NEW || v->state == VOLUME_OPENING ? -EAGAIN : -EIO;
	s->resync = resync_running(v);
	s->of_resync = v->views;
	if (s->resync && !resync_readable(v))
		return -EIO;
	memset(s->kept, 0, s->slots * sizeof *s->kept);
	memset(s->changed, 0, s->changed_count * sizeof *s->changed);
	s->kept_count = 0;
	/* What is being read may be of before. */
	for (unsigned i = 0; i < STILL_VIEWS; i++)
		s->views[i].used = false;
	s->taken = true;
	*lsn = s->resync ? from_le64(v->sink.slot->header.lsn) : v->applied;
	return 0;
}

struct blocks *volume_still_blocks(struct volume_still *s)
{
	return &s->blocks;
}
