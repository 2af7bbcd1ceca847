/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of files: where they are, what holes and unwritten blocks read as, how large ones go, what a full volume
 * still can. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "extent.h"
#include "files_rig.h"

enum { KEEP = FALLOC_FL_KEEP_SIZE, PUNCH = FALLOC_FL_PUNCH_HOLE | KEEP, ZERO = FALLOC_FL_ZERO_RANGE };

static uint8_t bytes[1 << 20], got[1 << 20];

static void fill(uint64_t len)
{
	for (uint64_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 7 % 255 + 1);
}

static void write_at(struct files_rig *r, uint64_t ino, uint64_t offset, uint64_t len)
{
	fill(len);
	assert_int_equal(files_rig_write(r, &r->root, ino, offset, bytes, len), 0);
}

static int fallocate_at(struct files_rig *r, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	return RIG(r, op_fallocate(r->f, &r->root, ino, mode, offset, len));
}

static bool zeros(struct files_rig *r, uint64_t ino, uint64_t offset, uint64_t len)
{
	assert_int_equal(files_rig_read(r, ino, offset, got, len), len);
	for (uint64_t i = 0; i < len; i++)
		if (got[i])
			return false;
	return true;
}

static uint64_t seek(struct files_rig *r, uint64_t ino, uint64_t offset, int whence)
{
	uint64_t out;
	int error = RIG(r, op_seek(r->f, ino, offset, whence, &out));

	return error ? (uint64_t)error : out;
}

/* Every second of @blocks blocks is written: as many extents as there can be. */
static void comb(struct files_rig *r, uint64_t ino, unsigned blocks)
{
	for (unsigned i = 0; i < blocks; i += 2)
		write_at(r, ino, (uint64_t)i * BLOCK_BYTES, BLOCK_BYTES);
}

static void fs_file_of_256_bytes_lies_in_the_tree_and_one_more_takes_a_block(void **state)
{
	struct files_rig *r = files_rig_new(300, 1);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644), free_before = rig_free_blocks(r);

	(void)state;
	write_at(r, file, 0, FILE_INLINE_MAX);
	assert_int_equal(rig_stat(r, file).blocks, 0);
	assert_int_equal(rig_free_blocks(r), free_before);
	write_at(r, file, FILE_INLINE_MAX, 1);
	assert_int_equal(rig_stat(r, file).blocks, 8);
	assert_int_equal(rig_free_blocks(r), free_before - 1);
	fill(FILE_INLINE_MAX);
	assert_int_equal(files_rig_read(r, file, 0, got, 1000), FILE_INLINE_MAX + 1);
	assert_memory_equal(got, bytes, FILE_INLINE_MAX);
	assert_int_equal(rig_truncate(r, file, 0), 0);
	assert_int_equal(rig_free_blocks(r), free_before);
	files_rig_free(r);
}

static void fs_file_that_shrank_grows_with_zeros(void **state)
{
	static const uint64_t sizes[] = { 100, 256, 3000, 4096, 9000, 40000 };
	struct files_rig *r = files_rig_new(400, 2);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644);

	(void)state;
	for (unsigned i = 0; i < 6; i++)
		for (unsigned cut = 1; cut < 4; cut++) {
			uint64_t size = sizes[i], small = size * cut / 4;

			write_at(r, file, 0, size);
			assert_int_equal(rig_truncate(r, file, small), 0);
			assert_int_equal(rig_truncate(r, file, size + 5000), 0);
			assert_true(zeros(r, file, small, size + 5000 - small));
			assert_false(zeros(r, file, small - 1, 1));
			write_at(r, file, size + 6000, 10);
			assert_true(zeros(r, file, small, size + 6000 - small));
			assert_int_equal(rig_truncate(r, file, 0), 0);
		}
	files_rig_free(r);
}

static void fs_file_holes_and_data_are_told_to_the_block(void **state)
{
	struct files_rig *r = files_rig_new(400, 3);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644);

	(void)state;
	write_at(r, file, 3 * BLOCK_BYTES + 10, 100);
	write_at(r, file, 10 * BLOCK_BYTES, BLOCK_BYTES);
	assert_int_equal(rig_truncate(r, file, 20 * BLOCK_BYTES + 1), 0);
	assert_int_equal(rig_stat(r, file).blocks, 16);
	assert_int_equal(seek(r, file, 0, SEEK_DATA), 3 * BLOCK_BYTES);
	assert_int_equal(seek(r, file, 3 * BLOCK_BYTES + 5, SEEK_DATA), 3 * BLOCK_BYTES + 5);
	assert_int_equal(seek(r, file, 3 * BLOCK_BYTES, SEEK_HOLE), 4 * BLOCK_BYTES);
	assert_int_equal(seek(r, file, 5 * BLOCK_BYTES, SEEK_HOLE), 5 * BLOCK_BYTES);
	assert_int_equal(seek(r, file, 5 * BLOCK_BYTES, SEEK_DATA), 10 * BLOCK_BYTES);
	assert_int_equal(seek(r, file, 11 * BLOCK_BYTES, SEEK_DATA), (uint64_t)-ENXIO);
	assert_int_equal(seek(r, file, 20 * BLOCK_BYTES + 1, SEEK_HOLE), (uint64_t)-ENXIO);
	assert_int_equal(seek(r, file, 11 * BLOCK_BYTES, SEEK_HOLE), 11 * BLOCK_BYTES);
	assert_int_equal(seek(r, file, 0, 99), (uint64_t)-EINVAL);
	files_rig_free(r);
}

static void fs_file_allocated_blocks_read_as_zeros_whatever_was_there(void **state)
{
	struct files_rig *r = files_rig_new(300, 4);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644), free_before = rig_free_blocks(r), end;

	(void)state;
	assert_int_equal(fallocate_at(r, file, KEEP, 0, 20 * BLOCK_BYTES), 0);
	assert_int_equal(rig_stat(r, file).size, 0);
	assert_int_equal(rig_stat(r, file).blocks, 160);
	end = rig_free_blocks(r);
	assert_in_range(end, free_before - 22, free_before - 20);
	/* What a discard left there is nobody's promise. */
	for (uint64_t b = 4; b < 300; b++)
		if (!memory_blocks_page(r->blocks, b))
			memset(memory_blocks_make(r->blocks, b), 0xee, BLOCK_BYTES);
	assert_int_equal(rig_truncate(r, file, 20 * BLOCK_BYTES), 0);
	assert_int_equal(seek(r, file, 0, SEEK_DATA), (uint64_t)-ENXIO);
	assert_true(zeros(r, file, 0, 20 * BLOCK_BYTES));
	write_at(r, file, 5 * BLOCK_BYTES + 7, 9);
	assert_int_equal(seek(r, file, 0, SEEK_DATA), 5 * BLOCK_BYTES);
	assert_int_equal(seek(r, file, 5 * BLOCK_BYTES, SEEK_HOLE), 6 * BLOCK_BYTES);
	assert_true(zeros(r, file, 0, 5 * BLOCK_BYTES + 7));
	assert_true(zeros(r, file, 5 * BLOCK_BYTES + 16, 14 * BLOCK_BYTES));
	assert_int_equal(rig_free_blocks(r), end);
	files_rig_free(r);
}

static void fs_file_punched_ranges_are_zeros_and_their_blocks_come_back(void **state)
{
	struct files_rig *r = files_rig_new(300, 5);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644), free_before, frees;

	(void)state;
	write_at(r, file, 0, 20 * BLOCK_BYTES + 100);
	free_before = rig_free_blocks(r);
	frees = op_frees(r->f);
	assert_int_equal(fallocate_at(r, file, PUNCH, BLOCK_BYTES + 10, 3 * BLOCK_BYTES), 0);
	assert_int_equal(rig_free_blocks(r), free_before + 2);
	assert_int_equal(op_frees(r->f), frees + 1);
	assert_true(zeros(r, file, BLOCK_BYTES + 10, 3 * BLOCK_BYTES));
	assert_false(zeros(r, file, BLOCK_BYTES + 9, 1));
	assert_false(zeros(r, file, 4 * BLOCK_BYTES + 10, 1));
	assert_int_equal(fallocate_at(r, file, PUNCH, 20 * BLOCK_BYTES, 100), 0);	/* to the end: its block too */
	assert_int_equal(rig_free_blocks(r), free_before + 3);
	assert_int_equal(rig_stat(r, file).size, 20 * BLOCK_BYTES + 100);
	assert_int_equal(fallocate_at(r, file, FALLOC_FL_PUNCH_HOLE, 0, 1), -EOPNOTSUPP);
	assert_int_equal(fallocate_at(r, file, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	assert_int_equal(fallocate_at(r, file, 0, 0, 0), -EINVAL);
	assert_int_equal(fallocate_at(r, FS_ROOT_INODE, 0, 0, 1), -EISDIR);
	assert_int_equal(files_rig_damages(r), 0);
	files_rig_free(r);
}

static void fs_file_zeroed_ranges_keep_their_blocks(void **state)
{
	struct files_rig *r = files_rig_new(300, 6);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644), free_before;

	(void)state;
	write_at(r, file, 0, 10 * BLOCK_BYTES);
	free_before = rig_free_blocks(r);
	assert_int_equal(fallocate_at(r, file, ZERO, 100, 8 * BLOCK_BYTES), 0);
	assert_int_equal(rig_free_blocks(r), free_before);
	assert_true(zeros(r, file, 100, 8 * BLOCK_BYTES));
	assert_false(zeros(r, file, 99, 1));
	assert_false(zeros(r, file, 8 * BLOCK_BYTES + 100, 1));
	assert_int_equal(fallocate_at(r, file, ZERO | KEEP, 9 * BLOCK_BYTES, 5 * BLOCK_BYTES), 0);
	assert_int_equal(rig_stat(r, file).size, 10 * BLOCK_BYTES);
	assert_int_equal(fallocate_at(r, file, ZERO, 9 * BLOCK_BYTES, 6 * BLOCK_BYTES + 1), 0);
	assert_int_equal(rig_stat(r, file).size, 15 * BLOCK_BYTES + 1);
	assert_true(zeros(r, file, 9 * BLOCK_BYTES, 6 * BLOCK_BYTES + 1));
	files_rig_free(r);
}

/* Who writes in parts and goes on after a part that found no room in the log leaves nothing out. */
static void fs_file_write_that_was_not_committed_has_written_nothing(void **state)
{
	struct files_rig *r = files_rig_new(2000, 8);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644), done = 0, again = 0;

	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(1 + i / 1000);
	memory_blocks_miss(r->blocks, 3);
	while (done < sizeof bytes) {
		uint32_t written = 77;
		int result = op_write(r->f, &r->root, file, done, bytes + done, min_u64(sizeof bytes - done, 9000), 0,
				      &written);

		assert_int_equal(written > 0, result == 0);
		done += written;
		again += files_rig_again(r, result);
	}
	assert_true(again > 10);
	memory_blocks_miss(r->blocks, 0);
	assert_int_equal(files_rig_read(r, file, 0, got, sizeof got), sizeof got);
	assert_memory_equal(got, bytes, sizeof bytes);
	files_rig_free(r);
}

static unsigned extents_of(struct files_rig *r, uint64_t ino)
{
	unsigned count = 0;

	for (uint64_t at = 0;; count++) {
		struct extent_run run;
		int result = RIG(r, files_looked(r->f, extent_at(r->f, ino, at, &run)));

		if (result == -ENOENT)
			return count;
		assert_int_equal(result, 0);
		at = extent_end(&run);
	}
}

/* As logs, databases and downloads do it. */
static void fs_file_files_that_grow_in_turn_lie_in_few_pieces(void **state)
{
	enum { FILES = 16, APPENDS = 200 };
	struct files_rig *r = files_rig_new(20000, 9);
	uint64_t file[FILES];
	char name[16];

	(void)state;
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "f%u", i);
		file[i] = rig_file(r, FS_ROOT_INODE, name, 0644);
	}
	for (uint64_t at = 0; at < APPENDS; at++)
		for (unsigned i = 0; i < FILES; i++)
			assert_int_equal(files_rig_write(r, &r->root, file[i], at * BLOCK_BYTES, bytes,
							 BLOCK_BYTES), 0);
	for (unsigned i = 0; i < FILES; i++)
		assert_in_range(extents_of(r, file[i]), 1, 9);
	assert_int_equal(files_rig_damages(r), 0);
	files_rig_free(r);
}

static void fs_file_ends_at_16_tib(void **state)
{
	struct files_rig *r = files_rig_new(300, 7);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	uint32_t written;

	(void)state;
	assert_int_equal(rig_truncate(r, file, FILE_BYTES_MAX + 1), -EFBIG);
	assert_int_equal(rig_truncate(r, file, FILE_BYTES_MAX), 0);
	assert_int_equal(RIG(r, op_write(r->f, &r->root, file, FILE_BYTES_MAX, "x", 1, 0, &written)), -EFBIG);
	assert_int_equal(RIG(r, op_write(r->f, &r->root, file, UINT64_MAX, "x", 1, 0, &written)), -EFBIG);
	assert_int_equal(RIG(r, op_write(r->f, &r->root, file, FILE_BYTES_MAX - 1, "xy", 2, 0, &written)), 0);
	assert_int_equal(written, 1);
	assert_int_equal(fallocate_at(r, file, 0, FILE_BYTES_MAX - 1, 2), -EFBIG);
	assert_int_equal(fallocate_at(r, file, 0, UINT64_MAX - 5, UINT64_MAX), -EFBIG);
	assert_int_equal(fallocate_at(r, file, 0, 0, 1 << 30), -ENOSPC);
	assert_int_equal(r->records, 0);
	assert_int_equal(rig_truncate(r, file, 3), 0);
	assert_true(zeros(r, file, 0, 3));
	files_rig_free(r);
}

/* What is there after loss of power between two records of a cut: the new size, and all blocks in the end. */
struct cut { uint64_t file, size, free_after, copies; };

static void cut_between(struct files_rig *r)
{
	struct cut *cut = r->context;
	struct files_rig *copy = files_rig_copy(r);

	cut->copies++;
	assert_int_equal(files_rig_damages(copy), 0);
	if (cut->size != UINT64_MAX)
		assert_int_equal(rig_stat(copy, cut->file).size, cut->size);
	files_rig_reclaim(copy);
	assert_int_equal(rig_free_blocks(copy), cut->free_after);
	assert_int_equal(files_rig_damages(copy), 0);
	files_rig_free(copy);
}

static void fs_file_of_a_thousand_extents_is_cut_in_bounded_records_and_any_crash_is_finished(void **state)
{
	struct files_rig *r = files_rig_new(3000, 8);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	struct cut cut = { file, 5, rig_free_blocks(r) - 1, 0 };	/* five bytes keep their block */

	(void)state;
	comb(r, file, 2000);
	r->between = cut_between;
	r->context = &cut;
	assert_int_equal(rig_truncate(r, file, 5), 0);
	assert_in_range(cut.copies, 10, 100);
	assert_int_equal(rig_free_blocks(r), cut.free_after);
	files_rig_free(r);
}

static void fs_file_unlinked_goes_in_bounded_records_and_any_crash_is_finished(void **state)
{
	struct files_rig *r = files_rig_new(3000, 9);
	uint64_t free_at_start = rig_free_blocks(r), file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	struct cut cut = { file, UINT64_MAX, free_at_start, 0 };

	(void)state;
	comb(r, file, 2000);
	r->between = cut_between;
	r->context = &cut;
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f")), 0);
	assert_int_equal(r->records, 1);
	assert_true(op_reclaim_wanted(r->f));
	files_rig_reclaim(r);
	assert_in_range(cut.copies, 10, 100);
	assert_int_equal(rig_free_blocks(r), free_at_start);
	files_rig_free(r);
}

static void fs_file_does_not_grow_before_its_old_blocks_are_gone(void **state)
{
	struct files_rig *r = files_rig_new(3000, 10);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	struct attributes_set set = { .valid = SET_SIZE, .size = 100 };
	struct attributes a;

	(void)state;
	comb(r, file, 2000);
	assert_int_equal(op_setattr(r->f, &r->root, file, &set, &a), OP_AGAIN);
	assert_int_equal(a.size, 100);
	write_at(r, file, 1999 * BLOCK_BYTES, 1);
	for (unsigned i = 0; i < 7; i++)
		assert_true(zeros(r, file, 100 + (uint64_t)i * (1 << 20), 1 << 20));
	assert_int_equal(rig_stat(r, file).blocks, 16);
	files_rig_reclaim(r);
	assert_int_equal(files_rig_damages(r), 0);
	files_rig_free(r);
}

static void fs_file_that_is_being_cut_can_be_grown_opened_and_unlinked(void **state)
{
	struct attributes_set cut = { .valid = SET_SIZE, .size = 4096 }, grow = { .valid = SET_SIZE, .size = 1 << 20 };
	struct attributes a;

	(void)state;
	for (unsigned way = 0; way < 4; way++) {
		struct files_rig *r = files_rig_new(1000, 15), *copy;
		uint64_t free_at_start = rig_free_blocks(r), file = rig_file(r, FS_ROOT_INODE, "f", 0644);

		comb(r, file, 400);
		assert_int_equal(op_setattr(r->f, &r->root, file, &cut, &a), OP_AGAIN);
		if (way == 0)
			assert_int_equal(rig_set(r, &r->root, file, &grow), 0);
		if (way == 1)
			assert_int_equal(fallocate_at(r, file, 0, 0, 1 << 20), 0);
		if (way == 2)
			assert_int_equal(RIG(r, op_open(r->f, &r->root, file, O_RDWR, &a)), 0);
		if (way < 2)
			assert_true(zeros(r, file, BLOCK_BYTES, (1 << 20) - BLOCK_BYTES));
		assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f")), 0);
		copy = files_rig_copy(r);
		files_rig_reclaim(copy);
		assert_int_equal(rig_free_blocks(copy), free_at_start);
		assert_int_equal(files_rig_damages(copy), 0);
		files_rig_free(copy);
		files_rig_reclaim(r);
		if (way == 2)
			op_release(r->f, file);
		files_rig_reclaim(r);
		assert_int_equal(rig_free_blocks(r), free_at_start);
		assert_int_equal(files_rig_damages(r), 0);
		files_rig_free(r);
	}
}

static void fs_file_that_is_cut_and_given_a_mode_at_once_is_cut_to_the_end(void **state)
{
	struct files_rig *r = files_rig_new(8000, 10);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	struct attributes_set cut = { .valid = SET_SIZE | SET_MODE, .mode = 0400, .size = 100 };

	(void)state;
	comb(r, file, 2000);
	assert_int_equal(rig_set(r, &r->root, file, &(struct attributes_set){ .valid = SET_UID, .uid = 1000 }), 0);
	assert_int_equal(rig_set(r, &r->user, file, &cut), 0);
	assert_true(r->records > 1);
	assert_int_equal(rig_stat(r, file).mode & 07777, 0400);
	assert_int_equal(rig_stat(r, file).size, 100);
	assert_int_equal(rig_set(r, &r->user, file, &cut), -EACCES);
	files_rig_free(r);
}

/* A program that keeps a thousand files open without a name: each of them goes with its own release, in any order, and
 * neither a removal nor a release looks at the others. */
static void fs_file_open_without_a_name_costs_nothing_when_another_one_comes_or_goes(void **state)
{
	enum { FILES = 3000 };
	struct files_rig *r = files_rig_new(3000, 16);
	uint64_t free_at_start = rig_free_blocks(r), inodes[FILES];
	struct attributes a;
	char name[16];

	(void)state;
	files_rig_reclaim(r);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "f%u", i);
		inodes[i] = rig_file(r, FS_ROOT_INODE, name, 0644);
		assert_int_equal(RIG(r, op_open(r->f, &r->root, inodes[i], O_RDWR, &a)), 0);
		assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, name)), 0);
		assert_false(op_reclaim_wanted(r->f));
	}
	for (unsigned i = 0; i < FILES; i++) {
		uint64_t file = inodes[i * 7ull % FILES];
		unsigned turns = 0;

		op_release(r->f, file);
		assert_true(op_reclaim_wanted(r->f));
		assert_int_equal(RIG(r, (turns++, op_reclaim(r->f))), 0);
		assert_in_range(turns, 1, 5);
		assert_false(op_reclaim_wanted(r->f));
		assert_int_equal(op_getattr(r->f, file, &a), -ENOENT);
	}
	assert_int_equal(rig_free_blocks(r), free_at_start);
	assert_int_equal(files_rig_damages(r), 0);
	files_rig_free(r);
}

static void fs_file_unlinked_while_open_is_there_until_closed_or_crashed(void **state)
{
	struct files_rig *r = files_rig_new(400, 11), *copy;
	uint64_t free_at_start = rig_free_blocks(r), file = rig_file(r, FS_ROOT_INODE, "f", 0644);
	struct attributes a;

	(void)state;
	write_at(r, file, 0, 100000);
	assert_int_equal(RIG(r, op_open(r->f, &r->root, file, O_RDWR, &a)), 0);
	assert_int_equal(RIG(r, op_open(r->f, &r->root, file, O_RDONLY, &a)), 0);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f")), 0);
	assert_int_equal(rig_stat(r, file).nlink, 0);
	assert_int_equal(RIG(r, op_link(r->f, &r->root, file, FS_ROOT_INODE, "again", &a)), -ENOENT);
	op_release(r->f, file);
	files_rig_reclaim(r);
	write_at(r, file, 50, 100000);
	copy = files_rig_copy(r);
	files_rig_reclaim(copy);
	assert_int_equal(RIG(copy, op_getattr(copy->f, file, &a)), -ENOENT);
	assert_int_equal(rig_free_blocks(copy), free_at_start);
	files_rig_free(copy);
	op_release(r->f, file);
	files_rig_reclaim(r);
	assert_int_equal(RIG(r, op_getattr(r->f, file, &a)), -ENOENT);
	assert_int_equal(rig_free_blocks(r), free_at_start);
	files_rig_free(r);
}

static void fs_file_a_full_volume_can_be_emptied_by_every_means(void **state)
{
	struct files_rig *r = files_rig_new(1000, 12);
	uint64_t free_at_start = rig_free_blocks(r), files[4];
	char name[20];
	unsigned small = 0;
	struct attributes a;
	int error;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		snprintf(name, sizeof name, "f%u", i);
		files[i] = rig_file(r, FS_ROOT_INODE, name, 0644);
	}
	fill(BLOCK_BYTES);
	for (error = 0; error == 0; small++)
		error = files_rig_write(r, &r->root, files[small % 4], small / 4 * 2 * BLOCK_BYTES, bytes, BLOCK_BYTES);
	assert_int_equal(error, -ENOSPC);
	for (small = 0, error = 0; error == 0; small++) {
		snprintf(name, sizeof name, "s%u", small);
		error = RIG(r, op_mknod(r->f, &r->root, FS_ROOT_INODE, name, S_IFREG, 0, &a));
	}
	assert_int_equal(error, -ENOSPC);
	assert_int_equal(rig_lookup(r, &r->root, FS_ROOT_INODE, name), -ENOENT);
	assert_int_equal(RIG(r, op_setxattr(r->f, &r->root, files[0], "user.a", bytes, 4000, 0)), -ENOSPC);
	assert_int_equal(RIG(r, op_open(r->f, &r->root, files[3], O_RDONLY, &a)), 0);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f3")), 0);
	assert_int_equal(fallocate_at(r, files[0], PUNCH, BLOCK_BYTES * 4, BLOCK_BYTES * 40), 0);
	assert_int_equal(rig_truncate(r, files[1], 7), 0);
	assert_int_equal(RIG(r, op_rename(r->f, &r->root, FS_ROOT_INODE, "f1", FS_ROOT_INODE, "f2", 0)), 0);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f0")), 0);
	assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, "f2")), 0);
	while (small-- > 1) {
		snprintf(name, sizeof name, "s%u", small - 1);
		assert_int_equal(RIG(r, op_unlink(r->f, &r->root, FS_ROOT_INODE, name)), 0);
	}
	op_release(r->f, files[3]);
	files_rig_reclaim(r);
	assert_int_equal(rig_free_blocks(r), free_at_start);
	assert_int_equal(files_rig_damages(r), 0);
	files_rig_free(r);
}

static void fs_file_loses_setuid_when_a_user_changes_it(void **state)
{
	struct files_rig *r = files_rig_new(300, 13);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0777);
	struct attributes_set suid = { .valid = SET_MODE, .mode = 06777 }, cut = { .valid = SET_SIZE, .size = 3 };
	struct attributes_set own = { .valid = SET_UID | SET_GID, .uid = 1000, .gid = 100 };
	uint32_t written;

	(void)state;
	assert_int_equal(rig_set(r, &r->root, file, &suid), 0);
	write_at(r, file, 0, 5);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 06777);
	assert_int_equal(RIG(r, op_write(r->f, &r->user, file, 0, "x", 1, 0, &written)), 0);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 0777);
	assert_int_equal(rig_set(r, &r->root, file, &suid), 0);
	assert_int_equal(RIG(r, op_write(r->f, &r->root, file, 0, "x", 1, WRITE_KILL_PRIVILEGES, &written)), 0);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 0777);
	suid.mode = 06767;		/* setgid without execution by the group is no privilege */
	assert_int_equal(rig_set(r, &r->root, file, &suid), 0);
	assert_int_equal(rig_set(r, &r->root, file, &own), 0);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 02767);
	assert_int_equal(rig_set(r, &r->user, file, &cut), 0);
	assert_int_equal(rig_stat(r, file).mode, S_IFREG | 02767);
	files_rig_free(r);
}

static void fs_file_atime_follows_as_relatime_says(void **state)
{
	struct files_rig *r = files_rig_new(300, 14);
	uint64_t file = rig_file(r, FS_ROOT_INODE, "f", 0777);

	(void)state;
	r->root.now.seconds += 10;
	assert_int_equal(RIG(r, op_accessed(r->f, &r->root, file)), 0);
	assert_int_equal(r->records, 1);
	r->root.now.seconds += 10;
	assert_int_equal(RIG(r, op_accessed(r->f, &r->root, file)), 0);
	assert_int_equal(r->records, 0);
	r->root.now.seconds += 24 * 60 * 60;
	assert_int_equal(RIG(r, op_accessed(r->f, &r->root, file)), 0);
	assert_int_equal(rig_stat(r, file).atime.seconds, r->root.now.seconds);
	files_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(fs_file_of_256_bytes_lies_in_the_tree_and_one_more_takes_a_block),
	cmocka_unit_test(fs_file_write_that_was_not_committed_has_written_nothing),
	cmocka_unit_test(fs_file_files_that_grow_in_turn_lie_in_few_pieces),
	cmocka_unit_test(fs_file_that_shrank_grows_with_zeros),
	cmocka_unit_test(fs_file_holes_and_data_are_told_to_the_block),
	cmocka_unit_test(fs_file_allocated_blocks_read_as_zeros_whatever_was_there),
	cmocka_unit_test(fs_file_punched_ranges_are_zeros_and_their_blocks_come_back),
	cmocka_unit_test(fs_file_zeroed_ranges_keep_their_blocks),
	cmocka_unit_test(fs_file_ends_at_16_tib),
	cmocka_unit_test(fs_file_of_a_thousand_extents_is_cut_in_bounded_records_and_any_crash_is_finished),
	cmocka_unit_test(fs_file_unlinked_goes_in_bounded_records_and_any_crash_is_finished),
	cmocka_unit_test(fs_file_does_not_grow_before_its_old_blocks_are_gone),
	cmocka_unit_test(fs_file_that_is_being_cut_can_be_grown_opened_and_unlinked),
	cmocka_unit_test(fs_file_that_is_cut_and_given_a_mode_at_once_is_cut_to_the_end),
	cmocka_unit_test(fs_file_open_without_a_name_costs_nothing_when_another_one_comes_or_goes),
	cmocka_unit_test(fs_file_unlinked_while_open_is_there_until_closed_or_crashed),
	cmocka_unit_test(fs_file_a_full_volume_can_be_emptied_by_every_means),
	cmocka_unit_test(fs_file_loses_setuid_when_a_user_changes_it),
	cmocka_unit_test(fs_file_atime_follows_as_relatime_says),
};
TEST_GROUP(fs_file, tests)
