/* SPDX-License-Identifier: Apache-2.0 */
/* What peers may lack, and how far back the journal has to go because of it.
 *
 *	 bitmap of the peer		journal
 *	|=======================|...........................|
 *	covers		      marked			   end of the log
 *			   floor
 *
 * `known` is how far a peer is known to have our log durably. While it is above the floor, the journal has all that
 * the peer lacks. The floor must rise as the ring needs room: then the records between the old floor and the new one
 * are walked, the blocks that they change are set in the bitmap of each peer that may lack them, the bitmaps become
 * durable, then the floor in meta, and only then may the ring overwrite those records. After a crash the journal
 * names everything above the floor, the bitmaps everything below: there is nothing else to remember.
 *
 * Of each peer, `covers` and `marked` say for which records its bitmap holds: a block changed by a record that
 * stands in [covers, marked) and that a peer durable up to `covers` may lack has its bit set. Bits that are set for
 * nothing cost a few blocks on the wire; a bit that is missing would cost the data. So every doubt sets bits, and a
 * peer that turns out to be older than `covers` gets all of them. So does one that is not what it was: bits that a
 * resync has cleared were cleared for the replica that has the snapshot of this id, and for no other one of that
 * name.
 */
#ifndef HOLDFAST_LACK_H
#define HOLDFAST_LACK_H

#include "bitmap.h"
#include "cursor.h"
#include "meta.h"

#define LACK_STEPS(X) X(IDLE) X(WALK) X(BITS) X(META)
enum lack_step {
#define X(name) LACK_##name,
	LACK_STEPS(X)
#undef X
};

struct lacks;

struct lack {
	struct lacks *all;
	const char *name;
	struct lack_place *place;	/* in meta: durable what bits must not run ahead of */
	struct bitmap bits;
	bool stranger;			/* it had no place in meta: its bits are made when they are loaded */
	bool wanted;			/* lack_mark() was asked for */
	bool marking;			/* and the walk under way is for it */
	bool marked_now;		/* and is done: `at` */
	uint64_t base, snapshot;
	struct position at;		/* up to here; once it is done: it was up to here */
	uint64_t from;			/* of the walk under way: it has what ends at or below */
	uint64_t ticket;
	uint64_t marks; /* walks that may have set bits: what was sent before the last one may be older */
};

struct lacks {
	struct io *io;
	struct log *log;
	struct journal *journal;
	struct meta *meta;
	struct lack at[PEERS_MAX];
	unsigned count;
	enum lack_step step;
	unsigned mask;			/* whose bits the walk sets */
	bool for_floor;			/* else for one peer's resync */
	struct position to;
	uint64_t most;			/* the walk ends there */
	uint64_t most_tried;		/* the last floor walk's */
	bool seeking;			/* for the end of a batch at or below it: `to` */
	struct cursor cursor;
	uint64_t ticket;
	bool lost;			/* the journal could not be read back: all bits were set instead */
	void (*moved)(struct lacks *l);
};

/* @names stay the caller's, as long as the lacks. -ENOMEM. */
MUST_CHECK int lacks_new(struct lacks *l, struct io *io, int bitmap_file, struct log *log, struct journal *journal,
			 struct meta *meta, const char *const *names, unsigned count,
			 void (*moved)(struct lacks *l));
void lacks_delete(struct lacks *l);
/* After meta_load(): finds each peer's place by its name, and reads its bitmap. A peer that has none gets a full
 * one. */
void lacks_load(struct lacks *l);
bool lacks_loaded(const struct lacks *l);
/* -errno of a bitmap, or 0. */
int lacks_failed(const struct lacks *l);
/* Every turn: raises the floor when it is time, goes on with what was begun. */
void lacks_step(struct lacks *l);
bool lacks_quiet(const struct lacks *l);

/* The peer was met, and its log is ours up to @lsn, durably; it may be less than was known. @consistent: it is not in
 * the middle of a resync. */
void lack_met(struct lack *k, uint64_t lsn, bool consistent);
/* It has our log up to @lsn by now, durably. */
void lack_learn(struct lack *k, uint64_t lsn, bool consistent);
/* For a resync of a peer whose store is the volume as of @base on our history, but for what it has said that it
 * wants and what was sent to the replica with that @snapshot: sets the bits of all that it may lack up to @to (or
 * the floor, if that is higher by then), and makes them durable. k->marked_now then, k->at says where.
 * @to is the end of a batch. */
void lack_mark(struct lack *k, uint64_t base, uint64_t snapshot, const struct position *to);
/* Whether its bitmap names every block that was changed between @from and the floor. */
bool lack_names(const struct lack *k, uint64_t from);
/* Bits are about to be cleared for that replica only: done once meta has saved the ticket. */
uint64_t lack_clears_for(struct lack *k, uint64_t snapshot);
/* Takes lack_mark() back. */
void lack_unmark(struct lack *k);
/* Our own log begins anew at @at: what was known of anybody's place in it is not true any more. */
void lacks_forget(struct lacks *l, const struct position *at);

#endif
