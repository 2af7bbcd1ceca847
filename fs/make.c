/* SPDX-License-Identifier: Apache-2.0 */
/* New inodes with their first name, or without one: files, directories, links, devices. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "acl.h"
#include "directory.h"
#include "orphan.h"
#include "symlink.h"

/* What is to be made, and then what was. */
struct making {
	uint32_t mode;			/* with its type */
	uint64_t special;
	const char *target;		/* of a symbolic link */
	struct inode inode;
};

/* Group, setgid, and what the directory's default ACL or the umask leave of the mode. */
static int inherit(struct files *f, const struct caller *caller, const struct inode *dir, struct inode *inode)
{
	if (dir->mode & S_ISGID) {
		inode->gid = dir->gid;
		if (S_ISDIR(inode->mode))
			inode->mode |= S_ISGID;
	}
	if (S_ISLNK(inode->mode))
		return 0;
	if (dir->flags & INODE_ACL_DEFAULT) {
		int error = acl_inherit(f, dir, inode);

		if (error)
			return error;
	} else {
		inode->mode &= ~(caller->umask & 0777);
	}
	if (!S_ISDIR(inode->mode) && (inode->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && caller->uid &&
	    !caller_in_group(caller, inode->gid))
		inode->mode &= ~(uint32_t)S_ISGID;
	return 0;
}

static int make_at(struct files *f, const struct caller *caller, struct place *place, struct making *m)
{
	struct inode *inode = &m->inode, *dir = place->dir;
	int error = place_may_add(f, caller, place);

	if (error == 0 && m->target)
		error = symlink_check(m->target);
	if (error == 0)
		error = inode_new(f, caller, m->mode, inode);
	if (error)
		return error;
	inode->special = m->special;
	if (S_ISDIR(m->mode)) {
		directory_init(f, dir->ino, inode);
		dir->nlink++;
	}
	error = inherit(f, caller, dir, inode);
	if (error == 0 && m->target)
		error = symlink_put(f, inode, m->target);
	if (error == 0)
		error = place_put(f, place, inode, caller->now);
	if (error == 0)
		error = inode_insert(f, inode);
	return error ? error : inode_write(f, dir);
}

static int make(struct files *f, const struct caller *caller, uint64_t parent, const char *name, struct making *m,
		struct attributes *out)
{
	struct inode dir;
	struct place place;
	int error = inode_read_directory(f, parent, &dir);

	if (error == 0)
		error = place_find(f, caller, &dir, name, &place);
	if (error == 0)
		error = make_at(f, caller, &place, m);
	if (error == 0)
		inode_attributes(&m->inode, out);
	return error;
}

int op_mknod(struct files *f, const struct caller *caller, uint64_t parent, const char *name, uint32_t mode,
	     uint64_t rdev, struct attributes *out)
{
	bool device = S_ISCHR(mode) || S_ISBLK(mode);
	struct making m = { .mode = mode & (S_IFMT | 07777), .special = device ? rdev : 0 };

	if (!device && !S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EINVAL;
	files_begin(f, S_ISREG(mode) ? ANNOTATION_CREATE : ANNOTATION_MKNOD);
	return files_finish(f, make(f, caller, parent, name, &m, out));
}

int op_mkdir(struct files *f, const struct caller *caller, uint64_t parent, const char *name, uint32_t mode,
	     struct attributes *out)
{
	struct making m = { .mode = S_IFDIR | (mode & 07777) };

	files_begin(f, ANNOTATION_MKDIR);
	return files_finish(f, make(f, caller, parent, name, &m, out));
}

int op_symlink(struct files *f, const struct caller *caller, uint64_t parent, const char *name, const char *target,
	       struct attributes *out)
{
	struct making m = { .mode = S_IFLNK | 0777, .target = target };

	files_begin(f, ANNOTATION_SYMLINK);
	return files_finish(f, make(f, caller, parent, name, &m, out));
}

/* *there: an inode that has the name already, else 0. */
static int create(struct files *f, const struct caller *caller, uint64_t parent, const char *name, uint32_t mode,
		  int flags, struct attributes *out, uint64_t *there)
{
	struct making m = { .mode = S_IFREG | (mode & 07777) };
	struct inode dir;
	struct place place;
	int error = inode_read_directory(f, parent, &dir);

	*there = 0;
	if (error == 0)
		error = place_find(f, caller, &dir, name, &place);
	if (error)
		return error;
	if (place.ino && !place.dots && !(flags & O_EXCL)) {
		*there = place.ino;
		return 0;
	}
	if (!opens_have_room(&f->opens))
		return -ENFILE;
	error = make_at(f, caller, &place, &m);
	if (error == 0)
		inode_attributes(&m.inode, out);
	return error;
}

int op_create(struct files *f, const struct caller *caller, uint64_t parent, const char *name, uint32_t mode,
	      int flags, struct attributes *out)
{
	uint64_t there;
	int error;

	files_begin(f, ANNOTATION_CREATE);
	error = files_finish(f, create(f, caller, parent, name, mode, flags, out, &there));
	if (error)
		return error;
	if (there)
		return op_open(f, caller, there, flags, out);
	opens_add(&f->opens, out->ino);
	return 0;
}

static int make_unnamed(struct files *f, const struct caller *caller, uint64_t parent, uint32_t mode,
			struct attributes *out)
{
	struct inode dir, inode;
	int error = inode_read_directory(f, parent, &dir);

	if (error == 0)
		error = inode_may(f, caller, &dir, MAY_WRITE | MAY_EXECUTE);
	if (error == 0 && dir.nlink == 0)
		error = -ENOENT;
	if (error == 0 && !opens_have_room(&f->opens))
		error = -ENFILE;
	if (error == 0)
		error = inode_new(f, caller, S_IFREG | (mode & 07777), &inode);
	if (error)
		return error;
	inode.nlink = 0;
	error = inherit(f, caller, &dir, &inode);
	if (error == 0)
		error = orphan_add(f, inode.ino);
	if (error == 0)
		error = inode_insert(f, &inode);
	annotation_inode(&f->annotation, ANNOTATION_ATTRIBUTES, inode.ino);
	inode_attributes(&inode, out);
	return error;
}

int op_tmpfile(struct files *f, const struct caller *caller, uint64_t parent, uint32_t mode, struct attributes *out)
{
	int error;

	files_begin(f, ANNOTATION_CREATE);
	error = files_finish(f, make_unnamed(f, caller, parent, mode, out));
	if (error)
		return error;
	opens_add(&f->opens, out->ino);
	opens_mark(&f->opens, out->ino);
	opens_nameable(&f->opens, out->ino, true);
	return 0;
}
