/* SPDX-License-Identifier: Apache-2.0 */
#include "volume_private.h"

#include <errno.h>
#include <string.h>

static struct volume_blocks *of(struct blocks *blocks)
{
	return container_of(blocks, struct volume_blocks, blocks);
}

static int wait(struct volume_blocks *b)
{
	b->waiting = true;
	return -EAGAIN;
}

/* ---- the transaction's own pages ---- */

static uint16_t *index_of(struct volume_blocks *b, uint64_t block)
{
	uint64_t at = block * 0x9e3779b97f4a7c15ull >> 20;

	for (;; at++) {
		uint16_t *slot = &b->index[at % BLOCKS_INDEX];

		if (!*slot || b->changes[*slot - 1].block == block)
			return slot;
	}
}

static struct blocks_change *change_find(struct volume_blocks *b, uint64_t block)
{
	uint16_t *slot = b->change_count ? index_of(b, block) : NULL;

	return slot && *slot ? &b->changes[*slot - 1] : NULL;
}

static void end(struct volume_blocks *b)
{
	if (b->change_count)
		memset(b->index, 0, sizeof b->index);
	b->change_count = b->run_count = 0;
	b->run_bytes = 0;
}

/* ---- reading ---- */

static int status(const struct volume *v)
{
	switch (v->state) {
	case VOLUME_OPEN: return 0;
	case VOLUME_NEW:
	case VOLUME_OPENING: return -EAGAIN;
	default: return -EIO;
	}
}

static void view_read(struct volume_request *request, int result)
{
	struct blocks_view *view = container_of(request, struct blocks_view, request);

	view->result = result;
	volume_turn_soon(view->all->volume);
}

static uint16_t *view_chain(struct volume_blocks *b, uint64_t block)
{
	return &b->view_chains[(block * 0x9e3779b97f4a7c15ull >> 40) % BLOCKS_VIEWS];
}

static struct blocks_view *view_find(struct volume_blocks *b, uint64_t block)
{
	for (unsigned at = *view_chain(b, block); at; at = b->views[at - 1].next)
		if (b->views[at - 1].block == block)
			return &b->views[at - 1];
	return NULL;
}

/* The view that was taken longest ago becomes this block's, which has none. NULL: all are being read. */
static struct blocks_view *view_take(struct volume_blocks *b, uint64_t block)
{
	struct blocks_view *view = NULL;
	uint16_t *at;

	for (unsigned i = 0; i < BLOCKS_VIEWS && (!view || view->result == 1); i++)
		view = &b->views[b->view_next++ % BLOCKS_VIEWS];
	if (view->result == 1)
		return NULL;
	if (view->indexed) {
		for (at = view_chain(b, view->block); &b->views[*at - 1] != view; )
			at = &b->views[*at - 1].next;
		*at = view->next;
	}
	at = view_chain(b, block);
	view->block = block;
	view->indexed = true;
	view->next = *at;
	*at = (uint16_t)(view - b->views + 1);
	return view;
}

/* A block as readers see it while a resync runs. */
static int read_view(struct volume_blocks *b, uint64_t block, const uint8_t **page)
{
	struct blocks_view *view = view_find(b, block);
	struct volume *v = b->volume;

	if (view && view->result == 1)
		return wait(b);
	if (view && view->view == v->views + 1) {
		if (view->result) {	/* said once, then tried anew */
			view->view = 0;
			return -EIO;
		}
		*page = view->page;
		return 0;
	}
	if (!view)
		view = view_take(b, block);
	if (!view)
		return wait(b);
	view->view = v->views + 1;
	view->result = 1;
	view->request = (struct volume_request){ .op = VOLUME_READ, .offset = block * BLOCK_BYTES, .len = BLOCK_BYTES,
						 .buffer = view->page, .done = view_read };
	volume_submit(v, &view->request);
	return wait(b);
}

static int blocks_read(struct blocks *blocks, uint64_t block, const uint8_t **page)
{
	static const uint8_t zeros[BLOCK_BYTES];
	struct volume_blocks *b = of(blocks);
	struct volume *v = b->volume;
	struct blocks_change *change;
	const struct page *found;
	int result = status(v);

	if (block >= blocks->count)
		return -ERANGE;
	if (result)
		return result == -EAGAIN ? wait(b) : result;
	change = change_find(b, block);
	if (change) {
		*page = change->page;
		return 0;
	}
	if (resync_running(v))
		return read_view(b, block, page);
	result = pool_ask(&v->pool, block);
	if (result == -ENOSPC)
		destage_start(&v->destage);
	if (result == -ENOSPC || result == -EAGAIN || (!result && fetch_ahead(v, block, block + 1)))
		return wait(b);
	if (result)
		return result;
	found = pool_find(&v->pool, block);
	*page = found ? found->data : zeros;
	return 0;
}

static uint64_t blocks_stamp(struct blocks *blocks, uint64_t block)
{
	struct volume *v = of(blocks)->volume;
	const struct page *found = resync_running(v) ? NULL : pool_find(&v->pool, block);

	return found && found->state != PAGE_LOADING ? found->stamp : 0;
}

/* ---- changing ---- */

static int may_change(const struct volume *v)
{
	int result = status(v);

	if (result)
		return result;
	return v->failed ? -EIO : v->role != ROLE_PRIMARY ? -EROFS : 0;
}

static int change_new(struct volume_blocks *b, uint64_t block, bool fresh, struct blocks_change **out)
{
	if (b->change_count == BLOCKS_CHANGES_MAX)
		return -E2BIG;
	*out = &b->changes[b->change_count++];
	**out = (struct blocks_change){ .block = block, .page = (*out)->page, .fresh = fresh };
	*index_of(b, block) = (uint16_t)b->change_count;
	return 0;
}

static int blocks_change(struct blocks *blocks, uint64_t block, uint8_t **page)
{
	struct volume_blocks *b = of(blocks);
	struct blocks_change *change = change_find(b, block);
	const uint8_t *now;
	int result = may_change(b->volume);

	if (result)
		return result == -EAGAIN ? wait(b) : result;
	if (!change) {
		result = blocks_read(blocks, block, &now);
		if (!result)
			result = change_new(b, block, false, &change);
		if (result)
			return result;
		memcpy(change->page, now, BLOCK_BYTES);
	}
	*page = change->page;
	return 0;
}

static int blocks_fresh(struct blocks *blocks, uint64_t block, uint8_t **page)
{
	struct volume_blocks *b = of(blocks);
	struct blocks_change *change = change_find(b, block);
	int result = may_change(b->volume);

	if (result)
		return result == -EAGAIN ? wait(b) : result;
	if (block >= blocks->count)
		return -ERANGE;
	if (!change) {
		result = change_new(b, block, true, &change);
		if (result)
			return result;
	}
	memset(change->page, 0, BLOCK_BYTES);
	*page = change->page;
	return 0;
}

static int run_new(struct volume_blocks *b, uint64_t offset, uint64_t len, const uint8_t *bytes)
{
	uint64_t volume_bytes = b->blocks.count * BLOCK_BYTES;
	int result = may_change(b->volume);

	if (result)
		return result == -EAGAIN ? wait(b) : result;
	CHECK(len > 0);
	if (offset > volume_bytes || len > volume_bytes - offset)
		return -ERANGE;
	if (b->run_count == BLOCKS_RUNS_MAX)
		return -E2BIG;
	b->runs[b->run_count++] = (struct blocks_run){ offset, len, bytes };
	return 0;
}

static int blocks_write(struct blocks *blocks, uint64_t offset, const void *bytes, uint32_t len)
{
	struct volume_blocks *b = of(blocks);
	int result;

	if (b->run_bytes + len > blocks->write_max)
		return -E2BIG;
	result = run_new(b, offset, len, bytes);
	if (!result)
		b->run_bytes += len;
	return result;
}

static int blocks_discard(struct blocks *blocks, uint64_t block, uint64_t count)
{
	uint64_t done, len;
	int result = 0;

	CHECK(count > 0);
	if (block > blocks->count || count > blocks->count - block)
		return -ERANGE;
	for (done = 0; !result && done < count * BLOCK_BYTES; done += len) {
		len = min_u64(count * BLOCK_BYTES - done, DELTA_RANGE_MAX);
		result = run_new(of(blocks), block * BLOCK_BYTES + done, len, NULL);
	}
	return result;
}

/* ---- committing ---- */

static void delta_add(struct volume_blocks *b, uint64_t offset, uint64_t len, enum delta_kind kind,
		      const uint8_t *bytes)
{
	CHECK(b->delta_count < BLOCKS_DELTAS_MAX);
	b->deltas[b->delta_count++] = (struct record_delta){
		.offset = to_le64(offset), .length = to_le32((uint32_t)len), .kind = to_le16((uint16_t)kind),
	};
	if (bytes)
		b->slices[b->slice_count++] = (struct slice){ bytes, (uint32_t)len };
}

/* The first byte from @at that differs, or BLOCK_BYTES. */
static unsigned differ_next(const uint8_t *x, const uint8_t *y, unsigned at)
{
	uint64_t wide_x, wide_y;

	while (at % sizeof wide_x && x[at] == y[at])
		at++;
	if (at % sizeof wide_x)
		return at;
	for (; at < BLOCK_BYTES; at += sizeof wide_x) {
		memcpy(&wide_x, x + at, sizeof wide_x);
		memcpy(&wide_y, y + at, sizeof wide_y);
		if (wide_x != wide_y)
			break;
	}
	while (at < BLOCK_BYTES && x[at] == y[at])
		at++;
	return at;
}

/* The ranges of the page that differ from what stands there now. */
static void page_deltas(struct volume_blocks *b, const struct blocks_change *change, const uint8_t *now)
{
	unsigned at = differ_next(change->page, now, 0), next, to;

	for (unsigned ranges = 1; at < BLOCK_BYTES; ranges++, at = next) {
		for (to = at + 1;; to = next + 1) {
			next = differ_next(change->page, now, to);
			if (next == BLOCK_BYTES || (next - to >= BLOCKS_GAP_MIN && ranges < BLOCKS_RANGES_MAX))
				break;
		}
		/* Of a run of bytes that differ, differ_next() finds one after the other; `to` is behind the last. */
		delta_add(b, change->block * BLOCK_BYTES + at, to - at, DELTA_DATA, change->page + at);
	}
}

static void change_deltas(struct volume_blocks *b, const struct blocks_change *change)
{
	static const uint8_t zeros[BLOCK_BYTES];
	struct pool *pool = &b->volume->pool;
	const struct page *found = pool_find(pool, change->block);

	if (found && found->state != PAGE_LOADING) {
		page_deltas(b, change, found->data);
	} else if (!found && pool_in_hole(pool, change->block)) {
		page_deltas(b, change, zeros);
	} else if (change->fresh) {	/* nobody knows what stands there, and it does not matter */
		delta_add(b, change->block * BLOCK_BYTES, BLOCK_BYTES, DELTA_ZERO, NULL);
		page_deltas(b, change, zeros);
	} else {			/* its page was given up meanwhile */
		delta_add(b, change->block * BLOCK_BYTES, BLOCK_BYTES, DELTA_DATA, change->page);
	}
}

static void deltas_make(struct volume_blocks *b)
{
	b->delta_count = b->slice_count = 0;
	/* Discards first: what they empty may be pages that a destage need not write. */
	for (unsigned i = 0; i < b->run_count; i++)
		if (!b->runs[i].bytes)
			delta_add(b, b->runs[i].offset, b->runs[i].len, DELTA_DISCARD, NULL);
	for (unsigned i = 0; i < b->change_count; i++)
		change_deltas(b, &b->changes[i]);
	for (unsigned i = 0; i < b->run_count; i++)
		if (b->runs[i].bytes)
			delta_add(b, b->runs[i].offset, b->runs[i].len, DELTA_DATA, b->runs[i].bytes);
}

static int record_append(struct volume_blocks *b, const void *annotation, uint32_t len)
{
	struct volume *v = b->volume;
	struct record_draft draft = { .kind = RECORD_DATA, .deltas = b->deltas, .delta_count = b->delta_count,
				      .annotation = annotation, .annotation_len = len,
				      .payload = b->slices, .slice_count = b->slice_count };

	if (log_draft_length(&draft) > record_bytes_max(&v->geometry))
		return -E2BIG;
	if (v->frozen)
		return -EAGAIN;
	return volume_append(v, &draft);
}

static int blocks_commit(struct blocks *blocks, const void *annotation, uint32_t len, uint64_t *lsn)
{
	struct volume_blocks *b = of(blocks);
	struct volume *v = b->volume;
	int result = 0;

	CHECK(len <= BLOCKS_ANNOTATION_MAX);
	if (b->change_count || b->run_count) {
		result = may_change(v);
		if (!result) {
			deltas_make(b);
			result = b->delta_count ? record_append(b, annotation, len) : 0;
		}
	}
	end(b);
	if (result)
		return result == -EAGAIN ? wait(b) : result;
	*lsn = v->log.end.lsn;
	if (destage_due(&v->destage))
		destage_start(&v->destage);
	volume_turn_soon(v);
	return 0;
}

static void blocks_abort(struct blocks *blocks)
{
	end(of(blocks));
}

/* ---- new, free, turn ---- */

struct blocks *volume_blocks(struct volume *v)
{
	return v->blocks ? &v->blocks->blocks : NULL;
}

uint64_t volume_blocks_memory_bytes(void)
{
	return sizeof(struct volume_blocks) + (BLOCKS_CHANGES_MAX + BLOCKS_VIEWS) * (uint64_t)BLOCK_BYTES;
}

int volume_blocks_new(struct volume *v)
{
	struct volume_blocks *b;

	if (!v->config.filesystem)
		return 0;
	v->blocks = b = v->io->alloc(v->io, sizeof *b, 0);
	if (!b)
		return -ENOMEM;
	b->pages = v->io->alloc(v->io, (BLOCKS_CHANGES_MAX + BLOCKS_VIEWS) * (uint64_t)BLOCK_BYTES, IO_FIXED);
	if (!b->pages)
		return -ENOMEM;
	b->volume = v;
	b->blocks = (struct blocks){
		.count = v->geometry.volume_bytes / BLOCK_BYTES, .write_max = record_bytes_max(&v->geometry) / 2,
		.read = blocks_read, .stamp = blocks_stamp,
		.change = blocks_change, .fresh = blocks_fresh, .write = blocks_write,
		.discard = blocks_discard, .commit = blocks_commit, .abort = blocks_abort,
	};
	for (unsigned i = 0; i < BLOCKS_CHANGES_MAX; i++)
		b->changes[i].page = b->pages + i * (uint64_t)BLOCK_BYTES;
	for (unsigned i = 0; i < BLOCKS_VIEWS; i++) {
		b->views[i].all = b;
		b->views[i].page = b->pages + (BLOCKS_CHANGES_MAX + i) * (uint64_t)BLOCK_BYTES;
	}
	return 0;
}

void volume_blocks_delete(struct volume *v)
{
	if (!v->blocks)
		return;
	v->io->free(v->io, v->blocks->pages);
	v->io->free(v->io, v->blocks);
	v->blocks = NULL;
}

void volume_blocks_turn(struct volume *v)
{
	struct volume_blocks *b = v->blocks;

	if (!b || !b->waiting || !b->blocks.ready)
		return;
	b->waiting = false;
	b->blocks.ready(&b->blocks);
}
