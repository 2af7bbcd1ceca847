/* SPDX-License-Identifier: Apache-2.0 */
/* A filesystem on blocks in memory, and what its tests share. */
#ifndef HOLDFAST_TESTS_FS_RIG_H
#define HOLDFAST_TESTS_FS_RIG_H

#include "audit.h"
#include "fs.h"
#include "memory_blocks.h"

struct fs_rig {
	struct memory_blocks *blocks;
	struct fs fs;
	uint64_t random;
};

/* Formatted, and mounted. Everything is drawn from @seed. */
struct fs_rig *fs_rig_new(uint64_t blocks, uint64_t seed);
/* What is on @blocks, which becomes the rig's, mounted. NULL: it was refused; *why says so. */
struct fs_rig *fs_rig_mount(struct memory_blocks *blocks, char why[WHY_BYTES]);
void fs_rig_free(struct fs_rig *r);
/* 0 .. @below - 1 */
uint64_t fs_rig_draw(struct fs_rig *r, uint64_t below);

/* After an error: aborts, and when it was -EAGAIN has what is missing there, and says that it is worth trying again. */
bool fs_rig_again(struct fs_rig *r, int error);
/* Commits; -EAGAIN too is for fs_rig_again(). */
int fs_rig_commit(struct fs_rig *r);

/* One call as a transaction, until it is no more -EAGAIN: the result of the call, or of the commit. */
#define FS_RIG_DO(r, call) \
	({ \
		int result_; \
		do { \
			result_ = (call); \
			if (!result_) \
				result_ = fs_rig_commit(r); \
		} while (fs_rig_again(r, result_)); \
		result_; \
	})

/* What an audit with so much memory finds; with @loud each damage is printed. */
uint64_t fs_rig_damages(struct fs_rig *r, uint64_t memory_bytes, bool loud);
struct audit_figures fs_rig_audit(struct fs_rig *r, uint64_t memory_bytes, bool loud);

#endif
