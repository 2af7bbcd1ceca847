/* SPDX-License-Identifier: Apache-2.0 */
/* Reads. A read takes pages first, zeros where a hole is, and the store for the rest; a block that the store cannot
 * give is had from a peer (fetch.h). While a resync changes the store, readers see its snapshot. */
#include <errno.h>
#include <string.h>

#include "volume_private.h"

/* request->stage of a read: how often it began, and whether it is the store's done() that we are in, or a turn. */
enum { READ_STORE = 1, READ_SINGLE = 2 /* a block at a time */, READ_TRY = 4, READ_TRIES = 16 };

static void read_go_on(struct volume *v, struct volume_request *request);

/* Copies what memory knows of the request's blocks into its buffer. A block of which memory knows nothing is
 * left as it is: the store's bytes are, or will be, there. */
static void read_overlay(struct volume *v, struct volume_request *request)
{
	uint64_t first = request->offset / BLOCK_BYTES;
	uint64_t end = round_up(request->offset + request->len, BLOCK_BYTES) / BLOCK_BYTES;

	for (uint64_t block = first; block < end; block++) {
		struct page *page = pool_find(&v->pool, block);
		uint8_t *to = request->buffer + (block - first) * BLOCK_BYTES;

		if (page && page->state != PAGE_LOADING) {
			memcpy(to, page->data, BLOCK_BYTES);
			pool_touch(&v->pool, page);
		} else if (!page && pool_in_hole(&v->pool, block)) {
			memset(to, 0, BLOCK_BYTES);
		}
	}
}

static bool needs_store(const struct volume *v, uint64_t block)
{
	const struct page *page = pool_find(&v->pool, block);

	return page ? page->state == PAGE_LOADING : !pool_in_hole(&v->pool, block);
}

void volume_read_refuse(struct volume *v, struct volume_request *request)
{
	say(v->io, IO_ERROR, "volume=%s store: reading %llu bytes at %llu failed", v->config.name,
	    (unsigned long long)request->io.len, (unsigned long long)request->io.offset);
	volume_answer(v, request, -EIO);
}

static void read_from_store_done(struct io_op *op, int64_t result)
{
	struct volume_request *request = container_of(op, struct volume_request, io);
	struct volume *v = request->volume;

	if (result != (int64_t)op->len) {
		/* Which block is it? A peer may have it. */
		if (op->len > BLOCK_BYTES && fetch_serves(v, request)) {
			request->stage |= READ_SINGLE;
			read_go_on(v, request);
		} else if (!fetch_read(v, request)) {
			volume_read_refuse(v, request);
		}
		return;
	}
	request->progress = (op->offset + op->len) / BLOCK_BYTES;
	read_go_on(v, request);
}

static void read_begin(struct volume *v, struct volume_request *request)
{
	request->progress = 0;
	request->stage += READ_TRY;
	request->lsn = v->destage.traced;
	read_overlay(v, request);
	read_go_on(v, request);
}

/* All its bytes are there. Memory is asked again: what changed meanwhile has a page, unless a destage has brought
 * it to the store since and the page was given up. Then the read begins anew, so that what it returns is the
 * volume as of one LSN. (A read that loses that race READ_TRIES times gets what it has: each block is right as
 * of some moment since it was submitted.) */
static void read_end(struct volume *v, struct volume_request *request)
{
	uint64_t first = request->offset / BLOCK_BYTES;
	uint64_t end = round_up(request->offset + request->len, BLOCK_BYTES) / BLOCK_BYTES;
	int result = 0;

	if (destage_touched(&v->destage, first, end, request->lsn)) {
		if (request->stage < READ_TRIES * READ_TRY) {
			read_begin(v, request);
			return;
		}
		result = request->flags & VOLUME_EXACT ? -EAGAIN : 0;
	}
	/* It began before a resync did: not what readers are shown now. */
	if (resync_running(v) && !(request->flags & VOLUME_CURRENT)) {
		volume_read_again(v, request);
		return;
	}
	if (fetch_ahead(v, first, end)) {
		if (!(request->flags & VOLUME_CURRENT)) {
			fetch_early(v, request);
			return;
		}
		result = -EAGAIN;
	}
	read_overlay(v, request);
	request->lsn = v->applied;
	if (request->stage & READ_STORE)	/* not in volume_submit() */
		volume_answer(v, request, result);
	else
		volume_answer_later(v, request, result);
}

/* The next run of blocks that only the store knows, or the end. */
static void read_go_on(struct volume *v, struct volume_request *request)
{
	uint64_t first = request->offset / BLOCK_BYTES, from = max_u64(request->progress, first), to;
	uint64_t end = round_up(request->offset + request->len, BLOCK_BYTES) / BLOCK_BYTES;
	uint64_t most = request->stage & READ_SINGLE ? BLOCK_BYTES : IO_LEN_MAX;

	while (from < end && !needs_store(v, from))
		from++;
	for (to = from; to < end && (to - from) * BLOCK_BYTES < most && needs_store(v, to); to++)
		;
	if (from == end) {
		read_end(v, request);
		return;
	}
	request->stage |= READ_STORE;
	request->io = (struct io_op){
		.kind = IO_READ, .file = v->config.store, .offset = from * BLOCK_BYTES,
		.len = (to - from) * BLOCK_BYTES, .data = request->buffer + (from - first) * BLOCK_BYTES,
		.done = read_from_store_done,
	};
	v->io->submit(v->io, &request->io);
}

/* ---- reads while a resync changes the store ---- */

static void view_go_on(struct volume *v, struct volume_request *request);

/* From a done(), or a turn. */
void volume_read_again(struct volume *v, struct volume_request *request)
{
	request->progress = 0;
	if (!resync_running(v)) {
		request->stage = READ_STORE;
		read_begin(v, request);
	} else if (resync_readable(v)) {
		request->stage = v->views;
		view_go_on(v, request);
	} else {
		volume_answer(v, request, -EIO);
	}
}

static void view_read_done(struct io_op *op, int64_t result)
{
	struct volume_request *request = container_of(op, struct volume_request, io);
	struct volume *v = request->volume;
	uint64_t from = request->progress, to = from + op->len / BLOCK_BYTES;

	/* Meanwhile the resync may be over (or another one have begun): what was read is nothing. */
	if (!resync_running(v) || request->stage != v->views) {
		volume_read_again(v, request);
		return;
	}
	if (result != (int64_t)op->len || !resync_readable(v)) {
		volume_answer(v, request, -EIO);
		return;
	}
	/* A block of the store may have been replaced while we read it: then its bit was set before. */
	if (op->file == v->config.store)
		to = min_u64(to, bitmap_next(&v->sink.slot->saved, from));
	request->progress = to;
	view_go_on(v, request);
}

/* The next run of blocks that are all in the snapshot, or all still in the store. */
static void view_go_on(struct volume *v, struct volume_request *request)
{
	const struct bitmap *saved = &v->sink.slot->saved;
	uint64_t first = request->offset / BLOCK_BYTES, from = max_u64(request->progress, first), to;
	uint64_t end = round_up(request->offset + request->len, BLOCK_BYTES) / BLOCK_BYTES;
	bool in_undo;

	request->progress = from;
	if (from == end) {
		request->lsn = from_le64(v->sink.slot->header.lsn);
		volume_answer(v, request, 0);
		return;
	}
	in_undo = bitmap_test(saved, from);
	to = min_u64(end, in_undo ? bitmap_next_clear(saved, from) : bitmap_next(saved, from));
	to = min_u64(to, from + IO_LEN_MAX / BLOCK_BYTES);
	request->io = (struct io_op){
		.kind = IO_READ, .file = in_undo ? v->sink.slot->file : v->config.store,
		.offset = in_undo ? undo_block_offset(&v->undo, from) : from * BLOCK_BYTES,
		.len = (to - from) * BLOCK_BYTES, .data = request->buffer + (from - first) * BLOCK_BYTES,
		.done = view_read_done,
	};
	v->io->submit(v->io, &request->io);
}

void volume_read_submit(struct volume *v, struct volume_request *request)
{
	CHECK((uintptr_t)request->buffer % BLOCK_BYTES == 0);
	v->reads++;
	v->bytes_read += request->len;
	if (!resync_running(v))
		read_begin(v, request);
	else if (resync_readable(v))
		volume_read_again(v, request);
	else
		volume_answer_later(v, request, -EIO);
}

void volume_read_current(struct volume *v, struct volume_request *request)
{
	list_init(&request->link);
	request->volume = v;
	request->flags |= VOLUME_CURRENT;
	request->progress = 0;
	request->stage = 0;
	v->requests_in_flight++;
	read_begin(v, request);
}

static void mapped(struct io_op *op, int64_t result)
{
	struct volume_request *request = container_of(op, struct volume_request, io);
	struct volume *v = request->volume;

	/* A file's extent may end inside a block of ours; such a block is data. */
	if (result >= 0 && op->extent < BLOCK_BYTES)
		result = 1;
	op->extent = max_u64(round_down(op->extent, BLOCK_BYTES), BLOCK_BYTES);
	request->extent = min_u64(op->extent - request->offset % BLOCK_BYTES, request->len);
	volume_answer(v, request, result < 0 ? -EIO : (int)result);
}

void volume_map_submit(struct volume *v, struct volume_request *request)
{
	uint64_t block = request->offset / BLOCK_BYTES, to = block + 1;
	uint64_t end = round_up(request->offset + request->len, BLOCK_BYTES) / BLOCK_BYTES;
	bool hole = false;

	if (resync_running(v)) {	/* nobody knows; to say that it is data is always right */
		request->extent = request->len;
		volume_answer_later(v, request, 1);
		return;
	}
	if (pool_find(&v->pool, block)) {
		while (to < end && pool_find(&v->pool, to))
			to++;
	} else {
		to = pool_run_end(&v->pool, block, end, &hole);
	}
	request->extent = min_u64(to * BLOCK_BYTES - request->offset, request->len);
	if (pool_find(&v->pool, block) || hole) {
		volume_answer_later(v, request, hole ? 0 : 1);
		return;
	}
	request->io = (struct io_op){
		.kind = IO_MAP, .file = v->config.store, .offset = block * BLOCK_BYTES,
		.len = (to - block) * BLOCK_BYTES, .done = mapped,
	};
	v->io->submit(v->io, &request->io);
}
