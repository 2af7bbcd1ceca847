/* SPDX-License-Identifier: Apache-2.0 */
/* Is a filesystem whole? Walks the tree and the maps, changes nothing, and reports each damage. What is true afterwards
 * when nothing was reported: every node is good and in its place, every block that can be used is referred to exactly
 * once or is free, no two extents of an inode overlap, maps, fulls and the superblock's count agree.
 *
 * Memory is bounded: a bit per block of a part of the volume, and the tree is walked once for each part. Whatever the
 * blocks hold, it ends.
 *
 * The volume must not change meanwhile: on one that does (a secondary's) the caller holds it still, or begins anew.
 */
#ifndef HOLDFAST_FS_AUDIT_H
#define HOLDFAST_FS_AUDIT_H

#include "fs.h"

struct audit;

struct audit_listener {
	/* Blocks [block, block + count) are damaged: @what is a sentence without subject and full stop, static.
	 * @inode: whose item is wrong, or refers to them; 0: of none, or nobody knows. */
	void (*damaged)(struct audit_listener *listener, uint64_t inode, uint64_t block, uint64_t count,
			const char *what);
	/* Each item of the tree that can be reached, once, in order; good until the return. May be NULL. */
	void (*item)(struct audit_listener *listener, const struct tree_item *item);
};

/* Of @fs, which is mounted and runs no transaction; it is not used otherwise until audit_free(). @memory_bytes for the
 * bits, at least 4 KiB: 512 MiB are enough for any volume in one walk. -ENOMEM. */
MUST_CHECK int audit_new(struct audit **out, struct fs *fs, struct audit_listener *listener, uint64_t memory_bytes);
void audit_free(struct audit *a);

/* Some more of it. 1: call again; -EAGAIN: call again after ready(); 0: done; any other: it cannot go on. */
MUST_CHECK int audit_step(struct audit *a);

/* Of 1000 parts, about. */
unsigned audit_progress(const struct audit *a);

struct audit_figures {
	uint64_t damages;		/* reported */
	uint64_t nodes, items;		/* of the tree */
	uint64_t data_blocks;		/* of extents */
	uint64_t inodes;		/* items of kind ITEM_INODE */
	bool incomplete;		/* parts of the tree could not be looked at: blocks that nothing refers to
					 * were not reported */
};
const struct audit_figures *audit_figures(const struct audit *a);

#endif
