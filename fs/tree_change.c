/* SPDX-License-Identifier: Apache-2.0 */
/* Changing the tree. What was half done when an error came is undone by the transaction's abort.
 *
 *	tree_insert()	down to the leaf; where there is no room split, and put the new half into the node above
 *	tree_replace()	in place; where there is no room, as a removal of the item and an insert
 *	tree_delete()	out of the leaf; what became small goes into its neighbour, what became empty goes
 */
#include "tree_private.h"

#include <errno.h>
#include <string.h>

enum {
	NODE_SMALL = NODE_ROOM / 4,		/* a node with less in it goes into a neighbour ... */
	NODE_MERGED_MAX = NODE_ROOM * 7 / 8,	/* ... when both together leave some room */
};

static int tree_node_change(struct fs *fs, uint64_t block, struct node **node)
{
	uint8_t *page = NULL;
	int error = transaction_change(&fs->transaction, block, BLOCK_NODE, &page);

	*node = (void *)page;
	return error;
}

static int tree_node_read(struct fs *fs, uint64_t block, const struct node **node)
{
	const uint8_t *page = NULL;
	int error = transaction_read(&fs->transaction, block, BLOCK_NODE, &page);

	*node = (const void *)page;
	return error;
}

/* An empty node near @goal. */
static int tree_node_new(struct fs *fs, uint64_t goal, uint8_t level, uint64_t *block, struct node **node)
{
	uint8_t *page = NULL;
	uint32_t count;
	int error = space_allocate(fs, goal, 1, block, &count);

	if (error)
		return transaction_fail(&fs->transaction, error);
	error = transaction_fresh(&fs->transaction, *block, BLOCK_NODE, &page);
	if (error)
		return error;
	*node = (void *)page;
	node_init(*node, level);
	return 0;
}

static int tree_set_root(struct fs *fs, uint64_t block, uint8_t level)
{
	struct superblock *superblock;
	int error = fs_superblock_change(fs, &superblock);

	if (error)
		return error;
	superblock->root = to_le64(block);
	superblock->root_level = level;
	return 0;
}

int tree_format(struct fs *fs)
{
	struct node *root;
	uint64_t block;
	int error = tree_node_new(fs, 0, 0, &block, &root);

	return error ? error : tree_set_root(fs, block, 0);
}

/* ---- insert ---------------------------------------------------------------------------------------- */

struct tree_insert {
	struct tree_key key;
	const void *value;
	uint16_t len;
};

static const struct tree_key key_least;

/* Bytes that item @i takes, of the sequence that has a new one of @len at @index. */
static uint32_t split_bytes(const struct node *n, uint32_t index, uint16_t len, uint32_t i)
{
	if (i == index)
		return item_bytes(len) + 2;
	return item_bytes(from_le16(node_item(n, i - (i > index))->len)) + 2;
}

/* Where to cut the sequence of the node's items with the new one at @index: how many of them stay, 1 .. count. Behind
 * the last one is where what grows at its end is cut (files, numbers of inodes): the old node stays full. Else so
 * that the halves differ least in bytes; that they fit follows from the bound on an item. */
static uint32_t split_place(const struct node *n, uint32_t index, uint16_t len)
{
	uint32_t count = node_count(n), total = node_used(n) + item_bytes(len) + 2;
	uint32_t left = 0, best = UINT32_MAX, place = 1;

	if (index == count)
		return count;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t apart;

		left += split_bytes(n, index, len, i);
		apart = left > total - left ? 2 * left - total : total - 2 * left;
		if (apart < best) {
			best = apart;
			place = i + 1;
		}
	}
	return place;
}

/* The root has become two: the new one is above them. */
static int tree_grow(struct fs *fs, struct tree_path *path, const struct tree_insert *right)
{
	uint64_t old = path->at[path->root_level].block, block;
	le64 child = to_le64(old);
	struct node *root;
	int error;

	if (path->root_level + 1 == NODE_LEVELS_MAX)
		return transaction_damaged(&fs->transaction, old, "the tree has too many levels");
	error = tree_node_new(fs, old, path->root_level + 1, &block, &root);
	if (error)
		return error;
	node_insert(root, 0, &key_least, &child, sizeof child);
	node_insert(root, 1, &right->key, right->value, right->len);
	return tree_set_root(fs, block, root->level);
}

/* Divides @n, with @new in its place; *sibling and *key: the right half, and from where on it has the keys. */
static int tree_split(struct fs *fs, uint64_t block, struct node *n, uint32_t index, const struct tree_insert *new,
		      uint64_t *sibling, struct tree_key *key)
{
	uint32_t stay = split_place(n, index, new->len);
	struct node *right;
	int error = tree_node_new(fs, block, n->level, sibling, &right);

	if (error)
		return error;
	if (index < stay) {
		node_move(n, stay - 1, right);
		node_insert(n, index, &new->key, new->value, new->len);
	} else {
		node_move(n, stay, right);
		node_insert(right, index - stay, &new->key, new->value, new->len);
	}
	*key = node_key(right, 0);
	if (right->level > 0)
		node_set_key(right, 0, &key_least);
	return 0;
}

static int tree_insert_at(struct fs *fs, struct tree_path *path, const struct tree_key *key, const void *value,
			  uint16_t len)
{
	struct tree_insert new = { *key, value, len };
	uint32_t index = path->at[0].index;
	uint64_t sibling;
	le64 child;

	for (uint8_t level = 0;; level++) {
		uint64_t block = path->at[level].block;
		struct node *n;
		int error = tree_node_change(fs, block, &n);

		if (error)
			return error;
		if (node_has_room(n, new.len)) {
			node_insert(n, index, &new.key, new.value, new.len);
			return 0;
		}
		error = tree_split(fs, block, n, index, &new, &sibling, &new.key);
		if (error)
			return error;
		child = to_le64(sibling);
		new.value = &child;
		new.len = sizeof child;
		if (level == path->root_level)
			return tree_grow(fs, path, &new);
		index = path->at[level + 1].index + 1;
	}
}

int tree_insert(struct fs *fs, const struct tree_key *key, const void *value, uint16_t len)
{
	struct tree_path path;
	const struct node *leaf;
	int error = tree_descend(fs, key, &path, &leaf);

	CHECK(len <= ITEM_VALUE_MAX && key->kind > ITEM_NONE && key->kind < ITEM_KINDS);
	if (error)
		return error;
	if (tree_is_at(leaf, path.at[0].index, key))
		return -EEXIST;
	return tree_insert_at(fs, &path, key, value, len);
}

/* ---- replace --------------------------------------------------------------------------------------- */

int tree_replace(struct fs *fs, const struct tree_key *key, const void *value, uint16_t len)
{
	struct tree_path path;
	const struct node *leaf;
	struct node *n;
	uint32_t index;
	int error = tree_descend(fs, key, &path, &leaf);

	CHECK(len <= ITEM_VALUE_MAX);
	if (error)
		return error;
	index = path.at[0].index;
	if (!tree_is_at(leaf, index, key))
		return -ENOENT;
	error = tree_node_change(fs, path.at[0].block, &n);
	if (error)
		return error;
	if (NODE_ROOM - node_used(n) + from_le16(node_item(n, index)->len) >= len) {
		node_replace(n, index, value, len);
		return 0;
	}
	node_remove(n, index);
	return tree_insert_at(fs, &path, key, value, len);
}

int tree_change(struct fs *fs, const struct tree_key *key, uint8_t **value, uint16_t *len)
{
	struct tree_path path;
	const struct node *leaf;
	struct node *n;
	int error = tree_descend(fs, key, &path, &leaf);

	if (error)
		return error;
	if (!tree_is_at(leaf, path.at[0].index, key))
		return -ENOENT;
	error = tree_node_change(fs, path.at[0].block, &n);
	if (error)
		return error;
	*value = node_value(n, path.at[0].index);
	*len = from_le16(node_item(n, path.at[0].index)->len);
	return 0;
}

/* ---- delete ---------------------------------------------------------------------------------------- */

/* Child @index of @parent is gone; what is left of its range goes to its neighbour. */
static void tree_child_gone(struct node *parent, uint32_t index)
{
	node_remove(parent, index);
	if (index == 0 && node_count(parent))
		node_set_key(parent, 0, &key_least);
}

/* All items of child @index go into the child before it. */
static int tree_merge(struct fs *fs, struct node *parent, uint32_t index)
{
	uint64_t from_block = node_child(parent, index);
	struct tree_key key = node_key(parent, index);
	struct node *to, *from;
	int error = tree_node_change(fs, node_child(parent, index - 1), &to);

	if (error)
		return error;
	error = tree_node_change(fs, from_block, &from);
	if (error)
		return error;
	if (from->level > 0)
		node_set_key(from, 0, &key);
	node_move(from, 0, to);
	tree_child_gone(parent, index);
	return space_free_node(fs, from_block);
}

/* Child @index of @parent. It may not have been met on the way down, so its level and range are judged here. */
static int tree_neighbour(struct fs *fs, const struct node *parent, uint32_t index, const struct node **node)
{
	uint64_t block = node_child(parent, index);
	struct tree_range range = { 0 };
	int error = tree_node_read(fs, block, node);

	if (error)
		return error;
	tree_range_child(&range, parent, index);
	if ((*node)->level + 1 != parent->level || node_count(*node) == 0 || !node_in_range(*node, &range))
		return transaction_damaged(&fs->transaction, block, "it is no neighbour of those beside it");
	return 0;
}

/* Whether child @index of @parent and the one before it become one. */
static int tree_merge_if(struct fs *fs, struct node *parent, uint32_t index, bool *merged)
{
	const struct node *left, *right;
	int error = tree_neighbour(fs, parent, index - 1, &left);

	if (error)
		return error;
	error = tree_neighbour(fs, parent, index, &right);
	if (error)
		return error;
	if (node_used(left) + node_used(right) > NODE_MERGED_MAX)
		return 0;
	if (node_child(parent, index - 1) == node_child(parent, index))
		return transaction_damaged(&fs->transaction, node_child(parent, index), "it is used twice");
	*merged = true;
	return tree_merge(fs, parent, index);
}

/* @node at @level of the path has become smaller. *gone: its parent, which is changed then, has one child less. */
static int tree_shrink_node(struct fs *fs, const struct tree_path *path, uint8_t level, bool *gone)
{
	uint32_t index = path->at[level + 1].index;
	const struct node *n;
	struct node *parent;
	int error = tree_node_read(fs, path->at[level].block, &n);

	if (error || node_used(n) >= NODE_SMALL)
		return error;
	error = tree_node_change(fs, path->at[level + 1].block, &parent);
	if (error)
		return error;
	if (index > 0)
		error = tree_merge_if(fs, parent, index, gone);
	if (!error && !*gone && index + 1 < node_count(parent))
		error = tree_merge_if(fs, parent, index + 1, gone);
	return error;
}

/* The root: while it has but one child, that takes its place. */
static int tree_shrink_root(struct fs *fs, const struct tree_path *path)
{
	uint8_t level = path->root_level;
	uint64_t block = path->at[level].block, child;
	const struct node *n;

	for (;;) {
		int error = tree_node_read(fs, block, &n);

		if (error)
			return error;
		if (n->level == 0 || node_count(n) > 1)
			break;
		child = node_child(n, 0);
		error = space_free_node(fs, block);
		if (error)
			return error;
		block = child;
		level--;
		error = tree_node_read(fs, block, &n);
		if (error)
			return error;
		if (n->level != level)
			return transaction_damaged(&fs->transaction, block, "it is on another level of the tree");
	}
	return level == path->root_level ? 0 : tree_set_root(fs, block, level);
}

/* The leaf, and what is above it as long as it has no other child, go; *level: the first node that stays, less one
 * child. */
static int tree_drop_branch(struct fs *fs, const struct tree_path *path, uint8_t *level)
{
	for (*level = 0; *level < path->root_level; ++*level) {
		const struct node *n;
		struct node *parent;
		int error = tree_node_read(fs, path->at[*level].block, &n);

		if (error)
			return error;
		if (node_count(n) > 1) {
			error = tree_node_change(fs, path->at[*level].block, &parent);
			if (!error)
				tree_child_gone(parent, path->at[*level].index);
			return error;
		}
		error = space_free_node(fs, path->at[*level].block);
		if (error)
			return error;
	}
	return 0;
}

/* Item at[0].index is the last one of a leaf that is not the root. */
static int tree_delete_leaf(struct fs *fs, const struct tree_path *path, uint8_t *level)
{
	uint64_t root = path->at[path->root_level].block;
	struct node *n;
	int error = tree_drop_branch(fs, path, level);

	if (error || *level < path->root_level)
		return error;
	error = tree_node_change(fs, root, &n);
	if (error)
		return error;
	tree_child_gone(n, path->at[path->root_level].index);
	if (node_count(n) > 0)
		return 0;
	node_init(n, 0);			/* it was the last item of all */
	return tree_set_root(fs, root, 0);
}

int tree_delete(struct fs *fs, const struct tree_key *key)
{
	struct tree_path path;
	const struct node *leaf;
	struct node *n;
	uint8_t level = 0;
	bool gone = true;
	int error = tree_descend(fs, key, &path, &leaf);

	if (error)
		return error;
	if (!tree_is_at(leaf, path.at[0].index, key))
		return -ENOENT;
	if (node_count(leaf) == 1 && path.root_level > 0) {
		error = tree_delete_leaf(fs, &path, &level);
	} else {
		error = tree_node_change(fs, path.at[0].block, &n);
		if (!error)
			node_remove(n, path.at[0].index);
	}
	for (; !error && gone && level < path.root_level; level++) {
		gone = false;
		error = tree_shrink_node(fs, &path, level, &gone);
	}
	return error ? error : tree_shrink_root(fs, &path);
}

/* ---- need ------------------------------------------------------------------------------------------ */

int tree_need(struct fs *fs, unsigned inserts, uint64_t *blocks)
{
	const struct superblock *superblock;
	int error = fs_superblock(fs, &superblock);

	if (error)
		return error;
	*blocks = (uint64_t)inserts * (superblock->root_level + 2u);	/* a half on each level, and a root */
	return 0;
}
