/* SPDX-License-Identifier: Apache-2.0 */
/* A filesystem with its operations on blocks in memory: what their tests stand on. */
#ifndef HOLDFAST_TESTS_FILES_RIG_H
#define HOLDFAST_TESTS_FILES_RIG_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "files.h"
#include "inode.h"
#include "memory_blocks.h"
#include "run.h"

struct files_rig {
	struct memory_blocks *blocks;
	struct files files, *f;
	struct caller root, user, other;	/* uid 0; 1000 and 1001, both of group 100, the first of 200 too */
	uint64_t random;
	uint64_t logged;		/* bytes by the last operation that RIG counted */
	unsigned records;		/* of it */
	void (*between)(struct files_rig *r);	/* after each OP_AGAIN; may be NULL */
	void *context;
};

struct files_rig *files_rig_new(uint64_t blocks, uint64_t seed);
/* What is on the disk at this moment, mounted elsewhere: as after loss of power. */
struct files_rig *files_rig_copy(struct files_rig *r);
void files_rig_free(struct files_rig *r);
void files_rig_remount(struct files_rig *r);
uint64_t files_rig_draw(struct files_rig *r, uint64_t below);
/* True when an operation with this result is to be called again. */
bool files_rig_again(struct files_rig *r, int result);
void files_rig_tick(struct files_rig *r);	/* time passes, for all callers */
/* Reclaims until nothing is left. */
void files_rig_reclaim(struct files_rig *r);
/* Damages found by a check, each printed. */
uint64_t files_rig_damages(struct files_rig *r);
/* All @len bytes of the file from @offset on; returns how many there are. */
uint64_t files_rig_read(struct files_rig *r, uint64_t ino, uint64_t offset, uint8_t *out, uint64_t len);
/* Writes all of it; 0 or the error. */
int files_rig_write(struct files_rig *r, const struct caller *c, uint64_t ino, uint64_t offset, const void *bytes,
		    uint64_t len);

/* An operation until it is done; its result. */
#define RIG(r, call) \
	({ \
		int result_; \
		uint64_t logged_ = memory_blocks_figures((r)->blocks)->logged; \
		uint64_t commits_ = memory_blocks_figures((r)->blocks)->commits; \
		do \
			result_ = (call); \
		while (files_rig_again(r, result_)); \
		(r)->logged = memory_blocks_figures((r)->blocks)->logged - logged_; \
		(r)->records = (unsigned)(memory_blocks_figures((r)->blocks)->commits - commits_); \
		result_; \
	})

/* ---- for tests that lead it step by step: as root, and it must work ---- */

static inline uint64_t rig_file(struct files_rig *r, uint64_t dir, const char *name, uint32_t mode)
{
	struct attributes a;

	assert_int_equal(RIG(r, op_mknod(r->f, &r->root, dir, name, S_IFREG | mode, 0, &a)), 0);
	return a.ino;
}

static inline uint64_t rig_dir(struct files_rig *r, uint64_t dir, const char *name, uint32_t mode)
{
	struct attributes a;

	assert_int_equal(RIG(r, op_mkdir(r->f, &r->root, dir, name, mode, &a)), 0);
	return a.ino;
}

static inline struct attributes rig_stat(struct files_rig *r, uint64_t ino)
{
	struct attributes a;

	assert_int_equal(RIG(r, op_getattr(r->f, ino, &a)), 0);
	return a;
}

static inline int rig_lookup(struct files_rig *r, const struct caller *c, uint64_t dir, const char *name)
{
	struct attributes a;

	return RIG(r, op_lookup(r->f, c, dir, name, &a));
}

static inline int rig_set(struct files_rig *r, const struct caller *c, uint64_t ino, const struct attributes_set *set)
{
	struct attributes a;

	return RIG(r, op_setattr(r->f, c, ino, set, &a));
}

static inline int rig_truncate(struct files_rig *r, uint64_t ino, uint64_t size)
{
	return rig_set(r, &r->root, ino, &(struct attributes_set){ .valid = SET_SIZE, .size = size });
}

static inline uint64_t rig_free_blocks(struct files_rig *r)
{
	struct statfs_figures figures;

	assert_int_equal(RIG(r, op_statfs(r->f, &figures)), 0);
	return figures.free;
}

#endif
