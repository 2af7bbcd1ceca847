/* SPDX-License-Identifier: Apache-2.0 */
/* Any damage to a filesystem with something of everything in it, then a check. The input is a list of patches, as in
 * fuzz_fs_image. Whatever is there: nothing crashes or loops, a check ends, what it says of each damage is a sentence;
 * and it finds nothing where nothing was changed. */
#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "files.h"
#include "fs_check.h"
#include "memory_blocks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BLOCKS = 400, STEPS_MAX = 100000 };

static struct memory_blocks *image;
static uint64_t *written, written_count;

static const struct caller caller = { .umask = 022, .now = { 1000000000, 5 } };
static const uint8_t acl[] = {
	2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
	16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
};

static void populate(struct files *f)
{
	static uint8_t bytes[10000] = { 1, 2, 3 };
	struct attributes dir, a;
	uint32_t count;
	char name[20];

	CHECK(op_mkdir(f, &caller, FS_ROOT_INODE, "dir", 0755, &dir) == 0);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(name, sizeof name, "%u", i);
		CHECK(op_mknod(f, &caller, i % 2 ? dir.ino : FS_ROOT_INODE, name, S_IFREG | 0644, 0, &a) == 0);
		CHECK(op_write(f, &caller, a.ino, i % 3 * 5000, bytes, i * 100 + 1, 0, &count) == 0);
	}
	CHECK(op_fallocate(f, &caller, a.ino, FALLOC_FL_KEEP_SIZE, 50000, 9000) == 0);
	CHECK(op_setxattr(f, &caller, a.ino, "user.long", bytes, 2500, 0) == 0);
	CHECK(op_setxattr(f, &caller, a.ino, "system.posix_acl_access", acl, sizeof acl, 0) == 0);
	CHECK(op_link(f, &caller, a.ino, FS_ROOT_INODE, "link", &a) == 0);
	CHECK(op_mkdir(f, &caller, dir.ino, "sub", 0755, &a) == 0);
	CHECK(op_setxattr(f, &caller, a.ino, "system.posix_acl_default", acl, sizeof acl, 0) == 0);
	CHECK(op_symlink(f, &caller, a.ino, "symlink", "../0", &a) == 0);
	CHECK(op_create(f, &caller, dir.ino, "gone", 0644, 2, &a) == 0);
	CHECK(op_write(f, &caller, a.ino, 0, bytes, 9000, 0, &count) == 0);
	CHECK(op_unlink(f, &caller, dir.ino, "gone") == 0);
}

static void image_make(void)
{
	static const uint8_t uuid[UUID_BYTES] = "of a fuzzer";
	struct memory_blocks *blocks = memory_blocks_new(BLOCKS, 1);
	struct files *files = malloc(sizeof *files);
	char why[WHY_BYTES];

	CHECK(files && files_new(files, memory_blocks_io(blocks), memory_blocks_blocks(blocks), why) == 0);
	CHECK(files_format(files, &caller, uuid) == 0);
	populate(files);
	memory_blocks_keep(blocks);
	image = memory_blocks_prefix(blocks, 0);
	memory_blocks_keep(image);
	written = memory_blocks_written(image, &written_count);
	files_delete(files);
	memory_blocks_free(blocks);
	free(files);
}

/* True when anything was. */
static bool patch(struct memory_blocks *blocks, const uint8_t *data, size_t size)
{
	bool patched = false;

	for (size_t at = 0; size - at >= 4 && data[at] != 255;) {
		uint8_t *page = memory_blocks_page(blocks, written[data[at] % written_count]);
		uint32_t offset = (data[at + 1] | (uint32_t)data[at + 2] << 8) % BLOCK_BYTES;
		uint32_t len = data[at + 3];

		at += 4;
		len = (uint32_t)min_u64(min_u64(len, size - at), BLOCK_BYTES - offset);
		memcpy(page + offset, data + at, len);
		patched = patched || len > 0;
		at += len;
	}
	return patched;
}

static uint64_t check(struct files *f, uint64_t memory_bytes)
{
	char text[CHECK_TEXT_BYTES];
	struct fs_check *c;
	uint64_t damages;
	unsigned steps = 0;
	int result;

	CHECK(fs_check_new(&c, f, memory_bytes) == 0);
	while ((result = fs_check_step(c)) == 1)
		CHECK(++steps < STEPS_MAX && fs_check_progress(c) < 1000);
	CHECK(result == 0 || result == -EIO);
	damages = fs_check_figures(c)->damages + (result != 0);
	for (unsigned i = 0; i < min_u64(fs_check_figures(c)->damages, CHECK_DAMAGES_MAX); i++) {
		fs_check_damage_text(fs_check_damage(c, i), text);
		CHECK(memchr(text, 0, sizeof text) && text[0]);
		CHECK(memchr(fs_check_damage(c, i)->path, 0, CHECK_PATH_BYTES));
	}
	fs_check_free(c);
	return damages;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memory_blocks *blocks;
	static struct files files;
	char why[WHY_BYTES] = "";
	bool patched;

	if (!image)
		image_make();
	blocks = memory_blocks_prefix(image, 0);
	patched = patch(blocks, data, size);
	CHECK(files_new(&files, memory_blocks_io(blocks), memory_blocks_blocks(blocks), why) == 0);
	if (files_mount(&files, why) == 0) {
		uint64_t few = check(&files, CHECK_MEMORY_MIN), many = check(&files, 1 << 20);

		CHECK(patched || (few == 0 && many == 0));
		CHECK((few == 0) == (many == 0));
	} else {
		CHECK(patched && why[0]);
	}
	files_delete(&files);
	memory_blocks_free(blocks);
	return 0;
}
