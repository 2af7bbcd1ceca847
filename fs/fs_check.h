/* SPDX-License-Identifier: Apache-2.0 */
/* Does a filesystem mean what it should? First all that the audit judges: nodes, maps, what refers to which block. Then
 * what the items say, of each inode and among each other: names, links, parents, sizes, blocks, attributes, orphans,
 * counts. Changes nothing. Memory is bounded: inodes are taken a window at a time, and for each window the tree is
 * walked once more. Whatever the blocks hold, it ends.
 *
 * Where parts of the tree cannot be looked at, what seems to lack is not told: it may be there.
 *
 * The volume must not change meanwhile: it is a stopped replica's, or a snapshot (include/blocks.h).
 */
#ifndef HOLDFAST_FS_FS_CHECK_H
#define HOLDFAST_FS_FS_CHECK_H

#include "files.h"

struct fs_check;

enum {
	CHECK_DAMAGES_MAX = 100,	/* that are kept, the first ones; all are counted */
	CHECK_PATH_BYTES = 1024,	/* of a longer path the end, after "..." */
	CHECK_TEXT_BYTES = 8192,	/* any sentence: bytes that are no plain text are four in it */
	CHECK_MEMORY_MIN = 4 << 10,
};

struct fs_check_damage {
	uint64_t inode;			/* 0: of none */
	uint64_t block, block_count;	/* 0 of them: of none */
	uint64_t is, should;		/* when `counted` */
	const char *what;		/* a sentence without subject and full stop, static */
	bool counted;
	uint64_t other;			/* inode that a name names; 0: it is about no name */
	uint8_t name_len;
	char name[NAME_MAX_BYTES];	/* of a directory's name, or an attribute's: any bytes */
	char path[CHECK_PATH_BYTES];	/* of the inode, with a final 0; "": nobody knows */
};

struct fs_check_figures {
	uint64_t damages;
	uint64_t nodes, data_blocks;	/* of the tree, of extents */
	uint64_t blocks_used;		/* of all that can be used; metadata and data */
	uint64_t inodes, directories, names;
	uint64_t passed;		/* last blocks of files that changed meanwhile (-ESTALE): not looked at */
	bool incomplete;		/* parts of the tree could not be looked at */
};

/* Of @f, which is mounted and used for nothing else until fs_check_free(). All is allotted here: @memory_bytes (at
 * least the minimum), and 400 KiB. -ENOMEM. */
MUST_CHECK int fs_check_new(struct fs_check **out, struct files *f, uint64_t memory_bytes);
void fs_check_free(struct fs_check *c);

/* Some more of it, at most some dozens of blocks. 1: call again; -EAGAIN: call again after ready(); 0: done; any other:
 * it cannot go on. -ESTALE of blocks->read(): this block is not any more what the others are. */
MUST_CHECK int fs_check_step(struct fs_check *c);

/* Of 1000 parts, about. */
unsigned fs_check_progress(const struct fs_check *c);
const struct fs_check_figures *fs_check_figures(const struct fs_check *c);
/* @index < min(figures.damages, CHECK_DAMAGES_MAX); its path is known when all is done. */
const struct fs_check_damage *fs_check_damage(const struct fs_check *c, unsigned index);
/* "inode 12 (/a/b), block 77: it has other bytes than zeros behind its end" */
void fs_check_damage_text(const struct fs_check_damage *damage, char out[CHECK_TEXT_BYTES]);

#endif
