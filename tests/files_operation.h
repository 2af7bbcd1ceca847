/* SPDX-License-Identifier: Apache-2.0 */
/* An operation on a filesystem as data: drawn by chance so that most of them mean something, asked of the real one,
 * told to the model (files_model.h), and kept, so that a history of them can be played to a model once more. */
#ifndef HOLDFAST_TESTS_FILES_OPERATION_H
#define HOLDFAST_TESTS_FILES_OPERATION_H

#include "files.h"
#include "files_model.h"

enum operation_verb {
	OPERATION_MAKE, OPERATION_CREATE, OPERATION_OPEN, OPERATION_LINK, OPERATION_UNLINK, OPERATION_RMDIR,
	OPERATION_RENAME, OPERATION_SETATTR, OPERATION_WRITE, OPERATION_FALLOCATE, OPERATION_SETXATTR,
	OPERATION_REMOVEXATTR, OPERATION_TMPFILE,
	OPERATION_VERBS
};

enum { OPERATION_NAME_BYTES = 300, OPERATION_ACL_ENTRIES = 8, OPERATION_ACL_BYTES = 4 + 8 * OPERATION_ACL_ENTRIES };

struct operation {
	enum operation_verb verb;
	struct caller caller;
	uint64_t ino, parent, new_parent;
	char name[OPERATION_NAME_BYTES], new_name[OPERATION_NAME_BYTES];	/* of SETXATTR the attribute's */
	uint32_t mode;
	uint64_t rdev, offset, len;	/* len: of a symbolic link its target's */
	int flags;
	struct attributes_set set;
	uint64_t fill;			/* what bytes are made of */
	uint32_t acl_len;		/* not 0: the value of SETXATTR is these bytes */
	uint8_t acl[OPERATION_ACL_BYTES];

	/* Out of operation_run(). */
	struct attributes attributes;	/* of what was made, opened or set; ino 0: of nothing */
	uint32_t written;
};

/* What chance there is, when it is, and how large things may be. */
struct operation_source {
	uint64_t (*below)(struct operation_source *source, uint64_t bound);
	struct fs_time now;
	uint64_t file_bytes;		/* a file's size; at most OPERATION_FILE_BYTES_MAX */
	bool may_open;			/* there is room for what is open */
};

enum { OPERATION_FILE_BYTES_MAX = 3 << 20 };

void operation_draw(struct operation *op, struct operation_source *source, struct model *m);
/* A size as files have it; a name as directories do. */
uint64_t operation_draw_size(struct operation_source *source);
void operation_draw_name(struct operation_source *source, char out[OPERATION_NAME_BYTES]);
uint64_t operation_draw_inode(struct operation_source *source, struct model *m, uint32_t type);
void operation_draw_caller(struct operation_source *source, struct caller *out);

/* What the call of operation.h said, OP_AGAIN and -EAGAIN too. */
int operation_run(struct operation *op, struct files *f);
/* After it has run and said @result, which is what this one should say as well. */
int operation_model(const struct operation *op, struct model *m, int result);
const char *operation_name(const struct operation *op);
/* The inode whose bytes and attributes it changes in several records, when it takes several; 0 = none. */
uint64_t operation_target(const struct operation *op, struct model *m);

#endif
