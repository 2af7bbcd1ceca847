/* SPDX-License-Identifier: Apache-2.0 */
#include "destage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void destage_punched(struct io_op *op, int64_t result);
static void destage_staged(struct io_op *op, int64_t result);
static void destage_synced(struct io_op *op, int64_t result);

int destage_new(struct destage *d, struct io *io, int store, struct pool *pool, struct journal *journal,
		struct meta *meta, struct undo *undo, const uint64_t *applied, uint32_t stage_count,
		void (*freed)(struct destage *d))
{
	*d = (struct destage){ .io = io, .store = store, .pool = pool, .journal = journal, .meta = meta, .undo = undo,
			       .applied = applied, .freed = freed };
	d->stage_blocks = min_u64(DESTAGE_STAGE_BYTES / BLOCK_BYTES, pool->page_count);
	d->blocks = io->alloc(io, DESTAGE_ROUND_PAGES * sizeof *d->blocks, 0);
	if (!d->blocks)
		return -ENOMEM;
	for (d->stage_count = 0; d->stage_count < stage_count; d->stage_count++) {
		struct destage_stage *stage = &d->stages[d->stage_count];

		stage->destage = d;
		stage->buffer = io->alloc(io, d->stage_blocks * BLOCK_BYTES, IO_FIXED);
		if (!stage->buffer) {
			destage_delete(d);
			return -ENOMEM;
		}
	}
	return 0;
}

void destage_delete(struct destage *d)
{
	if (!d->io)
		return;
	CHECK(destage_quiet(d));
	for (uint32_t i = 0; i < d->stage_count; i++)
		d->io->free(d->io, d->stages[i].buffer);
	d->io->free(d->io, d->blocks);
	*d = (struct destage){ 0 };
}

bool destage_quiet(const struct destage *d)
{
	bool busy = d->sync.in_flight;

	for (unsigned i = 0; i < DESTAGE_PUNCHES; i++)
		busy |= d->punches[i].op.in_flight;
	for (uint32_t i = 0; i < d->stage_count; i++)
		busy |= d->stages[i].op.in_flight;
	return !busy;
}

bool destage_due(const struct destage *d)
{
	const struct journal *j = d->journal;

	return d->pool->dirty_count > d->pool->page_count / 4 ||
	       d->pool->holes->count > HOLES_MAX / 4 ||
	       j->log->end.lsn - j->tail > j->geometry->journal_bytes / 4;
}

static void fail(struct destage *d, int64_t result)
{
	if (!d->failed)
		d->failed = result < 0 ? (int)result : -EIO;
	d->freed(d);
}

/* The write-ahead rule: true when the store may be given what records up to @lsn made. */
static bool gate_open(struct destage *d, uint64_t lsn)
{
	if (d->journal->durable < lsn) {
		journal_want_durable(d->journal, min_u64(lsn, d->journal->log->closed.lsn));
		return false;
	}
	if (d->meta->saved_reach >= lsn)
		return true;
	if (d->meta->reach < lsn) {
		d->meta->reach = min_u64(*d->applied, d->journal->durable);
		meta_save(d->meta);
	}
	return false;
}

/* ---- barrier ---- */

static int compare_blocks(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Up to where the store will hold the log once all older than @oldest is synced; NULL: no further than now. */
static const struct position *tail_next(const struct destage *d, uint64_t oldest)
{
	const struct log *log = d->journal->log;
	const struct log_mark *mark = log_mark_below(log, oldest);
	const struct position *next = oldest == log->closed.lsn ? &log->closed : mark ? &mark->at : NULL;

	return next && next->lsn > d->meta->tail.lsn ? next : NULL;
}

/* Records that change no page (epochs, pads) fill the journal too; a round without pages gives their room back. */
static bool tail_lags(struct destage *d)
{
	if (!destage_due(d))
		return false;
	journal_want_durable(d->journal, d->journal->log->closed.lsn);
	return tail_next(d, min_u64(*d->applied, d->journal->durable)) != NULL;
}

void destage_start(struct destage *d)
{
	struct holes *holes = d->pool->holes;
	struct list *link;

	if (d->state != DESTAGE_IDLE || d->held || d->failed || d->journal->failed || d->meta->failed)
		return;
	if (!pool_dirty(d->pool) && !tail_lags(d))
		return;
	CHECK(d->pool->holes_now->count == 0);
	d->pool->holes = d->pool->holes_now;
	d->pool->holes_now = holes;
	d->barrier = *d->applied;
	d->block_count = d->block_next = d->hole_next = 0;
	for (link = d->pool->dirty.next; link != &d->pool->dirty; link = link->next) {
		struct page *page = list_entry(link, struct page, link);

		if (page->lsn_first >= d->barrier || d->block_count == DESTAGE_ROUND_PAGES)
			break;
		d->blocks[d->block_count++] = page->block;
	}
	qsort(d->blocks, d->block_count, sizeof *d->blocks, compare_blocks);
	d->started_ns = d->io->now_ns(d->io);
	d->started++;
	d->state = DESTAGE_PRESERVE;
	d->preserving = false;
	destage_step(d);
}

static void trace(struct destage *d, uint64_t first, uint64_t end)
{
	d->trace[d->traced++ % DESTAGE_TRACE] = (struct destage_range){ first, end };
}

bool destage_touched(const struct destage *d, uint64_t first, uint64_t end, uint64_t since)
{
	if (d->traced - since > DESTAGE_TRACE)
		return true;
	for (uint64_t i = since; i < d->traced; i++) {
		const struct destage_range *range = &d->trace[i % DESTAGE_TRACE];

		if (range->first < end && first < range->end)
			return true;
	}
	return false;
}

/* ---- preserve ---- */

static void preserve(struct destage *d)
{
	if (!undo_recording(d->undo)) {
		d->state = DESTAGE_PUNCH;
		return;
	}
	if (!d->preserving) {
		if (!undo_idle(d->undo))
			return;		/* a slot begins or ends; undo's moved() comes back here */
		d->preserving = true;
		d->undo->lsn_now = *d->applied;
		undo_preserve(d->undo, d->blocks, d->block_count, d->pool->holes_now);
	}
	if (undo_preserved(d->undo))
		d->state = DESTAGE_PUNCH;
}

/* ---- punch ---- */

static void punch(struct destage *d)
{
	struct holes *holes = d->pool->holes_now;
	bool busy = false;

	for (unsigned i = 0; i < DESTAGE_PUNCHES; i++) {
		const struct hole *hole = &holes->at[d->hole_next];
		struct destage_punch *p = &d->punches[i];

		if (!p->used && d->hole_next < holes->count && gate_open(d, hole->lsn_end)) {
			d->hole_next++;
			p->used = true;
			p->destage = d;
			p->op = (struct io_op){
				.kind = hole->keep_space ? IO_ZERO : IO_PUNCH, .file = d->store,
				.offset = hole->first * BLOCK_BYTES,
				.len = (hole->end - hole->first) * BLOCK_BYTES, .done = destage_punched,
			};
			trace(d, hole->first, hole->end);
			d->io->submit(d->io, &p->op);
		}
		busy |= p->used;
	}
	if (!busy && d->hole_next == holes->count) {
		holes->count = 0;	/* the store has them: its blocks read as zeros from here on */
		d->state = DESTAGE_STAGE;
	}
}

static void destage_punched(struct io_op *op, int64_t result)
{
	struct destage_punch *p = container_of(op, struct destage_punch, op);
	struct destage *d = p->destage;

	/* A full disk: zeros without space of their own are zeros too. */
	if (result == -ENOSPC && op->kind == IO_ZERO) {
		op->kind = IO_PUNCH;
		d->io->submit(d->io, op);
		return;
	}
	p->used = false;
	if (result < 0)
		fail(d, result);
	else
		d->punched_bytes += op->len;
	d->freed(d);	/* whoever waits for a failed one to be quiet, too */
	destage_step(d);
}

/* ---- stage ---- */

/* A page of this round that still is to be copied. One that was dropped, or became dirty only after the
 * barrier (there may be a hole under it that is not punched yet), or is ahead of what is applied (fetch.h), waits for
 * the next round. */
static struct page *round_page(struct destage *d, uint64_t block)
{
	struct page *page = pool_find(d->pool, block);

	if (!page || page->state != PAGE_DIRTY || page->writing || page->lsn_first >= d->barrier ||
	    page->lsn_last > *d->applied)
		return NULL;
	return page;
}

static void stage_fill(struct destage *d, struct destage_stage *stage)
{
	stage->lsn = 0;
	while (d->block_next < d->block_count && stage->count < d->stage_blocks) {
		uint64_t block = d->blocks[d->block_next];
		struct page *page = round_page(d, block);

		if (stage->count && block != stage->block + stage->count)
			break;
		d->block_next++;
		if (!page && stage->count)
			break;
		if (!page)
			continue;
		if (!stage->count)
			stage->block = block;
		memcpy(stage->buffer + stage->count++ * BLOCK_BYTES, page->data, BLOCK_BYTES);
		stage->lsn = max_u64(stage->lsn, page->lsn_last);
		pool_page_copied(d->pool, page);
	}
}

static void stage_write(struct destage *d, struct destage_stage *stage)
{
	trace(d, stage->block, stage->block + stage->count);
	stage->written = true;
	stage->full = false;
	stage->op = (struct io_op){
		.kind = IO_WRITE, .file = d->store, .offset = stage->block * BLOCK_BYTES,
		.len = stage->count * BLOCK_BYTES, .data = stage->buffer, .done = destage_staged,
	};
	d->io->submit(d->io, &stage->op);
}

static void stage(struct destage *d)
{
	bool busy = false;

	for (uint32_t i = 0; i < d->stage_count; i++) {
		struct destage_stage *s = &d->stages[i];

		if (!s->count)
			stage_fill(d, s);
		if (s->count && !s->written && gate_open(d, s->lsn))
			stage_write(d, s);
		busy |= s->count > 0;
	}
	if (busy)
		return;
	d->state = DESTAGE_SYNC;
	d->sync = (struct io_op){ .kind = IO_SYNC, .file = d->store, .done = destage_synced };
	d->io->submit(d->io, &d->sync);
}

static void destage_staged(struct io_op *op, int64_t result)
{
	struct destage_stage *s = container_of(op, struct destage_stage, op);
	struct destage *d = s->destage;

	if (result == -ENOSPC || result == -EDQUOT) {
		s->full = d->store_full = true;
		d->freed(d);
		return;
	}
	if (result != (int64_t)op->len) {
		fail(d, result);
		return;
	}
	for (uint64_t i = 0; i < s->count; i++)
		pool_page_written(d->pool, pool_find(d->pool, s->block + i));
	d->bytes += op->len;
	s->count = 0;
	s->written = false;
	d->freed(d);
	destage_step(d);
}

void destage_retry(struct destage *d)
{
	if (!d->store_full)
		return;
	d->store_full = false;
	for (uint32_t i = 0; i < d->stage_count; i++)
		if (d->stages[i].full)
			stage_write(d, &d->stages[i]);
}

/* ---- sync, tail ---- */

static void destage_synced(struct io_op *op, int64_t result)
{
	struct destage *d = container_of(op, struct destage, sync);
	uint64_t solid = min_u64(*d->applied, d->journal->durable);
	const struct position *next = tail_next(d, pool_oldest(d->pool, solid));

	if (result < 0) {
		fail(d, result);
		return;
	}
	d->finished = d->started;
	d->clean_order = pool_clean_order(d->pool);
	if (next)
		d->meta->tail = *next;
	d->meta->reach = max_u64(d->meta->reach, solid);
	d->ticket = meta_save(d->meta);
	d->state = DESTAGE_TAIL;
}

static void tail(struct destage *d)
{
	if (d->meta->saved < d->ticket)
		return;
	/* Other fields may have been saved since, the tail only moves here. */
	d->journal->tail = d->meta->tail.lsn;
	d->rounds++;
	d->ended_ns = d->io->now_ns(d->io);
	d->state = DESTAGE_IDLE;
	d->freed(d);
	if (d->state == DESTAGE_IDLE && destage_due(d))
		destage_start(d);
}

void destage_step(struct destage *d)
{
	if (d->failed || d->journal->failed || d->meta->failed)
		return;
	if (d->undo->failed)
		return;
	if (d->state == DESTAGE_PRESERVE)
		preserve(d);
	if (d->state == DESTAGE_PUNCH)
		punch(d);
	if (d->state == DESTAGE_STAGE)
		stage(d);
	if (d->state == DESTAGE_TAIL)
		tail(d);
}
