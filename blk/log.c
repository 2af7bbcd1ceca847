/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <errno.h>
#include <string.h>

#include "checksum.h"
#include "history.h"

/* At the end of a batch at least one journal block, 512 bytes or more, is left in the segment. */
_Static_assert(2 * RECORD_HEADER_BYTES + sizeof(struct epoch_entry) <= 512, "an epoch fits behind any batch");

int log_new(struct log *log, struct io *io, const struct geometry *g, uint64_t ring_bytes)
{
	uint64_t segments = ring_bytes / g->segment_bytes;

	CHECK(segments >= 2 && ring_bytes % g->segment_bytes == 0);
	*log = (struct log){ .geometry = g, .ring_bytes = ring_bytes };
	log->ring = io->alloc(io, ring_bytes, IO_FIXED);
	log->segment_pads = io->alloc(io, segments * sizeof *log->segment_pads, 0);
	log->marks = io->alloc(io, LOG_MARKS * sizeof *log->marks, 0);
	if (!log->ring || !log->segment_pads || !log->marks) {
		log_delete(log, io);
		return -ENOMEM;
	}
	return 0;
}

void log_delete(struct log *log, struct io *io)
{
	io->free(io, log->ring);
	io->free(io, log->segment_pads);
	io->free(io, log->marks);
	*log = (struct log){ 0 };
}

static void mark_add(struct log *log, const struct position *at)
{
	if (log->mark_count && log->marks[log->mark_count - 1].at.lsn >= at->lsn)
		return;
	/* So far apart that half of them span the journal: what is forgotten is not in it any more. */
	if (log->mark_count &&
	    at->lsn - log->marks[log->mark_count - 1].at.lsn < log->geometry->journal_bytes / (LOG_MARKS / 2))
		return;
	if (log->mark_count == LOG_MARKS) {
		log->mark_count = LOG_MARKS / 2;
		memmove(log->marks, log->marks + LOG_MARKS / 2, log->mark_count * sizeof *log->marks);
	}
	log->marks[log->mark_count++] = (struct log_mark){ *at, log->records, log->wall_ns };
}

void log_start_at(struct log *log, const struct position *end)
{
	CHECK(end->lsn % log->geometry->journal_block == 0);
	log->start = end->lsn;
	log->closed = log->end = *end;
	log->records_closed = log->records;
	for (uint64_t i = 0; i < log->ring_bytes / log->geometry->segment_bytes; i++)
		log->segment_pads[i] = UINT64_MAX;
	while (log->mark_count && log->marks[log->mark_count - 1].at.lsn >= end->lsn)
		log->mark_count--;
	mark_add(log, end);
}

uint32_t log_draft_length(const struct record_draft *draft)
{
	uint32_t payload = 0;

	for (uint32_t i = 0; i < draft->slice_count; i++)
		payload += draft->payload[i].len;
	return RECORD_HEADER_BYTES + draft->delta_count * (uint32_t)sizeof(struct record_delta) +
	       (uint32_t)round_up(draft->annotation_len, 8) + (uint32_t)round_up(payload, 8);
}

static uint64_t segment_left(const struct log *log)
{
	return log->geometry->segment_bytes - log->end.lsn % log->geometry->segment_bytes;
}

/* Behind the record there must be room for the pad that closes the batch, or nothing at all. */
static bool fits_segment(const struct log *log, uint64_t length)
{
	return length == segment_left(log) || length + RECORD_HEADER_BYTES <= segment_left(log);
}

uint64_t log_cost(const struct log *log, uint32_t length)
{
	uint64_t pad = fits_segment(log, length) ? 0 : segment_left(log);

	return pad + length + RECORD_HEADER_BYTES + log->geometry->journal_block;
}

bool log_has_room(const struct log *log, uint32_t length, uint64_t written)
{
	return log->end.lsn + log_cost(log, length) <= written + log->ring_bytes;
}

/* The record's bytes now stand at log->end: everything that follows from that. */
static void advance(struct log *log, const struct record_header *r)
{
	struct position after;
	uint64_t pad_from = log->end.lsn, segment = log->geometry->segment_bytes;
	uint64_t *segment_pad = &log->segment_pads[pad_from % log->ring_bytes / segment];

	record_next(r, &after);
	CHECK(pad_from / segment == (after.lsn - 1) / segment);
	/* What is noted of this segment is of an earlier lap, or of a batch that was dropped. */
	if (pad_from % segment == 0 || *segment_pad >= pad_from)
		*segment_pad = UINT64_MAX;
	if (record_is_pad(r) && after.lsn % segment == 0)
		*segment_pad = pad_from;
	log->end = after;
	log->records++;
	log->wall_ns = from_le64(r->wall_ns);
	if (log->end.lsn > log->start + log->ring_bytes)
		log->start = log->end.lsn - log->ring_bytes;
}

static void header_fill(const struct log *log, struct record_header *r, enum record_kind kind,
			uint32_t length, uint64_t wall_ns)
{
	*r = (struct record_header){
		.magic = to_le32(RECORD_MAGIC), .version = to_le16(RECORD_VERSION),
		.kind = to_le16((uint16_t)kind), .lsn = to_le64(log->end.lsn), .epoch = to_le64(log->epoch),
		.wall_ns = to_le64(wall_ns), .length = to_le32(length),
		.volume_tag = to_le32(record_volume_tag(log->geometry)),
	};
	memcpy(r->hash, log->end.hash, HASH_BYTES);
}

static void header_seal(struct record_header *r)
{
	uint32_t crc = checksum_crc(0, r, offsetof(struct record_header, crc));

	r->crc = to_le32(checksum_crc(crc, r + 1, record_wire_length(r) - RECORD_HEADER_BYTES));
}

static void append_pad(struct log *log, uint64_t length)
{
	struct record_header *r = (void *)log_at(log, log->end.lsn);

	CHECK(length >= RECORD_HEADER_BYTES && length <= segment_left(log));
	header_fill(log, r, RECORD_PAD, (uint32_t)length, log->wall_ns);
	header_seal(r);
	/* The first blocks of a pad reach the disk; what was in memory before must not. */
	memset(r + 1, 0, min_u64(length, RECORD_HEADER_BYTES + log->geometry->journal_block) -
	       RECORD_HEADER_BYTES);
	advance(log, r);
}

static void batch_ended(struct log *log)
{
	log->closed = log->end;
	log->records_closed = log->records;
	mark_add(log, &log->end);
}

void log_append(struct log *log, const struct record_draft *draft, uint64_t wall_ns)
{
	uint32_t length = log_draft_length(draft), payload = 0;
	struct record_header *r;
	uint8_t *at;

	CHECK(length <= record_bytes_max(log->geometry));
	if (!fits_segment(log, length))
		append_pad(log, segment_left(log));
	r = (void *)log_at(log, log->end.lsn);
	header_fill(log, r, draft->kind, length, wall_ns);
	r->delta_count = to_le32(draft->delta_count);
	r->annotation_len = to_le32(draft->annotation_len);
	at = (uint8_t *)(r + 1);
	if (draft->delta_count)
		at = (uint8_t *)mempcpy(at, draft->deltas, draft->delta_count * sizeof *draft->deltas);
	if (draft->annotation_len)
		at = (uint8_t *)mempcpy(at, draft->annotation, draft->annotation_len);
	memset(at, 0, round_up(draft->annotation_len, 8) - draft->annotation_len);
	at += round_up(draft->annotation_len, 8) - draft->annotation_len;
	for (uint32_t i = 0; i < draft->slice_count; i++) {
		at = (uint8_t *)mempcpy(at, draft->payload[i].data, draft->payload[i].len);
		payload += draft->payload[i].len;
	}
	memset(at, 0, round_up(payload, 8) - payload);
	r->payload_len = to_le32(payload);
	header_seal(r);
	advance(log, r);
}

enum record_finding log_receive(struct log *log, const void *bytes, uint64_t avail, uint32_t *used)
{
	enum record_finding finding = record_look(bytes, avail, &log->end, log->geometry);
	const struct record_header *r = bytes;
	struct record_header *own;

	if (finding != RECORD_GOOD)
		return finding;
	if (!record_is_pad(r) && !fits_segment(log, record_length(r)))
		return RECORD_BAD;
	own = (void *)log_at(log, log->end.lsn);
	*used = record_wire_length(r);
	memcpy(own, r, *used);
	if (record_is_pad(r))
		memset(own + 1, 0, min_u64(record_length(r), RECORD_HEADER_BYTES +
		       log->geometry->journal_block) - RECORD_HEADER_BYTES);
	log->epoch = from_le64(r->epoch);
	advance(log, own);
	/* A record that ends on a block ends a batch: the sender closes batches nowhere else. */
	if (log->end.lsn % log->geometry->journal_block == 0)
		batch_ended(log);
	return RECORD_GOOD;
}

void log_close(struct log *log)
{
	uint64_t block = log->geometry->journal_block, rest;

	if (log->end.lsn == log->closed.lsn)
		return;
	rest = round_up(log->end.lsn, block) - log->end.lsn;
	if (rest > 0 && rest < RECORD_HEADER_BYTES)
		rest += block;
	if (rest > 0)
		append_pad(log, rest);
	CHECK(log->end.lsn % block == 0);
	batch_ended(log);
}

void log_drop_open(struct log *log)
{
	log->end = log->closed;
	log->records = log->records_closed;
}

void log_note(struct log *log, const struct record_header *r, const struct position *after)
{
	log->records++;
	log->wall_ns = from_le64(r->wall_ns);
	log->epoch = from_le64(r->epoch);
	if (after->lsn % log->geometry->journal_block == 0)
		mark_add(log, after);
}

const struct record_header *log_record(const struct log *log, uint64_t lsn)
{
	CHECK(lsn >= log->start && lsn < log->end.lsn);
	return (const void *)log_at(log, lsn);
}

uint64_t log_run_end(const struct log *log, uint64_t lsn, uint64_t limit, uint64_t *next)
{
	uint64_t segment = log->geometry->segment_bytes, block = log->geometry->journal_block;
	uint64_t boundary = round_down(lsn, segment) + segment;
	uint64_t pad = log->segment_pads[lsn % log->ring_bytes / segment];
	uint64_t pad_end = pad == UINT64_MAX ? UINT64_MAX : round_up(pad + RECORD_HEADER_BYTES, block);

	/* A pad is one record: with its first block the whole of it is done, whatever @limit says of the rest. */
	if (limit >= pad_end) {
		*next = boundary;
		return pad_end;
	}
	*next = min_u64(limit, boundary);
	return *next;
}

const struct log_mark *log_mark_below(const struct log *log, uint64_t lsn)
{
	uint32_t low = 0, high = log->mark_count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (log->marks[middle].at.lsn <= lsn)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? &log->marks[low - 1] : NULL;
}
