/* SPDX-License-Identifier: Apache-2.0 */
/* What the stages of undo know of each other: undo.c (plans and slots), undo_copy.c (blocks). */
#ifndef HOLDFAST_UNDO_PRIVATE_H
#define HOLDFAST_UNDO_PRIVATE_H

#include "undo.h"

/* The step that waited is over: on with the plan. From a done() only. */
void undo_next(struct undo *u);
/* The step that waited could not be done: on with the other plan, or the end of all. From a done() only. */
void undo_trouble(struct undo *u, const char *what, int64_t result);
/* For good. */
void undo_fail(struct undo_slot *slot, const char *what, int64_t result);

/* Of the blocks that were asked for the next run that is not saved, or false. The first walk is all zeros. */
bool undo_walk_unsaved(struct undo_slot *slot, struct undo_walk *walk, uint64_t *first, uint64_t *end);
/* Sets the bits of all blocks that were asked for, in one of the slot's bitmaps. */
void undo_set_asked(struct undo_slot *slot, struct bitmap *bits);
/* Whether any of them is not in `want`. */
bool undo_unnoted(struct undo_slot *slot);

/* ---- steps ---- */

/* Counts the data in the slot's file, if the bound might be passed and data_count is only an upper one. */
undo_step undo_count;
/* The store's blocks go to the slot: those that were asked for and are not saved; those of `want`. */
undo_step undo_copy_asked, undo_copy_want;
/* The saved blocks go to the store. */
undo_step undo_copy_back;

#endif
