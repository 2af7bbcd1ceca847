/* SPDX-License-Identifier: Apache-2.0 */
/* Undo: whatever changes in the store after a snapshot, the store and the slot together still give what it held,
 * after loss of power at any moment. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/world_probe.h"
#include "undo.h"

enum { BLOCKS = 96, VOLUME_BYTES = BLOCKS * BLOCK_BYTES, ROUND = 12 };

struct rig {
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
	bool changed[BLOCKS];
};

static void rig_moved(struct undo *u)
{
	struct rig *r = container_of(u, struct rig, undo);

	assert_false(r->inside);
	r->moved++;
}

static bool rig_loading(void *context)
{
	struct rig *r = context;

	return !r->undo.loaded && !r->undo.failed;
}

static bool rig_busy(void *context)
{
	struct rig *r = context;

	return !undo_idle(&r->undo) && !r->undo.failed;
}

/* False: the machine crashed, or undo failed. */
static bool rig_wait(struct rig *r)
{
	world_run_while(r->world, rig_busy, r, 100 * SECONDS);
	return undo_idle(&r->undo) && !machine_crashed(r->machine);
}

static bool rig_load(struct rig *r)
{
	assert_int_equal(undo_new(&r->undo, machine_io(r->machine), r->files, r->store, &r->geometry,
				  r->limit_blocks * BLOCK_BYTES, rig_moved), 0);
	r->undo.lsn_now = 7000;
	undo_load(&r->undo);
	return world_run_while(r->world, rig_loading, r, 100 * SECONDS) && r->undo.loaded;
}

static struct rig *rig_new(uint64_t seed, uint64_t limit_blocks)
{
	struct rig *r = calloc(1, sizeof *r);

	r->world = world_new(seed);
	r->machine = world_machine(r->world, "a");
	r->geometry = (struct geometry){ .uuid = { 9, 8, 7 }, .volume_bytes = VOLUME_BYTES, .node = "a" };
	r->limit_blocks = limit_blocks;
	r->store = machine_disk(r->machine, VOLUME_BYTES);
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		r->files[i] = machine_disk(r->machine, undo_file_bytes(VOLUME_BYTES));
	for (uint64_t block = 0; block < BLOCKS; block++) {
		if (world_random_below(r->world, 3) == 0)
			continue;	/* a hole */
		memset(r->old + block * BLOCK_BYTES, (int)(1 + world_random_below(r->world, 255)), BLOCK_BYTES);
		machine_disk_write_now(r->machine, r->store, block * BLOCK_BYTES, r->old + block * BLOCK_BYTES,
				       BLOCK_BYTES);
	}
	return r;
}

static void rig_free(struct rig *r)
{
	if (!machine_crashed(r->machine)) {
		undo_delete(&r->undo);
		assert_int_equal(machine_memory(r->machine), 0);
	}
	world_free(r->world);
	free(r);
}

/* ---- what holds ---- */

static const uint8_t *slot_block(struct rig *r, const struct undo_slot *slot, uint64_t block)
{
	return machine_disk_data(r->machine, slot->file) + undo_block_offset(&r->undo, block);
}

/* Store and slot together are what the store was. */
static void assert_slot_gives_the_old_store(struct rig *r, const struct undo_slot *slot)
{
	const uint8_t *store = machine_disk_data(r->machine, r->store);

	for (uint64_t block = 0; block < BLOCKS; block++) {
		bool saved = bitmap_test(&slot->saved, block);
		const uint8_t *bytes = saved ? slot_block(r, slot, block) : store + block * BLOCK_BYTES;

		if (memcmp(bytes, r->old + block * BLOCK_BYTES, BLOCK_BYTES) != 0)
			fail_msg("seed %llu: block %llu, which is %s, is not what it was",
				 (unsigned long long)world_seed(r->world), (unsigned long long)block,
				 saved ? "saved" : "not saved");
	}
}

/* ---- what is done; each returns false when the machine crashed ---- */

static bool rig_take(struct rig *r, bool eagerly, bool keep)
{
	r->slot = undo_take(&r->undo);
	assert_non_null(r->slot);
	assert_true(r->slot->taking);
	assert_int_equal(r->slot->saved.count + r->slot->want.count + r->slot->history->count, 0);
	r->slot->header.lsn = to_le64(5000);
	r->slot->header.base = to_le64(4000);
	r->slot->header.keep = to_le32(keep);
	strcpy(r->slot->header.source, "b");
	r->id = from_le64(r->slot->header.id);
	assert_true(r->id != 0);
	history_add(r->slot->history,
		    &(struct epoch_entry){ .number = to_le64(3), .start = to_le64(512), .node = "a" });
	for (uint64_t block = 0; block < BLOCKS; block++)
		if (world_random_below(r->world, 4) == 0)
			bitmap_set(&r->slot->want, block, 1);
	r->inside = true;
	undo_start(r->slot, eagerly);
	r->inside = false;
	assert_false(undo_idle(&r->undo));
	return rig_wait(r);
}

static bool rig_store(struct rig *r, enum io_kind kind, uint64_t block, uint64_t count)
{
	static uint8_t bytes[BLOCKS * BLOCK_BYTES] __attribute__((aligned(4096)));
	struct probe probe = { .done = false };

	memset(bytes, (int)world_random_below(r->world, 256), count * BLOCK_BYTES);
	probe_start(r->machine, &probe, kind, r->store, block * BLOCK_BYTES, bytes, count * BLOCK_BYTES);
	return world_run_while(r->world, probe_busy, &probe, SECONDS);
}

static bool rig_preserving(void *context)
{
	struct rig *r = context;

	return !undo_preserved(&r->undo) && !r->undo.failed;
}

/* Some blocks, and some ranges, are preserved and then changed in the store. */
static bool rig_change(struct rig *r)
{
	static struct holes holes;
	uint64_t blocks[ROUND], count = 0, at = 0;
	struct world *w = r->world;

	memset(&holes, 0, sizeof holes);
	while (count < ROUND && (at += world_random_below(w, 12)) < BLOCKS)
		blocks[count++] = at++;
	for (unsigned i = 0; i < world_random_below(w, 3); i++) {
		struct hole hole = { .first = world_random_below(w, BLOCKS), .lsn_end = 1 };

		hole.end = hole.first + 1 + world_random_below(w, BLOCKS - hole.first);
		holes_add(&holes, &hole);
	}
	r->inside = true;
	undo_preserve(&r->undo, blocks, count, &holes);
	r->inside = false;
	if (!world_run_while(w, rig_preserving, r, 100 * SECONDS) || r->undo.failed)
		return false;
	if (r->slot && r->slot->kind != UNDO_FREE && undo_recording(&r->undo))
		for (uint64_t i = 0; i < count; i++)
			assert_true(bitmap_test(&r->slot->saved, blocks[i]));
	for (uint64_t i = 0; i < count; i++)
		if (!rig_store(r, IO_WRITE, blocks[i], 1))
			return false;
	for (uint32_t i = 0; i < holes.count; i++)
		if (!rig_store(r, world_random_below(w, 2) ? IO_PUNCH : IO_ZERO, holes.at[i].first,
			       holes.at[i].end - holes.at[i].first))
			return false;
	return world_random_below(w, 2) || rig_store(r, IO_SYNC, 0, 1);
}

static bool rig_call(struct rig *r, void (*call)(struct undo_slot *slot))
{
	r->inside = true;
	call(r->slot);
	r->inside = false;
	return rig_wait(r);
}

/* ---- without crashes ---- */

static void undo_gives_back_the_store_as_it_was(void **state)
{
	(void)state;
	for (unsigned i = 0; i < test_seed_count(20); i++) {
		struct rig *r = rig_new(test_seed_first(1) + i, BLOCKS);

		assert_true(rig_load(r));
		assert_false(undo_recording(&r->undo));
		assert_true(rig_take(r, i % 2, false));
		assert_int_equal(r->slot->error, 0);
		assert_true(undo_recording(&r->undo));
		assert_slot_gives_the_old_store(r, r->slot);
		for (unsigned change = 0; change < 12; change++) {
			assert_true(rig_change(r));
			assert_slot_gives_the_old_store(r, r->slot);
		}
		assert_true(rig_call(r, undo_roll_back));
		assert_int_equal(r->slot->error, 0);
		assert_memory_equal(machine_disk_data(r->machine, r->store), r->old, VOLUME_BYTES);
		assert_int_equal(machine_disk_unsynced(r->machine, r->store), 0);
		assert_true(rig_call(r, undo_end));
		assert_false(undo_recording(&r->undo));
		assert_int_equal(r->slot->kind, UNDO_FREE);
		rig_free(r);
	}
}

/* ---- loss of power ---- */

enum phase { NOTHING, STARTING, RECORDING, ENDING, ENDED };

/* The slot of r->id, or NULL. */
static struct undo_slot *slot_find(struct rig *r)
{
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		if (r->undo.slots[i].kind != UNDO_FREE && from_le64(r->undo.slots[i].header.id) == r->id)
			return &r->undo.slots[i];
	return NULL;
}

/* A life of a slot, until it is over or power is lost. Returns how far it came. */
static enum phase rig_live(struct rig *r, bool eagerly, bool keep, void (*last)(struct undo_slot *slot))
{
	if (!rig_load(r))
		return NOTHING;
	if (!rig_take(r, eagerly, keep))
		return STARTING;
	assert_int_equal(r->slot->error, 0);
	for (unsigned i = 0; i < 3; i++)
		if (!rig_change(r))
			return RECORDING;
	if (!last)
		return RECORDING;
	if (!rig_call(r, last))
		return last == undo_roll_back ? RECORDING : ENDING;
	if (last == undo_roll_back)
		assert_memory_equal(machine_disk_data(r->machine, r->store), r->old, VOLUME_BYTES);
	return last == undo_roll_back ? RECORDING : ENDED;
}

static void assert_header_is_what_was_given(struct rig *r, bool keep)
{
	const struct undo_header *h = &r->slot->header;

	assert_int_equal(from_le64(h->lsn), 5000);
	assert_int_equal(from_le64(h->base), 4000);
	assert_int_equal(from_le32(h->keep), keep);
	assert_string_equal(h->source, "b");
	assert_int_equal(from_le64(h->partial), 0);
	assert_int_equal(r->slot->history->count, 1);
	assert_int_equal(from_le64(r->slot->history->epochs[0].number), 3);
}

/* What it is after power was lost in @phase. */
static void assert_slot_is_of_its_phase(struct rig *r, enum phase phase, bool keep)
{
	r->slot = slot_find(r);
	if (phase == NOTHING || (phase == ENDED && !keep))
		assert_null(r->slot);
	if (phase == RECORDING || (phase == ENDED && keep))
		assert_non_null(r->slot);
	if (!r->slot)
		return;
	if (phase == STARTING || phase == RECORDING)
		assert_int_equal(r->slot->kind, UNDO_RESYNC);
	if (phase == ENDED)
		assert_int_equal(r->slot->kind, UNDO_DIVERGENCE);
	assert_header_is_what_was_given(r, keep);
	assert_slot_gives_the_old_store(r, r->slot);
}

/* Nothing of what the slot's file may still hold gets into its next life. */
static void assert_next_life_is_right(struct rig *r)
{
	memcpy(r->old, machine_disk_data(r->machine, r->store), VOLUME_BYTES);
	assert_true(rig_store(r, IO_SYNC, 0, 1));
	assert_true(rig_take(r, world_random_below(r->world, 2), false));
	assert_int_equal(r->slot->error, 0);
	assert_int_equal(r->slot->index, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_true(rig_change(r));
	assert_slot_gives_the_old_store(r, r->slot);
	machine_crash(r->machine, true);
	world_run_for(r->world, MILLISECONDS);
	machine_boot(r->machine);
	assert_true(rig_load(r));
	assert_slot_is_of_its_phase(r, RECORDING, false);
}

static void live_with_power_loss_at_every_op(bool eagerly, bool keep, void (*last)(struct undo_slot *slot))
{
	unsigned whole = 0, step = test_seed_count(100) >= 100 ? 1 : 7;

	for (uint64_t crash = 1; whole < 4; crash += step) {
		struct rig *r = rig_new(test_seed_first(1000) + crash, BLOCKS);
		enum phase phase;

		machine_crash_at(r->machine, machine_disk_ops(r->machine) + crash, true);
		phase = rig_live(r, eagerly, keep, last);
		if (!machine_crashed(r->machine)) {
			machine_crash_at(r->machine, 0, true);
			machine_crash(r->machine, true);
			world_run_for(r->world, MILLISECONDS);
			whole++;
		}
		machine_boot(r->machine);
		assert_true(rig_load(r));
		assert_slot_is_of_its_phase(r, phase, keep);
		if (r->slot && r->slot->kind == UNDO_RESYNC) {
			for (unsigned i = 0; i < 2; i++)
				assert_true(rig_change(r));
			assert_slot_gives_the_old_store(r, r->slot);
			assert_true(rig_call(r, undo_roll_back));
			assert_memory_equal(machine_disk_durable(r->machine, r->store), r->old, VOLUME_BYTES);
		}
		if (r->slot)
			assert_true(rig_call(r, undo_drop));
		assert_next_life_is_right(r);
		rig_free(r);
	}
}

static void undo_started_survives_power_loss_at_every_op(void **state)
{
	(void)state;
	live_with_power_loss_at_every_op(false, false, NULL);
}

static void undo_started_eagerly_survives_power_loss_at_every_op(void **state)
{
	(void)state;
	live_with_power_loss_at_every_op(true, true, NULL);
}

static void undo_rolled_back_survives_power_loss_at_every_op(void **state)
{
	(void)state;
	live_with_power_loss_at_every_op(false, false, undo_roll_back);
}

static void undo_kept_as_a_divergence_survives_power_loss_at_every_op(void **state)
{
	(void)state;
	live_with_power_loss_at_every_op(false, true, undo_end);
}

static void undo_dropped_survives_power_loss_at_every_op(void **state)
{
	(void)state;
	live_with_power_loss_at_every_op(true, false, undo_drop);
	live_with_power_loss_at_every_op(false, false, undo_end);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(undo_started_survives_power_loss_at_every_op),
	cmocka_unit_test(undo_started_eagerly_survives_power_loss_at_every_op),
	cmocka_unit_test(undo_rolled_back_survives_power_loss_at_every_op),
	cmocka_unit_test(undo_kept_as_a_divergence_survives_power_loss_at_every_op),
	cmocka_unit_test(undo_dropped_survives_power_loss_at_every_op),
	cmocka_unit_test(undo_gives_back_the_store_as_it_was),
};
TEST_GROUP(undo, tests)
