/* SPDX-License-Identifier: Apache-2.0 */
/* A volume's blocks for a filesystem: include/blocks.h says what they promise.
 *
 *	read	the page, zeros where a hole is, else it is loaded: -EAGAIN
 *	change	the transaction works on a copy of the page; nobody sees it, so an abort is to forget it
 *	commit	what differs between copies and pages becomes the deltas of one record, and with them, as any
 *		write does, goes into log, pages and holes
 *
 * While a resync changes the store, readers see the snapshot: its blocks are read into a cache of a few.
 */
#ifndef HOLDFAST_VOLUME_BLOCKS_H
#define HOLDFAST_VOLUME_BLOCKS_H

#include "blocks.h"
#include "record.h"
#include "volume.h"

enum {
	BLOCKS_VIEWS = 256,		/* blocks of the snapshot; more than one operation reads */
	BLOCKS_RANGES_MAX = 32,		/* that differ in one page; the rest of it is one more */
	BLOCKS_GAP_MIN = sizeof(struct record_delta),	/* equal bytes between two that differ: fewer are logged */
	BLOCKS_DELTAS_MAX = BLOCKS_CHANGES_MAX * (1 + BLOCKS_RANGES_MAX) + BLOCKS_RUNS_MAX,
	BLOCKS_INDEX = 1024,		/* a power of 2, more than twice the changes */
};

struct blocks_change {
	uint64_t block;
	uint8_t *page;			/* as the transaction has it */
	bool fresh;
};

/* Of write(), or (bytes NULL) of discard(). Bytes of the volume. */
struct blocks_run { uint64_t offset, len; const uint8_t *bytes; };

struct blocks_view {
	struct volume_blocks *all;
	struct volume_request request;
	uint64_t block;
	unsigned view;			/* volume.views + 1 when it was read; 0 = nothing is here */
	int result;			/* 1 = being read */
	bool indexed;			/* in the chain of its block */
	uint16_t next;			/* of the chain: place in views + 1; 0 = the last */
	uint8_t *page;
};

struct volume_blocks {
	struct blocks blocks;
	struct volume *volume;
	bool waiting;			/* somebody was told -EAGAIN */
	unsigned change_count, run_count;
	uint64_t run_bytes;		/* of write() */
	struct blocks_change changes[BLOCKS_CHANGES_MAX];
	uint16_t index[BLOCKS_INDEX];	/* by block: place in changes + 1; 0 = none */
	struct blocks_run runs[BLOCKS_RUNS_MAX];
	unsigned delta_count, slice_count;
	struct record_delta deltas[BLOCKS_DELTAS_MAX];
	struct slice slices[BLOCKS_DELTAS_MAX];
	struct blocks_view views[BLOCKS_VIEWS];
	uint16_t view_chains[BLOCKS_VIEWS];	/* by block: place in views + 1; 0 = none */
	unsigned view_next;
	uint8_t *pages;			/* of the changes, then of the views */
};

/* 0 when config.filesystem is not set, too. -ENOMEM. */
MUST_CHECK int volume_blocks_new(struct volume *v);
/* No read of a view is in flight. */
void volume_blocks_delete(struct volume *v);
uint64_t volume_blocks_memory_bytes(void);
/* Once a turn: whoever waits may try again. */
void volume_blocks_turn(struct volume *v);

#endif
