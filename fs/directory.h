/* SPDX-License-Identifier: Apache-2.0 */
/* The names of a directory: items keyed by a hash that nobody outside can foretell, so that a directory of any size and
 * of any names takes a search of the tree for each. Of names with the same hash each has a number of its own.
 *
 *	at = hash (55 bits) | number (8 bits): below 2^63, and what readdir goes on behind. Never below 256.
 *
 * struct place is a name in a directory, whether something is there or not: what operations on names begin with. */
#ifndef HOLDFAST_FS_DIRECTORY_H
#define HOLDFAST_FS_DIRECTORY_H

#include "inode.h"

/* Value of ITEM_NAME. */
struct name_item {
	le64 inode;
	uint8_t type;			/* bits 12..15 of its mode */
	uint8_t name_len;		/* 1.._MAX */
	char name[];
} __attribute__((packed));
_Static_assert(sizeof(struct name_item) == 10, "size on disk");

enum { NAMES_ALIKE_MAX = 256, COOKIE_DOT = 1, COOKIE_DOT_DOT = 2 };

/* Judges an item of kind ITEM_NAME: NULL when it is one; its bytes and its hash are not looked at. */
MUST_CHECK const char *name_judge(const struct tree_item *item);
/* The key of @name in @dir, with number 0. */
uint64_t name_hash(const struct files *f, const struct inode *dir, const char *name, size_t len);

enum place_dots { PLACE_NAME, PLACE_DOT, PLACE_DOT_DOT };

struct place {
	struct inode *dir;
	const char *name;
	uint32_t len;
	enum place_dots dots;
	uint64_t hash;			/* of the name, with number 0 */
	uint64_t ino;			/* what is there; 0: nothing */
	uint64_t at;			/* ... under which key */
};

/* The root directory, not written. */
void directory_root(struct files *f, const struct caller *owner, struct inode *root);
/* A directory's own fields in a new inode. */
void directory_init(struct files *f, uint64_t parent, struct inode *inode);
/* 0: there is no name in it. -ENOTEMPTY. */
MUST_CHECK int directory_empty(struct files *f, const struct inode *dir);
/* 0: @ino is neither @top nor a directory below it. -EINVAL: it is. */
MUST_CHECK int directory_outside(struct files *f, uint64_t ino, uint64_t top);

/* Looks at @name in *@dir, a directory that was read and stays the caller's. -EACCES: it may not be searched. -ENOENT,
 * -EINVAL, -ENAMETOOLONG: no such name can be. That nothing is there is no error. */
MUST_CHECK int place_find(struct files *f, const struct caller *caller, struct inode *dir, const char *name,
			  struct place *place);
/* A name may be added there, which nobody has. -EEXIST, -EACCES; -ENOENT: the directory is removed. */
MUST_CHECK int place_may_add(struct files *f, const struct caller *caller, const struct place *place);
/* What is there may go. -EACCES, -EPERM: sticky; -ENOTDIR, -EISDIR: it is not as @directory says. */
MUST_CHECK int place_may_remove(struct files *f, const struct caller *caller, const struct place *place,
				const struct inode *inode, bool directory);
/* From now on it names @inode, and the annotation says so. The directory's size and times are changed, not written;
 * what was there before is the caller's business. -ENOSPC also after NAMES_ALIKE_MAX names with one hash. */
MUST_CHECK int place_put(struct files *f, struct place *place, const struct inode *inode, struct fs_time now);
MUST_CHECK int place_remove(struct files *f, struct place *place, struct fs_time now);

#endif
