/* SPDX-License-Identifier: Apache-2.0 */
/* The disk without us: 4 KiB operations on a file whose bytes have been written once, past the page cache.
 * At depth 1 they are plain blocking calls, which is the fastest way there is; above that io_uring, set up
 * as the daemon's ring is. */
#ifndef HOLDFAST_DISK_H
#define HOLDFAST_DISK_H

#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bounds.h"
#include "sample.h"

enum disk_load {
	DISK_APPEND,		/* durable (RWF_DSYNC) writes, one behind the other: a journal without a daemon */
	DISK_WRITE_DURABLE,	/* the same at random places */
	DISK_WRITE,		/* at random places, and nothing is flushed */
	DISK_READ,		/* from random places */
};
enum { DISK_DEPTH_MAX = 256 };

struct disk {
	int fd;
	uint64_t bytes, append_at, random;
	uint8_t *memory;	/* a block for each operation in flight */
	struct io_uring uring;
};

static void disk_fill(const char *path, uint64_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	static uint8_t piece[1 << 20];

	if (fd < 0)
		err(1, "%s", path);
	memset(piece, 0x5a, sizeof piece);
	for (uint64_t at = 0; at < bytes; at += sizeof piece)
		if (pwrite(fd, piece, sizeof piece, (off_t)at) != sizeof piece)
			err(1, "%s: writing", path);
	if (fdatasync(fd) < 0)
		err(1, "%s: syncing", path);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

/* @bytes is a multiple of 1 MiB. The file is made when it is not there. */
static void disk_open(struct disk *d, const char *path, uint64_t bytes)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };

	if (access(path, F_OK) < 0)
		disk_fill(path, bytes);
	*d = (struct disk){ .bytes = bytes, .random = sample_now_ns() };
	d->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (d->fd < 0 && errno == EINVAL)	/* a filesystem without direct I/O: the daemon does the same */
		d->fd = open(path, O_RDWR | O_CLOEXEC);
	d->memory = aligned_alloc(BLOCK_BYTES, DISK_DEPTH_MAX * BLOCK_BYTES);
	if (d->fd < 0 || !d->memory)
		err(1, "%s", path);
	memset(d->memory, 0xa5, DISK_DEPTH_MAX * BLOCK_BYTES);
	if (io_uring_queue_init_params(DISK_DEPTH_MAX, &d->uring, &params) < 0 &&
	    io_uring_queue_init(DISK_DEPTH_MAX, &d->uring, 0) < 0)
		errx(1, "io_uring is not to be had");
}

static uint64_t disk_place(struct disk *d, enum disk_load load)
{
	uint64_t blocks = d->bytes / BLOCK_BYTES;

	return (load == DISK_APPEND ? d->append_at++ : sample_random(&d->random)) % blocks * BLOCK_BYTES;
}

static int disk_flags(enum disk_load load)
{
	return load == DISK_APPEND || load == DISK_WRITE_DURABLE ? RWF_DSYNC : 0;
}

static void disk_check(int64_t result)
{
	if (result != BLOCK_BYTES)
		errx(1, "the raw file: %s", result < 0 ? strerror((int)-result) : "a short transfer");
}

static void disk_run_blocking(struct disk *d, enum disk_load load, struct sample *s)
{
	struct iovec block = { d->memory, BLOCK_BYTES };
	uint64_t begun_ns;
	ssize_t res;

	do {
		off_t at = (off_t)disk_place(d, load);

		begun_ns = sample_now_ns();
		if (load == DISK_READ)
			res = preadv2(d->fd, &block, 1, at, 0);
		else
			res = pwritev2(d->fd, &block, 1, at, disk_flags(load));
		disk_check(res < 0 ? -errno : res);
	} while (sample_add(s, begun_ns));
}

static void disk_queue(struct disk *d, enum disk_load load, unsigned slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&d->uring);
	uint8_t *block = d->memory + slot * BLOCK_BYTES;

	if (load == DISK_READ)
		io_uring_prep_read(sqe, d->fd, block, BLOCK_BYTES, disk_place(d, load));
	else
		io_uring_prep_write(sqe, d->fd, block, BLOCK_BYTES, disk_place(d, load));
	sqe->rw_flags = disk_flags(load);
	io_uring_sqe_set_data64(sqe, slot);
}

static void disk_run_queued(struct disk *d, enum disk_load load, unsigned depth, struct sample *s)
{
	uint64_t begun_ns[DISK_DEPTH_MAX];
	unsigned in_flight = depth;

	for (unsigned slot = 0; slot < depth; slot++) {
		begun_ns[slot] = sample_now_ns();
		disk_queue(d, load, slot);
	}
	while (in_flight > 0) {
		struct io_uring_cqe *cqe;
		int res = io_uring_submit_and_wait(&d->uring, 1);

		if (res < 0 && res != -EINTR)
			errx(1, "io_uring: %s", strerror(-res));
		while (io_uring_peek_cqe(&d->uring, &cqe) == 0) {
			unsigned slot = (unsigned)cqe->user_data;

			disk_check(cqe->res);
			io_uring_cqe_seen(&d->uring, cqe);
			in_flight--;
			if (!sample_add(s, begun_ns[slot]))
				continue;
			begun_ns[slot] = s->ended_ns;
			disk_queue(d, load, slot);
			in_flight++;
		}
	}
}

/* Begins the sample and fills it; what was written is durable when it returns, outside the sample. */
static void disk_run(struct disk *d, enum disk_load load, unsigned depth, double seconds, struct sample *s)
{
	sample_begin(s, seconds);
	if (depth == 1)
		disk_run_blocking(d, load, s);
	else
		disk_run_queued(d, load, depth, s);
	if (load != DISK_READ && fdatasync(d->fd) < 0)
		err(1, "the raw file: syncing");
}

#endif
