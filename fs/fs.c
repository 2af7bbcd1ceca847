/* SPDX-License-Identifier: Apache-2.0 */
/* Format, mount, and the ends of transactions. */
#include "fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	WIPE_RUN_BLOCKS = 1 << 18,	/* 1 GiB: the longest range of one delta */
	WIPE_RUNS = BLOCKS_RUNS_MAX,
};

int fs_new(struct fs *fs, struct io *io, struct blocks *blocks, char why[WHY_BYTES])
{
	int error;

	memset(fs, 0, sizeof *fs);
	if (blocks->count < FS_BLOCKS_MIN || blocks->count > FS_BLOCKS_MAX) {
		snprintf(why, WHY_BYTES, "a volume of %" PRIu64 " bytes cannot hold a filesystem: %u KiB to %llu TiB",
			 blocks->count * BLOCK_BYTES, FS_BLOCKS_MIN * (BLOCK_BYTES >> 10), VOLUME_BYTES_MAX >> 40);
		return -EINVAL;
	}
	fs->io = io;
	fs->blocks = blocks;
	error = transaction_new(&fs->transaction, io, blocks);
	if (!error)
		error = space_new(&fs->space, io, &fs->transaction.layout);
	if (error) {
		snprintf(why, WHY_BYTES, "there is no memory for a filesystem");
		transaction_delete(&fs->transaction, io);
	}
	return error;
}

void fs_delete(struct fs *fs)
{
	if (!fs->io)
		return;
	fs_unmount(fs);
	space_delete(&fs->space, fs->io);
	transaction_delete(&fs->transaction, fs->io);
	memset(fs, 0, sizeof *fs);
}

/* ---- mount ----------------------------------------------------------------------------------------- */

/* From here on the blocks are those of the filesystem that @s is of. */
static void fs_take(struct fs *fs, const struct superblock *s)
{
	memcpy(fs->uuid, s->uuid, UUID_BYTES);
	fs->transaction.layout = layout_of(from_le64(s->block_count));
	fs->transaction.seed = block_seed(s->uuid);
	fs->read_only = (from_le64(s->ro_compat) & ~FS_RO_COMPAT) != 0;
	fs->transaction.read_only = fs->read_only;
}

/* What a superblock must be before it is looked at as one of ours. */
static int fs_judge(const struct fs *fs, const uint8_t *page, char why[WHY_BYTES])
{
	const struct superblock *s = (const void *)page;
	const char *what;

	if (from_le32(s->header.magic) != SUPERBLOCK_MAGIC) {
		snprintf(why, WHY_BYTES, "there is no filesystem on this volume: block 0 is no superblock");
		return -EINVAL;
	}
	what = block_header_check(0, BLOCK_SUPERBLOCK, 0, page);
	if (!what && from_le32(s->version) != FS_VERSION) {
		snprintf(why, WHY_BYTES, "the filesystem is of version %u, this program knows version %u",
			 from_le32(s->version), FS_VERSION);
		return -ENOTSUP;
	}
	if (!what && from_le64(s->incompat) & ~FS_INCOMPAT) {
		snprintf(why, WHY_BYTES, "the filesystem has features that this program does not know: %" PRIx64,
			 (uint64_t)(from_le64(s->incompat) & ~FS_INCOMPAT));
		return -ENOTSUP;
	}
	if (!what)
		what = superblock_check(page);
	if (what) {
		snprintf(why, WHY_BYTES, "block 0, the superblock, is damaged: %s", what);
		return -EIO;
	}
	if (from_le64(s->block_count) > fs->blocks->count) {
		snprintf(why, WHY_BYTES, "the filesystem has %" PRIu64 " blocks, the volume only %" PRIu64,
			 from_le64(s->block_count), fs->blocks->count);
		return -ERANGE;
	}
	return 0;
}

int fs_mount(struct fs *fs, char why[WHY_BYTES])
{
	const uint8_t *page;
	int error = fs->blocks->read(fs->blocks, 0, &page);

	if (error && error != -EAGAIN)
		snprintf(why, WHY_BYTES, "block 0, the superblock, cannot be read");
	if (!error)
		error = fs_judge(fs, page, why);
	if (!error)
		fs_take(fs, (const void *)page);
	fs_abort(fs);
	return error;
}

void fs_unmount(struct fs *fs)
{
	fs_abort(fs);
}

/* ---- format ---------------------------------------------------------------------------------------- */

int fs_format(struct fs *fs, const uint8_t uuid[UUID_BYTES], uint64_t made_ns)
{
	struct transaction *t = &fs->transaction;
	struct superblock *s;
	uint8_t *page;
	int error;

	t->layout = layout_of(fs->blocks->count);
	error = transaction_fresh(t, 0, BLOCK_SUPERBLOCK, &page);
	if (error)
		return error;
	s = (void *)page;
	s->free_count = to_le64(layout_usable_count(&t->layout));
	s->inode_next = to_le64(FS_ROOT_INODE + 1);
	s->inode_count = to_le64(1);
	s->version = to_le32(FS_VERSION);
	s->compat = to_le64(FS_COMPAT);
	s->ro_compat = to_le64(FS_RO_COMPAT);
	s->incompat = to_le64(FS_INCOMPAT);
	memcpy(s->uuid, uuid, UUID_BYTES);
	s->block_count = to_le64(t->layout.blocks);
	s->made_ns = to_le64(made_ns);
	fs_take(fs, s);
	return tree_format(fs);
}

int fs_wipe(struct fs *fs, uint64_t *next)
{
	uint64_t at = *next, lsn;
	int error = 0;

	for (unsigned i = 0; i < WIPE_RUNS && at < fs->blocks->count && !error; i++) {
		uint64_t count = min_u64(WIPE_RUN_BLOCKS, fs->blocks->count - at);

		error = transaction_discard(&fs->transaction, at, count);
		at += count;
	}
	if (error)
		fs_abort(fs);
	else
		error = fs_commit(fs, NULL, 0, &lsn);
	if (!error)
		*next = at;
	return error;
}

/* ---- transactions ---------------------------------------------------------------------------------- */

int fs_commit(struct fs *fs, const void *annotation, uint32_t len, uint64_t *lsn)
{
	int error = space_apply(fs);

	if (error)
		transaction_fail(&fs->transaction, error);
	space_end(&fs->space);
	return transaction_commit(&fs->transaction, annotation, len, lsn);
}

void fs_abort(struct fs *fs)
{
	space_end(&fs->space);
	transaction_abort(&fs->transaction);
}

int fs_superblock(struct fs *fs, const struct superblock **superblock)
{
	const uint8_t *page = NULL;
	int error = transaction_read(&fs->transaction, 0, BLOCK_SUPERBLOCK, &page);

	*superblock = (const void *)page;
	return error;
}

int fs_superblock_change(struct fs *fs, struct superblock **superblock)
{
	uint8_t *page = NULL;
	int error = transaction_change(&fs->transaction, 0, BLOCK_SUPERBLOCK, &page);

	*superblock = (void *)page;
	return error;
}

int fs_inode_new(struct fs *fs, uint64_t *number)
{
	struct superblock *s;
	int error = fs_superblock_change(fs, &s);

	if (error)
		return error;
	*number = from_le64(s->inode_next);
	if (*number == UINT64_MAX)
		return transaction_damaged(&fs->transaction, 0, "it has no number for an inode any more");
	s->inode_next = to_le64(*number + 1);
	s->inode_count = to_le64(from_le64(s->inode_count) + 1);
	return 0;
}

int fs_inode_gone(struct fs *fs)
{
	struct superblock *s;
	int error = fs_superblock_change(fs, &s);

	if (error)
		return error;
	if (from_le64(s->inode_count) == 0)
		return transaction_damaged(&fs->transaction, 0, "it counts no inode, and there is one");
	s->inode_count = to_le64(from_le64(s->inode_count) - 1);
	return 0;
}

static void figures_of(const struct superblock *s, struct fs_figures *figures)
{
	struct layout l = layout_of(from_le64(s->block_count));

	figures->blocks = layout_usable_count(&l);
	figures->free = from_le64(s->free_count);
	figures->available = figures->free - min_u64(figures->free, space_reserve(l.blocks));
	figures->inodes = from_le64(s->inode_count);
}

const char *fs_figures_read(const uint8_t page[BLOCK_BYTES], struct fs_figures *figures)
{
	const char *what = block_header_check(0, BLOCK_SUPERBLOCK, 0, page);

	if (!what)
		what = superblock_check(page);
	if (!what)
		figures_of((const void *)page, figures);
	return what;
}

int fs_figures(struct fs *fs, struct fs_figures *figures)
{
	const struct superblock *s;
	int error = fs_superblock(fs, &s);

	if (error)
		return error;
	figures_of(s, figures);
	return 0;
}
