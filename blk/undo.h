/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of the store: before a block of the store is changed, what it held goes to a file of its own, a sparse
 * one in which the block has the same place. One file per slot:
 *
 *	| header, epochs | the same again | saved: a bitmap | want: a bitmap | blocks, each in its place |
 *
 * They serve two ends. A RESYNC slot lets a secondary be read at, and go back to, its last consistent LSN while a
 * resync changes its store. A DIVERGENCE slot keeps what this node had written before it gave up its own history
 * for another one's; it goes on recording until it is dropped or full, so that the volume as that side saw it
 * can be exported: a block that is `saved` is taken from the slot, any other one from the store.
 *
 * Invariant: a block of the store is changed only when its bit in `saved` is durable in every slot that records, and
 * a bit of a slot with data is durable only after the block's old bytes are. So a slot that was recording when the
 * node died is right after it, whatever else was lost.
 *
 * A slot that cannot keep more (its bound is reached, or its disk is full) becomes `partial` and says so in its
 * header before the store is changed: a RESYNC slot then only notes, in `want`, which blocks were changed (the replica
 * cannot go back), and gives its data back unless it is to be kept; a DIVERGENCE slot stops to record. A bit in `saved`
 * always stands for bytes, but where the data was given back.
 *
 * Each change of the header is written to both copies, one after the other, each in one durable write, and only then
 * reported: a torn write leaves the other copy, and rot in one never brings an older state back.
 */
#ifndef HOLDFAST_UNDO_H
#define HOLDFAST_UNDO_H

#include "bitmap.h"
#include "history.h"
#include "holes.h"
#include "replica.h"

enum {
	UNDO_MAGIC = 0x55464c48 /* "HLFU" */, UNDO_VERSION = 1,
	UNDO_COPY_BYTES = 1 << 20,	/* in flight at once: */
	UNDO_LANES = 8,			/* so many reads or writes, */
	UNDO_LANE_BLOCKS = UNDO_COPY_BYTES / UNDO_LANES / BLOCK_BYTES,	/* each of so many blocks at most */
};

enum undo_kind { UNDO_FREE, UNDO_RESYNC, UNDO_DIVERGENCE, UNDO_KINDS };

struct undo_header {
	le32 magic;
	le16 version, kind;
	le64 generation;		/* the valid copy with the higher one counts; 1 is the first */
	uint8_t uuid[UUID_BYTES];	/* the volume's */
	char node[NAME_BYTES];		/* whose replica this is */
	le64 volume_bytes;		/* the file's layout follows from it */
	le64 id;			/* of this snapshot, random; 0 when free */
	le64 lsn;			/* the store as of here */
	uint8_t hash[HASH_BYTES];	/* running hash there */
	le64 base;			/* LSN up to which our log is that of those whose history we take: the fork */
	le64 partial;			/* 0: everything is saved. Else not, since our log ended here (plus one) */
	le64 wall_ns;			/* when it was taken */
	le64 first_ns, last_ns;		/* of the records between base and lsn; 0 = there were none, or not known */
	le64 blocks;			/* that these records changed */
	le64 bytes;			/* of data in these records; a lower bound when the journal had lost some */
	le32 keep;			/* 1: it becomes a DIVERGENCE when the resync is over */
	le32 epoch_count;		/* epochs of our own history, behind this header */
	char source[NAME_BYTES];	/* whose history was taken instead; "" of a plain resync */
	uint8_t zero[4096 - 268];
	le32 crc;			/* of all above, then of the epochs */
};
_Static_assert(sizeof(struct undo_header) == 4096, "size on disk");
_Static_assert(offsetof(struct undo_header, crc) == 4092, "it covers all above");
_Static_assert(sizeof(struct undo_header) + HISTORY_MAX * sizeof(struct epoch_entry) <= META_SLOT_BYTES,
	       "a full history fits");

/* Where things stand in a slot's file: the two copies of the header META_SLOT_BYTES apart, then: */
static inline uint64_t undo_saved_offset(void) { return META_BYTES; }
static inline uint64_t undo_want_offset(uint64_t volume_bytes)
{
	return undo_saved_offset() + bitmap_bytes(volume_bytes / BLOCK_BYTES);
}
static inline uint64_t undo_data_offset(uint64_t volume_bytes)
{
	return undo_want_offset(volume_bytes) + bitmap_bytes(volume_bytes / BLOCK_BYTES);
}
static inline uint64_t undo_file_bytes(uint64_t volume_bytes)
{
	return undo_data_offset(volume_bytes) + volume_bytes;
}

/* Whether the header and the @avail bytes behind it are a valid one of this volume: 0, or -EBADMSG with one sentence
 * in @why. A header of zeros is valid and free, of generation 0. For bytes from disk. */
MUST_CHECK int undo_header_check(const struct undo_header *header, uint64_t avail, const struct geometry *g,
				 char why[WHY_BYTES]);
/* Of the two copies of a header, as read from the beginning of a slot's file, the one that counts: 0 or 1; or -EBADMSG
 * with one sentence in @why. *uneven: they are not alike. */
MUST_CHECK int undo_header_choose(const uint8_t copies[META_BYTES], const struct geometry *g, bool *uneven,
				  char why[WHY_BYTES]);
/* Fills crc, over header and the epochs behind it. */
void undo_header_seal(struct undo_header *header);

struct undo;

struct undo_slot {
	struct undo *undo;
	unsigned index;
	int file;
	enum undo_kind kind;
	bool taking;			/* undo_take() has it: not on disk yet */
	struct undo_header header;	/* as last written, or being filled by who took the slot. Zeros when free. */
	struct history *history;	/* the epochs behind the header */
	struct bitmap saved;		/* blocks of the store that changed since; their old bytes are here. Not to be
					 * changed from outside. */
	struct bitmap want;		/* blocks that our own records between base and lsn changed; and what changed
					 * since it is partial. Its owner may
					 * change it while idle, and save it once the slot has started: then
					 * moved() comes. */
	uint64_t data_count;		/* blocks whose bytes are in this file; after a load an upper bound */
	bool data_counted;		/* data_count is exact */
	int error;			/* of the last undo_start() or undo_roll_back(): 0, -ENOSPC, -EIO, ... */
	/* Private. */
	uint64_t generation;
	unsigned copy;			/* of the header, that is good for sure */
	bool uneven;			/* the other one is not the same */
	uint64_t taken_at;		/* want.wanted then: it is not to be saved before undo_start() */
};

/* One step of what is being done: true when it submitted something, and undo_next() comes when that is over. */
typedef bool undo_step(struct undo_slot *slot);

struct undo_lane {
	struct undo *undo;
	struct io_op op;
	uint8_t *data;
	uint64_t first, count;		/* blocks being copied; count = 0: free */
};

/* A walk over the blocks that are to be copied, upwards: [left, left_end) is what is left of the run it is in. */
struct undo_walk { uint64_t at, left, left_end, block_next; uint32_t hole_next; };

struct undo {
	struct io *io;
	int store;
	const struct geometry *geometry;
	uint64_t limit_blocks;		/* of one slot's data */
	struct undo_slot slots[UNDO_SLOTS];
	uint64_t lsn_now;		/* end of our log, by its owner before undo_preserve(): what `partial` says */
	bool loaded;			/* or failed */
	int failed;			/* -errno, for good: a header or bitmap could not be read or written, or a block
					 * not be preserved. Nothing is idle or preserved any more. */
	char why[WHY_BYTES];		/* of failed */
	void (*moved)(struct undo *u);	/* something below is over, or failed; from a done(), never from a call */

	/* Private. */
	undo_step *const *plan;		/* the next step of what is being done; NULL: nothing is */
	undo_step *const *otherwise;	/* without space (or after another error, while nothing depends on it yet) */
	struct undo_slot *slot;		/* whose plan it is */
	bool preserving;
	const uint64_t *blocks;		/* what undo_preserve() was asked for */
	uint64_t block_count;
	const struct holes *holes;
	const char *what;		/* cannot be done, should op fail */
	struct io_op op;
	struct bitmap *waiting;		/* for its load or for this ticket */
	uint64_t ticket;

	struct undo_lane lanes[UNDO_LANES];
	uint8_t *data;			/* UNDO_COPY_BYTES, IO_FIXED: of the lanes, or of a header */
	struct io_op map;
	struct undo_walk walk;
	bool (*walk_next)(struct undo_slot *slot, struct undo_walk *walk, uint64_t *first, uint64_t *end);
	bool back, copied;		/* from the slot to the store; something was written */
	uint64_t first, end;		/* of the run, what was not looked at */
	uint64_t known_first, known_end;	/* and what was, and waits for a lane: it is data, or else a hole */
	bool known_data;
	int64_t error;			/* of a lane: no more are started */
};

/* @files: UNDO_SLOTS of them, undo_file_bytes() long, sparse. @limit_bytes: of one slot's data. -ENOMEM. */
MUST_CHECK int undo_new(struct undo *u, struct io *io, const int files[UNDO_SLOTS], int store, const struct geometry *g,
			uint64_t limit_bytes, void (*moved)(struct undo *u));
/* What undo_new() allots: 260 MiB per TiB, most of it never touched while there is no snapshot. */
uint64_t undo_memory_bytes(const struct geometry *g);
/* Quiet. An undo of zeros is fine. */
void undo_delete(struct undo *u);
/* Reads headers and bitmaps. A header of which no copy is whole, or that is another volume's, fails it, in words. A
 * `saved` with damaged units has their bits set, and the slot becomes partial, since header.lsn. Copies of the header
 * that differ (power was lost between them) are made alike. */
void undo_load(struct undo *u);
bool undo_quiet(const struct undo *u);	/* no op in flight */

/* ---- one slot's life; one of these calls at a time: undo_idle() ---- */

/* Loaded, nothing runs (undo_preserve() neither), nothing failed. Each call below makes it false until it is over. */
bool undo_idle(const struct undo *u);
/* A free slot to be filled: header is zeroed but for magic, version, uuid, node, volume_bytes and a new id; history,
 * saved and want are empty. NULL when none is free. It is over at once. */
struct undo_slot *undo_take(struct undo *u);
/* Gives back a taken slot that was not started. At once. */
void undo_untake(struct undo_slot *slot);
/* The store is at header.lsn, and everything below is synced. Makes the slot durable: bitmaps, then, with @eagerly,
 * the old bytes of every block in `want`, then the header as RESYNC. Then the slot records, and idle is true again with
 * slot->error = 0. Else slot->error says why (-ENOSPC: the disk; nothing is left behind) and the slot is free. Blocks
 * that are copied eagerly count towards the slot's bound, but are not refused for it.
 * What an earlier life of the slot left in its file is cleaned first. */
void undo_start(struct undo_slot *slot, bool eagerly);
/* What its owner changed in the header of a RESYNC slot (base, keep, blocks, source): idle when that is durable. */
void undo_describe(struct undo_slot *slot);
/* Makes it partial, before anything overflows: what is to come is known to be too much. Idle when that is durable. */
void undo_stop(struct undo_slot *slot);
/* The resync is over: a DIVERGENCE if header.keep, else free, its blocks given back. Idle when that is durable. */
void undo_end(struct undo_slot *slot);
/* Makes any slot free, durably, then gives its blocks back. */
void undo_drop(struct undo_slot *slot);
/* Copies all saved blocks back into the store and syncs it; the slot stays as it is. It is not partial. slot->error: 0,
 * or an error of the store or of the slot's blocks, and then the store is a mixture until it was done once more, from
 * the start: that is always possible. */
void undo_roll_back(struct undo_slot *slot);

/* ---- before the store changes ---- */

/* Slots that hold one. One slot is always left for a resync. */
unsigned undo_divergences(const struct undo *u);
/* Whether any slot records: then the store may change only what undo_preserve() was asked for. */
bool undo_recording(const struct undo *u);
/* All of @blocks (sorted, each once) and @holes (or NULL) are about to change. When it is over (undo_preserved(): at
 * once, or after moved()) the invariant holds for them. Both stay as they are until then, and so does what the store
 * holds there. Idle only. */
void undo_preserve(struct undo *u, const uint64_t *blocks, uint64_t count, const struct holes *holes);
bool undo_preserved(const struct undo *u);	/* none runs, and none failed */

/* ---- looking ---- */

/* What the slot's snapshot is as of. */
static inline struct position undo_position(const struct undo_slot *slot)
{
	struct position at = { .lsn = from_le64(slot->header.lsn) };

	__builtin_memcpy(at.hash, slot->header.hash, HASH_BYTES);
	return at;
}

static inline uint64_t undo_block_offset(const struct undo *u, uint64_t block)
{
	return undo_data_offset(u->geometry->volume_bytes) + block * BLOCK_BYTES;
}

#endif
