/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with a store and the files of undo, whose store is changed as destage does it: preserved first. */
#ifndef HOLDFAST_TESTS_UNDO_RIG_H
#define HOLDFAST_TESTS_UNDO_RIG_H

#include "run.h"
#include "sim/world.h"
#include "undo.h"

enum { BLOCKS = 96, VOLUME_BYTES = BLOCKS * BLOCK_BYTES, ROUND = 12 };

struct undo_rig {
	struct world *world;
	struct machine *machine;
	struct geometry geometry;
	struct undo undo;
	struct undo_slot *slot;		/* the one that the test is about */
	int store, files[UNDO_SLOTS];
	uint64_t limit_blocks;
	uint64_t id;			/* of the snapshot that is durable, or is being made so */
	unsigned moved;
	bool inside;			/* a call of undo: moved() must not come */
	uint8_t old[VOLUME_BYTES];	/* the store as of the snapshot */
	bool want[BLOCKS];
};

/* How far a slot's life had come when power was lost. */
enum phase { NOTHING, STARTING, RECORDING, ENDING, ENDED };

/* Its store has data and holes (only data when @seed % 4 == 0), its undo is not loaded. @limit_blocks: the bound of
 * a slot. */
struct undo_rig *undo_rig_new(uint64_t seed, uint64_t limit_blocks);
void undo_rig_free(struct undo_rig *r);
/* Those that return bool: false when the machine crashed, or undo failed. */
bool undo_rig_load(struct undo_rig *r);
/* After a crash: boots and loads, and may be struck once more while it mends a header. */
void undo_rig_reboot(struct undo_rig *r);
/* Waits until it is idle. */
bool undo_rig_wait(struct undo_rig *r);
/* Starts a slot: r->slot, r->id. */
bool undo_rig_take(struct undo_rig *r, bool eagerly, bool keep);
/* Some blocks, and some ranges, are preserved and then changed in the store. */
bool undo_rig_change(struct undo_rig *r);
/* One op on the store. */
bool undo_rig_store(struct undo_rig *r, enum io_kind kind, uint64_t block, uint64_t count);
/* undo_end(), undo_drop(), undo_roll_back() of r->slot, and waits. */
bool undo_rig_call(struct undo_rig *r, void (*call)(struct undo_slot *slot));
/* For world_run_while(). */
bool undo_rig_preserving(void *rig);
/* The slot of r->id, or NULL. */
struct undo_slot *undo_rig_slot(struct undo_rig *r);

/* Store and slot together are what the store was. */
void assert_slot_gives_the_old_store(struct undo_rig *r, const struct undo_slot *slot);
/* What it is after power was lost in @phase. Sets r->slot. */
void assert_slot_is_of_its_phase(struct undo_rig *r, enum phase phase, bool keep);
/* Nothing of what the slot's file may still hold gets into its next life. */
void assert_next_life_is_right(struct undo_rig *r);
/* Free, and its file is a hole but for the header. */
void assert_nothing_is_left_behind(struct undo_rig *r, const struct undo_slot *slot);

#endif
