/* SPDX-License-Identifier: Apache-2.0 */
/* fallocate(): a bounded part of the range per record, from its start on. What was done already is found done when it
 * is called again, so it goes on where it was; the size changes with the last part. */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>

#include "file.h"

struct range { uint64_t offset, end; };	/* bytes */

/* Blocks of the range that are holes get unwritten blocks; those that are written become unwritten when @zero. */
static int allocate(struct files *f, struct inode *inode, uint64_t first, uint64_t end, bool zero, bool *done)
{
	*done = false;
	for (bool begun = false; !begun || files_have_room(f, 3); ) {
		struct extent_run run;
		int error = inode->blocks ? extent_at(f, inode->ino, first, &run) : -ENOENT;

		if (error && error != -ENOENT)
			return error;
		if (first >= end) {
			*done = true;
			return 0;
		}
		if (error || run.first > first) {
			uint64_t stop = error ? end : min_u64(end, run.first);

			error = extent_allocate(f, inode, first, (uint32_t)min_u64(stop - first, GROUP_BITS), true,
						&run);
			begun = true;
		} else if (zero && !run.unwritten) {
			uint32_t count = (uint32_t)(min_u64(end, extent_end(&run)) - first);

			error = extent_mark(f, inode, &run, first, count, true);
			run.count = (uint32_t)(first + count - run.first);
			begun = true;
		}
		if (error)
			return error;
		first = extent_end(&run);
	}
	return 0;
}

/* The parts of blocks at both ends of the range become zeros; *whole: the whole blocks between them. */
static int zero_ends(struct files *f, const struct inode *inode, const struct range *r, struct range *whole)
{
	uint64_t head = r->offset / BLOCK_BYTES, tail = r->end / BLOCK_BYTES;
	uint32_t from = r->offset % BLOCK_BYTES, to = r->end % BLOCK_BYTES;
	int error;

	*whole = (struct range){ file_blocks(r->offset), tail };
	if (head == tail)
		return file_zero_part(f, inode, head, from, to);
	error = from ? file_zero_part(f, inode, head, from, BLOCK_BYTES) : 0;
	return error || !to ? error : file_zero_part(f, inode, tail, 0, to);
}

static int punch_inline(struct files *f, struct inode *inode, const struct range *r)
{
	uint8_t bytes[FILE_INLINE_MAX];
	uint16_t len;
	int error = file_inline_read(f, inode, bytes, &len);

	if (error || r->offset >= len)
		return error;
	memset(bytes + r->offset, 0, min_u64(len, r->end) - r->offset);
	return file_inline_put(f, inode, bytes, len);
}

static int punch(struct files *f, struct inode *inode, struct range r, bool *done)
{
	struct range whole;
	int error;

	*done = true;
	space_use_reserve(&f->fs);
	if (inode->flags & INODE_INLINE)
		return punch_inline(f, inode, &r);
	/* A last block that is punched up to the file's end has nothing in it any more. */
	if (r.end >= inode->size && r.offset < inode->size)
		r.end = max_u64(r.end, round_up(inode->size, BLOCK_BYTES));
	error = zero_ends(f, inode, &r, &whole);
	if (error || whole.offset >= whole.end)
		return error;
	return extent_remove(f, inode, whole.offset, whole.end, done);
}

/* First all of it is allocated, which nobody sees, and only then zeroed, which needs no more room. Only what is left to
 * allocate is asked of the free blocks, as far as it can be known. */
static int fill(struct files *f, struct inode *inode, struct range r, bool zero, bool *done)
{
	uint64_t first = r.offset / BLOCK_BYTES, end = file_blocks(r.end);
	struct range whole;
	int error = file_inline_out(f, inode);

	if (error == 0 && end - first > inode->blocks)
		error = space_ask(&f->fs, end - first - inode->blocks);
	if (error == 0)
		error = allocate(f, inode, first, end, false, done);
	if (error || !zero || !*done)
		return error;
	error = zero_ends(f, inode, &r, &whole);
	if (error == 0 && whole.offset < whole.end && files_have_room(f, 3))
		error = allocate(f, inode, whole.offset, whole.end, true, done);
	else if (whole.offset < whole.end)
		*done = false;
	return error;
}

static int fallocate_file(struct files *f, const struct caller *caller, uint64_t ino, int mode, uint64_t offset,
			  uint64_t len)
{
	struct range r = { offset, offset + len };
	bool keep = mode & FALLOC_FL_KEEP_SIZE, done = false;
	int what = mode & ~FALLOC_FL_KEEP_SIZE;
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	if (error)
		return error;
	if (what && what != FALLOC_FL_ZERO_RANGE && !(what == FALLOC_FL_PUNCH_HOLE && keep))
		return -EOPNOTSUPP;
	if (len == 0)
		return -EINVAL;
	if (!S_ISREG(inode.mode))
		return S_ISDIR(inode.mode) ? -EISDIR : -ENODEV;
	if (r.end > FILE_BYTES_MAX || r.end < offset)
		return -EFBIG;
	if (inode.flags & INODE_TRIM)
		return file_trim_first(f, &inode);
	if (what == FALLOC_FL_PUNCH_HOLE)
		error = punch(f, &inode, r, &done);
	else
		error = fill(f, &inode, r, what == FALLOC_FL_ZERO_RANGE, &done);
	if (error)
		return error;
	if (done && !keep)
		inode.size = max_u64(inode.size, r.end);
	inode_written(&inode, caller);
	annotation_data(&f->annotation, ino, offset, len);
	error = inode_write(f, &inode);
	return error ? error : done ? 0 : OP_AGAIN;
}

int op_fallocate(struct files *f, const struct caller *caller, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	files_begin(f, ANNOTATION_FALLOCATE);
	return files_finish(f, fallocate_file(f, caller, ino, mode, offset, len));
}
