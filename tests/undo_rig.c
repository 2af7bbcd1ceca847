/* SPDX-License-Identifier: Apache-2.0 */
#include "undo_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/world_probe.h"

static void rig_moved(struct undo *u)
{
	struct undo_rig *r = container_of(u, struct undo_rig, undo);

	assert_false(r->inside);
	r->moved++;
}

static bool rig_loading(void *context)
{
	struct undo_rig *r = context;

	return !r->undo.loaded && !r->undo.failed;
}

static bool rig_busy(void *context)
{
	struct undo_rig *r = context;

	return !undo_idle(&r->undo) && !r->undo.failed;
}

bool undo_rig_wait(struct undo_rig *r)
{
	world_run_while(r->world, rig_busy, r, 100 * SECONDS);
	return undo_idle(&r->undo) && !machine_crashed(r->machine);
}

bool undo_rig_load(struct undo_rig *r)
{
	assert_int_equal(undo_new(&r->undo, machine_io(r->machine), r->files, r->store, &r->geometry,
				  r->limit_blocks * BLOCK_BYTES, rig_moved), 0);
	r->undo.lsn_now = 7000;
	undo_load(&r->undo);
	return world_run_while(r->world, rig_loading, r, 100 * SECONDS) && r->undo.loaded;
}

struct undo_rig *undo_rig_new(uint64_t seed, uint64_t limit_blocks)
{
	struct undo_rig *r = calloc(1, sizeof *r);

	r->world = world_new(seed);
	r->machine = world_machine(r->world, "a");
	r->geometry = (struct geometry){ .uuid = { 9, 8, 7 }, .volume_bytes = VOLUME_BYTES, .node = "a" };
	r->limit_blocks = limit_blocks;
	r->store = machine_disk(r->machine, VOLUME_BYTES);
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		r->files[i] = machine_disk(r->machine, undo_file_bytes(VOLUME_BYTES));
	for (uint64_t block = 0; block < BLOCKS; block++) {
		if (seed % 4 && world_random_below(r->world, 3) == 0)
			continue;	/* a hole */
		memset(r->old + block * BLOCK_BYTES, (int)(1 + world_random_below(r->world, 255)), BLOCK_BYTES);
		machine_disk_write_now(r->machine, r->store, block * BLOCK_BYTES, r->old + block * BLOCK_BYTES,
				       BLOCK_BYTES);
	}
	return r;
}

void undo_rig_free(struct undo_rig *r)
{
	if (!machine_crashed(r->machine)) {
		undo_delete(&r->undo);
		assert_int_equal(machine_memory(r->machine), 0);
	}
	world_free(r->world);
	free(r);
}

/* ---- what holds ---- */

static const uint8_t *slot_block(struct undo_rig *r, const struct undo_slot *slot, uint64_t block)
{
	return machine_disk_data(r->machine, slot->file) + undo_block_offset(&r->undo, block);
}

void assert_slot_gives_the_old_store(struct undo_rig *r, const struct undo_slot *slot)
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

/* ---- what is done ---- */

bool undo_rig_take(struct undo_rig *r, bool eagerly, bool keep)
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
	memset(r->want, 0, sizeof r->want);
	for (uint64_t block = world_random_below(r->world, 2) * BLOCKS; block < BLOCKS; block++) {
		r->want[block] = world_random_below(r->world, 4) == 0;
		if (r->want[block])
			bitmap_set(&r->slot->want, block, 1);
	}
	r->inside = true;
	undo_start(r->slot, eagerly);
	r->inside = false;
	assert_false(undo_idle(&r->undo));
	return undo_rig_wait(r);
}

bool undo_rig_store(struct undo_rig *r, enum io_kind kind, uint64_t block, uint64_t count)
{
	static uint8_t bytes[BLOCKS * BLOCK_BYTES] __attribute__((aligned(4096)));
	struct probe probe = { .done = false };

	memset(bytes, (int)world_random_below(r->world, 256), count * BLOCK_BYTES);
	probe_start(r->machine, &probe, kind, r->store, block * BLOCK_BYTES, bytes, count * BLOCK_BYTES);
	return world_run_while(r->world, probe_busy, &probe, SECONDS);
}

bool undo_rig_preserving(void *context)
{
	struct undo_rig *r = context;

	return !undo_preserved(&r->undo) && !r->undo.failed;
}

bool undo_rig_change(struct undo_rig *r)
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
	if (!world_run_while(w, undo_rig_preserving, r, 100 * SECONDS) || r->undo.failed)
		return false;
	if (r->slot && r->slot->kind != UNDO_FREE && undo_recording(&r->undo))
		for (uint64_t i = 0; i < count; i++)
			assert_true(bitmap_test(from_le64(r->slot->header.partial) ? &r->slot->want : &r->slot->saved,
						blocks[i]) || bitmap_test(&r->slot->saved, blocks[i]));
	for (uint64_t i = 0; i < count; i++)
		if (!undo_rig_store(r, IO_WRITE, blocks[i], 1))
			return false;
	for (uint32_t i = 0; i < holes.count; i++)
		if (!undo_rig_store(r, world_random_below(w, 2) ? IO_PUNCH : IO_ZERO, holes.at[i].first,
			       holes.at[i].end - holes.at[i].first))
			return false;
	return world_random_below(w, 2) || undo_rig_store(r, IO_SYNC, 0, 1);
}

bool undo_rig_call(struct undo_rig *r, void (*call)(struct undo_slot *slot))
{
	r->inside = true;
	call(r->slot);
	r->inside = false;
	return undo_rig_wait(r);
}

/* ---- what power loss left ---- */

struct undo_slot *undo_rig_slot(struct undo_rig *r)
{
	for (unsigned i = 0; i < UNDO_SLOTS; i++)
		if (r->undo.slots[i].kind != UNDO_FREE && from_le64(r->undo.slots[i].header.id) == r->id)
			return &r->undo.slots[i];
	return NULL;
}

static void assert_header_is_what_was_given(struct undo_rig *r, bool keep)
{
	const struct undo_header *h = &r->slot->header;

	assert_int_equal(from_le64(h->lsn), 5000);
	assert_int_equal(from_le64(h->base), 4000);
	assert_int_equal(from_le32(h->keep), keep);
	assert_string_equal(h->source, "b");
	assert_int_equal(from_le64(h->partial), 0);
	assert_int_equal(r->slot->history->count, 1);
	assert_int_equal(from_le64(r->slot->history->epochs[0].number), 3);
	for (uint64_t block = 0; block < BLOCKS; block++)
		assert_int_equal(bitmap_test(&r->slot->want, block), r->want[block]);
}

void assert_slot_is_of_its_phase(struct undo_rig *r, enum phase phase, bool keep)
{
	r->slot = undo_rig_slot(r);
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

void undo_rig_reboot(struct undo_rig *r)
{
	machine_boot(r->machine);
	machine_crash_at(r->machine, machine_disk_ops(r->machine) + 1 + world_random_below(r->world, 30), true);
	if (!undo_rig_load(r)) {
		assert_int_equal(r->undo.failed, 0);
		machine_boot(r->machine);
		assert_true(undo_rig_load(r));
	}
	machine_crash_at(r->machine, 0, true);
	for (unsigned i = 0; i < UNDO_SLOTS; i++) {
		const uint8_t *bytes = machine_disk_data(r->machine, r->files[i]);

		assert_memory_equal(bytes, bytes + META_SLOT_BYTES, sizeof(struct undo_header));
	}
}

void assert_next_life_is_right(struct undo_rig *r)
{
	memcpy(r->old, machine_disk_data(r->machine, r->store), VOLUME_BYTES);
	assert_true(undo_rig_store(r, IO_SYNC, 0, 1));
	assert_true(undo_rig_take(r, world_random_below(r->world, 2), false));
	assert_int_equal(r->slot->error, 0);
	assert_int_equal(r->slot->index, 0);
	for (unsigned i = 0; i < world_random_below(r->world, 3); i++)
		assert_true(undo_rig_change(r));
	assert_slot_gives_the_old_store(r, r->slot);
	machine_crash(r->machine, true);
	world_run_for(r->world, MILLISECONDS);
	machine_boot(r->machine);
	assert_true(undo_rig_load(r));
	assert_slot_is_of_its_phase(r, RECORDING, false);
}

void assert_nothing_is_left_behind(struct undo_rig *r, const struct undo_slot *slot)
{
	uint64_t at = undo_saved_offset();
	struct probe map = { .done = false };

	assert_int_equal(slot->kind, UNDO_FREE);
	assert_false(slot->taking);
	assert_false(undo_recording(&r->undo));
	probe_start(r->machine, &map, IO_MAP, slot->file, at, NULL, undo_file_bytes(VOLUME_BYTES) - at);
	assert_true(world_run_while(r->world, probe_busy, &map, SECONDS));
	assert_int_equal(map.result, 0);
	assert_int_equal(map.op.extent, undo_file_bytes(VOLUME_BYTES) - at);
}
