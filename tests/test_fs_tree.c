/* SPDX-License-Identifier: Apache-2.0 */
/* The tree against a sorted array; nodes at every level of fill; what a change of it logs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs_model.h"
#include "node.h"
#include "run.h"

enum { BATCH = 6 };

/* Batches until the model has had @batches of them; some are given up on purpose. */
static void play(struct fs_rig *r, struct fs_model *m, const struct model_shape *shape, unsigned batches)
{
	struct model_step steps[BATCH];

	for (unsigned i = 0; i < batches; i++) {
		unsigned count = 1 + (unsigned)fs_rig_draw(r, BATCH);

		for (unsigned s = 0; s < count; s++)
			steps[s] = fs_model_draw(r, shape);
		if (fs_rig_draw(r, 10) == 0) {
			(void)!fs_model_run(r, steps, count);
			fs_abort(&r->fs);
			continue;
		}
		assert_int_equal(FS_RIG_DO(r, fs_model_run(r, steps, count)), 0);
		fs_model_agree(m, steps, count);
	}
}

static void play_shape(uint64_t seed, const struct model_shape *shape, unsigned miss, unsigned batches)
{
	struct fs_rig *r = fs_rig_new(8192, seed);
	struct fs_model m = { 0 };
	struct model_shape now = *shape;

	memory_blocks_miss(r->blocks, miss);
	for (unsigned round = 0; round < 4; round++) {
		now.deletes = round % 2 ? 100 - shape->deletes : shape->deletes;
		play(r, &m, &now, batches);
		fs_model_same(&m, r);
		assert_int_equal(fs_rig_damages(r, 1 << 20, true), 0);
	}
	fs_model_free(&m);
	fs_rig_free(r);
}

static void fs_tree_agrees_with_a_sorted_array(void **state)
{
	static const struct model_shape shapes[] = {
		{ 1, 200, 40, 40 },		/* few keys, over and over */
		{ 1000, 1000000, 40, 30 },	/* many small ones */
		{ 30, 300, ITEM_VALUE_MAX, 35 },	/* of every length */
		{ 1ull << 62, 1ull << 62, 200, 20 },
		{ 5, 5000, 0, 25 },		/* keys without values */
	};
	uint64_t seed = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(6); i++, seed++)
		for (unsigned s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
			play_shape(seed, &shapes[s], i % 2 ? 40 : 0, 1500);
}

/* Each block in turn; what meets it is told so and changes nothing, and all the rest works. */
static void fs_tree_a_block_that_cannot_be_read_spoils_nothing(void **state)
{
	const struct model_shape shape = { 100, 1000, 200, 40 };
	struct fs_rig *r = fs_rig_new(8192, 1);
	struct fs_model m = { 0 };
	uint64_t count, *blocks;
	unsigned refused = 0;

	(void)state;
	play(r, &m, &(struct model_shape){ 100, 1000, 200, 5 }, 400);
	blocks = memory_blocks_written(r->blocks, &count);
	for (uint64_t b = 0; b < count; b++) {
		memory_blocks_fail(r->blocks, blocks[b]);
		for (unsigned i = 0; i < 10; i++) {
			struct model_step step = fs_model_draw(r, &shape);
			int error = FS_RIG_DO(r, fs_model_run(r, &step, 1));

			if (error) {
				assert_int_equal(error, -EIO);
				assert_int_equal(r->fs.transaction.damage.block, blocks[b]);
				refused++;
			} else {
				fs_model_agree(&m, &step, 1);
			}
		}
	}
	memory_blocks_fail(r->blocks, UINT64_MAX);
	assert_true(refused >= 20);
	fs_model_same(&m, r);
	assert_int_equal(fs_rig_damages(r, 1 << 20, true), 0);
	free(blocks);
	fs_model_free(&m);
	fs_rig_free(r);
}

static struct fs_rig *rig_filled(uint64_t blocks, uint64_t items, uint16_t len)
{
	struct fs_rig *r = fs_rig_new(blocks, 1);
	uint8_t value[ITEM_VALUE_MAX] = { 0 };

	for (uint64_t i = 0; i < items;) {
		for (unsigned n = 0; n < 100 && i < items; n++, i++) {
			struct tree_key key = tree_key(2, ITEM_NAME, i * 0x9e3779b97f4a7c15u);

			assert_int_equal(tree_insert(&r->fs, &key, value, len), 0);
		}
		assert_int_equal(fs_rig_commit(r), 0);
	}
	return r;
}

static unsigned root_level(struct fs_rig *r)
{
	const struct superblock *s;
	unsigned level;

	assert_int_equal(fs_superblock(&r->fs, &s), 0);
	level = s->root_level;
	fs_abort(&r->fs);
	return level;
}

static uint64_t free_blocks(struct fs_rig *r)
{
	struct fs_figures figures;

	assert_int_equal(fs_figures(&r->fs, &figures), 0);
	fs_abort(&r->fs);
	return figures.free;
}

static void fs_tree_grows_by_levels_and_shrinks_to_one_empty_leaf(void **state)
{
	struct fs_rig *r = fs_rig_new(20000, 1);
	uint64_t empty = free_blocks(r);
	struct tree_key from = { 0 };
	struct tree_item item;
	unsigned left = 20000, top;

	(void)state;
	fs_rig_free(r);
	r = rig_filled(20000, left, 600);
	top = root_level(r);
	assert_true(top >= 2);
	assert_int_equal(fs_rig_damages(r, 4096, true), 0);
	for (; left > 0; left--) {
		/* From both ends and from the middle. */
		from = tree_key(2, ITEM_NAME,
				left % 3 == 0 ? 0 : left % 3 == 1 ? UINT64_MAX : fs_rig_draw(r, UINT64_MAX));
		if (tree_next(&r->fs, &from, &item))
			assert_int_equal(tree_previous(&r->fs, &from, &item), 0);
		assert_int_equal(tree_delete(&r->fs, &item.key), 0);
		if (left % 10 == 0)
			assert_int_equal(fs_rig_commit(r), 0);
		if (left % 1000 == 1)
			assert_int_equal(fs_rig_commit(r), 0);
		if (left % 1000 == 0)
			assert_int_equal(fs_rig_damages(r, 1 << 20, true), 0);
	}
	assert_int_equal(root_level(r), 0);
	assert_int_equal(tree_next(&r->fs, &from, &item), -ENOENT);
	assert_int_equal(free_blocks(r), empty);
	assert_int_equal(fs_rig_damages(r, 1 << 20, true), 0);
	fs_rig_free(r);
}

/* ---- nodes at every level of fill ------------------------------------------------------------------ */

static const struct layout layout = { 8192, 1 };

/* A leaf with @count items of @len bytes, every second of them taken out again when @holes. */
static void leaf_fill(struct node *n, unsigned count, uint16_t len, bool holes)
{
	static const uint8_t value[ITEM_VALUE_MAX];

	memset(n, 0, sizeof *n);
	node_init(n, 0);
	for (unsigned i = 0; i < count && node_has_room(n, len); i++) {
		struct tree_key key = tree_key(1, ITEM_NAME, 2 * i + 2);

		node_insert(n, i, &key, value, len);
	}
	for (unsigned i = 0; holes && i < node_count(n); i++)
		node_remove(n, i);
}

static void fs_tree_a_node_takes_what_fits_at_every_level_of_fill(void **state)
{
	static const uint16_t lens[] = { 0, 1, 7, 20, 100, 333, ITEM_VALUE_MAX };
	static const uint8_t value[ITEM_VALUE_MAX] = { 1, 2, 3 };
	struct node full, n;

	(void)state;
	for (unsigned l = 0; l < sizeof lens / sizeof lens[0]; l++) {
		for (unsigned count = 0; count <= NODE_ROOM / (item_bytes(lens[l]) + 2); count++) {
			leaf_fill(&full, count, lens[l], (count & 1) != 0);
			for (uint16_t len = 0; len <= ITEM_VALUE_MAX; len += count % 8 ? 17 : 1) {
				struct tree_key key = tree_key(1, ITEM_NAME, count | 1);
				uint32_t used = node_used(&full), at = node_search(&full, &key);

				if (!node_has_room(&full, len)) {
					assert_true(used + item_bytes(len) + 2 > NODE_ROOM);
					break;
				}
				n = full;
				node_insert(&n, at, &key, value, len);
				assert_null(node_check(&layout, 7, (const uint8_t *)&n));
				assert_int_equal(node_used(&n), used + item_bytes(len) + 2);
				assert_memory_equal(node_item(&n, at)->value, value, len);
				node_remove(&n, at);
				assert_null(node_check(&layout, 7, (const uint8_t *)&n));
				assert_int_equal(node_used(&n), used);
			}
		}
	}
}

static void fs_tree_a_full_leaf_divides_for_every_length_and_place(void **state)
{
	static const uint16_t fills[] = { 0, 18, 100, 480, ITEM_VALUE_MAX };

	(void)state;
	for (unsigned f = 0; f < sizeof fills / sizeof fills[0]; f++) {
		unsigned count = NODE_ROOM / (item_bytes(fills[f]) + 2);

		for (unsigned fill = count < 3 ? 0 : count - 3; fill <= count; fill++) {
			struct fs_rig *r = fs_rig_new(256, 1);
			uint8_t value[ITEM_VALUE_MAX];
			struct fs_model m = { 0 };
			struct model_step step = { .kind = STEP_INSERT, .len = fills[f] };

			for (unsigned i = 0; i < fill; i++) {
				step.key = tree_key(1, ITEM_NAME, 2 * i + 2);
				step.number = i;
				assert_int_equal(fs_model_run(r, &step, 1), 0);
				fs_model_agree(&m, &step, 1);
			}
			assert_int_equal(fs_rig_commit(r), 0);
			for (uint16_t len = 0; len <= ITEM_VALUE_MAX; len++) {
				for (unsigned place = 0; place < 3; place++) {
					struct tree_key key = tree_key(1, ITEM_NAME, 1 + place * fill / 2 * 2);
					struct tree_item item;

					fs_model_value(value, len, len);
					assert_int_equal(tree_insert(&r->fs, &key, value, len), 0);
					assert_int_equal(tree_find(&r->fs, &key, &item), 0);
					assert_int_equal(item.len, len);
					assert_memory_equal(item.value, value, len);
					assert_int_equal(tree_delete(&r->fs, &key), 0);
					if ((len + place) % 61 == 0)
						assert_int_equal(fs_rig_commit(r), 0);
					else
						fs_abort(&r->fs);
				}
			}
			fs_model_same(&m, r);
			assert_int_equal(fs_rig_damages(r, 4096, true), 0);
			fs_model_free(&m);
			fs_rig_free(r);
		}
	}
}

/* ---- order, and neighbours in kind ----------------------------------------------------------------- */

static void fs_tree_next_and_previous_alike_stay_within_inode_and_kind(void **state)
{
	struct fs_rig *r = fs_rig_new(256, 1);
	struct tree_key keys[] = { tree_key(1, ITEM_INODE, 0), tree_key(1, ITEM_EXTENT, 10),
				   tree_key(1, ITEM_EXTENT, 20), tree_key(2, ITEM_INODE, 0),
				   tree_key(2, ITEM_EXTENT, 0) };
	struct tree_key key = tree_key(1, ITEM_EXTENT, 15);
	struct tree_item item;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(tree_insert(&r->fs, &keys[i], "x", 1), 0);
	assert_int_equal(tree_insert(&r->fs, &keys[2], "y", 1), -EEXIST);
	assert_int_equal(tree_previous_alike(&r->fs, &key, &item), 0);
	assert_int_equal(item.key.at, 10);
	assert_int_equal(tree_next_alike(&r->fs, &key, &item), 0);
	assert_int_equal(item.key.at, 20);
	key.at = 21;
	assert_int_equal(tree_next_alike(&r->fs, &key, &item), -ENOENT);
	assert_int_equal(tree_next(&r->fs, &key, &item), 0);
	assert_int_equal(item.key.inode, 2);
	key.at = 9;
	assert_int_equal(tree_previous_alike(&r->fs, &key, &item), -ENOENT);
	assert_int_equal(tree_previous(&r->fs, &key, &item), 0);
	assert_int_equal(item.key.kind, ITEM_INODE);
	assert_int_equal(fs_rig_commit(r), 0);
	fs_rig_free(r);
}

/* ---- what it logs ---------------------------------------------------------------------------------- */

/* The log of one insert of @len bytes into a tree of many, on average and at most, without and with divisions. */
static void insert_cost(uint16_t len, bool rising, uint64_t *average, uint64_t *typical_max)
{
	enum { ITEMS = 5000, MEASURED = 2000 };
	struct fs_rig *r = rig_filled(20000, ITEMS, len);
	const struct memory_blocks_figures *figures = memory_blocks_figures(r->blocks);
	uint64_t start = figures->logged, free_before;
	uint8_t value[ITEM_VALUE_MAX];

	*typical_max = 0;
	memset(value, 0x55, sizeof value);
	for (unsigned i = 0; i < MEASURED; i++) {
		struct tree_key key = rising ? tree_key(3, ITEM_NAME, i)
					     : tree_key(2, ITEM_NAME, (ITEMS + i) * 0x9e3779b97f4a7c15u);

		free_before = free_blocks(r);
		assert_int_equal(tree_insert(&r->fs, &key, value, len), 0);
		assert_int_equal(fs_rig_commit(r), 0);
		if (free_blocks(r) == free_before && figures->logged_last > *typical_max)
			*typical_max = figures->logged_last;
	}
	*average = (figures->logged - start) / MEASURED;
	fs_rig_free(r);
}

static void fs_tree_an_insert_logs_little_more_than_the_item(void **state)
{
	static const uint16_t lens[] = { 16, 40, 128, 400 };
	uint64_t average, typical_max;

	(void)state;
	for (unsigned i = 0; i < sizeof lens / sizeof lens[0]; i++) {
		for (unsigned rising = 0; rising < 2; rising++) {
			uint64_t bare = 72 + 16 + item_bytes(lens[i]);

			insert_cost(lens[i], rising, &average, &typical_max);
			if (getenv("FS_VERBOSE"))
				fprintf(stderr, "insert of %u bytes, %s: %lu logged, %lu at most without a split\n",
					lens[i], rising ? "rising" : "scattered", average, typical_max);
			/* Header and slots of the node beside the item: the slots that move are half of a leaf's at
			 * most. */
			assert_true(average <= (rising ? bare + 80 : bare + 300));
		}
	}
}

static void fs_tree_a_value_changed_in_place_logs_only_what_differs(void **state)
{
	struct fs_rig *r = rig_filled(4096, 3000, 128);
	const struct memory_blocks_figures *figures = memory_blocks_figures(r->blocks);
	struct tree_key key = tree_key(2, ITEM_NAME, 77 * 0x9e3779b97f4a7c15u);
	uint8_t *value;
	uint16_t len;

	(void)state;
	assert_int_equal(tree_change(&r->fs, &key, &value, &len), 0);
	assert_int_equal(len, 128);
	memset(value + 8, 1, 8);
	assert_int_equal(fs_rig_commit(r), 0);
	/* The bytes, and the checksum of the node. */
	assert_true(figures->logged_last <= 72 + 2 * 16 + 8 + 8);
	fs_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_tree_agrees_with_a_sorted_array),
	cmocka_unit_test(fs_tree_a_block_that_cannot_be_read_spoils_nothing),
	cmocka_unit_test(fs_tree_grows_by_levels_and_shrinks_to_one_empty_leaf),
	cmocka_unit_test(fs_tree_a_node_takes_what_fits_at_every_level_of_fill),
	cmocka_unit_test(fs_tree_a_full_leaf_divides_for_every_length_and_place),
	cmocka_unit_test(fs_tree_next_and_previous_alike_stay_within_inode_and_kind),
	cmocka_unit_test(fs_tree_an_insert_logs_little_more_than_the_item),
	cmocka_unit_test(fs_tree_a_value_changed_in_place_logs_only_what_differs),
};
TEST_GROUP(fs_tree, tests)
