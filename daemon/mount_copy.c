/* SPDX-License-Identifier: Apache-2.0 */
/* copy_file_range(), within the volume: a run of bytes, or a hole, after the other, each a record; others are served in
 * between. A hole becomes a hole. What is done when it has to stop is the answer, as of a short write.
 *
 *	copy_some()	where the source's next bytes are, as of this moment
 *	copy_hole()	made there by fallocate() and, behind the end, by a new size
 *	copy_bytes()	read from pages that are in memory at one moment, and written */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "bytes.h"
#include "mount_private.h"

enum { COPY_BYTES_MAX = 32 << 20 };	/* of one request: its caller asks again */

static int copy_hole(struct mount_request *r, const struct caller *caller, uint64_t len)
{
	struct attributes_set longer = { .valid = SET_SIZE | SET_BY_HANDLE, .size = r->copy_offset + r->done + len };
	struct files *f = &r->m->files;
	struct attributes a;
	int error = op_getattr(f, r->copy_ino, &a);

	if (error == 0 && longer.size - len < a.size)
		error = op_fallocate(f, caller, r->copy_ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     longer.size - len, len);
	if (error == 0 && longer.size > a.size)
		error = op_setattr(f, caller, r->copy_ino, &longer, &a);
	if (error == 0)
		r->done += len;
	return error;
}

/* What the plan begins with, up to its first hole, or to @room. */
static int gather(struct mount_request *r, uint8_t *to, uint64_t room, uint64_t *len)
{
	int result = 0;

	*len = 0;
	for (unsigned i = 0; i < r->plan.count && *len < room; i++) {
		struct file_piece piece = r->plan.pieces[i];
		int error = 0;

		if (piece.kind == PIECE_ZEROS)
			break;
		piece.len = min_u64(piece.len, room - *len);
		if (piece.kind == PIECE_VOLUME)
			error = mount_piece_pages(r->m, &piece, to + *len);
		else
			memcpy(to + *len, r->plan.bytes + piece.offset, piece.len);
		if (error && (result == 0 || result == -EAGAIN))
			result = error;
		*len += piece.len;
	}
	return result;
}

static int copy_bytes(struct mount_request *r, const struct caller *caller)
{
	struct blocks *blocks = r->m->files.fs.blocks;
	uint32_t written = 0;
	uint64_t len;
	int error;

	if (!r->data.pool)
		r->data = fuse_channel_reading(&r->m->channel, OP_WRITE_MAX);
	error = gather(r, r->data.bytes, OP_WRITE_MAX, &len);
	blocks->abort(blocks);
	if (error == 0)
		error = op_write(&r->m->files, caller, r->copy_ino, r->copy_offset + r->done, r->data.bytes, len, 0,
				 &written);
	r->done += written;
	return error;
}

/* OP_AGAIN: a part is done. 0: all, or all there is. */
static int copy_next(struct mount_request *r)
{
	struct caller caller = request_caller(r, false);
	int error = mount_ready(r->m);

	if (error == 0 && r->m->role != ROLE_PRIMARY)
		error = -EROFS;
	if (error == 0 && !r->no_access_time) {
		r->no_access_time = true;
		(void)!op_accessed(&r->m->files, &caller, r->ino);	/* a wish, as of a read */
	}
	if (error == 0)
		error = op_read(&r->m->files, r->ino, r->offset + r->done, r->len - r->done, &r->plan);
	if (error || r->plan.len == 0)
		return error;
	if (r->plan.pieces[0].kind == PIECE_ZEROS)
		error = copy_hole(r, &caller, r->plan.pieces[0].len);
	else
		error = copy_bytes(r, &caller);
	return error ? error : r->done < r->len ? OP_AGAIN : 0;
}

static void copy_some(struct mount_request *r)
{
	int error;

	r->changed_before = op_lsn(&r->m->files);
	error = copy_next(r);
	if (error < 0 && error != -EAGAIN && r->done > 0)
		error = 0;		/* a part of it */
	request_end(r, error);
}

void mount_op_copy_file_range(fuse_req_t fuse, fuse_ino_t ino, off_t offset, struct fuse_file_info *info,
			      fuse_ino_t copy_ino, off_t copy_offset, struct fuse_file_info *copy_info, size_t len,
			      int flags)
{
	struct mount_request *r = request_begin(fuse, REQUEST_CHANGES);

	(void)info;
	if (!r)
		return;
	len = min_u64(len, COPY_BYTES_MAX);
	if (flags || offset < 0 || copy_offset < 0 || (uint64_t)offset > FILE_BYTES_MAX ||
	    (ino == copy_ino && (uint64_t)offset < (uint64_t)copy_offset + len &&
	     (uint64_t)copy_offset < (uint64_t)offset + len)) {
		request_end(r, -EINVAL);
		return;
	}
	r->answer = ANSWER_WRITE;
	r->durable = copy_info->flags & O_DSYNC;
	r->ino = ino;
	r->offset = (uint64_t)offset;
	r->len = len;
	r->copy_ino = copy_ino;
	r->copy_offset = (uint64_t)copy_offset;
	r->resume = copy_some;
	copy_some(r);
}
