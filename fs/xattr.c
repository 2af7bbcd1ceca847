/* SPDX-License-Identifier: Apache-2.0 */
#include "xattr.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

enum { ALIKE_MAX = 256, HEAD = sizeof(struct xattr_head) };

/* An attribute, there or not. */
struct found {
	uint64_t at;			/* key of its piece 0 */
	uint32_t name_len, value_len;
};

static uint32_t first_room(uint32_t name_len)
{
	return ITEM_VALUE_MAX - HEAD - name_len;
}

static unsigned pieces(uint32_t name_len, uint32_t value_len)
{
	uint32_t first = first_room(name_len);

	return value_len <= first ? 1 : 1 + (value_len - first + ITEM_VALUE_MAX - 1) / ITEM_VALUE_MAX;
}

const char *xattr_judge(const struct tree_item *item)
{
	const struct xattr_head *head = (const struct xattr_head *)item->value;
	uint32_t value_len;

	if (item->len < HEAD || item->key.at & 0xff)
		return "an extended attribute has no start";
	value_len = from_le32(head->value_len);
	if (head->name_len == 0 || value_len > XATTR_VALUE_MAX || head->name_len > item->len - HEAD ||
	    (uint64_t)(item->len - HEAD - head->name_len) != min_u64(value_len, first_room(head->name_len)))
		return "the lengths of an extended attribute do not add up";
	return NULL;
}

/* Piece 0 of one. */
static int head_check(struct files *f, const struct tree_item *item)
{
	const char *wrong = xattr_judge(item);

	return wrong ? files_damaged(f, item->key.inode, wrong) : 0;
}

uint64_t xattr_hash(const struct files *f, uint64_t ino, const char *name, size_t len)
{
	return (files_hash(f, ino, name, len) & f->hash_mask) >> 16 << 16;
}

/* -ENODATA: *found is where it could be, or ALIKE_MAX names have its hash (-ENOSPC). */
static int find(struct files *f, const struct inode *inode, const char *name, struct found *found)
{
	size_t len = strlen(name);
	uint64_t hash = xattr_hash(f, inode->ino, name, len);
	struct tree_key key = tree_key(inode->ino, ITEM_XATTR, hash);
	unsigned number = 0;

	*found = (struct found){ .at = hash, .name_len = (uint32_t)len };
	while (inode->xattr_bytes) {
		const struct xattr_head *head;
		struct tree_item item;
		int error = tree_next_alike(&f->fs, &key, &item);

		if (error == -ENOENT || (error == 0 && (item.key.at ^ hash) >> 16))
			break;
		if (error == 0)
			error = head_check(f, &item);
		if (error)
			return error;
		head = (const struct xattr_head *)item.value;
		if (head->name_len == len && memcmp(head->name, name, len) == 0) {
			found->at = item.key.at;
			found->value_len = from_le32(head->value_len);
			return 0;
		}
		if ((item.key.at >> 8 & 0xff) == number)
			number++;
		key.at = item.key.at + 256;
	}
	if (number == ALIKE_MAX)
		return -ENOSPC;
	found->at = hash | (uint64_t)number << 8;
	return -ENODATA;
}

int xattr_get(struct files *f, const struct inode *inode, const char *name, void *out, size_t size, size_t *len)
{
	uint8_t *at = out;
	struct found found;
	uint32_t left, skip;
	int error = find(f, inode, name, &found);

	if (error)
		return error == -ENOSPC ? -ENODATA : error;
	*len = found.value_len;
	if (size == 0 || size < *len)
		return size ? -ERANGE : 0;
	skip = HEAD + found.name_len;
	left = found.value_len;
	for (unsigned p = 0; p < pieces(found.name_len, found.value_len); p++, skip = 0) {
		struct tree_key key = tree_key(inode->ino, ITEM_XATTR, found.at + p);
		struct tree_item item;
		uint32_t part = (uint32_t)min_u64(left, ITEM_VALUE_MAX - skip);

		error = tree_find(&f->fs, &key, &item);
		if (error && error != -ENOENT)
			return error;
		if (error || item.len != skip + part)
			return files_damaged(f, inode->ino, "an extended attribute lacks a piece");
		memcpy(at, item.value + skip, part);
		at += part;
		left -= part;
	}
	return 0;
}

/* Piece @p of the attribute goes to its place; @there: over what was there before. */
static int put_piece(struct files *f, const struct inode *inode, const struct found *found, const char *name,
		     const uint8_t *value, unsigned p, bool there)
{
	struct tree_key key = tree_key(inode->ino, ITEM_XATTR, found->at + p);
	uint32_t skip = p ? 0 : HEAD + found->name_len;
	uint64_t from = p ? first_room(found->name_len) + (uint64_t)(p - 1) * ITEM_VALUE_MAX : 0;
	uint32_t part = (uint32_t)min_u64(found->value_len - from, ITEM_VALUE_MAX - skip);
	struct xattr_head head = { .value_len = to_le32(found->value_len), .name_len = (uint8_t)found->name_len };
	uint8_t bytes[ITEM_VALUE_MAX];

	if (p == 0) {
		memcpy(bytes, &head, HEAD);
		memcpy(bytes + HEAD, name, found->name_len);
	}
	if (part)
		memcpy(bytes + skip, value + from, part);
	return there ? tree_replace(&f->fs, &key, bytes, (uint16_t)(skip + part))
		     : tree_insert(&f->fs, &key, bytes, (uint16_t)(skip + part));
}

static int remove_pieces(struct files *f, const struct inode *inode, const struct found *found, unsigned from,
			 unsigned to)
{
	for (; from < to; from++) {
		struct tree_key key = tree_key(inode->ino, ITEM_XATTR, found->at + from);
		int error = tree_delete(&f->fs, &key);

		if (error)
			return error != -ENOENT ? error
						: files_damaged(f, inode->ino, "an extended attribute lacks a piece");
	}
	return 0;
}

int xattr_put(struct files *f, struct inode *inode, const char *name, const void *value, size_t len, int flags)
{
	struct found found;
	unsigned were = 0, now;
	int error = find(f, inode, name, &found);

	if (error && error != -ENODATA)
		return error;
	if (error == 0 && flags & XATTR_CREATE)
		return -EEXIST;
	if (error && flags & XATTR_REPLACE)
		return -ENODATA;
	if (error && inode->xattr_bytes + found.name_len + 1 > XATTR_LIST_MAX_BYTES)
		return -ENOSPC;
	if (error)
		inode->xattr_bytes += found.name_len + 1;
	else
		were = pieces(found.name_len, found.value_len);
	found.value_len = (uint32_t)len;
	now = pieces(found.name_len, found.value_len);
	error = 0;
	for (unsigned p = 0; error == 0 && p < now; p++)
		error = put_piece(f, inode, &found, name, value, p, p < were);
	if (error == -ENOENT || error == -EEXIST)
		return files_damaged(f, inode->ino, "the pieces of an extended attribute are not as they should be");
	return error ? error : remove_pieces(f, inode, &found, now, were);
}

int xattr_remove(struct files *f, struct inode *inode, const char *name)
{
	struct found found;
	int error = find(f, inode, name, &found);

	if (error)
		return error == -ENOSPC ? -ENODATA : error;
	if (inode->xattr_bytes < found.name_len + 1)
		return files_damaged(f, inode->ino, "it has more extended attributes than it counts");
	inode->xattr_bytes -= found.name_len + 1;
	return remove_pieces(f, inode, &found, 0, pieces(found.name_len, found.value_len));
}

int xattr_list(struct files *f, const struct inode *inode, bool trusted, char *out, size_t size, size_t *len)
{
	struct tree_key key = tree_key(inode->ino, ITEM_XATTR, 0);

	*len = 0;
	while (inode->xattr_bytes) {
		const struct xattr_head *head;
		struct tree_item item;
		int error = tree_next_alike(&f->fs, &key, &item);

		if (error == -ENOENT)
			break;
		if (error == 0)
			error = head_check(f, &item);
		if (error)
			return error;
		head = (const struct xattr_head *)item.value;
		key.at = (item.key.at | 0xff) + 1;
		if (trusted || head->name_len < 8 || memcmp(head->name, "trusted.", 8)) {
			if (size && *len + head->name_len + 1 > size)
				return -ERANGE;
			if (size) {
				memcpy(out + *len, head->name, head->name_len);
				out[*len + head->name_len] = 0;
			}
			*len += head->name_len + 1u;
		}
		if (key.at == 0)
			break;
	}
	return 0;
}
