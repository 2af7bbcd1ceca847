/* SPDX-License-Identifier: Apache-2.0 */
/* POSIX access control lists, as Linux has them in system.posix_acl_access and system.posix_acl_default. An access ACL
 * that says no more than a mode can is not kept: the mode says it. One that is kept and the mode agree: the mode's
 * group bits are its mask. */
#ifndef HOLDFAST_FS_ACL_H
#define HOLDFAST_FS_ACL_H

#include "inode.h"

#define ACL_ACCESS_NAME "system.posix_acl_access"
#define ACL_DEFAULT_NAME "system.posix_acl_default"

/* The xattrs' value, and what is on disk: a version, then entries. */
struct acl_entry_item { le16 tag, perm; le32 id; };
_Static_assert(sizeof(struct acl_entry_item) == 8, "Linux says so");

enum {
	ACL_VERSION = 2,
	ACL_USER_OBJ = 1, ACL_USER = 2, ACL_GROUP_OBJ = 4, ACL_GROUP = 8, ACL_MASK = 16, ACL_OTHER = 32,
	ACL_ENTRIES_MAX = 511,		/* 4 KiB of xattr, and of stack */
	ACL_BYTES_MAX = 4 + 8 * ACL_ENTRIES_MAX,
};

/* Judges the value of one that @inode has: NULL when it may be there, or what is wrong. */
MUST_CHECK const char *acl_judge(const struct inode *inode, bool is_default, const uint8_t *bytes, size_t len);
/* -EACCES or 0 by the access ACL, which @inode has, for who is neither its owner nor root. */
MUST_CHECK int acl_may(struct files *f, const struct caller *caller, const struct inode *inode, unsigned mask);
/* A new inode in a directory that has a default ACL: its mode and its ACLs, none of it written but the xattrs. */
MUST_CHECK int acl_inherit(struct files *f, const struct inode *dir, struct inode *inode);
/* The inode's permission bits were set: its access ACL, if it has one, says the same. */
MUST_CHECK int acl_chmod(struct files *f, struct inode *inode);
/* setxattr() of one of the two; @len 0 removes it. Changes @inode, which the caller writes. -EINVAL: it is no ACL;
 * -EPERM: he does not own it; -EACCES: a default one for what is no directory; -EOPNOTSUPP: of a symbolic link;
 * -ENOSPC: over ACL_ENTRIES_MAX. */
MUST_CHECK int acl_set(struct files *f, const struct caller *caller, struct inode *inode, bool is_default,
		       const void *value, size_t len);

#endif
