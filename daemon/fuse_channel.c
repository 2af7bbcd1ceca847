/* SPDX-License-Identifier: Apache-2.0 */
/* From the kernel to the owner's operations:
 *
 *	channel_readable()	the ring says that /dev/fuse has something
 *	channel_receive()	read into the receive buffer, taken apart by libfuse, which calls the operation
 *
 * Invariant: a request is received only while the owner is ready, a large read buffer and a receive buffer are free, so
 * that whatever it turns out to be can be served. Otherwise it waits in the kernel (back-pressure).
 *
 * A large write keeps the receive buffer that it came in, and the next one is received into another. A small one is
 * copied into a small buffer instead: it would hold 1 MiB for 4 KiB of data. */
#define FUSE_USE_VERSION 314
#include "fuse_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

#include "auto.h"
#include "bytes.h"
#include "fuse_statx.h"

enum {
	SMALL_COUNT_MAX = 256,		/* as many as the kernel keeps in the background */
	LARGE_COUNT_MAX = 64,		/* 64 MiB in flight keep any disk busy */
	RECEIVES_PER_TURN = 64,		/* then peers and disks have their turn */
};

/* ---- pools ---- */

static int pool_init(struct fuse_pool *pool, struct io *io, unsigned count, size_t each, unsigned flags)
{
	pool->memory = io->alloc(io, count * each, flags);
	pool->free = io->alloc(io, count * sizeof *pool->free, 0);
	if (!pool->memory || !pool->free)
		return -ENOMEM;
	pool->count = pool->free_count = count;
	for (unsigned i = 0; i < count; i++)
		pool->free[i] = pool->memory + (count - 1 - i) * each;
	return 0;
}

static void pool_free(struct fuse_pool *pool, struct io *io)
{
	io->free(io, pool->memory);
	io->free(io, pool->free);
}

static uint8_t *pool_take(struct fuse_pool *pool)
{
	return pool->free_count ? pool->free[--pool->free_count] : NULL;
}

struct fuse_buffer fuse_channel_reading(struct fuse_channel *ch, uint64_t bytes)
{
	struct fuse_buffer buffer = { &ch->small, bytes <= FUSE_SMALL_BYTES ? pool_take(&ch->small) : NULL };

	CHECK(bytes <= FUSE_READ_BYTES);
	if (!buffer.bytes)
		buffer = (struct fuse_buffer){ &ch->reads, pool_take(&ch->reads) };
	CHECK(buffer.bytes != NULL);
	return buffer;
}

bool fuse_channel_received(const struct fuse_channel *ch, const void *bytes, uint64_t len)
{
	uint64_t place = (uint64_t)((uintptr_t)bytes - (uintptr_t)ch->receive);

	return ch->receive && place <= ch->receive_len && len <= ch->receive_len - place;
}

struct fuse_buffer fuse_channel_keep(struct fuse_channel *ch, const void *bytes, uint64_t len, uint8_t **at)
{
	struct fuse_buffer buffer = { &ch->small, len <= FUSE_SMALL_DATA_BYTES ? pool_take(&ch->small) : NULL };

	CHECK(fuse_channel_received(ch, bytes, len));
	if (buffer.bytes) {
		*at = memcpy(buffer.bytes, bytes, len);
		return buffer;
	}
	*at = ch->receive + ((uintptr_t)bytes - (uintptr_t)ch->receive);
	buffer = (struct fuse_buffer){ &ch->receives, ch->receive };
	ch->receive = NULL;
	return buffer;
}

void fuse_channel_give(struct fuse_channel *ch, struct fuse_buffer *buffer)
{
	struct fuse_pool *pool = buffer->pool;

	(void)ch;
	if (!pool)
		return;
	CHECK(pool->free_count < pool->count);
	pool->free[pool->free_count++] = buffer->bytes;
	*buffer = (struct fuse_buffer){ NULL, NULL };
}

/* ---- INIT ---- */

/* While INIT is answered: flags that go into the answer. The helper thread sends too, but no such thing. */
static _Thread_local uint32_t init_flags;

static void init_look(const struct fuse_channel *ch, const uint8_t *message, uint64_t len)
{
	const struct fuse_in_header *header = (const void *)message;
	const struct fuse_init_in *init = (const void *)(header + 1);

	init_flags = 0;
	if (len >= sizeof *header + offsetof(struct fuse_init_in, flags) + sizeof init->flags &&
	    header->opcode == FUSE_INIT)
		init_flags = init->flags & ch->config.init_flags;
}

static ssize_t channel_writev(int fd, struct iovec *parts, int count, void *context)
{
	struct fuse_init_out init;
	struct iovec changed[2];

	(void)context;
	if (!init_flags || count != 2 || parts[1].iov_len > sizeof init ||
	    parts[1].iov_len < offsetof(struct fuse_init_out, flags) + sizeof init.flags)
		return writev(fd, parts, count);
	memcpy(&init, parts[1].iov_base, parts[1].iov_len);
	init.flags |= init_flags;
	changed[0] = parts[0];
	changed[1] = (struct iovec){ &init, parts[1].iov_len };
	return writev(fd, changed, 2);
}

static ssize_t channel_read(int fd, void *bytes, size_t len, void *context)
{
	(void)context;
	return read(fd, bytes, len);
}

/* ---- receiving ---- */

static bool channel_ready(struct fuse_channel *ch)
{
	if (!ch->receive)
		ch->receive = pool_take(&ch->receives);
	return ch->receive && ch->reads.free_count > 0 && ch->config.ready(ch->config.context);
}

static void channel_poll(struct fuse_channel *ch)
{
	if (!ch->poll.in_flight && !ch->stopping && ch->mounted)
		ch->io->submit(ch->io, &ch->poll);
}

static void channel_stop_finish(struct io_op *op, int64_t result)
{
	struct fuse_channel *ch = container_of(op, struct fuse_channel, soon);

	(void)result;
	ch->stopped(ch->stopped_context);
}

static void channel_stop_maybe(struct fuse_channel *ch)
{
	if (ch->stopping && !ch->in_flight && !ch->poll.in_flight && !ch->soon.in_flight)
		ch->io->submit(ch->io, &ch->soon);
}

void fuse_channel_begin(struct fuse_channel *ch)
{
	ch->in_flight++;
}

void fuse_channel_end(struct fuse_channel *ch)
{
	CHECK(ch->in_flight > 0);
	ch->in_flight--;
	if (ch->stalled && channel_ready(ch)) {
		ch->stalled = false;
		channel_poll(ch);
	}
	channel_stop_maybe(ch);
}

static void channel_gone(struct fuse_channel *ch, int error)
{
	ch->mounted = false;
	if (!ch->stopping)
		ch->config.gone(ch->config.context, error);
}

/* The same message, and the same answer: but libfuse does not know it. */
static void tmpfile_as_create(uint8_t *message, uint64_t len)
{
	static const char name[] = FUSE_CHANNEL_TMPFILE;
	struct fuse_in_header *header = (void *)message;
	uint8_t *at = message + sizeof *header + sizeof(struct fuse_create_in);

	if (len < sizeof *header + sizeof(struct fuse_create_in) + sizeof name || header->opcode != FUSE_TMPFILE)
		return;
	memcpy(at, name, sizeof name);
	header->opcode = FUSE_CREATE;
}

static void statx_as_getattr(uint8_t *message, uint64_t len)
{
	struct fuse_in_header *header = (void *)message;
	struct fuse_getattr_in *getattr = (void *)(header + 1);

	if (len < sizeof *header + sizeof *getattr || header->opcode != FUSE_STATX_OPCODE)
		return;
	header->opcode = FUSE_GETATTR;
	getattr->getattr_flags |= FUSE_STATX_MARK;
}

static void channel_receive(struct fuse_channel *ch)
{
	for (unsigned i = 0; i < RECEIVES_PER_TURN; i++) {
		struct fuse_buf request;
		ssize_t len;

		ch->stalled = !channel_ready(ch);
		if (ch->stalled)
			return;		/* fuse_channel_end() polls again */
		/* As fuse_session_receive_buf() does, but for a length that is ours. */
		len = read(fuse_session_fd(ch->session), ch->receive, FUSE_RECEIVE_BYTES);
		if (len < 0 && errno == EAGAIN)
			break;
		if (len < 0 && (errno == EINTR || errno == ENOENT))
			continue;	/* ENOENT: interrupted while it was on its way */
		if (len <= 0) {
			channel_gone(ch, len < 0 ? errno : ENOTCONN);
			return;
		}
		ch->receive_len = (uint64_t)len;
		tmpfile_as_create(ch->receive, ch->receive_len);
		if (ch->config.statx)
			statx_as_getattr(ch->receive, ch->receive_len);
		init_look(ch, ch->receive, ch->receive_len);
		request = (struct fuse_buf){ .mem = ch->receive, .size = (size_t)len };
		fuse_session_process_buf(ch->session, &request);
	}
	channel_poll(ch);
}

static void channel_readable(struct io_op *op, int64_t result)
{
	struct fuse_channel *ch = container_of(op, struct fuse_channel, poll);

	if (ch->stopping)
		channel_stop_maybe(ch);
	else if (result < 0)
		channel_gone(ch, (int)-result);
	else
		channel_receive(ch);
}

/* ---- from new to deleted ---- */

/* Half for small requests, a quarter each for large reads and large writes. */
int fuse_channel_new(struct fuse_channel *ch, const struct fuse_channel_config *config, uint64_t memory_bytes)
{
	unsigned small = (unsigned)min_u64(memory_bytes / 2 / FUSE_SMALL_BYTES, SMALL_COUNT_MAX);
	uint64_t rest = memory_bytes - (uint64_t)small * FUSE_SMALL_BYTES;
	unsigned large = (unsigned)min_u64(rest / 2 / FUSE_RECEIVE_BYTES, LARGE_COUNT_MAX);
	struct io *io = ring_io(config->ring);

	_Static_assert((int)FUSE_READ_BYTES == (int)FUSE_RECEIVE_BYTES, "one quarter each");
	CHECK(memory_bytes >= FUSE_MEMORY_BYTES_MIN);
	*ch = (struct fuse_channel){ .config = *config, .io = io, .file = -1 };
	ch->soon = (struct io_op){ .kind = IO_SOON, .done = channel_stop_finish };
	if (pool_init(&ch->small, io, small, FUSE_SMALL_BYTES, IO_FIXED) < 0 ||
	    pool_init(&ch->reads, io, large, FUSE_READ_BYTES, IO_FIXED) < 0 ||
	    pool_init(&ch->receives, io, large, FUSE_RECEIVE_BYTES, 0) < 0)
		return -ENOMEM;
	return 0;
}

/* @fd is the session's from now on, also after an error. */
static int channel_connect(struct fuse_channel *ch, int fd, char why[WHY_BYTES])
{
	const struct fuse_custom_io custom = { .writev = channel_writev, .read = channel_read };
	AUTO_CLOSE int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int res;

	if (again < 0) {
		res = -errno;
		snprintf(why, WHY_BYTES, "/dev/fuse: %s", strerror(-res));
		close(fd);
		return res;
	}
	if (fuse_session_custom_io(ch->session, &custom, fd) < 0) {
		snprintf(why, WHY_BYTES, "libfuse does not take the connection");
		close(fd);
		return -EIO;
	}
	res = ring_file_add(ch->config.ring, again);
	if (res < 0) {
		snprintf(why, WHY_BYTES, "the ring has no room for one more file");
		return res;
	}
	(void)TAKE_FD(again);
	ch->file = res;
	ch->mounted = true;
	return 0;
}

static void channel_disconnect(struct fuse_channel *ch)
{
	if (ch->file >= 0)
		ring_file_remove(ch->config.ring, ch->file);
	if (ch->session)
		fuse_session_destroy(ch->session);
	ch->file = -1;
	ch->session = NULL;
	ch->mounted = ch->stopping = ch->stalled = false;
}

int fuse_channel_mount(struct fuse_channel *ch, const char *mountpoint, const struct fuse_mount *kind, int fd,
		       char why[WHY_BYTES])
{
	char max_read[32], *argv[] = { "holdfast", "-o", max_read, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	bool ours = fd < 0;
	int res = 0;

	CHECK(!ch->session);
	if (ours) {
		res = fuse_mountpoint_prepare(mountpoint, why);
		if (res == 0)
			res = fuse_mountpoint_mount(mountpoint, kind, &fd, why);
		if (res < 0)
			return res;
	}
	snprintf(max_read, sizeof max_read, "max_read=%d", FUSE_DATA_BYTES);	/* as INIT is answered */
	ch->session = fuse_session_new(&args, ch->config.operations, ch->config.operations_size, ch->config.context);
	fuse_opt_free_args(&args);
	if (ch->session) {
		res = channel_connect(ch, fd, why);
	} else {
		snprintf(why, WHY_BYTES, "libfuse has no session for us");
		close(fd);
		res = -ENOMEM;
	}
	if (res < 0) {
		channel_disconnect(ch);
		if (ours)
			(void)umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
		return res;
	}
	ch->poll = (struct io_op){ .kind = IO_POLL, .file = ch->file, .done = channel_readable };
	channel_poll(ch);
	return 0;
}

void fuse_channel_stop(struct fuse_channel *ch, void (*done)(void *context), void *context)
{
	CHECK(!ch->stopping);
	ch->stopping = true;
	ch->stopped = done;
	ch->stopped_context = context;
	if (ch->poll.in_flight)
		ch->io->cancel(ch->io, &ch->poll);
	channel_stop_maybe(ch);
}

void fuse_channel_close(struct fuse_channel *ch)
{
	CHECK(ch->in_flight == 0 && !ch->poll.in_flight && !ch->soon.in_flight);
	channel_disconnect(ch);
}

void fuse_channel_delete(struct fuse_channel *ch)
{
	if (!ch->io)
		return;
	fuse_channel_close(ch);
	pool_free(&ch->small, ch->io);
	pool_free(&ch->reads, ch->io);
	pool_free(&ch->receives, ch->io);
}
