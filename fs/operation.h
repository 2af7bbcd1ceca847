/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation that the kernel can ask of a filesystem, as a function that reads as if all blocks were in memory.
 *
 * Each answers with
 *	0		it is done. If it changed anything, that is one record of the log, with an annotation
 *			(annotation.h); op_lsn() is the log's end behind it.
 *	OP_AGAIN	a bounded part of it is one record now, and the filesystem is whole: call again with the same
 *			arguments. Others may be served in between.
 *	-EAGAIN		a block is not in memory, or the log has no room: nothing was changed; call again after ready().
 *	-errno		as the manual pages of the system calls say, and nothing was changed.
 * With damage on disk: -EIO. Where the blocks refuse changes: -EROFS. Without room: -ENOSPC, with nothing half done but
 * where OP_AGAIN came before it; unlink, truncate and what else gives space back always have room.
 *
 * Names are strings with a final 0, without a slash: -EINVAL. Empty: -ENOENT; over 255 bytes: -ENAMETOOLONG. Inodes are
 * numbers that never come back; one that is gone: -ENOENT. No pointer is kept beyond the call.
 *
 * What is open (opens.h) is memory: after a mount nothing is open, and op_reclaim() frees what a crash
 * left without a name.
 */
#ifndef HOLDFAST_OPERATION_H
#define HOLDFAST_OPERATION_H

#include <stddef.h>

#include "caller.h"

struct files;

enum { OP_AGAIN = 1 };

enum {
	NAME_MAX_BYTES = 255,
	FILE_INLINE_MAX = 256,		/* bytes of a file that lie in the tree: few enough to move with an append */
	LINKS_MAX = 65536,		/* names of one file; directories have no such limit */
	SYMLINK_MAX_BYTES = 4095,
	XATTR_NAME_MAX_BYTES = 255,
	XATTR_VALUE_MAX = 65536,
	XATTR_LIST_MAX_BYTES = 65536,	/* all names of an inode, each with its 0 */
	OP_WRITE_MAX = 256 << 10,	/* op_write() takes no more than this of a request */
};
#define FILE_BYTES_MAX (1ull << 44)	/* size of a file: 16 TiB */

struct attributes {
	uint64_t ino, generation;
	uint32_t mode, nlink, uid, gid;
	uint64_t rdev, size;
	uint64_t blocks;		/* of 512 bytes, as stat(2) counts */
	struct fs_time atime, mtime, ctime, btime;
};

/* ---- names ---- */

/* "." and ".." too; ".." of the root is the root. "." of what is no directory is itself while it has a name: the kernel
 * asks so when it has only a handle of it (open_by_handle_at(2), NFS). */
MUST_CHECK int op_lookup(struct files *f, const struct caller *caller, uint64_t parent, const char *name,
			 struct attributes *out);
/* A regular file, FIFO, socket or device. mode: type and permission bits. */
MUST_CHECK int op_mknod(struct files *f, const struct caller *caller, uint64_t parent, const char *name, uint32_t mode,
			uint64_t rdev, struct attributes *out);
/* open(2) with O_CREAT of a name that the kernel does not know: makes it, or finds it (and -EEXIST with O_EXCL), and
 * opens it as op_open() does. */
MUST_CHECK int op_create(struct files *f, const struct caller *caller, uint64_t parent, const char *name, uint32_t mode,
			 int flags, struct attributes *out);
/* open(2) with O_TMPFILE: a regular file without a name, as if it had been made in @parent, open. It is gone with its
 * last release, or a crash, unless op_link() gave it a name before: the first one, once. -ENFILE. */
MUST_CHECK int op_tmpfile(struct files *f, const struct caller *caller, uint64_t parent, uint32_t mode,
			  struct attributes *out);
MUST_CHECK int op_mkdir(struct files *f, const struct caller *caller, uint64_t parent, const char *name, uint32_t mode,
			struct attributes *out);
MUST_CHECK int op_symlink(struct files *f, const struct caller *caller, uint64_t parent, const char *name,
			  const char *target, struct attributes *out);
/* -ENOENT: it has no name any more. */
MUST_CHECK int op_link(struct files *f, const struct caller *caller, uint64_t ino, uint64_t parent, const char *name,
		       struct attributes *out);
MUST_CHECK int op_unlink(struct files *f, const struct caller *caller, uint64_t parent, const char *name);
MUST_CHECK int op_rmdir(struct files *f, const struct caller *caller, uint64_t parent, const char *name);
/* flags: RENAME_NOREPLACE or RENAME_EXCHANGE of Linux; others -EINVAL. */
MUST_CHECK int op_rename(struct files *f, const struct caller *caller, uint64_t parent, const char *name,
			 uint64_t new_parent, const char *new_name, unsigned flags);
/* *len: without a final 0. */
MUST_CHECK int op_readlink(struct files *f, uint64_t ino, char out[SYMLINK_MAX_BYTES + 1], uint32_t *len);

struct directory_entry {
	uint64_t cookie;		/* what op_readdir() goes on behind */
	uint64_t ino;
	uint32_t type;			/* S_IFMT bits of the mode */
	uint32_t name_len;
	char name[NAME_MAX_BYTES + 1];
	struct attributes attributes;	/* with `plus`, but of "." and ".." only ino and mode */
};

/* Entries behind @cookie, 0 at first, until there are no more or take() says false: that one comes again. Where a block
 * is not in memory it ends with 0, too, when it has told any: there are no more when it tells none. Every entry
 * that is there from the first call to the last is told exactly once, whatever else comes and goes in between; a
 * cookie is below 2^63 and holds as long as the volume does. take() calls nothing of this filesystem. */
MUST_CHECK int op_readdir(struct files *f, uint64_t ino, uint64_t cookie, bool plus,
			  bool (*take)(void *context, const struct directory_entry *entry), void *context);

/* ---- attributes ---- */

MUST_CHECK int op_getattr(struct files *f, uint64_t ino, struct attributes *out);

enum {
	SET_MODE = 1, SET_UID = 2, SET_GID = 4, SET_SIZE = 8, SET_ATIME = 16, SET_MTIME = 32, SET_CTIME = 64,
	SET_ATIME_NOW = 128, SET_MTIME_NOW = 256,
	SET_BY_HANDLE = 512,		/* ftruncate(): opened for writing, so the mode does not matter */
	SET_KILL_PRIVILEGES = 1024,	/* clear setuid and setgid as a write by a user does */
};

struct attributes_set {
	unsigned valid;			/* SET_* */
	uint32_t mode, uid, gid;	/* of mode only permission bits count */
	uint64_t size;
	struct fs_time atime, mtime, ctime;
};
/* Also truncate(2): bytes behind a new size are gone and read as zeros when it grows again. OP_AGAIN while extents of a
 * large file come back; the size holds after the first record. */
MUST_CHECK int op_setattr(struct files *f, const struct caller *caller, uint64_t ino, const struct attributes_set *set,
			  struct attributes *out);
/* mask: MAY_*; 0 = it is there. */
MUST_CHECK int op_access(struct files *f, const struct caller *caller, uint64_t ino, unsigned mask);
/* It was read: atime follows as relatime says, that is if it is not newer than mtime and ctime or a day old. */
MUST_CHECK int op_accessed(struct files *f, const struct caller *caller, uint64_t ino);

/* ---- open files ---- */

/* flags: as open(2); O_TRUNC empties it, the access mode is what is checked. Counts; directories too. -ENFILE. */
MUST_CHECK int op_open(struct files *f, const struct caller *caller, uint64_t ino, int flags, struct attributes *out);
/* The last release of what has no name any more lets op_reclaim() free it. Never fails. */
void op_release(struct files *f, uint64_t ino);
/* Frees a bounded part of what nobody can reach any more. OP_AGAIN: there is more; 0: nothing is left but what is open.
 * Call it after a mount as primary, and when op_reclaim_wanted(). */
MUST_CHECK int op_reclaim(struct files *f);
bool op_reclaim_wanted(const struct files *f);

/* ---- bytes ---- */

enum file_piece_kind { PIECE_ZEROS, PIECE_VOLUME, PIECE_INLINE };
struct file_piece {
	enum file_piece_kind kind;
	uint64_t len;
	uint64_t offset;		/* VOLUME: bytes in the volume. INLINE: in file_plan.bytes */
};

enum { FILE_PIECES_MAX = 64 };

/* Where bytes [offset, offset + len) of a file are. */
struct file_plan {
	uint64_t len;			/* less than asked for at the file's end, or after FILE_PIECES_MAX pieces */
	uint64_t size;			/* of the file */
	uint64_t frees;			/* op_frees() at this moment: while it is the same, the plan holds */
	unsigned count;
	struct file_piece pieces[FILE_PIECES_MAX];
	uint8_t bytes[FILE_INLINE_MAX];
};

/* -EISDIR; -EINVAL for what is neither. Who reads the pieces later compares op_frees() before and after: if it has
 * moved, blocks may belong to another file by now, and the plan is to be made anew. */
MUST_CHECK int op_read(struct files *f, uint64_t ino, uint64_t offset, uint64_t len, struct file_plan *out);
/* How many records gave blocks back, since the mount. */
uint64_t op_frees(const struct files *f);

enum { WRITE_KILL_PRIVILEGES = 1 };	/* the kernel asks to clear setuid and setgid */
/* *written: how much of it is in the file and in the record now, 1 to OP_WRITE_MAX; the caller goes on with the rest.
 * 0 with any other result than 0. -EFBIG. */
MUST_CHECK int op_write(struct files *f, const struct caller *caller, uint64_t ino, uint64_t offset, const void *bytes,
			uint64_t len, unsigned flags, uint32_t *written);
/* mode: 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | KEEP_SIZE, FALLOC_FL_ZERO_RANGE and that | KEEP_SIZE; others
 * -EOPNOTSUPP. Unlike other operations it may end with -ENOSPC after OP_AGAIN, with a part allocated. */
MUST_CHECK int op_fallocate(struct files *f, const struct caller *caller, uint64_t ino, int mode, uint64_t offset,
			    uint64_t len);
/* whence: SEEK_DATA or SEEK_HOLE. -ENXIO. */
MUST_CHECK int op_seek(struct files *f, uint64_t ino, uint64_t offset, int whence, uint64_t *out);

/* ---- extended attributes ---- */

/* user., trusted., security. and the two system.posix_acl_*; else -EOPNOTSUPP. flags: XATTR_CREATE, XATTR_REPLACE. */
MUST_CHECK int op_setxattr(struct files *f, const struct caller *caller, uint64_t ino, const char *name,
			   const void *value, size_t len, int flags);
/* *len: the value's; nothing is copied when @size is 0, -ERANGE when it is less. */
MUST_CHECK int op_getxattr(struct files *f, const struct caller *caller, uint64_t ino, const char *name, void *out,
			   size_t size, size_t *len);
/* Names, each with its 0. */
MUST_CHECK int op_listxattr(struct files *f, const struct caller *caller, uint64_t ino, char *out, size_t size,
			    size_t *len);
MUST_CHECK int op_removexattr(struct files *f, const struct caller *caller, uint64_t ino, const char *name);

/* ---- all of it ---- */

struct statfs_figures {
	uint64_t blocks, free, available;	/* of BLOCK_BYTES; available: without what is kept for giving back */
	uint64_t inodes, inodes_free;
};
MUST_CHECK int op_statfs(struct files *f, struct statfs_figures *out);
/* The log's end after the last operation that changed anything, since the mount; 0 = none. */
uint64_t op_lsn(const struct files *f);

#endif
