/* SPDX-License-Identifier: Apache-2.0 */
/* What one operation changed, as the annotation of its record: a secondary drops just these entries from its kernel's
 * caches, and a feed of changes is read from it. It says nothing about how: that is what the deltas are for.
 *
 *	+--------+-----------------------+-----------------------+---
 *	| header | change | name, zeros  | change | name, zeros  | ...
 *	| 8      | 32     | to 8         | 32     | to 8         |
 *	+--------+-----------------------+-----------------------+---
 *
 * The record's own sum covers it. annotation_check() bounds it before anybody reads a field. Changes stand in the order
 * in which they take effect: of a rename first the old name is REMOVED, then the new one is ADDED; what that meant
 * before, it means no more, and what became of it is told by a change of its own.
 */
#ifndef HOLDFAST_ANNOTATION_H
#define HOLDFAST_ANNOTATION_H

#include <stdbool.h>

#include "blocks.h"
#include "bytes.h"
#include "check.h"

enum { ANNOTATION_MAGIC = 0x4146 /* "FA" */, ANNOTATION_VERSION = 1, ANNOTATION_CHANGES_MAX = 6 };

/* What was asked for. RECLAIM: space of what is gone already comes back; nobody sees a difference. */
enum annotation_operation {
	ANNOTATION_CREATE = 1, ANNOTATION_MKDIR, ANNOTATION_SYMLINK, ANNOTATION_MKNOD, ANNOTATION_LINK,
	ANNOTATION_UNLINK, ANNOTATION_RMDIR, ANNOTATION_RENAME, ANNOTATION_EXCHANGE, ANNOTATION_SETATTR,
	ANNOTATION_WRITE, ANNOTATION_FALLOCATE, ANNOTATION_SETXATTR, ANNOTATION_REMOVEXATTR, ANNOTATION_RELEASE,
	ANNOTATION_RECLAIM, ANNOTATION_ACCESSED,
	ANNOTATION_OPERATIONS
};

enum annotation_kind {
	ANNOTATION_ADDED = 1,	/* `name` in directory `parent` means `inode` from now on, which has one more name */
	ANNOTATION_REMOVED,	/* `name` in directory `parent` meant `inode`, which has one name less */
	ANNOTATION_ATTRIBUTES,	/* attributes of `inode`, also how many names it has, and nothing else */
	ANNOTATION_DATA,	/* bytes [offset, offset + len) of `inode`, size and times; len UINT64_MAX: all above */
	ANNOTATION_XATTR,	/* `name` is the extended attribute of `inode` that was set or removed */
	ANNOTATION_FREED,	/* `inode` is no more; its number never comes back */
	ANNOTATION_KINDS
};

struct annotation_header {
	le16 magic;
	uint8_t version;
	uint8_t operation;
	uint8_t count;			/* of changes */
	uint8_t reserved;		/* 0 */
	le16 length;			/* bytes of all, with this */
};
_Static_assert(sizeof(struct annotation_header) == 8, "size on disk");

struct annotation_record {
	uint8_t kind;
	uint8_t name_len;		/* bytes of the name behind it, without the zeros that fill up to 8 */
	le16 reserved16;		/* 0 */
	le32 reserved32;		/* 0 */
	le64 inode;
	le64 place;			/* ADDED, REMOVED: the directory's inode. DATA: offset. Else 0 */
	le64 len;			/* DATA. Else 0 */
};
_Static_assert(sizeof(struct annotation_record) == 32, "size on disk");
_Static_assert(8 + ANNOTATION_CHANGES_MAX * 32 + 3 * 256 <= BLOCKS_ANNOTATION_MAX, "three names of 255 bytes fit");

/* ---- making one ---- */

struct annotation {
	uint32_t len;
	_Alignas(8) uint8_t bytes[BLOCKS_ANNOTATION_MAX];
};

void annotation_begin(struct annotation *a, enum annotation_operation operation);
/* At most ANNOTATION_CHANGES_MAX of these, with at most three names of at most 255 bytes. */
void annotation_entry(struct annotation *a, enum annotation_kind added_or_removed, uint64_t parent, uint64_t inode,
		      const char *name, size_t name_len);
void annotation_inode(struct annotation *a, enum annotation_kind attributes_or_freed, uint64_t inode);
void annotation_data(struct annotation *a, uint64_t inode, uint64_t offset, uint64_t len);
void annotation_xattr(struct annotation *a, uint64_t inode, const char *name, size_t name_len);

/* ---- reading one ---- */

/* Whether @bytes (from a log, so of any content) are an annotation by the rules above, with nothing behind it. A newer
 * version is refused too: who cannot read it drops all that it caches. */
bool annotation_check(const void *bytes, uint32_t len);

struct annotation_change {
	enum annotation_kind kind;
	uint64_t inode, parent, offset, len;	/* as the kind has them, else 0 */
	const char *name;			/* in the annotation, without a final 0 */
	uint32_t name_len;
};

/* Of an annotation that was checked. */
enum annotation_operation annotation_operation(const void *bytes);
/* Change after change: start with *@at = 0. False at the end. */
bool annotation_next(const void *bytes, uint32_t *at, struct annotation_change *change);

#endif
