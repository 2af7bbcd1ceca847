/* SPDX-License-Identifier: Apache-2.0 */
/* What a whole tree is, as one number: of the model (files_model.h), and of a real filesystem, which is walked from its
 * root as a program would, name by name and byte by byte. Two that differ in anything that a program can see, but in
 * how much space files take, have other sums. */
#ifndef HOLDFAST_TESTS_FILES_TREE_H
#define HOLDFAST_TESTS_FILES_TREE_H

#include "files_operation.h"

/* ---- what it should be ---- */

struct tree_file { struct attributes a; uint8_t *data; };	/* a.size bytes; NULL: there is none */

/* What the tree may be as of one place of the log: the model's; or, of an operation that takes several records, the
 * model's but for one file, of which each attribute and byte is what it was before or what it is at the end. */
struct tree_moment {
	uint64_t sum;			/* of all; of all but `ino` */
	uint64_t ino;			/* 0 = none */
	struct tree_file before, after;
};

uint64_t tree_sum(struct model *m, uint64_t but);
struct tree_moment tree_moment_of(struct model *m);
/* In the middle of @op, which the model has not been told of. */
struct tree_moment tree_moment_within(struct model *m, const struct operation *op);
void tree_moment_free(struct tree_moment *moment);

/* ---- what it is ---- */

struct tree_inode { uint64_t ino, sum, content; };	/* content: bytes, names; sum: all of it */

struct tree_walk {
	struct files *files;
	uint64_t keep;			/* this inode is copied to `kept`, and not in `sum` */
	struct tree_file kept;
	struct tree_inode *inodes;	/* all that were met, in the order in which they are looked at */
	unsigned count, room, next;
	uint64_t sum;
	/* the inode that is being looked at */
	bool begun;
	struct attributes a;
	uint64_t parent, content, offset, cookie;
	uint8_t *value, *list;		/* of its attributes */
	uint8_t block[BLOCK_BYTES];	/* of its bytes */
};

/* @files is mounted, and may be read-only. It does not change from the first step to the last one. */
void tree_walk_begin(struct tree_walk *walk, struct files *files, uint64_t keep);
/* Some more of it. 1: call again; -EAGAIN: call again after ready(); 0: done; else what an operation said. */
int tree_walk_step(struct tree_walk *walk);
void tree_walk_end(struct tree_walk *walk);
/* Of a walk that is done, with keep = moment->ino: NULL when that is what may be, or a sentence. */
const char *tree_differs(const struct tree_walk *walk, const struct tree_moment *moment);
/* Which inodes differ from the model, a line each, to stderr. */
void tree_explain(const struct tree_walk *walk, struct model *m);
/* The file that was kept becomes the model's. */
void tree_adopt(struct model *m, const struct tree_file *kept);

#endif
