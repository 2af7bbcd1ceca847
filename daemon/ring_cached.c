/* SPDX-License-Identifier: Apache-2.0 */
/* Writes into the kernel's cache (IO_CACHED): a plain write() through a second open file that is not O_DIRECT, done in
 * submit(), as it takes less time than to ask the kernel for it. The kernel keeps both files coherent; what is in its
 * cache is written when there is a lot of it (here), or with the next sync. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "bounds.h"
#include "ring_parts.h"

enum { WRITE_BACK_BYTES = 1 << 20 };	/* a sync finds at most about that much still to be written */

static int cached_open(struct ring_file *file)
{
	char path[32];

	if (!file->direct)
		return file->fd;
	if (file->cached_fd < 0 && !file->no_cache) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", file->fd);
		file->cached_fd = open(path, O_WRONLY | O_CLOEXEC);
		file->no_cache = file->cached_fd < 0;
	}
	return file->cached_fd;
}

/* The kernel begins to write, beside us, what has gathered behind the last such place. */
static void write_back(struct ring *ring, struct ring_file *file, const struct io_op *op)
{
	uint64_t from = file->cached_from, end = op->offset + op->len;
	struct io_uring_sqe *sqe;

	if (op->offset < from || op->offset - from > WRITE_BACK_BYTES)
		from = op->offset;	/* the first one; the ring began anew; or larger writes came between */
	file->cached_from = from;
	if (end - from < WRITE_BACK_BYTES)
		return;
	file->cached_from = end;
	sqe = io_uring_get_sqe(&ring->uring);
	if (!sqe)
		return;
	io_uring_prep_sync_file_range(sqe, ring->files_registered ? (int)(file - ring->files) : file->fd,
				      (unsigned)(end - from), from, SYNC_FILE_RANGE_WRITE);
	if (ring->files_registered)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, NULL);
}

bool ring_write_cached(struct ring *ring, struct ring_file *file, struct io_op *op, int64_t *result)
{
	int fd;

	/* A part of a page that the kernel does not have would have to be read first. */
	if (op->kind != IO_WRITE || !(op->flags & IO_CACHED) || op->offset % BLOCK_BYTES || op->len % BLOCK_BYTES)
		return false;
	fd = cached_open(file);
	if (fd < 0 || pwrite(fd, op->data, op->len, (off_t)op->offset) != (ssize_t)op->len)
		return false;		/* what is wrong with it the kernel's queue will say */
	*result = (int64_t)op->len;
	write_back(ring, file, op);
	return true;
}
