/* SPDX-License-Identifier: Apache-2.0 */
/* The bitmap against a flat array of bytes; what a saved one is after loss of power at any moment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "checksum.h"
#include "sim/world_probe.h"

enum { OFFSET = 8192, BITS_MAX = 70000 };	/* three pages and a bit */

struct rig {
	struct world *world;
	struct machine *machine;
	struct bitmap bitmap;
	unsigned moved;
	int disk;
	uint64_t bits;
	bool model[BITS_MAX];
};

static void rig_moved(struct bitmap *b)
{
	container_of(b, struct rig, bitmap)->moved++;
}

static struct rig *rig_new(uint64_t seed, uint64_t bits)
{
	struct rig *r = calloc(1, sizeof *r);

	r->world = world_new(seed);
	r->machine = world_machine(r->world, "a");
	r->disk = machine_disk(r->machine, OFFSET + bitmap_bytes(bits));
	r->bits = bits;
	assert_int_equal(bitmap_new(&r->bitmap, machine_io(r->machine), r->disk, OFFSET, bits, rig_moved), 0);
	return r;
}

static void rig_free(struct rig *r)
{
	world_free(r->world);
	free(r);
}

static void rig_boot(struct rig *r)
{
	machine_boot(r->machine);
	assert_int_equal(bitmap_new(&r->bitmap, machine_io(r->machine), r->disk, OFFSET, r->bits, rig_moved), 0);
}

static bool rig_loading(void *context)
{
	struct rig *r = context;

	return !r->bitmap.loaded && !r->bitmap.failed;
}

static void rig_load(struct rig *r, bool damaged_set)
{
	bitmap_load(&r->bitmap, damaged_set);
	assert_true(world_run_while(r->world, rig_loading, r, 10 * SECONDS));
	assert_int_equal(r->bitmap.failed, 0);
}

/* Power off and on, and loaded. */
static void rig_reboot(struct rig *r, bool damaged_set)
{
	machine_crash(r->machine, true);
	world_run_for(r->world, MILLISECONDS);
	rig_boot(r);
	rig_load(r, damaged_set);
}

struct ticket { struct bitmap *bitmap; uint64_t ticket; };

static bool not_saved(void *context)
{
	struct ticket *t = context;

	return t->bitmap->saved < t->ticket && !t->bitmap->failed;
}

static bool rig_save(struct rig *r)
{
	struct ticket t = { &r->bitmap, bitmap_save(&r->bitmap) };

	return world_run_while(r->world, not_saved, &t, 10 * SECONDS);
}

/* Sets or clears a range, here and in the model; most are short, some long. */
static void rig_change(struct rig *r)
{
	struct world *w = r->world;
	uint64_t first = world_random_below(w, r->bits), left = r->bits - first;
	uint64_t count = world_random_below(w, min_u64(left, world_random_below(w, 8) ? 5 : left) + 1);
	bool set = world_random_below(w, 2);

	if (set)
		bitmap_set(&r->bitmap, first, count);
	else
		bitmap_clear(&r->bitmap, first, count);
	memset(r->model + first, set, count);
}

static uint64_t model_run(const bool *model, uint64_t from, uint64_t end, bool wanted)
{
	while (from < end && model[from] != wanted)
		from++;
	return from;
}

static void assert_bitmap_is(const struct bitmap *b, const bool *model)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < b->bits; i++) {
		if (bitmap_test(b, i) != model[i])
			fail_msg("bit %llu is %d", (unsigned long long)i, !model[i]);
		count += model[i];
	}
	assert_int_equal(b->count, count);
}

static void bitmap_is_an_array_of_bools(void **state)
{
	static const uint64_t sizes[] = { 1, 16, 63, 64, 65, 4031, 4032, 4033, 32256, 32257, BITS_MAX };
	uint64_t first = test_seed_first(1);

	(void)state;
	for (unsigned i = 0; i < test_seed_count(22); i++) {
		struct rig *r = rig_new(first + i, sizes[i % (sizeof sizes / sizeof sizes[0])]);
		const struct bitmap *b = &r->bitmap;

		for (unsigned change = 0; change < 400; change++) {
			uint64_t at = world_random_below(r->world, r->bits), end;

			rig_change(r);
			end = at + 1 + world_random_below(r->world, r->bits - at);
			assert_int_equal(bitmap_next(b, at), model_run(r->model, at, r->bits, true));
			assert_int_equal(bitmap_next_clear(b, at), model_run(r->model, at, r->bits, false));
			assert_int_equal(bitmap_run_end(b, at, end), model_run(r->model, at, end, !r->model[at]));
			if (change % 50 == 0)
				assert_bitmap_is(b, r->model);
		}
		assert_bitmap_is(b, r->model);
		assert_int_equal(bitmap_next(b, r->bits), r->bits);
		assert_int_equal(bitmap_next_clear(b, r->bits), r->bits);
		rig_free(r);
	}
}

static void bitmap_merged_has_the_bits_of_both(void **state)
{
	struct rig *r = rig_new(test_seed_first(3), 40000), *other = rig_new(test_seed_first(4), 40000);

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		rig_change(r);
		rig_change(other);
		bitmap_merge(&r->bitmap, &other->bitmap);
		for (uint64_t bit = 0; bit < r->bits; bit++)
			r->model[bit] |= other->model[bit];
		assert_bitmap_is(&r->bitmap, r->model);
	}
	rig_free(r);
	rig_free(other);
}

static void bitmap_saved_comes_back_after_power_loss(void **state)
{
	static const uint64_t sizes[] = { 16, 4032, 40000, BITS_MAX };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct rig *r = rig_new(test_seed_first(7) + i, sizes[i]);

		rig_load(r, true);	/* zeros were never written, and are no damage */
		assert_int_equal(r->bitmap.damaged + r->bitmap.count, 0);
		for (unsigned round = 0; round < 4; round++) {
			for (unsigned change = 0; change < 30; change++)
				rig_change(r);
			assert_true(rig_save(r));
			rig_reboot(r, true);
			assert_int_equal(r->bitmap.damaged, 0);
			assert_bitmap_is(&r->bitmap, r->model);
		}
		bitmap_delete(&r->bitmap);
		assert_int_equal(machine_memory(r->machine), 0);
		rig_free(r);
	}
}

/* What each bit may be on disk: a set of {1 = clear, 2 = set}. */
struct possible { uint8_t now[BITS_MAX], if_saved[BITS_MAX]; };

static void possible_add(struct rig *r, struct possible *p)
{
	for (uint64_t i = 0; i < r->bits; i++) {
		p->now[i] |= (uint8_t)(1 << r->model[i]);
		p->if_saved[i] |= (uint8_t)(1 << r->model[i]);
	}
}

static void bitmap_after_power_loss_at_any_op_is_what_it_was_since_the_last_save_unit_by_unit(void **state)
{
	static struct possible p;
	uint64_t confirmed = 0;

	(void)state;
	for (uint64_t crash = 1; crash < 160; crash++) {
		struct rig *r = rig_new(test_seed_first(900) + crash, BITS_MAX);

		memset(&p, 1, sizeof p);
		rig_load(r, true);
		machine_crash_at(r->machine, machine_disk_ops(r->machine) + crash, true);
		while (!machine_crashed(r->machine)) {
			struct ticket t = { &r->bitmap, 0 };

			memset(p.if_saved, 0, sizeof p.if_saved);
			possible_add(r, &p);
			t.ticket = bitmap_save(&r->bitmap);
			for (unsigned i = 0; i < world_random_below(r->world, 4); i++) {	/* while it runs */
				if (!world_run_for(r->world, world_random_below(r->world, 300 * MICROSECONDS)))
					break;
				rig_change(r);
				possible_add(r, &p);
			}
			if (machine_crashed(r->machine) || !world_run_while(r->world, not_saved, &t, SECONDS))
				break;
			memcpy(p.now, p.if_saved, sizeof p.now);
			confirmed++;
			rig_change(r);
			possible_add(r, &p);
		}
		rig_boot(r);
		rig_load(r, true);
		assert_int_equal(r->bitmap.damaged, 0);
		for (uint64_t i = 0; i < r->bits; i++)
			if (!(p.now[i] >> bitmap_test(&r->bitmap, i) & 1))
				fail_msg("seed %llu: bit %llu is %d, which it was not",
					 (unsigned long long)world_seed(r->world), (unsigned long long)i,
					 bitmap_test(&r->bitmap, i));
		rig_free(r);
	}
	assert_true(confirmed > 1000);
}

static void bitmap_tickets_asked_for_during_a_pass_share_the_next_one(void **state)
{
	struct rig *r = rig_new(test_seed_first(5), BITS_MAX);
	struct ticket t = { &r->bitmap, 0 };
	uint64_t first;

	(void)state;
	rig_load(r, true);
	r->moved = 0;
	assert_int_equal(bitmap_save(&r->bitmap), r->bitmap.saved);	/* nothing to write */
	assert_true(bitmap_quiet(&r->bitmap));
	bitmap_set(&r->bitmap, 3, 1);
	first = bitmap_save(&r->bitmap);
	assert_true(first > r->bitmap.saved);
	assert_int_equal(bitmap_save(&r->bitmap), first);	/* the pass under way has all there is */
	for (unsigned i = 0; i < 5; i++) {
		bitmap_set(&r->bitmap, 50 + i, 1);
		t.ticket = bitmap_save(&r->bitmap);
		assert_true(t.ticket > first);
	}
	assert_int_equal(r->moved, 0);
	assert_true(world_run_while(r->world, not_saved, &t, SECONDS));
	assert_int_equal(r->moved, 2);
	world_run_for(r->world, SECONDS);
	assert_int_equal(r->moved, 2);
	rig_free(r);
}

static void bitmap_writes_only_what_changed(void **state)
{
	struct rig *r = rig_new(test_seed_first(5), BITS_MAX);
	uint64_t ops;

	(void)state;
	rig_load(r, true);
	bitmap_set(&r->bitmap, 0, BITS_MAX);
	ops = machine_disk_ops(r->machine);
	assert_true(rig_save(r));
	assert_int_equal(machine_disk_ops(r->machine), ops + 4);	/* neighbours go in one write; a sync */
	bitmap_set(&r->bitmap, 0, BITS_MAX);	/* they are */
	assert_int_equal(bitmap_save(&r->bitmap), r->bitmap.saved);
	bitmap_clear(&r->bitmap, 0, 1);
	bitmap_clear(&r->bitmap, BITS_MAX - 1, 1);
	ops = machine_disk_ops(r->machine);
	assert_true(rig_save(r));
	assert_int_equal(machine_disk_ops(r->machine), ops + 6);	/* two pages, apart */
	rig_free(r);
}

static void bitmap_emptied_is_as_a_new_one_on_zeros(void **state)
{
	struct rig *r = rig_new(test_seed_first(5), BITS_MAX);

	(void)state;
	rig_load(r, true);
	for (unsigned i = 0; i < 30; i++)
		rig_change(r);
	assert_true(rig_save(r));
	rig_change(r);
	assert_int_equal(probe_run(r->world, r->machine, IO_PUNCH, r->disk, OFFSET, NULL, bitmap_bytes(r->bits), 0), 0);
	bitmap_empty(&r->bitmap);
	memset(r->model, 0, sizeof r->model);
	assert_bitmap_is(&r->bitmap, r->model);
	assert_int_equal(bitmap_save(&r->bitmap), r->bitmap.saved);
	bitmap_set(&r->bitmap, 40000, 7);
	memset(r->model + 40000, 1, 7);
	assert_true(rig_save(r));
	rig_reboot(r, true);
	assert_bitmap_is(&r->bitmap, r->model);
	rig_free(r);
}

/* ---- bytes from disk ---- */

static void bitmap_unit_that_is_damaged_is_all_set_or_all_clear_and_mended_by_the_next_save(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 24; i++) {
		struct rig *r = rig_new(test_seed_first(30) + i, BITS_MAX);
		uint64_t units = (BITS_MAX + BITMAP_UNIT_BITS - 1) / BITMAP_UNIT_BITS;
		uint64_t unit = i % 4 ? world_random_below(r->world, units) : units - 1;
		uint64_t at = OFFSET + unit * BITMAP_UNIT_BYTES + world_random_below(r->world, BITMAP_UNIT_BYTES);
		uint64_t first = unit * BITMAP_UNIT_BITS, count = min_u64(BITMAP_UNIT_BITS, BITS_MAX - first);
		bool set = i % 2;
		uint8_t byte;

		rig_load(r, true);
		for (unsigned change = 0; change < 30; change++)
			rig_change(r);
		bitmap_set(&r->bitmap, 0, BITS_MAX);
		memset(r->model, 1, sizeof r->model);
		assert_true(rig_save(r));
		byte = machine_disk_data(r->machine, r->disk)[at] ^ (uint8_t)(1 << world_random_below(r->world, 8));
		machine_disk_write_now(r->machine, r->disk, at, &byte, 1);
		rig_reboot(r, set);
		assert_int_equal(r->bitmap.damaged, 1);
		memset(r->model + first, set, count);
		assert_bitmap_is(&r->bitmap, r->model);
		assert_true(rig_save(r));
		rig_reboot(r, !set);
		assert_int_equal(r->bitmap.damaged, 0);
		assert_bitmap_is(&r->bitmap, r->model);
		rig_free(r);
	}
}

static void bitmap_unit_in_another_ones_place_is_damage(void **state)
{
	struct rig *r = rig_new(test_seed_first(5), BITS_MAX);
	struct bitmap_unit unit;

	(void)state;
	rig_load(r, true);
	bitmap_set(&r->bitmap, 0, 5000);
	assert_true(rig_save(r));
	memcpy(&unit, machine_disk_data(r->machine, r->disk) + OFFSET, sizeof unit);
	machine_disk_write_now(r->machine, r->disk, OFFSET + BITMAP_UNIT_BYTES, &unit, sizeof unit);
	rig_reboot(r, false);
	assert_int_equal(r->bitmap.damaged, 1);
	assert_int_equal(r->bitmap.count, BITMAP_UNIT_BITS);
	rig_free(r);
}

static void bitmap_bits_past_the_end_are_clear_whatever_the_disk_says(void **state)
{
	struct bitmap_unit unit;
	struct rig *r = rig_new(test_seed_first(5), 4000);

	(void)state;
	memset(&unit, 0xff, sizeof unit);
	unit.index = to_le32(1);
	unit.crc = to_le32(checksum_crc(0, &unit, offsetof(struct bitmap_unit, crc)));
	machine_disk_write_now(r->machine, r->disk, OFFSET, &unit, sizeof unit);
	unit.index = to_le32(2);	/* a unit behind the last one */
	machine_disk_write_now(r->machine, r->disk, OFFSET + sizeof unit, &unit, sizeof unit);
	rig_load(r, true);
	assert_int_equal(r->bitmap.damaged, 0);
	assert_int_equal(r->bitmap.count, 4000);
	assert_int_equal(bitmap_next_clear(&r->bitmap, 0), 4000);
	bitmap_clear(&r->bitmap, 0, 4000);
	assert_int_equal(r->bitmap.count, 0);
	assert_int_equal(bitmap_next(&r->bitmap, 0), 4000);
	rig_free(r);
}

static void bitmap_that_cannot_be_read_or_saved_fails_for_good(void **state)
{
	static const struct row { enum io_kind kind; int error; } rows[] = {
		{ IO_READ, -EIO }, { IO_WRITE, -EIO }, { IO_WRITE, -ENOSPC }, { IO_SYNC, -EIO },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct rig *r = rig_new(test_seed_first(60) + i, BITS_MAX);
		struct disk_fault fault = { .kinds = 1u << rows[i].kind, .error = rows[i].error, .count = 1 };
		struct ticket t = { &r->bitmap, 1 };
		uint64_t ops;

		machine_disk_fail(r->machine, r->disk, &fault);
		bitmap_load(&r->bitmap, true);
		world_run_while(r->world, rig_loading, r, SECONDS);
		if (rows[i].kind != IO_READ) {
			assert_int_equal(r->bitmap.failed, 0);
			bitmap_set(&r->bitmap, 40000, 9);
			t.ticket = bitmap_save(&r->bitmap);
			world_run_while(r->world, not_saved, &t, SECONDS);
		}
		assert_int_equal(r->bitmap.failed, rows[i].error);
		assert_int_equal(r->moved, rows[i].kind == IO_READ ? 1 : 2);
		ops = machine_disk_ops(r->machine);
		assert_true(bitmap_save(&r->bitmap) > r->bitmap.saved);	/* with nothing dirty: nothing is known */
		world_run_for(r->world, SECONDS);
		assert_int_equal(machine_disk_ops(r->machine), ops);
		assert_true(r->bitmap.saved < t.ticket);
		rig_free(r);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(bitmap_after_power_loss_at_any_op_is_what_it_was_since_the_last_save_unit_by_unit),
	cmocka_unit_test(bitmap_tickets_asked_for_during_a_pass_share_the_next_one),
	cmocka_unit_test(bitmap_writes_only_what_changed),
	cmocka_unit_test(bitmap_emptied_is_as_a_new_one_on_zeros),
	cmocka_unit_test(bitmap_unit_that_is_damaged_is_all_set_or_all_clear_and_mended_by_the_next_save),
	cmocka_unit_test(bitmap_unit_in_another_ones_place_is_damage),
	cmocka_unit_test(bitmap_bits_past_the_end_are_clear_whatever_the_disk_says),
	cmocka_unit_test(bitmap_that_cannot_be_read_or_saved_fails_for_good),
	cmocka_unit_test(bitmap_is_an_array_of_bools),
	cmocka_unit_test(bitmap_merged_has_the_bits_of_both),
	cmocka_unit_test(bitmap_saved_comes_back_after_power_loss),
};
TEST_GROUP(bitmap, tests)
