/* SPDX-License-Identifier: Apache-2.0 */
/* Giving blocks, and taking them back.
 *
 *	space_allocate()   at the goal; else a run long enough in one of a few groups; else the longest of those
 *	space_free()       remembered only
 *	space_apply()      at commit: out of the maps, so that this transaction could not have used them again
 */
#include "space.h"

#include <errno.h>
#include <string.h>

#include "fs.h"

enum {
	HINTS_LOOKED_AT = 4096,		/* groups whose hint is looked at for one run: 512 GiB; a few microseconds */
	RESERVE_MIN = 32,		/* a tree of 7 levels splits 3 times, and some */
	RESERVE_MAX = 8192,		/* 32 MiB */
	RESERVE_PART = 128,
};

static const char counts_apart[] = "its count of free blocks is not that of the maps";

int space_new(struct space *s, struct io *io, const struct layout *l)
{
	memset(s, 0, sizeof *s);
	s->longest = io->alloc(io, l->groups * sizeof *s->longest, 0);
	if (!s->longest)
		return -ENOMEM;
	memset(s->longest, 0xff, l->groups * sizeof *s->longest);
	return 0;
}

void space_delete(struct space *s, struct io *io)
{
	io->free(io, s->longest);
	memset(s, 0, sizeof *s);
}

uint64_t space_reserve(uint64_t blocks)
{
	return min_u64(max_u64(blocks / RESERVE_PART, RESERVE_MIN), RESERVE_MAX);
}

void space_use_reserve(struct fs *fs)
{
	fs->space.reserve_open = true;
}

/* Blocks that this transaction may still take. */
static int space_left(struct fs *fs, uint64_t *left)
{
	const struct superblock *superblock;
	int error = fs_superblock(fs, &superblock);
	uint64_t reserve = fs->space.reserve_open ? 0 : space_reserve(fs->transaction.layout.blocks);

	if (error)
		return error;
	*left = from_le64(superblock->free_count);
	*left -= min_u64(*left, reserve);
	return 0;
}

int space_ask(struct fs *fs, uint64_t count)
{
	uint64_t left;
	int error = space_left(fs, &left);

	return error ? error : left >= count ? 0 : -ENOSPC;
}

/* ---- bits ------------------------------------------------------------------------------------------ */

static uint64_t map_word(const struct map *m, uint32_t index, bool set)
{
	uint64_t word = from_le64(m->words[index]);

	return set ? word : ~word;
}

/* The first bit at or above @from that is @set; @bits when there is none below. */
static uint32_t map_next(const struct map *m, uint32_t from, uint32_t bits, bool set)
{
	uint64_t word;
	uint32_t index = from / 64;

	if (from >= bits)
		return bits;
	word = map_word(m, index, set) & ~0ull << from % 64;
	while (!word && (index + 1) * 64 < bits)
		word = map_word(m, ++index, set);
	return word ? (uint32_t)min_u64(index * 64 + (uint32_t)__builtin_ctzll(word), bits) : bits;
}

/* Bits [first, first + count) become @set. */
static void map_set(struct map *m, uint32_t first, uint32_t count, bool set)
{
	for (uint32_t end = first + count; first < end;) {
		uint32_t bit = first % 64, bits = (uint32_t)min_u64(64 - bit, end - first);
		uint64_t mask = (bits == 64 ? ~0ull : (1ull << bits) - 1) << bit;
		uint64_t word = from_le64(m->words[first / 64]);

		m->words[first / 64] = to_le64(set ? word | mask : word & ~mask);
		first += bits;
	}
}

struct map_run { uint32_t first, count; };

/* The first run of @want clear bits in [from, end), else the longest that is longer than @run. */
static void map_find_in(const struct map *m, uint32_t from, uint32_t end, uint32_t want, struct map_run *run)
{
	while (from < end && run->count < want) {
		uint32_t first = map_next(m, from, end, false), stop = map_next(m, first, end, true);

		if (stop - first > run->count)
			*run = (struct map_run){ first, stop - first };
		from = stop;
	}
}

/* The run of clear bits nearest behind @from that has @want, else the longest; of a run that is met at @from only the
 * part behind it counts in the first round. */
static struct map_run map_find(const struct map *m, uint32_t bits, uint32_t from, uint32_t want)
{
	struct map_run run = { 0 };

	map_find_in(m, from, bits, want, &run);
	if (from > 0)
		map_find_in(m, 0, bits, want, &run);
	return run;
}

/* ---- groups ---------------------------------------------------------------------------------------- */

static int space_map(struct fs *fs, uint64_t group, const struct map **map)
{
	const uint8_t *page = NULL;
	int error = transaction_read(&fs->transaction, layout_map(&fs->transaction.layout, group), BLOCK_MAP, &page);

	*map = (const void *)page;
	return error;
}

/* The first group from @group on, going round, that is not full. -ENOSPC: there is none. */
static int space_next_group(struct fs *fs, uint64_t group, uint64_t *found)
{
	const struct layout *l = &fs->transaction.layout;
	uint64_t index = group / FULLS_BITS, count = (l->groups + FULLS_BITS - 1) / FULLS_BITS;
	uint32_t from = (uint32_t)(group % FULLS_BITS);

	/* Once more than there are: of the first one, the part before @group comes last. */
	for (uint64_t i = 0; i <= count; i++) {
		uint32_t bits = layout_fulls_bits(l, index), bit;
		const uint8_t *page;
		int error = transaction_read(&fs->transaction, 1 + index, BLOCK_FULLS, &page);

		if (error)
			return error;
		bit = map_next((const void *)page, from, bits, false);
		if (bit < bits) {
			*found = index * FULLS_BITS + bit;
			return 0;
		}
		from = 0;
		index = (index + 1) % count;
	}
	return -ENOSPC;
}

/* The group's bit in the fulls is not what @full says any more. */
static int space_set_full(struct fs *fs, uint64_t group, bool full)
{
	uint64_t block = 1 + group / FULLS_BITS;
	uint32_t bit = (uint32_t)(group % FULLS_BITS), clear;
	uint8_t *page;
	struct map *fulls;
	int error = transaction_change(&fs->transaction, block, BLOCK_FULLS, &page);

	if (error)
		return error;
	fulls = (void *)page;
	if (map_next(fulls, bit, bit + 1, full) == bit)
		return transaction_damaged(&fs->transaction, block, "it does not say which groups are full");
	map_set(fulls, bit, 1, full);
	clear = from_le32(fulls->clear_count);
	fulls->clear_count = to_le32(full ? clear - 1 : clear + 1);
	return 0;
}

/* @run of @group becomes used (or free): in the map, in the fulls, in the superblock. All of it is the other now. */
static int space_turn(struct fs *fs, uint64_t group, const struct map_run *run, bool used)
{
	struct transaction *t = &fs->transaction;
	uint64_t block = layout_map(&t->layout, group);
	struct superblock *superblock;
	struct map *map;
	uint8_t *page;
	uint32_t before, after;
	uint64_t free;
	int error = transaction_change(t, block, BLOCK_MAP, &page);

	if (error)
		return error;
	map = (void *)page;
	if (map_next(map, run->first, run->first + run->count, used) != run->first + run->count)
		return transaction_damaged(t, block, used ? "a block that was free is in use"
							  : "a block that is in use is free in it");
	error = fs_superblock_change(fs, &superblock);
	if (error)
		return error;
	before = from_le32(map->clear_count);
	after = used ? before - run->count : before + run->count;
	map_set(map, run->first, run->count, used);
	map->clear_count = to_le32(after);
	free = from_le64(superblock->free_count);
	if (used ? free < run->count : free + run->count >= layout_usable_count(&t->layout))
		return transaction_damaged(t, 0, counts_apart);
	superblock->free_count = to_le64(used ? free - run->count : free + run->count);
	return before == 0 || after == 0 ? space_set_full(fs, group, after == 0) : 0;
}

/* ---- allocate -------------------------------------------------------------------------------------- */

struct space_find {
	uint64_t goal;			/* 0: none */
	uint32_t want;
	uint64_t group;			/* of run */
	struct map_run run;		/* the best so far */
};

/* Looks for a longer run in @group than there is, from bit @from on. */
static int space_search(struct fs *fs, uint64_t group, uint32_t from, struct space_find *find)
{
	uint32_t bits = layout_map_bits(&fs->transaction.layout, group);
	const struct map *map;
	struct map_run run;
	int error = space_map(fs, group, &map);

	if (error)
		return error;
	run = map_find(map, bits, from, find->want);
	/* All of the group was looked at when not even the longest is enough. */
	if (run.count < find->want)
		fs->space.longest[group] = (uint16_t)run.count;
	if (run.count > find->run.count) {
		find->run = run;
		find->group = group;
	}
	return 0;
}

static bool space_hint_has(const struct fs *fs, uint64_t group, uint32_t want)
{
	return fs->space.longest[group] == SPACE_HINT_UNKNOWN || fs->space.longest[group] >= want;
}

/* A run of @want in the group of @start or one of the next that may have it; then find->run is enough, or the best of
 * the few that were looked at. */
static int space_search_near(struct fs *fs, uint64_t start, struct space_find *find)
{
	const struct layout *l = &fs->transaction.layout;
	uint64_t first = layout_group(l, start), group = first;
	uint32_t tried = 0;
	int error;

	for (uint32_t looked = 0; looked < HINTS_LOOKED_AT && tried < SPACE_GROUPS_TRIED; looked++) {
		if (space_hint_has(fs, group, find->want)) {
			tried++;
			error = space_search(fs, group, group == first ? layout_bit(l, start) : 0, find);
			if (error || find->run.count >= find->want)
				return error;
		}
		error = space_next_group(fs, (group + 1) % l->groups, &group);
		if (error && error != -ENOSPC)
			return error;
		if (error || group == first)
			return 0;
	}
	return 0;
}

/* Any group that is not full will do; the superblock says that there is one. */
static int space_search_any(struct fs *fs, uint64_t start, struct space_find *find)
{
	uint64_t group;
	int error = space_next_group(fs, layout_group(&fs->transaction.layout, start), &group);

	if (!error)
		error = space_search(fs, group, 0, find);
	if (error == -ENOSPC || (!error && find->run.count == 0))
		return transaction_damaged(&fs->transaction, 0, counts_apart);
	return error;
}

/* What is free from the goal on, if it is. */
static int space_at_goal(struct fs *fs, struct space_find *find)
{
	const struct layout *l = &fs->transaction.layout;
	uint64_t group = layout_group(l, find->goal);
	uint32_t bit = layout_bit(l, find->goal), bits = layout_map_bits(l, group);
	const struct map *map;
	int error = space_map(fs, group, &map);

	if (error)
		return error;
	find->group = group;
	find->run.first = bit;
	find->run.count = map_next(map, bit, (uint32_t)min_u64(bits, (uint64_t)bit + find->want), true) - bit;
	return 0;
}

int space_allocate(struct fs *fs, uint64_t goal, uint32_t want, uint64_t *block, uint32_t *count)
{
	return space_allocate_growing(fs, goal, want, 0, block, count);
}

int space_allocate_growing(struct fs *fs, uint64_t goal, uint32_t want, uint32_t ahead, uint64_t *block,
			   uint32_t *count)
{
	const struct layout *l = &fs->transaction.layout;
	uint64_t rotor = layout_is_usable(l, fs->space.rotor) ? fs->space.rotor : GROUP_FIRST + 1;
	bool at_rotor = !layout_is_usable(l, goal);
	struct space_find find = { .goal = goal };
	uint64_t left, most;
	int error = space_left(fs, &left);

	CHECK(want > 0);
	if (error)
		return error;
	if (left == 0)
		return -ENOSPC;
	most = find.want = (uint32_t)min_u64(min_u64(want, left), GROUP_BITS);
	if (!at_rotor)
		error = space_at_goal(fs, &find);
	if (!error && find.run.count == 0) {
		at_rotor |= ahead > 0;
		find.want = (uint32_t)min_u64(most + ahead, GROUP_BITS);
		error = space_search_near(fs, at_rotor ? rotor : goal, &find);
	}
	if (!error && find.run.count == 0)
		error = space_search_any(fs, at_rotor ? rotor : goal, &find);
	if (error)
		return error;
	*block = layout_map(l, find.group) + 1 + find.run.first;
	if (at_rotor)
		fs->space.rotor = *block + min_u64(find.run.count, most + ahead);
	*count = find.run.count = (uint32_t)min_u64(find.run.count, most);
	return space_turn(fs, find.group, &find.run, true);
}

/* ---- free ------------------------------------------------------------------------------------------ */

/* Whether a run was already freed in the group of @block. */
static bool space_frees_in(const struct fs *fs, uint64_t block)
{
	const struct layout *l = &fs->transaction.layout;

	for (uint32_t i = 0; i < fs->space.free_count; i++)
		if (layout_group(l, fs->space.frees[i].block) == layout_group(l, block))
			return true;
	return false;
}

static int space_remember(struct fs *fs, uint64_t block, uint32_t count)
{
	struct space *s = &fs->space;
	const struct layout *l = &fs->transaction.layout;

	if (fs->transaction.error)
		return fs->transaction.error;
	if (!layout_is_usable(l, block) || count == 0 ||
	    count > layout_map_bits(l, layout_group(l, block)) - layout_bit(l, block))
		return transaction_damaged(&fs->transaction, block, "it is not one that can be freed");
	if (s->free_count == SPACE_FREES_MAX)
		return transaction_fail(&fs->transaction, -E2BIG);
	if (!space_frees_in(fs, block))
		fs->transaction.owed += s->free_count ? 2 : 3;	/* map and fulls; the superblock once */
	s->frees[s->free_count++] = (struct space_run){ block, count };
	return 0;
}

int space_free(struct fs *fs, uint64_t block, uint32_t count)
{
	int error = space_remember(fs, block, count);

	return error ? error : transaction_discard(&fs->transaction, block, count);
}

int space_free_node(struct fs *fs, uint64_t block)
{
	return space_remember(fs, block, 1);
}

int space_apply(struct fs *fs)
{
	const struct layout *l = &fs->transaction.layout;
	struct space *s = &fs->space;

	for (uint32_t i = 0; i < s->free_count; i++) {
		uint64_t group = layout_group(l, s->frees[i].block);
		struct map_run run = { layout_bit(l, s->frees[i].block), s->frees[i].count };
		int error = space_turn(fs, group, &run, false);

		if (error)
			return error;
		s->longest[group] = SPACE_HINT_UNKNOWN;
	}
	return 0;
}

void space_end(struct space *s)
{
	s->reserve_open = false;
	s->free_count = 0;
}
