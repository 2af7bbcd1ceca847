/* SPDX-License-Identifier: Apache-2.0 */
/* Every prefix of the log is a whole filesystem; every kind of damage is found, and named by its block; no damage at
 * all makes anything crash, loop or read out of bounds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs_model.h"
#include "node.h"
#include "run.h"

enum { BLOCKS = GROUP_BLOCKS + 2000, EXTENTS = 200, EXTENT_INODE = 1 << 20 };

/* Items, and extents that are allocated and freed beside them. */
struct extents { uint32_t count; struct { uint64_t at, block; uint32_t count; } list[EXTENTS]; uint64_t next; };

static int extent_add(struct fs_rig *r, struct extents *e)
{
	struct tree_key key = tree_key(EXTENT_INODE, ITEM_EXTENT, e->next);
	struct extent extent = { .flags = to_le32(0) };
	uint64_t block;
	uint32_t count;
	int error = space_allocate(&r->fs, 0, 1 + (uint32_t)(e->next * 7 % 50), &block, &count);

	if (error)
		return error;
	extent.block = to_le64(block);
	extent.count = to_le32(count);
	e->list[e->count].at = e->next;
	e->list[e->count].block = block;
	e->list[e->count].count = count;
	return tree_insert(&r->fs, &key, &extent, sizeof extent);
}

static int extent_drop(struct fs_rig *r, struct extents *e, uint32_t index)
{
	struct tree_key key = tree_key(EXTENT_INODE, ITEM_EXTENT, e->list[index].at);
	int error = tree_delete(&r->fs, &key);

	return error ? error : space_free(&r->fs, e->list[index].block, e->list[index].count);
}

static void extents_turn(struct fs_rig *r, struct extents *e)
{
	if (e->count < EXTENTS && (e->count < 20 || fs_rig_draw(r, 2))) {
		assert_int_equal(FS_RIG_DO(r, extent_add(r, e)), 0);
		e->next += e->list[e->count++].count;
	} else {
		uint32_t index = (uint32_t)fs_rig_draw(r, e->count);

		assert_int_equal(FS_RIG_DO(r, extent_drop(r, e, index)), 0);
		e->list[index] = e->list[--e->count];
	}
}

/* One more transaction on all. */
static void turn(struct fs_rig *r, struct fs_model *m, struct extents *e, const struct model_shape *shape)
{
	struct model_step steps[4];

	if (fs_rig_draw(r, 4) == 0) {
		extents_turn(r, e);
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		steps[i] = fs_model_draw(r, shape);
		if (steps[i].kind > STEP_FIND)
			steps[i].kind = STEP_FIND;	/* a next one may be an extent, which is not in the model */
	}
	assert_int_equal(FS_RIG_DO(r, fs_model_run(r, steps, 4)), 0);
	fs_model_agree(m, steps, 4);
}

/* The items of the model, without those of the extents. */
static void prefix_whole(struct fs_rig *r, uint64_t records, const struct fs_model *m)
{
	char why[WHY_BYTES];
	struct fs_rig *p = fs_rig_mount(memory_blocks_prefix(r->blocks, records), why);

	assert_non_null(p);
	assert_int_equal(fs_rig_damages(p, records % 2 ? 4096 : 1 << 20, true), 0);
	assert_int_equal(fs_rig_audit(p, 1 << 20, true).items, m->count);
	fs_rig_free(p);
}

static void fs_audit_every_prefix_of_the_log_is_whole(void **state)
{
	enum { RECORDS = 250 };
	const struct model_shape shape = { 10, 100, 300, 35 };
	uint64_t seed = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(3); i++, seed++) {
		struct fs_rig *r = fs_rig_new(BLOCKS, seed);
		uint32_t counts[RECORDS + 8];
		struct fs_model m = { 0 };
		struct extents e = { .count = 0 };

		memory_blocks_keep(r->blocks);
		memory_blocks_miss(r->blocks, 50);
		counts[0] = 0;
		while (memory_blocks_kept(r->blocks) < RECORDS) {
			turn(r, &m, &e, &shape);
			counts[memory_blocks_kept(r->blocks)] = m.count + e.count;
		}
		for (uint64_t n = 0; n <= RECORDS; n++)
			prefix_whole(r, n, &(struct fs_model){ .count = counts[n] });
		fs_model_free(&m);
		fs_rig_free(r);
	}
}

/* ---- each kind of damage --------------------------------------------------------------------------- */

/* A tree of three levels, extents, and one group full. */
static struct fs_rig *rig_whole(uint64_t seed)
{
	struct fs_rig *r = fs_rig_new(BLOCKS, seed);
	const struct model_shape shape = { 40, 1 << 20, ITEM_VALUE_MAX, 5 };
	struct fs_model m = { 0 };
	struct extents e = { .count = 0 };

	for (unsigned i = 0; i < 500; i++)
		turn(r, &m, &e, &shape);
	fs_model_free(&m);
	assert_int_equal(fs_rig_damages(r, 1 << 20, true), 0);
	return r;
}

struct hunt {
	struct audit_listener listener;
	uint64_t block;			/* is it named? */
	const char *what;		/* with a part of this? */
	bool found;
	uint64_t damages;
};

static void hunt_damaged(struct audit_listener *listener, uint64_t inode, uint64_t block, uint64_t count,
			 const char *what)
{
	struct hunt *h = container_of(listener, struct hunt, listener);

	(void)inode;
	h->damages++;
	if (h->block >= block && h->block < block + count && strstr(what, h->what))
		h->found = true;
}

/* The audit, as of a mount from the beginning, names @block and says @what. */
static void finds(struct fs_rig *r, uint64_t block, const char *what)
{
	struct hunt hunt = { { hunt_damaged, NULL }, block, what, false, 0 };
	char why[WHY_BYTES];
	struct audit *a;

	assert_int_equal(fs_mount(&r->fs, why), 0);
	assert_int_equal(audit_new(&a, &r->fs, &hunt.listener, 1 << 20), 0);
	while (audit_step(a) == 1)
		;
	audit_free(a);
	if (!hunt.found)
		fprintf(stderr, "not found: block %lu: %s (%lu other damages)\n", block, what, hunt.damages);
	assert_true(hunt.found);
}

static uint64_t root_block(struct fs_rig *r)
{
	return from_le64(((const struct superblock *)(const void *)memory_blocks_page(r->blocks, 0))->root);
}

static struct node *node_page(struct fs_rig *r, uint64_t block)
{
	return (void *)memory_blocks_page(r->blocks, block);
}

static void reseal(struct fs_rig *r, uint64_t block)
{
	block_seal(memory_blocks_page(r->blocks, block), block ? r->fs.transaction.seed : 0);
}

/* The leaf where the extents are, and the first of them in it. */
static uint64_t extent_leaf(struct fs_rig *r, uint32_t *index)
{
	struct tree_key key = tree_key(EXTENT_INODE, ITEM_EXTENT, 0);
	uint64_t block = root_block(r);

	while (node_page(r, block)->level > 0)
		block = node_child(node_page(r, block), node_search_child(node_page(r, block), &key));
	*index = node_search(node_page(r, block), &key);
	assert_true(*index + 2 < node_count(node_page(r, block)));
	return block;
}

static uint8_t before[BLOCK_BYTES];
static uint64_t opened;

/* A block that is about to be damaged, and is put back by finds_in(). */
static void *open_block(struct fs_rig *r, uint64_t block)
{
	opened = block;
	memcpy(before, memory_blocks_make(r->blocks, block), BLOCK_BYTES);
	return memory_blocks_page(r->blocks, block);
}

static void finds_in(struct fs_rig *r, bool sealed, uint64_t block, const char *what)
{
	if (sealed)
		reseal(r, opened);
	finds(r, block, what);
	memcpy(memory_blocks_page(r->blocks, opened), before, BLOCK_BYTES);
	assert_int_equal(fs_rig_damages(r, 1 << 20, true), 0);
}

static void fs_audit_finds_every_kind_of_damage_in_nodes(void **state)
{
	struct fs_rig *r = rig_whole(1);
	uint64_t root = root_block(r), child = node_child(node_page(r, root), 1), leaf = child;
	struct tree_key key;
	struct tree_item item;
	struct node *n;

	(void)state;
	assert_true(node_page(r, root)->level >= 1);
	while (node_page(r, leaf)->level)
		leaf = node_child(node_page(r, leaf), 0);
	n = open_block(r, leaf);
	((uint8_t *)n)[3000] ^= 1;
	finds_in(r, false, leaf, "checksum");
	n = open_block(r, leaf);
	memset(n, 0, sizeof *n);
	finds_in(r, false, leaf, "magic");
	n = open_block(r, leaf);
	memcpy(n, node_page(r, root), sizeof *n);
	finds_in(r, false, leaf, "another place");
	n = open_block(r, leaf);
	n->level = 1;
	finds_in(r, true, leaf, "first key");
	n = open_block(r, leaf);
	n->slots[0] = n->slots[1];
	finds_in(r, true, leaf, "overlap");
	n = open_block(r, leaf);
	n->slots[0] = to_le16(4090);
	finds_in(r, true, leaf, "out of bounds");
	n = open_block(r, leaf);
	node_set_key(n, 0, &(struct tree_key){ 1ull << 40, 0, ITEM_NAME });
	finds_in(r, true, leaf, "not in order");
	n = open_block(r, leaf);
	node_set_key(n, node_count(n) - 1, &(struct tree_key){ 1ull << 40, 0, ITEM_NAME });
	finds_in(r, true, leaf, "belong elsewhere");
	n = open_block(r, leaf);
	n->dead = to_le16(from_le16(n->dead) + 1);
	finds_in(r, true, leaf, "add up");
	n = open_block(r, leaf);
	node_init(n, 0);
	finds_in(r, true, leaf, "empty");
	n = open_block(r, root);
	key = node_key(n, 1);
	node_set_child(n, 1, node_child(n, 0));
	reseal(r, root);
	assert_int_equal(tree_find(&r->fs, &key, &item), -EIO);
	assert_int_equal(r->fs.transaction.damage.block, node_child(n, 0));
	fs_abort(&r->fs);
	finds_in(r, true, node_child(n, 0), "elsewhere");
	n = open_block(r, root);
	node_set_child(n, 1, root);
	finds_in(r, true, root, "level");
	n = open_block(r, root);
	node_set_child(n, 1, BLOCKS);
	finds_in(r, true, root, "child is out of bounds");
	fs_rig_free(r);
}

static void fs_audit_finds_every_kind_of_damage_in_maps_and_extents(void **state)
{
	struct fs_rig *r = rig_whole(2);
	uint32_t index;
	uint64_t leaf = extent_leaf(r, &index), root = root_block(r);
	struct superblock *s;
	struct extent extent;
	struct map *map;
	struct node *n;

	(void)state;
	map = open_block(r, GROUP_FIRST);
	map->words[MAP_WORDS - 1] = to_le64(1ull << 63);
	map->clear_count = to_le32(from_le32(map->clear_count) - 1);
	s = (void *)memory_blocks_page(r->blocks, 0);
	finds_in(r, true, GROUP_FIRST + GROUP_BITS, "nothing refers to it");
	map = open_block(r, GROUP_FIRST);
	map->words[layout_bit(&r->fs.transaction.layout, root) / 64].raw &= ~(1ull << (root - GROUP_FIRST - 1) % 64);
	map->clear_count = to_le32(from_le32(map->clear_count) + 1);
	finds_in(r, true, root, "its map says that it is free");
	map = open_block(r, GROUP_FIRST);
	map->clear_count = to_le32(from_le32(map->clear_count) + 1);
	finds_in(r, true, GROUP_FIRST, "count");
	map = open_block(r, 1);
	memset(map, 0, sizeof *map);
	block_header_init((uint8_t *)map, 1, BLOCK_FULLS);
	map->words[0] = to_le64(1);
	map->clear_count = to_le32(1);
	finds_in(r, true, GROUP_FIRST, "said to be full");
	s = open_block(r, 0);
	s->free_count = to_le64(from_le64(s->free_count) - 1);
	finds_in(r, true, 0, "count");
	n = open_block(r, leaf);
	memcpy(node_value(n, index + 1), node_item(n, index)->value, sizeof extent);
	memcpy(&extent, node_item(n, index)->value, sizeof extent);
	finds_in(r, true, from_le64(extent.block), "more than once");
	n = open_block(r, leaf);
	extent.block = to_le64(GROUP_FIRST + GROUP_BLOCKS - 1);
	extent.count = to_le32(2);
	memcpy(node_value(n, index), &extent, sizeof extent);
	finds_in(r, true, leaf, "an extent in it is out of bounds");
	n = open_block(r, leaf);
	memcpy(&extent, node_item(n, index)->value, sizeof extent);
	extent.count = to_le32(from_le32(extent.count) + 100);
	memcpy(node_value(n, index), &extent, sizeof extent);
	finds_in(r, true, leaf, "overlaps");
	fs_rig_free(r);
}

/* ---- any damage ------------------------------------------------------------------------------------ */

/* Uses all of it; whatever it meets, it ends. */
static void use_all(struct fs_rig *r)
{
	const struct model_shape shape = { 40, 1 << 20, ITEM_VALUE_MAX, 50 };
	struct tree_key key = { 0 };
	struct tree_item item;
	unsigned items = 0;

	while (!tree_next(&r->fs, &key, &item) && items++ < 100000) {
		assert_true(tree_key_compare(&item.key, &key) >= 0);
		assert_true(item.len <= ITEM_VALUE_MAX);
		key = item.key;
		if (++key.at == 0 && ++key.kind == 0)
			break;
	}
	assert_true(items < 100000);
	fs_abort(&r->fs);
	for (unsigned i = 0; i < 60; i++) {
		struct model_step steps[4];
		uint64_t block;
		uint32_t count;
		int error;

		for (unsigned s = 0; s < 4; s++)
			steps[s] = fs_model_draw(r, &shape);
		error = fs_model_run(r, steps, 4);
		if (!error && i % 4 == 0)
			error = space_allocate(&r->fs, 0, 10, &block, &count);
		if (!error && i % 4 == 1)
			error = space_free(&r->fs, 1 + fs_rig_draw(r, BLOCKS), 1 + (uint32_t)fs_rig_draw(r, 10));
		if (!error)
			error = fs_rig_commit(r);
		assert_true(error == 0 || error == -EIO || error == -ENOSPC);
		assert_true(error != -EIO || r->fs.transaction.damage.what);
		fs_abort(&r->fs);
	}
	fs_rig_audit(r, 4096, false);
}

static void damage_block(struct fs_rig *r, uint64_t block)
{
	uint8_t *page = memory_blocks_page(r->blocks, block);
	unsigned flips = 1 + (unsigned)fs_rig_draw(r, 4);
	/* Where the structure is. */
	uint64_t range = fs_rig_draw(r, 3) ? 120 : BLOCK_BYTES;

	for (unsigned i = 0; i < flips; i++)
		page[fs_rig_draw(r, range)] = (uint8_t)fs_rig_draw(r, 256);
	if (fs_rig_draw(r, 10))
		reseal(r, block);
}

static void fs_audit_no_damage_makes_anything_crash_or_loop(void **state)
{
	uint64_t seed = test_seed_first(1), count;

	(void)state;
	for (unsigned i = 0; i < test_seed_count(4); i++, seed++) {
		struct fs_rig *r = rig_whole(seed);
		uint64_t *blocks;

		memory_blocks_keep(r->blocks);
		blocks = memory_blocks_written(r->blocks, &count);
		for (unsigned turns = 0; turns < 150; turns++) {
			char why[WHY_BYTES] = "";
			struct memory_blocks *copy = memory_blocks_prefix(r->blocks, 0);
			struct fs_rig damaged = { .blocks = copy, .fs.transaction.seed = r->fs.transaction.seed,
						  .random = seed * 1000 + turns };
			struct fs_rig *d;

			for (unsigned n = 0; n < 1 + turns % 3; n++) {
				uint64_t block = turns % 4 ? blocks[fs_rig_draw(&damaged, count)] : root_block(r);

				if (!block_is_zero(memory_blocks_page(copy, block)))
					damage_block(&damaged, block);
			}
			d = fs_rig_mount(copy, why);
			assert_true(d || why[0]);
			if (d) {
				d->random = damaged.random;
				use_all(d);
			}
			fs_rig_free(d);
		}
		free(blocks);
		fs_rig_free(r);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_audit_every_prefix_of_the_log_is_whole),
	cmocka_unit_test(fs_audit_finds_every_kind_of_damage_in_nodes),
	cmocka_unit_test(fs_audit_finds_every_kind_of_damage_in_maps_and_extents),
	cmocka_unit_test(fs_audit_no_damage_makes_anything_crash_or_loop),
};
TEST_GROUP(fs_audit, tests)
