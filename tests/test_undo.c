/* SPDX-License-Identifier: Apache-2.0 */
/* Undo: whatever changes in the store after a snapshot, the store and the slot together still give what it held,
 * after loss of power at any moment. */
#include <string.h>

#include "sim/world_probe.h"
#include "undo_rig.h"

/* ---- without crashes ---- */

static void undo_gives_back_the_store_as_it_was(void **state)
{
	(void)state;
	for (unsigned i = 0; i < test_seed_count(20); i++) {
		struct undo_rig *r = undo_rig_new(test_seed_first(1) + i, BLOCKS);

		assert_true(undo_rig_load(r));
		assert_false(undo_recording(&r->undo));
		assert_true(undo_rig_take(r, i % 2, false));
		assert_int_equal(r->slot->error, 0);
		assert_true(undo_recording(&r->undo));
		assert_slot_gives_the_old_store(r, r->slot);
		for (unsigned change = 0; change < 12; change++) {
			assert_true(undo_rig_change(r));
			assert_slot_gives_the_old_store(r, r->slot);
		}
		assert_true(undo_rig_call(r, undo_roll_back));
		assert_int_equal(r->slot->error, 0);
		assert_memory_equal(machine_disk_data(r->machine, r->store), r->old, VOLUME_BYTES);
		assert_int_equal(machine_disk_unsynced(r->machine, r->store), 0);
		assert_true(undo_rig_call(r, undo_end));
		assert_false(undo_recording(&r->undo));
		assert_int_equal(r->slot->kind, UNDO_FREE);
		undo_rig_free(r);
	}
}

/* ---- loss of power ---- */

/* A life of a slot, until it is over or power is lost. Returns how far it came. */
static enum phase rig_live(struct undo_rig *r, bool eagerly, bool keep, void (*last)(struct undo_slot *slot))
{
	if (!undo_rig_load(r))
		return NOTHING;
	if (!undo_rig_take(r, eagerly, keep))
		return STARTING;
	assert_int_equal(r->slot->error, 0);
	for (unsigned i = 0; i < 3; i++)
		if (!undo_rig_change(r))
			return RECORDING;
	if (!last)
		return RECORDING;
	if (!undo_rig_call(r, last))
		return last == undo_roll_back ? RECORDING : ENDING;
	if (last == undo_roll_back)
		assert_memory_equal(machine_disk_data(r->machine, r->store), r->old, VOLUME_BYTES);
	return last == undo_roll_back ? RECORDING : ENDED;
}

static void live_with_power_loss_at_every_op(bool eagerly, bool keep, void (*last)(struct undo_slot *slot))
{
	unsigned whole = 0, step = test_seed_count(100) >= 100 ? 1 : 7;

	for (uint64_t crash = 1; whole < 4; crash += step) {
		struct undo_rig *r = undo_rig_new(test_seed_first(1000) + crash, BLOCKS);
		enum phase phase;

		machine_crash_at(r->machine, machine_disk_ops(r->machine) + crash, true);
		phase = rig_live(r, eagerly, keep, last);
		if (!machine_crashed(r->machine)) {
			machine_crash_at(r->machine, 0, true);
			machine_crash(r->machine, true);
			world_run_for(r->world, MILLISECONDS);
			whole++;
		}
		undo_rig_reboot(r);
		assert_slot_is_of_its_phase(r, phase, keep);
		if (r->slot && r->slot->kind == UNDO_RESYNC) {
			for (unsigned i = 0; i < 2; i++)
				assert_true(undo_rig_change(r));
			assert_slot_gives_the_old_store(r, r->slot);
			assert_true(undo_rig_call(r, undo_roll_back));
			assert_memory_equal(machine_disk_durable(r->machine, r->store), r->old, VOLUME_BYTES);
		}
		if (r->slot)
			assert_true(undo_rig_call(r, undo_drop));
		assert_next_life_is_right(r);
		undo_rig_free(r);
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
	cmocka_unit_test(undo_gives_back_the_store_as_it_was),
	cmocka_unit_test(undo_started_survives_power_loss_at_every_op),
	cmocka_unit_test(undo_started_eagerly_survives_power_loss_at_every_op),
	cmocka_unit_test(undo_rolled_back_survives_power_loss_at_every_op),
	cmocka_unit_test(undo_kept_as_a_divergence_survives_power_loss_at_every_op),
	cmocka_unit_test(undo_dropped_survives_power_loss_at_every_op),
};
TEST_GROUP(undo, tests)
