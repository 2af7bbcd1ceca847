/* SPDX-License-Identifier: Apache-2.0 */
/* Writes, syncs, allocation, extended attributes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>

#include "mount_private.h"

/* Whether setuid and setgid go with it: libfuse does not pass it on. */
static unsigned write_flags(const struct mount_request *r)
{
	const struct fuse_in_header *header = request_message(r);
	const struct fuse_write_in *write = (const void *)(header + 1);

	return write->write_flags & FUSE_WRITE_KILL_SUIDGID ? WRITE_KILL_PRIVILEGES : 0;
}

/* In parts of OP_WRITE_MAX, each a record; what of them is done stays done when the next has to wait. */
void mount_op_write(fuse_req_t fuse, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
		    struct fuse_file_info *info)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, false, &caller);
	uint32_t written;
	int error = 0;

	if (!r)
		return;
	r->answer = ANSWER_WRITE;
	r->durable = info->flags & O_DSYNC;	/* a bit of O_SYNC */
	while (!error && r->done < size) {
		written = 0;
		error = op_write(&r->m->files, &caller, ino, (uint64_t)offset + r->done, bytes + r->done,
				 size - r->done, write_flags(r), &written);
		r->done += written;
	}
	if (error < 0 && error != -EAGAIN && r->done > 0)
		error = 0;		/* a part of it */
	request_end(r, error);
}

/* Everything that was answered before is covered. A secondary has nothing to make durable. */
void mount_op_fsync(fuse_req_t fuse, fuse_ino_t ino, int data_only, struct fuse_file_info *info)
{
	struct mount_request *r = request_begin(fuse, REQUEST_READS);

	(void)ino;
	(void)data_only;
	(void)info;
	if (!r)
		return;
	if (r->m->role == ROLE_PRIMARY)
		request_flush(r);
	else
		request_end(r, 0);
}

void mount_op_fallocate(fuse_req_t fuse, fuse_ino_t ino, int mode, off_t offset, off_t len,
			struct fuse_file_info *info)
{
	struct mount_request *r = request_begin(fuse, REQUEST_CHANGES);
	struct caller caller;

	(void)info;
	if (!r)
		return;
	caller = request_caller(r, false);
	request_end(r, op_fallocate(&r->m->files, &caller, ino, mode, (uint64_t)offset, (uint64_t)len));
}

void mount_op_lseek(fuse_req_t fuse, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *info)
{
	struct mount_request *r = request_begin(fuse, REQUEST_READS);
	uint64_t found = 0;
	int error;

	(void)info;
	if (!r)
		return;
	error = op_seek(&r->m->files, ino, (uint64_t)offset, whence, &found);
	if (error) {
		request_end(r, error);
		return;
	}
	fuse_reply_lseek(r->fuse, (off_t)found);
	request_give(r);
}

/* ---- extended attributes ---- */

void mount_op_setxattr(fuse_req_t fuse, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, true, &caller);

	if (!r)
		return;
	request_end(r, op_setxattr(&r->m->files, &caller, ino, name, value, size, flags));
}

void mount_op_removexattr(fuse_req_t fuse, fuse_ino_t ino, const char *name)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_CHANGES, true, &caller);

	if (!r)
		return;
	request_end(r, op_removexattr(&r->m->files, &caller, ino, name));
}

/* A value, or a list of names; its length when @size is 0. */
static void xattr_answer(struct mount_request *r, int error, size_t size, size_t len)
{
	if (error) {
		request_end(r, error);
		return;
	}
	if (size == 0)
		fuse_reply_xattr(r->fuse, len);
	else
		fuse_reply_buf(r->fuse, (const char *)r->data.bytes, len);
	request_give(r);
}

/* Where it goes. Nothing is longer than XATTR_VALUE_MAX. */
static char *xattr_room(struct mount_request *r, size_t *size)
{
	_Static_assert((int)XATTR_LIST_MAX_BYTES <= (int)XATTR_VALUE_MAX &&
		       (int)XATTR_VALUE_MAX <= (int)FUSE_SMALL_BYTES, "a small buffer does");
	if (*size > XATTR_VALUE_MAX)
		*size = XATTR_VALUE_MAX;
	if (*size && !r->data.pool)
		r->data = fuse_channel_reading(&r->m->channel, *size);
	return (char *)r->data.bytes;
}

static size_t lsn_text(struct mount *m, char *out, size_t room)
{
	struct volume_status status;
	uint64_t lsn = op_lsn(&m->files);

	volume_status(m->v, &status);
	if (m->role != ROLE_PRIMARY)
		lsn = status.lsn_visible;
	else if (!lsn)
		lsn = status.lsn_end;	/* of before we were primary */
	return (size_t)snprintf(out, room, "%llu", (unsigned long long)lsn);
}

static void lsn_answer(struct mount_request *r, size_t size)
{
	char text[32];
	size_t len = lsn_text(r->m, text, sizeof text);

	if (size > 0 && size < len) {
		request_end(r, -ERANGE);
		return;
	}
	if (size == 0)
		fuse_reply_xattr(r->fuse, len);
	else
		fuse_reply_buf(r->fuse, text, len);
	request_give(r);
}

void mount_op_getxattr(fuse_req_t fuse, fuse_ino_t ino, const char *name, size_t size)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_READS, false, &caller);
	size_t len = 0;
	char *out;
	int error;

	if (!r)
		return;
	if (strcmp(name, MOUNT_LSN_XATTR) == 0) {
		lsn_answer(r, size);
		return;
	}
	out = xattr_room(r, &size);
	error = op_getxattr(&r->m->files, &caller, ino, name, out, size, &len);
	xattr_answer(r, error, size, len);
}

void mount_op_listxattr(fuse_req_t fuse, fuse_ino_t ino, size_t size)
{
	struct caller caller;
	struct mount_request *r = request_begin_by(fuse, REQUEST_READS, false, &caller);
	size_t len = 0;
	char *out;
	int error;

	if (!r)
		return;
	out = xattr_room(r, &size);
	error = op_listxattr(&r->m->files, &caller, ino, out, size, &len);
	xattr_answer(r, error, size, len);
}
