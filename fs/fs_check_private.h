/* SPDX-License-Identifier: Apache-2.0 */
/* What the stages of a check share. */
#ifndef HOLDFAST_FS_FS_CHECK_PRIVATE_H
#define HOLDFAST_FS_FS_CHECK_PRIVATE_H

#include "acl.h"
#include "audit.h"
#include "check.h"
#include "fs_check.h"
#include "directory.h"
#include "extent.h"
#include "file.h"
#include "walk.h"
#include "xattr.h"

enum check_stage { CHECK_BLOCKS, CHECK_ITEMS, CHECK_NAMES, CHECK_LINKS, CHECK_WAYS, CHECK_COUNTS, CHECK_PATHS,
		   CHECK_PATHS_UP, CHECK_DONE };

enum {
	CHECK_TAILS_MAX = 256,		/* more than items in a leaf */
	CHECK_BAD = 1,			/* its item is damaged: nothing is asked of it */
	CHECK_ORPHAN = 2,		/* it is among the orphans */
	CHECK_ORPHAN_WANTED = 4,	/* and it should be */
};

/* An inode of the window. */
struct check_entry {
	uint64_t ino, parent;
	int64_t missing;		/* names that it still lacks; in CHECK_WAYS: who has visited it, 0 = nobody */
	uint32_t nlink;
	uint8_t type, flags;		/* bits 12..15 of the mode; CHECK_* */
};

/* The last block of a file, which must be zeros from byte @from on. */
struct check_tail { uint64_t ino, block; uint32_t from; };

/* Names with one hash, of a directory or of attributes. */
struct check_alike {
	uint64_t hash;
	uint32_t count;
	struct { uint8_t len; char name[NAME_MAX_BYTES]; } at[NAMES_ALIKE_MAX];
};

/* The attribute that is being read. */
struct check_xattr {
	uint64_t at;			/* key of its next piece */
	uint32_t left;			/* bytes of its value that are still to come */
	uint32_t acl;			/* INODE_ACL_*, or 0 */
	uint32_t acl_len;
	uint8_t value[ACL_BYTES_MAX];	/* of an acl */
};

/* The inode whose items are being read. */
struct check_inode {
	uint64_t ino;			/* 0: none yet */
	bool there, bad;		/* its item was met; nothing more is asked of it */
	bool extents_bad, odd_items;	/* told once */
	struct inode inode;		/* when it is there and not bad */
	uint64_t names, directories, blocks, xattr_bytes, inline_bytes, inline_parts;
	uint32_t acls;			/* INODE_ACL_* */
	struct check_xattr xattr;
	struct check_alike alike;
};

struct fs_check {
	struct files *f;
	enum check_stage stage;
	struct fs_check_figures figures;
	struct fs_check_damage damages[CHECK_DAMAGES_MAX];
	uint32_t damage_count;

	struct audit *audit;
	struct audit_listener blocks;

	struct walk_listener leaves;
	struct walk walk;
	bool begun, stop;		/* the stage's walk is under way; it has seen enough */
	uint64_t at_inode, inode_next, inode_count;	/* of the superblock but the first: where the walk is */
	uint64_t inode_last;		/* the greatest that there is */
	uint64_t windows;		/* done */
	uint64_t low, high;		/* of the window: inodes low .. high - 1; high 0: to the end */
	struct check_entry *entries;
	uint32_t entry_count, entry_max;
	uint32_t entry;			/* in CHECK_LINKS, CHECK_WAYS: the next */
	struct check_inode inode;
	struct check_tail tails[CHECK_TAILS_MAX];
	uint32_t tail_count;

	/* CHECK_WAYS: how far up we are; 0: not on the way. Beyond the window stones are laid, as in
	 * directory_outside(). */
	uint64_t way, stone, steps, next_stone;

	/* CHECK_PATHS_UP */
	uint32_t path;			/* of damages[] */
	uint64_t path_dir, path_child, path_at;	/* where the name of the child is looked for; 0: not begun */
	uint32_t path_from;		/* of damages[path].path: what is there so far */
};

/* Counted, and kept if there is room. @lack: what is missing may be in a part of the tree that cannot be looked at, and
 * is not told then. NULL: it is not kept. */
struct fs_check_damage *fs_check_report(struct fs_check *c, uint64_t ino, bool lack, const char *what);
/* The same with figures. */
void fs_check_report_count(struct fs_check *c, uint64_t ino, bool lack, const char *what, uint64_t is, uint64_t should);
/* The same of a name. */
void fs_check_report_name(struct fs_check *c, uint64_t ino, bool lack, const char *what, const char *name, uint32_t len,
		       uint64_t other);

/* fs_check_inode.c: what the items of one inode say among themselves. An item of the inode at hand: */
void fs_check_inode_item(struct fs_check *c, const struct tree_item *item);
/* There are no more of them. */
void fs_check_inode_end(struct fs_check *c);
/* The next ones are of @ino. */
void fs_check_inode_begin(struct fs_check *c, uint64_t ino);

/* fs_check_path.c */
void fs_check_path_leaf(struct fs_check *c, const struct node *n);
/* 1: more; 0: all paths are known that can be; -EAGAIN and others. */
MUST_CHECK int fs_check_path_up(struct fs_check *c);

static inline bool node_is_name(const struct tree_item *item)
{
	return item->key.kind == ITEM_NAME && item->key.inode && !name_judge(item);
}

static inline struct tree_item node_tree_item(const struct node *n, uint32_t index)
{
	const struct item *found = node_item(n, index);

	return (struct tree_item){ node_key(n, index), found->value, from_le16(found->len) };
}

#endif
