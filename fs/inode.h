/* SPDX-License-Identifier: Apache-2.0 */
/* An inode: what stat shows, and what must be known of a file before its other items are looked at. */
#ifndef HOLDFAST_FS_INODE_H
#define HOLDFAST_FS_INODE_H

#include "files.h"

/* Value of ITEM_INODE. What a write changes stands together at its start. */
struct inode_item {
	le64 size;			/* bytes; of a directory names, of a symbolic link its target's bytes */
	le64 mtime, ctime;		/* seconds since 1970, signed */
	le32 mtime_ns, ctime_ns;
	le64 blocks;			/* that extents give it, beyond its end too */
	le32 flags;			/* INODE_* */
	le32 nlink;			/* of a directory 2 and its directories; 0: it is an orphan */
	le32 mode, uid, gid;
	le32 xattr_bytes;		/* all names of xattrs, each with a 0 */
	le64 special;			/* of a device its number, of a directory the seed of its names' hash */
	le64 parent;			/* of a directory its directory */
	le64 atime, btime;
	le32 atime_ns, btime_ns;
	le32 generation;		/* by chance */
	le32 reserved;			/* 0 */
};
_Static_assert(sizeof(struct inode_item) == 112, "size on disk");

enum {
	INODE_INLINE = 1,		/* there is an ITEM_INLINE, and no extent */
	INODE_TRIM = 2,			/* extents behind its end are still to be freed; it is among the orphans */
	INODE_ACL_ACCESS = 4, INODE_ACL_DEFAULT = 8,	/* it has that xattr */
	INODE_FLAGS = 15,
};

struct inode {
	uint64_t ino;
	uint64_t size, blocks, special, parent;
	uint32_t flags, nlink, mode, uid, gid, xattr_bytes, generation;
	struct fs_time mtime, ctime, atime, btime;
};

/* Judges a value of ITEM_INODE: NULL and *inode, or what is wrong with it, as files_damaged() wants it. */
MUST_CHECK const char *inode_parse(const struct tree_item *item, struct inode *inode);
/* -ENOENT: there is none. -EIO: it is damaged. */
MUST_CHECK int inode_read(struct files *f, uint64_t ino, struct inode *inode);
/* The same of a directory: -ENOTDIR. */
MUST_CHECK int inode_read_directory(struct files *f, uint64_t ino, struct inode *inode);
/* The same of one that a name or a parent names: that it is not there is damage. */
MUST_CHECK int inode_read_named(struct files *f, uint64_t ino, struct inode *inode);
MUST_CHECK int inode_write(struct files *f, const struct inode *inode);
/* A new one, with a number of its own, that belongs to @caller: nlink 1, all times now. Not written. */
MUST_CHECK int inode_new(struct files *f, const struct caller *caller, uint32_t mode, struct inode *inode);
/* inode_write() of a new one. */
MUST_CHECK int inode_insert(struct files *f, const struct inode *inode);

void inode_attributes(const struct inode *inode, struct attributes *out);
/* As a write by a user does: setuid goes, setgid where the group may execute. */
void inode_kill_privileges(struct inode *inode);
/* A caller has changed its bytes: mtime and ctime, and privileges go unless he is root or the kernel has seen to it. */
void inode_written(struct inode *inode, const struct caller *caller);

/* 0 when @caller may do @mask (MAY_*) with it, by mode and ACL, or the kernel has checked it. -EACCES. */
MUST_CHECK int inode_may(struct files *f, const struct caller *caller, const struct inode *inode, unsigned mask);
/* He owns it, is root, or the kernel has checked. */
bool inode_owned(const struct caller *caller, const struct inode *inode);

#endif
