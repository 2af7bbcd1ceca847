/* SPDX-License-Identifier: Apache-2.0 */
/* Any damage to a small filesystem, then any use of it. The input is a list of patches: which of the blocks that were
 * written (1 byte; 255 ends the list), where (2 bytes), how many (1 byte), the bytes. What follows are operations, 4
 * bytes each. Whatever is there: nothing crashes or loops, errors are those that the headers name, an -EIO names its
 * block, and an audit ends. When nothing was patched, the audit finds nothing, before and after. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BLOCKS = 400, ITEMS = 160, EXTENTS = 12, OPERATIONS_MAX = 200, WALK_MAX = 20000 };

static struct memory_blocks *image;
static uint64_t *written, written_count;

static const uint8_t value[ITEM_VALUE_MAX] = { 1, 2, 3 };

/* Two levels of nodes, values of many lengths, some extents. */
static void image_make(void)
{
	struct fs_rig *r = fs_rig_new(BLOCKS, 1);

	for (uint64_t i = 0; i < ITEMS; i++) {
		struct tree_key key = tree_key(1 + i % 7, ITEM_NAME, i);

		CHECK(tree_insert(&r->fs, &key, value, (uint16_t)(i * 61 % ITEM_VALUE_MAX)) == 0);
		CHECK(fs_rig_commit(r) == 0);
	}
	for (uint64_t i = 0; i < EXTENTS; i++) {
		struct tree_key key = tree_key(3, ITEM_EXTENT, i * 10);
		struct extent extent = { 0 };
		uint64_t block;
		uint32_t count;

		CHECK(space_allocate(&r->fs, 0, 1 + i % 5, &block, &count) == 0);
		extent.block = to_le64(block);
		extent.count = to_le32(count);
		CHECK(tree_insert(&r->fs, &key, &extent, sizeof extent) == 0);
		CHECK(fs_rig_commit(r) == 0);
	}
	memory_blocks_keep(r->blocks);
	image = memory_blocks_prefix(r->blocks, 0);
	memory_blocks_keep(image);
	written = memory_blocks_written(image, &written_count);
	fs_rig_free(r);
}

/* Returns how many bytes of the input were patches. */
static size_t patch(struct memory_blocks *blocks, const uint8_t *data, size_t size, bool *patched)
{
	size_t at = 0;

	while (size - at >= 4 && data[at] != 255) {
		uint8_t *page = memory_blocks_page(blocks, written[data[at] % written_count]);
		uint32_t offset = (data[at + 1] | (uint32_t)data[at + 2] << 8) % BLOCK_BYTES;
		uint32_t len = data[at + 3];

		at += 4;
		len = (uint32_t)min_u64(min_u64(len, size - at), BLOCK_BYTES - offset);
		memcpy(page + offset, data + at, len);
		*patched = *patched || len > 0;
		at += len;
	}
	return at < size ? at + 1 : size;
}

static void walk(struct fs_rig *r)
{
	struct tree_key key = { 0 };
	struct tree_item item;
	uint32_t steps = 0;

	while (tree_next(&r->fs, &key, &item) == 0) {
		CHECK(++steps < WALK_MAX && tree_key_compare(&item.key, &key) >= 0 && item.len <= ITEM_VALUE_MAX);
		key = item.key;
		if (++key.at == 0)
			break;
	}
	fs_abort(&r->fs);
}

/* An extent's blocks as an operation on its file uses them: read, changed, freed. */
static int use_extent(struct fs_rig *r, const struct tree_item *item, uint8_t how)
{
	const struct layout *l = &r->fs.transaction.layout;
	struct extent extent;
	const uint8_t *page;
	uint8_t *changed;
	int error;

	if (!extent_check(l, item->value, item->len))
		return 0;
	memcpy(&extent, item->value, sizeof extent);
	if (how % 4 == 0) {
		error = tree_delete(&r->fs, &item->key);
		return error ? error : space_free(&r->fs, from_le64(extent.block), from_le32(extent.count));
	}
	if (how % 4 == 1)
		return transaction_data_read(&r->fs.transaction, from_le64(extent.block), &page);
	if (how % 4 == 2)
		return transaction_data_write(&r->fs.transaction, from_le64(extent.block) * BLOCK_BYTES + how, value,
					      how + 1u);
	error = transaction_data_change(&r->fs.transaction, from_le64(extent.block), &changed);
	if (!error)
		changed[how] ^= 1;
	return error;
}

static int operate(struct fs_rig *r, const uint8_t op[4])
{
	struct tree_key key = tree_key(op[1] % 8, op[0] & 8 ? ITEM_EXTENT : ITEM_NAME, op[2]);
	struct tree_item item;
	uint64_t block;
	uint32_t count;
	int error;

	switch (op[0] % 8) {
	case 0:
		return tree_insert(&r->fs, &key, value, (uint16_t)(op[3] * 3));
	case 1:
		return tree_replace(&r->fs, &key, value, (uint16_t)(op[3] * 3));
	case 2:
		error = tree_next(&r->fs, &key, &item);
		return error ? error : tree_delete(&r->fs, &item.key);
	case 3:
		return tree_previous(&r->fs, &key, &item);
	case 4:
		return space_allocate(&r->fs, op[2], op[3] + 1u, &block, &count);
	case 5:
		error = tree_next(&r->fs, &key, &item);
		return error || item.key.kind != ITEM_EXTENT ? error : use_extent(r, &item, op[3]);
	case 6:
		error = tree_find(&r->fs, &key, &item);
		return error ? error : tree_delete(&r->fs, &key);
	default:
		return space_free_node(&r->fs, op[2]);
	}
}

static void use(struct fs_rig *r, const uint8_t *data, size_t size)
{
	for (unsigned i = 0; i < OPERATIONS_MAX && size >= 4; i++, data += 4, size -= 4) {
		int error = operate(r, data);

		if (error == 0 || error == -ENOENT || error == -EEXIST)
			error = data[0] & 16 ? fs_rig_commit(r) : 0;
		CHECK(error == 0 || error == -EIO || error == -ENOSPC || error == -E2BIG);
		CHECK(error != -EIO || r->fs.transaction.damage.what);
		if (error)
			fs_abort(&r->fs);
	}
	fs_abort(&r->fs);
}

/* Operations of the fuzzer free what is in use and leave what nothing refers to; a tree that was not patched stays
 * good. */
static bool frees_at_will(const uint8_t *data, size_t size)
{
	for (unsigned i = 0; i < OPERATIONS_MAX && size >= 4; i++, data += 4, size -= 4)
		if (data[0] % 8 == 7 || data[0] % 8 == 4 || data[0] % 8 == 2 || data[0] % 8 == 6 || data[0] & 8)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memory_blocks *blocks;
	char why[WHY_BYTES] = "";
	bool patched = false;
	struct fs_rig *r;
	size_t used;

	if (!image)
		image_make();
	blocks = memory_blocks_prefix(image, 0);
	used = patch(blocks, data, size, &patched);
	r = fs_rig_mount(blocks, why);
	if (!r) {
		CHECK(patched && why[0] && memchr(why, 0, sizeof why));
		return 0;
	}
	if (!patched)
		CHECK(fs_rig_damages(r, 4096, true) == 0);
	walk(r);
	use(r, data + used, size - used);
	if (!patched && !frees_at_will(data + used, size - used))
		CHECK(fs_rig_damages(r, 4096, true) == 0);
	fs_rig_damages(r, 4096, false);
	fs_rig_free(r);
	return 0;
}
