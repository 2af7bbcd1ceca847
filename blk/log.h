/* SPDX-License-Identifier: Apache-2.0 */
/* The newest part of the log, in memory: a ring of whole segments that the journal and the peers are fed from.
 *
 *	     start                    closed        end
 *	.......|=========================|............|.......
 *	       oldest byte in memory     last batch   appended
 *
 * Records are appended one after the other. log_close() ends a batch: a pad fills the rest of the journal's
 * block, so that a durable block is never written again. Only closed batches leave memory, towards the
 * journal and towards peers, so every position that anyone can have is at the end of a batch.
 *
 * Invariant: no record crosses a multiple of the segment, and room for one epoch record (and the pad behind
 * it) is left at every end of a batch; so neither ring ever wraps inside a record.
 */
#ifndef HOLDFAST_LOG_H
#define HOLDFAST_LOG_H

#include "io.h"
#include "record.h"

enum { LOG_MARKS = 2048 };	/* x 48 bytes; a journal of 256 MiB is then known every 256 KiB, however long it runs */

/* What is known of the end of some batch. */
struct log_mark {
	struct position at;
	uint64_t records;	/* counted from where this process started to read the log */
	uint64_t wall_ns;	/* of the last record before it */
};

struct slice { const void *data; uint32_t len; };

/* A record to be. deltas and slices are copied by log_append(). */
struct record_draft {
	enum record_kind kind;
	const struct record_delta *deltas;
	uint32_t delta_count;
	const void *annotation;
	uint32_t annotation_len;
	const struct slice *payload;
	uint32_t slice_count;
};

struct log {
	const struct geometry *geometry;
	uint8_t *ring;
	uint64_t ring_bytes;		/* a multiple of the segment */
	uint64_t start;
	struct position closed, end;
	uint64_t epoch;			/* number, for what is appended */
	uint64_t records;		/* appended, read or received since this process started */
	uint64_t records_closed;
	uint64_t wall_ns;		/* of the newest record */
	uint64_t *segment_pads;		/* per segment of the ring: LSN of the pad that ends it, or UINT64_MAX */
	struct log_mark *marks;		/* ends of batches, rising; when they are full, the older half goes */
	uint32_t mark_count;
};

/* @ring_bytes: a multiple of the geometry's segment, at least 2. -ENOMEM. */
MUST_CHECK int log_new(struct log *log, struct io *io, const struct geometry *g, uint64_t ring_bytes);
void log_delete(struct log *log, struct io *io);
/* Nothing in memory; the next record stands at @end, the end of a batch. */
void log_start_at(struct log *log, const struct position *end);

/* How long the record will be. */
uint32_t log_draft_length(const struct record_draft *draft);
/* Up to how many bytes log_append() or log_receive() of a record of @length may add, pads included. */
uint64_t log_cost(const struct log *log, uint32_t length);
/* Whether a record of @length may be added while the journal file has all below @written: memory that is
 * not in the file yet is never given up. */
bool log_has_room(const struct log *log, uint32_t length, uint64_t written);
/* Appends; there is room. The record is at log->end.lsn - its length. */
void log_append(struct log *log, const struct record_draft *draft, uint64_t wall_ns);
/* Appends one record of a peer's log, @avail bytes of wire form; there is room. *used is what it took.
 * Anything but RECORD_GOOD changes nothing. */
enum record_finding log_receive(struct log *log, const void *bytes, uint64_t avail, uint32_t *used);
/* Ends the batch. After it closed equals end. */
void log_close(struct log *log);
/* Forgets what was appended since the last batch: a peer's batch that was cut off. */
void log_drop_open(struct log *log);
/* Counts a record that recovery read from the file, and remembers the place when a batch ends there. */
void log_note(struct log *log, const struct record_header *r, const struct position *after);

static inline uint8_t *log_at(const struct log *log, uint64_t lsn)
{
	return log->ring + lsn % log->ring_bytes;
}
/* The record at @lsn; it is in memory (lsn >= start). */
const struct record_header *log_record(const struct log *log, uint64_t lsn);
/* End of the run of bytes from @lsn that the journal has to write, at most @limit (both blocks; what is below @limit
 * is closed): a segment's pad is written with its first block only. *next is where the run after it starts, which
 * may be above @limit then. */
uint64_t log_run_end(const struct log *log, uint64_t lsn, uint64_t limit, uint64_t *next);

/* The newest mark at or below @lsn, or NULL when none is known that far back. */
const struct log_mark *log_mark_below(const struct log *log, uint64_t lsn);

#endif
