/* SPDX-License-Identifier: Apache-2.0 */
/* Undo, the copying of blocks, from the store to a slot or back:
 *
 *	walk_next()	the next run of blocks that are to be copied
 *	copy_mapped()	how much of it is data, how much a hole
 *	lane_read()	a piece of the data is in the lane's buffer
 *	lane_wrote()	and where it belongs. A hole of the store needs nothing: the slot's file is one there already.
 *			Back in the store a hole is punched.
 *
 * Pieces are looked for one after the other and copied several at a time. The first error stops the rest: when all
 * lanes are free the step is over, one way or the other. */
#include "undo_private.h"

#include <errno.h>

/* ---- which blocks ---- */

/* The next run of what undo_preserve() was asked for, at or above walk->at, which moves behind it. All walks leave
 * @first and @end alone when they return false: there is no run. */
static bool asked_next(const struct undo *u, struct undo_walk *walk, uint64_t *first, uint64_t *end)
{
	const struct hole *hole;
	uint64_t block, in_hole;

	while (walk->block_next < u->block_count && u->blocks[walk->block_next] < walk->at)
		walk->block_next++;
	while (u->holes && walk->hole_next < u->holes->count && u->holes->at[walk->hole_next].end <= walk->at)
		walk->hole_next++;
	hole = u->holes && walk->hole_next < u->holes->count ? &u->holes->at[walk->hole_next] : NULL;
	block = walk->block_next < u->block_count ? u->blocks[walk->block_next] : UINT64_MAX;
	in_hole = hole ? max_u64(hole->first, walk->at) : UINT64_MAX;
	if (block == UINT64_MAX && !hole)
		return false;
	*first = min_u64(block, in_hole);
	*end = *first + 1;
	if (in_hole == *first)
		*end = hole->end;
	else
		while (++walk->block_next < u->block_count && u->blocks[walk->block_next] == *end)
			++*end;
	walk->at = *end;
	return true;
}

bool undo_walk_unsaved(struct undo_slot *slot, struct undo_walk *walk, uint64_t *first, uint64_t *end)
{
	while (walk->left < walk->left_end || asked_next(slot->undo, walk, &walk->left, &walk->left_end)) {
		uint64_t from = walk->left;

		walk->left = bitmap_run_end(&slot->saved, from, walk->left_end);
		if (!bitmap_test(&slot->saved, from)) {
			*first = from;
			*end = walk->left;
			return true;
		}
	}
	return false;
}

bool undo_unnoted(struct undo_slot *slot)
{
	struct undo_walk walk = { .at = 0 };
	uint64_t first, end;

	while (asked_next(slot->undo, &walk, &first, &end))
		if (bitmap_next_clear(&slot->want, first) < end)
			return true;
	return false;
}

void undo_set_asked(struct undo_slot *slot, struct bitmap *bits)
{
	struct undo_walk walk = { .at = 0 };
	uint64_t first, end;

	while (asked_next(slot->undo, &walk, &first, &end))
		bitmap_set(bits, first, end - first);
}

static bool walk_bits(const struct bitmap *bits, struct undo_walk *walk, uint64_t *first, uint64_t *end)
{
	uint64_t from = bitmap_next(bits, walk->at);

	if (from == bits->bits)
		return false;
	*first = from;
	*end = walk->at = bitmap_run_end(bits, from, bits->bits);
	return true;
}

static bool walk_want(struct undo_slot *slot, struct undo_walk *walk, uint64_t *first, uint64_t *end)
{
	return walk_bits(&slot->want, walk, first, end);
}

static bool walk_saved(struct undo_slot *slot, struct undo_walk *walk, uint64_t *first, uint64_t *end)
{
	return walk_bits(&slot->saved, walk, first, end);
}

/* ---- mapping ---- */

/* Where @block stands in the store (in the slot's file). */
static uint64_t place(const struct undo *u, bool in_slot, uint64_t block)
{
	return in_slot ? undo_block_offset(u, block) : block * BLOCK_BYTES;
}

static int file(const struct undo *u, bool in_slot)
{
	return in_slot ? u->slot->file : u->store;
}

static void map(struct undo *u, bool in_slot, void (*done)(struct io_op *op, int64_t result))
{
	u->map = (struct io_op){ .kind = IO_MAP, .file = file(u, in_slot), .offset = place(u, in_slot, u->first),
				 .len = (u->end - u->first) * BLOCK_BYTES, .done = done };
	u->io->submit(u->io, &u->map);
}

/* Takes over what IO_MAP said of [first, end). A file system with smaller blocks may have holes that are no block. */
static void map_take(struct undo *u, int64_t result)
{
	uint64_t extent = u->map.extent, hole = result == 0 ? extent / BLOCK_BYTES : 0;
	uint64_t count = hole ? hole : result == 0 ? 1 : (extent + BLOCK_BYTES - 1) / BLOCK_BYTES;

	u->known_data = !hole;
	u->known_first = u->first;
	u->known_end = min_u64(u->first + max_u64(count, 1), u->end);
	u->first = u->known_end;
}

/* ---- copying ---- */

static void lane_read(struct io_op *op, int64_t result);
static void lane_wrote(struct io_op *op, int64_t result);

static void lane_submit(struct undo_lane *lane, enum io_kind kind)
{
	struct undo *u = lane->undo;
	bool in_slot = (kind == IO_READ) == u->back;

	lane->op = (struct io_op){ .kind = kind, .file = file(u, in_slot), .offset = place(u, in_slot, lane->first),
				   .len = lane->count * BLOCK_BYTES, .data = kind == IO_PUNCH ? NULL : lane->data,
				   .done = kind == IO_READ ? lane_read : lane_wrote };
	u->io->submit(u->io, &lane->op);
}

/* A piece of what is known goes to the lane. False: the slot's bound would be passed. */
static bool lane_start(struct undo *u, struct undo_lane *lane)
{
	struct undo_slot *slot = u->slot;
	uint64_t count = u->known_end - u->known_first;

	if (u->known_data)
		count = min_u64(count, UNDO_LANE_BLOCKS);
	/* What this node alone has must be kept whatever it takes; only the disk bounds that. */
	if (!u->back && u->walk_next != walk_want &&
	    count > u->limit_blocks - min_u64(u->limit_blocks, slot->data_count))
		return false;
	if (!u->back)
		slot->data_count += count;
	lane->first = u->known_first;
	lane->count = count;
	u->known_first += count;
	u->copied = true;
	lane_submit(lane, u->known_data ? IO_READ : IO_PUNCH);
	return true;
}

static struct undo_lane *lane_free(struct undo *u)
{
	for (unsigned i = 0; i < UNDO_LANES; i++)
		if (u->lanes[i].count == 0)
			return &u->lanes[i];
	return NULL;
}

static bool lanes_busy(const struct undo *u)
{
	bool busy = false;

	for (unsigned i = 0; i < UNDO_LANES; i++)
		busy |= u->lanes[i].count > 0;
	return busy;
}

static void copy_mapped(struct io_op *op, int64_t result);

/* True while there is something in flight. */
static bool copy_on(struct undo *u)
{
	struct undo_lane *lane;

	while (!u->error && !u->map.in_flight && (lane = lane_free(u))) {
		if (u->known_first < u->known_end) {
			if (!lane_start(u, lane))
				u->error = -ENOSPC;
		} else if (u->first < u->end || u->walk_next(u->slot, &u->walk, &u->first, &u->end)) {
			map(u, u->back, copy_mapped);
		} else {
			break;
		}
	}
	return u->map.in_flight || lanes_busy(u);
}

static void copy_goes_on(struct undo *u, int64_t error, const char *what)
{
	if (error && !u->error) {
		u->error = error;
		u->what = what;
	}
	if (u->failed || copy_on(u))
		return;
	if (u->error)
		undo_trouble(u, u->what, u->error);
	else
		undo_next(u);
}

static void copy_mapped(struct io_op *op, int64_t result)
{
	struct undo *u = container_of(op, struct undo, map);

	if (result >= 0)
		map_take(u, result);
	/* Zeros are what the slot's file says already; the store has to be told. */
	if (result == 0 && !u->back && !u->known_data)
		u->known_first = u->known_end;
	copy_goes_on(u, result < 0 ? result : 0, "a file cannot be asked for its holes");
}

static void lane_read(struct io_op *op, int64_t result)
{
	struct undo_lane *lane = container_of(op, struct undo_lane, op);

	if (result == (int64_t)op->len && !lane->undo->error) {
		lane_submit(lane, IO_WRITE);
		return;
	}
	lane->count = 0;
	copy_goes_on(lane->undo, result == (int64_t)op->len ? 0 : result < 0 ? result : -EIO,
		     "old blocks cannot be read");
}

static void lane_wrote(struct io_op *op, int64_t result)
{
	struct undo_lane *lane = container_of(op, struct undo_lane, op);
	bool whole = op->kind == IO_PUNCH ? result >= 0 : result == (int64_t)op->len;

	lane->count = 0;
	copy_goes_on(lane->undo, whole ? 0 : result < 0 ? result : -EIO, "old blocks cannot be written");
}

static bool copy_start(struct undo_slot *slot, bool back,
		       bool (*walk_next)(struct undo_slot *, struct undo_walk *, uint64_t *, uint64_t *))
{
	struct undo *u = slot->undo;

	CHECK(!lanes_busy(u) && !u->map.in_flight);
	u->walk = (struct undo_walk){ .at = 0 };
	u->walk_next = walk_next;
	u->back = back;
	u->copied = false;
	u->error = 0;
	u->what = "the bound of its size is reached";
	u->first = u->end = u->known_first = u->known_end = 0;
	return copy_on(u);
}

bool undo_copy_asked(struct undo_slot *slot)
{
	return copy_start(slot, false, undo_walk_unsaved);
}

bool undo_copy_want(struct undo_slot *slot)
{
	return copy_start(slot, false, walk_want);
}

bool undo_copy_back(struct undo_slot *slot)
{
	return copy_start(slot, true, walk_saved);
}

/* ---- counting ---- */

static void count_mapped(struct io_op *op, int64_t result);

/* True while there is something in flight. What lost power before it was `saved` does not count: it comes again. */
static bool count_on(struct undo *u)
{
	if (u->first == u->end && !walk_saved(u->slot, &u->walk, &u->first, &u->end)) {
		u->slot->data_counted = true;
		return false;
	}
	map(u, true, count_mapped);
	return true;
}

static void count_mapped(struct io_op *op, int64_t result)
{
	struct undo *u = container_of(op, struct undo, map);

	if (result < 0) {
		undo_trouble(u, "a file cannot be asked for its holes", result);
		return;
	}
	map_take(u, result);
	if (u->known_data)
		u->slot->data_count += u->known_end - u->known_first;
	if (!count_on(u))
		undo_next(u);
}

bool undo_count(struct undo_slot *slot)
{
	struct undo *u = slot->undo;
	uint64_t asked = u->block_count;

	for (uint32_t i = 0; u->holes && i < u->holes->count; i++)
		asked += u->holes->at[i].end - u->holes->at[i].first;
	if (slot->data_counted || slot->data_count + asked <= u->limit_blocks)
		return false;
	slot->data_count = 0;
	u->walk = (struct undo_walk){ .at = 0 };
	u->first = u->end = 0;
	return count_on(u);
}
