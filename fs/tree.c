/* SPDX-License-Identifier: Apache-2.0 */
/* Looking things up. Each node is met with the range of keys that the nodes above allow it, and must keep to it; so a
 * node is never met twice, each step from leaf to leaf goes on, and no damage makes a loop. */
#include "tree_private.h"

#include <errno.h>

int tree_key_compare(const struct tree_key *a, const struct tree_key *b)
{
	if (a->inode != b->inode)
		return a->inode < b->inode ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->at != b->at)
		return a->at < b->at ? -1 : 1;
	return 0;
}

/* ---- descent --------------------------------------------------------------------------------------- */

static int tree_node(struct fs *fs, uint64_t block, uint8_t level, const struct tree_range *range,
		     const struct node **node)
{
	const uint8_t *page;
	int error = transaction_read(&fs->transaction, block, BLOCK_NODE, &page);
	const struct node *n;

	if (error)
		return error;
	n = (const void *)page;
	if (n->level != level)
		return transaction_damaged(&fs->transaction, block, "it is on another level of the tree");
	if (!node_in_range(n, range))
		return transaction_damaged(&fs->transaction, block, "it is empty, or has keys that belong elsewhere");
	*node = n;
	return 0;
}

bool node_in_range(const struct node *n, const struct tree_range *range)
{
	uint32_t count = node_count(n), first = n->level > 0;
	struct tree_key key;

	if (count == 0)
		return !range->has_low && !range->has_high;	/* the root; any other would be merged */
	if (first < count) {
		key = node_key(n, first);
		if (range->has_low && tree_key_compare(&key, &range->low) < (int)first)
			return false;
	}
	key = node_key(n, count - 1);
	return !range->has_high || tree_key_compare(&key, &range->high) < 0;
}

void tree_range_child(struct tree_range *range, const struct node *n, uint32_t index)
{
	if (index > 0) {
		range->low = node_key(n, index);
		range->has_low = true;
	}
	if (index + 1 < node_count(n)) {
		range->high = node_key(n, index + 1);
		range->has_high = true;
	}
}

int tree_descend(struct fs *fs, const struct tree_key *key, struct tree_path *path, const struct node **leaf)
{
	const struct superblock *superblock;
	int error = fs_superblock(fs, &superblock);
	const struct node *n = NULL;
	uint64_t block;

	if (error)
		return error;
	path->root_level = superblock->root_level;
	path->range = (struct tree_range){ 0 };
	block = from_le64(superblock->root);
	for (uint8_t level = path->root_level;; level--) {
		error = tree_node(fs, block, level, &path->range, &n);
		if (error)
			return error;
		path->at[level].block = block;
		if (level == 0)
			break;
		path->at[level].index = node_search_child(n, key);
		tree_range_child(&path->range, n, path->at[level].index);
		block = node_child(n, path->at[level].index);
	}
	path->at[0].index = node_search(n, key);
	*leaf = n;
	return 0;
}

bool tree_is_at(const struct node *leaf, uint32_t index, const struct tree_key *key)
{
	struct tree_key found;

	if (index == node_count(leaf))
		return false;
	found = node_key(leaf, index);
	return tree_key_compare(&found, key) == 0;
}

/* ---- find, next, previous ---------------------------------------------------------------------------- */

static void tree_give(const struct node *leaf, uint32_t index, struct tree_item *item)
{
	const struct item *found = node_item(leaf, index);

	item->key = node_key(leaf, index);
	item->value = found->value;
	item->len = from_le16(found->len);
}

int tree_find(struct fs *fs, const struct tree_key *key, struct tree_item *item)
{
	struct tree_path path;
	const struct node *leaf;
	int error = tree_descend(fs, key, &path, &leaf);

	if (error)
		return error;
	if (!tree_is_at(leaf, path.at[0].index, key))
		return -ENOENT;
	tree_give(leaf, path.at[0].index, item);
	return 0;
}

int tree_next(struct fs *fs, const struct tree_key *key, struct tree_item *item)
{
	struct tree_key from = *key;
	struct tree_path path;
	const struct node *leaf;

	for (;;) {
		int error = tree_descend(fs, &from, &path, &leaf);

		if (error)
			return error;
		if (path.at[0].index < node_count(leaf))
			break;
		if (!path.range.has_high)
			return -ENOENT;
		from = path.range.high;		/* the least key of the next leaf, which is not empty */
	}
	tree_give(leaf, path.at[0].index, item);
	return 0;
}

/* The greatest key below @key, which is not the least of all. */
static struct tree_key key_before(const struct tree_key *key)
{
	if (key->at)
		return (struct tree_key){ key->inode, key->at - 1, key->kind };
	if (key->kind)
		return (struct tree_key){ key->inode, UINT64_MAX, (uint8_t)(key->kind - 1) };
	CHECK(key->inode);
	return (struct tree_key){ key->inode - 1, UINT64_MAX, UINT8_MAX };
}

int tree_previous(struct fs *fs, const struct tree_key *key, struct tree_item *item)
{
	struct tree_key from = *key;
	struct tree_path path;
	const struct node *leaf;
	uint32_t index;

	for (;;) {
		int error = tree_descend(fs, &from, &path, &leaf);

		if (error)
			return error;
		index = path.at[0].index + tree_is_at(leaf, path.at[0].index, &from);
		if (index > 0)
			break;
		if (!path.range.has_low)
			return -ENOENT;
		from = key_before(&path.range.low);	/* in the leaf before, if it is anywhere */
	}
	tree_give(leaf, index - 1, item);
	return 0;
}

static int tree_alike(const struct tree_key *key, const struct tree_item *item)
{
	return item->key.inode == key->inode && item->key.kind == key->kind ? 0 : -ENOENT;
}

int tree_next_alike(struct fs *fs, const struct tree_key *key, struct tree_item *item)
{
	int error = tree_next(fs, key, item);

	return error ? error : tree_alike(key, item);
}

int tree_previous_alike(struct fs *fs, const struct tree_key *key, struct tree_item *item)
{
	int error = tree_previous(fs, key, item);

	return error ? error : tree_alike(key, item);
}
