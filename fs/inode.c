/* SPDX-License-Identifier: Apache-2.0 */
#include "inode.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "acl.h"

/* ---- on disk ---- */

/* The types that there are, by the four bits of their mode. */
enum { TYPES = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 12 };

static const char *item_check(const struct inode_item *item)
{
	uint32_t mode = from_le32(item->mode), flags = from_le32(item->flags);

	if (mode >> 16 || !(TYPES >> (mode >> 12) & 1))
		return "it is of no type that there is";
	if (flags & ~(uint32_t)INODE_FLAGS || from_le32(item->reserved))
		return "it has flags that there are not";
	if (from_le32(item->mtime_ns) > 999999999 || from_le32(item->ctime_ns) > 999999999 ||
	    from_le32(item->atime_ns) > 999999999 || from_le32(item->btime_ns) > 999999999)
		return "one of its times is none";
	if (S_ISREG(mode) && from_le64(item->size) > FILE_BYTES_MAX)
		return "it is larger than a file can be";
	if (S_ISLNK(mode) && from_le64(item->size) > SYMLINK_MAX_BYTES)
		return "it is longer than a link can be";
	if (!S_ISDIR(mode) && from_le32(item->nlink) > LINKS_MAX)
		return "it has more names than a file can have";
	if (!S_ISREG(mode) && flags & (INODE_TRIM | INODE_INLINE))
		return "it has the flags of a file and is none";
	return NULL;
}

static struct fs_time time_of(le64 seconds, le32 nanoseconds)
{
	return (struct fs_time){ (int64_t)from_le64(seconds), from_le32(nanoseconds) };
}

static le64 seconds_of(struct fs_time time)
{
	return to_le64((uint64_t)time.seconds);
}

const char *inode_parse(const struct tree_item *found, struct inode *inode)
{
	struct inode_item item, *i = &item;
	const char *wrong;

	if (found->len != sizeof item)
		return "its item has another length";
	memcpy(&item, found->value, sizeof item);
	wrong = item_check(i);
	if (wrong)
		return wrong;
	*inode = (struct inode){
		.ino = found->key.inode, .size = from_le64(i->size), .blocks = from_le64(i->blocks),
		.special = from_le64(i->special), .parent = from_le64(i->parent), .flags = from_le32(i->flags),
		.nlink = from_le32(i->nlink), .mode = from_le32(i->mode), .uid = from_le32(i->uid),
		.gid = from_le32(i->gid), .xattr_bytes = from_le32(i->xattr_bytes),
		.generation = from_le32(i->generation),
		.mtime = time_of(i->mtime, i->mtime_ns), .ctime = time_of(i->ctime, i->ctime_ns),
		.atime = time_of(i->atime, i->atime_ns), .btime = time_of(i->btime, i->btime_ns),
	};
	return NULL;
}

int inode_read(struct files *f, uint64_t ino, struct inode *inode)
{
	struct tree_key key = tree_key(ino, ITEM_INODE, 0);
	struct tree_item found;
	const char *wrong;
	int error = ino ? tree_find(&f->fs, &key, &found) : -ENOENT;

	if (error)
		return error;
	wrong = inode_parse(&found, inode);
	return wrong ? files_damaged(f, ino, wrong) : 0;
}

int inode_read_directory(struct files *f, uint64_t ino, struct inode *inode)
{
	int error = inode_read(f, ino, inode);

	return error ? error : S_ISDIR(inode->mode) ? 0 : -ENOTDIR;
}

int inode_read_named(struct files *f, uint64_t ino, struct inode *inode)
{
	int error = inode_read(f, ino, inode);

	return error == -ENOENT ? files_damaged(f, ino, "it has a name and is not there") : error;
}

static struct inode_item item_of(const struct inode *i)
{
	return (struct inode_item){
		.size = to_le64(i->size), .blocks = to_le64(i->blocks), .special = to_le64(i->special),
		.parent = to_le64(i->parent), .flags = to_le32(i->flags), .nlink = to_le32(i->nlink),
		.mode = to_le32(i->mode), .uid = to_le32(i->uid), .gid = to_le32(i->gid),
		.xattr_bytes = to_le32(i->xattr_bytes), .generation = to_le32(i->generation),
		.mtime = seconds_of(i->mtime), .mtime_ns = to_le32(i->mtime.nanoseconds),
		.ctime = seconds_of(i->ctime), .ctime_ns = to_le32(i->ctime.nanoseconds),
		.atime = seconds_of(i->atime), .atime_ns = to_le32(i->atime.nanoseconds),
		.btime = seconds_of(i->btime), .btime_ns = to_le32(i->btime.nanoseconds),
	};
}

int inode_write(struct files *f, const struct inode *inode)
{
	struct tree_key key = tree_key(inode->ino, ITEM_INODE, 0);
	struct inode_item item = item_of(inode);

	return tree_replace(&f->fs, &key, &item, sizeof item);
}

int inode_insert(struct files *f, const struct inode *inode)
{
	struct tree_key key = tree_key(inode->ino, ITEM_INODE, 0);
	struct inode_item item = item_of(inode);
	int error = tree_insert(&f->fs, &key, &item, sizeof item);

	return error == -EEXIST ? files_damaged(f, inode->ino, "it is there before it was made") : error;
}

int inode_new(struct files *f, const struct caller *caller, uint32_t mode, struct inode *inode)
{
	*inode = (struct inode){ .nlink = 1, .mode = mode, .uid = caller->uid, .gid = caller->gid,
				 .mtime = caller->now, .ctime = caller->now, .atime = caller->now,
				 .btime = caller->now };
	f->fs.io->random(f->fs.io, &inode->generation, sizeof inode->generation);
	return fs_inode_new(&f->fs, &inode->ino);
}

/* ---- what it shows ---- */

void inode_attributes(const struct inode *inode, struct attributes *out)
{
	bool device = S_ISCHR(inode->mode) || S_ISBLK(inode->mode);

	*out = (struct attributes){
		.ino = inode->ino, .generation = inode->generation, .mode = inode->mode, .nlink = inode->nlink,
		.uid = inode->uid, .gid = inode->gid, .rdev = device ? inode->special : 0, .size = inode->size,
		.blocks = inode->blocks * (BLOCK_BYTES / 512), .atime = inode->atime, .mtime = inode->mtime,
		.ctime = inode->ctime, .btime = inode->btime,
	};
}

void inode_kill_privileges(struct inode *inode)
{
	inode->mode &= ~(uint32_t)S_ISUID;
	if (inode->mode & S_IXGRP)
		inode->mode &= ~(uint32_t)S_ISGID;
}

void inode_written(struct inode *inode, const struct caller *caller)
{
	if (caller->uid && !caller->checked)
		inode_kill_privileges(inode);
	inode->mtime = inode->ctime = caller->now;
}

/* ---- who may ---- */

bool caller_in_group(const struct caller *caller, uint32_t gid)
{
	for (unsigned i = 0; i < caller->group_count; i++)
		if (caller->groups[i] == gid)
			return true;
	return caller->gid == gid;
}

bool inode_owned(const struct caller *caller, const struct inode *inode)
{
	return caller->checked || caller->uid == 0 || caller->uid == inode->uid;
}

int inode_may(struct files *f, const struct caller *caller, const struct inode *inode, unsigned mask)
{
	unsigned shift;

	if (caller->checked)
		return 0;
	if (caller->uid == 0)
		return mask & MAY_EXECUTE && !S_ISDIR(inode->mode) && !(inode->mode & 0111) ? -EACCES : 0;
	if (inode->flags & INODE_ACL_ACCESS && caller->uid != inode->uid)
		return acl_may(f, caller, inode, mask);
	shift = caller->uid == inode->uid ? 6 : caller_in_group(caller, inode->gid) ? 3 : 0;
	return (inode->mode >> shift & mask) == mask ? 0 : -EACCES;
}

/* ---- operations ---- */

int op_getattr(struct files *f, uint64_t ino, struct attributes *out)
{
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	if (error == 0)
		inode_attributes(&inode, out);
	return files_looked(f, error);
}

static int access_inode(struct files *f, const struct caller *caller, uint64_t ino, unsigned mask)
{
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	return error ? error : inode_may(f, caller, &inode, mask);
}

int op_access(struct files *f, const struct caller *caller, uint64_t ino, unsigned mask)
{
	return files_looked(f, access_inode(f, caller, ino, mask));
}

static bool later(struct fs_time a, struct fs_time b)
{
	return a.seconds > b.seconds || (a.seconds == b.seconds && a.nanoseconds > b.nanoseconds);
}

static int accessed(struct files *f, const struct caller *caller, uint64_t ino)
{
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	if (error)
		return error;
	if (later(inode.atime, inode.mtime) && later(inode.atime, inode.ctime) &&
	    caller->now.seconds - inode.atime.seconds < 24 * 60 * 60)
		return 0;
	inode.atime = caller->now;
	annotation_inode(&f->annotation, ANNOTATION_ATTRIBUTES, ino);
	return inode_write(f, &inode);
}

int op_accessed(struct files *f, const struct caller *caller, uint64_t ino)
{
	files_begin(f, ANNOTATION_ACCESSED);
	return files_finish(f, accessed(f, caller, ino));
}
