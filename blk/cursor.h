/* SPDX-License-Identifier: Apache-2.0 */
/* A cursor walks the log record by record: in memory where it can, in the journal's file where it must. Three
 * walk: recovery, the apply step of a secondary, and the sending to each peer.
 *
 * A record from the file is checked like a stranger's: place, sums, and that it follows what was before it.
 * So a part of the ring that was overwritten, or rotted, is found out and never passed on.
 */
#ifndef HOLDFAST_CURSOR_H
#define HOLDFAST_CURSOR_H

#include "journal.h"

struct cursor {
	struct io *io;
	struct log *log;
	struct journal *journal;
	struct position at;		/* the next record stands here */
	bool doubt;			/* at came from outside: in memory, too, it must be checked */
	uint64_t limit;			/* recovery: where the ring ends; else UINT64_MAX (= the last closed batch) */
	uint8_t *buffer;		/* cursor_buffer_bytes(), IO_FIXED */
	uint64_t buffer_lsn, read_for;	/* read_for: the record that the last read was for */
	uint32_t buffer_bytes, buffer_len;
	enum record_finding finding;	/* why the last cursor_next() gave -EBADMSG */
	struct io_op op;
	void (*ready)(struct cursor *c);	/* after -EAGAIN: try again */
	int error;			/* of the last read */
};

MUST_CHECK int cursor_new(struct cursor *c, struct io *io, struct log *log, struct journal *journal,
			  void (*ready)(struct cursor *c));
/* No read is in flight. */
void cursor_delete(struct cursor *c);
/* May be called while a read is in flight: that one is then ignored, but for its ready(). @at may be any
 * stranger's claim: unless it is a place of our log, cursor_look() says -EBADMSG there. */
void cursor_seek(struct cursor *c, const struct position *at);
/* 1: *out is the record at c->at, good until the next call or until the loop turns; c->at is not moved.
 * 0: the end of what is closed. -EAGAIN: ready() will be called. -EBADMSG: the file does not hold it
 * (c->finding). -EIO and the like: the file could not be read. */
MUST_CHECK int cursor_look(struct cursor *c, const struct record_header **out);
/* Moves behind @r, which the last cursor_look() gave. */
void cursor_advance(struct cursor *c, const struct record_header *r);

#endif
