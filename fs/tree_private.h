/* SPDX-License-Identifier: Apache-2.0 */
/* What the stages of the tree share: the way down to a leaf. */
#ifndef HOLDFAST_FS_TREE_PRIVATE_H
#define HOLDFAST_FS_TREE_PRIVATE_H

#include "fs.h"
#include "node.h"

/* Keys from low (without has_low: the least) to below high (the greatest, and it too). */
struct tree_range {
	struct tree_key low, high;
	bool has_low, has_high;
};

struct tree_path {
	uint8_t root_level;
	struct { uint64_t block; uint32_t index; } at[NODE_LEVELS_MAX];	/* [level] */
	struct tree_range range;	/* of the leaf */
};

/* From the root to the leaf where @key is, or belongs; at[0].index: the first item that is not less. */
MUST_CHECK int tree_descend(struct fs *fs, const struct tree_key *key, struct tree_path *path,
			    const struct node **leaf);
/* Is item @index (at most the count) that of @key? */
bool tree_is_at(const struct node *leaf, uint32_t index, const struct tree_key *key);
/* Whether the node's keys are in @range; that of an inner node's first child is the range's. */
bool node_in_range(const struct node *n, const struct tree_range *range);
/* The range of child @index in that of its parent. */
void tree_range_child(struct tree_range *range, const struct node *n, uint32_t index);

#endif
