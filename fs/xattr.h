/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes: a name and up to 64 KiB, in pieces of one item each.
 *
 *	at = hash of the name (48 bits) | number among names with that hash (8) | piece (8)
 *
 * Here no name has a meaning; who may set which, and that some are ACLs, is above (xattr_op.c). */
#ifndef HOLDFAST_FS_XATTR_H
#define HOLDFAST_FS_XATTR_H

#include "inode.h"

/* Piece 0 starts with it; the name and the value follow. Pieces 1 ... are value alone. All but the last are full. */
struct xattr_head {
	le32 value_len;			/* at most XATTR_VALUE_MAX */
	uint8_t name_len;		/* 1.._MAX */
	uint8_t reserved[3];		/* 0 */
	char name[];
} __attribute__((packed));
_Static_assert(sizeof(struct xattr_head) == 8, "size on disk");

/* Judges an item that is the piece 0 of an attribute: NULL when it is one; its name's hash is not looked at. */
MUST_CHECK const char *xattr_judge(const struct tree_item *item);
/* The key of @name's piece 0, with number 0. */
uint64_t xattr_hash(const struct files *f, uint64_t ino, const char *name, size_t len);

/* *len: the value's. Copied when @size is not 0; -ERANGE when that is less. -ENODATA: no such name. */
MUST_CHECK int xattr_get(struct files *f, const struct inode *inode, const char *name, void *out, size_t size,
			 size_t *len);
/* flags: XATTR_CREATE (-EEXIST), XATTR_REPLACE (-ENODATA). @len is at most XATTR_VALUE_MAX. Changes inode->xattr_bytes,
 * which the caller writes. -ENOSPC also when the list of names would be over XATTR_LIST_MAX_BYTES. */
MUST_CHECK int xattr_put(struct files *f, struct inode *inode, const char *name, const void *value, size_t len,
			 int flags);
/* -ENODATA. As xattr_put(). */
MUST_CHECK int xattr_remove(struct files *f, struct inode *inode, const char *name);
/* Names, each with its 0, of @trusted too. *len as xattr_get(). */
MUST_CHECK int xattr_list(struct files *f, const struct inode *inode, bool trusted, char *out, size_t size,
			  size_t *len);

#endif
