/* SPDX-License-Identifier: Apache-2.0 */
/* A read, from its plan to its answer:
 *
 *	read_plan()	where the file's bytes are, as of this moment
 *	read_pieces()	those that lie in the volume are read, a few at a time
 *	read_pieced()	all are there: did the plan hold? Else it is made anew
 *	read_filled()	holes and small files' bytes, from the plan; the rest of a long plan, or the answer
 *
 * A plan holds while no record gave blocks back (on the primary: they may be another file's by now), and while no
 * record touched this file (on a secondary: some pieces would be older than others). A file that is changed all the
 * time would overtake each plan; then the read is made of pages that are in memory at one moment. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "bytes.h"
#include "mount_private.h"

static void read_plan(struct mount_request *r);
static void read_pieces(struct mount_request *r);

/* Where byte @at of what was asked for stands in the buffer: a block's bytes stand in a block. */
static uint8_t *place_of(const struct mount_request *r, uint64_t at)
{
	return r->data.bytes + r->offset % BLOCK_BYTES + at;
}

static void read_answer(struct mount_request *r)
{
	struct mount *m = r->m;

	if (m->role == ROLE_PRIMARY && !r->no_access_time) {
		struct caller caller = request_caller(r, false);

		(void)!op_accessed(&m->files, &caller, r->ino);	/* a wish: that it was read is no promise */
	}
	fuse_reply_buf(r->fuse, (const char *)place_of(r, 0), r->done);
	request_give(r);
}

static void read_fail(struct mount_request *r, int error)
{
	list_remove(&r->reading);
	request_end(r, error);
}

/* Last, because the pieces of the volume were read as whole blocks. */
static void read_filled(struct mount_request *r)
{
	uint64_t at = 0;

	for (unsigned i = 0; i < r->plan.count; at += r->plan.pieces[i++].len) {
		const struct file_piece *piece = &r->plan.pieces[i];

		if (piece->kind == PIECE_ZEROS)
			memset(place_of(r, r->done + at), 0, piece->len);
		else if (piece->kind == PIECE_INLINE)
			memcpy(place_of(r, r->done + at), r->plan.bytes + piece->offset, piece->len);
	}
	r->done += r->plan.len;
	if (r->plan.len > 0 && r->done < r->len && r->offset + r->done < r->plan.size)
		read_plan(r);
	else
		read_answer(r);
}

/* ---- pieces from the volume ---- */

static void read_pieced(struct mount_request *r)
{
	list_remove(&r->reading);
	if (r->result < 0) {
		request_end(r, r->result);
	} else if (r->moved || op_frees(&r->m->files) != r->plan.frees) {
		r->tries++;
		r->done = 0;		/* what was read before is of another moment, too */
		read_plan(r);
	} else {
		read_filled(r);
	}
}

static void piece_done(struct volume_request *request, int result)
{
	struct mount_piece *piece = container_of(request, struct mount_piece, volume);
	struct mount_request *r = piece->request;

	piece->busy = false;
	r->pieces_busy--;
	if (result < 0)
		r->result = result;
	read_pieces(r);
}

static struct mount_piece *piece_free(struct mount_request *r)
{
	for (unsigned i = 0; i < READ_PIECES; i++)
		if (!r->pieces[i].busy)
			return &r->pieces[i];
	return NULL;
}

/* A piece's bytes must stand in the blocks of the file as they do in those of the volume. */
static bool piece_fits(const struct mount_request *r, const struct file_piece *piece)
{
	return (r->offset + r->done + r->piece_at) % BLOCK_BYTES == piece->offset % BLOCK_BYTES &&
	       piece->offset <= r->m->volume_bytes && piece->len <= r->m->volume_bytes - piece->offset;
}

static void read_pieces(struct mount_request *r)
{
	struct mount_piece *slot;

	while (r->result == 0 && r->piece_next < r->plan.count && (slot = piece_free(r))) {
		const struct file_piece *piece = &r->plan.pieces[r->piece_next];

		if (piece->kind == PIECE_VOLUME && !piece_fits(r, piece)) {
			r->result = -EIO;
		} else if (piece->kind == PIECE_VOLUME) {
			uint8_t *to = place_of(r, r->done + r->piece_at) - piece->offset % BLOCK_BYTES;

			slot->busy = true;
			slot->request = r;
			slot->volume = (struct volume_request){ .op = VOLUME_READ, .offset = piece->offset,
								.len = piece->len, .buffer = to,
								.done = piece_done };
			r->pieces_busy++;
			volume_submit(r->m->v, &slot->volume);
		}
		r->piece_at += piece->len;
		r->piece_next++;
	}
	if (r->pieces_busy == 0)
		read_pieced(r);
}

/* ---- all of it at one moment ---- */

int mount_piece_pages(struct mount *m, const struct file_piece *piece, uint8_t *to)
{
	struct blocks *blocks = m->files.fs.blocks;
	uint64_t from = piece->offset, end = piece->offset + piece->len;
	int result = 0;

	while (from < end) {
		uint64_t len = min_u64(end - from, BLOCK_BYTES - from % BLOCK_BYTES);
		const uint8_t *page;
		int error = blocks->read(blocks, from / BLOCK_BYTES, &page);

		if (error && error != -EAGAIN)
			return error;
		if (error)
			result = error;
		else
			memcpy(to + (from - piece->offset), page + from % BLOCK_BYTES, len);
		from += len;
	}
	return result;
}

static void read_exact(struct mount_request *r)
{
	struct blocks *blocks = r->m->files.fs.blocks;
	uint64_t at = r->done;
	int result = 0;

	for (unsigned i = 0; i < r->plan.count; at += r->plan.pieces[i++].len) {
		int error = 0;

		if (r->plan.pieces[i].kind == PIECE_VOLUME)
			error = mount_piece_pages(r->m, &r->plan.pieces[i], place_of(r, at));
		if (error && (result == 0 || result == -EAGAIN))
			result = error;
	}
	blocks->abort(blocks);
	if (result) {
		r->done = 0;
		request_end(r, result);
		return;
	}
	read_filled(r);
}

/* ---- the plan ---- */

static void read_plan(struct mount_request *r)
{
	struct mount *m = r->m;
	int error = mount_ready(m);

	if (!error)
		error = op_read(&m->files, r->ino, r->offset + r->done, r->len - r->done, &r->plan);
	if (error) {
		r->done = error == -EAGAIN ? 0 : r->done;
		read_fail(r, error);
		return;
	}
	r->result = 0;
	r->moved = false;
	r->piece_next = 0;
	r->piece_at = 0;
	if (r->tries >= READ_TRIES) {
		read_exact(r);
		return;
	}
	list_append(&m->reading, &r->reading);
	read_pieces(r);
}

void mount_op_read(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info)
{
	struct mount_request *r = request_begin(fuse, REQUEST_READS);

	if (!r)
		return;
	if (size > FUSE_DATA_BYTES || offset < 0) {
		request_end(r, -EINVAL);
		return;
	}
	r->ino = ino;
	r->offset = (uint64_t)offset;
	r->len = size;
	r->tries = 0;
	r->no_access_time = info->flags & O_NOATIME;
	r->resume = read_plan;
	if (!r->data.pool)
		r->data = fuse_channel_reading(&r->m->channel, VOLUME_BUFFER_BYTES(r->offset, r->len));
	read_plan(r);
}
