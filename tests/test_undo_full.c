/* SPDX-License-Identifier: Apache-2.0 */
/* Undo where a slot, a disk or memory ends; several slots at once; and what must cost nothing. */
#include <errno.h>
#include <string.h>

#include "sim/world_probe.h"
#include "undo_rig.h"

/* ---- what no longer fits ---- */

static void assert_slot_is_partial_or_gives_the_old_store(struct undo_rig *r, bool partial_for_sure)
{
	uint64_t partial = from_le64(r->slot->header.partial);
	const uint8_t *store = machine_disk_data(r->machine, r->store);
	const uint8_t *slot = machine_disk_data(r->machine, r->slot->file) + undo_block_offset(&r->undo, 0);

	if (!partial) {
		assert_false(partial_for_sure);
		assert_slot_gives_the_old_store(r, r->slot);
		return;
	}
	assert_int_equal(partial, 7001);
	for (uint64_t block = 0; block < BLOCKS; block++) {
		const uint8_t *old = r->old + block * BLOCK_BYTES, *saved = slot + block * BLOCK_BYTES;
		bool bit = bitmap_test(&r->slot->saved, block), want = bitmap_test(&r->slot->want, block);

		if (r->slot->kind == UNDO_RESYNC && !bit && !want)	/* it knows what changed */
			assert_memory_equal(store + block * BLOCK_BYTES, old, BLOCK_BYTES);
		if (r->slot->kind == UNDO_DIVERGENCE && bit)	/* what it has is right */
			assert_memory_equal(saved, old, BLOCK_BYTES);
	}
}

static bool slot_has_data(struct undo_rig *r)
{
	struct probe map = { .done = false };

	probe_start(r->machine, &map, IO_MAP, r->slot->file, undo_block_offset(&r->undo, 0), NULL, VOLUME_BYTES);
	assert_true(world_run_while(r->world, probe_busy, &map, SECONDS));
	return map.result > 0 || map.op.extent < VOLUME_BYTES;
}

/* Changes until it is over with the room, and then some. */
static bool rig_fill(struct undo_rig *r, bool keep)
{
	if (!undo_rig_load(r) || !undo_rig_take(r, false, keep) || (keep && !undo_rig_call(r, undo_end)))
		return false;
	for (unsigned i = 0; i < 6; i++)
		if (!undo_rig_change(r))
			return false;
	return true;
}

static void fill_with_power_loss_at_every_op(bool keep, const struct disk_fault *fault)
{
	unsigned whole = 0, have_data = 0, step = test_seed_count(100) >= 100 ? 1 : 7;

	for (uint64_t crash = 30; whole < 4; crash += step) {
		struct undo_rig *r = undo_rig_new(test_seed_first(3000) + crash, fault ? BLOCKS : 8);
		bool partial = false;

		if (fault)
			machine_disk_fail(r->machine, r->files[0], fault);
		machine_crash_at(r->machine, machine_disk_ops(r->machine) + crash, true);
		if (rig_fill(r, keep)) {
			partial = true;
			assert_int_equal(from_le64(r->slot->header.partial), 7001);
			assert_int_equal(undo_recording(&r->undo), !keep);
			assert_true(fault || r->slot->data_count <= 8);
			machine_crash_at(r->machine, 0, true);
			have_data += slot_has_data(r);
			whole++;
			machine_crash(r->machine, true);
			world_run_for(r->world, MILLISECONDS);
		}
		assert_true(machine_crashed(r->machine));
		machine_disk_fail(r->machine, r->files[0], NULL);
		undo_rig_reboot(r);
		r->slot = undo_rig_slot(r);
		if (r->slot)
			assert_slot_is_partial_or_gives_the_old_store(r, partial);
		for (unsigned i = 0; i < 3; i++)	/* and later as well */
			assert_true(undo_rig_change(r));
		if (r->slot)
			assert_slot_is_partial_or_gives_the_old_store(r, partial);
		undo_rig_free(r);
	}
	assert_int_equal(have_data > 0, keep);
}

static void undo_over_its_bound_is_durably_partial_before_the_store_changes(void **state)
{
	(void)state;
	fill_with_power_loss_at_every_op(false, NULL);
	fill_with_power_loss_at_every_op(true, NULL);
}

static void undo_that_is_to_be_kept_keeps_what_it_has_when_it_is_full(void **state)
{
	struct undo_rig *r = undo_rig_new(1, 8);

	(void)state;
	assert_true(undo_rig_load(r));
	assert_true(undo_rig_take(r, false, true));
	for (unsigned i = 0; i < 6; i++)
		assert_true(undo_rig_change(r));
	assert_int_equal(from_le64(r->slot->header.partial), 7001);
	assert_true(undo_recording(&r->undo));
	assert_true(slot_has_data(r));
	assert_true(undo_rig_call(r, undo_end));
	assert_int_equal(r->slot->kind, UNDO_DIVERGENCE);
	assert_false(undo_recording(&r->undo));
	assert_true(slot_has_data(r));
	undo_rig_free(r);
}

static void undo_on_a_full_disk_is_durably_partial_before_the_store_changes(void **state)
{
	struct disk_fault data = { .kinds = 1u << IO_WRITE, .error = -ENOSPC, .after = 5,
				   .offset = undo_data_offset(VOLUME_BYTES), .len = VOLUME_BYTES };

	(void)state;
	fill_with_power_loss_at_every_op(false, &data);
	data.error = -EDQUOT;
	fill_with_power_loss_at_every_op(true, &data);
}

static void undo_that_cannot_take_eagerly_what_it_should_is_free_again_and_says_why(void **state)
{
	const uint64_t data = undo_data_offset(VOLUME_BYTES), all = undo_file_bytes(VOLUME_BYTES);
	const struct row { bool store; struct disk_fault fault; uint64_t limit; int error; } rows[] = {
		{ false, { .kinds = 0 }, 3, 0 },	/* what this node alone has is kept whatever its bound */
		{ false, { .kinds = 1u << IO_WRITE, .error = -ENOSPC, .after = 9, .offset = data, .len = VOLUME_BYTES,
			   .count = 1 }, BLOCKS, -ENOSPC },
		{ false, { .kinds = 1u << IO_WRITE, .error = -EDQUOT, .offset = data, .len = VOLUME_BYTES }, BLOCKS,
		  -ENOSPC },
		{ false, { .kinds = 1u << IO_ZERO, .error = -ENOSPC, .offset = META_BYTES, .len = all }, BLOCKS,
		  -ENOSPC },
		{ false, { .kinds = 1u << IO_ZERO, .error = -ENOSPC, .len = META_BYTES }, BLOCKS, -ENOSPC },
		{ false, { .kinds = 1u << IO_WRITE, .error = -EIO, .after = 9, .offset = data, .len = VOLUME_BYTES },
		  BLOCKS, -EIO },
		{ false, { .kinds = 1u << IO_SYNC, .error = -EIO, .count = 1 }, BLOCKS, -EIO },
		{ true, { .kinds = 1u << IO_READ, .error = -EIO }, BLOCKS, -EIO },
		{ true, { .kinds = 1u << IO_MAP, .error = -EIO, .after = 3 }, BLOCKS, -EIO },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct undo_rig *r = undo_rig_new(4 * (test_seed_first(40) + i) + 1, rows[i].limit);
		int disk = rows[i].store ? r->store : r->files[0];

		assert_true(undo_rig_load(r));
		machine_disk_fail(r->machine, disk, rows[i].fault.kinds ? &rows[i].fault : NULL);
		r->slot = undo_take(&r->undo);
		bitmap_set(&r->slot->want, 0, BLOCKS);
		undo_start(r->slot, true);
		assert_true(undo_rig_wait(r));
		assert_int_equal(r->slot->error, rows[i].error);
		if (rows[i].error == 0) {
			assert_int_equal(r->slot->saved.count, BLOCKS);
			undo_rig_free(r);
			continue;
		}
		assert_nothing_is_left_behind(r, r->slot);
		machine_disk_fail(r->machine, disk, NULL);
		r->limit_blocks = r->undo.limit_blocks = BLOCKS;
		assert_next_life_is_right(r);
		undo_rig_free(r);
	}
}

static void undo_keeps_no_space_for_holes_and_counts_only_data(void **state)
{
	struct undo_rig *r = undo_rig_new(1, BLOCKS);
	const uint64_t blocks[] = { 0, 1, 2, 3, 4, 5, 6, 50 };
	struct holes rest = { .count = 1, .at = { { .first = 4, .end = BLOCKS } } };	/* some are in both */
	uint64_t data = 0;

	(void)state;
	for (uint64_t block = 0; block < BLOCKS; block++)
		data += r->old[block * BLOCK_BYTES] != 0;
	assert_true(data > 0 && data < BLOCKS);
	r->limit_blocks = data;		/* just enough */
	assert_true(undo_rig_load(r));
	assert_true(undo_rig_take(r, false, false));
	undo_preserve(&r->undo, blocks, 8, &rest);
	assert_true(world_run_while(r->world, undo_rig_preserving, r, SECONDS));
	assert_int_equal(r->slot->data_count, data);
	assert_int_equal(r->slot->saved.count, BLOCKS);
	assert_int_equal(from_le64(r->slot->header.partial), 0);
	assert_true(undo_rig_store(r, IO_WRITE, 0, BLOCKS));
	assert_true(undo_rig_call(r, undo_roll_back));
	for (uint64_t block = 0; block < BLOCKS; block++) {
		struct probe map = { .done = false };

		probe_start(r->machine, &map, IO_MAP, r->store, block * BLOCK_BYTES, NULL, BLOCK_BYTES);
		assert_true(world_run_while(r->world, probe_busy, &map, SECONDS));
		assert_int_equal(map.result, r->old[block * BLOCK_BYTES] != 0);
	}
	undo_rig_free(r);
}

static void undo_counts_its_data_again_after_a_load_before_it_takes_its_bound_for_passed(void **state)
{
	struct undo_rig *r = undo_rig_new(1, BLOCKS);
	struct holes holes = { .count = 1, .at = { { .first = 0, .end = BLOCKS - 8 } } };
	uint64_t data = 0, last[8], rest = 0;

	(void)state;
	for (uint64_t block = 0; block < BLOCKS; block++)
		*(block < BLOCKS - 8 ? &data : &rest) += r->old[block * BLOCK_BYTES] != 0;
	for (uint64_t i = 0; i < 8; i++)
		last[i] = BLOCKS - 8 + i;
	r->limit_blocks = data + rest;
	assert_true(undo_rig_load(r));
	assert_true(undo_rig_take(r, false, false));
	undo_preserve(&r->undo, NULL, 0, &holes);
	assert_true(world_run_while(r->world, undo_rig_preserving, r, SECONDS));
	machine_crash(r->machine, true);
	world_run_for(r->world, MILLISECONDS);
	machine_boot(r->machine);
	assert_true(undo_rig_load(r));
	r->slot = undo_rig_slot(r);
	assert_int_equal(r->slot->data_count, BLOCKS - 8);	/* it cannot know better, cheaply */
	assert_false(r->slot->data_counted);
	undo_preserve(&r->undo, last, 8, NULL);
	assert_true(world_run_while(r->world, undo_rig_preserving, r, SECONDS));
	assert_true(r->slot->data_counted);
	assert_int_equal(r->slot->data_count, data + rest);
	assert_int_equal(from_le64(r->slot->header.partial), 0);
	undo_rig_free(r);
}

static void undo_rolls_back_once_more_after_the_store_was_full(void **state)
{
	(void)state;
	for (unsigned i = 0; i < test_seed_count(10); i++) {
		struct undo_rig *r = undo_rig_new(4 * (test_seed_first(70) + i) + 1, BLOCKS);
		struct disk_fault full = { .kinds = 1u << IO_WRITE, .error = -ENOSPC, .after = i };

		assert_true(undo_rig_load(r));
		assert_true(undo_rig_take(r, false, false));
		for (unsigned change = 0; change < 10; change++)
			assert_true(undo_rig_change(r));
		machine_disk_fail(r->machine, r->store, &full);
		assert_true(undo_rig_call(r, undo_roll_back));
		assert_int_equal(r->slot->error, -ENOSPC);
		assert_int_equal(r->slot->kind, UNDO_RESYNC);
		machine_disk_fail(r->machine, r->store, NULL);
		assert_true(undo_rig_call(r, undo_roll_back));
		assert_int_equal(r->slot->error, 0);
		assert_memory_equal(machine_disk_durable(r->machine, r->store), r->old, VOLUME_BYTES);
		undo_rig_free(r);
	}
}

static void undo_that_cannot_read_or_keep_old_blocks_is_partial(void **state)
{
	const struct row { bool store; struct disk_fault fault; } rows[] = {
		{ true, { .kinds = 1u << IO_READ, .error = -EIO } },
		{ false, { .kinds = 1u << IO_WRITE, .error = -EIO, .offset = undo_data_offset(VOLUME_BYTES),
			   .len = VOLUME_BYTES } },
		{ false, { .kinds = 1u << IO_SYNC, .error = -EIO, .count = 1 } },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct undo_rig *r = undo_rig_new(test_seed_first(80) + i, BLOCKS);
		struct holes all = { .count = 1, .at = { { .first = 0, .end = BLOCKS } } };

		assert_true(undo_rig_load(r));
		assert_true(undo_rig_take(r, false, false));
		machine_disk_fail(r->machine, rows[i].store ? r->store : r->files[0], &rows[i].fault);
		undo_preserve(&r->undo, NULL, 0, &all);
		assert_true(world_run_while(r->world, undo_rig_preserving, r, SECONDS));
		assert_int_equal(r->undo.failed, 0);
		assert_true(from_le64(r->slot->header.partial) != 0);
		assert_int_equal(r->slot->want.count, BLOCKS);
		undo_rig_free(r);
	}
}

static void undo_that_cannot_preserve_fails_for_good_and_never_says_that_it_did(void **state)
{
	const uint64_t data = undo_data_offset(VOLUME_BYTES);
	const struct row { bool store; struct disk_fault fault; const char *says; } rows[] = {
		{ false, { .kinds = 1u << IO_WRITE, .error = -EIO, .offset = META_BYTES, .len = data - META_BYTES },
		  "bitmap" },
		{ false, { .kinds = 1u << IO_WRITE, .error = -ENOSPC, .count = 2 }, "header" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct undo_rig *r = undo_rig_new(test_seed_first(80) + i, BLOCKS);
		struct holes all = { .count = 1, .at = { { .first = 0, .end = BLOCKS } } };
		uint64_t ops;

		assert_true(undo_rig_load(r));
		assert_true(undo_rig_take(r, false, false));
		if (i == 1)
			r->undo.limit_blocks = 0;	/* so that the first write is the header's */
		machine_disk_fail(r->machine, rows[i].store ? r->store : r->files[0], &rows[i].fault);
		r->moved = 0;
		undo_preserve(&r->undo, NULL, 0, &all);
		world_run_while(r->world, undo_rig_preserving, r, SECONDS);
		assert_int_equal(r->undo.failed, rows[i].fault.error);
		assert_int_equal(r->moved, 1);
		if (strncmp(r->undo.why, "undo 0: ", 8) != 0 || !strstr(r->undo.why, rows[i].says))
			fail_msg("row %u: \"%s\" does not say %s", i, r->undo.why, rows[i].says);
		world_run_for(r->world, SECONDS);
		ops = machine_disk_ops(r->machine);
		world_run_for(r->world, SECONDS);
		assert_int_equal(machine_disk_ops(r->machine), ops);
		assert_false(undo_preserved(&r->undo));
		assert_false(undo_idle(&r->undo));
		assert_int_equal(r->moved, 1);
		undo_rig_free(r);
	}
}


/* ---- several slots, and what costs nothing ---- */

static void undo_with_nothing_to_save_has_preserved_it_at_once(void **state)
{
	struct undo_rig *r = undo_rig_new(test_seed_first(1), BLOCKS);
	struct holes holes = { .count = 2, .at = { { .first = 3, .end = 9 }, { .first = 30, .end = 40 } } };
	const uint64_t blocks[] = { 4, 5, 35, 36, 80 };
	uint64_t ops;

	(void)state;
	assert_true(undo_rig_load(r));
	ops = machine_disk_ops(r->machine);
	undo_preserve(&r->undo, blocks, 5, &holes);	/* no slot records */
	assert_true(undo_preserved(&r->undo) && undo_idle(&r->undo));
	assert_int_equal(machine_disk_ops(r->machine), ops);
	assert_true(undo_rig_take(r, false, false));
	undo_preserve(&r->undo, blocks, 5, &holes);
	assert_false(undo_preserved(&r->undo) || undo_idle(&r->undo));
	assert_true(undo_rig_wait(r));
	assert_int_equal(r->slot->saved.count, 6 + 10 + 1);
	ops = machine_disk_ops(r->machine);
	r->moved = 0;
	undo_preserve(&r->undo, blocks, 5, &holes);	/* all is saved */
	assert_true(undo_preserved(&r->undo) && undo_idle(&r->undo));
	assert_int_equal(machine_disk_ops(r->machine), ops);
	assert_int_equal(r->moved, 0);
	undo_rig_free(r);
}

static void undo_of_several_snapshots_gives_each_of_them(void **state)
{
	static uint8_t olds[3][VOLUME_BYTES];

	(void)state;
	for (unsigned i = 0; i < test_seed_count(10); i++) {
		struct undo_rig *r = undo_rig_new(test_seed_first(90) + i, BLOCKS);
		uint64_t ids[3];

		assert_true(undo_rig_load(r));
		for (unsigned slot = 0; slot < 3; slot++) {
			assert_true(undo_rig_store(r, IO_SYNC, 0, 1));
			memcpy(olds[slot], machine_disk_data(r->machine, r->store), VOLUME_BYTES);
			memcpy(r->old, olds[slot], VOLUME_BYTES);
			assert_true(undo_rig_take(r, i % 2, slot < 2));
			ids[slot] = r->id;
			for (unsigned change = 0; change < 4; change++)
				assert_true(undo_rig_change(r));
			if (slot < 2)
				assert_true(undo_rig_call(r, undo_end));
		}
		machine_crash_at(r->machine, machine_disk_ops(r->machine) + 1 + world_random_below(r->world, 60), true);
		while (undo_rig_change(r))
			continue;
		machine_boot(r->machine);
		assert_true(undo_rig_load(r));
		for (unsigned slot = 0; slot < 3; slot++) {
			r->id = ids[slot];
			r->slot = undo_rig_slot(r);
			assert_int_equal(r->slot->kind, slot < 2 ? UNDO_DIVERGENCE : UNDO_RESYNC);
			memcpy(r->old, olds[slot], VOLUME_BYTES);
			assert_slot_gives_the_old_store(r, r->slot);
		}
		undo_rig_free(r);
	}
}

static void undo_takes_each_slot_once_and_gives_each_snapshot_an_id(void **state)
{
	struct undo_rig *r = undo_rig_new(test_seed_first(1), BLOCKS);
	struct undo_slot *slots[UNDO_SLOTS];

	(void)state;
	assert_true(undo_rig_load(r));
	for (unsigned i = 0; i < UNDO_SLOTS; i++) {
		slots[i] = undo_take(&r->undo);
		assert_non_null(slots[i]);
		assert_true(from_le64(slots[i]->header.id) != 0);
		for (unsigned j = 0; j < i; j++)
			assert_true(slots[j] != slots[i] &&
				    from_le64(slots[j]->header.id) != from_le64(slots[i]->header.id));
	}
	assert_null(undo_take(&r->undo));
	assert_false(undo_recording(&r->undo));
	bitmap_set(&slots[2]->want, 0, 9);
	undo_untake(slots[2]);
	assert_ptr_equal(undo_take(&r->undo), slots[2]);
	assert_int_equal(slots[2]->want.count, 0);
	undo_rig_free(r);
}

static void undo_tells_when_what_its_owner_wants_is_saved(void **state)
{
	struct undo_rig *r = undo_rig_new(test_seed_first(1), BLOCKS);
	uint64_t ticket;

	(void)state;
	assert_true(undo_rig_load(r));
	assert_true(undo_rig_take(r, false, false));
	bitmap_set(&r->slot->want, 0, BLOCKS);
	ticket = bitmap_save(&r->slot->want);
	assert_false(undo_quiet(&r->undo));
	r->moved = 0;
	world_run_for(r->world, SECONDS);
	assert_int_equal(r->moved, 1);
	assert_true(r->slot->want.saved >= ticket && undo_idle(&r->undo));
	undo_rig_free(r);
}

static void undo_dropped_waits_for_what_its_owner_still_saves(void **state)
{
	(void)state;
	for (unsigned i = 0; i < test_seed_count(40); i++) {
		struct undo_rig *r = undo_rig_new(test_seed_first(1) + i, BLOCKS);

		assert_true(undo_rig_load(r));
		assert_true(undo_rig_take(r, false, false));
		for (unsigned save = 0; save < 2; save++) {
			bitmap_set(&r->slot->want, save ? 0 : BLOCKS / 2, BLOCKS / 2);
			bitmap_clear(&r->slot->want, save, 1);
			bitmap_save(&r->slot->want);
		}
		assert_true(undo_rig_call(r, undo_end));
		assert_true(undo_quiet(&r->undo));
		assert_nothing_is_left_behind(r, r->slot);
		undo_rig_free(r);
	}
}

static void undo_takes_the_memory_that_it_says(void **state)
{
	struct undo_rig *r = undo_rig_new(test_seed_first(1), BLOCKS);

	(void)state;
	assert_true(undo_rig_load(r));
	assert_int_equal(machine_memory(r->machine), undo_memory_bytes(&r->geometry));
	undo_rig_free(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(undo_over_its_bound_is_durably_partial_before_the_store_changes),
	cmocka_unit_test(undo_that_is_to_be_kept_keeps_what_it_has_when_it_is_full),
	cmocka_unit_test(undo_on_a_full_disk_is_durably_partial_before_the_store_changes),
	cmocka_unit_test(undo_that_cannot_take_eagerly_what_it_should_is_free_again_and_says_why),
	cmocka_unit_test(undo_keeps_no_space_for_holes_and_counts_only_data),
	cmocka_unit_test(undo_counts_its_data_again_after_a_load_before_it_takes_its_bound_for_passed),
	cmocka_unit_test(undo_rolls_back_once_more_after_the_store_was_full),
	cmocka_unit_test(undo_that_cannot_read_or_keep_old_blocks_is_partial),
	cmocka_unit_test(undo_that_cannot_preserve_fails_for_good_and_never_says_that_it_did),
	cmocka_unit_test(undo_with_nothing_to_save_has_preserved_it_at_once),
	cmocka_unit_test(undo_of_several_snapshots_gives_each_of_them),
	cmocka_unit_test(undo_takes_each_slot_once_and_gives_each_snapshot_an_id),
	cmocka_unit_test(undo_tells_when_what_its_owner_wants_is_saved),
	cmocka_unit_test(undo_dropped_waits_for_what_its_owner_still_saves),
	cmocka_unit_test(undo_takes_the_memory_that_it_says),
};
TEST_GROUP(undo_full, tests)
