/* SPDX-License-Identifier: Apache-2.0 */
#include "cursor.h"

#include <errno.h>
#include <string.h>

static uint32_t buffer_bytes_of(const struct geometry *g)
{
	/* A whole record from wherever it starts in its block, rounded to blocks of the device. */
	return (uint32_t)round_up(record_bytes_max(g), 4096) + 2 * 4096;
}

int cursor_new(struct cursor *c, struct io *io, struct log *log, struct journal *journal,
	       void (*ready)(struct cursor *c))
{
	*c = (struct cursor){ .io = io, .log = log, .journal = journal, .limit = UINT64_MAX, .ready = ready };
	c->buffer_bytes = buffer_bytes_of(log->geometry);
	c->buffer = io->alloc(io, c->buffer_bytes, IO_FIXED);
	return c->buffer ? 0 : -ENOMEM;
}

void cursor_delete(struct cursor *c)
{
	if (!c->io)
		return;
	CHECK(!c->op.in_flight);
	c->io->free(c->io, c->buffer);
	*c = (struct cursor){ 0 };
}

void cursor_seek(struct cursor *c, const struct position *at)
{
	c->at = *at;
	c->doubt = true;
	c->buffer_len = 0;
	c->read_for = UINT64_MAX;
	c->error = 0;
}

static void cursor_read_done(struct io_op *op, int64_t result)
{
	struct cursor *c = container_of(op, struct cursor, op);

	/* After a seek elsewhere these bytes are still what the file held at buffer_lsn; look() decides. */
	c->buffer_len = result > 0 ? (uint32_t)result : 0;
	c->error = result < 0 ? (int)result : result == 0 ? -EIO : 0;
	c->ready(c);
}

static int read_here(struct cursor *c)
{
	const struct geometry *g = c->log->geometry;
	uint64_t from = round_down(c->at.lsn, 4096), boundary = round_down(from, g->segment_bytes) + g->segment_bytes;

	if (c->op.in_flight)
		return -EAGAIN;
	if (c->error)
		return c->error;
	c->buffer_lsn = from;
	c->buffer_len = 0;
	c->read_for = c->at.lsn;
	c->op = (struct io_op){
		.kind = IO_READ, .file = c->journal->file, .offset = journal_place(g, from),
		.len = min_u64(c->buffer_bytes, boundary - from), .data = c->buffer, .done = cursor_read_done,
	};
	c->io->submit(c->io, &c->op);
	return -EAGAIN;
}

static int look_in_memory(struct cursor *c, const struct record_header *r)
{
	const struct geometry *g = c->log->geometry;
	uint64_t avail = min_u64(c->log->closed.lsn, round_down(c->at.lsn, g->segment_bytes) + g->segment_bytes) -
			 c->at.lsn;

	c->finding = record_look(r, avail, &c->at, g);
	return c->finding == RECORD_GOOD ? 1 : -EBADMSG;
}

int cursor_look(struct cursor *c, const struct record_header **out)
{
	const struct geometry *g = c->log->geometry;
	uint64_t avail = 0;

	if (c->at.lsn % 8) {
		c->finding = RECORD_STALE;
		return -EBADMSG;
	}
	if (c->at.lsn >= (c->limit == UINT64_MAX ? c->log->closed.lsn : c->limit))
		return 0;
	if (c->limit == UINT64_MAX && c->at.lsn >= c->log->start) {
		*out = log_record(c->log, c->at.lsn);
		return c->doubt ? look_in_memory(c, *out) : 1;
	}
	if (c->op.in_flight)
		return -EAGAIN;
	if (c->error)
		return c->error;
	if (c->buffer_len && c->at.lsn >= c->buffer_lsn && c->at.lsn < c->buffer_lsn + c->buffer_len)
		avail = c->buffer_lsn + c->buffer_len - c->at.lsn;
	c->finding = record_look(c->buffer + (c->at.lsn - c->buffer_lsn) % c->buffer_bytes, avail, &c->at, g);
	if (c->finding == RECORD_GOOD) {
		*out = (const void *)(c->buffer + (c->at.lsn - c->buffer_lsn));
		return 1;
	}
	/* What was read for an earlier record may be cut off here, or older than what stands here now. A whole
	 * record fits the buffer from any place in its first block: what was read for it is the last word. */
	if (c->read_for != c->at.lsn)
		return read_here(c);
	if (c->finding == RECORD_SHORT)
		c->finding = RECORD_TORN;
	return -EBADMSG;
}

void cursor_advance(struct cursor *c, const struct record_header *r)
{
	uint64_t next = from_le64(r->lsn) + record_length(r);
	bool in_memory = (const uint8_t *)r >= c->log->ring &&
			 (const uint8_t *)r < c->log->ring + c->log->ring_bytes;

	CHECK(from_le64(r->lsn) == c->at.lsn);
	c->doubt = false;
	if (!in_memory) {
		record_next(r, &c->at);
		return;
	}
	/* The record behind it names the running hash; no need to compute it again. */
	c->at.lsn = next;
	memcpy(c->at.hash, next < c->log->end.lsn ? log_record(c->log, next)->hash : c->log->end.hash, HASH_BYTES);
}
