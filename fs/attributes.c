/* SPDX-License-Identifier: Apache-2.0 */
/* setattr: chmod, chown, truncate, utimens, any of them in one request; and open, which may truncate. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "acl.h"
#include "file.h"

enum { SET_TIMES = SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW, SET_NOW = SET_ATIME_NOW | SET_MTIME_NOW };

static int may_chown(const struct caller *caller, const struct inode *inode, const struct attributes_set *set)
{
	bool owner = caller->uid == inode->uid;

	if (caller->checked || caller->uid == 0)
		return 0;
	if (set->valid & SET_UID && !(owner && set->uid == inode->uid))
		return -EPERM;
	if (set->valid & SET_GID && !(owner && (set->gid == inode->gid || caller_in_group(caller, set->gid))))
		return -EPERM;
	return 0;
}

/* Both times to now is what a write does too: who may write may. */
static int may_touch(struct files *f, const struct caller *caller, const struct inode *inode,
		     const struct attributes_set *set)
{
	if (!(set->valid & SET_TIMES) || inode_owned(caller, inode))
		return 0;
	return (set->valid & SET_TIMES) == SET_NOW ? inode_may(f, caller, inode, MAY_WRITE) : -EPERM;
}

static int may_resize(struct files *f, const struct caller *caller, const struct inode *inode,
		      const struct attributes_set *set)
{
	int error = 0;

	if (!(set->valid & SET_SIZE))
		return 0;
	if (!S_ISREG(inode->mode))
		return S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
	if (!(set->valid & SET_BY_HANDLE))
		error = inode_may(f, caller, inode, MAY_WRITE);
	return error ? error : set->size > FILE_BYTES_MAX ? -EFBIG : 0;
}

static int may_set(struct files *f, const struct caller *caller, const struct inode *inode,
		   const struct attributes_set *set)
{
	int error = may_chown(caller, inode, set);

	if (error == 0 && set->valid & SET_MODE && !inode_owned(caller, inode))
		error = -EPERM;
	if (error == 0)
		error = may_touch(f, caller, inode, set);
	return error ? error : may_resize(f, caller, inode, set);
}

static int set_mode(struct files *f, const struct caller *caller, struct inode *inode, const struct attributes_set *set)
{
	bool owner_moves = set->valid & (SET_UID | SET_GID) && !S_ISDIR(inode->mode);
	bool cut = set->valid & SET_SIZE && caller->uid && !caller->checked;

	if (set->valid & SET_UID)
		inode->uid = set->uid;
	if (set->valid & SET_GID)
		inode->gid = set->gid;
	if (owner_moves || cut || set->valid & SET_KILL_PRIVILEGES)
		inode_kill_privileges(inode);
	if (!(set->valid & SET_MODE))
		return 0;
	inode->mode = (inode->mode & S_IFMT) | (set->mode & 07777);
	if (caller->uid && !caller->checked && !caller_in_group(caller, inode->gid))
		inode->mode &= ~(uint32_t)S_ISGID;
	return acl_chmod(f, inode);
}

static void set_times(const struct caller *caller, struct inode *inode, const struct attributes_set *set)
{
	inode->ctime = set->valid & SET_CTIME ? set->ctime : caller->now;
	if (set->valid & SET_SIZE)
		inode->mtime = caller->now;
	if (set->valid & (SET_ATIME | SET_ATIME_NOW))
		inode->atime = set->valid & SET_ATIME_NOW ? caller->now : set->atime;
	if (set->valid & (SET_MTIME | SET_MTIME_NOW))
		inode->mtime = set->valid & SET_MTIME_NOW ? caller->now : set->mtime;
}

/* The inode is changed and written, unless something of an earlier cut is in the way: OP_AGAIN then. Of a cut that
 * takes several records a new owner and mode go with the last one: the call that goes on must be allowed what the first
 * one was. */
static int apply(struct files *f, const struct caller *caller, struct inode *inode, const struct attributes_set *set)
{
	int error, result = 0;

	if (set->valid & SET_SIZE) {
		if (inode->flags & INODE_TRIM && set->size != inode->size)
			return file_trim_first(f, inode);
		result = file_resize(f, inode, set->size);
		if (result < 0)
			return result;
		annotation_data(&f->annotation, inode->ino, set->size, UINT64_MAX);
	}
	if (result == 0 || !(set->valid & (SET_MODE | SET_UID | SET_GID))) {
		error = set_mode(f, caller, inode, set);
		if (error)
			return error;
	}
	set_times(caller, inode, set);
	annotation_inode(&f->annotation, ANNOTATION_ATTRIBUTES, inode->ino);
	error = inode_write(f, inode);
	return error ? error : result;
}

static bool times_are(const struct attributes_set *set)
{
	return (!(set->valid & SET_ATIME) || set->atime.nanoseconds < 1000000000) &&
	       (!(set->valid & SET_MTIME) || set->mtime.nanoseconds < 1000000000) &&
	       (!(set->valid & SET_CTIME) || set->ctime.nanoseconds < 1000000000);
}

static int setattr(struct files *f, const struct caller *caller, uint64_t ino, const struct attributes_set *set,
		   struct attributes *out)
{
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	if (error)
		return error;
	if (!times_are(set))
		return -EINVAL;
	error = may_set(f, caller, &inode, set);
	if (error)
		return error;
	if (set->valid & ~(unsigned)SET_BY_HANDLE)
		error = apply(f, caller, &inode, set);
	if (error >= 0)
		inode_attributes(&inode, out);
	return error;
}

int op_setattr(struct files *f, const struct caller *caller, uint64_t ino, const struct attributes_set *set,
	       struct attributes *out)
{
	files_begin(f, ANNOTATION_SETATTR);
	return files_finish(f, setattr(f, caller, ino, set, out));
}

/* ---- open ---- */

static int open_(struct files *f, const struct caller *caller, uint64_t ino, int flags, struct attributes *out)
{
	static const unsigned masks[] = { MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE };
	const struct attributes_set empty = { .valid = SET_SIZE };
	unsigned mask = masks[flags & O_ACCMODE] | (flags & O_TRUNC ? MAY_WRITE : 0);
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	if (error)
		return error;
	if (S_ISLNK(inode.mode))
		return -ELOOP;
	if (S_ISDIR(inode.mode) && mask & MAY_WRITE)
		return -EISDIR;
	if (!S_ISDIR(inode.mode) && flags & O_DIRECTORY)
		return -ENOTDIR;
	error = inode_may(f, caller, &inode, mask);
	if (error == 0 && !opens_have_room(&f->opens) && opens_count(&f->opens, ino) == 0)
		error = -ENFILE;
	if (error == 0 && flags & O_TRUNC && S_ISREG(inode.mode))
		error = apply(f, caller, &inode, &empty);
	if (error >= 0)
		inode_attributes(&inode, out);
	return error;
}

int op_open(struct files *f, const struct caller *caller, uint64_t ino, int flags, struct attributes *out)
{
	int error;

	files_begin(f, ANNOTATION_SETATTR);
	error = open_(f, caller, ino, flags, out);
	error = flags & O_TRUNC ? files_finish(f, error) : files_looked(f, error);
	if (error == 0)
		opens_add(&f->opens, ino);
	return error;
}

void op_release(struct files *f, uint64_t ino)
{
	if (opens_remove(&f->opens, ino))
		files_want_reclaim(f, ino);
}
