/* SPDX-License-Identifier: Apache-2.0 */
#include "walk.h"

#include <errno.h>
#include <string.h>

void walk_begin(struct walk *w, struct fs *fs, struct walk_listener *listener, const struct tree_key *from)
{
	w->fs = fs;
	w->listener = listener;
	w->from = *from;
	w->started = false;
	w->depth = -1;
}

static void walk_damaged(struct walk *w, uint64_t block, const char *what)
{
	if (w->listener->damaged)
		w->listener->damaged(w->listener, block, what);
}

/* Node @block, met as one of @level with keys in @range, becomes the deepest of the way. What is wrong with it is told,
 * and it is passed by. */
static int walk_enter(struct walk *w, uint64_t block, uint8_t level, const struct tree_range *range)
{
	struct walk_level *to = &w->levels[w->depth + 1];
	const struct damage *damage = &w->fs->transaction.damage;
	const struct node *n;
	const uint8_t *page;
	int error = transaction_read(&w->fs->transaction, block, BLOCK_NODE, &page);

	if (error) {
		fs_abort(w->fs);
		if (error != -EIO)
			return error;
		walk_damaged(w, damage->block, damage->what);
		return 0;
	}
	n = (const void *)page;
	if (n->level != level || !node_in_range(n, range)) {
		walk_damaged(w, block, n->level != level ? "it is on another level of the tree"
							 : "it is empty, or has keys that belong elsewhere");
		return 0;
	}
	if (w->listener->enter && !w->listener->enter(w->listener, block))
		return 0;
	to->block = block;
	to->index = 0;
	to->range = *range;
	memcpy(to->page, page, BLOCK_BYTES);
	if (n->level)
		to->index = node_search_child(n, &w->from);
	w->depth++;
	return 0;
}

static int walk_enter_root(struct walk *w)
{
	const struct superblock *superblock;
	struct tree_range range = { 0 };
	int error = fs_superblock(w->fs, &superblock);

	if (!error)
		error = walk_enter(w, from_le64(superblock->root), superblock->root_level, &range);
	if (!error)
		w->started = true;
	return error ? error : 1;
}

int walk_step(struct walk *w)
{
	struct walk_level *at = &w->levels[w->depth < 0 ? 0 : w->depth];
	const struct node *n = (const void *)at->page;
	struct tree_range range;
	int error;

	if (!w->started)
		return walk_enter_root(w);
	if (w->depth < 0)
		return 0;
	if (n->level == 0)
		w->listener->leaf(w->listener, at->block, n);
	if (n->level == 0 || at->index == node_count(n)) {
		w->depth--;
		return 1;
	}
	range = at->range;
	tree_range_child(&range, n, at->index);
	error = walk_enter(w, node_child(n, at->index), n->level - 1, &range);
	if (error)
		return error;
	at->index++;
	return 1;
}
