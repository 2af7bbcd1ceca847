/* SPDX-License-Identifier: Apache-2.0 */
/* Where a file's blocks are: runs of them, keyed by the first block of the file that they give. What lies between is a
 * hole. Invariant: runs do not overlap, and neighbours that could be one are one, but where that took more than one
 * change. */
#ifndef HOLDFAST_FS_EXTENT_H
#define HOLDFAST_FS_EXTENT_H

#include "inode.h"

struct extent_run {
	uint64_t first;			/* block of the file */
	uint64_t block;			/* of the volume */
	uint32_t count;
	bool unwritten;			/* reads as zeros, whatever is there */
};

#define FILE_BLOCKS_MAX (FILE_BYTES_MAX / BLOCK_BYTES)

static inline uint64_t extent_end(const struct extent_run *run) { return run->first + run->count; }

/* Of a value of ITEM_EXTENT; false: it is none. */
MUST_CHECK bool extent_parse(const struct files *f, const struct tree_item *item, struct extent_run *run);
/* The run that gives block @first of the file, or the next behind it. -ENOENT: there is none. */
MUST_CHECK int extent_at(struct files *f, uint64_t ino, uint64_t first, struct extent_run *run);
/* A run for a hole at block @first of the file: 1..@want blocks, near those before it. In the tree; inode->blocks
 * counts them. -ENOSPC: no block is free; nothing was changed by this. */
MUST_CHECK int extent_allocate(struct files *f, struct inode *inode, uint64_t first, uint32_t want, bool unwritten,
			       struct extent_run *run);
/* Blocks [first, first + count) of the file, which lie in @run, are written (unwritten) from now on. */
MUST_CHECK int extent_mark(struct files *f, struct inode *inode, const struct extent_run *run, uint64_t first,
			   uint32_t count, bool unwritten);
/* Blocks [first, end) of the file become a hole and are free. *done: all of them; else as many as this transaction has
 * room for, and at least one run of them. */
MUST_CHECK int extent_remove(struct files *f, struct inode *inode, uint64_t first, uint64_t end, bool *done);

#endif
