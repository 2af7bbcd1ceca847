/* SPDX-License-Identifier: Apache-2.0 */
#include "extent.h"

#include <errno.h>
#include <string.h>

enum { AHEAD_MIN = 16, AHEAD_MAX = 2048 };	/* blocks: 64 KiB, 8 MiB */

bool extent_parse(const struct files *f, const struct tree_item *item, struct extent_run *run)
{
	struct extent extent;
	bool good = extent_check(&f->fs.transaction.layout, item->value, item->len);

	if (good) {
		memcpy(&extent, item->value, sizeof extent);
		*run = (struct extent_run){ .first = item->key.at, .block = from_le64(extent.block),
					    .count = from_le32(extent.count),
					    .unwritten = from_le32(extent.flags) & EXTENT_UNWRITTEN };
		good = run->first < FILE_BLOCKS_MAX && run->count <= FILE_BLOCKS_MAX - run->first;
	}
	return good;
}

static int run_of(struct files *f, const struct tree_item *item, struct extent_run *run)
{
	return extent_parse(f, item, run) ? 0 : files_damaged(f, item->key.inode, "one of its extents is none");
}

/* The last run that starts before block @first. -ENOENT. */
static int run_before(struct files *f, uint64_t ino, uint64_t first, struct extent_run *run)
{
	struct tree_key key = tree_key(ino, ITEM_EXTENT, first - 1);
	struct tree_item item;
	int error = first ? tree_previous_alike(&f->fs, &key, &item) : -ENOENT;

	return error ? error : run_of(f, &item, run);
}

/* The first run that starts at block @first or behind it. -ENOENT. */
static int run_from(struct files *f, uint64_t ino, uint64_t first, struct extent_run *run)
{
	struct tree_key key = tree_key(ino, ITEM_EXTENT, first);
	struct tree_item item;
	int error = tree_next_alike(&f->fs, &key, &item);

	return error ? error : run_of(f, &item, run);
}

int extent_at(struct files *f, uint64_t ino, uint64_t first, struct extent_run *run)
{
	int error = run_before(f, ino, first + 1, run);

	if (error == 0 && extent_end(run) > first)
		return 0;
	return error && error != -ENOENT ? error : run_from(f, ino, first + 1, run);
}

/* ---- the items ---- */

static int run_insert(struct files *f, uint64_t ino, const struct extent_run *run)
{
	struct tree_key key = tree_key(ino, ITEM_EXTENT, run->first);
	struct extent extent = { to_le64(run->block), to_le32(run->count),
				 to_le32(run->unwritten ? EXTENT_UNWRITTEN : 0) };
	int error = tree_insert(&f->fs, &key, &extent, sizeof extent);

	return error == -EEXIST ? files_damaged(f, ino, "two of its extents are at one place") : error;
}

static int run_delete(struct files *f, uint64_t ino, const struct extent_run *run)
{
	struct tree_key key = tree_key(ino, ITEM_EXTENT, run->first);

	return tree_delete(&f->fs, &key);
}

/* The run that is there gets another count. */
static int run_resize(struct files *f, uint64_t ino, const struct extent_run *run, uint32_t count)
{
	struct tree_key key = tree_key(ino, ITEM_EXTENT, run->first);
	struct extent extent = { to_le64(run->block), to_le32(count),
				 to_le32(run->unwritten ? EXTENT_UNWRITTEN : 0) };

	return tree_replace(&f->fs, &key, &extent, sizeof extent);
}

/* @b goes on where @a ends, in the file and on the volume. Between groups lies a map, so they are in one. */
static bool runs_join(const struct extent_run *a, const struct extent_run *b)
{
	return extent_end(a) == b->first && a->block + a->count == b->block && a->unwritten == b->unwritten;
}

/* @run, whose place is a hole, with those beside it that it can be one with. */
static int run_put(struct files *f, uint64_t ino, const struct extent_run *run)
{
	struct extent_run left, right, whole = *run;
	bool has_left, has_right;
	int error = run_before(f, ino, run->first, &left);

	if (error && error != -ENOENT)
		return error;
	has_left = error == 0;
	error = run_from(f, ino, run->first, &right);
	if (error && error != -ENOENT)
		return error;
	has_right = error == 0;
	if ((has_left && extent_end(&left) > run->first) || (has_right && right.first < extent_end(run)))
		return files_damaged(f, ino, "two of its extents overlap");
	if (has_right && runs_join(run, &right)) {
		error = run_delete(f, ino, &right);
		if (error)
			return error;
		whole.count += right.count;
	}
	if (has_left && runs_join(&left, run))
		return run_resize(f, ino, &left, left.count + whole.count);
	return run_insert(f, ino, &whole);
}

/* [first, end) of @run goes out of the tree. */
static int run_cut(struct files *f, uint64_t ino, const struct extent_run *run, uint64_t first, uint64_t end)
{
	struct extent_run tail = *run;
	int error;

	if (first > run->first)
		error = run_resize(f, ino, run, (uint32_t)(first - run->first));
	else
		error = run_delete(f, ino, run);
	if (error || end == extent_end(run))
		return error;
	tail.first = end;
	tail.block += end - run->first;
	tail.count = (uint32_t)(extent_end(run) - end);
	return run_insert(f, ino, &tail);
}

/* ---- what files do with them ---- */

/* A file that is not where it ended is likely to go on: it gets room for half as much again. */
static uint32_t ahead_of(const struct inode *inode)
{
	return (uint32_t)min_u64(max_u64(inode->blocks / 2, AHEAD_MIN), AHEAD_MAX);
}

int extent_allocate(struct files *f, struct inode *inode, uint64_t first, uint32_t want, bool unwritten,
		    struct extent_run *run)
{
	struct extent_run before;
	uint64_t goal = 0;
	int error = run_before(f, inode->ino, first, &before);

	if (error && error != -ENOENT)
		return error;
	if (error == 0)
		goal = before.block + before.count;
	*run = (struct extent_run){ .first = first, .unwritten = unwritten };
	error = space_allocate_growing(&f->fs, goal, want, goal ? ahead_of(inode) : 0, &run->block, &run->count);
	if (error)
		return error;
	inode->blocks += run->count;
	return run_put(f, inode->ino, run);
}

int extent_mark(struct files *f, struct inode *inode, const struct extent_run *run, uint64_t first, uint32_t count,
		bool unwritten)
{
	struct extent_run part = { first, run->block + (first - run->first), count, unwritten };
	int error;

	CHECK(first >= run->first && first + count <= extent_end(run));
	if (run->unwritten == unwritten)
		return 0;
	error = run_cut(f, inode->ino, run, first, first + count);
	return error ? error : run_put(f, inode->ino, &part);
}

int extent_remove(struct files *f, struct inode *inode, uint64_t first, uint64_t end, bool *done)
{
	uint64_t at = first;

	*done = false;
	for (bool begun = false; !begun || files_have_room(f, 2); begun = true) {
		struct extent_run run;
		uint64_t from, to;
		int error = inode->blocks ? extent_at(f, inode->ino, at, &run) : -ENOENT;

		if (error && error != -ENOENT)
			return error;
		if (error || run.first >= end) {
			*done = true;
			return 0;
		}
		from = max_u64(first, run.first);
		to = min_u64(end, extent_end(&run));
		if (inode->blocks < to - from)
			return files_damaged(f, inode->ino, "it has more blocks than it counts");
		error = run_cut(f, inode->ino, &run, from, to);
		if (error == 0)
			error = space_free(&f->fs, run.block + (from - run.first), (uint32_t)(to - from));
		if (error)
			return error;
		inode->blocks -= to - from;
		f->freeing = true;
		at = to;
	}
	return 0;
}
