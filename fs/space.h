/* SPDX-License-Identifier: Apache-2.0 */
/* Which blocks are free. All of it is in the maps, in the fulls, and in the superblock's count; what is in memory are
 * hints about where to look first, which may be wrong and cost time then, nothing else.
 *
 * The reserve: some blocks are given only to transactions that give space back in the end (unlink, truncate, punch),
 * so that these work on a full volume. Such a one says so with space_use_reserve() when it begins.
 *
 * What is freed is free for the next transaction, not for this one: no record frees a block and uses it again.
 */
#ifndef HOLDFAST_FS_SPACE_H
#define HOLDFAST_FS_SPACE_H

#include "format.h"
#include "io.h"

struct fs;

enum {
	SPACE_FREES_MAX = 128,		/* runs that one transaction may free: data (BLOCKS_RUNS_MAX) and nodes */
	SPACE_GROUPS_TRIED = 8,		/* groups that are searched for a long run before a short one is taken */
	SPACE_HINT_UNKNOWN = 0xffff,
};

struct space_run { uint64_t block; uint32_t count; };

struct space {
	uint16_t *longest;		/* per group: its longest run of free blocks, as last seen, or UNKNOWN */
	uint64_t rotor;			/* where the next run without a goal, or away from it, is looked for */
	bool reserve_open;		/* this transaction may use the reserve */
	uint32_t free_count;		/* of frees[] */
	struct space_run frees[SPACE_FREES_MAX];	/* of this transaction, in the maps at its commit */
};

/* -ENOMEM. For a volume of layout l; 16 TiB take 264 KiB. */
MUST_CHECK int space_new(struct space *s, struct io *io, const struct layout *l);
void space_delete(struct space *s, struct io *io);

/* One run of free blocks becomes used: *count of them (1..@want) from *block on, in one group. @goal: the block that
 * it would best start at, 0 for anywhere. A run that starts at @goal is taken however short; else the nearest that has
 * @want, else the longest that is found soon. What stands in the blocks is anything, until it is written.
 * -ENOSPC: no block is free but the reserve; nothing was changed, the transaction may go on. Else as transaction.h. */
MUST_CHECK int space_allocate(struct fs *fs, uint64_t goal, uint32_t want, uint64_t *block, uint32_t *count);
/* The same, for a file that grows: where there is nothing at @goal, at a place with @ahead free blocks more, which
 * those that are placed next leave alone: so files that grow in turn do not lie in each other's way. */
MUST_CHECK int space_allocate_growing(struct fs *fs, uint64_t goal, uint32_t want, uint32_t ahead, uint64_t *block,
				      uint32_t *count);
/* A run in one group, all of it in use, is free after this transaction, and is discarded. -E2BIG: over SPACE_FREES_MAX
 * or BLOCKS_RUNS_MAX. That a block of it was free already is found at fs_commit(): -EIO. None of it was read, changed
 * or written in this transaction. */
MUST_CHECK int space_free(struct fs *fs, uint64_t block, uint32_t count);
/* One block of metadata: as space_free(), but its bytes stay, and it may have been changed in this transaction. */
MUST_CHECK int space_free_node(struct fs *fs, uint64_t block);

/* This transaction gives space back in the end. Until its end. */
void space_use_reserve(struct fs *fs);
/* 0 when this transaction may take @count blocks more, -ENOSPC when not. */
MUST_CHECK int space_ask(struct fs *fs, uint64_t count);
/* The reserve of a filesystem of @blocks. */
uint64_t space_reserve(uint64_t blocks);

/* fs_commit() calls it: the freed runs are put into the maps. */
MUST_CHECK int space_apply(struct fs *fs);
/* The transaction has ended, either way. */
void space_end(struct space *s);

#endif
