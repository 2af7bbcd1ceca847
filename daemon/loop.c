/* SPDX-License-Identifier: Apache-2.0 */
/* The loop front end over FUSE's low-level protocol, on the ring's own thread.
 *
 * A request, from entry to answer:
 *   loop_readable()       the ring says that /dev/fuse has something
 *   loop_receive()        read into the receive buffer, taken apart by libfuse, which calls op_*()
 *   op_read(), op_write() checked against the volume's end, given a buffer, submitted to the volume
 *   read_done(), ...      answered, exactly once; the buffer goes back to its pool
 *
 * Invariant: a request is received only while a slot, a large read buffer and a receive buffer are
 * free, so that whatever it turns out to be can be served. Otherwise it waits in the kernel
 * (back-pressure).
 *
 * A large write keeps the receive buffer that it came in, and the next one is received into
 * another. A small write is copied into a small buffer instead: it would hold 1 MiB for 4 KiB of
 * data.
 *
 * We mount and unmount by ourselves, and libfuse gets the open /dev/fuse: so the fd is non-blocking
 * from the start, and libfuse does not unmount a second time what stop has detached. Nothing here
 * touches a path below the mountpoint while it is mounted: we would wait for ourselves. */
#define FUSE_USE_VERSION 314
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "auto.h"
#include "bytes.h"
#include "loop.h"
#include "loop_mountpoint.h"
#include "say.h"

enum {
	DATA_BYTES = 1 << 20,			/* of one FUSE read or write: the most */
	RECEIVE_BYTES = DATA_BYTES + 4096,	/* and headers, less than a page */
	READ_BYTES = DATA_BYTES + BLOCK_BYTES,	/* VOLUME_BUFFER_BYTES of an unaligned read */
	SMALL_DATA_BYTES = 64 << 10,
	SMALL_BYTES = SMALL_DATA_BYTES + BLOCK_BYTES,
	SMALL_COUNT_MAX = 256,			/* as many as the kernel keeps in the background */
	LARGE_COUNT_MAX = 64,			/* 64 MiB in flight keep any disk busy */
	REQUESTS = 512,				/* as many again by threads that wait */
	BACKGROUND = 256, CONGESTION = 192,
	RECEIVES_PER_TURN = 64,			/* then peers and disks have their turn */
	INODE_FILE = FUSE_ROOT_ID + 1,
};

static const uint64_t memory_bytes_min = 16 << 20;
static const char file_name[] = "volume";
static const double attr_seconds = 1;		/* the mode follows the role */
static const double entry_seconds = 3600;	/* the one name does not change */

struct pool {
	uint8_t *memory, **free;	/* free: the first free_count are not in use */
	unsigned free_count, count;
};

struct loop_request {
	struct volume_request volume;
	struct loop *loop;
	fuse_req_t fuse;
	struct pool *pool;		/* of @buffer; NULL when there is none */
	uint8_t *buffer;
	int whence;			/* of lseek */
	struct loop_request *next_free;
};

struct loop {
	struct ring *ring;
	struct io *io;
	struct volume *v;
	char name[NAME_BYTES], mountpoint[PATH_MAX];
	uint64_t volume_bytes;
	enum volume_role role;
	unsigned writers;

	struct fuse_session *session;
	int file;			/* of the ring: the session's fd again, to poll; -1 */
	bool mounted, stalled, stopping;
	struct io_op poll, soon;
	void (*stopped)(void *context);
	void *stopped_context;

	struct pool small, reads, receives;
	uint8_t *receive; /* what the next request is received into; NULL when all are in use */
	uint64_t receive_len;
	struct loop_request *requests, *requests_free;
	unsigned in_flight;
};

/* ---- pools -------------------------------------------------------------------------------- */

static int pool_init(struct pool *pool, struct io *io, unsigned count, size_t each, unsigned flags)
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

static void pool_free(struct pool *pool, struct io *io)
{
	io->free(io, pool->memory);
	io->free(io, pool->free);
}

static uint8_t *pool_take(struct pool *pool)
{
	return pool->free_count ? pool->free[--pool->free_count] : NULL;
}

static void pool_give(struct pool *pool, uint8_t *buffer)
{
	CHECK(pool->free_count < pool->count);
	pool->free[pool->free_count++] = buffer;
}

/* Half for small requests, a quarter each for large reads and large writes. */
static int loop_allot(struct loop *loop, uint64_t memory_bytes)
{
	struct io *io = loop->io;
	unsigned small = (unsigned)min_u64(memory_bytes / 2 / SMALL_BYTES, SMALL_COUNT_MAX);
	uint64_t rest = memory_bytes - (uint64_t)small * SMALL_BYTES;
	unsigned large = (unsigned)min_u64(rest / 2 / RECEIVE_BYTES, LARGE_COUNT_MAX);

	_Static_assert((int)READ_BYTES == (int)RECEIVE_BYTES, "one quarter each");
	if (pool_init(&loop->small, io, small, SMALL_BYTES, IO_FIXED) < 0 ||
	    pool_init(&loop->reads, io, large, READ_BYTES, IO_FIXED) < 0 ||
	    pool_init(&loop->receives, io, large, RECEIVE_BYTES, 0) < 0)
		return -ENOMEM;
	loop->requests = io->alloc(io, REQUESTS * sizeof *loop->requests, 0);
	if (!loop->requests)
		return -ENOMEM;
	for (unsigned i = 0; i < REQUESTS; i++) {
		loop->requests[i].loop = loop;
		loop->requests[i].next_free = loop->requests_free;
		loop->requests_free = &loop->requests[i];
	}
	return 0;
}

/* ---- requests ----------------------------------------------------------------------------- */

static bool loop_ready(struct loop *loop)
{
	if (!loop->receive)
		loop->receive = pool_take(&loop->receives);
	return loop->receive && loop->reads.free_count > 0 && loop->requests_free;
}

static void loop_poll(struct loop *loop)
{
	if (!loop->poll.in_flight && !loop->stopping && loop->mounted)
		loop->io->submit(loop->io, &loop->poll);
}

static void loop_stop_finish(struct io_op *op, int64_t result)
{
	struct loop *loop = container_of(op, struct loop, soon);

	(void)result;
	loop->stopped(loop->stopped_context);
}

static void loop_stop_maybe(struct loop *loop)
{
	if (loop->stopping && !loop->in_flight && !loop->poll.in_flight && !loop->soon.in_flight)
		loop->io->submit(loop->io, &loop->soon);
}

static struct loop_request *request_take(struct loop *loop, fuse_req_t fuse, enum volume_op op,
					 uint64_t offset, uint64_t len)
{
	struct loop_request *r = loop->requests_free;

	CHECK(r != NULL);
	loop->requests_free = r->next_free;
	loop->in_flight++;
	r->volume = (struct volume_request){ .op = op, .offset = offset, .len = len };
	r->fuse = fuse;
	r->pool = NULL;
	r->buffer = NULL;
	return r;
}

/* After its answer. What waited for its buffer is received from the ring, not from here. */
static void request_give(struct loop_request *r)
{
	struct loop *loop = r->loop;

	if (r->pool)
		pool_give(r->pool, r->buffer);
	r->next_free = loop->requests_free;
	loop->requests_free = r;
	CHECK(loop->in_flight > 0);
	loop->in_flight--;
	if (loop->stalled && loop_ready(loop)) {
		loop->stalled = false;
		loop_poll(loop);
	}
	loop_stop_maybe(loop);
}

static void request_submit(struct loop_request *r,
			   void (*done)(struct volume_request *request, int result))
{
	r->volume.done = done;
	volume_submit(r->loop->v, &r->volume);
}

/* Flush, discard, zero: an answer without data. */
static void request_done(struct volume_request *request, int result)
{
	struct loop_request *r = container_of(request, struct loop_request, volume);

	fuse_reply_err(r->fuse, result < 0 ? -result : 0);
	request_give(r);
}

static void read_done(struct volume_request *request, int result)
{
	struct loop_request *r = container_of(request, struct loop_request, volume);
	const uint8_t *bytes = request->buffer + request->offset % BLOCK_BYTES;

	if (result < 0)
		fuse_reply_err(r->fuse, -result);
	else
		fuse_reply_buf(r->fuse, (const char *)bytes, request->len);
	request_give(r);
}

static void write_done(struct volume_request *request, int result)
{
	struct loop_request *r = container_of(request, struct loop_request, volume);

	if (result < 0)
		fuse_reply_err(r->fuse, -result);
	else
		fuse_reply_write(r->fuse, request->len);
	request_give(r);
}

static bool refused(fuse_req_t fuse, bool bad, int error)
{
	if (bad)
		fuse_reply_err(fuse, error);
	return bad;
}

/* ---- operations on the file's bytes ------------------------------------------------------- */

static void op_read(fuse_req_t fuse, fuse_ino_t inode, size_t size, off_t offset,
		    struct fuse_file_info *info)
{
	struct loop *loop = fuse_req_userdata(fuse);
	struct loop_request *r;
	uint64_t start = (uint64_t)offset, len;

	(void)info;
	if (refused(fuse, inode != INODE_FILE || offset < 0 || size > DATA_BYTES, EINVAL))
		return;
	len = start < loop->volume_bytes ? min_u64(size, loop->volume_bytes - start) : 0;
	if (len == 0) {
		fuse_reply_buf(fuse, NULL, 0);
		return;
	}
	r = request_take(loop, fuse, VOLUME_READ, start, len);
	if (VOLUME_BUFFER_BYTES(start, len) <= SMALL_BYTES) {
		r->pool = &loop->small;
		r->buffer = pool_take(r->pool);
	}
	if (!r->buffer) {
		r->pool = &loop->reads;
		r->buffer = pool_take(r->pool);
	}
	CHECK(r->buffer != NULL);
	r->volume.buffer = r->buffer;
	request_submit(r, read_done);
}

/* @bytes lie in loop->receive, which becomes the request's when they are many. */
static void op_write(fuse_req_t fuse, fuse_ino_t inode, const char *bytes, size_t size,
		     off_t offset, struct fuse_file_info *info)
{
	struct loop *loop = fuse_req_userdata(fuse);
	struct loop_request *r;
	size_t place = (size_t)((const uint8_t *)bytes - loop->receive);
	uint64_t start = (uint64_t)offset, len;

	if (refused(fuse, inode != INODE_FILE || offset < 0 || place > loop->receive_len ||
	    size > loop->receive_len - place, EINVAL))
		return;
	if (size == 0) {
		fuse_reply_write(fuse, 0);
		return;
	}
	if (refused(fuse, start >= loop->volume_bytes, ENOSPC))
		return;
	len = min_u64(size, loop->volume_bytes - start);
	r = request_take(loop, fuse, VOLUME_WRITE, start, len);
	/* O_DSYNC is a bit of O_SYNC. The kernel sends it for RWF_DSYNC as well. */
	r->volume.flags = info->flags & O_DSYNC ? VOLUME_FUA : 0;
	if (len <= SMALL_DATA_BYTES) {
		r->pool = &loop->small;
		r->buffer = pool_take(r->pool);
	}
	if (r->buffer) {
		r->volume.buffer = memcpy(r->buffer, bytes, len);
	} else {
		r->pool = &loop->receives;
		r->buffer = loop->receive;
		r->volume.buffer = r->buffer + place;
		loop->receive = NULL;
	}
	request_submit(r, write_done);
}

static void op_fsync(fuse_req_t fuse, fuse_ino_t inode, int data_only, struct fuse_file_info *info)
{
	struct loop *loop = fuse_req_userdata(fuse);

	(void)data_only;
	(void)info;
	if (inode != INODE_FILE)
		fuse_reply_err(fuse, EINVAL);
	else
		request_submit(request_take(loop, fuse, VOLUME_FLUSH, 0, 0), request_done);
}

static void op_fallocate(fuse_req_t fuse, fuse_ino_t inode, int mode, off_t offset, off_t length,
			 struct fuse_file_info *info)
{
	struct loop *loop = fuse_req_userdata(fuse);
	bool punch = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	bool zero = (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
	uint64_t start = (uint64_t)offset, len = (uint64_t)length, room;

	(void)info;
	if (refused(fuse, inode != INODE_FILE || offset < 0 || length <= 0, EINVAL))
		return;
	if (refused(fuse, !punch && !zero, EOPNOTSUPP))
		return;
	room = start < loop->volume_bytes ? loop->volume_bytes - start : 0;
	if (refused(fuse, len > room && !(mode & FALLOC_FL_KEEP_SIZE), EFBIG))
		return;
	len = min_u64(len, room);
	if (len == 0)
		fuse_reply_err(fuse, 0);
	else
		request_submit(
			request_take(loop, fuse, punch ? VOLUME_DISCARD : VOLUME_ZERO, start, len),
			request_done);
}

/* One step of lseek: the bytes at offset are data (1), or a hole (0), for extent bytes. */
static void lseek_done(struct volume_request *request, int result)
{
	struct loop_request *r = container_of(request, struct loop_request, volume);
	uint64_t size = r->loop->volume_bytes;

	if (result < 0) {
		fuse_reply_err(r->fuse, -result);
	} else if (result == (r->whence == SEEK_DATA)) {
		fuse_reply_lseek(r->fuse, (off_t)request->offset);
	} else {
		CHECK(request->extent > 0 && request->extent <= request->len);
		request->offset += request->extent;
		request->len -= request->extent;
		if (request->len > 0) {
			volume_submit(r->loop->v, request);
			return;
		}
		if (r->whence == SEEK_DATA)
			fuse_reply_err(r->fuse, ENXIO);
		else
			fuse_reply_lseek(r->fuse, (off_t)size);
	}
	request_give(r);
}

static void op_lseek(fuse_req_t fuse, fuse_ino_t inode, off_t offset, int whence,
		     struct fuse_file_info *info)
{
	struct loop *loop = fuse_req_userdata(fuse);
	struct loop_request *r;
	uint64_t start = (uint64_t)offset;

	(void)info;
	if (refused(fuse, inode != INODE_FILE || (whence != SEEK_DATA && whence != SEEK_HOLE),
		    EINVAL))
		return;
	if (refused(fuse, offset < 0 || start >= loop->volume_bytes, ENXIO))
		return;
	r = request_take(loop, fuse, VOLUME_MAP, start, loop->volume_bytes - start);
	r->whence = whence;
	request_submit(r, lseek_done);
}

/* ---- operations on names and attributes --------------------------------------------------- */

static void attr_of(const struct loop *loop, fuse_ino_t inode, struct stat *st)
{
	memset(st, 0, sizeof *st);
	st->st_ino = inode;
	st->st_uid = geteuid();
	st->st_gid = getegid();
	st->st_blksize = BLOCK_BYTES;
	if (inode == FUSE_ROOT_ID) {
		st->st_mode = S_IFDIR | 0500;
		st->st_nlink = 2;
	} else {
		st->st_mode = S_IFREG | (loop->role == ROLE_PRIMARY ? 0600 : 0400);
		st->st_nlink = 1;
		st->st_size = (off_t)loop->volume_bytes;
		st->st_blocks = (blkcnt_t)(loop->volume_bytes / 512);
	}
}

static void op_init(void *context, struct fuse_conn_info *conn)
{
	(void)context;
	conn->max_write = conn->max_read = DATA_BYTES;
	conn->max_background = BACKGROUND;
	conn->congestion_threshold = CONGESTION;
	/* Without atomic O_TRUNC the kernel asks for a truncation, which op_setattr() refuses. */
	conn->want &=
		~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_WRITEBACK_CACHE |
			    FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want |= conn->capable & FUSE_CAP_ASYNC_DIO;
}

static void op_lookup(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
	struct loop *loop = fuse_req_userdata(fuse);
	struct fuse_entry_param entry = { .ino = INODE_FILE, .generation = 1,
					  .attr_timeout = attr_seconds,
					  .entry_timeout = entry_seconds };

	if (refused(fuse, parent != FUSE_ROOT_ID || strcmp(name, file_name) != 0, ENOENT))
		return;
	attr_of(loop, INODE_FILE, &entry.attr);
	fuse_reply_entry(fuse, &entry);
}

static void op_getattr(fuse_req_t fuse, fuse_ino_t inode, struct fuse_file_info *info)
{
	struct stat st;

	(void)info;
	attr_of(fuse_req_userdata(fuse), inode, &st);
	fuse_reply_attr(fuse, &st, attr_seconds);
}

/* Times, mode and owner are as they are; the size of a volume does not change by truncation. */
static void op_setattr(fuse_req_t fuse, fuse_ino_t inode, struct stat *attr, int to_set,
		       struct fuse_file_info *info)
{
	struct loop *loop = fuse_req_userdata(fuse);

	if (to_set & FUSE_SET_ATTR_SIZE && (uint64_t)attr->st_size != loop->volume_bytes)
		fuse_reply_err(fuse, EINVAL);
	else
		op_getattr(fuse, inode, info);
}

/* libfuse 3.14 has no word for parallel direct writes, so the answer is put together here: without
 * that flag the kernel sends one write at a time. The handle says whether release has a writer to
 * forget. */
static void op_open(fuse_req_t fuse, fuse_ino_t inode, struct fuse_file_info *info)
{
	struct loop *loop = fuse_req_userdata(fuse);
	bool writes = (info->flags & O_ACCMODE) != O_RDONLY;
	struct fuse_open_out out = { .fh = writes,
				     .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES };

	if (refused(fuse, inode != INODE_FILE, EISDIR))
		return;
	if (refused(fuse, writes && loop->role != ROLE_PRIMARY, EROFS))
		return;
	loop->writers += writes;
	/* The caller was interrupted: there will be no release. */
	if (fuse_reply_buf(fuse, (const char *)&out, sizeof out) < 0)
		loop->writers -= writes;
}

static void op_release(fuse_req_t fuse, fuse_ino_t inode, struct fuse_file_info *info)
{
	struct loop *loop = fuse_req_userdata(fuse);

	if (inode == INODE_FILE && info->fh) {
		CHECK(loop->writers > 0);
		loop->writers--;
	}
	fuse_reply_err(fuse, 0);
}

static void op_readdir(fuse_req_t fuse, fuse_ino_t inode, size_t size, off_t offset,
		       struct fuse_file_info *info)
{
	static const char *const names[] = { ".", "..", file_name };
	char entries[256];
	size_t len = 0;

	(void)info;
	if (refused(fuse, inode != FUSE_ROOT_ID, ENOTDIR))
		return;
	size = min_u64(size, sizeof entries);
	for (off_t i = offset < 0 ? 3 : offset; i < 3; i++) {
		struct stat st = { .st_ino = i < 2 ? FUSE_ROOT_ID : INODE_FILE,
				   .st_mode = i < 2 ? S_IFDIR : S_IFREG };
		size_t more =
			fuse_add_direntry(fuse, entries + len, size - len, names[i], &st, i + 1);

		if (more > size - len)
			break;
		len += more;
	}
	fuse_reply_buf(fuse, entries, len);
}

static void op_statfs(fuse_req_t fuse, fuse_ino_t inode)
{
	struct loop *loop = fuse_req_userdata(fuse);
	struct statvfs st = { .f_bsize = BLOCK_BYTES, .f_frsize = BLOCK_BYTES,
			      .f_files = 2, .f_namemax = 255,
			      .f_blocks = loop->volume_bytes / BLOCK_BYTES };

	(void)inode;
	fuse_reply_statfs(fuse, &st);
}

/* Without flush close() asks us nothing; it makes nothing durable anyway. */
static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.release = op_release,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.readdir = op_readdir,
	.statfs = op_statfs,
};

/* ---- the connection to the kernel --------------------------------------------------------- */

/* Not by us: somebody unmounted it, or aborted the connection. */
static void loop_gone(struct loop *loop, int error)
{
	loop->mounted = false;
	loop->writers = 0;		/* no release will come */
	if (!loop->stopping)
		say(loop->io, IO_WARNING,
		    "volume=%s loop: the mount %s is gone (%s), the volume goes on without; "
		    "restart the daemon to have it back",
		    loop->name, loop->mountpoint, strerror(error));
}

static void loop_receive(struct loop *loop)
{
	for (unsigned i = 0; i < RECEIVES_PER_TURN; i++) {
		struct fuse_buf request;
		ssize_t len;

		loop->stalled = !loop_ready(loop);
		if (loop->stalled)
			return;		/* request_give() polls again */
		/* As fuse_session_receive_buf() does, but for a length that is ours. */
		len = read(fuse_session_fd(loop->session), loop->receive, RECEIVE_BYTES);
		if (len < 0 && errno == EAGAIN)
			break;
		if (len < 0 && (errno == EINTR || errno == ENOENT))
			continue;	/* ENOENT: interrupted while it was on its way */
		if (len <= 0) {
			loop_gone(loop, len < 0 ? errno : ENOTCONN);
			return;
		}
		loop->receive_len = (uint64_t)len;
		request = (struct fuse_buf){ .mem = loop->receive, .size = (size_t)len };
		fuse_session_process_buf(loop->session, &request);
	}
	loop_poll(loop);
}

static void loop_readable(struct io_op *op, int64_t result)
{
	struct loop *loop = container_of(op, struct loop, poll);

	if (loop->stopping)
		loop_stop_maybe(loop);
	else if (result < 0)
		loop_gone(loop, (int)-result);
	else
		loop_receive(loop);
}

static int loop_mount(struct loop *loop, char why[WHY_BYTES])
{
	char options[128], device[32];
	AUTO_CLOSE int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	AUTO_CLOSE int again = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int res;

	if (fd < 0 || again < 0) {
		res = -errno;
		snprintf(why, WHY_BYTES, "/dev/fuse: %s; load the fuse module, or set loop = no",
			 strerror(-res));
		return res;
	}
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u,max_read=%d",
		 fd, geteuid(), getegid(), DATA_BYTES);
	if (mount("holdfast", loop->mountpoint, "fuse.holdfast", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  options) < 0) {
		res = -errno;
		snprintf(why, WHY_BYTES,
			 "the mountpoint %.200s cannot be mounted: %s; be root, or set loop = no",
			 loop->mountpoint, strerror(-res));
		return res;
	}
	loop->mounted = true;
	snprintf(device, sizeof device, "/dev/fd/%d", fd);
	if (fuse_session_mount(loop->session, device) != 0) {
		snprintf(why, WHY_BYTES, "libfuse does not take %s", device);
		return -EIO;
	}
	(void)TAKE_FD(fd);		/* the session's */
	res = ring_file_add(loop->ring, again);
	if (res < 0) {
		snprintf(why, WHY_BYTES, "the ring has no room for one more file");
		return res;
	}
	(void)TAKE_FD(again);
	loop->file = res;
	return 0;
}

/* Lazily when somebody has it open: he gets errors once the session's fd is closed. */
static void loop_unmount(struct loop *loop)
{
	if (!loop->mounted)
		return;
	loop->mounted = false;
	if (umount2(loop->mountpoint, UMOUNT_NOFOLLOW) == 0)
		return;
	if (errno == EBUSY) {
		say(loop->io, IO_WARNING,
		    "volume=%s loop: %s/%s is still open; who has it open gets errors "
		    "from now on", loop->name, loop->mountpoint, file_name);
		(void)umount2(loop->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
}

static int loop_start(struct loop *loop, char why[WHY_BYTES])
{
	char max_read[32], *argv[] = { "holdfast", "-o", max_read, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	int res = loop_mountpoint_prepare(loop->mountpoint, why);

	if (res < 0)
		return res;
	snprintf(max_read, sizeof max_read, "max_read=%d", DATA_BYTES);	/* as op_init() has it */
	loop->session = fuse_session_new(&args, &operations, sizeof operations, loop);
	fuse_opt_free_args(&args);
	if (!loop->session) {
		snprintf(why, WHY_BYTES, "libfuse has no session for us");
		return -ENOMEM;
	}
	res = loop_mount(loop, why);
	if (res < 0)
		return res;
	loop->poll = (struct io_op){ .kind = IO_POLL, .file = loop->file, .done = loop_readable };
	loop->soon = (struct io_op){ .kind = IO_SOON, .done = loop_stop_finish };
	loop_poll(loop);
	return 0;
}

int loop_new(struct loop **out, struct ring *ring, struct volume *v, const char *mountpoint,
	     uint64_t memory_bytes, char why[WHY_BYTES])
{
	struct io *io = ring_io(ring);
	struct volume_status status;
	struct loop *loop;
	int res = 0;

	if (memory_bytes < memory_bytes_min) {
		snprintf(why, WHY_BYTES,
			 "the loop front end has %u bytes of memory, it needs 16 MiB",
			 (unsigned)memory_bytes);
		return -EINVAL;
	}
	loop = io->alloc(io, sizeof *loop, 0);
	if (loop) {
		volume_status(v, &status);
		*loop = (struct loop){ .ring = ring, .io = io, .v = v, .file = -1,
				       .role = status.role,
				       .volume_bytes = status.geometry.volume_bytes };
		snprintf(loop->name, sizeof loop->name, "%s", status.name);
		snprintf(loop->mountpoint, sizeof loop->mountpoint, "%s", mountpoint);
		res = loop_allot(loop, memory_bytes);
	}
	if (!loop || res < 0) {
		snprintf(why, WHY_BYTES, "the loop front end's memory of %u MiB is not there",
			 (unsigned)(memory_bytes >> 20));
		loop_free(loop);
		return -ENOMEM;
	}
	res = loop_start(loop, why);
	if (res < 0) {
		loop_unmount(loop);
		loop_free(loop);
		return res;
	}
	*out = loop;
	return 0;
}

void loop_role_changed(struct loop *loop)
{
	struct volume_status status;

	volume_status(loop->v, &status);
	loop->role = status.role;
}

unsigned loop_writers(const struct loop *loop)
{
	return loop->writers;
}

void loop_stop(struct loop *loop, void (*done)(void *context), void *context)
{
	CHECK(!loop->stopping);
	loop->stopping = true;
	loop->stopped = done;
	loop->stopped_context = context;
	loop_unmount(loop);
	if (loop->poll.in_flight)
		loop->io->cancel(loop->io, &loop->poll);
	loop_stop_maybe(loop);
}

void loop_free(struct loop *loop)
{
	struct io *io;

	if (!loop)
		return;
	io = loop->io;
	CHECK(loop->in_flight == 0 && !loop->poll.in_flight && !loop->soon.in_flight);
	if (loop->file >= 0)
		ring_file_remove(loop->ring, loop->file);
	if (loop->session)
		fuse_session_destroy(loop->session);
	pool_free(&loop->small, io);
	pool_free(&loop->reads, io);
	pool_free(&loop->receives, io);
	io->free(io, loop->requests);
	io->free(io, loop);
}
