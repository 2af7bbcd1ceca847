/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted array that the tree must agree with, and batches of operations on both: one batch is one transaction. */
#ifndef HOLDFAST_TESTS_FS_MODEL_H
#define HOLDFAST_TESTS_FS_MODEL_H

#include "fs_rig.h"

/* A value is told by its length and a number: fs_model_value() makes its bytes. */
struct model_item { struct tree_key key; uint16_t len; uint32_t number; };

struct fs_model {
	struct model_item *items;
	uint32_t count, room;
};

void fs_model_free(struct fs_model *m);
struct fs_model fs_model_copy(const struct fs_model *m);
void fs_model_value(uint8_t value[ITEM_VALUE_MAX], uint16_t len, uint32_t number);

enum step_kind { STEP_INSERT, STEP_REPLACE, STEP_DELETE, STEP_FIND, STEP_NEXT, STEP_PREVIOUS, STEP_KINDS };
struct model_step {
	enum step_kind kind;
	struct tree_key key;
	uint16_t len;
	uint32_t number;
	int result;		/* out */
	struct tree_key found;	/* out, of NEXT and PREVIOUS */
	bool value_ok;		/* out, of FIND, NEXT, PREVIOUS: it is one that fs_model_value() makes */
	uint16_t found_len;
	uint32_t found_number;
};

/* What keys and values are drawn from. */
struct model_shape {
	uint64_t inodes, ats;	/* keys: inode below, at below */
	uint16_t len_max;
	unsigned deletes;	/* of 100 changes */
};

struct model_step fs_model_draw(struct fs_rig *r, const struct model_shape *shape);
/* On the tree, in the transaction that runs. 0, or the error that ends the transaction. */
int fs_model_run(struct fs_rig *r, struct model_step *steps, unsigned count);
/* On the model; what the tree said must be what the model says. */
void fs_model_agree(struct fs_model *m, const struct model_step *steps, unsigned count);
/* All of the tree, forwards and backwards, is all of the model. */
void fs_model_same(const struct fs_model *m, struct fs_rig *r);

#endif
