/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of the store: before a block of the store is changed, what it held goes to a file of its own, a sparse
 * one in which the block has the same place. One file per slot:
 *
 *	| undo_header 4096, epochs | saved: a bitmap | want: a bitmap | blocks, each in its place |
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
 * header before the store is changed: a RESYNC slot then only notes which blocks were changed (the replica cannot go
 * back), a DIVERGENCE slot stops to record.
 */
#ifndef HOLDFAST_UNDO_H
#define HOLDFAST_UNDO_H

#include "bitmap.h"
#include "history.h"
#include "holes.h"
#include "replica.h"

enum {
	UNDO_MAGIC = 0x55464c48 /* "HLFU" */, UNDO_VERSION = 1,
	UNDO_COPY_BYTES = 1 << 20,	/* one read and one write at most */
};

enum undo_kind { UNDO_FREE, UNDO_RESYNC, UNDO_DIVERGENCE, UNDO_KINDS };

struct undo_header {
	le32 magic;
	le16 version, kind;
	uint8_t uuid[UUID_BYTES];	/* the volume's */
	char node[NAME_BYTES];		/* whose replica this is */
	le64 id;			/* of this snapshot, random; 0 when free */
	le64 lsn;			/* the store as of here */
	uint8_t hash[HASH_BYTES];	/* running hash there */
	le64 base;			/* LSN up to which our log is the log of those whose history we take: the fork */
	le64 partial;			/* 0: everything is saved. Else it is not, since our log ended here (plus one) */
	le64 wall_ns;			/* when it was taken */
	le64 first_ns, last_ns;		/* of the records between base and lsn; 0 = there were none, or not known */
	le64 blocks;			/* that these records changed */
	le64 bytes;			/* of data in these records; a lower bound when the journal had lost some */
	le32 keep;			/* 1: it becomes a DIVERGENCE when the resync is over */
	le32 epoch_count;		/* epochs of our own history, behind this header */
	char source[NAME_BYTES];	/* whose history was taken instead; "" of a plain resync */
	uint8_t zero[4096 - 252];
	le32 crc;			/* of all above, then of the epochs */
};
_Static_assert(sizeof(struct undo_header) == 4096, "size on disk");

/* Where things stand in a slot's file. */
static inline uint64_t undo_saved_offset(void) { return META_SLOT_BYTES; }
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

/* Whether the header and the @avail bytes behind it are a valid one of this volume: 0, or -EBADMSG with one sentence in
 * @why. A slot of zeros is valid and free. For bytes from disk. */
MUST_CHECK int undo_header_check(const struct undo_header *header, uint64_t avail, const struct geometry *g,
				 char why[WHY_BYTES]);
/* Fills crc, over header and epochs. */
void undo_header_seal(struct undo_header *header);

struct undo;

struct undo_slot {
	struct undo *undo;
	unsigned index;
	int file;
	enum undo_kind kind;
	bool taking;			/* undo_take() has it: not on disk yet */
	struct undo_header header;	/* as last written, or being filled by who took the slot */
	struct history *history;	/* the epochs behind the header */
	struct bitmap saved;		/* blocks of the store that changed since; their old bytes are here unless partial */
	struct bitmap want;		/* blocks that our own records between base and lsn changed */
	uint64_t data_count;		/* blocks whose bytes are in this file */
	int error;			/* of the last undo_start(): 0, -ENOSPC, -EIO, ... */
};

struct undo {
	struct io *io;
	int store;
	const struct geometry *geometry;
	uint64_t limit_blocks;		/* of one slot's data */
	struct undo_slot slots[UNDO_SLOTS];
	bool loaded;			/* or failed */
	int failed;			/* -errno: a header or bitmap could not be read or written; for good */
	char why[WHY_BYTES];		/* of failed */
	void (*moved)(struct undo *u);	/* something below is over, or failed; from a done(), never from a call */
	uint8_t *copy;			/* UNDO_COPY_BYTES, IO_FIXED */
	struct io_op op;
};

/* @files: UNDO_SLOTS of them, undo_file_bytes() long, sparse. @limit_bytes: of one slot's data. -ENOMEM. */
MUST_CHECK int undo_new(struct undo *u, struct io *io, const int files[UNDO_SLOTS], int store, const struct geometry *g,
			uint64_t limit_bytes, void (*moved)(struct undo *u));
void undo_delete(struct undo *u);
/* Reads headers and bitmaps. A header that is damaged, or a `saved` with damaged units, makes the slot partial. */
void undo_load(struct undo *u);
bool undo_quiet(const struct undo *u);	/* no op in flight */

/* ---- one slot's life; one of these calls at a time: undo_idle() ---- */

bool undo_idle(const struct undo *u);
/* A free slot to be filled: header is zeroed but for magic, version, uuid, node and a new id; history, saved and want are
 * empty. NULL when none is free. */
struct undo_slot *undo_take(struct undo *u);
/* Gives back a taken slot that was not started. */
void undo_untake(struct undo_slot *slot);
/* The store is at header.lsn, and everything below is synced. Makes the slot durable: bitmaps, then, with @eagerly,
 * the old bytes of every block in `want`, then the header as RESYNC. Then the slot records, and idle is true again with
 * slot->error = 0. Else slot->error says why (-ENOSPC: bound or disk; nothing is left behind) and the slot is free. */
void undo_start(struct undo_slot *slot, bool eagerly);
/* The resync is over: a DIVERGENCE if header.keep, else free, its blocks given back. Idle when that is durable. */
void undo_end(struct undo_slot *slot);
/* Makes any slot free, durably, then gives its blocks back. */
void undo_drop(struct undo_slot *slot);
/* Copies all saved blocks back into the store and syncs it; the slot stays as it is. It is not partial. */
void undo_roll_back(struct undo_slot *slot);

/* ---- before the store changes ---- */

/* Whether any slot records: then the store may change only what undo_preserve() was asked for. */
bool undo_recording(const struct undo *u);
/* All of @blocks (sorted) and @holes are about to change. When it is over (undo_preserved(), after moved()) the
 * invariant holds for them. Both stay as they are until then. May run beside the calls above being idle only. */
void undo_preserve(struct undo *u, const uint64_t *blocks, uint64_t count, const struct holes *holes);
bool undo_preserved(const struct undo *u);	/* none runs */

/* ---- looking ---- */

static inline uint64_t undo_block_offset(const struct undo *u, uint64_t block)
{
	return undo_data_offset(u->geometry->volume_bytes) + block * BLOCK_BYTES;
}

#endif
