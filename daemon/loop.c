/* SPDX-License-Identifier: Apache-2.0 */
/* The loop front end over FUSE's low-level protocol, on the ring's own thread.
 *
 * A request, from entry to answer:
 *   (fuse_channel.h)      received, and taken apart by libfuse, which calls op_*()
 *   op_read(), op_write() checked against the volume's end, given a buffer, submitted to the volume
 *   read_done(), ...      answered, exactly once; the buffer goes back */
#define FUSE_USE_VERSION 314
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
#include "fuse_channel.h"
#include "loop.h"
#include "say.h"

enum { INODE_FILE = FUSE_ROOT_ID + 1 };

static const char file_name[] = "volume";
static const double attr_seconds = 1;		/* the mode follows the role */
static const double entry_seconds = 3600;	/* the one name does not change */

struct loop_request {
	struct volume_request volume;
	struct loop *loop;
	fuse_req_t fuse;
	struct fuse_buffer buffer;
	int whence;			/* of lseek */
	struct loop_request *next_free;
};

struct loop {
	struct fuse_channel channel;
	struct io *io;
	struct volume *v;
	char name[NAME_BYTES], mountpoint[PATH_MAX];
	uint64_t volume_bytes;
	enum volume_role role;
	unsigned writers;
	struct loop_request *requests, *requests_free;
};

/* ---- requests ----------------------------------------------------------------------------- */

static bool loop_ready(void *context)
{
	return ((struct loop *)context)->requests_free != NULL;
}

static struct loop_request *request_take(struct loop *loop, fuse_req_t fuse, enum volume_op op,
					 uint64_t offset, uint64_t len)
{
	struct loop_request *r = loop->requests_free;

	CHECK(r != NULL);
	loop->requests_free = r->next_free;
	fuse_channel_begin(&loop->channel);
	r->volume = (struct volume_request){ .op = op, .offset = offset, .len = len };
	r->fuse = fuse;
	return r;
}

/* After its answer. */
static void request_give(struct loop_request *r)
{
	struct loop *loop = r->loop;

	fuse_channel_give(&loop->channel, &r->buffer);
	r->next_free = loop->requests_free;
	loop->requests_free = r;
	fuse_channel_end(&loop->channel);
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
	if (refused(fuse, inode != INODE_FILE || offset < 0 || size > FUSE_DATA_BYTES, EINVAL))
		return;
	len = start < loop->volume_bytes ? min_u64(size, loop->volume_bytes - start) : 0;
	if (len == 0) {
		fuse_reply_buf(fuse, NULL, 0);
		return;
	}
	r = request_take(loop, fuse, VOLUME_READ, start, len);
	r->buffer = fuse_channel_reading(&loop->channel, VOLUME_BUFFER_BYTES(start, len));
	r->volume.buffer = r->buffer.bytes;
	request_submit(r, read_done);
}

static void op_write(fuse_req_t fuse, fuse_ino_t inode, const char *bytes, size_t size,
		     off_t offset, struct fuse_file_info *info)
{
	struct loop *loop = fuse_req_userdata(fuse);
	struct loop_request *r;
	uint64_t start = (uint64_t)offset, len;

	if (refused(fuse, inode != INODE_FILE || offset < 0 ||
	    !fuse_channel_received(&loop->channel, bytes, size), EINVAL))
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
	r->buffer = fuse_channel_keep(&loop->channel, bytes, len, &r->volume.buffer);
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
	conn->max_write = conn->max_read = FUSE_DATA_BYTES;
	conn->max_background = FUSE_BACKGROUND;
	conn->congestion_threshold = FUSE_CONGESTION;
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

/* ---- from new to free --------------------------------------------------------------------- */

static void loop_gone(void *context, int error)
{
	struct loop *loop = context;

	loop->writers = 0;		/* no release will come */
	say(loop->io, IO_WARNING,
	    "volume=%s loop: the mount %s is gone (%s), the volume goes on without; "
	    "restart the daemon to have it back",
	    loop->name, loop->mountpoint, strerror(error));
}

/* Lazily when somebody has it open: he gets errors once the session's fd is closed. All I/O is direct, so the kernel
 * has nothing to write back and umount2() does not wait for us. */
static void loop_unmount(struct loop *loop)
{
	if (!loop->channel.mounted)
		return;
	loop->channel.mounted = false;
	if (umount2(loop->mountpoint, UMOUNT_NOFOLLOW) == 0)
		return;
	if (errno == EBUSY) {
		say(loop->io, IO_WARNING,
		    "volume=%s loop: %s/%s is still open; who has it open gets errors "
		    "from now on", loop->name, loop->mountpoint, file_name);
		(void)umount2(loop->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
}

static int loop_allot(struct loop *loop, struct ring *ring, uint64_t memory_bytes)
{
	const struct fuse_channel_config config = {
		.ring = ring, .operations = &operations, .operations_size = sizeof operations, .context = loop,
		.ready = loop_ready, .gone = loop_gone,
	};

	if (fuse_channel_new(&loop->channel, &config, memory_bytes) < 0)
		return -ENOMEM;
	loop->requests = loop->io->alloc(loop->io, FUSE_REQUESTS * sizeof *loop->requests, 0);
	if (!loop->requests)
		return -ENOMEM;
	for (unsigned i = 0; i < FUSE_REQUESTS; i++) {
		loop->requests[i].loop = loop;
		loop->requests[i].next_free = loop->requests_free;
		loop->requests_free = &loop->requests[i];
	}
	return 0;
}

int loop_new(struct loop **out, struct ring *ring, struct volume *v, const char *mountpoint, int fd,
	     uint64_t memory_bytes, char why[WHY_BYTES])
{
	AUTO_CLOSE int mounted = fd;
	struct io *io = ring_io(ring);
	struct volume_status status;
	struct loop *loop;
	int res = 0;

	if (memory_bytes < FUSE_MEMORY_BYTES_MIN) {
		snprintf(why, WHY_BYTES,
			 "the loop front end has %u bytes of memory, it needs 16 MiB",
			 (unsigned)memory_bytes);
		return -EINVAL;
	}
	loop = io->alloc(io, sizeof *loop, 0);
	if (loop) {
		volume_status(v, &status);
		*loop = (struct loop){ .io = io, .v = v, .volume_bytes = status.geometry.volume_bytes };
		loop_role_changed(loop);
		snprintf(loop->name, sizeof loop->name, "%s", status.name);
		snprintf(loop->mountpoint, sizeof loop->mountpoint, "%s", mountpoint);
		res = loop_allot(loop, ring, memory_bytes);
	}
	if (!loop || res < 0) {
		snprintf(why, WHY_BYTES, "the loop front end's memory of %u MiB is not there",
			 (unsigned)(memory_bytes >> 20));
		loop_free(loop);
		return -ENOMEM;
	}
	res = fuse_channel_mount(&loop->channel, loop->mountpoint, &fuse_mount_loop, TAKE_FD(mounted), why);
	if (res < 0) {
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
	/* Who writes past a filesystem of ours destroys it. */
	loop->role = volume_blocks(loop->v) ? ROLE_SECONDARY : status.role;
}

unsigned loop_writers(const struct loop *loop)
{
	return loop->writers;
}

void loop_stop(struct loop *loop, void (*done)(void *context), void *context)
{
	loop_unmount(loop);
	fuse_channel_stop(&loop->channel, done, context);
}

void loop_free(struct loop *loop)
{
	struct io *io;

	if (!loop)
		return;
	io = loop->io;
	fuse_channel_delete(&loop->channel);
	io->free(io, loop->requests);
	io->free(io, loop);
}
