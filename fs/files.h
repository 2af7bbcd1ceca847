/* SPDX-License-Identifier: Apache-2.0 */
/* The filesystem as programs see it: directories, files, links, attributes, on top of struct fs. operation.h is its
 * face; this is its state and what each operation begins and ends with:
 *
 *	files_begin(f, ANNOTATION_MKDIR);
 *	return files_finish(f, mkdir(f, ...));
 *
 * so that an operation is a function which changes items and returns at the first error. */
#ifndef HOLDFAST_FS_FILES_H
#define HOLDFAST_FS_FILES_H

#include "annotation.h"
#include "fs.h"
#include "operation.h"
#include "opens.h"

/* The last item met that cannot be, in blocks that are whole. */
struct files_damage { uint64_t ino; const char *what; uint64_t count; };

struct files {
	struct fs fs;
	struct opens opens;
	struct annotation annotation;	/* of the operation under way */
	bool freeing;			/* it gives blocks back */
	uint64_t lsn;			/* op_lsn() */
	uint64_t frees;			/* op_frees() */
	bool reclaim_wanted;
	uint64_t reclaim_next, reclaim_last;	/* the orphans that op_reclaim() has still to look at */
	uint64_t hash_mask;		/* bits of names' hashes that are used: all, but in a test of collisions */
	struct files_damage damage;
};

/* As fs_new(), fs_delete(), fs_mount(), fs_unmount() say. */
MUST_CHECK int files_new(struct files *f, struct io *io, struct blocks *blocks, char why[WHY_BYTES]);
void files_delete(struct files *f);
MUST_CHECK int files_mount(struct files *f, char why[WHY_BYTES]);
void files_unmount(struct files *f);
/* fs_format(), and a root directory of @owner's uid and gid, mode 0755. It is mounted then. */
MUST_CHECK int files_format(struct files *f, const struct caller *owner, const uint8_t uuid[UUID_BYTES]);

void files_begin(struct files *f, enum annotation_operation operation);
/* Of 0 and OP_AGAIN the commit, of an error the abort. */
MUST_CHECK int files_finish(struct files *f, int result);
/* The end of what only looked. Returns @result. */
int files_looked(struct files *f, int result);

/* An item that cannot be: fails the transaction with -EIO and remembers it. @what: "inode 7: " goes before it. */
int files_damaged(struct files *f, uint64_t ino, const char *what);

/* A turn of a loop that changes @inserts items and frees a run may follow in this transaction. */
bool files_have_room(const struct files *f, unsigned inserts);

/* op_reclaim() looks at this orphan; at all of them. */
void files_want_reclaim(struct files *f, uint64_t ino);
void files_want_reclaim_all(struct files *f);

/* SipHash-2-4 of @len bytes, keyed with the filesystem's uuid and @seed. */
uint64_t files_hash(const struct files *f, uint64_t seed, const void *bytes, size_t len);

#endif
