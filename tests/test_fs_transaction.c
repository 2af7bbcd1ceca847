/* SPDX-License-Identifier: Apache-2.0 */
/* What a transaction of the filesystem sees and refuses; mounting, formatting, wiping; what whole operations log. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs_rig.h"
#include "run.h"

static const struct tree_key a_key = { 2, 0, ITEM_INODE };

static uint64_t root_block(struct fs_rig *r)
{
	return from_le64(((const struct superblock *)(const void *)memory_blocks_page(r->blocks, 0))->root);
}

static struct fs_rig *rig_with_items(void)
{
	struct fs_rig *r = fs_rig_new(4096, 1);
	uint8_t value[100] = { 0 };

	for (uint64_t i = 0; i < 1000; i++) {
		struct tree_key key = tree_key(2 + i, ITEM_INODE, 0);

		assert_int_equal(tree_insert(&r->fs, &key, value, sizeof value), 0);
		if (i % 100 == 99)
			assert_int_equal(fs_rig_commit(r), 0);
	}
	return r;
}

/* ---- judging --------------------------------------------------------------------------------------- */

static void fs_transaction_a_page_is_judged_once_until_it_is_another(void **state)
{
	struct fs_rig *r = rig_with_items(), *cold;
	struct tree_item item;
	uint64_t checks;
	char why[WHY_BYTES];

	(void)state;
	memory_blocks_keep(r->blocks);
	cold = fs_rig_mount(memory_blocks_prefix(r->blocks, 0), why);
	assert_int_equal(cold->fs.transaction.checks, 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(tree_find(&cold->fs, &a_key, &item), 0);
		fs_abort(&cold->fs);
	}
	checks = cold->fs.transaction.checks;
	assert_int_equal(checks, 3);	/* superblock, root, leaf */
	/* What we sealed ourselves need not be judged. */
	assert_int_equal(tree_replace(&cold->fs, &a_key, "other", 5), 0);
	assert_int_equal(fs_rig_commit(cold), 0);
	assert_int_equal(tree_find(&cold->fs, &a_key, &item), 0);
	fs_abort(&cold->fs);
	assert_int_equal(cold->fs.transaction.checks, checks);
	/* It comes back from the disk as something else. */
	memory_blocks_page(cold->blocks, root_block(cold))[2000] ^= 4;
	assert_int_equal(tree_find(&cold->fs, &a_key, &item), -EIO);
	assert_int_equal(cold->fs.transaction.damage.block, root_block(cold));
	assert_string_equal(cold->fs.transaction.damage.what, "its checksum does not hold");
	fs_abort(&cold->fs);
	memory_blocks_page(cold->blocks, root_block(cold))[2000] ^= 4;
	assert_int_equal(tree_find(&cold->fs, &a_key, &item), 0);
	fs_rig_free(cold);
	fs_rig_free(r);
}

static void fs_transaction_a_block_that_cannot_be_read_is_named(void **state)
{
	struct fs_rig *r = rig_with_items();
	struct tree_item item;

	(void)state;
	memory_blocks_fail(r->blocks, root_block(r));
	assert_int_equal(tree_find(&r->fs, &a_key, &item), -EIO);
	assert_int_equal(r->fs.transaction.damage.block, root_block(r));
	assert_string_equal(r->fs.transaction.damage.what, "it cannot be read");
	fs_abort(&r->fs);
	memory_blocks_fail(r->blocks, UINT64_MAX);
	assert_int_equal(tree_find(&r->fs, &a_key, &item), 0);
	fs_rig_free(r);
}

/* ---- what is refused ------------------------------------------------------------------------------- */

static void fs_transaction_after_an_error_it_can_only_be_aborted(void **state)
{
	struct fs_rig *r = rig_with_items();
	struct tree_item item;
	uint64_t commits = memory_blocks_figures(r->blocks)->commits;

	(void)state;
	assert_int_equal(tree_delete(&r->fs, &a_key), 0);
	assert_int_equal(transaction_fail(&r->fs.transaction, -E2BIG), -E2BIG);
	assert_int_equal(tree_find(&r->fs, &a_key, &item), -E2BIG);
	assert_int_equal(tree_insert(&r->fs, &a_key, "x", 1), -E2BIG);
	assert_int_equal(fs_rig_commit(r), -E2BIG);
	assert_int_equal(memory_blocks_figures(r->blocks)->commits, commits);
	assert_int_equal(tree_find(&r->fs, &a_key, &item), 0);
	fs_rig_free(r);
}

static void fs_transaction_a_block_used_as_two_things_is_damage(void **state)
{
	static const uint8_t bytes[2 * BLOCK_BYTES];
	struct fs_rig *r = rig_with_items();
	struct transaction *t = &r->fs.transaction;
	struct tree_item item;
	const uint8_t *page;
	uint8_t *changed;

	(void)state;
	/* A node as data. */
	assert_int_equal(tree_find(&r->fs, &a_key, &item), 0);
	assert_int_equal(transaction_data_change(t, root_block(r), &changed), -EIO);
	fs_abort(&r->fs);
	/* Written, and a page. */
	assert_int_equal(transaction_data_write(t, 1000 * BLOCK_BYTES + 5, bytes, BLOCK_BYTES), 0);
	assert_int_equal(transaction_data_change(t, 1001, &changed), -EIO);
	assert_int_equal(t->damage.block, 1001);
	fs_abort(&r->fs);
	assert_int_equal(transaction_data_change(t, 1001, &changed), 0);
	assert_int_equal(transaction_data_write(t, 1000 * BLOCK_BYTES + 5, bytes, BLOCK_BYTES), -EIO);
	fs_abort(&r->fs);
	/* Written twice, and written and freed. */
	assert_int_equal(transaction_data_write(t, 1000 * BLOCK_BYTES, bytes, 2 * BLOCK_BYTES), 0);
	assert_int_equal(transaction_data_write(t, 1001 * BLOCK_BYTES, bytes, 1), -EIO);
	fs_abort(&r->fs);
	assert_int_equal(transaction_data_write(t, 1000 * BLOCK_BYTES, bytes, 2 * BLOCK_BYTES), 0);
	assert_int_equal(space_free(&r->fs, 1001, 5), -EIO);
	fs_abort(&r->fs);
	/* Freed, and read. */
	assert_int_equal(space_free(&r->fs, 1001, 5), 0);
	assert_int_equal(transaction_data_read(t, 1003, &page), -EIO);
	fs_abort(&r->fs);
	assert_int_equal(transaction_data_read(t, 1003, &page), 0);
	assert_int_equal(space_free(&r->fs, 1001, 5), -EIO);
	fs_abort(&r->fs);
	/* What holds no data. */
	assert_int_equal(transaction_data_read(t, GROUP_FIRST, &page), -EIO);
	fs_abort(&r->fs);
	assert_int_equal(transaction_data_fresh(t, 1 << 30, &changed), -EIO);
	fs_abort(&r->fs);
	fs_rig_free(r);
}

static void fs_transaction_has_bounds_and_says_how_far_they_are(void **state)
{
	static const uint8_t byte;
	struct fs_rig *r = rig_with_items();
	struct transaction *t = &r->fs.transaction;
	const uint8_t *page;
	uint8_t *changed;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(transaction_data_read(t, 1000 + i, &page), 0);
	for (unsigned i = 0; i < BLOCKS_CHANGES_MAX; i++) {
		assert_int_equal(transaction_changes_left(t), BLOCKS_CHANGES_MAX - i);
		assert_int_equal(transaction_data_change(t, 1000 + i * 5, &changed), 0);
		changed[7] = 9;
	}
	assert_int_equal(transaction_data_change(t, 3000, &changed), -E2BIG);
	fs_abort(&r->fs);
	assert_int_equal(transaction_data_read(t, 1000, &page), 0);
	assert_int_equal(page[7], 0);
	for (unsigned i = 0; i < BLOCKS_RUNS_MAX; i++) {
		assert_int_equal(transaction_runs_left(t), BLOCKS_RUNS_MAX - i);
		assert_int_equal(transaction_data_write(t, (2000 + i) * BLOCK_BYTES, &byte, 1), 0);
	}
	assert_int_equal(transaction_data_write(t, 3000 * BLOCK_BYTES, &byte, 1), -E2BIG);
	assert_int_equal(fs_rig_commit(r), -E2BIG);
	fs_rig_free(r);
}

static void fs_transaction_read_only_refuses_every_change(void **state)
{
	struct fs_rig *r = rig_with_items();
	struct tree_item item;

	(void)state;
	memory_blocks_read_only(r->blocks, true);
	assert_int_equal(tree_delete(&r->fs, &a_key), -EROFS);
	fs_abort(&r->fs);
	assert_int_equal(tree_find(&r->fs, &a_key, &item), 0);
	fs_abort(&r->fs);
	assert_int_equal(fs_rig_damages(r, 4096, true), 0);
	fs_rig_free(r);
}

/* ---- mount ----------------------------------------------------------------------------------------- */

static void mount_says(struct fs_rig *r, int error, const char *what)
{
	char why[WHY_BYTES] = "";

	assert_int_equal(fs_mount(&r->fs, why), error);
	assert_non_null(strstr(why, what));
}

static void fs_mount_refuses_what_it_does_not_know_in_one_sentence(void **state)
{
	struct fs_rig *r = rig_with_items();
	uint8_t *page = memory_blocks_page(r->blocks, 0), before[BLOCK_BYTES];
	struct superblock *s = (void *)page;
	uint64_t number;
	char why[WHY_BYTES];

	(void)state;
	memcpy(before, page, BLOCK_BYTES);
	s->version = to_le32(2);
	block_seal(page, 0);
	mount_says(r, -ENOTSUP, "version 2");
	memcpy(page, before, BLOCK_BYTES);
	s->incompat = to_le64(0x20);
	block_seal(page, 0);
	mount_says(r, -ENOTSUP, "20");
	memcpy(page, before, BLOCK_BYTES);
	s->block_count = to_le64(5000);
	block_seal(page, 0);
	mount_says(r, -ERANGE, "5000");
	memcpy(page, before, BLOCK_BYTES);
	s->root = to_le64(GROUP_FIRST);
	block_seal(page, 0);
	mount_says(r, -EIO, "root");
	memcpy(page, before, BLOCK_BYTES);
	page[1000] = 1;
	mount_says(r, -EIO, "checksum");
	block_seal(page, 0);
	mount_says(r, -EIO, "reserved");
	memset(page, 0, BLOCK_BYTES);
	mount_says(r, -EINVAL, "no filesystem");
	memcpy(page, before, BLOCK_BYTES);
	memory_blocks_fail(r->blocks, 0);
	mount_says(r, -EIO, "cannot be read");
	memory_blocks_fail(r->blocks, UINT64_MAX);
	s->compat = to_le64(1);
	s->ro_compat = to_le64(1);
	block_seal(page, 0);
	assert_int_equal(fs_mount(&r->fs, why), 0);
	assert_true(r->fs.read_only);
	assert_int_equal(fs_inode_new(&r->fs, &number), -EROFS);
	fs_rig_free(r);
}

static void fs_mount_of_a_volume_too_small_is_refused(void **state)
{
	struct memory_blocks *blocks = memory_blocks_new(FS_BLOCKS_MIN - 1, 1);
	char why[WHY_BYTES] = "";
	struct fs fs;

	(void)state;
	assert_int_equal(fs_new(&fs, memory_blocks_io(blocks), memory_blocks_blocks(blocks), why), -EINVAL);
	assert_non_null(strstr(why, "1024 KiB"));
	memory_blocks_free(blocks);
}

static void fs_mount_after_a_wipe_nothing_of_the_old_one_is_met(void **state)
{
	static const uint8_t uuid[UUID_BYTES] = "another";
	struct fs_rig *r = fs_rig_new(1 << 26, 1);
	uint64_t next = 0, block;
	unsigned steps = 0;
	uint32_t count;
	char why[WHY_BYTES];
	int error;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(space_allocate(&r->fs, (i + 1ull) << 20, 100000, &block, &count), 0);
		assert_int_equal(fs_rig_commit(r), 0);
	}
	memory_blocks_miss(r->blocks, 3);
	while (next < 1 << 26) {
		error = fs_wipe(&r->fs, &next);
		assert_true(error == 0 || error == -EAGAIN);
		steps++;
	}
	memory_blocks_miss(r->blocks, 0);
	assert_true(steps >= 4);
	assert_int_equal(fs_mount(&r->fs, why), -EINVAL);
	assert_int_equal(FS_RIG_DO(r, fs_format(&r->fs, uuid, 2)), 0);
	assert_int_equal(fs_rig_damages(r, 16 << 20, true), 0);
	fs_rig_free(r);
}

static void fs_mount_numbers_of_inodes_are_never_given_twice(void **state)
{
	struct fs_rig *r = fs_rig_new(256, 1);
	uint64_t first, second;
	struct fs_figures figures;

	(void)state;
	assert_int_equal(fs_inode_new(&r->fs, &first), 0);
	assert_int_equal(fs_rig_commit(r), 0);
	assert_int_equal(fs_inode_gone(&r->fs), 0);
	assert_int_equal(fs_rig_commit(r), 0);
	assert_int_equal(fs_inode_new(&r->fs, &second), 0);
	assert_int_equal(first, FS_ROOT_INODE + 1);
	assert_int_equal(second, first + 1);
	assert_int_equal(fs_rig_commit(r), 0);
	assert_int_equal(fs_figures(&r->fs, &figures), 0);
	assert_int_equal(figures.inodes, 2);
	assert_int_equal(figures.blocks, 256 - GROUP_FIRST - 1);
	assert_int_equal(figures.free, figures.blocks - 1);
	fs_rig_free(r);
}

/* ---- what whole operations log --------------------------------------------------------------------- */

enum { INODE_BYTES = 112, ANNOTATION_BYTES = 64 };
static const uint8_t inode[INODE_BYTES] = { 1, 2, 3 };

/* As a create does it: an inode, a name of 20 bytes, the parent's times and size, the counts of the superblock. */
static void create(struct fs_rig *r, uint64_t i)
{
	static const uint8_t annotation[ANNOTATION_BYTES];
	struct tree_key parent = tree_key(FS_ROOT_INODE, ITEM_INODE, 0);
	struct tree_key name = tree_key(FS_ROOT_INODE, ITEM_NAME, (i * 0x9e3779b97f4a7c15u) >> 1);
	struct tree_key key;
	uint64_t number, lsn;
	uint8_t *value;
	uint16_t len;

	assert_int_equal(fs_inode_new(&r->fs, &number), 0);
	key = tree_key(number, ITEM_INODE, 0);
	assert_int_equal(tree_insert(&r->fs, &key, inode, sizeof inode), 0);
	assert_int_equal(tree_insert(&r->fs, &name, inode, 12 + 20), 0);
	assert_int_equal(tree_change(&r->fs, &parent, &value, &len), 0);
	for (unsigned n = 0; n < 32; n++)
		value[32 + n] = (uint8_t)(i >> n % 8 * 8);
	assert_int_equal(fs_commit(&r->fs, annotation, sizeof annotation, &lsn), 0);
}

static void fs_transaction_a_create_logs_less_than_1_kib(void **state)
{
	struct fs_rig *r = fs_rig_new(GROUP_BLOCKS, 1);
	struct tree_key root = tree_key(FS_ROOT_INODE, ITEM_INODE, 0);
	const struct memory_blocks_figures *figures = memory_blocks_figures(r->blocks);
	uint64_t start, over = 0, most = 0;

	(void)state;
	assert_int_equal(tree_insert(&r->fs, &root, inode, sizeof inode), 0);
	assert_int_equal(fs_rig_commit(r), 0);
	for (uint64_t i = 0; i < 5000; i++)
		create(r, i);
	start = figures->logged;
	for (uint64_t i = 5000; i < 10000; i++) {
		create(r, i);
		over += figures->logged_last > 1024;
		most = max_u64(most, figures->logged_last);
	}
	if (getenv("FS_VERBOSE"))
		fprintf(stderr, "a create logs %lu bytes on average, %lu of 5000 more than 1 KiB, %lu at most\n",
			(figures->logged - start) / 5000, over, most);
	assert_true((figures->logged - start) / 5000 <= 1024);
	assert_true(over < 5000 / 20);		/* those that divide a node */
	fs_rig_free(r);
}

/* As an append does it: bytes at the end of a page, or a new block; the inode's size and times; the extent longer. */
static void append(struct fs_rig *r, uint64_t i, uint64_t *block)
{
	static const uint8_t annotation[ANNOTATION_BYTES];
	struct tree_key key = tree_key(7, ITEM_INODE, 0), extents = tree_key(7, ITEM_EXTENT, 0);
	uint8_t *page, *value;
	uint64_t lsn, next;
	uint32_t count;
	uint16_t len;

	if (i % 4 == 0) {
		assert_int_equal(space_allocate(&r->fs, *block + 1, 1, &next, &count), 0);
		assert_int_equal(tree_change(&r->fs, &extents, &value, &len), 0);
		value[8] = (uint8_t)(i / 4);
		value[9] = (uint8_t)(i / 1024);
		assert_int_equal(transaction_data_fresh(&r->fs.transaction, next, &page), 0);
		*block = next;
	} else {
		assert_int_equal(transaction_data_change(&r->fs.transaction, *block, &page), 0);
	}
	memset(page + i % 4 * 1024, 0xaa, 1024);
	assert_int_equal(tree_change(&r->fs, &key, &value, &len), 0);
	for (unsigned n = 0; n < 40; n++)
		value[n] = (uint8_t)(i >> n % 8 * 8);
	assert_int_equal(fs_commit(&r->fs, annotation, sizeof annotation, &lsn), 0);
}

static void fs_transaction_an_append_of_1_kib_logs_less_than_512_bytes_more(void **state)
{
	struct fs_rig *r = fs_rig_new(GROUP_BLOCKS, 1);
	struct tree_key key = tree_key(7, ITEM_INODE, 0), extents = tree_key(7, ITEM_EXTENT, 0);
	const struct memory_blocks_figures *figures = memory_blocks_figures(r->blocks);
	uint64_t block = 0, most = 0;

	(void)state;
	assert_int_equal(tree_insert(&r->fs, &key, inode, sizeof inode), 0);
	assert_int_equal(tree_insert(&r->fs, &extents, inode, sizeof(struct extent)), 0);
	assert_int_equal(fs_rig_commit(r), 0);
	for (uint64_t i = 0; i < 2000; i++) {
		append(r, i, &block);
		most = max_u64(most, figures->logged_last);
	}
	if (getenv("FS_VERBOSE"))
		fprintf(stderr, "an append of 1 KiB logs at most %lu bytes\n", most);
	assert_true(most <= 1024 + 512);
	fs_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_transaction_a_page_is_judged_once_until_it_is_another),
	cmocka_unit_test(fs_transaction_a_block_that_cannot_be_read_is_named),
	cmocka_unit_test(fs_transaction_after_an_error_it_can_only_be_aborted),
	cmocka_unit_test(fs_transaction_a_block_used_as_two_things_is_damage),
	cmocka_unit_test(fs_transaction_has_bounds_and_says_how_far_they_are),
	cmocka_unit_test(fs_transaction_read_only_refuses_every_change),
	cmocka_unit_test(fs_mount_refuses_what_it_does_not_know_in_one_sentence),
	cmocka_unit_test(fs_mount_of_a_volume_too_small_is_refused),
	cmocka_unit_test(fs_mount_after_a_wipe_nothing_of_the_old_one_is_met),
	cmocka_unit_test(fs_mount_numbers_of_inodes_are_never_given_twice),
	cmocka_unit_test(fs_transaction_a_create_logs_less_than_1_kib),
	cmocka_unit_test(fs_transaction_an_append_of_1_kib_logs_less_than_512_bytes_more),
};
TEST_GROUP(fs_transaction, tests)
