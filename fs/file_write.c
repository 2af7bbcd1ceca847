/* SPDX-License-Identifier: Apache-2.0 */
/* A write: bytes and what points to them in one record.
 *
 *	write_inline()	a small file stays in the tree
 *	write_piece()	a run that is there is overwritten in place; for a hole one is allocated
 *	put_bytes()	whole blocks go past the pages, parts of blocks through them
 *
 * It ends early, with a part written, when the transaction has no room for one more run or no block is free. */
#include <errno.h>
#include <string.h>

#include "file.h"

/* What is asked for, and how much of it is done. */
struct writing { uint64_t offset; const uint8_t *bytes; uint64_t len; };

static int write_inline(struct files *f, struct inode *inode, const struct writing *w)
{
	uint8_t bytes[FILE_INLINE_MAX];
	uint16_t len, end = (uint16_t)(w->offset + w->len);
	int error = file_inline_read(f, inode, bytes, &len);

	if (error)
		return error;
	if (w->offset > len)
		memset(bytes + len, 0, w->offset - len);
	memcpy(bytes + w->offset, w->bytes, w->len);
	return file_inline_put(f, inode, bytes, end > len ? end : len);
}

/* Into a part of one block; @fresh: its other bytes are zeros. */
static int put_part(struct files *f, uint64_t block, uint32_t from, const uint8_t *bytes, uint32_t len, bool fresh)
{
	struct transaction *t = &f->fs.transaction;
	uint8_t *page;
	int error = fresh ? transaction_data_fresh(t, block, &page) : transaction_data_change(t, block, &page);

	if (error == 0)
		memcpy(page + from, bytes, len);
	return error;
}

/* @len bytes at byte @from of the run that starts at @block of the volume. */
static int put_bytes(struct files *f, uint64_t block, uint32_t from, const uint8_t *bytes, uint64_t len, bool fresh)
{
	uint32_t whole;
	int error;

	if (from || len < BLOCK_BYTES) {
		uint32_t part = (uint32_t)min_u64(len, BLOCK_BYTES - from);

		error = put_part(f, block++, from, bytes, part, fresh);
		if (error)
			return error;
		bytes += part;
		len -= part;
	}
	whole = (uint32_t)(len / BLOCK_BYTES);
	if (whole) {
		error = transaction_data_write(&f->fs.transaction, block * BLOCK_BYTES, bytes, whole * BLOCK_BYTES);
		if (error)
			return error;
	}
	bytes += (uint64_t)whole * BLOCK_BYTES;
	len -= (uint64_t)whole * BLOCK_BYTES;
	return len ? put_part(f, block + whole, 0, bytes, (uint32_t)len, fresh) : 0;
}

/* *len: how much of it one run takes. -ENOSPC: nothing was changed. */
static int write_piece(struct files *f, struct inode *inode, uint64_t offset, const uint8_t *bytes, uint64_t *len)
{
	uint64_t first = offset / BLOCK_BYTES, end = file_blocks(offset + *len);
	struct extent_run run;
	bool fresh, hole;
	int error = inode->blocks ? extent_at(f, inode->ino, first, &run) : -ENOENT;

	if (error && error != -ENOENT)
		return error;
	hole = error || run.first > first;
	if (hole) {
		uint64_t stop = error ? end : min_u64(end, run.first);

		error = extent_allocate(f, inode, first, (uint32_t)(stop - first), false, &run);
		if (error)
			return error;
	}
	end = min_u64(end, extent_end(&run));
	*len = min_u64(*len, end * BLOCK_BYTES - offset);
	fresh = hole || run.unwritten;
	error = put_bytes(f, run.block + (first - run.first), offset % BLOCK_BYTES, bytes, *len, fresh);
	if (error == 0 && run.unwritten)
		error = extent_mark(f, inode, &run, first, (uint32_t)(end - first), false);
	return error;
}

/* *written: 1..w->len. */
static int write_blocks(struct files *f, struct inode *inode, const struct writing *w, uint64_t *written)
{
	int error;

	/* Bytes that are inline and all overwritten need not go to a block first: the first piece takes more. */
	if (w->offset == 0 && w->len >= FILE_INLINE_MAX)
		error = file_inline_put(f, inode, NULL, 0);
	else
		error = file_inline_out(f, inode);
	*written = 0;
	while (error == 0 && *written < w->len && (*written == 0 || files_have_room(f, 3))) {
		uint64_t len = w->len - *written;

		error = write_piece(f, inode, w->offset + *written, w->bytes + *written, &len);
		if (error == -ENOSPC && *written && f->fs.transaction.error == 0)
			return 0;
		*written += len;
	}
	return error;
}

static int write_file(struct files *f, const struct caller *caller, uint64_t ino, const struct writing *w,
		      unsigned flags, uint32_t *written)
{
	uint64_t end, done = w->len;
	struct inode inode;
	int error = file_read_inode(f, ino, &inode);

	if (error || w->len == 0)
		return error;
	end = w->offset + w->len;
	if (end < w->offset || end > FILE_BYTES_MAX)
		return -EFBIG;
	if (inode.flags & INODE_TRIM)
		return file_trim_first(f, &inode);
	if (inode.blocks == 0 && inode.size <= FILE_INLINE_MAX && end <= FILE_INLINE_MAX)
		error = write_inline(f, &inode, w);
	else
		error = write_blocks(f, &inode, w, &done);
	if (error)
		return error;
	inode.size = max_u64(inode.size, w->offset + done);
	inode_written(&inode, caller);
	if (flags & WRITE_KILL_PRIVILEGES)
		inode_kill_privileges(&inode);
	annotation_data(&f->annotation, ino, w->offset, done);
	*written = (uint32_t)done;
	return inode_write(f, &inode);
}

/* As much of it as one record takes; ends on a block when it is not all. */
static uint64_t write_bound(const struct files *f, uint64_t offset, uint64_t len)
{
	uint64_t most = min_u64(OP_WRITE_MAX, f->fs.blocks->write_max);

	if (len <= most)
		return len;
	return most > BLOCK_BYTES ? round_down(offset + most, BLOCK_BYTES) - offset : most;
}

int op_write(struct files *f, const struct caller *caller, uint64_t ino, uint64_t offset, const void *bytes,
	     uint64_t len, unsigned flags, uint32_t *written)
{
	struct writing w = { offset, bytes, len };
	int error;

	if (offset < FILE_BYTES_MAX)
		w.len = write_bound(f, offset, min_u64(len, FILE_BYTES_MAX - offset));
	*written = 0;
	files_begin(f, ANNOTATION_WRITE);
	error = files_finish(f, write_file(f, caller, ino, &w, flags, written));
	if (error)
		*written = 0;		/* the commit may have found no room: nothing of it is there */
	return error;
}
