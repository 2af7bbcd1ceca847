/* SPDX-License-Identifier: Apache-2.0 */
/* All leaves of the tree, in order, past nodes that are damaged. Memory is what stands in struct walk: the way from the
 * root to where the walk is, as copies, so that it may rest anywhere. Whatever the blocks hold, it ends. */
#ifndef HOLDFAST_FS_WALK_H
#define HOLDFAST_FS_WALK_H

#include "tree_private.h"

struct walk;

struct walk_listener {
	/* A node that cannot be looked at, and all below it, is passed by: as the audit_listener's. May be NULL. */
	void (*damaged)(struct walk_listener *listener, uint64_t block, const char *what);
	/* A good node. False: it is passed by. May be NULL. */
	bool (*enter)(struct walk_listener *listener, uint64_t block);
	/* A leaf, good until the return. */
	void (*leaf)(struct walk_listener *listener, uint64_t block, const struct node *n);
};

struct walk_level {
	uint64_t block;
	uint32_t index;			/* of the child that is next */
	struct tree_range range;
	uint8_t page[BLOCK_BYTES] __attribute__((aligned(8)));
};

struct walk {
	struct fs *fs;
	struct walk_listener *listener;
	struct tree_key from;		/* what is wholly before it is passed by */
	bool started;			/* the root was entered */
	int depth;			/* of levels[]: the deepest that is in use, or -1 */
	struct walk_level levels[NODE_LEVELS_MAX];
};

/* From the leaf where @from is, or belongs. Both stay the caller's. */
void walk_begin(struct walk *w, struct fs *fs, struct walk_listener *listener, const struct tree_key *from);
/* One node further. 1: more; 0: it is over; -EAGAIN: call again after ready(); any other: it cannot go on. The
 * transaction is the caller's to end. */
MUST_CHECK int walk_step(struct walk *w);

#endif
