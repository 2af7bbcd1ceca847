/* SPDX-License-Identifier: Apache-2.0 */
#include "orphan.h"

#include <errno.h>

#include "file.h"

enum { ORPHANS_PASSED_MAX = 256 };	/* that are open, in one call of op_reclaim() */

int orphan_add(struct files *f, uint64_t ino)
{
	struct tree_key key = tree_key(0, ITEM_ORPHAN, ino);
	int error = tree_insert(&f->fs, &key, NULL, 0);

	return error == -EEXIST ? files_damaged(f, ino, "it is an orphan already") : error;
}

int orphan_remove(struct files *f, uint64_t ino)
{
	struct tree_key key = tree_key(0, ITEM_ORPHAN, ino);
	int error = tree_delete(&f->fs, &key);

	return error == -ENOENT ? files_damaged(f, ino, "it is no orphan and should be") : error;
}

/* Items of this kind, as many as there is room for. */
static int free_items(struct files *f, uint64_t ino, enum item_kind kind, bool *done)
{
	*done = false;
	while (files_have_room(f, 2)) {
		struct tree_key key = tree_key(ino, kind, 0);
		struct tree_item item;
		int error = tree_next_alike(&f->fs, &key, &item);

		if (error == -ENOENT) {
			*done = true;
			return 0;
		}
		if (error == 0) {
			key = item.key;
			error = tree_delete(&f->fs, &key);
		}
		if (error)
			return error;
	}
	return 0;
}

/* A bounded part of all that the inode has; *done: the inode too. */
static int free_some(struct files *f, struct inode *inode, bool *done)
{
	static const enum item_kind kinds[] = { ITEM_INLINE, ITEM_XATTR };
	struct tree_key key = tree_key(inode->ino, ITEM_INODE, 0);
	int error = extent_remove(f, inode, 0, FILE_BLOCKS_MAX, done);

	for (unsigned k = 0; error == 0 && *done && k < 2; k++)
		error = free_items(f, inode->ino, kinds[k], done);
	if (error || !*done)
		return error;
	error = tree_delete(&f->fs, &key);
	return error ? error : fs_inode_gone(&f->fs);
}

int orphan_bury(struct files *f, struct inode *inode)
{
	bool done = false;
	int error = 0;

	space_use_reserve(&f->fs);
	if (opens_count(&f->opens, inode->ino))
		opens_mark(&f->opens, inode->ino);
	else
		error = free_some(f, inode, &done);
	if (error)
		return error;
	annotation_inode(&f->annotation, done ? ANNOTATION_FREED : ANNOTATION_ATTRIBUTES, inode->ino);
	if (done)
		return inode->flags & INODE_TRIM ? orphan_remove(f, inode->ino) : 0;
	if (!(inode->flags & INODE_TRIM)) {
		error = orphan_add(f, inode->ino);
		if (error)
			return error;
		if (opens_count(&f->opens, inode->ino) == 0)
			files_want_reclaim(f, inode->ino);
	}
	return inode_write(f, inode);
}

/* ---- reclaim ---- */

static int reclaim_inode(struct files *f, uint64_t ino, struct inode *inode)
{
	bool done;
	int error;

	if (inode->nlink || opens_count(&f->opens, ino))
		return file_trim_first(f, inode);
	error = free_some(f, inode, &done);
	if (error)
		return error;
	if (done)
		annotation_inode(&f->annotation, ANNOTATION_FREED, ino);
	error = done ? orphan_remove(f, ino) : inode_write(f, inode);
	return error ? error : OP_AGAIN;
}

static int reclaim(struct files *f)
{
	space_use_reserve(&f->fs);
	for (unsigned passed = 0; passed < ORPHANS_PASSED_MAX; passed++) {
		struct tree_key key = tree_key(0, ITEM_ORPHAN, f->reclaim_next);
		struct tree_item item;
		struct inode inode;
		uint64_t ino;
		int error = tree_next_alike(&f->fs, &key, &item);

		if (error && error != -ENOENT)
			return error;
		if (error || item.key.at > f->reclaim_last) {
			f->reclaim_wanted = false;
			return 0;
		}
		ino = item.key.at;
		error = inode_read_named(f, ino, &inode);
		if (error)
			return error;
		if (inode.nlink && !(inode.flags & INODE_TRIM))
			return files_damaged(f, ino, "it is an orphan and should not be");
		if (inode.flags & INODE_TRIM || opens_count(&f->opens, ino) == 0)
			return reclaim_inode(f, ino, &inode);
		opens_mark(&f->opens, ino);
		f->reclaim_next = ino + 1;
	}
	return OP_AGAIN;
}

int op_reclaim(struct files *f)
{
	files_begin(f, ANNOTATION_RECLAIM);
	return files_finish(f, reclaim(f));
}

bool op_reclaim_wanted(const struct files *f)
{
	return f->reclaim_wanted;
}
