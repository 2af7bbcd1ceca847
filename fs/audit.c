/* SPDX-License-Identifier: Apache-2.0 */
/* The volume in windows of whole groups, for each:
 *
 *	audit_tree()   every node and extent marks its blocks in the window's bits
 *	audit_maps()   the bits against the maps
 *
 * A step may end anywhere: walk.h. */
#include "audit.h"

#include <errno.h>
#include <string.h>

#include "walk.h"

enum {
	STEP_BLOCKS = 64,	/* read in one step: pages that it holds */
	WINDOW_BYTES_MIN = 4096,
};

enum audit_stage { AUDIT_TREE, AUDIT_MAPS, AUDIT_DONE };

struct audit {
	struct fs *fs;
	struct audit_listener *listener;
	enum audit_stage stage;
	struct audit_figures figures;
	uint64_t group_first, group_end, group_count;	/* of the window; groups in one */
	uint64_t group;					/* in AUDIT_MAPS: the next one */
	uint64_t free_count;				/* in all maps so far */
	bool maps_incomplete;				/* some could not be read */
	struct tree_key extent_inode;			/* the last extent's inode, and where it ended */
	uint64_t extent_end;
	uint64_t inode_at, inode_next;			/* the leaf's first; there are none from there on */
	uint64_t *bits;
	struct walk_listener nodes;
	struct walk walk;
};

static void audit_begin_tree(struct audit *a);

int audit_new(struct audit **out, struct fs *fs, struct audit_listener *listener, uint64_t memory_bytes)
{
	const struct layout *l = &fs->transaction.layout;
	struct audit *a = fs->io->alloc(fs->io, sizeof *a, 0);
	uint64_t groups = max_u64(max_u64(memory_bytes, WINDOW_BYTES_MIN) * 8 / GROUP_BITS, 1);

	if (!a)
		return -ENOMEM;
	a->fs = fs;
	a->listener = listener;
	a->group_count = min_u64(groups, l->groups);
	a->group_end = a->group_count;
	a->bits = fs->io->alloc(fs->io, a->group_count * MAP_BYTES, 0);
	if (!a->bits) {
		audit_free(a);
		return -ENOMEM;
	}
	audit_begin_tree(a);
	*out = a;
	return 0;
}

void audit_free(struct audit *a)
{
	struct io *io;

	if (!a)
		return;
	io = a->fs->io;
	fs_abort(a->fs);
	io->free(io, a->bits);
	io->free(io, a);
}

const struct audit_figures *audit_figures(const struct audit *a)
{
	return &a->figures;
}

unsigned audit_progress(const struct audit *a)
{
	uint64_t groups = a->fs->transaction.layout.groups, done = a->group_first;

	if (a->stage == AUDIT_DONE)
		return 1000;
	if (a->stage == AUDIT_MAPS)
		done = a->group_end;
	else if (a->inode_at < a->inode_next)
		done += (uint64_t)((double)(a->group_end - done) * ((double)a->inode_at / (double)a->inode_next));
	return (unsigned)min_u64(done * 1000 / groups, 999);
}

/* @inode: whose item refers to it; 0: nobody knows. */
static void audit_report(struct audit *a, uint64_t inode, uint64_t block, uint64_t count, const char *what)
{
	a->figures.damages++;
	a->listener->damaged(a->listener, inode, block, count, what);
}

/* The tree is judged in the first walk; the later ones only mark. */
static bool audit_is_first(const struct audit *a)
{
	return a->group_first == 0;
}

static void audit_report_tree(struct audit *a, uint64_t inode, uint64_t block, const char *what)
{
	if (audit_is_first(a))
		audit_report(a, inode, block, 1, what);
}

/* A read has failed with @error: reported when it is damage, and then 0; the transaction is over. */
static int audit_refused(struct audit *a, int error, bool report)
{
	const struct damage *damage = &a->fs->transaction.damage;

	fs_abort(a->fs);
	if (error != -EIO)
		return error;
	if (report)
		audit_report(a, 0, damage->block, 1, damage->what);
	return 0;
}

/* ---- marks ------------------------------------------------------------------------------------------- */

static uint64_t audit_bit(const struct audit *a, uint64_t group, uint32_t bit)
{
	return (group - a->group_first) * GROUP_BITS + bit;
}

static bool bit_test(const uint64_t *bits, uint64_t bit)
{
	return bits[bit / 64] >> bit % 64 & 1;
}

/* Somebody refers to these usable blocks of one group; false: somebody did already. */
static bool audit_mark(struct audit *a, uint64_t inode, uint64_t block, uint64_t count)
{
	const struct layout *l = &a->fs->transaction.layout;
	uint64_t group = layout_group(l, block), twice = 0, first_twice = 0;

	if (group < a->group_first || group >= a->group_end)
		return true;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t bit = audit_bit(a, group, layout_bit(l, block + i));

		if (bit_test(a->bits, bit) && !twice++)
			first_twice = block + i;
		a->bits[bit / 64] |= 1ull << bit % 64;
	}
	if (twice)
		audit_report(a, inode, first_twice, twice, "it is referred to more than once");
	return twice == 0;
}

/* ---- the tree ---------------------------------------------------------------------------------------- */

static void audit_extent(struct audit *a, uint64_t leaf, const struct tree_item *item)
{
	const struct layout *l = &a->fs->transaction.layout;
	struct extent extent;
	uint64_t count;

	if (!extent_check(l, item->value, item->len)) {
		audit_report_tree(a, item->key.inode, leaf, "an extent in it is out of bounds");
		return;
	}
	memcpy(&extent, item->value, sizeof extent);
	count = from_le32(extent.count);
	if (item->key.at + count < count)
		audit_report_tree(a, item->key.inode, leaf, "an extent in it goes beyond the end of all files");
	else if (a->extent_inode.inode == item->key.inode && a->extent_end > item->key.at)
		audit_report_tree(a, item->key.inode, leaf, "an extent in it overlaps the one before");
	a->extent_inode.inode = item->key.inode;
	a->extent_end = item->key.at + count < count ? UINT64_MAX : item->key.at + count;
	audit_mark(a, item->key.inode, from_le64(extent.block), count);
	if (audit_is_first(a))
		a->figures.data_blocks += count;
}

static void audit_leaf(struct walk_listener *listener, uint64_t block, const struct node *n)
{
	struct audit *a = container_of(listener, struct audit, nodes);

	if (node_count(n))
		a->inode_at = node_key(n, 0).inode;
	for (uint32_t i = 0; i < node_count(n); i++) {
		const struct item *found = node_item(n, i);
		struct tree_item item = { node_key(n, i), found->value, from_le16(found->len) };

		if (item.key.kind == ITEM_EXTENT)
			audit_extent(a, block, &item);
		if (!audit_is_first(a))
			continue;
		a->figures.items++;
		a->figures.inodes += item.key.kind == ITEM_INODE;
		if (a->listener->item)
			a->listener->item(a->listener, &item);
	}
}

static void audit_node_damaged(struct walk_listener *listener, uint64_t block, const char *what)
{
	struct audit *a = container_of(listener, struct audit, nodes);

	a->figures.incomplete = true;
	audit_report_tree(a, 0, block, what);
}

static bool audit_node(struct walk_listener *listener, uint64_t block)
{
	struct audit *a = container_of(listener, struct audit, nodes);

	if (!audit_mark(a, 0, block, 1))
		return false;
	if (audit_is_first(a))
		a->figures.nodes++;
	return true;
}

static void audit_begin_tree(struct audit *a)
{
	const struct tree_key least = { 0 };

	a->stage = AUDIT_TREE;
	a->extent_inode.inode = 0;
	a->extent_end = 0;
	a->inode_at = 0;
	a->nodes = (struct walk_listener){ .damaged = audit_node_damaged, .enter = audit_node, .leaf = audit_leaf };
	walk_begin(&a->walk, a->fs, &a->nodes, &least);
}

/* ---- the maps ---------------------------------------------------------------------------------------- */

static void audit_differs(struct audit *a, uint64_t block, uint64_t count, bool used)
{
	if (used)
		audit_report(a, 0, block, count, "it is in use, and its map says that it is free");
	else if (!a->figures.incomplete)
		audit_report(a, 0, block, count, "nothing refers to it, and its map says that it is in use");
}

/* Runs of blocks of @group whose map says other than what the tree does. */
static void audit_compare(struct audit *a, uint64_t group, const struct map *map)
{
	const struct layout *l = &a->fs->transaction.layout;
	const uint64_t *words = a->bits + audit_bit(a, group, 0) / 64;
	uint64_t block = layout_map(l, group) + 1, start = 0, count = 0;
	uint32_t bits = layout_map_bits(l, group);
	bool start_used = false;

	for (uint32_t bit = 0; bit < bits; bit++) {
		uint64_t word = from_le64(map->words[bit / 64]);
		bool used = bit_test(words, bit), differs = used != (word >> bit % 64 & 1);

		if (count && (!differs || used != start_used)) {
			audit_differs(a, block + start, count, start_used);
			count = 0;
		}
		if (differs && count == 0) {
			start = bit;
			start_used = used;
		}
		if (differs)
			count++;
		else if (bit % 64 == 0 && words[bit / 64] == word)
			bit += 63;
	}
	if (count)
		audit_differs(a, block + start, count, start_used);
}

/* The group's map, and its bit in the fulls. */
static int audit_map(struct audit *a, uint64_t group)
{
	struct transaction *t = &a->fs->transaction;
	uint64_t block = layout_map(&t->layout, group);
	uint64_t fulls_block = 1 + group / FULLS_BITS, bit = group % FULLS_BITS;
	const struct map *map, *fulls;
	const uint8_t *page;
	uint32_t clear;
	int error = transaction_read(t, block, BLOCK_MAP, &page);

	if (error == -EIO)
		a->maps_incomplete = true;
	if (error)
		return audit_refused(a, error, true);
	map = (const void *)page;
	clear = from_le32(map->header.magic) ? from_le32(map->clear_count) : layout_map_bits(&t->layout, group);
	error = transaction_read(t, fulls_block, BLOCK_FULLS, &page);
	if (error == -EIO)
		a->maps_incomplete = true;
	if (error)
		return audit_refused(a, error, bit == 0 || group == a->group_first);
	fulls = (const void *)page;
	if ((bool)(from_le64(fulls->words[bit / 64]) >> bit % 64 & 1) != (clear == 0))
		audit_report(a, 0, block, 1, clear ? "it is said to be full, and is not"
						   : "it is full, and is not said to be");
	audit_compare(a, group, map);
	a->free_count += clear;
	return 0;
}

/* All maps were looked at. */
static int audit_counts(struct audit *a)
{
	const struct superblock *superblock;
	int error = fs_superblock(a->fs, &superblock);

	if (error)
		return error;
	if (!a->maps_incomplete && from_le64(superblock->free_count) != a->free_count)
		audit_report(a, 0, 0, 1, "its count of free blocks is not that of the maps");
	a->stage = AUDIT_DONE;
	return 1;
}

static int audit_maps(struct audit *a)
{
	int error;

	if (a->group < a->group_end) {
		error = audit_map(a, a->group);
		if (error)
			return error;
		a->group++;
		return 1;
	}
	if (a->group_end == a->fs->transaction.layout.groups)
		return audit_counts(a);
	a->group_first = a->group_end;
	a->group_end = min_u64(a->group_end + a->group_count, a->fs->transaction.layout.groups);
	memset(a->bits, 0, a->group_count * MAP_BYTES);
	audit_begin_tree(a);
	return 1;
}

int audit_step(struct audit *a)
{
	const struct superblock *superblock;
	int result = fs_superblock(a->fs, &superblock);

	if (result == 0) {
		a->inode_next = from_le64(superblock->inode_next);
		result = 1;
	}
	for (unsigned i = 0; i < STEP_BLOCKS && result > 0 && a->stage != AUDIT_DONE; i++) {
		if (a->stage == AUDIT_MAPS) {
			result = audit_maps(a);
			continue;
		}
		result = walk_step(&a->walk);
		if (result == 0) {
			a->stage = AUDIT_MAPS;
			a->group = a->group_first;
			result = 1;
		}
	}
	fs_abort(a->fs);
	return a->stage == AUDIT_DONE ? 0 : result;
}
