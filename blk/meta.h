/* SPDX-License-Identifier: Apache-2.0 */
/* Meta: what a replica must know before it can read its journal. Two slots, written in turn, each in one
 * durable write; the valid one with the higher generation counts, so a torn write loses nothing.
 *
 *	slot: | struct meta_slot (4096) | struct epoch_entry x count | zeros to META_SLOT_BYTES
 */
#ifndef HOLDFAST_META_H
#define HOLDFAST_META_H

#include "history.h"
#include "io.h"

enum { META_MAGIC = 0x4d464c48 /* "HLFM" */, META_VERSION = 2 };

/* What we know of a peer's place in our log, and of its bitmap (lack.h). */
struct meta_peer {
	char name[NAME_BYTES];		/* "" = nobody's */
	le64 known, covers, marked, id, snapshot;
};
_Static_assert(sizeof(struct meta_peer) == 104, "size on disk");

struct meta_slot {
	le32 magic;
	le16 version, reserved;
	le64 generation;
	uint8_t uuid[UUID_BYTES];
	char node[NAME_BYTES];
	le64 volume_bytes, journal_bytes;
	le32 segment_bytes, journal_block;
	le64 tail;			/* the store holds everything below; replay starts here */
	uint8_t tail_hash[HASH_BYTES];
	le64 reach;			/* the store may hold something of records below this, and of none above */
	le64 durable; /* the journal had everything below this, durably: ends it below, it is damaged */
	le64 commit;			/* commit LSN as last known */
	le64 promised;			/* highest epoch number promised to anybody */
	le64 floor;			/* what peers lack below this is in their bitmaps; the journal has the rest */
	uint8_t floor_hash[HASH_BYTES];
	le64 resync_id;			/* of the resync under way, as its source named it; 0 = it starts anew */
	le64 resync_base;		/* LSN that our store is the volume as of, but for what undo notes */
	le32 resync_slot;		/* of undo, plus one; 0 = no resync is under way */
	le32 epoch_count;
	char resync_source[NAME_BYTES];
	struct meta_peer peers[PEERS_MAX];
	uint8_t zero[4096 - 1020];
	le32 crc;			/* of all above, then of the epochs */
};
_Static_assert(sizeof(struct meta_slot) == 4096, "size on disk");
_Static_assert(sizeof(struct meta_slot) + HISTORY_MAX * sizeof(struct epoch_entry) <= META_SLOT_BYTES,
	       "a full history fits");

/* A resync of this replica; it is not consistent but through undo. */
struct meta_resync {
	bool running;
	unsigned slot;
	uint64_t id, base;
	char source[NAME_BYTES];
};

struct lack_place { char name[NAME_BYTES]; uint64_t known, covers, marked, id, snapshot; };

struct meta {
	struct io *io;
	int file;
	const struct geometry *geometry;
	struct position tail;
	struct position floor;
	uint64_t reach, durable, commit, promised;
	struct meta_resync resync;
	struct lack_place peers[PEERS_MAX];
	struct history *history;
	uint64_t generation;		/* of the newest slot written or being written */
	uint64_t saved, wanted;		/* tickets: see meta_save() */
	uint64_t saved_reach;		/* reach in the newest slot that is durable */
	uint64_t submitted_reach, submitted_ticket;
	int failed;			/* -errno, for good */
	uint8_t *buffer;		/* one slot, IO_FIXED */
	struct io_op op;
	void (*moved)(struct meta *m);	/* saved or failed changed */
};

/* @slots: META_BYTES as read. Fills tail, reach, durable, commit, promised, history, generation. -EBADMSG with a
 * sentence in @why: no valid slot, another volume, another geometry, a newer version. */
MUST_CHECK int meta_load(struct meta *m, const uint8_t slots[META_BYTES], char why[WHY_BYTES]);
/* What the newest whole slot of @slots says of its replica, for who has its files and no config. -EBADMSG with a
 * sentence in @why: no whole slot, or an impossible geometry. */
MUST_CHECK int meta_geometry(const uint8_t slots[META_BYTES], struct geometry *out, char why[WHY_BYTES]);
/* -ENOMEM. @history stays the caller's. */
MUST_CHECK int meta_new(struct meta *m, struct io *io, int file, const struct geometry *g,
			struct history *history, void (*moved)(struct meta *m));
void meta_delete(struct meta *m);
/* Persists what the fields say now. Done when m->saved >= the ticket. */
uint64_t meta_save(struct meta *m);
/* One slot's bytes. */
void meta_encode(const struct meta *m, uint64_t generation, uint8_t slot[META_SLOT_BYTES]);

#endif
