/* SPDX-License-Identifier: Apache-2.0 */
/* Which blocks are free, against an array of bytes; full volumes, large volumes, what a freed block may be used for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs_rig.h"
#include "run.h"

static uint64_t free_blocks(struct fs_rig *r)
{
	struct fs_figures figures;

	while (fs_rig_again(r, fs_figures(&r->fs, &figures)))
		;
	fs_abort(&r->fs);
	return figures.free;
}

static uint64_t available_blocks(struct fs_rig *r)
{
	struct fs_figures figures;

	while (fs_rig_again(r, fs_figures(&r->fs, &figures)))
		;
	fs_abort(&r->fs);
	return figures.available;
}

/* ---- against an array ------------------------------------------------------------------------------ */

enum { RUNS_MAX = 40000 };
struct owned { uint64_t block; uint32_t count; };

struct space_model {
	struct fs_rig *rig;
	uint8_t *used;			/* a byte per block: a run of ours has it */
	struct owned runs[RUNS_MAX];
	uint32_t run_count;
};

struct space_step { bool free; uint32_t index, want, count; uint64_t goal, block; int result; };

static int step_run(struct space_model *m, struct space_step *step)
{
	struct fs *fs = &m->rig->fs;

	if (step->free)
		return step->result = space_free(fs, m->runs[step->index].block, m->runs[step->index].count);
	step->result = space_allocate(fs, step->goal, step->want, &step->block, &step->count);
	return step->result == -ENOSPC ? 0 : step->result;
}

static int steps_run(struct space_model *m, struct space_step *steps, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int error = step_run(m, &steps[i]);

		if (error)
			return error;
	}
	return 0;
}

static void step_agrees(struct space_model *m, const struct space_step *step)
{
	struct owned *run = &m->runs[step->index];

	if (step->free) {
		memset(m->used + run->block, 0, run->count);
		*run = m->runs[--m->run_count];
		return;
	}
	if (step->result)
		return;
	assert_true(step->count >= 1 && step->count <= step->want);
	for (uint32_t i = 0; i < step->count; i++) {
		assert_true(layout_is_usable(&m->rig->fs.transaction.layout, step->block + i));
		assert_int_equal(m->used[step->block + i], 0);
		m->used[step->block + i] = 1;
	}
	m->runs[m->run_count++] = (struct owned){ step->block, step->count };
}

/* What the maps say must be what the array says; the one node of the tree is not in it. */
static void model_same(struct space_model *m)
{
	const struct layout *l = &m->rig->fs.transaction.layout;
	uint64_t used = 0, differ = 0;

	for (uint64_t block = 0; block < l->blocks; block++) {
		const uint8_t *page;
		uint64_t bit;

		used += m->used[block];
		if (!layout_is_usable(l, block))
			continue;
		page = memory_blocks_page(m->rig->blocks, layout_map(l, layout_group(l, block)));
		bit = layout_bit(l, block);
		differ += m->used[block] != (page ? page[32 + bit / 8] >> bit % 8 & 1 : 0);
	}
	assert_int_equal(differ, 1);
	assert_int_equal(free_blocks(m->rig), layout_usable_count(l) - 1 - used);
}

static struct space_step draw_step(struct space_model *m, bool filling)
{
	struct fs_rig *r = m->rig;
	struct space_step step = { .want = 1 + (uint32_t)fs_rig_draw(r, fs_rig_draw(r, 10) ? 30 : 20000) };

	if (m->run_count > 10 && fs_rig_draw(r, 10) < (filling ? 3u : 7u)) {
		step.free = true;
		step.index = (uint32_t)fs_rig_draw(r, m->run_count);
	} else if (fs_rig_draw(r, 2) && m->run_count) {
		const struct owned *run = &m->runs[fs_rig_draw(r, m->run_count)];

		step.goal = run->block + run->count;
	}
	return step;
}

static void play(uint64_t seed, uint64_t blocks, unsigned miss)
{
	struct space_model *m = calloc(1, sizeof *m);
	struct space_step steps[8];

	m->rig = fs_rig_new(blocks, seed);
	m->used = calloc(1, blocks);
	memory_blocks_miss(m->rig->blocks, miss);
	for (unsigned round = 0; round < 1500; round++) {
		unsigned count = 0, wanted = 1 + (unsigned)fs_rig_draw(m->rig, 8);

		while (count < wanted) {
			steps[count] = draw_step(m, round / 300 % 2 == 0);
			/* One that frees is the last: what it takes from the list must not be drawn again. */
			if (steps[count++].free)
				break;
		}
		assert_int_equal(FS_RIG_DO(m->rig, steps_run(m, steps, count)), 0);
		for (unsigned i = 0; i < count; i++)
			step_agrees(m, &steps[i]);
		if (round % 100 == 0)
			model_same(m);
	}
	model_same(m);
	fs_rig_free(m->rig);
	free(m->used);
	free(m);
}

static void fs_space_agrees_with_an_array(void **state)
{
	uint64_t seed = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(6); i++, seed++) {
		play(seed, 300, 0);
		play(seed, 3 * GROUP_BLOCKS + 100, i % 2 ? 20 : 0);
	}
}

/* ---- near, and together ---------------------------------------------------------------------------- */

static void fs_space_what_is_asked_for_at_a_goal_starts_there(void **state)
{
	struct fs_rig *r = fs_rig_new(4 * GROUP_BLOCKS, 1);
	uint64_t block, next;
	uint32_t count;

	(void)state;
	assert_int_equal(space_allocate(&r->fs, 0, 100, &block, &count), 0);
	assert_int_equal(count, 100);
	assert_int_equal(space_allocate(&r->fs, block + 100, 1000, &next, &count), 0);
	assert_int_equal(next, block + 100);
	assert_int_equal(count, 1000);
	/* In use: the nearest behind it. */
	assert_int_equal(space_allocate(&r->fs, block + 100, 50, &next, &count), 0);
	assert_int_equal(next, block + 1100);
	/* In another group, at its very end: as much as there is. */
	block = GROUP_FIRST + 2 * GROUP_BLOCKS + GROUP_BLOCKS - 10;
	assert_int_equal(space_allocate(&r->fs, block, 50, &next, &count), 0);
	assert_int_equal(next, block);
	assert_int_equal(count, 10);
	/* A map is no place for data. */
	assert_int_equal(space_allocate(&r->fs, block + 10, 5, &next, &count), 0);
	assert_true(layout_is_usable(&r->fs.transaction.layout, next));
	assert_int_equal(fs_rig_commit(r), 0);
	fs_rig_free(r);
}

static void fs_space_an_allocation_logs_a_bit_and_the_counts(void **state)
{
	struct fs_rig *r = fs_rig_new(4 * GROUP_BLOCKS, 1);
	const struct memory_blocks_figures *figures = memory_blocks_figures(r->blocks);
	uint64_t block;
	uint32_t count;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(space_allocate(&r->fs, 0, 1, &block, &count), 0);
		assert_int_equal(fs_rig_commit(r), 0);
		/* Superblock, map's header, map's bit: three ranges of 12 bytes at most. */
		assert_true(figures->logged_last <= 72 + 3 * 16 + 40);
	}
	if (getenv("FS_VERBOSE"))
		fprintf(stderr, "an allocation logs %lu bytes\n", figures->logged_last);
	fs_rig_free(r);
}

/* ---- full ------------------------------------------------------------------------------------------ */

static void fill(struct fs_rig *r, uint32_t want)
{
	uint64_t block;
	uint32_t count;
	int error;

	for (;;) {
		error = space_allocate(&r->fs, 0, want, &block, &count);
		if (error) {
			assert_int_equal(error, -ENOSPC);
			assert_int_equal(fs_rig_commit(r), 0);
			return;
		}
		assert_int_equal(fs_rig_commit(r), 0);
	}
}

/* The bit of each group says whether its map has a bit that is clear. */
static void fulls_agree(struct fs_rig *r)
{
	const struct layout *l = &r->fs.transaction.layout;

	for (uint64_t group = 0; group < l->groups; group++) {
		const uint8_t *fulls = memory_blocks_page(r->blocks, 1 + group / FULLS_BITS);
		const struct map *map = (const void *)memory_blocks_page(r->blocks, layout_map(l, group));
		bool full = map && from_le32(map->header.magic) && from_le32(map->clear_count) == 0;
		uint64_t bit = group % FULLS_BITS;

		assert_int_equal(full, fulls ? fulls[32 + bit / 8] >> bit % 8 & 1 : 0);
	}
}

static void fs_space_the_reserve_is_for_those_that_give_back(void **state)
{
	struct fs_rig *r = fs_rig_new(2 * GROUP_BLOCKS + 500, 1);
	uint64_t reserve = space_reserve(2 * GROUP_BLOCKS + 500), block;
	uint32_t count;

	(void)state;
	fill(r, 1000);
	assert_int_equal(free_blocks(r), reserve);
	fulls_agree(r);
	assert_int_equal(available_blocks(r), 0);
	assert_int_equal(space_ask(&r->fs, 1), -ENOSPC);
	space_use_reserve(&r->fs);
	assert_int_equal(space_ask(&r->fs, reserve), 0);
	assert_int_equal(space_ask(&r->fs, reserve + 1), -ENOSPC);
	assert_int_equal(space_allocate(&r->fs, 0, 1, &block, &count), 0);
	assert_int_equal(fs_rig_commit(r), 0);
	/* The next transaction has not asked for it. */
	assert_int_equal(space_allocate(&r->fs, 0, 1, &block, &count), -ENOSPC);
	fs_abort(&r->fs);
	/* To the last block, and back. */
	do {
		space_use_reserve(&r->fs);
		assert_int_equal(space_allocate(&r->fs, 0, 100000, &block, &count), 0);
		assert_int_equal(fs_rig_commit(r), 0);
	} while (free_blocks(r));
	fulls_agree(r);
	assert_int_equal(space_free(&r->fs, block, count), 0);
	assert_int_equal(fs_rig_commit(r), 0);
	assert_int_equal(free_blocks(r), count);
	fulls_agree(r);
	fs_rig_free(r);
}

/* Every insert until the volume is full, then every delete: none of them fails. */
static void fs_space_a_full_volume_can_be_emptied(void **state)
{
	struct fs_rig *r = fs_rig_new(700, 1);
	uint8_t value[500] = { 0 };
	uint64_t empty = free_blocks(r), items, need;

	(void)state;
	for (items = 0;; items++) {
		struct tree_key key = tree_key(5, ITEM_NAME, items * 0x9e3779b97f4a7c15u);
		int error = tree_need(&r->fs, 1, &need);

		assert_int_equal(error, 0);
		error = space_ask(&r->fs, need);
		if (error == -ENOSPC)
			break;
		assert_int_equal(error, 0);
		assert_int_equal(tree_insert(&r->fs, &key, value, sizeof value), 0);
		assert_int_equal(fs_rig_commit(r), 0);
	}
	fs_abort(&r->fs);
	fill(r, 7);
	assert_int_equal(available_blocks(r), 0);
	for (uint64_t i = 0; i < items; i++) {
		struct tree_key key = tree_key(5, ITEM_NAME, i * 0x9e3779b97f4a7c15u);
		struct tree_key orphan = tree_key(1, ITEM_ORPHAN, i);

		/* A name goes, and what stands for its inode until that is gone takes room first. */
		space_use_reserve(&r->fs);
		assert_int_equal(tree_insert(&r->fs, &orphan, NULL, 0), 0);
		assert_int_equal(tree_delete(&r->fs, &key), 0);
		assert_int_equal(fs_rig_commit(r), 0);
		space_use_reserve(&r->fs);
		assert_int_equal(tree_delete(&r->fs, &orphan), 0);
		assert_int_equal(fs_rig_commit(r), 0);
	}
	assert_true(items > 1000 && free_blocks(r) > empty / 2);
	fs_rig_free(r);
}

/* An insert that finds no block leaves nothing behind. */
static void fs_space_no_room_for_a_node_undoes_all(void **state)
{
	struct fs_rig *r = fs_rig_new(256, 1);
	uint8_t value[900] = { 0 };
	struct tree_item item;
	unsigned items = 0;
	int error = 0;

	(void)state;
	fill(r, 1);
	for (; !error; items++) {
		struct tree_key key = tree_key(5, ITEM_NAME, items);

		error = tree_insert(&r->fs, &key, value, sizeof value);
		if (!error)
			error = fs_rig_commit(r);
	}
	assert_int_equal(error, -ENOSPC);
	/* It can only be aborted. */
	assert_int_equal(tree_find(&r->fs, &(struct tree_key){ 5, 0, ITEM_NAME }, &item), -ENOSPC);
	assert_int_equal(fs_rig_commit(r), -ENOSPC);
	assert_int_equal(items, 5);
	assert_int_equal(tree_find(&r->fs, &(struct tree_key){ 5, 3, ITEM_NAME }, &item), 0);
	assert_int_equal(tree_find(&r->fs, &(struct tree_key){ 5, 4, ITEM_NAME }, &item), -ENOENT);
	fs_abort(&r->fs);
	fs_rig_free(r);
}

/* ---- large ----------------------------------------------------------------------------------------- */

static void fs_space_formatting_writes_three_blocks_whatever_the_size(void **state)
{
	static const uint64_t sizes[] = { FS_BLOCKS_MIN, GROUP_FIRST + GROUP_BLOCKS, GROUP_FIRST + GROUP_BLOCKS + 1,
					  GROUP_FIRST + GROUP_BLOCKS + 2, 1 << 20, FS_BLOCKS_MAX };

	(void)state;
	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct fs_rig *r = fs_rig_new(sizes[i], 1);
		uint64_t count, *blocks = memory_blocks_written(r->blocks, &count), written = 0;

		for (uint64_t b = 0; b < count; b++)
			written += !block_is_zero(memory_blocks_page(r->blocks, blocks[b]));
		assert_int_equal(written, 3);
		assert_true(memory_blocks_figures(r->blocks)->logged < 512);
		free(blocks);
		assert_int_equal(fs_rig_damages(r, i < 5 ? 1 << 20 : 512 << 20, true), 0);
		fs_rig_free(r);
	}
}

/* Makes all groups but @open full, as if they had been filled: their maps, the fulls and the superblock. */
static void fill_groups(struct fs_rig *r, uint64_t open)
{
	const struct layout *l = &r->fs.transaction.layout;
	struct superblock *s = (void *)memory_blocks_make(r->blocks, 0);

	for (uint64_t group = 1; group < l->groups; group++) {
		struct map *fulls = (void *)memory_blocks_make(r->blocks, 1 + group / FULLS_BITS);
		uint64_t bit = group % FULLS_BITS;

		if (group == open)
			continue;
		if (!from_le32(fulls->header.magic)) {
			block_header_init((uint8_t *)fulls, 1 + group / FULLS_BITS, BLOCK_FULLS);
			fulls->clear_count = to_le32(layout_fulls_bits(l, group / FULLS_BITS));
		}
		fulls->words[bit / 64] = to_le64(from_le64(fulls->words[bit / 64]) | 1ull << bit % 64);
		fulls->clear_count = to_le32(from_le32(fulls->clear_count) - 1);
		s->free_count = to_le64(from_le64(s->free_count) - layout_map_bits(l, group));
		/* Maps of full groups are not looked at by an allocation: here they stay unwritten. */
	}
	for (uint64_t i = 0; i < FULLS_BLOCKS; i++)
		if (memory_blocks_page(r->blocks, 1 + i))
			block_seal(memory_blocks_page(r->blocks, 1 + i), r->fs.transaction.seed);
	block_seal((uint8_t *)s, 0);
}

static void fs_space_one_group_with_room_among_132000_full_ones_is_found_at_once(void **state)
{
	struct fs_rig *r = fs_rig_new(FS_BLOCKS_MAX, 1);
	const struct memory_blocks_figures *figures = memory_blocks_figures(r->blocks);
	const struct layout *l = &r->fs.transaction.layout;
	uint64_t open = l->groups - 2, reads, block;
	uint32_t count;

	(void)state;
	/* What is left of group 0, behind the root. */
	assert_int_equal(space_allocate(&r->fs, GROUP_FIRST + 2, GROUP_BITS, &block, &count), 0);
	assert_int_equal(count, GROUP_BITS - 1);
	assert_int_equal(fs_rig_commit(r), 0);
	fill_groups(r, open);
	fs_abort(&r->fs);
	reads = figures->reads;
	assert_int_equal(space_allocate(&r->fs, 0, 64, &block, &count), 0);
	assert_int_equal(layout_group(l, block), open);
	assert_int_equal(count, 64);
	assert_int_equal(fs_rig_commit(r), 0);
	assert_true(figures->reads - reads < 40);
	reads = figures->reads;
	assert_int_equal(space_allocate(&r->fs, 0, 64, &block, &count), 0);
	assert_int_equal(layout_group(l, block), open);
	assert_int_equal(fs_rig_commit(r), 0);
	assert_true(figures->reads - reads < 10);
	fs_rig_free(r);
}

/* ---- freed ----------------------------------------------------------------------------------------- */

static void fs_space_what_a_transaction_frees_it_does_not_use_again(void **state)
{
	struct fs_rig *r = fs_rig_new(256, 1);
	uint64_t block, other;
	uint32_t count, other_count;

	(void)state;
	assert_int_equal(space_allocate(&r->fs, 0, 20, &block, &count), 0);
	assert_int_equal(fs_rig_commit(r), 0);
	assert_int_equal(space_free(&r->fs, block, count), 0);
	assert_int_equal(space_allocate(&r->fs, block, 20, &other, &other_count), 0);
	assert_true(other >= block + count || other + other_count <= block);
	assert_int_equal(fs_rig_commit(r), 0);
	assert_int_equal(space_allocate(&r->fs, block, 20, &other, &other_count), 0);
	assert_int_equal(other, block);
	fs_abort(&r->fs);
	fs_rig_free(r);
}

static void fs_space_freeing_what_is_free_is_damage_and_names_the_map(void **state)
{
	struct fs_rig *r = fs_rig_new(256, 1);
	uint64_t block, before;
	uint32_t count;

	(void)state;
	assert_int_equal(space_allocate(&r->fs, 0, 20, &block, &count), 0);
	assert_int_equal(fs_rig_commit(r), 0);
	before = free_blocks(r);
	assert_int_equal(space_free(&r->fs, block + 10, 20), 0);
	assert_int_equal(fs_rig_commit(r), -EIO);
	assert_int_equal(r->fs.transaction.damage.block, GROUP_FIRST);
	assert_int_equal(free_blocks(r), before);
	/* Twice in one transaction. */
	assert_int_equal(space_free_node(&r->fs, block), 0);
	assert_int_equal(space_free_node(&r->fs, block), 0);
	assert_int_equal(fs_rig_commit(r), -EIO);
	/* What can never be freed. */
	assert_int_equal(space_free(&r->fs, 3, 1), -EIO);
	fs_abort(&r->fs);
	assert_int_equal(space_free(&r->fs, 200, 100), -EIO);
	assert_int_equal(r->fs.transaction.damage.block, 200);
	fs_abort(&r->fs);
	assert_int_equal(free_blocks(r), before);
	fs_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_space_agrees_with_an_array),
	cmocka_unit_test(fs_space_what_is_asked_for_at_a_goal_starts_there),
	cmocka_unit_test(fs_space_an_allocation_logs_a_bit_and_the_counts),
	cmocka_unit_test(fs_space_the_reserve_is_for_those_that_give_back),
	cmocka_unit_test(fs_space_a_full_volume_can_be_emptied),
	cmocka_unit_test(fs_space_no_room_for_a_node_undoes_all),
	cmocka_unit_test(fs_space_formatting_writes_three_blocks_whatever_the_size),
	cmocka_unit_test(fs_space_one_group_with_room_among_132000_full_ones_is_found_at_once),
	cmocka_unit_test(fs_space_what_a_transaction_frees_it_does_not_use_again),
	cmocka_unit_test(fs_space_freeing_what_is_free_is_damage_and_names_the_map),
};
TEST_GROUP(fs_space, tests)
