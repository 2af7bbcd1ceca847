/* SPDX-License-Identifier: Apache-2.0 */
/* One bit per block of the volume, in memory, and in a part of a file. In memory it stands as it does on disk:
 * units of one sector, each with its own sum, so that a torn write leaves every unit old or new, never damaged.
 *
 * Bits change in memory at once. bitmap_save() makes what the bits say at that moment durable: the pages (4 KiB)
 * that changed are copied, summed and written, then the file is synced. Who must not act before that waits for
 * its ticket.
 */
#ifndef HOLDFAST_BITMAP_H
#define HOLDFAST_BITMAP_H

#include <stdbool.h>

#include "bounds.h"
#include "bytes.h"
#include "io.h"

enum {
	BITMAP_UNIT_BYTES = 512,
	BITMAP_UNIT_WORDS = 63,
	BITMAP_UNIT_BITS = BITMAP_UNIT_WORDS * 64,
	BITMAP_PAGE_BYTES = 4096,
	BITMAP_STAGE_BYTES = 64 << 10,	/* one write at most */
};

/* On disk. A unit of zeros was never written: no bit is set. */
struct bitmap_unit {
	le64 words[BITMAP_UNIT_WORDS];	/* bit n of the bitmap: words[n / 64 % 63], bit n % 64 */
	le32 index;			/* of the unit in its bitmap, plus one */
	le32 crc;			/* CRC32C of all above */
};
_Static_assert(sizeof(struct bitmap_unit) == BITMAP_UNIT_BYTES, "size on disk");

/* Whether @unit, as read from unit @index of a bitmap's file, is what was written there, or was never written. */
MUST_CHECK bool bitmap_unit_whole(const struct bitmap_unit *unit, uint64_t index);
/* A bit of units that are whole; @bit counts from the first of them. */
static inline bool bitmap_unit_test(const struct bitmap_unit *units, uint64_t bit)
{
	const struct bitmap_unit *unit = &units[bit / BITMAP_UNIT_BITS];

	return from_le64(unit->words[bit % BITMAP_UNIT_BITS / 64]) >> bit % 64 & 1;
}

/* What a bitmap of @bits takes in its file and in memory: a multiple of BITMAP_PAGE_BYTES; 32.5 MiB per TiB. */
static inline uint64_t bitmap_bytes(uint64_t bits)
{
	return round_up((bits + BITMAP_UNIT_BITS - 1) / BITMAP_UNIT_BITS * BITMAP_UNIT_BYTES, BITMAP_PAGE_BYTES);
}

/* What bitmap_new() allots. */
static inline uint64_t bitmap_memory_bytes(uint64_t bits)
{
	uint64_t bytes = bitmap_bytes(bits);

	return bytes + (bytes / BITMAP_PAGE_BYTES + 63) / 64 * 8 + BITMAP_STAGE_BYTES;
}

struct bitmap {
	struct io *io;
	int file;
	uint64_t offset;		/* of its first byte in the file */
	uint64_t bits;
	uint64_t count;			/* bits that are set */
	struct bitmap_unit *units;
	uint64_t unit_count;
	uint64_t *dirty;		/* a bit per page that changed since it was last copied to be written */
	uint64_t dirty_count;
	uint64_t page_count;
	uint64_t page_next;		/* of the load or of the pass under way: where it goes on */
	bool loaded;
	uint64_t damaged;		/* units whose sum did not hold when they were read */
	bool damaged_set;		/* what their bits were taken for */
	uint64_t saved, wanted;		/* tickets: see bitmap_save() */
	uint64_t submitted;		/* the ticket that the pass under way makes good */
	int failed;			/* -errno of a read, a write or a sync, for good: nothing is saved any more */
	uint8_t *stage;			/* BITMAP_STAGE_BYTES, IO_FIXED */
	struct io_op op;
	void (*moved)(struct bitmap *b);	/* loaded, saved or failed changed; from a done(), never from a call */
};

/* All bits clear, nothing read. @offset is a multiple of 4096. -ENOMEM, and then bitmap_delete() is not needed. */
MUST_CHECK int bitmap_new(struct bitmap *b, struct io *io, int file, uint64_t offset, uint64_t bits,
			  void (*moved)(struct bitmap *b));
/* Quiet. A bitmap of zeros is fine. */
void bitmap_delete(struct bitmap *b);
/* Reads all of it, once, into a bitmap that is as new. A unit whose sum does not hold counts in `damaged`, and its
 * bits become all set when @damaged_set, else all clear; the next bitmap_save() mends it on disk, so who must remember
 * that there was damage does so before. Bits past the end are clear whatever the disk says. */
void bitmap_load(struct bitmap *b, bool damaged_set);

bool bitmap_test(const struct bitmap *b, uint64_t bit);
/* [first, first + count) lies within the bits. */
void bitmap_set(struct bitmap *b, uint64_t first, uint64_t count);
void bitmap_clear(struct bitmap *b, uint64_t first, uint64_t count);
static inline void bitmap_set_all(struct bitmap *b) { bitmap_set(b, 0, b->bits); }
static inline void bitmap_clear_all(struct bitmap *b) { bitmap_clear(b, 0, b->bits); }
/* The first bit at or above @from that is set (clear); b->bits when there is none. */
uint64_t bitmap_next(const struct bitmap *b, uint64_t from);
uint64_t bitmap_next_clear(const struct bitmap *b, uint64_t from);
/* The end, at most @end, of the run of bits that are as @from is. @from < @end <= b->bits. It looks no further. */
uint64_t bitmap_run_end(const struct bitmap *b, uint64_t from, uint64_t end);
/* Sets all that @other has set; same length. */
void bitmap_merge(struct bitmap *b, const struct bitmap *other);
/* All bits clear, no damage, nothing to be written, because its part of the file is made zeros otherwise. Quiet. */
void bitmap_empty(struct bitmap *b);

/* What the bits say now is durable once b->saved >= the ticket. With nothing to write the ticket may be b->saved.
 * One pass at a time: what is asked for while one runs goes together with the next. */
uint64_t bitmap_save(struct bitmap *b);
/* No op of it is in flight. */
bool bitmap_quiet(const struct bitmap *b);

#endif
