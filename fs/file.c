/* SPDX-License-Identifier: Apache-2.0 */
/* What a file is, where its bytes are read from, how it becomes shorter. Writing is in file_write.c. */
#include "file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "orphan.h"

int file_read_inode(struct files *f, uint64_t ino, struct inode *inode)
{
	int error = inode_read(f, ino, inode);

	return error ? error : S_ISREG(inode->mode) ? 0 : S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
}

/* ---- inline ---- */

int file_inline_read(struct files *f, const struct inode *inode, uint8_t out[FILE_INLINE_MAX], uint16_t *len)
{
	struct tree_key key = tree_key(inode->ino, ITEM_INLINE, 0);
	struct tree_item item;
	int error;

	*len = 0;
	if (!(inode->flags & INODE_INLINE))
		return 0;
	error = tree_find(&f->fs, &key, &item);
	if (error && error != -ENOENT)
		return error;
	if (error || item.len == 0 || item.len > FILE_INLINE_MAX || item.len > inode->size || inode->blocks)
		return files_damaged(f, inode->ino, "its inline bytes are not as it says");
	memcpy(out, item.value, item.len);
	*len = item.len;
	return 0;
}

int file_inline_put(struct files *f, struct inode *inode, const uint8_t *bytes, uint16_t len)
{
	struct tree_key key = tree_key(inode->ino, ITEM_INLINE, 0);
	bool was = inode->flags & INODE_INLINE;

	if (len == 0) {
		inode->flags &= ~(uint32_t)INODE_INLINE;
		return was ? tree_delete(&f->fs, &key) : 0;
	}
	inode->flags |= INODE_INLINE;
	return was ? tree_replace(&f->fs, &key, bytes, len) : tree_insert(&f->fs, &key, bytes, len);
}

int file_inline_out(struct files *f, struct inode *inode)
{
	uint8_t bytes[FILE_INLINE_MAX], *page;
	struct extent_run run;
	uint16_t len;
	int error = file_inline_read(f, inode, bytes, &len);

	if (error || len == 0)
		return error;
	error = file_inline_put(f, inode, NULL, 0);
	if (error == 0)
		error = extent_allocate(f, inode, 0, 1, false, &run);
	if (error == 0)
		error = transaction_data_fresh(&f->fs.transaction, run.block, &page);
	if (error == 0)
		memcpy(page, bytes, len);
	return error;
}

/* ---- shorter and longer ---- */

int file_zero_part(struct files *f, const struct inode *inode, uint64_t block, uint32_t from, uint32_t to)
{
	struct extent_run run;
	uint8_t *page;
	int error = inode->blocks ? extent_at(f, inode->ino, block, &run) : -ENOENT;

	if (error || run.first > block || run.unwritten || from == to)
		return error == -ENOENT ? 0 : error;
	error = transaction_data_change(&f->fs.transaction, run.block + (block - run.first), &page);
	if (error == 0)
		memset(page + from, 0, to - from);
	return error;
}

static int trim_later(struct files *f, const struct inode *inode)
{
	files_want_reclaim(f, inode->ino);
	return orphan_add(f, inode->ino);
}

int file_trim(struct files *f, struct inode *inode)
{
	bool done;
	int error = extent_remove(f, inode, file_blocks(inode->size), FILE_BLOCKS_MAX, &done);

	if (error)
		return error;
	if (!done && !(inode->flags & INODE_TRIM) && inode->nlink)
		error = trim_later(f, inode);
	else if (done && inode->flags & INODE_TRIM && inode->nlink)
		error = orphan_remove(f, inode->ino);
	inode->flags = done ? inode->flags & ~(uint32_t)INODE_TRIM : inode->flags | INODE_TRIM;
	return error ? error : OP_AGAIN;
}

int file_trim_first(struct files *f, struct inode *inode)
{
	int error, result;

	space_use_reserve(&f->fs);
	result = file_trim(f, inode);
	error = result == OP_AGAIN ? inode_write(f, inode) : result;
	return error ? error : OP_AGAIN;
}

int file_resize(struct files *f, struct inode *inode, uint64_t size)
{
	uint8_t bytes[FILE_INLINE_MAX];
	uint16_t len;
	int error;

	if (inode->flags & INODE_TRIM && size != inode->size)
		return file_trim(f, inode);
	if (size > inode->size) {
		inode->size = size;
		return 0;
	}
	space_use_reserve(&f->fs);
	error = file_inline_read(f, inode, bytes, &len);
	if (error == 0 && len > size)
		error = file_inline_put(f, inode, bytes, (uint16_t)size);
	if (error == 0 && size % BLOCK_BYTES && size < inode->size)
		error = file_zero_part(f, inode, size / BLOCK_BYTES, size % BLOCK_BYTES, BLOCK_BYTES);
	if (error)
		return error;
	inode->size = size;
	error = file_trim(f, inode);
	return error == OP_AGAIN && !(inode->flags & INODE_TRIM) ? 0 : error;
}

/* ---- where bytes are ---- */

static void plan_add(struct file_plan *plan, enum file_piece_kind kind, uint64_t offset, uint64_t len)
{
	struct file_piece *last = plan->count ? &plan->pieces[plan->count - 1] : NULL;

	plan->len += len;
	if (kind == PIECE_ZEROS && last && last->kind == PIECE_ZEROS)
		last->len += len;
	else
		plan->pieces[plan->count++] = (struct file_piece){ kind, len, offset };
}

/* A hole and the run behind it may come with one turn. */
static bool plan_has_room(const struct file_plan *plan)
{
	return plan->count + 2 <= FILE_PIECES_MAX;
}

static int plan_extents(struct files *f, const struct inode *inode, uint64_t at, uint64_t end, struct file_plan *plan)
{
	while (at < end && plan_has_room(plan)) {
		struct extent_run run;
		uint64_t start, stop;
		int error = inode->blocks ? extent_at(f, inode->ino, at / BLOCK_BYTES, &run) : -ENOENT;

		if (error && error != -ENOENT)
			return error;
		start = error ? end : max_u64(at, min_u64(end, run.first * BLOCK_BYTES));
		if (start > at)
			plan_add(plan, PIECE_ZEROS, 0, start - at);
		at = start;
		if (at == end)
			break;
		stop = min_u64(end, extent_end(&run) * BLOCK_BYTES);
		plan_add(plan, run.unwritten ? PIECE_ZEROS : PIECE_VOLUME,
			 run.unwritten ? 0 : run.block * BLOCK_BYTES + (at - run.first * BLOCK_BYTES), stop - at);
		at = stop;
	}
	return 0;
}

static int read_plan(struct files *f, uint64_t ino, uint64_t offset, uint64_t len, struct file_plan *plan)
{
	struct inode inode;
	uint16_t inline_len;
	uint64_t end;
	int error = file_read_inode(f, ino, &inode);

	if (error)
		return error;
	plan->len = plan->count = 0;
	plan->size = inode.size;
	plan->frees = f->frees;
	if (offset >= inode.size || len == 0)
		return 0;
	end = offset + min_u64(len, inode.size - offset);
	error = file_inline_read(f, &inode, plan->bytes, &inline_len);
	if (error)
		return error;
	if (offset < inline_len) {
		uint64_t stop = min_u64(end, inline_len);

		plan_add(plan, PIECE_INLINE, offset, stop - offset);
		offset = stop;
	}
	return plan_extents(f, &inode, offset, end, plan);
}

int op_read(struct files *f, uint64_t ino, uint64_t offset, uint64_t len, struct file_plan *out)
{
	return files_looked(f, read_plan(f, ino, offset, len, out));
}

/* *out: the first byte at or behind @offset that is data (or is none), at most @end. */
static int seek_extents(struct files *f, const struct inode *inode, uint64_t offset, bool data, uint64_t end,
			uint64_t *out)
{
	while (offset < end) {
		struct extent_run run;
		int error = inode->blocks ? extent_at(f, inode->ino, offset / BLOCK_BYTES, &run) : -ENOENT;

		if (error && error != -ENOENT)
			return error;
		if (error || run.first * BLOCK_BYTES > offset) {
			if (!data)
				break;
			offset = error ? end : run.first * BLOCK_BYTES;
		} else if (data != run.unwritten) {
			break;
		} else {
			offset = extent_end(&run) * BLOCK_BYTES;
		}
	}
	*out = min_u64(offset, end);
	return 0;
}

static int seek(struct files *f, uint64_t ino, uint64_t offset, int whence, uint64_t *out)
{
	bool data = whence == SEEK_DATA;
	uint8_t bytes[FILE_INLINE_MAX];
	struct inode inode;
	uint16_t len;
	int error = file_read_inode(f, ino, &inode);

	if (error)
		return error;
	if (!data && whence != SEEK_HOLE)
		return -EINVAL;
	if (offset >= inode.size)
		return -ENXIO;
	error = file_inline_read(f, &inode, bytes, &len);
	*out = offset;
	if (error == 0 && offset < len && !data)
		*out = len;
	else if (error == 0 && offset >= len)
		error = seek_extents(f, &inode, offset, data, inode.size, out);
	return error ? error : data && *out == inode.size ? -ENXIO : 0;
}

int op_seek(struct files *f, uint64_t ino, uint64_t offset, int whence, uint64_t *out)
{
	return files_looked(f, seek(f, ino, offset, whence, out));
}
