/* SPDX-License-Identifier: Apache-2.0 */
/* A filesystem on a struct blocks: what all the rest of fs/ works on. Memory is allotted by fs_new() and no more after
 * it. One transaction at a time, ended by fs_commit() or fs_abort():
 *
 *	again:	error = tree_find(fs, ...) ... tree_insert(fs, ...) ... space_allocate(fs, ...)
 *		error ? fs_abort(fs) : (error = fs_commit(fs, annotation, len, &lsn))
 *		-EAGAIN: wait for blocks->ready(), go to again
 *
 * -EIO: fs->transaction.damage says which block, and what is wrong with it.
 */
#ifndef HOLDFAST_FS_FS_H
#define HOLDFAST_FS_FS_H

#include "blocks.h"
#include "format.h"
#include "io.h"
#include "space.h"
#include "transaction.h"
#include "tree.h"

struct fs {
	struct io *io;
	struct blocks *blocks;
	struct transaction transaction;
	struct space space;
	bool read_only;		/* a feature that we do not know lets us only read: every change says -EROFS */
	uint8_t uuid[UUID_BYTES];
};

enum { FS_ROOT_INODE = 1 };

/* Allots everything for the volume of @blocks, which stays the caller's, until fs_delete(). -ENOMEM; -EINVAL: the
 * volume is too small or too large, with a sentence in @why. */
MUST_CHECK int fs_new(struct fs *fs, struct io *io, struct blocks *blocks, char why[WHY_BYTES]);
/* Ends the transaction that there may be. Of a struct fs of zeros: nothing. */
void fs_delete(struct fs *fs);

/* Reads and judges the superblock. After 0 the filesystem may be used, in transactions of its own. -EAGAIN: call again
 * after ready(). -EINVAL: there is no filesystem; -ENOTSUP: its version or a feature is not known; -EIO: damaged;
 * -ERANGE: it is larger than the volume. With a sentence in @why. */
MUST_CHECK int fs_mount(struct fs *fs, char why[WHY_BYTES]);
/* The end of the transaction that there may be, and of the mount; nothing needs to be written. */
void fs_unmount(struct fs *fs);

/* A filesystem with an empty tree, on a volume that reads as zeros: in the transaction that runs, so the caller puts
 * the root directory in, then fs_commit(); it can be used from here on. @made_ns: wall clock. FS_ROOT_INODE is taken,
 * and counted. */
MUST_CHECK int fs_format(struct fs *fs, const uint8_t uuid[UUID_BYTES], uint64_t made_ns);
/* For a volume that does not read as zeros, before fs_format(): a transaction of its own per call, from *next = 0 until
 * *next is blocks->count. The superblock goes with the first. -EAGAIN: call again after ready(). */
MUST_CHECK int fs_wipe(struct fs *fs, uint64_t *next);

/* The transaction goes into the log whole, with @annotation: as include/blocks.h says. After an error it is aborted. */
MUST_CHECK int fs_commit(struct fs *fs, const void *annotation, uint32_t len, uint64_t *lsn);
/* Everything is as before. Also the end of a transaction that only read. */
void fs_abort(struct fs *fs);

/* *number: of a new inode, counted. */
MUST_CHECK int fs_inode_new(struct fs *fs, uint64_t *number);
/* One inode less. */
MUST_CHECK int fs_inode_gone(struct fs *fs);

/* The superblock in this transaction. */
MUST_CHECK int fs_superblock(struct fs *fs, const struct superblock **superblock);
MUST_CHECK int fs_superblock_change(struct fs *fs, struct superblock **superblock);

struct fs_figures {
	uint64_t blocks;	/* that can be used */
	uint64_t free;
	uint64_t available;	/* free, without the reserve */
	uint64_t inodes;
};
MUST_CHECK int fs_figures(struct fs *fs, struct fs_figures *figures);
/* The same from the bytes of block 0 alone. NULL, or what is wrong with them, as superblock_check() says it. */
MUST_CHECK const char *fs_figures_read(const uint8_t page[BLOCK_BYTES], struct fs_figures *figures);

#endif
