/* SPDX-License-Identifier: Apache-2.0 */
#include "symlink.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

int symlink_check(const char *target)
{
	size_t len = strlen(target);

	return len == 0 ? -ENOENT : len > SYMLINK_MAX_BYTES ? -ENAMETOOLONG : 0;
}

int symlink_put(struct files *f, struct inode *inode, const char *target)
{
	uint32_t len = (uint32_t)strlen(target);
	int error = 0;

	inode->size = len;
	for (uint32_t at = 0; error == 0 && at < len; at += ITEM_VALUE_MAX) {
		struct tree_key key = tree_key(inode->ino, ITEM_INLINE, at / ITEM_VALUE_MAX);

		error = tree_insert(&f->fs, &key, target + at, (uint16_t)min_u64(len - at, ITEM_VALUE_MAX));
	}
	return error;
}

static int readlink(struct files *f, uint64_t ino, char *out, uint32_t *len)
{
	struct inode inode;
	int error = inode_read(f, ino, &inode);

	if (error)
		return error;
	if (!S_ISLNK(inode.mode))
		return -EINVAL;
	for (uint32_t at = 0; at < inode.size; at += ITEM_VALUE_MAX) {
		struct tree_key key = tree_key(ino, ITEM_INLINE, at / ITEM_VALUE_MAX);
		struct tree_item item;

		error = tree_find(&f->fs, &key, &item);
		if (error && error != -ENOENT)
			return error;
		if (error || item.len != min_u64(inode.size - at, ITEM_VALUE_MAX))
			return files_damaged(f, ino, "its target is not as long as it says");
		memcpy(out + at, item.value, item.len);
	}
	out[inode.size] = 0;
	*len = (uint32_t)inode.size;
	return 0;
}

int op_readlink(struct files *f, uint64_t ino, char out[SYMLINK_MAX_BYTES + 1], uint32_t *len)
{
	return files_looked(f, readlink(f, ino, out, len));
}
