/* SPDX-License-Identifier: Apache-2.0 */
/* The tree: all of the filesystem but the bytes of larger files. Keys are (inode, kind, at), values 0..ITEM_VALUE_MAX
 * bytes. All calls belong to the transaction of the fs.
 *
 * Errors: -ENOENT and -EEXIST as below change nothing, and the transaction may go on. All others are the transaction's
 * (transaction.h; -ENOSPC from space.h): it can only be aborted then.
 *
 * Pointers to values are good until the next call that changes the tree, or the end of the transaction.
 */
#ifndef HOLDFAST_FS_TREE_H
#define HOLDFAST_FS_TREE_H

#include "format.h"

struct fs;

struct tree_key {
	uint64_t inode;
	uint64_t at;
	uint8_t kind;		/* enum item_kind, not ITEM_NONE */
};

struct tree_item {
	struct tree_key key;
	const uint8_t *value;
	uint16_t len;
};

enum {
	/* Pages that one insert, replace or delete may change: a node and a neighbour or a new half on each level, the
	 * superblock, and a map and its fulls for each of the nodes allocated or freed. */
	TREE_CHANGES_MAX = NODE_LEVELS_MAX * 2 + 1 + (NODE_LEVELS_MAX + 1) * 2,
};

static inline struct tree_key tree_key(uint64_t inode, enum item_kind kind, uint64_t at)
{
	return (struct tree_key){ inode, at, (uint8_t)kind };
}
/* < 0, 0, > 0: inode first, then kind, then at. */
int tree_key_compare(const struct tree_key *a, const struct tree_key *b);

/* -ENOENT: there is no such key. */
MUST_CHECK int tree_find(struct fs *fs, const struct tree_key *key, struct tree_item *item);
/* The first item at or behind @key; the last at or before it. -ENOENT: there is none, of whatever inode and kind. */
MUST_CHECK int tree_next(struct fs *fs, const struct tree_key *key, struct tree_item *item);
MUST_CHECK int tree_previous(struct fs *fs, const struct tree_key *key, struct tree_item *item);
/* The same among items of key->inode and key->kind. */
MUST_CHECK int tree_next_alike(struct fs *fs, const struct tree_key *key, struct tree_item *item);
MUST_CHECK int tree_previous_alike(struct fs *fs, const struct tree_key *key, struct tree_item *item);

/* -EEXIST: the key is there. @value may be NULL when @len is 0; it is not in the tree itself, and neither is that of
 * tree_replace(). */
MUST_CHECK int tree_insert(struct fs *fs, const struct tree_key *key, const void *value, uint16_t len);
/* -ENOENT. Another value, of any length; of the same length it is changed in place, and only what differs is logged. */
MUST_CHECK int tree_replace(struct fs *fs, const struct tree_key *key, const void *value, uint16_t len);
/* -ENOENT. *value: its @len bytes, to be changed in place. */
MUST_CHECK int tree_change(struct fs *fs, const struct tree_key *key, uint8_t **value, uint16_t *len);
/* -ENOENT. Never needs space. */
MUST_CHECK int tree_delete(struct fs *fs, const struct tree_key *key);

/* How many blocks @inserts inserts may need at most, as the tree is now: what to ask space_ask() for. */
MUST_CHECK int tree_need(struct fs *fs, unsigned inserts, uint64_t *blocks);

/* fs_format() calls it: an empty tree. */
MUST_CHECK int tree_format(struct fs *fs);

#endif
