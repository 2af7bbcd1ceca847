/* SPDX-License-Identifier: Apache-2.0 */
/* What a POSIX filesystem is, as plainly as it can be said: arrays, whole copies, linear searches, no disk. It shares
 * types with fs/ and not a line of code. Its operations answer with 0 or -errno, as operation.h says of the real ones,
 * but never with -ENOSPC; numbers of new inodes are told to it. */
#ifndef HOLDFAST_TESTS_FILES_MODEL_H
#define HOLDFAST_TESTS_FILES_MODEL_H

#include "operation.h"

struct model_name { char name[NAME_MAX_BYTES + 1]; uint64_t ino; };
struct model_xattr { char name[XATTR_NAME_MAX_BYTES + 1]; uint8_t *value; size_t len; };

struct model_inode {
	struct attributes a;		/* blocks and generation are not known here */
	uint64_t parent;		/* of a directory */
	unsigned opens;
	bool nameable;			/* of O_TMPFILE, and never linked */
	uint8_t *data;			/* a.size bytes, of a regular file */
	char *target;			/* of a symbolic link */
	struct model_name *names;	/* of a directory */
	unsigned name_count;
	struct model_xattr *xattrs;
	unsigned xattr_count;
};

struct model {
	struct model_inode *inodes;
	unsigned count, room;
};

enum { MODEL_ROOT = 1 };

/* A root directory with these attributes. */
void model_init(struct model *m, const struct attributes *root);
void model_end(struct model *m);
/* Nothing is open any more, and what has no name is gone. */
void model_remount(struct model *m);

/* NULL when there is none; good until the next change. */
struct model_inode *model_inode(struct model *m, uint64_t ino);
/* As a write by a user does: setuid goes, setgid where the group may execute. */
void model_kill_privileges(struct model_inode *i);
/* 0 when the directory has no such name. */
uint64_t model_find(struct model *m, uint64_t dir, const char *name);

int model_lookup(struct model *m, const struct caller *c, uint64_t parent, const char *name, uint64_t *ino);
/* mode with its type; a directory too. @ino: what the new one is to be called. */
int model_make(struct model *m, const struct caller *c, uint64_t parent, const char *name, uint32_t mode, uint64_t rdev,
	       const char *target, uint64_t ino);
int model_create(struct model *m, const struct caller *c, uint64_t parent, const char *name, uint32_t mode, int flags,
		 uint64_t ino);
int model_tmpfile(struct model *m, const struct caller *c, uint64_t parent, uint32_t mode, uint64_t ino);
int model_link(struct model *m, const struct caller *c, uint64_t ino, uint64_t parent, const char *name);
int model_unlink(struct model *m, const struct caller *c, uint64_t parent, const char *name);
int model_rmdir(struct model *m, const struct caller *c, uint64_t parent, const char *name);
int model_rename(struct model *m, const struct caller *c, uint64_t parent, const char *name, uint64_t new_parent,
		 const char *new_name, unsigned flags);
int model_setattr(struct model *m, const struct caller *c, uint64_t ino, const struct attributes_set *set);
int model_access(struct model *m, const struct caller *c, uint64_t ino, unsigned mask);
int model_open(struct model *m, const struct caller *c, uint64_t ino, int flags);
void model_release(struct model *m, uint64_t ino);
int model_write(struct model *m, const struct caller *c, uint64_t ino, uint64_t offset, const void *bytes,
		uint64_t len);
int model_fallocate(struct model *m, const struct caller *c, uint64_t ino, int mode, uint64_t offset, uint64_t len);
int model_setxattr(struct model *m, const struct caller *c, uint64_t ino, const char *name, const void *value,
		   size_t len, int flags);
int model_removexattr(struct model *m, const struct caller *c, uint64_t ino, const char *name);

#endif
