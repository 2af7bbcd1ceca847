/* SPDX-License-Identifier: Apache-2.0 */
/* Names come and go: link, unlink, rmdir. */
#include <errno.h>
#include <sys/stat.h>

#include "directory.h"
#include "orphan.h"

static int link_at(struct files *f, const struct caller *caller, uint64_t ino, uint64_t parent, const char *name,
		   struct attributes *out)
{
	struct inode dir, inode;
	struct place place;
	int error = inode_read(f, ino, &inode);

	if (error == 0)
		error = inode_read_directory(f, parent, &dir);
	if (error == 0)
		error = place_find(f, caller, &dir, name, &place);
	if (error == 0)
		error = place_may_add(f, caller, &place);
	if (error)
		return error;
	if (S_ISDIR(inode.mode))
		return -EPERM;
	if (inode.nlink >= LINKS_MAX)
		return -EMLINK;
	if (inode.nlink == 0 && !opens_is_nameable(&f->opens, ino))
		return -ENOENT;
	if (inode.nlink++ == 0 && !(inode.flags & INODE_TRIM)) {
		error = orphan_remove(f, ino);
		if (error)
			return error;
	}
	inode.ctime = caller->now;
	inode_attributes(&inode, out);
	error = place_put(f, &place, &inode, caller->now);
	if (error == 0)
		error = inode_write(f, &inode);
	return error ? error : inode_write(f, &dir);
}

int op_link(struct files *f, const struct caller *caller, uint64_t ino, uint64_t parent, const char *name,
	    struct attributes *out)
{
	int error;

	files_begin(f, ANNOTATION_LINK);
	error = files_finish(f, link_at(f, caller, ino, parent, name, out));
	if (error == 0 && opens_count(&f->opens, ino))
		opens_nameable(&f->opens, ino, false);
	return error;
}

/* "." and ".." cannot be removed. */
static int find_to_remove(struct files *f, const struct caller *caller, uint64_t parent, const char *name,
			  bool directory, struct inode *dir, struct place *place, struct inode *inode)
{
	int error = inode_read_directory(f, parent, dir);

	if (error == 0)
		error = place_find(f, caller, dir, name, place);
	if (error)
		return error;
	if (place->dots)
		return !directory ? -EISDIR : place->dots == PLACE_DOT ? -EINVAL : -ENOTEMPTY;
	if (place->ino == 0)
		return -ENOENT;
	error = inode_read_named(f, place->ino, inode);
	return error ? error : place_may_remove(f, caller, place, inode, directory);
}

static int unlink_at(struct files *f, const struct caller *caller, uint64_t parent, const char *name)
{
	struct inode dir, inode;
	struct place place;
	int error = find_to_remove(f, caller, parent, name, false, &dir, &place, &inode);

	if (error)
		return error;
	if (inode.nlink == 0)
		return files_damaged(f, inode.ino, "it has a name and counts none");
	space_use_reserve(&f->fs);
	inode.nlink--;
	inode.ctime = caller->now;
	error = place_remove(f, &place, caller->now);
	if (error == 0)
		error = inode_write(f, &dir);
	if (error == 0)
		error = inode.nlink ? inode_write(f, &inode) : orphan_bury(f, &inode);
	return error;
}

int op_unlink(struct files *f, const struct caller *caller, uint64_t parent, const char *name)
{
	files_begin(f, ANNOTATION_UNLINK);
	return files_finish(f, unlink_at(f, caller, parent, name));
}

static int rmdir_at(struct files *f, const struct caller *caller, uint64_t parent, const char *name)
{
	struct inode dir, inode;
	struct place place;
	int error = find_to_remove(f, caller, parent, name, true, &dir, &place, &inode);

	if (error == 0)
		error = directory_empty(f, &inode);
	if (error)
		return error;
	space_use_reserve(&f->fs);
	inode.nlink = 0;
	inode.ctime = caller->now;
	dir.nlink--;
	error = place_remove(f, &place, caller->now);
	if (error == 0)
		error = inode_write(f, &dir);
	return error ? error : orphan_bury(f, &inode);
}

int op_rmdir(struct files *f, const struct caller *caller, uint64_t parent, const char *name)
{
	files_begin(f, ANNOTATION_RMDIR);
	return files_finish(f, rmdir_at(f, caller, parent, name));
}
