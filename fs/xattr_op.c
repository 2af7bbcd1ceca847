/* SPDX-License-Identifier: Apache-2.0 */
/* The four calls on extended attributes: who may see and set which of them, and that two of them are ACLs. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "acl.h"
#include "xattr.h"

enum space_name { SPACE_USER, SPACE_TRUSTED, SPACE_SECURITY, SPACE_ACCESS, SPACE_DEFAULT, SPACE_NAMES };

/* -ERANGE: it can be no name; -EINVAL: a name space and nothing else; -EOPNOTSUPP: a name space that there is not. */
static int space_of(const char *name, enum space_name *space)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security." };
	size_t len = strlen(name);

	if (len == 0 || len > XATTR_NAME_MAX_BYTES)
		return -ERANGE;
	for (*space = SPACE_USER; *space <= SPACE_SECURITY; ++*space) {
		size_t prefix = strlen(prefixes[*space]);

		if (strncmp(name, prefixes[*space], prefix) == 0)
			return len > prefix ? 0 : -EINVAL;
	}
	if (strcmp(name, ACL_ACCESS_NAME) && strcmp(name, ACL_DEFAULT_NAME))
		return -EOPNOTSUPP;
	*space = strcmp(name, ACL_ACCESS_NAME) ? SPACE_DEFAULT : SPACE_ACCESS;
	return 0;
}

/* Attributes of users are for what users put bytes into. */
static bool takes_user(const struct inode *inode)
{
	return S_ISREG(inode->mode) || S_ISDIR(inode->mode);
}

static int may_set(struct files *f, const struct caller *caller, const struct inode *inode, enum space_name space)
{
	if (space == SPACE_ACCESS || space == SPACE_DEFAULT)
		return 0;
	if (space != SPACE_USER)
		return caller->uid && !caller->checked ? -EPERM : 0;
	if (!takes_user(inode))
		return -EPERM;
	if (S_ISDIR(inode->mode) && inode->mode & S_ISVTX && !inode_owned(caller, inode))
		return -EPERM;
	return inode_may(f, caller, inode, MAY_WRITE);
}

static int may_get(struct files *f, const struct caller *caller, const struct inode *inode, enum space_name space)
{
	if (space == SPACE_USER)
		return takes_user(inode) ? inode_may(f, caller, inode, MAY_READ) : -ENODATA;
	return space == SPACE_TRUSTED && caller->uid && !caller->checked ? -ENODATA : 0;
}

static int set(struct files *f, const struct caller *caller, uint64_t ino, const char *name, const void *value,
	       size_t len, int flags)
{
	enum space_name space;
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	if (error)
		return error;
	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	error = space_of(name, &space);
	if (error == 0)
		error = may_set(f, caller, &inode, space);
	if (error)
		return error;
	if (len > XATTR_VALUE_MAX)
		return -E2BIG;
	if (space == SPACE_ACCESS || space == SPACE_DEFAULT)
		error = acl_set(f, caller, &inode, space == SPACE_DEFAULT, value, len);
	else
		error = xattr_put(f, &inode, name, value, len, flags);
	if (error)
		return error;
	inode.ctime = caller->now;
	annotation_xattr(&f->annotation, ino, name, strlen(name));
	return inode_write(f, &inode);
}

int op_setxattr(struct files *f, const struct caller *caller, uint64_t ino, const char *name, const void *value,
		size_t len, int flags)
{
	files_begin(f, ANNOTATION_SETXATTR);
	return files_finish(f, set(f, caller, ino, name, value, len, flags));
}

static int remove_(struct files *f, const struct caller *caller, uint64_t ino, const char *name)
{
	enum space_name space;
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	if (error == 0)
		error = space_of(name, &space);
	if (error == 0)
		error = may_set(f, caller, &inode, space);
	if (error)
		return error;
	space_use_reserve(&f->fs);
	if (space == SPACE_ACCESS || space == SPACE_DEFAULT)
		error = acl_set(f, caller, &inode, space == SPACE_DEFAULT, NULL, 0);
	else
		error = xattr_remove(f, &inode, name);
	if (error)
		return error;
	inode.ctime = caller->now;
	annotation_xattr(&f->annotation, ino, name, strlen(name));
	return inode_write(f, &inode);
}

int op_removexattr(struct files *f, const struct caller *caller, uint64_t ino, const char *name)
{
	files_begin(f, ANNOTATION_REMOVEXATTR);
	return files_finish(f, remove_(f, caller, ino, name));
}

static int get(struct files *f, const struct caller *caller, uint64_t ino, const char *name, void *out, size_t size,
	       size_t *len)
{
	enum space_name space;
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	if (error == 0)
		error = space_of(name, &space);
	if (error == 0)
		error = may_get(f, caller, &inode, space);
	return error ? error : xattr_get(f, &inode, name, out, size, len);
}

int op_getxattr(struct files *f, const struct caller *caller, uint64_t ino, const char *name, void *out, size_t size,
		size_t *len)
{
	return files_looked(f, get(f, caller, ino, name, out, size, len));
}

static int list(struct files *f, const struct caller *caller, uint64_t ino, char *out, size_t size, size_t *len)
{
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	return error ? error : xattr_list(f, &inode, caller->uid == 0, out, size, len);
}

int op_listxattr(struct files *f, const struct caller *caller, uint64_t ino, char *out, size_t size, size_t *len)
{
	return files_looked(f, list(f, caller, ino, out, size, len));
}
