/* SPDX-License-Identifier: Apache-2.0 */
/* What a replica is made of: a store (raw image), a journal and meta; a file of bitmaps (what each peer may lack) and
 * UNDO_SLOTS files of undo. This header is what creates one and what tells one from another; reading and writing
 * them is the volume's business. */
#ifndef HOLDFAST_REPLICA_H
#define HOLDFAST_REPLICA_H

#include <stdint.h>

#include "bounds.h"
#include "check.h"

enum {
	META_SLOT_BYTES = 64 << 10,
	META_BYTES = 2 * META_SLOT_BYTES,	/* two slots, written in turn */
	JOURNAL_HEADER_BYTES = 4096,		/* before the ring; written once */
};

/* What never changes in a volume's life. All replicas have the same, but for journal_bytes and node. */
struct geometry {
	uint8_t uuid[UUID_BYTES];	/* the volume's */
	uint64_t volume_bytes;		/* VOLUME_BYTES_MIN.._MAX, a multiple of BLOCK_BYTES */
	uint64_t journal_bytes;		/* of the ring: at least JOURNAL_SEGMENTS_MIN segments, a multiple of one */
	uint32_t segment_bytes;		/* power of two, 64 KiB to 64 MiB; an eighth of it bounds a record */
	uint32_t journal_block;		/* 512 or 4096: the unit of a journal write */
	char node[NAME_BYTES];
};

/* 0, or -EINVAL with one sentence in @why. */
MUST_CHECK int geometry_check(const struct geometry *geometry, char why[WHY_BYTES]);

/* How long the file of bitmaps is: one bitmap per peer. It begins as zeros, or as a hole. */
uint64_t replica_bitmap_bytes(const struct geometry *geometry);
/* How long each file of undo is: sparse, all of it a hole at first. */
uint64_t replica_undo_bytes(const struct geometry *geometry);

/* The first bytes of a new replica, to be written at offset 0 of its meta and of its journal. The rest
 * of the journal is zeros that were *written* (not only allocated), the store is a hole of volume_bytes.
 * @geometry has been checked. */
void replica_format(const struct geometry *geometry, uint8_t meta[META_BYTES],
		    uint8_t journal_header[JOURNAL_HEADER_BYTES]);

#endif
