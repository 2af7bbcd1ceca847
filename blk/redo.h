/* SPDX-License-Identifier: Apache-2.0 */
/* An index of a part of the log: what it makes of each block. For who reads a replica and may not write to it: a
 * block is what the store holds, and the log's changes of it in order.
 *
 * Records are taken twice, first to be counted, so that memory is allotted once. It is bounded by the log: 24 bytes for
 * each delta and each block that it touches, 72 for a range of whole blocks; that is some hundredths of an ordinary
 * log, and seven times its length at worst (nothing but tiny deltas, or discards).
 */
#ifndef HOLDFAST_REDO_H
#define HOLDFAST_REDO_H

#include "io.h"
#include "record.h"

/* What one delta makes of a part of one block. */
struct redo_piece {
	uint64_t block;
	uint64_t at;			/* LSN of its first byte in the payload; of zeros, of the payload behind it */
	uint16_t from, len;		/* bytes in the block; 0 <= from < from + len <= BLOCK_BYTES */
	bool zeros;
};

/* Whole blocks that became zeros. After redo_ready() they rise and do not overlap: each has the newest. */
struct redo_hole { uint64_t first, end, at; };

struct redo {
	struct io *io;
	uint64_t piece_max, hole_max;	/* as counted */
	struct redo_piece *pieces;
	uint64_t piece_count;
	struct redo_hole *holes;
	uint64_t hole_count;
};

static inline void redo_init(struct redo *redo, struct io *io) { *redo = (struct redo){ .io = io }; }
void redo_delete(struct redo *redo);
/* @r is good (record_look()). */
void redo_count(struct redo *redo, const struct record_header *r);
/* Room for what was counted. -ENOMEM. */
MUST_CHECK int redo_allot(struct redo *redo);
/* In order of the log. -EBADMSG: that is more than was counted: the log is not what it was. */
MUST_CHECK int redo_add(struct redo *redo, const struct record_header *r);
/* All are added: it may be asked. -ENOMEM. */
MUST_CHECK int redo_ready(struct redo *redo);

/* What the log makes of a block: zeros first when @zeros, else what the store holds when @store, else nothing of that
 * matters; then @count pieces in order. */
struct redo_block {
	bool zeros, store;
	const struct redo_piece *pieces;
	uint64_t count;
};
void redo_find(const struct redo *redo, uint64_t block, struct redo_block *out);
/* The first block at or above @block, at most @end, of which the log says anything. */
uint64_t redo_next(const struct redo *redo, uint64_t block, uint64_t end);

#endif
