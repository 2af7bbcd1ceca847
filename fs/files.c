/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"

#include <errno.h>
#include <string.h>

#include "directory.h"
#include "inode.h"

int files_new(struct files *f, struct io *io, struct blocks *blocks, char why[WHY_BYTES])
{
	int error;

	*f = (struct files){ .hash_mask = ~0ull };
	error = fs_new(&f->fs, io, blocks, why);
	if (error)
		return error;
	error = opens_new(&f->opens, io);
	if (error)
		fs_delete(&f->fs);
	return error;
}

void files_delete(struct files *f)
{
	struct io *io = f->fs.io;

	if (!io)
		return;
	opens_delete(&f->opens, io);
	fs_delete(&f->fs);
	*f = (struct files){ 0 };
}

void files_want_reclaim(struct files *f, uint64_t ino)
{
	f->reclaim_next = f->reclaim_wanted ? min_u64(f->reclaim_next, ino) : ino;
	f->reclaim_last = f->reclaim_wanted ? max_u64(f->reclaim_last, ino) : ino;
	f->reclaim_wanted = true;
}

void files_want_reclaim_all(struct files *f)
{
	f->reclaim_wanted = true;
	f->reclaim_next = 0;
	f->reclaim_last = UINT64_MAX;
}

static void forget(struct files *f)
{
	opens_clear(&f->opens);
	files_want_reclaim_all(f);
}

int files_mount(struct files *f, char why[WHY_BYTES])
{
	forget(f);
	return fs_mount(&f->fs, why);
}

void files_unmount(struct files *f)
{
	fs_unmount(&f->fs);
	forget(f);
}

static int format(struct files *f, const struct caller *owner, const uint8_t uuid[UUID_BYTES])
{
	struct inode root;
	int error = fs_format(&f->fs, uuid, (uint64_t)owner->now.seconds * 1000000000 + owner->now.nanoseconds);

	if (error)
		return error;
	directory_root(f, owner, &root);
	return inode_insert(f, &root);
}

int files_format(struct files *f, const struct caller *owner, const uint8_t uuid[UUID_BYTES])
{
	forget(f);
	files_begin(f, ANNOTATION_MKDIR);
	return files_finish(f, format(f, owner, uuid));
}

/* ---- one operation ---- */

void files_begin(struct files *f, enum annotation_operation operation)
{
	f->freeing = false;
	annotation_begin(&f->annotation, operation);
}

int files_finish(struct files *f, int result)
{
	uint64_t lsn = f->lsn;
	int error;

	/* Of nothing the commit would tell the log's end, where others may have put their records meanwhile. */
	if (result < 0 || !transaction_changes(&f->fs.transaction))
		return files_looked(f, result);
	error = fs_commit(&f->fs, f->annotation.bytes, f->annotation.len, &lsn);
	if (error)
		return error;
	f->lsn = lsn;
	f->frees += f->freeing;
	return result;
}

int files_looked(struct files *f, int result)
{
	fs_abort(&f->fs);
	return result;
}

int files_damaged(struct files *f, uint64_t ino, const char *what)
{
	f->damage.ino = ino;
	f->damage.what = what;
	f->damage.count++;
	return transaction_fail(&f->fs.transaction, -EIO);
}

/* What the bound on a single change of the tree counts are nodes of a tree of twelve levels. The trees that there are
 * have four, so the first turn always fits, and a few of them fit together. */
bool files_have_room(const struct files *f, unsigned inserts)
{
	const struct transaction *t = &f->fs.transaction;

	return transaction_changes_left(t) >= inserts * TREE_CHANGES_MAX + 8 && transaction_runs_left(t) >= 8 &&
	       f->fs.space.free_count + 8 <= SPACE_FREES_MAX;
}

uint64_t op_lsn(const struct files *f)
{
	return f->lsn;
}

uint64_t op_frees(const struct files *f)
{
	return f->frees;
}

int op_statfs(struct files *f, struct statfs_figures *out)
{
	struct fs_figures figures;
	int error = fs_figures(&f->fs, &figures);

	if (error == 0)
		*out = (struct statfs_figures){ .blocks = figures.blocks, .free = figures.free,
						.available = figures.available, .inodes = figures.inodes,
						.inodes_free = figures.available };
	return files_looked(f, error);
}

/* ---- hash ---- */

static uint64_t rotate(uint64_t value, unsigned bits)
{
	return value << bits | value >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], unsigned rounds)
{
	while (rounds--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

uint64_t files_hash(const struct files *f, uint64_t seed, const void *bytes, size_t len)
{
	uint64_t key[2], v[4], last = (uint64_t)len << 56;
	const uint8_t *at = bytes;

	memcpy(key, f->fs.uuid, sizeof key);
	key[0] = le64toh(key[0]) ^ seed;
	key[1] = le64toh(key[1]);
	v[0] = key[0] ^ 0x736f6d6570736575;
	v[1] = key[1] ^ 0x646f72616e646f6d;
	v[2] = key[0] ^ 0x6c7967656e657261;
	v[3] = key[1] ^ 0x7465646279746573;
	for (; len >= 8; at += 8, len -= 8) {
		uint64_t word;

		memcpy(&word, at, 8);
		word = le64toh(word);
		v[3] ^= word;
		sip_rounds(v, 2);
		v[0] ^= word;
	}
	while (len--)
		last |= (uint64_t)at[len] << 8 * len;
	v[3] ^= last;
	sip_rounds(v, 2);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
